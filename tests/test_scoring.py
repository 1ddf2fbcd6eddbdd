"""Extraction against the reference implementations; intervals against independent computations."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer
from lmms_eval.tasks.longvideobench import utils as lmms_longvideobench

from vamba_eval.contracts import Question, Score, ScoredRecord
from vamba_eval.scoring import accuracy, extract_lmms, extract_lmms_first, extract_vamba, score_choice, summarize

FORMS = [
    *("{x}", "{x}.", "({x})", "{x})", " {x} ", "{x}: because", "**{x}**", "{y} or {x}", "Not {y}. {x}", "option {x}"),
    *("The answer is {x}", "the answer is ({x}).", "The best answer is: {x}.", "Answer: {x}", "the option is {x}"),
    *("I think {x} is right, not {y}.", "First {y}. Then ({x})", "It shows a cat. A. {x}", "I choose {x}", "{x} {y}"),
    *(
        "正确答案是{x}。",
        "답은 {x}",
        "答えは{x}です",
        "Sorry, I cannot watch videos.",
        "",
        "   ",
        "...",
        "12",
        "'{x}'",
        '"{x}".',
    ),
    *(
        "<think>maybe {y}</think>{x}",
        "{x}\n{y}",
        "the answer is the answer is {x}",
        "A cat on a mat, {x}",
        "e",
        "{x}bove",
    ),
    *(
        "CABD",
        "Best option: ({x}",
        "The correct option is {y}... no, {x}",
        "none of the above",
        "i PICK {x}!",
        "{x},{y}",
    ),
]


def responses(count: int) -> list[str]:
    rng = random.Random(1)
    letters = "ABCDEFabcd"
    made = [form.format(x=rng.choice(letters), y=rng.choice(letters)) for form in FORMS for _ in range(12)]
    alphabet = "ABCDEabcde ().,:;'\"!?\n答选ßİx"
    while len(made) < count:
        if rng.random() < 0.5:
            made.append("".join(rng.choice(alphabet) for _ in range(rng.randint(0, 14))))
        else:
            made.append(" ".join(rng.choice(made[:400]) for _ in range(rng.randint(1, 3))))
    return made


def test_lmms_extraction_agrees_letter_by_letter() -> None:
    for response in responses(6000):
        for letters in ("ABCD", "ABCDE"):
            assert extract_lmms(response, letters) == extract_mcq_answer(response, choices=list(letters)), repr(
                response
            )


def test_longvideobench_extraction_agrees_and_draws_where_lmms_eval_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmms_longvideobench.random, "choice", lambda choices: "")  # marks a draw
    for response in responses(6000):
        expected = lmms_longvideobench.parse_multi_choice_response(response, list("ABCDE"), {})
        assert extract_lmms_first(response) == expected, repr(response)


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("(c) a cat", "C"),
        ("The answer is D.", "D"),
        ("The answer is B. No, the answer is (A)", "A"),
        ("Answer: c", "C"),
        ("the option is b", "B"),
        ("I think B", "I"),
        ("答案：B", "答"),
        ("42", ""),
        ("", ""),
        ("the answer is 3", ""),
    ],
)
def test_vamba_extraction(response: str, letter: str) -> None:
    assert extract_vamba(response) == letter


def question(answer: str | None = "B", options: int = 4) -> Question:
    return Question("q1", "?", tuple(f"option {n}" for n in range(options)), answer)


def test_a_response_without_a_valid_option_is_wrong_and_unparsed() -> None:
    assert score_choice(question(), "b", extract_vamba) == Score(True, "B", parsed=True)
    assert score_choice(question(), "C", extract_vamba) == Score(False, "C", parsed=True)
    assert score_choice(question(), "I think B", extract_vamba) == Score(False, "I", parsed=False)
    assert score_choice(question(options=3), "D", extract_vamba) == Score(False, "D", parsed=False)
    assert score_choice(question(), "", extract_vamba) == Score(False, None, parsed=False)
    assert score_choice(question(answer=""), "", extract_vamba).correct is False  # an impossible question
    assert score_choice(question(answer=None), "B", extract_vamba).correct is None  # a withheld answer


def test_draws_are_counted_and_repeatable() -> None:
    scores = {score_choice(question(), "no idea", extract_lmms_first, draw_if_unparsed=True) for _ in range(20)}
    assert len(scores) == 1
    (score,) = scores
    assert score.drawn and not score.parsed and score.extracted in tuple("ABCD")
    many = [Question(f"q{n}", "?", ("a", "b", "c"), "A") for n in range(3000)]
    drawn = [score_choice(q, "", extract_lmms_first, draw_if_unparsed=True).extracted for q in many]
    for letter in "ABC":
        assert drawn.count(letter) == pytest.approx(1000, abs=100)


# ------------------------------------------------------------------------------------------------ intervals


def test_interval_of_one_question_a_video_is_the_textbook_one() -> None:
    values = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    metric = accuracy(values, [f"v{i}" for i in range(8)])
    error = np.std(values, ddof=1) / math.sqrt(8)
    assert metric.value == pytest.approx(0.625)
    assert (metric.low, metric.high) == pytest.approx((0.625 - 1.959964 * error, 0.625 + 1.959964 * error), abs=1e-6)


def correlated(videos: int, each: int, seed: int) -> tuple[list[float], list[str]]:
    rng = np.random.default_rng(seed)
    ease = rng.beta(1.0, 1.0, videos)
    values = (rng.random((videos, each)) < ease[:, None]).astype(float)
    return values.ravel().tolist(), [f"v{v}" for v in range(videos) for _ in range(each)]


def test_interval_agrees_with_a_bootstrap_over_videos() -> None:
    values, videos = correlated(300, 3, seed=0)
    metric = accuracy(values, videos)
    by_video = np.array(values).reshape(300, 3).mean(axis=1)
    rng = np.random.default_rng(1)
    means = by_video[rng.integers(0, 300, (20_000, 300))].mean(axis=1)
    assert (metric.low, metric.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.004)
    naive = 1.96 * math.sqrt(metric.value * (1 - metric.value) / 900)
    assert metric.high - metric.value > 1.2 * naive, "ignoring that questions share videos is too sure"


def test_interval_of_a_mean_of_types_agrees_with_a_bootstrap_over_videos() -> None:
    rng = np.random.default_rng(2)
    values, videos = correlated(400, 2, seed=3)
    strata = [("a", "a", "b", "c")[v % 4] for v in range(400) for _ in range(2)]
    metric = accuracy(values, videos, strata)
    x, label = np.array(values).reshape(400, 2), np.array(strata).reshape(400, 2)[:, 0]
    assert metric.value == pytest.approx(np.mean([x[label == kind].mean() for kind in "abc"]))
    means = []
    for _ in range(4000):
        drawn = [rng.choice(np.flatnonzero(label == kind), (label == kind).sum()) for kind in "abc"]
        means.append(np.mean([x[chosen].mean() for chosen in drawn]))
    assert (metric.low, metric.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.006)


def test_one_video_gives_no_interval() -> None:
    metric = accuracy([1.0, 0.0], ["v", "v"])
    assert metric.value == 0.5 and metric.low is None and metric.high is None


def test_summaries_count_each_group() -> None:
    def record(n: int, correct: bool | None, **groups: str | tuple[str, ...]) -> ScoredRecord:
        return ScoredRecord(f"q{n}", f"v{n // 2}", groups, Score(correct, "A", True))

    records = [
        record(0, True, kind="x", tags=("p", "q")),
        record(1, False, kind="x", tags=("p",)),
        record(2, True, kind="y", tags=("q",)),
        record(3, None, kind="y", tags=("q",)),
    ]
    summary = summarize(records, mean_over="kind", mean_name="M-Avg")
    assert {name: metric.value for name, metric in summary.metrics.items()} == {
        "M-Avg": 0.75,
        "accuracy": pytest.approx(2 / 3),
    }
    assert summary.headline[0] == "M-Avg"
    assert {tag: metric.value for tag, metric in summary.breakdowns["tags"].items()} == {"p": 0.5, "q": 1.0}
    assert summary.breakdowns["tags"]["q"].num_questions == 2
    assert not summarize([record(0, None)]).metrics

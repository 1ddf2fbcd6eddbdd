"""Extraction against the reference implementations; intervals against independent computations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from vamba_eval.contracts import Metric, Question, Score, ScoredRecord, mean
from vamba_eval.score.letters import extract_lmms_first, extract_vamba, score_choice
from vamba_eval.score.statistics import metric_of, summarize


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("(c) a cat", "C"),
        ("The answer is D.", "D"),
        ("The answer is B. No, the answer is (A)", "A"),
        ("Answer: c", "C"),
        ("the option is b", "B"),
        ("The option is: B", "T"),
        ("the option is A, no, the option is\nb", "A"),
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
    assert score_choice(question(), "b", extract_vamba) == Score({"correct": 1.0}, "B", parsed=True)
    assert score_choice(question(), "C", extract_vamba) == Score({"correct": 0.0}, "C", parsed=True)
    assert score_choice(question(), "I think B", extract_vamba) == Score({"correct": 0.0}, "I", parsed=False)
    assert score_choice(question(options=3), "D", extract_vamba) == Score({"correct": 0.0}, "D", parsed=False)
    assert score_choice(question(), "", extract_vamba) == Score({"correct": 0.0}, None, parsed=False)
    assert score_choice(question(answer=""), "", extract_vamba).correct == 0  # an impossible question
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


def accuracy(values: Sequence[float], videos: Sequence[str], strata: Sequence[str] = ()) -> Metric:
    """The mean of values, or of the strata's means, with its interval."""
    kinds = strata or [""] * len(values)
    records = [
        ScoredRecord(f"q{n}", video, {"kind": kind}, Score({"correct": value}))
        for n, (value, video, kind) in enumerate(zip(values, videos, kinds, strict=True))
    ]
    metric = metric_of(mean("correct", over="kind" if strata else None), records)
    assert metric is not None
    return metric


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
        return ScoredRecord(
            f"q{n}", f"v{n // 2}", groups, Score({} if correct is None else {"correct": float(correct)}, "A")
        )

    records = [
        record(0, True, kind="x", tags=("p", "q")),
        record(1, False, kind="x", tags=("p",)),
        record(2, True, kind="y", tags=("q",)),
        record(3, None, kind="y", tags=("q",)),
    ]
    summary = summarize({"M-Avg": mean("correct", over="kind"), "accuracy": mean("correct")}, records)
    assert {name: metric.value for name, metric in summary.metrics.items()} == {
        "M-Avg": 0.75,
        "accuracy": pytest.approx(2 / 3),
    }
    assert summary.headline[0] == "M-Avg"
    assert {tag: metric.value for tag, metric in summary.breakdowns["tags"].items()} == {"p": 0.5, "q": 1.0}
    assert summary.breakdowns["tags"]["q"].num_questions == 2
    assert not summarize({"accuracy": mean("correct")}, [record(0, None)]).metrics

"""Extraction against the reference implementations; intervals against independent computations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import beta
from statsmodels.stats.multitest import multipletests

from vamba_eval.contracts import Metric, Question, Score, ScoredRecord, mean
from vamba_eval.score.letters import extract_lmms_first, extract_vamba, score_choice
from vamba_eval.score.statistics import holm, metric_of, p_value, smallest_shown, summarize
from vamba_eval.tables.compare import differences_of


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


def test_interval_of_one_question_a_video_is_the_exact_binomial_one() -> None:
    """Clopper and Pearson's, for 8 answers of which the spread is estimated: worth 7, by t of 7 degrees of freedom."""
    values = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    metric = accuracy(values, [f"v{i}" for i in range(8)])
    n = 7 * (1.959964 / 2.364624) ** 2
    low, high = beta.ppf(0.025, 0.625 * n, 0.375 * n + 1), beta.ppf(0.975, 0.625 * n + 1, 0.375 * n)
    assert metric.value == pytest.approx(0.625)
    assert (metric.low, metric.high) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_all_wrong_or_all_right_is_no_certainty(right: float) -> None:
    metric = accuracy([right] * 42, [f"v{i // 3}" for i in range(42)])
    low, high = metric.low, metric.high
    assert low is not None and high is not None and 0 <= low <= high <= 1 and metric.value == right
    # 14 videos, each one answer at worst: by the rule of three the other end is about 3 / 14 away.
    assert high - low == pytest.approx(1 - 0.025 ** (1 / (14 * (1.959964 / 2.160369) ** 2)), abs=1e-6)
    assert 0.2 < high - low < 0.3


@pytest.mark.parametrize("videos", [5, 8, 30])
@pytest.mark.parametrize("p", [0.5, 0.9])
@pytest.mark.parametrize("alike", [0.0, 0.3, 0.7])
def test_intervals_cover_as_often_as_they_say(videos: int, p: float, alike: float) -> None:
    """Questions about one video are alike (intra-video correlation), and their number differs from video to video."""
    rng, covered, rounds = np.random.default_rng(7), 0, 400
    for _ in range(rounds):
        ease = rng.beta(p * (1 - alike) / alike, (1 - p) * (1 - alike) / alike, videos) if alike else [p] * videos
        counts = rng.integers(1, 6, videos)
        values = [float(rng.random() < ease[v]) for v in range(videos) for _ in range(counts[v])]
        metric = accuracy(values, [f"v{v}" for v in range(videos) for _ in range(counts[v])])
        assert metric.low is not None and metric.high is not None
        covered += metric.low <= p <= metric.high
    assert covered / rounds > 0.93 - 0.03, "the second number is what so few rounds may miss"


@pytest.mark.parametrize("videos", [5, 30])
@pytest.mark.parametrize("p", [0.5, 0.9])
def test_equal_models_seldom_seem_to_differ(videos: int, p: float) -> None:
    rng, found, rounds = np.random.default_rng(9), 0, 400
    for _ in range(rounds):
        sides: list[list[ScoredRecord]] = [[], []]
        for v in range(videos):
            ease = rng.beta(2 * p, 2 * (1 - p))
            for q in range(int(rng.integers(1, 6))):
                for side in sides:
                    right = {"correct": float(rng.random() < ease)}
                    side.append(ScoredRecord(f"{v}-{q}", f"v{v}", {}, Score(right)))
        (difference,) = differences_of({"accuracy": mean("correct")}, *sides)
        found += difference.p is not None and difference.p < 0.05
    assert found / rounds < 0.06 + 0.02, "as above"


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


def test_many_p_values_are_adjusted_as_statsmodels_does() -> None:
    rng = np.random.default_rng(2)
    for count in (1, 2, 7, 40):
        values = (rng.random(count) ** 3).tolist()
        assert holm(values) == pytest.approx(multipletests(values, method="holm")[1].tolist())
    assert holm([0.01, None, 0.04]) == pytest.approx([0.02, None, 0.04])


def test_the_smallest_difference_is_found_four_times_of_five() -> None:
    """Of samples with a true difference of that size, by the same test."""
    rng, videos, found, rounds = np.random.default_rng(3), 30, 0, 600
    least = smallest_shown(0.1 / math.sqrt(videos), videos)
    for _ in range(rounds):
        differences = rng.normal(least, 0.1, videos)
        error = float(np.std(differences, ddof=1) / math.sqrt(videos))
        p = p_value(float(differences.mean()), error, videos)
        found += p is not None and p < 0.05
    assert found / rounds == pytest.approx(0.8, abs=0.05)


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

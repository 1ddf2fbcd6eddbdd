"""How sure the order of models is: of each result on a benchmark, and of averages over several, its rank, and the ranks
that it may as well have.

Models err on the same questions, so their scores move together when other videos are drawn, and ranks are surer than
the scores' own intervals suggest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vamba_eval.score.scored import ScoredRun
from vamba_eval.score.statistics import Estimate, estimate, share_interval, standard_error, with_common_videos

if TYPE_CHECKING:
    import numpy as np

_DRAWS = 4000


@dataclass(frozen=True)
class Rank:
    """1 is the best of ``among``; ``low`` to ``high`` is its 95 % interval. Equal scores share the better rank."""

    rank: int
    low: int
    high: int
    among: int


@dataclass(frozen=True)
class Average:
    """The mean of headlines over benchmarks, each as a share of the way from its worst to its best, with its 95 %
    interval (None where a benchmark has a single video)."""

    value: float
    low: float | None
    high: float | None


def averages_of(table: Sequence[Sequence[ScoredRun]]) -> list[tuple[Average | None, Rank | None]]:
    """Of each row of ``table`` (a model's runs, the same benchmarks in the same order) its average and the rank of it.

    No average where a measure has no bounds; no rank for a row that is alone, and where the questions of a benchmark
    that all rows answered are about fewer than two videos. Benchmarks are taken for independent; models are paired on
    each, as in ``ranks_of``.
    """
    import numpy as np

    measures = [next(iter(run.task.measures.values())) for run in table[0]]
    widths = [abs(measure.best - measure.worst) for measure in measures]
    if not all(np.isfinite(widths)):
        return [(None, None)] * len(table)
    averages = [_average(row, widths) for row in table]
    shared = [_on_shared_questions(list(column)) for column in zip(*table, strict=True)]
    if len(table) < 2 or any(found is None for found in shared):
        return [(average, None) for average in averages]
    values, covariance = np.zeros(len(table)), np.zeros((len(table), len(table)))
    for found, width in zip(shared, widths, strict=True):
        own, common = _moments(found or ())
        values += own / width / len(widths)
        covariance += common / (width * len(widths)) ** 2
    return list(zip(averages, _ranked(values, covariance), strict=True))


def _average(runs: Sequence[ScoredRun], widths: Sequence[float]) -> Average | None:
    values, variances, videos = [], [], []
    for run, width in zip(runs, widths, strict=True):
        measure = next(iter(run.task.measures.values()))
        found = estimate(measure, [each for each in run.scored if each.values])
        if found is None:
            return None
        error = standard_error(found.without.values())
        values.append(abs(found.value - measure.worst) / width)
        variances.append(None if error is None else (error / width) ** 2)
        videos.append(len(found.without))
    mean = sum(values) / len(values)
    known = [variance for variance in variances if variance is not None]
    if len(known) < len(variances):
        return Average(mean, None, None)
    return Average(mean, *share_interval(mean, sum(known) ** 0.5 / len(known), min(videos)))


def ranks_of(runs: Sequence[ScoredRun], kinds: Sequence[object] = ()) -> list[Rank | None]:
    """The rank of each run's headline among the runs of the same benchmark and protocol (and of the same of ``kinds``,
    where each run has one; None: it has no rank), on the questions that all of them answered; None for one that is
    alone, or where these are about fewer than two videos."""
    alike: dict[tuple[str, str, object], list[int]] = defaultdict(list)
    for place, (run, kind) in enumerate(zip(runs, kinds or ["alike"] * len(runs), strict=True)):
        if kind is not None:
            alike[run.title, run.protocol, kind].append(place)
    ranks: list[Rank | None] = [None] * len(runs)
    for places in alike.values():
        found = _on_shared_questions([runs[place] for place in places]) if len(places) > 1 else None
        for place, rank in zip(places, _ranked(*_moments(found)) if found else (), strict=False):
            ranks[place] = rank
    return ranks


def _on_shared_questions(runs: Sequence[ScoredRun]) -> list[Estimate] | None:
    """The headline of each run, so that larger is better."""
    measure = next(iter(runs[0].task.measures.values()))
    shared = set.intersection(*({each.question_id for each in run.scored if each.values} for run in runs))
    found = []
    answered = [[each for each in run.scored if each.question_id in shared] for run in runs]
    for records in with_common_videos(answered):
        one = estimate(measure, records)
        if one is None or len(one.without) < 2:
            return None
        found.append(one)
    if measure.best < measure.worst:
        found = [Estimate(-e.value, {part: -x for part, x in e.without.items()}, 0, 0) for e in found]
    return found


def _moments(found: Sequence[Estimate]) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and the covariance that the jackknife over videos gives them."""
    import numpy as np

    parts = sorted(set.intersection(*(set(one.without) for one in found)))
    values = np.array([one.value for one in found])
    without = np.array([[one.without[part] for one in found] for part in parts])
    deviations = without - without.mean(axis=0)
    return values, (len(parts) - 1) / len(parts) * deviations.T @ deviations


def _ranked(values: np.ndarray, covariance: np.ndarray) -> list[Rank]:
    """Ranks among scores drawn around those seen."""
    import numpy as np

    # Equal models stay equal in every draw only if nothing of the covariance is lost to rounding.
    drawn = np.random.default_rng(0).multivariate_normal(values, covariance, _DRAWS, method="eigh").round(6)
    low, high = np.quantile(_ranks(drawn), [0.025, 0.975], axis=0, method="nearest")
    own = _ranks(values.round(6)[None])[0]
    return [Rank(int(r), int(min(r, a)), int(max(r, b)), len(own)) for r, a, b in zip(own, low, high, strict=True)]


def _ranks(scores: np.ndarray) -> np.ndarray:
    """(draws, models) to the same: 1 and how many are better."""
    return 1 + (scores[:, None, :] > scores[:, :, None]).sum(axis=2)

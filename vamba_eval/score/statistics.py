"""Values of many responses to a score with its uncertainty. Plain functions on plain values; no torch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import stdev

from vamba_eval.contracts import Metric, ScoredRecord, Summary

Z_95 = 1.959963984540054  # two-sided 95 % quantile of the standard normal distribution


def accuracy(
    values: Sequence[float], videos: Sequence[str], strata: Sequence[str] | None = None, *, best: float = 1.0
) -> Metric:
    """Mean of ``values`` in [0, ``best``] with a 95 % interval clustered by video.

    With ``strata`` the mean of the strata's means (such as MLVU's M-Avg). The interval is the normal one, cut
    to [0, ``best``].
    """
    mean, error, clusters = clustered_mean(values, videos, strata)
    if error is None:
        return Metric(mean, None, None, len(values), clusters, best)
    low, high = max(0.0, mean - Z_95 * error), min(best, mean + Z_95 * error)
    return Metric(mean, low, high, len(values), clusters, best)


def clustered_mean(
    values: Sequence[float], videos: Sequence[str], strata: Sequence[str] | None = None
) -> tuple[float, float | None, int]:
    """Mean of ``values`` (of the ``strata``'s means, if given), its standard error, and the number of videos.

    Questions about one video are not independent, so the standard error sums each video's deviations before
    squaring them: ``sqrt(G / (G - 1) * sum_g (sum_{i in g} w_i (x_i - mean of i's stratum))^2)`` over G videos,
    where w_i = 1 / (strata * size of i's stratum). None for one video. (Clustered standard errors for
    evaluations: Miller 2024, arXiv 2411.00640.)
    """
    if not values:
        raise ValueError("no values to average")
    labels = strata if strata is not None else [""] * len(values)
    members: dict[str, list[float]] = defaultdict(list)
    for value, label in zip(values, labels, strict=True):
        members[label].append(value)
    means = {label: math.fsum(group) / len(group) for label, group in members.items()}
    mean = math.fsum(means.values()) / len(means)
    deviations: dict[str, float] = defaultdict(float)
    for value, video, label in zip(values, videos, labels, strict=True):
        deviations[video] += (value - means[label]) / (len(means) * len(members[label]))
    clusters = len(deviations)
    if clusters < 2:
        return mean, None, clusters
    return mean, math.sqrt(clusters / (clusters - 1) * math.fsum(d * d for d in deviations.values())), clusters


def summarize(records: Iterable[ScoredRecord], *, mean_over: str | None = None, mean_name: str = "") -> Summary:
    """Accuracy over all records and by each of their groups.

    With ``mean_over`` the headline, called ``mean_name``, is the mean of that group's accuracies and plain
    accuracy comes second. Records without a known answer are left out. Where questions were asked with several
    seeds, the mean over these, and their spread.
    """
    known = [record for record in records if record.score.correct is not None]
    if not known:
        return Summary({}, {})
    metrics = {}
    if mean_over is not None:
        metrics[mean_name] = _accuracy_over_seeds(known, mean_over)
    metrics["accuracy"] = _accuracy_over_seeds(known)
    return Summary(metrics, by_group(known, _accuracy_over_seeds))


def by_group(
    records: Sequence[ScoredRecord], measure: Callable[[list[ScoredRecord]], Metric]
) -> dict[str, dict[str, Metric]]:
    """``measure`` of each group's members, by group and value; a record counts in each value that it has."""
    members: dict[str, dict[str, list[ScoredRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        for group, value in record.groups.items():
            for member in (value,) if isinstance(value, str) else value:
                members[group][member].append(record)
    return {
        group: {member: measure(chosen) for member, chosen in by_member.items()} for group, by_member in members.items()
    }


def over_seeds(records: Sequence[ScoredRecord], measure: Callable[[Sequence[ScoredRecord]], Metric]) -> Metric:
    """``measure`` of all records; where questions were asked with several seeds, with its spread over these."""
    metric = measure(records)
    by_seed: dict[int, list[ScoredRecord]] = defaultdict(list)
    for record in records:
        by_seed[record.seed].append(record)
    if len(by_seed) == 1:
        return metric
    spread = stdev(measure(some).value for some in by_seed.values())
    questions = len({record.question_id for record in records})
    return replace(metric, num_questions=questions, spread=spread)


def _accuracy_over_seeds(records: Sequence[ScoredRecord], mean_over: str | None = None) -> Metric:
    def measure(some: Sequence[ScoredRecord]) -> Metric:
        values = [float(record.score.correct or 0.0) for record in some]
        strata = None if mean_over is None else [str(record.groups[mean_over]) for record in some]
        return accuracy(values, [record.video_id for record in some], strata)

    return over_seeds(records, measure)

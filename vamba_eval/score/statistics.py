"""Many scored responses to a number with its uncertainty, for any measure a benchmark reports.

Questions about one video are not independent, so what varies is the set of videos: a standard error is that of the
jackknife over videos (Tukey 1958; Efron & Stein 1981), which asks nothing of a measure but that it can be computed
again without some of them. Plain functions on plain values; no torch, no benchmark.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import correlation, fmean, stdev

from vamba_eval.contracts import Mean, Measure, Metric, Score, ScoredRecord, Summary

# A measure that is no mean is computed anew without each part of the videos: more parts tell the error more exactly
# (100 to a fourteenth of itself) and take as many times longer.
_PARTS = 100
_NOTHING = 1e-12  # what sums of equal numbers leave is no spread


@dataclass(frozen=True)
class Estimate:
    """A measure's number, and what it would be ``without`` each video (or each part of the videos, by its number).

    ``all_or_nothing``: it is a mean of values each of which is the best or the worst possible.
    """

    value: float
    without: Mapping[str, float]
    num_questions: int
    num_videos: int
    all_or_nothing: bool = False


def summarize(measures: Mapping[str, Measure], records: Iterable[ScoredRecord]) -> Summary:
    """All measures of the records that have values, and each group's by those that are broken down."""
    known = [record for record in records if record.values]
    found = {name: metric_of(measure, known) for name, measure in measures.items()}
    metrics = {name: metric for name, metric in found.items() if metric is not None}
    breakdowns: dict[str, dict[str, Metric]] = {}
    for label, measure in broken_down(measures).items():
        for group, members in members_of(known).items():
            own = {value: metric_of(measure, some) for value, some in members.items()}
            if kept := {value: metric for value, metric in own.items() if metric is not None}:
                breakdowns[group + label] = kept
    return Summary(metrics, breakdowns)


def broken_down(measures: Mapping[str, Measure]) -> dict[str, Measure]:
    """The measures that groups are broken down by, and what stands behind a group's name for each."""
    chosen = {}
    for place, (name, measure) in enumerate(measures.items()):
        if place == 0 or measure.in_breakdowns:
            chosen[f" ({name})" if place else ""] = measure.within_group()
    return chosen


def members_of(records: Sequence[ScoredRecord]) -> dict[str, dict[str, list[ScoredRecord]]]:
    """Records by group and value; one counts in each value that it has."""
    members: dict[str, dict[str, list[ScoredRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        for group in record.groups:
            for value in record.members(group):
                members[group][value].append(record)
    return {group: dict(values) for group, values in members.items()}


def metric_of(measure: Measure, records: Sequence[ScoredRecord]) -> Metric | None:
    """A measure's number over all seeds, with its 95 % interval; None where it is not defined for these records."""
    found = estimate(measure, records)
    if found is None:
        return None
    low, high = interval(found, measure)
    seeds = _by_seed(records).values()
    by_seed = [value for some in seeds if (value := _of_one_seed(measure, some)) is not None]
    spread = stdev(by_seed) if len(by_seed) > 1 else None
    counts = (found.num_questions, found.num_videos)
    return Metric(found.value, low, high, *counts, best=measure.best, spread=spread, unit=measure.unit)


def interval(found: Estimate, measure: Measure) -> tuple[float | None, float | None]:
    """The 95 % interval of a number between the measure's worst and best; None where one video alone gives none.

    That of Korn and Graubard (Survey Methodology 24, 1998) for shares in clustered samples: the exact binomial one of
    Clopper and Pearson, for as many independent answers as tell as much as these do, fewer where videos are few (by
    Student's t). At 0 and 100 % the spread seen is nothing but says little: each video then counts as one answer.
    """
    error, videos = standard_error(found.without.values()), len(found.without)
    if error is None:
        return None, None
    low, high = sorted((measure.best, measure.worst))
    if not math.isfinite(high - low):
        return difference_interval(found.value, error, videos)
    most = float(found.num_questions) if found.all_or_nothing else math.inf
    least, greatest = share_interval((found.value - low) / (high - low), error / (high - low), videos, most)
    return low + least * (high - low), low + greatest * (high - low)


def share_interval(share: float, error: float, videos: int, most: float = math.inf) -> tuple[float, float]:
    """That interval of a number between 0 and 1 with a standard ``error``; ``most`` answers can tell so much."""
    from scipy.special import betaincinv, ndtri, stdtrit

    share = min(1.0, max(0.0, share))
    worth = float(videos) if error < _NOTHING else min(most, share * (1 - share) / error**2)
    worth = min(most, worth * (float(ndtri(0.975)) / float(stdtrit(videos - 1, 0.975))) ** 2)
    right, wrong = share * worth, (1 - share) * worth
    least = float(betaincinv(right, wrong + 1, 0.025)) if right > 0 else 0.0
    greatest = float(betaincinv(right + 1, wrong, 0.975)) if wrong > 0 else 1.0
    return least, greatest


def difference_interval(difference: float, error: float, videos: int) -> tuple[float, float]:
    """By Student's t with one degree of freedom less than there are videos."""
    from scipy.special import stdtrit

    half = float(stdtrit(videos - 1, 0.975)) * error
    return difference - half, difference + half


def p_value(difference: float, error: float, videos: int) -> float | None:
    """Two-sided, by the same t; None where all videos differ by as much, so that nothing tells how sure that is."""
    from scipy.special import stdtr

    return None if error < _NOTHING else 2 * float(stdtr(videos - 1, -abs(difference) / error))


def standard_error(without: Collection[float]) -> float | None:
    """By the jackknife, from what a number is without each of the parts; None for one part.

    ``sqrt((G - 1) / G * sum_g (x_g - mean of x)^2)`` over G parts. Of a mean with as many questions about each video
    this is the clustered standard error (Miller 2024, arXiv 2411.00640).
    """
    parts = len(without)
    if parts < 2:
        return None
    middle = fmean(without)
    return math.sqrt((parts - 1) / parts * math.fsum((value - middle) ** 2 for value in without))


def smallest_shown(error: float, videos: int, power: float = 0.8) -> float:
    """The smallest true difference that would be seen with p < 0.05 in ``power`` of all samples of so many videos.

    Of t with one degree of freedom less: the usual approximation (Miller 2024, arXiv 2411.00640, section 5), with the
    error that was measured, so that discordance and the likeness of a video's questions are in it.
    """
    from scipy.special import stdtrit

    return (float(stdtrit(videos - 1, 0.975)) + float(stdtrit(videos - 1, power))) * error


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p values adjusted for being many (Holm 1979): the smallest times their number, the next times one less, ...

    None stays None and does not count.
    """
    known = sorted((value, place) for place, value in enumerate(values) if value is not None)
    adjusted: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (value, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * value))
        adjusted[place] = highest
    return adjusted


def item_rest(right: Sequence[Sequence[bool]]) -> list[float | None]:
    """How well each question tells good models from bad ones: its discrimination.

    ``right`` is (questions, models). The correlation, over models, of a question being answered with the number of all
    other questions that are: the point-biserial one of classical test theory (Lord & Novick 1968), corrected for the
    question's own part in the total (Henrysson, Psychometrika 28, 1963). None where all models or none answer the
    question, and where all answer as many of the others.
    """
    totals = [sum(column) for column in zip(*right, strict=True)]
    found: list[float | None] = []
    for row in right:
        rest = [total - own for total, own in zip(totals, row, strict=True)]
        varies = len(set(row)) > 1 and len(set(rest)) > 1
        found.append(correlation([int(own) for own in row], rest) if varies else None)
    return found


def count_chances(chances: Sequence[float]) -> list[float]:
    """How likely it is that 0, 1, ..., all of independent events happen, each with its own chance."""
    counts = [1.0]
    for chance in chances:
        missed, happened = [(1 - chance) * each for each in counts] + [0.0], [0.0] + [chance * each for each in counts]
        counts = [a + b for a, b in zip(missed, happened, strict=True)]
    return counts


def majority_chance(chance: float, responses: int) -> float:
    """How likely it is that more than half of as many independent responses are right, each with ``chance``."""
    return math.fsum(count_chances([chance] * responses)[responses // 2 + 1 :])


def estimate(measure: Measure, records: Sequence[ScoredRecord]) -> Estimate | None:
    """A measure's number, the mean over seeds, and what it is without some of the videos; None where not defined."""
    counted = [record for record in records if measure.counts(record)]
    if isinstance(measure, Mean):
        counted = averaged(counted)
    value = over_seeds(measure, counted)
    if value is None:
        return None
    without = _mean_without(measure, counted) if isinstance(measure, Mean) else without_parts(measure, counted)
    questions, videos = {record.question_id for record in counted}, {record.video_id for record in counted}
    extremes = isinstance(measure, Mean) and all(
        record.values[measure.value] in (measure.best, measure.worst) for record in counted
    )
    return Estimate(value, without, len(questions), len(videos), extremes)


def with_common_videos(runs: Sequence[Sequence[ScoredRecord]]) -> list[list[ScoredRecord]]:
    """The responses of several runs to the same questions, with the same ``video_id`` for a question in all of them.

    They differ where only some of the runs know that two files hold one film (see ``Video.cluster``): what is one video
    in any of them then is one in all.
    """
    leads_to: dict[str, str] = {}

    def lead(video: str) -> str:
        while (other := leads_to.get(video, video)) != video:
            video = other
        return video

    seen: dict[str, str] = {}
    for record in (record for records in runs for record in records):
        first = lead(seen.setdefault(record.question_id, record.video_id))
        if (other := lead(record.video_id)) != first:
            leads_to[other] = first
    if not leads_to:
        return [list(records) for records in runs]
    return [[replace(record, video_id=lead(record.video_id)) for record in records] for records in runs]


def over_seeds(measure: Measure, records: Sequence[ScoredRecord]) -> float | None:
    """The mean of a measure over the seeds with which questions were asked."""
    values = [value for some in _by_seed(records).values() if (value := _of_one_seed(measure, some)) is not None]
    return fmean(values) if values else None


def averaged(records: Sequence[ScoredRecord]) -> list[ScoredRecord]:
    """One record a question and seed, with the means of its values where it was asked in several orders or wordings."""
    members: dict[tuple[str, int], list[ScoredRecord]] = defaultdict(list)
    for record in records:
        members[record.question_id, record.seed].append(record)
    return [own[0] if len(own) == 1 else _average(own) for own in members.values()]


def _average(own: Sequence[ScoredRecord]) -> ScoredRecord:
    names = dict.fromkeys(name for record in own for name in record.values)
    values = {name: fmean(r.values[name] for r in own if name in r.values) for name in names}
    return replace(own[0], score=Score(values))


def _of_one_seed(measure: Measure, records: Sequence[ScoredRecord]) -> float | None:
    """A measure is of questions that were asked once. Where some were asked in several orders or wordings, a mean is
    that of their means, and any other measure is the mean over as many sets, with one response to each question, as
    there are responses to the question asked most often (those to others come again)."""
    members: dict[str, list[ScoredRecord]] = defaultdict(list)
    for record in records:
        members[record.question_id].append(record)
    most = max(map(len, members.values()), default=1)
    if most == 1:
        return measure.function(records)
    if isinstance(measure, Mean):
        return measure.function(averaged(records))
    sets = [[own[number % len(own)] for own in members.values()] for number in range(most)]
    values = [value for some in sets if (value := measure.function(some)) is not None]
    return fmean(values) if values else None


def without_parts(measure: Measure, records: Sequence[ScoredRecord]) -> dict[str, float]:
    """A measure's number without each part of the videos, whatever the measure is."""
    part_of = parts({record.video_id for record in records})
    found = {}
    for part in dict.fromkeys(part_of.values()):
        rest = [record for record in records if part_of[record.video_id] != part]
        if (value := over_seeds(measure, rest)) is not None:
            found[part] = value
    return found


def parts(videos: Collection[str]) -> dict[str, str]:
    """The part of each video: its own, or, of many videos, one of 100 of equal size.

    Dealt out in the order of a hash: annotations have an order, with which any rule by position may keep step.
    """
    if len(videos) <= _PARTS:
        return {video: video for video in videos}
    order = sorted(videos, key=lambda video: hashlib.blake2b(video.encode("utf-8", "surrogatepass")).digest())
    return {video: str(place % _PARTS) for place, video in enumerate(order)}


def _mean_without(measure: Mean, records: Sequence[ScoredRecord]) -> dict[str, float]:
    """What ``without_parts`` gives for single videos, from sums: one pass over the records."""
    total: dict[int, dict[str, tuple[float, int]]] = defaultdict(dict)  # by seed and stratum: the sum and the count
    own: dict[str, dict[tuple[int, str], tuple[float, int]]] = defaultdict(dict)
    for record in records:
        value = record.values[measure.value]
        for stratum in measure.strata(record):
            cell = (record.seed, stratum)
            total[record.seed][stratum] = _added(total[record.seed].get(stratum), value)
            own[record.video_id][cell] = _added(own[record.video_id].get(cell), value)
    means = {seed: {s: value / count for s, (value, count) in strata.items()} for seed, strata in total.items()}
    of_seed = {seed: (math.fsum(strata.values()), len(strata)) for seed, strata in means.items()}
    found = {}
    for video, cells in own.items():
        changed = {seed: list(of_seed[seed]) for seed, _ in cells}
        for (seed, stratum), (value, count) in cells.items():
            whole, members = total[seed][stratum]
            changed[seed][0] -= means[seed][stratum]
            if members > count:
                changed[seed][0] += (whole - value) / (members - count)
            else:
                changed[seed][1] -= 1
        values = [value / strata for value, strata in ({**of_seed, **changed}).values() if strata]
        if values:
            found[video] = fmean(values)
    return found


def _added(cell: tuple[float, int] | None, value: float) -> tuple[float, int]:
    total, count = cell or (0.0, 0)
    return total + value, count + 1


def _by_seed(records: Iterable[ScoredRecord]) -> dict[int, list[ScoredRecord]]:
    by_seed: dict[int, list[ScoredRecord]] = defaultdict(list)
    for record in records:
        by_seed[record.seed].append(record)
    return by_seed

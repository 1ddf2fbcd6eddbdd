"""What answers owe to the way of asking: whether the same option is chosen in every order and wording, and which
letters are chosen for their own sake.

Made of responses to questions that were asked several times (``Trial``). Shares are of questions, so that one with
five options does not count more than one with four; intervals are clustered by video as all others.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from vamba_eval.contracts import LETTERS, Measure, Metric, Score, ScoredRecord, mean
from vamba_eval.score.statistics import difference_interval, estimate, holm, metric_of, p_value, standard_error

_FEWEST = 10  # questions: in fewer, all may show the same preference by chance


@dataclass(frozen=True)
class Changed:
    """What another order, or another wording, does to answers.

    ways        in how many a question was asked at most
    agreement   the share of pairs of responses to one question that choose the same option; what holds none agrees with
                nothing
    every       the share of questions that are right in every one; of orders, this is CircularEval of MMBench (Liu et
                al., ECCV 2024, arXiv 2307.06281, section 4.3)
    """

    ways: int
    agreement: Metric
    every: Metric


@dataclass(frozen=True)
class Preference:
    """How much more often a letter is chosen than if each option were chosen as often in any place, in [-1, 1].

    ``low`` and ``high`` bound its 95 % interval by Student's t over videos. ``sure``: it is more often, with p < 0.05
    after Holm for all letters.
    """

    excess: float
    low: float
    high: float
    sure: bool


@dataclass(frozen=True)
class Robustness:
    """``orders`` and ``wordings`` are None where questions were asked in one; ``by_wording`` is the headline of each.
    ``letters`` are all of them, empty where there is too little to tell."""

    orders: Changed | None = None
    wordings: Changed | None = None
    letters: Mapping[str, Preference] = field(default_factory=dict)
    by_wording: Mapping[int, Metric] = field(default_factory=dict)

    @property
    def preferred(self) -> str | None:
        """The letter that is chosen most above what the options explain."""
        return max(self.letters, key=lambda letter: self.letters[letter].excess, default=None)


def robustness_of(scored: Sequence[ScoredRecord], measure: Measure) -> Robustness | None:
    """Of the responses to one benchmark, whose headline is ``measure``; None where each question was asked once."""
    by_question: dict[str, list[ScoredRecord]] = defaultdict(list)
    for each in scored:
        by_question[each.question_id].append(each)
    orders = _changed(by_question.values(), lambda each: each.rotation, lambda each: (each.seed, each.variant), measure)
    wordings = _changed(
        by_question.values(), lambda each: each.variant, lambda each: (each.seed, each.rotation), measure
    )
    if orders is None and wordings is None:
        return None
    found = {
        number: metric_of(measure, [each for each in scored if each.variant == number])
        for number in (sorted({each.variant for each in scored}) if wordings else ())
    }
    by_wording = {number: metric for number, metric in found.items() if metric is not None}
    return Robustness(orders, wordings, _letters(by_question.values()) if orders else {}, by_wording)


def option_of(each: ScoredRecord) -> int | None:
    """The option that a response chooses, by its place in the published order; None where it chooses none."""
    count = len(each.question.options)
    letter = each.trial.published(each.score.extracted, count)
    return LETTERS.index(letter) if letter and letter in tuple(LETTERS[:count]) else None


def _changed(
    questions: Iterable[Sequence[ScoredRecord]],
    way: Callable[[ScoredRecord], int],
    otherwise: Callable[[ScoredRecord], tuple[int, int]],
    measure: Measure,
) -> Changed | None:
    """Of those that were asked in several ways; ``otherwise`` is what has to be alike to compare two of them."""
    records, most = [], 0
    for own in questions:
        alike: dict[tuple[int, int], list[ScoredRecord]] = defaultdict(list)
        for each in own:
            alike[otherwise(each)].append(each)
        several = [some for some in alike.values() if len({way(each) for each in some}) > 1]
        if not several:
            continue
        most = max(most, *(len(some) for some in several))
        pairs = [
            option_of(one) is not None and option_of(one) == option_of(other)
            for some in several
            for one, other in itertools.combinations(some, 2)
        ]
        values = {"agreement": fmean(pairs)}
        if all(each.values for some in several for each in some):
            values["every"] = fmean(all(_right(each, measure) for each in some) for some in several)
        records.append(_as_record(own[0], values))
    agreement, every = (metric_of(mean(name), records) for name in ("agreement", "every"))
    return None if agreement is None or every is None else Changed(most, agreement, every)


def _right(each: ScoredRecord, measure: Measure) -> bool:
    return next(iter(each.values.values())) == measure.best


def _letters(questions: Iterable[Sequence[ScoredRecord]]) -> dict[str, Preference]:
    records: list[ScoredRecord] = []
    seen = 0
    for own in questions:
        count = len(own[0].question.options)
        chosen = [(each.rotation, option) for each in own if (option := option_of(each)) is not None]
        if len({rotation for rotation, _ in chosen}) < 2:
            continue
        seen = max(seen, count)
        times = Counter((option - rotation) % count for rotation, option in chosen)
        # Where each option would be, if it were chosen as often in every order as it is in all.
        expected: Counter[int] = Counter()
        for (rotation, _), (_, option) in itertools.product(chosen, chosen):
            expected[(option - rotation) % count] += 1
        excess = {
            LETTERS[place]: times[place] / len(chosen) - expected[place] / len(chosen) ** 2 for place in range(count)
        }
        records.append(_as_record(own[0], excess))
    if len(records) < _FEWEST:
        return {}
    found = {letter: estimate(mean(letter, worst=-1.0), records) for letter in LETTERS[:seen]}
    errors = {
        letter: (one, standard_error(one.without.values()), len(one.without)) for letter, one in found.items() if one
    }
    known = {letter: (one.value, error, videos) for letter, (one, error, videos) in errors.items() if error is not None}
    chances = holm([p_value(*about) for about in known.values()])
    return {
        letter: Preference(
            about[0], *difference_interval(*about), sure=about[0] > 0 and (chance is None or chance < 0.05)
        )
        for (letter, about), chance in zip(known.items(), chances, strict=True)
    }


def _as_record(one: ScoredRecord, values: Mapping[str, float]) -> ScoredRecord:
    return replace(one, score=Score(values), seed=0, rotation=0, variant=0)

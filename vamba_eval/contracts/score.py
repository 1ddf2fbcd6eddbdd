"""What a response is worth, and what a benchmark makes of many such scores.

A score is a set of named values; a measure is any function of many scored responses. What is made of both (intervals,
breakdowns, differences, ranks) is the harness's, in vamba_eval.score.statistics. Knows no benchmark.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from vamba_eval.contracts.video import Question, Trial

Groups = Mapping[str, "str | tuple[str, ...]"]
# What a benchmark says of a response: all its values are the best possible, none is above the worst, or between.
Verdict = Literal["right", "wrong", "partial"]


@dataclass(frozen=True)
class Score:
    """What a response is worth under one protocol.

    values      by name, as {"correct": 1.0} or {"iou": 0.62}; empty where the benchmark withholds the answer and
                where a judge has yet to grade the response
    extracted   what was taken for its answer; None where nothing was
    parsed      False where the response yields no valid answer
    drawn       whether the protocol then draws an option at random
    """

    values: Mapping[str, float] = field(default_factory=dict, hash=False)
    extracted: str | None = None
    parsed: bool = True
    drawn: bool = False

    @property
    def correct(self) -> float | None:
        """The value of that name, which multiple choice has; None where there is none."""
        return self.values.get("correct")


class CutOff(str):
    """A response that ended because its tokens did. To ``Task.score`` it is text like any other, unless it asks."""


@dataclass(frozen=True)
class ScoredRecord:
    """One response as a measure sees it; a question asked several times (``Trial``) has as many.

    ``question`` is as its record keeps it (without a record: its id and groups). Of several files of one film
    ``video_id`` is the same.
    """

    question_id: str
    video_id: str
    groups: Groups
    score: Score
    seed: int = 0
    question: Question = None  # type: ignore[assignment] # made of the others
    response: str = ""
    rotation: int = 0
    variant: int = 0

    def __post_init__(self) -> None:
        if self.question is None:
            object.__setattr__(self, "question", Question(self.question_id, "", groups=self.groups))

    @property
    def values(self) -> Mapping[str, float]:
        return self.score.values

    @property
    def trial(self) -> Trial:
        return Trial(self.seed, self.rotation, self.variant)

    @property
    def published(self) -> Question:
        """The question with its options in the published order, whichever they were asked in."""
        return self.question.rotated(-self.rotation)

    def members(self, group: str) -> tuple[str, ...]:
        """The group's values that this response counts in: mostly one."""
        value = self.groups.get(group, ())
        return (value,) if isinstance(value, str) else tuple(value)


@dataclass(frozen=True)
class Measure:
    """What a benchmark reports: a number made of the scored responses of one seed.

    function        of responses that have values to that number; None where it is not defined for them. It may look at
                    any of their values and groups, and need not be linear
    best, worst     what a perfect and a useless model get; intervals stay between them
    unit            "%" shows the number times 100; any other is shown behind it as it is ("points", "s")
    in_breakdowns   whether groups are broken down by it too; they always are by the headline
    """

    function: Callable[[Sequence[ScoredRecord]], float | None]
    best: float = 1.0
    worst: float = 0.0
    unit: str = "%"
    in_breakdowns: bool = False

    def counts(self, record: ScoredRecord) -> bool:
        """Whether the number is made of this response too."""
        return bool(record.values)

    def within_group(self) -> Measure:
        """What stands for it in the breakdown of one group."""
        return self


@dataclass(frozen=True)
class Mean(Measure):
    """The mean of a value: see ``mean``."""

    function: Callable[[Sequence[ScoredRecord]], float | None] = field(init=False, repr=False, compare=False)
    value: str = "correct"
    over: str | None = None
    only: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "function", self._mean)

    def counts(self, record: ScoredRecord) -> bool:
        if self.only is not None and self.only[1] not in record.members(self.only[0]):
            return False
        return self.value in record.values and (self.over is None or bool(record.members(self.over)))

    def strata(self, record: ScoredRecord) -> tuple[str, ...]:
        """The means that this response is part of."""
        return ("",) if self.over is None else record.members(self.over)

    def within_group(self) -> Measure:
        return replace(self, over=None)

    def _mean(self, records: Sequence[ScoredRecord]) -> float | None:
        by_stratum: dict[str, list[float]] = defaultdict(list)
        for record in records:
            if self.counts(record):
                for stratum in self.strata(record):
                    by_stratum[stratum].append(record.values[self.value])
        means = [math.fsum(values) / len(values) for values in by_stratum.values()]
        return math.fsum(means) / len(means) if means else None


def mean(
    value: str,
    *,
    over: str | None = None,
    only: tuple[str, str] | None = None,
    best: float = 1.0,
    worst: float = 0.0,
    unit: str = "%",
    in_breakdowns: bool = False,
) -> Mean:
    """The plain mean of a value, over the responses that have it.

    over    a group: the mean over its members' means instead (such as MLVU's M-Avg over types of questions)
    only    a group and one of its members: of these responses alone
    The others are those of ``Measure``.
    """
    return Mean(best=best, worst=worst, unit=unit, in_breakdowns=in_breakdowns, value=value, over=over, only=only)


@dataclass(frozen=True)
class Metric:
    """A measure's number with its 95 % interval (None where one video alone gives none).

    ``best`` and ``unit`` are the measure's. ``spread`` is the standard deviation over seeds, None with one seed.
    """

    value: float
    low: float | None
    high: float | None
    num_questions: int
    num_videos: int
    best: float = 1.0
    spread: float | None = None
    unit: str = "%"


@dataclass(frozen=True)
class Summary:
    """``metrics`` by name, the headline first; ``breakdowns`` by group, then by the group's value."""

    metrics: dict[str, Metric]
    breakdowns: dict[str, dict[str, Metric]]

    @property
    def headline(self) -> tuple[str, Metric]:
        return next(iter(self.metrics.items()))

"""What a response is worth, and what a benchmark makes of many such scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Score:
    """What a response is worth under one protocol.

    ``correct`` is None where the benchmark withholds the answer or a judge grades the response; a fraction is
    what a guess is expected to earn. ``parsed`` is False where the response yields no valid option; ``drawn``
    is True where the protocol then draws one at random. ``grades`` are a judge's, by name.
    """

    correct: bool | float | None
    extracted: str | None
    parsed: bool
    drawn: bool = False
    grades: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class ScoredRecord:
    """One response as a summary sees it; a question asked with several seeds has as many."""

    question_id: str
    video_id: str
    groups: Mapping[str, str | tuple[str, ...]]
    score: Score
    seed: int = 0


@dataclass(frozen=True)
class Metric:
    """A score with its 95 % interval (None where one video alone gives none).

    ``best`` is what a perfect model reaches: 1 for accuracies, which tables show in %, and 10 where a judge
    gives so many points. ``spread`` is the standard deviation over seeds, None with one seed.
    """

    value: float
    low: float | None
    high: float | None
    num_questions: int
    num_videos: int
    best: float = 1.0
    spread: float | None = None


@dataclass(frozen=True)
class Summary:
    """``metrics`` by name, the headline first; ``breakdowns`` by group, then by the group's value."""

    metrics: dict[str, Metric]
    breakdowns: dict[str, dict[str, Metric]]

    @property
    def headline(self) -> tuple[str, Metric]:
        return next(iter(self.metrics.items()))

"""Which models no other one beats: in accuracy and in time to a first answer, on the same hardware."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vamba_eval.tables.result import Result


def frontier_of(results: Sequence[Result]) -> list[Result]:
    """The models that no other one beats on the same benchmark, protocol and hardware: none is at least as accurate
    and as fast to a first answer, and better in one of the two. Models that see no video, have random weights or
    are not above chance do not take part."""
    return [result for result in results if _is_unbeaten(result, results)]


def marked_frontier(results: Sequence[Result]) -> set[int]:
    """By ``id`` which results to mark: the frontier, where there is anything to choose."""
    looking = {
        (r.run, r.protocol, r.model, r.num_frames, r.size, r.asked) for r in results if r.reads_video and not r.source
    }
    return {id(result) for result in frontier_of(results)} if len(looking) > 1 else set()


def takes_part(result: Result) -> bool:
    """Whether a result can be on a frontier: of a model that saw the videos, answered everything and knows something.

    One that guesses is fast for nothing, so it may neither be marked nor beat another.
    """
    if not (result.reads_video and result.complete and result.summary.metrics) or result.random_weights:
        return False
    if result.chance is None:
        return True
    metric = result.summary.headline[1]
    if metric.best > 0:
        return (metric.value if metric.low is None else metric.low) > result.chance
    return (metric.value if metric.high is None else metric.high) < result.chance  # less is better


def _is_unbeaten(result: Result, others: Iterable[Result]) -> bool:
    if (own := _position(result)) is None:
        return False
    alike = [
        position
        for other in others
        if (other.title, other.protocol, other.hardware) == (result.title, result.protocol, result.hardware)
        and (position := _position(other)) is not None
    ]
    return not any(score >= own[0] and seconds <= own[1] and (score, seconds) != own for score, seconds in alike)


def _position(result: Result) -> tuple[float, float] | None:
    """Accuracy and seconds to a first answer; None where one of them was not measured or ``takes_part`` is False."""
    if not takes_part(result) or result.costs.first_answer_s is None or result.selected:  # its choice took time too
        return None
    headline = result.summary.headline[1]
    value = headline.value if headline.best > 0 else -headline.value  # where nothing is best, less is better
    return value, result.costs.first_answer_s.median

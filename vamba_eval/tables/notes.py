"""What a reader must know before comparing the numbers of a table: a line each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vamba_eval.tables.frontier import marked_frontier
from vamba_eval.tables.ladders import ladders_of
from vamba_eval.tables.provenance import differing_facts
from vamba_eval.tables.result import Result, expected_guesses
from vamba_eval.tables.text import shown, unique

_GRAVE = re.compile(r"NOT ALIKE |BEST OF \d|[A-Z][A-Z ]+[A-Z]: |.*: (random weights|trained on )")


def is_grave(note: str) -> bool:
    """Whether it says that a number is not what it seems: those begin in capitals, or say of weights what they are."""
    return _GRAVE.match(note) is not None


def notes_of(results: Sequence[Result], left_out: Sequence[str] = ()) -> list[str]:
    """What a reader must know before comparing the numbers."""
    notes = [
        "Accuracies in %, with 95 % intervals clustered by video; seconds are medians (5th to 95th percentile) on "
        "the benchmark with most videos."
    ]
    if len({r.title for r in results}) == 1 and any(r.rank for r in results):
        apart = "; served models have ranks of their own" * any(r.rank and r.provenance.served for r in results)
        notes.append(
            f"ranks are those on the questions that all answered, with the ranks that other videos may give{apart}"
        )
    if marked_frontier(results):
        notes.append(
            "◆: no other model here that is above chance is, on the same hardware, as accurate and as fast to a "
            "first answer"
        )
    protocols = {r.protocol for r in results if not r.source}
    units = {r.title: r.summary.headline[1].unit for r in results if r.summary.metrics}
    if guesses := expected_guesses(results):
        texts = (f"{shown(chance, units.get(title, '%'))} on {title}" for title, chance in guesses.items())
        notes.append(f"guessing is expected to reach {', '.join(texts)}")
    if any(r.trials > r.questions for r in results):
        notes.append("scores of questions that were asked in several orders or wordings are means over all of them")
    if any(r.seeds > 1 for r in results):
        notes.append("± is the standard deviation over seeds, beside the interval over videos")
    said: dict[tuple[str, str], list[Result]] = {}  # what to say before and behind the models it is true of
    for r in results:
        for remark in _remarks(r):
            said.setdefault(remark, []).append(r)
    for (before, behind), about in said.items():
        notes.append(f"{before}{_named(about, with_protocol=len(protocols) > 1)}{behind}")
    notes += [
        f"BEST OF {tried}: {best.model} with {best.num_frames} frames on {best.title}"
        f"{f' (protocol {best.protocol})' if len(protocols) > 1 else ''}; where the number is chosen by this score, "
        "the score is likely too high"
        for best, tried in _best_of_ladders(results)
    ]
    notes += [f"NOT ALIKE {line}" for line in _unlike(results)]
    hardware = unique(r.hardware for r in results if r.hardware)
    if len(hardware) > 1:
        notes.append(f"seconds and memory come from different hardware: {'; '.join(hardware)}")
    notes += [f"LEFT OUT: {line}" for line in left_out]
    return notes


_MANY = 0.1  # of the responses: more that cannot be read say more about the reading than about the model


def _remarks(r: Result) -> Iterator[tuple[str, str]]:
    """What must be known of one result: words before and behind its name."""
    if r.stored:
        yield "STORED: ", ": as the run's own table has it, with what its notes say; not scored here"
    if r.source:
        return
    if r.answered != r.asked_for:
        missing = r.asked_for - r.answered - r.failed
        reasons = f"; first reason: {r.failures[0]}" if r.failures else ""
        what = "questions" if r.asked_for == r.questions else "responses"
        what += f" ({r.seeds} seeds)" if r.seeds > 1 else ""
        counts = f"{r.answered:,} of {r.asked_for:,} {what} ({r.failed:,} failed, {missing:,} not asked){reasons}"
        yield "PARTIAL: ", f" covers {counts}"
    if r.sample and r.answered != r.asked_for:
        yield "SAMPLE: ", f": {r.sample}"
    if r.judge:
        yield "", f": graded by {r.judge}"
    if r.unjudged:
        yield "NOT JUDGED: ", f": {r.unjudged_why}"
    if r.cut_off:
        counts = f"{r.cut_off:,} of {r.answered:,} responses"
        yield "CUT OFF: ", f": {counts} end at the longest length, not where the model ended them (--max-new-tokens)"
    if r.unparsed > _MANY * r.answered:
        counts = f"{r.unparsed:,} of {r.answered:,} responses"
        wrong = "" if not r.unparsed_wrong else f", and {r.unparsed_wrong:,} of them count as wrong"
        if r.unparsed_wrong == r.unparsed:
            wrong = " and count as wrong"
        yield "UNPARSED: ", f": {counts} yield no answer{wrong}; rescore --protocol all reads them otherwise"
    if r.unparsed_right:
        counts = f"{r.unparsed_right:,} of {r.answered:,} responses"
        yield (
            "COUNTED RIGHT: ",
            f": {counts} hold no answer, or several, and count as right under this protocol",
        )
    if r.read_otherwise > _MANY * r.answered and not r.random_weights:
        counts = f"{r.read_otherwise:,} of {r.answered:,} responses"
        yield "READ OTHERWISE: ", f": {counts} are right or wrong otherwise under the protocol flexible; see rescore"
    if r.drawn:
        yield "", f": {r.drawn:,} responses held no option; the protocol drew one at random (seeded)"
    if r.batched:
        yield "", f": {r.batched:,} responses were given in batches; their seconds and joules are even shares"
    if r.random_weights:
        yield "", ": random weights, not a trained model; the answers mean nothing"
    if r.trained_on:
        yield "", f": trained on {r.trained_on}; says nothing of other models, or of other videos"
    if r.chance is not None and r.summary.metrics:
        name, metric = r.summary.headline
        if metric.low is not None and metric.high is not None and metric.low <= r.chance <= metric.high:
            yield (
                "AT CHANCE: ",
                f": {name} does not differ from guessing ({shown(r.chance, metric.unit)} {metric.unit})",
            )
    if r.own_frames:
        yield "OWN FRAMES: ", ": given the video files, it chose frames by itself, and may have heard their sound"
    if r.selected:
        seconds = r.costs.select_s_per_question
        cost = "takes time that nobody states" if seconds is None else f"takes {seconds:.3g} s a question, as stated"
        yield (
            "SELECTED FRAMES: ",
            f": each question has its own; choosing them {cost}, and no other number has it in it",
        )
    yield from r.provenance.remarks()
    if len(r.served_by) > 1:
        yield "SEVERAL MODELS: ", f": the endpoint says that it answered with {', '.join(r.served_by)}"
    if r.environments > 1:
        yield "", f": made in {r.environments} environments (package versions or hardware)"


def _unlike(results: Sequence[Result]) -> Iterator[str]:
    """What the models of a benchmark did not have in common, a text for all benchmarks of which it is true."""
    said: dict[str, list[str]] = {}
    for title in unique(result.title for result in results):
        own = {row_key(result): result for result in results if result.title == title and not result.source}
        names = row_names(list(own.values()))
        found = differing_facts([(name, each.provenance) for name, each in zip(names, own.values(), strict=True)])
        if found:
            said.setdefault("; ".join(found), []).append(title)
    for text, titles in said.items():
        yield f"on {', '.join(titles)}: {text}"


def row_names(results: Sequence[Result]) -> list[str]:
    """By model, and by as much else as tells rows apart."""
    names = [result.model for result in results]
    wider: tuple[Callable[[Result], Any], ...] = (
        lambda result: result.num_frames and f"@{result.num_frames}",
        lambda result: result.run and f"({result.run})",
        lambda result: result.protocol and f"({result.protocol})",
        lambda result: result.asked and f"({result.asked})",
    )
    for more in wider:
        alike = Counter(names)
        apart: dict[str, set[Any]] = {}
        for name, result in zip(names, results, strict=True):
            apart.setdefault(name, set()).add(more(result))
        names = [
            f"{name} {more(result)}" if alike[name] > 1 and len(apart[name]) > 1 and more(result) else name
            for name, result in zip(names, results, strict=True)
        ]
    return names


def _named(results: Sequence[Result], *, with_protocol: bool) -> str:
    """``a and b (8, 16 frames) on T; c on U``."""
    parts = []
    for title in unique(result.title for result in results):
        models: dict[tuple[str, str], list[Any]] = {}
        for result in results:
            if result.title == title:
                key = (result.model, result.protocol if with_protocol else "")
                models.setdefault(key, []).append(result.num_frames)
        names = []
        for (model, protocol), counts in models.items():
            frames = ", ".join(str(count) for count in unique(counts) if count is not None)
            details = ", ".join(text for text in (frames and f"{frames} frames", protocol) if text)
            names.append(f"{model} ({details})" if details else model)
        parts.append(f"{', '.join(names)} on {title}")
    return "; ".join(parts)


def _best_of_ladders(results: Sequence[Result]) -> Iterator[tuple[Result, int]]:
    """Where a model was measured with several numbers of frames: the best result, and how many numbers there are."""
    for rungs in ladders_of(results):
        sign = 1 if rungs[0].summary.headline[1].best > 0 else -1
        tried = len({rung.num_frames for rung in rungs})
        yield max(rungs, key=lambda rung: sign * rung.summary.headline[1].value), tried


def row_key(result: Result) -> tuple[Any, ...]:
    """What results share that stand in one row of the long table."""
    about = (result.run, result.protocol, result.model, result.num_frames, result.size, result.asked)
    return bool(result.source), *about

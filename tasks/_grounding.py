"""Temporal grounding: reading an interval of time out of a response, and how much it overlaps the annotated one."""

from __future__ import annotations

import functools
import math
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from vamba_eval.contracts import CutOff, Measure, Question, Score, ScoredRecord, mean
from vamba_eval.plain import json_value
from vamba_eval.reasoning import final_text
from vamba_eval.score.letters import without_reasoning

THRESHOLDS = (0.3, 0.5, 0.7)


class Span(NamedTuple):
    """A stretch of a video, in seconds; some protocols read spans that end before they start."""

    start: float
    end: float

    def __str__(self) -> str:
        return f"{self.start:g} - {self.end:g} s"


def iou(one: Span, other: Span) -> float:
    """What two spans share, of all from the first start to the last end; 0 where one ends before it starts."""
    whole = max(one.end, other.end) - min(one.start, other.start)
    return max(0.0, min(one.end, other.end) - max(one.start, other.start)) / whole if whole > 0 else 0.0


def iou_of_several(some: Sequence[Span], others: Sequence[Span]) -> float:
    """What two sets of spans share, of all that either covers; 0 where neither covers anything.

    Summed in the order of CG-Bench's authors (run/utils.py): where an overlap is just a threshold, the last bit counts.
    """
    some, others = _merged(some), _merged(others)
    shared = sum(max(0.0, min(a.end, b.end) - max(a.start, b.start)) for a in some for b in others)
    whole = sum(span.end - span.start for span in some) + sum(span.end - span.start for span in others) - shared
    return shared / whole if whole > 0 else 0.0


def _merged(spans: Sequence[Span]) -> list[Span]:
    """The same without overlaps, by their starts."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda each: each.start):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


def recall(records: Sequence[ScoredRecord], threshold: float) -> float | None:
    """The share of responses whose span overlaps the annotated one by at least ``threshold``."""
    return sum(each.values["iou"] >= threshold for each in records) / len(records) if records else None


MEASURES: Mapping[str, Measure] = {
    "mIoU": mean("iou"),
    **{f"R1@{each}": Measure(functools.partial(recall, threshold=each), in_breakdowns=True) for each in THRESHOLDS},
}


def score_span(question: Question, response: str, read: Callable[[str], Span | None]) -> Score:
    """The overlap of the span that ``read`` finds with that in ``question.extra["span"]``; 0 where it finds none."""
    found = read(without_reasoning(response))
    if found is None:
        return Score({"iou": 0.0}, parsed=False)
    return Score({"iou": iou(Span(*question.extra["span"]), found)}, str(found))


def span_of(value: Any) -> Span | None:
    """An annotated span: two numbers, from 0, of which the second is greater; None for anything else."""
    try:
        start, end = (float(each) for each in value)
    except (TypeError, ValueError):
        return None
    return Span(start, end) if 0 <= start < end < math.inf else None


# ------------------------------------------------------------------------------------------------- flexible

_NUMBER = r"\d+(?:\.\d+)?"
# A time: 1:02:03.5, 02:03, "1 h 2 min 3 s", "75.5 seconds", "75.5". Not a part of a word or number, no share, no frame.
_TIME = (
    r"(?<![\w.:-])(?:"
    rf"(?:(?P<ch{{0}}>\d+):)?(?P<cm{{0}}>\d{{{{1,3}}}}):(?P<cs{{0}}>\d{{{{2}}}}(?:\.\d+)?)(?!:?\d)(?:\s*(?:s|sec|seconds)\b)?"
    rf"|(?:(?P<h{{0}}>{_NUMBER})\s*(?:hours?|hrs?|h)\b[\s,]*(?:and\s+)?)?"
    rf"(?:(?P<m{{0}}>{_NUMBER})\s*(?:minutes?|mins?|min|m)(?:\b|(?=\d))[\s,]*(?:and\s+)?)?"
    rf"(?P<s{{0}}>{_NUMBER})(?!\s*(?:minutes?|mins?|m|hours?|hrs?|h)\b)\s*(?:(?:seconds?|secs?|sec|s)\b)?"
    rf"|(?P<om{{0}}>{_NUMBER})\s*(?:minutes?|mins?|min|m)\b"
    r")(?![\w%]|\.\d)(?!\s*(?:%|percent|frames?\b))"
)
_BETWEEN = r"[\s\"'*>)\]]*(?:-|–|—|~|→|->|to|and|until|till|through|,)[\s\"'*<(\[]*(?:at\s+|about\s+|around\s+)?"
_SINGLE = re.compile(_TIME.format(0))
# What a hyphen before a number would hide: "12-45" is two times.
_PAIR = re.compile(_TIME.format(0) + _BETWEEN + _TIME.format(1).replace(r"(?<![\w.:-])", r"(?<![\w.:])", 1))
_FRAMES = re.compile(r"\bframes?\s*(?:number\s*)?#?$", re.IGNORECASE)
_STARTS = re.compile(r"\b(?:start|begin)", re.IGNORECASE)
_ENDS = re.compile(r"\b(?:end|finish|stop|until)", re.IGNORECASE)
_NUMBERS_OF_PAIR = re.compile(rf"[\[(]\s*({_NUMBER})\s*,\s*({_NUMBER})\s*[\])]")
_LIST = re.compile(rf"[\[(]\s*(?:{_NUMBERS_OF_PAIR.pattern.replace('(' + _NUMBER + ')', _NUMBER)}\s*(?:,\s*)?)+[\])]")
_OBJECT = re.compile(r"\{[^{}]*\}")
_START_KEYS = ("start", "start_time", "begin", "from")
_END_KEYS = ("end", "end_time", "stop", "to")


# Ahead of an interval that is said to be the answer, in the words that prompts ask for, or as such.
_STATED = re.compile(
    r"(?:\bevent\b[^\n\d]*\b(?:happens|occurs)\b|\banswer\b|\\boxed\b)(?:\W|\b(?:is|in|at|from|between|during|the|about)\b)*$"
)


def score_flexible(question: Question, response: str) -> Score:
    """The overlap of the interval that ``response`` states, without its reasoning, by ``read_flexible``."""
    cut_off = isinstance(response, CutOff)
    return score_span(question, final_text(response), lambda text: read_flexible(text, question.text, cut_off=cut_off))


def read_flexible(response: str, said: str = "", *, cut_off: bool = False) -> Span | None:
    """The interval that a response states, in whichever common form; None where it states none or several times that
    belong to none.

    Of several intervals the last one counts that is said to be the answer, else the last one, since models that reason
    in the open conclude there; of a response that was ``cut_off`` no other. ``said`` is the sentence that was asked
    about, whose own numbers are no times.
    """
    text = response.replace(said, " ") if said.strip(" .") else response
    for match in reversed(list(_OBJECT.finditer(text))):
        if (span := _of_object(match[0])) is not None:
            return span
    pairs = _found(_PAIR, text)
    stated = [match for match in pairs if _STATED.search(text[max(0, match.start() - 300) : match.start()].lower())]
    if stated or cut_off:
        pairs = stated
    if pairs:
        return _ordered(_seconds(pairs[-1], 0), _seconds(pairs[-1], 1))
    if cut_off:
        return None
    times = _found(_SINGLE, text)
    start, end = _after(_STARTS, text, times), _after(_ENDS, text, times)
    if start is not None and end is not None and start is not end:
        return _ordered(_seconds(start, 0), _seconds(end, 0))
    return _ordered(*(_seconds(each, 0) for each in times)) if len(times) == 2 else None


def _found(form: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """What ``text`` has of ``form``, but for numbers of frames."""
    return [
        match for match in form.finditer(text) if not _FRAMES.search(text[max(0, match.start() - 30) : match.start()])
    ]


def read_all_flexible(response: str, *, cut_off: bool = False) -> list[Span]:
    """The intervals that a response states: those of its last JSON list of pairs, else of its JSON objects of a start
    and an end, else, unless it was ``cut_off``, every pair of times in it."""
    for match in reversed(list(_LIST.finditer(response))):
        spans = [_ordered(*map(float, pair)) for pair in _NUMBERS_OF_PAIR.findall(match[0])]
        return [span for span in spans if span is not None]
    if objects := [span for match in _OBJECT.finditer(response) if (span := _of_object(match[0])) is not None]:
        return objects
    pairs = [] if cut_off else _found(_PAIR, response)
    spans = [_ordered(_seconds(match, 0), _seconds(match, 1)) for match in pairs]
    return [span for span in spans if span is not None]


def _of_object(text: str) -> Span | None:
    """The span in a JSON object of a start and an end."""
    try:
        found = json_value(text)
    except ValueError:
        return None
    lowered = {str(key).lower(): value for key, value in found.items()} if isinstance(found, dict) else {}
    ends = [next((lowered[key] for key in keys if key in lowered), None) for keys in (_START_KEYS, _END_KEYS)]
    matches = [_SINGLE.fullmatch(str(each).strip()) for each in ends]
    if matches[0] is None or matches[1] is None:
        return None
    return _ordered(_seconds(matches[0], 0), _seconds(matches[1], 0))


def _after(word: re.Pattern[str], text: str, times: Sequence[re.Match[str]]) -> re.Match[str] | None:
    """The first time behind the last ``word`` that has one."""
    for each in reversed(list(word.finditer(text))):
        following = bisect_left(times, each.end(), key=lambda time: time.start())
        if following < len(times):
            return times[following]
    return None


def _seconds(match: re.Match[str], number: int) -> float:
    parts = {key: float(match[f"{key}{number}"] or 0) for key in ("ch", "cm", "cs", "h", "m", "s", "om")}
    return 3600 * (parts["ch"] + parts["h"]) + 60 * (parts["cm"] + parts["m"] + parts["om"]) + parts["cs"] + parts["s"]


def _ordered(start: float, end: float) -> Span | None:
    return Span(start, end) if start <= end else None

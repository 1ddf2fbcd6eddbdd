"""TimeLens-Bench: when does what a sentence says happen? Charades-STA, ActivityNet and QVHighlights annotated anew.

Paper: Zhang et al., TimeLens: Rethinking Video Temporal Grounding with Multimodal LLMs, 2025. Data set card:
TencentARC/TimeLens-Bench; code: github.com/TencentARC/TimeLens (timelens/dataset, evaluation/).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vamba_eval.contracts import (
    Catalogue,
    Clip,
    Counts,
    Dataset,
    GenerationSettings,
    Question,
    Score,
    Task,
    Video,
)

from ._annotations import (
    FLEXIBLE,
    FLEXIBLE_SETTINGS,
    BadRow,
    Collector,
    asked_as,
    check_split,
    find_folder,
    read_object,
    seconds_field,
)
from ._grounding import MEASURES, Span, score_flexible, score_span, span_of

_BEFORE = "Please find the visual event described by the sentence '"
_BEHIND = (
    "', determining its starting and ending times. The format should be: 'The event happens in <start time> - <end "
    "time> seconds'."
)


class TimeLens(Task):
    name = "timelens"
    version = "1"
    catalogue = Catalogue(
        title="TimeLens-Bench",
        homepage="https://huggingface.co/datasets/TencentARC/TimeLens-Bench",
        citation="Zhang et al., TimeLens, 2025",
        dataset=Dataset(
            hub_id="TencentARC/TimeLens-Bench",
            files=("*-timelens.json", "video_shards/*.tar.gz"),
            unpack_into="videos",
        ),
        counts={"charades": Counts(videos=1313, questions=3363)},
    )
    measures = MEASURES
    splits = ("charades", "activitynet", "qvhighlights")
    protocols = ("official", "lmms-eval", "flexible")
    kept = ("span",)
    asks_times = True

    def generation(self, protocol: str) -> GenerationSettings:
        if protocol == FLEXIBLE:
            return FLEXIBLE_SETTINGS
        return (
            GenerationSettings(512)
            if asked_as(protocol, "official") == "official"
            else GenerationSettings.lmms_eval(50)
        )

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        split = check_split(self, split)
        folder, file = find_folder(self, data_root, (f"{split}-timelens.json",))
        collector = Collector(self)
        for video_id, row in read_object(file).items():
            self._add(
                folder / "videos" / split / f"{video_id}.mp4", video_id, row, f"{file.name} {video_id}", collector
            )
        return collector.videos()

    @staticmethod
    def _add(path: Path, video_id: str, row: Any, where: str, collector: Collector) -> None:
        spans, queries = (row.get(key) if isinstance(row, dict) else None for key in ("spans", "queries"))
        if not isinstance(spans, list) or not isinstance(queries, list) or len(spans) != len(queries):
            collector.broken(where, "fields 'spans' and 'queries' are not lists of the same length", video_id, path)
            return
        for number, (span, query) in enumerate(zip(spans, queries, strict=True)):
            own = f"{where} query {number}"
            about = {"duration_s": seconds_field(row, "duration")}
            try:
                question = _question(f"{video_id}_{number}", span, query)
            except BadRow as problem:
                collector.broken(own, str(problem), video_id, path, **about)
                continue
            collector.add(own, video_id, path, question, **about)

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return f"{_BEFORE}{question.text}{_BEHIND}"

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return (_BEFORE, _BEHIND)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        return score_span(question, response, _read_official if protocol == "official" else _read)


def _question(id: str, span: Any, query: Any) -> Question:
    """White space in a sentence counts as one space, and periods at its ends go, as in the authors' code."""
    annotated = span_of(span)
    if annotated is None:
        raise BadRow(f"the span {span!r} is not a start and a later end in seconds")
    if not isinstance(query, str) or not query.strip():
        raise BadRow(f"the query is {query!r}, not text")
    text = re.sub(r"\s+", " ", query).strip().strip(".").strip()
    return Question(id=id, text=text, answer=str(annotated), extra={"span": list(annotated)})


_CLOCK = re.compile(r"\b(\d{1,2}:\d{2}:\d{2}(?:\.\d+)?|\d{1,2}:\d{2}(?:\.\d+)?)\b")
# Theirs have \d+\.?\d* for a number, which matches the same, and in a million digits takes the square of their time.
_NUMBER = r"\d+(?:\.\d*)?"
_RANGES = tuple(re.compile(rf"(?<!\d)({_NUMBER}){between}({_NUMBER})") for between in (r"\s*-\s*", r"\s+to\s+"))
_ALONE = re.compile(rf"\b{_NUMBER}\b")


def _read(response: str) -> Span | None:
    """The first two clock times, else the first range with a hyphen, else with "to", else the first two numbers: the
    authors' rule (timelens/utils.py) and lmms-eval's. What ends before it starts overlaps nothing."""
    text = response.lower()
    found: Sequence[str] = _CLOCK.findall(text)[:2]
    for pattern in _RANGES:
        if len(found) < 2 and (match := pattern.search(text)):
            found = match.groups()
    if len(found) < 2:
        found = _ALONE.findall(text)[:2]
    return Span(*(_plain_seconds(each) for each in found)) if len(found) == 2 else None


def _read_official(response: str) -> Span | None:
    """The same, in whole seconds: evaluation/eval_dataloader.py rounds what it has read, half to even."""
    span = _read(response)
    if span is None or not all(map(math.isfinite, span)):  # more digits than a number has
        return None
    return Span(*(float(round(each)) for each in span))


def _plain_seconds(text: str) -> float:
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds

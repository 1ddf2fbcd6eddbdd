"""Subtitle files, and the lines that are shown while sampled frames are.

pysubs2 reads SubRip, WebVTT, ASS and the like; the JSON of LongVideoBench is read here. Knows no benchmark's
prompt.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vamba_eval.contracts import VideoError, first_line, system_reason

# Times of single words within a line of WebVTT, which pysubs2 takes for text or for a new line's times.
_WORD_TIME = re.compile(r"<(?:\d+:)?\d{2}:\d{2}\.\d{3}>")


@dataclass(frozen=True)
class Line:
    """What is shown from ``start_s`` to ``end_s`` (seconds since the video's start; ``end_s`` may be infinite).

    ``text`` is plain, on one line; ``marked`` keeps style marks such as ``{\\i1}``, as the Vamba paper's
    scripts show them to the model.
    """

    start_s: float
    end_s: float
    text: str
    marked: str


def read_subtitles(path: str | Path, offset_s: float = 0.0, *, keep_empty: bool = False) -> list[Line]:
    """The lines of a subtitle file in its order; ``offset_s`` is taken from their times.

    Lines without text are left out unless ``keep_empty``: by some rules they stand in another line's way.

    Raises VideoError with one line of reason.
    """
    path = Path(path)
    try:
        text = _decoded(path.read_bytes())
        lines = _from_json(json.loads(text)) if path.suffix.lower() == ".json" else _from_pysubs2(text)
    except OSError as error:
        raise VideoError(f"the subtitles {path} cannot be read: {system_reason(error)}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise VideoError(f"the subtitles {path} cannot be understood ({type(error).__name__}: {error})") from error
    return [
        Line(line.start_s - offset_s, line.end_s - offset_s, line.text, line.marked)
        for line in lines
        if keep_empty or line.text.strip()
    ]


def lines_at(lines: Sequence[Line], times_s: Iterable[float], *, at_end: bool = True) -> list[Line]:
    """For each of ``times_s`` the first line that covers it; a time that none covers gives none, and a line that
    covers several times comes as often.

    A line covers what is later than its start, up to its end: that too (the rule of the Vamba paper's scripts), or
    not, without ``at_end`` (the rule of Video-MME's authors).
    """

    def covers(line: Line, time: float) -> bool:
        return line.start_s < time and (time <= line.end_s if at_end else time < line.end_s)

    shown = (next((line for line in lines if covers(line, time)), None) for time in times_s)
    return [line for line in shown if line is not None]


def _decoded(content: bytes) -> str:
    """UTF-8, or what a byte-order mark says, with plain line ends."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return content.decode(encoding, errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def _from_pysubs2(text: str) -> list[Line]:
    import pysubs2

    if not text.strip():
        return []
    if text.startswith("WEBVTT"):
        text = _WORD_TIME.sub("", text)
    try:
        events = pysubs2.SSAFile.from_string(text)
    except pysubs2.Pysubs2Error as error:
        raise ValueError(first_line(error)) from error
    return [
        Line(
            event.start / 1000,
            event.end / 1000,
            " ".join(html.unescape(event.plaintext).split()),
            event.text.replace("\\N", " "),
        )
        for event in events
        if not event.is_comment
    ]


def _from_json(entries: Any) -> list[Line]:
    """LongVideoBench's entries: ``{"timestamp": [start, end], "text"}`` in seconds, where an end that is not a float
    (mostly the last, null) stands for the video's, or ``{"start": "h:m:s.ms", "end", "line"}``."""
    if not isinstance(entries, list):
        raise ValueError("expected a list of lines")
    lines = []
    for entry in entries:
        if "timestamp" in entry:
            start, end = entry["timestamp"]
            end = end if isinstance(end, float) else float("inf")
            text = str(entry["text"] or "")
        else:
            start, end, text = _seconds(entry["start"]), _seconds(entry["end"]), str(entry["line"])
        lines.append(Line(float(start), float(end), " ".join(text.split()), text))
    return lines


def _seconds(clock: str) -> float:
    """``"h:m:s.ms"`` in seconds."""
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)

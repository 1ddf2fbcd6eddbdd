"""Charades-STA: 3,720 sentences about short videos of daily life; when does what each says happen?

Paper: Gao et al., ICCV 2017, arXiv 1705.02101. Files: github.com/jiyanggao/TALL (lines of text) and the data set
lmms-lab/charades_sta; videos of Charades (Sigurdsson et al., ECCV 2016), scaled to 480p.
"""

from __future__ import annotations

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
    MissingData,
    Question,
    Score,
    Task,
    Video,
    first_line,
)

from ._annotations import (
    FLEXIBLE,
    FLEXIBLE_SETTINGS,
    BadRow,
    Collector,
    check_split,
    find_folder,
    first_existing,
    read_rows,
    text_field,
)
from ._grounding import MEASURES, Span, score_flexible, score_span, span_of

_BEFORE = (
    "Please find the visual event described by a sentence in the video, determining its starting and ending times. The "
    "format should be: 'The event happens in the start time - end time'. For example, The event 'person turn a light "
    "on' happens in the 24.3 - 30.4 seonds. Now I will give you the textual sentence: "
)
_BEHIND = "Please return its start time and end time."
_LINE = re.compile(r"(\S+) +(\S+) +(\S+?) *##(.+)")


class CharadesSTA(Task):
    name = "charades_sta"
    version = "1"
    catalogue = Catalogue(
        title="Charades-STA",
        homepage="https://github.com/jiyanggao/TALL",
        citation="Gao et al., TALL, ICCV 2017, arXiv 1705.02101",
        dataset=Dataset(
            hub_id="lmms-lab/charades_sta",
            files=("data/test-*.parquet", "Charades_v1_480_part_*.zip"),
            unpack_into="",
            lmms_eval="charades_sta",
            lmms_ids=("lmms-eval/charades_sta", "lmms-lab/charades_sta"),
        ),
        counts={"test": Counts(videos=1334, questions=3720)},
    )
    measures = MEASURES
    protocols = ("lmms-eval", "flexible")
    kept = ("span",)
    asks_times = True

    def generation(self, protocol: str) -> GenerationSettings:
        return FLEXIBLE_SETTINGS if protocol == FLEXIBLE else GenerationSettings.lmms_eval(50)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        check_split(self, split)
        expected = ("data/test-*.parquet", "charades_sta_test.txt", "Charades_sta_test.txt")
        folder, file = find_folder(self, data_root, expected)
        collector = Collector(self)
        lines = file.suffix == ".txt"
        for number, row in enumerate(_lines(file) if lines else read_rows(file)):
            where = f"{file.name} {'line' if lines else 'row'} {number + lines}"
            video_id = path = None
            try:
                name = text_field(row, "video")
                video_id = Path(name).stem
                path = first_existing([folder / place / name for place in ("Charades_v1_480", "videos", "")])
                question = _question(row, number)
            except BadRow as problem:
                collector.broken(where, str(problem), video_id, path)
                continue
            collector.add(where, video_id, path, question)
        return collector.videos()

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return f"{_BEFORE}{question.text}. {_BEHIND}"

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return (_BEFORE, _BEHIND)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        return score_span(question, response, _read_lmms)


def _lines(file: Path) -> list[dict[str, Any]]:
    """The authors' lines, ``VIDEO START END##SENTENCE.``, as rows of the table, whose sentences have no period."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise MissingData(f"{file} cannot be read: {first_line(error)}. Download it again") from error
    rows: list[dict[str, Any]] = []
    for line in text.splitlines():
        if match := _LINE.fullmatch(line.strip()):
            video, start, end, sentence = match.groups()
            rows.append({"video": f"{video}.mp4", "caption": sentence.strip().rstrip("."), "timestamp": [start, end]})
        elif line.strip():
            rows.append({})
    return rows


def _question(row: dict[str, Any], number: int) -> Question:
    span = span_of(row.get("timestamp"))
    if span is None:
        raise BadRow(f"field 'timestamp' is {row.get('timestamp')!r}, not a start and a later end in seconds")
    return Question(
        id=f"{Path(row['video']).stem}_{number}",
        text=text_field(row, "caption"),
        answer=str(span),
        extra={"span": list(span)},
    )


# ------------------------------------------------------------------------------------------------- lmms-eval

_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?"
_CLOCK_RANGE = re.compile(rf"\b({_CLOCK})\s*[–-]\s*({_CLOCK})\b")
_CLOCK_ALONE = re.compile(rf"\b({_CLOCK})\b")
# A number is not looked for within a number: nothing else is found, and a million digits take no square of the time.
_RANGE = re.compile(r"(?<!\d)(\d+(?:\.\d+)?)\s*[–-]\s*(\d+(?:\.\d+)?)")
_RANGE_IN_S = re.compile(r"(?<!\d)(\d+(?:\.\d+)?)\s*s?\s*[–-]\s*(\d+(?:\.\d+)?)\s*s?")
_ALONE = re.compile(r"\b(\d+(?:\.\d+)?)\b")


def _read_lmms(response: str) -> Span | None:
    """lmms-eval's rule for this task (0.7): of the lines that speak of a start, an end or a happening (else of all)
    the first range of clock times, else of numbers, else the first two clock times, else the first number of each of
    the first two lines that have one, else a range with an "s" behind its numbers. "to" is a dash, in words too; the
    later time is the end.
    """
    text = response.lower().replace("a specific example is : 20.8 - 30.0 seconds", "").replace("to", "-")
    lines = re.split(r"[!?\n]", text)
    telling = [line for line in lines if any(word in line for word in ("start", "end", "happen"))] or lines
    clocks = [each for line in telling for each in _CLOCK_ALONE.findall(line)]
    firsts = [match[1] for line in telling if (match := _ALONE.search(line))]
    ways = (
        _first(_CLOCK_RANGE, telling),
        _first(_RANGE, telling),
        clocks[:2],
        firsts[:2],
        _first(_RANGE_IN_S, telling),
    )
    found = next((way for way in ways if len(way) == 2), None)
    return Span(*sorted(_plain_seconds(each) for each in found)) if found else None


def _first(pattern: re.Pattern[str], lines: Sequence[str]) -> Sequence[str]:
    return next((match.groups() for line in lines if (match := pattern.search(line))), ())


def _plain_seconds(text: str) -> float:
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds

"""CG-Bench with its clues: its questions about whole videos, about the seconds that answer them, and where these are.

Paper: Chen et al., ICLR 2025, arXiv 2412.12075. The files are those of ``cgbench``; the authors' protocol is that of
github.com/CG-Bench/CG-Bench, run/utils.py, with subtitles and times of frames, as on their leaderboard.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from vamba_eval.contracts import (
    LETTERS,
    Clip,
    CutOff,
    FrameSampling,
    FrameSpans,
    GenerationSettings,
    Measure,
    Question,
    Score,
    ScoredRecord,
    Video,
    VideoError,
    mean,
)
from vamba_eval.reasoning import final_text
from vamba_eval.score.flexible import score_flexible
from vamba_eval.video.subtitles import read_subtitles

from ._annotations import FLEXIBLE, FLEXIBLE_SETTINGS, BadRow
from ._grounding import Span, iou_of_several, read_all_flexible, span_of
from .cgbench import CGBench

_LONG, _CLUE, _WHERE = "whole video", "clues alone", "where the clues are"
# run/run_api.py: never more frames of the clues.
_MOST_OF_CLUES = 32
_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)  # run/stat_with_key.py
_CHOOSE = (
    "You will be provided with sampled frames from a video, along with a multiple-choice question that includes a "
    "question and several answer options.\n"
    "Your task is to analyze the provided frames, infer the most plausible answer based on the visual information.\n"
    "If the video does not provide enough information, infer the answer based on the options available and still "
    "provide a result. Therefore, In all cases, an answer must be given.\n"
    "Only output the answer in the following format:\n\n"
    '```json\n{{"result": "option"}}\n```\n\n'
    "The {quoted} is the uppercase letter corresponding to your answer.\n\n"
)
_INSTRUCTIONS = {
    _LONG: _CHOOSE.format(quoted='"option"'),
    _CLUE: _CHOOSE.format(quoted="'option'"),
    _WHERE: (
        "You will be provided with uniformly sampled frames from a video and their timestamps, along with a "
        "multiple-choice question that includes a question and several answer options.\n"
        "Your task is to determine in which intervals the 'clue intervals' exist that contain visual information "
        "needed to answer the question.\n"
        "Only output the answer in the following format:\n\n"
        '```json\n{"result": [[start1, end1], [start2, end2], ...]}\n```\n\n'
        "In this output format, each 'start' and 'end' represents the beginning and end of an interval in seconds "
        "where relevant clues can be found.\n"
        "You must provide at least one interval and at most five intervals. Intervals exceeding five will NOT be "
        "considered valid.\n"
    ),
}
_BLOCK = re.compile(r"```json(.*?)```", re.DOTALL)
_UNQUOTED = re.compile(r"(?<=:\s)([A-Za-z_]\w*)")
_LETTER = re.compile(r"\b[A-H]\b")
_NUMBER = re.compile(r"-?\d+\.?\d*")


def _recall(records: Sequence[ScoredRecord]) -> float | None:
    """rec@IoU: the share of questions whose clues were found, the mean over the thresholds."""
    found = [record.values["iou"] for record in records if "iou" in record.values]
    return sum(iou >= least for iou in found for least in _THRESHOLDS) / (len(found) * 5) if found else None


def _accuracy_with_clues(records: Sequence[ScoredRecord]) -> float | None:
    """acc@IoU: the share of questions that were answered about the whole video and whose clues were found."""
    right: dict[str, float] = {}
    found: dict[str, float] = {}
    for record in records:
        if "iou" in record.values:
            found[_row(record)] = record.values["iou"]
        elif _LONG in record.members("asked") and "correct" in record.values:
            right[_row(record)] = record.values["correct"]
    both = right.keys() & found.keys()
    if not both:
        return None
    return sum(right[row] == 1 and found[row] >= least for row in both for least in _THRESHOLDS) / (len(both) * 5)


def _recovery(records: Sequence[ScoredRecord]) -> float | None:
    """CRR: long accuracy, of that on the clues alone; None where none of these was answered."""
    accuracies = [_ACCURACIES[name].function(records) for name in ("long-acc", "clue-acc")]
    long, clue = accuracies
    return long / clue if long is not None and clue else None


def _row(record: ScoredRecord) -> str:
    return record.question_id.removesuffix("_where")


_ACCURACIES: Mapping[str, Measure] = {
    "long-acc": mean("correct", only=("asked", _LONG)),
    "clue-acc": mean("correct", only=("asked", _CLUE)),
}


class CGBenchClues(CGBench):
    name = "cgbench_clues"
    version = "1"
    catalogue = replace(
        CGBench.catalogue,
        title="CG-Bench (mini, with clues)",
        reads_data_of=("cgbench",),
        in_lmms_eval=None,
        counts={
            split: replace(counts, questions=3 * counts.questions) for split, counts in CGBench.catalogue.counts.items()
        },
    )
    protocols = ("official", "flexible")
    measures: ClassVar = {
        **_ACCURACIES,
        "mIoU": mean("iou"),
        "rec@IoU": Measure(_recall),
        "acc@IoU": Measure(_accuracy_with_clues),
        "CRR": Measure(_recovery, best=math.inf),
    }
    kept = ("clues",)
    prompts_need_clip = True

    def generation(self, protocol: str) -> GenerationSettings:
        # The authors leave the length to the services that they ask.
        return FLEXIBLE_SETTINGS if protocol == FLEXIBLE else GenerationSettings(max_new_tokens=1024)

    def sampling_for(self, question: Question, sampling: FrameSampling) -> FrameSampling | FrameSpans:
        if question.groups.get("asked") != _CLUE:
            return sampling
        spans = tuple((span[0], span[1]) for span in question.extra["clues"])
        return FrameSpans(spans, replace(sampling, num_frames=min(sampling.num_frames, _MOST_OF_CLUES)))

    def _asked(self, question: Question, row: dict[str, Any]) -> Sequence[Question]:
        intervals = row.get("clue_intervals")
        clues = [span_of(each) for each in intervals] if isinstance(intervals, list) else []
        if not clues or None in clues:
            raise BadRow(f"field 'clue_intervals' is {intervals!r}, not starts and later ends in seconds")
        extra: dict[str, Any] = {"clues": [list(span) for span in clues if span is not None]}
        extra["choices"] = list(question.options)
        ways = {
            way: replace(question, id=f"{question.id}{ending}", groups={"asked": way, **question.groups}, extra=extra)
            for way, ending in ((_LONG, ""), (_CLUE, "_clue"), (_WHERE, "_where"))
        }
        spans = ", ".join(f"{start:g} - {end:g}" for start, end in extra["clues"])
        ways[_WHERE] = replace(ways[_WHERE], options=(), answer=f"{spans} s")
        return list(ways.values())

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        return [replace(video, subtitles=_subtitles_of(video)) for video in super().load(data_root, split)]

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        """Raises VideoError for subtitles that cannot be read, and for frames that have no time."""
        choices = question.options or question.extra["choices"]
        listed = "\n".join(f"{letter}:{choice}" for letter, choice in zip(LETTERS, choices, strict=False))
        (instruction,) = self.instructions(question, protocol)
        return f"{instruction}{_seen(video, clip)}Question: {question.text}\n\n{listed}\n\n"

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return (_INSTRUCTIONS[str(question.groups["asked"])],)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if question.options:
            return score_flexible(question, response) if protocol == FLEXIBLE else _score_choice(question, response)
        clues = [Span(*span) for span in question.extra["clues"]]
        found = _read_flexible(response) if protocol == FLEXIBLE else _read_spans(response)
        if not found:
            return Score({"iou": 0.0}, parsed=False)
        return Score({"iou": iou_of_several(found, clues)}, ", ".join(map(str, found)))


def _read_flexible(response: str) -> list[Span]:
    return read_all_flexible(final_text(response), cut_off=isinstance(response, CutOff))


def _subtitles_of(video: Video) -> Path | None:
    root = video.path.parent.parent if video.path.parent.name in ("cg_videos_720p", "videos") else video.path.parent
    found = (root / place / f"{video.path.stem}.srt" for place in ("cg_subtitles", "subtitles"))
    return next((path for path in found if path.exists()), None)


def _seen(video: Video, clip: Clip | None) -> str:
    """What is said while the frames are shown, and when they are; nothing for who sees none."""
    if clip is None:
        return ""
    times = tuple(map(float, clip.timestamps_s))
    if not all(map(math.isfinite, times)):
        raise VideoError("frames of unknown rate have no times to tell a model: use the video file")
    said = () if video.subtitles is None else _said(video.subtitles, times)
    before = "The subtitles of the video are as follows:\n\n{}\n\n".format("\n".join(said)) if said else ""
    listed = ", ".join(str(round(time, 4)) for time in times)
    return f"{before}A total of {len(times)} frames are sampled. Their corresponding timestamps are:\n\n{listed}\n\n"


@lru_cache(maxsize=8)
def _said(path: Path, times: tuple[float, ...]) -> tuple[str, ...]:
    """The lines that cover a frame, each once, with times and style marks. Frames' times are in whole milliseconds."""
    lines = read_subtitles(path, keep_empty=True)
    shown: dict[str, None] = {}
    for time in times:
        moment = round(time * 1000) / 1000
        for line in lines:
            if line.start_s < moment < line.end_s:
                shown[f"[{line.start_s}, {line.end_s}] {line.marked}"] = None
    return tuple(shown)


# ------------------------------------------------------------------------------------------------- official


def _result(response: str, *, letters: bool) -> Any:
    """What the first block of JSON states. Raises ValueError where there is none that can be read."""
    match = _BLOCK.search(response)
    text = match[1].strip() if match else ""
    try:
        return json.loads(_UNQUOTED.sub(r'"\1"', text) if letters else text)["result"]
    except (LookupError, TypeError) as error:
        raise ValueError(f"no result in {text!r}") from error


def _score_choice(question: Question, response: str) -> Score:
    """The letter in the JSON; else right where the right one stands anywhere in the response by itself, by the rule of
    post_process in run/utils.py."""
    options = tuple(LETTERS[: len(question.options)])
    try:
        stated = _result(response, letters=True)
    except ValueError:
        named = _LETTER.findall(response)
        stated = question.answer if question.answer in named else next(iter(named), None)
    values = {} if question.answer is None else {"correct": float(stated == question.answer)}
    return Score(values, None if stated is None else str(stated), parsed=isinstance(stated, str) and stated in options)


def _read_spans(response: str) -> list[Span]:
    """The pairs in the JSON; else all numbers of the response, two by two, if their number is even. What ends before it
    starts is left out: the authors' script gives it an overlap, of over 1 at times."""
    try:
        spans = [Span(*map(float, pair)) for pair in _result(response, letters=False) or ()]
    except (ValueError, TypeError):
        numbers = [float(number) for number in _NUMBER.findall(response)]
        spans = [Span(*numbers[i : i + 2]) for i in range(0, len(numbers), 2)] if len(numbers) % 2 == 0 else []
    return [span for span in spans if span.start <= span.end]

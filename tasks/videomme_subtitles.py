"""Video-MME with subtitles: its 2,700 questions, and what is said while the sampled frames are shown.

The files and the scoring are those of ``videomme``. Of the 900 videos 744 have subtitles, the long ones all; the
others are asked as each protocol asks them. No protocol limits the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from vamba_eval.contracts import Clip, Defect, Question, UserError, Video, VideoError, first_line
from vamba_eval.video.subtitles import lines_at, read_subtitles

from ._annotations import asked_as
from .videomme import IN_LMMS_EVAL, INSTRUCTION, VideoMME

_LMMS_FRAMES = 32  # lmms-eval's default frame_num
# What lmms-eval 0.7 takes for the text of a line; lines without it are dropped.
_LMMS_TEXT = re.compile(r'<font color="white" size=".72c">(.*?)</font>')


class VideoMMESubtitles(VideoMME):
    name = "videomme_subtitles"
    catalogue = replace(
        VideoMME.catalogue,
        title="Video-MME (with subtitles)",
        reported_as="",
        reads_data_of=("videomme",),
        in_lmms_eval=replace(
            IN_LMMS_EVAL,
            tasks={"videomme_w_subtitle": None, "videomme_long_w_subtitle": "long"},
            functions=frozenset({"videomme_doc_to_visual", "videomme_doc_to_text_subtitle"}),
        ),
    )
    prompts_need_clip = True

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        videos = super().load(data_root, split)
        if videos and not any(video.subtitles for video in videos):
            raise UserError(
                f"{self.name}: none of its videos has a file subtitle/{{videoID}}.srt: unpack the data set's "
                "subtitle.zip beside its data/, or fetch it: run_eval.py download videomme"
            )
        for video in videos:
            is_long = any(question.groups.get("duration") == "long" for question in video.questions)
            if is_long and video.subtitles is None:
                problem = "a long video without a file in subtitle/, where the data set has one"
                self.defects.append(Defect(f"video {video.id}", problem, "it is asked without subtitles"))
        return videos

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        """Raises VideoError for subtitles that cannot be read, and for frames that have no time."""
        protocol = asked_as(protocol, "official")
        if protocol == "lmms-eval":
            text = _lmms_text(video, clip)
            instruction = INSTRUCTION.format("the video and the subtitles")
            options = question.extra["options"]
            parts = ["This video's subtitles are listed below: ", text, instruction, question.text, *options]
            return "\n".join([*parts, "The best answer is:"])
        asked = super().prompt(video, question, protocol, clip)
        if video.subtitles is None:
            return asked
        assert clip is not None
        if not np.isfinite(clip.timestamps_s).all():
            raise VideoError("frames of unknown rate have no times to choose subtitles by: use the video file")
        # In whole milliseconds, as pysubs2 counts for both protocols; of the frame's own time, where their scripts take
        # its number by the header's rate: the same, where that is constant and true.
        times_s = tuple(round(time * 1000) / 1000 for time in clip.timestamps_s.tolist())
        text = _shown_text(video.subtitles, times_s, at_end=protocol == "vamba")
        return f"This video's subtitles are listed below:\n{text}\n{asked}" if text else asked

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return super().instructions(question, protocol)[:1]


@lru_cache(maxsize=2)
def _shown_text(path: Path, times_s: tuple[float, ...], *, at_end: bool) -> str:
    """For each frame the line that covers it, with its style marks; a line comes as often as it covers a frame."""
    lines = lines_at(read_subtitles(path, keep_empty=True), times_s, at_end=at_end)
    return "\n".join(line.marked for line in lines if line.marked.strip())


def _lmms_text(video: Video, clip: Clip | None) -> str:
    """Lines of 32 moments of the video, whichever frames the model sees, as lmms-eval chooses them.

    By the rate and the number of frames that the file's header states, which is what OpenCV has. In the place of what
    is not an .mp4 lmms-eval looks for a file that is not there, and so chooses no line.
    """
    if video.subtitles is None:
        return "No subtitles available"
    header = None if clip is None else clip.header
    if header is None:
        raise VideoError("which subtitles lmms-eval shows depends on the header of the video file, which is not known")
    known = video.path.suffix == ".mp4" and header.fps > 0 and header.frames
    return _lines_shown(video.subtitles, *((header.fps, header.frames or 0) if known else (0.0, 0)))


@lru_cache(maxsize=2)
def _lines_shown(subtitle_path: Path, fps: float, frames: int) -> str:
    lines = _lmms_lines(subtitle_path)
    spans = [(int(start * fps), int(end * fps)) for start, end in lines]
    chosen = []
    for frame in np.linspace(0, frames - 1, _LMMS_FRAMES, dtype=int).tolist():
        chosen += [number for number, (first, last) in enumerate(spans) if first <= frame < last]
    texts = list(lines.values())
    # A set's order is not always ascending, and it is the order in which lmms-eval shows the lines.
    found = [_LMMS_TEXT.search(texts[number]) for number in list(set(chosen))]
    return "\n".join(match.group(1) for match in found if match)


def _lmms_lines(path: Path) -> dict[tuple[float, float], str]:
    """Texts by (start, end) in seconds, with all marks; of two with the same times the later text counts."""
    lines = {}
    try:
        for section in path.read_text(encoding="utf-8").split("\n\n"):
            rows = section.split("\n")
            if section.strip() and len(rows) >= 3:
                start, end = (_seconds(clock) for clock in rows[1].split(" --> ")[:2])
                lines[start, end] = " ".join(rows[2:])
    except (OSError, ValueError) as error:
        raise VideoError(f"the subtitles {path} cannot be read as lmms-eval reads them: {first_line(error)}") from error
    return lines


def _seconds(clock: str) -> float:
    hours, minutes, rest = clock.split(":")
    seconds, milliseconds = rest.split(",")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(milliseconds) / 1000

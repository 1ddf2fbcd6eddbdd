"""LongVideoBench with subtitles: its questions after frames and spoken lines in the order of time.

The official input of the benchmark; the files and the scoring are those of ``longvideobench``. A model must take text
between frames. The Vamba paper has no such protocol: Vamba's video stands outside its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vamba_eval.contracts import Clip, FrameSampling, UserError, Video, VideoError
from vamba_eval.video.subtitles import Line, read_subtitles

from .longvideobench import LongVideoBench

_LMMS_FRAMES = 16  # lmms-eval's default max_num_frames


class LongVideoBenchSubtitles(LongVideoBench):
    name = "longvideobench_subtitles"
    catalogue = replace(
        LongVideoBench.catalogue,
        title="LongVideoBench (validation, with subtitles)",
        reported_as="",
        reads_data_of=("longvideobench",),
        in_lmms_eval=None,
    )
    protocols = ("official", "lmms-eval", "flexible")
    interleaved = protocols

    def sampling_under(self, protocol: str) -> FrameSampling:
        """The rule is the authors', in lmms-eval too, which shows at most 16 frames."""
        sampling = super().sampling_under("official")
        return replace(sampling, num_frames=_LMMS_FRAMES) if protocol == "lmms-eval" else sampling

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        videos = super().load(data_root, split)
        if videos and not any(video.subtitles for video in videos):
            raise UserError(
                f"{self.name}: none of its videos has its file in subtitles/: unpack the data set's subtitles.tar "
                "beside its videos/, or fetch it: run_eval.py download longvideobench"
            )
        return videos

    def captions(self, video: Video, clip: Clip, protocol: str) -> Sequence[tuple[int, str]]:
        """Each line before the first frame that is later than its middle, if it covers any frame at all.

        Raises VideoError without subtitles, or without the times that place them.
        """
        if video.subtitles is None:
            raise VideoError("its subtitles are missing: is the data set's subtitles.tar unpacked completely?")
        duration_s = video.duration_s
        offset_s = video.extra.get("starting_timestamp_for_subtitles")
        if duration_s is None or not isinstance(offset_s, int | float):
            raise VideoError("its annotation does not hold the times by which its subtitles are placed")
        count = len(clip.frames)
        if protocol == "lmms-eval":
            frame_times_s = _lmms_times(duration_s, count)
        else:
            if not np.isfinite(clip.timestamps_s).all():
                raise VideoError("frames of unknown rate have no times to place subtitles by: use the video file")
            frame_times_s = clip.timestamps_s
        lines = read_subtitles(video.subtitles, offset_s, keep_empty=True)
        placed = _placed(lines, frame_times_s, duration_s - offset_s)
        if protocol == "lmms-eval":
            return _joined_as_lines(placed, count)
        # Not empty even where no line is shown, so that the frames are images in any case.
        return [(place, text + "\n") for place, text in placed] or [(count, "")]


def _placed(lines: Sequence[Line], frame_times_s: np.ndarray, end_s: float) -> list[tuple[int, str]]:
    """(i, text) for each line that stands before frame i; one without an end lasts to ``end_s``.

    By insert_subtitles_into_frames of the authors' longvideobench_dataset.py: a line out of order goes where the last
    one went, and one of less than a second counts as a second long.
    """
    placed = []
    place = 0
    for line in lines:
        start, end = line.start_s, end_s if np.isinf(line.end_s) else line.end_s
        middle = (start + end) / 2
        while place < len(frame_times_s) and frame_times_s[place] <= middle:
            place += 1
        if end - start < 1:
            start, end = middle - 0.5, middle + 0.5
        if np.any((start < frame_times_s) & (frame_times_s < end)):
            placed.append((place, line.marked))
    return placed


def _lmms_times(duration_s: float, count: int) -> np.ndarray:
    """The times at which lmms-eval supposes ``count`` frames to stand; its frames' own differ a little.

    They are spread over the video, and a second apart in one of fewer seconds than frames were asked for, which the
    number of frames tells as long as 16 were.
    """
    if count != _LMMS_FRAMES and duration_s < count + 1:
        return np.arange(count, dtype=float)
    return np.array([duration_s / count * i for i in range(count)])


def _joined_as_lines(placed: Sequence[tuple[int, str]], count: int) -> list[tuple[int, str]]:
    """One caption a gap: lmms-eval puts each frame and each text on a line of its own."""
    texts: list[list[str]] = [[] for _ in range(count + 1)]
    for place, text in placed:
        texts[place].append(f"{text}\n")
    return [(0, "".join(texts[0])), *((place, "".join(["\n", *texts[place]])) for place in range(1, count + 1))]

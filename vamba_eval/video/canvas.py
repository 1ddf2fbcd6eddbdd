"""What every decoder shares: what is to be read, which frames of it are wanted, and the clip as it fills.

Knows neither files nor decoders: it is told a video's times and handed its frames.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vamba_eval.contracts import Clip, FrameSampling, Ladder, Rung, Sampling, VideoError
from vamba_eval.video.pixels import Geometry, resized, rgb

if TYPE_CHECKING:
    import av


@dataclass(frozen=True)
class Hooks:
    """How a reader is watched and where it puts its frames.

    empty   makes the (T, H, W, 3) uint8 array of a clip, once its size is known
    alive   is called at every packet and every frame
    """

    empty: Callable[[tuple[int, ...]], np.ndarray] = lambda shape: np.empty(shape, dtype=np.uint8)
    alive: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Choice:
    """The wanted frames' indices, ascending, and, of a ladder, those of each rung, or why it has none."""

    indices: list[int]
    rungs: tuple[list[int] | str, ...] = ()


@dataclass(frozen=True)
class Source:
    """What is to be read and how."""

    path: Path
    sampling: Sampling
    start_s: float | None
    end_s: float | None
    threads: int
    hooks: Hooks
    decode_on: str = "cpu"
    gpu_share: int = 1
    edits: bool = True  # whether the file's edit list counts

    def choose(self, times: np.ndarray, stated_fps: float, height: int, width: int, first_number: int = 0) -> Choice:
        """The wanted frames; some strategies repeat them.

        ``times``: (total,), seconds since the first frame, ascending. ``stated_fps``: the header's. ``first_number``:
        that of the first frame, where frames are files with numbers in their names.
        """
        fps = stated_fps if self.sampling.rate == "header" else mean_fps(times, stated_fps)
        if self.sampling.strategy == "segments":
            first, last = self._numbered_span(len(times), fps, first_number)
        else:
            first = 0 if self.start_s is None else int(np.searchsorted(times, self.start_s, side="left"))
            last = len(times) if self.end_s is None else int(np.searchsorted(times, self.end_s, side="right"))
        if last <= first:
            lasts = f"the video lasts {times[-1]:.1f} s" if len(times) else "the video has no frame"
            raise VideoError(f"no frame between {self.start_s} and {self.end_s} s: {lasts}")

        def chosen(rule: Rung) -> list[int]:
            if isinstance(rule, FrameSampling):
                return [first + i for i in rule.indices(last - first, fps, height, width)]
            return rule.within(first, last, len(times), fps)

        def chosen_or_why(rung: Rung) -> list[int] | str:
            try:
                return chosen(rung)
            except ValueError as error:
                return str(error)

        if isinstance(self.sampling, Ladder):  # each rung fails by itself
            rungs = [chosen_or_why(rung) for rung in self.sampling.rungs]
            return Choice(sorted({i for rung in rungs if not isinstance(rung, str) for i in rung}), tuple(rungs))
        try:
            return Choice(chosen(self.sampling))
        except ValueError as error:
            raise VideoError(str(error)) from error

    def _numbered_span(self, total: int, fps: float, first_number: int) -> tuple[int, int]:
        """The span from its first frame to behind its last, by MVBench's rule: a frame's number is its time
        times the average rate, rounded. Files that are numbered from 1 are taken by these numbers too."""
        first, last = 0, total - 1
        if (self.start_s is not None or self.end_s is not None) and not fps > 0:
            raise VideoError(f"{self.path}: its frame rate is unknown, so no part between two times can be read")
        if self.start_s is not None:
            first = max(first, round(self.start_s * fps) - first_number)
        if self.end_s is not None:
            last = min(last, round(self.end_s * fps) - first_number)
        return first, last + 1


# How far a header's rate may be from that of the times before these are believed: so many frames at the last frame, and
# such a share. Times are rounded to the container's clock, and recorders' clocks tremble.
_FRAMES_OFF, _SHARE_OFF = 0.5, 0.01


def mean_fps(times: np.ndarray, stated_fps: float) -> float:
    """Frames a second by the frames' ``times`` (total,), in seconds; ``stated_fps``, the header's, where these bear it
    out (it is the exact one, and what other readers count by) and where there are no two times.

    The mean over the whole video, so that ``fps`` frames a second of any video are as many as it has seconds. A median
    would give the rate of its livelier parts: of a recording that pauses, more frames than were asked for.
    """
    steps, seconds = len(times) - 1, float(times[-1] - times[0]) if len(times) else 0.0
    if not seconds > 0:
        return stated_fps
    if abs(stated_fps * seconds - steps) <= min(_FRAMES_OFF, _SHARE_OFF * steps):
        return stated_fps
    return steps / seconds


class Canvas:
    """A clip as it fills, at its final size; several threads may place frames at once.

    ``distinct`` are the wanted frames without repetition: each is decoded and resized once, however often it
    is shown. ``geometry`` is that of the stream's first frame, as which ``show`` shows all others.
    """

    def __init__(self, source: Source, choice: Choice, geometry: Geometry | None = None) -> None:
        self._source = source
        self.geometry = geometry
        self._other_sizes: set[tuple[int, int]] = set()
        self._wanted = np.array(choice.indices, dtype=np.int64)
        self._rungs = choice.rungs
        distinct, self._starts = np.unique(self._wanted, return_index=True)
        self.distinct: list[int] = distinct.tolist()
        self._lock = threading.Lock()
        self._frames: np.ndarray | None = None
        self._placed = np.zeros(len(self.distinct), dtype=bool)

    def show(self, position: int, frame: av.VideoFrame, codec: str) -> None:
        """``place`` a decoded frame, in the size and the orientation of the stream's first."""
        first = self.geometry
        if first is not None and (frame.width, frame.height) != (first.width, first.height):
            self._other_sizes.add(first.shown_size(frame.width, frame.height))
        self.place(position, rgb(frame, codec, first))

    def place(self, position: int, image: np.ndarray) -> None:
        """Resize ``image`` (H, W, 3) and show it as ``distinct[position]``. Raises VideoError if frames differ
        in size."""
        image = resized(image, self._source.sampling, len(self._wanted))
        with self._lock:
            if self._frames is None:
                self._frames = self._source.hooks.empty((len(self._wanted), *image.shape))
        if image.shape != self._frames.shape[1:]:
            before, now = self._frames.shape[1:3], image.shape[:2]
            raise VideoError(f"{self._source.path}: the frame size changes from {before} to {now} within the video")
        end = self._starts[position + 1] if position + 1 < len(self._starts) else len(self._wanted)
        self._frames[self._starts[position] : end] = image
        self._placed[position] = True
        self._source.hooks.alive()

    def clip(self, times: np.ndarray, stated_fps: float, note: str = "") -> Clip:
        """The finished clip; ``times`` are those of all frames. Raises VideoError where no rung has any."""
        fps = mean_fps(times, stated_fps)
        if not self.distinct and self._rungs:
            raise VideoError(str(self._rungs[0]))
        assert self._frames is not None and self._placed.all()
        if self._other_sizes and self.geometry is not None:
            sizes = " and ".join(f"{width}x{height}" for width, height in sorted(self._other_sizes))
            width, height = self.geometry.shown_size(self.geometry.width, self.geometry.height)
            first = f"{width}x{height}"
            resized_note = f"its frames of {sizes} are shown at the {first} of its first"
            note = "; ".join(text for text in (note, resized_note) if text)
        duration = float(times[-1]) + (1 / fps if fps > 0 else 0.0)
        parts = tuple(rung if isinstance(rung, str) else np.searchsorted(self._wanted, rung) for rung in self._rungs)
        return Clip(self._frames, times[self._wanted], self._wanted, fps, duration, note, parts=parts)

"""The sampled frames of a video file, exactly: one file in, one Clip out.

Only the stretches of the file that hold wanted frames are decoded, in several threads, and each frame is
resized as it comes, so memory holds a few full-size frames and the clip at its final size. Frames are
identified by presentation time in an index of all packets: frame i is the i-th to be shown, as in decord.
Where the index cannot be trusted the file is decoded from its start and what decodes is the truth.

Knows nothing of benchmarks, models or worker processes.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from PIL import Image

from vamba_eval import other_decoders
from vamba_eval.contracts import Clip, VideoError
from vamba_eval.packets import (
    Index,
    Interval,
    average_fps,
    best_stream,
    index_packets,
    intervals,
    open_video,
    packets,
    skips_unreferenced,
)
from vamba_eval.pixels import resized, rgb
from vamba_eval.sampling import FrameSampling, Ladder

if TYPE_CHECKING:
    from av.codec.context import CodecContext

# More frames than any decoder holds back to bring them into order (16 in H.264 and HEVC).
_CHECKED_FRAMES = 40

BACKENDS = ("pyav", "pyav-plain", *other_decoders.NAMES)


@dataclass(frozen=True)
class VideoInfo:
    """What a file's header says. ``duration_s`` is None if it says nothing."""

    codec: str
    width: int
    height: int
    fps: float
    duration_s: float | None


@dataclass(frozen=True)
class Hooks:
    """How a reader is watched and where it puts its frames.

    empty   makes the (T, H, W, 3) uint8 array of a clip, once its size is known
    alive   is called at every packet and every frame
    """

    empty: Callable[[tuple[int, ...]], np.ndarray] = lambda shape: np.empty(shape, dtype=np.uint8)
    alive: Callable[[], None] = lambda: None


def read_clip(
    path: str | Path,
    sampling: FrameSampling | Ladder | None = None,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    frames_per_second: float | None = None,
    backend: str = "pyav",
    threads: int | None = None,
    hooks: Hooks | None = None,
) -> Clip:
    """Read the frames that ``sampling`` picks (default: 512 uniform, longest edge 480); a Ladder's are told apart in
    the clip's ``parts``.

    path            a video file, or a folder of extracted frames: ``frame_0.jpg`` .. ``frame_{n-1}.jpg``, or
                    ``00001.jpg`` .. of any width (also ``.jpeg``, ``.png``)
    start_s, end_s  bound the part to sample from, in seconds since the first frame
    frames_per_second  the rate of a folder of extracted frames
    backend         ``pyav``; ``pyav-plain``, the same frames by decoding the whole file from its start;
                    ``torchcodec`` or ``decord``, if installed
    threads         how many threads decode (default: one for each core)

    Raises VideoError, with one line of reason, for anything that gives no frames, and MemoryError.
    """
    path = Path(path)
    sampling = sampling or FrameSampling()
    check_backend(backend)
    source = Source(path, sampling, start_s, end_s, threads or available_cores(), hooks or Hooks())
    if _is_folder(path):
        return _read_folder(source, frames_per_second)
    if backend in other_decoders.NAMES:
        return other_decoders.read(source, backend)
    try:
        return _read_file(source, plainly=backend == "pyav-plain")
    except (av.FFmpegError, UnicodeDecodeError) as error:
        if getattr(error, "errno", None) == errno.ENOMEM:
            raise MemoryError(reason(error)) from error
        raise _unreadable(path, error) from error


def check_backend(backend: str) -> None:
    """Raises ValueError for a name that is no backend."""
    if backend not in BACKENDS:
        raise ValueError(f"unknown video backend {backend!r}; choose from {', '.join(BACKENDS)}")


def probe(path: str | Path) -> VideoInfo:
    """What the header of a video file says; decodes nothing. Raises VideoError."""
    path = Path(path)
    if _is_folder(path):
        width, height = picture(_folder_frames(path)[0][0]).size
        return VideoInfo("jpeg", width, height, float("nan"), None)
    try:
        with open_video(path) as container:
            stream = best_stream(container, path)
            duration = container.duration / 1_000_000 if container.duration else None
            context = stream.codec_context
            info = VideoInfo(context.name, context.width, context.height, average_fps(stream), duration)
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    return info


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_folder(path: Path) -> bool:
    """Whether ``path`` is a folder; VideoError if it is neither that nor a file with something in it."""
    try:
        if path.is_dir():
            return True
        if not path.exists():
            raise VideoError(f"no such file: {path}")
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty (0 bytes): download it again")
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror}") from error
    return False


# ------------------------------------------------------------------------------- what every backend shares


@dataclass(frozen=True)
class Choice:
    """The wanted frames' indices, ascending, and, of a ladder, those of each rung."""

    indices: list[int]
    rungs: tuple[list[int], ...] = ()


@dataclass(frozen=True)
class Source:
    """What is to be read and how."""

    path: Path
    sampling: FrameSampling | Ladder
    start_s: float | None
    end_s: float | None
    threads: int
    hooks: Hooks

    def choose(self, times: np.ndarray, fps: float, height: int, width: int, first_number: int = 0) -> Choice:
        """The wanted frames; some strategies repeat them.

        ``times``: (total,), seconds since the first frame, ascending. ``first_number``: that of the first
        frame, where frames are files with numbers in their names.
        """
        if self.sampling.strategy == "segments":
            first, last = self._numbered_span(len(times), fps, first_number)
        else:
            first = 0 if self.start_s is None else int(np.searchsorted(times, self.start_s, side="left"))
            last = len(times) if self.end_s is None else int(np.searchsorted(times, self.end_s, side="right"))
        if last <= first:
            lasts = f"the video lasts {times[-1]:.1f} s" if len(times) else "the video has no frame"
            raise VideoError(f"no frame between {self.start_s} and {self.end_s} s: {lasts}")

        def chosen(sampling: FrameSampling | Ladder) -> list[int]:
            return [first + i for i in sampling.indices(last - first, fps, height, width)]

        try:
            rungs = self.sampling.rungs if isinstance(self.sampling, Ladder) else ()
            return Choice(chosen(self.sampling), tuple(chosen(rung) for rung in rungs))
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


class Canvas:
    """A clip as it fills, at its final size; several threads may place frames at once.

    ``distinct`` are the wanted frames without repetition: each is decoded and resized once, however often it
    is shown.
    """

    def __init__(self, source: Source, choice: Choice) -> None:
        self._source = source
        self._wanted = np.array(choice.indices, dtype=np.int64)
        self._rungs = choice.rungs
        distinct, self._starts = np.unique(self._wanted, return_index=True)
        self.distinct: list[int] = distinct.tolist()
        self._lock = threading.Lock()
        self._frames: np.ndarray | None = None
        self._placed = 0

    def place(self, position: int, image: np.ndarray) -> None:
        """Resize ``image`` (H, W, 3) and show it as ``distinct[position]``. Raises VideoError if frames differ
        in size."""
        image = resized(image, self._source.sampling)
        with self._lock:
            if self._frames is None:
                self._frames = self._source.hooks.empty((len(self._wanted), *image.shape))
            self._placed += 1
        if image.shape != self._frames.shape[1:]:
            before, now = self._frames.shape[1:3], image.shape[:2]
            raise VideoError(f"{self._source.path}: the frame size changes from {before} to {now} within the video")
        end = self._starts[position + 1] if position + 1 < len(self._starts) else len(self._wanted)
        self._frames[self._starts[position] : end] = image
        self._source.hooks.alive()

    def clip(self, times: np.ndarray, fps: float, note: str = "") -> Clip:
        """The finished clip; ``times`` are those of all frames."""
        assert self._frames is not None and self._placed == len(self.distinct)
        duration = float(times[-1]) + (1 / fps if fps > 0 else 0.0)
        parts = tuple(np.searchsorted(self._wanted, rung) for rung in self._rungs)
        return Clip(self._frames, times[self._wanted], self._wanted, fps, duration, note, parts=parts)


# ------------------------------------------------------------------------------------------ video files


class _IndexMismatch(Exception):
    """The file does not decode as its packets promised."""


def _read_file(source: Source, *, plainly: bool) -> Clip:
    path = source.path
    with open_video(path) as container:
        stream = best_stream(container, path)
        number = stream.index  # nothing of a stream may be asked once its container is closed
        index = index_packets(container, stream, path, source.hooks.alive)
        fps, time_base = average_fps(stream), float(stream.time_base or 0)
        height, width = stream.codec_context.height, stream.codec_context.width
    if index.cut_off:
        raise VideoError(f"{path} is cut off: {index.cut_off}; download it again")
    if index.trusted and not plainly:
        times = (np.array(index.pts, dtype=np.float64) - index.pts[0]) * time_base
        canvas = Canvas(source, source.choose(times, fps, height, width))
        try:
            _check_beginning(source, number, index)
            _decode_intervals(source, number, intervals(index, canvas.distinct), canvas, strict=index.closed)
            return canvas.clip(times, fps, index.note)
        except _IndexMismatch:
            pass
    return _read_plainly(source, index, fps, time_base, (height, width))


def _check_beginning(source: Source, stream_number: int, index: Index) -> None:
    """Whether the first frames come out in the order of their times, each of them.

    Times can be unique and yet wrong: files copied from AVI or a raw stream may state decoding times.
    """
    pts: list[int | None] = []
    with open_video(source.path) as container:
        stream = container.streams[stream_number]
        context = stream.codec_context
        _begin(context, 1, strict=index.closed)
        try:
            incoming = (packet for packet in packets(container, stream) if packet.size)  # type: ignore[arg-type]
            for packet in itertools.islice(incoming, _CHECKED_FRAMES):
                source.hooks.alive()
                pts += [frame.pts for frame in packet.decode()]
        except av.FFmpegError as error:
            raise _IndexMismatch from error
    if pts != index.pts[: len(pts)]:
        raise _IndexMismatch


def _decode_intervals(
    source: Source, stream_number: int, todo: Sequence[Interval], canvas: Canvas, *, strict: bool
) -> None:
    """Decode each interval at most once and only as far as its last wanted frame, several at a time."""
    queue = deque(todo)
    lanes = min(source.threads, len(todo))
    stop = threading.Event()

    def lane() -> None:
        try:
            with open_video(source.path) as container:
                stream = container.streams[stream_number]
                _begin(stream.codec_context, source.threads // lanes, strict=strict)
                skips = skips_unreferenced(stream)  # type: ignore[arg-type]
                while not stop.is_set():
                    try:
                        interval = queue.popleft()
                    except IndexError:
                        return
                    _decode_interval(source, container, stream, skips, interval, canvas, stop)
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(lanes) as pool:
        futures = [pool.submit(lane) for _ in range(lanes)]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            stop.set()


def _decode_interval(
    source: Source,
    container: Any,
    stream: Any,
    skips: bool,
    interval: Interval,
    canvas: Canvas,
    stop: threading.Event,
) -> None:
    remaining = dict(interval.targets)
    context = stream.codec_context

    def take(frames: Sequence[Any]) -> None:
        for frame in frames:
            position = remaining.pop(frame.pts, None)
            if position is not None:
                if frame.is_corrupt:
                    raise _IndexMismatch
                canvas.place(position, rgb(frame, context.name))

    try:
        container.seek(interval.key_pts, stream=stream, backward=True)
        unsent = set(remaining)
        begun = False
        for packet in packets(container, stream):
            source.hooks.alive()
            if stop.is_set():
                return
            if packet.size == 0:
                break
            if not begun:
                if not packet.is_keyframe:
                    continue
                if packet.pts is None or packet.pts > interval.key_pts:
                    raise _IndexMismatch  # the seek went too far
                begun = True
            if skips:
                # Frames that no other refers to are needed only if they are wanted themselves.
                context.skip_frame = "DEFAULT" if packet.pts in unsent else "NONREF"
            unsent.discard(packet.pts)
            take(packet.decode())
            if not unsent:
                break
        if remaining:
            take(context.decode(None))
    except av.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise
        raise _IndexMismatch from error
    if remaining:
        raise _IndexMismatch


def _begin(context: CodecContext, threads: int, *, strict: bool) -> None:
    """Set up a decoder. A strict one fails where it would otherwise conceal damage, which looks otherwise by
    where decoding began and what was skipped; but what an open GOP leans on is missing to it, too."""
    if strict:
        context.options = {"err_detect": "explode"}
    context.thread_count = max(1, threads)
    if threads > 1:
        context.thread_type = "AUTO"


def _read_plainly(source: Source, index: Index, fps: float, time_base: float, size: tuple[int, int]) -> Clip:
    """Slow and sure: decode the whole file in order; the frames that come out are the video's frames.

    In one thread: several conceal damage differently from time to time.
    """
    # The number of packets is mostly the number of frames: if it is, one pass does.
    times = np.array([]) if source.start_s or source.end_s else np.arange(len(index.pts)) / (fps if fps > 0 else 1.0)
    while True:
        canvas = Canvas(source, source.choose(times, fps, *size) if len(times) else Choice([]))
        places = {frame: position for position, frame in enumerate(canvas.distinct)}
        pts: list[int | None] = []
        for frame, codec in _all_frames(source):
            position = places.get(len(pts))
            pts.append(frame.pts)
            if position is not None:
                canvas.place(position, rgb(frame, codec))
        if not pts:
            raise VideoError(f"{source.path} holds no video frame that can be decoded")
        if 2 * len(pts) < len(index.pts):
            raise VideoError(
                f"{source.path} is damaged: {len(pts)} of its {len(index.pts)} frames can be decoded; download it again"
            )
        done = len(pts) == len(times)
        times = _times(pts, fps, time_base)
        if done:
            lost = len(index.pts) - len(pts)
            note = f"{lost} of its {len(index.pts)} frames cannot be decoded and do not count" if lost > 0 else ""
            return canvas.clip(times, fps, "; ".join(text for text in (note, index.note) if text))


def _times(pts: Sequence[int | None], fps: float, time_base: float) -> np.ndarray:
    """Seconds since the first frame, ascending, for frames in the order in which they came out.

    A frame without a time follows its predecessor by the usual distance; so does one whose clock was set back
    by more than a second (joined recordings), and all after it. What is left out of order by less are times
    of decoding.
    """
    step = 1 / (fps * time_base) if fps > 0 and time_base > 0 else 1.0
    ticks, shift = np.empty(len(pts)), 0.0
    for number, time in enumerate(pts):
        following = ticks[number - 1] + step if number else 0.0
        if time is not None and number and (time + shift - ticks[number - 1]) * time_base < -1.0:
            shift = following - time
        ticks[number] = following if time is None else time + shift
    ticks.sort()
    return (ticks - ticks[0]) * time_base


def _all_frames(source: Source) -> Iterator[tuple[av.VideoFrame, str]]:
    """Every frame that decodes, from the start of the file, and the decoder's name."""
    with open_video(source.path) as container:
        stream = best_stream(container, source.path)
        context = stream.codec_context
        context.thread_count = 1
        incoming = packets(container, stream)
        while True:
            try:
                packet = next(incoming, None)
            except av.FFmpegError:  # what follows the damage is lost; what the decoder holds is not
                packet = None
            source.hooks.alive()
            try:
                frames: list[Any] = context.decode(packet if packet is not None and packet.size else None)
            except av.FFmpegError as error:  # a broken packet costs its own frame
                if error.errno == errno.ENOMEM:
                    raise
                frames = []
            for frame in frames:
                yield frame, context.name
            if packet is None or not packet.size:
                return


def _unreadable(path: Path, error: Exception) -> VideoError:
    return VideoError(f"{path} cannot be read as a video: {reason(error)} (not a video, or damaged: download it again)")


def reason(error: Exception) -> str:
    """What went wrong, in one line."""
    text = getattr(error, "strerror", None) or str(error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__


# --------------------------------------------------------------------------------------- extracted frames


# How frames are called, and the number of the first: the Vamba scripts' folders, and TVQA's (in MVBench).
_FRAME_NAMES = ((re.compile(r"frame_(\d+)\.(?:jpe?g|png)"), 0), (re.compile(r"(\d+)\.(?:jpe?g|png)"), 1))


def _folder_frames(path: Path) -> tuple[list[Path], int]:
    """The frames in order, and the number of the first in its name."""
    files = list(path.iterdir())
    for form, first in _FRAME_NAMES:
        if named := [(int(match.group(1)), file) for file in files if (match := form.fullmatch(file.name))]:
            return _in_order(path, named, first), first
    raise VideoError(f"{path} is a folder without frames (expected frame_0.jpg, ... or 00001.jpg, ...)")


def _in_order(path: Path, named: list[tuple[int, Path]], first: int) -> list[Path]:
    numbered = dict(named)
    if len(numbered) != len(named):
        twice = next(number for number, file in named if numbered[number] != file)
        raise VideoError(f"{path} has frame number {twice} more than once: extract its frames again")
    missing = next((number for number in range(first, first + len(named)) if number not in numbered), None)
    if missing is not None:
        example = numbered[min(numbered)].name
        name = re.sub(r"\d+", lambda digits: str(missing).zfill(len(digits[0])), example)
        raise VideoError(f"{path} lacks {name}: extract its frames again")
    return [numbered[number] for number in sorted(numbered)]


def picture(file: Path) -> Image.Image:
    """An image file in RGB. Raises VideoError."""
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(f"{file} cannot be read as an image: {reason(error)}") from error


def _read_folder(source: Source, frames_per_second: float | None) -> Clip:
    files, first_number = _folder_frames(source.path)
    width, height = picture(files[0]).size
    fps = float("nan") if frames_per_second is None else frames_per_second
    if frames_per_second is None and (source.start_s is not None or source.end_s is not None):
        raise VideoError(f"{source.path}: extracted frames have no times, so no part between two times can be read")
    times = np.arange(len(files)) / fps
    canvas = Canvas(source, source.choose(times, fps, height, width, first_number))
    for position, index in enumerate(canvas.distinct):
        canvas.place(position, np.asarray(picture(files[index])))
    return canvas.clip(times, fps)

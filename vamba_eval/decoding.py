"""The sampled frames of a video file, exactly: one file in, one Clip out.

Only the stretches of the file that hold wanted frames are decoded, and each frame is resized as it
comes, so memory holds one full-size frame and the clip at its final size. Frames are identified by
presentation time in an index of all packets: frame i is the i-th to be shown, as in decord. Where the
index cannot be trusted the file is decoded from its start and what decodes is the truth.

Knows nothing of benchmarks, models or worker processes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vamba_eval.contracts import Clip, VideoError
from vamba_eval.sampling import FrameSampling

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

# The share of its declared length that a file may lack (headers round, and the last frame's duration may
# be missing) before it counts as cut off.
_MISSING_SHARE = 0.02

# Numbers of ISO/IEC 23091-2 (H.273) for matrix coefficients and of FFmpeg for ranges. What is not in the
# table (unspecified, RGB, YCgCo) is left to FFmpeg, which takes it as BT.601.
_BT601, _BT601_NTSC = 5, 6
_MATRIX = {1: 1, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9, 10: 9}
_LIMITED_RANGE, _FULL_RANGE = 1, 2


@dataclass(frozen=True)
class VideoInfo:
    """What a file's header says. ``duration_s`` is None if it says nothing."""

    codec: str
    width: int
    height: int
    fps: float
    duration_s: float | None


def read_clip(
    path: str | Path,
    sampling: FrameSampling | None = None,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
) -> Clip:
    """Read the frames that ``sampling`` picks (default: 512 uniform, longest edge 480).

    ``path`` is a video file or a folder of extracted frames ``frame_0.jpg`` .. ``frame_{n-1}.jpg``.
    ``start_s`` and ``end_s`` bound the part to sample from, in seconds since the first frame.
    Raises VideoError, with one line of reason, for anything that gives no frames.
    """
    path = Path(path)
    sampling = sampling or FrameSampling()
    if _is_folder(path):
        return _read_folder(path, sampling)
    import av

    try:
        with av.open(str(path)) as container:
            clip = _read_container(container, path, sampling, start_s, end_s)
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    return clip


def probe(path: str | Path) -> VideoInfo:
    """What the header of a video file says; decodes nothing. Raises VideoError."""
    path = Path(path)
    if _is_folder(path):
        width, height = _picture(_folder_frames(path)[0]).size
        return VideoInfo("jpeg", width, height, float("nan"), None)
    import av

    try:
        with av.open(str(path)) as container:
            stream = _best_stream(container, path)
            duration = container.duration / 1_000_000 if container.duration else None
            context = stream.codec_context
            info = VideoInfo(context.name, context.width, context.height, _average_fps(stream), duration)
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    return info


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


# ------------------------------------------------------------------------------------------ video files


@dataclass(frozen=True)
class _Index:
    """All frames of a stream, from its packets alone.

    pts          presentation times in the stream's time base, ascending: frame i is shown at pts[i]
    seek_pts     for frame i, the time of the key frame to decode from
    trusted      False if the times do not identify frames (missing or repeated)
    """

    pts: list[int]
    seek_pts: list[int]
    trusted: bool
    cut_off: str | None


class _IndexMismatch(Exception):
    """The file does not decode as its packets promised."""


def _read_container(
    container: InputContainer, path: Path, sampling: FrameSampling, start_s: float | None, end_s: float | None
) -> Clip:
    stream = _best_stream(container, path)
    stream.thread_type = "AUTO"
    index = _index_packets(container, stream)
    if index.cut_off:
        raise VideoError(f"{path} is cut off: {index.cut_off}; download it again")
    fps = _average_fps(stream)
    try:
        if not index.trusted:
            raise _IndexMismatch
        return _assemble(container, stream, index.pts, fps, sampling, start_s, end_s, index, path)
    except _IndexMismatch:
        # Slow and sure: one pass to learn which frames there are, one to take the wanted ones.
        times = [frame.pts for frame in _decode_all(path)]
        if not times:
            raise VideoError(f"{path} holds no video frame that can be decoded") from None
        if len(times) < (1 - _MISSING_SHARE) * len(index.pts):
            raise VideoError(
                f"{path} is damaged: {len(times)} of its {len(index.pts)} frames can be decoded; download it again"
            ) from None
        return _assemble(container, stream, times, fps, sampling, start_s, end_s, None, path)


def _best_stream(container: InputContainer, path: Path) -> VideoStream:
    stream = container.streams.best("video")
    if stream is None:
        raise VideoError(f"{path} has no video stream")
    return stream  # type: ignore[return-value]


def _average_fps(stream: VideoStream) -> float:
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate else float("nan")


def _index_packets(container: InputContainer, stream: VideoStream) -> _Index:
    import av

    key_pts: list[int] = []  # of each key frame, in decoding order
    order: list[tuple[int, int]] = []  # (pts, number of the last key frame at or before it in decoding order)
    end_s = 0.0  # of whatever lasts longest: a container may state one length for all its streams
    all_streams = stream.duration is None
    trusted, corrupt = True, False
    trouble: str | None = None
    try:
        for packet in container.demux() if all_streams else container.demux(stream):
            if packet.size == 0:
                continue
            if packet.pts is not None and packet.time_base:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index != stream.index:
                continue
            corrupt |= packet.is_corrupt
            if packet.pts is None:
                trusted = False
                continue
            if packet.is_keyframe:
                key_pts.append(packet.pts)
            if packet.is_discard:
                continue
            order.append((packet.pts, len(key_pts) - 1))
    except av.FFmpegError as error:
        trouble = _reason(error)
    order.sort()
    pts = [time for time, _ in order]
    trusted &= bool(pts) and len(set(pts)) == len(pts) and order[0][1] >= 0
    # A frame that is shown before its key frame leans on the interval before (an open GOP).
    seek_pts = [key_pts[key if time >= key_pts[key] else max(0, key - 1)] if key >= 0 else time for time, key in order]
    return _Index(pts, seek_pts, trusted, _cut_off(container, stream, pts, end_s, corrupt, trouble))


def _cut_off(
    container: InputContainer, stream: VideoStream, pts: list[int], end_s: float, corrupt: bool, trouble: str | None
) -> str | None:
    """Why the file looks like an unfinished download, or None. ``end_s`` is when the last packet ends."""
    if stream.duration and stream.time_base:
        promised = float(stream.duration * stream.time_base)
        held = end_s - float((stream.start_time or 0) * stream.time_base)
    else:
        # Where a container states one length for all, it counts from 0, not from the first frame.
        promised = (container.duration or 0) / 1_000_000
        held = end_s
    if promised - held > max(_MISSING_SHARE * promised, 1.0):
        return f"its header promises {promised:.1f} s, {max(held, 0.0):.1f} s are there"
    if (corrupt or trouble) and stream.frames and len(pts) < stream.frames:
        return f"its header promises {stream.frames} frames, {len(pts)} are there"
    return None


def _assemble(
    container: InputContainer,
    stream: VideoStream,
    pts: list[int],
    fps: float,
    sampling: FrameSampling,
    start_s: float | None,
    end_s: float | None,
    index: _Index | None,
    path: Path,
) -> Clip:
    time_base = float(stream.time_base or 0)
    times = (np.array(pts, dtype=np.float64) - pts[0]) * time_base
    first = 0 if start_s is None else int(np.searchsorted(times, start_s, side="left"))
    last = len(pts) if end_s is None else int(np.searchsorted(times, end_s, side="right"))
    if last <= first:
        raise VideoError(f"no frame between {start_s} and {end_s} s: the video lasts {times[-1]:.1f} s")
    context = stream.codec_context
    wanted = [first + i for i in _indices(sampling, last - first, fps, context.height, context.width)]

    decoded = _pick(_decode_all(path), wanted) if index is None else _decode_wanted(container, stream, index, wanted)
    frames: np.ndarray | None = None
    for position, frame in enumerate(decoded):
        image = _resized(_rgb(frame), sampling)
        if frames is None:
            frames = np.empty((len(wanted), *image.shape), dtype=np.uint8)
        if image.shape != frames.shape[1:]:
            raise VideoError(f"the frame size changes from {frames.shape[1:3]} to {image.shape[:2]} within the video")
        frames[position] = image
    assert frames is not None
    duration = times[-1] + (1 / fps if fps > 0 else 0.0)
    chosen = np.array(wanted, dtype=np.int64)
    return Clip(frames, times[chosen], chosen, fps, float(duration))


def _indices(sampling: FrameSampling, total: int, fps: float, height: int, width: int) -> list[int]:
    try:
        return sampling.indices(total, fps, height, width)
    except ValueError as error:
        raise VideoError(str(error)) from error


def _decode_wanted(
    container: InputContainer, stream: VideoStream, index: _Index, wanted: list[int]
) -> Iterator[av.VideoFrame]:
    """The wanted frames in order, decoding each key-frame interval at most once and no further than needed."""
    position = 0
    while position < len(wanted):
        seek_pts = index.seek_pts[wanted[position]]
        group_end = position
        while group_end < len(wanted) and index.seek_pts[wanted[group_end]] == seek_pts:
            group_end += 1
        targets = [index.pts[i] for i in wanted[position:group_end]]
        yield from _decode_interval(container, stream, seek_pts, targets)
        position = group_end


def _decode_interval(
    container: InputContainer, stream: VideoStream, seek_pts: int, targets: list[int]
) -> Iterator[av.VideoFrame]:
    import av

    container.seek(seek_pts, stream=stream, backward=True)
    found = 0
    try:
        for frame in container.decode(stream):
            if frame.pts is None:
                raise _IndexMismatch
            if frame.pts < targets[found]:
                continue
            if frame.pts > targets[found] or frame.is_corrupt:
                raise _IndexMismatch
            yield frame
            found += 1
            if found == len(targets):
                return
    except av.FFmpegError:
        pass
    raise _IndexMismatch


def _decode_all(path: Path) -> Iterator[av.VideoFrame]:
    """Every frame that decodes, from the start of the file, with a time of its own."""
    import av

    with av.open(str(path)) as container:
        stream = _best_stream(container, path)
        stream.thread_type = "AUTO"
        previous = None
        for packet in container.demux(stream):
            try:
                frames: list[Any] = packet.decode()
            except av.FFmpegError:  # a broken packet costs its own frame
                continue
            for frame in frames:
                if frame.pts is None or (previous is not None and frame.pts <= previous):
                    frame.pts = 0 if previous is None else previous + 1
                previous = frame.pts
                yield frame


def _pick(frames: Iterator[av.VideoFrame], wanted: list[int]) -> Iterator[av.VideoFrame]:
    last = wanted[-1]
    chosen = set(wanted)
    for number, frame in enumerate(frames):
        if number in chosen:
            yield frame
        if number == last:
            return


def _rgb(frame: av.VideoFrame) -> np.ndarray:
    """(H, W, 3) uint8, by the file's color tags, turned upright as its rotation metadata asks."""
    quarters = frame.rotation // 90 % 4
    space = _MATRIX.get(int(frame.colorspace), _BT601)
    format_says_full = frame.format.name.startswith("yuvj")
    full_range = format_says_full or int(frame.color_range) == _FULL_RANGE
    planes_are_yuv = not frame.format.is_rgb and len(frame.format.components) >= 3
    if planes_are_yuv and (space != _BT601 or full_range != format_says_full):
        # swscale is told of the source's matrix and range only if it differs from the target's, which mean
        # nothing for RGB: so name another one.
        frame = frame.reformat(
            format="rgb24",
            src_colorspace=space,
            dst_colorspace=_BT601 if space != _BT601 else _BT601_NTSC,
            src_color_range=_FULL_RANGE if full_range else _LIMITED_RANGE,
            dst_color_range=_FULL_RANGE,
        )
    image = frame.to_ndarray(format="rgb24")
    return np.rot90(image, k=quarters) if quarters else image


def _resized(image: np.ndarray, sampling: FrameSampling) -> np.ndarray:
    height, width = sampling.size(*image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), resample=Image.Resampling.BICUBIC))


def _unreadable(path: Path, error: Exception) -> VideoError:
    return VideoError(
        f"{path} cannot be read as a video: {_reason(error)} (not a video, or damaged: download it again)"
    )


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__


# --------------------------------------------------------------------------------------- extracted frames


def _folder_frames(path: Path) -> list[Path]:
    numbered = {}
    for file in path.iterdir():
        if match := re.fullmatch(r"frame_(\d+)\.jpe?g", file.name):
            numbered[int(match.group(1))] = file
    if not numbered:
        raise VideoError(f"{path} is a folder without frames (expected frame_0.jpg, frame_1.jpg, ...)")
    if sorted(numbered) != list(range(len(numbered))):
        missing = next(i for i in range(len(numbered)) if i not in numbered)
        raise VideoError(f"{path} lacks frame_{missing}.jpg: extract its frames again")
    return [numbered[i] for i in range(len(numbered))]


def _picture(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except OSError as error:
        raise VideoError(f"{file} cannot be read as an image: {_reason(error)}") from error


def _read_folder(path: Path, sampling: FrameSampling) -> Clip:
    files = _folder_frames(path)
    width, height = _picture(files[0]).size
    wanted = _indices(sampling, len(files), float("nan"), height, width)
    images = [_resized(np.asarray(_picture(files[i])), sampling) for i in wanted]
    if len({image.shape for image in images}) > 1:
        raise VideoError(f"the frames in {path} differ in size")
    unknown = np.full(len(wanted), np.nan)
    return Clip(np.stack(images), unknown, np.array(wanted, dtype=np.int64), float("nan"), float("nan"))

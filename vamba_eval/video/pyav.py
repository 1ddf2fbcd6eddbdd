"""The sampled frames of a video file by PyAV.

Frames are identified by presentation time in an index of all packets: frame i is the i-th to be shown, as in decord.
Only the intervals of the file that hold wanted frames are decoded, in several threads, and each frame is resized as
it comes, so memory holds a few full-size frames and the clip at its final size. Where the index cannot be trusted the
file is decoded from its start, and what decodes is the truth.

Knows nothing of other decoders, and leaves it to its caller to say what FFmpeg's errors mean.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from vamba_eval.contracts import Clip, VideoError
from vamba_eval.video.canvas import Canvas, Choice, Source
from vamba_eval.video.lanes import IndexMismatch, begin, decode_intervals, renamed
from vamba_eval.video.packets import (
    REORDERED_FRAMES,
    Index,
    best_stream,
    index_packets,
    numbered,
    open_video,
    packets_of,
    stated_fps,
)
from vamba_eval.video.pixels import Geometry

if TYPE_CHECKING:
    pass

_CHECKED_FRAMES = 40  # more than a decoder holds back


def read(source: Source, *, plainly: bool) -> Clip:
    """Read a clip; ``plainly`` from the file's start in any case. Raises VideoError, and FFmpeg's own errors."""
    path = source.path
    with open_video(path, edits=source.edits) as container:
        stream = best_stream(container, path)
        number = stream.index  # nothing of a stream may be asked once its container is closed
        index = index_packets(container, stream, path, source.hooks.alive)
        fps, time_base = stated_fps(stream), float(stream.time_base or 0)
        size = stream.codec_context.height, stream.codec_context.width
    if index.cut_off:
        raise VideoError(f"{path} is cut off: {index.cut_off}; download it again")
    if index.edited_away and source.edits:
        clip = read(replace(source, edits=False), plainly=plainly)
        note = "its edit list, which leaves no frame, does not count"
        return replace(clip, note="; ".join(text for text in (note, clip.note) if text))
    ways = [] if plainly else [index if index.trusted else None, numbered(index)]
    for known in filter(None, ways):
        try:
            beginning = _check_beginning(source, number, known)
        except IndexMismatch:
            continue
        try:
            times = _times(known.shown, fps, time_base)
            first = Geometry.of(beginning[0])
            canvas = Canvas(source, source.choose(times, fps, first.height, first.width), first)
            decode_intervals(source, number, known, canvas, beginning)
            return canvas.clip(times, fps, index.note)
        except IndexMismatch:
            break
    return _read_plainly(source, index, fps, time_base, size)


def _check_beginning(source: Source, stream_number: int, index: Index) -> list[av.VideoFrame]:
    """The first frames, if they come out in the order of their times, each of them.

    Times can be unique and yet wrong: files copied from AVI or a raw stream may state decoding times. So can be what
    tells numbers; and some files call every frame a key frame.
    """
    first: list[Any] = []
    numbering = index.numbering if index.by_number else None
    keys = set(index.key_pts) if index.by_number else set()
    with open_video(source.path, edits=source.edits) as container:
        stream = container.streams[stream_number]
        context: Any = stream.codec_context
        begin(context, 1, strict=index.closed)
        try:
            incoming: Iterator[Any] = (packet for packet in packets_of(container, stream) if packet.size)  # type: ignore[arg-type]
            if numbering is not None:
                incoming = renamed(incoming, numbering, 0, skipped=0)
            for packet in itertools.chain(itertools.islice(incoming, _CHECKED_FRAMES), [None]):
                if packet is None and first:
                    break  # what the decoder still holds is asked of a short video alone
                source.hooks.alive()
                for frame in context.decode(packet):
                    first.append(frame)
                    if frame.pts in keys and not frame.key_frame:
                        raise IndexMismatch
        except av.FFmpegError as error:
            raise IndexMismatch from error
    if not first:
        raise IndexMismatch
    pts = [frame.pts for frame in first]
    if numbering is not None and numbering.counted:  # their order is the decoder's alone
        if any(abs((number or 0) - place) > REORDERED_FRAMES for place, number in enumerate(pts)):
            raise IndexMismatch
    elif pts != index.pts[: len(pts)]:
        raise IndexMismatch
    return first


def _read_plainly(source: Source, index: Index, fps: float, time_base: float, size: tuple[int, int]) -> Clip:
    """Slow and sure: decode the whole file in order; the frames that come out are the video's frames.

    In one thread: several conceal damage differently from time to time.
    """
    try:  # mostly the packets say which frames will be wanted: then one pass does
        choice = source.choose(_times(index.pts, fps, time_base), fps, *size)
    except VideoError:
        choice = Choice([])
    while True:
        canvas = Canvas(source, choice)
        places = {frame: position for position, frame in enumerate(canvas.distinct)}
        pts: list[int | None] = []
        for frame, codec in _all_frames(source):
            canvas.geometry = Geometry.of(frame) if canvas.geometry is None else canvas.geometry.turned_as(frame)
            position = places.get(len(pts))
            pts.append(frame.pts)
            if position is not None:
                canvas.show(position, frame, codec)
        if canvas.geometry is None:
            raise VideoError(f"{source.path} holds no video frame that can be decoded")
        if 2 * len(pts) < len(index.pts):
            raise VideoError(
                f"{source.path} is damaged: {len(pts)} of its {len(index.pts)} frames can be decoded; download it again"
            )
        times = _times(pts, fps, time_base)
        guess, choice = choice, source.choose(times, fps, canvas.geometry.height, canvas.geometry.width)
        if choice == guess:
            lost = len(index.pts) - len(pts)
            note = f"{lost} of its {len(index.pts)} frames cannot be decoded and do not count" if lost > 0 else ""
            return canvas.clip(times, fps, "; ".join(text for text in (note, index.note) if text))


def _times(pts: Sequence[int | None], fps: float, time_base: float) -> np.ndarray:
    """Seconds since the first frame, ascending, for frames in the order in which they came out.

    A frame without a time follows its predecessor by the usual distance; so does one whose clock was set back
    by more than a second and more than any reordering (joined recordings), and all after it. What is left out of order
    by less are times of decoding.
    """
    if not pts:
        return np.empty(0)
    steps = [after - before for before, after in itertools.pairwise(pts) if None not in (before, after)]  # type: ignore[operator]
    step = float(np.median(np.abs(steps))) if steps else 1 / (fps * time_base) if fps > 0 and time_base > 0 else 1.0
    set_back = 1.0 + REORDERED_FRAMES * step * time_base
    ticks, shift = np.empty(len(pts)), 0.0
    for number, time in enumerate(pts):
        following = ticks[number - 1] + step if number else 0.0
        if time is not None and number and (time + shift - ticks[number - 1]) * time_base < -set_back:
            shift = following - time
        ticks[number] = following if time is None else time + shift
    ticks.sort()
    return (ticks - ticks[0]) * time_base


def _all_frames(source: Source) -> Iterator[tuple[av.VideoFrame, str]]:
    """Every frame that decodes, from the start of the file, and the decoder's name."""
    with open_video(source.path, edits=source.edits) as container:
        stream = best_stream(container, source.path)
        context = stream.codec_context
        context.thread_count = 1
        incoming = (packet for packet in packets_of(container, stream) if packet.size)
        while True:
            try:
                packet = next(incoming, None)
            except av.FFmpegError as error:  # what follows the damage is lost; what the decoder holds is not
                if error.errno == errno.ENOMEM:
                    raise
                packet = None
            source.hooks.alive()
            try:
                frames: list[Any] = context.decode(packet)
            except av.FFmpegError as error:  # a broken packet costs its own frame
                if error.errno == errno.ENOMEM:
                    raise
                frames = []
            for frame in frames:
                yield frame, context.name
            if packet is None:
                return

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
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from vamba_eval.contracts import Clip, FrameSet, VideoError
from vamba_eval.video.canvas import Canvas, Choice, Source
from vamba_eval.video.on_gpu import CODEC_NAMES, GpuError, GpuStream, Nv12, sessions
from vamba_eval.video.packets import (
    Index,
    Interval,
    average_fps,
    best_stream,
    index_packets,
    intervals,
    open_video,
    packets_of,
    skips_unreferenced,
)
from vamba_eval.video.pixels import rgb

if TYPE_CHECKING:
    from av.codec.context import CodecContext
    from av.packet import Packet

log = logging.getLogger(__name__)

# More frames than any decoder holds back to bring them into order (16 in H.264 and HEVC).
_CHECKED_FRAMES = 40


class _IndexMismatch(Exception):
    """The file does not decode as its packets promised."""


def read(source: Source, *, plainly: bool) -> Clip:
    """Read a clip; ``plainly`` from the file's start in any case. Raises VideoError, and FFmpeg's own errors."""
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
            first = _check_beginning(source, number, index)
            on_gpu = None if source.decode_on == "cpu" else _gpu_stream(source, number, index, first)
            _decode_intervals(source, number, intervals(index, canvas.distinct), canvas, index.closed, on_gpu)
            return canvas.clip(times, fps, index.note)
        except _IndexMismatch:
            pass
    return _read_plainly(source, index, fps, time_base, (height, width))


def _check_beginning(source: Source, stream_number: int, index: Index) -> list[av.VideoFrame]:
    """The first frames, if they come out in the order of their times, each of them.

    Times can be unique and yet wrong: files copied from AVI or a raw stream may state decoding times.
    """
    first: list[Any] = []
    with open_video(source.path) as container:
        stream = container.streams[stream_number]
        _begin(stream.codec_context, 1, strict=index.closed)
        try:
            incoming = (packet for packet in packets_of(container, stream) if packet.size)  # type: ignore[arg-type]
            for packet in itertools.islice(incoming, _CHECKED_FRAMES):
                source.hooks.alive()
                first += packet.decode()
        except av.FFmpegError as error:
            raise _IndexMismatch from error
    if [frame.pts for frame in first] != index.pts[: len(first)]:
        raise _IndexMismatch
    return first


def _gpu_stream(source: Source, stream_number: int, index: Index, first: Sequence[av.VideoFrame]) -> GpuStream | None:
    """The stream as the GPU decodes it; None if there is no GPU, or frames of such a stream may differ."""
    with open_video(source.path) as container:
        stream = container.streams[stream_number]
        name = CODEC_NAMES.get(stream.codec_context.name, stream.codec_context.name)
        if not sessions(name, source.gpu_share):
            return None
        try:
            return GpuStream(name, stream.codec_context.name, index, first)
        except GpuError as error:
            log.debug("%s is decoded on the CPU: %s", source.path, error)
            return None


def _decode_intervals(
    source: Source,
    stream_number: int,
    todo: Sequence[Interval],
    canvas: Canvas,
    strict: bool,
    on_gpu: GpuStream | None,
) -> None:
    """Decode each interval at most once and only as far as its last wanted frame, several at a time.

    Each lane takes the next interval when it is done with one, so that the GPU and the cores share the work by their
    speed.
    """
    queue = deque(todo)
    lanes = max(1, min(source.threads, len(todo)))
    stop = threading.Event()

    def each(decode: Callable[[Interval], None]) -> None:
        while not stop.is_set():
            try:
                interval = queue.popleft()
            except IndexError:
                return
            try:
                decode(interval)
            except GpuError:
                queue.appendleft(interval)
                raise

    def lane_on_cpu() -> None:
        with open_video(source.path) as container:
            stream = container.streams[stream_number]
            _begin(stream.codec_context, source.threads // lanes, strict=strict)
            skips = skips_unreferenced(stream)  # type: ignore[arg-type]

            def decode(interval: Interval) -> None:
                packets = _interval_packets(source, container, stream, interval, stop)
                _decode_on_cpu(stream.codec_context, packets, interval, skips, canvas)

            each(decode)

    def lane_on_gpu() -> None:
        assert on_gpu is not None
        try:
            with open_video(source.path) as container:
                stream = container.streams[stream_number]
                incoming = (packet for packet in packets_of(container, stream) if packet.size)  # type: ignore[arg-type]
                beginning = itertools.islice(incoming, _CHECKED_FRAMES)
                with on_gpu.decoder(stream, beginning) as decode:
                    each(
                        lambda interval: decode(
                            _interval_packets(source, container, stream, interval, stop), interval, hand_on
                        )
                    )
        except GpuError as error:
            log.debug("%s is decoded on the CPU: %s", source.path, error)

    # What follows decoding takes the core longer than the GPU took to decode, so it is for other threads.
    followers = ThreadPoolExecutor(source.threads)
    room = threading.Semaphore(2 * source.threads)
    handed_on: list[Future[None]] = []

    def hand_on(position: int, picture: Nv12) -> None:
        room.acquire()
        handed_on.append(followers.submit(follow, position, picture))

    def follow(position: int, picture: Nv12) -> None:
        assert on_gpu is not None
        try:
            canvas.place(position, rgb(on_gpu.frame(picture), on_gpu.decoder_name))
        finally:
            room.release()

    def together(work: Sequence[Callable[[], None]]) -> None:
        def run(lane: Callable[[], None]) -> None:
            try:
                lane()
            except BaseException:
                stop.set()
                raise

        with ThreadPoolExecutor(len(work)) as pool:
            futures = [pool.submit(run, lane) for lane in work]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                stop.set()
                raise

    if on_gpu is not None:
        work = [lane_on_gpu] * min(sessions(on_gpu.codec, source.gpu_share), len(todo))
        if source.decode_on == "auto":
            work += [lane_on_cpu] * (lanes // 2)
        with followers:
            together(work)
        for future in handed_on:
            future.result()
    if queue:
        together([lane_on_cpu] * lanes)


def _interval_packets(
    source: Source, container: Any, stream: Any, interval: Interval, stop: threading.Event
) -> Iterator[Packet]:
    """The packets from the interval's key frame to its last wanted frame. Raises _IndexMismatch."""
    unsent = set(interval.targets)
    begun = False
    try:
        container.seek(interval.key_pts, stream=stream, backward=True)
        for packet in packets_of(container, stream):
            source.hooks.alive()
            if stop.is_set():
                return
            if packet.size == 0:
                continue
            if not begun:
                if not packet.is_keyframe:
                    continue
                if packet.pts is None or packet.pts > interval.key_pts:
                    raise _IndexMismatch  # the seek went too far
                begun = True
            unsent.discard(packet.pts)
            yield packet
            if not unsent:
                return
    except av.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise
        raise _IndexMismatch from error


def _decode_on_cpu(context: Any, packets: Iterator[Packet], interval: Interval, skips: bool, canvas: Canvas) -> None:
    remaining = dict(interval.targets)

    def take(frames: Sequence[Any]) -> None:
        for frame in frames:
            position = remaining.pop(frame.pts, None)
            if position is not None:
                if frame.is_corrupt:
                    raise _IndexMismatch
                canvas.place(position, rgb(frame, context.name))

    try:
        for packet in packets:
            if skips:
                # Frames that no other refers to are needed only if they are wanted themselves.
                context.skip_frame = "DEFAULT" if packet.pts in interval.targets else "NONREF"
            take(packet.decode())
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
    guess = not (source.start_s or source.end_s or isinstance(source.sampling, FrameSet))
    times = np.arange(len(index.pts)) / (fps if fps > 0 else 1.0) if guess else np.array([])
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

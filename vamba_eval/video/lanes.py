"""Intervals of a video decoded several at a time: a lane is a thread with a decoder of its own.

On the CPU, and on the GPU beside it; each takes the next interval when it is done with one, so that they share the work
by their speed. Each interval is decoded at most once and only as far as its last wanted frame.

Knows an index and what is wanted of it; leaves it to its caller what becomes of a file that breaks its index's promise.
"""

from __future__ import annotations

import errno
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from typing import TYPE_CHECKING, Any

import av

from vamba_eval.video.canvas import Canvas, Source
from vamba_eval.video.nvdec import GpuError, Nv12
from vamba_eval.video.on_gpu import BEGINNING, GpuStream, codec_of, sessions
from vamba_eval.video.packets import Index, Interval, Numbering, intervals, open_video, packets_of, skips_unreferenced

if TYPE_CHECKING:
    from av.codec.context import CodecContext

log = logging.getLogger(__name__)


class IndexMismatch(Exception):
    """The file does not decode as its packets promised."""


def decode_intervals(
    source: Source, stream_number: int, index: Index, canvas: Canvas, first: Sequence[av.VideoFrame]
) -> None:
    """Show on ``canvas`` what it wants. ``first`` are the stream's first frames. Raises IndexMismatch."""
    lanes = _Lanes(source, stream_number, index, canvas)
    if lanes.todo and source.decode_on != "cpu":
        lanes.run_with_gpu(first)
    if lanes.todo:
        lanes.run_on_cpu()


class _Lanes:
    """The intervals that are still to be decoded, and the lanes that take them."""

    def __init__(self, source: Source, stream_number: int, index: Index, canvas: Canvas) -> None:
        self._source, self._number, self._index, self._canvas = source, stream_number, index, canvas
        self.todo = deque(intervals(index, canvas.distinct))
        self._lanes = max(1, min(source.threads, len(self.todo)))
        self._stop = threading.Event()

    def run_on_cpu(self) -> None:
        self._run([self._lane_on_cpu] * self._lanes)

    def run_with_gpu(self, first: Sequence[av.VideoFrame]) -> None:
        """As much as the GPU can decode; with ``decode_on="auto"`` the CPU takes its share beside it."""
        with open_video(self._source.path, edits=self._source.edits) as container:
            codec, name = codec_of(container.streams[self._number])
        with ThreadPoolExecutor(
            1
        ) as pool:  # what a thread asks of the GPU makes it that thread's, which a caller's is not
            wide = pool.submit(sessions, codec, self._source.gpu_share).result()
        try:
            if not wide:
                raise GpuError(f"no GPU for {codec}")
            found = GpuStream(codec, name, self._index, first)
        except GpuError as error:
            log.debug("%s is decoded on the CPU: %s", self._source.path, error)
            return
        work: list[Callable[[], None]] = []
        if self._source.decode_on == "auto":
            work += [self._lane_on_cpu] * (self._lanes // 2)
        with _Followers(found, self._canvas, name, self._source.threads, self._stop) as followers:
            work += [lambda: self._lane_on_gpu(found, followers)] * min(wide, len(self.todo))
            self._run(work)

    def _run(self, work: Sequence[Callable[[], None]]) -> None:
        def lane(act: Callable[[], None]) -> None:
            try:
                act()
            except BaseException:
                self._stop.set()
                raise

        with ThreadPoolExecutor(len(work)) as pool:
            futures = [pool.submit(lane, act) for act in work]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._stop.set()
                raise

    def _each(self, decode: Callable[[Interval], None]) -> None:
        while not self._stop.is_set():
            try:
                interval = self.todo.popleft()
            except IndexError:
                return
            try:
                decode(interval)
            except GpuError:
                self.todo.appendleft(interval)
                raise

    def _lane_on_cpu(self) -> None:
        with open_video(self._source.path, edits=self._source.edits) as container:
            stream = container.streams[self._number]
            begin(stream.codec_context, self._source.threads // self._lanes, strict=self._index.closed)
            skips = skips_unreferenced(stream)  # type: ignore[arg-type]
            self._each(lambda interval: self._on_cpu(container, stream, interval, skips))

    def _lane_on_gpu(self, found: GpuStream, followers: _Followers) -> None:
        try:
            with open_video(self._source.path, edits=self._source.edits) as container:
                stream: Any = container.streams[self._number]
                incoming = (packet for packet in packets_of(container, stream) if packet.size)
                with found.decoder(stream, itertools.islice(incoming, BEGINNING)) as decode:

                    def on_gpu(interval: Interval) -> None:
                        try:
                            decode(self._packets(container, stream, interval), interval, followers.hand_on)
                        except GpuError:
                            followers.wait()  # what it gave of the interval before must not be shown over the CPU's
                            raise

                    self._each(on_gpu)
        except GpuError as error:
            log.debug("%s is decoded on the CPU: %s", self._source.path, error)

    def _packets(self, container: Any, stream: Any, interval: Interval) -> Iterator[Any]:
        """The interval's packets, from its key frame to the last that is needed. Raises IndexMismatch."""
        unsent = set(interval.targets) if not interval.counted else set(range(interval.first, interval.end))
        begun = False
        try:
            for packet in _sought(container, stream, interval):
                self._source.hooks.alive()
                if self._stop.is_set():
                    return
                if packet.size == 0:
                    continue
                if not begun:
                    if not packet.is_keyframe:
                        continue
                    if packet.pts is None or packet.pts > interval.key_pts:
                        raise IndexMismatch  # the seek went too far
                    begun = True
                unsent.discard(packet.pts)
                yield packet
                if not unsent:
                    return
        except av.FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise
            raise IndexMismatch from error

    def _on_cpu(self, container: Any, stream: Any, interval: Interval, skips: bool) -> None:
        remaining = dict(interval.targets)
        context = stream.codec_context
        counted, count = interval.counted, 0

        def take(frames: Sequence[Any]) -> None:
            nonlocal count
            for frame in frames:
                position = remaining.pop(interval.key_pts + count if counted else frame.pts, None)
                count += 1
                if position is not None:
                    if frame.is_corrupt:
                        raise IndexMismatch
                    self._canvas.show(position, frame, context.name)

        try:
            for packet in self._packets(container, stream, interval):
                if skips and not counted:
                    # Frames that no other refers to are needed only if they are wanted themselves.
                    context.skip_frame = "DEFAULT" if packet.pts in interval.targets else "NONREF"
                take(packet.decode())
            if self._stop.is_set():
                return
            if remaining or counted:
                take(context.decode(None))
        except av.FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise
            raise IndexMismatch from error
        if remaining or (counted and count != interval.end - interval.first):
            raise IndexMismatch


class _Followers:
    """Threads for what follows decoding on the GPU, which takes a core longer than the GPU took; a context manager."""

    def __init__(self, stream: GpuStream, canvas: Canvas, codec: str, threads: int, stop: threading.Event) -> None:
        """The first that fails sets ``stop``, so that nobody decodes for it any more."""
        self._stream, self._canvas, self._codec, self._stop = stream, canvas, codec, stop
        self._pool = ThreadPoolExecutor(threads)
        self._room = threading.Semaphore(2 * threads)  # so that a few pictures wait, not a film
        self._handed_on: list[Future[None]] = []

    def hand_on(self, position: int, picture: Nv12) -> None:
        self._room.acquire()
        self._handed_on.append(self._pool.submit(self._follow, position, picture))

    def wait(self) -> None:
        """Until all that was handed on is shown."""
        wait(tuple(self._handed_on))

    def _follow(self, position: int, picture: Nv12) -> None:
        try:
            if not self._stop.is_set():
                self._canvas.show(position, self._stream.frame(picture), self._codec)
        except BaseException:
            self._stop.set()
            raise
        finally:
            self._room.release()

    def __enter__(self) -> _Followers:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._pool.shutdown()
        if kind is None:
            for future in self._handed_on:
                future.result()


def renamed(incoming: Iterator[Any], numbering: Numbering, first: int, skipped: int) -> Iterator[Any]:
    """The packets that ``numbering`` has from place ``first`` on, each with its frame's number for a time, of which
    ``incoming`` has the first behind at most ``skipped`` others. Raises IndexMismatch where other packets come."""
    begun = False
    for place in range(first, len(numbering.packets)):
        about = numbering.packets[place]
        for packet in incoming:
            if packet.size == about.size and (numbering.share_places or packet.pos == about.position):
                packet.pts, begun = numbering.numbers[place], True
                yield packet
                break
            if begun or not skipped:
                raise IndexMismatch
            skipped -= 1


def _sought(container: Any, stream: Any, interval: Interval) -> Iterator[Any]:
    """The packets from somewhere before ``interval`` on, or, where numbers name frames, from its first on."""
    numbering, first = interval.numbering, interval.first
    if numbering is None:
        container.seek(interval.key_pts, stream=stream, backward=True)
        yield from packets_of(container, stream)
        return
    begun = max(0, first - 1) if numbering.share_places else first
    while numbering.packets[begun].position is None:  # it begins where another one does
        begun -= 1
    about, skipped = numbering.packets[begun], first - begun + 1  # one may be the rest of the packet before
    if numbering.by_byte:
        container.seek(about.position, unsupported_byte_offset=True)
    else:
        container.seek(about.pts if about.dts is None else about.dts, stream=stream, backward=True)
        skipped = len(numbering.packets)  # it may be a key frame long before
    incoming = (packet for packet in packets_of(container, stream) if packet.size)
    yield from renamed(incoming, numbering, first, skipped)


def begin(context: CodecContext, threads: int, *, strict: bool) -> None:
    """Set up a decoder. A strict one fails where it would otherwise conceal damage, which looks otherwise by
    where decoding began and what was skipped; but what an open GOP leans on is missing to it, too."""
    if strict:
        context.options = {"err_detect": "explode"}
    context.thread_count = max(1, threads)
    if threads > 1:
        context.thread_type = "AUTO"

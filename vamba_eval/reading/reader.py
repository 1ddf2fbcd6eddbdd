"""Clips ahead of time: videos are read in processes that can be killed, while the model works.

A file that hangs, crashes its reader or eats memory costs a time limit, one more try with another decoder,
and at worst its own questions. Clips come through unnamed shared memory, so nothing is pickled and nothing is
left behind, however a process ends. Reading never raises: a video that cannot be read arrives with its reason.

The one place that decides when and where videos are read; knows neither models nor questions.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vamba_eval.contracts import Clip, Sampling, UserError, Video, VideoError, first_line
from vamba_eval.machine import available_cores
from vamba_eval.reading.cache import ClipCache, frames_digest
from vamba_eval.reading.worker import Address, Buffer, ReadRequest, ReadResult, begin_worker, read, serve
from vamba_eval.video import others
from vamba_eval.video.canvas import Hooks
from vamba_eval.video.nvdec import GpuError, check_gpu
from vamba_eval.video.read import VideoInfo, check_backend, check_decode_on

if TYPE_CHECKING:
    from pebble import ProcessFuture, ProcessPool

log = logging.getLogger(__name__)

_WATCH_EVERY_S = 0.5
_LEAST_MEMORY_GB = 0.5  # Python, NumPy, FFmpeg and a few frames
_PAUSE_S = 5.0  # a wait that is longer by this was a pause of the whole run: Ctrl-Z, a container that is paused
_BEGIN_S = 120.0  # for workers to start and to load their decoder, from a slow disk too


@dataclass(frozen=True)
class Reading:
    """How videos are read.

    backend     the decoder: "pyav", "pyav-plain", "torchcodec" or "decord"
    workers     processes that read; None for as many as the cores suggest, 0 to read in the calling process,
                where nothing can be killed
    stall_s     reading that makes no progress for this many seconds is ended
    memory_gb   what one worker may use beside its clip, in GiB
    cache       a directory that keeps clips for later runs
    cache_gb    its size in GiB; what was not used for longest goes first
    decode_on   "cpu"; "gpu", by its own decoders where a video's frames are proven to be the same; "auto", both at once
    """

    backend: str = "pyav"
    workers: int | None = None
    stall_s: float = 60.0
    memory_gb: float = 8.0
    cache: str | Path | None = None
    cache_gb: float = 100.0
    decode_on: str = "auto"

    def __post_init__(self) -> None:
        check_backend(self.backend)
        check_decode_on(self.decode_on, self.backend)
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"workers must not be negative: {self.workers}")
        if self.memory_gb < _LEAST_MEMORY_GB:
            raise ValueError(f"a worker needs {_LEAST_MEMORY_GB} GiB at least, not {self.memory_gb}")
        for name in ("stall_s", "cache_gb"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")


@dataclass
class Loaded:
    """A video with its clip, or with the reason why there is none.

    digest      identifies the frames' bytes
    seconds     what reading took, in the process that read
    saved_s     if the clip came from the cache: the seconds of reading that this saved; else None
    info        what the header says, where the video was only checked
    """

    video: Video
    clip: Clip | None = None
    problem: str | None = None
    digest: str | None = None
    seconds: float = 0.0
    saved_s: float | None = None
    info: VideoInfo | None = None

    def part(self, number: int) -> Loaded:
        """What the sampling of that number in a ladder would have given alone."""
        if self.clip is None:
            return self
        try:
            return self._with(self.clip.part(number))
        except VideoError as error:
            return replace(self, clip=None, digest=None, problem=str(error))

    def shuffled(self) -> Loaded:
        """The same frames in another order, which is the video's."""
        return self if self.clip is None else self._with(self.clip.shuffled(self.video.id))

    def _with(self, clip: Clip) -> Loaded:
        return replace(self, clip=clip, digest=frames_digest(clip.frames))


class Reader:
    """Reads videos by worker processes, which live until it is closed; a context manager.

    Raises UserError for a decoder that is not installed or a cache directory that cannot be used.
    """

    def __init__(self, reading: Reading | None = None, cores: int | None = None) -> None:
        """``cores`` are those to use, if not all that this process may."""
        self.reading = reading = reading or Reading()
        if reading.backend in others.NAMES and reading.backend not in others.installed():
            raise UserError(f"the video backend {reading.backend} is not installed: pip install {reading.backend}")
        if reading.decode_on == "gpu":
            try:
                check_gpu()
            except GpuError as error:
                raise UserError(
                    f"videos cannot be decoded on the GPU: {error}; leave it to --decode-on auto"
                ) from error
        self._cores = cores or available_cores()
        # A few videos at a time with a few threads each: never idle, and not a clip in memory for every core.
        few = max(min(2, self._cores), min(16, self._cores // 4))
        self.workers = few if reading.workers is None else reading.workers
        _, limit = resource.getrlimit(resource.RLIMIT_DATA)
        if self.workers and limit != resource.RLIM_INFINITY and limit < reading.memory_gb * 2**30:
            raise UserError(
                f"this process may have {limit / 2**30:.2f} GiB of data (ulimit -d), which is less than the "
                f"{reading.memory_gb:g} GiB of a process that reads videos: raise that limit, or lower "
                "--worker-memory-gb"
            )
        if reading.cache is not None:
            with ClipCache(reading.cache, reading.cache_gb) as cache:
                cache.tidy()
        self._pool: ProcessPool | None = None
        self._starter = ThreadPoolExecutor(1, "video-reader")
        self._broken_pools = 0
        self._looked = self._awake_since = 0.0  # when workers were last looked at, and since when all do their work
        self._cache_works = True

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Have the worker processes ready; else the first video waits for them."""
        if self.workers:
            self._starter.submit(lambda: self._processes().schedule(os.getpid)).result().result()

    def close(self) -> None:
        """End all workers."""
        self._stop_pool()
        self._starter.shutdown()

    def _stop_pool(self) -> None:
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None

    def clips(
        self,
        videos: Sequence[Video],
        sampling: Sampling | Callable[[Video], Sampling] | None,
        stop: threading.Event | None = None,
    ) -> Generator[Loaded]:
        """Read each video once, ahead of the caller; what is ready first comes first. ``sampling`` may be a function
        that gives each video its own; with none, only see that each opens.

        At most two clips more than there are workers are in memory, the one in the caller's hands included. Ends
        early when ``stop`` is set by another thread.
        """
        return self._run(videos, sampling, stop or threading.Event())

    def check(self, videos: Sequence[Video], stop: threading.Event | None = None) -> Generator[Loaded]:
        """For a model that looks at no video: only see that each opens, so that it faces the questions that
        others face. Where a benchmark's videos are not there at all, its annotations are enough."""
        if any(video.path.exists() for video in videos):
            return self.clips(videos, None, stop)
        return (Loaded(video) for video in videos)

    def _run(
        self,
        videos: Sequence[Video],
        sampling: Sampling | Callable[[Video], Sampling] | None,
        stop: threading.Event,
    ) -> Generator[Loaded]:
        waiting = deque(videos)
        reads: list[_PendingRead] = []

        def request_for(video: Video, threads: int) -> ReadRequest:
            how = self.reading
            bounds = (video.start_s, video.end_s)
            cache = (how.cache, how.cache_gb)
            own = sampling(video) if callable(sampling) else sampling
            request = ReadRequest(video.path, own, *bounds, how.backend, threads, *cache, video.frames_per_second)
            return replace(request, decode_on=how.decode_on, gpu_share=max(1, self.workers))

        if self.workers == 0:
            for video in videos:
                if stop.is_set():
                    return
                yield self._loaded(video, read(request_for(video, self._cores), Hooks()))
            return

        def top_up() -> None:
            while waiting and len(reads) <= self.workers:
                # The last few videos share all cores.
                threads = max(1, self._cores // min(self.workers, len(waiting)))
                video = waiting.popleft()
                reads.append(_PendingRead(video, request_for(video, threads)))
                self._send(reads[-1])

        try:
            top_up()
            while reads:
                pending = self._next_done(reads, stop)
                if pending is None:
                    return
                reads.remove(pending)
                top_up()  # before the model begins with this clip
                yield self._loaded(pending.video, pending.in_place())
                del pending
        finally:
            for pending in reads:
                pending.abandon()

    def _loaded(self, video: Video, result: ReadResult) -> Loaded:
        if result.cache_problem and self._cache_works:
            log.warning("the clip cache does not work, so videos are decoded: %s", result.cache_problem)
            self._cache_works = False
        if result.clip is not None and result.clip.note:
            log.warning("%s: %s", video.path, result.clip.note)
        return Loaded(video, result.clip, result.problem, result.digest, result.seconds, result.saved_s, result.info)

    def _next_done(self, reads: Sequence[_PendingRead], stop: threading.Event) -> _PendingRead | None:
        """The first that is ready, in the order of their start; None once ``stop`` is set."""
        since = looked = time.monotonic()
        if looked - self._looked > _PAUSE_S:  # by the model's work or a pause, which is not known here
            self._awake_since = max(
                self._awake_since, looked + min(_PAUSE_S, self.reading.stall_s) - self.reading.stall_s
            )
        while not stop.is_set():
            for pending in reads:
                if pending.future.done() and self._take(pending):
                    return pending
            self._see_to_pool(reads, max(since, self._awake_since))
            looked = time.monotonic()
            wait([pending.future for pending in reads], timeout=_WATCH_EVERY_S, return_when=FIRST_COMPLETED)
            self._looked = time.monotonic()
            if self._looked - looked > _WATCH_EVERY_S + _PAUSE_S:  # the workers stood still as well
                self._awake_since = self._looked
            for pending in reads:
                silent_s = min(pending.buffer.silent_s(), self._looked - self._awake_since)
                if not pending.future.done() and silent_s > self.reading.stall_s:
                    pending.stalled = True
                    pending.buffer.kill_worker()
        return None

    def _take(self, pending: _PendingRead) -> bool:
        """Take the outcome of a finished attempt; False if another one was begun."""
        from pebble import ProcessExpired

        try:
            result = pending.future.result()
        except ProcessExpired as error:
            stood_still = f"reading made no progress for {self.reading.stall_s:g} s"
            crashed = f"the reading process crashed ({_cause(error.exitcode)})"
            result = ReadResult(problem=stood_still if pending.stalled else crashed, try_another=True)
        except BrokenProcessPool as error:  # a worker died at rest, or none could be started
            if pending.pool is self._pool:  # else another one's misfortune, and a new pool is there
                self._restart_pool(error)
            pending.renew_buffer()
            self._send(pending)
            return False
        self._broken_pools = 0
        if result.problem is not None and (result.try_another or pending.problems):
            pending.problems.append(f"{pending.request.backend}: {result.problem}")
            if pending.request.decode_on != "cpu":  # the GPU's driver may be at fault
                pending.request = replace(pending.request, decode_on="cpu")
                pending.renew_buffer()
                self._send(pending)
                return False
            if pending.fallbacks and (len(pending.problems) == 1 or result.not_installed):
                pending.request = replace(pending.request, backend=pending.fallbacks.pop(0))
                pending.renew_buffer()  # who had the old one may not be dead yet
                self._send(pending)
                return False
        pending.result = result
        return True

    def _see_to_pool(self, reads: Sequence[_PendingRead], watching_since: float) -> None:
        """Have what no worker will ever read any more read by new ones: a pool that breaks forgets what it had not yet
        handed on, and a worker that is killed while it fetches work keeps all others from it."""
        lost = [pending for pending in reads if not pending.future.done()]
        since = max([watching_since, *(pending.sent for pending in lost)])
        idle = not any(pending.buffer.silent_s() for pending in lost)  # whoever has begun is watched for silence
        limit_s = max(_BEGIN_S, self.reading.stall_s)
        if self._pool is not None and not self._pool.active:
            self._restart_pool(RuntimeError("a worker ended"))
        elif lost and idle and time.monotonic() - since > limit_s:
            self._restart_pool(RuntimeError(f"no worker began to read within {limit_s:g} s"))
        for pending in lost:
            if pending.pool is not self._pool:
                pending.renew_buffer()
                self._send(pending)

    def _send(self, pending: _PendingRead) -> None:
        """Have a worker read the video."""
        try:
            # By a thread that lives as long as the pool: workers die with the thread that started them.
            pending.future = self._starter.submit(self._schedule, pending.request, pending.buffer.address).result()
            pending.pool, pending.sent = self._pool, time.monotonic()
        except RuntimeError as error:  # the pool broke since it was last used
            self._restart_pool(error)
            self._send(pending)

    def _schedule(self, request: ReadRequest, buffer: Address) -> ProcessFuture[ReadResult]:
        return self._processes().schedule(serve, args=[request, buffer])

    def _processes(self) -> ProcessPool:
        if self._pool is None:
            from loky.backend import get_context
            from pebble import ProcessPool

            # loky's processes start from nothing: they inherit no lock, thread or GPU, and do not run the
            # caller's program again as multiprocessing's "spawn" does.
            limits = (int(self.reading.memory_gb * 2**30), os.getpid())
            self._pool = ProcessPool(
                self.workers, initializer=begin_worker, initargs=limits, context=get_context("loky")
            )
        return self._pool

    def _restart_pool(self, error: Exception) -> None:
        self._broken_pools += 1
        if self._broken_pools > 3:
            raise UserError(
                f"the processes that read videos cannot be started ({first_line(error)}); --workers 0 reads in this "
                "process"
            ) from error
        self._stop_pool()


class _PendingRead:
    """A video on its way: who reads it into which memory, and what went wrong so far."""

    result: ReadResult

    def __init__(self, video: Video, request: ReadRequest) -> None:
        self.video, self.request = video, request
        self.future: Future[ReadResult] = Future()
        self.pool: ProcessPool | None = None  # that ``future`` is of
        self.sent = 0.0
        self.buffer = Buffer()
        self.fallbacks = [name for name in (*others.installed(), "pyav-plain") if name != request.backend]
        self.problems: list[str] = []
        self.stalled = False

    def renew_buffer(self) -> None:
        self.stalled = False
        self.buffer.close()
        self.buffer = Buffer()

    def in_place(self) -> ReadResult:
        """The result with its frames in place."""
        result = self.result
        if result.clip is not None:
            # A copy: the pool may keep the result itself for a while, and must not keep the frames with it.
            result = replace(result, clip=replace(result.clip, frames=self.buffer.frames(result.shape)))
            if self.problems and result.clip is not None:
                notes = [*self.problems, f"read with {self.request.backend} instead", result.clip.note]
                result.clip.note = "; ".join(note for note in notes if note)
        elif self.problems:
            result.problem = f"{self.video.path}: {'; '.join(self.problems)}"
        self.buffer.close()
        return result

    def abandon(self) -> None:
        self.future.cancel()
        self.buffer.close()


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return signal.Signals(-exit_code).name
    return f"exit status {exit_code}"

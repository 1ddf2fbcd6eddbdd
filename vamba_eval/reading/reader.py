"""Clips ahead of time: videos are read in processes that can be killed, while the model works.

A file that hangs, crashes its reader or eats memory costs a time limit, one more try with another decoder,
and at worst its own questions. Clips come through unnamed shared memory, so nothing is pickled and nothing is
left behind, however a process ends. Reading never raises: a video that cannot be read arrives with its reason.

The one place that decides when and where videos are read; knows neither models nor questions.
"""

from __future__ import annotations

import logging
import math
import os
import resource
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path

from vamba_eval.contracts import Clip, Sampling, UserError, Video, VideoError, VideoInfo, system_reason
from vamba_eval.machine import available_cores, available_memory
from vamba_eval.reading.cache import ClipCache, frames_digest
from vamba_eval.reading.process import Process, end
from vamba_eval.reading.worker import Buffer, Limits, ReadRequest, ReadResult, begin_worker, read, serve
from vamba_eval.video import others
from vamba_eval.video.canvas import Hooks
from vamba_eval.video.nvdec import GpuError, check_gpu
from vamba_eval.video.read import check_backend, check_decode_on

log = logging.getLogger(__name__)

_WATCH_EVERY_S = 0.5
_LEAST_MEMORY_GB = 0.5  # Python, NumPy, FFmpeg and a few frames
_PAUSE_S = 5.0  # a wait that is longer by this was a pause of the whole run: Ctrl-Z, a container that is paused
_MOST_GPU_FAILURES = 2  # of processes that decode on it, before it is left alone
_BEGIN_S = 120.0  # for workers to start and to load their decoder, from a slow disk too
_CLIPS_SHARE = 0.8  # of the memory that can be had; models make something of a clip
_MOST_STARTS = 3  # that fail, of each worker
_MOST_HELD = 16  # processes that do not die; each keeps its memory
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM")  # such as by the system, when memory is short


@dataclass(frozen=True)
class Reading:
    """How videos are read.

    backend     the decoder: "pyav", "pyav-plain", "torchcodec" or "decord"
    workers     processes that read; None for as many as the cores suggest, 0 to read in the calling process,
                where nothing can be killed
    stall_s     reading that makes no progress for this many seconds is ended
    total_s     so is reading that takes this many in all, whatever its progress
    memory_gb   what one worker may use beside its clip, in GiB
    cache       a directory that keeps clips for later runs
    cache_gb    its size in GiB; what was not used for longest goes first
    decode_on   "cpu"; "gpu", by its own decoders where a video's frames are proven to be the same; "auto", both at once
    """

    backend: str = "pyav"
    workers: int | None = None
    stall_s: float = 60.0
    total_s: float = 4 * 3600.0  # a film of two hours, decoded whole at half its speed, as a slow core does HEVC
    memory_gb: float = 8.0
    cache: str | Path | None = None
    cache_gb: float = 100.0
    decode_on: str = "auto"

    def __post_init__(self) -> None:
        check_backend(self.backend)
        check_decode_on(self.decode_on, self.backend)
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"workers must not be negative: {self.workers}")
        if not _LEAST_MEMORY_GB <= self.memory_gb < math.inf:
            raise ValueError(
                f"a worker needs {_LEAST_MEMORY_GB} GiB at least, and no end of them, not {self.memory_gb}"
            )
        for name in ("stall_s", "total_s", "cache_gb"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")


@dataclass
class Loaded:
    """A video with its clip, or with the reason why there is none.

    digest      identifies the frames' bytes
    seconds     what reading took, in the process that read
    saved_s     if the clip came from the cache: the seconds of reading that this saved; else None
    info        what the header says, where the video was only checked
    missing     no such file was there, when the video was only checked
    """

    video: Video
    clip: Clip | None = None
    problem: str | None = None
    digest: str | None = None
    seconds: float = 0.0
    saved_s: float | None = None
    info: VideoInfo | None = None
    missing: bool = False

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
        self._decode_on = _place_to_decode(reading)
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
            try:
                with ClipCache(reading.cache, reading.cache_gb) as cache:
                    cache.tidy()
            except OSError as error:
                log.warning("the clip cache %s cannot be tidied: %s", reading.cache, system_reason(error))
        num_clips = self.workers + 2
        self._limits = Limits(
            reading.total_s, reading.stall_s, num_clips, int(available_memory() * _CLIPS_SHARE) // num_clips
        )
        self._processes: list[Process] = []
        self._left: list[Process] = []  # killed, and not waited for
        self._at: dict[Process, _PendingRead] = {}
        self._starter = ThreadPoolExecutor(1, "video-reader")
        self._failed_starts = 0  # one after the other
        self._gpu_failures = 0
        self._looked = self._awake_since = 0.0  # when workers were last looked at, and since when all do their work
        self._cache_works = True

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Have the worker processes begin; else the first videos wait for them."""
        while len(self._processes) < self.workers:
            self._start_process()

    def close(self) -> None:
        """End all workers, but wait for none that the system does not let go."""
        end([*self._processes, *self._left])
        self._processes, self._left = [], []
        self._at.clear()
        self._starter.shutdown()

    def clips(
        self,
        videos: Sequence[Video],
        sampling: Sampling | Callable[[Video], Sampling] | None,
        stop: threading.Event | None = None,
        *,
        headers: bool = False,
    ) -> Generator[Loaded]:
        """Read each video once, ahead of the caller; what is ready first comes first. ``sampling`` may be a function
        that gives each video its own; with none, only see that each opens. With ``headers`` each clip says what those
        of its file state.

        At most two clips more than there are workers are in memory, the one in the caller's hands included. Ends
        early when ``stop`` is set by another thread.
        """
        return self._run(videos, sampling, stop or threading.Event(), headers)

    def check(self, videos: Sequence[Video], stop: threading.Event | None = None) -> Generator[Loaded]:
        """For a model that looks at no video: only see that each opens, so that it faces the questions that
        others face. Where a benchmark's videos are not there at all, its annotations are enough: so those that are
        missing are held back until one is there. The workers look, as looking may hang as well."""
        missing: list[Loaded] | None = []
        for loaded in self.clips(videos, None, stop):
            if missing is not None and loaded.missing:
                missing.append(loaded)
                continue
            if missing is not None:
                yield from missing
                missing = None
            yield loaded
        if missing is not None and len(missing) == len(videos):  # else it was stopped
            yield from (Loaded(video) for video in videos)

    def _run(
        self,
        videos: Sequence[Video],
        sampling: Sampling | Callable[[Video], Sampling] | None,
        stop: threading.Event,
        headers: bool,
    ) -> Generator[Loaded]:
        waiting = deque(videos)
        reads: list[_PendingRead] = []

        def request_for(video: Video, threads: int) -> ReadRequest:
            how = self.reading
            bounds = (video.start_s, video.end_s)
            cache = (how.cache, how.cache_gb)
            own = sampling(video) if callable(sampling) else sampling
            rate, place = video.frames_per_second, (self._decode_on, max(1, self.workers))
            return ReadRequest(
                video.path, own, *bounds, how.backend, threads, *cache, rate, headers, self._limits, *place
            )

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
            self._hand_out(reads)

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
                self._abandon(pending)

    def _loaded(self, video: Video, result: ReadResult) -> Loaded:
        if result.cache_problem and self._cache_works:
            log.warning("the clip cache does not work, so videos are decoded: %s", result.cache_problem)
            self._cache_works = False
        if result.clip is not None and result.clip.note:
            log.warning("%s: %s", video.path, result.clip.note)
        facts = (result.problem, result.digest, result.seconds, result.saved_s, result.info, result.missing)
        return Loaded(video, result.clip, *facts)

    def _next_done(self, reads: Sequence[_PendingRead], stop: threading.Event) -> _PendingRead | None:
        """The first that is ready, in the order of their start; None once ``stop`` is set."""
        looked = time.monotonic()
        if looked - self._looked > _PAUSE_S:  # by the model's work or a pause, which is not known here
            self._awake_since = max(
                self._awake_since, looked + min(_PAUSE_S, self.reading.stall_s) - self.reading.stall_s
            )
        while not stop.is_set():
            for pending in reads:
                if pending.result is not None:
                    return pending
            self._hand_out(reads)
            self._watch()
        return None

    def _hand_out(self, reads: Sequence[_PendingRead]) -> None:
        """Have workers read what nobody reads yet, in its order; start those that are missing."""
        open_ = [pending for pending in reads if pending.result is None and pending not in self._at.values()]
        free = [process for process in self._processes if process not in self._at]
        while len(free) < len(open_) and len(self._processes) < self.workers:
            free.append(self._start_process())
        ready = [process for process in free if process.ready and process.killed is None and not process.dead]
        for pending, process in zip(open_, ready, strict=False):
            pending.renew_buffer()  # who had the old one may not be dead yet
            self._at[process] = pending
            process.send((serve, (pending.request, pending.buffer.address)))

    def _start_process(self) -> Process:
        limits = (int(self.reading.memory_gb * 2**30), os.getpid())
        # By a thread that lives as long as the reader: workers die with the thread that started them.
        self._processes.append(self._starter.submit(Process, begin_worker, *limits).result())
        return self._processes[-1]

    def _watch(self) -> None:
        """Wait a moment for what workers have to say, and see that each goes on."""
        looked = time.monotonic()
        heard = wait([process.connection for process in self._processes], _WATCH_EVERY_S)
        self._looked = now = time.monotonic()
        if now - looked > _WATCH_EVERY_S + _PAUSE_S:  # the workers stood still as well
            self._awake_since = now
        for process in list(self._processes):
            if process.connection in heard:
                self._hear(process)
            elif process.held:
                self._leave(process)
            elif self._stands_still(process, now):
                if (pending := self._at.get(process)) is not None:
                    pending.stalled = True
                process.kill()

    def _stands_still(self, process: Process, now: float) -> bool:
        awake_s, pending = now - self._awake_since, self._at.get(process)
        if process.ready and pending is None:  # at rest
            return False
        if pending is not None and (silent_s := pending.buffer.silent_s()):
            return min(silent_s, awake_s) > self.reading.stall_s
        since = process.started if pending is None else pending.sent
        return min(now - since, awake_s) > max(_BEGIN_S, self.reading.stall_s)

    def _hear(self, process: Process) -> None:
        """Take what a worker says, or its death."""
        was_ready = process.ready
        try:
            result: ReadResult | None = process.receive()
        except EOFError:
            self._drop(process)
            if (pending := self._at.pop(process, None)) is not None:
                self._take(pending, self._failure(pending, process.cause()))
            elif not was_ready:
                self._failed_to_start(process.cause())
            return
        self._failed_starts = 0
        if result is not None:
            self._take(self._at.pop(process), result)

    def _failure(self, pending: _PendingRead, cause: str) -> ReadResult | None:
        """Of reading in a process that died; None for one that was killed from outside, if that is the first time."""
        if pending.stalled:
            return ReadResult(problem=self._stood_still(), try_another=True)
        if cause in _FROM_OUTSIDE and not pending.killed:
            pending.killed = True
            return None
        return ReadResult(problem=f"the reading process crashed ({cause})", try_another=True)

    def _stood_still(self) -> str:
        return f"reading made no progress for {self.reading.stall_s:g} s"

    def _leave(self, process: Process) -> None:
        """Go on without a worker that the system does not let go; what it read fails, since all that read it would be
        held in the same way. Raises UserError if that goes on and on, as each keeps its memory."""
        self._drop(process)
        if (pending := self._at.pop(process, None)) is not None:
            held = "the file system does not answer, and the reading process cannot be ended"
            on_gpu = pending.request.decode_on != "cpu"  # whose driver holds a process as a mount does
            self._take(pending, ReadResult(problem=f"{self._stood_still()}: {held}", try_another=on_gpu))
        else:
            self._failed_to_start("it cannot be ended")
        if sum(process.held for process in self._left) >= _MOST_HELD:
            raise UserError(
                f"{_MOST_HELD} processes that read videos are held by a file system that does not answer: see to the "
                "mount that the videos are on; what is answered is kept, and the same command goes on from here"
            )

    def _failed_to_start(self, cause: str) -> None:
        self._failed_starts += 1
        if self._failed_starts > _MOST_STARTS * self.workers:
            raise UserError(
                f"the processes that read videos cannot be started ({cause}); --workers 0 reads in this process"
            )

    def _take(self, pending: _PendingRead, result: ReadResult | None) -> None:
        """Take the outcome of an attempt, unless there is to be another one, which is the case for None."""
        pending.stalled = False
        if result is None:
            return
        if result.try_another and pending.request.decode_on != "cpu":
            # The GPU's driver may be at fault, of which the file and its decoder know nothing.
            log.warning("%s: %s; it is decoded on the cores", pending.video.path, result.problem)
            pending.request = replace(pending.request, decode_on="cpu")
            self._gpu_failures += 1
            if self._gpu_failures == _MOST_GPU_FAILURES:
                log.warning(
                    "reading with the GPU failed %d times: all else is decoded on the cores", _MOST_GPU_FAILURES
                )
                self._decode_on = "cpu"
            return
        if result.problem is not None and (result.try_another or pending.problems):
            pending.problems.append(f"{pending.request.backend}: {result.problem}")
            if pending.fallbacks and (len(pending.problems) == 1 or result.not_installed):
                pending.request = replace(pending.request, backend=pending.fallbacks.pop(0))
                return
        pending.result = result

    def _abandon(self, pending: _PendingRead) -> None:
        for process, at in list(self._at.items()):
            if at is pending:
                del self._at[process]
                process.kill()
                self._drop(process)
        pending.buffer.close()

    def _drop(self, process: Process) -> None:
        self._processes.remove(process)
        self._left = [each for each in (*self._left, process) if not each.dead]


def _place_to_decode(reading: Reading) -> str:
    """As ``reading`` says, or the cores where there is no GPU for ``auto``. Raises UserError if it asks for one."""
    if reading.backend != "pyav" or reading.decode_on == "cpu":
        return "cpu"
    if reading.workers == 0 and reading.decode_on == "auto":  # a fault of the driver would end the caller's process
        return "cpu"
    try:
        check_gpu()
    except GpuError as error:
        if reading.decode_on == "auto":
            return "cpu"
        raise UserError(f"videos cannot be decoded on the GPU: {error}; leave it to --decode-on auto") from error
    return reading.decode_on


class _PendingRead:
    """A video on its way: into which memory it is read, and what went wrong so far."""

    def __init__(self, video: Video, request: ReadRequest) -> None:
        self.video, self.request = video, request
        self.result: ReadResult | None = None
        self.sent = 0.0
        self.buffer = Buffer()
        self.fallbacks = [name for name in (*others.installed(), "pyav-plain") if name != request.backend]
        self.problems: list[str] = []
        self.stalled = False  # the worker is ended for that
        self.killed = False  # once, with the worker, by somebody else

    def renew_buffer(self) -> None:
        self.buffer.close()
        self.buffer, self.sent = Buffer(), time.monotonic()

    def in_place(self) -> ReadResult:
        """The result with its frames in place, which nothing here keeps."""
        result, self.result = self.result, None
        assert result is not None
        if result.clip is not None:
            result.clip.frames = self.buffer.frames(result.shape)
            if self.problems:
                notes = [*self.problems, f"read with {self.request.backend} instead", result.clip.note]
                result.clip.note = "; ".join(note for note in notes if note)
        elif self.problems:
            result.problem = f"{self.video.path}: {'; '.join(self.problems)}"
        self.buffer.close()
        return result

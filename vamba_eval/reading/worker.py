"""One video read in a process that is watched: what it is asked, what it says, and the memory shared.

Knows the decoder and the clip cache; knows nothing of pools, other videos or questions.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import math
import mmap
import os
import resource
import signal
import struct
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from vamba_eval.contracts import Clip, Sampling, UserError, VideoError, VideoInfo, system_reason
from vamba_eval.machine import available_memory
from vamba_eval.reading.cache import ClipCache, clip_key, frames_digest
from vamba_eval.video.canvas import Hooks
from vamba_eval.video.others import preload
from vamba_eval.video.read import probe, read_clip

log = logging.getLogger(__name__)

_HEADER_BYTES = mmap.ALLOCATIONGRANULARITY  # a clip's frames begin behind it
_SIGN = struct.Struct("=d")  # a sign of life: time.monotonic()
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_FIRST_TO_GO = "500"  # of 1000, for the system's out-of-memory killer


@dataclass(frozen=True)
class Limits:
    """What reading one video may take.

    total_s     seconds in all, however much progress it makes
    stall_s     seconds without a sign of life that no reading survives: longer ones were a pause of the whole run,
                and do not count
    num_clips   that may be in memory at once
    clip_bytes  of the frames of one
    """

    total_s: float = math.inf
    stall_s: float = math.inf
    num_clips: int = 1
    clip_bytes: float = math.inf


@dataclass(frozen=True)
class ReadRequest:
    """A clip to read, with what the file's ``header`` says; with no ``sampling`` that alone."""

    path: Path
    sampling: Sampling | None
    start_s: float | None
    end_s: float | None
    backend: str
    threads: int = 1
    cache: str | Path | None = None
    cache_gb: float = 100.0
    frames_per_second: float | None = None
    header: bool = False
    limits: Limits = Limits()
    decode_on: str = "cpu"
    gpu_share: int = 1


@dataclass
class ReadResult:
    """What came of a request.

    problem         why there is no clip, in one line
    try_another     the decoder failed in a way that another one may not
    not_installed   the decoder is not there
    digest          identifies the frames' bytes
    seconds         what it took
    saved_s         if the clip came from the cache: the seconds of reading that this saved; else None
    cache_problem   why the cache could not be used
    shape           of the clip's frames, where they are in a buffer
    info            what the header says, if that alone was asked for
    missing         no such file was there, if that alone was asked for
    """

    clip: Clip | None = None
    problem: str | None = None
    try_another: bool = False
    not_installed: bool = False
    digest: str | None = None
    seconds: float = 0.0
    saved_s: float | None = None
    cache_problem: str | None = None
    shape: tuple[int, ...] = ()
    info: VideoInfo | None = None
    missing: bool = False


def read(request: ReadRequest, hooks: Hooks) -> ReadResult:
    """Read what is asked for. Never raises: whatever a video does to a decoder becomes a reason."""
    start = time.perf_counter()
    result = ReadResult()
    hooks = _limited(hooks, request.limits)
    try:
        if request.sampling is None:
            result.missing = not request.path.exists()
            result.info = probe(request.path)
        else:
            header = probe(request.path) if request.header else None
            _read_or_recall(request, request.sampling, hooks, result)
            assert result.clip is not None
            whole = request.start_s is None and request.end_s is None and request.path.is_file()
            result.clip = replace(result.clip, path=request.path if whole else None, header=header)
    except VideoError as error:
        result.problem = str(error)
    except UserError as error:
        result.problem, result.not_installed = str(error), True
    except MemoryError as error:
        result.problem, result.try_another = f"out of memory ({error or 'no more is allowed'})", True
    except OSError as error:
        result.problem = f"{request.path} cannot be read: {system_reason(error)}"
    except Exception as error:
        log.debug("reading failed", exc_info=error)
        result.problem = f"reading failed: {type(error).__name__}: {system_reason(error)}"
    result.seconds = time.perf_counter() - start
    return result


def _limited(hooks: Hooks, limits: Limits) -> Hooks:
    """``hooks`` that end a reading which takes more than it may."""
    begun = last = time.monotonic()

    def alive() -> None:
        nonlocal begun, last
        hooks.alive()
        now = time.monotonic()
        if now - last > limits.stall_s:
            begun += now - last
        last = now
        if now - begun > limits.total_s:
            raise VideoError(
                f"reading took {limits.total_s:g} s and was not at its end: give it longer (--read-limit), or encode "
                "the video anew"
            )

    def empty(shape: tuple[int, ...]) -> np.ndarray:
        size, most, room = math.prod(shape), limits.clip_bytes, available_memory()
        if size <= min(most, room):
            return hooks.empty(shape)
        count, height, width, _ = shape
        limit = f"{most / 2**20:,.0f} MiB can be had for each of {limits.num_clips} in memory at once"
        there = limit if size > most else f"{room / 2**20:,.0f} MiB are free"
        raise VideoError(
            f"a clip of {count:,} frames of {width}x{height} takes {size / 2**20:,.0f} MiB, and {there}: use fewer "
            "frames or smaller ones (--num-frames, --longest-edge), or read fewer at once (--workers)"
        )

    return Hooks(empty, alive)


def _read_or_recall(request: ReadRequest, sampling: Sampling, hooks: Hooks, result: ReadResult) -> None:
    key = None
    with suppress(FileNotFoundError, NotADirectoryError):  # ``read_clip`` says so
        if request.cache is not None:
            key = clip_key(
                request.path, sampling, request.start_s, request.end_s, request.frames_per_second, request.backend
            )
    if key is not None:
        start = time.perf_counter()
        recalled = _with_cache(request, result, lambda cache: cache.get(key, hooks))
        if recalled is not None:
            result.clip, result.digest, first_s = recalled
            result.saved_s = max(0.0, first_s - (time.perf_counter() - start))
            return
    start = time.perf_counter()
    clip = read_clip(
        request.path,
        sampling,
        start_s=request.start_s,
        end_s=request.end_s,
        frames_per_second=request.frames_per_second,
        backend=request.backend,
        threads=request.threads,
        hooks=hooks,
        decode_on=request.decode_on,
        gpu_share=request.gpu_share,
    )
    seconds = time.perf_counter() - start
    result.clip, result.digest = clip, frames_digest(clip.frames)
    if key is not None:
        _with_cache(request, result, lambda cache: cache.put(key, clip, result.digest or "", seconds))


def _with_cache(request: ReadRequest, result: ReadResult, use: Any) -> Any:
    """A cache that fails (a full disk) costs time, not clips."""
    try:
        with ClipCache(request.cache or "", request.cache_gb) as cache:
            return use(cache)
    except (UserError, OSError, ValueError, KeyError) as error:
        result.cache_problem = f"{type(error).__name__}: {system_reason(error)}"
        return None


def begin_worker(memory_bytes: int, parent: int) -> None:
    """Limit this process's memory, and have it die with its parent, even one that is killed."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    if sys.platform == "linux":
        # Where memory runs out after all, a worker goes, and is replaced, and not the run.
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
        # Some libraries (SVT-AV1) make the process that loads them a real-time one, and its children inherit
        # that: an endless loop would then keep its core even from the process that is to end it.
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before that
            os._exit(1)


def serve(request: ReadRequest, buffer: Address) -> ReadResult:
    """Read into the buffer there: the result's clip comes without its frames."""
    preload(request.backend)  # before the first sign of life, from which on silence counts
    try:
        hooks = _hooks_into(buffer)
    except OSError as error:
        return ReadResult(problem=f"nobody waits for it any more ({system_reason(error)})")
    result = read(request, hooks)
    if result.clip is not None:
        result.shape = result.clip.frames.shape
        result.clip.frames = np.empty(0, dtype=np.uint8)
    return result


def _hooks_into(buffer: Address) -> Hooks:
    """Raises OSError where the buffer is closed: its place may be that of any file by then, and nothing is written."""
    number = os.open(buffer.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    file = os.fdopen(number, "r+b", buffering=0)  # lives as long as the hooks
    about = os.fstat(number)
    if (about.st_dev, about.st_ino) != (buffer.device, buffer.inode):
        file.close()
        raise FileNotFoundError(errno.ENOENT, "the buffer is closed, and its place another file's", buffer.path)
    header = mmap.mmap(file.fileno(), _HEADER_BYTES)

    def alive() -> None:
        _SIGN.pack_into(header, 0, time.monotonic())

    def empty(shape: tuple[int, ...]) -> np.ndarray:
        size = _HEADER_BYTES + math.prod(shape)
        try:
            if hasattr(os, "posix_fallocate"):
                # Have the memory now: a page that cannot be had later would kill the process.
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return _mapped(file, shape)
        except OSError as error:
            raise MemoryError(f"no room for a clip of {size / 2**20:,.0f} MiB ({system_reason(error)})") from error

    alive()
    return Hooks(empty, alive)


class Address(NamedTuple):
    """Where a worker finds a buffer, and by what it knows that it is still that one."""

    path: str
    device: int
    inode: int


class Buffer:
    """Memory shared with a worker: the time of its last sign of life, then the frames.

    On Linux it has no name anywhere and is gone with the last process that has it open, and the size of
    /dev/shm does not bound it; elsewhere it is a temporary file.
    """

    def __init__(self) -> None:
        self._file: IO[bytes]
        if hasattr(os, "memfd_create"):
            self._file = os.fdopen(os.memfd_create("vamba_eval_clip"), "r+b", buffering=0)
            path = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        else:
            self._file = tempfile.NamedTemporaryFile("r+b", buffering=0, prefix="vamba_eval_clip_")  # noqa: SIM115
            path = self._file.name
        about = os.fstat(self._file.fileno())
        self.address = Address(path, about.st_dev, about.st_ino)
        self._file.truncate(_HEADER_BYTES)
        self._header = mmap.mmap(self._file.fileno(), _HEADER_BYTES)

    def silent_s(self) -> float:
        """Seconds since the worker's last sign of life; 0 before it began."""
        (last,) = _SIGN.unpack_from(self._header)
        return time.monotonic() - last if last else 0.0

    def frames(self, shape: tuple[int, ...]) -> np.ndarray:
        """What the worker put there; the array keeps the memory when the buffer is closed."""
        return _mapped(self._file, shape)

    def close(self) -> None:
        self._header.close()
        self._file.close()


def _mapped(file: IO[bytes], shape: tuple[int, ...]) -> np.ndarray:
    memory = mmap.mmap(file.fileno(), _HEADER_BYTES + math.prod(shape))
    return np.ndarray(shape, dtype=np.uint8, buffer=memory, offset=_HEADER_BYTES)

"""The sampled frames of a video file or of a folder of frames, exactly: one path in, one Clip out.

Chooses who reads a path, and says in one line why none can. Knows nothing of benchmarks, models or worker processes.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from math import floor
from pathlib import Path

import av

from vamba_eval.contracts import Clip, FrameSampling, Sampling, VideoError, VideoInfo, system_reason
from vamba_eval.machine import available_cores
from vamba_eval.video import others, pyav
from vamba_eval.video.canvas import Hooks, Source
from vamba_eval.video.packets import best_stream, open_video, stated_fps
from vamba_eval.video.pictures import folder_frames, is_animated_webp, open_image, read_animated_webp, read_folder
from vamba_eval.video.storage import patiently, read_error

DECODE_ON = ("cpu", "gpu", "auto")
BACKENDS = ("pyav", "pyav-plain", *others.NAMES)


def read_clip(
    path: str | Path,
    sampling: Sampling | None = None,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    frames_per_second: float | None = None,
    backend: str = "pyav",
    threads: int | None = None,
    hooks: Hooks | None = None,
    decode_on: str = "cpu",
    gpu_share: int = 1,
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
    decode_on       ``cpu``; ``gpu``, by the GPU's own decoders, where its frames are proven to be the CPU's; ``auto``,
                    by both at once. Byte for byte the same
    gpu_share       how many processes read on that GPU, which shares its decoders out among them

    Raises VideoError, with one line of reason, for anything that gives no frames, and MemoryError.
    """
    path = Path(path)
    sampling = sampling or FrameSampling()
    check_backend(backend)
    check_decode_on(decode_on, backend)
    source = Source(
        path, sampling, start_s, end_s, threads or available_cores(), hooks or Hooks(), decode_on, gpu_share
    )
    with _in_one_line(path):
        if _is_folder(path):
            return read_folder(source, frames_per_second)
        if is_animated_webp(path):
            return read_animated_webp(source)
        if backend in others.NAMES:
            return others.read(source, backend)
        return pyav.read(source, plainly=backend == "pyav-plain")


def check_backend(backend: str) -> None:
    """Raises ValueError for a name that is not a backend."""
    if backend not in BACKENDS:
        raise ValueError(f"unknown video backend {backend!r}; choose from {', '.join(BACKENDS)}")


def check_decode_on(decode_on: str, backend: str) -> None:
    """Raises ValueError for what is no place to decode on, or one that this backend does not know."""
    if decode_on not in DECODE_ON:
        raise ValueError(f"decode_on must be one of {', '.join(DECODE_ON)}, not {decode_on!r}")
    if decode_on == "gpu" and backend != "pyav":
        raise ValueError(f"the video backend {backend} does not decode on the GPU: leave decode_on, or use pyav")


def probe(path: str | Path) -> VideoInfo:
    """What the header of a video file says; decodes nothing. Raises VideoError."""
    path = Path(path)
    with _in_one_line(path):
        if _is_folder(path):
            width, height = open_image(folder_frames(path)[0][0]).size
            return VideoInfo("jpeg", width, height, float("nan"), None)
        with open_video(path) as container:
            stream = best_stream(container, path)
            duration = container.duration / 1_000_000 if container.duration else None
            context, fps = stream.codec_context, stated_fps(stream)
            frames = stream.frames or (floor(duration * fps + 0.5) if duration and fps > 0 else None)
            return VideoInfo(context.name, context.width, context.height, fps, duration, frames)


def _is_folder(path: Path) -> bool:
    """Whether ``path`` is a folder; VideoError if nothing is there or in it, OSError if that cannot be known."""
    try:
        about = patiently(path.stat)
    except (FileNotFoundError, NotADirectoryError):
        raise VideoError(f"no such file: {path}") from None
    if stat.S_ISREG(about.st_mode) and about.st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes): download it again")
    return stat.S_ISDIR(about.st_mode)


@contextmanager
def _in_one_line(path: Path) -> Iterator[None]:
    """Raises VideoError, or MemoryError, for whatever FFmpeg or the system says.

    FFmpeg's errors are about what is in the file, which may be damaged, even those that are called as the system's
    are: it reads files through ``storage``, which keeps the system's own errors to itself.
    """
    try:
        yield
    except (av.FFmpegError, UnicodeDecodeError) as error:
        if getattr(error, "errno", None) == errno.ENOMEM:
            raise MemoryError(system_reason(error)) from error
        what = f"{system_reason(error)} (not a video, or damaged: download it again)"
        raise VideoError(f"{path} cannot be read as a video: {what}") from error
    except OSError as error:
        raise read_error(path, error) from error

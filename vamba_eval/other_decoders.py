"""The same frames through decord or torchcodec: to compare with, and for files that PyAV fails on.

Their seeking and colors are their own. They know how many frames a file has and each one's time; which
frames and which size is decided as for PyAV.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from vamba_eval.contracts import Clip, UserError, VideoError

if TYPE_CHECKING:
    from vamba_eval.decoding import Source

NAMES = ("torchcodec", "decord")  # the better first


def read(source: Source, backend: str) -> Clip:
    """Read a clip with ``backend``, "decord" or "torchcodec". Raises VideoError; UserError if not installed."""
    try:
        return _read_decord(source) if backend == "decord" else _read_torchcodec(source)
    except ImportError as error:
        raise UserError(
            f"{backend} cannot be imported ({error}): pip install {backend}, or use --video-backend pyav"
        ) from error
    except (VideoError, MemoryError):
        raise
    except Exception as error:  # decord has errors of its own for each kind of file, torchcodec RuntimeErrors
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise VideoError(f"{source.path} cannot be read by {backend}: {text}") from error


def installed() -> list[str]:
    """Those of NAMES that are installed."""
    return [name for name in NAMES if find_spec(name) is not None]


def preload(backend: str) -> None:
    """Import what ``backend`` needs, if it is one of NAMES and installed: it can take many seconds."""
    if backend in NAMES:
        with suppress(Exception):
            import_module(f"{backend}.decoders" if backend == "torchcodec" else backend)


def _read_decord(source: Source) -> Clip:
    from decord import VideoReader, cpu

    from vamba_eval.decoding import Canvas

    reader = VideoReader(str(source.path), ctx=cpu(0), num_threads=source.threads)
    times = reader.get_frame_timestamp(range(len(reader)))[:, 0].astype(np.float64)
    times -= times[0]
    fps = float(reader.get_avg_fps())
    height, width = reader[0].shape[:2]
    canvas = Canvas(source, source.choose(times, fps, height, width))
    # All at once, as its users do: frames asked for one by one can be others, where its seeking is wrong.
    reader = VideoReader(str(source.path), ctx=cpu(0), num_threads=source.threads)
    frames = reader.get_batch(canvas.distinct).asnumpy()
    for position, image in enumerate(frames):
        canvas.place(position, image)
    return canvas.clip(times, fps)


def _read_torchcodec(source: Source) -> Clip:
    from torchcodec.decoders import VideoDecoder

    from vamba_eval.decoding import Canvas

    decoder = VideoDecoder(str(source.path), dimension_order="NHWC", num_ffmpeg_threads=source.threads)
    about = decoder.metadata
    total, fps = len(decoder), float(about.average_fps or "nan")
    # It keeps the frames' times to itself until they are decoded: only those of the clip are exact.
    times = np.arange(total) / fps if fps > 0 else np.full(total, np.nan)
    canvas = Canvas(source, source.choose(times, fps, about.height or 0, about.width or 0))
    first = float(about.begin_stream_seconds or 0.0)
    for position, index in enumerate(canvas.distinct):
        frame = decoder.get_frame_at(index)
        times[index] = frame.pts_seconds - first
        canvas.place(position, frame.data.numpy())
    return canvas.clip(times, fps)

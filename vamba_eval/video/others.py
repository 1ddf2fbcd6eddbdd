"""The same frames through decord or torchcodec: for comparison, and for files that PyAV fails on.

Their seeking and colors are their own. They know how many frames a file has and each one's time; which
frames and which size is decided as for PyAV. Neither is imported before it is to read, nor given a file that PyAV does
not open.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from vamba_eval.contracts import Clip, UserError, VideoError, first_line
from vamba_eval.video.canvas import Canvas, Source
from vamba_eval.video.packets import best_stream, index_packets, open_video
from vamba_eval.video.storage import StoredFile

if TYPE_CHECKING:
    from torchcodec.decoders import VideoDecoder

NAMES = ("torchcodec", "decord")  # the better first
_BATCH = 8


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
        raise VideoError(f"{source.path} cannot be read by {backend}: {first_line(error)}") from error


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

    # It reads the file by itself, and where the system cannot read on the video ends for it: so all packets are read
    # and counted beside it. (Handed a file object it would hold the whole file in memory.)
    packet_times = _packet_times(source)
    num_packets = len(packet_times)
    reader = VideoReader(str(source.path), ctx=cpu(0), num_threads=source.threads)
    if len(reader) < num_packets:
        raise VideoError(f"{source.path} cannot be read by decord: it finds {len(reader)} of {num_packets} frames")
    times = packet_times
    if len(reader) != num_packets:
        times = reader.get_frame_timestamp(range(len(reader)))[:, 0].astype(np.float64)
        times -= times[0]
    fps = float(reader.get_avg_fps())
    height, width = reader[0].shape[:2]
    canvas = Canvas(source, source.choose(times, fps, height, width))
    # In order by a fresh reader, which gives what its users get, even where its seeking is wrong; a few at a
    # time, because a whole batch holds every frame at full size and gives no sign of life for minutes.
    reader = VideoReader(str(source.path), ctx=cpu(0), num_threads=source.threads)
    for begin in range(0, len(canvas.distinct), _BATCH):
        batch = reader.get_batch(canvas.distinct[begin : begin + _BATCH]).asnumpy()
        for offset, image in enumerate(batch):
            canvas.place(begin + offset, image)
    return canvas.clip(times, fps)


def _read_torchcodec(source: Source) -> Clip:
    from torchcodec.decoders import VideoDecoder

    times = _packet_times(source)  # it keeps the frames' times to itself until they are decoded
    with StoredFile(source.path) as file:
        try:
            decoder = VideoDecoder(
                file,  # type: ignore[arg-type]
                dimension_order="NHWC",
                num_ffmpeg_threads=source.threads,
            )
            clip = _from_torchcodec(source, decoder, times)
        except Exception:
            file.check()
            raise
        file.check()
        return clip


def _from_torchcodec(source: Source, decoder: VideoDecoder, times: np.ndarray) -> Clip:
    about = decoder.metadata
    total, fps = len(decoder), float(about.average_fps or "nan")
    if len(times) != total:
        times = np.arange(total) / fps if fps > 0 else np.full(total, np.nan)
    canvas = Canvas(source, source.choose(times, fps, about.height or 0, about.width or 0))
    first = float(about.begin_stream_seconds or 0.0)
    for position, index in enumerate(canvas.distinct):
        frame = decoder.get_frame_at(index)
        times[index] = frame.pts_seconds - first
        canvas.place(position, frame.data.numpy())
    return canvas.clip(times, fps)


def _packet_times(source: Source) -> np.ndarray:
    """The packets' times in seconds since the first, ascending; of those that have one."""
    with open_video(source.path) as container:
        stream = best_stream(container, source.path)
        time_base = float(stream.time_base or 0)
        pts = np.array(index_packets(container, stream, source.path, source.hooks.alive).pts, dtype=np.float64)
    return (pts - pts[:1]) * time_base

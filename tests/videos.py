"""Real video files for the tests, encoded on the spot."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from PIL import Image

X264_OPEN = {"x264-params": "open-gop=1:keyint=25:bframes=3:b-pyramid=normal"}
X264_CLOSED = {"x264-params": "open-gop=0:keyint=30:bframes=3"}
X265_OPEN = {"x265-params": "open-gop=1:keyint=25:bframes=4:log-level=none"}
X265_CLOSED = {"x265-params": "open-gop=0:keyint=20:bframes=4:log-level=none"}
VP9 = {"deadline": "realtime", "cpu-used": "8", "g": "30", "lag-in-frames": "10"}
MPEG4 = {"bf": "2", "g": "20"}


@lru_cache(maxsize=4)
def _texture(height: int, width: int) -> np.ndarray:
    """Smooth random colors, larger than the frame, so that a wandering window gives distinct frames."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, ((height + 320) // 8, (width + 320) // 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width + 320, height + 320)))


def picture(number: int, height: int, width: int) -> np.ndarray:
    texture = _texture(height, width)
    y, x = number % 300, 2 * number % 300
    return np.ascontiguousarray(texture[y : y + height, x : x + width])


def make_video(
    path: Path,
    codec: str = "libx264",
    *,
    frames: int = 90,
    size: tuple[int, int] = (96, 160),
    rate: int = 25,
    options: dict[str, str] | None = None,
    variable: bool = False,
    container_options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
    colorspace: int | None = None,
    full_range: bool = False,
    first_pts: int = 0,
) -> Path:
    """A video of ``frames`` distinct pictures of ``size`` (height, width)."""
    height, width = size
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.options = options or {}
        if colorspace is not None:
            stream.codec_context.colorspace = colorspace
            stream.codec_context.color_range = 2 if full_range else 1
        if variable:
            stream.codec_context.time_base = Fraction(1, rate * 4)
        time = 0
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, height, width), format="rgb24")
            if first_pts:
                frame.pts, frame.time_base = first_pts + number, Fraction(1, rate)
            if variable:
                frame.pts, frame.time_base = time, Fraction(1, rate * 4)
                time += 4 if number % 3 else 9
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if codec == "libsvtav1":  # it makes its process a real-time one
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return path


def remux(
    source: Path,
    target: Path,
    *,
    first: int = 0,
    shift: int = 0,
    options: dict[str, str] | None = None,
    mangle: Callable[[int, bytes], bytes] = lambda number, content: content,
    decoding_times: bool = False,
) -> Path:
    """The packets of ``source`` from number ``first`` on in another container, later by ``shift`` ticks; with
    ``decoding_times`` each is said to be shown when it is decoded."""
    with av.open(str(source)) as read, av.open(str(target), "w", options=options or {}) as written:
        template = read.streams.video[0]
        stream = written.add_stream_from_template(template)
        packets = [packet for packet in read.demux(template) if packet.size]
        for number, packet in enumerate(packets[first:]):
            copy = av.Packet(mangle(number, bytes(packet)))
            copy.pts = (packet.dts if decoding_times else packet.pts) + shift
            copy.dts = packet.dts + shift
            copy.time_base, copy.duration, copy.is_keyframe = packet.time_base, packet.duration, packet.is_keyframe
            copy.stream = stream
            written.mux(copy)
    return target


def all_frames(path: Path) -> np.ndarray:
    """Every frame of the file that decodes, from its start: the truth."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for packet in container.demux(stream):
            try:
                frames += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
            except av.FFmpegError:
                continue
    return np.stack(frames)


def emptied(source: Path, target: Path, numbers: set[int]) -> Path:
    """A copy of an MP4 or MOV file of one track without B-frames whose packets of these numbers hold nothing: by the
    custom of some codecs they say that the frame before is shown on."""
    with av.open(str(source)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(source.read_bytes())
    for number in sorted(numbers, reverse=True):
        place, size = places[number]
        end = content.index(b"moov") - 4  # of the media data
        content[place:end] = content[place + size : end] + bytes(size)
        sizes, chunks = content.index(b"stsz") + 16, content.index(b"stco") + 8  # ISO/IEC 14496-12, 8.7.3 and 8.7.5
        content[sizes + 4 * number : sizes + 4 * number + 4] = bytes(4)
        for entry in range(chunks + 4, chunks + 4 + 4 * int.from_bytes(content[chunks : chunks + 4], "big"), 4):
            offset = int.from_bytes(content[entry : entry + 4], "big")
            if offset > place:
                content[entry : entry + 4] = (offset - size).to_bytes(4, "big")
    target.write_bytes(content)
    return target

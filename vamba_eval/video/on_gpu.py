"""Stretches of a video decoded on the GPU, where its frames are proven to be those that the CPU gives.

From there on a picture goes the way of every other: same tags, same conversion, same filter. That it is the same is
seen for each file on its first frames, which both decode; and what the standards leave open is not asked of the GPU.

Knows sessions and packets; leaves it to its caller which stretches there are and what becomes of those that fail.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from vamba_eval.video.entries import length_size, units
from vamba_eval.video.nvdec import CODECS, GpuError, Nv12, Session, gpu
from vamba_eval.video.packets import Index, Interval, skips_unreferenced
from vamba_eval.video.pixels import Geometry, rgb

if TYPE_CHECKING:
    from av.packet import Packet

# A thread spends about half of its time on what follows decoding, so more sessions than engines keep these busy.
_SESSIONS_PER_ENGINE = 1.5

_PROVEN_FRAMES = 16

_LEFT_TO_MODELS = 4 * 2**30  # bytes of the GPU's memory: where less is free, a model that fills it keeps it

BEGINNING = 40  # packets: more than those frames, and those that are shown after them, need


def sessions(codec: str, sharing: int) -> int:
    """How many sessions one of ``sharing`` processes should have on the GPU; 0 where there is none for ``codec``."""
    if codec not in CODECS:
        return 0
    try:
        found = gpu()
        found.enter()
        engines = found.engines(codec) if found.free_bytes() >= _LEFT_TO_MODELS else 0
    except GpuError:
        return 0
    return max(1, round(_SESSIONS_PER_ENGINE * engines / sharing)) if engines else 0


def codec_of(stream: Any) -> tuple[str, str]:
    """The stream's codec, and FFmpeg's decoder for it."""
    name = stream.codec_context.name
    return {"libdav1d": "av1"}.get(name, name), name


class GpuStream:
    """A stream that the GPU decodes; several threads may do so at once."""

    def __init__(self, codec: str, decoder: str, index: Index, first: Sequence[av.VideoFrame]) -> None:
        """``first`` are its first frames, in order, as the CPU's ``decoder`` gives them. Raises GpuError for streams of
        which it is known that frames may differ."""
        if index.by_number:
            raise GpuError("its times do not identify frames")
        if codec == "h264" and not index.closed:
            raise GpuError("open groups of pictures")  # what is left out of them shifts what others refer to
        if not first or any(not _alike(frame, first[0]) for frame in first):
            raise GpuError("its first frames differ in kind")
        if first[0].format.name not in ("yuv420p", "yuvj420p"):
            raise GpuError("not 8 bits and 4:2:0")
        self._codec, self._decoder = codec, decoder
        self._like, self._first = first[0], first[:_PROVEN_FRAMES]
        self._proving = threading.Lock()
        self._refused: GpuError | None = None

    @contextmanager
    def decoder(self, stream: Any, beginning: Iterable[Packet]) -> Iterator[Callable[..., None]]:
        """A function that decodes the ``packets`` of an ``interval`` and gives its pictures, each with its place, to
        ``take``. Raises GpuError if this stream's first frames, from the packets of its ``beginning``, are others than
        the CPU's, and from the function where not all come out, or damaged."""
        with Session(self._codec, (self._like.height, self._like.width)) as session:
            with self._proving:
                if self._first and self._refused is None:
                    try:
                        self._prove(session, stream, beginning)
                    except GpuError as error:
                        self._refused = error
            if self._refused is not None:
                raise self._refused
            skips = skips_unreferenced(stream)

            def decode(packets: Iterable[Packet], interval: Interval, take: Callable[[int, Nv12], None]) -> None:
                def needed() -> Iterator[tuple[bytes, int]]:
                    for data, pts in _coded(packets, stream, self._codec):
                        leads = pts < interval.key_pts  # it leans on what comes before the key frame, nothing on it
                        if pts in interval.targets or not (leads or (skips and _unreferenced(data, self._codec))):
                            yield data, pts

                session.decode(needed(), interval.targets, lambda pts, picture: take(interval.targets[pts], picture))

            yield decode

    def _prove(self, session: Session, stream: Any, beginning: Iterable[Packet]) -> None:
        shown: dict[int, Nv12] = {}
        times, geometry = {frame.pts for frame in self._first}, Geometry.of(self._like)
        session.decode(_coded(beginning, stream, self._codec), times, shown.__setitem__)
        for frame in self._first:
            mine = rgb(self.frame(shown[frame.pts]), self._decoder, geometry)
            if not np.array_equal(rgb(frame, self._decoder, geometry), mine):
                raise GpuError("its frames are not those of the CPU")
        self._first = []

    def frame(self, picture: Nv12) -> av.VideoFrame:
        """A picture as the CPU's decoder gives it: in three planes, with the tags of the first."""
        like = self._like
        frame = av.VideoFrame(like.width, like.height, like.format.name)
        frame.colorspace, frame.color_range = like.colorspace, like.color_range
        contents = (picture.luma, picture.chroma[..., 0], picture.chroma[..., 1])
        for plane, content in zip(frame.planes, contents, strict=True):
            rows = np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
            rows[: content.shape[0], : content.shape[1]] = content
        return frame


def _alike(one: av.VideoFrame, other: av.VideoFrame) -> bool:
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("width", "height", "colorspace", "color_range", "interlaced_frame", "rotation")
    ) and (one.format.name == other.format.name and not one.interlaced_frame)


def _coded(packets: Iterable[Packet], stream: Any, codec: str) -> Iterator[tuple[bytes, int]]:
    """The packets' content as the GPU takes it, and their times.

    In MP4 and Matroska the NAL units of H.264 and HEVC stand behind their lengths and the parameter sets in the header;
    the GPU wants them behind start codes, all in one stream (Annex B of both).
    """
    header = stream.codec_context.extradata or b""
    length_bytes = length_size(codec, header) if codec in ("h264", "hevc") else 0
    sets = _parameter_sets(header, codec) if length_bytes else b""
    for packet in packets:
        if packet.pts is None:
            raise GpuError("a packet without a time")
        data = bytes(packet)
        if length_bytes:
            data = b"".join(_START_CODE + unit for unit in _units(data, length_bytes))
        yield (sets + data if packet.is_keyframe else data), packet.pts


_START_CODE = b"\0\0\0\1"
_NEVER_WITHIN = (b"\0\0\0", b"\0\0\1", b"\0\0\2")  # a NAL unit: ITU-T H.264 and H.265, 7.4.1 and 7.4.2


def _parameter_sets(header: bytes, codec: str) -> bytes:
    """Those in an avcC or hvcC record (ISO/IEC 14496-15, 5.3.3.1 and 8.3.3.1), behind start codes."""
    found = []

    def take(place: int, count: int) -> int:
        for _ in range(count):
            size = int.from_bytes(header[place : place + 2], "big")
            found.append(_START_CODE + header[place + 2 : place + 2 + size])
            place += 2 + size
        return place

    if codec == "h264":
        place = take(6, header[5] & 31)
        take(place + 1, header[place])
    else:
        place = 23
        for _ in range(header[22]):
            place = take(place + 3, int.from_bytes(header[place + 1 : place + 3], "big"))
    return b"".join(found)


def _units(data: bytes, length_bytes: int) -> Iterator[bytes]:
    """The NAL units that stand behind their lengths. Raises GpuError if these do not add up."""
    place = 0
    while place < len(data):
        begin = place + length_bytes
        place = begin + int.from_bytes(data[place:begin], "big")
        if place > len(data):
            raise GpuError("damaged, as its lengths say")
        unit = data[begin:place].rstrip(b"\0")
        if any(mark in unit for mark in _NEVER_WITHIN):
            raise GpuError("damaged: it holds what no NAL unit may")
        yield unit


def _unreferenced(data: bytes, codec: str) -> bool:
    """Whether no other picture refers to the one in ``data`` (Annex B): ITU-T H.264, 7.4.1 (nal_ref_idc), and H.265,
    7.4.2.2 (the sub-layer non-reference pictures have even types under 16)."""
    for unit in units(data, 0):
        kind = (unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63) if unit else -1
        if codec == "h264" and 1 <= kind <= 5:
            return unit[0] >> 5 & 3 == 0
        if codec == "hevc" and 0 <= kind < 32:
            return kind < 16 and kind % 2 == 0
    return False

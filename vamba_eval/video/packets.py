"""What a video file holds, learned from its packets without decoding a frame.

Knows containers and their promises; knows neither pixels nor how wanted frames are chosen.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import av

from vamba_eval.contracts import VideoError, system_reason
from vamba_eval.video.formats import HEAD_BYTES, OPEN_OPTIONS, other_kind
from vamba_eval.video.lengths import END_WITH_A_MARK, promised_bytes
from vamba_eval.video.storage import StoredFile

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# The share of its declared length, in seconds or bytes, that may be missing from a file (headers round, and the last
# frame's duration may be missing) before it counts as cut off.
_MISSING_SHARE = 0.02
# FFmpeg's names of the containers that end with their last frames, but for so many bytes of tags or of an index.
_END_WITH_FRAMES = {"matroska,webm", "mpegts", "mpeg", "flv", "ivf", "nut"}
_TAIL_BYTES = 4096

# FFmpeg's names of the containers that state every frame's time themselves. In others (MPEG-PS and TS, AVI,
# raw streams) FFmpeg derives times as it reads, and after a seek it may derive others.
_STATES_TIMES = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv"}

_EDITED = {"mov,mp4,m4a,3gp,3g2,mj2"}  # those with edit lists

# Codecs whose decoder drops exactly the frames that no other frame refers to when asked to: ITU-T H.264
# marks them (nal_ref_idc 0), and the B-frames of MPEG-1, 2 and 4 are never referred to.
_MARK_UNREFERENCED = {"h264", "mpeg1video", "mpeg2video", "mpeg4"}


_BUFFER_BYTES = 256 * 1024  # what FFmpeg reads at once, as its own reader of files does


@dataclass(frozen=True)
class Index:
    """All frames of a stream.

    pts          presentation times in the stream's time base, ascending: frame i is shown at pts[i]
    key_pts      for frame i, the time of the key frame to decode from
    closed       whether a decoder can begin at each key frame and miss nothing (no open GOPs)
    trusted      False if the times do not identify frames (derived, missing, repeated, or before any key frame)
    edited_away  whether there are frames, and the file's edit list leaves none of them
    cut_off      why the file looks like an unfinished download, or None
    note         what is amiss, though too little to matter
    """

    pts: list[int]
    key_pts: list[int]
    closed: bool
    trusted: bool
    edited_away: bool
    cut_off: str | None
    note: str


@contextmanager
def open_video(path: Path, *, edits: bool = True) -> Iterator[InputContainer]:
    """The container in ``path``; nothing else is opened for it. Without ``edits`` all that the file holds is read,
    whatever its edit list says. Raises VideoError for what is no video, and FFmpeg's errors. What the system could not
    read of it is raised when the block ends, whatever came of it there: VideoError, or MemoryError."""
    with StoredFile(path) as file:
        what = other_kind(file.read_at(0, HEAD_BYTES))
        if what is not None:
            raise VideoError(f"{path} is not a video but {what}")
        try:
            with _opened(file, path, edits) as container:
                yield container
        except Exception:
            file.check()
            raise
        file.check()


def _opened(file: StoredFile, path: Path, edits: bool) -> InputContainer:
    options = OPEN_OPTIONS if edits else {**OPEN_OPTIONS, "ignore_editlist": "1"}
    try:
        return av.open(file, "r", buffer_size=_BUFFER_BYTES, container_options=options)
    except av.FFmpegError as error:
        if error.errno != errno.EINVAL:  # which FFmpeg says of a format that is not on the list, too
            raise
        raise VideoError(f"{path} is in no format of videos that is read, or damaged: download it again") from error


def best_stream(container: InputContainer, path: Path) -> VideoStream:
    """The video stream that FFmpeg prefers, cover pictures aside. Raises VideoError if there is none."""
    best = container.streams.best("video")
    candidates = ([best] if best is not None else []) + list(container.streams.video)
    for stream in candidates:
        if not _is_cover(stream):
            if stream.codec_context is None:
                raise VideoError(f"{path} is in a codec that this FFmpeg cannot decode")
            return stream  # type: ignore[return-value]
    raise VideoError(f"{path} has no video stream" + (", only a cover picture" if candidates else ""))


def _is_cover(stream: object) -> bool:
    """Whether a stream is one attached picture, as music files have."""
    disposition = getattr(stream, "disposition", None)
    return disposition is not None and bool(disposition & type(disposition).attached_pic)


def stated_fps(stream: VideoStream) -> float:
    """Frames a second by the file's header, which may be wrong; NaN where it says nothing."""
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate else float("nan")


def skips_unreferenced(stream: VideoStream) -> bool:
    """Whether the decoder may be told to skip frames that nothing refers to without any other frame changing.

    HEVC marks frames that nothing *in their temporal layer* refers to, so it needs a stream of one layer, as
    byte 21 of the decoder configuration (ISO/IEC 14496-15) tells.
    """
    name, extradata = stream.codec_context.name, stream.codec_context.extradata
    if name == "hevc" and extradata and len(extradata) > 22 and extradata[0] == 1:
        return (extradata[21] >> 3) & 7 == 1
    return name in _MARK_UNREFERENCED


def packets_of(container: InputContainer, stream: VideoStream | None = None) -> Iterator[Packet]:
    """The packets of ``stream`` or of all, from where the container stands to the end.

    Some are empty (in MPEG-4 part 2, MJPEG, QTRLE or Cinepak, and wherever a recorder dropped frames): the frame before
    is shown on. They have a time and no frame of their own, and no decoder takes them.
    """
    while True:
        try:
            for packet in container.demux() if stream is None else container.demux(stream):
                if packet.size or packet.pts is not None or packet.dts is not None:  # else PyAV's sign of the end
                    yield packet
            return
        except IndexError:
            # A stream that begins within the file is not known to PyAV: this one packet of it is skipped.
            continue


def index_packets(
    container: InputContainer, stream: VideoStream, path: Path, alive: Callable[[], None] = lambda: None
) -> Index:
    """Read all packets of ``stream``; ``alive`` is called at each."""
    h264 = stream.codec_context.extradata if stream.codec_context.name == "h264" else None
    length_size = (h264[4] & 3) + 1 if h264 and len(h264) > 6 and h264[0] == 1 else 0  # avcC, ISO/IEC 14496-15
    closed = True
    hidden = _is_hidden_vp8 if stream.codec_context.name == "vp8" else lambda packet: False
    key_pts: list[int] = []  # of each key frame, in decoding order
    order: list[tuple[int, int]] = []  # (pts, number of the last key frame at or before it in decoding order)
    ends: dict[int, int] = {}  # when each stream's last packet ends, in its time base
    trusted, trouble, discarded, gave_up = container.format.name in _STATES_TIMES, False, False, ""
    every_stream = stream.duration is None  # a container may state one length for all its streams
    number, last_byte = stream.index, 0
    try:
        for packet in packets_of(container, None if every_stream else stream):
            alive()
            pts = packet.pts
            last_byte = max(last_byte, (packet.pos or 0) + packet.size)
            if pts is not None:
                end = pts + (packet.duration or 0)
                if end > ends.get(packet.stream_index, end - 1):
                    ends[packet.stream_index] = end
            if packet.stream_index != number or packet.size == 0 or hidden(packet):
                continue
            trouble |= packet.is_corrupt
            if pts is None:
                trusted = False
                continue
            entry = _h264_entry(bytes(packet), length_size) if length_size and packet.is_keyframe else "closed"
            closed &= entry == "closed"
            if packet.is_keyframe and entry != "gradual":
                key_pts.append(pts)
            discarded |= packet.is_discard
            if not packet.is_discard:
                order.append((pts, len(key_pts) - 1))
    except av.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise
        trouble, gave_up = True, f"it cannot be read to its end ({system_reason(error)})"
    edited_away = not order and container.format.name in _EDITED and bool(discarded or stream.frames)
    order.sort()
    pts_list = [pts for pts, _ in order]
    # Frames shown before the first key frame may or may not decode.
    trusted = (
        trusted and bool(order) and len(set(pts_list)) == len(order) and order[0][1] >= 0 and order[0][0] >= key_pts[0]
    )
    end_s = max((end * float(container.streams[i].time_base or 0) for i, end in ends.items()), default=0.0)
    with StoredFile(path) as file:
        held, promised = file.size, promised_bytes(file)
    missing = None if promised is None else max(0, promised - held)
    cut_off = _cut_off(container, stream, held, missing, end_s, len(order), trouble)
    notes = [f"the last {missing:,} bytes of the file are missing"] if missing else []
    if gave_up:
        notes.append(gave_up)
    elif container.format.name in _END_WITH_FRAMES:
        behind = held - last_byte
        if order and behind > max(_MISSING_SHARE * held, _TAIL_BYTES):
            notes.append(f"no frame is found in the last {behind:,} bytes of the file")
    note = "; ".join(notes)
    # A frame that is shown before its key frame leans on the interval before (an open GOP).
    seek = [key_pts[k if pts >= key_pts[k] else k - 1] for pts, k in order] if trusted else []
    closed = closed and not any(key >= 0 and pts < key_pts[key] for pts, key in order)
    return Index(pts_list, seek, closed, trusted, edited_away, cut_off, note)


def _h264_entry(content: bytes, length_size: int) -> str:
    """How a decoder can begin at a packet that FFmpeg calls a key frame: "closed" (an IDR picture), "open", or
    "gradual", where the picture is whole only some frames later.

    The last is said by a recovery point message whose recovery_frame_cnt is not 0 (ITU-T H.264, D.1.8: SEI
    payload type 6, in a NAL unit of type 6). ``content`` is as in MP4 and Matroska: each NAL unit behind its
    length.
    """
    place = 0
    while place + length_size < len(content):
        begin = place + length_size
        place = begin + int.from_bytes(content[place:begin], "big")
        kind = content[begin] & 31
        if kind == 6 and _says_gradual(content[begin + 1 : place]):
            return "gradual"
        if kind in (1, 5):  # a slice: messages come before it
            return "closed" if kind == 5 else "open"
    return "open"


def _says_gradual(messages: bytes) -> bool:
    place = 0
    while place + 2 < len(messages):
        kind = size = 0
        while place < len(messages) - 1 and messages[place] == 255:
            kind, place = kind + 255, place + 1
        kind, place = kind + messages[place], place + 1
        while place < len(messages) - 1 and messages[place] == 255:
            size, place = size + 255, place + 1
        size, place = size + messages[place], place + 1
        if kind == 6 and place < len(messages):
            return not messages[place] & 128  # the Exp-Golomb code of 0 is a single 1
        place += size
    return False


def _is_hidden_vp8(packet: Packet) -> bool:
    return not bytes(packet)[0] >> 4 & 1  # show_frame in the frame tag, RFC 6386 section 9.1


def _cut_off(
    container: InputContainer,
    stream: VideoStream,
    held: int,
    missing: int | None,
    end_s: float,
    num_frames: int,
    trouble: bool,
) -> str | None:
    """Why the file looks like an unfinished download, or None. It has ``held`` bytes and ``missing`` more by its own
    structure, where that says; ``end_s`` is when the last packet ends.

    What a header promises of time or frames may be wrong in a file that is whole, so where the container's
    own structure says that nothing is missing, nothing is.
    """
    if missing == 0:
        return None
    if stream.duration and stream.time_base:
        promised = float(stream.duration * stream.time_base)
        found = end_s - float((stream.start_time or 0) * stream.time_base)
    else:
        # Where a container states one length for all, it counts from 0, not from the first frame.
        promised = (container.duration or 0) / 1_000_000
        found = end_s
    if promised - found > max(_MISSING_SHARE * promised, 1.0):
        return f"its header promises {promised:.1f} s, but it holds {max(found, 0.0):.1f} s"
    if trouble and stream.frames and num_frames < stream.frames:
        return f"its header promises {stream.frames} frames, but it holds {num_frames}"
    if missing and container.format.name in END_WITH_A_MARK:
        return "it ends in the middle"
    if missing and missing > _MISSING_SHARE * (held + missing):
        return f"its structure promises {held + missing:,} bytes, but it holds {held:,}"
    return None


@dataclass
class Interval:
    """A stretch of the file from a key frame on, and what is wanted of it: {pts: position in the clip}."""

    key_pts: int
    targets: dict[int, int]


def intervals(index: Index, wanted: list[int]) -> list[Interval]:
    """The wanted frames (ascending), grouped by the key frame to decode from."""
    found: list[Interval] = []
    for position, frame in enumerate(wanted):
        if not found or found[-1].key_pts != index.key_pts[frame]:
            found.append(Interval(index.key_pts[frame], {}))
        found[-1].targets[index.pts[frame]] = position
    return found

"""What a video file holds, learned from its packets without decoding a frame.

Knows containers and their promises; knows neither pixels nor how wanted frames are chosen.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import av

from vamba_eval.contracts import VideoError, system_reason
from vamba_eval.video.entries import H264, SHOWN_BY_KIND, hevc_is_closed, orientation, picture_kind, shown_order
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

# Where frames are found again by their places in the file: containers that are read on from any byte, and those that
# are sought by time. Pictures that are drawn over one another (GIF, APNG) are none: their every packet is called a key
# frame.
_SOUGHT_BY_BYTE = {"mpegts", "mpeg", "h264", "hevc", "mpegvideo", "m4v"}
_SOUGHT_BY_TIME = {*_STATES_TIMES, "avi", "asf"}
_STATES_MOST_TIMES = {"mpegts", "mpeg", "asf"}  # those that a seek may derive otherwise are taken from the index

REORDERED_FRAMES = 16  # the most that a decoder holds back to bring them into order (in H.264 and HEVC)
_LEAST_FRAME_BYTES = 20  # FFmpeg's MPEG-4 decoder takes less for a placeholder (MAX_NVOP_SIZE 19 of h263dec.h)

_EDITED = {"mov,mp4,m4a,3gp,3g2,mj2"}  # those with edit lists

# Codecs whose decoder drops exactly the frames that no other frame refers to when asked to: ITU-T H.264
# marks them (nal_ref_idc 0), and the B-frames of MPEG-1, 2 and 4 are never referred to.
_MARK_UNREFERENCED = {"h264", "mpeg1video", "mpeg2video", "mpeg4"}


_BUFFER_BYTES = 256 * 1024  # what FFmpeg reads at once, as its own reader of files does


class PacketInfo(NamedTuple):
    """What a packet of the stream says: where it is in the file, its times, whether a decoder can begin at it, and
    whether it holds an IDR picture, of H.264 or HEVC, or of which kind its picture is, of MPEG-1, 2 and 4."""

    position: int | None
    size: int
    pts: int | None
    dts: int | None
    entry: bool
    idr: bool
    kind: str | None


@dataclass(frozen=True)
class Numbering:
    """The packets of a stream in the order of decoding, and the number among the shown that each one's frame has.

    counted  the numbers are those of decoding: from an entry on, where nothing refers to the other side, frames are
             numbered as they come out of the decoder
    shown    the stated time of each frame, in an order that may differ from the shown by a few frames
    by_kind  they are told by the pictures' kinds
    by_byte  whether a place in the file is sought, not a time
    """

    packets: list[PacketInfo]
    numbers: list[int]
    counted: bool
    by_kind: bool
    shown: list[int | None]
    by_byte: bool

    @cached_property
    def share_places(self) -> bool:
        """Whether some packets begin where another does, so that their sizes alone tell them from others."""
        return any(about.position is None for about in self.packets)


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
    numbering    what names frames where their times do not; None where nothing does
    by_number    whether it names them: ``pts`` and ``key_pts`` are then numbers
    """

    pts: list[int]
    key_pts: list[int]
    closed: bool
    trusted: bool
    edited_away: bool
    cut_off: str | None
    note: str
    numbering: Numbering | None
    by_number: bool = False

    @property
    def shown(self) -> Sequence[int | None]:
        """The frames' stated times, in the order in which they are shown, but for a few frames."""
        return self.numbering.shown if self.by_number and self.numbering else self.pts


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
    codec, container_name = stream.codec_context.name, container.format.name
    hidden = _is_hidden_vp8 if codec == "vp8" else lambda packet: False
    h264 = H264(stream.codec_context.extradata) if codec == "h264" else None
    look = _look_at(stream, h264)
    closed, all_frames = True, True
    turns: list[bytes | None] = []  # what each key frame says of its orientation
    packets: list[PacketInfo] = []
    key_pts: list[int] = []  # of each key frame, in decoding order
    order: list[tuple[int, int]] = []  # (pts, number of the last key frame at or before it in decoding order)
    ends: dict[int, int] = {}  # when each stream's last packet ends, in its time base
    trusted, trouble, discarded, gave_up = container_name in _STATES_TIMES, False, False, ""
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
            if packet.stream_index != number or packet.size == 0:
                continue
            trouble |= packet.is_corrupt
            if hidden(packet):
                all_frames = False
                continue
            about, is_closed = look(packet)
            if h264 is not None and h264.may_have_fields and h264.is_second_field(bytes(packet)):
                # Its frame is whole only with it, but comes out under the time of the first.
                all_frames = trusted = False
                continue
            packets.append(about)
            if packet.is_keyframe and codec in ("h264", "hevc"):
                turns.append(orientation(bytes(packet), codec, stream.codec_context.extradata))
            closed &= is_closed
            if pts is None:
                trusted = False
                continue
            if about.entry:
                key_pts.append(pts)
            discarded |= packet.is_discard
            if not packet.is_discard:
                order.append((pts, len(key_pts) - 1))
    except av.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise
        trouble, gave_up = True, f"it cannot be read to its end ({system_reason(error)})"
    if any(turn not in (None, turns[0]) for turn in turns):
        # It holds until another comes: a frame's cannot be known without decoding up to it.
        all_frames = trusted = False
    edited_away = not order and container_name in _EDITED and bool(discarded or stream.frames)
    order.sort()
    pts_list = [pts for pts, _ in order]
    # Frames shown before the first key frame may or may not decode.
    trusted = (
        trusted and bool(order) and len(set(pts_list)) == len(order) and order[0][1] >= 0 and order[0][0] >= key_pts[0]
    )
    numbering = None
    if packets and all_frames and not trouble and not discarded:
        numbering = _numbering(packets, container_name, stream)
    end_s = max((end * float(container.streams[i].time_base or 0) for i, end in ends.items()), default=0.0)
    with StoredFile(path) as file:
        held, promised = file.size, promised_bytes(file)
    missing = None if promised is None else max(0, promised - held)
    cut_off = _cut_off(container, stream, held, missing, end_s, len(order), trouble)
    notes = [f"the last {missing:,} bytes of the file are missing"] if missing else []
    if gave_up:
        notes.append(gave_up)
    elif container_name in _END_WITH_FRAMES:
        behind = held - last_byte
        if order and behind > max(_MISSING_SHARE * held, _TAIL_BYTES):
            notes.append(f"no frame is found in the last {behind:,} bytes of the file")
    note = "; ".join(notes)
    # A frame that is shown before its key frame leans on the interval before (an open GOP).
    seek = [key_pts[k if pts >= key_pts[k] else k - 1] for pts, k in order] if trusted else []
    closed = closed and not any(key >= 0 and pts < key_pts[key] for pts, key in order)
    return Index(pts_list, seek, closed, trusted, edited_away, cut_off, note, numbering)


def _look_at(stream: VideoStream, h264: H264 | None) -> Callable[[Packet], tuple[PacketInfo, bool]]:
    """What is noted of a packet, and whether a decoder that begins at it, if it can, misses nothing."""
    codec, extradata = stream.codec_context.name, stream.codec_context.extradata

    def look(packet: Packet) -> tuple[PacketInfo, bool]:
        key, idr, closed, kind = packet.is_keyframe, False, True, None
        if key and h264 is not None:
            entry = h264.entry(bytes(packet))
            key, idr, closed = entry != "gradual", entry == "closed", entry == "closed"
        elif key and codec == "hevc":
            idr = hevc_is_closed(bytes(packet), extradata)
        elif codec in SHOWN_BY_KIND:
            kind = picture_kind(bytes(packet), codec)
            key &= kind in ("I", None)
        return PacketInfo(packet.pos, packet.size, packet.pts, packet.dts, key, idr, kind), closed

    return look


def _numbering(packets: list[PacketInfo], container_name: str, stream: VideoStream) -> Numbering | None:
    """The frames' numbers by what the packets say beside their times, which may be derived, repeated or missing; None
    where they do not say. Every packet has to hold one frame."""
    codec = stream.codec_context.codec
    by_byte = container_name in _SOUGHT_BY_BYTE
    placed = [about.position is not None for about in packets]
    if not (placed[0] if by_byte else container_name in _SOUGHT_BY_TIME and all(placed)):
        return None
    in_order = [about.pts for about in packets]
    stated = [pts for pts in in_order if pts is not None]
    if container_name in _STATES_MOST_TIMES and len(set(stated)) == len(packets):
        places = sorted(range(len(packets)), key=lambda place: in_order[place] or 0)
        if all(abs(place - number) <= REORDERED_FRAMES for number, place in enumerate(places)):
            return Numbering(packets, _inverse(places), False, False, [in_order[place] for place in places], by_byte)
    if codec.name in SHOWN_BY_KIND:
        kinds = [about.kind for about in packets if about.kind is not None]
        if len(kinds) < len(packets) or _may_lack_frames(packets):
            return None
        numbers = shown_order(kinds)
        return Numbering(packets, numbers, False, True, [in_order[place] for place in _inverse(numbers)], by_byte)
    numbers = list(range(len(packets)))
    if codec.name in ("h264", "hevc"):
        orderly = not stated or (len(stated) == len(packets) and stated == sorted(stated))
        return Numbering(packets, numbers, True, False, in_order, by_byte) if orderly else None
    if codec.reorder or not (codec.intra_only or not _may_lack_frames(packets)):
        return None
    return Numbering(packets, numbers, False, False, in_order, by_byte)


def _may_lack_frames(packets: list[PacketInfo]) -> bool:
    """Whether some packet is so small that it may only say that the frame before is shown on."""
    return any(about.size < _LEAST_FRAME_BYTES for about in packets)


def _inverse(permutation: list[int]) -> list[int]:
    inverse = [0] * len(permutation)
    for place, value in enumerate(permutation):
        inverse[value] = place
    return inverse


def numbered(index: Index) -> Index | None:
    """The same frames by their numbers; None where these are not known, or some frame has no entry to decode from."""
    numbering = index.numbering
    if numbering is None:
        return None
    entries: list[int] = []
    lean: list[tuple[int, int]] = []  # (number, that of the entry to decode from)
    closed = True
    for about, number in zip(numbering.packets, numbering.numbers, strict=True):
        if about.idr or (about.entry and not numbering.counted):
            entries.append(number)
        open_before = bool(entries) and number < entries[-1]
        if len(entries) <= open_before:
            return None
        closed &= not open_before
        lean.append((number, entries[-1 - open_before]))
    lean.sort()
    # Decoders pass over a B-picture before its key frame without a complaint.
    closed = numbering.by_kind or numbering.counted or (closed and index.closed)
    pts, key_pts = [number for number, _ in lean], [key for _, key in lean]
    return replace(index, pts=pts, key_pts=key_pts, closed=closed, by_number=True)


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
    """A stretch of the file from a key frame on, and what is wanted of it: {pts: position in the clip}.

    Where numbers name frames, ``first`` and ``end`` are the places in ``numbering`` of its first packet and behind that
    before the next key frame.
    """

    key_pts: int
    targets: dict[int, int]
    numbering: Numbering | None = None
    first: int = 0
    end: int = 0

    @property
    def counted(self) -> bool:
        """Whether a frame is known by how many came out before it alone."""
        return self.numbering is not None and self.numbering.counted


def intervals(index: Index, wanted: list[int]) -> list[Interval]:
    """The wanted frames (ascending), grouped by the key frame to decode from."""
    found: list[Interval] = []
    for position, frame in enumerate(wanted):
        if not found or found[-1].key_pts != index.key_pts[frame]:
            found.append(Interval(index.key_pts[frame], {}))
        found[-1].targets[index.pts[frame]] = position
    if index.by_number and index.numbering:
        numbers, keys = index.numbering.numbers, set(index.key_pts)
        places = [place for place, number in enumerate(numbers) if number in keys]
        ends = {numbers[place]: (place, end) for place, end in zip(places, [*places[1:], len(numbers)], strict=True)}
        for interval in found:
            interval.numbering, (interval.first, interval.end) = index.numbering, ends[interval.key_pts]
    return found

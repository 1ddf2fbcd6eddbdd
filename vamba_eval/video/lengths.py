"""How long a file is by its own structure: what is shorter is an unfinished download.

Knows the outermost structure of containers, and nothing of what is in them.
"""

from __future__ import annotations

import struct
from pathlib import Path

from vamba_eval.video.storage import StoredFile

# FFmpeg's names of the formats that end with a mark: what is missing from them is unknown, but something is.
END_WITH_A_MARK = {"gif", "apng", "png_pipe"}

_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")  # ASF specification, 10.1
_AHEAD_BYTES = 65_536
_GIF_EXTENSION, _GIF_IMAGE, _GIF_END = 0x21, 0x2C, 0x3B  # GIF89a, sections 20, 23 and 27


def missing_bytes(path: Path) -> int | None:
    """How many bytes a file promises beyond its end, if it says; raises as ``promised_bytes`` does."""
    with StoredFile(path) as file:
        end = promised_bytes(file)
        return None if end is None else max(0, end - file.size)


def promised_bytes(file: StoredFile) -> int | None:
    """Where the structure of an MP4, MOV, AVI, WebP, WebM, Matroska, ASF, PNG or GIF file ends, as far as it can be
    followed; None where it does not say. Raises VideoError and MemoryError where the file cannot be read."""
    start = file.read_at(0, 16)
    if start[4:8] in _BOXES:
        return _end_of_boxes(file)
    if start[:4] == b"RIFF":
        return _end_of_riff(file)
    if start[:4] == b"\x1aE\xdf\xa3":
        return _end_of_segment(file)
    if start == _ASF_HEADER:
        return _end_of_objects(file)
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        return _end_of_chunks(file)
    if start[:6] in (b"GIF87a", b"GIF89a"):
        return _end_of_gif(file)
    return None


def _end_of_boxes(file: StoredFile) -> int | None:
    """Where the last box of an ISO base media file (ISO/IEC 14496-12, 4.2) ends."""
    position = 0
    while position + 8 <= file.size:
        head = file.read_at(position, 16)
        length, kind = struct.unpack_from(">I4s", head)
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if length == 0:
            return file.size  # to the end of the file
        if length < 8 or not kind.isalnum():
            return position or None  # not a box: something was appended
        position += length
    return position


def _end_of_riff(file: StoredFile) -> int | None:
    """Where the last RIFF chunk ends (long AVI files have several, by the OpenDML extension)."""
    position = 0
    while position + 8 <= file.size:
        kind, length = struct.unpack("<4sI", file.read_at(position, 8))
        if kind != b"RIFF":
            return position or None
        end = position + 8 + length + length % 2
        if file.read_at(position + 8, 3) == b"AVI":  # a recorder that was ended has not written the outer length
            end = max(end if length else 0, _end_of_movie(file, position + 12))
        if end <= position:
            return position or None
        position = end
    return position


def _end_of_movie(file: StoredFile, position: int) -> int:
    """Where the list of frames ends among the chunks of an AVI file from ``position`` on; 0 where it does not say."""
    while position + 12 <= file.size:
        kind, length, of = struct.unpack("<4sI4s", file.read_at(position, 12))
        if kind == b"LIST" and of == b"movi":
            return position + 8 + length + length % 2 if length > 4 else 0
        if not kind.isascii() or kind == b"RIFF":
            break
        position += 8 + length + length % 2
    return 0


def _end_of_segment(file: StoredFile) -> int | None:
    """Where the Segment of a Matroska file (RFC 9559, 5.1) ends; a stream's has no length."""
    position = 0
    while position < file.size:
        head = file.read_at(position, 12)
        id_length = 9 - head[0].bit_length() if head and head[0] else 0
        if not 1 <= id_length <= 4 or len(head) <= id_length or not head[id_length]:
            return None
        width = 9 - head[id_length].bit_length()
        value = int.from_bytes(head[id_length : id_length + width], "big") & ((1 << 7 * width) - 1)
        if value == (1 << 7 * width) - 1:
            return None
        position += id_length + width + value
        if head[:4] == b"\x18S\x80g":
            return position
    return position


def _end_of_objects(file: StoredFile) -> int | None:
    """Where the last object of an ASF file (2.1 of its specification) ends; of a broadcast no length is known."""
    position = 0
    while position + 24 <= file.size:
        length = int.from_bytes(file.read_at(position + 16, 8), "little")
        if length < 24:
            return None
        position += length
    return position


def _end_of_chunks(file: StoredFile) -> int:
    """Where the last chunk of a PNG file (its specification, 5.2) ends; IEND is the last."""
    position, kind = 8, b""
    while kind != b"IEND":
        if position + 8 > file.size:
            return max(position + 12, file.size + 1)  # at least the end mark is still to come
        length, kind = struct.unpack(">I4s", file.read_at(position, 8))
        position += 12 + length
    return position


def _end_of_gif(file: StoredFile) -> int | None:
    """Where the block ends in which a GIF file ends; some writers leave out the end mark behind the last."""
    flags = file.read_at(10, 1)
    if not flags:
        return 13
    position = 13 + _colors(flags[0])
    while position < file.size:
        head = file.read_at(position, 10)
        if head[0] == _GIF_END:
            return position + 1
        if head[0] == _GIF_EXTENSION:
            position += 2
        elif head[0] == _GIF_IMAGE and len(head) == 10:
            position += 10 + _colors(head[9]) + 1
        else:
            return None if head[0] != _GIF_IMAGE else position + 10
        position = _end_of_blocks(file, position)
    return position


def _colors(flags: int) -> int:
    """Bytes of the color table that ``flags`` announce."""
    return 3 << (flags & 7) + 1 if flags & 128 else 0


def _end_of_blocks(file: StoredFile, position: int) -> int:
    """Where a chain of blocks, each behind its length, ends; an empty one is the last."""
    ahead, begin = file.read_at(position, _AHEAD_BYTES), position
    while True:
        if position - begin >= len(ahead):
            ahead, begin = file.read_at(position, _AHEAD_BYTES), position
            if not ahead:
                return position + 1
        length = ahead[position - begin]
        position += 1 + length
        if length == 0:
            return position

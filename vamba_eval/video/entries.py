"""What a packet of H.264, HEVC, MPEG-4 or MPEG-1 and 2 says of itself: whether a decoder can begin at it, and what
tells its frame's place among the shown.

Knows the first bits of pictures and nothing of containers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_START_CODE = re.compile(b"\0\0\1")

# ITU-T H.264, Table 7-1, and ITU-T H.265, Table 7-1: types of NAL units.
_H264_IDR, _H264_SEI, _H264_SPS = 5, 6, 7
_H264_SLICES = (1, _H264_IDR)
_HEVC_SLICES, _HEVC_IDR, _HEVC_SEI = range(32), (19, 20), 39
# Types of messages: ITU-T H.264, D.1.8 and D.1.27; the latter in HEVC too.
_RECOVERY_POINT, _DISPLAY_ORIENTATION = 6, 47
# ITU-T H.264, 7.3.2.1.1: the profiles whose parameter sets state a chroma format.
_CHROMA_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
_HEAD_BYTES = 64  # of a slice, more than its header needs up to its field
_SETS_BYTES = 1024  # of a parameter set, more than it needs up to its fields


class H264:
    """The packets of one stream, asked in order: units behind their length, as in MP4 and Matroska, or behind start
    codes (ITU-T H.264, Annex B), as the decoder's ``extradata`` tells."""

    def __init__(self, extradata: bytes | None) -> None:
        self._length_size = length_size("h264", extradata)
        self._frame_num_bits = 0  # 0: no fields
        self._color_planes = False
        self._first_field: tuple[int, int] | None = None  # frame_num and parity of a field that waits for its other
        if extradata and self._length_size:
            size = int.from_bytes(extradata[6:8], "big")
            self._learn(extradata[8 : 8 + size])
        else:
            for unit in units(extradata or b"", 0):
                if unit and unit[0] & 31 == _H264_SPS:
                    self._learn(unit)

    @property
    def may_have_fields(self) -> bool:
        """Whether pictures may be fields: then ``is_second_field`` has to be asked of every packet."""
        return self._frame_num_bits > 0

    def entry(self, content: bytes) -> str:
        """How a decoder can begin at a packet that FFmpeg calls a key frame: "closed" (an IDR picture), "open", or
        "gradual", where the picture is whole only some frames later: its recovery_frame_cnt is not 0."""
        for unit in units(content, self._length_size):
            kind = unit[0] & 31 if unit else 0
            if kind == _H264_SPS:
                self._learn(unit)
            if kind == _H264_SEI and _says_gradual(unit[1:]):
                return "gradual"
            if kind in _H264_SLICES:  # messages come before it
                return "closed" if kind == _H264_IDR else "open"
        return "open"

    def is_second_field(self, content: bytes) -> bool:
        """Whether a packet begins with the second field of the frame that the packet before began: one that holds both
        fields begins with the first."""
        waiting, self._first_field = self._first_field, None
        slices = (unit for unit in units(content, self._length_size) if unit and unit[0] & 31 in _H264_SLICES)
        frame_num, bottom = self._field(next(slices, b""))
        if bottom is None:
            return False
        if waiting == (frame_num, 1 - bottom):
            return True
        self._first_field = (frame_num, bottom)
        return False

    def _field(self, unit: bytes) -> tuple[int, int | None]:
        """frame_num and bottom_field_flag of a slice (7.3.3), this None for a frame's."""
        bits = _Bits(unit[1:_HEAD_BYTES])
        for _ in range(3):  # first_mb_in_slice, slice_type, pic_parameter_set_id
            bits.golomb()
        if self._color_planes:
            bits.read(2)
        frame_num = bits.read(self._frame_num_bits)
        return frame_num, bits.read(1) if bits.read(1) else None

    def _learn(self, unit: bytes) -> None:
        """A sequence parameter set (7.3.2.1.1)."""
        bits = _Bits(unit[1:_SETS_BYTES])
        profile = bits.read(24) >> 16
        bits.golomb()
        self._color_planes = False
        if profile in _CHROMA_PROFILES:
            chroma = bits.golomb()
            self._color_planes = chroma == 3 and bool(bits.read(1))
            bits.golomb(), bits.golomb(), bits.read(1)
            if bits.read(1):
                for number in range(8 if chroma != 3 else 12):
                    if bits.read(1):
                        _skip_scaling_list(bits, 16 if number < 6 else 64)
        frame_num_bits = bits.golomb() + 4
        order = bits.golomb()
        if order == 0:
            bits.golomb()
        elif order == 1:
            bits.read(1), bits.golomb(), bits.golomb()
            for _ in range(min(bits.golomb(), 255)):
                bits.golomb()
        bits.golomb(), bits.read(1), bits.golomb(), bits.golomb()  # references, gaps, width and height
        frames_only = bits.read(1) or frame_num_bits > 16  # more than there can be: damage
        self._frame_num_bits = 0 if frames_only else frame_num_bits


class _Bits:
    """The bits of a unit without the bytes that only keep start codes out (7.4.1); zeros behind its end."""

    def __init__(self, content: bytes) -> None:
        plain = content.replace(b"\0\0\3", b"\0\0")
        self._value, self._left = int.from_bytes(plain, "big"), 8 * len(plain)

    def read(self, count: int) -> int:
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1) if self._left >= 0 else 0

    def golomb(self) -> int:
        """Exp-Golomb code, unsigned (9.1)."""
        zeros = 0
        while zeros < 32 and not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.golomb()
            following = (last + (code + 1) // 2 * (1 if code % 2 else -1) + 256) % 256
        last = following or last


def units(content: bytes, length_bytes: int) -> Iterator[bytes]:
    """NAL units, each behind its length, or behind a start code where ``length_bytes`` is 0."""
    if not length_bytes:
        start = -1
        for match in _START_CODE.finditer(content):
            if start >= 0:
                yield content[start : match.start()]
            start = match.end()
        if start >= 0:
            yield content[start:]
        return
    place = 0
    while place + length_bytes < len(content):
        begin = place + length_bytes
        place = begin + int.from_bytes(content[place:begin], "big")
        yield content[begin:place]


def _messages(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Payload types and payloads of supplemental enhancement information (7.3.2.3.1), without its unit's header."""
    place = 0
    while place + 2 < len(content):
        kind = size = 0
        while place < len(content) - 1 and content[place] == 255:
            kind, place = kind + 255, place + 1
        kind, place = kind + content[place], place + 1
        while place < len(content) - 1 and content[place] == 255:
            size, place = size + 255, place + 1
        size, place = size + content[place], place + 1
        yield kind, content[place : place + size]
        place += size


def _says_gradual(messages: bytes) -> bool:
    payload = next((payload for kind, payload in _messages(messages) if kind == _RECOVERY_POINT), b"")
    return bool(payload) and not payload[0] & 128  # the Exp-Golomb code of 0 is a single 1


def orientation(content: bytes, codec: str, extradata: bytes | None) -> bytes | None:
    """The message of a packet of H.264 or HEVC that says how it is to be turned, as it stands; None without one."""
    header, sei = (1, _H264_SEI) if codec == "h264" else (2, _HEVC_SEI)
    for unit in units(content, length_size(codec, extradata)):
        kind = (unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63) if unit else 0
        if kind == sei:
            for message, payload in _messages(unit[header:]):
                if message == _DISPLAY_ORIENTATION:
                    return payload
        if kind in (_H264_SLICES if codec == "h264" else _HEVC_SLICES) and unit:  # messages come before it
            return None
    return None


def length_size(codec: str, extradata: bytes | None) -> int:
    """Of how many bytes the length before each unit is (ISO/IEC 14496-15, 5.3.3.1 and 8.3.3.1); 0 for start codes."""
    place = 4 if codec == "h264" else 21
    if extradata is None or len(extradata) <= place + 1 or extradata[0] != 1:
        return 0
    return (extradata[place] & 3) + 1


def hevc_is_closed(content: bytes, extradata: bytes | None) -> bool:
    """Whether a packet of HEVC holds an IDR picture, before and behind which nothing refers to the other side."""
    for unit in units(content, length_size("hevc", extradata)):
        kind = unit[0] >> 1 & 63 if unit else 63
        if kind in _HEVC_SLICES:
            return kind in _HEVC_IDR
    return False


SHOWN_BY_KIND = {"mpeg4", "mpeg1video", "mpeg2video"}  # whose B-pictures alone are shown out of order, each at once
_VOP, _MPEG_PICTURE = b"\0\0\1\xb6", b"\0\0\1\0"  # start codes: ISO/IEC 14496-2, 6.2.1; ISO/IEC 13818-2, 6.2.1


def picture_kind(content: bytes, codec: str) -> str | None:
    """ "I", "P" or "B": the kind of the one picture in a packet of MPEG-4 part 2 or of MPEG-1 or 2; None where it holds
    several, or none."""
    code = _VOP if codec == "mpeg4" else _MPEG_PICTURE
    place = content.find(code)
    if place < 0 or len(content) < place + 6 or (codec == "mpeg4" and content.find(code, place + 4) >= 0):
        return None
    if codec == "mpeg4":
        return "IPBP"[content[place + 4] >> 6]  # vop_coding_type, 6.3.5; a sprite refers backwards like a P
    return {1: "I", 2: "P", 3: "B"}.get(content[place + 5] >> 3 & 7)  # picture_coding_type, 6.3.9


def shown_order(kinds: list[str]) -> list[int]:
    """For each picture in the order of decoding its number among the shown: one that others refer to is shown when the
    next such is decoded, a B at once."""
    numbers, waiting, count = [0] * len(kinds), -1, 0
    for place, kind in enumerate(kinds):
        shown = place if kind == "B" else waiting
        if shown >= 0:
            numbers[shown], count = count, count + 1
        if kind != "B":
            waiting = place
    if waiting >= 0:
        numbers[waiting] = count
    return numbers

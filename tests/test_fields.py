"""Interlaced H.264 whose pictures are single fields, each a packet of its own: two packets a frame are no damage."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from videos import X264_CLOSED, all_frames, make_video, picture

from vamba_eval import FrameSampling, read_clip
from vamba_eval.video.entries import H264, hevc_is_closed, picture_kind

SIZE = 64, 96  # of a frame; a field has half the rows


def full_size(n: int = 512) -> FrameSampling:
    return FrameSampling(num_frames=n, shortest_edge=None, longest_edge=None)


def golomb(value: int) -> str:
    binary = f"{value + 1:b}"
    return "0" * (len(binary) - 1) + binary


def unit(kind: int, bits: str, samples: bytes = b"") -> bytes:
    """A NAL unit (ITU-T H.264, 7.3.1): ``bits``, filled up by zeros to a byte, then ``samples``; nal_ref_idc is 1."""
    payload = int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""
    escaped = bytearray()
    for byte in bytes([32 | kind]) + payload + samples:
        if escaped.endswith(b"\0\0") and byte <= 3:
            escaped.append(3)
        escaped.append(byte)
    return b"\0\0\0\1" + bytes(escaped)


def filled(bits: str) -> str:
    """With the stop bit."""
    return (bits + "1").ljust(-(-(len(bits) + 1) // 8) * 8, "0")


def parameter_sets() -> bytes:
    """Main profile, frame_num of 4 bits, frames or fields (frame_mbs_only_flag 0), CAVLC."""
    rows, columns = SIZE[0] // 32, SIZE[1] // 16
    sequence = f"{77:08b}{0:08b}{30:08b}" + golomb(0) + golomb(0) + golomb(0) + golomb(4) + golomb(1) + "0"
    sequence += golomb(columns - 1) + golomb(rows - 1) + "0" + "0" + "1" + "0" + "0"
    pictures = golomb(0) + golomb(0) + "0" + "0" + golomb(0) * 3 + "0" + "00" + golomb(0) * 3 + "1" + "0" + "0"
    return unit(7, filled(sequence)) + unit(8, filled(pictures))


def coded_field(number: int, bottom: bool, image: tuple[np.ndarray, ...]) -> bytes:
    """A field of uncompressed macroblocks (I_PCM, mb_type 25 of an I slice, 7.3.5), the first of an IDR picture."""
    idr = not bottom
    bits = golomb(0) + golomb(7) + golomb(0) + "0000" + "1" + str(int(bottom))
    bits += golomb(number % 2) if idr else ""
    bits += f"{0 if idr else 1:08b}" + ("00" if idr else "0") + golomb(0) + golomb(1)
    luma, *chroma = (plane[bottom::2] for plane in image)
    content = b""
    for row in range(0, luma.shape[0], 16):
        for column in range(0, luma.shape[1], 16):
            bits += golomb(25)
            bits = bits.ljust(-(-len(bits) // 8) * 8, "0")
            samples = luma[row : row + 16, column : column + 16].tobytes()
            for plane in chroma:
                samples += plane[row // 2 : row // 2 + 8, column // 2 : column // 2 + 8].tobytes()
            content += int(bits, 2).to_bytes(len(bits) // 8, "big") + samples
            bits = ""
    return unit(5 if idr else 1, "", content + b"\x80")


def planes(number: int) -> tuple[np.ndarray, ...]:
    """Y, U and V of a picture, without a zero."""
    frame = av.VideoFrame.from_ndarray(picture(number, *SIZE), format="rgb24").reformat(format="yuv420p")
    whole = frame.to_ndarray()
    height, width = SIZE
    luma, rest = whole[:height], whole[height:].reshape(2, height // 2, width // 2)
    return tuple(np.clip(plane, 16, 235) for plane in (luma, *rest))


def field_coded(count: int) -> list[bytes]:
    """Two packets a frame."""
    packets = []
    for number in range(count):
        image = planes(number)
        packets += [parameter_sets() + coded_field(number, False, image), coded_field(number, True, image)]
    return packets


def written(path: Path, packets: list[bytes], *, together: bool = False) -> Path:
    """Each field a packet, or, ``together``, each frame."""
    if path.suffix == ".h264":
        path.write_bytes(b"".join(packets))
        return path
    if together:
        packets = [top + bottom for top, bottom in zip(packets[::2], packets[1::2], strict=True)]
    step = 2 if together else 1
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        stream.codec_context.extradata = parameter_sets()
        for number, content in enumerate(packets):
            packet = av.Packet(content)
            packet.pts = packet.dts = number * step * 20
            packet.duration, packet.time_base, packet.stream = step * 20, Fraction(1, 1000), stream
            packet.is_keyframe = together or number % 2 == 0
            container.mux(packet)
    return path


def truth(folder: Path, count: int) -> np.ndarray:
    """What FFmpeg makes of whole frames in the usual form: what was encoded but for the range of its planes."""
    frames = all_frames(written(folder / "whole.mkv", field_coded(count), together=True))
    images = np.stack([picture(number, *SIZE) for number in range(count)])
    assert frames.shape == images.shape and np.abs(frames.astype(int) - images).mean() < 12
    return frames


@pytest.mark.parametrize("together", [False, True], ids=["a packet a field", "a packet a frame"])
@pytest.mark.parametrize("ending", ["mkv", "ts", "mp4", "h264"])
def test_two_packets_a_frame_are_whole(tmp_path: Path, ending: str, together: bool) -> None:
    path = written(tmp_path / f"v.{ending}", field_coded(50), together=together)
    expected = truth(tmp_path, 50)
    for backend in ("pyav", "pyav-plain"):
        for n in (1, 3, 7, 512):
            clip = read_clip(path, full_size(n), backend=backend)
            assert clip.frame_indices.tolist() == full_size(n).indices(50, 25.0)
            assert np.array_equal(clip.frames, expected[clip.frame_indices]) and clip.note == ""
        if ending != "h264":  # which states no times
            assert clip.timestamps_s == pytest.approx(clip.frame_indices / 25, abs=2e-3)
            assert clip.source_fps == pytest.approx(25, rel=0.01)


def test_fields_between_frames(tmp_path: Path) -> None:
    """As encoders choose from picture to picture: here whole frames, then fields."""
    packets = field_coded(40)
    mixed = [top + bottom for top, bottom in zip(packets[:40:2], packets[1:40:2], strict=True)] + packets[40:]
    path = written(tmp_path / "v.mkv", mixed)
    expected = truth(tmp_path, 40)
    for n in (1, 5, 512):
        clip = read_clip(path, full_size(n))
        assert np.array_equal(clip.frames, expected[clip.frame_indices]) and clip.note == ""


def test_fields_that_are_missing_are_damage(tmp_path: Path) -> None:
    packets = field_coded(40)
    path = written(
        tmp_path / "v.mkv", [content if n < 16 else b"\0\0\0\1\x65" + bytes(50) for n, content in enumerate(packets)]
    )
    with pytest.raises(Exception, match="damaged"):
        read_clip(path, full_size())


@pytest.mark.parametrize("options", [X264_CLOSED, {"x264-params": "interlaced=1:keyint=30"}], ids=["frames", "mbaff"])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv422p10le"])
def test_frames_are_no_fields(tmp_path: Path, options: dict[str, str], pixel_format: str) -> None:
    """Of every profile's parameter sets."""
    path = make_video(tmp_path / "v.mkv", frames=60, options=options, pixel_format=pixel_format)
    clip = read_clip(path, full_size())
    assert len(clip.frames) == 60 and clip.note == ""


def test_any_bytes_are_looked_at_without_a_fault() -> None:
    """What a damaged file holds where a parameter set or a picture should be."""
    rng = np.random.default_rng(0)
    for _ in range(3000):
        content = rng.bytes(int(rng.integers(0, 60)))
        for extradata in (None, content, b"\1" + content, b"\0\0\1\x67" + content):
            stream = H264(extradata)
            assert stream.entry(b"\0\0\1\x67" + content) in ("closed", "open", "gradual")
            assert stream.is_second_field(b"\0\0\1\x41" + content) in (True, False)
            assert hevc_is_closed(b"\0\0\1" + content, extradata) in (True, False)
        assert picture_kind(content, "mpeg4") in (None, "I", "P", "B")

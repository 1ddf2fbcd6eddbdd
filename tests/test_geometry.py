"""Frames of a stream are shown in the size and the orientation of its first, whichever of them are sampled."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from pathlib import Path

import av
import decord
import numpy as np
import pytest
from PIL import Image
from videos import X264_CLOSED, X264_OPEN, make_video, picture, remux

from vamba_eval import FrameSampling, read_clip
from vamba_eval.contracts import Ladder


def full_size(n: int = 512) -> FrameSampling:
    return FrameSampling(num_frames=n, shortest_edge=None, longest_edge=None)


def joined(folder: Path, name: str, codec: str, sizes: list[tuple[int, int]], frames: int = 40) -> Path:
    """One stream of ``frames`` of each of ``sizes``, encoded anew for each, as in recordings of calls."""
    path = folder / name
    raw = {"libx264": "h264", "libx265": "hevc"}.get(codec)
    parts = []
    for number, size in enumerate(sizes):
        options = {"bf": "0", "g": "10", **({"x265-params": "bframes=0:log-level=none"} if codec == "libx265" else {})}
        part = make_video(folder / f"{name}.{number}.{raw or 'webm'}", codec, frames=frames, size=size, options=options)
        parts.append(part)
    with av.open(str(path), "w") as container:
        stream, count = None, 0
        for part in parts:
            with av.open(str(part)) as read:
                stream = stream or container.add_stream_from_template(read.streams.video[0])
                for packet in read.demux(video=0):
                    if not packet.size:
                        continue
                    copy = av.Packet(bytes(packet))
                    copy.pts, copy.dts, copy.duration = count * 40, count * 40, 40
                    copy.time_base, copy.is_keyframe, copy.stream = Fraction(1, 1000), packet.is_keyframe, stream
                    container.mux(copy)
                    count += 1
    return path


SIZES = {
    "larger": [(96, 160), (192, 320)],
    "smaller, and back": [(96, 160), (48, 80), (96, 160)],
    "turned": [(96, 160), (160, 96)],
}
STREAMS = {
    "v.mp4": "libx264",
    "v.mkv": "libx264",
    "v.ts": "libx264",
    "hevc.mp4": "libx265",
    "vp8.webm": "libvpx",
    "vp9.webm": "libvpx-vp9",
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("change", SIZES)
def test_a_change_of_size_is_brought_to_the_first_s(tmp_path: Path, name: str, change: str) -> None:
    sizes = SIZES[change]
    path = joined(tmp_path, name, STREAMS[name], sizes)
    whole = read_clip(path, full_size())
    other = sizes[1]
    assert whole.frames.shape == (40 * len(sizes), 96, 160, 3)
    assert whole.note == f"its frames of {other[1]}x{other[0]} are shown at the 160x96 of its first"
    if not name.endswith(".ts"):  # which decord reads wrongly
        reader = decord.VideoReader(str(path))
        assert np.array_equal(whole.frames, reader.get_batch(range(len(reader))).asnumpy())
    for backend in ("pyav", "pyav-plain"):
        for n in (1, 3, 7):
            clip = read_clip(path, full_size(n), backend=backend)
            assert np.array_equal(clip.frames, whole.frames[clip.frame_indices])
        part = read_clip(path, full_size(), start_s=1.6, end_s=2.0, backend=backend)  # of the other size alone
        assert np.array_equal(part.frames, whole.frames[part.frame_indices]) and part.note == whole.note
    ladder = read_clip(path, Ladder((full_size(5), full_size(9))))
    assert np.array_equal(ladder.part(1).frames, read_clip(path, full_size(9)).frames)


def with_matrix(path: Path, matrix: list[int]) -> Path:
    """The display matrix of the track header of ISO/IEC 14496-12, 8.3.2, version 0."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    content[place : place + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    return path


def turn(degrees: float) -> list[int]:
    cos, sin = (round(65536 * at(math.radians(degrees))) for at in (math.cos, math.sin))
    return [cos, sin, 0, -sin, cos, 0, 0, 0, 1 << 30]


ONE = 65536
MATRICES = {
    "mirrored": ([-ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30], lambda f: f[:, :, ::-1]),
    "upside down": ([ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30], lambda f: f[:, ::-1]),
    "transposed": ([0, ONE, 0, ONE, 0, 0, 0, 0, 1 << 30], lambda f: f.transpose(0, 2, 1, 3)),
    "transversed": ([0, -ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30], lambda f: f[:, ::-1, ::-1].transpose(0, 2, 1, 3)),
    "mirrored and scaled": ([-2 * ONE, 0, 0, 0, ONE // 2, 0, 0, 0, 1 << 30], lambda f: f[:, :, ::-1]),
    "empty": ([0] * 9, lambda f: f),
    **{
        f"{degrees} degrees": (turn(degrees), lambda f, degrees=degrees: np.rot90(f, -round(degrees / 90), (1, 2)))
        for degrees in (0.1, 89.9, 90.1, 179.9, 180, -179.9, -90.3, 269.9, 359.5)
    },
}


@pytest.mark.parametrize("name", MATRICES)
def test_any_display_matrix_is_followed(tmp_path: Path, name: str) -> None:
    matrix, expected = MATRICES[name]
    path = make_video(tmp_path / "v.mp4", frames=10)
    upright = read_clip(path, full_size()).frames
    shown = read_clip(with_matrix(path, matrix), full_size()).frames
    assert np.array_equal(shown, expected(upright))
    assert np.array_equal(read_clip(path, full_size(), backend="pyav-plain").frames, shown)


def message(quarters: int, codec: str = "libx264") -> bytes:
    """A unit with the display's orientation: ITU-T H.264, D.1.27, and ITU-T H.265, D.2.17, payload type 47."""
    # display_orientation_cancel_flag 0, hor_flip 0, ver_flip 0, 16 bits of anticlockwise_rotation in units of 360/2^16,
    # display_orientation_repetition_period ue(1) = 010 in H.264, a flag in H.265, the extension flag 0; the stop bit.
    bits = f"000{quarters << 14:016b}" + ("0100" if codec == "libx264" else "1") + "1"
    payload = int(bits.ljust(24, "0"), 2).to_bytes(3, "big")
    plain = (bytes([6]) if codec == "libx264" else bytes([39 << 1, 1])) + bytes([47, 3]) + payload + b"\x80"
    unit = b""
    for byte in plain:  # no start code inside
        unit += b"\x03" if unit.endswith(b"\0\0") and byte <= 3 else b""
        unit += bytes([byte])
    return len(unit).to_bytes(4, "big") + unit


def with_messages(source: Path, target: Path, quarters: dict[int, int], codec: str = "libx264") -> Path:
    """Before the packets of these numbers, messages of so many quarters anticlockwise."""
    return remux(
        source, target, mangle=lambda n, content: (message(quarters[n], codec) if n in quarters else b"") + content
    )


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("options", [X264_CLOSED, X264_OPEN], ids=["closed", "open"])
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_an_orientation_in_the_first_frame_s_message_holds_for_all(
    tmp_path: Path, options: dict[str, str], ending: str, quarters: int
) -> None:
    source = make_video(tmp_path / "plain.mp4", frames=90, options=options)
    path = with_messages(source, tmp_path / f"v.{ending}", {0: quarters})
    with av.open(str(path)) as container:
        turns = [frame.rotation % 360 for frame in container.decode(video=0)]
    assert turns[0] == 90 * quarters and set(turns[1:]) == {0}, "it stands at the first frame alone"
    truth = np.rot90(read_clip(source, full_size()).frames, quarters, (1, 2))
    for backend in ("pyav", "pyav-plain"):
        for n in (1, 4, 512):
            clip = read_clip(path, full_size(n), backend=backend)
            assert np.array_equal(clip.frames, truth[clip.frame_indices])
        part = read_clip(path, full_size(), start_s=2.0, end_s=3.0, backend=backend)
        assert np.array_equal(part.frames, truth[part.frame_indices])


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize(
    ("codec", "options"),
    [("libx264", X264_CLOSED), ("libx265", {"x265-params": "bframes=0:keyint=30:log-level=none"})],
)
def test_an_orientation_holds_until_another_comes(
    tmp_path: Path, codec: str, options: dict[str, str], ending: str
) -> None:
    """As a phone's that is turned around while it sends."""
    source = make_video(tmp_path / "plain.mp4", codec, frames=90, options=options)
    upright = read_clip(source, full_size()).frames
    mp4 = with_messages(source, tmp_path / "turned.mp4", {0: 1, 30: 1, 60: 3}, codec)
    path = mp4 if ending == "mp4" else remux(mp4, tmp_path / f"v.{ending}")
    expected = np.concatenate([np.rot90(upright[:60], 1, (1, 2)), np.rot90(upright[60:], 3, (1, 2))])
    for backend in ("pyav", "pyav-plain"):
        for n in (1, 4, 512):
            clip = read_clip(path, full_size(n), backend=backend)
            assert np.array_equal(clip.frames, expected[clip.frame_indices])
        part = read_clip(path, full_size(), start_s=2.5, end_s=3.0, backend=backend)
        assert np.array_equal(part.frames, expected[part.frame_indices])


def test_a_later_quarter_turn_is_shown_in_the_same_size(tmp_path: Path) -> None:
    source = make_video(tmp_path / "plain.mp4", frames=90, options=X264_CLOSED)
    path = with_messages(source, tmp_path / "v.mp4", {60: 1})
    clip = read_clip(path, full_size())
    assert clip.frames.shape == (90, 96, 160, 3)
    assert clip.note == "its frames of 96x160 are shown at the 160x96 of its first"
    turned = np.rot90(read_clip(source, full_size()).frames[70])
    shown = np.asarray(Image.fromarray(turned).resize((160, 96)))
    assert np.abs(clip.frames[70].astype(int) - shown).mean() < 12
    assert np.array_equal(read_clip(path, full_size(4)).frames, clip.frames[full_size(4).indices(90, 25.0)])


def test_a_picture_is_what_was_encoded(tmp_path: Path) -> None:
    """No turn is seen where there is none: against the pictures themselves, not another decoder."""
    path = make_video(tmp_path / "v.mkv", "ffv1", frames=5, pixel_format="bgr0")
    frames = read_clip(path, full_size()).frames
    assert np.array_equal(frames, np.stack([picture(number, 96, 160) for number in range(5)]))

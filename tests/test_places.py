"""Frames whose times do not name them are found by their packets' places: what comes is what plain decoding gives, byte
for byte and time for time, whatever is sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from videos import MPEG4, X264_CLOSED, X264_OPEN, X265_CLOSED, X265_OPEN, make_video, picture, remux

from vamba_eval import FrameSampling, read_clip
from vamba_eval.contracts import Clip
from vamba_eval.video import canvas, pyav
from vamba_eval.video.entries import shown_order

MPEG2 = {"bf": "2", "g": "15"}
ADAPTIVE = {"x264-params": "bframes=8:b-adapt=2:b-pyramid=normal:keyint=40:ref=6"}
FILES = {
    "mpeg1.mpg": ("mpeg1video", MPEG2),
    "mpeg2.mpg": ("mpeg2video", MPEG2),
    "mpeg2.ts": ("mpeg2video", MPEG2),
    "mpeg2.m2v": ("mpeg2video", MPEG2),
    "interlaced.ts": ("libx264", {"x264-params": "interlaced=1:keyint=40"}),
    "closed.ts": ("libx264", X264_CLOSED),
    "open.ts": ("libx264", X264_OPEN),
    "adaptive.ts": ("libx264", ADAPTIVE),
    "hevc_closed.ts": ("libx265", X265_CLOSED),
    "hevc_open.ts": ("libx265", X265_OPEN),
    "mpeg4.avi": ("mpeg4", MPEG4),
    "mpeg4_forwards.avi": ("mpeg4", {"g": "20"}),
    "msmpeg4.avi": ("msmpeg4", {"g": "20"}),
    "h264.avi": ("libx264", X264_CLOSED),
    "adaptive.avi": ("libx264", ADAPTIVE),
    "mjpeg.avi": ("mjpeg", {}),
    "ffv1.avi": ("ffv1", {"g": "10"}),
    "closed.h264": ("libx264", X264_CLOSED),
    "open.h264": ("libx264", X264_OPEN),
    "adaptive.h264": ("libx264", ADAPTIVE),
    "closed.hevc": ("libx265", X265_CLOSED),
    "open.hevc": ("libx265", X265_OPEN),
    "raw.m4v": ("mpeg4", MPEG4),
    "windows.wmv": ("wmv2", {"g": "20"}),
}


def full_size(n: int = 512, strategy: str = "uniform") -> FrameSampling:
    return FrameSampling(strategy=strategy, num_frames=n, fps=3.0, shortest_edge=None, longest_edge=None)


@pytest.fixture
def plain_passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Fills with each file that is decoded from its start."""
    passes: list[Path] = []
    plain = pyav._read_plainly

    def noticed(source: canvas.Source, *arguments: object) -> Clip:
        passes.append(source.path)
        return plain(source, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pyav, "_read_plainly", noticed)
    yield passes


def assert_plain(path: Path) -> Clip:
    """Every sampling gives what plain decoding gives."""
    truth = read_clip(path, full_size(), backend="pyav-plain")
    spans = [(None, None), (None, 1.2), (1.1, None), (0.5, 1.3)]
    for strategy in ("uniform", "fps", "segments", "linspace"):
        for n, threads in ((1, 1), (5, 3), (17, 2), (512, 2)):
            for start, end in spans if n == 5 else spans[:1]:
                asked = {"start_s": start, "end_s": end}
                clip = read_clip(path, full_size(n, strategy), threads=threads, **asked)
                plain = read_clip(path, full_size(n, strategy), backend="pyav-plain", **asked)
                assert clip.frame_indices.tolist() == plain.frame_indices.tolist()
                assert clip.timestamps_s.tolist() == plain.timestamps_s.tolist()
                assert (clip.source_fps, clip.duration_s, clip.note) == (plain.source_fps, plain.duration_s, plain.note)
                assert np.array_equal(clip.frames, truth.frames[clip.frame_indices])
                assert np.array_equal(plain.frames, truth.frames[clip.frame_indices])
    return truth


@pytest.mark.parametrize("name", FILES)
def test_packets_are_found_again(tmp_path: Path, name: str, plain_passes: list[Path]) -> None:
    codec, options = FILES[name]
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = make_video(tmp_path / name, codec, frames=150, options=options, pixel_format=pixel_format)
    for n in (1, 4, 40):
        read_clip(path, full_size(n))
    assert not plain_passes, "decoded by stretches, not as a whole"
    assert len(assert_plain(path).frames) == 150


def with_sound(path: Path, codec: str, options: dict[str, str]) -> Path:
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream(codec, rate=25), container.add_stream("mp2", rate=32000)
        video.width, video.height, video.pix_fmt, video.options = 160, 96, "yuv420p", options
        for number in range(150):
            frame = av.VideoFrame.from_ndarray(picture(number, 96, 160), format="rgb24")
            container.mux(video.encode(frame))
            samples = np.zeros((1, 1280), dtype=np.int16)
            silence = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            silence.sample_rate, silence.pts = 32000, number * 1280
            container.mux(audio.encode(silence))
        container.mux(video.encode())
        container.mux(audio.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("v.ts", "libx264", X264_OPEN),
        ("v.mpg", "mpeg2video", MPEG2),
        ("v.avi", "mpeg4", MPEG4),
        ("v.wmv", "wmv2", {"g": "20"}),
    ],
)
def test_sound_between_the_frames(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], plain_passes: list[Path]
) -> None:
    path = with_sound(tmp_path / name, codec, options)
    read_clip(path, full_size(6))
    assert not plain_passes
    assert_plain(path)


def timed(source: Path, target: Path, time: Callable[[int, int], tuple[int, int]]) -> Path:
    """The packets of ``source`` with the times (shown, decoded) that ``time`` makes of their numbers and own times."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for number, packet in enumerate(packet for packet in read.demux(video=0) if packet.size):
            copy = av.Packet(bytes(packet))
            copy.pts, copy.dts = time(number, packet.pts)
            copy.time_base, copy.is_keyframe, copy.stream = Fraction(1, 12800), packet.is_keyframe, stream
            copy.duration = 512
            written.mux(copy)
    return target


@pytest.mark.parametrize(
    ("ending", "codec", "options"),
    [
        ("mkv", "libx264", X264_CLOSED),
        ("mkv", "libx264", ADAPTIVE),
        ("mkv", "libx264", X264_OPEN),
        ("mkv", "mpeg4", {"g": "15"}),
        ("flv", "libx264", X264_CLOSED),
    ],
)
def test_repeated_times(tmp_path: Path, codec: str, options: dict[str, str], ending: str) -> None:
    """As recorders write that round to coarse ticks: each of two frames has the same time."""
    whole = make_video(tmp_path / "whole.mkv", codec, frames=150, options=options)
    path = timed(whole, tmp_path / f"v.{ending}", lambda number, pts: (number // 2 * 1280, number // 2 * 1280))
    assert len(assert_plain(path).frames) == 150


def test_repeated_times_are_no_reason_to_decode_all(tmp_path: Path, plain_passes: list[Path]) -> None:
    whole = make_video(tmp_path / "whole.mkv", frames=150, options=X264_CLOSED)
    path = timed(whole, tmp_path / "v.mkv", lambda number, pts: (number // 2 * 1280, number // 2 * 1280))
    read_clip(path, full_size(5))
    assert not plain_passes


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_times_of_decoding(tmp_path: Path, ending: str, plain_passes: list[Path]) -> None:
    whole = make_video(tmp_path / "whole.mp4", frames=150, options=X264_CLOSED)
    path = timed(whole, tmp_path / f"v.{ending}", lambda number, pts: (512 * number, 512 * number))
    read_clip(path, full_size(5))
    assert not plain_passes
    assert_plain(path)


@pytest.mark.parametrize("name", ["v.ts", "v.mpg", "v.avi", "v.h264", "v.hevc", "v.m4v"])
@pytest.mark.parametrize("kind", ["joined", "cut in front"])
def test_joined_and_cut_files(tmp_path: Path, name: str, kind: str) -> None:
    codec = {"mpg": "mpeg2video", "avi": "mpeg4", "m4v": "mpeg4", "hevc": "libx265"}.get(name.split(".")[1], "libx264")
    options = {"mpeg2video": MPEG2, "mpeg4": MPEG4, "libx265": X265_OPEN}.get(codec, X264_OPEN)
    path = make_video(tmp_path / name, codec, frames=90, options=options)
    content = path.read_bytes()
    if kind == "joined":
        path.write_bytes(content * 2)
    elif name.endswith("avi"):
        pytest.skip("an AVI has its header in front")
    else:
        path.write_bytes(content[len(content) // 3 // 188 * 188 :])
    assert_plain(path)


@pytest.mark.parametrize("name", ["v.ts", "v.avi", "h264.avi", "v.h264", "v.hevc", "v.wmv"])
def test_damage_is_the_same_whatever_is_read_around_it(tmp_path: Path, name: str) -> None:
    """Bytes changed anywhere: what is shown is the same picture by whichever way, unless what is broken was touched by
    one way alone, which the note of the other says."""
    codec = {"v.avi": "mpeg4", "v.hevc": "libx265", "v.wmv": "wmv2"}.get(name, "libx264")
    options = {"mpeg4": MPEG4, "libx265": X265_CLOSED, "wmv2": {"g": "20"}}
    source = make_video(tmp_path / name, codec, frames=90, options=options.get(codec, X264_CLOSED))
    content = source.read_bytes()
    rng = np.random.default_rng(0)
    compared = 0
    for trial in range(10):
        changed = bytearray(content)
        changed[int(rng.integers(len(content) // 4, len(content)))] ^= int(rng.integers(1, 256))
        path = tmp_path / f"{trial}_{name}"
        path.write_bytes(changed)
        # On one thread: of damaged pictures FFmpeg's threads make what they happen to find in their references.
        plain = read_clip(path, full_size(), backend="pyav-plain", threads=1)
        for n in (3, 512):
            clip = read_clip(path, full_size(n), threads=1)
            if plain.note == clip.note:
                compared += 1
                assert np.array_equal(clip.frames, plain.frames[clip.frame_indices])
    assert compared >= 10


def test_the_order_in_which_pictures_are_shown() -> None:
    assert shown_order(list("IPBBPB")) == [0, 3, 1, 2, 5, 4]
    assert shown_order(list("IPP")) == [0, 1, 2]
    assert shown_order(list("IBBPBB")) == [2, 0, 1, 5, 3, 4], "an open beginning"
    assert shown_order([]) == []


def test_a_copy_of_a_transport_stream_that_lost_packets(tmp_path: Path) -> None:
    """As received over the air: what is marked as corrupt is not skipped over."""
    path = make_video(tmp_path / "v.ts", frames=150, options=X264_CLOSED)
    content = path.read_bytes()
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    del packets[len(packets) // 2 : len(packets) // 2 + 3]
    path.write_bytes(b"".join(packets))
    assert_plain(path)


def test_a_copy_into_another_container_and_back(tmp_path: Path, plain_passes: list[Path]) -> None:
    whole = make_video(tmp_path / "whole.mp4", frames=150, options=ADAPTIVE)
    truth = read_clip(whole, full_size())
    for name in ("v.ts", "v.mkv"):
        copy = remux(whole, tmp_path / name)
        for n in (3, 512):
            clip = read_clip(copy, full_size(n))
            assert np.array_equal(clip.frames, truth.frames[clip.frame_indices])
    assert not plain_passes

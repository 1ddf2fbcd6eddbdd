"""Files as they are found in the wild: each gives the frames that plain decoding gives, or one line of reason."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import decord
import numpy as np
import pytest
from PIL import Image
from videos import (
    MPEG4,
    VP9,
    X264_CLOSED,
    X264_OPEN,
    X265_CLOSED,
    X265_OPEN,
    all_frames,
    emptied,
    make_video,
    picture,
    remux,
)

from vamba_eval import FrameSampling, read_clip
from vamba_eval.contracts import VideoError
from vamba_eval.video import canvas, pyav
from vamba_eval.video.canvas import Hooks

try:
    from torchcodec.decoders import VideoDecoder
except (ImportError, RuntimeError, OSError):  # it is installed without FFmpeg's libraries
    VideoDecoder = None
needs_torchcodec = pytest.mark.skipif(VideoDecoder is None, reason="torchcodec needs FFmpeg's shared libraries")


def full_size(n: int = 512) -> FrameSampling:
    return FrameSampling(num_frames=n, shortest_edge=None, longest_edge=None)


def assert_exact(path: Path, truth: np.ndarray | None = None) -> None:
    """Any sampling gives the frames of plain decoding, in one thread or several."""
    truth = all_frames(path) if truth is None else truth
    for n in (1, 5, 17, 512):
        expected = full_size(n).indices(len(truth), 25.0)
        for threads in (1, 3):
            clip = read_clip(path, full_size(n), threads=threads)
            assert clip.frame_indices.tolist() == expected
            assert np.array_equal(clip.frames, truth[expected])


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("closed") / "v.mp4", frames=120, options=X264_CLOSED)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("open") / "v.mp4", frames=120, options=X264_OPEN)


@pytest.fixture
def plain_passes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Fills with each file that is decoded from its start."""
    passes: list[Path] = []
    plain = pyav._read_plainly

    def noticed(source: canvas.Source, *arguments: object) -> object:
        passes.append(source.path)
        return plain(source, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pyav, "_read_plainly", noticed)
    return passes


# -------------------------------------------------------------------------------- codecs and containers

LAYERS = {"x265-params": "temporal-layers=3:bframes=7:b-pyramid=1:keyint=40:log-level=none"}
ALT_REF = {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "40", "deadline": "good", "cpu-used": "5"}
SEEKABLE = {
    "pyramid.mp4": ("libx264", {"x264-params": "bframes=8:b-pyramid=normal:keyint=60:ref=8"}),
    "interlaced.mp4": ("libx264", {"x264-params": "interlaced=1:keyint=40"}),
    "layers.mp4": ("libx265", LAYERS),
    "hidden_frames.webm": ("libvpx", ALT_REF),
    "hidden_frames_9.webm": ("libvpx-vp9", ALT_REF),
    "av1.mkv": ("libsvtav1", {"svtav1-params": "lp=1:keyint=40"}),
    "mpeg2.mkv": ("mpeg2video", {"bf": "2", "g": "15"}),
    "sorenson.flv": ("flv", {}),
    "fragmented.mp4": ("libx264", X264_OPEN),
    "live.mkv": ("libx264", X264_OPEN),
}
CONTAINER_OPTIONS = {"fragmented.mp4": {"movflags": "frag_keyframe+empty_moov"}, "live.mkv": {"live": "1"}}


@pytest.mark.parametrize("name", SEEKABLE)
def test_stretches_equal_plain_decoding(tmp_path: Path, name: str, plain_passes: list[Path]) -> None:
    codec, options = SEEKABLE[name]
    path = make_video(
        tmp_path / name, codec, frames=120, options=options, container_options=CONTAINER_OPTIONS.get(name)
    )
    assert_exact(path)
    assert not plain_passes, "decoded by stretches, not as a whole"


FROM_THE_START = {
    "v.gif": ("gif", "rgb8", {}),
    "v.apng": ("apng", "rgb24", {}),
    "v.y4m": ("rawvideo", "yuv420p", {}),
    "v.ogv": ("libvpx", "yuv420p", {"g": "20"}),
    "v.nut": ("mpeg4", "yuv420p", MPEG4),
    "one_entry.h264": ("libx264", "yuv420p", {"x264-params": "intra-refresh=1:keyint=30"}),
    "one_entry.ts": ("libx264", "yuv420p", {"x264-params": "intra-refresh=1:keyint=30:bframes=2"}),
}


@pytest.mark.parametrize("name", FROM_THE_START)
def test_other_containers_are_decoded_from_the_start(tmp_path: Path, name: str) -> None:
    codec, pixel_format, options = FROM_THE_START[name]
    assert_exact(make_video(tmp_path / name, codec, frames=120, options=options, pixel_format=pixel_format))


def test_unreferenced_frames_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast path is taken: fewer frames come out of the decoder than lie before the wanted one."""
    path = make_video(tmp_path / "v.mp4", frames=120, options={"x264-params": "bframes=3:keyint=120:scenecut=0"})
    alive = 0

    def count() -> None:
        nonlocal alive
        alive += 1

    decoded = []
    convert = canvas.rgb
    monkeypatch.setattr(canvas, "rgb", lambda frame, *about: decoded.append(frame.pts) or convert(frame, *about))
    clip = read_clip(path, full_size(3), threads=1, hooks=Hooks(alive=count))
    assert len(decoded) == 3 and np.array_equal(clip.frames, all_frames(path)[[20, 60, 100]])
    # 120 packets indexed, 40 checked, those up to the last wanted frame decoded, and a sign for each of the 3.
    assert 120 + 40 + 100 <= alive <= 120 + 40 + 110


# ------------------------------------------------------------------------------------------------- times


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "ts"])
def test_a_late_start(closed: Path, tmp_path: Path, ending: str) -> None:
    path = remux(closed, tmp_path / f"late.{ending}", shift=12_800 * 5)
    assert_exact(path)
    assert read_clip(path, full_size(3)).timestamps_s == pytest.approx(np.array([20, 60, 100]) / 25, abs=2e-3)


@pytest.mark.parametrize("frames", [3, 20, 40])
@pytest.mark.parametrize("kind", ["closed", "opened"])
def test_an_edit_list_cuts_the_beginning_off(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, frames: int, plain_passes: list[Path]
) -> None:
    source = request.getfixturevalue(kind)
    path = remux(source, tmp_path / "v.mp4", shift=-512 * frames, options={"avoid_negative_ts": "disabled"})
    with av.open(str(path)) as container:
        assert any(packet.is_discard for packet in container.demux(video=0)), "leading frames are to be discarded"
    truth = all_frames(path)
    assert len(truth) < 120
    assert_exact(path, truth)
    assert not plain_passes


@pytest.mark.parametrize(
    ("codec", "options", "ending"),
    [
        ("libx264", X264_OPEN, "mkv"),
        ("libx264", X264_OPEN, "mp4"),
        ("libx264", X264_CLOSED, "ts"),
        ("libx265", X265_OPEN, "mkv"),
        ("libx265", X265_OPEN, "mp4"),
        ("libx265", X265_OPEN, "ts"),
    ],
)
def test_a_copy_that_begins_between_key_frames(
    tmp_path: Path, codec: str, options: dict[str, str], ending: str
) -> None:
    """What was cut without encoding anew begins with frames that not every decoder shows."""
    whole = make_video(tmp_path / "whole.mp4", codec, frames=120, options=options)
    path = remux(whole, tmp_path / f"cut.{ending}", first=27)
    truth = all_frames(path)
    assert 60 <= len(truth) <= 93
    assert_exact(path, truth)


# --------------------------------------------------------------------------------------- headers that lie


def _patched(source: Path, target: Path, fields: list[tuple[bytes, int, str]], factor: float) -> Path:
    """A copy in which the number ``offset`` bytes behind each box or chunk name is multiplied."""
    content = bytearray(source.read_bytes())
    for name, offset, layout in fields:
        place = content.index(name) + len(name) + offset
        (value,) = struct.unpack_from(layout, content, place)
        struct.pack_into(layout, content, place, int(value * factor))
    target.write_bytes(content)
    return target


# Durations of movie, media and track (ISO/IEC 14496-12), frame counts of the AVI's headers.
MP4_DURATIONS = [(b"mvhd", 16, ">I"), (b"mdhd", 16, ">I"), (b"tkhd", 20, ">I")]
AVI_COUNTS = [(b"avih", 4 + 16, "<I"), (b"strh", 4 + 32, "<I")]


@pytest.mark.parametrize("factor", [0.3, 2.0, 20.0])
def test_wrong_counts_and_durations_do_not_matter(closed: Path, tmp_path: Path, factor: float) -> None:
    truth = all_frames(closed)
    assert_exact(_patched(closed, tmp_path / "v.mp4", MP4_DURATIONS, factor), truth)
    assert_exact(_patched(closed, tmp_path / "time_to_sample.mp4", [(b"stts", 8, ">I")], factor), truth)
    avi = make_video(tmp_path / "v.avi", "mpeg4", frames=120, options=MPEG4)
    assert_exact(_patched(avi, tmp_path / "lies.avi", AVI_COUNTS, factor), all_frames(avi))


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_more_promised_than_can_be_decoded(closed: Path, tmp_path: Path, ending: str) -> None:
    """decord loops for ever on such a file. What decodes is the truth, and the clip says so."""
    path = remux(closed, tmp_path / f"v.{ending}", mangle=lambda n, content: content if n < 90 else bytes(len(content)))
    clip = read_clip(path, full_size(8))
    whole = read_clip(path, full_size(), backend="pyav-plain")
    total = len(whole.frames)
    assert 80 <= total <= 92 and f"{120 - total} of its 120 frames cannot be decoded" in clip.note
    assert clip.frame_indices.tolist() == full_size(8).indices(total, 25.0)
    assert np.array_equal(clip.frames, whole.frames[clip.frame_indices])
    assert np.array_equal(whole.frames[:80], all_frames(closed)[:80])


def test_a_hole_that_no_wanted_frame_touches_costs_nothing(closed: Path, tmp_path: Path) -> None:
    truth = all_frames(closed)
    path = remux(closed, tmp_path / "v.mp4", mangle=lambda n, b: b if n != 118 else bytes(len(b)))
    assert np.array_equal(read_clip(path, full_size(2)).frames, truth[[30, 90]])


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_times_of_decoding_are_not_taken_for_those_of_showing(closed: Path, tmp_path: Path, ending: str) -> None:
    """As copies from AVI or raw streams state them: each frame has a time of its own, and a wrong one."""
    path = remux(closed, tmp_path / f"v.{ending}", decoding_times=True)
    with av.open(str(path)) as container:
        pts = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert pts == sorted(pts)
    truth = all_frames(path)
    assert len(truth) >= 118  # an edit list may cut off what is decoded before time 0
    assert_exact(path, truth)
    clip = read_clip(path, full_size(3))
    assert clip.timestamps_s == pytest.approx(clip.frame_indices / 25, abs=2e-3)


@pytest.mark.parametrize("frames_between", [0, 3])
def test_a_gradual_refresh_is_no_key_frame(tmp_path: Path, frames_between: int) -> None:
    options = {"x264-params": f"intra-refresh=1:keyint=30:bframes={frames_between}"}
    path = make_video(tmp_path / "v.mp4", frames=200, options=options)
    with av.open(str(path)) as container:
        assert sum(packet.is_keyframe for packet in container.demux(video=0) if packet.size) > 3, "FFmpeg says so"
    truth = all_frames(path)
    for n in (1, 2, 3, 7, 50):
        assert np.array_equal(read_clip(path, full_size(n)).frames, truth[full_size(n).indices(200, 25.0)])


@pytest.mark.parametrize("ending", ["mp4", "mkv", "flv", "ts"])
def test_damage_is_the_same_whatever_is_read_around_it(closed: Path, tmp_path: Path, ending: str) -> None:
    """One changed byte in one packet, concealed by the decoder: any sampling shows what decoding everything
    shows."""
    rng = np.random.default_rng(0)
    for trial in range(12):
        hit, place, change = int(rng.integers(1, 120)), float(rng.random()), int(rng.integers(1, 256))

        def damaged(number: int, content: bytes, hit: int = hit, place: float = place, change: int = change) -> bytes:
            changed = bytearray(content)
            changed[5 + int(place * (len(content) - 5))] ^= change if number == hit else 0
            return bytes(changed)

        path = remux(closed, tmp_path / f"{trial}.{ending}", mangle=damaged)
        everything = read_clip(path, full_size(), backend="pyav-plain").frames
        for n, threads in ((3, 1), (7, 2), (23, 2)):
            clip = read_clip(path, full_size(n), threads=threads)
            assert np.array_equal(clip.frames, everything[clip.frame_indices])


@pytest.mark.parametrize("numbers", [{10, 11, 25}, {40}, {57, 58, 59}, set(range(5, 55, 2))], ids=str)
@pytest.mark.parametrize(
    ("codec", "pixel_format"), [("mpeg4", "yuv420p"), ("mjpeg", "yuvj420p"), ("qtrle", "rgb24"), ("cinepak", "rgb24")]
)
def test_empty_packets_end_nothing(tmp_path: Path, codec: str, pixel_format: str, numbers: set[int]) -> None:
    """The frame before is shown on: no frame is theirs, and all others have their own times."""
    source = make_video(
        tmp_path / "whole.mov", codec, frames=60, size=(48, 64), pixel_format=pixel_format, options={"g": "20"}
    )
    path = emptied(source, tmp_path / "v.mov", numbers)
    with av.open(str(path)) as container:
        empty = [n for n, packet in enumerate(container.demux(video=0)) if packet.size == 0 and packet.pts is not None]
    assert set(empty) == numbers
    truth = all_frames(path)
    assert len(truth) == 60 - len(numbers)
    assert_exact(path, truth)
    for backend in ("pyav", "pyav-plain"):
        clip = read_clip(path, full_size(), backend=backend)
        times = np.delete(np.arange(60) / 25, sorted(numbers))
        assert np.array_equal(clip.frames, truth) and clip.timestamps_s == pytest.approx(times) and clip.note == ""
        part = read_clip(path, full_size(), start_s=1.0, end_s=2.0, backend=backend)
        assert part.timestamps_s == pytest.approx(times[(times >= 1.0) & (times <= 2.0)])


def test_a_stream_without_times_has_those_of_its_rate(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.h264", frames=120, options=X264_CLOSED)
    clip = read_clip(path, full_size(4))
    assert clip.timestamps_s == pytest.approx(clip.frame_indices / clip.source_fps)
    assert clip.duration_s == pytest.approx(120 / clip.source_fps)
    part = read_clip(path, full_size(), start_s=1.0, end_s=2.0)
    assert part.timestamps_s.min() >= 1.0 and part.timestamps_s.max() <= 2.0 and len(part.frames) > 20


def test_joined_recordings_run_on(tmp_path: Path) -> None:
    """The second recording's clock starts anew."""
    one = make_video(tmp_path / "one.ts", frames=100, options=X264_CLOSED)
    path = tmp_path / "joined.ts"
    path.write_bytes(one.read_bytes() * 2)
    clip = read_clip(path, full_size())
    assert len(clip.frames) == 200 and clip.duration_s == pytest.approx(8.0, abs=0.1)
    assert np.diff(clip.timestamps_s) == pytest.approx(0.04, abs=0.01)
    assert len(read_clip(path, full_size(), start_s=5.0, end_s=6.0).frames) in (25, 26)


def test_a_little_that_is_missing_is_noted(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mkv", frames=900, options=X264_CLOSED)
    assert read_clip(path, full_size(8)).note == ""
    path.write_bytes(path.read_bytes()[:-300])
    assert read_clip(path, full_size(8)).note == "the last 300 bytes of the file are missing"


@pytest.mark.parametrize(
    "backend", ["pyav", "pyav-plain", "decord", pytest.param("torchcodec", marks=needs_torchcodec)]
)
def test_more_frames_a_second_than_there_are_repeat_frames(closed: Path, backend: str) -> None:
    sampling = FrameSampling(strategy="fps", fps=50.0, shortest_edge=None, longest_edge=None)
    clip = read_clip(closed, sampling, backend=backend)
    assert len(clip.frames) == len(sampling.indices(120, 25.0)) == 239
    assert np.array_equal(np.unique(clip.frame_indices), np.arange(120))
    assert np.array_equal(clip.frames, all_frames(closed)[clip.frame_indices])


# -------------------------------------------------------------------------------- streams and pictures


def test_the_best_of_several_streams(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = []
        for height, width in ((48, 80), (96, 160)):
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        for number in range(40):
            for stream in streams:
                image = picture(number, stream.height, stream.width)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    expected = decord.VideoReader(str(path)).get_batch(range(40)).asnumpy()
    assert np.array_equal(read_clip(path, full_size()).frames, expected)


def _sound(container: av.container.OutputContainer, stream: av.AudioStream) -> None:
    silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.float32), format="fltp", layout="mono")
    silence.sample_rate = 8000
    container.mux(stream.encode(silence))
    container.mux(stream.encode())


def test_a_cover_picture_is_no_video(tmp_path: Path, closed: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 160, 96, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic.value
        frame = av.VideoFrame.from_ndarray(picture(0, 96, 160), format="rgb24")
        container.mux(cover.encode(frame))
        container.mux(cover.encode())
        _sound(container, sound)
    with av.open(str(path)) as container:
        assert container.streams.video[0].disposition & av.stream.Disposition.attached_pic
    with pytest.raises(VideoError, match="no video stream, only a cover picture"):
        read_clip(path)


@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "libx264"), ("v.webm", "libvpx-vp9"), ("v.avi", "mpeg4")])
def test_a_video_of_one_frame(tmp_path: Path, name: str, codec: str) -> None:
    path = make_video(tmp_path / name, codec, frames=1)
    clip = read_clip(path, full_size())
    assert clip.frames.shape == (1, 96, 160, 3) and clip.timestamps_s.tolist() == [0.0]
    assert np.array_equal(clip.frames, all_frames(path))


def test_a_gif_is_drawn_frame_over_frame(tmp_path: Path) -> None:
    images = []
    for number in range(30):  # only a small part changes, which GIF stores alone
        image = picture(0, 96, 160)
        image[10:20, 4 * number : 4 * number + 10] = (255, 8 * number, 0)
        images.append(Image.fromarray(image).quantize(64))
    path = tmp_path / "v.gif"
    images[0].save(path, save_all=True, append_images=images[1:], duration=40, loop=0)
    assert_exact(path)
    clip = read_clip(path, full_size())
    for frame, image in zip(clip.frames, images, strict=True):
        assert np.array_equal(frame, np.asarray(image.convert("RGB")))


def test_names_are_names(closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = closed.read_bytes()
    for name in ("with spaces.mp4", "überraschung 日本.mp4", "http:colon.mp4", "-dash.mp4", "100%d.mp4"):
        Path(name).write_bytes(content)
        assert len(read_clip(name, full_size(4)).frames) == 4
    with pytest.raises(VideoError, match="no such file"):
        read_clip("concat:with spaces.mp4", full_size(4))


# ---------------------------------------------------------------------------------------------- backends

EIGHT_BITS = {
    "h264.mp4": ("libx264", X264_CLOSED),
    "hevc.mp4": ("libx265", X265_CLOSED),
    "vp9.webm": ("libvpx-vp9", VP9),
    "mpeg4.mkv": ("mpeg4", {"g": "20"}),
}


@needs_torchcodec
@pytest.mark.parametrize("name", EIGHT_BITS)
def test_three_backends_give_identical_clips(tmp_path: Path, name: str) -> None:
    codec, options = EIGHT_BITS[name]
    path = make_video(tmp_path / name, codec, frames=60, options=options)
    for sampling in (full_size(9), FrameSampling(num_frames=9, shortest_edge=40, longest_edge=120)):
        ours = read_clip(path, sampling)
        for backend in ("pyav-plain", "torchcodec", "decord"):
            other = read_clip(path, sampling, backend=backend)
            assert np.array_equal(other.frames, ours.frames), backend
            assert other.frame_indices.tolist() == ours.frame_indices.tolist()
            assert other.timestamps_s == pytest.approx(ours.timestamps_s, abs=2e-3)
            assert other.source_fps == pytest.approx(ours.source_fps)
            assert other.duration_s == pytest.approx(ours.duration_s, abs=0.05)


BT709, BT601, BT2020 = 1, 6, 9
DEEP = {
    "h264_10.mp4": ("libx264", "yuv420p10le", BT709, False, (96, 160)),
    "hevc_10.mp4": ("libx265", "yuv420p10le", BT2020, False, (96, 160)),
    "hevc_10_full.mp4": ("libx265", "yuv420p10le", BT2020, True, (96, 160)),
    "hevc_12.mp4": ("libx265", "yuv420p12le", BT2020, False, (96, 160)),
    "hevc_422_10.mp4": ("libx265", "yuv422p10le", BT709, False, (96, 160)),
    "prores.mov": ("prores_ks", "yuv422p10le", BT709, False, (96, 160)),
    "av1.mp4": ("libsvtav1", "yuv420p", BT709, False, (96, 160)),
    "av1_10.mp4": ("libsvtav1", "yuv420p10le", BT2020, False, (96, 160)),
    "h264_444.mp4": ("libx264", "yuv444p", BT601, False, (97, 163)),
    "full_709.mp4": ("libx264", "yuv420p", BT709, True, (96, 160)),
    "full_601.mp4": ("libx264", "yuv420p", BT601, True, (96, 160)),
    "full_2020.mp4": ("libx264", "yuv420p", BT2020, True, (96, 160)),
    "odd_10.mkv": ("ffv1", "yuv420p10le", BT2020, False, (97, 163)),
}


@needs_torchcodec
@pytest.mark.parametrize("name", DEEP)
def test_colors_are_torchcodec_s(tmp_path: Path, name: str) -> None:
    codec, pixel_format, colorspace, full_range, size = DEEP[name]
    options = {"libx265": {"x265-params": "log-level=none"}, "libsvtav1": {"svtav1-params": "lp=1"}}.get(codec, {})
    path = make_video(
        tmp_path / name,
        codec,
        frames=12,
        size=size,
        options=options,
        pixel_format=pixel_format,
        colorspace=colorspace,
        full_range=full_range,
    )
    decoder = VideoDecoder(str(path), dimension_order="NHWC")
    expected = np.stack([decoder.get_frame_at(n).data.numpy() for n in range(12)])
    difference = np.abs(read_clip(path, full_size()).frames.astype(int) - expected)
    assert difference.max() <= 1


@pytest.mark.parametrize("codec", ["libx265", "mpeg4"])
def test_the_decord_backend_gives_what_its_users_get(tmp_path: Path, codec: str) -> None:
    """Wrong frames included: it is there to compare with."""
    options = {"libx265": X265_OPEN, "mpeg4": MPEG4}[codec]
    path = make_video(tmp_path / "v.mp4", codec, frames=120, options=options)
    clip = read_clip(path, full_size(30), backend="decord")
    expected = decord.VideoReader(str(path)).get_batch(full_size(30).indices(120, 25.0)).asnumpy()
    assert np.array_equal(clip.frames, expected)


@pytest.mark.parametrize("backend", ["decord", pytest.param("torchcodec", marks=needs_torchcodec)])
def test_parts_are_bounded_by_times_not_by_rates(tmp_path: Path, backend: str) -> None:
    path = make_video(tmp_path / "v.mkv", frames=90, variable=True)
    ours = read_clip(path, full_size(5), start_s=2.0, end_s=4.0)
    other = read_clip(path, full_size(5), start_s=2.0, end_s=4.0, backend=backend)
    assert other.frame_indices.tolist() == ours.frame_indices.tolist()
    assert other.timestamps_s == pytest.approx(ours.timestamps_s, abs=2e-3)


@pytest.mark.parametrize("name", ["odd.webm", "odd.mkv"])
def test_odd_sizes_of_eight_bits_are_decord_s(tmp_path: Path, name: str) -> None:
    codec = {"odd.webm": "libvpx-vp9", "odd.mkv": "ffv1"}[name]
    path = make_video(tmp_path / name, codec, frames=12, size=(97, 163))
    expected = decord.VideoReader(str(path)).get_batch(range(12)).asnumpy()
    assert np.array_equal(read_clip(path, full_size()).frames, expected)


@pytest.mark.parametrize("backend", ["decord", pytest.param("torchcodec", marks=needs_torchcodec)])
def test_other_backends_fail_in_one_line_too(tmp_path: Path, closed: Path, backend: str) -> None:
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(20_000))
    with pytest.raises(VideoError, match=f"noise.mp4 cannot be read by {backend}") as caught:
        read_clip(tmp_path / "noise.mp4", backend=backend)
    assert "\n" not in str(caught.value)
    with pytest.raises(VideoError, match="no frame between"):
        read_clip(closed, backend=backend, start_s=50.0, end_s=60.0)


def test_an_unknown_backend_is_refused(closed: Path) -> None:
    with pytest.raises(ValueError, match="unknown video backend 'opencv'; choose from pyav"):
        read_clip(closed, backend="opencv")


# -------------------------------------------------------------------------------------------------- fuzz

FUZZ = """
import random, resource, sys
from pathlib import Path
from vamba_eval import FrameSampling, read_clip
from vamba_eval.contracts import VideoError

folder, copies, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
originals = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
sampling = FrameSampling(num_frames=6, shortest_edge=32, longest_edge=64)
clips = reasons = 0
for number in range(copies):
    name, content = rng.choice(list(originals.items()))
    content = bytearray(content)
    for _ in range(rng.choice((1, 3, 20, 200))):
        kind, place = rng.random(), rng.randrange(len(content) or 1)
        if kind < 0.5:
            content[place] = rng.randrange(256)
        elif kind < 0.6:
            del content[place : place + rng.randrange(1, 400)]
        elif kind < 0.7:
            content[place:place] = rng.randbytes(rng.randrange(1, 200))
        elif kind < 0.8:
            content[place : place + 400] = bytes(len(content[place : place + 400]))
        else:  # numbers near the front decide most
            place = rng.randrange(min(2000, len(content)) or 1)
            content[place] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        if not content:
            break
    if rng.random() < 0.1:
        del content[rng.randrange(len(content) or 1) :]
    path = folder.parent / f"fuzzed{Path(name).suffix}"
    path.write_bytes(content)
    try:
        clip = read_clip(path, sampling, threads=rng.choice((1, 2)))
        assert clip.frames.ndim == 4 and len(clip.frames) == len(clip.timestamps_s) == len(clip.frame_indices) > 0
        clips += 1
    except (VideoError, MemoryError) as error:
        assert "\\n" not in str(error), error
        reasons += 1
    if number == copies // 3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
print(clips, reasons, grown)
"""


@pytest.fixture(scope="module")
def fuzz_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "originals"
    folder.mkdir()
    make: Callable[..., Path] = make_video
    small = {"frames": 40, "size": (48, 64)}
    make(folder / "a.mp4", options=X264_OPEN, **small)
    make(folder / "b.mkv", options=X264_CLOSED, **small)
    make(folder / "c.mp4", "libx265", options=X265_OPEN, **small)
    make(folder / "d.webm", "libvpx-vp9", options=VP9, **small)
    make(folder / "e.avi", "mpeg4", options=MPEG4, **small)
    make(folder / "f.ts", "libx264", options=X264_CLOSED, **small)
    make(folder / "g.gif", "gif", pixel_format="rgb8", **small)
    make(folder / "h.mpg", "mpeg2video", options={"bf": "2"}, **small)
    make(folder / "i.flv", "libx264", options=X264_OPEN, **small)
    make(folder / "j.webm", "libvpx", options=ALT_REF, **small)
    return folder


def test_thousands_of_corrupted_copies(fuzz_folder: Path) -> None:
    """In a process of its own, which a crash would end and a hang would keep; memory stops growing."""
    command = [sys.executable, "-c", FUZZ, str(fuzz_folder), "2500", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    clips, reasons, grown_mib = map(int, done.stdout.split()[-3:])
    assert clips > 300 and reasons > 300 and clips + reasons == 2500
    assert grown_mib < 150

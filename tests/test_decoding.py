"""Frames against decord and against plain decoding of the whole file."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import decord
import numpy as np
import pytest
from PIL import Image
from videos import MPEG4, VP9, X264_CLOSED, X264_OPEN, X265_CLOSED, X265_OPEN, all_frames, make_video, picture

from vamba_eval import FrameSampling, read_clip
from vamba_eval.contracts import Ladder, VideoError
from vamba_eval.video.read import probe

FILES = {
    "h264_closed.mp4": ("libx264", X264_CLOSED),
    "h264_open.mp4": ("libx264", X264_OPEN),
    "h264.mkv": ("libx264", X264_CLOSED),
    "h264.mov": ("libx264", X264_OPEN),
    "hevc_closed.mp4": ("libx265", X265_CLOSED),
    "hevc_open.mp4": ("libx265", X265_OPEN),
    "vp9.webm": ("libvpx-vp9", VP9),
    "mpeg4.mp4": ("mpeg4", MPEG4),
    "mpeg4.avi": ("mpeg4", MPEG4),
    "h264.ts": ("libx264", X264_CLOSED),
}
# Where decord seeks, it skips frames before the wanted one in these files (it counts frames that are shown
# before a key frame wrongly) or reads every frame wrongly (MPEG-TS); plain decoding is the reference there.
DECORD_SEEKS_WRONGLY = {"hevc_open.mp4", "mpeg4.mp4", "mpeg4.avi", "h264.ts"}
DECORD_READS_WRONGLY = {"h264.ts"}


def full_size(n: int) -> FrameSampling:
    return FrameSampling(num_frames=n, shortest_edge=None, longest_edge=None)


@pytest.fixture(scope="module", params=[False, True], ids=["constant", "variable"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, (codec, options) in FILES.items():
        make_video(folder / name, codec, options=options, variable=request.param)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_frames_are_those_of_decord_and_of_plain_decoding(folder: Path, name: str) -> None:
    path = folder / name
    truth = all_frames(path)
    reader = decord.VideoReader(str(path), num_threads=1)
    assert len(reader) == len(truth) == 90
    for n in (1, 7, 30, 512):
        clip = read_clip(path, full_size(n))
        expected = full_size(n).indices(90, 25.0)
        assert clip.frame_indices.tolist() == expected
        assert np.array_equal(clip.frames, truth[expected])
        if name not in DECORD_SEEKS_WRONGLY:
            fresh = decord.VideoReader(str(path), num_threads=1)
            assert np.array_equal(clip.frames, fresh.get_batch(expected).asnumpy())
        if name not in DECORD_READS_WRONGLY:
            everything = reader.get_batch(list(range(90))).asnumpy()
            assert np.array_equal(clip.frames, everything[expected])
    assert clip.source_fps == pytest.approx(89 / clip.timestamps_s[-1], rel=0.01)


def test_frames_are_resized_one_by_one_with_pil(folder: Path) -> None:
    clip = read_clip(folder / "h264_closed.mp4", FrameSampling(num_frames=9, shortest_edge=40, longest_edge=120))
    truth = all_frames(folder / "h264_closed.mp4")
    assert clip.frames.shape == (9, 72, 120, 3)
    for frame, index in zip(clip.frames, clip.frame_indices, strict=True):
        assert np.array_equal(frame, np.asarray(Image.fromarray(truth[index]).resize((120, 72), resample=3)))


def test_times_are_presentation_times(tmp_path: Path) -> None:
    path = make_video(tmp_path / "variable.mkv", variable=True, frames=12)
    clip = read_clip(path, full_size(12))
    expected = np.cumsum([0] + [9 if n % 3 == 0 else 4 for n in range(11)]) / 100
    assert clip.timestamps_s == pytest.approx(expected, abs=1e-3)


def test_a_span_bounds_the_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", frames=100, options=X264_CLOSED)
    clip = read_clip(path, full_size(4), start_s=1.0, end_s=1.99)
    assert clip.frame_indices.tolist() == [25 + i for i in full_size(4).indices(25, 25.0)]
    with pytest.raises(VideoError, match="no frame between"):
        read_clip(path, full_size(4), start_s=50.0, end_s=60.0)


def test_memory_holds_the_clip_at_its_final_size_only(tmp_path: Path) -> None:
    path = make_video(tmp_path / "large.mp4", frames=400, size=(720, 1280), options={"preset": "ultrafast"})
    code = (
        "import resource, sys; from vamba_eval import FrameSampling, read_clip;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        f"clip = read_clip({str(path)!r}, FrameSampling(num_frames=400, shortest_edge=28, longest_edge=112));"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    grown = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert grown < 400, "400 frames at full size take 1,055 MiB"


def test_a_folder_of_extracted_frames_is_sampled_like_a_video(tmp_path: Path) -> None:
    for n in range(12):
        Image.fromarray(picture(n, 40, 60)).save(tmp_path / f"frame_{n}.jpg")
    clip = read_clip(tmp_path, full_size(5))
    assert clip.frame_indices.tolist() == full_size(5).indices(12, 1.0)
    for frame, index in zip(clip.frames, clip.frame_indices, strict=True):
        assert np.array_equal(frame, np.asarray(Image.open(tmp_path / f"frame_{index}.jpg")))
    (tmp_path / "frame_7.jpg").unlink()
    with pytest.raises(VideoError, match=r"frame_7\.jpg is missing"):
        read_clip(tmp_path)


def segments(n: int) -> FrameSampling:
    return FrameSampling(strategy="segments", num_frames=n, shortest_edge=None, longest_edge=None)


def mvbench_numbers(n: int, span: tuple[float, float] | None, fps: float, first: int, last: int) -> list[int]:
    """The rule that MVBench publishes, in NumPy: numbers of frames that are counted from ``first`` to ``last``."""
    start, end = span or (-100_000.0, 100_000.0)
    low, high = max(first, round(start * fps)), min(round(end * fps), last)
    return [int(low + (high - low) / n / 2 + np.round((high - low) / n * i)) for i in range(n)]


SPANS = [None, (0.0, 1.3), (0.5, 2.22), (1.1, 1.1), (2.9, 100.0), (0.0, 3.6)]


@pytest.mark.parametrize("backend", ["pyav", "pyav-plain", "decord", "torchcodec"])
@pytest.mark.parametrize("n", [1, 8, 64, 300])
def test_segments_of_a_span_with_repeated_frames(tmp_path: Path, backend: str, n: int) -> None:
    path = make_video(tmp_path / "v.mp4", options=X264_CLOSED)
    truth = all_frames(path)
    for span in SPANS:
        start, end = span or (None, None)
        clip = read_clip(path, segments(n), start_s=start, end_s=end, backend=backend)
        expected = mvbench_numbers(n, span, 25.0, 0, 89)
        assert clip.frame_indices.tolist() == expected and len(expected) == n, span
        assert np.array_equal(clip.frames, truth[expected]), span
        assert clip.timestamps_s == pytest.approx(np.array(expected) / 25, abs=1e-3)


@pytest.mark.parametrize("rate", ["times", "header"])
def test_segments_take_the_average_rate_of_a_variable_one(tmp_path: Path, rate: str) -> None:
    path = make_video(tmp_path / "v.mkv", variable=True)
    sampling = replace(segments(8), rate=rate)
    clip = read_clip(path, sampling, start_s=1.0, end_s=3.0)
    fps = decord.VideoReader(str(path)).get_avg_fps() if rate == "header" else clip.source_fps
    assert clip.frame_indices.tolist() == mvbench_numbers(8, (1.0, 3.0), fps, 0, 89)
    uniform = read_clip(path, full_size(8), start_s=1.0, end_s=3.0)
    assert clip.frame_indices.tolist() != uniform.frame_indices.tolist(), "that takes each frame's own time"


def test_a_span_behind_the_end_has_no_segments(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", frames=30)
    for span in ((5.0, 9.0), (0.9, 0.5)):
        with pytest.raises(VideoError, match="no frame between"):
            read_clip(path, segments(8), start_s=span[0], end_s=span[1])


@pytest.mark.parametrize("form", ["frame_{}.jpg", "{:05}.jpg", "{:03}.jpeg", "{:04}.png", "{}.png"])
def test_a_folder_of_extracted_frames_with_a_rate_has_times_and_spans(tmp_path: Path, form: str) -> None:
    first = 0 if form.startswith("frame") else 1
    for n in range(25):
        Image.fromarray(picture(n, 40, 60)).save(tmp_path / form.format(first + n))
    truth = np.stack([np.asarray(Image.open(tmp_path / form.format(first + n))) for n in range(25)])
    for span in (None, (0.0, 4.1), (1.2, 3.3), (2.0, 99.0)):
        start, end = span or (None, None)
        for n in (4, 60):
            clip = read_clip(tmp_path, segments(n), start_s=start, end_s=end, frames_per_second=3.0)
            numbers = mvbench_numbers(n, span, 3.0, first, first + 24)
            assert clip.frame_indices.tolist() == [number - first for number in numbers]
            assert np.array_equal(clip.frames, truth[clip.frame_indices])
            assert clip.timestamps_s == pytest.approx(clip.frame_indices / 3)
    assert (clip.source_fps, clip.duration_s) == (3.0, pytest.approx(25 / 3))
    # Another strategy bounds by the frames' times: those from 1 s to 3 s are the fourth to the tenth.
    clip = read_clip(tmp_path, full_size(99), start_s=1.0, end_s=3.0, frames_per_second=3.0)
    assert clip.frame_indices.tolist() == list(range(3, 10))
    clip = read_clip(tmp_path, segments(7))
    assert clip.frame_indices.tolist() == segments(7).indices(25, 1.0), "the whole folder needs no rate"
    assert np.isnan(clip.timestamps_s).all() and np.isnan(clip.source_fps)
    for sampling in (segments(4), full_size(4)):
        with pytest.raises(VideoError, match="have no times"):
            read_clip(tmp_path, sampling, start_s=1.0, end_s=3.0)
    assert probe(tmp_path).width == 60
    (tmp_path / form.format(first + 9)).unlink()
    with pytest.raises(VideoError, match=f"{form.format(first + 9)} is missing; extract"):
        read_clip(tmp_path)


def test_a_frame_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    for name in ("00001.jpg", "00002.jpg", "00002.png"):
        Image.fromarray(picture(1, 40, 60)).save(tmp_path / name)
    with pytest.raises(VideoError, match="frame number 2 more than once"):
        read_clip(tmp_path)


def test_probe_reads_the_header(tmp_path: Path) -> None:
    info = probe(make_video(tmp_path / "v.mp4", frames=50, size=(96, 160)))
    assert (info.codec, info.height, info.width, info.fps) == ("h264", 96, 160, 25.0)
    assert info.duration_s == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_rotation_metadata_is_applied(tmp_path: Path, quarters: int) -> None:
    path = make_video(tmp_path / "phone.mp4", frames=10)
    upright = read_clip(path, full_size(10)).frames
    content = bytearray(path.read_bytes())
    cos, sin = [(0, 1), (-1, 0), (0, -1)][quarters - 1]
    matrix = [cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30]
    place = content.index(b"tkhd") + 44  # the display matrix in the track header of ISO 14496-12, version 0
    content[place : place + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    turned = read_clip(path, full_size(10)).frames
    assert np.array_equal(turned, np.rot90(upright, k=-quarters, axes=(1, 2)))
    seen_by_decord = decord.VideoReader(str(path)).get_batch(range(10)).asnumpy()
    assert seen_by_decord.shape == turned.shape
    # decord turns before it converts colors, which moves chroma a little.
    assert np.abs(seen_by_decord.astype(int) - turned).mean() < 2


@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("colorspace", [1, 4, 5, 6, 7, 9], ids=["709", "fcc", "470bg", "170m", "240m", "2020"])
def test_color_tags_are_followed(tmp_path: Path, colorspace: int, full_range: bool) -> None:
    path = make_video(tmp_path / "tagged.mp4", frames=12, colorspace=colorspace, full_range=full_range)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (int(frame.colorspace), int(frame.color_range)) == (colorspace, 2 if full_range else 1)
    expected = decord.VideoReader(str(path)).get_batch(range(12)).asnumpy()
    assert np.array_equal(read_clip(path, full_size(12)).frames, expected)


def test_a_matroska_file_may_begin_late(tmp_path: Path) -> None:
    path = make_video(tmp_path / "late.mkv", frames=80, first_pts=500)
    clip = read_clip(path, full_size(80))
    assert len(clip.frames) == 80 and clip.timestamps_s[0] == 0.0


# ---------------------------------------------------------------------------------------- unreadable files


def test_unreadable_files_give_one_line(tmp_path: Path) -> None:
    good = make_video(tmp_path / "good.mp4", frames=50)
    cases = {
        "missing.mp4": None,
        "empty.mp4": b"",
        "noise.mp4": os.urandom(20_000),
        "text.mp4": b"not a video " * 500,
        "half.mp4": good.read_bytes()[: good.stat().st_size // 2],
        "tail lost é.mp4": good.read_bytes()[:-100],
    }
    for name, content in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(VideoError) as caught:
            read_clip(path, full_size(8))
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(VideoError, match="folder without frames"):
        read_clip(tmp_path)


@pytest.mark.parametrize("share", [0.97, 0.5, 0.1])
@pytest.mark.parametrize("name", ["fast.mp4", "stream.mkv"])
def test_an_unfinished_download_is_not_taken_for_a_shorter_video(tmp_path: Path, name: str, share: float) -> None:
    options = {"movflags": "faststart"} if name.endswith("mp4") else None
    path = make_video(tmp_path / name, frames=900, container_options=options, options=X264_CLOSED)
    assert len(read_clip(path, full_size(8)).frames) == 8
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(VideoError, match="cut off: its header promises"):
        read_clip(path, full_size(8))


def test_an_unfinished_download_with_sound_is_noticed_too(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=25), container.add_stream("aac", rate=8000)
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        for second in range(20):
            for number in range(25):
                frame = av.VideoFrame.from_ndarray(picture(25 * second + number, 96, 160), format="rgb24")
                container.mux(video.encode(frame))
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.float32), format="fltp", layout="mono")
            silence.sample_rate = 8000
            container.mux(audio.encode(silence))
        container.mux(video.encode())
        container.mux(audio.encode())
    assert len(read_clip(path, full_size(8)).frames) == 8
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match="cut off"):
        read_clip(path, full_size(8))


def test_a_file_whose_second_half_was_never_written_is_damaged(tmp_path: Path) -> None:
    path = make_video(tmp_path / "hole.mp4", frames=500, container_options={"movflags": "faststart"})
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)
    with pytest.raises(VideoError, match="of its 500 frames can be decoded"):
        read_clip(path, full_size(64))


def test_a_folder_of_broken_pictures_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "frame_0.jpg").write_bytes(b"no picture")
    for read in (read_clip, probe):
        with pytest.raises(VideoError, match=r"frame_0.jpg cannot be read as an image"):
            read(tmp_path)
    Image.fromarray(picture(0, 40, 60)).save(tmp_path / "frame_0.jpg")
    with pytest.raises(VideoError, match="needs the video's frame rate"):
        read_clip(tmp_path, FrameSampling(strategy="fps"))


def test_audio_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match="no video stream"):
        read_clip(path)


@pytest.mark.parametrize("strategy", ["uniform", "segments"])
def test_a_ladder_reads_once_what_each_rung_would_read_alone(tmp_path: Path, strategy: str) -> None:
    path = tmp_path / "film.mp4"
    make_video(path, frames=100, options=X264_CLOSED)
    rungs = tuple(FrameSampling(strategy, num_frames=n, shortest_edge=32, longest_edge=48) for n in (4, 7, 30, 512))
    bounds = {"start_s": 0.5, "end_s": 3.0}
    together = read_clip(path, Ladder(rungs), **bounds)
    assert len(together.frames) == len(set(together.frame_indices.tolist()))
    for number, rung in enumerate(rungs):
        alone, part = read_clip(path, rung, **bounds), together.part(number)
        assert np.array_equal(part.frames, alone.frames)
        assert np.array_equal(part.frame_indices, alone.frame_indices)
        assert np.array_equal(part.timestamps_s, alone.timestamps_s)
        assert (part.source_fps, part.duration_s) == (alone.source_fps, alone.duration_s)

"""Rates come from the frames' times, whatever a header says; from the header where a script's rule is copied."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import decord
import numpy as np
import pytest
from videos import X264_CLOSED, make_video, picture, remux

from vamba_eval import FrameSampling, load_task, read_clip
from vamba_eval.contracts import Clip, FrameSet, Ladder, Question, Video, VideoError
from vamba_eval.run.plan import sampling_with
from vamba_eval.video.canvas import mean_fps


def recording(path: Path, times_ms: Sequence[int], *, stated: int, codec: str = "libx264") -> Path:
    """A video whose frames are shown at ``times_ms`` and whose header, where it states a rate, says ``stated``."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=stated)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"x264-params": "keyint=30"} if codec == "libx264" else {"g": "30", "bf": "0"}
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(picture(number, 48, 64), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def every_second(**fields: object) -> FrameSampling:
    return FrameSampling(strategy="fps", fps=1.0, **fields)  # type: ignore[arg-type]


def trembling(count: int, step_ms: float) -> list[int]:
    """Times as a browser or a phone states them: each some milliseconds off."""
    off = np.random.default_rng(0).uniform(0, 9, count)
    return [0, *(int(step_ms * number + off[number]) for number in range(1, count))]


LIES = {
    "a screen recording.mkv": (trembling(90, 333.3), 25),
    "a browser's recording.webm": (trembling(150, 33.3), 1000),
    "a doubled rate.mp4": ([40 * n for n in range(100)], 50),
    "one long pause.mkv": ([40 * n + 20_000 * (n >= 50) for n in range(100)], 25),
    "faster and faster.mkv": ([int(2_000 * n**0.5) for n in range(120)], 30),
    "two frames.mkv": ([0, 500], 25),
    "a live stream.flv": ([100 * n for n in range(80)], 25),
    "a broadcast.ts": ([100 * n for n in range(80)], 25),
    "old.asf": ([100 * n for n in range(80)], 25),
}


@pytest.mark.parametrize("backend", ["pyav", "pyav-plain", "decord", "torchcodec"])
@pytest.mark.parametrize("name", LIES)
def test_the_rate_is_that_of_the_times(tmp_path: Path, name: str, backend: str) -> None:
    if backend == "torchcodec":
        pytest.importorskip("torchcodec.decoders", exc_type=(ImportError, RuntimeError, OSError))  # type: ignore[arg-type]
    times, stated = LIES[name]
    codec = {".webm": "libvpx", ".asf": "mpeg4"}.get(Path(name).suffix, "libx264")
    path = recording(tmp_path / name, times, stated=stated, codec=codec)
    seconds = (times[-1] - times[0]) / 1000
    try:
        clip = read_clip(path, every_second(), backend=backend)
    except VideoError as error:
        assert backend in ("decord", "torchcodec"), error  # which cannot seek in all of these
        return
    true = (len(times) - 1) / seconds
    assert clip.source_fps == pytest.approx(true, rel=0.01)
    assert clip.duration_s == pytest.approx(seconds + 1 / true, abs=0.02)
    assert abs(len(clip.frames) - seconds) <= 1.05, "one a second"
    if backend.startswith("pyav"):
        assert clip.timestamps_s == pytest.approx(np.array(times)[clip.frame_indices] / 1000, abs=2e-3)


def test_a_rate_that_the_times_bear_out_is_the_header_s_own(tmp_path: Path) -> None:
    """To the last digit, as other readers have it: times are rounded to the container's clock."""
    for name in ("v.mkv", "v.mp4", "v.ts", "v.avi"):
        path = make_video(tmp_path / name, rate=30, frames=100, options={"bf": "0"})
        assert read_clip(path, every_second()).source_fps == decord.VideoReader(str(path)).get_avg_fps() == 30.0


def test_where_there_are_no_two_times_the_header_is_believed() -> None:
    assert mean_fps(np.array([]), 25.0) == mean_fps(np.array([0.0]), 25.0) == mean_fps(np.zeros(5), 25.0) == 25.0
    assert mean_fps(np.full(5, np.nan), 25.0) == 25.0
    assert np.isnan(mean_fps(np.array([0.0]), float("nan")))
    assert mean_fps(np.arange(5) / 8, float("nan")) == 8.0


def test_bounded_segments_lie_within_their_bounds(tmp_path: Path) -> None:
    times, stated = LIES["a screen recording.mkv"]
    path = recording(tmp_path / "v.mkv", times, stated=stated)
    segments = FrameSampling(strategy="segments", num_frames=5)
    clip = read_clip(path, segments, start_s=10.0, end_s=20.0)
    assert clip.timestamps_s.min() >= 9.5 and clip.timestamps_s.max() <= 20.5
    # As the script of MVBench numbers frames, by decord's rate.
    by_header = FrameSampling(strategy="segments", num_frames=5, rate="header")
    with pytest.raises(VideoError, match=r"no frame between 10.0 and 20.0 s: the video lasts 29.7 s"):
        read_clip(path, by_header, start_s=10.0, end_s=20.0)
    assert read_clip(path, by_header, start_s=0.0, end_s=2.0).frame_indices.max() > 40, "50 frames, it says"
    assert load_task("mvbench").sampling.rate == "header"


def test_a_header_s_rate_is_part_of_a_copied_rule_alone() -> None:
    own = load_task("mvbench").sampling
    assert own.describe()["rate"] == "header"
    assert sampling_with(own, {"num_frames": 8}).rate == "header"
    assert sampling_with(own, {"strategy": "uniform"}).rate == sampling_with(own, {"fps": 2.0}).rate == "times"
    assert "rate" not in FrameSampling().fields() and "rate" not in every_second().describe()
    with pytest.raises(ValueError, match="unknown source of the frame rate 'guess'; choose from times, header"):
        FrameSampling(rate="guess")
    with pytest.raises(ValueError, match="differ in more than the number of frames"):
        Ladder((own, FrameSampling(strategy="segments")))
    assert Ladder((own,)).rate == FrameSet((0,), own).rate == "header"


def test_subtitles_go_by_the_frames_own_times(tmp_path: Path) -> None:
    """After a pause a frame's number divided by any rate is another time than the frame's."""
    times = [40 * n + 20_000 * (n >= 50) for n in range(100)]
    path = recording(tmp_path / "v.mkv", times, stated=25)
    lines = tmp_path / "v.srt"
    lines.write_text("1\n00:00:05,000 --> 00:00:15,000\nin the pause\n\n2\n00:00:23,000 --> 00:00:23,900\nlate\n")
    question = Question("q", "What?", ("A. a", "B. b"), "A", extra={"options": ["A. a", "B. b"]})
    video = Video("v", path, (question,), subtitles=lines, duration_s=24.0)
    clip = read_clip(path, FrameSampling(num_frames=20))
    prompt = load_task("videomme_subtitles").prompt(video, question, "vamba", clip)
    assert prompt.count("late") == sum(23.0 < time <= 23.9 for time in clip.timestamps_s) > 2 and "pause" not in prompt
    placed = Video(
        "v",
        path,
        (question,),
        subtitles=lines,
        duration_s=24.0,
        extra={"starting_timestamp_for_subtitles": 0.0},
    )
    captions = load_task("longvideobench_subtitles").captions(placed, clip, "official")
    assert captions == [(int(np.sum(clip.timestamps_s <= 23.45)), "late\n")]
    frames = Clip(clip.frames, np.full(20, np.nan), clip.frame_indices, 3.0, 30.0)
    with pytest.raises(VideoError, match="have no times to choose subtitles by"):
        load_task("videomme_subtitles").prompt(video, question, "vamba", frames)


def test_a_copy_keeps_its_rate(tmp_path: Path) -> None:
    """The same packets in containers that state their rate in different ways."""
    path = make_video(tmp_path / "v.mp4", frames=100, options=X264_CLOSED)
    for name in ("copy.mkv", "copy.ts", "copy.flv", "copy.mov"):
        copy = remux(path, tmp_path / name)
        assert read_clip(copy, every_second()).source_fps == pytest.approx(25.0, rel=1e-3)

"""Subtitles by the times of frames; pysubs2 and the Vamba scripts' rule are what to agree with."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pysubs2
import pytest
from videos import make_video

from vamba_eval import FrameSampling, read_clip
from vamba_eval.contracts import VideoError
from vamba_eval.video.subtitles import lines_at, read_subtitles

SRT = """1
00:00:01,000 --> 00:00:02,500
<font color="white" size=".72c">Hello <i>there</i></font>
second line

2
00:00:02,000 --> 00:00:04,000
überlappt

3
00:00:05,000 --> 00:00:06,000

4
01:00:00,250 --> 01:00:01,000
an hour in
"""


def test_srt(tmp_path: Path) -> None:
    path = tmp_path / "v.srt"
    path.write_text("\ufeff" + SRT, encoding="utf-8")
    lines = read_subtitles(path)
    assert [(line.start_s, line.end_s, line.text) for line in lines] == [
        (1.0, 2.5, "Hello there second line"),
        (2.0, 4.0, "überlappt"),
        (3600.25, 3601.0, "an hour in"),
    ]
    assert lines[0].marked == r"Hello {\i1}there{\i0} second line"


@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_line_ends_and_encodings_do_not_matter(tmp_path: Path, line_end: str, encoding: str) -> None:
    (tmp_path / "plain.srt").write_text(SRT, encoding="utf-8")
    (tmp_path / "other.srt").write_bytes(SRT.replace("\n", line_end).encode(encoding))
    assert read_subtitles(tmp_path / "other.srt") == read_subtitles(tmp_path / "plain.srt")


def test_word_times_and_entities(tmp_path: Path) -> None:
    """As video sites write WebVTT for speech they recognized."""
    path = tmp_path / "v.vtt"
    path.write_text(
        "WEBVTT\nKind: captions\n\n00:00:01.000 --> 00:00:03.000 align:start\n"
        "so<00:00:01.399><c> today</c><00:00:01.640><c> we</c>\n\n"
        "00:00:03.000 --> 00:00:04.000\nlearn <00:00:03.200>about <00:00:03.400>cats &amp; dogs\n"
    )
    assert [line.text for line in read_subtitles(path)] == ["so today we", "learn about cats & dogs"]


@pytest.mark.parametrize("ending", ["srt", "vtt", "ass"])
def test_other_formats_give_the_same_lines(tmp_path: Path, ending: str) -> None:
    events = pysubs2.SSAFile()
    for n in range(20):
        events.append(pysubs2.SSAEvent(start=1000 * n, end=1000 * n + 900, text=f"line {n}"))
    events.save(str(tmp_path / f"v.{ending}"))
    lines = read_subtitles(tmp_path / f"v.{ending}")
    assert [(line.start_s, line.end_s, line.text) for line in lines] == [(n, n + 0.9, f"line {n}") for n in range(20)]


def test_lines_are_chosen_by_the_paper_s_rule(tmp_path: Path) -> None:
    """One pass over the events for each frame, with pysubs2's own times: the rule in its original terms."""
    rng = random.Random(0)
    events = pysubs2.SSAFile()
    for n in range(200):
        start = rng.randrange(0, 600_000)
        events.append(pysubs2.SSAEvent(start=start, end=start + rng.randrange(1, 9000), text=f"line {n}"))
    events.sort()
    fps, frames = 25.0, sorted(rng.sample(range(15_000), 512))
    expected = []
    for frame in frames:
        now = pysubs2.make_time(fps=fps, frames=frame)
        covering = [event for event in events if event.end >= now and event.start < now]
        expected += [event.text for event in covering[:1]]
    events.save(str(tmp_path / "v.srt"))
    lines = read_subtitles(tmp_path / "v.srt")
    assert [line.text for line in lines_at(lines, [frame / fps for frame in frames])] == expected
    assert len(expected) > 100


def test_longvideobench_json_of_both_kinds(tmp_path: Path) -> None:
    first = [{"timestamp": [10.0, 12.5], "text": "one"}, {"timestamp": [12.5, None], "text": "two\nlines"}]
    (tmp_path / "a.json").write_text(json.dumps(first))
    lines = read_subtitles(tmp_path / "a.json", offset_s=10.0)
    assert [(line.start_s, line.end_s, line.text) for line in lines] == [
        (0.0, 2.5, "one"),
        (2.5, float("inf"), "two lines"),
    ]
    second = [{"start": "00:01:02.500", "end": "00:01:03.000", "line": "later"}]
    (tmp_path / "b.json").write_text(json.dumps(second))
    (line,) = read_subtitles(tmp_path / "b.json", offset_s=60)
    assert (line.start_s, line.end_s, line.text) == (2.5, 3.0, "later")


def test_the_times_are_those_of_the_frames(tmp_path: Path) -> None:
    path = tmp_path / "v.srt"
    path.write_text(SRT, encoding="utf-8")
    clip = read_clip(make_video(tmp_path / "v.mp4", frames=150), FrameSampling(num_frames=6))
    assert np.allclose(clip.timestamps_s, [0.48, 1.48, 2.48, 3.48, 4.48, 5.48])
    shown = lines_at(read_subtitles(path), clip.timestamps_s)
    assert [line.text for line in shown] == ["Hello there second line", "Hello there second line", "überlappt"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("none.srt", None), ("noise.srt", b"\x00\xff\x13 nothing of a subtitle"), ("a.json", b"{"), ("b.json", b"[1]")],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError) as caught:
        read_subtitles(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "v.srt").write_text("")
    assert read_subtitles(tmp_path / "v.srt") == []

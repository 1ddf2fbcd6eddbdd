"""Copies that are whole, and copies with every kind of damage."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_files import (
    longvideobench_rows,
    lvbench_videos,
    mlvu_rows,
    videomme_rows,
    write_longvideobench,
    write_lvbench,
    write_mlvu,
    write_videomme,
)
from videos import make_video

from vamba_eval.contracts import Counts
from vamba_eval.reading import reader, worker
from vamba_eval.registry import load_task

Run = Callable[..., tuple[int, str, str]]
SUBTITLES = "1\n00:00:00,000 --> 00:00:01,000\nHello.\n"
SECONDS = 12.5  # as the rows of LongVideoBench state


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("video")
    options = {"movflags": "faststart"}  # so that a part of it opens
    return make_video(folder / "v.mp4", frames=125, rate=10, size=(64, 64), container_options=options)


@pytest.fixture
def copy(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole copy of LongVideoBench, if it had three videos and six questions."""
    folder = write_longvideobench(tmp_path, longvideobench_rows(6))
    (folder / "subtitles").mkdir()
    for n in range(3):
        shutil.copy(video, folder / "videos" / f"lvb{n}.mp4")
        lines = [{"timestamp": [0.0, 1.0], "text": "Hello."}]
        (folder / "subtitles" / f"lvb{n}_en.json").write_text(json.dumps(lines))
    publish(monkeypatch, "longvideobench", {"validation": Counts(3, 6, 3), "test": Counts(None, 6)})
    return folder


def publish(monkeypatch: pytest.MonkeyPatch, name: str, counts: dict[str, Counts]) -> None:
    task = type(load_task(name))
    monkeypatch.setattr(task, "catalogue", replace(task.catalogue, counts=counts))


def test_a_whole_copy(copy: Path, cli: Run) -> None:
    status, said, errors = cli("check", "longvideobench", "--data-root", copy.parent)
    assert status == 0, said + errors
    assert said.startswith("longvideobench: complete")
    rows = {line[:40].strip(): line[40:].split() for line in said.splitlines() if line[-1:].isdigit()}
    assert rows == {
        "questions": ["6", "6"],
        "questions that can be asked": ["6", "6"],
        "videos in the annotations": ["3", "3"],
        "video files": ["3", "3"],
        "videos that open and are complete": ["3", "3"],
        "videos as long as annotated": ["3", "3"],
        "subtitle files": ["3", "3"],
    }
    status, said, _ = cli("check", "longvideobench", "--data-root", copy.parent, "--quick")
    assert status == 0 and "that open" not in said


def report(copy: Path, cli: Run, *arguments: object) -> tuple[str, list[dict[str, str]]]:
    """What is said and the problems of a check that finds some."""
    file = copy.parent / "report.json"
    status, said, errors = cli("check", copy.name, "--data-root", copy.parent, "--json", file, *arguments)
    assert status == 1, said + errors
    return said, json.loads(file.read_text())[0]["problems"]


def test_a_missing_video(copy: Path, cli: Run) -> None:
    path = copy / "videos" / "lvb1.mp4"
    path.unlink()
    said, problems = report(copy, cli)
    assert [(p["kind"], p["where"]) for p in problems] == [("missing videos", str(path))]
    assert f"run_eval.py download longvideobench --data-root {copy.parent} downloads" in problems[0]["advice"]
    assert "problems found" in said and "1 missing" in said
    assert report(copy, cli, "--quick")[1] == problems


def test_damaged_videos(copy: Path, cli: Run, video: Path) -> None:
    content = video.read_bytes()
    cut = content[: len(content) * 9 // 10]
    (copy / "videos" / "lvb0.mp4").write_bytes(cut)
    (copy / "videos" / "lvb1.mp4").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (copy / "videos" / "lvb2.mp4").write_bytes(b"")
    _, problems = report(copy, cli)
    assert {p["kind"] for p in problems} == {"videos that cannot be read"}
    unfinished, pointer, empty = (p["problem"] for p in problems)
    assert unfinished == f"an unfinished download: its last {len(content) - len(cut):,} bytes are missing"
    assert "Git LFS pointer" in pointer and "empty" in empty


def _hang(request: worker.ReadRequest, buffer: str) -> worker.ReadResult:
    if request.path.name == "lvb2.mp4":
        worker._hooks_into(buffer)
        time.sleep(60)
    return worker.serve(request, buffer)


def test_a_video_that_hangs_does_not_hang_the_check(copy: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "serve", _hang)
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), str(here.parent)]))
    _, problems = report(copy, cli, "--read-timeout", 1)
    assert [(p["kind"], Path(p["where"]).name) for p in problems] == [("videos that cannot be read", "lvb2.mp4")]
    assert "made no progress for 1 s" in problems[0]["problem"]


def test_another_length(copy: Path, cli: Run) -> None:
    make_video(copy / "videos" / "lvb2.mp4", frames=105, rate=10, size=(64, 64))  # within 2 s
    make_video(copy / "videos" / "lvb1.mp4", frames=95, rate=10, size=(64, 64))
    _, problems = report(copy, cli)
    assert [(p["kind"], Path(p["where"]).name) for p in problems] == [("videos with another length", "lvb1.mp4")]
    assert problems[0]["problem"] == "it lasts 9.5 s, but 12.5 s according to the annotations"


def test_subtitles(copy: Path, cli: Run) -> None:
    (copy / "subtitles" / "lvb0_en.json").unlink()
    (copy / "subtitles" / "lvb1_en.json").write_text('[{"timestamp": [0.0')
    (copy / "subtitles" / "lvb2_en.json").write_text("[]")
    _, problems = report(copy, cli)
    assert [p["kind"] for p in problems] == ["missing subtitles", *["subtitles that cannot be read"] * 2]
    assert "1 of 3 are missing (videos without: lvb0.mp4)" in problems[0]["problem"]
    assert "cannot be understood" in problems[1]["problem"] and "no line" in problems[2]["problem"]


def test_annotations(tmp_path: Path, cli: Run, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that cannot be asked is a problem; an odd one, as there are in what is published, is not."""
    copy = write_mlvu(tmp_path, 2)
    publish(monkeypatch, "mlvu", {"dev": Counts(None, 14)})
    rows = {kind: mlvu_rows(kind, 2) for kind in ("1_plotQA", "2_needle", "3_ego")}
    rows["1_plotQA"][0]["answer"] = "something else"
    for file in sorted((copy / "json").iterdir()):
        for row in json.loads(file.read_text()):
            make = copy / "video" / file.stem / row["video"]
            if not make.exists():
                shutil.copy(video, make)
    for kind in rows:
        for row in rows[kind]:
            row["duration"] = SECONDS
        (copy / "json" / f"{kind}.json").write_text(json.dumps(rows[kind]))
    for kind in ("4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning"):
        changed = [{**row, "duration": SECONDS} for row in mlvu_rows(kind, 2)]
        (copy / "json" / f"{kind}.json").write_text(json.dumps(changed))
    status, said, _ = cli("check", "mlvu", "--data-root", tmp_path)
    assert status == 0, said
    assert "annotation rows with defects, as published (1):\n  1_plotQA.json row 0: the answer 'something" in said

    del rows["2_needle"][1]["candidates"]
    (copy / "json" / "2_needle.json").write_text(json.dumps(rows["2_needle"]))
    (copy / "json" / "3_ego.json").write_text(json.dumps(rows["3_ego"][:1]))
    said, problems = report(copy, cli)
    assert [p["kind"] for p in problems] == [
        "annotation rows that cannot be asked",
        "annotations that are not the published ones",
    ]
    assert "'candidates' is missing" in problems[0]["problem"]
    assert problems[1]["problem"] == "13 questions instead of 14"

    (copy / "json" / "4_count.json").unlink()
    assert "4_count.json is missing" in report(copy, cli)[1][0]["problem"]
    (copy / "json" / "4_count.json").write_text("[{")
    assert "Download it again" in report(copy, cli)[1][0]["problem"]


def test_lengths_in_minutes(tmp_path: Path, cli: Run, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lvbench_videos(1, 2)
    lines[0]["video_info"]["duration_minutes"] = 0.2
    copy = write_lvbench(tmp_path, lines)
    (copy / "videos").mkdir()
    shutil.copy(video, copy / "videos" / "-vid_0.mp4")
    publish(monkeypatch, "lvbench", {"test": Counts(1, 2)})
    status, said, _ = cli("check", "lvbench", "--data-root", tmp_path)
    assert status == 0 and "as long as annotated" in said
    lines[0]["video_info"]["duration_minutes"] = 31
    write_lvbench(tmp_path, lines)
    assert "1,860.0 s according to the annotations" in report(copy, cli)[1][0]["problem"]


def test_the_splits(copy: Path, cli: Run) -> None:
    _, problems = report(copy, cli, "--split", "test")
    assert "lvb_test_wo_gt.json" in problems[0]["problem"]
    rows = [{**row, "correct_choice": None} for row in longvideobench_rows(6)]
    write_longvideobench(copy.parent, longvideobench_rows(6), rows)
    assert cli("check", "longvideobench", "--data-root", copy.parent, "--split", "test")[0] == 0


def test_usage_errors(copy: Path, cli: Run) -> None:
    for arguments, message in (
        (("longvideobench", "--data-root", copy.parent / "nowhere"), "is not a directory"),
        (("longvideobench", "--data-root", copy.parent, "--split", "dev"), "has no split 'dev'"),
        (("longvideobensh", "--data-root", copy.parent), "did you mean 'longvideobench'"),
        (("longvideobench",), "needs its data: give --data-root DIR"),
    ):
        status, _, errors = cli("check", *arguments)
        assert status == 2 and message in errors, errors


def test_several_tasks_and_the_synthetic_one(copy: Path, cli: Run, tmp_path: Path) -> None:
    status, said, _ = cli("check", "longvideobench,videomme", "--data-root", copy.parent)
    assert status == 1
    assert "longvideobench: complete" in said and "videomme: problems found" in said
    assert "run_eval.py download videomme" in said


def test_what_is_downloaded_is_whole(tmp_path: Path, video: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the server to a clean check, and a run over it."""
    import zipfile

    from hub_server import Hub
    from huggingface_hub import constants

    write_videomme(tmp_path / "published", videomme_rows(3))
    repository = tmp_path / "published" / "videomme"
    with zipfile.ZipFile(repository / "videos_chunked_01.zip", "w") as archive:
        for n in range(3):
            archive.write(video, f"data/vid_{n}.mp4")
            archive.writestr(f"subtitle/vid_{n}.srt", SUBTITLES)
    publish(monkeypatch, "videomme", {"test": Counts(3, 9, 3)})
    root = tmp_path / "data"
    with Hub("lmms-lab/Video-MME", repository).running() as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        assert cli("download", "videomme", "--data-root", root)[0] == 0
    status, said, _ = cli("check", "videomme", "--data-root", root)
    assert status == 0 and "videomme: complete" in said
    run = ("--tasks", "videomme", "--models", "random", "--data-root", root, "--output", tmp_path / "results")
    status, said, errors = cli(*run)
    assert status == 0, errors
    assert (tmp_path / "results" / "videomme" / "videomme.random.jsonl").read_text().count("\n") == 9

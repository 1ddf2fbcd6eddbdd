"""Names that others wrote lead nowhere else: not out of the data root, and not out of a run's folder."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import (
    longvideobench_rows,
    nextqa_rows,
    videomme_rows,
    write_longvideobench,
    write_nextqa,
    write_videomme,
)
from videos import make_video

from vamba_eval.contracts import FrameSampling, Task, UserError, VideoError
from vamba_eval.files import leads_outside, path_inside
from vamba_eval.registry import load_task
from vamba_eval.run.check_task import files_outside
from vamba_eval.store.records import Record
from vamba_eval.store.runs import latest_records
from vamba_eval.store.thumbnails import read_strip

Run = Callable[..., tuple[int, str, str]]
MODEL = f"careful={Path(__file__).parent / 'plugins.py'}:Careful"


@pytest.mark.parametrize("name", ["a.mp4", "a/b.mp4", "a\\b.mp4", "..a/b..mp4", "a/./b.mp4", "folder/b.mp4", "ü 1.mp4"])
def test_names_that_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "folder").symlink_to(tmp_path / "disk")  # a folder on another disk
    path = path_inside(tmp_path / "root", name, "a list")
    assert path == tmp_path / "root" / name.replace("\\", "/") and not leads_outside(tmp_path / "root", path)


@pytest.mark.parametrize(
    "name",
    [
        "../a",
        "a/../../b",
        "..",
        "/etc/passwd",
        "\\etc\\passwd",
        "a\\..\\..\\b",
        "C:\\a",
        "C:a",
        "link.mp4",
        "folder/../../a",
    ],
)
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link.mp4").symlink_to(tmp_path / "private.mp4")
    (tmp_path / "root" / "folder").symlink_to(tmp_path / "disk" / "deep")
    with pytest.raises(UserError, match=r"^a list holds .* which leads out of .*root: it is refused$"):
        path_inside(tmp_path / "root", name, "a list")


@pytest.mark.parametrize("name", ["", ".", "./", "a\0b", "a\nb", "\x7f"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="is no name"):
        path_inside(tmp_path, name, "a list")


def test_links_that_stay(tmp_path: Path) -> None:
    """And a data root that is named in another way than its files."""
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "a.mp4").touch()
    (tmp_path / "root").symlink_to(tmp_path / "big")
    (tmp_path / "big" / "b.mp4").symlink_to("a.mp4")
    for root in (tmp_path / "root", tmp_path / "big", tmp_path / "big" / ".." / "root"):
        for path in (tmp_path / "root" / "b.mp4", tmp_path / "big" / "a.mp4"):
            assert not leads_outside(root, path)
    os.symlink("loop", tmp_path / "big" / "loop")
    assert not leads_outside(tmp_path / "root", tmp_path / "root" / "loop"), "it leads nowhere"


# ------------------------------------------------------------------------------------------------ the data root


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "v.mp4", frames=25)


def with_names(rows: list[dict[str, Any]], field: str, names: list[str]) -> list[dict[str, Any]]:
    return [{**row, field: name} for row, name in zip(rows, names, strict=False)]


BENCHMARKS: dict[str, Callable[[Path, list[str]], object]] = {
    "longvideobench": lambda root, names: write_longvideobench(
        root, with_names(longvideobench_rows(len(names)), "video_path", names)
    ),
    "videomme": lambda root, names: write_videomme(root, with_names(videomme_rows(len(names), 1), "videoID", names)),
    "nextqa": lambda root, names: write_nextqa(root, with_names(nextqa_rows(4, {"CW": len(names)}), "video", names)),
}


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_no_row_leads_out_of_the_data_root(tmp_path: Path, video: Path, benchmark: str) -> None:
    private = shutil.copy(video, tmp_path / "private.mp4")
    root = tmp_path / "root"
    names = ["v0.mp4", str(private), "../../../private.mp4", "a/../../../../private.mp4"]
    if benchmark != "longvideobench":
        names = [name.removesuffix(".mp4") for name in names]
    BENCHMARKS[benchmark](root, names)
    task: Task = load_task(benchmark)
    videos = task.load(root)
    assert len(videos) == 4 and len(files_outside(task, videos, root)) == 3
    assert set(files_outside(task, videos, root)) == {each.id for each in videos[1:]}


@pytest.fixture
def copy(tmp_path: Path, video: Path) -> Path:
    """A benchmark of four videos: its annotations put one outside, a link another; a third is on another disk."""
    root = tmp_path / "root"
    private = shutil.copy(video, tmp_path / "private.mp4")
    names = ["in.mp4", str(private), "disk/in.mp4", "link.mp4"]
    folder = write_longvideobench(root, with_names(longvideobench_rows(4), "video_path", names)) / "videos"
    shutil.copy(video, folder / "in.mp4")
    (folder / "link.mp4").symlink_to(private)
    (tmp_path / "disk").mkdir()
    shutil.copy(video, tmp_path / "disk" / "in.mp4")
    (folder / "disk").symlink_to(tmp_path / "disk")
    return root


def answers(output: Path) -> dict[str, Record]:
    (path,) = (path for path in output.rglob("*.jsonl"))
    return {record.question: record for record in latest_records(path)}


def test_what_is_outside_takes_a_word(copy: Path, tmp_path: Path, cli: Run) -> None:
    """Its questions fail, all others are answered, and the same command with the word asks them again."""
    command = ("--tasks", "longvideobench", "--models", MODEL, "--data-root", copy, "--output", tmp_path / "out")
    status, _, err = cli(*command, "--workers", "0")
    assert status == 1 and "files of 2 videos are outside of the data root" in err and "--allow-outside" in err
    first = answers(tmp_path / "out")
    failed = {name: record.error for name, record in first.items() if record.error}
    assert set(failed) == {"lvb0_1", "lvb1_1"} and all("give --allow-outside" in str(why) for why in failed.values())
    assert str(tmp_path / "private.mp4") in str(failed["lvb0_1"])
    assert all(first[name].answered for name in ("lvb0_0", "lvb1_0"))
    assert cli(*command, "--workers", "0", "--allow-outside")[0] == 0
    assert all(record.answered for record in answers(tmp_path / "out").values())


def test_check_looks_at_nothing_outside(copy: Path, cli: Run, tmp_path: Path) -> None:
    command = ("check", "longvideobench", "--data-root", copy, "--workers", "1", "--json", tmp_path / "found.json")
    status, said, _ = cli(*command)
    assert status == 1 and "files outside of the data root (2): --allow-outside has them read" in said
    problems = json.loads((tmp_path / "found.json").read_text())[0]["problems"]
    outside = {each["where"] for each in problems if each["kind"] == "files outside of the data root"}
    assert outside == {str(tmp_path / "private.mp4"), str(copy / "longvideobench" / "videos" / "link.mp4")}
    status, said, _ = cli(*command, "--allow-outside")
    assert "outside" not in said


def test_a_snapshot_of_the_hub_is_a_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are links to others in the cache."""
    hub = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    root = write_longvideobench(hub / "datasets--a--b" / "snapshots" / "c0ffee", longvideobench_rows(2)).parent
    (hub / "datasets--a--b" / "blobs").mkdir()
    (hub / "datasets--a--b" / "blobs" / "1234").touch()
    (root / "longvideobench" / "videos" / "lvb0.mp4").symlink_to("../../../../blobs/1234")
    task: Task = load_task("longvideobench")
    assert files_outside(task, task.load(root), root) == {}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "longvideobench").symlink_to(root / "longvideobench")
    videos = task.load(tmp_path / "data")
    assert len(videos) == 1 and videos[0].path.exists() and files_outside(task, videos, tmp_path / "data") == {}


def test_names_too_long_for_a_file_are_missing_files(tmp_path: Path, cli: Run) -> None:
    rows = with_names(longvideobench_rows(2), "video_path", ["x" * 5000 + ".mp4", "a\0b.mp4"])
    rows = with_names(rows, "subtitle_path", ["y" * 5000, "a\0b"])
    write_longvideobench(tmp_path / "root", rows)
    for row in with_names(nextqa_rows(2, {"CW": 2}), "video", ["x" * 5000, "a\0b"]):
        write_nextqa(tmp_path / "root", [row])
        task: Task = load_task("nextqa")
        assert files_outside(task, task.load(tmp_path / "root"), tmp_path / "root") == {}
    status, said, errors = cli("check", "longvideobench", "--data-root", tmp_path / "root", "--quick")
    assert status == 1 and "missing videos (2)" in said and not errors


@pytest.mark.parametrize("name", ["in.mp4", "../private.mp4", "/private.mp4", "link.mp4"])
def test_rows_of_training_data_stay_below_their_media(tmp_path: Path, video: Path, name: str) -> None:
    from vamba_eval.model_adapters.vamba.training_data import PictureSizes, read_sources

    (tmp_path / "media").mkdir()
    shutil.copy(video, tmp_path / "private.mp4")
    shutil.copy(video, tmp_path / "media" / "in.mp4")
    (tmp_path / "media" / "link.mp4").symlink_to(tmp_path / "private.mp4")
    name = name if name[0] != "/" else str(tmp_path / "private.mp4")
    (tmp_path / "rows.json").write_text(json.dumps([{"video": name, "caption": "A video."}]))
    (tmp_path / "data.yaml").write_text("data: [{kind: llava, path: rows.json, media: media}]")
    sizes = PictureSizes(None, FrameSampling(num_frames=4, shortest_edge=56, longest_edge=112))
    (source,) = read_sources(tmp_path / "data.yaml", sizes, seed=0, pack=1)
    if name == "in.mp4":
        assert len(source.sample(0, random.Random(0)).pictures[0]) == 4
    else:
        with pytest.raises(VideoError, match="leads out of"):
            source.sample(0, random.Random(0))


# ------------------------------------------------------------------------------------------------ results


@pytest.mark.parametrize("name", ["..", "."])
def test_a_model_of_somebodys_results_names_no_folder(copy: Path, tmp_path: Path, cli: Run, name: str) -> None:
    command = ("--tasks", "longvideobench", "--models", "constant", "--data-root", copy, "--allow-outside")
    assert cli(*command, "--output", tmp_path / "runs", "--workers", "0")[0] == 0
    run = tmp_path / "runs" / "longvideobench"
    info = json.loads((run / "run.json").read_text())
    info["models"] = {name: info["models"]["constant"]}
    (run / "run.json").write_text(json.dumps(info))
    (run / "longvideobench.constant.jsonl").rename(run / f"longvideobench.{name}.jsonl")
    status, _, errors = cli("export", run, "--output", tmp_path / "out" / "files", "--format", "lmms-eval")
    assert status == 2 and errors.count("\n") == 1 and "run.json holds" in errors
    assert not list(tmp_path.rglob("*_samples_*"))


def test_a_record_names_no_picture_elsewhere(tmp_path: Path) -> None:
    from PIL import Image

    run, mine = tmp_path / "theirs" / "run", tmp_path / "mine"
    (run / "thumbnails").mkdir(parents=True)
    mine.mkdir()
    about = {"frame_indices": [0], "timestamps_s": [0.0], "total": 1}
    for folder in (run / "thumbnails", mine):
        Image.new("RGB", (8, 8)).save(folder / "strip.jpg", "JPEG", comment=json.dumps(about))
    os.symlink(mine / "strip.jpg", run / "thumbnails" / "link.jpg")
    assert read_strip(run, "strip") is not None
    for digest in ("../../../mine/strip", str(mine / "strip"), "link"):
        assert read_strip(run, digest) is None

"""Data in the places where lmms-eval keeps it: found by its own rules, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from benchmark_files import (
    MVBENCH_TASKS,
    longvideobench_rows,
    lvbench_rows,
    lvbench_videos,
    nextqa_rows,
    videomme_rows,
    write_longvideobench,
    write_lvbench,
    write_mvbench,
    write_nextqa,
    write_videomme,
)

from vamba_eval.contracts import MissingData, UserError
from vamba_eval.registry import load_task

COMMIT = "a" * 40


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$HF_HOME of somebody who has run lmms-eval."""
    from huggingface_hub import constants

    folder = tmp_path / "hf"
    folder.mkdir()
    monkeypatch.setenv("HF_HOME", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    return folder


def snapshot(home: Path, repo: str, revision: str = "main") -> Path:
    """An empty snapshot in the Hub's cache."""
    repository = home / "hub" / f"datasets--{repo.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / revision).write_text(COMMIT)
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    return folder


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a video")


def put(published: Path, snapshot: Path) -> None:
    shutil.copytree(published, snapshot, dirs_exist_ok=True)


def set_up_videomme(home: Path, tmp_path: Path) -> None:
    put(write_videomme(tmp_path, videomme_rows(3)), snapshot(home, "lmms-eval/Video-MME"))
    touch(*(home / "videomme" / "data" / f"vid_{n}.mp4" for n in range(3)))


def set_up_mlvu(home: Path, tmp_path: Path) -> None:
    rows = [
        {
            "video_name": f"video_part_1/{n}.mp4",
            "duration": 100.5,
            "question": f"What is {n}?\n(A) a\n(B) b\n(C) c\n(D) d",
            "candidates": ["a", "b", "c", "d"],
            "answer": "A",
            "task_type": "count",
        }
        for n in range(2)
    ]
    folder = snapshot(home, "sy1998/MLVU_dev")
    (folder / "mlvu").mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "mlvu" / "test-00000-of-00001.parquet")
    touch(*(home / "mlvu" / "video_part_1" / f"{n}.mp4" for n in range(2)))


def set_up_longvideobench(home: Path, tmp_path: Path) -> None:
    folder = snapshot(home, "longvideobench/LongVideoBench")
    put(write_longvideobench(tmp_path, longvideobench_rows(4)), folder)
    touch(*(home / "datasets" / "longvideobench" / "videos" / f"lvb{n}.mp4" for n in range(2)))


def set_up_lvbench(home: Path, tmp_path: Path) -> None:
    rows = lvbench_rows(lvbench_videos(2, 4), "video_path")
    folder = snapshot(home, "lmms-lab/LVBench")
    put(write_lvbench(tmp_path, rows, "data/train-00000-of-00001.parquet"), folder)
    touch(*(home / "lvbench" / f"-vid_{n}.mp4" for n in range(2)))


def set_up_nextqa(home: Path, tmp_path: Path) -> None:
    put(write_nextqa(tmp_path, nextqa_rows(2, {"CW": 4})), snapshot(home, "lmms-eval/NExTQA"))
    touch(*(home / "nextqa" / "NExTVideo" / f"{2_400_000_000 + n}.mp4" for n in range(2)))


def set_up_mvbench(home: Path, tmp_path: Path) -> None:
    """It links a folder to the snapshot of another branch."""
    folder = snapshot(home, "OpenGVLab/MVBench", "video")
    put(write_mvbench(tmp_path, 2), folder)
    for place, ending, _ in MVBENCH_TASKS.values():
        place = {"ssv2_video": "ssv2_video_mp4", "nturgbd": "nturgbd_convert"}.get(place, place)
        touch(folder / place / f"V000{ending if ending != '.webm' else '.mp4'}")
    touch(folder / "nturgbd_convert" / "V000.mp4")
    (home / "mvbench_video").symlink_to(folder)


TASKS: dict[str, Callable[[Path, Path], None]] = {
    name.removeprefix("set_up_"): function for name, function in list(globals().items()) if name.startswith("set_up_")
}


@pytest.mark.parametrize("name", TASKS)
def test_it_is_found_when_asked_for(name: str, home: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="lmms-eval has no copy of it on this machine"):
        load_task(name).load("lmms-eval:")
    TASKS[name](home, tmp_path)
    videos = load_task(name).load("lmms-eval:")
    assert videos and all(video.path.exists() for video in videos)
    assert all(home in video.path.parents for video in videos)


@pytest.mark.parametrize("name", TASKS)
def test_it_is_taken_without_a_data_root(
    name: str, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match="needs its data: give --data-root DIR"):
        load_task(name).load(None)
    assert not caplog.records
    TASKS[name](home, tmp_path)
    assert len(load_task(name).load(None)) == len(load_task(name).load("lmms-eval:"))
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [f"{name}: no --data-root is given"]


@pytest.mark.parametrize("name", TASKS)
def test_the_places_are_those_of_lmms_eval(name: str, home: Path, tmp_path: Path) -> None:
    """By its task files, which may change with another version of it."""
    import re
    from importlib.util import find_spec

    lmms_eval = pytest.importorskip("lmms_eval")
    del lmms_eval
    spec = find_spec("lmms_eval.tasks")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations))) / name
    files = [file for file in folder.iterdir() if "yaml" in file.name and "test" not in file.name.split("_")]
    text = "\n".join(file.read_text() for file in files)
    dataset = load_task(name).catalogue.dataset
    assert dataset is not None
    assert dataset.lmms_eval in set(re.findall(r"^\s*cache_dir:\s*(\S+)", text, re.MULTILINE))
    paths = set(re.findall(r"^dataset_path:\s*(\S+)", text, re.MULTILINE))
    assert paths & {repo.partition("@")[0] for repo in dataset.lmms_ids}


def test_annotations_without_videos_are_not_enough(home: Path, tmp_path: Path) -> None:
    set_up_videomme(home, tmp_path)
    shutil.rmtree(home / "videomme")
    with pytest.raises(MissingData, match=r"videomme is not there"):
        load_task("videomme").load("lmms-eval:")


def test_a_run_and_a_check(home: Path, tmp_path: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    set_up_nextqa(home, tmp_path)
    status, said, errors = cli("check", "nextqa", "--data-root", "lmms-eval:", "--quick")
    assert status == 1 and "missing videos" not in said  # there are fewer than were published
    run = ("--tasks", "nextqa", "--models", "random", "--limit", 1, "--output", tmp_path / "results")
    status, said, errors = cli(*run)
    assert "no --data-root is given; lmms-eval's copy in" in errors
    assert status == 1  # what stands for videos is none
    assert (tmp_path / "results" / "nextqa" / "run.json").exists()

"""Reads that no file system answers hold a process such that nobody can end it: the run goes on and ends without it."""

from __future__ import annotations

import functools
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import failing_files
import psutil
import pytest
from benchmark_files import longvideobench_rows, videomme_rows, write_longvideobench, write_mlvu, write_videomme
from stored import latest_records
from videos import X264_CLOSED, make_video

from vamba_eval import FrameSampling, load_task
from vamba_eval.contracts import UserError, Video
from vamba_eval.reading import headers
from vamba_eval.reading import reader as reader_module
from vamba_eval.reading.reader import Reader, Reading
from vamba_eval.run import ask as ask_module

REPOSITORY = Path(__file__).resolve().parent.parent
PLUGINS = Path(__file__).parent / "plugins.py"
SAMPLING = FrameSampling(num_frames=8, shortest_edge=32, longest_edge=64)
WHOLE = 10**9  # bytes: all that a file has
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    """Files of which three hold who reads them behind their first bytes, between others that are whole."""
    video = make_video(tmp_path / "video.mp4", frames=60, options=X264_CLOSED)
    behind, mount = tmp_path / "behind", tmp_path / "mount"
    behind.mkdir()
    mount.mkdir()
    for number in range(6):
        shutil.copy(video, behind / f"0_{1000 if number % 2 == 0 else WHOLE}_{number}.mp4")
    with failing_files.mounted(behind, mount):
        yield mount


def videos_of(mount: Path) -> list[Video]:
    return [Video(path.stem[-1], path, ()) for path in sorted(mount.iterdir(), key=lambda path: path.stem[-1])]


def held(of: psutil.Process | None = None) -> list[psutil.Process]:
    """Processes that were killed and are still there."""
    children = (of or psutil.Process()).children(recursive=True)
    return [child for child in children if child.status() == psutil.STATUS_DISK_SLEEP]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_worker_that_cannot_be_ended_is_left_behind(mount: Path, workers: int) -> None:
    start = time.monotonic()
    with Reader(Reading(workers=workers, stall_s=1.5)) as reader:
        loads = {loaded.video.id: loaded for loaded in reader.clips(videos_of(mount), SAMPLING)}
        assert len(held()) == 3
        assert all(loads[name].clip is not None for name in "135")
        for name in "024":
            assert loads[name].clip is None and loads[name].problem == (
                "reading made no progress for 1.5 s: the file system does not answer, and the reading process cannot "
                "be ended"
            )
        closing = time.monotonic()
    assert time.monotonic() - closing < 3 and time.monotonic() - start < 60
    assert len(held()) == 3, "the test is worth nothing if they could be ended"


def test_too_many_that_cannot_be_ended_end_the_run(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_MOST_HELD", 2)
    with (
        Reader(Reading(workers=1, stall_s=1)) as reader,
        pytest.raises(UserError, match="2 processes that read videos are held by a file system that does not answer"),
    ):
        list(reader.clips(videos_of(mount), SAMPLING))


def _run(mount: Path, output: Path, timeout_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "run_eval.py", "--tasks", f"{PLUGINS}:FolderTask"]
    command += ["--models", f"careful={PLUGINS}:Careful", "--data-root", str(mount), "--output", str(output)]
    command += ["--workers", "1", "--read-timeout", str(timeout_s)]
    # Pipes: what is left behind must not keep them open.
    return subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_run_ends_without_them(mount: Path, tmp_path: Path) -> None:
    process = _run(mount, tmp_path / "out", 1.5)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    (path,) = (tmp_path / "out").rglob("*.jsonl")
    errors = [record["error"] for record in latest_records(path).values()]
    assert len(errors) == 12 and errors.count(None) == 6
    assert sum("the file system does not answer" in (error or "") for error in errors) == 6


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_waits_for_one_can_be_stopped(
    mount: Path, tmp_path: Path, sent: signal.Signals, status: int
) -> None:
    process = _run(mount, tmp_path / "out", 600)
    waiting = _waiting(process.pid)
    start = time.monotonic()
    process.send_signal(sent)
    _, err = process.communicate(timeout=30)
    assert process.returncode == status and "the same command goes on from here" in err
    assert time.monotonic() - start < 15
    assert [each.status() for each in waiting] == [psutil.STATUS_DISK_SLEEP], "it could not be ended"


def _waiting(pid: int) -> list[psutil.Process]:
    """The processes of a run that wait for an answer of the file system, once some do so for longer than any takes."""
    deadline = time.monotonic() + 60
    since: dict[psutil.Process, float] = {}
    while time.monotonic() < deadline:
        children = psutil.Process(pid).children(recursive=True)
        asking = [each for each in children if "request_wait" in Path(f"/proc/{each.pid}/wchan").read_text()]
        since = {each: since.get(each, time.monotonic()) for each in asking}
        if held := [each for each, start in since.items() if time.monotonic() - start > 1]:
            return held
        time.sleep(0.05)
    raise AssertionError("nobody is held")


def test_a_task_that_needs_headers_ends(mount: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(headers, "Reader", functools.partial(Reader, Reading(workers=1, stall_s=1.5)))
    write_longvideobench(tmp_path, longvideobench_rows(4))
    write_mlvu(tmp_path, 4)
    data = write_videomme(tmp_path, videomme_rows(3)) / "data"
    for number in range(3):
        (data / f"vid_{number}.mp4").symlink_to(next(mount.glob(f"*_{number}.mp4")))
    task = load_task("houreval")
    task.load(tmp_path)
    texts = [str(defect) for defect in task.defects if "vid_" in str(defect)]
    assert len(texts) == 2 and all("the file system does not answer" in text for text in texts)


def test_ask_ends(mount: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_module, "Reading", functools.partial(Reading, stall_s=1.5))
    (path,) = (each for each in mount.iterdir() if each.name == "0_1000_0.mp4")
    status, _, err = cli("ask", path, "Who?", "--model", "random")
    assert status == 2 and err.startswith("error: reading made no progress for 1.5 s") and err.count("\n") == 1

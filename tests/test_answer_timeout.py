"""Models that never come back: what they are at fails, all else is kept or goes on, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hanging_models import HangingService
from plugins import FolderTask
from stored import latest_records
from videos import make_video

from vamba_eval import evaluate

TESTS = Path(__file__).parent
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(3):
        make_video(folder / f"{number}.mp4", frames=10, size=(64, 48))
    return folder


def command(folder: Path, output: Path, limit: float | None, model: str = "Hanging", **arguments: object) -> list[str]:
    told = ",".join(f"{name}={value}" for name, value in arguments.items())
    words: list[object] = [TESTS.parent / "run_eval.py", "--tasks", f"{TESTS / 'plugins.py'}:FolderTask"]
    words += ["--models", f"m={TESTS / 'hanging_models.py'}:{model}", "--model-args", f"m:{told}"]
    words += ["--data-root", folder, "--output", output, "--num-frames", 2]
    return [
        sys.executable,
        *map(str, words),
        "--workers",
        "1",  # so that videos come in order
        *([] if limit is None else ["--answer-timeout", str(limit)]),
    ]


def run(folder: Path, output: Path, limit: float | None, **arguments: object) -> subprocess.CompletedProcess[str]:
    arguments = {"log": output / "log", **arguments}
    done = subprocess.run(command(folder, output, limit, **arguments), capture_output=True, text=True, timeout=120)
    assert not watching(limit), "its watchdog has ended"
    return done


def watching(limit: float | None) -> list[psutil.Process]:
    """The watchdogs with that limit, which each test has its own of."""

    def is_one(process: psutil.Process) -> bool:
        words = process.cmdline()
        return len(words) > 2 and words[-2].endswith("watchdog.py") and words[-1] == repr(limit)

    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        found = []
        for process in psutil.process_iter():
            try:
                found += [process] if is_one(process) else []
            except psutil.Error:
                continue
        if not found:
            return []
        time.sleep(0.1)
    return found


def states(output: Path) -> dict[str, str]:
    """Each question's error, or its response."""
    records = latest_records(output / "folder" / "folder.m.jsonl")
    return {question: record["error"] or record["response"] for question, record in records.items()}


@pytest.mark.parametrize(
    ("how", "status"),
    [("sleep", 143), ("deaf", -9), ("hold", -9)],
)
def test_its_question_fails_and_the_same_command_goes_on_without(
    how: str, status: int, folder: Path, tmp_path: Path
) -> None:
    limit = {"sleep": 2.5, "deaf": 2.25, "hold": 2.75}[how]
    done = run(folder, tmp_path, limit, at="1 0?", how=how)
    assert done.returncode in (status, -9), done.stderr  # that of a very busy machine
    assert (
        f"the model 'hanging' did not come back within {limit:g} s (--answer-timeout): 1 of its questions"
        in done.stderr
    )
    assert "Traceback" not in done.stderr
    late = f"answering took longer than {limit:g} s (--answer-timeout)"
    assert states(tmp_path) == {"0-0": "A", "0-1": "A", "1-0": late}
    (record,) = [r for r in latest_records(tmp_path / "folder" / "folder.m.jsonl").values() if r["error"]]
    assert (record["given_up_s"], record["prompt"], record["frames"], record["video"]) == (limit, "1 0?", 2, "1")

    again = run(folder, tmp_path, limit, at="1 0?", how=how)
    assert again.returncode == 1 and "1 questions are not asked again" in again.stderr, again.stderr
    assert states(tmp_path) == {"0-0": "A", "0-1": "A", "1-0": late, "1-1": "A", "2-0": "A", "2-1": "A"}
    assert (tmp_path / "log").read_text().splitlines().count("1 0?") == 1

    mended = run(folder, tmp_path, 2 * limit)
    assert mended.returncode == 0 and states(tmp_path)["1-0"] == "A", "with more time it is asked again"


def test_what_is_encoded_fails_whole(folder: Path, tmp_path: Path) -> None:
    done = run(folder, tmp_path, 1.5, how="encode")
    assert done.returncode in (143, -9) and "2 of its questions" in done.stderr
    late = "encoding took longer than 1.5 s (--answer-timeout)"
    assert states(tmp_path) == {"0-0": late, "0-1": late}
    for _ in range(2):  # each video in turn
        run(folder, tmp_path, 1.5, how="encode")
    assert list(states(tmp_path).values()) == [late] * 6
    done = run(folder, tmp_path, 1.5, how="encode")
    assert done.returncode == 1 and "nothing left to ask" in done.stderr + done.stdout


def test_a_batch_fails_together(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path, 1.75, at="1 0?", batch=2)
    late = "answering took longer than 1.75 s (--answer-timeout)"
    assert states(tmp_path) == {"0-0": "A", "0-1": "A", "1-0": late, "1-1": late}


def test_who_is_in_time_has_an_end(folder: Path, tmp_path: Path) -> None:
    """The limit is on each answer, not on all, and starts anew with each."""
    done = run(folder, tmp_path, 1.25, seconds=0.5)
    assert done.returncode == 0 and list(states(tmp_path).values()) == ["A"] * 6


@pytest.mark.parametrize("group", [False, True])
def test_a_run_that_stood_still_is_not_late(group: bool, folder: Path, tmp_path: Path) -> None:
    limit = 3.25 if group else 3.125
    process = subprocess.Popen(
        command(folder, tmp_path, limit, log=tmp_path / "log", seconds=1), start_new_session=True
    )
    send = os.killpg if group else os.kill
    deadline = time.monotonic() + 60
    while not (tmp_path / "log").exists() or "0 0?" not in (tmp_path / "log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    send(process.pid, signal.SIGSTOP)
    time.sleep(limit + 2)
    send(process.pid, signal.SIGCONT)
    assert process.wait(timeout=60) == 0 and list(states(tmp_path).values()) == ["A"] * 6


def test_a_limit_is_a_number_of_seconds(cli: Cli, folder: Path, tmp_path: Path) -> None:
    for limit in ("0", "-1", "nan", "inf"):
        status, _, err = cli(*command(folder, tmp_path, None, log=tmp_path / "log")[2:], "--answer-timeout", limit)
        said = "'nan' is not a number" if limit == "nan" else "must be a positive number of seconds"
        assert status == 2 and said in err


# ------------------------------------------------------------------------------------------------ served models


def served(folder: Path, output: Path, model: HangingService) -> dict[str, str]:
    options: dict[str, Any] = {"sampling": {"num_frames": 2}, "progress": False, "answer_timeout": 1.0}
    start = time.monotonic()
    evaluate([FolderTask()], [model], data_root=folder, output=output, **options)
    assert time.monotonic() - start < 40
    records = latest_records(output / "folder" / "folder.service.jsonl")
    return {question: record["error"] or record["response"] for question, record in records.items()}


@pytest.mark.parametrize("how", ["wait", "deaf"])
def test_a_served_models_request_is_given_up_and_the_run_goes_on(how: str, folder: Path, tmp_path: Path) -> None:
    model = HangingService("1 0?", how)
    late = "answering took longer than 1 s (--answer-timeout)"
    found = served(folder, tmp_path, model)
    assert found == {"0-0": "A", "0-1": "A", "1-0": late, "1-1": late, "2-0": "A", "2-1": "A"}
    assert model.given_up >= 1
    found = served(folder, tmp_path, HangingService(""))
    assert set(found.values()) == {"A"}, "what failed is asked again"


def test_one_that_holds_up_its_event_loop_ends_the_run(folder: Path, tmp_path: Path) -> None:
    words = command(folder, tmp_path, 1, "HangingService", at="1 0?", how="hold")
    start = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert time.monotonic() - start < 60
    assert done.returncode == 2 and "holds up the event loop" in done.stderr and "Traceback" not in done.stderr
    records = latest_records(tmp_path / "folder" / "folder.m.jsonl")
    late = {question for question, record in records.items() if record["error"]}
    assert {"1-0", "1-1"} <= late and all(records[one]["given_up_s"] == 1 for one in late)
    again = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert again.returncode == 1 and set(states(tmp_path)) == {f"{video}-{n}" for video in range(3) for n in range(2)}

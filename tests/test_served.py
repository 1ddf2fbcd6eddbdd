"""Served models: many videos in flight, each answer recorded at once, nothing lost and nothing invented."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from plugins import FolderTask
from served_models import Babbler, Engine, Teller, plugin
from stored import latest_records, latest_responses
from videos import make_video

from vamba_eval import Leaderboard, evaluate
from vamba_eval.contracts import Answer, Clip, GenerationSettings, Question, UserError, Video
from vamba_eval.store.runs import RecordFile

REPOSITORY = Path(__file__).resolve().parent.parent
Cli = Callable[..., tuple[int, str, str]]


class Folder(FolderTask):
    """Three questions about each video; what a test wants to go wrong stands in the video's name."""

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        return [
            Video(path.stem, path, tuple(Question(f"{path.stem}-{n}", f"{path.stem} {n}?", ("yes", "no"), "A")
                                         for n in range(3)))
            for path in sorted(Path(str(data_root)).glob("*.mp4"))
        ]  # fmt: skip


class Trouble(Folder):
    def prompt(self, video: Video, question: Question, protocol: str, clip: Any) -> str:
        trouble = {"0-1": "stumble", "1-1": "vanish", "2-1": "forget"}.get(question.id, "")
        if question.id == "3-1":
            raise KeyError("no prompt for it")
        return f"{question.text} {trouble}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for n in range(7):
        make_video(folder / f"{n}.mp4", frames=20, size=(64, 48))
    return folder


def run(folder: Path, output: Path, model: Engine | str, **more: Any) -> Leaderboard:
    more = {"sampling": {"num_frames": 4}, "progress": False, **more}
    return evaluate([Folder()], [model], data_root=folder, output=output, name="run", **more)


def test_every_question_of_many_videos_at_once_has_its_answer(folder: Path, tmp_path: Path) -> None:
    engine = Engine(concurrency=3, seconds=0.05)
    board = run(folder, tmp_path, engine)
    lines = [json.loads(line) for line in (tmp_path / "run" / "folder.engine.jsonl").read_text().splitlines()]
    assert len(lines) == 21 and engine.most == 3 and engine.closed
    assert [line["question"] for line in lines if line["video"] == "0"] == ["0-2", "0-1", "0-0"], "as they came"
    one = lines[0]
    assert (one["response"], one["num_tokens"], one["prompt_tokens"], one["cached_tokens"]) == ("A", 3, 100, 60)
    assert one["price"] == 0.002 and one["thinking"].startswith("so: ") and one["frames"] == 4
    assert one["seen"] == {
        **{"frames": 4, "height": one["size"][0], "width": one["size"][1]},
        **{"video_tokens": 16, "kind": "images", "times": True},
    }
    by_video = [line["latency_s"] for line in lines if line["video"] == "3"]
    assert by_video == sorted(by_video) and 0.04 < by_video[0] < by_video[2] and by_video[2] > 0.14
    assert not {"encode_s", "generate_s", "peak_bytes"} & one.keys(), "what the server does is not seen from here"
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["models"]["engine"] == {"adapter": "engine", "reads_video": True, "served": True, "revision": 7}
    (result,) = board.results
    assert result.complete and result.summary.headline[1].value == 1 and result.costs.encode_s_per_video is None
    strips = {path.stem for path in (tmp_path / "run" / "thumbnails").iterdir()}
    assert strips == {line["frames_digest"] for line in lines}


def test_what_was_seen_may_come_with_the_answer(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path, Teller())
    lines = [json.loads(line) for line in (tmp_path / "run" / "folder.teller.jsonl").read_text().splitlines()]
    seen = {"frames": 4, "height": 28, "width": 56, "video_tokens": 16, "kind": "video", "times": False}
    assert all(line["seen"] == seen and line["video_tokens"] == 16 for line in lines if line.get("response"))
    assert not any(line.get("seen") for line in lines if not line.get("response")), "of one that failed nobody knows"


def test_a_faulty_question_fails_alone_and_a_lost_server_fails_what_is_left(folder: Path, tmp_path: Path) -> None:
    evaluate([Trouble()], [Engine()], data_root=folder, output=tmp_path, name="run", progress=False,
             sampling={"num_frames": 4})  # fmt: skip
    records = latest_records(tmp_path / "run" / "folder.engine.jsonl")
    assert len(records) == 21
    errors = {question: record["error"] for question, record in records.items() if record["error"]}
    errors = {question: re.sub(r" \(\w+\.py:\d+\)$", "", error) for question, error in errors.items()}  # where
    assert errors == {
        "0-1": "answering failed: ValueError: the server says 500",
        "1-1": "answering failed: ConnectionError: the server is gone",
        "1-0": "answering failed: ConnectionError: the server is gone",
        "2-1": "answering failed: RuntimeError: the model 'engine' gave no answer to it",
        "3-1": "making the prompt failed: KeyError: 'no prompt for it'",
    }
    assert all(records[question]["response"] is None for question in errors)


class Wrong(Folder):
    def prompt(self, video: Video, question: Question, protocol: str, clip: Any) -> str:
        return "quit" if question.id == "2-1" else question.text


def test_a_user_error_ends_the_run_when_what_is_in_flight_has_ended(folder: Path, tmp_path: Path) -> None:
    engine = Engine(concurrency=2, seconds=0.2)
    with pytest.raises(UserError, match="the key is wrong"):
        evaluate([Wrong()], [engine], data_root=folder, output=tmp_path, name="run", progress=False,
                 sampling={"num_frames": 4})  # fmt: skip
    records = latest_records(tmp_path / "run" / "folder.engine.jsonl")
    assert not any(record["error"] for record in records.values()), "nobody's question has failed"
    by_video = [sum(record["video"] == str(n) for record in records.values()) for n in range(7)]
    assert by_video.pop(2) == 1 and set(by_video) == {0, 3}, "what is in flight is answered whole, nothing follows"
    assert engine.closed and engine.in_flight == 0


def test_what_is_no_answer_is_no_response(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path, Babbler())
    records = latest_records(tmp_path / "run" / "folder.babbler.jsonl")
    assert "should give Answers with a text, not 'A'" in records["0-0"]["error"]
    assert records["0-1"]["response"] == "A", "the first counts"
    assert "answers question 1 of 3 again" in records["0-2"]["error"]


class Odd(Engine):
    """Of the questions about video 3, the second gets what a test wants."""

    name = "odd"

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    async def answer(
        self, clip: Clip | None, prompts: Sequence[str], settings: GenerationSettings
    ) -> AsyncIterator[tuple[int, Any]]:
        for place, prompt in enumerate(prompts):
            if prompt != "3 1?":
                yield place, Answer("A")
            elif self.what == "exit":
                sys.exit(0)
            elif self.what == "exit of a task":
                await asyncio.create_task(self._end())
            elif self.what == "cancelled":
                raise asyncio.CancelledError
            elif self.what == "no pair":
                yield Answer("A")  # type: ignore[misc]
            elif self.what == "no place":
                yield [], Answer("A")  # type: ignore[misc]
            elif self.what == "nobody's place":
                yield 7, Answer("A")
            elif self.what == "interrupt":
                raise KeyboardInterrupt

    async def _end(self) -> None:
        await asyncio.sleep(0)
        sys.exit(0)


class NoGenerator(Engine):
    name = "no_generator"

    async def answer(self, clip: Clip | None, prompts: Sequence[str], settings: GenerationSettings) -> Any:
        return [Answer("A") for _ in prompts]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("exit", "RuntimeError: the model 'odd' tried to end the process (SystemExit(0))"),
        ("exit of a task", "RuntimeError: the model 'odd' tried to end the process (SystemExit(0))"),
        ("no pair", "TypeError: the model 'odd' should yield a place and an Answer, not Answer("),
        ("no place", "TypeError: the model 'odd' should yield a place and an Answer, not ([], Answer("),
        ("nobody's place", "IndexError: the model 'odd' answers question 7 of 3 which nobody asked"),
        pytest.param(
            "cancelled",
            "RuntimeError: the model 'odd' raised CancelledError()",
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="nobody knows who cancels"),
        ),
    ],
)
def test_what_a_served_model_does_oddly_fails_what_has_no_answer(
    folder: Path, tmp_path: Path, what: str, said: str
) -> None:
    run(folder, tmp_path, Odd(what))
    records = latest_records(tmp_path / "run" / "folder.odd.jsonl")
    errors = {question: record["error"] for question, record in records.items() if record["error"]}
    assert len(records) == 21 and sorted(errors) == ["3-1", "3-2"]
    assert all(error.startswith(f"answering failed: {said}") for error in errors.values())


def test_a_served_model_that_is_no_generator_is_told_so(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path, NoGenerator())
    records = latest_records(tmp_path / "run" / "folder.no_generator.jsonl")
    (error,) = {record["error"] for record in records.values()}
    assert len(records) == 21 and "'no_generator' should answer by an asynchronous generator" in error


def test_ctrl_c_within_a_served_model_ends_the_run(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path, Odd("interrupt"))


def test_seeds_blind_and_a_ladder(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    sampled = {"generation": {"do_sample": True}, "seeds": 2, "blind": True, "sampling": None, "ladder": (2, 4)}
    run(folder, tmp_path, plugin("Engine"), model_args={plugin("Engine"): {"log": str(log)}}, **sampled)
    label = next(path.name for path in (tmp_path / "run" / "4-frames").glob("*.jsonl") if "blind" not in path.name)
    for rung in ("2-frames", "4-frames"):
        responses = latest_responses(tmp_path / "run" / rung / label)
        assert {key[1]: value["response"] for key, value in responses.items()} == {0: "A", 1: "B"}
        assert len(responses) == 42
    asked = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(asked, key=str) == sorted(7 * [[2, 3]] * 2 + 7 * [[4, 3]] * 2 + 7 * [[None, 3]] * 2, key=str)


def test_a_killed_run_goes_on_and_asks_nothing_twice(folder: Path, tmp_path: Path) -> None:
    # One video at a time, so that what was answered before the kill is known exactly.
    command = [
        *(sys.executable, REPOSITORY / "run_eval.py", "--tasks", f"{Path(__file__)}:Folder"),
        *("--models", f"engine={plugin('Engine')}", "--data-root", folder, "--output", tmp_path, "--name", "run"),
        *("--num-frames", "4"),
    ]
    arguments = ["--model-args", f"engine:concurrency=1,log={tmp_path / 'log'}"]
    killed = [arguments[0], f"{arguments[1]},kill_after=8"]
    environment = {"PYTHONPATH": f"{Path(__file__).parent}:{REPOSITORY}"}
    first = subprocess.run([*command, *killed], env={**os.environ, **environment}, capture_output=True)
    assert first.returncode == -9
    path = tmp_path / "run" / "folder.engine.jsonl"
    before = path.read_text()
    assert len(before.splitlines()) == 8, "each was recorded as it came"
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["models"]["engine"]["revision"] == 7
    again = subprocess.run([*command, *arguments], env={**os.environ, **environment}, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    after = path.read_text()
    assert after.startswith(before) and len(after.splitlines()) == 21
    assert sum(json.loads(line)[1] for line in (tmp_path / "log").read_text().splitlines()) == 9 + 13


def test_ctrl_c_leaves_no_thread(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: RecordFile, record: Any) -> None:
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    monkeypatch.setattr(RecordFile, "append", interrupted)
    engine = Engine(seconds=0.2)
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path, engine)
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("served")]
    assert left == [] and engine.closed and engine.in_flight == 0

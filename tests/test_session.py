"""The one loop that puts prompts to a model: one by one or in batches, and what becomes of odd answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugins import FolderTask
from stored import latest_records, latest_responses
from videos import make_video

from vamba_eval import Leaderboard, evaluate, load_adapter
from vamba_eval.contracts import Answer, Clip, GenerationSettings, ModelAdapter, Seen
from vamba_eval.cost.meter import Meter
from vamba_eval.run.session import Request, Session, batches


class Batched(ModelAdapter):
    """Notes what it is given; stumbles over a batch that holds a certain prompt."""

    name = "batched"
    batch_size = 3

    def __init__(self) -> None:
        self.given: list[list[str]] = []

    def encode(self, clip: Clip | None) -> None:
        return None

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        self.given.append([f"{prompt} {settings.seed}" for prompt in prompts])
        if any("bad" in prompt for prompt in prompts):
            raise ValueError("it does not like that")
        return [Answer(f"{prompt}!", num_tokens=np.int64(2)) for prompt in prompts]  # type: ignore[arg-type]


def asked(model: ModelAdapter, prompts: Sequence[str], seeds: Sequence[int] = (0,)) -> list[list[Any]]:
    session = Session(model, None, Meter())
    requests = (Request(prompt, GenerationSettings(seed=seed)) for prompt in prompts for seed in seeds)
    return [
        [(str(each.request.prompt), each.request.settings.seed, each.answer, each.batch) for each in few]
        for few in session.answers(requests)
    ]


def test_batches_hold_one_kind_of_settings_and_no_more_than_the_model_asks_for() -> None:
    model = Batched()
    found = asked(model, ["a", "b", "c", "d"], seeds=(0, 1))
    assert model.given == [["a 0", "b 0", "c 0"], ["d 0"], ["a 1", "b 1", "c 1"], ["d 1"]]
    assert [[(prompt, seed, batch) for prompt, seed, _, batch in few] for few in found][:2] == [
        [("a", 0, 3), ("b", 0, 3), ("c", 0, 3)],
        [("d", 0, 1)],
    ]
    counts = [answer.num_tokens for few in found for _, _, answer, _ in few]
    assert json.dumps(counts) == "[2, 2, 2, 2, 2, 2, 2, 2]", "NumPy's integers are not JSON's"


def test_a_batch_that_fails_is_asked_one_by_one() -> None:
    model = Batched()
    found = [one for few in asked(model, ["a", "bad", "c", "d"]) for one in few]
    assert [isinstance(answer, ValueError) for _, _, answer, _ in found] == [False, True, False, False]
    assert [batch for *_, batch in found] == [1, 1, 1, 1]
    assert model.given == [["a 0", "bad 0", "c 0"], ["a 0"], ["bad 0"], ["c 0"], ["d 0"]]


def test_one_by_one_nothing_is_asked_ahead() -> None:
    model, pulled = Batched(), []
    model.batch_size = 1

    def typed() -> Iterator[Request]:
        for prompt in "ab":
            pulled.append(prompt)
            yield Request(prompt, GenerationSettings())

    answers = Session(model, None, Meter()).answers(typed())
    next(answers)
    assert pulled == ["a"] and list(batches(iter("ab"), str, 1)) == [["a"], ["b"]]


class Unsayable(Exception):
    def __str__(self) -> str:
        raise KeyError("no text either")


class Panic(BaseException):
    """As libraries in Rust raise."""


def throw(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (lambda prompts: [None], "not None"),
        (lambda prompts: "A", "not a str"),
        (lambda prompts: [Answer(None)], "whose text is None"),  # type: ignore[arg-type]
        (lambda prompts: [Answer(b"A")], "whose text is b'A'"),  # type: ignore[arg-type]
        (lambda prompts: [Answer("A", thinking=b"so")], "whose thinking is a text, not b'so'"),  # type: ignore[arg-type]
        (lambda prompts: [Answer("A", num_tokens=None)], "whose num_tokens is a count, not None"),  # type: ignore[arg-type]
        (lambda prompts: [Answer("A", num_tokens=-1)], "whose num_tokens is a count, not -1"),
        (lambda prompts: [Answer("A", price=float("nan"))], "whose price is a number from 0 or None, not nan"),
        (lambda prompts: [Answer("A", seen=(4, 28, 28))], "as a Seen, or None, not (4, 28, 28)"),  # type: ignore[arg-type]
        (lambda prompts: [Answer("A" * 10_000_000)], "the model 'odd' gave an Answer whose text has 10,000,000 char"),
        (lambda prompts: [], "the model 'odd' should give a list of 1 Answers, one a prompt, not 0 answers"),
        (lambda prompts: [Answer("A")] * 2, "not 2 answers"),
        (lambda prompts: None, "not a NoneType"),
        (lambda prompts: exit(0), "the model 'odd' tried to end the process (SystemExit(0))"),
        (lambda prompts: throw(Panic("index out of bounds")), "the model 'odd' raised Panic('index out of bounds')"),
        (lambda prompts: throw(Unsayable()), "Unsayable: no message"),
        (lambda prompts: throw(ValueError("x" * 10_000_000)), "... (10,000,000 characters)"),
    ],
)
def test_an_odd_answer_fails_its_question_and_names_the_model(answers: Any, said: str, tmp_path: Path) -> None:
    class Odd(ModelAdapter):
        name = "odd"
        reads_video = False

        def encode(self, clip: Clip | None) -> None:
            return None

        def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
            return answers(prompts) if prompts[0].endswith("0?") else [Answer("B")]

    make_video(tmp_path / "a.mp4", frames=4)
    board = evaluate([FolderTask()], [Odd()], data_root=tmp_path, output=tmp_path, name="run", progress=False)
    records = latest_records(tmp_path / "run" / "folder.odd.jsonl")
    assert board.num_failed == 1 and records["a-1"]["response"] == "B"
    assert records["a-0"]["error"].startswith("answering failed: ") and said in records["a-0"]["error"]
    assert records["a-0"]["response"] is None and len(records["a-0"]["error"]) < 3000


def test_numbers_of_numpy_are_recorded(tmp_path: Path) -> None:
    class Exact(ModelAdapter):
        name = "exact"

        def encode(self, clip: Clip | None) -> None:
            return None

        def seen(self, encoded: Any) -> Seen:
            return Seen(*np.array([2, 48, 64, 9]), times=np.bool_(True))  # type: ignore[arg-type]

        def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
            return [Answer("A", np.int64(3), price=np.float32(0.5), prompt_tokens=7.0)]  # type: ignore[arg-type]

    make_video(tmp_path / "a.mp4", frames=4)
    evaluate([FolderTask()], [Exact()], data_root=tmp_path, output=tmp_path, name="run", progress=False)
    record = latest_records(tmp_path / "run" / "folder.exact.jsonl")["a-0"]
    assert (record["num_tokens"], record["price"], record["prompt_tokens"], record["error"]) == (3, 0.5, 7, None)
    assert record["seen"] == {
        **{"frames": 2, "height": 48, "width": 64, "video_tokens": 9},
        **{"kind": "video", "times": True},
    }


@pytest.mark.parametrize(
    ("encode", "seen", "said"),
    [
        (lambda: exit(0), None, "the model 'picky' tried to end the process (SystemExit(0))"),
        (lambda: throw(Panic("no")), None, "the model 'picky' raised Panic('no')"),
        (lambda: throw(Unsayable()), None, "Unsayable: no message"),
        (lambda: None, (4, 28, 28), "the model 'picky' should say what it saw as a Seen, or None, not (4, 28, 28)"),
        (lambda: None, Seen(4, 28, None), "a Seen whose width is a count, not None"),  # type: ignore[arg-type]
    ],
)
def test_encoding_that_goes_wrong_oddly_fails_its_video(encode: Any, seen: Any, said: str, tmp_path: Path) -> None:
    class Picky(ModelAdapter):
        name = "picky"

        def encode(self, clip: Clip | None) -> Any:
            bad = clip is not None and len(clip.frames) == 3
            return encode() if bad else clip, bad

        def seen(self, encoded: Any) -> Any:
            return seen if encoded[1] else None

        def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
            return [Answer("B")]

    for name, frames in (("a", 4), ("b", 3), ("c", 4)):
        make_video(tmp_path / f"{name}.mp4", frames=frames)
    evaluate([FolderTask()], [Picky()], data_root=tmp_path, output=tmp_path, name="run", progress=False)
    records = latest_records(tmp_path / "run" / "folder.picky.jsonl")
    errors = {question: record["error"] for question, record in records.items() if record["error"]}
    assert len(records) == 6 and list(errors) == ["b-0", "b-1"]
    assert all(error.startswith("encoding failed: ") and said in error for error in errors.values())


@pytest.mark.parametrize("phase", ["encode", "generate"])
def test_ctrl_c_within_a_model_ends_the_run(phase: str, tmp_path: Path) -> None:
    class Stopped(Batched):
        def encode(self, clip: Clip | None) -> None:
            if phase == "encode":
                raise KeyboardInterrupt

        def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
            raise KeyboardInterrupt

    make_video(tmp_path / "a.mp4", frames=4)
    with pytest.raises(KeyboardInterrupt):
        evaluate([FolderTask()], [Stopped()], data_root=tmp_path, output=tmp_path, name="run", progress=False)


def test_answers_of_a_batch_are_marked_and_share_its_costs(tmp_path: Path) -> None:
    for name in "ab":
        make_video(tmp_path / f"{name}.mp4", frames=8, size=(64, 48))
    said = {}
    for size in (1, 8):
        model = load_adapter("vamba", device="cpu", batch_size=size)
        evaluate([FolderTask()], [model], data_root=tmp_path, output=tmp_path, name=f"of-{size}", progress=False)
        records = latest_responses(tmp_path / f"of-{size}" / "folder.vamba.jsonl")
        said[size] = {key: record["response"] for key, record in records.items()}
        assert [record.get("batch") for record in records.values()] == [None if size == 1 else 2] * 4
    assert said[1] == said[8], "greedy answers do not depend on what else is asked"
    batched = latest_records(tmp_path / "of-8" / "folder.vamba.jsonl")
    assert batched["a-0"]["generate_s"] == batched["a-1"]["generate_s"], "an even share"
    notes = Leaderboard.from_runs([tmp_path / "of-8"]).notes()
    assert any("vamba on A folder of videos: 4 responses were given in batches" in note.replace(" (512 frames)", "")
               for note in notes)  # fmt: skip

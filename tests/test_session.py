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
from vamba_eval.contracts import Answer, Clip, GenerationSettings, ModelAdapter
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


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (lambda prompts: [None], "not None"),
        (lambda prompts: "A", "not a str"),
        (lambda prompts: [Answer(None)], "whose text is None"),  # type: ignore[arg-type]
        (lambda prompts: [Answer(b"A")], "whose text is b'A'"),  # type: ignore[arg-type]
        (lambda prompts: [], "not 0 answers"),
        (lambda prompts: None, "not a NoneType"),
        (lambda prompts: exit(0), "tried to end the process"),
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
    assert records["a-0"]["response"] is None


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

"""What a guess is worth: every stored question must tell, so that chance has an exact value under every protocol."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from statistics import mean

import pytest
from benchmark_files import mlvu_test_rows, write_every_choice, write_mlvu_test
from plugins import FolderTask
from videos import make_video

from vamba_eval import Question, Task, evaluate, load_task
from vamba_eval.contracts import LETTERS, Clip, GenerationSettings, Prompt, Video
from vamba_eval.registry import load_local
from vamba_eval.score.scored import scored_runs
from vamba_eval.store.runs import read_records

TASKS = (
    *("videomme", "mlvu", "longvideobench", "lvbench", "hourvideo", "mvbench", "nextqa"),
    *("houreval", "synthetic"),
)


class OneText(FolderTask):
    """Asks the same about every video."""

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return "What happens first?"


def expectation(task: Task, question: Question, protocol: str) -> float:
    """The mean score of a letter drawn among the options', from what the store keeps of a question."""
    stored = Question(question.id, "", question.options, question.answer, question.groups)
    letters = LETTERS[: len(stored.options)]
    scores = [task.score(stored, letter, protocol) for letter in letters]
    assert not any(score.drawn for score in scores)
    return sum(float(score.correct or 0) for score in scores) / len(letters)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_every_choice(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", TASKS)
def test_a_guess_is_right_once_in_the_number_of_options(name: str, data: Path) -> None:
    task = load_task(name)
    asked = [question for video in task.load(data) for question in video.questions]
    assert asked and all(2 <= len(question.options) <= 5 for question in asked)
    for question in asked:
        for protocol in task.protocols:
            chance = 1 / len(question.options) if question.answer else 0.0
            assert expectation(task, question, protocol) == pytest.approx(chance), (question, protocol)


def test_a_letter_that_a_protocol_never_reads_is_worth_nothing(tmp_path: Path) -> None:
    """MLVU's test set has up to six options, of which lmms-eval's rule reads four."""
    rows = mlvu_test_rows({"plotQA": 12, "ego": 12})
    write_mlvu_test(tmp_path, rows)
    common = {"data_root": tmp_path, "output": tmp_path / "runs", "split": "test", "progress": False}
    evaluate(["mlvu"], ["constant"], name="a", protocol="lmms-eval", **common)
    (run,) = scored_runs([tmp_path / "runs" / "a"])
    earned: dict[str, list[float]] = {}
    for record in run.answered:
        readable = record.answer in tuple("ABCD")
        earned.setdefault(record.groups["question_type"], []).append(readable / len(record.options))
    assert any(value == 0 for values in earned.values() for value in values)
    assert run.chance() == pytest.approx(mean(mean(values) for values in earned.values()))


def test_questions_of_one_text_are_guessed_apart() -> None:
    """Benchmarks ask one text about many videos; guesses that were all alike would be right or wrong together."""
    guesser, settings = load_local("random"), GenerationSettings()

    def guesses(prompts: list[str]) -> list[str]:
        return [answer.text for answer in guesser.generate(None, prompts, settings)]

    prompts = [Prompt("What happens first?", 4, f"q{n}") for n in range(40)]
    told_apart = guesses(prompts)
    assert set(told_apart) == set("ABCD")
    assert guesses(prompts[::-1])[::-1] == told_apart == guesses(pickle.loads(pickle.dumps(prompts)))
    assert guesses([Prompt("In other words?", 4, f"q{n}") for n in range(40)]) == told_apart
    assert len(set(guesses([Prompt("What happens first?", 4)] * 9))) == 1, "no question is known"
    assert guesser.describe() == {"seed": 0, "seeded_by": "question"}


def test_a_run_of_one_text_is_guessed_apart(tmp_path: Path) -> None:
    make_video(tmp_path / "0.mp4", frames=3)
    for n in range(1, 20):
        shutil.copy(tmp_path / "0.mp4", tmp_path / f"{n}.mp4")
    board = evaluate([OneText()], ["random"], data_root=tmp_path, output=tmp_path / "out", progress=False)
    assert 0 < board.table.iloc[0]["score"] < 1 and board.table.iloc[0]["answered"] == 40
    (path,) = (tmp_path / "out").rglob("*.random.jsonl")
    assert {record.response for record in read_records(path)} == {"A", "B"}

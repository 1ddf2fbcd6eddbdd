"""What a guess is worth: every stored question must tell, so that chance has an exact value under every protocol."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from benchmark_files import mlvu_test_rows, write_every_choice, write_mlvu_test
from plugins import FolderTask
from videos import make_video

from vamba_eval import Question, Task, evaluate, load_task
from vamba_eval.contracts import LETTERS, Catalogue, Clip, GenerationSettings, Measure, Prompt, Score, Video
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


# ------------------------------------------------------------------------------------------- yes and no


class Words(Task):
    """Scores a response that is the answer, whatever its case: of questions whose answer is a letter, the letter."""

    name = "words"
    version = "1"
    catalogue = Catalogue("Words")
    asked: tuple[Question, ...] = ()
    case_matters = False

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        return [Video("v", Path("v.mp4"), self.asked)]

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return question.text

    def score(self, question: Question, response: str, protocol: str) -> Score:
        said, right = (text if self.case_matters else text.lower() for text in (response, question.answer or ""))
        return Score({"correct": float(said == right)})


def asked(answer: str | None, *options: str, **more: Any) -> Question:
    return Question("q", "Is it?", options, answer, **more)


class Strict(Words):
    case_matters = True


class OnlyLetters(Words):
    """Asks in letters, and keeps the right option's text."""

    def score(self, question: Question, response: str, protocol: str) -> Score:
        letters = dict(zip(LETTERS, question.options, strict=False))
        return Score({"correct": float(letters.get(response) == question.answer)})


class Half(Words):
    """A measure that is no mean: 1 where at least half are right."""

    measures = {"half": Measure(lambda records: float(mean(r.values["correct"] for r in records) >= 0.5))}


FOUR = ("cat", "dog", "cow", "pig")


@pytest.mark.parametrize(
    "task, questions, chance",
    [
        (Words, [asked("B", "Yes", "No")], 1 / 2),
        (Words, [asked("no", "Yes", "No")], 1 / 2),
        (Words, [asked("No", "Yes", "No")], 1 / 2),
        (Words, [asked("yes")], 1 / 2),
        (Words, [asked("No")], 1 / 2),
        (Strict, [asked("yes"), asked("NO"), asked("Yes")], 1 / 2),
        (OnlyLetters, [asked("dog", *FOUR)], 1 / 4),
        (OnlyLetters, [asked("yes")], None),
        (Words, [asked("dog", *FOUR)], 1 / 4),
        # Mixed: (1/2 + 1/4 + 1/4 + 1/2) / 4.
        (Words, [asked("yes"), asked("C", *FOUR), asked("dog", *FOUR), asked("A", "Yes", "No")], 3 / 8),
        (Words, [asked("yes"), asked("a red car")], None),
        (Words, [asked("yes"), asked("Yes, it is")], None),
        (Words, [asked("yes"), asked(None)], None),
        (Words, [asked("yes"), asked("", *FOUR)], 1 / 4),  # the impossible one has no right guess
        # Of two guesses at yes or no, at least one is right three times in four.
        (Half, [asked("yes"), asked("no")], 3 / 4),
    ],
)
def test_yes_or_no_is_guessed_once_in_two(
    task: type[Words], questions: list[Question], chance: float | None, tmp_path: Path
) -> None:
    made = task()
    made.asked = tuple(replace(each, id=f"q{n}") for n, each in enumerate(questions))
    evaluate([made], ["constant"], output=tmp_path, progress=False)
    (run,) = scored_runs([tmp_path])
    assert run.chance() == (chance if chance is None else pytest.approx(chance, abs=0.01 if task is Half else 1e-12))


def test_what_a_judge_grades_is_not_guessed(tmp_path: Path) -> None:
    made = Judged()
    made.asked = (asked("yes"),)
    evaluate([made], ["constant"], output=tmp_path, progress=False)
    (run,) = scored_runs([tmp_path])
    assert run.chance() is None


class Judged(Words):
    def needs_judge(self, question: Question) -> bool:
        return True

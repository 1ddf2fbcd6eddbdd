"""Stored runs as scored responses, under any protocol.

What tables, comparisons and exports are made of. Reads records and asks their task what they are worth; needs no
data, no GPU and no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from vamba_eval import registry
from vamba_eval.contracts import LETTERS, JudgedTask, Question, Score, ScoredRecord, Summary, Task, UserError
from vamba_eval.store.judgements import Judgements, read_judgements
from vamba_eval.store.runs import find_runs, latest_responses, read_info

ALL_PROTOCOLS = "all"


@dataclass(frozen=True)
class ScoredRun:
    """One model's responses to one task in one run, scored under ``protocol``.

    ``fingerprint`` and ``identity`` are what run.json says of the task and the model. ``records`` are the store's, one
    a question and seed, failed ones included; ``scored`` belongs to those that have a response, in the same order.
    ``judgements`` are those that the scores of a JudgedTask come from; None for other tasks.
    """

    folder: Path
    info: dict[str, Any]
    task: Task
    task_name: str
    model: str
    protocol: str
    records: Sequence[dict[str, Any]]
    scored: Sequence[ScoredRecord]
    judgements: Judgements | None = None

    @property
    def fingerprint(self) -> dict[str, Any]:
        return self.info["tasks"][self.task_name]

    @property
    def identity(self) -> dict[str, Any]:
        return self.info["models"][self.model]

    @property
    def answered(self) -> list[dict[str, Any]]:
        return [record for record in self.records if record["error"] is None]

    @property
    def num_unjudged(self) -> int:
        """Responses that wait for a judge; they count neither as right nor as wrong."""
        return 0 if self.judgements is None else sum(not record.score.grades for record in self.scored)

    @property
    def title(self) -> str:
        """The task's name in tables; its splits have names of their own."""
        return self.task.title_of(self.fingerprint.get("split"))

    @property
    def summary(self) -> Summary:
        return self.task.summarize(self.scored)

    def chance(self) -> float | None:
        """The headline that guessing is expected to reach, exactly; None where that is not defined.

        What a guess earns is what the protocol makes of each letter: some never read an E, and an impossible question
        has no right one.
        """
        if not self.scored or any(not record["options"] or record["answer"] is None for record in self.answered):
            return None
        guesses = []
        for record, scored in zip(self.answered, self.scored, strict=True):
            question = stored_question(record)
            letters = LETTERS[: len(question.options)]
            earned = [float(self.task.score(question, letter, self.protocol).correct or 0.0) for letter in letters]
            guesses.append(replace(scored, score=Score(fmean(earned), None, parsed=True)))
        metrics = self.task.summarize(guesses).metrics
        return next(iter(metrics.values())).value if metrics else None


def scored_runs(paths: Iterable[str | Path], protocol: str | None = None, judge: str | None = None) -> list[ScoredRun]:
    """Every task and model of all runs at or below ``paths``, scored under ``protocol``.

    ``judge`` says whose grades count where several language models graded.
    By default the protocol that each was run with; ``all``: once under each that its task has, its own first.
    Raises UserError where there is no run, and for a protocol that a task does not have.
    """
    found = []
    for folder in find_runs([Path(path) for path in paths]):
        info = read_info(folder)
        for task_name, fingerprint in info["tasks"].items():
            task = recorded_task(fingerprint["source"], folder)
            for model in info["models"]:
                path = folder / f"{task_name}.{model}.jsonl"
                if not path.exists():
                    continue
                records = list(latest_responses(path).values())
                answered = [record for record in records if record["error"] is None]
                judgements = read_judgements(path, judge) if isinstance(task, JudgedTask) else None
                for used in _protocols(task, fingerprint["protocol"], protocol):
                    scored = [scored_record(task, record, used, judgements) for record in answered]
                    found.append(ScoredRun(folder, info, task, task_name, model, used, records, scored, judgements))
    return found


def scored_record(
    task: Task, record: Mapping[str, Any], protocol: str, judgements: Judgements | None = None
) -> ScoredRecord:
    """A record that has a response, with what ``task`` says of it (or of a judge's opinion of it)."""
    question = stored_question(record)
    score = task.score(question, record["response"], protocol)
    if isinstance(task, JudgedTask) and judgements and (judgement := judgements.of(task, record)) is not None:
        score = task.grade(question, judgement)
    return ScoredRecord(question.id, record["video"], question.groups, score, record.get("seed", 0))


def stored_question(record: Mapping[str, Any]) -> Question:
    """As much of the question as its record keeps."""
    groups = {name: tuple(value) if isinstance(value, list) else value for name, value in record["groups"].items()}
    return Question(
        record["question"],
        record.get("text", ""),
        tuple(record["options"]),
        record["answer"],
        groups,
        record.get("extra", {}),
    )


def _protocols(task: Task, own: str, asked: str | None) -> list[str]:
    if asked == ALL_PROTOCOLS:
        return list(dict.fromkeys([own, *task.protocols]))
    used = asked or own
    if used not in task.protocols:
        raise UserError(f"{task.name} has no protocol {used!r}; it has {', '.join(task.protocols)}")
    return [used]


def recorded_task(source: str, folder: Path) -> Task:
    """The task that the run in ``folder`` was made with: a name, or ``module:class`` of one that was passed."""
    if ":" in source and not source.partition(":")[0].endswith(".py"):
        module, _, name = source.partition(":")
        try:
            return getattr(importlib.import_module(module), name)()
        except (ImportError, AttributeError) as error:
            raise UserError(f"{folder} was made with the task {source}, which cannot be imported: {error}") from error
    return registry.load_task(source)

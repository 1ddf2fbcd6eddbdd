"""Stored runs as scored responses, under any protocol.

What tables, comparisons and exports are made of. Reads records and asks their task what they are worth; needs no
data, no GPU and no torch.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from vamba_eval import registry
from vamba_eval.contracts import (
    LETTERS,
    Mean,
    Measure,
    Question,
    Score,
    ScoredRecord,
    Summary,
    Task,
    UserError,
    Verdict,
)
from vamba_eval.score.statistics import over_seeds, summarize
from vamba_eval.store.judgements import Judgements, read_judgements
from vamba_eval.store.records import Record
from vamba_eval.store.runs import find_runs, latest_records, read_info

ALL_PROTOCOLS = "all"
# Guesses drawn where a measure is no mean: with so many in all, what guessing reaches is known to about 0.1 %.
_GUESSES, _LEAST_DRAWS = 200_000, 200


@dataclass(frozen=True)
class ScoredRun:
    """One model's responses to one task in one run, scored under ``protocol``.

    ``fingerprint`` and ``identity`` are what run.json says of the task and the model. ``records`` are the store's, one
    a question and seed, failed ones included; ``scored`` belongs to those that have a response, in the same order.
    ``judgements`` are those that scores of judged questions come from.
    """

    folder: Path
    info: dict[str, Any]
    task: Task
    task_name: str
    model: str
    protocol: str
    records: Sequence[Record]
    scored: Sequence[ScoredRecord]
    judgements: Judgements

    @property
    def fingerprint(self) -> dict[str, Any]:
        return self.info["tasks"][self.task_name]

    @property
    def identity(self) -> dict[str, Any]:
        return self.info["models"][self.model]

    @property
    def answered(self) -> list[Record]:
        return [record for record in self.records if record.answered]

    @property
    def num_unjudged(self) -> int:
        """Responses that wait for a judge; they count neither as right nor as wrong."""
        return sum(self.task.needs_judge(scored.question) for scored in self.scored if not scored.values)

    @property
    def title(self) -> str:
        """The task's name in tables; its splits have names of their own."""
        return self.task.title_of(self.fingerprint.get("split"))

    @property
    def summary(self) -> Summary:
        return summarize(self.task.measures, self.scored)

    def chance(self) -> float | None:
        """The headline that guessing letters is expected to reach; None where that is not defined.

        What a guess earns is what the protocol makes of each letter: some never read an E, and an impossible question
        has no right one. Exact where the headline is a mean; of another measure, the mean over many drawn guesses.
        """
        if not self.scored or any(not each.question.options or each.question.answer is None for each in self.scored):
            return None

        def scores(question: Question) -> list[Score]:
            letters = LETTERS[: len(question.options)]
            return [self.task.score(question, letter, self.protocol) for letter in letters]

        possible = [(each, scores(each.question)) for each in self.scored]
        return expected_of_guesses(next(iter(self.task.measures.values())), possible)


def expected_of_guesses(measure: Measure, possible: Sequence[tuple[ScoredRecord, Sequence[Score]]]) -> float | None:
    """What ``measure`` is expected to be where each response is drawn from its ``possible`` scores, all as likely."""
    if isinstance(measure, Mean):  # the mean of what is expected of each
        expected = [replace(record, score=Score(_expected(scores, measure.value))) for record, scores in possible]
        return over_seeds(measure, expected)
    guesses = [[replace(record, score=score) for score in scores] for record, scores in possible]
    draws, chooser = max(_LEAST_DRAWS, _GUESSES // max(1, len(guesses))), random.Random(0)
    reached = [over_seeds(measure, [chooser.choice(each) for each in guesses]) for _ in range(draws)]
    known = [value for value in reached if value is not None]
    return fmean(known) if known else None


def _expected(scores: Sequence[Score], value: str) -> dict[str, float]:
    return {value: fmean(score.values.get(value, 0.0) for score in scores)}


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
                records = latest_records(path)
                judgements = read_judgements(path, judge)
                for used in _protocols(task, fingerprint["protocol"], protocol):
                    scored = [scored_record(task, record, used, judgements) for record in records if record.answered]
                    found.append(ScoredRun(folder, info, task, task_name, model, used, records, scored, judgements))
    return found


def scored_record(task: Task, record: Record, protocol: str, judgements: Judgements | None = None) -> ScoredRecord:
    """A record that has a response, with what ``task`` says of it (or of a judge's opinion of it)."""
    question, response = record.asked(), record.response or ""
    if not task.needs_judge(question):
        score = task.score(question, response, protocol)
    elif judgements is not None and (judgement := judgements.of(task, record)) is not None:
        score = task.grade(question, judgement)
    else:
        score = Score()
    return ScoredRecord(question.id, record.video, question.groups, score, record.seed, question, response)


def verdict_of(measures: Mapping[str, Measure], values: Mapping[str, float]) -> Verdict | None:
    """What ``values`` say: "right" where all are the best possible, "wrong" where none is above the worst, else
    "partial"; None without any."""
    if not values:
        return None
    bounds = {each.value: (each.best, each.worst) for each in measures.values() if isinstance(each, Mean)}
    ends = [(value, *bounds.get(name, (1.0, 0.0))) for name, value in values.items()]
    if all(value == best or (value > best) == (best > worst) for value, best, worst in ends):
        return "right"
    if all(value == worst or (value < worst) == (best > worst) for value, best, worst in ends):
        return "wrong"
    return "partial"


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

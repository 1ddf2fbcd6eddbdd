"""Stored runs as scored responses, under any protocol.

What tables, comparisons and exports are made of. Reads records and asks their task what they are worth; needs no
data, no GPU and no torch.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from vamba_eval import registry
from vamba_eval.contracts import (
    LETTERS,
    CutOff,
    Mean,
    Measure,
    Question,
    Score,
    ScoredRecord,
    Summary,
    Task,
    UserError,
    Verdict,
    first_line,
)
from vamba_eval.plain import did_you_mean
from vamba_eval.score.statistics import over_seeds, summarize
from vamba_eval.store.judgements import Judgements, read_judgements
from vamba_eval.store.records import Record
from vamba_eval.store.runs import find_runs, latest_records, read_info

log = logging.getLogger(__name__)

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

    def as_protocol_asks(self) -> ScoredRun:
        """Without the responses to other orders of options and other wordings."""
        kept = [record for record in self.records if not (record.rotation or record.variant)]
        scored = [each for each in self.scored if not (each.rotation or each.variant)]
        others = ("rotate_options", "prompt_variants")
        fingerprint = {name: value for name, value in self.fingerprint.items() if name not in others}
        counts = {name: value for name, value in self.info["counts"][self.task_name].items() if name != "trials"}
        info = {**self.info, "tasks": {self.task_name: fingerprint}, "counts": {self.task_name: counts}}
        return replace(self, info=info, records=kept, scored=scored)

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
        """The headline that guessing is expected to reach; None where that is not defined.

        What a guess earns is what the protocol makes of each that can be made (``_guesses``): some never read an E, and
        an impossible question has no right one. Exact where the headline is a mean; of another measure, the mean over
        many drawn guesses.
        """
        possible = [(each, self._guesses(each.question)) for each in self.scored]
        if not possible or not all(scores for _, scores in possible):
            return None
        return expected_of_guesses(next(iter(self.task.measures.values())), possible)

    def _guesses(self, question: Question) -> list[Score]:
        """What each guess at a question is worth, none where it cannot be guessed at.

        A question with options is guessed at by their letters. Where the answer is a word, as "yes" is, and not the
        letter of an option, the guesses are the words it is one of, if the task tells by them what is right: the
        options, or, without any, yes and no.
        """
        answer = question.answer
        if answer is None or self.task.needs_judge(question):
            return []

        def scores(guesses: Sequence[str]) -> list[Score]:
            return [self.task.score(question, guess, self.protocol) for guess in guesses]

        by_letter = scores(LETTERS[: len(question.options)])
        if answer in ("", *LETTERS[: len(question.options)]) or _told_apart(by_letter):
            return by_letter
        by_word = scores(_words(question, answer))
        return by_word if _told_apart(by_word) else by_letter


def _words(question: Question, answer: str) -> Sequence[str]:
    """The words that ``answer`` is one of, written as it is."""
    if question.options:
        words = [answer if option.lower() == answer.lower() else option for option in question.options]
        return words if answer in words else ()
    other = {"yes": "no", "no": "yes"}.get(answer.lower())
    if other is None:
        return ()
    return answer, next((form(other) for form in (str.lower, str.upper) if answer == form(answer)), other.title())


def _told_apart(scores: Sequence[Score]) -> bool:
    return any(score.values != scores[0].values for score in scores)


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


@dataclass
class Scored:
    """Runs that were scored, and a line for each that could not be."""

    runs: list[ScoredRun] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    without_task: list[tuple[Path, str]] = field(default_factory=list)  # (run's folder, task)

    def leave_out(self, what: str, error: Exception) -> None:
        """Note that ``what`` cannot be shown; "" where the error says what."""
        log.debug("%s", what, exc_info=error)
        reason = first_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
        self.left_out.append(f"{what}: {reason}" if what else reason)

    def warn(self, already: int = 0) -> None:
        """Say what is left out, but for the first ``already``. Raises UserError where nothing else is there."""
        if self.left_out and not self.runs:
            raise UserError("\n".join(self.left_out))
        log_left_out(self.left_out[already:])


def log_left_out(lines: Sequence[str]) -> None:
    for line in lines:
        log.warning("left out: %s", line)


def scored_runs(paths: Iterable[str | Path], protocol: str | None = None, judge: str | None = None) -> list[ScoredRun]:
    """As ``score_runs``, without the lines about what is left out (they are logged as warnings)."""
    return score_runs(paths, protocol, judge).runs


def score_runs(
    paths: Iterable[str | Path],
    protocol: str | None = None,
    judge: str | None = None,
    tasks: Mapping[str, Task] | None = None,
    *,
    partly: bool = False,
) -> Scored:
    """Every task and model of all runs at or below ``paths``, scored under ``protocol``.

    ``judge`` says whose grades count where several language models graded.
    By default the protocol that each was run with; ``all``: once under each that its task has, its own first.
    ``tasks`` are those at hand, by their source as runs have it: they are not imported again.
    Responses to a task that fails to score one, or that cannot be imported, are left out, with a warning; and so are
    runs whose files cannot be read.
    Raises UserError where there is no run, for a protocol that a task does not have, and, unless ``partly``, where
    nothing is left, or where there is but one run and a task of it cannot be imported (with none at hand).
    """
    found = Scored()
    tasks = tasks or {}
    folders = find_runs([Path(path) for path in paths])
    for folder in folders:
        try:
            info = read_info(folder)
        except UserError as error:  # it names the folder
            found.leave_out("", error)
            continue
        for task_name, fingerprint in info["tasks"].items():
            try:
                source, own = fingerprint["source"], fingerprint["protocol"]
                task = tasks[source] if source in tasks else task_of_run(source, task_name, folder)
            except Exception as error:  # the module may be somebody's own
                found.leave_out(f"{folder}, {task_name}", error)
                found.without_task.append((folder, task_name))
                if len(folders) == 1 and not tasks and not partly:
                    raise UserError(found.left_out[-1]) from error
                continue
            if protocol is None and own not in task.protocols:
                found.leave_out(f"{folder}, {task_name}", UserError(f"{task.name} has no protocol {own!r}"))
                continue
            for model in info["models"]:
                path = folder / f"{task_name}.{model}.jsonl"
                if not path.exists():
                    continue
                try:
                    records = latest_records(path)
                    _check_environments(records, info, path)
                    judgements = read_judgements(path, judge)
                except Exception as error:  # whatever is in the files
                    found.leave_out(f"{folder}, {task_name}, {model}", error)
                    continue
                for used in _protocols(task, own, protocol):
                    scored: list[ScoredRecord] = []
                    answered = [record for record in records if record.answered]
                    try:
                        scored.extend(scored_record(task, record, used, judgements) for record in answered)
                    except Exception as error:  # the task's own, as above
                        at = f"question {answered[len(scored)].question!r} cannot be scored (protocol {used})"
                        found.leave_out(f"{folder}, {task_name}, {model}: {at}", error)
                        continue
                    run = ScoredRun(folder, info, task, task_name, model, used, records, scored, judgements)
                    found.runs.append(run)
    if found.runs or not partly:
        found.warn()
    return found


def _check_environments(records: Iterable[Record], info: Mapping[str, Any], path: Path) -> None:
    """Raise UserError for records of an environment that run.json does not have."""
    numbers = {record.environment for record in records}
    if unknown := sorted(numbers - set(range(len(info["environments"])))):
        raise UserError(f"{path} has records of environment {unknown[0]}, which its run.json does not have")


def scored_record(task: Task, record: Record, protocol: str, judgements: Judgements | None = None) -> ScoredRecord:
    """A record that has a response, with what ``task`` says of it (or of a judge's opinion of it)."""
    question, response = record.asked(), record.response or ""
    if record.finish_reason == "length":
        response = CutOff(response)
    if not task.needs_judge(question):
        score = task.score(question, response, protocol)
    elif judgements is not None and (judgement := judgements.of(task, record)) is not None:
        score = task.grade(question, judgement)
    else:
        score = Score()
    if not isinstance(score, Score):
        raise TypeError(f"{type(task).__name__} gives {type(score).__name__} for a response, not a Score")
    about = (question.id, record.counted_as, question.groups, score, record.seed, question, response)
    return ScoredRecord(*about, rotation=record.rotation, variant=record.variant)


def verdict_of(measures: Mapping[str, Measure], values: Mapping[str, float]) -> Verdict | None:
    """What ``values`` say: "right" where all are the best possible, "wrong" where none is above the worst, else
    "partial"; None without any."""
    if not values:
        return None
    bounds = _bounds(measures)
    ends = [(value, *bounds.get(name, (1.0, 0.0))) for name, value in values.items()]
    if all(value == best or (value > best) == (best > worst) for value, best, worst in ends):
        return "right"
    if all(value == worst or (value < worst) == (best > worst) for value, best, worst in ends):
        return "wrong"
    return "partial"


def credit_of(measures: Mapping[str, Measure], values: Mapping[str, float]) -> float | None:
    """How good ``values`` are, from 0 (the worst possible) to 1 (the best); None without any.

    The headline's value where the headline is a mean of one that is there, else the mean over all values. Of a value
    that may be bad without bound, only the best is worth anything.
    """
    if not values:
        return None
    bounds, headline = _bounds(measures), next(iter(measures.values()))
    names = [headline.value] if isinstance(headline, Mean) and headline.value in values else list(values)
    credits = []
    for name in names:
        best, worst = bounds.get(name, (1.0, 0.0))
        share = (values[name] - worst) / (best - worst) if math.isfinite(best - worst) else float(values[name] == best)
        credits.append(min(1.0, max(0.0, share)))
    return fmean(credits)


def is_right(measures: Mapping[str, Measure], responses: Sequence[Mapping[str, float]]) -> bool | None:
    """Whether a question counts as answered, by the values of its responses (several seeds, say): where their credit
    is above one half on average. None where no response has values."""
    credits = [credit for values in responses if (credit := credit_of(measures, values)) is not None]
    return fmean(credits) > 0.5 if credits else None


def _bounds(measures: Mapping[str, Measure]) -> dict[str, tuple[float, float]]:
    """The best and the worst possible of each value that a measure is the mean of."""
    return {each.value: (each.best, each.worst) for each in measures.values() if isinstance(each, Mean)}


def check_one_protocol(protocol: str | None, verb: str) -> None:
    """Raise UserError where ``protocol`` names them all, and ``verb`` has room for one."""
    if protocol == ALL_PROTOCOLS:
        raise UserError(f"{verb} reads responses by one protocol's rules: name it, or use rescore --protocol all")


def _protocols(task: Task, own: str, asked: str | None) -> list[str]:
    if asked == ALL_PROTOCOLS:
        return list(dict.fromkeys([own, *task.protocols]))
    used = asked or own
    if used not in task.protocols:
        near = did_you_mean(used, task.protocols)
        raise UserError(f"{task.name} has no protocol {used!r}{near}; it has {', '.join(task.protocols)}")
    return [used]


def task_of_run(source: str, name: str, folder: Path) -> Task:
    """The task that the run in ``folder`` was made with. Raises UserError, saying what would help."""
    if "<locals>" in source:
        raise UserError(
            f"{folder} was made with the task {source}, a class inside a function, which nobody else can import: "
            "evaluate() with the same arguments returns its table, and asks nothing again; for tables by other "
            f"means, move the class to the top level of a module, and name that: --task-code MODULE:CLASS"
        )
    return registry.recorded_task(source, name)

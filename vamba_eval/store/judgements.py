"""What judges said of the responses in a record file: ``<task>.<model>.judged.jsonl`` beside it, a line a response.

Several judges may have graded; a score without its judge is worth nothing, so tables use one of them and name it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vamba_eval.contracts import Task, Trial
from vamba_eval.store.records import Record
from vamba_eval.store.runs import read_lines

_Identity = tuple[str, Trial]  # which response of a file it is: to which question, and the how manieth


@dataclass(frozen=True, order=True)
class Judge:
    """Which model graded, and where it was asked; ``url`` has no credentials."""

    model: str
    url: str

    def __str__(self) -> str:
        return f"{self.model} at {self.url}"


@dataclass
class Judgements:
    """What is known of the responses in one record file.

    ``judge`` is the one whose judgements these are, None where there are none or those of several to choose from
    (``note`` then names them). ``failures`` are reasons of responses that could not be judged.
    """

    judge: Judge | None = None
    note: str = ""
    failures: list[str] = field(default_factory=list)
    _known: dict[_Identity, dict[str, Any]] = field(default_factory=dict)

    def of(self, task: Task, record: Record) -> Mapping[str, Any] | None:
        """The judgement of a record's response, None where it has none, or where what was judged has changed."""
        line = self._known.get((record.question, record.trial))
        return line["judgement"] if line is not None and line["digest"] == digest(task, record) else None

    def explain(self, unjudged: int, folder: Path) -> str:
        """Why so many responses have no judgement, and what to do about it."""
        if not unjudged:
            return ""
        if self.note:
            return self.note
        model = self.judge.model if self.judge else "M"
        reasons = f" ({len(self.failures):,} failed; first reason: {self.failures[0]})" if self.failures else ""
        return f"{unjudged:,} responses{reasons}: run_eval.py judge {folder} --judge-model {model}"


def read_judgements(records: Path, judge: str | None = None) -> Judgements:
    """The judgements about the record file ``records`` by ``judge`` (MODEL or MODEL@URL), by default the only one."""
    by_judge: dict[Judge, dict[_Identity, dict[str, Any]]] = {}
    failures: dict[Judge, dict[_Identity, str]] = {}
    for line in read_lines(judged_path(records)):
        if not _is_judgement(line):
            continue
        who = Judge(**line["judge"])
        known, failed = by_judge.setdefault(who, {}), failures.setdefault(who, {})
        key = (line["question"], Trial(line["seed"], line.get("rotation", 0), line.get("variant", 0)))
        if line["error"] is None:
            known[key] = line
            failed.pop(key, None)
        elif key not in known or known[key]["digest"] != line["digest"]:
            failed[key] = line["error"]
    if judge is not None:
        named = [who for who in sorted(by_judge) if judge in (who.model, f"{who.model}@{who.url}")]
    else:  # one that could judge nothing is no choice beside one that could
        named = sorted(who for who, known in by_judge.items() if known) or sorted(by_judge)
    if not named:
        others = ", ".join(map(str, sorted(by_judge)))
        return Judgements(note=f"{judge} has judged nothing here, but {others} has" if others else "")
    if len(named) > 1:
        return Judgements(note=f"judged by {' and by '.join(map(str, named))}: name one with --judge MODEL[@URL]")
    who = named[0]
    return Judgements(who, "", list(failures[who].values()), by_judge[who])


def _is_judgement(line: Mapping[str, Any]) -> bool:
    """Whether a line of the file is what a judge's is; what the judgement says is for the task to read."""
    judge = line.get("judge")
    texts = [line.get("question"), line.get("digest"), *(judge.values() if isinstance(judge, dict) else [None])]
    numbers = [line.get("seed"), *(line.get(name, 0) for name in Trial._fields)]
    return (
        {"judgement", "error"}.issubset(line)
        and isinstance(judge, dict)
        and judge.keys() == {"model", "url"}
        and all(isinstance(each, str) for each in texts)
        and all(isinstance(each, int) for each in numbers)
        and isinstance(line["error"], str | None)
    )


def judged_path(records: Path) -> Path:
    """The file of judgements about the record file ``records``."""
    return records.with_name(f"{records.name.removesuffix('.jsonl')}.judged.jsonl")


def digest(task: Task, record: Record) -> str:
    """Of all that a judgement is about: it holds as long as none of that changes."""
    about = [task.version, record.text, record.answer, record.extra or None, record.response]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]

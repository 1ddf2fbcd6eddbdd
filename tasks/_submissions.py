"""Stored records for the files of answers that benchmarks' authors evaluate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vamba_eval.contracts import Question, Score, Task


def first_scores(
    task: Task, records: Iterable[Mapping[str, Any]], protocol: str
) -> dict[str, tuple[Mapping[str, Any], Score]]:
    """Each question's first response, with its score, by the question's id: such files know no seeds."""
    scores: dict[str, tuple[Mapping[str, Any], Score]] = {}
    for record in records:
        id, response = record["question"], record["response"]
        if response is not None and id not in scores:
            question = Question(id, "", tuple(record["options"]), record["answer"], record["groups"])
            scores[id] = record, task.score(question, response, protocol)
    return scores

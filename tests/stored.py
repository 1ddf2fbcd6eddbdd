"""The lines of a run's record files as they stand on disk, and lines as scored responses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vamba_eval import Task
from vamba_eval.contracts import ScoredRecord
from vamba_eval.score.scored import scored_record
from vamba_eval.store.records import Record


def latest_responses(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """By question and seed: the response if there ever was one, else the last failure."""
    latest: dict[tuple[str, int], dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        record = json.loads(line)
        if not isinstance(record, dict) or "response" not in record:
            continue  # somebody else's
        key = (record["question"], record["seed"])
        if key not in latest or latest[key]["error"] is not None:
            latest[key] = record
    return latest


def latest_records(path: Path, seed: int = 0) -> dict[str, dict[str, Any]]:
    """As ``latest_responses``, of one seed: by question."""
    return {question: record for (question, s), record in latest_responses(path).items() if s == seed}


def scored_lines(task: Task, lines: Iterable[Mapping[str, Any]], protocol: str = "vamba") -> list[ScoredRecord]:
    """Lines as the task scores them; what a test has no use for may be missing."""
    others = {"video": "v", "groups": {}, "error": None, "environment": 0}
    records = [Record.from_json({**others, **line}) for line in lines]
    return [scored_record(task, record, protocol) for record in records if record is not None]

"""Rows of the tables that runs have beside their records: what there is to show where a task's code is not run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vamba_eval.contracts import Metric, Summary, UserError
from vamba_eval.files import read_of_others
from vamba_eval.plain import json_value
from vamba_eval.tables.result import Result

TABLE = "leaderboard.json"


def stored_results(runs: Iterable[tuple[Path, str]]) -> list[Result]:
    """Results of (a run's folder, a task) as the run's own table has them, each marked as not scored here."""
    return [result for folder, task in runs for result in _results(folder, task)]


def _results(folder: Path, task: str) -> list[Result]:
    for place in (folder, folder.parent):  # the runs of a ladder have one table above them
        try:
            rows = json_value(read_of_others(place / TABLE).decode())
            own = [row for row in rows if row["task"] == task and row["run"] == folder.name]
            found = [_result(row, place) for row in own if row["score"] is not None]
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, UserError):
            continue  # none, or none of ours
        if found:
            return found
    return []


def _result(row: dict[str, Any], place: Path) -> Result:
    low, high = (None if row[name] is None else float(row[name]) for name in ("ci95_low", "ci95_high"))
    frames, seeds = row["num_frames"], int(row["seeds"])
    answered, failed, left = (int(row[name]) for name in ("answered", "failed", "not_asked"))
    counts = (answered, int(row["videos"]))
    metric = Metric(float(row["score"]), low, high, *counts, best=float(row["best"]), unit=str(row["unit"]))
    return Result(
        str(row["run"]),
        str(row["model"]),
        str(row["task"]),
        str(row["task"]),
        str(row["protocol"]),
        frames if isinstance(frames, int) else None,
        summary=Summary({str(row["metric"]): metric}, {}),
        questions=int(row["questions"]),
        seeds=seeds,
        trials=(answered + failed + left) // seeds,
        answered=answered,
        failed=failed,
        unjudged=int(row["not_judged"]),
        videos=int(row["videos"]),
        judge=str(row["judge"]),
        source=f"stored in {place / TABLE}, not scored here",
        stored=True,
    )

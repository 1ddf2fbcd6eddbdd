"""The tables in results/published/, as rows beside measured ones: the Vamba paper's, and what others report."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from vamba_eval import registry
from vamba_eval.contracts import Metric, Summary, Task
from vamba_eval.tables.result import Result

# A row a score, of many sources; the other tables have a row a model and a column a benchmark.
REPORTED = "reported.csv"
UNKNOWN = "unknown"  # what its source does not state


def published_folder() -> Path:
    """Where the papers' tables are: at the top of a checkout, in the package where that is installed."""
    package = Path(__file__).resolve().parents[1]
    return next(place for place in (package.parent / "results" / "published", package / "published") if place.is_dir())


def published_rows(name: str) -> list[dict[str, str]]:
    """The rows of a table in results/published/."""
    with (published_folder() / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def published_results(tasks: set[str]) -> list[Result]:
    """The tables in results/published/, for ``tasks`` (all that are known, if empty).

    Of ``reported.csv`` these are the rows of a benchmark's headline on the split that is loaded by default: what is
    reported of another split or another measure is not comparable.
    """
    known = {name: registry.load_task(name) for name in registry.names(Task)}
    asked = {name: task for name, task in known.items() if not tasks or name in tasks}
    columns = {task.catalogue.reported_as: task for task in asked.values() if task.catalogue.reported_as}
    results = []
    for file in sorted(published_folder().glob("*.csv")):
        if file.name == REPORTED:
            continue
        for row in published_rows(file.name):
            results += [_result(row, task, row[column]) for column, task in columns.items() if row.get(column)]
    for row in published_rows(REPORTED):
        task = asked.get(row["task"])
        if task and (row["split"], row["measure"]) == (task.splits[0], next(iter(task.measures))):
            results.append(_result(row, task, row["score"]))
    return results


def _result(row: Mapping[str, str], task: Task, score: str) -> Result:
    headline, measure = next(iter(task.measures.items()))
    value = float(score) / 100 if measure.unit == "%" else float(score)
    frames, protocol = (("" if row.get(what) == UNKNOWN else row.get(what, "")) for what in ("frames", "protocol"))
    return Result(
        "",
        f"{row['model']} {row['size']}".strip(),
        task.name,
        task.catalogue.title,
        protocol=protocol,
        num_frames=int(frames) if frames.isdecimal() else frames or None,
        summary=Summary({headline: Metric(value, None, None, 0, 0, best=measure.best, unit=measure.unit)}, {}),
        source=row["source"],
    )

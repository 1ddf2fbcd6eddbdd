"""The papers' tables in results/published/, as rows beside measured ones."""

from __future__ import annotations

import csv
from pathlib import Path

from vamba_eval import registry
from vamba_eval.contracts import Metric, Summary, Task
from vamba_eval.tables.result import Result


def published_folder() -> Path:
    """Where the papers' tables are: at the top of a checkout, in the package where that is installed."""
    package = Path(__file__).resolve().parents[1]
    return next(place for place in (package.parent / "results" / "published", package / "published") if place.is_dir())


def published_results(tasks: set[str]) -> list[Result]:
    """The tables in results/published/, for ``tasks`` (all that are known, if empty)."""
    known = {name: registry.load_task(name) for name in registry.names(Task)}
    columns = {task.catalogue.reported_as: task for task in known.values() if task.catalogue.reported_as}
    results = []
    for file in sorted(published_folder().glob("*.csv")):
        for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
            for column, task in columns.items():
                if row.get(column) and (not tasks or task.name in tasks):
                    headline = next(iter(task.measures))
                    metric = Metric(float(row[column]) / 100, None, None, 0, 0)
                    model = f"{row['model']} {row['size']}".strip()
                    summary = Summary({headline: metric}, {})
                    about = (model, task.name, task.catalogue.title)
                    results.append(Result("", *about, summary=summary, source=row["source"]))
    return results

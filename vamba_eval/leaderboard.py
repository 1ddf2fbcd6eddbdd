"""Runs to tables: accuracy beside what it cost, in CSV and Markdown.

Scores are computed from the stored responses whenever a table is made, so a run can be scored under
another protocol on any machine. Imports no torch, and pandas only where a DataFrame is asked for, since
importing it takes longer than all the rest.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from vamba_eval import registry
from vamba_eval.contracts import Metric, Question, ScoredRecord, Summary, Task, UserError
from vamba_eval.store import find_runs, latest_records, read_info

if TYPE_CHECKING:
    import pandas as pd

_GIB = 1 << 30


@dataclass
class Result:
    """One model on one task in one run, or a reported row (then ``source`` names the publication).

    ``load_s`` and ``encode_s`` hold one value a video, ``generate_s`` one a question, all in seconds.
    """

    run: str
    model: str
    task: str
    title: str
    protocol: str = ""
    num_frames: int | str | None = None
    summary: Summary = field(default_factory=lambda: Summary({}, {}))
    chance: float | None = None
    questions: int = 0
    answered: int = 0
    failed: int = 0
    unparsed: int = 0
    drawn: int = 0
    videos: int = 0
    load_s: list[float] = field(default_factory=list)
    encode_s: list[float] = field(default_factory=list)
    generate_s: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    peak_kind: str = ""
    hardware: str = ""
    random_weights: bool = False
    failures: list[str] = field(default_factory=list)
    source: str = ""
    environments: int = 1

    @property
    def complete(self) -> bool:
        return self.answered == self.questions

    def row(self) -> dict[str, Any]:
        """The CSV row, at full precision; accuracies in [0, 1]."""
        name, headline = self.summary.headline if self.summary.metrics else ("", None)
        plain = self.summary.metrics.get("accuracy")
        return {
            "run": self.run,
            "model": self.model,
            "task": self.task,
            "num_frames": self.num_frames,
            "protocol": self.protocol,
            "metric": name,
            "score": headline and headline.value,
            "ci95_low": headline and headline.low,
            "ci95_high": headline and headline.high,
            "accuracy": plain and plain.value,
            "chance": self.chance,
            "questions": self.questions,
            "answered": self.answered,
            "failed": self.failed,
            "not_asked": self.questions - self.answered - self.failed,
            "coverage": self.answered / self.questions if self.questions else None,
            "unparsed": self.unparsed,
            "drawn": self.drawn,
            "videos": self.videos,
            "load_s_per_video": _median(self.load_s),
            "encode_s_per_video": _median(self.encode_s),
            "generate_s_per_question": _median(self.generate_s),
            "peak_memory_bytes": self.peak_bytes,
            "peak_memory_kind": self.peak_kind,
            "hardware": self.hardware,
            "reported": bool(self.source),
            "source": self.source,
        }


class Leaderboard:
    """The results of runs, and reported ones on request."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = list(results)

    @classmethod
    def from_runs(
        cls, paths: Iterable[str | Path], *, protocol: str | None = None, published: bool = False
    ) -> Leaderboard:
        """All runs at or below ``paths``, scored under ``protocol`` (default: the one each was run with).

        ``published`` adds the paper's rows for the tasks that the runs have (for all tasks, without runs).
        Raises UserError where there is no run.
        """
        folders = find_runs([Path(path) for path in paths])
        results = [result for folder in folders for result in _results(folder, protocol)]
        if published:
            results += _published({result.task for result in results})
        return cls(results)

    @property
    def num_failed(self) -> int:
        """Questions that were asked and have no response."""
        return sum(result.failed for result in self.results)

    @property
    def table(self) -> pd.DataFrame:
        """One row a run, model, task and frame count; see ``Result.row`` for the columns."""
        import pandas as pd

        return pd.DataFrame([result.row() for result in self.results])

    @property
    def breakdowns(self) -> pd.DataFrame:
        """One row a metric and a group's value, of each run, model and task."""
        import pandas as pd

        return pd.DataFrame(self._breakdown_rows())

    def _breakdown_rows(self) -> list[dict[str, Any]]:
        rows = []
        for result in self.results:
            identity = {"run": result.run, "model": result.model, "task": result.task, "num_frames": result.num_frames}
            for name, metric in result.summary.metrics.items():
                rows.append({**identity, "group": "all", "value": name, **_metric_fields(metric)})
            for group, members in result.summary.breakdowns.items():
                for value, metric in sorted(members.items()):
                    rows.append({**identity, "group": group, "value": value, **_metric_fields(metric)})
        return rows

    def to_csv(self, path: str | Path) -> None:
        """Write the rows of ``table``, floats at full precision."""
        _write_csv(path, [result.row() for result in self.results])

    def to_markdown(self) -> str:
        """The headline table, one row a model, its notes, and the breakdowns of each task."""
        notes = "\n".join(f"- {note}" for note in self.notes())
        parts = ["# Leaderboard", self.headline_markdown(), notes]
        for task in _unique(result.task for result in self.results):
            own = [result for result in self.results if result.task == task and result.summary.breakdowns]
            if own:
                parts += [f"## {own[0].title}", _breakdown_markdown(own)]
        return "\n\n".join(parts) + "\n"

    def headline_markdown(self) -> str:
        """The headline table alone: one row a model (and run and frame count), one column a task.

        What is reported of a model is one row too, from whichever tables of a publication.
        """
        tasks = {result.task: result.title for result in self.results}
        runs = {result.run for result in self.results if not result.source}
        rows = []
        keys = _unique((bool(r.source), r.run, r.model, r.num_frames) for r in self.results)
        for key in keys:
            own = [r for r in self.results if (bool(r.source), r.run, r.model, r.num_frames) == key]
            reported, run, model, frames = key
            row: dict[str, Any] = {"Model": f"{model} (reported)" if reported else model}
            if len(runs) > 1:
                row["Run"] = run
            row["Frames"] = frames if frames is not None else "-"
            for task, title in tasks.items():
                row[title] = next((_cell(r) for r in own if r.task == task), "-")
            row |= _cost_cells(own)
            rows.append(row)
        if not rows:
            return "No results."
        return _markdown(rows)

    def notes(self) -> list[str]:
        """What a reader must know before comparing the numbers."""
        notes = ["Accuracies in %, with 95 % intervals clustered by video; seconds are medians."]
        for r in self.results:
            where = f"{r.model} on {r.title}" + (f" ({r.num_frames} frames)" if r.num_frames else "")
            if r.source:
                continue
            if not r.complete:
                missing = r.questions - r.answered - r.failed
                reasons = f"; first reason: {r.failures[0]}" if r.failures else ""
                notes.append(
                    f"PARTIAL: {where} covers {r.answered:,} of {r.questions:,} questions "
                    f"({r.failed:,} failed, {missing:,} not asked){reasons}"
                )
            if r.drawn:
                notes.append(f"{where}: {r.drawn:,} responses held no option; the protocol drew one at random (seeded)")
            if r.random_weights:
                notes.append(f"{where}: random weights, not a trained model; its answers mean nothing")
            if r.chance is not None and r.summary.metrics:
                name, metric = r.summary.headline
                if metric.low is not None and metric.high is not None and metric.low <= r.chance <= metric.high:
                    notes.append(f"AT CHANCE: {where}: {name} does not differ from guessing ({100 * r.chance:.1f} %)")
            if r.environments > 1:
                notes.append(f"{where}: made in {r.environments} environments (package versions or hardware)")
        hardware = _unique(r.hardware for r in self.results if r.hardware)
        if len(hardware) > 1:
            notes.append(f"seconds and memory come from unlike hardware: {'; '.join(hardware)}")
        return notes

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``leaderboard.csv``, ``leaderboard.md`` and ``breakdowns.csv``; their paths."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / name for name in ("leaderboard.md", "leaderboard.csv", "breakdowns.csv")]
        paths[0].write_text(self.to_markdown(), encoding="utf-8")
        self.to_csv(paths[1])
        _write_csv(paths[2], self._breakdown_rows())
        return paths


# --------------------------------------------------------------------------------------------- from runs


def _results(folder: Path, protocol: str | None) -> list[Result]:
    info = read_info(folder)
    results = []
    for task_name, fingerprint in info["tasks"].items():
        task = _task(fingerprint["source"], folder)
        used = protocol or fingerprint["protocol"]
        if used not in task.protocols:
            raise UserError(f"{task.name} has no protocol {used!r}; it has {', '.join(task.protocols)}")
        for model, identity in info["models"].items():
            path = folder / f"{task_name}.{model}.jsonl"
            if path.exists():
                records = list(latest_records(path).values())
                results.append(_result(folder, info, task, task_name, fingerprint, model, identity, used, records))
    return results


def _task(source: str, folder: Path) -> Task:
    if ":" in source and not source.partition(":")[0].endswith(".py"):
        module, _, name = source.partition(":")
        import importlib

        try:
            return getattr(importlib.import_module(module), name)()
        except (ImportError, AttributeError) as error:
            raise UserError(f"{folder} was made with the task {source}, which cannot be imported: {error}") from error
    return registry.load_task(source)


def _result(
    folder: Path,
    info: dict[str, Any],
    task: Task,
    task_name: str,
    fingerprint: dict[str, Any],
    model: str,
    identity: dict[str, Any],
    protocol: str,
    records: list[dict[str, Any]],
) -> Result:
    answered = [record for record in records if record["error"] is None]
    scored = []
    for record in answered:
        question = Question(
            record["question"], "", tuple(record["options"]), record["answer"], _frozen(record["groups"])
        )
        score = task.score(question, record["response"], protocol)
        scored.append(ScoredRecord(question.id, record["video"], question.groups, score))
    sampling = fingerprint["sampling"]
    reads = identity.get("reads_video", True)
    by_video = {record["video"]: record for record in answered}
    counts = info["counts"][task_name]
    used = sorted({record["environment"] for record in records})
    last = info["environments"][used[-1]] if used else {"hardware": {}}
    peaks = [record["peak_bytes"] for record in answered if record.get("peak_bytes") is not None]
    options = [len(record["options"]) for record in answered if record["options"]]
    return Result(
        run=folder.name,
        model=model,
        task=task_name,
        title=task.title,
        protocol=protocol,
        num_frames=sampling.get("num_frames", sampling["strategy"]) if reads else None,
        summary=task.summarize(scored),
        chance=sum(1 / n for n in options) / len(options) if options else None,
        questions=counts["questions"],
        answered=len(answered),
        failed=len(records) - len(answered),
        unparsed=sum(not record.score.parsed for record in scored),
        drawn=sum(record.score.drawn for record in scored),
        videos=counts["videos"],
        load_s=[record["load_s"] for record in by_video.values()] if reads else [],
        encode_s=[record["encode_s"] for record in by_video.values()] if reads else [],
        generate_s=[record["generate_s"] for record in answered],
        peak_bytes=max(peaks, default=None),
        peak_kind=answered[0].get("peak_kind", "") if answered else "",
        hardware=_hardware(last["hardware"]),
        random_weights=identity.get("weights") == "random",
        failures=_unique(record["error"] for record in records if record["error"] is not None),
        environments=max(1, len(used)),
    )


def _frozen(groups: dict[str, Any]) -> dict[str, str | tuple[str, ...]]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in groups.items()}


def _hardware(hardware: dict[str, Any]) -> str:
    gpus = hardware.get("gpus")
    return f"{len(gpus)} x {gpus[0]}" if gpus else str(hardware.get("cpu", ""))


# ------------------------------------------------------------------------------------------ reported rows


def _published(tasks: set[str]) -> list[Result]:
    """The tables in results/published/, for ``tasks`` (all that are known, if empty)."""
    known = {name: registry.load_task(name) for name in registry.names(Task)}
    columns = {task.reported_as: task for task in known.values() if task.reported_as}
    results = []
    here = Path(__file__).resolve().parent
    folder = next(place for place in (here.parent / "results" / "published", here / "published") if place.is_dir())
    for file in sorted(folder.glob("*.csv")):
        for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
            for column, task in columns.items():
                if row.get(column) and (not tasks or task.name in tasks):
                    metric = Metric(float(row[column]) / 100, None, None, 0, 0)
                    model = f"{row['model']} {row['size']}".strip()
                    summary = Summary({task.reported_metric: metric}, {})
                    results.append(Result("", model, task.name, task.title, summary=summary, source=row["source"]))
    return results


# ---------------------------------------------------------------------------------------------- the cells


def _cell(result: Result) -> str:
    if not result.summary.metrics:
        return "answers withheld" if result.answered else "-"
    _, metric = result.summary.headline
    text = f"{100 * metric.value:.1f}"
    if metric.low is not None and metric.high is not None:
        text += f" [{100 * metric.low:.1f}, {100 * metric.high:.1f}]"
    if not result.complete and not result.source:
        text += f" of {result.answered:,}/{result.questions:,}"
    return text


def _cost_cells(results: Sequence[Result]) -> dict[str, Any]:
    def seconds(values: Iterable[float]) -> str:
        typical = _median(list(values))
        return "-" if typical is None else f"{typical:.3g}"

    if results[0].source:
        return {}
    peaks = [result.peak_bytes for result in results if result.peak_bytes is not None]
    return {
        "Unparsed": f"{sum(result.unparsed for result in results):,}",
        "Failed": f"{sum(result.failed for result in results):,}",
        "Load s/video": seconds(value for result in results for value in result.load_s),
        "Encode s/video": seconds(value for result in results for value in result.encode_s),
        "Generate s/question": seconds(value for result in results for value in result.generate_s),
        "Peak GiB": f"{max(peaks) / _GIB:.2f} ({results[0].peak_kind})" if peaks else "-",
    }


def _breakdown_markdown(results: Sequence[Result]) -> str:
    several = len({(r.model, r.num_frames) for r in results}) < len(results)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for result in results:
        column = result.model + (f" @{result.num_frames}" if result.num_frames else "")
        column += f" ({result.run})" if several else ""
        entries = [("all", name, metric) for name, metric in result.summary.metrics.items()]
        for group, members in result.summary.breakdowns.items():
            entries += [(group, value, metric) for value, metric in members.items()]
        for group, value, metric in entries:
            row = rows.setdefault((group, value), {"Group": group, "Value": value, "Questions": 0})
            row["Questions"] = max(row["Questions"], metric.num_questions)
            row[column] = f"{100 * metric.value:.1f}"
    order = _unique(group for group, _ in rows)
    table = sorted(rows.values(), key=lambda row: (order.index(row["Group"]), row["Group"] != "all" and row["Value"]))
    return _markdown(table)


def _markdown(rows: Sequence[dict[str, Any]]) -> str:
    from tabulate import tabulate

    columns = _unique(column for row in rows for column in row)
    cells = [[row.get(column, "-") for column in columns] for row in rows]
    return tabulate(cells, headers=columns, tablefmt="pipe", disable_numparse=True)


def _write_csv(path: str | Path, rows: Sequence[dict[str, Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _unique(column for row in rows for column in row))
        writer.writeheader()
        writer.writerows(rows)


def _metric_fields(metric: Metric) -> dict[str, Any]:
    return {
        "score": metric.value,
        "ci95_low": metric.low,
        "ci95_high": metric.high,
        "questions": metric.num_questions,
        "videos": metric.num_videos,
    }


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))

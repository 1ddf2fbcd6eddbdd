"""Runs to tables: accuracy beside what it cost, in CSV and Markdown.

Scores are computed from the stored responses whenever a table is made, so a run can be scored under
another protocol on any machine. Imports no torch, and pandas only where a DataFrame is asked for, since
importing it takes longer than all the rest.
"""

from __future__ import annotations

import ast
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vamba_eval.contracts import Metric, Task, UserError
from vamba_eval.files import replace_text
from vamba_eval.plain import did_you_mean, json_text
from vamba_eval.score.scored import Scored, ScoredRun, log_left_out, score_runs
from vamba_eval.tables.board import Board, board_of, board_rows, cell_text, rank_text
from vamba_eval.tables.costs import Costs, Distribution
from vamba_eval.tables.frontier import frontier_of, marked_frontier
from vamba_eval.tables.ladders import charts
from vamba_eval.tables.notes import notes_of, row_key, row_names
from vamba_eval.tables.provenance import EXPLAINED, Provenance, provenance_markdown
from vamba_eval.tables.published import published_results
from vamba_eval.tables.ranks import ranks_of
from vamba_eval.tables.result import Result, results_of
from vamba_eval.tables.robustness import robustness_markdown
from vamba_eval.tables.stored import stored_results
from vamba_eval.tables.text import (
    markdown_list,
    markdown_table,
    plain_cell,
    shown,
    tabulated,
    unique,
    without_html,
    write_csv,
    write_rows,
)

if TYPE_CHECKING:
    import pandas as pd

_GIB = 1 << 30


class Leaderboard:
    """The results of runs, and reported ones on request.

    ``folder`` is where tables of theirs belong; ``left_out`` says, a line each, which runs could not be scored.
    """

    def __init__(
        self,
        results: Sequence[Result],
        folder: str | Path = ".",
        left_out: Sequence[str] = (),
        runs: Mapping[int, ScoredRun] | None = None,
    ) -> None:
        self.results = list(results)
        self.folder = Path(folder)
        self.left_out = list(left_out)
        self._sorted = False  # by a column that was asked for, instead of by rank
        self._runs = runs or {}  # by the id of their result: what averages over benchmarks are computed from

    @classmethod
    def from_runs(
        cls,
        paths: Iterable[str | Path],
        *,
        protocol: str | None = None,
        published: bool = False,
        judge: str | None = None,
        tasks: Mapping[str, Task] | None = None,
    ) -> Leaderboard:
        """All runs at or below ``paths``, scored under ``protocol`` (default: the one each was run with; ``all``:
        under each that its task has).

        ``judge`` (MODEL or MODEL@URL) says whose grades count where several language models graded.
        ``published`` adds the paper's rows for the tasks that the runs have (for all tasks, without runs).
        ``tasks`` are those at hand, by what runs call their source: they need not be imported.
        Of a task whose code is not at hand the run's own table is shown, where there is one. Raises UserError where
        there is no run, and where there is nothing to show.
        """
        scored = score_runs(paths, protocol, judge, tasks, partly=True)
        stored = [] if protocol or judge else stored_results(scored.without_task)
        if stored and not scored.runs:
            log_left_out(scored.left_out)
            board = cls(published_results({r.task for r in stored}) if published else [], left_out=scored.left_out)
        else:
            board, _ = cls.with_runs(scored, published=published)
        return cls([*board.results, *stored], left_out=board.left_out, runs=board._runs)

    @classmethod
    def with_runs(cls, scored: Scored, *, published: bool = False) -> tuple[Leaderboard, list[ScoredRun]]:
        """As ``from_runs``, of runs that are scored; and the run of each result that is not a reported one."""
        measured, shown = results_of(scored)
        ranks = ranks_of(
            shown.runs, [(r.provenance.served, r.judge, r.asked) if r.reads_video else None for r in measured]
        )
        results = [replace(result, rank=rank) for result, rank in zip(measured, ranks, strict=True)]
        runs = {id(result): run for result, run in zip(results, shown.runs, strict=True)}
        if published:
            # What is reported is of the split that is loaded by default, never of another or a part.
            whole = {run.task_name for run in shown.runs if run.title == run.task.catalogue.title}
            results += published_results(whole) if whole or not shown.runs else []
        several = len({result.title for result in results}) > 1
        return cls(results, left_out=shown.left_out, runs=runs if several else None), shown.runs

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
            identity["protocol"] = result.protocol
            for name, metric in result.summary.metrics.items():
                rows.append({**identity, "group": "all", "value": name, **_metric_fields(metric)})
            for group, members in result.summary.breakdowns.items():
                for value, metric in sorted(members.items()):
                    rows.append({**identity, "group": group, "value": value, **_metric_fields(metric)})
        return rows

    def select(self, *, where: str | None = None, sort: str | None = None) -> Leaderboard:
        """The results for which ``where`` holds, best first by the column ``sort``.

        ``where`` is a pandas query over the columns of ``table``, as ``num_frames >= 64 and model == "vamba"``. More is
        better of scores, less of everything else. Raises UserError for what is no query or no column, and for a
        percentage where the column holds fractions.
        """
        chosen = self.results
        if where is not None:
            try:
                kept = self.table.query(where, engine="python").index
            except Exception as error:  # pandas raises what its parser, its columns and Python itself raise
                raise UserError(
                    f"--where {where!r}: {error}; it is written as 'num_frames >= 64 and model == \"vamba\"'. Columns: "
                    f"{', '.join(self.table.columns)}"
                ) from error
            _check_fractions(where, chosen)
            chosen = [chosen[i] for i in kept]
        if sort is not None:
            columns = list(self.results[0].row()) if self.results else [sort]
            if sort not in columns:
                raise UserError(
                    f"--sort {sort!r} is not a column{did_you_mean(sort, columns)}; there are {', '.join(columns)}"
                )
            chosen = sorted(chosen, key=lambda result: _rank(sort, result.row()[sort]))
        selected = Leaderboard(chosen, self.folder, self.left_out, self._runs)
        selected._sorted = self._sorted or sort is not None
        return selected

    def board(self) -> Board:
        """One row a model, one column a benchmark, with averages and ranks; best first, unless they were sorted."""
        return board_of(self.results, self._runs, by_rank=not self._sorted)

    def frontier(self) -> list[Result]:
        """See ``frontier_of``."""
        return frontier_of(self.results)

    def to_csv(self, path: str | Path) -> None:
        """Write the rows of ``table``, floats at full precision."""
        write_csv(path, [result.row() for result in self.results])

    def render(self, form: str, columns: Sequence[str] | None = None) -> str:
        """The table as text: ``markdown``, ``latex``, ``csv`` or ``json``.

        Without ``columns`` the first two are the board. With ``columns`` (those of ``table``), and as CSV and JSON, one
        row a model and benchmark. Raises UserError for an unknown column.
        """
        if columns is None and form in ("markdown", "latex"):
            return tabulated(board_rows(self.board()), form)
        rows = [result.row() for result in self.results]
        if unknown := [column for column in columns or () if rows and column not in rows[0]]:
            near = did_you_mean(unknown[0], rows[0])
            raise UserError(f"no column {unknown[0]!r}{near}; there are {', '.join(rows[0])}")
        rows = [{column: row[column] for column in columns or row} for row in rows]
        if form == "json":
            return json_text(rows, indent=2)
        if form == "csv":
            text = io.StringIO()
            write_rows(text, rows)
            return text.getvalue().rstrip("\n")
        return tabulated([{name: plain_cell(value) for name, value in row.items()} for row in rows], form)

    def to_markdown(self) -> str:
        """The board and what it is of, then all counts and costs, notes, and the breakdowns of each task."""
        parts = ["# Leaderboard", self.render("markdown") if self.results else "No results."]
        parts += [" · ".join(self.board().caption), markdown_list(self.notes())]
        parts += ["## Counts and costs", self.long_markdown()]
        if charts := self.charts():
            parts += ["## By number of frames", f"```text\n{charts}```"]
        if provenance := self.provenance_markdown():
            parts += ["## What each model saw", provenance]
        if robustness := self.robustness_markdown():
            parts += ["## Asked otherwise", robustness]
        for title in unique(result.title for result in self.results):
            own = [result for result in self.results if result.title == title and result.summary.breakdowns]
            if own:
                parts += [f"## {title}", _breakdown_markdown(own)]
        return without_html("\n\n".join(parts)) + "\n"

    def charts(self) -> str:
        """Scores against the number of frames as plain text, where a model was measured with several; else ""."""
        return charts(self.results)

    def robustness_markdown(self) -> str:
        """What answers owe to the order of options and to wording; "" where nothing was asked in several ways."""
        return robustness_markdown(self.results)

    def provenance_markdown(self) -> str:
        """A line or two for each row of the long table: what its model saw, and how it ran; "" without any."""
        rows = provenance_markdown(self._provenances())
        return f"{EXPLAINED}\n\n{rows}" if rows else ""

    def _provenances(self) -> list[tuple[str, Provenance]]:
        """Of each row of the long table that is measured."""
        rows: dict[tuple[Any, ...], list[Result]] = {}
        for result in self.results:
            if not result.source:
                rows.setdefault(row_key(result), []).append(result)
        names = row_names([own[0] for own in rows.values()])
        merged = [Provenance.merged([result.provenance for result in own]) for own in rows.values()]
        return list(zip(names, merged, strict=True))

    def long_markdown(self) -> str:
        """The table with all counts and costs: one row a model (and run and frame count), one column a task.

        What is reported of a model is one row too, from whichever tables of a publication.
        """
        return tabulated(self._long_rows(), "markdown") if self.results else "No results."

    def _long_rows(self) -> list[dict[str, Any]]:
        frontier = marked_frontier(self.results)
        titles = unique(result.title for result in self.results)
        measured = [result for result in self.results if not result.source]
        runs, protocols = {result.run for result in measured}, {result.protocol for result in measured}
        sizes = {result.size for result in measured if result.size}
        rows = []
        for key in unique(row_key(result) for result in self.results):
            own = [result for result in self.results if row_key(result) == key]
            first = own[0]
            row: dict[str, Any] = {"Model": first.model + _marked(first)}
            if len(runs) > 1:
                row["Run"] = first.run
            if len(protocols) > 1:
                row["Protocol"] = first.protocol or "-"
            row["Frames"] = first.num_frames if first.num_frames is not None else "-"
            if any(result.asked for result in self.results):
                row["Asked"] = first.asked or "-"
            if len(sizes) > 1:
                row["Size, px"] = first.size or "-"
            for title in titles:
                cells = [cell_text(result) + " ◆" * (id(result) in frontier) for result in own if result.title == title]
                row[title] = cells[0] if cells else "-"
            if len(titles) == 1 and any(result.rank for result in self.results):
                row["Rank"] = rank_text(first.rank) + ", served" * bool(first.rank and first.provenance.served)
            selected = any(result.costs.select_s_per_question is not None for result in measured)
            row |= _cost_cells(own, with_cut_off=any(result.cut_off for result in measured), with_selection=selected)
            rows.append(row)
        return rows

    def notes(self) -> list[str]:
        """What a reader must know before comparing the numbers."""
        return notes_of(self.results, self.left_out)

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``leaderboard.md``, ``.csv``, ``.tex`` and ``.json``, and ``breakdowns.csv``; their paths."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        names = ("leaderboard.md", "leaderboard.csv", "breakdowns.csv", "leaderboard.tex", "leaderboard.json")
        paths = [folder / name for name in names]
        replace_text(paths[0], self.to_markdown())
        self.to_csv(paths[1])
        write_csv(paths[2], self._breakdown_rows())
        for path, form in ((paths[3], "latex"), (paths[4], "json")):
            replace_text(path, self.render(form) + "\n")
        return paths


_FRACTIONS = ("score", "accuracy", "ci95_low", "ci95_high", "chance")


def _check_fractions(where: str, results: Sequence[Result]) -> None:
    """Raise UserError where the query ``where`` compares a fraction, which tables show in %, with a number above 1."""
    if any(result.summary.metrics and result.summary.headline[1].unit != "%" for result in results):
        return
    try:
        query = ast.parse(where.replace("&", " and ").replace("|", " or ").strip(), mode="eval")
    except SyntaxError:  # pandas understands more than Python
        return
    for node in ast.walk(query):
        terms = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        for one, other in (*itertools.pairwise(terms), *itertools.pairwise(reversed(terms))):
            if isinstance(one, ast.Name) and one.id in _FRACTIONS and isinstance(other, ast.Constant):
                number = other.value
                if isinstance(number, int | float) and number > 1:
                    raise UserError(
                        f"--where {where!r}: {one.id} is a fraction from 0 to 1, which tables show in %: "
                        f"write {number / 100:g} for {number:g} %"
                    )


_MORE_IS_BETTER = ("score", "accuracy", "ci95_low", "ci95_high", "coverage", "answered", "tokens_per_s")


def _rank(column: str, value: Any) -> tuple[bool, Any]:
    """Best first; what is not known comes last."""
    if value is None:
        return True, 0
    return False, -value if column in _MORE_IS_BETTER else value


def _marked(result: Result) -> str:
    """What stands behind a model's name whose row was not computed here."""
    return " (stored)" if result.stored else " (reported)" if result.source else ""


def _cost_cells(results: Sequence[Result], *, with_cut_off: bool, with_selection: bool) -> dict[str, Any]:
    """Costs of one model: those of the benchmark that has most videos, since medians over several mean nothing."""
    if results[0].source:
        return {}
    most = max(results, key=lambda result: result.videos)
    peaks = [result.peak_bytes for result in results if result.peak_bytes is not None]
    # Latency is another thing than seconds of a model's own work, so what is served has columns of its own.
    served = _served_cells(results, most.costs) if most.costs.latency_s is not None else {}
    cut_off = sum(result.cut_off for result in results)
    return {
        "Unparsed": f"{sum(result.unparsed for result in results):,}",
        **({"Cut off": f"{cut_off:,}"} if with_cut_off else {}),
        "Failed": f"{sum(result.failed for result in results):,}",
        **({"Select s/question": plain_cell(most.costs.select_s_per_question)} if with_selection else {}),
        "Load s/video": _spread_cell(most.costs.load_s_per_video),
        "Encode s/video": _spread_cell(most.costs.encode_s_per_video),
        "Generate s/question": _spread_cell(most.costs.generate_s_per_question),
        "Peak GiB": f"{max(peaks) / _GIB:.2f} ({results[0].peak_kind})" if peaks else "-",
        **served,
    }


def _served_cells(results: Sequence[Result], most: Costs) -> dict[str, Any]:
    """Latency and tokens on the benchmark that has most videos, ``most``; prices of all."""
    at_once = f", {most.in_flight} at once" if most.in_flight else ""
    priced = [result for result in results if result.costs.price is not None]
    price = sum(result.costs.price or 0.0 for result in priced)
    answers = sum(result.costs.priced for result in priced)
    right = sum(result.costs.priced * (result.correct or 0.0) for result in priced)
    return {
        "Latency s": _spread_cell(most.latency_s) + at_once,
        "Prompt tokens": _spread_cell(most.prompt_tokens),
        "New tokens": _spread_cell(most.new_tokens),
        "Price $": f"{price:.4g}" if priced else "-",
        "$/1,000 questions": f"{1000 * price / answers:.4g}" if priced else "-",
        "$/right answer": f"{price / right:.3g}" if right else "-",
    }


def _spread_cell(values: Distribution | None) -> str:
    if values is None:
        return "-"
    return f"{values.median:.3g} ({values.p5:.3g} to {values.p95:.3g})" if values.count > 1 else f"{values.median:.3g}"


def _breakdown_markdown(results: Sequence[Result]) -> str:
    several = len({(r.model, r.num_frames, r.protocol) for r in results}) < len(results)
    protocols = {r.protocol for r in results}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for result in results:
        column = result.model + (f" @{result.num_frames}" if result.num_frames else "")
        column += f" ({result.protocol})" if len(protocols) > 1 else ""
        column += f" ({result.run})" if several else ""
        entries = [("all", name, metric) for name, metric in result.summary.metrics.items()]
        for group, members in result.summary.breakdowns.items():
            entries += [(group, value, metric) for value, metric in members.items()]
        for group, value, metric in entries:
            row = rows.setdefault((group, value), {"Group": group, "Value": value, "Questions": 0})
            row["Questions"] = max(row["Questions"], metric.num_questions)
            row[column] = shown(metric.value, metric.unit)
    order = unique(group for group, _ in rows)
    table = sorted(rows.values(), key=lambda row: (order.index(row["Group"]), row["Group"] != "all" and row["Value"]))
    return markdown_table(table)


def _metric_fields(metric: Metric) -> dict[str, Any]:
    return {
        "score": metric.value,
        "ci95_low": metric.low,
        "ci95_high": metric.high,
        "questions": metric.num_questions,
        "videos": metric.num_videos,
    }

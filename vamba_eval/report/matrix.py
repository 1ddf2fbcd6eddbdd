"""The board as the page shows it: a row a model, a cell a benchmark, each with a bar and its interval."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vamba_eval.tables.board import REPORTED, Board, Row, rank_text
from vamba_eval.tables.ranks import Average
from vamba_eval.tables.result import Result
from vamba_eval.tables.text import shown


@dataclass(frozen=True)
class Cell:
    """``text`` is the score, ``interval`` and ``remark`` what stands beside it. ``key`` sorts; the places of the bar
    (``to``, its interval ``low`` and ``high``, and ``guessing``) are percentages of the way to the best, None where
    there is none."""

    title: str
    text: str = ""
    interval: str = ""
    remark: str = ""
    key: float | None = None
    to: float | None = None
    low: float | None = None
    high: float | None = None
    guessing: float | None = None
    best: bool = False


def matrix_of(board: Board, system_of: Mapping[int, int]) -> dict[str, Any]:
    """What the template is given; ``system_of`` are the page's systems by the ``id`` of a result."""
    several = len(board.titles) > 1
    ranked = any(row.rank for row in board.rows)
    reported = _reported_beside(board.rows)
    lines = []
    for place, row in enumerate(board.rows):
        cells = [_cell(board, place, title, reported.get((place, title), [])) for title in board.titles]
        lines.append(
            {
                "name": row.name,
                "frames": row.frames,
                "kind": row.kind,
                "system": next((system_of[id(r)] for r in row.results.values() if id(r) in system_of), None),
                "rank": rank_text(row.rank) if row.rank else "",
                "rank_key": row.rank and row.rank.rank,
                "cells": [vars(cell) for cell in ([_average_cell(row.average)] if several else []) + cells],
            }
        )
    heads = ["Average", *board.titles] if several else list(board.titles)
    return {"heads": heads, "rows": lines, "ranked": ranked, "caption": board.caption, "several": several}


def _cell(board: Board, place: int, title: str, reported: Sequence[Result]) -> Cell:
    result = board.rows[place].results.get(title)
    if result is None:
        return Cell(title)
    if not result.summary.metrics:
        return Cell(title, remark="not judged" if result.unjudged else "answers withheld" if result.answered else "")
    metric = result.summary.headline[1]
    remarks = []
    if not result.complete and (result.stored or not result.source):
        remarks.append(f"of {result.counted:,}/{result.asked_for:,}")
    if metric.spread is not None:
        remarks.append(f"± {shown(metric.spread, metric.unit)} over seeds")
    remarks += [f"reported {shown(each.summary.headline[1].value, metric.unit)} ({each.model})" for each in reported]
    best = metric.best if metric.best > 0 else None
    guessing = board.guessing.get(title)
    return Cell(
        title,
        shown(metric.value, metric.unit),
        _interval(metric.low, metric.high, metric.unit),
        "; ".join(remarks),
        key=metric.value * (1 if metric.best > 0 else -1),
        to=_place(metric.value, best),
        low=_place(metric.low, best),
        high=_place(metric.high, best),
        guessing=_place(guessing, best),
        best=(place, title) in board.best,
    )


def _average_cell(average: Average | None) -> Cell:
    if average is None:
        return Cell("Average")
    return Cell(
        "Average",
        shown(average.value),
        _interval(average.low, average.high, "%"),
        key=average.value,
        to=_place(average.value, 1.0),
        low=_place(average.low, 1.0),
        high=_place(average.high, 1.0),
    )


def _place(value: float | None, best: float | None) -> float | None:
    """In % of the way from 0 to the best; None where more is not better."""
    return None if value is None or best is None else round(min(100.0, max(0.0, 100 * value / best)), 2)


def _interval(low: float | None, high: float | None, unit: str) -> str:
    return "" if low is None or high is None else f"{shown(low, unit)} – {shown(high, unit)}"


def _reported_beside(rows: Sequence[Row]) -> dict[tuple[int, str], list[Result]]:
    """What publications report of the same model, by the place of its measured row and the benchmark.

    A model is the same where its label, or the last part of its checkpoint, is the reported name with or without the
    size behind it, but for case and punctuation.
    """
    found: dict[tuple[int, str], list[Result]] = defaultdict(list)
    for reported in (row for row in rows if row.kind == REPORTED):
        names = {_plain(reported.model), _plain(reported.model.rpartition(" ")[0])} - {""}
        for place, row in enumerate(rows):
            checkpoint = row.first.provenance.checkpoint.rstrip("/").rpartition("/")[2]
            if row.kind == REPORTED or not names & {_plain(row.model), _plain(checkpoint)}:
                continue
            for title, result in reported.results.items():
                if title in row.results and result.summary.metrics and not result.stored:
                    found[place, title].append(result)
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())

"""Rows as text: Markdown, LaTeX and CSV. Knows nothing of what the rows say."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from vamba_eval.files import write_text


def shown(value: float, unit: str = "%") -> str:
    """A number in its unit as tables show it: shares in %, points and all others as they are."""
    return f"{100 * value:.1f}" if unit == "%" else f"{value:.2f}"


def signed(value: float, unit: str = "%") -> str:
    """As ``shown``, of a difference."""
    return f"{100 * value:+.1f}" if unit == "%" else f"{value:+.2f}"


def markdown_table(rows: Sequence[dict[str, Any]], right: Collection[str] = ()) -> str:
    """A Markdown table with the rows' keys as columns, those in ``right`` flush right; "-" where a row lacks one."""
    return tabulated(rows, "markdown", right)


def tabulated(rows: Sequence[dict[str, Any]], form: str, right: Collection[str] = ()) -> str:
    from tabulate import tabulate

    columns = unique(column for row in rows for column in row)
    cells = [[row.get(column, "-") for column in columns] for row in rows]
    style = {"markdown": "pipe", "latex": "latex_booktabs"}[form]
    sides = ["right" if column in right else "left" for column in columns]
    return tabulate(cells, headers=columns, tablefmt=style, disable_numparse=True, colalign=sides)


def plain_cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_csv(path: str | Path, rows: Sequence[dict[str, Any]]) -> None:
    """A CSV file with the rows' keys as columns."""
    text = io.StringIO(newline="")
    write_rows(text, rows)
    write_text(Path(path), text.getvalue())


def write_rows(file: TextIO, rows: Sequence[dict[str, Any]]) -> None:
    writer = csv.DictWriter(file, unique(column for row in rows for column in row), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def short(text: str, width: int = 40) -> str:
    """``text`` as a cell of a Markdown table: one line of at most ``width`` characters (more where it has bars)."""
    line = " ".join(text.split())
    return (line if len(line) <= width else f"{line[: width - 1]}…").replace("|", "\\|")


def unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))

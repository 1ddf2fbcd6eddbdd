"""Rows as text: Markdown, LaTeX and CSV. Knows nothing of what the rows say.

Models, annotations and endpoints say some of it, so what a form would take for its own is escaped here.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from vamba_eval.files import replace_text
from vamba_eval.plain import visible
from vamba_eval.secrets import without_secrets

# With these a formula begins in a spreadsheet; some take the wide ones for the others.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


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
    # Of what LaTeX would obey, tabulate makes text.
    style, cell = {"markdown": ("pipe", _markdown_cell), "latex": ("latex_booktabs", _line)}[form]
    cells = [[cell(row.get(column, "-")) for column in columns] for row in rows]
    sides = ["right" if column in right else "left" for column in columns]
    heads = [cell(column) for column in columns]
    return tabulate(cells, headers=heads, tablefmt=style, disable_numparse=True, colalign=sides)


def _line(value: Any) -> str:
    """``value`` as text in one line, which control characters do not change."""
    return visible(" ".join(without_secrets(str(value)).split()))


def _markdown_cell(value: Any) -> str:
    """A bar would end the cell, also behind a backslash that is text."""
    return re.sub(r"\\*\|", lambda found: f"{found[0][:-1] * 2}\\|", without_html(_line(value)))


def markdown_list(lines: Iterable[str]) -> str:
    """A list in Markdown."""
    return "\n".join(f"- {_line(line)}" for line in lines)


def without_html(markdown: str) -> str:
    """``markdown`` in which no HTML begins."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", markdown)


def plain_cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_csv(path: str | Path, rows: Sequence[dict[str, Any]]) -> None:
    """A CSV file with the rows' keys as columns, as ``write_rows`` writes them."""
    text = io.StringIO(newline="")
    write_rows(text, rows)
    replace_text(Path(path), text.getvalue())


def write_rows(file: TextIO, rows: Sequence[dict[str, Any]]) -> None:
    """The rows as CSV. Text that spreadsheets would compute has an apostrophe before it (docs/statistics.md#files)."""
    columns = unique(column for row in rows for column in row)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([_csv_cell(column) for column in columns])
    writer.writerows([_csv_cell(row.get(column, "")) for column in columns] for row in rows)


def _csv_cell(value: Any) -> Any:
    """``value``, text so that no spreadsheet takes it for a formula: where it begins as one does, and is neither a
    number nor a dash alone. Control characters are made visible: some readers end a row at a carriage return."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if value.startswith(_FORMULA) and value != "-" and not _is_number(value) else text


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None


def short(text: str, width: int = 40) -> str:
    """``text`` in one line of at most ``width`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))

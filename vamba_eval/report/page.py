"""Runs to one page: tables, plots and every question with its frames and responses, in a single HTML file.

The page asks nothing of any network: its style, its script, plotly.js (from the installed package) and all data are in
it, and its content security policy forbids the rest: of scripts and style sheets, those act whose hashes it names.
Style attributes do, since Plotly sets them. What models and annotations say is text there and never markup.
The page's script is in the .js files beside this module; ``content``, ``matrix``, ``pairs`` and ``facts`` make what
it is given.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vamba_eval._version import __version__
from vamba_eval.contracts import UserError
from vamba_eval.plain import json_text, valid
from vamba_eval.report.content import Content, items_section
from vamba_eval.report.facts import facts_of
from vamba_eval.report.matrix import matrix_of
from vamba_eval.report.pairs import pairs_of
from vamba_eval.score.scored import score_runs
from vamba_eval.secrets import without_secrets
from vamba_eval.tables.leaderboard import Leaderboard
from vamba_eval.tables.notes import is_grave
from vamba_eval.tables.provenance import EXPLAINED as PROVENANCE_EXPLAINED
from vamba_eval.tables.robustness import EXPLAINED, robustness_rows
from vamba_eval.tables.text import unique

_HERE = Path(__file__).resolve().parent

# Joined in this order, they are the page's script and its style sheet.
_SCRIPTS = ("base.js", "tables.js", "figures.js", "heatmap.js", "questions.js", "pairs.js", "address.js")
_STYLES = ("page.css", "matrix.css")


@dataclass(frozen=True)
class Page:
    """A written report: its ``size`` in bytes, that of its ``thumbnails``, and how many of these were left out."""

    path: Path
    size: int
    thumbnails_size: int
    thumbnails: int
    thumbnails_left_out: int
    questions: int

    def __str__(self) -> str:
        text = f"{self.path}  ({_megabytes(self.size)}, {self.questions:,} questions"
        if self.thumbnails:
            text += f"; {_megabytes(self.thumbnails_size)} of it are the frames of {self.thumbnails:,} clips"
        if self.thumbnails_left_out:
            text += f"; {self.thumbnails_left_out:,} clips without frames, see --max-thumbnails"
        return text + ")"


def write_report(
    paths: Iterable[str | Path],
    output: str | Path,
    *,
    protocol: str | None = None,
    published: bool = False,
    judge: str | None = None,
    title: str = "Long-video evaluation",
    max_thumbnails: int = 1000,
) -> Page:
    """Write the page about all runs at or below ``paths`` to ``output``.

    protocol, published, judge  as for ``Leaderboard.from_runs``
    max_thumbnails              clips whose frames are shown; further ones go without

    Raises UserError where there is no run or no answer, and where ``output`` cannot be written.
    """
    import jinja2
    from plotly.offline import get_plotlyjs

    paths, output = list(paths), Path(output)
    board, runs = Leaderboard.with_runs(score_runs(paths, protocol, judge), published=published)
    if not board.results:
        raise UserError("the runs there have no answers yet")
    content = Content(board, runs, max_thumbnails)
    pairs, not_paired = pairs_of(content)
    content.data["pairs"] = pairs
    notes = board.notes()
    # Compressed, since it is most of a small page. The browser unpacks it when the first plot comes into view.
    plotly = get_plotlyjs()
    script = "".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    style = "".join((_HERE / name).read_text(encoding="utf-8") for name in _STYLES)
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FileSystemLoader(_HERE),
    )
    asked_otherwise = robustness_rows(board.results)
    said = without_secrets(
        {
            "title": title,
            "table": content.table,
            "columns": content.columns,
            "tasks": content.tasks,
            "items": [items_section(each) for each in content.items.analyses],
            "items_left_out": content.items.left_out,
            "matrix": matrix_of(board.board(), content.system_of),
            "grave": [note for note in notes if is_grave(note)],
            "notes": [note for note in notes if not is_grave(note)],
            "facts": facts_of(content),
            "not_paired": not_paired,
            "provenance": content.provenance,
            "asked_otherwise": asked_otherwise,
        }
    )
    html = environment.get_template("page.html").render(
        said,
        style=style,
        # Plotly adds a style sheet for maps, with an id of its own, unless there is one.
        needless_styles=re.findall(r'getElementById\("([0-9a-f]{64})"\)', plotly),
        style_hashes=[_integrity(style), _integrity("")],  # Plotly begins its own empty, and adds rules by script
        script=script,
        script_hashes=[_integrity(script), _integrity(plotly)],
        plotly=base64.b64encode(gzip.compress(plotly.encode(), 9, mtime=0)).decode(),
        data=_json_in_html(without_secrets(content.data)),
        strips=content.jpegs,
        provenance_explained=PROVENANCE_EXPLAINED,
        asked_columns=unique(column for row in asked_otherwise for column in row),
        asked_otherwise_explained=EXPLAINED,
        counts=content.counts(),
        version=__version__,
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(valid(html), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from error
    size = sum(map(len, content.jpegs))
    count = len(content.jpegs)
    return Page(output, output.stat().st_size, size, count, content.left_out, len(content.data["questions"]))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _json_in_html(value: Any) -> str:
    """JSON for a script element: ``<`` is escaped, so that no text in it can end the element."""
    text = json_text(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _integrity(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

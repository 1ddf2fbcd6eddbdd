"""The board on a terminal: it fits the width there is, and never wraps. Colors are rich's, which asks whether the
stream is a terminal and minds NO_COLOR.

Where it is too wide, less is shown, in the order of ``_steps``; what was left out is said below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from vamba_eval.contracts import Metric
from vamba_eval.plain import visible
from vamba_eval.tables.board import APART, RANKED, REPORTED, Board, Row, unit_of
from vamba_eval.tables.ranks import Average
from vamba_eval.tables.result import Result
from vamba_eval.tables.text import shown

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

_GIB = 1 << 30
_REPORTED = " (reported)"
_NO_WIDER = 10_000  # columns: of no terminal


@dataclass(frozen=True)
class _Layout:
    """What is shown: with ``titles`` benchmarks, ``name`` columns for a model at most."""

    titles: int
    short_titles: bool = False
    price: bool = True
    memory: bool = True
    latency: bool = True
    interval: bool = True
    rank_interval: bool = True
    average_interval: bool = True
    name: int = _NO_WIDER
    rank: bool = True
    frames: bool = True


_Step = tuple[str, Callable[[_Layout], _Layout]]  # what is then said to be left out, and what it makes of a layout

_STEPS: tuple[_Step, ...] = (
    ("", lambda layout: replace(layout, short_titles=True)),
    ("price", lambda layout: replace(layout, price=False)),
    ("memory", lambda layout: replace(layout, memory=False)),
    ("time to a first answer", lambda layout: replace(layout, latency=False)),
    ("intervals of single benchmarks", lambda layout: replace(layout, interval=False)),
    ("", lambda layout: replace(layout, name=24)),
    ("intervals of ranks", lambda layout: replace(layout, rank_interval=False)),
    ("the average's interval", lambda layout: replace(layout, average_interval=False)),
    ("", lambda layout: replace(layout, name=16)),
    ("ranks", lambda layout: replace(layout, rank=False)),
)


def shown_board(board: Board, console: Console) -> Iterator[RenderableType]:
    """The table, and below it the caption, what the marks mean, and what had no room."""
    layout, left_out = _fitting(board, console)
    yield _table(board, layout)
    below = [" · ".join(visible(fact) for fact in board.caption)] if board.caption else []
    below += list(_legend(board, layout))
    if left_out:
        below.append(f"no room for {', '.join(left_out)}: --long shows all, a wider terminal more")
    yield ""
    for line in below:
        yield _text(line, "dim")


def _fitting(board: Board, console: Console) -> tuple[_Layout, list[str]]:
    """The fullest layout that fits, and what it leaves out."""

    def layout(steps: Sequence[_Step]) -> _Layout:
        made = _Layout(len(board.titles))
        for _, narrower in steps:
            made = narrower(made)
        return made

    def fits(steps: Sequence[_Step]) -> bool:
        table = _table(board, layout(steps))
        return console.measure(table, options=console.options.update(width=_NO_WIDER)).maximum <= console.width

    taken: list[_Step] = []
    for step in _steps(board):
        if fits(taken):
            break
        taken.append(step)
    for step in list(taken):  # what a later one made needless
        others = [other for other in taken if other is not step]
        if fits(others):
            taken = others
    return layout(taken), [what for what, _ in taken if what]


def _steps(board: Board) -> Iterator[_Step]:
    """What goes first, one after the other."""
    yield from _STEPS
    for count in range(len(board.titles) - 1, 0, -1):
        yield board.titles[count], lambda layout, count=count: replace(layout, titles=count)  # type: ignore[misc]
    for name in (12, 8, 5):
        yield "", lambda layout, name=name: replace(layout, name=name)  # type: ignore[misc]
    yield "frames", lambda layout: replace(layout, frames=False)


def _table(board: Board, layout: _Layout) -> Table:
    from rich import box
    from rich.table import Table

    lines = _lines(board)
    columns = _columns(board, lines, layout)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        table.add_column(_text(column.head), justify=column.side, no_wrap=True)
    kind = lines[0].kind if lines and lines[0] else RANKED
    for number, row in enumerate(lines):
        if (row.kind if row else APART) != kind:
            kind = row.kind if row else APART
            table.add_section()
        cells = [_text(column.cells[number], "bold green" * (number in column.best)) for column in columns]
        table.add_row(*cells, style="dim" if kind == APART else "")
    return table


@dataclass(frozen=True)
class _Column:
    head: str
    side: Literal["left", "right"]
    cells: Sequence[str]
    best: frozenset[int] = frozenset()


def _lines(board: Board) -> list[Row | None]:
    """The rows, and None for what guessing reaches: below the models that look."""
    ranked = [row for row in board.rows if row.kind == RANKED]
    others = [row for row in board.rows if row.kind != RANKED]
    return [*ranked, *([None] * bool(board.guessing)), *others]


def _columns(board: Board, lines: Sequence[Row | None], layout: _Layout) -> list[_Column]:
    def column(head: str, side: Literal["left", "right"], cell: Callable[[Row], str], guessing: str = "") -> _Column:
        return _Column(head, side, [guessing if row is None else cell(row) for row in lines])

    trims = _trims(board, layout)
    found = [
        column("Rank", "right", lambda row: _rank(row, layout)),
        column("Model", "left", lambda row: _shortened(_name(row, trims), layout.name), "guessing"),
        column("Frames", "right", lambda row: row.frames),
    ]
    found = [each for each in found if any(each.cells)]
    found = [
        each for each in found if (layout.rank or each.head != "Rank") and (layout.frames or each.head != "Frames")
    ]
    if len(board.titles) > 1:
        averages = [None if row is None else row.average for row in lines]
        scores = [
            ("" if row is None else "-", "") if average is None else _parts(average, "%", layout.average_interval)
            for row, average in zip(lines, averages, strict=True)
        ]
        found.append(_Column("Average", "right", _aligned(scores)))
    names = short_titles(board.titles) if layout.short_titles else {title: title for title in board.titles}
    for title in board.titles[: layout.titles]:
        scores = [_guess(board, title) if row is None else _cell(row.results.get(title), layout) for row in lines]
        places = {board.rows.index(row): number for number, row in enumerate(lines) if row is not None}
        best = frozenset(places[place] for place, own in board.best if own == title)
        marked = [(score + "*" * (n in best), rest) for n, (score, rest) in enumerate(scores)]
        found.append(_Column(names[title], "right", _aligned(marked), best))
    return found + [column(head, "right", cell) for head, cell in _costs(board, layout)]


def _aligned(parts: Sequence[tuple[str, str]]) -> list[str]:
    """Scores and what follows them, each below the others."""
    widest = max((len(rest) for _, rest in parts), default=0)
    marked = any(score.endswith("*") for score, _ in parts)
    padded = [score + " " * (marked and not score.endswith("*")) for score, _ in parts]
    return [f"{score} {rest:<{widest}}" if widest else score for score, (_, rest) in zip(padded, parts, strict=True)]


def _guess(board: Board, title: str) -> tuple[str, str]:
    chance = board.guessing.get(title)
    return ("" if chance is None else shown(chance, unit_of(board, title)), "")


def _legend(board: Board, layout: _Layout) -> Iterator[str]:
    marks = []
    if board.best:
        marks.append("* the best of its column")
    if any(not result.complete for row in board.rows for result in row.results.values() if not result.source):
        marks.append("(n/m) of a part of the benchmark's questions")
    if len(board.titles) > 1 and any(row.average is None for row in board.rows if row.kind == RANKED):
        marks.append("no average without all benchmarks, whole")
    ranked = [row.first for row in board.rows if row.kind == RANKED]
    if layout.rank and any(row.rank for row in board.rows):
        if len({(result.protocol, result.asked) for result in ranked}) > 1:
            marks.append("ranks are among rows of one protocol that were asked alike")
        if len({result.provenance.served for result in ranked}) > 1:
            marks.append("served models have ranks of their own")
    if _trims(board, layout):
        marks.append(f"the last {sum(row.kind == REPORTED for row in board.rows)} rows are reported")
    if marks:
        yield "; ".join(marks)
    if layout.short_titles:
        names = short_titles(board.titles)
        if told := [f"{names[title]}: {title}" for title in board.titles[: layout.titles] if names[title] != title]:
            yield "; ".join(told)


def short_titles(titles: Sequence[str]) -> dict[str, str]:
    """Names of ten characters or so, each its own: of long ones capitals and figures (``LVB``), or initials."""
    names: dict[str, str] = {}
    for title in titles:
        shorter = [
            "".join(re.findall(r"[A-Z0-9]", title)),
            "".join(re.findall(r"\b\w", title)).upper(),
            title[:9] + "…",
        ]
        chosen = [name for name in shorter if 1 < len(name) < len(title) and name not in names.values()]
        names[title] = title if len(title) <= 9 or not chosen else chosen[0]
    return names


def _name(row: Row, trims: bool) -> str:
    return row.name.replace(_REPORTED, "") if trims else row.name


def _trims(board: Board, layout: _Layout) -> bool:
    """Whether reported rows are named without what the legend says of them, as one of them has no room for it."""
    from rich.cells import cell_len

    return any(_REPORTED in row.name and cell_len(row.name) > layout.name for row in board.rows)


def _shortened(name: str, width: int) -> str:
    """``name`` in at most so many columns, without its middle: names of models differ at both ends."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(name) <= width:
        return name
    front = (width - 1) // 2
    back = ""
    for character in reversed(name):
        if cell_len(character + back) > width - 1 - front:
            break
        back = character + back
    return f"{set_cell_size(name, front).rstrip()}…{back}"


def _cell(result: Result | None, layout: _Layout) -> tuple[str, str]:
    """A score, and its interval or of how much it is."""
    if result is None:
        return "-", ""
    if not result.summary.metrics:
        return "not judged" if result.unjudged else "answers withheld" if result.answered else "-", ""
    metric = result.summary.headline[1]
    score, rest = _parts(metric, metric.unit, layout.interval)
    if not result.complete and (result.stored or not result.source):
        rest = f"{rest} ({result.counted:,}/{result.asked_for:,})".strip()
    return score, rest


def _parts(number: Average | Metric, unit: str, interval: bool) -> tuple[str, str]:
    if not interval or number.low is None or number.high is None:
        return shown(number.value, unit), ""
    return shown(number.value, unit), f"[{shown(number.low, unit)}, {shown(number.high, unit)}]"


def _rank(row: Row, layout: _Layout) -> str:
    if row.rank is None or row.kind != RANKED:
        return ""
    rank = row.rank
    return (
        f"{rank.rank}" if rank.low == rank.high or not layout.rank_interval else f"{rank.rank} ({rank.low}-{rank.high})"
    )


def _costs(board: Board, layout: _Layout) -> list[tuple[str, Callable[[Row], str]]]:
    """Columns of costs that have anything in them: those of the benchmark that has most videos."""
    wanted: list[tuple[bool, str, Callable[[Result], float | None]]] = [
        (layout.latency, "First answer s", lambda r: r.costs.first_answer_s.median if r.costs.first_answer_s else None),
        (layout.latency, "Latency s", lambda r: r.costs.latency_s.median if r.costs.latency_s else None),
        (layout.memory, "Peak GiB", lambda r: r.peak_bytes / _GIB if r.peak_bytes else None),
        (layout.price, "$/1,000", lambda r: 1000 * p if (p := r.costs.price_per_question) else None),
    ]

    def column(value: Callable[[Result], float | None]) -> Callable[[Row], str]:
        def cell(row: Row) -> str:
            most = max(row.results.values(), key=lambda result: result.videos)
            found = value(most) if row.kind == RANKED else None
            return "" if found is None else f"{found:,.0f}" if found >= 1000 else f"{found:.3g}"

        return cell

    found = [(name, column(value)) for wants, name, value in wanted if wants]
    return [(name, cell) for name, cell in found if any(cell(row) for row in board.rows)]


def _text(text: str, style: str = "") -> RenderableType:
    from rich.text import Text

    return Text(visible(text), style)

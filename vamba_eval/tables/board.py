"""The board: one row a model, one column a benchmark, their average, and how sure its order is.

Data alone; ``tables.screen`` shows it on a terminal, ``tables.leaderboard`` in files. What is not alike (protocol,
judge, precision, weights, frames, another way of asking) never shares a row; other protocols, judges and ways of asking
never share a rank or a best mark.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vamba_eval.score.scored import ScoredRun
from vamba_eval.tables.provenance import Provenance
from vamba_eval.tables.ranks import Average, Rank, averages_of
from vamba_eval.tables.result import Result, expected_guesses
from vamba_eval.tables.text import shown, unique

RANKED, APART, REPORTED = "ranked", "apart", "reported"


@dataclass(frozen=True)
class Row:
    """One model as it was asked in one way, on one or more benchmarks.

    name     the model's, and as much else as tells the row from others: ``in_way`` is that else
    frames   their number, a range where benchmarks have their own, "" where it looks at none or nobody says
    kind     ``ranked``; ``apart``, of what sees no video; ``reported``, of a publication or another's table
    results  by the benchmark's title
    average  of the headlines as shares of their best, in [0, 1]; None unless it has all benchmarks, and whole
    rank     among the ranked rows of its protocol (and of served models, among these); of a board of one benchmark
             that on it
    """

    model: str
    in_way: str
    frames: str
    kind: str
    results: Mapping[str, Result]
    average: Average | None = None
    rank: Rank | None = None

    @property
    def name(self) -> str:
        return f"{self.model} {self.in_way}".rstrip()

    @property
    def first(self) -> Result:
        return next(iter(self.results.values()))


@dataclass(frozen=True)
class Board:
    """``titles`` are the columns; ``rows`` stand in their order: ranked ones, best first where there is an order, then
    what sees no video, then what is reported. ``guessing`` is what guessing is expected to reach, by title. ``best``
    has the places (row, title) of the best scores of a column; ``caption`` what all rows have in common.
    """

    titles: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    guessing: Mapping[str, float] = field(default_factory=dict)
    best: frozenset[tuple[int, str]] = frozenset()
    caption: tuple[str, ...] = ()


def board_of(results: Sequence[Result], runs: Mapping[int, ScoredRun], *, by_rank: bool = True) -> Board:
    """``runs`` are those of the measured results, by their ``id``; without one a row has no average. ``by_rank``: best
    first, what is served below the others; else in the order of ``results``."""
    titles = tuple(unique(result.title for result in results))
    rows = _rows(results)
    several = len(titles) > 1
    rows = _averaged(rows, titles, runs) if several else [replace(row, rank=row.first.rank) for row in rows]
    if by_rank:
        rows = sorted(rows, key=lambda row: (row.first.provenance.served, row.rank.rank if row.rank else math.inf))
    order = {RANKED: 0, APART: 1, REPORTED: 2}
    rows = _named(sorted(rows, key=lambda row: order[row.kind]))
    return Board(titles, tuple(rows), expected_guesses(results), _best(rows, titles), _caption(rows))


def _rows(results: Sequence[Result]) -> list[Row]:
    """Results of a model that was asked in one way are one row, over all runs, unless it has a benchmark twice."""
    strands: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
    for result in results:
        strands[(result.run, *_way(result))].append(result)
    parts: list[list[Result]] = []
    for own in strands.values():
        # In one run a benchmark's own number of frames is as good as any; of a ladder each number is a row.
        alone = max(Counter(result.title for result in own).values()) == 1
        by_frames: dict[Any, list[Result]] = defaultdict(list)
        for result in own:
            by_frames[None if alone else (result.num_frames, result.size)].append(result)
        parts += by_frames.values()
    merged: list[list[Result]] = []
    for part in parts:
        for other in merged:
            alike = _way(part[0]) == _way(other[0]) and (_frames(part), _sizes(part)) == (_frames(other), _sizes(other))
            if alike and not {r.title for r in part} & {r.title for r in other}:
                other += part
                break
        else:
            merged.append(list(part))
    return [
        Row(own[0].model, "", _frames(own), _kind(own[0]), {result.title: result for result in own}) for own in merged
    ]


def _way(result: Result) -> tuple[Any, ...]:
    """What makes results ones of the same model, asked alike."""
    seen = result.provenance
    weights = (seen.checkpoint, seen.identity, seen.precision, seen.engine, seen.wrap)
    about = (result.model, result.protocol, result.asked, result.judge, result.stored)
    return (bool(result.source), *about, *weights, result.selected)


def _kind(result: Result) -> str:
    if result.source or result.stored:
        return REPORTED
    return RANKED if result.reads_video else APART


def _frames(own: Sequence[Result]) -> str:
    counts = unique(result.num_frames for result in own if result.num_frames is not None)
    if counts and any(result.source and result.num_frames is None for result in own):
        counts.append("?")  # of some reported numbers nobody says
    if counts and all(isinstance(count, int) for count in counts):
        return f"{min(counts)}" if len(counts) == 1 else f"{min(counts)}-{max(counts)}"
    return ", ".join(map(str, counts))


def _sizes(own: Sequence[Result]) -> tuple[str, ...]:
    return tuple(unique(result.size for result in own))


def _averaged(rows: Sequence[Row], titles: Sequence[str], runs: Mapping[int, ScoredRun]) -> list[Row]:
    """With averages, and ranks by these, of rows that have all benchmarks whole."""
    alike: dict[Any, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        whole = all((r := row.results.get(title)) and r.complete and r.summary.metrics for title in titles)
        if whole and row.kind != REPORTED and all(id(result) in runs for result in row.results.values()):
            judges = tuple(result.judge for result in row.results.values())
            alike[row.kind, row.first.protocol, row.first.asked, judges, row.first.provenance.served].append(place)
    found = list(rows)
    for (kind, *_), places in alike.items():
        table = [[runs[id(rows[place].results[title])] for title in titles] for place in places]
        for place, (average, rank) in zip(places, averages_of(table), strict=True):
            found[place] = replace(rows[place], average=average, rank=rank if kind == RANKED else None)
    return found


def _named(rows: Sequence[Row]) -> list[Row]:
    """With as much beside the model's name and its frames as tells rows apart."""
    wider: tuple[Callable[[Row], str], ...] = (
        lambda row: row.first.provenance.short_precision,
        lambda row: row.first.protocol,
        lambda row: row.first.judge and f"judged by {row.first.judge}",
        lambda row: row.first.size,
        lambda row: row.first.run,
    )
    asked_alike = len({row.first.asked for row in rows if not row.first.source}) == 1  # then the caption says it
    rows = [replace(row, in_way=_always_told(row.first, asked=not asked_alike)) for row in rows]
    for more in wider:
        alike = Counter((row.name, row.frames) for row in rows)
        apart: dict[Any, set[str]] = defaultdict(set)
        for row in rows:
            apart[row.name, row.frames].add(more(row))
        rows = [
            replace(row, in_way=f"{row.in_way} ({more(row)})".strip())
            if alike[row.name, row.frames] > 1 and len(apart[row.name, row.frames]) > 1 and more(row)
            else row
            for row in rows
        ]
    return rows


def _always_told(result: Result, *, asked: bool) -> str:
    facts = ["stored" if result.stored else "reported" if result.source else "", result.asked if asked else ""]
    return " ".join(f"({fact})" for fact in facts if fact)


def _best(rows: Sequence[Row], titles: Sequence[str]) -> frozenset[tuple[int, str]]:
    """Where the best of each column stands, among ranked rows that are asked and graded alike, and answered
    all; ties are all best."""
    found: set[tuple[int, str]] = set()
    for title in titles:
        alike: dict[tuple[str, ...], list[tuple[float, int]]] = defaultdict(list)
        for place, row in enumerate(rows):
            result = row.results.get(title)
            if row.kind == RANKED and result is not None and result.complete and result.summary.metrics:
                metric = result.summary.headline[1]
                value = metric.value * (1 if metric.best > 0 else -1)
                alike[result.protocol, result.asked, result.judge].append((value, place))
        for scores in alike.values():
            if len(scores) > 1:
                found |= {(place, title) for value, place in scores if value == max(scores)[0]}
    return frozenset(found)


def _caption(rows: Sequence[Row]) -> tuple[str, ...]:
    """What the measured rows have in common, a fact each; of what differs, that it does."""
    measured = [result for row in rows if row.kind != REPORTED for result in row.results.values()]
    looking = [result for result in measured if result.reads_video] or measured
    if not measured:
        return ()
    seen: list[Provenance] = [result.provenance for result in looking]
    facts = [
        _one("protocol", unique(result.protocol for result in measured)),
        *unique(result.asked for result in measured if result.asked)[:1] * (len({r.asked for r in measured}) == 1),
        *(f"graded by {judge}" for judge in unique(result.judge for result in measured if result.judge)),
        _one("frame count", unique(_frames([result]) for result in looking)),
        _one("size", unique(view.size for each in seen for view in each.every_view)),
        _one("precision", unique(each.short_precision for each in seen)),
        _one("machine", unique(result.hardware for result in looking)),
        _one("date", sorted({result.date for result in measured})),
    ]
    return tuple(fact for fact in facts if fact)


def _one(what: str, values: Sequence[str]) -> str:
    """A fact in words; of several values how many there are: they are told apart by row where that matters."""
    values = [value for value in values if value]
    if len(values) != 1:
        of_days = what == "date" and values
        return f"{values[0]} to {values[-1]}" if of_days else f"{len(values)} {what}s" if values else ""
    return {"protocol": f"protocol {values[0]}", "frame count": f"{values[0]} frames"}.get(what, values[0])


def board_rows(board: Board) -> list[dict[str, str]]:
    """The board as rows of text for files, whole; guessing is the last row."""
    rows = []
    for place, row in enumerate(board.rows):
        line = {"Rank": rank_text(row.rank)} if any(each.rank for each in board.rows) else {}
        line |= {"Model": row.name, "Frames": row.frames or "-"}
        if len(board.titles) > 1:
            average = row.average
            line["Average"] = "-" if average is None else _score(average.value, average.low, average.high, "%")
        for title in board.titles:
            result = row.results.get(title)
            cell = "-" if result is None else cell_text(result)
            line[title] = f"{cell} *" if (place, title) in board.best else cell
        rows.append(line)
    if board.guessing:
        units = {title: unit_of(board, title) for title in board.guessing}
        rows.append({"Model": "guessing"} | {t: shown(chance, units[t]) for t, chance in board.guessing.items()})
    return rows


def cell_text(result: Result) -> str:
    """The headline with its interval and its spread over seeds, and of how much it is where that is not all."""
    if not result.summary.metrics:
        return "not judged" if result.unjudged else "answers withheld" if result.answered else "-"
    metric = result.summary.headline[1]
    text = _score(metric.value, metric.low, metric.high, metric.unit)
    if metric.spread is not None:
        text += f" ± {shown(metric.spread, metric.unit)}"
    partial = not result.complete and (result.stored or not result.source)
    return f"{text} of {result.counted:,}/{result.asked_for:,}" if partial else text


def _score(value: float, low: float | None, high: float | None, unit: str) -> str:
    text = shown(value, unit)
    return text if low is None or high is None else f"{text} [{shown(low, unit)}, {shown(high, unit)}]"


def rank_text(rank: Rank | None) -> str:
    if rank is None:
        return "-"
    return f"{rank.rank}" if rank.low == rank.high else f"{rank.rank} ({rank.low} to {rank.high})"


def unit_of(board: Board, title: str) -> str:
    """Of the benchmark's headline."""
    scored = [r for row in board.rows if (r := row.results.get(title)) is not None and r.summary.metrics]
    return scored[0].summary.headline[1].unit if scored else "%"

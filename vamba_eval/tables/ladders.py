"""Models that were measured with several numbers of frames: which results belong together, and a chart of them in text.

The chart fits a terminal of 80 columns and is plain text, so that it can be pasted and logged.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from vamba_eval.tables.result import Result
from vamba_eval.tables.text import shown, unique

_WIDTH, _BAR = 80, 30


def ladders_of(results: Sequence[Result]) -> list[list[Result]]:
    """The results of each model, benchmark, protocol and way of asking that has several numbers of frames, by these."""
    alike: dict[tuple[str, str, str, str], list[Result]] = {}
    for result in results:
        if isinstance(result.num_frames, int) and not result.source and result.summary.metrics:
            alike.setdefault((result.model, result.title, result.protocol, result.asked), []).append(result)
    ladders = [sorted(rungs, key=_frames) for rungs in alike.values()]
    return [rungs for rungs in ladders if rungs[0].num_frames != rungs[-1].num_frames]


def charts(results: Sequence[Result]) -> str:
    """Headline scores as bars by the number of frames, a chart for each benchmark and protocol with a ladder, else "".

    Beside the ladders stand what saw no video and what guessing reaches. A whole bar is 100 %, or of scores that are no
    shares the largest. What is the score of a part of the benchmark is marked.
    """
    ladders = ladders_of(results)
    about = unique((rungs[0].title, rungs[0].protocol) for rungs in ladders)
    return "\n".join(_chart(title, protocol, results, ladders) for title, protocol in about)


def _chart(title: str, protocol: str, results: Sequence[Result], ladders: Sequence[Sequence[Result]]) -> str:
    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    alike = [r for r in results if (r.title, r.protocol) == (title, protocol) and not r.source and r.summary.metrics]
    rungs = [rung for ladder in ladders for rung in ladder if rung in alike]
    rows = [*rungs, *(r for r in alike if not r.reads_video and r not in rungs)]
    name, headline = rows[0].summary.headline
    whole = 1.0 if headline.unit == "%" else max(r.summary.headline[1].value for r in rows) or 1.0
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(max_width=21, no_wrap=True)
    table.add_column(justify="right", min_width=4)
    table.add_column(min_width=_BAR)
    table.add_column(justify="right", min_width=5)
    table.add_column(min_width=12)
    partial, before = not all(row.complete for row in rows), ""
    for row in rows:
        metric = row.summary.headline[1]
        interval = ""
        if metric.low is not None and metric.high is not None:
            interval = f"[{shown(metric.low, metric.unit)}, {shown(metric.high, metric.unit)}]"
        label = f"{row.model} {row.asked}".rstrip()
        bar = Bar(whole, 0, max(0.0, metric.value), width=_BAR)
        frames = "-" if row.num_frames is None else str(row.num_frames)
        value = shown(metric.value, metric.unit) + (" " if row.complete else "†") * partial
        table.add_row(Text(label * (label != before)), frames, bar, value, interval)
        before = label
    chance = max(rows, key=lambda row: (row.chance is not None, row.answered)).chance
    if chance is not None:
        dots = "·" * round(_BAR * max(0.0, min(1.0, chance / whole)))
        table.add_row(Text("guessing"), "", dots, shown(chance, headline.unit) + " " * partial, "")
    file = io.StringIO()
    console = Console(file=file, width=_WIDTH, color_system=None, highlight=False, markup=False)
    console.print(f"{title}: {name} by number of frames, protocol {protocol}\n")
    console.print(table)
    if partial:
        console.print("† of a part of the benchmark's questions")
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def _frames(result: Result) -> int:
    assert isinstance(result.num_frames, int)
    return result.num_frames

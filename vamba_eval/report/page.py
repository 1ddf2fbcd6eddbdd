"""Runs to one page: tables, plots and every question with its frames and responses, in a single HTML file.

The page asks nothing of any network: its style, its script, plotly.js (from the installed package) and all data are in
it, and its content security policy forbids the rest: of scripts and style sheets, those act whose hashes it names.
Style attributes do, since Plotly sets them. What models and annotations say is text there and never markup.
The page's script is page.js beside this module; here is what it is given.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vamba_eval._version import __version__
from vamba_eval.contracts import Metric, Score, UserError
from vamba_eval.plain import json_text, valid
from vamba_eval.score.scored import ScoredRun, score_runs, verdict_of
from vamba_eval.secrets import without_secrets
from vamba_eval.store.records import Record
from vamba_eval.store.thumbnails import read_strip
from vamba_eval.tables.frontier import takes_part
from vamba_eval.tables.items import ItemAnalysis, analyses_of
from vamba_eval.tables.leaderboard import Leaderboard
from vamba_eval.tables.provenance import EXPLAINED as PROVENANCE_EXPLAINED
from vamba_eval.tables.provenance import Provenance
from vamba_eval.tables.result import Result
from vamba_eval.tables.robustness import EXPLAINED, robustness_rows
from vamba_eval.tables.text import shown, unique

_GIB = 1 << 30


_HERE = Path(__file__).resolve().parent


# What can become of a response; the page's script knows them by place.
STATES = ("right", "wrong", "partial", "unparsed", "failed", "neither")


# A prompt can hold an hour of subtitles, a response can run away. Of longer texts the page has the two ends.
_LONGEST_TEXT = 6000


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

    Raises UserError where there is no run or no answer, where ``output`` cannot be written, and where Plotly or Jinja2
    is not installed.
    """
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UserError(f"reports need Plotly and Jinja2 ({error}): pip install 'vamba-eval[report]'") from error
    paths, output = list(paths), Path(output)
    board, runs = Leaderboard.with_runs(score_runs(paths, protocol, judge), published=published)
    if not board.results:
        raise UserError("the runs there have no answers yet")
    content = _Content(board, runs, max_thumbnails)
    # Compressed, since it is most of a small page. The browser unpacks it when the first plot comes into view.
    plotly = get_plotlyjs()
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    style = (_HERE / "page.css").read_text(encoding="utf-8")
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
            "items": [_items_section(each) for each in content.items.analyses],
            "items_left_out": content.items.left_out,
            "notes": board.notes(),
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


@dataclass
class _System:
    """A model as it was asked in one way: what has one color, and one line under each question."""

    model: str
    protocol: str
    looks: bool
    asked: str
    runs: list[ScoredRun] = field(default_factory=list)
    frames: list[Any] = field(default_factory=list)
    label: str = ""


class _Content:
    """The page's data; ``data`` is what its script gets."""

    def __init__(self, board: Leaderboard, runs: Sequence[ScoredRun], max_thumbnails: int) -> None:
        results = [result for result in board.results if not result.source]
        reported = [result for result in board.results if result.source]
        self.tasks = list(dict.fromkeys(result.title for result in [*results, *reported]))
        self.models = list(dict.fromkeys(result.model for result in results))
        pairs = sorted(zip(results, runs, strict=True), key=self._order)
        results, runs = [result for result, _ in pairs], [run for _, run in pairs]
        self.systems, number = _systems(pairs)
        self._max_thumbnails = max_thumbnails
        self._frontier = {id(result) for result in board.frontier()}
        self._marks_frontier = any(note.startswith("◆") for note in board.notes())
        self._strings: dict[str, int] = {}
        self._strips: dict[str, int | None] = {}
        self._strip_facts: list[dict[str, Any]] = []
        self.jpegs: list[str] = []
        self.left_out = 0
        self.items = analyses_of(runs)
        of_system = [number[index] for index in range(len(runs))]
        rows: list[tuple[str, int | None, Result]]
        rows = [(self.systems[index].label, index, r) for index, r in zip(of_system, results, strict=True)]
        rows += [(f"{r.model} (reported)", None, r) for r in reported]
        self.columns, self.table = self._table(rows)
        self.provenance = _provenances(rows)
        self.data: dict[str, Any] = {
            "states": STATES,
            "tasks": self.tasks,
            "models": self.models,
            "systems": [
                {
                    "label": system.label,
                    "model": self.models.index(system.model),
                    "frames": _one_of(system.frames),
                    "looks": system.looks,
                }
                for system in self.systems
            ],
            "results": [self._result(label, index, result) for label, index, result in rows],
            "questions": self._questions(list(zip(of_system, runs, strict=True))),
        }
        self.data |= {"strings": list(self._strings), "strips": self._strip_facts}

    def _order(self, pair: tuple[Result, ScoredRun]) -> tuple[int, int, int]:
        """By benchmark, then by model, then by the number of frames."""
        result, _ = pair
        frames = result.num_frames if isinstance(result.num_frames, int) else 0
        return self.tasks.index(result.title), self.models.index(result.model), frames

    def counts(self) -> str:
        videos = {(question["task"], question["video"]) for question in self.data["questions"]}
        parts = [(len(self.models), "model"), (len({r["task"] for r in self.data["results"]}), "benchmark")]
        parts += [(len(self.data["questions"]), "question"), (len(videos), "video")]
        return " · ".join(f"{count:,} {word}{'' if count == 1 else 's'}" for count, word in parts)

    # ---- results

    def _result(self, label: str, system: int | None, result: Result) -> dict[str, Any]:
        row = result.row()
        return {
            "system": system,
            "label": label,
            "task": self.tasks.index(result.title),
            "frames": result.num_frames,
            "metric": row["metric"],
            "best": row["best"],
            "unit": row["unit"],
            "score": row["score"],
            "low": row["ci95_low"],
            "high": row["ci95_high"],
            "chance": row["chance"],
            "answered": row["answered"],
            # A model that sees no video costs nothing; beside others it would only stretch the axis.
            "latency": row["first_answer_s"] if result.reads_video else None,
            "latency_p5": row["first_answer_s_p5"],
            "latency_p95": row["first_answer_s_p95"],
            "frontier": id(result) in self._frontier,
            # Who is compared with whom for a frontier; None for those that take no part.
            "alike": f"{result.protocol} {result.hardware}" if takes_part(result) else None,
            "peak": row["peak_memory_bytes"] / _GIB if result.reads_video and row["peak_memory_bytes"] else None,
            "peak_kind": row["peak_memory_kind"],
            "hardware": row["hardware"],
            "source": row["source"],
            "breakdowns": {
                group: {value: _interval(metric) for value, metric in sorted(members.items())}
                for group, members in result.summary.breakdowns.items()
            },
        }

    def _table(self, rows: Sequence[tuple[str, int | None, Result]]) -> tuple[list[dict[str, Any]], list[Any]]:
        """Columns and rows of the headline table; columns that say nothing are left out."""
        kinds = {result.peak_kind for *_, result in rows if result.peak_kind}
        cells = [_cells(label, result, several_kinds=len(kinds) > 1) for label, _, result in rows]
        alike = len({(row["Model"], row["Benchmark"]) for row in cells}) < len(cells)
        units = {
            "Score": "% or points" if any(result.row()["unit"] not in ("%", None) for *_, result in rows) else "%",
            "First answer": "s, median",
            "5th – 95th": "percentile, s",
            "Memory": "peak GiB" + (f", {min(kinds)}" if len(kinds) == 1 else ""),
            "Encode": "s a video",
            "Answer": "s a question",
            "Latency": "s, median",
            "At once": "requests",
            "Prompt": "tokens",
            "New": "tokens",
            "$/1,000": "questions",
            "$/right": "answer",
            "Chance": "%",
        }
        needless = {"Benchmark": len(self.tasks) < 2, "Run": not alike}
        needless["Protocol"] = len({result.protocol for *_, result in rows if not result.source}) < 2
        columns: list[dict[str, Any]] = [
            {"name": name, "unit": units.get(name, ""), "numeric": name not in _TEXT_COLUMNS}
            for name in cells[0]
            if not needless.get(name) and any(row[name][0] for row in cells)
        ]
        lines = []
        for (_, system, result), row in zip(rows, cells, strict=True):
            model = None if system is None else self.models.index(self.systems[system].model)
            if self._marks_frontier and id(result) in self._frontier:
                row["Score"] = (f"◆ {row['Score'][0]}", row["Score"][1])
            lines.append((model, result.title, bool(result.source), [row[column["name"]] for column in columns]))
        return columns, lines

    # ---- questions

    def _questions(self, runs: Sequence[tuple[int, ScoredRun]]) -> list[dict[str, Any]]:
        questions: dict[tuple[Any, ...], dict[str, Any]] = {}
        titles: Counter[str] = Counter()
        kinds = _kinds(self.items.analyses)
        for system, run in runs:
            scores = iter(run.scored)
            split = run.fingerprint.get("split")
            for record in run.records:
                score = next(scores).score if record.answered else None
                published = record.asked().rotated(-record.rotation)
                key = (run.title, record.question, published.options, published.answer)
                question = questions.get(key)
                if question is None:
                    name = f"{run.task_name}{':' + split if split else ''}/{record.question}"
                    titles[name] += 1
                    question = questions[key] = {
                        "key": name if titles[name] == 1 else f"{name}~{titles[name]}",
                        "task": self.tasks.index(run.title),
                        "id": record.question,
                        "video": record.video,
                        "text": -1,
                        "options": [self._string(option) for option in published.options],
                        "answer": published.answer,
                        "groups": record.groups,
                        "kinds": sorted(kinds[key]),
                        "responses": [],
                    }
                if question["text"] < 0 and record.text:
                    question["text"] = self._string(record.text)
                question["responses"].append(self._response(system, run, record, score))
        return list(questions.values())

    def _response(self, system: int, run: ScoredRun, record: Record, score: Score | None) -> list[Any]:
        """The fields that page.js unpacks, in its order; what is rarely there comes last, as an object."""
        rare: dict[str, Any] = {}
        if score is not None and score.drawn:
            rare["drawn"] = True
        if score is not None and (others := {n: v for n, v in score.values.items() if n != "correct"}):
            rare["values"] = others
        if notes := [note for note in (record.clip_note, _asked_how(record)) if note]:
            rare["note"] = "; ".join(notes)
        if record.finish_reason == "length":
            rare["cut"] = True
        text = record.response if record.answered else record.error
        digest = record.frames_digest if self.systems[system].looks else None
        return [
            system,
            STATES.index(_state(run, score)),
            self._string(text or ""),
            None if score is None else record.trial.published(score.extracted, len(record.options)),
            -1 if record.prompt is None else self._string(record.prompt),
            self._strip(run.folder, digest),
            record.seed,
            _rounded(record.encode_s),
            _rounded(record.generate_s),
            record.num_tokens,
            rare,
        ]

    def _string(self, text: str) -> int:
        """The place of ``text`` in the table of strings, most of which occur often."""
        if len(text) > _LONGEST_TEXT:
            left_out = len(text) - _LONGEST_TEXT
            text = f"{text[:2000]}\n[… {left_out:,} characters are left out here …]\n{text[2000 - _LONGEST_TEXT :]}"
        return self._strings.setdefault(text, len(self._strings))

    def _strip(self, folder: Path, digest: str | None) -> int | None:
        """The place of the clip's thumbnails among the page's; None where there are none."""
        if digest is None:
            return None
        if self._strips.get(digest) is None and (strip := read_strip(folder, digest)) is not None:
            self._strips[digest] = len(self._strip_facts)
            pictured = len(self.jpegs) < self._max_thumbnails
            facts = {"indices": strip.frame_indices, "times": strip.timestamps_s, "total": strip.total}
            self._strip_facts.append({**facts, "aspect": strip.aspect, "image": len(self.jpegs) if pictured else None})
            if pictured:
                self.jpegs.append(base64.b64encode(strip.jpeg).decode())
            else:
                self.left_out += 1
        return self._strips.setdefault(digest, None)


def _provenances(rows: Sequence[tuple[str, int | None, Result]]) -> list[tuple[str, str]]:
    """Of each system, what it saw and how it ran, over all benchmarks."""
    own: dict[str, list[Provenance]] = defaultdict(list)
    for label, system, result in rows:
        if system is not None:
            own[label].append(result.provenance)
    return [(label, Provenance.merged(each).in_full()) for label, each in own.items()]


def _systems(pairs: Sequence[tuple[Result, ScoredRun]]) -> tuple[list[_System], dict[int, int]]:
    """The systems, and to which of them each of ``pairs`` belongs.

    A model that was asked in one way on several benchmarks is one system, in however many runs. "One way" is its
    identity, the protocol, and the sampling, where each task's own counts as the same. Repetitions are told apart by
    run.
    """
    ways: dict[str, list[_System]] = defaultdict(list)
    systems: list[_System] = []
    number = {}
    for index, (result, run) in enumerate(pairs):
        own = run.task.sampling.describe()
        sampling = run.fingerprint["sampling"]
        identity = {name: value for name, value in run.identity.items() if name != "reads_video"}
        about = [run.model, identity, run.protocol, result.asked, "own" if sampling == own else sampling]
        way = json.dumps(about, sort_keys=True)
        for system in ways[way]:
            if all(other.title != run.title for other in system.runs):
                break
        else:
            system = _System(run.model, run.protocol, run.identity.get("reads_video", True), result.asked)
            ways[way].append(system)
            systems.append(system)
        system.runs.append(run)
        system.frames.append(result.num_frames)
        number[index] = systems.index(system)
    _label(systems)
    return systems, number


def _label(systems: Sequence[_System]) -> None:
    """Name each by its model and as much else as tells it from the others."""

    def by_frames(system: _System) -> str:
        frames = _one_of(system.frames)
        return f" @{frames}" if frames is not None else ""

    steps = [
        by_frames,
        lambda s: f" · {s.asked}" if s.asked else "",
        lambda s: f" · {s.protocol}",
        lambda s: f" · {s.runs[0].folder.name}",
    ]
    steps += [lambda s: f" · {s.runs[0].folder}"]
    for system in systems:
        system.label = system.model
    for step in steps:
        alike = Counter(system.label for system in systems)
        groups = defaultdict(set)
        for system in systems:
            groups[system.label].add(step(system))
        for system in systems:
            label = system.label
            if alike[label] > 1 and len(groups[label]) > 1:
                system.label = label + step(system)


def _items_section(analysis: ItemAnalysis) -> dict[str, Any]:
    """What the page shows of one benchmark's questions: tables as rows of cells, the first with their heads."""
    tables = [
        [list(rows[0]), *(list(row.values()) for row in rows)]
        for rows in (analysis.count_rows(), analysis.standing_rows())
    ]
    about = f"{len(analysis.items):,} questions that all of these models answered; protocol {analysis.protocol}"
    return {
        "title": analysis.title,
        "about": about,
        "tables": tables,
        "meaning": analysis.meaning(),
        "notes": analysis.notes,
    }


def _kinds(analyses: Iterable[ItemAnalysis]) -> dict[tuple[Any, ...], set[str]]:
    """Of each question, by its key, who answers it: see ``Item.kinds``; under any protocol where there are several."""
    kinds: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for analysis in analyses:
        for item in analysis.items:
            kinds[analysis.title, item.question, item.options, item.answer].update(item.kinds)
    return kinds


# -------------------------------------------------------------------------------------------- the table's cells

_Cell = tuple[str, Any]  # what it shows, and by what it is sorted; None where nothing is known


_TEXT_COLUMNS = ("Model", "Benchmark", "Run", "Protocol", "Asked", "Saw", "Ran as", "Hardware")


def _cells(label: str, result: Result, *, several_kinds: bool) -> dict[str, _Cell]:
    """By column, in their order."""
    row = result.row()
    best = row["best"] or 1.0
    kind = f" ({result.peak_kind})" if several_kinds else ""

    def number(name: str, text: Callable[[Any], str] = _three_digits, scale: float = 1) -> _Cell:
        return ("", None) if row[name] is None else (text(row[name] * scale), row[name] * scale)

    def score(name: str) -> _Cell:
        return number(name, lambda value: shown(value, row["unit"] or "%"))

    def span(low: _Cell, high: _Cell) -> _Cell:
        return (f"{low[0]} – {high[0]}", low[1]) if low[0] and high[0] else ("", None)

    # In this process a prompt is the question alone, and seconds are a model's own: neither is to be put beside these.
    def served(name: str, scale: float = 1) -> _Cell:
        return number(name, scale=scale) if result.provenance.served else ("", None)

    remark = " (random weights)" if result.random_weights else ""
    remark = f" (trained on {result.trained_on})" if result.trained_on else remark
    saw, ran = (" · ".join(parts) for parts in (result.provenance.saw(), result.provenance.ran()))
    count = "{:,}".format if not result.source else lambda _: ""
    return {
        "Model": (label + remark, label),
        "Benchmark": (result.title, result.title),
        "Run": (result.run, result.run),
        "Protocol": (result.protocol, result.protocol),
        "Frames": ("", None) if result.num_frames is None else (str(result.num_frames), result.num_frames),
        "Asked": (result.asked, result.asked),
        "Score": (score("score")[0], row["score"] and row["score"] / best),
        "95 % interval": span(score("ci95_low"), score("ci95_high")),
        "First answer": number("first_answer_s"),
        "5th – 95th": span(number("first_answer_s_p5"), number("first_answer_s_p95")),
        "Memory": number("peak_memory_bytes", f"{{:.2f}}{kind}".format, 1 / _GIB),
        "Select": number("select_s_per_question"),
        "Encode": number("encode_s_per_video"),
        "Answer": number("generate_s_per_question"),
        "Tokens/s": number("tokens_per_s"),
        "Latency": served("latency_s"),
        "At once": served("in_flight"),
        "Prompt": served("prompt_tokens"),
        "New": served("new_tokens"),
        "$/1,000": served("price_per_question", 1000),
        "$/right": served("price_per_correct"),
        "Answered": number("answered", lambda n: count(n) + ("" if result.complete else f" / {result.asked_for:,}")),
        "Unparsed": number("unparsed", count),
        "Failed": number("failed", count),
        "Chance": number("chance", shown),
        "Saw": (saw, saw or None),
        "Ran as": (ran, ran or None),
        "Hardware": (result.hardware, result.hardware),
    }


def _state(run: ScoredRun, score: Score | None) -> str:
    """What became of a response; "neither" where nobody has said what it is worth."""
    if score is None:
        return "failed"
    return verdict_of(run.task.measures, score.values) or "neither" if score.parsed else "unparsed"


def _asked_how(record: Record) -> str:
    """How else than its protocol asks a question was asked."""
    said = []
    if record.rotation:
        first = record.trial.published("A", len(record.options))
        said.append(f"with its options turned by {record.rotation}: what it calls A is {first} here")
    if record.variant:
        said.append(f"in wording {record.variant + 1}")
    return f"asked {', '.join(said)}" if said else ""


def _interval(metric: Metric) -> list[Any]:
    return [metric.value, metric.low, metric.high, metric.num_questions]


def _one_of(values: Sequence[Any]) -> Any:
    """The value that all are, or None."""
    return values[0] if len(set(values)) == 1 else None


def _three_digits(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _json_in_html(value: Any) -> str:
    """JSON for a script element: ``<`` is escaped, so that no text in it can end the element."""
    text = json_text(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _integrity(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

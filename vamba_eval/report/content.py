"""What the page shows of runs, as plain data: systems, results, questions and the frames that were seen.

A system is a model as it was asked in one way: what has one color and shape, and a line under each question.
"""

from __future__ import annotations

import base64
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vamba_eval.contracts import Metric, Score
from vamba_eval.report.cells import TEXT_COLUMNS, cells
from vamba_eval.score.scored import ScoredRun, verdict_of
from vamba_eval.store.records import Record
from vamba_eval.store.thumbnails import read_strip
from vamba_eval.tables.frontier import takes_part
from vamba_eval.tables.items import ItemAnalysis, analyses_of
from vamba_eval.tables.leaderboard import Leaderboard
from vamba_eval.tables.provenance import Provenance
from vamba_eval.tables.result import Result

_GIB = 1 << 30

# What can become of a response; the page's script knows them by place.
STATES = ("right", "wrong", "partial", "unparsed", "failed", "neither")


# A prompt can hold an hour of subtitles, a response can run away. Of longer texts the page has the two ends.
_LONGEST_TEXT = 6000


@dataclass
class System:
    """A model as it was asked in one way: what has one color, and one line under each question."""

    model: str
    protocol: str
    looks: bool
    asked: str
    runs: list[ScoredRun] = field(default_factory=list)
    frames: list[Any] = field(default_factory=list)
    label: str = ""


class Content:
    """The page's data; ``data`` is what its script gets.

    ``measured`` has the number of the system, the result and the run of each measured row.
    """

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
        self.places: dict[tuple[int, str, str], int] = {}  # of questions, by system, benchmark and id
        of_system = [number[index] for index in range(len(runs))]
        self.measured = list(zip(of_system, results, runs, strict=True))
        self.system_of = {id(result): system for system, result, _ in self.measured}
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
            "price": None if row["price_per_question"] is None else 1000 * row["price_per_question"],
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
        shown_cells = [cells(label, result, several_kinds=len(kinds) > 1) for label, _, result in rows]
        alike = len({(row["Model"], row["Benchmark"]) for row in shown_cells}) < len(shown_cells)
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
            {"name": name, "unit": units.get(name, ""), "numeric": name not in TEXT_COLUMNS}
            for name in shown_cells[0]
            if not needless.get(name) and any(row[name][0] for row in shown_cells)
        ]
        lines = []
        for (_, system, result), row in zip(rows, shown_cells, strict=True):
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
                        "place": len(questions),
                    }
                self.places[system, run.title, record.question] = question["place"]
                if question["text"] < 0 and record.text:
                    question["text"] = self._string(record.text)
                question["responses"].append(self._response(system, run, record, score))
        for question in questions.values():
            del question["place"]
        return list(questions.values())

    def _response(self, system: int, run: ScoredRun, record: Record, score: Score | None) -> list[Any]:
        """The fields that questions.js unpacks, in its order; what is rarely there comes last, as an object."""
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


def _systems(pairs: Sequence[tuple[Result, ScoredRun]]) -> tuple[list[System], dict[int, int]]:
    """The systems, and to which of them each of ``pairs`` belongs.

    A model that was asked in one way on several benchmarks is one system, in however many runs. "One way" is its
    identity, the protocol, and the sampling, where each task's own counts as the same. Repetitions are told apart by
    run.
    """
    ways: dict[str, list[System]] = defaultdict(list)
    systems: list[System] = []
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
            system = System(run.model, run.protocol, run.identity.get("reads_video", True), result.asked)
            ways[way].append(system)
            systems.append(system)
        system.runs.append(run)
        system.frames.append(result.num_frames)
        number[index] = systems.index(system)
    _label(systems)
    return systems, number


def _label(systems: Sequence[System]) -> None:
    """Name each by its model and as much else as tells it from the others."""

    def by_frames(system: System) -> str:
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


def items_section(analysis: ItemAnalysis) -> dict[str, Any]:
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


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")

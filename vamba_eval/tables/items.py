"""What runs say about a benchmark's questions: which need no video, which all models answer, which tell models apart.

Item analysis as in classical test theory (Lord & Novick 1968), over all models of the runs given, on the questions that
all of them answered. docs/statistics.md has the formulas.
"""

from __future__ import annotations

import io
import textwrap
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from vamba_eval.contracts import LETTERS, Groups, Measure, Metric, Score, ScoredRecord, UserError
from vamba_eval.files import replace_text
from vamba_eval.plain import json_text
from vamba_eval.score.scored import Scored, ScoredRun, credit_of, expected_of_guesses, is_right
from vamba_eval.score.statistics import count_chances, item_rest, majority_chance, metric_of
from vamba_eval.tables.systems import System, choose_systems, model_of, other_differences, shared_questions
from vamba_eval.tables.text import markdown_table, short, shown, without_html, write_csv, write_rows

LISTS = ("none", "all", "blind")
_LISTED = 20  # questions shown in the terminal; files have all
_WIDTH = 80  # of what the terminal shows
_LEAST_MODELS = 4  # a correlation over fewer says nothing


@dataclass(frozen=True)
class Item:
    """A question, and the systems that answer it: of ``looking`` and of ``blind`` ones.

    ``guessing`` is the chance that one letter drawn at random is right; None where there is nothing to draw.
    ``discrimination`` is its item-rest correlation; None where there is none (see ``item_rest``).
    """

    question: str
    video: str
    groups: Groups
    text: str
    options: tuple[str, ...]
    answer: str | None
    looking: Mapping[str, bool]
    blind: Mapping[str, bool]
    guessing: float | None = None
    discrimination: float | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of "all", "some" or "none" (who looks and answers it), and "blind", "some blind" or "no blind"."""
        kinds = []
        for right, names in (
            (self.looking, ("none", "some", "all")),
            (self.blind, ("no blind", "some blind", "blind")),
        ):
            if right:
                kinds.append(names[2 if all(right.values()) else 1 if any(right.values()) else 0])
        return tuple(kinds)

    def row(self) -> dict[str, Any]:
        return {
            "question": self.question,
            "video": self.video,
            "groups": "; ".join(f"{name}={_joined(value)}" for name, value in self.groups.items()),
            "text": self.text,
            "answer": self.answer,
            "kinds": "; ".join(self.kinds),
            "looking": len(self.looking),
            "looking_right": sum(self.looking.values()),
            "looking_right_are": "; ".join(name for name, right in self.looking.items() if right),
            "blind": len(self.blind),
            "blind_right": sum(self.blind.values()),
            "blind_right_are": "; ".join(name for name, right in self.blind.items() if right),
            "guessing": self.guessing,
            "discrimination": self.discrimination,
        }


@dataclass(frozen=True)
class Standing:
    """A system's headline on all shared questions and, of one that looks, on those that no blind model answers; None
    where it is not defined."""

    name: str
    looks: bool
    everywhere: Metric | None
    missed_blind: Metric | None = None


@dataclass(frozen=True)
class ItemAnalysis:
    """One benchmark's questions under one protocol. ``standings`` come best first, those of systems that look before
    blind ones.

    ``guesses`` are the headlines that guessing is expected to reach on all shared questions and on those that no blind
    model answers; ``guessed`` how many questions 0, 1, ..., all looking (blind) systems would answer by guessing;
    ``num_models`` how many different models look, with whatever numbers of frames.
    """

    task: str
    title: str
    protocol: str
    headline: str
    unit: str
    items: Sequence[Item]
    standings: Sequence[Standing]
    guesses: tuple[float | None, float | None]
    guessed: Mapping[str, Sequence[float]]
    num_models: int
    notes: Sequence[str]

    @property
    def looking(self) -> list[str]:
        return [each.name for each in self.standings if each.looks]

    @property
    def blind(self) -> list[str]:
        return [each.name for each in self.standings if not each.looks]

    @property
    def discriminations(self) -> list[float]:
        return [item.discrimination for item in self.items if item.discrimination is not None]

    def of_kind(self, kind: str) -> list[Item]:
        return [item for item in self.items if kind in item.kinds]

    def count_rows(self) -> list[dict[str, str]]:
        """How many questions all, some and none of the looking systems answer, and how many so many blind ones."""
        looking, blind = len(self.looking), len(self.blind)
        counted: list[tuple[str, int, str, range]] = []
        if looking == 1:
            counted += [("the looking model answers", len(self.of_kind("all")), "looking", range(1, 2))]
            counted += [("it does not answer", len(self.of_kind("none")), "looking", range(1))]
        elif looking:
            for text, kind, numbers in (
                (
                    f"{'both' if looking == 2 else f'all {looking}'} looking models answer",
                    "all",
                    range(looking, looking + 1),
                ),
                ("only some of them answer", "some", range(1, looking)),
                ("none of them answers", "none", range(1)),
            ):
                counted.append((text, len(self.of_kind(kind)), "looking", numbers))
        by_number = Counter(sum(item.blind.values()) for item in self.items)
        for number in range(blind, -1, -1) if blind else ():
            if blind == 1:
                text = "the blind model answers" if number else "no blind model answers"
            else:
                text = f"{number or 'none'} of {blind} blind models answer{'' if number > 1 else 's'}"
            counted.append((text, by_number[number], "blind", range(number, number + 1)))
        rows = []
        for text, number, who, numbers in counted:
            row = {"Questions that": text, "Number": f"{number:,}", "%": shown(number / len(self.items))}
            if self.guessed:
                expected = sum(self.guessed[who][place] for place in numbers)
                row["% by guessing"] = shown(expected / len(self.items))
            rows.append(row)
        return rows

    def standing_rows(self, width: int | None = None) -> list[dict[str, str]]:
        """The headline of each system, and what guessing reaches; names of more than ``width`` characters are cut."""
        rows = []
        whole, missed = f"All {len(self.items):,}", f"{len(self.of_kind('no blind')):,} missed blind"
        for each in self.standings:
            row = {"Model": _cut(each.name, width), whole: _cell(each.everywhere)}
            if self.blind:
                row[missed] = _cell(each.missed_blind)
            rows.append(row)
        if self.guesses[0] is not None:
            row = {"Model": "(guessing)", whole: shown(self.guesses[0], self.unit)}
            if self.blind:
                row[missed] = "-" if self.guesses[1] is None else shown(self.guesses[1], self.unit)
            rows.append(row)
        return rows

    def remarks(self) -> list[str]:
        """What the tables mean, and what must be known of these runs."""
        return [*self.meaning(), *self.notes]

    def meaning(self) -> list[str]:
        looking, blind = len(self.looking), len(self.blind)
        said = [
            f"{self.headline} in {self.unit}, with 95 % intervals clustered by video. A question counts as answered "
            "where a model's responses to it earn more than half of the best possible, on average."
        ]
        if self.guessed:
            said.append(
                '"% by guessing": as many models that draw letters independently. Models that share habits (a '
                "favourite letter, common training data) agree more often than that."
            )
        if blind:
            said.append(
                "missed blind: the questions that no blind model answers, not even by luck. A model that falls back on "
                "what it would say blind is wrong there, so its score may lie below guessing."
            )
        else:
            said.append("no blind model is here, so nothing tells which questions need no video: run with --blind")
        if not looking:
            said.append("no model here looks at the videos, so nothing is said of which questions are too easy or hard")
        elif looking == 1:
            said.append("one model alone looks: which questions tell models apart cannot be said")
        else:
            best = self.standings[0]
            said.append(
                f"best: {best.name} with {_cell(best.everywhere)}; questions that only some answer are all that tells "
                "these models apart"
            )
        return said + self._about_discrimination()

    def _about_discrimination(self) -> list[str]:
        if len(self.looking) < 2:
            return []
        number = self.num_models
        if number < _LEAST_MODELS:
            return [f"discrimination needs at least {_LEAST_MODELS} different models that look; there are {number}"]
        found = self.discriminations
        if not found:
            return ["discrimination: no question has one, since all models do alike"]
        negative = sum(value < 0 for value in found)
        return [
            f"discrimination (item-rest correlation over {len(self.looking)} systems) is {fmean(found):.2f} on average "
            f"of {len(found):,} questions; {negative:,} are below 0: weaker models answer these rather than stronger "
            f"ones. One question's value is rough with {number} models (error about {(number - 1) ** -0.5:.2f})"
        ]

    def listed(self, kind: str, number: int | None = None) -> str:
        """A table of the questions of one of ``LISTS``, the first ``number``."""
        heading = {
            "none": "Questions that no looking model answers",
            "all": "Questions that all looking models answer",
            "blind": "Questions that all blind models answer",
        }[kind]
        chosen = self.of_kind(kind)
        if not chosen:
            needed = "blind" if kind == "blind" else "looking"
            there = self.blind if kind == "blind" else self.looking
            return f"{heading}: {'none' if there else f'there is no {needed} model'}"
        shortened = number is not None  # for a terminal: with the cells between them, text takes what ids leave
        width = min(22, max(10, *(len(item.question) for item in chosen[:number]), 0)) if shortened else 200
        rows = [
            {
                "Question": _cut(short(item.question, 200), width),
                "Answer": short(_answer(item), 14 if shortened else 60),
                "Looking": f"{sum(item.looking.values())}/{len(item.looking)}",
                **({"Blind": f"{sum(item.blind.values())}/{len(item.blind)}"} if self.blind else {}),
                "Text": short(item.text, 34 - width if shortened else 120),
            }
            for item in chosen[:number]
        ]
        more = len(chosen) - len(rows)
        tail = f"\n\n... and {more:,} more (--output DIR writes all)" if more else ""
        return f"{heading}: {len(chosen):,} of {len(self.items):,}\n\n{markdown_table(rows)}{tail}"

    def to_markdown(self, kind: str | None = None, number: int | None = None, width: int | None = None) -> str:
        """The tables, what must be known of them, and the questions of one of ``LISTS``, the first ``number``."""
        looking, blind = len(self.looking), len(self.blind)
        videos = len({item.video for item in self.items})
        about = (
            f"{len(self.items):,} questions about {videos:,} videos that all of these models answered: {looking} that "
            f"look at the video{'s' if looking == 1 else ''}, {blind} blind."
        )
        parts = [f"## {self.title}, protocol {self.protocol}", textwrap.fill(about, _WIDTH)]
        parts += [markdown_table(self.count_rows(), right=_NUMBERS), markdown_table(self.standing_rows(width))]
        parts.append("\n".join(_bullet(remark) for remark in self.remarks()))
        if kind is not None:
            parts.append(self.listed(kind, number))
        return without_html("\n\n".join(parts))

    def rows(self, kind: str | None = None) -> list[dict[str, Any]]:
        """One row a question, at full precision."""
        about = {"task": self.task, "benchmark": self.title, "protocol": self.protocol}
        return [{**about, **item.row()} for item in (self.items if kind is None else self.of_kind(kind))]

    def to_json(self, kind: str | None = None) -> dict[str, Any]:
        found = self.discriminations
        return {
            "task": self.task,
            "benchmark": self.title,
            "protocol": self.protocol,
            "metric": self.headline,
            "questions_shared": len(self.items),
            **{name.replace(" ", "_"): len(self.of_kind(name)) for name in _KINDS},
            "guessing": self.guesses[0],
            "guessing_missed_blind": self.guesses[1],
            "questions_by_guessing": {who: list(counts) for who, counts in self.guessed.items()},
            "discrimination": fmean(found) if found else None,
            "models": [
                {
                    "model": each.name,
                    "looks": each.looks,
                    "all": each.everywhere and vars(each.everywhere),
                    "missed_blind": each.missed_blind and vars(each.missed_blind),
                }
                for each in self.standings
            ],
            "notes": self.remarks(),
            "questions": [item.row() for item in (self.items if kind is None else self.of_kind(kind))],
        }


_NUMBERS = ("Number", "%", "% by guessing")
_KINDS = ("all", "some", "none", "blind", "some blind", "no blind")


@dataclass(frozen=True)
class ItemAnalyses:
    """Those of all benchmarks, and a line for each run or benchmark that is left out."""

    analyses: Sequence[ItemAnalysis]
    left_out: Sequence[str] = ()

    def render(self, form: str, kind: str | None = None) -> str:
        """As text for the terminal (``markdown``), or for another program (``csv``, ``json``)."""
        if form == "json":
            return json_text([each.to_json(kind) for each in self.analyses], indent=2)
        if form == "csv":
            text = io.StringIO()
            write_rows(text, self.rows(kind))
            return text.getvalue().rstrip("\n")
        return self.to_markdown(kind, _LISTED, width=30)

    def rows(self, kind: str | None = None) -> list[dict[str, Any]]:
        return [row for each in self.analyses for row in each.rows(kind)]

    def to_markdown(self, kind: str | None = None, number: int | None = None, width: int | None = None) -> str:
        parts = [each.to_markdown(kind, number, width) for each in self.analyses]
        if self.left_out:
            parts.append("\n".join(_bullet(f"LEFT OUT: {line}") for line in self.left_out))
        return "\n\n".join(parts)

    def save(self, folder: str | Path, kind: str | None = None) -> list[Path]:
        """Write ``items.md``, with all questions of ``kind``, and ``items.csv``, with all questions; their paths."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "items.md", folder / "items.csv"]
        replace_text(paths[0], f"# Questions\n\n{self.to_markdown(kind)}\n")
        write_csv(paths[1], self.rows())
        return paths


def analyse(scored: Scored) -> ItemAnalyses:
    """What ``scored`` says about its questions. Raises UserError where that is nothing, with the reasons."""
    found = analyses_of(scored.runs)
    left_out = [*scored.left_out, *found.left_out]
    if not found.analyses:
        raise UserError("\n".join(["nothing can be said about the questions there", *left_out]))
    return ItemAnalyses(found.analyses, left_out)


def analyses_of(runs: Sequence[ScoredRun]) -> ItemAnalyses:
    """One for each benchmark and protocol; those of which nothing can be said are left out, with the reason."""
    alike: dict[tuple[str, str], list[ScoredRun]] = defaultdict(list)
    for run in runs:
        alike[run.title, run.protocol].append(run)
    analyses, scored = [], Scored()
    for (title, protocol), own in alike.items():
        try:
            analyses.append(_analysis(own))
        except Exception as error:  # a task's measures and its scores of guesses may be somebody's own
            scored.leave_out(f"{title} ({protocol})", error)
    return ItemAnalyses(analyses, scored.left_out)


def _analysis(runs: Sequence[ScoredRun]) -> ItemAnalysis:
    """Of runs of one benchmark under one protocol. Raises UserError where no question can be compared."""
    chosen, notes = choose_systems(runs)
    shared, more = shared_questions(chosen)
    notes += [*more, *other_differences(chosen)]
    if not shared:
        raise UserError("; ".join(["no question that all models answered", *notes]))
    task, first = runs[0].task, chosen[0]
    items = [_item(question, chosen) for question in shared]
    num_models = len({model_of(system.run) for system in chosen if system.looks})
    if num_models >= _LEAST_MODELS:
        values = item_rest([list(item.looking.values()) for item in items])
        items = [replace(item, discrimination=value) for item, value in zip(items, values, strict=True)]
    missed = [item.question for item in items if "no blind" in item.kinds]
    headline, measure = next(iter(task.measures.items()))
    return ItemAnalysis(
        runs[0].task_name,
        runs[0].title,
        runs[0].protocol,
        headline,
        measure.unit,
        items,
        _standings(chosen, measure, shared, missed),
        (_expected(first, measure, shared), _expected(first, measure, missed)),
        _guessed(items, chosen),
        num_models,
        notes,
    )


# ------------------------------------------------------------------------------------------------ what they say


def _item(question: str, systems: Sequence[System]) -> Item:
    record = systems[0].responses[question][0]
    text = next((each for system in systems if (each := system.responses[question][0].question.text)), "")
    right: dict[bool, dict[str, bool]] = {True: {}, False: {}}
    for system in systems:
        values = [each.values for each in system.responses[question]]
        right[system.looks][system.name] = bool(is_right(system.run.task.measures, values))
    asked = record.published
    about = (question, record.video_id, record.groups, text, asked.options, asked.answer)
    return Item(*about, right[True], right[False], _chance_of(record, systems[0].run))


def _letters(record: ScoredRecord, run: ScoredRun) -> list[Score] | None:
    """What each letter would earn; None where there are none to draw, or where a judge would have to say."""
    question = record.question
    if not question.options or question.answer is None or run.task.needs_judge(question):
        return None
    return [run.task.score(question, letter, run.protocol) for letter in LETTERS[: len(question.options)]]


def _chance_of(record: ScoredRecord, run: ScoredRun) -> float | None:
    if (scores := _letters(record, run)) is None:
        return None
    return fmean((credit_of(run.task.measures, score.values) or 0.0) > 0.5 for score in scores)


def _guessed(items: Sequence[Item], systems: Sequence[System]) -> dict[str, list[float]]:
    """How many questions 0, 1, ..., all looking (blind) systems are expected to answer, if each drew a letter for each
    of its responses; nothing where a question has no letters."""
    expected: dict[str, list[float]] = {}
    for who, looks in (("looking", True), ("blind", False)):
        own = [system for system in systems if system.looks == looks]
        expected[who] = [0.0] * (len(own) + 1)
        for item in items:
            if item.guessing is None:
                return {}
            chances = [majority_chance(item.guessing, len(system.responses[item.question])) for system in own]
            expected[who] = [a + b for a, b in zip(expected[who], count_chances(chances), strict=True)]
    return expected


def _expected(system: System, measure: Measure, questions: Sequence[str]) -> float | None:
    """The headline that guessing is expected to reach on ``questions``; None where that is not defined."""
    possible = []
    for question in questions:
        record = system.responses[question][0]
        if (scores := _letters(record, system.run)) is None:
            return None
        possible.append((replace(record, seed=0), scores))
    return expected_of_guesses(measure, possible) if possible else None


def _standings(
    systems: Sequence[System], measure: Measure, shared: Sequence[str], missed: Sequence[str]
) -> list[Standing]:
    standings = []
    for system in systems:
        everywhere = metric_of(measure, _records(system, shared))
        rest = metric_of(measure, _records(system, missed)) if system.looks else None
        standings.append(Standing(system.name, system.looks, everywhere, rest))
    sign = 1 if measure.best > measure.worst else -1

    def order(each: Standing) -> tuple[bool, bool, float]:
        return not each.looks, each.everywhere is None, -sign * each.everywhere.value if each.everywhere else 0.0

    return sorted(standings, key=order)


def _records(system: System, questions: Sequence[str]) -> list[ScoredRecord]:
    return [record for question in questions for record in system.responses[question]]


# ---------------------------------------------------------------------------------------------------------- text


def _cell(metric: Metric | None) -> str:
    if metric is None:
        return "-"
    text = shown(metric.value, metric.unit)
    if metric.low is not None and metric.high is not None:
        text += f" [{shown(metric.low, metric.unit)}, {shown(metric.high, metric.unit)}]"
    return text


def _answer(item: Item) -> str:
    """The right option with its letter, or the reference."""
    place = LETTERS.find(item.answer) if item.answer and len(item.answer) == 1 else -1
    if 0 <= place < len(item.options):
        return f"{item.answer}. {item.options[place]}"
    return item.answer or "-"


def _cut(name: str, width: int | None) -> str:
    """Its middle is left out: names of one model's runs differ at their ends."""
    if width is None or len(name) <= width:
        return name
    return f"{name[: width // 2 - 1]}…{name[width // 2 - width :]}"


def _joined(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def _bullet(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False,
                         break_on_hyphens=False)  # fmt: skip

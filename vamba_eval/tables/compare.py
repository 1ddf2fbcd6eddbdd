"""Why two numbers differ: two models on the same questions, or one run under several protocols.

Differences are paired by question and clustered by video: two models that err on the same questions differ less
surely than their own intervals suggest.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any

from vamba_eval.contracts import JudgedTask, Metric, Score, ScoredRecord, Summary, Task, UserError
from vamba_eval.score.scored import ALL_PROTOCOLS, ScoredRun, scored_runs
from vamba_eval.score.statistics import Z_95
from vamba_eval.tables.text import markdown_table, shown, write_csv

_LISTED = 20  # questions shown in the terminal; files have all


@dataclass(frozen=True)
class Difference:
    """B's score minus A's, on the questions that both answered.

    ``low`` and ``high`` bound its 95 % interval and ``p`` is the two-sided probability of so large a difference between
    equal models (normal approximation); None where the questions are about one video alone.
    """

    group: str
    value: str
    score_a: float
    score_b: float
    difference: float
    low: float | None
    high: float | None
    p: float | None
    num_questions: int
    num_videos: int
    best: float = 1.0

    def row(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Flip:
    """A question on which the two differ; ``score_a`` and ``score_b`` are means over seeds."""

    question: str
    video: str
    groups: Mapping[str, Any]
    answer: str | None
    score_a: float
    score_b: float
    response_a: str
    response_b: str

    def row(self) -> dict[str, Any]:
        return {**vars(self), "groups": "; ".join(f"{name}={value}" for name, value in self.groups.items())}


@dataclass(frozen=True)
class Comparison:
    """Two models on one benchmark (``key`` is its name). ``differences``: the headline first, other metrics, groups.

    ``graded``: a judge grades its responses, so that none of them flips.
    """

    key: str
    title: str
    name_a: str
    name_b: str
    differences: list[Difference]
    flips: list[Flip]
    notes: list[str]
    graded: bool = False

    def to_markdown(self, listed: int | None = _LISTED) -> str:
        """A table of differences, what must be known of them, and the flipped questions (the first ``listed``)."""
        gained = sum(flip.score_b > flip.score_a for flip in self.flips)
        rows = [
            {
                "Group": each.group,
                "Value": each.value,
                "Questions": f"{each.num_questions:,}",
                "A": shown(each.score_a, each.best),
                "B": shown(each.score_b, each.best),
                "B - A": _signed(each.difference, each.best)
                + (
                    f" [{_signed(each.low, each.best)}, {_signed(each.high, each.best)}]"
                    if each.low is not None
                    else ""
                ),
                "p": "-" if each.p is None else f"{each.p:.3f}" if each.p >= 0.001 else "< 0.001",
            }
            for each in self.differences
        ]
        parts = [f"## {self.title}", f"A: {self.name_a}\nB: {self.name_b}", markdown_table(rows)]
        notes = [
            "In %, on the questions that both answered; intervals (95 %) and p are paired by question and clustered by "
            "video. There are many groups: a few of them differ by chance.",
            *self.notes,
        ]
        if not self.graded:
            lost = len(self.flips) - gained
            notes.insert(1, f"{len(self.flips):,} questions flipped: {gained:,} for B, {lost:,} for A")
        parts.append("\n".join(f"- {note}" for note in notes))
        if self.flips:
            chosen = self.flips[:listed]
            parts.append(
                markdown_table(
                    [
                        {
                            "Question": flip.question,
                            "Answer": flip.answer,
                            "A": f"{flip.score_a:g}",
                            "B": f"{flip.score_b:g}",
                            "A's response": _short(flip.response_a),
                            "B's response": _short(flip.response_b),
                        }
                        for flip in chosen
                    ]
                )
            )
            if len(chosen) < len(self.flips):
                parts.append(f"... and {len(self.flips) - len(chosen):,} more (--output DIR writes all)")
        return "\n\n".join(parts)

    def save(self, folder: str | Path, prefix: str = "") -> list[Path]:
        """Write ``compare.md`` and the differences and flips as CSV; their paths."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{prefix}{name}" for name in ("compare.md", "differences.csv", "flips.csv")]
        paths[0].write_text(self.to_markdown(None) + "\n", encoding="utf-8")
        write_csv(paths[1], [each.row() for each in self.differences])
        write_csv(paths[2], [flip.row() for flip in self.flips])
        return paths


def compare(run_a: str, run_b: str, *, protocol: str | None = None) -> list[Comparison]:
    """Each benchmark that both runs have, by the same model of both, or by the one that each has.

    A run is a folder, or ``FOLDER:MODEL`` where it holds several. Raises UserError where nothing can be paired.
    """
    runs_a, runs_b = _chosen(run_a, protocol), _chosen(run_b, protocol)
    pairs = list(_pairs(runs_a, runs_b))
    if not pairs:
        held = [
            f"{run} holds {', '.join(sorted({f'{r.model} on {r.task_name}' for r in runs}))}"
            for run, runs in ((run_a, runs_a), (run_b, runs_b))
        ]
        raise UserError(f"nothing to compare: {'; '.join(held)}. Name the models: compare {run_a}:MODEL {run_b}:MODEL")
    return [_compared(a, b) for a, b in pairs]


def _chosen(argument: str, protocol: str | None) -> list[ScoredRun]:
    folder, colon, model = argument.rpartition(":")
    if not colon or Path(argument).is_dir():
        return scored_runs([argument], protocol)
    runs = scored_runs([folder], protocol)
    if chosen := [run for run in runs if run.model == model]:
        return chosen
    raise UserError(f"{folder} has no model {model!r}; it has {', '.join(sorted({run.model for run in runs}))}")


def _pairs(runs_a: Sequence[ScoredRun], runs_b: Sequence[ScoredRun]) -> Iterator[tuple[ScoredRun, ScoredRun]]:
    for title in dict.fromkeys(run.title for run in runs_a):
        own_a = [run for run in runs_a if run.title == title]
        own_b = [run for run in runs_b if run.title == title]
        same = [(a, b) for a in own_a for b in own_b if a.model == b.model]
        if len(own_a) == len(own_b) == 1:
            same = [(own_a[0], own_b[0])]
        yield from same


def _compared(a: ScoredRun, b: ScoredRun) -> Comparison:
    notes = []
    questions_a, questions_b = _by_question(a), _by_question(b)
    both = questions_a.keys() & questions_b.keys()
    for name, own in (("A", questions_a), ("B", questions_b)):
        if missing := len(own.keys() - both):
            notes.append(f"{missing:,} questions were answered by {name} alone and are left out")
    if unlike := {q for q in both if questions_a[q].asked != questions_b[q].asked}:
        notes.append(f"{len(unlike):,} questions have different options or answers in the two runs and are left out")
    both -= unlike
    if unknown := {q for q in both if not (questions_a[q].is_scored and questions_b[q].is_scored)}:
        why = "have no grade" if isinstance(a.task, JudgedTask) else "have no known answer"
        notes.append(f"{len(unknown):,} questions {why} and are left out")
    both -= unknown
    if not both:
        return Comparison(a.task_name, a.title, _name(a), _name(b), [], [], notes)
    for what, of_a, of_b in (
        ("protocols", a.fingerprint["protocol"], b.fingerprint["protocol"]),
        ("scoring", a.protocol, b.protocol),
        ("sampling", a.fingerprint["sampling"], b.fingerprint["sampling"]),
    ):
        if of_a != of_b:
            notes.append(f"the two differ in {what}: {of_a} and {of_b}")
    order = [q for q in questions_a if q in both]
    if isinstance(a.task, JudgedTask):
        judges = [run.judgements.judge if run.judgements else None for run in (a, b)]
        if judges[0] != judges[1]:
            notes.append(f"they were graded by different judges: {judges[0]} and {judges[1]}")
        records = [[record for q in order for record in own[q].records] for own in (questions_a, questions_b)]
        differences = _graded_differences(a.task, records[0], records[1])
        return Comparison(a.task_name, a.title, _name(a), _name(b), differences, [], notes, graded=True)
    flips = [
        Flip(
            q,
            questions_a[q].video,
            questions_a[q].groups,
            questions_a[q].asked[1],
            score_a,
            score_b,
            questions_a[q].response,
            questions_b[q].response,
        )
        for q in order
        if (score_a := questions_a[q].credit) != (score_b := questions_b[q].credit)
    ]
    return Comparison(
        a.task_name,
        a.title,
        _name(a),
        _name(b),
        _differences(a, [(questions_a[q], questions_b[q]) for q in order]),
        flips,
        notes,
    )


@dataclass(frozen=True)
class _Answered:
    """A question's responses, over seeds (``records``). ``score`` is None where they cannot be right or wrong."""

    question: str
    video: str
    groups: Mapping[str, str | tuple[str, ...]]
    asked: tuple[tuple[str, ...], str | None]  # options and answer
    response: str
    score: float | None
    records: Sequence[ScoredRecord]

    @property
    def is_scored(self) -> bool:
        return self.score is not None or all(record.score.grades for record in self.records)

    @property
    def credit(self) -> float:
        return self.score or 0.0

    def record(self, credit: float) -> ScoredRecord:
        return ScoredRecord(self.question, self.video, self.groups, Score(credit, None, parsed=True))


def _by_question(run: ScoredRun) -> dict[str, _Answered]:
    members: dict[str, list[tuple[dict[str, Any], ScoredRecord]]] = defaultdict(list)
    for record, scored in zip(run.answered, run.scored, strict=True):
        members[scored.question_id].append((record, scored))
    answered = {}
    for question, pairs in members.items():
        record, scored = pairs[0]
        credits = [each.score.correct for _, each in pairs]
        score = None if None in credits else fmean(float(credit or 0.0) for credit in credits)
        asked = (tuple(record["options"]), record["answer"])
        records = [each for _, each in pairs]
        answered[question] = _Answered(
            question, record["video"], scored.groups, asked, record["response"], score, records
        )
    return answered


def _differences(run: ScoredRun, pairs: Sequence[tuple[_Answered, _Answered]]) -> list[Difference]:
    """By the task's own summary, which is linear in what each question earns: that of the halved and shifted
    differences, which lie in [0, 1] as accuracies do."""
    sides = [_flat(run.task.summarize([pair[side].record(pair[side].credit) for pair in pairs])) for side in (0, 1)]
    halves = _flat(run.task.summarize([a.record((1 + b.credit - a.credit) / 2) for a, b in pairs]))
    return [_difference(*key, sides[0][key], sides[1][key], half) for key, half in halves.items()]


_JACKKNIFE_GROUPS = 50


def _graded_differences(task: Task, a: Sequence[ScoredRecord], b: Sequence[ScoredRecord]) -> list[Difference]:
    """By the jackknife over groups of videos, since a judged benchmark's measures (F1) are not linear in the grades."""
    videos = list(dict.fromkeys(record.video_id for record in a))
    groups = [set(videos[i::_JACKKNIFE_GROUPS]) for i in range(min(_JACKKNIFE_GROUPS, len(videos)))]

    def measured(left_out: set[str]) -> list[dict[tuple[str, str], Metric]]:
        return [_flat(task.summarize([r for r in side if r.video_id not in left_out])) for side in (a, b)]

    whole = measured(set())
    parts = [measured(group) for group in groups] if len(groups) > 1 else []
    found = []
    for key, of_a in whole[0].items():
        of_b = whole[1][key]
        known = [(part[0][key].value, part[1][key].value) for part in parts if key in part[0] and key in part[1]]
        differences = [value_b - value_a for value_a, value_b in known]
        difference, low, high, p = of_b.value - of_a.value, None, None, None
        if len(differences) > 1:
            spread = math.fsum((value - fmean(differences)) ** 2 for value in differences)
            error = math.sqrt((len(differences) - 1) / len(differences) * spread)
            low, high = difference - Z_95 * error, difference + Z_95 * error
            p = _p(difference, error)
        found.append(
            Difference(
                *(*key, of_a.value, of_b.value, difference, low, high, p),
                num_questions=of_a.num_questions,
                num_videos=of_a.num_videos,
                best=of_a.best,
            )
        )
    return found


def _flat(summary: Summary) -> dict[tuple[str, str], Metric]:
    metrics = {("all", name): metric for name, metric in summary.metrics.items()}
    groups = {
        (group, value): m for group, members in summary.breakdowns.items() for value, m in sorted(members.items())
    }
    return metrics | groups


def _p(difference: float, error: float) -> float:
    return 2 * (1 - NormalDist().cdf(abs(difference) / error)) if error > 0 else float(math.isclose(difference, 0))


def _difference(group: str, value: str, a: Metric, b: Metric, half: Metric) -> Difference:
    difference = b.value - a.value
    low = high = p = None
    if half.low is not None and half.high is not None:
        error = 2 * max(half.value - half.low, half.high - half.value) / Z_95
        low, high = max(-1.0, difference - Z_95 * error), min(1.0, difference + Z_95 * error)
        p = _p(difference, error)
    return Difference(group, value, a.value, b.value, difference, low, high, p, half.num_questions, half.num_videos)


def _name(run: ScoredRun) -> str:
    frames = run.fingerprint["sampling"].get("num_frames")
    return f"{run.model} ({run.folder.name}{f', {frames} frames' if frames else ''}, {run.protocol})"


def _signed(value: float | None, best: float = 1.0) -> str:
    if value is None:
        return "-"
    return f"{100 * value:+.1f}" if best == 1.0 else f"{value:+.2f}"


def _short(text: str, width: int = 40) -> str:
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= width else f"{line[: width - 1]}…"


@dataclass(frozen=True)
class Rescored:
    """One response under every protocol: what is taken for its answer, and whether that is right."""

    run: str
    model: str
    task: str
    question: str
    seed: int
    answer: str | None
    response: str
    scores: Mapping[str, Score]

    def row(self) -> dict[str, Any]:
        fields = {name: value for name, value in vars(self).items() if name != "scores"}
        for protocol, score in self.scores.items():
            drawn = " (drawn)" if score.drawn else ""
            fields |= {
                f"extracted ({protocol})": f"{score.extracted or ''}{drawn}",
                f"correct ({protocol})": score.correct,
            }
        return fields


def changed_by_protocol(paths: Sequence[str | Path]) -> list[Rescored]:
    """The stored responses that are right under one protocol of their task and wrong under another.

    Prompts stay those of the run; only the reading of the response changes.
    """
    by_run: dict[tuple[Path, str, str], list[ScoredRun]] = defaultdict(list)
    for run in scored_runs(paths, ALL_PROTOCOLS):
        by_run[run.folder, run.task_name, run.model].append(run)
    changed = []
    for (folder, task, model), runs in by_run.items():
        for i, record in enumerate(runs[0].answered):
            scores = {run.protocol: run.scored[i].score for run in runs}
            if len({score.correct for score in scores.values()}) > 1:
                about = (folder.name, model, task, record["question"], record.get("seed", 0), record["answer"])
                changed.append(Rescored(*about, record["response"], scores))
    return changed


def changed_markdown(changed: Sequence[Rescored], listed: int = _LISTED) -> str:
    """The first ``listed`` of them as a table, by what each protocol takes for the answer."""
    if not changed:
        return "No response changes between right and wrong."
    rows = []
    for each in changed[:listed]:
        row = {"Model": each.model, "Task": each.task, "Question": each.question, "Answer": each.answer}
        row["Response"] = _short(each.response)
        for protocol, score in each.scores.items():
            row[protocol] = (
                f"{score.extracted or '-'}{' (drawn)' if score.drawn else ''} {'✓' if score.correct else '✗'}"
            )
        rows.append(row)
    more = f"\n\n... and {len(changed) - listed:,} more (--output DIR writes all)" if len(changed) > listed else ""
    return f"{len(changed):,} responses change between right and wrong:\n\n{markdown_table(rows)}{more}"

"""Why two numbers differ: two models on the same questions, or one run under several protocols.

Differences are paired by question and clustered by video: two models that err on the same questions differ less
surely than their own intervals suggest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from vamba_eval.contracts import Groups, Measure, Score, ScoredRecord, UserError
from vamba_eval.files import replace_text
from vamba_eval.plain import did_you_mean
from vamba_eval.score.scored import ALL_PROTOCOLS, ScoredRun, check_one_protocol, scored_runs, verdict_of
from vamba_eval.score.statistics import (
    broken_down,
    difference_interval,
    estimate,
    holm,
    members_of,
    p_value,
    smallest_shown,
    standard_error,
    with_common_videos,
)
from vamba_eval.tables.provenance import differing_facts, provenance_of
from vamba_eval.tables.result import frames_of
from vamba_eval.tables.text import markdown_list, markdown_table, short, shown, signed, unique, without_html, write_csv

LISTED = 20  # questions shown in the terminal; files have all


@dataclass(frozen=True)
class Difference:
    """B's score minus A's, on the questions that both answered.

    ``low`` and ``high`` bound its 95 % interval; None where the questions are about one video alone. ``p`` is the
    two-sided probability of so large a difference between equal models (by Student's t); None there too, and where the
    two differ by as much about every video, so that nothing tells how sure that is. ``p_adjusted`` is that of a group
    after Holm, for being one of many. ``smallest_shown`` is the smallest true difference that so many questions would
    show in four of five cases.
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
    unit: str = "%"
    smallest_shown: float | None = None
    p_adjusted: float | None = None

    def row(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Flip:
    """A question of which the two differ in what is said of their responses: right, wrong or partial.

    ``score_a`` and ``score_b`` are the first value of their scores, the mean over all times that it was asked.
    """

    question: str
    video: str
    groups: Groups
    answer: str | None
    score_a: float
    score_b: float
    response_a: str
    response_b: str

    def row(self) -> dict[str, Any]:
        return {**vars(self), "groups": "; ".join(f"{name}={value}" for name, value in self.groups.items())}


@dataclass(frozen=True)
class Comparison:
    """Two models on one benchmark, whose name is ``key``. The headline comes first, then other measures and groups."""

    key: str
    title: str
    name_a: str
    name_b: str
    differences: list[Difference]
    flips: list[Flip]
    notes: list[str]

    def to_markdown(self) -> str:
        """A table of differences, what must be known of them, and all flipped questions."""
        parts = [f"## {self.title}", self.sides, markdown_table(self.table()), markdown_list(self.remarks())]
        if self.flips:
            parts.append(markdown_table(self.flipped()))
        return without_html("\n\n".join(parts))

    @property
    def sides(self) -> str:
        return f"A: {self.name_a}\nB: {self.name_b}"

    def table(self) -> list[dict[str, str]]:
        """A row for each difference."""
        return [
            {
                "Group": each.group,
                "Value": each.value,
                "Questions": f"{each.num_questions:,}",
                "A": shown(each.score_a, each.unit),
                "B": shown(each.score_b, each.unit),
                "B - A": signed(each.difference, each.unit)
                + (
                    f" [{signed(each.low, each.unit)}, {signed(each.high, each.unit)}]"
                    if each.low is not None and each.high is not None
                    else ""
                ),
                "p": _p_cell(each),
            }
            for each in self.differences
        ]

    def flipped(self, listed: int | None = None) -> list[dict[str, str]]:
        """A row for each flipped question, or for the first ``listed``."""
        return [
            {
                "Question": flip.question,
                "Answer": flip.answer or "-",
                "A": f"{flip.score_a:g}",
                "B": f"{flip.score_b:g}",
                "A's response": short(flip.response_a),
                "B's response": short(flip.response_b),
            }
            for flip in self.flips[:listed]
        ]

    def remarks(self) -> list[str]:
        """What must be known of the differences, a line each."""
        gained = sum(flip.score_b > flip.score_a for flip in self.flips)
        units = " or ".join(dict.fromkeys(each.unit for each in self.differences)) or "%"
        return [
            f"In {units}, on the questions that both answered; intervals (95 %) and p are paired by question and "
            "clustered by video; p of groups is adjusted for their number (Holm).",
            *self._power(),
            f"{len(self.flips):,} questions flipped: {gained:,} for B, {len(self.flips) - gained:,} for A",
            *self.notes,
        ]

    def _power(self) -> list[str]:
        headline = next(iter(self.differences), None)
        if headline is None or not headline.smallest_shown:
            return []
        least = shown(headline.smallest_shown, headline.unit)
        unit = "percentage points" if headline.unit == "%" else headline.unit
        return [
            f"These questions could have shown a difference of {least} {unit} in {headline.value} (80 % power)"
            + ("; this one is smaller" if abs(headline.difference) < headline.smallest_shown else "")
        ]

    def save(self, folder: str | Path, prefix: str = "") -> list[Path]:
        """Write ``compare.md`` and the differences and flips as CSV; their paths."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{prefix}{name}" for name in ("compare.md", "differences.csv", "flips.csv")]
        replace_text(paths[0], self.to_markdown() + "\n")
        write_csv(paths[1], [each.row() for each in self.differences])
        write_csv(paths[2], [flip.row() for flip in self.flips])
        return paths


def compare(run_a: str, run_b: str, *, protocol: str | None = None) -> list[Comparison]:
    """Each benchmark that both runs have, by the same model of both, or by the one that each has.

    A run is a folder, or ``FOLDER:MODEL`` where it holds several. Raises UserError where nothing can be paired.
    """
    check_one_protocol(protocol, "compare")
    if Path(run_a).resolve() == Path(run_b).resolve():
        raise UserError(f"{run_a} and {run_b} are the same: name two runs, or two models of one (FOLDER:MODEL)")
    runs_a, runs_b = _chosen(run_a, protocol), _chosen(run_b, protocol)
    pairs = list(_pairs(runs_a, runs_b))
    if not pairs:
        held = [
            f"{run} holds {', '.join(sorted({f'{r.model} on {r.task_name}' for r in runs}))}"
            for run, runs in ((run_a, runs_a), (run_b, runs_b))
        ]
        named = [run if _has_one_model(runs) else f"{run}:MODEL" for run, runs in ((run_a, runs_a), (run_b, runs_b))]
        ways = "they have no benchmark in common"
        if {run.title for run in runs_a} & {run.title for run in runs_b}:
            ways = f"name the models: compare {' '.join(named)}"
        raise UserError(f"nothing to compare: {'; '.join(held)}; {ways}")
    if all(a.model == b.model and a.folder.resolve() == b.folder.resolve() for a, b in pairs):
        raise UserError(f"{run_a} and {run_b} are the same run of {pairs[0][0].model}: name two (FOLDER:MODEL)")
    return [compare_runs(a, b) for a, b in pairs]


def _chosen(argument: str, protocol: str | None) -> list[ScoredRun]:
    folder, colon, model = argument.rpartition(":")
    if not colon or Path(argument).is_dir():
        return scored_runs([argument], protocol)
    runs = scored_runs([folder], protocol)
    if chosen := [run for run in runs if run.model == model]:
        return chosen
    there = sorted({run.model for run in runs})
    raise UserError(f"{folder} has no model {model!r}{did_you_mean(model, there)}; it has {', '.join(there)}")


def _pairs(runs_a: Sequence[ScoredRun], runs_b: Sequence[ScoredRun]) -> Iterator[tuple[ScoredRun, ScoredRun]]:
    """Of each benchmark the runs of the same model, or of the one that each has; of several numbers of frames those
    that both saw, if there are any."""
    for title in unique(run.title for run in runs_a):
        own_a = [run for run in runs_a if run.title == title]
        own_b = [run for run in runs_b if run.title == title]
        alone = _has_one_model(own_a) and _has_one_model(own_b)
        pairs = [(a, b) for a in own_a for b in own_b if alone or a.model == b.model]
        yield from [(a, b) for a, b in pairs if _shown_alike(a, b)] or pairs


def _shown_alike(a: ScoredRun, b: ScoredRun) -> bool:
    blind = not all(run.identity.get("reads_video", True) for run in (a, b))
    return blind or bool(a.fingerprint["sampling"] == b.fingerprint["sampling"])


def _has_one_model(runs: Sequence[ScoredRun]) -> bool:
    return len({run.model for run in runs}) == 1


def compare_runs(a: ScoredRun, b: ScoredRun) -> Comparison:
    """Two runs of one benchmark, on the questions that both answered."""
    notes = []
    questions_a, questions_b = _by_question(a), _by_question(b)
    both = questions_a.keys() & questions_b.keys()
    for name, own in (("A", questions_a), ("B", questions_b)):
        if missing := len(own.keys() - both):
            notes.append(f"{missing:,} questions were answered by {name} alone and are left out")
    if unlike := {q for q in both if questions_a[q].asked != questions_b[q].asked}:
        notes.append(f"{len(unlike):,} questions have different options or answers in the two runs and are left out")
    both -= unlike
    if alone := sum(_restrict_to_shared(questions_a, questions_b, question) for question in both):
        notes.append(f"{alone:,} responses to orders of options or wordings that one alone was asked in are left out")
    if apart := {q for q in both if not (questions_a[q].records and questions_b[q].records)}:
        notes.append(f"{len(apart):,} questions were answered in no order and wording by both and are left out")
        both -= apart
    if unknown := {q for q in both if not (questions_a[q].is_scored and questions_b[q].is_scored)}:
        judged = sum(a.task.needs_judge(questions_a[q].records[0].question) for q in unknown)
        for number, why in ((judged, "have no grade"), (len(unknown) - judged, "have no known answer")):
            if number:
                notes.append(f"{number:,} questions {why} and are left out")
    both -= unknown
    if not both:
        return Comparison(a.task_name, a.title, _name(a), _name(b), [], [], notes)
    for what, of_a, of_b in (
        ("protocols", a.fingerprint["protocol"], b.fingerprint["protocol"]),
        ("scoring", a.protocol, b.protocol),
        ("sampling", a.fingerprint["sampling"], b.fingerprint["sampling"]),
        ("judges", _judge(a), _judge(b)),
    ):
        if of_a != of_b:
            notes.append(f"the two differ in {what}: {_unlike(of_a, of_b)}")
    seen = [(name, provenance_of(run)) for name, run in (("A", a), ("B", b))]
    notes += [f"the two differ in {fact}" for fact in differing_facts(seen)]
    notes += [f"what {name} saw, and how it ran: {provenance.in_full()}" for name, provenance in seen]
    pairs = [(answered, questions_b[q]) for q, answered in questions_a.items() if q in both]
    records_a, records_b = with_common_videos(
        [[record for pair in pairs for record in pair[side].records] for side in (0, 1)]
    )
    differences = adjusted(list(differences_of(a.task.measures, records_a, records_b)))
    flips = [_flip(of_a, of_b) for of_a, of_b in pairs if _verdicts(a, of_a) != _verdicts(a, of_b)]
    return Comparison(a.task_name, a.title, _name(a), _name(b), differences, flips, notes)


def _unlike(a: Any, b: Any) -> str:
    """Two values; of two mappings the entries that are unlike."""
    if not (isinstance(a, Mapping) and isinstance(b, Mapping)):
        return f"{a} and {b}"
    names = [name for name in unique([*a, *b]) if a.get(name) != b.get(name)]
    return ", ".join(f"{name} {a.get(name, '-')} and {b.get(name, '-')}" for name in names)


def _judge(run: ScoredRun) -> str | None:
    return str(run.judgements.judge) if run.judgements.judge else None


@dataclass(frozen=True)
class _Answered:
    """A question's responses, over all times that it was asked; the first as its protocol asks."""

    records: Sequence[ScoredRecord]

    @property
    def asked(self) -> tuple[tuple[str, ...], str | None]:
        return self.records[0].published.options, self.records[0].published.answer

    @property
    def is_scored(self) -> bool:
        return all(record.values for record in self.records)

    @property
    def credit(self) -> float:
        return fmean(next(iter(record.values.values())) for record in self.records)


def _by_question(run: ScoredRun) -> dict[str, _Answered]:
    members: dict[str, list[ScoredRecord]] = defaultdict(list)
    for record in run.scored:
        members[record.question_id].append(record)
    return {question: _Answered(sorted(records, key=lambda each: each.trial)) for question, records in members.items()}


def _restrict_to_shared(a: dict[str, _Answered], b: dict[str, _Answered], question: str) -> int:
    """Keep of both what was asked in the same orders and wordings; how many responses are not."""
    ways = [{(each.rotation, each.variant) for each in own[question].records} for own in (a, b)]
    if ways[0] == ways[1]:
        return 0
    left_out = 0
    for own in (a, b):
        kept = [each for each in own[question].records if (each.rotation, each.variant) in ways[0] & ways[1]]
        left_out += len(own[question].records) - len(kept)
        own[question] = _Answered(kept)
    return left_out


def _verdicts(run: ScoredRun, answered: _Answered) -> Counter[str]:
    """How often each is said of the responses to a question."""
    return Counter(str(verdict_of(run.task.measures, record.values)) for record in answered.records)


def _flip(a: _Answered, b: _Answered) -> Flip:
    first, other = a.records[0], b.records[0]
    about = (first.question_id, first.video_id, first.groups, first.question.answer)
    return Flip(*about, a.credit, b.credit, first.response, other.response)


def differences_of(
    measures: Mapping[str, Measure], a: Sequence[ScoredRecord], b: Sequence[ScoredRecord]
) -> Iterator[Difference]:
    """Of every measure, and of each group by those that groups are broken down by. Both answered the same questions."""
    for name, measure in measures.items():
        if (found := _difference("all", name, measure, a, b)) is not None:
            yield found
    groups_a, groups_b = members_of(a), members_of(b)
    for label, measure in broken_down(measures).items():
        for group, members in groups_a.items():
            for value in sorted(members.keys() & groups_b.get(group, {}).keys()):
                found = _difference(group + label, value, measure, members[value], groups_b[group][value])
                if found is not None:
                    yield found


def _difference(
    group: str, value: str, measure: Measure, a: Sequence[ScoredRecord], b: Sequence[ScoredRecord]
) -> Difference | None:
    """By the jackknife over videos of the difference itself, so that what both find hard does not count."""
    of_a, of_b = estimate(measure, a), estimate(measure, b)
    if of_a is None or of_b is None:
        return None
    difference = of_b.value - of_a.value
    without = [of_b.without[part] - of_a.without[part] for part in of_a.without.keys() & of_b.without.keys()]
    error = standard_error(without)
    low = high = p = smallest = None
    if error is not None:
        most = abs(measure.best - measure.worst)
        low, high = difference_interval(difference, error, len(without))
        low, high = max(-most, low), min(most, high)
        p = p_value(difference, error, len(without))
        smallest = smallest_shown(error, len(without))
    scores = (of_a.value, of_b.value, difference, low, high, p)
    counts = (of_a.num_questions, of_a.num_videos)
    return Difference(group, value, *scores, *counts, measure.best, measure.unit, smallest)


def adjusted(differences: Sequence[Difference]) -> list[Difference]:
    """Those of groups with their p adjusted for being many; a benchmark's own measures are what one asks for."""
    groups = [each for each in differences if each.group != "all"]
    values = iter(holm([each.p for each in groups]))
    return [each if each.group == "all" else replace(each, p_adjusted=next(values)) for each in differences]


def _p_cell(each: Difference) -> str:
    p = each.p if each.group == "all" else each.p_adjusted
    return "-" if p is None else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _name(run: ScoredRun) -> str:
    sampling = run.fingerprint["sampling"]
    frames = frames_of(sampling) if "num_frames" in sampling else None
    return f"{run.model} ({run.folder.name}{f', {frames} frames' if frames else ''}, {run.protocol})"


@dataclass(frozen=True)
class Rescored:
    """One response under every protocol: what is taken for its answer, and whether that is right."""

    run: str
    model: str
    task: str
    question: str
    seed: int
    rotation: int
    variant: int
    answer: str | None
    response: str
    scores: Mapping[str, Score]

    def row(self) -> dict[str, Any]:
        fields = {name: value for name, value in vars(self).items() if name != "scores"}
        for protocol, score in self.scores.items():
            drawn = " (drawn)" if score.drawn else ""
            fields[f"extracted ({protocol})"] = f"{score.extracted or ''}{drawn}"
            fields |= {f"{name} ({protocol})": value for name, value in score.values.items()}
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
        for i, record in enumerate(runs[0].scored):
            scores = {run.protocol: run.scored[i].score for run in runs}
            if any(score.values != record.score.values for score in scores.values()):
                about = (folder.name, model, task, record.question_id, *record.trial, record.question.answer)
                changed.append(Rescored(*about, record.response, scores))
    return changed


def changed_table(changed: Sequence[Rescored]) -> list[dict[str, str]]:
    """A row for each, by what each protocol takes for the answer; of several benchmarks with its name."""
    rows, several = [], len({each.task for each in changed}) > 1
    for each in changed:
        row = {"Model": each.model, **({"Task": each.task} if several else {}), "Question": each.question}
        row |= {"Answer": each.answer or "-", "Response": short(each.response)}
        for protocol, score in each.scores.items():
            right = next(iter(score.values.values()), 0.0) == 1.0
            row[protocol] = f"{score.extracted or '-'}{' (drawn)' if score.drawn else ''} {'✓' if right else '✗'}"
        rows.append(row)
    return rows

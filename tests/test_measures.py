"""Measures of any kind: a benchmark with metrics of its own, through runs, tables, comparisons and the report.

A small benchmark of segments in time (scored by their overlap), choices in groups of four that count together, and
texts that a judge grades, all in one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from judge_server import Reply, judge_server

from vamba_eval import Leaderboard, evaluate
from vamba_eval.contracts import (
    Answer,
    Ask,
    Catalogue,
    Clip,
    GenerationSettings,
    Measure,
    ModelAdapter,
    Question,
    Score,
    ScoredRecord,
    Task,
    Video,
    mean,
)
from vamba_eval.report.content import STATES
from vamba_eval.report.page import write_report
from vamba_eval.score.judge import grade_runs, judge_endpoint
from vamba_eval.score.letters import extract_vamba, score_choice
from vamba_eval.score.scored import expected_of_guesses, scored_runs, verdict_of
from vamba_eval.score.statistics import estimate, metric_of, parts, without_parts
from vamba_eval.tables.compare import compare, differences_of


def recall_at(threshold: float, records: Sequence[ScoredRecord]) -> float | None:
    """The share of segments that overlap by so much."""
    overlaps = [record.values["iou"] for record in records if "iou" in record.values]
    return sum(overlap >= threshold for overlap in overlaps) / len(overlaps) if overlaps else None


def all_right(records: Sequence[ScoredRecord]) -> float | None:
    """The share of groups whose questions are all answered rightly, as Video-MME-v2 counts."""
    groups: dict[str, list[float]] = {}
    for record in records:
        if "correct" in record.values:
            groups.setdefault(record.members("quartet")[0], []).append(record.values["correct"])
    return sum(map(min, groups.values())) / len(groups) if groups else None


class Mixed(Task):
    name = "mixed"
    version = "1"
    catalogue = Catalogue("Mixed")
    protocols = ("vamba",)
    measures: ClassVar = {
        "quartets": Measure(all_right),
        "accuracy": mean("correct"),
        "mIoU": mean("iou"),
        "R@0.5": Measure(partial(recall_at, 0.5)),
        "grade": mean("grade", best=5, worst=1, unit="points"),
    }
    videos = 40

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        return [Video(f"v{n}", Path(f"v{n}.mp4"), tuple(self._questions(n))) for n in range(self.videos)]

    def _questions(self, n: int) -> list[Question]:
        choices = [
            Question(f"{n}-{i}", f"choice {n}-{i}", ("a", "b", "c"), "ABC"[(n + i) % 3], {"quartet": f"{n}"})
            for i in range(4)
        ]
        segment = Question(f"{n}-when", f"when {n}", answer="0 10", groups={"kind": "segment"})
        text = Question(f"{n}-text", f"text {n}", answer="a dog", groups={"kind": "text"}, extra={"points": 3})
        return [*choices, segment, text]

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return question.text

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if question.options:
            return score_choice(question, response, extract_vamba)
        try:
            start, end = map(float, response.split())
        except ValueError:
            return Score({"iou": 0.0}, parsed=False)
        return Score({"iou": max(0.0, min(end, 10) - max(start, 0)) / max(end, 10)}, extracted=response)

    def needs_judge(self, question: Question) -> bool:
        return question.groups.get("kind") == "text"

    def judge(self, question: Question, response: str, ask: Ask) -> dict[str, Any]:
        return {"grade": int(ask([{"role": "user", "content": f"{question.extra['points']} {response}"}]))}

    def grade(self, question: Question, judgement: Mapping[str, Any]) -> Score:
        return Score({"grade": float(judgement["grade"])})


class Sayer(ModelAdapter):
    """Says what a function of the prompt and of a seed says."""

    name = "sayer"
    reads_video = False

    def __init__(self, say: Any) -> None:
        self.say = say

    def encode(self, clip: Clip | None) -> None:
        return None

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        return [Answer(self.say(str(prompt))) for prompt in prompts]


def skilled(seed: int, skill: float, segment: str) -> Any:
    """Right answers as often as ``skill``; always the same segment; the judge grades what is after the colon."""

    def say(prompt: str) -> str:
        kind, _, where = prompt.partition(" ")
        if kind != "choice":
            return segment if kind == "when" else f"a cat {where}"
        n, i = map(int, where.split("-"))
        dice = random.Random(f"{seed} {prompt}")
        return "ABC"[(n + i + (dice.random() > skill)) % 3]

    return say


def run(folder: Path, name: str, say: Any) -> Leaderboard:
    return evaluate([Mixed()], [Sayer(say)], output=folder, name=name, progress=False)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    run(tmp_path, "a", skilled(1, 0.80, "0 4"))
    run(tmp_path, "b", skilled(2, 0.84, "0 3"))
    return tmp_path


def records_of(folder: Path) -> list[ScoredRecord]:
    (found,) = scored_runs([folder])
    return [record for record in found.scored if record.values]


def bootstrap(measure: Measure, a: Sequence[ScoredRecord], b: Sequence[ScoredRecord]) -> list[float]:
    """Differences over samples of videos, which know nothing of the jackknife."""
    videos = sorted({record.video_id for record in a})
    by_video = [{v: [r for r in side if r.video_id == v] for v in videos} for side in (a, b)]
    rng, found = np.random.default_rng(0), []
    for _ in range(1500):
        drawn = rng.integers(0, len(videos), len(videos))
        sides = []
        for own in by_video:
            # Each time a video is drawn it is another one, with a quartet of its own.
            sample = [
                ScoredRecord(r.question_id, f"{n}", {"quartet": f"{n}"}, r.score)
                for n, v in enumerate(drawn)
                for r in own[videos[v]]
            ]
            sides.append(measure.function(sample) or 0.0)
        found.append(sides[1] - sides[0])
    return found


def test_questions_that_count_together_are_compared_as_such(runs: Path) -> None:
    (found,) = compare(str(runs / "a"), str(runs / "b"))
    by_name = {each.value: each for each in found.differences if each.group == "all"}
    quartets = by_name["quartets"]
    a, b = records_of(runs / "a"), records_of(runs / "b")
    truth = [all_right(side) or 0.0 for side in (a, b)]
    assert (quartets.score_a, quartets.score_b) == pytest.approx(truth)
    assert quartets.difference == pytest.approx(truth[1] - truth[0])
    assert quartets.low is not None and quartets.high is not None and quartets.p is not None
    spread = np.std(bootstrap(Mixed.measures["quartets"], a, b))
    assert (quartets.high - quartets.low) / 2 == pytest.approx(2.02 * spread, rel=0.12)
    assert quartets.low < quartets.difference < quartets.high and quartets.p > 0.001
    assert quartets.difference != pytest.approx(by_name["accuracy"].difference)


def test_a_threshold_that_neither_passes_makes_no_difference(runs: Path) -> None:
    (found,) = compare(str(runs / "a"), str(runs / "b"))
    by_name = {each.value: each for each in found.differences if each.group == "all"}
    recall, overlap = by_name["R@0.5"], by_name["mIoU"]
    assert (recall.score_a, recall.score_b, recall.low, recall.high) == (0, 0, 0, 0) and recall.p is None
    assert overlap.difference == pytest.approx(-0.1) and overlap.p is None, "as much on every video: no spread, no p"
    choices = [flip for flip in found.flips if not flip.question.endswith("when")]
    assert choices == found.flips, "two overlaps of less than 1 are both partly right"
    assert len(choices) == sum(
        x.values != y.values
        for x, y in zip(records_of(runs / "a"), records_of(runs / "b"), strict=True)
        if "correct" in x.values
    )


def test_a_share_of_what_was_parsed_is_not_the_accuracy() -> None:
    """Video-MME's second figure: 66.6 in its table where all count as 53.3."""
    from vamba_eval import load_task

    measures = load_task("videomme").measures

    def records(seed: int) -> list[ScoredRecord]:
        rng, found = random.Random(seed), []
        for n in range(300):
            parsed = rng.random() < 0.8
            right = parsed and rng.random() < 2 / 3
            found.append(ScoredRecord(f"{n}", f"v{n // 3}", {}, Score({"correct": float(right)}, parsed=parsed)))
        return found

    a, b = records(0), records(1)
    differences = {each.value: each for each in differences_of(measures, a, b)}
    for side, name in ((a, "score_a"), (b, "score_b")):
        parsed = [record.values["correct"] for record in side if record.score.parsed]
        assert getattr(differences["accuracy_of_parsed"], name) == pytest.approx(np.mean(parsed))
        assert getattr(differences["accuracy"], name) == pytest.approx(sum(parsed) / 300)
    assert differences["accuracy_of_parsed"].difference != pytest.approx(differences["accuracy"].difference)


def test_guessing_is_stated_for_what_counts_together(runs: Path) -> None:
    """A quartet of three options each is guessed once in 81 times; one of two options in 16."""
    quartets = Mixed.measures["quartets"]

    def possible(options: int, groups: int) -> list[tuple[ScoredRecord, list[Score]]]:
        scores = [Score({"correct": float(n == 0)}) for n in range(options)]
        return [
            (ScoredRecord(f"{g}-{i}", f"{g}", {"quartet": f"{options} {g}"}, Score()), scores)
            for g in range(groups)
            for i in range(4)
        ]

    assert expected_of_guesses(quartets, possible(3, 100)) == pytest.approx(1 / 81, abs=0.001)
    both = [*possible(2, 50), *possible(3, 50)]
    assert expected_of_guesses(quartets, both) == pytest.approx((1 / 16 + 1 / 81) / 2, abs=0.0015)
    assert expected_of_guesses(mean("correct"), both) == pytest.approx((1 / 2 + 1 / 3) / 2, abs=1e-12)


def test_what_is_said_of_a_response_follows_from_its_values(runs: Path) -> None:
    said = partial(verdict_of, Mixed.measures)
    assert [said({"iou": value}) for value in (0.0, 0.95, 1.0)] == ["wrong", "partial", "right"]
    assert [said({"grade": value}) for value in (1, 3, 5)] == ["wrong", "partial", "right"]
    assert [said({"correct": 1.0}), said({"correct": 0.0}), said({})] == ["right", "wrong", None]
    assert said({"recall": 1.0, "precision": 0.5}) == "partial"
    assert verdict_of({"error": mean("seconds", best=0, worst=60, unit="s")}, {"seconds": 0.0}) == "right"
    page = write_report([runs / "a"], runs / "report.html", title="x")
    html = page.path.read_text(encoding="utf-8")
    data = json.loads(html.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])
    states = {question["id"]: STATES[question["responses"][0][1]] for question in data["questions"]}
    assert states["0-when"] == "partial" and states["0-text"] == "neither" and states["0-0"] in ("right", "wrong")


def test_a_benchmark_that_is_partly_judged_is_an_ordinary_one(runs: Path) -> None:
    board = Leaderboard.from_runs([runs / "a"])
    (result,) = board.results
    assert result.summary.metrics.keys() == {"quartets", "accuracy", "mIoU", "R@0.5"}, "nothing is graded yet"
    assert result.unjudged == 40 and "40 responses" in result.unjudged_why and result.answered == 240

    def grade_by(request: dict[str, Any]) -> Reply:
        points, _, number = request["messages"][0]["content"].partition(" a cat ")
        assert points == "3", "a judge is given all of extra"
        return Reply(str(2 + int(number) % 2))

    with judge_server(grade_by) as server, judge_endpoint("m", server.url, cache=runs / "cache") as endpoint:
        graded = grade_runs([runs / "a"], endpoint, requests=1, progress=False)
    assert (graded.judged, graded.failed) == (40, 0)
    (result,) = Leaderboard.from_runs([runs / "a"]).results
    assert result.summary.metrics["grade"].value == pytest.approx(2.5) and result.complete
    assert result.summary.metrics["grade"].unit == "points" and "graded by m at" in board_notes(runs / "a")
    (found,) = compare(str(runs / "a"), str(runs / "b"))
    assert "40 questions have no grade and are left out" in found.notes
    assert {each.value for each in found.differences if each.group == "all"} == set(Mixed.measures) - {"grade"}


def board_notes(folder: Path) -> str:
    return "\n".join(Leaderboard.from_runs([folder]).notes())


def correlated(videos: int, seeds: int, order: random.Random) -> list[ScoredRecord]:
    found = []
    for v in range(videos):
        ease = order.random()
        for q in range(order.randint(1, 5)):
            kind = order.choice(["x", "y", "z"])
            for seed in range(seeds):
                right = float(order.random() < ease)
                groups = {"kind": kind, "tags": tuple(order.sample("pqr", 2))}
                found.append(ScoredRecord(f"{v}-{q}", f"v{v}", groups, Score({"correct": right}), seed))
    return found


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("over", [None, "kind", "tags"])
def test_means_are_left_out_of_as_by_computing_anew(seeds: int, over: str | None) -> None:
    """The fast path of plain means and of means over groups, against the way that serves any measure."""
    for videos in (2, 3, 17, 80):
        records = correlated(videos, seeds, random.Random(f"{videos} {seeds} {over}"))
        measure = mean("correct", over=over)
        fast = estimate(measure, records)
        assert fast is not None
        slow = without_parts(measure, records)
        assert fast.without.keys() == slow.keys()
        assert all(fast.without[video] == pytest.approx(value, abs=1e-12) for video, value in slow.items())
        plain = estimate(Measure(measure.function), records)
        assert plain is not None and plain.value == pytest.approx(fast.value, abs=1e-12)


def test_parts_of_many_videos_do_not_keep_step_with_their_order() -> None:
    """Every 50th video is hard here: cut by position, one part would hold all of them, and the error be eight times
    too large."""
    records = [ScoredRecord(f"{n}", f"v{n:04}", {}, Score({"correct": float(n % 50 != 0)})) for n in range(2000)]
    mean_of = mean("correct")
    exact, cut = metric_of(mean_of, records), metric_of(Measure(mean_of.function), records)
    assert exact is not None and cut is not None
    truth = 2 * 1.96 * np.sqrt(0.02 * 0.98 / 2000)
    assert exact.high - exact.low == pytest.approx(truth, rel=0.08)  # type: ignore[operator]
    assert cut.high - cut.low == pytest.approx(truth, rel=0.3)  # type: ignore[operator]
    sizes = list(parts([record.video_id for record in records]).values())
    assert {sizes.count(part) for part in sizes} == {20} and len(set(sizes)) == 100


def test_intervals_of_any_measure_cover_as_often_as_they_say() -> None:
    rng, covered = np.random.default_rng(5), 0
    skills = [0.95, 0.8]
    truth = float(np.mean([skill**4 for skill in skills]))
    for _ in range(200):
        records = [
            ScoredRecord(f"{v}-{i}", f"v{v}", {"quartet": f"{v}"}, Score({"correct": float(rng.random() < skill)}))
            for v in range(60)
            for skill in [skills[int(rng.integers(2))]]
            for i in range(4)
        ]
        metric = metric_of(Mixed.measures["quartets"], records)
        assert metric is not None and metric.low is not None and metric.high is not None
        covered += metric.low <= truth <= metric.high
    assert 180 <= covered <= 199

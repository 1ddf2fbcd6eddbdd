"""Benchmarks in free text: their files, the judge's prompts, the reading of its answers, and the scores."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_files import (
    DREAM1K_SOURCES,
    dream1k_metadata,
    dream1k_rows,
    mlvu_generation_rows,
    write_dream1k,
    write_mlvu_generation,
)

from vamba_eval import load_task
from vamba_eval.contracts import Question, Score, ScoredRecord, Task, UserError
from vamba_eval.score.statistics import summarize


class Scripted:
    """A judge with its answers ready; what it was asked is kept."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[list[dict[str, str]], dict[str, Any]]] = []

    def __call__(self, messages: Any, **options: Any) -> str:
        self.asked.append(([dict(message) for message in messages], options))
        answer = self.answers.pop(0)
        if answer == "REFUSED":
            raise ValueError("the judge refused")
        return answer


def judged_task(name: str) -> Task:
    task = load_task(name)
    assert task.needs_judge(Question("q", "?"))
    return task


def sha(messages: list[dict[str, str]]) -> str:
    return hashlib.sha256(json.dumps(messages).encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------- DREAM-1K


def test_dream1k_full_size_in_both_shapes(tmp_path: Path) -> None:
    rows = dream1k_rows(200)
    folder = write_dream1k(tmp_path / "lines", rows)
    write_dream1k(tmp_path / "hub", dream1k_metadata(rows), "json/metadata.json")
    (folder / "video" / "DREAM-1K_videos").mkdir(parents=True)
    (folder / "video" / "DREAM-1K_videos" / "7.mp4").touch()
    task = judged_task("dream1k")
    videos, hub = task.load(tmp_path / "lines"), task.load(tmp_path / "hub")
    assert len(videos) == len(hub) == 1000 and not task.defects
    assert videos[6].path == folder / "video" / "DREAM-1K_videos" / "7.mp4"
    assert [video.id for video in videos] == [video.id for video in hub] == [str(n + 1) for n in range(1000)]
    sources: Counter[str] = Counter()
    for row, video, other in zip(rows, videos, hub, strict=True):
        (question,), (same,) = video.questions, other.questions
        assert question.id == same.id == str(row["idx"]) and question.groups == same.groups
        assert question.answer == same.answer == row["messages"][1]["content"][0]["reference"]
        assert question.extra["events"] == same.extra["events"] == row["extra_info"]["events"]
        assert task.prompt(video, question, "vamba", None) == "Describe the video in detail."
        assert task.prompt(other, same, "official", None) == "Describe the video in detail."
        sources[question.groups["source"]] += 1
    assert sources == dict.fromkeys(DREAM1K_SOURCES, 200)
    buckets = {name: {v.questions[0].groups[name] for v in videos} for name in ("subjects", "shots", "events")}
    assert buckets["subjects"] == buckets["shots"] == {"<=1", "2", "3", ">=4"}
    assert buckets["events"] == {"<=3", "4-5", "6-7", ">=8"}
    by_events = {v.questions[0].extra["n_events"]: v.questions[0].groups["events"] for v in videos}
    assert [by_events[n] for n in (0, 3, 4, 5, 6, 7, 8, 10)] == [
        *("<=3", "<=3", "4-5", "4-5", "6-7", "6-7", ">=8", ">=8"),
    ]


def test_dream1k_broken_rows_are_reported_and_kept(tmp_path: Path) -> None:
    rows = dream1k_rows(1)
    rows[0]["vid"] = None
    rows[1]["messages"][1]["content"][0]["reference"] = None
    rows[2]["extra_info"]["events"] = "not a list"
    rows[3] = "no row"
    rows[4]["extra_info"] = None
    write_dream1k(tmp_path, rows)
    task = judged_task("dream1k")
    questions = [question for video in task.load(tmp_path) for question in video.questions]
    assert [question.problem is None for question in questions] == [False, False, True, False, True]
    assert [defect.where for defect in task.defects] == [f"DREAM-1k.jsonl row {n}" for n in range(5)]
    assert questions[2].extra["events"] is None and questions[4].groups["shots"] == "unknown"
    # Without events of its own, the reference's are extracted first, as the authors' script does.
    judge = Scripted('{"events": ["a man walks"]}', '{"events": []}', _related("entailment"))
    judgement = task.judge(questions[2], "Nothing moves.", judge)
    assert judgement["reference_events"] == ["a man walks"] and judgement["response_events"] == []
    assert task.grade(questions[2], judgement).values == {"recall": 1.0, "precision": 1.0}


def _related(*relationships: str) -> str:
    return json.dumps({"events": [{"event": "e", "relationship": r, "reason": "so"} for r in relationships]})


def _question(*events: str) -> Question:
    return Question("1", "Describe the video in detail.", answer='A Dog\n"Runs".', extra={"events": list(events)})


def test_dream1k_asks_in_the_authors_words() -> None:
    """Digests of the messages that evaluate_dream_gpt.py of bytedance/tarsier makes of the same texts."""
    task = judged_task("dream1k")
    judge = Scripted("{'events': ['a cat sits']}", _related("neutral", "entailment"), _related("entailment"))
    judgement = task.judge(_question("A dog runs.", "It's fast."), 'The "Cat"\nSits.', judge)
    extraction, recall, precision = (messages for messages, _ in judge.asked)
    assert all(options == {} for _, options in judge.asked)
    assert "Video Description: the 'cat'\nsits.\n\nExtract at most 10" in extraction[0]["content"]
    assert 'Video Description:\nthe "cat"\nsits.\n\nEvents: [\'A dog runs.\', "It\'s fast."]\n' in recall[0]["content"]
    assert "Video Description:\na dog\n\"runs\".\n\nEvents: ['a cat sits']\n" in precision[0]["content"]
    assert [sha(messages) for messages, _ in judge.asked] == [
        "cedaf4bc15eed1c4",
        "432894dc77859bbb",
        "019ce32997582a34",
    ]
    assert task.grade(_question(), judgement).values == {"recall": 0.5, "precision": 1.0}


@pytest.mark.parametrize(
    "text",
    [
        '{"events": [{"event": "a", "relationship": " Entailment ", "reason": "r"}]}',
        '```json\n{"events": [{"event": "a", "relationship": "entailment"}]}\n```',
        '\n"events": [{"event": "a", "relationship": "entailment",},]',
        'Events: {"events": [\n{"event": "a", "relationship": "entailment", "reason": True},\n]}',
        '{"events": [{"event": [Placeholder], "relationship": "entailment"}]}',
    ],
)
def test_dream1k_mends_json_as_the_authors_do(text: str) -> None:
    task = judged_task("dream1k")
    judgement = task.judge(_question("a"), "x", Scripted('{"events": []}', text))
    assert judgement["of_reference_events"] == ["entailment"]


def test_dream1k_tries_ten_times() -> None:
    task = judged_task("dream1k")
    bad = ["REFUSED", "nothing", _related("entailment"), _related("perhaps", "neutral"), '{"events": 3}', "[]", "{]"]
    bad += ['{"events": [1, 2]}', '{"events": [{"event": "a"}, {}]}']
    good = _related("neutral", "contradiction")
    judgement = task.judge(_question("a", "b"), "x", Scripted('{"events": []}', *bad, good))
    assert judgement["of_reference_events"] == ["neutral", "contradiction"]
    judge = Scripted('{"events": []}', *bad, "once more", good)
    with pytest.raises(ValueError, match="the judge related no events in 10 tries; the last: "):
        task.judge(_question("a", "b"), "x", judge)
    assert judge.answers == [good]
    with pytest.raises(ValueError, match="extracted no events in 10 tries; the last: the judge refused"):
        task.judge(_question("a"), "x", Scripted(*["REFUSED"] * 10))


def _graded(recalls: list[float], precisions: list[float], sources: list[str]) -> list[ScoredRecord]:
    return [
        ScoredRecord(str(i), f"v{i}", {"source": s}, Score({"recall": r, "precision": p}))
        for i, (r, p, s) in enumerate(zip(recalls, precisions, sources, strict=True))
    ]


def test_dream1k_f1_is_that_of_the_sources_means() -> None:
    task = judged_task("dream1k")
    # a: recall (1 + 0) / 2, precision 1/2; b: recall 1/4, precision 1. Overall 3/8 and 3/4, F1 = 1/2.
    summary = summarize(task.measures, _graded([1.0, 0.0, 0.25], [0.5, 0.5, 1.0], ["a", "a", "b"]))
    assert summary.headline[0] == "F1" and summary.headline[1].value == pytest.approx(0.5)
    assert summary.metrics["recall"].value == 0.375 and summary.metrics["precision"].value == 0.75
    assert summary.breakdowns["source"]["a"].value == pytest.approx(0.5)
    assert summary.breakdowns["source"]["b"].value == pytest.approx(0.4)
    assert summary.breakdowns["source (recall)"]["b"].value == 0.25
    assert summarize(task.measures, _graded([0.0, 0.0], [0.0, 0.0], ["a", "b"])).headline[1].value == 0.0
    ungraded = ScoredRecord("x", "v", {"source": "a"}, Score())
    assert not summarize(task.measures, [ungraded]).metrics


def test_dream1k_interval_agrees_with_a_jackknife_over_videos() -> None:
    rng = random.Random(0)
    # Recall and precision of one video go together, as they do in truth.
    skill = [rng.random() for _ in range(500)]
    recalls = [round(5 * min(1.0, max(0.0, s + rng.gauss(0, 0.2)))) / 5 for s in skill]
    precisions = [round(4 * min(1.0, max(0.0, s + rng.gauss(0, 0.2)))) / 4 for s in skill]
    sources = [DREAM1K_SOURCES[i % 5] for i in range(500)]
    metric = summarize(judged_task("dream1k").measures, _graded(recalls, precisions, sources)).headline[1]

    def f1(left_out: int | None = None) -> float:
        means = []
        for values in (recalls, precisions):
            each = [
                [v for i, (v, s) in enumerate(zip(values, sources, strict=True)) if s == source and i != left_out]
                for source in DREAM1K_SOURCES
            ]
            means.append(np.mean([np.mean(values) for values in each]))
        r, p = means
        return float(2 * r * p / (r + p))

    assert metric.value == pytest.approx(f1())
    without = np.array([f1(i) for i in range(500)])
    error = np.sqrt(499 / 500 * ((without - without.mean()) ** 2).sum())
    assert metric.high is not None and metric.low is not None
    assert (metric.high - metric.low) / 2 / 1.959963984540054 == pytest.approx(error, rel=0.04)


def test_dream1k_with_seeds_has_a_spread() -> None:
    records = _graded([1.0, 0.0], [1.0, 0.5], ["a", "a"])
    records += [ScoredRecord(r.question_id, r.video_id, r.groups, records[0].score, 1) for r in records]
    metric = summarize(judged_task("dream1k").measures, records).headline[1]
    # Seed 0: recall 1/2, precision 3/4, F1 3/5; seed 1: all 1.
    assert metric.spread == pytest.approx(np.std([0.6, 1.0], ddof=1)) and metric.num_questions == 2


@pytest.mark.parametrize("name", ["dream1k", "mlvu"])
def test_the_documentation_has_the_judges_prompts(name: str) -> None:
    page = (Path(__file__).parent.parent / "docs" / "benchmarks" / f"{name}.md").read_text(encoding="utf-8")
    judge = Scripted(*["{'events': ['a'], 'score_accuracy': 1, 'score_relevance': 1}", _related("neutral")] * 2)
    if name == "dream1k":
        judge.answers[2:] = [_related("neutral")]
        judged_task(name).judge(_question("a"), "x", judge)
    else:
        judge.answers[1] = "{'score_completeness': 1, 'score_reliability': 1}"
        task = judged_task("mlvu_generation")
        for kind in ("sub_scene", "summary"):
            groups, extra = {"question_type": kind}, {"scoring_points": ["a"]}
            task.judge(Question("1", "Q?", answer="A", groups=groups, extra=extra), "x", judge)
    lines = [line.strip() for messages, _ in judge.asked for m in messages for line in m["content"].split("\n")]
    written = {line.strip() for line in page.splitlines()}
    own = ("Video Description: x", "Events: [", "Question:", "Scoring Points:", "Standard Answer:", "Respondent's")
    assert len(lines) > 20
    missing = [line for line in lines if line not in written and not line.startswith(own) and len(line) > 15]
    assert not missing


# --------------------------------------------------------------------------------------- MLVU, generation


def test_mlvu_generation_full_size(tmp_path: Path) -> None:
    scenes, summaries = mlvu_generation_rows("subPlot", 201), mlvu_generation_rows("summary", 217)
    folder = write_mlvu_generation(tmp_path, scenes, summaries)
    (folder / "video" / "subPlot").mkdir(parents=True)
    (folder / "video" / "subPlot" / "subPlot_3.mp4").touch()
    task = judged_task("mlvu_generation")
    videos = task.load(tmp_path)
    assert not task.defects and len(videos) == 201 + 109
    questions = [(video, question) for video in videos for question in video.questions]
    assert Counter(q.groups["question_type"] for _, q in questions) == {"sub_scene": 201, "summary": 217}
    assert videos[0].path == folder / "video" / "8_sub_scene" / "subPlot_0.mp4"
    assert videos[3].path == folder / "video" / "subPlot" / "subPlot_3.mp4"
    assert videos[201].path == folder / "video" / "9_summary" / "0.mp4" and len(videos[201].questions) == 2
    for row, (video, question) in zip(scenes + summaries, questions, strict=True):
        assert (question.text, question.answer) == (row["question"], row["answer"])
        assert question.extra.get("scoring_points") == row.get("scoring_points")
        assert task.prompt(video, question, "vamba", None) == row["question"]
        assert task.prompt(video, question, "official", None) == (
            "Carefully watch this video and pay attention to every detail. Based on your observations, answer the "
            f"given questions.\n{row['question']}"
        )
    assert [task.generation(p).max_new_tokens for p in task.protocols] == [512, 1024]


def test_mlvu_generation_broken_rows_and_files(tmp_path: Path) -> None:
    scenes, summaries = mlvu_generation_rows("subPlot", 3), mlvu_generation_rows("summary", 2)
    del scenes[0]["scoring_points"]
    scenes[1]["answer"] = ""
    scenes[2]["video"] = None
    summaries[0]["question"] = 3
    folder = write_mlvu_generation(tmp_path, scenes, summaries)
    task = judged_task("mlvu_generation")
    questions = [question for video in task.load(tmp_path) for question in video.questions]
    assert [question.problem is None for question in questions].count(True) == 1 and len(questions) == 5
    assert [defect.where for defect in task.defects] == [
        *(f"8_sub_scene.json row {n}" for n in range(3)),
        "9_summary.json row 0",
    ]
    (folder / "json" / "9_summary.json").unlink()
    with pytest.raises(UserError, match=r"9_summary\.json is missing"):
        task.load(tmp_path)
    with pytest.raises(UserError, match="mlvu_generation has no split 'train'; it has dev and test"):
        task.load(tmp_path, "train")


def test_mlvu_generation_test_set_with_and_without_answers(tmp_path: Path) -> None:
    scenes, summaries = mlvu_generation_rows("subPlot", 4), mlvu_generation_rows("summary", 6)
    folder = tmp_path / "mlvu"
    folder.mkdir()
    withheld = [{k: v for k, v in row.items() if k not in ("answer", "scoring_points")} for row in scenes + summaries]
    (folder / "test_generation_tasks.json").write_text(json.dumps(withheld))
    task = judged_task("mlvu_generation")
    questions = [question for video in task.load(tmp_path, "test") for question in video.questions]
    assert len(questions) == 10 and not task.defects and all(question.answer is None for question in questions)
    assert Counter(q.groups["question_type"] for q in questions) == {"sub_scene": 4, "summary": 6}
    with pytest.raises(ValueError, match="withholds the reference"):
        task.judge(questions[0], "A man.", Scripted())
    answers = folder / "test-ground-truth"
    answers.mkdir()
    (answers / "test_ssc_gt.json").write_text(json.dumps(scenes))
    (answers / "test_vs_gt.json").write_text(json.dumps(summaries))
    videos = task.load(tmp_path, "test")
    assert videos[0].path == folder / "MLVU_Test" / "video" / "subPlot_0.mp4"
    assert [q.answer for video in videos for q in video.questions] == [row["answer"] for row in scenes + summaries]


def test_mlvu_judge_is_asked_in_the_authors_words() -> None:
    """Digests of the messages that evaluate_ssc.py and evaluate_summary.py of JUNJIE99/MLVU make of these texts."""
    task = judged_task("mlvu_generation")
    judge = Scripted(
        "The man: 5. {'score_accuracy': 4.33, 'score_relevance': 5, 'total_score': 9.33}",
        '{"score_completeness": 3, "score_reliability": 4, "total_score": 7}',
    )
    points = {"scoring_points": ["The man's hat", "b"]}
    scene = Question("1", "Q\n1?", answer="A", groups={"question_type": "sub_scene"}, extra=points)
    summary = Question("2", "Sum up.", answer='A "b"', groups={"question_type": "summary"})
    graded = [
        task.grade(question, task.judge(question, response, judge)).values
        for question, response in ((scene, "pred {x}"), (summary, "pred\n {x}"))
    ]
    assert graded == [
        {"total": 9.33, "accuracy": 4.33, "relevance": 5.0},
        {"total": 7.0, "completeness": 3.0, "reliability": 4.0},
    ]
    assert all(options == {"temperature": 0} for _, options in judge.asked)
    assert [sha(messages) for messages, _ in judge.asked] == ["7b6483f8bdf76a61", "92089933afb015c5"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{'score_accuracy': 3.67, 'score_relevance': 4, 'total_score': 7.67}", {"accuracy": 3.67, "relevance": 4.0}),
        ('{"score_accuracy":1,"score_relevance":5}', {"accuracy": 1.0, "relevance": 5.0}),
        ("**score_accuracy**: 2\n**score_relevance**: 3", {"accuracy": 2.0, "relevance": 3.0}),
        ("{'score_accuracy': 0, 'score_relevance': 4}", None),
        ("{'score_accuracy': 4}", None),
        ("I would give it four.", None),
        ("REFUSED", None),
    ],
)
def test_mlvu_grades_are_read_or_asked_for_again(text: str, expected: dict[str, float] | None) -> None:
    task = judged_task("mlvu_generation")
    question = Question("1", "Q?", answer="A", groups={"question_type": "sub_scene"}, extra={"scoring_points": ["a"]})
    good = "{'score_accuracy': 5, 'score_relevance': 5}"
    judge = Scripted(text, good)
    grades = expected or {"accuracy": 5.0, "relevance": 5.0}
    values = task.grade(question, task.judge(question, "x", judge)).values
    assert values == {"total": sum(grades.values()), **grades}
    assert len(judge.asked) == (1 if expected else 2)
    if expected is None:
        with pytest.raises(ValueError, match="no grades in 3 tries; the last: "):
            task.judge(question, "x", Scripted(text, text, text, good))


def test_mlvu_g_avg_is_the_mean_of_both_types() -> None:
    """5.25 and 2.55 give 3.90, as in the authors' table (InternVL2, test set)."""
    scene = Score({"total": 5.25, "accuracy": 2.25, "relevance": 3.0})
    summary = Score({"total": 2.55, "completeness": 1.25, "reliability": 1.3})
    records = [ScoredRecord(f"s{i}", f"s{i}", {"question_type": "sub_scene"}, scene) for i in range(3)]
    records += [ScoredRecord("t", "t", {"question_type": "summary"}, summary)]
    summed = summarize(judged_task("mlvu_generation").measures, records)
    name, metric = summed.headline
    assert name == "G-Avg" and metric.value == pytest.approx(3.90) and metric.best == 10
    assert summed.metrics["sub_scene"].value == pytest.approx(5.25) and summed.metrics["summary reliability"].best == 5

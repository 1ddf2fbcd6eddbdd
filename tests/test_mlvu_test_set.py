"""MLVU's test set: nine types and six options, with the answers and without, beside lmms-eval's own task code."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from benchmark_files import MLVU_TEST_TYPES, mlvu_test_parquet_rows, mlvu_test_rows, write_mlvu, write_mlvu_test
from lmms_eval.tasks.mlvu import utils as lmms_mlvu
from stored import scored_lines
from test_lmms_eval_data import home, snapshot, touch  # noqa: F401 - a fixture

from vamba_eval import Leaderboard, evaluate, load_task
from vamba_eval.contracts import ScoredRecord, UserError
from vamba_eval.score.statistics import summarize

RESPONSES = ["A", "(B)", "C.", "The answer is D", "E", "F", "(F) six", "I think it is E", "none", "", "Best: (A) or B"]


def withheld(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "answer"} for row in rows]


def test_full_size_with_answers(tmp_path: Path) -> None:
    rows = mlvu_test_rows()
    folder = write_mlvu_test(tmp_path, rows)
    (folder / "video").mkdir()
    (folder / "video" / "test_ego_0.mp4").touch()
    task = load_task("mlvu")
    videos = task.load(tmp_path, "test")
    known = {question.id: (video, question) for video in videos for question in video.questions}
    assert len(known) == 502 and not task.defects
    assert Counter(q.groups["question_type"] for _, q in known.values()) == {
        kind: count for kind, (_, count) in MLVU_TEST_TYPES.items()
    }
    for row in rows:
        video, question = known[row["question_id"]]
        assert question.options == tuple(str(option) for option in row["candidates"])
        assert question.answer == "ABCDEF"[row["candidates"].index(row["answer"])]
        place = folder if row["video"] == "test_ego_0.mp4" else folder / "MLVU_Test"
        assert video.path == place / "video" / row["video"]
    video, question = known["AC_1"]
    assert task.prompt(video, question, "vamba", None) == (
        "Select the best answer to the following multiple-choice question based on the video. "
        "Respond with only the letter (A, B, C, D, E, or F) of the correct option.\n"
        "Test count question 1?\nA. 1\nB. 2\nC. 3\nD. 4\nE. 5\nF. 6"
    )


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("test_multi_choice_tasks.json", "MLVU_Test/video"),
        ("MLVU_Test/test_question.json", "MLVU_Test/video"),
        ("MLVU_Test/test_multi_choice_tasks.json", "MLVU_Test/video"),
    ],
)
def test_without_answers(tmp_path: Path, file: str, place: str) -> None:
    folder = write_mlvu_test(tmp_path, withheld(mlvu_test_rows({"ego": 4, "sportsQA": 2})), file)
    task = load_task("mlvu")
    videos = task.load(tmp_path, "test")
    questions = [question for video in videos for question in video.questions]
    assert [question.answer for question in questions] == [None] * 6 and not task.defects
    assert videos[0].path == folder / place / "test_ego_0.mp4"
    assert task.score(questions[0], "F", "vamba").extracted == "F"
    assert task.score(questions[0], "F", "vamba").correct is None


def test_answers_are_preferred_and_dev_stays_dev(tmp_path: Path) -> None:
    rows = mlvu_test_rows({"order": 3})
    write_mlvu(tmp_path, 2)
    write_mlvu_test(tmp_path, withheld(rows), "test_multi_choice_tasks.json")
    write_mlvu_test(tmp_path, rows)
    task = load_task("mlvu")
    (_, question, *_) = [q for video in task.load(tmp_path, "test") for q in video.questions]
    assert question.answer == "B"
    assert sum(len(video.questions) for video in task.load(tmp_path)) == 14
    assert sum(len(video.questions) for video in task.load(tmp_path, "dev")) == 14


@pytest.mark.parametrize("answers", [True, False])
def test_lmms_evals_shape_prompts_and_scores(tmp_path: Path, answers: bool) -> None:
    rows = mlvu_test_parquet_rows(mlvu_test_rows(), answers=answers)
    folder = write_mlvu_test(tmp_path, rows, "MLVU_Test/data/test-00000-of-00001.parquet")
    task = load_task("mlvu")
    videos = task.load(tmp_path, "test")
    known = {question.id: (video, question) for video in videos for question in video.questions}
    assert len(known) == 502 and not task.defects
    assert videos[0].path == folder / "MLVU_Test" / "video" / rows[0]["video_name"]
    records, results = [], []
    for i, row in enumerate(rows):
        video, question = known[row["question_id"]]
        assert task.prompt(video, question, "lmms-eval", None) == lmms_mlvu.mlvu_doc_to_text(row)
        response = RESPONSES[i % len(RESPONSES)]
        score = task.score(question, response, "lmms-eval")
        records.append(ScoredRecord(question.id, video.id, question.groups, score))
        results.append(lmms_mlvu.mlvu_process_results(row, [response])["mlvu_percetion_score"])
        assert (score.extracted or "") == results[-1]["pred_answer"]
    summary = summarize(task.measures, records)
    if not answers:
        assert not summary.metrics
        return
    assert summary.headline[0] == "M-Avg"
    assert 100 * summary.headline[1].value == pytest.approx(lmms_mlvu.mlvu_aggregate_results_test(results))


def test_lmms_evals_copy_of_the_test_set_is_found(home: Path) -> None:  # noqa: F811
    rows = mlvu_test_parquet_rows(mlvu_test_rows({"sportsQA": 2}))
    published = write_mlvu_test(home / "published", rows, "data/test-00000-of-00001.parquet")
    (published / "data").rename(snapshot(home, "sy1998/MLVU_Test") / "data")
    touch(home / "mlvu_test" / rows[0]["video_name"])
    (video,) = load_task("mlvu").load("lmms-eval:", "test")
    assert video.path == home / "mlvu_test" / rows[0]["video_name"] and len(video.questions) == 2


def test_json_is_asked_and_scored_as_the_parquet(tmp_path: Path) -> None:
    rows = mlvu_test_rows({"plotQA": 3, "count": 2})
    write_mlvu_test(tmp_path / "json", rows)
    write_mlvu_test(tmp_path / "parquet", mlvu_test_parquet_rows(rows), "test-00000-of-00001.parquet")
    task = load_task("mlvu")
    loaded = [task.load(tmp_path / shape, "test") for shape in ("json", "parquet")]
    for video, other in zip(*loaded, strict=True):
        assert video.id == other.id
        for question, same in zip(video.questions, other.questions, strict=True):
            assert (question.id, question.options, question.answer) == (same.id, same.options, same.answer)
            for protocol in task.protocols:
                assert task.prompt(video, question, protocol, None) == task.prompt(other, same, protocol, None)


def test_the_splits_files_are_not_taken_for_each_other(tmp_path: Path) -> None:
    test_rows = mlvu_test_parquet_rows(mlvu_test_rows({"needleQA": 2, "ego": 1}))
    write_mlvu_test(tmp_path, test_rows, "test-00000-of-00001.parquet")
    with pytest.raises(UserError, match="questions of the type needleQA, which are not those of the split dev"):
        load_task("mlvu").load(tmp_path)
    dev_rows = [{**row, "task_type": "needle"} for row in test_rows]
    write_mlvu_test(tmp_path, dev_rows, "test-00000-of-00001.parquet")
    with pytest.raises(UserError, match="questions of the type needle, which are not those of the split test"):
        load_task("mlvu").load(tmp_path, "test")


def test_defects(tmp_path: Path) -> None:
    rows = mlvu_test_rows({"ego": 6})
    rows[0]["answer"] = "none of them"
    rows[1]["candidates"] = ["one"]
    del rows[2]["question_id"]
    rows[3]["video"] = None
    rows[4]["candidates"][5] = rows[4]["answer"]
    rows[5]["answer"] = None
    write_mlvu_test(tmp_path, rows)
    task = load_task("mlvu")
    questions = [question for video in task.load(tmp_path, "test") for question in video.questions]
    assert [question.problem is None for question in questions].count(True) == 2 and len(questions) == 6
    assert [defect.where for defect in task.defects] == [f"test_mcq_gt.json row {n}" for n in range(6)]
    (first,) = [question for question in questions if question.id == "ER_0"]
    assert all(task.score(first, letter, "vamba").correct == 0 for letter in "ABCDEF")


def test_the_submission_is_the_authors_file(tmp_path: Path, cli) -> None:
    write_mlvu_test(tmp_path, withheld(mlvu_test_rows()), "test_multi_choice_tasks.json")
    results = tmp_path / "results"
    board = evaluate(
        *(["mlvu"], ["random"]),
        **{"data_root": tmp_path, "output": results, "name": "test", "split": "test", "progress": False},
    )
    assert "answers withheld" in board.long_markdown()
    assert board.results[0].title == "MLVU (multiple choice), test"
    status, _, _ = cli("export", results / "test", "--output", tmp_path / "out")
    (file,) = (tmp_path / "out").rglob("*.json")
    entries = json.loads(file.read_text())
    assert status == 0 and file.name == "test_res.json" and len(entries) == 502
    assert entries[0].keys() == {"question_id", "question_type", "option"}
    assert {entry["option"] for entry in entries} == set("ABCDEF")
    assert {e["question_id"].rsplit("_", 1)[0]: e["question_type"] for e in entries} == {
        prefix: kind for kind, (prefix, _) in MLVU_TEST_TYPES.items()
    }
    responses = {
        record["question"]: record["response"]
        for record in map(json.loads, (results / "test" / "mlvu.random.jsonl").read_text().splitlines())
    }
    assert all(entry["option"] in responses[entry["question_id"]] for entry in entries)


def test_dev_has_no_submission_and_unparsed_responses_leave_the_option_empty(tmp_path: Path) -> None:
    write_mlvu(tmp_path, 2)
    evaluate(["mlvu"], ["constant"], data_root=tmp_path, output=tmp_path / "results", progress=False)
    assert Leaderboard.from_runs([tmp_path / "results"]).results
    task = load_task("mlvu")
    lines = (tmp_path / "results" / "mlvu" / "mlvu.constant.jsonl").read_text().splitlines()
    assert task.submission(scored_lines(task, map(json.loads, lines))) is None
    record = {"options": list("abcdef"), "answer": None, "groups": {"question_type": "ego"}}
    records = [
        {**record, "question": f"ER_{i}", "response": response} for i, response in enumerate(("F", "Z", "1", "(e)"))
    ]
    submission = task.submission(scored_lines(task, records))
    assert submission is not None
    assert [entry["option"] for entry in json.loads(submission[1])] == ["F", "", "", "E"]


def test_empty_texts_of_dev_are_asked_as_in_the_reference(tmp_path: Path) -> None:
    """As rows 119 of 3_ego.json and 26 of 7_topic_reasoning.json, as published."""
    folder = write_mlvu(tmp_path, 2)
    ego, topic = folder / "json" / "3_ego.json", folder / "json" / "7_topic_reasoning.json"
    rows = json.loads(ego.read_text())
    rows[0] |= {"candidates": ["In the garage", "In the toolbox", "", "On the shelf"], "answer": ""}
    rows[1]["answer"] = None
    ego.write_text(json.dumps(rows))
    rows = json.loads(topic.read_text())
    rows[1] |= {"question": "", "candidates": [""] * 4, "answer": ""}
    topic.write_text(json.dumps(rows))
    task = load_task("mlvu")
    questions = {question.id: question for video in task.load(tmp_path) for question in video.questions}
    assert len(questions) == 14 and questions["3_ego-0"].answer == "C"
    assert questions["7_topic_reasoning-1"].answer == "A" and questions["7_topic_reasoning-1"].problem is None
    assert [str(defect).partition(": ")[0] for defect in task.defects] == [
        *("3_ego.json row 0", "3_ego.json row 1", "7_topic_reasoning.json row 1", "7_topic_reasoning.json row 1"),
    ]
    assert "recorded as failed" in str(task.defects[1]) and "is given 4 times, as A and B and C and D" in str(
        task.defects[3]
    )

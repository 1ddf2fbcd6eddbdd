"""Video-MME, MLVU and LongVideoBench on files in their published formats."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from benchmark_files import (
    MLVU_TYPES,
    hourvideo_annotations,
    longvideobench_rows,
    lvbench_videos,
    mlvu_rows,
    mvbench_rows,
    nextqa_rows,
    videomme_rows,
    write_hourvideo,
    write_longvideobench,
    write_lvbench,
    write_mlvu,
    write_mvbench,
    write_nextqa,
    write_videomme,
)
from hub_server import Hub

from vamba_eval import Video, load_task
from vamba_eval.contracts import Score, ScoredRecord, Task, UserError
from vamba_eval.score.statistics import summarize


def questions(videos: list[Video]) -> dict[str, tuple[Video, object]]:
    return {question.id: (video, question) for video in videos for question in video.questions}


# ----------------------------------------------------------------------------------------------- Video-MME


def test_videomme_full_size(tmp_path: Path) -> None:
    rows = videomme_rows(900)
    folder = write_videomme(tmp_path, rows)
    (folder / "data" / "vid_1.mkv").touch()
    (folder / "data" / "vid_2.MP4").touch()
    task = load_task("videomme")
    videos = task.load(tmp_path)
    assert len(videos) == 900 and sum(len(video.questions) for video in videos) == 2700
    assert [video.path.name for video in videos[:3]] == ["vid_0.mp4", "vid_1.mkv", "vid_2.MP4"]
    assert not task.defects
    for row in rows:
        video, question = questions(videos[int(row["video_id"]) - 1 : int(row["video_id"])])[row["question_id"]]
        assert video.id == row["videoID"] and question.answer == row["answer"]
        assert question.groups == {key: row[key] for key in ("duration", "domain", "sub_category", "task_type")}
        assert question.options == tuple(option[3:] for option in row["options"])
        assert {**question.groups, **question.extra, "question": question.text, "answer": question.answer} == row


def test_videomme_vamba_prompt_verbatim(tmp_path: Path) -> None:
    write_videomme(tmp_path, videomme_rows(1, 1))
    task = load_task("videomme")
    (video,) = task.load(tmp_path)
    assert task.prompt(video, video.questions[0], "vamba", None) == (
        "Select the best answer to the following multiple-choice question based on the video.\n"
        "Respond with only the letter (A, B, C, or D) of the correct option.\n"
        "What is item 0 of scene 0?\n"
        "A. thing 0 0 a. B. thing 0 0 b. C. thing 0 0 c. D. thing 0 0 d."
    )


def test_videomme_broken_rows_are_reported_and_kept(tmp_path: Path) -> None:
    rows = videomme_rows(4, 1)
    rows[0]["options"][1] = "no letter"
    rows[1]["answer"] = "E"
    rows[2]["question"] = None
    rows[3]["videoID"] = None
    write_videomme(tmp_path, rows)
    task = load_task("videomme")
    videos = task.load(tmp_path)
    asked = [question for video in videos for question in video.questions]
    assert len(asked) == 4, "nothing vanishes"
    assert [question.problem is None for question in asked] == [True, True, False, False]
    where = [defect.where for defect in task.defects]
    assert where == [f"test-00000-of-00001.parquet row {n}" for n in range(4)]
    assert "'question' is missing" in task.defects[2].problem
    assert task.score(asked[1], "E", "vamba").correct == 0


def test_videomme_repeated_question_ids_are_told_apart(tmp_path: Path) -> None:
    rows = videomme_rows(1, 1) * 3
    write_videomme(tmp_path, rows)
    task = load_task("videomme")
    (video,) = task.load(tmp_path)
    assert [question.id for question in video.questions] == ["001-1", "001-1#2", "001-1#3"]
    assert len(task.defects) == 2


# ---------------------------------------------------------------------------------------------------- MLVU

PUBLISHED_COUNTS = dict(zip(MLVU_TYPES, (539, 355, 352, 206, 259, 200, 264), strict=True))


def test_mlvu_full_size(tmp_path: Path) -> None:
    write_mlvu(tmp_path, PUBLISHED_COUNTS)
    task = load_task("mlvu")
    videos = task.load(tmp_path)
    known = questions(videos)
    assert len(known) == sum(PUBLISHED_COUNTS.values()) and not task.defects
    counts = Counter(question.groups["question_type"] for _, question in known.values())
    assert counts == {MLVU_TYPES[kind]: count for kind, count in PUBLISHED_COUNTS.items()}
    for kind, count in PUBLISHED_COUNTS.items():
        for i, row in enumerate(mlvu_rows(kind, count)):
            video, question = known[f"{kind}-{i}"]
            assert video.path == tmp_path / "mlvu" / "video" / kind / row["video"]
            assert question.options["ABCD".index(question.answer)] == row["answer"]
    video, question = known["4_count-1"]
    assert task.prompt(video, question, "vamba", None) == (
        "Select the best answer to the following multiple-choice question based on the video. "
        "Respond with only the letter (A, B, C, or D) of the correct option.\n"
        "4_count question 1?\nA. 4_count 1 one\nB. 4_count 1 two\nC. 4_count 1 three\nD. 4_count 1 four"
    )


def write_mlvu_parquet(root: Path) -> list[dict]:
    rows = []
    for kind in ("plotQA", "needle", "ego", "count", "order", "anomaly_reco", "topic_reasoning"):
        for i in range(6):
            text = f"{kind} {i}?\n(A) red\n(B) green {i}\n(C) blue\n(D) none"
            answer = "ABCD"[i % 4]
            rows.append({"video_name": f"{kind}_{i}.mp4", "question": text, "answer": answer, "task_type": kind})
    (root / "mlvu").mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), root / "mlvu" / "test-00000-of-00001.parquet")
    return rows


def test_mlvu_in_lmms_evals_shape(tmp_path: Path) -> None:
    rows = write_mlvu_parquet(tmp_path)
    task = load_task("mlvu")
    videos = task.load(tmp_path)
    records = []
    for i, (row, video) in enumerate(zip(rows, videos, strict=True)):
        (question,) = video.questions
        assert question.options == ("red", f"green {i % 6}", "blue", "none") and question.answer == row["answer"]
        score = task.score(question, "ABC"[i % 3], "vamba")
        records.append(ScoredRecord(question.id, video.id, question.groups, score))
    summary = summarize(task.measures, records)
    assert summary.headline[0] == "M-Avg"
    plain = sum(bool(record.score.correct) for record in records) / len(records)
    assert summary.metrics["accuracy"].value == pytest.approx(plain)


def test_mlvu_defects(tmp_path: Path) -> None:
    folder = write_mlvu(tmp_path, 3)
    file = folder / "json" / "3_ego.json"
    rows = json.loads(file.read_text())
    rows[0]["answer"] = "nothing of the kind"
    rows[1]["candidates"][3] = rows[1]["candidates"][1]
    rows[1]["answer"] = rows[1]["candidates"][3]
    del rows[2]["candidates"]
    file.write_text(json.dumps(rows))
    task = load_task("mlvu")
    known = questions(task.load(tmp_path))
    assert [defect.where for defect in task.defects] == [f"3_ego.json row {n}" for n in range(3)]
    impossible, repeated = known["3_ego-0"][1], known["3_ego-1"][1]
    assert not any(task.score(impossible, letter, "vamba").correct for letter in "ABCD")
    assert repeated.answer == "B", "the first matching candidate counts"
    assert known["3_ego.json row 2"][1].problem is not None


# ------------------------------------------------------------------------------------------ LongVideoBench


def test_longvideobench_full_size(tmp_path: Path) -> None:
    rows = longvideobench_rows(1337)
    write_longvideobench(tmp_path, rows)
    task = load_task("longvideobench")
    videos = task.load(tmp_path)
    known = questions(videos)
    assert len(known) == 1337 and not task.defects
    for row in rows:
        video, question = known[row["id"]]
        assert question.answer == "ABCDE"[row["correct_choice"]]
        assert question.groups["duration_group"] == str(row["duration_group"])
    video, question = known["lvb0_1"]
    assert task.prompt(video, question, "vamba", None).endswith(
        "(A, B, C, or D) of the correct option.\nWhen the man sits, what is object 1?\n"
        "A. object 1 0\nB. object 1 1\nC. object 1 2\nD. object 1 3"
    )


def test_longvideobench_from_parquet_and_its_test_split(tmp_path: Path) -> None:
    rows = longvideobench_rows(12)
    hub_rows = []
    for row in rows:
        options = {f"option{i}": row["candidates"][i] if i < len(row["candidates"]) else "N/A" for i in range(5)}
        hub_rows.append({**{key: value for key, value in row.items() if key != "candidates"}, **options})
    write_longvideobench(
        tmp_path / "json", rows, [{k: v for k, v in row.items() if k != "correct_choice"} for row in rows]
    )
    folder = tmp_path / "hub" / "longvideobench"
    folder.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(hub_rows), folder / "validation-00000-of-00001.parquet")
    task = load_task("longvideobench")
    from_json, from_parquet = questions(task.load(tmp_path / "json")), questions(task.load(tmp_path / "hub"))
    assert [(q.options, q.answer, dict(q.groups)) for _, q in from_json.values()] == [
        (q.options, q.answer, dict(q.groups)) for _, q in from_parquet.values()
    ]
    test = task.load(tmp_path / "json", split="test")
    assert all(question.answer is None for video in test for question in video.questions)
    with pytest.raises(UserError, match="no split 'train'"):
        task.load(tmp_path / "json", split="train")


@pytest.mark.parametrize("gap", ["no column", "no value"])
def test_longvideobench_levels_are_those_of_the_categories(gap: str, tmp_path: Path) -> None:
    """Where the file does not say them; the categories and their levels are the paper's (table 1)."""
    rows = longvideobench_rows(9)
    for row in rows:
        row["level"] = None
        if gap == "no column":
            del row["level"]
        row |= {f"option{i}": dict(enumerate(row["candidates"])).get(i, "N/A") for i in range(5)}
        del row["candidates"]
    rows[3]["question_category"] = "X2X"
    rows[4]["question_category"] = None
    rows[6]["level"] = "L3-Own"  # what the file says counts
    folder = tmp_path / "longvideobench"
    folder.mkdir()
    table = pyarrow.Table.from_pylist([{**rows[6], "level": None}, *rows] if gap == "no value" else rows)
    pyarrow.parquet.write_table(table, folder / "validation-00000-of-00001.parquet")
    task = load_task("longvideobench")
    known = questions(task.load(tmp_path))
    expected = {"S2E": "L1-Perception", "TOS": "L2-Relation", "E3E": "L2-Relation"}
    for n, row in enumerate(rows):
        level = known[row["id"]][1].groups["level"]
        if n in (3, 4):
            assert level == "unknown"
        elif n == 6 and gap == "no value":
            assert known[f"{row['id']}#2"][1].groups["level"] == "L3-Own"
        elif n != 6:
            assert level == expected[row["question_category"]]


# ------------------------------------------------------------------------- the right option, given more than once


def _videomme_of(root: Path, options: list[str]) -> None:
    rows = videomme_rows(1, 1)
    rows[0] |= {"options": [f"{letter}. {text}" for letter, text in zip("ABCD", options, strict=True)], "answer": "C"}
    write_videomme(root, rows)


def _longvideobench_of(root: Path, options: list[str]) -> None:
    write_longvideobench(root, [{**longvideobench_rows(1)[0], "candidates": options, "correct_choice": 2}])


def _lvbench_of(root: Path, options: list[str]) -> None:
    lines = lvbench_videos(1, 1)
    listed = "\n".join(f"({letter}) {text}" for letter, text in zip("ABCD", options, strict=True))
    lines[0]["qa"][0] |= {"question": f"What?\n{listed}", "answer": "C"}
    write_lvbench(root, lines)


def _hourvideo_of(root: Path, options: list[str]) -> None:
    entries = hourvideo_annotations(1, 1)
    listed = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", options, strict=True))
    entries["uid-0"]["benchmark_dataset"][0] |= {"mcq_test": listed, "correct_answer_label": "C"}
    write_hourvideo(root, entries)


def _nextqa_of(root: Path, options: list[str]) -> None:
    answers = dict(zip(("a0", "a1", "a2", "a3", "a4"), [*options, "another"], strict=True))
    write_nextqa(root, [{**nextqa_rows(1, {"CW": 1})[0], **answers, "answer": 2}])


def _mlvu_of(root: Path, options: list[str]) -> None:
    folder = write_mlvu(root, 1)
    row = {**mlvu_rows("3_ego", 1)[0], "candidates": options, "answer": options[2]}
    (folder / "json" / "3_ego.json").write_text(json.dumps([row]))


def _mvbench_of(root: Path, options: list[str]) -> None:
    row = {**mvbench_rows("action_count", 1)[0], "candidates": options, "answer": options[2]}
    write_mvbench(root, 1, {"action_count": [row]})


EQUAL: dict[str, tuple[Callable[[Path, list[str]], None], str, str]] = {
    "videomme": (_videomme_of, "the published one alone counts", "C"),
    "longvideobench": (_longvideobench_of, "the published one alone counts", "C"),
    "lvbench": (_lvbench_of, "the published one alone counts", "C"),
    "hourvideo": (_hourvideo_of, "the published one alone counts", "C"),
    "nextqa": (_nextqa_of, "the published one alone counts", "C"),
    "mlvu": (_mlvu_of, "the first one that is the answer counts (under official the last)", "A"),
    "mvbench": (_mvbench_of, "the last one that is the answer counts (under lmms-eval the first)", "C"),
}
# Where another letter counts than by the first protocol.
ANOTHER = {("mlvu", "official"): "C", ("mvbench", "lmms-eval"): "A"}


@pytest.mark.parametrize("name", EQUAL)
def test_a_right_option_that_is_given_twice_is_reported(name: str, tmp_path: Path) -> None:
    write, consequence, letter = EQUAL[name]
    write(tmp_path / "twice", ["a dog", "a cat", "a dog", "no"])
    task = load_task(name)
    videos = task.load(tmp_path / "twice")
    (defect,) = task.defects
    assert (defect.problem, defect.consequence) == ("the answer 'a dog' is given twice, as A and C", consequence)
    (question,) = (q for video in videos for q in video.questions if "a dog" in q.options)
    for protocol in task.protocols:
        right = [each for each in "ABCD" if task.score(question, each, protocol).correct]
        assert right == [ANOTHER.get((name, protocol), letter)], protocol
    write(tmp_path / "others", ["a dog", "a cat", "a horse", "a dog"])
    task.load(tmp_path / "others")
    said = [defect.problem for defect in task.defects]
    assert said == (["the option 'a dog' is given twice, as A and D"] if name in ("mlvu", "nextqa") else [])
    write(tmp_path / "thrice", ["no", "a cat", "no", "no"])
    task.load(tmp_path / "thrice")
    assert [defect.problem for defect in task.defects] == ["the answer 'no' is given 3 times, as A and C and D"]


# --------------------------------------------------------------------------------------- missing and remote


@pytest.mark.parametrize("name", ["videomme", "mlvu", "longvideobench", "lvbench", "nextqa", "hourvideo", "mvbench"])
def test_missing_data_says_what_is_expected_where(name: str, tmp_path: Path) -> None:
    task = load_task(name)
    with pytest.raises(UserError, match=r"needs its data: give --data-root DIR .*https://huggingface.co"):
        task.load(None)
    with pytest.raises(UserError, match="is not a directory"):
        task.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=rf"below {tmp_path / name}.*https://huggingface.co"):
        task.load(tmp_path)


def test_a_broken_annotation_file_is_named(tmp_path: Path) -> None:
    folder = write_mlvu(tmp_path, 2)
    (folder / "json" / "4_count.json").write_text('[{"video": ')
    with pytest.raises(UserError, match=r"4_count.json cannot be read"):
        load_task("mlvu").load(tmp_path)
    (folder / "json" / "4_count.json").unlink()
    with pytest.raises(UserError, match=r"4_count.json is missing"):
        load_task("mlvu").load(tmp_path)


def test_a_hub_dataset_takes_the_same_path(tmp_path: Path) -> None:
    """A repository in the Hub's cache layout, found by the real huggingface_hub without a network."""
    rows = videomme_rows(5)
    repository = Path(os.environ["HF_HOME"]) / "hub" / "datasets--someone--Video-MME-copy"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    write_videomme(tmp_path, rows)
    (tmp_path / "videomme" / "videomme").rename(snapshot / "videomme")
    task = load_task("videomme")
    videos = task.load("hub:someone/Video-MME-copy")
    assert [video.id for video in videos] == [f"vid_{n}" for n in range(5)]
    with pytest.raises(UserError, match="dataset lmms-lab/Video-MME cannot be fetched"):
        task.load("hub:")


_LOADING = "import datasets, sys; datasets.load_dataset(sys.argv[1])"
_CARD = "---\nconfigs:\n- config_name: videomme\n  data_files:\n  - split: test\n    path: videomme/test-*\n---\n"


def test_a_table_that_datasets_keeps_is_enough(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Prepared by the real ``load_dataset`` with a network, used without one, and without the Hub's own cache."""
    rows = videomme_rows(5)
    published = write_videomme(tmp_path, rows)
    (published / "README.md").write_text(_CARD)
    with Hub("someone/Prepared", published).running() as hub:
        online = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        subprocess.run([sys.executable, "-c", _LOADING, hub.repo], check=True, env=os.environ | online, timeout=120)
    shutil.rmtree(Path(os.environ["HF_HOME"]) / "hub" / "datasets--someone--Prepared")
    task = load_task("videomme")
    videos = task.load("hub:someone/Prepared")
    assert "the table that datasets keeps of it is used" in caplog.text
    directly = task.load(tmp_path)
    assert [(video.id, video.questions) for video in videos] == [(video.id, video.questions) for video in directly]
    with pytest.raises(UserError, match="the dataset someone/Else cannot be fetched"):
        task.load("hub:someone/Else")


def test_every_task_is_complete() -> None:
    from vamba_eval import registry

    for name in registry.names(Task):
        task = registry.load_task(name)
        assert task.name == name
        assert task.version
        for field in ("title", "homepage", "citation"):
            assert getattr(task.catalogue, field)
        if task.asks_times:
            expected = Score({"iou": 0.0}, parsed=False)
        elif name == "vsi_super_count":
            expected = Score({"mra": 0.0}, parsed=False)
        else:
            expected = Score() if task.needs_judge(_any_question()) else Score({"correct": 1.0}, "A", True)
        assert task.score(_any_question(), "A", "vamba") == expected


def _any_question() -> object:
    from vamba_eval import Question

    # HourEval's ids begin with the source.
    return Question("videomme/q", "?", ("one", "two", "three", "four"), "A")


def test_mlvu_by_its_authors_rule(tmp_path: Path) -> None:
    """Against check_ans of their choice_bench.py, restated on the marks of options that it compares."""

    def is_right(response: str, mark: str) -> bool:
        letter = mark[mark.index("(") + 1 : mark.index(")")]
        if ")" in response:
            end = response.index(")")
            response = response[end - 1 : end]
        return response == letter

    write_mlvu(tmp_path, 4)
    task = load_task("mlvu")
    video = task.load(tmp_path)[0]
    question = video.questions[0]
    prompt = task.prompt(video, question, "official", None)
    assert prompt.startswith("Carefully watch this video") and prompt.endswith("\nBest Option: (")
    assert f"Question: {question.text}\nOptions:\n(A) {question.options[0]}\n(B) " in prompt
    for letter in "ABCD":
        asked = replace(question, answer=letter)
        for response in ("B", "B)", "(B) it", "b", " B", "B.", "A) or B)", ")", "It is (C)", "", "E)", "D) ", "AB)"):
            score = task.score(asked, response, "official")
            assert score.correct == is_right(response, f"({letter}) x"), (response, letter)
    twice = replace(question, options=("x", "y", "x", "z"), answer="A")
    assert task.score(twice, "C)", "official").correct and not task.score(twice, "A)", "official").correct

"""LVBench, NExT-QA and HourVideo on files in their published formats."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from benchmark_files import (
    HOURVIDEO_TASKS,
    LVBENCH_TYPES,
    NEXTQA_COUNTS,
    hourvideo_annotations,
    lvbench_rows,
    lvbench_videos,
    nextqa_rows,
    write_hourvideo,
    write_lvbench,
    write_nextqa,
)
from stored import scored_lines

from vamba_eval import Question, Task, Video, evaluate, load_adapter, load_task
from vamba_eval.contracts import Answer, FrameSampling, GenerationSettings, ModelAdapter, ScoredRecord, UserError
from vamba_eval.exchange.export import export
from vamba_eval.score.statistics import summarize

Cli = Callable[..., tuple[int, str, str]]


def questions(videos: list[Video]) -> dict[str, tuple[Video, Question]]:
    return {question.id: (video, question) for video in videos for question in video.questions}


def contents(videos: list[Video]) -> dict[str, tuple[object, ...]]:
    return {id: (v.id, q.text, q.options, q.answer, dict(q.groups)) for id, (v, q) in questions(videos).items()}


def answered(
    task: Task, videos: list[Video], respond: Callable[[int, Question], str], protocol: str = "vamba"
) -> list[ScoredRecord]:
    """What ``task`` makes of the response to each question, by its number and itself."""
    pairs = questions(videos).values()
    return [
        ScoredRecord(q.id, v.id, q.groups, task.score(q, respond(i, q), protocol)) for i, (v, q) in enumerate(pairs)
    ]


# ------------------------------------------------------------------------------------------------- LVBench


def test_lvbench_full_size_in_every_published_shape(tmp_path: Path) -> None:
    lines = lvbench_videos(103, 1549)
    folder = write_lvbench(tmp_path / "original", lines)
    (folder / "videos").mkdir()
    (folder / "all_videos").mkdir()
    (folder / "videos" / "-vid_0.mp4").touch()
    (folder / "all_videos" / "-vid_1.mp4").touch()
    (folder / "-vid_2.mp4").touch()
    (folder / "videos" / "-vid_3").mkdir()  # extracted frames
    write_lvbench(tmp_path / "flat", lvbench_rows(lines, "file_path"), "lvbench_processed.jsonl")
    write_lvbench(tmp_path / "hub", lvbench_rows(lines, "video_path"), "data/train-00000-of-00001.parquet")
    listed = lvbench_rows(lines, "video_path", options=True)
    write_lvbench(tmp_path / "listed", listed, "data/train-00000-of-00001.parquet")
    task = load_task("lvbench")
    videos = task.load(tmp_path / "original")
    assert not task.defects
    assert len(videos) == 103 and sum(len(video.questions) for video in videos) == 1549
    assert [video.id for video in videos] == [line["key"] for line in lines]
    places = ["videos/-vid_0.mp4", "all_videos/-vid_1.mp4", "-vid_2.mp4", "videos/-vid_3", "videos/-vid_4.mp4"]
    assert [video.path for video in videos[:5]] == [folder / place for place in places]
    known = questions(videos)
    for line in lines:
        for row in line["qa"]:
            video, question = known[row["uid"]]
            i = int(row["uid"])
            assert video.id == line["key"] and question.answer == row["answer"]
            assert question.text == f"What is event {i}?"
            assert question.options == (f"run {i}", f"walk (B-road) {i}", "no", "A man, seated")
            assert question.groups == {"question_type": tuple(row["question_type"]), "video_type": line["type"]}
    for shape in ("flat", "hub", "listed"):
        loaded = task.load(tmp_path / shape)
        assert not task.defects and contents(loaded) == contents(videos)
        prompts = [
            {id: task.prompt(*pair, "vamba", None) for id, pair in questions(some).items()} for some in (videos, loaded)
        ]
        assert prompts[0] == prompts[1]


def test_lvbench_prompts(tmp_path: Path) -> None:
    lines = lvbench_videos(2, 30)
    task = load_task("lvbench")
    for options in (False, True):
        rows = lvbench_rows(lines, "video_path", options=options)
        write_lvbench(tmp_path, rows, "data/train-00000-of-00001.parquet")
        known = questions(task.load(tmp_path))
        assert task.prompt(*known["7"], "official", None) == (
            "What is event 7?\n(A) run 7\n(B) walk (B-road) 7\n(C) no\n(D) A man, seated\n"
            "Please select the best answer from the options above and directly provide the letter representing your "
            "choice without giving any explanation."
        )
        assert task.prompt(*known["7"], "vamba", None) == (
            "Select the best answer to the following multiple-choice question based on the video.\n"
            "Respond with only the letter (A, B, C, or D) of the correct option.\n"
            "What is event 7?\n(A) run 7\n(B) walk (B-road) 7\n(C) no\n(D) A man, seated"
        )
    # Options both in the text and in the column: lmms-eval shows them twice.
    rows = [{**row, "options": ["one", "two", "three", "four"]} for row in lvbench_rows(lines, "video_path")]
    write_lvbench(tmp_path, rows, "data/train-00000-of-00001.parquet")
    pair = questions(task.load(tmp_path))["7"]
    assert task.prompt(*pair, "vamba", None).endswith("(D) A man, seated") and pair[1].options[0] == "run 7"


@pytest.mark.parametrize(
    ("response", "extracted"),
    [
        *(("B", "B"), ("(B) a dog", "B"), ("B) a dog", "B"), ("B. a dog", "B"), ("Sure: (B)", "B"), (" ( B ) ", "B")),
        # What it gets wrong: case counts, and the first word of a sentence is no letter.
        *(
            ("b", "b"),
            ("The answer is B", "T"),
            ("**B**", "*"),
            ("B or (C)", "C"),
            ("(", None),
            ("", None),
            (")B", None),
        ),
    ],
)
def test_lvbench_official_scores(response: str, extracted: str | None) -> None:
    task = load_task("lvbench")
    score = task.score(Question("q", "?", ("a cat", "a dog", "no", "yes"), "B"), response, "official")
    assert (score.extracted, score.correct) == (extracted, extracted == "B")
    assert score.parsed is (extracted in tuple("ABCD"))


def test_lvbench_counts_a_question_in_each_of_its_types(tmp_path: Path) -> None:
    lines = lvbench_videos(103, 1549)
    write_lvbench(tmp_path, lines)
    task = load_task("lvbench")
    records = answered(task, task.load(tmp_path), lambda i, question: "The answer is C")
    summary = summarize(task.measures, records)
    rows = [row for line in lines for row in line["qa"]]
    assert summary.headline[0] == "accuracy" and summary.headline[1].num_questions == 1549
    assert summary.headline[1].value == pytest.approx(sum(row["answer"] == "C" for row in rows) / 1549)
    by_type = summary.breakdowns["question_type"]
    assert set(by_type) == set(LVBENCH_TYPES)
    for kind, metric in by_type.items():
        own = [row["answer"] == "C" for row in rows if kind in row["question_type"]]
        assert metric.num_questions == len(own) and metric.value == pytest.approx(sum(own) / len(own))
    assert sum(metric.num_questions for metric in by_type.values()) == 1549 + len(range(0, 1549, 3))
    by_video = {kind: metric.num_questions for kind, metric in summary.breakdowns["video_type"].items()}
    assert by_video == Counter(line["type"] for line in lines for _ in line["qa"])


def test_lvbench_types_survive_the_store(tmp_path: Path) -> None:
    lines = lvbench_videos(3, 30)
    write_lvbench(tmp_path, lines)
    board = evaluate(["lvbench"], ["constant"], data_root=tmp_path, output=tmp_path / "out", progress=False)
    saved = {path.name: path for path in board.save(tmp_path / "tables")}
    rows = list(csv.DictReader(saved["breakdowns.csv"].read_text().splitlines()))
    counts = {row["value"]: int(row["questions"]) for row in rows if row["group"] == "question_type"}
    assert counts == Counter(kind for line in lines for row in line["qa"] for kind in row["question_type"])


def exported(name: str, data: Path, folder: Path) -> object:
    """The file that the authors of a benchmark evaluate, of a run in which every answer is B."""
    evaluate([name], [load_adapter("constant", letter="B")], data_root=data, output=folder / "run", progress=False)
    (file,), _ = export([folder / "run"], folder / "files", "official")
    return json.loads(file.read_text())


def test_files_of_answers(tmp_path: Path) -> None:
    lines = lvbench_videos(3, 30)
    write_lvbench(tmp_path, lines)
    assert exported("lvbench", tmp_path, tmp_path / "a") == {str(uid): "B" for uid in range(30)}
    rows = nextqa_rows(5, {"CW": 9})
    rows[2]["answer"] = 7
    write_nextqa(tmp_path, rows)
    assert exported("nextqa", tmp_path, tmp_path / "b") == {
        f"{row['video']}_{row['qid']}": {"prediction": 1, "answer": row["answer"] if row["answer"] < 5 else -2}
        for row in rows
    }
    task = load_task("nextqa")
    record = {"question": "1_2", "options": list("vwxyz"), "answer": "C", "groups": {}, "response": "?"}
    name, content = task.submission(scored_lines(task, [record, {**record, "response": "C"}]))
    assert name == "nextqa_results.json" and json.loads(content) == {"1_2": {"prediction": -1, "answer": 2}}


def test_lvbench_broken_rows_are_reported_and_kept(tmp_path: Path) -> None:
    lines = lvbench_videos(4, 8)
    lines[0]["qa"][0]["question"] = "Which one?\nA, B, C or D"
    lines[0]["qa"][1]["answer"] = "E"
    del lines[1]["qa"][0]["answer"]
    lines[1]["qa"][1] = "not a question"
    lines[2]["key"] = None
    lines[3]["qa"][0] = {
        **lines[3]["qa"][0],
        "question_type": [],
        "uid": None,
        "question": "One\u2028line?\n(A) x\n(B) y",
    }
    lines[3]["type"] = None
    write_lvbench(tmp_path, lines)
    task = load_task("lvbench")
    known = questions(task.load(tmp_path))
    assert len(known) == 8, "nothing vanishes"
    name = "video_info.meta.jsonl row"
    assert [defect.where for defect in task.defects] == [
        *(f"{name} 0 question 0", f"{name} 0 question 1", f"{name} 1 question 0", f"{name} 1 question 1"),
        *(f"{name} 2 question 0", f"{name} 2 question 1", f"{name} 3 question 0"),
    ]
    _, unlettered = known["0"]
    assert task.prompt(*known["0"], "vamba", None).endswith("\nWhich one?\nA, B, C or D"), "asked as published"
    assert task.score(unlettered, lines[0]["qa"][0]["answer"], "vamba").correct
    assert not any(task.score(known["1"][1], letter, "vamba").correct for letter in "ABCDE")
    assert "'answer' is missing" in known[f"{name} 1 question 0"][1].problem
    assert known[f"{name} 1 question 0"][0].id == "-vid_1", "the rest of the video's questions stay with it"
    assert "'key' is missing" in known[f"{name} 2 question 1"][1].problem
    _, odd = known[f"{name} 3 question 0"]
    assert odd.groups == {"question_type": "unknown", "video_type": "unknown"}
    assert odd.text == "One\u2028line?" and odd.answer == "" and odd.problem is None, "C is none of two options"


# ------------------------------------------------------------------------------------------------- NExT-QA


def test_nextqa_full_size_from_parquet_and_csv(tmp_path: Path) -> None:
    rows = nextqa_rows(1000, NEXTQA_COUNTS)
    folder = write_nextqa(tmp_path / "hub", rows)
    for name in ("2400000000.mp4", "2400000001.MP4"):
        (folder / "NExTVideo" / name).touch()
    (folder / "NExTVideo" / "2400000002").mkdir()  # extracted frames
    write_nextqa(tmp_path / "original", rows, "test.csv")
    task = load_task("nextqa")
    videos = task.load(tmp_path / "hub")
    assert not task.defects
    assert len(videos) == 1000 and sum(len(video.questions) for video in videos) == 8564
    names = ["2400000000.mp4", "2400000001.MP4", "2400000002", "2400000003.mp4"]
    assert [video.path for video in videos[:4]] == [folder / "NExTVideo" / name for name in names]
    assert contents(task.load(tmp_path / "original")) == contents(videos)
    known = questions(videos)
    categories = {"C": "causal", "T": "temporal", "D": "descriptive"}
    for row in rows:
        video, question = known[f"{row['video']}_{row['qid']}"]
        assert video.id == str(row["video"]) and question.answer == "ABCDE"[row["answer"]]
        assert question.options == tuple(row[f"a{n}"] for n in range(5)) and question.text == row["question"]
        assert question.groups == {"category": categories[row["type"][0]], "type": row["type"]}
    summary = summarize(task.measures, answered(task, videos, lambda i, question: "B" if i % 3 else question.answer))
    counted = {kind: metric.num_questions for kind, metric in summary.breakdowns["type"].items()}
    assert counted == NEXTQA_COUNTS
    counted = {kind: metric.num_questions for kind, metric in summary.breakdowns["category"].items()}
    assert counted == {"causal": 3329 + 1173, "temporal": 1399 + 1165 + 93, "descriptive": 600 + 483 + 322}
    right = [i % 3 == 0 or question.answer == "B" for i, (_, question) in enumerate(known.values())]
    assert summary.headline[1].value == pytest.approx(sum(right) / 8564)


def test_nextqa_val(cli: Cli, tmp_path: Path) -> None:
    """The authors' val.csv, of which the Hub's copy has nothing."""
    rows = nextqa_rows(570, {"CW": 3000, "TN": 1996})
    folder = write_nextqa(tmp_path, nextqa_rows(3, {"CW": 6}))
    common = ("--data-root", tmp_path, "--split", "val")
    status, said, _ = cli("check", "nextqa", *common)
    assert status == 1 and "no val.csv or MC/val-*.parquet or val-*.parquet" in said
    assert said.count("dataset/nextqa/val.csv of https://github.com/doc-doc/NExT-QA") == 2, "what lacks, and what to do"
    with pytest.raises(UserError, match=r"needs its data.*The val split is not in that repository"):
        load_task("nextqa").load(None, "val")
    write_nextqa(tmp_path, rows, "val.csv")
    for video in {row["video"] for row in rows}:
        (folder / "NExTVideo" / f"{video}.mp4").touch()
    status, said, _ = cli("check", "nextqa", *common, "--quick")
    assert status == 0 and said.startswith("nextqa, split val: complete"), said
    task = load_task("nextqa")
    videos = task.load(tmp_path, "val")
    assert len(videos) == 570 and sum(len(video.questions) for video in videos) == 4996
    write_nextqa(tmp_path / "parquet", rows, "MC/val-00000-of-00001.parquet")
    assert contents(task.load(tmp_path / "parquet", "val")) == contents(videos)
    assert sum(len(video.questions) for video in task.load(tmp_path)) == 6, "test stays the default"
    assert task.title_of("val") == "NExT-QA (multiple choice), val"


def test_nextqa_finds_the_videos_of_the_authors_archive(tmp_path: Path) -> None:
    folder = write_nextqa(tmp_path, nextqa_rows(2, {"CW": 4}), "test.csv")
    (folder / "map_vid_vidorID.json").write_text('{"2400000000": "1164/2400000000"}')
    (folder / "NExTVideo" / "1164").mkdir()
    (folder / "NExTVideo" / "1164" / "2400000000.mp4").touch()
    task = load_task("nextqa")
    paths = [video.path.relative_to(folder).as_posix() for video in task.load(tmp_path)]
    assert paths == ["NExTVideo/1164/2400000000.mp4", "NExTVideo/2400000001.mp4"]
    (folder / "map_vid_vidorID.json").write_text("[]")
    with pytest.raises(UserError, match=r"map_vid_vidorID.json should hold an object, not list"):
        task.load(tmp_path)


def test_nextqa_prompts(tmp_path: Path) -> None:
    rows = nextqa_rows(10, {"CW": 30, "DL": 10})
    rows[3]["question"] = " why  is it so"
    write_nextqa(tmp_path, rows)
    task = load_task("nextqa")
    known = questions(task.load(tmp_path))
    assert task.prompt(*known["2400000003_0"], "vamba", None) == (
        "Select the best answer to the following multiple-choice question based on the video. "
        "Respond with only the letter (A, B, C, D, or E) of the correct option.\n"
        " why  is it so\nA. clap 3\nB. crawl 3\nC. smile  3\nD. run 3\nE. sit, then lie 3"
    )


def test_nextqa_draws_are_seeded_by_question_and_counted(tmp_path: Path) -> None:
    write_nextqa(tmp_path, nextqa_rows(100, {"CW": 1000}))
    task = load_task("nextqa")
    videos = task.load(tmp_path)
    draws = answered(task, videos, lambda i, question: "I am not sure.", "lmms-eval")
    assert all(record.score.drawn and not record.score.parsed for record in draws)
    assert draws == answered(load_task("nextqa"), videos, lambda i, question: "", "lmms-eval"), "whatever is said"
    drawn = Counter(record.score.extracted for record in draws)
    assert set(drawn) == set("ABCDE") and all(150 < count < 250 for count in drawn.values())
    assert 0.15 < summarize(task.measures, draws).headline[1].value < 0.25, "chance is one in five"
    undrawn = answered(task, videos, lambda i, question: "?", "vamba")
    assert not any(record.score.drawn or record.score.correct or record.score.parsed for record in undrawn)


class Describer(ModelAdapter):
    """Answers with the first option's words, or not at all."""

    name = "describer"
    reads_video = False

    def encode(self, clip: object) -> None: ...

    def generate(self, encoded: object, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        first = [prompt.splitlines()[1].removeprefix("A. ") for prompt in prompts]
        return [
            Answer("?" if option in ("clap 0", "clap 1") else f"what one sees here is {option}") for option in first
        ]


def test_nextqa_runs_are_scored_from_what_is_stored(tmp_path: Path) -> None:
    write_nextqa(tmp_path, nextqa_rows(5, {"CW": 22}))  # the first option is right in 5 of these 22, one in 5
    arguments = {"data_root": tmp_path, "output": tmp_path / "out", "protocol": "lmms-eval", "progress": False}
    board = evaluate(["nextqa"], [Describer()], **arguments)
    row = board.table.iloc[0]
    assert row["drawn"] == 2 and row["unparsed"] == 2
    assert 22 * row["score"] == pytest.approx(4 + sum(drawn_right(tmp_path)), abs=1e-9)


def drawn_right(data_root: Path) -> list[bool]:
    task = load_task("nextqa")
    known = questions(task.load(data_root))
    return [bool(task.score(known[id][1], "?", "lmms-eval").correct) for id in ("2400000000_0", "2400000001_0")]


def test_nextqa_broken_rows_are_reported_and_kept(tmp_path: Path) -> None:
    rows = nextqa_rows(8, {"CW": 8})
    rows[0]["a3"] = rows[0]["a1"] + " "
    rows[1]["answer"] = 5
    rows[2]["answer"] = -1  # from the end, for a list
    rows[3]["a4"] = None
    rows[4]["video"] = None
    rows[5]["type"] = None
    rows[6]["qid"] = None
    rows[7]["video"] = rows[0]["video"]
    write_nextqa(tmp_path, rows)
    task = load_task("nextqa")
    known = questions(task.load(tmp_path))
    name = "test-00000-of-00001.parquet row"
    assert len(known) == 8, "nothing vanishes"
    assert [defect.where for defect in task.defects] == [f"{name} {n}" for n in (0, 1, 2, 3, 4, 6, 7)]
    assert known["2400000000_0"][1].answer == "A" and "'crawl 0' is given twice" in task.defects[0].problem
    for id in ("2400000001_0", "2400000002_0"):
        assert not any(task.score(known[id][1], letter, "vamba").correct for letter in "ABCDE")
    assert "'a4' is missing" in known[f"{name} 3"][1].problem and known[f"{name} 3"][0].id == "2400000003"
    assert "'video' is missing" in known[f"{name} 4"][1].problem
    assert known["2400000005_0"][1].groups == {"category": "unknown", "type": "unknown"}
    assert "'qid' is missing" in known[f"{name} 6"][1].problem
    assert known["2400000000_0#2"][1].options == tuple(rows[7][f"a{n}"] for n in range(5))


def test_nextqa_numbers_may_be_floats(tmp_path: Path) -> None:
    rows = nextqa_rows(3, {"CW": 6})
    write_nextqa(tmp_path / "whole", rows)
    floats = [{**row, **{name: float(row[name]) for name in ("video", "qid", "answer")}} for row in rows]
    write_nextqa(tmp_path / "floats", floats)
    task = load_task("nextqa")
    assert contents(task.load(tmp_path / "floats")) == contents(task.load(tmp_path / "whole"))
    floats[1]["answer"] = 1.5
    write_nextqa(tmp_path / "floats", floats)
    assert len(questions(task.load(tmp_path / "floats"))) == 6
    assert [defect.problem for defect in task.defects] == ["field 'answer' is 1.5, not a whole number or a name"]


def test_nextqa_csv_keeps_words_and_reports_rows_that_are_too_long(tmp_path: Path) -> None:
    rows = nextqa_rows(3, {"CW": 3})
    rows[0]["a0"], rows[0]["a1"] = "none", "None"  # words to which some CSV readers give another meaning
    folder = write_nextqa(tmp_path, rows, "test.csv")
    text = (folder / "test.csv").read_text().splitlines()
    text[3] = text[3].replace("clap", "clap, clap")  # a comma that was not quoted
    (folder / "test.csv").write_text("\ufeff" + "\n".join(text) + "\n", encoding="utf-8")
    task = load_task("nextqa")
    known = questions(task.load(tmp_path))
    assert known["2400000000_0"][1].options[:2] == ("none", "None")
    assert [defect.problem for defect in task.defects] == ["the row has more fields than the header"]


# ----------------------------------------------------------------------------------------------- HourVideo


@pytest.mark.parametrize("place", ["", "json", "v1.0_release/json"])
def test_hourvideo_full_size(tmp_path: Path, place: str) -> None:
    entries = {"canary": "no training on this", **hourvideo_annotations(50, 1182)}
    folder = write_hourvideo(tmp_path, entries, place)
    (folder / "videos" / "uid-1").mkdir(parents=True)  # extracted frames
    task = load_task("hourvideo")
    videos = task.load(tmp_path)
    assert not task.defects
    assert len(videos) == 50 and sum(len(video.questions) for video in videos) == 1182
    assert [video.path for video in videos[:2]] == [folder / "videos" / name for name in ("uid-0.mp4", "uid-1")]
    known = questions(videos)
    for uid, entry in entries.items():
        for row in entry["benchmark_dataset"] if uid != "canary" else []:
            video, question = known[row["qid"]]
            assert video.id == uid and question.answer == row["correct_answer_label"]
            assert question.options == tuple(row[f"answer_{n}"] for n in range(1, 6))
            assert question.groups == {"task": row["task"]}
    _, question = known["uid-0_0_0"]
    assert task.prompt(videos[0], question, "vamba", None) == (
        "Select the best answer to the following multiple-choice question based on the video.\n"
        "What happens at step 0? \n"
        "A. Step 0 of A. \nB. Step 0 of B. \nC. Step 0 of C. \nD. Step 0 of D. \nE. Step 0 of E. \n"
        "Respond with only the letter (A, B, C, D, or E) of the correct option."
    )
    assert "\nB. images/uid-0/1/B.png\n" in task.prompt(*known["uid-0_1_1"], "vamba", None)


def test_hourvideo_summary(tmp_path: Path) -> None:
    entries = hourvideo_annotations(3, 50)  # 10 tasks have three questions, 10 have two
    write_hourvideo(tmp_path, entries)
    task = load_task("hourvideo")
    rows = [row for entry in entries.values() for row in entry["benchmark_dataset"]]
    right = [i % 20 < 10 or i == 15 for i in range(50)]
    records = answered(
        task, task.load(tmp_path), lambda i, question: f"Answer: {question.answer.lower()}" if right[i] else "?"
    )
    summary = summarize(task.measures, records)
    assert list(summary.metrics) == ["accuracy", "mean over tasks"]
    assert summary.headline[1].value == pytest.approx(31 / 50)
    means = {}
    for kind in HOURVIDEO_TASKS:
        own = [r for r, row in zip(right, rows, strict=True) if row["task"] == kind]
        means[kind] = sum(own) / len(own)
    assert {kind: metric.value for kind, metric in summary.breakdowns["task"].items()} == pytest.approx(means)
    assert summary.metrics["mean over tasks"].value == pytest.approx((10 + 1 / 2) / 20)
    assert summarize(task.measures, []).metrics == {}


def test_hourvideo_broken_rows_are_reported_and_kept(tmp_path: Path) -> None:
    entries = hourvideo_annotations(4, 16)
    first = entries["uid-0"]["benchmark_dataset"]
    first[0]["mcq_test"] = "one of five"
    first[1]["correct_answer_label"] = "F"
    del first[2]["mcq_test"]
    first[3] = None
    entries["uid-1"] = {"video_metadata": {}}
    entries["uid-2"]["benchmark_dataset"][0]["mcq_test"] = "(A) this\n(B) that\nor so\n(C) D. Duck"
    write_hourvideo(tmp_path, entries)
    task = load_task("hourvideo")
    known = questions(task.load(tmp_path))
    assert len(known) == 13, "nothing vanishes"
    name = "dev_v1.0_annotations.json video"
    where = [*(f"{name} uid-0 question {n}" for n in range(4)), f"{name} uid-1", f"{name} uid-2 question 0"]
    assert [defect.where for defect in task.defects] == where
    assert "\none of five\n" in task.prompt(*known["uid-0_0_0"], "vamba", None)
    assert task.score(known["uid-0_0_0"][1], "A", "vamba").correct and task.defects[0].consequence.endswith("answers")
    assert not any(task.score(known["uid-0_1_1"][1], letter, "vamba").correct for letter in "ABCDEF")
    assert [known[place][1].problem is None for place in where[2:5]] == [False] * 3
    assert known[where[4]][0].id == "uid-1"
    assert known["uid-2_8_8"][1].options == ("this", "that\nor so", "D. Duck")
    (tmp_path / "hourvideo" / "v1.0_release" / "json" / "dev_v1.0_annotations.json").write_text("[]")
    with pytest.raises(UserError, match="should hold an object, not list"):
        task.load(tmp_path)


def test_hourvideo_has_the_papers_protocol_alone(cli: Cli, tmp_path: Path) -> None:
    write_hourvideo(tmp_path, hourvideo_annotations(2, 4))
    command = ("--tasks", "hourvideo", "--models", "constant", "--data-root", tmp_path, "--output", tmp_path / "out")
    status, _, err = cli(*command, "--protocol", "lmms-eval")
    assert status == 2 and "hourvideo has no protocol 'lmms-eval'; it has vamba" in err
    assert cli(*command)[0] == 0
    (run,) = (tmp_path / "out").rglob("run.json")
    used = json.loads(run.read_text())["tasks"]["hourvideo"]
    assert used["generation"] == {
        **{"max_new_tokens": 512, "do_sample": True, "temperature": 1.0, "top_p": 0.9, "top_k": None, "seed": 0}
    }


# ----------------------------------------------------------------------------------------- all three of them


@pytest.mark.parametrize(
    ("name", "sampling"),
    [
        ("lvbench", FrameSampling(num_frames=1024, shortest_edge=256, longest_edge=560)),
        ("nextqa", FrameSampling(num_frames=512, shortest_edge=256, longest_edge=480)),
        ("hourvideo", FrameSampling(num_frames=128, shortest_edge=256, longest_edge=360)),
    ],
)
def test_default_frames(name: str, sampling: FrameSampling) -> None:
    assert load_task(name).sampling == sampling


def test_the_papers_figures_stand_in_one_row(cli: Cli) -> None:
    status, out, _ = cli("leaderboard", "--published", "--format", "markdown")
    assert status == 0
    header, _, *rows = [line for line in out.splitlines() if line.startswith("|")]
    columns = [cell.strip() for cell in header.split("|")]
    (vamba,) = [[cell.strip() for cell in row.split("|")] for row in rows if row.startswith("| Vamba 10B (reported)")]
    cells = dict(zip(columns, vamba, strict=True))
    assert (
        cells["LVBench"] == "42.1" and cells["HourVideo (dev)"] == "33.6" and cells["MLVU (multiple choice)"] == "65.9"
    )
    assert cells["NExT-QA (multiple choice)"] == "78.1"

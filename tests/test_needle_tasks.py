"""TimeScope, LongTimeScope, VideoEval-Pro and VSI-SUPER: their files, prompts, scores and figures."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from choice_files import Rows
from judge_server import Reply, judge_server
from needle_files import (
    COUNT_LENGTHS,
    RECALL_LENGTHS,
    TIMESCOPE_ASKED,
    TIMESCOPE_KINDS,
    count_rows,
    recall_rows,
    timescope_rows,
    videoeval_pro_rows,
    write_count,
    write_recall,
    write_timescope,
    write_timescope_by_kind,
    write_videoeval_pro,
)
from test_choice_tasks import DOCS, Cli, Judge, questions, scored
from videos import make_video

from vamba_eval import Question, evaluate, load_task
from vamba_eval.contracts import CutOff, Score, UserError
from vamba_eval.score.statistics import summarize

Change = Callable[[Rows], None]


def unchanged(rows: Rows) -> None: ...


def timescope(root: Path, change: Change = unchanged, name: str = "timescope") -> None:
    rows = timescope_rows(12)
    change(rows)
    write_timescope(root, rows, name)


def longtimescope(root: Path, change: Change = unchanged) -> None:
    timescope(root, change, "longtimescope")


def videoeval_pro(root: Path, change: Change = unchanged) -> None:
    rows = videoeval_pro_rows(12)
    change(rows)
    write_videoeval_pro(root, rows)


def vsi_super_recall(root: Path, change: Change = unchanged) -> None:
    rows = {length: recall_rows(length, 4) for length in RECALL_LENGTHS}
    change(rows["60mins"])
    write_recall(root, rows)


def vsi_super_count(root: Path, change: Change = unchanged) -> None:
    rows = {length: count_rows(length, 4) for length in COUNT_LENGTHS}
    change(rows["60mins"])
    write_count(root, rows)


WRITERS: dict[str, Callable[..., None]] = {
    each.__name__: each for each in (timescope, longtimescope, videoeval_pro, vsi_super_recall, vsi_super_count)
}
PAGES = {"longtimescope": "timescope", "vsi_super_recall": "vsi_super", "vsi_super_count": "vsi_super"}


@pytest.mark.parametrize("name", WRITERS)
def test_a_broken_row_is_reported_and_kept(name: str, tmp_path: Path) -> None:
    task = load_task(name)
    field = "input" if "timescope" in name else "question"
    WRITERS[name](tmp_path / "whole")
    asked = questions(task.load(tmp_path / "whole"))
    assert not task.defects and not any(question.problem for _, question in asked.values())

    def break_one(rows: Rows) -> None:
        rows[1][field] = None

    WRITERS[name](tmp_path / "broken", break_one)
    found = questions(task.load(tmp_path / "broken"))
    assert len(found) == len(asked), "nothing vanishes"
    problems = [question.problem for _, question in found.values() if question.problem]
    assert len(problems) == len(task.defects) == (2 if name == "videoeval_pro" else 1), "it is asked in both ways"
    assert all(f"'{field}' is missing" in problem for problem in problems)


@pytest.mark.parametrize("name", WRITERS)
def test_missing_data_says_what_is_expected_where(name: str, tmp_path: Path) -> None:
    task = load_task(name)
    with pytest.raises(UserError, match=r"needs its data: give --data-root DIR .*https://"):
        task.load(None)
    with pytest.raises(UserError, match=rf"below {tmp_path / name}.*https://"):
        task.load(tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_prompts_are_quoted_word_for_word(name: str, tmp_path: Path) -> None:
    page = (DOCS / f"{PAGES.get(name, name)}.md").read_text(encoding="utf-8")
    task = load_task(name)
    WRITERS[name](tmp_path)
    quoted = {
        protocol: re.findall(r"```text\n(.*?)\n```", part, re.DOTALL)
        for protocol, part in re.findall(r"### `([\w-]+)`\n(.*?)(?=\n##|\Z)", page, re.DOTALL)
    }
    assert quoted.keys() == set(task.protocols) - {"flexible"}
    (same,) = re.findall(r"`flexible` asks as `([\w-]+)`", page)
    seen = set()
    for video, question in questions(task.load(tmp_path)).values():
        if len(question.options) == 5 or (
            name == "videoeval_pro" and "A. " not in question.extra.get("marks", ["A. "])
        ):
            continue
        options = tuple(f"{{option {letter}}}" for letter in "ABCDEF"[: len(question.options)])
        text = re.sub(r"What is needle \d+\?", "{question}", question.text) if "timescope" in name else "{question}"
        named = replace(question, text=text, options=options)
        assert task.prompt(video, named, "flexible", None) == task.prompt(video, named, same, None)
        for protocol, texts in quoted.items():
            prompt = task.prompt(video, named, protocol, None)
            assert prompt in texts, (protocol, question)
            assert all(each in prompt for each in task.instructions(question, protocol))
            seen.add((protocol, prompt))
    assert len(seen) == sum(map(len, quoted.values())) - (PAGES.get(name) == "vsi_super")


@pytest.mark.parametrize("name", WRITERS)
def test_options_are_turned_in_what_is_shown(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    task = load_task(name)
    for video, question in questions(task.load(tmp_path)).values():
        turned = task.rotated(question, 1)
        assert turned is not None
        before, after = (task.prompt(video, each, "lmms-eval", None) for each in (question, turned))
        if not question.options:
            assert before == after
            continue
        assert sorted(re.sub(r"[(\n]?[A-F][:.)] ", "|", before)) == sorted(re.sub(r"[(\n]?[A-F][:.)] ", "|", after))
        assert before != after and turned.options == (*question.options[1:], question.options[0])
        right = {each.options["ABCDEF".index(each.answer or "")] for each in (question, turned)}
        assert len(right) == 1


@pytest.mark.parametrize("name", WRITERS)
def test_a_run_on_real_videos(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    task = load_task(name)
    videos = task.load(tmp_path)
    for video in videos:
        video.path.parent.mkdir(parents=True, exist_ok=True)
        make_video(video.path, frames=12)
    board = evaluate([name], ["constant"], data_root=tmp_path, output=tmp_path / "out", progress=False)
    row = board.table.iloc[0]
    assert row["failed"] == 0
    if name == "vsi_super_count":
        assert row["score"] == 0
        return
    known = [task.score(q, "A", task.protocols[0]).correct for v in videos for q in v.questions if q.options]
    assert row["score"] == pytest.approx(sum(map(bool, known)) / len(known)) and 0 < row["score"] < 1
    assert row["metric"] == ("multiple-choice" if name == "videoeval_pro" else "accuracy")


@pytest.mark.parametrize("name", WRITERS)
def test_the_places_are_those_of_lmms_eval(name: str) -> None:
    """By its task files."""
    spec = find_spec("lmms_eval.tasks")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("lmms-eval is not installed")
    folders = {"vsi_super_recall": "vsisuper/recall", "vsi_super_count": "vsisuper/count"}
    folder = Path(next(iter(spec.submodule_search_locations))) / folders.get(name, name.replace("_", ""))
    text = "\n".join(file.read_text(encoding="utf-8") for file in [*folder.glob("*yaml"), *folder.glob("utils.py")])
    catalogue = load_task(name).catalogue
    dataset, there = catalogue.dataset, catalogue.in_lmms_eval
    assert dataset is not None and there is not None
    assert dataset.lmms_eval in re.findall(r"cache_dir: (\S+)", text)
    assert set(dataset.lmms_ids) == set(re.findall(r"dataset_path: (\S+)", text))
    assert set(there.tasks) == set(re.findall(r"^task: (\S+)", text, re.MULTILINE))
    assert all(f"def {function}(" in text for function in there.functions)


# ------------------------------------------------------------------------------- TimeScope, LongTimeScope


def test_timescope_in_both_layouts(tmp_path: Path) -> None:
    rows = timescope_rows(15)
    folder = write_timescope(tmp_path / "now", rows)
    write_timescope_by_kind(tmp_path / "before", rows)
    task = load_task("timescope")
    videos = task.load(tmp_path / "now")
    known = questions(videos)
    assert len(videos) == len(known) == 15
    _, question = known["OCR_36000_9"]
    assert question.groups == {"length": "10 h", "kind": "OCR", "kind and length": "OCR, 10 h"}
    assert {q.groups["length"] for _, q in known.values()} == {"1 min", "10 min", "3 h", "10 h", "90 s"}
    assert question.text == TIMESCOPE_ASKED.format(9).rstrip() and question.options[-1] == "date, apple, kiwi 9"
    assert [task.prompt(*pair, "lmms-eval", None) for pair in known.values()] == [row["input"] for row in rows]

    def contents(pairs: list[tuple[object, Question]]) -> list[tuple[object, ...]]:
        return sorted((q.text, q.options, q.answer, *q.groups.values()) for _, q in pairs)

    before = questions(task.load(tmp_path / "before"))
    assert contents([*before.values()]) == contents([*known.values()]) and "OCR_36000_3" in before
    place = folder / "videos_split" / "videos_OCR_36000"
    place.mkdir(parents=True)
    (place / "9.mkv").touch()
    paths = {video.id: video.path for video in task.load(tmp_path / "now")}
    assert paths["videos_split/videos_OCR_36000/9.mp4"] == place / "9.mkv"
    assert paths["videos_split/videos_QA_36000/10.mp4"] == folder / "videos_split/videos_QA_36000/10.mp4"
    (tmp_path / "before" / "timescope" / "data" / "QA-00000-of-00001.parquet").unlink()
    with pytest.raises(UserError, match=r"QA-\*.parquet is missing"):
        task.load(tmp_path / "before")


def test_timescope_questions_that_are_published_otherwise(tmp_path: Path) -> None:
    rows = timescope_rows(6)
    rows[0]["input"] = "How often? (a) one (b) two"
    rows[1] |= {"input": "Which?\n\n(A) up \n(B) A: down\n and on\n", "answer": "B"}
    rows[2]["answer"] = "G"
    rows[3]["answer"] = "b"
    write_timescope(tmp_path, rows)
    task = load_task("timescope")
    pairs = list(questions(task.load(tmp_path)).values())
    assert [task.prompt(*pair, "lmms-eval", None) for pair in pairs] == [row["input"] for row in rows]
    assert [str(each).split(": ")[0] for each in task.defects] == [
        f"test-00000-of-00001.parquet row {n}" for n in (0, 2)
    ]
    assert pairs[0][1].options == tuple("ABCDEF") and task.rotated(pairs[0][1], 1) is None
    assert pairs[1][1].options == ("up", "A: down\n and on")
    assert [pair[1].answer for pair in pairs[2:4]] == ["", "B"]
    turned = task.rotated(pairs[1][1], 1)
    assert turned is not None
    assert task.prompt(pairs[1][0], turned, "lmms-eval", None) == "Which?\n\n(A) A: down\n and on \n(B) up\n"


def test_longtimescope_removes_fewer_phrases(tmp_path: Path) -> None:
    timescope(tmp_path)
    longtimescope(tmp_path)
    extracted = {}
    for name in ("timescope", "longtimescope"):
        task = load_task(name)
        _, question = next(iter(questions(task.load(tmp_path)).values()))
        both = (task.score(question, "Best option: C", protocol).extracted for protocol in task.protocols)
        extracted[name] = tuple(both)
    assert extracted == {"timescope": ("C", "C"), "longtimescope": ("B", "C")}


def test_timescope_is_told_apart_by_kind_and_length(tmp_path: Path) -> None:
    write_timescope(tmp_path, timescope_rows(60))
    task = load_task("timescope")
    records = scored(task, task.load(tmp_path), lambda i, q: str(q.answer) if i % 3 else "none of them", "lmms-eval")
    breakdowns = summarize(task.measures, records).breakdowns
    assert {kind: metric.value for kind, metric in breakdowns["kind"].items()} == {"OCR": 0, "QA": 1, "temporal": 1}
    assert set(breakdowns["kind"]) == set(TIMESCOPE_KINDS) and len(breakdowns["kind and length"]) == 15
    assert all(metric.num_questions == 12 for metric in breakdowns["length"].values())


# ------------------------------------------------------------------------------------------ VideoEval-Pro


def test_videoeval_pro_asks_in_two_ways(tmp_path: Path) -> None:
    folder = write_videoeval_pro(tmp_path, videoeval_pro_rows(12))
    task = load_task("videoeval_pro")
    videos = task.load(tmp_path)
    assert len(videos) == 6 and all(len(video.questions) == 4 for video in videos), "a video is read once"
    ways = [questions(task.load(tmp_path, split)) for split in ("open", "choice")]
    assert [len(each) for each in ways] == [12, 12]
    assert {id: q for way in ways for id, (_, q) in way.items()} == {id: q for id, (_, q) in questions(videos).items()}
    _, asked = ways[0]["3_open-ended"]
    assert asked.answer == "A short answer 3" and task.needs_judge(asked)
    _, chosen = ways[1]["3_multiple-choice"]
    assert chosen.answer == "D" and chosen.extra["marks"][1] == "B. " and not task.needs_judge(chosen)
    assert chosen.groups == {
        "format": "multiple-choice",
        "source": "mlvu",
        "type": "Holistic Reasoning",
        "subtype": "subtype 3",
    }
    assert videos[0].path == folder / "videos" / "videos_filtered" / "vid0-_.mp4"
    (folder / "videos_filtered").mkdir()
    (folder / "videos_filtered" / "vid1-_.mp4").touch()
    assert task.load(tmp_path)[1].path == folder / "videos_filtered" / "vid1-_.mp4"


def test_videoeval_pro_options_without_letters_are_shown_as_published(tmp_path: Path) -> None:
    rows = videoeval_pro_rows(1)
    rows[0]["options"] = ["A. one", "two", "C. three", "D four"]
    write_videoeval_pro(tmp_path, rows)
    task = load_task("videoeval_pro")
    pair = questions(task.load(tmp_path, "choice"))["0_multiple-choice"]
    assert task.prompt(*pair, "official", None).endswith("\nA. one two C. three D four")
    assert pair[1].options == ("A. one", "two", "C. three", "D four")


@pytest.mark.parametrize(
    ("response", "extracted"),
    [
        *(("B", "B"), ("(b) x", "B"), ("The answer is: C. Answer: D", "C"), ("answer: d", "D"), ("12. a", "A")),
        *(("The option is: B", "B"), ("I think B", "I"), ("答案是B", "答"), ("...", None), ("", None)),
    ],
)
def test_videoeval_pro_official_choices(response: str, extracted: str | None) -> None:
    """By the authors' ``option_judge``, of which this table was made by hand."""
    score = load_task("videoeval_pro").score(Question("q", "?", tuple("wxyz"), "B"), response, "official")
    assert (score.extracted, score.correct) == (extracted, float(extracted == "B"))
    assert score.parsed is (extracted in tuple("ABCD"))


def test_videoeval_pro_grades(tmp_path: Path) -> None:
    write_videoeval_pro(tmp_path, videoeval_pro_rows(3))
    task = load_task("videoeval_pro")
    _, question = questions(task.load(tmp_path))["2_open-ended"]
    assert task.score(question, "x", "official") == Score()
    judge = Judge("Let me see.", "", "A")
    assert task.judge(question, " {it} is red\n", judge) == {"grade": "CORRECT"}
    assert len(judge.asked) == 3 and judge.asked[0] == judge.asked[2]
    ((message,), options), *_ = judge.asked
    assert message["role"] == "user" and options == {"temperature": 0}
    assert (
        "Question:What is shown in 2? \nGoldtarget:A short answer 2 \nPredictedanswer:{it} is red \n``` \nGrade"
        in (message["content"])
    )
    grades = {"B": "INCORRECT", "c.": "NOT_ATTEMPTED", "A: CORRECT": "CORRECT", "**B**": "INCORRECT"}
    grades |= {"INCORRECT": "INCORRECT", "correct": "CORRECT", "NOT ATTEMPTED": "NOT_ATTEMPTED"}
    for said, grade in grades.items():
        judgement = task.judge(question, "x", Judge(said))
        assert judgement == {"grade": grade}, said
        score = task.grade(question, judgement)
        assert score.values == {"correct": float(grade == "CORRECT")} and score.parsed == (grade != "NOT_ATTEMPTED")
    with pytest.raises(ValueError, match="no grade in 10 tries; the last: the judge's answer is no grade: 'Apple'"):
        task.judge(question, "x", Judge(*["Apple"] * 10))


def test_videoeval_pro_measures_both_ways_apart(cli: Cli, tmp_path: Path) -> None:
    """A run of both; its headline is what a judge says of the answers in free text."""
    videoeval_pro(tmp_path)
    for video, _ in questions(load_task("videoeval_pro").load(tmp_path)).values():
        video.path.parent.mkdir(parents=True, exist_ok=True)
        make_video(video.path, frames=6)
    command = (
        "--tasks",
        "videoeval_pro",
        "--models",
        "constant",
        "--data-root",
        tmp_path,
        "--output",
        tmp_path / "out",
    )
    status, _, err = cli(*command)
    assert status == 0, err
    (run,) = (path.parent for path in (tmp_path / "out").rglob("run.json"))

    def reply(request: dict[str, object]) -> Reply:
        return Reply("A" if re.search(r"Goldtarget:A short answer [0-2] ", str(request)) else "C")

    with judge_server(reply) as server:
        status, _, err = cli(
            "judge", run, "--judge-model", "m", "--judge-url", server.url, "--judge-cache", tmp_path / "c"
        )
        assert status == 0, err
        assert len(server.requests) == 12
    (row,) = csv.DictReader((run / "leaderboard.csv").open(encoding="utf-8"))
    assert row["metric"] == "open-ended" and float(row["score"]) == pytest.approx(3 / 12)


# ----------------------------------------------------------------------------------------------- VSI-SUPER


@pytest.mark.parametrize("name", ["vsi_super_recall", "vsi_super_count"])
def test_vsi_super_lengths(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / "tables")
    task = load_task(name)
    lengths = RECALL_LENGTHS if "recall" in name else COUNT_LENGTHS
    assert task.splits == ("test", *lengths)
    every = questions(task.load(tmp_path / "tables"))
    assert [q.groups["length"] for _, q in every.values()] == [each for each in lengths for _ in range(4)]
    for length in lengths:
        own = questions(task.load(tmp_path / "tables", length))
        assert own == {id: pair for id, pair in every.items() if id.startswith(f"{length}_")} and len(own) == 4
    video, _ = every["60mins_3"]
    number = 3 if "recall" in name else 1
    assert video.id == f"60mins/{number:08}" and video.path == tmp_path / "tables" / name / f"60mins/{number:08}.mp4"


def test_vsi_super_recall_answers(tmp_path: Path) -> None:
    rows = recall_rows("10mins", 4)
    rows[0]["answer"], rows[1]["answer"], rows[2]["answer"] = rows[0]["options"][2], "E", " D "
    write_recall(tmp_path, {"10mins": rows})
    task = load_task("vsi_super_recall")
    with pytest.raises(UserError, match=r"test_30mins\.parquet is missing"):
        task.load(tmp_path)
    asked = [question for _, question in questions(task.load(tmp_path, "10mins")).values()]
    assert [question.answer for question in asked] == ["C", "", "D", "B"]
    (defect,) = task.defects
    assert "the answer 'E' is not an option's letter" in str(defect)
    assert asked[0].options[1] == "Chair, red, the dog bed, B-side, Bathtub"


def test_vsi_super_counts_are_worth_how_near_they_are() -> None:
    task = load_task("vsi_super_count")
    question = Question("q", "How many?", answer="20")
    worth = {"20": 1.0, "21": 1.0, "22": 0.9, "10": 0.1, "30": 0.1, "31": 0.0, "0": 0.0, "none": 0.0, "": 0.0}
    for said, value in worth.items():
        score = task.score(question, said, "lmms-eval")
        assert score.values == {"mra": pytest.approx(value)}, said
        assert score.parsed == bool(re.search(r"\d", said))
    assert task.score(replace(question, answer=None), "20", "lmms-eval").values == {}
    assert task.score(replace(question, answer=""), "20", "lmms-eval").values == {"mra": 0.0}
    assert task.score(replace(question, answer="0"), "0.0", "lmms-eval").values == {"mra": 1.0}


@pytest.mark.parametrize(
    ("response", "count"),
    [
        *(("12", "12"), ("There are 12 chairs.", "12"), ("Twelve.", "12"), ("1,200 of them", "1200"), ("12.5", "12.5")),
        *(("<think>3? 4?</think>I see 12.", "12"), ("12 chairs: yes, 12", "12"), ("In 3 rooms, 12 chairs", None)),
        *(("In 3 rooms.\nThe answer is 12", "12"), ("Answer: **12**", "12"), (r"3 + 9 = \boxed{12}", "12")),
        *(("The answer is 3. No, the answer is 12.", "12"), ("10-12", None), ("some", None), ("", None)),
        *(
            ("I see 3 here, 9 there. In total, there are 12 chairs.", "12"),
            ("Room 1: 3\nRoom 2: 9\n**Total: 12**", "12"),
        ),
        *(("3 + 9 = 12 chairs", "12"), ("Total number of chairs: 12 (3 + 9)", "12"), ("12 (3 here, 9 there)", "12")),
        *(("12\n\n3 of them are here, 9 there.", "12"), ("1, 2, 3. So there are 12 of them.", "12")),
        *(
            ("In total 3 here and 9 there", None),
            ("Answer: 12\nThe total of room 2 is 9.", "12"),
            ("one hundred", None),
        ),
        *(("one or two", None), ("<think>12", None), (CutOff("I see 12"), None), (CutOff("The answer is 12"), "12")),
    ],
)
def test_vsi_super_counts_under_flexible(response: str, count: str | None) -> None:
    score = load_task("vsi_super_count").score(Question("q", "How many?", answer="12"), response, "flexible")
    assert score.extracted == count and score.parsed == (count is not None)
    assert score.values == {"mra": float(count == "12" or count == "12.5")}


def test_vsi_super_count_streams_are_left_out(tmp_path: Path) -> None:
    rows = count_rows("10mins", 6)
    rows[0]["answer"] = None
    write_count(tmp_path, {"10mins": rows})
    task = load_task("vsi_super_count")
    asked = questions(task.load(tmp_path, "10mins"))
    assert len(rows) == 9 and len(asked) == 6
    assert [question.answer for _, question in asked.values()] == ["", "11", "18", "25", "32", "39"]
    assert "the answer None is not a number" in str(task.defects[0]) and len(task.defects) == 1

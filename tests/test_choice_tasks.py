"""The newer benchmarks with options or short answers: their files, prompts, scores and figures."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from choice_files import (
    TEMPCOMPASS_FORMATS,
    TOMATO_FILES,
    VIDEOMMMU_TRACKS,
    Rows,
    cgbench_rows,
    egoschema_rows,
    mmvu_rows,
    motionbench_rows,
    perceptiontest_rows,
    tempcompass_rows,
    tomato_rows,
    tomato_table,
    videomme_v2_rows,
    videommmu_rows,
    write_cgbench,
    write_egoschema,
    write_egoschema_of_authors,
    write_mmvu,
    write_motionbench,
    write_parquet,
    write_perceptiontest,
    write_tempcompass,
    write_tomato,
    write_videomme_v2,
    write_videommmu,
)
from judge_server import Reply, judge_server
from videos import make_video

from vamba_eval import Question, Task, Video, evaluate, load_task
from vamba_eval.contracts import CutOff, Score, ScoredRecord, UserError, VideoError
from vamba_eval.score.statistics import summarize

Cli = Callable[..., tuple[int, str, str]]
RIGHT = Score({"correct": 1.0})
DOCS = Path(__file__).parents[1] / "docs" / "benchmarks"


def questions(videos: list[Video]) -> dict[str, tuple[Video, Question]]:
    return {question.id: (video, question) for video in videos for question in video.questions}


def scored(
    task: Task, videos: list[Video], respond: Callable[[int, Question], str], protocol: str
) -> list[ScoredRecord]:
    return [
        ScoredRecord(
            q.id,
            v.cluster or v.id,
            q.groups,
            task.score(q, respond(i, q), protocol),
            question=q,
            response=respond(i, q),
        )
        for i, (v, q) in enumerate(questions(videos).values())
    ]


# ------------------------------------------------------------------------------------------- all of them


def videommmu(root: Path, change: Callable[[Rows], None] = lambda rows: None) -> None:
    rows = {track: videommmu_rows(track, 5) for track in VIDEOMMMU_TRACKS}
    change(rows["Perception"])
    write_videommmu(root, rows)


def mmvu(root: Path, change: Callable[[Rows], None] = lambda rows: None) -> None:
    rows = mmvu_rows(12)
    change(rows)
    write_mmvu(root, rows)


def egoschema(root: Path, change: Callable[[Rows], None] = lambda rows: None) -> None:
    rows = egoschema_rows(6)
    change(rows)
    write_egoschema(root, rows)


def perceptiontest(root: Path, change: Callable[[Rows], None] = lambda rows: None) -> None:
    rows = perceptiontest_rows(6)
    change(rows)
    write_perceptiontest(root, rows)


def tomato(root: Path, change: Callable[[Rows], None] = lambda rows: None) -> None:
    rows = {kind: tomato_rows(kind, 4) for kind in TOMATO_FILES}
    change(rows["rotation"])
    write_tomato(root, rows)


def motionbench(root: Path, change: Callable[[Rows], None] = lambda rows: None) -> None:
    rows = motionbench_rows(6)
    change([asked for row in rows for asked in row["qa"]])
    write_motionbench(root, rows)


def tempcompass(root: Path, change: Callable[[Rows], None] = lambda rows: None) -> None:
    rows = {form: tempcompass_rows(form, 6) for form in TEMPCOMPASS_FORMATS}
    change(rows["yes_no"])
    write_tempcompass(root, rows)


def videomme_v2(root: Path, change: Callable[[Rows], None] = lambda rows: None) -> None:
    rows = videomme_v2_rows(4)
    change(rows)
    write_videomme_v2(root, rows)


WRITERS: dict[str, Callable[..., None]] = {
    each.__name__: each
    for each in (videommmu, mmvu, egoschema, perceptiontest, tomato, motionbench, tempcompass, videomme_v2)
}
# With as many options as its questions have, if that is another number than four.
NUM_OPTIONS = {"videomme_v2": 8, "mmvu": 5, "egoschema": 5, "perceptiontest": 3}


@pytest.mark.parametrize("name", WRITERS)
def test_a_broken_row_is_reported_and_kept(name: str, tmp_path: Path) -> None:
    task = load_task(name)
    WRITERS[name](tmp_path / "whole")
    asked = len(questions(task.load(tmp_path / "whole")))
    assert not task.defects

    def break_one(rows: Rows) -> None:
        rows[1]["question"] = None

    WRITERS[name](tmp_path / "broken", break_one)
    found = questions(task.load(tmp_path / "broken"))
    assert len(found) == asked, "nothing vanishes"
    (problem,) = (question.problem for _, question in found.values() if question.problem)
    assert "'question' is missing" in problem and len(task.defects) == 1


@pytest.mark.parametrize("name", WRITERS)
def test_missing_data_says_what_is_expected_where(name: str, tmp_path: Path) -> None:
    task = load_task(name)
    with pytest.raises(UserError, match=r"needs its data: give --data-root DIR .*https://"):
        task.load(None)
    with pytest.raises(UserError, match=rf"below {tmp_path / name}.*https://"):
        task.load(tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_prompts_are_quoted_word_for_word(name: str, tmp_path: Path) -> None:
    """Each of a task's prompts, with names in place of a question and four or five options."""
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    task = load_task(name)
    WRITERS[name](tmp_path)
    quoted = {
        protocol: re.findall(r"```text\n(.*?)\n```", part, re.DOTALL)
        for protocol, part in re.findall(r"### `([\w-]+)`\n(.*?)(?=\n##|\Z)", page, re.DOTALL)
    }
    assert quoted.keys() == set(task.protocols) - {"flexible"}
    seen = set()
    for video, question in questions(task.load(tmp_path)).values():
        count = len(question.extra.get("labels", ())) or NUM_OPTIONS.get(name, 4)
        options = tuple(f"{{option {letter}}}" for letter in "ABCDEFGH"[:count]) if question.options else ()
        named = replace(question, text="{question}", options=options)
        same = re.search(r"`flexible` asks as `([\w-]+)`", page)
        assert same is not None
        assert task.prompt(video, named, "flexible", None) == task.prompt(video, named, same[1], None)
        for protocol, texts in quoted.items():
            prompt = task.prompt(video, named, protocol, None).strip("\n")
            assert prompt in texts, (protocol, question)
            seen.add((protocol, prompt))
    assert len(seen) >= sum(map(len, quoted.values())) - (name == "videommmu"), "nothing is quoted that is not asked"


@pytest.mark.parametrize("name", WRITERS)
def test_a_run_on_real_videos(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    task = load_task(name)
    videos = task.load(tmp_path)
    for video in videos:
        video.path.parent.mkdir(parents=True, exist_ok=True)
        make_video(video.path, frames=12)
    expected = [q for v in videos for q in v.questions if not task.needs_judge(q)]
    arguments = {"data_root": tmp_path, "output": tmp_path / "out", "protocol": task.protocols[0], "progress": False}
    board = evaluate([name], ["constant"], **arguments)
    row = board.table.iloc[0]
    right = sum(bool(task.score(q, "A", task.protocols[0]).correct) for q in expected)
    assert row["failed"] == 0 and right > 0
    if row["metric"] == "accuracy":
        assert row["score"] == pytest.approx(right / len(expected))


# -------------------------------------------------------------------------------------------- Video-MMMU


def test_videommmu_full_size_from_parquet_and_json(tmp_path: Path) -> None:
    rows = {track: videommmu_rows(track, 300) for track in VIDEOMMMU_TRACKS}
    task = load_task("videommmu")
    write_videommmu(tmp_path / "hub", rows)
    write_videommmu(tmp_path / "authors", rows, as_json=True)
    for split in task.splits:
        counts = task.catalogue.counts[split]
        hub = task.load(tmp_path / "hub", split)
        assert (len(hub), sum(len(video.questions) for video in hub)) == (counts.videos, counts.questions)
        authors = task.load(tmp_path / "authors", split)
        assert [(v.id, v.questions, v.cluster) for v in hub] == [(v.id, v.questions, v.cluster) for v in authors]
    assert all(len(video.questions) == 3 for video in task.load(tmp_path / "hub")), "a lecture is read once"
    folder = tmp_path / "hub" / "videommmu"
    (folder / "videos" / "Art").mkdir(parents=True)
    (folder / "videos" / "Art" / "dev_Art_0.mp4").touch()
    paths = {video.id: video.path.relative_to(folder).as_posix() for video in task.load(tmp_path / "hub", "test")}
    assert (
        paths["dev_Art_0"] == "videos/Art/dev_Art_0.mp4"
        and paths["test_Pharmacy_290"] == "Medicine/test_Pharmacy_290.mp4"
    )
    both = task.load(tmp_path / "hub", "knowledge_gain")
    assert both[-1].path == folder / "question_only" / f"{both[-1].cluster}_image.mp4"


def test_videommmu_shows_the_last_frame() -> None:
    sampling = load_task("videommmu").sampling
    for frames in (60, 4_001, 15_180, 400_000):
        indices = sampling.indices(frames, 30.0)
        assert indices[0] == 0 and indices[-1] == frames - 1 and len(indices) <= 512
    assert len(sampling.indices(60, 30.0)) == 4, "an exercise without its lecture is not shown 512 times"


def test_videommmu_knowledge_gain(tmp_path: Path) -> None:
    write_videommmu(tmp_path, {track: videommmu_rows(track, 40) for track in VIDEOMMMU_TRACKS})
    task = load_task("videommmu")
    videos = task.load(tmp_path, "knowledge_gain")

    def respond(i: int, question: Question) -> str:  # 30 of 40 after, 10 before
        solved = i % 4 != 0 if "track" in question.groups else i % 4 == 1
        return f"the answer is {question.answer}" if solved else "?"

    records = scored(task, videos, respond, "lmms-eval")
    summary = summarize(task.measures, records)
    assert summary.metrics["knowledge gain"].value == pytest.approx((0.75 - 0.25) / (1 - 0.25))
    assert summary.headline[1].value == pytest.approx(0.75), "what was asked without the lecture is no part of it"
    gain = task.measures["knowledge gain"].function
    alone = [record for record in records if "track" in record.groups]
    assert gain(alone) is None
    assert "knowledge gain" not in summarize(task.measures, alone).metrics
    # What is all known before leaves nothing to gain; what is forgotten is a loss.
    known = scored(task, videos, lambda i, q: str(q.answer) if "track" not in q.groups else "?", "lmms-eval")
    assert gain(known) is None
    lost = scored(task, videos, lambda i, q: respond(i, swapped(q)) if i % 2 else "?", "lmms-eval")
    assert gain(lost) == pytest.approx((0.25 - 0.5) / (1 - 0.5))
    counted = {value: metric.num_questions for value, metric in summary.breakdowns["discipline"].items()}
    assert sum(counted.values()) == 40, "no breakdown mixes before and after"


def swapped(question: Question) -> Question:
    return replace(question, groups={"baseline": "x"} if "track" in question.groups else {"track": "adaptation"})


# -------------------------------------------------------------------------------------------------- MMVU


def test_mmvu_in_both_layouts(tmp_path: Path) -> None:
    rows = mmvu_rows(30)
    folder = write_mmvu(tmp_path / "authors", rows)
    write_mmvu(tmp_path / "lmms", rows, as_parquet=True)
    task = load_task("mmvu")
    videos = task.load(tmp_path / "authors")
    assert [(v.id, v.questions) for v in videos] == [(v.id, v.questions) for v in task.load(tmp_path / "lmms")]
    assert len(videos) == 15 and videos[3].path == folder / "videos" / "Pharmacy" / "3.mp4"
    known = questions(videos)
    assert known["validation_7"][1].groups == {
        "question_type": "multiple-choice",
        "discipline": "Healthcare",
        "subject": "Pharmacy",
    }
    assert known["validation_2"][1].answer == "Dolly Zoom" and not known["validation_2"][1].options
    assert [task.needs_judge(question) for _, question in list(known.values())[:4]] == [False, False, True, False]


class Judge:
    """With its answers ready; what it was asked is kept."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), []

    def __call__(self, messages: Sequence[Mapping[str, str]], **options: Any) -> str:
        self.asked.append((messages, options))
        return self.answers.pop(0)


def test_mmvu_short_answers_are_judged(tmp_path: Path) -> None:
    write_mmvu(tmp_path, mmvu_rows(3))
    task = load_task("mmvu")
    _, question = questions(task.load(tmp_path))["validation_2"]
    assert task.score(question, "Dolly Zoom", "official").values == {}
    judge = Judge("I cannot say", '{"correct": "yes"}', '```json\n{"extracted_answer": "a zoom", "correct": true}\n```')
    judgement = task.judge(question, "It is a zoom.", judge)
    assert judgement == {"extracted_answer": "a zoom", "correct": True}
    ((system, user), options), *_ = judge.asked
    assert system["content"].startswith("Evaluate whether the model's final answer is correct by comparing it to the ")
    assert user["content"] == (
        "Question: Which technique is shown in 2?\n\nGround Truth Answer: Dolly Zoom\n\n"
        "Model Response to the Question: It is a zoom."
    )
    assert options == {"temperature": 1.0} and len(judge.asked) == 3
    assert task.grade(question, judgement).values == {"correct": 1.0}
    wrong = task.grade(question, {"extracted_answer": "", "correct": False})
    assert wrong.values == {"correct": 0.0} and not wrong.parsed
    with pytest.raises(ValueError, match="no verdict in 5 tries; the last: the judge's answer holds no verdict: 'no'"):
        task.judge(question, "x", Judge(*["no"] * 5))


def test_mmvu_choices_and_short_answers_are_told_apart(tmp_path: Path) -> None:
    write_mmvu(tmp_path, mmvu_rows(30))
    task = load_task("mmvu")
    records = scored(task, task.load(tmp_path), lambda i, q: f"The answer is {q.answer if i % 2 else 'F'}", "official")
    graded = [
        replace(record, score=task.grade(record.question, {"extracted_answer": "x", "correct": True}))
        if task.needs_judge(record.question)
        else record
        for record in records
    ]
    metrics = summarize(task.measures, graded).metrics
    assert {name: (metric.num_questions, metric.value) for name, metric in metrics.items()} == {
        "accuracy": (30, pytest.approx(20 / 30)),
        "multiple-choice": (20, 0.5),
        "open-ended": (10, 1.0),
    }
    assert list(summarize(task.measures, records).metrics) == ["accuracy", "multiple-choice"]


# ---------------------------------------------------------------------------------------------- EgoSchema


def test_egoschema_splits_in_both_layouts(tmp_path: Path) -> None:
    rows = egoschema_rows(50)
    full = [*rows, *egoschema_rows(100)[50:]]
    write_egoschema(tmp_path / "hub", rows, [{**row, "answer": None} for row in full])
    write_egoschema_of_authors(tmp_path / "authors", full, 50)
    task = load_task("egoschema")
    for split, count in (("subset", 50), ("full", 100)):
        hub = task.load(tmp_path / "hub", split)
        assert len(hub) == count and not task.defects
        assert [(v.id, v.questions) for v in hub] == [
            (v.id, v.questions) for v in task.load(tmp_path / "authors", split)
        ]
    assert all(question.answer is None for video in hub for question in video.questions)
    (tmp_path / "authors" / "egoschema" / "subset_answers.json").unlink()
    with pytest.raises(UserError, match=r"subset_answers.json is missing"):
        task.load(tmp_path / "authors")
    assert task.title_of("full") == "EgoSchema (all)" and "subset" in task.title_of(None)


def test_egoschema_submission(tmp_path: Path) -> None:
    write_egoschema(tmp_path, egoschema_rows(3), egoschema_rows(3, withheld=True))
    task = load_task("egoschema")
    said = ["B", "(E) it is", "F?"]
    records = scored(task, task.load(tmp_path, "full"), lambda i, question: said[i], "flexible")
    assert [record.values for record in records] == [{}] * 3
    name, content = task.submission(records)
    assert name == "egoschema_submission.json"
    assert json.loads(content) == {"0074f737-0000": 1, "0074f737-0001": 4, "0074f737-0002": -1}


# ---------------------------------------------------------------------------------------- Perception Test


def test_perceptiontest_in_both_layouts(tmp_path: Path) -> None:
    rows = perceptiontest_rows(19140)
    folder = write_perceptiontest(tmp_path / "hub", rows)
    write_perceptiontest(tmp_path / "authors", rows, as_json=True)
    task = load_task("perceptiontest")
    videos = task.load(tmp_path / "hub")
    assert sum(len(video.questions) for video in videos) == task.catalogue.counts["val"].questions
    assert [(v.id, v.questions) for v in videos] == [(v.id, v.questions) for v in task.load(tmp_path / "authors")]
    assert videos[1].path == folder / "videos" / "video_1.mp4"
    _, question = questions(videos)["video_1_1"]
    assert question.answer == "B" and question.groups == {
        "area": "Memory",
        "reasoning": "Descriptive",
        "tag": ("counting", "motion"),
    }


# ------------------------------------------------------------------------------------------------ TOMATO


def test_tomato_in_all_layouts(tmp_path: Path) -> None:
    rows = {kind: tomato_rows(kind, 12) for kind in TOMATO_FILES}
    folder = write_tomato(tmp_path / "authors", rows)
    write_tomato(tmp_path / "hub", rows, as_parquet=True)
    every = [row for own in rows.values() for row in own]
    write_parquet(tmp_path / "lmms" / "tomato" / "data" / "test-00000-of-00001.parquet", tomato_table(every))
    task = load_task("tomato")
    videos = task.load(tmp_path / "authors")
    assert [(v.id, v.questions) for v in videos] == [(v.id, v.questions) for v in task.load(tmp_path / "hub")]
    theirs = task.load(tmp_path / "lmms")

    def asked(found: list[Video]) -> list[tuple[object, ...]]:
        return [(v.id, q.text, q.options, q.answer, q.groups["task"]) for v in found for q in v.questions]

    assert asked(videos) == asked(theirs) and len(asked(videos)) == 72
    _, question = questions(videos)["shape&trend-1"]
    assert question.groups == {"task": "shape&trend", "demonstration": "object", "variation": ("composite", "zoom")}
    assert videos[0].path == folder / "videos" / "human" / f"{rows['count'][0]['key']}.mp4"
    (folder / "data" / "rotation.json").unlink()
    with pytest.raises(UserError, match=r"rotation.json is missing"):
        task.load(tmp_path / "authors")


def test_tomato_takes_the_first_option_where_there_is_none(tmp_path: Path) -> None:
    write_tomato(tmp_path, {kind: tomato_rows(kind, 4) for kind in TOMATO_FILES})
    task = load_task("tomato")
    for _, question in questions(task.load(tmp_path)).values():
        score = task.score(question, "?", "lmms-eval")
        assert not score.parsed and score.extracted is None and score.correct == float(question.answer == "A")
        assert task.score(question, "?", "flexible").correct == 0


# ------------------------------------------------------------------------------------------- MotionBench


def test_motionbench_splits(tmp_path: Path) -> None:
    folder = write_motionbench(tmp_path, motionbench_rows(40))
    (folder / "MotionBench" / "public-dataset").mkdir()
    (folder / "MotionBench" / "public-dataset" / "video0.mp4").touch()
    task = load_task("motionbench")
    dev, test = task.load(tmp_path), task.load(tmp_path, "test")
    assert sum(len(video.questions) for video in dev) == 60 and sum(len(video.questions) for video in test) == 20
    assert all(question.answer is None for video in test for question in video.questions)
    assert dev[0].path == folder / "MotionBench" / "public-dataset" / "video0.mp4"
    _, question = questions(dev)["uid-0-1"]
    assert question.text == "How does the man move in 0, 1?" and question.answer == "B"
    assert question.groups == {"question_type": "Action Order", "video_type": "self-collected"}
    assert not questions(dev).keys() & questions(test).keys()


# ------------------------------------------------------------------------------------------- TempCompass


def test_tempcompass_in_both_layouts(tmp_path: Path) -> None:
    rows = {form: tempcompass_rows(form, 40) for form in TEMPCOMPASS_FORMATS}
    # The authors grade a caption by the first choice about the same dimension of the video.
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows["multi-choice"]:
        first.setdefault((row["video_id"], row["dim"]), row)
    for row in rows["captioning"]:
        asked = first[row["video_id"], row["dim"]]
        row |= {"mc_question": asked["question"], "mc_answer": asked["answer"]}
    folder = write_tempcompass(tmp_path / "hub", rows)
    write_tempcompass(tmp_path / "authors", rows, as_json=True)
    task = load_task("tempcompass")
    for split in task.splits:
        hub, authors = questions(task.load(tmp_path / "hub", split)), questions(task.load(tmp_path / "authors", split))
        assert hub.keys() == authors.keys() and len(hub) == (160 if split == "test" else 40)
        assert {id: q for id, (_, q) in hub.items()} == {id: q for id, (_, q) in authors.items()}
    videos = task.load(tmp_path / "hub")
    assert len(videos) == 20 and all(len(video.questions) == 8 for video in videos), "a video is read once"
    assert videos[3].path == folder / "videos" / "103443.mp4"


def test_tempcompass_shows_odd_letters_as_published(tmp_path: Path) -> None:
    rows = {form: tempcompass_rows(form, 4) for form in TEMPCOMPASS_FORMATS}
    odd = "Which?\nA. dancing\nB. kissing\nC.Both at once\n D. none"
    rows["multi-choice"][0] |= {"question": odd, "answer": "C.Both at once"}
    write_tempcompass(tmp_path, rows)
    task = load_task("tempcompass")
    video, question = questions(task.load(tmp_path))["103440_multi-choice_action_0"]
    assert question.options == ("dancing", "kissing", "Both at once", "none") and question.answer == "C"
    assert task.prompt(video, question, "lmms-eval", None) == f"{odd}\nPlease directly give the best option:"
    assert task.rotated(question, 1) is None and len(task.defects) == 1
    _, regular = questions(task.load(tmp_path))["103440_multi-choice_direction_0"]
    turned = task.rotated(regular, 1)
    assert turned is not None and task.prompt(video, turned, "lmms-eval", None).split("\n")[1] == "A. dark red"


@pytest.mark.parametrize(
    ("response", "lmms", "flexible"),
    [
        *(("yes", "yes", "yes"), ("No.", "no", "no"), ("The answer is yes", None, "yes"), ("nobody", "no", None)),
        *(("Yes, there is no doubt", "yes", "yes"), ("It is yes or no", None, None), ("", None, None)),
        *(("<think>no?</think>yes", "yes", "yes"), ("**Yes**", None, "yes"), ("Yes and no.", "yes", None)),
        *(("There is no cut. So the answer is yes.", None, "yes"), ("No. It said yes at first.", "no", "no")),
        *(("There is no doubt that he dunks", None, None), ("No one else is there", "no", None), ("A", None, None)),
        *(("No it isn't", "no", "no"), ("Yes he does", "yes", "yes"), (CutOff("He is there, no"), None, None)),
        *(("Is it yes or no? He walks. The answer: no.", None, "no"), ("Answer: **Yes** (no doubt)", None, "yes")),
    ],
)
def test_tempcompass_yes_or_no(response: str, lmms: str | None, flexible: str | None) -> None:
    task = load_task("tempcompass")
    question = Question("q", "?", answer="yes", groups={"format": "yes_no"})
    for protocol, expected in (("lmms-eval", lmms), ("flexible", flexible)):
        score = task.score(question, response, protocol)
        assert (score.extracted, score.parsed) == (expected, expected is not None)
        assert score.correct == float(expected == "yes")


@pytest.mark.parametrize(
    ("response", "lmms", "flexible"),
    [
        *(("Option 2", "B", "B"), ("2.", "B", "B"), ("Option 2: He passes.", "B", "B"), ("He passes.", "B", "B")),
        *(
            ("I think option 2 fits", None, "B"),
            ("Not option 1 but option 2", None, "B"),
            ("He passes, clearly", None, "B"),
        ),
        *(("Option 1", "A", "A"), ("?", None, None), ("B) He passes.", "B", "B"), ("It is not option 1.", None, None)),
        *(("Option 2 fits better than Option 1.", None, "B"), ("Option 1 is wrong, so Option 2.", None, "B")),
        *(
            ("Answer: 2", None, "B"),
            (r"\boxed{2}", None, "B"),
            ("<answer>2</answer>", None, "B"),
            ("2 men pass", None, None),
        ),
        *(("Option 1 or Option 2", None, None), (CutOff("Option 2 shows the man, and"), None, None)),
    ],
)
def test_tempcompass_caption_matching(response: str, lmms: str | None, flexible: str | None) -> None:
    task = load_task("tempcompass")
    groups, extra = {"format": "caption_matching"}, {"labels": ["Option 1", "Option 2"]}
    question = Question("q", "?", ("He dunks.", "He passes."), "B", groups, extra)
    for protocol, expected in (("lmms-eval", lmms), ("flexible", flexible)):
        score = task.score(question, response, protocol)
        assert (score.extracted, score.parsed) == (expected, expected is not None), protocol
        assert score.correct == float(expected == "B")


def test_tempcompass_means(tmp_path: Path) -> None:
    write_tempcompass(tmp_path, {form: tempcompass_rows(form, 20) for form in TEMPCOMPASS_FORMATS})
    task = load_task("tempcompass")
    share = {"multi-choice": 4, "yes_no": 2, "caption_matching": 5}  # one in so many is answered rightly

    def respond(i: int, question: Question) -> str:
        form = str(question.groups["format"])
        if form == "captioning" or i % share[form]:
            return "?"
        labels = question.extra.get("labels")
        return labels["AB".index(question.answer or "")] if labels else str(question.answer)

    records = scored(task, task.load(tmp_path), respond, "lmms-eval")
    by_format = {
        form: [r.values["correct"] for r in records if r.groups["format"] == form and r.values] for form in share
    }
    metrics = summarize(task.measures, records).metrics
    accuracies = {form: sum(values) / len(values) for form, values in by_format.items()}
    assert {form: metrics[form].value for form in share} == pytest.approx(accuracies) and "captioning" not in metrics
    assert metrics["mean over formats"].value == pytest.approx(sum(accuracies.values()) / 3)
    assert 0 < metrics["mean over formats"].value < 1


# ------------------------------------------------------------------------------------------ Video-MME-v2


def test_videomme_v2_full_size(tmp_path: Path) -> None:
    rows = videomme_v2_rows(800)
    folder = write_videomme_v2(tmp_path, rows, subtitles=True)
    task = load_task("videomme_v2")
    videos = task.load(tmp_path)
    assert not task.defects and len(videos) == 800 and all(len(video.questions) == 4 for video in videos)
    assert videos[1].path == folder / "videos" / "002.mp4" and videos[1].subtitles == folder / "subtitle" / "002.jsonl"
    _, question = questions(videos)["002-1"]
    assert (rows[4]["level"], rows[7]["level"]) == ("2", "3")
    assert question.groups["level"] == "3", "that of the group, so that a breakdown has whole groups"
    assert question.options == (
        "a dog.",
        "a cat",
        "no",
        "A man runs",
        "12 1",
        "1,200 1",
        "the answer is B 1",
        "一只猫 1",
    )


@pytest.mark.parametrize(
    ("kind", "structure", "answers", "worth"),
    [
        *(("relevance", None, "RRRR", 1), ("relevance", None, "RWRR", 9 / 16), ("relevance", None, "WWWR", 1 / 16)),
        *(("logic", "[1, 2, 3, 4]", "RRWR", 4 / 16), ("logic", "[1, 2, 3, 4]", "WRRR", 0)),
        *(("logic", "[1, [2, 3], 4]", "RWRR", 4 / 12), ("logic", "[1, [2, 3], 4]", "RRRW", 7 / 12)),
        *(("logic", "[[1, 2], 3, 4]", "WRRR", 1 / 10), ("logic", "[[1,2],3,4]", "RRWR", 2 / 10)),
        # A response without a letter: -1 among right ones, and no break in a chain.
        *(("relevance", None, "R?RR", 4 / 16), ("relevance", None, "????", 0)),
        *(("logic", "[1, 2, 3, 4]", "R??R", 1), ("logic", "[1, 2, 3, 4]", "?W?R", 1 / 16)),
    ],
)
def test_videomme_v2_groups_by_its_authors(
    kind: str, structure: str | None, answers: str, worth: float, tmp_path: Path
) -> None:
    rows = videomme_v2_rows(1)
    for row in rows:
        row |= {"group_type": kind, "group_structure": structure}
    write_videomme_v2(tmp_path, rows)
    task = load_task("videomme_v2")
    videos = task.load(tmp_path)

    def respond(i: int, question: Question) -> str:
        wrong = next(letter for letter in "ABCDEFGH" if letter != question.answer)
        return {"R": str(question.answer), "W": wrong, "?": "none"}[answers[i]]

    records = scored(task, videos, respond, "official")
    metrics = summarize(task.measures, records).metrics
    assert metrics["group score"].value == pytest.approx(worth)
    assert list(metrics) == ["group score", kind, "accuracy"] and metrics[kind].value == pytest.approx(worth)
    assert metrics["accuracy"].value == pytest.approx(answers.count("R") / 4)
    if "?" in answers:  # elsewhere such a response is just wrong
        others = scored(task, videos, respond, "flexible")
        plain = scored(task, videos, lambda i, q: respond(i, q) if answers[i] == "R" else "none", "flexible")
        score = task.measures["group score"].function
        assert score(others) == score(plain)
    # What has no record counts as wrong; the order of records does not matter.
    assert task.measures["group score"].function(records[::-1]) == pytest.approx(worth)


def test_videomme_v2_reports_structures_that_there_are_not(tmp_path: Path) -> None:
    rows = videomme_v2_rows(2)
    rows[4] |= {"group_structure": "[1, 2, [3, 4]]"}
    rows[5] |= {"question_id": "002-5"}
    rows[6] |= {"options": "A. one\nC. two"}
    write_videomme_v2(tmp_path, rows)
    task = load_task("videomme_v2")
    assert len(questions(task.load(tmp_path))) == 8
    assert [defect.problem.partition(":")[0].partition(",")[0] for defect in task.defects] == [
        "field 'group_structure' is '[1",
        "the question's id '002-5' does not end in its number in the group",
        "field 'options' does not hold lines lettered A",
    ]


def test_videomme_v2_with_subtitles(tmp_path: Path) -> None:
    folder = write_videomme_v2(tmp_path, videomme_v2_rows(3))
    task = load_task("videomme_v2_subtitles")
    with pytest.raises(UserError, match=r"none of its videos has a file subtitle/\{video_id\}.jsonl"):
        task.load(tmp_path)
    write_videomme_v2(tmp_path, videomme_v2_rows(3), subtitles=True)
    (folder / "subtitle" / "002.jsonl").unlink()
    (folder / "subtitle" / "003.jsonl").write_text('{"txt": "Hello"}\n')
    videos = task.load(tmp_path)
    assert [str(defect).partition(";")[0] for defect in task.defects] == [
        "video 002: no file of subtitles, where the data set has one"
    ]
    plain = load_task("videomme_v2")
    for protocol, before in (
        ("official", "These are the frames of a video. This video's subtitles are listed below:\nHello world 001 é\n"),
        ("lmms-eval", "This video's subtitles are listed below:\nHello world 001 é\n\n"),
    ):
        asked = plain.prompt(videos[0], videos[0].questions[0], "lmms-eval", None)
        assert task.prompt(videos[0], videos[0].questions[0], protocol, None) == before + asked
        without = plain.prompt(videos[1], videos[1].questions[0], protocol, None)
        assert task.prompt(videos[1], videos[1].questions[0], protocol, None) == without
        with pytest.raises(VideoError, match=r"003.jsonl cannot be read"):
            task.prompt(videos[2], videos[2].questions[0], protocol, None)
    page = (DOCS / "videomme_v2.md").read_text(encoding="utf-8").replace("\n    ", "\n")
    assert (
        "These are the frames of a video. This video's subtitles are listed below:\n{words}\nQuestion: {question}"
        in page
    )
    assert "This video's subtitles are listed below:\n{words}\n\nQuestion: {question}" in page


# --------------------------------------------------------------------------------------- by the command line


@pytest.mark.parametrize(
    ("name", "answer", "judged"),
    [
        ("mmvu", '{"extracted_answer": "Dolly Zoom", "correct": true}', 4),
        ("tempcompass", "Reasoning: it says so.\nAnswer: B. dunking", 6),
    ],
)
def test_what_has_no_options_is_judged(name: str, answer: str, judged: int, cli: Cli, tmp_path: Path) -> None:
    """A run of both kinds of question; its accuracy changes when the short answers and captions are graded."""
    WRITERS[name](tmp_path)
    task = load_task(name)
    asked = questions(task.load(tmp_path))
    for video, _ in asked.values():
        video.path.parent.mkdir(parents=True, exist_ok=True)
        make_video(video.path, frames=6)
    out, protocol = tmp_path / "out", task.protocols[0]
    common = ("--models", "constant", "--data-root", tmp_path, "--output", out)
    status, _, err = cli("--tasks", name, "--protocol", protocol, *common)
    assert status == 0, err
    (run,) = (path.parent for path in out.rglob("run.json"))

    with judge_server(lambda request: Reply(answer)) as server:
        status, _, err = cli(
            "judge", run, "--judge-model", "m", "--judge-url", server.url, "--judge-cache", tmp_path / "c"
        )
        assert status == 0, err
        assert len(server.requests) == judged
    records = [
        ScoredRecord(
            q.id, v.id, q.groups, task.score(q, "A", protocol) if not task.needs_judge(q) else RIGHT, question=q
        )
        for v, q in asked.values()
    ]
    expected = summarize(task.measures, records).headline[1]
    (row,) = csv.DictReader((run / "leaderboard.csv").open(encoding="utf-8"))
    assert float(row["score"]) == pytest.approx(expected.value, abs=1e-6) and 0 < expected.value < 1


def test_egoschema_is_exported(cli: Cli, tmp_path: Path) -> None:
    write_egoschema(tmp_path, egoschema_rows(2), egoschema_rows(4, withheld=True))
    for video in load_task("egoschema").load(tmp_path, "full"):
        video.path.parent.mkdir(parents=True, exist_ok=True)
        make_video(video.path, frames=6)
    command = ("--tasks", "egoschema", "--split", "full", "--protocol", "lmms-eval", "--models", "constant")
    status, _, err = cli(*command, "--data-root", tmp_path, "--output", tmp_path / "out")
    assert status == 0, err
    status, _, err = cli("export", tmp_path / "out", "--format", "official", "--output", tmp_path / "files")
    assert status == 0, err
    (file,) = (tmp_path / "files").rglob("*egoschema_submission.json")
    assert json.loads(file.read_text()) == {f"0074f737-{i:04}": 0 for i in range(4)}


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_the_places_are_those_of_lmms_eval(name: str) -> None:
    """By its task files."""
    spec = find_spec("lmms_eval.tasks")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("lmms-eval is not installed")
    folder = Path(next(iter(spec.submodule_search_locations))) / name
    text = "\n".join(file.read_text(encoding="utf-8") for file in folder.rglob("*yaml"))
    dataset = load_task(name).catalogue.dataset
    assert dataset is not None
    if name == "motionbench":  # its annotations come from elsewhere, its videos file by file
        assert not dataset.lmms_ids and f'"{dataset.lmms_eval}", "videos"' in (folder / "utils.py").read_text()
        return
    assert dataset.lmms_eval in re.findall(r"cache_dir: (\S+)", text)
    assert set(dataset.lmms_ids) & set(re.findall(r"dataset_path: (\S+)", text))


def test_videommmu_asks_an_exercise_without_type_as_its_options_say(tmp_path: Path) -> None:
    rows = {track: videommmu_rows(track, 5) for track in VIDEOMMMU_TRACKS}
    rows["Adaptation"][1]["question_type"] = None
    write_videommmu(tmp_path, rows)
    task = load_task("videommmu")
    video, question = questions(task.load(tmp_path))["validation_Art_Theory_1_adaptation"]
    assert question.answer == "D" and question.groups["question_type"] == "unstated"
    assert task.prompt(video, question, "lmms-eval", None).endswith("\nAdaptation <image 1> 1?")
    assert task.prompt(video, question, "flexible", None).endswith("\nD. the answer is B\nE. E = mc")
    assert task.score(question, "(D)", "flexible").correct and not task.score(question, "(D)", "lmms-eval").correct
    assert task.score(question, "It is D .", "lmms-eval").correct, "as a text beside a space"


def test_cgbench_files(tmp_path: Path) -> None:
    rows = cgbench_rows(9)
    rows[3]["right_answer"] = "Z"
    del rows[5]["qid"]
    write_cgbench(tmp_path, rows)
    folder = write_cgbench(tmp_path, cgbench_rows(12), "cgbench.json")
    task = load_task("cgbench")
    videos = task.load(tmp_path)
    assert [len(each.questions) for each in videos] == [2, 2, 2, 2, 1]
    assert videos[1].path == folder / "cg_videos_720p" / "BV1-_.mp4" and videos[1].duration_s == 612
    known = questions(videos)
    assert known["13"][1].answer == "" and [q.problem is not None for q in videos[2].questions] == [False, True]
    assert len(task.defects) == 2
    assert task.score(known["10"][1], "H", "lmms-eval") == Score({"correct": 0.0}, "H", parsed=False)
    assert task.score(known["10"][1], "It is Gray.", "flexible").correct == 1
    assert sum(len(each.questions) for each in task.load(tmp_path, "full")) == 12

"""The newer benchmarks with options or short answers: their files, prompts, scores and figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from choice_files import VIDEOMMMU_TRACKS, Rows, videommmu_rows, write_videommmu
from videos import make_video

from vamba_eval import Question, Task, Video, evaluate, load_task
from vamba_eval.contracts import ScoredRecord, UserError
from vamba_eval.score.statistics import summarize

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


WRITERS: dict[str, Callable[..., None]] = {"videommmu": videommmu}


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
        named = with_names(question)
        same = re.search(r"`flexible` asks as `([\w-]+)`", page)
        assert same is not None
        assert task.prompt(video, named, "flexible", None) == task.prompt(video, named, same[1], None)
        for protocol, texts in quoted.items():
            prompt = task.prompt(video, named, protocol, None).strip("\n")
            assert prompt in texts, (protocol, question)
            seen.add((protocol, prompt))
    assert len(seen) >= sum(map(len, quoted.values())) - (name == "videommmu"), "nothing is quoted that is not asked"


def with_names(question: Question) -> Question:
    count = 5 if len(question.options) == 5 and question.extra.get("five") else 4
    options = tuple(f"{{option {letter}}}" for letter in "ABCDE"[:count]) if question.options else ()
    return replace(question, text="{question}", options=options)


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
    if next(iter(task.measures)) == "accuracy":
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
        solved = i % 4 != 0 if question.groups["asked"] == "adaptation" else i % 4 == 1
        return f"the answer is {question.answer}" if solved else "?"

    records = scored(task, videos, respond, "lmms-eval")
    summary = summarize(task.measures, records)
    assert summary.metrics["knowledge gain"].value == pytest.approx((0.75 - 0.25) / (1 - 0.25))
    assert summary.headline[1].value == pytest.approx(0.75), "what was asked without the lecture is no part of it"
    gain = task.measures["knowledge gain"].function
    alone = [record for record in records if record.groups["asked"] == "adaptation"]
    assert gain(alone) is None
    assert "knowledge gain" not in summarize(task.measures, alone).metrics
    # What is all known before leaves nothing to gain; what is forgotten is a loss.
    known = scored(task, videos, lambda i, q: str(q.answer) if q.groups["asked"] != "adaptation" else "?", "lmms-eval")
    assert gain(known) is None
    flipped = [
        replace(record, groups={**record.groups, "asked": other(record)}, question_id=renamed(record))
        for record in records
    ]
    assert gain(flipped) == pytest.approx((0.25 - 0.75) / (1 - 0.75))


def other(record: ScoredRecord) -> str:
    return "question_only" if record.groups["asked"] == "adaptation" else "adaptation"


def renamed(record: ScoredRecord) -> str:
    return record.question_id.removesuffix(f"_{record.groups['asked']}") + f"_{other(record)}"

"""MVBench on files in both published layouts, against the published rule of frames."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_files import MVBENCH_TASKS, mvbench_rows, write_mvbench
from lmms_eval.tasks.mvbench import utils as lmms_mvbench
from PIL import Image
from stored import latest_records, scored_lines
from videos import VP9, all_frames, make_video, picture

from vamba_eval import FrameSampling, Question, Video, evaluate, load_task
from vamba_eval.contracts import Answer, Counts, GenerationSettings, ModelAdapter, Score, ScoredRecord, UserError
from vamba_eval.reading.reader import Reader, Reading
from vamba_eval.score.scored import scored_runs
from vamba_eval.score.statistics import summarize
from vamba_eval.tables.leaderboard import Leaderboard


def questions(videos: list[Video]) -> dict[str, tuple[Video, Question]]:
    return {question.id: (video, question) for video in videos for question in video.questions}


# ---------------------------------------------------------------------------------------------- annotations


def test_full_size(tmp_path: Path) -> None:
    folder = write_mvbench(tmp_path, 200)
    task = load_task("mvbench")
    videos = task.load(tmp_path)
    known = questions(videos)
    assert not task.defects and len(known) == 4000
    assert len({video.id for video in videos}) == len(videos)
    for kind, (place, _, bounded) in MVBENCH_TASKS.items():
        for i, row in enumerate(mvbench_rows(kind, 200)):
            video, question = known[f"{kind}-{i}"]
            assert video.path == folder / "video" / place / row["video"]
            assert (video.start_s, video.end_s) == ((row["start"], row["end"]) if bounded else (None, None))
            assert video.frames_per_second == (3.0 if kind == "episodic_reasoning" else None)
            assert question.text == row["question"] and question.options == tuple(row["candidates"])
            assert row["candidates"][ord(question.answer) - ord("A")] == row["answer"]
            assert question.groups == {"task": kind}
    # A video is shown once for all tasks that share it, and once for each part.
    places = {place: bounded for place, _, bounded in MVBENCH_TASKS.values()}
    assert len(videos) == sum(200 if bounded else 100 for bounded in places.values())
    shared = known["moving_count-7"][0]
    assert {question.groups["task"] for question in shared.questions} == {
        *("object_existence", "moving_direction", "moving_count", "moving_attribute", "counterfactual_inference")
    }


def lmms_rows(kind: str, count: int) -> list[dict[str, Any]]:
    """Rows as on the branch that lmms-eval takes: names of files that were cut out or converted beforehand."""
    rows = mvbench_rows(kind, count)
    for row in rows:
        stem = row["video"].partition(".")[0]
        row["video"] = f"{stem}_{row['start']}_{row['end']}.mp4" if "start" in row else f"{stem}.mp4"
    return rows


@pytest.mark.parametrize("official", [True, False], ids=["official annotations", "lmms-eval's annotations"])
@pytest.mark.parametrize("root", ["", "video", "data0613", "video/data0613"])
def test_lmms_evals_layout(tmp_path: Path, root: str, official: bool) -> None:
    rows = None if official else {kind: lmms_rows(kind, 4) for kind in MVBENCH_TASKS}
    folder = write_mvbench(tmp_path, 4, rows)
    for kind, place in lmms_mvbench.DATA_LIST.items():
        for row in lmms_rows(kind, 4):
            (folder / root / place).mkdir(parents=True, exist_ok=True)
            (folder / root / place / row["video"]).touch()
    task = load_task("mvbench")
    videos = task.load(tmp_path)
    known = questions(videos)
    assert not task.defects and len(known) == 80 and len({video.id for video in videos}) == len(videos)
    for kind, place in lmms_mvbench.DATA_LIST.items():
        for i, row in enumerate(lmms_rows(kind, 4)):
            video, _ = known[f"{kind}-{i}"]
            assert video.path == folder / root / place / row["video"]
            assert video.start_s is video.end_s is None, "what is cut out is not cut again"


def test_files_are_where_the_archives_put_them(tmp_path: Path) -> None:
    folder = write_mvbench(tmp_path, 4)
    late = folder / "video" / "data0613" / "star" / "Charades_v1_480" / "V001.mp4"
    late.parent.mkdir(parents=True)
    late.touch()
    known = questions(load_task("mvbench").load(folder))
    assert known["action_sequence-2"][0].path == late
    assert (known["action_sequence-2"][0].start_s, known["action_sequence-3"][0].start_s) == (1.1, 2.1)
    assert known["action_sequence-0"][0].path == folder / "video" / "star" / "Charades_v1_480" / "V000.mp4"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = write_mvbench(tmp_path, 2)
    (folder / "json" / "egocentric_navigation.json").unlink()
    with pytest.raises(UserError, match=r"egocentric_navigation.json is missing"):
        load_task("mvbench").load(tmp_path)


def test_broken_rows_are_reported_and_kept(tmp_path: Path) -> None:
    rows = mvbench_rows("action_sequence", 9)
    rows[0]["answer"] = "fly"
    rows[1]["candidates"] = ["no", "yes", "no"]
    rows[1]["answer"] = "no"
    rows[2]["video"] = None
    del rows[3]["start"]
    rows[4]["end"] = math.nan
    rows[5]["end"] = 0.5
    rows[6]["start"] = "1"
    rows[7] = "not a row"
    folder = write_mvbench(tmp_path, 1, {"action_sequence": rows})
    task = load_task("mvbench")
    known = questions(task.load(tmp_path))
    assert len(known) == 9 + 19, "nothing vanishes"
    assert [defect.where for defect in task.defects] == [f"action_sequence.json row {n}" for n in range(8)]
    assert not any(task.score(known["action_sequence-0"][1], letter, "vamba").correct for letter in "ABCDE")
    assert not any(task.score(known["action_sequence-0"][1], letter, "lmms-eval").correct for letter in "ABCDE")
    for n, problem in ((2, "'video' is missing"), (3, "'start' is missing"), (4, "nan"), (5, "before"), (6, "'1'")):
        video, question = known[f"action_sequence.json row {n}"]
        assert problem in question.problem
        assert n == 2 or video.path == folder / "video" / "star" / "Charades_v1_480" / rows[n]["video"]
    assert known["action_sequence-8"][1].problem is None


# ------------------------------------------------------------------------------------------------- protocols


def test_prompts(tmp_path: Path) -> None:
    write_mvbench(tmp_path, 5)
    task = load_task("mvbench")
    known = questions(task.load(tmp_path))
    assert task.prompt(*known["state_change-1"], "vamba", None) == (
        "Question: What happens in state_change 1?\n"
        "A. walk up 1\nB. sit, then stand 1\nC. no\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert task.prompt(*known["state_change-1"], "official", None) == (
        "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
        "objects, and the action and pose of persons. Based on your observations, select the best option that "
        "accurately addresses the question.\n"
        "Question: What happens in state_change 1?\nOptions:\n(A) walk up 1\n(B) sit, then stand 1\n(C) no\n"
        "Only give the best option.\nBest option:("
    )
    assert task.generation("vamba") == GenerationSettings(max_new_tokens=512)
    assert task.generation("official") == GenerationSettings(max_new_tokens=100)


@pytest.mark.parametrize(
    ("response", "right", "extracted"),
    [
        *(
            ("B", "B", "B"),
            ("b", "B", "B"),
            ("B) no", "B", "B"),
            ("(B) no", "B", "B"),
            ("B.", "B", "B"),
            (" B\nA", "B", "B"),
        ),
        *(("(B).", "B", "B"), ("It is (B)", "", None), ("**B**", "", None), ("B, no", "", None), ("D", "", None)),
        # No letter in the first word is part of every option's mark, several are in none.
        *(("", "ABC", None), (".", "ABC", None), ("\n\nB", "B", "B"), ("(A)(B) both", "AB", None), ("no", "", None)),
    ],
)
def test_official_scores(response: str, right: str, extracted: str | None) -> None:
    task = load_task("mvbench")
    for answer in "ABC":
        score = task.score(Question("q", "?", ("x", "y", "z"), answer), response, "official")
        assert (score.correct, score.extracted, score.parsed) == (answer in right, extracted, extracted is not None)
    assert task.score(Question("q", "?", ("x", "y", "z"), ""), response, "official").correct == 0
    assert task.score(Question("q", "?", ("x", "y", "z"), None), response, "official").correct is None


def test_of_equal_candidates_each_protocol_takes_its_own(tmp_path: Path) -> None:
    rows = mvbench_rows("scene_transition", 2)
    rows[1] |= {"candidates": ["no", "yes", "no"], "answer": "no"}
    write_mvbench(tmp_path, 1, {"scene_transition": rows})
    task = load_task("mvbench")
    _, question = questions(task.load(tmp_path))["scene_transition-1"]
    right = {protocol: [bool(task.score(question, x, protocol).correct) for x in "ABC"] for protocol in task.protocols}
    last = [False, False, True]
    assert right == {"vamba": last, "lmms-eval": [True, False, False], "official": last, "flexible": last}
    (defect,) = task.defects
    assert "'no' is given twice" in defect.problem and defect.where == "scene_transition.json row 1"


def test_headline_is_the_mean_over_tasks(tmp_path: Path) -> None:
    rows = {kind: mvbench_rows(kind, 2 + n) for n, kind in enumerate(MVBENCH_TASKS)}
    write_mvbench(tmp_path, 1, rows)
    task = load_task("mvbench")
    records = []
    for video, question in questions(task.load(tmp_path)).values():
        number = int(question.id.rpartition("-")[2])
        response = f"Answer: {question.answer.lower()}" if number < 2 else "?"
        records.append(ScoredRecord(question.id, video.id, question.groups, task.score(question, response, "vamba")))
    summary = summarize(task.measures, records)
    total = sum(2 + n for n in range(20))
    assert list(summary.metrics) == ["mean over tasks", "accuracy"] and next(iter(task.measures)) == summary.headline[0]
    assert summary.headline[1].value == pytest.approx(np.mean([2 / (2 + n) for n in range(20)]))
    assert summary.metrics["accuracy"].value == pytest.approx(40 / total)
    means = {kind: metric.value for kind, metric in summary.breakdowns["task"].items()}
    assert means == pytest.approx({kind: 2 / (2 + n) for n, kind in enumerate(MVBENCH_TASKS)})
    assert summarize(task.measures, []).metrics == {}


def test_file_for_the_leaderboard(tmp_path: Path) -> None:
    write_mvbench(tmp_path, 5)
    task = load_task("mvbench")
    records: list[dict[str, Any]] = []
    for _, question in questions(task.load(tmp_path)).values():
        about = {"options": list(question.options), "answer": question.answer, "groups": dict(question.groups)}
        # The first response counts, whatever another seed says.
        records += [{"question": question.id, "response": response, **about} for response in ("C", question.answer)]
    name, content = task.submission(scored_lines(task, records))
    accuracies = json.loads(content)
    assert name == "upload_leaderboard.json" and len(accuracies) == 21
    # The third of the answers, in turns, is C.
    expected = {
        kind: [row["answer"] == row["candidates"][2] for row in mvbench_rows(kind, 5)] for kind in MVBENCH_TASKS
    }
    assert accuracies["Action Sequence"] == pytest.approx(100 * np.mean(expected["action_sequence"]))
    assert accuracies["Fine-grained Pose"] == pytest.approx(100 * np.mean(expected["fine_grained_pose"]))
    assert accuracies["Avg"] == pytest.approx(100 * np.mean(list(expected.values())))


# ------------------------------------------------------------------------------------------------- its frames


def official_numbers(n: int, bound: tuple[float, float] | None, fps: float, first: int, last: int) -> list[int]:
    start, end = bound or (-100_000.0, 100_000.0)
    low, high = max(first, round(start * fps)), min(round(end * fps), last)
    return [int(low + (high - low) / n / 2 + np.round((high - low) / n * i)) for i in range(n)]


def test_frames_of_every_kind_of_media(tmp_path: Path) -> None:
    """An MP4 bounded in time, a WebM, a GIF under its official name, and a folder of frames."""
    gif = mvbench_rows("unexpected_action", 1)
    gif[0]["video"] = "V000.gif"
    folder = write_mvbench(tmp_path, 1, {"unexpected_action": gif}) / "video"
    for place, _, _ in MVBENCH_TASKS.values():
        (folder / place).mkdir(parents=True, exist_ok=True)
    mp4 = make_video(folder / "star" / "Charades_v1_480" / "V000.mp4", frames=140)
    webm = make_video(folder / "ssv2_video" / "V000.webm", "libvpx-vp9", frames=30, rate=12, options=VP9)
    pictures = [Image.fromarray(picture(n, 48, 64)).quantize(64) for n in range(20)]
    pictures[0].save(
        folder / "FunQA_test" / "test" / "V000.gif", save_all=True, append_images=pictures[1:], duration=50
    )
    frames = folder / "tvqa" / "frames_fps3_hq" / "V000"
    frames.mkdir()
    for n in range(1, 31):
        Image.fromarray(picture(n, 48, 64)).save(frames / f"{n:05}.jpg")
    task = load_task("mvbench")
    assert task.sampling == FrameSampling("segments", 512, shortest_edge=256, longest_edge=480, rate="header")
    videos = {question.id: video for video in task.load(tmp_path) for question in video.questions}
    expected = {
        "action_sequence-0": (official_numbers(16, (1.1, 4.7), 25.0, 0, 139), 0, all_frames(mp4)),
        "action_antonym-0": (official_numbers(16, None, 12.0, 0, 29), 0, all_frames(webm)),
        "unexpected_action-0": (official_numbers(16, None, 20.0, 0, 19), 0, None),
        "episodic_reasoning-0": (
            official_numbers(16, (1.1, 4.7), 3.0, 1, 30),
            1,
            np.stack([np.asarray(Image.open(frames / f"{n:05}.jpg")) for n in range(1, 31)]),
        ),
    }
    sampling = FrameSampling("segments", 16, shortest_edge=None, longest_edge=None, rate="header")
    with Reader(Reading(workers=0)) as reader:
        for id, (numbers, first, truth) in expected.items():
            (loaded,) = reader.clips([videos[id]], sampling)
            assert loaded.clip is not None, loaded.problem
            indices = [number - first for number in numbers]
            assert loaded.clip.frame_indices.tolist() == indices and len(indices) == 16, id
            if truth is None:
                truth = np.stack([np.asarray(image.convert("RGB")) for image in pictures])
            assert np.array_equal(loaded.clip.frames, truth[indices]), id


def test_a_run(tmp_path: Path) -> None:
    folder = write_mvbench(tmp_path, 1)
    source = make_video(tmp_path / "source.mp4", frames=150)
    for place, ending, _ in MVBENCH_TASKS.values():
        target = folder / "video" / place
        target.mkdir(parents=True, exist_ok=True)
        if ending:
            shutil.copy(source, target / f"V000{ending}")
        else:
            (target / "V000").mkdir()
            for n in range(1, 20):
                Image.fromarray(picture(n, 48, 64)).save(target / "V000" / f"{n:05}.jpg")
    (folder / "video" / "vlnqa" / "V000.mp4").unlink()
    board = evaluate(["mvbench"], ["random"], data_root=tmp_path, output=tmp_path / "out", progress=False)
    assert 0 <= board.table.iloc[0]["score"] <= 1
    records = latest_records(tmp_path / "out" / "mvbench" / "mvbench.random.jsonl")
    failed = [id for id, record in records.items() if record["error"]]
    assert len(records) == 20 and failed == ["egocentric_navigation-0"]
    info = json.loads((tmp_path / "out" / "mvbench" / "run.json").read_text())
    assert info["tasks"]["mvbench"]["sampling"]["strategy"] == "segments"


# ------------------------------------------------------------------------------------------ one candidate alone


def write_single(root: Path) -> Path:
    """Counterfactual inference with one candidate in its second row, as five of the published rows."""
    rows = mvbench_rows("counterfactual_inference", 2)
    rows[1] |= {"candidates": ["The red cube collides."], "answer": "The red cube collides."}
    return write_mvbench(root, 2, {"counterfactual_inference": rows})


def test_a_row_with_one_candidate_is_asked_as_published(tmp_path: Path) -> None:
    write_single(tmp_path)
    task = load_task("mvbench")
    video, question = questions(task.load(tmp_path))["counterfactual_inference-1"]
    assert question.problem is None and (question.options, question.answer) == (("The red cube collides.",), "A")
    (defect,) = task.defects
    assert str(defect).startswith("counterfactual_inference.json row 1: it has one candidate; it is asked as published")
    lines = {"vamba": "A. The red cube collides.", "lmms-eval": "(A) The red cube collides."}
    for protocol in task.protocols:
        listed = [line for line in task.prompt(video, question, protocol, None).split("\n") if line[:2] in ("A.", "(A")]
        assert listed == [lines.get(protocol, lines["lmms-eval"])]
        for response, right in (("A", True), ("(A) The red cube collides.", True), ("B", False), ("(B)", False)):
            score = task.score(question, response, protocol)
            assert (bool(score.correct), score.parsed) == (right, right), (protocol, response)
    assert task.score(question, "", "official") == Score({"correct": 1.0}, None, parsed=False)
    assert not any(task.score(question, "", protocol).correct for protocol in ("vamba", "lmms-eval", "flexible"))
    assert task.score(question, "The red cube collides.", "flexible").correct


@pytest.mark.parametrize("protocol", load_task("mvbench").protocols)
def test_a_run_with_it_is_complete(protocol: str, tmp_path: Path) -> None:
    write_single(tmp_path)
    common: dict[str, Any] = {"data_root": tmp_path, "output": tmp_path / "out", "progress": False}
    (result,) = evaluate(["mvbench"], ["random"], protocol=protocol, **common).results
    assert result.complete and result.failed == 0 and result.questions == 40
    (run,) = scored_runs([tmp_path / "out"])
    chances = [1 / len(record.options) for record in run.records]
    assert 1.0 in chances and result.chance == pytest.approx(np.mean(chances)), "it cannot be missed"
    (single,) = (each for each in run.scored if len(each.question.options) == 1)
    assert single.response == "A" and single.score.correct == 1


def test_a_check_does_not_send_for_it(tmp_path: Path, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_single(tmp_path)
    task = type(load_task("mvbench"))
    monkeypatch.setattr(task, "catalogue", replace(task.catalogue, counts={"test": Counts(None, 40)}))
    for place, ending, _ in MVBENCH_TASKS.values():
        (folder / "video" / place).mkdir(parents=True, exist_ok=True)
        (folder / "video" / place / f"V000{ending}").touch()
    status, said, errors = cli("check", "mvbench", "--data-root", tmp_path, "--quick")
    assert status == 0, said + errors
    assert said.startswith("mvbench: complete") and "run_eval.py download" not in said
    assert "as published (1):\n  counterfactual_inference.json row 1: it has one candidate" in said


def test_empty_responses_that_count_as_right_are_told(tmp_path: Path) -> None:
    class Silent(ModelAdapter):
        name = "silent"
        reads_video = False

        def encode(self, clip: object) -> None: ...

        def generate(self, encoded: object, prompts: Any, settings: object) -> list[Answer]:
            return [Answer("" if prompt.question_id != "state_change-0" else "no idea") for prompt in prompts]

    write_mvbench(tmp_path, 2)
    common: dict[str, Any] = {"data_root": tmp_path, "output": tmp_path / "out", "progress": False}
    board = evaluate(["mvbench"], [Silent()], protocol="official", **common)
    notes = board.notes()
    (right,) = (note for note in notes if note.startswith("COUNTED RIGHT: silent on MVBench: 39 of 40 responses hold"))
    assert right.endswith("and count as right under this protocol")
    (unparsed,) = (note for note in notes if note.startswith("UNPARSED: "))
    assert "40 of 40 responses yield no answer, and 1 of them count as wrong; rescore" in unparsed
    row = board.results[0].row()
    assert (row["unparsed"], row["unparsed_right"]) == (40, 39) and row["accuracy"] == 39 / 40
    other = Leaderboard.from_runs([tmp_path / "out"], protocol="vamba")
    assert other.results[0].row()["unparsed_right"] == 0
    assert not any(note.startswith("COUNTED RIGHT") for note in other.notes())
    assert any("yield no answer and count as wrong; rescore" in note for note in other.notes())

"""MVBench on files in both published layouts, against lmms-eval's own task code and the published rule of frames."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from benchmark_files import MVBENCH_TASKS, mvbench_rows, write_mvbench
from lmms_eval.tasks.mvbench import utils as lmms_mvbench
from PIL import Image
from test_more_tasks import responses
from videos import VP9, all_frames, make_video, picture

from vamba_eval import FrameSampling, Question, Video, evaluate, load_task
from vamba_eval.contracts import GenerationSettings, ScoredRecord, UserError
from vamba_eval.loading import Reader, Reading
from vamba_eval.store import latest_records

LMMS_FOLDER = Path(lmms_mvbench.__file__).parent


def lmms_config(kind: str) -> dict[str, Any]:
    """What lmms-eval's task file sets, the file it includes read first, without references to functions."""
    merged: dict[str, Any] = {}
    for name in ("_default_template_yaml", f"mvbench_{kind}.yaml"):
        lines = (LMMS_FOLDER / name).read_text(encoding="utf-8").splitlines()
        merged |= yaml.safe_load("\n".join(line for line in lines if "!function" not in line))
    return merged


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
    for kind in MVBENCH_TASKS:
        config = lmms_config(kind)
        settings = {key: value for key, value in config["generation_kwargs"].items() if key != "num_beams"}
        expected = GenerationSettings(**{**settings, "temperature": 1.0})  # 0 is another word for not sampling
        assert settings["temperature"] == 0 and task.generation("lmms-eval") == expected
        kwargs = config["lmms_eval_specific_kwargs"]["default"]
        for i, row in enumerate(mvbench_rows(kind, 5)):
            prompt = task.prompt(*known[f"{kind}-{i}"], "lmms-eval", None)
            assert prompt == lmms_mvbench.mvbench_doc_to_text(row, kwargs)
    assert task.prompt(*known["state_change-1"], "vamba", None) == (
        "Question: What happens in state_change 1?\n"
        "A. walk up 1\nB. sit, then stand 1\nC. no\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert task.generation("vamba") == GenerationSettings(max_new_tokens=512)


MORE_RESPONSES = [
    *("a. walk", "A.", "A.\nwalk", "B. one\ntwo", "F. six", "f", "(F)", "G", "A man, a plan", "It is a dog. B", "é"),
    *("The answer is: B;", "x/B", "x /B", "B_", "_B_", "B-C", "no-B", "no- B", "1,000 (B)", "1,000-B", "'B'", '"(B)"'),
    *("((B))", "\tB\t", "B.C", "B.5", "3.B", "Yes.B", "e.g. C", "ABC D", "[B]", "{B}>C<", "É B", "答案是B", "答案是 B"),
    "........................................ x.B",
    "." * 33 + "B",
    "." * 32 + "B",
    "first. " * 40 + "so.B or C",
]


def all_responses(options: list[str]) -> Iterator[str]:
    yield from responses(options)
    yield from MORE_RESPONSES


def test_scores_like_lmms_eval(tmp_path: Path) -> None:
    rows = mvbench_rows("action_count", 10)
    rows[5]["candidates"] = ["one", "two", "two", "three"]
    rows[5]["answer"] = "two"
    for answer in (6, 7, 8):
        rows[answer]["candidates"] = [f"thing {n}" for n in range(7)]
        rows[answer]["answer"] = f"thing {answer - 2}"  # E, F and G: it finds no letter beyond E, but a lone one
    write_mvbench(tmp_path, 1, {"action_count": rows})
    task = load_task("mvbench")
    known = questions(task.load(tmp_path))
    outcomes: Counter[bool] = Counter()
    for i, row in enumerate(rows):
        _, question = known[f"action_count-{i}"]
        for response in all_responses(row["candidates"][:5]):
            expected = lmms_mvbench.mvbench_process_results(row, [response])["mvbench_accuracy"]["score"]
            score = task.score(question, response, "lmms-eval")
            assert score.correct is bool(expected), (response, row["candidates"], row["answer"])
            assert score.parsed == (score.extracted in tuple("ABCDEFG"[: len(row["candidates"])])) and not score.drawn
            outcomes[bool(expected)] += 1
    assert min(outcomes.values()) > 500, "both right and wrong ones are compared"


def test_of_equal_candidates_each_protocol_takes_its_own(tmp_path: Path) -> None:
    rows = mvbench_rows("scene_transition", 2)
    rows[1] |= {"candidates": ["no", "yes", "no"], "answer": "no"}
    write_mvbench(tmp_path, 1, {"scene_transition": rows})
    task = load_task("mvbench")
    _, question = questions(task.load(tmp_path))["scene_transition-1"]
    right = {protocol: [bool(task.score(question, x, protocol).correct) for x in "ABC"] for protocol in task.protocols}
    assert right == {"vamba": [False, False, True], "lmms-eval": [True, False, False]}
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
    summary = task.summarize(records)
    total = sum(2 + n for n in range(20))
    assert list(summary.metrics) == ["mean over tasks", "accuracy"] and task.reported_metric == summary.headline[0]
    assert summary.headline[1].value == pytest.approx(np.mean([2 / (2 + n) for n in range(20)]))
    assert summary.metrics["accuracy"].value == pytest.approx(40 / total)
    means = {kind: metric.value for kind, metric in summary.breakdowns["task"].items()}
    assert means == pytest.approx({kind: 2 / (2 + n) for n, kind in enumerate(MVBENCH_TASKS)})
    assert task.summarize([]).metrics == {}


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
    assert task.sampling == FrameSampling(strategy="segments", num_frames=512, shortest_edge=256, longest_edge=480)
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
    sampling = FrameSampling(strategy="segments", num_frames=16, shortest_edge=None, longest_edge=None)
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

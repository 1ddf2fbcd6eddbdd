"""CG-Bench with its clues: frames of parts of a video, read once with all others; its prompts, scores and figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from choice_files import cgbench_rows, write_cgbench
from cluster_models import Seeing
from served_models import Engine
from stored import latest_records
from videos import make_video

from vamba_eval import FrameSampling, evaluate, load_task, read_clip
from vamba_eval.contracts import Clip, CutOff, FrameSpans, GenerationSettings, Question, Score, ScoredRecord, VideoError
from vamba_eval.reading import worker
from vamba_eval.reading.cache import frames_digest
from vamba_eval.reading.reader import Reading
from vamba_eval.score.statistics import summarize

SIZE = {"longest_edge": 64, "shortest_edge": 32}
EVERY = FrameSampling(num_frames=1000, **SIZE)
# Of the first video's two rows: the clues of the second are two stretches.
CLUES = {"10": [[1, 2]], "11": [[0, 0.4], [2, 3.2]]}


# ------------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize(
    ("spans", "most", "fps", "frames"),
    [
        # One stretch: the middles of its quarters. Frames 200 to 274: 200 + 18.75 x (1/2, 3/2, ...).
        ([(8, 11)], 4, 25.0, [209, 228, 246, 265]),
        # Two of 10 and 30 frames: a quarter and three quarters of them.
        ([(0, 1), (10, 13)], 8, 10.0, [2, 7, 102, 107, 112, 117, 122, 127]),
        # A stretch whose share is less than a frame gets one: 8 x 1/91 and 8 x 90/91.
        ([(0, 0.1), (10, 19)], 8, 10.0, [0, 106, 119, 132, 145, 157, 170, 183]),
        ([(1, 1.5), (3, 3.2)], 8, 10.0, [10, 11, 12, 13, 14, 30, 31]),  # no more than may be shown: all
        ([(1, 1.3), (1.2, 1.5)], 8, 10.0, [10, 11, 12, 13, 14]),  # what two share is shown once
    ],
)
def test_frames_of_stretches(spans: list[tuple[float, float]], most: int, fps: float, frames: list[int]) -> None:
    rule = FrameSpans(tuple(spans), FrameSampling(num_frames=most))
    assert rule.within(0, 1000, 1000, fps) == frames


def test_stretches_beyond_the_end_and_frames_of_unknown_rate() -> None:
    rule = FrameSpans(((2, 4),), FrameSampling(num_frames=100))
    assert rule.within(0, 30, 30, 10.0) == list(range(20, 30)), "what is there of it"
    with pytest.raises(ValueError, match=r"about 2 to 4 s, where the video has no frame"):
        rule.within(0, 20, 20, 10.0)
    with pytest.raises(ValueError, match="rate is unknown"):
        rule.within(0, 30, 30, float("nan"))


# ------------------------------------------------------------------------------------------------- runs


class Watching(Seeing):
    """Answers by what it sees, and notes of what it is asked; ``whole`` are the clips that come with their file."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[int, ...]] = []
        self.whole: list[bool] = []

    def encode(self, clip: Clip | None) -> Any:
        assert clip is not None
        self.shown.append(tuple(clip.frame_indices.tolist()))
        self.whole.append(clip.path is not None)
        return super().encode(clip)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rows = cgbench_rows(4)
    for row in rows:
        row["clue_intervals"] = CLUES.get(str(row["qid"]), [[0, 1]])
    folder = write_cgbench(tmp_path / "data", rows)
    (folder / "cg_videos_720p").mkdir()
    for name in ("BV0-_", "BV1-_"):
        make_video(folder / "cg_videos_720p" / f"{name}.mp4", frames=100)
    return tmp_path / "data"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    def counting(path: Path, *args: Any, **more: Any) -> Clip:
        names.append(path.stem)
        return read_clip(path, *args, **more)

    monkeypatch.setattr(worker, "read_clip", counting)
    return names


def run(root: Path, output: Path, model: Any, **more: Any) -> dict[str, dict[str, Any]]:
    more = {"sampling": {"num_frames": 8, **SIZE}, "reading": Reading(workers=0), "progress": False, **more}
    evaluate(["cgbench_clues"], [model], data_root=root, output=output, name="run", **more)
    found = sorted((output / "run").rglob(f"cgbench_clues.{model.name}.jsonl"))
    return {f"{path.parent.name}/{name}": one for path in found for name, one in latest_records(path).items()}


def test_a_video_is_read_once_for_the_whole_and_all_clues(root: Path, tmp_path: Path, reads: list[str]) -> None:
    model = Watching()
    records = run(root, tmp_path, model)
    assert reads == ["BV0-_", "BV1-_"] and len(records) == 12
    whole, one = tuple(range(6, 100, 12)), tuple(int(25 + 25 / 8 * (i + 0.5)) for i in range(8))
    # Of 10 and 30 frames: 2 and 6.
    other = (2, 7, 52, 57, 62, 67, 72, 77)
    assert model.shown[:3] == [(6, 18, 31, 43, 56, 68, 81, 93), one, other] and whole != model.shown[0]
    assert model.whole[:3] == [True, False, False], "no file shows the clues alone"
    assert len(model.shown) == 5, "the second video's clues are the same"
    every = read_clip(root / "cgbench" / "cg_videos_720p" / "BV0-_.mp4", EVERY)
    for question, frames in (
        ("10", model.shown[0]),
        ("10_where", model.shown[0]),
        ("10_clue", one),
        ("11_clue", other),
    ):
        record = records[f"run/{question}"]
        assert record["frames_digest"] == frames_digest(every.frames[list(frames)]) and record["frames"] == 8
    assert run(root, tmp_path, Watching()) == records and reads == ["BV0-_", "BV1-_"], "nothing is asked again"


def test_under_each_number_of_frames_at_most_32_of_clues(root: Path, tmp_path: Path, reads: list[str]) -> None:
    model = Watching()
    records = run(root, tmp_path, model, sampling=SIZE, ladder=(4, 64))
    assert reads == ["BV0-_", "BV1-_"] and len(records) == 24
    frames = {name: record["frames"] for name, record in records.items()}
    assert [frames[f"{count}-frames/11{way}"] for count in (4, 64) for way in ("", "_clue", "_where")] == [
        *(4, 4, 4),
        *(64, 32, 64),
    ]
    digests = {record["frames_digest"] for record in records.values() if record["video"] == "BV0-_"}
    assert len(digests) == 6
    for number in (4, 64):
        alone = run(root, tmp_path / str(number), Watching(), sampling={"num_frames": number, **SIZE})
        for name, record in alone.items():
            there = records[name.replace("run/", f"{number}-frames/")]
            assert (there["frames_digest"], there["response"]) == (record["frames_digest"], record["response"])


def test_served_models_see_the_same(root: Path, tmp_path: Path) -> None:
    shown: dict[str, bool] = {}

    class Noting(Engine):
        async def answer(self, clip: Clip | None, prompts: Sequence[str], settings: GenerationSettings) -> Any:
            assert clip is not None
            shown[frames_digest(clip.frames)] = clip.path is not None
            async for each in super().answer(clip, prompts, settings):
                yield each

    served, here = run(root, tmp_path / "a", Noting()), run(root, tmp_path / "b", Watching())
    assert all(record["frames_digest"] == here[name]["frames_digest"] for name, record in served.items())
    assert [shown[served[f"run/10{way}"]["frames_digest"]] for way in ("", "_clue")] == [True, False]


def test_other_clues_are_another_run(root: Path, tmp_path: Path) -> None:
    run(root, tmp_path, Watching())
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert "frames_of_questions" in info["tasks"]["cgbench_clues"]
    rows = json.loads((root / "cgbench" / "cgbench_mini.json").read_text())
    rows[0]["clue_intervals"] = [[1, 3]]
    write_cgbench(root, rows)
    with pytest.raises(Exception, match="frames_of_questions"):
        run(root, tmp_path, Watching())


def test_a_clue_beyond_the_end_fails_alone(root: Path, tmp_path: Path) -> None:
    rows = json.loads((root / "cgbench" / "cgbench_mini.json").read_text())
    rows[0]["clue_intervals"] = [[50, 51]]
    write_cgbench(root, rows)
    records = run(root, tmp_path, Watching())
    errors = {name: record["error"] for name, record in records.items() if record["error"]}
    assert errors == {"run/10_clue": "it is to be asked about 50 to 51 s, where the video has no frame"}


# ------------------------------------------------------------------------------------------------- prompts


SUBTITLES = """1
00:00:00,600 --> 00:00:01,000
Good <i>morning</i>

2
00:00:00,500 --> 00:00:09,000
two
lines
"""


def test_prompts_say_when_frames_are_and_what_is_said_meanwhile(root: Path) -> None:
    (root / "cgbench" / "cg_subtitles").mkdir()
    (root / "cgbench" / "cg_subtitles" / "BV0-_.srt").write_text(SUBTITLES)
    task = load_task("cgbench_clues")
    video, silent = task.load(root)
    long, clue, where = video.questions[:3]
    clip = read_clip(video.path, FrameSampling(num_frames=3))
    seen = (
        "The subtitles of the video are as follows:\n\n[0.6, 1.0] Good {\\i1}morning{\\i0}\n[0.5, 9.0] two lines\n\n"
        "A total of 3 frames are sampled. Their corresponding timestamps are:\n\n0.64, 1.96, 3.32\n\n"
    )
    asked = "Question: In the video, what is item 0?\n\nA:Gray\nB:Pale blue\nC:a dog\nD:I do not know\nE:Silver.\n\n"
    answer = '```json\n{"result": "option"}\n```\n\n'
    text = task.prompt(video, long, "official", clip)
    assert text.startswith("You will be provided with sampled frames from a video, along with a multiple-choice")
    assert text.endswith(f'{answer}The "option" is the uppercase letter corresponding to your answer.\n\n{seen}{asked}')
    assert task.prompt(video, clue, "official", clip) == text.replace('The "option" is', "The 'option' is")
    text = task.prompt(video, where, "official", clip)
    assert text.endswith(f"Intervals exceeding five will NOT be considered valid.\n{seen}{asked}")
    assert "subtitles" not in task.prompt(silent, silent.questions[0], "official", clip)
    assert task.prompt(video, long, "official", None).endswith(f"answer.\n\n{asked}"), "who sees none is told none"
    clip.timestamps_s = np.full(3, np.nan)
    with pytest.raises(VideoError, match="no times"):
        task.prompt(video, long, "official", clip)


def test_the_page_quotes_them(root: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "benchmarks" / "cgbench_clues.md").read_text(encoding="utf-8")
    task = load_task("cgbench_clues")
    for question in task.load(root)[0].questions[:3:2]:
        assert (
            f"```text\n{task.instructions(question, 'official')[0]}The subtitles of the video are as follows:\n" in page
        )


# ------------------------------------------------------------------------------------------------- scores


def block(result: str) -> str:
    return f'```json\n{{"result": {result}}}\n```'


CHOICE = Question("1", "?", ("a", "b", "c", "d", "e"), "B", extra={"clues": [[8, 11]]}, groups={"asked": "clues alone"})
WHERE = Question("1_where", "?", extra={"clues": [[8, 11], [20, 21]]}, groups={"asked": "where the clues are"})


@pytest.mark.parametrize(
    ("response", "score"),
    [
        (block('"B"'), Score({"correct": 1.0}, "B")),
        (block("B"), Score({"correct": 1.0}, "B")),  # without quotes
        (f"A? No. {block(chr(34) + 'A' + chr(34))} B", Score({"correct": 0.0}, "A")),  # the block counts
        ("It is A, not B", Score({"correct": 1.0}, "B")),  # without a block, the right one anywhere
        ("It is C or D", Score({"correct": 0.0}, "C")),
        ("no idea", Score({"correct": 0.0}, None, parsed=False)),
        (block("null"), Score({"correct": 0.0}, "null", parsed=False)),
        (block('"H"'), Score({"correct": 0.0}, "H", parsed=False)),  # there is no such option
    ],
)
def test_choices_by_the_authors_rule(response: str, score: Score) -> None:
    assert load_task("cgbench_clues").score(CHOICE, response, "official") == score


@pytest.mark.parametrize(
    ("response", "official", "flexible"),
    [
        (block("[[8, 11], [20, 21]]"), 1.0, 1.0),
        (block("[[8, 11]]"), 0.75, 0.75),
        (block("[[9, 10], [9.5, 11], [30, 34]]"), 2 / 8, 2 / 8),  # 2 shared of 3 + 1 + 4; overlaps count once
        ("from 8 to 11", 0.75, 0.75),
        ("0:08 - 0:11", 3 / 12, 0.75),  # four numbers to the authors: 0 to 8 and 0 to 11
        ("from 8 to 11 and 20", None, 0.75),  # an odd number of numbers
        ('{"result": [{"start": 8, "end": "0:11"}, {"start": 20, "end": 21}]}', None, 1.0),
        (CutOff("from 8 to 11 and from"), 0.75, None),  # it has not said yet where
        (CutOff("[[8, 11], [20, 21]], since"), 1.0, 1.0),
        (block("[[11, 8]]"), None, None),
        (block("[]"), None, None),
        ("It is not shown.", None, None),
    ],
)
def test_overlap_of_several_stretches(response: str, official: float | None, flexible: float | None) -> None:
    task = load_task("cgbench_clues")
    for protocol, expected in (("official", official), ("flexible", flexible)):
        score = task.score(WHERE, response, protocol)
        assert score.values["iou"] == pytest.approx(expected or 0.0) and score.parsed == (expected is not None), (
            protocol
        )


def test_what_it_reports() -> None:
    def record(row: int, way: str, **values: float) -> ScoredRecord:
        ending = {"whole video": "", "clues alone": "_clue", "where the clues are": "_where"}[way]
        return ScoredRecord(f"{row}{ending}", f"v{row}", {"asked": way}, Score(values))

    long, clue, overlap = (1, 1, 0, 1), (1, 1, 1, 1), (0.45, 0.05, 0.9, 0.3)
    records = [
        each
        for row in range(4)
        for each in (
            record(row, "whole video", correct=long[row]),
            record(row, "clues alone", correct=clue[row]),
            record(row, "where the clues are", iou=overlap[row]),
        )
    ]
    task = load_task("cgbench_clues")
    found = {name: metric.value for name, metric in summarize(task.measures, records).metrics.items()}
    assert next(iter(found)) == "long-acc"
    assert found == pytest.approx(
        {
            "long-acc": 0.75,
            "clue-acc": 1.0,
            "mIoU": (0.45 + 0.05 + 0.9 + 0.3) / 4,
            "rec@IoU": (4 + 0 + 5 + 3) / 20,  # thresholds 0.1 to 0.5
            "acc@IoU": (4 + 0 + 0 + 3) / 20,  # the third is found and not answered
            "CRR": 0.75,
        }
    )


def test_rows_without_clues_and_answers_of_others(root: Path) -> None:
    rows = json.loads((root / "cgbench" / "cgbench_mini.json").read_text())
    rows[1]["clue_intervals"], rows[2]["clue_intervals"] = [], [[3, 2]]
    write_cgbench(root, rows)
    task = load_task("cgbench_clues")
    questions = [question for video in task.load(root) for question in video.questions]
    assert sum(question.problem is None for question in questions) == 6 and len(task.defects) == 2
    assert "not starts and later ends" in task.defects[0].problem
    assert len(load_task("cgbench").load(root)[0].questions) == 2, "who asks about the whole needs no clues"

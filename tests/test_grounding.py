"""Temporal grounding: its files, prompts, intervals and figures, and times told to models that see none."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from choice_files import write_json, write_parquet
from test_lmms_agreement import Theirs
from vamba_eval.tasks import _grounding, timelens
from videos import make_video

from vamba_eval import Question, Task, evaluate, load_task
from vamba_eval.contracts import Answer, Clip, CutOff, ModelAdapter, Score, ScoredRecord, Seen, UserError
from vamba_eval.run.times import Times
from vamba_eval.score.statistics import summarize

DOCS = Path(__file__).parents[1] / "docs" / "benchmarks"
SENTENCES = ["person turn a light on", "a person takes 2 to 3 books", "person sits down. then eats", "it ends to start"]


def charades_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "video": f"AB{i // 2}X.mp4",
            "caption": SENTENCES[i % 4],
            "timestamp": [float(i), float(i) + 6.5 + i % 3],
        }
        for i in range(count)
    ]


def write_charades(root: Path, rows: list[dict[str, Any]]) -> Path:
    return write_parquet(root / "charades_sta" / "data" / "test-00000-of-00001.parquet", rows)


def write_charades_lines(root: Path, rows: list[dict[str, Any]]) -> Path:
    path = root / "charades_sta" / "charades_sta_test.txt"
    path.parent.mkdir(parents=True)
    lines = [f"{row['video'][:-4]} {row['timestamp'][0]} {row['timestamp'][1]}##{row['caption']}.\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def write_timelens(root: Path, videos: int, split: str = "charades") -> Path:
    entries = {
        f"v_{v}": {
            "duration": 30.5 + v,
            "spans": [[v, v + 5.5 + n] for n in range(3)],
            "queries": [f" {SENTENCES[(v + n) % 4]}\n now . " for n in range(3)],
        }
        for v in range(videos)
    }
    write_json(root / "timelens" / f"{split}-timelens.json", entries)
    return root / "timelens"


def answers(seed: int, count: int) -> Iterator[str]:
    """Responses about times in many forms, well made and not."""
    rng = random.Random(seed)
    times = ["0", "3", "3.5", "8.25", "12.", "00:03", "0:08", "1:02", "00:00:18", "00:00:3", "01:02:03.5", "7s", "9 s"]
    times += ["12", "2.0", "x", "-4", "3.5.1", "1,5", "５", "", "100:20"]
    joints = [" - ", "-", "–", " to ", " – ", "s - ", "s to ", " and ", ", ", "\n", " end ", "! ", "? The end time is "]
    heads = [
        "",
        "The event happens in the ",
        "Start: ",
        "it starts at ",
        "from ",
        "A specific example is : 20.8 - 30.0 seconds ",
    ]
    heads += ["<think>1 - 2</think>", "At 5 s.\n", "[", "Stop at noon.\nhappens in "]
    tails = ["", " seconds.", "s", " seonds", "\nand so on 3 - 4", "]", " (end)", "!", " It is 7."]
    for _ in range(count):
        parts = [rng.choice(heads), rng.choice(times), rng.choice(joints), rng.choice(times), rng.choice(tails)]
        text = "".join(parts)
        yield rng.choice(
            [text, text, text.upper(), text + rng.choice(joints) + rng.choice(times), "".join(parts[::-1])]
        )


def theirs_of(name: str, root: Path) -> tuple[Task, Theirs, list[Question]]:
    """Our task, theirs on the same questions, and ours in their order."""
    if name == "charades_sta":
        rows = charades_rows(12)
        write_charades(root, rows)
        file, metric = "charades_sta/charades.yaml", "charades_sta_mIOU"
    else:
        write_timelens(root, 4)
        file, metric = "timelens/timelens_charades.yaml", "timelens_mIOU"
    task = load_task(name)
    pairs = [(video, question) for video in task.load(root) for question in video.questions]
    if name == "timelens":
        rows = [
            {"video_path": f"{video.id}.mp4", "query": question.text, "span": json.dumps([question.extra["span"]])}
            for video, question in pairs
        ]
    return task, Theirs(file, rows, root, metric), [question for _, question in pairs]


@pytest.fixture(params=["charades_sta", "timelens"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Task, Theirs, list[Question]]:
    return theirs_of(request.param, tmp_path)


def test_lmms_eval_asks_the_same(both: tuple[Task, Theirs, list[Question]], tmp_path: Path) -> None:
    task, theirs, questions = both
    settings = dict(theirs.task.config.generation_kwargs)
    ours = task.generation("lmms-eval")
    assert (ours.max_new_tokens, list(ours.until)) == (settings["max_new_tokens"], settings["until"])
    video = task.load(tmp_path)[0]
    for question, document in zip(questions, theirs.documents, strict=True):
        assert task.prompt(video, question, "lmms-eval", None) == theirs.prompt(document)
        assert all(each in theirs.prompt(document) for each in task.instructions(question, "lmms-eval"))


def test_lmms_eval_scores_the_same(both: tuple[Task, Theirs, list[Question]]) -> None:
    task, theirs, questions = both
    kinds = {"none": 0, "miss": 0, "hit": 0}
    for seed, (question, document) in enumerate(zip(questions, theirs.documents, strict=True)):
        for response in answers(seed, 500):
            score = task.score(question, response, "lmms-eval")
            expected = theirs.aggregate([theirs.result(document, response, question)], None)
            assert 100 * score.values["iou"] == pytest.approx(expected), response
            read = theirs.globals["extract_time"](theirs.stripped(response))
            assert score.parsed is bool(read), response
            kinds["none" if not score.parsed else "hit" if expected else "miss"] += 1
    assert min(kinds.values()) > 100, kinds


def test_figures_are_lmms_evals(both: tuple[Task, Theirs, list[Question]]) -> None:
    task, theirs, questions = both
    rng = random.Random(3)
    records, results = [], []
    for question, document in zip(questions, theirs.documents, strict=True):
        start, end = question.extra["span"]
        response = rng.choice([f"{start} - {end}", f"{start + 2} - {end + 1}", f"{start + 3} - {end + 5}", "none"])
        score = task.score(question, response, "lmms-eval")
        records.append(ScoredRecord(question.id, question.id, {}, score, question=question))
        results.append(theirs.result(document, response, question))
    summary = summarize(task.measures, records)
    figures = {name: 100 * metric.value for name, metric in summary.metrics.items()}
    there = theirs.globals[f"_{'temporal_grounding' if task.name == 'charades_sta' else 'timelens'}_compute_metrics"]
    expected = there(results)
    names = {"mIoU": "mIOU", "R1@0.3": "IOU@3", "R1@0.5": "IOU@5", "R1@0.7": "IOU@7"}
    assert figures == pytest.approx({ours: expected[other] for ours, other in names.items()})
    assert 0 < figures["R1@0.7"] < figures["R1@0.3"] < 100


def test_timelens_authors_round_to_seconds(tmp_path: Path) -> None:
    write_timelens(tmp_path, 1)
    task = load_task("timelens")
    question = task.load(tmp_path)[0].questions[0]
    assert question.extra["span"] == [0, 5.5]
    official = {
        text: task.score(question, text, "official").values["iou"] for text in ("0.4 - 5.4", "0.5 - 4.5", "9 - 3")
    }
    assert official == {"0.4 - 5.4": pytest.approx(5 / 5.5), "0.5 - 4.5": pytest.approx(4 / 5.5), "9 - 3": 0}
    assert task.score(question, "0.5 - 4.5", "lmms-eval").values["iou"] == pytest.approx(4 / 5.5)
    assert task.score(question, "0.4 - 5.4", "lmms-eval").values["iou"] == pytest.approx(5 / 5.5)
    assert task.score(question, "0.4 - 5.4", "official").extracted == "0 - 5 s"
    assert not task.score(question, "never", "official").parsed


@pytest.mark.parametrize(
    ("response", "span"),
    [
        ("The event happens in 12.3 - 45.6 seconds.", (12.3, 45.6)),
        ("from 12 to 45 seconds", (12, 45)),
        ("between 12s and 45s", (12, 45)),
        ("00:12 - 01:05", (12, 65)),
        ("1:02:03 – 1:02:05.5", (3723, 3725.5)),
        ("It starts at 00:00:18 and ends at 00:00:23.", (18, 23)),
        ("It ends at 9 s and starts at 3 s", (3, 9)),
        ("The start time is 0 seconds, and the end time is 12 seconds.", (0, 12)),
        ('```json\n{"start": 12, "end": "45.6"}\n```', (12, 45.6)),
        ('{"start_time": "00:12", "end_time": "01:45"}', (12, 105)),
        ("[[12.5, 45]]", (12.5, 45)),
        ("12-45", (12, 45)),
        ("**3.0** to **7.5**", (3, 7.5)),
        ("1 minute 5 seconds to 1m20s", (65, 80)),
        ("1.5 minutes to 2 minutes", (90, 120)),
        ("At first I took 10 - 20 s for it, but it is 30 - 40 s.", (30, 40)),
        ("The event happens in 30 - 40 s. Before that, from 0 to 10 s, he sits.", (30, 40)),
        ("The event 'person turn a light on' happens in the 30.5 - 40 seonds, of 50 to 60 in all.", (30.5, 40)),
        ("Answer: 30 to 40 s. The video is 50 - 60 s long.", (30, 40)),
        ("$\\boxed{30 - 40}$ lasts 9 to 11 seconds", (30, 40)),
        ("First it occurs in 1 - 2 s; the event happens in 30 - 40 s. He leaves from 50 to 60 s.", (30, 40)),
        ("frames 12 to 45", None),
        ("50% - 60%", None),
        ("12.5 seconds", None),
        ("45 - 12", None),
        ("I do not know", None),
        ("", None),
        ("He takes 2 to 3 books", None),
    ],
)
def test_flexible_reads_common_forms(response: str, span: tuple[float, float] | None) -> None:
    assert _grounding.read_flexible(response, "takes 2 to 3 books") == span


@pytest.mark.parametrize("name", ["charades_sta", "timelens"])
@pytest.mark.parametrize(
    ("response", "extracted"),
    [
        ("<think>Maybe 1 - 2 s.</think>3 - 4 s", "3 - 4 s"),
        ("<thinking>Maybe 1 - 2 s.</thinking>3 - 4 s", "3 - 4 s"),
        ("◁think▷The event happens in 3 - 4 s.◁/think▷", None),
        ("<think>Maybe 1 - 2 s.", None),
        ("<|channel|>analysis<|message|>The event happens in 1 - 2 s", None),
        (CutOff("He sits from 1 to 2 s. Then from 3 to"), None),
        (CutOff("The event happens in 3 - 4 s. He sits from 1 to 2 s, and"), "3 - 4 s"),
        (CutOff('{"start": 3, "end": 4}, because'), "3 - 4 s"),
    ],
)
def test_flexible_reads_no_interval_in_reasoning(name: str, response: str, extracted: str | None) -> None:
    question = Question("q", "person sits", answer="3 - 4 s", extra={"span": [3.0, 4.0]})
    score = load_task(name).score(question, response, "flexible")
    assert score == Score({"iou": float(extracted is not None)}, extracted, parsed=extracted is not None)


def test_overlaps_of_several_spans_are_the_authors_to_the_last_bit() -> None:
    spans = [_grounding.Span(8.5, 10.5), _grounding.Span(4.3, 6.3), _grounding.Span(14.3, 16.3)]
    others = [_grounding.Span(7.8, 10.8), _grounding.Span(3.9, 6.9)]
    shared = (6.3 - 4.3) + (10.5 - 8.5)
    own, annotated = (6.3 - 4.3) + (10.5 - 8.5) + (16.3 - 14.3), (6.9 - 3.9) + (10.8 - 7.8)
    assert _grounding.iou_of_several(spans, others) == shared / (own + annotated - shared)


@pytest.mark.parametrize("name", ["charades_sta", "timelens"])
@pytest.mark.parametrize(
    "response",
    [
        "1" * 200_000 + "q",
        "9" * 5000 + " to " + "9" * 5001,
        "from 1 to " * 20_000,
        "1 - " * 50_000,
        "start " * 20_000 + "1" + " begins" * 20_000,
        '{"start": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    ids=lambda text: text[:8],
)
def test_no_response_hangs_or_fails_a_protocol(name: str, response: str) -> None:
    """One that did would take all others of its model out of the tables, or keep everybody waiting."""
    task: Task = load_task(name)
    question = Question("q", "it happens", extra={"span": [1.0, 2.0]})
    for protocol in task.protocols:
        assert task.score(question, response, protocol).values


def test_spans_overlap() -> None:
    span = _grounding.Span
    assert _grounding.iou(span(0, 10), span(5, 15)) == pytest.approx(1 / 3)
    assert _grounding.iou(span(0, 1), span(5, 6)) == _grounding.iou(span(0, 10), span(6, 4)) == 0
    assert _grounding.iou(span(2, 2), span(2, 2)) == 0


def test_charades_in_both_layouts(tmp_path: Path) -> None:
    rows = charades_rows(9)
    write_charades(tmp_path / "table", rows)
    path = write_charades_lines(tmp_path / "lines", rows)
    task = load_task("charades_sta")
    of_table, of_lines = task.load(tmp_path / "table"), task.load(tmp_path / "lines")
    assert [each.questions for each in of_table] == [each.questions for each in of_lines]
    assert [len(each.questions) for each in of_table] == [2, 2, 2, 2, 1]
    assert of_table[0].path.parent.name == "Charades_v1_480"
    path.write_text(path.read_text() + "ZZ 9.0 4.0##person leaves.\nno line\n")
    assert len([q for video in task.load(tmp_path / "lines") for q in video.questions if q.problem]) == 2
    assert [each.where for each in task.defects] == ["charades_sta_test.txt line 10", "charades_sta_test.txt line 11"]


def test_half_floats_of_the_published_table(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = write_charades(tmp_path, charades_rows(1))
    half = pyarrow.array([np.array([24.3, 30.4], np.float16)], pyarrow.list_(pyarrow.float16()))
    pyarrow.parquet.write_table(pyarrow.table({"video": ["A.mp4"], "caption": ["x"], "timestamp": half}), path)
    (question,) = load_task("charades_sta").load(tmp_path)[0].questions
    assert json.loads(json.dumps(question.extra["span"])) == [24.296875, 30.40625]


def test_timelens_files(tmp_path: Path) -> None:
    for split in timelens.TimeLens.splits:
        write_timelens(tmp_path, 2, split)
    task = load_task("timelens")
    for split in task.splits:
        videos = task.load(tmp_path, split)
        assert [video.path for video in videos] == [
            tmp_path / "timelens" / "videos" / split / f"v_{v}.mp4" for v in (0, 1)
        ]
        assert videos[1].duration_s == 31.5 and len(videos[1].questions) == 3
    assert videos[0].questions[0].text == "person turn a light on now"
    write_json(tmp_path / "timelens" / "charades-timelens.json", {"a": {"spans": [[3, 1]], "queries": ["x"]}, "b": {}})
    assert [each.problem is not None for video in task.load(tmp_path) for each in video.questions] == [True, True]


class Watcher(ModelAdapter):
    """Says the same of everything; is told times, or not, or does not say what it sees."""

    name = "watcher"

    def __init__(self, told: bool | None) -> None:
        self.told, self.prompts = told, list[str]()

    def describe(self) -> Mapping[str, Any]:
        return {"told": self.told}

    def encode(self, clip: Clip | None) -> Any:
        return None if clip is None else clip.frames.shape

    def seen(self, encoded: Any) -> Seen | None:
        return None if self.told is None else Seen(*encoded[:3], times=self.told)

    def generate(self, encoded: Any, prompts: Any, settings: Any) -> list[Answer]:
        self.prompts += map(str, prompts)
        return [Answer("It happens in 0.0 - 2.0 seconds.", 1) for _ in prompts]


@pytest.mark.parametrize("told", [True, False, None])
def test_times_are_told_to_models_that_see_none(told: bool | None, tmp_path: Path) -> None:
    rows = [{"video": "A.mp4", "caption": "person sits", "timestamp": [0.0, 2.5]}]
    write_charades(tmp_path, rows)
    folder = tmp_path / "charades_sta" / "Charades_v1_480"
    folder.mkdir()
    make_video(folder / "A.mp4", frames=100, rate=25)
    model = Watcher(told)
    out = tmp_path / "out"
    evaluate(["charades_sta"], [model], data_root=tmp_path, output=out, sampling={"num_frames": 4}, blind=True)
    (file,) = [path for path in out.rglob("*.jsonl") if "blind" not in path.name]
    (record,) = [json.loads(line) for line in file.read_text().splitlines()]
    seeing, blind = model.prompts
    asked = "person sits. Please return its start time and end time."
    assert record["prompt"] == seeing and seeing.endswith(asked)
    assert blind.startswith("Please find"), "no frames, so no times of frames"
    first = seeing.splitlines()[0]
    if told:
        assert seeing == blind and record["seen"]["times"] and "times_in_prompt" not in record["seen"]
    else:
        listed = re.fullmatch(r"The 4 frames of the video were taken at these times, in seconds: (.*)\.", first)
        assert listed is not None and len(listed[1].split(", ")) == 4
        times = [float(each) for each in listed[1].split(", ")]
        assert times == sorted(times) and 0 <= times[0] < 1 and 3 < times[3] < 4, "middles of quarters of 4 s"
        if told is False:
            assert record["seen"]["times"] is True and record["seen"]["times_in_prompt"] is True
    (run,) = out.rglob("run.json")
    assert "before the prompt" in run.read_text()


class Reader(Watcher):
    """Takes text between its frames, and keeps what it gets."""

    name = "reader"
    takes_captions = True

    def encode(self, clip: Clip | None) -> Any:
        self.captions = () if clip is None else clip.captions
        self.file = clip is not None and clip.path is not None
        return super().encode(clip)


def one_video(root: Path, seconds: int = 4) -> None:
    write_charades(root, [{"video": "A.mp4", "caption": "person sits", "timestamp": [0.0, 2.5]}])
    folder = root / "charades_sta" / "Charades_v1_480"
    folder.mkdir()
    make_video(folder / "A.mp4", frames=seconds, rate=1)


@pytest.mark.parametrize("told", [True, False, None])
@pytest.mark.parametrize(
    ("way", "first"),
    [
        ("off", ""),
        ("seconds", "The 3 frames of the video were taken at these times, in seconds: 10.0, 31.0, 53.0.\n"),
        ("m:s", "The 3 frames of the video were taken at these times, as minutes:seconds: 0:10.0, 0:31.0, 0:53.0.\n"),
    ],
)
def test_times_before_the_prompt_in_the_form_that_is_asked_for(
    told: bool | None, way: str, first: str, tmp_path: Path
) -> None:
    one_video(tmp_path, 64)
    model = Reader(told)
    out = tmp_path / "out"
    evaluate(["charades_sta"], [model], data_root=tmp_path, output=out, sampling={"num_frames": 3}, times=way)
    (record,) = [json.loads(line) for path in out.rglob("*.jsonl") for line in path.read_text().splitlines()]
    expected = "" if told else first
    assert record["prompt"] == model.prompts[0] and model.prompts[0].startswith(expected + "Please find")
    assert model.captions == () and model.file
    if told is not None:
        assert record["seen"]["times"] is bool(told or first)
        assert record["seen"].get("times_in_prompt", False) is bool(expected)
    (run,) = out.rglob("run.json")
    assert json.loads(run.read_text())["tasks"]["charades_sta"]["times"] == way


@pytest.mark.parametrize(
    ("way", "texts"),
    [
        ("seconds-between", ["Frame at 600.0 s: ", "Frame at 1800.0 s: ", "Frame at 3000.0 s: "]),
        ("m:s-between", ["Frame at 10:00.0: ", "Frame at 30:00.0: ", "Frame at 50:00.0: "]),
    ],
)
def test_times_between_the_frames(way: str, texts: list[str], tmp_path: Path) -> None:
    one_video(tmp_path, 3600)
    model = Reader(False)
    out = tmp_path / "out"
    evaluate(["charades_sta"], [model], data_root=tmp_path, output=out, sampling={"num_frames": 3}, times=way)
    assert model.captions == tuple(enumerate(texts)) and not model.file
    assert model.prompts[0].startswith("Please find")
    (record,) = [json.loads(line) for path in out.rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert record["seen"]["times"] and record["seen"]["times_between"] and "times_in_prompt" not in record["seen"]


def test_times_from_an_hour_on() -> None:
    clip = Clip(np.empty((3, 1, 1, 3), np.uint8), np.array([59.97, 3599.96, 7325.04]), np.arange(3), 25.0, 9000.0)
    assert [text for _, text in Times("m:s-between").captions(clip)] == [
        *("Frame at 1:00.0: ", "Frame at 1:00:00.0: ", "Frame at 2:02:05.0: ")
    ]


def test_ways_to_tell_times_that_are_refused(tmp_path: Path) -> None:
    one_video(tmp_path)
    for tasks, model, more, message in (
        (["charades_sta"], Watcher(False), {"times": "m:s-between"}, "cannot take text between the frames"),
        (["charades_sta"], Reader(False), {"times": "minutes"}, "seconds, m:s"),
        (["videomme"], Reader(False), {"times": "off"}, "leave out --times off"),
        (["longvideobench_subtitles"], Reader(False), {"times": "seconds-between"}, "text of its own between frames"),
        (["charades_sta"], Telling(False), {"times": "seconds-between"}, "writes times between frames itself"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate(tasks, [model], data_root=tmp_path, output=tmp_path / "out", **more)


class Telling(Reader):
    """As the adapter of endpoints with ``times=true``."""

    def describe(self) -> Mapping[str, Any]:
        return {"times": True}


@pytest.mark.parametrize("name", ["charades_sta", "timelens"])
def test_pages_quote_prompts(name: str, tmp_path: Path) -> None:
    write_charades(tmp_path, [{"video": "A.mp4", "caption": "{sentence}", "timestamp": [0.0, 2.5]}])
    entry = {"duration": 3.0, "spans": [[0, 1]], "queries": ["{sentence}"]}
    write_json(tmp_path / "timelens" / "charades-timelens.json", {"v": entry})
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    quoted = re.findall(r"```text\n(.*?)\n```", page, re.DOTALL)
    task = load_task(name)
    (video,) = task.load(tmp_path)
    prompts = {task.prompt(video, video.questions[0], protocol, None) for protocol in task.protocols}
    assert prompts == {quoted[0]}

"""Video-MME and LongVideoBench with subtitles, and by their authors' protocols, on real small videos.

lmms-eval's own functions say what its prompts are. Its ``insert_subtitles_into_frames`` and ``load_video`` are also
LongVideoBench's authors' own. What Video-MME's authors do is written out here in the terms of their scripts.
"""

from __future__ import annotations

import csv
import json
import random
import re
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pysubs2
import pytest
import yaml
from benchmark_files import longvideobench_rows, videomme_rows, write_longvideobench, write_videomme
from lmms_eval.tasks.longvideobench import utils as lmms_longvideobench
from lmms_eval.tasks.videomme import utils as lmms_videomme
from stored import latest_records, scored_lines
from test_tasks import questions
from videos import X264_OPEN, make_video, remux

from vamba_eval import Clip, FrameSampling, Question, Video, evaluate, load_adapter, load_task, read_clip
from vamba_eval.contracts import (
    Answer,
    GenerationSettings,
    ModelAdapter,
    ScoredRecord,
    Task,
    UserError,
    VideoError,
    VideoInfo,
)
from vamba_eval.reading.reader import Reader, Reading
from vamba_eval.score.letters import extract_videomme
from vamba_eval.score.statistics import summarize
from vamba_eval.video.read import probe

# ------------------------------------------------------------------------------------------ Video-MME's files


def lmms_kwargs(task: str, file: str) -> dict[str, str]:
    """The default prompt arguments in an installed lmms-eval task file."""
    folder = Path(lmms_videomme.__file__).parent.parent / task
    text = "\n".join(line for line in (folder / file).read_text().splitlines() if "!function" not in line)
    return yaml.safe_load(text)["lmms_eval_specific_kwargs"]["default"]


def srt(lines: list[tuple[int, int, str]]) -> str:
    """A SubRip file of (start, end, text), times in milliseconds."""

    def clock(ms: int) -> str:
        return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"

    return "".join(f"{n}\n{clock(a)} --> {clock(b)}\n{text}\n\n" for n, (a, b, text) in enumerate(lines, 1))


def font(text: str) -> str:
    return f'<font color="white" size=".72c">{text}</font>'


def published_shape(length_ms: int, seed: int) -> list[tuple[int, int, str]]:
    """Lines as Video-MME's files have them: back to back, now and then over two rows or with a pause."""
    rng = random.Random(seed)
    lines, at = [], 0
    while at < length_ms:
        end = at + rng.randrange(30, 700)
        text = font(f"line {len(lines)}" + rng.choice(["", " <i>said</i>"]))
        lines.append((at, end, text + rng.choice(["", f"\n{font('and more')}"])))
        at = end + rng.choice([0, 0, 250])
    return lines


SHAPES: dict[str, str | None] = {
    "published": srt(published_shape(6000, 1)),
    "many": srt([(20 * n, 20 * n + 19, font(f"word {n}")) for n in range(300)]),
    "overlapping": srt([(0, 4000, font("long")), (500, 900, font("inside")), (3000, 6000, font("late"))]),
    "marked": srt([(0, 1500, "no font"), (1500, 3000, font("<i>slanted</i> &amp; {\\an8}up")), (3000, 9000, font(""))]),
    "empty line first": srt([(0, 3000, ""), (1000, 3000, font("behind it")), (3000, 5000, font("after"))]),
    "twice the same times": srt([(0, 2000, font("first")), (0, 2000, font("second")), (2000, 4000, font("third"))]),
    "not at once": srt([(100_000, 101_000, font("after the video's end"))]),
    "empty": "",
    "none": None,
}


@pytest.fixture(scope="module")
def videomme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a video for each shape of subtitles; rates, frame orders and header fields differ."""
    root = tmp_path_factory.mktemp("root")
    rows = videomme_rows(len(SHAPES))
    data = write_videomme(root, rows) / "data"
    (data.parent / "subtitle").mkdir()
    for number, content in enumerate(SHAPES.values()):
        path = data / f"vid_{number}.mp4"
        rate = (25, 30, 12)[number % 3]
        make_video(path, frames=5 * rate + 3, rate=rate, size=(48, 64), options=X264_OPEN, variable=number % 4 == 3)
        if content is not None:
            (data.parent / "subtitle" / f"vid_{number}.srt").write_text(content, encoding="utf-8")
    fragmented = remux(data / "vid_0.mp4", root / "fragmented.mp4", options={"movflags": "frag_keyframe+empty_moov"})
    fragmented.replace(data / "vid_0.mp4")
    return root


def clip_of(video: Video, **sampling: Any) -> Clip:
    return read_clip(video.path, FrameSampling(shortest_edge=None, longest_edge=None, **sampling))


def prompt_with_header(task: Task, video: Video, question: Question) -> str:
    """The prompt under lmms-eval's protocol, as a run has it: those who read the video say what its header states."""
    with Reader(Reading(workers=0)) as reader:
        (loaded,) = reader.clips([video], FrameSampling(num_frames=1), headers=True)
    assert loaded.clip is not None
    return task.prompt(video, question, "lmms-eval", loaded.clip)


# ------------------------------------------------------------------------------------- Video-MME with subtitles


@pytest.mark.parametrize("file", ["videomme_w_subtitle.yaml", "_default_template_yaml"])
def test_lmms_eval_s_prompts_with_subtitles(videomme: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    monkeypatch.setattr(lmms_videomme, "base_cache_dir", str(videomme))
    kwargs = lmms_kwargs("videomme", file)
    task = load_task("videomme_subtitles")
    known = questions(task.load(videomme))
    shown = {}
    for row in videomme_rows(len(SHAPES)):
        shape = list(SHAPES)[int(row["video_id"]) - 1]
        if shape == "empty line first":
            with pytest.raises(ValueError):
                lmms_videomme.videomme_doc_to_text_subtitle(row, kwargs)
            with pytest.raises(VideoError, match="cannot be read as lmms-eval reads them"):
                prompt_with_header(task, *known[row["question_id"]])
            continue
        prompt = prompt_with_header(task, *known[row["question_id"]])
        assert prompt == lmms_videomme.videomme_doc_to_text_subtitle(row, kwargs)
        shown[shape] = prompt.partition("\nSelect the best answer")[0]
    assert shown["none"].endswith("listed below: \nNo subtitles available")
    assert shown["empty"] == shown["not at once"] == "This video's subtitles are listed below: \n"
    assert 16 < len(re.findall(r"^word \d+$", shown["many"], re.MULTILINE)) <= 32
    assert "long\ninside\nlate" in shown["overlapping"] and "second" in shown["twice the same times"]
    assert "no font" not in shown["marked"]


def test_lmms_eval_shows_lines_out_of_order_and_none_of_other_endings(
    videomme: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmms_videomme, "base_cache_dir", str(videomme))
    kwargs = lmms_kwargs("videomme", "videomme_w_subtitle.yaml")
    task = load_task("videomme_subtitles")
    row = videomme_rows(2)[3]
    video, question = questions(task.load(videomme))[row["question_id"]]
    prompt = prompt_with_header(task, video, question)
    numbers = [int(n) for n in re.findall(r"^word (\d+)$", prompt, re.MULTILINE)]
    assert numbers != sorted(numbers), "else the order of a set would not matter"
    for ending in ("mkv", "MP4"):
        path = video.path.with_suffix(f".{ending}")
        path.write_bytes(video.path.read_bytes())
        aside = video.path.rename(video.path.with_name("aside"))
        try:
            (loaded,) = [each for each in load_task("videomme_subtitles").load(videomme) if each.id == video.id]
            assert loaded.path == path
            prompt = prompt_with_header(task, loaded, question)
            assert prompt == lmms_videomme.videomme_doc_to_text_subtitle(row, kwargs)
            assert prompt.startswith("This video's subtitles are listed below: \n\nSelect")
        finally:
            aside.rename(video.path)
            path.unlink()


def by_the_authors(path: Path, indices: list[int], fps: float) -> str:
    """What the script that Video-MME's page recommends puts into subtitles.txt."""
    events = pysubs2.load(str(path), encoding="utf-8")
    texts = []
    for index in indices:
        now = pysubs2.make_time(fps=fps, frames=index)
        text = next((event.text for event in events if event.start < now < event.end), "").replace("\\N", " ")
        texts += [text] if text.strip() else []
    return "\n".join(texts)


def by_the_vamba_scripts(path: Path, indices: list[int], fps: float) -> str:
    """Their load_subtitle: of the lines that have not ended, the first, if it has begun."""
    events = pysubs2.load(str(path), encoding="utf-8")
    texts = []
    for index in indices:
        now = pysubs2.make_time(fps=fps, frames=index)
        going = next((event for event in events if event.end >= now), None)
        if going is not None and going.start < now and going.text.strip():
            texts.append(going.text.replace("\\N", " "))
    return "\n".join(texts)


@pytest.mark.parametrize(("protocol", "rule"), [("official", by_the_authors), ("vamba", by_the_vamba_scripts)])
@pytest.mark.parametrize("frames", [7, 60, 1000])
def test_lines_of_the_sampled_frames(
    videomme: Path, protocol: str, rule: Callable[[Path, list[int], float], str], frames: int
) -> None:
    task, plain = load_task("videomme_subtitles"), load_task("videomme")
    with_lines = 0
    for video in task.load(videomme):
        clip = clip_of(video, num_frames=frames)
        for question in video.questions:
            prompt = task.prompt(video, question, protocol, clip)
            asked = plain.prompt(video, question, protocol, None)
            path = video.path.parent.parent / "subtitle" / f"{video.id}.srt"
            text = (
                rule(path, clip.frame_indices.tolist(), clip.source_fps)
                if path.exists() and path.stat().st_size
                else ""
            )
            assert prompt == (f"This video's subtitles are listed below:\n{text}\n{asked}" if text else asked)
            with_lines += bool(text)
    assert with_lines == 18, "six of the nine shapes have lines to show"


def test_the_two_rules_differ_at_a_line_s_end(videomme: Path) -> None:
    task = load_task("videomme_subtitles")
    video = next(each for each in task.load(videomme) if each.id == "vid_3")  # ends at 1500, 3000 ms
    clip = Clip(np.zeros((2, 2, 2, 3), np.uint8), np.array([1.5, 3.0]), np.array([15, 30]), 10.0, 5.0)
    vamba, official = (task.prompt(video, video.questions[0], protocol, clip) for protocol in ("vamba", "official"))
    assert vamba.splitlines()[:3] == [
        "This video's subtitles are listed below:",
        "no font",
        r"{\i1}slanted{\i0} &amp; {\an8}up",
    ]
    assert official.startswith("Select the best answer")


def test_official_prompts_verbatim(videomme: Path) -> None:
    task, plain = load_task("videomme_subtitles"), load_task("videomme")
    video = next(each for each in task.load(videomme) if each.id == "vid_2")
    clip = Clip(np.zeros((1, 2, 2, 3), np.uint8), np.array([0.2]), np.array([2]), 10.0, 5.0)
    asked = (
        "Select the best answer to the following multiple-choice question based on the video. Respond with only the "
        "letter (A, B, C, or D) of the correct option.\n"
        "What is item 0 of scene 2?\nA. thing 2 0 a.\nB. thing 2 0 b.\nC. thing 2 0 c.\nD. thing 2 0 d.\n"
        "The best answer is:"
    )
    assert plain.prompt(video, video.questions[0], "official", None) == asked
    assert task.prompt(video, video.questions[0], "official", clip) == (
        f"This video's subtitles are listed below:\nlong\n{asked}"
    )


def test_what_is_missing_is_said(videomme: Path, tmp_path: Path) -> None:
    rows = videomme_rows(6)
    folder = write_videomme(tmp_path, rows)
    with pytest.raises(UserError, match=r"unpack the data set's subtitle\.zip"):
        load_task("videomme_subtitles").load(tmp_path)
    (folder / "subtitle").mkdir()
    (folder / "subtitle" / "vid_0.srt").write_text(SHAPES["published"] or "")
    (folder / "subtitle" / "vid_2.srt").write_text("1\nno time\nat all\n")
    task = load_task("videomme_subtitles")
    videos = task.load(tmp_path)
    assert [str(defect) for defect in task.defects] == [
        "video vid_5: a long video without a file in subtitle/, where the data set has one; it is asked without "
        "subtitles"
    ]
    clip = Clip(np.zeros((1, 2, 2, 3), np.uint8), np.array([np.nan]), np.array([2]), float("nan"), float("nan"))
    with pytest.raises(VideoError, match="have no times"):
        task.prompt(videos[0], videos[0].questions[0], "official", clip)
    with pytest.raises(VideoError, match="depends on the header"):
        task.prompt(videos[0], videos[0].questions[0], "lmms-eval", clip)
    header = VideoInfo("h264", 2, 2, 1.0, 9.0, 9)
    with_times = Clip(clip.frames, np.ones(1), np.ones(1), 1.0, 9, header=header)
    for protocol in ("official", "lmms-eval"):
        with pytest.raises(VideoError, match=r"vid_2\.srt"):
            task.prompt(videos[2], videos[2].questions[0], protocol, with_times)


def test_parts_of_videomme(videomme: Path) -> None:
    for name in ("videomme", "videomme_subtitles"):
        task = load_task(name)
        whole = task.load(videomme)
        parts = [task.load(videomme, part) for part in ("short", "medium", "long")]
        assert [len(part) for part in parts] == [3, 3, 3]
        assert sorted(v.id for part in parts for v in part) == sorted(v.id for v in whole)
        for name, part in zip(("short", "medium", "long"), parts, strict=True):
            assert {q.groups["duration"] for v in part for q in v.questions} == {name}
        with pytest.raises(UserError, match="no split 'longest'; it has test and short and medium and long"):
            task.load(videomme, "longest")


# ------------------------------------------------------------------------- Video-MME's own scoring and its file


def their_extraction(response: str) -> str:
    """eval_your_results.py of June 2024, with the phrases as its list has them."""
    text = response.strip()
    for phrase in [
        "The best answer is",
        "The correct answer is",
        "The answer is",
        "The answer",
        "The best option is" + "The correct option is",
        "Best answer:" + "Best option:",
        "Answer:",
        "Option:",
        "The correct answer",
        "The correct option",
    ]:
        text = text.replace(phrase, "")
    if len(text.split()) > 10 and not re.search("[ABCD]", text):
        return ""
    match = re.search("[ABCD]", text)
    return "" if match is None else match[0]


def their_accuracy(content: str, kinds: list[str]) -> float:
    """Their overall accuracy: of the responses in which a letter is found."""
    correct = answered = 0
    for item in json.loads(content):
        if item["duration"] in kinds:
            assert {"video_id", "domain", "sub_category"} < set(item)
            for question in item["questions"]:
                assert question["task_type"] and question["options"][0].startswith("A. ")
                if letter := their_extraction(question["response"]):
                    answered += 1
                    correct += letter == question["answer"]
    return correct / answered


RESPONSES = [
    *("A", "(B)", "C. thing", "The answer is D", "The best option is C", "The correct option is B", "Answer: D"),
    *("Best answer: C", "Best option: D", "Correct: D", "I cannot say.", "", "no", "b", "A man is seen", "E"),
    *("none of these many words holds a capital letter that could be an option", "Option: C", "The correct answer: D"),
]


@pytest.mark.parametrize("response", RESPONSES)
def test_official_extraction(response: str) -> None:
    assert extract_videomme(response) == their_extraction(response)


class Echo(ModelAdapter):
    """Says what the question's number calls for."""

    name = "echo"
    reads_video = False

    def encode(self, clip: Clip | None) -> None:
        return None

    def generate(self, encoded: Any, prompts: Any, settings: Any) -> list[Answer]:
        return [Answer(RESPONSES[sum(map(ord, prompt)) % len(RESPONSES)]) for prompt in prompts]


@pytest.mark.parametrize("name", ["videomme", "videomme_subtitles"])
def test_the_submission_scores_the_same_by_the_authors_rule(videomme: Path, tmp_path: Path, name: str) -> None:
    sampling = {"num_frames": 4}
    evaluate([name], [Echo()], data_root=videomme, output=tmp_path, protocol="official", sampling=sampling)
    records = list(latest_records(tmp_path / name / f"{name}.echo.jsonl").values())
    task = load_task(name)
    file, content = task.submission(scored_lines(task, records, "official"))
    assert file == f"{name}_output_test.json"
    expected: dict[str, Any] = {}
    for row in videomme_rows(len(SHAPES)):
        video = expected.setdefault(
            row["video_id"],
            {**{key: row[key] for key in ("video_id", "duration", "domain", "sub_category")}, "questions": []},
        )
        fields = ("question_id", "task_type", "question", "options", "answer")
        video["questions"].append({key: row[key] for key in fields})
    written = json.loads(content)
    responses = {q["question_id"]: q.pop("response") for video in written for q in video["questions"]}
    assert written == list(expected.values())
    assert responses == {record["question"]: record["response"] for record in records}

    known = questions(task.load(videomme))
    for kinds in (["short", "medium", "long"], ["long"]):
        scored = [
            ScoredRecord(
                r["question"], r["video"], r["groups"], task.score(known[r["question"]][1], r["response"], "official")
            )
            for r in records
            if r["groups"]["duration"] in kinds
        ]
        summary = summarize(task.measures, scored)
        assert summary.metrics["accuracy_of_parsed"].value == pytest.approx(their_accuracy(content, kinds))
        assert list(summary.metrics) == ["accuracy", "accuracy_of_parsed"]
        assert not all(record.score.parsed for record in scored)
        assert summary.headline[1].value < summary.metrics["accuracy_of_parsed"].value


def test_the_first_response_to_a_question_is_submitted(videomme: Path) -> None:
    row = videomme_rows(1, 1)[0]
    record = {
        **{"video": "vid_0", "question": "001-1", "options": list("wxyz"), "answer": "A", "response": "D"},
        "groups": {key: row[key] for key in ("duration", "domain", "sub_category", "task_type")},
        "extra": {key: row[key] for key in ("video_id", "question", "options")},
    }
    task, other_seed = load_task("videomme"), {**record, "response": "B", "seed": 1}
    _, content = task.submission(scored_lines(task, [record, other_seed]))
    (video,) = json.loads(content)
    assert [question["response"] for question in video["questions"]] == ["D"]
    del record["extra"]
    with pytest.raises(UserError, match="of an earlier version"):
        task.submission(scored_lines(task, [record]))


# ---------------------------------------------------------------------------------------------- LongVideoBench


def entries(kind: str, length_s: float, offset_s: float, seed: int) -> list[dict[str, Any]]:
    """Subtitles in one of the two published forms, between ``offset_s`` and the end; some of them very short."""
    rng = random.Random(seed)
    made, at = [], offset_s - 1.0
    while at < offset_s + length_s + 2:
        end = at + rng.choice([0.2, 0.75, 1.5, 4.0])
        text = f"line {len(made)}\nof two rows" if len(made) % 4 == 1 else f"line {len(made)}" * (len(made) % 5 != 2)
        if kind == "timestamp":
            made.append({"timestamp": [at, end], "text": text})
        else:
            start, stop = (f"{int(t // 3600)}:{int(t // 60 % 60):02}:{t % 60:06.3f}" for t in (max(at, 0), max(end, 0)))
            made.append({"start": start, "end": stop, "line": text})
        at = end + rng.choice([-0.5, 0.0, 0.5])
    if kind == "timestamp":
        made[-2]["timestamp"][1] = None
        made[-1]["timestamp"][1] = int(offset_s + length_s)  # whole numbers count as missing, too
        made.insert(0, made.pop(len(made) // 2))
    return made


@pytest.fixture(scope="module")
def longvideobench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lvb") / "datasets"
    rows = longvideobench_rows(8)
    folder = write_longvideobench(root, rows, [])
    (folder / "subtitles").mkdir()
    for number, seconds in enumerate((6.5, 12.0, 16.0, 40.48)):
        rate = (25, 30, 24, 25)[number]
        make_video(folder / "videos" / f"lvb{number}.mp4", frames=round(rate * seconds), rate=rate, size=(48, 64))
        offset = (0.0, 30.25, 0.0, 100.0)[number]
        for row in rows:
            if row["video_id"] == f"lvb{number}":
                row |= {"duration": seconds, "starting_timestamp_for_subtitles": offset}
        content = entries(("timestamp", "clock")[number % 2], seconds, offset, number)
        (folder / "subtitles" / f"lvb{number}_en.json").write_text(json.dumps(content))
    (folder / "lvb_val.json").write_text(json.dumps(rows))
    (folder / "lvb_test_wo_gt.json").write_text(
        json.dumps([{k: v for k, v in r.items() if k != "correct_choice"} for r in rows])
    )
    return root


def hub_row(row: dict[str, Any]) -> dict[str, Any]:
    """The row as lmms-eval knows it."""
    options = [*row["candidates"], *["N/A"] * (5 - len(row["candidates"]))]
    return {**row, **{f"option{i}": option for i, option in enumerate(options)}}


def rows_of(root: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in json.loads((root / "longvideobench" / "lvb_val.json").read_text())}


@pytest.mark.parametrize("num_frames", [16, 5])
def test_lmms_eval_s_interleaved_input(longvideobench: Path, monkeypatch: pytest.MonkeyPatch, num_frames: int) -> None:
    monkeypatch.setenv("HF_HOME", str(longvideobench.parent))
    kwargs = lmms_kwargs("longvideobench", "longvideobench_val_i.yaml")
    if num_frames != 16:
        resolve = lmms_longvideobench._resolve_dataset_dir
        monkeypatch.setattr(
            lmms_longvideobench,
            "_resolve_dataset_dir",
            lambda *args: (resolve(*args)[0], {**resolve(*args)[1], "max_num_frames": num_frames}),
        )
    task = load_task("longvideobench_subtitles")
    sampling = task.sampling_under("lmms-eval")
    assert (sampling.strategy, sampling.num_frames) == ("starts", 16)
    rows = rows_of(longvideobench)
    between = 0
    for video in task.load(longvideobench):
        clip = clip_of(video, strategy="starts", num_frames=num_frames)
        for question in video.questions:
            row = hub_row(rows[question.id])
            images = lmms_longvideobench.load_video(str(video.path), row["duration"], num_frames)
            assert np.array_equal(clip.frames, np.stack([np.asarray(image) for image in images]))
            captions = dict(task.captions(video, clip, "lmms-eval"))
            assert list(captions) == list(range(len(clip.frames) + 1))
            prompt = task.prompt(video, question, "lmms-eval", clip)
            put = "<image>".join(captions.values()) + prompt
            assert put == lmms_longvideobench.longvideobench_doc_to_text(row, kwargs)
            between += sum(len(text) > 1 for text in captions.values())
    assert between > 20


def test_official_interleaved_input(longvideobench: Path) -> None:
    task = load_task("longvideobench_subtitles")
    sampling = task.sampling_under("official")
    assert (sampling.strategy, sampling.num_frames) == ("starts", 256)
    rows = rows_of(longvideobench)
    for video in task.load(longvideobench):
        row = rows[video.questions[0].id]
        for num_frames in (256, 10):
            clip = clip_of(video, strategy="starts", num_frames=num_frames)
            captions = task.captions(video, clip, "official")
            listed: list[str] = []
            for place in range(len(clip.frames) + 1):
                listed += [text.removesuffix("\n") for where, text in captions if where == place]
                listed += ["<image>"] * (place < len(clip.frames))
            content = json.loads((video.path.parent.parent / "subtitles" / row["subtitle_path"]).read_text())
            expected = lmms_longvideobench.insert_subtitles_into_frames(
                (clip.frame_indices / clip.source_fps).tolist(),
                content,
                row["starting_timestamp_for_subtitles"],
                row["duration"],
            )
            assert "\n".join(listed) == expected
            assert [where for where, _ in captions] == sorted(where for where, _ in captions)
            assert len(captions) >= 2 and all(text.endswith("\n") for _, text in captions)
    for name in ("longvideobench", "longvideobench_subtitles"):
        (video, question) = questions(load_task(name).load(longvideobench))["lvb0_0"]
        assert load_task(name).prompt(video, question, "official", None) == (
            "Question: When the man sits, what is object 0?\nA. object 0 0\nB. object 0 1\nC. object 0 2\n"
            "Answer with the option's letter from the given choices directly."
        )


def test_frames_of_videos_longer_than_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", frames=613, rate=25, size=(32, 32))
    images = lmms_longvideobench.load_video(str(path), 613 / 25, 7)
    clip = read_clip(path, FrameSampling("starts", 7, None, None))
    assert clip.frame_indices.tolist() == [87 * i for i in range(7)]
    assert np.array_equal(clip.frames, np.stack([np.asarray(image) for image in images]))


def test_subtitles_that_cannot_be_placed(longvideobench: Path, tmp_path: Path) -> None:
    task = load_task("longvideobench_subtitles")
    video = task.load(longvideobench)[0]
    clip = clip_of(video, strategy="starts", num_frames=4)
    with pytest.raises(VideoError, match="its subtitles are missing"):
        task.captions(Video(video.id, video.path, ()), clip, "official")
    with pytest.raises(VideoError, match="does not hold the times"):
        task.captions(Video(video.id, video.path, (), subtitles=video.subtitles), clip, "official")
    unknown = Clip(clip.frames, np.full(4, np.nan), clip.frame_indices, float("nan"), float("nan"))
    with pytest.raises(VideoError, match="have no times"):
        task.captions(video, unknown, "official")
    write_longvideobench(tmp_path, longvideobench_rows(2))
    with pytest.raises(UserError, match=r"unpack the data set's subtitles\.tar"):
        load_task("longvideobench_subtitles").load(tmp_path)


def test_longvideobench_s_submission(longvideobench: Path, tmp_path: Path) -> None:
    evaluate(["longvideobench"], [Echo()], data_root=longvideobench, output=tmp_path, split="test", protocol="official")
    records = list(latest_records(tmp_path / "longvideobench" / "longvideobench.echo.jsonl").values())
    task = load_task("longvideobench")
    name, content = task.submission(scored_lines(task, records, "official"))
    results = [
        lmms_longvideobench.longvideobench_process_results(hub_row({**row, "correct_choice": -1}), [record["response"]])
        for record in records
        for row in [rows_of(longvideobench)[record["question"]]]
    ]
    path = tmp_path / "theirs"

    class Arguments:
        output_path = str(path)

    lmms_longvideobench.longvideobench_aggregate_results_for_submission(
        [result["submission"] for result in results], Arguments()
    )
    (theirs,) = path.rglob("*.json")
    assert (name, content) == (theirs.name, theirs.read_text())
    assert len(json.loads(content)) == 8
    answered = scored_lines(task, [{**record, "answer": "A"} for record in records], "official")
    assert task.submission(answered) is None, "the validation split has no leaderboard"


def test_a_run_puts_the_lines_between_the_frames(longvideobench: Path, tmp_path: Path) -> None:
    name, adapter = "longvideobench_subtitles", load_adapter("qwen2_vl")
    for protocol, say in (("official", "Question: "), ("lmms-eval", "")):
        sampling = {"num_frames": 4, "shortest_edge": 56, "longest_edge": 84}
        how = {"sampling": sampling, "generation": {"max_new_tokens": 8}, "limit": 2, "protocol": protocol}
        evaluate([name], ["qwen2_vl"], data_root=longvideobench, output=tmp_path, name=protocol, **how)
        records = latest_records(tmp_path / protocol / f"{name}.qwen2_vl.jsonl")
        task = load_task(name)
        videos = task.load(longvideobench)
        changed = 0
        for video in videos[:2]:
            clip = read_clip(video.path, FrameSampling("starts", **sampling))
            plain = adapter.encode(clip)
            clip.captions = tuple(task.captions(video, clip, protocol))
            encoded = adapter.encode(clip)
            for question in video.questions:
                prompt = task.prompt(video, question, protocol, clip)
                assert prompt == records[question.id]["prompt"] and prompt.startswith(f"{say}When")
                (answer,) = adapter.generate(encoded, [prompt], GenerationSettings(8))
                assert records[question.id]["response"] == answer.text
                changed += answer != adapter.generate(plain, [prompt], GenerationSettings(8))[0]
        assert changed
    with pytest.raises(UserError, match="puts text between the frames, which the model 'vamba' cannot take"):
        evaluate([name], ["vamba"], data_root=longvideobench, output=tmp_path, protocol="official")


# -------------------------------------------------------------------------------------------------- the documents

DOCS = Path(__file__).parent.parent / "docs" / "benchmarks"


def shows(page: str, prompt: str) -> bool:
    """Whether a block of the page is this prompt, to the letter."""
    blocks = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", page, re.MULTILINE)
    return textwrap.indent(prompt.rstrip("\n"), "    ") in [block.strip("\n") for block in blocks]


def test_the_pages_show_the_prompts_to_the_letter(tmp_path: Path) -> None:
    page = (DOCS / "videomme.md").read_text()
    subtitles = tmp_path / "v.srt"
    said = [(0, 1900, font("Set the table, please.")), (2000, 2900, font("Where is the lamp?"))]
    subtitles.write_text(srt(said))
    path = make_video(tmp_path / "v.mp4", frames=75, rate=25, size=(32, 32))
    options = ["A. A cup.", "B. A book.", "C. A lamp.", "D. A plate."]
    question = Question("1", "What is on the table?", tuple(o[3:] for o in options), "A", extra={"options": options})
    video = Video("v", path, (question,), subtitles=subtitles)
    clip = clip_of(video, num_frames=3)
    for protocol in load_task("videomme").protocols:
        prompt = load_task("videomme").prompt(video, question, protocol, None)
        assert shows(page, prompt)
        spoken = load_task("videomme_subtitles").prompt(video, question, protocol, replace(clip, header=probe(path)))
        assert shows(page, spoken if protocol == "lmms-eval" else spoken.removesuffix(f"\n{prompt}"))

    page = (DOCS / "longvideobench.md").read_text()
    subtitles = tmp_path / "v.json"
    subtitles.write_text(json.dumps([{"timestamp": [0.5, 2.5], "text": "Set the table, please."}]))
    text = "When the man sits down, what is on the table?"
    question = Question("1", text, ("A cup", "A book", "A lamp"), "A")
    extra = {"starting_timestamp_for_subtitles": 0.0}
    video = Video("v", path, (question,), duration_s=3.0, subtitles=subtitles, extra=extra)
    clip = clip_of(video, strategy="starts", num_frames=3)
    assert clip.frame_indices.tolist() == [0, 25, 50]
    for protocol in load_task("longvideobench").protocols:
        assert shows(page, load_task("longvideobench").prompt(video, question, protocol, None))
    task = load_task("longvideobench_subtitles")
    for protocol in task.protocols:
        between = [""] * (len(clip.frames) + 1)
        for place, said_there in task.captions(video, clip, protocol):
            between[place] += said_there
        assert shows(page, "<image>".join(between) + task.prompt(video, question, protocol, clip))


@pytest.mark.parametrize(
    ("page", "column", "name"),
    [("videomme", "videomme_wo_subtitles", "videomme"), ("longvideobench", "longvideobench_val", "longvideobench")],
)
def test_the_pages_show_the_reported_scores(page: str, column: str, name: str) -> None:
    published = DOCS.parent.parent / "results" / "published" / "medium_short.csv"
    with published.open() as file:
        rows = [row for row in csv.DictReader(file) if row[column]]
    expected = [
        (row["model"], row["size"] or "-", row[column] + " *" * (name in row["measured_by_vamba_authors"].split(";")))
        for row in rows
    ]
    table = (DOCS / f"{page}.md").read_text().partition("| Model | Size | Accuracy, % |")[2].strip().splitlines()[1:]
    assert [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table] == expected


@pytest.mark.parametrize(
    ("response", "letter"),
    [("Best answer: C", "B"), ("Correct: D", "C"), ("Based on the video, C", "B"), ("option c", "")],
)
def test_the_official_extraction_is_as_the_page_says(response: str, letter: str) -> None:
    assert extract_videomme(response) == letter == their_extraction(response)

"""HourEval over generated files of its three sources."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from benchmark_files import (
    longvideobench_rows,
    mlvu_rows,
    videomme_rows,
    write_longvideobench,
    write_mlvu,
    write_videomme,
)
from stored import latest_records
from videos import picture

from vamba_eval import Question, Video, evaluate, load_task
from vamba_eval.contracts import GenerationSettings, ScoredRecord, UserError, VideoInfo
from vamba_eval.reading import headers
from vamba_eval.score.statistics import summarize
from vamba_eval.video import read

LONG_MLVU = {"2_needle": 18, "4_count": 7, "5_order": 15, "6_anomaly_reco": 8}  # of the published annotations
SIZES_MLVU = {
    **{"1_plotQA": 539, "2_needle": 355, "3_ego": 352, "4_count": 206, "5_order": 259},
    **{"6_anomaly_reco": 200, "7_topic_reasoning": 264},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vamba-eval" / "durations.json"


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose headers are read."""
    names: list[str] = []
    honest = headers.headers

    def watched(paths: list[Path]) -> Iterator[tuple[Path, VideoInfo | str]]:
        names.extend(path.name for path in paths)
        return honest(paths)

    monkeypatch.setattr(headers, "headers", watched)
    return names


def make_sparse_video(path: Path, seconds: int) -> Path:
    """A file of ``seconds`` with hardly a frame in it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for second in (0, seconds // 2, seconds - 1):
            frame = av.VideoFrame.from_ndarray(picture(second, 48, 64), format="rgb24")
            frame.pts, frame.time_base = second, Fraction(1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert read.probe(path).duration_s == seconds
    return path


def questions(videos: list[Video]) -> dict[str, tuple[Video, Question]]:
    return {question.id: (video, question) for video in videos for question in video.questions}


def write_sources(root: Path, *, videomme: int = 6, mlvu_long: tuple[str, ...] = (), lvb: int = 8) -> None:
    """Video-MME of ``videomme`` videos, MLVU with one long video in the types ``mlvu_long``, LongVideoBench with
    every fourth video of an hour."""
    write_videomme(root, videomme_rows(videomme))
    folder = write_mlvu(root, 4)
    for kind in mlvu_long:
        rows = mlvu_rows(kind, 4)
        for row in rows[:2]:
            row["duration"] = 1800
        (folder / "json" / f"{kind}.json").write_text(json.dumps(rows))
    write_longvideobench(root, with_durations(longvideobench_rows(lvb)))


def with_durations(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "duration": {15: 12.0, 60: 59.5, 600: 599.9, 3600: 1800.0}[row["duration_group"]]} for row in rows]


def test_full_size(tmp_path: Path) -> None:
    """The sources in their real sizes; of Video-MME's class "long", 5 videos last a second less than half an hour."""
    rows = videomme_rows(900)
    data = write_videomme(tmp_path, rows) / "data"
    short, almost, hour = (make_sparse_video(tmp_path / f"{n}.mp4", n) for n in (100, 1799, 1800))
    by_video = {row["videoID"]: row["duration"] for row in rows}
    almost_long = [name for name, kind in by_video.items() if kind == "long"][::60]
    for name, kind in by_video.items():
        shutil.copy(almost if name in almost_long else hour if kind == "long" else short, data / f"{name}.mp4")
    shutil.copy(hour, data / "vid_1.mp4")  # of the class "medium"
    folder = write_mlvu(tmp_path, SIZES_MLVU)
    for kind, count in LONG_MLVU.items():
        content = mlvu_rows(kind, SIZES_MLVU[kind])
        for n, row in enumerate(content):
            row["duration"] = 1800.0 if n < count else 1799.9
        (folder / "json" / f"{kind}.json").write_text(json.dumps(content))
    content = longvideobench_rows(1337)
    for n, row in enumerate(content):
        row["duration"] = 3599.0 if n >= 1337 - 108 else 1799.0
    write_longvideobench(tmp_path, content)
    task = load_task("houreval")
    videos = task.load(tmp_path)
    known = questions(videos)
    assert not task.defects
    assert len({video.id for video in videos}) == len(videos) and len(known) == sum(len(v.questions) for v in videos)
    counts = Counter(question.groups["source"] for _, question in known.values())
    assert counts == {"videomme": 3 * (300 - len(almost_long) + 1), "mlvu": 48, "longvideobench": 108}
    assert len(almost_long) == 5
    kinds = Counter(q.groups["question_type"] for _, q in known.values() if q.groups["source"] == "mlvu")
    assert kinds == {"findNeedle": 18, "count": 7, "order": 15, "anomaly_reco": 8}
    for source in counts:
        published = questions(load_task(source).load(tmp_path))
        for id, (video, question) in known.items():
            if question.groups["source"] == source:
                original_video, original = published[id.removeprefix(f"{source}/")]
                assert (video.id, video.path) == (f"{source}/{original_video.id}", original_video.path)
                assert (question.text, question.options, question.answer) == (
                    *(original.text, original.options, original.answer),
                )
                assert question.groups == {"source": source, **original.groups}


def test_defects_and_films_of_two_folders_are_the_sources(tmp_path: Path) -> None:
    write_sources(tmp_path, videomme=1)
    for kind in ("2_needle", "4_count"):
        rows = mlvu_rows(kind, 2)
        for row in rows:
            row |= {"video": "film.mp4", "duration": 2000.0}
        rows[1]["candidates"][0] = rows[1]["answer"]
        (tmp_path / "mlvu" / "json" / f"{kind}.json").write_text(json.dumps(rows))
    task = load_task("houreval")
    films = {video.id: video.cluster for video in task.load(tmp_path) if video.id.endswith("/film.mp4")}
    assert films == {"mlvu/2_needle/film.mp4": None, "mlvu/4_count/film.mp4": "mlvu/2_needle/film.mp4"}
    own = [defect.where for defect in task.defects if "is given twice" in defect.problem]
    assert own == ["mlvu: 2_needle.json row 1", "mlvu: 4_count.json row 1"]


def test_prompts_and_scores_are_the_sources_own(tmp_path: Path) -> None:
    write_sources(tmp_path, mlvu_long=("1_plotQA", "4_count"), lvb=40)
    task = load_task("houreval")
    known = questions(task.load(tmp_path))
    sources = {name: load_task(name) for name in ("videomme", "mlvu", "longvideobench")}
    published = {name: questions(source.load(tmp_path)) for name, source in sources.items()}
    seen: Counter[tuple[str, bool | None, bool]] = Counter()
    for id, (video, question) in known.items():
        name, _, own_id = id.partition("/")
        source, own = sources[name], published[name][own_id]
        for protocol in task.protocols:
            prompt = task.prompt(video, question, protocol, None)
            assert prompt == source.prompt(*own, protocol, None)
            # As a rescore knows a question: without text and annotation.
            stored = Question(id, "", question.options, question.answer, dict(question.groups))
            for response in ("A", "B", "The answer is C", "Best option: (D)", "I cannot say", "?", "12"):
                score = task.score(stored, response, protocol)
                assert score == source.score(own[1], response, protocol)
                seen[name, score.correct, score.drawn] += 1
    assert {(name, correct, False) for name in sources for correct in (True, False)} <= set(seen)
    assert seen["longvideobench", True, True] and seen["longvideobench", False, True], "draws are the source's too"
    assert task.generation("vamba") == GenerationSettings(max_new_tokens=512)
    assert task.generation("lmms-eval") == sources["longvideobench"].generation("lmms-eval")
    assert task.sampling == sources["videomme"].sampling == sources["mlvu"].sampling


def test_summary(tmp_path: Path) -> None:
    write_sources(tmp_path, videomme=30, mlvu_long=("2_needle", "5_order"), lvb=80)
    task = load_task("houreval")
    records = []
    for video, question in questions(task.load(tmp_path)).values():
        right = {"videomme": int(question.id[-1]) < 3, "mlvu": True, "longvideobench": False}[question.groups["source"]]
        score = task.score(question, question.answer if right else "?", "vamba")
        records.append(ScoredRecord(question.id, video.id, question.groups, score))
    summary = summarize(task.measures, records)
    assert list(summary.metrics) == ["accuracy"]
    assert summary.headline[1].value == pytest.approx((20 + 4) / (30 + 4 + 20))
    by_source = {name: (metric.value, metric.num_questions) for name, metric in summary.breakdowns["source"].items()}
    assert by_source == {"videomme": (pytest.approx(2 / 3), 30), "mlvu": (1.0, 4), "longvideobench": (0.0, 20)}
    assert {"question_type", "question_category", "task_type", "domain"} <= set(summary.breakdowns)


def test_durations_are_kept_and_known_by_path_size_and_time(tmp_path: Path, cache: Path, probed: list[str]) -> None:
    write_sources(tmp_path)
    data = tmp_path / "videomme" / "data"
    for n, seconds in enumerate((100, 100, 2000, 100, 100, 1700)):
        make_sparse_video(data / f"vid_{n}.mp4", seconds)

    def chosen() -> set[str]:
        probed.clear()
        return {video.id for video in load_task("houreval").load(tmp_path) if video.id.startswith("videomme")}

    names = [f"vid_{n}.mp4" for n in range(6)]
    assert chosen() == {"videomme/vid_2"} and probed == names
    assert chosen() == {"videomme/vid_2"} and probed == []
    make_sparse_video(data / "vid_4.mp4", 5000)
    before = (data / "vid_5.mp4").stat()
    os.utime(data / "vid_5.mp4", ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    assert chosen() == {"videomme/vid_2", "videomme/vid_4"} and probed == ["vid_4.mp4", "vid_5.mp4"]
    (tmp_path / "videomme").rename(tmp_path / "elsewhere")
    shutil.move(tmp_path / "elsewhere", tmp_path / "other" / "videomme")
    shutil.copytree(tmp_path / "mlvu", tmp_path / "other" / "mlvu")
    shutil.copytree(tmp_path / "longvideobench", tmp_path / "other" / "longvideobench")
    probed.clear()
    load_task("houreval").load(tmp_path / "other")
    assert probed == names
    for content in ("{", "[]", '{"x": 1}', json.dumps({str((tmp_path / "other").resolve()): [1, 2, "three"]})):
        cache.write_text(content)
        probed.clear()
        load_task("houreval").load(tmp_path / "other")
        assert probed == names, content
        assert len([entry for entry in json.loads(cache.read_text()).values() if isinstance(entry, list)]) >= 6
    assert [path.name for path in cache.parent.iterdir()] == ["durations.json"], "nothing half written is left"


def test_without_a_place_to_keep_durations_they_are_read_again(
    tmp_path: Path, cache: Path, probed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_sources(tmp_path)
    make_sparse_video(tmp_path / "videomme" / "data" / "vid_0.mp4", 1900)
    probed.clear()
    cache.parent.parent.write_text("a file where the folder should be")
    for _ in range(2):
        assert "videomme/001-1" in questions(load_task("houreval").load(tmp_path))
        assert probed.pop() == "vid_0.mp4" and not probed
    assert "cannot be kept" in caplog.text


def test_missing_files_count_by_their_class(tmp_path: Path) -> None:
    write_sources(tmp_path)
    data = tmp_path / "videomme" / "data"
    make_sparse_video(data / "vid_0.mp4", 100)
    (data / "vid_1.mp4").write_bytes(b"no video at all")
    (data / "vid_5.mp4").write_bytes(b"no video at all")
    task = load_task("houreval")
    known = questions(task.load(tmp_path))
    chosen = {video.id for video, question in known.values() if question.groups["source"] == "videomme"}
    assert chosen == {"videomme/vid_2", "videomme/vid_5"}, "those of the class 'long'"
    texts = [str(defect) for defect in task.defects]
    assert [text.partition(": unknown")[0] for text in texts] == [f"videomme: video vid_{n}" for n in range(1, 6)]
    assert "no such file" in texts[1] and texts[1].endswith("of the class 'long' and kept")
    assert "no such file" in texts[2] and texts[2].endswith("its questions are left out")
    assert "is not a video but plain text" in texts[0] and "is not a video but plain text" in texts[4]


def test_where_mlvu_states_no_duration_its_files_do(tmp_path: Path) -> None:
    write_sources(tmp_path)
    rows = mlvu_rows("3_ego", 6)
    for row in rows:
        row["duration"] = None
    rows[3]["candidates"] = []  # broken, and about the long video
    folder = tmp_path / "mlvu"
    (folder / "json" / "3_ego.json").write_text(json.dumps(rows))
    make_sparse_video(folder / "video" / "3_ego" / "3_ego_0.mp4", 900)
    make_sparse_video(folder / "video" / "3_ego" / "3_ego_1.mp4", 1800)
    task = load_task("houreval")
    known = questions(task.load(tmp_path))
    chosen = [id for id in known if id.startswith("mlvu")]
    assert chosen == ["mlvu/3_ego-2", "mlvu/3_ego.json row 3"]
    assert known[chosen[1]][1].problem is not None, "nothing vanishes"
    mentions = [str(defect) for defect in task.defects if str(defect).startswith("mlvu")]
    assert (
        len(mentions) == 2 and mentions[0].startswith("mlvu: 3_ego.json row 3") and "video 3_ego/3_ego_2" in mentions[1]
    )


def test_a_missing_source_is_named(tmp_path: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    with pytest.raises(UserError, match="videomme needs its data: give --data-root"):
        load_task("houreval").load(None)
    write_videomme(tmp_path, videomme_rows(3))
    with pytest.raises(UserError, match=r"mlvu: no json/1_plotQA\.json"):
        load_task("houreval").load(tmp_path)
    with pytest.raises(UserError, match="no split 'dev'"):
        load_task("houreval").load(tmp_path, "dev")
    status, out, _ = cli("leaderboard", "--published")
    assert status == 0 and "HourEval" in out, "the paper's column"


def test_a_run_and_its_rescore(tmp_path: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    write_sources(tmp_path, mlvu_long=("1_plotQA",))
    board = evaluate(["houreval"], ["constant"], data_root=tmp_path, output=tmp_path / "out", progress=False)
    records = latest_records(tmp_path / "out" / "houreval" / "houreval.constant.jsonl")
    assert {record["groups"]["source"] for record in records.values()} == {"videomme", "mlvu", "longvideobench"}
    assert {id.partition("/")[0] for id in records} == {"videomme", "mlvu", "longvideobench"}
    right = sum(record["answer"] == "A" for record in records.values())
    assert board.table.iloc[0]["score"] == pytest.approx(right / len(records))
    status, out, err = cli("rescore", tmp_path / "out", "--protocol", "lmms-eval")
    assert status == 0 and "HourEval" in out, err

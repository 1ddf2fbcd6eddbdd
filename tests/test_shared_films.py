"""A film in two folders is one video to statistics, whoever knows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from benchmark_files import MLVU_TYPES, mlvu_rows, write_mlvu

from vamba_eval import Video, evaluate, load_task
from vamba_eval.contracts import Answer, ModelAdapter, Summary
from vamba_eval.exchange.export import export
from vamba_eval.exchange.lmms_logs import import_logs
from vamba_eval.score.scored import ScoredRun, scored_runs
from vamba_eval.store.records import Record
from vamba_eval.tables.compare import compare
from vamba_eval.tables.ranks import ranks_of

KINDS = ("1_plotQA", "7_topic_reasoning")  # those that share films here


class Sayer(ModelAdapter):
    """Right about some films and wrong about others, so that questions about one vary together."""

    name = "sayer"
    reads_video = False

    def __init__(self, every: int = 3) -> None:
        self.every = every

    def describe(self) -> dict[str, Any]:
        return {"every": self.every}

    def encode(self, clip: object) -> None: ...

    def generate(self, encoded: object, prompts: Sequence[str], settings: object) -> list[Answer]:
        numbers = [int(prompt.question_id.rpartition("-")[2]) for prompt in prompts]  # type: ignore[attr-defined]
        return [Answer("ABCD"[(n + (n // 2 % self.every == 0)) % 4]) for n in numbers]


def write(root: Path, count: int = 12, longer_s: float = 0.0) -> dict[str, list[dict[str, Any]]]:
    """MLVU in which each film of two kinds is in both folders; in the second it lasts so much longer."""
    folder = write_mlvu(root, count)
    rows = {kind: mlvu_rows(kind, count) for kind in MLVU_TYPES}
    for kind in KINDS:
        for i, row in enumerate(rows[kind]):
            row |= {"video": f"film_{i // 2}.mp4", "duration": 300.5 + i // 2 + longer_s * (kind == KINDS[1])}
        (folder / "json" / f"{kind}.json").write_text(json.dumps(rows[kind]))
    return rows


def write_parquet(root: Path, rows: dict[str, list[dict[str, Any]]]) -> None:
    """The same questions in lmms-eval's shape, which has all videos in one folder."""
    listed = []
    for kind, own in rows.items():
        for i, row in enumerate(own):
            options = "\n".join(f"({letter}) {text}" for letter, text in zip("ABCD", row["candidates"], strict=True))
            answer = "ABCD"[row["candidates"].index(row["answer"])]
            about = {"task_type": row["question_type"], "question_id": f"{kind}-{i}", "answer": answer}
            listed.append({"video_name": row["video"], "question": f"{row['question']}\n{options}", **about})
    (root / "mlvu").mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(listed), root / "mlvu" / "test-00000-of-00001.parquet")


def run(root: Path, name: str, every: int = 3) -> ScoredRun:
    common: dict[str, Any] = {"data_root": root, "output": root / "out", "name": name, "progress": False}
    evaluate(["mlvu"], [Sayer(every)], **common)
    (found,) = scored_runs([root / "out" / name])
    return found


def clusters(videos: Sequence[Video]) -> dict[str, str]:
    return {video.id: video.cluster for video in videos if video.cluster is not None}


def test_files_are_read_where_they_are_and_questions_keep_their_ids(tmp_path: Path) -> None:
    write(tmp_path)
    videos = load_task("mlvu").load(tmp_path)
    assert clusters(videos) == {f"{KINDS[1]}/film_{n}.mp4": f"{KINDS[0]}/film_{n}.mp4" for n in range(6)}
    second = next(video for video in videos if video.id == f"{KINDS[1]}/film_0.mp4")
    assert second.path == tmp_path / "mlvu" / "video" / KINDS[1] / "film_0.mp4"
    assert [question.id for question in second.questions] == [f"{KINDS[1]}-{n}" for n in range(2)]


@pytest.mark.parametrize(("longer_s", "shared"), [(0.0, True), (0.6, True), (1.5, False)])
def test_durations_tell_films_of_one_name_apart(longer_s: float, shared: bool, tmp_path: Path) -> None:
    rows = write(tmp_path, longer_s=longer_s)
    assert bool(clusters(load_task("mlvu").load(tmp_path))) is shared
    for row in rows[KINDS[1]]:
        del row["duration"]
    (tmp_path / "mlvu" / "json" / f"{KINDS[1]}.json").write_text(json.dumps(rows[KINDS[1]]))
    assert not clusters(load_task("mlvu").load(tmp_path)), "a length that is not stated proves nothing"


def test_intervals_are_those_of_questions_about_one_video(tmp_path: Path) -> None:
    rows = write(tmp_path / "folders")
    write_parquet(tmp_path / "one", rows)
    write(tmp_path / "others", longer_s=100)
    folders, one, others = (run(tmp_path / place, "run").summary for place in ("folders", "one", "others"))

    def shown(summary: Summary) -> dict[str, Any]:
        return {name: (m.value, m.low, m.high, m.num_videos) for name, m in summary.metrics.items()}

    assert shown(folders) == shown(one) and folders.headline[1].num_videos == 6 * 6
    wide, narrow = folders.metrics["accuracy"], others.metrics["accuracy"]
    assert narrow.value == wide.value and narrow.num_videos == 6 * 7
    assert narrow.low is not None and wide.low is not None and narrow.low != wide.low


def without_clusters(folder: Path) -> int:
    """Make the records of a run those of a version that knew no clusters; how many lines changed."""
    (file,) = folder.glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    changed = sum("cluster" in line for line in lines)
    file.write_text("".join(json.dumps({k: v for k, v in e.items() if k != "cluster"}) + "\n" for e in lines))
    return changed


def test_older_records_are_read_finished_and_compared(tmp_path: Path) -> None:
    write(tmp_path)
    new, knowing = run(tmp_path, "new"), run(tmp_path, "old", every=2)
    compared = compare(str(new.folder), str(knowing.folder))[0].differences
    assert without_clusters(knowing.folder) == 12, "only a film's second file says so"
    old = run(tmp_path, "old", every=2)
    assert len(old.records) == 84 and old.summary.headline[1].num_videos == 42, "nothing is asked again"
    # What one of the two knows counts for both.
    assert compare(str(new.folder), str(old.folder))[0].differences == compared and compared[0].num_videos == 36
    turned = compare(str(old.folder), str(new.folder))[0].differences[0]
    assert turned.num_videos == 36 and turned.low == -compared[0].high  # type: ignore[operator]
    assert ranks_of([new, old]) == ranks_of([new, knowing])
    without_clusters(new.folder)
    apart = compare(str(new.folder), str(old.folder))[0].differences
    assert apart[0].num_videos == 42 and apart[0].low != compared[0].low


def test_exports_come_back_with_it(tmp_path: Path) -> None:
    write(tmp_path)
    own = run(tmp_path, "run")
    export([own.folder], tmp_path / "logs", "lmms-eval")
    for data_root, name in ((None, "told"), (tmp_path, "known")):
        import_logs([tmp_path / "logs"], tmp_path / "back", name=name, data_root=data_root)
        (back,) = scored_runs([tmp_path / "back" / name])
        assert {r.question: (r.video, r.cluster) for r in back.records} == {
            r.question: (r.video, r.cluster) for r in own.records
        }
        assert all(set(record.groups) == {"question_type"} for record in back.records)
        assert back.summary.metrics == own.summary.metrics


def test_a_record_says_it_where_it_differs() -> None:
    plain = Record("q", "b/film", [], None, {}, 0, response="A")
    assert "cluster" not in plain.to_json() and plain.counted_as == "b/film"
    second = replace(plain, cluster="a/film")
    again = Record.from_json(json.loads(json.dumps(second.to_json())))
    assert again == second and second.counted_as == "a/film"


def test_questions_in_free_text_share_films_too(tmp_path: Path) -> None:
    folder = tmp_path / "mlvu" / "json"
    folder.mkdir(parents=True)
    for file in ("8_sub_scene", "9_summary"):
        row = {"question": "What?", "answer": "That.", "scoring_points": ["that"], "duration": 400.0}
        rows = [{**row, "video": "film.mp4"}, {**row, "video": f"{file}.mp4"}]
        (folder / f"{file}.json").write_text(json.dumps(rows))
    videos = load_task("mlvu_generation").load(tmp_path)
    assert len(videos) == 4 and clusters(videos) == {"summary/film.mp4": "sub_scene/film.mp4"}

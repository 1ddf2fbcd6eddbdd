"""Annotation files in the published formats, with invented content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

MLVU_TYPES = {
    "1_plotQA": "plotQA",
    "2_needle": "findNeedle",
    "3_ego": "ego",
    "4_count": "count",
    "5_order": "order",
    "6_anomaly_reco": "anomaly_reco",
    "7_topic_reasoning": "topic_reasoning",
}


def videomme_rows(videos: int, questions: int = 3) -> list[dict[str, Any]]:
    rows = []
    for v in range(videos):
        for q in range(questions):
            rows.append(
                {
                    "video_id": f"{v + 1:03}",
                    "duration": ("short", "medium", "long")[v % 3],
                    "domain": ("Knowledge", "Life Record")[v % 2],
                    "sub_category": ("Astronomy", "Travel", "Food")[v % 3],
                    "url": f"https://example.org/{v}",
                    "videoID": f"vid_{v}",
                    "question_id": f"{v + 1:03}-{q + 1}",
                    "task_type": ("Counting Problem", "OCR Problems")[(v + q) % 2],
                    "question": f"What is item {q} of scene {v}?",
                    "options": [f"{letter}. thing {v} {q} {letter.lower()}." for letter in "ABCD"],
                    "answer": "ABCD"[(v + q) % 4],
                }
            )
    return rows


def write_videomme(root: Path, rows: list[dict[str, Any]]) -> Path:
    folder = root / "videomme"
    (folder / "videomme").mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "videomme" / "test-00000-of-00001.parquet")
    return folder


def mlvu_rows(kind: str, count: int) -> list[dict[str, Any]]:
    return [
        {
            "video": f"{kind}_{i // 2}.mp4",
            "duration": 200.5 + i,
            "question": f"{kind} question {i}?",
            "candidates": [f"{kind} {i} {word}" for word in ("one", "two", "three", "four")],
            "answer": f"{kind} {i} " + ("one", "two", "three", "four")[i % 4],
            "question_type": MLVU_TYPES[kind],
        }
        for i in range(count)
    ]


def write_mlvu(root: Path, counts: dict[str, int] | int = 4) -> Path:
    folder = root / "mlvu"
    (folder / "json").mkdir(parents=True, exist_ok=True)
    for kind in MLVU_TYPES:
        (folder / "video" / kind).mkdir(parents=True, exist_ok=True)
        rows = mlvu_rows(kind, counts if isinstance(counts, int) else counts[kind])
        (folder / "json" / f"{kind}.json").write_text(json.dumps(rows))
    return folder


def longvideobench_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "video_id": f"lvb{i // 2}",
            "video_path": f"lvb{i // 2}.mp4",
            "subtitle_path": f"lvb{i // 2}_en.json",
            "question": f"When the man sits, what is object {i}?",
            "question_wo_referring_query": f"what is object {i}?",
            "candidates": [f"object {i} {n}" for n in range(3 + i % 3)],
            "correct_choice": i % 3,
            "position": [10 * i, 10 * i + 5],
            "topic_category": ("NP-News-Programs", "KH-Knowledge-History")[i % 2],
            "question_category": ("S2E", "TOS", "E3E")[i % 3],
            "level": ("L1-Perception", "L2-Relation")[i % 2],
            "id": f"lvb{i // 2}_{i % 2}",
            "duration_group": (15, 60, 600, 3600)[i // 2 % 4],
            "starting_timestamp_for_subtitles": 0.0,
            "duration": 12.5,
            "view_count": 1000 + i,
        }
        for i in range(count)
    ]


def write_longvideobench(root: Path, rows: list[dict[str, Any]], test_rows: list[dict[str, Any]] | None = None) -> Path:
    folder = root / "longvideobench"
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    (folder / "lvb_val.json").write_text(json.dumps(rows))
    if test_rows is not None:
        (folder / "lvb_test_wo_gt.json").write_text(json.dumps(test_rows))
    return folder

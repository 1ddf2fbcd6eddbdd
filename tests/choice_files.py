"""Annotation files of the newer benchmarks with options or short answers, as published, with invented content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

Rows = list[dict[str, Any]]

# Of different lengths, as published; some hold what rules for letters trip over.
OPTIONS = [
    ["walk up", "sit, then stand", "no", "a (red) door."],
    ["red", "dark red", "Red.", "the answer is B", "E = mc"],
    ["I do not know", "(A) man", "D. none", "一只猫", "12", "1,200", "3.5 times", "'once'", "jump", "never"],
    ["yes", "no"],
]


def write_parquet(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


# ---------------------------------------------------------------------------------------------- Video-MMMU

VIDEOMMMU_TRACKS = ("Adaptation", "Comprehension", "Perception")
VIDEOMMMU_OPEN = ("12.97", "7243000", "['24/7', '3.429']", "x", "left ventricle")


def videommmu_rows(track: str, count: int) -> Rows:
    """The Hub's columns; every fifth exercise of the adaptation track is answered in free text."""
    subjects = ("Art", "Art_Theory", "Architecture_and_Engineering", "Pharmacy", "Biology", "History", "Finance")
    rows: Rows = []
    for i in range(count):
        options = OPTIONS[i % len(OPTIONS)]
        row = {
            "id": f"{('dev', 'validation', 'test')[i % 3]}_{subjects[i % len(subjects)]}_{i}",
            "question": f"{track} <image 1> {i}?",
            "options": options,
            "answer": "ABCDEFGHIJ"[i * 3 % len(options)],
            "link_selected": f"https://example.org/{i}",
            "question_type": "multiple-choice",
        }
        if track == "Adaptation" and i % 5 == 4:
            row |= {"options": [], "answer": VIDEOMMMU_OPEN[i // 5 % 5], "question_type": "open"}
        rows.append(row)
    return rows


def write_videommmu(root: Path, rows: dict[str, Rows], *, as_json: bool = False) -> Path:
    folder = root / "videommmu"
    for track, own in rows.items():
        if as_json:
            numbered = {track: {str(i): row for i, row in enumerate(own)}}
            write_json(folder / "data" / f"{track.lower()}_video.json", numbered)
        else:
            write_parquet(folder / track / "test-00000-of-00001.parquet", own)
    return folder

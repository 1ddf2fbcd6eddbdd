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


# ---------------------------------------------------------------------------------------------------- MMVU

MMVU_SUBJECTS = ("Art", "Chemistry", "Computer_Science", "Pharmacy", "Law", "Mechanics")
FIVE = [
    ["the Dolly zoom", "pan", "tilt shot", "a whip pan", "O(n²)"],
    ["A", "it is B", "I", "none of these", "E. coli"],
    ["12 kg", "1,200", "3.5 times", "e", "C = 2"],
]


def mmvu_rows(count: int) -> Rows:
    """The authors' fields; every third question is answered in free text."""
    rows: Rows = []
    for i in range(count):
        subject, free = MMVU_SUBJECTS[i // 2 % len(MMVU_SUBJECTS)], i % 3 == 2
        choices = ["", "", "", "", ""] if free else FIVE[i // 3 % 3]
        rows.append(
            {
                "id": f"validation_{i}",
                "video": f"https://example.org/MMVU/resolve/main/videos/{subject}/{i // 2}.mp4",
                "youtube_url": f"https://example.org/{i}",
                "question_type": "open-ended" if free else "multiple-choice",
                "metadata": {"subject": subject, "textbook": "A Book", "rationale": "because", "knowledge": ["link"]},
                "question": f"Which technique is shown in {i}?",
                "choices": dict(zip("ABCDE", choices, strict=True)),
                "answer": "Dolly Zoom" if free else "ABCDE"[i % 5],
            }
        )
    return rows


def write_mmvu(root: Path, rows: Rows, *, as_parquet: bool = False) -> Path:
    if as_parquet:
        known = ("id", "question_type", "question", "choices", "answer")
        table = [
            {**{key: row[key] for key in known}, "video_path": "videos/" + row["video"].partition("/videos/")[2]}
            for row in rows
        ]
        write_parquet(root / "mmvu" / "data" / "validation-00000-of-00001.parquet", table)
    else:
        write_json(root / "mmvu" / "validation.json", rows)
    return root / "mmvu"


# ------------------------------------------------------------------------------------------------ EgoSchema


def egoschema_rows(count: int, *, withheld: bool = False) -> Rows:
    """The Hub's columns."""
    return [
        {
            "question_idx": str(i),
            "question": f"What is C doing in {i}?",
            "video_idx": f"0074f737-{i:04}",
            "option": [f"{letter}. {option}" for letter, option in zip("ABCDE", FIVE[i % 3], strict=True)],
            "answer": None if withheld else str(i % 5),
        }
        for i in range(count)
    ]


def write_egoschema(root: Path, rows: Rows, full: Rows | None = None) -> Path:
    write_parquet(root / "egoschema" / "Subset" / "test-00000-of-00001.parquet", rows)
    if full is not None:
        write_parquet(root / "egoschema" / "GENERATION" / "test-00000-of-00001.parquet", full)
    return root / "egoschema"


def write_egoschema_of_authors(root: Path, rows: Rows, num_answers: int) -> Path:
    """The authors' files: questions without answers, and the answers to some."""
    own = [
        {
            "q_uid": row["video_idx"],
            "google_drive_id": "x",
            "question": row["question"],
            **{f"option {n}": option[3:] for n, option in enumerate(row["option"])},
        }
        for row in rows
    ]
    write_json(root / "egoschema" / "questions.json", own)
    answers = {row["video_idx"]: i % 5 for i, row in enumerate(rows) if i < num_answers}
    write_json(root / "egoschema" / "subset_answers.json", answers)
    return root / "egoschema"


# ------------------------------------------------------------------------------------------ Perception Test


def perceptiontest_rows(count: int) -> Rows:
    areas = ("Memory", "Abstraction", "Physics", "Semantics")
    return [
        {
            "video_name": f"video_{i // 3}",
            "question": f"How many objects are there in {i}?",
            "question_id": str(i % 3),
            "options": [*FIVE[i % 3][1:3], "a dog"],
            "answer_id": str(i % 3),
            "area": areas[i % 4],
            "reasoning": ("Descriptive", "Predictive")[i % 2],
            "tag": ["counting"] if i % 2 else ["counting", "motion"],
        }
        for i in range(count)
    ]


def write_perceptiontest(root: Path, rows: Rows, *, as_json: bool = False) -> Path:
    folder = root / "perceptiontest"
    if not as_json:
        write_parquet(folder / "mc_question_val" / "validation-00000-of-00001.parquet", rows)
        return folder
    videos: dict[str, Any] = {}
    for row in rows:
        entry = videos.setdefault(row["video_name"], {"metadata": {"split": "valid"}, "mc_question": []})
        own = {key: row[key] for key in ("question", "options", "area", "reasoning", "tag")}
        entry["mc_question"].append({"id": int(row["question_id"]), **own, "answer_id": int(row["answer_id"])})
    write_json(folder / "mc_question_valid.json", videos)
    return folder


# --------------------------------------------------------------------------------------------------- TOMATO

TOMATO_FILES = ("count", "direction", "rotation", "shape&trend", "velocity&frequency", "visual_cues")
TOMATO_OPTIONS = [
    ["2", "1", "3", "0"],
    ["Not moving at all.", "Left.", "Right.", "First to the right then to the left.", "Down.", "Up."],
    ["No rotation.", "clockwise", "counter-clockwise then clockwise", "it's a dog", "AB", "C", "7"],
]


def tomato_rows(kind: str, count: int) -> Rows:
    """The authors' fields."""
    return [
        {
            "question": f"What about {kind} in {i}?",
            "options": TOMATO_OPTIONS[i % 3],
            "answer": i % 4,
            "key": f"02{i:02}-0{len(kind) % 10}",
            "video_source_url": "",
            "motion_type": kind.replace("_", " "),
            "variation": {"counterfactual": 0, "composite": i % 2, "zoom": 1 if i % 3 else 0, "first_person": 0},
            "demonstration_type": ("human", "object", "simulated")[i % 3],
            "note": "",
        }
        for i in range(count)
    ]


def tomato_table(rows: Rows) -> Rows:
    """lmms-eval's columns."""
    return [
        {
            "id": f"q{i}",
            "question": row["question"],
            "options": row["options"],
            "answer": row["answer"],
            "video_path": f"videos/{row['demonstration_type']}/{row['key']}.mp4",
            "reason_type": row["motion_type"],
            "demonstration_type": row["demonstration_type"],
        }
        for i, row in enumerate(rows)
    ]


def write_tomato(root: Path, rows: dict[str, Rows], *, as_parquet: bool = False) -> Path:
    folder = root / "tomato"
    for kind, own in rows.items():
        if as_parquet:
            write_parquet(folder / "data" / f"{kind.replace('&', '_')}-00000-of-00001-b1a5.parquet", own)
        else:
            write_json(folder / "data" / f"{kind}.json", {str(i): row for i, row in enumerate(own)})
    return folder


# ---------------------------------------------------------------------------------------------- MotionBench


def motionbench_rows(count: int) -> Rows:
    """Lines of the authors' file; every fourth question is of the test split, whose answers are withheld."""
    kinds = ("Action Order", "Motion-related Objects", "Motion Recognition", "Repetition Count", "Camera Motion")
    rows: Rows = []
    for i in range(count):
        options = FIVE[i % 3][: 3 + i % 3]
        listed = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCDE", options, strict=False))
        asked = [
            {
                "uid": f"uid-{i}-{n}",
                "question": f"How does the  man move in {i}, {n}?\n{listed}",
                "answer": "NA" if (i + n) % 4 == 3 else "ABC"[(i + n) % 3],
            }
            for n in range(2)
        ]
        rows.append(
            {
                "key": f"key{i}",
                "video_path": f"video{i}.mp4",
                "video_type": ("self-collected", "web")[i % 2],
                "question_type": kinds[i % 5],
                "video_info": {"fps": 30.0, "duration": 3.5, "resolution": {"width": 100, "height": 100}},
                "qa": asked,
            }
        )
    return rows


def write_motionbench(root: Path, rows: Rows) -> Path:
    path = root / "motionbench" / "MotionBench" / "video_info.meta.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path.parents[1]


# ---------------------------------------------------------------------------------------------- TempCompass

TEMPCOMPASS_FORMATS = ("multi-choice", "yes_no", "caption_matching", "captioning")


def tempcompass_rows(form: str, count: int) -> Rows:
    """The Hub's columns."""
    dimensions = ("action", "direction", "speed", "order", "attribute_change")
    rows: Rows = []
    for i in range(count):
        options = [f"{letter}. {option}" for letter, option in zip("ABCD", OPTIONS[i % 4][:4], strict=False)]
        row = {"video_id": f"10344{i // 2}", "dim": dimensions[i % 5]}
        if form == "multi-choice":
            row |= {"question": "\n".join([f"What is he doing, {i}?", *options]), "answer": options[i % len(options)]}
        elif form == "yes_no":
            row |= {"question": f"Is he dunking, {i}?", "answer": ("yes", "no")[i % 2]}
        elif form == "caption_matching":
            names = (("Option 1", "Option 2"), ("Sentence A", "Sentence B"), ("Caption A", "Caption B"))[i % 3]
            captions = [f"{name}: A man is {verb}." for name, verb in zip(names, ("dunking", "passing"), strict=True)]
            row |= {"question": "\n".join([f"Which fits better, {i}?", *captions]), "answer": captions[i % 2]}
        else:
            asked = {"question": f"Pick what fits, {i}.\nInformation A: x\nGenerated Caption:", "answer": "B. dunking"}
            row |= asked | {"mc_question": "What is he doing?\nA. passing\nB. dunking", "mc_answer": "B. dunking"}
        rows.append(row)
    return rows


def write_tempcompass(root: Path, rows: dict[str, Rows], *, as_json: bool = False) -> Path:
    folder = root / "tempcompass"
    for form, own in rows.items():
        if not as_json:
            write_parquet(folder / form / "test-00000-of-00001.parquet", own)
            continue
        videos: dict[str, dict[str, Rows]] = {}
        for row in own:
            asked = {key: row[key] for key in ("question", "answer")}
            videos.setdefault(row["video_id"], {}).setdefault(row["dim"], []).append(asked)
        write_json(folder / "questions" / f"{form}.json", videos)
    return folder


# ---------------------------------------------------------------------------------------------- Video-MME-v2

EIGHT = ["a dog.", "a cat", "no", "A man runs", "12", "1,200", "the answer is B", "一只猫"]
VIDEOMME_V2_STRUCTURES = ("[1, 2, 3, 4]", "[1, [2, 3], 4]", "[[1, 2], 3, 4]")


def videomme_v2_rows(videos: int) -> Rows:
    rows: Rows = []
    for v in range(videos):
        logic = v % 4 != 0
        for q in range(4):
            options = [f"{option} {v}" if n > 3 else option for n, option in enumerate(EIGHT)]
            rows.append(
                {
                    "video_id": f"{v + 1:03}",
                    "url": f"https://example.org/{v}",
                    "group_type": "logic" if logic else "relevance",
                    "group_structure": VIDEOMME_V2_STRUCTURES[v % 3] if logic else None,
                    "question_id": f"{v + 1:03}-{q + 1}",
                    "question": f"What is item {q} of {v}?",
                    "options": "\n".join(f"{letter}. {o}" for letter, o in zip("ABCDEFGH", options, strict=True)),
                    "answer": "ABCDEFGH"[(v + 3 * q) % 8],
                    "level": str(1 + (v + q // 3) % 3),
                    "second_head": ("Order", "Motion")[v % 2],
                    "third_head": f"head {(v + q // 3) % 5}",
                }
            )
    return rows


def write_videomme_v2(root: Path, rows: Rows, *, subtitles: bool = False) -> Path:
    folder = root / "videomme_v2"
    write_parquet(folder / "test.parquet", rows)
    if subtitles:
        (folder / "subtitle").mkdir()
        for video in {row["video_id"] for row in rows}:
            words = [{"text": text, "start_time": 0.5, "end_time": 0.8} for text in ("Hello", f"world {video}", "é")]
            path = folder / "subtitle" / f"{video}.jsonl"
            path.write_text("".join(json.dumps(word) + "\n" for word in words), encoding="utf-8")
    return folder


# ------------------------------------------------------------------------------------------------- CG-Bench


def cgbench_rows(count: int) -> Rows:
    kinds = ["Gray", "Pale blue", "a dog", "I do not know", "Silver.", "12", "None", "the answer is B"]
    return [
        {
            "qid": 10 + i,
            "video_uid": f"BV{i // 2}-_",
            "question": f"In the video, what is item {i}?",
            "answer": kinds[i % 5],
            "choices": kinds[: 5 + i % 4],
            "right_answer": "ABCDE"[i % 5],
            "clue_intervals": [[8 + i, 11 + i]],
            "domain": ("Driving", "News")[i % 2],
            "sub_category": "Entity Perception",
            "duration": 611 + i // 2,
        }
        for i in range(count)
    ]


def write_cgbench(root: Path, rows: Rows, name: str = "cgbench_mini.json") -> Path:
    write_json(root / "cgbench" / name, rows)
    return root / "cgbench"

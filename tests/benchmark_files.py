"""Annotation files in the published formats, with invented content."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from vamba_eval.tasks import synthetic

from vamba_eval.registry import load_task

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


LVBENCH_TYPES = (
    "entity recognition",
    "event understanding",
    "key information retrieval",
    "temporal grounding",
    "reasoning",
    "summarization",
)
LVBENCH_VIDEO_TYPES = ("cartoon", "documentary", "live", "selfmedia", "sport", "tv")


def lvbench_videos(videos: int, questions: int) -> list[dict[str, Any]]:
    """Lines of the original file, whose questions are spread evenly over its videos."""
    lines: list[dict[str, Any]] = [
        {
            "key": f"-vid_{v}",
            "type": LVBENCH_VIDEO_TYPES[v % 6],
            "video_info": {"duration_minutes": 31.5 + v, "fps": 30.0, "resolution": {"width": 1280, "height": 720}},
            "qa": [],
        }
        for v in range(videos)
    ]
    for i in range(questions):
        lines[i * videos // questions]["qa"].append(
            {
                "uid": str(i),
                "question": f"What is event {i}?\n(A) run {i}\n(B) walk (B-road) {i}\n(C) no\n(D) A man, seated",
                "answer": "ABCD"[i * 7 % 4],
                "question_type": [LVBENCH_TYPES[i % 6], *([LVBENCH_TYPES[(i + 2) % 6]] if i % 3 == 0 else [])],
                "time_reference": "01:00-02:00",
            }
        )
    return lines


def lvbench_rows(lines: list[dict[str, Any]], path_field: str, *, options: bool = False) -> list[dict[str, Any]]:
    """A row a question, with the video's file under ``path_field``; ``options`` puts the options in a column."""
    rows = []
    for line in lines:
        for question in line["qa"]:
            row = {**{k: v for k, v in line.items() if k != "qa"}, **question, path_field: f"{line['key']}.mp4"}
            if options:
                row["question"], *listed = question["question"].split("\n")
                row["options"] = [option[4:] for option in listed]
            rows.append(row)
    return rows


def write_lvbench(root: Path, rows: list[dict[str, Any]], file: str = "video_info.meta.jsonl") -> Path:
    folder = root / "lvbench"
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return folder


NEXTQA_COUNTS = {"CW": 3329, "TN": 1399, "CH": 1173, "TC": 1165, "DO": 600, "DL": 483, "DC": 322, "TP": 93}


def nextqa_rows(videos: int, counts: dict[str, int]) -> list[dict[str, Any]]:
    """As published: the questions about a video do not stand together."""
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    return [
        {
            "video": 2_400_000_000 + i % videos,
            "frame_count": 300 + i,
            "width": 640,
            "height": 480,
            "question": f"what did the baby do after event {i} ",
            "answer": i * 7 % 5,
            "qid": i // videos,
            "type": kind,
            **{f"a{n}": f"{verb} {i}" for n, verb in enumerate(("clap", "crawl", "smile ", "run", "sit, then lie"))},
        }
        for i, kind in enumerate(kinds)
    ]


def write_nextqa(root: Path, rows: list[dict[str, Any]], file: str = "MC/test-00000-of-00001.parquet") -> Path:
    folder = root / "nextqa"
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    (folder / "NExTVideo").mkdir(exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


HOURVIDEO_TASKS = (
    "navigation/object_retrieval",
    "navigation/object_retrieval_image",
    "navigation/room_to_room",
    "navigation/room_to_room_image",
    "perception/information_retrieval/factual_recall",
    "perception/information_retrieval/sequence_recall",
    "perception/information_retrieval/temporal_distance",
    "perception/tracking",
    "reasoning/causal",
    "reasoning/counterfactual",
    "reasoning/predictive",
    "reasoning/spatial/layout",
    "reasoning/spatial/proximity",
    "reasoning/spatial/relationship",
    "reasoning/temporal/duration",
    "reasoning/temporal/frequency",
    "reasoning/temporal/prerequisites",
    "summarization/compare_and_contrast",
    "summarization/key_events_objects",
    "summarization/temporal_sequencing",
)


def hourvideo_annotations(videos: int, questions: int) -> dict[str, Any]:
    entries: dict[str, Any] = {
        f"uid-{v}": {
            "video_metadata": {"video_uid": f"uid-{v}", "duration_in_seconds": 1200.5 + v, "scenarios": "Cooking"},
            "benchmark_dataset": [],
        }
        for v in range(videos)
    }
    for i in range(questions):
        uid, task = f"uid-{i * videos // questions}", HOURVIDEO_TASKS[i % 20]
        pictures = task.endswith("_image") or task == "reasoning/spatial/layout"
        answers = [f"images/{uid}/{i}/{letter}.png" if pictures else f"Step {i} of {letter}. " for letter in "ABCDE"]
        entries[uid]["benchmark_dataset"].append(
            {
                "qid": f"{uid}_{i % 20}_{i}",
                "question": f"What happens at step {i}? ",
                "task": task,
                "mcq_test": "\n".join(f"{letter}. {answer}" for letter, answer in zip("ABCDE", answers, strict=True)),
                "relevant_timestamps": "00:46:30" if task == "reasoning/predictive" else "N/A",
                **{f"answer_{n + 1}": answer.strip() for n, answer in enumerate(answers)},
                "correct_answer_label": "ABCDE"[i * 3 % 5],
            }
        )
    return entries


def write_hourvideo(root: Path, entries: dict[str, Any], folder: str = "v1.0_release/json") -> Path:
    path = root / "hourvideo" / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "dev_v1.0_annotations.json").write_text(json.dumps(entries))
    return root / "hourvideo"


# The 20 tasks: the official folder of their videos, how a video's name ends, and whether they ask about a part.
MVBENCH_TASKS = {
    "action_sequence": ("star/Charades_v1_480", ".mp4", True),
    "action_prediction": ("star/Charades_v1_480", ".mp4", True),
    "action_antonym": ("ssv2_video", ".webm", False),
    "fine_grained_action": ("Moments_in_Time_Raw/videos", ".mp4", False),
    "unexpected_action": ("FunQA_test/test", ".mp4", False),
    "object_existence": ("clevrer/video_validation", ".mp4", False),
    "object_interaction": ("star/Charades_v1_480", ".mp4", True),
    "object_shuffle": ("perception/videos", ".mp4", False),
    "moving_direction": ("clevrer/video_validation", ".mp4", False),
    "action_localization": ("sta/sta_video", ".mp4", True),
    "scene_transition": ("scene_qa/video", ".mp4", False),
    "action_count": ("perception/videos", ".mp4", False),
    "moving_count": ("clevrer/video_validation", ".mp4", False),
    "moving_attribute": ("clevrer/video_validation", ".mp4", False),
    "state_change": ("perception/videos", ".mp4", False),
    "fine_grained_pose": ("nturgbd", ".avi", False),
    "character_order": ("perception/videos", ".mp4", False),
    "egocentric_navigation": ("vlnqa", ".mp4", False),
    "episodic_reasoning": ("tvqa/frames_fps3_hq", "", True),
    "counterfactual_inference": ("clevrer/video_validation", ".mp4", False),
}


def mvbench_rows(kind: str, count: int) -> list[dict[str, Any]]:
    """Tasks that share a folder share its videos; those bounded in time ask about two parts of each."""
    _, ending, bounded = MVBENCH_TASKS[kind]
    words = ("walk up", "sit, then stand", "no", "a (red) door.", "run")[: 3 + len(kind) % 3]
    return [
        {
            "video": f"V{i // 2:03}{ending}",
            "question": f"What happens in {kind} {i}?",
            "candidates": [f"{word} {i}" if word != "no" else word for word in words],
            "answer": "no" if i % len(words) == 2 else f"{words[i % len(words)]} {i}",
            **({"start": 1.1 + i % 2, "end": 4.7 + i % 2} if bounded else {}),
        }
        for i in range(count)
    ]


def write_mvbench(root: Path, count: int, rows: dict[str, list[dict[str, Any]]] | None = None) -> Path:
    """``count`` questions a task; ``rows`` has those of tasks that differ."""
    folder = root / "mvbench"
    (folder / "json").mkdir(parents=True, exist_ok=True)
    for kind in MVBENCH_TASKS:
        content = (rows or {}).get(kind) or mvbench_rows(kind, count)
        (folder / "json" / f"{kind}.json").write_text(json.dumps(content))
    return folder


# ------------------------------------------------------------------------------------------- in free text


DREAM1K_SOURCES = ("movie_animation", "movie_live_action", "vertical_video", "videvo", "youtube")


def dream1k_rows(per_source: int) -> list[dict[str, Any]]:
    """Lines of the repository's annotations; a few clips have no event, as published."""
    rows = []
    for i in range(5 * per_source):
        events = [f"The man's step {i} {n}." for n in range(i % 11)]
        rows.append(
            {
                "messages": [
                    {
                        "content": [
                            {
                                "reference": None,
                                "text": None,
                                "type": "video",
                                "video": {"video_file": "<placeholder>"},
                            },
                            {"reference": None, "text": "Describe the video in detail.", "type": "text", "video": None},
                        ],
                        "role": "user",
                    },
                    {
                        "content": [
                            {"reference": f'A Man takes "{i}" steps.', "text": "", "type": "text", "video": None}
                        ],
                        "role": "assistant",
                    },
                ],
                "dataset": f"DREAM/{DREAM1K_SOURCES[i // per_source]}",
                "task": "video/caption",
                "idx": i + 1,
                "extra_info": {
                    "duration": 5.0 + i % 40,
                    "events": events,
                    "n_events": len(events),
                    "n_shots": 1 + i % 6,
                    "n_subjects": i % 5,
                },
                "vid": i + 1,
            }
        )
    return rows


def dream1k_metadata(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same in the shape of the data set on the Hub."""
    return [
        {
            "idx": str(row["idx"]),
            "video_file": f"video/{row['vid']}.mp4",
            "source": row["dataset"],
            "description": row["messages"][1]["content"][0]["reference"],
            **row["extra_info"],
            "events": json.dumps(row["extra_info"]["events"]),
        }
        for row in rows
    ]


def write_dream1k(root: Path, rows: list[dict[str, Any]], file: str = "DREAM-1k.jsonl") -> Path:
    folder = root / "dream1k"
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(lines if path.suffix == ".jsonl" else json.dumps(rows), encoding="utf-8")
    return folder


def mlvu_generation_rows(kind: str, count: int) -> list[dict[str, Any]]:
    """``kind``: subPlot or summary."""
    rows: list[dict[str, Any]] = [
        {
            "video": f"{kind}_{i}.mp4" if kind == "subPlot" else f"{i // 2}.mp4",
            "duration": 631.9 + i if kind == "subPlot" else 480,
            "question": f"Please describe scene {i}." if kind == "subPlot" else "Please summarize this video.",
            "answer": f"The man does {i}.",
            "question_type": kind,
        }
        for i in range(count)
    ]
    if kind == "subPlot":
        for i, row in enumerate(rows):
            row["scoring_points"] = [f"The man's point {n}" for n in range(1 + i % 5)]
    return rows


def write_mlvu_generation(root: Path, scenes: list[dict[str, Any]], summaries: list[dict[str, Any]]) -> Path:
    folder = root / "mlvu"
    (folder / "json").mkdir(parents=True, exist_ok=True)
    (folder / "json" / "8_sub_scene.json").write_text(json.dumps(scenes))
    (folder / "json" / "9_summary.json").write_text(json.dumps(summaries))
    return folder


# The test set: its types, the prefixes of their question ids, and how many there are (the authors' test_res.json).
MLVU_TEST_TYPES = {
    "topic_reasoning": ("TR", 91),
    "anomaly_reco": ("AR", 39),
    "needleQA": ("NQA", 60),
    "ego": ("ER", 53),
    "plotQA": ("PQA", 50),
    "sportsQA": ("SQA", 36),
    "order": ("AO", 70),
    "count": ("AC", 60),
    "tutorialQA": ("TQA", 43),
}


def mlvu_test_rows(counts: dict[str, int] | None = None, *, answers: bool = True) -> list[dict[str, Any]]:
    """Counting questions have numbers for options."""
    rows: list[dict[str, Any]] = []
    for kind, (prefix, full) in MLVU_TEST_TYPES.items():
        for i in range(full if counts is None else counts.get(kind, 0)):
            options: list[Any] = [f"{kind} {i} {word}" for word in ("one", "two", "three", "four", "five", "six")]
            if kind == "count":
                options = [i + n for n in range(6)]
            row = {
                "video": f"test_{kind}_{i // 2}.mp4",
                "duration": 300.5 + i,
                "question": f"Test {kind} question {i}?",
                "candidates": options,
                "question_type": kind,
                "question_id": f"{prefix}_{i}",
            }
            rows.append({**row, "answer": options[i % 6]} if answers else row)
    return rows


def mlvu_test_parquet_rows(rows: list[dict[str, Any]], *, answers: bool = True) -> list[dict[str, Any]]:
    """In lmms-eval's shape."""
    shaped = []
    for row in rows:
        options = "\n".join(f"({letter}) {text}" for letter, text in zip("ABCDEF", row["candidates"], strict=True))
        shaped.append(
            {
                "video_name": row["video"],
                "duration": row["duration"],
                "question": f"{row['question']}\n{options}",
                "candidates": [str(text) for text in row["candidates"]],
                "answer": "ABCDEF"[row["candidates"].index(row["answer"])] if answers else None,
                "task_type": row["question_type"],
                "question_id": row["question_id"],
            }
        )
    return shaped


def write_mlvu_test(root: Path, rows: list[dict[str, Any]], file: str = "test-ground-truth/test_mcq_gt.json") -> Path:
    folder = root / "mlvu"
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows))
    return folder


def write_every_choice(root: Path) -> None:
    """Every benchmark of multiple choice, with a question that has no right answer in most of them."""
    rows = videomme_rows(10)
    rows[3]["answer"] = "E"  # impossible, as the first of each below
    write_videomme(root, rows)
    write_mlvu(root, 4)
    write_longvideobench(root, longvideobench_rows(30))
    lines = lvbench_videos(3, 30)
    lines[0]["qa"][0]["answer"] = "F"
    write_lvbench(root, lines)
    write_hourvideo(root, hourvideo_annotations(3, 40))
    write_mvbench(root, 9)
    rows = nextqa_rows(5, {"CW": 20})
    rows[0]["answer"] = 7
    write_nextqa(root, rows)
    stand_in_videos(root)


def stand_in_videos(root: Path) -> None:
    """Empty files in the place of the synthetic videos, so that none is generated."""
    videos = root / "synthetic" / f"v{load_task('synthetic').version}"
    videos.mkdir(parents=True)
    for duration in synthetic.DURATIONS_S:
        for n in range(synthetic.VIDEOS_PER_DURATION):
            (videos / f"{duration}_{n:02d}.mp4").touch()

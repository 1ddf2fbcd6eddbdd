"""Annotation files of benchmarks of hours of video, as published, with invented content."""

from __future__ import annotations

from pathlib import Path

from choice_files import FIVE, Rows, write_parquet

# ---------------------------------------------------------------------------------- TimeScope, LongTimeScope

TIMESCOPE_KINDS = ("OCR", "QA", "temporal")
TIMESCOPE_ASKED = (
    "Answer the question based on the given video. Only give me the answer and do not output any other words.\n"
    "Question: What is needle {}?\n"
)


def timescope_rows(count: int) -> Rows:
    """The Hub's columns."""
    rows: Rows = []
    for i in range(count):
        kind, length = TIMESCOPE_KINDS[i % 3], (60, 600, 10800, 36000, 90)[i // 3 % 5]
        options = [*FIVE[i % 3], f"date, apple, kiwi {i}"]
        listed = "\n".join(f"{letter}: {option}" for letter, option in zip("ABCDEF", options, strict=True))
        rows.append(
            {
                "id": f"{kind}_{length}_{i}",
                "video": f"videos_split/videos_{kind}_{length}/{i}.mp4",
                "input": TIMESCOPE_ASKED.format(i) + listed,
                "length": length,
                "type": kind,
                "answer": "ABCDEF"[i * 5 % 6],
            }
        )
    return rows


def write_timescope(root: Path, rows: Rows, name: str = "timescope") -> Path:
    write_parquet(root / name / "data" / "test-00000-of-00001.parquet", rows)
    return root / name


def write_timescope_by_kind(root: Path, rows: Rows, name: str = "timescope") -> Path:
    """As earlier revisions of the repositories have it: a table a kind, whose rows have numbers and state no kind."""
    for kind in TIMESCOPE_KINDS:
        own = [row for row in rows if row["type"] == kind]
        table = [
            {"index": n, **{key: row[key] for key in ("video", "input", "length", "answer")}, "replace_time": 0.5}
            for n, row in enumerate(own)
        ]
        write_parquet(root / name / "data" / f"{kind}-00000-of-00001.parquet", table)
    return root / name


# ------------------------------------------------------------------------------------------- VideoEval-Pro

VIDEOEVAL_PRO_TYPES = ("Local Perception", "Local Reasoning", "Holistic Perception", "Holistic Reasoning")


def videoeval_pro_rows(count: int) -> Rows:
    """The Hub's columns; options with their letters."""
    rows: Rows = []
    for i in range(count):
        options = FIVE[i % 3][: 4 + i % 2]
        form = ("{}. {}", "({}) {}", "{}) {}")[i % 3]
        rows.append(
            {
                "video": f"vid{i // 2}-_.mp4",
                "question": f"What is shown in {i}?",
                "options": [form.format(letter, option) for letter, option in zip("ABCDE", options, strict=False)],
                "answer": "ABCD"[i % 4],
                "answer_text": f"A short answer {i}",
                "meta": "{}",
                "source": ("videomme", "mlvu", "lvbench", "longvideobench")[i // 2 % 4],
                "qa_subtype": f"subtype {i % 5}",
                "qa_type": VIDEOEVAL_PRO_TYPES[i % 4],
            }
        )
    return rows


def write_videoeval_pro(root: Path, rows: Rows) -> Path:
    write_parquet(root / "videoeval_pro" / "data" / "test-00000-of-00001.parquet", rows)
    return root / "videoeval_pro"


# ------------------------------------------------------------------------------------------------ VSI-SUPER

RECALL_LENGTHS = ("10mins", "30mins", "60mins", "120mins", "240mins")
COUNT_LENGTHS = RECALL_LENGTHS[:4]


def recall_rows(length: str, count: int) -> Rows:
    """The columns that lmms-eval reads."""
    places = ["Bathtub", "Chair, red", "the dog bed", "B-side"]
    return [
        {
            "video_path": f"{length}/{i:08}.mp4",
            "question": f"In which order was teddy {i} there? ",
            "options": [f"{letter}. {', '.join(places[n:] + places[:n])}" for n, letter in enumerate("ABCD")],
            "answer": "ABCD"[i * 3 % 4],
            "type": length,
        }
        for i in range(count)
    ]


def write_recall(root: Path, rows: dict[str, Rows]) -> Path:
    for length, own in rows.items():
        write_parquet(root / "vsi_super_recall" / f"test_{length}.parquet", own)
    return root / "vsi_super_recall"


def count_rows(length: str, count: int) -> Rows:
    """The columns that lmms-eval reads, with a stream after every second question."""
    rows: Rows = []
    for i in range(count):
        asked = {"video_path": f"{length}/{i // 2:08}.mp4", "question": f"How many chairs are there in all, {i}?"}
        rows.append({**asked, "answer": 4 + 7 * i, "answers": [], "query_times": [], "split": length})
        if i % 2:
            streamed = {"answer": None, "answers": [1.0, 2.0], "query_times": [5.0, 9.0]}
            rows.append({**asked, **streamed, "split": f"{length}_streaming"})
    return rows


def write_count(root: Path, rows: dict[str, Rows]) -> Path:
    for length, own in rows.items():
        write_parquet(root / "vsi_super_count" / f"test_{length}.parquet", own)
    return root / "vsi_super_count"

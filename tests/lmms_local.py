"""Small local data for lmms-eval's own tasks, and lmms-eval itself as a subprocess.

Each benchmark is written once, as published in the shape that lmms-eval reads; our tasks read the same files.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import lmms_eval
import pyarrow
import pyarrow.parquet
import yaml
from benchmark_files import (
    MLVU_TYPES,
    longvideobench_rows,
    lvbench_rows,
    lvbench_videos,
    mlvu_rows,
    nextqa_rows,
    videomme_rows,
    write_lvbench,
    write_nextqa,
    write_videomme,
)
from videos import make_video

LMMS_TASKS = Path(lmms_eval.__file__).parent / "tasks"
CHECKOUT = Path(__file__).resolve().parent.parent
# What lmms-eval's own tasks are called here (of two tasks with one name it takes its own): the file that defines the
# task, our task, the split, and the annotations.
TASKS = {
    "local_videomme": ("videomme/videomme.yaml", "videomme", "test", "videomme/test-00000-of-00001.parquet"),
    "local_mlvu_dev": ("mlvu/mlvu_dev.yaml", "mlvu", "test", "test-00000-of-00001.parquet"),
    "local_longvideobench_val_v": (
        "longvideobench/longvideobench_val_v.yaml",
        "longvideobench",
        "validation",
        "validation-00000-of-00001.parquet",
    ),
    "local_lvbench": ("lvbench/lvbench.yaml", "lvbench", "train", "data/train-00000-of-00001.parquet"),
    "local_nextqa_mc_test": ("nextqa/nextqa_mc_test.yaml", "nextqa", "test", "MC/test-00000-of-00001.parquet"),
}


def write_data(root: Path, videos: int = 2) -> None:
    """``root`` is lmms-eval's HF_HOME and our --data-root at once: five benchmarks, ``videos`` videos each."""
    rows = videomme_rows(videos)
    # lmms-eval's fields of the same meaning are "category" names of a fixed list; ours are as published.
    folder = write_videomme(root, rows)
    _video(folder / "data", *(f"vid_{v}.mp4" for v in range(videos)))

    rows = []
    for kind in list(MLVU_TYPES)[:videos]:
        for number, row in enumerate(mlvu_rows(kind, 2)):
            options = "\n".join(f"({letter}) {text}" for letter, text in zip("ABCD", row["candidates"], strict=True))
            rows.append(
                {
                    "video_name": f"{kind}.mp4",
                    "duration": row["duration"],
                    "question": f"{row['question']}\n{options}",
                    "answer": "ABCD"[row["candidates"].index(row["answer"])],
                    "task_type": kind.partition("_")[2],
                    "question_id": f"{kind}-{number}",
                }
            )
        _video(root / "mlvu", f"{kind}.mp4")
    _parquet(root / "mlvu" / "test-00000-of-00001.parquet", rows)

    rows = []
    for row in longvideobench_rows(2 * videos):
        candidates = row.pop("candidates")
        rows.append({**row, **{f"option{i}": [*candidates, *["N/A"] * 5][i] for i in range(5)}})
    _parquet(root / "longvideobench" / "validation-00000-of-00001.parquet", rows)
    _video(root / "longvideobench" / "videos", *(f"lvb{v}.mp4" for v in range(videos)))
    (root / "datasets").mkdir(exist_ok=True)
    (root / "datasets" / "longvideobench").symlink_to(root / "longvideobench")

    lines = lvbench_videos(videos, 2 * videos)
    write_lvbench(root, lvbench_rows(lines, "video_path", options=True), "data/train-00000-of-00001.parquet")
    _video(root / "lvbench", *(f"{line['key']}.mp4" for line in lines))

    # The questions about a video do not stand together.
    folder = write_nextqa(root, nextqa_rows(videos, {"CW": videos, "TN": videos}))
    _video(folder / "NExTVideo", *(f"{2_400_000_000 + v}.mp4" for v in range(videos)))


def write_tasks(folder: Path, root: Path, **changes: Any) -> Path:
    """lmms-eval's tasks, its own definitions and code, on the files in ``root``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (definition, ours, split, file) in TASKS.items():
        local = {
            "include": str(LMMS_TASKS / definition),
            "task": name,
            "dataset_path": "parquet",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {split: str(root / ours / file)}},
            "output_type": "generate_until",
            **changes,
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(local))
    return folder


def install(target: Path) -> Path:
    """Our package as pip installs it, in ``target``."""
    source = target.parent / "source"
    for part in ("vamba_eval", "tasks", "model_adapters", "results/published"):
        shutil.copytree(CHECKOUT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / file, source)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", target, source], check=True, capture_output=True, cwd=target.parent)
    return target


def run_lmms(site: Path, home: Path, cwd: Path, *arguments: object, processes: int = 1) -> subprocess.CompletedProcess:
    """The command ``lmms-eval``, offline, with the package in ``site``."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(site),
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(cwd / "datasets"),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        # Its cache goes by the commit of the repository around its installation, where somebody may commit meanwhile.
        "GIT_DIR": str(cwd / "no_repository"),
    }
    command = [sys.executable, "-m", "lmms_eval"]
    if processes > 1:
        # accelerate's --cpu starts one process whatever --num_processes says.
        environment["ACCELERATE_USE_CPU"] = "true"
        launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]
        launch += [
            "--num_machines",
            "1",
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
            "--main_process_port",
            "0",
        ]
        command = [sys.executable, *launch, "-m", "lmms_eval"]
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )


def samples(output: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """lmms-eval's logged samples below ``output``: by task, then by document."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for file in output.rglob("*_samples_*.jsonl"):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        found[file.stem.partition("_samples_")[2]] = {row["doc_id"]: row for row in rows}
    return found


def results(output: Path) -> dict[str, Any]:
    (file,) = output.rglob("*_results.json")
    return json.loads(file.read_text(encoding="utf-8"))


def _video(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        make_video(folder / name, frames=40 + 10 * number, size=(112, 140), rate=5)


def _parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)

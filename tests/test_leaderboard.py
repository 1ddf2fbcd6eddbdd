"""Tables from stored runs, against numbers computed by hand."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from benchmark_files import longvideobench_rows, write_longvideobench, write_mlvu

from vamba_eval import Leaderboard, evaluate

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two runs of baselines: annotations are enough for them."""
    rows = longvideobench_rows(40)
    write_longvideobench(tmp_path, rows, [{k: v for k, v in row.items() if k != "correct_choice"} for row in rows])
    write_mlvu(tmp_path, 6)
    output = tmp_path / "results"
    for name, frames in (("few", 8), ("many", 512)):
        models = ["constant", "random"]
        evaluate(
            *(["mlvu", "longvideobench"], models),
            **{
                "data_root": tmp_path,
                "output": output,
                "name": name,
                "sampling": {"num_frames": frames},
                "progress": False,
            },
        )
    return output


def test_csv_has_full_precision_and_markdown_one_row_a_model(results: Path, tmp_path: Path) -> None:
    board = Leaderboard.from_runs([results / "few"])
    paths = {path.name: path for path in board.save(tmp_path / "tables")}
    table = pd.read_csv(paths["leaderboard.csv"])
    assert len(table) == 4 and set(table["task"]) == {"mlvu", "longvideobench"}
    constant = table[(table.model == "constant") & (table.task == "longvideobench")].iloc[0]
    assert constant["score"] == sum(i % 3 == 0 for i in range(40)) / 40  # the right option is i % 3
    chance = sum(1 / (3 + i % 3) for i in range(40)) / 40
    assert constant["chance"] == pytest.approx(chance, rel=1e-12)
    mlvu = table[(table.model == "constant") & (table.task == "mlvu")].iloc[0]
    assert mlvu["metric"] == "M-Avg" and mlvu["score"] == pytest.approx(2 / 6)
    assert mlvu["coverage"] == 1.0 and mlvu["questions"] == 42 and mlvu["videos"] == 21
    markdown = paths["leaderboard.md"].read_text()
    headline = [line for line in markdown.split("\n## ")[0].splitlines() if line.startswith("|")]
    assert len(headline) == 2 + 2, "a header, a rule, and one row a model"
    assert "MLVU dev (multiple choice)" in headline[0] and "LongVideoBench (validation)" in headline[0]
    with open(paths["breakdowns.csv"]) as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == "constant" and row["group"] == "duration_group"]
    assert [row["value"] for row in rows] == ["15", "3600", "60", "600"]
    assert sum(int(row["questions"]) for row in rows) == 40


def test_several_runs_stand_beside_one_another(cli: Cli, results: Path) -> None:
    status, out, _ = cli("leaderboard", results)
    assert status == 0 and len([line for line in out.splitlines() if line.startswith(("| constant", "| random"))]) == 4
    assert "few" in out and "many" in out


def test_reported_rows_are_marked(cli: Cli, results: Path) -> None:
    status, out, _ = cli("leaderboard", results / "few", "--published")
    assert status == 0
    (vamba,) = [line for line in out.splitlines() if line.startswith("| Vamba 10B (reported)")]
    assert " 65.9 " in vamba and " 55.9 " in vamba and " 57.8 " not in vamba
    assert "| constant " in out


def test_an_installed_copy_has_the_reported_rows(tmp_path: Path) -> None:
    """A wheel, unpacked far from the checkout."""
    repository = Path(__file__).resolve().parent.parent
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "tests", "__pycache__")
    shutil.copytree(repository, source, ignore=ignored)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = source.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "site", format="zip")
    code = "from vamba_eval.cli import main; main(['leaderboard', '--published']); main(['list'])"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(reported)") == 17 and "| Vamba 10B (reported)" in done.stdout
    assert "longvideobench" in done.stdout and "qwen2_vl" in done.stdout


def test_withheld_answers_are_not_scored(cli: Cli, results: Path, tmp_path: Path) -> None:
    board = evaluate(
        *(["longvideobench"], ["constant"]),
        **{"data_root": tmp_path, "output": tmp_path / "test", "split": "test", "progress": False},
    )
    assert "answers withheld" in board.headline_markdown()
    assert board.table.iloc[0]["answered"] == 40 and pd.isna(board.table.iloc[0]["score"])


def test_notes_name_chance_and_unlike_hardware(results: Path) -> None:
    info = json.loads((results / "many" / "run.json").read_text())
    info["environments"][0]["hardware"]["gpus"] = ["NVIDIA H100 80GB HBM3"]
    (results / "many" / "run.json").write_text(json.dumps(info))
    notes = "\n".join(Leaderboard.from_runs([results]).notes())
    assert "AT CHANCE: random on" in notes
    assert "unlike hardware" in notes and "1 x NVIDIA H100 80GB HBM3" in notes


def test_a_missing_plugin_is_named(cli: Cli, results: Path) -> None:
    info = json.loads((results / "few" / "run.json").read_text())
    info["tasks"]["mlvu"]["source"] = "/gone/my_task.py"
    (results / "few" / "run.json").write_text(json.dumps(info))
    status, _, err = cli("leaderboard", results / "few")
    assert status == 2 and "/gone/my_task.py" in err

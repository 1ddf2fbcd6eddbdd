"""The tables in results/published/: every row is of something that exists, says where it stands, and can be shown."""

from __future__ import annotations

from collections import Counter

import pytest

from vamba_eval import Leaderboard, Task, load_task, registry
from vamba_eval.tables.board import board_of
from vamba_eval.tables.published import REPORTED, UNKNOWN, published_folder, published_results, published_rows

ROWS = published_rows(REPORTED)
WIDE = sorted(file.name for file in published_folder().glob("*.csv") if file.name not in (REPORTED, "efficiency.csv"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row[key] for key in ("model", "size", "task", "split")))
def test_a_row_is_of_a_measure_and_says_where_it_stands(row: dict[str, str]) -> None:
    assert row["task"] in registry.names(Task)
    task = load_task(row["task"])
    assert row["split"] in task.splits
    measure = task.measures[row["measure"]]
    scale = 100 if measure.unit == "%" else 1
    low, high = sorted((scale * measure.worst, scale * measure.best))
    assert low < float(row["score"]) < high
    assert measure.unit != "%" or float(row["score"]) > 1, "in %, not a share"
    assert row["model"] and row["source"] and row["address"].startswith("https://")
    assert row["frames"] and row["protocol"] in (UNKNOWN, "official", "lmms-eval")


def test_a_source_says_a_thing_once() -> None:
    said = Counter(tuple(row[key] for key in ("model", "size", "task", "split", "measure", "source")) for row in ROWS)
    assert max(said.values()) == 1


@pytest.mark.parametrize("name", WIDE)
def test_a_wide_tables_columns_belong_to_benchmarks(name: str) -> None:
    columns = {load_task(task).catalogue.reported_as for task in registry.names(Task)} - {""}
    about = {"model", "size", "section", "measured_by_vamba_authors", "source"}
    rows = published_rows(name)
    assert rows[0].keys() - about <= columns and rows[0].keys() & columns
    for row in rows:
        assert row["source"] and all(1 < float(row[each]) < 100 for each in row.keys() & columns if row[each])


def test_rows_of_the_headline_on_the_default_split_stand_beside_runs() -> None:
    by_task = {name: published_results({name}) for name in registry.names(Task)}
    assert sum(map(len, by_task.values())) == len(published_results(set()))
    (qwen,) = [result for result in by_task["timelens"] if result.model == "Qwen2.5-VL 7B"]
    assert qwen.summary.headline[1].value == pytest.approx(0.393), "charades; the other two splits are not asked"
    assert qwen.protocol == "official" and qwen.num_frames is None, "its frames are not stated"
    assert not by_task["egoschema"] and not by_task["tempcompass"], "of all questions, and of one format of four"
    (judged,) = [result for result in by_task["mlvu_generation"] if result.model == "GPT-4o"]
    metric = judged.summary.headline[1]
    assert (metric.value, metric.unit, metric.best) == (5.8, "points", 10) and judged.num_frames == "0.5 fps"
    (tomato,) = [result for result in by_task["tomato"] if result.model == "Qwen2-VL 7B"]
    assert tomato.num_frames == 16


def test_all_can_be_shown() -> None:
    board = Leaderboard(published_results(set()))
    assert len(board.table) == len(board.results) and "Qwen3-VL-Instruct 8B" in set(board.table["model"])
    frames = {row.name: row.frames for row in board_of(board.results, {}).rows}
    assert frames["GPT-4V (reported)"] == "" and frames["Gemma-4 31B (reported)"] == "60"
    assert frames["VideoChat-Flash 7B (reported)"] == "1 fps, ?", "of some benchmarks they are not stated"

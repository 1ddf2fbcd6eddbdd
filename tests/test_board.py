"""The board: what shares a row, what is averaged and ranked, and that it fits whatever terminal there is."""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from benchmark_files import longvideobench_rows, write_longvideobench, write_mlvu
from invented_runs import invent_run
from rich.cells import cell_len
from rich.console import Console
from test_ranks import answers, runs_of

from vamba_eval import Leaderboard
from vamba_eval.contracts import LETTERS, Question, mean
from vamba_eval.registry import load_task
from vamba_eval.tables.board import APART, RANKED, REPORTED, Board
from vamba_eval.tables.ranks import averages_of
from vamba_eval.tables.screen import short_titles, shown_board

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_longvideobench(tmp_path, longvideobench_rows(40))
    write_mlvu(tmp_path, 6)
    return tmp_path


def invent(data: Path, name: str, task: str, models: list[str], frames: int = 64, seed: int = 0) -> Path:
    videos = load_task(task).load(data)
    how = {"num_frames": frames, "pictures": False, "seed": seed, "respond": respond}
    return invent_run(data / "runs" / name, task, videos, models, **how)  # type: ignore[arg-type]


def respond(model: str, question: Question, chance: random.Random) -> tuple[str, None]:
    """The sooner its name sorts, the more often right; always an option."""
    skill = 0.9 - 0.02 * (min(ord(model[0]), ord("z")) - ord("a"))
    return (question.answer or "A") if chance.random() < skill else chance.choice(
        LETTERS[: len(question.options)]
    ), None


def board_of(data: Path, **options: object) -> Board:
    return Leaderboard.from_runs([data / "runs"], **options).board()  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- rows


def test_a_model_is_one_row_over_all_runs(data: Path) -> None:
    invent(data, "one", "mlvu", ["alpha", "beta"])
    invent(data, "two", "longvideobench", ["alpha", "gamma"])
    board = board_of(data)
    rows = {row.name: row for row in board.rows}
    assert rows.keys() == {"alpha", "beta", "gamma"} and len(board.titles) == 2
    assert set(rows["alpha"].results) == set(board.titles) and len(rows["beta"].results) == 1
    assert all(row.frames == "64" and row.kind == RANKED for row in board.rows)
    assert rows["beta"].average is rows["gamma"].average is None, "they lack a benchmark"


def test_rows_stand_by_rank_or_as_they_were_sorted(data: Path) -> None:
    for name, frames in (("few", 8), ("many", 64)):
        invent(data, name, "mlvu", ["alpha", "gamma", "omega"], frames=frames)
    found = Leaderboard.from_runs([data / "runs"])
    ranks = [row.rank.rank for row in found.board().rows if row.rank]
    assert ranks == sorted(ranks) and len(ranks) == 6
    by_cost = [row.first.row()["first_answer_s"] for row in found.select(sort="first_answer_s").board().rows]
    assert by_cost == sorted(by_cost) != [row.first.row()["first_answer_s"] for row in found.board().rows]
    chosen = found.select(sort="first_answer_s").select(where="num_frames == 8").board()
    assert [row.name for row in chosen.rows] == ["alpha", "gamma", "omega"]


def test_what_is_not_alike_is_a_row_of_its_own(data: Path) -> None:
    invent(data, "one", "mlvu", ["alpha"])
    invent(data, "again", "mlvu", ["alpha"], seed=1)
    invent(data, "few", "mlvu", ["alpha"], frames=8)
    names = sorted((row.name, row.frames) for row in board_of(data).rows)
    assert names == [("alpha", "8"), ("alpha (again)", "64"), ("alpha (one)", "64")]
    all_protocols = Leaderboard.from_runs([data / "runs" / "one"], protocol="all").board()
    assert sorted(row.name for row in all_protocols.rows) == [
        *("alpha (flexible)", "alpha (lmms-eval)", "alpha (official)", "alpha (vamba)"),
    ]
    assert not all_protocols.best, "of each protocol there is one"


def test_precision_tells_weights_apart(data: Path) -> None:
    invent(data, "one", "mlvu", ["alpha"])
    folder = invent(data, "two", "longvideobench", ["alpha"])
    info = json.loads((folder / "run.json").read_text())
    info["models"]["alpha"]["dtype"] = "bfloat16"
    (folder / "run.json").write_text(json.dumps(info))
    assert sorted(row.name for row in board_of(data).rows) == ["alpha", "alpha (bf16)"]


def test_a_benchmarks_own_number_of_frames_is_no_other_way(data: Path) -> None:
    """In one run: LVBench's 1,024 beside 512 elsewhere."""
    folder = invent(data, "one", "mlvu", ["alpha"], frames=512)
    other = invent(data, "other", "longvideobench", ["alpha"], frames=1024)
    info, more = (json.loads((each / "run.json").read_text()) for each in (folder, other))
    for part in ("tasks", "counts"):
        info[part] |= more[part]
    (folder / "run.json").write_text(json.dumps(info))
    (path,) = other.glob("*.jsonl")
    path.rename(folder / path.name)
    (other / "run.json").unlink()
    (row,) = board_of(data).rows
    assert row.frames == "512-1024" and len(row.results) == 2 and row.average is not None


# ---------------------------------------------------------------------------------------------- averages and ranks


def test_averages_are_of_whole_benchmarks_alone(data: Path) -> None:
    invent(data, "one", "mlvu", ["alpha", "beta"])
    folder = invent(data, "two", "longvideobench", ["alpha", "beta"])
    lines = (folder / "longvideobench.beta.jsonl").read_text().splitlines()
    (folder / "longvideobench.beta.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    rows = {row.name: row for row in board_of(data).rows}
    for failed in [row for row in rows.values() if not all(result.complete for result in row.results.values())]:
        assert failed.average is None and failed.rank is None
    assert not rows["beta"].first.complete or not list(rows["beta"].results.values())[1].complete
    markdown = Leaderboard.from_runs([data / "runs"]).render("markdown")
    assert re.search(r"beta .*\| - +\|.* of 39/40", markdown)


def test_ranks_of_averages_agree_with_a_bootstrap_over_videos() -> None:
    first = answers([0.9, 0.5, 0.45, -0.4], videos=80, seed=4)
    second = answers([0.2, 0.6, 0.5, -0.1], videos=50, seed=5)
    table = list(zip(runs_of(first, mean("correct")), runs_of(second, mean("correct")), strict=True))
    found = averages_of(table)
    plain = (first.mean(axis=(1, 2)) + second.mean(axis=(1, 2))) / 2
    assert [average.value for average, _ in found if average] == pytest.approx(plain)
    rng = np.random.default_rng(0)

    def drawn(of: np.ndarray) -> np.ndarray:
        videos = of.shape[1]
        return of.mean(axis=2)[:, rng.integers(0, videos, (4000, videos))].mean(axis=2).T

    means = (drawn(first) + drawn(second)) / 2
    ranks = 1 + (means[:, None, :] > means[:, :, None] + 1e-9).sum(axis=2)
    low, high = np.quantile(ranks, [0.025, 0.975], axis=0, method="nearest")
    assert [(rank.low, rank.high) for _, rank in found if rank] == [
        (int(a), int(b)) for a, b in zip(low, high, strict=True)
    ]
    for (average, _), column in zip(found, means.T, strict=True):
        assert average is not None and average.low is not None and average.high is not None
        assert (average.low, average.high) == pytest.approx(np.quantile(column, [0.025, 0.975]), abs=0.02)


def test_the_best_are_marked_among_those_that_look(data: Path) -> None:
    invent(data, "one", "mlvu", ["alpha", "zeta"])
    invent(data, "two", "longvideobench", ["alpha", "zeta", "blind"])
    folder = data / "runs" / "two"
    info = json.loads((folder / "run.json").read_text())
    info["models"]["blind"]["reads_video"] = False
    (folder / "run.json").write_text(json.dumps(info))
    board = board_of(data, published=True)
    assert {board.rows[place].name for place, _ in board.best} == {"alpha"} and len(board.best) == 2
    kinds = [row.kind for row in board.rows]
    assert kinds == sorted(kinds, key=[RANKED, APART, REPORTED].index) and set(kinds) == {RANKED, APART, REPORTED}
    assert all(row.rank is None for row in board.rows if row.kind != RANKED)
    assert all(row.name.endswith("(reported)") for row in board.rows if row.kind == REPORTED)


# ---------------------------------------------------------------------------------------------- terminals


def said(board: Board, width: int, **options: object) -> list[str]:
    console = Console(file=io.StringIO(), width=width, **options)  # type: ignore[arg-type]
    for part in shown_board(board, console):
        console.print(part)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize(
    "name", ["an_adapter", "a-model-of-a-very-long-name-that-goes-on-72B-Instruct", "長い動画の模型" * 4]
)
def test_it_fits_and_never_wraps(data: Path, width: int, name: str) -> None:
    invent(data, "one", "mlvu", ["alpha", "beta"])
    invent(data, "two", "longvideobench", ["alpha", "beta", name])
    board = board_of(data, published=True)
    lines = said(board, width)
    assert max(map(cell_len, lines)) <= width
    table = lines[: next(n for n, line in enumerate(lines) if line.startswith("protocol"))]
    rows = [line for line in table[2:] if line.strip()]
    assert len(rows) == len(board.rows) + 1, "one line a row, and guessing"
    for row, line in zip([row for row in board.rows if row.kind == RANKED], rows, strict=False):
        first = next(iter(row.results.values())) if width > 60 else None
        shown = f"{100 * row.average.value:.1f}" if row.average else ""
        assert shown in line and (first is None or f"{100 * first.summary.headline[1].value:.1f}" in line)
    if width == 200:
        assert "no room" not in " ".join(lines) and "[" in rows[0]
    if width == 40:
        words = " ".join(" ".join(lines).split())
        assert "no room for" in words and "--long shows all" in words


def test_ranks_that_are_not_of_all_rows_say_so(data: Path) -> None:
    folder = invent(data, "one", "mlvu", ["alpha", "beta", "gamma"])
    assert "ranks" not in " ".join(said(board_of(data), 120))
    info = json.loads((folder / "run.json").read_text())
    info["models"]["alpha"]["served"] = True
    (folder / "run.json").write_text(json.dumps(info))
    board = board_of(data)
    assert board.rows[-1].name == "alpha" and [row.rank is None for row in board.rows] == [False, False, True]
    assert "served models have ranks of their own" in " ".join(said(board, 120))
    lines = " ".join(said(Leaderboard.from_runs([folder], protocol="all").board(), 120))
    assert "ranks are among rows of one protocol that were asked alike" in lines


def test_reported_names_are_told_apart_where_there_is_little_room() -> None:
    board = Leaderboard.from_runs([], published=True).board()
    lines = said(board, 80)
    names = [line.split("  ")[0].strip() for line in lines[2 : 2 + len(board.rows)]]
    assert {"Qwen2.5-VL 7B", "InternVL2 8B", "Vamba 10B"} <= set(names)
    assert f"the last {len(board.rows)} rows are reported" in lines and not any("(reported)" in line for line in lines)
    wide = said(board, 300)
    assert sum("(reported)" in line for line in wide) == len(board.rows) and "rows are reported" not in " ".join(wide)


def test_short_names_are_each_its_own() -> None:
    titles = [
        "Video-MME",
        "LongVideoBench (validation)",
        "Long videos, briefly",
        "LVBench",
        "a benchmark of mine",
        "x" * 30,
    ]
    names = short_titles(titles)
    assert names["Video-MME"] == "Video-MME" and names["LongVideoBench (validation)"] == "LVB"
    assert names["a benchmark of mine"] == "ABOM"
    assert len(set(names.values())) == len(titles) and max(map(len, names.values())) <= 10


def test_colors_are_for_terminals(data: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    invent(data, "one", "mlvu", ["alpha", "zeta"])
    status, out, _ = cli("leaderboard", data / "runs")
    assert status == 0 and "\x1b" not in out and "alpha" in out
    terminal = {"force_terminal": True, "color_system": "truecolor"}
    assert "\x1b[1;32m" in "".join(said(board_of(data), 80, **terminal))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;32m" not in "".join(said(board_of(data), 80, **terminal))


def test_files_are_whole(data: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    invent(data, "one", "mlvu", ["alpha", "zeta"])
    invent(data, "two", "longvideobench", ["alpha", "zeta"])
    for form in ("markdown", "latex"):
        status, out, _ = cli("leaderboard", data / "runs", "--format", form)
        assert status == 0 and "MLVU (multiple choice)" in out and "LongVideoBench (validation)" in out
        assert "Average" in out and "guessing" in out and "…" not in out
    status, out, _ = cli("leaderboard", data / "runs", "--output", data / "tables")
    text = (data / "tables" / "leaderboard.md").read_text()
    assert status == 0 and text.index("Average") < text.index("protocol vamba") < text.index("## Counts and costs")
    status, out, _ = cli("leaderboard", data / "runs", "--long")
    assert "Encode s/video" in out and "What each model saw" in out
    status, _, errors = cli("leaderboard", data / "runs", "--long", "--format", "csv")
    assert status == 2 and "give one of them" in errors

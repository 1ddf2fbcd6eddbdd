"""Tables from stored runs, against numbers computed by hand."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from benchmark_files import longvideobench_rows, write_longvideobench, write_mlvu

from vamba_eval import Leaderboard, evaluate
from vamba_eval.contracts import Answer, Metric, ModelAdapter, Summary
from vamba_eval.score.scored import scored_runs
from vamba_eval.store.records import Record
from vamba_eval.tables.costs import Costs, Distribution, costs_of
from vamba_eval.tables.notes import row_key
from vamba_eval.tables.published import published_results
from vamba_eval.tables.result import Result

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
    assert len(headline) == 2 + 3, "a header, a rule, one row a model, and guessing"
    assert "MLVU (multiple choice)" in headline[0] and "LongVideoBench (validation)" in headline[0]
    with open(paths["breakdowns.csv"]) as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == "constant" and row["group"] == "duration_group"]
    assert [row["value"] for row in rows] == ["15", "3600", "60", "600"]
    assert sum(int(row["questions"]) for row in rows) == 40


def test_several_runs_stand_beside_one_another(cli: Cli, results: Path) -> None:
    status, out, _ = cli("leaderboard", results, "--long")
    assert status == 0 and len([line for line in out.splitlines() if line.startswith(("| constant", "| random"))]) == 4
    assert "few" in out and "many" in out


def test_reported_rows_are_marked(cli: Cli, results: Path) -> None:
    status, out, _ = cli("leaderboard", results / "few", "--published", "--long")
    assert status == 0
    (vamba,) = [line for line in out.splitlines() if line.startswith("| Vamba 10B (reported)")]
    assert " 65.9 " in vamba and " 55.9 " in vamba and " 57.8 " not in vamba
    assert "| constant " in out


def test_an_installed_copy_has_the_reported_rows_and_the_reports_page(results: Path, tmp_path: Path) -> None:
    """A wheel, unpacked far from the checkout."""
    repository = Path(__file__).resolve().parent.parent
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "tests", "__pycache__")
    shutil.copytree(repository, source, ignore=ignored)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = source.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "site", format="zip")
    code = "from vamba_eval.cli.main import main; main(['leaderboard', '--published', '--long']); main(['list'])"
    code += f"; main(['report', {str(results / 'few')!r}])"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reported = {row_key(result) for result in published_results(set())}
    assert done.stdout.count("(reported") == len(reported) > 17 and "| Vamba 10B (reported)" in done.stdout
    assert "longvideobench" in done.stdout and "qwen2_vl" in done.stdout
    assert "<h1>Long-video evaluation</h1>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_withheld_answers_are_not_scored(cli: Cli, results: Path, tmp_path: Path) -> None:
    board = evaluate(
        *(["longvideobench"], ["constant"]),
        **{"data_root": tmp_path, "output": tmp_path / "test", "split": "test", "progress": False},
    )
    assert "answers withheld" in board.long_markdown()
    assert board.table.iloc[0]["answered"] == 40 and pd.isna(board.table.iloc[0]["score"])


def test_notes_name_chance_and_unlike_hardware(results: Path) -> None:
    info = json.loads((results / "many" / "run.json").read_text())
    info["environments"][0]["hardware"]["gpus"] = ["NVIDIA H100 80GB HBM3"]
    (results / "many" / "run.json").write_text(json.dumps(info))
    notes = "\n".join(Leaderboard.from_runs([results]).notes())
    assert any(note.startswith("AT CHANCE") and "random" in note for note in notes.splitlines())
    assert "different hardware" in notes and "1 x NVIDIA H100 80GB HBM3" in notes


class InTags(ModelAdapter):
    """Always answers B, in tags."""

    name = "tags"
    reads_video = False

    def encode(self, clip: Any) -> None:
        return None

    def generate(self, encoded: Any, prompts: Sequence[str], settings: Any) -> list[Answer]:
        return [Answer("<answer>B</answer>", num_tokens=5, finish_reason="length") for _ in prompts]


def test_notes_say_what_the_protocol_reads_wrongly_and_what_was_cut_off(tmp_path: Path) -> None:
    write_mlvu(tmp_path, 6)
    board = evaluate(["mlvu"], [InTags()], data_root=tmp_path, output=tmp_path / "out", progress=False)
    flexible = Leaderboard.from_runs([tmp_path / "out"], protocol="flexible")
    (row,), (as_flexible,) = board.table.to_dict("records"), flexible.table.to_dict("records")
    # Under "vamba" the first letter of "answer" is what is read, so that A is right and B is wrong.
    assert row["read_otherwise"] == sum(
        a["correct"] != b["correct"]
        for a, b in zip(_scores(tmp_path, "vamba"), _scores(tmp_path, "flexible"), strict=True)
    )
    assert row["read_otherwise"] > 0.1 * row["answered"] and as_flexible["read_otherwise"] == 0
    notes = "\n".join(board.notes())
    assert "READ OTHERWISE: " in notes and "CUT OFF: " in notes and row["cut_off"] == row["answered"]
    assert "READ OTHERWISE" not in "\n".join(flexible.notes())


def _scores(folder: Path, protocol: str) -> list[Mapping[str, float]]:
    (run,) = scored_runs([folder / "out"], protocol)
    return [each.score.values for each in run.scored]


def test_a_missing_plugin_is_named(cli: Cli, results: Path) -> None:
    info = json.loads((results / "few" / "run.json").read_text())
    info["tasks"]["mlvu"]["source"] = "/gone/my_task.py"
    (results / "few" / "run.json").write_text(json.dumps(info))
    status, out, err = cli("leaderboard", results / "few")
    assert status == 1 and "--task-code /gone/my_task.py" in err and "LongVideoBench" in out, "the other task's"


def result(model: str, score: float, seconds: float, *, hardware: str = "H100", **more: Any) -> Result:
    costs = Costs(first_answer_s=Distribution(seconds, seconds, seconds, 1))
    metric = Metric(score, None, None, 10, 10)
    return Result("run", model, "t", "T", "vamba", **{"num_frames": 8, "costs": costs, "hardware": hardware} | more,
                  summary=Summary({"accuracy": metric}, {}), questions=10, answered=10)  # fmt: skip


def test_the_frontier_is_what_no_other_beats_on_the_same_hardware() -> None:
    results = [
        result("exact", 0.9, 5.0),
        result("slow", 0.9, 6.0),
        result("fast", 0.5, 1.0),
        result("worse", 0.4, 1.5),
        result("twin", 0.5, 1.0),
        result("elsewhere", 0.1, 9.0, hardware="CPU"),
        result("blind", 0.99, 0.01, reads_video=False),
        result("partial", 0.99, 0.5),
    ]
    results[-1].answered = 5
    board = Leaderboard(results)
    assert [each.model for each in board.frontier()] == ["exact", "fast", "twin", "elsewhere"]
    marked = [line.split("|")[1].strip() for line in board.long_markdown().splitlines() if "◆" in line]
    assert marked == ["exact", "fast", "twin", "elsewhere"]
    assert any("◆" in note for note in board.notes()) and any("different hardware" in note for note in board.notes())
    assert "◆" not in Leaderboard(results[:1]).long_markdown(), "one model is no choice"


def test_the_best_of_a_ladder_is_said_to_be_chosen() -> None:
    rungs = [
        result("m", score, 1.0, num_frames=frames) for frames, score in ((8, 0.5), (16, 0.7), (32, 0.6), (32, 0.6))
    ]
    notes = "\n".join(Leaderboard([*rungs, result("other", 0.9, 1.0, num_frames=8)]).notes())
    assert notes.count("BEST OF") == 1 and "BEST OF 3: m with 16 frames on " in notes


def test_ladders_are_drawn_as_bars() -> None:
    def measured(model: str, value: float, **more: Any) -> Result:
        summary = Summary({"accuracy": Metric(value, value - 0.05, value + 0.05, 10, 10)}, {})
        return dataclasses.replace(result(model, value, 1.0, **more), summary=summary, chance=0.25)

    rungs = [measured("m" * 30, value, num_frames=frames) for frames, value in ((32, 0.5), (8, 0.3), (512, 0.9))]
    blind = measured("blind", 0.26, num_frames=None, reads_video=False)
    reported = dataclasses.replace(measured("paper", 0.8, num_frames=64), source="a paper")
    board = Leaderboard([*rungs, measured("once", 0.7, num_frames=8), blind, reported])
    lines = board.charts().splitlines()
    assert max(map(len, lines)) <= 80 and "by number of frames" in lines[0]
    drawn = [re.sub("[▏▎▍▌▋▊▉]", "", line).split() for line in lines[2:]]
    assert [(line[-3], line[-2:]) for line in drawn[:4]] == [
        ("30.0", ["[25.0,", "35.0]"]),
        ("50.0", ["[45.0,", "55.0]"]),
        ("90.0", ["[85.0,", "95.0]"]),
        ("26.0", ["[21.0,", "31.0]"]),
    ]
    assert [line.count("█") for line in lines[2:6]] == [9, 15, 27, 7] and drawn[1][0] == "32"
    assert lines[2].startswith("mmm") and "…" in lines[2] and drawn[3][:2] == ["blind", "-"]
    assert drawn[4] == ["guessing", "·" * 8, "25.0"] and len(drawn) == 5
    assert board.charts() in board.to_markdown()
    assert Leaderboard(board.results[2:]).charts() == "", "one number of frames is no ladder"


def test_a_chart_marks_parts_and_keeps_ways_of_asking_apart() -> None:
    def rung(frames: int, **more: Any) -> Result:
        return dataclasses.replace(result("m", frames / 100, 1.0, num_frames=frames), **more)

    whole = [rung(8), rung(32)]
    assert "*" not in Leaderboard(whole).charts()
    part = Leaderboard([rung(8), rung(32, answered=5)]).charts()
    assert " 8.0\n" in part and " 32.0†\n" in part and "† of a part of the benchmark's questions" in part
    other = Leaderboard([*whole, rung(32, asked="frames shuffled")])
    assert other.charts() == Leaderboard(whole).charts(), "another way of asking is no rung"
    both = Leaderboard([*whole, *(rung(n, asked="shuffled") for n in (8, 32))]).charts().splitlines()
    assert [line.split()[0] for line in both[2:]][::2] == ["m", "m"] and both[4].startswith("m shuffled")


def test_who_guesses_is_on_no_frontier() -> None:
    def measured(value: float, low: float | None, **more: Any) -> Summary:
        return Summary({"accuracy": Metric(value, low, None if low is None else 1.0, 10, 10, **more)}, {})

    results = [result(name, 0.0, seconds, chance=0.25) for name, seconds in zip("abcde", (5, 4, 3, 2, 1), strict=True)]
    results[0].summary = measured(0.5, 0.26)
    results[1].summary = measured(0.6, 0.25)  # better and faster, but perhaps by chance
    results[2].summary = measured(0.2, 0.1)
    results[3].summary = measured(0.25, None)
    results[4].summary, results[4].random_weights = measured(0.9, 0.8), True
    assert [each.model for each in Leaderboard(results).frontier()] == ["a"]
    (marked,) = [line for line in Leaderboard(results).long_markdown().splitlines() if "◆" in line]
    assert marked.split("|")[1].strip() == "a"
    assert "◆" not in Leaderboard(results[1:]).to_markdown(), "nor in the notes"
    for each in results:
        each.random_weights, each.chance = False, None
    assert [each.model for each in Leaderboard(results).frontier()] == ["e"], "where chance is not known"
    error = result("error", 0.0, 1.0, chance=0.5)
    for low, high, taking in ((0.2, 0.4, True), (0.2, 0.6, False)):
        error.summary = Summary({"error": Metric(0.3, low, high, 10, 10, best=0.0)}, {})
        assert bool(Leaderboard([error]).frontier()) == taking, "less is better"


def test_percentages_are_not_asked_of_fractions(cli: Cli, results: Path) -> None:
    for query, column in (
        ("score > 20", "score"),
        ("score < 60", "score"),
        ("20 < accuracy <= 60", "accuracy"),
        ("num_frames >= 8 & (chance >= 25.5)", "chance"),
        ('model == "random" and ci95_low > 5', "ci95_low"),
    ):
        status, out, err = cli("leaderboard", results, "--where", query)
        assert (status, out) == (2, "") and f"{column} is a fraction from 0 to 1" in err, query
    assert "write 0.2 for 20 %" in cli("leaderboard", results, "--where", "score > 20")[2]
    for query in ("score > 0.2", "score <= 1", "num_frames > 20 and score < 1", "20 < num_frames", "`score` >= 0"):
        assert cli("leaderboard", results, "--where", query)[0] == 0, query
    points = result("graded", 3.5, 1.0)
    points.summary = Summary({"points": Metric(3.5, 3.0, 4.0, 10, 10, best=5.0, unit="points")}, {})
    assert len(Leaderboard([points]).select(where="score > 3").results) == 1


def test_what_reads_by_one_protocol_refuses_all(cli: Cli, results: Path, tmp_path: Path) -> None:
    more = [results / "many", "--output", tmp_path / "exported", "--format", "lmms-eval"]
    for verb, arguments in (("compare", [f"{results / 'few'}:random", f"{results / 'many'}:random"]), ("export", more)):
        status, _, err = cli(verb, *arguments, "--protocol", "all")
        assert status == 2 and f"{verb} reads responses by one protocol's rules" in err
    assert not (tmp_path / "exported").exists()


def test_rows_are_chosen_sorted_and_shown_in_every_form(cli: Cli, results: Path, tmp_path: Path) -> None:
    columns = ("--columns", "model,task,num_frames,score", "--sort", "score")
    status, out, _ = cli("leaderboard", results, "--where", 'task == "mlvu"', *columns, "--format", "json")
    rows = json.loads(out)
    assert status == 0 and {row["task"] for row in rows} == {"mlvu"} and len(rows) == 4
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    _, text, _ = cli("leaderboard", results, "--where", 'task == "mlvu"', *columns, "--format", "csv")
    assert [float(row["score"]) for row in csv.DictReader(text.strip().splitlines())] == [row["score"] for row in rows]
    _, latex, _ = cli("leaderboard", results, "--format", "latex")
    assert latex.strip().startswith(r"\begin{tabular}") and r"\toprule" in latex
    _, table, _ = cli("leaderboard", results, *columns)
    assert len([line for line in table.splitlines() if line.startswith("|")]) == 2 + 8
    for arguments, words in (
        (("--where", "nonsense == 1"), "--where 'nonsense == 1'"),
        (("--where", "score >"), "Columns: run, model"),
        (("--sort", "speed"), "--sort 'speed' is not a column (did you mean 'seeds'?); there are run, model"),
        (("--columns", "model,speed"), "no column 'speed' (did you mean 'seeds'?); there are run, model"),
    ):
        status, _, err = cli("leaderboard", results, *arguments)
        assert status == 2 and words in err
    cli("leaderboard", results, "--output", tmp_path / "tables")
    assert json.loads((tmp_path / "tables" / "leaderboard.json").read_text())[0]["run"] == "few"
    assert (tmp_path / "tables" / "leaderboard.tex").read_text().startswith(r"\begin{tabular}")


def test_costs_are_medians_with_percentiles_and_without_warm_up() -> None:
    def record(video: int, encode: float, generate: float, **more: Any) -> Record:
        cost = {
            "encode": {"s": encode, "gpu_allocated": 100 + video, "energy_j": 2.0},
            "preprocess": {"s": encode / 2, "energy_j": 1.0},
            "first_token": {"s": generate / 2, "energy_j": 1.0},
            "further_tokens": {"s": 0.5, "gpu_allocated": 50},
        }
        about = {"load_s": 1.0, "encode_s": encode, "generate_s": generate, "num_tokens": 11}
        return Record("q", f"v{video}", [], None, {}, 0, cost=cost, **about, **more)

    records = [record(0, 99.0, 99.0, warmup=True), record(0, 0.0, 99.0, warmup=True)]
    records += [record(v, float(v), 1.0 + q) for v in range(1, 22) for q in range(2)]
    costs = costs_of(records)
    assert costs.encode_s_per_video == Distribution(11.0, 2.0, 20.0, 21)
    assert costs.first_answer_s == Distribution(12.0, 3.0, 21.0, 21), "a video's encoding and its first response"
    assert costs.generate_s_per_question == Distribution(1.5, 1.0, 2.0, 42)
    assert costs.tokens_per_s == Distribution(20.0, 20.0, 20.0, 42)
    assert costs.first_answer_j == Distribution(3.0, 3.0, 3.0, 21), "preprocessing lies within encoding"
    assert costs.gpu_allocated == 121
    assert costs_of(records[:2]).encode_s_per_video == Distribution(99.0, 99.0, 99.0, 1), "nothing but warm-up"
    assert costs_of([Record("q", "v", [], None, {}, 0, num_tokens=1)]).encode_s_per_video is None, (
        "a record of somebody else's"
    )

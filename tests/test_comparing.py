"""Two models on the same questions, one run under all protocols, seeds, and what knows nothing."""

from __future__ import annotations

import csv
import itertools
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_files import MLVU_TYPES, longvideobench_rows, write_longvideobench, write_mlvu
from plugins import FolderTask
from stored import latest_responses
from videos import make_video

from vamba_eval import evaluate, load_task
from vamba_eval.contracts import LETTERS, Answer, Clip, GenerationSettings, ModelAdapter, Score, ScoredRecord
from vamba_eval.score.statistics import summarize
from vamba_eval.tables.compare import compare, differences_of
from vamba_eval.tables.leaderboard import Leaderboard

Cli = Callable[..., tuple[int, str, str]]


class Sayer(ModelAdapter):
    """Says what it was given, question by question, or a letter drawn by the seed."""

    name = "sayer"
    reads_video = False

    def __init__(self, said: Sequence[str] = ()) -> None:
        self.said = itertools.cycle(said or [""])
        self.draws = not said

    def encode(self, clip: Clip | None) -> None:
        return None

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        if self.draws:
            return [Answer(random.Random(f"{prompt} {settings.seed}").choice("ABCD")) for prompt in prompts]
        return [Answer(next(self.said)) for _ in prompts]


class Watcher(ModelAdapter):
    """Says whether it sees anything."""

    name = "watcher"
    encoded: list[bool] = []

    def encode(self, clip: Clip | None) -> bool:
        self.encoded.append(clip is not None)
        return clip is not None

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        return [Answer("A" if encoded else "B") for _ in prompts]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = longvideobench_rows(200)
    for i, row in enumerate(rows):  # several questions a video, so that clusters matter
        row["video_path"] = f"{i // 5}.mp4"
    write_longvideobench(tmp_path, rows)
    return tmp_path


def run(data: Path, model: ModelAdapter, name: str, **more: Any) -> Leaderboard:
    return evaluate(
        ["longvideobench"], [model], data_root=data, output=data / "runs", name=name, progress=False, **more
    )


def test_a_difference_is_paired_and_clustered(cli: Cli, data: Path) -> None:
    rng = random.Random(1)
    # B is right where A is, and somewhat more often: the pair differs far more surely than two intervals would say.
    right = [LETTERS[i % 3] for i in range(200)]
    a = [letter if rng.random() < 0.6 else "E" for letter in right]
    b = [x if x == letter or rng.random() < 0.8 else letter for x, letter in zip(a, right, strict=True)]
    run(data, Sayer(a), "a")
    run(data, Sayer(b), "b")
    (found,) = compare(str(data / "runs" / "a"), str(data / "runs" / "b"))
    headline = found.differences[0]

    d = np.array([(y == r) - (x == r) for x, y, r in zip(a, b, right, strict=True)], dtype=float)
    sums = (d - d.mean()).reshape(40, 5).sum(1)
    error = np.sqrt(40 / 39 * (sums**2).sum()) / 200
    assert headline.difference == pytest.approx(d.mean())
    t = 2.0226909  # of 39 degrees of freedom
    assert headline.low == pytest.approx(d.mean() - t * error, abs=1e-6)
    assert headline.high == pytest.approx(d.mean() + t * error, abs=1e-6)
    # and a bootstrap over videos agrees, which knows none of these formulas
    draws = np.random.default_rng(0).integers(0, 40, (4000, 40))
    means = d.reshape(40, 5)[draws].mean((1, 2))
    assert headline.low == pytest.approx(np.quantile(means, 0.025), abs=0.01)
    assert headline.high == pytest.approx(np.quantile(means, 0.975), abs=0.01)
    assert headline.p is not None and headline.p < 0.01

    groups = {(each.group, each.value): each for each in found.differences}
    some = [i for i in range(200) if groups and longvideobench_rows(200)[i]["duration_group"] == 60]
    assert groups["duration_group", "60"].difference == pytest.approx(d[some].mean())
    assert groups["duration_group", "60"].num_questions == len(some)
    assert len(found.flips) == int(np.abs(d).sum())
    assert all((flip.score_a, flip.score_b) == (0, 1) for flip in found.flips)

    status, out, _ = cli("compare", data / "runs" / "a", data / "runs" / "b", "--output", data / "tables")
    assert status == 0 and f"{100 * d.mean():+.1f} [" in out and f"{len(found.flips)} questions flipped" in out
    with open(data / "tables" / "flips.csv") as file:
        assert [row["question"] for row in csv.DictReader(file)] == [flip.question for flip in found.flips]


def test_a_model_does_not_differ_from_itself(cli: Cli, data: Path) -> None:
    for name in ("a", "b"):
        run(data, Sayer(["A", "B"]), name)
    (found,) = compare(str(data / "runs" / "a"), f"{data / 'runs' / 'b'}:sayer")
    assert (found.differences[0].difference, found.differences[0].p, found.flips) == (0, None, [])
    status, _, err = cli("compare", data / "runs" / "a", data / "runs" / ".." / "runs" / "a")
    assert status == 2 and "are the same: name two runs" in err
    status, _, err = cli("compare", data / "runs" / "a", f"{data / 'runs' / 'a'}:sawyer")
    assert status == 2 and "no model 'sawyer' (did you mean 'sayer'?); it has sayer" in err


def test_the_headline_of_a_mean_of_types_is_compared_as_such(tmp_path: Path) -> None:
    write_mlvu(tmp_path, dict(zip(MLVU_TYPES, (30, 10, 4, 5, 6, 7, 9), strict=True)))
    boards = [
        evaluate(["mlvu"], ["constant"], data_root=tmp_path, output=tmp_path, name=letter, progress=False,
                 model_args={"constant": {"letter": letter}})
        for letter in "AB"
    ]  # fmt: skip
    (found,) = compare(str(tmp_path / "A"), str(tmp_path / "B"))
    means = [board.results[0].summary.metrics["M-Avg"].value for board in boards]
    assert found.differences[0].value == "M-Avg" and found.differences[1].value == "accuracy"
    assert found.differences[0].difference == pytest.approx(means[1] - means[0])
    assert found.differences[0].difference != pytest.approx(found.differences[1].difference)


def test_runs_that_share_nothing_are_named(cli: Cli, data: Path) -> None:
    write_mlvu(data, 4)
    run(data, Sayer(["A"]), "a")
    evaluate(["mlvu"], ["constant"], data_root=data, output=data / "runs", name="m", progress=False)
    status, _, err = cli("compare", data / "runs" / "a", data / "runs" / "m")
    assert status == 2 and "sayer on longvideobench" in err and "constant on mlvu" in err


def test_ladders_are_compared_by_the_frames_that_both_saw(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "films").mkdir()
    for name in ("one", "two"):
        make_video(tmp_path / "films" / f"{name}.mp4", frames=12)
    about: dict[str, Any] = {"data_root": tmp_path / "films", "output": tmp_path, "progress": False}
    evaluate([FolderTask()], [Watcher(), Sayer(["A"])], name="a", ladder=(2, 4, 8), **about)
    evaluate([FolderTask()], [Watcher()], name="b", ladder=(4, 8), **about)
    evaluate([FolderTask()], ["constant"], name="c", **about)
    a, b, c = (str(tmp_path / name) for name in "abc")
    names = [(each.name_a.split(", ")[1], each.name_b.split(", ")[1]) for each in compare(a, b)]
    assert names == [("4 frames", "4 frames"), ("8 frames", "8 frames")]
    assert len(compare(f"{a}:sayer", b)) == 2, "who sees no video is compared with each number"
    (other,) = compare(f"{a}/2-frames:watcher", f"{b}/8-frames")
    assert "the two differ in sampling: num_frames 2 and 8" in other.notes

    status, out, _ = cli("compare", f"{a}:sayer", b)
    assert status == 0 and max(map(len, out.splitlines())) <= 80, out
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, cli("compare", f"{a}:sayer", b)[1].splitlines())) <= 66, "numbers are never cut"
    status, _, err = cli("compare", f"{a}:sayer", f"{a}/2-frames:watcher")
    assert status == 0, err
    status, _, err = cli("compare", a, c)
    assert status == 2 and err.rstrip().endswith(f"name the models: compare {a}:MODEL {c}")


def test_one_run_under_every_protocol(cli: Cli, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # "I think B": the paper's scripts take the I, lmms-eval the B.
    run(data, Sayer(["I think B", "B", "I think B", "C"]), "a")
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = cli("rescore", data / "runs", "--protocol", "all", "--output", data / "tables")
    table = out.partition("responses change")[2].partition("... and")[0]
    assert status == 0 and max(map(len, table.splitlines())) <= 80 and "0 files of answers" not in out, out
    rows = [line.split() for line in out.splitlines() if line.startswith("sayer (")]
    assert {row[1] for row in rows} == {"(vamba)", "(lmms-eval)", "(official)", "(flexible)"}
    with open(data / "tables" / "rescored.csv") as file:
        changed = {row["question"]: row for row in csv.DictReader(file)}
    expected = [row for i, row in enumerate(longvideobench_rows(200)) if i % 3 == 1 and i % 2 == 0]
    assert set(changed) == {row["id"] for row in expected}
    one = changed[expected[0]["id"]]
    assert (one["extracted (vamba)"], one["correct (vamba)"]) == ("I", "0.0")
    assert (one["extracted (lmms-eval)"], one["correct (lmms-eval)"]) == ("B", "1.0")


def test_seeds_give_mean_and_spread_and_go_on(cli: Cli, data: Path) -> None:
    sampled = {"do_sample": True}
    run(data, Sayer(), "a", generation=sampled, seeds=2)
    path = data / "runs" / "a" / "longvideobench.sayer.jsonl"
    before = path.read_text()
    board = run(data, Sayer(), "a", generation=sampled, seeds=3)
    assert path.read_text().startswith(before), "what was asked is not asked again"
    records = latest_responses(path).values()
    assert len(records) == 600 and len(path.read_text().splitlines()) == 600
    by_seed = defaultdict(list)
    for record in records:
        by_seed[record["seed"]].append(record["response"] == record["answer"])
    means = [np.mean(by_seed[seed]) for seed in (0, 1, 2)]
    metric = board.results[0].summary.metrics["accuracy"]
    assert metric.value == pytest.approx(np.mean(means)) and metric.spread == pytest.approx(np.std(means, ddof=1))
    assert metric.num_questions == 200 and board.results[0].complete
    assert f"± {100 * np.std(means, ddof=1):.1f}" in board.long_markdown()
    # One seed after three is still a whole run of three.
    assert run(data, Sayer(), "a", generation=sampled).results[0].complete
    status, _, err = cli("--tasks", "longvideobench", "--models", "random", "--data-root", data, "--seeds", "3")
    assert status == 2 and "longvideobench is answered greedily" in err and "--temperature" in err


def test_temperature_switches_sampling_on(cli: Cli, data: Path) -> None:
    command = ("--tasks", "longvideobench", "--models", "random", "--data-root", data, "--output", data / "runs")
    assert cli(*command, "--temperature", 0.7, "--top-p", 0.9, "--seeds", 2)[0] == 0
    info = json.loads((data / "runs" / "longvideobench" / "run.json").read_text())
    settings = info["tasks"]["longvideobench"]["generation"]
    assert (settings["do_sample"], settings["temperature"], settings["top_p"]) == (True, 0.7, 0.9)


def test_baselines_are_one_flag_away(cli: Cli, tmp_path: Path) -> None:
    rows = longvideobench_rows(6)
    write_longvideobench(tmp_path, rows)
    for row in rows:
        make_video(tmp_path / "longvideobench" / "videos" / row["video_path"], frames=10)
    Watcher.encoded = []
    model = f"{__file__}:Watcher"
    command = ("--tasks", "longvideobench", "--models", f"watcher={model}", "--data-root", tmp_path)
    status, out, _ = cli(*command, "--output", tmp_path / "runs", "--baselines")
    assert status == 0
    names = [line.split()[0] for line in out.partition("protocol")[0].splitlines() if line.strip("─ ")]
    assert names == ["Model", "watcher", "guessing", "watcher-blind", "random", "constant"]
    folder = tmp_path / "runs" / "longvideobench"
    said = [
        {record["response"] for record in latest_responses(folder / f"longvideobench.{label}.jsonl").values()}
        for label in ("watcher", "watcher-blind")
    ]
    assert said == [{"A"}, {"B"}]
    chance = np.mean([1 / len(row["candidates"]) for row in rows])
    assert re.search(rf"^guessing +{100 * chance:.1f}\s*$", out, re.MULTILINE)


def test_lmms_logs_hold_every_response(cli: Cli, data: Path) -> None:
    run(data, Sayer(["A", "(B) because\nof \ud83d"]), "a")
    status, out, _ = cli("export", data / "runs", "--format", "lmms-eval", "--output", data / "exported")
    assert status == 0 and "_samples_longvideobench.jsonl" in out
    (samples,) = (data / "exported").rglob("*_samples_longvideobench.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    assert [line["doc_id"] for line in lines] == list(range(200))
    assert lines[1]["filtered_resps"] == ["(B) because\nof \ud83d"] and lines[1]["target"] == "B"
    (results,) = (data / "exported").rglob("*_results.json")
    value = json.loads(results.read_text())["results"]["longvideobench"]["accuracy,none"]
    assert value == pytest.approx(np.mean([line["accuracy"] for line in lines]))


def test_judged_benchmarks_are_compared_by_their_own_measure() -> None:
    """F1 is no mean of what each response earns; a bootstrap over videos knows nothing of the jackknife."""
    task, rng = load_task("dream1k"), np.random.default_rng(3)
    sources = [f"source{i % 5}" for i in range(400)]
    base = rng.uniform(0, 0.9, (400, 2))
    both = [base, np.clip(base + rng.normal(0.03, 0.1, (400, 2)), 0, 1)]

    def records(side: int, chosen: Sequence[int]) -> list[ScoredRecord]:
        return [
            ScoredRecord(
                f"q{i}.{n}",
                f"v{i}.{n}",
                {"source": sources[i]},
                Score(dict(zip(("recall", "precision"), both[side][i].tolist(), strict=True))),
            )
            for n, i in enumerate(chosen)
        ]

    everything = list(range(400))
    found = list(differences_of(task.measures, records(0, everything), records(1, everything)))
    headline = found[0]
    assert headline.value == "F1" and {(each.group, each.value) for each in found} >= {("source", "source3")}
    values = [summarize(task.measures, records(side, everything)).headline[1].value for side in (0, 1)]
    assert headline.difference == pytest.approx(values[1] - values[0])
    draws = []
    for _ in range(300):
        chosen = rng.integers(0, 400, 400).tolist()
        a, b = (task.measures["F1"].function(records(side, chosen)) or 0.0 for side in (0, 1))
        draws.append(b - a)
    assert headline.low is not None and headline.high is not None
    assert headline.high - headline.low == pytest.approx(2 * 1.96 * np.std(draws), rel=0.25)
    assert headline.low < values[1] - values[0] < headline.high and headline.p is not None and headline.p < 0.001

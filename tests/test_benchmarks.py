"""Every script in benchmarks/ at its smallest size: that it runs to its end and that its figures are there.

How large a figure is says nothing at such sizes, so what is asserted is that it can be one: a time is above nothing, a
share is a share.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from vamba_eval import registry

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks"
TIMEOUT_S = 300

Check = Callable[[str], None]


@dataclass(frozen=True)
class Smallest:
    """How a script is called here, ``{tmp}`` standing for an empty folder; what it needs; what it must print."""

    arguments: tuple[str, ...]
    needs: tuple[str, ...]
    check: Check


SMALLEST: dict[str, Smallest] = {}


def smallest(*arguments: str, needs: tuple[str, ...] = ()) -> Callable[[Check], Check]:
    """The script called like the function that looks at what it prints."""

    def add(check: Check) -> Check:
        SMALLEST[check.__name__] = Smallest(arguments, needs, check)
        return check

    return add


def table(printed: str, first_heading: str) -> list[dict[str, str]]:
    """The rows of the Markdown table whose first column is called so."""
    rows: list[list[str]] = []
    for line in printed.splitlines():
        cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        if line.startswith("|") and (rows or cells[0] == first_heading):
            rows.append(cells)
        elif rows:
            break
    assert len(rows) > 2, f"no table of {first_heading!r}:\n{printed}"
    header, _, *body = rows
    return [dict(zip(header, row, strict=True)) for row in body]


def number(cell: str) -> float:
    return float(cell.replace(",", ""))


def numbers(row: dict[str, str], *but: str) -> list[float]:
    """Of all columns but these."""
    return [number(cell) for heading, cell in row.items() if heading not in but]


# ------------------------------------------------------------------------------------------------- the scripts


@smallest("--videos", "2", "4")
def harness_overhead(printed: str) -> None:
    rows = table(printed, "questions")
    assert [row["questions"] for row in rows] == ["6", "12"]
    for row in rows:
        assert all(figure >= 0 for figure in numbers(row))
        assert 0 < number(row["ms/question"]) < 2000
        assert number(row["leaderboard command, s"]) > 0


@smallest("--scale", "0.01", "--kinds", "driver,disk,answers,questions,videos")
def faults(printed: str) -> None:
    rows = table(printed, "fault")
    assert [row["fault"] for row in rows] == [
        *("driver killed", "disk full", "odd answers", "many questions", "damaged videos"),
    ]
    for row in rows:
        assert number(row["tried"]) > 0
        assert not any(number(row[count]) for count in ("hangs", "crashes", "leaks", "lost", "doubled")), row
    assert re.fullmatch(r"every byte of [\d,]{5} of two records, and 1 whole commands", rows[1]["note"])


@smallest("--rounds", "2", "--encode-ms", "2", "--generate-ms", "1")
def metering_overhead(printed: str) -> None:
    rows = table(printed, "")
    assert [row[""] for row in rows] == [
        *("wall clock", "the same, without against without"),
        *("CPU time of the process, all threads", "the same, without against without"),
    ]
    for row in rows:
        low, high = re.findall(r"(-?[\d.]+)(?: to |\)$)", row["overhead, % (5th to 95th percentile of the rounds)"])
        assert float(low) <= float(high)
    for row in rows[::2]:
        assert all(0 < number(row[which]) < 60 for which in ("without, s", "with, s"))
    own = re.search(r"own work: ([\d.]+) ms a run, (\d+) µs a video, (\d+) µs a\nquestion", printed)
    assert own is not None and all(0 < float(figure) < 1e5 for figure in own.groups()), printed
    if Path("/usr/bin/time").exists():
        memory = re.search(r"memory ([\d,]+) MiB, maximum resident size ([\d,]+) MiB.*host_bytes ([\d,]+)", printed)
        assert memory is not None, printed
        ours, kernels, record = map(number, memory.groups())
        assert ours == pytest.approx(kernels, rel=0.02) and 100 < record <= 1.02 * ours


@smallest(
    *("--folder", "{tmp}", "--files", "seconds.hevc", "--frames", "4"),
    *("--loop", "seconds.h264", "--loop-videos", "2", "--loop-frames", "4"),
    needs=("decord",),
)
def video_loading(printed: str) -> None:
    lines = [line for line in printed.splitlines() if "torchcodec | failed" not in line]
    if loads("torchcodec.decoders"):  # it needs FFmpeg's shared libraries
        assert lines == printed.splitlines()
    *read, limit = table("\n".join(lines), "file")
    assert [row["reader"] for row in read if row["reader"] != "torchcodec"] == ["decord", "ours", "sequential"]
    for row in read:
        assert (row["file"], row["frames"], row["bytes"]) == ("seconds.hevc", "4", "same")
        assert number(row["peak MiB"]) > 10 and number(row["x decord"]) > 0
    needed = re.match(r"limit: (\d+) frames to decode", limit["reader"])
    assert needed is not None and 4 <= int(needed[1]) <= 120, limit
    loops = table(printed, "loop")
    assert len(loops) == 2 and all(number(row["videos a minute"]) > 0 for row in loops)
    assert re.search(r"^[\d.]+ times$", printed, re.MULTILINE)


@smallest(
    *("--cpu", "--films", "h264-90p-0.05", "--videos", "2", "--frames", "4", "--decode-on", "cpu,auto"),
    *("--reading-s", "0.5", "--processes", "1", "--folder", "{tmp}"),
    needs=("decord",),
)
def whole_run(printed: str) -> None:
    alone, cpu, auto, reference = table(printed, "film")
    assert {row["film"] for row in (alone, cpu, auto, reference)} == {"h264-90p-0.05"}
    for row in (cpu, auto):
        assert 0 < number(row["waits %"]) < 100
        assert number(row["limit s"]) >= number(alone["model s"]) > number(alone["encode s"]) > 0
        assert number(row["s/video"]) > number(row["model s"]) > 0
    assert number(reference["s/video"]) > 0


@smallest(
    *("--videos", "1", "--seconds", "2", "--video-size", "160x120", "--frames", "4", "--work", "{tmp}"),
    needs=("lmms_eval", "decord"),
)
def lmms_eval_throughput(printed: str) -> None:
    rows = table(printed, "Model in lmms-eval")
    assert [row["Model in lmms-eval"] for row in rows] == ["lmms-eval's qwen2_vl", "vamba_qwen2_vl"]
    for row in rows:
        assert all(figure >= 0 for figure in numbers(row, "Model in lmms-eval"))
        assert number(row["Questions/min"]) == pytest.approx(60 * 3 / number(row["Seconds"]), rel=0.1)
    theirs, ours = (number(row["Video tokens"]) for row in rows)
    assert theirs == ours > 0, "both are shown as much"
    assert re.search(r"answers [\d.]+ times as many", printed)


@smallest("--only", "lvbench", "--replicas", "2", "--videos", "4", "--seconds", "2", needs=("ray",))
def scaling(printed: str) -> None:
    (row,) = table(printed, "benchmark")
    assert (row["benchmark"], row["videos"], row["replicas"]) == ("lvbench", "4", "2")
    assert all(0 < figure <= 100 for figure in numbers(row, "benchmark", "videos", "replicas"))
    assert number(row["measured"]) <= number(row["bound"]), "what no scheduling can pass"
    assert number(row["and reading in turn"]) < number(row["static shards"])


@smallest("--cpu", "--gpus", "2", "--videos", "2", "--seconds", "1", "2", needs=("ray",))
def gpus(printed: str) -> None:
    rows = table(printed, "run")
    assert [row["run"] for row in rows] == ["--replicas 1", "--replicas 2"]
    assert rows[0]["times one GPU"] == "1.00"
    for row in rows:
        assert number(row["s"]) > 0 and number(row["times one GPU"]) > 0
        assert row["responses as alone"] == row["as with one GPU"] == "4 of 4"
    assert len(re.findall(r"2 videos in [\d.]+ s by [12] replica", printed)) == 2


@smallest("--output", "{tmp}/curve.svg", needs=("matplotlib",))
def small_curve(printed: str) -> None:
    assert re.match(r"9,300 steps: .*curve\.svg$", printed)


@smallest("--cpu", "--models", "qwen2_vl,qwen2_5_vl", "--frames", "2", "--size", "56x56", "--questions", "2")
def transformers_speed(printed: str) -> None:
    rows = table(printed, "Model")
    assert [row["Model"] for row in rows] == ["qwen2_vl", "qwen2_5_vl"]
    for row in rows:
        steps = [heading for heading in row if heading.startswith("Step")]  # differences, which noise may drown
        assert len(steps) == 3 and all(figure > 0 for figure in numbers(row, "Model", *steps))


@smallest("--cpu", "--frames", "2,4", "--size", "64x64", "--stages", "4", "--longest", "8")
def vamba_speed(printed: str) -> None:
    rows = table(printed, "frames")
    assert [row["frames"] for row in rows] == ["2", "4"]
    for row in rows:
        assert row["peak_gib"] == row["plain_peak_gib"] == "nan", "there is no GPU whose memory it could be"
        # Differences of two times, which may be lost in noise here.
        differences = ("decode_ms", "plain_decode_ms")
        assert all(figure > 0 for figure in numbers(row, "peak_gib", "plain_peak_gib", *differences))
    assert number(rows[0]["tokens"]) < number(rows[1]["tokens"])
    stages = table(printed, "stage, 4 frames")
    assert len(stages) == 12 and all(number(row["s"]) > 0 for row in stages)
    assert re.search(r"^8 frames: [\d.]+ s to the first token", printed, re.MULTILINE)


# --------------------------------------------------------------------------------------------------- the tests

NAMES = sorted({path.stem for path in FOLDER.glob("*.py")} | SMALLEST.keys())


def loads(module: str) -> bool:
    try:
        importlib.import_module(module)
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def call(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Without a GPU, and with one thread of torch's: at these sizes several stand in each other's way."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)


def imported(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_at_its_smallest_size(name: str, tmp_path: Path) -> None:
    assert name in SMALLEST, f"say in {Path(__file__).name} how benchmarks/{name}.py is called at its smallest size"
    how = SMALLEST[name]
    for module in how.needs:
        pytest.importorskip(module)
    done = call(name, *(argument.format(tmp=tmp_path) for argument in how.arguments))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    how.check(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_importing_it_runs_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = imported(name, monkeypatch)
    assert module.__doc__ and f"python benchmarks/{name}.py" in module.__doc__, "it says how it is called"
    assert callable(module.main)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["gpus", "transformers_speed", "vamba_speed"])
def test_without_a_gpu_it_says_so(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = imported(name, monkeypatch)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    with pytest.raises(SystemExit) as stop:
        module.main()
    said = capsys.readouterr()
    assert stop.value.code == 2 and not said.out
    assert len(said.err.splitlines()) == 1 and "--cpu" in said.err, said.err


def test_the_model_that_gpus_measures_takes_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is too large to be run here."""
    label, _, arguments = imported("gpus", monkeypatch).VAMBA.partition(":")
    given = {argument.partition("=")[0] for argument in arguments.split(",")}
    assert label == "vamba" and "random" in given
    assert given <= inspect.signature(registry.adapter_class(label)).parameters.keys()


def test_the_page_tells_of_every_script() -> None:
    told = re.findall(r"^## (\w+)\.py$", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(told) == NAMES

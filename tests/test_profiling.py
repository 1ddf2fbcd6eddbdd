"""Sweeps: points in processes of their own, what ends them, and what is made of them."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from vamba_eval.profile import point, tables
from vamba_eval.profile.point import make_clip, measure, prompt_of
from vamba_eval.profile.sweep import MOST_FRAMES, How, ModelSpec, bisect_longest, read_points, read_sweep, sweep

PLUGINS = Path(__file__).parent / "plugins.py"
LIMITED = f"{PLUGINS}:Limited"
SIZE = (64, 36)
Cli = Callable[..., tuple[int, str, str]]


def limited(label: str = "limited", **arguments: Any) -> ModelSpec:
    return ModelSpec(label, LIMITED, {key: str(value) for key, value in arguments.items()})


def rows_of(folder: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    return {(row["model"], row["phase"], row["frames"]): row for row in read_points(folder)}


def cells_of(markdown: str) -> list[list[str]]:
    """Of each row of the tables in ``markdown``."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


# --------------------------------------------------------------------------------------------- measuring


@pytest.mark.parametrize("source", ["vamba", "qwen2_vl"])
def test_every_phase_of_a_real_model(source: str) -> None:
    request = {"source": source, "arguments": {"random": "small", "device": "cpu"}, "frames": 6}
    request |= {"width": 112, "height": 84, "prompt_tokens": 80, "new_tokens": 8, "repeats": 2}
    prefill, train = (measure({**request, "phase": phase}) for phase in ("prefill", "train"))
    # A token's time is a difference of two: of some tokens and of several times, so that a pause of the machine's
    # is less than it.
    decode = measure({**request, "phase": "decode", "new_tokens": 64, "repeats": 5})
    assert prefill["video_tokens"] == decode["video_tokens"] == 3 * 3 * 4
    assert prefill["prompt_tokens"] == pytest.approx(80, abs=1) and decode["new_tokens"] == 64
    samples = prefill["samples"]
    assert {name: len(values) for name, values in samples.items()} == dict.fromkeys(samples, 2)
    assert set(samples) == {"first_answer_s", "preprocess_s", "encode_s", "question_s"}
    for whole, encode, question in zip(
        samples["first_answer_s"], samples["encode_s"], samples["question_s"], strict=True
    ):
        assert whole >= encode + question > 0
    assert all(inner < outer for inner, outer in zip(samples["preprocess_s"], samples["encode_s"], strict=True))
    assert 0 < median(decode["samples"]["token_s"]) < median(decode["samples"]["answer_s"])
    assert 0 < decode["token_flops"] < prefill["flops"] < train["flops"]
    for forward, backward, step in zip(
        *(train["samples"][f"{n}_s"] for n in ("forward", "backward", "step")), strict=True
    ):
        assert 0 < forward + backward <= step
    assert all(row["host_bytes"] > 1 << 20 and row["model_is"]["weights"] == "random" for row in (prefill, train))


def test_flops_grow_as_the_model_does() -> None:
    """A token's operations are twice the weights that it meets, and attention to what is there."""
    from vamba_eval.model_adapters._decoding import room_for
    from vamba_eval.model_adapters.qwen2_vl import BEGINNING, Qwen2VLAdapter

    request = {"source": "qwen2_vl", "arguments": {"random": "small", "device": "cpu"}, "phase": "decode"}
    request |= {"width": 112, "height": 84, "prompt_tokens": 60, "new_tokens": 6, "repeats": 1}
    few, many = (measure({**request, "frames": frames}) for frames in (4, 20))
    adapter = Qwen2VLAdapter(device="cpu")
    model = adapter.model
    matrices = [
        w.numel() for n, w in model.named_parameters() if w.ndim == 2 and "visual" not in n and "embed" not in n
    ]
    text = model.config.text_config
    per_key = 4 * text.num_hidden_layers * text.hidden_size  # queries by keys and weights by values, all heads
    before = len(adapter.tokenizer(f"{BEGINNING}<|vision_start|><|vision_end|>").input_ids)
    keys = few["video_tokens"] + before + room_for(few["prompt_tokens"] + few["new_tokens"] - before)  # empty ones too
    assert few["token_flops"] == pytest.approx(2 * sum(matrices) + per_key * keys, rel=0.01)
    assert many["token_flops"] - few["token_flops"] == per_key * (many["video_tokens"] - few["video_tokens"])


def test_without_repeats_only_whether_it_fits() -> None:
    request = {"source": LIMITED, "arguments": {}, "phase": "prefill", "frames": 4, "width": 64, "height": 36}
    row = measure({**request, "prompt_tokens": 20, "new_tokens": 4, "repeats": 0})
    assert row["samples"] == {} and "flops" not in row


def test_prompts_have_the_length_asked_for() -> None:
    from vamba_eval.model_adapters.vamba.adapter import VambaAdapter

    class Silent(VambaAdapter):
        def generate(self, *args: Any) -> Any:
            return [type(a)(a.text, a.num_tokens) for a in super().generate(*args)]

    clip = make_clip(4, 112, 84)
    adapter = VambaAdapter(device="cpu")
    for tokens in (160, 1):
        answer = adapter.generate(adapter.encode(clip), [prompt_of(adapter, clip, tokens)], point.GenerationSettings(1))
        least = adapter.generate(adapter.encode(clip), [" a"], point.GenerationSettings(1))[0].prompt_tokens
        assert abs(answer[0].prompt_tokens - max(tokens, least)) <= 1
    assert prompt_of(Silent(device="cpu"), clip, 5) == " a a a a a"


def test_random_weights_are_released_ones_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    from vamba_eval import registry

    built: list[dict[str, Any]] = []
    monkeypatch.setattr(registry, "load_adapter", lambda source, **arguments: built.append(arguments))
    for arguments in ({}, {"random": "small"}, {"pretrained": "here", "dtype": "float16"}):
        point.build_adapter("vamba", arguments)
    point.build_adapter("random", {"dtype": "float16", "device": "cpu"})  # takes neither
    assert built == [{"random": "released"}, {"random": "small"}, {"pretrained": "here", "dtype": "float16"}, {}]


def test_no_decoder_is_imported() -> None:
    code = (
        "import sys\nfrom vamba_eval.cli import main\nfrom vamba_eval.profile import point, sweep, tables\n"
        "request = dict(source='vamba', arguments={'random': 'small', 'device': 'cpu'}, phase='prefill', frames=2,"
        "width=56, height=56, prompt_tokens=40, new_tokens=2, repeats=1)\n"
        "point.measure(request)\n"
        "print([m for m in ('av', 'decord', 'torchcodec', 'pandas') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(PLUGINS.parent.parent)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.stdout.strip().splitlines()[-1] == "[]", result.stderr


# ----------------------------------------------------------------------------------------------- sweeps


def test_a_sweep_of_two_models_goes_on_where_it_stopped(cli: Cli, tmp_path: Path) -> None:
    log = tmp_path / "log"
    models = ("--models", f"one={LIMITED},two={LIMITED}", "--model-args", f"one:limit=8,log={log}")
    models += ("--model-args", f"two:limit=99,log={log}", "--size", "64x36", "--output", tmp_path / "out")
    command = (
        "profile",
        *models,
        "--phase",
        "prefill,decode,train",
        "--frames",
        "4..16",
        "--repeats",
        2,
    )
    status, out, err = cli(*command)
    assert status == 0, err
    rows = rows_of(tmp_path / "out")
    assert Counter(row["outcome"] for row in rows.values()) == {"ok": 2 * 3 * 3 - 3, "out of memory": 3}
    assert {key for key, row in rows.items() if row["outcome"] != "ok"} == {("one", p, 16) for p in point.PHASES}
    assert rows["one", "prefill", 16]["detail"] == "CUDA out of memory. Tried to allocate 3.00 GiB."
    assert "**out of memory at 16**" in out and ["one", "prefill", "64x36", "8", "out of memory at 16"] in cells_of(out)
    token_s = rows["two", "decode", 16]["samples"]["token_s"]
    assert len(token_s) == 2 and sum(token_s) / 2 == pytest.approx(0.002, rel=0.5)

    before = log.read_text()
    pids = {line.split()[1] for line in before.splitlines()}
    assert len(pids) == 2 * 3 * 3, "each point is a process of its own"
    assert str(os.getpid()) not in pids
    points = tmp_path / "out" / "points.jsonl"
    lines = points.read_text().splitlines(keepends=True)
    points.write_text("".join(lines[:-2]) + lines[-2][:50])  # as a kill -9 leaves it
    status, _, err = cli(*command)
    assert status == 0 and len(rows_of(tmp_path / "out")) == 18
    assert {line.split()[0] for line in log.read_text()[len(before) :].splitlines()} == {"8", "16"}, (
        "the last two alone"
    )
    status, _, err = cli(*command, "--repeats", 3)
    assert status == 2 and "holds another sweep" in err and "how.repeats: 2 there, 3 now" in err
    status, _, err = cli(*command[:2], f"one={LIMITED}", *command[3:5], "--model-args", "one:limit=7", *command[7:])
    assert status == 2 and "models.one.limit: 8 there, 7 now" in err


def test_a_file_that_has_changed_is_another_model(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text((PLUGINS).read_text())
    command = ("profile", "--models", f"one={file}:{LIMITED.rpartition(':')[2]}", "--model-args", "one:limit=99")
    command += ("--size", "64x36", "--phase", "prefill", "--frames", 4, "--repeats", 1, "--output", tmp_path / "out")
    assert cli(*command)[0] == 0 and "adapter_source" not in (tmp_path / "out" / "profile.md").read_text()
    file.write_text(file.read_text() + "\n# edited\n")
    status, _, err = cli(*command)
    assert status == 2 and "holds another sweep" in err and "models.one.adapter_source" in err


def test_what_is_written(cli: Cli, tmp_path: Path) -> None:
    common = ("--size", "640x360", "--frames", "64,128", "--repeats", 2, "--output", tmp_path)
    status, out, err = cli(
        "profile", "--models", f"m={LIMITED}", "--model-args", "m:limit=64", "--phase", "prefill", *common
    )
    assert status == 0, err
    with open(tmp_path / "profile.csv", newline="") as file:
        fitting, too_long = list(csv.DictReader(file))
    assert (fitting["frames"], fitting["outcome"], fitting["video_tokens"]) == ("64", "ok", "640")
    assert (
        float(fitting["first_answer_s_p5"]) <= float(fitting["first_answer_s"]) <= float(fitting["first_answer_s_p95"])
    )
    assert too_long["outcome"] == "out of memory" and too_long["first_answer_s"] == ""
    environment = json.loads((tmp_path / "sweep.json").read_text())["environment"]
    for row in (fitting, too_long):
        assert row["cpu"] == environment["hardware"]["cpu"] and row["torch"] == environment["packages"]["torch"]
        assert row["python"] and row["vamba_eval"] and "driver" in row and row["arguments"] == "limit=64"
    whole = json.loads((tmp_path / "profile.json").read_text())
    assert len(whole["points"]) == 2 and whole["how"]["prompt_tokens"] == 160
    table = (tmp_path / "profile.md").read_text()
    assert environment["hardware"]["cpu"] in table and f"torch {environment['packages']['torch']}" in table
    svg = (tmp_path / "profile-prefill-640x360.svg").read_text()
    assert "<svg" in svg and (tmp_path / "profile-prefill-640x360.png").read_bytes()[:4] == b"\x89PNG"
    assert f"  {tmp_path / 'profile-prefill-640x360.svg'}" in out
    (tmp_path / "profile.md").unlink()
    status, out, _ = cli("profile", "--tables-only", "--output", tmp_path)
    assert status == 0 and (tmp_path / "profile.md").read_text() == table


def test_the_papers_points_are_drawn_beside_ours_at_its_size() -> None:
    info = {
        "how": {},
        "models": {},
        "environment": {"hardware": {"cpu": "c"}, "packages": {}, "python": "3", "vamba_eval": "1"},
    }
    row = {"model": "mine", "phase": "prefill", "frames": 64, "outcome": "ok", "samples": {"first_answer_s": [1.0]}}
    row |= {"gpu_allocated": 25 << 30, "flops": 1e14, "reported_as": "Vamba"}
    beyond = {**row, "frames": 2048, "outcome": "out of memory", "samples": {}, "gpu_allocated": None, "flops": None}
    figure = tables._figure(info, "prefill", (640, 360), [row, beyond])
    memory = next(axes for axes in figure.axes if "memory" in axes.get_title())
    drawn = [(list(line.get_xdata()), list(line.get_ydata()), line.get_color()) for line in memory.lines]
    assert ([64], [25.0], "C0") in drawn
    assert ([64, 128, 256, 512, 1024], [25.0, 28.0, 33.0, 45.0, 67.0], "C0") in drawn, "Vamba's, in the color of ours"
    assert ([64, 128, 256], [27.0, 38.0, 60.0], "0.5") in drawn
    assert [text.get_text() for text in memory.texts] == ["out of memory\nat 2,048"]
    assert "other hardware" in figure._supxlabel.get_text().replace("\n", " ")
    other = tables._figure(info, "prefill", (480, 270), [row])
    assert all(len(axes.lines) == 1 for axes in other.axes) and "paper" not in other._supxlabel.get_text()


# ------------------------------------------------------------------------------------- what ends a point


@pytest.mark.parametrize(
    ("then", "outcome", "detail"),
    [
        ("torch", "out of memory", "CUDA out of memory. Tried to allocate 4.00 GiB."),
        ("host", "out of host memory", "Unable to allocate 4.00 GiB"),
        ("killed", "out of host memory", "SIGKILL"),
        ("segfault", "crashed", "SIGSEGV"),
        ("error", "crashed", "RuntimeError: this is no number of frames for me"),
        ("hang", "timed out", "after 20 s"),
    ],
)
def test_a_point_that_fails_is_a_row(tmp_path: Path, then: str, outcome: str, detail: str) -> None:
    heard: list[str] = []
    timeout = {"timeout_s": 20.0} if then == "hang" else {}
    models = [limited(limit=4, then=then), limited("fine", limit=64)]
    sweep(models, [4, 8, 16], [SIZE], ["prefill"], tmp_path, how=How(repeats=1), say=heard.append, **timeout)
    rows = rows_of(tmp_path)
    assert rows["limited", "prefill", 4]["outcome"] == "ok"
    assert rows["limited", "prefill", 8]["outcome"] == outcome and detail in rows["limited", "prefill", 8]["detail"]
    assert (("limited", "prefill", 16) in rows) == (outcome == "crashed"), "a crash says nothing of longer videos"
    assert all(rows["fine", "prefill", frames]["outcome"] == "ok" for frames in (4, 8, 16))
    assert any("16) are not tried" in line for line in heard) == (outcome != "crashed")


def test_failures_are_tried_again_when_asked(cli: Cli, tmp_path: Path) -> None:
    log = tmp_path / "log"
    args = ("profile", "--models", f"m={LIMITED}", "--model-args", f"m:limit=4,then=error,log={log}", "--frames", "4,8")
    args += ("--phase", "prefill", "--size", "64x36", "--repeats", 1, "--output", tmp_path / "out")
    assert cli(*args)[0] == 1, "a crash is no result"
    tried = len(log.read_text().split())
    assert cli(*args)[0] == 1 and len(log.read_text().split()) == tried
    assert cli(*args, "--retry")[0] == 1 and len(log.read_text().split()) > tried
    assert len((tmp_path / "out" / "points.jsonl").read_text().splitlines()) == 3


def test_mistakes_are_said_and_stored_nowhere(cli: Cli, tmp_path: Path) -> None:
    fast = ("--frames", 4, "--size", "64x36", "--output", tmp_path / "out")
    careful = f"c={PLUGINS}:Careful"
    for arguments, message in (
        (("--models", "vambo", *fast), "did you mean 'vamba'"),
        (
            ("--models", "vamba", "--phase", "prefil", *fast),
            "unknown phase 'prefil' (did you mean 'prefill'?): there are",
        ),
        (("--models", "vamba", "--frames", "8-64"), "a range that doubles, such as 8..512"),
        (("--models", "vamba", "--size", "640"), "write WIDTHxHEIGHT"),
        (("--models", "vamba", "--repeats", 0, *fast), "--repeats must be positive"),
        (("--models", "vamba", "--model-args", "qwen:a=b", *fast), "'qwen', which is not among the models"),
        (("--models", "vamba,vamba", *fast), "same label"),
        (("--models", "vamba", "--find-longest", 0.5, *fast), "factor of at least 1"),
        (("--models", careful, "--model-args", "c:speed=9", *fast), "has no argument 'speed'"),
        (("--models", careful, "--phase", "train", *fast), "'careful' cannot be trained"),
        (("--tables-only", "--output", tmp_path / "nowhere"), "holds no sweep"),
    ):
        status, _, err = cli("profile", *arguments)
        assert status == 2 and message in err and "Traceback" not in err, err
    assert not (tmp_path / "out" / "points.jsonl").exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_is_left_behind(tmp_path: Path, how: signal.Signals) -> None:
    log = tmp_path / "log"
    command = [sys.executable, str(PLUGINS.parent.parent / "run_eval.py"), "profile", "--models", f"m={LIMITED}"]
    command += ["--model-args", f"m:limit=4,then=hang,log={log}", "--frames", "8", "--size", "64x36"]
    sweeping = subprocess.Popen([*command, "--output", str(tmp_path / "out")], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not log.exists() or not log.read_text().endswith("\n"):
        assert time.monotonic() < deadline and sweeping.poll() is None
        time.sleep(0.05)
    point = int(log.read_text().split()[1])
    sweeping.send_signal(how)
    _, err = sweeping.communicate(timeout=120)
    assert sweeping.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[how], err
    while Path(f"/proc/{point}").exists() and "\nState:\tZ" not in Path(f"/proc/{point}/status").read_text():
        assert time.monotonic() < deadline, "the point outlived its sweep"
        time.sleep(0.05)


# ------------------------------------------------------------------------------------- the longest video


@pytest.mark.parametrize("border", [0, 1, 7, 8, 9, 1000, 1023, 1024, 1025, 40_000])
@pytest.mark.parametrize("known", [{}, {8: True}, {8: True, 16: True, 64: True}])
def test_bisection_finds_the_border(border: int, known: dict[int, bool]) -> None:
    known = {frames: frames <= border for frames in known}
    asked: list[int] = []

    def fits(frames: int) -> bool:
        asked.append(frames)
        return frames <= border

    assert bisect_longest(fits, known, 1.0) == border
    assert len(set(asked)) == len(asked) <= 2 * max(border, 8).bit_length() + 1 and not set(asked) & set(known)
    exact = len(asked)
    asked.clear()
    found = bisect_longest(fits, known, 1.1)
    assert found <= border and (border + 1) / 1.1 <= found + 1 and len(asked) <= exact


def test_bisection_of_what_always_fits_ends() -> None:
    assert bisect_longest(lambda frames: True, {100: True}, 1.05) >= MOST_FRAMES


def test_the_longest_video_of_a_model(tmp_path: Path) -> None:
    """By processes: the ladder's points are not asked again, and few are enough."""
    log = tmp_path / "log"
    model = limited(limit=21, log=log)
    sweep([model], [4, 16, 64], [SIZE], ["prefill"], tmp_path / "out", how=How(repeats=1), find_longest=1.0)
    rows = read_points(tmp_path / "out")
    (found,) = tables.longest(rows)
    assert (found["fits"], found["ends_at"], found["because"]) == (21, 22, "out of memory")
    probes = [row for row in rows if row.get("probe")]
    assert len(probes) == 6, "64 - 16 in halves"
    assert all(row["samples"] == {} for row in probes if row["outcome"] == "ok")
    count = len(log.read_text().splitlines())
    sweep([model], [4, 16, 64], [SIZE], ["prefill"], tmp_path / "out", how=How(repeats=1), find_longest=1.0)
    assert len(log.read_text().splitlines()) == count, "all of it is known"
    table = tables.markdown(read_sweep(tmp_path / "out"), rows)
    assert ["limited", "prefill", "64x36", "21", "out of memory at 22"] in cells_of(table)
    assert not [cells for cells in cells_of(table) if cells[:2] == ["limited", "21"]]


# ---------------------------------------------------------------------------------------------- arguments


def test_clips_of_noise() -> None:
    clip = make_clip(130, 64, 36)
    assert clip.frames.shape == (130, 36, 64, 3) and clip.frames.std() > 70
    assert (clip.frames[0] == clip.frames[64]).all() and (clip.frames[0] != clip.frames[1]).any()
    assert make_clip(3, 64, 36).frames.shape[0] == 3


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
def test_a_sweep_can_be_written_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    args = ("--models", f"m={LIMITED}", "--frames", 4, "--size", "64x36", "--phase", "prefill", "--repeats", 1)
    status, out, _ = cli("profile", *args, "--output", tmp_path)
    assert status == 0 and "no plots: they need matplotlib" in out and not list(tmp_path.glob("*.svg"))

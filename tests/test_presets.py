"""Authors' settings by name: what they set, what overrides them, what cannot take them, and what a model then sees."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from plugins import Careful, FolderTask
from stored import latest_records
from test_docs import in_code, table
from videos import make_video

from vamba_eval import evaluate
from vamba_eval.contracts import FrameSampling, GenerationSettings, UserError
from vamba_eval.presets import PRESETS, named
from vamba_eval.run.plan import Job, prepare_task, with_preset
from vamba_eval.store.runs import read_info

pytestmark = pytest.mark.usefixtures("one_thread")

PLUGINS = Path(__file__).parent / "plugins.py"
TASK, MODEL = f"{PLUGINS}:FolderTask", f"careful={PLUGINS}:Careful"
PAGE = (Path(__file__).parent.parent / "docs" / "presets.md").read_text(encoding="utf-8")
Cli = Callable[..., tuple[int, str, str]]


def job(preset: str, task: str = "videomme", protocol: str = "vamba", **given: Any) -> Job:
    generation = {name: given.pop(name) for name in ("do_sample", "temperature", "top_p") if name in given}
    return prepare_task(task, protocol, None, given, generation, "pyav", preset=named(preset))


# ---------------------------------------------------------------------------------------------------- what they set


@pytest.mark.parametrize(
    ("preset", "frames", "size", "tokens"),
    [
        ("qwen2-vl", 768, (224, 420), 46_080),  # its smallest frame is above what 24,576 tokens leave
        ("qwen2.5-vl", 768, (168, 280), 23_040),
        ("qwen3-vl", 2048, (352, 608), 214_016),
        ("qwen3-vl-thinking", 2048, (352, 608), 214_016),
        ("qwen3-vl-script", 512, (192, 352), 16_896),
    ],
)
def test_an_hour_of_1280x720_at_30_fps(preset: str, frames: int, size: tuple[int, int], tokens: int) -> None:
    sampling = named(preset).sampling
    indices = sampling.indices(108_000, 30.0)
    assert len(indices) == frames and (indices[0], indices[-1]) == (0, 107_999)
    assert sampling.size(720, 1280, frames) == size
    token = sampling.edge_multiple or 0
    assert frames // 2 * size[0] // token * size[1] // token == tokens


def test_a_short_video_is_shown_larger() -> None:
    sampling = named("qwen2.5-vl").sampling
    assert len(sampling.indices(900, 30.0)) == 60  # half a minute
    assert sampling.size(720, 1280, 60) == (560, 1008)  # the most that one frame may have
    assert sampling.size(720, 1280, 240) == (280, 532)  # two minutes: 160,563 pixels, a share of all
    assert sampling.size(120, 160, 60) == (168, 224)  # as many as one frame must have, 48 * 28 * 28


def test_squares() -> None:
    for preset, edge, count in (("internvl3", 448, 64), ("llava-onevision", 384, 32)):
        sampling = named(preset).sampling
        assert sampling.size(720, 1280, count) == sampling.size(100, 90, count) == (edge, edge)
        assert len(sampling.indices(108_000, 30.0)) == len(sampling.indices(9, 30.0)) == count


def test_every_preset_can_be_asked_for_by_each_benchmark_that_has_its_protocol() -> None:
    for preset in PRESETS:
        made = job(preset.name, protocol=preset.protocol or "vamba")
        assert made.sampling == preset.sampling
        assert preset.generation.items() <= made.fingerprint([])["generation"].items()


# ------------------------------------------------------------------------------------------------ what overrides them


def test_what_is_given_overrides_and_the_rest_stays() -> None:
    own = named("qwen2.5-vl").sampling
    assert job("qwen2.5-vl", num_frames=64).sampling.total_pixels == own.total_pixels
    slower = job("qwen2.5-vl", fps=1.0).sampling
    assert (slower.strategy, slower.fps, slower.num_frames) == ("fps-linspace", 1.0, 768)
    larger = job("qwen2.5-vl", max_pixels=802_816).sampling
    assert (larger.max_pixels, larger.total_pixels) == (802_816, own.total_pixels)
    uniform = job("qwen2.5-vl", strategy="uniform").sampling.describe()
    assert uniform["strategy"] == "uniform" and "fps" not in uniform and uniform["edge_multiple"] == 28
    by_edges = job("qwen2.5-vl", shortest_edge=256, longest_edge=480).sampling
    assert by_edges.size(720, 1280, 768) == (270, 480) and by_edges.strategy == "fps-linspace"
    shrunk = job("qwen2.5-vl", longest_edge=480).sampling
    assert shrunk.size(720, 1280, 768) == (270, 480) and shrunk.size(90, 160, 768) == (90, 160)
    kept = job("qwen2.5-vl", shortest_edge=None, longest_edge=None).sampling
    assert kept.size(719, 1279, 768) == (719, 1279)
    by_area = job("internvl3", total_pixels=64 * 90_000).sampling
    assert by_area.size(900, 900, 64) == (300, 300)
    whole = prepare_task("videomme", "vamba", None, FrameSampling(), None, "pyav", preset=named("qwen2.5-vl"))
    assert whole.sampling == FrameSampling()


def test_answers_that_are_not_to_be_drawn_are_greedy() -> None:
    drawn = job("qwen3-vl").generation
    assert (drawn.do_sample, drawn.temperature, drawn.top_p, drawn.top_k) == (True, 0.7, 0.8, 20)
    assert job("qwen3-vl-thinking").generation.temperature == 0.6
    assert job("qwen3-vl", temperature=0.3, do_sample=True).generation.top_p == 0.8
    greedy = job("qwen3-vl", do_sample=False, temperature=1.0).generation
    assert greedy == GenerationSettings(max_new_tokens=32_768)
    with pytest.raises(UserError, match="where --top-p has no effect"):
        job("qwen3-vl", do_sample=False, top_p=0.5)


def test_arguments_of_models() -> None:
    preset = named("llava-onevision")
    arguments = {"pretrained": "some/where"}
    ((_, _, given),) = with_preset(preset, [("m", "transformers", arguments)])
    assert given == {"system": "You are a helpful assistant.", **arguments}
    ((_, _, given),) = with_preset(preset, [("m", "transformers", {"system": "Be brief."})])
    assert given == {"system": "Be brief."}
    assert with_preset(preset, [("r", "random", {})]) == [("r", "random", {})], "it sees no video"
    with pytest.raises(UserError, match=r"gives models system=.* cannot act on 'mine': it has no such argument"):
        with_preset(preset, [("mine", "qwen2_vl", {})])
    with pytest.raises(UserError, match="cannot act on 'careful': it was built before the run"):
        with_preset(preset, [("careful", Careful(), {})])


# ------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "qwen25-vl"], "unknown preset 'qwen25-vl' (did you mean 'qwen2.5-vl'?): there are qwen2-vl,"),
        (["--preset", "gpt"], "unknown preset 'gpt': there are"),
        (["--preset", "llava-onevision", "--models", "qwen2_vl"], "cannot act on 'qwen2_vl'"),
        (
            ["--preset", "llava-onevision", "--tasks", "hourvideo", "--models", "random"],
            "(of the preset 'llava-onevision': --protocol over",
        ),
        (["--preset", "qwen2.5-vl", "--num-frames", "8,16"], "gives each number a size of its own"),
        (["--total-pixels", "9999999", "--num-frames", "8..32"], "gives each number a size of its own"),
        (["--max-pixels", "9999", "--longest-edge", "480"], "--longest-edge sizes frames by an edge, --max-pixels by"),
        (["--keep-size", "--edge-multiple", "28"], "--keep-size does not resize frames, --edge-multiple does"),
        (["--max-pixels", "0"], "max_pixels must be a positive whole number, not 0"),
        (["--min-pixels", "9", "--max-pixels", "8"], "min_pixels 9 is above max_pixels 8"),
        (["--total-pixels", "9999", "--token-budget", "99"], "cannot go with it"),
        (["--strategy", "linspace", "--fps", "2"], "--fps is for the strategy 'fps', but"),
        (["--preset", "qwen2.5-vl", "--num-frames", "1"], "num_frames must be 2 or more"),
    ],
)
def test_mistakes_get_one_line_and_status_2(cli: Cli, tmp_path: Path, arguments: list[str], message: str) -> None:
    status, _, err = cli(*arguments, "--output", tmp_path / "out")
    assert status == 2 and message in err and "Traceback" not in err


# ------------------------------------------------------------------------------------------------ what is then seen


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video of four seconds, 480x270."""
    folder = tmp_path_factory.mktemp("data")
    make_video(folder / "one.mp4", frames=100, size=(270, 480))
    return folder


@pytest.mark.parametrize(
    ("options", "frames", "size"),
    [
        ([], 8, (280, 476)),
        (["--total-pixels", 480_000], 8, (168, 308)),  # 60,000 a frame
        (["--total-pixels", 480_000, "--num-frames", 4], 4, (252, 448)),  # 120,000 a frame
    ],
)
@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen2_vl"])
def test_a_model_sees_what_was_read(
    cli: Cli, data: Path, tmp_path: Path, kind: str, options: list[object], frames: int, size: tuple[int, int]
) -> None:
    if kind == "qwen2_5_vl":
        tiny_models.build(tiny_models.TINY[kind], tmp_path / kind)
        model = [str(tmp_path / kind), "--model-args", f"{kind}:dtype=float32,device=cpu"]
    else:
        model = [kind, "--model-args", f"{kind}:random=small,device=cpu"]
    command = ["--tasks", TASK, "--data-root", data, "--output", tmp_path / "out", "--max-new-tokens", 2]
    status, _, err = cli(*command, "--workers", 0, "--preset", "qwen2.5-vl", "--models", *model, *options)
    assert status == 0, err
    (path,) = (tmp_path / "out").rglob(f"*.{kind}.jsonl")
    records = latest_records(path)
    assert len(records) == 2
    for record in records.values():
        seen = record["seen"]
        assert (seen["frames"], (seen["height"], seen["width"])) == (frames, size)
        assert seen["video_tokens"] == frames // 2 * size[0] // 28 * size[1] // 28
        assert (record["frames"], record["size"]) == (frames, list(size)), "as it was read"
    info = read_info(tmp_path / "out" / "folder")
    assert info["presets"] == {"folder": "qwen2.5-vl"}
    sampling = info["tasks"]["folder"]["sampling"]
    assert (sampling["strategy"], sampling["edge_multiple"]) == ("fps-linspace", 28)
    told = "37,632 pixels at least, 602,112 pixels at most, "
    assert told in (tmp_path / "out" / "folder" / "leaderboard.csv").read_text()


def test_a_run_goes_on_without_the_preset_where_the_values_are_the_same(cli: Cli, data: Path, tmp_path: Path) -> None:
    command = ["--tasks", TASK, "--models", MODEL, "--data-root", data, "--output", tmp_path / "out", "--workers", 0]
    status, _, err = cli(*command, "--preset", "internvl3")
    assert status == 0, err
    by_hand = ["--strategy", "inner", "--num-frames", 64, "--shortest-edge", 448, "--longest-edge", 448]
    asked = len(Careful.asked)
    status, _, err = cli(*command, *by_hand, "--max-new-tokens", 4096)
    assert status == 0 and len(Careful.asked) == asked, err
    status, _, err = cli(*command, "--preset", "internvl3", "--num-frames", 32, "--name", "folder")
    assert status == 2 and "num_frames: 64 there, 32 now" in err
    status, _, err = cli(*command, "--name", "plain")
    assert status == 0 and "presets" not in read_info(tmp_path / "out" / "plain"), err


def test_in_python(data: Path, tmp_path: Path) -> None:
    where = {"data_root": data, "output": tmp_path, "progress": False}
    evaluate([FolderTask()], [Careful()], preset="qwen2.5-vl", sampling={"num_frames": 4}, **where)  # type: ignore[arg-type]
    sampling = json.loads((tmp_path / "folder" / "run.json").read_text())["tasks"]["folder"]["sampling"]
    assert sampling == {**named("qwen2.5-vl").sampling.describe(), "num_frames": 4}
    with pytest.raises(UserError, match=r"folder has no protocol 'lmms-eval' \(of the preset"):
        evaluate([FolderTask()], [Careful()], preset="llava-onevision", **where)  # type: ignore[arg-type]


def test_they_are_listed(cli: Cli) -> None:
    status, out, _ = cli("list")
    lines = out.partition("Presets:\n")[2].splitlines()
    assert status == 0 and len(lines) == len(PRESETS)
    assert lines[1].split(maxsplit=1) == ["qwen2.5-vl", named("qwen2.5-vl").summary]


# ---------------------------------------------------------------------------------------------------------- the page


def test_the_page_says_what_each_sets() -> None:
    rows = {name: row for row in table(PAGE, "preset") for name in in_code(row["preset"])}
    assert rows.keys() == {preset.name for preset in PRESETS}
    for preset in PRESETS:
        row, sampling = rows[preset.name], preset.sampling
        assert in_code(row["strategy"]) == [sampling.strategy], preset.name
        assert row["frames"].replace(",", "") == str(sampling.num_frames)
        numbers = {int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", row["size"])}
        said = {sampling.min_pixels, sampling.max_pixels, sampling.total_pixels, sampling.edge_multiple}
        said |= {sampling.shortest_edge, sampling.longest_edge}
        assert numbers == said - {None}, preset.name
        answers = {float(number) for number in re.findall(r"\d+(?:\.\d+)?", row["answers"].replace(",", ""))}
        assert answers == {float(value) for value in preset.generation.values() if value not in (True, False)}
        assert ("greedy" in row["answers"]) == (preset.generation.get("do_sample") is False)
        assert in_code(row["protocol"]) == ([preset.protocol] if preset.protocol else [])
        assert in_code(row["model"]) == [f"{name}={value}" for name, value in preset.model.items()]

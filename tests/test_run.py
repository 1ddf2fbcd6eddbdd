"""Whole runs, by the command line and by real processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import plugins
import pytest
from benchmark_files import longvideobench_rows, videomme_rows, write_longvideobench, write_mlvu, write_videomme
from stored import latest_records
from videos import make_video

from vamba_eval import evaluate
from vamba_eval.contracts import FrameSampling, GenerationSettings, UserError
from vamba_eval.registry import module_at
from vamba_eval.run.ask import ask
from vamba_eval.run.plan import prepare_task, sampling_with
from vamba_eval.store.runs import read_info, read_records

REPOSITORY = Path(__file__).resolve().parent.parent
PLUGINS = Path(__file__).parent / "plugins.py"
TASK, MODEL = f"{PLUGINS}:FolderTask", f"careful={PLUGINS}:Careful"
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    make_video(folder / "one.mp4", frames=30)
    for name in ("two", "three"):
        shutil.copy(folder / "one.mp4", folder / f"{name}.mp4")
    return folder


def records_of(output: Path, task: str, model: str) -> dict[str, dict]:
    (path,) = output.rglob(f"{task}.{model}.jsonl")
    return latest_records(path)


def test_a_video_is_encoded_once_whatever_is_asked(cli: Cli, data: Path, tmp_path: Path) -> None:
    command = ("--tasks", TASK, "--models", MODEL, "--data-root", data, "--output", tmp_path / "out")
    used = module_at(PLUGINS).Careful
    used.encoded, used.asked = 0, []
    status, out, _ = cli(*command)
    assert status == 0 and used.encoded == 3 and len(used.asked) == 6
    assert "50.0" in out and "leaderboard.md, .csv" in out
    status, _, _ = cli(*command)
    assert status == 0 and used.encoded == 3 and len(used.asked) == 6, "nothing is asked twice"


def test_a_bad_video_costs_its_own_questions(cli: Cli, data: Path, tmp_path: Path) -> None:
    (data / "two.mp4").write_bytes(b"no video")
    (data / "stumble.mp4").write_bytes((data / "one.mp4").read_bytes())
    command = ("--tasks", TASK, "--models", MODEL, "--data-root", data, "--output", tmp_path / "out")
    status, out, err = cli(*command)
    assert status == 1 and "Traceback" not in out + err
    records = records_of(tmp_path / "out", "folder", "careful")
    assert len(records) == 8
    failed = {name: record["error"] for name, record in records.items() if record["error"]}
    assert failed.keys() == {"two-0", "two-1", "stumble-0"}
    assert "is not a video but plain text" in failed["two-0"]
    assert re.fullmatch(r"answering failed: RuntimeError: tripped over it \(plugins\.py:\d+\)", failed["stumble-0"])
    assert "PARTIAL" in out and "5 of 8 questions (3 failed, 0 not asked)" in unwrapped(out)

    shutil.copy(data / "one.mp4", data / "two.mp4")  # mended: a rerun asks only what failed
    status, _, _ = cli(*command)
    records = records_of(tmp_path / "out", "folder", "careful")
    assert status == 1 and {name for name, record in records.items() if record["error"]} == {"stumble-0"}


def test_a_part_is_never_shown_as_the_whole(cli: Cli, data: Path, tmp_path: Path) -> None:
    command = ("--tasks", TASK, "--models", MODEL, "--data-root", data, "--output", tmp_path / "out")
    status, out, _ = cli(*command, "--limit", 1)
    assert status == 0 and "(2/6)" in out and "covers 2 of 6 questions (0 failed, 4 not asked)" in unwrapped(out)
    status, out, _ = cli(*command)
    assert status == 0 and "PARTIAL" not in out


@pytest.mark.parametrize("after_s", [0.0, 0.35, 0.8])
def test_kill_loses_at_most_the_question_in_flight(data: Path, tmp_path: Path, after_s: float) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "run_eval.py", "--tasks", TASK, "--models", MODEL]
    command += ["--data-root", str(data), "--output", str(output)]
    slow = [*command, "--model-args", "careful:seconds=0.2"]
    process = subprocess.Popen(slow, cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    path = output / "folder" / "folder.careful.jsonl"
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_bytes()) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = path.read_bytes()
    kept = [record.question for record in read_records(path)]
    assert kept and len(kept) < 6
    finished = subprocess.run(slow, cwd=REPOSITORY, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert path.read_bytes().startswith(before[: before.rfind(b"\n") + 1]), "what was answered is untouched"
    assert Counter(record.question for record in read_records(path)) == Counter(
        f"{video}-{n}" for video in ("one", "two", "three") for n in range(2)
    )


def unwrapped(text: str) -> str:
    """What a terminal was shown in several lines, in one."""
    return " ".join(text.split())


def test_ctrl_c_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "run_eval.py", "--tasks", TASK, "--models", MODEL, "--data-root", str(data)]
    command += ["--output", str(tmp_path / "out"), "--model-args", "careful:seconds=0.5"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    path = tmp_path / "out" / "folder" / "folder.careful.jsonl"
    while not path.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130 and "Traceback" not in err
    assert "the same command goes on from here" in err


# ----------------------------------------------------------------------------------- the three benchmarks


@pytest.fixture
def benchmarks(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    clip = make_video(tmp_path / "clip.mp4", frames=20)
    folder = write_videomme(root, videomme_rows(6))
    for n in range(6):
        shutil.copy(clip, folder / "data" / f"vid_{n}.mp4")
    folder = write_mlvu(root, 4)
    for kind in (folder / "video").iterdir():
        for n in range(2):
            shutil.copy(clip, kind / f"{kind.name}_{n}.mp4")
    folder = write_longvideobench(root, longvideobench_rows(12))
    for n in range(6):
        shutil.copy(clip, folder / "videos" / f"lvb{n}.mp4")
    return root


def test_three_benchmarks_and_three_models(cli: Cli, benchmarks: Path, tmp_path: Path) -> None:
    tasks = "videomme,mlvu,longvideobench"
    command = ("--tasks", tasks, "--models", "constant,always_b=constant,qwen2_vl", "--data-root", benchmarks)
    command += ("--model-args", "always_b:letter=B", "--num-frames", 4, "--output", tmp_path / "out")
    status, out, err = cli(*command)
    assert status == 0, err
    folder = tmp_path / "out" / "videomme+mlvu+longvideobench"
    info = read_info(folder)
    assert info["counts"]["mlvu"] == {"videos": 14, "questions": 28}
    assert info["tasks"]["videomme"]["sampling"]["num_frames"] == 4
    assert len(list(folder.glob("*.jsonl"))) == 9
    constant = records_of(tmp_path / "out", "videomme", "constant")
    right = sum(record["answer"] == "A" for record in constant.values())
    assert f"{100 * right / 18:.1f}" in out
    record = next(iter(records_of(tmp_path / "out", "longvideobench", "qwen2_vl").values()))
    assert record["frames"] == 4 and record["size"] == [256, 256] and len(record["frames_digest"]) == 32
    assert record["load_s"] > 0 and record["encode_s"] > 0 and record["generate_s"] > 0 and record["peak_bytes"] > 0
    digests = {r["frames_digest"] for r in records_of(tmp_path / "out", "mlvu", "qwen2_vl").values()}
    assert digests == {record["frames_digest"]}, "the same file gives the same frames in every benchmark"


def test_a_baseline_faces_the_questions_that_models_face(cli: Cli, benchmarks: Path, tmp_path: Path) -> None:
    (benchmarks / "videomme" / "data" / "vid_3.mp4").unlink()
    (benchmarks / "videomme" / "data" / "vid_4.mp4").write_bytes(b"x" * 1000)
    command = ("--tasks", "videomme", "--models", "constant", "--data-root", benchmarks)
    status, out, _ = cli(*command, "--output", tmp_path / "some")
    assert status == 1 and "12 of 18 questions (6 failed" in unwrapped(out)
    shutil.rmtree(benchmarks / "videomme" / "data")
    status, out, _ = cli(*command, "--output", tmp_path / "none")
    assert status == 0, "where no video is there at all, the annotations are enough"


def test_odd_annotations_do_not_end_a_run(cli: Cli, tmp_path: Path) -> None:
    rows = [*longvideobench_rows(6), None]
    rows[0]["question"] = "half a pair \ud83d?"
    rows[1]["correct_choice"] = 1.0
    rows[2]["correct_choice"] = True
    write_longvideobench(tmp_path, rows)
    command = ("--tasks", "longvideobench", "--models", "constant", "--data-root", tmp_path)
    status, out, err = cli(*command, "--output", tmp_path / "out")
    assert status == 1 and "the row is not an object" in err and "6 of 7 questions (1 failed" in unwrapped(out)
    records = records_of(tmp_path / "out", "longvideobench", "constant")
    assert records["lvb0_1"]["answer"] == "B" and records["lvb1_0"]["answer"] == ""
    write_longvideobench(tmp_path, [])
    status, _, err = cli(*command, "--output", tmp_path / "empty")
    assert status == 2 and "hold no question" in err


def test_results_that_cannot_be_written_give_one_line(
    cli: Cli, benchmarks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "out"))

    monkeypatch.setattr("vamba_eval.files.os.replace", full)
    command = ("--tasks", "videomme", "--models", "constant", "--data-root", benchmarks)
    status, _, err = cli(*command, "--output", tmp_path / "out")
    assert status == 2 and "No space left on device" in err and "Traceback" not in err


def test_broken_rows_are_recorded_as_failed(cli: Cli, tmp_path: Path) -> None:
    rows = videomme_rows(3)
    rows[4]["question"] = None
    write_videomme(tmp_path / "root", rows)
    status, out, err = cli(
        "--tasks", "videomme", "--models", "constant", "--data-root", tmp_path / "root", "--output", tmp_path / "out"
    )
    assert status == 1 and "row 4: field 'question' is missing" in err
    assert "8 of 9 questions (1 failed" in unwrapped(out)
    assert read_info(tmp_path / "out" / "videomme")["defects"]["videomme"]


def test_what_is_wrong_with_all_videos_ends_the_run(cli: Cli, data: Path, tmp_path: Path) -> None:
    class Second(plugins.Careful):
        """Refuses every video but the first."""

        videos = 0

        def encode(self, clip: object) -> object:
            self.videos += 1
            if self.videos > 1:
                raise UserError("too many frames: use fewer")
            return super().encode(clip)

    with pytest.raises(UserError, match="use fewer"):
        evaluate([TASK], [Second()], data_root=data, output=tmp_path / "out", progress=False)
    kept = records_of(tmp_path / "out", "folder", "careful")
    assert len(kept) == 2 and not any(record["error"] for record in kept.values())
    seeing = f"seeing={Path(__file__).parent / 'cluster_models.py'}:Seeing"
    command = ("--tasks", TASK, "--models", seeing, "--model-args", "seeing:refuse=4", "--data-root", data)
    status, _, err = cli(*command, "--output", tmp_path / "other")
    assert status == 2 and "error: too many frames: use --num-frames 4" in err


def test_rescoring_reads_the_stored_responses(cli: Cli, benchmarks: Path, tmp_path: Path) -> None:
    class Wordy(plugins.Careful):
        name = "wordy"
        reads_video = False

        def encode(self, clip: object) -> object:
            return (0, 0, 0, 0)

        def generate(self, encoded: object, prompts: list, settings: object) -> list:
            return [plugins.Answer("I would say (A)", 4) for _ in prompts]

    board = evaluate(["videomme"], [Wordy()], data_root=benchmarks, output=tmp_path / "out", progress=False)
    row = board.table.iloc[0]
    assert row["unparsed"] == 18 and row["accuracy"] == 0.0
    status, out, _ = cli("rescore", tmp_path / "out", "--protocol", "lmms-eval", "--output", tmp_path / "tables")
    assert status == 0
    right = sum(r["answer"] == "A" for r in records_of(tmp_path / "out", "videomme", "wordy").values())
    assert f"{100 * right / 18:.1f}" in out
    assert "lmms-eval" in (tmp_path / "tables" / "leaderboard.csv").read_text()


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "videomm"], "unknown task 'videomm' (did you mean 'videomme'?)"),
        (["--models", "qwen2vl"], "unknown model 'qwen2vl' (did you mean 'qwen2_vl'?)"),
        (["--models", "random", "--model-args", "random:sead=1"], "no argument 'sead'; it takes seed"),
        (["--models", "random", "--model-args", "random:seed"], "write MODEL:KEY=VALUE"),
        (["--models", "random", "--model-args", "vamba:seed=1"], "not among the models"),
        (["--models", "random,random"], "same label"),
        (["--models", "a b=random,a-b=constant"], "the models 'a b' and 'a-b' would both be called 'a-b' in the names"),
        (["--models", "random", "--num-frames", "0"], "'0' is neither a number of frames nor a range of them"),
        (["--models", "random", "--num-frames", "-5"], "'-5' is neither a number of frames nor a range of them"),
        (["--models", "random", "--longest-edge", "0"], "longest_edge"),
        (["--models", "random", "--max-new-tokens", "0"], "max_new_tokens must be positive"),
        (["--strategy", "middle", "--fps", "2"], "--fps is for the strategy 'fps', but the strategy is to be 'middle'"),
        (["--strategy", "fps", "--token-budget", "99"], "--token-budget is for the strategy 'auto', but"),
        (["--fps", "2", "--token-budget", "99"], "leave out --token-budget, or use --strategy auto"),
        (["--token-budget", "99", "--num-frames", "8"], "leave out --num-frames, or use another --strategy"),
        (["--strategy", "auto", "--num-frames", "8..32"], "leave out --num-frames, or use another --strategy"),
        (["--fps", "inf"], "fps must be a number of frames a second"),
        (["--fps", "nan"], "argument --fps: 'nan' is not a number"),
        (["--top-p", "0.9"], "synthetic is answered greedily, where --top-p has no effect: sample (--temperature 1"),
        (["--temperature", "0", "--top-k", "5"], "where --top-k has no effect: sample (--temperature 1"),
        (["--temperature", "-1"], "temperature must be a finite number from 0 (greedy), not -1.0"),
        (["--temperature", "nan"], "argument --temperature: 'nan' is not a number"),
        (["--temperature", "inf"], "temperature must be a finite number"),
        (["--temperature", "1", "--top-p", "0"], "top_p must be above 0 and at most 1, not 0.0"),
        (["--temperature", "1", "--top-p", "1.5"], "top_p must be above 0 and at most 1, not 1.5"),
        (["--temperature", "1", "--top-k", "0"], "top_k must be at least 1, not 0"),
        (["--temperature", "1", "--top-k", "-5"], "top_k must be at least 1, not -5"),
        (
            ["--tasks", "videomme", "--models", "random", "--longest-edge", "224"],
            "224 pixels is below the shortest edge of 256",
        ),
        (
            ["--tasks", "videomme", "--models", "random", "--shortest-edge", "500"],
            "480 pixels is below the shortest edge of 500",
        ),
        (["--keep-size", "--longest-edge", "224"], "--keep-size does not resize frames, --longest-edge does"),
        (["--keep-size", "--shortest-edge", "224"], "--keep-size does not resize frames, --shortest-edge does"),
        (["--models", "random", "--limit", "0"], "write a number of videos, such as 20, or of questions"),
        (["--models", "random", "--protocol", "gpt"], "no protocol 'gpt'; it has vamba, lmms-eval"),
        (["--tasks", "videomme", "--models", "random"], "needs its data: give --data-root"),
        (["--tasks", "nothere.py"], "no such file: nothere.py"),
        (["--tasks", ""], "argument --tasks: it is given an empty value"),
        (["--models", "qwen2_vl", "--model-args", "qwen2_vl:device=cuda:7"], "sees no GPU here"),
        (["--models", "qwen2_vl", "--model-args", "qwen2_vl:dtype=int3"], "unknown dtype 'int3'"),
        (["--models", "qwen2_vl", "--model-args", "qwen2_vl:pretrained=/nowhere"], "no checkpoint folder at /nowhere"),
        (
            ["--models", "qwen2_vl", "--model-args", "qwen2_vl:attn_implementation=flash_attention_2"],
            "pip install flash-attn",
        ),
        (["leaderboard", "/nowhere"], "no run at or below /nowhere"),
        (["leaderboard"], "name at least one folder of runs"),
        (["leaderbord", "x"], "unknown command 'leaderbord' (did you mean 'leaderboard'?)"),
        (["--tasks", "videomme", "--models", "random", "--split", "foo"], "no split 'foo'; it has test"),
        (["--models", "random", "--model-args", "random:seed=abc"], "cannot be built with seed=abc: invalid literal"),
        (["--models", "constant", "--model-args", "constant:letter=ZZ"], "give one capital letter"),
        (["--models", "qwen2_vl", "--model-args", "qwen2_vl:trust_remote_code=maybe"], "neither true nor false"),
        (["--models", "vamba", "--model-args", "vamba:attn_implementation=foo"], "unknown attn_implementation 'foo'"),
        (["--models", "vamba", "--model-args", "vamba:batch_size=abc"], "batch_size=abc: it is a whole number from 1"),
        (["--models", "vamba", "--model-args", "vamba:device_map=auto"], "give pretrained= too"),
        (
            ["--models", "qwen2_vl", "--model-args", "qwen2_vl:min_pixels=99999,max_pixels=5"],
            "min_pixels 99999 is above max_pixels 5",
        ),
    ],
)
def test_mistakes_get_one_line_and_status_2(cli: Cli, tmp_path: Path, arguments: list[str], message: str) -> None:
    place = [] if arguments[0].startswith("leader") else ["--output", tmp_path / "out"]
    status, _, err = cli(*arguments, *place)
    assert status == 2 and message in err and "Traceback" not in err


_HALF = """
from vamba_eval.contracts import Answer, ModelAdapter, ServedModel
import numpy as np

class Whole(ModelAdapter):
    name = "whole"

    def __init__(self, size="8", what=""):
        self.size = int(size)
        if what == "type":
            self.size = len(self.size)  # line 11
        if what == "attribute":
            np.nothing_of_the_kind()  # line 13
        if what == "exit":
            exit(0)  # line 15
        if what == "batch_size":
            self.batch_size = 0
        if what == "describe":
            self.describe = lambda: {"scale": np.float32(1.0)}

    def encode(self, clip):
        return None

    def generate(self, encoded, prompts, settings):
        return [Answer("A") for _ in prompts]

class Needs(Whole):
    def __init__(self, pretrained):
        pass

class Mute(ModelAdapter):
    name = "mute"

    def encode(self, clip):
        return None

class Nameless(Whole):
    pass

del Nameless.__mro__[1].name
class Named(Whole):
    name = "whole"
"""


@pytest.mark.parametrize(
    ("which", "arguments", "message"),
    [
        (
            "Mute",
            "",
            "define a Model called Mute; it defines Whole, Needs, Nameless, Named; Mute (line 31) lacks generate",
        ),
        (
            "Named",
            "what=type",
            "has a mistake, met when built with what=type: TypeError: object of type 'int' has no len",
        ),
        ("Named", "what=type", "half.py, line 11)"),
        ("Named", "what=attribute", "half.py, line 13)"),
        ("Named", "what=exit", "tried to end the process when it was built (SystemExit(0), "),
        ("Named", "what=exit", "half.py, line 15)"),
        ("Named", "size=x", "cannot be built with size=x: invalid literal"),
        ("Named", "what=batch_size", "the model 'whole' (Named) should have a batch_size from 1, not 0"),
        ("Named", "what=describe", "should describe itself by a dict of what JSON can hold: Object of type float32"),
        ("Needs", "", "cannot be built with its defaults: "),
        ("Nameless", "", "the model Nameless has no name: give its class one, such as name = 'nameless'"),
    ],
)
def test_a_mistake_in_an_adapter_is_told_with_its_place(
    cli: Cli, data: Path, tmp_path: Path, which: str, arguments: str, message: str
) -> None:
    file = tmp_path / "half.py"
    file.write_text(_HALF)
    more = ["--model-args", f"m:{arguments}"] if arguments else []
    command = ["--tasks", f"{PLUGINS}:FolderTask", "--models", f"m={file}:{which}", *more, "--data-root", data]
    status, _, err = cli(*command, "--output", tmp_path / "out")
    assert status == 2 and message in err and "Traceback" not in err


def test_an_adapter_that_lacks_a_method_is_told_which(cli: Cli, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "lacking.py"
    file.write_text(
        "from vamba_eval.contracts import ModelAdapter\n\nclass Lacking(ModelAdapter):\n    name = 'lacking'\n"
    )
    command = ["--tasks", f"{PLUGINS}:FolderTask", "--models", f"m={file}", "--data-root", data]
    status, _, err = cli(*command, "--output", tmp_path / "out")
    assert status == 2 and "exactly one Model; it defines none; Lacking (line 3) lacks encode and generate" in err


def test_options_of_the_frames_imply_their_strategy() -> None:
    def frames(task: str, **given: object) -> dict[str, object]:
        return prepare_task(task, "vamba", None, given, None, "pyav").fingerprint([])["sampling"]

    edges = {"shortest_edge": 256, "longest_edge": 480}
    assert frames("videomme", fps=2.0) == {"strategy": "fps", "num_frames": 512, "fps": 2.0, **edges}
    assert frames("mvbench", fps=2.0, strategy="fps", num_frames=64)["num_frames"] == 64, "at most"
    assert frames("videomme", token_budget=9000) == {"strategy": "auto", "token_budget": 9000, **edges}
    assert frames("videomme", longest_edge=224, shortest_edge=112)["longest_edge"] == 224
    assert frames("videomme", longest_edge=256)["longest_edge"] == 256


def test_only_a_given_edge_is_judged() -> None:
    """The rule that raises edges is the reference's, and so are its numbers."""
    own = FrameSampling(shortest_edge=300, longest_edge=200)
    assert sampling_with(own, {"num_frames": 8}) == replace(own, num_frames=8)
    with pytest.raises(UserError, match="the longest edge of 200 pixels is below the shortest edge of 250"):
        sampling_with(own, {"shortest_edge": 250})


def test_settings_of_sampling_need_sampling() -> None:
    def settings(task: str, **given: object) -> dict[str, object]:
        return prepare_task(task, "vamba", None, None, given, "pyav").fingerprint([])["generation"]

    assert settings("hourvideo", top_k=5)["top_k"] == 5, "its protocol samples"
    assert settings("videomme", do_sample=True, temperature=0.7, top_p=0.9)["top_p"] == 0.9
    assert settings("videomme", do_sample=False, temperature=1.0) == settings("videomme"), "--temperature 0"
    for given in ({"top_p": 0.9}, {"temperature": 0.7}, {"do_sample": False, "top_k": 5}):
        with pytest.raises(UserError, match=r"videomme is answered greedily, where .* has no effect: sample"):
            settings("videomme", **given)


@pytest.mark.parametrize(
    "fields",
    [
        *({"temperature": value} for value in (-1.0, float("nan"), float("inf"))),
        *({"top_p": value} for value in (0.0, -0.5, 1.5, float("nan"))),
        *({"top_k": -1}, {"top_k": 0}, {"do_sample": True, "temperature": 0.0}),
    ],
)
def test_settings_that_no_decoding_has_are_refused(fields: dict[str, float]) -> None:
    (name, *_) = reversed(fields)
    with pytest.raises(ValueError, match=f"{name} must be"):
        GenerationSettings(**{"do_sample": True, **fields})


def test_ask_says_that_weights_are_random(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    for model, said in (("Weightless", True), ("Careful", False)):
        answers = [answer.text for answer in ask(data / "one.mp4", ["Who?"], f"{PLUGINS}:{model}", {}, 4)]
        out, err = capsys.readouterr()
        assert answers == ["A"] and out == ""
        assert ("has random weights" in err) == ("its answers mean nothing" in err) == said


def test_ask_refuses_edges_that_bend_frames(cli: Cli, data: Path) -> None:
    status, _, err = cli("ask", data / "one.mp4", "Who?", "--model", "constant", "--longest-edge", 224)
    assert status == 2 and "224 pixels is below the shortest edge of 256" in err


def test_another_run_in_the_same_place_is_an_error(cli: Cli, data: Path, tmp_path: Path) -> None:
    command = ("--tasks", TASK, "--models", MODEL, "--data-root", data, "--output", tmp_path / "out")
    assert cli(*command, "--num-frames", 4, "--name", "folder")[0] == 0
    status, _, err = cli(*command, "--num-frames", 8, "--name", "folder")
    assert status == 2 and "sampling.num_frames: 4 there, 8 now" in err and "--name" in err
    assert cli(*command, "--num-frames", 8, "--name", "eight")[0] == 0
    status, out, _ = cli("leaderboard", tmp_path / "out")
    assert status == 0 and " 4 " in out and " 8 " in out


def test_an_edited_model_is_another_one(cli: Cli, data: Path, tmp_path: Path) -> None:
    """Its old answers are not shown as the new file's, and both can stand side by side."""
    model = tmp_path / "my_model.py"
    model.write_text(PLUGINS.read_text())
    command = ("--tasks", TASK, "--data-root", data, "--num-frames", 4, "--output", tmp_path / "out")
    assert cli(*command, "--models", f"mine={model}:Careful")[0] == 0
    model.write_text(model.read_text() + "\nANSWER = 'another'\n")
    status, _, err = cli(*command, "--models", f"mine={model}:Careful")
    assert status == 2 and "the file of the model 'mine' has changed since it answered" in err
    assert cli(*command, "--models", f"v2={model}:Careful")[0] == 0
    assert cli(*command, "--models", f"mine={model}:Careful", "--accept-environment")[0] == 0
    assert len(list((tmp_path / "out").rglob("folder.*.jsonl"))) == 2


# -------------------------------------------------------------------------------------------------- light


def test_help_list_and_leaderboard_import_no_torch(cli: Cli, data: Path, tmp_path: Path) -> None:
    cli("--tasks", TASK, "--models", MODEL, "--data-root", data, "--output", tmp_path / "out")
    for arguments in (
        ["list"],
        ["leaderboard", str(tmp_path / "out"), "--published", "--task-code", TASK],
    ):
        code = (
            "import sys; from vamba_eval.cli.main import main; status = main(sys.argv[1:]);"
            "heavy = {'torch', 'transformers', 'av', 'pandas'} & set(sys.modules);"
            "print(heavy, file=sys.stderr); sys.exit(bool(heavy) or status)"
        )
        done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "Vamba 10B (reported)" not in done.stdout, "no reported rows for a task that the paper does not have"


def test_random_weights_are_said(cli: Cli, tmp_path: Path) -> None:
    status, out, _ = cli("--models", "vamba", "--output", tmp_path, "--limit", 2, "--num-frames", 8)
    assert status == 0
    assert "random weights, not a trained model" in unwrapped(out) and "PARTIAL" in out
    responses = {r["response"] for r in records_of(tmp_path, "synthetic", "vamba").values()}
    assert all(set(response) <= set("ABCD") for response in responses)


def test_json_lines_are_plain(cli: Cli, data: Path, tmp_path: Path) -> None:
    cli("--tasks", TASK, "--models", MODEL, "--data-root", data, "--output", tmp_path / "out")
    lines = (tmp_path / "out" / "folder" / "folder.careful.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert {json.loads(line)["response"] for line in lines} == {"A"}
    assert not [name for name in os.listdir(tmp_path / "out" / "folder") if name.endswith(".tmp")]


def test_a_ladder_reads_each_video_once_and_goes_on(cli: Cli, data: Path, tmp_path: Path) -> None:
    models = ("--models", f"{MODEL},constant")
    command = ("--tasks", TASK, *models, "--data-root", data, "--output", tmp_path / "out")
    status, out, _ = cli(*command, "--num-frames", "2..8,30")
    assert status == 0
    rows = [line.split() for line in out.partition("protocol")[0].splitlines() if line.strip()]
    looking = [row[row.index("careful") + 1] for row in rows if "careful" in row]
    assert looking == ["2", "4", "8", "30"]
    assert len([row for row in rows if "constant" in row]) == 1, "who sees nothing is asked once"
    folder = tmp_path / "out" / "folder"
    assert (folder / "leaderboard.csv").exists()
    alone = tmp_path / "alone"
    cli("--tasks", TASK, "--models", MODEL, "--data-root", data, "--output", alone, "--num-frames", "8")
    ladder, own = (records_of(place, "folder", "careful") for place in (folder / "8-frames", alone))
    for question, record in own.items():
        assert ladder[question]["frames_digest"] == record["frames_digest"] and ladder[question]["frames"] == 8
    # What lacks on one rung is asked again there alone.
    path = folder / "4-frames" / "folder.careful.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    used = module_at(PLUGINS).Careful
    used.encoded, used.asked = 0, []
    assert cli(*command, "--num-frames", "2..8,30")[0] == 0
    assert len(used.asked) == 1 and len(path.read_text().splitlines()) == len(lines)

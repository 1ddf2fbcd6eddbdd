"""The command line itself: verbs, help, how arguments are read, and what a start imports."""

from __future__ import annotations

import argparse
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vamba_eval.cli import arguments
from vamba_eval.contracts import UserError

REPOSITORY = Path(__file__).resolve().parent.parent
VERBS = ("run", "list", "leaderboard", "rescore", "compare", "items", "report", "export", "judge", "import-lmms")
VERBS += ("download", "check", "profile", "train", "ask")
Cli = Callable[..., tuple[int, str, str]]


# ----------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("program", ["run_eval.py", "vamba-eval"])
def test_the_top_help_has_a_line_for_each_verb(cli: Cli, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(sys, "argv", [f"/somewhere/bin/{program}"])
    monkeypatch.setenv("COLUMNS", "80")
    for flag in ("-h", "--help"):
        status, out, _ = cli(flag)
        listed = out.partition("commands:")[2].partition("examples:")[0].strip().splitlines()[1:]
        assert status == 0 and [line.split()[0] for line in listed] == list(VERBS)
        assert all(len(line.split()) > 2 for line in listed), "each with what it does"
        assert out.startswith(f"usage: {program} ") and f"{program} leaderboard" in out


@pytest.mark.parametrize("program", ["run_eval.py", "vamba-eval"])
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_under_the_name_that_was_called(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, program: str, verb: str
) -> None:
    monkeypatch.setattr(sys, "argv", [f"/somewhere/bin/{program}"])
    status, out, _ = cli(verb, "--help")
    assert status == 0 and out.startswith(f"usage: {program} {verb} ") and "--debug" in out
    other = {"run_eval.py": "vamba-eval", "vamba-eval": "run_eval.py"}[program]
    assert other not in out


def test_help_among_options_is_that_of_a_run(cli: Cli) -> None:
    status, out, _ = cli("--tasks", "synthetic", "--help")
    assert status == 0 and " run [-h]" in out and "--num-frames" in out


def test_the_version(cli: Cli) -> None:
    from vamba_eval import __version__

    assert cli("--version")[:2] == (0, f"vamba-eval {__version__}\n")


def test_help_names_the_choices_that_there_are(cli: Cli) -> None:
    """They are written out there, so that help imports none of these modules."""
    from vamba_eval.exchange.export import FORMATS
    from vamba_eval.profile.point import PHASES
    from vamba_eval.tables.items import LISTS

    assert ", ".join(PHASES) in " ".join(cli("profile", "--help")[1].split())
    assert f"{{{','.join(FORMATS)}}}" in cli("export", "--help")[1]
    assert f"{{{','.join(LISTS)}}}" in cli("items", "--help")[1]


def test_the_installed_command_is_this_one() -> None:
    (script,) = re.findall(r'\[project.scripts\]\nvamba-eval = "(.+)"', (REPOSITORY / "pyproject.toml").read_text())
    assert script == "vamba_eval.cli.main:main"


# ---------------------------------------------------------------------------------------------------- verbs


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What ``run`` asks of evaluate(), call by call; nothing is evaluated."""
    import vamba_eval.run.evaluate

    calls: list[dict[str, Any]] = []

    def evaluate(tasks: Any, models: Any, **options: Any) -> Any:
        calls.append({"tasks": tasks, "models": models, **options})
        raise UserError("that will do")

    monkeypatch.setattr(vamba_eval.run.evaluate, "evaluate", evaluate)
    return calls


def test_without_a_verb_it_runs(cli: Cli, evaluated: list[dict[str, Any]]) -> None:
    given = ("--tasks", "mlvu, nextqa", "--models", "vamba", "--num-frames", "8")
    for command in ((), ("run",), given, ("run", *given), ("--debug", *given), (*given, "--debug"), ("--debug", "run")):
        if "--debug" in command:
            with pytest.raises(UserError, match="that will do"):
                cli(*command)
        else:
            assert cli(*command)[0] == 2
    tasks = [call["tasks"] for call in evaluated]
    assert tasks == [["synthetic"]] * 2 + [["mlvu", "nextqa"]] * 4 + [["synthetic"]]
    assert evaluated[2]["sampling"] == {"num_frames": 8} and evaluated[2]["ladder"] == () and not evaluated[2]["blind"]


def test_a_first_look_shows_a_model_that_sees(cli: Cli, evaluated: list[dict[str, Any]]) -> None:
    """Beside one that guesses, itself without the videos, and with fewer frames; whatever is said of frames holds."""
    cli()
    cli("--num-frames", 16)
    cli("--fps", 2)
    cli("--models", "random")
    first, few, dense, own = evaluated
    assert first["models"] == few["models"] == ["random", "vamba_small"] and first["blind"] and few["blind"]
    assert first["ladder"] == [8, 32, 128, 512] and first["sampling"] == {}
    assert few["ladder"] == () and few["sampling"] == {"num_frames": 16}
    assert dense["ladder"] == () and dense["sampling"] == {"fps": 2.0}
    assert own["models"] == ["random"] and own["ladder"] == () and not own["blind"]
    status, _, err = cli("--tasks", "synthetic,mlvu")
    assert status == 2 and "which models are to be asked mlvu? Name them with --models" in err and len(evaluated) == 4


def test_debug_is_of_one_command(cli: Cli) -> None:
    log = logging.getLogger("vamba_eval")
    for command, level in (("list", "--debug"), logging.DEBUG), (("list",), logging.NOTSET):
        assert cli(*command)[0] == 0 and log.level == level


def test_the_options_of_a_run(cli: Cli, evaluated: list[dict[str, Any]]) -> None:
    command = ("--models", "a=vamba,random", "--model-args", "a:pretrained=x=y,dtype=bfloat16", "--model-args", "a:k=")
    command += ("--num-frames", "8..32", "--keep-size", "--fps", "0.5", "--temperature", 0, "--top-k", 5)
    command += ("--baselines", "--gpus", "all", "--workers", 0, "--clip-cache", "clips", "--clip-cache-gb", 3)
    cli(*command)
    cli("--temperature", 0.7, "--gpus", 8, "--blind")
    first, second = evaluated
    assert first["models"] == ["a=vamba", "random", "constant"] and first["blind"]
    assert first["model_args"] == {"a": {"pretrained": "x=y", "dtype": "bfloat16", "k": ""}}
    assert first["ladder"] == [8, 16, 32]
    assert first["sampling"] == {"fps": 0.5, "shortest_edge": None, "longest_edge": None}
    assert first["generation"] == {"do_sample": False, "temperature": 1.0, "top_k": 5}
    assert first["gpus"] == "all" and first["reading"].workers == 0 and first["reading"].cache_gb == 3
    assert second["generation"] == {"do_sample": True, "temperature": 0.7} and second["gpus"] == 8 and second["blind"]


def test_an_unknown_verb(cli: Cli) -> None:
    status, out, err = cli("leaderbord", "results")
    assert status == 2 and out == "" and err.count("\n") == 1
    assert "unknown command 'leaderbord' (did you mean 'leaderboard'?)" in err
    status, _, err = cli("xyzzy")
    assert status == 2 and "did you mean" not in err and all(verb in err for verb in VERBS)


def test_arguments_and_options_come_in_any_order(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluated: list[dict[str, Any]]
) -> None:
    import vamba_eval.run.ask

    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(vamba_eval.run.ask, "ask", lambda *given, **_: asked.append(given) or [])
    for command in (
        ("v.mp4", "Who?", "Why?", "--model", "m:a=b", "--num-frames", 8),
        ("--model", "m:a=b", "v.mp4", "--num-frames", 8, "Who?", "Why?"),
        ("v.mp4", "--num-frames", 8, "Who?", "--model", "m:a=b", "Why?"),
    ):
        assert cli("ask", *command)[0] == 0
    assert asked == [(Path("v.mp4"), ["Who?", "Why?"], "m", {"a": "b"}, 8, 512)] * 3


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--nonsense"], "no option --nonsense (see run_eval.py run --help)"),
        (["list", "more"], "unrecognized arguments: more (see run_eval.py list --help)"),
        (["compare", "a"], "required: RUN_B"),
        (["judge", "runs"], "required: --judge-model"),
        (["ask"], "required: VIDEO_OR_IMAGE"),
        (["--strategy", "best"], "argument --strategy: there is no 'best': there are uniform,"),
        (["--num-frames", "abc"], "argument --num-frames: 'abc' is neither a number of frames nor a range"),
        (["--num-frames", "8", "--gpus", "some"], "argument --gpus: 'some': write a number of GPUs, such as 8, or all"),
        (["--gpus", "0"], "argument --gpus: '0': write a number of GPUs"),
        (["--model-args", "vamba"], "argument --model-args: 'vamba': write MODEL:KEY=VALUE,KEY=VALUE"),
        (["profile", "--frames", "8-64"], "argument --frames: '8-64' is neither a number of frames nor a range"),
        (["profile", "--size", "640"], "argument --size: '640': write WIDTHxHEIGHT in pixels, such as 640x360"),
        (["profile", "--models", "vamba", "--model-args", "qwen:a=b"], "'qwen', which is not among the models vamba"),
        (["judge", "x", "--judge-model", "m", "--judge-price", "1"], "--judge-price: '1': write IN,OUT in dollars"),
        (["ask", "v.mp4", "--model", "vamba:x"], "argument --model: 'vamba:x': 'x' is not KEY=VALUE"),
    ],
)
def test_mistakes_in_arguments_are_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: list[str], message: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["run_eval.py"])
    status, out, err = cli(*command)
    assert status == 2 and out == "" and message in err
    assert err.startswith("error: ") and err.count("\n") == 1


# --------------------------------------------------------------------------------------------------- values


def test_frame_counts() -> None:
    assert arguments.frame_counts("512") == [512] and arguments.frame_counts(" 3, 8,16 ") == [3, 8, 16]
    assert arguments.frame_counts("8..64") == [8, 16, 32, 64] and arguments.frame_counts("5..5") == [5]
    assert arguments.frame_counts("3, 8..20,512") == [3, 8, 16, 512], "a range ends at the last doubling within it"
    for text in ("", "abc", "8,", "8..", "..8", "64..8", "0", "-5", "0..8", "8:64", "8-64", "1.5", "8..16..32"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"8,16,32, or a range that doubles, such as 8\.\.512"):
            arguments.frame_counts(text)


def test_the_two_options_for_frame_counts_say_the_same(cli: Cli) -> None:
    for text in ("x", "16..8"):
        said = [cli(*option, text)[2] for option in (("run", "--num-frames"), ("profile", "--frames"))]
        texts = [line.partition(": ")[2].partition(": ")[2].rpartition(" (see")[0] for line in said]
        assert texts[0] == texts[1] != ""


def test_frame_sizes() -> None:
    assert arguments.frame_sizes("640x360, 480X270") == [(640, 360), (480, 270)]
    for text in ("", "640", "640x", "0x5", "640x360x3", "640x360,", "-1x5"):
        with pytest.raises(argparse.ArgumentTypeError, match="WIDTHxHEIGHT in pixels, such as 640x360"):
            arguments.frame_sizes(text)


def test_gpus() -> None:
    assert arguments.gpus("all") == "all" and arguments.gpus("8") == 8
    for text in ("", "0", "-1", "1.5", "All", "8,9"):
        with pytest.raises(argparse.ArgumentTypeError, match="a number of GPUs, such as 8, or all"):
            arguments.gpus(text)


def test_prices() -> None:
    assert arguments.prices("0.5,1.5") == (0.5, 1.5) and arguments.prices("0, 0") == (0, 0)
    for text in ("", "1", "1,2,3", "cheap", "-1,2", "nan,1"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"dollars per million tokens, such as 0\.5,1\.5"):
            arguments.prices(text)


def test_model_args() -> None:
    given = [arguments.model_args(text) for text in ("a:x=1,y=/p=q", "b: z =", "a:x=2")]
    assert arguments.by_label(given) == {"a": {"x": "2", "y": "/p=q"}, "b": {"z": ""}}
    assert arguments.model("a") == ("a", {}) and arguments.model("a:x=1") == ("a", {"x": "1"})
    assert arguments.model_args("x=1,y=a:b") == ("", {"x": "1", "y": "a:b"})
    for text in ("", "a", "a:", ":x=1", "a:x", "a:x=1,", "a:=1", "=1"):
        with pytest.raises(argparse.ArgumentTypeError, match="KEY=VALUE,KEY=VALUE, such as vamba:pretrained=PATH"):
            arguments.model_args(text)


# --------------------------------------------------------------------------------------------------- starts


@pytest.mark.parametrize(
    "command", [["--help"], *([verb, "--help"] for verb in VERBS), ["list"], ["leaderboard", "--published"]]
)
def test_a_start_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys\n"
        "from vamba_eval.cli.main import main\n"
        "try:\n"
        "    status = main(sys.argv[1:])\n"
        "except SystemExit as stop:\n"
        "    status = stop.code\n"
        "heavy = {'torch', 'transformers', 'av', 'pandas', 'huggingface_hub', 'ray', 'rich', 'matplotlib'}\n"
        "if '--published' in sys.argv:\n"
        "    heavy -= {'rich'}\n"
        "else:\n"
        "    heavy |= {'numpy', 'PIL'} | {f'vamba_eval.{room}' for room in ('run', 'tables', 'profile', 'exchange')}\n"
        "print(*sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "") and done.stdout


def test_the_script_runs_from_anywhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "run_eval.py", "list", "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith("usage: run_eval.py list ")

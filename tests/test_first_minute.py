"""What a newcomer meets: a few lines before anything slow, an end where a run cannot succeed, other programs' words."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import longvideobench_rows, videomme_rows, write_longvideobench, write_videomme
from stored import latest_records
from videos import make_video

from vamba_eval import Task, Video, load_task, registry
from vamba_eval.cli import habits, main
from vamba_eval.contracts import Answer, Clip, GenerationSettings, Model, ModelAdapter, Question, UserError
from vamba_eval.files import safe_label
from vamba_eval.run.first_look import sampled

TESTS = Path(__file__).parent
REPOSITORY = TESTS.parent
TASK, MODEL = f"{TESTS / 'plugins.py'}:FolderTask", f"careful={TESTS / 'plugins.py'}:Careful"
Cli = Callable[..., tuple[int, str, str]]


class Broken(ModelAdapter):
    """Raises at every video, or at all but the first few."""

    name = "broken"

    def __init__(self, after: str = "0") -> None:
        self.left = int(after)

    def encode(self, clip: Clip | None) -> Any:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("no kernel image for this device")

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        return [Answer("A", 1) for _ in prompts]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    make_video(folder / "00.mp4", frames=10, size=(48, 64))
    for number in range(1, 14):
        shutil.copy(folder / "00.mp4", folder / f"{number:02}.mp4")
    return folder


# ---------------------------------------------------------------------------------------------- before anything slow


@pytest.mark.parametrize("slow_in", ["import", "init"])
def test_it_says_at_once_what_it_is_going_to_do(films: Path, tmp_path: Path, slow_in: str) -> None:
    """Before torch is imported: a model that takes long to come is not waited for, and is said to be on its way."""
    slow = tmp_path / "slow.py"
    adapter = """
class Slow(ModelAdapter):
    name = "slow"
    def __init__(self): time.sleep(30)
    def encode(self, clip): return None
    def generate(self, encoded, prompts, settings): return []
"""
    slow.write_text(
        f"import time\nfrom vamba_eval import ModelAdapter\n{'time.sleep(30)' if slow_in == 'import' else adapter}\n"
    )
    words = ["--tasks", TASK, "--models", f"slow={slow}", "--data-root", str(films), "--output", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "run_eval.py", *words, "--num-frames", "4"],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    expected = ["models: slow", "on the CPU ("]
    if slow_in == "init":
        expected += [
            "folder: 28 questions about 14 videos",
            "protocol vamba; 4 frames, at most 480 pixels and at least 256 pixels",
        ]
    waiting = [f"{'checking' if slow_in == 'import' else 'loading'} slow ... ("] * 2
    try:
        assert process.stderr is not None
        begun = time.monotonic()
        lines = [process.stderr.readline().strip() for _ in [*expected, *waiting]]
        assert time.monotonic() - begun < 25, "it did not wait for the model"
    finally:
        process.kill()
        process.wait()
    assert all(line.startswith(start) for line, start in zip(lines, [*expected, *waiting], strict=True)), lines
    assert lines[1].endswith(f"CUDA_VISIBLE_DEVICES hides all GPUs; answers go to {tmp_path / 'out' / 'folder'}")


def test_on_a_terminal_tables_are_styled_and_text_obeys_nobody(
    cli: Cli, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("--tasks", TASK, "--models", MODEL, "--data-root", films, "--output", tmp_path, "--limit", 1)
    assert cli(*command, "--workers", 0, "--num-frames", 2)[0] == 0
    run = tmp_path / "folder" / "run.json"
    info = json.loads(run.read_text())
    info["environments"][-1]["hardware"]["cpu"] = "a \x1b[31mred one"
    run.write_text(json.dumps(info))
    terminal = type("Terminal", (io.StringIO,), {"isatty": lambda self: True})()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    main(["leaderboard", str(tmp_path), "--task-code", TASK])
    shown = terminal.getvalue()
    assert "\x1b[1m" in shown and "\\x1b[1m" not in shown and "\x1b[31m" not in shown and "a \\x1b[31mred one" in shown


def test_what_can_be_named_is_listed_in_whole_sentences(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Task, Model):
        for name, summary in registry.describe_all(kind).items():
            assert summary[-1] in ".?" or summary.startswith("from "), f"{name}: {summary}"
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, cli("list")[1].splitlines())) > 100, "for another program a line each"
    terminal = type("Terminal", (io.StringIO,), {"isatty": lambda self: True})()
    monkeypatch.setattr(sys, "stdout", terminal)
    main(["list"])
    assert max(map(len, terminal.getvalue().splitlines())) <= 60


# --------------------------------------------------------------------------------------------- runs that cannot succeed


def test_with_no_video_there_nothing_is_loaded(cli: Cli, tmp_path: Path) -> None:
    write_videomme(tmp_path, videomme_rows(4))
    command = ("--tasks", "videomme", "--data-root", tmp_path, "--output", tmp_path / "out")
    status, _, errors = cli(*command, "--models", MODEL)
    assert status == 2 and "none of its 4 videos is there; the first should be" in errors
    assert f"run_eval.py download videomme --data-root {tmp_path} fetches them" in errors
    assert not list((tmp_path / "out").rglob("*.jsonl"))
    assert cli(*command, "--models", "random")[0] == 0, "who looks at nothing needs none"


def test_a_finished_run_needs_no_videos(cli: Cli, films: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(films, tmp_path / "data"))
    write_longvideobench(tmp_path, rows := longvideobench_rows(2))
    for row in rows:
        shutil.copy(data / "00.mp4", tmp_path / "longvideobench" / "videos" / row["video_path"])
    command = ("--tasks", "longvideobench", "--models", MODEL, "--data-root", tmp_path, "--output", tmp_path / "out")
    assert cli(*command)[0] == 0
    shutil.rmtree(tmp_path / "longvideobench" / "videos")
    assert cli(*command)[0] == 0


@pytest.mark.parametrize("more", [(), ("--keep-going",)])
def test_what_fails_alike_from_the_first_video_on_is_not_tried_to_the_end(
    cli: Cli, films: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    command = ("--tasks", TASK, "--models", f"broken={__file__}:Broken", "--data-root", films)
    status, _, errors = cli(*command, "--output", tmp_path, "--num-frames", 2, *more)
    records = latest_records(tmp_path / "folder" / "folder.broken.jsonl")
    assert all(record["error"] for record in records.values())
    if more:
        assert status == 1 and len(records) == 28
        return
    assert status == 2 and 10 <= len(records) < 20
    reason = "encoding failed: RuntimeError: no kernel image for this device (test_first_minute.py:"
    assert f"the first 5 videos all failed alike: {reason}" in errors and "--keep-going" in errors


def test_failures_after_an_answer_do_not_end_a_run(cli: Cli, films: Path, tmp_path: Path) -> None:
    command = ("--tasks", TASK, "--models", f"broken={__file__}:Broken", "--data-root", films, "--output", tmp_path)
    status, _, _ = cli(*command, "--num-frames", 2, "--model-args", "after=1")
    records = latest_records(tmp_path / "folder" / "folder.broken.jsonl")
    assert status == 1 and Counter(record["error"] is None for record in records.values()) == {True: 2, False: 26}


# ---------------------------------------------------------------------------------------------- other programs' words

OPTIONS = ["--models", "--model-args", "--tasks", "--output", "--num-frames", "--batch-size", "--limit"]


def test_other_programs_words_are_understood_and_said_once() -> None:
    given = [
        "--model",
        "x",
        "--model_args",
        "pretrained=y",
        "--output_path=z",
        "--num_frames",
        "8",
        "--limit",
        "--model",
    ]
    words, said = habits.translated(given, OPTIONS)
    assert words == [
        *("--models", "x", "--model-args", "pretrained=y", "--output=z", "--num-frames", "8", "--limit", "--models"),
    ]
    assert said == ["--model is --models here", "--output_path is --output here"]
    with pytest.raises(UserError, match="--num_fewshot is no option here: questions are asked without examples"):
        habits.translated(["--num_fewshot", "2"], OPTIONS)
    with pytest.raises(UserError) as refused:
        habits.translated(["--log_samples", "--gen_kwargs", "a=1", "--log_samples_suffix", "x"], OPTIONS)
    lines = str(refused.value).splitlines()
    assert [line.partition(" is no option here: ")[0] for line in lines] == [
        "--log_samples",
        "--gen_kwargs",
        "--log_samples_suffix",
    ]
    assert habits.translated(["--unknown", "a_b", "-x"], OPTIONS) == (["--unknown", "a_b", "-x"], [])


def test_a_command_of_lmms_eval(cli: Cli, films: Path, tmp_path: Path) -> None:
    words = ("--model", f"{__file__}:Broken", "--model_args", "after=99", "--tasks", TASK, "--data_root", films)
    status, out, errors = cli(*words, "--output_path", tmp_path, "--limit", 3)
    assert status == 0, errors
    assert errors.count("note: --model is --models here") == 1 and "--output_path is --output here" in errors
    assert "(6/28)" in out


def test_names_with_spaces_between_them(cli: Cli, films: Path, tmp_path: Path) -> None:
    status, out, errors = cli(
        "--tasks", TASK, "--models", "random", "constant", "--data-root", films, "--output", tmp_path
    )
    assert status == 0 and "random" in out and "constant" in out, errors
    again = ("--tasks", f"{TASK},{TASK}", "--tasks", TASK, "--models", "random", "--models", "constant", "--limit", 1)
    status, out, errors = cli(*again, "--data-root", films, "--output", tmp_path / "again")
    assert status == 0 and "random" in out and "constant" in out, "an option given again adds to the one before"
    assert len(list((tmp_path / "again").rglob("*.jsonl"))) == 2, "a benchmark that is named twice is one"
    status, out, _ = cli("--tasks", "list")
    assert status == 0 and "videomme" in out and "Presets:" in out


def test_suites_are_lists_of_tasks(cli: Cli, tmp_path: Path) -> None:
    for name, suite in registry.suites().items():
        assert set(suite.tasks) <= set(registry.names(Task)) and suite.summary and suite.source, name
    expanded = registry.expanded(["synthetic", "mlvu", "suite:long", "suite:2026"])
    assert expanded[:3] == ["synthetic", "mlvu", "videomme"] and len(expanded) == len(set(expanded)) == 19
    status, _, errors = cli("--tasks", "suite:short", "--models", "random", "--output", tmp_path)
    assert status == 2 and "unknown suite 'short': there are vamba-paper, long, 2026" in errors
    assert "suite:2026" in cli("list")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--models", "random,constant", "--model-args", "seed=1"), "of which model is seed=1 an argument?"),
        (("--models", "random", "--batch-size", "4"), "--batch-size has no effect on random"),
        (("--models", "random", "--limit", "q"), "write a number of videos, such as 20, or of questions, such as 50q"),
        (("--models", "random", "--numframes", "4"), "no option --numframes (did you mean --num-frames?)"),
        (("--models", "random", "--clip-cache-gb", "5"), "--clip-cache-gb is the size of a --clip-cache"),
        (("--log_samples",), "every prompt and response is kept anyway"),
    ],
)
def test_what_would_do_nothing_is_refused(cli: Cli, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    status, _, errors = cli(*words, "--output", tmp_path)
    assert status == 2 and said in errors.splitlines()[-1] and errors.count("error: ") == 1


def test_a_cluster_that_is_not_there_is_not_waited_for(cli: Cli, films: Path, tmp_path: Path) -> None:
    command = ("--tasks", TASK, "--models", MODEL, "--data-root", films, "--output", tmp_path)
    status, _, errors = cli(*command, "--replicas", 1, "--ray-address", "127.0.0.1:9")
    assert status == 2 and "error: no Ray cluster answers at 127.0.0.1:9" in errors


# ---------------------------------------------------------------------------------------------- data and places


@pytest.mark.parametrize("name", ["Video-MME", "lmms-lab--Video-MME", "video_mme", "videomme"])
def test_data_is_found_under_the_names_that_hubs_give_it(tmp_path: Path, name: str) -> None:
    write_videomme(tmp_path / "made", videomme_rows(3))
    (tmp_path / "data").mkdir()
    (tmp_path / "made" / "videomme").rename(tmp_path / "data" / name)
    (tmp_path / "data" / "Video-MME-v2").mkdir()
    assert len(load_task("videomme").load(tmp_path / "data")) == 3


def test_of_several_roots_the_first_that_has_it(cli: Cli, tmp_path: Path) -> None:
    write_videomme(tmp_path / "one", videomme_rows(3))
    write_longvideobench(tmp_path / "two", longvideobench_rows(4))
    roots = ("--data-root", tmp_path / "one", "--data-root", tmp_path / "two")
    command = ("--tasks", "videomme,longvideobench", "--models", "random", "--output", tmp_path / "out")
    status, _, errors = cli(*command, *roots)
    assert status == 0, errors
    status, _, errors = cli("--tasks", "mlvu", "--models", "random", "--output", tmp_path / "out", *roots)
    assert status == 2 and "below" in errors and f"nor is it in {tmp_path / 'two'}" in errors


def test_a_run_made_otherwise_is_not_in_the_way(cli: Cli, films: Path, tmp_path: Path) -> None:
    command = ("--tasks", TASK, "--models", MODEL, "--data-root", films, "--output", tmp_path, "--limit", 2)
    assert cli(*command, "--num-frames", 4)[0] == 0
    for _ in range(2):  # and goes on there
        status, _, errors = cli(*command, "--num-frames", 8)
        assert status == 0 and f"answers go to {tmp_path / 'folder-8-frames'}" in errors
    assert "nothing left to ask" in errors
    assert cli(*command, "--num-frames", 4)[0] == 0
    assert sorted(path.parent.name for path in tmp_path.rglob("run.json")) == ["folder", "folder-8-frames"]
    status, _, errors = cli(*command, "--num-frames", 8, "--name", "folder")
    assert status == 2 and "4 there, 8 now" in errors, "who names a place means it"


def test_a_checkpoint_here_needs_no_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("my-model", "random"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert registry.named_model("my-model", {}) == ("my-model", "transformers", {"pretrained": "my-model"})
    assert registry.named_model("random", {}) == ("random", "random", {}), "a name that is known keeps its meaning"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no checkpoint in empty: it holds"):
        registry.named_model("empty", {})


def test_labels_keep_their_dots(cli: Cli, films: Path, tmp_path: Path) -> None:
    command = ("--tasks", TASK, "--data-root", films, "--output", tmp_path, "--limit", 2, "--num-frames", 2)
    status, out, _ = cli(*command, "--models", f"Qwen2.5-VL={TESTS / 'plugins.py'}:Careful")
    assert status == 0 and "Qwen2.5-VL" in out
    assert (tmp_path / "folder" / "folder.Qwen2.5-VL.jsonl").exists()
    for label, kept in (("../x", "x"), ("a..b", "a.b"), (".", "run"), ("m.judged", "m-judged"), ("a/b.c", "a-b.c")):
        assert safe_label(label) == kept


def test_a_run_that_called_it_without_dots_goes_on(cli: Cli, films: Path, tmp_path: Path) -> None:
    command = ("--tasks", TASK, "--data-root", films, "--output", tmp_path, "--limit", 2, "--num-frames", 2)
    model = f"{TESTS / 'plugins.py'}:Careful"
    assert cli(*command, "--models", f"Qwen2-5={model}")[0] == 0
    status, out, errors = cli(*command, "--models", f"Qwen2.5={model}")
    assert status == 0 and "nothing left to ask" in errors and "Qwen2-5" in out and "Qwen2.5" not in out


@pytest.mark.parametrize("count", [100, 101])
def test_many_videos_are_asked_in_a_drawn_order(cli: Cli, tmp_path: Path, count: int) -> None:
    """So that the score so far is of a fair part, where a benchmark lists the short ones first."""
    write_videomme(tmp_path, videomme_rows(count))
    orders = []
    for name in ("one", "two"):
        command = ("--tasks", "videomme", "--models", "random", "--data-root", tmp_path, "--output", tmp_path / name)
        assert cli(*command)[0] == 0
        lines = (tmp_path / name / "videomme" / "videomme.random.jsonl").read_text().splitlines()
        orders.append(list(dict.fromkeys(json.loads(line)["video"] for line in lines)))
    listed = [f"vid_{n}" for n in range(count)]
    assert orders[0] == orders[1] and sorted(orders[0]) == sorted(listed)
    assert (orders[0] == listed) == (count <= 100)


# ---------------------------------------------------------------------------------------------- samples


def test_a_sample_has_all_groups_in_proportion(cli: Cli, tmp_path: Path) -> None:
    kinds = ["short"] * 60 + ["long"] * 30 + ["rare"] * 10
    videos = [
        Video(f"v{n}", Path(f"v{n}.mp4"), (Question(f"q{n}", "?", groups={"all": "one", "kind": kind}),))
        for n, kind in enumerate(kinds)
    ]
    drawn, words = sampled(videos, 20)
    assert Counter(q.groups["kind"] for video in drawn for q in video.questions) == {"short": 12, "long": 6, "rare": 2}
    assert words == "20 questions drawn from each kind in proportion"
    assert sampled(list(reversed(videos)), 20)[0] == list(reversed(drawn)), "whatever their order"
    assert [video.id for video in drawn] == sorted((video.id for video in drawn), key=lambda name: int(name[1:]))
    assert len(sampled(videos, 1000)[0]) == 100
    assert sampled(videos, 7)[0] != drawn[:7]


def test_a_sample_is_called_one(cli: Cli, films: Path, tmp_path: Path) -> None:
    command = ("--tasks", TASK, "--models", MODEL, "--data-root", films, "--output", tmp_path)
    status, out, _ = cli(*command, "--limit", "5q")
    assert status == 0 and "(5/28)" in out and "SAMPLE: careful" in out and "5 questions drawn" in out
    assert (
        json.loads((tmp_path / "folder" / "run.json").read_text())["counts"]["folder"]["sample"] == "5 questions drawn"
    )
    status, out, _ = cli(*command)
    assert status == 0 and "SAMPLE" not in out and "PARTIAL" not in out, "the rest can be asked later"

"""Somebody else's results are opened: nothing that they name is run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vamba_eval import Leaderboard, registry
from vamba_eval.contracts import UserError

Cli = Callable[..., tuple[int, str, str]]
TASK = """
from pathlib import Path

from vamba_eval.contracts import Catalogue, Question, Score, Task, Video

Path({marker!r}).touch()


class Theirs(Task):
    name = "theirs"
    version = "1"
    catalogue = Catalogue(title="Theirs", homepage="nowhere", citation="none")

    def load(self, data_root, split=None):
        return [Video("v", Path("v.mp4"), (Question("q1", "?", ("yes", "no"), "A"), Question("q2", "?", (), "B")))]

    def prompt(self, video, question, protocol, clip):
        return "?"

    def score(self, question, response, protocol):
        return Score({{"correct": float(response == question.answer)}})
"""
VERBS = {
    "leaderboard": (),
    "rescore": ("--protocol", "all"),
    "items": (),
    "report": ("--no-images",),
    "export": ("--format", "lmms-eval"),
    "judge": ("--judge-model", "j", "--judge-url", "http://127.0.0.1:9/v1"),
}


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Is there as soon as the task's code has run."""
    return tmp_path / "it_ran"


@pytest.fixture
def theirs(tmp_path: Path, marker: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of results with the code of their task in it, in a process that has not seen that."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setattr(registry, "_NAMED", [])
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "task_of_theirs.py").write_text(TASK.format(marker=str(marker)))
    command = ("--tasks", folder / "task_of_theirs.py", "--models", "constant", "--output", folder)
    status, _, err = cli(*command)
    assert status == 0 and marker.exists(), err
    forget(marker)
    return folder


def forget(marker: Path) -> None:
    import sys

    registry._NAMED.clear()
    sys.modules.pop("_vamba_eval_plugin_task_of_theirs", None)
    marker.unlink(missing_ok=True)


def say(folder: Path, source: str) -> None:
    """The results name that as their task's source."""
    file = folder / "theirs" / "run.json"
    info = json.loads(file.read_text())
    info["tasks"]["theirs"]["source"] = source
    file.write_text(json.dumps(info))


def opened(cli: Cli, verb: str, folder: Path, *more: object) -> tuple[int, str, str]:
    output = folder.parent / f"{verb}-output"
    return cli(verb, folder, *VERBS[verb], *(() if verb == "judge" else ("--output", output)), *more)


@pytest.mark.parametrize("verb", VERBS)
def test_code_beside_results_is_not_run(verb: str, theirs: Path, marker: Path, cli: Cli) -> None:
    _, _, err = opened(cli, verb, theirs)
    assert not marker.exists()
    assert f"--task-code {theirs / 'task_of_theirs.py'}" in err


@pytest.mark.parametrize("verb", VERBS)
def test_it_is_run_if_it_is_named(verb: str, theirs: Path, marker: Path, cli: Cli) -> None:
    """By any path: results remember another machine's."""
    reviewed = Path(shutil.copy(theirs / "task_of_theirs.py", theirs.parent / "reviewed.py"))
    _, out, err = opened(cli, verb, theirs, "--task-code", reviewed)
    assert marker.exists() and "--task-code" not in err
    if verb == "leaderboard":
        assert "| constant" in out and "50.0" in out and "(reported)" not in out


def test_comparing_runs_nothing_either(theirs: Path, marker: Path, cli: Cli) -> None:
    run = theirs / "theirs"
    status, _, err = cli("compare", run, run)
    assert status == 2 and "--task-code" in err and not marker.exists()


def test_their_own_table_is_shown_in_its_place(theirs: Path, marker: Path, cli: Cli) -> None:
    status, out, err = cli("leaderboard", theirs)
    assert status == 1, err
    assert "| constant (reported)" in out and "50.0" in out and "LEFT OUT" in out
    (row,) = Leaderboard.from_runs([theirs]).table.to_dict("records")
    assert row["score"] == 0.5 and row["reported"] and "not scored here" in row["source"]
    (theirs / "theirs" / "leaderboard.json").write_text('[{"task": "theirs", "run": "theirs", "score": "many"}]')
    with pytest.raises(UserError, match="--task-code"):
        Leaderboard.from_runs([theirs])
    assert not marker.exists()


@pytest.mark.parametrize(
    "source",
    [
        "http.server:test",
        "os:abort",
        "builtins:exit",
        "antigravity:fly",
        "vamba_eval.contracts:Task",
        "vamba_eval.registry:load_task",
        "sys:modules",
        ":",
        "task_of_theirs:Theirs",
        "../theirs/task_of_theirs.py",
    ],
)
def test_other_things_that_results_may_name(
    source: str, theirs: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(theirs)
    monkeypatch.syspath_prepend(str(theirs))
    say(theirs, source)
    (theirs / "theirs" / "leaderboard.json").unlink()
    with pytest.raises(UserError, match="only run if you name it"):
        Leaderboard.from_runs([theirs])
    assert not marker.exists()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("gone.py", "no such file"),
        ("json:dumps", "is no task"),
        ("json", "is no task"),
        ("no_such:T", "No module named"),
    ],
)
def test_code_that_cannot_be_named(code: str, message: str, theirs: Path, cli: Cli) -> None:
    status, _, err = cli("leaderboard", theirs, "--task-code", code)
    assert status == 2 and message in err, err

"""Somebody else's results are opened: nothing that they name is run."""

from __future__ import annotations

import ctypes  # noqa: F401 - that it is loaded is the point
import gc
import json
import shutil
import sys
import types
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
    registry._NAMED.clear()
    sys.modules.pop("_vamba_eval_plugin_task_of_theirs", None)
    gc.collect()  # classes are in cycles, and a class that is still there counts as imported
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
        assert "\nconstant" in out and "50.0" in out and "(stored)" not in out


def test_comparing_runs_nothing_either(theirs: Path, marker: Path, cli: Cli) -> None:
    run, again = theirs / "theirs", theirs / "again"
    shutil.copytree(run, again)
    status, _, err = cli("compare", run, again)
    assert status == 2 and "--task-code" in err and not marker.exists()


def test_their_own_table_is_shown_in_its_place(theirs: Path, marker: Path, cli: Cli) -> None:
    status, out, err = cli("leaderboard", theirs)
    assert status == 1, err
    assert "\nconstant (stored)" in out and "not scored here" in out and "50.0" in out and "LEFT OUT" in out
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
        "ctypes:cdll.a/b",
        "asks_for_names:anything",
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
    asks = types.ModuleType("asks_for_names")
    asks.__getattr__ = lambda name: marker.touch()  # as lazy modules and ctypes.cdll have it
    monkeypatch.setitem(sys.modules, "asks_for_names", asks)
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


def test_a_task_of_the_same_name_is_no_other_ones(theirs: Path, marker: Path, cli: Cli) -> None:
    """Two that were named are told apart by their files; a third one's results belong to neither."""
    files = []
    for folder in ("a", "b"):
        (theirs.parent / folder).mkdir()
        files.append(Path(shutil.copy(theirs / "task_of_theirs.py", theirs.parent / folder / f"task_{folder}.py")))
        registry.name_task_code(str(files[-1]))
    for file in files:
        found = registry.recorded_task(str(file), "theirs")
        assert Path(sys.modules[type(found).__module__].__file__) == file
    with pytest.raises(UserError, match="only run if you name it"):
        registry.recorded_task("/elsewhere/task.py", "theirs")


def test_an_export_stays_where_it_belongs(theirs: Path, tmp_path: Path, cli: Cli) -> None:
    file = theirs / "theirs" / "run.json"
    info = json.loads(file.read_text())
    file.write_text(json.dumps({**info, "begun": f"{tmp_path}/elsewhere/x"}))
    (tmp_path / "elsewhere").mkdir()
    command = ("export", theirs, "--format", "lmms-eval", "--output", tmp_path / "out")
    assert cli(*command, "--task-code", theirs / "task_of_theirs.py")[0] == 0
    assert not list((tmp_path / "elsewhere").iterdir()) and list((tmp_path / "out").rglob("*_samples_theirs.jsonl"))
    file.write_text(json.dumps({**info, "models": {"../../x": info["models"]["constant"]}}))
    status, _, err = cli(*command, "--task-code", theirs / "task_of_theirs.py")
    assert status == 2 and "not written by this version" in err


def test_a_run_of_a_protocol_that_is_no_more_costs_no_other(theirs: Path, cli: Cli) -> None:
    """And of a row without a score, the others are shown."""
    shutil.copytree(theirs / "theirs", theirs / "sound")
    file = theirs / "theirs" / "run.json"
    info = json.loads(file.read_text())
    info["tasks"]["theirs"]["protocol"] = "gone"
    file.write_text(json.dumps(info))
    status, out, err = cli("leaderboard", theirs, "--task-code", theirs / "task_of_theirs.py")
    assert status == 1 and "\nconstant " in out and "has no protocol 'gone'" in err
    forget(theirs.parent / "it_ran")
    table = theirs / "theirs" / "leaderboard.json"
    (row,) = json.loads(table.read_text())
    table.write_text(json.dumps([{**row, "model": "silent", "score": None, "best": None, "unit": None}, row]))
    assert [result.model for result in Leaderboard.from_runs([theirs / "theirs"]).results] == ["constant"]
    table.write_text(json.dumps([{**row, "answered": 1, "failed": 0, "not_asked": 1}]))
    assert "of 1/2" in Leaderboard.from_runs([theirs / "theirs"]).to_markdown(), "a part is shown as one"

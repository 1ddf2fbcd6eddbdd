"""Files that are replaced all at once, and locks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vamba_eval.contracts import UserError
from vamba_eval.files import locked, remove_unfinished, replace_bytes, replace_text, replacing, user_cache
from vamba_eval.store.runs import Run


def test_a_file_is_replaced_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    replace_text(path, "é before\n")
    assert path.read_bytes() == "é before\n".encode() and path.stat().st_mode & 0o777 == 0o644
    with replacing(path) as aside:
        aside.write_text("after")
        assert path.read_text(encoding="utf-8") == "é before\n" and aside.parent == tmp_path and aside.suffix == ".tmp"
    assert path.read_text() == "after"
    replace_bytes(path, b"\xff\x00")
    assert path.read_bytes() == b"\xff\x00" and os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_what_fails_leaves_the_file_as_it_was(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.txt"
    replace_text(path, "before")
    with pytest.raises(type(error)), replacing(path) as aside:
        aside.write_text("half")
        raise error
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["file.txt"]


_AT_WORK = """
import sys, time
from pathlib import Path
from vamba_eval.files import replacing
with replacing(Path(sys.argv[1])) as aside:
    aside.write_text("half")
    print(aside, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed_and_what_one_is_at_work_on_is_not(tmp_path: Path) -> None:
    (tmp_path / "mine.tmp").write_text("somebody's own")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", _AT_WORK, str(tmp_path / "run.json")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        aside = Path(process.stdout.readline().strip())
        remove_unfinished(tmp_path)
        assert aside.read_text() == "half"
        process.kill()
    assert aside.exists()
    with Run(tmp_path, {}):
        assert sorted(os.listdir(tmp_path)) == [".lock", "mine.tmp", "run.json"]


def test_a_lock_keeps_other_processes_out(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    code = (
        "import sys\nfrom pathlib import Path\nfrom vamba_eval.files import locked\n"
        "with locked(Path(sys.argv[1]), 'taken'):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(path)], env=environment, text=True, **pipes) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="somebody writes"), locked(path, "somebody writes"):
            pass
        other.communicate("")
    assert other.returncode == 0
    with pytest.raises(ValueError, match="from within"), locked(path, "taken"):
        raise ValueError("from within")
    with locked(path, "taken"):
        pass


def test_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "vamba-eval"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache() == tmp_path / "home" / ".cache" / "vamba-eval"

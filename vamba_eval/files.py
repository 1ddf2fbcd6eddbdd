"""Files that no kill leaves half written, locks that keep other processes out, and the user's cache directory.

Knows nothing of what is in the files.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vamba_eval.contracts import UserError
from vamba_eval.plain import valid
from vamba_eval.secrets import without_secrets

_ASIDE = re.compile(r"(^tmp|\.)[a-z0-9_]{8}\.tmp$")  # as tempfile calls it


def user_cache() -> Path:
    """Where what can be had again is kept from run to run; it may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vamba-eval"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """An empty file ``*.tmp`` beside ``path`` to write into. When the block ends well it becomes ``path``, readable
    for all; else it is removed and ``path`` stays as it was. Raises OSError."""
    number, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    aside = Path(name)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(number, fcntl.LOCK_EX)  # by which others know that somebody is at work on it
        yield aside
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise
    finally:
        os.close(number)


def remove_unfinished(folder: Path) -> None:
    """Remove the ``*.tmp`` of ``replacing`` in ``folder`` that processes left which were killed at work."""
    for aside in folder.glob("*.tmp"):
        with suppress(OSError):  # somebody is at work on it, or it is gone
            if _ASIDE.search(aside.name):
                with open(aside, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    aside.unlink()


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8, whatever is in it, but for secrets. Raises OSError."""
    path.write_text(valid(without_secrets(text)), encoding="utf-8")


def replace_text(path: Path, text: str) -> None:
    """As ``write_text``, in place of what is there, all at once. Raises OSError."""
    with replacing(path) as aside:
        write_text(aside, text)


def replace_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``, all at once. Raises OSError."""
    with replacing(path) as aside:
        aside.write_bytes(content)


@contextmanager
def locked(path: Path, taken: str) -> Iterator[None]:
    """Hold the lock file ``path``, which stays there. Raises UserError(``taken``) while another process holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(str(path))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(taken) from None
    try:
        yield
    finally:
        lock.release()


def safe_name(name: str) -> str:
    """``name`` as one path component that the dots of a record file's name cannot confuse: letters of any script, their
    marks and digits, however they were composed."""
    name = unicodedata.normalize("NFC", name)
    kept = (char if char in "_+=-" or unicodedata.category(char)[0] in "LMN" else "/" for char in name)
    return re.sub("/+", "-", "".join(kept)).strip("-") or "run"

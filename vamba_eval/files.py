"""Files that no kill leaves half written, folders that nothing leaves, locks that keep other processes out, and the
user's cache directory.

Knows nothing of what is in the files.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vamba_eval.contracts import UserError
from vamba_eval.plain import valid
from vamba_eval.secrets import without_secrets

_ASIDE = re.compile(r"(^tmp|\.)[a-z0-9_]{8}\.tmp$")  # as tempfile calls it
_CONTROL = re.compile("[\x00-\x1f\x7f]")


def user_cache() -> Path:
    """Where what can be had again is kept from run to run; it may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vamba-eval"


def path_inside(root: Path, name: str, source: str) -> Path:
    """The path of ``name`` below the folder ``root``: the way in which a name that somebody else wrote becomes a path.

    UserError, which says that it stands in ``source``, for one that leads out of ``root``, or names nothing there.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    written = f"{name[:200]!r}{'...' if len(name) > 200 else ''}"
    if not parts or _CONTROL.search(name):
        raise UserError(f"{source} holds a file called {written}, which is no name: it is refused")
    path = root.joinpath(*parts)
    drive = re.match("[A-Za-z]:", parts[0])  # to Windows
    if drive or ".." in parts or leads_outside(root, path):
        raise UserError(f"{source} holds {written}, which leads out of {root}: it is refused")
    return path


def leads_outside(root: Path, path: Path) -> bool:
    """Whether ``path`` leads out of the folder ``root``: by its name, or because it is a link that does.

    Links of the folders on the way are followed: a folder on another disk is how users make room, while what comes from
    outside is files.
    """
    root, path = root.absolute(), path.absolute()
    if path.is_relative_to(root) and ".." not in path.relative_to(root).parts and not os.path.islink(path):
        return False
    try:
        return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))
    except ValueError:  # a null character
        return True


def make_private(folder: Path) -> None:
    """Have ``folder``, made for this user alone; one that is there keeps its permissions, which somebody chose. Raises
    OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def open_regular(path: Path) -> BinaryIO | None:
    """The file at ``path``, to be read; None where there is none. Where others may write there may be a link, which is
    not followed, and a pipe or a device, which is not waited for: these count as none. Raises OSError."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):  # the last: a socket, or a device's driver is gone
            return None
        raise
    if stat.S_ISREG(os.fstat(number).st_mode):
        return os.fdopen(number, "rb")
    os.close(number)
    return None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """An empty file, called ``path`` with ``.*.tmp`` behind it, to write into. When the block ends well it becomes
    ``path``, readable for all; else it is removed and ``path`` stays as it was. Raises OSError."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name[:100]}.", suffix=".tmp")
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


def safe_label(label: str) -> str:
    """As ``safe_name``, with the dots within it: a model is called ``Qwen2.5-VL``. The end of no other file's name."""
    parts = [safe_name(part) for part in label.split(".") if part.strip(". ")] or [safe_name(label)]
    kept = ".".join(parts)
    return kept.removesuffix(".judged") + "-judged" if kept.endswith(".judged") else kept

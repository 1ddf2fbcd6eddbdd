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
_MOST_BYTES = 2**26  # of a file that is read whole: what a run says of itself, a table
_LONGEST_LINE = 2**28  # several times a response of 10 MB, with its thinking, each letter as \uXXXX


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
        return _regular(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):  # the last: a socket, or a device's driver is gone
            return None
        raise


def open_of_others(path: Path) -> BinaryIO:
    """A file in a folder that may be somebody else's, to be read.

    UserError for a pipe or a device, which would be waited for, and for a link out of the file's own folder: who made
    it may not be one who may read what is there. Links into the Hub's cache are followed, since its snapshots are made
    of them. Raises OSError, also where there is no file.
    """
    if os.path.islink(path) and leads_outside(path.parent, path):
        from huggingface_hub.constants import HF_HUB_CACHE

        if leads_outside(Path(HF_HUB_CACHE), path):
            raise UserError(f"{path} is a link out of its folder, which is not followed: put the file itself there")
    file = _regular(path, os.O_RDONLY)
    if file is None:
        raise UserError(f"{path} is a pipe, a device or a folder, not a file")
    return file


def read_of_others(path: Path, most: int = _MOST_BYTES) -> bytes:
    """All of such a file. Raises as ``open_of_others``, and UserError for one of more than ``most`` bytes."""
    with open_of_others(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise UserError(f"{path} is larger than {most / 2**20:,.0f} MiB, so it is not what it is called")
    return content


def lines_of_others(path: Path) -> Iterator[str]:
    """The lines of such a file, each with its end, the last perhaps without; none that is longer than any that is
    written here. Raises as ``open_of_others``."""
    with open_of_others(path) as file:
        whole = True  # what was read last ended its line
        while line := file.readline(_LONGEST_LINE):
            begins, whole = whole, line.endswith(b"\n")
            if begins and (whole or len(line) < _LONGEST_LINE):
                yield line.decode("utf-8", "replace")


def open_to_append(path: Path) -> BinaryIO:
    """The file at ``path``, made where there is none, to be read and appended to. In a folder that may be somebody
    else's: UserError where a link, a pipe or a device is there, so that nothing else is written to. Raises OSError."""
    try:
        file = _regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        file = None
    if file is None:
        raise UserError(f"{path} is a link, or no file, and is not written to: put a file in its place")
    return file


def _regular(path: Path, flags: int) -> BinaryIO | None:
    number = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    if stat.S_ISREG(os.fstat(number).st_mode):
        return os.fdopen(number, "rb" if flags & os.O_ACCMODE == os.O_RDONLY else "rb+")
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
    """Write ``text`` in UTF-8, whatever is in it, but for secrets, to where the user says: that may be a device, or a
    link. Raises OSError."""
    path.write_bytes(_written(text))


def replace_text(path: Path, text: str) -> None:
    """As ``write_text``, in place of the file or the link that is there, all at once. Raises OSError."""
    replace_bytes(path, _written(text))


def _written(text: str) -> bytes:
    return valid(without_secrets(text)).encode()


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

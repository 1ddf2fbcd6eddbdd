"""The bytes of a file, or the system's own words why they cannot be had.

What FFmpeg makes of a read error in mid-file depends on the format: the end of the file, damage, or an error that is
called as one in the data would be. A film of an hour so becomes a clip of ten minutes, and nobody is told. So no
decoder reads a file by itself where that can be helped: it is given a ``StoredFile``, which tells what the file holds
from what the system could not read of it. The first may be damage; the second never is.

Knows neither videos nor pictures.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from vamba_eval.contracts import VideoError, system_reason

# What may be over in a moment: a network or a disk that hiccups, a server's file that was moved, too many open files.
_PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
}

_PAUSES_S = (0.1, 0.5, 2.0)  # before each further try

_Result = TypeVar("_Result")


def patiently(act: Callable[[], _Result], prepare: Callable[[], None] = lambda: None) -> _Result:
    """What ``act`` gives, if need be at a further try, after ``prepare``. Raises the OSError of the last."""
    for pause in _PAUSES_S:
        try:
            return act()
        except OSError as error:
            if error.errno not in _PASSING:
                raise
            time.sleep(pause)
        try:
            prepare()
        except OSError as error:
            if error.errno not in _PASSING:
                raise
    return act()


def read_error(path: Path, error: OSError) -> Exception:
    """What to raise where the system could not read ``path``."""
    if error.errno == errno.ENOMEM:
        return MemoryError(system_reason(error))
    return VideoError(f"{path} cannot be read: {system_reason(error)}")


def read_whole(path: Path) -> bytes:
    """All bytes of a file. Raises VideoError and MemoryError."""
    with StoredFile(path) as file:
        return file.read_at(0, file.size)


class StoredFile:
    """A file open for reading, for us (``read_at``) and for decoders (``read``, ``seek``, ``tell``).

    Decoders are not told its name: what a file is stands in it, and FFmpeg takes ``image%03d.png`` for a pattern.

    To a decoder a read error is the end of the file, so that it comes to an end soon, whatever it makes of errors;
    ``check`` then raises it. Raises VideoError and MemoryError where the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._failure: Exception | None = None
        try:
            self._number = patiently(lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        except OSError as error:
            raise read_error(path, error) from error
        try:
            about = os.fstat(self._number)
        except OSError as error:
            os.close(self._number)
            raise read_error(path, error) from error
        if not stat.S_ISREG(about.st_mode):
            os.close(self._number)
            raise VideoError(f"{path} is not a file")
        self.identity = _identity(about)
        self.size = about.st_size

    def __enter__(self) -> StoredFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._number >= 0:
            os.close(self._number)
            self._number = -1

    def check(self) -> None:
        """Raise what a decoder was not told: VideoError or MemoryError."""
        if self._failure is not None:
            raise self._failure

    def read_at(self, position: int, size: int) -> bytes:
        """``size`` bytes from ``position`` on, fewer only at the file's end. Raises VideoError and MemoryError."""
        parts = []
        while size > 0:
            part = self._read_some(position, size)
            if not part:
                break
            parts.append(part)
            position, size = position + len(part), size - len(part)
        return b"".join(parts)

    def _read_some(self, position: int, size: int) -> bytes:
        try:
            part = patiently(lambda: os.pread(self._number, size, position), self._reopen)
        except OSError as error:
            raise read_error(self._path, error) from error
        if not part and size and position < self.size:
            raise VideoError(f"{self._path} cannot be read: it ends after {position:,} of its {self.size:,} bytes")
        return part

    def _reopen(self) -> None:
        """A handle that a server has forgotten stays bad. Raises OSError, also where another file has the name."""
        number = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        before, self._number = self._number, number
        os.close(before)
        if _identity(os.fstat(number)) != self.identity:
            raise OSError(errno.EBUSY, "it was changed while it was being read")

    def read(self, size: int = -1) -> bytes:
        """As a decoder reads; never raises."""
        if self._failure is not None:
            return b""
        try:
            part = self._read_some(self._position, size if size >= 0 else max(0, self.size - self._position))
        except (VideoError, MemoryError) as error:
            self._failure = error
            return b""
        self._position += len(part)
        return part

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As a decoder seeks: the new position, or -1 where there is none."""
        position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if position < 0:
            return -1
        self._position = position
        return position

    def tell(self) -> int:
        return self._position


def _identity(about: os.stat_result) -> tuple[int, int]:
    return about.st_size, about.st_mtime_ns

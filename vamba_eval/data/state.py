"""What a download has done so far, and the files that it is about."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from filelock import FileLock, Timeout

from vamba_eval.contracts import UserError

_STATE = ".vamba-eval"  # in the benchmark's folder: what is fetched, and what is unpacked


@dataclass(frozen=True)
class RemoteFile:
    """A file as the Hub states it. ``digest`` is a SHA-256, or git's SHA-1 of what is not in large-file storage."""

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Archive:
    """An archive of one file, or of several parts in their order."""

    name: str
    parts: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk that the folder is or will be on."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


class State:
    """What of a benchmark's folder is known to be whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stop = False
        self._own = folder / _STATE
        self._lock = Lock()
        log = self._own / "fetched.txt"
        lines = log.read_text(encoding="utf-8").split("\n") if log.exists() else []
        self._known = {tuple(line.split(" ", 1)) for line in lines}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from fetching into the same folder. Raises UserError if somebody does already."""
        self._own.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._own / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise UserError(f"another command is downloading into {self.folder}: wait for it") from error
        try:
            yield
        finally:
            lock.release()

    def has(self, file: RemoteFile) -> bool:
        """Whether the file is there and whole. One that somebody else put there is looked at."""
        path = self.folder / file.path
        if not path.is_file() or path.stat().st_size != file.size:
            return False
        if (file.digest, file.path) in self._known:
            return True
        if not is_whole(path, file):
            return False
        self.note(file)
        return True

    def note(self, file: RemoteFile) -> None:
        with self._lock:
            self._own.mkdir(parents=True, exist_ok=True)
            with (self._own / "fetched.txt").open("a", encoding="utf-8") as log:
                log.write(f"{file.digest} {file.path}\n")
            self._known.add((file.digest, file.path))

    def incomplete(self, file: RemoteFile) -> Path:
        """Where what has come of a file is kept."""
        return self._own / "incomplete" / f"{file.digest}-{zlib.crc32(file.path.encode()):08x}"

    def begun(self, file: RemoteFile) -> int:
        """How many bytes of the file have come."""
        path = self.incomplete(file)
        size = path.stat().st_size if path.exists() else 0
        return size if size <= file.size else 0

    def _manifest(self, archive: Archive) -> Path:
        return self._own / "unpacked" / f"{archive.name.replace('/', '--')}.json"

    def is_unpacked(self, archive: Archive) -> bool:
        """Whether everything that was in it is there, with its size."""
        try:
            manifest = json.loads(self._manifest(archive).read_text(encoding="utf-8"))
            return manifest["digests"] == [part.digest for part in archive.parts] and all(
                (self.folder / name).stat().st_size == size for name, size in manifest["members"].items()
            )
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def note_unpacked(self, archive: Archive, members: dict[str, int]) -> None:
        path = self._manifest(archive)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"digests": [part.digest for part in archive.parts], "members": members}
        aside = path.with_suffix(".incomplete")
        aside.write_text(json.dumps(content, indent=0), encoding="utf-8")
        os.replace(aside, path)


def is_whole(path: Path, file: RemoteFile) -> bool:
    if path.stat().st_size != file.size:
        return False
    git = hashlib.sha1(f"blob {file.size}\0".encode())  # how git names a file's content
    digest = hashlib.sha256() if len(file.digest) == 64 else git
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest() == file.digest


def bytes_text(number: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"

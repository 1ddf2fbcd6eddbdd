"""What is to be in a benchmark's folder, and what of it is known to be there and whole.

Files count as there by the size and the digest that were stated for them, archives as unpacked by the sizes of all that
was in them. Fetches and unpacks nothing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from vamba_eval.contracts import UserError
from vamba_eval.files import locked, path_inside, replace_text

_OWN_FOLDER = ".vamba-eval"  # in the benchmark's: what is fetched, and what is unpacked


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


class State:
    """What of a benchmark's folder is known to be whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own = folder / _OWN_FOLDER
        self._lock = Lock()
        log = self._own / "fetched.txt"
        lines = log.read_text(encoding="utf-8").split("\n") if log.exists() else []
        self._known = {tuple(line.split(" ", 1)) for line in lines}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from fetching into the same folder. Raises UserError if somebody does already."""
        self._own.mkdir(parents=True, exist_ok=True)
        with locked(self._own / "lock", f"another command is downloading into {self.folder}: wait for it"):
            yield

    def path(self, name: str, source: str, below: str = "") -> Path:
        """Where ``name``, which stands in ``source``, is in the benchmark's folder, or in the folder ``below`` in it.
        UserError for a name that leads elsewhere, or to what is kept here."""
        path = path_inside(self.folder / below, name, source)
        if path.is_relative_to(self._own):
            raise UserError(
                f"{source} holds {name!r}, which is where this program keeps what it knows of the folder: it is refused"
            )
        return path

    def has(self, file: RemoteFile) -> bool:
        """Whether the file is there and whole. One that somebody else put there is looked at."""
        path = self.path(file.path, "the repository")
        if not path.is_file() or path.stat().st_size != file.size:
            return False
        if (file.digest, file.path) in self._known:
            return True
        if not is_whole(path, file):
            return False
        self.note(file)
        return True

    def note(self, file: RemoteFile) -> None:
        """Remember that the file is there and whole."""
        with self._lock:
            self._own.mkdir(parents=True, exist_ok=True)
            with (self._own / "fetched.txt").open("a", encoding="utf-8") as log:
                log.write(f"{file.digest} {file.path}\n")
            self._known.add((file.digest, file.path))

    def incomplete(self, file: RemoteFile) -> Path:
        """Where what has come of a file is kept."""
        name = f"{file.digest}-{zlib.crc32(file.path.encode()):08x}"
        return path_inside(self._own / "incomplete", name, "the repository")

    def begun(self, file: RemoteFile) -> int:
        """How many bytes of the file have come."""
        path = self.incomplete(file)
        size = path.stat().st_size if path.exists() else 0
        return size if size <= file.size else 0

    def is_unpacked(self, archive: Archive) -> bool:
        """Whether everything that was in it is there, with its size."""
        try:
            manifest = json.loads(self._manifest(archive).read_text(encoding="utf-8"))
            return manifest["digests"] == [part.digest for part in archive.parts] and all(
                self.path(name, "the manifest").stat().st_size == size for name, size in manifest["members"].items()
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
            return False

    def note_unpacked(self, archive: Archive, members: dict[str, int]) -> None:
        """Remember what was in it: paths in the folder, and their sizes in bytes."""
        path = self._manifest(archive)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"digests": [part.digest for part in archive.parts], "members": members}
        replace_text(path, json.dumps(content, indent=0))

    def _manifest(self, archive: Archive) -> Path:
        return self._own / "unpacked" / f"{archive.name.replace('/', '--')}.json"


def is_whole(path: Path, file: RemoteFile) -> bool:
    """Whether what is at ``path``, which must exist, has the size and the digest of ``file``; reads all of it."""
    if path.stat().st_size != file.size:
        return False
    git = hashlib.sha1(f"blob {file.size}\0".encode())  # how git names a file's content
    digest = hashlib.sha256() if len(file.digest) == 64 else git
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest() == file.digest


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk that the folder is or will be on."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free

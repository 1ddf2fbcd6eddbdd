"""Archives of a benchmark, whole or in parts, unpacked so that a kill leaves no half file.

Knows no benchmark, and not where archives come from: they lie in the folder whose `State` it is given.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO, Any

from vamba_eval.contracts import UserError
from vamba_eval.data.state import Archive, RemoteFile, State, free_bytes, path_inside
from vamba_eval.progress import Display, bytes_text

# x.zip, and in parts x.tar.part.aa, x.tar.gz.part-a, x.zip.001.
_UNPACKED = re.compile(
    r"(?P<whole>.+\.(?P<kind>zip|tar\.gz|tar\.bz2|tar\.xz|tgz|tar))(?:[._-](?:part[._-]?)?(?P<part>[a-z]{1,2}|\d{1,4}))?"
)
_NOT_UNPACKED = re.compile(r".+\.(rar|7z|z\d\d|tar\.zst)")
_JUNK = ("__MACOSX", ".DS_Store")


def archives_in(files: Iterable[RemoteFile]) -> tuple[Archive, ...]:
    """Those among ``files`` that `unpack` takes, each with its parts in their order."""
    parts: dict[str, list[tuple[tuple[int, str], RemoteFile]]] = {}
    for file in files:
        if match := _UNPACKED.fullmatch(file.path):
            part = match["part"] or ""
            parts.setdefault(match["whole"], []).append(((len(part), part), file))
    return tuple(Archive(name, tuple(file for _, file in sorted(each))) for name, each in parts.items())


def is_of_another_kind(path: str) -> bool:
    """Whether a file is an archive of a kind that `unpack` does not take."""
    return _NOT_UNPACKED.fullmatch(path) is not None


def unpack(archive: Archive, target: Path, state: State, display: Display) -> None:
    """Unpack it below ``target``; each file appears under its name when it is whole, and the archive counts as
    unpacked when all are there. Raises UserError; nothing is written outside of ``target``."""
    members = {}
    description = f"unpacking {PurePosixPath(archive.name).name}"
    with ExitStack() as stack, display.bar(description, of_bytes=True) as bar:
        streams = [stack.enter_context(open(state.folder / part.path, "rb")) for part in archive.parts]
        joined: Any = io.BufferedReader(_Joined(streams), 2**20)
        try:
            for name, size, content in _members(archive.name, joined, free_bytes(state.folder)):
                path = path_inside(target, name, archive.name)
                path.parent.mkdir(parents=True, exist_ok=True)
                incomplete = path.with_name(f".{path.name[:200]}.incomplete")
                with content, incomplete.open("wb") as stream:
                    shutil.copyfileobj(content, stream, 2**20)
                if incomplete.stat().st_size != size:
                    raise zipfile.BadZipFile(f"{name} is not as long as the archive states")
                os.replace(incomplete, path)
                members[str(path.relative_to(state.folder))] = size
                bar.advance(size)
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, KeyError, RuntimeError) as error:
            raise UserError(
                f"{archive.name} cannot be unpacked ({str(error) or type(error).__name__}): it is as published; "
                f"see whether its authors have fixed it, or unpack it yourself in {target}"
            ) from error
    state.note_unpacked(archive, members)


def _members(name: str, stream: IO[bytes], free: int) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size and content of all files in an archive. Links give a copy of what they point to inside of it."""
    if name.endswith(".zip"):
        with zipfile.ZipFile(stream) as zipped:
            listed = [member for member in zipped.infolist() if not member.is_dir() and not _is_junk(member.filename)]
            if (needed := sum(member.file_size for member in listed)) > free:
                raise UserError(f"{name} holds {bytes_text(needed)}, but the disk has {bytes_text(free)}: free space")
            for member in listed:
                yield member.filename, member.file_size, zipped.open(member)
        return
    with tarfile.open(fileobj=stream, mode="r:*") as tar:
        for entry in tar:
            if entry.isdir() or _is_junk(entry.name):
                continue
            content = tar.extractfile(entry)
            if content is None:
                raise tarfile.TarError(f"{entry.name} is not a file")
            content.seek(0, io.SEEK_END)
            size = content.tell()
            content.seek(0)
            yield entry.name, size, content


def _is_junk(name: str) -> bool:
    return any(part in _JUNK for part in PurePosixPath(name).parts)


class _Joined(io.RawIOBase):
    """Several files as one, one after the other."""

    def __init__(self, streams: Sequence[IO[bytes]]) -> None:
        self._streams = streams
        self._starts = [0]
        for stream in streams:
            self._starts.append(self._starts[-1] + stream.seek(0, io.SEEK_END))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._position, self._starts[-1])[whence]
        if base + offset < 0:
            raise OSError(22, "a position before the start")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        for stream, start, end in zip(self._streams, self._starts, self._starts[1:], strict=False):
            if start <= self._position < end:
                stream.seek(self._position - start)
                content = stream.read(min(len(buffer), end - self._position))
                buffer[: len(content)] = content
                self._position += len(content)
                return len(content)
        return 0

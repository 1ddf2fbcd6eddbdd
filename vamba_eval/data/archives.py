"""Archives of a benchmark, whole or in parts, unpacked so that a kill leaves no half file.

Knows no benchmark, and not where archives come from: they lie in the folder whose `State` it is given.
"""

from __future__ import annotations

import io
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from vamba_eval.contracts import UserError, first_line
from vamba_eval.data.state import Archive, RemoteFile, State, free_bytes
from vamba_eval.progress import Display, bytes_text

if TYPE_CHECKING:
    from typing_extensions import Self

# x.zip, and in parts x.tar.part.aa, x.tar.gz.part-a, x.zip.001.
_UNPACKED = re.compile(
    r"(?P<whole>.+\.(?P<kind>zip|tar\.gz|tar\.bz2|tar\.xz|tgz|tar))(?:[._-](?:part[._-]?)?(?P<part>[a-z]{1,2}|\d{1,4}))?"
)
_NUMBER = re.compile(r"\d+")
_NOT_UNPACKED = re.compile(r".+\.(rar|7z|z\d\d|tar\.zst)")
_JUNK = ("__MACOSX", ".DS_Store")

# What may come out of an archive: videos and pictures do not shrink in it, annotations do, tenfold at most, and take
# less than a GiB.
_MOST_GROWTH, _MOST_OF_A_SMALL_ONE = 10, 2**30
_BLOCK_BYTES = 4096  # of a disk, which an empty file takes, too
# Types of a tar's headers that are continued in data, and how much of that any file's takes (a path: 4 KiB).
_CONTINUED = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
_HEADER_BYTES = 2**20
# What the libraries raise for archives that are broken, or made to break them.
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, LookupError, RuntimeError, ValueError, OverflowError),
)


def archives_in(files: Iterable[RemoteFile], joined: Sequence[str] = ()) -> tuple[Archive, ...]:
    """Those among ``files`` that `unpack` takes, each with its parts in their order.

    Those that match a pattern of ``joined`` are the parts of one, in the order of the last number in their names, or of
    their names.
    """
    parts: dict[str, list[tuple[tuple[int, str], RemoteFile]]] = {}
    for file in files:
        if match := _UNPACKED.fullmatch(file.path):
            whole, part = match["whole"], match["part"] or ""
            if pattern := next((each for each in joined if fnmatchcase(file.path, each)), None):
                whole, part = pattern.replace("*", ""), (_NUMBER.findall(file.path) or [file.path])[-1]
            parts.setdefault(whole, []).append(((len(part), part), file))
    return tuple(Archive(name, tuple(file for _, file in sorted(each))) for name, each in parts.items())


def is_of_another_kind(path: str) -> bool:
    """Whether a file is an archive of a kind that `unpack` does not take."""
    return _NOT_UNPACKED.fullmatch(path) is not None


def unpack(archive: Archive, below: str, state: State, display: Display) -> None:
    """Unpack it into the folder ``below`` in the benchmark's; each file appears under its name when it is whole, and
    the archive counts as unpacked when all are there.

    Raises UserError for an archive that is broken, or that nobody who means well publishes: with names that lead
    elsewhere, with anything but files and folders, or with far more in it than its size suggests.
    """
    members = {}
    room = min(free_bytes(state.folder), max(_MOST_GROWTH * archive.size, _MOST_OF_A_SMALL_ONE))
    description = f"unpacking {PurePosixPath(archive.name).name}"
    with ExitStack() as stack, display.bar(description, of_bytes=True) as bar:
        parts = [state.path(part.path, "the repository") for part in archive.parts]
        streams = [stack.enter_context(path.open("rb")) for path in parts]
        joined: Any = io.BufferedReader(_Joined(streams), 2**20)
        try:
            for name, size, content in _members(archive.name, joined):
                room -= max(size, _BLOCK_BYTES)
                if room < 0:
                    raise UserError(
                        f"{archive.name} holds far more than its {bytes_text(archive.size)}, or more than the disk has "
                        f"room for ({name[:200]!r} is of {bytes_text(size)}): if it is right, unpack it yourself in "
                        f"{state.folder / below}"
                    )
                if content is None:
                    continue
                path = state.path(name, archive.name, below)
                path.parent.mkdir(parents=True, exist_ok=True)
                incomplete = path.with_name(f".{path.name[:200]}.incomplete")
                with content, incomplete.open("wb") as stream:
                    shutil.copyfileobj(content, stream, 2**20)
                if incomplete.stat().st_size != size:
                    raise zipfile.BadZipFile(f"{name} is not as long as the archive states")
                os.replace(incomplete, path)
                members[str(path.relative_to(state.folder))] = size
                bar.advance(size)
        except (*_BROKEN, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the system's, not a library's
                raise
            raise UserError(
                f"{archive.name} cannot be unpacked ({first_line(error)}): it is as published; see whether its authors "
                f"have fixed it, or unpack it yourself in {state.folder / below}"
            ) from error
    state.note_unpacked(archive, members)


def _members(name: str, stream: IO[bytes]) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """Name, size and content of all that is in an archive; no content of what is not unpacked, as folders."""
    if name.endswith(".zip"):
        with zipfile.ZipFile(stream) as zipped:
            for member in zipped.infolist():
                if member.filename.endswith("/") or _is_junk(member.filename):
                    yield member.filename, 0, None
                    continue
                kind = stat.S_IFMT(member.external_attr >> 16)  # of who packed it on Unix
                _refuse_unless(kind in (0, stat.S_IFREG), member.filename)
                yield member.filename, member.file_size, zipped.open(member)
        return
    with tarfile.open(fileobj=stream, mode="r:*", tarinfo=_TarMember) as tar:
        while (entry := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined] # it would remember them all, however many
            if entry.isdir() or _is_junk(entry.name):
                yield entry.name, entry.size, None
                continue
            content = tar.extractfile(entry) if entry.isreg() else None
            _refuse_unless(content is not None, entry.name)
            yield entry.name, entry.size, content


class _TarMember(tarfile.TarInfo):
    """A header. What only continues one, such as a long name, is read into memory at once, whatever its size."""

    @classmethod
    def frombuf(cls, *arguments: Any) -> Self:
        header = super().frombuf(*arguments)
        if header.type in _CONTINUED and header.size > _HEADER_BYTES:
            raise ValueError(f"a header of {bytes_text(header.size)}")
        return header


def _refuse_unless(is_file: bool, name: str) -> None:
    if not is_file:
        raise ValueError(f"{name[:200]!r} is a link or a device, which no data is")


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
            raise OSError("a position before the start")  # as zipfile expects it
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

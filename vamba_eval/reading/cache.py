"""Clips kept on disk between runs, byte for byte.

A file a clip. Others may have written it, so it is data and nothing else, and believed only as far as it proves
itself. Raw bytes: reading them back is a copy, and no codec can be at fault. This module says what identifies a clip,
how one is written, and which go when room is needed; it knows nothing of decoders.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vamba_eval.contracts import Clip, Sampling, UserError, system_reason
from vamba_eval.files import make_private, open_regular, replacing
from vamba_eval.plain import json_text, json_value
from vamba_eval.video.canvas import Hooks
from vamba_eval.video.storage import StoredFile, patiently

log = logging.getLogger(__name__)

# Raise it when the same file under the same sampling gives other frames than before.
_READER_VERSION = 4

_SAMPLE_BYTES = 65_536

_FORM = "vamba-eval clip 1"  # a clip's file begins with it
_ABOUT_BYTES = 2**26  # more than a line about a clip takes: 100,000 frames in ten samplings
_CHUNK_BYTES = 2**24  # between two signs of life
_NAME = re.compile(r"[0-9a-f]{40}\.clip(?P<unfinished>\..+\.tmp)?")
_DEAD_S = 3600.0  # who has written nothing for so long was killed


class ClipCache:
    """A folder of clips of at most ``gb`` GiB; a context manager. UserError if it cannot be used.

    ``<key>.clip`` holds three things: a line with the form and a digest of the next line; a line of JSON with the key,
    what a Clip holds beside its frames, and their digest; the frames' bytes. It appears when it is whole. Many
    processes may use a folder, on a file system of any kind. Made here, it is for this user alone.
    """

    def __init__(self, directory: str | Path, gb: float) -> None:
        self._folder = Path(directory).expanduser()
        self._size_limit = int(gb * 2**30)
        try:
            make_private(self._folder)
            if not os.access(self._folder, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError("it may not be written to")
        except OSError as error:
            reason = system_reason(error)
            raise UserError(f"the clip cache {directory} cannot be used ({reason}): give another directory") from error

    def __enter__(self) -> ClipCache:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tidy(self) -> None:
        """Remove what a killed process left half written, and what a smaller size has no room for; say what the user
        should know of the folder. Raises OSError."""
        self._make_room(0)
        if (self._folder / "cache.db").exists():
            log.warning(
                "%s holds clips in the form of an earlier version, which are not used: remove cache.db* there and the "
                "folders of two letters or digits beside it, to have their space",
                self._folder,
            )
        about = self._folder.stat()
        if about.st_mode & stat.S_IWOTH:
            log.warning(
                "every user of this machine can write to the clip cache %s, and so decide what videos show: chmod o-w "
                "it, or give another directory",
                self._folder,
            )

    def get(self, key: str, hooks: Hooks) -> tuple[Clip, str, float] | None:
        """The clip, its digest and the seconds that reading it took at first. None if it is not there, or if what is
        there is not what was written for ``key``. Raises OSError and what ``hooks`` raise."""
        file = open_regular(self._path(key))
        if file is None:
            return None
        with file:
            try:
                clip, digest, seconds, shape = _read_about(file, key, self._size_limit)
            except (ValueError, KeyError, TypeError, OverflowError):  # damaged, or somebody's own
                return None
            clip.frames = hooks.empty(shape)
            if _read_frames(file, clip.frames, hooks) != digest:
                return None
            with suppress(OSError):  # another user's
                os.utime(file.fileno())
        return clip, digest, seconds

    def put(self, key: str, clip: Clip, digest: str, seconds: float) -> None:
        """Keep a clip; what was not used for longest makes room. Raises ValueError for one that is too large, and
        OSError."""
        about = {
            "key": key,
            "shape": clip.frames.shape,
            "timestamps_s": clip.timestamps_s.tolist(),
            "frame_indices": clip.frame_indices.tolist(),
            "source_fps": clip.source_fps,
            "duration_s": clip.duration_s,
            "note": clip.note,
            "parts": [part if isinstance(part, str) else part.tolist() for part in clip.parts],
            "digest": digest,
            "seconds": seconds,
        }
        line = json_text(about).encode() + b"\n"
        head = _first_line(line) + line
        size = len(head) + clip.frames.nbytes
        if size > self._size_limit:
            raise ValueError(f"a clip of {size / 2**20:,.0f} MiB is larger than the whole cache")
        self._make_room(size)
        with replacing(self._path(key)) as aside, aside.open("wb") as file:
            file.write(head)
            file.write(clip.frames.data.cast("B"))

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.clip"

    def _make_room(self, size: int) -> None:
        """Remove clips, what was not used for longest first, until ``size`` bytes have room."""
        kept = sorted(self._clips())
        used = sum(own_size for _, own_size, _ in kept)
        for _, own_size, path in kept:
            if used + size <= self._size_limit:
                return
            with suppress(OSError):  # another process was faster, or it is another user's
                os.unlink(path)
                used -= own_size

    def _clips(self) -> Iterator[tuple[int, int, str]]:
        """When each was last used, in ns; its bytes; its path. Whatever else is in the folder is not touched."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                match = _NAME.fullmatch(entry.name)
                if match is None or not entry.is_file(follow_symlinks=False):
                    continue
                with suppress(FileNotFoundError):
                    about = entry.stat(follow_symlinks=False)
                    if not match["unfinished"]:
                        yield about.st_mtime_ns, about.st_size, entry.path
                    elif time.time() - about.st_mtime > _DEAD_S:
                        with suppress(OSError):  # another user's
                            os.unlink(entry.path)


def _first_line(line: bytes) -> bytes:
    return f"{_FORM} {hashlib.blake2b(line, digest_size=16).hexdigest()}\n".encode()


def _read_about(file: BinaryIO, key: str, size_limit: int) -> tuple[Clip, str, float, tuple[int, ...]]:
    """What stands before the frames: a clip that lacks them, their digest, the seconds, and their shape.

    Nothing is made of the size that is stated unless the file is of that size. Raises ValueError, KeyError, TypeError
    and OverflowError for what no ``put`` has written.
    """
    first = file.readline(len(_first_line(b"")))
    line = file.readline(_ABOUT_BYTES)
    about: Any = json_value(line.decode()) if first == _first_line(line) else None
    size = os.fstat(file.fileno()).st_size
    if not isinstance(about, dict) or about["key"] != key or size > size_limit:
        raise ValueError("not a clip, or that of another key")
    shape = tuple(about["shape"])
    if not all(type(edge) is int and edge > 0 for edge in shape) or len(shape) != 4 or shape[3] != 3:
        raise ValueError(f"no frames have the shape {shape}")
    if math.prod(shape) != size - len(first) - len(line):
        raise ValueError("cut short, or longer than it says")
    times = np.array(about["timestamps_s"], dtype=np.float64)  # null is NaN
    indices = np.array(about["frame_indices"], dtype=np.int64)
    parts = tuple(part if isinstance(part, str) else np.array(part, dtype=np.int64) for part in about["parts"])
    positions = [part for part in parts if not isinstance(part, str)]
    if times.shape != shape[:1] or indices.shape != shape[:1] or not isinstance(about["note"], str):
        raise ValueError("frames and what is said of them do not fit")
    if any(part.ndim != 1 or (part.size and not 0 <= part.min() <= part.max() < shape[0]) for part in positions):
        raise ValueError("a sampling has frames that are not there")
    fps, duration_s = (math.nan if about[name] is None else float(about[name]) for name in ("source_fps", "duration_s"))
    clip = Clip(np.empty(0, np.uint8), times, indices, fps, duration_s, about["note"], parts=parts)
    return clip, str(about["digest"]), float(about["seconds"]), shape


def _read_frames(file: BinaryIO, frames: np.ndarray, hooks: Hooks) -> str:
    """Fill ``frames``; their digest, which is made of each chunk as it comes, while it is still near the processor."""
    digest, rest = hashlib.blake2b(digest_size=16), frames.data.cast("B")
    while rest and (count := file.readinto(rest[:_CHUNK_BYTES])):  # type: ignore[attr-defined]
        digest.update(rest[:count])
        rest = rest[count:]
        hooks.alive()
    return digest.hexdigest()


def frames_digest(frames: np.ndarray) -> str:
    """What identifies a clip's bytes: 128 bits of BLAKE2b, of which a core makes about a GiB a second."""
    return hashlib.blake2b(frames.data, digest_size=16).hexdigest()


def clip_key(
    path: Path,
    sampling: Sampling,
    start_s: float | None,
    end_s: float | None,
    frames_per_second: float | None,
    backend: str,
) -> str:
    """What identifies a clip: the file's size, time of change and samples of its bytes (not its name, so a
    copy that keeps its time is known), the sampling, and the versions of what decodes and resizes. Raises VideoError
    and OSError where the file cannot be read."""
    package = "av" if backend.startswith("pyav") else backend
    identity = [_READER_VERSION, _file_identity(path), sampling.fields(), start_s, end_s, frames_per_second, backend]
    identity += [_version(name) for name in (package, "pillow", "numpy")]
    return hashlib.blake2b(json.dumps(identity).encode(), digest_size=20).hexdigest()


def _file_identity(path: Path) -> list[object]:
    if stat.S_ISDIR(patiently(path.stat).st_mode):
        abouts = [(file.name, patiently(file.stat)) for file in patiently(lambda: sorted(path.iterdir()))]
        return [[name, about.st_size, about.st_mtime_ns] for name, about in abouts]
    digest = hashlib.blake2b(digest_size=16)
    with StoredFile(path) as file:
        for position in (0, file.size // 2, max(0, file.size - _SAMPLE_BYTES)):
            digest.update(file.read_at(position, _SAMPLE_BYTES))
        return [*file.identity, digest.hexdigest()]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

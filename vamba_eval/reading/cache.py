"""Clips kept on disk between runs, byte for byte.

diskcache does the bookkeeping (SQLite, many processes, least recently used out first); this module says what
identifies a clip and how one is written. Raw bytes: reading them back is a copy, and no codec can be at fault.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import stat
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from vamba_eval.contracts import Clip, Sampling, UserError
from vamba_eval.video.canvas import Hooks
from vamba_eval.video.storage import StoredFile, patiently

# Raise it when the same file under the same sampling gives other frames than before.
_READER_VERSION = 4

_SAMPLE_BYTES = 65_536


class ClipCache:
    """A directory of clips of at most ``gb`` GiB; a context manager. UserError if it cannot be used."""

    def __init__(self, directory: str | Path, gb: float) -> None:
        import diskcache

        try:
            self._cache = diskcache.Cache(
                str(Path(directory).expanduser()),
                size_limit=int(gb * 2**30),
                eviction_policy="least-recently-used",
                cull_limit=1,  # a new clip takes the place of one, not of ten
            )
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            raise UserError(f"the clip cache {directory} cannot be used ({error}): give another directory") from error

    def __enter__(self) -> ClipCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._cache.close()

    def tidy(self) -> None:
        """Remove what a killed process left half written, and what a smaller size has no room for."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._cache.check(fix=True)
        self._cache.cull()

    def get(self, key: str, hooks: Hooks) -> tuple[Clip, str, float] | None:
        """The clip, its digest and the seconds that reading it took at first; None if it is not there."""
        found, about = self._cache.get(key, read=True, tag=True)
        if found is None:
            return None
        with cast(BinaryIO, found) as file:
            info = json.loads(about)
            frames = hooks.empty(tuple(info["shape"]))
            file.readinto(frames.data.cast("B"))  # type: ignore[attr-defined]
        if frames_digest(frames) != info["digest"]:  # damaged on the disk
            self._cache.delete(key)
            return None
        times, indices = np.array(info["timestamps_s"]), np.array(info["frame_indices"], dtype=np.int64)
        parts = tuple(p if isinstance(p, str) else np.array(p, dtype=np.int64) for p in info["parts"])
        clip = Clip(frames, times, indices, info["source_fps"], info["duration_s"], info["note"], parts=parts)
        return clip, info["digest"], info["seconds"]

    def put(self, key: str, clip: Clip, digest: str, seconds: float) -> None:
        """Keep a clip; what was not used for longest makes room."""
        if clip.frames.nbytes > self._cache.size_limit:
            raise ValueError(f"a clip of {clip.frames.nbytes / 2**20:,.0f} MiB is larger than the whole cache")
        info = {
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
        self._cache.set(key, _Chunks(clip.frames), read=True, tag=json.dumps(info))
        if self._cache.volume() > self._cache.size_limit:  # it was larger than the one that went
            self._cache.cull()


def frames_digest(frames: np.ndarray) -> str:
    """What identifies a clip's bytes."""
    return hashlib.blake2b(frames.data, digest_size=16).hexdigest()


class _Chunks:
    """An array as something to read from, without a copy of it."""

    def __init__(self, array: np.ndarray) -> None:
        self._left = array.data.cast("B")

    def read(self, size: int) -> memoryview:
        chunk, self._left = self._left[:size], self._left[size:]
        return chunk


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

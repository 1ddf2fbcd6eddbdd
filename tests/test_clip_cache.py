"""The clip cache is data: what others put there is a miss or a clip, never code, a crash, or another clip."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vamba_eval.contracts import Clip, UserError
from vamba_eval.reading.cache import ClipCache, frames_digest
from vamba_eval.video.canvas import Hooks

KEY, OTHER = "a" * 40, "b" * 40


def clip(seed: int = 0) -> Clip:
    frames = np.random.default_rng(seed).integers(0, 256, (5, 8, 12, 3), dtype=np.uint8)
    times, indices = np.array([0.1, 0.2, np.nan, 1e9 / 3, 4.0]), np.array([0, 3, 3, 7, 2**40])
    parts = (np.array([0, 2]), "no frame between 3 and 4 s", np.array([], dtype=np.int64))
    return Clip(frames, times, indices, float("nan"), 12.5, "half of it is missing", parts=parts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cache with one clip."""
    folder = tmp_path / "cache"
    with ClipCache(folder, 1) as cache:
        cache.put(KEY, clip(), frames_digest(clip().frames), 2.5)
    return folder


def get(folder: Path, key: str = KEY, made: list[tuple[int, ...]] | None = None) -> tuple[Clip, str, float] | None:
    """What the cache gives; ``made`` gets the shapes of the arrays that it asks for."""

    def empty(shape: tuple[int, ...]) -> np.ndarray:
        if made is not None:
            made.append(shape)
        return np.empty(shape, dtype=np.uint8)

    with ClipCache(folder, 0.001) as cache:
        return cache.get(key, Hooks(empty=empty))


def test_a_clip_comes_back_as_it_was(folder: Path) -> None:
    got = get(folder)
    assert got is not None
    found, digest, seconds = got
    kept = clip()
    assert np.array_equal(found.frames, kept.frames) and digest == frames_digest(kept.frames) and seconds == 2.5
    for name in ("timestamps_s", "frame_indices", "source_fps", "duration_s"):
        ours, theirs = np.asarray(getattr(found, name)), np.asarray(getattr(kept, name))
        assert np.array_equal(ours, theirs, equal_nan=True) and ours.dtype == theirs.dtype, name
    assert found.note == kept.note and found.parts[1] == kept.parts[1]
    assert found.parts[0].tolist() == [0, 2] and found.parts[2].tolist() == []  # type: ignore[union-attr]


def parts_of(content: bytes) -> tuple[dict[str, object], bytes]:
    _, line, frames = content.split(b"\n", 2)
    return json.loads(line), frames


def signed(about: object, frames: bytes) -> bytes:
    """As somebody writes it who knows the form."""
    line = (about if isinstance(about, bytes) else json.dumps(about).encode()) + b"\n"
    return f"vamba-eval clip 1 {hashlib.blake2b(line, digest_size=16).hexdigest()}\n".encode() + line + frames


def saying(**changes: object) -> Callable[[bytes], bytes]:
    def forge(content: bytes) -> bytes:
        about, frames = parts_of(content)
        return signed({**about, **changes}, frames)

    return forge


def test_the_forgeries_below_fail_by_what_they_change_alone(folder: Path) -> None:
    file = folder / f"{KEY}.clip"
    file.write_bytes(saying(note="forged")(file.read_bytes()))
    got = get(folder)
    assert got is not None and got[0].note == "forged"


FORGED: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda content: b"",
    "cut within the first line": lambda content: content[:10],
    "cut within the facts": lambda content: content[:100],
    "cut within the frames": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "a bit of a time": lambda content: content.replace(b"0.2", b"0.3", 1),
    "a bit of the frames": lambda content: content[:-7] + bytes([content[-7] ^ 1]) + content[-6:],
    "a pickle": lambda content: pickle.dumps(clip()),
    "another's": saying(key=OTHER),
    "no JSON": lambda content: signed(b"{", b""),
    "no text": lambda content: signed(b"\xff\xfe", b""),
    "JSON of another kind": lambda content: signed([1, 2], b""),
    "deep JSON": lambda content: signed(b"[" * 100_000, b""),
    "nothing said": lambda content: signed({"key": KEY}, b""),
    "a shape without end": saying(shape=[10**6, 10**6, 10**6, 3]),
    "a shape that is negative": saying(shape=[-5, -8, 12, 3]),
    "a shape of fractions": saying(shape=[5.0, 8, 12, 3]),
    "a shape of text": saying(shape="abcd"),
    "a shape of nothing": saying(shape=None),
    "four colors": saying(shape=[5, 8, 9, 4]),
    "too few times": saying(timestamps_s=[0.0]),
    "times of text": saying(timestamps_s=["a"] * 5),
    "indices too large": saying(frame_indices=[10**30] * 5),
    "parts elsewhere": saying(parts=[[0, 5]]),
    "parts before": saying(parts=[[-1]]),
    "parts in parts": saying(parts=[[[0]]]),
    "parts of nothing": saying(parts=None),
    "a note of numbers": saying(note=[1]),
    "a rate of text": saying(source_fps="fast"),
    "a digest of nothing": saying(digest=None),
    "another digest": saying(digest="0" * 32),
}


@pytest.mark.parametrize("kind", FORGED)
def test_what_was_not_written_for_the_key_is_a_miss(folder: Path, kind: str) -> None:
    file = folder / f"{KEY}.clip"
    content = file.read_bytes()
    file.write_bytes(FORGED[kind](content))
    made: list[tuple[int, ...]] = []
    assert get(folder, made=made) is None
    assert all(shape == (5, 8, 12, 3) for shape in made), "nothing is made of what a forger states"
    with ClipCache(folder, 1) as cache:
        cache.put(KEY, clip(), frames_digest(clip().frames), 2.5)
    assert file.read_bytes() == content and get(folder) is not None


def test_an_entry_under_another_name_is_a_miss(folder: Path) -> None:
    os.rename(folder / f"{KEY}.clip", folder / f"{OTHER}.clip")
    assert get(folder, OTHER) is None


def test_a_file_larger_than_the_cache_is_a_miss(folder: Path) -> None:
    """One without a byte on the disk may state any size."""
    file = folder / f"{KEY}.clip"
    about, _ = parts_of(file.read_bytes())
    frames = 2000 * 1000 * 1000 * 3
    file.write_bytes(signed({**about, "shape": [2000, 1000, 1000, 3]}, b""))
    os.truncate(file, file.stat().st_size + frames)
    made: list[tuple[int, ...]] = []
    assert get(folder, made=made) is None and made == []


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "link to a pipe"])
def test_what_is_no_file_is_neither_followed_nor_waited_for(folder: Path, tmp_path: Path, kind: str) -> None:
    file = folder / f"{KEY}.clip"
    os.rename(file, tmp_path / "elsewhere")
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        os.mkfifo(tmp_path / "pipe")
        file.symlink_to(tmp_path / ("elsewhere" if kind == "link" else "pipe"))
    assert get(folder) is None
    assert (tmp_path / "elsewhere").exists()


class _Runs:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_a_cache_of_an_earlier_version_runs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It was a database whose rows could say that they are pickles, and name any file to be read or removed."""
    folder, marker, precious = tmp_path / "cache", tmp_path / "it_ran", tmp_path / "precious"
    folder.mkdir()
    precious.write_text("mine")
    columns = "key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, filename, value"
    types = columns.replace("key", "rowid INTEGER PRIMARY KEY, key", 1)
    with sqlite3.connect(folder / "cache.db") as database:
        database.execute(f"CREATE TABLE Cache ({types})")
        row = (KEY, 1, 0.0, None, 0.0, 0, None, 2**50, 4, None, pickle.dumps(_Runs(marker)))
        database.execute(f"INSERT INTO Cache ({columns}) VALUES ({','.join('?' * 11)})", row)
        row = (OTHER, 1, 0.0, None, 0.0, 0, None, 2**50, 2, "../precious", None)
        database.execute(f"INSERT INTO Cache ({columns}) VALUES ({','.join('?' * 11)})", row)
    database.close()
    before = (folder / "cache.db").read_bytes()
    with ClipCache(folder, 0.001) as cache:
        cache.tidy()
        assert cache.get(KEY, Hooks()) is None and cache.get(OTHER, Hooks()) is None
        cache.put(KEY, clip(), frames_digest(clip().frames), 2.5)
    assert not marker.exists() and precious.read_text() == "mine"
    assert (folder / "cache.db").read_bytes() == before, "it is left alone"
    assert sum("earlier version" in message for message in caplog.messages) == 1


def test_a_folder_is_made_for_its_user_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with ClipCache(tmp_path / "new" / "cache", 1) as cache:
        cache.tidy()
    assert stat.S_IMODE((tmp_path / "new" / "cache").stat().st_mode) == 0o700
    asked = tmp_path / "asked"
    asked.mkdir()
    asked.chmod(0o2770)
    with ClipCache(asked, 1) as cache:
        cache.tidy()
    assert stat.S_IMODE(asked.stat().st_mode) == 0o2770 and not caplog.messages
    asked.chmod(0o777)
    with ClipCache(asked, 1) as cache:
        cache.tidy()
    assert sum("every user of this machine can write" in message for message in caplog.messages) == 1


def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be used .*give another directory"):
        ClipCache(tmp_path / "file", 1)


def test_only_clips_make_room(folder: Path) -> None:
    """And what was half written by who was killed long ago, which nobody else removes."""
    strange = ["notes.txt", "x.clip", f"{KEY}.clip.txt", "tmpabc.tmp"]
    dead, alive = f"{OTHER}.clip.dead.tmp", f"{OTHER}.clip.alive.tmp"
    for name in (*strange, dead, alive):
        (folder / name).write_bytes(bytes(2**20))
    day_ago = time.time() - 86_400
    for name in (*strange, dead):
        os.utime(folder / name, (day_ago, day_ago))
    with ClipCache(folder, 1e-6) as cache:
        cache.tidy()
    assert {path.name for path in folder.iterdir()} == {*strange, alive}

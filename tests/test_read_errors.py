"""What the system cannot read is a failure in the system's words: never a shorter video, never "damaged"."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import failing_files
import numpy as np
import pytest
from PIL import Image
from videos import MPEG4, X264_CLOSED, make_video, picture

from vamba_eval import FrameSampling, read_clip
from vamba_eval.contracts import Video, VideoError
from vamba_eval.reading.reader import Loaded, Reader, Reading
from vamba_eval.video import others, packets, pyav, storage
from vamba_eval.video.packets import open_video
from vamba_eval.video.read import BACKENDS, probe

SAMPLING = FrameSampling(num_frames=8, shortest_edge=32, longest_edge=64)
FILES = {
    "index_in_front.mp4": ("libx264", X264_CLOSED, {"movflags": "faststart"}),
    "index_behind.mp4": ("libx264", X264_CLOSED, {}),
    "v.mkv": ("libx264", X264_CLOSED, {}),
    "v.ts": ("libx264", X264_CLOSED, {}),
    "v.avi": ("mpeg4", MPEG4, {}),
}
HEALTHY = 262_144  # bytes at the front that can be read, of those that cannot as a whole


def installed(backend: str) -> bool:
    if backend == "torchcodec":
        try:
            from torchcodec.decoders import VideoDecoder  # noqa: F401
        except (ImportError, RuntimeError, OSError):  # it is installed without FFmpeg's libraries
            return False
    return backend.startswith("pyav") or backend in others.installed()


backends = pytest.mark.parametrize(
    "backend", [pytest.param(b, marks=pytest.mark.skipif(not installed(b), reason=f"no {b}")) for b in BACKENDS]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, (codec, options, container_options) in FILES.items():
        path = folder / name
        make_video(path, codec, frames=300, size=(360, 640), options=options, container_options=container_options)
        assert path.stat().st_size > 2 * HEALTHY, "the error is in mid-file"
    return folder


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_PAUSES_S", (0.001, 0.001, 0.001))


# --------------------------------------------------------------------------------- a real failing file system


@pytest.fixture(scope="module")
def mounted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The files on a file system that gives EIO in their middle."""
    behind, mount = tmp_path_factory.mktemp("behind"), tmp_path_factory.mktemp("mount")
    for path in folder.iterdir():
        shutil.copy(path, behind / f"{errno.EIO}_{HEALTHY}_{path.name}")
    with failing_files.mounted(behind, mount):
        yield mount


@backends
@pytest.mark.parametrize("name", FILES)
def test_a_file_system_that_fails_in_mid_file(mounted: Path, name: str, backend: str) -> None:
    path = mounted / f"{errno.EIO}_{HEALTHY}_{name}"
    with open(path, "rb") as file:
        assert len(file.read(HEALTHY // 2)) == HEALTHY // 2
        with pytest.raises(OSError, match="Input/output error"):
            file.read()
    with pytest.raises(VideoError) as caught:
        read_clip(path, SAMPLING, backend=backend)
    assert str(caught.value) == f"{path} cannot be read: Input/output error"


def test_a_worker_meets_the_error_and_keeps_nothing(mounted: Path, folder: Path, tmp_path: Path) -> None:
    failing = [Video(name, mounted / f"{errno.EIO}_{HEALTHY}_{name}", ()) for name in FILES]
    with Reader(Reading(workers=1, cache=tmp_path)) as reader:
        for result in reader.clips(failing, SAMPLING):
            assert result.clip is None and result.problem == f"{result.video.path} cannot be read: Input/output error"
        for whole in reader.clips([Video(name, folder / name, ()) for name in FILES], SAMPLING):
            assert whole.clip is not None and whole.saved_s is None, "not from the cache"


# ------------------------------------------------------ a stand-in for the system, at the border of ``storage``


class System:
    """Takes the place of os.pread and os.open for files of one folder: from byte ``healthy`` on, the next ``times``
    reads end in an error; so do the next ``refused`` openings."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.error, self.healthy, self.times, self.refused, self.reads = errno.EIO, HEALTHY, 0, 0, 0
        self._pread, self._open = os.pread, os.open
        monkeypatch.setattr(os, "pread", self.pread)
        monkeypatch.setattr(os, "open", self.open)

    def _mine(self, path: object) -> bool:
        return isinstance(path, str | Path) and Path(path).is_relative_to(self.folder)

    def pread(self, number: int, size: int, offset: int) -> bytes:
        if self._mine(os.readlink(f"/proc/self/fd/{number}")) and offset + size > self.healthy:
            self.reads += 1
            if self.times > 0:
                self.times -= 1
                raise OSError(self.error, os.strerror(self.error))
        return self._pread(number, size, offset)

    def open(self, path: object, *arguments: int, **options: int) -> int:
        if self._mine(path) and self.refused > 0:
            self.refused -= 1
            raise OSError(self.error, os.strerror(self.error), str(path))
        return self._open(path, *arguments, **options)  # type: ignore[arg-type]


@pytest.fixture
def system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    return System(folder, monkeypatch)


ALWAYS = 10**9


@backends
@pytest.mark.parametrize("name", FILES)
def test_an_error_that_passes_costs_nothing(folder: Path, system: System, name: str, backend: str) -> None:
    expected = read_clip(folder / name, SAMPLING, backend=backend)
    system.times = 3
    clip = read_clip(folder / name, SAMPLING, backend=backend)
    assert system.times == 0, "it was met"
    assert np.array_equal(clip.frames, expected.frames) and clip.note == expected.note
    assert clip.duration_s == expected.duration_s


@backends
@pytest.mark.parametrize(
    ("number", "tries"),
    [(errno.EIO, 4), (errno.ESTALE, 4), (errno.ETIMEDOUT, 4), (errno.ENOTCONN, 1), (errno.EISDIR, 1)],
)
@pytest.mark.parametrize("name", ["v.mkv", "index_in_front.mp4"])
def test_an_error_that_stays_is_said(
    folder: Path, system: System, name: str, number: int, tries: int, backend: str
) -> None:
    system.error, system.times = number, ALWAYS
    with pytest.raises(VideoError) as caught:
        read_clip(folder / name, SAMPLING, backend=backend)
    assert str(caught.value) == f"{folder / name} cannot be read: {os.strerror(number)}"
    assert system.reads == tries


@pytest.mark.parametrize(("number", "tries"), [(errno.EACCES, 1), (errno.EMFILE, 4), (errno.ENFILE, 4)])
def test_a_file_that_cannot_be_opened(folder: Path, system: System, number: int, tries: int) -> None:
    path = folder / "v.mkv"
    for act in (lambda: read_clip(path, SAMPLING), lambda: probe(path)):
        system.error, system.refused = number, ALWAYS
        with pytest.raises(VideoError) as caught:
            act()
        assert str(caught.value) == f"{path} cannot be read: {os.strerror(number)}"
        assert ALWAYS - system.refused == tries
        system.refused = tries - 1
        act()


def test_no_memory_to_read_is_no_memory(folder: Path, system: System) -> None:
    system.error, system.times = errno.ENOMEM, ALWAYS
    with pytest.raises(MemoryError, match="Cannot allocate memory"):
        read_clip(folder / "v.mkv", SAMPLING)


@pytest.mark.parametrize("backend", ["pyav", "pyav-plain"])
@pytest.mark.parametrize("module", [packets, pyav])
def test_no_memory_for_a_packet_is_no_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, backend: str
) -> None:
    """Neither the end of the file nor damage, wherever it happens: in the index, or while frames are decoded."""
    honest = packets.packets_of

    def short_of_memory(*arguments: Any) -> Iterator[Any]:
        yield from itertools.islice(honest(*arguments), 3)
        raise av.FFmpegError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(module, "packets_of", short_of_memory)
    with pytest.raises(MemoryError, match="Cannot allocate memory"):
        read_clip(folder / "v.mkv", SAMPLING, backend=backend)


def test_an_error_of_one_file_is_not_the_next_one_s(folder: Path, system: System) -> None:
    system.times = ALWAYS
    with pytest.raises(VideoError, match=r"v\.mkv cannot be read: Input"):
        read_clip(folder / "v.mkv", SAMPLING)
    system.times = 0
    for name in FILES:
        assert len(read_clip(folder / name, SAMPLING).frames) == 8


def test_an_error_between_two_stretches_of_a_file(folder: Path, system: System) -> None:
    """The packets were read well; the frames are not."""
    path = folder / "v.mkv"
    with open_video(path) as container:
        assert sum(1 for _ in container.demux(video=0)) > 300
    reads_of_index = system.reads
    seen = 0

    def fail_later(number: int, size: int, offset: int, honest: Callable[..., bytes] = system.pread) -> bytes:
        nonlocal seen
        seen += offset + size > HEALTHY
        system.times = ALWAYS if seen > reads_of_index + 3 else 0
        return honest(number, size, offset)

    os.pread = fail_later  # the fixture puts it back
    with pytest.raises(VideoError, match=r"v\.mkv cannot be read: Input/output error"):
        read_clip(path, SAMPLING, threads=3)


def test_a_file_that_shrinks_while_it_is_read(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shutil.copy(folder / "v.mkv", tmp_path)
    honest = os.pread

    def shrinking(number: int, size: int, offset: int) -> bytes:
        if offset > HEALTHY:
            os.truncate(path, HEALTHY)
        return honest(number, size, offset)

    monkeypatch.setattr(os, "pread", shrinking)
    size = os.path.getsize(path)
    with pytest.raises(VideoError, match=f"cannot be read: it ends after [0-9,]+ of its {size:,} bytes"):
        read_clip(path, SAMPLING)


def test_a_file_that_is_replaced_during_an_error(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shutil.copy(folder / "v.mkv", tmp_path))
    system = System(tmp_path, monkeypatch)
    system.error, system.times = errno.ESTALE, 1
    size = path.stat().st_size
    (tmp_path / "other").write_bytes(bytes(size - 1))
    with storage.StoredFile(path) as file:
        assert len(file.read_at(0, 100)) == 100
        os.replace(tmp_path / "other", path)
        with pytest.raises(VideoError, match="it was changed while it was being read"):
            file.read_at(0, size)


def test_extracted_frames_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        Image.fromarray(picture(number, 48, 64)).save(tmp_path / f"frame_{number}.jpg")
    system = System(tmp_path, monkeypatch)
    system.healthy, system.times = 0, 3
    assert len(read_clip(tmp_path, SAMPLING).frames) == 4 and system.times == 0
    system.times = ALWAYS
    with pytest.raises(VideoError) as caught:
        read_clip(tmp_path, SAMPLING)
    assert str(caught.value) == f"{tmp_path / 'frame_0.jpg'} cannot be read: Input/output error"


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "v.mp4")
    with pytest.raises(VideoError, match=r"v\.mp4 is not a file"):
        read_clip(tmp_path / "v.mp4", SAMPLING)


# ------------------------------------------------------------------------------------------------ the clip cache


def loaded(path: Path, cache: Path) -> Loaded:
    with Reader(Reading(workers=0, cache=cache)) as reader:
        (result,) = reader.clips([Video("v", path, ())], SAMPLING)
        return result


@pytest.mark.parametrize("name", FILES)
def test_nothing_of_a_failed_read_is_kept(folder: Path, tmp_path: Path, system: System, name: str) -> None:
    system.times = ALWAYS
    failed = loaded(folder / name, tmp_path)
    assert failed.clip is None and failed.problem == f"{folder / name} cannot be read: Input/output error"
    system.times = 0
    for saved in (False, True):
        whole = loaded(folder / name, tmp_path)
        assert whole.clip is not None and (whole.saved_s is not None) is saved
        assert whole.clip.frame_indices.tolist() == SAMPLING.indices(300, 25.0)


def test_a_file_that_cannot_be_looked_up_in_the_cache(folder: Path, tmp_path: Path, system: System) -> None:
    system.error, system.refused = errno.EACCES, ALWAYS
    result = loaded(folder / "v.mkv", tmp_path)
    assert result.problem == f"{folder / 'v.mkv'} cannot be read: Permission denied"
    missing = loaded(folder / "missing.mkv", tmp_path)
    assert missing.problem == f"no such file: {folder / 'missing.mkv'}"

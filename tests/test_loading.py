"""Reading ahead in real processes: hangs, crashes, appetite, interruption, and the clip cache."""

from __future__ import annotations

import functools
import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from limited_memory import in_group, limited_memory
from PIL import Image
from stored import latest_records
from videos import X264_CLOSED, make_video, picture, remux

from vamba_eval import FrameSampling, evaluate, read_clip
from vamba_eval.contracts import UserError, Video
from vamba_eval.reading import reader as reader_module
from vamba_eval.reading import worker
from vamba_eval.reading.reader import Loaded, Reader, Reading
from vamba_eval.video import others
from vamba_eval.video.canvas import Hooks

REPOSITORY = Path(__file__).resolve().parent.parent
PLUGINS = Path(__file__).parent / "plugins.py"
SAMPLING = FrameSampling(num_frames=8, shortest_edge=32, longest_edge=64)
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_video(folder / "0.mp4", frames=60, options=X264_CLOSED)
    for number in range(1, 8):
        shutil.copy(folder / "0.mp4", folder / f"{number}.mp4")
    return folder


def videos_of(folder: Path) -> list[Video]:
    return [Video(path.stem, path, ()) for path in sorted(folder.iterdir())]


def clips(reader: Reader, videos: list[Video]) -> dict[str, Loaded]:
    return {loaded.video.id: loaded for loaded in reader.clips(videos, SAMPLING)}


@pytest.fixture
def evil(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workers whose decoder does what a file's name says."""
    monkeypatch.setattr(reader_module, "serve", _evil_serve)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(REPOSITORY)]))
    yield


def _evil_serve(request: worker.ReadRequest, buffer: str) -> worker.ReadResult:
    name = request.path.name
    honest = "twice" not in name and request.backend != "pyav"
    if not honest and "hang" in name:
        worker._hooks_into(buffer)
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))  # as deaf as decord's endless loop
        while True:
            pass
    if not honest and "slow" in name:
        hooks = worker._hooks_into(buffer)
        request.path.with_suffix(".begun").touch()
        for _ in range(40):
            hooks.alive()
            time.sleep(0.1)
    if request.backend == "pyav" and "kill" in name:
        mark = request.path.with_suffix(".killed")
        if "always" in name or not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if not honest and "crash" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if not honest and ("eat" in name or "endless" in name):
        original = worker.read_clip
        worker.read_clip = _hungry if "eat" in name else _endless  # type: ignore[assignment]
        try:
            return worker.serve(request, buffer)
        finally:
            worker.read_clip = original
    return worker.serve(request, buffer)


def _hungry(*arguments: object, **options: object) -> object:
    return np.ones(40 * 2**30, dtype=np.uint8)


def _endless(*arguments: object, hooks: Hooks, **options: object) -> object:
    while True:
        hooks.alive()
        time.sleep(0.05)


_others: set[psutil.Process] = set()  # of tests before, whose models keep their readers


@pytest.fixture(autouse=True)
def others_workers() -> None:
    _others.clear()
    _others.update(workers())


def workers() -> list[psutil.Process]:
    """The test's reading processes."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any("vamba_eval.reading.process" in word for word in process.cmdline()) and process not in _others:
                found.append(process)
    return found


def test_clips_are_those_of_read_clip(folder: Path) -> None:
    expected = read_clip(folder / "0.mp4", SAMPLING)
    for workers in (0, 1, 3):
        with Reader(Reading(workers=workers)) as reader:
            loads = clips(reader, videos_of(folder))
        assert len(loads) == 8
        for loaded in loads.values():
            assert loaded.clip is not None and np.array_equal(loaded.clip.frames, expected.frames)
            assert np.array_equal(loaded.clip.timestamps_s, expected.timestamps_s)
            assert loaded.digest == loads["0"].digest and loaded.seconds > 0
            assert loaded.clip.frames.flags.writeable


@pytest.mark.parametrize("kind", ["hang", "crash", "eat"])
def test_a_bad_video_costs_one_more_try(folder: Path, tmp_path: Path, evil: None, kind: str) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    shutil.copy(folder / "0.mp4", tmp_path / f"{kind}_once.mp4")
    shutil.copy(folder / "0.mp4", tmp_path / f"{kind}_twice.mp4")
    with Reader(Reading(workers=2, stall_s=1.5, memory_gb=4)) as reader:
        loads = clips(reader, videos_of(tmp_path))
    assert len(loads) == 10
    assert all(loads[str(n)].clip is not None for n in range(8))
    second = others.installed()[0] if others.installed() else "pyav-plain"
    said = {"hang": "reading made no progress for 1.5 s", "crash": "crashed (SIGSEGV)", "eat": "memory"}[kind]
    once = loads[f"{kind}_once"]
    assert once.clip is not None and np.array_equal(once.clip.frames, loads["0"].clip.frames)  # type: ignore[union-attr]
    assert said in once.clip.note and "instead" in once.clip.note
    twice = loads[f"{kind}_twice"]
    assert twice.clip is None and twice.problem is not None
    assert f"{kind}_twice.mp4: pyav: " in twice.problem and said in twice.problem and f"; {second}: " in twice.problem
    assert not workers()


def test_a_kill_from_outside_is_no_fault_of_the_decoder(folder: Path, tmp_path: Path, evil: None) -> None:
    """Such as by the system, when memory is short: the same decoder reads once more, and another one only then."""
    videos = [
        Video(name, Path(shutil.copy(folder / "0.mp4", tmp_path / f"{name}.mp4")), ())
        for name in ("kill", "kill_always")
    ]
    with Reader(Reading(workers=1)) as reader:
        loads = clips(reader, videos)
    once, always = loads["kill"].clip, loads["kill_always"].clip
    assert once is not None and once.note == ""
    assert always is not None and always.note.startswith("pyav: the reading process crashed (SIGKILL); read with ")


def test_workers_may_be_there_before_the_first_video(folder: Path) -> None:
    with Reader(Reading(workers=2)) as reader:
        reader.start()
        there = set(workers())
        assert len(there) >= 2
        assert all(loaded.clip is not None for loaded in clips(reader, videos_of(folder)).values())
        # Those there at first, and no others; what helped to start them may be gone.
        assert set(workers()) <= there and len(workers()) >= 2
    with Reader(Reading(workers=0)) as reader:
        reader.start()
        assert not workers()


def test_a_worker_killed_at_rest_is_replaced(folder: Path) -> None:
    """As the system's out-of-memory killer does."""
    with Reader(Reading(workers=2)) as reader:
        assert len(clips(reader, videos_of(folder))) == 8
        assert len(workers()) == 2
        for process in workers():
            process.kill()
        time.sleep(0.5)
        loads = clips(reader, videos_of(folder))
        assert len(loads) == 8 and all(loaded.clip is not None for loaded in loads.values())
    assert not workers()


@pytest.mark.parametrize(("count", "kills"), [(1, 1), (2, 2), (4, 1)])
def test_a_worker_killed_while_it_starts_is_replaced(folder: Path, count: int, kills: int) -> None:
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while len(killed) < kills and time.monotonic() < deadline:
            for process in workers():
                if process.pid not in killed and len(killed) < kills:
                    with suppress(psutil.Error):
                        process.kill()
                        killed.append(process.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    with Reader(Reading(workers=count)) as reader:
        loads = clips(reader, videos_of(folder))
    killer.join()
    assert len(killed) == kills and len(loads) == 8
    assert all(loaded.clip is not None and loaded.clip.note == "" for loaded in loads.values())
    assert not workers()


def _not_at_first(marker: str, *limits: int) -> None:
    """The first worker of all never comes to read."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        worker.begin_worker(*limits)
    else:
        time.sleep(600)


def test_workers_that_never_begin_are_replaced(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(REPOSITORY)]))
    monkeypatch.setattr(reader_module, "begin_worker", functools.partial(_not_at_first, str(tmp_path / "marker")))
    monkeypatch.setattr(reader_module, "_BEGIN_S", 5.0)
    with Reader(Reading(workers=1, stall_s=4)) as reader:
        loads = clips(reader, videos_of(folder))
    assert len(loads) == 8 and all(loaded.clip is not None for loaded in loads.values())


def _never(*limits: int) -> None:
    os._exit(3)


def test_workers_that_cannot_be_started_end_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(REPOSITORY)]))
    monkeypatch.setattr(reader_module, "begin_worker", _never)
    with (
        Reader(Reading(workers=2)) as reader,
        pytest.raises(UserError, match=r"cannot be started \(\w.*--workers 0 reads in this process"),
    ):
        clips(reader, videos_of(folder))


def test_a_limit_of_the_system_that_is_too_low_is_named(folder: Path) -> None:
    script = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (4 * 2**30, 4 * 2**30))\n"
        "from vamba_eval.reading.reader import Reader, Reading\n"
        "Reader(Reading(workers=0)), Reader(Reading(workers=2, memory_gb=3))\n"
        "Reader(Reading(workers=2))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert "UserError: this process may have 4.00 GiB of data (ulimit -d), which is less than the 8 GiB" in done.stderr
    assert done.stderr.count("line 5, in <module>") == 1


def test_clips_in_memory_are_bounded(folder: Path, tmp_path: Path) -> None:
    """With a slow consumer, no more clips are read ahead than there is room for."""
    many = [Video(str(n), folder / "0.mp4", ()) for n in range(20)]
    with Reader(Reading(workers=2)) as reader:
        loads = reader.clips(many, SAMPLING)
        for count in range(1, 20):
            loaded = next(loads)
            assert loaded.clip is not None
            del loaded
            gc.collect()
            time.sleep(0.05)
            assert 1 <= len(_shared_memories()) <= 2 + 2, count
        loads.close()
        gc.collect()
        assert not _shared_memories()


def _shared_memories() -> set[int]:
    """The clips' memories that this process has open or mapped, by inode."""
    found = set()
    with open("/proc/self/maps") as maps:
        found |= {int(line.split()[4]) for line in maps if "vamba_eval_clip" in line}
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if "vamba_eval_clip" in os.readlink(f"/proc/self/fd/{fd}"):
                found.add(os.stat(f"/proc/self/fd/{fd}").st_ino)
    return found


_LARGE_AND_SMALL = """
import pathlib, sys
from vamba_eval import FrameSampling
from vamba_eval.contracts import Video
from vamba_eval.reading.reader import Reader, Reading
videos = [Video(str(n), pathlib.Path(sys.argv[1]), ()) for n in range(4)]
large = FrameSampling(num_frames=60, shortest_edge=2000, longest_edge=3000)
small = FrameSampling(num_frames=60, shortest_edge=64, longest_edge=64)
with Reader(Reading(workers=int(sys.argv[2]))) as reader:
    for sampling in (large, small):
        for loaded in reader.clips(videos, sampling):
            print(loaded.problem)
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_clip_larger_than_the_memory_costs_its_questions(folder: Path, workers: int) -> None:
    """Of a container of 1 GiB, in which the system would end the run."""
    with limited_memory() as group:
        done = in_group(group, _LARGE_AND_SMALL, folder / "0.mp4", workers)
    assert done.returncode == 0, done.stderr
    problems = done.stdout.splitlines()
    assert len(problems) == 8 and problems[4:] == 4 * ["None"]
    for problem in problems[:4]:
        assert re.fullmatch(
            r"a clip of 60 frames of 2000x2000 takes 687 MiB, and \d+ MiB can be had for each of \d in memory at once: "
            r"use fewer frames or smaller ones \(--num-frames, --longest-edge\), or read fewer at once \(--workers\)",
            problem,
        )


def test_reading_that_goes_on_and_on_is_ended(folder: Path, tmp_path: Path, evil: None) -> None:
    path = Path(shutil.copy(folder / "0.mp4", tmp_path / "endless_twice.mp4"))
    with Reader(Reading(workers=1, total_s=1)) as reader:
        loads = clips(reader, [Video("endless", path, ()), Video("other", folder / "1.mp4", ())])
    assert loads["other"].clip is not None
    assert loads["endless"].problem == (
        "reading took 1 s and was not at its end: give it longer (--read-limit), or encode the video anew"
    )


def test_a_clip_outlives_its_reader(folder: Path) -> None:
    with Reader(Reading(workers=1)) as reader:
        (loaded,) = reader.clips(videos_of(folder)[:1], SAMPLING)
    assert loaded.clip is not None
    assert np.array_equal(loaded.clip.frames, read_clip(folder / "0.mp4", SAMPLING).frames)


def test_reading_may_begin_in_a_thread_that_ends(folder: Path) -> None:
    """Workers die with their parent, which for Linux is the thread that started them."""
    with Reader(Reading(workers=2)) as reader:
        loads = reader.clips(videos_of(folder) * 3, SAMPLING)
        first: list[Loaded] = []
        thread = threading.Thread(target=lambda: first.append(next(loads)))
        thread.start()
        thread.join()
        rest = list(loads)
    assert len(first + rest) == 24
    assert all(loaded.clip is not None and loaded.clip.note == "" for loaded in first + rest)


def test_without_unnamed_memory_a_temporary_file_does(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Reader(Reading(workers=2)) as reader:
        loads = clips(reader, videos_of(folder))
    assert all(loaded.clip is not None for loaded in loads.values())
    assert np.array_equal(loads["3"].clip.frames, read_clip(folder / "0.mp4", SAMPLING).frames)  # type: ignore[union-attr]
    assert list(tmp_path.iterdir()) == []


def test_the_program_is_not_run_again_by_its_workers(folder: Path, tmp_path: Path) -> None:
    """A script without a __main__ guard works, and what it imports is not imported by each worker."""
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, sys\n"
        "from vamba_eval import FrameSampling\n"
        "from vamba_eval.contracts import Video\n"
        "from vamba_eval.reading.reader import Reader, Reading\n"
        "print('started', flush=True)\n"
        "with Reader(Reading(workers=2)) as reader:\n"
        f"    videos = [Video(p.stem, p, ()) for p in pathlib.Path({str(folder)!r}).iterdir()]\n"
        "    print(sum(loaded.clip is not None for loaded in reader.clips(videos, FrameSampling(num_frames=4))))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout.split() == ["started", "8"], done.stderr


# ------------------------------------------------------------------------------------- interrupted runs


def _run(folder: Path, output: Path, *more: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "run_eval.py",
        "--tasks",
        f"{PLUGINS}:FolderTask",
        "--models",
        f"careful={PLUGINS}:Careful",
    ]
    command += ["--data-root", str(folder), "--output", str(output), "--workers", "2", *more]
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # As in a terminal, even if these tests run under nohup.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )


def _traces(pid: int) -> tuple[list[psutil.Process], set[str]]:
    return psutil.Process(pid).children(recursive=True), set(os.listdir("/dev/shm"))


@pytest.mark.parametrize(
    ("sent", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_an_interrupted_run_leaves_nothing_behind(
    folder: Path, tmp_path: Path, sent: signal.Signals, status: int
) -> None:
    segments = set(os.listdir("/dev/shm"))
    process = _run(folder, tmp_path / "out", "--model-args", "careful:seconds=0.3")
    path = tmp_path / "out" / "folder" / "folder.careful.jsonl"
    while not path.exists() or not path.read_text():
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.send_signal(sent)
    _, err = process.communicate(timeout=120)
    assert process.returncode == status
    if sent != signal.SIGKILL:
        assert "the same command goes on from here" in err and "Traceback" not in err
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    # Names hold the process that made them; other programs have segments of their own there.
    pids = {str(each.pid) for each in (*children, process)}
    assert not [name for name in set(os.listdir("/dev/shm")) - segments if pids & set(re.findall(r"\d+", name))]
    finished = _run(folder, tmp_path / "out")
    _, err = finished.communicate(timeout=120)
    assert finished.returncode == 0, err
    assert len(latest_records(path)) == 16


def test_a_pause_of_the_whole_run_is_no_hang(folder: Path, tmp_path: Path) -> None:
    """Ctrl-Z, or a container that is paused: time in which nobody could do anything is not the video's."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "import test_loading\n"
        "from vamba_eval.contracts import Video\n"
        "from vamba_eval.reading import reader\n"
        "import pathlib\n"
        "reader.serve = test_loading._evil_serve\n"
        "with reader.Reader(reader.Reading(workers=1, stall_s=3)) as reads:\n"
        "    (loaded,) = reads.clips([Video('v', pathlib.Path(sys.argv[1]), ())], test_loading.SAMPLING)\n"
        "    print(loaded.problem, loaded.clip.note)\n"
    )
    path = Path(shutil.copy(folder / "0.mp4", tmp_path / "slow_twice.mp4"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(REPOSITORY)])}
    process = subprocess.Popen(
        [sys.executable, str(script), str(path)], env=environment, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not path.with_suffix(".begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(8)
    process.send_signal(signal.SIGCONT)  # it looks before the worker has had the time for a sign of life
    time.sleep(1)
    os.killpg(process.pid, signal.SIGCONT)
    out, _ = process.communicate(timeout=60)
    assert out == "None \n"


def test_even_a_hanging_worker_dies_with_a_killed_run(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time; sys.path.insert(0, sys.argv[2])\n"
        "import test_loading\n"
        "from vamba_eval.contracts import Video\n"
        "from vamba_eval.reading import reader\n"
        "import pathlib\n"
        "reader.serve = test_loading._evil_serve\n"
        "with reader.Reader(reader.Reading(workers=1)) as reads:\n"
        "    list(reads.clips([Video('v', pathlib.Path(sys.argv[1]), ())], test_loading.SAMPLING))\n"
    )
    path = shutil.copy(folder / "0.mp4", tmp_path / "hang_twice.mp4")
    tests = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, str(REPOSITORY)])}
    process = subprocess.Popen([sys.executable, str(script), str(path), tests], env=environment)
    busy: list[psutil.Process] = []
    deadline = time.monotonic() + 60
    while not busy and time.monotonic() < deadline:
        time.sleep(0.2)
        children = psutil.Process(process.pid).children(recursive=True)
        busy = [child for child in children if child.cpu_times().user > 2.0]
    assert busy
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


# -------------------------------------------------------------------------------------------- whole runs


def test_a_run_says_how_long_it_waited(cli: Cli, folder: Path, tmp_path: Path) -> None:
    command = ("--tasks", f"{PLUGINS}:FolderTask", "--models", f"careful={PLUGINS}:Careful", "--data-root", folder)
    status, _, err = cli(*command, "--output", tmp_path / "out")
    assert status == 0
    assert "folder · careful: 8 videos in " in err and "waiting for clips" in err
    (path,) = (tmp_path / "out").rglob("*.jsonl")
    assert all(record["wait_s"] >= 0 for record in latest_records(path).values())


def test_a_second_model_decodes_nothing(cli: Cli, folder: Path, tmp_path: Path) -> None:
    models = f"one={PLUGINS}:Careful,two={PLUGINS}:Careful"
    command = ("--tasks", f"{PLUGINS}:FolderTask", "--models", models, "--data-root", folder)
    status, _, err = cli(*command, "--output", tmp_path / "out", "--clip-cache", tmp_path / "cache")
    assert status == 0
    assert "folder · two: 8 videos" in err and "clip cache: 8 of 8 clips (100 %)" in err
    digests = []
    for label in ("one", "two"):
        (path,) = (tmp_path / "out").rglob(f"folder.{label}.jsonl")
        digests.append({name: record["frames_digest"] for name, record in latest_records(path).items()})
    assert digests[0] == digests[1]


def test_damage_is_noted_in_the_record(cli: Cli, folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    remux(folder / "0.mp4", data / "v.mp4", mangle=lambda n, content: content if n < 45 else bytes(len(content)))
    command = ("--tasks", f"{PLUGINS}:FolderTask", "--models", f"careful={PLUGINS}:Careful", "--data-root", data)
    status, _, err = cli(*command, "--output", tmp_path / "out")
    assert status == 0 and "of its 60 frames cannot be decoded" in err
    (path,) = (tmp_path / "out").rglob("*.jsonl")
    assert all("cannot be decoded" in record["clip_note"] for record in latest_records(path).values())


def test_frames_of_another_decoder_are_another_run(folder: Path, tmp_path: Path) -> None:
    arguments = {"data_root": folder, "output": tmp_path, "progress": False}
    task, model = f"{PLUGINS}:FolderTask", f"careful={PLUGINS}:Careful"
    evaluate([task], [model], reading=Reading(workers=0), **arguments)
    evaluate([task], [model], reading=Reading(workers=0, backend="pyav-plain"), **arguments)
    with pytest.raises(UserError, match="backend"):
        evaluate([task], [model], reading=Reading(workers=0, backend="decord"), **arguments)


@pytest.mark.parametrize(
    "options",
    [("--workers", "-1"), ("--read-timeout", "0"), ("--clip-cache-gb", "-3"), ("--clip-cache", "/proc/nowhere")],
)
def test_impossible_options_get_one_line(cli: Cli, folder: Path, tmp_path: Path, options: tuple[str, str]) -> None:
    command = ("--tasks", f"{PLUGINS}:FolderTask", "--models", f"careful={PLUGINS}:Careful", "--data-root", folder)
    status, _, err = cli(*command, "--output", tmp_path / "out", *options)
    *_, last = err.splitlines()  # behind what the run was going to do
    assert status == 2 and last.startswith("error: ") and err.count("error: ") == 1


# ----------------------------------------------------------------------------------------- the clip cache


def test_the_cache_gives_the_same_clip(folder: Path, tmp_path: Path) -> None:
    reading_ = Reading(workers=1, cache=tmp_path / "cache")
    videos = videos_of(folder)[:2]
    with Reader(reading_) as reader:
        first = clips(reader, videos)
        again = clips(reader, videos)
    for name, loaded in first.items():
        other = again[name]
        assert loaded.saved_s is None and other.saved_s is not None
        assert loaded.clip is not None and other.clip is not None
        assert np.array_equal(loaded.clip.frames, other.clip.frames) and loaded.digest == other.digest
        for field in ("timestamps_s", "frame_indices", "source_fps", "duration_s", "note"):
            assert np.array_equal(getattr(loaded.clip, field), getattr(other.clip, field))


def test_the_cache_knows_a_clip_by_file_and_sampling(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    path = Path(shutil.copy2(folder / "0.mp4", data / "a.mp4"))
    sampling = SAMPLING

    def hit(**changes: object) -> bool:
        video = Video("v", path, (), start_s=changes.get("start_s"))  # type: ignore[arg-type]
        with Reader(Reading(workers=0, cache=tmp_path / "cache")) as reader:
            (loaded,) = reader.clips([video], sampling)
        assert loaded.clip is not None
        return loaded.saved_s is not None

    assert not hit() and hit()
    assert not hit(start_s=1.0) and hit(start_s=1.0)
    sampling = FrameSampling(num_frames=8, shortest_edge=32, longest_edge=60)
    assert not hit() and hit()
    copy = Path(shutil.copy2(path, data / "b.mp4"))  # the same file elsewhere, its time kept
    path = copy
    assert hit()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same time, other content
    assert not hit()


@pytest.mark.parametrize("workers", [0, 1])
def test_the_rate_of_extracted_frames_reaches_reader_and_cache(tmp_path: Path, workers: int) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(1, 13):
        Image.fromarray(picture(number, 40, 60)).save(frames / f"{number:05}.jpg")
    sampling = FrameSampling(strategy="segments", num_frames=4, shortest_edge=None, longest_edge=None)
    with Reader(Reading(workers=workers, cache=tmp_path / "cache")) as reader:
        for rate, expected in ((3.0, [2, 3, 4, 4]), (2.0, [1, 1, 2, 3])):  # numbers 3 to 6, or 2 to 4
            video = Video("v", frames, (), start_s=1.0, end_s=2.0, frames_per_second=rate)
            for saved in (False, True):
                (loaded,) = reader.clips([video], sampling)
                assert loaded.clip is not None and (loaded.saved_s is not None) == saved, loaded.problem
                assert loaded.clip.frame_indices.tolist() == expected
                assert loaded.clip.timestamps_s == pytest.approx(np.array(expected) / rate)
                assert loaded.clip.source_fps == rate


def test_the_least_recently_used_go_first(folder: Path, tmp_path: Path) -> None:
    """Room for four clips of eight; one is used all the time and stays."""
    videos = []
    for number in range(8):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes((folder / "0.mp4").read_bytes() + bytes(number))
        videos.append(Video(str(number), path, ()))
    sampling = FrameSampling(num_frames=50, shortest_edge=256, longest_edge=256)
    size_gb = 4.5 * 50 * 256 * 256 * 3 / 2**30
    with Reader(Reading(workers=0, cache=tmp_path / "cache", cache_gb=size_gb)) as reader:

        def hit(number: int) -> bool:
            (loaded,) = reader.clips([videos[number]], sampling)
            return loaded.saved_s is not None

        assert not hit(0)
        for number in range(1, 8):
            assert not hit(number)
            assert hit(0)
        assert not hit(1), "it was used before the others"
    used = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.clip"))
    assert used <= size_gb * 2**30


def test_several_processes_share_a_cache(folder: Path, tmp_path: Path) -> None:
    script = (
        "import json, pathlib, sys\n"
        "from vamba_eval import FrameSampling\n"
        "from vamba_eval.contracts import Video\n"
        "from vamba_eval.reading.reader import Reader, Reading\n"
        "videos = [Video(p.stem, p, ()) for p in sorted(pathlib.Path(sys.argv[1]).iterdir())] * 5\n"
        "with Reader(Reading(workers=1, cache=sys.argv[2], cache_gb=0.0005)) as reader:\n"
        "    loads = list(reader.clips(videos, FrameSampling(num_frames=8, shortest_edge=32, longest_edge=64)))\n"
        "print(json.dumps([loaded.digest for loaded in loads]))\n"
    )
    command = [sys.executable, "-c", script, str(folder), str(tmp_path / "cache")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    for process in running:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and not err, err
        digests = json.loads(out)
        assert len(digests) == 40 and len(set(digests)) == 1


def test_what_a_disk_has_changed_is_read_again(folder: Path, tmp_path: Path) -> None:
    reading_ = Reading(workers=0, cache=tmp_path / "cache")
    with Reader(reading_) as reader:
        first = clips(reader, videos_of(folder)[:1])["0"]
    (kept,) = (tmp_path / "cache").rglob("*.clip")
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
    with Reader(reading_) as reader:
        again = clips(reader, videos_of(folder)[:1])["0"]
        assert again.saved_s is None and again.digest == first.digest
        assert np.array_equal(again.clip.frames, first.clip.frames)  # type: ignore[union-attr]
        assert clips(reader, videos_of(folder)[:1])["0"].saved_s is not None


def test_a_cache_too_small_says_so(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Reader(Reading(workers=0, cache=tmp_path / "cache", cache_gb=1e-5)) as reader:
        loads = clips(reader, videos_of(folder)[:2])
    assert all(loaded.clip is not None for loaded in loads.values())
    assert sum("is larger than the whole cache" in message for message in caplog.messages) == 1


def test_a_cache_that_fails_costs_no_clip(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = tmp_path / "cache"
    with Reader(Reading(workers=0, cache=cache)) as reader:
        assert len(clips(reader, videos_of(folder)[:2])) == 2
        shutil.rmtree(cache)
        cache.write_bytes(b"no folder any more")
        loads = clips(reader, videos_of(folder)[:3])
    assert all(loaded.clip is not None for loaded in loads.values())
    assert sum("the clip cache does not work" in message for message in caplog.messages) == 1


def test_a_worker_writes_nothing_where_its_buffer_was(tmp_path: Path) -> None:
    """What is still queued when a run ends finds another file at the number of a buffer that is closed."""
    video = make_video(tmp_path / "video.mp4", frames=30)
    precious = tmp_path / "precious"
    precious.write_bytes(b"0123456789" * 1000)
    request = worker.ReadRequest(video, FrameSampling(num_frames=4), None, None, "pyav")
    buffer = worker.Buffer()
    assert worker.serve(request, buffer.address).problem is None
    number = int(buffer.address.path.rpartition("/")[2])
    buffer.close()
    with precious.open("r+b") as file:
        os.dup2(file.fileno(), number)  # where it is by itself, mostly
        result = worker.serve(request, buffer.address)
        if number != file.fileno():
            os.close(number)
    assert result.problem is not None and "nobody waits" in result.problem and result.clip is None
    assert precious.read_bytes() == b"0123456789" * 1000
    other = worker.Buffer()
    assert other.address != buffer.address
    assert worker.serve(request, buffer.address).clip is None and other.silent_s() == 0.0, "not another buffer either"
    other.close()

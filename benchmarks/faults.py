"""What faults cost: real runs that are killed, starved and fed with damaged files, until the counts say something.

Each kind of fault is one function, which says how often it was tried and what became of it. A hang is what does not
end within the time stated, a crash what ends without a reason, a leak what is left behind (processes, named shared
memory, temporary files), lost or doubled a question that has no record in the end, or two, or another answer than
in a run without faults. All of these are to be 0.

    python benchmarks/faults.py                     # all of them; about half an hour on two cores
    python benchmarks/faults.py --kinds driver,disk --driver 200
    python benchmarks/faults.py --scale 0.01        # only to see that it works

Prints Markdown; the exit status is 1 where a count is not 0.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from vamba_eval.contracts import (  # noqa: E402
    Answer,
    Catalogue,
    Clip,
    FrameSampling,
    GenerationSettings,
    ModelAdapter,
    Question,
    Score,
    Task,
    Video,
)
from vamba_eval.score.letters import extract_vamba, score_choice  # noqa: E402

SEEING = f"seeing={REPOSITORY / 'tests' / 'cluster_models.py'}:Seeing"
TASK = f"{REPOSITORY / 'tests' / 'plugins.py'}:FolderTask"
ITSELF = Path(__file__).resolve()
VIDEOS, QUESTIONS = 8, 16  # of the runs that are killed
LONGEST_S = 300.0  # for one command; what takes longer hangs
NODE = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 150 * 2**20}


@dataclass
class Counts:
    """What became of one kind of fault; ``note`` has what else was seen."""

    fault: str
    tried: int = 0
    hangs: int = 0
    crashes: int = 0
    leaks: int = 0
    lost: int = 0
    doubled: int = 0
    note: str = ""

    @property
    def bad(self) -> int:
        return self.hangs + self.crashes + self.leaks + self.lost + self.doubled

    def check_records(self, output: Path, wanted: dict[str, Any]) -> None:
        """Count what a finished run's records lack of ``wanted``, answers by question, and what they have twice."""
        found = answers_of(output)
        self.lost += sum(found.get(question, [None])[-1] != answer for question, answer in wanted.items())
        self.doubled += sum(len(answers) > 1 for answers in found.values())


@dataclass
class Running:
    """One command under way, and the processes that it was seen to have."""

    process: subprocess.Popen[str]
    family: set[psutil.Process] = field(default_factory=set)

    def children(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            found = psutil.Process(self.process.pid).children(recursive=True)
            self.family.update(found)
            return found
        return []

    def end(self, counts: Counts) -> str:
        """Wait for it, and for all of its processes; what it wrote to stderr."""
        try:
            _, said = self.process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            counts.hangs += 1
            self.process.kill()
            _, said = self.process.communicate()
        counts.crashes += "Traceback" in said
        # Ray's own agents notice a lost driver about a minute later.
        _, alive = psutil.wait_procs(self.family, timeout=90)
        left = [each for each in alive if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
        counts.leaks += len(left)
        for each in left:
            with suppress(psutil.Error):
                each.kill()
        return said


def start(data: Path, output: Path, *more: object, task: str = TASK, model: str = SEEING) -> Running:
    words = ["run_eval.py", "--tasks", task, "--models", model, "--data-root", data, "--output", output]
    words += ["--num-frames", 8, "--longest-edge", 64, "--shortest-edge", 32, *more]
    command = [sys.executable, *map(str, words)]
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return Running(subprocess.Popen(command, cwd=REPOSITORY, **pipes))


def answers_of(output: Path) -> dict[str, list[Any]]:
    """Of each question the answers in the records of the run below ``output``, in their order."""
    found: dict[str, list[Any]] = {}
    for path in output.rglob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError):  # the end of a line that was cut off
                record = json.loads(line)
                if record.get("error") is None:
                    found.setdefault(record["question"], []).append([record["response"], record.get("frames_digest")])
    return found


def undisturbed(folder: Path) -> tuple[Path, dict[str, Any], float]:
    """A folder of videos, the answers of a run about them that nothing disturbs, and the seconds that it takes."""
    from videos import make_video

    data = folder / "data"
    data.mkdir()
    for number in range(VIDEOS):
        make_video(data / f"v{number}.mp4", frames=20 + 5 * number)
    begun, counts = time.monotonic(), Counts("")
    said = start(data, folder / "undisturbed").end(counts)
    wanted = {question: answers[-1] for question, answers in answers_of(folder / "undisturbed").items()}
    if counts.bad or len(wanted) != QUESTIONS:
        raise SystemExit(f"error: the run without faults failed: {said}")
    return data, wanted, time.monotonic() - begun


# ------------------------------------------------------------------------------------------------ kills


def killed_drivers(times: int, folder: Path, dice: random.Random) -> Counts:
    """SIGKILL for the whole command at random moments of its life; the same command goes on, to be killed again."""
    data, wanted, length = undisturbed(folder)
    counts, output = Counts("driver killed"), folder / "out"
    slow = ("--model-args", "seeing:seconds=0.1")
    ended = 0
    while counts.tried < times:
        running, wait = start(data, output, *slow), dice.uniform(0, length + QUESTIONS * 0.1)
        with suppress(subprocess.TimeoutExpired):
            running.process.wait(wait)
        running.children()
        if running.process.poll() is None:
            running.process.kill()
            counts.tried += 1
            running.end(counts)
        else:  # it was done before: the next begins anew
            running.end(counts)
            counts.check_records(output, wanted)
            ended, output = ended + 1, folder / f"out{ended + 1}"
    said = start(data, output, *slow).end(counts)
    counts.check_records(output, wanted)
    counts.note = f"{ended + 1} runs to their ends" + f"; {said[-200:]}" * bool(counts.bad)
    return counts


def killed_workers(times: int, folder: Path, dice: random.Random) -> Counts:
    """SIGKILL for the processes of a run, one after the other: readers, and what watches over them."""
    data, wanted, _ = undisturbed(folder)
    counts, runs, failed = Counts("worker killed"), 0, 0
    while counts.tried < times:
        runs += 1
        output = folder / f"out{runs}"
        running = start(data, output, "--workers", 2, "--model-args", "seeing:seconds=0.2")
        while running.process.poll() is None:
            time.sleep(dice.uniform(0, 0.6))
            if (children := running.children()) and counts.tried < times:
                with suppress(psutil.Error):
                    dice.choice(children).kill()
                    counts.tried += 1
        said = running.end(counts)
        if running.process.returncode:  # a video whose readers were killed again and again may fail, with a reason
            failed += 1
            counts.crashes += "error" not in said and "failed" not in said
            start(data, output).end(counts)
        counts.check_records(output, wanted)
    counts.note = f"{runs} runs; {failed} needed the same command once more"
    return counts


def killed_replicas(times: int, folder: Path, dice: random.Random) -> Counts:
    """SIGKILL for replicas of the model on a Ray of the run's own."""
    data, wanted, _ = undisturbed(folder)
    counts, runs, again = Counts("replica killed"), 0, 0
    while counts.tried < times:
        runs += 1
        output = folder / f"out{runs}"
        running = start(data, output, "--replicas", 2, "--model-args", "seeing:seconds=0.5")
        killed = 0
        while running.process.poll() is None:
            time.sleep(dice.uniform(0, 1))
            replicas = [child for child in running.children() if _name(child).startswith("ray::Replica")]
            if replicas and killed < 3:  # a video that takes three replicas with it is given up, as it should be
                with suppress(psutil.Error):
                    dice.choice(replicas).kill()
                    counts.tried, killed = counts.tried + 1, killed + 1
        running.end(counts)
        if running.process.returncode:
            again += 1
            start(data, output).end(counts)
        counts.check_records(output, wanted)
    counts.note = f"{runs} runs; {again} needed the same command once more"
    return counts


def killed_nodes(times: int, folder: Path, dice: random.Random) -> Counts:
    """Nodes of a cluster that are gone at once, with their replicas and clips."""
    from ray.cluster_utils import Cluster

    data, wanted, _ = undisturbed(folder)
    counts = Counts("node killed")
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        while counts.tried < times:
            marks, output = folder / f"marks{counts.tried}", folder / f"out{counts.tried}"
            marks.mkdir()
            node = cluster.add_node(**NODE)
            more = ("--gpus", "all", "--ray-address", cluster.address)
            running = start(data, output, *more, "--model-args", f"seeing:marks={marks},seconds=0.5")
            began = time.monotonic()
            while running.process.poll() is None and time.monotonic() - began < LONGEST_S:
                running.children()
                if any(mark.read_text() == node.node_id for mark in marks.glob("*.started")):
                    time.sleep(dice.uniform(0, 4))
                    break
                time.sleep(0.1)
            cluster.remove_node(node, allow_graceful=False)
            counts.tried += 1
            running.end(counts)
            if running.process.returncode:
                start(data, output).end(counts)
            counts.check_records(output, wanted)
    finally:
        cluster.shutdown()
    return counts


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline()) or process.name()
    return ""


# ------------------------------------------------------------------------------------------------ disk and memory


def full_disk(times: int, folder: Path, dice: random.Random) -> Counts:
    """Records that stop in mid-file, at every byte (of which ``times`` are whole commands): EFBIG stands for ENOSPC."""
    from vamba_eval.store.runs import RecordFile, latest_records

    data, wanted, _ = undisturbed(folder)
    counts = Counts("disk full")
    (whole,) = (folder / "undisturbed").rglob("*.jsonl")
    records = latest_records(whole)[:2]
    size = sum(len(RecordFile(folder / "size.jsonl").line_of(record).encode()) for record in records)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = folder / "cut.jsonl"
    for room in range(size + 1):
        path.unlink(missing_ok=True)
        _append(path, records, room)
        kept = [record.question for record in latest_records(path)]
        _append(path, [record for record in records if record.question not in kept], None)
        found = Counter(record.question for record in latest_records(path))
        counts.tried += 1
        counts.lost += len({record.question for record in records} - found.keys())
        counts.doubled += sum(count > 1 for count in found.values())
    bytes_of_run = whole.stat().st_size
    for number in range(times):
        output, room = folder / f"out{number}", dice.randrange(bytes_of_run)
        words = [sys.executable, "-c", _WITH_ROOM, str(room), "run_eval.py", "--tasks", TASK, "--models", SEEING]
        words += ["--data-root", str(data), "--output", str(output), "--num-frames", "8", "--longest-edge", "64"]
        words += ["--shortest-edge", "32", "--no-thumbnails"]
        done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=LONGEST_S)
        counts.tried += 1
        counts.crashes += "Traceback" in done.stderr or (done.returncode != 0 and "error: " not in done.stderr)
        start(data, output, "--no-thumbnails").end(counts)
        counts.check_records(output, wanted)
    counts.note = f"every byte of {size:,} of two records, and {times} whole commands"
    return counts


def _append(path: Path, records: Sequence[Any], room: int | None) -> None:
    """Append while there is room for so many bytes (None: any)."""
    from vamba_eval.store.runs import RecordFile

    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if room is None else room, hard))
    file = RecordFile(path)
    try:
        with suppress(OSError):
            for record in records:
                file.append(record)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        file.close()


_WITH_ROOM = """
import resource, runpy, signal, sys
from vamba_eval.store import runs
room, sys.argv = int(sys.argv[1]), sys.argv[2:]
append = runs.RecordFile.append
def limited(file, record):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    append(file, record)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
runs.RecordFile.append = limited
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
runpy.run_path("run_eval.py", run_name="__main__")
"""


def short_memory(times: int, folder: Path, dice: random.Random) -> Counts:
    """Videos that want more memory than a worker may use: their questions fail, with a reason, and no others."""
    from videos import make_video

    counts, refused = Counts("memory short"), 0
    for number in range(times):
        data, output = folder / f"data{number}", folder / f"out{number}"
        data.mkdir()
        make_video(data / "small.mp4", frames=10)
        make_video(data / "wide.mp4", frames=12, size=(4320, 7680), options={"preset": "ultrafast"})
        room = f"{dice.uniform(0.5, 0.7):.3f}"
        start(data, output, "--worker-memory-gb", room, "--no-thumbnails").end(counts)
        counts.tried += 1
        lines = [json.loads(line) for path in output.rglob("*.jsonl") for line in path.read_text().splitlines()]
        by_question = {line["question"]: line["error"] for line in lines}
        refused += sum("memory" in (by_question.get(f"wide-{n}") or "") for n in range(2))
        counts.lost += sum(f"small-{n}" not in by_question or by_question[f"small-{n}"] is not None for n in range(2))
        counts.lost += sum(f"wide-{n}" not in by_question for n in range(2))
    counts.note = f"{refused} of {2 * times} questions about the large video failed for want of memory"
    return counts


# ------------------------------------------------------------------------------------------------ answers


class Odd(ModelAdapter):
    """Behaves at every third question in one of many odd ways, ``how``."""

    name = "odd"
    HOW = ("raise", "exit", "little", "much", "none", "text", "empty", "bytes", "huge", "nan", "half", "hang")

    def __init__(self, how: str = "raise") -> None:
        self.how, self.asked = how, 0

    def encode(self, clip: Clip | None) -> Any:
        return None

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> Any:
        self.asked += 1
        if self.asked % 3:
            return [Answer("A", 1) for _ in prompts]
        if self.how == "raise":
            raise RuntimeError("odd")
        if self.how == "exit":
            raise SystemExit(0)
        if self.how == "hang":
            time.sleep(3600)
        kinds: dict[str, Any] = {
            "little": [],
            "much": [Answer("A", 1)] * (len(prompts) + 1),
            "none": [None] * len(prompts),
            "text": "A" * len(prompts),
            "empty": [Answer(None, 1)] * len(prompts),  # type: ignore[arg-type]
            "bytes": [Answer(b"A", 1)] * len(prompts),  # type: ignore[arg-type]
            "huge": [Answer("A" * 10_000_000, 1)] * len(prompts),
            "nan": [Answer("A", float("nan"))] * len(prompts),  # type: ignore[arg-type]
            "half": [Answer("A \ud800", 1)] * len(prompts),
        }
        return kinds[self.how]


def odd_answers(times: int, folder: Path, dice: random.Random) -> Counts:
    """Models that raise, leave, hang, and return what is no answer: each question has a record in the end."""
    from videos import make_video

    counts, kept = Counts("odd answers"), Counter[str]()
    data = folder / "data"
    data.mkdir()
    for number in range(3):
        make_video(data / f"v{number}.mp4", frames=10)
    for how in Odd.HOW[: max(1, times)]:
        output = folder / how
        more = ("--model-args", f"odd:how={how}", "--answer-timeout", 5)
        for _ in range(3):  # a model that hangs takes the process with it, and the same command goes on
            running = start(data, output, *more, model=f"odd={ITSELF}:Odd")
            running.children()
            running.end(counts)
            if running.process.returncode in (0, 1):
                break
        counts.tried += 1
        lines = [json.loads(line) for path in output.rglob("*.jsonl") for line in path.read_text().splitlines()]
        last = {line["question"]: line for line in lines}
        counts.lost += 6 - len(last)
        counts.crashes += sum(line["error"] is not None and not line["error"].strip() for line in last.values())
        kept["answered"] += sum(line["error"] is None for line in last.values())
        kept["failed"] += sum(line["error"] is not None for line in last.values())
    counts.note = f"{', '.join(Odd.HOW)}: {kept['answered']} questions answered, {kept['failed']} failed with a reason"
    return counts


class Many(Task):
    """A hundred questions about each of many videos that are not there; for models that look at none."""

    name = "many"
    version = "1"
    catalogue = Catalogue(title="Many questions", homepage="nowhere", citation="none")

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        root = Path(str(data_root))

        def video(number: int) -> Video:
            asked = (Question(f"{number}-{n}", f"{number} {n}?", ("yes", "no"), "A") for n in range(100))
            return Video(f"v{number}", root / f"v{number}.mp4", tuple(asked))

        return [video(number) for number in range(int(root.name) // 100)]

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return question.text

    def score(self, question: Question, response: str, protocol: str) -> Score:
        return score_choice(question, response, extract_vamba)


def many_questions(times: int, folder: Path, dice: random.Random) -> Counts:
    """One run of very many questions, killed once in the middle."""
    asked = max(200, times // 100 * 100)
    counts, data, output = Counts("many questions"), folder / str(asked), folder / "out"
    data.mkdir()
    begun, most = time.monotonic(), 0
    for kill in (True, False):
        running = start(data, output, task=f"{ITSELF}:Many", model="random")
        while running.process.poll() is None:
            with suppress(psutil.Error):
                most = max(most, psutil.Process(running.process.pid).memory_info().rss)
            written = sum(path.stat().st_size for path in output.rglob("*.jsonl"))
            if kill and written > asked * 200:
                running.process.kill()
            time.sleep(0.05)
        running.end(counts)
    counts.tried = asked
    found = answers_of(output)
    counts.lost, counts.doubled = asked - len(found), sum(len(answers) > 1 for answers in found.values())
    counts.note = f"{time.monotonic() - begun:.0f} s with a kill and all tables, at most {most / 2**30:.2f} GiB"
    return counts


# ------------------------------------------------------------------------------------------------ damaged videos

KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {  # container, codec, and how it is made
    "mp4": ("mp4", "libx264", {"options": {"g": "10", "bf": "2"}}),
    "mkv": ("mkv", "libx265", {"options": {"x265-params": "log-level=error:keyint=10"}}),
    "webm": ("webm", "libvpx-vp9", {"options": {"deadline": "realtime", "cpu-used": "8"}}),
    "avi": ("avi", "mpeg4", {"options": {"bf": "2", "g": "10"}}),
    "ts": ("ts", "libx264", {"options": {"g": "10"}}),
    "flv": ("flv", "libx264", {"options": {"g": "10", "bf": "0"}}),
    "mpg": ("mpg", "mpeg2video", {"options": {"g": "10"}}),
    "mov": ("mov", "mjpeg", {"pixel_format": "yuvj420p"}),
}


def damaged(content: bytes, dice: random.Random) -> bytes:
    """A file with bits turned, an end missing, parts swapped, repeated, emptied or filled with noise."""
    data = bytearray(content)
    where, length = dice.randrange(len(data)), dice.randrange(1, 2000)
    match dice.randrange(6):
        case 0:
            for _ in range(dice.choice((1, 5, 50, 500))):
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        case 1:
            del data[where:]
        case 2:
            del data[where : where + length]
        case 3:
            data[where:where] = data[dice.randrange(len(data)) :][:length]
        case 4:
            data[where : where + length] = bytes(length)
        case 5:
            data[where : where + length] = dice.randbytes(length)
    return bytes(data)


def damaged_videos(times: int, folder: Path, dice: random.Random) -> Counts:
    """Damaged files of eight containers through the processes that read."""
    from videos import make_video

    from vamba_eval.reading.reader import Reader, Reading

    counts, seen = Counts("damaged videos"), Counter[str]()
    whole = {}
    for kind, (suffix, codec, how) in KINDS.items():
        whole[kind] = make_video(folder / f"whole.{suffix}", codec, frames=30, size=(48, 80), **how).read_bytes()
    sampling = FrameSampling(num_frames=8, shortest_edge=None, longest_edge=None)
    before = set(psutil.Process().children(recursive=True))
    limit_s = 20.0
    with Reader(Reading(workers=2, stall_s=limit_s, total_s=60, decode_on="cpu")) as reader:
        while counts.tried < times:
            chunk = []
            for number in range(counts.tried, min(times, counts.tried + 400)):
                kind = list(KINDS)[number % len(KINDS)]
                path = folder / f"{number}.{KINDS[kind][0]}"
                path.write_bytes(damaged(whole[kind], dice))
                chunk.append(Video(str(number), path, ()))
            begun = time.monotonic()
            for loaded in reader.clips(chunk, sampling):
                took, begun = time.monotonic() - begun, time.monotonic()
                counts.tried += 1
                counts.hangs += took > 2 * limit_s + 60
                said = loaded.problem or ""
                counts.lost += loaded.clip is None and not said
                seen[
                    "read whole"
                    if loaded.clip is not None and not loaded.clip.note
                    else "read with a note"
                    if loaded.clip is not None
                    else "refused with a reason"
                ] += 1
                seen["processes ended for it"] += "no progress" in said or "crashed" in said or "memory" in said
                loaded.video.path.unlink()
    counts.leaks = len(set(psutil.Process().children(recursive=True)) - before)
    counts.note = ", ".join(f"{count:,} {what}" for what, count in seen.items() if count)
    return counts


# ------------------------------------------------------------------------------------------------ all of them

FAULTS: dict[str, tuple[int, Callable[[int, Path, random.Random], Counts]]] = {
    "driver": (60, killed_drivers),
    "worker": (60, killed_workers),
    "replica": (20, killed_replicas),
    "node": (10, killed_nodes),
    "disk": (10, full_disk),
    "memory": (5, short_memory),
    "answers": (len(Odd.HOW), odd_answers),
    "questions": (100_000, many_questions),
    "videos": (10_000, damaged_videos),
}


def _left_in(folder: Path) -> Iterator[str]:
    """Temporary files, and named memory, that are still there. Ray keeps its logs, and torch a cache."""
    yield from (path.name for path in folder.iterdir() if not path.name.startswith(("ray", "torchinductor_")))
    yield from (name for name in os.listdir("/dev/shm") if name.startswith(("plasma", "vamba", "sem.")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(FAULTS), metavar="K,...")
    parser.add_argument("--scale", type=float, default=1.0, metavar="X", help="how often, against the defaults")
    parser.add_argument("--seed", type=int, default=0)
    for kind, (times, _) in FAULTS.items():
        parser.add_argument(f"--{kind}", type=int, metavar="N", help=f"default: {times:,}")
    args = parser.parse_args()
    if unknown := [kind for kind in args.kinds if kind not in FAULTS]:
        parser.error(f"no kind {unknown[0]!r}; there are {', '.join(FAULTS)}")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    logging.disable(logging.WARNING)  # what is said of each damaged video
    columns = ("fault", "tried", "hangs", "crashes", "leaks", "lost", "doubled", "seconds", "note")
    print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns), flush=True)
    bad = 0
    for kind in args.kinds:
        times, function = FAULTS[kind]
        times = getattr(args, kind) or max(1, round(times * args.scale))
        with tempfile.TemporaryDirectory() as folder:
            temporary, place = Path(folder) / "tmp", Path(folder) / "here"
            temporary.mkdir()
            place.mkdir()
            os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
            before, begun = set(_left_in(temporary)), time.monotonic()
            counts = function(times, place, random.Random(f"{args.seed} {kind}"))
            counts.leaks += len(set(_left_in(temporary)) - before)
            tempfile.tempdir = None
            os.environ.pop("TMPDIR")
        bad += counts.bad
        found = (counts.hangs, counts.crashes, counts.leaks, counts.lost, counts.doubled)
        row = (counts.fault, f"{counts.tried:,}", *found, f"{time.monotonic() - begun:.0f}", counts.note)
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()

"""How well replicas are kept busy: the real scheduling on Ray, with times of reading and answering that are simulated.

Videos are drawn from the lengths that Video-MME, LVBench and MLVU publish. Each replica is a real actor process whose
model sleeps; reading sleeps too, for as many videos at once as 16 cores a replica would read; clips are empty.
Everything else (which video is read and handed out when, records, retries) is what a run does.

Time runs faster than in reality, as fast as a machine can follow that carries the processes of 64 GPUs: about RATE
videos a second in all, so the fewer the replicas, the faster the clock, down to half a second a video. Ray's own cost
is therefore a larger share here than in reality, never a smaller one.

Beside it, computed for the same videos: static shards, in which video number i belongs to replica i modulo N, as
``accelerate launch`` gives lmms-eval (``create_iterator`` in its utils), both with reading that is never waited for
and with each video read before it is answered. (lmms-eval besides reads and encodes a video once for each question.)
The bound is what no scheduling can pass: all replicas busy all the time, the longest video alone, or the shortest two
of the longest N + 1 videos one after the other (three of 2 N + 1, and so on).

    python benchmarks/scaling.py                     # all; half an hour on 2 cores, 7 GiB
    python benchmarks/scaling.py --only videomme --replicas 64
    python benchmarks/scaling.py --only lvbench --replicas 2 --videos 8 --seconds 4      # only to see that it works
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

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
    Trial,
    Video,
)
from vamba_eval.reading.reader import Loaded, Reading  # noqa: E402

NODE = 8  # replicas on a machine
CORES = 16  # a replica, for reading
THREADS = 4  # a video, where there are enough
RATE = 15.0  # videos a second in all, by the wall clock
LEAST_S = 0.5  # a video takes by the wall clock, on average
RUN_S = 30.0  # a run takes at least, unless that is more than in reality or another time is asked for

# Seconds of a model of 7 billion parameters on one GPU, by the magnitude: a frame a second up to 512 are encoded.
MOST_FRAMES = 512
START_S, FRAMES_S, QUESTION_S = 0.5, 8.0, 0.4
# Seconds of one core, from benchmarks/README.md: PIL's resizing of a frame, and decoding an hour of 720p; the index of
# an hour is made by one thread.
RESIZE_S, DECODE_HOUR_S, INDEX_HOUR_S = 0.004, 33.0, 0.5


def drawn(rng: random.Random, count: int, low: float, high: float, mean: float) -> list[float]:
    """Lengths between ``low`` and ``high`` with that mean: a beta distribution."""
    share = (mean - low) / (high - low)
    return [low + (high - low) * rng.betavariate(3 * share, 3 * (1 - share)) for _ in range(count)]


def benchmarks() -> dict[str, list[tuple[float, int]]]:
    """(seconds, questions) of each video, in the annotations' order. From the papers: classes or bounds, and means."""
    rng = random.Random(0)
    videomme = [  # 11 s to 2 min, 4 to 15 min, 30 to 60 min
        *drawn(rng, 300, 11, 120, 80.8),
        *drawn(rng, 300, 240, 900, 520.2),
        *drawn(rng, 300, 1800, 3600, 2471.0),
    ]
    lvbench = drawn(rng, 103, 1800, 7200, 4101.0)  # 1,549 questions
    mlvu = drawn(rng, 1730, 180, 7200, 930.0)  # 3,102 questions
    return {
        "videomme": [(seconds, 3) for seconds in videomme],
        "lvbench": [(seconds, 15) for seconds in lvbench],
        "mlvu": [(seconds, 2 if number % 5 else 1) for number, seconds in enumerate(mlvu)],
    }


def encode_s(seconds: float) -> float:
    return START_S + FRAMES_S * min(MOST_FRAMES, seconds) / MOST_FRAMES


def model_s(seconds: float, questions: int) -> float:
    return encode_s(seconds) + QUESTION_S * questions


def read_s(seconds: float, threads: int) -> float:
    hours = seconds / 3600
    return INDEX_HOUR_S * hours + (RESIZE_S * min(MOST_FRAMES, seconds) + DECODE_HOUR_S * hours) / threads


# ------------------------------------------------------------------------------------------------ the simulation


class Simulated(ModelAdapter):
    """Sleeps. A clip's times say how long: encoding it, and answering a question about it."""

    name = "simulated"

    def encode(self, clip: Clip | None) -> float:
        assert clip is not None
        time.sleep(clip.timestamps_s[0])
        return float(clip.timestamps_s[1])

    def generate(self, encoded: float, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        time.sleep(encoded)
        return [Answer("A", 1) for _ in prompts]


class Lengths(Task):
    """Questions without a benchmark."""

    name, version, catalogue = "lengths", "1", Catalogue("Lengths")

    def load(self, data_root: object, split: str | None = None) -> list[Video]:
        return []

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return question.text

    def score(self, question: Question, response: str, protocol: str) -> Score:
        return Score({"correct": 1.0}, "A", True)


def simulated_reading() -> Any:
    """One process that sleeps for everybody who reads, in place of ``workers.read_video``."""
    import ray

    from vamba_eval.run.on_ray.workers import ReadFacts

    @ray.remote(num_cpus=0, max_concurrency=2000)
    class Readers:
        def __init__(self) -> None:
            self.free = asyncio.Condition()

        async def begin(self, cores: int) -> None:
            self.cores = cores

        @ray.method(num_returns=2)
        async def read(
            self, setting: object, video: Video, sampling: object, reading: object, threads: int, *_: object
        ) -> tuple[Any, Loaded]:
            seconds = read_s(video.duration_s or 0.0, threads) * video.extra["clock"]
            async with self.free:
                await self.free.wait_for(lambda: self.cores >= threads)
                self.cores -= threads
            await asyncio.sleep(seconds)
            async with self.free:
                self.cores += threads
                self.free.notify_all()
            times = np.array([encode_s(video.duration_s or 0.0), QUESTION_S]) * video.extra["clock"]
            clip = Clip(np.zeros((1, 8, 8, 3), np.uint8), times, np.zeros(1, np.int64), 1.0, 0.0)
            return ReadFacts(Loaded(video, None, seconds=seconds), "", 192, ""), Loaded(video, clip)

    class Read:
        """As the driver calls it."""

        def __init__(self) -> None:
            self.readers = Readers.remote()

        def options(self, **_: object) -> Read:
            return self

        def remote(self, *arguments: object) -> Any:
            return self.readers.read.remote(*arguments)

    return Read()


def works_of(videos: Sequence[tuple[float, int]], clock: float) -> list[Any]:
    from vamba_eval.run.work import OpenQuestion, Work

    works = []
    for number, (seconds, questions) in enumerate(videos):
        asked = tuple(Question(f"{number}-{n}", "?", ("a", "b"), "A") for n in range(questions))
        video = Video(str(number), Path("nowhere"), asked, duration_s=seconds, extra={"clock": clock})
        works.append(Work(video, [[OpenQuestion(question, [Trial()]) for question in asked]]))
    return works


def measured(
    cluster: Any, readers: Any, members: Sequence[Any], model: Any, videos: Sequence[tuple[float, int]], run_s: float
) -> tuple[float, str]:
    """Efficiency of so many replicas, and where their time went. A run takes at least ``run_s``, see above."""
    import ray

    from vamba_eval.progress import Display
    from vamba_eval.run.on_ray.scheduler import Scheduler
    from vamba_eval.run.plan import Job
    from vamba_eval.run.work import Assignment, Subject
    from vamba_eval.store.records import Record

    count, total = len(members), sum(model_s(*video) for video in videos)
    clock = min(1.0, max(LEAST_S, count / RATE, run_s * count / len(videos)) * len(videos) / total)
    model.members, cluster.read_threads = list(members), THREADS
    cluster.cores = [NODE * CORES] * (count // NODE) or [count * CORES]
    ray.get(readers.begin.remote(sum(cluster.cores)))
    job = Job(Lengths(), "lengths", "vamba", None, FrameSampling(), GenerationSettings(), "pyav")
    now = time.monotonic()
    for member in members:
        member.since = now
    recorder = Quiet(job, Record("", "", [], None, {}, 0))
    subject = Subject(model.facts.model, "simulated", 1)
    assignment = Assignment(subject, [job], works_of(videos, clock), [recorder])  # type: ignore[list-item]
    work = Scheduler(model, assignment, Display(enabled=False))
    start = time.perf_counter()
    answered = sum(record is not None and record.answered for _, record in work)
    seconds = time.perf_counter() - start
    assert answered == sum(questions for _, questions in videos), "every question has its answer"
    return total * clock / count / seconds, f"{work.occupation.summary()} (clock x {1 / clock:.1f})"


@dataclass
class Quiet:
    """A recorder that keeps nothing."""

    job: Any
    blank: Any
    strips: None = None

    def environment_of(self, environment: object) -> int:
        return 0


def static(videos: Sequence[tuple[float, int]], count: int) -> tuple[float, float]:
    """Efficiency of static shards: with reading for nothing, and with each video read before it is answered."""
    ahead, in_turn = [0.0] * count, [0.0] * count
    for number, (seconds, questions) in enumerate(videos):
        ahead[number % count] += model_s(seconds, questions)
        in_turn[number % count] += model_s(seconds, questions) + read_s(seconds, CORES)
    return sum(ahead) / count / max(ahead), sum(ahead) / count / max(in_turn)


def bound(videos: Sequence[tuple[float, int]], count: int) -> float:
    times = sorted((model_s(*video) for video in videos), reverse=True)
    least = max(sum(times) / count, times[0])
    for each in range(1, (len(times) - 1) // count + 1):
        # Among each * count + 1 videos, some replica has more than that many: at least the shortest of them.
        last = each * count + 1
        least = max(least, sum(times[last - each - 1 : last]))
    return sum(times) / count / least


def part_of(videos: Sequence[tuple[float, int]], count: int, most: int | None) -> list[tuple[float, int]]:
    """At most so many: every so manieth. By default as many as so few replicas get through in a minute."""
    step = max(1, len(videos) // (most or 120 * count))
    return list(videos[::step])[:most]


def rows(names: Sequence[str], counts: Sequence[int], most: int | None, run_s: float) -> Iterator[str]:
    import ray

    from vamba_eval.run.on_ray import scheduler
    from vamba_eval.run.on_ray.cluster import Cluster
    from vamba_eval.run.on_ray.replicas import Replicas
    from vamba_eval.run.plan import Layout

    # Two CPUs by name, whatever there are: otherwise Ray starts a process for each.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
    with (
        Cluster(Layout(replicas=max(counts)), Reading()) as cluster,
        mock.patch.object(scheduler, "read_video", simulated_reading()) as reading,
    ):
        model = Replicas(cluster, f"{__file__}:Simulated", {})
        everyone = model.members
        while any(member.starting is not None for member in everyone):
            model.welcome()
            time.sleep(0.1)
        for name in names:
            for count in counts:
                videos = part_of(benchmarks()[name], count, most)
                efficiency, summary = measured(cluster, reading.readers, everyone[:count], model, videos, run_s)
                print(f"{name}, {count}: {summary}", file=sys.stderr, flush=True)
                cells = [efficiency, *static(videos, count), bound(videos, count)]
                shown = " | ".join(f"{100 * cell:.1f}" for cell in cells)
                yield f"| {name} | {len(videos)} | {count} | {shown} |"
        model.members = everyone
        model.close()
    ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=tuple(benchmarks()), help="one benchmark")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--videos", type=int, help="of a benchmark, at most (default: by the number of replicas)")
    parser.add_argument("--seconds", type=float, default=RUN_S, help=f"that a run takes at least (default: {RUN_S:g})")
    args = parser.parse_args()
    print("Efficiency in %: the model's time, over that of all replicas\n")
    print("| benchmark | videos | replicas | measured | static shards | and reading in turn | bound |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows([args.only] if args.only else list(benchmarks()), args.replicas, args.videos, args.seconds):
        print(row, flush=True)


if __name__ == "__main__":
    main()

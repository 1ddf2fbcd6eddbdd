"""What metering costs a run, and whether its host memory is what the system says.

The same run with all meters and with none, in turn: a model whose work is a fixed number of matrix products (on a
GPU if there is one), marked as real adapters mark theirs, over annotations without videos. The defaults are what
Vamba takes for 64 frames and for a question on a fast GPU: nothing is cheaper. To reach: under 1 %.

Then a run of a real model in a process of its own, and its host memory beside the maximum resident size that
/usr/bin/time reports.

    python benchmarks/metering_overhead.py [--rounds 20] [--encode-ms 200] [--generate-ms 60]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

import torch  # noqa: E402
from benchmark_files import videomme_rows, write_videomme  # noqa: E402
from stored import latest_records  # noqa: E402

from vamba_eval import evaluate  # noqa: E402
from vamba_eval.contracts import Answer, Clip, GenerationSettings, ModelAdapter  # noqa: E402
from vamba_eval.cost.meter import Meter, mark_first_token, phase  # noqa: E402
from vamba_eval.cost.monitor import GpuMonitor, HostMemory  # noqa: E402
from vamba_eval.tables.costs import Distribution  # noqa: E402

VIDEOS, QUESTIONS = 12, 3
GNU_TIME = "/usr/bin/time"  # a small process, so its child's maximum begins with nothing of ours


class Fixed(ModelAdapter):
    """So many products of matrices, whatever it is asked."""

    name = "fixed"
    reads_video = False

    def __init__(self, encode_s: float, generate_s: float) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        size = 2048 if self.device.type == "cuda" else 128
        self._a = torch.randn(size, size, device=self.device)
        self._out = torch.empty_like(self._a)
        seconds = min(self._clocked(200) for _ in range(9)) / 200
        self._encode, self._generate = (max(4, round(s / seconds / 4)) for s in (encode_s, generate_s))

    def work(self, quarters: int) -> None:
        for _ in range(quarters):
            torch.mm(self._a, self._a, out=self._out)

    def _clocked(self, times: int) -> float:
        start = time.perf_counter()
        self.work(times)
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        """An answer is not known before the work is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def encode(self, clip: Clip | None) -> None:
        for _ in range(2):  # two segments
            with phase("preprocess"):
                self.work(self._encode)
            self.work(self._encode)

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        self.work(3 * self._generate)
        mark_first_token()
        self.work(self._generate)
        self.wait()
        return [Answer("A", 1) for _ in prompts]


class Nothing(AbstractContextManager[Any]):
    """In the place of a meter and of both monitors."""

    peak = utilization = None

    def __init__(self, *_: object) -> None:
        self.peak: Any = lambda: (0, "resident")

    def __exit__(self, *_: object) -> None: ...

    def phase(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def take(self) -> dict[str, Any]:
        return {}

    def reset(self) -> None: ...


class NoMonitor(Nothing):
    def __init__(self) -> None:
        self.peak = 0


@contextmanager
def unmetered() -> Iterator[None]:
    """A run in this block has none of its meters: each is replaced where the run takes it from."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch("vamba_eval.run.answer.Meter", Nothing))
        stack.enter_context(mock.patch("vamba_eval.run.places.HostMemory", NoMonitor))
        stack.enter_context(mock.patch("vamba_eval.run.places.GpuMonitor", NoMonitor))
        yield


def overhead(rounds: int, encode_s: float, generate_s: float) -> None:
    torch.set_num_threads(1)
    model = Fixed(encode_s, generate_s)

    def run(folder: Path, metered: bool) -> tuple[float, float]:
        with nullcontext() if metered else unmetered():
            start, cpu = time.perf_counter(), time.process_time()
            evaluate(["videomme"], [model], data_root=folder, output=folder / f"{start}", progress=False)
            taken = time.perf_counter() - start, time.process_time() - cpu
        records = latest_records(folder / f"{start}" / "videomme" / "videomme.fixed.jsonl").values()
        assert {bool(record.get("cost") and record.get("host_bytes")) for record in records} == {metered}
        return taken

    pairs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (write_videomme(folder, videomme_rows(VIDEOS)) / "data").rmdir()
        for number in range(rounds + 1):
            order = (True, False) if number % 2 else (False, True)
            pairs.append({metered: run(folder, metered) for metered in order})
    pairs = pairs[1:]  # the first warms up
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, one thread"
    print(
        f"{device}: {VIDEOS} videos of {1e3 * encode_s:.0f} ms, "
        f"{QUESTIONS} questions of {1e3 * generate_s:.0f} ms each\n"
    )
    print("| | without, s | with, s | overhead, % (5th to 95th percentile of the rounds) |\n| --- | --- | --- | --- |")
    for what, at in (("wall clock", 0), ("CPU time of the process, all threads", 1)):
        plain, metered = (Distribution.of([both[how][at] for both in pairs]) for how in (False, True))
        ratios = Distribution.of([100 * (both[True][at] / both[False][at] - 1) for both in pairs])
        noise = Distribution.of(
            [100 * (b[False][at] / a[False][at] - 1) for a, b in zip(pairs[::2], pairs[1::2], strict=False)]
        )
        assert plain and metered and ratios and noise
        print(f"| {what} | {plain.median:.3f} | {metered.median:.3f} | ", end="")
        print(f"{ratios.median:.2f} ({ratios.p5:.2f} to {ratios.p95:.2f}) |")
        print(f"| the same, without against without | | | {noise.median:.2f} ({noise.p5:.2f} to {noise.p95:.2f}) |")


def own_work() -> None:
    """What the meters do by themselves, without any work between: no noise of a model's hides it."""

    def clocked(work: Callable[[], object], times: int) -> float:
        work()
        start = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - start) / times

    with HostMemory(interval_s=1e6) as host, Meter() as meter:

        def question() -> None:
            with meter.phase("generate"):
                mark_first_token()
            meter.take(), meter.peak(), host.peak

        def video() -> None:
            host.reset()
            with meter.phase("encode"), phase("preprocess"):
                pass
            meter.take()

        each = [min(clocked(work, 200) for _ in range(9)) for work in (video, question)]
        sample = min(clocked(host.sample, 20) for _ in range(9))

    def run() -> None:
        with HostMemory(), GpuMonitor() as gpu:
            Meter(gpu)

    once = min(clocked(run, 3) for _ in range(9))
    print(
        f"\nthe meters' own work: {1e3 * once:.1f} ms a run, {1e6 * each[0]:.0f} µs a video, {1e6 * each[1]:.0f} µs a"
    )
    print(f"question; a sample of the host's memory {1e3 * sample:.1f} ms, ", end="")
    print(f"every {max(0.5, sample / HostMemory.share):.1f} s")
    if torch.cuda.is_available():
        with GpuMonitor(interval_s=1e6) as gpu:
            clock, cpu = time.perf_counter(), time.thread_time()
            for _ in range(100):
                gpu.sample()
            clock, cpu = time.perf_counter() - clock, time.thread_time() - cpu
        print(f"a sample of the GPU {10 * clock:.2f} ms, {10 * cpu:.2f} of them computing, ", end="")
        print(f"every {1e3 * max(0.05, cpu / 100 / GpuMonitor.share):.0f} ms")


def memory() -> None:
    """Host memory beside /usr/bin/time, of a run that reads and answers in one process."""
    code = (
        "from vamba_eval import evaluate; from vamba_eval.reading.reader import Reading; import os, sys\n"
        "from vamba_eval.cost.monitor import HostMemory\n"
        "with HostMemory() as host:\n"
        "    evaluate(['synthetic'], ['vamba'], output=sys.argv[1], limit=1, sampling={'num_frames': 64}, "
        "reading=Reading(workers=0), progress=False)\n"
        "    print(host.peak, flush=True)\n"
        "    os._exit(0)"  # the interpreter takes more than the run while it is torn down
    )
    if not Path(GNU_TIME).exists():
        print(f"\nhost memory: there is no {GNU_TIME} to compare with")
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [GNU_TIME, "-f", "%M", sys.executable, "-c", code, folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY)
        kilobytes, whole = int(done.stderr.split()[-1]), int(done.stdout.split()[-1])
        (path,) = Path(folder).rglob("*.vamba.jsonl")
        records = [json.loads(line) for line in path.read_text().splitlines()]
    ours = max(record["host_bytes"] for record in records)
    print(
        f"\nhost memory {whole / 2**20:,.0f} MiB, maximum resident size {kilobytes / 2**10:,.0f} MiB; "
        f"while the last answer was given, host_bytes {ours / 2**20:,.0f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What metering costs")
    parser.add_argument("--rounds", type=int, default=20, help="at least 2, so that rounds can be compared")
    parser.add_argument("--encode-ms", type=float, default=200.0)
    parser.add_argument("--generate-ms", type=float, default=60.0)
    args = parser.parse_args()
    if args.rounds < 2:
        parser.error("--rounds must be 2 at least")
    overhead(args.rounds, args.encode_ms / 1e3, args.generate_ms / 1e3)
    own_work()
    memory()


if __name__ == "__main__":
    main()

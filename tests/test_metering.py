"""The meters against what is known otherwise: sleeps, allocations of a known size, products of known shapes."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from stored import latest_records
from videos import make_video

from vamba_eval import evaluate
from vamba_eval.cost import meter as meter_module
from vamba_eval.cost import monitor
from vamba_eval.cost.meter import Meter, mark_first_token, phase
from vamba_eval.cost.monitor import GpuMonitor, HostMemory, tree_memory
from vamba_eval.tables.costs import Distribution

MIB = 1 << 20

# A machine with two GPUs, as NVML describes it.
NVML = """
class NVMLError(Exception): pass
def nvmlInit(): pass
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetName(handle): return "NVIDIA H100 80GB HBM3"
def nvmlSystemGetDriverVersion(): return "580.65.06"
def nvmlSystemGetCudaDriverVersion(): return 13020
"""


def test_gpus_are_named_before_torch_is_loaded(tmp_path: Path) -> None:
    """NVML is put in place by a module, since the machine may have no GPU."""
    code = (
        "import sys; from vamba_eval import machine; print(machine.environment()['hardware']); "
        "sys.exit('torch' in sys.modules)"
    )

    def hardware() -> dict[str, object]:
        paths = os.pathsep.join([str(tmp_path), *sys.path])
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
        assert done.returncode == 0, done.stderr
        return dict(eval(done.stdout))

    (tmp_path / "pynvml.py").write_text(NVML)
    found = hardware()
    assert found["gpus"] == ["NVIDIA H100 80GB HBM3"] * 2
    assert (found["driver"], found["driver_cuda"]) == ("580.65.06", "13.2")
    code = code.replace(".environment()", ".run_environment()")
    assert hardware()["gpus"] == ["NVIDIA H100 80GB HBM3"], "a run is the same on one or two of a kind"
    (tmp_path / "pynvml.py").write_text(NVML.replace("nvmlInit(): pass", "nvmlInit(): raise NVMLError"))
    assert "gpus" not in hardware(), "a driver that does not answer"


def fresh_memory(size: int) -> mmap.mmap:
    """Pages that the process had not before, and gives back when they are closed: malloc may reuse what was freed."""
    block = mmap.mmap(-1, size)
    block[:: mmap.PAGESIZE] = bytes(len(range(0, size, mmap.PAGESIZE)))
    return block


def test_the_resident_peak_starts_anew_with_a_meter() -> None:
    for size in (300, 10):
        with Meter() as meter:
            before, kind = meter.peak()
            fresh_memory(size * MIB).close()
            peak, _ = meter.peak()
            assert kind == "resident"
            if sys.platform == "linux":
                assert peak - before == pytest.approx(size * MIB, abs=20 * MIB)


# ------------------------------------------------------------------------------------------------- phases


def near(seconds: float) -> object:
    return pytest.approx(seconds + 0.05, abs=0.051)  # a sleep is never short, and long on a busy machine


def test_phases_nest_and_add_up() -> None:
    with Meter() as meter:
        for _ in range(2):
            with meter.phase("encode"):
                time.sleep(0.05)
                with phase("preprocess"):
                    time.sleep(0.1)
            assert "encode" in meter.costs, "known when the outermost phase ends"
    assert meter.costs["preprocess"].seconds == near(0.2) and meter.costs["encode"].seconds == near(0.3)
    assert meter.costs.keys() == {"preprocess", "encode"}


def test_the_first_token_splits_generate() -> None:
    with Meter() as meter, meter.phase("generate"):
        with phase("prefill"):
            time.sleep(0.1)
            mark_first_token()
            time.sleep(0.05)
        time.sleep(0.1)
        mark_first_token()  # of a second prompt: of no effect
    seconds = {name: cost.seconds for name, cost in meter.costs.items()}
    assert seconds == {
        "prefill": near(0.15),
        "first_token": near(0.1),
        "further_tokens": near(0.15),
        "generate": near(0.25),
    }
    assert seconds["first_token"] + seconds["further_tokens"] == pytest.approx(seconds["generate"], abs=1e-6)


def test_who_marks_nothing_gets_no_split() -> None:
    with Meter() as meter:
        mark_first_token()  # outside of generate: nothing to split
        with meter.phase("generate"):
            pass
    assert meter.costs.keys() == {"generate"}


def test_without_a_meter_nothing_is_measured() -> None:
    with Meter() as meter:
        pass
    with phase("encode"):
        mark_first_token()
    assert meter.costs == {} and meter_module._active.get() is None


def test_what_fails_is_measured_and_leaves_no_phase_open() -> None:
    with Meter() as meter:
        for _ in range(2):
            with pytest.raises(ValueError, match="broken"), meter.phase("encode"), phase("preprocess"):
                time.sleep(0.05)
                raise ValueError("broken")
        with meter.phase("generate"):
            time.sleep(0.05)
    assert meter.costs["preprocess"].seconds == near(0.1) and meter.costs["generate"].seconds == near(0.05)
    other = Meter()
    with meter.phase("encode"), pytest.raises(RuntimeError, match="one at a time"), other.phase("encode"):
        pass
    with other.phase("encode"):
        assert meter_module._active.get() is other
    assert meter_module._active.get() is None


def test_phases_of_other_threads_do_not_mix_in() -> None:
    def work() -> None:
        with phase("preprocess"):
            time.sleep(0.05)

    thread = threading.Thread(target=work)
    with Meter() as meter:
        thread.start()
        with meter.phase("encode"):
            time.sleep(0.01)
        thread.join()
    assert meter.costs.keys() == {"encode"}


def test_costs_as_a_record_holds_them() -> None:
    assert meter_module.PhaseCost(1.23456789).to_json() == {"s": 1.234568}
    known = meter_module.PhaseCost(1.0, gpu_allocated=0, gpu_reserved=7, energy_j=0.0)
    assert known.to_json() == {"s": 1.0, "gpu_allocated": 0, "gpu_reserved": 7, "energy_j": 0.0}


def test_what_is_taken_is_counted_once() -> None:
    with Meter() as meter:
        with meter.phase("generate"):
            time.sleep(0.1)
        assert meter.take()["generate"].seconds == near(0.1)
        with meter.phase("generate"):
            mark_first_token()
        assert meter.take().keys() == {"first_token", "further_tokens", "generate"} and meter.costs == {}


def test_percentiles_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 3, 19, 20, 101):
        values = rng.lognormal(size=count).tolist()
        found = Distribution.of(values)
        assert found is not None
        assert [found.p5, found.median, found.p95] == pytest.approx(np.percentile(values, [5, 50, 95]).tolist())
    assert Distribution.of([]) is None


# --------------------------------------------------------------------------------------- phases on a GPU


class FakeGpus:
    """torch.cuda of a machine with two GPUs, whose time goes on only by what is done here.

    A real one is measured in test_metering_gpu.py.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.busy_until, self.waits = 100.0, [0.0, 0.0], 0
        self.held, self.peaks = [0, 0], [0, 0]
        monkeypatch.setattr(meter_module.time, "perf_counter", lambda: self.now)
        for module in (meter_module, monitor):
            monkeypatch.setattr(module, "cuda", lambda: self)

    def queue(self, seconds: float, device: int = 0) -> None:
        self.busy_until[device] = max(self.now, self.busy_until[device]) + seconds

    def hold(self, size: int, device: int = 0) -> None:
        self.held[device] += size
        self.peaks[device] = max(self.peaks[device], self.held[device])

    # What the meter uses

    def device_count(self) -> int:
        return 2

    def memory_stats_as_nested_dict(self, device: int) -> dict[str, Any]:
        peak = self.peaks[device]  # the allocator holds twice what is asked of it
        return {"allocated_bytes": {"all": {"peak": peak}}, "reserved_bytes": {"all": {"peak": 2 * peak}}}

    def reset_peak_memory_stats(self, device: int) -> None:
        self.peaks[device] = self.held[device]

    def current_stream(self, device: int) -> int:
        return device

    def synchronize(self, device: int) -> None:
        self.until(self.busy_until[device])

    def until(self, moment: float) -> None:
        self.now = max(self.now, moment)
        self.waits += 1

    def Event(self, enable_timing: bool) -> FakeEvent:
        assert enable_timing
        return FakeEvent(self)


class FakeEvent:
    def __init__(self, gpus: FakeGpus) -> None:
        self.gpus = gpus

    def record(self, stream: int) -> None:
        self.at = max(self.gpus.now, self.gpus.busy_until[stream])

    def synchronize(self) -> None:
        self.gpus.until(self.at)

    def elapsed_time(self, other: FakeEvent) -> float:
        assert self.gpus.now >= other.at, "asked before it was reached"
        return 1000 * (other.at - self.at)


def test_on_a_gpu_phases_are_what_the_device_took(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = FakeGpus(monkeypatch)
    gpus.hold(1)
    monitor = GpuMonitor()
    monitor._energy[0] = ([0.0, 100.0, 108.0, 200.0], [0.0, 0.0, 800.0, 28_400.0])  # 100 W, and 300 W from 108 s on
    with Meter(monitor) as meter:
        with meter.phase("encode"):
            gpus.queue(4.0)
            for _ in range(2):
                with phase("preprocess"):
                    gpus.now += 0.5  # the host's work hides behind the device's
                    gpus.queue(1.0)
            gpus.queue(2.0)
        with meter.phase("generate"):
            gpus.queue(1.5)
            mark_first_token()
            gpus.queue(0.5)
            assert gpus.now == 101.0 and gpus.waits == 0, "nothing waits before costs are asked for"
            gpus.synchronize(0)
            gpus.now += 0.25  # the device waits for the host
            gpus.queue(1.0)
        gpus.queue(7.0)  # of no phase
        meter.wait()
        assert gpus.now == 111.25
    seconds = {name: cost.seconds for name, cost in meter.costs.items()}
    assert seconds == pytest.approx(
        {"preprocess": 2.0, "encode": 8.0, "first_token": 1.5, "further_tokens": 1.75, "generate": 3.25}
    )
    joules = {name: cost.energy_j for name, cost in meter.costs.items()}
    watts = {name: 100 if name in ("preprocess", "encode") else 300 for name in seconds}
    assert joules == pytest.approx({name: watts[name] * seconds[name] for name in seconds})
    assert gpus.now == 111.25


def test_peaks_of_nested_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = FakeGpus(monkeypatch)
    gpus.hold(1000)
    gpus.hold(-900)  # before: of no meaning
    with Meter() as meter:
        gpus.hold(600)
        gpus.hold(-600)
        with meter.phase("encode"):
            gpus.hold(50)
            with phase("preprocess"):
                gpus.hold(300)
                gpus.hold(-300)
            gpus.hold(20)
        with meter.phase("generate"):
            gpus.hold(10)
            mark_first_token()
            gpus.hold(200)
            gpus.hold(-200)
        assert meter.peak() == (700, "gpu"), "between phases too"
    allocated = {name: cost.gpu_allocated for name, cost in meter.costs.items()}
    assert allocated == {
        "preprocess": 450,
        "encode": 450,
        "first_token": 180,
        "further_tokens": 380,
        "generate": 380,
    }
    assert meter.costs["encode"].gpu_reserved == 900


def test_a_gpu_that_comes_into_use_within_a_phase_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = FakeGpus(monkeypatch)
    with Meter() as meter:
        with meter.phase("load"):
            gpus.now += 1.0
            gpus.hold(70, device=1)
            gpus.queue(2.0, device=1)
        with meter.phase("encode"):
            gpus.hold(30, device=0)  # and later another one
            gpus.queue(3.0, device=1)
    assert meter.costs["load"].seconds == pytest.approx(3.0) and meter.costs["load"].gpu_allocated == 70
    assert meter.costs["encode"].seconds == pytest.approx(3.0) and meter.costs["encode"].gpu_allocated == 100


# -------------------------------------------------------------------------------------------- host memory

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="memory without a name and resetting a peak are Linux's")


def growth(before: int) -> float:
    return (tree_memory() - before) / MIB


@on_linux
def test_memory_of_a_known_size_is_found() -> None:
    before = tree_memory()
    block = fresh_memory(200 * MIB)
    assert growth(before) == pytest.approx(200, abs=10)
    block.close()
    assert growth(before) == pytest.approx(0, abs=10)


@on_linux
def test_children_count_and_what_they_share_counts_once() -> None:
    """A child of a child, and memory without a name that all three have mapped, as clips are."""
    size = 100 * MIB
    with os.fdopen(os.memfd_create("clip"), "r+b", buffering=0) as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size) as shared:
            before = tree_memory()
            shared.write(b"\1" * size)
            assert growth(before) == pytest.approx(100, abs=10)
            code = (
                "import mmap, subprocess, sys\n"
                f"with open('/proc/{os.getpid()}/fd/{file.fileno()}', 'rb') as file:\n"
                f"    shared = mmap.mmap(file.fileno(), {size}, prot=mmap.PROT_READ)\n"
                f"    own = b'\\1' * {50 * MIB}; assert sum(shared[::4096]) == {size // 4096}\n"
                "if len(sys.argv) < 3:\n"
                "    child = subprocess.Popen([sys.executable, '-c', sys.argv[1], sys.argv[1], 'last'])\n"
                "    sys.exit(child.wait())\n"
                "print('ready', flush=True); sys.stdin.read()\n"
            )
            command = [sys.executable, "-c", code, code]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
                assert child.stdout is not None and child.stdout.readline() == b"ready\n"
                assert growth(before) == pytest.approx(100 + 2 * 50, abs=40), "two interpreters beside"
                assert child.stdin is not None
                child.stdin.close()
            assert growth(before) == pytest.approx(100, abs=10)


@on_linux
def test_descendants_are_those_that_psutil_finds() -> None:
    """Whichever thread began them."""
    code = "import subprocess, sys; print('ready', flush=True); subprocess.run(['sleep', '60'])"
    children: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        children.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE))

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    begin()
    me = psutil.Process()
    try:
        deadline = time.monotonic() + 30
        while len(me.children(recursive=True)) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        found = monitor._descendants()
        assert len(found) >= 4 and sorted(found) == sorted(child.pid for child in me.children(recursive=True))
    finally:
        for child in me.children(recursive=True):
            child.kill()
        for started in children:
            started.communicate()


@on_linux
def test_the_peak_is_that_since_the_reset() -> None:
    with HostMemory(interval_s=0.01) as memory:
        before = memory.peak
        block = fresh_memory(200 * MIB)
        memory.sample()
        block.close()
        memory.sample()
        assert memory.peak - before == pytest.approx(200 * MIB, abs=10 * MIB)
        memory.reset()
        assert memory.peak - before == pytest.approx(0, abs=10 * MIB), "what is held now"
    command = [sys.executable, "-c", f"x = b'1' * {200 * MIB}; print('ready', flush=True); input()"]
    with HostMemory(interval_s=0.01) as memory, subprocess.Popen(command, stdin=-1, stdout=-1) as child:
        before = memory.peak
        assert child.stdout is not None and child.stdin is not None
        child.stdout.readline()
        deadline = time.monotonic() + 30
        while memory.peak - before < 150 * MIB and time.monotonic() < deadline:
            time.sleep(0.05)
        child.stdin.close()
        assert memory.peak - before == pytest.approx(200 * MIB, abs=30 * MIB), "a child's, seen by the thread"


@on_linux
def test_no_peak_of_this_process_is_missed_between_samples() -> None:
    with HostMemory(interval_s=60) as memory:
        before = memory.peak
        fresh_memory(200 * MIB).close()
        assert memory.peak - before == pytest.approx(200 * MIB, abs=20 * MIB)
        memory.reset()
        assert memory.peak - before == pytest.approx(0, abs=20 * MIB)


def test_dear_samples_are_taken_seldom() -> None:
    class Dear(HostMemory):
        count = 0

        def sample(self) -> None:
            self.count += 1
            end = time.thread_time() + 0.02
            while time.thread_time() < end:
                pass

    with Dear(interval_s=0.001) as memory:
        time.sleep(1.0)
    assert memory.count == 2, "one at the beginning, one after 1 ms, the next after 4 s"


def test_waiting_makes_no_sample_dear() -> None:
    class Slow(HostMemory):
        count = 0

        def sample(self) -> None:
            self.count += 1
            time.sleep(0.1)  # as a driver that takes its time to answer

    with Slow(interval_s=0.001) as memory:
        deadline = time.monotonic() + 0.1 / memory.share
        while memory.count < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert memory.count >= 3, "the first of these waits alone would make the next sample wait for longer"


# ------------------------------------------------------------------------------------------------- energy


def test_energy_is_interpolated_between_the_steps_of_the_counter() -> None:
    """100 W until second 10, then 300 W; the counter steps at irregular times."""
    monitor = GpuMonitor()
    times = [0.0, 1.1, 3.7, 10.0, 10.4, 12.0]
    monitor._energy[0] = (times, [100 * t + 200 * max(0.0, t - 10) for t in times])
    assert monitor.joules(2.0, 3.0) == pytest.approx(100)
    assert monitor.joules(9.5, 10.5) == pytest.approx(50 + 150)
    assert monitor.joules(11.5, 12.5) == pytest.approx(300), "beyond the last reading, at its power"
    monitor._energy[1] = (times, [5 * t for t in times])
    assert monitor.joules(2.0, 3.0) == pytest.approx(105), "of two GPUs"
    assert monitor.joules(-1.0, 3.0) is None, "not known for all of it"
    assert GpuMonitor().joules(0.0, 1.0) is None


# ------------------------------------------------------------------------------------- adapters and runs


@pytest.mark.filterwarnings("error::FutureWarning")  # names that transformers gives up
@pytest.mark.parametrize("name", ["vamba", "qwen2_vl"])
@pytest.mark.parametrize("max_new_tokens", [1, 4])
def test_adapters_mark_the_first_token_behind_its_forward_pass(
    name: str, max_new_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vamba_eval import Clip, load_adapter
    from vamba_eval.contracts import GenerationSettings, Seen

    adapter: Any = load_adapter(name, device="cpu")
    passes: list[int] = []
    adapter.model.register_forward_hook(lambda *_: passes.append(1))
    marked: list[int] = []
    real = Meter.mark_first_token
    monkeypatch.setattr(Meter, "mark_first_token", lambda meter: (marked.append(len(passes)), real(meter)))
    clip = Clip(np.zeros((4, 84, 112, 3), dtype=np.uint8), np.arange(4.0), np.arange(4), 1.0, 4.0)
    with Meter() as meter:
        with meter.phase("encode"):
            encoded = adapter.encode(clip)
        passes.clear()
        with meter.phase("generate"):
            (answer,) = adapter.generate(encoded, ["What is it?"], GenerationSettings(max_new_tokens=max_new_tokens))
    assert marked[0] == 1 and len(passes) >= 1
    assert meter.costs.keys() == {"preprocess", "encode", "first_token", "further_tokens", "generate"}
    assert adapter.seen(encoded) == Seen(4, 84, 112, video_tokens=2 * 3 * 4)
    prompt = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|vision_end|>What is it?<|im_end|>\n<|im_start|>assistant\n"
    )
    tokenizer = adapter.processor.tokenizer if name == "vamba" else adapter.tokenizer
    assert answer.prompt_tokens == len(tokenizer(prompt).input_ids)


def test_greedy_decoding_marks_the_first_token_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path that captures a CUDA graph, here without one."""
    from vamba_eval.model_adapters.vamba import VambaAdapter

    adapter = VambaAdapter(device="cpu")
    passes: list[int] = []
    adapter.model.register_forward_hook(lambda *_: passes.append(1))
    marked: list[int] = []
    monkeypatch.setattr(Meter, "mark_first_token", lambda meter: marked.append(len(passes)))
    ids = adapter.processor([adapter.processor.prompt("What is it?")])["input_ids"]
    with Meter().phase("generate"):
        adapter.decoder(ids, None, 4, {-1})
    assert marked == [1] and len(passes) == 4


def test_records_hold_the_costs_of_every_phase(tmp_path: Path) -> None:
    plugin = Path(__file__).parent / "plugins.py"
    (tmp_path / "data").mkdir()
    for name in ("one", "two"):
        make_video(tmp_path / "data" / f"{name}.mp4", frames=8)
    models = [f"careful={plugin}:Careful", "vamba"]
    where: dict[str, Any] = {"data_root": tmp_path / "data", "output": tmp_path / "out", "progress": False}
    start = time.perf_counter()
    evaluate(
        [f"{plugin}:FolderTask"], models, sampling={"num_frames": 4}, model_args={"vamba": {"device": "cpu"}}, **where
    )
    elapsed = time.perf_counter() - start

    records = {name: latest(tmp_path, name) for name in ("careful", "vamba")}
    for record in records["careful"]:  # marks nothing
        assert record["cost"].keys() == {"encode", "generate"} and "prompt_tokens" not in record
        assert "video_tokens" not in record
    for record in records["vamba"]:
        assert record["cost"].keys() == {"preprocess", "encode", "first_token", "further_tokens"}
        seconds = {name: cost["s"] for name, cost in record["cost"].items()}
        assert record["encode_s"] == seconds["encode"] >= seconds["preprocess"] > 0
        assert record["generate_s"] == pytest.approx(seconds["first_token"] + seconds["further_tokens"], abs=2e-6)
        assert record["video_tokens"] > 0 and record["prompt_tokens"] > len("one 0?")
        assert record["peak_kind"] == "resident" and "gpu_utilization" not in record
    for each in records.values():
        assert [record.get("warmup", False) for record in each] == [True, True, False, False], "the first video's"
        videos = {record["video"]: record["encode_s"] for record in each}
        assert sum(videos.values()) + sum(record["generate_s"] for record in each) < elapsed
        assert all(record["host_bytes"] > 50 * MIB for record in each)


def test_an_answer_that_fails_costs_the_next_one_nothing(tmp_path: Path) -> None:
    plugin = Path(__file__).parent / "plugins.py"
    (tmp_path / "data").mkdir()
    make_video(tmp_path / "data" / "stumble.mp4", frames=8)
    where: dict[str, Any] = {"data_root": tmp_path / "data", "output": tmp_path / "out", "progress": False}
    args = {"careful": {"seconds": 0.4}}
    evaluate([f"{plugin}:FolderTask"], [f"careful={plugin}:Careful"], model_args=args, **where)
    failed, answered = latest(tmp_path, "careful")
    assert "tripped" in failed["error"] and "generate_s" not in failed and failed["cost"].keys() == {"encode"}
    assert failed["cost"] == {"encode": answered["cost"]["encode"]} and failed["encode_s"] == answered["encode_s"]
    assert 0.4 <= answered["generate_s"] < 0.8


def latest(folder: Path, model: str) -> list[dict[str, Any]]:
    (path,) = folder.rglob(f"*.{model}.jsonl")
    return list(latest_records(path).values())

"""On a GPU alone: the meters against independent measurements of the same work.

    python -m pytest tests/test_metering_gpu.py -rP      # -rP shows both numbers of each comparison

Seconds against the clock with the GPU waited for; bytes against torch's own statistics and the driver; joules
against the driver's power integrated over time; FLOPs against products of known shapes and the plain scan.
"""

from __future__ import annotations

import itertools
import math
import subprocess
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from vamba_eval.model_adapters.vamba import VambaAdapter, mixer

from vamba_eval import Clip
from vamba_eval.contracts import GenerationSettings
from vamba_eval.cost.flops import count_flops
from vamba_eval.cost.meter import Meter, mark_first_token, phase
from vamba_eval.cost.monitor import GpuMonitor
from vamba_eval.machine import environment

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

MIB = 1 << 20
SIZE = 8192


@pytest.fixture(scope="module")
def product() -> Callable[[int], None]:
    """Queues so many products of large matrices, some milliseconds each."""
    a, b = (torch.randn(SIZE, SIZE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)

    def run(times: int) -> None:
        for _ in range(times):
            torch.mm(a, b, out=out)

    run(20)
    torch.cuda.synchronize()
    return run


def clocked(work: Callable[[], object]) -> float:
    """Seconds by the clock, the GPU waited for on both sides: what the meter does not use."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def driver(field: str) -> float:
    """nvidia-smi's word about torch's GPU."""
    uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    command = ["nvidia-smi", f"--id={uuid}", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


# ------------------------------------------------------------------------------------------------- seconds


@pytest.mark.parametrize("times", [1, 10, 200])
def test_seconds_are_those_of_the_clock_with_the_gpu_waited_for(product, times: int) -> None:
    metered, clock = [], []
    for _ in range(9):  # in turn, since the GPU's clock rate moves
        clock.append(clocked(lambda: product(times)))
        with Meter() as meter, meter.phase("encode"):
            product(times)
        metered.append(meter.costs["encode"].seconds)
    ours, theirs = np.median(metered), np.median(clock)
    print(f"{times} products: {1e3 * ours:.3f} ms by events, {1e3 * theirs:.3f} ms by the clock")
    assert ours == pytest.approx(theirs, rel=0.02, abs=1e-4)


def test_the_same_seconds_from_inside_and_outside(product) -> None:
    def work() -> None:
        product(50)
        time.sleep(0.05)
        product(50)

    both = []
    for _ in range(5):
        with Meter() as meter:
            outside = clocked(lambda: _phase(meter, work))
        both.append((meter.costs["encode"].seconds, outside))
    print([f"{1e3 * a:.2f} / {1e3 * b:.2f} ms" for a, b in both])
    for ours, theirs in both:
        assert ours == pytest.approx(theirs, rel=0.01, abs=2e-4)


def _phase(meter: Meter, work: Callable[[], None]) -> None:
    with meter.phase("encode"):
        work()


def test_queued_work_is_charged_to_the_phase_that_queued_it(product) -> None:
    one = min(clocked(lambda: product(50)) for _ in range(3))
    with Meter() as meter, meter.phase("generate"):
        start = time.perf_counter()
        with phase("preprocess"):
            product(50)
            time.sleep(one / 2)  # hidden behind the GPU's work
        product(50)
        mark_first_token()
        product(150)
        queued = time.perf_counter() - start
    seconds = {name: cost.seconds for name, cost in meter.costs.items()}
    print({name: f"{1e3 * value:.2f} ms" for name, value in seconds.items()}, f"{1e3 * one:.2f} ms for 50 products")
    assert queued < 0.6 * seconds["generate"], "the host was not made to wait"
    assert seconds["preprocess"] == pytest.approx(one, rel=0.15)
    assert seconds["first_token"] == pytest.approx(2 * one, rel=0.15)
    assert seconds["further_tokens"] == pytest.approx(3 * one, rel=0.15)


def test_an_idle_gpu_is_charged_by_the_clock() -> None:
    with Meter() as meter, meter.phase("encode"), phase("preprocess"):
        time.sleep(0.1)
    assert meter.costs["preprocess"].seconds == pytest.approx(0.1, abs=0.02)


# --------------------------------------------------------------------------------------------------- bytes


def test_peaks_are_torchs_own_and_the_drivers() -> None:
    torch.cuda.empty_cache()

    def work() -> None:
        with phase("preprocess"):
            torch.empty(1024 * MIB, dtype=torch.uint8, device="cuda")
        torch.empty(256 * MIB, dtype=torch.uint8, device="cuda")

    held, known_to_driver = torch.cuda.memory_allocated(), driver("memory.used")
    torch.cuda.reset_peak_memory_stats()
    work()
    expected = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    grown = (driver("memory.used") - known_to_driver) * MIB
    torch.cuda.empty_cache()
    with Meter() as meter:
        with meter.phase("encode"):
            work()
        with meter.phase("generate"):
            torch.empty(100 * MIB, dtype=torch.uint8, device="cuda")
        peak, kind = meter.peak()
    encode = meter.costs["encode"]
    print(f"encode {encode}, torch {expected}, the driver's growth {grown / MIB} MiB")
    assert (encode.gpu_allocated, encode.gpu_reserved) == expected
    assert meter.costs["preprocess"].gpu_allocated == held + 1024 * MIB
    assert meter.costs["generate"].gpu_allocated == held + 100 * MIB
    assert (peak, kind) == (expected[0], "gpu")
    assert grown == pytest.approx(1024 * MIB, abs=32 * MIB), "the driver saw it come"


def test_running_out_of_memory_is_measured_and_not_the_end(product) -> None:
    free, _ = torch.cuda.mem_get_info()
    with Meter() as meter:
        with pytest.raises(torch.OutOfMemoryError), meter.phase("encode"), phase("preprocess"):
            half = torch.empty(free // 2, dtype=torch.uint8, device="cuda")
            torch.empty(free, dtype=torch.uint8, device="cuda")
        del half
        torch.cuda.empty_cache()
        with meter.phase("encode"):
            product(1)
    assert (meter.costs["encode"].gpu_allocated or 0) >= free // 2


# -------------------------------------------------------------------------------------------------- joules


def test_energy_is_the_power_integrated_over_time(product) -> None:
    """NVML's power is a mean over the last second on these GPUs, so a second of the same load goes before."""
    watts: list[tuple[float, float]] = []
    done = threading.Event()
    pynvml = pytest.importorskip("pynvml")
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(0).uuid}")

    def read() -> None:
        while not done.wait(0.02):
            watts.append((time.perf_counter(), pynvml.nvmlDeviceGetPowerUsage(handle) / 1000))

    def load(seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            product(10)
            torch.cuda.synchronize()

    thread = threading.Thread(target=read)
    with GpuMonitor() as monitor:
        thread.start()
        load(2.0)
        monitor.reset()
        start = time.perf_counter()
        with Meter(monitor) as meter, meter.phase("encode"):
            load(6.0)
        end = time.perf_counter()
        busy = monitor.utilization
        short = []
        for _ in range(60):  # of 50 ms each: shares of the counter's steps
            with Meter(monitor) as one, one.phase("generate"):
                load(0.05)
            short.append((one.costs["generate"].energy_j, one.costs["generate"].seconds))
        time.sleep(2.0)
        monitor.reset()
        time.sleep(2.0)
        idle = monitor.utilization
    done.set()
    thread.join()
    within = [(t, w) for t, w in watts if start <= t <= end]
    integrated = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(within))
    integrated *= (end - start) / (within[-1][0] - within[0][0])
    ours = meter.costs["encode"].energy_j
    total = sum(joules or 0.0 for joules, _ in short) / sum(seconds for _, seconds in short)
    print(f"{ours:.0f} J counted, {integrated:.0f} J integrated; {total:.0f} W in short phases, ", end="")
    print(f"{integrated / (end - start):.0f} W in the long one; load {busy} and idle {idle}")
    assert ours == pytest.approx(integrated, rel=0.07)
    assert total == pytest.approx(integrated / (end - start), rel=0.15)
    assert busy is not None and busy > 0.9
    assert idle is not None and idle < 0.2


def test_the_environment_names_driver_and_gpu() -> None:
    hardware = environment()["hardware"]
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()
    assert [f"{name}, {hardware['driver']}" for name in hardware["gpus"]] == lines
    assert tuple(map(int, hardware["driver_cuda"].split("."))) >= (12, 0)


# --------------------------------------------------------------------------------------------------- FLOPs


def test_a_known_product_is_counted_and_done_at_a_possible_rate(product) -> None:
    with count_flops() as count:
        product(10)
    assert count.total == count.by_kind["mm"] == 10 * 2 * SIZE**3
    with Meter() as meter, meter.phase("encode"):
        product(100)
    rate = 100 * 2 * SIZE**3 / meter.costs["encode"].seconds / 1e12
    print(f"{rate:.0f} TFLOP/s")
    assert 50 < rate < 2500, "a datacenter GPU's, and no more than any has"


@pytest.mark.parametrize("kv_heads", [8, 2])
@pytest.mark.parametrize("backend", [b for b in SDPBackend.__members__.values() if b.name != "ERROR"])
def test_attention_counts_alike_in_every_kernel(backend, kv_heads: int) -> None:
    query = torch.randn(2, 8, 128, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    key = torch.randn(2, kv_heads, 256, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    products = 2 * 2 * 8 * 128 * 256 * 64
    try:
        with sdpa_kernel(backend), torch.inference_mode():
            F.scaled_dot_product_attention(query, key, key, enable_gqa=kv_heads < 8)
    except RuntimeError as error:
        pytest.skip(str(error).splitlines()[0])
    with sdpa_kernel(backend), count_flops() as count:
        out = F.scaled_dot_product_attention(query, key, key, enable_gqa=kv_heads < 8)
    assert count.total == 2 * products
    with sdpa_kernel(backend), count_flops() as count:
        out.sum().backward()
    assert count.total == (4 if backend == SDPBackend.MATH else 5) * products, "scores again, but where they are kept"


@pytest.mark.parametrize("length", [1000, 1024])
def test_the_scan_in_triton_counts_as_in_plain_pytorch(length: int) -> None:
    if mixer.mamba_scan() is None:
        pytest.skip("needs mamba-ssm")
    g = torch.Generator("cuda").manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, device="cuda", dtype=torch.bfloat16).requires_grad_()

    x, dt, b, c = normal(1, length, 8, 64), normal(1, length, 8), normal(1, length, 1, 128), normal(1, length, 1, 128)
    state = torch.zeros(1, 8, 64, 128, device="cuda", requires_grad=True)
    a, ones = -torch.ones(8, device="cuda"), torch.ones(8, device="cuda")
    totals = []
    for scan in (mixer.selective_scan, mixer.chunked_scan):
        with count_flops() as count:
            y, after = scan(x, dt, a, b, c, ones, state, dt_bias=ones, dt_limit=(0.0, math.inf), chunk_size=256)
            (y.float().sum() + after.sum()).backward()
        totals.append(count.total)
        print(count.by_kind)
    assert totals[0] == totals[1]


def test_vamba_counts_alike_in_its_kernels_and_in_plain_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = VambaAdapter(device="cuda")
    adapter.model.generation_config.suppress_tokens = adapter.model.generation_config.begin_suppress_tokens = None
    adapter.model.generation_config.eos_token_id = 10**6  # never: all answers are of one length
    frames = np.random.default_rng(0).integers(0, 256, (16, 84, 112, 3), dtype=np.uint8)
    clip = Clip(frames, np.arange(16.0), np.arange(16), 1.0, 16.0)
    settings = GenerationSettings(max_new_tokens=12)

    def count() -> tuple[int, int, str]:
        with count_flops() as encoding:
            memory = adapter.encode(clip)
        with count_flops() as answering:
            (answer,) = adapter.generate(memory, ["What is it?"], settings)
        print(encoding.by_kind, answering.by_kind)
        return encoding.total, answering.total, answer.text

    counted = count()
    uncounted = adapter.generate(adapter.encode(clip), ["What is it?"], settings)[0]
    assert counted[2] == uncounted.text and uncounted.num_tokens == 12, "counting changes no answer"
    with Meter() as meter, meter.phase("generate"):
        adapter.generate(adapter.encode(clip), ["What is it?"], settings)
    assert meter.costs["first_token"].seconds > 0 and meter.costs["further_tokens"].seconds > 0

    monkeypatch.setattr(mixer, "triton_kernels", lambda: None)
    monkeypatch.setattr(mixer, "mamba_scan", lambda: None)
    plain = count()
    assert plain[:2] == counted[:2]

"""What goes on beside the work: memory of the process tree, and a GPU's energy and load, sampled by threads.

A monitor is a context manager around whatever it watches. It never loads torch; it looks at those GPUs on which
torch has memory, once torch is there. Sampling takes 0.35 % of one core at most, whatever a sample costs.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from contextlib import suppress
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vamba_eval.machine import nvml, nvml_begins

if TYPE_CHECKING:
    from typing_extensions import Self

# Energy readings that are kept: more than an hour of them, for phases that last so long.
_KEPT = 1 << 17


def cuda() -> Any:
    """torch.cuda if torch is loaded and has begun to use a GPU, else None."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_initialized():
        return None
    return torch.cuda


def gpus_in_use() -> dict[int, tuple[int, int]]:
    """Those GPUs on which torch has had memory since their peaks were last reset, by torch's numbers: `gpu_peaks`."""
    if (gpus := cuda()) is None:
        return {}
    peaks = {device: gpu_peaks(device) for device in range(gpus.device_count())}
    return {device: (allocated, reserved) for device, (allocated, reserved) in peaks.items() if reserved > 0}


def gpu_peaks(device: int) -> tuple[int, int]:
    """Peak bytes since the last reset that tensors took, and that torch's caching allocator held."""
    stats = cuda().memory_stats_as_nested_dict(device)  # a fifth of the time of max_memory_allocated()
    return stats["allocated_bytes"]["all"]["peak"], stats["reserved_bytes"]["all"]["peak"]


class _Monitor(ABC):
    """A thread that takes a sample now and then, from entering to leaving.

    share   the part of one core that sampling may take: at 0.001 a sample of 1 ms of computing is followed by 1 s of
            rest. What it waits for (a driver's answer, another thread's turn) costs the work nothing.
    """

    share = 0.001

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    def __enter__(self) -> Self:
        self.sample()
        self.reset()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join()

    def _run(self) -> None:
        pause = self.interval_s
        while not self._leaving.wait(pause):
            start = time.thread_time()
            self.sample()
            pause = max(self.interval_s, (time.thread_time() - start) / self.share)

    @abstractmethod
    def sample(self) -> None:
        """Look once."""

    @abstractmethod
    def reset(self) -> None:
        """Begin a new measurement."""


def reset_resident_peak() -> None:
    """Start a new measurement of this process's resident memory; without effect where it only ever grows."""
    # Linux resets the high-water mark of resident memory (VmHWM) on this write.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def resident_peak() -> int:
    """Peak bytes of this process's resident memory since the last reset, from the kernel: no sample can miss it."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def tree_memory() -> int:
    """Bytes of memory that this process and all its descendants hold now, what they share counted once.

    This process's resident memory, and of each descendant what it alone holds (its unique set size). So memory that
    a descendant shares with this process counts here, such as a clip that both have mapped, and other programs do
    not matter; what two descendants share without this process does not count.
    """
    import psutil

    return psutil.Process().memory_info().rss + _descendants_memory()


def _descendants_memory() -> int:
    import psutil

    total = 0
    for pid in _descendants():
        with suppress(psutil.Error):  # it ended meanwhile
            # The kernel walks through its page tables: some milliseconds.
            total += psutil.Process(pid).memory_full_info().uss
    return total


def _descendants() -> list[int]:
    """The processes that this one has begun, and those that they have.

    From the kernel's lists of each thread's children, where it keeps them. psutil asks every process on the machine for
    its parent: milliseconds, in which Python does nothing else.
    """
    import psutil

    if not Path("/proc/thread-self/children").exists():
        return [process.pid for process in psutil.Process().children(recursive=True)]
    found = [os.getpid()]
    for pid in found:  # which grows
        for children in glob(f"/proc/{pid}/task/*/children"):
            with suppress(OSError):  # the thread ended meanwhile
                found += map(int, Path(children).read_text().split())
    return found[1:]


class HostMemory(_Monitor):
    """Peak of `tree_memory` since the last reset.

    Of the descendants, as far as samples show it. Of this process no peak is missed: the kernel keeps its resident
    memory's (on Linux), which is taken with what the descendants held at the last sample.
    """

    def __init__(self, interval_s: float = 0.5) -> None:
        super().__init__(interval_s)
        self._last = self._highest = self._descendants = 0

    def sample(self) -> None:
        import psutil

        self._descendants = _descendants_memory()
        self._last = psutil.Process().memory_info().rss + self._descendants
        self._highest = max(self._highest, self._last)

    def reset(self) -> None:
        # What is held at the beginning counts; taking a sample for it would cost more than a short video.
        self._highest = self._last
        reset_resident_peak()

    @property
    def peak(self) -> int:
        if sys.platform != "linux":  # the kernel's peak is that since the process began
            return self._highest
        return max(self._highest, resident_peak() + self._descendants)


class GpuMonitor(_Monitor):
    """Energy and load of the GPUs that torch uses, from NVML. Without NVML both stay unknown.

    The driver counts energy in steps of up to 0.1 s. In between it is interpolated, so the energy of something
    shorter is its share of the step it falls into. Both are the whole GPU's, whoever works on it.
    """

    share = 0.0025  # readings farther apart would tell short phases less well from each other

    def __init__(self, interval_s: float = 0.05) -> None:
        super().__init__(interval_s)
        self._energy: dict[int, tuple[list[float], list[float]]] = {}  # seconds by perf_counter, joules
        self._handles: dict[int, Any] = {}
        self._loads: list[float] = []

    def __enter__(self) -> Self:
        return super().__enter__() if nvml_begins() else self  # without a driver there is nothing to watch

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            super().__exit__()

    def sample(self) -> None:
        loads = []
        for device in gpus_in_use():
            if device not in self._handles:
                self._handles[device] = _nvml_handle(device)
            if (handle := self._handles[device]) is not None:
                self._note_energy(device, handle)
                if (load := nvml("nvmlDeviceGetUtilizationRates", handle)) is not None:
                    loads.append(load.gpu / 100)
        if loads:
            self._loads.append(sum(loads) / len(loads))

    def reset(self) -> None:
        self._loads.clear()

    @property
    def utilization(self) -> float | None:
        """Part of the time since the last reset in which some kernel ran (NVML's definition), 0 to 1."""
        loads = list(self._loads)
        return sum(loads) / len(loads) if loads else None

    def joules(self, start: float, end: float) -> float | None:
        """Energy between two times of perf_counter; None where it is not known for the whole of it."""
        known = [_between(times, joules, start, end) for times, joules in list(self._energy.values())]
        return sum(part for part in known if part is not None) if known and None not in known else None

    def _note_energy(self, device: int, handle: Any) -> None:
        if (millijoules := nvml("nvmlDeviceGetTotalEnergyConsumption", handle)) is None:
            return
        times, joules = self._energy.setdefault(device, ([], []))
        if joules and joules[-1] == millijoules / 1000:
            return  # the driver has not counted on yet
        joules.append(millijoules / 1000)
        times.append(time.perf_counter())
        if len(times) > _KEPT:
            del times[: _KEPT // 2], joules[: _KEPT // 2]


def _between(times: list[float], joules: list[float], start: float, end: float) -> float | None:
    """By linear interpolation; after the last reading, at the power before it."""
    if len(times) < 2 or start < times[0]:
        return None

    def at(moment: float) -> float:
        i = min(bisect_right(times, moment), len(times) - 1)
        power = (joules[i] - joules[i - 1]) / (times[i] - times[i - 1])
        return joules[i - 1] + power * (moment - times[i - 1])

    return at(end) - at(start)


def _nvml_handle(device: int) -> Any:
    """NVML's handle of torch's device; NVML counts all GPUs, torch those that CUDA_VISIBLE_DEVICES leaves."""
    if (gpus := cuda()) is None or not nvml_begins():
        return None
    uuid = str(gpus.get_device_properties(device).uuid)
    return nvml("nvmlDeviceGetHandleByUUID", uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")

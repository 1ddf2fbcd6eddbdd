"""Seconds and bytes, measured by the harness and never by the model.

Uses a GPU's own counters if torch is loaded and sees one, but never loads torch itself.
"""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# The packages whose version can change frames, prompts or answers.
_PACKAGES = (
    "vamba-eval",
    "torch",
    "torchvision",
    "transformers",
    "tokenizers",
    "av",
    "pillow",
    "numpy",
    "mamba-ssm",
    "flash-attn",
)


@dataclass
class Stopwatch:
    seconds: float = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Wall-clock seconds of the block; waits for the GPU's queued work at both ends."""
    watch = Stopwatch()
    _wait_for_gpu()
    start = time.perf_counter()
    try:
        yield watch
    finally:
        _wait_for_gpu()
        watch.seconds = time.perf_counter() - start


def reset_peak_memory() -> None:
    """Start a new measurement of the peak."""
    if (cuda := _cuda()) is not None:
        for device in range(cuda.device_count()):
            cuda.reset_peak_memory_stats(device)
    else:
        _reset_resident_peak()


def peak_memory() -> tuple[int, str]:
    """Peak bytes since the last reset and what they are: "gpu" (allocated, over all devices) or "resident"."""
    if (cuda := _cuda()) is not None:
        return sum(cuda.max_memory_allocated(device) for device in range(cuda.device_count())), "gpu"
    return _resident_peak(), "resident"


def environment() -> dict[str, Any]:
    """Package versions and hardware, as a fingerprint records them."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    hardware: dict[str, Any] = {"machine": platform.machine(), "system": platform.system(), "cpu": _cpu_model()}
    if gpus := _gpu_names():
        hardware["gpus"] = gpus
    return {"python": platform.python_version(), "packages": packages, "hardware": hardware}


def _gpu_names() -> list[str]:
    # Asked of the driver: torch may not be loaded yet, and a fingerprint must not depend on whether it is.
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [name.strip() for name in answer.stdout.splitlines() if name.strip()]


def _cuda() -> Any:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_initialized():
        return None
    return torch.cuda


def _wait_for_gpu() -> None:
    if (cuda := _cuda()) is not None:
        cuda.synchronize()


def _reset_resident_peak() -> None:
    # Linux resets the high-water mark of resident memory (VmHWM) on this write; elsewhere it keeps growing.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _resident_peak() -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"

"""This machine and this process's environment: cores, memory that ran out, driver, package versions. Never loads
torch."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

from vamba_eval._version import __version__
from vamba_eval.contracts import error_text


def nvml(function: str, *arguments: Any) -> Any:
    """What an NVML function says, None where this GPU or driver cannot say it."""
    import pynvml

    with suppress(pynvml.NVMLError):
        return getattr(pynvml, function)(*arguments)
    return None


def nvml_begins() -> bool:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no driver here, or one without NVML
        return False
    return True


def how_to_install(extra: str) -> str:
    """The command that installs what an extra of this package needs: its requirements themselves, since the package may
    be on no index, and its folder anywhere."""
    try:
        wanted = [text.partition(";") for text in requires("vamba-eval") or ()]
    except PackageNotFoundError:  # run from its folder, without being installed
        return f"pip install -e '.[{extra}]' in the folder of vamba-eval"
    names = [name.strip() for name, _, marker in wanted if re.search(rf"extra == ['\"]{extra}['\"]", marker)]
    return f"pip install {' '.join(repr(name) for name in names)}"


def gpu_driver() -> dict[str, Any]:
    """Names of all GPUs, the driver's version and the newest CUDA that it serves; empty where there is no GPU.

    Asked of the driver: torch may not be loaded yet, and the answer must not depend on whether it is.
    """
    if not nvml_begins():
        return {}
    names = [
        nvml("nvmlDeviceGetName", nvml("nvmlDeviceGetHandleByIndex", index))
        for index in range(nvml("nvmlDeviceGetCount") or 0)
    ]
    if not names:
        return {}
    number = nvml("nvmlSystemGetCudaDriverVersion") or 0  # 13020 is 13.2
    return {
        "gpus": names,
        "driver": nvml("nvmlSystemGetDriverVersion"),
        "driver_cuda": f"{number // 1000}.{number % 1000 // 10}",
    }


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Bytes that can still be had here: of the machine, or of what its control groups (a container, SLURM, systemd)
    leave to this process."""
    import psutil

    return min([psutil.virtual_memory().available, *_left_by_groups()])


@dataclass(frozen=True)
class _Groups:
    """Where a version of control groups says how much memory a group may have, has, and would give back at once."""

    root: Path
    limit: str
    usage: str
    idle: str  # of memory.stat: pages of files not used lately; what is left is the working set, as Kubernetes counts


_V1 = _Groups(Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Groups(Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file")


def _left_by_groups() -> Iterator[int]:
    """What each limited group that holds this process leaves; none where the system has no such thing."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            version = _V1 if controllers else _V2
            own = version.root / path.lstrip("/")
            for folder in (own, *own.parents):
                if folder.is_relative_to(version.root) and (left := _left_in(folder, version)) is not None:
                    yield left


def _left_in(folder: Path, version: _Groups) -> int | None:
    with suppress(OSError, ValueError):  # the root has no limit, and "max" is none
        limit, used = (int((folder / name).read_text()) for name in (version.limit, version.usage))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(stat.get(version.idle, 0)))
    return None


# What RuntimeErrors of torch's allocator for the CPU say, and C++'s own error behind them.
_NO_HOST_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc")


def out_of_memory(error: BaseException) -> Literal["gpu", "host"] | None:
    """Whose memory had no room when ``error`` was raised; None where it says something else.

    A MemoryError that is not NumPy's is an adapter's, which says how many frames would fit: it speaks of the GPU where
    torch uses one.
    """
    if type(error).__name__ == "OutOfMemoryError":  # torch's, known without torch
        return "gpu"
    if isinstance(error, MemoryError):
        torch = sys.modules.get("torch")
        on_gpu = torch is not None and torch.cuda.is_initialized()
        by_numpy = type(error).__qualname__ == "_ArrayMemoryError"  # whose __name__ is "MemoryError"
        return "gpu" if on_gpu and not by_numpy else "host"
    if isinstance(error, RuntimeError) and any(words in error_text(error) for words in _NO_HOST_MEMORY):
        return "host"
    return None


# The packages whose version can change frames, prompts, answers or speed.
_PACKAGES = (
    "vamba-eval",
    "torch",
    "torchvision",
    "triton",
    "transformers",
    "tokenizers",
    "av",
    "pillow",
    "numpy",
    "mamba-ssm",
    "causal-conv1d",
    "flash-attn",
    "flash-attn-4",
)


def environment() -> dict[str, Any]:
    """Package versions and hardware, as a fingerprint records them."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    hardware: dict[str, Any] = {"machine": platform.machine(), "system": platform.system(), "cpu": _cpu_model()}
    hardware |= gpu_driver()
    python = platform.python_version()
    return {"python": python, "packages": packages, "hardware": hardware, "vamba_eval": __version__}


def run_environment() -> dict[str, Any]:
    """``environment`` as a run's answers depend on it: the kinds of GPU there are, not how many."""
    known = environment()
    if "gpus" in known["hardware"]:
        known["hardware"]["gpus"] = sorted(set(known["hardware"]["gpus"]))
    return known


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"

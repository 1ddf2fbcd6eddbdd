"""What is said of this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vamba_eval.machine import out_of_memory


def error_of(make: Any) -> BaseException:
    with pytest.raises(BaseException) as caught:
        make()
    return caught.value


def test_whose_memory_ran_out(monkeypatch: pytest.MonkeyPatch) -> None:
    by_numpy = error_of(lambda: np.ones(1 << 60, np.uint8))
    by_torch = error_of(lambda: torch.empty(1 << 60, dtype=torch.uint8))
    for on_gpu in (False, True):
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda answer=on_gpu: answer)
        assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB.")) == "gpu"
        for error in (by_numpy, by_torch, RuntimeError("std::bad_alloc")):
            assert out_of_memory(error) == "host", error
        assert out_of_memory(MemoryError("about 20 frames would fit")) == ("gpu" if on_gpu else "host")
        assert out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered")) is None
        assert out_of_memory(ValueError("not enough memory")) is None


def test_torch_is_not_loaded_to_tell() -> None:
    code = (
        "import sys\nfrom vamba_eval import machine\n"
        "class OutOfMemoryError(RuntimeError): pass\n"
        "machine.environment()\n"
        "print([machine.out_of_memory(error) for error in (OutOfMemoryError(), MemoryError())], 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout == "['gpu', 'host'] False\n"

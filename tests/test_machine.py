"""What is said of this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from limited_memory import in_group, limited_memory

from vamba_eval import machine
from vamba_eval.machine import available_memory, out_of_memory


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


@pytest.mark.parametrize(
    ("version", "content", "left"),
    [
        (machine._V2, ("1000000", "400000", "anon 350000\ninactive_file 30000\nactive_file 20000\n"), 630_000),
        (machine._V2, ("max", "400000", "inactive_file 30000\n"), None),
        (machine._V1, ("1000000", "1200000", "inactive_file 7\ntotal_inactive_file 100000\n"), 0),
        (machine._V1, None, None),
    ],
)
def test_what_a_group_leaves(
    tmp_path: Path, version: machine._Groups, content: tuple[str, str, str] | None, left: int | None
) -> None:
    for name, text in zip((version.limit, version.usage, "memory.stat"), content or (), strict=False):
        (tmp_path / name).write_text(text)
    assert machine._left_in(tmp_path, version) == left


def test_the_memory_of_a_limited_group() -> None:
    code = "from vamba_eval.machine import available_memory\nprint(available_memory())"
    with limited_memory() as group:
        done = in_group(group, code)
    assert 0.5 * 2**30 < int(done.stdout) < 2**30 < available_memory()

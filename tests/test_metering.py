"""What a fingerprint says of the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vamba_eval import metering


def test_gpus_are_named_before_torch_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's command is put in place by a script, since the machine may have no GPU."""
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3'\necho 'NVIDIA H100 80GB HBM3'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert metering.environment()["hardware"]["gpus"] == ["NVIDIA H100 80GB HBM3"] * 2
    code = (
        "import sys; from vamba_eval import metering; print(metering.environment()); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("H100") == 2
    script.write_text("#!/bin/sh\nexit 9\n")  # a driver that does not answer
    assert "gpus" not in metering.environment()["hardware"]


def test_peak_memory_starts_anew_after_a_reset() -> None:
    metering.reset_peak_memory()
    before, kind = metering.peak_memory()
    block = bytearray(300 << 20)
    assert metering.peak_memory()[0] - before > 250 << 20
    del block
    metering.reset_peak_memory()
    if kind == "resident" and sys.platform == "linux":
        assert metering.peak_memory()[0] - before < 150 << 20

"""docs/install.md and the Containerfile: the commands that they give are run, as far as a machine without a GPU can."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from vamba_eval.machine import how_to_install

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
CONTAINER = (ROOT / "Containerfile").read_text(encoding="utf-8")
_SCAN = "from vamba_eval.model_adapters.vamba.mixer import mamba_scan; print(mamba_scan().__module__)"


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_scans_package_installs_as_is_told(tmp_path: Path) -> None:
    """In an environment of its own that has this one's packages; page and Containerfile give the same commands."""
    commands = re.findall(r"^    ((?:MAMBA_\S+ )*pip install .*)$", PAGE, re.MULTILINE)[1:3]  # the first installs this
    assert "mamba-ssm" in commands[1] and all(f"RUN {command}\n" in CONTAINER for command in commands)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "other.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    asked = subprocess.run([python, "-m", "pip", "download", "--no-deps", "-d", tmp_path, "wheel"], capture_output=True)
    if asked.returncode:
        pytest.skip("no package index can be reached")
    for command in commands:
        settings, _, arguments = command.partition("pip ")
        run("sh", "-c", f"{settings} '{python}' -m pip {arguments}", cwd=tmp_path)
    assert list(site.glob("mamba_ssm-*")) and not list(site.glob("selective_scan_cuda*"))
    assert run(python, "-c", _SCAN, cwd=ROOT).strip() == "mamba_ssm.ops.triton.ssd_combined"


def test_extras_are_those_of_the_page() -> None:
    tomllib = pytest.importorskip("tomllib")  # since Python 3.11
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    told = re.findall(r"`([\w-]+)`", "".join(re.findall(r"^\| (`[^|]*) \|", PAGE, re.MULTILINE)))
    assert sorted(told) == sorted(extras)
    needs_torch_to_build = {"mamba-ssm", "causal-conv1d", "flash-attn"}
    assert not [
        name for names in extras.values() for name in names if re.split("[<>=]", name)[0] in needs_torch_to_build
    ]


def test_what_the_containerfile_copies_and_installs_is_there() -> None:
    copied = [shlex.split(line)[1:-1] for line in re.findall(r"^COPY .*$", CONTAINER, re.MULTILINE)]
    assert [(ROOT / name).exists() for names in copied for name in names] == [True, True]
    (locked,) = re.findall(r"--require-hashes -r (\S+)", CONTAINER)
    assert (ROOT / locked).is_file()
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)$", CONTAINER, re.MULTILINE)
    assert all(f"| `{extra}`" in PAGE for extra in extras.split(","))
    for line in re.findall(r"^RUN ((?:.*\\\n)*.*)$", CONTAINER, re.MULTILINE):
        run("sh", "-n", "-c", line, cwd=ROOT)


def test_messages_name_what_an_extra_needs() -> None:
    """Not this package, which may be on no index."""
    assert how_to_install("ray") == "pip install 'ray>=2.59'"
    assert how_to_install("wandb").startswith("pip install 'wandb>=")

"""A control group of 1 GiB, as a container or a batch system gives one; skipped where the tests may not make any."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ROOTS = ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max"))


@contextmanager
def limited_memory() -> Iterator[Path]:
    group = None
    for root, limit in ROOTS:
        group = root / f"vamba_eval_{uuid.uuid4().hex}"
        try:
            group.mkdir()
            (group / limit).write_text(str(2**30))
            break
        except OSError:
            if group.exists():
                group.rmdir()
            group = None
    if group is None:
        pytest.skip("no control group with a limit can be made here")
    yield group
    group.rmdir()


def in_group(group: Path, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A Python program that runs in the group with all its children."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(Path(__file__).parent)])},
        preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
        capture_output=True,
        text=True,
        timeout=300,
    )

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# No test reaches a hub or a user's cache. Set before anything is imported that reads them.
_home = tempfile.TemporaryDirectory(prefix="vamba_eval_tests_")
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": f"{_home.name}/hf", "XDG_CACHE_HOME": f"{_home.name}/cache"}
sys.path.insert(0, str(Path(__file__).parent))  # the helper modules videos and benchmark_files


# These start clusters, which must not find each other's.
_ON_RAY = ("test_benchmarks", "test_cluster", "test_frame_sets")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes (``-n 2 --dist loadgroup``), a file's tests stay together: they share what they set up."""
    for item in items:
        name = item.path.stem
        item.add_marker(pytest.mark.xdist_group("ray" if name in _ON_RAY else name))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command: (exit status, standard output, standard error)."""
    from vamba_eval.cli.main import main

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            status = int(stop.code or 0)
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tiny models, which gain nothing from more; and a sum by more threads differs in its last bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

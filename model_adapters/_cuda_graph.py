"""What a step queues on a GPU, captured once and replayed without Python."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


def capture(step: Callable[[], None], device: torch.device) -> torch.cuda.CUDAGraph:
    """A CUDA graph of what `step` queues on the GPU.

    As `torch.cuda.graph` does, except that memory which PyTorch holds for later is not given back to the driver
    first: the next video would have to ask for all of it again. Instead graphs share a pool: none leaves anything in
    it that it would need again, and they never run at once.
    """
    stream, first = _stream_and_first(device)
    return _capture(step, stream, first.pool())


@functools.cache
def _stream_and_first(device: torch.device) -> tuple[torch.cuda.Stream, torch.cuda.CUDAGraph]:
    """Where to capture, and a graph of next to nothing that keeps the pool alive between others."""
    stream = torch.cuda.Stream(device)
    return stream, _capture(lambda: torch.zeros(1, device=device), stream)


def _capture(step: Callable[[], object], stream: torch.cuda.Stream, pool: Any = None) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize(stream.device)
    with torch.cuda.stream(stream):
        graph.capture_begin(pool=pool)
        try:
            step()
        finally:
            graph.capture_end()
    return graph

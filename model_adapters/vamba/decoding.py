"""Greedy decoding on a GPU without waiting for Python.

A step of decoding launches about a thousand small kernels, and launching takes longer than running them.
After a few steps the whole step is captured as a CUDA graph and replayed. Gives the tokens that the model's
own `generate` gives greedily.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor
from transformers import StaticCache

from vamba_eval.metering import counting_flops, mark_first_token

from .._loading import cache_name
from .modeling import VambaForConditionalGeneration, VideoMemory

# Steps before capturing, which costs about as much as two of them: a one-letter answer never pays for it, and no answer
# takes much more than twice what it would with the end known.
EAGER_STEPS = 2


@torch.inference_mode()
def decode_greedily(
    model: VambaForConditionalGeneration,
    input_ids: Tensor,
    memory: VideoMemory | None,
    max_new_tokens: int,
    end_ids: Collection[int],
) -> list[int]:
    """The continuation of one prompt, (1, length) token ids on the model's device, up to an end token (included)."""
    length = input_ids.shape[1]
    device = input_ids.device
    room = length + max_new_tokens
    cache = StaticCache(config=model.config.text_config, max_cache_len=room)
    places = torch.arange(room, device=device)

    def logits(ids: Tensor, positions: Tensor) -> Tensor:
        mask = places <= positions.view(1, 1, -1, 1)
        output = model(
            input_ids=ids,
            position_ids=positions,
            attention_mask={"full_attention": mask},
            use_cache=True,
            logits_to_keep=1,
            video_memory=memory,
            **{cache_name(): cache},
        )
        return output.logits[:, -1]

    token = logits(input_ids, places[None, :length]).argmax(-1, keepdim=True)  # (1, 1)
    mark_first_token()
    position = torch.full((1, 1), length, device=device)

    def step() -> None:
        token.copy_(logits(token, position).argmax(-1, keepdim=True))
        position.add_(1)

    tokens = [int(token)]
    graph: torch.cuda.CUDAGraph | None = None
    while tokens[-1] not in end_ids and len(tokens) < max_new_tokens:
        # What a graph replays is not counted.
        if device.type == "cuda" and graph is None and len(tokens) > EAGER_STEPS and not counting_flops():
            graph = capture(step, device)
        if graph is not None:
            graph.replay()
        else:
            step()
        tokens.append(int(token))
    return tokens


def capture(step: Callable[[], None], device: torch.device) -> torch.cuda.CUDAGraph:
    """A CUDA graph of what `step` queues on the GPU.

    As `torch.cuda.graph` does, except that memory which PyTorch holds for later is not given back to the driver
    first: the next video would have to ask for all of it again. Instead graphs share a pool, one alive at a time.
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

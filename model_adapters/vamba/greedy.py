"""Greedy decoding on a GPU without waiting for Python.

A step of decoding launches about a thousand small kernels, and launching takes longer than running them. So the
second step is captured as a CUDA graph, and this and all later ones are replayed, whatever the video: the graph finds
its keys and values through a `MemorySlot`. Gives the tokens that the model's own `generate` gives greedily.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor
from transformers import StaticCache

from vamba_eval.cost.flops import counting_flops
from vamba_eval.cost.meter import mark_first_token

from .._cuda_graph import capture
from .._transformers import cache_name
from .attention import MemorySlot, VideoMemory
from .mixer import triton_kernels
from .modeling import VambaForConditionalGeneration

ROOM_TOKENS = 256  # a question with options and its answer take one or two times as many
ROOMS_KEPT = 2


class GreedyDecoder:
    """Continues prompts about one video after another. Keeps the `_Room` of the sizes that were needed last."""

    def __init__(self, model: VambaForConditionalGeneration) -> None:
        self._model = model
        self._rooms: dict[tuple[int, bool], _Room] = {}

    @torch.inference_mode()
    def __call__(
        self, input_ids: Tensor, memory: VideoMemory | None, max_new_tokens: int, end_ids: Collection[int]
    ) -> list[int]:
        """The tokens that continue a prompt, (1, length) ids on the model's device; an end token is the last."""
        room = self._room(room_for(input_ids.shape[1] + max_new_tokens), memory is not None, input_ids.device)
        tokens = [room.begin(input_ids, memory)]
        while tokens[-1] not in end_ids and len(tokens) < max_new_tokens:
            tokens.append(room.go_on(memory))
        return tokens

    def _room(self, size: int, video: bool, device: torch.device) -> _Room:
        """What is captured without a video never looks for one, so it has rooms of its own."""
        room = self._rooms.pop((size, video), None)
        while len(self._rooms) >= ROOMS_KEPT:
            del self._rooms[next(iter(self._rooms))]
        self._rooms[size, video] = room = room or _Room(self._model, size, device)
        return room


def room_for(tokens: int) -> int:
    """Tokens that a cache of keys and values has room for, rounded up so that questions share one.

    Depends on nothing but the prompt and the limit: sums of attention may round differently in another room.
    """
    return -(-tokens // ROOM_TOKENS) * ROOM_TOKENS


class _Room:
    """The state of one continuation, always in the same place, and the graph of a step that works on it."""

    def __init__(self, model: VambaForConditionalGeneration, size: int, device: torch.device) -> None:
        self._model = model
        self._cache = StaticCache(config=model.config.text_config, max_cache_len=size)
        self._places = torch.arange(size, device=device)
        self._token = torch.zeros(1, 1, dtype=torch.int64, device=device)
        self._position = torch.zeros(1, 1, dtype=torch.int64, device=device)
        self._slot = MemorySlot(model.config.text_config.num_hidden_layers, device)
        self._stepped = False  # kernels are loaded by a first step, which must not be captured
        self._graph: torch.cuda.CUDAGraph | None = None

    def begin(self, input_ids: Tensor, memory: VideoMemory | None) -> int:
        """The first token after a prompt."""
        length = input_ids.shape[1]
        self._cache.reset()
        if memory is not None:
            self._slot.fill(memory)
        self._token.copy_(self._next(input_ids, self._places[None, :length], memory))
        mark_first_token()
        self._position.fill_(length)
        return int(self._token)

    def go_on(self, memory: VideoMemory | None) -> int:
        """The next token."""
        device = self._token.device
        # What a graph replays is not counted; and only our kernels read a slot.
        replays = device.type == "cuda" and triton_kernels() is not None and not counting_flops()
        video = self._slot if replays and memory is not None else memory
        if not replays or not self._stepped:
            self._step(video)
            self._stepped = self._stepped or replays
            return int(self._token)
        if self._graph is None:
            self._graph = capture(lambda: self._step(video), device)
        self._graph.replay()
        return int(self._token)

    def _step(self, memory: VideoMemory | MemorySlot | None) -> None:
        self._token.copy_(self._next(self._token, self._position, memory))
        self._position.add_(1)

    def _next(self, ids: Tensor, positions: Tensor, memory: VideoMemory | MemorySlot | None) -> Tensor:
        """The likeliest token after ids (1, length) at positions (1, length): (1, 1)."""
        mask = self._places <= positions.view(1, 1, -1, 1)
        output = self._model(
            input_ids=ids,
            position_ids=positions,
            attention_mask={"full_attention": mask},
            use_cache=True,
            logits_to_keep=1,
            video_memory=memory,
            **{cache_name(): self._cache},
        )
        return output.logits[:, -1].argmax(-1, keepdim=True)

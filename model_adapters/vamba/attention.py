"""Text attends to a video: what is kept of one, and the cross-attention that reads it.

Nothing is masked and text does not change a video, so one memory serves any number of prompts. Knows nothing of how a
video's tokens come to be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLAttention, eager_attention_forward, rotate_half

from vamba_eval.cost.flops import add_flops

from .mixer import fused_kernels

# Cosines and sines, each (batch, tokens, head_dim).
Rotary = tuple[Tensor, Tensor]

# Text tokens up to which attention to the video is split over its keys: longer texts keep a GPU busy anyway.
SPLIT_ATTENTION_TOKENS = 512


@dataclass
class VideoMemory:
    """All that text needs of a video.

    Attributes:
        keys, values: of each layer's cross-attention, (videos, key/value heads, video tokens, head_dim): one video,
            or, in training, several of one size, each with the same number of prompts.
        grids: of each video or image, temporal patches, rows and columns of patches.
    """

    keys: list[Tensor]
    values: list[Tensor]
    grids: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        """Video tokens that text attends to."""
        return self.keys[0].shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes that the keys and values of all layers take."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer."""
        return self.keys[index], self.values[index]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> VideoMemory:
        """The same memory on `device`."""
        return VideoMemory(
            [tensor.to(device, non_blocking=non_blocking) for tensor in self.keys],
            [tensor.to(device, non_blocking=non_blocking) for tensor in self.values],
            self.grids,
        )


class LayerSlot(NamedTuple):
    """One layer's part of a `MemorySlot`: (2,) addresses of keys and values, and how many tokens they have."""

    addresses: Tensor
    tokens: Tensor


class MemorySlot:
    """Where a memory lies on a GPU, known only when kernels run: a CUDA graph of them serves one video after another.

    Attributes:
        addresses: (layers, 2) int64, of each layer's keys and values. tokens: (1,) int64, how many video tokens.
    """

    def __init__(self, layers: int, device: torch.device) -> None:
        self.addresses = torch.zeros(layers, 2, dtype=torch.int64, device=device)
        self.tokens = torch.zeros(1, dtype=torch.int64, device=device)

    def layer(self, index: int) -> LayerSlot:
        """One layer's part."""
        return LayerSlot(self.addresses[index], self.tokens)

    def fill(self, memory: VideoMemory) -> None:
        """From now on it is `memory`, which must live until what reads the slot is done."""
        pairs = zip(memory.keys, memory.values, strict=True)
        self.addresses.copy_(torch.tensor([[keys.data_ptr(), values.data_ptr()] for keys, values in pairs]))
        self.tokens.fill_(memory.num_tokens)


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotary embedding of (batch, tokens, heads, head_dim) states."""
    cos, sin = (part.unsqueeze(2) for part in rotary)
    return x * cos + rotate_half(x) * sin


def attend(module: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention without a mask, by the implementation that the module's configuration names.

    Takes (batch, heads, tokens, head_dim), returns (batch, tokens, heads, head_dim).
    """
    attention = ALL_ATTENTION_FUNCTIONS.get_interface(module.config._attn_implementation, eager_attention_forward)
    return attention(module, query, key, value, None, scaling=module.scaling, dropout=0.0, is_causal=False)[0]


class VambaCrossAttention(Qwen2VLAttention):
    """Attention of text to video, with weights shaped as self-attention's."""

    def __init__(self, config: Any, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.is_causal = False
        # forward() stacks the queries that share a key instead of repeating it, so none is left to repeat.
        self.queries_per_key = self.num_key_value_groups
        self.num_key_value_groups = 1

    def keys_and_values(self, video: Tensor, rotary: Rotary | None) -> tuple[Tensor, Tensor]:
        """Of (videos, video tokens, hidden) states: each (videos, key/value heads, video tokens, head_dim)."""
        keys = self.k_proj(video).unflatten(-1, (-1, self.head_dim))
        values = self.v_proj(video).unflatten(-1, (-1, self.head_dim))
        if rotary is not None:
            keys = rotate(keys, rotary)
        return keys.transpose(1, 2), values.transpose(1, 2)

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, video: tuple[Tensor, Tensor] | LayerSlot, rotary: Rotary | None
    ) -> Tensor:
        """(batch, text tokens, hidden) states attend to one video, all of them to all of it; or to several videos,
        equal shares of the batch to each.

        Nothing is masked, so a query's place does not matter: the queries of all prompts, and of all heads
        that share a key, go as one sequence, and the video's keys and values are neither repeated nor copied.
        A `LayerSlot` in their place serves where the kernels run, and up to `SPLIT_ATTENTION_TOKENS` text tokens.
        """
        batch, length, _ = hidden_states.shape
        tokens, groups, kv_heads = batch * length, self.queries_per_key, self.num_key_value_heads
        queries = self.q_proj(hidden_states).view(batch, length, self.num_heads, self.head_dim)
        if rotary is not None:
            queries = rotate(queries, rotary)
        videos = 1 if isinstance(video, LayerSlot) else video[0].shape[0]
        queries = queries.reshape(videos, tokens // videos, kv_heads, groups, self.head_dim).transpose(1, 2)
        queries = queries.reshape(videos, kv_heads, tokens // videos * groups, self.head_dim)
        kernels = fused_kernels(queries)
        if isinstance(video, LayerSlot):
            attended = kernels.split_attention_at(queries, video.addresses, video.tokens, self.scaling).transpose(1, 2)
        elif kernels is not None and videos == 1 and tokens <= SPLIT_ATTENTION_TOKENS:
            keys, values = video
            add_flops("split_attention", 4 * queries.numel() * keys.shape[2])  # queries by keys, weights by values
            attended = kernels.split_attention(queries, keys, values, self.scaling).transpose(1, 2)
        else:
            attended = attend(self, queries, *video)
        attended = attended.reshape(tokens, groups, kv_heads, self.head_dim).transpose(1, 2)
        return self.o_proj(attended.reshape(batch, length, self.hidden_size))

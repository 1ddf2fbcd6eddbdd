"""Frames become video tokens: Qwen2-VL's vision tower, all frames of a segment at once.

transformers' modules are called piece by piece, with the same numbers as their own forward: frames, all of one size,
are a batch, and sums, norms and activations go through our kernels where those run. Knows nothing of text.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.activations import QuickGELUActivation
from transformers.models.qwen2_vl.modeling_qwen2_vl import (
    Qwen2VisionTransformerPretrainedModel,
    apply_rotary_pos_emb_vision,
)

from vamba_eval.cost.flops import add_flops

from .._transformers import any_shape_kernels
from .attention import Rotary, attend
from .mixer import fused_kernels, optional


@dataclass(frozen=True)
class Segment:
    """Consecutive temporal patches of one video or image, or of several of one size side by side.

    Attributes:
        pixel_values: (rows * frames * height * width, 1176) patches, as the processor cuts them.
        frames: temporal patches (two frames each). height, width: of the patch grid.
        first: the number of the segment's first temporal patch within its video.
        full: whether it is as long as segments of its size become, so that its shape recurs.
        rows: videos side by side, as training takes them.
    """

    pixel_values: Tensor
    frames: int
    height: int
    width: int
    first: int
    full: bool = False
    rows: int = 1

    def cut(self, frames: int) -> Iterator[Segment]:
        """Segments of at most `frames` temporal patches (the tower attends within one only)."""
        patches = self.height * self.width
        all_rows = self.pixel_values.unflatten(0, (self.rows, -1))
        for start in range(0, self.frames, frames):
            count = min(frames, self.frames - start)
            pixels = all_rows[:, start * patches : (start + count) * patches].flatten(0, 1)
            yield Segment(
                pixels, count, self.height, self.width, self.first + start, full=count == frames, rows=self.rows
            )


def recomputed(layer: nn.Module) -> Callable[..., Any]:
    """`call(function, *arguments)`, checkpointed where `layer` is trained with transformers' gradient checkpointing."""
    if getattr(layer, "gradient_checkpointing", False) and layer.training and torch.is_grad_enabled():
        return layer._gradient_checkpointing_func  # type: ignore[return-value]
    return lambda function, *arguments: function(*arguments)


def add_and_norm(hidden: Tensor, delta: Tensor, norm: nn.LayerNorm | None) -> tuple[Tensor, Tensor]:
    """`hidden + delta` (in place where the kernels run) and its layer norm; without a norm the sum twice."""
    if norm is None:
        hidden = hidden + delta
        return hidden, hidden
    kernels = fused_kernels(hidden)
    if kernels is None:
        hidden = hidden + delta
        return hidden, norm(hidden)
    return hidden, kernels.add_layer_norm_(hidden, delta, norm.weight, norm.bias, norm.eps)


def frame_attention(attn: Any, normed: Tensor, rotary: Rotary, recurs: bool) -> Tensor:
    """A block's attention over (frames, patches, width), each frame attending to itself alone.

    The module's own forward takes all patches in one row and cuts it into frames in a Python loop; here the
    frames, all of one size, are the batch of a single attention call. `rotary` is (patches, head_dim) twice;
    `recurs` says that there will be more of this shape.
    """
    frames, patches, width = normed.shape
    qkv = attn.qkv(normed).view(frames, patches, 3, attn.num_heads, -1)
    cos, sin = (part.to(normed.device) for part in rotary)
    if (kernels := fused_kernels(normed)) is not None:
        kernels.rotate_queries_and_keys_(qkv, cos, sin)
        q, k, v = qkv.unbind(2)
    else:
        q, k, v = qkv.unbind(2)
        q, k = apply_rotary_pos_emb_vision(q, k, cos, sin)
    if kernels is not None and (flash := flash_attention_4()) is not None and flash_fits(q):
        add_flops("flash_attention_4", 4 * q.numel() * patches)  # queries by keys, weights by values
        with torch.cuda.device(q.device):  # it launches on the current one
            attended, _ = flash(q, k, v, softmax_scale=attn.scaling)
        return attn.proj(attended.reshape(frames, patches, width))
    # Of PyTorch's, cuDNN's kernel is the fastest for the tower's head size of 80, but needs a plan for each new shape.
    # Chosen here, so that a checkpoint computes it again in the same way.
    kernels = [SDPBackend.CUDNN_ATTENTION] * recurs + any_shape_kernels()
    with sdpa_kernel(kernels, set_priority=True) if normed.is_cuda else nullcontext():
        attended = attend(attn, q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return attn.proj(attended.reshape(frames, patches, width))


@functools.cache
def flash_attention_4() -> Callable[..., Any] | None:
    """FlashAttention-4, if it is installed; it is not missed otherwise. Its kernels are compiled when first used."""
    try:
        importlib.metadata.distribution("flash-attn-4")  # older versions have a package of the same name
    except importlib.metadata.PackageNotFoundError:
        return None
    return optional("flash_attn.cute", "flash_attn_func", "PyTorch's attention takes its place")


def flash_fits(query: Tensor) -> bool:
    """Whether FlashAttention-4 is known to gain: on GPUs of Hopper's generation, where it does not pad the tower's head
    size of 80 as cuDNN does (benchmarks/README.md)."""
    return query.dtype != torch.float32 and torch.cuda.get_device_capability(query.device)[0] == 9


def frame_mlp(mlp: Any, normed: Tensor) -> Tensor:
    """A block's MLP; its activation in place where the kernels run."""
    kernels = fused_kernels(normed)
    if kernels is None or not isinstance(mlp.act, QuickGELUActivation):
        return mlp(normed)
    return mlp.fc2(kernels.quick_gelu_(mlp.fc1(normed)))


def encode_frames(visual: Qwen2VisionTransformerPretrainedModel, segment: Segment) -> Tensor:
    """What `visual` makes of a segment's pixels: (rows, video tokens of each, text hidden size)."""
    h, w, merge = segment.height, segment.width, visual.spatial_merge_size
    blocks: list[Any] = list(visual.blocks)
    # Each sum is normed as it is made; the last block's by the merger, which may be trained where the tower is not.
    norms_after = [*(block.norm1 for block in blocks[1:]), None]
    run = recomputed(blocks[0])
    frozen = not any(weight.requires_grad for part in (visual.patch_embed, *blocks) for weight in part.parameters())
    with torch.no_grad() if frozen else nullcontext():
        weight = visual.patch_embed.proj.weight  # its convolution's stride is its kernel: a linear map of patches
        pixels = segment.pixel_values.to(weight.device, weight.dtype)
        hidden = F.linear(pixels, weight.flatten(1)).view(segment.rows * segment.frames, h * w, -1)
        # (h, w) of each patch, patches of one merged token side by side
        positions = torch.stack(
            torch.meshgrid(torch.arange(h, device=hidden.device), torch.arange(w, device=hidden.device), indexing="ij"),
            dim=-1,
        )
        positions = positions.view(h // merge, merge, w // merge, merge, 2).transpose(1, 2).reshape(h * w, 2)
        rotary = visual.rotary_pos_emb(hidden, positions)
        normed = blocks[0].norm1(hidden)
        for block, norm_after in zip(blocks, norms_after, strict=True):
            hidden, normed = add_and_norm(
                hidden, run(frame_attention, block.attn, normed, rotary, segment.full), block.norm2
            )
            hidden, normed = add_and_norm(hidden, run(frame_mlp, block.mlp, normed), norm_after)
    del normed
    return run(visual.merger, hidden).unflatten(0, (segment.rows, -1))

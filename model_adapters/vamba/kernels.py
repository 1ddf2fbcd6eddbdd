"""Triton kernels for what surrounds the matrix products: each element read and written once.

Every function equals the plain PyTorch one that calls it (see `mixer.py`, `attention.py` and `vision.py`), in float32
inside and with the same roundings to the tensors' type in between. They keep no gradients. Offsets are
64-bit: no number of frames can overflow them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._split_attention import (  # noqa: F401 - all kernels of this model are found here
    on_its_device,
    split_attention,
    split_attention_at,
)


@triton.jit
def _rotary_kernel(
    qkv, cos, sin, patches, row_stride, heads, half: tl.constexpr, BLOCK_HEADS: tl.constexpr, BLOCK_HALF: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    patch = row % patches
    head = tl.arange(0, BLOCK_HEADS)[:, None]
    column = tl.arange(0, BLOCK_HALF)[None, :]
    inside = column < half
    angle = patch * 2 * half + column
    cos1, cos2 = tl.load(cos + angle, inside, 0.0), tl.load(cos + angle + half, inside, 0.0)
    sin1, sin2 = tl.load(sin + angle, inside, 0.0), tl.load(sin + angle + half, inside, 0.0)
    place = qkv + row * row_stride + head * 2 * half + column
    inside = inside & (head < heads)
    first = tl.load(place, inside, 0.0).to(tl.float32)
    second = tl.load(place + half, inside, 0.0).to(tl.float32)
    tl.store(place, (first * cos1 - second * sin1).to(qkv.dtype.element_ty), inside)
    tl.store(place + half, (second * cos2 + first * sin2).to(qkv.dtype.element_ty), inside)


@on_its_device
def rotate_queries_and_keys_(qkv: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotary embedding in place of the first two thirds of (frames, patches, 3, heads, head_dim), contiguous.

    cos, sin: (patches, head_dim) float32.
    """
    frames, patches, three, heads, head_dim = qkv.shape
    both = 2 * heads  # queries and keys lie side by side
    _rotary_kernel[(frames * patches,)](
        qkv,
        cos.contiguous(),
        sin.contiguous(),
        patches,
        three * heads * head_dim,
        both,
        head_dim // 2,
        triton.next_power_of_2(both),
        triton.next_power_of_2(head_dim // 2),
        num_warps=4,
    )


@triton.jit
def _add_layer_norm_kernel(
    hidden, delta, weight, bias, out, count, width, eps, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = (row < count) & (column < width)
    place = row * width + column
    kind = hidden.dtype.element_ty
    total = tl.load(hidden + place, inside, 0.0).to(tl.float32) + tl.load(delta + place, inside, 0.0).to(tl.float32)
    rounded = total.to(kind)
    tl.store(hidden + place, rounded, inside)
    total = rounded.to(tl.float32)
    centered = tl.where(inside, total - (tl.sum(total, 1) / width)[:, None], 0.0)
    normed = centered * tl.rsqrt(tl.sum(centered * centered, 1) / width + eps)[:, None]
    scale = tl.load(weight + column, column < width, 0.0).to(tl.float32)
    shift = tl.load(bias + column, column < width, 0.0).to(tl.float32)
    tl.store(out + place, (normed * scale + shift).to(kind), inside)


@on_its_device
def add_layer_norm_(hidden: Tensor, delta: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Adds `delta` to `hidden` in place and returns the layer norm of the sum; both (..., width), contiguous."""
    out = torch.empty_like(hidden)
    width = hidden.shape[-1]
    count = hidden.numel() // width
    rows = 4
    _add_layer_norm_kernel[(triton.cdiv(count, rows),)](
        hidden, delta, weight, bias, out, count, width, eps, rows, triton.next_power_of_2(width), num_warps=8
    )
    return out


@triton.jit
def _quick_gelu_kernel(x, count, BLOCK: tl.constexpr):
    offset = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < count
    value = tl.load(x + offset, inside, 0.0).to(tl.float32)
    # Rounded where PyTorch's x * sigmoid(1.702 * x) rounds.
    scaled = (value * 1.702).to(x.dtype.element_ty).to(tl.float32)
    gate = tl.sigmoid(scaled).to(x.dtype.element_ty).to(tl.float32)
    tl.store(x + offset, (value * gate).to(x.dtype.element_ty), inside)


@on_its_device
def quick_gelu_(x: Tensor) -> Tensor:
    """`x * sigmoid(1.702 * x)` in place; x is contiguous."""
    _quick_gelu_kernel[(triton.cdiv(x.numel(), 4096),)](x, x.numel(), 4096, num_warps=8)
    return x


@triton.jit
def _rms_norm_kernel(x, weight, out, width, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    value = tl.load(x + row * width + column, inside, 0.0).to(tl.float32)
    normed = value * tl.rsqrt(tl.sum(value * value) / width + eps)
    scale = tl.load(weight + column, inside, 0.0).to(tl.float32)
    kind = out.dtype.element_ty
    tl.store(out + row * width + column, (normed.to(kind).to(tl.float32) * scale).to(kind), inside)


@on_its_device
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """transformers' RMS norm of (..., width), contiguous."""
    out = torch.empty_like(x)
    width = x.shape[-1]
    _rms_norm_kernel[(x.numel() // width,)](x, weight, out, width, eps, triton.next_power_of_2(width), num_warps=8)
    return out


@triton.jit
def _conv_silu_kernel(
    x,
    window,
    weight,
    bias,
    out,
    length,
    channels,
    x_stride,
    taps: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    step = tl.program_id(1).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)[:, None]
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    inside = (channel < channels) & (step < length)
    total = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)
    for tap in tl.static_range(taps):
        source = step + (tap - taps + 1)
        here = tl.load(x + source * x_stride + channel, inside & (source >= 0), 0.0)
        before = tl.load(window + (source + taps - 1) * channels + channel, inside & (source < 0), 0.0)
        factor = tl.load(weight + channel * taps + tap, channel < channels, 0.0).to(tl.float32)
        total += (here + before).to(tl.float32) * factor
    total += tl.load(bias + channel, channel < channels, 0.0).to(tl.float32)
    tl.store(out + step * channels + channel, (total * tl.sigmoid(total)).to(out.dtype.element_ty), inside)


@on_its_device
def conv_silu(x: Tensor, window: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Causal depthwise convolution and SiLU of (1, length, channels), whose rows may lie apart.

    window: (1, width - 1, channels), the inputs before. weight: (channels, width). bias: (channels,).
    """
    _, length, channels = x.shape
    out = torch.empty((1, length, channels), dtype=x.dtype, device=x.device)
    block_t, block_c = 32, 128
    grid = (triton.cdiv(channels, block_c), triton.cdiv(length, block_t))
    _conv_silu_kernel[grid](
        x,
        window.contiguous(),
        weight.contiguous(),
        bias,
        out,
        length,
        channels,
        x.stride(1),
        weight.shape[1],
        block_t,
        block_c,
        num_warps=4,
    )
    return out


@triton.jit
def _gated_rms_norm_kernel(y, z, weight, out, z_stride, width, groups, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1)
    column = tl.arange(0, BLOCK)
    inside = column < width
    column += group * width
    gate = tl.load(z + row * z_stride + column, inside, 0.0).to(tl.float32)
    value = tl.load(y + row * width * groups + column, inside, 0.0).to(tl.float32) * (gate * tl.sigmoid(gate))
    normed = value * tl.rsqrt(tl.sum(value * value) / width + eps)
    scale = tl.load(weight + column, inside, 0.0).to(tl.float32)
    tl.store(out + row * width * groups + column, (normed * scale).to(out.dtype.element_ty), inside)


@on_its_device
def gated_rms_norm(y: Tensor, z: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    """RMS norm by groups of `y * silu(z)`; (1, length, channels), the rows of z may lie apart."""
    y = y.contiguous()
    out = torch.empty_like(y)
    _, length, channels = y.shape
    width = channels // groups
    block = triton.next_power_of_2(width)
    _gated_rms_norm_kernel[(length, groups)](
        y, z, weight, out, z.stride(1), width, groups, eps, block, num_warps=8 if block > 2048 else 4
    )
    return out

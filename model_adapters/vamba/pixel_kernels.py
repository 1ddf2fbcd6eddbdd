"""Triton kernels that make patches of frames on a GPU, with the bits of PIL and PyTorch; see `processing.py`.

PIL resizes 8-bit pictures with integers, so integers give its pixels; what a pixel then becomes depends on its grey
level and channel alone, so a table made by PyTorch's own operations gives the value. Offsets are 64-bit.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._split_attention import on_its_device


@triton.jit
def _resample_kernel(
    x, first, weights, out, size, new_size, inner, taps, FRACTION_BITS: tl.constexpr, BLOCK: tl.constexpr
):
    outer = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < new_size * inner
    position, rest = place // inner, place % inner
    start = tl.load(first + position, inside, 0)
    total = tl.full((BLOCK,), 1 << (FRACTION_BITS - 1), tl.int32)
    for tap in range(taps):
        here = inside & (start + tap < size)
        pixel = tl.load(x + outer * size * inner + (start + tap) * inner + rest, here, 0)
        total += pixel.to(tl.int32) * tl.load(weights + tap * new_size + position, inside, 0)
    rounded = tl.minimum(tl.maximum(total >> FRACTION_BITS, 0), 255)
    tl.store(out + outer * new_size * inner + place, rounded.to(tl.uint8), inside)


@on_its_device
def resample(x: Tensor, first: Tensor, weights: Tensor, dim: int, fraction_bits: int) -> Tensor:
    """One axis of contiguous uint8 to another size, each new place a weighted sum of neighbours.

    first: (new size,) int32, the first neighbour of each new place. weights: (taps, new size) int32, of it and of
    those behind it, in units of 2**-fraction_bits.
    """
    outer, size, inner = x.shape[:dim].numel(), x.shape[dim], x.shape[dim + 1 :].numel()
    taps, new_size = weights.shape
    out = torch.empty((*x.shape[:dim], new_size, *x.shape[dim + 1 :]), dtype=torch.uint8, device=x.device)
    block = 1024
    grid = (outer, triton.cdiv(new_size * inner, block))
    _resample_kernel[grid](x, first, weights, out, size, new_size, inner, taps, fraction_bits, block, num_warps=4)
    return out


@triton.jit
def _patches_kernel(
    frames, table, out, rows, columns,
    TEMPORAL: tl.constexpr, PATCH: tl.constexpr, MERGE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    x, rest = row % MERGE, row // MERGE
    y, rest = rest % MERGE, rest // MERGE
    x, rest = rest % (columns // MERGE) * MERGE + x, rest // (columns // MERGE)
    y, time = rest % (rows // MERGE) * MERGE + y, rest // (rows // MERGE)
    values: tl.constexpr = 3 * TEMPORAL * PATCH * PATCH
    column = tl.arange(0, BLOCK)
    inside = column < values
    channel, frame = column // (TEMPORAL * PATCH * PATCH), column // (PATCH * PATCH) % TEMPORAL
    line = (time * TEMPORAL + frame) * rows * PATCH + y * PATCH + column // PATCH % PATCH
    pixel = (line * columns * PATCH + x * PATCH + column % PATCH) * 3 + channel
    grey = tl.load(frames + pixel, inside, 0).to(tl.int32)
    tl.store(out + row * values + column, tl.load(table + channel * 256 + grey, inside, 0.0), inside)


@on_its_device
def patches(frames: Tensor, table: Tensor, temporal: int, patch: int, merge: int) -> Tensor:
    """Patches of (frames, height, width, 3) contiguous uint8 in Qwen2-VL's order: (patches, values of a patch).

    table: (3, 256), what each grey level of a channel becomes.
    """
    count, height, width, channels = frames.shape
    rows, columns, values = height // patch, width // patch, channels * temporal * patch * patch
    out = torch.empty((count // temporal * rows * columns, values), dtype=table.dtype, device=frames.device)
    _patches_kernel[(out.shape[0],)](
        frames, table, out, rows, columns, temporal, patch, merge, triton.next_power_of_2(values), num_warps=4
    )
    return out

"""Attention of few queries to many keys on a GPU, and what of it joins attention to several parts (Triton).

Equals PyTorch's attention without a mask, in float32 inside. Keeps no gradients; offsets are 64-bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


def on_its_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Triton launches on the current GPU; a model spread over several has tensors on others."""

    @functools.wraps(function)
    def launch(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not x.is_cuda:  # Triton's interpreter
            return function(x, *args, **kwargs)
        with torch.cuda.device(x.device):
            return function(x, *args, **kwargs)

    return launch


@triton.jit
def _split_attention_kernel(
    query, key, value, tokens, partial, statistics, rows, scale,
    INDIRECT: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    block, split, head = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    blocks, splits = tl.num_programs(0), tl.num_programs(1)
    if INDIRECT:  # what is given says where the keys, the values and their number are
        tokens = tl.load(tokens).to(tl.int32)
        key = tl.load(key).to(tl.pointer_type(query.dtype.element_ty))
        value = tl.load(value).to(tl.pointer_type(query.dtype.element_ty))
    per_split = tl.cdiv(tl.cdiv(tokens, splits), BLOCK_N) * BLOCK_N
    row, column = block * BLOCK_R + tl.arange(0, BLOCK_R), tl.arange(0, DIM)
    q = tl.load(query + (head * rows + row[:, None]) * DIM + column[None, :], row[:, None] < rows, 0.0)
    best = tl.full((BLOCK_R,), float("-inf"), tl.float32)
    weights = tl.zeros((BLOCK_R,), tl.float32)
    total = tl.zeros((BLOCK_R, DIM), tl.float32)
    base = head.to(tl.int64) * tokens * DIM
    start = split * per_split
    end = tl.minimum(start + per_split, tokens)
    for first in range(start, end, BLOCK_N):
        token = first + tl.arange(0, BLOCK_N)
        inside = token < end
        place = base + token[:, None].to(tl.int64) * DIM + column[None, :]
        # Rows begin at multiples of 16 bytes: of an address that was loaded the compiler does not know it.
        k = tl.load(tl.multiple_of(key + place, (1, 16)), inside[:, None], 0.0)
        # "ieee" keeps float32 exact; the default would multiply it in TF32.
        scores = tl.dot(q, tl.trans(k), input_precision="ieee").to(tl.float32) * scale
        scores = tl.where(inside[None, :], scores, float("-inf"))
        highest = tl.maximum(best, tl.max(scores, 1))
        shrink = tl.exp(best - highest)
        probability = tl.exp(scores - highest[:, None])
        v = tl.load(tl.multiple_of(value + place, (1, 16)), inside[:, None], 0.0)
        total = total * shrink[:, None] + tl.dot(probability.to(v.dtype), v, input_precision="ieee")
        weights = weights * shrink + tl.sum(probability, 1)
        best = highest
    slot = ((head * splits + split) * blocks + block) * BLOCK_R + tl.arange(0, BLOCK_R)
    tl.store(partial + slot[:, None] * DIM + column[None, :], total)
    tl.store(statistics + slot * 2, best)
    tl.store(statistics + slot * 2 + 1, weights)


@triton.jit
def _join_attention_kernel(
    partial, statistics, out, logs, rows, splits, padded_rows, BLOCK_S: tl.constexpr, DIM: tl.constexpr
):
    head, row = tl.program_id(0), tl.program_id(1)
    split, column = tl.arange(0, BLOCK_S), tl.arange(0, DIM)
    slot = (head * splits + split) * padded_rows + row
    inside = split < splits
    best = tl.load(statistics + slot * 2, inside, float("-inf"))
    weights = tl.load(statistics + slot * 2 + 1, inside, 0.0)
    highest = tl.max(best, 0)
    factor = tl.exp(best - highest)
    totals = tl.load(partial + slot[:, None] * DIM + column[None, :], inside[:, None], 0.0)
    weight = tl.sum(weights * factor, 0)
    joined = tl.sum(totals * factor[:, None], 0) / weight
    tl.store(out + (head * rows + row) * DIM + column, joined.to(out.dtype.element_ty))
    tl.store(logs + head * rows + row, highest + tl.log(weight))


# Two programs for each of a Hopper GPU's 132 multiprocessors.
_PROGRAMS = 264


@on_its_device
def split_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attention of few queries to many keys, the keys shared out among all multiprocessors.

    A step of decoding reads every key for seven query rows; attention kernels made for long queries leave
    that to as many multiprocessors as there are key heads, and a question's prefill to a quarter of them.

    query: (1, heads, rows, dim); key, value: (1, heads, tokens, dim); all contiguous, dim a power of two and at least
    16. Returns what attention without a mask returns, (1, heads, rows, dim).
    """
    return _split_attention(query, key, value, key.shape[2], scale)[0]


def split_attention_at(query: Tensor, addresses: Tensor, tokens: Tensor, scale: float) -> Tensor:
    """`split_attention` to keys and values that are found when it runs: a CUDA graph of it serves any of them.

    addresses: (2,) int64, of a key and a value of the query's type. tokens: (1,) int64, how many there are.
    """
    return part_of_attention_at(query, addresses, tokens, scale)[0]


@on_its_device
def part_of_attention_at(query: Tensor, addresses: Tensor, tokens: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """`split_attention_at`, and (1, heads, rows) float32 logarithms of the sums of the weights: with them, it can be
    joined with attention to other keys."""
    return _split_attention(query, addresses[0:], addresses[1:], tokens, scale)


def _split_attention(
    query: Tensor, key: Tensor, value: Tensor, tokens: int | Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    _, heads, rows, dim = query.shape
    block_n = 64 if query.dtype != torch.float32 else 32
    block_r = min(64, max(16, triton.next_power_of_2(rows)))
    blocks = triton.cdiv(rows, block_r)
    splits = max(1, _PROGRAMS // (heads * blocks))  # of few tokens the last get none
    padded = blocks * block_r
    partial = torch.empty((heads, splits, padded, dim), dtype=torch.float32, device=query.device)
    statistics = torch.empty((heads, splits, padded, 2), dtype=torch.float32, device=query.device)
    out = torch.empty_like(query)
    logs = torch.empty((1, heads, rows), dtype=torch.float32, device=query.device)
    indirect = isinstance(tokens, Tensor)
    _split_attention_kernel[(blocks, splits, heads)](
        query, key, value, tokens, partial, statistics, rows, scale, indirect, block_r, block_n, dim, num_warps=4
    )
    _join_attention_kernel[(heads, rows)](
        partial, statistics, out, logs, rows, splits, padded, triton.next_power_of_2(splits), dim, num_warps=4
    )
    return out, logs

"""Would fusing make Vamba's vision tower faster? Its parts as they are, beside fused ones, on a GPU.

python benchmarks/tower_kernels.py (needs a Hopper GPU and Triton 3.4 or later; under a minute)

Attention for a head size of 80 without padding, the activation in its product's epilogue, the sum in the next one's.
Each is compared with float64 or float32 first. benchmarks/README.md has what came of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from vamba_eval.model_adapters.vamba import kernels

# Qwen2-VL's tower at 640x360: so many pairs of frames at once, patches of each, heads, and the products' widths.
FRAMES, PATCHES, HEADS, WIDTH, WIDE = 54, 1196, 16, 1280, 5120
WHOLE = 32 * 256 / FRAMES  # layers, and pairs of 512 frames
PROGRAMS = 132  # of a Hopper GPU's multiprocessors


@triton.jit
def _attend(
    queries, base, first, best, total, wide, narrow, patches, row, heads, scale, BN: tl.constexpr, EDGE: tl.constexpr
):
    """One block of keys: 64 columns of a head and 16 more, so that none of its 80 is padded."""
    q64, q16 = queries
    columns64, columns16 = tl.arange(0, 64), 64 + tl.arange(0, 16)
    token = first + tl.arange(0, BN)
    inside = (token[:, None] < patches) | (not EDGE)
    keys, values = base + heads * 80 + token[:, None] * row, base + 2 * heads * 80 + token[:, None] * row
    scores = tl.dot(q64, tl.trans(tl.load(keys + columns64[None, :], inside, 0.0)))
    scores = tl.dot(q16, tl.trans(tl.load(keys + columns16[None, :], inside, 0.0)), scores)
    if EDGE:
        scores = tl.where(token[None, :] < patches, scores, float("-inf"))
    highest = tl.maximum(best, tl.max(scores, 1) * scale)
    weights = tl.exp2(scores * scale - highest[:, None])
    shrink = tl.exp2(best - highest)
    total = total * shrink + tl.sum(weights, 1)
    weights = weights.to(q64.dtype)
    wide = tl.dot(weights, tl.load(values + columns64[None, :], inside, 0.0), wide * shrink[:, None])
    narrow = tl.dot(weights, tl.load(values + columns16[None, :], inside, 0.0), narrow * shrink[:, None])
    return highest, total, wide, narrow


@triton.jit
def _attention_kernel(qkv, out, patches, heads, scale, BM: tl.constexpr, BN: tl.constexpr):
    frame, head = (tl.program_id(1) // heads).to(tl.int64), tl.program_id(1) % heads
    row = 3 * heads * 80
    base = qkv + frame * patches * row + head * 80
    patch = (tl.program_id(0) * BM + tl.arange(0, BM))[:, None]
    columns64, columns16 = tl.arange(0, 64)[None, :], 64 + tl.arange(0, 16)[None, :]
    inside = patch < patches
    q64 = tl.load(base + patch * row + columns64, inside, 0.0)
    q16 = tl.load(base + patch * row + columns16, inside, 0.0)
    best = tl.full((BM,), float("-inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    wide, narrow = tl.zeros((BM, 64), tl.float32), tl.zeros((BM, 16), tl.float32)
    whole = patches // BN * BN
    for first in range(0, whole, BN):
        best, total, wide, narrow = _attend(
            (q64, q16), base, first, best, total, wide, narrow, patches, row, heads, scale, BN, False
        )
    if whole < patches:
        best, total, wide, narrow = _attend(
            (q64, q16), base, whole, best, total, wide, narrow, patches, row, heads, scale, BN, True
        )
    place = out + (frame * patches + patch) * heads * 80 + head * 80
    tl.store(place + columns64, (wide / total[:, None]).to(out.dtype.element_ty), inside)
    tl.store(place + columns16, (narrow / total[:, None]).to(out.dtype.element_ty), inside)


def attention(qkv: Tensor, rows: int, keys: int, warps: int, stages: int) -> Tensor:
    """(frames, patches, 3, heads, 80): each frame to itself."""
    frames, patches, _, heads, size = qkv.shape
    out = torch.empty(frames, patches, heads, size, dtype=qkv.dtype, device=qkv.device)
    scale = size**-0.5 * 1.4426950408889634  # exp2 takes the place of exp
    grid = (triton.cdiv(patches, rows), frames * heads)
    _attention_kernel[grid](qkv, out, patches, heads, scale, rows, keys, num_warps=warps, num_stages=stages)
    return out


@triton.jit
def _product_kernel(
    a,
    weight,
    bias,
    out,
    rows,
    columns,
    depth,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
):
    left = tl.make_tensor_descriptor(a, [rows, depth], [depth, 1], [BM, BK])
    right = tl.make_tensor_descriptor(weight, [columns, depth], [depth, 1], [BN, BK])
    result = tl.make_tensor_descriptor(out, [rows, columns], [columns, 1], [BM, BN])
    down, across = tl.cdiv(rows, BM), tl.cdiv(columns, BN)
    for tile in tl.range(tl.program_id(0), down * across, tl.num_programs(0), flatten=True):
        first = tile // (GROUP * across) * GROUP
        height = min(down - first, GROUP)
        i, j = first + tile % (GROUP * across) % height, tile % (GROUP * across) // height
        total = tl.zeros((BM, BN), tl.float32)
        for k in range(0, depth, BK):
            total = tl.dot(left.load([i * BM, k]), right.load([j * BN, k]).T, total)
        value = total + tl.load(bias + j * BN + tl.arange(0, BN)).to(tl.float32)[None, :]
        # Rounded where the plain model rounds.
        value = value.to(tl.bfloat16).to(tl.float32)
        scaled = (value * 1.702).to(tl.bfloat16).to(tl.float32)
        value *= tl.sigmoid(scaled).to(tl.bfloat16).to(tl.float32)
        result.store([i * BM, j * BN], value.to(tl.bfloat16))


def product_and_activation(a: Tensor, weight: Tensor, bias: Tensor, *sizes: int, warps: int, stages: int) -> Tensor:
    """`quick_gelu(F.linear(a, weight, bias))`; sizes are a tile's rows, columns and depth, and tiles of a group."""
    out = a.new_empty(a.shape[0], weight.shape[0])
    shape = (a.shape[0], weight.shape[0], a.shape[1])
    _product_kernel[(PROGRAMS,)](a, weight, bias, out, *shape, *sizes, num_warps=warps, num_stages=stages)
    return out


def report(name: str, function: Callable[[], Tensor], flop: float = 0, exact: Tensor | None = None) -> None:
    """Time (scaled to the whole tower at 512 frames), rate, and the distance from what is exact in its first rows."""
    try:
        ms = triton.testing.do_bench(function, warmup=50, rep=200, return_mode="median")
    except triton.runtime.errors.OutOfResources as error:
        print(f"{name}: {error}")
        return
    error = ""
    if exact is not None:
        error = f", off by {((function()[: len(exact)].float() - exact).norm() / exact.norm()).item():.1e}"
    rate = f", {flop / ms / 1e9:.0f} TFLOP/s" if flop else ""
    print(f"{name}: {ms:.3f} ms, {ms * WHOLE:.0f} ms in all{rate}{error}", flush=True)


def main() -> None:
    torch.manual_seed(0)
    triton.set_allocator(lambda size, *_: torch.empty(size, device="cuda", dtype=torch.int8))

    def noise(*shape: int, scale: float = 1) -> Any:
        return torch.randn(*shape, device="cuda", dtype=torch.bfloat16) * scale

    def plain(qkv: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in qkv.unbind(2))).transpose(1, 2)

    def by(backend: SDPBackend) -> Tensor:
        with sdpa_kernel([backend]):
            return plain(qkv)

    qkv = noise(FRAMES, PATCHES, 3, HEADS, 80)
    flop, exact = 4 * PATCHES**2 * 80 * HEADS * FRAMES, plain(qkv[:2].float())
    for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
        report(f"attention, {backend.name}", lambda backend=backend: by(backend), flop, exact)
    for sizes in ((128, 64, 4, 3), (64, 64, 4, 3), (128, 64, 8, 3), (128, 32, 4, 3), (128, 128, 8, 3)):
        report(f"attention, none padded, {sizes}", lambda sizes=sizes: attention(qkv, *sizes), flop, exact)

    a, weight, bias = noise(FRAMES * PATCHES, WIDTH), noise(WIDE, WIDTH, scale=0.03), noise(WIDE)
    flop, value = 2 * a.numel() * WIDE, F.linear(a[:512].double(), weight.double(), bias.double())
    exact = (value * torch.sigmoid(1.702 * value)).float()
    report("fc1", lambda: F.linear(a, weight, bias), flop)
    report("fc1, then activation", lambda: kernels.quick_gelu_(F.linear(a, weight, bias)), flop, exact)
    for sizes in ((128, 256, 64, 4), (128, 256, 64, 8), (256, 128, 64, 8), (128, 128, 64, 8)):

        def fused(sizes: tuple[int, ...] = sizes) -> Tensor:
            return product_and_activation(a, weight, bias, *sizes, warps=8, stages=3)

        report(f"fc1 with activation, {sizes}", fused, flop, exact)

    hidden, ones = noise(FRAMES * PATCHES, WIDTH), noise(WIDTH)
    for name, width in (("fc2", WIDE), ("projection", WIDTH)):
        x, weight = noise(FRAMES * PATCHES, width), noise(WIDTH, width, scale=0.03)

        def apart(x: Tensor = x, weight: Tensor = weight) -> Tensor:
            return kernels.add_layer_norm_(hidden, F.linear(x, weight, ones), ones, ones, 1e-6)

        def together(x: Tensor = x, weight: Tensor = weight) -> Tensor:
            return F.layer_norm(torch.addmm(hidden, x, weight.t()), (WIDTH,), ones, ones, 1e-6)

        report(f"{name}, then sum and norm", apart)
        report(f"{name} with sum, then norm", together)


if __name__ == "__main__":
    main()

"""The Triton kernels against plain PyTorch: on a GPU if there is one, else in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

SCRIPT = """
import numpy as np, torch, torch.nn.functional as F
from PIL import Image
from vamba_eval.model_adapters import _split_attention
from vamba_eval.model_adapters._split_attention import part_of_attention_at
from vamba_eval.model_adapters.vamba import kernels
from vamba_eval.model_adapters.vamba import pixel_kernels as kernels_of_pixels
from vamba_eval.model_adapters.vamba.processing import (
    PIL_FRACTION_BITS, PixelSettings, grey_levels, pil_neighbours, preprocess_frames
)
from vamba_eval.model_adapters.vamba.mixer import causal_conv_silu, gated_rms_norm
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision, Qwen2VLRMSNorm
from transformers.activations import ACT2FN

device = "cuda" if torch.cuda.is_available() else "cpu"
if device == "cpu":  # the interpreter runs one program after the other
    _split_attention._PROGRAMS = 24
torch.manual_seed(0)

def close(got, expected, dtype):
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(got.float(), expected.float(), rtol=tolerance, atol=tolerance)

for size, new_size in (((9, 31), (28, 28)), ((30, 58), (28, 28)), ((28, 84), (28, 56)), ((47, 28), (84, 28))):
    frames = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    resized = frames.to(device)
    for dim, old, new in ((2, size[1], new_size[1]), (1, size[0], new_size[0])):
        first, weights = (part.to(device) for part in pil_neighbours(old, new))
        resized = kernels_of_pixels.resample(resized, first, weights, dim, PIL_FRACTION_BITS)
    pil = [Image.fromarray(np.asarray(Image.fromarray(f.numpy()).resize((new_size[1], size[0]), 3))) for f in frames]
    pil = torch.stack([torch.from_numpy(np.asarray(image.resize(new_size[::-1], 3))) for image in pil])
    assert torch.equal(resized.cpu(), pil)
    for dtype in (torch.float32, torch.bfloat16):
        table = grey_levels(PixelSettings(), torch.device(device)).to(dtype)
        patches = kernels_of_pixels.patches(resized, table, 2, 14, 2)
        assert torch.equal(patches.cpu(), preprocess_frames(pil, settings=PixelSettings(min_pixels=1), dtype=dtype)[0])

for dtype in (torch.float32, torch.bfloat16) if device == "cuda" else (torch.float32,):
    def rand(*shape):
        return torch.randn(*shape, device=device).to(dtype)

    for frames, patches, heads, dim in ((3, 12, 2, 16), (2, 20, 4, 40), (1, 4, 16, 80)):
        qkv = rand(frames, patches, 3, heads, dim)
        angles = torch.rand(patches, dim // 2, device=device).repeat(1, 2) * 6
        cos, sin = angles.cos(), angles.sin()
        q, k, v = qkv.clone().unbind(2)
        q, k = apply_rotary_pos_emb_vision(q, k, cos, sin)
        kernels.rotate_queries_and_keys_(qkv, cos, sin)
        for got, expected in zip(qkv.unbind(2), (q, k, v)):
            close(got, expected, dtype)

    for rows, width in ((7, 72), (1, 1280)):
        layer = torch.nn.LayerNorm(width, 1e-6).to(device, dtype)
        torch.nn.init.normal_(layer.weight), torch.nn.init.normal_(layer.bias)
        hidden, delta = rand(1, rows, width), rand(1, rows, width)
        expected = hidden + delta
        close(kernels.add_layer_norm_(hidden, delta, layer.weight, layer.bias, layer.eps), layer(expected), dtype)
        close(hidden, expected, dtype)

    x = rand(3, 1700)
    close(kernels.quick_gelu_(x.clone()), ACT2FN["quick_gelu"](x), dtype)

    norm = Qwen2VLRMSNorm(72, 1e-5).to(device, dtype)
    torch.nn.init.normal_(norm.weight)
    x = rand(1, 9, 72)
    close(kernels.rms_norm(x, norm.weight, 1e-5), norm(x), dtype)

    for length, channels, width in ((1, 40, 4), (2, 40, 4), (70, 300, 4), (33, 130, 3)):
        rows = rand(1, length, channels + 24)
        x, window = rows[..., 16 : 16 + channels], rand(1, width - 1, channels)
        weight, bias = rand(channels, width), rand(channels)
        expected, _ = causal_conv_silu(x.cpu(), window.cpu(), weight.cpu(), bias.cpu())
        close(kernels.conv_silu(x, window, weight, bias).cpu(), expected, dtype)

    for groups in (1, 2):
        y, z, weight = rand(1, 7, 96), rand(1, 7, 130)[..., 20:116], rand(96)
        expected = gated_rms_norm(y.cpu(), z.cpu(), weight.cpu(), groups)
        close(kernels.gated_rms_norm(y, z, weight, groups, 1e-5).cpu(), expected, dtype)

    sizes = ((4, 7, 1000, 128), (2, 1, 3, 16), (2, 14, 64, 16), (1, 33, 700, 64), (2, 150, 200, 32))
    for heads, rows, tokens, dim in sizes:
        q, k, v = rand(1, heads, rows, dim), rand(1, heads, tokens, dim), rand(1, heads, tokens, dim)
        expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), scale=0.3)
        direct = kernels.split_attention(q, k, v, 0.3)
        close(direct, expected, dtype)
        addresses = torch.tensor([k.data_ptr(), v.data_ptr()], device=device)
        found = kernels.split_attention_at(q, addresses, torch.tensor([tokens], device=device), 0.3)
        assert torch.equal(found, direct)
        part, logs = part_of_attention_at(q, addresses, torch.tensor([tokens], device=device), 0.3)
        assert torch.equal(part, direct)
        close(logs, (q.float() @ k.float().transpose(-1, -2) * 0.3).logsumexp(-1), dtype)
print("equal on", device)
"""


def test_kernels_equal_plain_pytorch() -> None:
    environment = dict(os.environ)
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    repository = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=repository, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "equal on" in done.stdout

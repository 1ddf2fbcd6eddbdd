"""The mixer's parts against their definitions, written out step by step."""

from __future__ import annotations

import math
import sys

import pytest
import torch
import torch.nn.functional as F
from vamba_eval.model_adapters.vamba import mixer as mixer_module
from vamba_eval.model_adapters.vamba.configuration import MixerConfig
from vamba_eval.model_adapters.vamba.mixer import Mamba2Mixer, causal_conv_silu, gated_rms_norm, selective_scan


def recurrence(x, dt, A, B, C, D, state, dt_bias, dt_limit):
    """One step at a time, one head at a time, in float64."""
    x, dt, A, B, C, D, state = (tensor.double() for tensor in (x, dt, A, B, C, D, state))
    dt = F.softplus(dt + dt_bias.double()).clamp(*dt_limit)
    state = state.clone()
    y = torch.empty_like(x)
    batch, length, heads, _ = x.shape
    for b in range(batch):
        for h in range(heads):
            group = h // (heads // B.shape[2])
            for t in range(length):
                step = dt[b, t, h]
                added = step * torch.outer(x[b, t, h], B[b, t, group])
                state[b, h] = torch.exp(step * A[h]) * state[b, h] + added
                y[b, t, h] = state[b, h] @ C[b, t, group] + D[h] * x[b, t, h]
    return y, state


def scan_inputs(length, heads=4, headdim=6, groups=2, d_state=5, batch=2, per_channel=False, seed=0):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g)

    return {
        "x": normal(batch, length, heads, headdim),
        "dt": normal(batch, length, heads),
        "A": -torch.rand(heads, generator=g) * 15 - 0.05,
        "B": normal(batch, length, groups, d_state),
        "C": normal(batch, length, groups, d_state),
        "D": normal(heads, headdim) if per_channel else normal(heads),
        "state": normal(batch, heads, headdim, d_state),
        "dt_bias": normal(heads),
    }


@pytest.mark.parametrize("length", [1, 7, 8, 9, 29])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_chunked_scan_is_the_recurrence(length, groups):
    inputs = scan_inputs(length, groups=groups)
    y, state = selective_scan(**inputs, chunk_size=8)
    wanted_y, wanted_state = recurrence(**inputs, dt_limit=(0.0, math.inf))
    torch.testing.assert_close(y.double(), wanted_y, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(state.double(), wanted_state, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("per_channel", [False, True])
def test_scan_with_limits_and_d_per_channel(per_channel):
    inputs = scan_inputs(21, per_channel=per_channel)
    y, state = selective_scan(**inputs, chunk_size=16, dt_limit=(0.3, 0.9))
    wanted_y, wanted_state = recurrence(**inputs, dt_limit=(0.3, 0.9))
    torch.testing.assert_close(y.double(), wanted_y, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(state.double(), wanted_state, atol=2e-5, rtol=1e-5)


def test_scan_survives_strong_decay():
    """Differences of large logs must not become inf * 0."""
    inputs = scan_inputs(64)
    inputs["dt"] += 60
    y, state = selective_scan(**inputs, chunk_size=64)
    wanted_y, wanted_state = recurrence(**inputs, dt_limit=(0.0, math.inf))
    assert y.isfinite().all() and state.isfinite().all()
    torch.testing.assert_close(y.double(), wanted_y, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(state.double(), wanted_state, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("cuts", [(1,), (8,), (5, 6), (3, 16, 24)])
def test_scan_carries_its_state(cuts):
    inputs = scan_inputs(29)
    whole_y, whole_state = selective_scan(**inputs, chunk_size=8)
    state, pieces = inputs["state"], []
    for start, stop in zip((0, *cuts), (*cuts, 29), strict=True):
        piece = {k: v[:, start:stop] if k in ("x", "dt", "B", "C") else v for k, v in inputs.items()}
        y, state = selective_scan(**{**piece, "state": state}, chunk_size=8)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 1), whole_y, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(state, whole_state, atol=2e-5, rtol=1e-5)


def test_state_and_dt_are_float32_in_bfloat16():
    kept = ("A", "state")
    inputs = {k: v if k in kept else v.bfloat16() for k, v in scan_inputs(40).items()}
    y, state = selective_scan(**inputs, chunk_size=16)
    wanted_y, wanted_state = recurrence(**inputs, dt_limit=(0.0, math.inf))
    assert y.dtype == torch.bfloat16 and state.dtype == torch.float32
    torch.testing.assert_close(state.double(), wanted_state, atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(y.double(), wanted_y, atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("has_bias", [False, True])
def test_convolution_is_causal_and_carries_its_window(width, has_bias):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 13, 6, generator=g)
    weight = torch.randn(6, width, generator=g)
    bias = torch.randn(6, generator=g) if has_bias else None
    window = torch.zeros(2, width - 1, 6)
    y, window_after = causal_conv_silu(x, window, weight, bias)
    wanted = torch.zeros_like(x)
    for t in range(13):
        for tap in range(width):
            source = t - (width - 1) + tap
            if source >= 0:
                wanted[:, t] += weight[:, tap] * x[:, source]
    wanted = wanted if bias is None else wanted + bias
    torch.testing.assert_close(y, wanted * torch.sigmoid(wanted), atol=1e-5, rtol=1e-5)
    assert torch.equal(window_after, x[:, 13 - width + 1 :])

    pieces = []
    for start, stop in ((0, 1), (1, 3), (3, 4), (4, 13)):  # also shorter than the window
        piece, window = causal_conv_silu(x[:, start:stop], window, weight, bias)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces, 1), y)
    assert torch.equal(window, window_after)


@pytest.mark.parametrize("norm_before_gate", [False, True])
def test_gated_norm_by_hand(norm_before_gate):
    y, z, weight = torch.randn(3, 8), torch.randn(3, 8), torch.randn(8)
    got = gated_rms_norm(y, z, weight, groups=2, norm_before_gate=norm_before_gate)
    for row in range(3):
        for group in (slice(0, 4), slice(4, 8)):
            gate = z[row, group] * torch.sigmoid(z[row, group])
            value = y[row, group] if norm_before_gate else y[row, group] * gate
            value = value / torch.sqrt((value**2).mean() + 1e-5) * weight[group]
            wanted = value * gate if norm_before_gate else value
            torch.testing.assert_close(got[row, group], wanted)


def test_mixer_in_pieces_is_the_mixer_at_once():
    torch.manual_seed(0)
    mixer = Mamba2Mixer(MixerConfig(hidden_dim=16, d_state=8, headdim=8, ngroups=2, chunk_size=8))
    hidden = torch.randn(2, 30, 16)
    with torch.no_grad():
        whole, end = mixer(hidden)
        state, pieces = None, []
        for piece in hidden.split([1, 2, 11, 16], dim=1):
            out, state = mixer(piece, state)
            pieces.append(out)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state.ssm, end.ssm, atol=1e-5, rtol=1e-5)
    assert torch.equal(state.window, end.window)


def test_kernels_that_cannot_be_imported_are_done_without(monkeypatch, tmp_path, caplog):
    """Also when the package is there and breaks while it is imported; said once."""
    for package in ("mamba_ssm", "causal_conv1d"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('a half-installed package')")
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    for load in (mixer_module.mamba_scan, mixer_module.causal_conv):
        for cached in (mixer_module.optional, mixer_module.causal_conv):
            cached.cache_clear()
        caplog.clear()
        assert load() is None and load() is None
        assert [record.message.count("a half-installed package") for record in caplog.records] == [1]
    mixer_module.optional.cache_clear()
    mixer_module.causal_conv.cache_clear()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_kernel_scan_is_the_chunked_scan():
    if mixer_module.mamba_scan() is None:
        pytest.skip("needs mamba-ssm")
    inputs = {k: v.cuda() for k, v in scan_inputs(300, headdim=16, d_state=16).items()}
    for name in ("x", "dt", "B", "C"):
        inputs[name] = inputs[name].bfloat16()  # float32 goes to the chunked scan
    y, state = selective_scan(**inputs, chunk_size=64)
    options = {"dt_bias": inputs.pop("dt_bias"), "dt_limit": (0.0, math.inf), "chunk_size": 64}
    wanted_y, wanted_state = mixer_module.chunked_scan(**inputs, **options)
    torch.testing.assert_close(y, wanted_y, atol=5e-2, rtol=5e-2)
    torch.testing.assert_close(state, wanted_state, atol=5e-2, rtol=5e-2)


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="heads of 48"):
        MixerConfig(hidden_dim=64, headdim=48)
    with pytest.raises(ValueError, match="norm_type"):
        MixerConfig(norm_type="batchnorm")

"""The mixer's parts against their definitions, written out step by step."""

from __future__ import annotations

import math
import sys

import pytest
import torch
import torch.nn.functional as F
from transformers import DynamicCache, Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer as TransformersMixer
from vamba_eval.model_adapters.vamba import mixer as mixer_module
from vamba_eval.model_adapters.vamba import vision
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


ORACLE_SIZES = {
    "released recipe": {},
    "two groups": {"ngroups": 2},
    "other biases": {"bias": True, "conv_bias": False},
    "short window": {"d_conv": 2},
    "limits of dt": {"dt_limit": (0.01, 0.05)},
}


@pytest.mark.parametrize("name", ORACLE_SIZES)
def test_transformers_mixer_gives_the_same(name):
    """Another implementation as an oracle: the same weights, whole and in pieces, with what the pieces hand on."""
    config = MixerConfig(hidden_dim=32, d_state=16, headdim=8, chunk_size=8, **ORACLE_SIZES[name])
    same = Mamba2Config(
        hidden_size=config.hidden_dim,
        state_size=config.d_state,
        head_dim=config.headdim,
        num_heads=config.num_heads,
        expand=config.expand,
        n_groups=config.ngroups,
        conv_kernel=config.d_conv,
        use_bias=config.bias,
        use_conv_bias=config.conv_bias,
        time_step_limit=config.dt_limit,
        layer_norm_epsilon=mixer_module.NORM_EPS,
        chunk_size=16,
        num_hidden_layers=1,
    )
    torch.manual_seed(0)
    ours, theirs = Mamba2Mixer(config).eval(), TransformersMixer(same, layer_idx=0).eval()
    if config.ngroups > 1 and not hasattr(theirs.norm, "group_size"):
        pytest.skip("this transformers norms all groups as one")
    ours.init_weights()
    with torch.no_grad():
        for weight in ours.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    theirs.load_state_dict(ours.state_dict())
    hidden = torch.randn(2, 45, config.hidden_dim)

    def equal(got, wanted):
        torch.testing.assert_close(got, wanted, atol=5e-6, rtol=1e-5)

    # At a single step theirs does without the limits of dt.
    pieces = [13, 2, 30] if name == "limits of dt" else [1, 12, 1, 1, 2, 28]
    cache, state = DynamicCache(config=same), None
    with torch.no_grad():
        whole, _ = ours(hidden)
        assert whole.std() > 0.1
        equal(whole, theirs(hidden))
        for piece in hidden.split(pieces, dim=1):
            out, state = ours(piece, state)
            equal(out, theirs(piece, cache))
            equal(state.ssm, cache.layers[0].recurrent_states[0])
            window = cache.layers[0].conv_states[0].transpose(1, 2)  # of one more input than goes on
            equal(state.window, window[:, 1:])


def test_kernels_that_cannot_be_imported_are_done_without(monkeypatch, tmp_path, caplog):
    """Also when the package is there and breaks while it is imported; said once."""
    for package in ("mamba_ssm", "causal_conv1d", "flash_attn"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('a half-installed package')")
        monkeypatch.delitem(sys.modules, package, raising=False)
    (tmp_path / "flash_attn_4-4.0.0.dist-info").mkdir()
    (tmp_path / "flash_attn_4-4.0.0.dist-info" / "METADATA").write_text("Name: flash-attn-4\nVersion: 4.0.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    cached = (mixer_module.optional, mixer_module.causal_conv, vision.flash_attention_4)
    for load in (mixer_module.mamba_scan, mixer_module.causal_conv, vision.flash_attention_4):
        for function in cached:
            function.cache_clear()
        caplog.clear()
        assert load() is None and load() is None
        assert [record.message.count("a half-installed package") for record in caplog.records] == [1]
    for function in cached:
        function.cache_clear()


def test_the_scan_needs_no_compiled_extension(monkeypatch, tmp_path):
    """mamba-ssm built without CUDA has Mamba-2's scan, behind an import of the extension of Mamba-1's."""
    for folder in ("mamba_ssm", "mamba_ssm/ops", "mamba_ssm/ops/triton"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "mamba_ssm" / "__init__.py").write_text(
        "import selective_scan_cuda\n\ndef mamba_1():\n    return selective_scan_cuda.fwd\n"
    )
    (tmp_path / "mamba_ssm/ops/triton/ssd_combined.py").write_text("def mamba_chunk_scan_combined(): return 'Mamba-2'")
    for name in [name for name in sys.modules if name.partition(".")[0] == "mamba_ssm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    mixer_module.optional.cache_clear()
    try:
        assert mixer_module.mamba_scan()() == "Mamba-2"
        assert "selective_scan_cuda" not in sys.modules
        with pytest.raises(ImportError, match=r"selective_scan_cuda\.fwd: the package was installed without"):
            sys.modules["mamba_ssm"].mamba_1()
    finally:
        mixer_module.optional.cache_clear()
        for name in [name for name in sys.modules if name.partition(".")[0] == "mamba_ssm"]:
            monkeypatch.delitem(sys.modules, name)


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

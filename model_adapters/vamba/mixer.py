"""The Mamba-2 mixer that carries video tokens from layer to layer.

Everything here is causal and runs in segments: `MixerState` holds what a segment leaves to the next one, and
carrying it across a cut gives the same numbers as no cut. The scan has two interchangeable implementations,
mamba-ssm's Triton kernels (on CUDA, where that package works) and plain PyTorch (anywhere). Nothing here
knows of text, attention or video frames.

Mamba-2 is Dao and Gu, "Transformers are SSMs" (arXiv 2405.21060); names of weights are those of mamba-ssm.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import logging
import math
import os
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRMSNorm

from vamba_eval.cost.flops import add_flops, counting_flops

from .configuration import MixerConfig

logger = logging.getLogger(__name__)

# Of both norms in a mixer block, as in mamba-ssm.
NORM_EPS = 1e-5


@dataclass
class MixerState:
    """What one segment of a sequence leaves to the next.

    Attributes:
        window: (batch, d_conv - 1, conv channels), the last inputs of the convolution.
        ssm: (batch, heads, headdim, d_state) float32, the state of the scan.
    """

    window: Tensor
    ssm: Tensor


def causal_conv_silu(x: Tensor, window: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Depthwise causal convolution and SiLU, accumulated in float32.

    Args:
        x: (batch, length, channels).
        window: (batch, width - 1, channels), the inputs before `x` (zeros at the start of a sequence).
        weight: (channels, width). bias: (channels,) or None.

    Returns:
        The activations, shaped and typed as `x`, and the window for what follows `x`.
    """
    length, width = x.shape[1], weight.shape[1]
    # A segment shorter than the window leaves part of the old one in place.
    recent = torch.cat([window, x[:, max(0, length - width + 1) :]], dim=1)
    window_after = recent[:, recent.shape[1] - width + 1 :]
    fitting = x.is_cuda and 2 <= width <= 4 and x.stride(1) % 8 == 0 and x.shape[2] % 8 == 0  # its own conditions
    if fitting and (fused := causal_conv()) is not None:
        before = window.transpose(1, 2)
        y = fused(x.transpose(1, 2), weight, bias, initial_states=before, activation="silu")
        return y.transpose(1, 2), window_after
    if (kernels := fused_kernels(x)) is not None and bias is not None and x.shape[0] == 1:
        return kernels.conv_silu(x, window, weight, bias), window_after
    padded = torch.cat([window, x], dim=1)
    y = padded[:, :length].float() * weight[:, 0].float()
    for tap in range(1, width):
        y = y + padded[:, tap : tap + length].float() * weight[:, tap].float()
    if bias is not None:
        y = y + bias.float()
    return F.silu(y).to(x.dtype), window_after


def selective_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    *,
    dt_bias: Tensor,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    chunk_size: int = 256,
) -> tuple[Tensor, Tensor]:
    """The recurrence `state = exp(dt A) state + dt x B^T`, `y = state C + D x`; dt = softplus(dt + bias).

    Args:
        x: (batch, length, heads, headdim).
        dt: (batch, length, heads), before its bias and softplus; clamped to `dt_limit` after them.
        A: (heads,) float32, negative.
        B, C: (batch, length, groups, d_state), shared by the heads of a group.
        D: (heads,) or (heads, headdim).
        state: (batch, heads, headdim, d_state) float32, before the first step.
        dt_bias: (heads,).
        chunk_size: steps that are computed at once; of no influence on the result.

    Returns:
        y, shaped and typed as `x`, and the float32 state after the last step.
    """
    # The Triton scan multiplies float32 in TF32, which is good for three digits: float32 asks for more.
    kernel = mamba_scan() if x.is_cuda and x.dtype != torch.float32 else None
    if kernel is None:
        with torch.autocast(x.device.type, enabled=False):  # what is float32 in it stays so in training, too
            return chunked_scan(x, dt, A, B, C, D, state, dt_bias=dt_bias, dt_limit=dt_limit, chunk_size=chunk_size)
    # It tunes itself on the current GPU at its first call, which must be the one that holds the tensors.
    with torch.cuda.device(x.device):
        y, after = kernel(
            x,
            dt,
            A,
            B,
            C,
            chunk_size,
            D=D,
            dt_bias=dt_bias,
            dt_softplus=True,
            dt_limit=dt_limit,
            initial_states=state,
            return_final_states=True,
        )
    if counting_flops():
        batch, length, heads, headdim = x.shape
        flops = scan_flops(batch, length, heads, headdim, B.shape[2], B.shape[3], chunk_size)
        add_flops("scan", flops)
        if y.requires_grad:
            y.register_hook(lambda _: add_flops("scan_backward", 2 * flops))
    return y, after


def scan_flops(batch: int, length: int, heads: int, headdim: int, groups: int, d_state: int, chunk_size: int) -> int:
    """Operations of the scan's matrix products, by the rules of torch's FlopCounterMode.

    For each chunk of Q steps the algorithm of the Mamba-2 paper (arXiv 2405.21060, section 6) takes four:

        C B^T for each group, (Q, N) by (N, Q)                      2 Q Q N    how steps see each other
        that, with its decay, by x for each head, (Q, Q) by (Q, P)  2 Q Q P    what the chunk itself gives
        C by the state before it, (Q, N) by (N, P)                  2 Q N P    what came before
        x^T B into the state after it, (P, Q) by (Q, N)             2 Q N P

    Masked halves count, as they do in attention. So a sequence cut at other places than between chunks takes a
    little less than in one piece. A backward pass takes each product twice: that is counted when a gradient
    comes, without what the kernels compute again for it.
    """
    products = 0
    for start in range(0, length, chunk_size):
        steps = min(chunk_size, length - start)
        products += groups * steps * steps * d_state + heads * steps * headdim * (steps + 2 * d_state)
    return 2 * batch * products


def chunked_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    *,
    dt_bias: Tensor,
    dt_limit: tuple[float, float],
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """`selective_scan` in plain PyTorch and float32.

    Within a chunk the recurrence is written out as a masked matrix product (the dual form of the paper's
    section 6); from chunk to chunk only the state goes on. Memory is that of one chunk.
    """
    groups = B.shape[2]
    heads_per_group = x.shape[2] // groups
    dt = F.softplus(dt.float() + dt_bias.float()).clamp(*dt_limit)
    state = state.unflatten(1, (groups, heads_per_group))
    outputs = []
    for start in range(0, x.shape[1], chunk_size):
        chunk = slice(start, start + chunk_size)
        # b batch, t and s steps, g groups, h heads of a group, p headdim, n d_state
        x_c, b_c, c_c = x[:, chunk].float(), B[:, chunk].float(), C[:, chunk].float()
        x_dt = (x_c * dt[:, chunk, :, None]).unflatten(2, (groups, heads_per_group))
        log_decay = (dt[:, chunk] * A).cumsum(1).unflatten(2, (groups, heads_per_group))  # from chunk start

        steps = log_decay.permute(0, 2, 3, 1)
        between = steps[..., :, None] - steps[..., None, :]  # log of the decay from step s to step t
        future = torch.ones(between.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
        decay = between.masked_fill(future, -math.inf).exp()
        scores = torch.einsum("btgn,bsgn->bgts", c_c, b_c)
        y = torch.einsum("bghts,bsghp->btghp", scores[:, :, None] * decay, x_dt)
        y = y + torch.einsum("btgn,bghpn->btghp", c_c, state) * log_decay.exp()[..., None]
        outputs.append(y.flatten(2, 3) + x_c * (D if D.ndim == 2 else D[:, None]).float())

        total = log_decay[:, -1:]
        remaining = x_dt * (total - log_decay).exp()[..., None]
        state = state * total[:, 0, ..., None, None].exp() + torch.einsum("bsghp,bsgn->bghpn", remaining, b_c)
    return torch.cat(outputs, dim=1).to(x.dtype), state.flatten(1, 2)


def gated_rms_norm(y: Tensor, z: Tensor, weight: Tensor, groups: int, norm_before_gate: bool = False) -> Tensor:
    """RMS norm over each of `groups` equal parts of the last axis, gated by SiLU(z), in float32.

    The gate comes before the norm, unless `norm_before_gate`. y and z: (..., channels).
    """
    if (kernels := fused_kernels(y)) is not None and not norm_before_gate and y.shape[0] == 1:
        return kernels.gated_rms_norm(y, z, weight, groups, NORM_EPS)
    gate = F.silu(z.float())
    out = y.float() if norm_before_gate else y.float() * gate
    out = out.unflatten(-1, (groups, -1))
    out = (out * torch.rsqrt(out.pow(2).mean(-1, keepdim=True) + NORM_EPS)).flatten(-2) * weight.float()
    return (out * gate if norm_before_gate else out).to(y.dtype)


def rms_norm(x: Tensor, norm: nn.Module) -> Tensor:
    """What the module `norm` gives; transformers' RMS norm in one pass where the kernels run."""
    kernels = fused_kernels(x)
    if kernels is None or not isinstance(norm, Qwen2VLRMSNorm):
        return norm(x)
    return kernels.rms_norm(x, norm.weight, norm.variance_epsilon)


class GatedRMSNorm(nn.Module):
    """`gated_rms_norm` and its weight."""

    def __init__(self, width: int, groups: int, norm_before_gate: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.groups = groups
        self.norm_before_gate = norm_before_gate

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        return gated_rms_norm(y, z, self.weight, self.groups, self.norm_before_gate)


class Mamba2Mixer(nn.Module):
    """Projection, convolution, scan, gated norm, projection. dt, A and the state are float32 in any model."""

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.config = config
        width, heads = config.conv_width, config.num_heads
        self.in_proj = nn.Linear(config.hidden_dim, config.projected_width, bias=config.bias)
        self.conv1d = nn.Conv1d(width, width, config.d_conv, groups=width, bias=config.conv_bias)
        self.dt_bias = nn.Parameter(torch.zeros(heads))
        self.A_log = nn.Parameter(torch.zeros(heads))
        self.D = nn.Parameter(torch.ones(config.scan_width if config.D_has_hdim else heads))
        if config.rmsnorm:
            self.norm = GatedRMSNorm(config.scan_width, config.ngroups, config.norm_before_gate)
        self.out_proj = nn.Linear(config.inner_width, config.hidden_dim, bias=config.bias)

    def init_weights(self) -> None:
        """Random A, dt and D as Mamba-2 starts from; the projections are initialised with the model."""
        config = self.config
        low, high = config.A_init_range
        init.copy_(self.A_log, torch.empty_like(self.A_log).uniform_(low, high).log())
        log_dt = torch.empty_like(self.dt_bias).uniform_(math.log(config.dt_min), math.log(config.dt_max))
        dt = log_dt.exp().clamp(min=config.dt_init_floor)
        init.copy_(self.dt_bias, dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus
        init.ones_(self.D)

    def empty_state(self, batch: int, like: Tensor) -> MixerState:
        """The state before the first token, on the device of `like` (and its dtype, for the window)."""
        config = self.config
        return MixerState(
            window=like.new_zeros(batch, config.d_conv - 1, config.conv_width),
            ssm=like.new_zeros(batch, config.num_heads, config.headdim, config.d_state, dtype=torch.float32),
        )

    def forward(self, hidden: Tensor, state: MixerState | None = None) -> tuple[Tensor, MixerState]:
        """(batch, length, hidden) and the state before it, to the same shape and the state after it."""
        config = self.config
        if state is None:
            state = self.empty_state(hidden.shape[0], hidden)
        bypass = config.inner_width - config.scan_width  # channels of the gated MLP beside the scan, mostly 0
        mlp_gate, mlp, z, xbc, dt = self.in_proj(hidden).split(
            [bypass, bypass, config.scan_width, config.conv_width, config.num_heads], dim=-1
        )
        xbc, window = causal_conv_silu(xbc, state.window, self.conv1d.weight.squeeze(1), self.conv1d.bias)
        shared = config.ngroups * config.d_state
        x, b, c = xbc.split([config.scan_width, shared, shared], dim=-1)
        y, ssm = selective_scan(
            x.unflatten(-1, (config.num_heads, config.headdim)),
            dt,
            -self.A_log.float().exp(),
            b.unflatten(-1, (config.ngroups, config.d_state)),
            c.unflatten(-1, (config.ngroups, config.d_state)),
            self.D.unflatten(0, (config.num_heads, -1)) if config.D_has_hdim else self.D,
            state.ssm,
            dt_bias=self.dt_bias,
            dt_limit=config.dt_limit,
            chunk_size=config.chunk_size,
        )
        y = y.flatten(-2)
        y = self.norm(y, z) if config.rmsnorm else y * F.silu(z)
        if bypass:
            y = torch.cat([F.silu(mlp_gate) * mlp, y], dim=-1)
        return self.out_proj(y), MixerState(window, ssm)


class VisionMixer(nn.Module):
    """A mixer with its norm and residual connection."""

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        norm = Qwen2VLRMSNorm if config.norm_type == "rmsnorm" else nn.LayerNorm
        self.norm = norm(config.hidden_dim, eps=NORM_EPS)
        self.mixer = Mamba2Mixer(config)

    def forward(self, hidden: Tensor, state: MixerState | None = None) -> tuple[Tensor, MixerState]:
        mixed, state = self.mixer(rms_norm(hidden, self.norm), state)
        return hidden + mixed, state


def fused_kernels(x: Tensor) -> Any:
    """The module of Triton kernels where they can run on `x` (on a GPU, without gradients), else None."""
    return triton_kernels() if x.is_cuda and not torch.is_grad_enabled() else None


@functools.cache
def optional(module: str, attribute: str | None, otherwise: str) -> Any:
    """A module or what it defines, or None (said once) where it cannot be imported, for whatever reason."""
    try:
        found = importlib.import_module(module, __package__)
        return found if attribute is None else getattr(found, attribute)
    except Exception as error:
        logger.warning("%s cannot be used (%s): %s", module.lstrip("."), error, otherwise)
        return None


def mamba_scan() -> Callable[..., Any] | None:
    """mamba-ssm's Triton scan, if it can be imported."""
    # Triton tunes its kernels for 40 s. What it finds is kept on disk, for other processes, which then also sum alike.
    os.environ.setdefault("TRITON_CACHE_AUTOTUNING", "1")
    where = "mamba_ssm.ops.triton.ssd_combined"
    with _extension_not_needed("selective_scan_cuda"):
        return optional(where, "mamba_chunk_scan_combined", "the scan runs in plain PyTorch, slower")


@contextlib.contextmanager
def _extension_not_needed(name: str) -> Iterator[None]:
    """Let a package be imported that was built without its compiled module ``name``: mamba-ssm imports Mamba-1's
    whatever is asked of it, and Mamba-2's scan, which is Triton's, needs none. Using it is an ImportError."""
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        yield
        return
    missing = types.ModuleType(name)

    def lacks(attribute: str) -> NoReturn:
        raise ImportError(f"{name}.{attribute}: the package was installed without its CUDA extension", name=name)

    missing.__getattr__ = lacks  # type: ignore[method-assign]
    sys.modules[name] = missing
    try:
        yield
    finally:
        del sys.modules[name]


def triton_kernels() -> Any:
    """Our Triton kernels, if they can be imported."""
    return optional(".kernels", None, "norms and activations run in plain PyTorch, slower")


@functools.cache
def causal_conv() -> Callable[..., Any] | None:
    """causal-conv1d's kernel, if it is installed; it is not missed otherwise."""
    if importlib.util.find_spec("causal_conv1d") is None:
        return None
    return optional("causal_conv1d", "causal_conv1d_fn", "our own convolution takes its place")

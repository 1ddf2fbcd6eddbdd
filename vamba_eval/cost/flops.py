"""Floating-point operations of what runs: torch's count, and what kernels of ours add to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass
class FlopCount:
    """Floating-point operations by kind ("mm", "bmm", "addmm", "scan", ...); a multiply-add is two."""

    by_kind: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.by_kind.values())


# Not of a thread's context: a backward pass on a GPU runs in threads of autograd's own.
_counting: FlopCount | None = None


@contextmanager
def count_flops() -> Iterator[FlopCount]:
    """Count the operations of what runs in the block; torch's part is known when it ends.

    torch's FlopCounterMode counts matrix products, convolutions and attention by their shapes: 2 m n k for a product
    of m x k and k x n, attention as if nothing were masked. What it does not see, `add_flops` adds by the same rules.
    Additions, norms, activations and other work on single elements are not counted, in whatever kernel they run.
    Counting slows the work down: do it in a run that is not timed.
    """
    from torch.utils.flop_counter import FlopCounterMode

    global _counting
    if _counting is not None:
        raise RuntimeError("FLOPs are being counted already")
    count = _counting = FlopCount()
    counter = FlopCounterMode(display=False, custom_mapping=_attention_formulas())
    counter.mod_tracker = _Untracked()  # type: ignore[assignment]
    try:
        with counter:
            yield count
    finally:
        _counting = None
        for operation, flops in counter.get_flop_counts().get("Global", {}).items():
            kind = str(operation).rpartition(".")[2]
            count.by_kind[kind] = count.by_kind.get(kind, 0) + flops


class _Untracked:
    """In place of torch's tracker of modules, whose hooks keep activations alive that checkpointing would let go."""

    parents = frozenset({"Global"})

    def __enter__(self) -> _Untracked:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def add_flops(kind: str, n: int) -> None:
    """Say that ``n`` operations ran in a kernel that torch's counter does not see."""
    if (count := _counting) is not None:
        count.by_kind[kind] = count.by_kind.get(kind, 0) + n


def counting_flops() -> bool:
    """Whether operations are being counted: then nothing may run that cannot be, such as a CUDA graph."""
    return _counting is not None


def _attention_formulas() -> dict[Any, Any]:
    """For torch's attention operators, which older counters know in part (not those with fewer key than query heads,
    and not the CPU's), and for the package flash-attn's, which none knows."""
    torch = sys.modules["torch"]

    def forward(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:  # (batch, heads, tokens, head_dim)
        batch, heads, rows, dim = q.shape
        return 2 * batch * heads * rows * k.shape[2] * (dim + v.shape[3])

    def backward(_grad: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:  # the scores are computed again
        batch, heads, rows, dim = q.shape
        return 2 * batch * heads * rows * k.shape[2] * (3 * dim + 2 * v.shape[3])

    def padded(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:  # (batch, tokens, heads, head_dim)
        return forward(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))

    def packed(q: Any, k: Any, v: Any, starts_q: Any, starts_k: Any, *_: Any, **__: Any) -> int:
        pairs = int((starts_q.diff().long() * starts_k.diff().long()).sum())  # (tokens, heads, head_dim)
        return 2 * q.shape[1] * pairs * (q.shape[2] + v.shape[2])

    known: list[tuple[str, str, Any]]
    known = [("flash_attn", "_flash_attn_forward", padded), ("flash_attn", "_flash_attn_varlen_forward", packed)]
    for kernel in ("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu"):
        known += [("aten", f"_scaled_dot_product_{kernel}", forward)]
        known += [("aten", f"_scaled_dot_product_{kernel}_backward", backward)]
    formulas: dict[Any, Any] = {}
    for package, name, formula in known:
        formula._get_raw = True  # type: ignore[attr-defined] # called with tensors, not with their shapes
        with suppress(AttributeError):  # not in this version, or not loaded
            formulas[getattr(getattr(torch.ops, package), name)] = formula
    return formulas

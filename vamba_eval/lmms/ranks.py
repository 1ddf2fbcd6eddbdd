"""Questions of several processes, so that each video is read and encoded by one of them alone.

lmms-eval deals documents out one by one, so that the questions about one video land in different processes.
Here they come together again: every process learns of all questions about video files, takes some of the videos
with all their questions, and sends the answers back. Knows questions as plain values; knows no model.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any


def called_by_evaluator(depth: int = 2) -> bool:
    """Whether lmms-eval's loop is the caller of the caller: only then do all processes come here together.

    Its response cache calls a model only where something is missing, so that some processes may never come.
    """
    frame = sys._getframe(depth)
    return frame.f_globals.get("__name__") == "lmms_eval.evaluator" and frame.f_code.co_name == "evaluate"


def number_of_processes() -> int:
    """Of the process group that torch has; 1 without one."""
    import torch.distributed

    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def all_of(value: Any) -> list[Any]:
    """``value`` of each process, by rank. All must call it."""
    import torch.distributed

    values: list[Any] = [None] * number_of_processes()
    torch.distributed.all_gather_object(values, value)
    return values


def own_rank() -> int:
    import torch.distributed

    return torch.distributed.get_rank()


def deal(keys: Sequence[Sequence[Hashable]]) -> dict[Hashable, int]:
    """A process for each key. ``keys`` are those of the questions in each process.

    Each process gets as many keys as the others, give or take one; among those with fewest, one that asks about it.
    """
    order = dict.fromkeys(key for own in keys for key in own)
    asks = [set(own) for own in keys]
    load: Counter[int] = Counter(dict.fromkeys(range(len(keys)), 0))
    owners: dict[Hashable, int] = {}
    for key in order:
        fewest = min(load.values())
        candidates = [rank for rank, count in load.items() if count == fewest]
        owner = next((rank for rank in candidates if key in asks[rank]), candidates[0])
        owners[key] = owner
        load[owner] += 1
    return owners

"""Vamba: Qwen2-VL with the video in cross-attention and Mamba-2 instead of the text sequence.

What needs torch is imported on first use, so that naming the model costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .adapter import VambaAdapter

if TYPE_CHECKING:
    from .attention import VideoMemory
    from .configuration import VambaConfig
    from .modeling import VambaForConditionalGeneration
    from .processing import VambaProcessor

__all__ = ["VambaAdapter", "VambaConfig", "VambaForConditionalGeneration", "VambaProcessor", "VideoMemory"]

_HOMES = {
    "VambaConfig": "configuration",
    "VambaForConditionalGeneration": "modeling",
    "VambaProcessor": "processing",
    "VideoMemory": "attention",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        importlib.import_module(f"{__name__}.configuration")  # has transformers' Auto classes know the type
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

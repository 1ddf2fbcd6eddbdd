"""Caches of transformers that several questions go on from: cut back after each where that can be, else forked.

Layers that keep all keys and values can be cut back. Others (sliding windows, linear attention, convolutions, state
spaces) forget or overwrite, so that each question gets a copy of what changes in place.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import _transformers

_MAKES_NONE = frozenset(("granite4_vision",))  # unlike others where they are given none


def given(model: Any) -> dict[str, Any]:
    """The empty cache that a model is to be given, by its parameter's name; nothing where it makes its own."""
    from transformers import DynamicCache

    if model.config.model_type not in _MAKES_NONE:
        return {}
    return {_transformers.cache_name(): DynamicCache(config=model.config.get_text_config(decoder=True))}


def of_output(output: Any) -> Any:
    """The cache in a model's output."""
    for name in (_transformers.cache_name(), "past_key_values", "cache_params"):
        if output.get(name) is not None:
            return output[name]
    raise TypeError(f"{type(output).__name__} holds no cache")


@contextmanager
def continued(cache: Any, length: int, *, copied: bool = False) -> Iterator[dict[str, Any]]:
    """``cache``, of so many tokens, as the model takes it for one question; it is as before afterwards.

    ``copied``: nothing of it is shared with the question, for a model that may do anything to its cache.
    """
    if cache is None:
        yield {}
        return
    name = _transformers.cache_name()
    if copied:
        yield {name: copy.deepcopy(cache)}
        return
    if not is_plain(cache):
        yield {name: fork(cache)}
        return
    try:
        yield {name: cache}
    finally:
        if (added := cache.get_seq_length() - length) > 0:
            cache.crop(-added)


def is_plain(cache: Any) -> bool:
    """Whether every layer keeps all keys and values (``is_croppable`` is true of sliding layers that cannot be cut)."""
    from transformers.cache_utils import DynamicLayer

    layers = getattr(cache, "layers", None) or ()
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def lengths(cache: Any) -> set[int]:
    """How many tokens the layers of a cache have that keep all keys and values, and how many it counts itself."""
    from transformers.cache_utils import DynamicLayer

    return {cache.get_seq_length()} | {each.get_seq_length() for each in cache.layers if type(each) is DynamicLayer}


def fork(cache: Any) -> Any:
    """A cache that goes on from ``cache`` and leaves it as it is.

    Keys and values are shared, since updates make new ones; all other tensors are copied, since updates write in them.
    """
    forked = copy.copy(cache)
    forked.__dict__ = {name: _own(value) for name, value in vars(cache).items() if name != "layers"}
    forked.layers = []
    for layer in cache.layers:
        new = copy.copy(layer)
        new.__dict__ = {n: value if n in ("keys", "values") else _own(value) for n, value in vars(layer).items()}
        forked.layers.append(new)
    return forked


def _own(value: Any) -> Any:
    """``value`` with tensors and containers of its own."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _own(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_own(each) for each in value]
    return value

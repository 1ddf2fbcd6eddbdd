"""What tests change loaded models by, as token pruning and compression of the cache do."""

from __future__ import annotations

import functools
from typing import Any

import torch


def _video_tokens(model: Any) -> int:
    config = model.config
    return getattr(config, "video_token_id", None) or config.image_token_id


def kept(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Places of the tokens that are kept: every second one of the video's is not."""
    places = torch.arange(len(ids))
    video = places[ids == _video_tokens(model)]
    return places[~torch.isin(places, video[1::2])]


def _after_videos(model: Any, change: Any) -> None:
    """Have ``change(cache, ids)`` called when a video has been encoded."""

    def hook(module: Any, args: Any, given: dict[str, Any], output: Any) -> None:
        if any("pixel" in name for name in given):
            change(getattr(output, "past_key_values", None) or output["cache"], given["input_ids"][0])

    model.register_forward_hook(hook, with_kwargs=True)


def halve(model: Any) -> None:
    """Compression of the cache: from every layer go the keys and values of half of the video's tokens."""

    def change(cache: Any, ids: torch.Tensor) -> None:
        for layer in cache.layers:
            if layer.keys.shape[2] == len(ids):  # not of a window
                layer.keys, layer.values = (part[:, :, kept(model, ids)] for part in (layer.keys, layer.values))

    _after_videos(model, change)


def halve_one_layer(model: Any) -> None:
    def change(cache: Any, ids: torch.Tensor) -> None:
        layer = cache.layers[-1]
        layer.keys, layer.values = (part[:, :, kept(model, ids)] for part in (layer.keys, layer.values))

    _after_videos(model, change)


def empty(model: Any) -> None:
    def change(cache: Any, ids: torch.Tensor) -> None:
        for layer in cache.layers:
            layer.keys, layer.values = (part[:, :, :0] for part in (layer.keys, layer.values))

    _after_videos(model, change)


def forgetful(model: Any) -> None:
    """Writes zeros over the first keys whenever tokens follow: what it is asked first would change what comes next."""

    def hook(module: Any, args: Any, given: dict[str, Any], output: Any) -> None:
        cache = getattr(output, "past_key_values", None) or output.get("cache")
        if not any("pixel" in name for name in given) and cache is not None:
            for layer in cache.layers:
                layer.keys[:, :, :8] = 0

    def before(module: Any, args: Any, given: dict[str, Any]) -> None:
        cache = given.get("past_key_values", given.get("cache"))
        if cache is not None and not any("pixel" in name for name in given):
            for layer in cache.layers:
                layer.values[:, :, :8] *= 0.5

    model.register_forward_hook(hook, with_kwargs=True)
    model.register_forward_pre_hook(before, with_kwargs=True)


def nothing(model: Any) -> Any:
    """Takes the place of forward as it should be done, and changes nothing."""
    forward = model.forward

    @functools.wraps(forward)
    def same(*args: Any, **given: Any) -> Any:
        return forward(*args, **given)

    model.forward = same
    return model


def signatureless(model: Any) -> None:
    forward = model.forward
    model.forward = lambda **given: forward(**given)


def in_bfloat16(model: Any) -> Any:
    return model.bfloat16()


def raising(model: Any) -> None:
    raise RuntimeError("no such layer\nand a second line")


def returning_text(model: Any) -> Any:
    return "a model"


NUMBER = 3

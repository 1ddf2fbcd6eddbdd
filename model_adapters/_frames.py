"""Frames on their way into a processor of transformers, and what it made of them.

A processor that is left alone samples frames again, shrinks them to a budget, and invents times. What it is told here
keeps it from that; what came of it is read from its tensors and from its prompt.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vamba_eval.contracts import Clip, UserError

from . import _transformers

if TYPE_CHECKING:
    import torch

# How prompts tell a frame's time, by the family's processor in transformers: as hours, minutes and seconds, or less.
_QWEN = re.compile(r"<(?P<s>\d+\.\d) seconds>")
_GLM4V = re.compile(r"<\|end_of_image\|>(?P<s>\d+)(?=<)")
_GLM46V = re.compile(r"<\|end_of_image\|>(?P<s>\d+\.\d) seconds")
_MINUTES = re.compile(r"(?P<m>\d{2,}):(?P<s>\d{2}) <\|image>")
_MUSE = re.compile(r"Time: (?P<s>\d+\.\d)s")
STAMPS: Mapping[str, re.Pattern[str]] = {
    **dict.fromkeys(("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "qwen4_exp"), _QWEN),
    **dict.fromkeys(("cosmos3_edge", "cosmos3_omni", "cohere_compass", "lfm3_vl"), _QWEN),
    **{"glm4v": _GLM4V, "glm4v_moe": _GLM4V, "glm46v": _GLM46V, "glm5_next": _GLM46V, "glmga": _GLM46V},
    "glm_ocr": _GLM46V,
    **{"muse_glimmer": _MUSE, "muse_spark": _MUSE},
    "minimax_m3_vl": re.compile(r"\]<\](?P<s>\d+\.\d) seconds\[>\["),
    "nemotron_h_omni": re.compile(r"rame \d+ sampled at (?P<s>\d+\.\d\d) seconds"),
    "video_llama_3": re.compile(r"Time (?P<s>\d+\.\d)s:"),
    "smolvlm": re.compile(r"Frame from (?P<m>\d{2,}):(?P<s>\d{2}):"),
    **dict.fromkeys(("gemma4", "gemma4_unified"), _MINUTES),
    "molmo2": re.compile(r"(?P<s>\d+\.\d) <frame_start>"),
    "kimi_k25": re.compile(r"(?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d\.\d{3})<\|media_begin\|>video"),
}
# These are told the time between frames, by the places of the frames' tokens. Omni models are told it as a rate.
PACED = frozenset(("qwen2_5_vl", "qwen2_5_omni_thinker", "qwen3_omni_moe_thinker"))
_PACED_BY_RATE = PACED - {"qwen2_5_vl"}
# These are shown times that their processors draw on the frames.
DRAWN = frozenset(("ernie4_5_vl_moe",))
# These count the source's frames in whole milliseconds a frame, which at 30 a second is wrong by 1 %.
_MILLISECONDS = frozenset(("nemotron_h_omni",))
# The processors of these take pictures of Pillow alone.
_PILLOW = frozenset(("idefics2", "emu3"))
# How processors that count tokens, and not pixels, name the most of a frame.
_TOKENS = ("max_video_frame_tokens", "max_image_tokens")


def told_times(kind: str) -> bool:
    """Whether a model of that type is told when frames were, so that it cannot be shown frames of unknown times."""
    return kind in STAMPS or kind in PACED or kind in DRAWN


def timed(clip: Clip) -> bool:
    """Whether it is known when the frames of ``clip`` were."""
    return bool(np.isfinite(clip.timestamps_s).all()) and (math.isfinite(clip.source_fps) or len(clip.frames) == 1)


def long_enough(clip: Clip, processor: Any) -> Clip:
    """A single frame twice where a processor makes each patch of two and refuses one; others repeat it themselves."""
    if len(clip.frames) > 1 or not _transformers.refuses_one_frame(processor):
        return clip
    frames, times = np.repeat(clip.frames, 2, axis=0), np.repeat(clip.timestamps_s, 2)
    return replace(clip, frames=frames, timestamps_s=times, frame_indices=np.repeat(clip.frame_indices, 2))


def metadata(clip: Clip, kind: str) -> dict[str, Any]:
    """Where in the source the frames stand, as transformers' VideoMetadata has it.

    Raises UserError where a model is told times that nobody knows.
    """
    count, height, width = clip.frames.shape[:3]
    size = {"height": height, "width": width}
    if not timed(clip):
        if told_times(kind):
            raise UserError(
                f"a {kind} is told when each frame was, which a folder of frames does not say: give the frames' rate "
                "where the benchmark has it (Video.frames_per_second), show them as pictures (frames_as=images), or "
                "use another model"
            )
        return {"total_num_frames": count, "fps": None, "frames_indices": list(range(count)), "duration": None, **size}
    rate, places = clip.source_fps, clip.frame_indices
    if kind in _MILLISECONDS or not rate > 0 or np.abs(places / rate - clip.timestamps_s).max() > 0.5 / rate:
        # Where the source's rate changes, a frame's number does not say when it was: milliseconds count instead.
        rate, places = 1000.0, np.rint(clip.timestamps_s * 1000).astype(int)
    total = round(clip.duration_s * rate) if math.isfinite(clip.duration_s) else 0
    total = max(total, int(places.max()) + 1)
    if kind in PACED and count > 1:  # of the frames that are shown, which may be from a part of the source
        total = max(1, round(count * (int(places[-1]) - int(places[0])) / (count - 1)))
    about = {"total_num_frames": total, "fps": rate, "frames_indices": places.tolist()}
    return {**about, "duration": total / rate, **size}


def pace(clip: Clip, kind: str) -> dict[str, float]:
    """The argument of a processor that is told the time between frames as a rate, in frames a second."""
    count, seconds = len(clip.frames), float(clip.timestamps_s[-1] - clip.timestamps_s[0])
    return {"fps": (count - 1) / seconds} if kind in _PACED_BY_RATE and seconds > 0 else {}


def pictures(clip: Clip, kind: str) -> list[Any]:
    """The frames of ``clip`` as its processor takes pictures: tensors, or Pillow's where it takes nothing else."""
    import torch
    from PIL import Image

    if kind in _PILLOW:
        return [Image.fromarray(frame) for frame in clip.frames]
    return list(torch.from_numpy(clip.frames).permute(0, 3, 1, 2))


def writable(clip: Clip, processor: Any) -> np.ndarray:
    """The frames of ``clip``, copied where a processor draws on what it is given."""
    return clip.frames.copy() if getattr(processor, "draw_on_frames", False) else clip.frames


def bounds(
    processor: Any, clip: Clip, max_pixels: int | None, total_pixels: int | None, size: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Arguments of a processor that bounds pixels, with which it shrinks frames to these bounds and else not at all.

    ``max_pixels`` are of a frame, ``total_pixels`` of all frames; ``size`` stands in place of the processor's own.
    Raises UserError where they can have no effect.
    """
    from transformers.video_processing_utils import BaseVideoProcessor

    count, height, width = clip.frames.shape[:3]
    frame = min(max_pixels or math.inf, (total_pixels or math.inf) / count)
    frame = 4 * height * width if math.isinf(frame) else max(1, int(frame))  # far above, for rounding to patches
    own = getattr(processor, "size", None)
    least, most = (
        size[edge] if size is not None else getattr(own, edge, None) for edge in ("shortest_edge", "longest_edge")
    )
    # What counts all frames together counts each picture as a step of several frames.
    every = count if isinstance(processor, BaseVideoProcessor) else getattr(processor, "temporal_patch_size", 1)
    given: dict[str, Any] = {}
    if (tokens := next((name for name in _TOKENS if hasattr(processor, name)), None)) and hasattr(
        processor, "merge_size"
    ):
        area = (int(processor.patch_size) * int(processor.merge_size)) ** 2
        least = getattr(processor, "min_image_tokens", None)
        if least is not None:  # GLM 5, of all frames together
            step = int(processor.temporal_patch_size)
            frame, area = frame * math.ceil(every / step) * step, area * step
        given[tokens] = max(1, frame // area)
        if least is not None and (max_pixels or total_pixels):
            given["min_image_tokens"] = min(int(least), given[tokens])
    elif least and most and _transformers.bounds_pixels(processor):
        bound = frame * every if _transformers.bounds_all_frames(processor) else frame
        if max_pixels or total_pixels:
            least = min(least, bound)
        given["size"] = {"shortest_edge": least, "longest_edge": max(bound, least)}
        if hasattr(processor, "cap_pixels_per_frame"):
            given["cap_pixels_per_frame"] = False
        if _transformers.bounds_each_frame_too(processor):
            given["max_image_size"] = {"longest_edge": frame}
    elif getattr(processor, "min_pixels", None) and getattr(processor, "max_pixels", None):  # MiniMax
        least = min(int(processor.min_pixels), frame) if max_pixels or total_pixels else int(processor.min_pixels)
        given |= {"do_resize": True, "min_pixels": least, "max_pixels": max(frame, least)}
    elif getattr(processor, "max_patches", None) and getattr(own, "max_height", None):  # Kimi
        given["max_patches"] = _patches_within(
            frame, height, width, int(processor.patch_size), int(processor.merge_size)
        )
    elif max_pixels or total_pixels:
        raise UserError(
            "max_pixels and total_pixels have no effect on this model, whose frames have a fixed size: leave them out"
        )
    return given


def _patches_within(pixels: int, height: int, width: int, patch: int, merge: int) -> int:
    """The number of patches to which Kimi's processor is to shrink a frame, so that with its padding it has at most so
    many pixels."""
    most = max(1, pixels // patch**2)
    while most > 1:
        scale = min(1.0, math.sqrt(most / (max(1, height // patch) * max(1, width // patch))))
        padded = [math.ceil(max(1, int(edge * scale)) / (patch * merge)) * patch * merge for edge in (height, width)]
        if padded[0] * padded[1] <= pixels:
            break
        most = most * 19 // 20
    return most


@dataclass(frozen=True)
class Shown:
    """What a processor made of frames: how many, and their height and width in pixels (of one tile, where each is cut
    into several)."""

    frames: int
    height: int
    width: int
    tiles: bool = False


def shown(given: Mapping[str, Any], processor: Any, images: bool, count: int) -> Shown:
    """What ``given``, a processor's tensors of ``count`` frames, show of them."""
    import torch

    pixels = _pixels(given)
    edge: Any = getattr(processor, "patch_size", None) or getattr(processor, "encoder_patch_size", 14)
    patch = int(edge["height"] if isinstance(edge, dict) else getattr(edge, "height", None) or edge)
    grid = given.get("image_grid_thw" if images else "video_grid_thw")
    if grid is not None:  # steps, rows and columns of patches, each patch of one frame or of several
        rows = grid.tolist()
        steps = sum(row[0] for row in rows)
        depth = pixels.numel() // (3 * patch**2 * int(grid.prod(dim=1).sum()))
        frames = len(rows) if images else steps * max(1, depth)
        return Shown(frames, rows[0][1] * patch, rows[0][2] * patch)
    position = given.get("image_position_ids" if images else "video_position_ids")
    if position is not None:  # columns and rows of patches, padded with -1
        patch = math.isqrt(pixels.shape[-1] // 3)
        position = position.reshape(-1, *position.shape[-2:])
        width, height = (int(each) + 1 for each in position[0].amax(dim=0))
        return Shown(len(position), height * patch, width * patch)
    for name in ("spatial_shapes", "image_grid_hw", "target_sizes" if images else "target_sizes_videos"):
        if (shapes := given.get(name)) is not None:
            shapes = torch.as_tensor(shapes).reshape(-1, 2)
            height, width = (int(each) * patch for each in shapes[0])
            return Shown(min(len(shapes), count), height, width, len(shapes) > count)
    if pixels.ndim == 3:  # (frames or tiles, patches, values): of a fixed size
        return Shown(min(len(pixels), count), *_fixed(processor), tiles=len(pixels) > count)
    *some, channels, height, width = pixels.shape  # of one frame, or of the frames of a step
    pieces = math.prod(some)
    return Shown(min(pieces * channels // 3, count), int(height), int(width), pieces > count)


def _pixels(given: Mapping[str, Any]) -> torch.Tensor:
    import torch

    names = ("pixel_values_videos", "pixel_values", "pixel_values_images", "image_pixel_values")
    found = next((given[name] for name in names if given.get(name) is not None), None)
    if found is None:
        raise RuntimeError(f"the processor gives no pixels: {', '.join(given)}")
    while isinstance(found, list):
        found = found[0] if len(found) == 1 or isinstance(found[0], list) else torch.stack(list(found))
    return torch.as_tensor(found)


def _fixed(processor: Any) -> tuple[int, int]:
    size = processor.size
    return int(size["height"]), int(size["width"])


def tells_times(kind: str, prompt: str, clip: Clip) -> bool:
    """Whether ``prompt``, with its placeholders collapsed, tells the frames' times as they are.

    A prompt may tell one time for several frames: the first, or the mean.
    """
    if kind in PACED:
        return timed(clip) and _evenly_spread(clip.timestamps_s)
    if (pattern := STAMPS.get(kind)) is None:
        return False
    stamps = list(_seconds(pattern, prompt))
    if not stamps or not timed(clip):
        return False
    together = math.ceil(len(clip.frames) / len(stamps))
    groups = [clip.timestamps_s[start : start + together] for start in range(0, len(clip.frames), together)]
    if len(groups) != len(stamps):
        return False
    return all(group.min() - slack <= s <= group.max() + 0.06 for group, (s, slack) in zip(groups, stamps, strict=True))


def _evenly_spread(times: np.ndarray) -> bool:
    """Whether one time between frames says when each was, to half of it."""
    even = np.linspace(times[0], times[-1], len(times))
    return len(times) < 3 or bool(np.abs(times - even).max() <= 0.5 * (even[1] - even[0]))


def _seconds(pattern: re.Pattern[str], prompt: str) -> Iterator[tuple[float, float]]:
    """Times in ``prompt`` in seconds, each with how much later it may have been: what is not told is cut off."""
    for match in pattern.finditer(prompt):
        parts = {"h": "0", "m": "0", **match.groupdict()}
        whole = "." not in parts["s"]
        yield 3600 * int(parts["h"]) + 60 * int(parts["m"]) + float(parts["s"]), 1.0 if whole else 0.06


def collapsed(ids: Sequence[int], placeholders: set[int]) -> list[int]:
    """``ids`` with each run of the same placeholder as one."""
    return [token for place, token in enumerate(ids) if not (place and token == ids[place - 1] in placeholders)]

"""From frames and questions to what the model takes: patches of pixels, and token ids.

Frames are uint8 and already at the size that the benchmark asks for; here they are brought to multiples of a
merged patch, normalised and cut in Qwen2-VL's order. All of it runs on the CPU or on a GPU, a whole video or
a segment at a time, with the same result: resizing on a GPU follows PIL's fixed-point arithmetic to the bit.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, BatchFeature, PreTrainedTokenizerBase
from transformers.utils import cached_file

from .mixer import optional

SETTINGS_FILE = "preprocessor_config.json"

# Qwen2-VL refuses longer shapes.
MAX_ASPECT_RATIO = 200

# Fraction bits of PIL's 8-bit resampling: 32, less 8 for the value and 2 for sums beyond its range.
PIL_FRACTION_BITS = 22


@dataclass(frozen=True)
class PixelSettings:
    """How frames become patches; the defaults are the released `preprocessor_config.json`.

    Attributes:
        min_pixels, max_pixels: bounds on height * width after resizing.
        patch_size, temporal_patch_size: pixels and frames that a patch spans.
        merge_size: patches a side that one video token is made of.
        rescale_factor: what a grey level is multiplied by before `image_mean` and `image_std` (CLIP's) apply.
    """

    min_pixels: int = 56 * 56
    max_pixels: int = 16384 * 28 * 28
    patch_size: int = 14
    temporal_patch_size: int = 2
    merge_size: int = 2
    rescale_factor: float = 1 / 255
    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PixelSettings:
        """From the file's contents; bounds may also stand in its `size`, under either of their names."""
        size = values.get("size") or {}
        found: dict[str, Any] = {
            "min_pixels": size.get("min_pixels", size.get("shortest_edge")),
            "max_pixels": size.get("max_pixels", size.get("longest_edge")),
            **{key: values.get(key) for key in cls.__dataclass_fields__ if values.get(key) is not None},
        }
        found = {key: tuple(v) if isinstance(v, list) else v for key, v in found.items() if v is not None}
        return cls(**found)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The nearest size that cuts into merged patches and keeps to the bounds (Qwen2-VL's smart resize).

        Raises:
            ValueError: for frames with no pixels, or more than 200 times as long as wide.
        """
        if min(height, width) < 1 or max(height, width) > MAX_ASPECT_RATIO * min(height, width):
            raise ValueError(f"cannot preprocess frames of {height}x{width} pixels")
        unit = self.patch_size * self.merge_size
        rounded = round(height / unit) * unit, round(width / unit) * unit
        if math.prod(rounded) > self.max_pixels:
            shrink = math.sqrt(height * width / self.max_pixels)
            return (
                max(unit, math.floor(height / shrink / unit) * unit),
                max(unit, math.floor(width / shrink / unit) * unit),
            )
        if math.prod(rounded) < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            return math.ceil(height * grow / unit) * unit, math.ceil(width * grow / unit) * unit
        return rounded

    def grid(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Temporal patches, rows and columns of patches that a video of this size gives.

        Raises:
            ValueError: for a video without frames.
        """
        if num_frames < 1:
            raise ValueError("a video needs at least one frame")
        rows, columns = (edge // self.patch_size for edge in self.size(height, width))
        return max(1, num_frames // self.temporal_patch_size), rows, columns

    def num_tokens(self, num_frames: int, height: int, width: int) -> int:
        """Video tokens of a video of this size."""
        return math.prod(self.grid(num_frames, height, width)) // self.merge_size**2


def preprocess_frames(
    frames: Tensor | np.ndarray,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    settings: PixelSettings | None = None,
) -> tuple[Tensor, Tensor]:
    """Patches of pixels of a video, or of any run of its frames that begins at an even one.

    Frames that do not fill a temporal patch at the end are dropped; a video of fewer frames than one temporal
    patch repeats its last.

    Args:
        frames: (frames, height, width, 3) uint8.
        device: where the work is done and the result stays; by default where the frames are.
        dtype: of the result. The arithmetic is float32.

    Returns:
        (t * h * w, 1176) pixel values, and the grid [[t, h, w]] (on the CPU).

    Raises:
        ValueError: when frames are not of that shape and type, or there are none.
    """
    settings = settings or PixelSettings()
    frames = torch.as_tensor(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(
            f"frames must be uint8 of (frames, height, width, 3), not {frames.dtype} of {tuple(frames.shape)}"
        )
    t, h, w = settings.grid(*frames.shape[:3])
    per_patch, patch, merge = settings.temporal_patch_size, settings.patch_size, settings.merge_size
    if frames.shape[0] < per_patch:
        frames = torch.cat([frames, frames[-1:].expand(per_patch - frames.shape[0], -1, -1, -1)])
    frames = frames[: t * per_patch].to(device if device is not None else frames.device)
    frames = resize(frames, h * patch, w * patch)
    if (kernels := _kernels(frames)) is not None:
        table = grey_levels(settings, frames.device).to(dtype)
        return kernels.patches(frames.contiguous(), table, per_patch, patch, merge), torch.tensor([[t, h, w]])
    # rows: frame, block row, block column, row and column in the block; columns: channel, frame, y, x
    patches = frames.reshape(t, per_patch, h // merge, merge, patch, w // merge, merge, patch, 3)
    patches = patches.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(t * h * w, 3, per_patch * patch * patch)
    pixels = normalised(patches, settings)
    return pixels.flatten(1).to(dtype), torch.tensor([[t, h, w]])


def normalised(pixels: Tensor, settings: PixelSettings) -> Tensor:
    """float32 of (..., 3, n) grey levels of three channels."""
    mean, std = (torch.tensor(v, device=pixels.device) for v in (settings.image_mean, settings.image_std))
    return (pixels * settings.rescale_factor - mean[:, None]) / std[:, None]


@functools.lru_cache(maxsize=8)
def grey_levels(settings: PixelSettings, device: torch.device) -> Tensor:
    """(3, 256) float32, what each grey level of each channel becomes."""
    levels = torch.arange(256, dtype=torch.uint8, device=device)
    return normalised(levels.expand(3, -1), settings)


def resize(frames: Tensor, height: int, width: int) -> Tensor:
    """(frames, height, width, 3) uint8 to another size, as PIL's bicubic filter does it: by PIL itself, or on a GPU
    with its integers."""
    if frames.shape[1:3] == (height, width):
        return frames
    if (kernels := _kernels(frames)) is None:
        resized = np.stack([_pil_resize(image, height, width) for image in frames.cpu().numpy()])
        return torch.from_numpy(resized).to(frames.device)
    axes = [(2, width), (1, height)]
    if _pil_goes_vertical_first(*frames.shape[1:3], height, width):
        axes.reverse()
    frames = frames.contiguous()
    for axis, size in axes:
        if frames.shape[axis] != size:
            neighbours = _pil_neighbours(frames.shape[axis], size, frames.device)
            frames = kernels.resample(frames, *neighbours, axis, PIL_FRACTION_BITS)
    return frames


def _kernels(frames: Tensor) -> Any:
    """The module of Triton kernels where they can run on `frames`, else None."""
    if not frames.is_cuda:
        return None
    return optional(".pixel_kernels", None, "frames are resized on the CPU, slower")


def pil_neighbours(size: int, new_size: int) -> tuple[Tensor, Tensor]:
    """What PIL's bicubic filter (a = -0.5) makes each new pixel of: (new_size,) the first old one, and (taps, new_size)
    the weights of it and of those behind it, in PIL's integers."""
    scale = size / new_size
    stretch = max(scale, 1.0)
    centers = (np.arange(new_size) + 0.5) * scale
    first = np.maximum(0, np.trunc(centers - 2 * stretch + 0.5))
    last = np.minimum(size, np.trunc(centers + 2 * stretch + 0.5))
    pixels = first + np.arange(int((last - first).max()))[:, None]
    x = np.abs((pixels - centers + 0.5) / stretch)
    near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0)) * (pixels < last)
    fixed = weights / weights.sum(0) * 2**PIL_FRACTION_BITS
    fixed = np.trunc(fixed + np.copysign(0.5, fixed))
    return torch.from_numpy(first.astype(np.int32)), torch.from_numpy(fixed.astype(np.int32))


@functools.lru_cache(maxsize=8)
def _pil_neighbours(size: int, new_size: int, device: torch.device) -> tuple[Tensor, ...]:
    return tuple(part.to(device) for part in pil_neighbours(size, new_size))


@functools.lru_cache(maxsize=64)
def _pil_goes_vertical_first(height: int, width: int, new_height: int, new_width: int) -> bool:
    """Which axis the installed Pillow resizes first, seen on noise, where rounding in between shows.

    Pillow 12 and before always began with the horizontal one; later it depends on the sizes.
    """
    noise = np.random.default_rng(0).integers(0, 2, (height, width), dtype=np.uint8) * 255
    horizontal_first = _pil_resize(_pil_resize(noise, height, new_width), new_height, new_width)
    return not np.array_equal(_pil_resize(noise, new_height, new_width), horizontal_first)


def _pil_resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def _upload(frames: Tensor, device: torch.device) -> Tensor:
    """Frames on a GPU, copied while the GPU still works on what was queued before."""
    if frames.is_cuda:
        return frames
    uploads = torch.cuda.Stream(device)
    with torch.cuda.stream(uploads):
        on_device = frames.pin_memory().to(device, non_blocking=True)
    now = torch.cuda.current_stream(device)
    now.wait_stream(uploads)
    on_device.record_stream(now)
    return on_device


class VambaProcessor:
    """A Qwen2 tokenizer and the pixel settings of a checkpoint.

    Args:
        tokenizer: pads on the left from here on, as generation in batches needs it.
        settings: the released ones by default.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: PixelSettings | None = None) -> None:
        self.tokenizer = tokenizer
        self.tokenizer.padding_side = "left"
        self.settings = settings or PixelSettings()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike, *, trust_remote_code: bool = False, **kwargs: Any
    ) -> VambaProcessor:
        """From a folder or a Hub name; keyword arguments (revision, cache_dir, ...) are transformers' own.

        Args:
            trust_remote_code: whether a tokenizer's code that comes with the checkpoint may run.

        Raises:
            OSError: when the tokenizer or `preprocessor_config.json` is missing.
            ValueError: when the tokenizer needs code of its own that is not trusted.
        """
        path = str(pretrained_model_name_or_path)
        file = cached_file(path, SETTINGS_FILE, **kwargs)
        settings = PixelSettings.from_dict(json.loads(Path(str(file)).read_text(encoding="utf-8")))
        # Not told, transformers may ask on the terminal.
        return cls(AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code, **kwargs), settings)

    def save_pretrained(self, save_directory: str | os.PathLike) -> None:
        """Write the tokenizer's files and `preprocessor_config.json`, with the released file's keys."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(folder)
        values = {
            "image_processor_type": "Qwen2VLImageProcessor",
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "resample": 3,  # PIL's number for bicubic
            **asdict(self.settings),
        }
        (folder / SETTINGS_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    def prompt(self, question: str, vision: bool = True) -> str:
        """One conversation turn in Qwen2's chat markup, the video (if any) before the question."""
        video = "<|vision_start|><|vision_end|>" if vision else ""
        return (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            f"<|im_start|>user\n{video}{question}<|im_end|>\n"
            "<|im_start|>assistant\n"
        )

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        videos: Tensor | np.ndarray | None = None,
        images: Tensor | np.ndarray | Image.Image | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Inputs of the model: token ids of finished prompts, padded on the left, and pixels.

        Args:
            text: one or more prompts, as `prompt` writes them.
            videos: the frames of one video, as `preprocess_frames` takes them.
            images: one image, (height, width, 3) uint8 or PIL's.

        Raises:
            ValueError: for `return_tensors` other than "pt".
        """
        if return_tensors != "pt":
            raise ValueError(f"return_tensors can only be 'pt', not {return_tensors!r}")
        inputs: dict[str, Any] = {}
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            encoded = self.tokenizer(texts, padding=True, return_tensors="pt")
            inputs |= {key: encoded[key].to(device) for key in ("input_ids", "attention_mask")}
        if videos is not None:
            pixels, grid = self.preprocess_frames(videos, device=device, dtype=dtype)
            inputs |= {"pixel_values_videos": pixels, "video_grid_thw": grid}
        if images is not None:
            still = torch.from_numpy(np.array(images)) if not isinstance(images, Tensor) else images
            pixels, grid = self.preprocess_frames(still[None], device=device, dtype=dtype)
            inputs |= {"pixel_values": pixels, "image_grid_thw": grid}
        return BatchFeature(inputs)

    def preprocess_frames(
        self,
        frames: Tensor | np.ndarray,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """`preprocess_frames` with this checkpoint's settings."""
        return preprocess_frames(frames, device=device, dtype=dtype, settings=self.settings)

    def segments(
        self,
        frames: Tensor | np.ndarray,
        segment_frames: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """`preprocess_frames` piece by piece, for `encode_video_segments`; together they are the whole video.

        Args:
            segment_frames: temporal patches a piece.
        """
        per_patch = self.settings.temporal_patch_size
        t, _, _ = self.settings.grid(*frames.shape[:3])
        target = torch.device(device) if device is not None else None
        for start in range(0, t, segment_frames):
            run = frames[start * per_patch : min(start + segment_frames, t) * per_patch]
            if target is not None and target.type == "cuda":
                run = _upload(torch.as_tensor(run), target)
            yield self.preprocess_frames(run, device=device, dtype=dtype)

    def num_tokens(self, frames: Tensor | np.ndarray) -> int:
        """Video tokens that these frames become."""
        return self.settings.num_tokens(*frames.shape[:3])

    def batch_decode(self, token_ids: Any) -> list[str]:
        """The texts of generated token ids, without special tokens."""
        return self.tokenizer.batch_decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

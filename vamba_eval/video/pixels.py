"""Decoded frames to RGB pixels at their final size: colors, rotation, resizing.

Knows nothing of files. The conversions are FFmpeg's; this module only tells it what a frame's tags mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vamba_eval.contracts import Sampling

if TYPE_CHECKING:
    import av

# Numbers of ISO/IEC 23091-2 (H.273) for matrix coefficients and of FFmpeg for ranges. What is not in the
# table (unspecified, RGB, YCgCo) is left to FFmpeg, which takes it as BT.601.
_BT601, _BT601_NTSC = 5, 6

_MATRIX = {1: 1, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9, 10: 9}
_LIMITED_RANGE, _FULL_RANGE = 1, 2


def rgb(frame: av.VideoFrame, codec: str) -> np.ndarray:
    """(H, W, 3) uint8, by the file's color tags, turned upright as its rotation metadata asks.

    Where chroma must be interpolated (more than 8 bits, odd heights), the field's two readers disagree:
    decord does it bilinearly, torchcodec bicubically. Material that decord was made for is read as decord
    reads it, the rest (more than 8 bits, AV1) as torchcodec does.
    """
    quarters = frame.rotation // 90 % 4
    space = _MATRIX.get(int(frame.colorspace), _BT601)
    format_says_full = frame.format.name.startswith("yuvj")
    full_range = format_says_full or int(frame.color_range) == _FULL_RANGE
    components = frame.format.components
    for_decord = codec not in ("av1", "libdav1d") and max(component.bits for component in components) <= 8
    interpolation = "BILINEAR" if for_decord else "BICUBIC"
    planes_are_yuv = not frame.format.is_rgb and len(components) >= 3
    if planes_are_yuv and (space != _BT601 or full_range != format_says_full):
        # swscale is told of the source's matrix and range only if it differs from the target's, which mean
        # nothing for RGB: so name another one.
        frame = frame.reformat(
            format="rgb24",
            src_colorspace=space,
            dst_colorspace=_BT601 if space != _BT601 else _BT601_NTSC,
            src_color_range=_FULL_RANGE if full_range else _LIMITED_RANGE,
            dst_color_range=_FULL_RANGE,
            interpolation=interpolation,
        )
    image = frame.to_ndarray(format="rgb24", interpolation=interpolation)
    return np.rot90(image, k=quarters) if quarters else image


def resized(image: np.ndarray, sampling: Sampling, num_frames: int | None = None) -> np.ndarray:
    """``image`` (H, W, 3), one of ``num_frames``, at the size that ``sampling`` gives it, by PIL's bicubic filter (the
    protocol's)."""
    height, width = sampling.size(image.shape[0], image.shape[1], num_frames)
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), resample=Image.Resampling.BICUBIC))

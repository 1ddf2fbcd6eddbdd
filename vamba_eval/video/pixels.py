"""Decoded frames to RGB pixels at their final size: colors, rotation, resizing.

Knows nothing of files. The conversions are FFmpeg's; this module only tells it what a frame's tags mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True)
class Geometry:
    """A frame's size as decoded, in pixels, and the nine numbers of its display matrix, None where it has none
    (FFmpeg's AV_FRAME_DATA_DISPLAYMATRIX, by rows: a point is shown at ``[x y 1]`` times it).

    The first frame's holds for a whole stream, as FFmpeg's command line takes it: a display matrix may stand in a
    message of that frame alone, and holds until another comes; what changes its size later is brought to the size it
    began with.
    """

    height: int
    width: int
    matrix: tuple[int, ...] | None

    @staticmethod
    def of(frame: av.VideoFrame) -> Geometry:
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
        numbers = None if matrix is None else tuple(np.frombuffer(matrix, np.int32).tolist())
        return Geometry(frame.height, frame.width, numbers)

    def turned_as(self, frame: av.VideoFrame) -> Geometry:
        """That of ``frame``, which follows: where it has another matrix, so that it is shown in the same size."""
        other = Geometry.of(frame)
        if other.matrix in (None, self.matrix):
            return self
        swap = other._transposes != self._transposes
        height, width = (self.width, self.height) if swap else (self.height, self.width)
        return Geometry(height, width, other.matrix)

    def shown_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height as shown of a frame that is decoded at this size."""
        return (height, width) if self._transposes else (width, height)

    @property
    def _transposes(self) -> bool:
        m = self.matrix
        return m is not None and abs(m[0]) + abs(m[4]) < abs(m[1]) + abs(m[3])

    def upright(self, image: np.ndarray) -> np.ndarray:
        """``image`` as it is to be shown: turned by the nearest number of quarters, and mirrored."""
        if self.matrix is None:
            return image
        right, down = self.matrix[0], self.matrix[4]
        if self._transposes:
            image, right, down = image.transpose(1, 0, 2), self.matrix[3], self.matrix[1]
        image = image[:, ::-1] if right < 0 else image
        return image[::-1] if down < 0 else image


def rgb(frame: av.VideoFrame, codec: str, shown_as: Geometry | None = None) -> np.ndarray:
    """(H, W, 3) uint8, by the file's color tags, in the size and the orientation of ``shown_as`` (default: its own).

    Where chroma must be interpolated (more than 8 bits, odd heights), the field's two readers disagree:
    decord does it bilinearly, torchcodec bicubically. Material that decord was made for is read as decord
    reads it, the rest (more than 8 bits, AV1) as torchcodec does.
    """
    shown_as = shown_as or Geometry.of(frame)
    space = _MATRIX.get(int(frame.colorspace), _BT601)
    format_says_full = frame.format.name.startswith("yuvj")
    full_range = format_says_full or int(frame.color_range) == _FULL_RANGE
    components = frame.format.components
    for_decord = codec not in ("av1", "libdav1d") and max(component.bits for component in components) <= 8
    interpolation = "BILINEAR" if for_decord else "BICUBIC"
    planes_are_yuv = not frame.format.is_rgb and len(components) >= 3
    size: dict[str, Any] = {"width": shown_as.width, "height": shown_as.height}
    if planes_are_yuv and (space != _BT601 or full_range != format_says_full):
        # swscale is told of the source's matrix and range only if it differs from the target's, which mean
        # nothing for RGB: so name another one.
        frame = frame.reformat(
            **size,
            format="rgb24",
            src_colorspace=space,
            dst_colorspace=_BT601 if space != _BT601 else _BT601_NTSC,
            src_color_range=_FULL_RANGE if full_range else _LIMITED_RANGE,
            dst_color_range=_FULL_RANGE,
            interpolation=interpolation,
        )
    return shown_as.upright(frame.to_ndarray(**size, format="rgb24", interpolation=interpolation))


def resized(image: np.ndarray, sampling: Sampling, num_frames: int | None = None) -> np.ndarray:
    """``image`` (H, W, 3), one of ``num_frames``, at the size that ``sampling`` gives it, by PIL's bicubic filter (the
    protocol's)."""
    height, width = sampling.size(image.shape[0], image.shape[1], num_frames)
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), resample=Image.Resampling.BICUBIC))

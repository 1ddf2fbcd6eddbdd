"""Image files as clips: folders of extracted frames, single pictures, and animated WebP, whose frames FFmpeg does not
read. Knows no decoder of videos."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from vamba_eval.contracts import Clip, FrameSampling, VideoError, system_reason
from vamba_eval.video.canvas import Canvas, Source
from vamba_eval.video.lengths import missing_bytes
from vamba_eval.video.pixels import resized
from vamba_eval.video.storage import StoredFile, patiently, read_whole

IMAGE_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def read_image(path: Path, sampling: FrameSampling) -> Clip:
    """A still image as a clip of one frame, sized as a frame would be. Raises VideoError."""
    image = resized(np.array(open_image(path)), sampling, 1)
    return Clip(image[None], np.zeros(1), np.zeros(1, dtype=np.int64), float("nan"), 0.0)


def open_image(file: Path) -> Image.Image:
    """An image file in RGB. Raises VideoError and MemoryError."""
    with _opened(file) as image:
        return image.convert("RGB")


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    content = read_whole(file)
    try:
        with Image.open(BytesIO(content)) as image:
            yield image
    except (OSError, EOFError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(f"{file} cannot be read as an image: {system_reason(error)}") from error


def is_animated_webp(path: Path) -> bool:
    """By the flag of its extended header (RFC 9649, 2.7). Raises VideoError and MemoryError where it cannot be read."""
    with StoredFile(path) as file:
        head = file.read_at(0, 21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 2)


def read_animated_webp(source: Source) -> Clip:
    """Each of its frames as it is drawn over those before, shown from the end of the last on. Raises VideoError."""
    if lacking := missing_bytes(source.path):
        raise VideoError(f"{source.path} is cut off: its last {lacking:,} bytes are missing; download it again")
    unknown_fps = float("nan")
    with _opened(source.path) as image:
        times = np.array([time / 1000 for time in _frame_times_ms(image, source)])
        canvas = Canvas(source, source.choose(times, unknown_fps, image.height, image.width))
        for position, index in enumerate(canvas.distinct):
            image.seek(index)
            canvas.place(position, np.asarray(image.convert("RGB")))
        return canvas.clip(times, unknown_fps)


def _frame_times_ms(image: Image.Image, source: Source) -> Iterator[int]:
    """They are known once a frame is decoded."""
    for number in range(getattr(image, "n_frames", 1)):
        source.hooks.alive()
        image.seek(number)
        image.load()
        yield image.info["timestamp"]


def read_folder(source: Source, frames_per_second: float | None) -> Clip:
    """Read a clip from a folder of extracted frames, whose times are unknown without ``frames_per_second``. Raises
    VideoError."""
    files, first_number = folder_frames(source.path)
    width, height = open_image(files[0]).size
    fps = float("nan") if frames_per_second is None else frames_per_second
    if frames_per_second is None and (source.start_s is not None or source.end_s is not None):
        raise VideoError(f"{source.path}: extracted frames have no times, so no part between two times can be read")
    times = np.arange(len(files)) / fps
    canvas = Canvas(source, source.choose(times, fps, height, width, first_number))
    for position, index in enumerate(canvas.distinct):
        canvas.place(position, np.asarray(open_image(files[index])))
    return canvas.clip(times, fps)


# How frames are called, and the number of the first: the Vamba scripts' folders, and TVQA's (in MVBench).
_FRAME_NAMES = ((re.compile(r"frame_(\d+)\.(?:jpe?g|png)"), 0), (re.compile(r"(\d+)\.(?:jpe?g|png)"), 1))


def folder_frames(path: Path) -> tuple[list[Path], int]:
    """The frames in order, and the number of the first in its name."""
    files = patiently(lambda: list(path.iterdir()))
    for form, first in _FRAME_NAMES:
        if named := [(int(match.group(1)), file) for file in files if (match := form.fullmatch(file.name))]:
            return _in_order(path, named, first), first
    raise VideoError(f"{path} is a folder without frames (expected frame_0.jpg, ... or 00001.jpg, ...)")


def _in_order(path: Path, named: list[tuple[int, Path]], first: int) -> list[Path]:
    numbered = dict(named)
    if len(numbered) != len(named):
        twice = next(number for number, file in named if numbered[number] != file)
        raise VideoError(f"{path} has frame number {twice} more than once: extract its frames again")
    missing = next((number for number in range(first, first + len(named)) if number not in numbered), None)
    if missing is not None:
        example = numbered[min(numbered)].name
        name = re.sub(r"\d+", lambda digits: str(missing).zfill(len(digits[0])), example)
        raise VideoError(f"{path}: {name} is missing; extract its frames again")
    return [numbered[number] for number in sorted(numbered)]

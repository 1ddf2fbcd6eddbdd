"""Frames as an endpoint takes them: pictures in data URLs, one video of JPEGs with its times, or the file itself."""

from __future__ import annotations

import base64
import io
import math
import mimetypes
from collections.abc import Iterator
from typing import Any

import numpy as np

from vamba_eval.contracts import Clip


def encoded(frames: np.ndarray, image: str, quality: int) -> list[str]:
    """Each of the frames (T, H, W, 3) in base64, as a "jpeg" of that quality or as a "png", which loses nothing."""
    from PIL import Image

    texts = []
    for frame in frames:
        file = io.BytesIO()
        if image == "jpeg":
            Image.fromarray(frame).save(file, "JPEG", quality=quality)
        else:
            Image.fromarray(frame).save(file, "PNG")
        texts.append(base64.b64encode(file.getvalue()).decode("ascii"))
    return texts


def image_parts(clip: Clip, pictures: list[str], image: str, *, times: bool) -> Iterator[dict[str, Any]]:
    """The parts of a message: each frame a picture, behind the captions that stand before it and, with ``times``, its
    time. Raises ValueError where times are asked for and not known."""
    if times and not np.isfinite(clip.timestamps_s).all():
        raise ValueError("times=true: this video's times are not known (extracted frames of unknown rate)")
    for place, picture in enumerate(pictures):
        for at, text in clip.captions:
            if at == place and text:
                yield text_part(text)
        if times:
            yield text_part(f"[{clip.timestamps_s[place]:.1f} s]")
        yield {"type": "image_url", "image_url": {"url": f"data:image/{image};base64,{picture}"}}
    for at, text in clip.captions:
        if at == len(pictures) and text:
            yield text_part(text)


def video_part(pictures: list[str]) -> dict[str, Any]:
    """The part of a message: one video, a row of JPEGs, which vLLM and SGLang know."""
    return {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{','.join(pictures)}"}}


def file_part(clip: Clip) -> dict[str, Any]:
    """The part of a message: the video's file as it is. Raises ValueError where no file shows what the clip does."""
    if clip.path is None:
        raise ValueError(
            "frames_as=file: no file shows just this (a part of a video, a folder of frames, or shuffled frames); "
            "use frames_as=images"
        )
    kind = mimetypes.guess_type(clip.path.name)[0] or "video/mp4"
    content = base64.b64encode(clip.path.read_bytes()).decode("ascii")
    return {"type": "video_url", "video_url": {"url": f"data:{kind};base64,{content}"}}


def video_metadata(clip: Clip) -> dict[str, Any]:
    """Where in the source the frames are, as vLLM takes it: without it, it keeps the first 32 frames and takes them
    for one a second. Raises ValueError where the source's rate is not known."""
    if not (math.isfinite(clip.source_fps) and clip.source_fps > 0):
        raise ValueError(
            "frames_as=video: this video's frame rate is not known, so the model would be told wrong times; "
            "use frames_as=images"
        )
    indices = [int(index) for index in clip.frame_indices]
    total = round(clip.duration_s * clip.source_fps) if math.isfinite(clip.duration_s) else 0
    # Frames that are shown several times may be more than the source has.
    total = max(total, max(indices) + 1, len(indices))
    video = {"num_frames": -1, "fps": clip.source_fps, "frames_indices": indices, "total_num_frames": total}
    return {"media_io_kwargs": {"video": video}}


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}

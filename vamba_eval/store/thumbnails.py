"""Small pictures of the frames that a model saw: one strip a clip, kept beside the run's records.

``<run>/thumbnails/<digest>.jpg`` holds a few frames side by side; the digest is the clip's, as the records have it, so
models that saw the same frames share it. Which frames these are stands in the JPEG's comment, as JSON. Nothing
depends on a strip: a run goes on where one cannot be written, a report is made without.
"""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vamba_eval.contracts import Clip, UserError
from vamba_eval.files import read_of_others, replace_bytes
from vamba_eval.plain import json_value

log = logging.getLogger(__name__)

FOLDER = "thumbnails"
FRAMES = 8
WIDTH = 160  # pixels of one frame; upright ones get less, so that none is higher than wide
_QUALITY = 60
_MOST_BYTES = 2**22  # many times what a strip takes


@dataclass(frozen=True)
class Strip:
    """A written strip: ``jpeg`` shows ``len(frame_indices)`` frames of one width, side by side.

    ``frame_indices`` are positions in the video's presentation order, ``timestamps_s`` seconds since its first frame,
    None where unknown; ``total`` is how many frames the clip has; ``aspect`` is a frame's width by its height.
    """

    jpeg: bytes
    frame_indices: tuple[int, ...]
    timestamps_s: tuple[float | None, ...]
    total: int
    aspect: float


class Thumbnails:
    """Writes the strips of one run. After a first failure (a full disk, say) it warns and writes no more."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._broken = False

    def save(self, clip: Clip, digest: str) -> None:
        """Write the strip of ``clip`` if it is not there yet. Never raises."""
        self._keep(digest, lambda: strip_of(clip))

    def keep(self, jpeg: bytes, digest: str) -> None:
        """As ``save``, of a strip that was made elsewhere."""
        self._keep(digest, lambda: jpeg)

    def _keep(self, digest: str, make: Callable[[], bytes]) -> None:
        path = self._folder / f"{digest}.jpg"
        if self._broken or path.exists():
            return
        try:
            self._folder.mkdir(exist_ok=True)
            replace_bytes(path, make())
        except Exception as error:
            self._broken = True
            log.warning("no more thumbnails are kept in %s (%s); answers are not affected", self._folder, error)


def strip_of(clip: Clip) -> bytes:
    """The strip of ``clip``, as a JPEG."""
    from PIL import Image

    total, height, width = clip.frames.shape[:3]
    count = min(FRAMES, total)
    # The middles of equal parts: the whole clip is covered, its often black first frame is not what stands for it.
    chosen = [int((part + 0.5) * total / count) for part in range(count)]
    scale = min(1.0, WIDTH / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    strip = Image.new("RGB", (size[0] * count, size[1]))
    for place, frame in enumerate(chosen):
        strip.paste(Image.fromarray(clip.frames[frame]).resize(size, Image.Resampling.BOX), (place * size[0], 0))
    times = [float(clip.timestamps_s[frame]) for frame in chosen]
    about = {
        "frame_indices": [int(clip.frame_indices[frame]) for frame in chosen],
        "timestamps_s": [None if math.isnan(time) else round(time, 3) for time in times],
        "total": total,
    }
    jpeg = io.BytesIO()
    strip.save(jpeg, "JPEG", quality=_QUALITY, comment=json.dumps(about))
    return jpeg.getvalue()


def read_strip(run: Path, digest: str) -> Strip | None:
    """The strip of the clip ``digest`` in the folder ``run``; None if there is none that can be read."""
    from PIL import Image

    try:
        if "/" in digest:  # a record may say anything
            return None
        jpeg = read_of_others(run / FOLDER / f"{digest}.jpg", _MOST_BYTES)
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            about = json_value(image.info["comment"])
            width, height = image.size
        indices, times = tuple(map(int, about["frame_indices"])), about["timestamps_s"]
        seconds = tuple(None if time is None else float(time) for time in times)
        if not indices or len(indices) != len(seconds):
            return None
        aspect = round(width / len(indices) / height, 4)
        return Strip(jpeg, indices, seconds, int(about["total"]), aspect)
    except (OSError, LookupError, ValueError, TypeError, ArithmeticError, Image.DecompressionBombError, UserError):
        return None

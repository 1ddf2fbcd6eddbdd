"""What the synthetic benchmark's videos show: their scripts, their pictures, their files.

A picture of 112x112 pixels has a clock along its top, which ticks every ten seconds, and below it a shape, which
changes from scene to scene. Once, for a moment, a flag stands in the lower right corner; now and then a white border
surrounds the picture. Knows nothing of questions, tasks or models.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache, lru_cache
from math import cos, pi, sin
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vamba_eval.files import replacing

EDGE = 112
TICK_S = 10
LONGEST_S = 1200
# Shares of a video. Of 512 uniform frames at least three fall on the flag, two of which are a pair of Qwen2-VL's; of 8
# frames seldom one does. On each border at least six fall.
FLAG_SHARE, BORDER_SHARE = 3.2 / 512, 6.5 / 512
MOST_BORDERS = 6
COLORS = {
    "red": (215, 40, 40),
    "orange": (240, 145, 30),
    "yellow": (235, 220, 50),
    "green": (40, 165, 60),
    "cyan": (50, 200, 215),
    "blue": (50, 70, 220),
    "purple": (130, 50, 170),
    "pink": (245, 140, 190),
}
SHAPES = ("ball", "box", "tent", "cross", "star", "moon", "ring", "heart", "arrow", "house", "tree", "bolt")
_BACKGROUND, _PANEL, _WHITE = (58, 60, 64), (24, 25, 28), (255, 255, 255)


@dataclass(frozen=True)
class Look:
    """What one picture shows; ``clock`` is in seconds, a multiple of TICK_S."""

    shape: str
    color: str
    clock: int
    bordered: bool = False
    flag: str | None = None


@dataclass(frozen=True)
class Script:
    """What happens in one video; times are seconds.

    scenes   (start, color, shape), one after the other, no shape twice; the first starts at 0
    flag     (start, end, color)
    borders  (start, end) of each time that there is a white border
    """

    seconds: int
    scenes: tuple[tuple[int, str, str], ...]
    flag: tuple[float, float, str]
    borders: tuple[tuple[float, float], ...]

    def look(self, second: float) -> Look:
        """What is on screen at a second."""
        _, color, shape = next(scene for scene in reversed(self.scenes) if scene[0] <= second)
        start, end, flag = self.flag
        bordered = any(start <= second < end for start, end in self.borders)
        clock = int(second) // TICK_S * TICK_S
        return Look(shape, color, clock, bordered, flag if start <= second < end else None)


def write_script(rng: random.Random, seconds: int, flag_share: float = FLAG_SHARE) -> Script:
    """The same script for the same state of ``rng``, on every machine.

    ``seconds`` is a multiple of TICK_S, at least 60.
    """
    ticks, colors = seconds // TICK_S, list(COLORS)
    shapes = rng.sample(SHAPES, min(rng.randint(6, 10), ticks * 2 // 3))
    cuts = sorted(rng.sample(range(1, ticks), len(shapes) - 1))
    scenes = tuple((TICK_S * cut, rng.choice(colors), shape) for cut, shape in zip((0, *cuts), shapes, strict=True))
    # Two lengths of a border are between any two, so that each is one event to whoever watches.
    count, length = rng.randint(1, MOST_BORDERS), seconds * BORDER_SHARE
    gaps = sorted(rng.random() * (seconds - 3 * count * length) for _ in range(count))
    starts = [gap + (3 * n + 1) * length for n, gap in enumerate(gaps)]
    shown = seconds * flag_share + 1 / frame_rate(seconds)  # the file has its beginning and end at whole frames
    flag = rng.uniform(0.01 * seconds, 0.99 * seconds - shown)
    return Script(
        seconds,
        scenes,
        (flag, flag + shown, rng.choice(colors)),
        tuple((start, start + length) for start in starts),
    )


def frame_rate(seconds: int) -> int:
    """Frames per second of a video's file: low, and so that 512 uniform frames are 512 different ones."""
    return 5 if seconds < 260 else 2 if seconds < 520 else 1


def clock_text(second: int) -> str:
    return f"{second // 60:02d}:{second % 60:02d}"


# ---------------------------------------------------------------------------------------------- pictures


def draw(script: Script, second: float) -> np.ndarray:
    """(EDGE, EDGE, 3) uint8: the picture at a second."""
    picture = picture_of(script.look(second)).copy()
    # A dot that wanders keeps every frame distinct, as in a real video.
    x = 12 + int(second * 7) % 66
    picture[100:103, x : x + 3] = 150
    return picture


@lru_cache(maxsize=256)
def picture_of(look: Look) -> np.ndarray:
    """(EDGE, EDGE, 3) uint8, not to be written to."""
    image = Image.new("RGB", (EDGE, EDGE), _BACKGROUND)
    image.paste(_shape(look.shape, look.color), (12, 28))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, EDGE, 27), fill=_PANEL)
    for x, sign in zip((16, 38, 56, 74, 96), clock_text(look.clock), strict=True):
        pen.text((x, 15), sign, fill=(240, 240, 240), font=_font(), anchor="mm")
    if look.flag is not None:
        pen.rectangle((84, 82, 103, 101), fill=COLORS[look.flag])
    if look.bordered:
        pen.rectangle((0, 0, EDGE - 1, EDGE - 1), outline=_WHITE, width=6)
    return np.asarray(image)


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(25)


@cache
def _shape(shape: str, color: str) -> Image.Image:
    """Drawn on 112x112 pixels, whose middle 88 become 70."""
    image = Image.new("RGB", (112, 112), _BACKGROUND)
    pen, fill = ImageDraw.Draw(image), COLORS[color]

    def polygon(*points: tuple[float, float]) -> None:
        pen.polygon(points, fill=fill)

    if shape == "ball":
        pen.ellipse((20, 20, 91, 91), fill=fill)
    elif shape == "box":
        pen.rectangle((24, 24, 87, 87), fill=fill)
    elif shape == "tent":
        polygon((56, 18), (94, 90), (18, 90))
    elif shape == "cross":
        pen.rectangle((46, 18, 65, 93), fill=fill)
        pen.rectangle((18, 46, 93, 65), fill=fill)
    elif shape == "star":
        angles = [pi * (n / 5 - 0.5) for n in range(10)]
        polygon(*((56 + (40, 16)[n % 2] * cos(a), 58 + (40, 16)[n % 2] * sin(a)) for n, a in enumerate(angles)))
    elif shape == "moon":
        pen.ellipse((20, 18, 93, 91), fill=fill)
        pen.ellipse((42, 10, 107, 75), fill=_BACKGROUND)
    elif shape == "ring":
        pen.ellipse((18, 18, 93, 93), outline=fill, width=13)
    elif shape == "heart":
        pen.ellipse((20, 24, 58, 62), fill=fill)
        pen.ellipse((54, 24, 92, 62), fill=fill)
        polygon((23, 53), (89, 53), (56, 94))
    elif shape == "arrow":
        pen.rectangle((16, 47, 58, 65), fill=fill)
        polygon((58, 24), (97, 56), (58, 88))
    elif shape == "house":
        polygon((56, 16), (92, 48), (20, 48))
        pen.rectangle((28, 48, 84, 92), fill=fill)
        pen.rectangle((48, 66, 64, 92), fill=_BACKGROUND)
    elif shape == "tree":
        pen.rectangle((50, 70, 62, 94), fill=fill)
        pen.ellipse((28, 16, 84, 76), fill=fill)
    else:
        assert shape == "bolt", shape
        polygon((62, 14), (30, 60), (52, 60), (44, 98), (84, 46), (60, 46), (74, 14))
    return image.crop((12, 12, 100, 100)).resize((70, 70), Image.Resampling.BICUBIC)


# ---------------------------------------------------------------------------------------------- files


def render(script: Script, path: Path) -> None:
    """The video's file, H.264 in MP4, the same bytes every time."""
    import av

    rate = frame_rate(script.seconds)
    with replacing(path) as unfinished, av.open(str(unfinished), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = EDGE, EDGE, "yuv420p"
        # Slower presets and more threads give other bytes from one time to the next.
        stream.options, stream.thread_count = {"preset": "ultrafast", "crf": "18", "g": "60"}, 1
        for number in range(script.seconds * rate):
            frame = av.VideoFrame.from_ndarray(draw(script, number / rate), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())

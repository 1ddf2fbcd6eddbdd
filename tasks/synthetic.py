"""Synthetic: small generated videos of 2 to 8 minutes with questions that only their pixels answer.

The embedded default: needs no download, and asks what long-video benchmarks ask (a needle that shows for a
second, the order of events, how often something happens, what was on screen at a given time). Every
second of video is among 512 uniform frames, so a model that sees them all can answer everything.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vamba_eval.contracts import (
    LETTERS,
    Catalogue,
    Clip,
    Counts,
    FrameSampling,
    GenerationSettings,
    Question,
    Score,
    Task,
    Video,
)
from vamba_eval.files import replacing, user_cache
from vamba_eval.progress import Display
from vamba_eval.score.flexible import score_flexible
from vamba_eval.score.letters import extract_lmms, extract_vamba, score_choice

from ._annotations import (
    FLEXIBLE,
    FLEXIBLE_SETTINGS,
    HUB_PREFIX,
    LMMS_EVAL_ROOT,
    check_split,
    letter_instruction,
    letter_prompt,
    lettered,
)

WIDTH, HEIGHT, FPS = 224, 140, 10
DURATIONS_S = {"short": 120, "medium": 240, "long": 480}
VIDEOS_PER_DURATION = 3
COLORS = {
    "red": (210, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 210),
    "yellow": (225, 205, 50),
    "purple": (140, 60, 170),
}
SHAPES = ("circle", "square", "triangle", "cross")
WORDS = (
    "APPLE",
    "BRIDGE",
    "CASTLE",
    "DESERT",
    "ENGINE",
    "FOREST",
    "GARDEN",
    "HARBOR",
    "ISLAND",
    "JUNGLE",
    "LADDER",
    "MARKET",
)
_BACKGROUND = (96, 100, 104)
_FLASH = (250, 250, 250)
_LETTER_ONLY = "Answer with the option's letter from the given choices directly."


@dataclass(frozen=True)
class Script:
    """What happens in one video; all times are frame numbers.

    scenes: (first frame, color, shape), one after the other; needle: (first frame, word), for one second;
    flashes: first frames of one-second white borders.
    """

    name: str
    duration: str
    scenes: tuple[tuple[int, str, str], ...]
    needle: tuple[int, str]
    flashes: tuple[int, ...]

    @property
    def num_frames(self) -> int:
        return DURATIONS_S[self.duration] * FPS


class Synthetic(Task):
    name = "synthetic"
    version = "1"
    protocols = ("vamba", "lmms-eval", "flexible")
    catalogue = Catalogue(
        title="Synthetic long videos",
        homepage="generated on this machine",
        citation="vamba-eval",
        counts={"test": Counts(videos=9, questions=36)},
    )
    sampling = FrameSampling(num_frames=512, shortest_edge=None, longest_edge=None)

    def generation(self, protocol: str) -> GenerationSettings:
        if protocol == FLEXIBLE:
            return FLEXIBLE_SETTINGS
        return GenerationSettings(max_new_tokens=16)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        """The videos, generated into ``data_root/synthetic`` (or the user's cache) if they are not there yet."""
        check_split(self, split)
        local = data_root is not None and not str(data_root).startswith((HUB_PREFIX, LMMS_EVAL_ROOT))
        folder = (Path(data_root) if data_root and local else user_cache()) / self.name / f"v{self.version}"
        folder.mkdir(parents=True, exist_ok=True)
        scripts = [write_script(duration, n) for duration in DURATIONS_S for n in range(VIDEOS_PER_DURATION)]
        paths = {script.name: folder / f"{script.name}.mp4" for script in scripts}
        if missing := [script for script in scripts if not paths[script.name].exists()]:
            with Display() as display, display.bar("generating videos", len(missing)) as bar:
                for script in missing:
                    _encode(script, paths[script.name])
                    bar.advance()
        return [Video(script.name, paths[script.name], tuple(_questions(script))) for script in scripts]

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        options = lettered(question.options)
        if protocol == "lmms-eval":
            return "\n".join([question.text, *options, _LETTER_ONLY])
        return letter_prompt(question.text, question.options)

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return (_LETTER_ONLY if protocol == "lmms-eval" else letter_instruction(),)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        return score_choice(question, response, extract_lmms if protocol == "lmms-eval" else extract_vamba)


def write_script(duration: str, number: int) -> Script:
    """The same script for the same arguments, on every machine."""
    rng = random.Random(f"vamba-eval synthetic {duration} {number}")
    total = DURATIONS_S[duration] * FPS
    objects = [(color, shape) for color in COLORS for shape in SHAPES]
    rng.shuffle(objects)
    count = 6 if duration == "short" else 9 if duration == "medium" else 14
    starts = [round(total * (i + (0 if i == 0 else rng.uniform(-0.25, 0.25))) / count) for i in range(count)]
    scenes = tuple((start, *thing) for start, thing in zip(starts, objects, strict=False))
    # Events keep three seconds from one another, so that each is one event to whoever watches.
    slots = rng.sample(range(1, total // (3 * FPS) - 1), rng.randint(2, 7) + 1)
    needle, *flashes = (slot * 3 * FPS + rng.randrange(FPS) for slot in slots)
    return Script(f"{duration}_{number}", duration, scenes, (needle, rng.choice(WORDS)), tuple(sorted(flashes)))


def _questions(script: Script) -> Iterator[Question]:
    rng = random.Random(f"questions about {script.name}")

    def ask(kind: str, text: str, right: str, wrong: list[str]) -> Question:
        options = [right, *wrong]
        rng.shuffle(options)
        groups = {"duration": script.duration, "question_type": kind}
        return Question(f"{script.name}-{kind}", text, tuple(options), LETTERS[options.index(right)], groups)

    _, word = script.needle
    others = rng.sample([w for w in WORDS if w != word], 3)
    yield ask("needle", "Which word is written on the banner that shows for one second?", word, others)

    shown = sorted(rng.sample(range(len(script.scenes)), 3))
    names = [f"{script.scenes[i][1]} {script.scenes[i][2]}" for i in shown]
    orders = [", then ".join(names[i] for i in order) for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0))]
    yield ask("order", "In which order do these shapes appear?", orders[0], orders[1:])

    times = len(script.flashes)
    nearby = [n for n in range(max(1, times - 3), times + 4) if n != times]
    wrong = [str(n) for n in rng.sample(nearby, 3)]
    yield ask("count", "How many times does the border of the picture flash white?", str(times), wrong)

    number = rng.randrange(len(script.scenes))
    start, color, shape = script.scenes[number]
    end = script.scenes[number + 1][0] if number + 1 < len(script.scenes) else script.num_frames
    second = (start + end) // 2 // FPS
    absent = rng.sample([f"{c} {s}" for _, c, s in script.scenes if (c, s) != (color, shape)], 3)
    yield ask("moment", f"Which shape is on screen at {second // 60}:{second % 60:02d}?", f"{color} {shape}", absent)


# ---------------------------------------------------------------------------------------------- pictures


def draw(script: Script, frame: int) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8: the picture at ``frame``."""
    color, shape = next((c, s) for start, c, s in reversed(script.scenes) if start <= frame)
    word = script.needle[1] if 0 <= frame - script.needle[0] < FPS else ""
    flash = any(0 <= frame - start < FPS for start in script.flashes)
    picture = _picture(color, shape, word, flash).copy()
    # A dot that wanders keeps every frame distinct, as in a real video.
    x, y = 12 + frame * 3 % (WIDTH - 30), HEIGHT - 18
    picture[y : y + 6, x : x + 6] = 20
    return picture


@lru_cache(maxsize=64)
def _picture(color: str, shape: str, word: str, flash: bool) -> np.ndarray:
    image = Image.new("RGB", (WIDTH, HEIGHT), _BACKGROUND)
    pen = ImageDraw.Draw(image)
    left, top, right, bottom = WIDTH // 2 - 36, 28, WIDTH // 2 + 36, 100
    if shape == "circle":
        pen.ellipse((left, top, right, bottom), fill=COLORS[color])
    elif shape == "square":
        pen.rectangle((left, top, right, bottom), fill=COLORS[color])
    elif shape == "triangle":
        pen.polygon([(WIDTH // 2, top), (left, bottom), (right, bottom)], fill=COLORS[color])
    else:
        pen.rectangle((WIDTH // 2 - 10, top, WIDTH // 2 + 10, bottom), fill=COLORS[color])
        pen.rectangle((left, 54, right, 74), fill=COLORS[color])
    if word:
        pen.rectangle((20, 46, WIDTH - 20, 82), fill=(255, 255, 255))
        pen.text((WIDTH // 2, 64), word, fill=(0, 0, 0), font=ImageFont.load_default(28), anchor="mm")
    if flash:
        pen.rectangle((0, 0, WIDTH - 1, HEIGHT - 1), outline=_FLASH, width=8)
    return np.asarray(image)


def _encode(script: Script, path: Path) -> None:
    import av

    with replacing(path) as unfinished, av.open(str(unfinished), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        # Slower presets and more threads give other bytes from one time to the next.
        stream.options, stream.thread_count = {"preset": "ultrafast", "crf": "18", "g": "100"}, 1
        for number in range(script.num_frames):
            frame = av.VideoFrame.from_ndarray(draw(script, number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())

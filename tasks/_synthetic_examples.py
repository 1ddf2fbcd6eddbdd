"""Examples to train on, in the pictures of the synthetic benchmark: of other seeds, and easier ones before.

Functions of a number, as `run_eval.py train` takes them (docs/training.md): frames of 56x56 pixels, and what is asked
about them with what is to be answered. `picture` teaches what is in a picture, `slides` which things are in one picture
and which follow each other, `video` the benchmark's own questions; a `lesson` is one of these, easy ones first.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from vamba_eval.contracts import LETTERS

from . import _synthetic_videos as drawing
from ._synthetic_videos import COLORS, LONGEST_S, MOST_BORDERS, SHAPES, TICK_S, Look, clock_text, write_script
from .synthetic import KINDS, Facts, ask, facts_of, prompt

Example = tuple[np.ndarray, list[tuple[str, str]]]
EDGE = 56
_SHAPES, _COLORS = list(SHAPES), list(COLORS)


def picture(number: int) -> Example:
    """One frame, to be described."""
    rng = random.Random(f"picture {number}")
    look = Look(
        rng.choice(_SHAPES),
        rng.choice(_COLORS),
        rng.randrange(0, LONGEST_S, TICK_S),
        rng.random() < 0.3,
        rng.choice(_COLORS) if rng.random() < 0.5 else None,
    )
    border = "a white border" if look.bordered else "no border"
    flag = f"a {look.flag} flag" if look.flag else "no flag"
    said = f"{clock_text(look.clock)}, a {look.color} {look.shape}, {border}, {flag}"
    return _noisy(_frames([look], [7.0 * rng.random()]), number), [("Describe the picture.", said)]


def slides(
    number: int,
    counts: Sequence[int] = (2, 3, 4, 6, 8, 12),
    questions: int = 8,
    words: float = 0.6,
    named: float = 0,
    alike: int = 1,
    kinds: Sequence[str] = ("list", "when", "moment", "moment", "order", "order", "needle", "count"),
) -> Example:
    """A pair of frames each of ``counts`` pictures that have nothing to do with one another, their clocks neither.

    alike   so many examples after one another have the same number of pictures
    words   share of the questions that are answered in words; the others by an option's letter,
    named   a share of which behind the option itself
    """
    count = random.Random(f"slides {number // alike}").choice(counts)
    rng = random.Random(f"slide {number}")
    shapes, clocks = rng.sample(_SHAPES, count), rng.sample(range(0, LONGEST_S, TICK_S), count)
    borders = rng.randint(0 if count == 2 else 1, min(count // 2, MOST_BORDERS))
    gaps = sorted(rng.sample(range(count - borders + 1), borders))
    bordered = {gap + place for place, gap in enumerate(gaps)}  # with at least one picture between two
    flagged, flag = rng.randrange(count), rng.choice(_COLORS)
    looks = [
        Look(shape, rng.choice(_COLORS), clock, place in bordered, flag if place == flagged else None)
        for place, (shape, clock) in enumerate(zip(shapes, clocks, strict=True))
    ]
    frames = _frames(looks, [7.0 * rng.random() for _ in looks]).repeat(2, axis=0)
    facts = Facts(shapes, list(zip(clocks, shapes, strict=True)), flag, borders)
    return _noisy(frames, number), _asked(facts, kinds, questions, words, named, rng)


def video(
    number: int,
    counts: Sequence[int] = (64,),
    seconds: Sequence[int] = (120, LONGEST_S),
    flag_frames: float = 0,
    questions: int = 8,
    words: float = 0.3,
    named: float = 0,
    alike: int = 1,
    kinds: Sequence[str] = KINDS,
) -> Example:
    """A video like the benchmark's, or a piece of one, in one of ``counts`` uniform frames.

    seconds      the shortest and the longest; the clock begins anywhere
    flag_frames  on so many of the frames the flag is seen, if that is more than on the benchmark's
    """
    count = random.Random(f"frames {number // alike}").choice(counts)
    rng = random.Random(f"video {number}")
    shortest, longest = seconds
    length = round(shortest * (longest / shortest) ** rng.random() / TICK_S) * TICK_S
    script = write_script(rng, length, max(drawing.FLAG_SHARE, flag_frames / count))
    begins = rng.randrange(0, LONGEST_S - length + 1, TICK_S)
    times = np.linspace(0, length - 1 / drawing.frame_rate(length), count)
    looks = [replace(look, clock=look.clock + begins) for look in map(script.look, times)]
    facts = facts_of(script)
    facts = replace(facts, moments=[(second + begins, shape) for second, shape in facts.moments])
    return _noisy(_frames(looks, times), number), _asked(facts, kinds, questions, words, named, rng)


def lesson(number: int, course: Sequence[Mapping[str, Any]], alike: int = 1) -> Example:
    """What a course has at a number: easy things first.

    course  parts in their order, each of ``until`` (the number of examples at which it ends, counted from the first;
            without one it does not end) and ``of``: what is drawn from, as {"of": "slides", "share": 2, ...} with the
            arguments of `picture`, `slides` or `video`
    alike   so many examples after one another have frames of one number
    """
    place = number % 2**32  # training counts from a multiple of it
    part = next(part for part in course if place < part.get("until", math.inf))
    shares = [each.get("share", 1) for each in part["of"]]
    (drawn,) = random.Random(f"lesson {number // alike}").choices(part["of"], shares)
    arguments = {name: value for name, value in drawn.items() if name not in ("of", "share")}
    if drawn["of"] == "picture":
        return picture(number, **arguments)
    drawing_of = slides if drawn["of"] == "slides" else video
    return drawing_of(number, alike=alike, **arguments)


def texts() -> Iterator[str]:
    """All words that examples have, with those around them in a prompt: what a tokenizer is made of."""
    yield "system\nYou are a helpful assistant."
    yield from ("user\n", "assistant\n")
    for number in range(300):
        kinds = (*KINDS, "list", "when", "option", "options")
        for _, asked in (picture(number), video(number, (2,), words=0.5, named=0.5, kinds=kinds)):
            yield from (text for pair in asked for text in pair)
    for clock in range(0, LONGEST_S, TICK_S):
        yield clock_text(clock)


def _asked(
    facts: Facts, kinds: Sequence[str], questions: int, words: float, named: float, rng: random.Random
) -> list[tuple[str, str]]:
    asked = []
    for _ in range(questions):
        kind = rng.choice(kinds)
        if kind == "list":
            some = rng.sample(facts.moments, min(4, len(facts.moments)))
            asked.append(("What is shown when?", ", ".join(f"{clock_text(clock)} {shape}" for clock, shape in some)))
            continue
        if kind == "sequence":
            asked.append(("Which shape comes after which?", "".join(f" {shape}" for shape in facts.shapes)))
            continue
        if kind == "options":
            options = _any_options(rng)
            said = ",".join(f" {options[place]} {LETTERS[place]}" for place in rng.sample(range(4), 4))
            asked.append((prompt("Which letter has which option?", options, "vamba"), said))
            continue
        if kind == "when":
            clock, shape = rng.choice(facts.moments)
            asked.append((f"What does the clock show when the {shape} is on screen?", clock_text(clock)))
            continue
        if kind == "option":
            options = _any_options(rng)
            right = rng.choice(options)
            text = f"Which of these is {right}?"
        else:
            text, right, wrong = ask(kind, facts, rng)
            if rng.random() < words:
                # With the space before it a word is the token that it is among options.
                asked.append((f"{text}\nAnswer in one word.", f" {right}"))
                continue
            options = [right, *wrong]
            rng.shuffle(options)
        letter = LETTERS[options.index(right)]
        if rng.random() < named:
            asked.append((f"{prompt(text, options, 'vamba')}\nName the option, too.", f" {right} {letter}"))
        else:
            asked.append((prompt(text, options, "lmms-eval" if rng.random() < 0.2 else "vamba"), letter))
    return asked


def _any_options(rng: random.Random) -> list[str]:
    numbers = [str(n) for n in range(1, MOST_BORDERS + 1)]
    return rng.sample(rng.choice((_SHAPES, _COLORS, numbers)), 4)


# ---------------------------------------------------------------------------------------------- frames


def _frames(looks: Sequence[Look], times: Sequence[float] | np.ndarray) -> np.ndarray:
    """(looks, EDGE, EDGE, 3) uint8, as `drawing.draw` and PIL's bicubic filter make them, from parts made once."""
    bodies, strips, corners = _parts()
    shape = np.array([_SHAPES.index(look.shape) for look in looks])
    color = np.array([_COLORS.index(look.color) for look in looks])
    clock = np.array([look.clock // TICK_S for look in looks])
    bordered = np.array([int(look.bordered) for look in looks])
    flag = np.array([0 if look.flag is None else 1 + _COLORS.index(look.flag) for look in looks])
    frames = bodies[shape, color, bordered]
    frames[:, :13] = strips[clock, bordered]
    there = flag > 0
    frames[there, 40:52, 41:53] = corners[flag[there]]
    column = 6 + (np.asarray(times) * 7).astype(int) % 66 // 2
    frames[np.arange(len(looks))[:, None], 50, column[:, None] + np.arange(2)] = 130
    return frames


def _noisy(frames: np.ndarray, number: int) -> np.ndarray:
    """With a little noise, in the place of the encoder's."""
    noise = np.random.default_rng(number).integers(-4, 5, frames.shape, np.int8)
    return (frames.astype(np.int16) + noise).clip(0, 255).astype(np.uint8)


@cache
def _parts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole pictures by shape, color and border; upper strips by tick and border; right lower corners by flag."""

    def seen(look: Look) -> np.ndarray:
        picture = Image.fromarray(drawing.picture_of(look))
        return np.asarray(picture.resize((EDGE, EDGE), Image.Resampling.BICUBIC))

    borders = (False, True)
    bodies = np.array([[[seen(Look(s, c, 0, b)) for b in borders] for c in _COLORS] for s in _SHAPES])
    ticks = range(0, LONGEST_S, TICK_S)
    strips = np.array([[seen(Look("ball", "red", tick, b))[:13] for b in borders] for tick in ticks])
    corners = np.array([seen(Look("ball", "red", 0, False, c))[40:52, 41:53] for c in (None, *_COLORS)])
    return bodies, strips, corners

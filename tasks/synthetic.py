"""Synthetic: small generated videos of 2 to 20 minutes with questions that only their pixels answer.

The embedded default: needs no download, and asks what long-video benchmarks ask. *Needle*: the color of a flag that
shows for a moment, once. *Order*: which shape follows another. *Count*: how often a white border appears. *Moment*:
what is on screen when the clock, which is on screen too, shows a given time. Whoever sees 512 uniform frames can
answer everything.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
from vamba_eval.files import remove_unfinished, user_cache
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
from ._synthetic_videos import COLORS, MOST_BORDERS, SHAPES, TICK_S, Script, clock_text, render, write_script

DURATIONS_S = {"short": (120, 300), "medium": (300, 600), "long": (600, 1200)}
VIDEOS_PER_DURATION = 18
KINDS = ("needle", "order", "count", "moment")
_LETTER_ONLY = "Answer with the option's letter from the given choices directly."


class Synthetic(Task):
    name = "synthetic"
    version = "2"
    protocols = ("vamba", "lmms-eval", "flexible")
    catalogue = Catalogue(
        title="Synthetic long videos",
        homepage="generated on this machine",
        citation="vamba-eval",
        counts={"test": Counts(videos=54, questions=216)},
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
        videos = [video(folder, duration, n) for duration in DURATIONS_S for n in range(VIDEOS_PER_DURATION)]
        remove_unfinished(folder)
        if missing := [(each, script) for each, script in videos if not each.path.exists()]:
            with Display() as display, display.bar("generating videos", len(missing)) as bar:
                for each, script in missing:
                    render(script, each.path)
                    bar.advance()
        return [each for each, _ in videos]

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return prompt(question.text, question.options, protocol)

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return (_LETTER_ONLY if protocol == "lmms-eval" else letter_instruction(),)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        return score_choice(question, response, extract_lmms if protocol == "lmms-eval" else extract_vamba)


def video(folder: Path, duration: str, number: int) -> tuple[Video, Script]:
    """The benchmark's video of a number among those of a duration, and its script; the file need not be there."""
    name = f"{duration}_{number:02d}"
    rng = random.Random(f"vamba-eval synthetic 2 {name}")
    shortest, longest = DURATIONS_S[duration]
    script = write_script(rng, rng.randrange(shortest, longest, TICK_S))
    facts, questions = facts_of(script), []
    for place, kind in enumerate(KINDS):
        text, right, options = ask(kind, facts, rng)
        answer = (number + place) % (len(options) + 1)  # each letter is right as often, so that none is a good guess
        options.insert(answer, right)
        groups = {"duration": duration, "question_type": kind}
        questions.append(Question(f"{name}-{kind}", text, tuple(options), LETTERS[answer], groups))
    return Video(name, folder / f"{name}.mp4", tuple(questions)), script


@dataclass(frozen=True)
class Facts:
    """What there is to ask about a video.

    shapes   in the order in which they appear, each once
    moments  (second on the clock, shape)
    flag     its color
    borders  how many times there is one
    """

    shapes: Sequence[str]
    moments: Sequence[tuple[int, str]]
    flag: str
    borders: int


def facts_of(script: Script) -> Facts:
    """What a script shows; a moment is one of the clock's ticks."""
    moments = [(second, script.look(second).shape) for second in range(0, script.seconds, TICK_S)]
    return Facts([shape for _, _, shape in script.scenes], moments, script.flag[2], len(script.borders))


def ask(kind: str, facts: Facts, rng: random.Random) -> tuple[str, str, list[str]]:
    """A question, its answer, and three other options: shapes that are shown, as far as there are as many."""
    shown: Sequence[str] = facts.shapes
    absent = [shape for shape in SHAPES if shape not in shown]
    if kind == "needle":
        text, right = "Which color is the flag that shows once?", facts.flag
        others = [color for color in COLORS if color != right]
        return text, right, rng.sample(others, 3)
    if kind == "count":
        text, right = "How many times does a white border appear?", str(facts.borders)
        others = [str(times) for times in range(1, MOST_BORDERS + 1) if times != facts.borders]
        return text, right, rng.sample(others, 3)
    if kind == "order":
        place = rng.randrange(len(shown) - 1)
        text, right = f"Which shape comes right after the {shown[place]}?", shown[place + 1]
        others = [shape for shape in shown if shape not in (shown[place], right)]
    else:
        assert kind == "moment", kind
        second, right = rng.choice(facts.moments)
        text = f"Which shape is on screen when the clock shows {clock_text(second)}?"
        others = [shape for shape in shown if shape != right]
    others += rng.sample(absent, max(0, 3 - len(others)))
    return text, right, rng.sample(others, 3)


def prompt(text: str, options: Sequence[str], protocol: str) -> str:
    """What is asked under a protocol."""
    if protocol == "lmms-eval":
        return "\n".join([text, *lettered(options), _LETTER_ONLY])
    return letter_prompt(text, options)

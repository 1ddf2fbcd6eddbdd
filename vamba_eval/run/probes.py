"""Asking the same thing otherwise: what a score owes to the order of options, to wording, and to the order of frames.

A video is encoded once whatever is asked about it, so that further trials cost only their prompts and responses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vamba_eval.contracts import LETTERS, Question, Task, Trial, UserError, Video

# Instead of a protocol's instruction. They ask for the same, a letter alone, in words of other length and order.
WORDINGS = (
    "Watch the video and choose the right option. Reply with its letter alone: {letters}.",
    "Going by the video, which of the options below answers the question? Write {letters} and nothing else.",
    "This is a multiple-choice question about the video. Exactly one option is right; your whole answer is its letter "
    "({letters}).",
    "Give only the letter ({letters}) of the option that fits what the video shows.",
)
# Options that speak of others by their place or letter mean something else in another order.
_SPEAKS_OF_OTHERS = re.compile(
    r"\b(?:above|below)\b|\b(?:all|none|both|neither|either|any) of (?:the|these|those) (?:options|choices|answers)\b"
    r"|\b(?:option|choice|answer)s? \(?[A-H]\b|\b(?:both|either|neither) \(?[A-H]\)? (?:and|or|nor) \(?[A-H]\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Probes:
    """In what other ways questions are asked; with nothing given, as the protocol asks.

    rotate_options    each question with its options turned by 0, 1, ... places: in so many orders, or in "all" that it
                      has. Questions that cannot be turned (an option says "none of the above") are asked in their order
    prompt_variants   each question in so many wordings of the instruction, the protocol's own among them
    shuffle_frames    frames are shown in another order, the same for all models
    """

    rotate_options: int | Literal["all"] | None = None
    prompt_variants: int = 1
    shuffle_frames: bool = False

    def __post_init__(self) -> None:
        orders, wordings = self.rotate_options, self.prompt_variants
        if orders is not None and orders != "all" and orders < 2:
            raise UserError(f"options can be rotated into 2 orders or more (or all), not {orders}")
        if not 1 <= wordings <= 1 + len(WORDINGS):
            raise UserError(
                f"there are {1 + len(WORDINGS)} wordings, the protocol's own among them: the number of prompt variants "
                f"is from 1 to {1 + len(WORDINGS)}, not {wordings}"
            )

    @property
    def asks_again(self) -> bool:
        return self.rotate_options is not None or self.prompt_variants > 1

    def describe(self) -> dict[str, Any]:
        """For a fingerprint: what is given."""
        given: dict[str, Any] = {}
        if self.rotate_options is not None:
            given["rotate_options"] = self.rotate_options
        if self.prompt_variants > 1:
            given["prompt_variants"] = self.prompt_variants
        if self.shuffle_frames:
            given["shuffle_frames"] = True
        return given

    def trials(self, task: Task, question: Question, seeds: Sequence[int]) -> list[Trial]:
        """The times that ``question`` is asked: seed by seed, as the protocol asks it first."""
        orders = range(self._orders(task, question))
        wordings = range(self.prompt_variants if question.options and question.problem is None else 1)
        return [Trial(seed, order, wording) for seed in seeds for order in orders for wording in wordings]

    def _orders(self, task: Task, question: Question) -> int:
        count = len(question.options)
        if self.rotate_options is None or count < 2 or question.problem is not None:
            return 1
        if any(_SPEAKS_OF_OTHERS.search(option) for option in question.options) or task.rotated(question, 1) is None:
            return 1
        return count if self.rotate_options == "all" else min(count, self.rotate_options)

    def check(self, task: Task, videos: Sequence[Video]) -> None:
        """Raise UserError where ``task`` has no question that could be asked otherwise."""
        if self.asks_again and not any(question.options for video in videos for question in video.questions):
            option = "--rotate-options" if self.rotate_options is not None else "--prompt-variants"
            raise UserError(f"{task.name} has no questions with options, so {option} has no effect: leave it out")


def put(task: Task, question: Question, trial: Trial) -> Question:
    """``question`` as it is asked in that trial."""
    if not trial.rotation:
        return question
    turned = task.rotated(question, trial.rotation)
    if turned is None:
        raise ValueError(f"the options of {question.id!r} cannot be rotated")
    return turned


def reworded(prompt: str, instructions: Sequence[str], variant: int, num_options: int) -> str:
    """``prompt`` with the wording of that number in the place of the first of ``instructions``, without the others.

    Raises ValueError where one of them is not in the prompt.
    """
    if not variant:
        return prompt
    *letters, last = list(LETTERS[:num_options])
    listed = f"{', '.join(letters)}{',' if len(letters) > 1 else ''} or {last}" if letters else last
    wording = WORDINGS[variant - 1].format(letters=listed)
    if not instructions:
        return f"{wording}\n{prompt}"
    for place, passage in enumerate(instructions):
        before, found, behind = prompt.partition(passage)
        if not found:
            raise ValueError(f"the prompt does not hold its instruction {passage!r}")
        # What goes leaves no empty line.
        prompt = before + wording + behind if not place else before.removesuffix("\n") + behind
    return prompt

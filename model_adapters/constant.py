"""Always the same letter, without looking at the video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vamba_eval.contracts import LETTERS, Answer, Clip, GenerationSettings, ModelAdapter, UserError


class ConstantAdapter(ModelAdapter):
    name = "constant"
    reads_video = False

    def __init__(self, letter: str = "A") -> None:
        if letter not in tuple(LETTERS):
            raise UserError(f"letter is {letter!r}: give one capital letter")
        self.letter = letter

    def describe(self) -> dict[str, Any]:
        return {"letter": self.letter}

    def encode(self, clip: Clip | None) -> None:
        return None

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        return [Answer(self.letter, num_tokens=1) for _ in prompts]

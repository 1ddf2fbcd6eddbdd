"""Always the same letter, without looking at the video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vamba_eval.contracts import Answer, Clip, GenerationSettings, ModelAdapter


class ConstantAdapter(ModelAdapter):
    name = "constant"
    reads_video = False

    def __init__(self, letter: str = "A") -> None:
        self.letter = letter

    def describe(self) -> dict[str, Any]:
        return {"letter": self.letter}

    def encode(self, clip: Clip | None) -> None:
        return None

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        return [Answer(self.letter, num_tokens=1) for _ in prompts]

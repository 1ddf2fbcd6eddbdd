"""Guesses: a letter drawn for each question, seeded, without looking at the video."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from vamba_eval.contracts import LETTERS, Answer, Clip, GenerationSettings, ModelAdapter


class RandomAdapter(ModelAdapter):
    name = "random"
    reads_video = False

    def __init__(self, seed: int = 0) -> None:
        self.seed = int(seed)

    def describe(self) -> dict[str, Any]:
        return {"seed": self.seed, "seeded_by": "question"}

    def encode(self, clip: Clip | None) -> None:
        return None

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        # Seeded by the question, so that a guess depends on neither the order of questions nor a restart, and differs
        # where questions have the same text.
        seed = self.seed + settings.seed
        return [Answer(self._guess(prompt, seed), num_tokens=1) for prompt in prompts]

    @staticmethod
    def _guess(prompt: str, seed: int) -> str:
        options = getattr(prompt, "num_options", 0) or 4
        question = getattr(prompt, "question_id", "") or prompt
        return random.Random(f"{seed} {question}").choice(LETTERS[:options])

"""Models that never come back from where a test says, each in its own way; ``log`` gets a line for what they are at."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from vamba_eval.contracts import Answer, Clip, GenerationSettings, ModelAdapter, ServedModel


class Hanging(ModelAdapter):
    """Hangs in Python (``sleep``), in native code that holds the interpreter (``hold``), or deaf to being ended
    (``deaf``), at the prompt ``at``; or with ``encode`` at every video. Each answer takes ``seconds``."""

    name = "hanging"

    def __init__(self, log: str, at: str = "", how: str = "sleep", batch: str = "1", seconds: str = "0") -> None:
        self.log, self.at, self.how, self.batch_size, self.seconds = log, at, how, int(batch), float(seconds)

    def describe(self) -> dict[str, Any]:
        return {}

    def encode(self, clip: Clip | None) -> None:
        self._note("encode")
        if self.how == "encode":
            time.sleep(3600)

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        self._note(" + ".join(prompts))
        time.sleep(self.seconds)
        if self.at in prompts and self.how == "hold":
            sum(itertools.repeat(0))
        elif self.at in prompts:
            self._sleep()
        return [Answer("A", 1)] * len(prompts)

    def _sleep(self) -> None:
        try:
            time.sleep(3600)
        except BaseException:
            if self.how != "deaf":
                raise
            time.sleep(3600)

    def _note(self, text: str) -> None:
        with open(self.log, "a") as file:
            file.write(f"{text}\n")


class HangingService(ServedModel):
    """Hangs at the prompt ``at``: waiting (``wait``), deaf to being given up (``deaf``), or holding up its event loop
    (``hold``)."""

    name = "service"

    def __init__(self, at: str = "", how: str = "wait", concurrency: int = 2) -> None:
        self.at, self.how, self.concurrency = at, how, concurrency
        self.given_up = 0

    async def answer(
        self, clip: Clip | None, prompts: Sequence[str], settings: GenerationSettings
    ) -> AsyncIterator[tuple[int, Answer | Exception]]:
        for place, prompt in enumerate(prompts):
            await asyncio.sleep(0.05)
            if prompt == self.at:
                await self._hang()
            yield place, Answer("A", 1)

    async def _hang(self) -> None:
        if self.how == "hold":
            time.sleep(3600)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.given_up += 1
            if self.how != "deaf":
                raise
            await asyncio.sleep(3600)

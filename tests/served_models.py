"""Served models written for tests: an engine in the same process, which waits instead of computing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from vamba_eval.contracts import Answer, Clip, GenerationSettings, Seen, ServedModel, UserError


class Engine(ServedModel):
    """Answers the last prompt first, each after a while; after ``kill_after`` answers it kills its process."""

    name = "engine"

    def __init__(self, concurrency: int = 3, log: str = "", kill_after: int = 0, seconds: float = 0.01) -> None:
        self.concurrency, self.log, self.kill_after = int(concurrency), log, int(kill_after)
        self.seconds = float(seconds)
        self.in_flight = self.most = self.answered = 0
        self.closed = False

    def describe(self) -> dict[str, Any]:
        return {"revision": 7}

    async def answer(
        self, clip: Clip | None, prompts: Sequence[str], settings: GenerationSettings
    ) -> AsyncIterator[tuple[int, Answer | Exception]]:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        if self.log:
            with open(self.log, "a") as file:
                file.write(json.dumps([None if clip is None else len(clip.frames), len(prompts)]) + "\n")
        try:
            for place in reversed(range(len(prompts))):
                await asyncio.sleep(self.seconds)
                if "stumble" in prompts[place]:
                    yield place, ValueError("the server says 500")
                elif "vanish" in prompts[place]:
                    raise ConnectionError("the server is gone")
                elif "quit" in prompts[place]:
                    while self.in_flight < 2:  # another video's answers are still to come
                        await asyncio.sleep(self.seconds / 10)
                    raise UserError("the key is wrong")
                elif "forget" not in prompts[place]:
                    yield place, self._answer(prompts[place], settings)
        finally:
            self.in_flight -= 1

    def _answer(self, prompt: str, settings: GenerationSettings) -> Answer:
        self.answered += 1
        if self.kill_after and self.answered > self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        letter = "AB"[settings.seed % 2]
        return Answer(letter, 3, "stop", 100, thinking=f"so: {prompt}", cached_tokens=60, price=0.002)

    def seen(self, clip: Clip) -> Seen:
        frames, height, width = clip.frames.shape[:3]
        return Seen(frames, height, width, frames * 4, kind="images", times=True)

    def close(self) -> None:
        self.closed = True


class Teller(Engine):
    """Knows what it saw when it has answered."""

    name = "teller"

    def seen(self, clip: Clip) -> None:
        return None

    def _answer(self, prompt: str, settings: GenerationSettings) -> Answer:
        answer = super()._answer(prompt, settings)
        answer.seen = Seen(4, 28, 56, 16)
        return answer


class Babbler(Engine):
    """Says what is no answer, in turns: a text, the same place twice, a place that nobody asked about."""

    name = "babbler"

    async def answer(
        self, clip: Clip | None, prompts: Sequence[str], settings: GenerationSettings
    ) -> AsyncIterator[tuple[int, Any]]:
        yield 0, "A"
        yield 1, Answer("A")
        yield 1, Answer("B")


def plugin(name: str) -> str:
    return f"{Path(__file__)}:{name}"

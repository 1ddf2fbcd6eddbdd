"""A task and models of somebody else, named by path. A test's data root says how they behave."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vamba_eval.contracts import (
    Answer,
    Catalogue,
    Clip,
    GenerationSettings,
    ModelAdapter,
    Question,
    Score,
    Seen,
    Task,
    Video,
)
from vamba_eval.score.letters import extract_vamba, score_choice


class FolderTask(Task):
    """Two questions about each .mp4 file of a folder."""

    name = "folder"
    version = "1"
    catalogue = Catalogue(
        title="A folder of videos",
        homepage="nowhere",
        citation="none",
    )

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        self.defects = []
        videos = []
        for path in sorted(Path(str(data_root)).glob("*.mp4")):
            questions = tuple(
                Question(f"{path.stem}-{n}", f"{path.stem} {n}?", ("yes", "no"), "AB"[n % 2]) for n in range(2)
            )
            videos.append(Video(path.stem, path, questions))
        return videos

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return question.text

    def score(self, question: Question, response: str, protocol: str) -> Score:
        return score_choice(question, response, extract_vamba)


class Careful(ModelAdapter):
    """Answers "A" and counts what it is asked to do; stumbles where a prompt says so."""

    name = "careful"
    encoded = 0
    asked: list[str] = []

    def __init__(self, seconds: float | str = 0.0) -> None:
        self.seconds = float(seconds)

    def encode(self, clip: Clip | None) -> Any:
        assert clip is not None
        type(self).encoded += 1
        return clip.frames.shape

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        assert len(encoded) == 4
        time.sleep(self.seconds)
        type(self).asked += list(prompts)
        if any("stumble 0" in prompt for prompt in prompts):
            raise RuntimeError("tripped over it\nand a second line")
        return [Answer("A", 1) for _ in prompts]


class Weightless(Careful):
    """Says that it was never trained."""

    name = "weightless"

    def describe(self) -> dict[str, Any]:
        return {"weights": "random"}


class OutOfMemoryError(RuntimeError):
    """As torch's, without torch."""


class Limited(ModelAdapter):
    """Takes frames up to a limit; what happens beyond is an argument. Trains, too. Needs no torch, so starts fast."""

    name = "limited"

    def __init__(self, limit: int | str = 16, then: str = "gpu", log: str = "", pretrained: str = "") -> None:
        self.limit, self.then, self.log = int(limit), then, log

    def encode(self, clip: Clip | None) -> Any:
        assert clip is not None
        if len(clip.frames) > 2 and self.log:  # two frames are for measuring the prompt
            with open(self.log, "a") as file:
                file.write(f"{len(clip.frames)} {os.getpid()}\n")
        if len(clip.frames) > self.limit:
            self._fail()
        return clip.frames.shape

    def _fail(self) -> None:
        if self.then == "gpu":
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.\nmore about it")
        if self.then == "torch":
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB.")
        if self.then == "host":
            import resource

            import numpy as np

            now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 28), resource.RLIM_INFINITY))
            np.ones(1 << 32, np.uint8)
        if self.then == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.then == "segfault":
            import ctypes

            ctypes.string_at(0)
        if self.then == "hang":
            time.sleep(600)
        raise RuntimeError("this is no number of frames for me\nreally")

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        time.sleep(0.01 + 0.002 * settings.max_new_tokens)
        tokens = 7 + len(prompts[0].split())
        return [Answer("A", max(1, settings.min_new_tokens), "length", prompt_tokens=tokens) for _ in prompts]

    def seen(self, encoded: Any) -> Seen:
        frames, height, width = encoded[:3]
        return Seen(frames, height, width, frames * 10)

    def train_step(self, clip: Clip, prompt: str, answer: str) -> float:
        self.encode(clip)
        return float(len(answer.split()))

"""Models, of two kinds and no third: weights in this process, and what is served. What both are asked and answer."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from vamba_eval.contracts.errors import UserError
from vamba_eval.contracts.training import Training
from vamba_eval.contracts.video import Clip


@dataclass(frozen=True)
class GenerationSettings:
    """How a response is decoded. The defaults are the Vamba paper's: greedy, at most 512 new tokens.

    ``until`` are texts at whose first occurrence the response ends, without them; adapters need not know of it.
    Raises ValueError for values that no decoding has.
    """

    max_new_tokens: int = 512
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int = 0
    min_new_tokens: int = 0  # only speed is measured with it: no response ends before
    until: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens <= 0:
            raise ValueError(f"max_new_tokens must be positive, not {self.max_new_tokens}")
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(f"min_new_tokens {self.min_new_tokens} is above max_new_tokens {self.max_new_tokens}")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature must be a finite number from 0 (greedy), not {self.temperature}")
        if self.do_sample and not self.temperature:
            raise ValueError("temperature must be positive where answers are sampled")
        if self.top_p is not None and not 0 < self.top_p <= 1:  # lmms-eval's logs may hold a null
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {self.top_k}; leave it out to sample among all tokens")

    def describe(self) -> dict[str, Any]:
        """What decides a response, for a fingerprint."""
        given = asdict(self)
        del given["min_new_tokens"]  # no run has it
        return {name: value for name, value in given.items() if value != ()}

    def cut(self, text: str) -> str:
        """``text`` up to the first of ``until`` in it."""
        return text[: min((at for end in self.until if end and (at := text.find(end)) >= 0), default=None)]

    @classmethod
    def lmms_eval(cls, max_new_tokens: int) -> GenerationSettings:
        """As lmms-eval decodes: greedily, up to an empty line (its default of ``until``, in api/task.py)."""
        return cls(max_new_tokens, until=("\n\n",))


class Prompt(str):
    """The text put to a model, which also knows how many options it offers and whose text it is (baselines need no
    more).

    question_id   of the question, unique within its task; "" where a text is no benchmark's
    """

    num_options: int
    question_id: str

    def __new__(cls, text: str, num_options: int = 0, question_id: str = "") -> Prompt:
        prompt = super().__new__(cls, text)
        prompt.num_options, prompt.question_id = num_options, question_id
        return prompt


@dataclass
class Answer:
    """A model's response.

    text            as the model said it, without its thinking
    num_tokens      generated ones, thinking included
    finish_reason   why it ended: "stop", or "length" where it was cut off
    prompt_tokens   of the question with everything that surrounds it; of a served model also the video's
    thinking        what the model thought before it answered, where that can be told apart; never scored
    cached_tokens   those of ``prompt_tokens`` that a server had in its cache
    price           what the endpoint asks for this answer, in dollars; None where nobody says
    served_by       what the endpoint calls the model that answered; it may be another one from day to day
    latency_s       seconds from its request to its answer, where a served model sends each when it has a place for it;
                    None counts from the moment the video was sent
    in_flight       requests of this model that were out when its own was sent, which is one of them; 0: not known
    seen            what a served model saw of the clip, where that is only known once it was asked
    """

    text: str
    num_tokens: int = 0
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    thinking: str = ""
    cached_tokens: int = 0
    price: float | None = None
    served_by: str = ""
    latency_s: float | None = None
    in_flight: int = 0
    seen: Seen | None = None


@dataclass(frozen=True)
class Seen:
    """What a model really saw of a clip, after everything that its own processing does to frames.

    frames          how many it was given
    height, width   of a frame, in pixels
    video_tokens    how many tokens it made of them; None where that is not known
    kind            "video", or "images" where each frame is a picture of its own
    times           whether it is told when each frame was
    kept_tokens     how many tokens of the prompt up to the question its cache keeps; None where that is all of them
    """

    frames: int
    height: int
    width: int
    video_tokens: int | None = None
    kind: Literal["video", "images"] = "video"
    times: bool = False
    kept_tokens: int | None = None


@dataclass(frozen=True)
class Likelihood:
    """How likely a given continuation is: the natural logarithm of its probability, the number of its tokens, and
    whether greedy decoding would have chosen each of them."""

    logprob: float
    num_tokens: int
    greedy: bool


class Model(ABC):
    """What both kinds of model say of themselves. A model never reports its own speed: the harness times it."""

    name: ClassVar[str]
    reads_video: ClassVar[bool] = True
    takes_captions: ClassVar[bool] = False  # whether it puts ``Clip.captions`` between the frames
    reported_as: ClassVar[str] = ""  # the model of results/published/efficiency.csv that this is

    @classmethod  # noqa: B027 - most have nothing to check
    def check_arguments(cls, **arguments: Any) -> None:
        """Raise UserError where the model cannot be built with ``arguments``, as far as that is known within seconds,
        before a library is imported and an annotation read. Optional: ``__init__`` checks everything anyway."""

    def describe(self) -> dict[str, Any]:
        """What identifies the model in a fingerprint: checkpoint, revision or weight hash, dtype, ..."""
        return {}

    def close(self) -> None:  # noqa: B027 - many hold nothing that needs closing
        """Give memory, devices and connections back."""


class ModelAdapter(Model):
    """Weights in this process, behind two calls, both of which the harness times.

    What it may say is where a phase within them begins and ends: ``phase("preprocess")`` around what makes
    the model's inputs of frames, and ``mark_first_token()`` (both of vamba_eval.cost.meter).
    """

    batch_size: int = 1  # prompts about one video that ``generate`` wants to be given at once

    @abstractmethod
    def encode(self, clip: Clip | None) -> Any:
        """Everything that depends on the video alone.

        ``clip`` is None if not ``reads_video``, and where a model that does is asked blind: ``generate`` then gets the
        same prompts with no video before them. A UserError ends the run and is shown to the user: it is for what is
        wrong with all videos. Any other exception costs this video alone.
        """

    @abstractmethod
    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        """Answers to ``prompts``, all about the encoded video, in their order: one, or up to ``batch_size``."""

    def seen(self, encoded: Any) -> Seen | None:
        """What the model saw of the clip that it encoded; None if it does not say, and where it was asked blind."""
        return None

    def train_step(self, clip: Clip, prompt: str, answer: str) -> float:
        """One training step without its optimizer: forward and backward with gradient checkpointing.

        The loss is that of ``answer``'s tokens, given the clip and ``prompt``; it is returned. Gradients of the step
        before are dropped first. For ``run_eval.py profile`` alone; leaves the model in training mode. Optional.
        """
        raise UserError(f"the model {self.name!r} cannot be trained: its adapter has no train_step")

    @classmethod
    def train(cls, training: Training) -> Path:
        """Train by the model's recipe; the folder of the trained model, which its ``pretrained`` argument takes.

        In each process of several that are started together (``accelerate launch``). Optional. Raises UserError.
        """
        raise UserError(f"the model {cls.name!r} cannot be trained: its adapter has no recipe")

    def loglikelihood(self, encoded: Any, prompts: Sequence[str], continuations: Sequence[str]) -> list[Likelihood]:
        """How likely each continuation is as the response to the prompt in its place. Optional."""
        raise UserError(f"the model {self.name!r} cannot say how likely a given response is")


class ServedModel(Model):
    """An engine or endpoint that holds many requests in flight; what is metered is latency, tokens and price.

    concurrency   videos that may be in flight at once, each with all that is asked about it
    """

    concurrency: int = 8

    @abstractmethod
    def answer(
        self, clip: Clip | None, prompts: Sequence[str], settings: GenerationSettings
    ) -> AsyncIterator[tuple[int, Answer | Exception]]:
        """Answers to ``prompts``, all about ``clip``, each with its place among them, in the order in which they come.

        An asynchronous generator (``async def`` with ``yield``). ``clip`` is None if not ``reads_video``, and where the
        model is asked blind. Where one question fails, its exception takes the place of its answer; an exception that
        is raised fails all that have none yet. A UserError that is raised says what every other request would meet as
        well, such as a wrong key: what is in flight ends, answers are kept, and the run ends with it. Called in one
        event loop, many times at once, for each benchmark in another one.
        """

    def seen(self, clip: Clip) -> Seen | None:
        """What the model sees of ``clip``; None if it does not say, or says it with its answers."""
        return None

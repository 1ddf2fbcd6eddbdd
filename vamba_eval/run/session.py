"""One clip encoded by a model in this process, and everything asked about it answered from that.

The only loop that puts prompts to a model: runs, lmms-eval's requests, questions typed by a user and profiles all go
through it. Knows no benchmark and records nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from vamba_eval.contracts import Answer, Clip, GenerationSettings, ModelAdapter, Prompt, Seen
from vamba_eval.cost.meter import Meter

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """A prompt about the clip; ``tag`` is whatever the caller knows it by."""

    prompt: Prompt | str
    settings: GenerationSettings
    tag: Any = None


@dataclass(frozen=True)
class Outcome:
    """What came of a request: an answer, or the exception in its place. ``batch`` were answered together."""

    request: Request
    answer: Answer | Exception
    batch: int = 1


class Session:
    """A clip (None: asked blind, or a model that reads none) that ``adapter`` has encoded, as the phase "encode".

    Raises whatever ``encode`` raises. ``seen`` is what the model saw of the clip; ``meter`` measures what follows, and
    may be replaced.
    """

    def __init__(self, adapter: ModelAdapter, clip: Clip | None, meter: Meter) -> None:
        self._adapter, self.meter = adapter, meter
        with meter.phase("encode"):
            self.encoded = adapter.encode(clip)
        self.seen: Seen | None = None if clip is None else adapter.seen(self.encoded)

    def answers(self, requests: Iterable[Request], phase: str = "generate") -> Iterator[list[Outcome]]:
        """What comes of ``requests``, as soon as it is known: in batches of up to the adapter's ``batch_size`` with the
        same settings. In their order and one by one, as they are asked for, where that is 1.

        A batch that fails is asked again one by one, so that a question fails only by itself.
        """
        for few in batches(requests, lambda request: request.settings, self._adapter.batch_size):
            try:
                found: Sequence[Answer | Exception] = self._generate(few, phase)
            except (Exception, SystemExit) as error:
                if len(few) == 1:
                    found = [_as_exception(error)]
                else:
                    for one in few:
                        yield from self._alone(one, phase)
                    continue
            yield [Outcome(request, answer, len(few)) for request, answer in zip(few, found, strict=True)]

    def answer(self, prompt: Prompt | str, settings: GenerationSettings, phase: str = "generate") -> Answer:
        """The answer to one prompt. Raises what its outcome would hold instead."""
        ((outcome,),) = self.answers([Request(prompt, settings)], phase)
        if isinstance(outcome.answer, Exception):
            raise outcome.answer
        return outcome.answer

    def _alone(self, request: Request, phase: str) -> Iterator[list[Outcome]]:
        try:
            (answer,) = self._generate([request], phase)
        except (Exception, SystemExit) as error:
            yield [Outcome(request, _as_exception(error))]
        else:
            yield [Outcome(request, answer)]

    def _generate(self, few: Sequence[Request], phase: str) -> list[Answer]:
        with self.meter.phase(phase):
            answers = self._adapter.generate(self.encoded, [each.prompt for each in few], few[0].settings)
        return checked_answers(answers, len(few), self._adapter.name)


def checked_answers(answers: Any, count: int, name: str) -> list[Answer]:
    """Raises TypeError, saying of which model, unless these are ``count`` answers with a text each."""
    if not isinstance(answers, list | tuple) or len(answers) != count:
        given = f"{len(answers)} answers" if isinstance(answers, list | tuple) else f"a {type(answers).__name__}"
        raise TypeError(f"the model {name!r} should give a list of {count} Answers, one a prompt, not {given}")
    for answer in answers:
        check_answer(answer, name)
    return list(answers)


def check_answer(answer: Any, name: str) -> None:
    """Raises TypeError, saying of which model, unless this is an Answer with a text; its counts become integers."""
    if not isinstance(answer, Answer) or not isinstance(answer.text, str):
        given = f"one whose text is {answer.text!r}" if isinstance(answer, Answer) else repr(answer)
        raise TypeError(f"the model {name!r} should give Answers with a text, not {given}")
    for count in ("num_tokens", "prompt_tokens", "cached_tokens", "in_flight"):
        setattr(answer, count, int(getattr(answer, count)))  # NumPy's integers are not JSON's


def batches(items: Iterable[T], key: Callable[[T], Hashable], size: int) -> Iterator[list[T]]:
    """Up to ``size`` items with the same key at a time; one by one, without looking ahead, for a size of 1."""
    if size == 1:
        yield from ([item] for item in items)
        return
    alike: dict[Hashable, list[T]] = {}
    for item in items:
        alike.setdefault(key(item), []).append(item)
    for members in alike.values():
        rest = iter(members)
        while few := list(itertools.islice(rest, size)):
            yield few


def _as_exception(error: BaseException) -> Exception:
    """A library that ends the process ends one question instead."""
    return error if isinstance(error, Exception) else RuntimeError(f"it tried to end the process ({error!r})")

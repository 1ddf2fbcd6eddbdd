"""One clip encoded by a model in this process, and everything asked about it answered from that.

The only loop that puts prompts to a model: runs, lmms-eval's requests, questions typed by a user and profiles all go
through it. Knows no benchmark and records nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import math
import reprlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, SupportsIndex, TypeVar

from vamba_eval.contracts import Answer, Clip, GenerationSettings, ModelAdapter, Prompt, Seen, ServedModel
from vamba_eval.cost.meter import Meter

T = TypeVar("T")

_MOST_CHARACTERS = 2**20  # of a text: several times what the longest thinking takes; more is something gone wrong


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
        try:
            with meter.phase("encode"):
                self.encoded = adapter.encode(clip)
            seen = None if clip is None else adapter.seen(self.encoded)
            with given_by(adapter.seen):
                self.seen = checked_seen(seen, adapter.name)
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise as_exception(error, adapter.name) from error

    def answers(self, requests: Iterable[Request], phase: str = "generate") -> Iterator[list[Outcome]]:
        """What comes of ``requests``, as soon as it is known: in batches of up to the adapter's ``batch_size`` with the
        same settings. In their order and one by one, as they are asked for, where that is 1.
        """
        for call in self.calls(requests, phase):
            if outcomes := call.make():
                yield outcomes

    def calls(self, requests: Iterable[Request], phase: str = "generate") -> Iterator[Call]:
        """The calls of the model that answer ``requests``, in batches as above; each is to be made before the next.

        A batch that fails is asked again one by one, so that a question fails only by itself.
        """
        for few in batches(requests, lambda request: request.settings, self._adapter.batch_size):
            call = Call(self, few, phase)
            yield call
            if not call.outcomes:
                yield from (Call(self, [one], phase) for one in few)

    def answer(self, prompt: Prompt | str, settings: GenerationSettings, phase: str = "generate") -> Answer:
        """The answer to one prompt. Raises what its outcome would hold instead."""
        ((outcome,),) = self.answers([Request(prompt, settings)], phase)
        if isinstance(outcome.answer, Exception):
            raise outcome.answer
        return outcome.answer

    def generate(self, few: Sequence[Request], phase: str) -> list[Answer]:
        """What the model answers to requests with the same settings. Raises what it raises."""
        with self.meter.phase(phase):
            answers = self._adapter.generate(self.encoded, [each.prompt for each in few], few[0].settings)
        with given_by(self._adapter.generate):
            return checked_answers(answers, len(few), self._adapter.name)

    def as_exception(self, error: BaseException) -> Exception:
        return as_exception(error, self._adapter.name)


class Call:
    """Requests that go to the model together when the call is made; ``outcomes`` are then what came of them, none where
    several failed together."""

    def __init__(self, session: Session, requests: Sequence[Request], phase: str) -> None:
        self._session, self.requests, self._phase = session, requests, phase
        self.outcomes: list[Outcome] = []

    def make(self) -> list[Outcome]:
        few = self.requests
        try:
            found: Sequence[Answer | Exception] = self._session.generate(few, self._phase)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            found = [self._session.as_exception(error)] if len(few) == 1 else []
        self.outcomes = [Outcome(request, answer, len(few)) for request, answer in zip(few, found, strict=False)]
        return self.outcomes


@contextmanager
def given_by(method: Callable[..., Any]) -> Iterator[None]:
    """Around a check of what ``method`` gave: what is raised says where the method is defined."""
    try:
        yield
    except (TypeError, ValueError) as error:
        code = getattr(inspect.unwrap(method), "__code__", None)
        place = f" ({Path(code.co_filename).name}:{code.co_firstlineno})" if code is not None else ""
        raise type(error)(f"{error}{place}") from error


def checked_answers(answers: Any, count: int, name: str) -> list[Answer]:
    """Raises TypeError, saying of which model, unless these are ``count`` answers with a text each."""
    if not isinstance(answers, list | tuple) or len(answers) != count:
        given = f"{len(answers)} answers" if isinstance(answers, list | tuple) else f"a {type(answers).__name__}"
        raise TypeError(f"the model {name!r} should give a list of {count} Answers, one a prompt, not {given}")
    for answer in answers:
        check_answer(answer, name)
    return list(answers)


def check_answer(answer: Any, name: str) -> None:
    """Raises TypeError, saying of which model and what it gave, unless this is an Answer that can be recorded.

    Its numbers become Python's: NumPy's are not JSON's.
    """
    if not isinstance(answer, Answer) or not isinstance(answer.text, str):
        given = f"one whose text is {_short(answer.text)}" if isinstance(answer, Answer) else _short(answer)
        raise TypeError(f"the model {name!r} should give Answers with a text, not {given}")
    for field in ("thinking", "served_by", "finish_reason"):
        if not isinstance(text := getattr(answer, field), str | None):
            raise TypeError(f"the model {name!r} should give Answers whose {field} is a text, not {_short(text)}")
    answer.thinking, answer.served_by = answer.thinking or "", answer.served_by or ""
    for field in ("text", "thinking"):
        if (length := len(getattr(answer, field))) > _MOST_CHARACTERS:
            raise ValueError(f"the model {name!r} gave an Answer whose {field} has {length:,} characters")
    for field in ("num_tokens", "prompt_tokens", "cached_tokens", "in_flight"):
        setattr(answer, field, _count(getattr(answer, field), f"Answers whose {field}", name))
    for field in ("price", "latency_s"):
        setattr(answer, field, _amount(getattr(answer, field), f"Answers whose {field}", name))
    answer.seen = checked_seen(answer.seen, name)


def checked_seen(seen: Any, name: str) -> Seen | None:
    """Raises TypeError, saying of which model and what it gave, unless this can be recorded."""
    if seen is None:
        return None
    if not isinstance(seen, Seen) or not isinstance(seen.kind, str):
        raise TypeError(f"the model {name!r} should say what it saw as a Seen, or None, not {_short(seen)}")
    numbers: dict[str, Any] = {}
    for field in ("frames", "height", "width", "video_tokens", "kept_tokens"):
        value = getattr(seen, field)
        unknown = value is None and field.endswith("_tokens")
        numbers[field] = None if unknown else _count(value, f"a Seen whose {field}", name)
    return replace(seen, times=bool(seen.times), **numbers)


def _count(value: Any, what: str, name: str) -> int:
    whole = isinstance(value, SupportsIndex) or (isinstance(value, Real) and float(value).is_integer())
    if not whole or (number := int(value)) < 0:
        raise TypeError(f"the model {name!r} should give {what} is a count, not {_short(value)}")
    return number


def _amount(value: Any, what: str, name: str) -> float | None:
    if value is None:
        return None
    if not (isinstance(value, Real) and math.isfinite(value) and float(value) >= 0):
        raise TypeError(f"the model {name!r} should give {what} is a number from 0 or None, not {_short(value)}")
    return float(value)


def _short(value: Any) -> str:
    """What a model gave, in an error of one line: it may be of any size."""
    return " ".join(reprlib.repr(value).split())


async def served_answers(
    model: ServedModel, clip: Clip | None, prompts: Sequence[str], settings: GenerationSettings
) -> AsyncIterator[tuple[int, Any]]:
    """What a served model says to ``prompts``: pairs of a place among them that has none yet and what stands there.

    Raises what the model raises, and TypeError or IndexError, saying of which model, for what is no such pair.
    """
    open_places = set(range(len(prompts)))
    try:
        answers = model.answer(clip, prompts, settings)
        if not isinstance(answers, AsyncIterable):
            if inspect.iscoroutine(answers):
                answers.close()
            raise TypeError(
                f"the model {model.name!r} should answer by an asynchronous generator (async def with yield), "
                f"not by a {type(answers).__name__}"
            )
        async for pair in answers:
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], SupportsIndex)):
                raise TypeError(f"the model {model.name!r} should yield a place and an Answer, not {_short(pair)}")
            place, answer = int(pair[0]), pair[1]
            if place not in open_places:
                again = "again" if 0 <= place < len(prompts) else "which nobody asked"
                raise IndexError(f"the model {model.name!r} answers question {place} of {len(prompts)} {again}")
            open_places.remove(place)
            yield place, answer
    except (Exception, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        raise as_exception(error, model.name) from error


def _is_cancelled() -> bool:
    """Whether it is this task that somebody cancels, and not one that it waits for. Before Python 3.11 nobody knows."""
    task = asyncio.current_task()
    return not hasattr(task, "cancelling") or task is None or task.cancelling() > 0


def as_exception(error: BaseException, name: str) -> Exception:
    """What is not meant to be caught (a library ends the process, one in Rust panics) and costs one question here."""
    if isinstance(error, Exception):
        return error
    if isinstance(error, SystemExit):
        return RuntimeError(f"the model {name!r} tried to end the process ({error!r})")
    return RuntimeError(f"the model {name!r} raised {_short(error)}")


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

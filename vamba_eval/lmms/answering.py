"""A round of requests answered: each clip is encoded or sent once, then all that is asked about it is answered.

Two ways, of the two kinds of model: ``Here`` takes one clip after the other, ``InFlight`` many at once. Both keep
results in a ``Round``, where a failure is no response but is counted. Knows nothing of how requests look in lmms-eval.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from loguru import logger
from tqdm import tqdm

from vamba_eval.contracts import (
    Answer,
    Clip,
    GenerationSettings,
    ModelAdapter,
    Prompt,
    Seen,
    ServedModel,
    UserError,
    first_line,
)
from vamba_eval.cost.meter import Meter
from vamba_eval.machine import out_of_memory
from vamba_eval.run.session import Session, check_answer, checked_seen, served_answers


@dataclass
class ResolvedRequest:
    """A request whose content is known: its text, and who waits for the answer in which place."""

    rank: int
    place: int
    text: str
    settings: GenerationSettings
    continuation: str


@dataclass
class Shown:
    """What requests are about: a clip, None where they show nothing; or the problem with it."""

    requests: Sequence[ResolvedRequest]
    clip: Clip | None = None
    problem: str = ""


@dataclass
class Account:
    """Where the time went, in seconds; ``read_s`` is that of the reading processes, ``answer_s`` of a served model that
    of each answer. What was answered, in tokens, and in dollars where the model says so; failures have a price too."""

    read_s: float = 0.0
    wait_s: float = 0.0
    encode_s: float = 0.0
    answer_s: float = 0.0
    videos: int = 0
    answers: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    price: float | None = None

    def add(self, answer: Answer) -> None:
        self.answers += 1
        self.prompt_tokens += answer.prompt_tokens
        self.cached_tokens += answer.cached_tokens
        self.tokens += answer.num_tokens
        self.pay(answer.price)

    def pay(self, price: float | None) -> None:
        if price is not None:
            self.price = (self.price or 0.0) + price


class Round:
    """Results by (rank, place), and what they cost.

    nothing    the result where there is no response
    total      requests that there are
    answered   those with a result of their own; the others are ``unanswered``
    """

    def __init__(self, nothing: Any, total: int, *, show_progress: bool) -> None:
        self.nothing, self.total, self.answered = nothing, total, 0
        self.results: dict[tuple[int, int], Any] = {}
        self.account = Account()
        self.bar = tqdm(total=total, disable=not show_progress, desc="Model Responding")
        self._says_what_is_seen = True

    @property
    def unanswered(self) -> int:
        return self.total - self.answered

    def keep(self, requests: Sequence[ResolvedRequest], result: Any) -> None:
        """One result for all of ``requests``, which ask the same."""
        self.answered += len(requests)
        self._note(requests, result)

    def give_up(self, requests: Sequence[ResolvedRequest], problem: str | Exception) -> None:
        """These have no response. Raises a UserError, which is of no use to any other request either."""
        if isinstance(problem, UserError):
            raise problem
        logger.error(f"{len(requests)} question(s) without a response: {_words(problem)}")
        self._note(requests, self.nothing)

    def note_seen(self, seen: Seen | None) -> None:
        """Say of the first clip what the model sees of it: lmms-eval's logs have no place for it."""
        if seen is not None and self._says_what_is_seen:
            self._says_what_is_seen = False
            times = "told" if seen.times else "not told"
            logger.info(
                f"of the first clip the model sees {seen.frames} frames of {seen.width}x{seen.height} as {seen.kind}, "
                f"{times} when each was"
            )

    def _note(self, requests: Sequence[ResolvedRequest], result: Any) -> None:
        for request in requests:
            self.results[request.rank, request.place] = result
        self.bar.update(len(requests))


# What answers requests about a clip, all with the same settings: for each, in their order, a result or the exception in
# its place.
Answering = Callable[[Session, Sequence[ResolvedRequest], Account], Sequence[Any]]


class Here:
    """By a model in this process, up to ``batch_size`` requests about a clip at once.

    Where the first is a failure, all are: it ends the command. After an answer, a failure costs its requests alone.
    """

    def __init__(self, adapter: ModelAdapter, batch_size: int, answering: Answering, to: Round) -> None:
        self._adapter, self._batch_size, self._answering, self._round = adapter, batch_size, answering, to

    def all(self, every: Iterator[Shown]) -> None:
        for shown in every:
            if shown.problem:
                self._round.give_up(shown.requests, shown.problem)
            else:
                self._about(shown)
            del shown  # the next clip may have come meanwhile

    def _about(self, shown: Shown) -> None:
        account, start = self._round.account, perf_counter()
        try:
            session = Session(self._adapter, shown.clip, Meter())
        except Exception as error:
            self._fail(shown.requests, error)
            return
        account.encode_s += perf_counter() - start
        self._round.note_seen(session.seen)
        for few in batches(shown.requests, self._batch_size):
            start = perf_counter()
            results = self._answering(session, [same[0] for same in few], account)
            account.answer_s += perf_counter() - start
            for same, result in zip(few, results, strict=True):
                if isinstance(result, Exception):
                    self._fail(same, result)
                else:
                    self._round.keep(same, result)

    def _fail(self, requests: Sequence[ResolvedRequest], error: Exception) -> None:
        if not self._round.answered:
            raise error
        self._round.give_up(requests, error)


class InFlight:
    """By a served model, about up to its ``concurrency`` of clips at once.

    result   what becomes of an answer
    ended    why no further request is sent: what every other one would meet as well. What is in flight then ends, and
             what has an answer keeps it, since lmms-eval keeps none of a command that fails
    """

    def __init__(self, model: ServedModel, result: Callable[[Answer, GenerationSettings], Any], to: Round) -> None:
        self._model, self._result, self._round = model, result, to
        self.ended: UserError | None = None

    async def all(self, every: Iterator[Shown]) -> None:
        """Raises the UserError that ended it where nothing was answered before."""
        places = asyncio.Semaphore(self._model.concurrency)
        asked: set[asyncio.Task[None]] = set()

        def end(task: asyncio.Task[None]) -> None:
            asked.discard(task)
            places.release()

        try:
            while True:
                await places.acquire()
                if self.ended is not None or (shown := await asyncio.to_thread(next, every, None)) is None:
                    break
                task = asyncio.create_task(self._about(shown))
                asked.add(task)
                task.add_done_callback(end)
                del shown, task  # the next clip may have come meanwhile
            await asyncio.gather(*asked)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        if self.ended is not None and not self._round.answered:
            raise self.ended

    async def _about(self, shown: Shown) -> None:
        if shown.problem:
            self._round.give_up(shown.requests, shown.problem)
            return
        for alike in batches(shown.requests, len(shown.requests)):
            if self.ended is None:
                await self._ask(shown.clip, alike)

    async def _ask(self, clip: Clip | None, alike: Sequence[Sequence[ResolvedRequest]]) -> None:
        """Requests with the same settings, each of which may be several that ask the same."""
        waiting, settings, start = dict(enumerate(alike)), alike[0][0].settings, perf_counter()
        reason: Exception = RuntimeError(f"the model {self._model.name!r} gave no answer to it")
        try:
            if clip is not None:
                self._round.note_seen(checked_seen(self._model.seen(clip), self._model.name))
            prompts = [Prompt(same[0].text) for same in alike]
            async for place, answer in served_answers(self._model, clip, prompts, settings):
                self._take(waiting.pop(place), answer, settings, perf_counter() - start)
        except UserError as error:
            self.ended = self.ended or error
            return
        except Exception as error:
            reason = error
        for same in waiting.values():
            self._round.give_up(same, reason)

    def _take(
        self, same: Sequence[ResolvedRequest], answer: Answer | Exception, settings: GenerationSettings, seconds: float
    ) -> None:
        account = self._round.account
        try:
            if isinstance(answer, Exception):
                raise answer
            check_answer(answer, self._model.name)
        except Exception as error:
            account.pay(getattr(error, "price", None))
            self._round.give_up(same, error)
            return
        self._round.note_seen(answer.seen)
        account.answer_s += seconds if answer.latency_s is None else answer.latency_s
        account.add(answer)
        self._round.keep(same, self._result(answer, settings))


def batches(requests: Sequence[ResolvedRequest], size: int) -> Iterator[list[list[ResolvedRequest]]]:
    """Up to ``size`` distinct questions with the same settings; each with all who ask it (lmms-eval repeats some to
    give each process as many)."""
    same: dict[tuple[GenerationSettings, str, str], list[ResolvedRequest]] = defaultdict(list)
    for request in requests:
        same[request.settings, request.text, request.continuation].append(request)
    for settings in dict.fromkeys(settings for settings, _, _ in same):
        distinct = [askers for (s, _, _), askers in same.items() if s == settings]
        for first in range(0, len(distinct), size):
            yield distinct[first : first + size]


def _words(problem: str | Exception) -> str:
    if isinstance(problem, str):
        return problem
    if out_of_memory(problem):
        return f"out of memory: {problem}"
    return f"{type(problem).__name__}: {first_line(problem) if str(problem).strip() else 'no message'}"

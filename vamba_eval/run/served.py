"""The work of a run done by a served model: many videos in flight at once, each answer recorded as it comes.

What is metered is latency, tokens and price; what the server's machines do is not seen from here.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FuturesTimeoutError
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Any

from vamba_eval.contracts import Answer, Clip, GenerationSettings, ServedModel, UserError
from vamba_eval.reading.reader import Reader
from vamba_eval.run.answer import (
    Part,
    answer_record,
    at,
    failed,
    failure,
    note_seen,
    parts_of,
    record_of,
    requests_of,
    shown_clip,
    too_long,
)
from vamba_eval.run.plan import Job
from vamba_eval.run.session import (
    Request,
    as_exception,
    batches,
    check_answer,
    checked_seen,
    given_by,
    served_answers,
)
from vamba_eval.run.work import Assignment, Event, ModelFacts
from vamba_eval.run.workplace import Workplace, loads_of
from vamba_eval.store.records import Record

_LOOK_EVERY_S = 0.5
_PATIENCE_S = 10.0  # for what is given up to end


@dataclass(frozen=True)
class _Over:
    """Nothing more comes; or the reading of videos ended with an error, which is not a video's."""

    error: BaseException | None = None


@dataclass(frozen=True, eq=False)
class _Asked:
    """Requests with the same settings, put to the model at ``start``; of those that wait there is no record yet."""

    number: int
    job: Job
    base: Record
    waiting: dict[int, Request]
    settings: GenerationSettings
    start: float


class Served(Workplace):
    """A model behind an engine or endpoint, with up to its ``concurrency`` of videos in flight.

    What one of them does with its requests, and in which order, is not known here; so it is silence to all of them, for
    as long as an answer may take, that makes those that wait fail.
    """

    def __init__(self, model: ServedModel, reader: Reader) -> None:
        self.facts = ModelFacts.of(model)
        self._model, self._reader = model, reader
        self._summary = ""
        self._in_flight: list[_Asked] = []
        self._heard = 0.0  # when the model last answered anybody

    def answers(self, assignment: Assignment) -> Generator[Event]:
        """As they come: videos are read by one thread, requests wait in the event loop of another, and whoever iterates
        records."""
        events: queue.SimpleQueue[Event | _Over] = queue.SimpleQueue()
        limit_s, self._in_flight = assignment.answer_timeout_s, []
        stop, start, count, price = threading.Event(), time.monotonic(), 0, 0.0
        with _EventLoop() as loop:
            feeder = threading.Thread(
                target=self._feed, args=(assignment, events, stop, loop), name="served-videos", daemon=True
            )
            feeder.start()
            try:
                while True:
                    try:
                        event = events.get(timeout=_LOOK_EVERY_S)
                    except queue.Empty:
                        if limit_s is not None and self._held_up(limit_s + _PATIENCE_S):
                            yield from self._given_up(limit_s)
                        continue
                    if isinstance(event, _Over):
                        break
                    _, record = event
                    count += record is None
                    price += (record.price or 0.0) if record is not None else 0.0
                    yield event
                if event.error is not None:
                    raise event.error
            finally:
                stop.set()
                loop.cancel_all()
                feeder.join()
        self._summary = (
            f"{count:,} videos in {time.monotonic() - start:,.1f} s, up to {self._model.concurrency} at once"
        )
        if price:
            self._summary += f", ${price:,.4f}"

    def summary(self) -> str:
        return self._summary

    def close(self) -> None:
        self._model.close()

    def _feed(
        self,
        assignment: Assignment,
        events: queue.SimpleQueue[Event | _Over],
        stop: threading.Event,
        loop: _EventLoop,
    ) -> None:
        """Hand each video to the event loop as soon as it is read and a place is free: no more clips are in memory.

        Once the model has said that no request is of use, those in flight end, and no video follows.
        """
        places = threading.BoundedSemaphore(self._model.concurrency)
        work_of = {work.video.id: work for work in assignment.works}
        blanks = [recorder.blank for recorder in assignment.recorders]
        try:
            with closing(loads_of(self._reader, assignment, stop)) as loads:
                while not (stop.is_set() or loop.error) and (loaded := next(loads, None)) is not None:
                    all_parts = parts_of(assignment.jobs, work_of[loaded.video.id], loaded, blanks)
                    parts = [(number, list(own)) for number, own in all_parts]
                    for number, own in parts:
                        for part in own:
                            assignment.recorders[number].keep_picture(part.loaded)
                    while not places.acquire(timeout=0.2):
                        if stop.is_set():
                            return
                    if loop.error:
                        break
                    loop.start(self._video(assignment, parts, events), places.release)
                    del loaded, parts  # the next clip may have come meanwhile
            loop.wait_for_all(stop)
        except BaseException as error:
            events.put(_Over(error))
        else:
            events.put(_Over())

    async def _video(
        self,
        assignment: Assignment,
        parts: Sequence[tuple[int, Sequence[Part]]],
        events: queue.SimpleQueue[Event | _Over],
    ) -> None:
        for number, own in parts:
            for part in own:
                async for record in self._part(assignment, number, part):
                    events.put((number, record))
            events.put((number, None))

    async def _part(self, assignment: Assignment, number: int, part: Part) -> AsyncIterator[Record]:
        loaded, open_questions, base = part
        job, subject, limit_s = assignment.jobs[number], assignment.subject, assignment.answer_timeout_s
        if loaded.problem is not None:
            for record in failed(job, base, open_questions, loaded.problem):
                yield record
            return
        clip = None
        try:
            clip = shown_clip(job, loaded, subject)
            seen = None if clip is None else self._model.seen(clip)
            with given_by(self._model.seen):
                note_seen(base, checked_seen(seen, self.facts.name))
            requests, broken = requests_of(job, loaded, open_questions, base, subject)
        except UserError:  # of no use to any other video either
            raise
        except (Exception, SystemExit) as error:
            problem = failure("preparing", as_exception(error, self.facts.name))
            requests, broken = [], list(failed(job, base, open_questions, problem))
        for record in broken:
            yield record
        for alike in batches(requests, lambda request: request.settings, max(2, len(requests))):
            settings, waiting = alike[0].settings, dict(enumerate(alike))
            async for record in self._answers(
                _Asked(number, job, base, waiting, settings, time.monotonic()), clip, limit_s
            ):
                yield record

    async def _answers(self, asked: _Asked, clip: Clip | None, limit_s: float | None) -> AsyncIterator[Record]:
        """The records of requests, each when it is known; none is missing in the end."""
        reason: Exception = RuntimeError(f"the model {self.facts.name!r} gave no answer to it")
        prompts = [request.prompt for request in asked.waiting.values()]
        coming: asyncio.Queue[tuple[int, Any] | None] = asyncio.Queue()

        async def ask() -> None:  # in a task of its own, which can be given up
            try:
                async for pair in served_answers(self._model, clip, prompts, asked.settings):
                    coming.put_nowait(pair)
            finally:
                coming.put_nowait(None)

        self._in_flight.append(asked)
        asking = asyncio.create_task(ask())
        try:
            while (pair := await self._next(coming, asked.start, limit_s)) is not None:
                place, answer = pair
                yield self._record(asked, asked.waiting.pop(place), answer)
            await asking
        except UserError:
            raise  # of no use to any other request either
        except Exception as error:
            reason = error
        finally:
            self._in_flight.remove(asked)
            asking.cancel()
        for request in asked.waiting.values():
            yield self._record(asked, request, reason)

    async def _next(self, coming: asyncio.Queue[Any], start: float, limit_s: float | None) -> Any:
        """What comes next. Raises _TooLong once the model has answered nobody for ``limit_s``."""
        while True:
            left_s = None if limit_s is None else max(self._heard, start) + limit_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise _TooLong(limit_s)
            with suppress(asyncio.TimeoutError):
                pair = await asyncio.wait_for(coming.get(), left_s)
                self._heard = time.monotonic()
                return pair

    def _held_up(self, seconds: float) -> bool:
        """Whether requests wait that should have failed by now: then the event loop does not run."""
        now = time.monotonic()
        return any(max(self._heard, asked.start) + seconds < now for asked in list(self._in_flight))

    def _given_up(self, limit_s: float) -> Iterator[Event]:
        """The failed records of all that is in flight. Then raises UserError: nothing else can be asked."""
        for asked in list(self._in_flight):
            about = replace(asked, base=replace(asked.base, given_up_s=limit_s))
            for request in list(asked.waiting.values()):
                yield asked.number, self._record(about, request, _TooLong(limit_s))
        raise UserError(
            f"the model {self.facts.name!r} holds up the event loop that it is to answer in, so that nothing can be "
            "given up there: what it was at is recorded as failed, and the same command goes on without it"
        )

    def _record(self, asked: _Asked, request: Request, answer: Answer | Exception) -> Record:
        question, trial = request.tag
        job, about = asked.job, at(asked.base, trial)
        try:
            if isinstance(answer, Exception):
                raise answer
            with given_by(self._model.answer):
                check_answer(answer, self.facts.name)
        except _TooLong as error:
            return record_of(job, about, question, error=str(error))
        except Exception as error:
            return record_of(job, about, question, error=failure("answering", error))
        record = answer_record(job, about, question, request.prompt, answer, asked.settings)
        note_seen(record, answer.seen)
        seconds = time.monotonic() - asked.start
        record.latency_s = round(seconds if answer.latency_s is None else answer.latency_s, 6)
        return record


class _TooLong(Exception):
    def __init__(self, limit_s: float | None) -> None:
        super().__init__(too_long("answering", limit_s or 0))


class _EventLoop:
    """An event loop in a thread of its own, and what runs in it; a context manager, which leaves nothing running.

    ``error`` is the first that something in it raised.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="served-requests", daemon=True)
        self._running: set[Future[Any]] = set()
        self._held_up = False  # by what runs in it and does not let go
        self.error: BaseException | None = None

    def __enter__(self) -> _EventLoop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel_all()
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._held_up:  # its thread ends with the process
            return
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _run(self) -> None:
        """Until the loop is told to stop. A task that ends the process stops the loop as well, but who waits for the
        task is told only by a loop that goes on."""
        while True:
            try:
                self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                continue
            return

    def start(self, work: Coroutine[Any, Any, None], on_end: Callable[[], None]) -> None:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._running.add(future)

        def end(ended: Future[Any]) -> None:
            self._note(ended)
            on_end()

        future.add_done_callback(end)

    def _note(self, ended: Future[Any]) -> None:
        if self.error is None and not ended.cancelled():
            self.error = ended.exception()

    def wait_for_all(self, stop: threading.Event) -> None:
        """Return when all that was started has ended, or ``stop`` is set. Raises what the first of them raised."""
        while not stop.is_set() and self._running:
            ended, self._running = wait(self._running, timeout=0.2)
            for future in ended:
                self._note(future)
        if self.error is not None:
            raise self.error

    def cancel_all(self) -> None:
        if self._held_up:
            return

        async def cancel() -> None:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others, timeout=_PATIENCE_S)

        try:
            asyncio.run_coroutine_threadsafe(cancel(), self._loop).result(_PATIENCE_S + 1)
        except FuturesTimeoutError:
            self._held_up = True

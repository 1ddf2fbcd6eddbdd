"""The work of a run done by a served model: many videos in flight at once, each answer recorded as it comes.

What is metered is latency, tokens and price; what the server's machines do is not seen from here.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import dataclass
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
)
from vamba_eval.run.plan import Job
from vamba_eval.run.session import Request, as_exception, batches, check_answer, checked_seen, served_answers
from vamba_eval.run.work import Assignment, Event, ModelFacts, Subject
from vamba_eval.run.workplace import Workplace, loads_of
from vamba_eval.store.records import Record


@dataclass(frozen=True)
class _Over:
    """Nothing more comes; or the reading of videos ended with an error, which is not a video's."""

    error: BaseException | None = None


class Served(Workplace):
    """A model behind an engine or endpoint, with up to its ``concurrency`` of videos in flight."""

    def __init__(self, model: ServedModel, reader: Reader) -> None:
        self.facts = ModelFacts.of(model)
        self._model, self._reader = model, reader
        self._summary = ""

    def answers(self, assignment: Assignment) -> Generator[Event]:
        """As they come: videos are read by one thread, requests wait in the event loop of another, and whoever iterates
        records."""
        events: queue.SimpleQueue[Event | _Over] = queue.SimpleQueue()
        stop, start, count, price = threading.Event(), time.monotonic(), 0, 0.0
        with _EventLoop() as loop:
            feeder = threading.Thread(
                target=self._feed, args=(assignment, events, stop, loop), name="served-videos", daemon=True
            )
            feeder.start()
            try:
                while not isinstance(event := events.get(), _Over):
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
                async for record in self._part(assignment.jobs[number], assignment.subject, part):
                    events.put((number, record))
            events.put((number, None))

    async def _part(self, job: Job, subject: Subject, part: Part) -> AsyncIterator[Record]:
        loaded, open_questions, base = part
        if loaded.problem is not None:
            for record in failed(job, base, open_questions, loaded.problem):
                yield record
            return
        clip = None
        try:
            clip = shown_clip(job, loaded, subject)
            note_seen(base, None if clip is None else checked_seen(self._model.seen(clip), self.facts.name))
            requests, broken = requests_of(job, loaded, open_questions, base)
        except UserError:  # of no use to any other video either
            raise
        except (Exception, SystemExit) as error:
            problem = failure("preparing", as_exception(error, self.facts.name))
            requests, broken = [], list(failed(job, base, open_questions, problem))
        for record in broken:
            yield record
        for alike in batches(requests, lambda request: request.settings, max(2, len(requests))):
            async for record in self._answers(job, base, clip, alike):
                yield record

    async def _answers(
        self, job: Job, base: Record, clip: Clip | None, requests: Sequence[Request]
    ) -> AsyncIterator[Record]:
        """The records of requests with the same settings, each when it is known; none is missing in the end."""
        settings, start = requests[0].settings, time.monotonic()
        waiting = dict(enumerate(requests))
        reason: Exception = RuntimeError(f"the model {self.facts.name!r} gave no answer to it")
        try:
            prompts = [request.prompt for request in requests]
            async for place, answer in served_answers(self._model, clip, prompts, settings):
                yield self._record(job, base, waiting.pop(place), answer, settings, time.monotonic() - start)
        except UserError:
            raise  # of no use to any other request either
        except Exception as error:
            reason = error
        for request in waiting.values():
            yield self._record(job, base, request, reason, settings, time.monotonic() - start)

    def _record(
        self,
        job: Job,
        base: Record,
        request: Request,
        answer: Answer | Exception,
        settings: GenerationSettings,
        seconds: float,
    ) -> Record:
        question, trial = request.tag
        about = at(base, trial)
        try:
            if isinstance(answer, Exception):
                raise answer
            check_answer(answer, self.facts.name)
        except Exception as error:
            return record_of(job, about, question, error=failure("answering", error))
        record = answer_record(job, about, question, request.prompt, answer, settings)
        note_seen(record, answer.seen)
        record.latency_s = round(seconds if answer.latency_s is None else answer.latency_s, 6)
        return record


class _EventLoop:
    """An event loop in a thread of its own, and what runs in it; a context manager, which leaves nothing running.

    ``error`` is the first that something in it raised.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="served-requests", daemon=True)
        self._running: set[Future[Any]] = set()
        self.error: BaseException | None = None

    def __enter__(self) -> _EventLoop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel_all()
        self._loop.call_soon_threadsafe(self._loop.stop)
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
        async def cancel() -> None:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel(), self._loop).result()

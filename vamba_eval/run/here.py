"""The work of a run done in this process, one video after the other; others are read meanwhile."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace

from vamba_eval.contracts import ModelAdapter
from vamba_eval.reading.reader import Reader
from vamba_eval.run.answer import Answerer, Monitors
from vamba_eval.run.occupation import Occupation
from vamba_eval.run.watchdog import Watchdog
from vamba_eval.run.work import Assignment, Event, InHand, ModelFacts
from vamba_eval.run.workplace import Workplace, loads_of


class Here(Workplace):
    """A model in this process."""

    def __init__(self, adapter: ModelAdapter, reader: Reader, monitors: Monitors) -> None:
        self.facts = ModelFacts.of(adapter)
        self._adapter, self._reader = adapter, reader
        self._answerer = Answerer(adapter, monitors)
        self._occupation = Occupation(1)

    def answers(self, assignment: Assignment) -> Generator[Event]:
        work_of = {work.video.id: work for work in assignment.works}
        self._occupation, worker = Occupation(1), _Worker()
        self._occupation.begin()
        with ExitStack() as stack:
            loads = stack.enter_context(closing(loads_of(self._reader, assignment)))
            watchdog = None
            if (limit_s := assignment.answer_timeout_s) is not None:
                watchdog = stack.enter_context(Watchdog(limit_s, self.facts.name))
            while (loaded := next(loads, None)) is not None:
                self._occupation.read(loaded, 1)
                blanks = [replace(recorder.blank, wait_s=0.0) for recorder in assignment.recorders]
                blanks[0].wait_s = round(self._occupation.hand_over(worker), 6)
                worker.begin()
                work = work_of[loaded.video.id]
                for number, step in self._answerer.work(assignment, work, loaded, blanks):
                    if isinstance(step, InHand):
                        assert watchdog is not None
                        watchdog.begin(assignment.recorders[number].file, step.records)
                        continue
                    if watchdog is not None:
                        watchdog.end()
                    yield number, step
                self._occupation.finish(worker, loaded.video.id)
                worker.end()
                del loaded  # the next clip may have come meanwhile

    def summary(self) -> str:
        return self._occupation.summary()

    def close(self) -> None:
        self._adapter.close()


@dataclass
class _Worker:
    """This process, for the account of its time."""

    number: int = 0
    at_work: bool = False
    since: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        self.at_work, self.since = True, time.monotonic()

    def end(self) -> None:
        self.at_work, self.since = False, time.monotonic()

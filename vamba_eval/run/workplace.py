"""Who does the work of a run: this process, a served model that is asked, or replicas on Ray.

A run hands each model's work to a workplace and records what comes; it never asks which kind it is.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Generator

from vamba_eval.reading.reader import Loaded, Reader
from vamba_eval.run.work import Assignment, Event, ModelFacts


class Workplace(ABC):
    """One model, ready to be asked; ``facts`` are what it says of itself."""

    facts: ModelFacts

    @abstractmethod
    def answers(self, assignment: Assignment) -> Generator[Event]:
        """The records of an assignment, each as soon as it is known, in whatever order. A generator: closed early, it
        leaves nothing running."""

    @abstractmethod
    def summary(self) -> str:
        """Where the time of the last assignment went, in a line."""

    @abstractmethod
    def close(self) -> None:
        """Give the model's memory, devices and connections back."""


def loads_of(reader: Reader, assignment: Assignment, stop: threading.Event | None = None) -> Generator[Loaded]:
    """The assignment's videos read ahead, or only seen to open where nobody looks at them."""
    videos = [work.video for work in assignment.works]
    if not assignment.reads:
        return reader.check(videos, stop)
    return reader.clips(videos, assignment.sampling, stop, headers=assignment.headers)

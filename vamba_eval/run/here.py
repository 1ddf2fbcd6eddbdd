"""The work of a run done in this process, one video after the other; others are read meanwhile."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing

from vamba_eval.reading.reader import Loaded, Reader
from vamba_eval.run.answer import answer_work
from vamba_eval.run.evaluate import Desk
from vamba_eval.run.work import Asked, Event, Watched, Work, sampling_of


class Alone:
    """One video after the other, in this process; others are read meanwhile."""

    def __init__(
        self, desks: Sequence[Desk], works: Sequence[Work], asked: Asked, reader: Reader, watched: Watched
    ) -> None:
        self._desks, self._works, self._asked, self._reader, self._watched = desks, works, asked, reader, watched
        self._account = _Account()
        self.summary = self._account.summary

    def __iter__(self) -> Generator[Event]:
        jobs = [desk.job for desk in self._desks]
        work_of = {work.video.id: work for work in self._works}
        videos = [work.video for work in self._works]
        sampling = sampling_of(jobs, self._asked)
        loads = self._reader.clips(videos, sampling) if sampling is not None else self._reader.check(videos)
        with closing(loads):
            while (loaded := self._account.next(loads)) is not None:
                bases = [{**desk.base, "wait_s": 0.0} for desk in self._desks]
                bases[0]["wait_s"] = self._account.last_wait_s
                work = work_of[loaded.video.id]
                yield from answer_work(jobs, work, loaded, self._asked, self._watched, bases, self._picture)
                del loaded  # the next clip may have come meanwhile

    def _picture(self, number: int, loaded: Loaded) -> None:
        strips = self._desks[number].strips
        if strips and loaded.clip is not None and loaded.digest is not None:
            strips.save(loaded.clip, loaded.digest)


class _Account:
    """What reading cost a model: how long it waited for clips, and what the clip cache saved."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.videos = self.hits = self.cacheable = 0
        self.wait_s = self.last_wait_s = self.read_s = self.saved_s = 0.0

    def next(self, loads: Generator[Loaded]) -> Loaded | None:
        """The next of ``loads``, the wait for it measured."""
        start = time.perf_counter()
        loaded = next(loads, None)
        if loaded is not None:
            self.last_wait_s = round(time.perf_counter() - start, 6)
            self.wait_s += self.last_wait_s
            self.videos += 1
            self.read_s += loaded.seconds
            self.cacheable += loaded.clip is not None
            if loaded.saved_s is not None:
                self.hits += 1
                self.saved_s += loaded.saved_s
        return loaded

    def summary(self) -> str:
        elapsed = time.perf_counter() - self.start
        share = 100 * self.wait_s / elapsed if elapsed else 0.0
        text = f"{self.videos:,} videos in {elapsed:,.1f} s, {self.wait_s:,.1f} s ({share:.0f} %) waiting for clips"
        if self.hits:
            rate = 100 * self.hits / self.cacheable
            text += (
                f"; clip cache: {self.hits:,} of {self.cacheable:,} clips ({rate:.0f} %), {self.saved_s:,.0f} s saved"
            )
        return text

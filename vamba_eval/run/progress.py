"""How far a model is on a benchmark while it runs: how well it does so far, and when it will be done."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from statistics import fmean

from vamba_eval.contracts import Metric, ScoredRecord, Task
from vamba_eval.progress import Display, duration_text
from vamba_eval.score.statistics import summarize
from vamba_eval.tables.text import shown

_EVERY_S = 0.5  # between two looks at the score on a terminal
_LINE_EVERY_S = 10.0  # between two lines elsewhere
_BESIDE = 24 + 3 + 9  # columns that the bar, spaces and the time left take
_SHARE = 0.005  # of the time that computing what is shown may take


class Pace:
    """How long the rest takes: each video costs something, and each second of its length something.

    ``lengths`` are those of the videos to come, in seconds, by their ids; None where nobody says.
    """

    def __init__(self, lengths: Mapping[str, float | None]) -> None:
        known = [length for length in lengths.values() if length is not None]
        usual = fmean(known) if known else 0.0
        self._left = {name: usual if length is None else length for name, length in lengths.items()}
        self._costs: list[tuple[float, float]] = []  # of each video that is done: its length, and the seconds it took
        self._since = time.monotonic()

    def done(self, video: str) -> None:
        now = time.monotonic()
        self._costs.append((self._left.pop(video, 0.0), now - self._since))
        self._since = now

    def left_s(self) -> float | None:
        """Seconds; None before anything is done. The first video warms up, and counts only while it is alone."""
        costs = self._costs[1:] or self._costs
        if not costs:
            return None
        length, seconds = fmean(length for length, _ in costs), fmean(seconds for _, seconds in costs)
        spread = math.fsum((each - length) ** 2 for each, _ in costs)
        by_length = math.fsum((each - length) * (took - seconds) for each, took in costs) / spread if spread else 0.0
        by_length = min(max(0.0, by_length), seconds / length if length else 0.0)
        alone = seconds - by_length * length
        left = len(self._left) * alone + by_length * math.fsum(self._left.values())
        return max(0.0, left - (time.monotonic() - self._since))


class ModelProgress:
    """One model on one benchmark: ``total`` responses, ``done`` of which are there already; ``known`` are their
    scores."""

    def __init__(
        self,
        display: Display,
        task: Task,
        name: str,
        total: int,
        known: Iterable[ScoredRecord],
        done: int,
    ) -> None:
        self._pace = Pace({})
        self._display, self._task, self._name, self._total = display, task, name, total
        self._scored = list(known) if display.enabled else []
        self._begun = self._shown_at = time.monotonic()
        self._before = self._done = done
        self._videos = self._failed = 0
        self._cost_s = 0.0
        self._row = display.row(name, total, done, self._figures() if display.live else "")

    def expect(self, lengths: Mapping[str, float | None]) -> None:
        """Videos are to come, of these lengths: as for ``Pace``."""
        self._pace = Pace(lengths)

    def add(self, scored: ScoredRecord | None) -> None:
        """A response; None for a failed one."""
        self._done += 1
        if scored is None:
            self._failed += 1
        elif self._display.enabled:
            self._scored.append(scored)
        self._show_if_due()

    def video(self, name: str = "") -> None:
        """A video is done with."""
        self._videos += 1
        self._pace.done(name)

    def finish(self, text: str) -> None:
        """The last state stays, and ``text`` behind it."""
        if self._display.live:
            self._row.show(self._figures(), self._done)
        elif self._display.enabled and self._done > self._before:
            self._display.say(self._line())
        self._display.say(f"{self._name}: {text}")

    def _show_if_due(self) -> None:
        if not self._display.enabled:
            return
        every = _EVERY_S if self._display.live else _LINE_EVERY_S
        # Summaries grow with the records; showing them must not slow the run.
        if time.monotonic() - self._shown_at < max(every, self._cost_s / _SHARE):
            return
        start = time.monotonic()
        if self._display.live:
            self._row.show(self._figures(), self._done, left=self._time_left())
        else:
            self._display.say(self._line())
        self._shown_at = time.monotonic()
        self._cost_s = self._shown_at - start

    def _figures(self) -> str:
        """How many responses, the headline so far, seconds a video, memory, failures: as many of them as there is room
        for. The count stays, and failures do; the interval goes first."""
        count = f"{self._done:,} of {self._total:,}"
        metrics: Mapping[str, Metric] = {}
        with suppress(Exception):  # measures may be somebody's own; tables say what is wrong with them
            metrics = summarize(self._task.measures, self._scored).metrics if self._scored else {}
        score = interval = ""
        if metrics:
            name, metric = next(iter(metrics.items()))
            score = f"{name} {shown(metric.value, metric.unit)}"
            if metric.low is not None and metric.high is not None:
                interval = f" [{shown(metric.low, metric.unit)}, {shown(metric.high, metric.unit)}]"
        pace = f"{(time.monotonic() - self._begun) / self._videos:.3g} s/video" if self._videos else ""
        memory = "" if (used := _gpu_gib()) is None else f"{used:.1f} GiB"
        failures = f"{self._failed:,} failed" if self._failed else ""
        room = self._display.width - len(self._name) - _BESIDE
        for parts in (
            (count, score + interval, pace, memory, failures),
            (count, score, pace, memory, failures),
            (count, score, pace, failures),
            (count, score, failures),
        ):
            if len(text := ", ".join(filter(None, parts))) <= room:
                return text
        return ", ".join(filter(None, (count, failures)))

    def _line(self) -> str:
        text = f"{self._name}: {self._figures()}"
        left = self._time_left()
        return f"{text}, {left} left" if left else text

    def _time_left(self) -> str:
        """In words; by videos as soon as one is done, by responses before; "" where nothing tells."""
        if self._done >= self._total:
            return ""
        left = self._pace.left_s()
        elapsed, gained = time.monotonic() - self._begun, self._done - self._before
        if left is None and gained:
            left = elapsed / gained * (self._total - self._done)
        return "" if left is None else duration_text(left)


def _gpu_gib() -> float | None:
    """GiB that torch holds on all GPUs, if it uses any; torch is never loaded for that."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return None
    reserved: Callable[[int], int] = cuda.memory_reserved
    return sum(reserved(device) for device in range(cuda.device_count())) / 2**30

"""What a run shows while it runs: how far each model is, how well it does so far, and when it will be done.

On a terminal rich draws it in place; elsewhere (a log file, a scheduler's output) a plain line now and then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from vamba_eval.contracts import ScoredRecord, Task
from vamba_eval.score.statistics import summarize
from vamba_eval.tables.text import shown

_EVERY_S = 0.5  # between two looks at the accuracy on a terminal


_LINE_EVERY_S = 30.0  # between two lines elsewhere


_SHARE = 0.005  # of the time that computing what is shown may take


class Progress:
    """The display of a run; a context manager. Shows nothing if ``enabled`` is False."""

    def __init__(self, *, enabled: bool = True, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self.enabled = enabled
        self.live = enabled and self._stream.isatty()
        self._bars: Any = None

    def __enter__(self) -> Progress:
        if self.live:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            self._bars = Bars(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[state]}"),
                TimeRemainingColumn(compact=True),
                console=Console(file=self._stream),
                refresh_per_second=4,
            )
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def begin(self, task: Task, name: str, total: int, known: Iterable[ScoredRecord], done: int) -> ModelProgress:
        """A new row for ``total`` responses, ``done`` of which are there already; ``known`` are their scores."""
        return ModelProgress(self, task, name, total, known, done)

    def row(self, name: str) -> WorkerRow:
        """A row beside the models' own, on a terminal; nothing elsewhere."""
        return WorkerRow(self, name)

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._bars is not None:
            self._bars.console.print(text, highlight=False, markup=False, soft_wrap=True)
        elif self.enabled:
            print(text, file=self._stream, flush=True)


class WorkerRow:
    """What a worker of a run is doing, as it goes on."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._bars = progress._bars
        self._bar = None if self._bars is None else self._bars.add_task(name, total=1, state="")

    def show(self, state: str, done: int, total: int) -> None:
        if self._bars is not None:
            self._bars.update(self._bar, completed=done, total=total, state=state)

    def close(self) -> None:
        if self._bars is not None:
            self._bars.remove_task(self._bar)


class ModelProgress:
    """One model on one benchmark, as it goes on."""

    def __init__(
        self, progress: Progress, task: Task, name: str, total: int, known: Iterable[ScoredRecord], done: int
    ) -> None:
        self._progress, self._task, self._name, self._total = progress, task, name, total
        self._scored = list(known) if progress.enabled else []
        self._begun = self._shown_at = time.monotonic()
        self._before = self._done = done
        self._videos = self._failed = 0
        self._cost_s = 0.0
        self._bar = None
        if progress.live:
            self._bar = progress._bars.add_task(name, total=total, completed=done, state=self._state())

    def add(self, scored: ScoredRecord | None) -> None:
        """A response; None for a failed one."""
        self._done += 1
        if scored is None:
            self._failed += 1
        elif self._progress.enabled:
            self._scored.append(scored)
        self._show_if_due()

    def video(self) -> None:
        """A video is done with."""
        self._videos += 1

    def finish(self, text: str) -> None:
        """The last state stays, and ``text`` behind it."""
        if self._bar is not None:
            self._progress._bars.update(self._bar, completed=self._done, state=self._state())
        elif self._progress.enabled and self._done > self._before:
            self._progress.say(self._plain())
        self._progress.say(f"{self._name}: {text}")

    def _show_if_due(self) -> None:
        if not self._progress.enabled:
            return
        every = _EVERY_S if self._bar is not None else _LINE_EVERY_S
        # Summaries grow with the records; showing them must not slow the run.
        if time.monotonic() - self._shown_at < max(every, self._cost_s / _SHARE):
            return
        start = time.monotonic()
        if self._bar is not None:
            self._progress._bars.update(self._bar, completed=self._done, state=self._state())
        else:
            self._progress.say(self._plain())
        self._shown_at = time.monotonic()
        self._cost_s = self._shown_at - start

    def _state(self) -> str:
        """Headline so far, seconds a video, memory, failures."""
        parts = []
        metrics = summarize(self._task.measures, self._scored).metrics if self._scored else {}
        if metrics:
            name, metric = next(iter(metrics.items()))
            text = f"{name} {shown(metric.value, metric.unit)}"
            if metric.low is not None and metric.high is not None:
                text += f" [{shown(metric.low, metric.unit)}, {shown(metric.high, metric.unit)}]"
            parts.append(text)
        if self._videos:
            parts.append(f"{(time.monotonic() - self._begun) / self._videos:.3g} s/video")
        if (used := _gpu_gib()) is not None:
            parts.append(f"{used:.1f} GiB")
        if self._failed:
            parts.append(f"{self._failed:,} failed")
        return ", ".join(parts)

    def _plain(self) -> str:
        state = self._state()
        parts = [f"{self._done:,} of {self._total:,}", *([state] if state else [])]
        elapsed, gained = time.monotonic() - self._begun, self._done - self._before
        if gained and self._done < self._total:
            parts.append(f"{_duration(elapsed / gained * (self._total - self._done))} left")
        return f"{self._name}: {', '.join(parts)}"


def _gpu_gib() -> float | None:
    """GiB that torch holds on all GPUs, if it uses any; torch is never loaded for that."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return None
    reserved: Callable[[int], int] = cuda.memory_reserved
    return sum(reserved(device) for device in range(cuda.device_count())) / 2**30


def _duration(seconds: float) -> str:
    minutes, hours = round(seconds / 60), seconds / 3600
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{hours:.1f} h"

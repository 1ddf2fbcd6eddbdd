"""How far long work is: bars on a terminal, elsewhere (a log file, a scheduler's output) a plain line now and then.

Knows nothing of what the work is. Imports nothing of the harness, and rich only where there is a terminal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread
from typing import Any, TextIO

_LINE_EVERY_S = 10.0  # where there is no terminal
_FIRST_LINE_S = 1.0  # what is done by then needs none


class Display:
    """The bars of a command, of which several may be at work at once; a context manager.

        with Display() as display, display.bar("fetching", total=1000, of_bytes=True) as bar:
            bar.advance(100)

    Shows nothing unless it is ``enabled``. Threads may share it, and its bars.
    """

    def __init__(self, *, enabled: bool = True, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self.enabled = enabled
        self.live = enabled and self._stream.isatty()
        self._rich: Any = None

    def __enter__(self) -> Display:
        if self.live:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, Task, TextColumn, TimeRemainingColumn
            from rich.text import Text

            class TimeLeft(TimeRemainingColumn):
                """What a row says of it itself, else by its speed so far."""

                def render(self, task: Task) -> Text:
                    said = task.fields.get("left")
                    return Text(said, style="progress.remaining") if said else super().render(task)

            self._rich = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[state]}", markup=False),
                TimeLeft(compact=True),
                console=Console(file=self._stream),
                refresh_per_second=4,
            )
            self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._rich is not None:
            self._rich.stop()

    def bar(self, description: str, total: int | None = None, *, done: int = 0, of_bytes: bool = False) -> Bar:
        """A bar of ``total`` items or bytes (None: nobody knows), ``done`` of which are done already."""
        return Bar(self, self._rich, description, total, done, of_bytes)

    def row(self, description: str, total: int = 1, done: int = 0, state: str = "") -> Row:
        """A bar whose owner says all that it shows."""
        return Row(self._rich, description, total, done, state)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Around work of which nothing is heard until it is done: say that it goes on, after a second and then every
        ten (on a terminal: all the time), and at its end how long it took."""
        done, begun, row = Event(), time.monotonic(), None if self._rich is None else self.row(what)

        def say() -> None:
            every = _FIRST_LINE_S
            while not done.wait(every):
                took = duration_text(time.monotonic() - begun)
                if row is None:
                    every = _LINE_EVERY_S
                    self.say(f"{what} ... ({took})")
                else:
                    row.show(took, 0)

        saying = Thread(target=say, name="waiting", daemon=True)
        if self.enabled:
            saying.start()
        try:
            yield
        finally:
            done.set()
            if self.enabled:
                saying.join()
            if row is not None:
                row.close()
        if (took_s := time.monotonic() - begun) >= _FIRST_LINE_S:
            self.say(f"{what}: {duration_text(took_s)}")

    @property
    def width(self) -> int:
        """Columns that there are for a line."""
        return int(self._rich.console.width) if self._rich is not None else 10_000

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._rich is not None:
            self._rich.console.print(text, highlight=False, markup=False, soft_wrap=True)
        elif self.enabled:
            print(text, file=self._stream, flush=True)


class Row:
    """A bar with a text behind it, on a terminal; nothing elsewhere."""

    def __init__(self, rich: Any, description: str, total: int | None, done: int, state: str) -> None:
        self._rich = rich
        self._row = None if rich is None else rich.add_task(description, total=total, completed=done, state=state)

    def show(self, state: str, done: int, total: int | None = None, left: str = "") -> None:
        if self._rich is not None:
            known = {} if total is None else {"total": total}
            self._rich.update(self._row, completed=done, state=state, left=left, **known)

    def close(self) -> None:
        """The bar goes."""
        if self._rich is not None:
            self._rich.remove_task(self._row)
            self._rich.refresh()  # else what is printed next would have the bar drawn once more


class Bar:
    """One piece of work; a context manager. At its end its last state stays as a line, and its bar goes.

    Without a terminal there is a line every ten seconds, and a last one if there was any.
    """

    def __init__(
        self, display: Display, rich: Any, description: str, total: int | None, done: int, of_bytes: bool
    ) -> None:
        self._display = display
        self._description, self._total, self._of_bytes = description, total, of_bytes
        self._before = self._done = done
        self._note = ""
        self._begun = self._said_at = time.monotonic()
        self._lock = Lock()
        self._row = Row(rich, description, total, done, self._state() if rich is not None else "")

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._row.close()
        if self._display.live:
            self._display.say(f"{self._description}: {self._state()}")
        elif self._said_at > self._begun:
            self._display.say(self._line())

    def advance(self, amount: int = 1, note: str = "") -> None:
        """So much more is done; ``note`` stands behind the figures, until another replaces it."""
        with self._lock:
            self._done += amount
            self._note = note or self._note
            if self._display.live:
                self._row.show(self._state(), self._done)
            elif self._display.enabled and time.monotonic() - self._said_at >= _LINE_EVERY_S:
                self._said_at = time.monotonic()
                self._display.say(self._line())

    def _state(self) -> str:
        """How much of how much, at which rate if it is bytes, and the note."""
        shown = bytes_text if self._of_bytes else "{:,}".format
        text = shown(self._done) + ("" if self._total is None else f" of {shown(self._total)}")
        elapsed, gained = time.monotonic() - self._begun, self._done - self._before
        if self._of_bytes and gained and elapsed > 0:
            text += f", {bytes_text(gained / elapsed)}/s"
        return f"{text}, {self._note}" if self._note else text

    def _line(self) -> str:
        text = f"{self._description}: {self._state()}"
        elapsed, gained = time.monotonic() - self._begun, self._done - self._before
        if gained and self._total is not None and self._done < self._total:
            text += f", {duration_text(elapsed / gained * (self._total - self._done))} left"
        return text


def bytes_text(number: float) -> str:
    """Three digits and a unit, by powers of 1,000."""
    for unit in ("B", "KB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def duration_text(seconds: float) -> str:
    """In the unit that gives two digits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"

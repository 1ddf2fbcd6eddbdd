"""The tracebacks of what fails in a run, in a file of its folder: records and messages have a line of each."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from vamba_eval.contracts import CodeError, UserError
from vamba_eval.files import open_to_append, read_of_others
from vamba_eval.plain import valid
from vamba_eval.secrets import without_secrets

_NAME = "tracebacks.log"
_MOST_CHARACTERS = 20_000  # of one traceback; of a longer one, its beginning and its end
_MOST_BYTES = 2**20  # of the file
_HEAD = "==== "  # before what a traceback is of
_PLACE = re.compile(r'^ +File ".*", line \d+', re.M)


class Failure(str):
    """Why something failed, in a line, which also knows the traceback; it takes that along to other processes."""

    traceback: str

    def __new__(cls, reason: str, traceback: str = "") -> Failure:
        failure = super().__new__(cls, reason)
        failure.traceback = traceback
        return failure


def traceback_of(error: BaseException) -> str:
    """As Python shows it, with those of its causes."""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:  # errors are somebody else's, and may fail to be said
        text = "".join(traceback.format_tb(error.__traceback__))
    half = _MOST_CHARACTERS // 2
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:half]}\n  ...\n{text[-half:]}"


class Tracebacks:
    """The file in a run's folder. Each distinct traceback is kept once, also over several calls of the same run: two
    are one if they lead through the same lines, whatever video they are of."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / _NAME
        self.kept = False  # whether anything was, by this process
        self._known: set[str] | None = None  # None: the file is not read yet

    def keep(self, failure: object, about: str) -> bool:
        """Keep the traceback of ``failure`` (a Failure, or an exception), if it has one, under the heading ``about``;
        whether the file has it now. A file that cannot be written stops no run."""
        text = failure.traceback if isinstance(failure, Failure) else ""
        if isinstance(failure, BaseException):
            text = traceback_of(failure)
        if not (key := _lines_of(text)):
            return False
        try:
            self._known = self._there() if self._known is None else self._known
            if key not in self._known:
                self._write(text, about)
                self._known.add(key)
        except (OSError, UserError):
            return False
        self.kept = True
        return True

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Around what runs the code of a task or an adapter: where that fails, the error names this file."""
        try:
            yield
        except CodeError as error:
            if error.__cause__ is None or not self.keep(error.__cause__, str(error)):
                raise
            raise CodeError(f"{error}; its traceback is in {self.path}") from error.__cause__

    def _there(self) -> set[str]:
        if not self.path.exists():
            return set()
        kept = read_of_others(self.path).decode("utf-8", "replace").split(f"\n{_HEAD}")
        return {_lines_of(text) for text in kept}

    def _write(self, text: str, about: str) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        entry = valid(without_secrets(f"\n{_HEAD}{now} {' '.join(about.split())}\n{text.rstrip()}\n")).encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open_to_append(self.path) as file:
            if file.seek(0, os.SEEK_END) + len(entry) <= _MOST_BYTES:
                file.write(entry)


def _lines_of(text: str) -> str:
    return "\n".join(_PLACE.findall(text))

"""What can go wrong, and for whom: the caller, the benchmark's files, or one video; and how it is said in a line."""

from __future__ import annotations

import traceback
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


class UserError(Exception):
    """Something the person at the command line can mend; its text says what is wrong and what to do."""


class BudgetSpent(UserError):
    """What may be spent is spent: the run ends, and its answers are kept."""


class MissingData(UserError):
    """Files of a benchmark that are not where they are looked for, or not whole."""


class CodeError(UserError):
    """The code of a task or an adapter fails, whoever wrote it; its cause has the traceback."""


class VideoError(Exception):
    """A video that cannot be read. Costs its own questions, never the run."""


_LONGEST_LINE = 2000  # characters


def error_text(error: BaseException) -> str:
    """An error's text; nothing where that cannot be had, since errors are somebody else's and may fail to be said."""
    try:
        return str(error)
    except Exception:
        return ""


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says something, else the name of its class."""
    lines = (line.strip() for line in error_text(error).splitlines())
    line = next(filter(None, lines), type(error).__name__)
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} ... ({len(line):,} characters)"


def system_reason(error: BaseException) -> str:
    """As ``first_line``; of an error of the system or of FFmpeg what it is called, without its number and its file."""
    return getattr(error, "strerror", None) or first_line(error)


def raised_at(error: BaseException, file: str | None = None) -> str:
    """Where ``error`` was raised, as ``FILE, line N``: the last line of ``file`` that led to it, else the last of all
    but the harness's own; of a SyntaxError the line that it is about. Nothing where there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file]
    others = [frame for frame in frames if not Path(frame.filename).is_relative_to(_PACKAGE)]
    last = next(reversed(own or others), None)
    return "" if last is None else f"{last.filename}, line {last.lineno}"

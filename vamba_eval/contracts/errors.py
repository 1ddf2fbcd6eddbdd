"""What can go wrong, and for whom: the caller, the benchmark's files, or one video."""

from __future__ import annotations


class UserError(Exception):
    """Something the person at the command line can mend; its text says what is wrong and what to do."""


class MissingData(UserError):
    """Files of a benchmark that are not where they are looked for, or not whole."""


class VideoError(Exception):
    """A video that cannot be read. Costs its own questions, never the run."""

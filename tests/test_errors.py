"""How errors are said in a line."""

from __future__ import annotations

import errno

import av
import pytest

from vamba_eval.contracts import first_line, system_reason

NOT_THERE = FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/a.mp4")


@pytest.mark.parametrize(
    ("error", "line", "reason"),
    [
        (ValueError("one"), "one", "one"),
        (ValueError("\n \n  two words \nand more"), "two words", "two words"),
        (ValueError(), "ValueError", "ValueError"),
        (AssertionError(" \n"), "AssertionError", "AssertionError"),
        (NOT_THERE, "[Errno 2] No such file or directory: '/data/a.mp4'", "No such file or directory"),
        (OSError("one text"), "one text", "one text"),
        (ValueError("x" * 5000), f"{'x' * 2000} ... (5,000 characters)", f"{'x' * 2000} ... (5,000 characters)"),
        (
            av.error.InvalidDataError(1094995529, "Invalid data found when processing input", "file:a.mp4"),
            "[Errno 1094995529] Invalid data found when processing input: 'file:a.mp4'",
            "Invalid data found when processing input",
        ),
    ],
)
def test_errors_in_a_line(error: Exception, line: str, reason: str) -> None:
    assert first_line(error) == line and system_reason(error) == reason

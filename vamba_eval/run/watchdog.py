"""Ends this process where a model in it never comes back, with what it was at recorded as failed.

Neither a thread nor a kernel of a GPU can be interrupted, and a model whose call was broken off somewhere may answer
wrongly from then on; so the process ends, and the same command goes on in a new one. Whoever watches is a process of
its own: native code may hold the interpreter, so that nothing else of this process runs. As a script, this file is
that process; it then imports nothing but Python's own.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vamba_eval.store.records import Record
    from vamba_eval.store.runs import RecordFile

_TICK_S = 0.25
_LONGEST_TICK_S = 2 * _TICK_S  # a longer one was a pause of the whole run: Ctrl-Z, a container that is paused
_PATIENCE_S = 10.0  # for the process to end by itself after SIGTERM, with all that it cleans up


class Watchdog:
    """Gives a model ``limit_s`` between ``begin`` and ``end``; a context manager."""

    def __init__(self, limit_s: float, name: str) -> None:
        self._limit_s, self._name = limit_s, name
        self._process: subprocess.Popen[bytes] | None = None
        self._watching = False

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):  # it waits for this process to end
                self._process.wait(timeout=1)

    def begin(self, file: RecordFile, records: Sequence[Record]) -> None:
        """From now on the model is at something; ``records`` are to be written to ``file`` if it never comes back."""
        said = (
            f"the model {self._name!r} did not come back within {self._limit_s:g} s (--answer-timeout): {len(records)} "
            "of its questions are recorded as failed. It cannot be interrupted, so this process ends; the same command "
            "goes on without them"
        )
        lines = "".join(map(file.line_of, records))
        self._tell({"path": str(file.path.resolve()), "lines": lines, "said": said})
        self._watching = True

    def end(self) -> None:
        """It has come back."""
        if self._watching:
            self._tell(None)
            self._watching = False

    def _tell(self, message: Any) -> None:
        line = json.dumps(message).encode() + b"\n"
        for _ in range(2):  # it may have been killed, as anything may
            if self._process is None or self._process.poll() is not None:
                command = [sys.executable, "-I", __file__, repr(self._limit_s)]
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):
                self._process.stdin.write(line)
                self._process.stdin.flush()
                return


def _watch(limit_s: float) -> None:
    """Until the process that started this one closes its end of the pipe, as it does by ending in any way."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # these are for that process
        signal.signal(number, signal.SIG_IGN)
    watched, said, in_hand, spent_s = os.getppid(), b"", None, 0.0
    looked = time.monotonic()
    while True:
        told, _, _ = select.select([0], [], [], None if in_hand is None else _TICK_S)
        now = time.monotonic()
        if not _stands_still(watched):
            spent_s += min(now - looked, _LONGEST_TICK_S)
        looked = now
        if told:
            if not (more := os.read(0, 2**20)):
                return
            said += more
            *messages, said = said.split(b"\n")
            if messages:
                in_hand, spent_s = json.loads(messages[-1]), 0.0
        if in_hand is not None and spent_s >= limit_s:
            _end(watched, in_hand)
            in_hand = None


def _end(watched: int, in_hand: dict[str, str]) -> None:
    with suppress(OSError), open(in_hand["path"], "a", encoding="ascii") as file:
        file.write(in_hand["lines"])
        file.flush()
        os.fsync(file.fileno())
    with suppress(OSError):
        shown_again = "\x1b[?25h" if os.isatty(2) else ""  # the cursor, which a display of progress hides
        print(f"{shown_again}\n{in_hand['said']}", file=sys.stderr, flush=True)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if os.getppid() != watched:  # its number may be another's by now
            return
        with suppress(ProcessLookupError):
            os.kill(watched, number)
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and os.getppid() == watched:
            time.sleep(0.05)


def _stands_still(process: int) -> bool:
    """Whether it is stopped, as by Ctrl-Z; unknown where there is no /proc."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False


if __name__ == "__main__":
    _watch(float(sys.argv[1]))

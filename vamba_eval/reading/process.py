"""A process that works for this one: one task at a time, and it may be ended at any moment, or left behind.

It is started from nothing, so it inherits no lock, thread or GPU, and does not run the caller's program again as
multiprocessing's "spawn" does. Nothing is shared with it but a pair of sockets: however it ends, nothing is left, and
neither the end of this process nor anything else waits for it. Knows nothing of videos.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from typing import Any

# Its search path first becomes this process's, without the current folder, where anything may lie.
_MAIN = """\
import sys
del sys.path[0]
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[1]))
sys.path[:] = connection.recv()
from vamba_eval.reading.process import work
work(connection)
"""

DEATH_S = 5.0  # within which a process that is killed is gone, unless the system holds it


class Process:
    """A process in which ``begin(*arguments)`` is called first. ``ready`` once it has said so.

    ``connection`` has something to be received when the process has a result, and when it is dead.
    """

    def __init__(self, begin: Callable[..., object], *arguments: object) -> None:
        self.connection, theirs = Pipe()
        with theirs:
            command = [sys.executable, "-c", _MAIN, str(theirs.fileno())]
            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], **streams)  # type: ignore[call-overload]
        self.started = time.monotonic()
        self.ready = False
        self.killed: float | None = None  # when, if ever
        self.send(sys.path)
        self.send((begin, arguments))

    def send(self, task: object) -> None:
        """Hand over a task, as ``(function, arguments)``. One that dies meanwhile is heard of by ``receive``."""
        try:
            self.connection.send(task)
        except OSError:
            self.kill()

    def receive(self) -> Any:
        """What the function of the task returned; once before the first task that it is ready, as None. Raises EOFError
        when the process is dead."""
        try:
            result = self.connection.recv()
        except OSError:
            raise EOFError from None
        self.ready = True
        return result

    def kill(self) -> None:
        if self.killed is None and not self.dead:
            self._process.kill()
            self.killed = time.monotonic()

    @property
    def dead(self) -> bool:
        return self._process.poll() is not None

    @property
    def held(self) -> bool:
        """Whether it was killed and does not die: the system is at work for it, such as for a read that no file system
        answers, and lets nobody end that."""
        return self.killed is not None and time.monotonic() - self.killed > DEATH_S and not self.dead

    def cause(self) -> str:
        """Of its death."""
        try:
            status = self._process.wait(DEATH_S)
        except subprocess.TimeoutExpired:  # it has closed its side and lives
            self.kill()
            return "it does not answer"
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def end(processes: list[Process]) -> None:
    """Kill them and wait until they are gone, but not for what the system holds."""
    for process in processes:
        process.kill()
        process.connection.close()
    while any(not (process.dead or process.held) for process in processes):
        time.sleep(0.01)


def work(connection: Connection) -> None:
    """What such a process does, until nobody is at the other side."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that it works for
    begin, arguments = connection.recv()
    begin(*arguments)
    result = None
    with open(os.devnull, "w") as nowhere:  # a process that is left behind must not keep a pipe to somebody open
        os.dup2(nowhere.fileno(), 2)
    while True:
        try:
            connection.send(result)
            function, arguments = connection.recv()
        except (EOFError, OSError):
            return
        result = function(*arguments)

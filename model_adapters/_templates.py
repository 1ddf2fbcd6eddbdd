"""Chat templates, which are a checkpoint's own code in a sandbox: bounded in time and in memory.

The sandbox keeps a template from the interpreter, not from looping for years or from a text of any size. Only a process
can be ended in the midst of either, so one is forked for it: it has the processor at hand, and touches no GPU. Where
processes do not fork safely (macOS, Windows), templates are rendered in place.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress

from vamba_eval.contracts import first_line

_CPU_S = 10  # for a template, which takes milliseconds
_WALL_S = 60.0  # on a machine that is busy
_MEMORY_BYTES = 2**30  # beyond what the process has
_MOST_BYTES = 2**24  # of a chat: thousands of frames take some MB


class TemplateFailed(Exception):
    """A template made no text; why, in a line."""


def rendered(render: Callable[[], str]) -> str:
    """What ``render`` gives, in a process of its own. Raises TemplateFailed."""
    if sys.platform != "linux":
        try:
            return render()
        except Exception as error:
            raise TemplateFailed(first_line(error)) from error
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads there are not used by what follows
        child = os.fork()
    if child == 0:
        _render(render, reading, writing)
    os.close(writing)
    try:
        said = _all_of(reading)
    finally:
        os.close(reading)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if said is None:
        raise TemplateFailed(f"it gave no text within {_WALL_S:.0f} s")
    if len(said) > _MOST_BYTES:
        raise TemplateFailed(f"it gives more than {_MOST_BYTES // 2**20} MiB of text")
    try:
        answer = json.loads(said)
    except ValueError:
        late = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
        raise TemplateFailed(f"it gave no text within {_CPU_S} s" if late else "rendering it crashed") from None
    if "error" in answer:
        raise TemplateFailed(answer["error"])
    return str(answer["text"])


def _render(render: Callable[[], str], reading: int, writing: int) -> None:
    """In the child, which never returns."""
    import resource

    try:
        os.close(reading)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the parent's handlers are for the parent
            signal.signal(number, signal.SIG_DFL)
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        memory = pages * os.sysconf("SC_PAGE_SIZE") + _MEMORY_BYTES
        memory = memory if most == resource.RLIM_INFINITY else min(memory, most)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            answer = {"text": render()}
        except MemoryError:
            answer = {"error": f"it takes more than {_MEMORY_BYTES // 2**20} MiB of memory"}
        except Exception as error:
            answer = {"error": first_line(error) or type(error).__name__}
        content = memoryview(json.dumps(answer).encode())
        while content:
            content = content[os.write(writing, content) :]
    finally:
        os._exit(0)


def _all_of(reading: int) -> bytes | None:
    """What comes through the pipe, until it is closed or there is too much of it; None if that takes too long."""
    content, deadline = bytearray(), time.monotonic() + _WALL_S
    while len(content) <= _MOST_BYTES:
        if not select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return None
        if not (more := os.read(reading, 2**20)):
            break
        content += more
    return bytes(content)

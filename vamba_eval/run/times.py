"""When frames were taken, told to models that are not told it in their own way: in which form, and where.

Knows no benchmark and no model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vamba_eval.contracts import TIMES, Clip, Task, UserError


@dataclass(frozen=True)
class Times:
    """``auto`` tells seconds before the prompt of benchmarks that ask when something happens; ``off`` tells nothing;
    ``seconds`` and ``m:s`` tell times before every prompt, with ``-between`` before each frame instead, which is then a
    picture of its own. Models that are told times in their own way are told nothing more before the prompt.
    """

    way: str = "auto"

    def __post_init__(self) -> None:
        if self.way not in TIMES:
            raise UserError(f"times can be told as {', '.join(TIMES)}, not {self.way!r}")

    @property
    def between(self) -> bool:
        return self.way.endswith("-between")

    def check(self, tasks: Sequence[tuple[Task, str]]) -> None:
        """Raise UserError where it has no effect on some of ``tasks`` (with their protocols), or cannot be."""
        for task, protocol in tasks:
            if self.way == "off" and not task.asks_times:
                raise UserError(f"no times are told for {task.name} anyway: leave out --times off")
            if self.between and protocol in task.interleaved:
                raise UserError(
                    f"{task.name} under the protocol {protocol!r} has text of its own between frames: tell times "
                    f"before the prompt (--times {self.way.removesuffix('-between')}), or use another --protocol"
                )

    def describe(self, task: Task) -> dict[str, Any]:
        """For a fingerprint; empty where nothing is told."""
        if self.way == "auto":
            return {"times": "before the prompt, where a model is not told them"} if task.asks_times else {}
        return {"times": self.way}

    def before_prompt(self, task: Task, clip: Clip) -> str:
        """What stands before the prompt, "" for nothing. Raises ValueError where times are to be told and unknown."""
        way = "seconds" if self.way == "auto" and task.asks_times else self.way
        if way not in ("seconds", "m:s"):
            return ""
        times = _known(clip)
        unit = "in seconds" if way == "seconds" else "as minutes:seconds"
        listed = ", ".join(_seconds(time) if way == "seconds" else _clock(time) for time in times)
        return f"The {len(times)} frames of the video were taken at these times, {unit}: {listed}.\n"

    def captions(self, clip: Clip) -> tuple[tuple[int, str], ...]:
        """What stands before each frame (``Clip.captions``). Raises ValueError where times are unknown."""
        if not self.between:
            return ()
        told = [_clock(time) if self.way.startswith("m:s") else f"{_seconds(time)} s" for time in _known(clip)]
        return tuple((place, f"Frame at {time}: ") for place, time in enumerate(told))


def _known(clip: Clip) -> list[float]:
    times = [float(each) for each in clip.timestamps_s]
    if not all(map(math.isfinite, times)):
        raise ValueError(
            "times are to be told, and those of the frames are not known (extracted frames of unknown rate)"
        )
    return times


def _seconds(time: float) -> str:
    return f"{time:.1f}"


def _clock(time: float) -> str:
    """``1:02.5``, from an hour on ``1:00:02.5``: to a tenth of a second, as ``_seconds``."""
    tenths = round(time * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes}:{seconds}"

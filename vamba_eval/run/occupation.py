"""Where the time of many workers at many videos goes, and how long each video is likely to take.

Knows nothing of who the workers are or of what they do.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from vamba_eval.contracts import Video
from vamba_eval.reading.reader import Loaded

_QUESTIONS_A_VIDEO = 10.0  # so many cost about what encoding does: a rule of thumb, for the order alone


class Worker(Protocol):
    """Who is at a video or at none, since a time of time.monotonic(); ``number`` counts from 0."""

    number: int
    since: float

    @property
    def at_work(self) -> bool: ...


class Occupation:
    """Where the time of ``workers`` goes, and which videos take it; ``cores`` are those that read."""

    def __init__(self, workers: int, cores: int = 0) -> None:
        self._workers, self._cores = workers, cores
        self._busy_s = [0.0] * workers
        self._waited_s = [0.0] * workers
        self._finished: list[tuple[float, float, str]] = []  # when, after how long, which video
        self._idle_since = [0.0] * workers
        self.videos_read = self._cacheable = self._hits = 0
        self._cpu_s = self._saved_s = 0.0
        self._begun = time.monotonic()

    def begin(self) -> None:
        """The clock starts."""
        self._begun = time.monotonic()
        self._idle_since = [self._begun] * self._workers

    def hand_over(self, worker: Worker) -> float:
        """A worker gets a video; the seconds that it waited."""
        waited = time.monotonic() - max(worker.since, self._begun)
        self._waited_s[worker.number] += waited
        return waited

    def finish(self, worker: Worker, video: str | None) -> None:
        """A worker is rid of its video; None for one that it did not finish."""
        now = time.monotonic()
        self._busy_s[worker.number] += now - worker.since
        self._idle_since[worker.number] = now
        if video is not None:
            self._finished.append((now, now - worker.since, video))

    def read(self, loaded: Loaded, threads: int) -> None:
        """A video was read by so many threads."""
        self.videos_read += 1
        self._cacheable += loaded.clip is not None or loaded.digest is not None
        self._cpu_s += loaded.seconds * threads
        if loaded.saved_s is not None:
            self._hits += 1
            self._saved_s += loaded.saved_s

    def of(self, worker: Worker) -> str:
        """Of one worker, in short."""
        elapsed = time.monotonic() - self._begun
        now_s = time.monotonic() - max(worker.since, self._begun)
        busy = self._busy_s[worker.number] + (now_s if worker.at_work else 0.0)
        return f"busy {_percent(busy, elapsed)}, waited {self._waited_s[worker.number]:.0f} s"

    def state(self, workers: Sequence[Worker]) -> str:
        """Of all, in a line."""
        now = time.monotonic()
        elapsed = (now - self._begun) * self._workers
        at_work = [worker for worker in workers if worker.at_work]
        busy = sum(self._busy_s) + sum(now - worker.since for worker in at_work)
        return (
            f"{len(at_work)} of {self._workers} replicas at work (busy {_percent(busy, elapsed)}, waited for clips "
            f"{_percent(sum(self._waited_s), elapsed)}); cores reading {self.cores()}"
        )

    def cores(self) -> str:
        """The part of all cores that has been reading."""
        return _percent(self._cpu_s, self._cores * (time.monotonic() - self._begun))

    def summary(self) -> str:
        """Where the time went, and who kept the others waiting."""
        if not self._finished:
            return f"{self.videos_read:,} videos read, none answered"
        elapsed = max(when for when, _, _ in self._finished) - self._begun
        return self._of_one(elapsed) if self._workers == 1 and not self._cores else self._of_many(elapsed)

    def _of_one(self, elapsed: float) -> str:
        videos, waited = len(self._finished), self._waited_s[0]
        waiting = f"{waited:,.1f} s ({_percent(waited, elapsed)}) waiting for clips"
        return f"{videos:,} videos in {elapsed:,.1f} s, {waiting}{self._of_cache()}"

    def _of_many(self, elapsed: float) -> str:
        end, dry = self._begun + elapsed, min(self._idle_since)
        tail_s = sum(max(0.0, end - since) for since in self._idle_since)
        whole = elapsed * self._workers
        parts = {"busy": sum(self._busy_s), "waiting for clips": sum(self._waited_s), "idle at the end": tail_s}
        parts["starting"] = whole - sum(parts.values())
        shares = ", ".join(f"{name} {_percent(part, whole)}" for name, part in parts.items() if part > 0.005 * whole)
        replicas = f"{self._workers} replica{'s' if self._workers > 1 else ''}"
        lines = [
            f"{len(self._finished):,} videos in {elapsed:,.1f} s by {replicas}: {shares}; cores reading "
            f"{_percent(self._cpu_s, self._cores * elapsed)}{self._of_cache()}"
        ]
        longest = sorted(self._finished, key=lambda one: -one[1])[:3]
        lines.append("took longest: " + ", ".join(f"{video} ({seconds:,.1f} s)" for _, seconds, video in longest))
        if late := [one for one in self._finished if one[0] > dry] if self._workers > 1 else []:
            late = sorted(late, key=lambda one: -one[0])[:3]
            names = ", ".join(f"{video} ({seconds:,.1f} s)" for _, seconds, video in late)
            lines.append(f"others waited {tail_s:,.1f} s in all for the last: {names}")
        return "; ".join(lines)

    def _of_cache(self) -> str:
        if not self._hits:
            return ""
        share = _percent(self._hits, self._cacheable)
        return f"; clip cache: {self._hits:,} of {self._cacheable:,} clips ({share}), {self._saved_s:,.0f} s saved"


def likely_costs(videos: Sequence[Video]) -> list[float]:
    """How long each video is likely to take, in no unit: by its length where all state theirs, else by its file."""
    lengths = [_length_s(video) for video in videos]
    if all(length is not None for length in lengths):
        sizes = [cast(float, length) for length in lengths]
    else:
        sizes = [float(_file_bytes(video.path)) for video in videos]
    return [size * (1 + len(video.questions) / _QUESTIONS_A_VIDEO) for size, video in zip(sizes, videos, strict=True)]


def _length_s(video: Video) -> float | None:
    if video.end_s is not None:
        return video.end_s - (video.start_s or 0.0)
    return None if video.duration_s is None else video.duration_s - (video.start_s or 0.0)


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole > 0 else "-"

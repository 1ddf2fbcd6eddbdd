"""HourEval: the questions of Video-MME, MLVU and LongVideoBench about videos of half an hour or more.

From the Vamba paper (Ren et al., arXiv 2503.11579), whose scripts read lists of such questions that are not published;
here they are chosen again. MLVU and LongVideoBench state their videos' durations. Video-MME does not, so this
task, unlike all others, must know the headers of its video files when it is loaded: the processes that read videos tell
them, and what they told is kept in the user's cache directory.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vamba_eval.contracts import (
    Catalogue,
    Clip,
    Defect,
    GenerationSettings,
    Question,
    Score,
    Task,
    Video,
    VideoError,
)
from vamba_eval.files import remove_unfinished, replace_text, user_cache

from ._annotations import check_split
from .longvideobench import LongVideoBench
from .mlvu import MLVU
from .videomme import VideoMME

log = logging.getLogger(__name__)

_LEAST_S = 30 * 60.0
_SOURCES = (VideoMME, MLVU, LongVideoBench)


class HourEval(Task):
    """Each question keeps its source's prompt and scoring; its id is that of the source behind the source's name."""

    name = "houreval"
    version = "1"
    protocols = ("vamba", "lmms-eval", "flexible")
    catalogue = Catalogue(
        title="HourEval",
        homepage="https://github.com/TIGER-AI-Lab/Vamba",
        citation="Ren et al., Vamba, ICCV 2025, arXiv 2503.11579",
        reported_as="houreval_test",
        reads_data_of=tuple(source.name for source in _SOURCES),
    )

    def __init__(self) -> None:
        super().__init__()
        self._tasks: dict[str, Task] = {source.name: source() for source in _SOURCES}

    def generation(self, protocol: str) -> GenerationSettings:
        """One for all: the sources differ in the length of a response alone, and none may be cut off."""
        settings = [task.generation(protocol) for task in self._tasks.values()]
        return max(settings, key=lambda each: each.max_new_tokens)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        """Of each source the folder that it reads itself, side by side below ``data_root``."""
        check_split(self, split)
        self.defects = []
        loaded = {name: task.load(data_root) for name, task in self._tasks.items()}
        kept = []
        with _Durations() as durations:
            durations.look_at(
                video.path for videos in loaded.values() for video in videos if _stated_seconds(video) is None
            )
            for name, task in self._tasks.items():
                self.defects += [replace(defect, where=f"{name}: {defect.where}") for defect in task.defects]
                for video in loaded[name]:
                    questions = self._long_questions(name, video, durations)
                    if questions:
                        cluster = f"{name}/{video.cluster}" if video.cluster else None
                        kept.append(replace(video, id=f"{name}/{video.id}", cluster=cluster, questions=questions))
        return kept

    def _long_questions(self, source: str, video: Video, durations: _Durations) -> tuple[Question, ...]:
        stated = [_seconds(question.extra.get("duration")) for question in video.questions]
        seconds = _stated_seconds(video)
        is_long = self._is_long(source, video, durations) if seconds is None else seconds >= _LEAST_S
        return tuple(
            replace(question, id=f"{source}/{question.id}", groups={"source": source, **question.groups})
            for question, own in zip(video.questions, stated, strict=True)
            if (is_long if own is None else own >= _LEAST_S)
        )

    def _is_long(self, source: str, video: Video, durations: _Durations) -> bool:
        """What the file says; where it says nothing, what Video-MME's classes do: "long" is half an hour to one."""
        try:
            return durations.of(video.path) >= _LEAST_S
        except VideoError as error:
            problem = str(error)
        is_long = any(question.groups.get("duration") == "long" for question in video.questions)
        consequence = "it is of the class 'long' and kept" if is_long else "its questions are left out"
        self.defects.append(Defect(f"{source}: video {video.id}", f"unknown duration ({problem})", consequence))
        return is_long

    def _source(self, question: Question) -> tuple[Task, Question]:
        """The task that a question is from, and the question as that task knows it."""
        source, _, own_id = question.id.partition("/")
        return self._tasks[source], replace(question, id=own_id)

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        task, own = self._source(question)
        return task.prompt(video, own, protocol, clip)

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        task, own = self._source(question)
        return task.instructions(own, protocol)

    def rotated(self, question: Question, places: int) -> Question | None:
        task, own = self._source(question)
        turned = task.rotated(own, places)
        return None if turned is None else replace(turned, id=question.id)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        task, own = self._source(question)
        return task.score(own, response, protocol)


def _stated_seconds(video: Video) -> float | None:
    stated = [_seconds(question.extra.get("duration")) for question in video.questions]
    return max((value for value in stated if value is not None), default=None)


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


class _Durations:
    """Durations by the headers of video files, kept from run to run; a context manager.

    A file is known by its path, size and time of change. Without a place to keep them all are read again.
    """

    def __init__(self) -> None:
        self._file = user_cache() / "durations.json"
        self._known: dict[str, list[float]] = {}
        self._unknown: dict[Path, str] = {}  # and why
        self._changed = False

    def __enter__(self) -> _Durations:
        try:
            known = json.loads(self._file.read_text(encoding="utf-8"))
            self._known = known if isinstance(known, dict) else {}
        except (OSError, ValueError):
            self._known = {}
        return self

    def __exit__(self, *_: object) -> None:
        if not self._changed:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            remove_unfinished(self._file.parent)
            replace_text(self._file, json.dumps(self._known))
        except OSError as error:
            log.warning("durations of videos cannot be kept in %s: %s", self._file, error)

    def look_at(self, paths: Iterable[Path]) -> None:
        """Have the headers read of all files among ``paths`` that are not known yet."""
        from vamba_eval.reading.headers import headers

        unread = []
        for path in dict.fromkeys(paths):
            try:
                self._of(path)
            except VideoError as error:
                self._unknown[path] = str(error)
            except KeyError:
                unread.append(path)
        for path, info in headers(unread) if unread else ():
            if isinstance(info, str):
                self._unknown[path] = info
            elif info.duration_s is None:
                self._unknown[path] = "its header states no duration"
            else:
                self._known[str(path.resolve())] = [*_state(path), info.duration_s]
                self._changed = True

    def of(self, path: Path) -> float:
        """Seconds, of a file that was looked at. Raises VideoError, with the reason, where that is not known."""
        if path in self._unknown:
            raise VideoError(self._unknown[path])
        try:
            return self._of(path)
        except KeyError:
            raise VideoError("the file was changed while its header was read") from None

    def _of(self, path: Path) -> float:
        """Raises KeyError for a file that was never looked at, or was changed since."""
        if path == Path():
            raise VideoError("its annotation names no video")
        key, state = str(path.resolve()), _state(path)
        match self._known.get(key):
            case [size, time, int() | float() as seconds] if [size, time] == state:
                return float(seconds)
        raise KeyError(key)


def _state(path: Path) -> list[float]:
    """By which a change of the file is known."""
    try:
        about = path.stat()
    except OSError as error:
        raise VideoError(f"no such file: {path}") from error
    return [about.st_size, about.st_mtime_ns]

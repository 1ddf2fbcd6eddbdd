"""Frames that a selector chose for each question: its file, checked against the questions that it is for.

Knows no selector by name. What is read and what is refused is in docs/frame-sets.md.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vamba_eval.contracts import FrameSampling, FrameSet, Question, Task, UserError, Video, system_reason

log = logging.getLogger(__name__)

_OPTION = "--frames-from"
_FIELDS = ("frames", "selector", "seconds_per_question")
_CHOOSES = ("strategy", "num_frames", "fps", "token_budget", "rate")  # fields of FrameSampling that choose frames


@dataclass(frozen=True)
class FrameSets:
    """The frames of each question, by its id: ascending indices of the whole file, each once.

    ``selector`` is what chose them, "" where the file does not say; ``seconds_per_question`` is what that took, as the
    file has it, None where it does not say.
    """

    frames: Mapping[str, tuple[int, ...]]
    selector: str = ""
    seconds_per_question: float | None = None

    def of(self, question: Question, sizing: FrameSampling) -> FrameSet | None:
        """The frames of ``question``; None where the file has none."""
        frames = self.frames.get(question.id)
        return None if frames is None else FrameSet(frames, sizing)

    def describe(self, sizing: Mapping[str, Any]) -> dict[str, Any]:
        """For a fingerprint; ``sizing`` is what it would be without frame sets."""
        counts = {len(frames) for frames in self.frames.values()}
        low, high = min(counts), max(counts)
        given: dict[str, Any] = {"strategy": "given", "num_frames": low if low == high else f"{low} to {high}"}
        given |= {name: value for name, value in sizing.items() if name not in _CHOOSES}
        given["frames"] = hashlib.sha256(json.dumps(self.frames, sort_keys=True).encode()).hexdigest()[:16]
        about = {"selector": self.selector or None, "seconds_per_question": self.seconds_per_question}
        return given | {name: value for name, value in about.items() if value is not None}

    def check(self, task: Task, protocol: str, videos: Sequence[Video], asked: Sequence[Video]) -> None:
        """Raise UserError where these are not the frames of the questions of ``task``: of all its ``videos``, of which
        those ``asked`` must have theirs."""
        if protocol == "lmms-eval" and protocol in task.interleaved:
            raise UserError(
                f"{task.name} under the protocol 'lmms-eval' places text between frames by times that evenly spread "
                f"frames would have, which those of {_OPTION} have not: use another --protocol"
            )
        known = {question.id for video in videos for question in video.questions}
        if unknown := [name for name in self.frames if name not in known]:
            raise UserError(
                f"{_OPTION}: {len(unknown):,} of its {len(self.frames):,} questions are not in {task.name}, such as "
                f"{_some(unknown)}: is it of another benchmark or --split, or are its ids others (ours are like "
                f"{_some(known)})? Leave those out that are not asked"
            )
        wanted = [question.id for video in asked for question in video.questions if question.problem is None]
        if missing := [name for name in wanted if name not in self.frames]:
            raise UserError(
                f"{_OPTION}: {len(missing):,} of the {len(wanted):,} questions of {task.name} that are to be asked "
                f"have no frames there, such as {_some(missing)}: add them (no other frames take their place), or ask "
                "fewer with --limit"
            )


def frame_sets_from(source: str | Path | Mapping[str, Any]) -> FrameSets:
    """The frame sets in a JSON file, or in what such a file holds. Raises UserError, saying what to mend.

    ``{question id: [frame, ...]}``, or that as ``frames`` beside ``selector`` and ``seconds_per_question``; or a list
    of annotations with their ids, each with its ``frame_idx``, as AKS (arXiv 2502.21271) hands them to lmms-eval.
    """
    content = source if isinstance(source, Mapping) else _read(Path(source))
    about: dict[str, Any] = {}
    if isinstance(content, list):
        content = dict(_unique(_annotated(content)))
    elif isinstance(content, Mapping) and isinstance(content.get("frames"), Mapping):
        if unknown := [name for name in content if name not in _FIELDS]:
            raise UserError(f"{_OPTION}: it has a field {unknown[0]!r}; there are {', '.join(_FIELDS)}")
        about, content = {name: value for name, value in content.items() if name != "frames"}, content["frames"]
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{_OPTION}: it holds no frame sets: {{question id: [frame, ...]}} is expected")
    return FrameSets(_sets(content), _selector(about.get("selector")), _seconds(about.get("seconds_per_question")))


def check_alone(
    tasks: Collection[Any], sampling: Mapping[str, Any] | FrameSampling | None, ladder: Sequence[int]
) -> None:
    """Raise UserError where something is given beside frame sets that would have no effect."""
    if len(tasks) > 1:
        raise UserError(f"{_OPTION} has the frames of one benchmark: name one task, and run others by themselves")
    if isinstance(sampling, FrameSampling):
        raise UserError(
            f"{_OPTION} says which frames are shown, so only sizes are of use beside it: give sampling= as fields, "
            "such as {'longest_edge': 480, 'shortest_edge': 256}"
        )
    given = [name for name in _CHOOSES if name in (sampling or {})] or (["num_frames"] if ladder else [])
    if given:
        raise UserError(
            f"{_OPTION} says which frames are shown, so --{given[0].replace('_', '-')} has no effect: leave it out"
        )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=lambda pairs: dict(_unique(pairs)))
    except OSError as error:
        raise UserError(f"{_OPTION}: {path} cannot be read: {system_reason(error)}") from error
    except ValueError as error:
        raise UserError(f"{_OPTION}: {path} is not JSON: {error}") from error


def _unique(pairs: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, Any]]:
    seen: set[str] = set()
    for name, value in pairs:
        if name in seen:
            raise UserError(f"{_OPTION}: {name!r} is there twice: leave one")
        seen.add(name)
        yield name, value


def _annotated(rows: Sequence[Any]) -> Iterable[tuple[str, Any]]:
    """The id and frames of each of a list of annotations: Video-MME's have a ``question_id``, LongVideoBench's an
    ``id``."""
    for row in rows:
        name = row.get("question_id", row.get("id")) if isinstance(row, Mapping) else None
        if not isinstance(name, str) or "frame_idx" not in row:
            raise UserError(
                f"{_OPTION}: it is a list without question ids. Selectors write such lists in the order of the "
                "annotation file that they were run on, which nothing here can check: join the two, as in "
                "{row['id']: frames for row, frames in zip(annotations, selected, strict=True)}"
            )
        if row.get("use_topk") is False:  # AKS's patch of lmms-eval then takes evenly spread frames
            raise UserError(
                f"{_OPTION}: {name!r} has use_topk false, by which its frame_idx is not used: take that out"
            )
        yield name, row["frame_idx"]


def _sets(content: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    sets, sorted_ones, repeating = {}, [], []
    for name, frames in content.items():
        if not isinstance(frames, list | tuple) or not all(_is_index(frame) for frame in frames):
            raise UserError(
                f"{_OPTION}: the frames of {name!r} are no list of whole numbers from 0 on: {_shortened(frames)}"
            )
        if not frames:
            empty = sum(not each for each in content.values())
            raise UserError(
                f"{_OPTION}: {empty:,} questions have no frame, such as {name!r}: give them some, or leave them out"
            )
        indices = [int(frame) for frame in frames]
        sorted_ones += [name] if indices != sorted(indices) else []
        repeating += [name] if len(indices) != len(set(indices)) else []
        sets[str(name)] = tuple(sorted(set(indices)))
    for names, what in (
        (sorted_ones, "are not in the order of time: they are shown in that order"),
        (repeating, "repeat: each is shown once"),
    ):
        if names:
            log.warning("%s: the frames of %s questions (%s) %s", _OPTION, f"{len(names):,}", _some(names), what)
    return sets


def _is_index(frame: Any) -> bool:
    """A whole number from 0 on; AKS writes it as 29.0."""
    if isinstance(frame, bool) or not isinstance(frame, int | float):
        return False
    return frame >= 0 and (isinstance(frame, int) or frame.is_integer())


def _selector(name: Any) -> str:
    if name is not None and not (isinstance(name, str) and name.strip()):
        raise UserError(f"{_OPTION}: its selector is no name: {name!r}")
    return (name or "").strip()


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value >= 0 and math.isfinite(value)):
        raise UserError(f"{_OPTION}: its seconds_per_question are no number of seconds: {value!r}")
    return float(value)


def _some(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)[:3])


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]} ..."

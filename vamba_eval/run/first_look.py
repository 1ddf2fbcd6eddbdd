"""The first minute of a run: what it is going to do, said before anything slow; and an end where it cannot succeed.

Nine hundred questions that fail alike tell no more than the first few of them.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vamba_eval import machine, registry
from vamba_eval.contracts import FrameSampling, MissingData, Model, Question, Task, UserError, Video
from vamba_eval.files import safe_name
from vamba_eval.progress import Display
from vamba_eval.run.check_task import load_videos
from vamba_eval.run.plan import Job
from vamba_eval.run.tracebacks import Tracebacks
from vamba_eval.store.records import Record

_ALIKE = 5  # videos of which every question has failed for one reason, before any was answered


def load_from(task: Task, roots: Sequence[str | Path], split: str | None) -> tuple[list[Video], str | Path | None]:
    """The task's videos, and the first of several data roots that has them. Raises UserError where none has, and as
    ``load_videos``."""
    problem: UserError | None = None
    for root in roots or [None]:  # type: ignore[list-item]
        try:
            return load_videos(task, root, split), root
        except MissingData as error:
            problem = problem or error
    assert problem is not None
    if len(roots) > 1:
        raise type(problem)(f"{problem} (nor is it in {', '.join(map(str, roots[1:]))})") from problem
    raise problem


def check_can_write(folder: Path) -> None:
    """Raise UserError where a run's folder can be neither made nor written to."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UserError(f"{there} is a file, not a folder: choose another --output or --name")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {there}: choose another --output, or have its owner let you write there")


def check_models(display: Display, models: Sequence[tuple[str, str | Model, Mapping[str, Any]]]) -> None:
    """Raise UserError where a model cannot be built with its arguments, as far as its adapter knows that at once."""
    for label, source, given in models:
        if isinstance(source, str):
            with display.waiting(f"checking {label}"):
                registry.check_arguments(source, given)


def say_who_answers(
    display: Display, models: Sequence[tuple[str, str | Model, Mapping[str, Any]]], folder: Path
) -> None:
    """Two lines, before anything is read."""
    names = [label + (f" ({given['pretrained']})" if "pretrained" in given else "") for label, _, given in models]
    display.say(f"models: {', '.join(names)}")
    display.say(f"  on {_device()}; answers go to {folder}")


def say_what_is_asked(
    display: Display,
    jobs: Sequence[Job],
    videos_of: Sequence[Sequence[Video]],
    there: Sequence[int | None],
    ladder: Sequence[int],
) -> None:
    """Two lines a job, before a model is loaded. ``there``: how many of its videos are (None: other machines know)."""
    for job, videos, number in zip(jobs, videos_of, there, strict=True):
        questions = sum(len(video.questions) for video in videos)
        lacking = 0 if number is None else len(videos) - number
        told = f" ({lacking:,} of them not there)" if lacking else ""
        display.say(f"{job.name}: {questions:,} questions about {len(videos):,} videos{told}")
        display.say(f"  protocol {job.protocol}; {_frames(job.sampling, ladder)}")


def number_there(videos: Sequence[Video]) -> int:
    return sum(os.path.exists(video.path) for video in videos)


def _frames(sampling: FrameSampling, ladder: Sequence[int]) -> str:
    about = sampling.describe()
    counts = ", ".join(map(str, ladder)) or str(about.get("num_frames") or about.get("strategy"))
    edges = [
        f"{words} {about[name]} pixels" for name, words in (("longest_edge", "at most"), ("shortest_edge", "at least"))
        if about.get(name) is not None
    ]  # fmt: skip
    return f"{counts} frames, {' and '.join(edges) or 'in their own size'}"


def _device() -> str:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = [] if hidden == "" else machine.gpu_driver().get("gpus", [])
    if gpus:
        return f"{len(gpus)} x {gpus[0]}" if len(set(gpus)) == 1 else ", ".join(gpus)
    why = "CUDA_VISIBLE_DEVICES hides all GPUs" if hidden == "" else "no GPU was found"
    return f"the CPU ({machine.available_cores()} cores): {why}"


def check_there(job: Job, videos: Sequence[Video], models: Sequence[str | Model], data_root: str | Path | None) -> None:
    """Raise UserError where a model is to look at ``videos``, none of which is there."""
    if not any(_looks(model) for model in models):
        return
    where = next(iter(videos)).path
    name = (job.task.catalogue.reads_data_of or (job.task.name,))[0]
    known = job.task.catalogue.dataset is not None
    root = "DIR" if data_root is None or str(data_root).startswith(("hub:", "lmms-eval:")) else data_root
    fetch = f"run_eval.py download {name} --data-root {root} fetches them; else check" if known else "check"
    raise UserError(
        f"{job.name}: none of its {len(videos):,} videos is there; the first should be {where}: {fetch} the data root, "
        "and whether what holds them is mounted"
    )


def _looks(model: str | Model) -> bool:
    return (registry.adapter_class(model) if isinstance(model, str) else model).reads_video


class FirstFailures:
    """Whether a run fails from its first video on, for one reason."""

    def __init__(self, begun: bool, tracebacks: Tracebacks) -> None:
        self._over = begun  # there are answers from before
        self._tracebacks = tracebacks
        self._reasons: set[str] = set()
        self._videos: set[str] = set()

    def note(self, record: Record, path: Path | None) -> None:
        """Raise UserError where the first few videos have all failed alike."""
        if self._over or record.error is None:
            self._over = True
            return
        self._reasons.add(_without_names(record.error, record, path))
        self._videos.add(record.video)
        if len(self._reasons) > 1:
            self._over = True
        elif len(self._videos) > _ALIKE:
            kept = f"tracebacks are in {self._tracebacks.path}; " if self._tracebacks.kept else ""
            raise UserError(
                f"the first {_ALIKE} videos all failed alike: {record.error}. Nothing more is asked; mend that, and "
                f"the same command goes on ({kept}--keep-going asks all the same)"
            )


def _without_names(error: str, record: Record, path: Path | None) -> str:
    """``error`` without what differs from video to video: its path, its name and numbers."""
    for name in filter(None, (str(path) if path else "", path.name if path else "", record.video)):
        error = error.replace(name, "")
    return re.sub(r"\d+", "0", error)


def sampled(videos: Sequence[Video], count: int) -> tuple[list[Video], str]:
    """``count`` questions drawn from all groups in proportion, and that in words; their videos in the same order.

    The groups are those of the first kind that tells questions apart. Which are drawn depends on questions' ids alone,
    and of each group a larger sample holds a smaller one, so that it can be extended.
    """
    questions = [question for video in videos for question in video.questions]
    kinds = list(dict.fromkeys(kind for question in questions for kind in question.groups))
    kind = next((kind for kind in kinds if len({_group(question, kind) for question in questions}) > 1), None)
    groups: dict[str, list[str]] = defaultdict(list)
    for question in questions:
        groups["" if kind is None else _group(question, kind)].append(question.id)
    shares = {group: count * len(ids) / len(questions) for group, ids in groups.items()}
    taken = {group: int(share) for group, share in shares.items()}
    by_rest = sorted(groups, key=lambda group: (taken[group] - shares[group], group))
    for group in by_rest[: min(count, len(questions)) - sum(taken.values())]:
        taken[group] += 1
    drawn: set[str] = set()
    for group, ids in groups.items():
        order = sorted(ids)
        random.Random(group).shuffle(order)
        drawn |= set(order[: taken[group]])
    kept = [replace(video, questions=tuple(q for q in video.questions if q.id in drawn)) for video in videos]
    of = f" from each {kind} in proportion" if kind else ""
    return [video for video in kept if video.questions], f"{len(drawn):,} questions drawn{of}"


def _group(question: Question, kind: str) -> str:
    return str(question.groups.get(kind, ""))


def folder_for(
    output: str | Path, name: str | None, jobs: Sequence[Job], split: str | None, ladder: Sequence[int]
) -> Path:
    """The run's folder: called ``name``, or by its tasks; where a run of these that was made otherwise is there
    already, with what differs behind it."""
    base = Path(output) / safe_name(name or "+".join(job.name for job in jobs))
    if name is not None:
        return base
    try:
        first = base / f"{ladder[0]}-frames" if ladder else base
        made = json.loads((first / "run.json").read_text(encoding="utf-8"))["tasks"]
        differing = [text for job in jobs if job.name in made for text in _differs(made[job.name], job, split)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return base
    return base.with_name(safe_name("-".join([base.name, *dict.fromkeys(differing)]))) if differing else base


def label_there(folders: Sequence[Path], label: str) -> str:
    """``label``, or how a run that is there calls it: earlier versions had no dots in labels."""
    for folder in folders:
        with suppress(OSError, ValueError, LookupError, TypeError):
            known = json.loads((folder / "run.json").read_text(encoding="utf-8"))["models"]
            if label not in known and safe_name(label) in known:
                return safe_name(label)
    return label


def _differs(made: Mapping[str, Any], job: Job, split: str | None) -> list[str]:
    about = job.sampling.describe()
    facts = [
        (made.get("split"), split, split or "own split"),
        (made.get("protocol"), job.protocol, job.protocol),
        (made["sampling"].get("num_frames"), about.get("num_frames"), f"{about.get('num_frames')} frames"),
    ]
    return [text for before, now, text in facts if before != now]

"""A loaded benchmark, checked before anything is asked of it: its questions, that its prompts can be made, and the
places of its files.

A mistake in a task of one's own is an error here, at once, and not as many failed or mixed-up records.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from vamba_eval import registry
from vamba_eval.contracts import LETTERS, Question, Task, UserError, Video
from vamba_eval.files import leads_outside
from vamba_eval.hub import quick_without_network
from vamba_eval.run.plan import Job


def load_videos(task: Task, data_root: str | Path | None, split: str | None) -> list[Video]:
    """What a task's ``load`` gives. Raises what it raises for the user, and UserError where its code fails or gives
    something else; without a network what the Hub's cache has is used at once."""
    on_hub = str(data_root).startswith("hub:")
    try:
        with quick_without_network() if on_hub else nullcontext():
            loaded: Any = task.load(data_root, split)
    except UserError:
        raise
    except Exception as error:
        what = f"{task.name}: its annotations cannot be loaded"
        raise registry.code_error(what, error, type(task)) from error
    given = f"a {_kind(loaded)}"
    if isinstance(loaded, list | tuple):
        others = [_kind(each) for each in loaded if not isinstance(each, Video)]
        if not others:
            return list(loaded)
        given = f"one with a {others[0]} in it"
    raise UserError(f"{task.name}: {type(task).__name__}.load should return a list of Videos, not {given}")


def check_questions(task: Task, videos: Sequence[Video]) -> None:
    """Raise UserError, naming the first of them, where ``videos`` are not as the contract has them.

    The ids of videos and of questions are text, and unique over the whole benchmark (records know a question by its id
    alone), files are Paths, texts and options are text, groups are text or tuples of it, and a single letter as the
    answer to a question with options is one of theirs ("" and None: there is no right one, it is withheld). Of a
    question that has a ``problem``, so that nobody is asked it, only the id matters.
    """
    seen: set[str] = set()
    video_of: dict[str, str] = {}
    for video in videos:
        if video.id in seen:
            raise UserError(f"{task.name}: two videos have the id {video.id!r}: give each Video an id of its own")
        seen.add(video.id)
        if (mistake := _mistake_of_video(video)) is not None:
            raise UserError(f"{task.name}: the video {video.id!r}: {mistake}")
        for question in video.questions:
            if not isinstance(question, Question):
                raise UserError(f"{task.name}: the video {video.id!r} has a {_kind(question)} among its Questions")
            if (other := video_of.get(question.id)) is not None:
                where = f"twice at the video {other!r}" if other == video.id else f"at {other!r} and at {video.id!r}"
                raise UserError(
                    f"{task.name}: the question id {question.id!r} is used {where}: ids must be unique over the whole "
                    "benchmark, as records know a question by its id alone"
                )
            video_of[question.id] = video.id
            if question.problem is None and (mistake := _mistake(question)) is not None:
                raise UserError(f"{task.name}: question {question.id!r} at the video {video.id!r}: {mistake}")


def _mistake_of_video(video: Video) -> str | None:
    if not isinstance(video.id, str):
        return f"its id must be a str, not {_kind(video.id)} ({video.id!r})"
    for name, file in (("path", video.path), ("subtitles", video.subtitles or Path())):
        if not isinstance(file, Path):
            return f"its {name} must be a Path, not {_kind(file)} ({file!r})"
    for question in video.questions:
        if isinstance(question, Question) and not isinstance(question.id, str):
            return f"its question's id must be a str, not {_kind(question.id)} ({question.id!r})"
    return None


def _mistake(question: Question) -> str | None:
    if not isinstance(question.text, str):
        return f"its text must be a str, not {_kind(question.text)}"
    if not isinstance(question.options, tuple | list):
        return f"its options must be a tuple of str, not {_kind(question.options)}"
    for option in question.options:
        if not isinstance(option, str):
            return f"its options must be str, not {_kind(option)} ({option!r})"
    for group, value in question.groups.items():
        if not isinstance(value, str) and not (isinstance(value, tuple) and all(isinstance(one, str) for one in value)):
            return f"its group {group!r} must be a str or a tuple of str, not {_kind(value)} ({value!r})"
    answer = question.answer
    if answer is not None and not isinstance(answer, str):
        return f"its answer must be a str or None, not {_kind(answer)} ({answer!r})"
    letters = LETTERS[: len(question.options)]
    if letters and answer and len(answer) == 1 and answer not in letters:
        of = f"{letters[0]} to {letters[-1]}" if len(letters) > 1 else letters
        return f"its answer {answer!r} is none of its options' letters ({of}); use None where it is withheld"
    return None


def _kind(value: object) -> str:
    return type(value).__name__


def try_a_prompt(job: Job, videos: Sequence[Video]) -> None:
    """Raise UserError, naming the exception, if the prompt of the first question cannot be made.

    Without a clip: nothing is done for a task whose prompts need one.
    """
    if job.task.prompts_need_clip:
        return
    first = next(((v, q) for v in videos for q in v.questions if q.problem is None), None)
    if first is None:
        return
    video, question = first
    try:
        job.prompt(video, question)
    except Exception as error:
        what = f"{job.task.name}: the prompt of question {question.id!r} at the video {video.id!r} cannot be made"
        raise registry.code_error(what, error, type(job.task)) from error


def files_outside(task: Task, videos: Sequence[Video], data_root: str | Path | None) -> dict[str, Path]:
    """The files that annotations, or links in the place of files, put outside of the data root: one a video, by its id.

    Annotations are somebody else's, and name any file of this machine if they like; what it shows may be sent to a
    served model, and kept in results. A task without a data root, whose code alone says where its videos are, may read
    what it likes.
    """
    roots = _roots(task, data_root)
    found = {}
    for video in videos if roots else ():
        for path in (video.path, video.subtitles):
            if path not in (None, Path()) and all(leads_outside(root, path) for root in roots):
                found[video.id] = path
    return found


def without(videos: Sequence[Video], outside: dict[str, Path]) -> list[Video]:
    """``videos``, with questions that cannot be asked where files are ``outside``."""

    def refused(video: Video, path: Path) -> Video:
        problem = f"{path} is outside of the data root: if it is meant to be read, give --allow-outside"
        return replace(video, questions=tuple(replace(each, problem=problem) for each in video.questions))

    return [refused(video, outside[video.id]) if video.id in outside else video for video in videos]


def _roots(task: Task, data_root: str | Path | None) -> list[Path]:
    """The folders in which a task may find its videos; none if there is no data root to leave.

    The Hub's cache always: a snapshot, which a data root may be or lead to, holds links into it.
    """
    if data_root is None and not (task.catalogue.dataset or task.catalogue.reads_data_of):
        return []
    from huggingface_hub.constants import HF_HUB_CACHE

    root: str | Path = data_root or "lmms-eval:"
    if str(root).startswith(("hub:", "lmms-eval:")):
        root = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return [Path(root).expanduser(), Path(HF_HUB_CACHE)]

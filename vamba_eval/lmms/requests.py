"""lmms-eval's requests as questions of ours: what they show, what they ask, how they are to be decoded.

A request names a document and holds functions of its task; two requests that show the same file are two
questions about one video. Reads no video and knows no model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vamba_eval.contracts import GenerationSettings, UserError
from vamba_eval.video.pictures import IMAGE_ENDINGS

log = logging.getLogger(__name__)

_IMAGE_MARK = "<image>"  # where lmms-eval's tasks put images; its own Qwen2-VL removes it too
_DEFAULT_TOKENS = 128  # of lmms-eval's own Qwen2-VL, where a task sets no limit
_KNOWN = {"max_new_tokens", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k", "until", "seed"}
# Arguments that would change the response, with the values that do not.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "num_return_sequences": (None, 1),
    "n": (None, 1),
    "best_of": (None, 1),
    "repetition_penalty": (None, 1, 1.0),
    "no_repeat_ngram_size": (None, 0),
    "min_new_tokens": (None, 0),
}


class Unsupported(UserError):
    """A request that our models cannot answer as it is meant."""


@dataclass(frozen=True)
class VideoFile:
    """A video, or the part of it between two times in seconds."""

    path: Path
    start_s: float | None = None
    end_s: float | None = None


@dataclass
class Content:
    """What a request shows and asks: one video, or pictures (PIL images or paths), or nothing; and a text."""

    text: str = ""
    videos: list[VideoFile] = field(default_factory=list)
    pictures: list[Any] = field(default_factory=list)

    def check(self) -> None:
        """Raise Unsupported for what cannot be shown."""
        if len(self.videos) > 1:
            raise Unsupported(f"{len(self.videos)} videos in one question: our models look at one")
        if self.videos and self.pictures:
            raise Unsupported("a video and pictures in one question: our models look at one or the other")


@dataclass
class LmmsRequest:
    """A request: its place in the order in which answers are returned, and how to get its content.

    ``document`` identifies (task, split, number); ``content`` calls the task's functions, which may decode media;
    ``functions`` are the names of those that the task is defined by.
    """

    place: int
    document: tuple[str, str, Any]
    content: Callable[[], Content]
    settings: GenerationSettings
    continuation: str = ""
    functions: frozenset[str] = frozenset()

    @property
    def task(self) -> str:
        return self.document[0]


def generation_requests(requests: Sequence[Any], task_dict: Mapping[str, Any], chat: bool) -> list[LmmsRequest]:
    """Of ``generate_until``: (context, arguments, doc_to_visual, doc_id, task, split), or for chat models
    (context, doc_to_messages, arguments, doc_id, task, split). Nothing in a request is changed.

    A request that occurs again (as with ``--repeats``) has the next seed.
    """
    asked = []
    times: dict[Any, int] = {}
    for place, request in enumerate(requests):
        context, first, second, number, task, split = request.args
        given, media = (second, first) if chat else (first, second)
        padding = (getattr(request, "metadata", None) or {}).get("__padding_only__", False)
        key = (task, split, number, getattr(request, "idx", 0), context)
        occurrence = 0 if padding else times.get(key, 0)
        times[key] = times.get(key, 0) + (not padding)
        settings = generation_settings(given or {}, occurrence)
        content = _content_of(task_dict, (task, split, number), context, media, chat)
        asked.append(LmmsRequest(place, (task, split, number), content, settings, functions=_functions(media)))
    return asked


def likelihood_requests(requests: Sequence[Any], task_dict: Mapping[str, Any]) -> list[LmmsRequest]:
    """Of ``loglikelihood``: (context, continuation or doc_to_target, doc_to_visual, doc_id, task, split), or a
    context and a continuation alone."""
    asked = []
    for place, request in enumerate(requests):
        context, target, *rest = request.args
        media, number, task, split = rest or (None, place, "", "")
        continuation = target if isinstance(target, str) else str(target(task_dict[task][split][number]))
        content = _content_of(task_dict, (task, split, number), context, media, False)
        settings, functions = GenerationSettings(), _functions(media)
        asked.append(LmmsRequest(place, (task, split, number), content, settings, continuation, functions))
    return asked


def generation_settings(given: Mapping[str, Any], occurrence: int = 0) -> GenerationSettings:
    """lmms-eval's generation arguments. Raises Unsupported for one that would change the response and is not ours."""
    for name, harmless in _UNSUPPORTED.items():
        if name in given and given[name] not in harmless:
            raise Unsupported(f"{name}={given[name]}: our models decode greedily or sample, without it")
    if others := sorted(given.keys() - _KNOWN - _UNSUPPORTED.keys()):
        _warn_once(f"generation arguments that our models do not know are ignored: {', '.join(others)}")
    temperature = given.get("temperature")
    # As its own Qwen2-VL: a temperature above 0 samples, whatever the task's do_sample says.
    sampled = temperature > 0 if temperature is not None else bool(given.get("do_sample"))
    until = given.get("until")
    if until is not None and not isinstance(until, str | list | tuple):
        raise Unsupported(f"until={until!r}: a text, or a list of texts")
    sampling: dict[str, Any] = {}
    if sampled:
        # No limit is written as 0 there, as in transformers, or as -1, as in vLLM.
        limit = given.get("top_k")
        sampling = {"temperature": float(1.0 if temperature is None else temperature)}
        sampling["top_k"] = None if limit in (None, 0, -1) else limit
        sampling["top_p"] = float(given["top_p"]) if given.get("top_p") is not None else 1.0
        sampling["seed"] = int(given.get("seed") or 0) + occurrence
    try:
        return GenerationSettings(
            max_new_tokens=int(given.get("max_new_tokens") or given.get("max_gen_toks") or _DEFAULT_TOKENS),
            do_sample=sampled,
            until=tuple(text for text in ([until] if isinstance(until, str) else until or ()) if text),
            **sampling,
        )
    except ValueError as error:
        raise Unsupported(str(error)) from error


def _functions(media: Any) -> frozenset[str]:
    """Names of the functions that define the task whose method ``media`` is."""
    config = getattr(getattr(media, "__self__", None), "config", None)
    given = (getattr(config, name, None) for name in ("doc_to_visual", "doc_to_text", "doc_to_messages"))
    plain = (getattr(function, "func", function) for function in given)  # some are partial
    return frozenset(name for function in plain if (name := getattr(function, "__name__", None)))


# ------------------------------------------------------------------------------------------------ content


def _content_of(
    task_dict: Mapping[str, Any], document: tuple[str, str, Any], context: str, media: Any, chat: bool
) -> Callable[[], Content]:
    task, split, number = document

    def content() -> Content:
        doc = task_dict[task][split][number] if callable(media) else None
        if chat:
            found = _from_messages(media(doc))
        else:
            found = Content(str(context).replace(_IMAGE_MARK, ""))
            for visual in _flat(media(doc) if callable(media) else media):
                _add(found, visual)
        found.check()
        return found

    return content


def _from_messages(messages: Sequence[Mapping[str, Any]]) -> Content:
    """One turn of chat messages: what it shows comes first, then its text."""
    content = Content()
    texts = []
    for message in messages:
        role, parts = message["role"], message["content"]
        if role == "assistant":
            raise Unsupported("a conversation with the model's earlier answers: our models answer one question")
        if role == "system":
            _warn_once("our models have a system message of their own: the task's is put before the question")
        for part in [{"type": "text", "text": parts}] if isinstance(parts, str) else parts:
            if part["type"] == "text":
                texts.append(part["text"] if role != "system" else f"{part['text']}\n")
                continue
            if any(texts) and role != "system":
                _warn_once("our models see the video or pictures first: text before them is put behind them")
            _add(content, part, part["type"])
    content.text = "".join(texts).replace(_IMAGE_MARK, "")
    return content


def _flat(visuals: Any) -> list[Any]:
    if visuals is None:
        return []
    if isinstance(visuals, list | tuple):
        return [each for visual in visuals for each in _flat(visual)]
    return [visuals]


def _add(content: Content, visual: Any, kind: str | None = None) -> None:
    """Add something shown: a path, a PIL image, or a dictionary with either and perhaps a part's times."""
    start = end = None
    while isinstance(visual, Mapping):
        kind = visual.get("type", kind)
        start = visual.get("start_time", visual.get("video_start", start))
        end = visual.get("end_time", visual.get("video_end", end))
        inner = next((visual[key] for key in ("url", "path", "video", "image") if visual.get(key) is not None), None)
        if inner is None:
            raise Unsupported(f"something to show that is neither a video nor a picture: {sorted(visual)}")
        visual = inner
    if kind == "audio":
        raise Unsupported("audio: our models look at videos and pictures, and hear nothing")
    if isinstance(visual, str | Path):
        path = str(visual).removeprefix("file://")
        if "://" in path or path.startswith("data:"):
            raise Unsupported(f"{path[:60]}: our models read files, not URLs")
        if kind == "image" or (kind is None and path.lower().endswith(IMAGE_ENDINGS)):
            content.pictures.append(Path(path))
        else:
            content.videos.append(VideoFile(Path(path), start, end))
    elif hasattr(visual, "convert"):  # a PIL image
        content.pictures.append(visual)
    else:
        raise Unsupported(f"a {type(visual).__name__} to show: our models look at video files and pictures")


_warned: set[str] = set()


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        log.warning(text)

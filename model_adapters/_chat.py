"""How a checkpoint is asked about a clip: its chat template, its processor, and what came of the frames.

What an adapter does with the prompt (encode its prefix here, hand it to an engine) is the adapter's own.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from vamba_eval.contracts import Clip, Seen, UserError

from . import _frames, _templates, _transformers

_MARK = "QUESTION"
_CHATS = 8
log = logging.getLogger(__name__)


class Chat:
    """A base of adapters that ask a checkpoint by its processor and chat template.

    An adapter sets ``processor``, ``tokenizer``, ``kind`` (the type of its configuration) and ``_name`` (the
    checkpoint's), calls `_learn_tokens`, sets ``system``, ``thinking``, ``max_pixels`` and ``total_pixels``, and then
    calls `_check_template` and `_choose_frames`.
    """

    processor: Any
    tokenizer: Any
    kind: str
    frames_as: str
    system: str | None
    thinking: bool | None
    max_pixels: int | None
    total_pixels: int | None
    _name: str
    _can: dict[str, bool]
    _auto: bool
    _trims: bool
    _warned: bool
    _added: set[str]  # texts of added tokens, at which tokenizers always split
    _media_tokens: set[int]
    _placeholders: set[int]
    _plain: _transformers.PlainText
    _description: dict[str, Any]
    _chats: Mapping[str, str] = MappingProxyType({})  # the last, by what was rendered: most videos have as many frames
    _takes_kinds: bool = False  # whether the model wants to know which tokens stand for frames

    def _learn_tokens(self, config: Any) -> None:
        """What tokens the processor has, and which of them stand for frames."""
        self.tokenizer = getattr(self.processor, "tokenizer", None)
        if self.tokenizer is None:
            raise UserError(f"{self._name} has no processor with a tokenizer: is it a video or image-text model?")
        if not getattr(self.processor, "chat_template", None):  # which some processors leave to their tokenizer
            self.processor.chat_template = getattr(self.tokenizer, "chat_template", None)
        self._added = {str(token) for token in (*self.tokenizer.get_added_vocab(), *self.tokenizer.all_special_tokens)}
        self._media_tokens, self._placeholders = _media_tokens(config, self.processor)
        self._plain = _transformers.PlainText(self.tokenizer, self.tokenizer.convert_ids_to_tokens(self._placeholders))
        self._warned = False

    def _render(self, clip: Clip | None, **template: Any) -> str:
        """The chat with the mark in the question's place."""
        return self._chat(self._media(clip), _MARK, **template)

    def _chat(self, media: Sequence[dict[str, Any]], question: str, **template: Any) -> str:
        content = [*media, {"type": "text", "text": question}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": self.system}]})
        if self.thinking is not None:  # as most call it, and as Kimi and DeepSeek do
            template = {"enable_thinking": self.thinking, "thinking": self.thinking, **template}
        asked = {"add_generation_prompt": True, "tokenize": False, **template}
        key = json.dumps([messages, asked], sort_keys=True)
        if (text := self._chats.get(key)) is None:
            try:
                text = _templates.rendered(lambda: str(self.processor.apply_chat_template(messages, **asked)))
            except _templates.TemplateFailed as error:  # broken, or one that refuses a role
                raise UserError(f"{self._name}: its chat template fails: {error}") from error
            self._chats = {**dict(list(self._chats.items())[-_CHATS:]), key: text}
        if text.count(_MARK) != 1 or "'text': " in text:  # of a template that takes texts alone, and shows the list
            raise UserError(f"{self._name}: its chat template does not show a question as it is given")
        return text

    def _media(self, clip: Clip | None) -> list[dict[str, Any]]:
        if clip is None:
            return []
        if not self._as_images(clip):
            return [{"type": "video"}]
        texts = [""] * (len(clip.frames) + 1)
        for place, text in clip.captions:
            self._plain.check(text, "the text between the frames")
            texts[place] += text
        media: list[dict[str, Any]] = []
        for text in texts[:-1]:
            media += [{"type": "text", "text": text}] if text else []
            media.append({"type": "image"})
        return media + ([{"type": "text", "text": texts[-1]}] if texts[-1] else [])

    def _as_images(self, clip: Clip) -> bool:
        still = self._auto and self._can["images"] and len(clip.frames) == 1 and math.isnan(clip.source_fps)
        return self.frames_as == "images" or bool(clip.captions) or still

    def _first_tokens(self, text: str) -> tuple[int, ...]:
        """What the processor puts before a text without frames that the tokenizer does not."""
        special = self._adds_special(text)
        own = self.processor(text=[text], add_special_tokens=special, return_tensors="pt")["input_ids"][0].tolist()
        alone = self.tokenizer(text, add_special_tokens=special).input_ids
        count = len(own) - len(alone)
        if count < 0 or own[count:] != list(alone):
            raise UserError(f"{self._name} cannot be asked without a video: its processor makes other tokens of text")
        return tuple(own[:count])

    def _adds_special(self, text: str) -> bool:
        """Whether the tokenizer is to add its first token: not where the template has it."""
        begin = self.tokenizer.bos_token
        return not (begin and text.startswith(begin))

    # -------------------------------------------------------------------------------------------------- frames

    def _process(self, clip: Clip, text: str) -> dict[str, Any]:
        """The processor's tensors."""
        import torch

        given: dict[str, Any] = {"return_tensors": "pt", "add_special_tokens": self._adds_special(text)}
        clip = clip if self._as_images(clip) else _frames.long_enough(clip, self.processor.video_processor)
        if self._takes_kinds:
            given["return_mm_token_type_ids"] = True
        if self._as_images(clip):
            given["images"] = [_frames.pictures(clip, self.kind)]
            given |= self._bounds(self.processor.image_processor, clip)
        else:
            frames = torch.from_numpy(_frames.writable(clip, self.processor.video_processor)).permute(0, 3, 1, 2)
            about = _frames.metadata(clip, self.kind)
            given |= {"videos": [[frames]], "video_metadata": [[about]], "do_sample_frames": False}
            given |= {"return_metadata": True, **_frames.pace(clip, self.kind)}
            given |= self._bounds(self.processor.video_processor, clip)
        found = dict(self.processor(text=[text], **given))
        found.pop("attention_mask", None)  # of ones
        return found

    def _bounds(self, processor: Any, clip: Clip) -> dict[str, Any]:
        kind = "videos_kwargs" if self.processor.__dict__.get("video_processor") is processor else "images_kwargs"
        given = _transformers.processor_defaults(self.processor, kind).get("size")
        return _frames.bounds(processor, clip, self.max_pixels, self.total_pixels, given)

    def _seen(self, clip: Clip, given: dict[str, Any], ids: Sequence[int], tokens: int | None = None) -> Seen:
        """What the tensors show of the clip, in ``tokens`` (default: those of ``ids`` that stand for frames).

        Raises UserError where that is fewer frames than it has.
        """
        images = self._as_images(clip)
        processor = self.processor.image_processor if images else self.processor.video_processor
        shown = _frames.shown(given, processor, images, len(clip.frames))
        if tokens is None:
            tokens = sum(token in self._media_tokens for token in ids)
        if not tokens:
            raise UserError(f"{self._name}: its processor puts no frames in the prompt: use another frames_as")
        if shown.frames < len(clip.frames):
            other = "video" if images else "images"
            hint = f", or show them otherwise (frames_as={other})" if self._can[other] else ""
            raise UserError(
                f"{self._name} sees {shown.frames} of {len(clip.frames)} frames: use --num-frames {shown.frames}{hint}"
            )
        self._warn_of_size(clip, shown)
        prompt = self.tokenizer.decode(_frames.collapsed(ids, self._placeholders))
        drawn = getattr(processor, "draw_on_frames", False) and _frames.timed(clip)
        times = not images and (bool(drawn) or _frames.tells_times(self.kind, prompt, clip))
        kind: Literal["video", "images"] = "images" if images else "video"
        return Seen(shown.frames, shown.height, shown.width, tokens, kind, times)

    def _warn_of_size(self, clip: Clip, shown: _frames.Shown) -> None:
        """Say once where frames lose pixels or their shape, which nobody asked for."""
        height, width = clip.frames.shape[1:3]
        bent = abs(math.log(shown.width / shown.height * height / width)) > 0.15
        smaller = shown.height * shown.width < 0.75 * height * width
        asked = self.max_pixels or self.total_pixels
        if self._warned or asked or shown.tiles or not (bent or smaller):
            return
        self._warned = True
        log.warning(
            "%s: the model sees %dx%d of frames of %dx%d, as its processor has it",
            *(self._name, shown.width, shown.height, width, height),
        )

    def _choose_frames(self, frames_as: str) -> None:
        """As a video where the processor takes one and the chat template shows it, else as pictures."""
        blind = self._chat([], _MARK)
        self._can = {
            kind: getattr(self.processor, f"{medium}_processor", None) is not None
            and self._chat([{"type": medium}], _MARK) != blind
            for kind, medium in (("video", "video"), ("images", "image"))
        }
        self._auto = _transformers.choice("frames_as", frames_as) == "auto"
        if not any(self._can.values()):
            raise UserError(f"{self._name} takes neither videos nor pictures: is it a video or image-text model?")
        if frames_as == "auto":
            frames_as = "video" if self._can["video"] else "images"
        if not self._can[frames_as]:
            (other,) = (kind for kind, possible in self._can.items() if possible)
            raise UserError(f"{self._name} does not take frames as {frames_as}: use frames_as={other}, or leave it out")
        self.frames_as = frames_as

    def _check_template(self) -> None:
        """Learn how the chat template shows a question, and refuse an argument that it makes nothing of."""
        template = getattr(self.processor, "chat_template", None)
        if not template:
            raise UserError(f"{self._name} has no chat template, so nobody knows how to ask it: is it a chat model?")
        self._trims = f" {_MARK} " not in self._chat([], f" {_MARK} ")
        if self.thinking is not None:
            other = not self.thinking
            if self._render(None) == self._render(None, enable_thinking=other, thinking=other):
                raise UserError(
                    f"{self._name}: its chat template makes nothing of thinking (enable_thinking): leave it out"
                )
        self._description["chat_template"] = hashlib.sha256(str(template).encode()).hexdigest()[:16]

    # ------------------------------------------------------------------------------------------- what was chosen

    def _choices(self) -> dict[str, Any]:
        """What of the arguments decides answers, for a fingerprint."""
        chosen = {"frames_as": self.frames_as, "max_pixels": self.max_pixels, "total_pixels": self.total_pixels}
        chosen |= {"system": self.system, "thinking": self.thinking}
        return {name: value for name, value in chosen.items() if value is not None}


def pixels(name: str, value: int | str | None) -> int | None:
    """The argument ``name``, which bounds pixels where it is given. Raises UserError for none."""
    return None if value is None else _transformers.count(name, value)


def _media_tokens(config: Any, processor: Any) -> tuple[set[int], set[int]]:
    """Ids of the tokens in whose place what is made of frames stands; and of all that a processor may put there."""
    names = [f"{medium}_token_{kind}" for medium in ("image", "video") for kind in ("id", "index")]

    def of(owner: Any) -> set[int]:
        found = {getattr(owner, name, None) for name in names}
        return {int(each) for each in found if isinstance(each, int)}

    own = of(config) or of(getattr(config, "vision_config", None))
    further = {each for name in ("image", "video") for each in getattr(processor, f"{name}_token_ids", None) or ()}
    every = own | of(processor) | {int(each) for each in further if isinstance(each, int)}
    return own or every, every

"""Any video or image-text model of transformers, by its Auto classes and chat template; pretrained= says which.

The chat template is rendered once with a mark in the question's place. What the processor makes of it up to the last
added token before the mark is the prefix: it is encoded once, and every question is answered from its cache, which
gives what asking each from scratch gives. Frames arrive sampled: the processor's own sampling and its budgets of pixels
are switched off, and it is told where in the source each frame stands.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from vamba_eval.contracts import Answer, Clip, GenerationSettings, Likelihood, ModelAdapter, Seen, UserError
from vamba_eval.cost.meter import phase

from . import _caches, _frames, _transformers

if TYPE_CHECKING:
    import torch

_MARK = "QUESTION"
_FAR = 64  # tokens
log = logging.getLogger(__name__)
_TYPES = ("token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids")  # an input for each token
# Types that cannot be asked: of most, a video cannot be encoded before the question is known.
_NO_PREFIX = {
    **dict.fromkeys(
        ("instructblip", "instructblipvideo"), "its Q-Former reads the question while it encodes the frames"
    ),
    **dict.fromkeys(("mllama", "idefics"), "each token of a question has a mask over the pictures"),
    "paligemma": "its pictures attend to the question",
    "diffusion_gemma": "it writes many tokens at a time",
    "shieldgemma2": "its processor asks questions of its own",
    **dict.fromkeys(
        ("qwen2_5_omni", "qwen3_omni_moe"), "it answers in speech too, with a second model behind the one that sees"
    ),
}
# Types whose own forward fails in a version of transformers.
_BROKEN = {("llama4", (5, 24)): "its forward fails in transformers 5.24: use another version"}
# These see with a LoRA that lies in a folder beside their weights, which loading them leaves out.
_LORAS = {"phi4_multimodal": "vision-lora"}
# Since 5.3, transformers places the text after a video of these on the video's own late positions; the checkpoints were
# trained with positions behind all of it, as Qwen's code and transformers up to 5.2 have them.
_OVERLAPPING = frozenset(("qwen2_vl", "qwen2_5_vl"))


@dataclass
class Encoded:
    """What stands before a question.

    ids        of its tokens, (1, N); N = 0 where there is no video, so that all is asked at once
    cache      the model's, of these tokens
    position   of the last one, (rows, 1, 1) or (1, 1); None where the model counts tokens itself
    types      the kinds of the tokens, as the model takes them, (1, N) each
    before     text between the prefix and the question, its first token that of the prefix's end
    behind     text behind the question
    overlap    how many tokens of ``before`` are the prefix's: 1, or 0 without a prefix
    first      tokens that the processor puts before all of it, where there is no prefix
    """

    ids: torch.Tensor
    cache: Any
    position: torch.Tensor | None
    before: str
    behind: str
    overlap: int
    seen: Seen | None = None
    types: dict[str, torch.Tensor] = field(default_factory=dict)
    first: tuple[int, ...] = ()

    @property
    def video_tokens(self) -> int:
        return 0 if self.seen is None else self.seen.video_tokens or 0


class TransformersAdapter(ModelAdapter):
    """Arguments: ``pretrained`` (a folder or a Hub id), ``revision``, ``dtype`` (auto, bfloat16, float16, float32),
    ``device`` (auto, cpu, cuda, cuda:N), ``device_map`` (such as auto, to spread a model over GPUs),
    ``attn_implementation`` (sdpa, eager, flash_attention_2), ``trust_remote_code``; ``frames_as`` (auto, video,
    images), ``max_pixels`` of a frame and ``total_pixels`` of all frames together, above which frames are shrunk
    (default: never, where the model can take them), ``system`` prompt, ``thinking`` (true, false: as the chat template
    has it by default), ``text_positions`` (original, transformers: of qwen2_vl and qwen2_5_vl, see docs/models.md).
    """

    name = "transformers"
    takes_captions = True
    model: Any
    processor: Any
    tokenizer: Any
    _warned: bool
    _can: dict[str, bool]

    def __init__(
        self,
        pretrained: str | None = None,
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        device_map: str | None = None,
        attn_implementation: str = "sdpa",
        trust_remote_code: bool | str = False,
        frames_as: str = "auto",
        max_pixels: int | str | None = None,
        total_pixels: int | str | None = None,
        system: str | None = None,
        thinking: bool | str | None = None,
        text_positions: str | None = None,
    ) -> None:
        if pretrained is None:
            raise UserError("which model of transformers? give pretrained=, a folder or a Hub id")
        weights = _transformers.choose_weights(
            pretrained=pretrained,
            revision=revision,
            device=device,
            dtype=dtype,
            device_map=device_map,
            attn_implementation=attn_implementation,
            random=None,
            seed=0,
            trust_remote_code=trust_remote_code,
        )
        self.device, self.dtype = weights.device, weights.dtype
        self._load(pretrained, weights)
        self.system = system
        self.thinking = None if thinking is None else _transformers.boolean(thinking)
        self.max_pixels, self.total_pixels = _pixels(max_pixels), _pixels(total_pixels)
        self._check_template()
        self._choose_frames(frames_as)
        if text_positions not in (None, "original", "transformers"):
            raise UserError(f"text_positions is {text_positions!r}: use original or transformers")
        if text_positions is not None and self.kind not in _OVERLAPPING:
            raise UserError(
                f"text_positions has no effect on a {self.kind}, whose text follows its video: leave it out"
            )
        self.original_positions = self.kind in _OVERLAPPING and text_positions != "transformers"
        self._note_choices()

    def describe(self) -> dict[str, Any]:
        return dict(self._description)

    # ------------------------------------------------------------------------------------------------- answers

    def encode(self, clip: Clip | None) -> Encoded:
        import torch

        text = self._render(clip)
        before, _, behind = text.partition(_MARK)
        if clip is None:
            none = torch.zeros((1, 0), dtype=torch.long, device=self.device)
            return Encoded(none, None, None, before, behind, 0, first=self._first_tokens(text))
        with phase("preprocess"):
            given = self._process(clip, text)
        ids = given.pop("input_ids").to(self.device)
        prefix_length, before = self._split(ids[0].tolist(), before, behind)
        prefix = ids[:, :prefix_length]
        self._check_room(prefix_length)
        types = {name: given.pop(name)[:, :prefix_length].to(self.device) for name in _TYPES if name in given}
        seen = self._seen(clip, given, prefix)
        tensors = {name: self._placed(name, value) for name, value in given.items() if isinstance(value, torch.Tensor)}
        with torch.inference_mode():
            position = self._last_position(prefix, {**tensors, **types})
            output = self.model(
                input_ids=prefix,
                attention_mask=torch.ones_like(prefix),
                use_cache=True,
                **tensors,
                **types,
                **_caches.given(self.model),
                **_transformers.last_logits(self.model, 1),
            )
        return Encoded(prefix, _caches.of_output(output), position, before, behind, 1, seen, types)

    def generate(self, encoded: Encoded, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        return [self._answer(encoded, str(prompt), settings) for prompt in prompts]

    def seen(self, encoded: Encoded) -> Seen | None:
        return encoded.seen

    def loglikelihood(self, encoded: Encoded, prompts: Sequence[str], continuations: Sequence[str]) -> list[Likelihood]:
        """A continuation's tokens are those of its text alone, as they follow the prompt's when generated."""
        return [self._likelihood(encoded, str(p), c) for p, c in zip(prompts, continuations, strict=True)]

    def close(self) -> None:
        import torch

        del self.model
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _answer(self, encoded: Encoded, prompt: str, settings: GenerationSettings) -> Answer:
        import torch

        question = self._question(encoded, prompt)
        ids = torch.cat([encoded.ids, question], dim=1)
        self._check_room(ids.shape[1] + settings.max_new_tokens)
        _transformers.seed_sampling(settings, prompt)
        with (
            _caches.continued(encoded.cache, encoded.ids.shape[1]) as cache,
            torch.inference_mode(),
            _transformers.attention_for_any_shape(self.device),
        ):
            output = self.model.generate(
                input_ids=ids,
                generation_config=_transformers.generation_config(self.model, settings),
                stopping_criteria=_transformers.first_token_marker(),
                **self._behind(encoded, question.shape[1]),
                **cache,
            )
        tokens = output[0, ids.shape[1] :].tolist()
        asked = ids.shape[1] - encoded.video_tokens
        return _transformers.answer(self.model, self.tokenizer, tokens, asked, encoded.behind)

    def _likelihood(self, encoded: Encoded, prompt: str, continuation: str) -> Likelihood:
        import torch

        question, said = self._question(encoded, prompt), self._ids(continuation)
        if not said.numel():
            return Likelihood(0.0, 0, True)
        ids = torch.cat([question, said], dim=1)
        count = ids.shape[1]
        given = self._behind(encoded, count)
        given |= {name: value[:, -count:] for name, value in given.items() if name in _TYPES}
        with (
            _caches.continued(encoded.cache, encoded.ids.shape[1]) as cache,
            torch.inference_mode(),
            _transformers.attention_for_any_shape(self.device),
        ):
            logits = self.model(
                input_ids=ids,
                use_cache=True,
                **given,
                **_transformers.last_logits(self.model, said.shape[1] + 1),
                **cache,
            ).logits[0, -said.shape[1] - 1 : -1]
        return _transformers.likelihood(logits, said[0].to(logits.device))

    def _question(self, encoded: Encoded, prompt: str) -> torch.Tensor:
        """The tokens behind the prefix, (1, M). Raises ValueError for a question that holds a control token."""
        import torch

        special = not encoded.overlap and self._adds_special(encoded.before)
        asked = prompt.strip() if self._trims else prompt
        ids = self._plain.ids(encoded.before, asked, encoded.behind, special)
        return torch.tensor([[*encoded.first, *ids[encoded.overlap :]]], device=self.device)

    def _behind(self, encoded: Encoded, count: int) -> dict[str, torch.Tensor]:
        """What the model is given with ``count`` tokens that follow the prefix: mask, kinds of tokens, positions."""
        import torch

        length = encoded.ids.shape[1] + count
        given = {name: torch.nn.functional.pad(value, (0, count)) for name, value in encoded.types.items()}
        given["attention_mask"] = torch.ones((1, length), dtype=torch.long, device=self.device)
        if encoded.position is not None:
            given["position_ids"] = encoded.position + 1 + torch.arange(count, device=self.device)
        return given

    # -------------------------------------------------------------------------------------------------- prompt

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
        text: str = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **template)
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

    def _split(self, ids: Sequence[int], before: str, behind: str) -> tuple[int, str]:
        """How many tokens are the prefix, and the text from its last token on up to the question.

        The prefix ends with the last added token before the question, at which tokenizers always split: what follows is
        tokenized alike whatever stands before. That is checked, on the mark.
        """
        added = self._added
        end = max((before.rfind(text) + len(text) for text in added if text in before), default=0)
        shown = before[end:] + _MARK + behind
        length = len(ids) - self._ids(str(self.tokenizer.eos_token) + shown).shape[1] + 1
        for last in range(length - 1, max(-1, length - 1 - _FAR), -1):  # a video may end with some text of its own
            anchor = str(self.tokenizer.convert_ids_to_tokens(ids[last]))
            if anchor in added:
                text = anchor + self.tokenizer.decode(ids[last + 1 : length]) + before[end:]
                if self._ids(text + _MARK + behind)[0].tolist() == list(ids[last:]):
                    return last + 1, text
                break
        raise UserError(
            f"{self._name}: a video cannot be encoded before the question: its tokens depend on more than what stands "
            "directly before the question"
        )

    def _ids(self, text: str, special: bool = False) -> torch.Tensor:
        ids = self.tokenizer(text, add_special_tokens=special, return_tensors="pt").input_ids
        return ids.long().to(self.device)

    def _first_tokens(self, text: str) -> tuple[int, ...]:
        """What the processor puts before a text without frames that the tokenizer does not."""
        special = self._adds_special(text)
        own = self.processor(text=[text], add_special_tokens=special, return_tensors="pt")["input_ids"][0].tolist()
        count = len(own) - self._ids(text, special).shape[1]
        if count < 0 or own[count:] != self._ids(text, special)[0].tolist():
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
        if _transformers.takes(self.model, "mm_token_type_ids"):
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

    def _placed(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """On the model's device, and pixels in its dtype."""
        return value.to(self.device, self.dtype if value.is_floating_point() and "pixel" in name else None)

    def _seen(self, clip: Clip, given: dict[str, Any], prefix: torch.Tensor) -> Seen:
        """What the tensors show of the clip. Raises UserError where that is fewer frames than it has."""
        images = self._as_images(clip)
        processor = self.processor.image_processor if images else self.processor.video_processor
        shown = _frames.shown(given, processor, images, len(clip.frames))
        ids = prefix[0].tolist()
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

    def _last_position(self, prefix: torch.Tensor, given: dict[str, Any]) -> torch.Tensor | None:
        """Where the prefix's last token stands, by the rule of the model's own ``generate``."""
        import torch

        if not _transformers.takes(self.model, "position_ids"):
            return None
        for module in self.model.modules():  # of the video before this one
            if getattr(module, "rope_deltas", None) is not None:
                module.rope_deltas = None
        given = {"attention_mask": torch.ones_like(prefix), **given}
        positions = self.model._prepare_position_ids_for_generation(prefix, given)
        if self.original_positions and len(positions) == 4 and "video_grid_thw" in given:
            positions[1:, :, -1] = positions[1:, :, :-1].max() + 1
        last: torch.Tensor = positions[..., -1:]
        return last

    def _check_room(self, tokens: int) -> None:
        """Raise ValueError where the model was made for fewer tokens: it would answer nonsense."""
        config = self.model.config.get_text_config(decoder=True)
        room = getattr(config, "max_position_embeddings", None)
        if room and tokens > room:
            raise ValueError(f"{tokens:,} tokens, but the model was made for {room:,}: use fewer or smaller frames")

    # ------------------------------------------------------------------------------------------------- loading

    def _load(self, pretrained: str, weights: _transformers.Weights) -> None:
        import transformers
        from packaging.version import Version
        from transformers import AutoConfig, AutoModelForMultimodalLM, AutoProcessor

        source = {"revision": weights.revision, "trust_remote_code": weights.trust_remote_code}
        with _transformers.reading_checkpoint(weights):
            config = AutoConfig.from_pretrained(pretrained, **source)
        self._name, self.kind = pretrained, str(config.model_type)
        if getattr(config, "vision_mamba_mixer_config", None) is not None:
            raise UserError(f"{pretrained} is a Vamba checkpoint: use --models vamba for it")
        why = "it has an encoder for its text" if getattr(config, "is_encoder_decoder", False) else None
        major, minor = Version(transformers.__version__).release[:2]
        why = _BROKEN.get((self.kind, (major, minor))) or why
        if (why := _NO_PREFIX.get(self.kind, why)) is not None:
            raise UserError(f"{pretrained}: a {self.kind} cannot be asked by this adapter: {why}")
        if (lora := _LORAS.get(self.kind)) is not None and _transformers.has_lora(weights, lora):
            raise UserError(
                f"{pretrained} sees with a LoRA that lies beside its weights ({lora}): merge it into them "
                "(merge_and_unload of the package peft), and give the folder of what comes of it"
            )
        self.model, info = _transformers.load_checkpoint(AutoModelForMultimodalLM, weights)
        _transformers.check_fit(info, pretrained, type(self.model).__name__, ("missing_keys", "mismatched_keys"))
        with _transformers.reading_checkpoint(weights):
            self.processor = AutoProcessor.from_pretrained(pretrained, **source)
        self.tokenizer = getattr(self.processor, "tokenizer", None)
        if self.tokenizer is None:
            raise UserError(f"{pretrained} has no processor with a tokenizer: is it a video or image-text model?")
        if not getattr(self.processor, "chat_template", None):  # which some processors leave to their tokenizer
            self.processor.chat_template = getattr(self.tokenizer, "chat_template", None)
        self.model.eval()
        if weights.device_map is not None:
            self.device = self.model.device
        self._added = {str(token) for token in (*self.tokenizer.get_added_vocab(), *self.tokenizer.all_special_tokens)}
        self._media_tokens, self._placeholders = _media_tokens(self.model.config, self.processor)
        self._plain = _transformers.PlainText(self.tokenizer, self.tokenizer.convert_ids_to_tokens(self._placeholders))
        self._warned = False
        own = self.model.generation_config
        if own.eos_token_id is None:
            own.eos_token_id = self.tokenizer.eos_token_id
        identity = _transformers.checkpoint_identity(pretrained, config)
        self._description = {**weights.describe(), "identity": identity, "class": type(self.model).__name__}
        # Of generation_config.json these alone act: see `load_checkpoint`.
        acting = ("eos_token_id", "suppress_tokens", "begin_suppress_tokens")
        self._description |= {name: getattr(own, name) for name in acting if getattr(own, name) is not None}

    def _choose_frames(self, frames_as: str) -> None:
        """As a video where the processor takes one and the chat template shows it, else as pictures."""
        blind = self._chat([], _MARK)
        self._can = {
            kind: getattr(self.processor, f"{medium}_processor", None) is not None
            and self._chat([{"type": medium}], _MARK) != blind
            for kind, medium in (("video", "video"), ("images", "image"))
        }
        self._auto = frames_as == "auto"
        if frames_as not in ("auto", *self._can):
            raise UserError(f"frames_as is {frames_as!r}: use auto, video or images")
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

    def _note_choices(self) -> None:
        """What else decides answers, for the fingerprint."""
        chosen = {"frames_as": self.frames_as, "max_pixels": self.max_pixels, "total_pixels": self.total_pixels}
        chosen |= {"system": self.system, "thinking": self.thinking}
        if self.kind in _OVERLAPPING:
            chosen["text_positions"] = "original" if self.original_positions else "transformers"
        self._description |= {name: value for name, value in chosen.items() if value is not None}


def _pixels(value: int | str | None) -> int | None:
    if value is None:
        return None
    if int(value) <= 0:
        raise UserError(f"a number of pixels must be positive, not {value}")
    return int(value)


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

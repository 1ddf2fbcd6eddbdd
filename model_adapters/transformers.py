"""Any video or image-text model of transformers, by its Auto classes and chat template; pretrained= says which.

The chat template is rendered once with a mark in the question's place. What the processor makes of it up to the last
added token before the mark is the prefix: it is encoded once, and every question is answered from its cache, which
gives what asking each from scratch gives. Frames arrive sampled: the processor's own sampling and its budgets of pixels
are switched off, and it is told where in the source each frame stands.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vamba_eval.contracts import Answer, Clip, GenerationSettings, Likelihood, ModelAdapter, Seen, UserError
from vamba_eval.cost.meter import phase

from . import _caches, _transformers, _wrapping
from ._chat import _MARK, Chat, pixels

if TYPE_CHECKING:
    import torch

    from ._decoding import Decoder

_FAR = 64  # tokens
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
    dropped    how many tokens of the prefix a wrapped model keeps nothing of; ``ids`` and ``types`` are then of as many
               tokens as its cache has, whichever these are
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
    dropped: int = 0

    @property
    def video_tokens(self) -> int:
        return 0 if self.seen is None else self.seen.video_tokens or 0


class TransformersAdapter(Chat, ModelAdapter):
    """Arguments: ``pretrained`` (a folder or a Hub id), ``revision``, ``dtype`` (auto, bfloat16, float16, float32),
    ``device`` (auto, cpu, cuda, cuda:N), ``device_map`` (such as auto, to spread a model over GPUs),
    ``attn_implementation`` (sdpa, eager, flash_attention_2), ``trust_remote_code``; ``frames_as`` (auto, video,
    images), ``max_pixels`` of a frame and ``total_pixels`` of all frames together, above which frames are shrunk
    (default: never, where the model can take them), ``system`` prompt, ``thinking`` (true, false: as the chat template
    has it by default), ``text_positions`` (original, transformers: of qwen2_vl and qwen2_5_vl, see docs/models.md),
    ``batch_size`` (questions about one video answered at once), ``wrap`` (module:function, or file.py:function: what
    changes the model once it is loaded).
    """

    name = "transformers"
    takes_captions = True
    model: Any
    _decoder: Decoder
    _misfits: Sequence[str] = ("missing_keys", "mismatched_keys")  # weights, as `check_fit` calls them
    _random: Mapping[str, Any] = {}  # random and seed, of a subclass whose weights can be random

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
        batch_size: int | str = 1,
        wrap: str | None = None,
    ) -> None:
        from ._decoding import Decoder

        self.system = system  # these before weights are read, which may take minutes
        self.thinking = None if thinking is None else _transformers.boolean("thinking", thinking)
        self.max_pixels, self.total_pixels = pixels("max_pixels", max_pixels), pixels("total_pixels", total_pixels)
        self.batch_size = _transformers.count("batch_size", batch_size)
        weights = _transformers.choose_weights(
            pretrained=pretrained,
            revision=revision,
            device=device,
            dtype=dtype,
            device_map=device_map,
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
            **self._random,
        )
        self.device, self.dtype = weights.device, weights.dtype
        self._load(weights)
        self._takes_kinds = _transformers.takes(self.model, "mm_token_type_ids")
        self._wrapped = wrap is not None
        if wrap is not None:
            self.model, about = _wrapping.wrapped(self.model, wrap)
            self.model.eval()
            self.dtype = getattr(self.model, "dtype", self.dtype)  # which it may have changed
            self._description |= {**about, "dtype": str(self.dtype).removeprefix("torch.")}
        self._check_template()
        self._choose_frames(frames_as)
        if text_positions is not None:
            _transformers.choice("text_positions", text_positions)
            if self.kind not in _OVERLAPPING:
                raise UserError(
                    f"text_positions has no effect on a {self.kind}, whose text follows its video: leave it out"
                )
        self.original_positions = self.kind in _OVERLAPPING and text_positions != "transformers"
        self._note_choices()
        self._decoder = Decoder(self.model)

    @classmethod
    def check_arguments(cls, **arguments: Any) -> None:
        _transformers.check_arguments(**arguments)
        if wrap := arguments.get("wrap"):
            _wrapping.place_of(wrap)

    def describe(self) -> dict[str, Any]:
        return dict(self._description)

    # ------------------------------------------------------------------------------------------------- answers

    def encode(self, clip: Clip | None) -> Encoded:
        import torch

        if clip is None:
            text = self._render(None)
            before, _, behind = text.partition(_MARK)
            none = torch.zeros((1, 0), dtype=torch.long, device=self.device)
            return Encoded(none, None, None, before, behind, 0, first=self._first_tokens(text))
        encoded, given = self._prefix(clip)
        with torch.inference_mode():
            output = self.model(
                input_ids=encoded.ids,
                attention_mask=torch.ones_like(encoded.ids),
                use_cache=True,
                **given,
                **_caches.given(self.model),
                **_transformers.last_logits(self.model, 1),
            )
        if bool(torch.isnan(output.logits[:, -1]).any()):
            numbers = str(self.dtype).removeprefix("torch.")
            raise ValueError(
                f"the model computes no numbers (NaN) in {numbers}: use another dtype, or check its weights"
            )
        encoded.cache = _caches.of_output(output)
        if self.batch_size > 1 and not self._can_continue(encoded):
            what = "wrapped model" if self._wrapped else self.kind
            raise UserError(
                f"batch_size has no effect on a {what}, whose questions are answered one by one: leave it out"
            )
        return self._without_dropped(encoded) if self._wrapped else encoded

    def generate(self, encoded: Encoded, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        questions = [self._question(encoded, str(prompt)) for prompt in prompts]
        lengths = [encoded.dropped + encoded.ids.shape[1] + question.shape[1] for question in questions]
        longest = max(question.shape[1] for question in questions)
        self._check_room(encoded.ids, encoded.position, longest + settings.max_new_tokens)
        said = self._continued(encoded, questions, settings)
        if said is None:
            said = [self._generated(encoded, *each, settings) for each in zip(questions, prompts, strict=True)]
        return [
            _transformers.answer(self.model, self.tokenizer, tokens, length - encoded.video_tokens, encoded.behind)
            for tokens, length in zip(said, lengths, strict=True)
        ]

    def seen(self, encoded: Encoded) -> Seen | None:
        return encoded.seen

    def loglikelihood(self, encoded: Encoded, prompts: Sequence[str], continuations: Sequence[str]) -> list[Likelihood]:
        """A continuation's tokens are those of its text alone, as they follow the prompt's when generated."""
        return [self._likelihood(encoded, str(p), c) for p, c in zip(prompts, continuations, strict=True)]

    def close(self) -> None:
        import torch

        del self.model, self._decoder
        gc.collect()  # the decoder's rooms and their caches know one another, and the model
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _continued(
        self, encoded: Encoded, questions: Sequence[torch.Tensor], settings: GenerationSettings
    ) -> list[list[int]] | None:
        """The tokens of each answer, all questions at once; None where only the model's ``generate`` can do it."""
        config = _transformers.generation_config(self.model, settings)
        if settings.do_sample or encoded.position is None or not self._can_continue(encoded):
            return None
        with _transformers.attention_for_any_shape(self.device):
            return self._decoder(encoded.cache, encoded.position, questions, tuple(encoded.types), config)

    def _can_continue(self, encoded: Encoded) -> bool:
        """Whether the decoder can go on from its cache; of a wrapped model only ``generate`` does what it is to do."""
        return not self._wrapped and self._decoder.takes(encoded.cache)

    def _generated(
        self, encoded: Encoded, question: torch.Tensor, prompt: str, settings: GenerationSettings
    ) -> list[int]:
        """The tokens of one answer, by the model's ``generate``."""
        import torch

        ids = torch.cat([encoded.ids, question], dim=1)
        _transformers.seed_sampling(settings, str(prompt))
        with (
            _caches.continued(encoded.cache, encoded.ids.shape[1], copied=self._wrapped) as cache,
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
        tokens: list[int] = output[0, ids.shape[1] :].tolist()
        return tokens

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
            _caches.continued(encoded.cache, encoded.ids.shape[1], copied=self._wrapped) as cache,
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

    def _prefix(self, clip: Clip) -> tuple[Encoded, dict[str, torch.Tensor]]:
        """What stands before a question about ``clip``, without its cache, and what the model is given with its
        tokens: pixels and their grids, positions, kinds of tokens."""
        text = self._render(clip)
        before, _, behind = text.partition(_MARK)
        with phase("preprocess"):
            found = self._process(clip, text)
        ids = found.pop("input_ids").to(self.device)
        prefix_length, before = self._split(ids[0].tolist(), before, behind)
        prefix = ids[:, :prefix_length]
        types = {name: found.pop(name)[:, :prefix_length].to(self.device) for name in _TYPES if name in found}
        seen = self._seen(clip, found, prefix[0].tolist())
        given = self._placed(found) | types
        positions = self._positions(prefix, given)
        last = None if positions is None else positions[..., -1:]
        self._check_room(prefix, last, 0)
        given |= {} if positions is None else {"position_ids": positions}
        return Encoded(prefix, None, last, before, behind, 1, seen, types), given

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

    # -------------------------------------------------------------------------------------------------- frames

    def _placed(self, found: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """The tensors of these, on the model's device, and pixels in its dtype."""
        import torch

        tensors = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
        return {
            name: value.to(self.device, self.dtype if value.is_floating_point() and "pixel" in name else None)
            for name, value in tensors.items()
        }

    def _positions(self, prefix: torch.Tensor, given: dict[str, Any]) -> torch.Tensor | None:
        """Where the prefix's tokens stand, by the rule of the model's own ``generate``: (rows, 1, N) or (1, N)."""
        import torch

        if not _transformers.takes(self.model, "position_ids"):
            return None
        for module in self.model.modules():  # of the video before this one
            if getattr(module, "rope_deltas", None) is not None:
                module.rope_deltas = None
        given = {"attention_mask": torch.ones_like(prefix), **given}
        positions: torch.Tensor = self.model._prepare_position_ids_for_generation(prefix, given)
        if self.original_positions and len(positions) == 4 and "video_grid_thw" in given:
            positions[1:, :, -1] = positions[1:, :, :-1].max() + 1
        return positions

    def _without_dropped(self, encoded: Encoded) -> Encoded:
        """As a wrapped model has it, whose cache may hold fewer tokens than the prompt. Questions stand behind the
        whole prompt all the same. Raises UserError for what cannot be gone on from."""
        total, counts = encoded.ids.shape[1], _caches.lengths(encoded.cache)
        if counts == {total}:
            return encoded
        many = ", ".join(map(str, sorted(counts)))
        wrong = None
        if encoded.position is None or not _caches.is_plain(encoded.cache):
            wrong = f"that is possible only where each layer of a cache keeps all tokens, as a {self.kind}'s do not"
        elif len(counts) > 1:
            wrong = "the layers of its cache must keep equally many"
        elif not 0 < min(counts) < total:
            wrong = "it must keep some, and no more than there are"
        if wrong is not None:
            raise UserError(f"{self._name}, wrapped, keeps {many} of {total} tokens before the question: {wrong}")
        (kept,) = counts
        types = {name: value[:, -kept:] for name, value in encoded.types.items()}
        seen = None if encoded.seen is None else replace(encoded.seen, kept_tokens=kept)
        return replace(encoded, ids=encoded.ids[:, -kept:], types=types, seen=seen, dropped=total - kept)

    def _check_room(self, prefix: torch.Tensor, position: torch.Tensor | None, further: int) -> None:
        """Raise ValueError where the model was made for fewer positions: it would answer nonsense.

        Tokens of a video may share positions, as Qwen2-VL's do, which go far beyond the tokens it was trained with.
        """
        config = self.model.config.get_text_config(decoder=True)
        room = getattr(config, "max_position_embeddings", None)
        needed = further + prefix.shape[1]
        if position is not None:  # where there are four, the first counts tokens, and turns nothing
            needed = further + int(position[len(position) == 4 :].max()) + 1
        if room and needed > room:
            tokens = prefix.shape[1] + further
            raise ValueError(
                f"{tokens:,} tokens at {needed:,} positions, but the model was made for {room:,}: use fewer or smaller "
                "frames"
            )

    # ------------------------------------------------------------------------------------------------- loading

    def _load(self, weights: _transformers.Weights) -> None:
        """The model and its processor, and what identifies them."""
        from transformers import AutoConfig, AutoModelForMultimodalLM, AutoProcessor

        if (pretrained := weights.pretrained) is None:
            raise UserError("which model of transformers? give pretrained=, a folder or a Hub id")
        source = {"revision": weights.revision, "trust_remote_code": weights.trust_remote_code}
        with _transformers.reading_checkpoint(weights):
            config = AutoConfig.from_pretrained(pretrained, **source)
        self._name, self.kind = pretrained, str(config.model_type)
        self._check_kind(config)
        self._check_lora(weights)
        self.model, info = _transformers.load_checkpoint(AutoModelForMultimodalLM, weights)
        _transformers.check_fit(info, pretrained, type(self.model).__name__, self._misfits)
        with _transformers.reading_checkpoint(weights):
            self.processor = AutoProcessor.from_pretrained(pretrained, **source)
        self._learn_tokens(self.model.config)
        self.model.eval()
        if weights.device_map is not None:
            self.device = self.model.device
        own = self.model.generation_config
        if own.eos_token_id is None:
            own.eos_token_id = self.tokenizer.eos_token_id
        identity = _transformers.checkpoint_identity(pretrained, config)
        self._description = {**weights.describe(), "identity": identity, "class": type(self.model).__name__}
        # Of generation_config.json these alone act: see `load_checkpoint`.
        acting = ("eos_token_id", "suppress_tokens", "begin_suppress_tokens")
        self._description |= {name: getattr(own, name) for name in acting if getattr(own, name) is not None}

    def _check_kind(self, config: Any) -> None:
        """Raise UserError for a checkpoint of a type that is not for this adapter."""
        import transformers
        from packaging.version import Version

        if getattr(config, "vision_mamba_mixer_config", None) is not None:
            raise UserError(f"{self._name} is a Vamba checkpoint: use --models vamba for it")
        why = "it has an encoder for its text" if getattr(config, "is_encoder_decoder", False) else None
        major, minor = Version(transformers.__version__).release[:2]
        why = _BROKEN.get((self.kind, (major, minor))) or why
        if (why := _NO_PREFIX.get(self.kind, why)) is not None:
            raise UserError(f"{self._name}: a {self.kind} cannot be asked by this adapter: {why}")

    def _check_lora(self, weights: _transformers.Weights) -> None:
        """Raise UserError where weights that belong to a checkpoint lie beside it, which would be left out."""
        if (lora := _LORAS.get(self.kind)) is not None and _transformers.has_lora(weights, lora):
            raise UserError(
                f"{self._name} sees with a LoRA that lies beside its weights ({lora}): merge it into them "
                "(merge_and_unload of the package peft), and give the folder of what comes of it"
            )

    def _note_choices(self) -> None:
        """What else decides answers, for the fingerprint."""
        self._description |= self._choices()
        if self.kind in _OVERLAPPING:
            self._description["text_positions"] = "original" if self.original_positions else "transformers"

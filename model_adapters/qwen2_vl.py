"""Qwen2-VL of transformers; without pretrained= random weights, small ones or (random=released) of the 7B's size.

What `transformers` does with its checkpoints, always in Qwen2-VL's own chat format; and it trains. (Model: Wang et al.,
arXiv 2409.12191.)

Where the text after a video stands: the paper, Qwen's code and transformers up to 5.2 count on from the
largest position in the video, which for a long video is its last time step; so the checkpoints were
trained, and so it is here (``text_positions=original``). transformers since 5.3 counts on from the frame's
longer side instead, so that text and late frames share positions: ``text_positions=transformers`` does that.
"""

from __future__ import annotations

from typing import Any

from vamba_eval.contracts import Clip, UserError
from vamba_eval.cost.meter import phase

from . import _random_weights, _transformers
from ._chat import pixels
from .transformers import TransformersAdapter

BEGINNING = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
AFTER_QUESTION = "<|im_end|>\n<|im_start|>assistant\n"
# What the released checkpoints' chat template makes of one user's turn.
CHAT = (
    BEGINNING + "{% for part in messages[0].content %}{% if part.type == 'text' %}{{ part.text }}"
    "{% else %}<|vision_start|><|{{ part.type }}_pad|><|vision_end|>{% endif %}{% endfor %}"
    f"{{{{ {AFTER_QUESTION!r} }}}}"
)
# Pixel bounds in the released checkpoints' preprocessor_config.json (Qwen/Qwen2-VL-7B-Instruct).
_BOUNDS: dict[str, Any] = {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 16384}


class Qwen2VLAdapter(TransformersAdapter):
    """Arguments: ``pretrained`` (a folder or a Hub id), ``random`` (without a checkpoint, the size of a model with
    random weights: small or released), ``revision``, ``dtype`` (auto, bfloat16, float16, float32), ``device`` (auto,
    cpu, cuda, cuda:N), ``device_map`` (such as auto, to spread a model over GPUs), ``attn_implementation`` (sdpa,
    eager, flash_attention_2), ``min_pixels`` and ``max_pixels`` per frame (default: the checkpoint's),
    ``text_positions`` (original, transformers: see above), ``batch_size`` (questions about one video answered at once),
    ``seed`` of the random weights, ``trust_remote_code``.
    """

    name = "qwen2_vl"
    reported_as = "Qwen2-VL-7B"
    _misfits = ("missing_keys", "mismatched_keys", "unexpected_keys")

    def __init__(
        self,
        pretrained: str | None = None,
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        device_map: str | None = None,
        attn_implementation: str = "sdpa",
        min_pixels: int | str | None = None,
        max_pixels: int | str | None = None,
        text_positions: str = "original",
        seed: int = 0,
        trust_remote_code: bool | str = False,
        random: str | None = None,
        batch_size: int | str = 1,
    ) -> None:
        self._random = {"random": random, "seed": seed}
        self.min_pixels = pixels("min_pixels", min_pixels)
        super().__init__(
            pretrained=pretrained,
            revision=revision,
            dtype=dtype,
            device=device,
            device_map=device_map,
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
            max_pixels=max_pixels,
            text_positions=text_positions,
            batch_size=batch_size,
        )

    def train_step(self, clip: Clip, prompt: str, answer: str) -> float:
        """Logits are computed for the answer alone; frozen is what Vamba's released training script freezes."""
        import torch

        _transformers.begin_training(self.model)
        self.model.zero_grad(set_to_none=True)
        encoded, given = self._prefix(clip)
        question, said = self._question(encoded, prompt), self._ids(f"{answer}<|im_end|>")
        text = torch.cat([question, said], dim=1)
        behind = self._behind(encoded, text.shape[1])
        behind["position_ids"] = torch.cat([given["position_ids"], behind["position_ids"]], dim=-1)
        with phase("forward"):
            loss = self.model(
                input_ids=torch.cat([encoded.ids, text], dim=1),
                **{**given, **behind},
                labels=torch.nn.functional.pad(said, (1, 0), value=-100),
                logits_to_keep=said.shape[1] + 1,  # of a whole video they would take more memory than the model
                use_cache=False,
            ).loss
        with phase("backward"):
            loss.backward()
        return loss.item()

    def _bounds(self, processor: Any, clip: Clip) -> dict[str, Any]:
        return {**super()._bounds(processor, clip), "size": self._size}

    def _note_choices(self) -> None:
        del self._description["chat_template"]  # always the same
        own = self.processor.video_processor.size
        least, most = self.min_pixels or int(own["shortest_edge"]), self.max_pixels or int(own["longest_edge"])
        if least > most:
            raise UserError(f"min_pixels {least} is above max_pixels {most}")
        self._size = {"shortest_edge": least, "longest_edge": most}
        self._description |= {"min_pixels": least, "max_pixels": most}
        self._description["text_positions"] = "original" if self.original_positions else "transformers"

    # ------------------------------------------------------------------------------------------------- loading

    def _load(self, weights: _transformers.Weights) -> None:
        if weights.pretrained is None:
            self._build_random(weights)
            self._description = weights.describe()
        else:
            super()._load(weights)
            self._description = {**weights.describe(), "identity": self._description["identity"]}
        self.processor.chat_template = CHAT

    def _check_kind(self, config: Any) -> None:
        super()._check_kind(config)
        if self.kind != "qwen2_vl":
            raise UserError(
                f"{self._name} is a {self.kind} checkpoint, not a qwen2_vl one: use --models transformers for it"
            )

    def _build_random(self, weights: _transformers.Weights) -> None:
        from transformers import (
            Qwen2VLForConditionalGeneration,
            Qwen2VLImageProcessor,
            Qwen2VLProcessor,
            Qwen2VLVideoProcessor,
        )

        self._name, self.kind = "qwen2_vl", "qwen2_vl"
        tokenizer = _random_weights.tiny_tokenizer()
        images, videos = Qwen2VLImageProcessor(**_BOUNDS), Qwen2VLVideoProcessor(**_BOUNDS)
        self.processor = Qwen2VLProcessor(images, tokenizer, videos)
        self.model = _random_weights.random_model(Qwen2VLForConditionalGeneration, tokenizer, weights).eval()
        self._learn_tokens(self.model.config)

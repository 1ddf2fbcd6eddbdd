"""Qwen2-VL of transformers; without pretrained= random weights, small ones or (random=released) of the 7B's size.

The prompt is Qwen2-VL's chat format with one video and one text. All of it up to the video's end is
encoded once and its keys and values are reused for every question, which gives what asking each question
from scratch gives. Where text stands between the frames, each frame is an image instead. Frames arrive
sampled and resized; the processor only brings them to multiples of 28 and cuts patches. (Model: Wang et
al., arXiv 2409.12191.)

Where the text after a video stands: the paper, Qwen's code and transformers up to 5.2 count on from the
largest position in the video, which for a long video is its last time step; so the checkpoints were
trained, and so it is here (``text_positions=original``). transformers since 5.3 counts on from the frame's
longer side instead, so that text and late frames share positions: ``text_positions=transformers`` does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vamba_eval.contracts import Answer, Clip, GenerationSettings, Likelihood, ModelAdapter, Seen, UserError
from vamba_eval.cost.meter import phase

from . import _caches, _random_weights, _transformers

if TYPE_CHECKING:
    import torch

BEGINNING = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
AFTER_QUESTION = "<|im_end|>\n<|im_start|>assistant\n"
# Pixel bounds in the released checkpoints' preprocessor_config.json (Qwen/Qwen2-VL-7B-Instruct).
_MIN_PIXELS, _MAX_PIXELS = 56 * 56, 28 * 28 * 16384


@dataclass
class Encoded:
    """What comes before a question, up to the last frame as token ids (1, N), then as text.

    cache    the model's, of the N tokens; None without any (N = 0)
    offset   by how much the position of a text token after them differs from the token's index, (1, 1)
    text     tokenized with each question, since tokens can span both
    seen     of the clip; None without one
    """

    ids: torch.Tensor
    cache: Any
    offset: torch.Tensor
    text: str
    seen: Seen | None


@dataclass
class Prefix:
    """A clip and what stands before a question about it, as the model takes it.

    ids         of the tokens up to the last frame, (1, N)
    positions   of these tokens, (3, 1, N)
    vision      keyword arguments: the frames' pixels and grids
    text        behind the last frame
    seen        what all of it shows of the clip
    """

    ids: torch.Tensor
    positions: torch.Tensor
    vision: dict[str, torch.Tensor]
    text: str
    seen: Seen


class Qwen2VLAdapter(ModelAdapter):
    """Arguments: ``pretrained`` (a folder or a Hub id), ``random`` (without a checkpoint, the size of a model with
    random weights: small or released), ``revision``, ``dtype`` (auto, bfloat16, float16, float32), ``device`` (auto,
    cpu, cuda, cuda:N), ``device_map`` (such as auto, to spread a model over GPUs), ``attn_implementation`` (sdpa,
    eager, flash_attention_2), ``min_pixels`` and ``max_pixels`` per frame, ``text_positions`` (original,
    transformers: see above), ``seed`` of the random weights, ``trust_remote_code``.
    """

    name = "qwen2_vl"
    takes_captions = True
    reported_as = "Qwen2-VL-7B"
    model: Any
    tokenizer: Any
    image_processor: Any
    video_processor: Any

    def __init__(
        self,
        pretrained: str | None = None,
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        device_map: str | None = None,
        attn_implementation: str = "sdpa",
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        text_positions: str = "original",
        seed: int = 0,
        trust_remote_code: bool | str = False,
        random: str | None = None,
    ) -> None:
        weights = _transformers.choose_weights(
            pretrained=pretrained,
            revision=revision,
            device=device,
            dtype=dtype,
            device_map=device_map,
            attn_implementation=attn_implementation,
            random=random,
            seed=seed,
            trust_remote_code=trust_remote_code,
        )
        self.device, self.dtype = weights.device, weights.dtype
        if text_positions not in ("original", "transformers"):
            raise UserError(f"text_positions is {text_positions!r}: use original or transformers")
        self.text_positions = text_positions
        self._description = {"text_positions": text_positions, **weights.describe()}
        if weights.pretrained is None:
            self._build_random(weights)
        else:
            self._load(weights.pretrained, weights)
        self.model.eval()
        self._plain = _transformers.PlainText(self.tokenizer)
        size = self.video_processor.size
        self._size = {
            "shortest_edge": int(min_pixels or size["shortest_edge"]),
            "longest_edge": int(max_pixels or size["longest_edge"]),
        }
        if self._size["shortest_edge"] > self._size["longest_edge"]:
            raise UserError(
                f"min_pixels {self._size['shortest_edge']} is above max_pixels {self._size['longest_edge']}"
            )
        self._description |= {"min_pixels": self._size["shortest_edge"], "max_pixels": self._size["longest_edge"]}

    def describe(self) -> dict[str, Any]:
        return dict(self._description)

    def encode(self, clip: Clip | None) -> Encoded:
        import torch
        from transformers import DynamicCache

        if clip is None:
            none = torch.zeros((1, 0), dtype=torch.long, device=self.device)
            return Encoded(none, None, torch.zeros((1, 1), dtype=torch.long, device=self.device), BEGINNING, None)
        prefix = self._prefix(clip)
        cache = DynamicCache(config=self.model.config)
        with torch.inference_mode():
            self.model.model(
                input_ids=prefix.ids,
                position_ids=prefix.positions,
                use_cache=True,
                **prefix.vision,
                **{_transformers.cache_name(): cache},
            )
        offset = prefix.positions[0, :, -1:] - (prefix.ids.shape[1] - 1)
        return Encoded(prefix.ids, cache, offset, prefix.text, prefix.seen)

    def generate(self, encoded: Encoded, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        return [self._answer(encoded, str(prompt), settings) for prompt in prompts]

    def seen(self, encoded: Encoded) -> Seen | None:
        """Of an odd number of frames in a video the last is shown twice."""
        return encoded.seen

    def train_step(self, clip: Clip, prompt: str, answer: str) -> float:
        """Logits are computed for the answer alone; frozen is what Vamba's released training script freezes."""
        import torch

        _transformers.begin_training(self.model)
        self.model.zero_grad(set_to_none=True)
        prefix = self._prefix(clip)
        before = prefix.text + prompt + AFTER_QUESTION
        text, labels, kept = _transformers.training_text(self.tokenizer, before, answer, self.device)
        after = prefix.positions[:, :, -1:] + torch.arange(1, text.shape[1] + 1, device=self.device)
        with phase("forward"):
            loss = self.model(
                input_ids=torch.cat([prefix.ids, text], dim=1),
                position_ids=torch.cat([prefix.positions, after], dim=2),
                **prefix.vision,
                labels=labels[:, -kept - 1 :],
                logits_to_keep=kept + 1,  # of a whole video they would take more memory than the model
                use_cache=False,
            ).loss
        with phase("backward"):
            loss.backward()
        return loss.item()

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

        question = torch.tensor([self._plain.ids(encoded.text, prompt, AFTER_QUESTION)], device=self.device)
        ids = torch.cat([encoded.ids, question], dim=1)
        self.model.model.rope_deltas = encoded.offset
        _transformers.seed_sampling(settings, prompt)
        with (
            _caches.continued(encoded.cache, encoded.ids.shape[1]) as cache,
            torch.inference_mode(),
            _transformers.attention_for_any_shape(self.device),
        ):
            output = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=_transformers.generation_config(self.model, settings),
                stopping_criteria=_transformers.first_token_marker(),
                **cache,
            )
        video_tokens = 0 if encoded.seen is None else encoded.seen.video_tokens or 0
        tokens = output[0, ids.shape[1] :].tolist()
        return _transformers.answer(self.model, self.tokenizer, tokens, ids.shape[1] - video_tokens)

    def _prefix(self, clip: Clip) -> Prefix:
        for _, caption in clip.captions:
            self._plain.check(caption, "the text between the frames")
        kind = "image" if clip.captions else "video"
        pixels, grid = self._image_pixels(clip.frames) if clip.captions else self._pixels(clip.frames)
        text, text_behind = _interleaved(clip) if clip.captions else (_vision("video"), "")
        pad_id = self.tokenizer.convert_tokens_to_ids(f"<|{kind}_pad|>")
        ids = self._with_room(self.tokenizer(BEGINNING + text, add_special_tokens=False).input_ids, pad_id, grid)
        token_types = (ids == pad_id).int() * (1 if kind == "image" else 2)  # as Qwen2-VL's position rule has them
        grid_name, pixels_name = f"{kind}_grid_thw", "pixel_values" if kind == "image" else "pixel_values_videos"
        positions, _ = self.model.model.get_rope_index(ids, token_types, **{grid_name: grid})
        if self.text_positions == "original" and kind == "video":  # both place what follows an image alike
            positions[:, :, -1] = positions[:, :, :-1].max() + 1
        vision = {pixels_name: pixels.to(self.device, self.dtype), grid_name: grid.to(self.device)}
        return Prefix(ids, positions, vision, text_behind, self._seen(kind, grid))

    def _seen(self, kind: str, grid: torch.Tensor) -> Seen:
        """What the grids (rows, 3) of one video or of so many images show."""
        processor = self.video_processor
        steps, rows, columns = grid[0].tolist()
        return Seen(
            frames=steps * processor.temporal_patch_size if kind == "video" else len(grid),
            height=rows * processor.patch_size,
            width=columns * processor.patch_size,
            video_tokens=int(grid.prod(dim=1).sum()) // processor.merge_size**2,
            kind="video" if kind == "video" else "images",
        )

    def _with_room(self, ids: list[int], pad_id: int, grid: torch.Tensor) -> torch.Tensor:
        """(1, N) token ids with as many pad tokens as each row of ``grid`` (rows, 3) takes, in place of one."""
        import torch

        counts = iter((grid.prod(dim=1) // self.video_processor.merge_size**2).tolist())
        room = [[pad_id] * next(counts) if token == pad_id else [token] for token in ids]
        return torch.tensor([[token for tokens in room for token in tokens]], device=self.device)

    def _image_pixels(self, frames: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """(T*h*w, 1176) float patches and the grids (T, 3) of frames as so many images."""
        import torch

        with phase("preprocess"):
            batch = self.image_processor(
                images=list(torch.from_numpy(frames).permute(0, 3, 1, 2)),
                input_data_format="channels_first",
                size=self._size,
                return_tensors="pt",
            )
        return batch["pixel_values"], batch["image_grid_thw"]

    def _likelihood(self, encoded: Encoded, prompt: str, continuation: str) -> Likelihood:
        import torch

        before = self._plain.ids(encoded.text, prompt, AFTER_QUESTION)
        after = self.tokenizer(continuation, add_special_tokens=False).input_ids
        if not after:
            return Likelihood(0.0, 0, True)
        ids = torch.tensor([before + after], device=self.device)
        prefix_length = encoded.ids.shape[1]
        places = torch.arange(prefix_length, prefix_length + ids.shape[1], device=self.device)
        with (
            _caches.continued(encoded.cache, encoded.ids.shape[1]) as cache,
            torch.inference_mode(),
            _transformers.attention_for_any_shape(self.device),
        ):
            logits = self.model(
                input_ids=ids,
                attention_mask=torch.ones(1, prefix_length + ids.shape[1], dtype=torch.long, device=self.device),
                position_ids=(places + encoded.offset).expand(3, 1, -1),
                use_cache=True,
                logits_to_keep=len(after) + 1,
                **cache,
            ).logits[0, :-1]
        return _transformers.likelihood(logits, ids[0, len(before) :].to(logits.device))

    def _pixels(self, frames: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """(t*h*w, 1176) float patches and the grid (1, 3), of exactly these frames."""
        import torch

        with phase("preprocess"):
            batch = self.video_processor(
                videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
                do_sample_frames=False,
                cap_pixels_per_frame=False,  # the frames' size is the protocol's business
                size=self._size,
                return_tensors="pt",
            )
        return batch["pixel_values_videos"], batch["video_grid_thw"]

    # ------------------------------------------------------------------------------------------- loading

    def _load(self, pretrained: str, weights: _transformers.Weights) -> None:
        from transformers import AutoConfig, AutoProcessor, Qwen2VLForConditionalGeneration

        source = {"revision": weights.revision, "trust_remote_code": weights.trust_remote_code}
        with _transformers.reading_checkpoint(weights):
            config = AutoConfig.from_pretrained(pretrained, **source)
        if config.model_type != "qwen2_vl":
            raise UserError(f"{pretrained} is a {config.model_type} checkpoint, not a qwen2_vl one")
        if getattr(config, "vision_mamba_mixer_config", None) is not None:
            raise UserError(f"{pretrained} is a Vamba checkpoint: use --models vamba for it")
        self.model, info = _transformers.load_checkpoint(Qwen2VLForConditionalGeneration, weights)
        with _transformers.reading_checkpoint(weights):
            processor = AutoProcessor.from_pretrained(pretrained, **source)
        for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
            if info.get(kind):
                names = ", ".join(str(key) for key in sorted(info[kind], key=str)[:3])
                more = f" and {len(info[kind]) - 3} more" if len(info[kind]) > 3 else ""
                raise UserError(f"{pretrained} does not fit Qwen2-VL: {kind.replace('_', ' ')}: {names}{more}")
        for kind in ("image", "video"):
            if not hasattr(processor, f"{kind}_processor"):
                raise UserError(
                    f"{pretrained} has no {kind} processor (preprocessor_config.json): is the folder complete?"
                )
        self.tokenizer = processor.tokenizer
        self.image_processor, self.video_processor = processor.image_processor, processor.video_processor
        if weights.device_map is not None:
            self.device = self.model.device
        self._description["identity"] = _transformers.checkpoint_identity(pretrained, config)

    def _build_random(self, weights: _transformers.Weights) -> None:
        from transformers import Qwen2VLForConditionalGeneration, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

        self.tokenizer = _random_weights.tiny_tokenizer()
        self.image_processor = Qwen2VLImageProcessor(min_pixels=_MIN_PIXELS, max_pixels=_MAX_PIXELS)
        self.video_processor = Qwen2VLVideoProcessor(min_pixels=_MIN_PIXELS, max_pixels=_MAX_PIXELS)
        self.model = _random_weights.random_model(Qwen2VLForConditionalGeneration, self.tokenizer, weights)


def _vision(kind: str) -> str:
    return f"<|vision_start|><|{kind}_pad|><|vision_end|>"


def _interleaved(clip: Clip) -> tuple[str, str]:
    """The frames as images with the captions between them, and the text behind the last one."""
    texts = [""] * (len(clip.frames) + 1)
    for place, text in clip.captions:
        texts[place] += text
    return "".join(text + _vision("image") for text in texts[:-1]), texts[-1]

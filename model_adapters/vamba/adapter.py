"""The harness's view of Vamba: a video becomes keys and values once, every question is answered from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vamba_eval.contracts import Answer, Clip, GenerationSettings, Likelihood, ModelAdapter, Seen, Training, UserError
from vamba_eval.cost.meter import phase

from .. import _random_weights, _transformers
from .._checkpoints import check_checkpoint

if TYPE_CHECKING:
    from .attention import VideoMemory
    from .greedy import GreedyDecoder


class VambaAdapter(ModelAdapter):
    """Arguments: ``pretrained`` (a folder or a Hub id in the released layout), ``random`` (without a checkpoint,
    the size of a model with random weights: small or released), ``revision``, ``dtype`` (auto, bfloat16,
    float16, float32), ``device`` (auto, cpu, cuda, cuda:N), ``device_map`` (such as auto, to spread a model
    over GPUs), ``attn_implementation`` (sdpa, eager, flash_attention_2), ``min_pixels`` and ``max_pixels`` per
    frame (default: the checkpoint's), ``segment_frames`` (frames encoded at once; the answers do not depend on
    it), ``batch_size`` (prompts about one video answered at once), ``seed`` of the random weights.
    """

    name = "vamba"
    reported_as = "Vamba"
    model: Any
    processor: Any
    decoder: GreedyDecoder

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
        segment_frames: int | None = None,
        batch_size: int = 1,
        seed: int = 0,
        random: str | None = None,
    ) -> None:
        from .greedy import GreedyDecoder

        weights = _transformers.choose_weights(
            pretrained=pretrained,
            revision=revision,
            device=device,
            dtype=dtype,
            device_map=device_map,
            attn_implementation=attn_implementation,
            random=random,
            seed=seed,
        )
        self.device, self.dtype = weights.device, weights.dtype
        if (segment_frames is not None and int(segment_frames) < 2) or int(batch_size) < 1:
            raise UserError("segment_frames must be at least 2 and batch_size at least 1")
        self.segment_frames = int(segment_frames) if segment_frames is not None else None
        self.batch_size = int(batch_size)
        self._description = weights.describe()
        if weights.pretrained is None:
            self._build_random(weights)
        else:
            self._load(weights.pretrained, weights)
        self.model.eval()
        self.decoder = GreedyDecoder(self.model)
        self._plain = _transformers.PlainText(self.processor.tokenizer)
        self._bound_pixels(min_pixels, max_pixels)

    @classmethod
    def check_arguments(cls, **arguments: Any) -> None:
        _transformers.check_arguments(**arguments)

    def describe(self) -> dict[str, Any]:
        return dict(self._description)

    def encode(self, clip: Clip | None) -> VideoMemory | None:
        """Keys and values of the clip's video tokens; MemoryError says how many frames would fit."""
        import torch

        if clip is None:
            return None
        frames = torch.from_numpy(clip.frames)
        settings = self.processor.settings
        _, height, width = settings.grid(*frames.shape[:3])
        wanted = None if self.segment_frames is None else self.segment_frames // settings.temporal_patch_size
        patches = self.model.frames_per_segment(height, width, wanted)
        segments = self.processor.segments(frames, patches, device=self.device, dtype=self.dtype)
        try:
            with torch.inference_mode():
                return self.model.encode_video_segments(_measured(segments), self.processor.num_tokens(frames))
        except torch.OutOfMemoryError as error:
            # The frames of the traceback hold the tensors that did not fit.
            reason = self._what_fits(frames.shape, patches)
            error.__traceback__ = None
        torch.cuda.empty_cache()
        raise MemoryError(reason)

    def generate(
        self, encoded: VideoMemory | None, prompts: Sequence[str], settings: GenerationSettings
    ) -> list[Answer]:
        texts = [self._text(str(prompt), encoded) for prompt in prompts]
        answers: list[Answer] = []
        # In a batch, what is drawn for one question would depend on the others.
        size = 1 if settings.do_sample else self.batch_size
        for start in range(0, len(texts), size):
            batch = texts[start : start + size]
            with _transformers.attention_for_any_shape(self.device):
                continued = self._continue(encoded, batch, settings)
            for prompt_tokens, tokens in continued:
                answers.append(_transformers.answer(self.model, self.processor.tokenizer, tokens, prompt_tokens))
        return answers

    def seen(self, encoded: VideoMemory | None) -> Seen | None:
        """Of an odd number of frames the last is dropped; a single one is shown twice."""
        if encoded is None:
            return None
        settings = self.processor.settings
        ((steps, rows, columns),) = encoded.grids
        return Seen(
            frames=steps * settings.temporal_patch_size,
            height=rows * settings.patch_size,
            width=columns * settings.patch_size,
            video_tokens=encoded.num_tokens,
        )

    def train_step(self, clip: Clip, prompt: str, answer: str) -> float:
        """Segment by segment as ``encode``; frozen is what the released training script freezes."""
        import torch

        _transformers.begin_training(self.model)
        self.model.zero_grad(set_to_none=True)
        asked, said = (
            self.processor([text], device=self.device)["input_ids"]
            for text in (self.processor.prompt(prompt), f"{answer}<|im_end|>")
        )
        ids = torch.cat([asked, said], dim=1)
        labels = torch.cat([torch.full_like(asked, -100), said], dim=1)
        frames = torch.from_numpy(clip.frames)
        _, height, width = self.processor.settings.grid(*frames.shape[:3])
        patches = self.model.frames_per_segment(height, width)
        segments = self.processor.segments(frames, patches, device=self.device, dtype=self.dtype)
        with phase("forward"):
            memory = self.model.encode_video_segments(_measured(segments), self.processor.num_tokens(frames))
            loss = self.model(input_ids=ids, labels=labels, video_memory=memory, use_cache=False).loss
            del memory
        with phase("backward"):
            loss.backward()
        return loss.item()

    @classmethod
    def train(cls, training: Training) -> Path:
        """Two stages, from a Qwen2-VL on: docs/training.md."""
        if not training.start.endswith(".json"):
            check_checkpoint(training.start)
        from .training import train

        return train(training)

    def loglikelihood(
        self, encoded: VideoMemory | None, prompts: Sequence[str], continuations: Sequence[str]
    ) -> list[Likelihood]:
        """A continuation's tokens are those of its text alone, as they follow the prompt's when generated."""
        return [self._likelihood(encoded, str(p), c) for p, c in zip(prompts, continuations, strict=True)]

    def close(self) -> None:
        import torch

        del self.model, self.decoder
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _text(self, prompt: str, memory: VideoMemory | None) -> str:
        """Raises ValueError for a question that would end its turn, or ask for a video that is not there."""
        self._plain.check(prompt, "the question")
        return self.processor.prompt(prompt, vision=memory is not None)

    def _likelihood(self, memory: VideoMemory | None, prompt: str, continuation: str) -> Likelihood:
        import torch

        text = self._text(prompt, memory)
        before = self.processor([text], device=self.device)["input_ids"]
        after = self.processor([continuation], device=self.device)["input_ids"] if continuation else before[:, :0]
        if not after.shape[1]:
            return Likelihood(0.0, 0, True)
        ids = torch.cat([before, after], dim=1)
        with torch.inference_mode(), _transformers.attention_for_any_shape(self.device):
            output = self.model(input_ids=ids, video_memory=memory, logits_to_keep=after.shape[1] + 1)
        logits = output.logits[0, :-1]
        return _transformers.likelihood(logits, after[0].to(logits.device))

    def _continue(
        self, memory: VideoMemory | None, texts: list[str], settings: GenerationSettings
    ) -> list[tuple[int, list[int]]]:
        """Of each prompt, how many tokens it has, and those of its continuation, with its end token if it has one."""
        import torch

        inputs = self.processor(texts, device=self.device)
        lengths = inputs["attention_mask"].sum(1).tolist()
        own, ends = self.model.generation_config, _transformers.end_ids(self.model)
        # A CUDA graph holds one GPU's work, and neither draws nor suppresses tokens.
        alone = len(texts) == 1 and len({parameter.device for parameter in self.model.parameters()}) == 1
        plain = not settings.do_sample and not own.suppress_tokens
        if self.device.type == "cuda" and alone and plain and settings.min_new_tokens in (0, settings.max_new_tokens):
            ids, until = inputs["input_ids"], set() if settings.min_new_tokens else set(ends)
            return [(lengths[0], self.decoder(ids, memory, settings.max_new_tokens, until))]
        _transformers.seed_sampling(settings, texts[0])  # alone, if anything is drawn
        config = _transformers.generation_config(self.model, settings)
        with torch.inference_mode():
            output = self.model.generate(
                **inputs,
                video_memory=memory,
                generation_config=config,
                stopping_criteria=_transformers.first_token_marker(),
            )
        rows = output[:, inputs["input_ids"].shape[1] :].tolist()
        return [(length, _up_to_end(row, ends)) for length, row in zip(lengths, rows, strict=True)]

    def _bound_pixels(self, min_pixels: int | None, max_pixels: int | None) -> None:
        given = {"min_pixels": min_pixels, "max_pixels": max_pixels}
        bounds = {name: int(value) for name, value in given.items() if value is not None}
        settings = replace(self.processor.settings, **bounds)
        if settings.min_pixels > settings.max_pixels:
            raise UserError(f"min_pixels {settings.min_pixels} is above max_pixels {settings.max_pixels}")
        self.processor.settings = settings
        self._description |= bounds

    def _what_fits(self, shape: Sequence[int], patches: int) -> str:
        """One line for a video that does not fit: how large it is, and how many frames would be well."""
        import torch

        frames, height, width = shape[:3]
        tokens = self.processor.settings.num_tokens(frames, height, width)
        patches = min(patches, self.processor.settings.grid(frames, height, width)[0])
        text = self.model.config.text_config
        head_dim = text.hidden_size // text.num_attention_heads
        per_token = 2 * text.num_hidden_layers * text.num_key_value_heads * head_dim * self.dtype.itemsize
        needed = tokens * per_token
        ours = torch.cuda.mem_get_info(self.device)[0] + torch.cuda.memory_reserved(self.device)
        weights = sum(parameter.nbytes for parameter in self.model.parameters())
        # Beside weights and what is kept: the activations of one segment, and a twentieth for the allocator.
        room = 0.95 * ours - weights - self._segment_bytes(patches, height, width)
        fit = int(frames * room / needed) // 2 * 2
        if 2 <= fit < frames:
            hint = f"about {fit} frames of this size would fit"
        else:
            hint = f"the GPU has {ours / 2**30:.1f} GiB free for all of it: use smaller frames or another GPU"
        return f"{frames} frames of {width}x{height} need {needed / 2**30:.1f} GiB beside the weights; {hint}"

    def _segment_bytes(self, patches: int, height: int, width: int) -> float:
        """About what encoding one segment takes beside weights and what is kept."""
        config = self.model.config
        _, rows, columns = self.processor.settings.grid(2, height, width)
        tokens = patches * rows * columns // config.vision_config.spatial_merge_size**2
        # Whichever is larger, the mixer's projections or the tower's MLP (each with its input and output); and the
        # pixels: as they came, resized along one axis and both, and as patches.
        mixer, vision = 3 * config.mixer.projected_width, 10 * 4 * config.vision_config.embed_dim
        values = 4 * tokens * self.processor.settings.patch_size**2 * 6
        return float(tokens * max(mixer, vision) * self.dtype.itemsize + values * (3 + self.dtype.itemsize))

    # ------------------------------------------------------------------------------------------- loading

    def _load(self, pretrained: str, weights: _transformers.Weights) -> None:
        from .modeling import VambaForConditionalGeneration
        from .processing import VambaProcessor

        with _transformers.reading_checkpoint(weights):
            self.processor = VambaProcessor.from_pretrained(
                pretrained, revision=weights.revision, trust_remote_code=weights.trust_remote_code
            )
        self.model, _ = _transformers.load_checkpoint(VambaForConditionalGeneration, weights)
        if weights.device_map is not None:
            self.device = self.model.device
        self._description["identity"] = _transformers.checkpoint_identity(pretrained, self.model.config)

    def _build_random(self, weights: _transformers.Weights) -> None:
        from .configuration import RELEASED, SMALL
        from .modeling import VambaForConditionalGeneration
        from .processing import VambaProcessor

        tokenizer = _random_weights.tiny_tokenizer()
        self.processor = VambaProcessor(tokenizer)
        vamba = RELEASED if weights.random == "released" else SMALL
        self.model = _random_weights.random_model(VambaForConditionalGeneration, tokenizer, weights, **vamba)


def _measured(segments: Iterator[Any]) -> Iterator[Any]:
    """The same; making each counts as preprocessing."""
    while True:
        with phase("preprocess"):
            segment = next(segments, None)
        if segment is None:
            return
        yield segment


def _up_to_end(tokens: list[int], end_ids: Sequence[int]) -> list[int]:
    """Without the padding that follows the end token of a short answer in a batch."""
    for place, token in enumerate(tokens):
        if token in end_ids:
            return tokens[: place + 1]
    return tokens

"""Vamba: Qwen2-VL with the video taken out of the text sequence.

Written as the difference from transformers' Qwen2-VL, whose vision tower, attention, norms, MLP and rotary
code are used as they are. Text tokens attend to each other (causally) and, in every layer, to the video
through cross-attention; a Mamba-2 mixer takes the video tokens from one layer to the next. The video stream
never sees the text. So a video is encoded once, into a `VideoMemory` (each layer's cross-attention keys and
values), and any number of prompts is answered from that.

In evaluation mode, encoding a video keeps no gradients. In training mode `forward` with `labels` trains the
whole model, gradient checkpointing included; what has no backward (the fused kernels) gives way to plain
operations.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import GenerationMixin
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.qwen2_vl.modeling_qwen2_vl import (
    Qwen2VisionTransformerPretrainedModel,
    Qwen2VLDecoderLayer,
    Qwen2VLPreTrainedModel,
    Qwen2VLTextModel,
)

from .._transformers import cache_name
from .attention import MemorySlot, Rotary, VambaCrossAttention, VideoMemory
from .configuration import VambaConfig
from .mixer import Mamba2Mixer, MixerState, VisionMixer
from .vision import Segment, encode_frames, recomputed

# Video tokens encoded at once unless the caller asks otherwise: one frame pair of Qwen2-VL's largest size,
# 107 frames at 640x360. A few GB of activations at the released size, and long enough to keep a GPU busy.
SEGMENT_TOKENS = 16_384

# GPU kernels (the scan's among them) index with 32-bit integers.
MAX_TENSOR_ELEMENTS = 2**31 - 1


@dataclass
class VambaOutput(CausalLMOutputWithPast):
    """transformers' causal language model output, and the video memory that the text attended to."""

    video_memory: VideoMemory | MemorySlot | None = None


class VambaDecoderLayer(Qwen2VLDecoderLayer):
    """Qwen2-VL's decoder layer with cross-attention to the video, and the mixer of the video stream."""

    alpha: nn.Parameter | None
    vision_mixer: VisionMixer | None

    def __init__(self, config: VambaConfig, layer_idx: int) -> None:
        super().__init__(config.text_config, layer_idx)
        self.layer_idx = layer_idx
        self.norm_video = config.cross_attn_use_layer_norm
        self.rotate_cross_attention = config.cross_attn_use_position_embeddings
        self.is_last = layer_idx == config.text_config.num_hidden_layers - 1
        self.cross_attn = VambaCrossAttention(config.text_config, layer_idx)
        mixer = config.mixer
        self.vision_mixer = VisionMixer(mixer) if mixer.enable else None
        self.register_parameter("alpha", nn.Parameter(torch.full((1,), 0.5)) if config.use_alpha_balancing else None)

    def encode_video(
        self, video: Tensor, rotary: Rotary | None, state: MixerState | None
    ) -> tuple[Tensor, Tensor, Tensor, MixerState | None]:
        """One segment of the video stream through the layer.

        Args:
            video: (videos, video tokens, hidden). rotary: of the video tokens, where keys are rotated.
            state: what the segment before left in the mixer, None at the start.

        Returns:
            Keys and values for cross-attention, the video for the next layer (of no meaning after the last
            one, whose mixer nothing depends on and which is not run) and the mixer's state.
        """
        if self.norm_video:
            video = self.input_layernorm(video)
        keys, values = self.cross_attn.keys_and_values(video, rotary)
        if self.vision_mixer is not None and not self.is_last:
            video, state = self.vision_mixer(video, state)
        return keys, values, video, state

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        use_cache: bool | None = False,
        position_embeddings: Rotary | None = None,
        video_memory: VideoMemory | MemorySlot | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The text stream, (batch, text tokens, hidden). Without a video, cross-attention adds nothing."""
        residual = hidden_states
        hidden_states = self.input_layernorm(hidden_states)
        mixed, _ = self.self_attn(
            hidden_states=hidden_states,
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=use_cache,
            position_embeddings=position_embeddings,
            **kwargs,
        )
        alpha = None if self.alpha is None else self.alpha.clamp(0, 1)
        if alpha is not None:
            mixed = alpha * mixed
        if video_memory is not None:
            seen = self.cross_attn(
                hidden_states,
                video_memory.layer(self.layer_idx),
                position_embeddings if self.rotate_cross_attention else None,
            )
            mixed = mixed + (seen if alpha is None else (1 - alpha) * seen)
        hidden_states = residual + mixed
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


class VambaTextModel(Qwen2VLTextModel):
    """Qwen2-VL's text model with Vamba's layers; `video_memory` reaches them as a keyword argument."""

    _no_split_modules = ["VambaDecoderLayer"]
    _skip_keys_device_placement = ["past_key_values", "cache", "video_memory"]
    _can_record_outputs = {"hidden_states": VambaDecoderLayer}

    def __init__(self, config: VambaConfig) -> None:
        super().__init__(config.text_config)
        self.layers = nn.ModuleList(
            VambaDecoderLayer(config, layer_idx) for layer_idx in range(config.text_config.num_hidden_layers)
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Mamba2Mixer):
            module.init_weights()
        elif isinstance(module, VambaDecoderLayer) and module.alpha is not None:
            init.constant_(module.alpha, 0.5)


class VambaForConditionalGeneration(Qwen2VLPreTrainedModel, GenerationMixin):
    """The whole model, with the module structure, and so the weight names, of the released checkpoint.

    Example:
        memory = model.encode_video(pixel_values_videos, video_grid_thw)
        model.generate(**prompts, video_memory=memory)  # as often as there are questions
    """

    config: VambaConfig
    _no_split_modules = ["VambaDecoderLayer", "Qwen2VLVisionBlock"]
    _skip_keys_device_placement = ["past_key_values", "cache", "video_memory"]
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: VambaConfig) -> None:
        super().__init__(config)
        self.visual = Qwen2VisionTransformerPretrainedModel._from_config(config.vision_config)
        self.model = VambaTextModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | os.PathLike, *args: Any, **kwargs: Any
    ) -> Any:
        """transformers' from_pretrained, strict about weights.

        Raises:
            ValueError: naming the weights that are missing, that the model does not know, or whose shape is
                not the model's; or when the checkpoint is a plain Qwen2-VL.
            OSError: when a file is missing or cannot be read.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        try:
            loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except SafetensorError as error:
            broken = _unreadable_file(pretrained_model_name_or_path)
            raise OSError(f"{broken or pretrained_model_name_or_path} cannot be read: {error}") from error
        model, info = loaded
        problems = {
            "missing weights": sorted(info["missing_keys"]),
            "unknown weights": sorted(info["unexpected_keys"]),
            "weights of another shape": [
                f"{name} ({tuple(found)} in the checkpoint, {tuple(wanted)} in the model)"
                for name, found, wanted in sorted(info["mismatched_keys"])
            ],
        }
        if any(problems.values()):
            raise ValueError(
                f"{pretrained_model_name_or_path}: "
                + "; ".join(f"{what}: {_few(names)}" for what, names in problems.items() if names)
            )
        return (model, info) if wants_info else model

    def frames_per_segment(self, height: int, width: int, wanted: int | None = None) -> int:
        """Temporal patches of a height x width patch grid that are encoded at once.

        By default as many as make up `SEGMENT_TOKENS` video tokens; `wanted` is granted as far as no tensor
        of the encoder outgrows 32-bit indices. At least one.
        """
        vision, mixer = self.config.vision_config, self.config.mixer
        merged = vision.spatial_merge_size**2
        tokens = height * width // merged
        if wanted is None:
            return max(1, SEGMENT_TOKENS // tokens)
        widest = max(
            merged * vision.embed_dim * max(3, vision.mlp_ratio),
            merged * vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
            mixer.projected_width if mixer.enable else 0,
        )
        return max(1, min(wanted, MAX_TENSOR_ELEMENTS // (tokens * widest)))

    def encode_video(
        self, pixel_values_videos: Tensor, video_grid_thw: Tensor, segment_frames: int | None = None
    ) -> VideoMemory:
        """Everything that depends on the video alone.

        Args:
            pixel_values_videos: (patches, 1176), as the processor cuts them, on any device.
            video_grid_thw: (videos or images, 3), temporal patches, rows and columns of patches. The tokens
                of several videos or images follow each other as one stream.
            segment_frames: temporal patches encoded at once, as far as `frames_per_segment()` grants them,
                which also has the default. The memory needed beside the result grows with it; the result
                does not depend on it.

        Raises:
            ValueError: when pixels and grid do not fit each other.
        """
        grids = video_grid_thw.reshape(-1, 3).tolist()
        sizes = [t * h * w for t, h, w in grids]
        if sum(sizes) != pixel_values_videos.shape[0]:
            raise ValueError(f"{pixel_values_videos.shape[0]} patches of pixels do not make up grids {grids}")
        wholes = (
            Segment(pixels, t, h, w, first=0)
            for pixels, (t, h, w) in zip(pixel_values_videos.split(sizes), grids, strict=True)
        )
        total = sum(sizes) // self.config.vision_config.spatial_merge_size**2
        return self._encode(wholes, total, segment_frames)

    def encode_video_segments(self, segments: Iterable[tuple[Tensor, Tensor]], total_tokens: int) -> VideoMemory:
        """`encode_video` of one video that arrives in pieces, so that no more than one need be preprocessed.

        Args:
            segments: (pixel_values, grid_thw) of consecutive runs of temporal patches. A piece larger than
                `frames_per_segment()` allows is encoded in several segments.
            total_tokens: video tokens of all pieces together (t * h * w / 4 each, at the released size).

        Raises:
            ValueError: when the pieces do not make up `total_tokens`, or pixels do not fit their grid.
        """

        def pieces() -> Iterator[Segment]:
            first = 0
            for pixels, grid in segments:
                t, h, w = torch.as_tensor(grid).flatten().tolist()
                if t * h * w != pixels.shape[0]:
                    raise ValueError(f"{pixels.shape[0]} patches of pixels do not make up grid {[t, h, w]}")
                yield Segment(pixels, t, h, w, first)
                first += t

        return self._encode(pieces(), total_tokens, None)

    def _encode(self, pieces: Iterable[Segment], total_tokens: int, wanted: int | None) -> VideoMemory:
        # In evaluation mode nobody means to train, whoever forgets torch.no_grad().
        with nullcontext() if self.training else torch.no_grad():
            return self._encode_segments(pieces, total_tokens, wanted)

    def _encode_segments(self, pieces: Iterable[Segment], total_tokens: int, wanted: int | None) -> VideoMemory:
        layers = self.model.layers
        states: list[MixerState | None] = [None] * len(layers)
        memory = VideoMemory([], [])
        pieces_of_layers: list[list[tuple[Tensor, Tensor]]] = [[] for _ in layers]
        trains = torch.is_grad_enabled()
        done = 0
        segments = (
            segment
            for piece in pieces
            for segment in piece.cut(self.frames_per_segment(piece.height, piece.width, wanted))
        )
        for segment in segments:
            video = encode_frames(self.visual, segment)
            after = done + video.shape[1]
            if after > total_tokens:
                raise ValueError(f"the video has more than the {total_tokens} tokens announced")
            before = memory.grids.pop()[0] if segment.first else 0
            memory.grids.append((before + segment.frames, segment.height, segment.width))
            rotary = self._video_rotary(video, segment)
            for i, layer in enumerate(layers):
                run = recomputed(layer)
                keys, values, video, states[i] = run(layer.encode_video, video, rotary, states[i])
                if trains:  # autograd would copy all of a memory's gradient for every segment written into it
                    pieces_of_layers[i].append((keys, values))
                    continue
                if done == 0:
                    shape = (*keys.shape[:2], total_tokens, keys.shape[3])
                    memory.keys.append(keys.new_empty(shape))
                    memory.values.append(values.new_empty(shape))
                memory.keys[i][:, :, done:after] = keys
                memory.values[i][:, :, done:after] = values
            done = after
        if done != total_tokens or not done:
            raise ValueError(f"the video has {done} tokens, not the {total_tokens} announced")
        if trains:
            for pieces_of_one in pieces_of_layers:
                all_keys, all_values = zip(*pieces_of_one, strict=True)
                memory.keys.append(torch.cat(all_keys, dim=2))
                memory.values.append(torch.cat(all_values, dim=2))
                pieces_of_one.clear()
        return memory

    def _video_rotary(self, video: Tensor, segment: Segment) -> Rotary | None:
        """Rotary embeddings by each video token's (t, h, w), counted from 0; None where they are not used."""
        if not self.config.cross_attn_use_position_embeddings:
            return None
        merge = self.config.vision_config.spatial_merge_size
        axes = (
            torch.arange(segment.first, segment.first + segment.frames, device=video.device),
            torch.arange(segment.height // merge, device=video.device),
            torch.arange(segment.width // merge, device=video.device),
        )
        positions = torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, 1, -1)
        return self.model.rotary_emb(video, positions)

    def _memory_of(
        self,
        batch_size: int,
        pixel_values: Tensor | None,
        image_grid_thw: Tensor | None,
        pixel_values_videos: Tensor | None,
        video_grid_thw: Tensor | None,
    ) -> VideoMemory | None:
        """The memory of the images and then the videos given, None if there are none."""
        pixels: list[Tensor] = []
        grids: list[Tensor] = []
        for given, grid in ((pixel_values, image_grid_thw), (pixel_values_videos, video_grid_thw)):
            if given is not None and grid is None:
                raise ValueError("pixels need their image_grid_thw or video_grid_thw")
            if given is not None and grid is not None:
                pixels.append(given)
                grids.append(grid.reshape(-1, 3))
        if not pixels:
            return None
        if batch_size != 1:
            raise ValueError(
                f"pixels go with one prompt, not {batch_size}; to ask several things about one video, pass "
                "the video_memory that encode_video() returns"
            )
        return self.encode_video(torch.cat(pixels), torch.cat(grids))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        pixel_values: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        video_grid_thw: Tensor | None = None,
        video_memory: VideoMemory | MemorySlot | None = None,
        **kwargs: Any,
    ) -> VambaOutput:
        """Logits of (batch, text tokens); arguments not named below are transformers' own.

        Args:
            position_ids: by default 0, 1, ... for the tokens of each prompt that `attention_mask` keeps.
            labels: for the loss of the text tokens; -100 leaves one out. In training mode the loss reaches every
                weight that the answer depends on (all but the last layer's mixer), through pixels too.
            logits_to_keep: the last so many tokens get logits; all of them by default.
            pixel_values, pixel_values_videos: images or a video to encode first, for a single prompt.
            image_grid_thw, video_grid_thw: their patch grids.
            video_memory: an encoded video instead, shared by all prompts of the batch.
        """
        tokens = input_ids if inputs_embeds is None else inputs_embeds
        if tokens is None:
            raise ValueError("forward needs input_ids or inputs_embeds")
        if video_memory is None:
            video_memory = self._memory_of(
                tokens.shape[0], pixel_values, image_grid_thw, pixel_values_videos, video_grid_thw
            )
        if position_ids is None and isinstance(attention_mask, Tensor) and attention_mask.ndim == 2:
            counted = attention_mask.long().cumsum(-1) - 1
            position_ids = counted.clamp(min=0)[:, -tokens.shape[1] :]
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            video_memory=video_memory,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.text_config.vocab_size)
        return VambaOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            video_memory=video_memory,
            **{cache_name(): outputs.get(cache_name())},
        )

    @torch.no_grad()
    def generate(
        self,
        inputs: Tensor | None = None,
        *args: Any,
        pixel_values: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        video_grid_thw: Tensor | None = None,
        video_memory: VideoMemory | None = None,
        **kwargs: Any,
    ) -> Any:
        """transformers' generate, from pixels (encoded once, before the first token) or from a memory."""
        if video_memory is None:
            given = (inputs, kwargs.get("input_ids"), kwargs.get("inputs_embeds"))
            video_memory = self._memory_of(
                next((len(prompts) for prompts in given if prompts is not None), 1),
                pixel_values,
                image_grid_thw,
                pixel_values_videos,
                video_grid_thw,
            )
        return super().generate(  # type: ignore[misc]
            inputs, *args, video_memory=video_memory, **kwargs
        )


def _unreadable_file(folder: str | os.PathLike) -> Path | None:
    """The first weight file in a folder that is no safetensors file, or not all of one."""
    for file in sorted(Path(folder).glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except SafetensorError:
            return file
    return None


def _few(names: list[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")

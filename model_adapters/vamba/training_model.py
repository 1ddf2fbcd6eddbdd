"""Vamba as it is trained: many videos and texts at once in, the summed loss of the answers' tokens out.

Videos of one size go through the model side by side. Loss and distillation term are sums, so that the step's mean does
not depend on how its examples are spread over processes and micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import VideoMemory
from .modeling import VambaForConditionalGeneration
from .processing import PixelSettings, preprocess_frames
from .vision import Segment

# The most likely tokens of the teacher that the student is compared on (TIGER-AI-Lab/Vamba, modeling_qwen2_vl.py, whose
# comments give the shape of its cached logits).
TEACHER_TOKENS = 100


@dataclass
class Group:
    """Examples that are computed together: their pictures have the same sizes, and each has the same number of texts.

    pictures   each (rows, frames, height, width, 3) uint8: a video, or an image of one frame; several follow each other
               as one stream of video tokens
    ids        (rows * texts, tokens), padded on the right; a row's texts follow each other
    labels     the same, -100 everywhere but at the tokens of answers
    """

    pictures: list[Tensor]
    ids: Tensor
    labels: Tensor


class TopTokens(NamedTuple):
    """A teacher's logits (answer tokens, k) of its most likely tokens, and which tokens these are."""

    logits: Tensor
    tokens: Tensor


class VambaForTraining(VambaForConditionalGeneration):
    """The same weights under the same names; ``forward`` takes groups of examples.

    Attributes:
        pixels: how frames become patches; the processor's settings.
    """

    pixels: PixelSettings = PixelSettings()
    _no_split_modules = ["VambaDecoderLayer"]  # what FSDP wraps: the vision tower's blocks are called piece by piece

    def forward(  # type: ignore[override]
        self, groups: Sequence[Group], teacher: Sequence[TopTokens] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Summed over all answer tokens: cross-entropy, and the divergence from the teacher (0 without one).

        ``teacher`` has the logits of each group's answer tokens, in their order.
        """
        losses, divergences = [], []
        for place, group in enumerate(groups):
            logits, wanted = self.answer_logits(group)
            losses.append(F.cross_entropy(logits, wanted, reduction="sum"))
            if teacher is not None:
                divergences.append(divergence(logits, teacher[place]))
        loss = torch.stack(losses).sum()
        return loss, torch.stack(divergences).sum() if divergences else loss.new_zeros(())

    def answer_logits(self, group: Group) -> tuple[Tensor, Tensor]:
        """Float32 logits (answer tokens, vocabulary) that predict the group's answers, and these tokens."""
        # Padding on the right is seen by no token before it.
        hidden = self.model(
            input_ids=group.ids, video_memory=self.encode_group(group.pictures), use_cache=False
        ).last_hidden_state
        answers = group.labels[:, 1:] != -100
        return self.lm_head(hidden[:, :-1][answers]).float(), group.labels[:, 1:][answers]

    def encode_group(self, pictures: Sequence[Tensor]) -> VideoMemory:
        """The memory of rows of pictures, side by side and segment by segment."""
        total = sum(self.pixels.num_tokens(*picture.shape[1:4]) for picture in pictures)
        return self._encode_segments(self._segments(pictures), total, None)

    def _segments(self, pictures: Sequence[Tensor]) -> Iterator[Segment]:
        step = self.pixels.temporal_patch_size
        for picture in pictures:
            if picture.shape[1] < step:  # an image: repeated, as `preprocess_frames` repeats a single frame
                picture = torch.cat([picture, picture[:, -1:].expand(-1, step - picture.shape[1], -1, -1, -1)], dim=1)
            rows, frames, *size = picture.shape
            t, h, w = self.pixels.grid(frames, *size[:2])
            count = max(1, self.frames_per_segment(h, w) // rows)
            for first in range(0, t, count):
                run = picture[:, first * step : min(first + count, t) * step]
                pixels, _ = preprocess_frames(run.flatten(0, 1), device=run.device, settings=self.pixels)
                yield Segment(pixels, run.shape[1] // step, h, w, first, rows=rows)


def divergence(logits: Tensor, teacher: TopTokens) -> Tensor:
    """KL divergence from the teacher's distribution over its top tokens to the student's over the same ones, both
    renormalised to them, summed over answer tokens.

    logits   the student's, (answer tokens, vocabulary)
    """
    student = logits.gather(1, teacher.tokens).log_softmax(-1)
    return F.kl_div(student, teacher.logits.float().log_softmax(-1), reduction="sum", log_target=True)

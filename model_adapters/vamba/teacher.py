"""The teacher of the distillation term: a Qwen2-VL says what it would have predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .processing import PixelSettings, preprocess_frames
from .training_model import TEACHER_TOKENS, Group, TopTokens


class Teacher:
    """A frozen Qwen2-VL, given the pictures within the text, as it is used: at each place where the markers stand.

    model    transformers' Qwen2VLForConditionalGeneration
    pixels   how frames become patches, as for the student
    """

    def __init__(self, model: Any, pixels: PixelSettings) -> None:
        self.model, self.pixels = model.eval().requires_grad_(False), pixels

    @torch.no_grad()
    def top_tokens(self, group: Group) -> TopTokens:
        """Its most likely tokens at each answer token of the group, in the order of the group's labels."""
        texts = len(group.ids) // len(group.pictures[0])
        found = []
        for place, (ids, labels) in enumerate(zip(group.ids, group.labels, strict=True)):
            row = place // texts
            found.append(self._of_one([picture[row] for picture in group.pictures], ids, labels))
        values, tokens = torch.cat(found).topk(min(TEACHER_TOKENS, found[0].shape[-1]), dim=-1)
        return TopTokens(values, tokens)

    def _of_one(self, pictures: Sequence[Tensor], ids: Tensor, labels: Tensor) -> Tensor:
        """Logits (answer tokens, vocabulary) of one text about its pictures, each (frames, height, width, 3)."""
        config, merged = self.model.config, self.pixels.merge_size**2
        pixels, grids = zip(
            *(preprocess_frames(p, device=p.device, settings=self.pixels) for p in pictures), strict=True
        )
        sizes = [[int(n) for n in grid.flatten()] for grid in grids]
        starts = (ids == config.vision_start_token_id).nonzero().flatten().tolist()
        if len(starts) != len(pictures):
            raise ValueError(f"{len(starts)} places for {len(pictures)} pictures in a text")
        # Qwen2-VL's images and videos differ in their token alone.
        is_video = [len(picture) > 1 for picture in pictures]
        kinds = [config.video_token_id if video else config.image_token_id for video in is_video]
        whole: list[Tensor] = []
        end = 0
        for start, kind, (t, h, w) in zip(starts, kinds, sizes, strict=True):
            whole += [ids[end : start + 1], ids.new_full((t * h * w // merged,), kind)]
            end = start + 1
        text = torch.cat([*whole, ids[end:]])
        room = torch.zeros_like(ids)  # tokens of pictures that stand before each of the student's tokens
        for start, (t, h, w) in zip(starts, sizes, strict=True):
            room[start + 1 :] += t * h * w // merged
        vision: dict[str, Tensor] = {}
        for kind, video in (("image", False), ("video", True)):
            chosen = [n for n, is_one in enumerate(is_video) if is_one == video]
            if chosen:
                name = "pixel_values_videos" if video else "pixel_values"
                vision[name] = torch.cat([pixels[n] for n in chosen]).to(self.model.dtype)
                vision[f"{kind}_grid_thw"] = torch.tensor([sizes[n] for n in chosen], device=ids.device)
        hidden = self.model.model(
            input_ids=text[None],
            position_ids=positions(text, sizes, kinds, self.pixels.merge_size),
            use_cache=False,
            **vision,
        ).last_hidden_state[0]
        answers = (labels[1:] != -100).nonzero().flatten()
        return self.model.lm_head(hidden[answers + room[answers]]).float()


def positions(ids: Tensor, grids: Sequence[Sequence[int]], kinds: Sequence[int], merge: int) -> Tensor:
    """Qwen2-VL's positions (3, 1, tokens) of a text with pictures in it (arXiv 2409.12191, section 2.1).

    Text counts up in all three axes; a picture's tokens have their (t, h, w) counted from where it stands, and text
    behind it goes on from the largest of them.
    """
    axes = torch.zeros(3, len(ids), dtype=torch.long)
    listed, place, next_position = ids.tolist(), 0, 0
    pictures = iter(zip(grids, kinds, strict=True))
    picture = next(pictures, None)
    while place < len(listed):
        if picture is not None and listed[place] == picture[1]:
            (t, h, w), _ = picture
            block = torch.stack(
                torch.meshgrid(torch.arange(t), torch.arange(h // merge), torch.arange(w // merge), indexing="ij")
            ).flatten(1)
            axes[:, place : place + block.shape[1]] = block + next_position
            place += block.shape[1]
            next_position += int(block.max()) + 1
            picture = next(pictures, None)
        else:
            axes[:, place] = next_position
            place, next_position = place + 1, next_position + 1
    return axes[:, None].to(ids.device)

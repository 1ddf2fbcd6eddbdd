"""Examples become what the model is trained on: token ids with labels, grouped by the size of their pictures.

Which examples a process computes follows from its rank, so that those of one step are the same however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from vamba_eval.contracts import UserError

from .. import _transformers
from .processing import VambaProcessor
from .training_data import PLACEHOLDERS, Sample, Turn
from .training_model import Group

MARKERS = "<|vision_start|><|vision_end|>"


@dataclass
class MicroBatch:
    """What one process computes at once.

    answer_tokens   tokens that have a label
    skipped         (data set, reason) of each row that could not be read
    """

    groups: list[Group]
    answer_tokens: int
    skipped: list[tuple[str, str]] = field(default_factory=list)


class MicroBatches(IterableDataset):
    """The micro-batches of one process, without an end.

    examples   of a number: its rows, and those that cannot be read
    rank, world, size   this process, of how many, each with so many examples at once
    first      the micro-batch to begin with
    """

    def __init__(
        self,
        examples: Callable[[int], tuple[list[Sample], list[tuple[str, str]]]],
        processor: VambaProcessor,
        *,
        rank: int,
        world: int,
        size: int,
        first: int,
    ) -> None:
        self.examples, self.processor = examples, processor
        self.rank, self.world, self.size, self.first = rank, world, size, first
        self._plain = _transformers.PlainText(processor.tokenizer)

    def __iter__(self) -> Iterator[MicroBatch | UserError]:
        """An error ends it, and is handed on as it is: from a process of its own it would come as a traceback."""
        worker = get_worker_info()
        number, step = (self.first, 1) if worker is None else (self.first + worker.id, worker.num_workers)
        while True:
            try:
                yield self.batch(number)
            except UserError as error:
                yield error
                return
            number += step

    def batch(self, number: int) -> MicroBatch:
        """The process's micro-batch of a number."""
        start = (number * self.world + self.rank) * self.size
        skipped: list[tuple[str, str]] = []
        encoded: list[tuple[Sample, list[tuple[list[int], list[int]]]]] = []
        for example in range(start, start + self.size):
            samples, broken = self.examples(example)
            skipped += broken
            for sample in samples:
                try:
                    self._check(sample)
                    encoded.append(
                        (sample, [self._encoded(turns, len(sample.pictures)) for turns in sample.conversations])
                    )
                except ValueError as error:
                    skipped.append((sample.source, str(error)))
        # A process that has nothing to compute still takes part in what all compute together.
        encoded = encoded or [self._blank()]
        groups = collate(encoded, self.processor.tokenizer.pad_token_id)
        return MicroBatch(groups, sum(int((group.labels != -100).sum()) for group in groups), skipped)

    def _check(self, sample: Sample) -> None:
        if not sample.conversations or not all(sample.conversations):
            raise ValueError("nothing is asked about the pictures")
        for picture in sample.pictures:
            self.processor.settings.grid(*picture.shape[:3])  # of a shape that can be cut into patches

    def _encoded(self, turns: Sequence[Turn], pictures: int) -> tuple[list[int], list[int]]:
        return encode(turns, pictures, self.processor, self._plain)

    def _blank(self) -> tuple[Sample, list[tuple[list[int], list[int]]]]:
        ids = self.processor.tokenizer(self.processor.prompt(""), add_special_tokens=False).input_ids
        edge = self.processor.settings.patch_size * self.processor.settings.merge_size
        return Sample([np.zeros((1, edge, edge, 3), np.uint8)], []), [(ids, [-100] * len(ids))]


def encode(
    turns: Sequence[Turn], pictures: int, processor: VambaProcessor, plain: _transformers.PlainText
) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, and labels of its answers and the ends of their turns alone.

    One picture stands before the first question, as when the model is asked; several where the texts say. Raises
    ValueError where they do not say so for each, or where a text holds control tokens.
    """
    ids: list[int] = []
    labels: list[int] = []
    placed = 0
    for number, (question, answer) in enumerate(turns):
        said, count = _with_markers(question, pictures, first=number == 0)
        placed += count
        for text in (said.replace(MARKERS, ""), answer):
            plain.check(text, "a text")
        before = processor.prompt(said, vision=False)
        if number:  # without the system's turn, and behind the end of the turn before
            before = "\n" + before[before.index("<|im_start|>user") :]
        head = processor.tokenizer(before, add_special_tokens=False).input_ids
        tail = processor.tokenizer(f"{answer}<|im_end|>", add_special_tokens=False).input_ids
        ids += [*head, *tail]
        labels += [*[-100] * len(head), *tail]
    if placed != pictures:
        raise ValueError(f"the texts have {placed} places for {pictures} pictures")
    return ids, labels


def _with_markers(question: str, pictures: int, first: bool) -> tuple[str, int]:
    """The question with the markers of its pictures, and how many these are."""
    count = sum(question.count(placeholder) for placeholder in PLACEHOLDERS)
    for placeholder in PLACEHOLDERS:
        for text in (f"{placeholder}\n", f"\n{placeholder}", placeholder):
            question = question.replace(text, MARKERS if pictures > 1 else "")
    if pictures > 1:
        return question, count
    return (MARKERS + question if first else question), int(first)


def collate(encoded: Sequence[tuple[Sample, Sequence[tuple[list[int], list[int]]]]], pad: int) -> list[Group]:
    """Rows whose pictures have one size, and that have equally many texts, side by side."""
    alike: dict[Any, list[tuple[Sample, Sequence[tuple[list[int], list[int]]]]]] = {}
    for sample, texts in encoded:
        alike.setdefault((tuple(picture.shape for picture in sample.pictures), len(texts)), []).append((sample, texts))
    groups = []
    for rows in alike.values():
        pictures = [
            torch.from_numpy(np.stack(row)) for row in zip(*(sample.pictures for sample, _ in rows), strict=True)
        ]
        texts = [text for _, all_texts in rows for text in all_texts]
        longest = max(len(ids) for ids, _ in texts)
        ids = torch.tensor([[*ids, *[pad] * (longest - len(ids))] for ids, _ in texts])
        labels = torch.tensor([[*labels, *[-100] * (longest - len(labels))] for _, labels in texts])
        groups.append(Group(pictures, ids, labels))
    return groups

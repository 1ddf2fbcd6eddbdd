"""VSI-SUPER Recall (VSR): in which order an unusual object was at four places, in videos of 10 minutes to 4 hours.

Paper: Yang et al., Cambrian-S, arXiv 2511.04670. Data set card: nyu-visionx/VSI-SUPER-Recall.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vamba_eval.contracts import (
    LETTERS,
    Catalogue,
    Clip,
    Counts,
    Dataset,
    GenerationSettings,
    InLmmsEval,
    Question,
    Score,
    Task,
    Video,
)
from vamba_eval.score.flexible import score_flexible
from vamba_eval.score.letters import score_choice, without_reasoning

from ._annotations import FLEXIBLE, FLEXIBLE_SETTINGS, Collector, list_field, marked_options, text_field
from ._vsi_super import load_videos

_LENGTHS = ("10mins", "30mins", "60mins", "120mins", "240mins")
_LETTER_ONLY = "Answer with the option's letter from the given choices directly."


class VSISuperRecall(Task):
    name = "vsi_super_recall"
    version = "1"
    catalogue = Catalogue(
        title="VSI-SUPER Recall",
        homepage="https://huggingface.co/datasets/nyu-visionx/VSI-SUPER-Recall",
        citation="Yang et al., Cambrian-S, arXiv 2511.04670",
        # An archive a length, each with the folder of that name.
        dataset=Dataset(
            hub_id="nyu-visionx/VSI-SUPER-Recall",
            files=("*.parquet", "*.zip"),
            unpack_into="",
            lmms_eval="vsisuper_recall",
            lmms_ids=("nyu-visionx/VSI-SUPER-Recall",),
        ),
        # Paper, appendix B.1: 60 videos of each length, each with one question.
        counts={
            "test": Counts(videos=300, questions=300),
            **{length: Counts(videos=60, questions=60) for length in _LENGTHS},
        },
        in_lmms_eval=InLmmsEval(
            tasks={f"vsisuper_recall_{length}": length for length in _LENGTHS},
            functions=frozenset(),
            groups={"type": "length"},
            video="video_path",
        ),
    )
    splits = ("test", *_LENGTHS)
    protocols = ("lmms-eval", "flexible")

    def generation(self, protocol: str) -> GenerationSettings:
        return FLEXIBLE_SETTINGS if protocol == FLEXIBLE else GenerationSettings.lmms_eval(16)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        return load_videos(self, data_root, split, "type", _question)

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        marks = question.extra["marks"]
        listed = [mark + option for mark, option in zip(marks, question.options, strict=True)]
        return "\n".join([question.text.strip(), "Options:", *listed, _LETTER_ONLY])

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return (_LETTER_ONLY,)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        return score_flexible(question, response) if protocol == FLEXIBLE else score_choice(question, response, _first)


def _question(row: dict[str, Any], identity: str, where: str, collector: Collector) -> Question:
    published, answer = list_field(row, "options"), text_field(row, "answer").strip()
    marks, options = marked_options(published)
    if answer in published:
        answer = LETTERS[published.index(answer)]
    if answer not in tuple(LETTERS[: len(options)]):
        collector.defect(where, f"the answer {answer!r} is not an option's letter", "the question counts as wrong")
        answer = ""
    groups = {"length": identity.partition("_")[0]}
    return Question(identity, text_field(row, "question"), tuple(options), answer, groups, {"marks": marks})


def _first(response: str) -> str:
    """lmms-eval's ``_normalize_option``: the first of A to D, in either case and in whichever word, or ""."""
    match = re.search(r"[A-D]", without_reasoning(response).upper())
    return match[0] if match else ""

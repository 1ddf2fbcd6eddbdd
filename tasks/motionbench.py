"""MotionBench: 4,018 questions with answers of 8,052, about what moves in short videos, and how.

Paper: Hong et al., CVPR 2025, arXiv 2501.02955. Data set card: zai-org/MotionBench (once THUDM/MotionBench). Rows
whose answer is withheld ("NA") are the test split.
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

from ._annotations import (
    FLEXIBLE,
    FLEXIBLE_SETTINGS,
    BadRow,
    Collector,
    check_split,
    find_folder,
    first_existing,
    groups_of,
    lettered,
    read_rows,
    text_field,
)

_LETTER_ONLY = "Answer with only the option letter (A, B, C, D, E, or F)."
_WITHHELD = "NA"
# Phrases that lmms-eval takes out of a response in capitals.
_REMOVED = ("THE BEST ANSWER IS", "THE CORRECT ANSWER IS", "THE ANSWER IS", "BEST ANSWER:", "ANSWER:")
_FOLDERS = (
    "videos",
    "MotionBench/self-collected",
    "MotionBench/public-dataset",
    "self-collected",
    "public-dataset",
    "",
)


class MotionBench(Task):
    name = "motionbench"
    version = "1"
    catalogue = Catalogue(
        title="MotionBench (dev)",
        homepage="https://huggingface.co/datasets/zai-org/MotionBench",
        citation="Hong et al., MotionBench, CVPR 2025, arXiv 2501.02955",
        dataset=Dataset(
            hub_id="zai-org/MotionBench",
            files=("MotionBench/*",),
            elsewhere="Videos of MedVid, SportsSloMo and HA-ViD may not be passed on: the data set's card says how to "
            "get them; put them into motionbench/videos/",
            lmms_eval="motionbench",
        ),
        counts={"dev": Counts(videos=None, questions=4018)},  # of the published rows with answers
        in_lmms_eval=InLmmsEval(
            tasks={"motionbench_full": None},
            functions=frozenset({"motionbench_doc_to_visual", "motionbench_doc_to_text"}),
            groups={"question_type": "question_type", "video_type": "video_type"},
            video="video_path",
        ),
    )
    splits = ("dev", "test")
    protocols = ("lmms-eval", "flexible")

    def generation(self, protocol: str) -> GenerationSettings:
        return FLEXIBLE_SETTINGS if protocol == FLEXIBLE else GenerationSettings.lmms_eval(64)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        split = check_split(self, split)
        expected = ("MotionBench/video_info.meta.jsonl", "video_info.meta.jsonl", "data/video_info.meta.jsonl")
        folder, file = find_folder(self, data_root, expected)
        collector = Collector(self)
        for number, row in enumerate(read_rows(file)):
            self._add(folder, row, f"{file.name} line {number}", split, collector)
        return collector.videos()

    @staticmethod
    def _add(folder: Path, row: Any, where: str, split: str, collector: Collector) -> None:
        asked = row.get("qa") if isinstance(row, dict) else None
        if not isinstance(asked, list):
            collector.broken(where, "field 'qa' is missing or not a list")
            return
        for number, each in enumerate(asked):
            own = f"{where} question {number}"
            answer = str(each.get("answer") or "").strip().upper() if isinstance(each, dict) else ""
            if isinstance(each, dict) and (answer in ("", _WITHHELD)) != (split == "test"):
                continue
            video_id = path = None
            try:
                video_id = text_field(row, "video_path")
                path = first_existing([folder / place / video_id for place in _FOLDERS])
                question = _question(row, each, answer, number, own, collector)
            except BadRow as problem:
                collector.broken(own, str(problem), video_id, path)
                continue
            collector.add(own, video_id, path, question)

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return "\n".join([question.text, *lettered(question.options), _LETTER_ONLY])

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return (_LETTER_ONLY,)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        return score_choice(question, response, _extract)


def _question(row: dict[str, Any], asked: Any, answer: str, number: int, where: str, collector: Collector) -> Question:
    """The options are lines of the question, as "A. ..."; white space counts as one space, as in lmms-eval."""
    published = text_field(asked, "question")
    text, *listed = re.split(r"(?:^|\n)\s*([A-F])[.):][ \t]*", published.strip())
    letters, options = listed[::2], [" ".join(option.split()) for option in listed[1::2]]
    if len(options) < 2 or letters != list(LETTERS[: len(letters)]):
        raise BadRow(f"the question {published!r} does not end in options lettered A, B, ...")
    withheld = answer in ("", _WITHHELD)
    if not withheld and answer not in letters:
        collector.defect(where, f"the answer {answer!r} is not an option's letter", "the question counts as wrong")
        answer = ""
    return Question(
        id=str(asked.get("uid") or f"{row.get('key') or row['video_path']}_{number}"),
        text=" ".join(text.split()),
        options=tuple(options),
        answer=None if withheld else answer,
        groups=groups_of(row, ("question_type", "video_type")),
    )


def _extract(response: str) -> str:
    """lmms-eval's rule for this task: of A to F in capitals (which makes "a dog" A) the first that stands alone, else
    the first before a period, bracket or colon, else the first in any word; "" if there is none."""
    text = without_reasoning(response).rpartition("</think>")[2].strip().upper()
    for phrase in _REMOVED:
        text = text.replace(phrase, "")
    for form in (r"\b([A-F])\b", r"([A-F])[.):]", r"([A-F])"):
        if match := re.search(form, text):
            return match[1]
    return ""

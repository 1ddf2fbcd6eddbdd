"""VSI-SUPER Count (VSC): how many objects of a kind all rooms of a video have together, in 10 minutes to 2 hours.

Paper: Yang et al., Cambrian-S, arXiv 2511.04670. Data set card: nyu-visionx/VSI-SUPER-Count. Its streaming questions,
which are asked again and again while a video goes on, are not here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vamba_eval.contracts import (
    Catalogue,
    Clip,
    Counts,
    CutOff,
    Dataset,
    GenerationSettings,
    InLmmsEval,
    Question,
    Score,
    Task,
    Video,
    mean,
)
from vamba_eval.reasoning import final_text
from vamba_eval.score.letters import without_reasoning

from ._annotations import FLEXIBLE, FLEXIBLE_SETTINGS, Collector, text_field
from ._vsi_super import load_videos

_LENGTHS = ("10mins", "30mins", "60mins", "120mins")
_BEFORE = "These are frames of a video."
_BEHIND = "Please answer the question using a single word or phrase."
# Mean relative accuracy by VSI-Bench (Yang et al., arXiv 2412.14171): the share of ten levels from 0.5 to 0.95 for
# which the relative error is at most what they leave. As lmms-eval computes them, to the last bit.
_LEVELS = np.linspace(0.5, 0.95, 10)
_NUMBER = r"-?\d+(?:,\d{3})*(?:\.\d+)?"
_STATED = re.compile(rf"(?:\banswer\s*(?:is\b|:)|<answer>|\\boxed\{{)[\s:*$\"'(]*({_NUMBER})")
# Else a total, with no number but in brackets behind it in its sentence, or what the response begins with.
_TOTAL = re.compile(
    r"(?:\b(?:total|sum|altogether|overall)\b[^.;\d\n]{0,60}?|\b(?:so|therefore|thus|hence),? there are\W+|=[\s*$]*)"
    rf"({_NUMBER})(?![^.;(\n]*\d)"
)
_BEGUN = re.compile(rf"[\W_]*({_NUMBER})[*\s]*(?:\(|\n)")
_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_GREATER = re.compile(r"\b(?:thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|dozen)s?\b")


class VSISuperCount(Task):
    name = "vsi_super_count"
    version = "1"
    catalogue = Catalogue(
        title="VSI-SUPER Count",
        homepage="https://huggingface.co/datasets/nyu-visionx/VSI-SUPER-Count",
        citation="Yang et al., Cambrian-S, arXiv 2511.04670",
        # One or several archives a length, each with the folder of that name.
        dataset=Dataset(
            hub_id="nyu-visionx/VSI-SUPER-Count",
            files=("*.parquet", "*.zip"),
            unpack_into="",
            lmms_eval="vsisuper_count",
            lmms_ids=("nyu-visionx/VSI-SUPER-Count",),
        ),
        # Paper, appendix B.2: 50 questions of each length.
        counts={
            "test": Counts(videos=None, questions=200),
            **{length: Counts(videos=None, questions=50) for length in _LENGTHS},
        },
        in_lmms_eval=InLmmsEval(
            tasks={f"vsisuper_count_{length}": length for length in _LENGTHS},
            functions=frozenset(),
            groups={"split": "length"},
            video="video_path",
        ),
    )
    measures: ClassVar = {"MRA": mean("mra")}
    splits = ("test", *_LENGTHS)
    protocols = ("lmms-eval", "flexible")

    def generation(self, protocol: str) -> GenerationSettings:
        return FLEXIBLE_SETTINGS if protocol == FLEXIBLE else GenerationSettings.lmms_eval(16)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        return load_videos(self, data_root, split, "split", _question)

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return "\n".join([_BEFORE, question.text.strip(), _BEHIND])

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return (_BEHIND,)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        said = _counted(response) if protocol == FLEXIBLE else _first(response)
        target = _float(question.answer)
        values = {} if question.answer is None else {"mra": _mra(_float(said) or 0.0, target)}
        return Score(values, said, parsed=said is not None)


def _question(row: dict[str, Any], identity: str, where: str, collector: Collector) -> Question:
    number = _float(row.get("answer"))
    if number is None:
        problem = f"the answer {row.get('answer')!r} is not a number"
        collector.defect(where, problem, "the question counts as wrong")
    groups = {"length": identity.partition("_")[0]}
    answer = "" if number is None else f"{number:g}"
    return Question(identity, text_field(row, "question"), answer=answer, groups=groups)


def _mra(said: float, target: float | None) -> float:
    """Of a count that is said, of no count 0 as lmms-eval takes it; 0 where the target is no number."""
    if target is None:
        return 0.0
    if target == 0:
        return float(said == 0)
    return float(np.mean(abs(said - target) / abs(target) <= 1 - _LEVELS))


def _first(response: str) -> str | None:
    """lmms-eval's ``_extract_number``: the first number in figures; a comma ends it."""
    match = re.search(r"-?\d+(?:\.\d+)?", without_reasoning(response))
    return match[0] if match else None


def _counted(response: str) -> str | None:
    """The last number that is stated as the answer, else the last total, else the one that the response begins with,
    else the only one there is, in figures or else in words.

    Of a response that was cut off only what is stated as the answer counts.
    """
    text = final_text(response).lower()
    if stated := _STATED.findall(text):
        return str(stated[-1]).replace(",", "")
    if isinstance(response, CutOff):
        return None
    if totals := _TOTAL.findall(text):
        return str(totals[-1]).replace(",", "")
    if begun := _BEGUN.match(text):
        return begun[1].replace(",", "")
    numbers = {each.replace(",", "") for each in re.findall(_NUMBER, text)}
    if not numbers and not _GREATER.search(text):
        numbers = {str(_WORDS.index(word)) for word in re.findall(r"[a-z]+", text) if word in _WORDS}
    return numbers.pop() if len(numbers) == 1 else None


def _float(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number

"""Video-MME-v2 without subtitles: 800 videos, 3,200 questions with eight options, four of a video scored together.

Paper: Fu et al., arXiv 2604.05015. Data set card: MME-Benchmarks/Video-MME-v2. A video's four questions test one
ability (relevance) or lead to one another (logic), and what counts is how many, or how far, all are answered.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from vamba_eval.contracts import (
    LETTERS,
    Catalogue,
    Clip,
    Counts,
    Dataset,
    GenerationSettings,
    InLmmsEval,
    Measure,
    Question,
    Score,
    ScoredRecord,
    Task,
    Video,
    mean,
)
from vamba_eval.score.flexible import score_flexible
from vamba_eval.score.letters import score_choice, without_reasoning

from ._annotations import (
    FLEXIBLE,
    FLEXIBLE_SETTINGS,
    BadRow,
    Collector,
    asked_as,
    check_split,
    find_folder,
    first_existing,
    letter_field,
    lettered,
    read_rows,
    text_field,
)

_LETTERS = "ABCDEFGH"
_OF_GROUP = ("level", "second_head", "third_head")
_RELEVANCE, _LOGIC = "relevance", "logic"
# What a group is worth by the number of right answers, and by how far a chain of each structure is right (the authors'
# test_video_mme_v2.py; lmms-eval has the same). A number in brackets with another stands for either of two.
_BY_NUMBER = (0.0, 1 / 16, 4 / 16, 9 / 16, 1.0)
_BY_LENGTH = {
    "[1, 2, 3, 4]": _BY_NUMBER,
    "[1, [2, 3], 4]": (0.0, 1 / 12, 4 / 12, 7 / 12, 1.0),
    "[[1, 2], 3, 4]": (0.0, 1 / 10, 2 / 10, 5 / 10, 1.0),
}
FRAMES = "These are the frames of a video."
_INSTRUCTION = (
    "Select the best answer to the following multiple-choice question based on the video. Respond with only the letter "
    "(A, B, C, D, E, F, G, or H) of the correct option."
)
# Phrases that the authors take out before they look for a letter.
_REMOVED = (
    *("Final Answer:", "The best answer is", "The correct answer is", "The answer is", "The answer"),
    *("The best option is", "The correct option is", "Best answer:", "Best option:", "Answer:", "Option:"),
)

IN_LMMS_EVAL = InLmmsEval(
    tasks={"videomme_v2": None},
    functions=frozenset({"videomme_v2_doc_to_visual", "videomme_v2_doc_to_text"}),
    groups={"group_type": "group_type"},
    video="video_id",
)


@dataclass
class _Group:
    """The marks of a video's questions, by their numbers from 1."""

    kind: str
    structure: str
    marks: dict[int, float]

    def worth(self) -> float:
        marks = [self.marks.get(number, 0.0) for number in range(1, 5)]
        if self.kind == _RELEVANCE:
            number = int(sum(marks))
            return _BY_NUMBER[number] if number > 0 else 0.0
        length = next((i for i, mark in enumerate(marks) if not mark), 4)
        if self.structure == "[1, [2, 3], 4]" and length == 1 and marks[2]:
            length = 2
        if self.structure == "[[1, 2], 3, 4]" and length == 0 and marks[1]:
            length = 1
        return _BY_LENGTH[self.structure][length]


def group_score(records: Sequence[ScoredRecord], kind: str | None = None) -> float | None:
    """The mean of what the groups (of one kind) are worth; a question without a record counts as wrong."""
    groups: dict[str, _Group] = {}
    for record in records:
        own = str(record.groups["group_type"])
        if kind in (None, own):
            group = groups.setdefault(record.video_id, _Group(own, str(record.question.extra["group_structure"]), {}))
            number = int(record.question_id.partition("#")[0].rpartition("-")[2])
            group.marks[number] = record.values.get("mark", record.values["correct"])
    return sum(group.worth() for group in groups.values()) / len(groups) if groups else None


class VideoMMEv2(Task):
    name = "videomme_v2"
    version = "1"
    catalogue = Catalogue(
        title="Video-MME-v2 (without subtitles)",
        homepage="https://huggingface.co/datasets/MME-Benchmarks/Video-MME-v2",
        citation="Fu et al., Video-MME-v2, arXiv 2604.05015",
        # 40 archives of videos and one of subtitles.
        dataset=Dataset(
            hub_id="MME-Benchmarks/Video-MME-v2",
            files=("test.parquet", "videos/*", "subtitle.zip"),
            lmms_eval="videomme_v2",
            lmms_ids=("MME-Benchmarks/Video-MME-v2",),
        ),
        counts={"test": Counts(videos=800, questions=3200, subtitles=800)},  # the data set's card
        in_lmms_eval=IN_LMMS_EVAL,
    )
    measures: ClassVar = {
        "group score": Measure(group_score),
        _RELEVANCE: Measure(partial(group_score, kind=_RELEVANCE)),
        _LOGIC: Measure(partial(group_score, kind=_LOGIC)),
        "accuracy": mean("correct"),
    }
    protocols: ClassVar[tuple[str, ...]] = ("official", "lmms-eval", "flexible")
    kept = ("group_structure",)

    def generation(self, protocol: str) -> GenerationSettings:
        if protocol == FLEXIBLE:
            return FLEXIBLE_SETTINGS
        return GenerationSettings.lmms_eval(64) if protocol == "lmms-eval" else GenerationSettings(max_new_tokens=4096)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        check_split(self, split)
        folder, file = find_folder(self, data_root, ("test.parquet", "test-*.parquet", "data/test-*.parquet"))
        rows = read_rows(file)
        # A group is of the kind of its last question.
        last = {row.get("video_id"): row for row in rows if isinstance(row, dict)}
        collector = Collector(self)
        for number, row in enumerate(rows):
            where = f"{file.name} row {number}"
            video_id = path = None
            try:
                video_id = text_field(row, "video_id")
                path = first_existing([folder / "videos" / f"{video_id}.mp4", folder / f"{video_id}.mp4"])
                question = _question(row, last[video_id], where, collector)
            except BadRow as problem:
                collector.broken(where, str(problem), video_id, path)
                continue
            subtitles = first_existing([folder / "subtitle" / f"{video_id}.jsonl", folder / f"{video_id}.jsonl"])
            there = subtitles if subtitles.exists() else None
            collector.add(where, video_id, path, question, subtitles=there)
        return collector.videos()

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        asked = "\n".join([f"Question: {question.text}", *lettered(question.options), _INSTRUCTION])
        return f"{self._before(video, asked_as(protocol, 'official'))}{asked}"

    def _before(self, video: Video, protocol: str) -> str:
        return f"{FRAMES}\n" if protocol == "official" else ""

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return (_INSTRUCTION,)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        if protocol == "lmms-eval":
            return score_choice(question, response, lambda text: _extract_lmms(text, question.options))
        score = score_choice(question, response, _extract_official)
        if score.extracted or not score.values:
            return score
        # It marks a response without a letter by -1: taken from what a group of relevance has, right in a chain.
        return Score({**score.values, "mark": -1.0}, parsed=False)


def _question(row: dict[str, Any], last: Mapping[str, Any], where: str, collector: Collector) -> Question:
    id = text_field(row, "question_id")
    if not re.fullmatch(r".*-[1-4]", id):
        raise BadRow(f"the question's id {id!r} does not end in its number in the group, 1 to 4")
    kind, structure = text_field(row, "group_type"), str(row.get("group_structure"))
    if kind not in (_RELEVANCE, _LOGIC):
        raise BadRow(f"field 'group_type' is {kind!r}, neither {_RELEVANCE!r} nor {_LOGIC!r}")
    if kind == _LOGIC:
        structure = _structure(structure)
    lines = text_field(row, "options").split("\n")
    options = [line.removeprefix(f"{letter}. ") for letter, line in zip(_LETTERS, lines, strict=False)]
    if lettered(options) != lines:
        raise BadRow(f"field 'options' does not hold lines lettered A, B, ...: {row['options']!r}")
    return Question(
        id=id,
        text=text_field(row, "question"),
        options=tuple(options),
        answer=letter_field(row, "answer", options, where, collector),
        groups={"group_type": kind, **{name: str(last.get(name)) for name in _OF_GROUP}},
        extra={"group_structure": structure},
    )


def _structure(text: str) -> str:
    try:
        written = str(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        written = ""
    if written not in _BY_LENGTH:
        raise BadRow(f"field 'group_structure' is {text!r}, none of {', '.join(_BY_LENGTH)}")
    return written


def _extract_official(response: str) -> str:
    """The authors' rule: the first of the capitals A to H, in whichever word, after some phrases are taken out."""
    text = response.strip()
    for phrase in _REMOVED:
        text = text.replace(phrase, "")
    match = re.search("[A-H]", text)
    return match[0] if match else ""


def _extract_lmms(response: str, options: Sequence[str]) -> str:
    """lmms-eval's rule for this task, in either case: a letter that is the last line, or the first line or its start
    before "." or ")"; the last one behind an answer's phrase; the only one in bold; the only option that is said.
    Otherwise "".
    """
    text = without_reasoning(response).strip()
    letter = r"(?:\*\*[ \t]*)?([A-H])(?:[ \t]*\*\*)?[ \t]*"
    alone = re.search(rf"(?:^|\n)[ \t]*{letter}[.)]?[ \t]*$", text, re.IGNORECASE) or re.match(
        rf"[ \t]*{letter}(?:[.)]|\r?\n|$)", text, re.IGNORECASE
    )
    if alone:
        return alone[1].upper()
    phrases = "|".join(map(re.escape, _REMOVED))
    behind = rf"(?:{phrases}|\b(?:answer|option)(?:\s+(?:is|would\s+be)|\s*:))[\s:*]*([A-H])\b"
    if said := re.findall(behind, text, re.IGNORECASE):
        return str(said[-1]).upper()
    bold = {each.upper() for each in re.findall(r"\*\*\s*([A-H])(?=\s*\*\*|[.)])", text, re.IGNORECASE)}
    if len(bold) == 1:
        return bold.pop()
    lowered = without_reasoning(response).lower()
    bodies = zip(LETTERS, (option.strip(". \n").lower() for option in options), strict=False)
    named = [each for each, body in bodies if body in lowered]
    return named[0] if len(named) == 1 else ""

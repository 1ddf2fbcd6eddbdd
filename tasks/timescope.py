"""TimeScope: short clips as needles in videos of one minute to eight hours, 1,500 questions of three kinds.

By Zohar et al. (Hugging Face's blog, July 2025); data set card: Apollo-LMMs/TimeScope. The authors evaluate with
lmms-eval, so that its protocol is theirs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
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
    Question,
    Score,
    Task,
    Video,
)
from vamba_eval.score.flexible import score_flexible
from vamba_eval.score.letters import extract_lmms_first, score_choice

from ._annotations import (
    FLEXIBLE,
    FLEXIBLE_SETTINGS,
    BadRow,
    Collector,
    check_split,
    find_folder,
    first_existing,
    missing,
    read_rows,
    seconds_field,
    text_field,
)

# A table each in earlier revisions of the repository. lmms_eval/tasks/timescope/utils.py has the same three.
_KINDS = ("OCR", "QA", "temporal")
_LETTERS = "ABCDEF"  # lmms-eval's, whatever the number of options
_MARK = rf"((?:^|\n)\s*\(?[{_LETTERS}][:.)][ \t]*)"
_INSTRUCTION = "Only give me the answer and do not output any other words."


class TimeScope(Task):
    name = "timescope"
    version = "1"
    catalogue = Catalogue(
        title="TimeScope",
        homepage="https://huggingface.co/datasets/Apollo-LMMs/TimeScope",
        citation="Zohar et al., TimeScope, 2025, https://huggingface.co/blog/timescope-video-lmm-benchmark",
        # The paths of videos begin where the archive does.
        dataset=Dataset(
            hub_id="Apollo-LMMs/TimeScope",
            files=("data/*", "*.tar*", "*.zip"),
            unpack_into="",
            lmms_eval="timescope",
            lmms_ids=("Apollo-LMMs/TimeScope",),
        ),
        # By the data set's card: 500 of each kind.
        counts={"test": Counts(videos=None, questions=1500)},
        in_lmms_eval=InLmmsEval(
            tasks={"timescope": None},
            functions=frozenset({"timescope_doc_to_visual"}),
            groups={"task_type": "kind"},
            video="video",
        ),
    )
    protocols: ClassVar[tuple[str, ...]] = ("lmms-eval", "flexible")
    # What lmms-eval removes from a response before it looks for a letter.
    removed: ClassVar[tuple[str, ...]] = (
        *("The best answer is", "The correct answer is", "The answer is", "The answer", "The best option is"),
        *("The correct option is", "Best answer:", "Best option:"),
    )

    def generation(self, protocol: str) -> GenerationSettings:
        return FLEXIBLE_SETTINGS if protocol == FLEXIBLE else GenerationSettings.lmms_eval(16)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        check_split(self, split)
        expected = ("data/test-*.parquet", "test-*.parquet", f"data/{_KINDS[0]}-*.parquet")
        folder, found = find_folder(self, data_root, expected)
        collector = Collector(self)
        for file in self._files(found):
            for number, row in enumerate(read_rows(file)):
                where = f"{file.name} row {number}"
                video_id = path = None
                try:
                    video_id = text_field(row, "video")
                    names = [video_id, *(video_id.replace("mp4", ending) for ending in ("MP4", "mkv"))]
                    path = first_existing([folder / place / name for place in ("", "videos") for name in names])
                    question = _question(row, where, file.name.partition("-")[0], collector)
                except BadRow as problem:
                    collector.broken(where, str(problem), video_id, path)
                    continue
                collector.add(where, video_id, path, question)
        return collector.videos()

    def _files(self, found: Path) -> list[Path]:
        if found.name.startswith("test-"):
            return [found]
        files = [next(iter(sorted(found.parent.glob(f"{kind}-*.parquet"))), None) for kind in _KINDS]
        for kind, file in zip(_KINDS, files, strict=True):
            if file is None:
                raise missing(self, found.with_name(f"{kind}-*.parquet"))
        return [file for file in files if file is not None]

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        """As it is published, which is all that lmms-eval shows."""
        marks = question.extra.get("marks", ())
        listed = [mark + option for mark, option in zip(marks, question.options, strict=False)]
        return "".join([question.text, *listed, question.extra.get("end", "")])

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return (_INSTRUCTION,) if _INSTRUCTION in question.text else ()

    def rotated(self, question: Question, places: int) -> Question | None:
        """Not where the options cannot be told from the question."""
        return question.rotated(places) if question.extra.get("marks") else None

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        return score_choice(question, response, lambda text: extract_lmms_first(text, _LETTERS, self.removed))


def _question(row: dict[str, Any], where: str, table: str, collector: Collector) -> Question:
    kind = str(row.get("type") or (table if table in _KINDS else "unknown"))
    length, number = _length(row), row.get("index")
    identity = row.get("id") or (where if number is None else f"{kind}_{row.get('length')}_{number}")
    question = _listed(text_field(row, "input"))
    if not question.options:
        problem = "field 'input' does not end in options lettered A, B, ..."
        collector.defect(where, problem, "it is asked as published, and A to F are taken as answers")
        question = replace(question, options=tuple(_LETTERS))
    answer = text_field(row, "answer")
    if answer.upper() not in tuple(LETTERS[: len(question.options)]):
        collector.defect(where, f"the answer {answer!r} is not an option's letter", "the question counts as wrong")
        answer = ""
    groups = {"length": length, "kind": kind, "kind and length": f"{kind}, {length}"}
    return replace(question, id=str(identity), answer=answer.upper(), groups=groups)


def _listed(published: str) -> Question:
    """The text with its options apart; what stands around them is kept, so that it is shown as published."""
    before, *parts = re.split(_MARK, published)
    marks, bodies = parts[::2], parts[1::2]
    letters = [mark.strip(" \t\r\n(:.)") for mark in marks]
    if len(marks) < 2 or letters != list(LETTERS[: len(marks)]):
        return Question("", published)
    options = [body.rstrip() for body in bodies]
    ends = [body.removeprefix(option) for body, option in zip(bodies, options, strict=True)]
    marks = [end + mark for end, mark in zip(["", *ends], marks, strict=False)]
    return Question("", before, tuple(options), extra={"marks": marks, "end": ends[-1]})


def _length(row: dict[str, Any]) -> str:
    """The published length, in seconds, as the authors state it: "10 min", "3 h"."""
    seconds = seconds_field(row, "length")
    if seconds is None:
        return "unknown"
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"

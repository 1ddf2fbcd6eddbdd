"""CG-Bench: questions with five to eight options about videos of ten minutes to hours (long accuracy).

Paper: Chen et al., CG-Bench: Clue-grounded Question Answering Benchmark for Long Video Understanding, ICLR 2025,
arXiv 2412.12075. Files: github.com/CG-Bench/CG-Bench (cgbench_mini.json, cgbench.json) and the data set
CG-Bench/CG-Bench (videos).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vamba_eval.contracts import Catalogue, Clip, Counts, GenerationSettings, Question, Score, Task, Video
from vamba_eval.score.flexible import score_flexible
from vamba_eval.score.letters import extract_lmms, score_choice

from ._annotations import (
    FLEXIBLE,
    FLEXIBLE_SETTINGS,
    BadRow,
    Collector,
    check_split,
    find_folder,
    first_existing,
    groups_of,
    letter_field,
    lettered,
    list_field,
    read_rows,
    seconds_field,
    text_field,
)

_SELECT = "Select the best answer to the following multiple-choice question based on the video."
_LETTER_ONLY = "Answer with the option letter only."
_FILES = {"mini": "cgbench_mini.json", "full": "cgbench.json"}
# lmms-eval looks for so many letters, whatever the number of options.
_LETTERS = "ABCDEFGHIJKLMN"


class CGBench(Task):
    name = "cgbench"
    version = "1"
    catalogue = Catalogue(
        title="CG-Bench (mini, long accuracy)",
        homepage="https://github.com/CG-Bench/CG-Bench",
        citation="Chen et al., CG-Bench, ICLR 2025, arXiv 2412.12075",
        counts={"mini": Counts(videos=1118, questions=3000)},  # of the published file
    )
    splits = ("mini", "full")
    protocols = ("lmms-eval", "flexible")

    def generation(self, protocol: str) -> GenerationSettings:
        return FLEXIBLE_SETTINGS if protocol == FLEXIBLE else GenerationSettings.lmms_eval(16)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        folder, file = find_folder(self, data_root, (_FILES[check_split(self, split)],))
        collector = Collector(self)
        for number, row in enumerate(read_rows(file)):
            where = f"{file.name} row {number}"
            video_id = path = None
            try:
                video_id = text_field(row, "video_uid")
                path = first_existing([folder / place / f"{video_id}.mp4" for place in ("cg_videos_720p", "videos")])
                question = _question(row, where, collector)
            except BadRow as problem:
                collector.broken(where, str(problem), video_id, path)
                continue
            collector.add(where, video_id, path, question, duration_s=seconds_field(row, "duration"))
        return collector.videos()

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return "\n".join([_SELECT, question.text, *lettered(question.options), _LETTER_ONLY])

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return (_SELECT, _LETTER_ONLY)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        return score_choice(question, response, lambda text: extract_lmms(text, _LETTERS))


def _question(row: dict[str, Any], where: str, collector: Collector) -> Question:
    options = list_field(row, "choices")
    if row.get("qid") is None:
        raise BadRow("field 'qid' is missing")
    return Question(
        id=str(row["qid"]),
        text=text_field(row, "question"),
        options=tuple(options),
        answer=letter_field(row, "right_answer", options, where, collector),
        groups=groups_of(row, ("domain", "sub_category")),
    )

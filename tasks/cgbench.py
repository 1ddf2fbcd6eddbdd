"""CG-Bench: questions with five to eight options about videos of ten minutes to hours (long accuracy).

Paper: Chen et al., CG-Bench: Clue-grounded Question Answering Benchmark for Long Video Understanding, ICLR 2025,
arXiv 2412.12075. Files: the data set CG-Bench/CG-Bench; github.com/CG-Bench/CG-Bench has the annotations of mini and
full too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vamba_eval.contracts import (
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
_FILES = {"mini": "cgbench_mini.json", "full": "cgbench.json", "hard": "cgbench_hard.json"}
# lmms-eval looks for so many letters, whatever the number of options.
_LETTERS = "ABCDEFGHIJKLMN"


class CGBench(Task):
    name = "cgbench"
    version = "1"
    catalogue = Catalogue(
        title="CG-Bench (mini, long accuracy)",
        homepage="https://github.com/CG-Bench/CG-Bench",
        citation="Chen et al., CG-Bench, ICLR 2025, arXiv 2412.12075",
        # By the authors' unzip_hf_zip.py: the videos are one archive, cut in pieces (video..chunk_N.zip), which holds
        # the folder cg_videos_720p. The clues' own videos, cut out of these, are not needed.
        dataset=Dataset(
            hub_id="CG-Bench/CG-Bench",
            files=("cgbench*.json", "video*.zip", "subtitles.zip"),
            unpack_into="",
            joined=("video*.zip",),
            lmms_eval="cg_videos_720p",
        ),
        # Of the published file; of the paper, section 3; of the data set card.
        counts={
            "mini": Counts(videos=1118, questions=3000),
            "full": Counts(videos=1219, questions=12129),
            "hard": Counts(videos=None, questions=2417),
        },
        in_lmms_eval=InLmmsEval(
            tasks={"cgbench": None},
            functions=frozenset({"cgbench_doc_to_visual", "cgbench_doc_to_text"}),
            groups={"category": "domain", "sub_category": "sub_category"},
            video="video_uid",
        ),
    )
    splits = ("mini", "full", "hard")
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
                path = first_existing(
                    [folder / place / f"{video_id}.mp4" for place in ("cg_videos_720p", "videos", "")]
                )
                asked = self._asked(_question(row, where, collector), row)
            except BadRow as problem:
                collector.broken(where, str(problem), video_id, path)
                continue
            for question in asked:
                collector.add(where, video_id, path, question, duration_s=seconds_field(row, "duration"))
        return collector.videos()

    def _asked(self, question: Question, row: dict[str, Any]) -> Sequence[Question]:
        """The ways in which a row's question is asked."""
        return (question,)

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

"""Perception Test, multiple choice: 19,140 questions with three options about short videos of staged situations.

Paper: Pătrăucean et al., arXiv 2305.13786. Data set card: lmms-lab/PerceptionTest_Val (parquet); the authors' own
mc_question_valid.json is read as well (github.com/google-deepmind/perception_test).
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
    list_field,
    read_object,
    read_rows,
    text_field,
)

_LETTER_ONLY = "Answer with the option's letter from the given choices directly."


class PerceptionTest(Task):
    name = "perceptiontest"
    version = "1"
    catalogue = Catalogue(
        title="Perception Test (validation)",
        homepage="https://huggingface.co/datasets/lmms-lab/PerceptionTest_Val",
        citation="Pătrăucean et al., Perception Test, NeurIPS 2023, arXiv 2305.13786",
        dataset=Dataset(
            hub_id="lmms-lab/PerceptionTest_Val",
            files=("mc_question_val/*", "videos_chunked_*.zip"),  # and an archive of sound, of 35 GB
            unpack_into="",
            lmms_eval="perceptiontest_val",
            lmms_ids=("lmms-eval/PerceptionTest_Val", "lmms-lab/PerceptionTest_Val"),
        ),
        counts={"val": Counts(videos=None, questions=19140)},  # the data set's card
        in_lmms_eval=InLmmsEval(
            tasks={"perceptiontest_val_mc": None},
            functions=frozenset({"perceptiontest_val_doc_to_visual", "perceptiontest_val_doc_to_text"}),
            groups={"area": "area", "reasoning": "reasoning"},
            video="video_name",
        ),
    )
    splits = ("val",)
    protocols = ("lmms-eval", "flexible")

    def generation(self, protocol: str) -> GenerationSettings:
        # lmms-eval's task sets no limit; 128 is that of its Qwen2-VL adapter for such tasks.
        return FLEXIBLE_SETTINGS if protocol == FLEXIBLE else GenerationSettings.lmms_eval(128)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        check_split(self, split)
        expected = ("mc_question_val/validation-*.parquet", "mc_question_valid.json", "validation-*.parquet")
        folder, file = find_folder(self, data_root, expected)
        collector = Collector(self)
        for number, row in enumerate(_rows(file)):
            where = f"{file.name} row {number}"
            video_id = path = None
            try:
                video_id = text_field(row, "video_name")
                names = [f"{video_id}{end}" for end in (".mp4", ".MP4", "")]
                path = first_existing([folder / "videos" / name for name in names])
                question = self._question(row, video_id, where, collector)
            except BadRow as problem:
                collector.broken(where, str(problem), video_id, path)
                continue
            collector.add(where, video_id, path, question)
        return collector.videos()

    @staticmethod
    def _question(row: dict[str, Any], video_id: str, where: str, collector: Collector) -> Question:
        options = list_field(row, "options")
        number, answer = str(row.get("answer_id")), ""
        if number.isascii() and number.isdigit() and int(number) < len(options):
            answer = LETTERS[int(number)]
        else:
            collector.defect(where, f"the answer {number!r} is not an option's number", "the question counts as wrong")
        if row.get("question_id") is None:
            raise BadRow("field 'question_id' is missing")
        tags = row.get("tag")
        return Question(
            id=f"{video_id}_{row['question_id']}",
            text=text_field(row, "question"),
            options=tuple(options),
            answer=answer,
            groups={
                **groups_of(row, ("area", "reasoning")),
                "tag": tuple(str(tag) for tag in tags) if isinstance(tags, list) else "unknown",
            },
        )

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return "\n".join([question.text, *lettered(question.options), _LETTER_ONLY])

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return (_LETTER_ONLY,)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        return score_choice(question, response, _extract)


def _rows(file: Path) -> list[Any]:
    """The authors' file has an object a video, which holds its questions."""
    if file.suffix != ".json":
        return read_rows(file)
    rows: list[Any] = []
    for video, entry in read_object(file).items():
        asked = entry.get("mc_question") if isinstance(entry, dict) else None
        for row in asked if isinstance(asked, list) else [None]:
            row = row if isinstance(row, dict) else {}
            rows.append({"video_name": video, "question_id": row.get("id"), **row})
    return rows


def _extract(response: str) -> str:
    """lmms-eval's rule for this task: the first of the capitals A to D that stands alone, or ""."""
    match = re.search(r"\b[A-D]\b", without_reasoning(response).strip())
    return match[0] if match else ""

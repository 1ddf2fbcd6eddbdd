"""LongVideoBench without subtitles: 1,337 questions that refer to moments of videos of 8 s to 1 h.

Paper: Wu et al., arXiv 2407.15754. Data set card: longvideobench/LongVideoBench.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from vamba_eval.contracts import (
    LETTERS,
    Catalogue,
    Clip,
    Counts,
    Dataset,
    FrameSampling,
    GenerationSettings,
    InLmmsEval,
    Question,
    Score,
    ScoredRecord,
    Task,
    Video,
)
from vamba_eval.score.flexible import score_flexible
from vamba_eval.score.letters import extract_lmms_first, extract_vamba, score_choice

from ._annotations import (
    FLEXIBLE,
    FLEXIBLE_SETTINGS,
    BadRow,
    Collector,
    asked_as,
    check_split,
    find_folder,
    first_responses,
    groups_of,
    letter_instruction,
    letter_prompt,
    lettered,
    list_field,
    read_rows,
    seconds_field,
    text_field,
)

_GROUPS = ("duration_group", "question_category", "topic_category", "level")
# The paper's 17 categories, eight of perception and nine of relation; levels are called as in lvb_val.json, where they
# have 625 and 712 questions.
_LEVELS = {
    **dict.fromkeys(("S2E", "S2O", "S2A", "E2O", "O2E", "T2E", "T2O", "T2A"), "L1-Perception"),
    **dict.fromkeys(("E3E", "O3O", "SSS", "SOS", "SAA", "T3E", "T3O", "TOS", "TAA"), "L2-Relation"),
}
_LETTER_ONLY = "Answer with the option's letter from the given choices directly."
_SPLITS = {
    "validation": ("lvb_val.json", "validation-*.parquet", "data/validation-*.parquet"),
    "test": ("lvb_test_wo_gt.json", "test-*.parquet", "data/test-*.parquet"),
}


class LongVideoBench(Task):
    name = "longvideobench"
    version = "1"
    catalogue = Catalogue(
        title="LongVideoBench (validation)",
        homepage="https://huggingface.co/datasets/longvideobench/LongVideoBench",
        citation="Wu et al., LongVideoBench, NeurIPS 2024, arXiv 2407.15754",
        reported_as="longvideobench_val",
        # Gated. The repository has one archive of videos in 31 parts (162 GB) and one of subtitles.
        dataset=Dataset(
            hub_id="longvideobench/LongVideoBench",
            lmms_eval="datasets/longvideobench",
            lmms_ids=("longvideobench/LongVideoBench",),
        ),
        # Paper, table 1, and data set card; the test split's videos are not stated apart.
        counts={
            "validation": Counts(videos=753, questions=1337, subtitles=753),
            "test": Counts(videos=None, questions=5341),
        },
        in_lmms_eval=InLmmsEval(
            tasks={"longvideobench_val_v": None, "longvideobench_test_v": "test"},
            functions=frozenset({"longvideobench_doc_to_visual_v", "longvideobench_doc_to_text"}),
            groups={"duration_group": "duration_group", "question_category": "question_category"},
        ),
    )
    splits = tuple(_SPLITS)
    protocols: ClassVar[tuple[str, ...]] = ("vamba", "lmms-eval", "official", "flexible")

    def generation(self, protocol: str) -> GenerationSettings:
        if protocol == FLEXIBLE:
            return FLEXIBLE_SETTINGS
        return GenerationSettings.lmms_eval(32) if protocol == "lmms-eval" else GenerationSettings()

    def sampling_under(self, protocol: str) -> FrameSampling:
        """The authors' loader shows at most 256 frames unless told otherwise."""
        if asked_as(protocol, "official") == "official":
            return replace(self.sampling, strategy="starts", num_frames=256)
        return self.sampling

    def title_of(self, split: str | None) -> str:
        return self.catalogue.title.replace(self.splits[0], split or self.splits[0])

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        split = check_split(self, split)
        folder, file = find_folder(self, data_root, _SPLITS[split])
        collector = Collector(self)
        for number, row in enumerate(read_rows(file)):
            where = f"{file.name} row {number}"
            name = row.get("video_path") if isinstance(row, dict) else None
            path = folder / "videos" / name if isinstance(name, str) and name else None
            about = _about(folder, row) if isinstance(row, dict) else {}
            try:
                name = text_field(row, "video_path")
                question = self._question(row, where, collector, answered=split != "test")
            except BadRow as problem:
                collector.broken(where, str(problem), name if path else None, path, **about)
                continue
            assert path is not None
            collector.add(where, name, path, question, **about)
        return collector.videos()

    def _question(self, row: dict[str, Any], where: str, collector: Collector, *, answered: bool) -> Question:
        if "candidates" not in row and "option0" in row:  # the Hub's parquet has a column an option
            columns = [row.get(f"option{i}") for i in range(5)]
            row = {**row, "candidates": [option for option in columns if option not in (None, "N/A")]}
        if row.get("level") is None:  # the Hub's parquet has no such column
            row = {**row, "level": _LEVELS.get(str(row.get("question_category")))}
        candidates = list_field(row, "candidates")
        choice = row.get("correct_choice")
        answer: str | None
        if not answered:
            answer = None  # the test split withholds it
        elif isinstance(choice, int | float) and not isinstance(choice, bool) and choice in range(len(candidates)):
            answer = LETTERS[int(choice)]  # pandas writes a column with a gap as floats
        else:
            collector.defect(where, f"correct_choice {choice!r} is not an option", "the question counts as wrong")
            answer = ""
        extra = {key: value for key, value in row.items() if key not in (*_GROUPS, "question", "candidates")}
        return Question(
            id=text_field(row, "id"),
            text=text_field(row, "question"),
            options=tuple(candidates),
            answer=answer,
            groups=groups_of(row, _GROUPS),
            extra=extra,
        )

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        protocol = asked_as(protocol, "official")
        if protocol == "vamba":
            return letter_prompt(question.text, question.options)
        options = lettered(question.options)
        if protocol == "official":
            return "\n".join([f"Question: {question.text}", *options, _LETTER_ONLY])
        return "\n".join([question.text, *options, _LETTER_ONLY, ""])

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return (letter_instruction() if protocol == "vamba" else _LETTER_ONLY,)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        """Of the authors' scoring only lmms-eval's copy is published, which says that it is theirs."""
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        if protocol == "vamba":
            return score_choice(question, response, extract_vamba)
        return score_choice(question, response, extract_lmms_first, draw_if_unparsed=True)

    def submission(self, responses: Sequence[ScoredRecord]) -> tuple[str, str] | None:
        """For the test split, whose answers are withheld: each question's first response, as lmms-eval writes them."""
        first = first_responses(responses)
        withheld = {id: each.response for id, each in first.items() if each.question.answer is None}
        return (f"{self.name}_test_for_submission.json", json.dumps(withheld)) if withheld else None


def _about(folder: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of Video that a row gives: its subtitles, and what their times mean."""
    subtitles = folder / "subtitles" / str(row.get("subtitle_path"))
    return {
        "subtitles": subtitles if os.path.isfile(subtitles) else None,
        "duration_s": seconds_field(row, "duration"),
        "extra": {"starting_timestamp_for_subtitles": row.get("starting_timestamp_for_subtitles")},
    }

"""LongVideoBench validation: 1,337 questions that refer to moments of videos of 8 s to 1 h.

Paper: Wu et al., arXiv 2407.15754. Data set card: longvideobench/LongVideoBench.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from vamba_eval.contracts import (
    LETTERS,
    Clip,
    Counts,
    Dataset,
    GenerationSettings,
    Question,
    Score,
    ScoredRecord,
    Summary,
    Task,
    Video,
)
from vamba_eval.scoring import extract_lmms_first, extract_vamba, score_choice, summarize

from ._annotations import (
    BadRow,
    Collector,
    check_split,
    find_folder,
    groups_of,
    letter_prompt,
    lettered,
    list_field,
    read_rows,
    seconds_field,
    text_field,
)

_GROUPS = ("duration_group", "question_category", "topic_category", "level")
_SPLITS = {
    "validation": ("lvb_val.json", "validation-*.parquet", "data/validation-*.parquet"),
    "test": ("lvb_test_wo_gt.json", "test-*.parquet", "data/test-*.parquet"),
}


class LongVideoBench(Task):
    name = "longvideobench"
    version = "1"
    title = "LongVideoBench (validation)"
    homepage = "https://huggingface.co/datasets/longvideobench/LongVideoBench"
    citation = "Wu et al., LongVideoBench, NeurIPS 2024, arXiv 2407.15754"
    reported_as = "longvideobench_val"
    # Gated. The repository has one archive of videos in 31 parts (162 GB) and one of subtitles.
    dataset = Dataset(
        hub_id="longvideobench/LongVideoBench",
        lmms_eval="datasets/longvideobench",
        lmms_ids=("longvideobench/LongVideoBench",),
    )
    # Paper, table 1, and data set card; the test split's videos are not stated apart.
    published_counts: ClassVar = {
        "validation": Counts(videos=753, questions=1337, subtitles=753),
        "test": Counts(videos=None, questions=5341),
    }

    def generation(self, protocol: str) -> GenerationSettings:
        return GenerationSettings(max_new_tokens=32 if protocol == "lmms-eval" else 512)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        split = check_split(self, split, tuple(_SPLITS))
        folder, file = find_folder(self, data_root, _SPLITS[split])
        collector = Collector(self)
        for number, row in enumerate(read_rows(file)):
            where = f"{file.name} row {number}"
            name = row.get("video_path") if isinstance(row, dict) else None
            path = folder / "videos" / name if isinstance(name, str) and name else None
            try:
                name = text_field(row, "video_path")
                question = self._question(row, where, collector, answered=split != "test")
            except BadRow as problem:
                collector.broken(where, str(problem), name if path else None, path)
                continue
            subtitles = folder / "subtitles" / str(row.get("subtitle_path"))
            assert path is not None
            about = {
                "subtitles": subtitles if subtitles.is_file() else None,
                "duration_s": seconds_field(row, "duration"),
            }
            collector.add(where, name, path, question, **about)
        return collector.videos()

    def _question(self, row: dict[str, Any], where: str, collector: Collector, *, answered: bool) -> Question:
        if "candidates" not in row and "option0" in row:  # the Hub's parquet has a column an option
            columns = [row.get(f"option{i}") for i in range(5)]
            row = {**row, "candidates": [option for option in columns if option not in (None, "N/A")]}
        candidates = list_field(row, "candidates")
        choice = row.get("correct_choice")
        answer: str | None
        if not answered:
            answer = None  # the test split withholds it
        elif isinstance(choice, int | float) and not isinstance(choice, bool) and choice in range(len(candidates)):
            answer = LETTERS[int(choice)]  # pandas writes a column with a gap as floats
        else:
            collector.defect(where, f"correct_choice {choice!r} is no option", "the question counts as wrong")
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
        options = lettered(question.options)
        if protocol == "lmms-eval":
            return "\n".join(
                [question.text, *options, "Answer with the option's letter from the given choices directly.", ""]
            )
        return letter_prompt(question.text, question.options)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == "lmms-eval":
            return score_choice(question, response, extract_lmms_first, draw_if_unparsed=True)
        return score_choice(question, response, extract_vamba)

    def summarize(self, records: Iterable[ScoredRecord]) -> Summary:
        return summarize(records)

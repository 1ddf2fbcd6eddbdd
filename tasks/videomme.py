"""Video-MME without subtitles: 900 videos of 11 s to 1 h, 2,700 questions with four options.

Paper: Fu et al., arXiv 2405.21075. Data set card: lmms-lab/Video-MME.
"""

from __future__ import annotations

import re
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
from vamba_eval.scoring import extract_lmms, extract_vamba, score_choice, summarize

from ._annotations import (
    BadRow,
    Collector,
    check_split,
    find_folder,
    first_existing,
    groups_of,
    letter_field,
    list_field,
    read_rows,
    text_field,
)

_GROUPS = ("duration", "domain", "sub_category", "task_type")


class VideoMME(Task):
    name = "videomme"
    version = "1"
    title = "Video-MME (without subtitles)"
    homepage = "https://huggingface.co/datasets/lmms-lab/Video-MME"
    citation = "Fu et al., Video-MME, CVPR 2025, arXiv 2405.21075"
    reported_as = "videomme_wo_subtitles"
    # The repository has 20 archives of videos (102 GB) and one of subtitles.
    dataset = Dataset(
        hub_id="lmms-lab/Video-MME",
        files=("videomme/*", "*.zip*"),
        lmms_eval="videomme",
        lmms_ids=("lmms-eval/Video-MME", "lmms-lab/Video-MME"),
    )
    # Paper, section 3: subtitles of 744 of the videos.
    published_counts: ClassVar = {"test": Counts(videos=900, questions=2700, subtitles=744)}

    def generation(self, protocol: str) -> GenerationSettings:
        return GenerationSettings(max_new_tokens=16 if protocol == "lmms-eval" else 512)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        check_split(self, split, ("test",))
        expected = ("videomme/test-*.parquet", "test-*.parquet")
        folder, file = find_folder(self, data_root, expected)
        collector = Collector(self)
        for number, row in enumerate(read_rows(file)):
            where = f"{file.name} row {number}"
            video_id = row.get("videoID")
            path = self._video_path(folder, str(video_id)) if video_id else None
            try:
                video_id = text_field(row, "videoID")
                question = self._question(row, where, collector)
            except BadRow as problem:
                collector.broken(where, str(problem), video_id if isinstance(video_id, str) else None, path)
                continue
            subtitles = folder / "subtitle" / f"{video_id}.srt"
            assert path is not None
            collector.add(where, video_id, path, question, subtitles=subtitles if subtitles.exists() else None)
        return collector.videos()

    @staticmethod
    def _video_path(folder: Path, video_id: str) -> Path:
        data = folder / "data"
        return first_existing([data / f"{video_id}{ending}" for ending in (".mp4", ".MP4", ".mkv", "")])

    def _question(self, row: dict[str, Any], where: str, collector: Collector) -> Question:
        published = list_field(row, "options")
        options = []
        for letter, option in zip(LETTERS, published, strict=False):
            match = re.match(rf"{letter}\.\s*", option)
            if match is None:
                collector.defect(
                    where, f"option {option!r} does not begin with '{letter}. '", "it is shown as published"
                )
            options.append(option[match.end() :] if match else option)
        answer = letter_field(row, "answer", options, where, collector)
        extra = {name: value for name, value in row.items() if name not in (*_GROUPS, "question", "answer")}
        return Question(
            id=text_field(row, "question_id"),
            text=text_field(row, "question"),
            options=tuple(options),
            answer=answer,
            groups=groups_of(row, _GROUPS),
            extra=extra,
        )

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        options = question.extra["options"]
        if protocol == "lmms-eval":
            # It speaks of subtitles although none are given.
            return "\n".join(
                [
                    "Select the best answer to the following multiple-choice question based on the video and the "
                    "subtitles. Respond with only the letter (A, B, C, or D) of the correct option.",
                    question.text,
                    *options,
                    "",
                    "Answer with the option's letter from the given choices directly.",
                ]
            )
        return "\n".join(
            [
                "Select the best answer to the following multiple-choice question based on the video.",
                "Respond with only the letter (A, B, C, or D) of the correct option.",
                question.text,
                " ".join(options),
            ]
        )

    def score(self, question: Question, response: str, protocol: str) -> Score:
        return score_choice(question, response, extract_lmms if protocol == "lmms-eval" else extract_vamba)

    def summarize(self, records: Iterable[ScoredRecord]) -> Summary:
        return summarize(records)

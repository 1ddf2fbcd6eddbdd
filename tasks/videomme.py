"""Video-MME without subtitles: 900 videos of 11 s to 1 h, 2,700 questions with four options.

Paper: Fu et al., arXiv 2405.21075. Data set card: lmms-lab/Video-MME.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
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
    UserError,
    Video,
    mean,
)
from vamba_eval.score.flexible import score_flexible
from vamba_eval.score.letters import extract_lmms, extract_vamba, extract_videomme, score_choice

from ._annotations import (
    FLEXIBLE,
    FLEXIBLE_SETTINGS,
    BadRow,
    Collector,
    asked_as,
    check_split,
    find_folder,
    first_existing,
    first_responses,
    groups_of,
    letter_field,
    list_field,
    read_rows,
    text_field,
    with_extra,
)

_GROUPS = ("duration", "domain", "sub_category", "task_type")
_PARTS = ("short", "medium", "long")
_EXTRACT = {"vamba": extract_vamba, "lmms-eval": extract_lmms, "official": extract_videomme}
# The instruction in one line, as all but the Vamba scripts have it; {} is what the question is based on.
INSTRUCTION = (
    "Select the best answer to the following multiple-choice question based on {}. "
    "Respond with only the letter (A, B, C, or D) of the correct option."
)

LETTER_ONLY = "Answer with the option's letter from the given choices directly."  # lmms-eval's last line

IN_LMMS_EVAL = InLmmsEval(
    tasks={"videomme": None, "videomme_long": "long"},
    functions=frozenset({"videomme_doc_to_visual", "videomme_doc_to_text"}),
    groups={
        "duration": "duration",
        "category": "domain",
        "sub_category": "sub_category",
        "task_category": "task_type",
    },
    video="videoID",
)


def _accuracy_of_parsed(records: Sequence[ScoredRecord]) -> float | None:
    return mean("correct").function([record for record in records if record.score.parsed])


class VideoMME(Task):
    name = "videomme"
    version = "1"
    catalogue = Catalogue(
        title="Video-MME (without subtitles)",
        homepage="https://huggingface.co/datasets/lmms-lab/Video-MME",
        citation="Fu et al., Video-MME, CVPR 2025, arXiv 2405.21075",
        reported_as="videomme_wo_subtitles",
        # The repository has 20 archives of videos (102 GB) and one of subtitles.
        dataset=Dataset(
            hub_id="lmms-lab/Video-MME",
            files=("videomme/*", "*.zip*"),
            lmms_eval="videomme",
            lmms_ids=("lmms-eval/Video-MME", "lmms-lab/Video-MME"),
        ),
        # Paper, section 3, and the authors' page: subtitles of 744 of the videos, among them all long ones.
        counts={
            "test": Counts(videos=900, questions=2700, subtitles=744),
            "short": Counts(videos=300, questions=900),
            "medium": Counts(videos=300, questions=900),
            "long": Counts(videos=300, questions=900, subtitles=300),
        },
        in_lmms_eval=IN_LMMS_EVAL,
    )
    # The second is what the authors' script prints: of the responses that yield an option.
    measures: ClassVar = {"accuracy": mean("correct"), "accuracy_of_parsed": Measure(_accuracy_of_parsed)}
    splits = ("test", *_PARTS)
    protocols: ClassVar[tuple[str, ...]] = ("vamba", "lmms-eval", "official", "flexible")
    kept = ("video_id", "question", "options")

    def generation(self, protocol: str) -> GenerationSettings:
        if protocol == FLEXIBLE:
            return FLEXIBLE_SETTINGS
        return GenerationSettings.lmms_eval(16) if protocol == "lmms-eval" else GenerationSettings()

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        split = check_split(self, split)
        expected = ("videomme/test-*.parquet", "test-*.parquet")
        folder, file = find_folder(self, data_root, expected)
        collector = Collector(self)
        for number, row in enumerate(read_rows(file)):
            if split in _PARTS and row.get("duration") != split:
                continue
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
            collector.add(where, video_id, path, question, subtitles=subtitles if os.path.exists(subtitles) else None)
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
        extra = {name: value for name, value in row.items() if name not in (*_GROUPS, "answer")}
        return Question(
            id=text_field(row, "question_id"),
            text=text_field(row, "question"),
            options=tuple(options),
            answer=answer,
            groups=groups_of(row, _GROUPS),
            extra=extra,
        )

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        protocol = asked_as(protocol, "official")
        options = question.extra["options"]
        instruction, *ending = self.instructions(question, protocol)
        if protocol == "vamba":
            return "\n".join([instruction, question.text, " ".join(options)])
        if protocol == "official":
            return "\n".join([instruction, question.text, *options, "The best answer is:"])
        return "\n".join([instruction, question.text, *options, "", *ending])

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        protocol = asked_as(protocol, "official")
        if protocol == "vamba":
            return (INSTRUCTION.format("the video").replace(". Respond", ".\nRespond"),)
        if protocol == "official":
            return (INSTRUCTION.format("the video"),)
        # It speaks of subtitles although none are given.
        return INSTRUCTION.format("the video and the subtitles"), LETTER_ONLY

    def rotated(self, question: Question, places: int) -> Question | None:
        """The published options hold their letters."""
        published = list(question.extra["options"])
        bodies = [re.sub(r"^[A-Z](?=\.)", "", option) for option in published]
        marks = [option.removesuffix(body) for option, body in zip(published, bodies, strict=True)]
        turned = [mark + body for mark, body in zip(marks, [*bodies[places:], *bodies[:places]], strict=True)]
        return with_extra(question.rotated(places), options=turned)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        return score_choice(question, response, _EXTRACT[protocol])

    def submission(self, responses: Sequence[ScoredRecord]) -> tuple[str, str] | None:
        """What the authors' script reads and their leaderboard takes, with each question's first response.

        Their script insists on all 300 videos of each duration that it is asked for.
        """
        videos: dict[str, dict[str, Any]] = {}
        for each in first_responses(responses).values():
            groups, extra = each.groups, each.question.extra
            if not extra:
                raise UserError(
                    f"{self.name}: the run is of an earlier version, whose records do not hold all that the file needs"
                )
            about: dict[str, Any] = {name: groups[name] for name in ("duration", "domain", "sub_category")}
            about = {"video_id": extra["video_id"], **about, "questions": []}
            videos.setdefault(each.video_id, about)["questions"].append(
                {
                    "question_id": each.question_id,
                    "task_type": groups["task_type"],
                    "question": extra["question"],
                    "options": extra["options"],
                    "answer": each.question.answer,
                    "response": each.response,
                }
            )
        ordered = sorted(videos.values(), key=lambda video: str(video["video_id"]))
        return f"{self.name}_output_test.json", json.dumps(ordered, indent=4, ensure_ascii=False) + "\n"

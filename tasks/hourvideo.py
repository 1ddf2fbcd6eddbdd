"""HourVideo dev: 1,182 questions of 20 kinds about 50 first-person videos of 20 minutes to 2 hours.

Paper: Chandrasegaran et al., arXiv 2411.04998. Data set card: HourVideo/HourVideo. In three of the kinds
(``reasoning/spatial/layout`` and those that end in ``_image``) the options are pictures; the Vamba scripts
show their file names, so there a model can but guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from vamba_eval.contracts import (
    Catalogue,
    Clip,
    Counts,
    Dataset,
    FrameSampling,
    GenerationSettings,
    Question,
    Score,
    Task,
    Video,
    mean,
)
from vamba_eval.score.flexible import score_flexible
from vamba_eval.score.letters import extract_vamba, score_choice

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
    read_object,
    rotated_text,
    seconds_field,
    split_options,
    text_field,
    with_extra,
)

_FILE = "dev_v1.0_annotations.json"
_MARK = r"\(?([A-Z])[.):]"  # of an option
_INSTRUCTIONS = (  # before and behind the question
    "Select the best answer to the following multiple-choice question based on the video.",
    "Respond with only the letter (A, B, C, D, or E) of the correct option.",
)


class HourVideo(Task):
    name = "hourvideo"
    version = "1"
    catalogue = Catalogue(
        title="HourVideo (dev)",
        homepage="https://huggingface.co/datasets/HourVideo/HourVideo",
        citation="Chandrasegaran et al., HourVideo, NeurIPS 2024, arXiv 2411.04998",
        reported_as="hourvideo_dev",
        dataset=Dataset(
            hub_id="HourVideo/HourVideo",
            files=(f"*{_FILE}",),
            elsewhere="The videos are Ego4D's: sign its licence at https://ego4d-data.org, fetch those whose uids the "
            "annotations name with its own command (pip install ego4d) and put them into hourvideo/videos/{uid}.mp4",
        ),
        # Data set card, v1.0; the test split's answers are withheld.
        counts={"dev": Counts(videos=50, questions=1182)},
    )
    measures: ClassVar = {"accuracy": mean("correct"), "mean over tasks": mean("correct", over="task")}
    splits = ("dev",)
    protocols = ("vamba", "flexible")  # lmms-eval 0.7 has no such task
    sampling = FrameSampling(num_frames=128, longest_edge=360)

    def generation(self, protocol: str) -> GenerationSettings:
        """The Vamba scripts sample here, and only here."""
        settings = FLEXIBLE_SETTINGS if protocol == FLEXIBLE else GenerationSettings()
        return replace(settings, do_sample=True, temperature=1.0, top_p=0.9)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        check_split(self, split)
        expected = (_FILE, f"v1.0_release/json/{_FILE}", f"json/{_FILE}")
        folder, file = find_folder(self, data_root, expected)
        collector = Collector(self)
        for uid, entry in read_object(file).items():
            if isinstance(entry, str):
                continue  # no video but the file's canary, which marks text that nothing may be trained on
            where = f"{file.name} video {uid}"
            path = first_existing([folder / "videos" / f"{uid}.mp4", folder / "videos" / uid])
            rows = entry.get("benchmark_dataset") if isinstance(entry, dict) else None
            if not isinstance(rows, list):
                collector.broken(where, "field 'benchmark_dataset' is missing or not a list", uid, path)
                continue
            for number, row in enumerate(rows):
                try:
                    question = self._question(row, f"{where} question {number}", collector)
                except BadRow as problem:
                    collector.broken(f"{where} question {number}", str(problem), uid, path)
                    continue
                about = entry.get("video_metadata")
                duration_s = seconds_field(about, "duration_in_seconds") if isinstance(about, dict) else None
                collector.add(f"{where} question {number}", uid, path, question, duration_s=duration_s)
        return collector.videos()

    def _question(self, row: Any, where: str, collector: Collector) -> Question:
        mcq_test = text_field(row, "mcq_test")
        _, options = split_options(mcq_test, _MARK)
        if not options:
            problem = "'mcq_test' holds no 'A. ...' lines"
            collector.defect(where, problem, "it is asked as published, and A to E are taken as answers")
            options = list("ABCDE")
        return Question(
            id=text_field(row, "qid"),
            text=text_field(row, "question"),
            options=tuple(options),
            answer=letter_field(row, "correct_answer_label", options, where, collector),
            groups=groups_of(row, ("task",)),
            extra={key: value for key, value in row.items() if key not in ("qid", "question", "task")},
        )

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        select, respond = _INSTRUCTIONS
        return "\n".join([select, question.text, question.extra["mcq_test"], respond])

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return _INSTRUCTIONS

    def rotated(self, question: Question, places: int) -> Question | None:
        """The prompt shows the options as they are published."""
        turned = rotated_text(question.extra["mcq_test"], question.options, places, _MARK)
        return with_extra(question.rotated(places), mcq_test=turned)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        return score_choice(question, response, extract_vamba)

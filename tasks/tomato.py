"""TOMATO: 1,484 questions that single frames do not answer: counts, directions, rotations, shapes, speeds, cues.

Paper: Shangguan et al., arXiv 2410.23266. Data set cards: yale-nlp/TOMATO (the authors', a table a task, without
videos) and lmms-eval/TOMATO (one table); the JSON files of github.com/yale-nlp/TOMATO are read as well.
"""

from __future__ import annotations

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
from vamba_eval.score.letters import without_reasoning

from ._annotations import (
    FLEXIBLE,
    FLEXIBLE_SETTINGS,
    BadRow,
    Collector,
    check_split,
    find_folder,
    list_field,
    missing,
    read_object,
    read_rows,
    text_field,
)

# The authors' six tasks, as their JSON files and their tables on the Hub are called.
_KINDS = {
    "count": "count",
    "direction": "direction",
    "rotation": "rotation",
    "shape&trend": "shape_trend",
    "velocity&frequency": "velocity_frequency",
    "visual_cues": "visual_cues",
}
# By lmms_eval/tasks/tomato/utils.py, which differs from the authors' in leaving out how many frames there are.
_INTRODUCTION = (
    "You will be provided with frames uniformly sampled from a video, the frames are provided in chronological order "
    "of the video. Analyze these frames and provide the answer to the question about the video content. Answer the "
    "multiple-choice question about the video content."
)
_FRAMES_ALONE = (
    "You must use these frames to answer the multiple-choice question; do not rely on any externel knowledge or "
    "commonsense."
)
_GUESS = (
    "Even if the information in these separate frames is not enough to answer the question, PLEASE TRY YOUR BEST TO "
    "GUESS AN ANSWER WHICH YOU THINK WOULD BE THE MOST POSSIBLE ONE BASED ON THE QUESTION."
)
_NO_REFUSAL = "DO NOT GENERATE ANSWER SUCH AS 'NOT POSSIBLE TO DETERMINE.'"


class TOMATO(Task):
    name = "tomato"
    version = "1"
    catalogue = Catalogue(
        title="TOMATO",
        homepage="https://huggingface.co/datasets/yale-nlp/TOMATO",
        citation="Shangguan et al., TOMATO, ICLR 2025, arXiv 2410.23266",
        dataset=Dataset(
            hub_id="yale-nlp/TOMATO",
            files=("data/*",),
            elsewhere="The videos are not in that repository: unpack the archive that "
            "https://github.com/yale-nlp/TOMATO links to into tomato/, so that there are tomato/videos/human/, object/ "
            "and simulated/",
            lmms_eval="TOMATO",
            lmms_ids=("lmms-eval/TOMATO",),
        ),
        # Of the authors' files; the paper, table 1, says 1,417 videos.
        counts={"test": Counts(videos=1397, questions=1484)},
        in_lmms_eval=InLmmsEval(
            tasks={"tomato": None},
            functions=frozenset({"tomato_doc_to_visual", "tomato_doc_to_text"}),
            groups={"reason_type": "task", "demonstration_type": "demonstration"},
        ),
    )
    protocols = ("lmms-eval", "flexible")

    def generation(self, protocol: str) -> GenerationSettings:
        return FLEXIBLE_SETTINGS if protocol == FLEXIBLE else GenerationSettings.lmms_eval(1024)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        check_split(self, split)
        expected = ("data/count-*.parquet", "data/count.json", "data/test-*.parquet", "test-*.parquet")
        folder, found = find_folder(self, data_root, expected)
        collector = Collector(self)
        for file in self._files(found):
            for number, row in enumerate(_rows(file)):
                self._add(folder, row, number, file, collector)
        return collector.videos()

    def _files(self, found: Path) -> list[Path]:
        if not found.name.startswith("count"):
            return [found]
        files = []
        for json_name, name in _KINDS.items():
            file = found.with_name(f"{json_name}.json")
            if found.suffix == ".parquet":
                # With a digest in their names.
                file = next(iter(sorted(found.parent.glob(f"{name}-*.parquet"))), found.with_name(f"{name}-*.parquet"))
            if not file.exists():
                raise missing(self, file)
            files.append(file)
        return files

    @staticmethod
    def _add(folder: Path, row: Any, number: int, file: Path, collector: Collector) -> None:
        where = f"{file.name} row {number}"
        video_id = path = None
        try:
            if not isinstance(row, dict):
                raise BadRow("the row is not an object")
            if row.get("video_path"):
                name = text_field(row, "video_path").removeprefix("./")
            else:
                name = f"videos/{text_field(row, 'demonstration_type')}/{text_field(row, 'key')}.mp4"
            video_id, path = name.removeprefix("videos/"), folder / name
            kind = str(row.get("reason_type") or row.get("motion_type") or "unknown")
            options = list_field(row, "options")
            chosen, answer = row.get("answer"), ""
            if isinstance(chosen, int) and not isinstance(chosen, bool) and 0 <= chosen < len(options):
                answer = LETTERS[chosen]
            else:
                problem = f"the answer {chosen!r} is not an option's number"
                collector.defect(where, problem, "the question counts as wrong")
            demonstration = str(row.get("demonstration_type") or "unknown")
            groups: dict[str, str | tuple[str, ...]] = {"task": kind, "demonstration": demonstration}
            if isinstance(variation := row.get("variation"), dict):
                groups |= {"variation": tuple(each for each, there in variation.items() if there) or "none"}
            identity = row.get("id")
            question = Question(
                id=str(identity) if identity is not None else f"{kind}-{number}",
                text=text_field(row, "question"),
                options=tuple(options),
                answer=answer,
                groups=groups,
            )
        except BadRow as problem:
            collector.broken(where, str(problem), video_id, path)
            return
        collector.add(where, video_id, path, question)

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        listed = dict(zip(LETTERS, question.options, strict=False))
        # Spaces at the ends of lines as there.
        parts = [
            *self.instructions(question, protocol)[:1],
            f"{_FRAMES_ALONE} ",
            f"<question> \n{question.text} \n</question>",
            f"<options> \n{listed} \n</options>",
            f"{_GUESS} ",
            f"{_NO_REFUSAL} \n",
        ]
        return "\n\n".join(parts)

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return _INTRODUCTION, _FRAMES_ALONE, _GUESS, _NO_REFUSAL

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        letters = LETTERS[: len(question.options)]
        found = _extract(response, question.options)
        # It takes the first option where there is none.
        values = {} if question.answer is None else {"correct": float((found or letters[0]) == question.answer)}
        return Score(values, found or None, parsed=bool(found))


def _rows(file: Path) -> list[Any]:
    """The authors' JSON files have numbered rows in an object."""
    return list(read_object(file).values()) if file.suffix == ".json" else read_rows(file)


def _extract(response: str, options: Sequence[str]) -> str:
    """lmms-eval's ``parse_multi_choice_response`` for TOMATO: a letter, or "" (where it takes A).

    A letter may stand in any word. Of several, the last that stands as "(A)", or else the first of the alphabet;
    without any, in a response of more than five words, the last option whose text occurs.
    """
    text = without_reasoning(response)
    for mark in ",.!?;:'":
        text = text.strip(mark)
    text = f" {text} "
    letters = LETTERS[: len(options)]
    if named := [letter for letter in letters if letter in text]:
        return max(named, key=lambda letter: text.rfind(f"({letter})"))
    lowered = text.lower()
    said = {letter: lowered.rfind(option.lower()) for letter, option in zip(letters, options, strict=True)}
    said = {letter: place for letter, place in said.items() if place >= 0}
    return max(said, key=said.__getitem__) if said and len(text.split()) > 5 else ""

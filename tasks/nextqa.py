"""NExT-QA, multiple choice: 8,564 questions on causes, order and content of 1,000 short videos (val: 4,996 of 570).

Paper: Xiao et al., arXiv 2105.08276. Data set cards: lmms-lab/NExTQA (parquet), github.com/doc-doc/NExT-QA (CSV).
"""

from __future__ import annotations

import json
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
    ScoredRecord,
    Task,
    UserError,
    Video,
)
from vamba_eval.score.flexible import score_flexible
from vamba_eval.score.letters import extract_lmms_choice, extract_vamba, score_choice

from ._annotations import (
    FLEXIBLE,
    FLEXIBLE_SETTINGS,
    BadRow,
    Collector,
    check_split,
    find_folder,
    first_existing,
    first_responses,
    letter_instruction,
    letter_prompt,
    lettered,
    read_object,
    read_rows,
    text_field,
)

_OPTIONS = ("a0", "a1", "a2", "a3", "a4")
_LETTERS = "A, B, C, D, or E"
# By split, the Hub's place first. Its repository has the test split alone.
_FILES = {
    "test": ("MC/test-*.parquet", "test.csv", "test-*.parquet"),
    "val": ("val.csv", "MC/val-*.parquet", "val-*.parquet"),
}
_VAL_IS = (
    "The val split is not in that repository: put dataset/nextqa/val.csv of https://github.com/doc-doc/NExT-QA into "
    "nextqa/, and its videos, from the authors' archive (the same page), into nextqa/NExTVideo/, with "
    "map_vid_vidorID.json beside val.csv where they lie in VidOR's folders"
)
_CATEGORIES = {"C": "causal", "T": "temporal", "D": "descriptive"}  # by the first letter of the type


class NExTQA(Task):
    name = "nextqa"
    version = "1"
    protocols = ("vamba", "lmms-eval", "flexible")
    splits = tuple(_FILES)
    catalogue = Catalogue(
        title="NExT-QA (multiple choice)",
        homepage="https://huggingface.co/datasets/lmms-lab/NExTQA",
        citation="Xiao et al., NExT-QA, CVPR 2021, arXiv 2105.08276",
        reported_as="nextqa_mc",
        # The repository has one archive of videos (6.5 GB).
        dataset=Dataset(
            hub_id="lmms-lab/NExTQA",
            files=("MC/*", "*.zip*"),
            elsewhere=_VAL_IS,
            lmms_eval="nextqa",
            lmms_ids=("lmms-eval/NExTQA", "lmms-lab/NExTQA"),
        ),
        # Paper, table 2.
        counts={"test": Counts(videos=1000, questions=8564), "val": Counts(videos=570, questions=4996)},
        in_lmms_eval=InLmmsEval(
            tasks={"nextqa_mc_test": None}, functions=frozenset({"nextqa_doc_to_visual", "nextqa_doc_to_text_mc"})
        ),
    )

    def generation(self, protocol: str) -> GenerationSettings:
        if protocol == FLEXIBLE:
            return FLEXIBLE_SETTINGS
        # lmms-eval's task sets no limit; 128 is that of its Qwen2-VL adapter for such tasks.
        return GenerationSettings.lmms_eval(128) if protocol == "lmms-eval" else GenerationSettings()

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        split = check_split(self, split)
        try:
            folder, file = find_folder(self, data_root, _FILES[split])
        except UserError as error:
            if split == "test":
                raise
            raise type(error)(f"{error}. {_VAL_IS}") from error
        # The authors' own archive has the videos in the folders of VidOR, which this file names.
        places = folder / "map_vid_vidorID.json"
        vidor = read_object(places) if places.is_file() else {}
        collector = Collector(self, equal_others=True)
        for number, row in enumerate(read_rows(file)):
            where = f"{file.name} row {number}"
            video_id = path = None
            try:
                video_id = _identifier(row, "video")
                names = [f"{video_id}.mp4", f"{video_id}.MP4", f"{vidor.get(video_id, video_id)}.mp4", video_id]
                path = first_existing([folder / "NExTVideo" / name for name in names])
                question = self._question(row, video_id, where, collector)
            except BadRow as problem:
                collector.broken(where, str(problem), video_id, path)
                continue
            collector.add(where, video_id, path, question)
        return collector.videos()

    def _question(self, row: dict[str, Any], video_id: str, where: str, collector: Collector) -> Question:
        if None in row:  # as csv.DictReader says it
            raise BadRow("the row has more fields than the header")
        options = [text_field(row, name) for name in _OPTIONS]
        choice = _identifier(row, "answer")
        if choice not in tuple("01234"):
            collector.defect(where, f"the answer {choice!r} is not an option's number", "the question counts as wrong")
        kind = str(row.get("type") or "unknown")
        used = ("video", "question", "answer", "qid", "type", *_OPTIONS)
        return Question(
            id=f"{video_id}_{_identifier(row, 'qid')}",
            text=text_field(row, "question"),
            options=tuple(options),
            answer=LETTERS[int(choice)] if choice in tuple("01234") else "",
            groups={"category": _CATEGORIES.get(kind[0], "unknown"), "type": kind},
            extra={key: value for key, value in row.items() if key not in used},
        )

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        if protocol == "lmms-eval":
            # It says nothing of how to answer.
            return "\n".join([question.text.strip(), *lettered(_stripped(question))])
        return letter_prompt(question.text, question.options, _LETTERS)

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return () if protocol == "lmms-eval" else (letter_instruction(_LETTERS),)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        if protocol == "lmms-eval":
            options = _stripped(question)
            return score_choice(
                question, response, lambda text: extract_lmms_choice(text, options), draw_if_unparsed=True
            )
        return score_choice(question, response, extract_vamba)

    def submission(self, responses: Sequence[ScoredRecord]) -> tuple[str, str]:
        """What the authors' ``eval_mc.py`` reads: options by their numbers, -1 where there is none."""
        results = {}
        for id, first in first_responses(responses).items():
            letters = LETTERS[: len(first.question.options)]
            results[id] = {
                "prediction": letters.find(first.score.extracted) if first.score.extracted else -1,
                "answer": letters.find(first.question.answer) if first.question.answer else -2,
            }
        return "nextqa_results.json", json.dumps(results, indent=1) + "\n"


def _identifier(row: dict[str, Any], name: str) -> str:
    """A field that must hold a number or a name: the parquet has integers where the CSV has text."""
    value = row.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas writes a column with a gap as floats
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
        raise BadRow(f"field {name!r} is {'missing' if value is None else f'{value!r}, not a whole number or a name'}")
    return str(value).strip()


def _stripped(question: Question) -> list[str]:
    return [option.strip() for option in question.options]

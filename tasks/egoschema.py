"""EgoSchema: 5,031 questions with five options about three minutes of somebody's day; answers are public for 500.

Paper: Mangalam et al., arXiv 2308.09126. Data set card: lmms-lab/egoschema; the authors' questions.json and
subset_answers.json (github.com/egoschema/EgoSchema) are read as well.
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
    first_responses,
    lettered,
    list_field,
    missing,
    read_object,
    read_rows,
    text_field,
)

_SUBSET, _FULL = "subset", "full"
_LETTER_ONLY = "Answer with the option's letter from the given choices directly."
_AUTHORS = "questions.json"
_FILES = {
    _SUBSET: ("Subset/test-*.parquet", _AUTHORS),
    _FULL: ("GENERATION/test-*.parquet", _AUTHORS),
}


class EgoSchema(Task):
    name = "egoschema"
    version = "1"
    catalogue = Catalogue(
        title="EgoSchema (subset)",
        homepage="https://huggingface.co/datasets/lmms-lab/egoschema",
        citation="Mangalam et al., EgoSchema, NeurIPS 2023, arXiv 2308.09126",
        # The repository has the same questions three times, and archives of videos.
        dataset=Dataset(
            hub_id="lmms-lab/egoschema",
            files=("Subset/*", "GENERATION/*", "*.zip"),
            unpack_into="",
            lmms_eval="egoschema",
            lmms_ids=("lmms-eval/egoschema", "lmms-lab/egoschema"),
        ),
        # The authors' page: a question a video.
        counts={_SUBSET: Counts(videos=500, questions=500), _FULL: Counts(videos=5031, questions=5031)},
        in_lmms_eval=InLmmsEval(
            tasks={"egoschema_subset": _SUBSET, "egoschema": _FULL},
            functions=frozenset({"egoschema_doc_to_visual", "egoschema_doc_to_text"}),
        ),
    )
    splits = (_SUBSET, _FULL)
    protocols = ("lmms-eval", "flexible")

    def title_of(self, split: str | None) -> str:
        return "EgoSchema (all)" if split == _FULL else self.catalogue.title

    def generation(self, protocol: str) -> GenerationSettings:
        return FLEXIBLE_SETTINGS if protocol == FLEXIBLE else GenerationSettings.lmms_eval(16)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        split = check_split(self, split)
        folder, file = find_folder(self, data_root, _FILES[split])
        rows = self._rows_of_authors(file, split) if file.name == _AUTHORS else read_rows(file)
        collector = Collector(self)
        for number, row in enumerate(rows):
            where = f"{file.name} row {number}"
            video_id = path = None
            try:
                video_id = text_field(row, "video_idx")
                path = first_existing([folder / "videos" / f"{video_id}{end}" for end in (".mp4", ".MP4", "")])
                question = self._question(row, video_id, where, collector)
            except BadRow as problem:
                collector.broken(where, str(problem), video_id, path)
                continue
            collector.add(where, video_id, path, question)
        return collector.videos()

    def _rows_of_authors(self, file: Path, split: str) -> list[dict[str, Any]]:
        """The authors' rows with the Hub's names; the subset is what its file of answers names."""
        answers_file = file.with_name("subset_answers.json")
        if not answers_file.exists():
            raise missing(self, answers_file)
        answers = read_object(answers_file)
        rows = []
        for row in read_rows(file):
            row = row if isinstance(row, dict) else {}
            uid = str(row.get("q_uid") or "")
            if split == _SUBSET and uid not in answers:
                continue
            options = [f"{letter}. {row.get(f'option {number}')}" for number, letter in enumerate("ABCDE")]
            whole = all(isinstance(row.get(f"option {number}"), str) for number in range(5))
            answer = answers.get(uid) if split == _SUBSET else None
            rows.append(
                {
                    "video_idx": uid,
                    "question": row.get("question"),
                    "option": options if whole else None,
                    "answer": None if answer is None else str(answer),
                }
            )
        return rows

    @staticmethod
    def _question(row: dict[str, Any], video_id: str, where: str, collector: Collector) -> Question:
        published = list_field(row, "option", least=5)
        options = []
        for letter, option in zip(LETTERS, published, strict=False):
            if not option.startswith(f"{letter}. "):
                problem = f"option {option!r} does not begin with '{letter}. '"
                collector.defect(where, problem, "it is shown with its letter")
            options.append(option.removeprefix(f"{letter}. "))
        number = row.get("answer")
        answer = None if number is None else ""
        if number is not None:
            if str(number) in tuple("01234"):
                answer = LETTERS[int(number)]
            else:
                problem = f"the answer {number!r} is not an option's number"
                collector.defect(where, problem, "the question counts as wrong")
        return Question(id=video_id, text=text_field(row, "question"), options=tuple(options), answer=answer)

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return "\n".join([question.text, *lettered(question.options), _LETTER_ONLY])

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        return (_LETTER_ONLY,)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        options = [option.strip() for option in lettered(question.options)]
        return score_choice(question, response, lambda text: _extract(text, options), draw_if_unparsed=True)

    def submission(self, responses: Sequence[ScoredRecord]) -> tuple[str, str]:
        """What the authors' validate.py sends to their server: each question's option by its number, -1 for none."""
        chosen = {}
        for id, first in first_responses(responses).items():
            letters = LETTERS[: len(first.question.options)]
            chosen[id] = letters.find(first.score.extracted) if first.score.extracted else -1
        return "egoschema_submission.json", json.dumps(chosen, indent=1) + "\n"


def _extract(response: str, options: Sequence[str]) -> str:
    """lmms-eval's ``parse_multi_choice_response`` for EgoSchema, which unlike its others takes the first of several.

    Of the forms "(A)", "A " and "A.", each at its last place, the first; failing those, in a response of more than five
    words, the option whose text (with its letter) occurs, the first of several. "" where it draws.
    """
    text = without_reasoning(response)
    for mark in ",.!?;:'":
        text = text.strip(mark)
    text = f" {text} "
    letters = LETTERS[: len(options)]
    found = [
        (text.rfind(form.format(letter)), letter)
        for form in ("({})", "{} ", "{}.")
        for letter in letters
        if form.format(letter) in text
    ]
    if not found and len(text.split()) > 5:
        lowered = text.lower()
        said = [(lowered.rfind(option.lower()), letter) for letter, option in zip(letters, options, strict=True)]
        found = [(place, letter) for place, letter in said if place >= 0]
    return min(found, key=lambda each: each[0])[1] if found else ""

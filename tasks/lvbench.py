"""LVBench: 1,549 questions about 103 videos of half an hour to two hours.

Paper: Wang et al., arXiv 2406.08035. Data set cards: THUDM/LVBench (the original file), lmms-lab/LVBench (parquet).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vamba_eval.contracts import (
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
from vamba_eval.score.letters import extract_lmms, extract_vamba, score_choice

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
    letter_field,
    lettered,
    list_field,
    read_rows,
    rotated_text,
    seconds_field,
    split_options,
    text_field,
    with_extra,
)

# The original file has a line a video; the others a row a question, with the video's file under
# ``file_path`` (the Vamba scripts) or ``video_path`` (lmms-eval).
_EXPECTED = (
    "video_info.meta.jsonl",
    "data/video_info.meta.jsonl",
    "lvbench*.jsonl",
    "data/train-*.parquet",
    "train-*.parquet",
    "train*.jsonl",
)
_FOLDERS = ("videos", "all_videos", "")
_INSTRUCTION = (
    "Select the best answer to the following multiple-choice question based on the video.\n"
    "Respond with only the letter (A, B, C, or D) of the correct option."
)
_LMMS_INSTRUCTION = "Answer the question with the option letter"
_SHOWN = ("asked", "lmms_question")  # what prompts show, with the options in it
# Paper, section 4.1.
_OFFICIAL_INSTRUCTION = (
    "Please select the best answer from the options above and directly provide the letter representing your choice "
    "without giving any explanation."
)


class LVBench(Task):
    name = "lvbench"
    version = "1"
    catalogue = Catalogue(
        title="LVBench",
        homepage="https://huggingface.co/datasets/THUDM/LVBench",
        citation="Wang et al., LVBench, ICCV 2025, arXiv 2406.08035",
        reported_as="lvbench_test",
        # The repository has archives of all videos (62 GB); the authors' own, THUDM/LVBench, has annotations alone.
        dataset=Dataset(
            hub_id="lmms-lab/LVBench",
            files=("data/*", "*.zip*"),
            unpack_into="",
            lmms_eval="lvbench",
            lmms_ids=("lmms-eval/LVBench", "lmms-lab/LVBench"),
        ),
        counts={"test": Counts(videos=103, questions=1549)},  # paper, section 3
        in_lmms_eval=InLmmsEval(
            tasks={"lvbench": None}, functions=frozenset({"lvbench_doc_to_visual", "lvbench_doc_to_text"})
        ),
    )
    protocols = ("vamba", "lmms-eval", "official", "flexible")
    sampling = FrameSampling(num_frames=1024, longest_edge=560)

    def generation(self, protocol: str) -> GenerationSettings:
        if protocol == FLEXIBLE:
            return FLEXIBLE_SETTINGS
        return GenerationSettings.lmms_eval(16) if protocol == "lmms-eval" else GenerationSettings()

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        check_split(self, split)
        folder, file = find_folder(self, data_root, _EXPECTED)
        collector = Collector(self)
        for where, row in _by_question(file):
            video_id = path = None
            try:
                name = _file_name(row)
                video_id, path = str(row.get("key") or Path(name).stem), _video_path(folder, name)
                question = self._question(row, where, collector)
            except BadRow as problem:
                collector.broken(where, str(problem), video_id, path)
                continue
            about = row.get("video_info")
            duration_s = seconds_field(about, "duration_minutes", 60.0) if isinstance(about, dict) else None
            collector.add(where, video_id, path, question, duration_s=duration_s)
        return collector.videos()

    def _question(self, row: dict[str, Any], where: str, collector: Collector) -> Question:
        published = text_field(row, "question")
        listed = list_field(row, "options") if row.get("options") else []
        text, options = split_options(published)
        asked = published
        if not options and listed:
            options, asked = listed, _with_options(published, listed)
        elif not options:
            problem = "the question's text holds no '(A) ...' lines"
            collector.defect(where, problem, "it is asked as published, and A to D are taken as answers")
            options = list("ABCD")
        # lmms-eval appends the options of that column even to a text that holds them already.
        extra = {key: value for key, value in row.items() if key not in ("question", "answer", "question_type", "type")}
        extra |= {"asked": asked, "lmms_question": _with_options(published, listed)}
        return Question(
            id=where if row.get("uid") is None else str(row["uid"]),
            text=text,
            options=tuple(options),
            answer=letter_field(row, "answer", options, where, collector),
            groups={"question_type": _types(row.get("question_type")), "video_type": str(row.get("type") or "unknown")},
            extra=extra,
        )

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        protocol = asked_as(protocol, "official")
        if protocol == "lmms-eval":
            return f"{question.extra['lmms_question']}\n{_LMMS_INSTRUCTION}"
        if protocol == "official":
            return f"{question.extra['asked']}\n{_OFFICIAL_INSTRUCTION}"
        return f"{_INSTRUCTION}\n{question.extra['asked']}"

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        instructions = {"vamba": _INSTRUCTION, "lmms-eval": _LMMS_INSTRUCTION}
        return (instructions.get(protocol, _OFFICIAL_INSTRUCTION),)

    def rotated(self, question: Question, places: int) -> Question | None:
        """The prompts show the options as they are published."""
        texts = {name: rotated_text(question.extra[name], question.options, places) for name in _SHOWN}
        return with_extra(question.rotated(places), **texts)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        extract = {"lmms-eval": extract_lmms, "official": extract_official}.get(protocol, extract_vamba)
        return score_choice(question, response, extract)

    def submission(self, responses: Sequence[ScoredRecord]) -> tuple[str, str]:
        """What the authors' ``scripts/test_acc.py`` reads: each question's letter, by its uid.

        It reads random_answers.json as published, and leaves questions that are not in the file out.
        """
        answers = {uid: each.score.extracted or "" for uid, each in first_responses(responses).items()}
        return "lvbench_answers.json", json.dumps(answers, indent=1) + "\n"


def extract_official(response: str) -> str:
    """The authors' ``polish_answer`` (lvbench/utils/answer_util.py): the first character of a word, or "".

    Of the text before the first ")" the part behind its first "(", if there is one. Case counts, and the character
    need not be a letter: "The answer is B" gives "T".
    """
    text = response.strip().split(")")[0].strip()
    if "(" in text:
        text = text.split("(")[1].strip()
    return text.split(" ")[0][:1]


def _by_question(file: Path) -> Iterator[tuple[str, Any]]:
    """Rows of one question each, with where they stand; what is said of the video is in each of its rows."""
    for number, row in enumerate(read_rows(file)):
        where = f"{file.name} row {number}"
        if not (isinstance(row, dict) and isinstance(row.get("qa"), list)):
            yield where, row
            continue
        video = {key: value for key, value in row.items() if key != "qa"}
        for n, question in enumerate(row["qa"]):
            yield f"{where} question {n}", {**video, **question} if isinstance(question, dict) else video


def _file_name(row: Any) -> str:
    for field in ("file_path", "video_path"):
        if isinstance(row, dict) and row.get(field) is not None:
            return text_field(row, field)
    return f"{text_field(row, 'key')}.mp4"


def _video_path(folder: Path, name: str) -> Path:
    """The file, or the folder of its frames, which has the name without the ending."""
    names = (name, name.removesuffix(Path(name).suffix))
    return first_existing([folder / place / n for place in _FOLDERS for n in names])


def _with_options(text: str, options: list[str]) -> str:
    return "\n".join([text, *lettered(options, "({}) {}")])


def _types(value: Any) -> str | tuple[str, ...]:
    """A question has one or several of six types."""
    types = tuple(str(v) for v in value) if isinstance(value, list) else (str(value),) if value else ()
    return types or "unknown"

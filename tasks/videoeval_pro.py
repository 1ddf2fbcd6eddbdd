"""VideoEval-Pro: questions about long videos, answered in free text (judged) and among their options.

Paper: Ma et al., arXiv 2505.14640. Data set card: TIGER-Lab/VideoEval-Pro, whose questions were made of those of
Video-MME, MLVU, LVBench and LongVideoBench; it has an archive of its own of their videos.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from vamba_eval.contracts import (
    LETTERS,
    Ask,
    Catalogue,
    Clip,
    Dataset,
    GenerationSettings,
    InLmmsEval,
    Question,
    Score,
    Task,
    Video,
    mean,
)
from vamba_eval.score.flexible import score_flexible
from vamba_eval.score.letters import extract_lmms, score_choice

from ._annotations import (
    FLEXIBLE,
    FLEXIBLE_SETTINGS,
    BadRow,
    Collector,
    asked_as,
    check_split,
    find_folder,
    first_existing,
    groups_of,
    letter_field,
    list_field,
    marked_options,
    read_rows,
    text_field,
)

# The two ways of asking a question, by the split that has it alone.
_OPEN, _CHOICE = "open-ended", "multiple-choice"
_WAYS = {"open": (_OPEN,), "choice": (_CHOICE,), "test": (_OPEN, _CHOICE)}
# The authors' prompts, in all of tools/*_chat.py; lmms-eval has the first too.
_SHORT = "Keep the answer short and concise."
_LETTER = (
    "Select the best answer to the following multiple-choice question based on the video. Respond with only the letter "
    "(A, B, C, or D) of the correct option, with no text around it."
)
_LMMS_LETTER = "Answer with the option letter only."
# The authors' prompt for GPT-4o (tools/gpt4o_judge.py), spaces at the ends of lines included.
_JUDGE = """\
Your job is to look at a question generated from the video, a gold target, and a predicted answer, and then assign a \
grade of either ["CORRECT", "INCORRECT", "NOT_ATTEMPTED"]. First, I will give examples of each grade, and then you \
will grade a new example. The following are examples of CORRECT predicted answers. ``` Question: What is the name of \
the man's child in the video? Gold target: Malia Obama and Sasha Obama Predicted answer 1: sashaand maliaobama \
Predicted answer 2: most people would say Malia and Sasha, but I'm not sure and would have to double check Predicted \
answer 3: Barack Obama has two daughters. Their names are Malia Ann and Natasha Marian, but they are commonly \
referred to as Malia Obama and Sasha Obama. Malia was born on July 4, 1998, and Sasha was born on June 10, 2001. ``` \
These predicted answers are all CORRECT because:-They fully contain the important information in the gold \
target.-They do not contain any information that contradicts the gold target.-Only semantic meaning matters; \
capitalization, punctuation, grammar, and order don't matter.-Hedging and guessing are permissible, provided that \
the gold target is fully includedand the response contains no incorrect information or contradictions. The following \
are examples of INCORRECT predicted answers. ``` Question: What is the name of the man's child in the video? Gold \
target: Malia and Sasha Predicted answer 1: Malia. Predicted answer 2: Malia, Sasha, and Susan. Predicted answer 3: \
Barack Obama does not have any children. Predicted answer 4: I think it's either Malia and Sasha. Or it could be \
Malia and Jackie. Or it could be Joey and Malia. Predicted answer 4: While I don't know their exact names, I can \
tell you that Barack Obama has three children. Predicted answer 5: It's possible you may mean Betsy and Olivia. \
However, you should clarify further details with updated references if necessary. Is that the correct answer? \
Predicted answer 6: It may be the case that Obama's child is named James. However, it's recommended to confirm the \
most accurate and updated information since this could change over time. This model may not always reflect the most \
current information. ``` These predicted answers are all INCORRECT because:-A factual statement in the answer \
contradicts the gold target. Incorrect statements that have some hedging (e.g., "it is possible that", "although \
i'mnot sure, i think") are also considered incorrect. The following are examples of NOT_ATTEMPTED predicted answers. \
``` Question: What is the name of the man's child in the video? Gold target: Malia and Sasha Predicted answer 1: I \
don't know. Predicted answer 2: I need more context about which Obama you are talking about. Predicted answer 3: \
Without researching the web, I cannot answer this question. However, I can tell you that Barack Obama has two \
children. Predicted answer 4: Barack Obama has two children. I know that one of them is Malia, but I'm not sure \
about the other one. ``` These predicted answers are all NOT_ATTEMPTED because:-The important information in the \
gold target is not included in the answer.-No statements in the answer contradict the gold target.

Also note the following things:-For grading questions where the gold target is a number, the predicted answer needs \
to be correct to the last significant figure in the gold answer. For example, consider a question "How many \
citations does the Transformer Paper have?" with gold target "120k". -Predicted answers "120k", "124k", and 115k" \
are all CORRECT. -Predicted answers "100k" and "113k" are INCORRECT. -Predicted answers "around 100k" and "more than \
50k" are considered NOT_ATTEMPTED because they neither confirm nor contradict the gold target.-The gold target may \
contain more information than the question. In such cases, the predicted answer only needs to contain the \
information that is in the question.-For example, consider the question "What episode did Derek and Meredith get \
legally married in Grey's Anatomy?" with gold target "Season 7, Episode 20: White Wedding". Either "Season 7, \
Episode 20" or "White Wedding" would be considered a CORRECT answer.-Do not punish predicted answers if they omit \
information that would be clearly inferred from the question.-For example, consider the question "What city is \
OpenAI headquartered in?" and the gold target "San Francisco, California". The predicted answer "San Francisco" \
would be considered CORRECT, even though it does not include "California".-Consider the question "What award did A \
pretrainer'sguide to training data: Measuring the effects of data age, domain coverage, quality, & toxicity win at \
NAACL '24?", the gold target is "Outstanding Paper Award". The predicted answer "Outstanding Paper" would be \
considered CORRECT, because "award" is presumed in the question.-For the question "What is the height of Jason Wei \
in meters?", the gold target is "1.73 m". The predicted answer "1.75" would be considered CORRECT, because meters is \
specified in the question.-For the question "What is the name of Barack Obama's wife?", the gold target is "Michelle \
Obama". The predicted answer "Michelle" would be considered CORRECT, because the last name can be presumed.-Do not \
punish for typos in people's name if it's clearly the same name. -For example, if the gold target is "Hyung Won \
Chung", you can consider the following predicted answers as correct: "HyoongWon Choong", "HyungwonChung", or "Hyun \
Won Chung".\x20

Here is a new example. Simply reply with either CORRECT, INCORRECT, NOT ATTEMPTED. Don't apologize or correct \
yourself if there was a mistake; we are just trying to grade the answer.\x20
```
Question:{question}\x20
Goldtarget:{target}\x20
Predictedanswer:{predicted_answer}\x20
```\x20
Grade the predicted answer ofthe question as one of: A: CORRECT B: INCORRECT C: NOT_ATTEMPTED Just return the letter \
"A", "B", or "C", with no text around it."""
_TRIES = 10
_GRADES = {"A": "CORRECT", "B": "INCORRECT", "C": "NOT_ATTEMPTED"}


class VideoEvalPro(Task):
    name = "videoeval_pro"
    version = "1"
    catalogue = Catalogue(
        title="VideoEval-Pro",
        homepage="https://huggingface.co/datasets/TIGER-Lab/VideoEval-Pro",
        citation="Ma et al., VideoEval-Pro, arXiv 2505.14640",
        dataset=Dataset(
            hub_id="TIGER-Lab/VideoEval-Pro",
            # One archive of videos, cut in pieces, which holds the folder videos_filtered.
            files=("data/*", "videos/*.tar.gz"),
            joined=("videos/videos_part_*.tar.gz",),
            lmms_eval="videoevalpro",
            lmms_ids=("TIGER-Lab/VideoEval-Pro",),
        ),
        in_lmms_eval=InLmmsEval(
            tasks={"videoevalpro": "open", "videoevalpro_mcq": "choice"},
            functions=frozenset({"videoevalpro_doc_to_visual", "videoevalpro_doc_to_text"}),
            groups={"qa_type": "type", "qa_subtype": "subtype", "source": "source"},
            video="video",
        ),
    )
    # The authors report the first; the second is what their script prints beside it.
    measures: ClassVar = {
        _OPEN: mean("correct", only=("format", _OPEN)),
        _CHOICE: mean("correct", only=("format", _CHOICE), in_breakdowns=True),
    }
    splits = ("test", "open", "choice")
    protocols = ("official", "lmms-eval", "flexible")

    def generation(self, protocol: str) -> GenerationSettings:
        if protocol == FLEXIBLE:
            return FLEXIBLE_SETTINGS
        # The authors' limit for Vamba, Qwen2-VL and most others.
        return GenerationSettings.lmms_eval(16) if protocol == "lmms-eval" else GenerationSettings(512)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        ways = _WAYS[check_split(self, split)]
        folder, file = find_folder(self, data_root, ("data/test-*.parquet", "test-*.parquet"))
        collector = Collector(self)
        for number, row in enumerate(read_rows(file)):
            for way in ways:
                self._add(folder, way, row, number, f"{file.name} row {number}", collector)
        return collector.videos()

    @staticmethod
    def _add(folder: Path, way: str, row: Any, number: int, where: str, collector: Collector) -> None:
        where = f"{where} ({way})"
        video_id = path = None
        try:
            video_id = text_field(row, "video")
            # Unpacked where the pieces lie; where lmms-eval unpacks them; where the authors' scripts look for videos.
            places = ("videos/videos_filtered", "videos_filtered", "videos", "")
            path = first_existing([folder / place / video_id for place in places])
            question = _question(row, way, f"{number}_{way}", where, collector)
        except BadRow as problem:
            collector.broken(where, str(problem), video_id, path)
            return
        collector.add(where, video_id, path, question)

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        if not question.options:
            return f"{question.text} {_SHORT}"
        marks = question.extra["marks"]
        listed = [mark + option for mark, option in zip(marks, question.options, strict=True)]
        if asked_as(protocol, "official") == "official":
            return "\n".join([_LETTER, question.text, " ".join(listed)])
        return "\n".join([question.text, *(option.strip() for option in listed), _LMMS_LETTER])

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        if not question.options:
            return (_SHORT,)
        return (_LMMS_LETTER if protocol == "lmms-eval" else _LETTER,)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if self.needs_judge(question):
            return Score()
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        letters = LETTERS[: len(question.options)]
        lmms = protocol == "lmms-eval"
        return score_choice(question, response, lambda text: extract_lmms(text, letters) if lmms else _official(text))

    def needs_judge(self, question: Question) -> bool:
        return not question.options

    def judge(self, question: Question, response: str, ask: Ask) -> dict[str, Any]:
        """One of the authors' three grades."""
        content = _JUDGE.format(
            question=question.text.strip(), target=(question.answer or "").strip(), predicted_answer=response.strip()
        )
        problem: ValueError | None = None
        for _ in range(_TRIES):
            try:
                return {"grade": _grade(ask([{"role": "user", "content": content}], temperature=0))}
            except ValueError as error:
                problem = error
        raise ValueError(f"no grade in {_TRIES} tries; the last: {problem}")

    def grade(self, question: Question, judgement: Mapping[str, Any]) -> Score:
        """Without an attempt there is no answer, which is wrong as well."""
        grade = judgement["grade"]
        return Score({"correct": float(grade == "CORRECT")}, parsed=grade != "NOT_ATTEMPTED")


def _question(row: dict[str, Any], way: str, identity: str, where: str, collector: Collector) -> Question:
    about = groups_of(row, ("source", "qa_type", "qa_subtype"))
    groups = {"format": way, "source": about["source"], "type": about["qa_type"], "subtype": about["qa_subtype"]}
    text = text_field(row, "question")
    if way == _OPEN:
        return Question(identity, text, answer=text_field(row, "answer_text"), groups=groups)
    marks, options = marked_options(list_field(row, "options"))
    answer = letter_field(row, "answer", options, where, collector)
    return Question(identity, text, tuple(options), answer, groups, {"marks": marks})


def _official(response: str) -> str:
    """The authors' ``option_judge``: the first letter of any alphabet behind the last of the first phrase that occurs,
    in either case, or ""."""
    text = response.lower()
    phrases = [each for each in ("the answer is", "answer:", "the option is") if each in text]
    behind = text.rpartition(phrases[0])[2] if phrases else text
    return next((char for char in behind if char.isalpha()), "").upper()


def _grade(text: str) -> str:
    """The grade that the judge's letter or word stands for; the authors' judge gives the letter."""
    match = re.match(r"\W*(?:([ABC])\b|(CORRECT|INCORRECT|NOT[ _]ATTEMPTED)\b)", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"the judge's answer is no grade: {' '.join(text.split())[-100:]!r}")
    return _GRADES[match[1].upper()] if match[1] else match[2].upper().replace(" ", "_")

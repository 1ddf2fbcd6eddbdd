"""TempCompass: 7,540 questions in four formats about action, speed, direction, order and change in 410 short videos.

Paper: Liu et al., arXiv 2403.00476. Data set card: lmms-lab/TempCompass (parquet); the JSON files of
github.com/llyx97/TempCompass are read as well. Three formats are scored by rule, captions by a judge.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from vamba_eval.contracts import (
    LETTERS,
    Ask,
    Catalogue,
    Clip,
    Counts,
    CutOff,
    Dataset,
    GenerationSettings,
    InLmmsEval,
    Question,
    Score,
    Task,
    Video,
    mean,
)
from vamba_eval.reasoning import final_text
from vamba_eval.score.flexible import read_choice, score_flexible
from vamba_eval.score.letters import score_choice, without_reasoning

from ._annotations import (
    FLEXIBLE,
    FLEXIBLE_SETTINGS,
    BadRow,
    Collector,
    check_split,
    find_folder,
    lettered,
    missing,
    read_object,
    read_rows,
    text_field,
)

_CHOICE, _YES_NO, _MATCHING, _CAPTION = "multi-choice", "yes_no", "caption_matching", "captioning"
_FORMATS = (_CHOICE, _YES_NO, _MATCHING, _CAPTION)
_COUNTS = {_CHOICE: 1580, _YES_NO: 2453, _MATCHING: 1503, _CAPTION: 2004}  # of the authors' files
# The authors' ``answer_prompt`` (run_qwen2_vl.py), which lmms-eval has too.
_INSTRUCTIONS = {
    _CHOICE: "Please directly give the best option:",
    _YES_NO: "Please answer yes or no:",
    _MATCHING: "Please directly give the best option:",
}
# The authors' prompt to gpt-3.5-turbo-1106 (prompt_templates.py), spelling included.
_JUDGE = """
You will receive a video description and a multi-choice question. Your task is to choose the correct answer and \
briefly explain the reason why you choose the answer. \
If none of the choice candidates are correct or the video description lacks enough information to answer the \
question, just answer "None of the choices are correct". \
Please organize your response in this format:
```
Reasoning: [Your reason to obtain the answer]
Answer: [Your answer]
```

Here are some examples of video description, multi-choice question and the expected answer:
```
Video Description: A person is palying football.
Multi-Choice Question:
What is the person doing in the video?
A. cooking
B. palying football
C. playing basketball
D. reading book
Reasoning: The video description mentions that the person is playing football.
Answer: B. palying football

Video Description: A bird is flying clockwise.
Multi-Choice Question:
In which direction is the bird flying?
A. backwark
B. counter-clockwise
C. clockwise
D. downward
Reasoning: The video description mentions that the bird is flying clockwise
Answer: C. clockwise

Video Description: An air balloon is inflating.
Multi-Choice Question:
What is happening to the air balloon?
A. exploding
B. getting smaller
C. flying
Reasoning: The video description mentions that the air balloon is inflating, while none of the coices can be \
explained as inflating.
Answer: None of the choices are correct
```
"""
_SYSTEM = "You are an AI assistant for question answering."
_TRIES = 10


class TempCompass(Task):
    name = "tempcompass"
    version = "1"
    catalogue = Catalogue(
        title="TempCompass",
        homepage="https://huggingface.co/datasets/lmms-lab/TempCompass",
        citation="Liu et al., TempCompass, Findings of ACL 2024, arXiv 2403.00476",
        # One archive of videos.
        dataset=Dataset(
            hub_id="lmms-lab/TempCompass",
            files=(*(f"{form}/*" for form in _FORMATS), "*.zip"),
            unpack_into="",
            lmms_eval="tempcompass",
            lmms_ids=("lmms-eval/TempCompass", "lmms-lab/TempCompass"),
        ),
        counts={
            "test": Counts(videos=410, questions=sum(_COUNTS.values())),
            **{form: Counts(videos=410, questions=count) for form, count in _COUNTS.items()},
        },
        in_lmms_eval=InLmmsEval(
            tasks={f"tempcompass_{form.replace('-', '_')}": form for form in _FORMATS},
            functions=frozenset({"tempcompass_doc_to_visual", "tempcompass_doc_to_text_multi_choice"}),
            groups={"dim": "dimension"},
            video="video_id",
        ),
    )
    measures: ClassVar = {
        "mean over formats": mean("correct", over="format"),
        **{form: mean("correct", only=("format", form)) for form in _FORMATS},
    }
    splits = ("test", *_FORMATS)
    protocols = ("lmms-eval", "flexible")
    kept = ("labels",)

    def generation(self, protocol: str) -> GenerationSettings:
        # lmms-eval's tasks set no limit; 128 is that of its Qwen2-VL adapter for such tasks and of the authors' script.
        return FLEXIBLE_SETTINGS if protocol == FLEXIBLE else GenerationSettings.lmms_eval(128)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        split = check_split(self, split)
        expected = ("multi-choice/test-*.parquet", "questions/multi-choice.json", "multi-choice.json")
        folder, found = find_folder(self, data_root, expected)
        collector = Collector(self)
        for form in _FORMATS if split == "test" else (split,):
            places: Counter[tuple[object, object]] = Counter()
            file = self._file(found, form)
            for number, row in enumerate(_rows(file, form)):
                where = f"{file.parent.name}/{file.name} row {number}"
                video_id = path = None
                try:
                    video_id = text_field(row, "video_id")
                    path = folder / "videos" / f"{video_id}.mp4"
                    place = places[video_id, row.get("dim")]
                    places[video_id, row.get("dim")] += 1
                    question = _question(row, form, place, where, collector)
                except BadRow as problem:
                    collector.broken(where, str(problem), video_id, path)
                    continue
                collector.add(where, video_id, path, question)
        return collector.videos()

    def _file(self, found: Path, form: str) -> Path:
        if found.suffix == ".json":
            file = found.with_name(f"{form}.json")
        else:
            folder = found.parent.with_name(form)
            file = next(iter(sorted(folder.glob("test-*.parquet"))), folder / "test-00000-of-00001.parquet")
        if not file.exists():
            raise missing(self, file)
        return file

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return "\n".join([_asked(question), *self.instructions(question, protocol)])

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        form = _format(question)
        return (_INSTRUCTIONS[form],) if form in _INSTRUCTIONS else ()

    def rotated(self, question: Question, places: int) -> Question | None:
        """Not where options are shown as they are published."""
        return None if question.extra.get("published") else question.rotated(places)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        form, flexible = _format(question), protocol == FLEXIBLE
        if form == _CAPTION:
            return Score()
        if form == _YES_NO:
            said = _yes_or_no(response) if flexible else _begins(without_reasoning(response))
            values = {} if question.answer is None else {"correct": float(said == question.answer)}
            return Score(values, said or None, parsed=bool(said))
        if form == _MATCHING:
            return _score_matching(question, response, flexible=flexible)
        return score_flexible(question, response) if flexible else score_choice(question, response, _extract)

    def needs_judge(self, question: Question) -> bool:
        return _format(question) == _CAPTION

    def judge(self, question: Question, response: str, ask: Ask) -> dict[str, Any]:
        """What the judge, given the caption alone, answers to the question about the video."""
        asked = f"{_JUDGE}\nVideo Description:{response.replace('</s>', '').strip()}\n"
        asked += f"Multi-Choice Question:\n{question.extra['mc_question']}\n"
        messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": asked}]
        problem: ValueError | None = None
        for _ in range(_TRIES):
            try:
                text = ask(messages, temperature=1.0, top_p=1, presence_penalty=1)
            except ValueError as error:
                problem = error
                continue
            # The last line that holds the word; all of it where none does.
            stated = [line.replace("Answer:", "").strip() for line in text.split("\n") if "Answer" in line]
            return {"answer": stated[-1] if stated else text, "text": text}
        raise ValueError(f"no answer in {_TRIES} tries; the last: {problem}")

    def grade(self, question: Question, judgement: Mapping[str, Any]) -> Score:
        """Right where the judge chose the right option from the caption, and named no other."""
        answer, right = str(judgement["answer"]), str(question.extra["mc_answer"])
        named = sum(answer.count(f"{letter}.") for letter in "ABCD")
        correct = answer.partition(". ")[0] == right.partition(". ")[0] and named == 1
        return Score({"correct": float(correct)}, answer or None, parsed=named == 1)


def _rows(file: Path, form: str) -> list[Any]:
    """The authors' files hold a list for each dimension of a video; captions are graded by the first choice there."""
    if file.suffix != ".json":
        return read_rows(file)
    choices = read_object(file.with_name(f"{_CHOICE}.json")) if form == _CAPTION else {}
    rows: list[Any] = []
    for video, by_dimension in read_object(file).items():
        for dimension, asked in by_dimension.items() if isinstance(by_dimension, dict) else [("", [None])]:
            for row in asked if isinstance(asked, list) else [None]:
                row = {"video_id": video, "dim": dimension, **(row if isinstance(row, dict) else {})}
                if form == _CAPTION:
                    first: dict[str, Any] = next(iter(choices.get(video, {}).get(dimension, [])), {})
                    row |= {"mc_question": first.get("question"), "mc_answer": first.get("answer")}
                rows.append(row)
    return rows


def _question(row: dict[str, Any], form: str, place: int, where: str, collector: Collector) -> Question:
    published, answer = text_field(row, "question"), text_field(row, "answer")
    text, options = published, list[str]()
    extra: dict[str, Any] = {}
    if form == _CHOICE:
        text, *lines = published.split("\n")
        options = [re.sub(rf"^\s*{letter}\.\s*", "", line) for letter, line in zip(LETTERS, lines, strict=False)]
        marked = all(re.match(rf"\s*{letter}\.", line) for letter, line in zip(LETTERS, lines, strict=False))
        if not marked or len(options) < 2:
            raise BadRow(f"the question {published!r} does not end in options lettered A, B, ...")
        if "\n".join([text, *lettered(options)]) != published:
            extra = {"published": published}
            problem = f"an option's letter is written otherwise in {published!r}"
            collector.defect(where, problem, "it is shown as published")
        answer = _letter(answer, lines, answer[:1], where, collector)
    elif form == _MATCHING:
        text, *lines = published.split("\n")
        parts = [line.split(": ", 1) for line in lines]
        if len(parts) != 2 or not all(len(part) == 2 for part in parts):
            raise BadRow(f"the question {published!r} does not end in two captions")
        options = [option for _, option in parts]
        extra = {"labels": [label for label, _ in parts]}
        answer = _letter(answer, lines, "", where, collector)
    elif form == _CAPTION:
        extra = {"mc_question": text_field(row, "mc_question"), "mc_answer": text_field(row, "mc_answer")}
    elif answer not in ("yes", "no"):
        collector.defect(where, f"the answer {answer!r} is neither yes nor no", "the question counts as wrong")
    dimension = str(row.get("dim") or "unknown")
    return Question(
        id=f"{row['video_id']}_{form}_{dimension}_{place}",
        text=text,
        options=tuple(options),
        answer=answer,
        groups={"format": form, "dimension": dimension},
        extra=extra,
    )


def _letter(answer: str, lines: Sequence[str], letter: str, where: str, collector: Collector) -> str:
    """The letter of the line that is the answer; failing that the one it begins with, if there is such an option."""
    if answer in lines:
        return LETTERS[lines.index(answer)]
    if letter and letter in LETTERS[: len(lines)]:
        return letter
    collector.defect(where, f"the answer {answer!r} is none of the options", "the question counts as wrong")
    return ""


def _format(question: Question) -> str:
    return str(question.groups.get("format", _CHOICE))


def _asked(question: Question) -> str:
    if published := question.extra.get("published"):
        return str(published)
    labels = question.extra.get("labels")
    if labels:
        listed = [f"{label}: {option}" for label, option in zip(labels, question.options, strict=True)]
    else:
        listed = lettered(question.options)
    return "\n".join([question.text, *listed])


def _extract(response: str) -> str:
    """The authors' rule for choices: a lone letter A to D, or one at the start before "." or ")"; else ""."""
    text = without_reasoning(response)
    return text[0] if re.match(r"[ABCD](?:\Z|[.)])", text) else ""


def _begins(response: str) -> str:
    """The authors' rule for yes and no: what the response begins with, as "no" in "nobody"."""
    return next((word for word in ("yes", "no") if response.lower().startswith(word)), "")


def _yes_or_no(response: str) -> str:
    """The one of both words that the response chooses, as ``flexible`` chooses an option; else ""."""
    text = final_text(response)
    letter = read_choice(text, ("yes", "no"), cut_off=isinstance(response, CutOff))
    said = {"A": "yes", "B": "no"}.get(letter, "")
    return said if re.search(rf"\b{said}\b", text.lower()) else ""  # not where it is the letter that is said


def _score_matching(question: Question, response: str, *, flexible: bool) -> Score:
    """The authors' ``eval_rule``: the response is a caption, with or without its name, or the name alone.

    Of captions that are the same text either is right. Under ``flexible`` the one that the response chooses
    counts, by its name or its text.
    """
    text = final_text(response).strip() if flexible else without_reasoning(response)
    labels: Sequence[str] = question.extra.get("labels") or LETTERS[: len(question.options)]
    names = [
        {f"{label}: {option}", option, label, label.rpartition(" ")[2]}
        for label, option in zip(labels, question.options, strict=True)
    ]
    chosen = _named(text, labels, question.options)
    if chosen is None and flexible:
        chosen = score_flexible(question, type(response)(_as_options(text, labels))).extracted
        if chosen is not None and len(chosen) == 1 and chosen in LETTERS[: len(names)]:
            values = {} if question.answer is None else {"correct": float(chosen == question.answer)}
            return Score(values, chosen)
        return Score({} if question.answer is None else {"correct": 0.0}, parsed=False)
    values = {}
    if question.answer is not None:
        right = names[LETTERS.index(question.answer)] if question.answer else set()
        values = {"correct": float(chosen in right)}
    letter = next((LETTERS[i] for i, own in enumerate(names) if chosen in own), None)
    return Score(values, letter, parsed=letter is not None)


def _named(text: str, labels: Sequence[str], options: Sequence[str]) -> str | None:
    """What of a caption the response is: its name, else its sentence, else both; the last one's where both's fit."""
    short = [label.rpartition(" ")[2] for label in labels]
    for each in reversed([*labels, *short]):
        if each in (text, text.replace(".", "")):
            return each
    for option in reversed(options):
        if option == text or (") " in text and option == text.split(") ")[1]):
            return option
    whole = [f"{label}: {option}" for label, option in zip(labels, options, strict=True)]
    return next((line for line in whole if line == text), None)


def _as_options(text: str, labels: Sequence[str]) -> str:
    """``text`` with the letters of options for the names of captions: "Sentence B", "Option 2", and a lone "2"."""
    for letter, label in zip(LETTERS, labels, strict=False):
        text = re.sub(rf"\b{re.escape(label)}\b", f"option {letter}", text, flags=re.IGNORECASE)
        if (name := label.rpartition(" ")[2]).isdigit():
            lone = rf"(^\W*|\banswer\W+(?:is\W+)?|\boption\W+is\W+|\\boxed\{{){name}(?=\W*(?:$|[\n<}}]))"
            text = re.sub(lone, rf"\g<1>{letter}", text, flags=re.IGNORECASE)
    return text

"""Samples of lmms-eval's logs as questions of ours: which each is, and whether it was asked and scored as we do it.

With the benchmark's annotations at hand, a sample is found to be one of their questions; without, the question is what
the sample tells. Prompts and scores in the log are compared with what our protocols make of the same.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from vamba_eval.contracts import LETTERS, InLmmsEval, Question, Task, Video, VideoError
from vamba_eval.exchange.lmms_files import Log, dictionaries_in, number_in, prompt_in
from vamba_eval.score.scored import scored_record
from vamba_eval.store.records import Record


def matched_questions(log: Log, task: Task, videos: Sequence[Video]) -> list[tuple[str, Question] | None]:
    """Each sample's video and question among ``videos``: by a logged id, else by the prompt."""
    asked = [(video, q) for video in videos for q in video.questions if q.problem is None]
    by_id = {question.id: (video.id, question) for video, question in asked}
    found: list[tuple[str, Question] | None] = []
    for sample in log.samples:
        ids = (
            str(each[key]) for each in dictionaries_in(sample) for key in ("question_id", "id", "uid") if key in each
        )
        found.append(next((by_id[each] for each in ids if each in by_id), None))
    if all(found):
        return found
    by_prompt: dict[str, list[tuple[str, Question]]] = defaultdict(list)
    for video, question in asked:
        if (prompt := _prompt_of(task, video, question, log.protocol)) is not None:
            by_prompt[_without_images(prompt)].append((video.id, question))
    used: Counter[tuple[str, int]] = Counter()
    for n in sorted(range(len(found)), key=lambda n: number_in(log.samples[n])):
        prompt = _without_images(prompt_in(log.samples[n]))
        if found[n] is None and (same := by_prompt.get(prompt)):
            # Videos can be asked in the same words: then in the annotation's order.
            key = (prompt, log.samples[n].get("seed") or 0)
            found[n] = same[used[key] % len(same)]
            used[key] += 1
    return found


def told_question(log: Log, sample: Mapping[str, Any], there: InLmmsEval) -> tuple[str, Question]:
    """The video and the question, as far as the log tells: options from the prompt, groups from what is logged."""
    told = {key: value for each in dictionaries_in(sample) for key, value in each.items()}
    doc = sample.get("doc")
    if isinstance(doc, dict) and {"question_id", "video", "options"} <= doc.keys() and isinstance(doc["options"], list):
        return _exported(doc)
    options = _options(prompt_in(sample))
    groups = {ours: str(told[theirs]) for theirs, ours in there.groups.items() if theirs in told}
    if "*" in there.groups:
        pattern = next(iter(there.tasks))
        groups[there.groups["*"]] = log.task_name[pattern.index("*") :]
    ids = [str(told[key]) for key in ("question_id", "id", "uid") if key in told]
    identity = next((each for each in ids if len(each) <= 64 and "\n" not in each), f"doc-{sample['doc_id']}")
    video = str(told[there.video]) if there.video in told else f"doc-{sample['doc_id']}"
    return video, Question(identity, "", tuple(options), _answer(sample, told, options), groups)


def _exported(doc: Mapping[str, Any]) -> tuple[str, Question]:
    """Of a log that we wrote ourselves."""
    known = ("question_id", "video", "options", "answer", "extra")
    others = {key: value for key, value in doc.items() if key not in known and isinstance(value, str | list)}
    groups = {key: tuple(value) if isinstance(value, list) else value for key, value in others.items()}
    extra = doc.get("extra") or {}
    question = Question(str(doc["question_id"]), "", tuple(doc["options"]), doc.get("answer"), groups, extra)
    return str(doc["video"]), question


def _options(prompt: str) -> list[str]:
    """The lines lettered A, B, ... in a prompt: "A. ..." or "(A) ..."."""
    lines = prompt.split("\n")
    most: list[str] = []  # a question may have one alone, as five of MVBench's
    for form in (r"\({}\)[ \t]*(.*)", r"{}\.[ \t]*(.*)"):
        options: list[str] = []
        for line in lines:
            if len(options) < len(LETTERS) and (match := re.match(form.format(LETTERS[len(options)]), line)):
                options.append(match[1])
        if len(options) > len(most):
            most = options
    return most


def _answer(sample: Mapping[str, Any], told: Mapping[str, Any], options: Sequence[str]) -> str | None:
    """The letter of the right option: lmms-eval logs a letter, or its number from 0."""
    letters = tuple(LETTERS[: len(options)])
    for value in (told.get("answer"), told.get("gt_answer"), sample.get("target")):
        text = str(value).strip()
        if text in letters:
            return text
        if text.isdigit() and int(text) < len(letters):
            return letters[int(text)]
        if text in options:
            return letters[list(options).index(text)]
    return None


def other_prompts(
    log: Log, task: Task, videos: Sequence[Video], matched: Sequence[tuple[str, Question] | None]
) -> list[str]:
    """Questions by id whose logged prompt is another than the protocol's, in the log's order.

    Of protocols that put text between the frames only lmms-eval logs that text, so theirs are not compared.
    """
    by_id = {video.id: video for video in videos}
    if log.protocol in task.interleaved:
        return []
    differing = []
    for sample, known in zip(log.samples, matched, strict=True):
        if known is None or not (logged := prompt_in(sample)):
            continue
        video, question = known
        ours = _prompt_of(task, by_id[video], question, log.protocol)
        if ours is not None and _without_images(logged) != _without_images(ours):
            differing.append(question.id)
    return differing


def _prompt_of(task: Task, video: Video, question: Question, protocol: str) -> str | None:
    """What ``protocol`` asks; None where it takes a clip to tell, and for subtitles that cannot be read."""
    if protocol not in task.protocols or task.prompts_need_clip:
        return None
    try:
        return task.prompt(video, question, protocol, None)
    except VideoError:
        return None


def _without_images(prompt: str) -> str:
    """Where images stand is a matter of models: some want marks in the prompt."""
    return re.sub(r"<image>\s*", "", prompt)


def disagreements(log: Log, task: Task, records: Sequence[Record]) -> int:
    """Questions with one response that lmms-eval and we score differently; drawn options do not count."""
    if log.scored_under not in task.protocols:
        return 0
    logged = {}
    for sample, record in zip(log.samples, records, strict=False):
        if len(records) == len(log.samples) and record.answered:
            logged[record.question] = (_logged_score(sample), record)
    number = 0
    for correct, record in logged.values():
        score = scored_record(task, record, log.scored_under).score
        if correct is not None and "correct" in score.values and not score.drawn:
            number += bool(score.values["correct"]) != correct
    return number


def _logged_score(sample: Mapping[str, Any]) -> bool | None:
    for key, value in sample.items():
        if isinstance(value, dict) and key not in ("doc", "submission"):
            if isinstance(value.get("score"), int | float):
                return bool(value["score"])
            for said in ("parsed_pred", "pred_answer"):
                if said in value and "answer" in value:
                    return value[said] == value["answer"]
        elif isinstance(value, bool):
            return value
    return None

"""MLVU, generation: scenes to describe and whole videos to summarize, graded from 2 to 10 points by a language model.

Paper: Zhou et al., arXiv 2406.04264. Data set cards: MLVU/MVLU and MLVU/MLVU_Test. The judge's prompts and how its
answers are read are those of github.com/JUNJIE99/MLVU, evaluation/generation_evaluation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from vamba_eval.contracts import (
    Ask,
    Catalogue,
    Clip,
    Counts,
    GenerationSettings,
    Measure,
    MissingData,
    Question,
    Score,
    Task,
    Video,
    mean,
)

from ._annotations import (
    BadRow,
    Collector,
    check_split,
    find_folder,
    first_existing,
    read_rows,
    seconds_field,
    text_field,
)
from .mlvu import MLVU, TEST_SET, one_video_a_film, test_video

# By type: the file of the dev split and that of the test set with its answers, and what the judge gives points for.
_FILES = {"sub_scene": ("8_sub_scene.json", "test_ssc_gt.json"), "summary": ("9_summary.json", "test_vs_gt.json")}
_GRADES = {"sub_scene": ("accuracy", "relevance"), "summary": ("completeness", "reliability")}
_FOLDERS = {"sub_scene": ("8_sub_scene", "subPlot"), "summary": ("9_summary", "summary")}
_DEV = ("json/8_sub_scene.json", "MLVU/json/8_sub_scene.json")
# The test set with its answers, which came in March 2025, or without them.
_TEST = tuple(
    place + file
    for file in ("test-ground-truth/test_ssc_gt.json", "test_generation_tasks.json")
    for place in ("MLVU_Test/", "")
)
_BEST = 5  # points for each grade
_TRIES = 3

_OFFICIAL = (
    "Carefully watch this video and pay attention to every detail. Based on your observations, answer the given "
    "questions."
)

# The judge's prompts, word for word; the authors' stand in their code with this indentation, which the judge sees.
_INDENT = " " * 28
_SYSTEM = {
    "sub_scene": """\
##TASK DESCRIPTION: 
You are required to evaluate a respondent's answer based on a provided question, some scoring points, and the \
respondent's answer. You should provide two scores. The first is the accuracy score, which should range from 1 to 5. \
The second is the relevance score, which should also range from 1 to 5. Below are the criteria for each scoring \
category.
##ACCURACY Scoring Criteria: 
Evaluate the respondent's answer against specific scoring points as follows:
Score 1: The response completely misses the scoring point.
Score 3: The response mentions content related to the scoring point but is not entirely correct.
Score 5: The response accurately addresses the scoring point.
Calculate the average score across all scoring points to determine the final accuracy score.
##RELEVANCE Scoring Criteria:
Assess how the respondent's answer relates to the original question:
Score 1: The response is completely off-topic from the question.
Score 2: The response is partially related to the question but contains a significant amount of irrelevant content.
Score 3: The response primarily addresses the question, but the respondent seems uncertain about their own answer.
Score 4: The response mostly addresses the question and the respondent appears confident in their answer.
Score 5: The response is fully focused on addressing the question with no irrelevant content and demonstrates complete \
certainty.
----
##INSTRUCTION:
1. Evaluate Accuracy: First, assess and score each scoring point based on the respondent's answer. Calculate the \
average of these scores to establish the final accuracy score. Provide a detailed rationale before assigning your score.
2. Evaluate RELEVANCE: Assess the relevance of the respondent’s answer to the question. Note that when evaluating \
relevance, the correctness of the answer is not considered; focus solely on how relevant the answer is to the \
question. Provide a comprehensive rationale before assigning your score.
3. Output Scores in JSON Format: Present the scores in JSON format as follows:
{'score_accuracy': score_acc, 'score_relevance': score_rele, 'total_score': score_acc + score_rele}
""",
    "summary": """\
##TASK DESCRIPTION: 
You are required to evaluate the performance of the respondent in the video summarization task based on the standard \
answer and the respondent's answer. You should provide two scores. The first is the COMPLETENESS score, which should \
range from 1 to 5. The second is the RELIABILITY score, which should also range from 1 to 5. Below are the criteria \
for each scoring category:
##COMPLETENESS Scoring Criteria:
The completeness score focuses on whether the summary covers all key points and main information from the video. 
Score 1: The summary hardly covers any of the main content or key points of the video.
Score 2: The summary covers some of the main content and key points but misses many.
Score 3: The summary covers most of the main content and key points.
Score 4: The summary is very comprehensive, covering most to nearly all of the main content and key points.
Score 5: The summary completely covers all the main content and key points of the video.
##RELIABILITY Scoring Criteria:
The reliability score evaluates the correctness and clarity of the video summary. It checks for factual errors, \
misleading statements, and contradictions with the video content. If the respondent's answer includes details that are \
not present in the standard answer, as long as these details do not conflict with the correct answer and are \
reasonable, points should not be deducted.
Score 1: Contains multiple factual errors and contradictions; presentation is confusing.
Score 2: Includes several errors and some contradictions; needs clearer presentation.
Score 3: Generally accurate with minor errors; minimal contradictions; reasonably clear presentation.
Score 4: Very accurate with negligible inaccuracies; no contradictions; clear and fluent presentation.
Score 5: Completely accurate with no errors or contradictions; presentation is clear and easy to understand.
----
##INSTRUCTION:
1. Evaluate COMPLETENESS: First, analyze the respondent's answer according to the scoring criteria, then provide an \
integer score between 1 and 5 based on sufficient evidence. 
2. Evaluate RELIABILITY: First, analyze the respondent's answer according to the scoring criteria, then provide an \
integer score between 1 and 5 based on sufficient evidence. 
3. Output Scores in JSON Format: Present the scores in JSON format as follows:
{'score_completeness': score_comp, 'score_reliability': score_reli, 'total_score': score_comp + score_reli}
""",
}
_ASKED = (
    "Please score the respondent's answer according to the steps in the Instructions. You must end with a JSON dict to "
    "store the scores."
)


def _measures() -> dict[str, Measure]:
    """G-Avg is the mean of the types' mean totals, of 10 points each."""
    points: dict[str, Any] = {"best": 2.0 * _BEST, "worst": 2.0, "unit": "points"}
    measures: dict[str, Measure] = {"G-Avg": mean("total", over="question_type", **points)}
    for kind, grades in _GRADES.items():
        measures[kind] = mean("total", only=("question_type", kind), **points)
        for grade in grades:
            measures[f"{kind} {grade}"] = mean(grade, best=float(_BEST), worst=1.0, unit="points")
    return measures


class MLVUGeneration(Task):
    name = "mlvu_generation"
    version = "1"
    catalogue = Catalogue(
        title="MLVU (generation)",
        homepage="https://huggingface.co/datasets/MLVU/MVLU",
        citation="Zhou et al., MLVU, CVPR 2025, arXiv 2406.04264",
        counts={"dev": Counts(videos=417, questions=418)},  # of the two JSON files
        reads_data_of=("mlvu",),
    )
    measures: ClassVar = _measures()
    protocols = ("vamba", "official")
    splits = ("dev", "test")

    def generation(self, protocol: str) -> GenerationSettings:
        return GenerationSettings(max_new_tokens=1024 if protocol == "official" else 512)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        """From the folder of ``mlvu``, which this task shares."""
        is_test = check_split(self, split) == "test"
        expected, dataset = (_TEST, TEST_SET) if is_test else (_DEV, MLVU.catalogue.dataset)
        folder, first = find_folder(self, data_root, expected, dataset)
        collector = Collector(self)
        if first.name == "test_generation_tasks.json":
            self._load_file(first, "", folder, collector, is_test=True)
            return collector.videos()
        for kind, names in _FILES.items():
            self._load_file(first.with_name(names[is_test]), kind, folder, collector, is_test=is_test)
        return one_video_a_film(collector.videos())

    def _load_file(self, file: Path, kind: str, folder: Path, collector: Collector, *, is_test: bool) -> None:
        """The rows of one type, or of both (``kind`` is then "") without their answers."""
        if not file.exists():
            raise MissingData(
                f"{self.name}: {file} is missing. The benchmark is published at {self.catalogue.homepage}"
            )
        for number, row in enumerate(read_rows(file)):
            where = f"{file.name} row {number}"
            name = row.get("video") if isinstance(row, dict) else None
            video_id = path = None
            try:
                name = text_field(row, "video")
                own = kind or ("summary" if row.get("question_type") == "summary" else "sub_scene")
                video_id, path = f"{own}/{name}", _dev_video(file, own, name)
                if is_test:
                    video_id, path = name, test_video(folder, name)
                text = text_field(row, "question")
                answer = text_field(row, "answer") if kind else None
                points = row.get("scoring_points")
                if kind == "sub_scene" and not (points and isinstance(points, list)):
                    raise BadRow("field 'scoring_points' is missing or not a list: it cannot be graded")
            except BadRow as problem:
                collector.broken(where, str(problem), video_id, path)
                continue
            used = {"question", "answer", "question_type"}
            extra = {key: value for key, value in row.items() if key not in used}
            question = Question(
                id=str(row.get("question_id") or f"{file.stem}-{number}"),
                text=text,
                answer=answer,
                groups={"question_type": own},
                extra=extra,
            )
            collector.add(where, video_id, path, question, duration_s=seconds_field(row, "duration"))

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        """The authors put ``_OFFICIAL`` into the system prompt, before the video; here it comes behind it."""
        return f"{_OFFICIAL}\n{question.text}" if protocol == "official" else question.text

    def score(self, question: Question, response: str, protocol: str) -> Score:
        return Score()

    def needs_judge(self, question: Question) -> bool:
        return True

    def judge(self, question: Question, response: str, ask: Ask) -> dict[str, Any]:
        """The two grades, from 1 to 5 each."""
        if question.answer is None:
            raise ValueError("the benchmark withholds the reference: its authors alone can grade this")
        kind = str(question.groups["question_type"])
        about = {"Standard Answer": question.answer}
        if kind == "sub_scene":
            about = {
                "Question": question.text.replace("\n", ""),
                "Scoring Points": str(list(question.extra["scoring_points"])),
            }
        asked = [_ASKED, *(f"{name}: {text}" for name, text in about.items()), f"Respondent's Answer: {response}"]
        messages = [
            {"role": "system", "content": _indented(_SYSTEM[kind].splitlines())},
            {"role": "user", "content": _indented(asked)},
        ]
        problem: ValueError | None = None
        for _ in range(_TRIES):
            try:
                text = ask(messages, temperature=0)
                return {grade: _points(text, grade) for grade in _GRADES[kind]} | {"text": text}
            except ValueError as error:
                problem = error
        raise ValueError(f"no grades in {_TRIES} tries; the last: {problem}")

    def grade(self, question: Question, judgement: Mapping[str, Any]) -> Score:
        kind = str(question.groups["question_type"])
        grades = {grade: float(judgement[grade]) for grade in _GRADES[kind]}
        return Score({"total": sum(grades.values()), **grades})


def _dev_video(file: Path, kind: str, name: str) -> Path:
    return first_existing([file.parent.parent / "video" / folder / name for folder in _FOLDERS[kind]])


def _indented(lines: Sequence[str]) -> str:
    """The text as it stands between the quotes of the authors' code."""
    return "\n" + "".join(f"{_INDENT}{line}\n" for line in lines) + " " * 24


def _points(text: str, grade: str) -> float:
    """What follows ``score_GRADE`` at its first place, as the authors read it; ValueError if that is not a grade.

    They count a judge's answer without grades as 0 points; here it does not count as a judgement.
    """
    match = re.search(rf"score_{grade}[^:]*:[\s'\"*]*(\d+(?:\.\d+)?)", text)
    if match is None:
        raise ValueError(f"the judge's answer has no score_{grade}: {' '.join(text.split())[-100:]!r}")
    points = float(match.group(1))
    if not 1 <= points <= _BEST:
        raise ValueError(f"score_{grade} is {points:g}, not from 1 to {_BEST}")
    return points

"""MLVU, multiple choice: seven types of questions (nine in the test set) about videos of 3 minutes to 2 hours.

Paper: Zhou et al., arXiv 2406.04264. Data set cards: MLVU/MVLU and MLVU/MLVU_Test (JSON), sy1998/MLVU_dev and
sy1998/MLVU_Test (lmms-eval's shape). The submission file is that of github.com/JUNJIE99/MLVU, evaluation_test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
    MissingData,
    Question,
    Score,
    ScoredRecord,
    Task,
    Video,
    mean,
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
    letter_instruction,
    letter_prompt,
    lettered,
    list_field,
    missing,
    read_rows,
    rotated_text,
    seconds_field,
    split_options,
    text_field,
    with_extra,
)

_TYPES = ("1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning")
_EXPECTED = (
    *("json/1_plotQA.json", "MLVU/json/1_plotQA.json"),
    *("mlvu/test-*.parquet", "test-*.parquet", "data/test-*.parquet"),
)
TEST_SET = Dataset(hub_id="MLVU/MLVU_Test", lmms_eval="mlvu_test", lmms_ids=("sy1998/MLVU_Test",))
_ANSWERS = "test_mcq_gt.json"
# The repository with the answers, which came in March 2025; without them; and lmms-eval's shape. Each of them in the
# benchmark's folder or, beside the dev split, in a folder named after its repository.
_TEST_FILES = tuple(
    place + file
    for file in (
        f"test-ground-truth/{_ANSWERS}",
        "test_multi_choice_tasks.json",
        "test_question.json",
        "test-*.parquet",
        "*/test-*.parquet",
    )
    for place in ("MLVU_Test/", "")
)
# Types that one of the splits alone has: their files have the same names in lmms-eval's shape.
_DEV_ONLY, _TEST_ONLY = {"needle", "findNeedle"}, {"needleQA", "sportsQA", "tutorialQA"}
# Ids of test questions: topic reasoning, anomaly recognition, needle QA, ego reasoning, plot QA, sports QA, action
# order, action count, tutorial QA.
_TEST_ID = re.compile(r"(TR|AR|NQA|ER|PQA|SQA|AO|AC|TQA)_\d+")


# evaluation/multiple_choice_evaluation/choice_bench.py of the authors' repository.
_OFFICIAL_INSTRUCTION = (
    "Carefully watch this video and pay attention to every detail. Based on your observations, select the best option "
    "that accurately addresses the question."
)
_BEST_ONLY = "Only give the best option."


class MLVU(Task):
    name = "mlvu"
    version = "1"
    catalogue = Catalogue(
        title="MLVU (multiple choice)",
        homepage="https://huggingface.co/datasets/MLVU/MVLU",
        citation="Zhou et al., MLVU, CVPR 2025, arXiv 2406.04264",
        reported_as="mlvu_m_avg",  # of dev
        dataset=Dataset(
            hub_id="MLVU/MVLU",
            elsewhere="the test set is another repository: add --repo MLVU/MLVU_Test to fetch it too",
            lmms_eval="mlvu",
            lmms_ids=("sy1998/MLVU_dev",),
        ),
        # Of the seven JSON files: 539 + 355 + 352 + 206 + 259 + 200 + 264; their videos are not counted apart.
        counts={
            "dev": Counts(videos=None, questions=2175),
            "test": Counts(videos=None, questions=502),
        },
        in_lmms_eval=InLmmsEval(
            tasks={"mlvu_dev": None},
            functions=frozenset({"mlvu_doc_to_visual_dev", "mlvu_doc_to_text"}),
            groups={"task_type": "question_type"},
        ),
    )
    measures: ClassVar = {"M-Avg": mean("correct", over="question_type"), "accuracy": mean("correct")}
    splits = ("dev", "test")
    protocols = ("vamba", "lmms-eval", "official", "flexible")

    def generation(self, protocol: str) -> GenerationSettings:
        if protocol == FLEXIBLE:
            return FLEXIBLE_SETTINGS
        if protocol == "lmms-eval":
            return GenerationSettings.lmms_eval(16)
        return GenerationSettings(max_new_tokens=100 if protocol == "official" else 512)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        if check_split(self, split) == "test":
            return self._load_test(data_root)
        folder, file = find_folder(self, data_root, _EXPECTED)
        collector = _collector(self, file)
        if file.suffix == ".parquet":
            self._load_parquet(folder, file, collector, foreign=_TEST_ONLY)
        else:
            for kind in _TYPES:
                self._load_json(file.parent / f"{kind}.json", collector)
        return one_video_a_film(collector.videos())

    def _load_test(self, data_root: str | Path | None) -> list[Video]:
        folder, file = find_folder(self, data_root, _TEST_FILES, TEST_SET)
        collector = _collector(self, file)
        if file.suffix == ".parquet":
            self._load_parquet(folder, file, collector, foreign=_DEV_ONLY)
            return collector.videos()
        for number, row in enumerate(read_rows(file)):
            where = f"{file.name} row {number}"
            name = row.get("video") if isinstance(row, dict) else None
            path = test_video(folder, name) if isinstance(name, str) and name else None
            try:
                text_field(row, "video")
                # Numbers stand among the options of counting questions.
                candidates = list_field({"candidates": _texts(row.get("candidates"))}, "candidates")
                question_id, text = text_field(row, "question_id"), text_field(row, "question")
                answer = None
                if file.name == _ANSWERS or row.get("answer") is not None:
                    answer = text_field({"answer": _text(row.get("answer"))}, "answer")
            except BadRow as problem:
                collector.broken(where, str(problem), name if path else None, path)
                continue
            used = {"question", "candidates", "question_type", "question_id"}
            extra = {key: value for key, value in row.items() if key not in used}
            extra["lmms_question"] = "\n".join([text, *lettered(candidates, "({}) {}")])
            question = Question(
                id=question_id,
                text=text,
                options=tuple(candidates),
                answer=None if answer is None else _letter(answer, candidates, where, collector),
                groups={"question_type": str(row.get("question_type") or "unknown")},
                extra={**extra, "split": "test"},
            )
            assert name is not None and path is not None
            collector.add(where, name, path, question, duration_s=seconds_field(row, "duration"))
        return collector.videos()

    def _load_json(self, file: Path, collector: Collector) -> None:
        if not file.exists():
            raise missing(self, file)
        kind, videos = file.stem, file.parent.parent / "video"
        rows = read_rows(file)
        types = [str(row["question_type"]) for row in rows if isinstance(row, dict) and row.get("question_type")]
        for number, row in enumerate(rows):
            where = f"{file.name} row {number}"
            name = row.get("video") if isinstance(row, dict) else None
            video_id = path = None
            if isinstance(name, str) and name:
                video_id = f"{kind}/{name}"
                path = first_existing([videos / kind / name, videos / Path(name).stem])
            try:
                text_field(row, "video")
                candidates = list_field(row, "candidates")
                text, answer = _even_empty(row, "question"), _even_empty(row, "answer")
            except BadRow as problem:
                collector.broken(where, str(problem), video_id, path)
                continue
            if not text or not answer:  # three of the published rows
                empty = [name for name, value in (("question", text), ("answer", answer)) if not value]
                collector.defect(
                    where, f"empty {' and '.join(empty)}", "it is asked and scored as it is, as in the reference"
                )
            # A file is one type; a row that does not say so must not become another one in the mean.
            groups = {"question_type": types[0] if types else kind.partition("_")[2]}
            used = {"question", "candidates", "question_type"}
            extra = {key: value for key, value in row.items() if key not in used}
            # In the shape that lmms-eval asks for, the question's text holds the options.
            extra["lmms_question"] = "\n".join([text, *lettered(candidates, "({}) {}")])
            question = Question(
                id=f"{kind}-{number}",
                text=text,
                options=tuple(candidates),
                answer=_letter(answer, candidates, where, collector),
                groups=groups,
                extra=extra,
            )
            assert video_id is not None and path is not None
            collector.add(where, video_id, path, question, duration_s=seconds_field(row, "duration"))

    def _load_parquet(self, folder: Path, file: Path, collector: Collector, foreign: set[str]) -> None:
        rows, split = read_rows(file), "dev" if foreign is _TEST_ONLY else "test"
        if others := sorted({str(row.get("task_type")) for row in rows} & foreign):
            raise MissingData(f"{file} has questions of the type {others[0]}, which are not those of the split {split}")
        for number, row in enumerate(rows):
            where = f"{file.name} row {number}"
            name = row.get("video_name")
            path = None
            if isinstance(name, str) and name:
                path = test_video(folder, name) if split == "test" else first_existing(_videos(folder, name))
            try:
                text_field(row, "video_name")
                text, candidates = split_options(text_field(row, "question"))
                if not candidates:
                    raise BadRow("the question's text holds no '(A) ...' lines")
                answer: str | None = None
                if split == "dev" or row.get("answer") is not None:
                    answer = text_field(row, "answer").strip().strip("()")
            except BadRow as problem:
                collector.broken(where, str(problem), name if path else None, path)
                continue
            if answer is not None and answer not in tuple(LETTERS[: len(candidates)]):
                answer = _letter(answer, candidates, where, collector)
            extra: dict[str, Any] = {key: value for key, value in row.items() if key not in ("question", "answer")}
            extra |= {"lmms_question": row["question"], "split": split}
            question = Question(
                id=str(row.get("question_id") or f"{row.get('task_type')}-{number}"),
                text=text,
                options=tuple(candidates),
                answer=answer,
                groups={"question_type": str(row.get("task_type") or "unknown")},
                extra=extra,
            )
            assert path is not None
            collector.add(where, name, path, question, duration_s=seconds_field(row, "duration"))

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        protocol = asked_as(protocol, "official")
        is_test = question.extra.get("split") == "test"
        if protocol == "lmms-eval":  # its task file of the test set adds nothing to the question
            asked: str = question.extra["lmms_question"]
            return asked if is_test else f"{asked}\n{_BEST_ONLY}\nBest option: ("
        if protocol == "official":
            listed = "\n".join(lettered(question.options, "({}) {}")).rstrip()
            # The authors begin the response with the last line; here it ends the prompt.
            lines = [f"Question: {question.text}", "Options:", listed, _BEST_ONLY, "Best Option: ("]
            return "\n".join([_OFFICIAL_INSTRUCTION, *lines])
        return letter_prompt(question.text, question.options, _letters(question))

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        protocol = asked_as(protocol, "official")
        if protocol == "lmms-eval":
            return () if question.extra.get("split") == "test" else (_BEST_ONLY,)
        if protocol == "official":
            return _OFFICIAL_INSTRUCTION, _BEST_ONLY
        return (letter_instruction(_letters(question)),)

    def rotated(self, question: Question, places: int) -> Question | None:
        """lmms-eval's prompt shows the options in the question's text."""
        turned = rotated_text(question.extra["lmms_question"], question.options, places)
        return with_extra(question.rotated(places), lmms_question=turned)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        if protocol == "official":
            if question.answer:  # of equal candidates the last one is right there
                right = question.options[LETTERS.index(question.answer)]
                last = len(question.options) - 1 - question.options[::-1].index(right)
                question = replace(question, answer=LETTERS[last])
            return score_choice(question, response, _extract_official)
        # lmms-eval looks for A to D alone, in the test set with its six options too.
        return score_choice(question, response, extract_lmms if protocol == "lmms-eval" else extract_vamba)

    def submission(self, responses: Sequence[ScoredRecord]) -> tuple[str, str] | None:
        """Of the test set: its ``test_res.json``, with an empty option where a response yields none."""
        entries = []
        for each in responses:
            if not _TEST_ID.fullmatch(each.question_id):
                return None
            option = each.score.extracted if each.score.parsed else ""
            kind = each.groups["question_type"]
            entries.append({"question_id": each.question_id, "question_type": kind, "option": option})
        return ("test_res.json", json.dumps(entries, indent=4) + "\n") if entries else None


def _letters(question: Question) -> str:
    """What the Vamba scripts' instruction names. They do not have the test set: there as many as there are options."""
    if question.extra.get("split") != "test":
        return "A, B, C, or D"
    *letters, last = list(LETTERS[: len(question.options)])
    return f"{', '.join(letters)}, or {last}"


def _extract_official(response: str) -> str:
    """The authors' ``check_ans``: the character before the first ")", else the whole response; "" if it is none of
    the letters."""
    before, mark, _ = response.partition(")")
    answer = before[-1:] if mark else response
    return answer if len(answer) == 1 and answer in LETTERS else ""


def _collector(task: Task, file: Path) -> Collector:
    """The JSON files give the answer's text, lmms-eval's shape its letter."""
    counts = "the published one" if file.suffix == ".parquet" else "the first one that is the answer"
    return Collector(task, f"{counts} counts (under official the last)", equal_others=True)


def one_video_a_film(videos: Sequence[Video]) -> list[Video]:
    """Videos called ``KIND/NAME``, of which those of one name and duration count as the first of them.

    120 films of dev lie in the folders of two kinds; questions about both vary together. Without a stated duration, or
    with another one, the same name means nothing.
    """
    seen: dict[str, list[Video]] = {}
    found = []
    for video in videos:
        same_name = seen.setdefault(video.id.partition("/")[2], [])
        first = next((other for other in same_name if _as_long(video, other)), None)
        same_name.append(video)
        found.append(video if first is None else replace(video, cluster=first.id))
    return found


def _as_long(video: Video, other: Video) -> bool:
    """Within a second: durations may be rounded."""
    if video.duration_s is None or other.duration_s is None:
        return False
    return abs(video.duration_s - other.duration_s) <= 1.0


def test_video(folder: Path, name: str) -> Path:
    """A video of the test set: its archive unpacks into one folder."""
    places = (folder / "MLVU_Test", folder / "MLVU_Test" / "MLVU_Test", folder)
    return first_existing([path for place in places for path in reversed(_videos(place, name))])


def _videos(folder: Path, name: str) -> list[Path]:
    return [folder / name, folder / "video" / name]


def _even_empty(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else text_field(row, name)


def _text(value: Any) -> Any:
    """A number as text; everything else as it is."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _texts(values: Any) -> Any:
    return [_text(value) for value in values] if isinstance(values, list) else values


def _letter(answer: str, candidates: list[str], where: str, collector: Collector) -> str:
    """The letter of the first candidate that is the answer; "" (never right) if none is."""
    if answer not in candidates:
        collector.defect(where, f"the answer {answer!r} is none of the candidates", "the question counts as wrong")
        return ""
    return LETTERS[candidates.index(answer)]

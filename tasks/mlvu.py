"""MLVU dev, multiple choice: seven types of questions about videos of 3 minutes to 2 hours.

Paper: Zhou et al., arXiv 2406.04264. Data set cards: MLVU/MVLU (JSON), sy1998/MLVU_dev (lmms-eval's shape).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from vamba_eval.contracts import (
    LETTERS,
    Clip,
    Counts,
    Dataset,
    GenerationSettings,
    MissingData,
    Question,
    Score,
    ScoredRecord,
    Summary,
    Task,
    Video,
)
from vamba_eval.scoring import extract_lmms, extract_vamba, score_choice, summarize

from ._annotations import (
    BadRow,
    Collector,
    check_split,
    find_folder,
    first_existing,
    letter_prompt,
    lettered,
    list_field,
    read_rows,
    seconds_field,
    split_options,
    text_field,
)

_TYPES = ("1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning")
_EXPECTED = (
    *("json/1_plotQA.json", "MLVU/json/1_plotQA.json"),
    *("mlvu/test-*.parquet", "test-*.parquet", "data/test-*.parquet"),
)


class MLVU(Task):
    name = "mlvu"
    version = "1"
    title = "MLVU dev (multiple choice)"
    homepage = "https://huggingface.co/datasets/MLVU/MVLU"
    citation = "Zhou et al., MLVU, CVPR 2025, arXiv 2406.04264"
    reported_as = "mlvu_m_avg"
    reported_metric = "M-Avg"
    dataset = Dataset(hub_id="MLVU/MVLU", lmms_eval="mlvu", lmms_ids=("sy1998/MLVU_dev",))
    # Of the seven JSON files: 539 + 355 + 352 + 206 + 259 + 200 + 264; videos of multiple choice are not counted apart.
    published_counts: ClassVar = {"dev": Counts(videos=None, questions=2175)}

    def generation(self, protocol: str) -> GenerationSettings:
        return GenerationSettings(max_new_tokens=16 if protocol == "lmms-eval" else 512)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        check_split(self, split, ("dev",))
        folder, file = find_folder(self, data_root, _EXPECTED)
        collector = Collector(self)
        if file.suffix == ".parquet":
            self._load_parquet(folder, file, collector)
        else:
            for kind in _TYPES:
                self._load_json(file.parent / f"{kind}.json", collector)
        return collector.videos()

    def _load_json(self, file: Path, collector: Collector) -> None:
        if not file.exists():
            raise MissingData(f"mlvu: {file} is missing. The benchmark is published at {self.homepage}")
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
                text = text_field(row, "question")
                answer = text_field(row, "answer")
            except BadRow as problem:
                collector.broken(where, str(problem), video_id, path)
                continue
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

    def _load_parquet(self, folder: Path, file: Path, collector: Collector) -> None:
        for number, row in enumerate(read_rows(file)):
            where = f"{file.name} row {number}"
            name = row.get("video_name")
            path = None
            if isinstance(name, str) and name:
                path = first_existing([folder / name, folder / "video" / name])
            try:
                text_field(row, "video_name")
                text, candidates = split_options(text_field(row, "question"))
                if not candidates:
                    raise BadRow("the question's text holds no '(A) ...' lines")
                answer = text_field(row, "answer").strip().strip("()")
            except BadRow as problem:
                collector.broken(where, str(problem), name if path else None, path)
                continue
            if answer not in tuple(LETTERS[: len(candidates)]):
                answer = _letter(answer, candidates, where, collector)
            extra: dict[str, Any] = {key: value for key, value in row.items() if key not in ("question", "answer")}
            extra["lmms_question"] = row["question"]
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
        if protocol == "lmms-eval":
            return f"{question.extra['lmms_question']}\nOnly give the best option.\nBest option: ("
        return letter_prompt(question.text, question.options)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        return score_choice(question, response, extract_lmms if protocol == "lmms-eval" else extract_vamba)

    def summarize(self, records: Iterable[ScoredRecord]) -> Summary:
        return summarize(records, mean_over="question_type", mean_name="M-Avg")


def _letter(answer: str, candidates: list[str], where: str, collector: Collector) -> str:
    """The letter of the first candidate that is the answer; "" (never right) if none is."""
    if answer not in candidates:
        collector.defect(where, f"the answer {answer!r} is none of the candidates", "the question counts as wrong")
        return ""
    for candidate in sorted({c for c in candidates if candidates.count(c) > 1}):
        collector.defect(
            where, f"the candidate {candidate!r} is given twice", "the first one that matches the answer counts"
        )
    return LETTERS[candidates.index(answer)]

"""Video-MMMU: 900 questions about 300 lectures: what is shown, what it means, and a new exercise that it teaches.

Paper: Hu et al., arXiv 2501.13826. Data set card: lmms-lab/VideoMMMU; the authors' repository,
EvolvingLMMs-Lab/VideoMMMU, has the same questions as JSON. The picture of the exercise is the last frame of each
published video.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from vamba_eval.contracts import (
    LETTERS,
    Catalogue,
    Clip,
    Counts,
    Dataset,
    FrameSampling,
    GenerationSettings,
    InLmmsEval,
    Measure,
    MissingData,
    Question,
    Score,
    ScoredRecord,
    Task,
    Video,
    mean,
)
from vamba_eval.reasoning import final_text
from vamba_eval.score.flexible import score_flexible
from vamba_eval.score.letters import extract_lmms, score_choice, without_reasoning

from ._annotations import (
    FLEXIBLE,
    FLEXIBLE_SETTINGS,
    BadRow,
    Collector,
    check_split,
    find_folder,
    first_existing,
    lettered,
    list_field,
    missing,
    read_object,
    read_rows,
    text_field,
)

_TRACKS = ("perception", "comprehension", "adaptation")
_BEFORE = (
    "question_only"  # the exercise without the lecture, as lmms-eval's video_mmmu_adaptation_question_only asks it
)
_GAIN = "knowledge_gain"
# One exercise has options and no type, so that lmms-eval asks and scores it as one in free text.
_CHOICE, _UNSTATED = "multiple-choice", "unstated"
# Of lmms_eval/tasks/videommmu/utils.py: the folder of a subject's videos, and the paper's name of its discipline.
_DISCIPLINES = {
    "Art": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Medicine": (
        *("Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy"),
        "Public_Health",
    ),
    "Humanities": ("History", "Literature", "Sociology", "Psychology"),
    "Engineering": (
        *("Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics", "Energy_and_Power"),
        *("Materials", "Mechanical_Engineering"),
    ),
}
_FOLDERS = {subject: folder for folder, subjects in _DISCIPLINES.items() for subject in subjects}
# lmms-eval's _default_template_yaml; the authors' repository has the same.
_LEARN = (
    "You should watch and learn the video content. Then apply what you learned to answer the following {} question."
)
_AT_THE_END = "The image for this question is at the end of the video."
_IGNORE = "Please ignore the Quiz question in last frame of the video."
# MMMU's rule for answers in free text (Yue et al., arXiv 2311.16502), which lmms-eval follows: the answer stands behind
# the last one of these, "=" in the last line only.
_BEHIND = (
    *("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ", "are ", "in total ", "total "),
    *("identify ", "recognize ", "calculated as ", "counted as ", "measured as ", "observed as ", "concluded as "),
    *("found to be ", "equals ", "determined to be ", "number of ", "value is ", "adds up to ", "have ", "has "),
)
_NUMBERS = (
    r"-?\b\d{1,3}(?:,\d{3})+\b",  # 1,200
    r"-?\d+(?:\.\d+)?[eE][+-]?\d+",  # 3.1e-5
    r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
)


def knowledge_gain(records: Sequence[ScoredRecord]) -> float | None:
    """What the lectures add, of what there was to gain: (after - before) / (1 - before), by the paper, section 3.4.

    Of exercises that were asked both ways; None without any, or where nothing was left to gain.
    """
    asked: dict[str, dict[str, float]] = {_TRACKS[2]: {}, _BEFORE: {}}
    for record in records:
        way = _way(record.question)
        if way in asked and "correct" in record.values:
            asked[way][record.question_id.removesuffix(f"_{way}")] = record.values["correct"]
    both = asked[_TRACKS[2]].keys() & asked[_BEFORE].keys()
    if not both:
        return None
    after, before = (sum(asked[way][id] for id in both) / len(both) for way in (_TRACKS[2], _BEFORE))
    return (after - before) / (1 - before) if before < 1 else None


class VideoMMMU(Task):
    name = "videommmu"
    version = "1"
    catalogue = Catalogue(
        title="Video-MMMU",
        homepage="https://huggingface.co/datasets/lmms-lab/VideoMMMU",
        citation="Hu et al., Video-MMMU, arXiv 2501.13826",
        # An archive a discipline, and one of the exercises' pictures as videos.
        dataset=Dataset(
            hub_id="lmms-lab/VideoMMMU",
            files=("Adaptation/*", "Comprehension/*", "Perception/*", "*.zip"),
            unpack_into="",
            lmms_eval="video_mmmu",
            lmms_ids=("lmms-eval/VideoMMMU", "lmms-lab/VideoMMMU"),
        ),
        # Paper, section 3: three questions about each of 300 videos.
        counts={
            "test": Counts(videos=300, questions=900),
            **{track: Counts(videos=300, questions=300) for track in _TRACKS},
            _GAIN: Counts(videos=600, questions=600),
        },
        in_lmms_eval=InLmmsEval(
            tasks={f"video_mmmu_{track}": track for track in reversed(_TRACKS)},
            functions=frozenset({"videommmu_doc_to_visual", "videommmu_doc_to_text_adaptation"}),
        ),
    )
    # The paper's overall figure is that of all 900, which is the mean of the tracks' where all are asked.
    measures: ClassVar = {
        "mean over tracks": mean("correct", over="track"),
        "knowledge gain": Measure(knowledge_gain, worst=float("-inf")),
    }
    splits = ("test", *_TRACKS, _GAIN)
    protocols = ("lmms-eval", "flexible")
    kept = ("untyped",)
    # From the first frame to the last, which holds the exercise; the pictures of _BEFORE are not shown 512 times.
    sampling = FrameSampling(strategy="fps-linspace", fps=1.0)

    def generation(self, protocol: str) -> GenerationSettings:
        return FLEXIBLE_SETTINGS if protocol == FLEXIBLE else GenerationSettings.lmms_eval(1024)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        split = check_split(self, split)
        expected = ("Adaptation/test-*.parquet", "data/adaptation_video.json", "adaptation_video.json")
        folder, found = find_folder(self, data_root, expected)
        collector = Collector(self)
        for way in {"test": _TRACKS, _GAIN: (_TRACKS[2], _BEFORE)}.get(split, (split,)):
            file = self._file(found, _TRACKS[2] if way == _BEFORE else way)
            for number, row in enumerate(_rows(file)):
                self._add(folder, way, row, f"{file.parent.name}/{file.name} row {number}", collector)
        return collector.videos()

    def _file(self, adaptation: Path, track: str) -> Path:
        if adaptation.suffix == ".json":
            file = adaptation.with_name(f"{track}_video.json")
        else:
            folder = adaptation.parent.with_name(track.capitalize())
            file = next(iter(sorted(folder.glob("test-*.parquet"))), folder / "test-00000-of-00001.parquet")
        if not file.exists():
            raise missing(self, file)
        return file

    def _add(self, folder: Path, way: str, row: Any, where: str, collector: Collector) -> None:
        if way == _BEFORE:
            where += f" ({_BEFORE})"
        video_id = path = None
        try:
            name = text_field(row, "id")
            video_id, path = name, self._path(folder, name, way)
            if way == _BEFORE:
                video_id = f"{name}_image"
            question = self._question(row, way, where, collector)
        except BadRow as problem:
            collector.broken(where, str(problem), video_id, path)
            return
        # The exercise and the lecture that ends in it vary together.
        collector.add(where, video_id, path, question, cluster=name if way == _BEFORE else None)

    @staticmethod
    def _path(folder: Path, name: str, way: str) -> Path:
        subject = name.partition("_")[2].rpartition("_")[0]
        if subject not in _FOLDERS:
            raise BadRow(f"the id {name!r} names no subject that there is")
        file = f"{_BEFORE}/{name}_image.mp4" if way == _BEFORE else f"{_FOLDERS[subject]}/{name}.mp4"
        return first_existing([folder / file, folder / "videos" / file])

    @staticmethod
    def _question(row: dict[str, Any], way: str, where: str, collector: Collector) -> Question:
        name, answer = text_field(row, "id"), text_field(row, "answer").strip()
        kind = row.get("question_type", _CHOICE) or (_UNSTATED if row.get("options") else "open")
        options, form = [], "{}. {}"
        if kind in (_CHOICE, _UNSTATED):
            options = list_field(row, "options")
            if all(option.startswith(f"{letter}.") for letter, option in zip(LETTERS, options, strict=False)):
                options, form = [option[2:] for option in options], "{}.{}"
            if answer not in tuple(LETTERS[: len(options)]):
                problem = f"the answer {answer!r} is not an option's letter"
                collector.defect(where, problem, "the question counts as wrong")
                answer = ""
        subject = name.partition("_")[2].rpartition("_")[0]
        # Without the lecture it is in no breakdown but its own, which would mix before and after.
        lecture = {"track": way, "discipline": _FOLDERS[subject], "subject": subject, "question_type": str(kind)}
        return Question(
            id=f"{name}_{way}",
            text=text_field(row, "question"),
            options=tuple(options),
            answer=answer,
            groups={"baseline": way} if way == _BEFORE else lecture,
            extra={"form": form, "untyped": kind == _UNSTATED},
        )

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        # lmms-eval leaves an empty line where a question is asked without its options.
        listed = "\n".join([question.text, *(lettered(question.options, question.extra["form"]) or [""])])
        way = _way(question)
        if way == _BEFORE:
            return listed
        if way != _TRACKS[2]:
            return f"{listed}\n{_IGNORE}"
        (instruction,) = self.instructions(question, protocol)
        return f"{instruction} {_AT_THE_END}\n{question.text if _in_free_text(question, protocol) else listed}"

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        """What is said of the last frame stays, in whichever words a question is put."""
        if _way(question) != _TRACKS[2]:
            return ()
        return (_LEARN.format("open-ended" if _in_free_text(question, protocol) else "multi-choice"),)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        if _in_free_text(question, protocol):
            text = final_text(response) if protocol == FLEXIBLE else without_reasoning(response)
            return _score_open(question, text)
        if protocol == FLEXIBLE:
            return score_flexible(question, response)
        letters = LETTERS[: len(question.options)]
        return score_choice(question, response, lambda text: extract_lmms(text, letters))


def _rows(file: Path) -> list[Any]:
    """The authors' JSON files have numbered rows in an object, which is the only value of another."""
    if file.suffix != ".json":
        return read_rows(file)
    numbered = next(iter(read_object(file).values()), None)
    if not isinstance(numbered, dict):
        raise MissingData(f"{file} should hold an object of numbered rows: is it the published file?")
    return list(numbered.values())


def _way(question: Question) -> str:
    """The track, or that there is no lecture before the exercise."""
    return str(question.groups.get("track", _BEFORE))


def _in_free_text(question: Question, protocol: str) -> bool:
    return not question.options or (protocol == "lmms-eval" and bool(question.extra.get("untyped")))


def _score_open(question: Question, response: str) -> Score:
    """Right where the answer is one of the numbers, or part of one of the texts, in which the response may state it."""
    candidates = _stated(response)
    wanted = _normalized(question.answer or "")
    right = any(
        want == found if isinstance(found, float) else isinstance(want, str) and want in found
        for want in wanted
        for text in candidates
        for found in _normalized(text)
    )
    values = {} if question.answer is None else {"correct": float(right)}
    return Score(values, candidates[-1] if candidates else None, parsed=bool(candidates))


def _stated(response: str) -> list[str]:
    """The shortest end of each line behind an answer's phrase (without any, all of the response), and their numbers."""
    if not response:
        return []
    text = response.strip().strip(".").lower()
    lines = text.split("\n")
    ends = []
    for number, line in enumerate(lines):
        end = ""
        # "=" counts in the last line alone.
        for phrase in (*_BEHIND, *(["="] if number == len(lines) - 1 else [])):
            if phrase in line:
                behind = line.rpartition(phrase)[2].strip()
                end = behind if not end or len(behind) < len(end) else end
        if end and end not in tuple(":,.!?;'"):
            ends.append(end)
    ends = ends or [text]
    numbers = [number for end in ends for form in _NUMBERS for number in re.findall(form, end)]
    return [*numbers, *ends]


def _normalized(text: str) -> list[str | float]:
    """A number to two decimals; other text in lower case, a lone character only beside a space."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]

"""What the benchmarks share: finding annotation files, reading rows, and keeping account of broken ones."""

from __future__ import annotations

import csv
import itertools
import json
import logging
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from vamba_eval.contracts import (
    LETTERS,
    Dataset,
    Defect,
    GenerationSettings,
    MissingData,
    Question,
    ScoredRecord,
    Task,
    UserError,
    Video,
    first_line,
)

from ._hub import find_in_repository

log = logging.getLogger(__name__)

HUB_PREFIX = "hub:"
LMMS_EVAL_ROOT = "lmms-eval:"
# The protocol whose prompt is another one's, whose responses may hold reasoning, and which read_choice reads.
FLEXIBLE = "flexible"
# Models that reason write thousands of tokens before they answer; 16,384 cut off few, and a loop ends. All others stop
# by themselves long before.
FLEXIBLE_SETTINGS = GenerationSettings(max_new_tokens=16384)
_END = "\x01the end"  # a last row that no file has


class BadRow(Exception):
    """An annotation row that cannot be made a question; its text says what is wrong."""


def find_folder(
    task: Task, data_root: str | Path | None, expected: Sequence[str], dataset: Dataset | None = None
) -> tuple[Path, Path]:
    """The benchmark's folder and its annotation file: the first of the glob patterns ``expected`` that matches.

    ``data_root`` is a directory with a folder named after the task or its dataset (or that folder itself); ``hub:``
    for a copy of the task's dataset repository, ``hub:OWNER/NAME`` for another one; or ``lmms-eval:`` for the places
    where lmms-eval keeps both, which are tried too where ``data_root`` is None. There the annotation file may be
    outside of the folder, which is that of the videos. ``dataset`` is that of a split which has its own.
    """
    dataset = dataset or task.catalogue.dataset
    hub_id = dataset.hub_id if dataset else ""
    where = f"The benchmark is published at {task.catalogue.homepage}" + (f" (dataset {hub_id})" if hub_id else "")
    name = (task.catalogue.reads_data_of or (task.name,))[0]
    if data_root is None or str(data_root) == LMMS_EVAL_ROOT:
        videos, annotations = _places_of_lmms_eval(task, dataset)
        file = _first_match(annotations, expected)
        if file is not None and videos.is_dir():
            if data_root is None:
                log.warning("%s: no --data-root is given; lmms-eval's copy in %s is used", task.name, videos)
            return videos, file
        if data_root is None:
            raise UserError(
                f"{task.name} needs its data: give --data-root DIR with {name}/{expected[0]} in it, as published at "
                f"{task.catalogue.homepage}; run_eval.py download {name} --data-root DIR downloads it"
            )
        ids = " or ".join((dataset.lmms_ids if dataset else ()) or ("any dataset",))
        lacks = f"{videos} is not there" if file else f"no {' or '.join(expected)} of {ids}"
        raise MissingData(f"{task.name}: lmms-eval has no copy of it on this machine ({lacks}). {where}")
    if str(data_root).startswith(HUB_PREFIX):
        folder, found = find_in_repository(str(data_root).removeprefix(HUB_PREFIX) or hub_id, expected)
        if found is not None:
            return folder, found
        folders = [folder]
    else:
        root = Path(data_root).expanduser()
        if not root.is_dir():
            raise UserError(f"the data root {root} is not a directory: give --data-root the folder that holds {name}/")
        folders = [root / name, *_named_as_published(root, task, dataset), root]
    for folder in folders:
        if (file := _first_match([folder], expected)) is not None:
            return folder, file
    raise MissingData(f"{task.name}: no {' or '.join(expected)} below {folders[0]}. {where}")


def _named_as_published(root: Path, task: Task, dataset: Dataset | None) -> list[Path]:
    """Folders of ``root`` called as the benchmark's dataset is (``Video-MME``), or as its table is, however written."""

    def plain(name: str) -> str:
        return re.sub(r"[^a-z0-9]", "", name.lower())

    repositories = [*((dataset.hub_id, *dataset.lmms_ids) if dataset else ())]
    names = {plain(each.partition("@")[0].rpartition("/")[2]) for each in repositories}
    names |= {plain(each.partition("@")[0]) for each in repositories}  # lmms-lab--Video-MME
    names |= {plain(task.name), plain(task.catalogue.title)} - {""}
    try:
        return sorted(folder for folder in root.iterdir() if plain(folder.name) in names and folder.is_dir())
    except OSError:
        return []


def missing(task: Task, file: Path) -> MissingData:
    """The error about a file of the benchmark that is not there."""
    return MissingData(f"{task.name}: {file} is missing. The benchmark is published at {task.catalogue.homepage}")


def _first_match(folders: Iterable[Path], patterns: Sequence[str]) -> Path | None:
    found = (match for folder in folders for pattern in patterns for match in sorted(folder.glob(pattern)))
    return next(found, None)


def _places_of_lmms_eval(task: Task, dataset: Dataset | None) -> tuple[Path, list[Path]]:
    """Where lmms-eval looks for videos, and the folders that may hold the annotations; nothing is fetched.

    By lmms_eval/api/task.py and the tasks' utils.py of lmms-eval 0.7: videos are unpacked into a folder of
    $HF_HOME, annotations stay in the Hub's cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    if dataset is None or not dataset.lmms_eval:
        return home / task.name, []
    videos = home / dataset.lmms_eval
    annotations = [videos]
    for specification in dataset.lmms_ids:
        repo_id, _, revision = specification.partition("@")
        with suppress(LocalEntryNotFoundError):
            folder = snapshot_download(repo_id, repo_type="dataset", revision=revision or None, local_files_only=True)
            annotations.append(Path(folder))
    return videos, annotations


def check_split(task: Task, split: str | None) -> str:
    """The split to load, by default the first of the task's. UserError for one that there is not."""
    if split is not None and split not in task.splits:
        raise UserError(f"{task.name} has no split {split!r}; it has {' and '.join(task.splits)}")
    return split or task.splits[0]


def read_rows(path: Path) -> list[Any]:
    """The rows of a parquet, CSV, JSON (a list) or JSON-lines file, as plain Python values (of a CSV: text)."""
    rows = _read(path)
    if not isinstance(rows, list):
        raise MissingData(f"{path} should hold a list of rows, not {type(rows).__name__}: is it the published file?")
    return rows


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    value = _read(path)
    if not isinstance(value, dict):
        raise MissingData(f"{path} should hold an object, not {type(value).__name__}: is it the published file?")
    return value


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            return pyarrow.parquet.read_table(path).to_pylist()
        if path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                return _csv_rows(file)
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            # Not splitlines: it also cuts at separators that JSON allows within a text.
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        return json.loads(text)
    except (OSError, ValueError, csv.Error) as error:  # broken JSON, UTF-8 and parquet all are ValueErrors
        raise MissingData(f"{path} cannot be read: {first_line(error)}. Download it again") from error


def _csv_rows(file: TextIO) -> list[Any]:
    """The rows of a CSV file, with cells of any length: Python refuses a whole file for one of more than 128 KiB.

    Raises ValueError where a quotation mark is never closed, since all that follows it would be one cell.
    """
    before = csv.field_size_limit(2**31 - 1)  # of all readers in the process
    try:
        rows = list(csv.DictReader(itertools.chain(file, ["\n", _END])))
    finally:
        csv.field_size_limit(before)
    if not rows or next(iter(rows[-1].values())) not in (_END, [_END]):
        raise ValueError("a quotation mark is never closed")
    return rows[:-1]


def text_field(row: Mapping[str, Any], name: str) -> str:
    """A field that must hold text."""
    if not isinstance(row, Mapping):
        raise BadRow("the row is not an object")
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"field {name!r} is {'missing' if value is None else f'{value!r}, not text'}")
    return value


def list_field(row: Mapping[str, Any], name: str, least: int = 2) -> list[str]:
    """A field that must hold a list of at least so many texts."""
    value = row.get(name)
    if (
        not isinstance(value, list)
        or len(value) < least
        or len(value) > len(LETTERS)
        or not all(isinstance(v, str) for v in value)
    ):
        raise BadRow(f"field {name!r} is {'missing' if value is None else f'{value!r}, not a list of texts'}")
    return value


def letter_field(row: Mapping[str, Any], name: str, options: Sequence[str], where: str, collector: Collector) -> str:
    """A field that must hold the letter of one of ``options``; "" (never right) if it holds another text."""
    letter = text_field(row, name).strip()
    if letter in tuple(LETTERS[: len(options)]):
        return letter
    collector.defect(where, f"the answer {letter!r} is not an option's letter", "the question counts as wrong")
    return ""


def split_options(text: str, mark: str = r"\(([A-Z])\)") -> tuple[str, list[str]]:
    """Text that ends in lettered lines ("(A) ..." if ``mark`` is not given): what comes before them, and the options.

    No options if the lines are not lettered A, B, ... in order.
    """
    before, *parts = re.split(rf"(?:^|\n)\s*{mark}[ \t]*", text)
    letters, options = parts[::2], [part.strip() for part in parts[1::2]]
    if len(options) < 2 or letters != list(LETTERS[: len(letters)]):
        return text, []
    return before, options


def seconds_field(row: Mapping[str, Any], name: str, unit_s: float = 1.0) -> float | None:
    """A length in seconds, from a field in units of ``unit_s`` seconds; None where there is no such number."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        return None
    return float(value) * unit_s


def groups_of(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """The breakdowns a row counts in; a missing value counts as "unknown"."""
    return {name: "unknown" if row.get(name) is None else str(row[name]) for name in names}


def first_existing(candidates: Sequence[Path]) -> Path:
    """The first path that exists, else the first, which the error about it will name."""
    return next((path for path in candidates if os.path.exists(path)), candidates[0])


def lettered(options: Sequence[str], form: str = "{}. {}") -> list[str]:
    """Options with their letters, one string each."""
    return [form.format(letter, option) for letter, option in zip(LETTERS, options, strict=False)]


def rotated_text(text: str, options: Sequence[str], places: int, mark: str = r"\(([A-Z])\)") -> str | None:
    """``text`` with the options in it turned as ``Question.rotated`` turns them, wherever they are listed.

    They stand in lettered lines ("(A) ..." if ``mark`` is not given) as often as it may be; None where they do not, so
    that nothing can be turned.
    """
    before, *parts = re.split(rf"((?:^|\n)\s*{mark}[ \t]*)", text)
    marks, letters, bodies = parts[::3], parts[1::3], parts[2::3]
    count = len(options)
    if not letters or letters != list(LETTERS[:count]) * (len(letters) // count):
        return None
    turned = [before]
    for place, (own_mark, body) in enumerate(zip(marks, bodies, strict=True)):
        shown = body.strip()
        if shown != options[place % count].strip():
            return None
        other = options[(place % count + places) % count].strip()
        turned += [own_mark, body.replace(shown, other, 1) if shown else f"{other}{body}"]
    return "".join(turned)


def with_extra(question: Question, **extra: str | list[str] | None) -> Question | None:
    """``question`` with other entries of ``extra``; None where one of them could not be made."""
    return None if None in extra.values() else replace(question, extra={**question.extra, **extra})


def letter_instruction(letters: str = "A, B, C, or D") -> str:
    """The instruction of the Vamba scripts' prompts for MLVU and LongVideoBench: it names A to D whatever the number of
    options. NExT-QA's names all five ``letters``."""
    return (
        "Select the best answer to the following multiple-choice question based on the video. "
        f"Respond with only the letter ({letters}) of the correct option."
    )


def letter_prompt(text: str, options: Sequence[str], letters: str = "A, B, C, or D") -> str:
    """The Vamba scripts' prompt with that instruction."""
    return "\n".join([letter_instruction(letters), text, *lettered(options)])


def asked_as(protocol: str, source: str) -> str:
    """The protocol by which is asked: ``source`` under ``flexible``, which has no words of its own."""
    return source if protocol == FLEXIBLE else protocol


def first_responses(responses: Iterable[ScoredRecord]) -> dict[str, ScoredRecord]:
    """Each question's first response, by its id: the files that benchmarks' authors evaluate know no seeds."""
    first: dict[str, ScoredRecord] = {}
    for each in responses:
        first.setdefault(each.question_id, each)
    return first


# The fields of Video that decide what is shown of it, and what besides where subtitles are shown.
_SHOWN_BY = ("path", "start_s", "end_s", "frames_per_second")
_SAID_BY = ("subtitles", "extra")


class Collector:
    """Gathers rows into videos, in the order in which videos first appear, and reports defects.

    equal_answers   what follows, by the benchmark's protocols, where the right option stands there more than once
    equal_others    whether wrong options that do are reported too
    """

    def __init__(
        self, task: Task, equal_answers: str = "the published one alone counts", *, equal_others: bool = False
    ) -> None:
        self._shown_by = (*_SHOWN_BY, *(_SAID_BY if task.prompts_need_clip or task.interleaved else ()))
        self._task, self._equal_answers, self._equal_others = task, equal_answers, equal_others
        self._videos: dict[str, dict[str, Any]] = {}
        self._ids: set[str] = set()
        task.defects = []

    def defect(self, where: str, problem: str, consequence: str) -> None:
        found = Defect(where, problem, consequence)
        if found not in self._task.defects[-3:]:  # of a row that is asked in several ways
            self._task.defects.append(found)

    def add(self, where: str, video_id: str, path: Path, question: Question, **about: Any) -> None:
        """Give the video another question. ``about``: fields of Video, which the video's first row decides; but another
        file or part under the same id is another video."""
        if question.id in self._ids:
            number = 2
            while f"{question.id}#{number}" in self._ids:
                number += 1
            renamed = f"{question.id}#{number}"
            self.defect(where, f"the question id {question.id!r} occurs again", f"this one is called {renamed!r}")
            question = Question(renamed, *list(vars(question).values())[1:])
        self._ids.add(question.id)
        self._report_equal_options(where, question)
        self._entry(where, video_id, question, {"path": path, **about})["questions"].append(question)

    def _entry(self, where: str, video_id: str, question: Question, about: dict[str, Any]) -> dict[str, Any]:
        name, number = video_id, 1
        while (entry := self._videos.get(name)) is not None:
            asked = any(each.problem is None for each in entry["questions"])
            if not asked and question.problem is None:  # rows that cannot be asked decide nothing
                entry.update(about)
            if question.problem is not None or all(entry.get(key) == about.get(key) for key in self._shown_by):
                return entry
            number += 1
            name = f"{video_id}#{number}"
        if number > 1:
            problem = f"the video id {video_id!r} occurs again, with another file or part of it"
            self.defect(where, problem, f"this one is called {name!r}")
            about = {**about, "cluster": video_id}
        self._videos[name] = {"questions": [], **about}
        return self._videos[name]

    def _report_equal_options(self, where: str, question: Question) -> None:
        """A model that chooses the answer's text has said it, but only one of its letters is right."""
        if question.answer is None or question.problem is not None:
            return
        texts = [option.strip() for option in question.options]
        letters = LETTERS[: len(texts)]
        right = texts[letters.index(question.answer)] if question.answer and question.answer in letters else None
        for text in dict.fromkeys(text for text in texts if texts.count(text) > 1):
            same = [letter for letter, each in zip(letters, texts, strict=False) if each == text]
            often = f"is given {'twice' if len(same) == 2 else f'{len(same)} times'}, as {' and '.join(same)}"
            if text == right:
                self.defect(where, f"the answer {text!r} {often}", self._equal_answers)
            elif self._equal_others:
                self.defect(where, f"the option {text!r} {often}", "it is not the answer and is shown as published")

    def broken(
        self, where: str, problem: str, video_id: str | None = None, path: Path | None = None, **about: Any
    ) -> None:
        """A row that cannot be asked: reported, and recorded as failed by every run."""
        self.defect(where, problem, "it cannot be asked and is recorded as failed")
        question = Question(where, "", problem=f"broken annotation row ({where}): {problem}")
        self.add(where, video_id or f"({where})", path or Path(), question, **about)

    def videos(self) -> list[Video]:
        return [
            Video(video_id, **{**entry, "questions": tuple(entry["questions"])})
            for video_id, entry in self._videos.items()
        ]

"""The vocabulary that everything else is written in.

The unit of work is a video with its questions: a video is read once and encoded once, then every
question about it is answered from that. This module knows no benchmark, no model and no file format.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from vamba_eval.contracts.data import Counts, Dataset, Defect, InLmmsEval
from vamba_eval.contracts.model import GenerationSettings
from vamba_eval.contracts.sampling import FrameSampling
from vamba_eval.contracts.score import Score, ScoredRecord, Summary
from vamba_eval.contracts.video import Clip, Question, Video


class Ask(Protocol):
    """A judge: chat messages (``role``, ``content``) to its text.

    ``options`` are the endpoint's own, as ``temperature``. The same request once more is answered anew. Raises
    ValueError where the answer was cut off, refused or empty.
    """

    def __call__(self, messages: Sequence[Mapping[str, str]], **options: Any) -> str: ...


class Task(ABC):
    """A benchmark: its files, prompts and scoring. Reads annotations only; opens no video."""

    name: ClassVar[str]
    version: ClassVar[str]
    title: ClassVar[str]
    homepage: ClassVar[str]
    citation: ClassVar[str]
    protocols: ClassVar[tuple[str, ...]] = ("vamba", "lmms-eval")
    sampling: ClassVar[FrameSampling] = FrameSampling()
    reported_as: ClassVar[str] = ""  # the column of results/published/ that holds this benchmark
    reported_metric: ClassVar[str] = "accuracy"
    dataset: ClassVar[Dataset | None] = None  # None: nothing to download
    published_counts: ClassVar[Mapping[str, Counts]] = {}  # by split, the default one first
    reads_data_of: ClassVar[tuple[str, ...]] = ()  # the tasks whose folders are read, if not the task's own
    prompts_need_clip: ClassVar[bool] = False  # for the times of its frames
    interleaved: ClassVar[tuple[str, ...]] = ()  # protocols that put text between the frames
    splits: ClassVar[tuple[str, ...]] = ("test",)  # the one that is loaded by default first
    kept: ClassVar[tuple[str, ...]] = ()  # entries of Question.extra that each record keeps, as "extra"
    in_lmms_eval: ClassVar[InLmmsEval | None] = None

    def __init__(self) -> None:
        self.defects: list[Defect] = []

    def title_of(self, split: str | None) -> str:
        """What tables call it: the title, with the split if it is not the default one."""
        return self.title if split in (None, self.splits[0]) else f"{self.title}, {split}"

    def generation(self, protocol: str) -> GenerationSettings:
        """Generation settings of ``protocol``."""
        return GenerationSettings()

    def sampling_under(self, protocol: str) -> FrameSampling:
        """Frame sampling of ``protocol``; ``sampling`` unless the protocol has a rule of its own."""
        return self.sampling

    @abstractmethod
    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        """All videos with their questions, in the annotation's order.

        ``data_root`` holds one folder a benchmark, named after the task, in its published layout; ``hub:`` and
        ``lmms-eval:`` are the places where huggingface_hub and lmms-eval keep data.
        Fills ``self.defects``. Raises MissingData where files are missing or not of the expected form.
        """

    @abstractmethod
    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        """The text put to the model, without any vision marker. ``clip`` is None unless ``prompts_need_clip``."""

    def captions(self, video: Video, clip: Clip, protocol: str) -> Sequence[tuple[int, str]]:
        """Text between the frames (see ``Clip.captions``), under a protocol among ``interleaved``."""
        return ()

    @abstractmethod
    def score(self, question: Question, response: str, protocol: str) -> Score:
        """What ``response`` is worth."""

    def submission(self, records: Iterable[Mapping[str, Any]], protocol: str) -> tuple[str, str] | None:
        """The benchmark's own file of responses for ``records`` of the store, as (file name, content).

        None where its authors define no such file.
        """
        return None

    @abstractmethod
    def summarize(self, records: Iterable[ScoredRecord]) -> Summary:
        """Headline metric and breakdowns over answered questions."""


class JudgedTask(Task):
    """A benchmark whose responses, in free text, a language model grades.

    ``score`` has nothing to say there; a run is graded by its own command, which keeps each judgement, so that
    tables are made without asking again. Records keep a question's ``text``, ``answer`` and ``extra`` (plain JSON
    values), so that neither grading nor tables need the benchmark's files.
    """

    def score(self, question: Question, response: str, protocol: str) -> Score:
        return Score(None, None, parsed=True)

    @abstractmethod
    def judge(self, question: Question, response: str, ask: Ask) -> dict[str, Any]:
        """A judgement, as plain JSON values, from any number of calls of ``ask``.

        Raises ValueError, with the reason, where the judge's text cannot be understood after the protocol's tries.
        """

    @abstractmethod
    def grade(self, question: Question, judgement: Mapping[str, Any]) -> Score:
        """The score that a judgement means."""

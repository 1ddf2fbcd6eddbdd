"""A benchmark as the harness knows it: questions about videos, prompts, scores of responses, and what it reports."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from vamba_eval.contracts.data import Catalogue, Defect
from vamba_eval.contracts.errors import UserError
from vamba_eval.contracts.model import GenerationSettings
from vamba_eval.contracts.sampling import FrameSampling, FrameSpans
from vamba_eval.contracts.score import Measure, Score, ScoredRecord, mean
from vamba_eval.contracts.video import Clip, Question, Video


class Ask(Protocol):
    """A judge: chat messages (``role``, ``content``) to its text.

    ``options`` are the endpoint's own, as ``temperature``. The same request once more is answered anew. Raises
    ValueError where the answer was cut off, refused or empty.
    """

    def __call__(self, messages: Sequence[Mapping[str, str]], **options: Any) -> str: ...


class Task(ABC):
    """A benchmark: its files, prompts and scoring. Reads annotations only; opens no video.

    name, version       the name on the command line; raise the version when prompts, scoring or questions change, so
                        that old records do not mix with new ones
    catalogue           where it is published, and as what
    measures            what it reports of scored responses, by name, the headline first
    protocols           ways of asking and scoring it, the first is the default
    splits              its parts, the one that is loaded by default first
    sampling            which frames of each video are shown
    kept                entries of ``Question.extra`` that each record keeps, for ``score`` when tables are made: the
                        benchmark's files are not there then, and what is not kept is gone
    prompts_need_clip   whether ``prompt`` is given the clip, for the times of its frames
    interleaved         protocols that put text between the frames (``captions``)
    asks_times          whether it asks when something happens: a model that is told no times of the frames it sees gets
                        them before the prompt, in seconds
    """

    name: ClassVar[str]
    version: ClassVar[str]
    catalogue: ClassVar[Catalogue]
    measures: ClassVar[Mapping[str, Measure]] = {"accuracy": mean("correct")}
    protocols: ClassVar[tuple[str, ...]] = ("vamba",)
    splits: ClassVar[tuple[str, ...]] = ("test",)
    sampling: ClassVar[FrameSampling] = FrameSampling()
    kept: ClassVar[tuple[str, ...]] = ()
    prompts_need_clip: ClassVar[bool] = False
    interleaved: ClassVar[tuple[str, ...]] = ()
    asks_times: ClassVar[bool] = False

    def __init__(self) -> None:
        self.defects: list[Defect] = []

    def title_of(self, split: str | None) -> str:
        """What tables call it: the title, with the split if it is not the default one."""
        title = self.catalogue.title
        return title if split in (None, self.splits[0]) else f"{title}, {split}"

    def generation(self, protocol: str) -> GenerationSettings:
        """Generation settings of ``protocol``."""
        return GenerationSettings()

    def sampling_under(self, protocol: str) -> FrameSampling:
        """Frame sampling of ``protocol``; ``sampling`` unless the protocol has a rule of its own."""
        return self.sampling

    def sampling_for(self, question: Question, sampling: FrameSampling) -> FrameSampling | FrameSpans:
        """The frames that ``question`` is asked about: those of ``sampling``, or of parts of the video alone.

        A video is read once for all its questions, whatever they are asked about, and encoded once for each distinct
        answer. Sizes stay those of ``sampling``.
        """
        return sampling

    @property
    def questions_differ_in_frames(self) -> bool:
        """Whether it has a ``sampling_for`` of its own."""
        return type(self).sampling_for is not Task.sampling_for

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

    def rotated(self, question: Question, places: int) -> Question | None:
        """``question`` with its options turned, as ``Question.rotated`` does; None where they cannot be.

        For a task whose prompts show options from ``extra``, which has to be turned with them.
        """
        return question.rotated(places)

    def instructions(self, question: Question, protocol: str) -> Sequence[str]:
        """What its prompt says of how to answer, word for word: other wordings take the place of the first passage, and
        the rest goes. Without any, another wording stands before the prompt."""
        return ()

    def captions(self, video: Video, clip: Clip, protocol: str) -> Sequence[tuple[int, str]]:
        """Text between the frames (see ``Clip.captions``), under a protocol among ``interleaved``."""
        return ()

    @abstractmethod
    def score(self, question: Question, response: str, protocol: str) -> Score:
        """What ``response`` is worth; without values where a judge has to say (``needs_judge``).

        ``response`` is a ``CutOff`` where it was cut off, which is a text like any other.
        ``question`` is as its record keeps it: ``extra`` holds what ``kept`` names, all of it if a judge grades.
        """

    def needs_judge(self, question: Question) -> bool:
        """Whether a language model grades the responses to this question.

        A run is graded by its own command, which keeps each judgement, so that tables are made without asking again.
        Records of such questions keep all of ``extra`` (plain JSON values).
        """
        return False

    def judge(self, question: Question, response: str, ask: Ask) -> dict[str, Any]:
        """A judgement, as plain JSON values, from any number of calls of ``ask``.

        Raises ValueError, with the reason, where the judge's text cannot be understood after the protocol's tries.
        """
        raise UserError(f"{self.name} says that a judge grades {question.id!r}, but has no method judge")

    def grade(self, question: Question, judgement: Mapping[str, Any]) -> Score:
        """The score that a judgement means."""
        raise UserError(f"{self.name} says that a judge grades {question.id!r}, but has no method grade")

    def submission(self, responses: Sequence[ScoredRecord]) -> tuple[str, str] | None:
        """The benchmark's own file of responses, as (file name, content).

        None where its authors define no such file.
        """
        return None

"""The work of a run: videos with what is still to be asked about them, of which model, and where answers go."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vamba_eval import registry
from vamba_eval.contracts import (
    FrameSampling,
    Ladder,
    Model,
    Question,
    Sampling,
    ServedModel,
    Trial,
    UserError,
    Video,
    first_line,
)
from vamba_eval.reading.reader import Loaded
from vamba_eval.run.plan import Job
from vamba_eval.store.records import Record
from vamba_eval.store.runs import Run, latest_records
from vamba_eval.store.thumbnails import Thumbnails


@dataclass(frozen=True)
class ModelFacts:
    """What a model says of itself, wherever it works."""

    name: str
    reads_video: bool
    takes_captions: bool
    served: bool
    description: Mapping[str, Any]

    @classmethod
    def of(cls, model: Model) -> ModelFacts:
        """Raises UserError, naming the model's class, where what it says of itself is of no use to a run."""
        served, name = isinstance(model, ServedModel), type(model).__name__
        if not isinstance(getattr(model, "name", None), str):
            raise UserError(f"the model {name} has no name: give its class one, such as name = {name.lower()!r}")
        size = "concurrency" if served else "batch_size"
        if not isinstance(count := getattr(model, size), int) or count < 1:
            raise UserError(f"the model {model.name!r} ({name}) should have a {size} from 1, not {count!r}")
        try:
            description = model.describe()
        except Exception as error:
            what = f"the model {model.name!r} ({name}) cannot describe itself"
            raise registry.code_error(what, error, type(model)) from error
        try:
            json.dumps(dict(description))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"the model {model.name!r} ({name}) should describe itself by a dict of what JSON can hold: "
                f"{first_line(error)}"
            ) from error
        return cls(model.name, model.reads_video, model.takes_captions, served, description)


@dataclass(frozen=True)
class Subject:
    """A model and a way of asking it: with the video, or (``blind``) without."""

    facts: ModelFacts
    label: str
    seeds: int
    blind: bool = False

    @classmethod
    def all_of(cls, facts: ModelFacts, label: str, seeds: int, blind: bool) -> list[Subject]:
        seeing = cls(facts, label, seeds)
        return [seeing, cls(facts, f"{label}-blind", seeds, True)] if blind and facts.reads_video else [seeing]

    @property
    def looks(self) -> bool:
        return self.facts.reads_video and not self.blind

    def identity(self) -> dict[str, Any]:
        """What run.json says of the model."""
        about = {"adapter": self.facts.name, "reads_video": self.looks, **self.facts.description}
        about |= {"served": True} if self.facts.served else {}
        return {**about, "blind": True} if self.blind else about


@dataclass(frozen=True)
class OpenQuestion:
    """A question, and the trials in which it is still to be asked."""

    question: Question
    trials: Sequence[Trial]


@dataclass(frozen=True)
class Work:
    """A video with what is still to be asked about it: under one job, or under each rung of a ladder."""

    video: Video
    open: Sequence[Sequence[OpenQuestion]]


@dataclass(frozen=True)
class InHand:
    """What the model is at until the next that is heard of it, as the records to be written if that never comes."""

    records: Sequence[Record]


# The number of a job with a record of it, or with None when it is done with a video.
Event = tuple[int, "Record | None"]
# What a model's work consists of, as whoever watches over it hears it.
Step = tuple[int, "Record | InHand | None"]


class Recorder:
    """Where responses to one job and pictures of its clips go, and which responses are there; a context manager.

    ``blank`` is what all its records have in common. What a model of this process was given up at after
    ``answer_timeout_s`` or longer is not open: it would only end the process again.
    """

    def __init__(
        self,
        job: Job,
        run: Run,
        subject: Subject,
        strips: Thumbnails | None,
        answer_timeout_s: float | None = None,
    ) -> None:
        self.job, self._run = job, run
        self.strips = strips if subject.looks else None
        self.file = run.records(job.name, subject.label)
        self.blank = Record("", "", [], None, {}, run.environment_number, task=job.name, model=subject.label)
        self.seeds = range(job.generation.seed, job.generation.seed + subject.seeds)
        latest = latest_records(self.file.path)
        self.known = [record for record in latest if record.answered]
        limit = answer_timeout_s or float("inf")
        self.given_up = [record for record in latest if (record.given_up_s or 0) >= limit]
        self._closed = {(record.question, record.trial) for record in [*self.known, *self.given_up]}

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def environment_of(self, environment: Mapping[str, Any]) -> int:
        """The number of an environment in which answers were given."""
        return self._run.environment_of(environment)

    def keep_picture(self, loaded: Loaded) -> None:
        """Keep small pictures of what is asked about, for reports."""
        if self.strips and loaded.clip is not None and loaded.digest is not None:
            self.strips.save(loaded.clip, loaded.digest)

    def trials(self, question: Question) -> list[Trial]:
        """The times that ``question`` is asked."""
        return self.job.trials(question, self.seeds)

    def open(self, video: Video) -> list[OpenQuestion]:
        """What is still to be asked about ``video``."""
        open_questions = []
        for question in video.questions:
            if trials := [trial for trial in self.trials(question) if (question.id, trial) not in self._closed]:
                open_questions.append(OpenQuestion(question, trials))
        return open_questions


@dataclass(frozen=True)
class Assignment:
    """One model on one benchmark: what a workplace is given.

    jobs        the benchmark, or each rung of a ladder, which differ in the number of frames alone
    works       the videos with something open
    recorders   one a job
    answer_timeout_s  how long the model is waited for: to encode a video, to answer a batch; None: for ever
    """

    subject: Subject
    jobs: Sequence[Job]
    works: Sequence[Work]
    recorders: Sequence[Recorder] = field(default=(), repr=False)
    answer_timeout_s: float | None = None

    @property
    def reads(self) -> bool:
        """Whether anything is read of the videos."""
        return self.subject.looks or self.jobs[0].task.prompts_need_clip

    @property
    def headers(self) -> bool:
        """Whether clips are to say what their files' headers state."""
        return self.jobs[0].task.prompts_need_clip

    def sampling(self, video: Video) -> Sampling:
        """What is read of ``video``."""
        rungs = [rung for job in self.jobs for rung in job.shown(video)]
        if len(rungs) == 1 and isinstance(rungs[0], FrameSampling):
            return rungs[0]
        return Ladder(tuple(rungs))

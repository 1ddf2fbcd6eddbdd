"""The vocabulary that everything else is written in.

The unit of work is a video with its questions: a video is read once and encoded once, then every
question about it is answered from that. This module knows no benchmark, no model and no file format.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from vamba_eval.sampling import FrameSampling

if TYPE_CHECKING:  # tables are made on machines that read no video
    import numpy as np

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class UserError(Exception):
    """Something the person at the command line can mend; its text says what is wrong and what to do."""


class MissingData(UserError):
    """Files of a benchmark that are not where they are looked for, or not whole."""


class VideoError(Exception):
    """A video that cannot be read. Costs its own questions, never the run."""


@dataclass(frozen=True)
class Question:
    """One question about a video.

    ``options`` come without letters; empty for a question answered in free text. ``answer`` is the letter
    of the right option, a reference text, or None where a benchmark withholds it. ``groups`` are the
    breakdowns it counts in (a tuple value counts in each of its members); ``extra`` keeps the
    annotation's other fields. ``problem`` says why a broken annotation row cannot be asked: such a
    question is recorded as failed instead of vanishing.
    """

    id: str
    text: str
    options: tuple[str, ...] = ()
    answer: str | None = None
    groups: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class Video:
    """A video file (or a folder of extracted frames) with all questions about it.

    ``start_s`` and ``end_s`` bound the part that is shown, in seconds; None shows all of it.
    ``frames_per_second`` is the rate of a folder of extracted frames, which have no times without it.
    ``duration_s`` is the length that the annotations state, in seconds; None where they state none.
    """

    id: str
    path: Path
    questions: tuple[Question, ...]
    start_s: float | None = None
    end_s: float | None = None
    frames_per_second: float | None = None
    subtitles: Path | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    duration_s: float | None = None


@dataclass
class Clip:
    """The sampled frames of one video.

    frames          (T, H, W, 3) uint8, RGB, at the size that the model gets; not to be written to, as others may look
                    at the same memory
    timestamps_s    (T,) float64, seconds since the video's first frame; NaN for extracted frames of unknown rate
    frame_indices   (T,) int64, positions in the video's presentation order
    source_fps      average frames a second of the source; NaN if unknown
    duration_s      of the whole source, in seconds; NaN if unknown
    note            what a reader of the results should know about these frames, in a line; mostly empty
    captions        text between the frames, where a protocol interleaves them: (i, text) stands before frame i,
                    (T, text) behind the last one; in order. With any, each frame is a picture of its own
    parts           where several samplings were read at once (``Ladder``): each one's frames, as positions in
                    ``frames``
    """

    frames: np.ndarray
    timestamps_s: np.ndarray
    frame_indices: np.ndarray
    source_fps: float
    duration_s: float
    note: str = ""
    captions: tuple[tuple[int, str], ...] = ()
    parts: tuple[np.ndarray, ...] = ()

    def part(self, number: int) -> Clip:
        """The clip that the sampling of that number would have given alone."""
        chosen = self.parts[number]
        times, indices = self.timestamps_s[chosen], self.frame_indices[chosen]
        return Clip(self.frames[chosen], times, indices, self.source_fps, self.duration_s, self.note)


@dataclass(frozen=True)
class GenerationSettings:
    """How a response is decoded. The defaults are the Vamba paper's: greedy, at most 512 new tokens.

    ``until`` are texts at whose first occurrence the response ends, without them; adapters need not know of it.
    """

    max_new_tokens: int = 512
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int = 0
    min_new_tokens: int = 0  # only speed is measured with it: no response ends before
    until: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens <= 0:
            raise ValueError(f"max_new_tokens must be positive, not {self.max_new_tokens}")
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(f"min_new_tokens {self.min_new_tokens} is above max_new_tokens {self.max_new_tokens}")

    def describe(self) -> dict[str, Any]:
        """What decides a response, for a fingerprint."""
        given = asdict(self)
        del given["min_new_tokens"]  # of no run
        return {name: value for name, value in given.items() if value != ()}

    def cut(self, text: str) -> str:
        """``text`` up to the first of ``until`` in it."""
        return text[: min((at for end in self.until if end and (at := text.find(end)) >= 0), default=None)]

    @classmethod
    def lmms_eval(cls, max_new_tokens: int) -> GenerationSettings:
        """As lmms-eval decodes: greedily, up to an empty line (its default of ``until``, in api/task.py)."""
        return cls(max_new_tokens, until=("\n\n",))


class Prompt(str):
    """The text put to a model, which also knows how many options it offers (baselines need no more)."""

    num_options: int

    def __new__(cls, text: str, num_options: int = 0) -> Prompt:
        prompt = super().__new__(cls, text)
        prompt.num_options = num_options
        return prompt


@dataclass
class Answer:
    """A model's response: its raw text, the number of tokens generated, and why it ended ("stop", "length").

    ``prompt_tokens`` are those of the question with everything that surrounds it in the prompt, the video's apart.
    """

    text: str
    num_tokens: int = 0
    finish_reason: str = "stop"
    prompt_tokens: int = 0


@dataclass(frozen=True)
class Likelihood:
    """How likely a given continuation is: the natural logarithm of its probability, the number of its tokens, and
    whether greedy decoding would have chosen each of them."""

    logprob: float
    num_tokens: int
    greedy: bool


@dataclass(frozen=True)
class Score:
    """What a response is worth under one protocol.

    ``correct`` is None where the benchmark withholds the answer or a judge grades the response; a fraction is
    what a guess is expected to earn. ``parsed`` is False where the response yields no valid option; ``drawn``
    is True where the protocol then draws one at random. ``grades`` are a judge's, by name.
    """

    correct: bool | float | None
    extracted: str | None
    parsed: bool
    drawn: bool = False
    grades: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class ScoredRecord:
    """One response as a summary sees it; a question asked with several seeds has as many."""

    question_id: str
    video_id: str
    groups: Mapping[str, str | tuple[str, ...]]
    score: Score
    seed: int = 0


@dataclass(frozen=True)
class Metric:
    """A score with its 95 % interval (None where one video alone gives none).

    ``best`` is what a perfect model reaches: 1 for accuracies, which tables show in %, and 10 where a judge
    gives so many points. ``spread`` is the standard deviation over seeds, None with one seed.
    """

    value: float
    low: float | None
    high: float | None
    num_questions: int
    num_videos: int
    best: float = 1.0
    spread: float | None = None


@dataclass(frozen=True)
class Summary:
    """``metrics`` by name, the headline first; ``breakdowns`` by group, then by the group's value."""

    metrics: dict[str, Metric]
    breakdowns: dict[str, dict[str, Metric]]

    @property
    def headline(self) -> tuple[str, Metric]:
        return next(iter(self.metrics.items()))


@dataclass(frozen=True)
class Defect:
    """Something wrong in an annotation row, and what is done about it."""

    where: str
    problem: str
    consequence: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.consequence}"


@dataclass(frozen=True)
class Dataset:
    """Where a benchmark is published on the Hub, and how a copy of it comes about.

    hub_id       its dataset repository, OWNER/NAME
    files        glob patterns of the files that the task reads; archives among them are unpacked
    unpack_into  the folder, in the benchmark's own, in which archives are unpacked ("" is the benchmark's own);
                 None for the folder that each archive is in
    elsewhere    what is not there, and where it is to be had
    lmms_eval    the folder below $HF_HOME in which lmms-eval keeps the videos: ``cache_dir`` of its task
    lmms_ids     the repositories that lmms-eval takes annotations from, as OWNER/NAME or OWNER/NAME@REVISION
    """

    hub_id: str
    files: tuple[str, ...] = ("*",)
    unpack_into: str | None = None
    elsewhere: str = ""
    lmms_eval: str = ""
    lmms_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Counts:
    """How much a benchmark holds, as published; None where that is not stated."""

    videos: int | None
    questions: int
    subtitles: int | None = None


class Ask(Protocol):
    """A judge: chat messages (``role``, ``content``) to its text.

    ``options`` are the endpoint's own, as ``temperature``. The same request once more is answered anew. Raises
    ValueError where the answer was cut off, refused or empty.
    """

    def __call__(self, messages: Sequence[Mapping[str, str]], **options: Any) -> str: ...


@dataclass(frozen=True)
class InLmmsEval:
    """Where lmms-eval asks a benchmark's questions as our protocol ``lmms-eval`` does.

    tasks       patterns of its tasks' names, and our split
    functions   of its task code, all of which a task of another name must use to ask the same
    groups      its names of groups in its logs, and ours; "*" is what the star in the task's name stands for
    video       its name of the video in its logs, if it logs that
    """

    tasks: Mapping[str, str | None]
    functions: frozenset[str]
    groups: Mapping[str, str] = field(default_factory=dict)
    video: str | None = None


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


class ModelAdapter(ABC):
    """A model behind two calls. It never reports its own speed: the harness times both phases.

    What it may say is where a phase within them begins and ends: `phase("preprocess")` around what makes
    the model's inputs of frames, and `metering.mark_first_token()`.
    """

    name: ClassVar[str]
    reads_video: ClassVar[bool] = True
    takes_captions: ClassVar[bool] = False  # whether ``encode`` puts ``Clip.captions`` between the frames
    reported_as: ClassVar[str] = ""  # the model of results/published/efficiency.csv that this is

    def describe(self) -> dict[str, Any]:
        """What identifies the model in a fingerprint: checkpoint, revision or weight hash, dtype, ..."""
        return {}

    @abstractmethod
    def encode(self, clip: Clip | None) -> Any:
        """Everything that depends on the video alone.

        ``clip`` is None if not ``reads_video``, and where a model that does is asked blind: ``generate`` then gets the
        same prompts with no video before them.
        """

    @abstractmethod
    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        """Answers to ``prompts``, all about the encoded video, in their order."""

    def video_tokens(self, encoded: Any) -> int | None:
        """How many tokens the model made of the video that it encoded; None if it does not say."""
        return None

    def train_step(self, clip: Clip, prompt: str, answer: str) -> float:
        """One training step without its optimizer: forward and backward with gradient checkpointing.

        The loss is that of ``answer``'s tokens, given the clip and ``prompt``; it is returned. Gradients of the step
        before are dropped first. For ``run_eval.py profile`` alone; leaves the model in training mode. Optional.
        """
        raise UserError(f"the model {self.name!r} cannot be trained: its adapter has no train_step")

    def loglikelihood(self, encoded: Any, prompts: Sequence[str], continuations: Sequence[str]) -> list[Likelihood]:
        """How likely each continuation is as the response to the prompt in its place. Optional."""
        raise UserError(f"the model {self.name!r} cannot say how likely a given response is")

    def close(self) -> None:  # noqa: B027 - most adapters hold nothing that needs closing
        """Give memory and devices back."""

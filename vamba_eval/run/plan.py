"""What is to be run: names, options and annotations made into jobs, or a UserError that says what to mend."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vamba_eval import registry
from vamba_eval.contracts import (
    BOUNDS,
    EDGES,
    Clip,
    FrameSampling,
    GenerationSettings,
    Model,
    Question,
    Rung,
    Task,
    Trial,
    UserError,
    Video,
)
from vamba_eval.files import safe_label, safe_name
from vamba_eval.plain import did_you_mean
from vamba_eval.presets import Preset
from vamba_eval.run.frame_sets import FrameSets
from vamba_eval.run.probes import Probes, put, reworded
from vamba_eval.run.times import Times

log = logging.getLogger(__name__)


def rungs_of(
    sampling: Mapping[str, Any] | FrameSampling | None, ladder: Sequence[int]
) -> list[Mapping[str, Any] | FrameSampling | None]:
    """The samplings of a run: one, or one for each number of frames of a ladder."""
    if not ladder:
        return [sampling]
    if len(set(ladder)) != len(ladder):
        raise UserError(f"a number of frames is given twice: {', '.join(map(str, ladder))}")
    try:
        if isinstance(sampling, FrameSampling):
            return [replace(sampling, num_frames=count) for count in ladder]
    except ValueError as error:
        raise UserError(str(error)) from error
    return [{**(sampling or {}), "num_frames": count} for count in ladder]


def as_option(name: str, value: str = "") -> str:
    """How a field is given on our command line: ``--num-frames``, or ``--strategy fps``."""
    option = f"--{name.replace('_', '-')}"
    return f"{option} {value}" if value else option


def as_model_arg(name: str, value: str = "") -> str:
    """How it is given in lmms-eval's ``--model_args``: ``num_frames``, or ``strategy=fps``."""
    return f"{name}={value}" if value else name


def sampling_with(
    own: FrameSampling, given: Mapping[str, Any], written: Callable[..., str] = as_option
) -> FrameSampling:
    """``own`` with the fields that a user gives; ``fps`` and ``token_budget`` imply a strategy that uses them, edges
    and areas that frames are sized by these alone.

    Raises UserError where a given field would have no effect, or would bend every frame; it calls fields as they are
    ``written`` by who gives them.
    """
    given = _sized_in_one_way(dict(given), written)
    for name, strategies in (("fps", ("fps", "fps-linspace")), ("token_budget", ("auto",))):
        strategy = own.strategy if own.strategy in strategies else strategies[0]
        if name in given and given.setdefault("strategy", strategy) not in strategies:
            raise UserError(
                f"{written(name)} is for the strategy {strategy!r}, but the strategy is to be {given['strategy']!r}: "
                f"leave out {written(name)}, or use {written('strategy', strategy)}"
            )
    if given.get("strategy", own.strategy) != own.strategy:
        given.setdefault("rate", "times")  # the header's is part of a copied rule
    if given.get("longest_edge") is not None and own.shortest_edge is None:
        given.setdefault("shortest_edge", 1)  # which enlarges nothing: the task's own, or a preset, has no edges
    try:
        sampling = replace(own, **given)
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from error
    if sampling.strategy == "auto" and "num_frames" in given:
        raise UserError(
            f"the strategy 'auto' shows as many frames as fit the token budget, whatever {written('num_frames')} says: "
            f"leave out {written('num_frames')}, or use another {written('strategy')}"
        )
    shortest, longest = sampling.shortest_edge, sampling.longest_edge
    if given.keys() & {"shortest_edge", "longest_edge"} and shortest and longest and longest < shortest:
        raise UserError(
            f"the longest edge of {longest} pixels is below the shortest edge of {shortest}, to which both would be "
            f"raised, so that frames lose their aspect ratio: give {written('shortest_edge')} and "
            f"{written('longest_edge')}, the first at most the second ({written('shortest_edge', '1')} raises nothing)"
        )
    return sampling


def _sized_in_one_way(given: dict[str, Any], written: Callable[..., str]) -> dict[str, Any]:
    """``given``, with the fields switched off that size frames in another way. Raises UserError for both ways."""
    edges, bounds = ([name for name in names if given.get(name) is not None] for names in (EDGES, BOUNDS))
    if edges and bounds:
        raise UserError(
            f"{written(edges[0])} sizes frames by an edge, {written(bounds[0])} by their area: give one of them"
        )
    others = EDGES if bounds else BOUNDS if given.keys() & set(EDGES) else ()
    return {**dict.fromkeys(others), **given}


def check_one_size(jobs: Sequence[Job]) -> None:
    """Raise UserError where numbers of frames that are read together, as ``jobs`` do, would be of unlike sizes."""
    if any(job.sampling.total_pixels for job in jobs):
        raise UserError(
            "several numbers of frames are read together, at one size, but a budget of pixels for all frames "
            "(total_pixels) gives each number a size of its own: size frames by an edge (--longest-edge) or not at all "
            "(--keep-size), or make a run with each number"
        )


def _settings_with(own: GenerationSettings, given: Mapping[str, Any], task: str) -> GenerationSettings:
    """``own`` with the fields that a user gives. Raises UserError where one of them would have no effect."""
    try:
        settings = replace(own, **given)
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from error
    unused = [f"--{name.replace('_', '-')}" for name in ("top_p", "top_k") if name in given]
    if given.get("temperature", 1.0) not in (0, 1):  # those two are said of greedy decoding as well
        unused.append("temperature")
    if unused and not settings.do_sample:
        raise UserError(
            f"{task} is answered greedily, where {' and '.join(unused)} has no effect: sample (--temperature 1; "
            "do_sample=True in Python), or leave it out"
        )
    return settings


def warn_of_defects(job: Job) -> None:
    for defect in job.task.defects[:20]:
        log.warning("%s: %s", job.name, defect)
    if len(job.task.defects) > 20:
        log.warning("%s: ... and %d more defects, all in run.json", job.name, len(job.task.defects) - 20)


@dataclass(frozen=True)
class Layout:
    """On what a run is spread out: with nothing given, this process alone.

    gpus            how many are used: a number, or "all" that Ray knows of
    gpus_per_model  that one replica gets; a model larger than a GPU is spread by its device_map, a fraction lets
                    small models share one
    replicas        so many of the model without GPUs, instead of ``gpus``
    address         of a running Ray cluster; None starts Ray on this machine, unless RAY_ADDRESS names one
    """

    gpus: int | Literal["all"] | None = None
    gpus_per_model: float = 1
    replicas: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.replicas is not None and self.gpus is not None:
            raise UserError("give a number of GPUs (--gpus) or of replicas without GPUs (--replicas), not both")
        for name, value in (("GPUs", self.gpus), ("replicas", self.replicas), ("GPUs a model", self.gpus_per_model)):
            if value is not None and value != "all" and not 0 < value < math.inf:
                raise UserError(f"the number of {name} must be positive, not {value}")
        if self.gpus_per_model > 1 and self.gpus_per_model != int(self.gpus_per_model):
            raise UserError(f"a model gets a whole number of GPUs or a part of one, not {self.gpus_per_model:g}")

    @property
    def elsewhere(self) -> bool:
        """Whether other machines than this one may do the work, whose files are others."""
        return self.on_ray and bool(self.address or os.environ.get("RAY_ADDRESS"))

    @property
    def on_ray(self) -> bool:
        return self.gpus is not None or self.replicas is not None or self.address is not None


@dataclass(frozen=True)
class Job:
    """A task with everything that decides what is asked and how. ``source`` is how the task is found again."""

    task: Task
    source: str
    protocol: str
    split: str | None
    sampling: FrameSampling
    generation: GenerationSettings
    backend: str
    probes: Probes = field(default_factory=Probes)
    frame_sets: FrameSets | None = None  # the frames of each question, in place of those that ``sampling`` chooses
    times: Times = field(default_factory=Times)

    @property
    def name(self) -> str:
        return safe_name(self.task.name)

    def shown(self, video: Video) -> dict[Rung, list[str]]:
        """What is shown of ``video``, and the questions that are asked about each, by id: one sampling for all, unless
        questions have frames of their own."""
        alike: dict[Rung, list[str]] = {}
        for question in video.questions:
            rung = self._shown_for(question) if question.problem is None else None
            if rung is not None:
                alike.setdefault(rung, []).append(question.id)
        return alike

    def _shown_for(self, question: Question) -> Rung | None:
        if self.frame_sets is not None:
            return self.frame_sets.of(question, self.sampling)
        return self.task.sampling_for(question, self.sampling)

    def fingerprint(self, videos: Sequence[Video], unmade: Collection[str] = ()) -> dict[str, Any]:
        """What decides the records, for run.json; the questions ``unmade``, by id, count as without a prompt."""
        return {
            "source": self.source,
            "version": self.task.version,
            "split": self.split,
            "protocol": self.protocol,
            "sampling": {**self._frames(), **self._backend_if_another()},
            "generation": self.generation.describe(),
            **self.times.describe(self.task),
            **self.probes.describe(),
            "annotations": _annotations_digest(videos),
            **self._frames_of_questions(videos),
            **({} if self.task.prompts_need_clip else self._prompts(videos, unmade)),
        }

    def trials(self, question: Question, seeds: Sequence[int]) -> list[Trial]:
        """The times that ``question`` is asked, with so many seeds."""
        return self.probes.trials(self.task, question, seeds)

    def put(self, question: Question, trial: Trial) -> Question:
        """``question`` as it is asked in that trial."""
        return put(self.task, question, trial)

    def prompt(self, video: Video, question: Question, clip: Clip | None = None, variant: int = 0) -> str:
        """The task's prompt, in the wording of that number. Raises what the task raises, and TypeError where it returns
        no text."""
        text = self.task.prompt(video, question, self.protocol, clip)
        if not isinstance(text, str):
            raise TypeError(f"{type(self.task).__name__}.prompt returned {type(text).__name__}, not str")
        instructions = self.task.instructions(question, self.protocol) if variant else ()
        return reworded(text, instructions, variant, len(question.options))

    def _prompts(self, videos: Iterable[Video], unmade: Collection[str]) -> dict[str, Any]:
        """A digest of what is asked, so that prompts edited under the same ``version`` do not mix in one run; and the
        questions whose prompt cannot be made, which may be mended."""
        digest, without, unmade = hashlib.sha256(), [], frozenset(unmade)
        for video in videos:
            for question in video.questions:
                for trial in self.trials(question, [0]) if question.problem is None else ():
                    prompt = None if question.id in unmade else self._prompt_or_failure(video, question, trial)
                    digest.update(json.dumps([question.id, prompt]).encode())
                    without += [question.id] if prompt is None and question.id not in without else []
        return {"prompts": digest.hexdigest()[:16], **({"without_prompt": without} if without else {})}

    def _prompt_or_failure(self, video: Video, question: Question, trial: Trial) -> str | None:
        try:
            return self.prompt(video, self.put(question, trial), variant=trial.variant)
        except Exception:  # a failed question, when it is asked
            return None

    def _frames_of_questions(self, videos: Iterable[Video]) -> dict[str, Any]:
        """A digest of what else than ``sampling`` the task has questions asked about."""
        if self.frame_sets is not None or not self.task.questions_differ_in_frames:
            return {}
        digest = hashlib.sha256()
        for video in videos:
            for rung, ids in self.shown(video).items():
                digest.update(json.dumps([ids, None if rung == self.sampling else rung.fields()]).encode())
        return {"frames_of_questions": digest.hexdigest()[:16]}

    def _frames(self) -> dict[str, Any]:
        own = self.sampling.describe()
        return own if self.frame_sets is None else self.frame_sets.describe(own)

    def _backend_if_another(self) -> dict[str, str]:
        # Its frames can be others; those of pyav-plain cannot.
        return {} if self.backend.startswith("pyav") else {"backend": self.backend}


def _annotations_digest(videos: Iterable[Video]) -> str:
    digest = hashlib.sha256()
    for video in videos:
        for q in video.questions:
            row = [video.id, video.start_s, video.end_s, q.id, q.text, q.options, q.answer, q.problem is None]
            digest.update(json.dumps(row).encode())
    return digest.hexdigest()[:16]


def prepare_task(
    task: str | Task,
    protocol: str | None,
    split: str | None,
    sampling: Mapping[str, Any] | FrameSampling | None,
    generation: Mapping[str, Any] | None,
    backend: str,
    probes: Probes | None = None,
    preset: Preset | None = None,
    frame_sets: FrameSets | None = None,
    times: Times | None = None,
) -> Job:
    source = task if isinstance(task, str) else f"{type(task).__module__}:{type(task).__qualname__}"
    if isinstance(task, str):
        if task.partition(":")[0].endswith(".py"):
            source = str(Path(task).resolve())
        task = registry.load_task(task)
    else:
        registry.check_declared(task)
    if protocol is None:  # the Vamba paper's, of the benchmarks that it has
        protocol = "vamba" if "vamba" in task.protocols else task.protocols[0]
    if protocol not in task.protocols:
        asked_by = f" (of the preset {preset.name!r}: --protocol overrides it)" if preset and preset.protocol else ""
        near = did_you_mean(protocol, task.protocols)
        raise UserError(f"{task.name} has no protocol {protocol!r}{near}{asked_by}; it has {', '.join(task.protocols)}")
    check_split(task, split)
    if not isinstance(sampling, FrameSampling):
        sampling = sampling_with(preset.sampling if preset else task.sampling_under(protocol), sampling or {})
    given = preset.generation_with(generation or {}) if preset else generation or {}
    settings = _settings_with(task.generation(protocol), given, task.name)
    return Job(
        task, source, protocol, split, sampling, settings, backend, probes or Probes(), frame_sets, times or Times()
    )


def check_split(task: Task, split: str | None) -> None:
    """Raise UserError, with the nearest, for a split that a task has not."""
    if split is not None and split not in task.splits:
        near = did_you_mean(split, task.splits)
        raise UserError(f"{task.name} has no split {split!r}{near}; it has {' and '.join(task.splits)}")


def labelled_models(
    models: Sequence[str | Model], model_args: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, str | Model, Mapping[str, Any]]]:
    labelled: list[tuple[str, str | Model, Mapping[str, Any]]] = []
    named: set[str] = set()
    for model in models:
        if isinstance(model, Model):
            labelled.append((getattr(model, "name", type(model).__name__), model, {}))
            continue
        label, _, name = model.rpartition("=")
        if not name:
            raise UserError(f"{model} names no model: write LABEL=MODEL, or MODEL alone")
        own, source, arguments = registry.named_model(name, model_args.get(label or name, {}))
        if not label and own != name and own in model_args:  # of a checkpoint, by either name
            _, _, arguments = registry.named_model(name, {**model_args.get(name, {}), **model_args[own]})
        named.add(label or name)
        labelled.append((label or own, source, arguments))
    labels = [label for label, _, _ in labelled]
    if unused := [label for label in model_args if label not in {*labels, *named}]:
        near = did_you_mean(unused[0], labels)
        raise UserError(f"arguments for {unused[0]!r}, which is not among the models {', '.join(labels)}{near}")
    if len(set(labels)) != len(labels):
        raise UserError("two models have the same label: tell them apart with label=name")
    check_told_apart("models", labels, "tell them apart with label=name")
    return [(safe_label(label), source, arguments) for label, source, arguments in labelled]


def check_told_apart(what: str, names: Sequence[str], advice: str) -> None:
    """Raise UserError where two names are one in the names of files."""
    by_file: dict[str, str] = {}
    for name in names:
        if (other := by_file.setdefault(safe_label(name), name)) != name:
            raise UserError(
                f"the {what} {other!r} and {name!r} would both be called {safe_label(name)!r} in the names of files: "
                f"{advice}"
            )


def check_captions(jobs: Sequence[Job], labelled: Sequence[tuple[str, str | Model, Any]]) -> None:
    """Raise UserError where text is put between the frames, by a protocol or as times, and a model cannot take it."""
    for job in jobs:
        if job.protocol not in job.task.interleaved and not job.times.between:
            continue
        for label, source, _ in labelled:
            kind = source if isinstance(source, Model) else registry.adapter_class(source)
            if kind.reads_video and not kind.takes_captions:
                if job.times.between:
                    raise UserError(
                        f"the model {label!r} cannot take text between the frames: tell times before the prompt "
                        f"(--times {job.times.way.removesuffix('-between')})"
                    )
                raise UserError(
                    f"{job.name} under the protocol {job.protocol!r} puts text between the frames, which the model "
                    f"{label!r} cannot take: use another --protocol or another model"
                )


def with_preset(
    preset: Preset, labelled: Sequence[tuple[str, str | Model, Mapping[str, Any]]]
) -> list[tuple[str, str | Model, Mapping[str, Any]]]:
    """The models of a run with the preset's arguments, where they have none of that name; who sees no video takes none.

    Raises UserError where a model cannot take one of them.
    """
    return [(label, source, _arguments_with(preset, label, source, given)) for label, source, given in labelled]


def _arguments_with(preset: Preset, label: str, source: str | Model, given: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = source if isinstance(source, Model) else registry.adapter_class(source)
    missing = {name: value for name, value in preset.model.items() if name not in given}
    if not (missing and kind.reads_video):
        return given
    for name, value in missing.items():
        if isinstance(source, Model) or not registry.takes_argument(source, name):
            why = "was built before the run" if isinstance(source, Model) else "has no such argument"
            raise UserError(
                f"the preset {preset.name!r} gives models {name}={value!r}, which cannot act on {label!r}: it {why}. "
                "Leave out --preset and give its other settings by their options (docs/presets.md has them)"
            )
    return {**missing, **given}

"""The loop: load a video, encode it once, ask every question about it, record each answer at once.

Knows tasks and adapters only through their contracts. Nothing that goes wrong with one video or one
question ends the run: it is recorded with its reason and the loop goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vamba_eval import metering, registry
from vamba_eval.contracts import (
    GenerationSettings,
    JudgedTask,
    ModelAdapter,
    Prompt,
    Question,
    ScoredRecord,
    Task,
    UserError,
    Video,
)
from vamba_eval.loading import Loaded, Reader, Reading
from vamba_eval.metering import GpuMonitor, HostMemory, Meter, PhaseCost
from vamba_eval.progress import Line, Progress
from vamba_eval.sampling import FrameSampling, Ladder
from vamba_eval.scored import scored_record
from vamba_eval.store import Run, latest_responses, safe_name
from vamba_eval.thumbnails import Thumbnails

if TYPE_CHECKING:
    from vamba_eval.cluster import Cluster
    from vamba_eval.leaderboard import Leaderboard

log = logging.getLogger(__name__)


def evaluate(
    tasks: Sequence[str | Task],
    models: Sequence[str | ModelAdapter],
    *,
    data_root: str | Path | None = None,
    output: str | Path = "results",
    name: str | None = None,
    protocol: str = "vamba",
    split: str | None = None,
    sampling: Mapping[str, Any] | FrameSampling | None = None,
    generation: Mapping[str, Any] | None = None,
    model_args: Mapping[str, Mapping[str, Any]] | None = None,
    reading: Reading | None = None,
    limit: int | None = None,
    ladder: Sequence[int] = (),
    seeds: int = 1,
    blind: bool = False,
    accept_environment: bool = False,
    thumbnails: bool = True,
    progress: bool = True,
    gpus: int | Literal["all"] | None = None,
    gpus_per_model: float = 1,
    replicas: int | None = None,
    ray_address: str | None = None,
) -> Leaderboard:
    """Ask ``models`` every question of ``tasks``, going on where an earlier call in the same place stopped.

    tasks, models   names as on the command line (``label=name`` gives a model a label), or instances
    output, name    the run is the folder ``output/name``; the name defaults to the tasks'
    protocol        prompts and scoring: ``vamba`` or ``lmms-eval``
    sampling        fields that replace those of each task's own FrameSampling, or one for all
    generation      fields that replace those of the protocol's GenerationSettings
    model_args      arguments of each model, by label
    reading         how videos are read: decoder, worker processes, time limit, clip cache
    limit           the first so many videos of each task
    ladder          numbers of frames: the run is made with each of them, in folders of their own below the run's, and
                    each video is read once for all
    seeds           how often each question is asked, with seeds that count up from the settings' own; above 1 for
                    sampled decoding only
    blind           ask each model that reads videos a second time, without them, as ``<label>-blind``
    accept_environment  go on with a run that was begun with other package versions or hardware
    thumbnails      keep a strip of small frames of each clip that a model saw, for reports
    gpus, gpus_per_model, replicas, ray_address  spread the run out with Ray (see ``cluster.Layout``); without any of
                    them it is this process's alone. The records are the same, so each can finish what another began

    Returns the leaderboard of the run. Raises UserError for anything the caller can mend.
    """
    from vamba_eval.leaderboard import Leaderboard

    if limit is not None and limit <= 0:
        raise UserError(f"the limit must be a positive number of videos, not {limit}")
    if seeds <= 0:
        raise UserError(f"the number of seeds must be positive, not {seeds}")
    if not tasks or not models:
        raise UserError("name at least one task and one model")
    reading = reading or Reading()
    samplings = _rungs(sampling, ladder)
    rungs = [
        [_prepare_task(task, protocol, split, one, generation, reading.backend) for task in tasks] for one in samplings
    ]
    jobs = rungs[0]
    if greedy := [job.name for job in jobs if seeds > 1 and not job.generation.do_sample]:
        raise UserError(
            f"{greedy[0]} is answered greedily, so {seeds} seeds would give one response: sample (--temperature 1), "
            "or leave --seeds"
        )
    labelled = _labelled(models, model_args or {})
    _check_captions(jobs, labelled)
    videos_of = [job.task.load(data_root, split) for job in jobs]
    for job, videos in zip(jobs, videos_of, strict=True):
        if not videos:
            raise UserError(f"{job.name}: its annotations hold no question; are the files complete?")
        _warn_of_defects(job)
    defects_of = [[str(defect) for defect in job.task.defects] for job in jobs]
    folder = Path(output) / safe_name(name or "+".join(job.name for job in jobs))
    folders = [folder / f"{count}-frames" for count in ladder] or [folder]
    with ExitStack() as stack:
        cluster: Cluster | None = None
        if gpus is not None or replicas is not None or ray_address is not None:
            layout = (gpus, gpus_per_model, replicas, ray_address)
            cluster = stack.enter_context(_cluster(layout, reading, models, accept_environment))
        environment = metering.run_environment() if cluster is None else cluster.environment()
        runs = [
            stack.enter_context(Run(place, environment, accept_environment=accept_environment)) for place in folders
        ]
        strips = [Thumbnails(place) if thumbnails else None for place in folders]
        workplace = cluster or stack.enter_context(Reader(reading))
        watched = Watched(stack.enter_context(HostMemory()), stack.enter_context(GpuMonitor()))
        display = stack.enter_context(Progress(enabled=progress))
        for run, own_jobs in zip(runs, rungs, strict=True):
            for job, defects, videos in zip(own_jobs, defects_of, videos_of, strict=True):
                questions = sum(len(video.questions) for video in videos)
                counts = {"videos": len(videos), "questions": questions, **({"seeds": seeds} if seeds > 1 else {})}
                run.register_task(job.name, job.fingerprint(videos), counts, defects)
        for label, source, arguments in labelled:
            if isinstance(source, ModelAdapter):
                adapter = source
            elif cluster is not None:
                adapter = cluster.load_adapter(source, arguments)
            else:
                adapter = registry.load_adapter(source, **arguments)
            try:
                for asked in Asked.all_of(adapter, label, seeds, blind):
                    for run in runs:
                        run.register_model(asked.label, asked.identity())
                    for number, videos in enumerate(videos_of):
                        desks = [
                            stack.enter_context(_Desk(own_jobs[number], run, asked, own_strips))
                            for run, own_jobs, own_strips in zip(runs, rungs, strips, strict=True)
                        ]
                        if not (asked.looks or jobs[number].task.prompts_need_clip):
                            del desks[1:]  # who sees no frame answers alike whatever their number
                        _answer_all(desks, videos[:limit], asked, workplace, watched, display)
            finally:
                adapter.close()
    return Leaderboard(Leaderboard.from_runs([folder]).results, folder)


def _cluster(layout: tuple[Any, ...], reading: Reading, models: Sequence[object], accept_environment: bool) -> Cluster:
    try:
        from vamba_eval.cluster import Cluster, Layout
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UserError("several GPUs or machines need Ray: pip install 'vamba-eval[ray]'") from error
    if built := [model for model in models if isinstance(model, ModelAdapter)]:
        raise UserError(
            f"the model {built[0].name!r} is built already, so it has no replicas: give its name and model_args"
        )
    return Cluster(Layout(*layout), reading, accept_environment=accept_environment)


def _rungs(
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


def _warn_of_defects(job: Job) -> None:
    for defect in job.task.defects[:20]:
        log.warning("%s: %s", job.name, defect)
    if len(job.task.defects) > 20:
        log.warning("%s: ... and %d more defects, all in run.json", job.name, len(job.task.defects) - 20)


@dataclass
class Asked:
    """A model and a way of asking it: with the video, or (``blind``) without. ``warm`` after its first video."""

    adapter: ModelAdapter
    label: str
    seeds: int
    blind: bool = False
    warm: bool = False

    @classmethod
    def all_of(cls, adapter: ModelAdapter, label: str, seeds: int, blind: bool) -> list[Asked]:
        seeing = cls(adapter, label, seeds)
        return [seeing, cls(adapter, f"{label}-blind", seeds, True)] if blind and adapter.reads_video else [seeing]

    @property
    def looks(self) -> bool:
        return self.adapter.reads_video and not self.blind

    def identity(self) -> dict[str, Any]:
        about = {"adapter": self.adapter.name, "reads_video": self.looks, **self.adapter.describe()}
        return {**about, "blind": True} if self.blind else about


@dataclass(frozen=True)
class Watched:
    """What goes on beside the models' work."""

    host: HostMemory
    gpu: GpuMonitor

    def reset(self) -> None:
        self.host.reset()
        self.gpu.reset()

    def fields(self) -> dict[str, Any]:
        """Of a record, since the last reset."""
        load = self.gpu.utilization
        return {"host_bytes": self.host.peak, **({} if load is None else {"gpu_utilization": round(load, 3)})}


class Job:
    """A task with everything that decides what is asked and how."""

    def __init__(
        self,
        task: Task,
        source: str,
        protocol: str,
        split: str | None,
        sampling: FrameSampling,
        generation: GenerationSettings,
        backend: str,
    ) -> None:
        self.task, self.source, self.protocol, self.split = task, source, protocol, split
        self.sampling, self.generation, self.backend = sampling, generation, backend
        self.name = safe_name(task.name)

    def fingerprint(self, videos: Sequence[Video]) -> dict[str, Any]:
        return {
            "source": self.source,
            "version": self.task.version,
            "split": self.split,
            "protocol": self.protocol,
            "sampling": {**self.sampling.describe(), **self._backend_if_another()},
            "generation": self.generation.describe(),
            "annotations": _annotations_digest(videos),
        }

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


def _prepare_task(
    task: str | Task,
    protocol: str,
    split: str | None,
    sampling: Mapping[str, Any] | FrameSampling | None,
    generation: Mapping[str, Any] | None,
    backend: str,
) -> Job:
    source = task if isinstance(task, str) else f"{type(task).__module__}:{type(task).__qualname__}"
    if isinstance(task, str):
        if task.partition(":")[0].endswith(".py"):
            source = str(Path(task).resolve())
        task = registry.load_task(task)
    if protocol not in task.protocols:
        raise UserError(f"{task.name} has no protocol {protocol!r}; it has {', '.join(task.protocols)}")
    try:
        if not isinstance(sampling, FrameSampling):
            sampling = replace(task.sampling_under(protocol), **(sampling or {}))
        settings = replace(task.generation(protocol), **(generation or {}))
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from error
    return Job(task, source, protocol, split, sampling, settings, backend)


def _labelled(
    models: Sequence[str | ModelAdapter], model_args: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, str | ModelAdapter, Mapping[str, Any]]]:
    labelled: list[tuple[str, str | ModelAdapter, Mapping[str, Any]]] = []
    for model in models:
        if isinstance(model, ModelAdapter):
            labelled.append((model.name, model, {}))
            continue
        label, _, adapter_name = model.rpartition("=")
        label = label or adapter_name
        labelled.append((label, adapter_name, model_args.get(label, {})))
    labels = [label for label, _, _ in labelled]
    if unused := [label for label in model_args if label not in labels]:
        raise UserError(f"arguments for {unused[0]!r}, which is not among the models {', '.join(labels)}")
    if len(set(labels)) != len(labels):
        raise UserError("two models have the same label: tell them apart with label=name")
    for _, source, _ in labelled:
        if isinstance(source, str):
            registry.check_adapter(source)
    return [(safe_name(label), source, arguments) for label, source, arguments in labelled]


def _check_captions(jobs: Sequence[Job], labelled: Sequence[tuple[str, str | ModelAdapter, Any]]) -> None:
    """Raise UserError where a protocol puts text between the frames and a model cannot take it."""
    for job in jobs:
        if job.protocol not in job.task.interleaved:
            continue
        for label, source, _ in labelled:
            kind = source if isinstance(source, ModelAdapter) else registry.adapter_class(source)
            if kind.reads_video and not kind.takes_captions:
                raise UserError(
                    f"{job.name} under the protocol {job.protocol!r} puts text between the frames, which the model "
                    f"{label!r} cannot take: use another --protocol or another model"
                )


class _Desk:
    """Where the responses to one job and pictures of its clips go, and which responses are there; a context manager."""

    def __init__(self, job: Job, run: Run, asked: Asked, strips: Thumbnails | None) -> None:
        self.job, self._run = job, run
        self.strips = strips if asked.looks else None
        self.records = run.records(job.name, asked.label)
        self.base = {"task": job.name, "model": asked.label, "environment": run.environment_number}
        self.seeds = range(job.generation.seed, job.generation.seed + asked.seeds)
        self.known = [r for r in latest_responses(self.records.path).values() if r["error"] is None]
        self._answered = {(record["question"], record.get("seed", 0)) for record in self.known}

    def __enter__(self) -> _Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self.records.close()

    def base_in(self, environment: Mapping[str, Any]) -> dict[str, Any]:
        """What begins the records of answers given in ``environment``."""
        return {**self.base, "environment": self._run.environment_of(environment)}

    def open(self, video: Video) -> list[Open]:
        """What is still to be asked about ``video``."""
        open_questions = []
        for question in video.questions:
            if seeds := [seed for seed in self.seeds if (question.id, seed) not in self._answered]:
                open_questions.append(Open(question, seeds))
        return open_questions


@dataclass(frozen=True)
class Open:
    """A question, and the seeds with which it is still to be asked."""

    question: Question
    seeds: Sequence[int]


@dataclass(frozen=True)
class Work:
    """A video with what is still to be asked about it: at one job, or at each rung of a ladder."""

    video: Video
    open: Sequence[Sequence[Open]]


# The number of a job with a record of it, or with None when it is done with a video.
Event = tuple[int, dict[str, Any] | None]


def _answer_all(
    desks: Sequence[_Desk],
    videos: Sequence[Video],
    asked: Asked,
    workplace: Reader | Cluster,
    watched: Watched,
    display: Progress,
) -> None:
    """One model on one benchmark: at one desk, or at one for each rung of a ladder."""
    lines = [_begin_line(desk, videos, asked, display, ladder=len(desks) > 1) for desk in desks]
    works = []
    for video in videos:
        open_by_rung = []
        for desk, line in zip(desks, lines, strict=True):
            open_questions = desk.open(video)
            for one in open_questions:
                for seed in one.seeds if one.question.problem is not None else ():
                    about = {**desk.base, "video": video.id, "seed": seed}
                    desk.records.append(_record(desk.job, about, one.question, error=one.question.problem))
                    line.add(None)
            open_by_rung.append([one for one in open_questions if one.question.problem is None])
        if any(open_by_rung):
            works.append(Work(video, open_by_rung))
    shift: Any
    if isinstance(workplace, Reader):
        shift = _Alone(desks, works, asked, workplace, watched)
    else:
        bases, strips = [desk.base_in for desk in desks], [desk.strips for desk in desks]
        shift = workplace.shift([desk.job for desk in desks], works, asked, bases, strips, watched, display)
    with closing(iter(shift)) as answers:
        for number, record in answers:
            if record is None:
                lines[number].video()
            else:
                desks[number].records.append(record)
                lines[number].add(_score(desks[number].job, record))
    for line in lines:
        line.finish(shift.summary() if works else "nothing left to ask")


class _Alone:
    """One video after the other, in this process; others are read meanwhile."""

    def __init__(
        self, desks: Sequence[_Desk], works: Sequence[Work], asked: Asked, reader: Reader, watched: Watched
    ) -> None:
        self._desks, self._works, self._asked, self._reader, self._watched = desks, works, asked, reader, watched
        self._account = _Account()
        self.summary = self._account.summary

    def __iter__(self) -> Generator[Event]:
        jobs = [desk.job for desk in self._desks]
        work_of = {work.video.id: work for work in self._works}
        videos = [work.video for work in self._works]
        sampling = sampling_of(jobs, self._asked)
        loads = self._reader.clips(videos, sampling) if sampling is not None else self._reader.check(videos)
        with closing(loads):
            while (loaded := self._account.next(loads)) is not None:
                bases = [{**desk.base, "wait_s": 0.0} for desk in self._desks]
                bases[0]["wait_s"] = self._account.last_wait_s
                work = work_of[loaded.video.id]
                yield from answer_work(jobs, work, loaded, self._asked, self._watched, bases, self._picture)
                del loaded  # the next clip may have come meanwhile

    def _picture(self, number: int, loaded: Loaded) -> None:
        strips = self._desks[number].strips
        if strips and loaded.clip is not None and loaded.digest is not None:
            strips.save(loaded.clip, loaded.digest)


def sampling_of(jobs: Sequence[Job], asked: Asked) -> FrameSampling | Ladder | None:
    """What is read of each video for ``jobs``, which differ in the number of frames alone; None for nothing."""
    if not (asked.looks or jobs[0].task.prompts_need_clip):
        return None
    return jobs[0].sampling if len(jobs) == 1 else Ladder(tuple(job.sampling for job in jobs))


def _begin_line(desk: _Desk, videos: Sequence[Video], asked: Asked, display: Progress, *, ladder: bool) -> Line:
    asked_for = {question.id for video in videos for question in video.questions}
    known = [record for record in desk.known if record["question"] in asked_for]
    name = f"{desk.job.name} · {asked.label}" + (f" · {desk.job.sampling.num_frames} frames" if ladder else "")
    total = len(asked_for) * len(desk.seeds)
    done = sum(record.get("seed", 0) in desk.seeds for record in known)
    scored = [score for record in known if (score := _score(desk.job, record)) is not None]
    return display.begin(desk.job.task, name, total, scored, done)


def _score(job: Job, record: Mapping[str, Any]) -> ScoredRecord | None:
    return None if record["error"] is not None else scored_record(job.task, record, job.protocol)


class _Account:
    """What reading cost a model: how long it waited for clips, and what the clip cache saved."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.videos = self.hits = self.cacheable = 0
        self.wait_s = self.last_wait_s = self.read_s = self.saved_s = 0.0

    def next(self, loads: Generator[Loaded]) -> Loaded | None:
        """The next of ``loads``, the wait for it measured."""
        start = time.perf_counter()
        loaded = next(loads, None)
        if loaded is not None:
            self.last_wait_s = round(time.perf_counter() - start, 6)
            self.wait_s += self.last_wait_s
            self.videos += 1
            self.read_s += loaded.seconds
            self.cacheable += loaded.clip is not None
            if loaded.saved_s is not None:
                self.hits += 1
                self.saved_s += loaded.saved_s
        return loaded

    def summary(self) -> str:
        elapsed = time.perf_counter() - self.start
        share = 100 * self.wait_s / elapsed if elapsed else 0.0
        text = (
            f"{self.videos:,} videos in {elapsed:,.1f} s, of it {self.wait_s:,.1f} s ({share:.0f} %) waiting for them"
        )
        if self.hits:
            rate = 100 * self.hits / self.cacheable
            text += (
                f"; clip cache: {self.hits:,} of {self.cacheable:,} clips ({rate:.0f} %), {self.saved_s:,.0f} s saved"
            )
        return text


def answer_work(
    jobs: Sequence[Job],
    work: Work,
    loaded: Loaded,
    asked: Asked,
    watched: Watched,
    bases: Sequence[Mapping[str, Any]],
    see: Callable[[int, Loaded], None] = lambda number, loaded: None,
) -> Iterator[Event]:
    """The events of ``work``. ``see`` gets the clip of each job before it is answered."""
    for number, (job, open_questions, base) in enumerate(zip(jobs, work.open, bases, strict=True)):
        if open_questions:
            own = loaded if len(jobs) == 1 else loaded.part(number)
            see(number, own)
            for record in answer_video(job, own, open_questions, asked, watched, base):
                yield number, record
            yield number, None


# The phases of an answer; all others of a question that is the first are its video's.
_ANSWERING = ("generate", "first_token", "further_tokens")


def answer_video(
    job: Job, loaded: Loaded, open_questions: Sequence[Open], asked: Asked, watched: Watched, base: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The records of ``open_questions``, each as soon as it is known: responses, or why there are none."""
    base = {**base, "video": loaded.video.id, "load_s": round(loaded.seconds, 6)}
    if loaded.saved_s is not None:
        base["cache_saved_s"] = round(loaded.saved_s, 6)
    problem = loaded.problem
    encoded: Any = None
    watched.reset()
    meter = Meter(watched.gpu)
    if problem is None:
        if (clip := loaded.clip) is not None:
            base |= {"frames": len(clip.frames), "size": list(clip.frames.shape[1:3]), "frames_digest": loaded.digest}
            if clip.note:
                base["clip_note"] = clip.note
        try:
            if clip is not None and asked.looks and job.protocol in job.task.interleaved:
                clip.captions = tuple(job.task.captions(loaded.video, clip, job.protocol))
            with meter.phase("encode"):
                encoded = asked.adapter.encode(clip if asked.looks else None)
            if (tokens := asked.adapter.video_tokens(encoded)) is not None:
                base["video_tokens"] = tokens
        except Exception as error:
            problem = _failure("encoding", error)
            with suppress(Exception):  # a GPU that has failed may say nothing more
                base |= _cost(meter.take())
        if problem is None and not asked.warm:
            base["warmup"] = asked.warm = True
    for one in open_questions:
        for seed in one.seeds:
            about = {**base, "seed": seed}
            if problem is not None:
                yield _record(job, about, one.question, error=problem)
            else:
                settings = replace(job.generation, seed=seed)
                record, costs = _ask(job, loaded, one.question, asked.adapter, encoded, settings, meter, about)
                if "cost" not in base:  # asked for earlier, it would have made the first question wait for the GPU
                    base |= _cost({name: cost for name, cost in costs.items() if name not in _ANSWERING})
                    costs = {name: cost for name, cost in costs.items() if name in _ANSWERING}
                if record["error"] is None:
                    record |= _cost(costs, base["cost"])
                yield {**base, **record, **watched.fields()}


def _ask(
    job: Job,
    loaded: Loaded,
    question: Question,
    adapter: ModelAdapter,
    encoded: Any,
    settings: GenerationSettings,
    meter: Meter,
    base: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, PhaseCost]]:
    """The record of one response, or of why there is none; and what was measured since this was last asked."""
    try:
        text = job.task.prompt(loaded.video, question, job.protocol, loaded.clip)
        with meter.phase("generate"):
            (answer,) = adapter.generate(encoded, [Prompt(text, len(question.options))], settings)
        costs = meter.take()
    except Exception as error:
        record = _record(job, base, question, error=_failure("answering", error))
        with suppress(Exception):  # as above
            return record, meter.take()
        return record, {}
    peak, kind = meter.peak()
    record = _record(job, base, question, prompt=text, response=settings.cut(answer.text))
    record |= {"num_tokens": answer.num_tokens, "finish_reason": answer.finish_reason}
    if answer.prompt_tokens:
        record["prompt_tokens"] = answer.prompt_tokens
    return record | {"peak_bytes": peak, "peak_kind": kind}, costs


def _cost(measured: Mapping[str, PhaseCost], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A record's fields of what was ``measured`` after the costs ``before``: by phase, and in all in seconds."""
    costs = {name: cost.to_json() for name, cost in measured.items()}
    totals = {f"{name}_s": costs[name]["s"] for name in ("encode", "generate") if name in costs}
    if "first_token" in costs:
        del costs["generate"]  # first_token and further_tokens are all of it
    return {**totals, "cost": {**(before or {}), **costs}}


def _record(job: Job, base: Mapping[str, Any], question: Question, **fields: Any) -> dict[str, Any]:
    """One line of the store: enough to score the response again, or to have it judged, without the benchmark's
    files."""
    judged = isinstance(job.task, JudgedTask)
    kept = {name: value for name, value in question.extra.items() if judged or name in job.task.kept}
    return {
        **base,
        **({"extra": kept} if kept else {}),
        "question": question.id,
        "text": question.text,
        "options": list(question.options),
        "answer": question.answer,
        "groups": dict(question.groups),
        "prompt": None,
        "response": None,
        "error": None,
        **fields,
    }


def _failure(phase: str, error: Exception) -> str:
    """One line for the record; the traceback is for --debug."""
    log.debug("%s failed", phase, exc_info=error)
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        with suppress(Exception):
            sys.modules["torch"].cuda.empty_cache()
        hint = str(error) if isinstance(error, MemoryError) and str(error) else "use fewer frames or smaller ones"
        return f"out of memory while {phase}: {hint} (--num-frames, --longest-edge)"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
    return f"{phase} failed: {type(error).__name__}: {reason}"

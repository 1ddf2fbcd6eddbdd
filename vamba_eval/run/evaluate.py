"""The loop: load a video, encode it once, ask every question about it, record each answer at once.

Knows tasks and adapters only through their contracts. Nothing that goes wrong with one video or one
question ends the run: it is recorded with its reason and the loop goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vamba_eval import machine, registry
from vamba_eval.contracts import FrameSampling, ModelAdapter, ScoredRecord, Task, UserError, Video
from vamba_eval.cost.monitor import GpuMonitor, HostMemory
from vamba_eval.reading.reader import Reader, Reading
from vamba_eval.run.answer import record_of
from vamba_eval.run.here import Alone
from vamba_eval.run.plan import Job, check_captions, labelled_models, prepare_task, rungs_of, warn_of_defects
from vamba_eval.run.progress import Line, Progress
from vamba_eval.run.work import Asked, Open, Watched, Work
from vamba_eval.score.scored import scored_record
from vamba_eval.store.runs import Run, latest_responses, safe_name
from vamba_eval.store.thumbnails import Thumbnails

if TYPE_CHECKING:
    from vamba_eval.run.on_ray.cluster import Cluster
    from vamba_eval.tables.leaderboard import Leaderboard


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
    from vamba_eval.tables.leaderboard import Leaderboard

    if limit is not None and limit <= 0:
        raise UserError(f"the limit must be a positive number of videos, not {limit}")
    if seeds <= 0:
        raise UserError(f"the number of seeds must be positive, not {seeds}")
    if not tasks or not models:
        raise UserError("name at least one task and one model")
    reading = reading or Reading()
    samplings = rungs_of(sampling, ladder)
    rungs = [
        [prepare_task(task, protocol, split, one, generation, reading.backend) for task in tasks] for one in samplings
    ]
    jobs = rungs[0]
    if greedy := [job.name for job in jobs if seeds > 1 and not job.generation.do_sample]:
        raise UserError(
            f"{greedy[0]} is answered greedily, so {seeds} seeds would give one response: sample (--temperature 1), "
            "or leave out --seeds"
        )
    labelled = labelled_models(models, model_args or {})
    check_captions(jobs, labelled)
    videos_of = [job.task.load(data_root, split) for job in jobs]
    for job, videos in zip(jobs, videos_of, strict=True):
        if not videos:
            raise UserError(f"{job.name}: its annotations hold no question; are the files complete?")
        warn_of_defects(job)
    defects_of = [[str(defect) for defect in job.task.defects] for job in jobs]
    folder = Path(output) / safe_name(name or "+".join(job.name for job in jobs))
    folders = [folder / f"{count}-frames" for count in ladder] or [folder]
    with ExitStack() as stack:
        cluster: Cluster | None = None
        if gpus is not None or replicas is not None or ray_address is not None:
            layout = (gpus, gpus_per_model, replicas, ray_address)
            cluster = stack.enter_context(_cluster(layout, reading, models, accept_environment))
        environment = machine.run_environment() if cluster is None else cluster.environment()
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
                            stack.enter_context(Desk(own_jobs[number], run, asked, own_strips))
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
        from vamba_eval.run.on_ray.cluster import Cluster, Layout
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UserError("several GPUs or machines need Ray: pip install 'vamba-eval[ray]'") from error
    if built := [model for model in models if isinstance(model, ModelAdapter)]:
        raise UserError(
            f"the model {built[0].name!r} is built already, so it has no replicas: give its name and model_args"
        )
    return Cluster(Layout(*layout), reading, accept_environment=accept_environment)


class Desk:
    """Where the responses to one job and pictures of its clips go, and which responses are there; a context manager."""

    def __init__(self, job: Job, run: Run, asked: Asked, strips: Thumbnails | None) -> None:
        self.job, self._run = job, run
        self.strips = strips if asked.looks else None
        self.records = run.records(job.name, asked.label)
        self.base = {"task": job.name, "model": asked.label, "environment": run.environment_number}
        self.seeds = range(job.generation.seed, job.generation.seed + asked.seeds)
        self.known = [r for r in latest_responses(self.records.path).values() if r["error"] is None]
        self._answered = {(record["question"], record.get("seed", 0)) for record in self.known}

    def __enter__(self) -> Desk:
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


def _answer_all(
    desks: Sequence[Desk],
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
                    desk.records.append(record_of(desk.job, about, one.question, error=one.question.problem))
                    line.add(None)
            open_by_rung.append([one for one in open_questions if one.question.problem is None])
        if any(open_by_rung):
            works.append(Work(video, open_by_rung))
    shift: Any
    if isinstance(workplace, Reader):
        shift = Alone(desks, works, asked, workplace, watched)
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


def _begin_line(desk: Desk, videos: Sequence[Video], asked: Asked, display: Progress, *, ladder: bool) -> Line:
    asked_for = {question.id for video in videos for question in video.questions}
    known = [record for record in desk.known if record["question"] in asked_for]
    name = f"{desk.job.name} · {asked.label}" + (f" · {desk.job.sampling.num_frames} frames" if ladder else "")
    total = len(asked_for) * len(desk.seeds)
    done = sum(record.get("seed", 0) in desk.seeds for record in known)
    scored = [score for record in known if (score := _score(desk.job, record)) is not None]
    return display.begin(desk.job.task, name, total, scored, done)


def _score(job: Job, record: Mapping[str, Any]) -> ScoredRecord | None:
    return None if record["error"] is not None else scored_record(job.task, record, job.protocol)

"""A run: what is to be asked is handed to whoever works for each model, and each answer is recorded at once.

Knows tasks and models only through their contracts. Nothing that goes wrong with one video or one
question ends the run: it is recorded with its reason and the loop goes on.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vamba_eval import presets, registry
from vamba_eval.contracts import FrameSampling, Model, Score, ScoredRecord, Task, UserError, Video, first_line
from vamba_eval.progress import Display
from vamba_eval.reading.reader import Reading
from vamba_eval.run.answer import failed
from vamba_eval.run.check_task import check_questions, files_outside, try_a_prompt, without
from vamba_eval.run.first_look import (
    FirstFailures,
    check_can_write,
    check_models,
    check_there,
    folder_for,
    label_there,
    load_from,
    number_there,
    sampled,
    say_what_is_asked,
    say_who_answers,
)
from vamba_eval.run.frame_sets import check_alone, frame_sets_from
from vamba_eval.run.places import Places
from vamba_eval.run.plan import (
    Job,
    Layout,
    check_captions,
    check_one_size,
    check_told_apart,
    labelled_models,
    log,
    prepare_task,
    rungs_of,
    warn_of_defects,
    with_preset,
)
from vamba_eval.run.probes import Probes
from vamba_eval.run.progress import ModelProgress
from vamba_eval.run.times import Times
from vamba_eval.run.tracebacks import Tracebacks
from vamba_eval.run.work import Assignment, Recorder, Subject, Work
from vamba_eval.run.workplace import Workplace
from vamba_eval.score.scored import scored_record
from vamba_eval.store.records import Record
from vamba_eval.store.runs import Run
from vamba_eval.store.thumbnails import Thumbnails

if TYPE_CHECKING:
    from vamba_eval.tables.leaderboard import Leaderboard


# Videos. Benchmarks often list them by length or by kind, so that the first of many are no fair part: of more than this
# the order is drawn, the same each time, and the score so far and the time left mean something.
_MANY = 100


def evaluate(
    tasks: Sequence[str | Task],
    models: Sequence[str | Model],
    *,
    data_root: str | Path | Sequence[str | Path] | None = None,
    allow_outside: bool = False,
    output: str | Path = "results",
    name: str | None = None,
    protocol: str | None = None,
    split: str | None = None,
    preset: str | None = None,
    sampling: Mapping[str, Any] | FrameSampling | None = None,
    generation: Mapping[str, Any] | None = None,
    model_args: Mapping[str, Mapping[str, Any]] | None = None,
    reading: Reading | None = None,
    limit: int | str | None = None,
    ladder: Sequence[int] = (),
    seeds: int = 1,
    blind: bool = False,
    probes: Probes | None = None,
    frames_from: str | Path | Mapping[str, Any] | None = None,
    times: str = "auto",
    answer_timeout: float | None = None,
    accept_environment: bool = False,
    keep_going: bool = False,
    thumbnails: bool = True,
    progress: bool = True,
    gpus: int | Literal["all"] | None = None,
    gpus_per_model: float = 1,
    replicas: int | None = None,
    ray_address: str | None = None,
) -> Leaderboard:
    """Ask ``models`` every question of ``tasks``, going on where an earlier call in the same place stopped.

    tasks, models   names as on the command line (``suite:NAME`` is a list of tasks, ``label=name`` gives a model a
                    label), or instances
    data_root       holds one folder a benchmark (of several roots, the first that has it); files that annotations or
                    links put outside of it are read only if ``allow_outside`` is given: else their questions fail
    output, name    the run is the folder ``output/name``; the name defaults to the tasks', with what differs behind it
                    where a run of these with another split, protocol or number of frames is there already
    protocol        prompts and scoring: one that each task has, as ``vamba``, ``lmms-eval``, ``official``,
                    ``flexible``; if nobody says, ``vamba`` where a task has it, else the task's first
    preset          a model's authors' settings by name (docs/presets.md), in place of the tasks' own; all arguments
                    that follow, and ``protocol``, override them
    sampling        fields that replace those of each task's own FrameSampling, or one for all
    generation      fields that replace those of the protocol's GenerationSettings
    model_args      arguments of each model, by label
    reading         how videos are read: decoder, worker processes, time limit, clip cache
    limit           the first so many videos of each task, or as ``"50q"`` so many questions, drawn from all groups
    ladder          numbers of frames: the run is made with each of them, in folders of their own below the run's, and
                    each video is read once for all
    seeds           how often each question is asked, with seeds that count up from the settings' own; above 1 for
                    sampled decoding only
    blind           ask each model that reads videos a second time, without them, as ``<label>-blind``
    probes          ask each question in other ways too: with its options in other orders, in other wordings; or show
                    frames in another order
    frames_from     a file with the frames of each question, as a frame selector chose them, or what is in it: see
                    docs/frame-sets.md
    times           how models that are not told when frames were are told: ``auto`` (where a benchmark asks for times),
                    ``off``, ``seconds``, ``m:s``, or between the frames ``seconds-between``, ``m:s-between``
    answer_timeout  seconds that a model has to encode a video, or to answer a question (or a batch of them); then
                    these fail. A model of this process cannot be interrupted: this process ends, and the same call in
                    another goes on without them. A replica is replaced, a served model's request is given up
    accept_environment  go on with a run that was begun with other package versions, hardware or code of a model's file
    keep_going      go on where the first videos all fail alike, which otherwise ends the run
    thumbnails      keep a strip of small frames of each clip that a model saw, for reports
    gpus, gpus_per_model, replicas, ray_address  spread the run out with Ray (see ``cluster.Layout``); without any of
                    them it is this process's alone. The records are the same, so each can finish what another began

    Returns the leaderboard of the run. Raises UserError for anything the caller can mend.
    """
    from vamba_eval.tables.leaderboard import Leaderboard

    of_questions = isinstance(limit, str)
    most = int(limit.rstrip("q") or 0) if isinstance(limit, str) else limit
    if most is not None and most <= 0:
        raise UserError(f"the limit must be a positive number of videos, or of questions as '50q', not {limit}")
    if seeds <= 0:
        raise UserError(f"the number of seeds must be positive, not {seeds}")
    if answer_timeout is not None and not 0 < answer_timeout < float("inf"):
        raise UserError(f"the time for an answer must be a positive number of seconds, not {answer_timeout:g}")
    if not tasks or not models:
        raise UserError("name at least one task and one model")
    tasks = registry.expanded(tasks)
    reading = reading or Reading()
    frame_sets = None
    if frames_from is not None:
        check_alone(tasks, sampling, ladder)
        frame_sets = frame_sets_from(frames_from)
    named = presets.named(preset) if preset is not None else None
    protocol = protocol or (named.protocol if named else None)
    samplings = rungs_of(sampling, ladder)
    rungs = [
        [
            prepare_task(
                task, protocol, split, one, generation, reading.backend, probes, named, frame_sets, Times(times)
            )
            for task in tasks
        ]
        for one in samplings
    ]
    jobs = rungs[0]
    jobs[0].times.check([(job.task, job.protocol) for job in jobs])
    check_told_apart("tasks", [job.task.name for job in jobs], "run them one by one, each with a --name of its own")
    together = bool(ladder) or frame_sets is not None
    check_one_size([job for job in jobs if together or job.task.questions_differ_in_frames])
    if greedy := [job.name for job in jobs if seeds > 1 and not job.generation.do_sample]:
        raise UserError(
            f"{greedy[0]} is answered greedily, so {seeds} seeds would give one response: sample (--temperature 1), "
            "or leave out --seeds"
        )
    labelled = labelled_models(models, model_args or {})
    if named:
        labelled = with_preset(named, labelled)
    check_captions(jobs, labelled)
    folder = folder_for(output, name, jobs, split, ladder)
    check_can_write(folder)
    layout = Layout(gpus, gpus_per_model, replicas, ray_address)
    tracebacks, lines = Tracebacks(folder), Display(enabled=progress)
    say_who_answers(lines, labelled, folder)
    roots = [data_root] if isinstance(data_root, str | Path) else list(data_root or ())
    with tracebacks.keeping():
        if not layout.elsewhere:
            check_models(lines, labelled)
        loaded = [load_from(job.task, roots, split) for job in jobs]
        for job, (videos, _) in zip(jobs, loaded, strict=True):
            if not videos:
                raise UserError(f"{job.name}: its annotations hold no question; are the files complete?")
            check_questions(job.task, videos)
            job.probes.check(job.task, videos)
            try_a_prompt(job, videos)
    videos_of = [videos for videos, _ in loaded]
    shown_of: list[Sequence[Video]] = []
    samples = [""] * len(jobs)
    for number, (job, videos) in enumerate(zip(jobs, videos_of, strict=True)):
        shown: Sequence[Video] = videos if of_questions else videos[:most]
        if of_questions:
            shown, samples[number] = sampled(videos, most or 0)
        shown_of.append(shown)
        if frame_sets is not None:
            frame_sets.check(job.task, job.protocol, videos, shown)
        warn_of_defects(job)
    outside_of = [
        {} if allow_outside else files_outside(job.task, videos, root)
        for job, (videos, root) in zip(jobs, loaded, strict=True)
    ]
    for job, outside in zip(jobs, outside_of, strict=True):
        if outside:
            log.warning(
                "%s: files of %d videos are outside of the data root, such as %s: their questions fail, unless "
                "--allow-outside says that they are meant to be read",
                job.name,
                len(outside),
                next(iter(outside.values())),
            )
    defects_of = [[str(defect) for defect in job.task.defects] for job in jobs]
    # Other machines may have videos that this one has not.
    there = [None if layout.on_ray else number_there(shown) for shown in shown_of]
    say_what_is_asked(lines, jobs, shown_of, there, ladder)
    folders = [folder / f"{count}-frames" for count in ladder] or [folder]
    labelled = [(label_there(folders, label), source, arguments) for label, source, arguments in labelled]
    with tracebacks.keeping(), ExitStack() as stack:
        places = stack.enter_context(Places(layout, reading, accept_environment=accept_environment))
        places.check(models)
        environment = places.environment()
        runs = [
            stack.enter_context(Run(place, environment, accept_environment=accept_environment)) for place in folders
        ]
        strips = [Thumbnails(place) if thumbnails else None for place in folders]
        display = stack.enter_context(Display(enabled=progress))
        for run, own_jobs in zip(runs, rungs, strict=True):
            for job, defects, videos, sample in zip(own_jobs, defects_of, videos_of, samples, strict=True):
                unmade = run.without_prompt(job.name)
                before_mending = job.fingerprint(videos, unmade) if unmade else None
                counts = _counts(job, videos, seeds) | ({"sample": sample} if sample else {})
                run.register_task(job.name, job.fingerprint(videos), counts, defects, before_mending)
                if named:
                    run.note_preset(job.name, named.name)
        for number, job in enumerate(jobs):
            if there[number] == 0 and not blind:  # who is blind needs none
                own = [(run, own_jobs[number].name) for run, own_jobs in zip(runs, rungs, strict=True)]
                looking = [
                    source
                    for label, source, _ in labelled
                    if not any(run.has_answers(task, label) for run, task in own)
                ]
                check_there(job, shown_of[number], looking, loaded[number][1])
        for label, source, arguments in labelled:
            with display.waiting(f"loading {label}"):
                workplace = places.open(source, arguments, display)
            with closing(workplace):
                if jobs[0].times.between and workplace.facts.description.get("times"):
                    raise UserError(
                        f"the model {label!r} writes times between frames itself (times=true): leave out one"
                    )
                if frame_sets is not None and workplace.facts.description.get("samples_itself"):
                    raise UserError(
                        f"the model {label!r} is given whole files and chooses frames by itself, so --frames-from has "
                        "no effect on it: have it shown pictures (frames_as=images), or leave it out"
                    )
                for subject in Subject.all_of(workplace.facts, label, seeds, blind):
                    for run in runs:
                        run.register_model(subject.label, {**registry.source_of(source), **subject.identity()})
                    for number, shown in enumerate(shown_of):
                        recorders = [
                            stack.enter_context(Recorder(own_jobs[number], run, subject, own_strips, answer_timeout))
                            for run, own_jobs, own_strips in zip(runs, rungs, strips, strict=True)
                        ]
                        if not (subject.looks or jobs[number].task.prompts_need_clip):
                            del recorders[1:]  # who sees no frame answers alike whatever their number
                        asked = without(shown, outside_of[number])
                        asking = _Asking(display, tracebacks, answer_timeout, keep_going)
                        _answer_all(recorders, asked, subject, workplace, asking)
    if tracebacks.kept:
        log.warning("the tracebacks of what failed are in %s", tracebacks.path)
    board = Leaderboard.from_runs([folder], tasks={job.source: job.task for job in jobs})
    board.folder = folder
    return board


def _counts(job: Job, videos: Sequence[Video], seeds: int) -> dict[str, Any]:
    """How much the whole of a benchmark holds, and how often it is asked if that is more than once."""
    questions = [question for video in videos for question in video.questions]
    trials = sum(len(job.trials(question, [0])) for question in questions)
    counts = {"videos": len(videos), "questions": len(questions)}
    return counts | ({"seeds": seeds} if seeds > 1 else {}) | ({"trials": trials} if trials > len(questions) else {})


@dataclass(frozen=True)
class _Asking:
    """What all that is asked in a run has in common: where it is shown, where tracebacks go, and when it ends."""

    display: Display
    tracebacks: Tracebacks
    answer_timeout_s: float | None
    keep_going: bool


def _answer_all(
    recorders: Sequence[Recorder], videos: Sequence[Video], subject: Subject, workplace: Workplace, asking: _Asking
) -> None:
    """One model on one benchmark: under one job, or under one for each rung of a ladder."""
    tracebacks, scores = asking.tracebacks, _Scores(asking.tracebacks)
    lines = [
        _begin_line(each, videos, subject, asking.display, scores, ladder=len(recorders) > 1) for each in recorders
    ]
    works = []
    begun = asking.keep_going or len(videos) < 10
    failures = [FirstFailures(begun or bool(recorder.known), tracebacks) for recorder in recorders]
    paths = {video.id: video.path for video in videos}
    for video in videos:
        open_by_job = []
        for recorder, line in zip(recorders, lines, strict=True):
            open_questions = recorder.open(video)
            for one in open_questions:
                if (problem := one.question.problem) is not None:
                    about = replace(recorder.blank, video=video.id, cluster=video.cluster)
                    for failure in failed(recorder.job, about, [one], problem):
                        recorder.file.append(failure)
                        line.add(None)
            open_by_job.append([one for one in open_questions if one.question.problem is None])
        if any(open_by_job):
            works.append(Work(video, open_by_job))
    if len(works) > _MANY:
        random.Random(0).shuffle(works)
    if works:
        jobs = [recorder.job for recorder in recorders]
        assignment = Assignment(subject, jobs, works, recorders, asking.answer_timeout_s)
        for number, line in enumerate(lines):
            line.expect({work.video.id: work.video.duration_s for work in works if work.open[number]})
        last = [""] * len(lines)
        with closing(workplace.answers(assignment)) as answers:
            for number, record in answers:
                if record is None:
                    lines[number].video(last[number])
                else:
                    last[number] = record.video
                    recorders[number].file.append(record)
                    tracebacks.keep(record.error, f"{record.task}, {record.model}, {record.question}: {record.error}")
                    lines[number].add(scores.of(recorders[number].job, record))
                    failures[number].note(record, paths.get(record.video))
    for recorder, line in zip(recorders, lines, strict=True):
        if recorder.given_up:
            log.warning(
                "%s: %d questions are not asked again, at which the model was given up after %g s or longer: give a "
                "longer --answer-timeout, or none, to ask them",
                subject.label,
                len(recorder.given_up),
                asking.answer_timeout_s,
            )
        line.finish(workplace.summary() if works else "nothing left to ask")


def _begin_line(
    recorder: Recorder, videos: Sequence[Video], subject: Subject, display: Display, scores: _Scores, *, ladder: bool
) -> ModelProgress:
    job = recorder.job
    asked_for = {(q.id, trial) for video in videos for q in video.questions for trial in recorder.trials(q)}
    known = [record for record in recorder.known if (record.question, record.trial) in asked_for]
    name = f"{job.name} · {subject.label}" + (f" · {job.sampling.num_frames} frames" if ladder else "")
    scored = [score for record in known if (score := scores.of(job, record)) is not None]
    return ModelProgress(display, job.task, name, len(asked_for), scored, len(known))


class _Scores:
    """Scores for the display. A task that fails to score says so once: its responses are kept for tables made later."""

    def __init__(self, tracebacks: Tracebacks) -> None:
        self._failed: set[str] = set()
        self._tracebacks = tracebacks

    def of(self, job: Job, record: Record) -> ScoredRecord | None:
        if not record.answered:
            return None
        try:
            return scored_record(job.task, record, job.protocol)
        except Exception as error:
            if job.name not in self._failed:
                self._failed.add(job.name)
                log.debug("scoring failed", exc_info=error)
                self._tracebacks.keep(error, f"{job.name}: scoring {record.question}")
                what = f"{type(error).__name__}: {first_line(error)}"
                log.warning("%s: question %r cannot be scored: %s; responses are kept", job.name, record.question, what)
            return ScoredRecord(record.question, record.counted_as, record.groups, Score(), record.seed)

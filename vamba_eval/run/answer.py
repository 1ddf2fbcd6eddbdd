"""One video's questions answered by a model in this process, as records."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from vamba_eval.contracts import (
    Answer,
    Clip,
    FrameSampling,
    GenerationSettings,
    ModelAdapter,
    Prompt,
    Question,
    Rung,
    Seen,
    Trial,
    UserError,
    error_text,
    first_line,
)
from vamba_eval.cost.meter import Meter, PhaseCost
from vamba_eval.cost.monitor import GpuMonitor, HostMemory
from vamba_eval.machine import out_of_memory
from vamba_eval.reading.reader import Loaded
from vamba_eval.run.plan import Job, log
from vamba_eval.run.session import Outcome, Request, Session
from vamba_eval.run.tracebacks import Failure, traceback_of
from vamba_eval.run.work import Assignment, InHand, OpenQuestion, Step, Subject, Work
from vamba_eval.store.records import Record

_PACKAGE = Path(__file__).resolve().parent.parent

# Of what a record says was seen: the times of frames that the harness told, in the prompt or between them.
_TOLD = _IN_PROMPT, _BETWEEN = ("times_in_prompt", "times_between")
# The phases of an answer; all others of a question that is the first are its video's.
_ANSWERING = ("generate", "first_token", "further_tokens")


@dataclass(frozen=True)
class Monitors:
    """What goes on beside the model's work."""

    host: HostMemory
    gpu: GpuMonitor

    def reset(self) -> None:
        self.host.reset()
        self.gpu.reset()

    def note(self, record: Record) -> None:
        """What was seen since the last reset."""
        record.host_bytes = self.host.peak
        if (load := self.gpu.utilization) is not None:
            record.gpu_utilization = round(load, 3)


class Answerer:
    """A model in this process, at one video after the other. Nothing that goes wrong with one of them is raised, except
    a UserError of encoding it."""

    def __init__(self, adapter: ModelAdapter, monitors: Monitors) -> None:
        self._adapter, self._monitors = adapter, monitors
        self._warm = False  # after its first video

    def work(self, assignment: Assignment, work: Work, loaded: Loaded, blanks: Sequence[Record]) -> Iterator[Step]:
        """The steps of ``work``, a part of the assignment. ``blanks`` are what the records of each job have in common.

        Pictures of clips are kept by the assignment's recorders, if it has them here. If the model is not waited for
        for ever, what it is at is said before each of its calls.
        """
        for number, parts in parts_of(assignment.jobs, work, loaded, blanks):
            for part in parts:
                if assignment.recorders:
                    assignment.recorders[number].keep_picture(part.loaded)
                for step in self._video(assignment, number, part):
                    yield number, step
            yield number, None

    def _video(self, assignment: Assignment, number: int, part: Part) -> Iterator[Record | InHand]:
        job, subject, limit_s = assignment.jobs[number], assignment.subject, assignment.answer_timeout_s
        loaded, open_questions, base = part
        if loaded.problem is not None:
            yield from failed(job, base, open_questions, loaded.problem)
            return
        self._monitors.reset()
        meter = Meter(self._monitors.gpu)
        if limit_s is not None:
            about = replace(base, given_up_s=limit_s)
            yield InHand(list(failed(job, about, open_questions, too_long("encoding", limit_s))))
        try:
            session = Session(self._adapter, shown_clip(job, loaded, subject), meter)
        except UserError:  # every other video would fail for it too, so the run ends: it says what to mend
            raise
        except Exception as error:
            problem = failure("encoding", error)
            with suppress(Exception):  # a GPU that has failed may say nothing more
                _add_costs(base, meter.take())
            yield from self._noted(failed(job, base, open_questions, problem))
            return
        note_seen(base, session.seen)
        if not self._warm:
            base.warmup = self._warm = True
        requests, broken = requests_of(job, loaded, open_questions, base, subject)
        yield from self._noted(iter(broken))
        first = True
        for call in session.calls(requests):
            if limit_s is not None:
                yield InHand([_given_up(job, base, request, limit_s) for request in call.requests])
            if not (outcomes := call.make()):
                continue
            costs: dict[str, PhaseCost] = {}
            with suppress(Exception):  # as above
                costs = meter.take()
            if first:  # asked for earlier, it would have made the first question wait for the GPU
                _add_costs(base, {name: cost for name, cost in costs.items() if name not in _ANSWERING})
                first = False
            costs = {name: cost.shared_by(len(outcomes)) for name, cost in costs.items() if name in _ANSWERING}
            records = (self._record(job, base, outcome, costs, meter) for outcome in outcomes)
            yield from self._noted(records)

    def _record(self, job: Job, base: Record, outcome: Outcome, costs: Mapping[str, PhaseCost], meter: Meter) -> Record:
        (question, trial), settings = outcome.request.tag, outcome.request.settings
        about = replace(at(base, trial), cost=dict(base.cost))
        if isinstance(outcome.answer, Exception):
            return record_of(job, about, question, error=failure("answering", outcome.answer))
        record = answer_record(job, about, question, outcome.request.prompt, outcome.answer, settings)
        record.batch = outcome.batch if outcome.batch > 1 else None
        record.peak_bytes, record.peak_kind = meter.peak()
        _add_costs(record, costs)
        return record

    def _noted(self, records: Iterator[Record]) -> Iterator[Record]:
        for record in records:
            self._monitors.note(record)
            yield record


class Part(NamedTuple):
    """A clip, what is to be asked about it, and what the records of that share."""

    loaded: Loaded
    open: Sequence[OpenQuestion]
    base: Record


def parts_of(
    jobs: Sequence[Job], work: Work, loaded: Loaded, blanks: Sequence[Record]
) -> Iterator[tuple[int, Iterator[Part]]]:
    """Of each job that has something open: its number and its clips, one unless questions have frames of their own."""
    first = 0
    for number, (job, open_questions, blank) in enumerate(zip(jobs, work.open, blanks, strict=True)):
        shown = job.shown(work.video)
        if open_questions:
            yield number, _parts(job, shown, first, open_questions, loaded, blank)
        first += len(shown)


def _parts(
    job: Job,
    shown: Mapping[Rung, Sequence[str]],
    first: int,
    open_questions: Sequence[OpenQuestion],
    loaded: Loaded,
    blank: Record,
) -> Iterator[Part]:
    """``first`` is the number of the job's first rung among all that were read."""
    if loaded.clip is None:
        yield Part(loaded, open_questions, _about_video(blank, loaded))
        return
    for number, (rung, ids) in enumerate(shown.items(), first):
        if asked := [one for one in open_questions if one.question.id in ids]:
            own = loaded.part(number) if loaded.clip.parts else loaded
            if own.clip is not None and not isinstance(rung, FrameSampling):  # not what the file shows by itself
                own = replace(own, clip=replace(own.clip, path=None))
            own = own.shuffled() if job.probes.shuffle_frames else own
            yield Part(own, asked, _about_video(blank, own))


def _about_video(blank: Record, loaded: Loaded) -> Record:
    base = replace(blank, video=loaded.video.id, cluster=loaded.video.cluster, load_s=round(loaded.seconds, 6), cost={})
    base.cache_saved_s = None if loaded.saved_s is None else round(loaded.saved_s, 6)
    if (clip := loaded.clip) is not None:
        base.frames, base.size = len(clip.frames), list(clip.frames.shape[1:3])
        base.frames_digest, base.clip_note = loaded.digest, clip.note or None
    return base


def shown_clip(job: Job, loaded: Loaded, subject: Subject) -> Any:
    """The clip as the model gets it: with text between its frames where the protocol has that, and with its file where
    that shows the same; None if blind."""
    clip = loaded.clip
    if clip is None or not subject.looks:
        return None
    if job.protocol in job.task.interleaved:
        clip.captions = tuple(job.task.captions(loaded.video, clip, job.protocol))
    if job.times.between:
        clip = replace(clip, captions=job.times.captions(clip), path=None)
    video = loaded.video
    whole = video.start_s is None and video.end_s is None and not job.probes.shuffle_frames
    return clip if whole else replace(clip, path=None)


def note_seen(base: Record, seen: Seen | None) -> None:
    if seen is not None:
        told = {name: True for name in _TOLD if (base.seen or {}).get(name)}
        base.seen, base.video_tokens = asdict(seen), seen.video_tokens
        if seen.kept_tokens is None:  # of most models, all
            del base.seen["kept_tokens"]
        if told:  # an answer that says what was seen knows nothing of it
            base.seen |= {"times": True, **told}


def requests_of(
    job: Job, loaded: Loaded, open_questions: Sequence[OpenQuestion], base: Record, subject: Subject
) -> tuple[list[Request], list[Record]]:
    """What is to be put to the model, and the records of questions whose prompt cannot be made.

    ``base`` says what the model saw (``note_seen``), and here that it is told times.
    """
    requests, broken = [], []
    told = ""
    with suppress(ValueError):  # which is each question's
        told = _told_times(job, loaded.clip, base, subject)
    where = _IN_PROMPT if told else _BETWEEN if job.times.between and subject.looks else ""
    if where and base.seen is not None:
        base.seen = {**base.seen, "times": True, where: True}
    for one in open_questions:
        for trial in one.trials:
            asked, about = one.question, at(base, trial)
            try:
                asked = job.put(asked, trial)
                text = job.prompt(loaded.video, asked, loaded.clip, trial.variant)
                text = (told or _told_times(job, loaded.clip, base, subject)) + text
            except Exception as error:
                broken.append(record_of(job, about, asked, error=failure("making the prompt", error)))
                continue
            prompt = Prompt(text, len(asked.options), _name_of(asked, trial))
            requests.append(Request(prompt, replace(job.generation, seed=trial.seed), (asked, trial)))
    return requests, broken


def _told_times(job: Job, clip: Clip | None, base: Record, subject: Subject) -> str:
    """What is said of the frames' times before the prompt: nothing to who is told them, or sees other frames."""
    if clip is None or not subject.looks or subject.facts.description.get("samples_itself"):
        return ""
    return "" if (base.seen or {}).get("times") else job.times.before_prompt(job.task, clip)


def _name_of(question: Question, trial: Trial) -> str:
    """Who guesses by the question draws anew for each of its orders and wordings."""
    again = trial.rotation or trial.variant
    return f"{question.id} ({trial.rotation}, {trial.variant})" if again else question.id


def at(base: Record, trial: Trial) -> Record:
    """What the record of that trial shares with those of others."""
    return replace(base, **trial._asdict())


def failed(job: Job, base: Record, open_questions: Sequence[OpenQuestion], problem: str) -> Iterator[Record]:
    """The records of questions that nobody can answer."""
    for one in open_questions:
        for trial in one.trials:
            yield record_of(job, at(base, trial), one.question, error=problem)


def answer_record(
    job: Job, base: Record, question: Question, prompt: str, answer: Answer, settings: GenerationSettings
) -> Record:
    """The record of an answer, without what it cost."""
    return record_of(
        job,
        base,
        question,
        prompt=str(prompt),
        response=settings.cut(answer.text),
        thinking=answer.thinking,
        num_tokens=answer.num_tokens,
        finish_reason=answer.finish_reason,
        prompt_tokens=answer.prompt_tokens or None,
        cached_tokens=answer.cached_tokens or None,
        price=answer.price,
        served_by=answer.served_by,
        in_flight=answer.in_flight or None,
    )


def record_of(job: Job, base: Record, question: Question, **fields: Any) -> Record:
    """One line of the store: enough to score the response again, or to have it judged, without the benchmark's
    files."""
    judged = job.task.needs_judge(question)
    return replace(
        base,
        question=question.id,
        text=question.text,
        options=list(question.options),
        answer=question.answer,
        groups=dict(question.groups),
        extra={name: value for name, value in question.extra.items() if judged or name in job.task.kept},
        **fields,
    )


def _add_costs(record: Record, measured: Mapping[str, PhaseCost]) -> None:
    """By phase, and in all in seconds."""
    costs = {name: cost.to_json() for name, cost in measured.items()}
    if "encode" in costs:
        record.encode_s = costs["encode"]["s"]
    if "generate" in costs:
        record.generate_s = costs["generate"]["s"]
    if "first_token" in costs:
        del costs["generate"]  # first_token and further_tokens are all of it
    record.cost = {**record.cost, **costs}


def _given_up(job: Job, base: Record, request: Request, limit_s: float) -> Record:
    """The record of a request that the model never came back from."""
    question, trial = request.tag
    about = replace(at(base, trial), given_up_s=limit_s)
    return record_of(job, about, question, prompt=str(request.prompt), error=too_long("answering", limit_s))


def too_long(phase: str, limit_s: float) -> str:
    return f"{phase} took longer than {limit_s:g} s (--answer-timeout)"


def failure(phase: str, error: Exception) -> Failure:
    """One line for the record, and the traceback for the run's file of them."""
    log.debug("%s failed", phase, exc_info=error)
    return Failure(_reason(phase, error), traceback_of(error))


def _reason(phase: str, error: Exception) -> str:
    if out_of_memory(error):
        with suppress(Exception):
            sys.modules["torch"].cuda.empty_cache()
        said = error_text(error) if isinstance(error, MemoryError) else ""
        hint = said or "use fewer frames or smaller ones"
        return f"out of memory while {phase}: {hint} (--num-frames, --longest-edge)"
    reason = first_line(error) if error_text(error).strip() else "no message"
    return f"{phase} failed: {type(error).__name__}: {reason}{_place(error)}"


def _place(error: Exception) -> str:
    """Where it was raised, but for what this package itself says."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or Path(frames[-1].filename).is_relative_to(_PACKAGE):
        return ""
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})"

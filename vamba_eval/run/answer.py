"""One video's questions answered by a model in this process, as records."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from vamba_eval.contracts import GenerationSettings, JudgedTask, ModelAdapter, Prompt, Question, first_line
from vamba_eval.cost.meter import Meter, PhaseCost
from vamba_eval.machine import out_of_memory
from vamba_eval.reading.reader import Loaded
from vamba_eval.run.plan import Job, log
from vamba_eval.run.work import Asked, Event, Open, Watched, Work


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
            if (seen := asked.adapter.seen(encoded)) is not None:
                base["seen"] = asdict(seen)
                if seen.video_tokens is not None:
                    base["video_tokens"] = seen.video_tokens
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
                yield record_of(job, about, one.question, error=problem)
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
        record = record_of(job, base, question, error=_failure("answering", error))
        with suppress(Exception):  # as above
            return record, meter.take()
        return record, {}
    peak, kind = meter.peak()
    record = record_of(job, base, question, prompt=text, response=settings.cut(answer.text))
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


def record_of(job: Job, base: Mapping[str, Any], question: Question, **fields: Any) -> dict[str, Any]:
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
    if out_of_memory(error):
        with suppress(Exception):
            sys.modules["torch"].cuda.empty_cache()
        hint = str(error) if isinstance(error, MemoryError) and str(error) else "use fewer frames or smaller ones"
        return f"out of memory while {phase}: {hint} (--num-frames, --longest-edge)"
    reason = first_line(error) if str(error).strip() else "no message"
    return f"{phase} failed: {type(error).__name__}: {reason}"

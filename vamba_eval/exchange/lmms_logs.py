"""lmms-eval's logs as runs of ours: its samples become records, its results what they are records of.

Each run also keeps an account of what became of every field. Needs no torch, no lmms-eval and no video.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from vamba_eval import registry
from vamba_eval.contracts import BOUNDS, GenerationSettings, InLmmsEval, Question, Task, UserError, Video
from vamba_eval.exchange.lmms_files import COUNTED_AS, PROTOCOL, Log, find_logs, is_failure, prompt_in, responses_in
from vamba_eval.exchange.lmms_questions import disagreements, matched_questions, other_prompts, told_question
from vamba_eval.files import replace_text, safe_name
from vamba_eval.plain import json_text
from vamba_eval.score.scored import task_of_run
from vamba_eval.store.records import Record
from vamba_eval.store.runs import Run, read_records

_OUR_MODELS = re.compile(r"vamba(_\w+)?")
# Their arguments that choose or size frames otherwise than by number and edges, as our tasks do.
_OTHER_FRAMES = (*BOUNDS, "preset", "strategy", "fps", "token_budget", "keep_size", "frames_as=file")

# What becomes of a sample's fields; a task's own are read for the question and for the check of our scoring.
_MAPPED = {
    "doc_id": "question, where nothing names it; the order",
    "filtered_resps": "response",
    "resps": "response, one a seed where the task asks repeatedly",
    "input": "prompt",
    "target": "answer",
    "token_counts": "num_tokens, prompt_tokens",
    "seed": "seed",
    "doc": "question, video, options, answer, groups",
}
_NOT_MAPPED = {
    "doc_hash": "a hash of nothing in lmms-eval 0.7",
    "prompt_hash": "the prompt itself is kept",
    "target_hash": "the answer itself is kept",
    "input_media": "the video is named by the annotations",
    "arguments": "the prompt is kept; the rest are settings",
    "submission": "the response under its id; export writes the file again",
    "extracted": "computed from the response",
    "accuracy": "computed from the response",
}
_RESULTS_MAPPED = {
    "config": "models (model, model_args); generation arguments",
    "configs": "tasks: which one, generation arguments",
    "n-samples": "counts",
    "versions": "tasks",
    "lmms_eval_version": "environments",
    "git_hash": "environments",
    "date": "begun",
    "model_name": "models",
    "model_source": "models",
    "task_hashes": "tasks",
    "scored_under": "the check of our scoring",
    "run": "the run's folder",
}


@dataclass
class Imported:
    """What an import made: run folders, remarks for the reader, and how many samples became records."""

    folders: list[Path] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    num_records: int = 0


def import_logs(
    paths: Sequence[str | Path],
    output: str | Path,
    *,
    name: str | None = None,
    label: str | None = None,
    data_root: str | Path | None = None,
) -> Imported:
    """Make runs below ``output`` of all logs of samples at or below ``paths``; a second import adds nothing.

    name        the run's folder (default: that of the log, one a model and time)
    label       the model's (default: its name in lmms-eval)
    data_root   the benchmarks' annotations, as for a run: questions are then known exactly, with their videos

    Raises UserError where there is no log, or none that can be imported.
    """
    done = Imported()
    for log in find_logs(paths):
        try:
            known = _task_of(log)
        except UserError as error:  # of our own exports: a task of somebody's own that is not there
            done.remarks.append(f"{log.file}: not imported: {error}")
            continue
        if known is None:
            done.remarks.append(f"{log.file}: not imported: none of our tasks asks what {log.task_name!r} asks")
            continue
        task, split = known
        _import(log, task, split, Path(output), name, label, data_root, done)
    if not done.num_records:
        raise UserError("nothing was imported:\n" + "\n".join(f"  {remark}" for remark in done.remarks))
    return done


def _task_of(log: Log) -> tuple[Task, str | None] | None:
    """Ours, by what our own export says, by lmms-eval's name, or by the functions that its task is defined by."""
    if log.is_ours:
        return task_of_run(log.config["source"], log.task_name, log.file), log.config.get("split")
    functions = {
        match[1]
        for name in ("doc_to_visual", "doc_to_text", "doc_to_messages")
        if (match := re.match(r"(?:<function |functools\.partial\(<function )(\w+)", str(log.config.get(name))))
    }
    return registry.task_of_lmms(log.task_name, functions)


def _import(
    log: Log,
    task: Task,
    split: str | None,
    output: Path,
    name: str | None,
    label: str | None,
    data_root: str | Path | None,
    done: Imported,
) -> None:
    videos = task.load(data_root, split) if data_root is not None else []
    there = task.catalogue.in_lmms_eval or InLmmsEval({}, frozenset())
    matched = matched_questions(log, task, videos)
    label = safe_name(label or log.model)
    folder = output / safe_name(name or f"lmms-eval-{label}-{log.run}")
    repeats = log.repeats
    told = [known or told_question(log, sample, there) for sample, known in zip(log.samples, matched, strict=True)]
    if not log.is_ours:
        told = _apart(log, told)
    records = [
        record
        for sample, known in zip(log.samples, told, strict=True)
        for record in _records(log, sample, known, task.name, label, task.kept, repeats)
    ]
    clusters = {video.id: video.cluster for video in videos}
    records = [replace(record, cluster=clusters.get(record.video, record.cluster)) for record in records]
    remarks = _remarks(log, task, videos, records, matched)
    environment: dict[str, Any] = {
        "imported_from": "lmms-eval",
        "lmms_eval": log.results.get("lmms_eval_version"),
        "git_hash": log.results.get("git_hash"),
        "hardware": {},
        "packages": {},
    }
    counts = {
        "videos": len(videos) or len({record.video for record in records}),
        "questions": sum(len(video.questions) for video in videos) or _number_of_questions(log, records),
        "seeds": 1 + max((record.seed for record in records), default=0),
    }
    with Run(folder, environment, accept_environment=True) as run:
        if begun := _begun(log):
            run.info["begun"] = begun
        defects = [*map(str, task.defects), *remarks]
        run.register_task(safe_name(task.name), _fingerprint(log, task, split), counts, defects)
        run.register_model(label, _identity(log))
        stored = run.records(safe_name(task.name), label)
        known = {(each.question, each.seed): each.error for each in read_records(stored.path)}
        for record in records:
            there_already = known.get((record.question, record.seed), "")
            if there_already is not None and there_already != record.error:
                stored.append(replace(record, environment=run.environment_number))
        stored.close()
    about = folder / f"{safe_name(task.name)}.{label}.import.json"
    replace_text(about, json_text(_account(log, remarks), indent=2))
    done.folders += [folder] if folder not in done.folders else []
    done.num_records += len(records)
    done.remarks += [f"{log.task_name} ({label}): {remark}" for remark in remarks]


def _apart(log: Log, told: Sequence[tuple[str, Question]]) -> list[tuple[str, Question]]:
    """Documents that name themselves alike, as by their video, with names of their own: each is a question."""
    times = Counter(question.id for _, question in told)
    return [
        (video, replace(question, id=f"doc-{sample['doc_id']}") if times[question.id] > 1 else question)
        for sample, (video, question) in zip(log.samples, told, strict=True)
    ]


def _records(
    log: Log,
    sample: Mapping[str, Any],
    known: tuple[str, Question],
    task_name: str,
    label: str,
    kept_names: Sequence[str],
    repeats: int,
) -> list[Record]:
    """One record a response."""
    video, question = known
    responses = responses_in(sample, repeats)
    counts = sample.get("token_counts") or []
    records = []
    kept = {name: value for name, value in question.extra.items() if name in kept_names}
    doc = sample.get("doc")
    shared = doc.get(COUNTED_AS) if log.is_ours and isinstance(doc, dict) else None
    for n, response in enumerate(responses):
        record = Record(
            task=safe_name(task_name),
            model=label,
            environment=0,
            video=video,
            cluster=shared.get("video") if isinstance(shared, dict) else None,
            seed=int(sample.get("seed") or 0) + n,
            question=question.id,
            text=question.text,
            options=list(question.options),
            answer=question.answer,
            groups=dict(question.groups),
            extra=kept,
            prompt=prompt_in(sample) or None,
            response=response,
        )
        tokens = counts[n] if n < len(counts) else None
        if tokens:
            record.num_tokens, record.prompt_tokens = tokens.get("output_tokens"), tokens.get("input_tokens")
        if response is None:
            record.error = "the log holds no response in words (option scores, or none)"
        elif not log.is_ours and is_failure(response):
            record.response, record.error = None, f"lmms-eval logged a failure: {response.strip()}"
        elif response == "" and not tokens and _OUR_MODELS.fullmatch(log.model):
            # Our models say nothing where a video cannot be read; lmms-eval has no other way to say so.
            record.response, record.error = None, "no response: see lmms-eval's output of that run"
        records.append(record)
    return records


def _fingerprint(log: Log, task: Task, split: str | None) -> dict[str, Any]:
    if log.is_ours:
        return dict(log.config)
    return {
        "source": task.name,
        "version": task.version,
        "split": split,
        "protocol": PROTOCOL,
        "sampling": _sampling(log, task),
        "generation": _generation(log.config.get("generation_kwargs") or {}),
        "annotations": hashlib.sha256(
            "\0".join(map(prompt_in, log.samples)).encode("utf-8", "surrogatepass")
        ).hexdigest()[:16],
        "lmms_eval": {"task": log.task_name, "version": log.results.get("versions", {}).get(log.task_name)},
    }


def _generation(given: Mapping[str, Any]) -> dict[str, Any]:
    """As our own runs describe it, where lmms-eval's arguments are values that ours can have; else as they are.

    There a limit of 0 or -1 is none (``top_k``), and a null or 0 stands for what is not used (``top_p``).
    """
    used = ("max_new_tokens", "do_sample", "temperature", "top_p", "top_k")
    known = {key: given[key] for key in used if given.get(key) not in (None, 0, -1)}
    if not known.get("temperature"):
        known = {key: value for key, value in known.items() if key == "max_new_tokens"}
    until = given.get("until") or ()
    known["until"] = (until,) if isinstance(until, str) else tuple(until)
    try:
        return replace(GenerationSettings(), **known).describe()
    except (ValueError, TypeError):
        return {**given, "until": known["until"]}


def _sampling(log: Log, task: Task) -> dict[str, Any]:
    """Of our models as they sample, where that is by number and edges; of others the number of frames, if it is among
    the model's arguments."""
    args = log.model_args
    frames = next((args[key] for key in ("num_frames", "max_num_frames", "max_frames_num") if key in args), None)
    number = int(str(frames)) if str(frames).isdigit() else None
    said = {*args, *(f"{name}={value}" for name, value in args.items())}
    if _OUR_MODELS.fullmatch(log.model) and not said.intersection(_OTHER_FRAMES):
        given: dict[str, Any] = {"num_frames": number} if number else {}
        given |= {key: int(args[key]) for key in ("shortest_edge", "longest_edge") if str(args.get(key)).isdigit()}
        return replace(task.sampling_under(PROTOCOL), **given).describe()
    return {"strategy": "by lmms-eval's model", **({"num_frames": number} if number else {})}


def _identity(log: Log) -> dict[str, Any]:
    args = {key: str(value) for key, value in log.model_args.items()}
    return {
        "adapter": f"lmms-eval:{log.model}",
        "reads_video": True,
        "pretrained": args.get("pretrained"),
        "args": args,
    }


def _number_of_questions(log: Log, records: Sequence[Record]) -> int:
    number = (log.results.get("n-samples", {}).get(log.task_name) or {}).get("original")
    return number if isinstance(number, int) and number > 0 else len({record.question for record in records})


def _begun(log: Log) -> str | None:
    date = str(log.results.get("date") or "")
    for form in ("%Y%m%d_%H%M%S", "%Y-%m-%dT%H:%M:%S%z"):
        try:
            return datetime.strptime(date, form).isoformat()
        except ValueError:
            continue
    return None


def _remarks(
    log: Log,
    task: Task,
    videos: Sequence[Video],
    records: Sequence[Record],
    matched: Sequence[tuple[str, Question] | None],
) -> list[str]:
    remarks = []
    if not log.results:
        remarks.append("no results file beside the samples: model and settings are not known")
    if videos and (unknown := sum(known is None for known in matched)):
        remarks.append(f"{unknown:,} of {len(log.samples):,} samples match none of the annotations' questions")
    if not videos and any(record.video.startswith("doc-") for record in records):
        remarks.append(
            "the log names no videos, so each question counts as a video of its own: intervals are too narrow, and "
            "comparisons with other runs find no common questions; --data-root avoids both"
        )
    if failed := sum(not record.answered for record in records):
        remarks.append(f"{failed:,} samples hold no response and count as failed")
    asked = log.repeats * len(log.samples)
    if len(records) < asked and not log.is_ours:
        remarks.append(
            f"each question was asked {log.repeats} times, and the log holds {len(records):,} of {asked:,} responses: "
            "lmms-eval logs them all with --reasoning_tags none"
        )
    if differing := other_prompts(log, task, videos, matched):
        remarks.append(
            f"{len(differing):,} of {len(log.samples):,} prompts are not those of our protocol {log.protocol!r}, "
            f"the first is that of question {differing[0]}"
        )
    if others := disagreements(log, task, records):
        remarks.append(f"our scoring differs from the logged one on {others:,} questions")
    return remarks


def _account(log: Log, remarks: Sequence[str]) -> dict[str, Any]:
    """Which fields became what, and which did not, with all that is in the results beside the samples."""
    seen = dict.fromkeys(key for sample in log.samples for key in sample)
    own = [key for key in seen if key not in _MAPPED and key not in _NOT_MAPPED]
    return {
        "samples": str(log.file),
        "remarks": list(remarks),
        "mapped": {
            **{key: _MAPPED[key] for key in seen if key in _MAPPED},
            **dict.fromkeys(own, "question, groups and video, where they name them; the score is computed anew"),
            **{f"results.{key}": _RESULTS_MAPPED[key] for key in log.results if key in _RESULTS_MAPPED},
        },
        "not_mapped": {
            **{key: _NOT_MAPPED[key] for key in seen if key in _NOT_MAPPED},
            **{f"results.{key}": "kept below" for key in log.results if key not in _RESULTS_MAPPED},
        },
        "results": log.results,
    }

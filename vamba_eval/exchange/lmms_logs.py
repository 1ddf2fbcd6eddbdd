"""lmms-eval's logs as runs of ours: its samples become records, its results what they are records of.

lmms-eval (0.7, and those before it) logs a line a document: its number, the prompt, the response and what its
task made of it, but not the document itself; early versions wrote one object a task. With the benchmark's annotations
at hand, each sample is found to be one of our questions; without, the question is what the sample tells. Needs no
torch, no lmms-eval and no video.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from statistics import multimode
from typing import Any

from vamba_eval import registry
from vamba_eval.contracts import (
    LETTERS,
    GenerationSettings,
    InLmmsEval,
    Question,
    Task,
    UserError,
    Video,
    VideoError,
)
from vamba_eval.score.scored import ScoredRun, scored_record
from vamba_eval.store.records import Record
from vamba_eval.store.runs import Run, safe_name

PROTOCOL = "lmms-eval"


_OUR_MODELS = ("vamba", "vamba_qwen2_vl")


# What lmms-eval's models (0.7.3, below lmms_eval/models) return in place of a response, each with where it is written.
# Its parsers take these for answers: of "[LMMS_EVAL_REQUEST_FAILED ...]" they read a D.
_FAILURES = (
    # chat/openai.py, chat/async_openai.py, chat/gemini.py, simple/openai.py, simple/gemini.py
    r"\[LMMS_EVAL_REQUEST_FAILED\b",
    # chat/openai.py, chat/async_openai.py, chat/gemini.py
    r"\[LMMS_EVAL_BUDGET_EXCEEDED\]",
    # simple/gemini.py, chat/gemini.py
    r"\[SAFETY_BLOCKED\b",
    # chat/async_openai.py, where a message has no content; after a tool's call there can be an answer behind it
    r"Error: (?!.*<tool_call>)",
    # simple/cosmos_wm.py, simple/diffusers_wm_base.py, simple/magi1_wm.py, simple/wan2_1_t2i.py
    r"\[GENERATION_FAILED\]",
    # simple/generation_api.py and those of GENERATION_FAILED
    r"\[ERROR\]",
    # simple/batch_gpt4.py
    r"Batch failed\s*\Z",
    # simple/llava_vid.py, simple/oryx.py
    r"Video .* can not load, check the source\s*\Z",
    # simple/oryx.py
    r"Video .* generate failed, check the source\s*\Z",
)
# Where a document of our exports says that statistics take its video for another: an object, which is no group.
_COUNTED_AS = "counted_as"
_FAILURE = re.compile(r"\s*(?:" + "|".join(_FAILURES) + ")", re.DOTALL)


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
}


@dataclass
class Log:
    """One file of samples and the results beside it; ``stamp`` tells the logs of one run from those of others."""

    file: Path
    task_name: str
    results: Mapping[str, Any]
    samples: list[dict[str, Any]]
    stamp: str

    @property
    def config(self) -> Mapping[str, Any]:
        return self.results.get("configs", {}).get(self.task_name) or {}

    @property
    def is_ours(self) -> bool:
        """Whether our own export wrote it."""
        return isinstance(self.config.get("source"), str)

    @property
    def protocol(self) -> str:
        """The protocol that the questions were asked under."""
        return str((self.config.get("protocol") if self.is_ours else None) or PROTOCOL)

    @property
    def scored_under(self) -> str:
        """That of the logged scores: an export can be of another than the run's own."""
        return str((self.results.get("scored_under") if self.is_ours else None) or self.protocol)

    @property
    def repeats(self) -> int:
        """How often each question was asked.

        Where the configuration is not there, it is what most samples tell, since padding adds to few of them.
        """
        repeats = self.config.get("repeats")
        if isinstance(repeats, int) and repeats > 0:
            return repeats
        return max(multimode(len(_all_responses(sample) or [None]) for sample in self.samples), default=1)

    @property
    def model(self) -> str:
        settings = self.results.get("config") or {}
        return str(settings.get("model") or self.results.get("model_source") or "unknown")

    @property
    def model_args(self) -> dict[str, Any]:
        given = (self.results.get("config") or {}).get("model_args") or {}
        if isinstance(given, Mapping):
            return dict(given)
        return dict(pair.split("=", 1) for pair in re.split(r",(?=\w+=)", str(given)) if "=" in pair)


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
        known = _task_of(log)
        if known is None:
            done.remarks.append(f"{log.file}: not imported: none of our tasks asks what {log.task_name!r} asks")
            continue
        task, split = known
        _import(log, task, split, Path(output), name, label, data_root, done)
    if not done.num_records:
        raise UserError("nothing was imported:\n" + "\n".join(f"  {remark}" for remark in done.remarks))
    return done


def find_logs(paths: Iterable[str | Path]) -> list[Log]:
    """Every ``*_samples_<task>.jsonl`` with the results of the same time in the same folder, if they are there.

    And every ``<task>.json`` that early versions wrote, with settings and samples in one.
    """
    files: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"no such file or folder: {path}")
        if path.is_dir():
            found = [*sorted(path.rglob("*_samples_*.jsonl")), *filter(_is_whole, sorted(path.rglob("*.json")))]
        elif path.name.endswith("_results.json"):
            found = sorted(path.parent.rglob(f"{path.name.removesuffix('_results.json')}*_samples_*.jsonl"))
        elif path.name == "results.json":
            found = [*filter(_is_whole, sorted(path.parent.glob("*.json")))]
        else:
            found = [path] if path.suffix == ".jsonl" or _is_whole(path) else []
        files |= dict.fromkeys(found)
    if not files:
        raise UserError(
            "no logs of samples there: expected *_samples_<task>.jsonl (of early versions: <task>.json), which "
            "lmms-eval writes with --log_samples --output_path DIR"
        )
    return [_read_whole(file) if file.suffix == ".json" else _read_log(file) for file in files]


def _is_whole(file: Path) -> bool:
    """Whether a file is one that holds settings and samples: by how it begins, as it can be large."""
    if file.suffix != ".json" or not file.is_file():
        return False
    with open(file, encoding="utf-8", errors="replace") as opened:
        return re.match(r'\s*\{\s*"args"\s*:\s*\{', opened.read(200)) is not None


def _read_log(file: Path) -> Log:
    stamp, _, task_name = file.stem.partition("_samples_")
    results: Any = {}
    reading = file
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
        samples = [_sample(json.loads(line)) for line in lines if line.strip()]
        for beside in (f"{stamp}_results.json", f"{stamp}_{task_name}_results.json"):
            if (reading := file.parent / beside).is_file():
                results = json.loads(reading.read_text(encoding="utf-8"))
                break
    except (OSError, ValueError) as error:
        raise UserError(f"{reading} cannot be read: {error}") from error
    return Log(file, task_name, results if isinstance(results, dict) else {}, samples, stamp)


def _read_whole(file: Path) -> Log:
    """A log of an early version: ``args``, the task's configuration and the samples as ``logs`` in one object.

    So lmms-eval's own reader of logs, models/simple/from_log.py, expects it still in 0.7.3.
    ``results.json`` lies beside it, in a folder that is named by the time. Documents are logged, without what is
    neither text nor a number; the prompt is the first of a request's ``arguments``.
    """
    beside: Any = {}
    reading = file
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        # The first versions called the task's configuration "config".
        config = content.get("model_configs") or content.get("config") or {}
        samples = [_sample(each) for each in content.get("logs") or ()]
        if (reading := file.parent / "results.json").is_file():
            beside = json.loads(reading.read_text(encoding="utf-8"))
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{reading} cannot be read: {error}") from error
    task_name = str(config.get("task") or file.stem)
    for sample in samples:
        prompt = sample.get("arguments")
        while isinstance(prompt, list) and prompt:
            prompt = prompt[0]
        if isinstance(prompt, str):
            sample.setdefault("input", prompt)
    results = {
        "config": {key: content["args"].get(key) for key in ("model", "model_args")},
        "configs": {task_name: config},
        "date": content.get("time"),
        "args": content["args"],
        **(beside if isinstance(beside, dict) else {}),
    }
    return Log(file, task_name, results, samples, file.parent.name)


def _sample(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or "doc_id" not in value:
        raise ValueError(f"not a sample of lmms-eval, since it has no doc_id: {json.dumps(value)[:60]}")
    return value


def _task_of(log: Log) -> tuple[Task, str | None] | None:
    """Ours, by what our own export says, by lmms-eval's name, or by the functions that its task is defined by."""
    if log.is_ours:
        return registry.load_task(log.config["source"]), log.config.get("split")
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
    matched = _match(log, task, videos)
    label = safe_name(label or log.model)
    folder = output / safe_name(name or f"lmms-eval-{label}-{log.stamp}")
    repeats = log.repeats
    records = [
        record
        for sample, known in zip(log.samples, matched, strict=True)
        for record in _records(log, sample, known or _told(log, sample, there), task.name, label, task.kept, repeats)
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
        answered = {seed: stored.answered(seed) for seed in range(counts["seeds"])}
        for record in records:
            if record.question not in answered[record.seed]:
                stored.append(replace(record, environment=run.environment_number))
        stored.close()
    about = folder / f"{safe_name(task.name)}.{label}.import.json"
    about.write_text(json.dumps(_account(log, remarks), indent=2), encoding="utf-8")
    done.folders += [folder] if folder not in done.folders else []
    done.num_records += len(records)
    done.remarks += [f"{log.task_name} ({label}): {remark}" for remark in remarks]


def _match(log: Log, task: Task, videos: Sequence[Video]) -> list[tuple[str, Question] | None]:
    """Each sample's video and question among ``videos``: by a logged id, else by the prompt."""
    asked = [(video, q) for video in videos for q in video.questions if q.problem is None]
    by_id = {question.id: (video.id, question) for video, question in asked}
    found: list[tuple[str, Question] | None] = []
    for sample in log.samples:
        ids = (str(each[key]) for each in _dictionaries(sample) for key in ("question_id", "id", "uid") if key in each)
        found.append(next((by_id[each] for each in ids if each in by_id), None))
    if all(found):
        return found
    by_prompt: dict[str, list[tuple[str, Question]]] = defaultdict(list)
    for video, question in asked:
        if (prompt := _prompt_of(task, video, question, log.protocol)) is not None:
            by_prompt[_without_images(prompt)].append((video.id, question))
    used: Counter[tuple[str, int]] = Counter()
    for n in sorted(range(len(found)), key=lambda n: _number(log.samples[n])):
        prompt = _without_images(_prompt(log.samples[n]))
        if found[n] is None and (same := by_prompt.get(prompt)):
            # Videos can be asked in the same words: then in the annotation's order.
            key = (prompt, log.samples[n].get("seed") or 0)
            found[n] = same[used[key] % len(same)]
            used[key] += 1
    return found


def _prompt_of(task: Task, video: Video, question: Question, protocol: str) -> str | None:
    """What ``protocol`` asks; None where it takes frames to tell, and for subtitles that cannot be read."""
    if protocol not in task.protocols or (task.prompts_need_clip and protocol != PROTOCOL):
        return None
    try:
        return task.prompt(video, question, protocol, None)
    except VideoError:
        return None


def _without_images(prompt: str) -> str:
    """Where images stand is a matter of models: some want marks in the prompt."""
    return re.sub(r"<image>\s*", "", prompt)


def _told(log: Log, sample: Mapping[str, Any], there: InLmmsEval) -> tuple[str, Question]:
    """The video and the question, as far as the log tells: options from the prompt, groups from what is logged."""
    told = {key: value for each in _dictionaries(sample) for key, value in each.items()}
    doc = sample.get("doc")
    if isinstance(doc, dict) and {"question_id", "video", "options"} <= doc.keys() and isinstance(doc["options"], list):
        return _exported(doc)
    options = _options(_prompt(sample))
    groups = {ours: str(told[theirs]) for theirs, ours in there.groups.items() if theirs in told}
    if "*" in there.groups:
        pattern = next(iter(there.tasks))
        groups[there.groups["*"]] = log.task_name[pattern.index("*") :]
    ids = [str(told[key]) for key in ("question_id", "id", "uid") if key in told]
    identity = next((each for each in ids if len(each) <= 64 and "\n" not in each), f"doc-{sample['doc_id']}")
    video = str(told[there.video]) if there.video in told else f"doc-{sample['doc_id']}"
    return video, Question(identity, "", tuple(options), _answer(sample, told, options), groups)


def _exported(doc: Mapping[str, Any]) -> tuple[str, Question]:
    """Of a log that we wrote ourselves."""
    known = ("question_id", "video", "options", "answer", "extra")
    others = {key: value for key, value in doc.items() if key not in known and isinstance(value, str | list)}
    groups = {key: tuple(value) if isinstance(value, list) else value for key, value in others.items()}
    extra = doc.get("extra") or {}
    question = Question(str(doc["question_id"]), "", tuple(doc["options"]), doc.get("answer"), groups, extra)
    return str(doc["video"]), question


def _dictionaries(sample: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The document, where it is logged, and what the task logged of it."""
    return [value for key, value in sample.items() if isinstance(value, dict) and key != "submission"]


def _prompt(sample: Mapping[str, Any]) -> str:
    return str(sample.get("input") or "")


def _number(sample: Mapping[str, Any]) -> float:
    return sample["doc_id"] if isinstance(sample["doc_id"], int | float) else 0


def _options(prompt: str) -> list[str]:
    """The lines lettered A, B, ... in a prompt: "A. ..." or "(A) ..."."""
    lines = prompt.split("\n")
    most: list[str] = []  # a question may have one alone, as five of MVBench's
    for form in (r"\({}\)[ \t]*(.*)", r"{}\.[ \t]*(.*)"):
        options: list[str] = []
        for line in lines:
            if len(options) < len(LETTERS) and (match := re.match(form.format(LETTERS[len(options)]), line)):
                options.append(match[1])
        if len(options) > len(most):
            most = options
    return most


def _answer(sample: Mapping[str, Any], told: Mapping[str, Any], options: Sequence[str]) -> str | None:
    """The letter of the right option: lmms-eval logs a letter, or its number from 0."""
    letters = tuple(LETTERS[: len(options)])
    for value in (told.get("answer"), told.get("gt_answer"), sample.get("target")):
        text = str(value).strip()
        if text in letters:
            return text
        if text.isdigit() and int(text) < len(letters):
            return letters[int(text)]
        if text in options:
            return letters[list(options).index(text)]
    return None


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
    responses = _responses(sample, repeats)
    counts = sample.get("token_counts") or []
    records = []
    kept = {name: value for name, value in question.extra.items() if name in kept_names}
    doc = sample.get("doc")
    shared = doc.get(_COUNTED_AS) if log.is_ours and isinstance(doc, dict) else None
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
            prompt=sample.get("input"),
            response=response,
        )
        tokens = counts[n] if n < len(counts) else None
        if tokens:
            record.num_tokens, record.prompt_tokens = tokens.get("output_tokens"), tokens.get("input_tokens")
        if response is None:
            record.error = "the log holds no response in words (option scores, or none)"
        elif not log.is_ours and _FAILURE.match(response):
            record.response, record.error = None, f"lmms-eval logged a failure: {response.strip()}"
        elif response == "" and not tokens and log.model in _OUR_MODELS:
            # Our models say nothing where a video cannot be read; lmms-eval has no other way to say so.
            record.response, record.error = None, "no response: see lmms-eval's output of that run"
        records.append(record)
    return records


def _responses(sample: Mapping[str, Any], repeats: int) -> list[str | None]:
    """The response, or those to each of ``repeats`` repetitions; None where it is not text.

    Processes of lmms-eval that have fewer questions than others ask their last one again, so that all are busy alike;
    versions before 0.7.3 log those responses behind the first ones (``[["B", "B"]]``). They are left out.
    """
    several = _all_responses(sample)
    if several and repeats > 1:
        return list(several[:repeats])
    response = sample.get("filtered_resps", sample.get("resps"))
    while isinstance(response, list) and (len(response) == 1 or (several and response)):
        response = response[0]
    return [response if isinstance(response, str) else None]


def _all_responses(sample: Mapping[str, Any]) -> list[str] | None:
    """Those to one question where the log holds several in words."""
    repeated = sample.get("resps")
    while isinstance(repeated, list) and len(repeated) == 1 and isinstance(repeated[0], list):
        repeated = repeated[0]
    if isinstance(repeated, list) and len(repeated) > 1 and all(isinstance(each, str) for each in repeated):
        return repeated
    return None


def _fingerprint(log: Log, task: Task, split: str | None) -> dict[str, Any]:
    if "source" in log.config:
        return dict(log.config)
    given = log.config.get("generation_kwargs") or {}
    known = {
        key: given[key] for key in ("max_new_tokens", "do_sample", "temperature", "top_p", "top_k") if key in given
    }
    if not known.get("temperature"):
        known = {key: value for key, value in known.items() if key == "max_new_tokens"}
    until = given.get("until") or ()
    settings = replace(GenerationSettings(), **known, until=(until,) if isinstance(until, str) else tuple(until))
    return {
        "source": task.name,
        "version": task.version,
        "split": split,
        "protocol": PROTOCOL,
        "sampling": _sampling(log, task),
        "generation": settings.describe(),
        "annotations": hashlib.sha256(
            "\0".join(map(_prompt, log.samples)).encode("utf-8", "surrogatepass")
        ).hexdigest()[:16],
        "lmms_eval": {"task": log.task_name, "version": log.results.get("versions", {}).get(log.task_name)},
    }


def _sampling(log: Log, task: Task) -> dict[str, Any]:
    """Of our models as they sample; of others the number of frames, if it is among the model's arguments."""
    args = log.model_args
    frames = next((args[key] for key in ("num_frames", "max_num_frames", "max_frames_num") if key in args), None)
    number = int(str(frames)) if str(frames).isdigit() else None
    if log.model in _OUR_MODELS:
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
    if differing := _other_prompts(log, task, videos, matched):
        remarks.append(
            f"{len(differing):,} of {len(log.samples):,} prompts are not those of our protocol {log.protocol!r}, "
            f"the first is that of question {differing[0]}"
        )
    if others := _disagreements(log, task, records):
        remarks.append(f"our scoring differs from the logged one on {others:,} questions")
    return remarks


def _other_prompts(
    log: Log, task: Task, videos: Sequence[Video], matched: Sequence[tuple[str, Question] | None]
) -> list[str]:
    """Questions by id whose logged prompt is another than the protocol's, in the log's order.

    Of protocols that put text between the frames only lmms-eval logs that text, so theirs are not compared.
    """
    by_id = {video.id: video for video in videos}
    if log.protocol in task.interleaved:
        return []
    differing = []
    for sample, known in zip(log.samples, matched, strict=True):
        if known is None or not (logged := _prompt(sample)):
            continue
        video, question = known
        ours = _prompt_of(task, by_id[video], question, log.protocol)
        if ours is not None and _without_images(logged) != _without_images(ours):
            differing.append(question.id)
    return differing


def _disagreements(log: Log, task: Task, records: Sequence[Record]) -> int:
    """Questions with one response that lmms-eval and we score differently; drawn options do not count."""
    if log.scored_under not in task.protocols:
        return 0
    logged = {}
    for sample, record in zip(log.samples, records, strict=False):
        if len(records) == len(log.samples) and record.answered:
            logged[record.question] = (_logged_score(sample), record)
    number = 0
    for correct, record in logged.values():
        score = scored_record(task, record, log.scored_under).score
        if correct is not None and "correct" in score.values and not score.drawn:
            number += bool(score.values["correct"]) != correct
    return number


def _logged_score(sample: Mapping[str, Any]) -> bool | None:
    for key, value in sample.items():
        if isinstance(value, dict) and key not in ("doc", "submission"):
            if isinstance(value.get("score"), int | float):
                return bool(value["score"])
            for said in ("parsed_pred", "pred_answer"):
                if said in value and "answer" in value:
                    return value[said] == value["answer"]
        elif isinstance(value, bool):
            return value
    return None


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


def export_logs(run: ScoredRun, place: Path) -> list[Path]:
    """Fields as lmms-eval's EvaluationTracker writes them; ``doc`` is what the record holds of the question."""
    stamp = run.info["begun"].replace(":", "-").partition("+")[0]
    lines = []
    for number, (record, scored) in enumerate(zip(run.answered, run.scored, strict=True)):
        doc = {
            "question_id": record.question,
            "video": record.video,
            "options": record.options,
            "answer": record.answer,
            **({_COUNTED_AS: {"video": record.cluster}} if record.cluster else {}),
            **record.groups,
            **({"extra": record.extra} if record.extra else {}),
        }
        target = str(record.answer)
        lines.append(
            {
                "doc_id": number,
                "target": target,
                "filtered_resps": [record.response],
                "doc_hash": _digest(json.dumps(doc, indent=2, ensure_ascii=False)),
                "prompt_hash": _digest(record.prompt or ""),
                "target_hash": _digest(target),
                "input": record.prompt,
                "accuracy": _as_logged(scored.values.get("correct")),
                "extracted": scored.score.extracted,
                "seed": record.seed,
                "doc": doc,
            }
        )
    metrics = run.summary.metrics
    results = {
        "results": {
            run.task_name: {
                "alias": run.task_name,
                **{f"{name},none": metric.value for name, metric in metrics.items()},
                "samples": len(run.answered),
            }
        },
        "configs": {run.task_name: run.fingerprint},
        "versions": {run.task_name: run.task.version},
        "n-samples": {
            run.task_name: {
                "original": run.info["counts"][run.task_name]["questions"],
                "effective": len({record.question for record in run.answered}),
            }
        },
        "model_name": run.model,
        "model_source": run.identity["adapter"],
        "config": {"model": run.model, "model_args": run.identity},
        "date": run.info["begun"],
        "scored_under": run.protocol,
    }
    samples = "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in lines)
    return [
        write_text(place / f"{stamp}_samples_{run.task_name}.jsonl", samples),
        write_text(place / f"{stamp}_{run.task_name}_results.json", json.dumps(results, indent=2)),
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def write_text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def _as_logged(correct: float | None) -> bool | float | None:
    """Right or wrong is true or false there."""
    return bool(correct) if correct in (0.0, 1.0) else correct

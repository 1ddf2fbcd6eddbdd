"""lmms-eval's logs as they lie on the disk: which files belong together, and what a sample in them holds.

lmms-eval (0.7, and those before it) logs a line a document: its number, the prompt, the response and what its
task made of it, but not the document itself; early versions wrote one object a task. Our own export is read alike.
Knows no benchmark and no run.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vamba_eval.contracts import UserError
from vamba_eval.files import lines_of_others, open_of_others, read_of_others
from vamba_eval.plain import json_value

PROTOCOL = "lmms-eval"
# Where a document of our exports says that statistics take its video for another: an object, which is no group.
COUNTED_AS = "counted_as"
_MOST_BYTES = 2**32  # of a file that holds all samples

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
_FAILURE = re.compile(r"\s*(?:" + "|".join(_FAILURES) + ")", re.DOTALL)


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
    def run(self) -> str:
        """What tells this run from others; the runs of a ladder of ours begin at the same time."""
        return f"{self.stamp}-{self.results['run']}" if self.is_ours and "run" in self.results else self.stamp

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

        Where the configuration is not there, it is the fewest that a sample with a response tells: padding adds to
        some, and where there are about as many processes as documents, to most.
        """
        repeats = self.config.get("repeats")
        if isinstance(repeats, int) and repeats > 0:
            return repeats
        told = [responses_in(sample, sys.maxsize) for sample in self.samples]
        return min((len(each) for each in told if each not in ([None], [""])), default=1)

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
    try:
        with open_of_others(file) as opened:
            return re.match(rb'\s*\{\s*"args"\s*:\s*\{', opened.read(200)) is not None
    except UserError:  # a link to elsewhere
        return False


def _read_log(file: Path) -> Log:
    stamp, _, task_name = file.stem.partition("_samples_")
    results: Any = {}
    reading = file
    try:
        samples = _once([_sample(json_value(line)) for line in lines_of_others(file) if line.strip()])
        for beside in (f"{stamp}_results.json", f"{stamp}_{task_name}_results.json"):
            if (reading := file.parent / beside).is_file():
                results = json_value(read_of_others(reading).decode())
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
        content = json_value(read_of_others(file, _MOST_BYTES).decode())
        # The first versions called the task's configuration "config".
        config = content.get("model_configs") or content.get("config") or {}
        samples = _once([_sample(each) for each in content.get("logs") or ()])
        if (reading := file.parent / "results.json").is_file():
            beside = json_value(read_of_others(reading).decode())
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


def _once(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first sample of each document and seed: a task with several filters has each document logged for each."""
    first: dict[tuple[str, Any], dict[str, Any]] = {}
    for sample in samples:
        first.setdefault((json.dumps(sample["doc_id"]), sample.get("seed")), sample)
    return list(first.values())


def dictionaries_in(sample: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The document, where it is logged, and what the task logged of it."""
    return [value for key, value in sample.items() if isinstance(value, dict) and key != "submission"]


def prompt_in(sample: Mapping[str, Any]) -> str:
    """The prompt; "" where the log has none (of a task without a text, the settings are logged in its place)."""
    prompt = sample.get("input")
    return prompt if isinstance(prompt, str) else ""


def number_in(sample: Mapping[str, Any]) -> float:
    return sample["doc_id"] if isinstance(sample["doc_id"], int | float) else 0


def responses_in(sample: Mapping[str, Any], repeats: int) -> list[str | None]:
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


def is_failure(response: str) -> bool:
    """Whether a model of lmms-eval wrote ``response`` in place of one."""
    return _FAILURE.match(response) is not None

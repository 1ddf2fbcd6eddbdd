"""A run on disk: append-only records, a fingerprint, and resuming.

``<run>/run.json`` says what the numbers are numbers of; ``<run>/<task>.<model>.jsonl`` holds one line a
question, written as soon as it is known. A rerun goes on where the last one stopped; the same place
cannot take records made in another way. Knows nothing of scoring.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vamba_eval.contracts import Trial, UserError, system_reason
from vamba_eval.files import (
    lines_of_others,
    locked,
    open_to_append,
    read_of_others,
    remove_unfinished,
    replace_text,
)
from vamba_eval.plain import json_text, json_value
from vamba_eval.secrets import without_named, without_secrets
from vamba_eval.store.records import MOST_COUNTED, Record, with_checksum

SCHEMA = 1
# What fingerprints say since some version: a run begun before it says it from its next use on.
_ADDED = {"tasks": ("prompts", "without_prompt"), "models": ("adapter_source",)}
_BLOCK_BYTES = 2**20
# What is said of a task, its frames and a model, if it is; tables and names of files are made of it.
_OF_A_TASK: dict[str, Any] = {"source": str, "split": str, "protocol": str, "sampling": dict}
_OF_A_MODEL: dict[str, Any] = {"adapter": str, "reads_video": bool}
_OF_A_SAMPLING: dict[str, Any] = {"strategy": str, "num_frames": int | str}


class Run:
    """One run's folder, open for writing by one process at a time.

    Use as a context manager. ``register_task`` and ``register_model`` state the fingerprint of what is
    about to write here and raise UserError, naming each difference, if something else already does.
    """

    def __init__(self, folder: Path, environment: Mapping[str, Any], *, accept_environment: bool = False) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UserError(f"{folder} is a file, not a folder: choose another --output or --name") from None
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {system_reason(error)}") from error
        self._environment, self._accept_environment = _as_stated(environment), accept_environment

    def __enter__(self) -> Run:
        taken = f"another process is writing to {self.folder}: wait for it, or use another --name"
        with ExitStack() as stack:
            stack.enter_context(locked(self.folder / ".lock", taken))
            for folder in (self.folder, self.folder / "thumbnails"):
                remove_unfinished(folder)
            if (self.folder / "run.json").exists():
                self.info = read_info(self.folder)
                self._check_environment()
            else:
                self.info = self._new_info()
            self.environment_number = self._number_of(self._environment)
            self._save()
            self._lock = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def _check_environment(self) -> None:
        environments, ours = self.info["environments"], self._environment
        if environments and ours not in environments and not self._accept_environment:
            raise UserError(
                f"{self.folder} was begun in another environment:\n{difference(environments[-1], ours)}\n"
                "Use another --name, go back to that environment, or go on anyway with --accept-environment "
                "(both are recorded)."
            )

    def environment_of(self, environment: Mapping[str, Any]) -> int:
        """The number of an environment that works for this run beside its own, as another node's does."""
        environment = _as_stated(environment)
        if environment not in self.info["environments"]:
            self._number_of(environment)
            self._save()
        return self._number_of(environment)

    def _number_of(self, environment: Mapping[str, Any]) -> int:
        environments = self.info["environments"]
        if environment not in environments:
            environments.append(environment)
        return int(environments.index(environment))

    def without_prompt(self, name: str) -> list[str]:
        """The questions, by id, whose prompt could not be made when the task ``name`` was last registered."""
        return self.info["tasks"].get(name, {}).get("without_prompt", [])

    def register_task(
        self,
        name: str,
        fingerprint: Mapping[str, Any],
        counts: Mapping[str, Any],
        defects: Sequence[str],
        before_mending: Mapping[str, Any] | None = None,
    ) -> None:
        """State how ``name`` is run, how many ``videos`` and ``questions`` the whole of it has, how many ``trials``
        these are with each of how many ``seeds`` (never fewer than before), which ``sample`` of it is asked, and what
        is wrong with its annotations.

        ``before_mending`` is the fingerprint as it is without the prompts that could not be made: a run that was begun
        with that one goes on under ``fingerprint``.
        """
        self._register("tasks", name, fingerprint, before_mending)
        before = self.info["counts"].get(name, {}).get("seeds", 1)
        self.info["counts"][name] = dict(counts)
        if (seeds := max(before, counts.get("seeds", 1))) > 1:
            self.info["counts"][name]["seeds"] = seeds
        self.info["defects"][name] = list(defects)
        self._save()

    def note_preset(self, task: str, preset: str) -> None:
        """Say by which preset a task was asked. Nothing depends on it: what the preset sets is in the fingerprints."""
        self.info.setdefault("presets", {})[task] = preset
        self._save()

    def register_model(self, label: str, fingerprint: Mapping[str, Any]) -> None:
        """State which model answers. One whose file (``adapter_source``) alone has changed goes on where it has not
        answered yet, since who mends it asks again; else as another environment does, if that is accepted."""
        known = self.info["models"].get(label)
        if known and "adapter_source" in known.keys() & fingerprint.keys():
            mended = {**known, "adapter_source": fingerprint["adapter_source"]}
            if self._accept_environment or not self._has_answers_of(label):
                self.info["models"][label] = mended
            elif mended != known and mended == _as_stated(fingerprint):
                raise UserError(
                    f"the file of the model {label!r} has changed since it answered in {self.folder}. Give it another "
                    "label, which asks anew and shows both (--models NEW=FILE), or use another --name; or keep these "
                    "answers and ask only what has none with --accept-environment."
                )
        self._register("models", label, fingerprint)
        self._save()

    def records(self, task: str, model: str) -> RecordFile:
        made = _digest(self.info["tasks"].get(task, {}), self.info["models"].get(model, {}))
        records = RecordFile(self._path(task, model), made)
        records.drop_torn_line()
        return records

    def _register(
        self, kind: str, name: str, fingerprint: Mapping[str, Any], or_else: Mapping[str, Any] | None = None
    ) -> None:
        fingerprint, or_else = _as_stated([fingerprint, or_else])
        known = without_named(self.info[kind].get(name))
        if known is None:
            self._check_made(kind, name, fingerprint)
        if known is not None:
            added = [key for key in _ADDED[kind] if key in fingerprint and key not in known]
            known = {**known, **{key: fingerprint[key] for key in added}}
        if known is not None and known not in (fingerprint, or_else) and self._has_records_of(kind, name):
            raise UserError(
                f"{self.folder} holds another run of {name!r}:\n{difference(known, fingerprint)}\n"
                "Use another --name or --output for this one"
                + (", or give the model another label (--models NEW=MODEL)." if kind == "models" else ".")
            )
        self.info[kind][name] = fingerprint

    def _check_made(self, kind: str, name: str, fingerprint: Mapping[str, Any]) -> None:
        """Raise UserError where answers are there of a task or model that run.json does not know, as it was lost, and
        were given in another way than this, or in one that cannot be told."""
        info = {**self.info, kind: {**self.info[kind], name: fingerprint}}
        tasks, models = ([name], info["models"]) if kind == "tasks" else (info["tasks"], [name])
        for task, model in ((task, model) for task in tasks for model in models):
            path, made = self._path(task, model), _digest(info["tasks"][task], info["models"][model])
            if any(record.fingerprint != made for record in read_records(path)):
                raise UserError(
                    f"{path} holds answers, and no run.json says how they were given: not in the way of this command, "
                    "or by an earlier version, which did not note it with each answer. Give the command that gave "
                    "them, put back a copy of that run.json, or use another --name for this run; nothing there was "
                    "changed"
                )

    def has_answers(self, task: str, model: str) -> bool:
        """Whether any are recorded, failed ones included."""
        path = self._path(task, model)
        return path.is_file() and path.stat().st_size > 0

    def _path(self, task: str, model: str) -> Path:
        return self.folder / f"{task}.{model}.jsonl"

    def _has_records_of(self, kind: str, name: str) -> bool:
        """Whether anything was asked: a command that ended before, for a mistake in it, stands in nobody's way."""
        return any(file.stat().st_size for file in self._files_of(kind, name))

    def _files_of(self, kind: str, name: str) -> Iterator[Path]:
        for file in self.folder.glob("*.*.jsonl"):
            task, _, model = file.name.removesuffix(".jsonl").partition(".")  # a task's name has no dots
            if name == (task if kind == "tasks" else model):
                yield file

    def _has_answers_of(self, label: str) -> bool:
        return any(record.answered for path in self._files_of("models", label) for record in read_records(path))

    def _new_info(self) -> dict[str, Any]:
        """Of a run that begins; or that has lost its run.json, and with it what its answers' environments were."""
        begun = datetime.now(timezone.utc).isoformat(timespec="seconds")
        info: dict[str, Any] = {"schema": SCHEMA, "begun": begun}
        answers = [record for path in self.folder.glob("*.*.jsonl") for record in read_records(path)]
        lost = 1 + max((record.environment for record in answers), default=-1)
        environments = [{"lost": number, "packages": {}, "hardware": {}} for number in range(lost)]
        return info | {"tasks": {}, "counts": {}, "defects": {}, "models": {}, "environments": environments}

    def _save(self) -> None:
        if not self.info["models"] and any(self._has_records_of("tasks", name) for name in self.info["tasks"]):
            return  # until it is known of a model that its answers were given in this way
        replace_text(self.folder / "run.json", json_text(without_named(self.info), indent=2))


class RecordFile:
    """The JSON lines of one task and one model (or a judge's, about these). ``fingerprint`` is noted in each record."""

    def __init__(self, path: Path, fingerprint: str = "") -> None:
        self.path, self._fingerprint = path, fingerprint
        self._file: Any = None

    def answered(self, seed: int = 0) -> set[str]:
        """Ids of the questions that have a response under ``seed``; a failed one is asked again by a rerun."""
        return {record.question for record in read_records(self.path) if record.answered and record.seed == seed}

    def append(self, record: Record | Mapping[str, Any]) -> None:
        """Write a record (or a judge's line), and have it reach the disk's cache before anything else is done."""
        if self._file is None:
            self.drop_torn_line()
            self._file = open_to_append(self.path)
        self._file.write(self.line_of(record).encode())
        self._file.flush()

    def line_of(self, record: Record | Mapping[str, Any]) -> str:
        """A record (or a judge's line) as it stands in this file. In ASCII: a response may hold half a surrogate pair,
        which UTF-8 cannot."""
        line = replace(record, fingerprint=self._fingerprint).to_json() if isinstance(record, Record) else record
        ids = {name: line[name] for name in ("question", "video") if name in line}  # by which it is found again
        line = {**without_secrets(line), **ids}
        return json_text(with_checksum(line) if isinstance(record, Record) else line) + "\n"

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def drop_torn_line(self) -> None:
        """Cut off a last line without its end: what a killed process was writing."""
        if not os.path.lexists(self.path):
            return
        with open_to_append(self.path) as file:
            end = size = file.seek(0, os.SEEK_END)
            while end > 0:
                begin = max(0, end - _BLOCK_BYTES)
                file.seek(begin)
                if (place := file.read(end - begin).rfind(b"\n")) >= 0:
                    end = begin + place + 1
                    break
                end = begin
            if end < size:
                file.truncate(end)


def _digest(task: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """Of how answers are given, as run.json states it."""
    stated = {key: value for key, value in task.items() if key != "without_prompt"}
    return hashlib.sha256(json.dumps([stated, model], sort_keys=True).encode()).hexdigest()[:16]


def _as_stated(value: Any) -> Any:
    """``value`` as run.json has it: what JSON makes of it, without secrets."""
    return without_named(json_value(json.dumps(value)))


def read_info(folder: Path) -> dict[str, Any]:
    """The contents of ``run.json``. Raises UserError if it is missing or unreadable."""
    path = folder / "run.json"
    try:
        info = json_value(read_of_others(path).decode())
    except FileNotFoundError:
        raise UserError(f"{folder} holds no run (no run.json)") from None
    except (ValueError, OSError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): move that file away, but nothing else, and give the run's own command "
            "again, which goes on with the answers there"
        ) from error
    kinds = {"tasks": dict, "counts": dict, "defects": dict, "models": dict, "environments": list}
    sound = isinstance(info, dict) and all(isinstance(info.get(key), kind) for key, kind in kinds.items())
    if not sound or info.get("schema") != SCHEMA or not _holds_objects(info):
        raise UserError(f"{path} was not written by this version of vamba-eval: use another --name or --output")
    return info


def _holds_objects(info: Mapping[str, Any]) -> bool:
    """Whether tasks, models and environments are described, and tasks counted, as every version here does it. Their
    names become those of files, so they name no folder."""
    if any("/" in name or "\\" in name or "\0" in name for name in (*info["tasks"], *info["models"])):
        return False
    described = [*info["tasks"].values(), *info["models"].values(), *info["environments"]]
    counted = [info["counts"].get(name) for name in info["tasks"]]
    if not all(isinstance(each, dict) for each in [*described, *counted]):
        return False
    numbers = [each.get(what) for each in counted for what in ("videos", "questions")]
    numbers += [each[what] for each in counted for what in ("seeds", "trials") if what in each]
    said = [(task, _OF_A_TASK) for task in info["tasks"].values()]
    said += [(model, _OF_A_MODEL) for model in info["models"].values()]
    said += [(task.get("sampling") or {}, _OF_A_SAMPLING) for task in info["tasks"].values()]
    return all(isinstance(number, int) and 0 <= number <= MOST_COUNTED for number in numbers) and all(
        isinstance(each, dict) and all(isinstance(each.get(name), kind | None) for name, kind in kinds.items())
        for each, kinds in said
    )


def read_records(path: Path) -> Iterator[Record]:
    """The records in ``path``, in the order written. Raises UserError for one that holds what no record can."""
    for line in read_lines(path):
        try:
            record = Record.from_json(line)
        except ValueError as error:
            raise UserError(f"{path}: the record of question {line['question']!r} cannot be read: {error}") from None
        if record is not None:
            yield record


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects in ``path``, a line each; lines that a crash left unreadable are passed over. Raises UserError
    for what is there and is no file."""
    if not path.exists():
        return
    for line in lines_of_others(path):
        if not line.endswith("\n"):
            return
        try:
            record = json_value(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def latest_records(path: Path) -> list[Record]:
    """One record a question and trial: its response if it ever had one, else its last failure."""
    latest: dict[tuple[str, Trial], Record] = {}
    for record in read_records(path):
        key = (record.question, record.trial)
        if key not in latest or not latest[key].answered:
            latest[key] = record
    return list(latest.values())


def find_runs(paths: list[Path]) -> list[Path]:
    """The run folders at or below ``paths``, sorted. Raises UserError for a path without any."""
    folders: list[Path] = []
    for path in paths:
        found = sorted((file.parent for file in path.rglob("run.json")), key=_natural) if path.is_dir() else []
        if not found:
            raise UserError(f"no run at or below {path}: expected a folder with a run.json in it")
        folders += [folder for folder in found if folder not in folders]
    return folders


def _natural(path: Path) -> list[int | str]:
    """Sorts 8-frames before 16-frames: text and numbers take turns."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]


def difference(
    known: Mapping[str, Any], asked: Mapping[str, Any], known_is: str = "there", asked_is: str = "now"
) -> str:
    """A line for each entry in which two fingerprints differ."""
    before, now = _flat(known), _flat(asked)
    lines = []
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            lines.append(f"  {key}: {before.get(key, 'absent')} {known_is}, {now.get(key, 'absent')} {asked_is}")
    return "\n".join(lines)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat

"""Sweeps: what models cost as videos grow longer, and where they no longer fit.

A sweep is a folder: ``sweep.json`` says what its figures are figures of, ``points.jsonl`` holds one line a point,
written as soon as it is known. Every point is measured in a process of its own (`vamba_eval.profile.point`), so that
running out of memory is a result like any other. The same sweep goes on where it stopped. Knows no model by name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vamba_eval import machine, registry
from vamba_eval.contracts import UserError
from vamba_eval.files import locked, replace_text
from vamba_eval.plain import did_you_mean
from vamba_eval.profile.point import CRASHED, MISTAKE, OK, OUT_OF_HOST_MEMORY, PHASES, TIMED_OUT
from vamba_eval.secrets import without_named
from vamba_eval.store.runs import RecordFile, difference
from vamba_eval.tables.costs import Distribution

SCHEMA = 1

# Outcomes that say nothing about the model's needs.
FAILURES = (CRASHED, TIMED_OUT)

# A search for the longest video ends here: an hour and a half at 12 frames a second.
MOST_FRAMES = 65_536


@dataclass(frozen=True)
class Point:
    """``model`` is a label; ``width`` and ``height`` are those of frames, in pixels."""

    model: str
    phase: str
    width: int
    height: int
    frames: int

    def __str__(self) -> str:
        return f"{self.model} {self.phase} {self.width}x{self.height} {self.frames} frames"


@dataclass(frozen=True)
class ModelSpec:
    """An adapter's name (or path) and its arguments, under a label."""

    label: str
    source: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class How:
    """How every point of a sweep is measured.

    prompt_tokens   of the question, with the model's chat template
    new_tokens      of an answer: what ``decode`` generates and ``train`` learns
    repeats         timed passes, after one to warm up
    """

    prompt_tokens: int = 160
    new_tokens: int = 64
    repeats: int = 3

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise UserError(f"--{name.replace('_', '-')} must be positive, not {value}")


def sweep(
    models: Sequence[ModelSpec],
    frames: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    phases: Sequence[str],
    output: Path,
    *,
    how: How | None = None,
    find_longest: float | None = None,
    timeout_s: float = 900.0,
    retry: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Measure every combination that ``output`` does not hold yet, and return all its rows.

    frames          counts; of each model, phase and size the smallest goes first, and none is tried that is longer
                    than one that did not fit or took too long
    sizes           (width, height) in pixels
    phases          among prefill, decode and train
    find_longest    also search for the longest video that fits, to within this factor (1.0: to the frame)
    timeout_s       of one point
    retry           measure points again that crashed or took too long
    say             told what happens, line by line

    Raises UserError for what the caller can correct; rows measured before are kept.
    """
    how = how or How()
    _check(models, frames, sizes, phases, find_longest)
    if timeout_s <= 0:
        raise UserError(f"--point-timeout must be a positive number of seconds, not {timeout_s:g}")
    with Sweep(output, models, how) as results:
        if retry:
            results.forget(*FAILURES)
        for model in models:
            for width, height in sizes:
                for phase in phases:
                    _ladder(results, model, phase, (width, height), sorted(set(frames)), how, timeout_s, say)
                    if find_longest is not None:

                        def fits(
                            count: int,
                            model: ModelSpec = model,
                            phase: str = phase,
                            size: tuple[int, int] = (width, height),
                        ) -> bool:
                            point = Point(model.label, phase, *size, count)
                            row = results.rows.get(point) or _measure(results, model, point, how, 0, timeout_s, say)
                            return bool(row["outcome"] == OK)

                        known = results.outcomes(model.label, phase, (width, height))
                        bisect_longest(fits, known, find_longest)
        return results.all_rows()


def _ladder(
    results: Sweep,
    model: ModelSpec,
    phase: str,
    size: tuple[int, int],
    frames: Sequence[int],
    how: How,
    timeout_s: float,
    say: Callable[[str], None],
) -> None:
    for count in frames:
        point = Point(model.label, phase, *size, count)
        known = results.rows.get(point)
        if known is None or (known.get("probe") and known["outcome"] == OK):
            known = _measure(results, model, point, how, how.repeats, timeout_s, say)
        if known["outcome"] not in (OK, CRASHED):
            if longer := [other for other in frames if other > count]:
                say(f"{model.label} {phase}: longer ones ({', '.join(map(str, longer))}) are not tried")
            return


def bisect_longest(fits: Callable[[int], bool], known: Mapping[int, bool], factor: float) -> int:
    """The largest number of frames that fits, found with few calls of ``fits``; 0 where even one frame does not.

    ``known`` is what is known already. The result is within ``factor`` of one that does not fit (1.0: the very
    next one), or at least MOST_FRAMES.
    """
    low = max((n for n, fitted in known.items() if fitted), default=0)
    high = min((n for n, fitted in known.items() if not fitted and n > low), default=None)
    while high is None:
        if low >= MOST_FRAMES:
            return low
        longer = max(8, 2 * low)
        if fits(longer):
            low = longer
        else:
            high = longer
    while high > max(low + 1, factor * low):
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def _check(
    models: Sequence[ModelSpec],
    frames: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    phases: Sequence[str],
    find_longest: float | None,
) -> None:
    if not models or not frames or not sizes or not phases:
        raise UserError("name at least one model, number of frames, size and phase")
    if len({model.label for model in models}) != len(models):
        raise UserError("two models have the same label: tell them apart with label=name")
    if (least := min(frames)) < 1:
        raise UserError(f"a video has at least one frame, not {least}")
    if unknown := [phase for phase in phases if phase not in PHASES]:
        near = did_you_mean(unknown[0], PHASES)
        raise UserError(f"unknown phase {unknown[0]!r}{near}: there are {', '.join(PHASES)}")
    if find_longest is not None and find_longest < 1:
        raise UserError(f"--find-longest takes a factor of at least 1, not {find_longest:g}")
    for model in models:
        registry.check_arguments(model.source, model.arguments)


class Sweep:
    """A sweep's folder, open for writing by one process at a time."""

    def __init__(self, folder: Path, models: Sequence[ModelSpec], how: How) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UserError(f"{folder} is a file, not a folder: choose another --output") from None
        self._models = {
            model.label: {"adapter": model.source, **registry.source_of(model.source), **model.arguments}
            for model in models
        }
        self._how = asdict(how)
        self._file = RecordFile(folder / "points.jsonl")
        self.rows: dict[Point, dict[str, Any]] = {}

    def __enter__(self) -> Sweep:
        taken = f"another process is writing to {self.folder}: wait for it, or use another --output"
        with ExitStack() as stack:
            stack.enter_context(locked(self.folder / ".lock", taken))
            self._enter()
            self._lock = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._lock.close()

    def _enter(self) -> None:
        environment = _of_visible_gpus(machine.environment())
        ours = without_named(
            json.loads(json.dumps({"how": self._how, "models": self._models, "environment": environment}))
        )
        begun = datetime.now(timezone.utc).isoformat(timespec="seconds")
        info = {"schema": SCHEMA, "begun": begun, **ours}
        self._file.drop_torn_line()
        self.rows = {_point_of(row): row for row in read_points(self.folder)}
        if self.rows:
            info = read_sweep(self.folder)
            # Another model may join; what the folder holds must have been measured in the same way on the same machine.
            measured = {point.model for point in self.rows}
            theirs = {
                **info,
                "models": {  # of adapters in files earlier versions did not note the source
                    label: {**registry.source_of(ours["models"][label]["adapter"]), **about}
                    for label, about in info["models"].items()
                    if label in ours["models"] and label in measured
                },
            }
            here = {**ours, "models": {k: v for k, v in ours["models"].items() if k in theirs["models"]}}
            if changes := difference({key: theirs[key] for key in here}, here):
                raise UserError(f"{self.folder} holds another sweep:\n{changes}\nUse another --output for this one.")
            info["models"] |= ours["models"]
        replace_text(self.folder / "sweep.json", json.dumps(info, indent=2))

    def add(self, point: Point, row: Mapping[str, Any]) -> dict[str, Any]:
        full = {**asdict(point), **row}
        self._file.append(full)
        self.rows[point] = full
        return full

    def forget(self, *outcomes: str) -> None:
        self.rows = {point: row for point, row in self.rows.items() if row["outcome"] not in outcomes}

    def outcomes(self, label: str, phase: str, size: tuple[int, int]) -> dict[int, bool]:
        """Whether each number of frames that was tried fits."""
        return {
            point.frames: row["outcome"] == OK
            for point, row in self.rows.items()
            if (point.model, point.phase, point.width, point.height) == (label, phase, *size)
        }

    def all_rows(self) -> list[dict[str, Any]]:
        return in_order(self.rows.values())


def read_sweep(folder: Path) -> dict[str, Any]:
    """The contents of ``sweep.json``. Raises UserError where there is none."""
    try:
        info = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no sweep (no sweep.json)") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / 'sweep.json'} cannot be read ({error}): use another --output") from error
    if not isinstance(info, dict) or info.get("schema") != SCHEMA:
        raise UserError(f"{folder / 'sweep.json'} was not written by this version of vamba-eval: use another --output")
    return info


def read_points(folder: Path) -> list[dict[str, Any]]:
    """The last row of each point in ``points.jsonl``; torn and unreadable lines are skipped."""
    rows: dict[Point, dict[str, Any]] = {}
    path = folder / "points.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with suppress(json.JSONDecodeError, KeyError, TypeError):
            row = json.loads(line)
            rows[_point_of(row)] = row
    return in_order(rows.values())


def in_order(rows: Any) -> list[dict[str, Any]]:
    """By phase, size and model in the order in which they came, then by frames."""
    rows = list(rows)
    ranks: dict[Any, int] = {}
    for row in rows:
        for key in (row["phase"], (row["width"], row["height"]), ("model", row["model"])):
            ranks.setdefault(key, len(ranks))

    def rank(row: Mapping[str, Any]) -> tuple[int, ...]:
        size = (row["width"], row["height"])
        return ranks[row["phase"]], ranks[size], ranks["model", row["model"]], row["frames"]

    return sorted(rows, key=rank)


def _point_of(row: Mapping[str, Any]) -> Point:
    return Point(*(row[name] for name in Point.__dataclass_fields__))


def _measure(
    results: Sweep, model: ModelSpec, point: Point, how: How, repeats: int, timeout_s: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """The row of one point, measured in a process of its own and stored. ``repeats`` 0 asks only whether it fits."""
    request = {"source": model.source, "arguments": dict(model.arguments), **asdict(point), **asdict(how)}
    start = time.perf_counter()
    row = run_point({**request, "repeats": repeats}, timeout_s)
    if row["outcome"] == MISTAKE:
        raise UserError(row["detail"])
    row |= {"repeats": repeats, "prompt_tokens_asked": how.prompt_tokens, "process_s": time.perf_counter() - start}
    row["measured"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    if not repeats:
        row["probe"] = True
    full = results.add(point, row)
    say(f"{point}: {_in_a_line(full)}")
    return full


def run_point(request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
    """What the process of a point answers; where it cannot answer, the outcome that its end means."""
    # The package that runs here is the one that runs there, wherever it was imported from.
    here = str(Path(__file__).resolve().parent.parent.parent)
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryFile() as errors, _process(errors, {**os.environ, "PYTHONPATH": path}) as process:
        assert process.stdin is not None and process.stdout is not None
        watch, answer = _Deadline(process, timeout_s), b""
        with watch, suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        if watch.passed:
            return {"outcome": TIMED_OUT, "detail": f"after {timeout_s:g} s"}
        with suppress(json.JSONDecodeError):
            return dict(json.loads(answer))
        status = process.wait()
        errors.seek(0)
        said = [line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    if status == -signal.SIGKILL:
        # Nobody else does: we kill none that is in time.
        return {"outcome": OUT_OF_HOST_MEMORY, "detail": "killed by the system (SIGKILL), as when memory runs out"}
    ended = f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return {"outcome": CRASHED, "detail": f"{ended}{': ' + said[-1] if said else ''}"}


@contextmanager
def _process(errors: Any, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A fresh interpreter, gone with all its children when the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vamba_eval.profile.point"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _kill(process)
        for stream in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):
                assert stream is not None
                stream.close()


class _Deadline:
    """Kills a process that outlasts the block's time."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.passed = False
        self._process = process
        self._timer = threading.Timer(seconds, self._pass)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _pass(self) -> None:
        self.passed = True
        _kill(self._process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # its session is its own
    process.wait()


def _in_a_line(row: Mapping[str, Any]) -> str:
    if row["outcome"] != OK:
        return f"{row['outcome']} ({row['detail']})"
    medians = {name: Distribution.of(values) for name, values in row["samples"].items()}
    parts = [f"{spread.median:.4g} {name}" for name, spread in medians.items() if spread is not None]
    if row.get("gpu_allocated"):
        parts.append(f"{row['gpu_allocated'] / 2**30:.1f} GiB")
    return ", ".join(parts) or "fits"


def _of_visible_gpus(environment: dict[str, Any]) -> dict[str, Any]:
    """Without the GPUs that CUDA_VISIBLE_DEVICES hides: points use the first visible one."""
    hardware = environment["hardware"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if "gpus" in hardware and all(number.strip().isdigit() for number in visible):
        gpus = [hardware["gpus"][int(number)] for number in visible if int(number) < len(hardware["gpus"])]
        return {**environment, "hardware": {**hardware, "gpus": gpus}}
    return environment

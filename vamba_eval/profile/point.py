"""What one point of a sweep costs: one model, one phase, one number of frames, in a process of its own.

    python -m vamba_eval.profile.point < request

The request is one line of JSON on standard input, which stays open for as long as the answer is wanted; the answer is
one line of JSON on standard output. Frames are noise made in memory: nothing is decoded here, no decoder imported.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from vamba_eval.contracts import Clip, GenerationSettings, ModelAdapter, UserError, first_line
from vamba_eval.cost.flops import count_flops
from vamba_eval.cost.meter import Meter
from vamba_eval.cost.monitor import GpuMonitor, HostMemory
from vamba_eval.machine import out_of_memory
from vamba_eval.run.session import Session

if TYPE_CHECKING:
    import numpy as np

OK, OUT_OF_MEMORY, OUT_OF_HOST_MEMORY = "ok", "out of memory", "out of host memory"
CRASHED, TIMED_OUT, MISTAKE = "crashed", "timed out", "mistake"

# An answer of this length is subtracted from the long one: its tokens are those before the steady state.
FEW_TOKENS = 16

# Different pictures; a longer clip repeats them, because making gigabytes of noise takes longer than many a point.
PICTURES = 64

Costs = dict[str, float]


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """The measured fields of a point's row.

    ``request``: ``source`` and ``arguments`` of the adapter; ``phase``, ``frames``, ``width``, ``height``;
    ``prompt_tokens``, ``new_tokens``, ``repeats``. 0 repeats: only whether it fits is wanted, and the memory it takes.
    """
    start = time.perf_counter()
    adapter = build_adapter(request["source"], request["arguments"])
    try:
        with HostMemory() as host, GpuMonitor() as gpu:
            loaded = time.perf_counter()
            clip = make_clip(request["frames"], request["width"], request["height"])
            row = {"load_s": round(loaded - start, 3), "model_is": adapter.describe()}
            row["reported_as"] = adapter.reported_as
            row |= PHASES[request["phase"]](adapter, clip, request, gpu)
            host.sample()
            return {**row, "host_bytes": host.peak, "gpu_utilization": gpu.utilization}
    finally:
        adapter.close()


def build_adapter(source: str, arguments: Mapping[str, Any]) -> ModelAdapter:
    """The adapter; without a checkpoint with weights of the released size, where it has those to offer.

    ``dtype`` and ``device`` reach the adapters that take them.
    """
    from vamba_eval import registry

    takes = inspect.signature(registry.adapter_class(source)).parameters
    arguments = dict(arguments)
    for name in ("dtype", "device"):
        if name not in takes:
            arguments.pop(name, None)
    if "random" in takes and "pretrained" not in arguments:
        arguments.setdefault("random", "released")
    return registry.load_local(source, **arguments)


def make_clip(frames: int, width: int, height: int) -> Clip:
    """Noise, a frame a second."""
    import numpy as np

    pictures = np.random.default_rng(0).integers(0, 256, (min(frames, PICTURES), height, width, 3), dtype=np.uint8)
    index = np.arange(frames)
    shown: np.ndarray = pictures[index % len(pictures)]
    return Clip(shown, index.astype(np.float64), index, 1.0, float(frames))


def _prefill(adapter: ModelAdapter, clip: Clip, request: Mapping[str, Any], gpu: GpuMonitor) -> dict[str, Any]:
    prompt = prompt_of(adapter, clip, request["prompt_tokens"])
    one = GenerationSettings(max_new_tokens=1, min_new_tokens=1)
    tokens: dict[str, Any] = {}

    def once(meter: Meter) -> None:
        with meter.phase("prefill"):
            session = begin(adapter, clip, meter)
            answer = session.answer(prompt, one)
        tokens.update(prompt_tokens=answer.prompt_tokens, video_tokens=_video_tokens(session))

    measured = _repeat(once, "prefill", request["repeats"], gpu)
    # Where the adapter says when the first token is known, what follows it is not part of the prefill's answer.
    named = {"prefill": "first_answer_s", "preprocess": "preprocess_s", "encode": "encode_s", "generate": "question_s"}
    return {**_named(measured, named, "prefill"), **tokens}


def begin(adapter: ModelAdapter, clip: Clip, meter: Meter | None = None) -> Session:
    """The clip encoded, if the model reads any."""
    return Session(adapter, clip if adapter.reads_video else None, meter or Meter())


def _video_tokens(session: Session) -> int | None:
    return None if session.seen is None else session.seen.video_tokens


def _decode(adapter: ModelAdapter, clip: Clip, request: Mapping[str, Any], gpu: GpuMonitor) -> dict[str, Any]:
    prompt = prompt_of(adapter, clip, request["prompt_tokens"])
    many = max(2, request["new_tokens"])
    few = min(FEW_TOKENS, many // 2)
    lengths = {"few": few, "answer": many}
    session = begin(adapter, clip)
    tokens: dict[str, Any] = {"video_tokens": _video_tokens(session)}

    def once(meter: Meter) -> None:
        session.meter = meter
        for name, length in lengths.items():
            answer = session.answer(prompt, GenerationSettings(length, min_new_tokens=length), phase=name)
            lengths[name] = answer.num_tokens or length
        tokens.update(prompt_tokens=answer.prompt_tokens, new_tokens=lengths["answer"])

    measured = _repeat(once, "answer", request["repeats"], gpu, count=False)
    row = _named(measured, {"answer": "answer_s"}, "answer")
    if request["repeats"] and (further := lengths["answer"] - lengths["few"]) > 0:
        for quantity, unit in (("seconds", "s"), ("joules", "j")):
            pairs = [(costs.get(f"{quantity} answer"), costs.get(f"{quantity} few")) for costs in measured["costs"]]
            known = [(a - b) / further for a, b in pairs if a is not None and b is not None]
            row["samples"][f"token_{unit}"] = known
        if "torch" in sys.modules:
            flops = {}
            for length in (2, 4):
                with count_flops() as counted:
                    session.answer(prompt, GenerationSettings(length, min_new_tokens=length))
                flops[length] = counted.total
            row["token_flops"] = (flops[4] - flops[2]) / 2
    return {**row, **tokens}


def _train(adapter: ModelAdapter, clip: Clip, request: Mapping[str, Any], gpu: GpuMonitor) -> dict[str, Any]:
    if type(adapter).train_step is ModelAdapter.train_step:
        raise UserError(
            f"model {adapter.name!r} cannot be trained: leave out --phase train, or give its adapter a train_step"
        )
    prompt, answer = (" a" * request[name] for name in ("prompt_tokens", "new_tokens"))
    losses: list[float] = []

    def once(meter: Meter) -> None:
        with meter.phase("step"):
            losses.append(adapter.train_step(clip, prompt, answer))

    measured = _repeat(once, "step", request["repeats"], gpu)
    named = {"step": "step_s", "preprocess": "preprocess_s", "forward": "forward_s", "backward": "backward_s"}
    return {**_named(measured, named, "step"), "loss": losses[-1]}


PHASES: dict[str, Callable[[ModelAdapter, Clip, Mapping[str, Any], GpuMonitor], dict[str, Any]]] = {
    "prefill": _prefill,
    "decode": _decode,
    "train": _train,
}


def _repeat(
    once: Callable[[Meter], None], whole: str, repeats: int, gpu: GpuMonitor, count: bool = True
) -> dict[str, Any]:
    """``once`` a first time to warm up and (``count``) to count FLOPs, then ``repeats`` times timed; peaks are of the
    latter. With no repeats it runs once, and is neither counted nor timed.
    """
    result: dict[str, Any] = {"costs": [], "timed": repeats > 0}
    count = count and "torch" in sys.modules
    if repeats:
        with count_flops() if count else nullcontext() as flops, Meter() as meter:
            once(meter)
        if flops is not None:
            result |= {"flops": flops.total, "flops_by_kind": dict(flops.by_kind)}
        gpu.reset()
    peaks: dict[str, int] = {}
    for _ in range(repeats or 1):
        with Meter(gpu) as meter:
            once(meter)
        meter.wait()
        gpu.sample()
        for kind in ("gpu_allocated", "gpu_reserved"):
            if (bytes_ := getattr(meter.costs[whole], kind)) is not None:
                peaks[kind] = max(bytes_, peaks.get(kind, 0))
        costs: Costs = {}
        for name, cost in meter.costs.items():
            costs[f"seconds {name}"] = cost.seconds
            if cost.energy_j is not None:
                costs[f"joules {name}"] = cost.energy_j
        result["costs"].append(costs)
    return {**result, "peaks": peaks}


def _named(measured: Mapping[str, Any], names: Mapping[str, str], whole: str) -> dict[str, Any]:
    """The fields of a row: samples of each phase's seconds under its column's name, peaks, FLOPs, energy."""
    row: dict[str, Any] = {**measured["peaks"], "samples": {}}
    if not measured["timed"]:
        return row
    row |= {name: measured[name] for name in ("flops", "flops_by_kind") if name in measured}
    for phase, column in names.items():
        if samples := [costs[f"seconds {phase}"] for costs in measured["costs"] if f"seconds {phase}" in costs]:
            row["samples"][column] = samples
    if joules := [costs[f"joules {whole}"] for costs in measured["costs"] if f"joules {whole}" in costs]:
        row["samples"]["energy_j"] = joules
    return row


def prompt_of(adapter: ModelAdapter, clip: Clip, tokens: int) -> str:
    """Words that make up a prompt of ``tokens`` tokens with all that the adapter puts around them.

    Measured with the adapter's own tokenizer, on the clip's first frames; an adapter that does not say how many
    tokens a prompt has gets that many words.
    """
    start = Clip(clip.frames[:2], clip.timestamps_s[:2], clip.frame_indices[:2], clip.source_fps, clip.duration_s)
    session, one = begin(adapter, start), GenerationSettings(max_new_tokens=1)

    def length(words: int) -> int:
        return session.answer(" a" * words, one).prompt_tokens

    least, more = length(1), length(33)
    if more <= least:
        return " a" * tokens
    return " a" * max(1, 1 + round((tokens - least) * 32 / (more - least)))


def outcome_of(error: BaseException) -> dict[str, str]:
    """The outcome of a point that ended in ``error``, and the reason in one line."""
    detail = first_line(error)
    if isinstance(error, UserError):
        return {"outcome": MISTAKE, "detail": str(error)}
    if (whose := out_of_memory(error)) is not None:
        return {"outcome": OUT_OF_MEMORY if whose == "gpu" else OUT_OF_HOST_MEMORY, "detail": detail}
    return {"outcome": CRASHED, "detail": f"{type(error).__name__}: {detail}"}


def _end_with_parent() -> None:
    sys.stdin.read()  # until the other end is closed, by whatever way
    os._exit(1)


def main() -> None:
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is not part of the answer
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        row = {"outcome": OK, **measure(request)}
    except Exception as error:
        row = outcome_of(error)
        if row["outcome"] == CRASHED:
            import traceback

            traceback.print_exc()
    answer.write(json.dumps(row) + "\n")
    answer.flush()
    os._exit(0)  # a context that a crash left broken can hang at an orderly end


if __name__ == "__main__":
    main()

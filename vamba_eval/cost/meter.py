"""What work costs: seconds, bytes, joules and FLOPs, measured by the harness and never by the model.

A `Meter` measures phases. An adapter only says where one begins and ends (`phase`, `mark_first_token`), which does
nothing unless a meter measures. Uses a GPU's own events and counters if torch is loaded and uses one, but never
loads torch itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from typing import Any

from vamba_eval.cost.monitor import (
    GpuMonitor,
    cuda,
    gpu_peaks,
    gpus_in_use,
    reset_resident_peak,
    resident_peak,
)


@dataclass
class PhaseCost:
    """What a phase cost, all its occurrences together.

    seconds         between its ends, as the device saw them where it works on a GPU
    gpu_allocated   peak bytes of tensors, summed over GPUs; None without a GPU in use
    gpu_reserved    peak bytes that torch's caching allocator held
    energy_j        of the GPUs in use, whoever works on them; None where no `GpuMonitor` knows
    """

    seconds: float = 0.0
    gpu_allocated: int | None = None
    gpu_reserved: int | None = None
    energy_j: float | None = None

    def shared_by(self, number: int) -> PhaseCost:
        """An even share of one phase's time and energy; its peaks are everybody's."""
        energy_j = None if self.energy_j is None else self.energy_j / number
        return replace(self, seconds=self.seconds / number, energy_j=energy_j)

    def to_json(self) -> dict[str, float | int]:
        """As a record holds it: what is not known is left out."""
        values = {"s": round(self.seconds, 6), "gpu_allocated": self.gpu_allocated, "gpu_reserved": self.gpu_reserved}
        if self.energy_j is not None:
            values["energy_j"] = round(self.energy_j, 3)
        return {key: value for key, value in values.items() if value is not None}


@dataclass
class _Border:
    """A moment: by the clock, and on the current stream of each GPU in use."""

    clock: float
    events: dict[int, Any]

    def until(self, other: _Border) -> float:
        """Seconds. Of several GPUs, that of the one that took longest."""
        if other is self:
            return 0.0
        both = self.events.keys() & other.events.keys()
        if not both:
            return other.clock - self.clock
        return max(self.events[device].elapsed_time(other.events[device]) for device in both) / 1000


@dataclass
class _Span:
    """A phase that has begun: its name, its beginning, and peak bytes of each GPU so far."""

    name: str
    begin: _Border
    allocated: dict[int, int] = field(default_factory=dict)
    reserved: dict[int, int] = field(default_factory=dict)


class Meter:
    """Measures phases; also a context manager, which only shows where it is in use.

        with Meter() as meter, meter.phase("encode"):
            adapter.encode(clip)  # where it says `with phase("preprocess")`, that is measured too
        meter.costs["encode"].seconds

    Phases nest, those of one meter within each other; a phase that occurs several times is summed, its peaks are the
    highest. On a GPU the borders are events on the current stream: the GPU is waited for when costs are asked for,
    and a phase gets the time that the GPU spent on what was queued in it. So the work of the host that hides behind
    that of the GPU costs nothing, and what follows a phase is queued while the GPU still works. Without a GPU it is
    the clock. Phases of other threads are not measured, and none may begin or end while a CUDA graph is captured.

    torch's own peak counters are reset at each border, so read `peak` instead of them. ``gpu`` gives phases their
    energy.
    """

    def __init__(self, gpu: GpuMonitor | None = None) -> None:
        self._costs: dict[str, PhaseCost] = {}
        self._gpu = gpu
        self._devices: list[int] = []
        self._whole = _Span("", _Border(0.0, {}))
        self._open: list[_Span] = []
        self._closed: list[tuple[_Span, _Border]] = []  # within the open outermost phase
        self._ended: list[tuple[_Span, _Border]] = []  # with their outermost phases, but the GPU may not be there yet
        self._origin: _Border | None = None  # where the first of those began, with an idle GPU
        self._outermost: Token[Meter | None] | None = None
        reset_resident_peak()
        if (gpus := cuda()) is not None:
            for device in range(gpus.device_count()):
                gpus.reset_peak_memory_stats(device)

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None: ...

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the block as (another occurrence of) the phase ``name``; also what ends in an exception."""
        if not self._open and _active.get() is not None:
            raise RuntimeError("another meter is measuring: one at a time")
        self._note_memory(everywhere=not self._open)
        span = _Span(name, _border(self._devices))
        if not self._open:
            self._outermost = _active.set(self)
        self._open.append(span)
        try:
            yield
        finally:
            self._end(span)

    def mark_first_token(self) -> None:
        """Split the open phase "generate" here, into "first_token" and "further_tokens"; only its first call does."""
        names = [span.name for span in self._open]
        if "generate" not in names or "further_tokens" in names:
            return
        border = _border(self._devices)
        self._note_memory()
        at = names.index("generate")
        whole = self._open[at]
        first = replace(whole, name="first_token", allocated=dict(whole.allocated), reserved=dict(whole.reserved))
        self._closed.append((first, border))
        self._open.insert(at + 1, _Span("further_tokens", border))

    @property
    def costs(self) -> dict[str, PhaseCost]:
        """Of all outermost phases that have ended, and of those within; waits for the GPU to be that far."""
        self.wait()
        ended, self._ended = self._ended, []
        origin, self._origin = self._origin, None
        for span, end in ended:
            self._add(span, origin or span.begin, end)
        return self._costs

    def take(self) -> dict[str, PhaseCost]:
        """The costs so far; what follows is measured from zero."""
        taken, self._costs = self.costs, {}
        return taken

    def wait(self) -> None:
        """Return when the GPU is at the end of the last outermost phase that has ended."""
        if self._ended:
            for event in self._ended[-1][1].events.values():
                event.synchronize()

    def peak(self) -> tuple[int, str]:
        """Peak bytes since the meter was made, within phases and between, and what they are: "gpu" (allocated, over
        all GPUs in use) or, without any, "resident" (this process's)."""
        self._note_memory()
        if self._whole.allocated:
            return sum(self._whole.allocated.values()), "gpu"
        return resident_peak(), "resident"

    def _note_memory(self, everywhere: bool = False) -> None:
        """Peaks since the last border, for all phases that are open; torch's counters are then reset.

        Of the GPUs that are known to be in use, or ``everywhere``, which finds out again which are: reading torch's
        counters is most of what a border costs, so it is done once per GPU.
        """
        if (gpus := cuda()) is None:
            return
        peaks = gpus_in_use() if everywhere else {device: gpu_peaks(device) for device in self._devices}
        self._devices = list(peaks)
        for device, (allocated, reserved) in peaks.items():
            gpus.reset_peak_memory_stats(device)
            for span in (self._whole, *self._open):
                span.allocated[device] = max(allocated, span.allocated.get(device, 0))
                span.reserved[device] = max(reserved, span.reserved.get(device, 0))

    def _end(self, span: _Span) -> None:
        at = self._open.index(span)
        if at == 0 and self._outermost is not None:
            _active.reset(self._outermost)
        border = _border(self._devices)  # before all that takes time itself
        self._note_memory(everywhere=at == 0)  # it may have been the first to use one
        ended, self._open = self._open[at:], self._open[:at]
        self._closed += [(inner, border) for inner in ended]
        if at == 0:
            self._ended += self._closed
            self._closed = []
            self._origin = self._origin or span.begin
            if self._devices != list(border.events):  # one has come into use: only the clock has seen all it did
                for device in self._devices:
                    cuda().synchronize(device)
                border.clock = time.perf_counter()

    def _add(self, span: _Span, origin: _Border, end: _Border) -> None:
        again = span.name in self._costs
        cost = self._costs.setdefault(span.name, PhaseCost())
        seconds = span.begin.until(end)
        cost.seconds += seconds
        if span.allocated:
            cost.gpu_allocated = max(cost.gpu_allocated or 0, sum(span.allocated.values()))
            cost.gpu_reserved = max(cost.gpu_reserved or 0, sum(span.reserved.values()))
        if self._gpu is not None and (not again or cost.energy_j is not None):
            # When the GPU was there, by the clock of the readings.
            began = origin.clock + origin.until(span.begin)
            joules = self._gpu.joules(began, began + seconds)
            cost.energy_j = None if joules is None else joules + (cost.energy_j or 0.0)


_active: ContextVar[Meter | None] = ContextVar("active_meter", default=None)


def phase(name: str) -> AbstractContextManager[None]:
    """For adapters: the block is the phase ``name`` ("preprocess", say) within the one that is measured, if any."""
    meter = _active.get()
    return nullcontext() if meter is None else meter.phase(name)


def mark_first_token() -> None:
    """For adapters: call it once in ``generate``, when the work that gives the first token is done or queued."""
    if (meter := _active.get()) is not None:
        meter.mark_first_token()


def _border(devices: list[int]) -> _Border:
    """Now, and as soon as the GPUs have done what is queued."""
    events = {}
    if (gpus := cuda()) is not None:
        for device in devices:  # an event on a GPU that is not used would take memory there
            events[device] = gpus.Event(enable_timing=True)
            events[device].record(gpus.current_stream(device))
    return _Border(time.perf_counter(), events)


# Not of a thread's context: a backward pass on a GPU runs in threads of autograd's own.

"""What a model's answers cost, from the records of a run: seconds, tokens, bytes, joules.

Medians with 5th and 95th percentiles, never a mean alone: times of videos of unlike length have no meaningful mean.
What a model did first in a process (its warm-up) is left out where there is anything else.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from vamba_eval.store.records import Record

# Those that follow one another; others (preprocessing) lie within them.
_CONSECUTIVE = ("encode", "generate", "first_token", "further_tokens")


@dataclass(frozen=True)
class Distribution:
    """The median of ``count`` values, and their 5th and 95th percentiles."""

    median: float
    p5: float
    p95: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Distribution | None:
        """With linear interpolation between values (NumPy's default). None without any; a None among them does not
        count."""
        known = [float(value) for value in values if value is not None]
        if not known:
            return None
        if len(known) == 1:
            return cls(known[0], known[0], known[0], 1)
        twentieths = statistics.quantiles(known, n=20, method="inclusive")
        return cls(statistics.median(known), twentieths[0], twentieths[-1], len(known))


@dataclass(frozen=True)
class Costs:
    """Costs of one model on one benchmark. Distributions are None where nothing was measured.

    load_s_per_video        seconds to read a video, in the process that read it
    wait_s_per_video        seconds that the model waited for a video
    select_s_per_question   seconds in which a frame selector chose a question's frames, as its file says: in no other
                            number here
    encode_s_per_video      seconds of what depends on the video alone, once a video; once for each set of frames, where
                            questions have frames of their own
    generate_s_per_question seconds of one response; of one that was given in a batch, its share
    latency_s               of a served model: seconds from the request to the answer, and never beside the others
    in_flight               the most requests of it that were out at once
    first_answer_s          seconds from a video's frames to the first answer about it: its encoding and one response
    first_answer_j          joules of the GPUs for the same
    first_token_s           of a response, until its first token is known
    tokens_per_s            tokens a second behind the first
    video_tokens, prompt_tokens, new_tokens     a video's, a question's and a response's
    cached_tokens                               of a question's, those that a server had in its cache
    price                                       of the ``priced`` responses, in dollars; None where nobody asks for any
    gpu_allocated, gpu_reserved, host           the highest peak, in bytes
    """

    select_s_per_question: float | None = None
    load_s_per_video: Distribution | None = None
    wait_s_per_video: Distribution | None = None
    encode_s_per_video: Distribution | None = None
    generate_s_per_question: Distribution | None = None
    first_answer_s: Distribution | None = None
    first_token_s: Distribution | None = None
    tokens_per_s: Distribution | None = None
    video_tokens: Distribution | None = None
    prompt_tokens: Distribution | None = None
    new_tokens: Distribution | None = None
    first_answer_j: Distribution | None = None
    latency_s: Distribution | None = None
    cached_tokens: Distribution | None = None
    in_flight: int | None = None
    price: float | None = None
    priced: int = 0
    gpu_allocated: int | None = None
    gpu_reserved: int | None = None
    host: int | None = None

    @property
    def price_per_question(self) -> float | None:
        """In dollars, the mean over responses whose price is known."""
        return None if self.price is None else self.price / self.priced

    def row(self) -> dict[str, float | int | None]:
        """The columns of a table: a distribution's median under its name, percentiles beside it."""
        row: dict[str, float | int | None] = {}
        for name, value in vars(self).items():
            if name in ("gpu_allocated", "gpu_reserved", "host"):
                row[f"{name}_bytes"] = value
            elif name in ("select_s_per_question", "price", "priced", "in_flight"):
                row[name] = value
            else:
                parts = (value.median, value.p5, value.p95) if value is not None else (None, None, None)
                row |= dict(zip((name, f"{name}_p5", f"{name}_p95"), parts, strict=True))
        return row


def costs_of(records: Sequence[Record], *, reads_video: bool = True, select_s: float | None = None) -> Costs:
    """Costs by the ``records`` that have a response, one model's on one benchmark; ``select_s`` is what choosing the
    frames of a question took."""
    warm = [record for record in records if not record.warmup] or records
    videos = {record.video: record for record in reversed(warm)}.values()  # each video's first response
    clips = {(record.video, record.frames_digest): record for record in reversed(warm)}.values()  # each encoding's
    phases = {name: [_phase(record, name) for record in warm] for name in ("first_token", "further_tokens")}
    rates = [
        (record.num_tokens - 1) / seconds
        for record, seconds in zip(warm, phases["further_tokens"], strict=True)
        if seconds and record.num_tokens is not None and record.num_tokens > 1
    ]
    prices = [record.price for record in records if record.price is not None]
    return Costs(
        select_s_per_question=select_s if reads_video else None,
        load_s_per_video=Distribution.of(record.load_s for record in videos) if reads_video else None,
        wait_s_per_video=Distribution.of(record.wait_s for record in videos) if reads_video else None,
        encode_s_per_video=Distribution.of(record.encode_s for record in clips) if reads_video else None,
        generate_s_per_question=Distribution.of(record.generate_s for record in warm),
        first_answer_s=Distribution.of(_first_answer(record) for record in clips),
        first_token_s=Distribution.of(phases["first_token"]),
        tokens_per_s=Distribution.of(rates),
        video_tokens=Distribution.of(record.video_tokens for record in clips),
        prompt_tokens=Distribution.of(record.prompt_tokens for record in warm),
        new_tokens=Distribution.of(record.num_tokens for record in warm),
        first_answer_j=Distribution.of(_joules(record) for record in clips),
        latency_s=Distribution.of(record.latency_s for record in warm),
        cached_tokens=Distribution.of(record.cached_tokens for record in warm),
        in_flight=max((record.in_flight for record in warm if record.in_flight is not None), default=None),
        price=math.fsum(prices) if prices else None,
        priced=len(prices),
        gpu_allocated=_highest(records, "gpu_allocated"),
        gpu_reserved=_highest(records, "gpu_reserved"),
        host=max((record.host_bytes for record in records if record.host_bytes is not None), default=None),
    )


def _phase(record: Record, name: str) -> float | None:
    return record.cost.get(name, {}).get("s")


def _first_answer(record: Record) -> float | None:
    return None if record.encode_s is None or record.generate_s is None else record.encode_s + record.generate_s


def _joules(record: Record) -> float | None:
    known = [record.cost[name]["energy_j"] for name in _CONSECUTIVE if "energy_j" in record.cost.get(name, {})]
    return sum(known) if known else None


def _highest(records: Iterable[Record], field: str) -> int | None:
    def values() -> Iterator[int]:
        for record in records:
            for cost in record.cost.values():
                if field in cost:
                    yield cost[field]

    return max(values(), default=None)

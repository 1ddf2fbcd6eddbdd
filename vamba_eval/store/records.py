"""One line of a run: a response with all that is known of it, or why there is none.

The only place that knows the keys of the lines in ``<run>/<task>.<model>.jsonl``. What an earlier or a later version
wrote there is kept: keys that are not known here survive being read and written again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from vamba_eval.contracts import Groups, Question, Trial

MOST_COUNTED = 2**63 - 1  # what other programs take for a whole number
# What every line has; one without it was not written here.
_NEEDED = frozenset({"question", "video", "options", "answer", "groups", "response", "error", "environment"})


@dataclass
class Record:
    """A question put to a model once. Times are in seconds, memory in bytes, prices in dollars.

    question, video     ids; ``text``, ``options``, ``answer``, ``groups`` and ``extra`` are the question's own, so that
                        a response is scored again without the benchmark's files
    cluster             the video that statistics take it for, where that is not ``video`` (see ``Video``)
    task, model, environment        which run's, and the number of its environment in run.json
    fingerprint         a digest of what run.json says of the task and the model, by which the answer was given
    seed, rotation, variant         which of the times that it was asked (``Trial``)
    prompt, response    what was put to the model, and its answer without its ``thinking``; None where there is none
    error               why there is no response; None where there is one
    given_up_s          after how long a model of this process was given up at it; None if it was not
    num_tokens, finish_reason, prompt_tokens, cached_tokens, price, served_by, in_flight  as in ``Answer``
    batch               how many prompts were answered together; costs are then an even share
    frames, size, frames_digest, clip_note  the clip: frames, (height, width), what identifies its bytes, its note
    seen                what the model saw of it, as ``Seen`` has it
    load_s, wait_s, cache_saved_s   reading the video, waiting for it, and what the clip cache saved
    encode_s, generate_s, cost      in this process: what a video and a response took, and both by phase
    latency_s           of a served model: from its request to its answer
    peak_bytes, peak_kind, host_bytes, gpu_utilization  memory, and the load of the GPU
    warmup              whether it belongs to the first video of a model in its process
    unknown             keys of other versions
    """

    question: str
    video: str
    options: list[str]
    answer: str | None
    groups: dict[str, Any]
    environment: int
    cluster: str | None = None
    task: str = ""
    model: str = ""
    fingerprint: str = ""
    seed: int = 0
    rotation: int = 0
    variant: int = 0
    text: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    prompt: str | None = None
    response: str | None = None
    error: str | None = None
    given_up_s: float | None = None
    thinking: str = ""
    num_tokens: int | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    price: float | None = None
    served_by: str = ""
    in_flight: int | None = None
    batch: int | None = None
    frames: int | None = None
    size: list[int] | None = None
    frames_digest: str | None = None
    clip_note: str | None = None
    seen: dict[str, Any] | None = None
    video_tokens: int | None = None
    load_s: float | None = None
    wait_s: float | None = None
    cache_saved_s: float | None = None
    encode_s: float | None = None
    generate_s: float | None = None
    latency_s: float | None = None
    cost: dict[str, dict[str, Any]] = field(default_factory=dict)
    peak_bytes: int | None = None
    peak_kind: str | None = None
    host_bytes: int | None = None
    gpu_utilization: float | None = None
    warmup: bool = False
    unknown: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Record | None:
        """The record in an object of a file; None for one that no version of ours wrote, and where it does not say
        reliably to which question it belongs, as a disk may have changed that.

        Raises ValueError for one of ours in which something is of another type than it can be.
        """
        if not _NEEDED.issubset(line) or line.get(_CHECKSUM) not in (None, _checksum(line)):
            return None
        known = {name: line[name] for name in _KEYS if name in line and line[name] is not None}
        for name, value in known.items():
            _check(name, value)
        if missing := [name for name in _REQUIRED if name not in known]:
            raise ValueError(f"its {missing[0]!r} is null")
        # A number that is none is not known.
        if "cost" in known:
            known["cost"] = {phase: _without_nulls(cost) for phase, cost in known["cost"].items()}
        if "seen" in known:
            known["seen"] = _without_nulls(known["seen"])
        if "groups" in known:
            known["groups"] = {name: _as_text(each) for name, each in known["groups"].items() if each is not None}
        known |= {name: line[name] for name in ("answer", "response", "error")}
        return cls(**known, unknown={name: value for name, value in line.items() if name not in _KNOWN})

    def to_json(self) -> dict[str, Any]:
        """The object of its line: what every line has, and whatever else is known."""
        known = {
            name: value
            for name in _KEYS
            if (value := getattr(self, name)) != _DEFAULTS.get(name, MISSING) or name in _WRITTEN
        }
        return {**known, **self.unknown}

    @property
    def counted_as(self) -> str:
        """The id of the video whose questions vary together with this one."""
        return self.cluster or self.video

    @property
    def answered(self) -> bool:
        return self.error is None

    @property
    def trial(self) -> Trial:
        return Trial(self.seed, self.rotation, self.variant)

    def asked(self) -> Question:
        """As much of the question as the record keeps, with its options in the order in which they were shown."""
        return Question(self.question, self.text or "", tuple(self.options), self.answer, _groups(self), self.extra)


def with_checksum(line: dict[str, Any]) -> dict[str, Any]:
    """A record's object as it is written: with a checksum of what it is found by."""
    return {**line, _CHECKSUM: _checksum(line)}


def _checksum(line: Mapping[str, Any]) -> str:
    found_by = [line["question"], line["video"], *(line.get(name, 0) for name in Trial._fields)]
    return f"{zlib.crc32(json.dumps(found_by).encode()):08x}"


def _groups(record: Record) -> Groups:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in record.groups.items()}


def _as_text(group: Any) -> str | list[str]:
    """What a record says of a group, or of several that it counts in, as text: benchmarks have numbers there, too.
    Raises ValueError for what is neither."""
    members = group if isinstance(group, list) else [group]
    if not all(isinstance(each, str | int | float | None) for each in members):
        raise ValueError(f"its 'groups' hold {repr(group)[:80]}, which is no text")
    texts = [str(each) for each in members if each is not None]
    return texts if isinstance(group, list) else texts[0]


def _check(name: str, value: Any) -> None:
    """Raise ValueError unless ``value`` can be what the field ``name`` is."""
    kinds = _TYPES[name]
    inside: list[Any] = []
    if isinstance(value, list):
        inside = value
    elif isinstance(value, dict) and name in _TYPES_INSIDE:
        inside = [each for key, each in value.items() if name != "seen" or key in _SEEN_NUMBERS]
    if any(isinstance(each, int) and abs(each) > MOST_COUNTED for each in (value, *inside)):
        raise ValueError(f"its {name!r} is a number beyond all counts")
    if not isinstance(value, kinds) or not all(isinstance(each, _TYPES_INSIDE[name]) for each in inside):
        raise ValueError(f"its {name!r} is {repr(value)[:80]}, not {' or '.join(kind.__name__ for kind in kinds)}")


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _types(hint: Any) -> tuple[type, ...]:
    """Those whose values a field declared as ``hint`` may hold, but for None."""
    members = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kinds = [get_origin(member) or member for member in members]
    return tuple(kind for kind in kinds if kind is not type(None)) + ((int,) if float in kinds else ())


_KEYS = [each.name for each in fields(Record) if each.name != "unknown"]
_CHECKSUM = "checksum"
_KNOWN = {*_KEYS, _CHECKSUM}
_DEFAULTS: dict[str, Any] = {
    each.name: each.default_factory() if each.default_factory is not MISSING else each.default
    for each in fields(Record)
    if each.default is not MISSING or each.default_factory is not MISSING
}
_REQUIRED = [name for name in _KEYS if name not in _DEFAULTS and name != "answer"]
_TYPES = {name: _types(hint) for name, hint in get_type_hints(Record).items()}
_SEEN_NUMBERS = ("frames", "height", "width")
_TYPES_INSIDE: dict[str, Any] = {
    "options": str,
    "size": int,
    "cost": dict,
    "seen": int | float | None,  # those of its numbers
}
_WRITTEN = _NEEDED | {"task", "model", "seed", "text", "prompt"}  # even where there is nothing to say

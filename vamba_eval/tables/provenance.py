"""What a row's model saw and how it ran: from its records and from what run.json says of the model.

A number is one of frames as the model saw them, at a precision, by an engine. What is not recorded (``seen`` is younger
than the first records) is said to be so, and never guessed.
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from vamba_eval.score.scored import ScoredRun
from vamba_eval.store.records import Record
from vamba_eval.tables.text import unique

_SHORT = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_TIED = "\u00a0"  # a space at which no line ends
_WIDTH = 80  # columns of a terminal that nobody has made wider
# Of a frame's area and of its shape: less is rounding to a model's patches. Adapters warn by the same bounds.
_SMALLER, _BENT = 0.75, 1.16


@dataclass(frozen=True)
class View:
    """What a model saw of a clip (as ``Seen``; ``kept`` are its kept tokens), and the frames that it was given: their
    number, height and width."""

    frames: int
    height: int
    width: int
    kind: str
    times: bool
    given: tuple[int, int, int] | None = None
    kept: int | None = None

    @classmethod
    def of(cls, record: Record) -> View | None:
        seen = record.seen or {}
        if not {"frames", "height", "width"} <= seen.keys():
            return None
        given = (record.frames, record.size[0], record.size[1]) if record.frames and record.size else None
        shown = (int(seen["frames"]), int(seen["height"]), int(seen["width"]))
        return cls(*shown, seen.get("kind", "video"), bool(seen.get("times")), given, seen.get("kept_tokens"))

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def resized(self) -> bool:
        """Whether the model's own processing made frames much smaller, or of another shape."""
        if self.given is None:
            return False
        _, height, width = self.given
        bent = self.width * height / (self.height * width)
        return self.height * self.width < _SMALLER * height * width or not 1 / _BENT < bent < _BENT

    @property
    def lacking(self) -> bool:
        return self.given is not None and self.frames < self.given[0]


@dataclass(frozen=True)
class Provenance:
    """How the answers of a row came about; the default is that of a reported row, of which nothing is known.

    precision       of the weights, such as ``bfloat16``; "" where nobody says
    engine          what ran them: an adapter of this process, an engine, or the host of an endpoint
    checkpoint, identity    which weights, by their name and by what tells them from others of that name
    served          whether it was asked as a service; what it thought may then be hidden
    looks           whether it was shown videos
    file            whether it was given their files, and chose frames by itself
    views           of each video, what it saw of it: several where questions had frames of their own
    videos          how many there are with a response
    answers, thoughts       responses, and those with thinking told apart
    prompt          in what its prompt is unlike the usual one, where its engine makes another
    wrap            what was done to the loaded model, to prune tokens or compress its cache, say
    """

    precision: str = ""
    engine: str = ""
    checkpoint: str = ""
    identity: str = ""
    served: bool = False
    looks: bool = False
    file: bool = False
    views: Mapping[str, frozenset[View]] = field(default_factory=dict)
    videos: int = 0
    answers: int = 0
    thoughts: int = 0
    prompt: str = ""
    wrap: str = ""

    @classmethod
    def merged(cls, rows: Sequence[Provenance]) -> Provenance:
        """One model's in one run on several benchmarks."""
        return replace(
            rows[0],
            precision=", ".join(unique(row.precision for row in rows if row.precision)),
            engine=", ".join(unique(row.engine for row in rows if row.engine)),
            views={f"{n} {video}": seen for n, row in enumerate(rows) for video, seen in row.views.items()},
            videos=sum(row.videos for row in rows),
            answers=sum(row.answers for row in rows),
            thoughts=sum(row.thoughts for row in rows),
        )

    @property
    def thought(self) -> float | None:
        """The share of responses with thinking; None where records are older than that, or another program's."""
        told = self.thoughts or self.views or self.file or not self.looks
        return self.thoughts / self.answers if self.answers and told else None

    @property
    def short_precision(self) -> str:
        return _SHORT.get(self.precision, self.precision)

    @property
    def every_view(self) -> list[View]:
        """Without order among videos; each that is there once."""
        return list(frozenset[View]().union(*self.views.values()))

    def saw(self) -> list[str]:
        """What it saw, a fact each, in words; nothing of a reported row."""
        if not self.answers:
            return []
        if not self.looks:
            return ["no video"]
        if self.file:
            return ["the file", "frames of its own choice"]
        if not self.views:
            return ["what it saw is not recorded"]
        known = len(self.views)
        partly = [f"not recorded for {self.videos - known:,} of {self.videos:,} videos"] * (known < self.videos)
        kept = [view.kept for view in self.every_view if view.kept is not None]
        tokens = [f"keeps {_range(kept)} tokens"] if kept else []
        return [*(say(self.every_view) for *_, say in _SEEN), *tokens, *partly]

    def ran(self) -> list[str]:
        """How it ran, likewise."""
        if not self.answers:
            return []
        precision = self.short_precision or "precision not stated" * self.served
        wrapped = f"wrapped by {self.wrap}" if self.wrap else ""
        return [part for part in (precision, self.engine, wrapped, self._thinking()) if part]

    def _thinking(self) -> str:
        if self.thought is None or not (self.thoughts or self.precision or self.served):  # who guesses does not think
            return ""
        if not self.thoughts:
            return "no thinking" + " shown" * self.served
        return "thinking" if self.thoughts == self.answers else f"thinking in {100 * self.thought:.0f} %"

    def __str__(self) -> str:
        return " · ".join([*self.saw(), *self.ran()])

    def in_full(self) -> str:
        """With the checkpoint, as far as anybody names it."""
        name = self.checkpoint.rstrip("/").rpartition("/")[2] if self.checkpoint.startswith("/") else self.checkpoint
        kind, _, digest = self.identity.partition(" ")
        identity = f"({kind} {digest[:8]})" if digest else self.identity and f"({self.identity})"
        weights = " ".join(part for part in (name, identity) if part)
        return " · ".join(part for part in (str(self), weights) if part)

    def row(self) -> dict[str, Any]:
        """Columns of the CSV, one a fact."""
        views = sorted(self.every_view, key=lambda view: (view.width * view.height, view.width))
        frames = [view.frames for view in views]
        kept = [view.kept for view in views if view.kept is not None]
        times = [view.times for view in views]
        seen_as = "; ".join(sorted({view.kind for view in views})) or "not recorded"
        if self.file or not self.looks:
            seen_as = "file" if self.file else "no video"
        return {
            "served": self.served,
            "precision": self.precision,
            "engine": self.engine,
            "checkpoint": self.checkpoint,
            "checkpoint_identity": self.identity,
            "seen_as": seen_as if self.answers else "",
            "seen_frames_min": min(frames, default=None),
            "seen_frames_max": max(frames, default=None),
            "seen_size_min": views[0].size if views else "",
            "seen_size_max": views[-1].size if views else "",
            "seen_sizes": len({view.size for view in views}) or None,
            "told_times": ("yes" if all(times) else "some" if any(times) else "no") if times else "",
            "seen_recorded": len(self.views) / self.videos if self.videos and self.looks and not self.file else None,
            "thought": self.thought,
            "wrapped_by": self.wrap,
            "kept_tokens_min": min(kept, default=None),
            "kept_tokens_max": max(kept, default=None),
        }

    def remarks(self) -> Iterator[tuple[str, str]]:
        """What must be known of it: words before and behind the name of its model."""
        if resized := [view for view in self.every_view if view.resized]:
            most = max(resized, key=lambda view: (view.given, view.height, view.width))
            _, height, width = most.given or (0, 0, 0)
            tiles = ", or into tiles of that size" * (most.kind == "images")
            made = f"made frames of {width}x{height} into {most.size}{tiles}"
            yield "RESIZED: ", f": its own processing {made}{self._of_videos(resized)}"
        if lacking := [view for view in self.every_view if view.lacking]:
            most = max(lacking, key=lambda view: (view.given, view.frames))
            frames = most.given[0] if most.given else 0
            yield "FEWER FRAMES: ", f": it saw {most.frames:,} of {frames:,}{self._of_videos(lacking)}"
        if self.prompt:
            yield "PROMPT: ", f": {self.prompt}"

    def _of_videos(self, views: Sequence[View]) -> str:
        number = sum(not seen.isdisjoint(views) for seen in self.views.values())
        return f" (on {number:,} of {len(self.views):,} videos)"


# ------------------------------------------------------------------------------------------------ of one run


def provenance_of(run: ScoredRun) -> Provenance:
    """Of the responses that there are: those the score is made of."""
    answered, identity = run.answered, run.identity
    seen: dict[str, set[View]] = defaultdict(set)
    for record in answered:
        if (view := View.of(record)) is not None:
            seen[record.video].add(view)
    looks = bool(identity.get("reads_video", True))
    arguments = identity.get("args") or {}  # lmms-eval's, of what is imported
    arguments = arguments if isinstance(arguments, Mapping) else {}
    dtype = str(identity.get("dtype") or arguments.get("dtype") or "")
    quantized = identity.get("quantization") or arguments.get("quantization")
    random = "random weights" if identity.get("weights") == "random" else ""
    return Provenance(
        precision=", ".join(str(part) for part in ("" if dtype == "auto" else dtype, quantized) if part),
        engine=_engine(run, answered),
        checkpoint=random or str(identity.get("pretrained") or identity.get("model") or ""),
        identity=str(identity.get("identity") or ""),
        served=bool(identity.get("served")),
        looks=looks,
        file=looks and bool(identity.get("samples_itself")),
        views={video: frozenset(views) for video, views in seen.items()} if looks else {},
        videos=len({record.video for record in answered}),
        answers=len(answered),
        thoughts=sum(bool(record.thinking) for record in answered),
        prompt=str(identity.get("prompt") or ""),
        wrap=str(identity.get("wrap") or ""),
    )


def _engine(run: ScoredRun, answered: Sequence[Record]) -> str:
    """By its own words, else the host of its endpoint (of its address no more: a key may stand there), else the adapter
    and the version of a package of that name."""
    identity = run.identity
    if named := identity.get("engine"):
        return str(named)
    adapter = str(identity.get("adapter", ""))
    if adapter.startswith("lmms-eval:"):
        return f"lmms-eval's {adapter.partition(':')[2]}"
    if identity.get("served"):
        host = _host(str(identity.get("url", "")))
        return f"endpoint {host}" if host else f"{adapter}, served"
    environments = [run.info["environments"][number] for number in sorted({record.environment for record in answered})]
    versions = [environment.get("packages", {}).get(adapter) for environment in environments]
    return " ".join([adapter, " and ".join(unique(version for version in versions if version))]).strip()


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return ""


# ---------------------------------------------------------------------------------------------- in words


def _kinds(views: Sequence[View]) -> str:
    return " or ".join(sorted({view.kind for view in views}, reverse=True))


def _frames(views: Sequence[View]) -> str:
    counts = [view.frames for view in views]
    return f"{_range(counts)} frame{'s' * (max(counts) > 1)}"


def _range(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return f"{least:,} to {most:,}" if least < most else f"{most:,}"


def _sizes(views: Sequence[View]) -> str:
    """In pixels, width by height; of more than two the smallest and the largest."""
    sizes = unique(view.size for view in sorted(views, key=lambda view: (view.width * view.height, view.width)))
    return " and ".join(sizes) if len(sizes) < 3 else f"{sizes[0]} to {sizes[-1]} ({len(sizes)} sizes)"


def _times(views: Sequence[View]) -> str:
    told = {view.times for view in views}
    return "with times for some" if len(told) > 1 else "with times" if True in told else "without times"


# The facts of what was seen: what each is called, of a view, and how those of all views are said.
_SEEN: tuple[tuple[str, Callable[[View], Any], Callable[[Sequence[View]], str]], ...] = (
    ("shown as", lambda view: view.kind, _kinds),
    ("frames seen", lambda view: view.frames, _frames),
    ("size seen", lambda view: view.size, _sizes),
    ("times", lambda view: view.times, _times),
)

EXPLAINED = "After its own processing; sizes are width x height. Then how it ran: precision, engine, thinking."


def provenance_markdown(rows: Sequence[tuple[str, Provenance]]) -> str:
    """A list of the rows, by their names, in lines of at most 80 columns where words allow; "" without any."""
    wrap = textwrap.TextWrapper(_WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    tied = [  # a line ends between two facts, never within one
        f"- {name}: {provenance}".replace(" ", _TIED).replace(f"{_TIED}·{_TIED}", f"{_TIED}· ")
        for name, provenance in rows
        if str(provenance)
    ]
    return "\n".join(map(wrap.fill, tied)).replace(_TIED, " ")


def differing_facts(rows: Sequence[tuple[str, Provenance]]) -> list[str]:
    """In which facts rows of one benchmark are unlike, a text each that names them.

    What was seen is compared video by video, since rows may be of unlike videos, and its number of frames only among
    those that were given as many; rows that look at none, or whose records do not say, take no part in that. A
    precision that nobody states differs from none.
    """
    looking = [(name, row) for name, row in rows if row.looks]
    seen = [(name, row) for name, row in looking if row.views]
    found = []
    for called, fact, say in _SEEN:
        by_video: dict[Any, set[frozenset[Any]]] = defaultdict(set)
        for _, row in seen:
            for video, views in row.views.items():
                given = frozenset(view.given and view.given[0] for view in views) if say is _frames else None
                by_video[video, given].add(frozenset(map(fact, views)))
        if any(len(values) > 1 for values in by_video.values()):
            found.append(_grouped(called, [(name, say(row.every_view)) for name, row in seen]))
    if files := [(name, "of its own choice, from the file") for name, row in looking if row.file]:
        others = [(name, "chosen here") for name, row in looking if not row.file]
        found += [_grouped("frames", files + others)] if others else []
    stated = [(name, row.short_precision) for name, row in looking if row.precision]
    found += [_grouped("precision", stated)] if len({value for _, value in stated}) > 1 else []
    if len({row.wrap for _, row in looking}) > 1:
        found.append(_grouped("wrapped by", [(name, row.wrap or "nothing") for name, row in looking]))
    told = [(name, row) for name, row in looking if row.thought is not None]
    if len({bool(row.thoughts) for _, row in told}) > 1:
        found.append(_grouped("thinking", [(name, "yes" if row.thoughts else "no") for name, row in told]))
    weights: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, row in rows:
        if row.checkpoint and row.identity:
            weights[row.checkpoint].append((name, row.identity))
    for checkpoint, each in weights.items():
        if len({identity for _, identity in each}) > 1:
            found.append(_grouped(f"weights of {checkpoint}", each))
    return found


def _grouped(called: str, rows: Sequence[tuple[str, str]]) -> str:
    """``size: 288x160 (a, b), 480x270 (c)``."""
    members: dict[str, list[str]] = defaultdict(list)
    for name, value in rows:
        members[value].append(name)
    if len(members) == 1:  # of all videos together the same, of one of them not
        return f"{called}: {next(iter(members))}, otherwise from video to video"
    return f"{called}: " + ", ".join(f"{value} ({', '.join(names)})" for value, names in members.items())

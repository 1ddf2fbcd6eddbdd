"""Which frames of a video are shown, and at which size.

Pure arithmetic: no files, no arrays, no knowledge of benchmarks. The rules are those of the Vamba
paper's evaluation scripts (arXiv 2503.11579), because a score is comparable only on the same frames.
"""

from __future__ import annotations

import itertools
import math
import struct
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

STRATEGIES = ("uniform", "fps", "middle", "auto", "segments", "starts", "linspace", "fps-linspace", "inner")
EDGES = ("shortest_edge", "longest_edge")
BOUNDS = ("min_pixels", "max_pixels", "total_pixels", "edge_multiple")
RATES = ("times", "header")
TIMES = ("auto", "off", "seconds", "m:s", "seconds-between", "m:s-between")  # how times of frames are told
# Of qwen-vl-utils (QwenLM/Qwen3-VL, qwen-vl-utils/src/qwen_vl_utils/vision_process.py: FPS_MIN_FRAMES, FRAME_FACTOR and
# the 1.05 of fetch_video): the fewest frames, what their number is a multiple of, and how far above its smallest size a
# frame's largest is at least.
_FEWEST, _IN_STEPS_OF, _ABOVE_SMALLEST = 4, 2, 1.05


@dataclass(frozen=True)
class FrameSampling:
    """A rule that turns a video's frame count and size into frame indices and a target size.

    strategy
        ``uniform``  cut the video into ``num_frames`` intervals, take the middle of each; every frame of
                     a video that has no more than ``num_frames``. The protocol of the Vamba paper.
        ``middle``   like ``uniform``, by the paper's chat demo: an interval's middle is computed between
                     its first and its last frame, so it can lie one frame earlier.
        ``fps``      ``fps`` frames a second; where that gives more than ``num_frames``, ``uniform`` takes
                     over, so that the end of a long video is never cut off.
        ``auto``     ``uniform`` with as many frames as fit ``token_budget`` ViT patches of 14 x 14.
        ``segments`` always ``num_frames`` frames, by the rule of MVBench (arXiv 2311.17005): the stretch from
                     the first to the last frame is cut into so many segments, and a frame near the middle of
                     each is taken. A video of fewer frames shows some of them several times.
        ``starts``   the first frame of each of ``num_frames`` equal stretches, but no more frames than the video
                     has whole seconds: the rule of LongVideoBench (arXiv 2407.15754).
        ``linspace`` always ``num_frames`` frames, evenly from the first to the last, both included, their numbers
                     truncated: the rule of LLaVA-OneVision (NumPy's linspace). Short videos show some frames several
                     times.
        ``fps-linspace``  as many frames as ``fps`` a second gives, an even number of at least 4 and at most
                     ``num_frames``, evenly from the first to the last, their numbers rounded: the rule of
                     qwen-vl-utils.
        ``inner``    always ``num_frames`` frames, those that part the video into one stretch more: the rule of
                     VLMEvalKit. Short videos show some frames several times.
    num_frames
        Number of frames, or the most frames for ``fps`` and ``fps-linspace``; unused by ``auto``.
    shortest_edge, longest_edge
        Bounds of the resized frame in pixels; None, None keeps the size.
    fps
        Frames a second for ``fps`` and ``fps-linspace``.
    token_budget
        Patches in all for ``auto``; 120,000 is the paper's Video-MME setting.
    rate
        What tells the video's own frames a second, for ``fps``, ``fps-linspace`` and ``starts``, and for the bounds of
        ``segments``: the ``times`` of its frames, or the file's ``header``, as scripts with decord take it, which is
        wrong in many recordings of screens and browsers.
    min_pixels, max_pixels, total_pixels, edge_multiple
        Size by area, in place of the two edges, by the rule of qwen-vl-utils (``size``): bounds of a frame's height
        times width; that of all frames together, so that frames get smaller as they get more; and what both edges are
        a multiple of. Where ``total_pixels`` leaves a frame less than ``min_pixels``, these win. None: no bound.
    """

    strategy: str = "uniform"
    num_frames: int = 512
    shortest_edge: int | None = 256
    longest_edge: int | None = 480
    fps: float = 1.0
    token_budget: int = 120_000
    rate: str = "times"
    min_pixels: int | None = None
    max_pixels: int | None = None
    total_pixels: int | None = None
    edge_multiple: int | None = None

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ValueError(f"unknown sampling strategy {self.strategy!r}; choose from {', '.join(STRATEGIES)}")
        if self.rate not in RATES:
            raise ValueError(f"unknown source of the frame rate {self.rate!r}; choose from {', '.join(RATES)}")
        for name in ("num_frames", "token_budget"):
            if not isinstance(getattr(self, name), int) or isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be a whole number, not {getattr(self, name)!r}")
        for name in ("num_frames", "fps", "token_budget"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if math.isinf(self.fps):
            raise ValueError("fps must be a number of frames a second, not infinite")
        if (self.shortest_edge is None) != (self.longest_edge is None):
            raise ValueError("give both shortest_edge and longest_edge, or neither (which keeps the frame size)")
        for name in ("shortest_edge", "longest_edge"):
            if (edge := getattr(self, name)) is not None and edge <= 0:
                raise ValueError(f"{name} must be positive, not {edge}")
        if self.strategy == "fps-linspace" and self.num_frames < _IN_STEPS_OF:
            raise ValueError("the strategy 'fps-linspace' shows an even number of frames: num_frames must be 2 or more")
        self._check_bounds()

    def _check_bounds(self) -> None:
        given = {name: value for name in BOUNDS if (value := getattr(self, name)) is not None}
        for name, value in given.items():
            if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                raise ValueError(f"{name} must be a positive whole number, not {value!r}")
        if given and self.shortest_edge is not None:
            raise ValueError(f"frames are sized by their edges or by {next(iter(given))}: set both edges to None")
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} is above max_pixels {self.max_pixels}")
        if self.total_pixels and self.strategy == "auto":
            raise ValueError(
                "the strategy 'auto' takes its number of frames from their size, so total_pixels, which takes the size "
                "from their number, cannot go with it"
            )

    def indices(
        self, total_frames: int, source_fps: float, height: int | None = None, width: int | None = None
    ) -> list[int]:
        """Ascending 0-based indices of the frames to show; ``segments``, ``linspace`` and ``inner`` can repeat some.

        ``source_fps`` is used by ``fps``, ``fps-linspace`` and ``starts`` only; ``height`` and ``width`` (of the
        source, in pixels) by ``auto`` only.
        """
        if total_frames <= 0:
            raise ValueError(f"a video of {total_frames} frames has nothing to sample")
        if self.strategy == "middle":
            return _middle(self.num_frames, total_frames)
        if self.strategy == "segments":
            return _segments(self.num_frames, total_frames)
        if self.strategy == "starts":
            return _starts(self.num_frames, total_frames, source_fps)
        if self.strategy == "linspace":
            return _linspace(self.num_frames, total_frames)
        if self.strategy == "inner":
            return _inner(self.num_frames, total_frames)
        if self.strategy == "auto":
            if height is None or width is None:
                raise ValueError("the strategy 'auto' needs the frame size")
            height, width = self.size(height, width)
            patches = max(1, (height // 14) * (width // 14))
            return _uniform(max(1, self.token_budget // patches), total_frames)
        if self.strategy in ("fps", "fps-linspace") and not source_fps > 0:
            raise ValueError(f"the strategy {self.strategy!r} needs the video's frame rate, which is unknown")
        if self.strategy == "fps-linspace":
            return _fps_linspace(total_frames / source_fps * self.fps, self.num_frames, total_frames)
        if self.strategy == "fps":
            step = source_fps / self.fps
            rate_based = _every(step, total_frames)
            if len(rate_based) <= self.num_frames:
                return rate_based
        return _uniform(self.num_frames, total_frames)

    def size(self, height: int, width: int, num_frames: int | None = None) -> tuple[int, int]:
        """(height, width) in pixels that a frame of ``height`` x ``width`` is resized to, one of ``num_frames``.

        By edges: the longer edge comes down to ``longest_edge`` (never up) and the other follows, truncated; then
        either edge below ``shortest_edge`` is raised to it, which can change the aspect ratio. By area: both edges are
        rounded to ``edge_multiple``; where that has too many or too few pixels, they are scaled alike and rounded down
        or up. ``num_frames`` is used by ``total_pixels`` alone, which cannot do without it.
        """
        if self._by_area:
            return self._size_by_area(height, width, num_frames)
        if self.shortest_edge is None or self.longest_edge is None:
            return height, width
        # The order of the float operations decides what truncation gives; it is the protocol's.
        aspect_ratio = width / height
        if width >= height and width > self.longest_edge:
            width = self.longest_edge
            height = int(width / aspect_ratio)
        elif height > width and height > self.longest_edge:
            height = self.longest_edge
            width = int(height * aspect_ratio)
        return max(height, self.shortest_edge), max(width, self.shortest_edge)

    @property
    def _by_area(self) -> bool:
        return any(getattr(self, name) is not None for name in BOUNDS)

    def _size_by_area(self, height: int, width: int, num_frames: int | None) -> tuple[int, int]:
        multiple, least, most = self.edge_multiple or 1, self.min_pixels or 0, float(self.max_pixels or math.inf)
        if self.total_pixels is not None:
            if num_frames is None:
                raise ValueError("total_pixels needs the number of frames")
            most = min(most, max(self.total_pixels / num_frames, int(least * _ABOVE_SMALLEST)))
        rows, columns = (max(multiple, round(edge / multiple) * multiple) for edge in (height, width))
        # Again the order of the float operations is the rule's.
        if rows * columns > most:
            shrink = math.sqrt((height * width) / most)
            rows, columns = (max(multiple, int(edge / shrink / multiple) * multiple) for edge in (height, width))
        elif rows * columns < least:
            grow = math.sqrt(least / (height * width))
            rows, columns = (math.ceil(edge * grow / multiple) * multiple for edge in (height, width))
        return rows, columns

    def describe(self) -> dict[str, Any]:
        """What decides the frames, for a fingerprint: the fields that this strategy uses."""
        unused = {name: {"fps", "token_budget", "rate"} for name in STRATEGIES}
        unused |= {name: {"fps", "token_budget"} for name in ("starts", "segments")}
        unused |= {name: {"token_budget"} for name in ("fps", "fps-linspace")}
        unused["auto"] = {"num_frames", "fps", "rate"}
        return {key: value for key, value in self.fields().items() if key not in unused[self.strategy]}

    def fields(self) -> dict[str, Any]:
        """All fields, but of size by area and of the rate only what is set: what identified a sampling before there was
        such."""
        return {
            name: value
            for name, value in asdict(self).items()
            if (name not in BOUNDS or value is not None) and (name, value) != ("rate", "times")
        }


@dataclass(frozen=True)
class FrameSet:
    """Given frames, at the size that ``sizing`` gives them; its own choice of frames has no effect.

    ``frames`` are ascending 0-based indices of the whole source, as it is decoded: also where a part of it is shown.
    """

    frames: tuple[int, ...]
    sizing: FrameSampling

    @property
    def strategy(self) -> str:
        return "given"

    @property
    def rate(self) -> str:
        return self.sizing.rate

    def within(self, first: int, last: int, total: int, source_fps: float) -> list[int]:
        """The frames. Raises ValueError where one is not from ``first`` to before ``last``, of ``total`` in all;
        ``source_fps`` is of no use here."""
        if self.frames[-1] >= total:
            raise ValueError(
                f"it is to be asked about frame {self.frames[-1]}, but the video's {total} frames are 0 to {total - 1}"
            )
        if outside := [frame for frame in self.frames if not first <= frame < last]:
            raise ValueError(
                f"it is to be asked about frame {outside[0]}, but the part that is shown is frames {first} to "
                f"{last - 1} of the file"
            )
        return list(self.frames)

    def size(self, height: int, width: int, num_frames: int | None = None) -> tuple[int, int]:
        return self.sizing.size(height, width, num_frames)

    def fields(self) -> dict[str, Any]:
        return {"frames": self.frames, "sizing": self.sizing.fields()}


@dataclass(frozen=True)
class FrameSpans:
    """Frames of some stretches of a video, each with a share that goes by its length; at the size of ``sizing``, whose
    ``num_frames`` are the most in all. Its other choice of frames has no effect.

    ``spans`` are (start, end) in seconds of the whole source. The rule is CG-Bench's (arXiv 2412.12075;
    run/extract_frames.py of its repository): a stretch goes from the frame nearest to its start to before the one
    nearest to its end. If the stretches have no more frames than ``num_frames``, all are shown; else each gets its
    share, truncated and at least 1: the middles of so many equal parts. A frame of two stretches is shown once.
    """

    spans: tuple[tuple[float, float], ...]
    sizing: FrameSampling

    @property
    def strategy(self) -> str:
        return self.sizing.strategy

    @property
    def rate(self) -> str:
        return self.sizing.rate

    def within(self, first: int, last: int, total: int, source_fps: float) -> list[int]:
        """The frames' 0-based indices, ascending, of those from ``first`` to before ``last``, of ``total`` in all.

        Raises ValueError where there is none, or where the rate is unknown.
        """
        if not source_fps > 0:
            raise ValueError("it is to be asked about parts between two times, and the video's frame rate is unknown")
        bounds = [(round(start * source_fps), round(end * source_fps)) for start, end in self.spans]
        lengths, most = [end - start for start, end in bounds], self.sizing.num_frames
        chosen: set[int] = set()
        for (start, end), length in zip(bounds, lengths, strict=True):
            count = length if most >= sum(lengths) else max(1, int(most * (length / sum(lengths))))
            step = (end - start) / max(1, count)
            chosen |= {int(start + step / 2 + step * i) for i in range(count)}
        if not (shown := sorted(frame for frame in chosen if first <= frame < last)):
            parts = ", ".join(f"{start:g} to {end:g} s" for start, end in self.spans)
            raise ValueError(f"it is to be asked about {parts}, where the video has no frame")
        return shown

    def size(self, height: int, width: int, num_frames: int | None = None) -> tuple[int, int]:
        return self.sizing.size(height, width, num_frames)

    def fields(self) -> dict[str, Any]:
        return {"spans": self.spans, "sizing": self.sizing.fields()}


# What can be asked of one video, or of one question about it.
Rung: TypeAlias = FrameSampling | FrameSet | FrameSpans


@dataclass(frozen=True)
class Ladder:
    """Several samplings of one size and strategy, or several sets of frames, so that a video is read once for all.

    Every frame that any of the ``rungs`` picks is read; ``Clip.part`` tells them apart.
    """

    rungs: tuple[Rung, ...]

    def __post_init__(self) -> None:
        rules = [rung if isinstance(rung, FrameSampling) else rung.sizing for rung in self.rungs]
        same = ("strategy", "rate", *EDGES, *BOUNDS)
        if len({tuple(getattr(rule, name) for name in same) for rule in rules}) != 1:
            raise ValueError("the samplings of a ladder differ in more than the number of frames")
        if rules[0].total_pixels is not None:
            raise ValueError("with total_pixels, each number of frames has a size of its own: a ladder has one")

    @property
    def strategy(self) -> str:
        return self.rungs[0].strategy

    @property
    def rate(self) -> str:
        return self.rungs[0].rate

    def size(self, height: int, width: int, num_frames: int | None = None) -> tuple[int, int]:
        return self.rungs[0].size(height, width, num_frames)

    def fields(self) -> dict[str, Any]:
        return {"rungs": [rung.fields() for rung in self.rungs]}


Sampling: TypeAlias = Rung | Ladder


def _uniform(n: int, total: int) -> list[int]:
    if n >= total:
        return list(range(total))
    bounds = _integer_bounds(n, total)
    return [(low + high) // 2 for low, high in itertools.pairwise(bounds)]


def _integer_bounds(n: int, total: int) -> list[int]:
    """The n + 1 bounds that ``torch.linspace(0, total, n + 1, dtype=int)`` gives.

    It counts from both ends in float64 and truncates; counting from one end, as NumPy does, gives other
    frames for about 4 in 1,000 videos.
    """
    step = total / n
    half = (n + 1) // 2
    return [int(step * i) if i < half else int(total - step * (n - i)) for i in range(n + 1)]


def _middle(n: int, total: int) -> list[int]:
    n = min(n, total)
    bounds = [int(total / n * i) for i in range(n)] + [total]
    return [(low + high - 1) // 2 for low, high in itertools.pairwise(bounds)]


def _segments(n: int, total: int) -> list[int]:
    # The segments' starts are rounded (half to even, as NumPy does), the sum is truncated.
    size = (total - 1) / n
    return [int(size / 2 + round(size * i)) for i in range(n)]


def _starts(n: int, total: int, source_fps: float) -> list[int]:
    # Frames of unknown rate have no seconds to count.
    seconds = max(1, int(total / source_fps)) if source_fps > 0 else total
    n = min(n, seconds, total)
    return [int(total / n) * i for i in range(n)]


def _every(step: float, total: int) -> list[int]:
    indices: list[int] = []
    while (index := round(len(indices) * step)) < total:
        indices.append(index)
    return indices


def _linspace(n: int, total: int) -> list[int]:
    if n == 1:
        return [0]
    step = (total - 1) / (n - 1)
    return [int(step * i) for i in range(n - 1)] + [total - 1]


def _fps_linspace(wanted: float, most: int, total: int) -> list[int]:
    n = int(min(max(wanted, _FEWEST), most // _IN_STEPS_OF * _IN_STEPS_OF, total) // _IN_STEPS_OF * _IN_STEPS_OF)
    if n < 2:  # of one frame, where the rule of qwen-vl-utils ends with an error
        return list(range(total))
    # What ``torch.linspace(0, total - 1, n).round()`` gives: it counts from both ends in float32, and multiplies and
    # adds in one step. Counting in float64 gives some other frames for nearly half of all videos.
    end = _float32(total - 1)
    step = _float32(end / (n - 1))
    return [round(_float32(step * i if i < n // 2 else end - step * (n - 1 - i))) for i in range(n)]


def _float32(value: float) -> float:
    nearest: float = struct.unpack("f", struct.pack("f", value))[0]
    return nearest


def _inner(n: int, total: int) -> list[int]:
    return [int(i * (total / (n + 1))) for i in range(1, n + 1)]

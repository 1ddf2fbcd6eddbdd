"""Frame indices and sizes against the library calls that define the protocol."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from vamba_eval import FrameSampling
from vamba_eval.contracts import Ladder


def torch_uniform(n: int, total: int) -> list[int]:
    if n >= total:
        return list(range(total))
    bounds = torch.linspace(0, total, n + 1, dtype=int)
    return ((bounds[:-1] + bounds[1:]) // 2).tolist()


def test_uniform_is_what_torch_gives() -> None:
    rng = random.Random(0)
    cases = [(100, 108_635), (512, 108_000), (1, 1), (512, 511), (512, 512), (512, 513), (7, 2**24 + 1)]
    cases += [(rng.choice([1, 3, 8, 64, 100, 128, 256, 512, 1024]), rng.randint(1, 400_000)) for _ in range(3000)]
    for n, total in cases:
        assert FrameSampling(num_frames=n).indices(total, 25.0) == torch_uniform(n, total), (n, total)


def test_uniform_indices_are_distinct_and_inside() -> None:
    for total in (1, 2, 511, 512, 513, 1000, 123_457):
        indices = FrameSampling().indices(total, 30.0)
        assert len(indices) == min(512, total)
        assert indices == sorted(set(indices))
        assert indices[0] >= 0 and indices[-1] < total


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (720, 1280, (270, 480)),
        (1080, 1920, (270, 480)),
        (1280, 720, (480, 270)),
        (360, 640, (270, 480)),
        (480, 480, (480, 480)),
        (400, 1280, (256, 480)),  # 150 raised to 256: the aspect ratio changes
        (100, 200, (256, 256)),
        (1080, 1918, (270, 480)),
    ],
)
def test_size_rule(height: int, width: int, expected: tuple[int, int]) -> None:
    assert FrameSampling().size(height, width) == expected


def test_size_can_be_kept() -> None:
    assert FrameSampling(shortest_edge=None, longest_edge=None).size(1081, 1923) == (1081, 1923)


def test_fps_counts_seconds_and_never_cuts_off_the_end() -> None:
    sampling = FrameSampling(strategy="fps", fps=1.0, num_frames=100)
    assert sampling.indices(250, 25.0) == list(range(0, 250, 25))
    assert sampling.indices(10_000, 25.0) == FrameSampling(num_frames=100).indices(10_000, 25.0)
    assert sampling.indices(2000, 29.97)[-3:] == [1918, 1948, 1978]


def test_middle_takes_the_middle_between_first_and_last_frame_of_an_interval() -> None:
    assert FrameSampling(strategy="middle", num_frames=4).indices(8, 25.0) == [0, 2, 4, 6]
    assert FrameSampling(strategy="middle", num_frames=16).indices(5, 25.0) == [0, 1, 2, 3, 4]


def test_auto_fills_the_token_budget() -> None:
    sampling = FrameSampling(strategy="auto", token_budget=120_000)
    patches = (270 // 14) * (480 // 14)
    assert len(sampling.indices(1_000_000, 25.0, 720, 1280)) == 120_000 // patches


def mvbench_indices(n: int, total: int) -> list[int]:
    """MVBench's rule for a whole video, in NumPy."""
    seg = np.float64(total - 1) / n
    return np.trunc(seg / 2 + np.round(seg * np.arange(n))).astype(int).tolist()


def test_segments_are_those_of_mvbench() -> None:
    rng = random.Random(0)
    cases = [(8, 1), (512, 1), (512, 2), (512, 511), (512, 512), (512, 513), (16, 33), (2, 3), (4, 11), (3, 2**24)]
    cases += [(rng.choice([1, 3, 8, 16, 32, 100, 512]), rng.randint(1, 20_000)) for _ in range(3000)]
    for n, total in cases:
        indices = FrameSampling(strategy="segments", num_frames=n).indices(total, 25.0)
        assert indices == mvbench_indices(n, total), (n, total)
        assert indices == sorted(indices) and indices[0] >= 0 and indices[-1] < total, (n, total)
    # By hand: segments of 2.5 frames begin at 0, 2.5, 5 and 7.5, rounded to even: 0, 2, 5, 8; then 1.25 on.
    assert FrameSampling(strategy="segments", num_frames=4).indices(11, 25.0) == [1, 3, 6, 9]
    assert FrameSampling(strategy="segments", num_frames=5).indices(3, 25.0) == [0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    "fields", [{"num_frames": 0}, {"num_frames": 2.5}, {"num_frames": -8}, {"strategy": "all"}, {"longest_edge": None}]
)
def test_impossible_samplings_are_refused(fields: dict) -> None:
    with pytest.raises(ValueError):
        FrameSampling(**fields)


def test_describe_leaves_out_what_does_not_matter() -> None:
    assert "fps" not in FrameSampling().describe()
    assert FrameSampling(strategy="segments", num_frames=16).describe() == {
        **{"strategy": "segments", "num_frames": 16, "shortest_edge": 256, "longest_edge": 480}
    }
    assert "num_frames" not in FrameSampling(strategy="auto").describe()


def test_starts_of_stretches() -> None:
    """LongVideoBench's rule by hand: no more frames than whole seconds, and a step in whole frames."""
    starts = FrameSampling("starts", num_frames=4)
    assert starts.indices(100, 25.0) == [0, 25, 50, 75]
    assert starts.indices(99, 25.0) == [0, 33, 66], "3.96 s are three whole seconds"
    assert starts.indices(1003, 25.0) == [0, 250, 500, 750]
    assert starts.indices(7, 25.0) == [0], "less than a second"
    assert starts.indices(10, float("nan")) == [0, 2, 4, 6], "extracted frames of unknown rate"
    assert starts.indices(3, 0.1) == [0, 1, 2], "a frame every ten seconds"
    assert set(starts.describe()) == {"strategy", "num_frames", "shortest_edge", "longest_edge"}


# ---------------------------------------------------------------------- rules of other authors, and size by area


def by_rate(**fields: object) -> FrameSampling:
    return FrameSampling(strategy="fps-linspace", **{"fps": 2.0, "num_frames": 768, **fields})  # type: ignore[arg-type]


def by_area(**fields: int) -> FrameSampling:
    return FrameSampling(shortest_edge=None, longest_edge=None, **fields)  # type: ignore[arg-type]


def test_a_rate_spread_from_the_first_frame_to_the_last() -> None:
    """By hand from qwen-vl-utils: total / rate * fps, at least 4, an even number; then linspace, rounded."""
    ten_seconds = [0, 16, 31, 47, 63, 79, 94, 110, 126, 142, 157, 173, 189, 205, 220, 236, 252, 268, 283, 299]
    assert by_rate().indices(300, 30.0) == ten_seconds
    assert by_rate().indices(25, 25.0) == [0, 8, 16, 24], "one second: four frames nevertheless"
    assert len(by_rate().indices(55, 10.0)) == 10, "eleven is no even number"
    assert by_rate().indices(3, 30.0) == [0, 2] and by_rate().indices(1, 30.0) == [0]
    assert by_rate(num_frames=7).indices(300, 30.0) == [0, 60, 120, 179, 239, 299], "at most six of seven"
    hour = by_rate().indices(108_000, 30.0)
    assert len(hour) == 768 and (hour[0], hour[-1]) == (0, 107_999)
    with pytest.raises(ValueError, match="needs the video's frame rate"):
        by_rate().indices(300, float("nan"))
    with pytest.raises(ValueError, match="num_frames must be 2 or more"):
        by_rate(num_frames=1)


def test_it_rounds_as_torch_does() -> None:
    rng = random.Random(0)
    for _ in range(3000):
        total = rng.randint(4, 400_000)
        expected = torch.linspace(0, total - 1, 2 * min(total // 2, rng.randint(2, 1024))).round().long().tolist()
        found = FrameSampling(strategy="fps-linspace", fps=1e9, num_frames=len(expected)).indices(total, 30.0)
        assert found == expected, (total, len(expected))


def test_linspace_is_what_numpy_gives() -> None:
    assert FrameSampling(strategy="linspace", num_frames=4).indices(100, 30.0) == [0, 33, 66, 99]
    rng = random.Random(0)
    for _ in range(3000):
        n, total = rng.randint(1, 256), rng.randint(1, 300_000)
        expected = np.linspace(0, total - 1, n, dtype=int).tolist()
        assert FrameSampling(strategy="linspace", num_frames=n).indices(total, 30.0) == expected, (n, total)


def test_inner_frames_part_a_video_into_one_stretch_more() -> None:
    assert FrameSampling(strategy="inner", num_frames=4).indices(100, 30.0) == [20, 40, 60, 80]
    assert FrameSampling(strategy="inner", num_frames=3).indices(2, 30.0) == [0, 1, 1], "short videos repeat some"


@pytest.mark.parametrize(
    ("bounds", "num_frames", "source", "expected"),
    [
        ({"edge_multiple": 28}, 1, (720, 1280), (728, 1288)),  # 25.7 and 45.7 times 28
        ({"edge_multiple": 28}, 1, (70, 98), (56, 112)),  # 2.5 and 3.5: halves go to the even number
        ({"edge_multiple": 28}, 1, (9, 1280), (28, 1288)),  # no edge is rounded away
        ({"max_pixels": 921_600}, 1, (720, 1280), (720, 1280)),
        ({"max_pixels": 230_400}, 1, (720, 1280), (360, 640)),
        ({"min_pixels": 230_400}, 1, (180, 320), (360, 640)),
        ({"max_pixels": 602_112, "edge_multiple": 28}, 1, (720, 1280), (560, 1008)),  # 20.78 and 36.95, down
        ({"min_pixels": 100_352, "edge_multiple": 28}, 1, (240, 320), (280, 392)),  # 9.8 and 13.06, up
        ({"total_pixels": 230_400 * 8}, 8, (720, 1280), (360, 640)),
        ({"total_pixels": 230_400 * 8}, 32, (720, 1280), (180, 320)),  # four times the frames, a quarter of the area
        ({"total_pixels": 10_000, "max_pixels": 2_500}, 2, (100, 100), (50, 50)),  # the smaller bound acts
        ({"total_pixels": 20_000, "min_pixels": 10_000}, 4, (200, 200), (102, 102)),  # 5 % above the smallest
    ],
)
def test_size_by_area(
    bounds: dict[str, int], num_frames: int, source: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert by_area(**bounds).size(*source, num_frames) == expected


def test_a_size_by_area_is_left_as_it_is_by_the_same_rule() -> None:
    """So that a model's processor finds nothing to do."""
    rng = random.Random(0)
    for _ in range(1000):
        sampling = by_area(min_pixels=100_352, max_pixels=602_112, total_pixels=2 * 24_576 * 784, edge_multiple=28)
        height, width = sampling.size(rng.randint(100, 2200), rng.randint(100, 2200), rng.randint(4, 256))
        assert by_area(edge_multiple=28, max_pixels=height * width).size(height, width) == (height, width)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_pixels": 100}, "by their edges or by max_pixels"),
        ({"shortest_edge": None, "longest_edge": None, "max_pixels": 0}, "max_pixels must be a positive whole number"),
        ({"shortest_edge": None, "longest_edge": None, "total_pixels": 1e6}, "total_pixels must be a positive whole"),
        ({"shortest_edge": None, "longest_edge": None, "min_pixels": 9, "max_pixels": 8}, "is above max_pixels 8"),
        ({"shortest_edge": None, "longest_edge": None, "strategy": "auto", "total_pixels": 9}, "cannot go with it"),
    ],
)
def test_areas_that_make_no_sense(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrameSampling(**fields)  # type: ignore[arg-type]


def test_a_budget_for_all_frames_needs_their_number_and_takes_no_ladder() -> None:
    with pytest.raises(ValueError, match="needs the number of frames"):
        by_area(total_pixels=100).size(10, 10)
    rungs = tuple(by_area(total_pixels=100, num_frames=n) for n in (8, 16))
    with pytest.raises(ValueError, match="a size of its own"):
        Ladder(rungs)
    with pytest.raises(ValueError, match="differ in more"):
        Ladder((by_area(max_pixels=100), by_area(max_pixels=200)))


def test_samplings_without_areas_are_described_as_ever() -> None:
    """Fingerprints of runs and keys of cached clips are made of this."""
    edges = {"shortest_edge": 256, "longest_edge": 480}
    every = {"strategy": "uniform", "num_frames": 512, **edges, "fps": 1.0, "token_budget": 120_000}
    assert FrameSampling().describe() == {"strategy": "uniform", "num_frames": 512, **edges}
    assert list(FrameSampling().fields().items()) == list(every.items()), "in this order"
    assert Ladder((FrameSampling(),)).fields() == {"rungs": [every]}
    assert by_area(max_pixels=100).describe()["max_pixels"] == 100
    assert by_area(max_pixels=100).fields() == {**every, "shortest_edge": None, "longest_edge": None, "max_pixels": 100}

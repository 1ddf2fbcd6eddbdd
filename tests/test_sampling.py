"""Frame indices and sizes against the library calls that define the protocol."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from vamba_eval import FrameSampling


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

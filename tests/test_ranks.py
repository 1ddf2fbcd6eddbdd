"""Rank intervals, against a bootstrap over videos that knows nothing of the jackknife."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmark_files import longvideobench_rows, write_longvideobench

from vamba_eval import evaluate
from vamba_eval.contracts import Measure, Score, ScoredRecord, mean
from vamba_eval.tables.ranks import Rank, ranks_of


def runs_of(answers: np.ndarray, measure: Measure) -> list[Any]:
    """(models, videos, questions) of 0 and 1 as runs of one benchmark."""
    task = SimpleNamespace(measures={"accuracy": measure})
    return [
        SimpleNamespace(
            title="T",
            protocol="vamba",
            task=task,
            scored=[
                ScoredRecord(f"{v}-{q}", f"v{v}", {}, Score({"correct": float(own[v, q])}))
                for v in range(own.shape[0])
                for q in range(own.shape[1])
            ],
        )
        for own in answers
    ]


def answers(skills: Sequence[float], videos: int, seed: int) -> np.ndarray:
    """Models find the same videos hard."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 1.0, (1, videos, 1))
    return (rng.normal(0, 1, (len(skills), videos, 3)) + np.array(skills)[:, None, None] > hard).astype(float)


def squared(records: Sequence[ScoredRecord]) -> float:
    return float(np.mean([record.values["correct"] for record in records])) ** 2


@pytest.mark.parametrize("measure", [mean("correct"), Measure(squared)])
def test_ranks_agree_with_a_bootstrap_over_videos(measure: Measure) -> None:
    found = answers([0.9, 0.5, 0.42, -0.4, 0.45], videos=80, seed=4)
    ranks = [rank for rank in ranks_of(runs_of(found, measure)) if rank is not None]
    scores = found.mean(axis=(1, 2))
    assert [rank.rank for rank in ranks] == [1 + int((scores > score).sum()) for score in scores]
    draws = np.random.default_rng(0).integers(0, 80, (4000, 80))
    means = found.mean(axis=2)[:, draws].mean(axis=2).T  # (draws, models)
    drawn = 1 + (means[:, None, :] > means[:, :, None] + 1e-9).sum(axis=2)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0, method="nearest")
    assert [(rank.low, rank.high) for rank in ranks] == [(int(a), int(b)) for a, b in zip(low, high, strict=True)]
    assert ranks[0].low == ranks[0].high == 1 and ranks[3].low == ranks[3].high == 5
    assert max(ranks[i].high for i in (1, 2, 4)) == 4 and all(rank.among == 5 for rank in ranks)


def test_the_same_model_twice_has_the_same_rank() -> None:
    found = answers([0.5, 0.5, -0.5], videos=40, seed=1)
    found[1] = found[0]
    assert ranks_of(runs_of(found, mean("correct")))[:2] == [Rank(1, 1, 1, 3)] * 2


def test_less_is_better_where_nothing_is_best() -> None:
    found = answers([1.5, -1.5], videos=40, seed=1)
    ranks = ranks_of(runs_of(found, mean("correct", best=0.0, worst=1.0)))
    assert [rank and rank.rank for rank in ranks] == [2, 1]


def test_a_model_alone_has_no_rank_nor_one_that_sees_nothing(tmp_path: Path) -> None:
    assert ranks_of(runs_of(answers([0.5], 10, 0), mean("correct"))) == [None]
    write_longvideobench(tmp_path, longvideobench_rows(30))
    models = {"models": ["a=constant", "b=constant"], "model_args": {"a": {"letter": "A"}, "b": {"letter": "E"}}}
    board = evaluate(["longvideobench"], **models, data_root=tmp_path, output=tmp_path, progress=False)  # type: ignore[arg-type]
    assert [result.rank for result in board.results] == [None, None], "what sees no video is no rival"
    assert "| Rank" not in board.long_markdown() and board.table.iloc[1]["rank_low"] is None

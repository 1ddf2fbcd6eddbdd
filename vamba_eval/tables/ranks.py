"""How sure the order of models is: of each result on a benchmark its rank, and the ranks that it may as well have.

Models err on the same questions, so their scores move together when other videos are drawn, and ranks are surer than
the scores' own intervals suggest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vamba_eval.score.scored import ScoredRun
from vamba_eval.score.statistics import Estimate, estimate, with_common_videos

if TYPE_CHECKING:
    import numpy as np

_DRAWS = 4000


@dataclass(frozen=True)
class Rank:
    """1 is the best of ``among``; ``low`` to ``high`` is its 95 % interval. Equal scores share the better rank."""

    rank: int
    low: int
    high: int
    among: int


def ranks_of(runs: Sequence[ScoredRun], kinds: Sequence[object] = ()) -> list[Rank | None]:
    """The rank of each run's headline among the runs of the same benchmark and protocol (and of the same of ``kinds``,
    where each run has one), on the questions that all of them answered; None for one that is alone, or where these are
    about fewer than two videos."""
    alike: dict[tuple[str, str, object], list[int]] = defaultdict(list)
    for place, (run, kind) in enumerate(zip(runs, kinds or [None] * len(runs), strict=True)):
        alike[run.title, run.protocol, kind].append(place)
    ranks: list[Rank | None] = [None] * len(runs)
    for places in alike.values():
        found = _on_shared_questions([runs[place] for place in places]) if len(places) > 1 else None
        for place, rank in zip(places, _ranked(found) if found else (), strict=False):
            ranks[place] = rank
    return ranks


def _on_shared_questions(runs: Sequence[ScoredRun]) -> list[Estimate] | None:
    """The headline of each run, so that larger is better."""
    measure = next(iter(runs[0].task.measures.values()))
    shared = set.intersection(*({each.question_id for each in run.scored if each.values} for run in runs))
    found = []
    answered = [[each for each in run.scored if each.question_id in shared] for run in runs]
    for records in with_common_videos(answered):
        one = estimate(measure, records)
        if one is None or len(one.without) < 2:
            return None
        found.append(one)
    if measure.best < measure.worst:
        found = [Estimate(-e.value, {part: -x for part, x in e.without.items()}, 0, 0) for e in found]
    return found


def _ranked(found: Sequence[Estimate]) -> list[Rank]:
    """Ranks among scores drawn around those seen, with the covariance that the jackknife over videos gives them."""
    import numpy as np

    parts = sorted(set.intersection(*(set(one.without) for one in found)))
    values = np.array([one.value for one in found])
    without = np.array([[one.without[part] for one in found] for part in parts])
    deviations = without - without.mean(axis=0)
    covariance = (len(parts) - 1) / len(parts) * deviations.T @ deviations
    # Equal models stay equal in every draw only if nothing of the covariance is lost to rounding.
    drawn = np.random.default_rng(0).multivariate_normal(values, covariance, _DRAWS, method="eigh").round(6)
    low, high = np.quantile(_ranks(drawn), [0.025, 0.975], axis=0, method="nearest")
    own = _ranks(values.round(6)[None])[0]
    return [Rank(int(r), int(min(r, a)), int(max(r, b)), len(found)) for r, a, b in zip(own, low, high, strict=True)]


def _ranks(scores: np.ndarray) -> np.ndarray:
    """(draws, models) to the same: 1 and how many are better."""
    return 1 + (scores[:, None, :] > scores[:, :, None]).sum(axis=2)

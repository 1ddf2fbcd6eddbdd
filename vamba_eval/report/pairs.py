"""Every two models of a benchmark, with the numbers of ``compare`` and the questions that only one is right in."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

from vamba_eval.report.content import Content
from vamba_eval.score.scored import ScoredRun
from vamba_eval.tables.compare import Difference, compare_runs
from vamba_eval.tables.result import Result

MOST_MODELS = 12  # of a benchmark: 66 pairs; further ones would make the page slow to write


def pairs_of(content: Content) -> tuple[list[dict[str, Any]], list[str]]:
    """Each pair of the first ``MOST_MODELS`` by score of each benchmark, and what was left out, a line each.

    ``a`` and ``b`` are systems; ``a_alone`` and ``b_alone`` the places of questions in which one scores more.
    """
    found, left_out = [], []
    by_task: dict[str, list[tuple[int, Result, ScoredRun]]] = defaultdict(list)
    for system, result, run in content.measured:
        by_task[result.title].append((system, result, run))
    for title, entries in by_task.items():
        chosen = sorted(entries, key=lambda entry: -_credit(entry[1]))[:MOST_MODELS]
        if len(entries) > len(chosen):
            left_out.append(
                f"{title}: pairs of the {MOST_MODELS} models of the best scores alone, of {len(entries)}; "
                "run_eval.py compare compares any two"
            )
        in_order = sorted(chosen, key=lambda entry: entry[0])
        for (a, _, run_a), (b, _, run_b) in itertools.combinations(in_order, 2):
            comparison = compare_runs(run_a, run_b)
            alone: dict[bool, list[int]] = {True: [], False: []}
            for flip in comparison.flips:
                if flip.score_a != flip.score_b:
                    alone[flip.score_a > flip.score_b].append(content.places[a, title, flip.question])
            found.append(
                {
                    "task": content.tasks.index(title),
                    "a": a,
                    "b": b,
                    "differences": [_fields(each) for each in comparison.differences],
                    "a_alone": alone[True],
                    "b_alone": alone[False],
                    "notes": comparison.notes,
                }
            )
    return found, left_out


def _credit(result: Result) -> float:
    if not result.summary.metrics:
        return float("-inf")
    metric = result.summary.headline[1]
    return metric.value if metric.best > 0 else -metric.value


def _fields(each: Difference) -> list[Any]:
    """As pairs.js unpacks them."""
    p = each.p if each.group == "all" else each.p_adjusted
    about = [each.group, each.value, each.num_questions, each.num_videos, each.unit]
    return [*about, each.score_a, each.score_b, each.difference, each.low, each.high, p, each.smallest_shown]

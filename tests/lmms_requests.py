"""Requests as lmms-eval makes them for simple models, of a made-up task."""

from __future__ import annotations

import copy
from typing import Any

from lmms_eval.api.instance import Instance

GREEDY = {"max_new_tokens": 8, "temperature": 0, "do_sample": False, "until": ["\n\n"]}


def simple(docs: list[dict[str, Any]], kwargs: dict[str, Any] = GREEDY, repeats: int = 1) -> list[Instance]:
    return [
        Instance(
            "generate_until",
            (doc["text"], copy.deepcopy(kwargs), lambda d: d["visual"], number, "made_up", "test"),
            0,
            {"task": "made_up", "doc_id": number, "repeats": repeats},
        )
        for number, doc in enumerate(docs)
    ]


def options(docs: list[dict[str, Any]], continuations: list[Any]) -> list[Instance]:
    """Of each document, each continuation as an option to score."""
    return [
        Instance(
            "loglikelihood",
            (doc["text"], option, lambda d: d["visual"], number, "made_up", "test"),
            place,
            {"task": "made_up", "doc_id": number, "repeats": 1},
        )
        for number, doc in enumerate(docs)
        for place, option in enumerate(continuations)
    ]


def answers(model: Any, docs: list[dict[str, Any]], requests: list[Instance]) -> list[str]:
    model.task_dict["made_up"] = {"test": docs}
    return [result.text for result in model.generate_until(requests)]

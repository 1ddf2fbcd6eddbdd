"""DREAM-1K: 1,000 clips to describe; events of the description and of a reference are checked against each other.

Paper: Wang et al., Tarsier, arXiv 2407.00634 (section 4, AutoDQ). Data set card: omni-research/DREAM-1K; the
annotations of github.com/bytedance/tarsier (data/annotations/DREAM-1k.jsonl) are read too. The judge's prompts and how
its answers are read are those of that repository's evaluation/metrics/evaluate_dream_gpt.py.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from vamba_eval.contracts import (
    Ask,
    Catalogue,
    Clip,
    Counts,
    Dataset,
    Measure,
    Question,
    Score,
    ScoredRecord,
    Task,
    Video,
    mean,
)

from ._annotations import (
    BadRow,
    Collector,
    check_split,
    find_folder,
    first_existing,
    read_rows,
    seconds_field,
    text_field,
)

_PROMPT = "Describe the video in detail."
_TRIES = 10  # max_retry of the reference script, for each of its three requests
_CLASSES = ("entailment", "neutral", "contradiction")
# The bounds of the reference script's buckets: the first that a number does not exceed.
_BUCKETS = {
    "subjects": ((1, "<=1"), (2, "2"), (3, "3"), (math.inf, ">=4")),
    "shots": ((1, "<=1"), (2, "2"), (3, "3"), (math.inf, ">=4")),
    "events": ((3, "<=3"), (5, "4-5"), (7, "6-7"), (math.inf, ">=8")),
}

# Word for word, with its misspellings: they are part of what is measured.
_EXTRACT = """\
Bellow is a description of a video clip:
Video Description: {caption}

Extract at most 10 key events from the above video description paragraph. Requirements
:- An event must include an action, motion or movement (NOT STATIC INFORMATION). DON'T repeat same events.
- Every event is represented by a brief sentence within 10 words, with a subject, a predicate and optionally an \
object, avoid unnecessary appearance descriptions.
- Every event must be atomic, meaning that it cannot be further split into multiple events.
- Scene cuts and camera motions are NOT events.
- Substitute pronouns by the nouns they refer to.

Please generate the response in the form of a Python dictionary string with keys "events". The value of "events" is a \
List(str), of which each item is an event. DO NOT PROVIDE ANY OTHER OUTPUT TEXT OR EXPLANATION. Only provide the \
Python dictionary string. For example, your response should look like this: {{"events": [event1, event2, ...]}}"""

_RELATE = """\
Given a video description and a list of events. For each event, classify the relationship between the video \
description and the event into three classes: entailment, neutral, contradiction.
- "entailment" means that the video description entails the event.
- "contradiction" means that some detail in the video description contradicts with the event.
- "neutral" means that the relationship is neither "entailment" or "contradiction".

Video Description:
{caption}

Events: {events}
Output a JSON formed as:
{{
  "events": [
    {{"event": "copy an event here", "relationship": "put class name here",  "reason": "give your reason here"}},
    ...
  ]
}}

DO NOT PROVIDE ANY OTHER OUTPUT TEXT OR EXPLANATION. Only output the JSON. Output:"""

T = TypeVar("T")


def _f1(records: Sequence[ScoredRecord], *, over: str | None) -> float | None:
    """Of mean recall and mean precision; no mean of what each response earns."""
    recall, precision = (mean(value, over=over).function(records) for value in ("recall", "precision"))
    if recall is None or precision is None:
        return None
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


@dataclass(frozen=True)
class F1(Measure):
    """F1 over the sources' means; within a group over all of its responses, since each source is one too."""

    def within_group(self) -> Measure:
        return replace(self, function=partial(_f1, over=None))


class DREAM1K(Task):
    name = "dream1k"
    version = "1"
    catalogue = Catalogue(
        title="DREAM-1K",
        homepage="https://huggingface.co/datasets/omni-research/DREAM-1K",
        citation="Wang et al., Tarsier, arXiv 2407.00634",
        reported_as="dream1k_f1",
        dataset=Dataset(hub_id="omni-research/DREAM-1K", files=("json/*", "video/*")),  # one archive of videos, 4 GB
        counts={"test": Counts(videos=1000, questions=1000)},
    )
    # Recall and precision are means over the sources' means, and F1 is that of these two, as in the reference.
    measures: ClassVar = {
        "F1": F1(partial(_f1, over="source")),
        "recall": mean("recall", over="source", in_breakdowns=True),
        "precision": mean("precision", over="source", in_breakdowns=True),
    }
    protocols = ("vamba", "official")  # which agree: greedy, at most 512 tokens, and the question as it is

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        check_split(self, split)
        expected = ("DREAM-1k.jsonl", "annotations/DREAM-1k.jsonl", "json/metadata.json")
        folder, file = find_folder(self, data_root, expected)
        collector = Collector(self)
        for number, row in enumerate(read_rows(file)):
            where = f"{file.name} row {number}"
            name = path = None
            try:
                row = _flat(row) if isinstance(row, dict) and "messages" in row else row
                name = Path(text_field(row, "video_file")).name
                folders = ("video/DREAM-1K_videos", "video", "videos", "DREAM-1K_videos")
                path = first_existing([folder / place / name for place in folders])
                question = self._question(row, where, collector)
            except BadRow as problem:
                collector.broken(where, str(problem), name and Path(name).stem, path)
                continue
            collector.add(where, Path(name).stem, path, question, duration_s=seconds_field(row, "duration"))
        return collector.videos()

    def _question(self, row: dict[str, Any], where: str, collector: Collector) -> Question:
        events = row.get("events")
        if isinstance(events, str):
            try:
                events = json.loads(events)
            except ValueError:
                events = None
        if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
            events = None
            collector.defect(where, "it lists no events", "the judge extracts them from the reference")
        groups = {"source": str(row.get("source") or "unknown").removeprefix("DREAM/")}
        for name, bounds in _BUCKETS.items():
            number = _number(row.get(f"n_{name}"))
            groups[name] = next((label for bound, label in bounds if number <= bound), "unknown")
        used = ("description", "events", "prompt", "source", "video_file")
        extra = {key: value for key, value in row.items() if key not in used}
        return Question(
            id=str(row["idx"] if row.get("idx") is not None else Path(row["video_file"]).stem),
            text=str(row.get("prompt") or _PROMPT),
            answer=text_field(row, "description"),
            groups=groups,
            extra={**extra, "events": events},
        )

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return question.text

    def score(self, question: Question, response: str, protocol: str) -> Score:
        return Score()

    def needs_judge(self, question: Question) -> bool:
        return True

    def judge(self, question: Question, response: str, ask: Ask) -> dict[str, Any]:
        """The relationships of the reference's events to the response, and of the response's to the reference."""
        reference, prediction = str(question.answer).lower(), response.lower()
        expected = question.extra.get("events")
        if expected is None:
            expected = _extract(reference, ask)
        predicted = _extract(prediction, ask)
        return {
            "reference_events": expected,
            "response_events": predicted,
            "of_reference_events": _relate(expected, prediction, ask),
            "of_response_events": _relate(predicted, reference, ask),
        }

    def grade(self, question: Question, judgement: Mapping[str, Any]) -> Score:
        return Score(
            {
                "recall": _share_entailed(judgement["of_reference_events"]),
                "precision": _share_entailed(judgement["of_response_events"]),
            }
        )


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the repository's annotations in the shape of the data set's."""
    contents = [content for message in row["messages"] for content in message["content"]]
    texts = [content.get("text") for content in contents if content.get("type") == "text"]
    references = [content.get("reference") for content in contents]
    about = row.get("extra_info")
    return {
        **(about if isinstance(about, dict) else {}),
        "idx": row.get("idx"),
        "video_file": None if row.get("vid") is None else f"{row['vid']}.mp4",
        "source": row.get("dataset"),
        "prompt": next((text for text in texts if text), None),
        "description": next((reference for reference in references if reference), None),
    }


def _number(value: Any) -> float:
    """A number, or a text that is one; else NaN."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


# ------------------------------------------------------------------------------------------------- judging


def _extract(caption: str, ask: Ask) -> list[str]:
    """The events in a caption, which is in lower case."""

    def read(text: str) -> list[str]:
        events = ast.literal_eval(_unfenced(text))["events"]
        if not isinstance(events, list) or (events and not isinstance(events[0], str)):
            raise ValueError("its events are not a list of texts")
        return events

    prompt = _EXTRACT.format(caption=caption.replace('"', "'"))
    return _tried(prompt, read, ask, "extracted no events")


def _relate(events: Sequence[str], caption: str, ask: Ask) -> list[str]:
    """The relationship of each event to a caption, which is in lower case.

    Nothing is asked where there are no events: the reference asks then, and counts 1 whatever comes.
    """

    def read(text: str) -> list[str]:
        found = json.loads(_repaired(text))["events"]
        relationships = [entry["relationship"].strip().lower() for entry in found]
        if len(relationships) != len(events):
            raise ValueError(f"it has {len(relationships)} relationships for {len(events)} events")
        if unknown := [each for each in relationships if each not in _CLASSES]:
            raise ValueError(f"{unknown[0]!r} is not a relationship")
        return relationships

    if not events:
        return []
    return _tried(_RELATE.format(caption=caption, events=list(events)), read, ask, "related no events")


def _tried(prompt: str, read: Callable[[str], T], ask: Ask, failure: str) -> T:
    problem: Exception | None = None
    for _ in range(_TRIES):
        try:
            # No options: the reference leaves the temperature to the endpoint.
            return read(ask([{"role": "user", "content": prompt}]))
        except (ValueError, SyntaxError, TypeError, KeyError, AttributeError, MemoryError, RecursionError) as error:
            problem = error
    raise ValueError(f"the judge {failure} in {_TRIES} tries; the last: {problem}")


def _unfenced(text: str) -> str:
    """Without the marks of a code block, where one begins the text."""
    for mark in ("```json", "```python"):
        if text.startswith(mark):
            return text.replace(mark, "").replace("```", "").strip()
    return text


def _repaired(text: str) -> str:
    """JSON as a model writes it, repaired as in the reference."""
    text = _unfenced(re.sub(r"\s+", " ", text.strip()))
    text = text if text.startswith("{") else "{" + text
    text = text if text.endswith("}") else text + "}"
    text = text.replace("True", "true").replace("False", "false")
    text = text.replace("} {", "}, {").replace("}{", "}, {")
    for bracket in "}]":
        text = text.replace(f", {bracket}", bracket).replace(f",{bracket}", bracket)
    return text.replace("[Placeholder]", "null").replace("{Events:", "").strip()


def _share_entailed(relationships: Sequence[str]) -> float:
    """1 where there is nothing to entail, as in the reference."""
    return relationships.count("entailment") / len(relationships) if relationships else 1.0

"""Which models of some runs, and which of their questions, can be put side by side to say something about questions."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vamba_eval.contracts import ScoredRecord, UserError
from vamba_eval.score.scored import ScoredRun
from vamba_eval.tables.provenance import differing_facts, provenance_of
from vamba_eval.tables.result import frames_of
from vamba_eval.tables.text import unique

# What the identity of a model has that knows a language, whichever weights these are and wherever they work.
_KNOWS = ("pretrained", "weights", "served")


@dataclass(frozen=True)
class System:
    """A model as it was asked in one run. ``responses`` are those that have values, by question."""

    name: str
    run: ScoredRun
    responses: Mapping[str, Sequence[ScoredRecord]]

    @property
    def looks(self) -> bool:
        return bool(self.run.identity.get("reads_video", True))


# -------------------------------------------------------------------------------------------- which systems count


def guesses(run: ScoredRun) -> bool:
    """Whether a model knows neither the video nor any language: it never looks, and its identity names no weights.

    What is asked blind would look if it could, and a text-only model says which weights it has, or that it is served.
    """
    identity = run.identity
    if identity.get("reads_video", True) or identity.get("blind"):
        return False
    return not any(identity.get(name) for name in _KNOWS)


def choose_systems(runs: Sequence[ScoredRun]) -> tuple[list[System], list[str]]:
    """The systems that say something about questions, and a line for each kind of run that does not.

    Raises UserError where none is left.
    """
    notes = []
    known = [run for run in runs if not guesses(run)]
    if dropped := _names_of([run for run in runs if guesses(run)]):
        notes.append(
            f"left out: {dropped}, which guess: they never look, and their identity names no weights "
            f"({', '.join(_KNOWS)})"
        )
    random = [run for run in known if run.identity.get("weights") == "random"]
    if random and len(random) == len(known):
        notes.append(f"{_names_of(random)}: random weights, all there is here; what they answer is luck")
    elif random:
        known = [run for run in known if run.identity.get("weights") != "random"]
        notes.append(f"left out: {_names_of(random)}, whose weights are random and say nothing about questions")
    if silent := [run for run in known if not _with_values(run)]:
        known = [run for run in known if _with_values(run)]
        notes.append(f"left out: {_names_of(silent)}: no response has a score (no response, no known answer, no grade)")
    known, repeated = _once_blind(known)
    if repeated:
        notes.append(f"asked blind in several runs, counted once: {_names_of(repeated)}")
    if not known:
        raise UserError("; ".join(["no model there says anything about questions", *notes]))
    names = _named(known)
    systems = [System(name, run, _with_values(run)) for name, run in zip(names, known, strict=True)]
    models = {model_of(run) for run in known}
    if len(models) < len(systems):
        notes.append(
            f"{len(systems)} systems are {len(models)} models, some with several numbers of frames or in several runs: "
            "alike, but each counts as a model of its own"
        )
    return systems, notes


def model_of(run: ScoredRun) -> str:
    """What is the same of one model's runs, whatever the frames."""
    return json.dumps([run.model, run.identity], sort_keys=True)


def _once_blind(runs: Sequence[ScoredRun]) -> tuple[list[ScoredRun], list[ScoredRun]]:
    """Runs without those of a blind model that is there already, with more responses: it answers alike whatever the
    number of frames; and these."""
    kept: dict[str, ScoredRun] = {}
    for place, run in enumerate(runs):
        blind = not run.identity.get("reads_video", True)
        key = model_of(run) if blind else str(place)
        if key not in kept or len(run.scored) > len(kept[key].scored):
            kept[key] = run
    chosen = [run for run in runs if any(run is each for each in kept.values())]
    return chosen, [run for run in runs if not any(run is each for each in chosen)]


def _named(runs: Sequence[ScoredRun]) -> list[str]:
    """By model and frames, and by as much else as tells them apart."""

    def by_frames(run: ScoredRun) -> str:
        sampling = run.fingerprint["sampling"]
        frames = frames_of(sampling) if "num_frames" in sampling and run.identity.get("reads_video", True) else None
        return f"{run.model} ({frames} frames)" if frames else run.model

    names = [by_frames(run) for run in runs]
    wider: tuple[Callable[[ScoredRun], Any], ...] = (lambda run: run.folder.name, lambda run: run.folder)
    for more in wider:
        alike = Counter(names)
        names = [name if alike[name] == 1 else f"{name}, {more(run)}" for name, run in zip(names, runs, strict=True)]
    return names


def _names_of(runs: Sequence[ScoredRun]) -> str:
    return ", ".join(unique(run.model for run in runs))


def _with_values(run: ScoredRun) -> dict[str, list[ScoredRecord]]:
    members: dict[str, list[ScoredRecord]] = defaultdict(list)
    for record in run.scored:
        if record.values:
            members[record.question_id].append(record)
    return {question: sorted(own, key=lambda each: each.trial) for question, own in members.items()}


# ------------------------------------------------------------------------------------------ which questions count


def shared_questions(systems: Sequence[System]) -> tuple[list[str], list[str]]:
    """The questions that all systems answered and that are the same in all runs; and what is left out."""
    notes = []
    anywhere = unique(record.question_id for system in systems for record in system.run.scored)
    unscored = {
        question
        for question in anywhere
        if not any(question in system.responses for system in systems)  # withheld, or nobody graded it yet
    }
    if unscored:
        notes.append(f"{len(unscored):,} questions have no known answer or no grade and are left out")
    known = [question for question in anywhere if question not in unscored]
    shared = [question for question in known if all(question in system.responses for system in systems)]
    if missing := len(known) - len(shared):
        fewest = min(systems, key=lambda system: len(system.responses))
        notes.append(
            f"{missing:,} of {len(known):,} questions were not answered by all (or not graded) and are left out; "
            f"{fewest.name} answered fewest: {len(fewest.responses):,}"
        )
    if unlike := {question for question in shared if _differs(question, systems)}:
        notes.append(f"{len(unlike):,} questions have other texts, options or answers in some runs and are left out")
    return [question for question in shared if question not in unlike], notes


def _differs(question: str, systems: Sequence[System]) -> bool:
    """Whether it is another question in some run. Records of early versions have no text, which differs from none."""
    asked = [system.responses[question][0].published for system in systems]
    texts = {each.text for each in asked if each.text}
    return len(texts) > 1 or len({(each.options, each.answer) for each in asked}) > 1


def other_differences(systems: Sequence[System]) -> list[str]:
    """In what else the runs differ, though their questions are the same."""
    notes = []
    prompts = unique(system.run.fingerprint["protocol"] for system in systems)
    if len(prompts) > 1:
        notes.append(f"the runs differ in the protocol of their prompts: {', '.join(prompts)}")
    judges = unique(str(system.run.judgements.judge) for system in systems if system.run.judgements.judge)
    if len(judges) > 1:
        notes.append(f"the runs differ in their judges: {', '.join(judges)}")
    seen = [(system.name, provenance_of(system.run)) for system in systems]
    notes += [f"the runs differ in {fact}" for fact in differing_facts(seen)]
    return notes

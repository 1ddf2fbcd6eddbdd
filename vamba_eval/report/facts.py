"""How the numbers were made: protocol, checkpoint, versions, hardware, date, frames, size and precision."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from vamba_eval.report.content import Content
from vamba_eval.score.scored import ScoredRun
from vamba_eval.tables.result import Result
from vamba_eval.tables.text import unique


def facts_of(content: Content) -> dict[str, Any]:
    """``common`` facts (name, value) are those of all systems; others are ``columns`` of ``rows``, a system each."""
    of_system: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for system, result, run in content.measured:
        for name, value in _facts(result, run):
            of_system[system][name].append(value)
    names = unique(name for facts in of_system.values() for name in facts)
    told = {
        system: {name: "; ".join(filter(None, unique(facts.get(name, [])))) for name in names}
        for system, facts in of_system.items()
    }
    common, columns = [], []
    for name in names:
        values = unique(facts[name] for facts in told.values())
        if len(values) > 1:
            columns.append(name)
        elif values[0]:
            common.append((name, values[0]))
    rows = [(content.systems[s].label, [facts[name] for name in columns]) for s, facts in sorted(told.items())]
    return {"common": common, "columns": columns, "rows": rows if columns else []}


def _facts(result: Result, run: ScoredRun) -> list[tuple[str, str]]:
    seen = result.provenance
    environments = [run.info["environments"][n] for n in sorted({record.environment for record in run.records})]
    return [
        ("Protocol", result.protocol),
        ("Asked", result.asked),
        ("Judge", result.judge),
        ("Questions", f"{result.title}: {result.questions:,} about {result.videos:,} videos"),
        ("Sample", str(run.info["counts"][run.task_name].get("sample", ""))),
        ("Seeds", str(result.seeds) if result.seeds > 1 else ""),
        ("Checkpoint", f"{seen.checkpoint} {seen.identity}".strip()),
        ("Frames", "" if result.num_frames is None else str(result.num_frames)),
        ("Size", result.size),
        ("Precision", seen.precision),
        ("Engine", seen.engine),
        ("Hardware", result.hardware),
        ("Versions", " or ".join(unique(_versions(environment) for environment in environments))),
        ("Date", result.date),
        ("Run", result.run),
    ]


def _versions(environment: dict[str, Any]) -> str:
    versions = {"vamba-eval": environment.get("vamba_eval"), "Python": environment.get("python")}
    versions |= environment.get("packages", {})
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)

"""Stored runs in other people's formats: a benchmark's own file of responses, and lmms-eval's logs of samples.

Needs no data and no torch; what the formats want beyond a record is left out, never invented.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from vamba_eval.contracts import UserError
from vamba_eval.exchange.lmms_files import COUNTED_AS
from vamba_eval.files import path_inside, replace_text, safe_name
from vamba_eval.plain import json_text
from vamba_eval.score.scored import ScoredRun, check_one_protocol, scored_runs
from vamba_eval.secrets import without_named
from vamba_eval.tables.text import unique

FORMATS = ("official", "lmms-eval")


def export(
    paths: Sequence[str | Path], folder: str | Path, form: str, protocol: str | None = None
) -> tuple[list[Path], list[str]]:
    """Write every task and model of the runs at or below ``paths`` as files below ``folder``.

    official    the file that the benchmark's authors evaluate or take as a submission; tasks without one are named in
                the second result
    lmms-eval   a line a response, as ``lmms-eval --log_samples`` writes them (0.7), and the results beside them

    Raises UserError where there is nothing to write, and for several protocols at once.
    """
    check_one_protocol(protocol, "export")
    folder = Path(folder)
    written: list[Path] = []
    passed_over: list[str] = []
    for asked in scored_runs(paths, protocol):
        run = asked.as_protocol_asks()
        if otherwise := len(asked.scored) - len(run.scored):
            passed_over.append(f"{run.title}, {run.model}: {otherwise:,} responses in other orders or wordings")
        place = path_inside(folder / run.folder.name, run.model, str(run.folder / "run.json"))
        if form == "lmms-eval":
            written += _write_lmms_logs(run, place)
            continue
        submission = run.task.submission(run.scored)
        if submission is None:
            passed_over.append(f"{run.title}: its authors define no file of responses")
            continue
        answered = {record.question for record in run.answered}
        if missing := run.info["counts"][run.task_name]["questions"] - len(answered):
            passed_over.append(f"{run.title}, {run.model}: {missing:,} questions without a response are left out")
        name, content = submission
        written.append(_write_text(place / name, content))
    if not written:
        why = "; ".join(unique(passed_over)) or "the runs there have no answers yet"
        others = "; --format lmms-eval writes logs of every benchmark" if passed_over and form == "official" else ""
        raise UserError(f"nothing to export: {why}{others}")
    return written, unique(passed_over)


def _write_lmms_logs(run: ScoredRun, place: Path) -> list[Path]:
    """Fields as lmms-eval's EvaluationTracker writes them; ``doc`` is what the record holds of the question."""
    stamp = safe_name(str(run.info["begun"]).partition("+")[0])
    lines = []
    for number, (record, scored) in enumerate(zip(run.answered, run.scored, strict=True)):
        own = {
            "question_id": record.question,
            "video": record.video,
            "options": record.options,
            "answer": record.answer,
            **({COUNTED_AS: {"video": record.cluster}} if record.cluster else {}),
            **({"extra": record.extra} if record.extra else {}),
        }
        doc = {**own, **{group: value for group, value in record.groups.items() if group not in own}}
        target = str(record.answer)
        lines.append(
            {
                "doc_id": number,
                "target": target,
                "filtered_resps": [record.response],
                "doc_hash": _digest(json.dumps(doc, indent=2, ensure_ascii=False)),
                "prompt_hash": _digest(record.prompt or ""),
                "target_hash": _digest(target),
                "input": record.prompt,
                "accuracy": _as_logged(scored.values.get("correct")),
                "extracted": scored.score.extracted,
                "seed": record.seed,
                "doc": doc,
            }
        )
    metrics = run.summary.metrics
    results = {
        "results": {
            run.task_name: {
                "alias": run.task_name,
                **{f"{name},none": metric.value for name, metric in metrics.items()},
                "samples": len(run.answered),
            }
        },
        "configs": {run.task_name: run.fingerprint},
        "versions": {run.task_name: run.task.version},
        "n-samples": {
            run.task_name: {
                "original": run.info["counts"][run.task_name]["questions"],
                "effective": len({record.question for record in run.answered}),
            }
        },
        "model_name": run.model,
        "model_source": run.identity.get("adapter"),
        "config": {"model": run.model, "model_args": run.identity},
        "date": run.info["begun"],
        "run": run.folder.name,
        "scored_under": run.protocol,
    }
    samples = "".join(json_text(line) + "\n" for line in lines)
    return [
        _write_text(place / f"{stamp}_samples_{run.task_name}.jsonl", samples),
        _write_text(place / f"{stamp}_{run.task_name}_results.json", json_text(without_named(results), indent=2)),
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _write_text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, content)
    return path


def _as_logged(correct: float | None) -> bool | float | None:
    """Right or wrong is true or false there."""
    return bool(correct) if correct in (0.0, 1.0) else correct

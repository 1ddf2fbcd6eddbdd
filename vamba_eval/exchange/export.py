"""Stored runs in other people's formats: a benchmark's own file of responses, and lmms-eval's logs of samples.

Needs no data and no torch; what the formats want beyond a record is left out, never invented.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vamba_eval.contracts import UserError
from vamba_eval.exchange.lmms_logs import export_logs, write_text
from vamba_eval.score.scored import check_one_protocol, scored_runs

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
        place = folder / run.folder.name / run.model
        if form == "lmms-eval":
            written += export_logs(run, place)
            continue
        submission = run.task.submission(run.scored)
        if submission is None:
            passed_over.append(f"{run.title}: its authors define no file of responses")
            continue
        answered = {record.question for record in run.answered}
        if missing := run.info["counts"][run.task_name]["questions"] - len(answered):
            passed_over.append(f"{run.title}, {run.model}: {missing:,} questions without a response are left out")
        name, content = submission
        written.append(write_text(place / name, content))
    if not written:
        raise UserError(f"nothing to export: {'; '.join(passed_over) or 'the runs there have no answers yet'}")
    return written, passed_over

"""One model on one benchmark in one run: the row of every table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from vamba_eval.contracts import Summary
from vamba_eval.score.robustness import Robustness, robustness_of
from vamba_eval.score.scored import Scored, ScoredRun, verdict_of
from vamba_eval.tables.costs import Costs, costs_of
from vamba_eval.tables.provenance import Provenance, provenance_of
from vamba_eval.tables.ranks import Rank
from vamba_eval.tables.robustness import asked_otherwise, robustness_row
from vamba_eval.tables.text import unique

_OWN_FRAMES = "its own"  # frames of a service that is given files, and samples them by itself


@dataclass
class Result:
    """One model on one task in one run, or a reported row (then ``source`` names the publication).

    ``answered`` and ``failed`` count responses: each question is asked with so many ``seeds``, and with each of
    them all questions make ``trials``, more than one a question where it is asked in several orders or wordings.
    ``asked`` says how else than the protocol asks. Of the ``unparsed`` some may be right all the same
    (``unparsed_right``: the protocol says so) or drawn; ``unparsed_wrong`` are wrong. ``reads_video`` is False of
    what is asked without looking; ``size`` is how large its frames are. ``correct`` is the share of responses that
    are right, where they are right or wrong; ``served_by`` are the models that an endpoint says it answered with.
    ``selected``: each question was asked about frames that something chose for it. ``stored``: it is the run's own
    row, not scored here. ``date`` is the day on which the run was begun; ``sample`` says how questions were drawn,
    where not all are asked. ``provenance`` is what was seen, and by which weights and engine.
    """

    run: str
    model: str
    task: str
    title: str
    protocol: str = ""
    num_frames: int | str | None = None
    size: str = ""
    reads_video: bool = True
    summary: Summary = field(default_factory=lambda: Summary({}, {}))
    chance: float | None = None
    questions: int = 0
    seeds: int = 1
    trials: int = 0
    asked: str = ""
    robustness: Robustness | None = None
    answered: int = 0
    failed: int = 0
    unparsed: int = 0
    unparsed_right: int = 0
    unparsed_wrong: int = 0
    cut_off: int = 0
    read_otherwise: int = 0
    drawn: int = 0
    videos: int = 0
    costs: Costs = field(default_factory=Costs)
    peak_bytes: int | None = None
    peak_kind: str = ""
    hardware: str = ""
    random_weights: bool = False
    trained_on: str = ""
    failures: list[str] = field(default_factory=list)
    source: str = ""
    stored: bool = False
    environments: int = 1
    judge: str = ""
    unjudged: int = 0
    unjudged_why: str = ""
    batched: int = 0
    correct: float | None = None
    served_by: list[str] = field(default_factory=list)
    selected: bool = False
    date: str = ""
    sample: str = ""
    rank: Rank | None = None
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def own_frames(self) -> bool:
        """Whether it saw other frames than those that are chosen here."""
        return self.num_frames == _OWN_FRAMES

    @property
    def asked_for(self) -> int:
        """Responses of the whole benchmark."""
        return (self.trials or self.questions) * self.seeds

    @property
    def counted(self) -> int:
        """Responses that the score is made of: without those that wait for a judge."""
        return self.answered - self.unjudged

    @property
    def complete(self) -> bool:
        return self.counted == self.asked_for

    @property
    def price_per_correct(self) -> float | None:
        """Dollars for each right response; None where there is no price, or nothing is right or wrong."""
        price = self.costs.price_per_question
        return None if price is None or not self.correct else price / self.correct

    def row(self) -> dict[str, Any]:
        """The CSV row, at full precision; accuracies in [0, 1]."""
        name, headline = self.summary.headline if self.summary.metrics else ("", None)
        plain = self.summary.metrics.get("accuracy")
        return {
            "run": self.run,
            "model": self.model,
            "task": self.task,
            "num_frames": self.num_frames,
            "size": self.size,
            "protocol": self.protocol,
            "metric": name,
            "score": headline and headline.value,
            "ci95_low": headline and headline.low,
            "ci95_high": headline and headline.high,
            "rank": self.rank and self.rank.rank,
            "rank_low": self.rank and self.rank.low,
            "rank_high": self.rank and self.rank.high,
            "date": self.date,
            "best": headline and headline.best,
            "unit": headline and headline.unit,
            "asked": self.asked,
            **robustness_row(self.robustness),
            "seeds": self.seeds,
            "spread_over_seeds": headline and headline.spread,
            "accuracy": plain and plain.value,
            "chance": self.chance,
            "questions": self.questions,
            "answered": self.answered,
            "failed": self.failed,
            "not_asked": self.asked_for - self.answered - self.failed,
            "coverage": self.answered / self.asked_for if self.questions else None,
            "unparsed": self.unparsed,
            "unparsed_right": self.unparsed_right,
            "cut_off": self.cut_off,
            "read_otherwise": self.read_otherwise,
            "drawn": self.drawn,
            "judge": self.judge,
            "not_judged": self.unjudged,
            "videos": self.videos,
            **self.costs.row(),
            "price_per_question": self.costs.price_per_question,
            "price_per_correct": self.price_per_correct,
            "served_by": "; ".join(self.served_by),
            **self.provenance.row(),
            "peak_memory_bytes": self.peak_bytes,
            "peak_memory_kind": self.peak_kind,
            "hardware": self.hardware,
            "reported": bool(self.source),
            "source": self.source,
        }


def results_of(scored: Scored) -> tuple[Sequence[Result], Scored]:
    """A result for each run, and what they are of: runs whose measures fail are left out of both, with a warning.

    Raises UserError where all of them are.
    """
    results, shown = [], Scored(left_out=list(scored.left_out))
    for run in scored.runs:
        try:
            results.append(result_of(run))
        except Exception as error:  # a task's measures and its scores of guesses may be somebody's own
            shown.leave_out(f"{run.folder}, {run.task_name}, {run.model}: its measures fail", error)
        else:
            shown.runs.append(run)
    shown.warn(already=len(scored.left_out))
    return results, shown


def expected_guesses(results: Sequence[Result]) -> dict[str, float]:
    """What guessing reaches in expectation, by title, from the result that answered most of the benchmark."""
    most: dict[str, Result] = {}
    for result in results:
        if result.chance is not None and (result.title not in most or most[result.title].answered < result.answered):
            most[result.title] = result
    return {title: result.chance for title, result in most.items() if result.chance is not None}


def _read_otherwise(run: ScoredRun) -> int:
    """Responses that the protocol "flexible" scores otherwise than the run's; 0 where the task does not have it."""
    if "flexible" not in run.task.protocols or run.protocol == "flexible":
        return 0
    return sum(
        run.task.score(each.question, each.response, "flexible").values != each.score.values for each in run.scored
    )


def result_of(run: ScoredRun) -> Result:
    answered = run.answered
    sampling = run.fingerprint["sampling"]
    reads = run.identity.get("reads_video", True)
    own_frames = reads and bool(run.identity.get("samples_itself"))
    counts, environments = run.info["counts"][run.task_name], run.info["environments"]
    used = sorted({record.environment for record in run.records})
    last = environments[used[-1]] if used else {"hardware": {}}
    undrawn = Counter(
        verdict_of(run.task.measures, record.values)
        for record in run.scored
        if not record.score.parsed and not record.score.drawn
    )
    peaks = [record.peak_bytes for record in answered if record.peak_bytes is not None]
    return Result(
        run=run.folder.name,
        model=run.model,
        task=run.task_name,
        title=run.title,
        protocol=run.protocol,
        num_frames=_OWN_FRAMES if own_frames else frames_of(sampling) if reads else None,
        size=_size(sampling) if reads and not own_frames else "",
        reads_video=reads,
        summary=run.summary,
        chance=run.chance(),
        date=str(run.info.get("begun", ""))[:10],
        sample=str(counts.get("sample", "")),
        questions=counts["questions"],
        seeds=counts.get("seeds", 1),
        trials=counts.get("trials", counts["questions"]),
        asked=asked_otherwise(run.fingerprint),
        robustness=robustness_of(run.scored, next(iter(run.task.measures.values()))),
        answered=len(answered),
        failed=len(run.records) - len(answered),
        unparsed=sum(not record.score.parsed for record in run.scored),
        unparsed_right=undrawn["right"],
        unparsed_wrong=undrawn["wrong"],
        cut_off=sum(record.finish_reason == "length" for record in answered),
        read_otherwise=_read_otherwise(run),
        drawn=sum(record.score.drawn for record in run.scored),
        videos=counts["videos"],
        costs=costs_of(answered, reads_video=reads, select_s=sampling.get("seconds_per_question")),
        selected=reads and sampling["strategy"] == "given",
        peak_bytes=max(peaks, default=None),
        peak_kind=(answered[0].peak_kind or "") if answered else "",
        hardware=""
        if run.identity.get("served")
        else _hardware(last["hardware"]),  # the server's is not seen from here
        random_weights=run.identity.get("weights") == "random",
        trained_on=str(run.identity.get("trained_on") or ""),
        failures=unique(record.error for record in run.records if record.error is not None),
        environments=max(1, len(used)),
        judge=str(run.judgements.judge or ""),
        unjudged=run.num_unjudged,
        batched=sum(record.batch is not None for record in answered),
        correct=fmean(right)
        if (right := [each.values["correct"] for each in run.scored if "correct" in each.values])
        else None,
        served_by=sorted({record.served_by for record in answered if record.served_by}),
        unjudged_why=run.judgements.explain(run.num_unjudged, run.folder),
        provenance=provenance_of(run),
    )


def frames_of(sampling: Mapping[str, Any]) -> int | str | None:
    """The number of frames in a fingerprint's ``sampling``, and who chose them where each question has its own."""
    if sampling.get("strategy") == "given":
        number = sampling["num_frames"]
        return f"{sampling['selector']}'s {number}" if "selector" in sampling else f"{number} given"
    return sampling.get("num_frames", sampling.get("strategy"))


def _size(sampling: dict[str, Any]) -> str:
    """The rule for the frames' size, in pixels."""
    if sampling.get("longest_edge") is None:
        bounds = {"min_pixels": "{:,} pixels at least", "max_pixels": "{:,} pixels at most"}
        bounds |= {"total_pixels": "{:,} of all frames", "edge_multiple": "edges in steps of {}"}
        said = [text.format(sampling[name]) for name, text in bounds.items() if name in sampling]
        return ", ".join(said) or "as they are"
    return f"edges {sampling['shortest_edge']} to {sampling['longest_edge']}"


def _hardware(hardware: dict[str, Any]) -> str:
    gpus = hardware.get("gpus")
    return f"{len(gpus)} x {gpus[0]}" if gpus else str(hardware.get("cpu", ""))

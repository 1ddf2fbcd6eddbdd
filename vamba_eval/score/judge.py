"""Responses in free text, graded by a language model behind an OpenAI-compatible endpoint.

A judgement is written as soon as it is known, and every answer of the endpoint is kept in a cache on disk: grading a
second time asks nothing that was asked before. Knows judged tasks through their contract alone.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vamba_eval.contracts import Task, UserError
from vamba_eval.endpoint import Endpoint, EndpointError, Usage
from vamba_eval.files import locked, user_cache
from vamba_eval.progress import Display
from vamba_eval.reasoning import final_text
from vamba_eval.score.scored import Scored, task_of_run
from vamba_eval.store.judgements import Judge, digest, judged_path, read_judgements
from vamba_eval.store.records import Record
from vamba_eval.store.runs import RecordFile, find_runs, latest_records, read_info

log = logging.getLogger(__name__)

# After so many failures of the endpoint in a row, and none that went well between them, it is given up.
_FAILURES_IN_A_ROW = 10


def judge_endpoint(
    model: str,
    url: str | None = None,
    *,
    key_env: str = "OPENAI_API_KEY",
    cache: str | Path | None = None,
    timeout_s: float = 120.0,
    max_retries: int = 8,
) -> Endpoint:
    """The endpoint of a judge, as ``run_eval.py judge`` names it. Its answers are kept in ``cache``, by default in the
    user's cache directory."""
    return Endpoint(
        model,
        url,
        cache=cache or user_cache() / "judge",
        key_env=key_env,
        role="the judge",
        option="--judge-{}",
        timeout_s=timeout_s,
        max_retries=max_retries,
    )


class Asking:
    """``Ask`` for one judgement.

    A request that repeats an earlier one of this judgement is another attempt and is answered anew; the attempts
    are numbered, so that grading again finds them all in the cache.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.usage = Usage()
        self._endpoint = endpoint
        self._attempts: Counter[str] = Counter()
        self._keys_of_last: list[str] = []

    def __call__(self, messages: Sequence[Mapping[str, str]], **options: Any) -> str:
        request = self._endpoint.key(messages, options, 0)
        key = self._endpoint.key(messages, options, self._attempts[request])
        self._keys_of_last = [*(self._keys_of_last if self._attempts[request] else []), key]
        self._attempts[request] += 1
        reply = self._endpoint.reply(key, messages, options)
        self.usage.add(reply.usage)
        if reply.problem:
            raise ValueError(reply.problem)
        return _without_reasoning(reply.text)

    def forget_last(self) -> None:
        """Drop what the last request was answered, in all its attempts: the next judgement asks it anew."""
        self._endpoint.forget(self._keys_of_last)


@dataclass
class Graded:
    """What ``grade_runs`` did: ``folders`` with responses for a judge, and how many of these went which way.

    ``left_out`` has a line for each task whose responses could not be looked at.
    """

    folders: list[Path] = field(default_factory=list)
    already: int = 0
    judged: int = 0
    failed: int = 0
    reasons: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    left_out: list[str] = field(default_factory=list)

    def describe(self, prices: tuple[float, float] | None = None) -> str:
        """What was done and what it took, in a line; ``prices`` are dollars for a million tokens, in and out."""
        text = f"{self.judged:,} responses judged, {self.already:,} had been judged before, {self.failed:,} failed"
        if self.reasons:
            text += f" (first reason: {self.reasons[0]}; the same command tries them again)"
        u = self.usage
        text += f". {u.requests:,} requests: {u.prompt_tokens:,} tokens in, {u.completion_tokens:,} out"
        if prices is not None:
            text += f", ${u.cost(*prices):,.4f}"
        if u.cached_requests:
            text += f"; from the cache {u.cached_requests:,}: "
            text += f"{u.cached_prompt_tokens:,} in, {u.cached_completion_tokens:,} out"
        return text


def grade_runs(paths: Sequence[Path], endpoint: Endpoint, *, requests: int = 8, progress: bool = True) -> Graded:
    """Have every response of a judged task in the runs at or below ``paths`` judged, with so many requests at a time.

    Each judgement is written as soon as it is known. Responses that ``endpoint`` judged before are passed over, those
    that failed are tried again. A task that cannot be imported, or that fails to say what a judge grades, is left out,
    with a warning. Raises UserError where there is nothing to judge, and where the endpoint is of no use; what is
    judged by then is kept.
    """
    graded = Graded()
    unusable = Scored()
    files = [
        (folder, task, path) for folder in find_runs(list(paths)) for task, path in _judged_files(folder, unusable)
    ]
    graded.left_out = unusable.left_out
    if not files:
        reasons = graded.left_out or ["the runs there hold no responses in free text, so there is nothing to judge"]
        raise UserError("\n".join(reasons))
    for line in graded.left_out:
        log.warning("left out: %s", line)
    for folder in dict.fromkeys(folder for folder, _, _ in files):
        graded.folders.append(folder)
        with locked(folder / ".judge.lock", f"another process is judging {folder}: wait for it"):
            for _, task, path in (entry for entry in files if entry[0] == folder):
                _grade_file(task, path, endpoint, requests, progress, graded)
    return graded


def _judged_files(folder: Path, unusable: Scored) -> Iterator[tuple[Task, Path]]:
    """The files of the run that hold a response for a judge; what cannot be looked at is noted in ``unusable``."""
    try:
        info = read_info(folder)
    except UserError as error:  # it names the folder
        unusable.leave_out("", error)
        return
    for name, fingerprint in info["tasks"].items():
        try:
            task = task_of_run(fingerprint["source"], name, folder)
        except Exception as error:  # the module may be somebody's own
            unusable.leave_out(f"{folder}, {name}", error)
            continue
        for model in info["models"]:
            path = folder / f"{name}.{model}.jsonl"
            try:
                judged = path.exists() and bool(_for_judge(task, path))
            except Exception as error:  # the task's own, as above
                unusable.leave_out(f"{folder}, {name}, {model}: it cannot be said what a judge grades", error)
                continue
            if judged and type(task).judge is Task.judge:
                unusable.leave_out(f"{folder}, {name}, {model}", UserError(f"{task.name} has no method judge"))
            elif judged:
                yield task, path


def _for_judge(task: Task, path: Path) -> list[Record]:
    return [record for record in latest_records(path) if record.answered and task.needs_judge(record.asked())]


def _grade_file(task: Task, path: Path, endpoint: Endpoint, requests: int, progress: bool, graded: Graded) -> None:
    judge = Judge(endpoint.model, endpoint.url)
    known = read_judgements(path, f"{judge.model}@{judge.url}")
    answered = _for_judge(task, path)
    todo = [record for record in answered if known.of(task, record) is None]
    graded.already += len(answered) - len(todo)
    in_a_row = 0
    pool = ThreadPoolExecutor(max_workers=requests)
    description = f"{path.name.removesuffix('.jsonl')} · {judge.model}"
    with (
        Display(enabled=progress) as display,
        display.bar(description, len(answered), done=len(answered) - len(todo)) as bar,
        closing(RecordFile(judged_path(path))) as lines,
    ):
        futures: list[Future[tuple[dict[str, Any], bool]]] = []
        written = set()
        try:
            futures.extend(pool.submit(_judge_one, task, record, endpoint) for record in todo)
            for future in as_completed(futures):
                line, unavailable = future.result()
                lines.append(line)
                written.add(future)
                graded.usage.add(Usage(**line["usage"]))
                if line["error"] is None:
                    graded.judged += 1
                else:
                    graded.failed += 1
                    graded.reasons.append(line["error"])
                in_a_row = in_a_row + 1 if unavailable else 0
                if in_a_row >= _FAILURES_IN_A_ROW:
                    raise UserError(
                        f"{judge} failed {in_a_row} times in a row, the last time with: {line['error']}. What is "
                        "judged is kept; the same command goes on from there"
                    )
                bar.advance(note=f"{graded.failed:,} failed" if graded.failed else "")
        except BaseException:
            endpoint.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            for future in futures:  # judged meanwhile
                if future not in written and not future.cancelled() and future.exception() is None:
                    line, _ = future.result()
                    if line["error"] is None:
                        lines.append(line)
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _without_reasoning(text: str) -> str:
    """What is graded, and what a grade is read from, is an answer, never the thoughts before it. A text without any
    is as it was, so that the judge sees what the source's authors show theirs."""
    final = final_text(text)
    return text if final == text.strip() else final


def _judge_one(task: Task, record: Record, endpoint: Endpoint) -> tuple[dict[str, Any], bool]:
    """The line for one response, and whether the endpoint failed. Raises only UserError: what concerns them all."""
    ask = Asking(endpoint)
    judgement: dict[str, Any] | None = None
    error, unavailable = None, False
    try:
        judgement = json.loads(json.dumps(task.judge(record.asked(), _without_reasoning(record.response or ""), ask)))
    except UserError:
        raise
    except EndpointError as failure:
        error, unavailable = f"the judge gave no answer: {failure}", True
    except Exception as failure:
        ask.forget_last()
        error = str(failure) if isinstance(failure, ValueError) else f"{type(failure).__name__}: {failure}"
    line = {
        "question": record.question,
        **record.trial._asdict(),
        "digest": digest(task, record),
        "judge": {"model": endpoint.model, "url": endpoint.url},
        "judgement": judgement,
        "error": error,
        "usage": asdict(ask.usage),
    }
    return line, unavailable

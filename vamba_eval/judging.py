"""Responses in free text, graded by a language model behind an OpenAI-compatible endpoint.

A judgement is written as soon as it is known, and every answer of the endpoint is kept in a cache on disk: grading a
second time asks nothing that was asked before. Knows judged tasks through their contract alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vamba_eval.contracts import JudgedTask, UserError
from vamba_eval.judgements import Judge, digest, judged_path, read_judgements
from vamba_eval.scored import recorded_task, stored_question
from vamba_eval.store import RecordFile, find_runs, latest_responses, read_info

# After so many failures of the endpoint in a row, and none that went well between them, it is given up.
_FAILURES_IN_A_ROW = 10


@dataclass
class Usage:
    """Requests and their tokens; what the cache answered is told apart, and costs nothing."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_requests: int = 0
    cached_prompt_tokens: int = 0
    cached_completion_tokens: int = 0

    def add(self, other: Usage) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def cost(self, dollars_in: float, dollars_out: float) -> float:
        """Dollars, at prices for a million tokens."""
        return (self.prompt_tokens * dollars_in + self.completion_tokens * dollars_out) / 1e6


# ---------------------------------------------------------------------------------------------- the endpoint


class EndpointError(Exception):
    """The endpoint gave no answer. Costs one judgement, unless it goes on."""


@dataclass(frozen=True)
class _Reply:
    text: str
    problem: str
    prompt_tokens: int
    completion_tokens: int
    cached: bool = False


class Endpoint:
    """A chat model that is asked over HTTP, with its cache; a context manager, used by many threads.

    model      its name at the endpoint
    url        base URL (default: the client library's, OPENAI_BASE_URL or OpenAI's own)
    key_env    the environment variable that holds the key; an endpoint other than OpenAI's may need none
    cache      directory of the answers (default: in the user's cache directory)

    The client library waits and tries again where the endpoint is busy (429, with its Retry-After), out of order
    (5xx) or out of reach. Raises UserError for what no retrying mends: the key, the model's name, the account.
    """

    def __init__(
        self,
        model: str,
        url: str | None = None,
        *,
        key_env: str = "OPENAI_API_KEY",
        cache: str | Path | None = None,
        timeout_s: float = 120.0,
        max_retries: int = 8,
    ) -> None:
        import diskcache

        try:
            import openai
        except ImportError:
            raise UserError("asking a judge needs the library openai: pip install 'vamba-eval[judge]'") from None
        self._openai = openai
        url = url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"the judge's URL {url!r} should look like https://HOST/v1")
        host = parts.hostname + (f":{parts.port}" if parts.port else "")
        self.judge = Judge(model, f"{parts.scheme}://{host}{parts.path.rstrip('/')}")
        self._key_env, key = key_env, os.environ.get(key_env)
        if not key and parts.hostname == "api.openai.com":
            raise UserError(f"the judge needs a key: set {key_env}, or name another variable with --judge-key-env")
        self._client = openai.OpenAI(base_url=url, api_key=key or "none", timeout=timeout_s, max_retries=max_retries)
        cache = Path(cache).expanduser() if cache else _user_cache() / "judge"
        try:
            # Nothing is thrown out: these answers cost money, and take a few KB each.
            self._cache = diskcache.Cache(str(cache), eviction_policy="none", cull_limit=0)
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            raise UserError(
                f"the judge's cache {cache} cannot be used ({error}): give another --judge-cache"
            ) from error
        self._stopped = threading.Event()
        self._hopeless: UserError | None = None  # what any other request would meet as well

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._cache.close()

    def stop(self) -> None:
        """Send no further request; those that are out are waited for by their threads."""
        self._stopped.set()

    def key(self, messages: Sequence[Mapping[str, str]], options: Mapping[str, Any], attempt: int) -> str:
        asked = [self.judge.model, self.judge.url, [dict(message) for message in messages], options, attempt]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def reply(self, key: str, messages: Sequence[Mapping[str, str]], options: Mapping[str, Any]) -> _Reply:
        """The answer kept under ``key``, or a new one, which is kept."""
        if (known := self._cache.get(key)) is not None:
            return _Reply(**json.loads(known), cached=True)
        if self._hopeless is not None:
            raise self._hopeless
        if self._stopped.is_set():
            raise EndpointError("stopped")
        try:
            reply = self._ask([{name: _valid(text) for name, text in message.items()} for message in messages], options)
        except UserError as error:
            self._hopeless = error
            raise
        kept = asdict(reply)
        del kept["cached"]
        self._cache.set(key, json.dumps(kept))
        return reply

    def forget(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._cache.delete(key)

    def _ask(self, messages: Any, options: Mapping[str, Any]) -> _Reply:
        openai = self._openai
        try:
            completion: Any = self._client.chat.completions.create(model=self.judge.model, messages=messages, **options)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise UserError(
                f"{self.judge} does not accept the key in {self._key_env} ({_reason(error)}): set another, or name its "
                "variable with --judge-key-env"
            ) from error
        except openai.NotFoundError as error:
            raise UserError(
                f"{self.judge} is not there ({_reason(error)}): check --judge-model and --judge-url (which mostly ends "
                "in /v1)"
            ) from error
        except openai.RateLimitError as error:
            if error.code == "insufficient_quota":
                raise UserError(f"{self.judge}: the account's quota is used up ({_reason(error)})") from error
            raise EndpointError(_reason(error)) from error
        except (openai.OpenAIError, ValueError) as error:  # a ValueError: what came was not JSON
            raise EndpointError(_reason(error)) from error
        try:
            choice, usage = completion.choices[0], completion.usage
            text, refusal, finish = choice.message.content or "", choice.message.refusal, choice.finish_reason
        except (AttributeError, IndexError, TypeError):
            raise EndpointError(f"what came is no chat completion: {str(completion)[:200]}") from None
        spent = (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else (0, 0)
        if refusal:
            problem = f"the judge refused: {refusal}"
        elif finish == "length":
            problem = f"the judge's answer was cut off after {spent[1]:,} tokens"
        elif finish == "content_filter":
            problem = "the judge's answer was withheld by a content filter"
        else:
            problem = "" if text.strip() else "the judge's answer is empty"
        return _Reply(text, problem, *spent)


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
        kind = "cached_" if reply.cached else ""
        for name, value in (
            ("requests", 1),
            ("prompt_tokens", reply.prompt_tokens),
            ("completion_tokens", reply.completion_tokens),
        ):
            setattr(self.usage, kind + name, getattr(self.usage, kind + name) + value)
        if reply.problem:
            raise ValueError(reply.problem)
        return reply.text

    def forget_last(self) -> None:
        """Drop what the last request was answered, in all its attempts: the next judgement asks it anew."""
        self._endpoint.forget(self._keys_of_last)


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vamba-eval"


def _valid(text: str) -> str:
    """``text`` without halves of surrogate pairs, which a response may hold and no request can."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


# --------------------------------------------------------------------------------------------------- grading


@dataclass
class Graded:
    """What ``grade_runs`` did: ``folders`` with responses for a judge, and how many of these went which way."""

    folders: list[Path] = field(default_factory=list)
    already: int = 0
    judged: int = 0
    failed: int = 0
    reasons: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)

    def describe(self, prices: tuple[float, float] | None = None) -> str:
        """What was done and what it took, in a line; ``prices`` are dollars for a million tokens, in and out."""
        text = f"{self.judged:,} responses judged, {self.already:,} were before, {self.failed:,} failed"
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
    that failed are tried again. Raises UserError where there is nothing to judge, and where the endpoint is of no
    use; what is judged by then is kept.
    """
    graded = Graded()
    files = [(folder, task, path) for folder in find_runs(list(paths)) for task, path in _judged_files(folder)]
    if not files:
        raise UserError("the runs there hold no responses in free text, so there is nothing to judge")
    for folder in dict.fromkeys(folder for folder, _, _ in files):
        graded.folders.append(folder)
        with _alone(folder):
            for _, task, path in (entry for entry in files if entry[0] == folder):
                _grade_file(task, path, endpoint, requests, progress, graded)
    return graded


def _judged_files(folder: Path) -> Iterator[tuple[JudgedTask, Path]]:
    info = read_info(folder)
    for name, fingerprint in info["tasks"].items():
        task = recorded_task(fingerprint["source"], folder)
        if isinstance(task, JudgedTask):
            paths = (folder / f"{name}.{model}.jsonl" for model in info["models"])
            yield from ((task, path) for path in paths if path.exists())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        with FileLock(str(folder / ".judge.lock"), timeout=0):
            yield
    except Timeout:
        raise UserError(f"another process is judging {folder}: wait for it") from None


def _grade_file(
    task: JudgedTask, path: Path, endpoint: Endpoint, requests: int, progress: bool, graded: Graded
) -> None:
    from tqdm import tqdm

    judge = endpoint.judge
    known = read_judgements(path, f"{judge.model}@{judge.url}")
    answered = [record for record in latest_responses(path).values() if record["error"] is None]
    todo = [record for record in answered if known.of(task, record) is None]
    graded.already += len(answered) - len(todo)
    in_a_row = 0
    pool = ThreadPoolExecutor(max_workers=requests)
    bar = tqdm(
        total=len(answered),
        initial=len(answered) - len(todo),
        desc=f"{path.name.removesuffix('.jsonl')} · {judge.model}",
        unit="response",
        disable=not progress,
        dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 10.0,
    )
    with bar, closing(RecordFile(judged_path(path))) as lines:
        futures = [pool.submit(_judge_one, task, record, endpoint) for record in todo]
        try:
            for future in as_completed(futures):
                line, unavailable = future.result()
                lines.append(line)
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
                bar.update()
                bar.set_postfix(failed=graded.failed, refresh=False)
        except BaseException:
            endpoint.stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _judge_one(task: JudgedTask, record: dict[str, Any], endpoint: Endpoint) -> tuple[dict[str, Any], bool]:
    """The line for one response, and whether the endpoint failed. Raises only UserError: what concerns them all."""
    ask = Asking(endpoint)
    judgement: dict[str, Any] | None = None
    error, unavailable = None, False
    try:
        judgement = json.loads(json.dumps(task.judge(stored_question(record), record["response"], ask)))
    except UserError:
        raise
    except EndpointError as failure:
        error, unavailable = f"the judge gave no answer: {failure}", True
    except Exception as failure:
        ask.forget_last()
        error = str(failure) if isinstance(failure, ValueError) else f"{type(failure).__name__}: {failure}"
    line = {
        "question": record["question"],
        "seed": record.get("seed", 0),
        "digest": digest(task, record),
        "judge": asdict(endpoint.judge),
        "judgement": judgement,
        "error": error,
        "usage": asdict(ask.usage),
    }
    return line, unavailable

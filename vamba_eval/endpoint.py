"""A language model behind an OpenAI-compatible endpoint, with a cache of its answers on disk.

Knows nothing of what is asked and why: whoever asks gives the words that messages to the user need.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vamba_eval.completions import completion_in, moved_to, open_client, words_of
from vamba_eval.contracts import UserError
from vamba_eval.machine import how_to_install
from vamba_eval.plain import valid
from vamba_eval.secrets import keep_secret, keep_secrets_of, without_secrets


@dataclass
class Usage:
    """Requests and their tokens; what came from the cache is counted apart, and costs nothing."""

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
        """Dollars, at prices per million tokens."""
        return (self.prompt_tokens * dollars_in + self.completion_tokens * dollars_out) / 1e6


class EndpointError(Exception):
    """The endpoint gave no answer to one request; it may to the next."""


@dataclass(frozen=True)
class Reply:
    """An answer. ``problem`` says why its text is of no use, "" where it may be; ``cached`` if it was there already."""

    text: str
    problem: str
    prompt_tokens: int
    completion_tokens: int
    cached: bool = False

    @property
    def usage(self) -> Usage:
        spent = (1, self.prompt_tokens, self.completion_tokens)
        return Usage(0, 0, 0, *spent) if self.cached else Usage(*spent)


class Endpoint:
    """A chat model that is asked over HTTP, with its cache; a context manager, used by many threads.

    model      its name at the endpoint
    url        base URL (default: the client library's, OPENAI_BASE_URL or OpenAI's own); afterwards without credentials
    cache      directory of the answers
    key_env    the environment variable that holds the key; an endpoint other than OpenAI's may need none
    role       what messages call the model
    option     how the user gives its "model", "url", "key-env" and "cache": a form for these, such as "--{}"

    timeout_s  for a whole response

    The client library waits and tries again where the endpoint is busy (429, with its Retry-After), failing (5xx),
    late or unreachable. Raises UserError for what a retry cannot change: the key, the model's name, the account.
    Requests run in an event loop of their own, so that those that are out can be given up at any time.
    """

    def __init__(
        self,
        model: str,
        url: str | None = None,
        *,
        cache: str | Path,
        key_env: str = "OPENAI_API_KEY",
        role: str = "the model",
        option: str = "{}",
        timeout_s: float = 120.0,
        max_retries: int = 8,
    ) -> None:
        import diskcache

        try:
            import openai
        except ImportError:
            raise UserError(f"asking {role} needs a library: {how_to_install('openai')}") from None
        self._openai = openai
        self._role, self._option = role, option.format
        url = url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        self.model, self.url = model, shown_url(url, role)
        self._key_env, key = key_env, os.environ.get(key_env)
        keep_secret(key)
        keep_secrets_of(url)
        if not key and needs_key(url):
            raise UserError(
                f"{role} needs a key: set {key_env}, or name another variable with {self._option('key-env')}"
            )
        self._base_url, self._key = url, key or "none"
        self._timeout_s, self._max_retries = timeout_s, max_retries
        cache = Path(cache).expanduser()
        try:
            # Nothing is thrown out: these answers cost money, and take a few KB each, so that all fit into rows.
            self._cache = diskcache.Cache(
                str(cache), disk=_texts(), disk_min_file_size=2**30, eviction_policy="none", cull_limit=0
            )
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            raise UserError(
                f"{role}'s cache {cache} cannot be used ({error}): give another {self._option('cache')}"
            ) from error
        self._stopped = threading.Event()
        self._answered = False
        self._hopeless: UserError | None = None  # what any other request would meet as well

    def __enter__(self) -> Endpoint:
        from anyio.from_thread import start_blocking_portal

        with ExitStack() as stack:
            stack.callback(self._cache.close)
            self._portal = stack.enter_context(start_blocking_portal())
            self._client = open_client(self._base_url, self._key, timeout_s=self._timeout_s, retries=self._max_retries)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError):  # stopped before
            self._portal.call(self._client.close)
        self._open.close()

    def __str__(self) -> str:
        return f"{self.model} at {self.url}"

    def stop(self) -> None:
        """Send no further request, and give up those that are out: who waits for one meets an EndpointError at once."""
        self._stopped.set()
        with suppress(RuntimeError):  # stopped before
            self._portal.call(self._portal.stop, True)

    def key(self, messages: Sequence[Mapping[str, str]], options: Mapping[str, Any], attempt: int) -> str:
        """What the cache calls the answer to a request; each attempt at the same request has its own."""
        asked = [self.model, self.url, [dict(message) for message in messages], options, attempt]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def reply(self, key: str, messages: Sequence[Mapping[str, str]], options: Mapping[str, Any]) -> Reply:
        """The answer kept under ``key``, or a new one, which is kept. Raises EndpointError and UserError."""
        if (known := _kept(self._cache.get(key))) is not None:
            return known
        if self._hopeless is not None:
            raise self._hopeless
        if self._stopped.is_set():
            raise EndpointError("stopped")
        try:
            reply = self._ask([{name: valid(text) for name, text in message.items()} for message in messages], options)
        except UserError as error:
            self._hopeless = error
            raise
        kept = asdict(reply)
        del kept["cached"]
        self._cache.set(key, json.dumps(kept))
        return reply

    def forget(self, keys: Iterable[str]) -> None:
        """Keep these answers no longer."""
        for key in keys:
            self._cache.delete(key)

    def _ask(self, messages: Any, options: Mapping[str, Any]) -> Reply:
        try:
            content = self._portal.start_task_soon(self._post, messages, options).result()
        except (CancelledError, RuntimeError):
            if not self._stopped.is_set():
                raise
            raise EndpointError("stopped") from None
        except Exception as error:
            raise self._failure_of(error) from error
        try:
            found = completion_in(content)
        except ValueError as error:
            raise EndpointError(without_secrets(str(error))) from None
        self._answered = True
        if found.refusal:
            problem = f"{self._role} refused: {found.refusal}"
        elif found.finish_reason == "length":
            problem = f"{self._role}'s answer was cut off after {found.completion_tokens:,} tokens"
        elif found.finish_reason == "content_filter":
            problem = f"{self._role}'s answer was withheld by a content filter"
        else:
            problem = "" if found.text.strip() else f"{self._role}'s answer is empty"
        spent = found.prompt_tokens, found.completion_tokens
        return Reply(without_secrets(found.text), without_secrets(problem), *spent)

    async def _post(self, messages: Any, options: Mapping[str, Any]) -> bytes:
        """The body of the response. Raises the client library's errors."""
        create = self._client.chat.completions.with_raw_response.create
        response = await create(model=self.model, messages=messages, **options)
        return bytes(response.content)

    def _failure_of(self, error: Exception) -> UserError | EndpointError:
        """What an error of the client library means: a UserError where any other request would meet the same."""
        openai, said = self._openai, words_of(error)[:300]
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return UserError(
                f"{self} does not accept the key in {self._key_env} ({said}): set another, or name its variable with "
                f"{self._option('key-env')}"
            )
        if isinstance(error, openai.NotFoundError):
            return UserError(
                f"{self} cannot be found ({said}): check {self._option('model')} and {self._option('url')} (which "
                "usually ends in /v1)"
            )
        if isinstance(error, openai.RateLimitError) and error.code == "insufficient_quota":
            return UserError(f"{self}: the account's quota is used up ({said})")
        if (target := moved_to(error)) is not None:
            moved = f"sends requests on to {target}, where nothing is sent, the key least of all"
            if not self._answered:
                return UserError(f"{self} {moved}: if that is its place, give it as {self._option('url')}")
            return EndpointError(f"it {moved}")
        if isinstance(error, openai.APITimeoutError):
            tried = f", tried {self._max_retries + 1} times" if self._max_retries else ""
            return EndpointError(f"no whole response in {self._timeout_s:g} s{tried} ({self._option('timeout')})")
        return EndpointError(said)


def _texts() -> Any:
    """How the cache stores: nothing but text in its own rows. Whoever else can write to it could have diskcache's way
    run code (it unpickles what a row says it should), or read and remove files of any name."""
    import diskcache

    class Texts(diskcache.Disk):  # type: ignore[misc]
        def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> str | None:
            return value if filename is None and isinstance(value, str) else None

        def remove(self, file_path: str) -> None:
            pass

    return Texts


def _kept(text: Any) -> Reply | None:
    """The reply in a row of the cache; None if there is none, or it is not one of ours."""
    try:
        reply = Reply(**json.loads(text or ""), cached=True)
    except (ValueError, TypeError, RecursionError):
        return None
    counts = reply.prompt_tokens, reply.completion_tokens
    texts = reply.text, reply.problem
    ours = all(isinstance(each, str) for each in texts) and all(isinstance(each, int) for each in counts)
    return reply if ours else None


def shown_url(url: str, role: str) -> str:
    """A base URL without its credentials and its query, which no file and no message may hold.

    Raises UserError, with the words for whose it is, where it is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UserError(f"{role}'s URL should look like https://HOST/v1; its host or port cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        given = "" if "@" in url or "?" in url else f" {url!r}"
        raise UserError(f"{role}'s URL{given} should look like https://HOST/v1")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def needs_key(url: str) -> bool:
    """Whether nobody is answered there without one."""
    return urlsplit(url).hostname == "api.openai.com"

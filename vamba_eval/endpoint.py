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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vamba_eval.contracts import UserError
from vamba_eval.plain import valid
from vamba_eval.secrets import keep_secret, without_secrets


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

    The client library waits and tries again where the endpoint is busy (429, with its Retry-After), failing (5xx) or
    unreachable. Raises UserError for what a retry cannot change: the key, the model's name, the account.
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
            raise UserError(f"asking {role} needs a library: pip install openai") from None
        self._openai = openai
        self._role, self._option = role, option.format
        url = url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        self.model, self.url = model, shown_url(url, role)
        self._key_env, key = key_env, os.environ.get(key_env)
        keep_secret(key)
        keep_secret(urlsplit(url).password)
        if not key and needs_key(url):
            raise UserError(
                f"{role} needs a key: set {key_env}, or name another variable with {self._option('key-env')}"
            )
        self._client = openai.OpenAI(base_url=url, api_key=key or "none", timeout=timeout_s, max_retries=max_retries)
        cache = Path(cache).expanduser()
        try:
            # Nothing is thrown out: these answers cost money, and take a few KB each.
            self._cache = diskcache.Cache(str(cache), eviction_policy="none", cull_limit=0)
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            raise UserError(
                f"{role}'s cache {cache} cannot be used ({error}): give another {self._option('cache')}"
            ) from error
        self._stopped = threading.Event()
        self._hopeless: UserError | None = None  # what any other request would meet as well

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._cache.close()

    def __str__(self) -> str:
        return f"{self.model} at {self.url}"

    def stop(self) -> None:
        """Send no further request; those that are out are waited for by their threads."""
        self._stopped.set()

    def key(self, messages: Sequence[Mapping[str, str]], options: Mapping[str, Any], attempt: int) -> str:
        """What the cache calls the answer to a request; each attempt at the same request has its own."""
        asked = [self.model, self.url, [dict(message) for message in messages], options, attempt]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def reply(self, key: str, messages: Sequence[Mapping[str, str]], options: Mapping[str, Any]) -> Reply:
        """The answer kept under ``key``, or a new one, which is kept. Raises EndpointError and UserError."""
        if (known := self._cache.get(key)) is not None:
            return Reply(**json.loads(known), cached=True)
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
        openai = self._openai
        try:
            completion: Any = self._client.chat.completions.create(model=self.model, messages=messages, **options)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise UserError(
                f"{self} does not accept the key in {self._key_env} ({_in_a_line(error)}): set another, or name its "
                f"variable with {self._option('key-env')}"
            ) from error
        except openai.NotFoundError as error:
            raise UserError(
                f"{self} cannot be found ({_in_a_line(error)}): check {self._option('model')} and "
                f"{self._option('url')} (which usually ends in /v1)"
            ) from error
        except openai.RateLimitError as error:
            if error.code == "insufficient_quota":
                raise UserError(f"{self}: the account's quota is used up ({_in_a_line(error)})") from error
            raise EndpointError(_in_a_line(error)) from error
        except (openai.OpenAIError, ValueError) as error:  # a ValueError: what came was not JSON
            raise EndpointError(_in_a_line(error)) from error
        try:
            choice, usage = completion.choices[0], completion.usage
            text, refusal, finish = choice.message.content or "", choice.message.refusal, choice.finish_reason
        except (AttributeError, IndexError, TypeError):
            raise EndpointError(
                f"the response is not a chat completion: {without_secrets(str(completion))[:200]}"
            ) from None
        spent = (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else (0, 0)
        if refusal:
            problem = f"{self._role} refused: {refusal}"
        elif finish == "length":
            problem = f"{self._role}'s answer was cut off after {spent[1]:,} tokens"
        elif finish == "content_filter":
            problem = f"{self._role}'s answer was withheld by a content filter"
        else:
            problem = "" if text.strip() else f"{self._role}'s answer is empty"
        return Reply(without_secrets(text), without_secrets(problem), *spent)


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


def _in_a_line(error: Exception) -> str:
    """All of its text: an endpoint's own words may come in any line."""
    return without_secrets(" ".join(str(error).split()))[:300] or type(error).__name__

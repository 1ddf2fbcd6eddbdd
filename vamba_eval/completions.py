"""Asking any OpenAI-compatible endpoint: a client whose responses are bounded, and a completion read from one.

An endpoint may be anybody's and may misbehave in any way. A response is waited for so long and no longer, is so large
and no larger, leads nowhere else, and counts for a chat completion only if every field that is used is what it should
be. Knows nothing of what is asked.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any

from vamba_eval.secrets import without_secrets

_MOST_BYTES = 8 * 2**20  # of a response: several times the longest answer that is kept, with its thinking
_MOST_TOKENS = 10**9  # of a request: more is no count
# What the client library reads of a response's headers; all others are dropped, since they are of any kind.
_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry", "location")


def open_client(base_url: str, key: str, *, timeout_s: float, retries: int, **more: Any) -> Any:
    """The client library's asynchronous client, for one event loop.

    A try ends after ``timeout_s`` unless the whole response is there by then, silent or not. Redirects are not
    followed: they would take what is sent, and the key, elsewhere. Proxies of the environment are used as ever. Raises
    ImportError without the library.
    """
    import openai

    # The library has changed from httpx to httpx2; whichever it is, errors and responses are to be of its kind.
    base = next(kind for kind in openai.DefaultAsyncHttpxClient.__mro__ if kind.__name__ == "AsyncClient")
    httpx = sys.modules[base.__module__.partition(".")[0]]

    class Bounded(openai.DefaultAsyncHttpxClient):
        async def send(self, request: Any, **options: Any) -> Any:
            import anyio

            start = monotonic()
            try:
                with anyio.fail_after(timeout_s):
                    response = await super().send(request, **{**options, "stream": True})
                    try:
                        body = await _body_of(response)
                    finally:
                        await response.aclose()
            except TimeoutError:
                raise httpx.ReadTimeout("the whole response did not come in time", request=request) from None
            headers = {name: response.headers[name] for name in _HEADERS if name in response.headers}
            bounded = httpx.Response(response.status_code, headers=headers, content=body, request=request)
            bounded.elapsed = timedelta(seconds=monotonic() - start)
            return bounded

    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=key,
        max_retries=retries,
        timeout=timeout_s,
        # Nothing is asked for in a packed form, which may unpack to any size.
        http_client=Bounded(follow_redirects=False, timeout=timeout_s, headers={"Accept-Encoding": "identity"}),
        **more,
    )


async def _body_of(response: Any) -> bytes:
    import openai

    packed = response.headers.get("content-encoding", "identity")
    if packed.strip().lower() not in ("identity", ""):
        raise openai.OpenAIError(f"the response is packed ({shortened(packed)}), which nobody asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise openai.OpenAIError(f"the response is longer than {_MOST_BYTES / 2**20:.0f} MiB")
    return bytes(body)


@dataclass(frozen=True)
class Completion:
    """A chat completion. ``counted`` if it says how many tokens it took, else these are 0; ``total_tokens`` may be more
    than the others together, as some count thoughts nowhere else."""

    text: str
    thinking: str
    refusal: str
    finish_reason: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    total_tokens: int
    counted: bool


def completion_in(content: bytes) -> Completion:
    """The completion in the body of a response. Raises ValueError, saying what there is instead."""
    try:
        found = json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError):
        said = shortened(content[:10_000].decode("utf-8", "replace"))
        raise ValueError(f"the response is not a chat completion: {said!r}") from None
    try:
        return _completion(found)
    except _Odd as odd:
        raise ValueError(f"the response is not a chat completion, {odd}: {shortened(json.dumps(found))}") from None


class _Odd(Exception):
    """In words, what in a response is not as it should be."""


def _completion(found: Any) -> Completion:
    choices = _field(found, "choices", list, "the response")
    if not choices:
        raise _Odd("as it holds no choice")
    message = _field(choices[0], "message", dict, "its choice") or {}
    usage = _field(found, "usage", dict, "the response")
    thinking = message.get("reasoning_content") or message.get("reasoning") or ""
    prompt_tokens, cached_tokens = _tokens(usage, "prompt_tokens"), 0
    if details := _field(usage, "prompt_tokens_details", dict, "its usage"):
        cached_tokens = _tokens(details, "cached_tokens")
    if cached_tokens > prompt_tokens:
        raise _Odd(f"as {cached_tokens:,} of its {prompt_tokens:,} prompt tokens were cached")
    return Completion(
        text=_text_of(message.get("content")),
        thinking=thinking if isinstance(thinking, str) else json.dumps(thinking),
        refusal=_field(message, "refusal", str, "its message") or "",
        finish_reason=_field(choices[0], "finish_reason", str, "its choice") or "",
        model=_field(found, "model", str, "the response") or "",
        prompt_tokens=prompt_tokens,
        completion_tokens=_tokens(usage, "completion_tokens"),
        cached_tokens=cached_tokens,
        total_tokens=_tokens(usage, "total_tokens"),
        counted=bool(usage),
    )


def _field(holder: Any, name: str, kind: type, whose: str) -> Any:
    """What is there, of that kind, or None."""
    if holder is not None and not isinstance(holder, Mapping):
        raise _Odd(f"as {whose} is a {type(holder).__name__}")
    value = None if holder is None else holder.get(name)
    if value is not None and not isinstance(value, kind):
        raise _Odd(f"as its {name} is a {type(value).__name__}")
    return value


def _text_of(content: Any) -> str:
    """Some send the text in parts."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for part in content if isinstance(content, list) else [content]:
        text = part.get("text") or "" if isinstance(part, Mapping) else None
        if not isinstance(text, str) or not isinstance(content, list):
            raise _Odd(f"as its content is a {type(content).__name__} and no text")
        texts.append(text)
    return "".join(texts)


def _tokens(usage: Mapping[str, Any] | None, name: str) -> int:
    number = None if usage is None else usage.get(name)
    if number is None:
        return 0
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if not (is_number and 0 <= number <= _MOST_TOKENS and number == int(number)):
        raise _Odd(f"as its {name} is no count")
    return int(number)


def _no_number(name: str) -> float:
    raise ValueError(name)  # NaN and infinities, which JSON does not have


def words_of(error: Any) -> str:
    """An error of the client library in a line without secrets, with what the endpoint says and what caused it; the
    library knows OpenAI's form of an error alone."""
    text = str(error)
    if getattr(error, "status_code", None) is not None and not getattr(error, "body", None):
        text += f" - {error.response.text}"
    elif getattr(error, "status_code", None) is not None and " - " not in text:
        text += f" - {error.body}"
    elif (cause := error.__cause__) is not None and str(cause):
        text = f"{text.rstrip('.')}: {cause}"
    return " ".join(without_secrets(text).split()) or type(error).__name__


def moved_to(error: Any) -> str | None:
    """Where an endpoint sends a request on to, without credentials; None if the error is no redirect."""
    status = getattr(error, "status_code", None)
    if status is None or not 300 <= status < 400:
        return None
    target = re.sub(r"//[^/@]*@", "//", error.response.headers.get("location", "")).partition("?")[0]
    return shortened(without_secrets(target)) or "another place"


def shortened(text: str) -> str:
    return " ".join(text.split())[:200]

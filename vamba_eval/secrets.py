"""Keys, tokens and passwords, taken out of whatever is written: records, tables, messages, what is sent elsewhere.

Known are the values of environment variables that are called as such, and what ``keep_secret`` is told: endpoints and
judges repeat keys in what they say, as they are, encoded, or over several lines. What is made of a key beyond that (a
part of it, its letters in another order) is not known. Imports nothing of the harness.
"""

from __future__ import annotations

import base64
import functools
import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

T = TypeVar("T")

_HIDDEN = "***"
_VARIABLE = re.compile(r"(.*_)?(API_?KEY|ACCESS_?KEY|SECRET_?KEY|SECRET|TOKEN|PASSWORD|PASSWD|AUTHORIZATION)", re.I)
# Of arguments, fewer tokens: an "image_token" is none's.
_ARGUMENT = re.compile(
    r"(.*_)?(api_?key|access_?key|secret_?key|private_?key|auth_?key|secret|password|passwd|passphrase|credentials?)"
    r"|(.*_)?(authorization|bearer)"
    r"|(openai|anthropic|gemini|google|azure|hf|wandb|subscription|service|client|account)_?key"
    r"|((hf|hub|api|auth|use_auth|access|refresh|id|bearer|session|client)_?)?token",
    re.I,
)
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@:]+(:[^/\s@]+)?(?=@)")  # of a URL
_QUERY = re.compile(r"(?<=[?&])([\w.-]*(?:key|token|secret|password|sig|signature|auth)=)[^&#\s\"'<>]+", re.I)
_BETWEEN = str.maketrans("", "", "\u200b\u200c\u200d\u2060\ufeff\u00ad")
_LONG = 12  # characters; a shorter word may stand split in ordinary text
_told: set[str] = set()


def keep_secret(value: str | None) -> None:
    """Have ``value`` taken out of all that is written from now on in this process."""
    if value and _can_be_told(value.strip()):
        _told.add(value.strip())


def keep_secrets_of(url: str) -> None:
    """As ``keep_secret``, of what a URL may hold: a password, as it is written, as it is meant and as HTTP sends it
    (RFC 7617), and the values of its query, but for short ones: those are words, or the date of an API's version."""
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if user or password:
        keep_secret(base64.b64encode(f"{user}:{password}".encode()).decode())
    for secret in (parts.password, password, *(value for _, value in parse_qsl(parts.query) if len(value) >= _LONG)):
        keep_secret(secret)


def keep_arguments_secret(arguments: Mapping[str, Any]) -> None:
    """As ``keep_secret``, of each argument whose name says that it is one."""
    for name, value in arguments.items():
        if _is_secret(name) and isinstance(value, str):
            keep_secret(value)


def keep_command_secret(words: Sequence[str]) -> None:
    """As ``keep_secret``, of each value on a command line whose name says that it is one: ``--api-key VALUE``, or
    ``api_key=VALUE`` among the arguments of a model."""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word.startswith("--") and "=" not in word and _is_secret(word[2:]):
            keep_secret(following)
        for pair in re.split(r"[,:](?=[\w.-]+=)", word.removeprefix("--")):
            name, equals, value = pair.partition("=")
            if equals and _is_secret(name):
                keep_secret(value)


def without_secrets(value: T) -> T:
    """``value``, a text or lists and dictionaries of them, without any known secret in a text."""
    return _without(value, _secrets())


def without_named(value: T) -> T:
    """As ``without_secrets``, of arguments: also without the values of those whose names say that they are secrets."""
    return _hidden_by_name(without_secrets(value))


def holds_secret(content: bytes) -> bool:
    return any(form.encode("utf-8", "surrogateescape") in content for each in _secrets() for form in _forms(each))


def _can_be_told(text: str) -> bool:
    """Whether it can be told from ordinary text: a short word or a number could not be taken out without harm."""
    least = 12 if text.isalpha() else 16 if text.replace(".", "").isdigit() else 6
    return len(text) >= least


def _secrets() -> list[str]:
    """All that are known, the longest first."""
    values = (value.strip() for name, value in os.environ.items() if _VARIABLE.fullmatch(name))
    return sorted({*_told, *(value for value in values if _can_be_told(value))}, key=lambda each: (-len(each), each))


@functools.lru_cache(maxsize=1024)
def _forms(secret: str) -> tuple[str, ...]:
    """A secret as it may stand in text, in JSON, in HTML, in a URL, in Python, in hexadecimals and in base64."""
    data = secret.encode("utf-8", "surrogateescape")
    plain = (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1])
    marked = (html.escape(secret), html.escape(secret, quote=False))
    quoted = {way(secret, safe=safe, errors="replace") for way in (quote, quote_plus) for safe in ("", "/")}
    encoded = {data.hex(), data.hex().upper()} if len(secret) >= _LONG else set()
    for before in range(3) if len(secret) >= _LONG else ():  # bytes of others in the same group of three
        text = base64.b64encode(bytes(before) + data).decode()
        # The first and the last characters are made of other bytes too.
        inner = text[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        encoded |= {inner, inner.replace("+", "-").replace("/", "_")}
    return tuple(sorted({*plain, *marked, *quoted, *encoded}, key=len, reverse=True))


@functools.lru_cache(maxsize=1024)
def _split(secret: str) -> re.Pattern[str]:
    """A secret with whitespace, line ends or the like anywhere within."""
    return re.compile(r"(?:\\n|[\s\u200b\u200c\u200d\u2060\ufeff\u00ad])*".join(map(re.escape, secret)))


def _without(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            for form in _forms(secret):
                value = value.replace(form, _HIDDEN) if form in value else value
            if len(secret) >= _LONG and len(value) > len(secret) and secret in _together(value):
                value = _split(secret).sub(_HIDDEN, value)
        if "://" in value:
            value = _QUERY.sub(rf"\1{_HIDDEN}", _CREDENTIALS.sub(_HIDDEN, value))
        return value
    if isinstance(value, Mapping):
        return {_without(key, secrets): _without(each, secrets) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without(each, secrets) for each in value) if type(value) in (list, tuple) else value
    return value


def _together(text: str) -> str:
    """``text`` without what may stand between the parts of a split secret."""
    return "".join(text.replace("\\n", "").split()).translate(_BETWEEN)


def _hidden_by_name(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: _HIDDEN if _is_secret(name) and isinstance(each, str) and each else _hidden_by_name(each)
            for name, each in value.items()
        }
    return [_hidden_by_name(each) for each in value] if isinstance(value, list | tuple) else value


def _is_secret(name: Any) -> bool:
    if not isinstance(name, str):
        return False
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)  # of accessToken
    return _ARGUMENT.fullmatch(words.replace("-", "_")) is not None

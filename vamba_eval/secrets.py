"""Keys, tokens and passwords, taken out of whatever is written: records, tables, messages, what is sent elsewhere.

Known are the values of environment variables that are called as such, and what ``keep_secret`` is told: endpoints and
judges repeat keys in what they say. Imports nothing of the harness.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

T = TypeVar("T")

_HIDDEN = "***"
_VARIABLE = re.compile(r"(.*_)?(API_?KEY|ACCESS_?KEY|SECRET_?KEY|SECRET|TOKEN|PASSWORD|PASSWD|AUTHORIZATION)", re.I)
# Of arguments, fewer tokens: an "image_token" is none's.
_ARGUMENT = re.compile(
    r"(.*_)?(api_?key|access_?key|secret_?key|secret|password|passwd|authorization)"
    r"|((hf|hub|api|auth|use_auth|access|bearer|session)_)?token",
    re.I,
)
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@:]+(:[^/\s@]+)?(?=@)")  # of a URL
_told: set[str] = set()


def keep_secret(value: str | None) -> None:
    """Have ``value`` taken out of all that is written from now on in this process."""
    if value and _can_be_told(value.strip()):
        _told.add(value.strip())


def keep_arguments_secret(arguments: Mapping[str, Any]) -> None:
    """As ``keep_secret``, of each argument whose name says that it is one."""
    for name, value in arguments.items():
        if _is_secret(name) and isinstance(value, str):
            keep_secret(value)


def without_secrets(value: T) -> T:
    """``value``, a text or lists and dictionaries of them, without any known secret in a text."""
    return _without(value, _forms())


def without_named(value: T) -> T:
    """As ``without_secrets``, of arguments: also without the values of those whose names say that they are secrets."""
    return _hidden_by_name(without_secrets(value))


def holds_secret(content: bytes) -> bool:
    return any(form.encode("utf-8", "surrogateescape") in content for form in _forms())


def _can_be_told(text: str) -> bool:
    """Whether it can be told from ordinary text: a short word or a number could not be taken out without harm."""
    least = 12 if text.isalpha() else 16 if text.replace(".", "").isdigit() else 6
    return len(text) >= least


def _forms() -> list[str]:
    """Each secret as it may stand in text, in JSON, in HTML and in a URL, the longest first."""
    values = (value.strip() for name, value in os.environ.items() if _VARIABLE.fullmatch(name))
    secrets = {*_told, *(value for value in values if _can_be_told(value))}
    forms = {
        form for s in secrets for form in (s, json.dumps(s)[1:-1], html.escape(s), quote(s, safe="", errors="replace"))
    }
    return sorted(forms, key=len, reverse=True)


def _without(value: Any, forms: list[str]) -> Any:
    if isinstance(value, str):
        for form in forms:
            value = value.replace(form, _HIDDEN) if form in value else value
        return _CREDENTIALS.sub(_HIDDEN, value) if "://" in value else value
    if isinstance(value, Mapping):
        return {_without(key, forms): _without(each, forms) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without(each, forms) for each in value) if type(value) in (list, tuple) else value
    return value


def _hidden_by_name(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: _HIDDEN if _is_secret(name) and isinstance(each, str) and each else _hidden_by_name(each)
            for name, each in value.items()
        }
    return [_hidden_by_name(each) for each in value] if isinstance(value, list | tuple) else value


def _is_secret(name: Any) -> bool:
    return isinstance(name, str) and _ARGUMENT.fullmatch(name.replace("-", "_")) is not None

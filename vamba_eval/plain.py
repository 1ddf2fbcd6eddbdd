"""What others wrote, such that it can be written anywhere: models, annotations and endpoints say what they like.

Text that every file can hold and no terminal obeys, JSON that every program can read, and what a mistyped name may have
meant. Imports nothing of the harness.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable
from typing import Any

# What moves a terminal's cursor, clears it or has it answer; and what reverses the order in which text is shown. Tabs
# and new lines are text.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def valid(text: str) -> str:
    """``text`` with U+FFFD for halves of surrogate pairs, which a response may hold and no UTF-8 can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def visible(text: str) -> str:
    """``text`` such that a terminal shows it and does nothing else: control characters are written as ``\\x1b`` is."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), valid(text))


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that ``word`` is likely to mean, whatever its case and punctuation; None: none is near."""
    bare = {_bare(name): name for name in names}
    near = difflib.get_close_matches(_bare(word), bare, n=1)
    return bare[near[0]] if near else None


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """The nearest of ``names`` as a question in brackets, to be put behind ``word``; nothing where none is near."""
    near = nearest(word, names)
    return "" if near is None else f" (did you mean {near!r}?)"


def _bare(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def json_text(value: Any, **form: Any) -> str:
    """``value`` as JSON (``form`` as for ``json.dumps``): null for NaN and infinity, which are not JSON."""
    try:
        return json.dumps(value, allow_nan=False, **form)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, **form)


def json_value(text: str) -> Any:
    """What JSON says, None for the NaN and the infinity that Python and others write into it. Raises ValueError, also
    where it is nested too deep."""
    try:
        return json.loads(text, parse_constant=lambda _: None, parse_float=_finite_number)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _finite_number(text: str) -> float | None:
    return number if math.isfinite(number := float(text)) else None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_finite(key): _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value

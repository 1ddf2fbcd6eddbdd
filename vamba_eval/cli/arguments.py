"""How the words of a command line are read: a verb's parser, and the grammar of values that several verbs share.

A function given as ``type=`` raises argparse.ArgumentTypeError, which says what is accepted and gives an example.
"""

from __future__ import annotations

import argparse
import difflib
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

from vamba_eval.contracts import UserError
from vamba_eval.secrets import without_named

if TYPE_CHECKING:
    from vamba_eval.reading.reader import Reading

Verbs: TypeAlias = "argparse._SubParsersAction[Parser]"  # what add_subparsers() returns


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line: the usage of ``run`` would be thirty, before the message."""

    def error(self, message: str) -> NoReturn:
        prefix = "unrecognized arguments: "
        if message.startswith(f"{prefix}--"):
            word = message.removeprefix(prefix).split()[0].partition("=")[0]
            if near := difflib.get_close_matches(word, self.option_names(), n=1):
                message = f"no option {word} (did you mean {near[0]}?)"
        raise UserError(f"{message} (see {self.prog} --help)")

    def option_names(self) -> list[str]:
        """All options, as ``--num-frames``."""
        return [name for action in self._actions for name in action.option_strings]


def add_verb(
    verbs: Verbs, name: str, func: Callable[[argparse.Namespace], int], summary: str, description: str | None = None
) -> Parser:
    """A parser for the verb ``name``, which ``func`` does; ``summary`` is its line in the list of verbs."""
    described = description or f"{summary[0].upper()}{summary[1:]}."
    parser = verbs.add_parser(name, help=summary, description=described)
    parser.set_defaults(func=func)
    # For --help alone: main() takes it out of the arguments, wherever it stands.
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def names(text: str) -> list[str]:
    """``"a, b"`` as ``["a", "b"]``."""
    return [name.strip() for name in text.split(",") if name.strip()]


def flat(values: Iterable[str | list[str]]) -> list[str]:
    """What ``nargs`` made of names: ``a,b c`` as ``["a", "b", "c"]``."""
    return [name for value in values for name in ([value] if isinstance(value, str) else value)]


def limit(text: str) -> int | str:
    """A number of videos, or of questions as ``"50q"``."""
    number = text[:-1] if text.endswith("q") else text
    if not number.isdecimal() or not int(number):
        raise ArgumentTypeError(f"{text!r}: write a number of videos, such as 20, or of questions, such as 50q")
    return text if text.endswith("q") else int(text)


def frame_counts(text: str) -> list[int]:
    """``"8,16"`` as it says; ``"8..64"`` is 8, 16, 32, 64."""
    counts: list[int] = []
    for part in text.split(","):
        first, dots, last = part.strip().partition("..")
        try:
            low = int(first)
            high = int(last) if dots else low
        except ValueError:
            low = high = 0
        if not 1 <= low <= high:
            raise ArgumentTypeError(
                f"{part.strip()!r} is neither a number of frames nor a range of them: write numbers, such as 8,16,32, "
                "or a range that doubles, such as 8..512"
            )
        while low <= high:
            counts.append(low)
            low *= 2
    return counts


def frame_sizes(text: str) -> list[tuple[int, int]]:
    """``"640x360,480x270"`` as (width, height) in pixels."""
    sizes = []
    for part in text.split(","):
        width, _, height = part.strip().lower().partition("x")
        if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            raise ArgumentTypeError(f"{part.strip()!r}: write WIDTHxHEIGHT in pixels, such as 640x360")
        sizes.append((int(width), int(height)))
    return sizes


def gpus(text: str) -> int | Literal["all"]:
    """A number of GPUs, or ``"all"``."""
    return _count_or_all(text, "GPUs", 8)


def rotations(text: str) -> int | Literal["all"]:
    """A number of orders, or ``"all"``."""
    return _count_or_all(text, "orders of the options", 2)


def _count_or_all(text: str, what: str, example: int) -> int | Literal["all"]:
    if text == "all":
        return "all"
    if text.isdecimal() and int(text):
        return int(text)
    raise ArgumentTypeError(f"{text!r}: write a number of {what}, such as {example}, or all")


def prices(text: str) -> tuple[float, float]:
    """``"0.5,1.5"``: dollars for a million tokens, in and out."""
    try:
        dollars_in, dollars_out = (float(price) for price in text.split(","))
    except ValueError:
        dollars_in = dollars_out = -1
    if not (dollars_in >= 0 and dollars_out >= 0):
        raise ArgumentTypeError(f"{text!r}: write IN,OUT in dollars per million tokens, such as 0.5,1.5")
    return dollars_in, dollars_out


def model_args(text: str) -> tuple[str, dict[str, Any]]:
    """``"vamba:pretrained=PATH,dtype=bfloat16"`` as the model's label and its arguments; without a label they are those
    of the only model."""
    label, colon, pairs = text.partition(":")
    if "=" in label and not text.startswith("="):
        label, pairs = "", text
    elif not colon or not label:
        raise ArgumentTypeError(f"{text!r}: write MODEL:KEY=VALUE,KEY=VALUE, such as vamba:pretrained=PATH")
    arguments: dict[str, Any] = {}
    for pair in pairs.split(","):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            if without_named(arguments) != arguments:  # it may be the rest of a key that holds a comma
                text, pair = f"{label}:...", "a part of it"
            raise ArgumentTypeError(
                f"{text!r}: {pair!r} is not KEY=VALUE; write MODEL:KEY=VALUE,KEY=VALUE, such as vamba:pretrained=PATH"
            )
        arguments[key.strip()] = value
    return label, arguments


def model(text: str) -> tuple[str, dict[str, Any]]:
    """``"vamba"`` or ``"vamba:pretrained=PATH"`` as the model's name and its arguments."""
    return model_args(text) if ":" in text else (text, {})


def by_label(specifications: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """What several ``--model-args`` give each model; of an argument that is repeated, the last value."""
    merged: dict[str, dict[str, Any]] = {}
    for label, arguments in specifications:
        merged.setdefault(label, {}).update(arguments)
    return merged


def reading(**options: Any) -> Reading:
    """How videos are read, by the options that are not None. Raises UserError for values that make no sense."""
    from vamba_eval.reading.reader import Reading

    try:
        return Reading(**{name: value for name, value in options.items() if value is not None})
    except ValueError as error:
        raise UserError(str(error)) from error

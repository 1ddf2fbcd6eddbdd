"""How the words of a command line are read: a verb's parser, and the grammar of values that several verbs share.

A function given as ``type=`` raises argparse.ArgumentTypeError, which says what is accepted and gives an example.
"""

from __future__ import annotations

import argparse
import math
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

from vamba_eval.contracts import UserError
from vamba_eval.plain import did_you_mean, nearest
from vamba_eval.secrets import without_named

if TYPE_CHECKING:
    from vamba_eval.reading.reader import Reading

Verbs: TypeAlias = "argparse._SubParsersAction[Parser]"  # what add_subparsers() returns


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line: the usage of ``run`` would be thirty, before the message."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")

    def option_names(self) -> list[str]:
        """All options, as ``--num-frames``."""
        return [name for action in self._actions for name in action.option_strings]

    def check_options(self, words: Sequence[str]) -> None:
        """Raise UserError, with the nearest, for the first of ``words`` that looks like an option and is none.

        argparse would complain of what is missing first, which may be just what is mistyped.
        """
        options = self.option_names()
        for word in words:
            name = word.partition("=")[0]
            if name == "--":
                return
            if name.startswith("--") and " " not in name and not any(each.startswith(name) for each in options):
                near = nearest(name, options)
                self.error(f"no option {name}" + (f" (did you mean {near}?)" if near else ""))

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        # Where argparse makes a word a value. An empty one is mostly a variable of a script that is not set.
        if not arg_string.strip():
            raise argparse.ArgumentError(action, "it is given an empty value" + _MENDED[bool(action.option_strings)])
        return super()._get_value(action, arg_string)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            there = [str(each) for each in action.choices]
            raise argparse.ArgumentError(
                action, f"there is no {str(value)!r}{did_you_mean(str(value), there)}: there are {', '.join(there)}"
            )


_MENDED = {True: ": give one, or leave the option out", False: ": give one"}


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
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise ArgumentTypeError(f"{text!r} names nothing")
    return found


def number(text: str) -> float:
    """A number, which may be infinite, and no NaN: nothing is longer or shorter than that."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ArgumentTypeError(f"{text!r} is not a number")
    return value


def flat(values: Iterable[str | list[str]]) -> list[str]:
    """What ``nargs`` made of names: ``a,b c`` as ``["a", "b", "c"]``."""
    return [name for value in values for name in ([value] if isinstance(value, str) else value)]


def limit(text: str) -> int | str:
    """A number of videos, or of questions as ``"50q"``."""
    count = text[:-1] if text.endswith("q") else text
    if not count.isdecimal() or not int(count):
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

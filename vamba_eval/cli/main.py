"""The command line: which verb is called, and how it ends.

Exit status: 0 when every question has a record, 1 when some failed or a budget is spent, 2 for something the user
must correct, 130 after Ctrl-C, 143 after SIGTERM, 129 after the loss of the terminal.

The modules beside this one hold the verbs. They import what a verb needs when it is called, so that ``list``,
``leaderboard`` and ``--help`` start at once.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from types import TracebackType
from typing import TextIO, cast

from vamba_eval._version import __version__
from vamba_eval.cli import ask, data, habits, profile, results, run, train
from vamba_eval.cli.arguments import Parser
from vamba_eval.cli.terminal import Terminal, shown_text
from vamba_eval.contracts import BudgetSpent, UserError
from vamba_eval.plain import did_you_mean
from vamba_eval.registry import name_task_code
from vamba_eval.secrets import keep_command_secret

_DESCRIPTION = "Evaluate long-video language models: how well they answer, and what each answer costs."
_EPILOG = """\
examples:
  %(prog)s                                    the default: generated videos, small models
  %(prog)s --tasks videomme,mlvu --models qwen2_vl --model-args qwen2_vl:pretrained=PATH --data-root DIR
  %(prog)s leaderboard results                tables of all runs below results/
  %(prog)s run --help                         the options of a run

Without a command, the options are those of run. An interrupted run continues when the same command is given again.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _end_as_after_ctrl_c()
    keep_command_secret(arguments)
    sys.excepthook = _show_traceback
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=Terminal(sys.stderr), force=True)
    logging.getLogger("vamba_eval").setLevel(logging.DEBUG if debug else logging.NOTSET)
    kept = "answers so far are kept, and the same command goes on from here"
    try:
        args = _parse(arguments)
        kept = getattr(args, "kept", kept)
        for code in getattr(args, "task_code", ()):
            name_task_code(code)
        with redirect_stdout(cast(TextIO, Terminal(sys.stdout))):  # tables show what models and endpoints said
            return int(args.func(args))
    except UserError as error:
        if debug:
            raise
        print(f"error: {shown_text(str(error))}", file=sys.stderr)
        return 1 if isinstance(error, BudgetSpent) else 2
    except KeyboardInterrupt as stop:
        with suppress(OSError):  # the terminal may be what is gone
            print(f"\nstopped; {kept}", file=sys.stderr)
        return 128 + (stop.signal if isinstance(stop, _Terminated) else signal.SIGINT)
    except BrokenPipeError:  # somebody's `| head`
        sys.stderr.close()
        return 0
    except OSError as error:  # a full disk, a folder that may not be written
        if debug:
            raise
        where = f": {error.filename}" if error.filename else ""
        what = f"{error.strerror or error}{where}"
        if isinstance(error, FileExistsError | NotADirectoryError):
            what += " (a file is where a folder is to be: give another place)"
        print(shown_text(f"error: {what}"), file=sys.stderr)
        return 2


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser, verbs = _parsers()
    first = arguments[0] if arguments else ""
    if first in ("-h", "--help", "--version"):
        return parser.parse_args([first])  # which prints and exits
    verb, options = ("run", arguments) if first.startswith("-") or not arguments else (first, arguments[1:])
    if verb not in verbs:
        raise UserError(f"unknown command {verb!r}{did_you_mean(verb, verbs)}: there are {', '.join(verbs)}")
    options, said = habits.translated(options, verbs[verb].option_names())
    for line in said:
        print(f"note: {line}", file=sys.stderr)
    verbs[verb].check_options(options)
    return verbs[verb].parse_intermixed_args(options)


def _parsers() -> tuple[Parser, Mapping[str, Parser]]:
    """The parser of the program, and that of each verb."""
    parser = Parser(
        usage="%(prog)s [COMMAND] [OPTIONS]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vamba-eval {__version__}")
    verbs = parser.add_subparsers(
        title="commands", metavar="COMMAND [OPTIONS]", prog=parser.prog, help="COMMAND --help shows its options"
    )
    for module in (run, results, data, profile, train, ask):
        module.add_parsers(verbs)
    return parser, verbs.choices


def _show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As Python does, of --debug and of mistakes of our own, but without secrets."""
    sys.stderr.write(shown_text("".join(traceback.format_exception(kind, error, trace))))


class _Terminated(KeyboardInterrupt):
    """SIGTERM, from a scheduler that wants the machine back, or SIGHUP, with the terminal gone: ended as Ctrl-C is."""

    def __init__(self, signal: int) -> None:
        super().__init__()
        self.signal = signal


def _end_as_after_ctrl_c() -> None:
    """Have SIGTERM and SIGHUP end the program as Ctrl-C does."""
    with suppress(ValueError):  # not in the main thread: signals are then the caller's to handle
        signal.signal(signal.SIGTERM, _terminate)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
            signal.signal(signal.SIGHUP, _terminate)


def _terminate(number: int, _frame: object) -> None:
    raise _Terminated(number)

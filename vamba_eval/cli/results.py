"""The verbs that work on stored runs: tables, comparisons, the report, exports, judges, and lmms-eval's logs."""

from __future__ import annotations

import logging
import sys
import textwrap
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from vamba_eval.cli import arguments
from vamba_eval.cli.arguments import Parser, Verbs, add_verb
from vamba_eval.cli.terminal import Styled, shown_text
from vamba_eval.contracts import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from vamba_eval.tables.leaderboard import Leaderboard

log = logging.getLogger(__name__)


def add_parsers(verbs: Verbs) -> None:
    parser = add_verb(verbs, "leaderboard", _leaderboard, "tables from stored runs")
    _add_tables(parser)

    parser = add_verb(
        verbs,
        "rescore",
        _rescore,
        "tables by the rules of another protocol, or of all",
        "Score stored responses again, by another protocol's rules. Prompts stay those of the run. With --protocol "
        "all: by every protocol's rules, and which responses change between right and wrong.",
    )
    _add_tables(parser)
    parser.add_argument(
        "--protocol", required=True, help="vamba, lmms-eval, official, flexible (what a task has), or all"
    )

    _add_compare(verbs)
    _add_items(verbs)
    _add_report(verbs)
    _add_export(verbs)
    _add_judge(verbs)
    _add_import_lmms(verbs)


# Arguments of several verbs.
_RESULTS: dict[str, Any] = {"type": Path, "metavar": "RESULTS", "help": "run folders, or folders of runs"}
_JUDGE: dict[str, Any] = {"metavar": "MODEL[@URL]", "help": "whose grades to show, where several models graded"}
_TASK_CODE: dict[str, Any] = {
    "action": "append",
    "default": [],
    "metavar": "CODE",
    "help": "run a task's code to score its responses: a .py file (FILE.py:CLASS) or MODULE:CLASS; may be repeated. "
    "What results themselves name is never run",
}
_PUBLISHED: dict[str, Any] = {"action": "store_true", "help": "add what papers report, marked as reported"}


# ------------------------------------------------------------------------------------- leaderboard, rescore


def _add_tables(parser: Parser) -> None:
    add = parser.add_argument
    add("results", nargs="*", default=[], **_RESULTS)  # none with --published
    add("--judge", **_JUDGE)
    add("--task-code", **_TASK_CODE)
    add("--published", **_PUBLISHED)
    add("--sort", metavar="COLUMN", help="best first by a column of the CSV, such as score or first_answer_s")
    add("--where", metavar="QUERY", help="""only some rows, such as 'num_frames >= 64 and task == "mlvu"'""")
    add(
        "--columns",
        type=arguments.names,
        metavar="C,...",
        help="show these columns of the CSV, one row per model and benchmark",
    )
    add("--long", action="store_true", help="all counts and costs, all notes, what each model saw: as wide as it is")
    add(
        "--format",
        choices=("markdown", "latex", "csv", "json"),
        help="for another program: the table alone and whole (default: as wide as the terminal, with notes)",
    )
    add("--output", type=Path, metavar="DIR", help="also write leaderboard.md, .csv, .tex, .json, ...")


def _leaderboard(args: Namespace) -> int:
    return _tables(args, None)


def _rescore(args: Namespace) -> int:
    status = _tables(args, args.protocol)
    if args.protocol == "all":
        from vamba_eval.tables.compare import LISTED, changed_by_protocol, changed_table
        from vamba_eval.tables.text import write_csv

        changed = changed_by_protocol(args.results)
        print(f"\n{len(changed) or 'No'} responses change between right and wrong{':' if changed else '.'}")
        if changed:
            print()
            _show_rows(changed_table(changed[:LISTED]), ("Model", "Task", "Question", "Response"), _console())
        if (more := len(changed) - LISTED) > 0:
            print(f"\n... and {more:,} more (--output DIR writes all)")
        if args.output:
            write_csv(args.output / "rescored.csv", [each.row() for each in changed])
            print(f"  {args.output / 'rescored.csv'}  (all of them)")
    return status


def _tables(args: Namespace, protocol: str | None) -> int:
    """Show the tables; the exit status, 1 where a run had to be left out."""
    from vamba_eval.tables.leaderboard import Leaderboard

    if not args.results and not args.published:
        raise UserError("name at least one folder of runs (or --published alone, for the paper's tables)")
    board = Leaderboard.from_runs(args.results, protocol=protocol, published=args.published, judge=args.judge)
    if not board.results:
        raise UserError("the runs there have no answers yet")
    board = board.select(where=args.where, sort=args.sort)
    paths = board.save(args.output) if args.output else []
    if args.format:
        if args.long:
            raise UserError("--long is for reading; with --format the table is whole anyway: give one of them")
        print(board.render(args.format, args.columns))
    else:
        show_board(board, paths, args.columns, long=args.long)
    return 1 if board.left_out else 0


def show_board(
    board: Leaderboard, paths: Sequence[Path], columns: Sequence[str] | None = None, *, long: bool = False
) -> None:
    """Print a Leaderboard as wide as the terminal is, what must be known of it, and where it is written (``paths``);
    ``long``, or certain ``columns``, as wide as it is, with all notes and what each model saw."""
    if not board.results:
        print("\nNo results.")
    elif long or columns:
        _show_long(board, columns)
    else:
        _show_fitting(board)
    if not paths:
        return
    records = sorted(paths[0].parent.rglob("*.jsonl"))
    if long:
        print("\nWritten:", *(f"  {path}" for path in paths), sep="\n")
        print(*(f"  {path}  (one line per question)" for path in records), sep="\n")
    else:
        beside = f"; beside {len(records)} files of answers" if records else ""
        print(f"\nWritten: {paths[0]}, .csv, .tex, .json{beside}")


def _console() -> Console:
    from rich.console import Console

    return Console(file=cast(TextIO, Styled(sys.stdout)), highlight=False, emoji=False, markup=False)


def _show_notes(notes: Sequence[str], console: Console) -> None:
    from rich.text import Text

    for note in notes:
        # Paths stay whole: they are there to be copied.
        whole = {"break_long_words": False, "break_on_hyphens": False}
        lines = textwrap.wrap(f"- {shown_text(note)}", console.width, subsequent_indent="  ", **whole)  # type: ignore[arg-type]
        console.print(Text("\n".join(lines)), soft_wrap=True)


def _show_rows(rows: Sequence[Mapping[str, str]], text: Sequence[str], console: Console) -> None:
    """A table as wide as the console at most: columns of ``text`` go on in the next line, numbers never."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    for name in rows[0]:
        words = name in text
        table.add_column(name, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown_text(cell)) for cell in row.values()))
    console.print(table)


def _show_fitting(board: Leaderboard) -> None:
    from rich.text import Text

    from vamba_eval.tables.notes import is_grave
    from vamba_eval.tables.screen import shown_board

    console = _console()
    console.print()
    for part in shown_board(board.board(), console):
        console.print(part)
    if charts := board.charts():
        console.print(f"\n{shown_text(charts.rstrip())}", no_wrap=True, overflow="ignore", crop=False)
    notes = board.notes()
    grave = [note for note in notes if is_grave(note)]
    if grave:
        console.print()
    _show_notes(grave, console)
    if rest := len(notes) - len(grave):
        console.print(Text(f"- {rest} more to know, all costs, and what each model saw: leaderboard --long", "dim"))


def _show_long(board: Leaderboard, columns: Sequence[str] | None) -> None:
    print(f"\n{board.render('markdown', columns) if columns else board.long_markdown()}\n")
    if charts := board.charts():
        print(charts)
    for note in board.notes():
        print(f"- {note}")
    if provenance := board.provenance_markdown():
        print(f"\nWhat each model saw\n\n{provenance}")
    if asked_otherwise := board.robustness_markdown():
        print(f"\n{asked_otherwise}")


# -------------------------------------------------------------------------------------------------- compare


def _add_compare(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "compare",
        _compare,
        "two runs or models on the same questions",
        "The difference between two models on the questions that both answered, overall and by group, with its "
        "interval (paired by question, clustered by video), and the questions on which they differ.",
    )
    for name in ("run_a", "run_b"):
        parser.add_argument(name, metavar=name.upper(), help="a run's folder, or FOLDER:MODEL where it holds several")
    parser.add_argument("--protocol", help="score both by this one's rules (default: each by its own)")
    parser.add_argument("--task-code", **_TASK_CODE)
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="also write compare.md, differences.csv and flips.csv"
    )


def _compare(args: Namespace) -> int:
    from vamba_eval.tables.compare import LISTED, compare

    console = _console()
    comparisons = compare(args.run_a, args.run_b, protocol=args.protocol)
    for comparison in comparisons:
        print(f"\n{comparison.title}\n\n{comparison.sides}\n")
        if comparison.differences:
            _show_rows(comparison.table(), ("Group", "Value"), console)
            print()
        _show_notes(comparison.remarks(), console)
        if comparison.flips:
            print()
            _show_rows(comparison.flipped(LISTED), ("Question", "Answer", "A's response", "B's response"), console)
        if (more := len(comparison.flips) - LISTED) > 0:
            print(f"\n... and {more:,} more (--output DIR writes all)")
        if args.output:
            prefix = f"{comparison.key}." if len(comparisons) > 1 else ""
            print("\nWritten:", *(f"  {path}" for path in comparison.save(args.output, prefix)), sep="\n")
    return 0


# ---------------------------------------------------------------------------------------------------- items


def _add_items(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "items",
        _items,
        "which questions need no video or tell models apart",
        "What all models of some runs say about a benchmark's questions: which blind models answer, which all or none "
        "of those that look answer, and each model's score on the questions that no blind model answers.",
    )
    add = parser.add_argument
    add("results", nargs="*", default=[], **_RESULTS)
    add("--protocol", help="score by this one's rules (default: each run by its own)")
    add("--judge", **_JUDGE)
    add("--task-code", **_TASK_CODE)
    add(
        "--list",
        choices=("none", "all", "blind"),
        help="also show the questions that no or all looking models, or all blind ones answer (the first 20)",
    )
    add("--format", choices=("markdown", "csv", "json"), default="markdown", help="default: markdown with notes")
    add("--output", type=Path, metavar="DIR", help="also write items.md (with all of --list) and items.csv")


def _items(args: Namespace) -> int:
    from vamba_eval.score.scored import check_one_protocol, score_runs
    from vamba_eval.tables.items import analyse

    if not args.results:
        raise UserError("name at least one folder of runs: items RESULTS...")
    check_one_protocol(args.protocol, "items")
    found = analyse(score_runs(args.results, args.protocol, args.judge))
    paths = found.save(args.output, args.list) if args.output else []
    if args.format != "markdown":  # for another program: nothing but the table
        print(found.render(args.format, args.list))
    else:
        print(f"\n{found.render('markdown', args.list)}")
        if paths:
            print("\nWritten:", *(f"  {path}" for path in paths), sep="\n")
    return 1 if found.left_out else 0


# --------------------------------------------------------------------------------------------------- report


def _add_report(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "report",
        _report,
        "one HTML page: tables, plots, questions with frames",
        "Make one self-contained HTML page from stored runs: tables, plots, and every question with its frames and the "
        "models' responses.",
    )
    add = parser.add_argument
    add("results", nargs="+", **_RESULTS)
    add("-o", "--output", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html")
    add("--title", default="Long-video evaluation", help="the page's heading")
    add("--protocol", help="score by this one's rules (default: each run by its own)")
    add("--published", **_PUBLISHED)
    add("--judge", **_JUDGE)
    add("--task-code", **_TASK_CODE)
    add("--max-thumbnails", type=int, default=1000, metavar="N", help="clips whose frames are shown (default: 1000)")
    add("--no-images", action="store_true", help="show no frames, for a small page")


def _report(args: Namespace) -> int:
    from vamba_eval.report.page import write_report

    if args.max_thumbnails < 0:
        raise UserError(f"--max-thumbnails is a number of clips, not {args.max_thumbnails}; --no-images shows none")
    page = write_report(
        args.results,
        args.output,
        protocol=args.protocol,
        published=args.published,
        judge=args.judge,
        title=args.title,
        max_thumbnails=0 if args.no_images else args.max_thumbnails,
    )
    print(f"Written:\n  {page}")
    return 0


# --------------------------------------------------------------------------------------------------- export


def _add_export(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "export",
        _export,
        "benchmarks' own files of responses, or lmms-eval's logs",
        "Write stored runs in other formats. official: the file that a benchmark's authors evaluate or take as a "
        "submission. lmms-eval: logs of samples as lmms-eval writes them.",
    )
    add = parser.add_argument
    add("results", nargs="+", **_RESULTS)
    add("--format", choices=("official", "lmms-eval"), default="official", help="default: official")
    add("--protocol", help="by whose rules answers are read from the responses (default: the run's)")
    add("--task-code", **_TASK_CODE)
    add("--output", type=Path, required=True, metavar="DIR", help="where the files go")


def _export(args: Namespace) -> int:
    from vamba_eval.exchange.export import export

    paths, remarks = export(args.results, args.output, args.format, args.protocol)
    print("Written:", *(f"  {path}" for path in paths), sep="\n")
    for remark in remarks:
        print(f"- {remark}")
    return 0


# ---------------------------------------------------------------------------------------------------- judge


def _add_judge(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "judge",
        _judge,
        "have a language model grade responses in free text",
        "Have a language model grade the stored responses of tasks in free text, by each task's own rules. Every grade "
        "is kept: the same command goes on where it stopped, and asks nothing twice.",
    )
    add = parser.add_argument
    add("results", nargs="+", **_RESULTS)
    add("--task-code", **_TASK_CODE)
    add("--judge-model", required=True, metavar="NAME", help="the judge's name at its endpoint")
    add("--judge-url", metavar="URL", help="an OpenAI-compatible endpoint (default: OPENAI_BASE_URL, else OpenAI's)")
    add("--judge-key-env", default="OPENAI_API_KEY", metavar="NAME", help="the variable that holds its key")
    add("--judge-cache", type=Path, metavar="DIR", help="keeps its answers (default: in the user's cache directory)")
    add("--judge-requests", type=int, default=8, metavar="N", help="requests at a time (default: 8)")
    add(
        "--judge-timeout",
        type=arguments.number,
        default=120,
        metavar="S",
        help="seconds for a whole response, after which a request is tried again (default: 120)",
    )
    add(
        "--judge-price",
        type=arguments.prices,
        metavar="IN,OUT",
        help="dollars per million tokens in and out, such as 0.5,1.5, to state the cost",
    )


def _judge(args: Namespace) -> int:
    from vamba_eval.score.judge import grade_runs, judge_endpoint
    from vamba_eval.tables.leaderboard import Leaderboard

    if args.judge_requests < 1:
        raise UserError(f"--judge-requests must be positive, not {args.judge_requests}")
    if not 0 < args.judge_timeout < float("inf"):
        raise UserError(f"--judge-timeout must be a positive number of seconds, not {args.judge_timeout:g}")
    endpoint = judge_endpoint(
        args.judge_model,
        args.judge_url,
        key_env=args.judge_key_env,
        cache=args.judge_cache,
        timeout_s=args.judge_timeout,
    )
    with endpoint:
        graded = grade_runs(args.results, endpoint, requests=args.judge_requests)
    judge = f"{endpoint.model}@{endpoint.url}"
    for folder in graded.folders:
        try:
            Leaderboard.from_runs([folder], judge=judge).save(folder)
        except UserError as error:  # another of its tasks is not there; what is judged is kept
            log.warning("no new tables in %s: %s", folder, error)
    try:
        show_board(Leaderboard.from_runs(graded.folders, judge=judge), [])
    except UserError as error:
        log.debug("no table", exc_info=error)  # it was said above
    print(f"\n{graded.describe(args.judge_price)}")
    return 1 if graded.failed or graded.left_out else 0


# ---------------------------------------------------------------------------------------------- import-lmms


def _add_import_lmms(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "import-lmms",
        _import_lmms,
        "make runs of lmms-eval's logs",
        "Make runs of what lmms-eval logged (--log_samples --output_path DIR), of any of its models, and show their "
        "table. Beside its records, each run says what became of each logged field.",
    )
    add = parser.add_argument
    add("logs", nargs="+", type=Path, metavar="LOGS", help="folders, or files *_samples_*.jsonl")
    add("--output", default="results", metavar="DIR", help="where runs are kept (default: results)")
    add("--name", help="the run's folder below --output (default: by model and time)")
    add("--task-code", **_TASK_CODE)
    add("--label", help="what to call the model (default: lmms-eval's name for it)")
    add(
        "--data-root",
        metavar="DIR",
        help="the benchmarks' annotations, as for a run: questions, videos and groups are then known exactly",
    )


def _import_lmms(args: Namespace) -> int:
    from vamba_eval.exchange.lmms_logs import import_logs
    from vamba_eval.tables.leaderboard import Leaderboard

    done = import_logs(args.logs, args.output, name=args.name, label=args.label, data_root=args.data_root)
    show_board(Leaderboard.from_runs(done.folders), [])
    print(f"\n{done.num_records:,} responses imported:", *(f"  {folder}" for folder in done.folders), sep="\n")
    for remark in done.remarks:
        print(f"- {remark}")
    return 0

"""The verbs about benchmarks' data: ``download`` and ``check``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from vamba_eval.cli import arguments
from vamba_eval.cli.arguments import Verbs, add_verb


def add_parsers(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "download",
        _download,
        "download benchmarks from the Hub",
        "Download benchmarks from the Hub and unpack them into the layout in which they are read. The same command "
        "goes on where it was interrupted, and repairs what has been damaged since. A token is taken from "
        "`hf auth login` or HF_TOKEN.",
    )
    add = parser.add_argument
    add("tasks", type=arguments.names, metavar="TASK,...", help="whose data to download")
    add("--data-root", required=True, metavar="DIR", help="holds one folder per benchmark")
    add("--repo", metavar="OWNER/NAME", help="another dataset repository than the task's own")
    add("--revision", metavar="R", help="a branch, tag or commit of the repository")
    add("--keep-archives", action="store_true", help="do not remove archives after they are unpacked")
    add("--dry-run", action="store_true", help="only say what would be downloaded")

    parser = add_verb(
        verbs,
        "check",
        _check,
        "check whether a copy of a benchmark is complete",
        "Check whether a copy of a benchmark is complete: annotations, videos, lengths, subtitles. Exit status: 0 if "
        "nothing is missing or damaged, 1 if something is.",
    )
    add = parser.add_argument
    add("tasks", type=arguments.names, metavar="TASK,...", help="whose data to check")
    add("--data-root", metavar="DIR", help="holds one folder per benchmark; lmms-eval: where lmms-eval keeps its data")
    add("--allow-outside", action="store_true", help="also look at videos outside of the data root")
    add("--split", help="another split than the task's own")
    add("--quick", action="store_true", help="only check that the files exist; open none")
    add("--workers", type=int, metavar="N", help="processes that open videos (default: by the cores)")
    add("--read-timeout", type=arguments.number, default=60, metavar="S", help="seconds for one video (default: 60)")
    add("--json", type=Path, metavar="FILE", help="also write everything that was found to FILE")


def _download(args: Namespace) -> int:
    from vamba_eval.data.download import download

    download(
        args.tasks,
        args.data_root,
        repo=args.repo,
        revision=args.revision,
        keep_archives=args.keep_archives,
        dry_run=args.dry_run,
    )
    return 0


def _check(args: Namespace) -> int:
    from vamba_eval.data.check import check, save

    reading = arguments.reading(workers=args.workers, stall_s=args.read_timeout)
    reports = check(
        args.tasks,
        args.data_root,
        allow_outside=args.allow_outside,
        split=args.split,
        quick=args.quick,
        reading=reading,
    )
    if args.json:
        save(reports, args.json)
    return 1 if any(report.problems for report in reports) else 0

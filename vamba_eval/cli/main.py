"""The command line: arguments and messages only.

Exit status: 0 when every question has a record, 1 when some failed, 2 for something the user must mend,
130 after Ctrl-C, 143 after SIGTERM, 129 after the loss of the terminal.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vamba_eval import registry
from vamba_eval._version import __version__
from vamba_eval.contracts import STRATEGIES, Model, Task, UserError

_OVERVIEW = """\
Evaluate long-video language models: how well they answer, and what each answer costs.

  %(prog)s                                    the embedded default: generated videos, small models
  %(prog)s --tasks videomme,mlvu --models qwen2_vl --model-args qwen2_vl:pretrained=PATH --data-root DIR
  %(prog)s list                               tasks and models
  %(prog)s leaderboard RESULTS...             tables from stored runs
  %(prog)s rescore RESULTS... --protocol P    stored responses under another protocol, or under all
  %(prog)s compare RUN_A RUN_B                two models, or two ways of asking one, on the same questions
  %(prog)s report RESULTS... -o report.html   one page: tables, plots, every question with its frames
  %(prog)s export RESULTS... --output DIR     benchmarks' own files of responses, lmms-eval's logs
  %(prog)s judge RESULTS... --judge-model M   responses in free text, graded by a language model
  %(prog)s import-lmms LOGS...                what lmms-eval logged, as runs beside the others
  %(prog)s download TASK,... --data-root DIR  fetch benchmarks from the Hub
  %(prog)s check TASK,... --data-root DIR     see whether a copy of a benchmark is whole
  %(prog)s profile --models M --frames 8..1024  seconds, memory and FLOPs as videos grow, and the longest that fits
  %(prog)s ask VIDEO "question" ...           ask a model about a video or image of yours

A run that was interrupted goes on where it stopped when the same command is given again.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    with suppress(ValueError):  # not in the main thread: somebody else's business
        signal.signal(signal.SIGTERM, _terminate)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
            signal.signal(signal.SIGHUP, _terminate)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    verbs = {
        "list": _list,
        "leaderboard": _leaderboard,
        "rescore": _rescore,
        "compare": _compare,
        "report": _report,
        "export": _export,
        "judge": _judge,
        "import-lmms": _import_lmms,
        "ask": _ask,
        "download": _download,
        "check": _check,
        "profile": _profile,
        "run": _run,
    }
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    if debug:
        logging.getLogger("vamba_eval").setLevel(logging.DEBUG)
    try:
        verb = "run" if not arguments or arguments[0].startswith("-") else arguments.pop(0)
        if verb not in verbs:
            near = difflib.get_close_matches(verb, verbs, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise UserError(f"unknown command {verb!r}{hint}: there are {', '.join(verbs)}")
        return verbs[verb](arguments)
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        with suppress(OSError):  # the terminal may be what is gone
            print("\nstopped; what is answered is kept, and the same command goes on from here", file=sys.stderr)
        return 128 + (stop.signal if isinstance(stop, _Terminated) else signal.SIGINT)
    except BrokenPipeError:  # somebody's `| head`
        sys.stderr.close()
        return 0
    except OSError as error:  # a full disk, a folder that may not be written
        if debug:
            raise
        where = f": {error.filename}" if error.filename else ""
        print(f"error: {error.strerror or error}{where}", file=sys.stderr)
        return 2


_BASELINES = ("random", "constant")


class _Terminated(KeyboardInterrupt):
    """SIGTERM, from a scheduler that wants the machine back, or SIGHUP, with the terminal gone: ended as Ctrl-C is."""

    def __init__(self, signal: int) -> None:
        super().__init__()
        self.signal = signal


def _terminate(number: int, _frame: object) -> None:
    raise _Terminated(number)


def _run(argv: list[str]) -> int:
    args = _run_parser().parse_args(argv)
    sampling = {
        "strategy": args.strategy,
        "num_frames": args.num_frames[0] if args.num_frames and len(args.num_frames) == 1 else None,
        "shortest_edge": args.shortest_edge,
        "longest_edge": args.longest_edge,
        "fps": args.fps,
        "token_budget": args.token_budget,
    }
    sampling = {name: value for name, value in sampling.items() if value is not None}
    if args.keep_size:
        sampling |= {"shortest_edge": None, "longest_edge": None}
    generation = {"max_new_tokens": args.max_new_tokens, "top_p": args.top_p, "top_k": args.top_k}
    generation = {name: value for name, value in generation.items() if value is not None}
    if args.temperature is not None:
        generation |= {"do_sample": args.temperature > 0, "temperature": args.temperature or 1.0}
    models = _names(args.models)
    if args.baselines:
        models += [name for name in _BASELINES if name not in models]
    from vamba_eval.reading.reader import Reading
    from vamba_eval.run.evaluate import evaluate

    given = {
        "backend": args.video_backend,
        "workers": args.workers,
        "stall_s": args.read_timeout,
        "memory_gb": args.worker_memory_gb,
        "cache": args.clip_cache,
        "cache_gb": args.clip_cache_gb,
    }
    try:
        reading = Reading(**{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise UserError(str(error)) from error
    board = evaluate(
        _names(args.tasks),
        models,
        data_root=args.data_root,
        output=args.output,
        name=args.name,
        protocol=args.protocol,
        split=args.split,
        sampling=sampling,
        generation=generation,
        model_args=_model_args(args.model_args),
        reading=reading,
        limit=args.limit,
        ladder=args.num_frames if args.num_frames and len(args.num_frames) > 1 else (),
        seeds=args.seeds,
        blind=args.blind or args.baselines,
        accept_environment=args.accept_environment,
        thumbnails=not args.no_thumbnails,
        gpus=args.gpus,
        gpus_per_model=args.gpus_per_model,
        replicas=args.replicas,
        ray_address=args.ray_address,
    )
    folder = board.folder
    _show(board, board.save(folder))
    if args.wandb or args.push_to_hub:
        from vamba_eval.exchange.share import to_hub, to_wandb

        if args.wandb:
            print(f"\nLogged: {to_wandb(board, folder, args.wandb)}")
        if args.push_to_hub:
            print(f"\nUploaded: {to_hub(folder, args.push_to_hub)}")
    return 1 if board.num_failed else 0


def _run_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_eval.py", description=_OVERVIEW, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"vamba-eval {__version__}")
    add = parser.add_argument_group("what to run").add_argument
    add("--tasks", default="synthetic", metavar="T,...", help="benchmarks (default: synthetic)")
    default = "random,qwen2_vl,vamba"
    add("--models", default=default, metavar="M,...", help=f"models, or label=model (default: {default})")
    add(
        "--model-args",
        action="append",
        default=[],
        metavar="M:K=V,...",
        help="a model's arguments, as vamba:pretrained=PATH,dtype=bfloat16; may be repeated",
    )
    add(
        "--data-root",
        metavar="DIR",
        help="holds one folder a benchmark, named after the task; hub: fetches the task's dataset from the Hub, "
        "hub:OWNER/NAME another one; lmms-eval: takes lmms-eval's copy",
    )
    add("--split", help="another split than the task's own (videomme: long; longvideobench: test)")
    add("--protocol", default="vamba", help="prompts and scoring: vamba (default), lmms-eval, or a task's official")
    add("--limit", type=int, metavar="N", help="the first N videos of each task")
    add("--blind", action="store_true", help="ask each model a second time without the videos, as MODEL-blind")
    add(
        "--baselines",
        action="store_true",
        help=f"besides, what knows nothing: {', '.join(_BASELINES)}, and each model blind",
    )
    add = parser.add_argument_group("which frames (default: each task's own)").add_argument
    add(
        "--num-frames",
        type=_counts,
        metavar="N,...",
        help="frames a video (512 for most tasks); several (8,16,32 or 8..512, by doubling) make a run with each, "
        "reading each video once",
    )
    add("--strategy", choices=STRATEGIES, help="how frames are chosen")
    add("--fps", type=float, help="frames a second, for --strategy fps")
    add("--token-budget", type=int, metavar="N", help="14x14 patches a video, for --strategy auto")
    add("--shortest-edge", type=int, metavar="PX", help="raise edges below this")
    add("--longest-edge", type=int, metavar="PX", help="shrink frames whose longer edge is above this")
    add("--keep-size", action="store_true", help="do not resize frames")
    add = parser.add_argument_group("how videos are read").add_argument
    add("--workers", type=int, metavar="N", help="processes that read ahead (default: by the cores; 0: none)")
    add(
        "--read-timeout",
        type=float,
        metavar="S",
        help="end the reading of a video that stands still for S seconds (default: 60)",
    )
    add("--worker-memory-gb", type=float, metavar="N", help="GiB that one process may use for decoding (default: 8)")
    add(
        "--clip-cache",
        type=Path,
        metavar="DIR",
        help="keep clips there, so that another model or a later run decodes nothing",
    )
    add("--clip-cache-gb", type=float, metavar="N", help="its size (default: 100); the least recently used go first")
    add(
        "--video-backend",
        choices=("pyav", "pyav-plain", "torchcodec", "decord"),
        help="the decoder (default: pyav; the others are for comparison)",
    )
    add = parser.add_argument_group("many GPUs, many machines (needs Ray; see docs/cluster.md)").add_argument
    add("--gpus", type=_gpus, metavar="N|all", help="a replica of each model on each of N GPUs, or of all")
    add("--gpus-per-model", type=float, default=1, metavar="N", help="GPUs that one replica gets (default: 1)")
    add("--replicas", type=int, metavar="N", help="N replicas of each model without GPUs, instead of --gpus")
    add(
        "--ray-address",
        metavar="ADDRESS",
        help="a running Ray cluster, as HOST:PORT or auto (default: $RAY_ADDRESS, else Ray is started here)",
    )
    add = parser.add_argument_group("answers and results").add_argument
    add("--max-new-tokens", type=int, metavar="N", help="longest response (default: the protocol's)")
    add(
        "--temperature",
        type=float,
        metavar="T",
        help="sample with this temperature; 0: greedy (default: the protocol's)",
    )
    add("--top-p", type=float, metavar="P", help="sample among the likeliest tokens that make up P")
    add("--top-k", type=int, metavar="K", help="sample among the K likeliest tokens")
    add(
        "--seeds", type=int, default=1, metavar="N", help="ask with N seeds; tables give mean and spread (for sampling)"
    )
    add("--output", default="results", metavar="DIR", help="where runs are kept (default: results)")
    add("--name", help="the run's folder below --output (default: the tasks' names)")
    add("--wandb", metavar="PROJECT", help="log the finished run to Weights & Biases (PROJECT or ENTITY/PROJECT)")
    add("--push-to-hub", metavar="REPO", help="upload the finished run to a dataset on the Hub (OWNER/NAME)")
    add(
        "--accept-environment",
        action="store_true",
        help="go on with a run that was begun with other package versions or hardware",
    )
    add("--no-thumbnails", action="store_true", help="keep no small pictures of the frames (reports show them)")
    _add_debug(parser)
    return parser


def _counts(text: str) -> list[int]:
    """``"8,16,32"`` or, by doubling, ``"8..32"``."""
    counts: list[int] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        counts.append(int(first))
        while dots and 0 < counts[-1] * 2 <= int(last):
            counts.append(counts[-1] * 2)
    return counts


def _gpus(text: str) -> int | str:
    return text if text == "all" else int(text)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _model_args(specifications: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``["vamba:pretrained=PATH,dtype=bfloat16"]`` as ``{"vamba": {"pretrained": "PATH", ...}}``."""
    parsed: dict[str, dict[str, Any]] = {}
    for specification in specifications:
        label, colon, pairs = specification.partition(":")
        if not colon or "=" in label:
            raise UserError(f"--model-args {specification!r}: write MODEL:KEY=VALUE,KEY=VALUE")
        for pair in pairs.split(","):
            key, equals, value = pair.partition("=")
            if not equals or not key.strip():
                raise UserError(f"--model-args {specification!r}: {pair!r} is not KEY=VALUE")
            parsed.setdefault(label, {})[key.strip()] = value
    return parsed


def _list(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run_eval.py list", description="Tasks and models that can be named.")
    _add_debug(parser)
    parser.parse_args(argv)
    for title, kind in (("Tasks", Task), ("Models", Model)):
        print(f"{title}:")
        for name, summary in registry.describe_all(kind).items():
            print(f"  {name:<24} {summary}")
    return 0


def _leaderboard(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run_eval.py leaderboard", description="Tables from stored runs.")
    _add_results(parser)
    return _tables(parser.parse_args(argv), None)


def _rescore(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="run_eval.py rescore",
        description="Score stored responses anew, under another protocol's rules. Prompts stay those of the run. With "
        "--protocol all: under every protocol, and which responses change between right and wrong.",
    )
    _add_results(parser)
    parser.add_argument("--protocol", required=True, help="vamba, lmms-eval, official (where a task has it), or all")
    args = parser.parse_args(argv)
    status = _tables(args, args.protocol)
    if args.protocol == "all":
        from vamba_eval.tables.compare import changed_by_protocol, changed_markdown
        from vamba_eval.tables.text import write_csv

        changed = changed_by_protocol(args.results)
        print(f"\n{changed_markdown(changed)}")
        if args.output:
            write_csv(args.output / "rescored.csv", [each.row() for each in changed])
            print(f"  {args.output / 'rescored.csv'}  (all of them)")
    return status


def _compare(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="run_eval.py compare",
        description="The difference between two models on the questions that both answered, overall and by group, with "
        "its interval (paired by question, clustered by video), and the questions on which they differ.",
    )
    for name in ("run_a", "run_b"):
        parser.add_argument(name, metavar=name.upper(), help="a run's folder, or FOLDER:MODEL where it holds several")
    parser.add_argument("--protocol", help="score both under this one (default: each under its own)")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="also write compare.md, differences.csv and flips.csv"
    )
    _add_debug(parser)
    args = parser.parse_args(argv)
    from vamba_eval.tables.compare import compare

    comparisons = compare(args.run_a, args.run_b, protocol=args.protocol)
    for comparison in comparisons:
        print(f"\n{comparison.to_markdown()}")
        if args.output:
            prefix = f"{comparison.key}." if len(comparisons) > 1 else ""
            print("\nWritten:", *(f"  {path}" for path in comparison.save(args.output, prefix)), sep="\n")
    return 0


def _report(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="run_eval.py report",
        description="One self-contained HTML page from stored runs: tables, plots, and every question with its frames "
        "and the models' responses.",
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="run folders, or folders of runs")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html"
    )
    parser.add_argument("--title", default="Long-video evaluation", help="the page's heading")
    parser.add_argument("--protocol", help="score under this one (default: that of each run)")
    parser.add_argument("--published", action="store_true", help="add the Vamba paper's rows, marked as reported")
    parser.add_argument("--judge", metavar="MODEL[@URL]", help="whose grades to show, where several models graded")
    parser.add_argument(
        "--max-thumbnails", type=int, default=1000, metavar="N", help="clips whose frames are shown (default: 1000)"
    )
    parser.add_argument("--no-images", action="store_true", help="show no frames, for a small page")
    _add_debug(parser)
    args = parser.parse_args(argv)
    from vamba_eval.report.page import write_report

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


def _export(argv: list[str]) -> int:
    from vamba_eval.exchange.export import FORMATS, export

    parser = argparse.ArgumentParser(
        prog="run_eval.py export",
        description="Stored runs in other formats. official: the file that a benchmark's authors evaluate or take as a "
        "submission. lmms-eval: logs of samples as that program writes them.",
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="run folders, or folders of runs")
    parser.add_argument("--format", choices=FORMATS, default="official", help="default: official")
    parser.add_argument("--protocol", help="whose reading of the responses (default: that of the run)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the files go")
    _add_debug(parser)
    args = parser.parse_args(argv)
    paths, remarks = export(args.results, args.output, args.format, args.protocol)
    print("Written:", *(f"  {path}" for path in paths), sep="\n")
    for remark in remarks:
        print(f"- {remark}")
    return 0


def _judge(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="run_eval.py judge",
        description="Have a language model grade the stored responses of tasks in free text, by each task's own rules. "
        "Every answer is kept: the same command goes on where it stopped, and asks nothing twice.",
    )
    add = parser.add_argument
    add("results", nargs="+", type=Path, metavar="RESULTS", help="run folders, or folders of runs")
    add("--judge-model", required=True, metavar="NAME", help="the judge's name at its endpoint")
    add("--judge-url", metavar="URL", help="an OpenAI-compatible endpoint (default: OPENAI_BASE_URL, else OpenAI's)")
    add("--judge-key-env", default="OPENAI_API_KEY", metavar="NAME", help="the variable that holds its key")
    add("--judge-cache", type=Path, metavar="DIR", help="keeps its answers (default: in the user's cache directory)")
    add("--judge-requests", type=int, default=8, metavar="N", help="requests at a time (default: 8)")
    add("--judge-price", metavar="IN,OUT", help="dollars for a million tokens asked and answered, to state the cost")
    _add_debug(parser)
    args = parser.parse_args(argv)
    from vamba_eval.endpoint import Endpoint
    from vamba_eval.score.judge import grade_runs
    from vamba_eval.tables.leaderboard import Leaderboard

    if args.judge_requests < 1:
        raise UserError(f"--judge-requests must be positive, not {args.judge_requests}")
    prices = _prices(args.judge_price) if args.judge_price else None
    with Endpoint(args.judge_model, args.judge_url, key_env=args.judge_key_env, cache=args.judge_cache) as endpoint:
        graded = grade_runs(args.results, endpoint, requests=args.judge_requests)
    judge = f"{endpoint.judge.model}@{endpoint.judge.url}"
    for folder in graded.folders:
        Leaderboard.from_runs([folder], judge=judge).save(folder)
    _show(Leaderboard.from_runs(graded.folders, judge=judge), [])
    print(f"\n{graded.describe(prices)}")
    return 1 if graded.failed else 0


def _prices(text: str) -> tuple[float, float]:
    try:
        dollars_in, dollars_out = (float(price) for price in text.split(","))
    except ValueError:
        raise UserError(f"--judge-price {text!r}: write IN,OUT in dollars for a million tokens, as 0.5,1.5") from None
    return dollars_in, dollars_out


def _profile(argv: list[str]) -> int:
    from vamba_eval.profile import sweep, tables
    from vamba_eval.profile.point import PHASES

    parser = argparse.ArgumentParser(
        prog="run_eval.py profile",
        description="What models cost as videos grow longer, on frames of noise, every point in a process of its own; "
        "running out of memory is a result. Without a checkpoint, models have random weights of the released size. The "
        "same command goes on where it stopped.",
    )
    add = parser.add_argument
    add("--models", default="vamba,qwen2_vl", metavar="M,...", help="models, or label=model (default: vamba,qwen2_vl)")
    add("--model-args", action="append", default=[], metavar="M:K=V,...", help="a model's arguments; may be repeated")
    add("--frames", default="8..1024", metavar="N,...", help="numbers of frames; A..B: A and its doublings up to B")
    add("--size", default="640x360", metavar="WxH,...", help="of frames, in pixels (default: 640x360)")
    add("--phase", default="prefill,decode", metavar="P,...", help=f"of {', '.join(PHASES)} (default: prefill,decode)")
    add("--prompt-tokens", type=int, default=160, metavar="N", help="of the question with its surroundings (160)")
    add("--new-tokens", type=int, default=64, metavar="N", help="of an answer, generated or learned (64)")
    add("--repeats", type=int, default=3, metavar="N", help="timed passes, after one to warm up (3)")
    add(
        "--find-longest",
        type=float,
        nargs="?",
        const=1.05,
        metavar="FACTOR",
        help="search the longest video that fits, to within this factor (1.05; 1: to the frame)",
    )
    add("--point-timeout", type=float, default=900, metavar="S", help="end a point after so many seconds (900)")
    add("--retry", action="store_true", help="measure points again that crashed or took too long")
    add("--tables-only", action="store_true", help="measure nothing: tables and plots of what --output holds")
    add("--dtype", help="bfloat16, float16 or float32 (default: each model's own)")
    add("--device", help="cpu, cuda or cuda:N (default: the first GPU, else the CPU)")
    add("--output", type=Path, default=Path("results/profile"), metavar="DIR", help="default: results/profile")
    _add_debug(parser)
    args = parser.parse_args(argv)
    if not args.tables_only:
        common = {name: value for name in ("dtype", "device") if (value := getattr(args, name)) is not None}
        given, models = _model_args(args.model_args), []
        for name in _names(args.models):
            label, _, source = name.rpartition("=")
            models.append(sweep.Model(label or source, source, {**common, **given.pop(label or source, {})}))
        if given:
            raise UserError(f"arguments for {next(iter(given))!r}, which is not among the models {args.models}")
        sweep.sweep(
            models,
            sweep.parse_frames(args.frames),
            sweep.parse_sizes(args.size),
            _names(args.phase),
            args.output,
            how=sweep.How(args.prompt_tokens, args.new_tokens, args.repeats),
            find_longest=args.find_longest,
            timeout_s=args.point_timeout,
            retry=args.retry,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    paths = tables.save(args.output)
    print(paths[0].read_text(encoding="utf-8"))
    print("Written:", *(f"  {path}" for path in paths), sep="\n")
    if not any(path.suffix == ".svg" for path in paths):
        print('- no plots: they need matplotlib (pip install "vamba-eval[plots]")')
    failed = [row for row in sweep.read_points(args.output) if row["outcome"] in sweep.FAILURES]
    return 1 if failed else 0


def _import_lmms(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="run_eval.py import-lmms",
        description="Make runs of what lmms-eval logged (--log_samples --output_path DIR), of any model there, and "
        "show their table. Each run says beside its records which fields became what.",
    )
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOGS", help="folders, or files *_samples_*.jsonl")
    parser.add_argument("--output", default="results", metavar="DIR", help="where runs are kept (default: results)")
    parser.add_argument("--name", help="the run's folder below --output (default: by model and time)")
    parser.add_argument("--label", help="what to call the model (default: lmms-eval's name of it)")
    parser.add_argument(
        "--data-root",
        metavar="DIR",
        help="the benchmarks' annotations, as for a run: questions, videos and groups are then known exactly",
    )
    _add_debug(parser)
    args = parser.parse_args(argv)
    from vamba_eval.exchange.lmms_logs import import_logs
    from vamba_eval.tables.leaderboard import Leaderboard

    done = import_logs(args.logs, args.output, name=args.name, label=args.label, data_root=args.data_root)
    _show(Leaderboard.from_runs(done.folders), [])
    print(f"\n{done.num_records:,} responses imported:", *(f"  {folder}" for folder in done.folders), sep="\n")
    for remark in done.remarks:
        print(f"- {remark}")
    return 0


def _ask(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="run_eval.py ask",
        description="Ask a model about a video or an image. It is read and encoded once, whatever is asked. Without a "
        "question, questions are read line by line.",
    )
    parser.add_argument("path", type=Path, metavar="VIDEO_OR_IMAGE")
    parser.add_argument("questions", nargs="*", metavar="QUESTION")
    parser.add_argument(
        "--model", default="vamba", metavar="M[:K=V,...]", help="model and its arguments, as vamba:pretrained=PATH"
    )
    parser.add_argument("--num-frames", type=int, default=512, metavar="N", help="frames of the video (default: 512)")
    parser.add_argument("--shortest-edge", type=int, default=256, metavar="PX", help="raise edges below this")
    parser.add_argument("--longest-edge", type=int, default=480, metavar="PX", help="shrink frames beyond this")
    parser.add_argument("--max-new-tokens", type=int, default=512, metavar="N", help="longest answer")
    _add_debug(parser)
    args = parser.parse_intermixed_args(argv)
    from vamba_eval.run.ask import ask

    name, _, arguments = args.model.partition(":")
    questions = args.questions or _typed_questions()
    model_args = _model_args([args.model])[name] if arguments else {}
    sizes = {"shortest_edge": args.shortest_edge, "longest_edge": args.longest_edge}
    for answer in ask(args.path, questions, name, model_args, args.num_frames, args.max_new_tokens, **sizes):
        print(answer.text, flush=True)
    return 0


def _typed_questions() -> Iterator[str]:
    """Lines typed at a prompt, or piped in."""
    while True:
        if sys.stdin.isatty():
            print("question> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _download(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="run_eval.py download",
        description="Fetch benchmarks from the Hub and unpack them into the layout in which they are read. The same "
        "command goes on where it was interrupted, and mends what has been damaged since. A token is "
        "taken from `hf auth login` or HF_TOKEN.",
    )
    parser.add_argument("tasks", metavar="TASK,...", help="whose data to fetch")
    parser.add_argument("--data-root", required=True, metavar="DIR", help="holds one folder a benchmark")
    parser.add_argument("--repo", metavar="OWNER/NAME", help="another dataset repository than the task's own")
    parser.add_argument("--revision", metavar="R", help="a branch, tag or commit of the repository")
    parser.add_argument("--keep-archives", action="store_true", help="do not remove archives that are unpacked")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be fetched")
    _add_debug(parser)
    args = parser.parse_args(argv)
    from vamba_eval.data.download import download

    download(
        _names(args.tasks),
        args.data_root,
        repo=args.repo,
        revision=args.revision,
        keep_archives=args.keep_archives,
        dry_run=args.dry_run,
    )
    return 0


def _check(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="run_eval.py check",
        description="See whether a copy of a benchmark is whole: annotations, videos, lengths, subtitles. Exit status "
        "0 if all is there, 1 if something lacks.",
    )
    parser.add_argument("tasks", metavar="TASK,...", help="whose data to check")
    parser.add_argument("--data-root", metavar="DIR", help="holds one folder a benchmark; lmms-eval: its places")
    parser.add_argument("--split", help="another split than the task's own")
    parser.add_argument("--quick", action="store_true", help="only see whether files are there; open none")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that open videos (default: by the cores)")
    parser.add_argument("--read-timeout", type=float, default=60, metavar="S", help="for one video (default: 60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything that was found there")
    _add_debug(parser)
    args = parser.parse_args(argv)
    from vamba_eval.data.check import check, save
    from vamba_eval.reading.reader import Reading

    try:
        reading = Reading(workers=args.workers, stall_s=args.read_timeout)
    except ValueError as error:
        raise UserError(str(error)) from error
    reports = check(_names(args.tasks), args.data_root, split=args.split, quick=args.quick, reading=reading)
    if args.json:
        save(reports, args.json)
    return 1 if any(report.problems for report in reports) else 0


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULTS", help="run folders, or folders of runs")
    parser.add_argument("--judge", metavar="MODEL[@URL]", help="whose grades to show, where several models graded")
    parser.add_argument("--published", action="store_true", help="add the Vamba paper's rows, marked as reported")
    parser.add_argument(
        "--sort", metavar="COLUMN", help="best first by a column of the CSV, as score or first_answer_s"
    )
    parser.add_argument("--where", metavar="QUERY", help="""only such rows, as 'num_frames >= 64 and task == "mlvu"'""")
    parser.add_argument("--columns", metavar="C,...", help="these columns of the CSV, a row a model and benchmark")
    parser.add_argument(
        "--format",
        choices=("markdown", "latex", "csv", "json"),
        default="markdown",
        help="default: markdown with notes",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="also write leaderboard.md, .csv, .tex, .json, ...")
    _add_debug(parser)


def _tables(args: argparse.Namespace, protocol: str | None) -> int:
    from vamba_eval.tables.leaderboard import Leaderboard

    if not args.results and not args.published:
        raise UserError("name at least one folder of runs (or --published alone, for the paper's tables)")
    board = Leaderboard.from_runs(args.results, protocol=protocol, published=args.published, judge=args.judge)
    if not board.results:
        raise UserError("the runs there have no answers yet")
    board = board.select(where=args.where, sort=args.sort)
    columns = None if args.columns is None else _names(args.columns)
    paths = board.save(args.output) if args.output else []
    if args.format != "markdown":  # for another program: nothing but the table
        print(board.render(args.format, columns))
    else:
        _show(board, paths, columns)
    return 0


def _show(board: Any, paths: Sequence[Path], columns: Sequence[str] | None = None) -> None:
    print(f"\n{board.render('markdown', columns) if board.results else 'No results.'}\n")
    for note in board.notes():
        print(f"- {note}")
    if paths:
        print("\nWritten:", *(f"  {path}" for path in paths), sep="\n")
        records = sorted(paths[0].parent.glob("*.jsonl"))
        print(*(f"  {path}  (one line a question)" for path in records), sep="\n")


def _add_debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="show tracebacks")

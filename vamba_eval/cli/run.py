"""The verbs ``run``, which is the default, and ``list``, which shows what can be run."""

from __future__ import annotations

import inspect
import shutil
import sys
import textwrap
from argparse import Namespace
from pathlib import Path
from typing import Any

from vamba_eval.cli import arguments
from vamba_eval.cli.arguments import Parser, Verbs, add_verb
from vamba_eval.cli.results import show_board
from vamba_eval.contracts import BOUNDS, STRATEGIES, TIMES, Model, Task, UserError

_BASELINES = ("random", "constant")
_EMBEDDED = "synthetic"  # the benchmark that comes with the program
_FRAMES_BY_DEFAULT = (8, 32, 128, 512)  # of its default run: few show little of a video, the last all that is asked


def add_parsers(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "run",
        _run,
        "evaluate models on benchmarks (the default command)",
        "Evaluate models on benchmarks and print their leaderboard. A run that was interrupted continues when the same "
        "command is given again. Exit status: 0 when every question has a response, 1 when some failed, 2 for a "
        "mistake in the command.",
    )
    _add_what(parser)
    _add_frames(parser)
    _add_reading(parser)
    _add_gpus(parser)
    _add_answers(parser)
    _add_probes(parser)
    add_verb(verbs, "list", _list, "list the tasks, models and presets that can be named")


def _add_what(parser: Parser) -> None:
    add = parser.add_argument_group("what to run").add_argument
    add(
        "--tasks",
        type=arguments.names,
        nargs="+",
        action="extend",
        metavar="T,...",
        help=f"benchmarks, or suite:NAME, several (default: {_EMBEDDED}); list shows all",
    )
    add(
        "--models",
        type=arguments.names,
        nargs="+",
        action="extend",
        metavar="M,...",
        help="models, or label=model; a checkpoint's folder or Hub id means transformers (default, of the benchmark "
        "synthetic: random and vamba_small, which is asked blind, too, and with 8, 32, 128 and 512 frames)",
    )
    add(
        "--model-args",
        type=arguments.model_args,
        action="append",
        default=[],
        metavar="M:K=V,...",
        help="a model's arguments, such as vamba:pretrained=PATH,dtype=bfloat16; may be repeated; of a single model "
        "without its name",
    )
    add("--batch-size", type=int, metavar="N", help="prompts about one video answered at once, by models that can")
    add(
        "--data-root",
        action="append",
        metavar="DIR",
        help="holds one folder per benchmark, named after the task or as its dataset is; may be repeated; hub: "
        "downloads the task's dataset from the Hub, hub:OWNER/NAME another one; lmms-eval: uses lmms-eval's copy",
    )
    add(
        "--allow-outside",
        action="store_true",
        help="also read videos that annotations, or links in the place of files, put outside of the data root",
    )
    add("--split", help="another split than the task's own (videomme: long; longvideobench: test)")
    add(
        "--protocol",
        metavar="P",
        help="prompts and scoring: vamba (default, where a task has it), lmms-eval, official, flexible",
    )
    add(
        "--preset",
        metavar="NAME",
        help="frames, sizes, prompts and decoding as a model's authors evaluate it, such as qwen2.5-vl (list shows "
        "all, docs/presets.md the sources); other options override it",
    )
    add(
        "--limit",
        type=arguments.limit,
        metavar="N",
        help="only the first N videos of each task; with q behind it, N questions drawn from all its groups",
    )
    add("--blind", action="store_true", help="also ask each model without the videos, as MODEL-blind")
    add(
        "--baselines",
        action="store_true",
        help=f"also run baselines that see no video: {', '.join(_BASELINES)}, and each model without the videos",
    )


def _add_frames(parser: Parser) -> None:
    add = parser.add_argument_group("which frames (default: each task's own)").add_argument
    add(
        "--num-frames",
        type=arguments.frame_counts,
        metavar="N,...",
        help="frames per video (512 for most tasks); several (8,16,32, or 8..512, which doubles) make a run with each, "
        "reading each video once",
    )
    add("--strategy", choices=STRATEGIES, help="how frames are chosen")
    add(
        "--frames-from",
        type=Path,
        metavar="FILE",
        help="the frames of each question, as a frame selector chose them: JSON, {question id: [frame, ...]} "
        "(see docs/frame-sets.md)",
    )
    add(
        "--times",
        choices=TIMES,
        default="auto",
        help="tell models that are not told it otherwise when frames were: before the prompt, or between the frames "
        "(auto: before the prompts of benchmarks that ask for times)",
    )
    add("--fps", type=arguments.number, help="frames per second, --num-frames at most (implies --strategy fps)")
    add("--token-budget", type=int, metavar="N", help="14x14 patches per video (implies --strategy auto)")
    add("--shortest-edge", type=int, metavar="PX", help="enlarge edges that are shorter")
    add("--longest-edge", type=int, metavar="PX", help="shrink frames whose longer edge is longer")
    add("--keep-size", action="store_true", help="do not resize frames")
    add("--min-pixels", type=int, metavar="N", help="enlarge frames of fewer pixels (height x width)")
    add("--max-pixels", type=int, metavar="N", help="shrink frames of more pixels")
    add("--total-pixels", type=int, metavar="N", help="shrink frames until all of a video together have no more pixels")
    add("--edge-multiple", type=int, metavar="PX", help="round edges to multiples of that, such as 28 for Qwen2.5-VL")


def _add_reading(parser: Parser) -> None:
    add = parser.add_argument_group("how videos are read").add_argument
    add("--workers", type=int, metavar="N", help="processes that read ahead (default: by the cores; 0: none)")
    add(
        "--read-timeout",
        type=arguments.number,
        metavar="S",
        help="give up a video whose reading makes no progress for S seconds (default: 60)",
    )
    add(
        "--decode-on",
        choices=("auto", "cpu", "gpu"),
        help="decode on the cores, on an NVIDIA GPU's own video decoders, or (auto, the default) on both: same frames",
    )
    add(
        "--read-limit",
        type=arguments.number,
        metavar="S",
        help="give up a video whose reading takes S seconds in all, whatever its progress (default: 14400, four hours)",
    )
    add(
        "--worker-memory-gb",
        type=arguments.number,
        metavar="N",
        help="GiB that one process may use for decoding (default: 8)",
    )
    add(
        "--clip-cache",
        type=Path,
        metavar="DIR",
        help="keep clips there, so that another model or a later run decodes nothing",
    )
    add(
        "--clip-cache-gb",
        type=arguments.number,
        metavar="N",
        help="size of the cache in GiB (default: 100); the least recently used clips are removed first",
    )
    add(
        "--video-backend",
        choices=("pyav", "pyav-plain", "torchcodec", "decord"),
        help="the decoder (default: pyav; the others are for comparison)",
    )


def _add_gpus(parser: Parser) -> None:
    add = parser.add_argument_group("many GPUs, many machines (needs Ray; see docs/cluster.md)").add_argument
    add("--gpus", type=arguments.gpus, metavar="N|all", help="a replica of each model on each of N GPUs, or of all")
    add("--gpus-per-model", type=arguments.number, default=1, metavar="N", help="GPUs per replica (default: 1)")
    add("--replicas", type=int, metavar="N", help="N replicas of each model without GPUs, instead of --gpus")
    add(
        "--ray-address",
        metavar="ADDRESS",
        help="a running Ray cluster, as HOST:PORT or auto (default: $RAY_ADDRESS, else Ray is started here)",
    )


def _add_answers(parser: Parser) -> None:
    add = parser.add_argument_group("answers and results").add_argument
    add("--max-new-tokens", type=int, metavar="N", help="longest response (default: the protocol's)")
    add(
        "--temperature",
        type=arguments.number,
        metavar="T",
        help="sample with this temperature; 0: greedy (default: the protocol's)",
    )
    add(
        "--top-p",
        type=arguments.number,
        metavar="P",
        help="sample among the likeliest tokens that make up P; needs sampling",
    )
    add("--top-k", type=int, metavar="K", help="sample among the K likeliest tokens; needs sampling")
    add(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="ask with N seeds; tables give mean and spread (only with sampling)",
    )
    add(
        "--answer-timeout",
        type=arguments.number,
        metavar="S",
        help="give up what a model is at after S seconds: to encode a video, or to answer a question (default: never). "
        "A model that cannot be interrupted takes its process with it; the same command goes on without the question",
    )
    add("--output", default="results", metavar="DIR", help="where runs are kept (default: results)")
    add("--name", help="the run's folder below --output (default: the tasks' names)")
    add("--wandb", metavar="PROJECT", help="log the finished run to Weights & Biases (PROJECT or ENTITY/PROJECT)")
    add("--push-to-hub", metavar="REPO", help="upload the finished run to a dataset on the Hub (OWNER/NAME)")
    add(
        "--accept-environment",
        action="store_true",
        help="continue a run that was begun with other package versions, hardware or code of a model's file",
    )
    add("--keep-going", action="store_true", help="go on where the first videos all fail alike, which ends a run")
    add("--no-thumbnails", action="store_true", help="keep no small pictures of the frames (reports show them)")


def _add_probes(parser: Parser) -> None:
    add = parser.add_argument_group(
        "what a score owes to the way of asking (each video is still encoded once; see also --num-frames 1, --blind)"
    ).add_argument
    add(
        "--rotate-options",
        type=arguments.rotations,
        nargs="?",
        const="all",
        metavar="N",
        help="ask each question in N orders of its options (without N: in as many as it has options); tables give the "
        "mean, the agreement, and whether a letter is preferred",
    )
    add(
        "--prompt-variants",
        type=int,
        default=1,
        metavar="N",
        help="ask in N wordings of the instruction, the protocol's own among them (at most 5)",
    )
    add("--shuffle-frames", action="store_true", help="show the frames in another order, the same for all models")


def _run(args: Namespace) -> int:
    from vamba_eval.run.evaluate import evaluate
    from vamba_eval.run.probes import Probes

    if args.wandb or args.push_to_hub:
        from vamba_eval.exchange.share import check_can_share, to_hub, to_wandb

        check_can_share(args.wandb, args.push_to_hub)
    if args.clip_cache_gb is not None and args.clip_cache is None:
        raise UserError("--clip-cache-gb is the size of a --clip-cache, and there is none: leave it out")
    tasks = arguments.flat(args.tasks or [_EMBEDDED])
    if tasks == ["list"]:
        return _list(args)
    models = None if args.models is None else arguments.flat(args.models)
    sampling, counts = _sampling(args), args.num_frames or []
    blind = args.blind or args.baselines
    if models is None:
        models, blind = _shown_by_default(tasks), True
        if not (sampling or counts or args.preset or args.frames_from):
            counts = list(_FRAMES_BY_DEFAULT)
    if args.baselines:
        models = models + [name for name in _BASELINES if name not in models]
    board = evaluate(
        tasks,
        models,
        data_root=args.data_root or None,
        allow_outside=args.allow_outside,
        output=args.output,
        name=args.name,
        protocol=args.protocol,
        split=args.split,
        preset=args.preset,
        sampling=sampling,
        generation=_generation(args),
        model_args=_model_args(args, models),
        reading=arguments.reading(
            backend=args.video_backend,
            workers=args.workers,
            stall_s=args.read_timeout,
            total_s=args.read_limit,
            memory_gb=args.worker_memory_gb,
            decode_on=args.decode_on,
            cache=args.clip_cache,
            cache_gb=args.clip_cache_gb,
        ),
        limit=args.limit,
        ladder=counts if len(counts) > 1 else (),
        seeds=args.seeds,
        blind=blind,
        probes=Probes(args.rotate_options, args.prompt_variants, args.shuffle_frames),
        frames_from=args.frames_from,
        times=args.times,
        answer_timeout=args.answer_timeout,
        accept_environment=args.accept_environment,
        keep_going=args.keep_going,
        thumbnails=not args.no_thumbnails,
        gpus=args.gpus,
        gpus_per_model=args.gpus_per_model,
        replicas=args.replicas,
        ray_address=args.ray_address,
    )
    folder = board.folder
    show_board(board, board.save(folder))
    if args.wandb:
        print(f"\nLogged: {to_wandb(board, folder, args.wandb)}")
    if args.push_to_hub:
        print(f"\nUploaded: {to_hub(folder, args.push_to_hub)}")
    return 1 if board.num_failed or board.left_out else 0


def _model_args(args: Namespace, models: list[str]) -> dict[str, dict[str, Any]]:
    """Each model's arguments, those without a name and the batch size with theirs."""
    from vamba_eval import registry

    given = arguments.by_label(args.model_args)
    own = given.pop("", {})
    if own and len(models) > 1:
        raise UserError(
            f"of which model is {next(iter(own))}={next(iter(own.values()))} an argument? There are several: write "
            f"--model-args {_label(models[0])}:{next(iter(own))}=..."
        )
    if own:
        given.setdefault(_label(models[0]), {}).update(own)
    if args.batch_size is not None:
        for model in models:
            name = model.rpartition("=")[2]
            _, source, _ = registry.named_model(name, {})
            if "batch_size" not in inspect.signature(registry.adapter_class(source)).parameters:
                raise UserError(
                    f"--batch-size has no effect on {model}: it is asked one question after the other about a video "
                    "that is encoded once; leave it out"
                )
            given.setdefault(_label(model), {}).setdefault("batch_size", args.batch_size)
    return given


def _label(model: str) -> str:
    """Of ``label=model``, or of a model without one its name."""
    return model.rpartition("=")[0] or model


def _shown_by_default(tasks: list[str]) -> list[str]:
    """Models for a first look: one that guesses, and one that sees what the embedded benchmark shows, and no other."""
    from vamba_eval import registry

    if others := [str(task) for task in registry.expanded(tasks) if task != _EMBEDDED]:
        for task in others:
            registry.load_task(task)  # of one that is not there, that is to be said
        raise UserError(
            f"which models are to be asked {', '.join(others)}? Name them with --models; those that come with this "
            f"program are for the benchmark {_EMBEDDED}"
        )
    return ["random", "vamba_small"]


def _sampling(args: Namespace) -> dict[str, Any]:
    """What the options say of the frames; what they leave open is the task's."""
    if args.keep_size and (args.shortest_edge is not None or args.longest_edge is not None):
        edge = "--shortest-edge" if args.shortest_edge is not None else "--longest-edge"
        raise UserError(f"--keep-size does not resize frames, {edge} does: give one of them")
    bounds = {name: value for name in BOUNDS if (value := getattr(args, name)) is not None}
    if args.keep_size and bounds:
        option = next(iter(bounds)).replace("_", "-")
        raise UserError(f"--keep-size does not resize frames, --{option} does: give one of them")
    sampling = {
        "strategy": args.strategy,
        "num_frames": args.num_frames[0] if args.num_frames and len(args.num_frames) == 1 else None,
        "shortest_edge": args.shortest_edge,
        "longest_edge": args.longest_edge,
        "fps": args.fps,
        "token_budget": args.token_budget,
        **bounds,
    }
    sampling = {name: value for name, value in sampling.items() if value is not None}
    return sampling | {"shortest_edge": None, "longest_edge": None} if args.keep_size else sampling


def _generation(args: Namespace) -> dict[str, Any]:
    """What the options say of how answers are generated; what they leave open is the protocol's."""
    given = {"max_new_tokens": args.max_new_tokens, "top_p": args.top_p, "top_k": args.top_k}
    generation = {name: value for name, value in given.items() if value is not None}
    if args.temperature is not None:
        generation |= {"do_sample": args.temperature > 0, "temperature": args.temperature or 1.0}
    return generation


def _list(args: Namespace) -> int:
    from vamba_eval import presets, registry

    for title, kind in (("Tasks", Task), ("Models", Model)):
        print(f"{title}:")
        for name, summary in registry.describe_all(kind).items():
            _print_entry(name, summary)
    print("Suites:")
    for name, suite in registry.suites().items():
        _print_entry(f"suite:{name}", f"{suite.summary}: {', '.join(suite.tasks)}")
    print("Presets:")
    for preset in presets.PRESETS:
        _print_entry(preset.name, preset.summary)
    return 0


def _print_entry(name: str, summary: str) -> None:
    """A line; on a terminal, where it is too long for one, several."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    print(textwrap.fill(f"  {name:<24} {summary}", max(width, 40), subsequent_indent=" " * 27, break_on_hyphens=False))

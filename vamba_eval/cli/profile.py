"""The verb ``profile``: what models cost as videos grow longer."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from vamba_eval.cli import arguments
from vamba_eval.cli.arguments import Verbs, add_verb
from vamba_eval.contracts import UserError
from vamba_eval.machine import how_to_install

if TYPE_CHECKING:
    from vamba_eval.profile.sweep import ModelSpec


def add_parsers(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "profile",
        _profile,
        "seconds, memory and FLOPs as videos grow longer",
        "Measure what models cost as videos grow longer, on frames of noise, every point in a process of its own; "
        "running out of memory is a result. Without a checkpoint, models have random weights of the released size. The "
        "same command goes on where it stopped.",
    )
    add = parser.add_argument
    add(
        "--models",
        type=arguments.names,
        default="vamba,qwen2_vl",
        metavar="M,...",
        help="models, or label=model (default: %(default)s)",
    )
    add(
        "--model-args",
        type=arguments.model_args,
        action="append",
        default=[],
        metavar="M:K=V,...",
        help="a model's arguments, such as vamba:pretrained=PATH; may be repeated",
    )
    add(
        "--frames",
        type=arguments.frame_counts,
        default="8..1024",
        metavar="N,...",
        help="numbers of frames; A..B: A and its doublings up to B (default: %(default)s)",
    )
    add(
        "--size",
        type=arguments.frame_sizes,
        default="640x360",
        metavar="WxH,...",
        help="width x height of frames in pixels (default: %(default)s)",
    )
    add(
        "--phase",
        type=arguments.names,
        default="prefill,decode",
        metavar="P,...",
        help="what to measure: prefill, decode, train (default: %(default)s)",
    )
    add(
        "--prompt-tokens",
        type=int,
        default=160,
        metavar="N",
        help="tokens of the question with the model's chat template, without the video's (default: 160)",
    )
    add("--new-tokens", type=int, default=64, metavar="N", help="tokens of an answer (default: 64)")
    add("--repeats", type=int, default=3, metavar="N", help="timed passes, after one to warm up (default: 3)")
    add(
        "--find-longest",
        type=arguments.number,
        nargs="?",
        const=1.05,
        metavar="FACTOR",
        help="search for the longest video that fits, to within this factor (1.05 if none is given; 1: to the frame)",
    )
    add(
        "--point-timeout",
        type=arguments.number,
        default=900,
        metavar="S",
        help="seconds after which a point ends (default: 900)",
    )
    add("--retry", action="store_true", help="measure points again that crashed or took too long")
    add("--tables-only", action="store_true", help="measure nothing; make tables and plots of what --output holds")
    add("--dtype", help="bfloat16, float16 or float32 (default: each model's own)")
    add("--device", help="cpu, cuda or cuda:N (default: the first GPU, else the CPU)")
    add("--output", type=Path, default=Path("results/profile"), metavar="DIR", help="default: results/profile")


def _profile(args: Namespace) -> int:
    from vamba_eval.profile import sweep, tables

    if not args.tables_only:
        sweep.sweep(
            _models(args),
            args.frames,
            args.size,
            args.phase,
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
        print(f"- no plots: they need matplotlib ({how_to_install('plots')})")
    failed = [row for row in sweep.read_points(args.output) if row["outcome"] in sweep.FAILURES]
    return 1 if failed else 0


def _models(args: Namespace) -> list[ModelSpec]:
    from vamba_eval import registry
    from vamba_eval.profile.sweep import ModelSpec

    common = {name: value for name in ("dtype", "device") if (value := getattr(args, name)) is not None}
    given = arguments.by_label(args.model_args)
    models = []
    for name in args.models:
        label, _, what = name.rpartition("=")
        own, source, pretrained = registry.named_model(what, {})
        label = label or own
        models.append(ModelSpec(label, source, {**common, **pretrained, **given.pop(label, {})}))
    if given:
        raise UserError(f"arguments for {next(iter(given))!r}, which is not among the models {', '.join(args.models)}")
    return models

"""The verb ``train``: a model's training recipe."""

from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import fields
from pathlib import Path

from vamba_eval.cli.arguments import Verbs, add_verb, names, number


def add_parsers(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "train",
        _train,
        "train a model by its recipe",
        "Train a model by its recipe; on several GPUs if launched by accelerate or torchrun. What is not given has the "
        "stage's value (docs/training.md).",
    )
    parser.set_defaults(kept="what was trained up to the last checkpoint is kept, and --resume goes on from there")
    add = parser.add_argument
    add("--model", default="vamba", metavar="M", help="the model (default: vamba)")
    add("--stage", type=int, required=True, metavar="N", help="1: pretraining on captions; 2: tuning on instructions")
    add(
        "--from",
        dest="start",
        required=True,
        metavar="CHECKPOINT",
        help="weights to begin with: a folder or Hub id, or a configuration (.json) for random ones",
    )
    add("--data", type=Path, required=True, metavar="YAML", help="lists the data sets")
    add("--output", type=Path, required=True, metavar="DIR", help="for checkpoints, the log and the trained model")
    add("--steps", type=int, metavar="N", help="optimizer steps (default: one pass over the data)")
    add("--batch-size", type=int, metavar="N", help="examples of a step, all processes together")
    add("--micro-batch", type=int, default=1, metavar="N", help="examples a process computes at once (default: 1)")
    add("--learning-rate", type=number, metavar="X", help="the highest")
    add("--warmup", type=number, metavar="X", help="the share of the steps in which it rises")
    add("--schedule", metavar="NAME", help="how it falls: cosine, linear, constant_with_warmup, ...")
    add("--weight-decay", type=number, metavar="X")
    add("--frames", type=int, metavar="N", help="of each video")
    add(
        "--trainable",
        type=lambda text: tuple(names(text)),
        metavar="PART,...",
        help="parts of the names of weights to train, such as cross_attn,vision_mixer,alpha; or all",
    )
    add(
        "--distill",
        type=number,
        default=0.0,
        metavar="X",
        help="weight of the distance to a teacher (default: 0, none)",
    )
    add("--teacher", metavar="CHECKPOINT", help="a Qwen2-VL (default: what --from names)")
    add("--seed", type=int, default=42, metavar="N", help="of random weights and the order of examples (default: 42)")
    add("--save-every", type=int, metavar="N", help="steps between checkpoints")
    add("--keep", type=int, metavar="N", help="how many checkpoints are kept")
    add("--log-every", type=int, default=1, metavar="N", help="steps between lines of the log (default: 1)")
    add("--resume", action="store_true", help="go on from the last checkpoint in --output")
    add("--workers", type=int, default=0, metavar="N", help="processes that read examples, for each that trains")
    add("--report-to", default="none", metavar="WHERE", help="tensorboard or wandb, beside the log in --output")
    add("--dtype", default="auto", help="of products: bfloat16 or float32 (default: bfloat16 on a GPU)")
    add("--save-dtype", default="auto", help="of the trained model's weights (default: as --dtype)")
    add("--no-recompute", dest="recompute", action="store_false", help="keep activations: faster, and more memory")
    add("--device", default="auto", help="auto or cpu")


def _train(args: Namespace) -> int:
    from vamba_eval import registry
    from vamba_eval.contracts import ModelAdapter, Training, UserError

    if not args.data.is_file():  # before torch is imported
        raise UserError(f"--data {args.data}: no such file; it lists the data sets (docs/training.md)")
    if args.output.exists() and not args.output.is_dir():
        raise UserError(f"--output {args.output} is a file, not a folder")
    cls = registry.adapter_class(args.model)
    if not issubclass(cls, ModelAdapter):
        raise UserError(f"the model {args.model!r} is served: what is trained are weights in this process")
    folder = cls.train(Training(**{field.name: getattr(args, field.name) for field in fields(Training)}))
    if int(os.environ.get("RANK", "0")):  # one of several processes speaks for all
        return 0
    print(
        f"Trained: {folder}\n  python run_eval.py --models {args.model} --model-args {args.model}:pretrained={folder}"
    )
    return 0

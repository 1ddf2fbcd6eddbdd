"""The verb ``ask``: questions about a video or an image of one's own."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from vamba_eval.cli import arguments
from vamba_eval.cli.arguments import Verbs, add_verb


def add_parsers(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "ask",
        _ask,
        "ask a model about a video or an image of yours",
        "Ask a model about a video or an image. It is read and encoded once, however many questions there are. Without "
        "a question, questions are read line by line.",
    )
    add = parser.add_argument
    add("path", type=Path, metavar="VIDEO_OR_IMAGE")
    add("questions", nargs="*", default=[], metavar="QUESTION")
    add(
        "--model",
        type=arguments.model,
        default="vamba",
        metavar="M[:K=V,...]",
        help="model and its arguments, such as vamba:pretrained=PATH; or a checkpoint's folder or Hub id "
        "(default: vamba)",
    )
    add("--num-frames", type=int, default=512, metavar="N", help="frames of the video (default: 512)")
    add("--shortest-edge", type=int, default=256, metavar="PX", help="enlarge edges that are shorter (default: 256)")
    add(
        "--longest-edge",
        type=int,
        default=480,
        metavar="PX",
        help="shrink frames whose longer edge is longer (default: 480)",
    )
    add("--max-new-tokens", type=int, default=512, metavar="N", help="longest answer (default: 512)")


def _ask(args: Namespace) -> int:
    from vamba_eval.run.ask import ask

    name, model_args = args.model
    sizes = {"shortest_edge": args.shortest_edge, "longest_edge": args.longest_edge}
    questions = args.questions or _typed_questions()
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

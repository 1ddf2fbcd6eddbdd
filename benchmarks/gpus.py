"""One GPU against several of one machine: a real run of Vamba at its released size (random weights), on Ray.

Makes H.264 videos of 12 s to 4 min, asks two questions about each, with two frames a second up to 512; first a dozen
alone in one process (which also compiles kernels), then all with ``--gpus 1`` and ``--gpus N``. Times are those from
the first video to the last answer, without loading the model; responses are compared.

    python benchmarks/gpus.py [--gpus 2] [--videos 144] [--model-args vamba:pretrained=PATH]
    python benchmarks/gpus.py --cpu --videos 2 --seconds 1 2     # only to see that it works: without GPUs and Vamba

Prints Markdown. To reach: 1.9 times one GPU on two.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

KINDS = 12  # videos of different lengths; the rest are copies
RATE = 25  # frames a second
FORM: dict[str, Any] = {"rate": RATE, "size": (360, 640), "options": {"preset": "veryfast", "crf": "23"}}
VAMBA = "vamba:random=released,dtype=bfloat16"
PLUGINS = REPOSITORY / "tests" / "plugins.py"
DONE = re.compile(r"([\d,]+) videos in ([\d,.]+) s")


def make(folder: Path, videos: int, shortest_s: int, longest_s: int) -> None:
    from videos import make_video

    kinds = min(KINDS, videos)
    lengths = [RATE * (shortest_s + (longest_s - shortest_s) * kind // max(1, kinds - 1)) for kind in range(kinds)]
    with ProcessPoolExecutor() as pool:
        made = [
            pool.submit(make_video, folder / f"{kind:03}.mp4", frames=frames, **FORM)
            for kind, frames in enumerate(lengths)
        ]
        for one in made:
            one.result()
    for number in range(kinds, videos):
        shutil.copy(folder / f"{number % kinds:03}.mp4", folder / f"{number:03}.mp4")


def run(data: Path, output: Path, model: Sequence[str], *more: str) -> tuple[float, str, dict[str, str]]:
    """Seconds, what the run says of itself, and all responses."""
    from stored import latest_records

    words = ["run_eval.py", "--tasks", f"{PLUGINS}:FolderTask", *model]
    words += ["--data-root", str(data), "--output", str(output)]
    words += ["--strategy", "fps", "--fps", "2", "--num-frames", "512", "--max-new-tokens", "8", *more]
    done = subprocess.run([sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True)
    (said,) = [line for line in done.stderr.splitlines() if DONE.search(line)] or [done.stderr[-3000:]]
    if done.returncode:
        raise SystemExit(f"exit status {done.returncode}\n{done.stderr[-3000:]}\n{done.stdout[-3000:]}")
    match = DONE.search(said)
    assert match is not None, said
    records = latest_records(output / "folder" / "folder.vamba.jsonl")
    responses = {name: f"{record['frames_digest']} {record['response']}" for name, record in records.items()}
    return float(match[2].replace(",", "")), said, responses


def gpus_here() -> int:
    import torch

    return torch.cuda.device_count()


def equal(responses: dict[str, str], others: dict[str, str]) -> str:
    return f"{sum(responses[question] == response for question, response in others.items())} of {len(others)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--videos", type=int, default=144)
    parser.add_argument("--seconds", type=int, nargs=2, default=(12, 240), metavar=("SHORTEST", "LONGEST"))
    parser.add_argument("--model-args", default=VAMBA, help=f"default: {VAMBA}")
    parser.add_argument("--cpu", action="store_true", help="replicas without GPUs, of a model that answers at once")
    args = parser.parse_args()
    if not args.cpu and (there := gpus_here()) < args.gpus:
        print(f"this measures {args.gpus} GPUs, and there are {there}: --cpu shows whether it works", file=sys.stderr)
        sys.exit(2)
    model = ["--models", "vamba", "--model-args", args.model_args]
    if args.cpu:
        model = ["--models", f"vamba={PLUGINS}:Careful"]
    several = "--replicas" if args.cpu else "--gpus"
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "data"
        data.mkdir()
        make(data, args.videos, *args.seconds)
        _, _, alone = run(data, Path(place) / "alone", model, "--limit", str(KINDS))
        print("| run | s | times one GPU | responses as alone | as with one GPU |")
        print("| --- | --- | --- | --- | --- |")
        runs: list[tuple[float, dict[str, str]]] = []
        remarks = []
        for gpus in (1, args.gpus):
            seconds, said, responses = run(data, Path(place) / f"{gpus}", model, several, f"{gpus}")
            runs.append((seconds, responses))
            remarks.append(said)
            one, of_one = runs[0]
            same = (equal(responses, alone), equal(responses, of_one))
            print(f"| {several} {gpus} | {seconds:.1f} | {one / seconds:.2f} | {same[0]} | {same[1]} |", flush=True)
        print("", *remarks, sep="\n")


if __name__ == "__main__":
    main()

"""What the loop itself costs: seconds a question and memory, with a model that answers at once.

Runs ``constant`` over annotations of Video-MME's shape (900 videos, 2,700 questions, no video files) and
over ten times as many, then rebuilds the leaderboard. To reach: under 5 ms a question, and memory that does
not grow with the number of questions beyond the annotations themselves.

    python benchmarks/harness_overhead.py [--videos 900 9000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]


def measure(videos: int) -> dict[str, float]:
    """One process: load the annotations, answer everything, make the tables."""
    from benchmark_files import videomme_rows, write_videomme

    from vamba_eval import evaluate, load_task
    from vamba_eval.cost import meter

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (write_videomme(root, videomme_rows(videos)) / "data").rmdir()
        load_task("videomme").load(root)  # imports and file cache
        meter.reset_resident_peak()
        loaded = meter.resident_peak()
        start = time.perf_counter()
        evaluate(["videomme"], ["constant"], data_root=root, output=root / "out", progress=False)
        seconds = time.perf_counter() - start
        peak = meter.resident_peak()
        command = [sys.executable, str(REPOSITORY / "run_eval.py"), "leaderboard", str(root / "out")]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        leaderboard = time.perf_counter() - start
    return {
        "questions": 3 * videos,
        "seconds": seconds,
        "grown_mib": (peak - loaded) / 2**20,
        "leaderboard_s": leaderboard,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--videos", type=int, nargs="+", default=[900, 9000], help="of three questions each")
    parser.add_argument("--measure", type=int, metavar="VIDEOS", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    print("| questions | s in all | ms/question | memory grown, MiB | leaderboard command, s |")
    print("| --- | --- | --- | --- | --- |")
    for videos in args.videos:
        command = [sys.executable, __file__, "--measure", str(videos)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        m = json.loads(done.stdout.splitlines()[-1])
        each = 1000 * m["seconds"] / m["questions"]
        cells = [f"{m['questions']:,}", f"{m['seconds']:.2f}", f"{each:.3f}", f"{m['grown_mib']:.0f}"]
        print(f"| {' | '.join(cells)} | {m['leaderboard_s']:.2f} |")


if __name__ == "__main__":
    main()

"""The loss of the small Vamba's training, from its log, as docs/vamba-small.svg.

python benchmarks/small_curve.py [--output FILE.svg] (needs matplotlib)
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER = REPOSITORY / "model_adapters" / "vamba" / "small"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs" / "vamba-small.svg")
    output = parser.parse_args().output
    plt.rcParams["svg.hashsalt"] = "vamba-small"  # the same file every time
    card = json.loads((FOLDER / "training.json").read_text())
    log = [json.loads(line) for line in (FOLDER / "training_log.jsonl").read_text().splitlines()]
    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    before = 0
    for number, run in enumerate(card["runs"], 1):
        lines = [line for line in log if line["run"] == number]
        axes.plot([before + line["step"] for line in lines], [line["loss"] for line in lines], ".-", markersize=3)
        name = run["data"].removesuffix(".yaml").replace("_", " ")
        axes.text(before + 40, 1.02, name, fontsize=8, transform=axes.get_xaxis_transform())
        axes.axvline(before, color="0.8", linewidth=0.8, zorder=0)
        before += run.get("stopped_at", run["steps"])
    axes.set(yscale="log", ylim=(2e-3, 10), xlabel="optimizer steps of 128 videos", ylabel="loss, nats an answer token")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, metadata={"Date": None})
    print(f"{before:,} steps: {output}")


if __name__ == "__main__":
    main()

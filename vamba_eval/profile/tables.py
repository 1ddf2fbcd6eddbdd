"""A sweep as tables (Markdown, CSV, JSON) and plots (SVG, PNG), beside the Vamba paper's points.

Reads rows as a sweep stores them; measures nothing, and needs no torch. Plots need matplotlib.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from vamba_eval.contracts import UserError
from vamba_eval.files import replace_text
from vamba_eval.plain import json_text
from vamba_eval.profile.point import CRASHED, OK
from vamba_eval.profile.sweep import MOST_FRAMES, in_order, read_points, read_sweep
from vamba_eval.tables.costs import Distribution
from vamba_eval.tables.published import published_folder
from vamba_eval.tables.text import markdown_table, write_csv

GIB = 2**30

# The size of frames in the paper's Figures 3 and 4 (arXiv 2503.11579).
PAPER_SIZE = (640, 360)
_NAMES = ("adapter", "adapter_source")  # of a model in sweep.json; all else are its arguments

# Those that speed depends on most.
_PACKAGES = ("torch", "transformers", "triton", "mamba-ssm", "causal-conv1d", "flash-attn", "flash-attn-4")


@dataclass(frozen=True)
class Quantity:
    """A figure of a row: ``key`` names its samples (or the field itself), ``scale`` turns it into ``unit``.

    ``reported`` is its name in results/published/efficiency.csv.
    """

    key: str
    title: str
    unit: str
    scale: float = 1.0
    plotted: bool = False
    reported: str = ""


_MEMORY = (
    Quantity("gpu_allocated", "peak GPU memory", "GiB", 1 / GIB, plotted=True),
    Quantity("gpu_reserved", "reserved", "GiB", 1 / GIB),
    Quantity("host_bytes", "host memory", "GiB", 1 / GIB),
)

QUANTITIES: dict[str, tuple[Quantity, ...]] = {
    "prefill": (
        Quantity("first_answer_s", "frames to first token", "s", plotted=True),
        Quantity("preprocess_s", "preprocessing", "s"),
        Quantity("encode_s", "encoding", "s"),
        Quantity("question_s", "question", "s"),
        Quantity("gpu_allocated", "peak GPU memory", "GiB", 1 / GIB, True, "prefill_gpu_memory"),
        *_MEMORY[1:],
        Quantity("flops", "operations", "TFLOP", 1e-12, True, "prefill_flops"),
        Quantity("energy_j", "energy", "J"),
    ),
    "decode": (
        Quantity("token_s", "further token", "ms", 1e3, plotted=True),
        Quantity("answer_s", "whole answer", "s"),
        *_MEMORY,
        Quantity("token_flops", "operations a token", "GFLOP", 1e-9),
        Quantity("token_j", "energy a token", "J"),
    ),
    "train": (
        Quantity("step_s", "seconds", "s", 1.0, True, "training_step_time"),
        Quantity("preprocess_s", "preprocessing", "s"),
        Quantity("forward_s", "forward", "s"),
        Quantity("backward_s", "backward", "s"),
        Quantity("gpu_allocated", "peak GPU memory", "GiB", 1 / GIB, True, "training_gpu_memory"),
        *_MEMORY[1:],
        Quantity("flops", "operations", "TFLOP", 1e-12, plotted=True),
        Quantity("energy_j", "energy", "J"),
    ),
}

_TITLES = {"prefill": "Prefill", "decode": "Decoding", "train": "Training step"}


def save(folder: Path) -> list[Path]:
    """Write tables and plots of the sweep in ``folder`` there; the files. Raises UserError where there is none."""
    info, rows = read_sweep(folder), read_points(folder)
    if not rows:
        raise UserError(f"{folder} holds no measured point yet")
    paths = [folder / "profile.md", folder / "profile.csv", folder / "profile.json"]
    replace_text(paths[0], markdown(info, rows))
    write_csv(paths[1], [_flat(info, row) for row in rows])
    replace_text(paths[2], json_text({**info, "points": rows}, indent=1) + "\n")
    return paths + plot(folder, info, rows)


def spread_of(row: Mapping[str, Any], quantity: Quantity) -> Distribution | None:
    """In the quantity's unit; None where the row does not have it."""
    value = row.get("samples", {}).get(quantity.key, row.get(quantity.key))
    values = value if isinstance(value, list) else [value]
    return Distribution.of(None if v is None else v * quantity.scale for v in values)


def markdown(info: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Everything to read: what was measured where, a table for each phase and size, the longest videos."""
    parts = ["# What an answer costs as videos grow longer", _about(info, rows)]
    for (phase, width, height), group in _groups(rows).items():
        parts.append(f"## {_TITLES.get(phase, phase)}, {width}x{height}")
        parts.append(_table(phase, [row for row in group if not row.get("probe")]))
    if longest := _longest_table(rows):
        parts += ["## The longest video that fits", longest]
    return "\n\n".join(part for part in parts if part) + "\n"


def hardware(info: Mapping[str, Any]) -> str:
    """One line: the machine, its driver, and the versions that speed depends on."""
    environment = info["environment"]
    machine, packages = environment["hardware"], environment["packages"]
    gpus = machine.get("gpus") or []
    parts = [f"{len(gpus)} x {gpus[0]}" if len(set(gpus)) == 1 and len(gpus) > 1 else ", ".join(gpus) or "no GPU"]
    if machine.get("driver"):
        parts.append(f"driver {machine['driver']} (CUDA {machine.get('driver_cuda', '?')})")
    parts.append(machine["cpu"])
    parts.append(f"Python {environment['python']}")
    parts += [f"{name} {packages[name]}" for name in _PACKAGES if name in packages]
    parts.append(f"vamba-eval {environment['vamba_eval']}")
    return ", ".join(parts)


def _about(info: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    how = info["how"]
    lines = [
        f"- Measured on {hardware(info)}.",
        f"- Questions of {how['prompt_tokens']} tokens, answers of {how['new_tokens']}; medians of {how['repeats']} "
        "after a warm-up [5th, 95th percentile]. Each point is a process of its own.",
    ]
    for label in dict.fromkeys(row["model"] for row in rows):
        described: dict[str, Any] = next(
            (row["model_is"] for row in rows if row["model"] == label and "model_is" in row), {}
        )
        arguments = info["models"].get(label, {})
        words = [f"{key}={value}" for key, value in {**arguments, **described}.items() if key not in _NAMES]
        lines.append(f"- {label}: adapter {arguments.get('adapter', label)}; {', '.join(words) or 'its defaults'}.")
    return "\n".join(lines)


def _table(phase: str, rows: Sequence[Mapping[str, Any]]) -> str:
    quantities = [q for q in QUANTITIES[phase] if any(spread_of(row, q) for row in rows)]
    if not rows:
        return ""
    titles = [f"{q.title}, {q.unit}" for q in quantities] or ["outcome"]
    table = []
    for row in rows:
        tokens = f"{row['video_tokens']:,}" if row.get("video_tokens") else ""
        cells = {"model": row["model"], "frames": f"{row['frames']:,}", "video tokens": tokens}
        if row["outcome"] == OK:
            said = [_cell(row, quantity) for quantity in quantities]
        else:
            said = [f"**{row['outcome']} at {row['frames']:,}**"]
        table.append(cells | dict(zip_longest(titles, said, fillvalue="")))
    reasons = [f"- {row['model']}, {row['frames']:,} frames: {row['detail']}" for row in rows if row["outcome"] != OK]
    parts = [markdown_table(table, right=["frames", "video tokens", *titles]), "\n".join(reasons)]
    return "\n\n".join(part for part in parts if part)


def _cell(row: Mapping[str, Any], quantity: Quantity) -> str:
    if (spread := spread_of(row, quantity)) is None:
        return ""
    if spread.p5 == spread.p95:
        return _number(spread.median)
    return f"{_number(spread.median)} [{_number(spread.p5)}, {_number(spread.p95)}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def longest(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each model, phase and size with a video that does not fit: the longest that does, and what ends it."""
    found = []
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["phase"], row["width"], row["height"]), []).append(row)
    for (model, phase, width, height), group in groups.items():
        fitting = max((row["frames"] for row in group if row["outcome"] == OK), default=0)
        too_long = [row for row in group if row["outcome"] not in (OK, CRASHED) and row["frames"] > fitting]
        if not too_long and fitting < MOST_FRAMES:
            continue
        end = min(too_long, key=lambda row: row["frames"], default=None)
        found.append(
            {
                "model": model,
                "phase": phase,
                "size": f"{width}x{height}",
                "fits": fitting,
                "ends_at": end["frames"] if end else None,
                "because": end["outcome"] if end else "nothing longer was tried",
            }
        )
    return found


def _longest_table(rows: Sequence[Mapping[str, Any]]) -> str:
    table = [
        {
            **{name: each[name] for name in ("model", "phase", "size")},
            "frames that fit": f"{each['fits']:,}",
            "and then": f"{each['because']} at {each['ends_at']:,}" if each["ends_at"] else each["because"],
        }
        for each in longest(rows)
    ]
    return markdown_table(table, right=["frames that fit"]) if table else ""


def _flat(info: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the CSV, with hardware and versions: each can be read by itself."""
    environment = info["environment"]
    machine, packages = environment["hardware"], environment["packages"]
    arguments = {key: value for key, value in info["models"].get(row["model"], {}).items() if key not in _NAMES}
    flat: dict[str, Any] = {
        "model": row["model"],
        "adapter": info["models"].get(row["model"], {}).get("adapter"),
        "arguments": ",".join(f"{key}={value}" for key, value in arguments.items()),
        **{name: row[name] for name in ("phase", "width", "height", "frames", "outcome")},
        "detail": row.get("detail", ""),
        "only_whether_it_fits": bool(row.get("probe")),
        **{name: row.get(name) for name in ("prompt_tokens", "new_tokens", "video_tokens", "load_s", "repeats")},
    }
    seen = dict.fromkeys(q.key for group in QUANTITIES.values() for q in group)
    for key in seen:
        if key in row.get("samples", {}):
            spread = Distribution.of(row["samples"][key])
            flat |= {
                key: spread and spread.median,
                f"{key}_p5": spread and spread.p5,
                f"{key}_p95": spread and spread.p95,
            }
        else:
            flat[key] = row.get(key)
    flat |= {
        "gpu_utilization": row.get("gpu_utilization"),
        "gpu": "; ".join(machine.get("gpus") or []),
        "driver": machine.get("driver"),
        "driver_cuda": machine.get("driver_cuda"),
        "cpu": machine["cpu"],
        "python": environment["python"],
        **{name: packages.get(name) for name in _PACKAGES},
        "vamba_eval": environment["vamba_eval"],
        "measured": row.get("measured"),
    }
    return flat


def _groups(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int, int], list[Mapping[str, Any]]]:
    groups: dict[tuple[str, int, int], list[Mapping[str, Any]]] = {}
    for row in in_order(rows):
        groups.setdefault((row["phase"], row["width"], row["height"]), []).append(row)
    return groups


def reported() -> list[dict[str, Any]]:
    """The paper's points: figure, quantity, model, frames, value, unit, note."""
    with open(published_folder() / "efficiency.csv", newline="", encoding="utf-8") as file:
        return [{**row, "frames": int(row["frames"]), "value": float(row["value"])} for row in csv.DictReader(file)]


def plot(folder: Path, info: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Path]:
    """One figure for each phase and size, as SVG and PNG; none where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return []
    paths = []
    with matplotlib.rc_context({"svg.hashsalt": "vamba-eval", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}):
        for (phase, width, height), group in _groups(rows).items():
            figure = _figure(info, phase, (width, height), [row for row in group if not row.get("probe")])
            if figure is None:
                continue
            for kind in ("svg", "png"):
                paths.append(folder / f"profile-{phase}-{width}x{height}.{kind}")
                figure.savefig(paths[-1], dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return paths


def _figure(info: Mapping[str, Any], phase: str, size: tuple[int, int], rows: Sequence[Mapping[str, Any]]) -> Any:
    from matplotlib.figure import Figure

    quantities = [q for q in QUANTITIES[phase] if q.plotted and any(spread_of(row, q) for row in rows)]
    if not quantities:
        return None
    figure = Figure(figsize=(4.2 * len(quantities), 4.4), layout="constrained")
    labels = list(dict.fromkeys(row["model"] for row in rows))
    colors = {label: f"C{number}" for number, label in enumerate(labels)}
    papers = [point for point in reported() if size == PAPER_SIZE]
    names = {row["model"]: row["reported_as"] for row in rows if row.get("reported_as")}
    drawn: dict[str, Any] = {}
    for axes, quantity in zip(figure.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
        for label in labels:
            drawn |= _draw_model(axes, quantity, label, colors[label], [row for row in rows if row["model"] == label])
        for name in dict.fromkeys(point["model"] for point in papers):
            points = [p for p in papers if p["model"] == name and p["quantity"] == quantity.reported]
            if points:
                label, color = f"{name} (paper)", next((colors[k] for k, v in names.items() if v == name), "0.5")
                x, y = [p["frames"] for p in points], [p["value"] for p in points]
                (drawn[label],) = axes.plot(x, y, "s--", color=color, mfc="white", alpha=0.7, lw=1)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.12)
        axes.set(
            xlabel=f"frames of {size[0]}x{size[1]}", ylabel=quantity.unit, title=f"{_TITLES[phase]}: {quantity.title}"
        )
    figure.legend(drawn.values(), drawn.keys(), loc="outside upper center", ncols=min(4, len(drawn)), frameon=False)
    figure.supxlabel(_caption(info, any("paper" in label for label in drawn)), fontsize=7, color="0.35")
    return figure


def _draw_model(
    axes: Any, quantity: Quantity, label: str, color: str, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    points = [(row["frames"], spread) for row in rows if (spread := spread_of(row, quantity)) is not None]
    if not points:
        return {}
    x, y = [frames for frames, _ in points], [spread.median for _, spread in points]
    (line,) = axes.plot(x, y, "o-", color=color, ms=4)
    axes.fill_between(x, [s.p5 for _, s in points], [s.p95 for _, s in points], color=color, alpha=0.2, lw=0)
    for row in rows:
        if row["outcome"] != OK:
            axes.plot([row["frames"]], [y[-1]], "x", color=color, ms=8, mew=2)
            text = f"{row['outcome']}\nat {row['frames']:,}"
            below = {"textcoords": "offset points", "ha": "center", "va": "top", "fontsize": 7, "color": color}
            axes.annotate(text, (row["frames"], y[-1]), (0, -8), **below)
    return {label: line}


def _caption(info: Mapping[str, Any], with_paper: bool) -> str:
    import textwrap

    text = hardware(info) + "."
    if with_paper:
        text += (
            " The paper's points (arXiv 2503.11579, Figures 3 and 4) are read off its plots, in its GB, and were "
            "measured on other hardware with another software stack: compare shapes, not heights."
        )
    return "\n".join(textwrap.wrap(text, 150))

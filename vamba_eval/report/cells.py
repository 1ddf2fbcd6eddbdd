"""The cells of the table of counts and costs: what each shows, and by what it is sorted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vamba_eval.tables.result import Result
from vamba_eval.tables.text import shown

_GIB = 1 << 30

Cell = tuple[str, Any]  # what it shows, and by what it is sorted; None where nothing is known


TEXT_COLUMNS = ("Model", "Benchmark", "Run", "Protocol", "Asked", "Saw", "Ran as", "Hardware")


def cells(label: str, result: Result, *, several_kinds: bool) -> dict[str, Cell]:
    """By column, in their order."""
    row = result.row()
    best = row["best"] or 1.0
    kind = f" ({result.peak_kind})" if several_kinds else ""

    def number(name: str, text: Callable[[Any], str] = _three_digits, scale: float = 1) -> Cell:
        return ("", None) if row[name] is None else (text(row[name] * scale), row[name] * scale)

    def score(name: str) -> Cell:
        return number(name, lambda value: shown(value, row["unit"] or "%"))

    def span(low: Cell, high: Cell) -> Cell:
        return (f"{low[0]} – {high[0]}", low[1]) if low[0] and high[0] else ("", None)

    # In this process a prompt is the question alone, and seconds are a model's own: neither is to be put beside these.
    def served(name: str, scale: float = 1) -> Cell:
        return number(name, scale=scale) if result.provenance.served else ("", None)

    remark = " (random weights)" if result.random_weights else ""
    remark = f" (trained on {result.trained_on})" if result.trained_on else remark
    saw, ran = (" · ".join(parts) for parts in (result.provenance.saw(), result.provenance.ran()))
    count = "{:,}".format if not result.source else lambda _: ""
    return {
        "Model": (label + remark, label),
        "Benchmark": (result.title, result.title),
        "Run": (result.run, result.run),
        "Protocol": (result.protocol, result.protocol),
        "Frames": ("", None) if result.num_frames is None else (str(result.num_frames), result.num_frames),
        "Asked": (result.asked, result.asked),
        "Score": (score("score")[0], row["score"] and row["score"] / best),
        "95 % interval": span(score("ci95_low"), score("ci95_high")),
        "First answer": number("first_answer_s"),
        "5th – 95th": span(number("first_answer_s_p5"), number("first_answer_s_p95")),
        "Memory": number("peak_memory_bytes", f"{{:.2f}}{kind}".format, 1 / _GIB),
        "Select": number("select_s_per_question"),
        "Encode": number("encode_s_per_video"),
        "Answer": number("generate_s_per_question"),
        "Tokens/s": number("tokens_per_s"),
        "Latency": served("latency_s"),
        "At once": served("in_flight"),
        "Prompt": served("prompt_tokens"),
        "New": served("new_tokens"),
        "$/1,000": served("price_per_question", 1000),
        "$/right": served("price_per_correct"),
        "Answered": number("answered", lambda n: count(n) + ("" if result.complete else f" / {result.asked_for:,}")),
        "Unparsed": number("unparsed", count),
        "Failed": number("failed", count),
        "Chance": number("chance", shown),
        "Saw": (saw, saw or None),
        "Ran as": (ran, ran or None),
        "Hardware": (result.hardware, result.hardware),
    }


def _three_digits(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"

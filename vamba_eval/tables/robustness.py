"""What answers owe to the way of asking, as text and as columns of the CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vamba_eval.contracts import Metric
from vamba_eval.score.robustness import Preference, Robustness
from vamba_eval.tables.text import markdown_table, shown, signed

if TYPE_CHECKING:
    from vamba_eval.tables.result import Result


def asked_otherwise(fingerprint: Mapping[str, Any]) -> str:
    """How else than its protocol asks a benchmark was asked, in a few words; "" where in no other way."""
    orders, wordings = fingerprint.get("rotate_options"), fingerprint.get("prompt_variants", 1)
    said = [f"{orders} orders"] if orders else []
    said += [f"{wordings} wordings"] if wordings > 1 else []
    ways = " x ".join(said)
    return ", ".join(text for text in (ways, "frames shuffled" * ("shuffle_frames" in fingerprint)) if text)


def robustness_row(found: Robustness | None) -> dict[str, Any]:
    """Columns of the CSV; shares in [0, 1]."""
    found = found or Robustness()
    row: dict[str, Any] = {}
    for name, changed in (("order", found.orders), ("wording", found.wordings)):
        row |= {
            f"agreement_over_{name}s": changed and changed.agreement.value,
            f"right_in_every_{name}": changed and changed.every.value,
        }
    preferred = found.preferred
    row |= {"preferred_letter": preferred, "letter_preference": preferred and found.letters[preferred].excess}
    return row


EXPLAINED = (
    "In %, with 95 % intervals clustered by video. Agreement: of two responses to one question, how often both choose "
    "the same option. Letters preferred: those surely chosen more often, by so many percentage points, than if each "
    "option were chosen as often in any place."
)


def robustness_markdown(results: Sequence[Result]) -> str:
    """Those rows as a table, and what its columns say; "" without any."""
    rows = robustness_rows(results)
    return f"{markdown_table(rows)}\n\n{EXPLAINED}" if rows else ""


def robustness_rows(results: Sequence[Result]) -> list[dict[str, str]]:
    """A row for each result whose questions were asked in several ways."""
    rows = []
    for result in results:
        if (found := result.robustness) is None:
            continue
        frames = f" @{result.num_frames}" if result.num_frames else ""
        row = {"Model": f"{result.model}{frames}", "Benchmark": result.title, "Asked": result.asked}
        if result.summary.metrics:
            row["Score"] = _cell(result.summary.headline[1])
        if found.orders is not None:
            row["Right in every order"] = _cell(found.orders.every)
            row["Agreement over orders"] = _cell(found.orders.agreement)
            row["Letters preferred"] = _preferred(found.letters)
        if found.wordings is not None:
            row["Right in every wording"] = _cell(found.wordings.every)
            row["Agreement over wordings"] = _cell(found.wordings.agreement)
            row["Score by wording"] = ", ".join(shown(each.value, each.unit) for each in found.by_wording.values())
        rows.append(row)
    return rows


def _cell(metric: Metric) -> str:
    value, *ends = (end if end is None else shown(end, metric.unit) for end in (metric.value, metric.low, metric.high))
    return f"{value} [{', '.join(end for end in ends if end)}]" if all(ends) else str(value)


def _preferred(letters: Mapping[str, Preference]) -> str:
    """Letters that are surely chosen for their own sake."""
    sure = sorted((-each.excess, letter) for letter, each in letters.items() if each.sure)
    return ", ".join(f"{letter} {signed(-less)}" for less, letter in sure) or ("none" if letters else "-")

"""Benchmarks that are asked together: ``--tasks suite:NAME``. A suite is a list of names, and says where it is from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    """``summary`` is what the list of suites shows; ``source`` says who put these benchmarks together."""

    tasks: tuple[str, ...]
    summary: str
    source: str


SUITES = {
    "vamba-paper": Suite(
        ("lvbench", "hourvideo", "houreval", "videomme", "mlvu", "longvideobench", "mvbench", "nextqa", "dream1k"),
        "the Vamba paper's: hour-long, medium and short videos",
        "Ren et al., ICCV 2025, arXiv 2503.11579, tables 4 and 5",
    ),
    "long": Suite(
        (
            *("videomme", "mlvu", "longvideobench", "lvbench", "hourvideo"),
            *("timescope", "longtimescope", "vsi_super_recall"),
        ),
        "videos of minutes to hours, with options",
        "this project: benchmarks here whose videos last up to an hour or more, some with needles in them",
    ),
    "2026": Suite(
        (
            "videomme_v2",
            "videommmu",
            "mmvu",
            "perceptiontest",
            "tempcompass",
            "egoschema",
            "motionbench",
            "tomato",
            "cgbench",
            "charades_sta",
        ),
        "what model cards of 2025 and 2026 report besides",
        "this project: by how many of fifteen model cards and papers of 2025 and 2026 report each",
    ),
}

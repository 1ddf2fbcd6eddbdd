"""LongTimeScope: TimeScope's questions about needles in videos of up to ten hours.

By TimeScope's authors; data set cards: Apollo-LMMs/LongTimeScope2, which lmms-eval reads, and
Apollo-LMMs/LongTimeScope.
"""

from __future__ import annotations

from vamba_eval.contracts import Catalogue, Dataset, InLmmsEval

from .timescope import TimeScope


class LongTimeScope(TimeScope):
    name = "longtimescope"
    version = "1"
    catalogue = Catalogue(
        title="LongTimeScope",
        homepage="https://huggingface.co/datasets/Apollo-LMMs/LongTimeScope2",
        citation=TimeScope.catalogue.citation,
        # Archives in parts of 32 GB (compressed_archive.tar.part00 ... in Apollo-LMMs/LongTimeScope).
        dataset=Dataset(
            hub_id="Apollo-LMMs/LongTimeScope2",
            files=("data/*", "*.tar*", "*.zip"),
            unpack_into="",
            lmms_eval="longtimescope",
            lmms_ids=("Apollo-LMMs/LongTimeScope2",),
        ),
        in_lmms_eval=InLmmsEval(
            tasks={"longtimescope": None}, functions=frozenset(), groups={"task_type": "kind"}, video="video"
        ),
    )
    # lmms-eval 0.7.3 runs the last phrases together, for want of commas, and so removes none of them.
    removed = (
        *("The best answer is", "The correct answer is", "The answer is", "The answer"),
        *("The best option isThe correct option is", "Best answer:Best option:"),
    )

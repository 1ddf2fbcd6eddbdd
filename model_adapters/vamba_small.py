"""A small Vamba, trained on generated videos only: a toy that sees the synthetic benchmark.

docs/vamba-small.md tells how it was trained, and what it can and cannot do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .vamba.adapter import VambaAdapter

FOLDER = Path(__file__).parent / "vamba" / "small"


class VambaSmallAdapter(VambaAdapter):
    """Arguments: ``dtype`` (auto, bfloat16, float16, float32), ``device`` (auto, cpu, cuda, cuda:N),
    ``segment_frames`` (frames encoded at once; the answers do not depend on it), ``batch_size`` (prompts about one
    video answered at once).
    """

    name = "vamba_small"
    reported_as = ""

    def __init__(
        self, dtype: str = "auto", device: str = "auto", segment_frames: int | None = None, batch_size: int = 1
    ) -> None:
        super().__init__(str(FOLDER), dtype=dtype, device=device, segment_frames=segment_frames, batch_size=batch_size)

    def describe(self) -> dict[str, Any]:
        """The same wherever it is installed."""
        return super().describe() | {"pretrained": "vamba-eval", "trained_on": "generated videos only"}

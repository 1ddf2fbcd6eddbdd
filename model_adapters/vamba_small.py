"""A small Vamba, trained on generated videos only: a toy that sees the synthetic benchmark.

docs/vamba-small.md tells how it was trained, and what it can and cannot do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vamba_eval.contracts import Answer, Clip, GenerationSettings

from .vamba.adapter import VambaAdapter

if TYPE_CHECKING:
    from .vamba.attention import VideoMemory

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

    def encode(self, clip: Clip | None) -> VideoMemory | None:
        with _one_thread():
            return super().encode(clip)

    def generate(
        self, encoded: VideoMemory | None, prompts: Sequence[str], settings: GenerationSettings
    ) -> list[Answer]:
        with _one_thread():
            return super().generate(encoded, prompts, settings)


@contextmanager
def _one_thread() -> Iterator[None]:
    """On a CPU its operations are too small to share out: where cores are busy, threads only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""A model whose answers depend on what it sees, and that dies or runs out of memory where a prompt says so."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vamba_eval.contracts import Answer, Clip, GenerationSettings, ModelAdapter, UserError


class Seeing(ModelAdapter):
    name = "seeing"

    def __init__(self, marks: str = "", seconds: float | str = 0.0, refuse: str = "") -> None:
        """``marks`` is a folder in which it notes its deaths and, as PID.started, its processes with their nodes."""
        self.marks, self.seconds, self.refuse = Path(marks), float(seconds), refuse
        if marks:
            ray = sys.modules.get("ray")
            node = ray.get_runtime_context().get_node_id() if ray is not None else "none"
            (self.marks / f"{os.getpid()}.started").write_text(node)

    def encode(self, clip: Clip | None) -> Any:
        assert clip is not None
        if self.refuse:
            raise UserError(f"too many frames: use --num-frames {self.refuse}")
        return hashlib.sha256(clip.frames.tobytes() + clip.timestamps_s.tobytes()).hexdigest()

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        time.sleep(self.seconds)
        for prompt in prompts:
            once = self.marks / f"{prompt.split()[0]}.died"
            if prompt.startswith("poison ") or (prompt.startswith("mortal 1") and not once.exists()):
                once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if prompt.startswith("large 1"):
                raise MemoryError
        digests = [hashlib.sha256((encoded + prompt).encode()).hexdigest() for prompt in prompts]
        return [Answer(f"{'AB'[int(digest, 16) % 2]}: {digest}", 1) for digest in digests]

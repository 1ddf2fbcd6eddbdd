"""vamba-eval: how well long-video language models understand video, and what each answer costs.

The public names below are imported on first use, so that a command that needs no video and no
model (``list``, ``leaderboard``) starts at once.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vamba_eval._version import __version__

# A checkout keeps tasks/ and model_adapters/ at its top level, where people add to them; an installed
# copy has them inside this package. This makes the first look like the second without an install.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "run_eval.py").is_file():
    __path__.append(str(_checkout))

if TYPE_CHECKING:
    from vamba_eval.contracts import Answer as Answer
    from vamba_eval.contracts import Clip as Clip
    from vamba_eval.contracts import FrameSampling as FrameSampling
    from vamba_eval.contracts import ModelAdapter as ModelAdapter
    from vamba_eval.contracts import Question as Question
    from vamba_eval.contracts import Task as Task
    from vamba_eval.contracts import Video as Video
    from vamba_eval.registry import load_adapter as load_adapter
    from vamba_eval.registry import load_task as load_task
    from vamba_eval.run.evaluate import evaluate as evaluate
    from vamba_eval.tables.leaderboard import Leaderboard as Leaderboard
    from vamba_eval.video.read import read_clip as read_clip

_HOMES = {
    "Answer": "contracts",
    "Clip": "contracts",
    "ModelAdapter": "contracts",
    "Question": "contracts",
    "Task": "contracts",
    "Video": "contracts",
    "FrameSampling": "contracts",
    "Leaderboard": "tables.leaderboard",
    "evaluate": "run.evaluate",
    "load_adapter": "registry",
    "load_task": "registry",
    "read_clip": "video.read",
}
__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"vamba_eval.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'vamba_eval' has no attribute {name!r}")

"""Which of our models lmms-eval has, by name. Imports neither torch nor a model: lmms-eval calls it at every start."""

from __future__ import annotations

from typing import Any

_HOME = "vamba_eval.lmms.models"


def manifests() -> list[Any]:
    """The payload of the entry point: each model for chat messages, and for ``--force_simple``."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return [
        ModelManifest(model_id, f"{_HOME}.{name}Simple", f"{_HOME}.{name}Chat")
        for model_id, name in (("vamba", "Vamba"), ("vamba_qwen2_vl", "Qwen2VL"))
    ]

"""Which of our models lmms-eval has, by name. Imports neither torch nor a model: lmms-eval calls it at every start."""

from __future__ import annotations

import importlib.util
import pkgutil
from typing import Any

_HOME = "vamba_eval.lmms.models"
_FAMILY = "vamba"
_BLIND = ("constant", "random")  # adapters that look at no video


def adapters() -> dict[str, str]:
    """Our adapters that look at videos, by what lmms-eval calls them. Their names begin with `vamba` there, since it
    has models of the same names."""
    package = importlib.util.find_spec("vamba_eval.model_adapters")
    folders = package.submodule_search_locations if package is not None else None
    names = sorted(module.name for module in pkgutil.iter_modules(folders or ()))
    seeing = [name for name in names if not name.startswith("_") and name not in _BLIND]
    return {name if name.startswith(_FAMILY) else f"{_FAMILY}_{name}": name for name in seeing}


def manifests() -> list[Any]:
    """The payload of the entry point: each model for chat messages, and for ``--force_simple``."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return [
        ModelManifest(model_id, f"{_HOME}.{adapter}_simple", f"{_HOME}.{adapter}_chat")
        for model_id, adapter in adapters().items()
    ]

"""Models changed by somebody's function once they are loaded: token pruning, compression of the cache, and the like."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from vamba_eval.contracts import UserError, first_line
from vamba_eval.registry import module_at

from . import _transformers

# Parameters by which the adapter is right about positions and about memory.
_NEEDED = ("position_ids", "logits_to_keep")


def wrapped(model: Any, name: str) -> tuple[Any, dict[str, Any]]:
    """What the function ``name`` makes of ``model``, and what identifies it in a fingerprint: its name, and a hash of
    the source of its module.

    ``module:function``, or ``path/to/file.py:function``. It is called with the model and may change it in place, or
    return another one with its ``config``, ``generation_config``, ``forward`` and ``generate``. Raises UserError.
    """
    place, called = place_of(name)
    module = module_at(Path(place)) if place.endswith(".py") else _imported(place)
    function = getattr(module, called, None)
    if not callable(function):
        what = "has no" if function is None else "has no function, but another value,"
        raise UserError(f"wrap={name}: {place} {what} {called!r}")
    before = {each for each in _NEEDED if _transformers.takes(model, each)}
    try:
        other = function(model)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"wrap={name} failed: {type(error).__name__}: {first_line(error)}") from error
    model = model if other is None else other
    if lacking := [each for each in ("config", "generation_config", "forward", "generate") if not hasattr(model, each)]:
        raise UserError(
            f"wrap={name} returned a {type(model).__name__} without {', '.join(lacking)}: return a model of "
            "transformers, or None for one that is changed in place"
        )
    if lost := [each for each in before if not _transformers.takes(model, each)]:
        raise UserError(
            f"wrap={name}: the model's forward no longer says that it takes {lost[0]}: put @functools.wraps(forward) "
            "before the one that takes its place, or use a hook (register_forward_hook)"
        )
    known_as = f"{Path(place).name if place.endswith('.py') else place}:{called}"
    return model, {"wrap": known_as, "wrap_source": _source_digest(function, module, name)}


def place_of(name: str) -> tuple[str, str]:
    """The module or file, and the function, of which nothing is imported. Raises UserError."""
    place, _, called = name.rpartition(":")
    if not place or not called:
        raise UserError(f"wrap is {name!r}: write module:function, or the path of a .py file and a function in it")
    if place.endswith(".py") and not Path(place).is_file():
        raise UserError(f"wrap={name}: no such file: {place}")
    return place, called


def _imported(place: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and place.startswith(error.name):
            raise UserError(f"wrap: no module {place!r}: install it, or give the path of a .py file") from error
        raise UserError(f"wrap: {place} cannot be imported: {error}") from error
    except Exception as error:
        raise UserError(f"wrap: {place} cannot be imported: {type(error).__name__}: {first_line(error)}") from error


def _source_digest(function: Any, module: ModuleType, name: str) -> str:
    owner = sys.modules.get(getattr(function, "__module__", None) or "", module)
    try:
        file = inspect.getsourcefile(owner) or owner.__file__
        return hashlib.sha256(Path(str(file)).read_bytes()).hexdigest()[:16]
    except (TypeError, AttributeError, OSError) as error:
        raise UserError(f"wrap={name}: its module has no file by whose hash a run could know it") from error

"""Whether a checkpoint is where an argument says, known before torch is imported; what is in its files shows later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vamba_eval.contracts import UserError, first_line
from vamba_eval.hub import WITHIN_S, ask_hub

_WEIGHTS = ("*.safetensors", "*.bin")


def check_checkpoint(pretrained: str, revision: str | None = None) -> None:
    """Raise UserError for a folder without a checkpoint, and for a Hub id that is not to be had: there is none of that
    name, or it is neither in the Hub's cache nor is there a network."""
    folder = Path(pretrained).expanduser()
    if not pretrained.strip():
        raise UserError("pretrained= names no checkpoint: give a folder or a Hub id")
    if folder.is_dir():
        _check_folder(folder)
    elif folder.exists() or pretrained.startswith(("/", "~", ".")):
        raise UserError(f"no checkpoint folder at {pretrained}")
    else:
        _check_on_hub(pretrained, revision)


def _check_folder(folder: Path) -> None:
    if (folder / "adapter_config.json").exists():  # what to do with a LoRA is told where it is loaded
        return
    config = folder / "config.json"
    if not config.is_file():
        raise UserError(f"no checkpoint in {folder}: it holds no config.json")
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"no checkpoint in {folder}: its config.json cannot be read: {first_line(error)}") from error
    if not isinstance(found, dict):
        raise UserError(f"no checkpoint in {folder}: its config.json holds a {type(found).__name__}, not an object")
    if not any(any(folder.glob(pattern)) for pattern in _WEIGHTS):
        raise UserError(f"no checkpoint in {folder}: it holds no weights ({', '.join(_WEIGHTS)})")


def _check_on_hub(name: str, revision: str | None) -> None:
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def about() -> Any:
        return HfApi().model_info(name, revision=revision, timeout=WITHIN_S)

    try:
        if isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
            return
        ask_hub(about)
    except HFValidationError as error:
        raise UserError(
            f"no checkpoint at {name}: it is neither a folder nor a Hub id ({first_line(error)})"
        ) from error
    except GatedRepoError as error:
        raise UserError(
            f"{name} is gated: accept its terms at https://huggingface.co/{name} with your account, then give a token "
            "of that account (hf auth login, or the environment variable HF_TOKEN)"
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"there is no folder {name}, and no model of that name on the Hub, or it is private: check the name; a "
            "private one needs a token (hf auth login, or the environment variable HF_TOKEN)"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"the model {name} has no revision {revision!r} on the Hub") from error
    except HfHubHTTPError:  # it is there, and out of order: who loads the checkpoint tries again
        return
    except UserError as error:
        raise UserError(
            f"there is no folder {name}, and the Hub's cache has no model of that name: {error}; give a folder "
            "(pretrained=FOLDER), or fetch it where there is a network (hf download)"
        ) from error

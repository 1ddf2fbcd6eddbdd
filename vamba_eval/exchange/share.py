"""A finished run sent to where a group keeps its runs: Weights & Biases, or a dataset on the Hub.

Off unless asked for, and after the run's own files are written, so that a connection that fails costs nothing.
"""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vamba_eval.contracts import UserError, first_line
from vamba_eval.hub import ask_hub
from vamba_eval.machine import how_to_install
from vamba_eval.secrets import holds_secret, without_named, without_secrets
from vamba_eval.store.runs import read_info

if TYPE_CHECKING:
    from vamba_eval.tables.leaderboard import Leaderboard

# What belongs to a process at work or to this machine, not to the run; and pictures of videos, which are not ours to
# hand on.
_PRIVATE = [".lock", "*.tmp", "tracebacks.log", "thumbnails/*"]


def to_wandb(board: Leaderboard, folder: Path, project: str) -> str:
    """Log the run in ``folder`` to the project (``NAME`` or ``ENTITY/NAME``); where it can be seen.

    Scores and costs become the summary (``task/model/column``), tables a table, the folder's files an artifact, and
    run.json the configuration. Logging in is the library's own affair (``wandb login``, WANDB_API_KEY, WANDB_MODE).
    Raises UserError if it cannot be done.
    """
    try:
        import wandb
    except ImportError as error:
        raise UserError(f"logging to Weights & Biases needs its library: {how_to_install('wandb')}") from error
    _check_files(folder)
    entity, _, name = project.rpartition("/")
    try:
        with wandb.init(
            entity=entity or None,
            project=name,
            name=folder.name,
            config=without_named(read_info(folder)),
            job_type="evaluation",
            # It would send the command line, and what the terminal shows.
            settings=wandb.Settings(x_disable_meta=True, console="off"),
        ) as run:
            rows = without_secrets([result.row() for result in board.results])
            for row in rows:
                for column, value in row.items():
                    if isinstance(value, int | float) and not isinstance(value, bool):
                        run.summary[f"{row['task']}/{row['model']}/{column}"] = value
            columns = list(rows[0])
            run.log({"leaderboard": wandb.Table(columns=columns, data=[_cells(row, columns) for row in rows])})
            artifact = wandb.Artifact(f"{folder.name}-records".replace("+", "-"), type="evaluation")
            for path in sorted(folder.iterdir()):
                if path.is_file() and not any(path.match(pattern) for pattern in _PRIVATE):
                    artifact.add_file(str(path))
            run.log_artifact(artifact)
            where = str(run.url or f"offline, in {run.dir}")
    except Exception as error:  # the library raises of its own, of requests' and of the system's kinds
        raise UserError(
            f"the run could not be logged to Weights & Biases: {first_line(error)}. It is in {folder}"
        ) from error
    return where


def to_hub(folder: Path, repo_id: str) -> str:
    """Upload the run in ``folder`` to the dataset repository ``repo_id``, in a folder of its name; where it is.

    The repository is made, private, if there is none. Raises UserError if it cannot be done.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    _check_files(folder)
    api = HfApi()
    try:
        api.create_repo(repo_id, repo_type="dataset", private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=folder,
            path_in_repo=folder.name,
            ignore_patterns=_PRIVATE,
            commit_message=f"Evaluation run {folder.name}",
        )
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise UserError(
            f"the run could not be uploaded to {repo_id}: {first_line(error)}. It is in {folder}; a token is needed "
            "(hf auth login)"
        ) from error
    return str(commit.repo_url)


def check_can_share(wandb_project: str | None, hub_repo: str | None) -> None:
    """Raise UserError, before a run, where it could be sent to neither afterwards: no library, no token, no network."""
    if wandb_project is not None and importlib.util.find_spec("wandb") is None:
        raise UserError(f"--wandb needs the library of Weights & Biases: {how_to_install('wandb')}")
    if hub_repo is None:
        return
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(hub_repo)
        if get_token() is None:
            raise UserError("it needs a token (hf auth login, or the environment variable HF_TOKEN), and there is none")
        ask_hub(lambda: HfApi().whoami())
    except HFValidationError as error:
        raise UserError(f"--push-to-hub {hub_repo}: write OWNER/NAME ({first_line(error)})") from error
    except UserError as error:
        raise UserError(f"--push-to-hub {hub_repo}: {error}; or leave it out, and upload the run later") from error
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise UserError(
                f"--push-to-hub {hub_repo}: the Hub does not take the token: {first_line(error)}; hf auth login takes "
                "another, or HF_TOKEN"
            ) from error


def _check_files(folder: Path) -> None:
    """Raise UserError where a file holds a secret, as one of an earlier version may, or is a link, which may lead to
    any."""
    if link := next((path for path in sorted(folder.rglob("*")) if path.is_symlink()), None):
        raise UserError(f"{link} is a link: put the file itself there, or remove it, before the run is sent anywhere")
    holding = [path for path in sorted(folder.iterdir()) if path.is_file() and holds_secret(path.read_bytes())]
    with suppress(UserError):  # of another version, whose arguments have other places
        if without_named(info := read_info(folder)) != info:
            holding.append(folder / "run.json")
    if holding:
        raise UserError(f"{holding[0]} holds a key, a token or a password: take it out before the run is sent anywhere")


def _cells(row: dict[str, Any], columns: list[str]) -> list[Any]:
    """A column of a wandb table has one type; None fits all."""
    return [
        str(row[column]) if column == "num_frames" and row[column] is not None else row[column] for column in columns
    ]

"""A benchmark's dataset repository on the Hub: a snapshot of it, or what the package datasets keeps of its tables."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from vamba_eval.contracts import UserError, first_line
from vamba_eval.files import replacing, safe_name, user_cache

log = logging.getLogger(__name__)

# Archives of videos must be unpacked before use; fetching them with the annotations would be of no use.
_ARCHIVES = ["*.zip", "*.tar", "*.tar.*", "*.tgz", "*.7z", "*.rar"]
# How the Hub names a table of one split: ``CONFIG/SPLIT-00000-of-00001.parquet``; ``data`` stands for no name.
_TABLE = re.compile(r"(?:(?P<config>[\w.-]+)/)?(?P<split>[\w.]+)-\*\.parquet")


def find_in_repository(repo_id: str, expected: Sequence[str]) -> tuple[Path, Path | None]:
    """A copy of a dataset repository on this machine, and its first file that one of the glob patterns ``expected``
    matches (None: it has none).

    It is fetched, or found in the Hub's cache. Where neither can be (no network, ``HF_HUB_OFFLINE``), the table that
    ``datasets.load_dataset`` has prepared at another time is taken, and the folder is one without videos. Raises
    UserError where there is nothing.
    """
    try:
        folder = _snapshot(repo_id)
    except UserError as error:
        if (table := _prepared(repo_id, expected)) is None:
            raise
        log.warning("%s; the table that datasets keeps of it is used: %s", first_line(error), table)
        return table.parent, table
    found = (match for pattern in expected for match in sorted(folder.glob(pattern)))
    return folder, next(found, None)


def _snapshot(repo_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo_id, repo_type="dataset", ignore_patterns=_ARCHIVES))
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OSError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise UserError(
            f"the dataset {repo_id} cannot be fetched ({first_line(error)}): check its name and your connection; "
            "a gated dataset needs its terms accepted on its page and a token (hf auth login)"
        ) from error


def _prepared(repo_id: str, expected: Iterable[str]) -> Path | None:
    """The first of the tables ``expected`` that is in the cache of datasets, as a parquet file."""
    tables = [match for pattern in expected if (match := _TABLE.fullmatch(pattern))]
    if not tables:
        return None
    import datasets

    for match in tables:
        config = None if match["config"] in (None, "data") else match["config"]
        for name in dict.fromkeys((config, None)):
            with suppress(OSError, LookupError, ValueError, datasets.exceptions.DatasetsError):
                rows = datasets.load_dataset(repo_id, name, split=match["split"])
                folder = user_cache() / "datasets" / safe_name(f"{repo_id}--{name or 'default'}")
                path = folder / f"{match['split']}-00000-of-00001.parquet"
                folder.mkdir(parents=True, exist_ok=True)
                with replacing(path) as unfinished:
                    rows.to_parquet(unfinished)
                return path
    return None

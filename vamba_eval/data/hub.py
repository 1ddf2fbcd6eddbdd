"""The Hub: which files a dataset repository has, and fetching them, each gone on with where it stopped.

Knows no benchmark, and nothing of archives. Files are fetched with huggingface_hub's ``http_get``, because its
``snapshot_download`` (2.4) begins a file anew that another process did not finish, and these are of several GB.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from vamba_eval.contracts import UserError
from vamba_eval.data.state import RemoteFile, State, is_whole, path_inside
from vamba_eval.progress import Bar

_THREADS = 8


@dataclass(frozen=True)
class Repository:
    """A dataset repository at one commit, with all its files in the order of their paths."""

    hub_id: str
    commit: str
    files: tuple[RemoteFile, ...]


def find_repository(hub_id: str, revision: str | None) -> Repository:
    """The repository at a branch, tag or commit (None: its main branch). Raises UserError for what is not there."""
    from huggingface_hub import HfApi

    with _hub_errors(hub_id):
        about = HfApi().dataset_info(hub_id, revision=revision, files_metadata=True)
    files = []
    for entry in about.siblings or []:
        digest = entry.lfs.sha256 if entry.lfs else entry.blob_id
        if entry.size is None or digest is None:
            raise UserError(f"the Hub states no size for {entry.rfilename} in {hub_id}")
        path_inside(Path(), entry.rfilename, hub_id)
        files.append(RemoteFile(entry.rfilename, entry.size, digest))
    return Repository(hub_id, str(about.sha), tuple(sorted(files, key=lambda file: file.path)))


def fetch(files: Sequence[RemoteFile], repository: Repository, state: State, bar: Bar) -> None:
    """Fetch ``files`` into the folder of ``state``, several at a time; ``bar`` counts their bytes.

    Raises UserError for what the Hub refuses and for a file that is not what it states. What has come by then stays
    on the disk and is gone on with.
    """
    stop = Event()
    with ThreadPoolExecutor(_THREADS) as pool:
        futures = [pool.submit(_fetch_one, file, repository, state, bar, stop) for file in files]
        try:
            for future in futures:
                future.result()
        except BaseException:  # also Ctrl-C
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _fetch_one(file: RemoteFile, repository: Repository, state: State, bar: Bar, stop: Event) -> None:
    from huggingface_hub import hf_hub_url, try_to_load_from_cache
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, disable_progress_bars

    hub_id, commit = repository.hub_id, repository.commit
    disable_progress_bars("huggingface_hub.http_get")  # one bar shows them all
    url = hf_hub_url(hub_id, file.path, repo_type="dataset", revision=commit)
    incomplete = state.incomplete(file)
    incomplete.parent.mkdir(parents=True, exist_ok=True)
    begun = state.begun(file)
    with _hub_errors(hub_id), _Counted(incomplete, bar, stop) as stream:
        stream.truncate(begun)
        stream.seek(begun)
        cached = try_to_load_from_cache(hub_id, file.path, revision=commit, repo_type="dataset")
        if isinstance(cached, str):  # lmms-eval or datasets has fetched it
            with open(cached, "rb") as source:
                source.seek(begun)
                shutil.copyfileobj(source, stream, 2**20)
        else:
            # As stored, not compressed on the way: sizes and ranges are those of the file.
            headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
            try:
                http_get(url, stream, resume_size=begun, headers=headers, expected_size=file.size)
            except OSError as error:
                if error.errno is not None or "Consistency check" not in str(error):
                    raise
    if not is_whole(incomplete, file):
        size = incomplete.stat().st_size
        incomplete.unlink()
        wrong = f"{size:,} bytes instead of the {file.size:,}" if size != file.size else "other bytes than those"
        raise UserError(
            f"{file.path} of {hub_id} arrived with {wrong} that the Hub states: give the command again to download it "
            "again"
        )
    target = state.folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(incomplete, target)
    state.note(file)


class _Counted(io.FileIO):
    """A file whose bytes a progress bar counts, and which can be told to take no more."""

    def __init__(self, path: Path, bar: Bar, stop: Event) -> None:
        super().__init__(path, "r+b" if path.exists() else "w+b")
        self._bar, self._stop = bar, stop

    def write(self, content: Any) -> int:
        if self._stop.is_set():
            raise KeyboardInterrupt
        view = memoryview(content)
        while view:
            written = super().write(view)
            view = view[written:]
        self._bar.advance(len(content))
        return len(content)


@contextmanager
def _hub_errors(hub_id: str) -> Iterator[None]:
    """What the Hub refuses, said in a way that helps."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/datasets/{hub_id}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise UserError(
            f"{hub_id} is gated: accept its terms at {page} with your account, then give a token of that account "
            "(hf auth login, or the environment variable HF_TOKEN)"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"there is no dataset {hub_id} on the Hub, or it is private: check the name; a private one needs a token "
            "(hf auth login, or the environment variable HF_TOKEN)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{hub_id} has no such revision: see the branches at {page}") from error
    except Exception as error:
        known = isinstance(error, errors.HfHubHTTPError | errors.HFValidationError | errors.OfflineModeIsEnabled)
        # The library's HTTP client is httpx or httpx2, by its version.
        if not known and type(error).__module__.partition(".")[0] not in ("httpx", "httpx2"):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{hub_id} cannot be downloaded ({reason}); what has arrived is kept, and the same command goes on"
        ) from error

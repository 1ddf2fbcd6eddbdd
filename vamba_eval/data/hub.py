"""The Hub: which files a dataset repository has, and fetching them, each gone on with where it stopped.

Knows no benchmark, and nothing of archives. Files are fetched with huggingface_hub's ``http_get``, because its
``snapshot_download`` (2.4) begins a file anew that another process did not finish, and these are of several GB.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote

from vamba_eval.contracts import UserError, first_line
from vamba_eval.data.state import RemoteFile, State, is_whole
from vamba_eval.plain import json_value
from vamba_eval.progress import Bar, bytes_text

_THREADS = 8
# A description of a repository: 250 bytes a file, which comes within a second or two.
_DESCRIPTION_BYTES, _DESCRIPTION_S = 2**28, 120.0
_COMMIT = re.compile("[0-9a-f]{40}")
_DIGEST = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Repository:
    """A dataset repository at one commit, with all its files in the order of their paths."""

    hub_id: str
    commit: str
    files: tuple[RemoteFile, ...]


def find_repository(hub_id: str, revision: str | None) -> Repository:
    """The repository at a branch, tag or commit (None: its main branch). Raises UserError for what is not there."""
    with _hub_errors(hub_id):
        about = json_value(_description(hub_id, revision))
    try:
        commit, files = about["sha"], sorted(map(_remote_file, about["siblings"]), key=lambda file: file.path)
        if not _COMMIT.fullmatch(commit):
            raise ValueError(f"the commit {commit!r}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"what the Hub says of {hub_id} cannot be understood ({first_line(error)}): see what answers in its place "
            "(HF_ENDPOINT, or a proxy)"
        ) from error
    return Repository(hub_id, commit, tuple(files))


def _description(hub_id: str, revision: str | None) -> str:
    """What the Hub says of a repository, as JSON. Raises UserError where that does not come to an end."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, validate_repo_id

    validate_repo_id(hub_id)
    url = f"{constants.ENDPOINT}/api/datasets/{hub_id}" + (f"/revision/{quote(revision, safe='')}" if revision else "")
    content, until = bytearray(), time.monotonic() + _DESCRIPTION_S
    asked = get_session().stream(
        "GET",
        url,
        params={"blobs": True},
        headers=build_hf_headers(),
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
    )
    with asked as response:
        if response.is_error:
            response.close()  # its headers say why; the rest may have no end
        hf_raise_for_status(response)
        for part in response.iter_bytes():
            content += part
            if len(content) > _DESCRIPTION_BYTES or time.monotonic() > until:
                raise UserError(
                    f"what the Hub says of {hub_id} does not come to an end ({bytes_text(len(content))} in "
                    f"{time.monotonic() - until + _DESCRIPTION_S:.0f} s): try again later, or at another mirror"
                )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError("it is not text") from error


def _remote_file(entry: Any) -> RemoteFile:
    """Raises AttributeError, KeyError, TypeError and ValueError for what is not a file as the Hub states it."""
    path, size, digest = entry["rfilename"], entry["size"], entry.get("blobId")
    if lfs := entry.get("lfs"):
        digest = lfs["sha256"]
    if not isinstance(path, str) or type(size) is not int or size < 0 or not _DIGEST.fullmatch(digest):
        raise ValueError(f"the size or the digest of {path!r}")
    path.encode()  # half a surrogate pair, which JSON can hold, is no name
    return RemoteFile(path, size, digest)


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
    with _hub_errors(hub_id), _Incoming(incomplete, file, bar, stop) as stream:
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
    target = state.path(file.path, hub_id)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(incomplete, target)
    state.note(file)


class _Incoming(io.FileIO):
    """What comes of a file: a progress bar counts its bytes. It can be told to take no more, and takes no more than is
    stated."""

    def __init__(self, path: Path, file: RemoteFile, bar: Bar, stop: Event) -> None:
        super().__init__(path, "r+b" if path.exists() else "w+b")
        self._path, self._of, self._bar, self._stop = path, file, bar, stop

    def write(self, content: Any) -> int:
        if self._stop.is_set():
            raise KeyboardInterrupt
        if self.tell() + len(content) > self._of.size:
            self._path.unlink(missing_ok=True)
            raise UserError(f"more comes of {self._of.path} than the {self._of.size:,} bytes that the Hub states")
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
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # a full disk
            raise
        raise UserError(
            f"{hub_id} cannot be downloaded ({first_line(error)}); what has arrived is kept, and the same command goes "
            "on"
        ) from error

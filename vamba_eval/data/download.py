"""A benchmark's data from the Hub, in the layout in which its task reads it.

Knows no benchmark: each task names its dataset repository. What is on the disk counts as there only if it has the
size and the digest that the Hub states, and an archive as unpacked only if everything in it is where it belongs, so
the same command can be given again at any time and fetches what is missing.

Files are fetched with huggingface_hub's ``http_get``, because its ``snapshot_download`` (2.4) begins a file anew that
another process did not finish, and these are of several GB.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from vamba_eval.contracts import Dataset, Task, UserError
from vamba_eval.data.archives import NOT_UNPACKED, archives_in, inside, unpack
from vamba_eval.data.state import Archive, RemoteFile, State, bytes_text, free_bytes, is_whole
from vamba_eval.registry import load_task

if TYPE_CHECKING:
    from tqdm import tqdm

_THREADS = 8


_RESERVE_BYTES = 2**30  # of the disk, beyond what the data needs


@dataclass(frozen=True)
class Plan:
    """What is to be done for one benchmark.

    files       all plain files of the repository that the task reads; archives: all archives
    fetch       bytes to fetch; disk: bytes of free disk that it takes at most, with what is unpacked (videos do not
                shrink in archives, so that is taken to be as large as they are)
    """

    task: str
    folder: Path
    hub_id: str
    commit: str
    files: tuple[RemoteFile, ...]
    archives: tuple[Archive, ...]
    to_fetch: tuple[RemoteFile, ...]
    to_unpack: tuple[Archive, ...]
    fetch: int
    disk: int
    notes: tuple[str, ...]

    def __str__(self) -> str:
        files = f"{len(self.to_fetch)} of {len(self.files) + sum(len(a.parts) for a in self.archives)} files"
        lines = [f"{self.task}: {self.hub_id} at {self.commit[:12]} into {self.folder}"]
        if not self.to_fetch and not self.to_unpack:
            return "\n".join([*lines, "  everything is there", *(f"  {note}" for note in self.notes)])
        lines.append(f"  to fetch: {files}, {bytes_text(self.fetch)}; archives to unpack: {len(self.to_unpack)}")
        lines.append(f"  disk needed: about {bytes_text(self.disk)}; free: {bytes_text(free_bytes(self.folder))}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def download(
    names: Sequence[str],
    data_root: str | Path,
    *,
    repo: str | None = None,
    revision: str | None = None,
    keep_archives: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
) -> list[Plan]:
    """Fetch the data of the tasks called ``names`` into ``data_root``; what was done.

    repo            another dataset repository than the task's own, all files of which are taken
    revision        a branch, tag or commit of it
    keep_archives   leave archives where they are when they are unpacked
    dry_run         only say what would be done
    say             gets what is to be done before it begins, and at the end what is to be had elsewhere

    Raises UserError for everything that the caller can mend: a gated dataset, a full disk, a broken archive.
    """
    root = Path(data_root).expanduser()
    if str(data_root).startswith(("hub:", "lmms-eval:")):
        raise UserError(f"download needs a folder, not {data_root}: --data-root DIR")
    tasks = {own.name: own for name in names for own in _with_data(load_task(name))}
    if repo is not None and len(tasks) != 1:
        raise UserError(f"--repo names the source of one benchmark, not of several: {', '.join(tasks)}")
    plans = []
    for task in tasks.values():
        dataset = task.dataset if repo is None else _other_source(task, repo)
        if dataset is None:
            say(f"{task.name}: nothing to download ({task.homepage})")
            continue
        state = State(root / task.name)
        plan = _plan(task.name, dataset, revision, state, keep_archives)
        say(str(plan))
        plans.append(plan)
        if not dry_run:
            _check_disk(plan)
            with state.locked():
                _carry_out(plan, dataset, state, keep_archives)
            if plan.to_fetch or plan.to_unpack:
                say(f"{task.name}: complete in {plan.folder}")
        if dataset.elsewhere:
            say(f"{task.name}: {dataset.elsewhere}")
    return plans


def _with_data(task: Task) -> list[Task]:
    """The tasks in whose folders its data is."""
    return [own for name in task.reads_data_of for own in _with_data(load_task(name))] or [task]


def _other_source(task: Task, repo: str) -> Dataset:
    own = task.dataset or Dataset(repo)
    return Dataset(repo, unpack_into=own.unpack_into, elsewhere=own.elsewhere)


def _plan(name: str, dataset: Dataset, revision: str | None, state: State, keep_archives: bool) -> Plan:
    commit, remote = _list(dataset.hub_id, revision)
    wanted = [file for file in remote if any(fnmatchcase(file.path, pattern) for pattern in dataset.files)]
    wanted = [file for file in wanted if file.path not in (".gitattributes", "README.md")]
    if not wanted:
        raise UserError(
            f"{dataset.hub_id} has none of the files that {name} reads ({', '.join(dataset.files)}): "
            "is the revision right?"
        )
    archives = archives_in(wanted)
    in_parts = {part for archive in archives for part in archive.parts}
    files = tuple(file for file in wanted if file not in in_parts)
    to_unpack = tuple(archive for archive in archives if not state.is_unpacked(archive))
    needed = [*files, *(part for archive in (archives if keep_archives else to_unpack) for part in archive.parts)]
    to_fetch = tuple(file for file in needed if not state.has(file))
    begun = {file: state.begun(file) for file in to_fetch}
    fetch = sum(file.size - begun[file] for file in to_fetch)
    # One archive after the other is fetched, unpacked and removed.
    left = {archive.name: sum(p.size - begun[p] for p in archive.parts if p in begun) for archive in archives}
    plain = fetch - sum(left.values())
    beside = sum(left.values()) if keep_archives else max([left[archive.name] for archive in to_unpack], default=0)
    return Plan(
        task=name,
        folder=state.folder,
        hub_id=dataset.hub_id,
        commit=commit,
        files=files,
        archives=archives,
        to_fetch=to_fetch,
        to_unpack=to_unpack,
        fetch=fetch,
        disk=plain + beside + sum(archive.size for archive in to_unpack),
        notes=tuple(
            f"{file.path} is a kind of archive that cannot be unpacked here: unpack it yourself"
            for file in files
            if NOT_UNPACKED.fullmatch(file.path)
        ),
    )


def _list(hub_id: str, revision: str | None) -> tuple[str, list[RemoteFile]]:
    """The commit and its files."""
    from huggingface_hub import HfApi

    with _hub_errors(hub_id):
        about = HfApi().dataset_info(hub_id, revision=revision, files_metadata=True)
    files = []
    for entry in about.siblings or []:
        digest = entry.lfs.sha256 if entry.lfs else entry.blob_id
        if entry.size is None or digest is None:
            raise UserError(f"the Hub states no size for {entry.rfilename} in {hub_id}")
        inside(Path(), entry.rfilename, hub_id)
        files.append(RemoteFile(entry.rfilename, entry.size, digest))
    return str(about.sha), sorted(files, key=lambda file: file.path)


def _check_disk(plan: Plan) -> None:
    free = free_bytes(plan.folder)
    if (plan.to_fetch or plan.to_unpack) and free < plan.disk + _RESERVE_BYTES:
        raise UserError(
            f"{plan.task} needs about {bytes_text(plan.disk)} (and {bytes_text(_RESERVE_BYTES)} to spare) on the disk "
            f"of {plan.folder}, which has {bytes_text(free)}: free some space, or give another --data-root"
        )


def _carry_out(plan: Plan, dataset: Dataset, state: State, keep_archives: bool) -> None:
    from tqdm import tqdm

    missing = set(plan.to_fetch)
    with tqdm(total=plan.fetch, unit="B", unit_scale=True, desc=f"fetching {plan.task}", disable=None) as bar:
        _fetch_all([file for file in plan.files if file in missing], plan, state, bar)
        for archive in plan.archives:
            _fetch_all([part for part in archive.parts if part in missing], plan, state, bar)
            if archive in plan.to_unpack:
                unpack(archive, _destination(archive, dataset, state.folder), state)
            if not keep_archives:
                for part in archive.parts:
                    (state.folder / part.path).unlink(missing_ok=True)


def _destination(archive: Archive, dataset: Dataset, folder: Path) -> Path:
    own = str(PurePosixPath(archive.name).parent)
    return folder / (own if dataset.unpack_into is None else dataset.unpack_into)


def _fetch_all(files: Sequence[RemoteFile], plan: Plan, state: State, bar: tqdm[Any]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        futures = [pool.submit(_fetch, file, plan, state, bar) for file in files]
        try:
            for future in futures:
                future.result()
        except BaseException:  # also Ctrl-C: what has begun stays on the disk and is gone on with
            state.stop = True
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _fetch(file: RemoteFile, plan: Plan, state: State, bar: tqdm[Any]) -> None:
    from huggingface_hub import hf_hub_url, try_to_load_from_cache
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, disable_progress_bars

    disable_progress_bars("huggingface_hub.http_get")  # one bar shows them all
    url = hf_hub_url(plan.hub_id, file.path, repo_type="dataset", revision=plan.commit)
    incomplete = state.incomplete(file)
    incomplete.parent.mkdir(parents=True, exist_ok=True)
    begun = state.begun(file)
    with _hub_errors(plan.hub_id), _Counted(incomplete, bar, state) as stream:
        stream.truncate(begun)
        stream.seek(begun)
        cached = try_to_load_from_cache(plan.hub_id, file.path, revision=plan.commit, repo_type="dataset")
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
        raise UserError(
            f"{file.path} of {plan.hub_id} arrived with {size:,} bytes instead of the {file.size:,} that the Hub "
            "states: give the command again to download it again"
        )
    target = state.folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(incomplete, target)
    state.note(file)


class _Counted(io.FileIO):
    """A file whose bytes a progress bar counts, and which can be told to take no more."""

    def __init__(self, path: Path, bar: tqdm[Any], state: State) -> None:
        super().__init__(path, "r+b" if path.exists() else "w+b")
        self._bar, self._state = bar, state

    def write(self, content: Any) -> int:
        if self._state.stop:
            raise KeyboardInterrupt
        view = memoryview(content)
        while view:
            written = super().write(view)
            view = view[written:]
        self._bar.update(len(content))
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

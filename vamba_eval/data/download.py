"""A benchmark's data from the Hub, in the layout in which its task reads it.

Knows no benchmark: each task names its dataset repository. What is on the disk counts as there only if it has the
size and the digest that the Hub states, and an archive as unpacked only if everything in it is where it belongs, so
the same command can be given again at any time and fetches what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from vamba_eval.contracts import Dataset, Task, UserError
from vamba_eval.data.archives import archives_in, is_of_another_kind, unpack
from vamba_eval.data.hub import Repository, fetch, find_repository
from vamba_eval.data.state import Archive, RemoteFile, State, free_bytes
from vamba_eval.progress import Display, bytes_text
from vamba_eval.registry import load_task

_RESERVE_BYTES = 2**30  # of the disk, beyond what the data needs


@dataclass(frozen=True)
class Plan:
    """What is to be done for one benchmark.

    files           all plain files of the repository that the task reads; archives: all archives
    bytes_to_fetch  without what has come of them before
    disk_bytes      of free disk that it takes at most, with what is unpacked (videos do not shrink in archives, so that
                    is taken to be as large as they are)
    """

    task: str
    folder: Path
    repository: Repository
    files: tuple[RemoteFile, ...]
    archives: tuple[Archive, ...]
    to_fetch: tuple[RemoteFile, ...]
    to_unpack: tuple[Archive, ...]
    bytes_to_fetch: int
    disk_bytes: int
    notes: tuple[str, ...]

    def __str__(self) -> str:
        files = f"{len(self.to_fetch)} of {len(self.files) + sum(len(a.parts) for a in self.archives)} files"
        lines = [f"{self.task}: {self.repository.hub_id} at {self.repository.commit[:12]} into {self.folder}"]
        if not self.to_fetch and not self.to_unpack:
            return "\n".join([*lines, "  everything is there", *(f"  {note}" for note in self.notes)])
        size, needed, free = map(bytes_text, (self.bytes_to_fetch, self.disk_bytes, free_bytes(self.folder)))
        lines.append(f"  to fetch: {files}, {size}; archives to unpack: {len(self.to_unpack)}")
        lines.append(f"  disk needed: about {needed}; free: {free}")
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
        dataset = task.catalogue.dataset if repo is None else _other_source(task, repo)
        if dataset is None:
            say(f"{task.name}: nothing to download ({task.catalogue.homepage})")
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
    return [own for name in task.catalogue.reads_data_of for own in _with_data(load_task(name))] or [task]


def _other_source(task: Task, repo: str) -> Dataset:
    own = task.catalogue.dataset or Dataset(repo)
    return Dataset(repo, unpack_into=own.unpack_into, elsewhere=own.elsewhere)


def _plan(name: str, dataset: Dataset, revision: str | None, state: State, keep_archives: bool) -> Plan:
    repository = find_repository(dataset.hub_id, revision)
    wanted = [file for file in repository.files if any(fnmatchcase(file.path, pattern) for pattern in dataset.files)]
    wanted = [file for file in wanted if file.path not in (".gitattributes", "README.md")]
    if not wanted:
        raise UserError(
            f"{dataset.hub_id} has none of the files that {name} reads ({', '.join(dataset.files)}): "
            "is the revision right?"
        )
    archives = archives_in(wanted, dataset.joined)
    in_parts = {part for archive in archives for part in archive.parts}
    files = tuple(file for file in wanted if file not in in_parts)
    to_unpack = tuple(archive for archive in archives if not state.is_unpacked(archive))
    needed = [*files, *(part for archive in (archives if keep_archives else to_unpack) for part in archive.parts)]
    to_fetch = tuple(file for file in needed if not state.has(file))
    begun = {file: state.begun(file) for file in to_fetch}
    fetch_bytes = sum(file.size - begun[file] for file in to_fetch)
    # One archive after the other is fetched, unpacked and removed.
    left = {archive.name: sum(p.size - begun[p] for p in archive.parts if p in begun) for archive in archives}
    plain = fetch_bytes - sum(left.values())
    beside = sum(left.values()) if keep_archives else max([left[archive.name] for archive in to_unpack], default=0)
    return Plan(
        task=name,
        folder=state.folder,
        repository=repository,
        files=files,
        archives=archives,
        to_fetch=to_fetch,
        to_unpack=to_unpack,
        bytes_to_fetch=fetch_bytes,
        disk_bytes=plain + beside + sum(archive.size for archive in to_unpack),
        notes=tuple(
            f"{file.path} is a kind of archive that cannot be unpacked here: unpack it yourself"
            for file in files
            if is_of_another_kind(file.path)
        ),
    )


def _check_disk(plan: Plan) -> None:
    free = free_bytes(plan.folder)
    if (plan.to_fetch or plan.to_unpack) and free < plan.disk_bytes + _RESERVE_BYTES:
        needed, reserve = bytes_text(plan.disk_bytes), bytes_text(_RESERVE_BYTES)
        raise UserError(
            f"{plan.task} needs about {needed} (and {reserve} to spare) on the disk of {plan.folder}, which has "
            f"{bytes_text(free)}: free some space, or give another --data-root"
        )


def _carry_out(plan: Plan, dataset: Dataset, state: State, keep_archives: bool) -> None:
    """Fetch the plain files, then one archive after the other, each unpacked and removed before the next."""
    missing = set(plan.to_fetch)
    description = f"fetching {plan.task}"
    with Display() as display, display.bar(description, plan.bytes_to_fetch, of_bytes=True) as bar:
        fetch([file for file in plan.files if file in missing], plan.repository, state, bar)
        for archive in plan.archives:
            fetch([part for part in archive.parts if part in missing], plan.repository, state, bar)
            if archive in plan.to_unpack:
                unpack(archive, _destination(archive, dataset), state, display)
            if not keep_archives:
                for part in archive.parts:
                    state.path(part.path, plan.repository.hub_id).unlink(missing_ok=True)


def _destination(archive: Archive, dataset: Dataset) -> str:
    """The folder, in the benchmark's own, in which it is unpacked."""
    return str(PurePosixPath(archive.name).parent) if dataset.unpack_into is None else dataset.unpack_into

"""What runs in Ray's processes: actors that answer one video at a time, tasks that read one."""

from __future__ import annotations

import functools
import inspect
import os
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

import ray

from vamba_eval import machine, registry
from vamba_eval.contracts import ModelAdapter, Sampling, UserError, Video
from vamba_eval.cost.monitor import GpuMonitor, HostMemory
from vamba_eval.reading.reader import Loaded, Reader, Reading
from vamba_eval.run.answer import Answerer, Monitors
from vamba_eval.run.work import Assignment, ModelFacts, Step, Work
from vamba_eval.store.records import Record
from vamba_eval.store.runs import difference
from vamba_eval.store.thumbnails import strip_of

_RESTARTS = 10  # of a replica


@dataclass(frozen=True)
class Setting:
    """What every process of a run must agree on: the driver's folder, and the packages it runs with (None: any)."""

    folder: str
    packages: Mapping[str, Any] | None


def packages(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {name: environment[name] for name in ("python", "packages", "vamba_eval")}


@functools.cache
def _environment() -> dict[str, Any]:
    return machine.run_environment()


def _settle(setting: Setting) -> None:
    """Make this process one of the run: relative paths mean what they mean to the driver, and so do packages."""
    with suppress(OSError):  # a folder that only the driver's machine has
        os.chdir(setting.folder)
    ours = packages(_environment())
    if setting.packages is not None and ours != setting.packages:
        raise UserError(
            f"the node {platform.node()} has other packages than the driver:\n"
            f"{difference(setting.packages, ours, 'with the driver', 'there')}\n"
            "Install the same ones, or go on anyway with --accept-environment."
        )


@dataclass
class ReadFacts:
    """What the driver needs to know of a clip: everything but the clip."""

    loaded: Loaded
    note: str
    num_bytes: int
    node: str
    strips: Sequence[tuple[int, str, bytes]] = ()  # of each part: its number, its digest, small pictures of it


_reader: tuple[Any, Reader] | None = None  # of this process, kept from task to task with the process that decodes


def _reader_for(reading: Reading, threads: int) -> Reader:
    global _reader
    if _reader is None or _reader[0] != (reading, threads):
        if _reader is not None:
            _reader[1].close()
        _reader = ((reading, threads), Reader(reading, cores=threads))
    return _reader[1]


@ray.remote
def start_reader(setting: Setting, reading: Reading, threads: int) -> None:
    """Processes take seconds to start and to import; they do it while the models are loaded."""
    _settle(setting)
    _reader_for(reading, threads).start()


@ray.remote(num_returns=2, max_retries=3)
def read_video(
    setting: Setting,
    video: Video,
    sampling: Sampling | None,
    reading: Reading,
    threads: int,
    pictures: bool = False,
    headers: bool = False,
) -> tuple[ReadFacts, Loaded]:
    """One video, with ``pictures`` of all its parts. What cannot be read is an answer; only a process or a node that is
    lost makes Ray try again."""
    _settle(setting)
    (loaded,) = _reader_for(reading, threads).clips([video], sampling, headers=headers)
    clip = loaded.clip
    about = replace(loaded, clip=None)
    node = ray.get_runtime_context().get_node_id()
    if clip is None:
        return ReadFacts(about, "", 0, node), loaded
    strips = []
    for number in range(max(1, len(clip.parts))) if pictures else ():
        own = loaded.part(number) if clip.parts else loaded
        if own.clip is not None:
            strips.append((number, own.digest or "", strip_of(own.clip)))
    return ReadFacts(about, clip.note, clip.frames.nbytes, node, strips), loaded


@ray.remote(num_cpus=0)
def any_there(setting: Setting, videos: Sequence[Video]) -> bool:
    _settle(setting)
    return any(video.path.exists() for video in videos)


@ray.remote(num_cpus=0)
def environment_there(setting: Setting) -> dict[str, Any]:
    _settle(setting)
    return _environment()


@dataclass(frozen=True)
class Facts:
    """What a replica says of its model and of itself."""

    model: ModelFacts
    environment: Mapping[str, Any]
    node: str
    host: str


def _spread(source: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """A checkpoint that has several GPUs is spread over them, by the means that transformers has for that."""
    takes = inspect.signature(registry.adapter_class(source)).parameters
    several = len(ray.get_runtime_context().get_accelerator_ids().get("GPU", ())) > 1
    if several and "device_map" in takes and "device_map" not in arguments and "pretrained" in arguments:
        return {**arguments, "device_map": "auto"}
    return arguments


# Ray starts a lost replica again, elsewhere if its node is gone; its video in hand is the driver's business.
@ray.remote(num_cpus=0, max_restarts=_RESTARTS, max_task_retries=0)
class Replica:
    def __init__(self, setting: Setting, source: str, arguments: Mapping[str, Any], threads: int) -> None:
        self._setting, self._source, self._arguments = setting, source, arguments
        self._adapter: ModelAdapter | None = None
        self._answerer: Answerer | None = None
        self._monitors = Monitors(HostMemory().__enter__(), GpuMonitor().__enter__())  # as long as this process lives
        os.environ["OMP_NUM_THREADS"] = str(threads)  # read by torch; Ray has set it to 1

    def ready(self) -> Facts:
        """Build the model, if it is not yet built. Raises UserError as ``load_adapter`` does."""
        _settle(self._setting)
        if self._adapter is None:
            # Frames lie in Ray's store, which nobody may write to; no adapter does.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
            model = registry.load_adapter(self._source, **_spread(self._source, self._arguments))
            self._adapter = cast(ModelAdapter, model)
            self._answerer = Answerer(self._adapter, self._monitors)
        node = ray.get_runtime_context().get_node_id()
        return Facts(ModelFacts.of(self._adapter), _environment(), node, platform.node())

    @ray.method(num_returns="streaming")
    def answer(self, assignment: Assignment, work: Work, loaded: Loaded, blanks: Sequence[Record]) -> Iterator[Step]:
        assert self._answerer is not None
        yield from self._answerer.work(assignment, work, loaded, blanks)

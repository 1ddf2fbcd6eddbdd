"""The same run on many GPUs and machines, by Ray: actors answer, tasks read, one driver records.

Each replica of a model is an actor that answers one video at a time and streams its records back; reading is a
task, done wherever cores are free by the same ``Reader`` as in a run without Ray; clips go through Ray's object
store. The driver decides one thing only: which video is read next and which one a free replica gets. Neither that
nor the number of replicas influences a record.

The only module that imports Ray.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import platform
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError

from vamba_eval import metering, registry
from vamba_eval.contracts import Clip, GenerationSettings, ModelAdapter, UserError, Video
from vamba_eval.decoding import available_cores
from vamba_eval.loading import Loaded, Reader, Reading
from vamba_eval.monitoring import GpuMonitor, HostMemory
from vamba_eval.occupation import Occupation, likely_costs
from vamba_eval.progress import Progress, Row
from vamba_eval.runner import Asked, Event, Job, Watched, Work, answer_work, sampling_of
from vamba_eval.sampling import FrameSampling, Ladder
from vamba_eval.store import difference
from vamba_eval.thumbnails import Thumbnails, strip_of

log = logging.getLogger(__name__)

_TRIES = 3  # of a video whose replica dies while it has it
_RESTARTS = 10  # of a replica
_PATIENCE_S = 600.0  # without any replica; a lost node may come back
_READ_THREADS = 4  # of one video: stretches of it are decoded side by side
_MOST_READ_THREADS = 16  # where there are more cores than videos to read
_STORE_SHARE = 0.5  # of the object store that clips may take; Ray needs room to move them
_FIRST_GUESS_BYTES = 256 * 2**20  # of a clip, before one was seen: 512 frames of 480x360
_LOOK_EVERY_S = 0.5
_LINE_EVERY_S = 30.0
_ROWS = 16  # replicas with a row of their own on a terminal


@dataclass(frozen=True)
class Layout:
    """On what a run is spread out.

    gpus            how many are used: a number, or "all" that Ray knows of
    gpus_per_model  that one replica gets; a model larger than a GPU is spread by its device_map, a fraction lets
                    small models share one
    replicas        so many of the model without GPUs, instead of ``gpus``
    address         of a running Ray cluster; None starts Ray on this machine, unless RAY_ADDRESS names one
    """

    gpus: int | Literal["all"] | None = None
    gpus_per_model: float = 1
    replicas: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.replicas is not None and self.gpus is not None:
            raise UserError("give a number of GPUs (--gpus) or of replicas without GPUs (--replicas), not both")
        for name, value in (("GPUs", self.gpus), ("replicas", self.replicas), ("GPUs a model", self.gpus_per_model)):
            if value is not None and value != "all" and not value > 0:
                raise UserError(f"the number of {name} must be positive, not {value}")
        if self.gpus_per_model > 1 and self.gpus_per_model != int(self.gpus_per_model):
            raise UserError(f"a model gets a whole number of GPUs or a part of one, not {self.gpus_per_model:g}")


# ------------------------------------------------------------------------------- what runs in Ray's processes


@dataclass(frozen=True)
class _Setting:
    """What every process of a run must agree on: the driver's folder, and the packages it runs with (None: any)."""

    folder: str
    packages: Mapping[str, Any] | None


def _packages(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {name: environment[name] for name in ("python", "packages", "vamba_eval")}


@functools.cache
def _environment() -> dict[str, Any]:
    return metering.run_environment()


def _settle(setting: _Setting) -> None:
    """Make this process one of the run: relative paths mean what they mean to the driver, and so do packages."""
    with suppress(OSError):  # a folder that only the driver's machine has
        os.chdir(setting.folder)
    ours = _packages(_environment())
    if setting.packages is not None and ours != setting.packages:
        raise UserError(
            f"the node {platform.node()} has other packages than the driver:\n"
            f"{difference(setting.packages, ours, 'with the driver', 'there')}\n"
            "Install the same ones, or go on anyway with --accept-environment."
        )


@dataclass
class _Landed:
    """What the driver needs to know of a clip: everything but the clip."""

    loaded: Loaded
    note: str
    num_bytes: int
    node: str
    strips: Sequence[tuple[str, bytes]] = ()  # by job: the digest of what it shows, and small pictures of that


_reader: tuple[Any, Reader] | None = None  # of this process, kept from task to task with the process that decodes


def _reader_for(reading: Reading, threads: int) -> Reader:
    global _reader
    if _reader is None or _reader[0] != (reading, threads):
        if _reader is not None:
            _reader[1].close()
        _reader = ((reading, threads), Reader(reading, cores=threads))
    return _reader[1]


@ray.remote
def _start_reader(setting: _Setting, reading: Reading, threads: int) -> None:
    """Processes take seconds to start and to import; they do it while the models are loaded."""
    _settle(setting)
    _reader_for(reading, threads).start()


@ray.remote(num_returns=2, max_retries=3)
def _read(
    setting: _Setting,
    video: Video,
    sampling: FrameSampling | Ladder | None,
    reading: Reading,
    threads: int,
    pictures: int = 0,
) -> tuple[_Landed, Loaded]:
    """One video, with ``pictures`` of that many jobs. What cannot be read is an answer; only a process or a node that
    is lost makes Ray try again."""
    _settle(setting)
    (loaded,) = _reader_for(reading, threads).clips([video], sampling)
    clip = loaded.clip
    about = replace(loaded, clip=None)
    node = ray.get_runtime_context().get_node_id()
    if clip is None:
        return _Landed(about, "", 0, node), loaded
    own = [loaded] if pictures < 2 else [loaded.part(number) for number in range(pictures)]
    strips = [(one.digest or "", strip_of(cast(Clip, one.clip))) for one in own[:pictures]]
    return _Landed(about, clip.note, clip.frames.nbytes, node, strips), loaded


@ray.remote(num_cpus=0)
def _any_there(setting: _Setting, videos: Sequence[Video]) -> bool:
    _settle(setting)
    return any(video.path.exists() for video in videos)


@ray.remote(num_cpus=0)
def _environment_there(setting: _Setting) -> dict[str, Any]:
    _settle(setting)
    return _environment()


@dataclass(frozen=True)
class _Facts:
    """What a replica says of itself."""

    name: str
    reads_video: bool
    takes_captions: bool
    description: Mapping[str, Any]
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
class _Replica:
    def __init__(self, setting: _Setting, source: str, arguments: Mapping[str, Any], threads: int) -> None:
        self._setting, self._source, self._arguments = setting, source, arguments
        self._adapter: ModelAdapter | None = None
        self._watched = Watched(HostMemory().__enter__(), GpuMonitor().__enter__())  # as long as this process lives
        self._warm = False
        os.environ["OMP_NUM_THREADS"] = str(threads)  # read by torch; Ray has set it to 1

    def ready(self) -> _Facts:
        """Build the model, if it is not yet built. Raises UserError as ``load_adapter`` does."""
        _settle(self._setting)
        if self._adapter is None:
            # Frames lie in Ray's store, which nobody may write to; no adapter does.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
            self._adapter = registry.load_adapter(self._source, **_spread(self._source, self._arguments))
        model, node = self._adapter, ray.get_runtime_context().get_node_id()
        about = (model.name, model.reads_video, model.takes_captions, model.describe())
        return _Facts(*about, _environment(), node, platform.node())

    @ray.method(num_returns="streaming")
    def answer(
        self, jobs: Sequence[Job], work: Work, loaded: Loaded, asked: Asked, bases: Sequence[Mapping[str, Any]]
    ) -> Iterator[Event]:
        assert self._adapter is not None
        asked = replace(asked, adapter=self._adapter, warm=self._warm)
        yield from answer_work(jobs, work, loaded, asked, self._watched, bases)
        self._warm = asked.warm


# ------------------------------------------------------------------------------------------------ the driver

_Base = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Cluster:
    """Ray, as a run needs it; a context manager. Starts it on this machine unless there is an address.

    Raises UserError where it cannot be reached, or has not what ``layout`` asks for.
    """

    def __init__(self, layout: Layout, reading: Reading, *, accept_environment: bool = False) -> None:
        self.layout, self.reading = layout, reading
        self.accept_environment = accept_environment
        packages = None if accept_environment else _packages(metering.run_environment())
        self.setting = _Setting(os.getcwd(), packages)
        self._ours = False

    def __enter__(self) -> Cluster:
        if not ray.is_initialized():
            self._start()
        try:
            self._measure()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours:
            ray.shutdown()

    def _start(self) -> None:
        address = self.layout.address or os.environ.get("RAY_ADDRESS") or "local"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # What a worker leaves, it cleans up by a process of its own, if Ray does not kill that together with it.
        os.environ.setdefault("RAY_kill_child_processes_on_worker_exit", "0")
        logging.getLogger("ray").setLevel(logging.ERROR)
        here: dict[str, Any] = {"num_cpus": available_cores(), "include_dashboard": False} if address == "local" else {}
        main = threading.current_thread() is threading.main_thread()
        on_term = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **here)
        except Exception as error:
            where = "Ray cannot be started here" if address == "local" else f"no Ray cluster answers at {address}"
            raise UserError(f"{where}: {str(error).strip().partition(chr(10))[0]}") from error
        finally:
            if main and on_term is not None:  # Ray puts its own in place
                signal.signal(signal.SIGTERM, on_term)
        self._ours = True

    def _measure(self) -> None:
        """What nodes have, and what of it is for replicas and for reading."""
        nodes = [node for node in ray.nodes() if node["Alive"]]
        self.cores = [int(node["Resources"]["CPU"]) for node in nodes if node["Resources"].get("CPU", 0) >= 1]
        self.store_bytes = sum(node["Resources"].get("object_store_memory", 0) for node in nodes)
        if not self.cores:
            raise UserError("Ray has no CPU to read videos with")
        self._share_gpus([node["Resources"].get("GPU", 0) for node in nodes])
        # A replica keeps a core busy beside its GPU, and whoever reads on the same core slows it down.
        busy = -(-self.num_replicas // len(self.cores)) if self.gpus_per_model else 0
        self.read_threads = max(1, min(_READ_THREADS, min(self.cores) // 2))
        self.read_slots = sum(max(1, (cores - busy) // self.read_threads) for cores in self.cores)
        if (workers := self.reading.workers) is not None:
            self.read_slots = min(self.read_slots, max(1, workers))
        self.reading_of_one = replace(self.reading, workers=min(1, self.reading.workers or 1))

    def _share_gpus(self, of_nodes: Sequence[float]) -> None:
        """How many replicas there are to be, and what each gets."""
        layout, gpus, largest = self.layout, sum(of_nodes), max(of_nodes)
        if layout.replicas is not None:
            self.gpus_per_model, self.num_replicas = 0.0, layout.replicas
            self.model_threads = available_cores()
            return
        wanted = gpus if layout.gpus in (None, "all") else float(cast(int, layout.gpus))
        if not gpus:
            raise UserError("Ray knows of no GPU: --replicas N runs N replicas of each model without")
        if wanted > gpus:
            raise UserError(f"{wanted:g} GPUs were asked for, and Ray knows of {gpus:g}")
        if layout.gpus_per_model > min(largest, wanted):
            raise UserError(
                f"a model is to have {layout.gpus_per_model:g} GPUs of one machine, and there are "
                f"{min(largest, wanted):g}"
            )
        self.gpus_per_model = layout.gpus_per_model
        self.num_replicas = int(wanted / layout.gpus_per_model + 1e-9)
        self.model_threads = max(1, min(self.cores) // max(1, int(largest / layout.gpus_per_model)))

    def environment(self) -> dict[str, Any]:
        """Of a node where replicas run, which is what answers depend on."""
        try:
            task = _environment_there.options(num_gpus=self.gpus_per_model)
            return cast("dict[str, Any]", ray.get(task.remote(self.setting)))
        except RayTaskError as error:
            raise _own(error) from error

    def load_adapter(self, source: str, arguments: Mapping[str, Any]) -> Replicas:
        """The model on all its replicas; returns when the first is ready. Raises UserError as ``registry`` does."""
        path, colon, name = source.partition(":")
        if path.endswith(".py"):
            source = f"{Path(path).resolve()}{colon}{name}"
        return Replicas(self, source, arguments)

    def shift(
        self,
        jobs: Sequence[Job],
        works: Sequence[Work],
        asked: Asked,
        bases: Sequence[_Base],
        strips: Sequence[Thumbnails | None],
        watched: Watched,
        display: Progress,
    ) -> Shift:
        """The answers to ``works``: iterate over it. ``bases`` begin each job's records, given an environment;
        ``strips`` keep pictures of what it is asked about."""
        return Shift(cast(Replicas, asked.adapter), jobs, works, asked, bases, strips, watched, display)


@dataclass
class _Member:
    """A replica as the driver sees it: ready (an object reference) while it starts, or at a video."""

    number: int
    actor: Any
    starting: Any = None
    facts: _Facts | None = None
    flight: _Flight | None = None
    since: float = field(default_factory=time.monotonic)  # it does what it does
    lost: str = ""  # for good, and why

    @property
    def idle(self) -> bool:
        return not self.lost and self.starting is None and self.flight is None


class Replicas(ModelAdapter):
    """A model on many replicas. Describes itself as the model does; its videos are answered by ``Shift``."""

    def __init__(self, cluster: Cluster, source: str, arguments: Mapping[str, Any]) -> None:
        self.cluster = cluster
        self.members = []
        for number in range(cluster.num_replicas):
            # Over all nodes, so that each has many cores to read with.
            options = cast(Any, _Replica).options(num_gpus=cluster.gpus_per_model, scheduling_strategy="SPREAD")
            actor = options.remote(cluster.setting, source, arguments, cluster.model_threads)
            self.members.append(_Member(number, actor, actor.ready.remote()))
        start = cast(Any, _start_reader).options(num_cpus=cluster.read_threads, scheduling_strategy="SPREAD")
        for _ in range(cluster.read_slots):  # what goes wrong there, the first videos will say
            start.remote(cluster.setting, cluster.reading_of_one, cluster.read_threads)
        self._facts: _Facts | None = None
        try:
            while self._facts is None:
                if all(member.lost for member in self.members):
                    raise UserError(f"no replica of {source} could be started: {self.members[0].lost}")
                ray.wait([m.starting for m in self.members if m.starting is not None], timeout=_LOOK_EVERY_S)
                self.welcome()
        except BaseException:
            self.close()
            raise
        self.name, self.reads_video = self._facts.name, self._facts.reads_video  # type: ignore[misc]
        self.takes_captions = self._facts.takes_captions  # type: ignore[misc]

    def describe(self) -> dict[str, Any]:
        assert self._facts is not None
        return dict(self._facts.description)

    def encode(self, clip: Clip | None) -> Any:
        raise AssertionError("its replicas encode")

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> Any:
        raise AssertionError("its replicas answer")

    def close(self) -> None:
        for member in self.members:
            ray.kill(member.actor)

    def welcome(self) -> None:
        """See which of those that start are ready. Raises UserError where one is another model than the others."""
        starting = {member.starting: member for member in self.members if member.starting is not None}
        ready, _ = ray.wait(list(starting), num_returns=len(starting), timeout=0) if starting else ([], [])
        for reference in ready:
            member = starting[reference]
            member.starting = None
            try:
                facts: _Facts = ray.get(reference)
            except ActorDiedError as error:  # Ray will not start it again
                member.lost = _line(error)
                log.warning("replica %d is lost: %s", member.number, member.lost)
            except RayActorError:  # it is being started again
                member.starting = member.actor.ready.remote()
            except RayTaskError as error:
                if self._facts is None or isinstance(error.cause, UserError):
                    raise _own(error) from error
                member.lost = _line(error)
                log.warning("replica %d is lost: %s", member.number, member.lost)
                ray.kill(member.actor)
            else:
                self._compare(facts)
                member.facts, member.since = facts, time.monotonic()

    def _compare(self, facts: _Facts) -> None:
        if self._facts is None:
            self._facts = facts
            return
        ours, theirs = dict(self._facts.description), dict(facts.description)
        if not self.cluster.accept_environment:
            ours["gpus"], theirs["gpus"] = _gpus(self._facts), _gpus(facts)
        if ours != theirs:
            raise UserError(
                f"the replicas on {self._facts.host} and {facts.host} differ:\n"
                f"{difference(ours, theirs, f'on {self._facts.host}', f'on {facts.host}')}"
            )


@dataclass
class _Flight:
    """A video on its way: waiting, being read, ready, or at a replica."""

    work: Work
    cost: float
    tries: int = 0
    quick: bool = False  # read out of turn, for a replica that waits
    landed: _Landed | None = None
    threads: int = 1  # that read it
    clip: Any = None  # a reference to its Loaded
    bases: Sequence[Mapping[str, Any]] = ()
    stream: Any = None
    done: set[tuple[int, str, int]] = field(default_factory=set)  # job, question, seed

    @property
    def order(self) -> tuple[bool, float]:
        """Longest first; what took a replica down twice comes last."""
        return self.tries < 2, self.cost

    @property
    def num_bytes(self) -> int:
        return self.landed.num_bytes if self.landed is not None else 0

    def left(self) -> Work:
        """What has no record yet."""
        by_job = []
        for number, open_questions in enumerate(self.work.open):
            pairs = [
                (one, [seed for seed in one.seeds if (number, one.question.id, seed) not in self.done])
                for one in open_questions
            ]
            by_job.append([replace(one, seeds=seeds) for one, seeds in pairs if seeds])
        return Work(self.work.video, by_job)


class Shift:
    """All replicas at the videos of one benchmark: iterate for the records, in the order in which they come.

    Clips are read ahead as far as they find room: one for each replica and one for each task that can read at the
    same time. The longest is read and handed out first, so that none is begun late; but while a replica waits for a
    clip, the shortest is read for it, which is there soonest.
    """

    def __init__(
        self,
        replicas: Replicas,
        jobs: Sequence[Job],
        works: Sequence[Work],
        asked: Asked,
        bases: Sequence[_Base],
        strips: Sequence[Thumbnails | None],
        watched: Watched,
        display: Progress,
    ) -> None:
        self._strips, self._watched = strips, watched
        self._replicas, self._cluster, self._members = replicas, replicas.cluster, replicas.members
        self._jobs, self._asked, self._base_of, self._display = jobs, asked, bases, display
        self._sampling = sampling_of(jobs, asked)
        self._total = len(works)
        costs = likely_costs([work.video for work in works])
        flights = [_Flight(work, cost) for work, cost in zip(works, costs, strict=True)]
        self._waiting = deque(sorted(flights, key=lambda flight: -flight.cost))
        self._reading: dict[Any, _Flight] = {}
        self._ready: list[_Flight] = []
        self._largest_clip = _FIRST_GUESS_BYTES
        self._slots = self._cluster.read_slots
        self._account = Occupation(len(self._members), sum(self._cluster.cores))
        self.summary = self._account.summary

    # -- the loop

    def __iter__(self) -> Iterator[Event]:
        if not self._waiting:
            return
        plugins = [module for name, module in sys.modules.items() if name.startswith("_vamba_eval_plugin_")]
        for module in plugins:  # they have no name that another process could import
            ray.cloudpickle.register_pickle_by_value(module)
        self._jobs_there = ray.put(list(self._jobs))
        self._asked_there = ray.put(replace(self._asked, adapter=None))  # type: ignore[arg-type]
        self._rows = [self._display.row(f"  replica {member.number}") for member in self._members[:_ROWS]]
        self._rows.append(self._display.row("  reading"))
        self._account.begin()
        self._last_alive = self._said_at = time.monotonic()
        try:
            if self._sampling is None and not self._any_there():
                self._ready = list(self._waiting)  # where no video is there at all, annotations are enough
                self._waiting.clear()
            while self._waiting or self._reading or self._ready or any(member.flight for member in self._members):
                self._replicas.welcome()
                self._read_ahead()
                self._hand_out()
                yield from self._what_came()
                if (why := self._stuck()) is not None:
                    for flight in [*self._waiting, *self._reading.values(), *self._ready]:
                        yield from self._give_up(flight, why)
                    return
                self._show()
        finally:
            for row in self._rows:
                row.close()
            for member in self._members:  # left early: what it still says is not heard
                if member.flight is not None:
                    ray.cancel(member.flight.stream)
                    member.flight = None
            for reference in self._reading:
                ray.cancel(reference)

    def _read_ahead(self) -> None:
        hungry = sum(member.flight is None and not member.lost for member in self._members) - len(self._ready)
        quick = sum(flight.quick for flight in self._reading.values())
        while self._waiting and self._room():
            short = hungry > quick
            threads = self._threads()
            flight = self._waiting.pop() if short else self._waiting.popleft()
            flight.quick, flight.threads = short, threads
            quick += short
            self._read(flight)

    def _room(self) -> bool:
        ahead = len(self._reading) + len(self._ready)
        if not ahead:
            return True
        at_work = [member.flight for member in self._members if member.flight is not None]
        held = sum(flight.num_bytes for flight in [*self._ready, *at_work])
        held += (len(self._reading) + 1) * self._largest_clip
        return ahead < len(self._members) + self._slots and held <= _STORE_SHARE * self._cluster.store_bytes

    def _threads(self) -> int:
        """For the next video: a few, but few videos share all cores."""
        cores = self._cluster.cores
        share = min(_MOST_READ_THREADS, min(cores) // 2, sum(cores) // len(self._waiting))
        return max(self._cluster.read_threads, share)

    def _read(self, flight: _Flight) -> None:
        cluster = self._cluster
        # Over all nodes, so that most replicas find a clip on their own.
        threads = flight.threads
        task = cast(Any, _read).options(num_cpus=threads, scheduling_strategy="SPREAD")
        video = replace(flight.work.video, questions=())
        pictures = len(self._jobs) if any(self._strips) else 0
        landed, flight.clip = task.remote(
            cluster.setting, video, self._sampling, cluster.reading_of_one, threads, pictures
        )
        self._reading[landed] = flight

    def _any_there(self) -> bool:
        videos = [replace(flight.work.video, questions=()) for flight in self._waiting]
        return bool(ray.get(_any_there.remote(self._cluster.setting, videos)))

    def _hand_out(self) -> None:
        for member in self._members:
            if not member.idle or not self._ready:
                continue
            assert member.facts is not None
            node = member.facts.node
            near = [flight for flight in self._ready if flight.landed is None or flight.landed.node == node]
            flight = max(near or self._ready, key=lambda flight: flight.order)
            self._ready.remove(flight)
            waited = self._account.hand_over(member)
            flight.bases = [{**base(member.facts.environment), "wait_s": 0.0} for base in self._base_of]
            cast(dict[str, Any], flight.bases[0])["wait_s"] = round(waited, 6)
            clip = flight.clip if flight.clip is not None else Loaded(flight.work.video)
            flight.stream = member.actor.answer.remote(
                self._jobs_there, flight.left(), clip, self._asked_there, flight.bases
            )
            flight.tries += 1
            member.flight, member.since = flight, time.monotonic()

    def _what_came(self) -> Iterator[Event]:
        at_work = {member.flight.stream: member for member in self._members if member.flight is not None}
        starting = [member.starting for member in self._members if member.starting is not None]
        everything = [*self._reading, *at_work, *starting]
        came, _ = ray.wait(everything, timeout=_LOOK_EVERY_S, fetch_local=False)
        if came:
            came, _ = ray.wait(everything, num_returns=len(everything), timeout=0, fetch_local=False)
        for one in came:
            if one in at_work:
                yield from self._record(at_work[one])
            elif one in self._reading:
                yield from self._land(one)

    def _land(self, reference: Any) -> Iterator[Event]:
        flight = self._reading.pop(reference)
        try:
            landed: _Landed = ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise _own(error) from error
            yield from self._give_up(flight, f"reading failed: {_line(error)}")
            return
        except RayError as error:  # Ray has tried it several times
            yield from self._give_up(flight, f"reading failed: {type(error).__name__}: {_line(error)}")
            return
        self._account.read(landed.loaded, flight.threads)
        if landed.loaded.problem is not None:
            yield from self._give_up(flight, landed.loaded.problem, landed.loaded)
            return
        if landed.note:
            log.warning("%s: %s", flight.work.video.path, landed.note)
        for strips, (digest, jpeg), asked in zip(self._strips, landed.strips, flight.work.open, strict=False):
            if strips is not None and asked:
                strips.keep(jpeg, digest)
        flight.landed = replace(landed, strips=())
        self._largest_clip = max(landed.num_bytes, self._largest_clip if self._account.videos_read > 1 else 0)
        self._ready.append(flight)

    def _record(self, member: _Member) -> Iterator[Event]:
        """What a replica says next."""
        flight = member.flight
        assert flight is not None
        try:
            number, record = ray.get(next(flight.stream))
        except StopIteration:
            self._free(member, finished=flight.work.video.id)
            return
        except RayActorError as error:
            self._free(member)
            member.starting = member.actor.ready.remote()
            where = member.facts.host if member.facts is not None else "?"
            why = f" ({_line(error)})" if isinstance(error, ActorDiedError) else ""
            yield from self._try_again(flight, f"the process of replica {member.number} on {where} died{why}")
            return
        except RayTaskError as error:  # nothing that another replica would do better
            self._free(member)
            yield from self._give_up(flight, f"answering failed: {_line(error)}")
            return
        except RayError as error:  # its clip is lost, for one
            self._free(member)
            flight.clip = flight.landed = None
            yield from self._try_again(flight, f"{type(error).__name__}: {_line(error)}")
            return
        if record is not None:
            flight.done.add((number, record["question"], record["seed"]))
        yield number, record

    def _free(self, member: _Member, finished: str | None = None) -> None:
        self._account.finish(member, finished)
        member.flight, member.since = None, time.monotonic()

    def _try_again(self, flight: _Flight, why: str) -> Iterator[Event]:
        flight.stream = None
        if flight.tries >= _TRIES:
            yield from self._give_up(flight, f"given up after {_TRIES} tries: {why}")
            return
        log.warning("%s is tried again: %s", flight.work.video.id, why)
        if flight.clip is None and self._sampling is not None:
            self._waiting.appendleft(flight)
        else:
            self._ready.append(flight)

    def _give_up(self, flight: _Flight, why: str, loaded: Loaded | None = None) -> Iterator[Event]:
        """The records of what is left of a video, failed."""
        some = next((member.facts for member in self._members if member.facts is not None), None)
        assert some is not None
        bases = flight.bases or [base(some.environment) for base in self._base_of]
        loaded = replace(loaded or Loaded(flight.work.video), video=flight.work.video, problem=why)
        yield from answer_work(self._jobs, flight.left(), loaded, self._asked, self._watched, bases)

    def _stuck(self) -> str | None:
        """Why nobody will answer what is left; None while somebody may."""
        now = time.monotonic()
        if any(member.starting is None and not member.lost for member in self._members):
            self._last_alive = now
            return None
        if all(member.lost for member in self._members):
            return f"no replica of the model is left: {self._members[0].lost}"
        if now - self._last_alive > _PATIENCE_S:
            return f"no replica of the model could be started again for {_PATIENCE_S:.0f} s"
        return None

    # -- what is seen

    def _show(self) -> None:
        if not self._display.enabled:
            return
        now = time.monotonic()
        if self._display.live and now - self._account.shown_at > _LOOK_EVERY_S:
            self._account.shown_at = now
            for member, row in zip(self._members[:_ROWS], self._rows, strict=False):
                self._show_member(member, row, now)
            read = self._account.videos_read
            state = f"{len(self._reading)} in work, {len(self._ready)} ready; cores {self._account.cores()}"
            self._rows[-1].show(state, read, max(read, self._total))
        if not self._display.live and now - self._said_at > _LINE_EVERY_S:
            self._said_at = now
            at_work = [member for member in self._members if member.flight is not None]
            oldest = sorted(at_work, key=lambda member: member.since)[:3]
            in_hand = ", ".join(f"{_id(member)} for {now - member.since:.0f} s" for member in oldest)
            more = f" and {len(at_work) - 3} more" if len(at_work) > 3 else ""
            self._display.say(f"{self._account.state(self._members)}; at {in_hand}{more}" if at_work else "waiting")

    def _show_member(self, member: _Member, row: Row, now: float) -> None:
        flight, since = member.flight, f"{now - member.since:.0f} s"
        use = self._account.of(member)
        if flight is not None:
            asked = sum(len(one.seeds) for rung in flight.work.open for one in rung)
            row.show(f"{_id(member)} for {since}; {use}", len(flight.done), asked)
        elif member.lost or member.starting is not None:
            row.show("lost" if member.lost else f"starting for {since}", 0, 1)
        else:
            row.show(f"waiting for {since}; {use}", 0, 1)


def _gpus(facts: _Facts) -> str:
    return ", ".join(facts.environment["hardware"].get("gpus", [])) or "none"


def _own(error: RayTaskError) -> Exception:
    """The error that was raised in another process, as if it were raised here."""
    return error.cause if isinstance(error.cause, UserError) else UserError(_line(error))


def _line(error: BaseException) -> str:
    """The last line of what Ray says, which names the cause; what comes before it is a traceback or advice."""
    if isinstance(error, RayTaskError):
        error = error.cause
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return str(error).strip().partition("\n")[0]


def _id(member: _Member) -> str:
    return member.flight.work.video.id if member.flight is not None else "-"

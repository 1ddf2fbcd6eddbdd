"""A model on many replicas: who is ready, who is lost, and whether all are the same model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError

from vamba_eval.contracts import Trial, UserError
from vamba_eval.run.on_ray.cluster import Cluster, last_line, log, own_error
from vamba_eval.run.on_ray.workers import Facts, ReadFacts, Replica, start_reader
from vamba_eval.run.work import InHand, Work
from vamba_eval.store.records import Record
from vamba_eval.store.runs import difference

LOOK_EVERY_S = 0.5


@dataclass
class ReplicaState:
    """A replica as the driver sees it: ready (an object reference) while it starts, or at a video."""

    number: int
    actor: Any
    starting: Any = None
    facts: Facts | None = None
    video: QueuedVideo | None = None
    since: float = field(default_factory=time.monotonic)  # it does what it does
    lost: str = ""  # for good, and why
    in_hand: tuple[int, InHand] | None = None  # what its model is at, and of which job
    at_it_s: float = 0.0  # for how long

    @property
    def at_work(self) -> bool:
        return self.video is not None

    @property
    def idle(self) -> bool:
        return not self.lost and self.starting is None and self.video is None


class Replicas:
    """A model on all its replicas, ready when the first is. Raises UserError as ``registry`` does."""

    def __init__(self, cluster: Cluster, source: str, arguments: Mapping[str, Any]) -> None:
        self.cluster = cluster
        path, colon, name = source.partition(":")
        if path.endswith(".py"):
            source = f"{Path(path).resolve()}{colon}{name}"
        self.members = []
        for number in range(cluster.num_replicas):
            # Over all nodes, so that each has many cores to read with.
            options = cast(Any, Replica).options(num_gpus=cluster.gpus_per_model, scheduling_strategy="SPREAD")
            actor = options.remote(cluster.setting, source, arguments, cluster.model_threads)
            self.members.append(ReplicaState(number, actor, actor.ready.remote()))
        start = cast(Any, start_reader).options(num_cpus=cluster.read_threads, scheduling_strategy="SPREAD")
        for _ in range(cluster.read_slots):  # what goes wrong there, the first videos will say
            start.remote(cluster.setting, cluster.reading_of_one, cluster.read_threads)
        self._facts: Facts | None = None
        try:
            while self._facts is None:
                if all(member.lost for member in self.members):
                    raise UserError(f"no replica of {source} could be started: {self.members[0].lost}")
                ray.wait([m.starting for m in self.members if m.starting is not None], timeout=LOOK_EVERY_S)
                self.welcome()
        except BaseException:
            self.close()
            raise

    @property
    def facts(self) -> Facts:
        """Those of the first replica that was ready; all are the same model."""
        assert self._facts is not None
        return self._facts

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
                facts: Facts = ray.get(reference)
            except ActorDiedError as error:  # Ray will not start it again
                member.lost = last_line(error)
                log.warning("replica %d is lost: %s", member.number, member.lost)
            except RayActorError:  # it is being started again
                member.starting = member.actor.ready.remote()
            except RayTaskError as error:
                if self._facts is None or isinstance(error.cause, UserError):
                    raise own_error(error) from error
                member.lost = last_line(error)
                log.warning("replica %d is lost: %s", member.number, member.lost)
                ray.kill(member.actor)
            else:
                self._compare(facts)
                member.facts, member.since = facts, time.monotonic()

    def _compare(self, facts: Facts) -> None:
        if self._facts is None:
            self._facts = facts
            return
        ours, theirs = dict(self._facts.model.description), dict(facts.model.description)
        if not self.cluster.accept_environment:
            ours["gpus"], theirs["gpus"] = _gpus(self._facts), _gpus(facts)
        if ours != theirs:
            raise UserError(
                f"the replicas on {self._facts.host} and {facts.host} differ:\n"
                f"{difference(ours, theirs, f'on {self._facts.host}', f'on {facts.host}')}"
            )


@dataclass
class QueuedVideo:
    """A video on its way: waiting, being read, ready, or at a replica."""

    work: Work
    cost: float
    tries: int = 0
    quick: bool = False  # read out of turn, for a replica that waits
    read: ReadFacts | None = None
    threads: int = 1  # that read it
    clip: Any = None  # a reference to its Loaded
    blanks: Sequence[Record] = ()  # what its records have in common
    stream: Any = None
    done: set[tuple[int, str, Trial]] = field(default_factory=set)  # of which job, and to which question

    @property
    def order(self) -> tuple[bool, float]:
        """Longest first; what took a replica down twice comes last."""
        return self.tries < 2, self.cost

    @property
    def num_bytes(self) -> int:
        return self.read.num_bytes if self.read is not None else 0

    def left(self) -> Work:
        """What has no record yet."""
        by_job = []
        for number, open_questions in enumerate(self.work.open):
            pairs = [
                (one, [trial for trial in one.trials if (number, one.question.id, trial) not in self.done])
                for one in open_questions
            ]
            by_job.append([replace(one, trials=trials) for one, trials in pairs if trials])
        return Work(self.work.video, by_job)


def _gpus(facts: Facts) -> str:
    return ", ".join(facts.environment["hardware"].get("gpus", [])) or "none"

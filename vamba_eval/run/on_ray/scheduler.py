"""The same run on many GPUs and machines, by Ray: actors answer, tasks read, one driver records.

Each replica of a model is an actor that answers one video at a time and streams its records back; reading is a
task, done wherever cores are free by the same ``Reader`` as in a run without Ray; clips go through Ray's object
store. The driver decides one thing only: which video is read next and which one a free replica gets. Neither that
nor the number of replicas influences a record.

The only module that imports Ray.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError

from vamba_eval.contracts import UserError
from vamba_eval.reading.reader import Loaded
from vamba_eval.run.answer import answer_work
from vamba_eval.run.occupation import Occupation, likely_costs
from vamba_eval.run.on_ray.cluster import last_line, log, own_error
from vamba_eval.run.on_ray.replicas import LOOK_EVERY_S, Flight, Member, Replicas
from vamba_eval.run.on_ray.workers import Landed, any_there, read_video
from vamba_eval.run.plan import Job
from vamba_eval.run.progress import Progress, Row
from vamba_eval.run.work import Asked, Event, Watched, Work, sampling_of
from vamba_eval.store.thumbnails import Thumbnails

_TRIES = 3  # of a video whose replica dies while it has it


_PATIENCE_S = 600.0  # without any replica; a lost node may come back


_MOST_READ_THREADS = 16  # where there are more cores than videos to read


_STORE_SHARE = 0.5  # of the object store that clips may take; Ray needs room to move them


_FIRST_GUESS_BYTES = 256 * 2**20  # of a clip, before one was seen: 512 frames of 480x360


_LINE_EVERY_S = 30.0


_ROWS = 16  # replicas with a row of their own on a terminal


# ------------------------------------------------------------------------------------------------ the driver

BaseOf = Callable[[Mapping[str, Any]], Mapping[str, Any]]


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
        bases: Sequence[BaseOf],
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
        flights = [Flight(work, cost) for work, cost in zip(works, costs, strict=True)]
        self._waiting = deque(sorted(flights, key=lambda flight: -flight.cost))
        self._reading: dict[Any, Flight] = {}
        self._ready: list[Flight] = []
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
            if self._sampling is None and not self._videos_there():
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
            self._send(flight)

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

    def _send(self, flight: Flight) -> None:
        cluster = self._cluster
        # Over all nodes, so that most replicas find a clip on their own.
        threads = flight.threads
        task = cast(Any, read_video).options(num_cpus=threads, scheduling_strategy="SPREAD")
        video = replace(flight.work.video, questions=())
        pictures = len(self._jobs) if any(self._strips) else 0
        landed, flight.clip = task.remote(
            cluster.setting, video, self._sampling, cluster.reading_of_one, threads, pictures
        )
        self._reading[landed] = flight

    def _videos_there(self) -> bool:
        videos = [replace(flight.work.video, questions=()) for flight in self._waiting]
        return bool(ray.get(any_there.remote(self._cluster.setting, videos)))

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
        came, _ = ray.wait(everything, timeout=LOOK_EVERY_S, fetch_local=False)
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
            landed: Landed = ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise own_error(error) from error
            yield from self._give_up(flight, f"reading failed: {last_line(error)}")
            return
        except RayError as error:  # Ray has tried it several times
            yield from self._give_up(flight, f"reading failed: {type(error).__name__}: {last_line(error)}")
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

    def _record(self, member: Member) -> Iterator[Event]:
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
            why = f" ({last_line(error)})" if isinstance(error, ActorDiedError) else ""
            yield from self._try_again(flight, f"the process of replica {member.number} on {where} died{why}")
            return
        except RayTaskError as error:  # nothing that another replica would do better
            self._free(member)
            yield from self._give_up(flight, f"answering failed: {last_line(error)}")
            return
        except RayError as error:  # its clip is lost, for one
            self._free(member)
            flight.clip = flight.landed = None
            yield from self._try_again(flight, f"{type(error).__name__}: {last_line(error)}")
            return
        if record is not None:
            flight.done.add((number, record["question"], record["seed"]))
        yield number, record

    def _free(self, member: Member, finished: str | None = None) -> None:
        self._account.finish(member, finished)
        member.flight, member.since = None, time.monotonic()

    def _try_again(self, flight: Flight, why: str) -> Iterator[Event]:
        flight.stream = None
        if flight.tries >= _TRIES:
            yield from self._give_up(flight, f"given up after {_TRIES} tries: {why}")
            return
        log.warning("%s is tried again: %s", flight.work.video.id, why)
        if flight.clip is None and self._sampling is not None:
            self._waiting.appendleft(flight)
        else:
            self._ready.append(flight)

    def _give_up(self, flight: Flight, why: str, loaded: Loaded | None = None) -> Iterator[Event]:
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
        if self._display.live and now - self._account.shown_at > LOOK_EVERY_S:
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

    def _show_member(self, member: Member, row: Row, now: float) -> None:
        flight, since = member.flight, f"{now - member.since:.0f} s"
        use = self._account.of(member)
        if flight is not None:
            asked = sum(len(one.seeds) for rung in flight.work.open for one in rung)
            row.show(f"{_id(member)} for {since}; {use}", len(flight.done), asked)
        elif member.lost or member.starting is not None:
            row.show("lost" if member.lost else f"starting for {since}", 0, 1)
        else:
            row.show(f"waiting for {since}; {use}", 0, 1)


def _id(member: Member) -> str:
    return member.flight.work.video.id if member.flight is not None else "-"

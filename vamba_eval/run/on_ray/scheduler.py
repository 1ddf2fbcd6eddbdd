"""The same run on many GPUs and machines, by Ray: actors answer, tasks read, one driver records.

Each replica of a model is an actor that answers one video at a time and streams its records back; reading is a
task, done wherever cores are free by the same ``Reader`` as in a run without Ray; clips go through Ray's object
store. The driver decides one thing only: which video is read next and which one a free replica gets. Neither that
nor the number of replicas influences a record.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, cast

import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayActorError, RayError, RayTaskError

from vamba_eval.contracts import UserError
from vamba_eval.progress import Display, Row
from vamba_eval.reading.reader import Loaded
from vamba_eval.run.answer import failed, parts_of
from vamba_eval.run.occupation import Occupation, likely_costs
from vamba_eval.run.on_ray.cluster import Cluster, last_line, log, own_error
from vamba_eval.run.on_ray.replicas import LOOK_EVERY_S, QueuedVideo, Replicas, ReplicaState
from vamba_eval.run.on_ray.workers import Facts, ReadFacts, any_there, read_video
from vamba_eval.run.work import Assignment, Event, InHand
from vamba_eval.run.workplace import Workplace
from vamba_eval.store.records import Record

_TRIES = 3  # of a video whose replica dies while it has it
_PATIENCE_S = 600.0  # without any replica; a lost node may come back
_MOST_READ_THREADS = 16  # where there are more cores than videos to read
_STORE_SHARE = 0.5  # of the object store that clips may take; Ray needs room to move them
_FIRST_GUESS_BYTES = 256 * 2**20  # of a clip, before one was seen: 512 frames of 480x360
_LINE_EVERY_S = 10.0
_ROWS = 16  # replicas with a row of their own on a terminal


class Scheduler:
    """All replicas at the videos of one assignment: iterate for the records, in the order in which they come.

    Clips are read ahead as far as they find room: one for each replica and one for each task that can read at the
    same time. The longest is read and handed out first, so that none is begun late; but while a replica waits for a
    clip, the shortest is read for it, which is there soonest.
    """

    def __init__(self, replicas: Replicas, assignment: Assignment, display: Display) -> None:
        self._replicas, self._cluster, self._members = replicas, replicas.cluster, replicas.members
        self._assignment, self._recorders, self._display = assignment, assignment.recorders, display
        self._total = len(assignment.works)
        costs = likely_costs([work.video for work in assignment.works])
        queued = [QueuedVideo(work, cost) for work, cost in zip(assignment.works, costs, strict=True)]
        self._waiting = deque(sorted(queued, key=lambda video: -video.cost))
        self._reading: dict[Any, QueuedVideo] = {}
        self._ready: list[QueuedVideo] = []
        self._largest_clip = _FIRST_GUESS_BYTES
        self._slots = self._cluster.read_slots
        self._shown_at = 0.0
        self.occupation = Occupation(len(self._members), sum(self._cluster.cores))

    # -- the loop

    def __iter__(self) -> Generator[Event]:
        plugins = [module for name, module in sys.modules.items() if name.startswith("_vamba_eval_plugin_")]
        for module in plugins:  # they have no name that another process could import
            ray.cloudpickle.register_pickle_by_value(module)
        self._there = ray.put(replace(self._assignment, works=(), recorders=()))
        self._rows = [self._display.row(f"  replica {member.number}") for member in self._members[:_ROWS]]
        self._rows.append(self._display.row("  reading"))
        self.occupation.begin()
        self._last_alive = self._said_at = self._looked_at = time.monotonic()
        try:
            if not self._assignment.reads and not self._videos_there():
                self._ready = list(self._waiting)  # where no video is there at all, annotations are enough
                self._waiting.clear()
            while self._waiting or self._reading or self._ready or any(member.video for member in self._members):
                self._replicas.welcome()
                self._read_ahead()
                self._hand_out()
                yield from self._what_came()
                yield from self._end_what_hangs()
                if (why := self._stuck()) is not None:
                    for video in [*self._waiting, *self._reading.values(), *self._ready]:
                        yield from self._give_up(video, why)
                    return
                self._show()
        finally:
            for row in self._rows:
                row.close()
            for member in self._members:  # left early: what it still says is not heard
                if member.video is not None:
                    ray.cancel(member.video.stream)
                    member.video = None
            for reference in self._reading:
                ray.cancel(reference)

    def _read_ahead(self) -> None:
        hungry = sum(member.video is None and not member.lost for member in self._members) - len(self._ready)
        quick = sum(video.quick for video in self._reading.values())
        while self._waiting and self._room():
            short = hungry > quick
            threads = self._threads()
            video = self._waiting.pop() if short else self._waiting.popleft()
            video.quick, video.threads = short, threads
            quick += short
            self._send(video)

    def _room(self) -> bool:
        ahead = len(self._reading) + len(self._ready)
        if not ahead:
            return True
        at_work = [member.video for member in self._members if member.video is not None]
        held = sum(video.num_bytes for video in [*self._ready, *at_work])
        held += (len(self._reading) + 1) * self._largest_clip
        return ahead < len(self._members) + self._slots and held <= _STORE_SHARE * self._cluster.store_bytes

    def _threads(self) -> int:
        """For the next video: a few, but few videos share all cores."""
        cores = self._cluster.cores
        share = min(_MOST_READ_THREADS, min(cores) // 2, sum(cores) // len(self._waiting))
        return max(self._cluster.read_threads, share)

    def _send(self, video: QueuedVideo) -> None:
        cluster = self._cluster
        # Over all nodes, so that most replicas find a clip on their own.
        threads = video.threads
        task = cast(Any, read_video).options(num_cpus=threads, scheduling_strategy="SPREAD")
        shown = replace(video.work.video, questions=())
        sampling = self._assignment.sampling(video.work.video) if self._assignment.reads else None
        pictures = any(recorder.strips for recorder in self._recorders)
        how = (cluster.reading_of_one, threads, pictures, self._assignment.headers)
        read, video.clip = task.remote(cluster.setting, shown, sampling, *how)
        self._reading[read] = video

    def _videos_there(self) -> bool:
        videos = [replace(queued.work.video, questions=()) for queued in self._waiting]
        try:
            return bool(ray.get(any_there.remote(self._cluster.setting, videos), timeout=self._cluster.reading.stall_s))
        except GetTimeoutError:  # a file system does not answer: each video says so for itself
            return True

    def _hand_out(self) -> None:
        for member in self._members:
            if not member.idle or not self._ready:
                continue
            assert member.facts is not None
            node = member.facts.node
            near = [video for video in self._ready if video.read is None or video.read.node == node]
            video = max(near or self._ready, key=lambda video: video.order)
            self._ready.remove(video)
            waited = self.occupation.hand_over(member)
            video.blanks = self._blanks(member.facts)
            video.blanks[0].wait_s = round(waited, 6)
            clip = video.clip if video.clip is not None else Loaded(video.work.video)
            video.stream = member.actor.answer.remote(self._there, video.left(), clip, video.blanks)
            video.tries += 1
            member.video, member.since = video, time.monotonic()

    def _what_came(self) -> Iterator[Event]:
        at_work = {member.video.stream: member for member in self._members if member.video is not None}
        starting = [member.starting for member in self._members if member.starting is not None]
        everything = [*self._reading, *at_work, *starting]
        came, _ = ray.wait(everything, timeout=LOOK_EVERY_S, fetch_local=False)
        if came:
            came, _ = ray.wait(everything, num_returns=len(everything), timeout=0, fetch_local=False)
        for one in came:
            if one in at_work:
                yield from self._record(at_work[one])
            elif one in self._reading:
                yield from self._take_clip(one)

    def _take_clip(self, reference: Any) -> Iterator[Event]:
        video = self._reading.pop(reference)
        try:
            read: ReadFacts = ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise own_error(error) from error
            yield from self._give_up(video, f"reading failed: {last_line(error)}")
            return
        except RayError as error:  # Ray has tried it several times
            yield from self._give_up(video, f"reading failed: {type(error).__name__}: {last_line(error)}")
            return
        self.occupation.read(read.loaded, video.threads)
        if read.loaded.problem is not None:
            yield from self._give_up(video, read.loaded.problem, read.loaded)
            return
        if read.note:
            log.warning("%s: %s", video.work.video.path, read.note)
        for number, digest, jpeg in read.strips:  # of each job, or of each set of frames of the only one
            number = number if len(self._recorders) > 1 else 0
            if (strips := self._recorders[number].strips) is not None and video.work.open[number]:
                strips.keep(jpeg, digest)
        video.read = replace(read, strips=())
        self._largest_clip = max(read.num_bytes, self._largest_clip if self.occupation.videos_read > 1 else 0)
        self._ready.append(video)

    def _record(self, member: ReplicaState) -> Iterator[Event]:
        """What a replica says next."""
        video = member.video
        assert video is not None
        try:
            number, record = ray.get(next(video.stream))
        except StopIteration:
            self._free(member, finished=video.work.video.id)
            return
        except RayActorError as error:
            self._free(member)
            member.starting = member.actor.ready.remote()
            where = member.facts.host if member.facts is not None else "?"
            why = f" ({last_line(error)})" if isinstance(error, ActorDiedError) else ""
            yield from self._try_again(video, f"the process of replica {member.number} on {where} died{why}")
            return
        except RayTaskError as error:  # nothing that another replica would do better
            if isinstance(error.cause, UserError):
                raise own_error(error) from error
            self._free(member)
            yield from self._give_up(video, f"answering failed: {last_line(error)}")
            return
        except RayError as error:  # its clip is lost, for one
            self._free(member)
            video.clip = video.read = None
            yield from self._try_again(video, f"{type(error).__name__}: {last_line(error)}")
            return
        member.in_hand, member.at_it_s = None, 0.0
        if isinstance(record, InHand):
            member.in_hand = number, record
            return
        if record is not None:
            video.done.add((number, record.question, record.trial))
        yield number, record

    def _end_what_hangs(self) -> Iterator[Event]:
        """Replace replicas whose model is at something for too long; what is left of their videos others do."""
        limit_s, now = self._assignment.answer_timeout_s, time.monotonic()
        passed_s = min(now - self._looked_at, 2 * LOOK_EVERY_S)  # more was a pause of this process
        self._looked_at = now
        for member in self._members:
            if limit_s is None or member.in_hand is None:
                continue
            member.at_it_s += passed_s
            if member.at_it_s < limit_s:
                continue
            video, (number, hanging) = member.video, member.in_hand
            assert video is not None
            where = member.facts.host if member.facts is not None else "?"
            log.warning("replica %d on %s is replaced: %s", member.number, where, hanging.records[0].error)
            ray.kill(member.actor, no_restart=False)
            self._free(member)
            member.starting = member.actor.ready.remote()
            for record in hanging.records:
                video.done.add((number, record.question, record.trial))
                yield number, record
            left = video.left()
            if not left.open[number]:
                yield number, None
            if any(left.open):
                video.stream = None
                self._ready.append(video)

    def _free(self, member: ReplicaState, finished: str | None = None) -> None:
        self.occupation.finish(member, finished)
        member.video, member.since = None, time.monotonic()
        member.in_hand, member.at_it_s = None, 0.0

    def _try_again(self, video: QueuedVideo, why: str) -> Iterator[Event]:
        video.stream = None
        if video.tries >= _TRIES:
            yield from self._give_up(video, f"given up after {_TRIES} tries: {why}")
            return
        log.warning("%s is tried again: %s", video.work.video.id, why)
        if video.clip is None and self._assignment.reads:
            self._waiting.appendleft(video)
        else:
            self._ready.append(video)

    def _give_up(self, video: QueuedVideo, why: str, loaded: Loaded | None = None) -> Iterator[Event]:
        """The records of what is left of a video, failed."""
        some = next((member.facts for member in self._members if member.facts is not None), None)
        assert some is not None
        loaded = replace(loaded or Loaded(video.work.video), video=video.work.video, problem=why)
        jobs, blanks = self._assignment.jobs, video.blanks or self._blanks(some)
        for number, parts in parts_of(jobs, video.left(), loaded, blanks):
            for part in parts:
                for record in failed(jobs[number], part.base, part.open, why):
                    yield number, record
            yield number, None

    def _blanks(self, facts: Facts) -> list[Record]:
        environments = [recorder.environment_of(facts.environment) for recorder in self._recorders]
        return [
            replace(recorder.blank, environment=environment, wait_s=0.0)
            for recorder, environment in zip(self._recorders, environments, strict=True)
        ]

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
        if self._display.live and now - self._shown_at > LOOK_EVERY_S:
            self._shown_at = now
            for member, row in zip(self._members[:_ROWS], self._rows, strict=False):
                self._show_member(member, row, now)
            read = self.occupation.videos_read
            state = f"{len(self._reading)} in work, {len(self._ready)} ready; cores {self.occupation.cores()}"
            self._rows[-1].show(state, read, max(read, self._total))
        if not self._display.live and now - self._said_at > _LINE_EVERY_S:
            self._said_at = now
            at_work = [member for member in self._members if member.video is not None]
            oldest = sorted(at_work, key=lambda member: member.since)[:3]
            in_hand = ", ".join(f"{_id(member)} for {now - member.since:.0f} s" for member in oldest)
            more = f" and {len(at_work) - 3} more" if len(at_work) > 3 else ""
            self._display.say(f"{self.occupation.state(self._members)}; at {in_hand}{more}" if at_work else "waiting")

    def _show_member(self, member: ReplicaState, row: Row, now: float) -> None:
        video, since = member.video, f"{now - member.since:.0f} s"
        use = self.occupation.of(member)
        if video is not None:
            asked = sum(len(one.trials) for rung in video.work.open for one in rung)
            row.show(f"{_id(member)} for {since}; {use}", len(video.done), asked)
        elif member.lost or member.starting is not None:
            row.show("lost" if member.lost else f"starting for {since}", 0, 1)
        else:
            row.show(f"waiting for {since}; {use}", 0, 1)


def _id(member: ReplicaState) -> str:
    return member.video.work.video.id if member.video is not None else "-"


class OnRay(Workplace):
    """A model on many replicas, on this machine or on many."""

    def __init__(self, cluster: Cluster, source: str, arguments: Mapping[str, Any], display: Display) -> None:
        self._replicas, self._display = Replicas(cluster, source, arguments), display
        self.facts = self._replicas.facts.model
        self._summary = ""

    def answers(self, assignment: Assignment) -> Generator[Event]:
        scheduler = Scheduler(self._replicas, assignment, self._display)
        with closing(iter(scheduler)) as events:
            yield from events
        self._summary = scheduler.occupation.summary()

    def summary(self) -> str:
        return self._summary

    def close(self) -> None:
        self._replicas.close()

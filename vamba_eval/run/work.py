"""The work of a run: videos with what is still to be asked about them, and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vamba_eval.contracts import FrameSampling, Ladder, ModelAdapter, Question, Video
from vamba_eval.cost.monitor import GpuMonitor, HostMemory
from vamba_eval.run.plan import Job


@dataclass
class Asked:
    """A model and a way of asking it: with the video, or (``blind``) without. ``warm`` after its first video."""

    adapter: ModelAdapter
    label: str
    seeds: int
    blind: bool = False
    warm: bool = False

    @classmethod
    def all_of(cls, adapter: ModelAdapter, label: str, seeds: int, blind: bool) -> list[Asked]:
        seeing = cls(adapter, label, seeds)
        return [seeing, cls(adapter, f"{label}-blind", seeds, True)] if blind and adapter.reads_video else [seeing]

    @property
    def looks(self) -> bool:
        return self.adapter.reads_video and not self.blind

    def identity(self) -> dict[str, Any]:
        about = {"adapter": self.adapter.name, "reads_video": self.looks, **self.adapter.describe()}
        return {**about, "blind": True} if self.blind else about


@dataclass(frozen=True)
class Watched:
    """What goes on beside the models' work."""

    host: HostMemory
    gpu: GpuMonitor

    def reset(self) -> None:
        self.host.reset()
        self.gpu.reset()

    def fields(self) -> dict[str, Any]:
        """Of a record, since the last reset."""
        load = self.gpu.utilization
        return {"host_bytes": self.host.peak, **({} if load is None else {"gpu_utilization": round(load, 3)})}


@dataclass(frozen=True)
class Open:
    """A question, and the seeds with which it is still to be asked."""

    question: Question
    seeds: Sequence[int]


@dataclass(frozen=True)
class Work:
    """A video with what is still to be asked about it: at one job, or at each rung of a ladder."""

    video: Video
    open: Sequence[Sequence[Open]]


# The number of a job with a record of it, or with None when it is done with a video.
Event = tuple[int, dict[str, Any] | None]


def sampling_of(jobs: Sequence[Job], asked: Asked) -> FrameSampling | Ladder | None:
    """What is read of each video for ``jobs``, which differ in the number of frames alone; None for nothing."""
    if not (asked.looks or jobs[0].task.prompts_need_clip):
        return None
    return jobs[0].sampling if len(jobs) == 1 else Ladder(tuple(job.sampling for job in jobs))

"""What catalogues a benchmark: where it is published, how much it holds, what is wrong with its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Defect:
    """Something wrong in an annotation row, and what is done about it."""

    where: str
    problem: str
    consequence: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.consequence}"


@dataclass(frozen=True)
class Dataset:
    """Where a benchmark is published on the Hub, and how a copy of it comes about.

    hub_id       its dataset repository, OWNER/NAME
    files        glob patterns of the files that the task reads; archives among them are unpacked
    unpack_into  the folder, in the benchmark's own, in which archives are unpacked ("" is the benchmark's own);
                 None for the folder that each archive is in
    elsewhere    what is not there, and where it is to be had
    joined       glob patterns of files that are pieces of one archive each, whose names do not say so: in the order of
                 the numbers in their names
    lmms_eval    the folder below $HF_HOME in which lmms-eval keeps the videos: ``cache_dir`` of its task
    lmms_ids     the repositories that lmms-eval takes annotations from, as OWNER/NAME or OWNER/NAME@REVISION
    """

    hub_id: str
    files: tuple[str, ...] = ("*",)
    unpack_into: str | None = None
    joined: tuple[str, ...] = ()
    elsewhere: str = ""
    lmms_eval: str = ""
    lmms_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Counts:
    """How much a benchmark holds, as published; None where that is not stated."""

    videos: int | None
    questions: int
    subtitles: int | None = None


@dataclass(frozen=True)
class InLmmsEval:
    """Where lmms-eval asks a benchmark's questions as our protocol ``lmms-eval`` does.

    tasks       patterns of its tasks' names, and our split
    functions   of its task code, all of which a task of another name must use to ask the same
    groups      its names of groups in its logs, and ours; "*" is what the star in the task's name stands for
    video       its name of the video in its logs, if it logs that
    """

    tasks: Mapping[str, str | None]
    functions: frozenset[str]
    groups: Mapping[str, str] = field(default_factory=dict)
    video: str | None = None


@dataclass(frozen=True)
class Catalogue:
    """What catalogues a benchmark: nothing here changes what is asked or scored.

    title           what tables call it
    homepage, citation  where it is published, and how it is cited
    reported_as     the column of results/published/ that holds its published results, which are of the headline measure
    dataset         what is to be downloaded; None: nothing
    counts          how much it holds as published, by split, the default one first
    reads_data_of   the tasks whose folders are read, if not the task's own
    in_lmms_eval    where lmms-eval has it
    """

    title: str
    homepage: str = ""
    citation: str = ""
    reported_as: str = ""
    dataset: Dataset | None = None
    counts: Mapping[str, Counts] = field(default_factory=dict)
    reads_data_of: tuple[str, ...] = ()
    in_lmms_eval: InLmmsEval | None = None

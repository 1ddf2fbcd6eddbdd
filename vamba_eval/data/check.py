"""Whether a copy of a benchmark is whole: its annotations, videos and subtitles, without running any model.

Knows no benchmark: a task says where its files are, and how much of it was published. Videos are opened in worker
processes, so that one that hangs or crashes its reader is a finding, not the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vamba_eval.contracts import Counts, MissingData, Task, UserError, Video, VideoError
from vamba_eval.files import write_text
from vamba_eval.plain import json_text
from vamba_eval.progress import Display
from vamba_eval.reading.reader import Reader, Reading
from vamba_eval.registry import load_task
from vamba_eval.run.check_task import files_outside, load_videos
from vamba_eval.run.plan import check_split
from vamba_eval.video.lengths import missing_bytes
from vamba_eval.video.read import VideoInfo
from vamba_eval.video.subtitles import read_subtitles

# A stated length may be rounded to minutes (LVBench's is), and a file's own may count its sound.
_TOLERANCE_S = 2.0
_TOLERANCE_SHARE = 0.05

_SHOWN = 10  # of each kind of problem; all are in the report
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Problem:
    """Something that lacks or is broken, and what to do about it."""

    kind: str
    where: str
    problem: str
    advice: str


@dataclass
class Report:
    """What is there of a benchmark.

    counts      rows of a table: what, how much of it is there, how much there should be (None: not known)
    problems    what lacks; notes: what is odd but as published
    """

    task: str
    split: str | None
    counts: list[tuple[str, int, int | None]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        from tabulate import tabulate

        rows = [
            (what, f"{there:,}", "" if expected is None else f"{expected:,}", _lacks(there, expected))
            for what, there, expected in self.counts
        ]
        title = self.task + (f", split {self.split}" if self.split else "")
        lines = [f"{title}: {'problems found' if self.problems else 'complete'}", ""]
        if rows:
            table = tabulate(rows, ("", "there", "of", ""), colalign=("left", "right", "right", "left"))
            lines += [table, ""]
        for kind in dict.fromkeys(problem.kind for problem in self.problems):
            same = [problem for problem in self.problems if problem.kind == kind]
            lines.append(f"{kind} ({len(same):,}): {same[0].advice}")
            lines += [f"  {problem.where}: {problem.problem}" for problem in same[:_SHOWN]]
            lines += [f"  ... and {len(same) - _SHOWN:,} more"] if len(same) > _SHOWN else []
        if self.notes:
            lines.append(f"annotation rows with defects, as published ({len(self.notes):,}):")
            lines += [f"  {note}" for note in self.notes[:_SHOWN]]
            lines += [f"  ... and {len(self.notes) - _SHOWN:,} more"] if len(self.notes) > _SHOWN else []
        return "\n".join(lines).rstrip() + "\n"


def check(
    names: Sequence[str],
    data_root: str | Path | None,
    *,
    allow_outside: bool = False,
    split: str | None = None,
    quick: bool = False,
    reading: Reading | None = None,
    say: Callable[[object], None] = print,
) -> list[Report]:
    """Reports on the copies of the tasks called ``names`` below ``data_root``; ``say`` gets each when it is ready.

    ``quick`` opens no file; ``allow_outside`` looks at files outside of the data root, too. Raises UserError for a
    task, split or folder that there is not.
    """
    tasks = [load_task(name) for name in names]
    local = data_root is not None and not str(data_root).startswith(("hub:", "lmms-eval:"))
    if data_root is not None and local and not Path(data_root).expanduser().is_dir():
        raise UserError(f"the data root {data_root} is not a directory")
    for task in tasks:
        check_split(task, split)
    reports = []
    for task in tasks:
        report = _check(task, data_root, allow_outside, split, quick, reading)
        say(report)
        reports.append(report)
    return reports


def save(reports: Iterable[Report], file: Path) -> None:
    """All of it as JSON: a list with an object a task."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json_text([asdict(report) for report in reports], indent=2, ensure_ascii=False))


def _check(
    task: Task,
    data_root: str | Path | None,
    allow_outside: bool,
    split: str | None,
    quick: bool,
    reading: Reading | None,
) -> Report:
    report = Report(task.name, split)
    fetch = _how_to_fetch(task, data_root)
    dataset = task.catalogue.dataset
    advice = f"{fetch}. {dataset.elsewhere}" if dataset and dataset.elsewhere else fetch
    try:
        videos = load_videos(task, data_root, split)
    except MissingData as error:
        where = str(data_root or "lmms-eval:")
        report.problems.append(Problem("annotations that cannot be read", where, str(error), advice))
        return report
    published = task.catalogue.counts.get(split or next(iter(task.catalogue.counts), ""), Counts(None, 0))
    _check_rows(task, videos, published, fetch, report)
    paths = {video.path: video for video in videos if video.path != Path()}
    report.counts.append(("videos in the annotations", len(paths), published.videos))
    if published.videos is not None and len(paths) != published.videos:
        problem = f"{len(paths):,} videos instead of {published.videos:,}"
        report.problems.append(Problem("annotations that are not the published ones", "videos", problem, fetch))
    outside = {} if allow_outside else files_outside(task, videos, data_root)
    for path in outside.values():
        report.problems.append(
            Problem("files outside of the data root", str(path), "not looked at", "--allow-outside has them read")
        )
    paths = {path: video for path, video in paths.items() if video.id not in outside}
    present = [path for path in paths if os.path.exists(path)]
    report.counts.append(("video files", len(present), len(paths)))
    for path in paths.keys() - set(present):
        report.problems.append(Problem("missing videos", str(path), "no such file", advice))
    if not quick:
        _check_files([paths[path] for path in present], reading or Reading(), fetch, report)
    _check_subtitles(paths.values(), published, quick, fetch, report)
    report.problems.sort(key=lambda problem: (problem.kind, problem.where))
    return report


def _how_to_fetch(task: Task, data_root: str | Path | None) -> str:
    if task.catalogue.dataset is None and not task.catalogue.reads_data_of:
        return f"the benchmark is published at {task.catalogue.homepage}"
    folder = "DIR" if data_root is None or str(data_root).startswith(("hub:", "lmms-eval:")) else data_root
    sources = ",".join(task.catalogue.reads_data_of or (task.name,))
    return f"run_eval.py download {sources} --data-root {folder} downloads what is missing"


def _check_rows(task: Task, videos: Sequence[Video], published: Counts, fetch: str, report: Report) -> None:
    questions = [question for video in videos for question in video.questions]
    report.counts.append(("questions", len(questions), published.questions or None))
    if published.questions and len(questions) != published.questions:
        problem = f"{len(questions):,} questions instead of {published.questions:,}"
        report.problems.append(Problem("annotations that are not the published ones", "questions", problem, fetch))
    broken = [question for question in questions if question.problem]
    advice = f"they are recorded as failed by every run; {fetch}"
    for question in broken:
        report.problems.append(
            Problem("annotation rows that cannot be asked", question.id, question.problem or "", advice)
        )
    report.counts.append(("questions that can be asked", len(questions) - len(broken), len(questions)))
    ids = {question.id for question in broken}
    report.notes += [str(defect) for defect in task.defects if defect.where not in ids]


def _check_files(videos: Sequence[Video], reading: Reading, fetch: str, report: Report) -> None:
    good = right = stated = 0
    with Reader(reading) as reader, Display() as display, display.bar(f"opening {report.task}", len(videos)) as bar:
        for loaded in reader.check(videos):
            bar.advance()
            path, info = loaded.video.path, loaded.info
            problem = loaded.problem or _unfinished(path)
            if problem is not None or info is None:
                advice = f"remove them; {fetch}"
                problem = _why(path, problem or "cannot be opened")
                report.problems.append(Problem("videos that cannot be read", str(path), problem, advice))
                continue
            good += 1
            wrong = _wrong_length(loaded.video, info)
            if wrong is not None:
                stated += 1
                right += not wrong
            if wrong:
                advice = (
                    f"beyond {_TOLERANCE_S:g} s and {_TOLERANCE_SHARE:.0%} of what is stated: is it another cut, or "
                    f"another video? If so, remove them; {fetch}"
                )
                report.problems.append(Problem("videos with another length", str(path), wrong, advice))
    report.counts.append(("videos that open and are complete", good, len(videos)))
    if stated:
        report.counts.append(("videos as long as annotated", right, stated))


def _unfinished(path: Path) -> str | None:
    """What the container's own structure says of bytes that are not there."""
    if path.is_dir():
        return None
    try:
        lacking = missing_bytes(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return f"an unfinished download: its last {lacking:,} bytes are missing" if lacking else None


def _why(path: Path, problem: str) -> str:
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                    return "a Git LFS pointer instead of the video (git lfs pull downloads it)"
    return problem.removeprefix(f"{path}: ")


def _wrong_length(video: Video, info: VideoInfo) -> str | None:
    """ "" if the file is as long as the annotations state, None if they or the file state nothing."""
    if video.duration_s is None or info.duration_s is None:
        return None
    allowed = max(_TOLERANCE_S, _TOLERANCE_SHARE * video.duration_s)
    if abs(info.duration_s - video.duration_s) <= allowed:
        return ""
    return f"it lasts {info.duration_s:,.1f} s, but {video.duration_s:,.1f} s according to the annotations"


def _check_subtitles(videos: Iterable[Video], published: Counts, quick: bool, fetch: str, report: Report) -> None:
    videos = list(videos)
    named = [video for video in videos if video.subtitles is not None]
    if published.subtitles is None and not named:
        return
    there = [video for video in named if video.subtitles and os.path.isfile(video.subtitles)]
    report.counts.append(("subtitle files", len(there), published.subtitles))
    if published.subtitles is not None and len(there) < published.subtitles:
        with_subtitles = {video.id for video in there}
        without = [video.id for video in videos if video.id not in with_subtitles]
        problem = f"{published.subtitles - len(there):,} of {published.subtitles:,} are missing"
        examples = f" (videos without: {', '.join(without[:_SHOWN])}{', ...' if len(without) > _SHOWN else ''})"
        advice = f"only prompts with subtitles need them; {fetch}"
        report.problems.append(Problem("missing subtitles", "subtitles", problem + examples, advice))
    for video in there if not quick else ():
        assert video.subtitles is not None
        try:
            lines = read_subtitles(video.subtitles)
        except VideoError as error:
            report.problems.append(Problem("subtitles that cannot be read", str(video.subtitles), str(error), fetch))
            continue
        if not lines:
            problem = "it holds no lines"
            report.problems.append(Problem("subtitles that cannot be read", str(video.subtitles), problem, fetch))


def _lacks(there: int, expected: int | None) -> str:
    if expected is None or there == expected:
        return ""
    return f"{expected - there:,} missing" if there < expected else f"{there - expected:,} too many"

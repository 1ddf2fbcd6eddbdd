"""What VSI-SUPER's two tasks share: tables of one length each, whose rows name a video below the folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vamba_eval.contracts import Question, Task, Video

from ._annotations import (
    BadRow,
    Collector,
    check_split,
    find_folder,
    first_existing,
    missing,
    read_rows,
    text_field,
)


def load_videos(
    task: Task,
    data_root: str | Path | None,
    split: str | None,
    length_field: str,
    make: Callable[[dict[str, Any], str, str, Collector], Question],
) -> list[Video]:
    """The videos of one length, or of all that are among the task's splits, in the order of their lengths.

    ``length_field`` holds a row's length ("10mins"); rows of other values (streams, asked repeatedly) are left out.
    ``make`` makes a question of a row, its id and where it stands. Raises MissingData for a length without any row.
    """
    split = check_split(task, split)
    lengths = task.splits[1:] if split == task.splits[0] else (split,)
    folder, found = find_folder(task, data_root, ("test_*mins.parquet", "data/test-*.parquet", "test-*.parquet"))
    files = sorted(found.parent.glob("test_*.parquet")) if found.name.startswith("test_") else [found]
    rows = [(row, f"{file.name} row {number}") for file in files for number, row in enumerate(read_rows(file))]
    collector, counted = Collector(task), Counter[str]()
    for length in lengths:
        for row, where in rows:
            if (row.get(length_field) or where.removeprefix("test_").partition(".")[0]) != length:
                continue
            identity = f"{length}_{counted[length]}"
            counted[length] += 1
            video_id = path = None
            try:
                name = text_field(row, "video_path")
                video_id = name.removesuffix(Path(name).suffix)
                path = first_existing([folder / name, folder / "videos" / name])
                question = make(row, identity, where, collector)
            except BadRow as problem:
                collector.broken(where, str(problem), video_id, path)
                continue
            collector.add(where, video_id, path, question)
        if not counted[length]:
            raise missing(task, found.with_name(f"test_{length}.parquet"))
    return collector.videos()

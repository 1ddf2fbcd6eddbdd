"""What the headers of video files say, read in processes that are watched: for tasks, which open no video.

The only module of this folder that a task may know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vamba_eval.contracts import Video, VideoInfo
from vamba_eval.reading.reader import Reader


def headers(paths: Sequence[Path]) -> Iterator[tuple[Path, VideoInfo | str]]:
    """Of each path, in whatever order, what the header says, or why that cannot be known."""
    videos = [Video(str(number), path, ()) for number, path in enumerate(paths)]
    with Reader() as reader:
        for loaded in reader.clips(videos, None):
            yield loaded.video.path, loaded.info or loaded.problem or "it cannot be opened"

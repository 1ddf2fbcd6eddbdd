"""Clips for the loop, one video after another.

The one place that decides when and where videos are read; the loop only iterates. Reading never raises:
a video that cannot be read arrives with its reason.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vamba_eval.contracts import Clip, Video, VideoError
from vamba_eval.decoding import probe, read_clip
from vamba_eval.sampling import FrameSampling

log = logging.getLogger(__name__)


@dataclass
class Loaded:
    """A video with its clip, or with the reason why there is none.

    ``digest`` identifies the frames' bytes, ``seconds`` is the time that reading took.
    """

    video: Video
    clip: Clip | None
    problem: str | None
    seconds: float
    digest: str | None = None


def load_clips(videos: Iterable[Video], sampling: FrameSampling) -> Iterator[Loaded]:
    """Read each video once, in order."""
    for video in videos:
        start = time.perf_counter()
        try:
            clip = read_clip(video.path, sampling, start_s=video.start_s, end_s=video.end_s)
        except Exception as error:  # whatever a file does to a decoder costs its own questions only
            yield Loaded(video, None, _problem(error), time.perf_counter() - start)
            continue
        seconds = time.perf_counter() - start
        yield Loaded(video, clip, None, seconds, hashlib.blake2b(clip.frames.data, digest_size=16).hexdigest())
        del clip  # the next clip must not be read while this one is still held


def check_videos(videos: list[Video]) -> Iterator[Loaded]:
    """For a model that looks at no video: only see that each opens, so that it faces the questions that
    others face. Where a benchmark's videos are not there at all, its annotations are enough."""
    any_there = any(video.path.exists() for video in videos)
    for video in videos:
        problem = None
        start = time.perf_counter()
        if any_there:
            try:
                probe(video.path)
            except Exception as error:
                problem = _problem(error)
        yield Loaded(video, None, problem, time.perf_counter() - start)


def _problem(error: Exception) -> str:
    if isinstance(error, VideoError):
        return str(error)
    log.debug("reading failed", exc_info=error)
    if isinstance(error, MemoryError):
        return "reading failed: the clip does not fit in memory; use fewer or smaller frames"
    return f"reading failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}"

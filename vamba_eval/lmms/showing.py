"""What requests are about: all about one video come together, videos are read ahead, pictures become clips.

Knows no model.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from vamba_eval.contracts import Clip, FrameSampling, Video, VideoError
from vamba_eval.lmms import ranks
from vamba_eval.lmms.answering import Account, ResolvedRequest, Shown
from vamba_eval.lmms.requests import Content, LmmsRequest, Unsupported, VideoFile
from vamba_eval.reading.reader import Reader
from vamba_eval.video.pictures import open_image
from vamba_eval.video.pixels import resized


@dataclass(frozen=True)
class Showing:
    """How what requests show becomes clips.

    sampling         of a task of lmms-eval, by its name and the functions that define it
    reasoning_prompt text put behind each question
    frames_each      frames that show one picture
    as_images        whether several pictures are marked as such: a model then shows none as a video's frame
    """

    reader: Reader
    sampling: Callable[[str, frozenset[str]], FrameSampling]
    reasoning_prompt: str = ""
    frames_each: int = 1
    as_images: bool = False

    def resolved(self, asked: LmmsRequest, content: Content, rank: int) -> ResolvedRequest:
        text = content.text.strip() + self.reasoning_prompt if self.reasoning_prompt else content.text
        return ResolvedRequest(rank, asked.place, text, asked.settings, asked.continuation)


@dataclass
class Plan:
    """Requests by the video file that they show, and all others by document: pictures may be large, so that they are
    looked at again when it is their turn."""

    by_file: dict[tuple[FrameSampling, VideoFile], list[ResolvedRequest]] = field(default_factory=dict)
    others: list[list[LmmsRequest]] = field(default_factory=list)

    @classmethod
    def of(cls, asked: Sequence[LmmsRequest], how: Showing, rank: int) -> Plan:
        by_file: dict[tuple[FrameSampling, VideoFile], list[ResolvedRequest]] = defaultdict(list)
        others: dict[Any, list[LmmsRequest]] = defaultdict(list)
        shows_pictures: set[str] = set()
        for each in asked:
            if each.task not in shows_pictures:
                content = each.content()
                if content.videos:
                    request = how.resolved(each, content, rank)
                    by_file[how.sampling(each.task, each.functions), content.videos[0]].append(request)
                    continue
                if content.pictures:
                    shows_pictures.add(each.task)
            others[each.document].append(each)
        return cls(dict(by_file), list(others.values()))

    def __len__(self) -> int:
        """How many requests there are."""
        return sum(map(len, self.by_file.values())) + sum(map(len, self.others))

    def dealt(self, rank: int) -> Plan:
        """With the files that are this process's among those of all, and the requests of all about them."""
        everybodys = ranks.all_of(self.by_file)
        owners = ranks.deal([list(each) for each in everybodys])
        mine: dict[Any, list[ResolvedRequest]] = {
            key: [request for each in everybodys for request in each.get(key, [])]
            for key, owner in owners.items()
            if owner == rank
        }
        return Plan(mine, self.others)

    def shown(self, how: Showing, rank: int, account: Account, stop: threading.Event) -> Generator[Shown]:
        """Each clip with all that is asked about it, as soon as it is read. Ends early once ``stop`` is set."""
        for sampling in dict.fromkeys(sampling for sampling, _ in self.by_file):
            files = {file: requests for (s, file), requests in self.by_file.items() if s == sampling}
            yield from _files(files, sampling, how, account, stop)
        for document in self.others:
            yield from _document(document, how, rank, account, stop)


def _files(
    by_file: Mapping[VideoFile, list[ResolvedRequest]],
    sampling: FrameSampling,
    how: Showing,
    account: Account,
    stop: threading.Event,
) -> Iterator[Shown]:
    """Video files, read ahead in processes of their own."""
    files = {str(n): file for n, file in enumerate(by_file)}
    videos = [Video(name, file.path, (), file.start_s, file.end_s) for name, file in files.items()]
    with closing(how.reader.clips(videos, sampling, stop)) as loads:
        while True:
            start = time.perf_counter()
            loaded = next(loads, None)
            account.wait_s += time.perf_counter() - start
            if loaded is None:
                return
            account.videos += 1
            account.read_s += loaded.seconds
            requests = by_file[files[loaded.video.id]]
            yield Shown(requests, loaded.clip, str(loaded.problem) if loaded.clip is None else "")
            del loaded  # the next clip may have come meanwhile


def _document(
    asked: Sequence[LmmsRequest], how: Showing, rank: int, account: Account, stop: threading.Event
) -> Iterator[Shown]:
    """What one document shows: mostly pictures, or nothing."""
    try:
        contents = [each.content() for each in asked]
    except Unsupported as error:  # the others of this task could be shown
        yield Shown([how.resolved(each, Content(), rank) for each in asked], problem=str(error))
        return
    pairs = zip(asked, contents, strict=True)
    requests = [how.resolved(each, content, rank) for each, content in pairs]
    first, sampling = contents[0], how.sampling(asked[0].task, asked[0].functions)
    if first.videos:
        yield from _files({first.videos[0]: requests}, sampling, how, account, stop)
    elif not first.pictures:
        yield Shown(requests)
    else:
        try:
            yield Shown(requests, pictures_clip(first.pictures, sampling, how.frames_each, as_images=how.as_images))
        except VideoError as error:
            yield Shown(requests, problem=str(error))


def pictures_clip(
    pictures: Sequence[Any], sampling: FrameSampling, frames_each: int = 2, *, as_images: bool = False
) -> Clip:
    """PIL images or image files as a clip that shows each in ``frames_each`` frames (two are a whole time step of
    Qwen2-VL), in the first's size. Raises VideoError for a file that is not an image."""
    frames: list[np.ndarray] = []
    for each in pictures:
        image = each.convert("RGB") if hasattr(each, "convert") else open_image(each)
        frame = resized(np.asarray(image), sampling, frames_each * len(pictures))
        if frames and frame.shape != frames[0].shape:
            height, width = frames[0].shape[:2]
            frame = np.asarray(image.resize((width, height), resample=Image.Resampling.BICUBIC))
        frames += [frame] * frames_each
    count = len(frames)
    indices = np.arange(count) // frames_each
    # Text between the frames, even none, says that each is a picture of its own.
    captions = ((count, ""),) if as_images else ()
    nowhere = float("nan")
    return Clip(np.stack(frames), np.full(count, nowhere), indices, nowhere, nowhere, captions=captions)

"""The embedded benchmark can be answered from its pixels, by somebody who looks at all of them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from vamba_eval.tasks import synthetic

from vamba_eval import Clip, Question, Video, load_task, read_clip


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    return load_task("synthetic").load(tmp_path_factory.mktemp("synthetic"))


class Viewer:
    """Looks at sampled frames: at colors and, for words, at which of the offered ones fits best."""

    def __init__(self, clip: Clip) -> None:
        self.frames, self.times = clip.frames.astype(int), clip.timestamps_s
        middle = self.frames[:, 30:100, 76:148]
        self.seen = [self._shape(patch) for patch in middle]

    @staticmethod
    def _shape(patch: np.ndarray) -> str:
        masks = {name: np.abs(patch - np.array(rgb)).sum(-1) < 90 for name, rgb in synthetic.COLORS.items()}
        color = max(masks, key=lambda name: masks[name].sum())
        mask = masks[color]
        if mask[:, :4].mean() > 0.9 and mask[:4].mean() > 0.8:
            return f"{color} square"
        if mask[:4, :].mean() > 0.5:
            return f"{color} square"
        corners = mask[:14, :14].mean(), mask[-14:, :14].mean()
        if corners[1] > 0.5:
            return f"{color} triangle"
        arms = mask[24:44, :8].mean(), mask[5:20, 8:20].mean()
        return f"{color} cross" if arms[0] > 0.8 and arms[1] < 0.2 else f"{color} circle"

    def answer(self, question: Question) -> str:
        kind = question.groups["question_type"]
        if kind == "count":
            border = self.frames[:, 2:6, :].mean(axis=(1, 2, 3)) > 200
            found = str(int(np.sum(border[1:] & ~border[:-1]) + border[0]))
        elif kind == "needle":
            banner = self.frames[:, 47:50, 22:200].mean(axis=(1, 2, 3))
            picture = self.frames[int(np.argmax(banner))][46:82, 20:204]
            drawn = {word: synthetic._picture("red", "circle", word, False)[46:82, 20:204] for word in question.options}
            found = min(drawn, key=lambda word: np.abs(drawn[word].astype(int) - picture).sum())
        elif kind == "moment":
            minutes, seconds = re.search(r"(\d+):(\d+)", question.text).groups()
            found = self.seen[int(np.argmin(np.abs(self.times - (60 * int(minutes) + int(seconds)))))]
        else:
            first = {}
            for at, shape in enumerate(self.seen):
                if Counter(self.seen[max(0, at - 2) : at + 3])[shape] >= 3:
                    first.setdefault(shape, at)
            names = question.options[0].split(", then ")
            found = ", then ".join(sorted(names, key=lambda name: first[name]))
        return "ABCD"[question.options.index(found)]


def test_a_viewer_of_512_frames_answers_everything(videos: list[Video]) -> None:
    task = load_task("synthetic")
    wrong = []
    for video in videos:
        viewer = Viewer(read_clip(video.path, task.sampling))
        wrong += [q.id for q in video.questions if not task.score(q, viewer.answer(q), "vamba").correct]
    assert not wrong


def test_it_is_a_long_video_benchmark(videos: list[Video]) -> None:
    questions = [question for video in videos for question in video.questions]
    assert Counter(question.groups["duration"] for question in questions) == dict.fromkeys(synthetic.DURATIONS_S, 12)
    assert {q.groups["question_type"] for q in questions} == {"needle", "order", "count", "moment"}
    assert all(len(set(question.options)) == 4 for question in questions)
    answers = Counter(question.answer for question in questions)
    assert min(answers[letter] for letter in "ABCD") >= 4, "no letter is a good guess"


def test_videos_are_the_same_every_time(videos: list[Video], tmp_path: Path) -> None:
    again = tmp_path / "short_0.mp4"
    synthetic._encode(synthetic.write_script("short", 0), again)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (again, videos[0].path)]
    assert digests[0] == digests[1]
    written = videos[0].path.stat().st_mtime_ns
    load_task("synthetic").load(videos[0].path.parents[2])
    assert videos[0].path.stat().st_mtime_ns == written, "a cached video is not encoded again"

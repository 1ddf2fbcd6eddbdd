"""The embedded benchmark can be answered from its pixels, by somebody who looks at all of them."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from transformers import AutoTokenizer
from vamba_eval.model_adapters import _random_weights
from vamba_eval.model_adapters.vamba.adapter import VambaAdapter
from vamba_eval.tasks import _synthetic_examples as examples
from vamba_eval.tasks import _synthetic_videos as drawing
from vamba_eval.tasks import synthetic

from vamba_eval import Clip, FrameSampling, Question, Video, load_task, read_clip

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = Path(__file__).resolve().parent.parent / "model_adapters" / "vamba" / "small"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    return load_task("synthetic").load(tmp_path_factory.mktemp("synthetic"))


def frames_of(video: Video, count: int) -> Clip:
    return read_clip(video.path, FrameSampling(num_frames=count, shortest_edge=None, longest_edge=None))


def coarse(frames: np.ndarray, rows: slice, columns: slice, grid: int = 7) -> np.ndarray:
    """(frames, grid * grid * 3): the mean colors of a part's cells."""
    part = frames[:, rows, columns].astype(float)
    height, width = (size // grid * grid for size in part.shape[1:3])
    cells = part[:, :height, :width].reshape(len(part), grid, height // grid, grid, width // grid, 3)
    return cells.mean(axis=(2, 4)).reshape(len(part), -1)


class Viewer:
    """Looks at sampled frames, in pairs as Qwen2-VL does, and tells what is most like what it sees."""

    def __init__(self, clip: Clip) -> None:
        frames = clip.frames[: len(clip.frames) // 2 * 2]
        self.border = frames[:, 1:4].mean(axis=(1, 2, 3)) > 200
        self.flags = frames[:, 86:98, 88:100].mean(axis=(1, 2))
        self.shapes = [self.known[n][0] for n in self._nearest(frames, slice(28, 98), slice(12, 82), self.known)]
        self.clocks = self._nearest(frames, slice(6, 27), slice(6, 106), [("ball", "red", t * 10) for t in range(120)])

    known = [(shape, color, 0) for shape in drawing.SHAPES for color in drawing.COLORS]

    @staticmethod
    def _nearest(frames: np.ndarray, rows: slice, columns: slice, looks: list[tuple[str, str, int]]) -> np.ndarray:
        pictures = np.stack([drawing.picture_of(drawing.Look(*look)) for look in looks])
        grid = 7 if len(looks) == len(Viewer.known) else 20
        seen, drawn = coarse(frames, rows, columns, grid), coarse(pictures, rows, columns, grid)
        return np.array([int(np.argmin(np.abs(drawn - one).sum(axis=1))) for one in seen])

    def answer(self, question: Question) -> str:
        kind = question.groups["question_type"]
        if kind == "count":
            found = str(sum(now and not before for before, now in pairwise([False, *self.border])))
        elif kind == "needle":
            pairs = self.flags.reshape(-1, 2, 3).min(axis=1)  # in both frames of a pair
            color = pairs[int(np.argmax(pairs.max(axis=1)))]
            found = min(question.options, key=lambda name: np.abs(np.array(drawing.COLORS[name]) - color).sum())
        elif kind == "moment":
            minutes, seconds = map(int, re.search(r"(\d+):(\d+)", question.text).groups())
            at = np.flatnonzero(self.clocks == (60 * minutes + seconds) // 10)
            found = self.shapes[at[len(at) // 2]]
        else:
            order = list(dict.fromkeys(self.shapes))
            found = order[order.index(question.text.split()[-1].rstrip("?")) + 1]
        return "ABCD"[question.options.index(found)]


def test_a_viewer_of_512_frames_answers_everything_and_one_of_8_no_needles(videos: list[Video]) -> None:
    task, right = load_task("synthetic"), Counter()
    for video in videos:
        for frames in (512, 8):
            viewer = Viewer(frames_of(video, frames))
            for question in video.questions:
                try:
                    correct = task.score(question, viewer.answer(question), "vamba").correct
                except (ValueError, IndexError):  # what is asked about is not seen
                    correct = False
                right[frames, question.groups["question_type"]] += correct
    assert {right[512, kind] for kind in synthetic.KINDS} == {len(videos)}
    assert right[8, "needle"] <= 0.45 * len(videos), "it should guess"


def test_it_is_a_long_video_benchmark(videos: list[Video]) -> None:
    questions = [question for video in videos for question in video.questions]
    assert len(questions) >= 200
    assert Counter(question.groups["duration"] for question in questions) == dict.fromkeys(synthetic.DURATIONS_S, 72)
    for kind in synthetic.KINDS:
        of_kind = [question for question in questions if question.groups["question_type"] == kind]
        assert all(len(set(question.options)) == 4 for question in of_kind)
        letters = Counter(question.answer for question in of_kind)
        assert max(letters.values()) - min(letters.values()) <= 3, "no letter is a good guess"
    said = Counter(q.options["ABCD".index(q.answer)] for q in questions if q.groups["question_type"] == "count")
    assert max(said.values()) <= 16, "no number is a good guess"
    lengths = [frames_of(video, 2).duration_s for video in videos]
    assert min(lengths) >= 120 and max(lengths) > 900


def test_the_clock_shows_the_time(videos: list[Video]) -> None:
    clip = frames_of(videos[-1], 64)
    assert (Viewer(clip).clocks == clip.timestamps_s[:64] // 10).all()


def test_videos_are_the_same_every_time(videos: list[Video], tmp_path: Path) -> None:
    again, script = synthetic.video(tmp_path, "short", 0)
    assert again.questions == videos[0].questions
    drawing.render(script, again.path)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (again.path, videos[0].path)]
    assert digests[0] == digests[1]
    written = videos[0].path.stat().st_mtime_ns
    load_task("synthetic").load(videos[0].path.parents[2])
    assert videos[0].path.stat().st_mtime_ns == written, "a cached video is not encoded again"


def test_examples_to_train_on_look_like_the_benchmark() -> None:
    """Their frames are put together of parts, and a little noisy."""
    script = drawing.write_script(random.Random(7), 300)
    times = np.linspace(0, 299, 300)
    fast = examples._frames([script.look(time) for time in times], times).astype(int)
    drawn = [Image.fromarray(drawing.draw(script, time)).resize((56, 56), Image.Resampling.BICUBIC) for time in times]
    difference = np.abs(np.stack([np.asarray(picture) for picture in drawn]) - fast)
    difference[:, 48:53] = 0  # the dot, which is drawn on whole pixels
    assert difference.max() <= 12 and difference.mean() < 0.05


@pytest.mark.parametrize("name", ["picture", "slides", "video"])
def test_examples_are_their_number_s_alone_and_ask_about_their_frames(name: str) -> None:
    example = getattr(examples, name)
    frames, asked = example(3)
    again, asked_again = example(3)
    other, _ = example(4)
    assert (frames == again).all() and asked == asked_again
    assert frames.shape != other.shape or (frames != other).any()
    assert frames.dtype == np.uint8 and frames.shape[1:] == (56, 56, 3)
    asked = [pair for number in range(50) for pair in example(number)[1]]
    letters = [answer for prompt, answer in asked if "\nA. " in prompt]
    words = {answer for prompt, answer in asked if prompt.endswith("Answer in one word.")}
    assert name == "picture" or (set(letters) == set("ABCD") and words >= {" star", " red", " 1"})


def test_examples_of_one_group_have_one_number_of_frames() -> None:
    groups = [{len(examples.video(8 * group + n, (8, 16, 32), alike=8)[0]) for n in range(8)} for group in range(12)]
    assert all(len(sizes) == 1 for sizes in groups) and set().union(*groups) == {8, 16, 32}


@pytest.mark.parametrize("part, most", [("2_pairs", 64), ("3_sequences", 64), ("4_letters", 512), ("5_videos", 512)])
def test_a_course_goes_from_easy_to_hard_and_from_the_same_number_again(part: str, most: int) -> None:
    course = yaml.safe_load((SMALL / f"{part}.yaml").read_text())["data"][0]["arguments"]["course"]
    ends = [part["until"] for part in course[:-1]]
    assert ends == sorted(ends) and all(end % 128 == 0 for end in ends), "whole groups of one number of frames"
    longest = []
    for start in (0, *ends):
        group = [examples.lesson(5 * 2**32 + start + n, course, alike=128) for n in (0, 1, 127)]
        assert len({frames.shape for frames, _ in group}) == 1 and all(asked for _, asked in group)
        longest.append(max(len(examples.lesson(start + 128 * n, course, alike=128)[0]) for n in range(16)))
    assert longest == sorted(longest) and longest[-1] == most


def test_a_sequence_has_each_shape_once_in_its_order() -> None:
    ((frames, asked),) = [examples.slides(5, (6,), kinds=("sequence",), questions=1)]
    ((prompt, answer),) = asked
    shapes = answer.split()
    assert len(frames) == 12 and len(set(shapes)) == 6 and prompt == "Which shape comes after which?"
    _, described = examples.slides(5, (6,), kinds=("order",), questions=40, words=1)
    for text, word in described:
        before = text.split("the ")[1].split("?")[0]
        assert shapes[shapes.index(before) + 1] == word.strip()


def test_the_small_models_tokenizer_is_made_of_the_examples() -> None:
    made = _random_weights.word_tokenizer(examples.texts())
    stored = AutoTokenizer.from_pretrained(SMALL)
    assert (
        json.loads(made.backend_tokenizer.to_str())["model"] == json.loads(stored.backend_tokenizer.to_str())["model"]
    )
    for word in (*drawing.SHAPES, *drawing.COLORS):
        assert len(stored.tokenize(f" {word}")) == 1, word
    assert stored.tokenize("\nB. star\nC. moon")[1::4] == ["B", "C"]
    assert stored.decode(stored("Où est-ce, 007?").input_ids) == "Où est-ce, 007?", "whatever else is made of bytes"


def test_the_small_models_training_runs(cli: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """A few steps of both stages; the benchmark's videos are shrunk to the size that it is trained on."""
    few = ("--steps", 2, "--batch-size", 2, "--micro-batch", 2, "--no-recompute", "--device", "cpu")
    for stage, data, start in ((1, "1_pictures", SMALL / "start.json"), (2, "2_pairs", tmp_path / "1")):
        output = tmp_path / str(stage)
        command = ("--stage", stage, "--from", start, "--data", SMALL / f"{data}.yaml", "--output", output)
        status, _, err = cli("train", *command, "--trainable", "all", *few)
        assert status == 0, err
    adapter = VambaAdapter(pretrained=str(tmp_path / "2"), device="cpu")
    assert 1e6 < sum(weight.numel() for weight in adapter.model.parameters()) < 6e6
    frames = np.zeros((6, drawing.EDGE, drawing.EDGE, 3), np.uint8)
    seen = adapter.seen(adapter.encode(Clip(frames, np.arange(6.0), np.arange(6), 1.0, 6.0)))
    assert (seen.height, seen.width, seen.video_tokens) == (examples.EDGE, examples.EDGE, 12)

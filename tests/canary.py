"""Videos of which the frames that are to be shown tell one story, and all others another one.

They look as the synthetic benchmark's, so that `vamba_small` sees what is in them; but a clip of any other frames than
the right ones holds the wrong story, and questions are about the right one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import av
import torch
from vamba_eval.tasks import _synthetic_videos as drawing
from vamba_eval.tasks.synthetic import KINDS, Synthetic, ask, facts_of

from vamba_eval.contracts import LETTERS, FrameSampling, Question, Video

FRAMES, SHOWN, RATE, KEY_EVERY = 256, 128, 2, 32
VIDEOS = 16


class Canary(Synthetic):
    """Two of each kind of question about every video; files are made in the data root."""

    name = "canary"
    version = "1"
    sampling = FrameSampling(num_frames=SHOWN, shortest_edge=None, longest_edge=None)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        return [_video(Path(str(data_root)), number) for number in range(VIDEOS)]


def shown() -> Sequence[int]:
    """Which frames a clip has: the middles of even intervals, as the Vamba paper's scripts compute them."""
    bounds = torch.linspace(0, FRAMES, SHOWN + 1, dtype=torch.int64)
    return ((bounds[:-1] + bounds[1:]) // 2).tolist()


def _video(folder: Path, number: int) -> Video:
    rng = random.Random(f"canary {number}")
    seconds = rng.randrange(300, 1200, 10)
    # As long as the benchmark's by their clocks, though the file has two frames a second.
    script, other = (drawing.write_script(rng, seconds, 3.2 / SHOWN) for _ in range(2))
    path = folder / f"canary_{number:02d}.mp4"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _render(path, [seconds * n / FRAMES for n in range(FRAMES)], script, other)
    questions = []
    for place in range(2 * len(KINDS)):
        kind = KINDS[place % len(KINDS)]
        text, right, options = ask(kind, facts_of(script), rng)
        answer = (number + place) % 4
        options.insert(answer, right)
        groups = {"question_type": kind}
        questions.append(Question(f"{path.stem}-{place}", text, tuple(options), LETTERS[answer], groups))
    return Video(path.stem, path, tuple(questions))


def _render(path: Path, times: Sequence[float], script: drawing.Script, other: drawing.Script) -> None:
    right = set(shown())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width = stream.height = drawing.EDGE
        stream.pix_fmt, stream.options = "yuv420p", {"preset": "ultrafast", "crf": "18", "g": str(KEY_EVERY)}
        for number, second in enumerate(times):
            picture = drawing.draw(script if number in right else other, second)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())

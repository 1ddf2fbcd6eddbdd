"""A whole run, from files to records: how long a video takes, what the model waits for, how far from its limit it is.

Films are made on the spot: H.264 and HEVC at 720p and 1080p, of 1, 10 and 60 minutes, encoded as people encode
(B-frames, a key frame every 180) and repeated by copying packets. Three questions each, 512 frames, Vamba at its
released size with random weights (they change no speed), and ``evaluate`` as the command line calls it. Beside it, on
as many videos as are asked for, the reference's way: for every question again decord with one thread, PIL,
preprocessing and the whole prefill with PyTorch's own operations.

    python benchmarks/whole_run.py                                                all: half an hour on one GPU
    python benchmarks/whole_run.py --films h264-720p-10 --decode-on cpu,auto --videos 12 --reference 1
    python benchmarks/whole_run.py --cpu --films h264-90p-0.05 --videos 2 --frames 4 --decode-on cpu --reading-s 0.5
                                                                                  only to see that it works

``model s`` is what the model takes for a video and its questions, alone and beside the reading; ``reading s`` what
reading takes with no model beside it, by as many processes as a run has. A run cannot be faster than the larger of the
two alone: the limit.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "benchmarks")]

from vamba_eval.model_adapters.vamba.adapter import VambaAdapter  # noqa: E402
from vamba_speed import plain_operations, synchronize  # noqa: E402
from video_loading import repeat  # noqa: E402

from vamba_eval import FrameSampling, evaluate, read_clip  # noqa: E402
from vamba_eval.contracts import (  # noqa: E402
    Catalogue,
    Clip,
    GenerationSettings,
    Question,
    Score,
    Task,
    Video,
)
from vamba_eval.reading.reader import Reading  # noqa: E402

RATE = 30
CODECS = {
    "h264": ("libx264", {"preset": "medium", "crf": "22", "x264-params": "keyint=180"}),
    "hevc": ("libx265", {"preset": "fast", "crf": "24", "x265-params": "keyint=180:log-level=none"}),
}
FILMS = "h264-720p-1,h264-720p-10,h264-720p-60,hevc-720p-10,h264-1080p-10,hevc-1080p-10"
ENCODED_S = 12  # of each film; the rest is repeated


@dataclass(frozen=True)
class Film:
    """codec, lines and minutes, as in ``h264-720p-10``."""

    name: str

    @property
    def parts(self) -> tuple[str, int, float]:
        codec, lines, minutes = self.name.split("-")
        return codec, int(lines.removesuffix("p")), float(minutes)

    def make(self, folder: Path) -> Path:
        path = folder / f"{self.name}.mp4"
        if not path.exists():
            codec, height, minutes = self.parts
            once = folder / f"{self.name}.once.mp4"
            seconds = min(ENCODED_S, minutes * 60)
            encode(once, *CODECS[codec], round(seconds * RATE), height, height * 16 // 9 // 2 * 2)
            repeat(once, folder / f"{self.name}.part.mp4", max(1, round(minutes * 60 / seconds)))
            (folder / f"{self.name}.part.mp4").rename(path)
        return path


def encode(path: Path, codec: str, options: dict[str, str], frames: int, height: int, width: int) -> None:
    """Pictures as a camera gives them: detail of every size that wanders, things that move before it, grain."""
    import av
    from PIL import Image

    rng = np.random.default_rng(0)
    layers = [rng.normal(size=(max(2, height * 2 >> level), max(2, width * 2 >> level), 3)) for level in range(1, 8)]
    scene = sum(
        np.asarray(
            [
                np.asarray(Image.fromarray(layer[..., c].astype(np.float32)).resize((2 * width, 2 * height)))
                for c in range(3)
            ]
        )
        * 9
        * 1.35**level
        for level, layer in enumerate(layers)
    )
    scene = np.clip(scene.transpose(1, 2, 0) + 128, 0, 255).astype(np.uint8)
    grain = rng.normal(scale=3, size=(8, height, width, 1))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.options = width, height, "yuv420p", options
        for number in range(frames):
            y, x = int(height / 2 * (1 + np.sin(number / 90))), int(width / 2 * (1 + np.cos(number / 70)))
            image = scene[y : y + height, x : x + width].astype(np.float32)
            for thing in range(3):
                size = height // (4 + thing)
                top, left = (number * (2 + thing) * height // 500) % (height - size), (number * 5) % (width - size)
                image[top : top + size, left : left + size] = scene[:size, thing * size : (thing + 1) * size]
            image = np.clip(image + grain[number % 8], 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


class Films(Task):
    """The same film under several names, three questions about each."""

    name, version, catalogue = "films", "1", Catalogue("Films")

    def __init__(self, path: Path, videos: int, folder: Path) -> None:
        super().__init__()
        self._paths = [folder / f"{path.stem}-{number}.mp4" for number in range(videos)]
        for link in self._paths:
            link.symlink_to(path)

    def load(self, data_root: object, split: str | None = None) -> list[Video]:
        return [
            Video(
                path.stem, path, tuple(Question(f"{path.stem}-{n}", f"What is shown in scene {n}?") for n in range(3))
            )
            for path in self._paths
        ]

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None = None) -> str:
        return question.text

    def score(self, question: Question, response: str, protocol: str) -> Score:
        return Score({"correct": 0.0}, response, True)


class TimedVamba(VambaAdapter):
    """Knows how long it was at work, and on how many videos."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.encode_s: list[float] = []
        self.generate_s: list[float] = []

    def encode(self, clip: Clip | None) -> Any:
        return self._timed(self.encode_s, super().encode, clip)

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> Any:
        return self._timed(self.generate_s, super().generate, encoded, prompts, settings)

    def close(self) -> None:
        """It is asked again."""

    def _timed(self, times: list[float], action: Any, *arguments: Any) -> Any:
        start = time.perf_counter()
        result = action(*arguments)
        synchronize()
        times.append(time.perf_counter() - start)
        return result


def ours(model: TimedVamba, film: Path, videos: int, frames: int, decode_on: str) -> dict[str, float]:
    """Seconds a video of a run, of the model in it, and the share of the run in which it waited."""
    with tempfile.TemporaryDirectory() as folder:
        task = Films(film, videos, Path(folder))
        model.encode_s.clear()
        model.generate_s.clear()
        start = time.perf_counter()
        evaluate(
            [task],
            [model],
            output=Path(folder) / "results",
            sampling={"num_frames": frames},
            generation=GENERATION,
            reading=Reading(decode_on=decode_on),
            thumbnails=False,
            progress=False,
        )
        seconds = time.perf_counter() - start
        records = [json.loads(line) for path in Path(folder).glob("results/*/*.jsonl") for line in path.open()]
        failed = [record for record in records if record.get("error")]
        if len(records) != 3 * videos or failed:
            raise SystemExit(f"{len(records)} records, failed: {failed[:1]}")
    at_work = sum(model.encode_s) + sum(model.generate_s)
    return {
        "s/video": seconds / videos,
        "model s": at_work / videos,
        "encode s": statistics.median(model.encode_s),
        "waits %": 100 * (1 - at_work / seconds),
    }


def alone(model: TimedVamba, film: Path, frames: int) -> dict[str, float]:
    """Seconds of the model for a video and its questions, with nothing beside it."""
    clip = read_clip(film, FrameSampling(num_frames=frames))
    settings = GenerationSettings(**GENERATION)
    for _ in range(3):
        model.encode_s.clear()
        model.generate_s.clear()
        encoded = model.encode(clip)
        for number in range(3):
            model.generate(encoded, [f"What is shown in scene {number}?"], settings)
        del encoded
    return {"model s": model.encode_s[-1] + sum(model.generate_s), "encode s": model.encode_s[-1]}


def reference(model: TimedVamba, film: Path, frames: int) -> float:
    """Seconds of one video whose three questions are each asked from the file on."""
    from decord import VideoReader, cpu
    from PIL import Image

    sampling = FrameSampling(num_frames=frames)
    processor, inner = model.processor, model.model
    start = time.perf_counter()
    for number in range(3):
        video = VideoReader(str(film), ctx=cpu(0), num_threads=1)
        pictures = video.get_batch(sampling.indices(len(video), RATE)).asnumpy()
        height, width = sampling.size(*pictures.shape[1:3])
        clip = np.stack(
            [np.asarray(Image.fromarray(p).resize((width, height), Image.Resampling.BICUBIC)) for p in pictures]
        )
        inputs = processor([processor.prompt(f"What is shown in scene {number}?")], device=model.device)
        with torch.inference_mode(), plain_operations():
            pixels, grid = processor.preprocess_frames(clip, device=model.device, dtype=model.dtype)
            _, rows, columns = processor.settings.grid(*clip.shape[:3])
            memory = inner.encode_video(pixels, grid, segment_frames=inner.frames_per_segment(rows, columns, 1 << 30))
            inner.generate(**inputs, video_memory=memory, do_sample=False, **GENERATION)
            synchronize()
    return time.perf_counter() - start


GENERATION: dict[str, Any] = {"max_new_tokens": 8}


def decoded_in(limit_s: float, film: Path, on: str, share: int) -> tuple[int, float]:
    """How many clips of 512 frames, and seconds: what a process reads in ``limit_s``."""
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < limit_s:
        read_clip(film, FrameSampling(), decode_on=on, gpu_share=share, threads=max(1, (os.cpu_count() or 1) // share))
        done += 1
    return done, time.perf_counter() - start


def reading_alone(film: Path, on: str, processes: int, limit_s: float) -> float:
    """Seconds a video of reading, with as many processes as a run has and no model beside them."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(decoded_in, [0.001] * processes, [film] * processes, [on] * processes, [processes] * processes))
        jobs = [pool.submit(decoded_in, limit_s, film, on, processes) for _ in range(processes)]
        return 1 / sum(done / seconds for done, seconds in (job.result() for job in jobs))


def rows(args: argparse.Namespace, model: TimedVamba, folder: Path) -> Iterator[dict[str, Any]]:
    for name in args.films.split(","):
        film = Film(name).make(folder)
        quiet = alone(model, film, args.frames)
        yield {"film": name, "run": "the model alone"} | quiet
        for on in args.decode_on.split(","):
            videos = args.videos if Film(name).parts[2] < 30 else max(1, args.videos // 3)
            found = ours(model, film, videos, args.frames, on)
            slower = 100 * (found["encode s"] / quiet["encode s"] - 1)
            row = {"film": name, "run": f"ours, --decode-on {on}", "videos": videos} | found | {"slower %": slower}
            if args.reading_s:
                row["reading s"] = reading_alone(film, on, args.processes, args.reading_s)
                row["limit s"] = max(quiet["model s"], row["reading s"])
            yield row
        for _ in range(args.reference):
            yield {"film": name, "run": "the reference's way", "s/video": reference(model, film, args.frames)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", default=FILMS)
    parser.add_argument("--videos", type=int, default=12, help="of a run; a third of them where they last half an hour")
    parser.add_argument("--frames", type=int, default=512)
    parser.add_argument("--decode-on", default="cpu,gpu,auto")
    parser.add_argument("--reference", type=int, default=1, help="videos that are asked the reference's way")
    parser.add_argument("--reading-s", type=float, default=10.0, help="measure reading alone for so long; 0: do not")
    parser.add_argument("--processes", type=int, default=4, help="that read alone: those of a run on this machine")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "whole_run")
    parser.add_argument("--cpu", action="store_true", help="a small model without a GPU, to see that all of it runs")
    args = parser.parse_args()
    if not (args.cpu or torch.cuda.is_available()):
        print("this measures a GPU, and torch sees none: --cpu shows whether it works", file=sys.stderr)
        sys.exit(2)
    logging.basicConfig(level=logging.WARNING)
    args.folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        list(pool.map(Film.make, map(Film, args.films.split(",")), [args.folder] * 99))
    model = TimedVamba(random="small", device="cpu") if args.cpu else TimedVamba(random="released", device="cuda")
    where = "CPU" if args.cpu else torch.cuda.get_device_name()
    print(f"{where}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}, {args.frames} frames\n")
    names = ("film", "run", "videos", "s/video", "model s", "encode s", "slower %", "waits %", "reading s", "limit s")
    print("| " + " | ".join(names) + " |\n|" + " --- |" * len(names))
    for row in rows(args, model, args.folder):
        cells = [row.get(name, "-") for name in names]
        print("| " + " | ".join(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells) + " |", flush=True)


if __name__ == "__main__":
    main()

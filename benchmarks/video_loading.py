"""How fast sampled frames are read, and how near that is to what the decoder allows.

Makes its own files (an hour at 720p with a key frame every 250 frames, ten minutes at 1080p, one minute at
360p; H.264 and HEVC), reads each with

    ours         read_clip
    decord       as the Vamba scripts use it: get_batch, then PIL for each frame
    torchcodec   get_frames_at, then PIL
    sequential   PyAV, decoding the file from its start to its end

each in a process of its own, and compares the clips' bytes with decord's on every run. The limit is the time
that the frames which must be decoded take the decoder alone, measured on a sample of the file's stretches and
divided by the cores. Last, whole loops with a model that answers at once.

    python benchmarks/video_loading.py                                  everything: more than an hour
    python benchmarks/video_loading.py --files hour.h264 --frames 512   one comparison
    python benchmarks/video_loading.py --loop-only
    python benchmarks/video_loading.py --files seconds.h264 --frames 4 --loop seconds.h264 --loop-videos 2
                                                                        only to see that it works
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY)]

# Seconds encoded, how often they are repeated (by copying packets), height, width.
FILES = {
    "hour": (100, 36, 720, 1280),
    "ten_minutes": (30, 20, 1080, 1920),
    "minute": (60, 1, 360, 640),
    "seconds": (2, 2, 180, 320),
}
CODECS = {
    "h264": ("libx264", {"preset": "veryfast", "x264-params": "keyint=250:min-keyint=250:scenecut=0"}),
    "hevc": (
        "libx265",
        {"preset": "ultrafast", "x265-params": "keyint=250:scenecut=0:bframes=4:open-gop=0:log-level=none"},
    ),
}
READERS = ("ours", "decord", "torchcodec", "sequential")
RATE = 30


# ------------------------------------------------------------------------------------------------- files


def make_file(folder: Path, name: str) -> Path:
    """A film of moving texture, grain and a moving square; kept for the next time."""
    path = folder / f"{name}.mp4"
    if not path.exists():
        print(f"making {path.name} ...", file=sys.stderr, flush=True)
        kind, codec = name.split(".")
        seconds, repeats, height, width = FILES[kind]
        once = folder / f"{name}.once.mp4"
        _encode(once, *CODECS[codec], seconds * RATE, height, width)
        repeat(once, folder / f"{name}.part.mp4", repeats)
        once.unlink()
        (folder / f"{name}.part.mp4").rename(path)
    return path


def _encode(path: Path, codec: str, options: dict[str, str], frames: int, height: int, width: int) -> None:
    import av
    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, ((height + 400) // 16, (width + 400) // 16, 3), dtype=np.uint8)
    texture = np.asarray(Image.fromarray(coarse).resize((width + 400, height + 400))).astype(np.int16)
    grain = rng.integers(-6, 7, (8, height, width, 1)).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.options = width, height, "yuv420p", options
        for number in range(frames):
            y, x = int(200 + 190 * np.sin(number / 70)), int(200 + 190 * np.cos(number / 50))
            image = np.clip(texture[y : y + height, x : x + width] + grain[number % 8], 0, 255).astype(np.uint8)
            left = number * 5 % (width - 100)
            image[height // 3 : height // 3 + 100, left : left + 100] = (number % 256, 255 - number % 256, 128)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def repeat(source: Path, target: Path, times: int) -> None:
    import av

    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        template = read.streams.video[0]
        stream = written.add_stream_from_template(template)
        packets = [packet for packet in read.demux(template) if packet.size]
        length = sum(packet.duration for packet in packets)
        for number, packet in itertools.product(range(times), packets):
            copy = av.Packet(bytes(packet))
            copy.pts, copy.dts = packet.pts + number * length, packet.dts + number * length
            copy.time_base, copy.duration, copy.is_keyframe = packet.time_base, packet.duration, packet.is_keyframe
            copy.stream = stream
            written.mux(copy)


# ----------------------------------------------------------------------------------------------- readers


def read(reader: str, path: Path, frames: int, threads: int) -> np.ndarray:
    """The clip's frames, as that reader's users get them."""
    from vamba_eval import FrameSampling, read_clip

    sampling = FrameSampling(num_frames=frames)
    if reader == "ours":
        return read_clip(path, sampling, threads=threads).frames
    if reader == "decord":
        from decord import VideoReader, cpu

        video = VideoReader(str(path), ctx=cpu(0), num_threads=threads)
        return _shrunk(video.get_batch(sampling.indices(len(video), RATE)).asnumpy(), sampling)
    if reader == "torchcodec":
        from torchcodec.decoders import VideoDecoder

        decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=threads)
        return _shrunk(decoder.get_frames_at(sampling.indices(len(decoder), RATE)).data.numpy(), sampling)
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        wanted = set(sampling.indices(stream.frames, RATE))
        chosen = (frame for number, frame in enumerate(container.decode(stream)) if number in wanted)
        return _shrunk((frame.to_ndarray(format="rgb24") for frame in chosen), sampling)


def _shrunk(images: Iterable[np.ndarray], sampling: Any) -> np.ndarray:
    from vamba_eval.video.pixels import resized

    return np.stack([resized(image, sampling) for image in images])


def measure(reader: str, path: Path, frames: int, threads: int) -> dict[str, Any]:
    """In this process: seconds, CPU seconds, peak memory, digest."""
    from vamba_eval.video.others import preload

    preload(reader)  # importing torch takes longer than reading a short clip
    start, cpu = time.perf_counter(), time.process_time()
    clip = read(reader, path, frames, threads)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu_s": cpu, "peak_mib": peak, "digest": hashlib.md5(clip.data).hexdigest()}


def limit(path: Path, frames: int, cores: int) -> tuple[int, float, float]:
    """How many frames must be decoded; the seconds that takes the decoder alone on all cores; and those that
    colors and PIL's resizing of the wanted frames take besides."""
    from vamba_eval import FrameSampling
    from vamba_eval.video.packets import best_stream, index_packets, intervals, open_video, skips_unreferenced
    from vamba_eval.video.pixels import resized, rgb

    sampling = FrameSampling(num_frames=frames)
    with open_video(path) as container:
        stream = best_stream(container, path)
        index = index_packets(container, stream, path)
        wanted = sampling.indices(len(index.pts), RATE)
        stretches = intervals(index, wanted)
        sample = stretches[:: max(1, len(stretches) // 24)]
        context = stream.codec_context
        context.thread_count = 1
        skips = skips_unreferenced(stream)
        decoded, start = 0, time.perf_counter()
        for stretch in sample:
            container.seek(stretch.key_pts, stream=stream)
            left = set(stretch.targets)
            for packet in container.demux(stream):
                if skips:
                    context.skip_frame = "DEFAULT" if packet.pts in left else "NONREF"
                left.discard(packet.pts)
                decoded += len(packet.decode())
                if not left:
                    break
            decoded += len(context.decode(None))
        seconds = time.perf_counter() - start
        scale = len(stretches) / len(sample)
        container.seek(0, stream=stream)
        context.skip_frame = "DEFAULT"
        some = list(itertools.islice(container.decode(stream), 16))
        start = time.perf_counter()
        for frame in some:
            resized(rgb(frame, context.name), sampling)
        pixels = (time.perf_counter() - start) / len(some) * len(wanted)
    return round(decoded * scale), seconds * scale / cores, pixels / cores


def compare(files: list[str], frame_counts: list[int], readers: list[str], folder: Path, cores: int) -> None:
    columns = ["file", "frames", "reader", "s", "x decord", "CPU s", "peak MiB", "of decord's", "bytes"]
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)
    for name, frames in itertools.product(files, frame_counts):
        path = make_file(folder, name)
        results: dict[str, dict[str, Any]] = {}
        for reader in dict.fromkeys(["decord", *readers]):
            command = [sys.executable, __file__, "--measure", reader, str(path), str(frames), str(cores)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"| {name} | {frames} | {reader} | failed: {done.stderr.strip().splitlines()[-1][:80]} |")
                continue
            results[reader] = one = json.loads(done.stdout.splitlines()[-1])
            reference = results.get("decord", one)
            cells = [name, frames, reader, f"{one['seconds']:.1f}", f"{reference['seconds'] / one['seconds']:.2f}"]
            cells += [f"{one['cpu_s']:.0f}", f"{one['peak_mib']:.0f}", f"{one['peak_mib'] / reference['peak_mib']:.2f}"]
            cells.append("same" if one["digest"] == reference["digest"] else "OTHER")
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
        needed, seconds, pixels = limit(path, frames, cores)
        what = f"limit: {needed:,} frames to decode, {seconds:.1f} s, and pixels, {pixels:.1f} s"
        print(f"| {name} | {frames} | {what} | {seconds + pixels:.1f} | | | | | |", flush=True)


# ------------------------------------------------------------------------------------------- whole loops


def compare_loops(folder: Path, name: str, videos: int, questions: int, frames: int) -> None:
    """Videos a minute with a model that answers at once: ours, and reading again for every question."""
    from PIL import Image

    film = make_file(folder, name)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        data = Path(work) / "two_choices"
        data.mkdir()
        rows = []
        for number in range(videos):
            (data / f"{number}.mp4").symlink_to(film)
            rows += [
                {"video": f"{number}.mp4", "question": f"{q}?", "right": "yes", "wrong": "no"} for q in range(questions)
            ]
        with open(data / "questions.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        guide = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
        plugins = Path(work) / "plugins.py"
        plugins.write_text(
            "".join(
                block.split("\n", 1)[1] for block in guide.split("```python ")[1:] for block in [block.split("```")[0]]
            )
        )
        command = [sys.executable, str(REPOSITORY / "run_eval.py"), "--tasks", f"{plugins}:TwoChoices"]
        command += [
            "--models",
            f"bright={plugins}:Brightness",
            "--data-root",
            work,
            "--allow-outside",
            "--output",
            f"{work}/out",
        ]
        command += ["--num-frames", str(frames)]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        ours = time.perf_counter() - start
        if done.returncode:
            sys.exit(f"the run ended with status {done.returncode}:\n{done.stderr[-3000:]}")
        start = time.perf_counter()
        answers: Counter[str] = Counter()
        for row in rows:
            clip = read("decord", data / row["video"], frames, 0)
            answers["A" if np.asarray(Image.fromarray(clip[0])).mean() > 128 else "B"] += 1
        again = time.perf_counter() - start
    print(f"\n{videos} times {name}, {questions} questions each, {frames} frames, a model that answers at once:")
    print("| loop | videos a minute |\n| --- | --- |")
    print(f"| ours, start and tables included | {60 * videos / ours:.0f} |")
    print(f"| decord, question by question | {60 * videos / again:.0f} |")
    print(f"\n{again / ours:.1f} times")


def main() -> None:
    from vamba_eval.machine import available_cores

    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    names = [f"{file}.{codec}" for file in FILES for codec in CODECS]
    measured = [name for name in names if not name.startswith("seconds.")]
    parser.add_argument("--files", nargs="*", default=measured, choices=names)
    parser.add_argument("--frames", nargs="*", type=int, default=[64, 512, 1024])
    parser.add_argument("--readers", nargs="*", default=list(READERS), choices=READERS)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "vamba_eval_benchmark_videos")
    parser.add_argument("--loop", default="minute.h264", choices=names, help="the file of whole loops")
    parser.add_argument("--loop-videos", type=int, default=12)
    parser.add_argument("--loop-frames", type=int, default=64)
    parser.add_argument("--loop-only", action="store_true")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        reader, path, frames, threads = args.measure
        print(json.dumps(measure(reader, Path(path), int(frames), int(threads))))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    if not args.loop_only:
        compare(args.files, args.frames, args.readers, args.folder, available_cores())
    compare_loops(args.folder, args.loop, args.loop_videos, questions=3, frames=args.loop_frames)


if __name__ == "__main__":
    main()

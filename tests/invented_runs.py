"""Runs on disk in the store's format, with invented responses: of any size, without a model or a video."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vamba_eval.contracts import Clip, Question, Video
from vamba_eval.registry import load_task
from vamba_eval.store.runs import Run
from vamba_eval.store.thumbnails import Thumbnails

Respond = Callable[[str, Question, random.Random], tuple[str | None, str | None]]


def respond(model: str, question: Question, chance: random.Random) -> tuple[str | None, str | None]:
    """(response, error): mostly right for models whose names sort early; sometimes unparsed or failed."""
    dice = chance.random()
    if dice < (0.004 if "c" <= model < "f" else 0):
        return None, "answering failed: RuntimeError: CUDA error: device-side assert triggered"
    if dice < 0.04:
        return "I cannot tell from the video which of these it is.", None
    skill = 0.75 - 0.06 * (ord(model[0]) - ord("a")) / 5
    letter = question.answer if chance.random() < skill else chance.choice("ABCD")
    return f"{letter}. {question.options['ABCD'.index(letter or 'A')]}", None


def invent_run(
    folder: Path,
    task_name: str,
    videos: Sequence[Video],
    models: Sequence[str],
    *,
    num_frames: int = 512,
    respond: Respond = respond,
    gpu: str = "NVIDIA H100 80GB HBM3",
    pictures: bool = True,
    seed: int = 0,
) -> Path:
    """Write a run of ``models`` about ``videos``; costs grow with the number of frames and the model's place."""
    task = load_task(task_name)
    sampling = {**task.sampling.describe(), "num_frames": num_frames}
    environment = {"packages": {}, "hardware": {"gpus": [gpu]}}
    chance = random.Random(seed)
    with Run(folder, environment) as run:
        fingerprint = {"source": task_name, "version": task.version, "split": None, "protocol": "vamba"}
        counts = {"videos": len(videos), "questions": sum(len(video.questions) for video in videos)}
        run.register_task(task_name, {**fingerprint, "sampling": sampling, "generation": {}}, counts, [])
        strips = Thumbnails(folder)
        for number in range(len(videos)) if pictures else ():
            strips.save(_clip(number, num_frames), _digest(number, num_frames))
        for place, model in enumerate(models):
            run.register_model(model, {"adapter": model, "reads_video": True})
            records = run.records(task_name, model)
            lines = []
            for number, video in enumerate(videos):
                encode_s = (0.2 + 0.3 * place) * num_frames / 64 * chance.uniform(0.9, 1.2)
                for question in video.questions:
                    response, error = respond(model, question, chance)
                    lines.append(
                        {
                            "task": task_name,
                            "model": model,
                            "environment": 0,
                            "video": video.id,
                            "seed": 0,
                            "load_s": 1.5 + number % 7,
                            "frames": num_frames,
                            "frames_digest": _digest(number, num_frames),
                            "encode_s": encode_s,
                            "question": question.id,
                            "text": question.text,
                            "options": list(question.options),
                            "answer": question.answer,
                            "groups": dict(question.groups),
                            "prompt": task.prompt(video, question, "vamba", None),
                            "response": response,
                            "error": error,
                            "num_tokens": 12,
                            "finish_reason": "stop",
                            "generate_s": 0.1 + 0.05 * place,
                            "peak_bytes": int((16 + 2 * place + num_frames / 64) * (1 << 30)),
                            "peak_kind": "gpu",
                        }
                    )
            records.path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def _digest(number: int, num_frames: int) -> str:
    return f"{number:08x}{num_frames:024x}"


def _clip(number: int, num_frames: int) -> Clip:
    """Frames of moving color; the picture is about as hard to compress as a photograph."""
    noise = np.random.default_rng(number)
    y, x = np.mgrid[:90, :160]
    base = noise.normal(0, 20, (90, 160, 1)) + np.stack([y + 20, x * 0.8 + number % 80, 160 - y], -1)
    frames = np.stack([np.roll(base, 20 * part, axis=1) for part in range(8)]).clip(0, 255).astype(np.uint8)
    times = np.arange(8) * 400.0 + number
    return Clip(frames, times, (times * 25).astype(np.int64), 25.0, 3600.0)


def invented_videos(root: Path, count: int, questions: int = 3) -> list[Video]:
    """Video-MME with ``count`` invented videos."""
    from benchmark_files import videomme_rows, write_videomme

    rows: list[dict[str, Any]] = videomme_rows(count, questions)
    write_videomme(root, rows)
    return load_task("videomme").load(root)

"""Questions about one video or image of your own: read once, encoded once."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vamba_eval import registry
from vamba_eval.contracts import (
    Answer,
    Clip,
    FrameSampling,
    GenerationSettings,
    UserError,
    Video,
    VideoError,
    first_line,
)
from vamba_eval.cost.meter import Meter
from vamba_eval.machine import out_of_memory
from vamba_eval.progress import Display
from vamba_eval.reading.reader import Reader, Reading
from vamba_eval.run.plan import sampling_with
from vamba_eval.run.session import Session
from vamba_eval.video.pictures import IMAGE_ENDINGS, read_image


def ask(
    path: Path,
    questions: Iterable[str],
    model: str,
    model_args: Mapping[str, Any],
    num_frames: int = 512,
    max_new_tokens: int = 512,
    *,
    shortest_edge: int | None = 256,
    longest_edge: int | None = 480,
) -> Iterator[Answer]:
    """The model's answer to each question, as it is asked. Raises UserError for a file that cannot be read."""
    label, model, model_args = registry.named_model(model, model_args)
    registry.check_arguments(model, model_args)
    try:
        sizes = {"shortest_edge": shortest_edge, "longest_edge": longest_edge}
        sampling = sampling_with(FrameSampling(), {"num_frames": num_frames, **sizes})
        settings = GenerationSettings(max_new_tokens=max_new_tokens)
        clip = read_image(path, sampling) if path.suffix.lower() in IMAGE_ENDINGS else _read_video(path, sampling)
    except (ValueError, VideoError) as error:
        raise UserError(str(error)) from error
    with Display() as display, display.waiting(f"loading {label}"):
        adapter = registry.load_local(model, **model_args)
    identity = adapter.describe()
    if identity.get("weights") == "random":
        print(f"{label} has random weights, it is not a trained model: its answers mean nothing", file=sys.stderr)
    if limits := identity.get("trained_on"):
        print(f"{label} is trained on {limits}: its answers about other videos mean nothing", file=sys.stderr)
    try:
        with Meter() as meter:
            session = Session(adapter, clip if adapter.reads_video else None, meter)
            count, height, width = clip.frames.shape[:3]
            seconds = meter.costs["encode"].seconds
            print(f"{count} frames of {width}x{height}, encoded in {seconds:.1f} s", file=sys.stderr)
            for question in questions:
                yield session.answer(question, settings)
    except Exception as error:
        if isinstance(error, UserError):
            raise
        if not out_of_memory(error):
            raise registry.code_error(f"{label} fails", error, type(adapter)) from error
        raise UserError(f"out of memory: {first_line(error)} (--num-frames, --longest-edge)") from error
    finally:
        adapter.close()


def _read_video(path: Path, sampling: FrameSampling) -> Clip:
    with Reader(Reading(workers=1)) as reader:  # a process of its own: a file that hangs must not take this one along
        (loaded,) = reader.clips([Video(path.name, path, ())], sampling)
    if loaded.clip is None:
        raise VideoError(loaded.problem or "")
    return loaded.clip

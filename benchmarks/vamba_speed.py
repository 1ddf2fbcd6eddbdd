"""Speed and memory of Vamba at its released size on one GPU, beside a plain baseline in the same run.

Random weights (they change neither speed nor memory), bfloat16, one video of random frames and questions of
160 tokens. "Plain" is the same model as people run it: one shot, PyTorch's own operations, transformers'
ordinary generate, everything again for every question. Both use mamba-ssm's scan if it can be imported.

    python benchmarks/vamba_speed.py [--frames 64,512,1024] [--size 640x360] [--longest 4096] [--no-plain]
    python benchmarks/vamba_speed.py --cpu --frames 4 --size 56x56 --longest 0 --stages 4

The second only shows that all of it runs: a small model, without a GPU.

Prints Markdown. Times are medians of three after a warm-up, between synchronisations, from uint8 frames in
host memory to the answer; memory is the allocator's peak.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vamba_eval.model_adapters.vamba import mixer, vision
from vamba_eval.model_adapters.vamba.adapter import VambaAdapter

from vamba_eval.contracts import Clip, GenerationSettings

QUESTION_TOKENS = 160
GIB = 2**30


def synchronize() -> None:
    """Wait for the GPU, if one is in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def forget_peak() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def peak_gib() -> float:
    """Of the GPU's memory; not a number without one."""
    return torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_initialized() else math.nan


def measure(action: Callable[[], Any], repeats: int = 3) -> float:
    """Median seconds."""
    times = []
    for _ in range(repeats):
        synchronize()
        start = time.perf_counter()
        action()
        synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@contextmanager
def plain_operations() -> Iterator[None]:
    """Without our kernels, and with PyTorch's own choice of attention: no shape is planned for."""
    frame_attention = vision.frame_attention

    def without_plans(attn: Any, normed: torch.Tensor, rotary: Any, recurs: bool) -> torch.Tensor:
        return frame_attention(attn, normed, rotary, recurs=False)

    with (
        patch.object(mixer, "triton_kernels", return_value=None),
        patch.object(vision, "frame_attention", without_plans),
    ):
        yield


def make_clip(frames: int, size: tuple[int, int]) -> Clip:
    width, height = size
    pictures = torch.randint(0, 256, (frames, height, width, 3), dtype=torch.uint8).numpy()
    index = torch.arange(frames).numpy()
    return Clip(pictures, index.astype(float), index, 1.0, float(frames))


def report(adapter: VambaAdapter, frames: int, size: tuple[int, int], with_plain: bool) -> dict[str, Any]:
    clip = make_clip(frames, size)
    question = "x" * (QUESTION_TOKENS - len(adapter.processor.tokenizer(adapter.processor.prompt("")).input_ids))
    one, few, many = (GenerationSettings(max_new_tokens=n) for n in (1, 2, 66))
    state: dict[str, Any] = {}

    def encode() -> None:
        state.clear()  # as in the harness, no video's memory outlives its questions
        state["memory"] = adapter.encode(clip)

    def first_token() -> None:
        encode()
        adapter.generate(state["memory"], [question], one)

    first_token()
    forget_peak()
    row: dict[str, Any] = {"frames": frames}
    row["first_token_s"] = measure(first_token)
    row["encode_s"] = measure(encode)
    row["peak_gib"] = peak_gib()
    row["tokens"] = state["memory"].num_tokens
    row["kept_gib"] = state["memory"].nbytes / GIB
    row["question_s"] = measure(lambda: adapter.generate(state["memory"], [question], few))
    row["answer_of_66_s"] = measure(lambda: adapter.generate(state["memory"], [question], many))
    row["decode_ms"] = replayed_step_ms(adapter, state["memory"])
    state.clear()
    if with_plain:
        torch.cuda.empty_cache()
        with plain_operations():
            row |= plain(adapter, clip, question)
    return row


def replayed_step_ms(adapter: VambaAdapter, memory: Any) -> float:
    """Milliseconds of a further token, from answers of two lengths that differ in replayed steps only."""
    ids = torch.randint(0, 200, (1, QUESTION_TOKENS), device=adapter.device)

    def answer(tokens: int) -> float:
        return measure(lambda: adapter.decoder(ids, memory, tokens, {-1}))

    return 1000 * (answer(84) - answer(20)) / 64


def plain(adapter: VambaAdapter, clip: Clip, question: str) -> dict[str, Any]:
    processor, model = adapter.processor, adapter.model
    _, rows, columns = processor.settings.grid(*clip.frames.shape[:3])
    inputs = processor([processor.prompt(question)], device=adapter.device)

    def ask(tokens: int) -> None:
        pixels, grid = processor.preprocess_frames(clip.frames, device=adapter.device, dtype=adapter.dtype)
        with torch.inference_mode():
            memory = model.encode_video(pixels, grid, segment_frames=model.frames_per_segment(rows, columns, 1 << 30))
            del pixels
            model.generate(**inputs, video_memory=memory, max_new_tokens=tokens, do_sample=False)

    try:
        ask(1)
        forget_peak()
        first, later = measure(lambda: ask(1)), measure(lambda: ask(9))
    except torch.OutOfMemoryError:
        return dict.fromkeys(("plain_first_token_s", "plain_decode_ms", "plain_peak_gib"), math.nan)
    peak = peak_gib()
    return {"plain_first_token_s": first, "plain_decode_ms": 1000 * (later - first) / 8, "plain_peak_gib": peak}


def stages(adapter: VambaAdapter, frames: int, size: tuple[int, int]) -> list[tuple[str, float]]:
    """Seconds of each stage of encoding, each timed by itself over the whole video, in segments as in use."""
    model, processor = adapter.model, adapter.processor
    clip = make_clip(frames, size)
    _, rows, columns = processor.settings.grid(*clip.frames.shape[:3])
    patches = model.frames_per_segment(rows, columns)
    place = {"device": adapter.device, "dtype": adapter.dtype}

    def segments() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return processor.segments(torch.from_numpy(clip.frames), patches, **place)

    wholes = [vision.Segment(p, *g[0].tolist(), 0, full=int(g[0, 0]) == patches) for p, g in segments()]
    layer, layers = model.model.layers[0], len(model.model.layers)
    mixers = layers - 1  # the last layer's is not run
    mix = layer.vision_mixer.mixer
    results: list[tuple[str, float]] = []

    def add(name: str, times: int, action: Callable[[], Any]) -> None:
        with torch.no_grad():
            action()
            results.append((name, times * measure(action)))

    add("frames to GPU, resize, normalise, patches", 1, lambda: deque(segments(), maxlen=0))
    add("vision tower, all its blocks", 1, lambda: [vision.encode_frames(model.visual, s) for s in wholes])
    with torch.no_grad():
        videos = [vision.encode_frames(model.visual, s) for s in wholes]
        projected = [mix.in_proj(v) for v in videos]
        config = mix.config
        parts = [p.split([config.scan_width, config.conv_width, config.num_heads], dim=-1) for p in projected]
    window = mix.empty_state(1, videos[0]).window
    state = mix.empty_state(1, videos[0]).ssm

    def conv(xbc: torch.Tensor) -> torch.Tensor:
        return mixer.causal_conv_silu(xbc, window, mix.conv1d.weight.squeeze(1), mix.conv1d.bias)[0]

    with torch.no_grad():
        convolved = [conv(xbc) for _, xbc, _ in parts]

    def scan(xbc: torch.Tensor, dt: torch.Tensor, chunk: int) -> torch.Tensor:
        x, b, c = xbc.split([config.scan_width, config.d_state, config.d_state], dim=-1)
        return mixer.selective_scan(
            x.unflatten(-1, (config.num_heads, config.headdim)),
            dt,
            -mix.A_log.float().exp(),
            b.unflatten(-1, (1, config.d_state)),
            c.unflatten(-1, (1, config.d_state)),
            mix.D,
            state,
            dt_bias=mix.dt_bias,
            chunk_size=chunk,
        )[0]

    with torch.no_grad():
        scanned = [scan(x, p[2], 256).flatten(-2) for x, p in zip(convolved, parts, strict=True)]
    add("mixers: norm", mixers, lambda: [mixer.rms_norm(v, layer.vision_mixer.norm) for v in videos])
    add("mixers: residual", mixers, lambda: [v + v for v in videos])
    add("mixers: in_proj", mixers, lambda: [mix.in_proj(v) for v in videos])
    add("mixers: convolution and SiLU", mixers, lambda: [conv(p[1]) for p in parts])
    for chunk in (64, 128, 256):
        add(
            f"mixers: scan in chunks of {chunk}",
            mixers,
            lambda chunk=chunk: [scan(x, p[2], chunk) for x, p in zip(convolved, parts, strict=True)],
        )
    add("mixers: gated norm", mixers, lambda: [mix.norm(y, p[0]) for y, p in zip(scanned, parts, strict=True)])
    add("mixers: out_proj", mixers, lambda: [mix.out_proj(y) for y in scanned])
    add("keys and values", layers, lambda: [layer.cross_attn.keys_and_values(v, None) for v in videos])
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", default="64,512,1024")
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--longest", type=int, default=4096, help="0: do not try a very long video")
    parser.add_argument("--stages", type=int, default=512, help="frames of the video whose stages are timed")
    parser.add_argument("--no-plain", action="store_true")
    parser.add_argument("--cpu", action="store_true", help="a small model without a GPU, to see that all of it runs")
    args = parser.parse_args()
    if not (args.cpu or torch.cuda.is_available()):
        print("this measures a GPU, and torch sees none: --cpu shows whether it works", file=sys.stderr)
        sys.exit(2)
    width, height = (int(edge) for edge in args.size.split("x"))
    size = (width, height)
    adapter = VambaAdapter(random="small", device="cpu") if args.cpu else VambaAdapter(random="released", device="cuda")
    on_gpu = adapter.device.type == "cuda"
    where = torch.cuda.get_device_name() if on_gpu else "CPU"
    scan = "mamba-ssm" if on_gpu and mixer.mamba_scan() is not None else "plain PyTorch"
    print(f"{where}, torch {torch.__version__}, scan: {scan}, {args.size}\n", flush=True)
    edge = 8192 if on_gpu else 256
    a = torch.randn(edge, edge, device=adapter.device, dtype=adapter.dtype)
    a @ a
    rate = 2 * edge**3 / measure(lambda: a @ a) / 1e12
    print(f"{adapter.describe()['dtype']} matrix product of {edge}: {rate:.3g} TFLOP/s\n")
    rows = [report(adapter, int(n), size, not args.no_plain) for n in args.frames.split(",")]
    names = list(dict.fromkeys(name for row in rows for name in row))
    print("| " + " | ".join(names) + " |\n|" + " --- |" * len(names))
    for row in rows:
        print("| " + " | ".join(f"{row[n]:.4g}" if n in row else "-" for n in names) + " |", flush=True)
    print(f"\n| stage, {args.stages} frames | s |\n| --- | --- |")
    for name, seconds in stages(adapter, args.stages, size):
        print(f"| {name} | {seconds:.3g} |", flush=True)
    if args.longest:
        torch.cuda.empty_cache()
        forget_peak()
        clip = make_clip(args.longest, size)
        seconds = measure(
            lambda: adapter.generate(adapter.encode(clip), ["?"], GenerationSettings(max_new_tokens=1)), 1
        )
        peak = peak_gib()
        print(f"\n{args.longest} frames: {seconds:.2f} s to the first token, peak {peak:.1f} GiB")


if __name__ == "__main__":
    main()

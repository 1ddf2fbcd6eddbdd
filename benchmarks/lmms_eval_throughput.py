"""Questions a minute inside lmms-eval: its own qwen2_vl against ours, on the same videos, frames and weights.

    python benchmarks/lmms_eval_throughput.py                            small random weights, on the CPU
    python benchmarks/lmms_eval_throughput.py --size 7b --device cuda    random weights of the 7B model's shape

Needs lmms-eval with its qwen2_vl (pip install "vamba-eval[lmms-eval]" decord qwen-vl-utils). Videos are generated, as
Video-MME has them: three questions each. Both models run in lmms-eval, each in a process of its own, with as many
frames of the same size, so with as many video tokens; measured is what lmms-eval's ``generate_until`` takes, without
loading the model. Reading is what the video decoders took (ours in processes beside the model), waiting is how long the
model stood still for it.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "small": {
        "text": {
            "hidden_size": 256,
            "intermediate_size": 1024,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
        "vision": {"depth": 4, "embed_dim": 128, "hidden_size": 256, "num_heads": 4},
    },
    # Qwen/Qwen2-VL-7B-Instruct's config.json
    "7b": {
        "text": {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
        },
        "vision": {"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16},
    },
}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{{ '<|im_start|>assistant\n' }}"
)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--videos", type=int, default=6, help="of three questions each (default: 6)")
    parser.add_argument("--seconds", type=int, default=60, help="a video's length (default: 60)")
    parser.add_argument("--video-size", default="640x360", metavar="WxH")
    parser.add_argument("--frames", type=int, default=32, help="frames a video (default: 32, lmms-eval's)")
    parser.add_argument("--work", type=Path, help="where videos and weights are kept (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        checkpoint = make_checkpoint(work / f"weights-{args.size}", args.size, args.device)
        width, height = map(int, args.video_size.split("x"))
        make_data(work, args.videos, args.seconds, height, width)
        # The size that both are given: neither resizes otherwise, and both round to multiples of 28.
        pixels = height * width
        common = f"pretrained={checkpoint},device={args.device},device_map={args.device},max_num_frames={args.frames}"
        common += f",min_pixels=3136,max_pixels={pixels}"
        rows = [
            {"model": name, **measure(work, model, common, args.device)}
            for name, model in (("lmms-eval's qwen2_vl", "qwen2_vl"), ("vamba_qwen2_vl", "vamba_qwen2_vl"))
        ]
    report(args, rows)
    if args.json:
        args.json.write_text(
            json.dumps({"arguments": vars(args) | {"work": None, "json": None}, "rows": rows}, indent=2)
        )


def report(args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    import torch
    from tabulate import tabulate

    where = torch.cuda.get_device_name() if args.device.startswith("cuda") else f"CPU, {os.cpu_count()} cores"
    print(
        f"\n{args.videos} videos of {args.seconds} s in {args.video_size}, 3 questions each, {args.frames} frames, "
        f"{args.size} random weights, {where}\n"
    )
    cells = [
        {
            "Model in lmms-eval": row["model"],
            "Questions/min": f"{60 * row['questions'] / row['seconds']:.1f}",
            "Seconds": f"{row['seconds']:.1f}",
            "CPU s": f"{row['cpu_s']:.1f}",
            "Reading s": f"{row['read_s']:.1f}",
            "Waiting s": f"{row['wait_s']:.1f}",
            "Video tokens": f"{row['video_tokens']:,.0f}",
        }
        for row in rows
    ]
    print(tabulate(cells, headers="keys", tablefmt="pipe", disable_numparse=True))
    print(f"\nOurs answers {rows[0]['seconds'] / rows[1]['seconds']:.2f} times as many questions a minute.")


# --------------------------------------------------------------------------------------------- one run


def measure(work: Path, model: str, model_args: str, device: str) -> dict[str, float]:
    """What one model took, in a process of its own that runs lmms-eval."""
    figures = work / f"{model}.json"
    environment = {
        **os.environ,
        "HF_HOME": str(work),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(work / "datasets_cache"),
    }
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, __file__, "--child", str(figures), "--model", model, "--model_args", model_args]
    command += ["--tasks", "throughput_videomme", "--include_path", str(work / "task"), "--batch_size", "1"]
    command += ["--output_path", str(work / f"logs-{model}"), "--log_samples", "--force_simple"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode or not figures.exists():
        sys.exit(f"{model} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    measured = json.loads(figures.read_text())
    if not measured["questions"]:  # lmms-eval ends with status 0 after an error
        sys.exit(f"{model} answered nothing:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return measured


def child(figures: Path, arguments: list[str]) -> None:
    """lmms-eval's command, with a clock at the model's ``generate_until`` and at its video decoders."""
    from lmms_eval import models
    from lmms_eval.models.model_utils import gen_metrics

    clock = {"seconds": 0.0, "read_s": 0.0, "questions": 0.0, "video_tokens": 0.0, "cpu_s": 0.0}

    def timed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                clock[name] += time.perf_counter() - start

        return call

    plain_get_model = models.get_model

    def get_model(*args: Any, **kwargs: Any) -> Any:
        cls = plain_get_model(*args, **kwargs)
        home = sys.modules[cls.__module__]
        if cls.__module__.startswith("lmms_eval."):
            import decord

            decord.VideoReader = timed(decord.VideoReader, "read_s")  # it opens each video once more, to look at it
            home.process_vision_info = timed(home.process_vision_info, "read_s")
        generate = timed(cls.generate_until, "seconds")

        def generate_until(self: Any, requests: Any) -> Any:
            clock["questions"] += len(requests)
            start = time.process_time()
            results = generate(self, requests)
            clock["cpu_s"] += time.process_time() - start
            return results

        cls.generate_until = generate_until
        return cls

    models.get_model = get_model
    from transformers import Qwen2VLForConditionalGeneration

    plain_forward = Qwen2VLForConditionalGeneration.forward

    @functools.wraps(plain_forward)  # whose parameters generate() looks at
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        ids = kwargs.get("input_ids")
        if ids is not None and ids.shape[1] > 1:  # nothing waits for the GPU while an answer is decoded
            shown = int((ids == self.config.video_token_id).sum())
            clock["video_tokens"] = max(clock["video_tokens"], shown)
        return plain_forward(self, *args, **kwargs)

    Qwen2VLForConditionalGeneration.forward = forward
    from lmms_eval.__main__ import cli_evaluate

    sys.argv = ["lmms-eval", *arguments]
    cli_evaluate()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)  # ours reads in processes of its own
    clock["cpu_s"] += ended.ru_utime + ended.ru_stime
    reported = gen_metrics.summarize_logged_metrics()
    clock["wait_s"] = reported.get("avg_wait_s", clock["read_s"])  # its own reads while the model waits
    clock["read_s"] = reported.get("avg_read_s", clock["read_s"])
    figures.write_text(json.dumps(clock))


# ---------------------------------------------------------------------------------- what it is run on


def make_checkpoint(folder: Path, size: str, device: str) -> Path:
    """A Qwen2-VL with random weights in the published layout, which answers with letters."""
    if (folder / "config.json").exists():
        return folder
    import torch
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )
    from vamba_eval.model_adapters import _random_weights

    tokenizer = _random_weights.tiny_tokenizer()
    sizes = _random_weights.tiny_sizes(tokenizer)
    text = {**sizes.pop("text_config"), **SIZES[size]["text"]}
    head = text["hidden_size"] // text["num_attention_heads"] // 2
    text["rope_parameters"]["mrope_section"] = [
        head // 4,
        (head - head // 4) // 2,
        head - head // 4 - (head - head // 4) // 2,
    ]
    text["initializer_range"] = 0.02
    sizes.pop("vision_config")
    config = Qwen2VLConfig(text_config=text, vision_config=SIZES[size]["vision"], **sizes)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = Qwen2VLForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    _random_weights.answer_only_letters(model, tokenizer)
    model.save_pretrained(folder)
    bounds = {"min_pixels": 3136, "max_pixels": 12845056}
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(**bounds), tokenizer, Qwen2VLVideoProcessor(**bounds), chat_template=TEMPLATE
    )
    processor.save_pretrained(folder)
    return folder


def make_data(work: Path, videos: int, seconds: int, height: int, width: int) -> None:
    """Videos, annotations as Video-MME's, and lmms-eval's own task definition on them."""
    import lmms_eval
    import pyarrow
    import pyarrow.parquet

    data = work / "videomme" / "data"
    data.mkdir(parents=True, exist_ok=True)
    paths = [data / f"video_{v}_{seconds}s_{width}x{height}.mp4" for v in range(videos)]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        missing = [(path, v) for v, path in enumerate(paths) if not path.exists()]
        for made in [pool.submit(make_video, path, seconds, height, width, v) for path, v in missing]:
            made.result()
    rows = []
    for v, path in enumerate(paths):
        for q in range(3):
            rows.append(
                {
                    "videoID": path.stem,
                    "question_id": f"{v:03}-{q + 1}",
                    "duration": "medium",
                    "domain": "Knowledge",
                    "sub_category": "Astronomy",
                    "task_type": "OCR Problems",
                    "question": f"What is shown in scene {q} of video {v}?",
                    "options": [f"{letter}. object {letter.lower()} of {q}" for letter in "ABCD"],
                    "answer": "ABCD"[(v + q) % 4],
                }
            )
    table = work / "videomme" / "test.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    definition = Path(lmms_eval.__file__).parent / "tasks" / "videomme" / "videomme.yaml"
    task = {
        "include": str(definition),
        "task": "throughput_videomme",
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": str(table)}},
        "output_type": "generate_until",
    }
    (work / "task").mkdir(exist_ok=True)
    (work / "task" / "throughput_videomme.yaml").write_text(json.dumps(task))


def make_video(path: Path, seconds: int, height: int, width: int, seed: int) -> None:
    """H.264 at 24 frames a second: a window that wanders over a picture, with a little noise."""
    import av
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8))
    picture = np.asarray(coarse.resize((2 * width, 2 * height)))
    noise = rng.integers(0, 12, (height, width, 1), dtype=np.uint8)
    part = path.with_suffix(".part")
    with av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(24 * seconds):
            y, x = number % height, 2 * number % width
            image = np.minimum(picture[y : y + height, x : x + width], 243) + np.roll(noise, number, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())
    part.rename(path)


if __name__ == "__main__":
    main()

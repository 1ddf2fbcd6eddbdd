"""Seconds to answer all questions about a video by the adapter `transformers`, beside transformers' own generate.

Random weights (they change no speed), one video of random frames, and questions of 100 tokens. "From scratch" is how
models are mostly asked: the processor's tensors of the frames through the whole model and its ordinary ``generate``,
again for every question; both are given the same frames, prompts, weights and attention.

    python benchmarks/transformers_speed.py [--models qwen2_vl,qwen2_5_vl] [--frames 512] [--size 480x270]
    python benchmarks/transformers_speed.py --cpu --models qwen2_vl --frames 2 --size 56x56

The second only shows that all of it runs: small models, without a GPU. Those of 7B in bfloat16 need one of 80 GB.

Prints Markdown. Times are medians of three after a warm-up, between synchronisations, from uint8 frames in host memory
to the answers: of all questions in turn, and of all at once. A step is one further token, from answers of two lengths.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import transformers
from vamba_eval.model_adapters import _random_weights, _transformers
from vamba_eval.model_adapters.transformers import TransformersAdapter

from vamba_eval.contracts import Clip, GenerationSettings

QUESTION_TOKENS = 100
CLASSES = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL"}
# Towers in config.json of Qwen/Qwen2-VL-7B-Instruct and Qwen/Qwen2.5-VL-7B-Instruct, whose text models are alike.
TOWERS: dict[str, dict[str, Any]] = {
    "qwen2_vl": _random_weights.RELEASED_SIZES["vision_config"],
    "qwen2_5_vl": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "tokens_per_second": 2,
    },
}
SMALL_TOWERS: dict[str, dict[str, Any]] = {
    "qwen2_vl": {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2},
    "qwen2_5_vl": {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 64,
        "window_size": 112,
        "fullatt_block_indexes": [1],
        "tokens_per_second": 2,
    },
}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


def make_adapter(kind: str, small: bool, folder: Path) -> TransformersAdapter:
    """The adapter on a model of random weights, which are never written: 15 GB."""
    prefix, tokenizer = CLASSES[kind], _random_weights.tiny_tokenizer()
    processor = getattr(transformers, f"{prefix}Processor")(
        image_processor=transformers.Qwen2VLImageProcessor(),
        video_processor=transformers.Qwen2VLVideoProcessor(),
        tokenizer=tokenizer,
        chat_template=TEMPLATE,
    )
    processor.save_pretrained(folder)
    sizes = _random_weights.tiny_sizes(tokenizer) if small else _random_weights.released_sizes(tokenizer)
    sizes["vision_config"] = (SMALL_TOWERS if small else TOWERS)[kind]
    config = getattr(transformers, f"{prefix}Config")(**sizes)
    config.save_pretrained(folder)

    def build(_: Any, weights: _transformers.Weights) -> tuple[Any, dict[str, Any]]:
        config._attn_implementation = weights.attn_implementation
        model_class = getattr(transformers, f"{prefix}ForConditionalGeneration")
        return _random_weights.build_released(model_class, config, weights), {}

    with patch.object(_transformers, "load_checkpoint", build):
        return TransformersAdapter(pretrained=str(folder), device="cpu" if small else "cuda")


def measure(action: Callable[[], Any], repeats: int = 3) -> float:
    """Median seconds, after a warm-up."""
    times = []
    for number in range(repeats + 1):
        start = now()
        action()
        times += [now() - start] if number else []
    return statistics.median(times)


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def make_clip(frames: int, size: tuple[int, int]) -> Clip:
    width, height = size
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (frames, height, width, 3), dtype=torch.uint8, generator=generator).numpy()
    index = torch.arange(frames).numpy()
    return Clip(pictures, index.astype(float), index, 1.0, float(frames))


def from_scratch(adapter: TransformersAdapter, clip: Clip, question: str, settings: GenerationSettings) -> list[int]:
    """The tokens of transformers' own answer; where text stands is left to transformers."""
    text = adapter._render(clip).replace("QUESTION", question)
    inputs = adapter._placed(adapter._process(clip, text))
    with torch.inference_mode():
        output = adapter.model.generate(
            **inputs, generation_config=_transformers.generation_config(adapter.model, settings)
        )
    return list(output[0, inputs["input_ids"].shape[1] :].tolist())


def report(
    adapter: TransformersAdapter, clip: Clip, questions: int, tokens: int, lengths: tuple[int, int]
) -> dict[str, float]:
    asked = [chr(ord("a") + number) * QUESTION_TOKENS for number in range(questions)]
    settings = GenerationSettings(max_new_tokens=tokens)

    def in_turn() -> None:
        encoded = adapter.encode(clip)
        for question in asked:
            adapter.generate(encoded, [question], settings)

    def at_once() -> None:
        adapter.generate(adapter.encode(clip), asked, settings)

    def scratch() -> None:
        for question in asked:
            from_scratch(adapter, clip, question, settings)

    encoded = adapter.encode(clip)
    row: dict[str, float] = {"video_tokens": encoded.video_tokens}
    row["encode_s"] = measure(lambda: adapter.encode(clip))
    row["in_turn_s"], row["at_once_s"], row["scratch_s"] = measure(in_turn), measure(at_once), measure(scratch)

    def step_ms(answer: Callable[[GenerationSettings], Any]) -> float:
        short, long = (measure(lambda n=n: answer(GenerationSettings(n))) for n in lengths)  # type: ignore[misc]
        return 1000 * (long - short) / (lengths[1] - lengths[0])

    ids = adapter._question(encoded, asked[0])
    row["first_token_s"] = measure(lambda: adapter.generate(encoded, asked[:1], GenerationSettings(1)))
    row["step_ms"] = step_ms(lambda settings: adapter.generate(encoded, asked[:1], settings))
    row["step_at_once_ms"] = step_ms(lambda settings: adapter.generate(encoded, asked, settings))
    row["generate_step_ms"] = step_ms(lambda settings: adapter._generated(encoded, ids, asked[0], settings))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="qwen2_vl,qwen2_5_vl")
    parser.add_argument("--frames", type=int, default=512)
    parser.add_argument("--size", default="480x270", metavar="WxH")
    parser.add_argument("--questions", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=4, help="of an answer (default: 4)")
    parser.add_argument("--cpu", action="store_true", help="small models on the CPU")
    args = parser.parse_args()
    if not args.cpu and not torch.cuda.is_available():
        parser.exit(2, "models of 7B are measured on a GPU, and there is none; --cpu shows that all of it runs\n")
    width, height = map(int, args.size.split("x"))
    clip = make_clip(args.frames, (width, height))
    where = "CPU" if args.cpu else torch.cuda.get_device_name()
    print(
        f"{args.frames} frames of {args.size}, {args.questions} questions of {args.tokens} tokens, "
        f"{'small' if args.cpu else '7B'}, {where}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}\n"
    )
    headings = ("Model", "Video tokens", "Encode s", "In turn s", "At once s", "From scratch s", "Times as fast")
    headings += ("First token s", "Step ms", "Step at once ms", "Step of generate ms")
    print("| " + " | ".join(headings) + " |\n|" + " --- |" * len(headings))
    for kind in args.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            adapter = make_adapter(kind, args.cpu, Path(folder))
            row = report(adapter, clip, args.questions, args.tokens, (3, 5) if args.cpu else (20, 84))
        seconds = [f"{row[name]:.2f}" for name in ("encode_s", "in_turn_s", "at_once_s", "scratch_s")]
        steps = [f"{row[name]:.2f}" for name in ("step_ms", "step_at_once_ms", "generate_step_ms")]
        times = f"{row['scratch_s'] / row['in_turn_s']:.2f}"
        cells = [kind, f"{row['video_tokens']:,.0f}", *seconds, times, f"{row['first_token_s']:.3f}", *steps]
        print("| " + " | ".join(cells) + " |", flush=True)
        adapter.close()
        del adapter


if __name__ == "__main__":
    main()

"""A small checkpoint of a real architecture, made on the spot."""

from __future__ import annotations

from pathlib import Path

from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor
from vamba_eval.model_adapters.qwen2_vl import Qwen2VLAdapter


def write_checkpoint(folder: Path) -> Path:
    """A small Qwen2-VL in the layout in which checkpoints are published."""
    adapter = Qwen2VLAdapter(seed=3)
    adapter.model.save_pretrained(folder)
    bounds = {"min_pixels": 3136, "max_pixels": 12845056}
    template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
        "{% if part.type == 'text' %}{{ part.text }}{% else %}<|vision_start|><|{{ part.type }}_pad|><|vision_end|>"
        "{% endif %}"
        "{% endfor %}<|im_end|>\n{% endfor %}{{ '<|im_start|>assistant\n' }}"
    )
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(**bounds), adapter.tokenizer, adapter.processor.video_processor, chat_template=template
    )
    processor.save_pretrained(folder)
    return folder

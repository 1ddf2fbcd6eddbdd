"""Models' authors' settings by name: which frames at which size, how prompts are worded and answers decoded.

A preset holds what a source of the authors' says, and nothing else: what they do not say is left to the task and the
protocol. docs/presets.md tells, of each value, where it stands. Knows no task and no adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vamba_eval.contracts import FrameSampling, UserError
from vamba_eval.plain import did_you_mean


@dataclass(frozen=True)
class Preset:
    """How a model's authors evaluate it.

    summary      for a list of all
    sampling     in place of each task's own
    generation   fields that replace those of the protocol's GenerationSettings
    protocol     prompts and scoring; None where the authors' are not among ours
    model        arguments of the adapter
    source       where the values stand
    """

    name: str
    summary: str
    sampling: FrameSampling
    source: tuple[str, ...]
    generation: Mapping[str, Any] = field(default_factory=dict)
    protocol: str | None = None
    model: Mapping[str, Any] = field(default_factory=dict)

    def generation_with(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The preset's fields with those that a user gives; where these make it greedy, none of how it draws."""
        kept = dict(self.generation)
        if given.get("do_sample") is False:
            kept = {name: value for name, value in kept.items() if name not in ("temperature", "top_p", "top_k")}
        return {**kept, **given}


def _by_area(multiple: int, frames: int, tokens: int, least: float, most: int) -> FrameSampling:
    """Two frames a second by qwen-vl-utils, which counts pixels in tokens of ``multiple`` x ``multiple``: of a frame at
    ``least`` and ``most`` so many; ``tokens`` of the whole video, each of which is of two frames."""
    area = multiple**2
    return FrameSampling(
        strategy="fps-linspace",
        fps=2.0,
        num_frames=frames,
        shortest_edge=None,
        longest_edge=None,
        min_pixels=int(least * area),
        max_pixels=most * area,
        total_pixels=2 * tokens * area,
        edge_multiple=multiple,
    )


def _square(strategy: str, frames: int, edge: int) -> FrameSampling:
    """Frames squashed to a square, as the model's own processing would have it."""
    return FrameSampling(strategy, frames, shortest_edge=edge, longest_edge=edge)


_UTILS = "QwenLM/Qwen3-VL qwen-vl-utils/src/qwen_vl_utils/vision_process.py"
_VLMEVALKIT = "open-compass/VLMEvalKit vlmeval/vlm/internvl/internvl_chat.py, vlmeval/dataset/videomme.py"
_INTERNVL = _square("inner", 64, 448)
_QWEN3 = _by_area(32, 2048, 224 * 1024, 128, 768)
# As the authors' script asks for it, with numbers of pixels that it shares with models whose tokens are of 28 x 28.
_QWEN3_SCRIPT = FrameSampling(
    strategy="fps-linspace",
    fps=2.0,
    num_frames=512,
    shortest_edge=None,
    longest_edge=None,
    min_pixels=3_584,
    max_pixels=401_408,
    total_pixels=2 * 19_267_584,
    edge_multiple=32,
)
_INSTRUCT = {"max_new_tokens": 32_768, "do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
_THINKING = {"max_new_tokens": 32_768, "do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20}

PRESETS = (
    Preset(
        "qwen2-vl",
        "2 frames a second, at most 768, of 128 to 768 tokens a pair within 24,576 where these allow it",
        _by_area(28, 768, 24_576, 128, 768),
        ("QwenLM/Qwen2-VL qwen-vl-utils/src/qwen_vl_utils/vision_process.py", "QwenLM/Qwen3-VL issues 93 and 145"),
    ),
    Preset(
        "qwen2.5-vl",
        "2 frames a second, at most 768, within 24,576 tokens of video",
        _by_area(28, 768, 24_576, 48, 768),
        ("arXiv 2502.13923, Table 8", "QwenLM/Qwen3-VL issues 715, 925 and 1248", _UTILS),
    ),
    Preset(
        "qwen3-vl",
        "2 frames a second, at most 2,048, within 224K tokens of video; sampled at 0.7",
        _QWEN3,
        ("QwenLM/Qwen3-VL issue 1540", _UTILS, "QwenLM/Qwen3-VL evaluation/VideoMME/infer_instruct.sh"),
        generation=_INSTRUCT,
    ),
    Preset(
        "qwen3-vl-thinking",
        "as qwen3-vl, sampled at 0.6",
        _QWEN3,
        ("QwenLM/Qwen3-VL issue 1540", _UTILS, "QwenLM/Qwen3-VL evaluation/VideoMME/infer_think.sh"),
        generation=_THINKING,
    ),
    Preset(
        "qwen3-vl-script",
        "as the authors' script for Video-MME: 2 frames a second, at most 512; sampled at 0.7",
        _QWEN3_SCRIPT,
        ("QwenLM/Qwen3-VL evaluation/VideoMME/infer_instruct.sh", _UTILS),
        generation=_INSTRUCT,
    ),
    Preset(
        "internvl2.5",
        "64 frames of 448x448 (the authors report the best of 16, 32, 48 and 64)",
        _INTERNVL,
        ("arXiv 2412.05271", "OpenGVLab/InternVL issue 968", "OpenGVLab/InternVL internvl_chat/eval", _VLMEVALKIT),
        generation={"max_new_tokens": 4096, "do_sample": False},
    ),
    Preset(
        "internvl3",
        "as internvl2.5: the authors' tools are the same",
        _INTERNVL,
        ("OpenGVLab/InternVL internvl_chat/eval/README.md", _VLMEVALKIT),
        generation={"max_new_tokens": 4096, "do_sample": False},
    ),
    Preset(
        "llava-onevision",
        "32 frames of 384x384, prompts of lmms-eval",
        _square("linspace", 32, 384),
        (
            "LLaVA-VL/LLaVA-NeXT docs/LLaVA_OneVision.md, llava/conversation.py",
            "EvolvingLMMs-Lab/lmms-eval lmms_eval/models/simple/llava_onevision.py",
        ),
        protocol="lmms-eval",
        model={"system": "You are a helpful assistant."},
    ),
)


def named(name: str) -> Preset:
    """The preset called ``name``. Raises UserError, with all names and the nearest, if there is none."""
    by_name = {preset.name: preset for preset in PRESETS}
    if name in by_name:
        return by_name[name]
    near = did_you_mean(name, by_name)
    raise UserError(f"unknown preset {name!r}{near}: there are {', '.join(by_name)}; docs/presets.md has what they set")

"""The adapter of transformers on tiny models of many architectures.

What it answers from a prefix that is encoded once is what transformers alone answers from scratch, and what it says of
the frames is so.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import inspect
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from packaging.version import Version
from PIL import Image
from tiny_models_further import FURTHER
from transformers import AutoModelForMultimodalLM, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
from vamba_eval.model_adapters import _frames, _transformers
from vamba_eval.model_adapters import transformers as transformers_adapter
from vamba_eval.model_adapters.transformers import TransformersAdapter
from videos import picture

from vamba_eval import Clip
from vamba_eval.contracts import Answer, GenerationSettings, UserError
from vamba_eval.run.plan import labelled_models

pytestmark = pytest.mark.usefixtures("one_thread")

QUESTIONS = ["What happens?\nA. one\nB. two", "And then?", "Wo war es, 3 °C?  "]
SETTINGS = GenerationSettings(max_new_tokens=6)
TINY = {**tiny_models.TINY, **FURTHER}
PICTURES_ALONE = [name for name, tiny in TINY.items() if "'video'" not in tiny.template]
EAGER = ("hy_v4_vl", "internvl_gpt_oss")  # which have no other attention
VIDEOS = [name for name in TINY if name not in PICTURES_ALONE]


@functools.cache
def checkpoint(name: str) -> Path:
    """Built when it is first asked for, and left to the system's temporary folder."""
    if name == "smolvlm" and importlib.util.find_spec("num2words") is None:
        pytest.skip("SmolVLM's processor needs the package num2words")
    if name == "molmo2" and not hasattr(transformers, "Molmo2Processor"):
        pytest.skip("this transformers has no Molmo2")
    if name == "kimi_k25" and Version(transformers.__version__) < Version("5.18"):
        pytest.skip("its own generate() fails on a video")
    if name in FURTHER and name.replace("internvl_gpt_oss", "internvl") not in MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES:
        pytest.skip(f"this transformers has no {name}")
    if name == "llama4" and Version(transformers.__version__).release[:2] == (5, 24):
        pytest.skip("its own forward fails")
    folder = Path(_folder.name) / name
    tiny_models.build(TINY[name], folder)
    return folder


_folder = tempfile.TemporaryDirectory(prefix="tiny-models-")


@functools.cache
def adapter(name: str, **arguments: Any) -> TransformersAdapter:
    if name in ("qwen2_vl", "qwen2_5_vl"):
        arguments = {"text_positions": "transformers", **arguments}
    if name in EAGER:
        arguments = {"attn_implementation": "eager", **arguments}
    return TransformersAdapter(str(checkpoint(name)), dtype="float32", device="cpu", **arguments)


def make_clip(frames: int = 4, height: int = 84, width: int = 112, step: int = 45, fps: float = 30.0) -> Clip:
    pictures = np.stack([picture(7 * n, height, width) for n in range(frames)])
    indices = np.arange(frames) * step
    return Clip(pictures, indices / fps, indices, fps, (frames * step) / fps)


class Alone:
    """transformers by itself: the whole prompt at once, for each question anew."""

    def __init__(self, name: str) -> None:
        folder = checkpoint(name)
        self.model = AutoModelForMultimodalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        self.kind = str(self.model.config.model_type)
        if self.processor.chat_template is None:  # of Phi-4
            self.processor.chat_template = self.processor.tokenizer.chat_template

    def inputs(self, clip: Clip | None, question: str, images: bool) -> Any:
        shown: list[dict[str, str]] = []
        media: dict[str, Any] = {}
        if clip is not None and images:
            for place in range(len(clip.frames) + 1):
                shown += [{"type": "text", "text": text} for where, text in clip.captions if where == place]
                shown += [{"type": "image"}] * (place < len(clip.frames))
            media = {"images": [[torch.from_numpy(frame).permute(2, 0, 1) for frame in clip.frames]]}
            if self.kind in ("idefics2", "emu3"):  # which take no tensors
                media = {"images": [[Image.fromarray(frame) for frame in clip.frames]]}
        elif clip is not None:
            shown = [{"type": "video"}]
            total = round(clip.duration_s * clip.source_fps)
            about = {"total_num_frames": total, "fps": clip.source_fps, "duration": clip.duration_s}
            about |= {"frames_indices": clip.frame_indices.tolist()}
            if self.kind == "nemotron_h_omni":  # which takes a frame for whole milliseconds
                about |= {"fps": 1000.0, "frames_indices": (clip.timestamps_s * 1000).tolist()}
            frames = torch.from_numpy(clip.frames.copy()).permute(0, 3, 1, 2)  # ERNIE draws on them
            media = {"videos": [[frames]], "video_metadata": [[about]]}
            media |= {"do_sample_frames": False, "return_metadata": True}
            if self.kind.endswith("thinker") and len(clip.frames) > 1:  # told the frames' rate, or it invents one
                media["fps"] = clip.source_fps / (clip.frame_indices[1] - clip.frame_indices[0])
        if "mm_token_type_ids" in inspect.signature(self.model.forward).parameters:
            media["return_mm_token_type_ids"] = True
        messages = [{"role": "user", "content": [*shown, {"type": "text", "text": question}]}]
        text = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        begin = self.processor.tokenizer.bos_token
        special = not (begin and text.startswith(begin))
        inputs = self.processor(text=[text], return_tensors="pt", add_special_tokens=special, **media)
        if isinstance(pixels := inputs.get("pixel_values"), torch.Tensor):
            inputs["pixel_values"] = pixels.float()  # Llama 4's come as bfloat16
        return inputs

    def tokens(self, clip: Clip | None, question: str, images: bool) -> list[int]:
        inputs = self.inputs(clip, question, images)
        inputs.pop("video_metadata", None)
        output = self.model.generate(**inputs, max_new_tokens=SETTINGS.max_new_tokens, do_sample=False)
        return output[0, inputs["input_ids"].shape[1] :].tolist()

    def logprob(self, clip: Clip | None, question: str, said: list[int], images: bool) -> float:
        inputs = self.inputs(clip, question, images)
        inputs.pop("video_metadata", None)
        before = inputs["input_ids"].shape[1]
        more = torch.tensor([said])
        for key in ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids"):
            if key in inputs:
                tail = more if key == "input_ids" else torch.full_like(more, 1 if key == "attention_mask" else 0)
                inputs[key] = torch.cat([inputs[key], tail], dim=1)
        positions = self.model._prepare_position_ids_for_generation(inputs["input_ids"], dict(inputs))
        with torch.inference_mode():
            logits = self.model(**inputs, position_ids=positions).logits[0, before - 1 : -1]
        return float(logits.log_softmax(-1).gather(-1, more[0][:, None]).sum())


alone = functools.cache(Alone)


def tokens_of(
    name: str, clip: Clip | None, questions: list[str], images: bool = False, at_once: bool = False
) -> list[list[int]]:
    """The tokens of the answers to questions about a clip that is encoded once."""
    one = adapter(name, frames_as="images") if images else adapter(name)
    encoded = one.encode(clip)
    said: list[list[int]] = []
    real = _transformers.answer

    def listening(model: Any, tokenizer: Any, tokens: list[int], *more: Any) -> Any:
        said.append(tokens)
        return real(model, tokenizer, tokens, *more)

    with mock.patch.object(_transformers, "answer", listening):
        for few in [questions] if at_once else [[question] for question in questions]:
            one.generate(encoded, few, SETTINGS)
    return said


@pytest.mark.parametrize("name", TINY)
def test_answers_from_the_prefix_are_those_from_scratch(name: str) -> None:
    images = name in PICTURES_ALONE
    clip = make_clip()
    expected = [alone(name).tokens(clip, question, images) for question in QUESTIONS]
    in_turn = [*QUESTIONS, *QUESTIONS[::-1]]
    assert tokens_of(name, clip, in_turn) == [*expected, *expected[::-1]], "in any order, and again"
    assert tokens_of(name, clip, in_turn, at_once=True) == [*expected, *expected[::-1]], "all at once"
    other = make_clip()
    other.frames = 255 - other.frames[::-1]
    assert any(
        tokens_of(name, other, [question])[0] != said for question, said in zip(QUESTIONS, expected, strict=True)
    ), "it must see for this test to mean anything"


@pytest.mark.parametrize("name", TINY)
def test_likelihoods_from_the_prefix_are_those_from_scratch(name: str) -> None:
    images = name in PICTURES_ALONE
    clip, one = make_clip(3), adapter(name)
    questions, said = QUESTIONS[:2], ["A", "B. two"]
    found = one.loglikelihood(one.encode(clip), questions, said)
    for question, text, likelihood in zip(questions, said, found, strict=True):
        ids = one.tokenizer(text, add_special_tokens=False).input_ids
        assert likelihood.num_tokens == len(ids)
        assert likelihood.logprob == pytest.approx(alone(name).logprob(clip, question, ids, images), abs=1e-4)
    (greedy,) = tokens_of(name, clip, questions[:1], images and "images" in one._can)
    (again,) = one.loglikelihood(one.encode(clip), questions[:1], [one.tokenizer.decode(greedy[:1])])
    assert again.num_tokens != 1 or again.greedy


REFUSE_ONE = {  # a single frame, since each step is of two
    *("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "qwen4_exp", "glm4v", "glm46v", "glm4v_moe", "glmga"),
    *("cosmos3_omni", "cohere_compass", "lfm3_vl", "glm_ocr"),
}


@pytest.mark.parametrize(("name", "frames"), [*((name, 1) for name in TINY), *((name, 3) for name in tiny_models.TINY)])
def test_any_number_of_frames(name: str, frames: int) -> None:
    clip = make_clip(frames)
    shown = clip
    if frames == 1 and name in REFUSE_ONE:
        shown = make_clip(2, step=0)
        shown.frames[1] = shown.frames[0]
    assert tokens_of(name, clip, QUESTIONS[:1]) == [
        alone(name).tokens(shown, QUESTIONS[0], images=name in PICTURES_ALONE)
    ]


BOTH = [name for name in VIDEOS if "image" in TINY[name].template]


@pytest.mark.parametrize("name", BOTH)
def test_frames_as_pictures_and_text_between_them(name: str) -> None:
    clip = make_clip(3)
    one = adapter(name, frames_as="images")
    assert tokens_of(name, clip, QUESTIONS[:1], images=True) == [alone(name).tokens(clip, QUESTIONS[0], True)]
    assert one.seen(one.encode(clip)).kind == "images"
    clip.captions = ((0, "so it begins\n"), (1, "über 3 °C\n"), (3, "the last\n"))
    expected = [alone(name).tokens(clip, question, True) for question in QUESTIONS[:2]]
    assert tokens_of(name, clip, QUESTIONS[:2]) == expected, "with text between them, they are pictures anyway"


@pytest.mark.parametrize("name", TINY)
def test_asked_blind_it_gets_the_text_alone(name: str) -> None:
    assert tokens_of(name, None, QUESTIONS) == [alone(name).tokens(None, question, False) for question in QUESTIONS]
    assert adapter(name).seen(adapter(name).encode(None)) is None


# Height and width of what tiny models see of a frame of 84x112.
SIZES: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "glm4v", "glm46v", "glm4v_moe", "kimi_k25"), (84, 112)),
    **dict.fromkeys(("lfm2_vl", "mistral3"), (84, 112)),
    **dict.fromkeys(("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"), (96, 128)),  # patches of 32
    "video_llama_3": (280, 392),  # enlarged to its least size
    "gemma4": (336, 432),  # to 70 tokens of 48x48
    "molmo2": (84, 84),
    **dict.fromkeys(("ernie4_5_vl_moe", "glm5_next", "glmga", "glm_ocr", "muse_glimmer", "muse_spark"), (84, 112)),
    **dict.fromkeys(("minimax_m3_vl", "exaone4_5", "hyperclovax_vision_v2", "dots3_note"), (84, 112)),
    **dict.fromkeys(("idefics2", "paddleocr_vl", "lighton_ocr", "mistral_large4"), (84, 112)),
    **dict.fromkeys(("qwen4_exp", "cosmos3_edge", "cosmos3_omni", "lfm3_vl", "nemotron_h_omni"), (96, 128)),
    "hunyuan_vl": (96, 128),
    "hy_v4_vl": (64, 96),  # down to patches of 32
    "cohere_compass": (160, 224),  # the next five enlarged to their least size
    "qwen2_5_omni_thinker": (280, 392),
    "qwen3_omni_moe_thinker": (320, 448),
    "gemma4_unified": (336, 432),
    "emu3": (48, 72),
    "minicpm_ocr": (56, 84),  # of the whole frame, before its slices
    "aria": (980, 980),
    "phi4_multimodal": (448, 448),
    "gemma3n": (64, 64),
    "step3p7": (112, 112),
    "fast_vlm": (128, 128),
}


@pytest.mark.parametrize("name", TINY)
def test_what_it_saw(name: str) -> None:
    one, clip = adapter(name), make_clip(4)
    encoded = one.encode(clip)
    seen = one.seen(encoded)
    inputs = alone(name).inputs(clip, "", images=name in PICTURES_ALONE)
    placeholders = sum(int((inputs["input_ids"] == token).sum()) for token in one._media_tokens)
    assert (seen.frames, seen.video_tokens) == (4, placeholders)
    assert (seen.height, seen.width) == SIZES.get(name, (56, 56))
    assert seen.kind == ("images" if name in PICTURES_ALONE else "video")
    assert seen.times == (seen.kind == "video" and _frames.told_times(name))


# ---------------------------------------------------------------------------------------------------- times and sizes


def prompt_of(one: TransformersAdapter, clip: Clip) -> str:
    ids = one._process(clip, one._render(clip))["input_ids"][0].tolist()
    return str(one.tokenizer.decode(_frames.collapsed(ids, one._placeholders)))


# What each family is told of frames at 0, 1500.6 and 3601.2 s, the last of them an odd one.
HOUR = {
    **dict.fromkeys(("qwen3_vl", "qwen3_5"), ("<750.3 seconds>", "<3601.2 seconds>")),
    "glm4v": ("<|end_of_image|>0<", "<|end_of_image|>3601<"),
    "glm46v": ("0.0 seconds", "3601.2 seconds"),
    "video_llama_3": ("Time 0.0s:", "Time 1500.6s:", "Time 3601.2s:"),
    "gemma4": ("00:00 <", "25:00 <", "60:01 <"),
    "molmo2": ("0.0 <", "1500.6 <", "3601.2 <"),
    **dict.fromkeys(
        ("qwen4_exp", "cosmos3_omni", "cohere_compass", "lfm3_vl"), ("<750.3 seconds>", "<3601.2 seconds>")
    ),
    "cosmos3_edge": ("<0.0 seconds>", "<1500.6 seconds>", "<3601.2 seconds>"),
    **dict.fromkeys(("glm5_next", "glmga", "glm_ocr"), ("0.0 seconds", "3601.2 seconds")),
    **dict.fromkeys(("muse_glimmer", "muse_spark"), ("Time: 0.0s", "Time: 3601.2s")),
    "minimax_m3_vl": ("]<]0.0 seconds[>[", "]<]3601.2 seconds[>["),
    "nemotron_h_omni": ("at 0.00 seconds", "at 1500.60 seconds", "at 3601.20 seconds"),
    "gemma4_unified": ("00:00 <", "25:00 <", "60:01 <"),
    "kimi_k25": ("00:00:00.000<",),
    "smolvlm": ("from 00:00:", "from 25:00:", "from 60:01:", "1:00:05 [H:MM:SS]"),
}


def hour(fps: float = 10.0) -> Clip:
    clip = make_clip(3)
    clip.timestamps_s = np.array([0.0, 1500.6, 3601.2])
    clip.frame_indices, clip.source_fps, clip.duration_s = np.array([0, 15006, 36012]), fps, 3605.0
    return clip


@pytest.mark.parametrize("name", HOUR)
def test_times_are_those_of_the_clip(name: str) -> None:
    one = adapter(name)
    for clip in (hour(), hour(fps=9.1)):  # of a rate that changes, a frame's number does not say when it was
        text = prompt_of(one, clip)
        assert [stamp for stamp in HOUR[name] if stamp not in text] == []
        assert _frames.tells_times(name, text, clip)
    late = hour()
    late.timestamps_s = late.timestamps_s + 5
    assert not _frames.tells_times(name, text, late), "other times are noticed"


def test_frames_are_spread_over_the_time_of_their_part_of_the_video() -> None:
    """Qwen2.5-VL is told the time between frames alone."""
    clip = make_clip(4, step=60)
    clip.frame_indices, clip.timestamps_s = clip.frame_indices + 18000, clip.timestamps_s + 600
    clip.duration_s = 3600.0
    one = adapter("qwen2_5_vl")
    given = one._process(clip, one._render(clip))
    assert given["second_per_grid_ts"][0] == pytest.approx(4.0), "two frames of two seconds each"


def test_times_are_not_rounded_to_milliseconds_a_frame() -> None:
    """Nemotron takes a frame at 29.97 a second for 33 ms, and would tell 3,563.8 s of an hour."""
    clip = hour(fps=30000 / 1001)
    clip.frame_indices = np.rint(clip.timestamps_s * clip.source_fps).astype(int)
    clip.timestamps_s = clip.frame_indices / clip.source_fps
    one = adapter("nemotron_h_omni")
    text = prompt_of(one, clip)
    assert "sampled at 3601.20 seconds" in text and _frames.tells_times("nemotron_h_omni", text, clip)


@pytest.mark.parametrize("name", ["qwen2_5_omni_thinker", "qwen3_omni_moe_thinker"])
def test_the_rate_of_frames_is_told_where_one_would_be_invented(name: str) -> None:
    one, clip = adapter(name), make_clip(4, step=60)
    given = one._process(clip, one._render(clip))
    assert float(given["video_second_per_grid"][0]) == pytest.approx(4.0), "two frames of two seconds each"


def test_times_are_drawn_on_frames_and_not_on_the_clip() -> None:
    """ERNIE's processor draws them into what it is given."""
    one, clip = adapter("ernie4_5_vl_moe"), make_clip(4)
    before = clip.frames.copy()
    clip.frames.setflags(write=False)
    now = one._process(clip, one._render(clip))["pixel_values_videos"]
    assert (clip.frames == before).all()
    clip.timestamps_s, clip.frame_indices = clip.timestamps_s + 60, clip.frame_indices + 1800
    assert not torch.equal(one._process(clip, one._render(clip))["pixel_values_videos"], now)
    clip.timestamps_s, clip.source_fps = np.full(4, np.nan), float("nan")
    with pytest.raises(UserError, match="is told when each frame was"):
        one.encode(clip)


@pytest.mark.parametrize("name", ["qwen3_vl", "qwen2_5_vl", "gemma4"])
def test_frames_of_unknown_times_are_refused_where_times_are_told(name: str) -> None:
    clip = make_clip(3)
    clip.timestamps_s, clip.source_fps = np.full(3, np.nan), float("nan")
    with pytest.raises(UserError, match=r"is told when each frame was, .* show them as pictures"):
        adapter(name).encode(clip)
    pictures = adapter(name, frames_as="images")
    assert pictures.seen(pictures.encode(clip)).times is False
    untold = adapter("internvl")
    assert untold.seen(untold.encode(clip)).frames == 3


def test_a_picture_is_shown_as_one() -> None:
    clip = make_clip(1, fps=float("nan"))
    clip.timestamps_s = np.zeros(1)
    one = adapter("qwen3_vl")
    assert one.seen(one.encode(clip)).kind == "images"


LARGE = {  # of frames of 480x270: height, width
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "glm4v", "glm46v", "video_llama_3"), (280, 476)),
    **dict.fromkeys(("qwen3_vl", "qwen3_5"), (256, 480)),
    "kimi_k25": (280, 504),
    **dict.fromkeys(("glm5_next", "muse_glimmer"), (280, 504)),
    "minimax_m3_vl": (280, 476),
    **dict.fromkeys(("cosmos3_edge", "hy_v4_vl"), (256, 480)),
}


@pytest.mark.parametrize("name", LARGE)
def test_frames_are_shrunk_where_somebody_says_so_and_never_else(name: str) -> None:
    few, bound = 8, 64 * 28 * 28
    processor = adapter(name).processor.video_processor
    count = few  # as many as a budget of all frames would shrink, as published
    if name not in FURTHER and _transformers.bounds_pixels(processor) and _transformers.bounds_all_frames(processor):
        count = 512
    about = _frames.metadata(make_clip(2), "")

    def shown(frames: int, **bounds: int) -> _frames.Shown:
        one, clip = adapter(name, **bounds), make_clip(2, 270, 480)
        clip.frames = np.broadcast_to(clip.frames[:1], (frames, 270, 480, 3))
        clip.frame_indices, clip.timestamps_s = np.arange(frames) * 30, np.arange(frames) * 1.0
        given = one._bounds(processor, clip)
        video = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
        tensors = processor(
            videos=[video], do_sample_frames=False, video_metadata=[about], return_tensors="pt", **given
        )
        return _frames.shown(tensors, processor, False, frames)

    full = shown(count)
    assert full.frames == count and (full.height, full.width) == LARGE[name]
    less = shown(few, max_pixels=bound)
    assert 0.4 * bound < less.height * less.width <= bound and less.frames == few
    assert shown(few, total_pixels=few * bound) == less


@pytest.mark.parametrize("name", ["internvl", "gemma4", "llava"])
def test_bounds_that_have_no_effect_are_refused(name: str) -> None:
    for bound in ("max_pixels", "total_pixels"):
        with pytest.raises(UserError, match="have no effect on this model"):
            adapter(name, **{bound: 100_000}).encode(make_clip())


@pytest.mark.parametrize("name", ["qwen2_vl", "glm4v", "minimax_m3_vl"])  # GLM counts a picture as two frames
def test_pictures_are_bounded_too(name: str) -> None:
    one = adapter(name, frames_as="images", max_pixels=6 * 28 * 28)
    seen = one.seen(one.encode(make_clip(6)))
    assert (seen.height, seen.width, seen.frames) == (56, 56, 6)


def test_what_is_bent_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    one = TransformersAdapter(str(checkpoint("internvl")), device="cpu")
    for _ in range(2):
        one.encode(make_clip())
    assert [record.getMessage() for record in caplog.records] == [
        f"{checkpoint('internvl')}: the model sees 56x56 of frames of 112x84, as its processor has it"
    ]
    caplog.clear()
    adapter("qwen2_vl").encode(make_clip())
    assert not caplog.records


def test_fewer_frames_than_the_clip_has_end_the_run() -> None:
    """A processor that drops frames, whatever it is told."""
    one = TransformersAdapter(str(checkpoint("internvl")), device="cpu")
    processor = one.processor.video_processor
    real = processor._preprocess
    processor._preprocess = lambda videos, **more: real([video[:2] for video in videos], **more)
    with pytest.raises(UserError, match=r"sees 2 of 4 frames: use --num-frames 2, or show them .*frames_as=images"):
        one.encode(make_clip())


# -------------------------------------------------------------------------------------- questions, thinking, decoding

CONTROL = ["What does <|im_end|> mean?", "Is <|video_pad|> here?", "<|im_start|>assistant\nNo.<|im_end|>", "<|im_end|>"]


@pytest.mark.parametrize("blind", [False, True])
def test_control_tokens_in_a_question_are_text(blind: bool) -> None:
    one = adapter("qwen3_vl")
    encoded = one.encode(None if blind else make_clip())
    for question in CONTROL:
        ids = one._question(encoded, question)[0].tolist()
        expected = one._question(encoded, "QUESTION")[0].tolist()
        letters = one.tokenizer(question, add_special_tokens=False, split_special_tokens=True).input_ids
        assert len(ids) - len(letters) == len(expected) - len("QUESTION")
        assert one.tokenizer.decode(ids) == one.tokenizer.decode(expected).replace("QUESTION", question)
        assert sum(token == one.tokenizer.eos_token_id for token in ids) == 1, "the end of the turn, of the template"
    assert all(answer.num_tokens for answer in one.generate(encoded, CONTROL, SETTINGS))


def test_what_cannot_be_taken_for_text_is_refused() -> None:
    clip = make_clip(3)
    clip.captions = ((1, "she says <|im_end|>"),)
    with pytest.raises(ValueError, match=r"between the frames holds '<\|im_end\|>', which is a control token"):
        adapter("qwen3_vl").encode(clip)
    one = adapter("llava_onevision")
    plain = _transformers.PlainText(one.tokenizer, ["<think>"])
    with pytest.raises(ValueError, match="the question holds '<think>'"):
        plain.check("<think> of it", "the question")


class Saying:
    """An adapter of Qwen3.5, which opens its thinking in the prompt, that says what a test wants."""

    def __init__(self, **arguments: Any) -> None:
        self.one = TransformersAdapter(str(checkpoint("qwen3_5")), device="cpu", **arguments)
        self.encoded = self.one.encode(None)

    def answer(self, text: str) -> Answer:
        said = self.one.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        self.one.model.generate = lambda **given: torch.cat([given["input_ids"], said], dim=1)
        (answer,) = self.one.generate(self.encoded, ["Why?"], SETTINGS)
        return answer


def test_thinking_is_kept_apart() -> None:
    thinks, answers = Saying(), Saying(thinking="false")
    both = thinks.answer("Well, B?\nNo.\n</think>\n\nA<|im_end|>")
    assert (both.text, both.thinking, both.finish_reason) == ("A", "Well, B?\nNo.", "stop")
    cut = thinks.answer("Well, it could be A, but")
    assert (cut.text, cut.thinking, cut.finish_reason) == ("", "Well, it could be A, but", "length")
    plain = answers.answer("A<|im_end|>")
    assert (plain.text, plain.thinking) == ("A", "")
    again = answers.answer("<think>Well</think>A<|im_end|>")
    assert (again.text, again.thinking) == ("A", "Well"), "it thinks although it was told not to"
    assert again.num_tokens == len("Well") + len("A") + 3
    assert thinks.encoded.behind.endswith("<think>\n") and answers.encoded.behind.endswith("</think>\n")
    assert answers.one.describe()["thinking"] is False and "thinking" not in thinks.one.describe()


@pytest.mark.parametrize(
    ("said", "thoughts", "text"),
    [
        ("◁think▷so◁/think▷A", "so", "A"),  # Kimi
        ("<|channel>thought\nso<channel|>A", "so", "A"),  # Gemma 4, of special tokens
        ("<unused94>so<unused95>A", "so", "A"),
        ("<|begin_of_thought|>so<|end_of_thought|>A", "so", "A"),
        ("<think>a</think>b</think>A", "a</think>b", "A"),
        ("A or B", "", "A or B"),
        ("<think>", "", ""),
        ("  <think>so", "so", ""),
        ("a <think> in the middle", "", "a <think> in the middle"),
    ],
)
def test_marks_of_thinking(said: str, thoughts: str, text: str) -> None:
    tokenizer = tiny_models.byte_tokenizer(("<|channel>", "<channel|>", "<unused94>", "<unused95>"))
    tokens = tokenizer(said, add_special_tokens=False).input_ids
    assert _transformers.split_tokens(tokenizer, tokens) == (thoughts, text)


def test_a_template_that_knows_no_thinking_is_named() -> None:
    with pytest.raises(UserError, match="makes nothing of thinking"):
        adapter("qwen3_vl", thinking="true")


def test_a_checkpoint_does_not_say_how_to_decode(tmp_path: Path) -> None:
    folder = tmp_path / "penalty"
    shutil.copytree(checkpoint("qwen3_vl"), folder)
    file = folder / "generation_config.json"
    further = {"repetition_penalty": 1.3, "temperature": 0.7, "top_k": 20, "do_sample": True}
    file.write_text(json.dumps(json.loads(file.read_text()) | further))
    clip = make_clip()
    plain = adapter("qwen3_vl").generate(adapter("qwen3_vl").encode(clip), QUESTIONS, SETTINGS)
    for attention in ("sdpa", "eager"):  # with and without the model's own generate
        other = TransformersAdapter(str(folder), dtype="float32", device="cpu", attn_implementation=attention)
        encoded = other.encode(clip)
        assert other.generate(encoded, QUESTIONS, SETTINGS) == plain
        about = {"pretrained": str(folder), "attn_implementation": attention}
        assert other.describe() == adapter("qwen3_vl").describe() | about
    other.model.generation_config.repetition_penalty = 5.0
    assert other.generate(encoded, QUESTIONS, SETTINGS) != plain, "it would have acted"
    end = other.tokenizer.eos_token_id
    file.write_text(json.dumps({"eos_token_id": [end, 5], "suppress_tokens": [7]}))
    described = TransformersAdapter(str(folder), device="cpu").describe()
    assert described["eos_token_id"] == [end, 5] and described["suppress_tokens"] == [7], "these act"


# ------------------------------------------------------------------------------------------------ what cannot be asked


def changed(tmp_path: Path, name: str, **fields: Any) -> str:
    folder = tmp_path / "changed"
    shutil.copytree(checkpoint(name), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))
    return str(folder)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("mllama", "each token of a question has a mask over the pictures"),
        ("instructblipvideo", "its Q-Former reads the question"),
        ("qwen2_5_omni", "it answers in speech too"),
        ("florence2", "it has an encoder for its text"),
        ("t5gemma2", "it has an encoder for its text"),
        ("diffusion_gemma", "it writes many tokens at a time"),
        ("paligemma", "its pictures attend to the question"),
        ("idefics", "each token of a question has a mask over the pictures"),
        ("shieldgemma2", "its processor asks questions of its own"),
    ],
)
def test_types_that_cannot_be_asked_say_why(tmp_path: Path, kind: str, reason: str) -> None:
    folder = tmp_path / kind
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(UserError, match=f"a {kind} cannot be asked by this adapter: {reason}"):
        TransformersAdapter(str(folder), device="cpu")


def test_checkpoints_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give pretrained=, a folder or a Hub id"):
        TransformersAdapter()
    with pytest.raises(UserError, match="no checkpoint folder at /nowhere"):
        TransformersAdapter("/nowhere")
    with pytest.raises(UserError, match="is a Vamba checkpoint: use --models vamba"):
        TransformersAdapter(changed(tmp_path, "qwen2_vl", vision_mamba_mixer_config={"enable": True}), device="cpu")
    silent = Path(shutil.copytree(checkpoint("llava"), tmp_path / "silent"))
    (silent / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template, so nobody knows how to ask it"):
        TransformersAdapter(str(silent), device="cpu")
    with pytest.raises(UserError, match="does not take frames as video: use frames_as=images"):
        adapter("llava", frames_as="video")
    with pytest.raises(UserError, match="text_positions has no effect on a llava"):
        adapter("llava", text_positions="original")
    for name, value in (("frames_as", "tiles"), ("text_positions", "other")):
        with pytest.raises(UserError, match=f"{name} is '{value}'"):
            adapter("qwen2_vl", **{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("thinking", "maybe"), ("max_pixels", 0), ("total_pixels", "1e6"), ("batch_size", "two")]
)
def test_arguments_are_looked_at_before_weights_are_read(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^{name}( is '|=){value}"):
        TransformersAdapter("/nowhere", **{name: value})


def test_files_that_are_not_whole_are_told(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint("qwen3_vl"), tmp_path / "broken"))
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"a file of its weights is not whole, or none \(.*\): fetch it again"):
        TransformersAdapter(str(folder), device="cpu")
    weights.unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    with pytest.raises(UserError, match="cannot be loaded: its files lack 'metadata'"):
        TransformersAdapter(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("template", "reason"),
    [("{% for message in messages %}{{ message", "unexpected end of template"), ("{{ raise_exception('no') }}", "no")],
)
def test_a_chat_template_that_fails_says_why(tmp_path: Path, template: str, reason: str) -> None:
    folder = Path(shutil.copytree(checkpoint("llava"), tmp_path / "failing"))
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match=f"its chat template fails: {reason}"):
        TransformersAdapter(str(folder), device="cpu")


def test_weights_that_overflow_answer_nothing() -> None:
    one = TransformersAdapter(str(checkpoint("qwen3_vl")), dtype="float32", device="cpu")
    with torch.no_grad():
        one.model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"computes no numbers \(NaN\) in float32: use another dtype"):
        one.encode(make_clip())


def test_a_budget_below_a_pixel_a_frame_shows_the_smallest_frames() -> None:
    seen = adapter("qwen2_vl", total_pixels=1).encode(make_clip()).seen
    assert seen is not None and (seen.height, seen.width) == (28, 28)


def test_a_model_that_sees_with_a_lora_beside_it_is_refused(tmp_path: Path) -> None:
    """Loading Phi-4-multimodal leaves it out, and the model would answer without seeing much."""
    folder = Path(shutil.copytree(checkpoint("phi4_multimodal"), tmp_path / "phi4"))
    (folder / "vision-lora").mkdir()
    (folder / "vision-lora" / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"sees with a LoRA that lies beside its weights \(vision-lora\): merge it"):
        TransformersAdapter(str(folder), device="cpu")


def test_a_model_without_that_attention_says_which_it_has() -> None:
    with pytest.raises(UserError, match="it has no sdpa: use attn_implementation=eager"):
        TransformersAdapter(str(checkpoint("internvl_gpt_oss")), device="cpu")


def test_a_template_that_takes_texts_alone_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint("llava"), tmp_path / "texts"))
    form = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    (folder / "chat_template.jinja").write_text(form)
    with pytest.raises(UserError, match="its chat template does not show a question as it is given"):
        TransformersAdapter(str(folder), device="cpu")


def test_a_type_whose_forward_fails_in_this_transformers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ("llama4", (5, 24)) in transformers_adapter._BROKEN
    installed = Version(importlib.metadata.version("transformers")).release[:2]
    monkeypatch.setitem(transformers_adapter._BROKEN, ("llama4", installed), "its forward fails")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama4"}))
    with pytest.raises(UserError, match="a llama4 cannot be asked by this adapter: its forward fails"):
        TransformersAdapter(str(tmp_path), device="cpu")


# ------------------------------------------------------------------------------------- a checkpoint in a name's place


def test_a_checkpoint_in_place_of_a_models_name(tmp_path: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    folder = checkpoint("qwen3_vl")
    hub, home = "Qwen/Qwen3-VL-8B-Instruct", "transformers"
    both = labelled_models([hub, f"mine={hub}", str(folder)], {"mine": {"system": "Be brief."}})
    assert both == [
        ("Qwen3-VL-8B-Instruct", home, {"pretrained": hub}),
        ("mine", home, {"pretrained": hub, "system": "Be brief."}),
        ("qwen3_vl", home, {"pretrained": str(folder)}),
    ]
    for name in (hub, "Qwen3-VL-8B-Instruct"):
        ((_, _, arguments),) = labelled_models([hub], {name: {"frames_as": "images"}})
        assert arguments == {"pretrained": hub, "frames_as": "images"}
        with pytest.raises(UserError, match="is a checkpoint itself: leave out pretrained=another/one"):
            labelled_models([hub], {name: {"pretrained": "another/one"}})
    for wrong, message in (
        ("/nowhere/at/all", "no checkpoint folder at /nowhere/at/all"),
        (str(tmp_path), "it holds no config.json"),
        ("Qwen/", "no checkpoint folder at Qwen/; a model of the Hub is named OWNER/NAME"),
        ("qwen3_vl", "unknown model 'qwen3_vl'"),
    ):
        status, _, err = cli("--models", wrong, "--output", tmp_path / "out")
        assert status == 2 and message in err
    picture_file = tmp_path / "picture.png"
    Image.fromarray(picture(3, 84, 112)).save(picture_file)
    status, out, err = cli("ask", picture_file, "What is it?", "--model", folder, "--max-new-tokens", 3)
    assert status == 0 and "1 frames of" in err and out
    status, _, err = cli("ask", picture_file, "What is it?", "--model", "nobody/has-this")
    assert (
        status == 2
        and "error: there is no folder nobody/has-this, and the Hub's cache has no model of that name" in err
    )


def test_a_run_records_what_the_model_saw(tmp_path: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    command = ("--models", checkpoint("qwen3_5"), "--limit", 1, "--num-frames", 5, "--max-new-tokens", 4)
    status, _, err = cli(*command, "--output", tmp_path)
    (file,) = tmp_path.rglob("*.qwen3_5.jsonl")
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert status == 0 and records and not any(record["error"] for record in records), err
    seen = records[0]["seen"]
    assert (seen["frames"], seen["kind"], seen["times"]) == (6, "video", True), "the last of five is shown twice"
    assert seen["video_tokens"] == 3 * seen["height"] * seen["width"] // 32**2
    assert all(record["response"] == "" and record["thinking"] for record in records), (
        "four tokens are too few to think"
    )


def test_more_tokens_than_the_model_was_made_for_are_refused() -> None:
    one = adapter("llava_onevision")
    with pytest.raises(ValueError, match="but the model was made for 8,192: use fewer or smaller frames"):
        one.generate(one.encode(make_clip()), ["word " * 2000], SETTINGS)

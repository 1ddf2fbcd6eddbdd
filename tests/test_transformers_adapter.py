"""The adapter of transformers on tiny models of many architectures: what it answers from a prefix that is encoded once is
what transformers alone answers from scratch, and what it says of the frames is so."""

from __future__ import annotations

import functools
import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from tiny_models import TINY
from transformers import AutoModelForMultimodalLM, AutoProcessor
from vamba_eval.model_adapters import _frames
from vamba_eval.model_adapters.transformers import TransformersAdapter
from videos import picture

from vamba_eval import Clip
from vamba_eval.contracts import GenerationSettings, Seen

QUESTIONS = ["What happens?\nA. one\nB. two", "And then?", "Wo war es, 3 °C?  "]
SETTINGS = GenerationSettings(max_new_tokens=6)
PICTURES_ALONE = ("gemma3", "lfm2_vl", "idefics3", "llava", "llava_next", "mistral3", "aya_vision", "ovis2")
VIDEOS = [name for name in TINY if name not in PICTURES_ALONE]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models gain nothing from more, and lose much where others work beside them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def checkpoint(name: str) -> Path:
    """Built when it is first asked for, and left to the system's temporary folder."""
    if name == "smolvlm" and importlib.util.find_spec("num2words") is None:
        pytest.skip("SmolVLM's processor needs the package num2words")
    if name == "molmo2" and not hasattr(transformers, "Molmo2Processor"):
        pytest.skip("this transformers has no Molmo2")
    folder = Path(_folder.name) / name
    tiny_models.build(name, folder)
    return folder


_folder = tempfile.TemporaryDirectory(prefix="tiny-models-")


@functools.cache
def adapter(name: str, **arguments: Any) -> TransformersAdapter:
    if name in ("qwen2_vl", "qwen2_5_vl"):
        arguments = {"text_positions": "transformers", **arguments}
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

    def inputs(self, clip: Clip | None, question: str, images: bool) -> Any:
        shown: list[dict[str, str]] = []
        media: dict[str, Any] = {}
        if clip is not None and images:
            for place in range(len(clip.frames) + 1):
                shown += [{"type": "text", "text": text} for where, text in clip.captions if where == place]
                shown += [{"type": "image"}] * (place < len(clip.frames))
            media = {"images": [[torch.from_numpy(frame).permute(2, 0, 1) for frame in clip.frames]]}
        elif clip is not None:
            shown = [{"type": "video"}]
            total = round(clip.duration_s * clip.source_fps)
            about = {"total_num_frames": total, "fps": clip.source_fps, "duration": clip.duration_s}
            about |= {"frames_indices": clip.frame_indices.tolist()}
            media = {"videos": [[torch.from_numpy(clip.frames).permute(0, 3, 1, 2)]], "video_metadata": [[about]]}
            media |= {"do_sample_frames": False}
        messages = [{"role": "user", "content": [*shown, {"type": "text", "text": question}]}]
        text = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        begin = self.processor.tokenizer.bos_token
        special = not (begin and text.startswith(begin))
        return self.processor(text=[text], return_tensors="pt", add_special_tokens=special, **media)

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


def tokens_of(name: str, clip: Clip | None, questions: list[str], images: bool = False) -> list[list[int]]:
    """The tokens of the answers to questions about a clip that is encoded once."""
    one = adapter(name, frames_as="images") if images else adapter(name)
    encoded = one.encode(clip)
    said = []
    real = one.model.generate

    def listening(**given: Any) -> Any:
        output = real(**given)
        said.append(output[0, given["input_ids"].shape[1] :].tolist())
        return output

    one.model.generate = listening
    try:
        one.generate(encoded, questions, SETTINGS)
    finally:
        del one.model.generate
    return said


@pytest.mark.parametrize("name", TINY)
def test_answers_from_the_prefix_are_those_from_scratch(name: str) -> None:
    images = name in PICTURES_ALONE
    clip = make_clip()
    expected = [alone(name).tokens(clip, question, images) for question in QUESTIONS]
    in_turn = [*QUESTIONS, *QUESTIONS[::-1]]
    assert tokens_of(name, clip, in_turn) == [*expected, *expected[::-1]], "in any order, and again"
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


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("name", TINY)
def test_any_number_of_frames(name: str, frames: int) -> None:
    clip = make_clip(frames)
    shown = clip
    if frames == 1 and name.startswith(("qwen3", "glm4")):  # whose processors refuse one frame
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

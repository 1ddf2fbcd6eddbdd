"""Frames to patches and questions to prompts, against the reference's numbers and against PIL."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import Qwen2Tokenizer
from vamba_eval.model_adapters.vamba import VambaProcessor
from vamba_eval.model_adapters.vamba.processing import PixelSettings, preprocess_frames, resize

GOLDEN = Path(__file__).parent / "goldens" / "preprocess_even"


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    """A Qwen2 tokenizer that knows single bytes and the chat markup."""
    folder = tmp_path_factory.mktemp("tokenizer")
    from tokenizers.pre_tokenizers import ByteLevel

    markup = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    vocabulary = {token: i for i, token in enumerate(sorted(ByteLevel.alphabet()) + markup)}
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[],
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=markup[1:],
    )
    VambaProcessor(tokenizer, PixelSettings(max_pixels=200_000)).save_pretrained(folder)
    return folder


def test_golden():
    frames = load_file(GOLDEN / "inputs.safetensors")["frames"]
    wanted = load_file(GOLDEN / "expected.safetensors")
    pixels, grid = preprocess_frames(frames)
    assert torch.equal(grid, wanted["video_grid_thw"])
    torch.testing.assert_close(pixels, wanted["pixel_values_videos"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("size", "new_size"),
    [
        ((270, 480), (280, 476)),
        ((90, 160), (84, 168)),
        ((360, 640), (364, 644)),
        ((57, 300), (56, 112)),
        ((300, 200), (84, 196)),
        ((61, 47), (61, 56)),
        ((61, 47), (140, 47)),
        ((200, 310), (28, 28)),
    ],
)
def test_resizing_is_pils_to_the_bit(size, new_size):
    frames = noise(2, *size, 3)
    images = [Image.fromarray(frame.numpy()) for frame in frames]
    wanted = np.stack([np.asarray(image.resize(new_size[::-1], Image.Resampling.BICUBIC)) for image in images])
    assert np.array_equal(resize(frames, *new_size), wanted)
    if torch.cuda.is_available():
        assert np.array_equal(resize(frames.cuda(), *new_size).cpu(), wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("size", [(270, 480), (360, 640), (56, 84), (61, 47), (1080, 1920)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_gives_the_same_bits(size, dtype):
    for frames in (noise(5, *size, 3), noise(5, 2 * size[0], size[1], 3)[:, ::2]):
        pixels, grid = preprocess_frames(frames, dtype=dtype)
        there, grid_there = preprocess_frames(frames, device="cuda", dtype=dtype)
        assert torch.equal(there.cpu(), pixels) and torch.equal(grid_there, grid)


def test_patches_by_hand():
    """Where each pixel goes, without resizing: blocks of 2x2 patches, then channel, frame, row, column."""
    frames = noise(4, 56, 84, 3)
    pixels, grid = preprocess_frames(frames)
    assert grid.tolist() == [[2, 4, 6]]
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    values = (frames.numpy() / 255 - mean) / std
    row = 0
    for t in range(2):
        for block_y in range(2):
            for block_x in range(3):
                for y in range(2):
                    for x in range(2):
                        top, left = (block_y * 2 + y) * 14, (block_x * 2 + x) * 14
                        patch = values[t * 2 : t * 2 + 2, top : top + 14, left : left + 14]
                        wanted = patch.transpose(3, 0, 1, 2).reshape(-1)
                        np.testing.assert_allclose(pixels[row].numpy(), wanted, atol=1e-5)
                        row += 1


def test_odd_last_frame_is_dropped_and_a_single_one_repeated():
    frames = noise(5, 56, 56, 3)
    assert torch.equal(preprocess_frames(frames)[0], preprocess_frames(frames[:4])[0])
    single, grid = preprocess_frames(frames[:1])
    assert grid.tolist() == [[1, 4, 4]]
    assert torch.equal(single, preprocess_frames(frames[[0, 0]])[0])


def test_segments_make_up_the_whole(tokenizer_folder):
    processor = VambaProcessor.from_pretrained(tokenizer_folder)
    for num_frames in (1, 2, 7, 8):
        frames = noise(num_frames, 90, 160, 3)
        whole, grid = processor.preprocess_frames(frames.numpy(), dtype=torch.bfloat16)
        pieces = list(processor.segments(frames, 3, dtype=torch.bfloat16))
        assert torch.equal(torch.cat([pixels for pixels, _ in pieces]), whole)
        assert sum(int(g[0, 0]) for _, g in pieces) == int(grid[0, 0])
        assert processor.num_tokens(frames) * 4 == len(whole)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((270, 480), (280, 476)),
        ((360, 640), (364, 644)),
        ((28, 28), (56, 56)),  # below the least number of pixels
        ((10, 300), (28, 308)),
        ((5000, 6000), (3248, 3920)),  # above the largest
    ],
)
def test_smart_resize(size, wanted):
    assert PixelSettings().size(*size) == wanted
    assert PixelSettings().min_pixels <= wanted[0] * wanted[1] <= PixelSettings().max_pixels


def test_documented_sizes():
    assert PixelSettings().grid(512, 270, 480) == (256, 20, 34)
    assert PixelSettings().num_tokens(512, 270, 480) == 43_520
    assert PixelSettings().num_tokens(512, 360, 640) == 76_544


@pytest.mark.parametrize(
    "frames",
    [
        torch.zeros(0, 28, 28, 3, dtype=torch.uint8),
        torch.zeros(2, 28, 28, 3),
        torch.zeros(2, 3, 28, 28, dtype=torch.uint8),
        torch.zeros(2, 1, 300, 3, dtype=torch.uint8),
    ],
)
def test_unusable_frames_are_refused(frames):
    with pytest.raises(ValueError, match="frame"):
        preprocess_frames(frames)


def test_prompt_is_the_chat_markup():
    assert VambaProcessor.prompt(None, "Who?\nA. Me") == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "<|vision_start|><|vision_end|>Who?\nA. Me<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "vision" not in VambaProcessor.prompt(None, "Who?", vision=False)


def test_processor_round_trip_and_padding(tokenizer_folder):
    processor = VambaProcessor.from_pretrained(tokenizer_folder)
    assert processor.settings == PixelSettings(max_pixels=200_000)
    prompts = [processor.prompt("Who?"), processor.prompt("What is that?")]
    inputs = processor(prompts, noise(2, 56, 56, 3))
    assert set(inputs) == {"input_ids", "attention_mask", "pixel_values_videos", "video_grid_thw"}
    assert inputs["attention_mask"][0, 0] == 0 and inputs["attention_mask"][:, -1].all()
    ids = inputs["input_ids"][1].tolist()
    start, end = processor.tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|vision_end|>"])
    assert ids[ids.index(start) + 1] == end
    kept = inputs["input_ids"][0][inputs["attention_mask"][0].bool()]
    assert processor.tokenizer.decode(kept) == prompts[0]
    assert processor.batch_decode(kept[None])[0].endswith("Who?\nassistant\n")
    still = noise(1, 60, 90, 3)
    shown = processor(text=prompts[0], images=still[0])
    assert shown["image_grid_thw"].tolist() == [[1, 4, 6]]
    assert torch.equal(shown["pixel_values"], processor(videos=still)["pixel_values_videos"])
    with pytest.raises(ValueError, match="can only be 'pt'"):
        processor(prompts, return_tensors="np")


def test_settings_as_other_versions_write_them(tmp_path):
    released = {
        "do_resize": True, "image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 3136,
        "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "size": {"max_pixels": 12845056, "min_pixels": 3136},
    }  # fmt: skip
    assert PixelSettings.from_dict(released) == PixelSettings()
    assert PixelSettings.from_dict({"size": {"shortest_edge": 4000, "longest_edge": 5000}}) == PixelSettings(
        min_pixels=4000, max_pixels=5000
    )
    with pytest.raises(OSError, match=r"preprocessor_config\.json"):
        VambaProcessor.from_pretrained(tmp_path)


def test_saved_settings_are_transformers_own(tokenizer_folder):
    values = json.loads((tokenizer_folder / "preprocessor_config.json").read_text())
    assert values["image_processor_type"] == "Qwen2VLImageProcessor" and values["max_pixels"] == 200_000

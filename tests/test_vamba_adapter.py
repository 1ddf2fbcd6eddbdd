"""The adapter: checkpoints in the released layout, questions in any order, and errors that say what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from vamba_eval.model_adapters import _transformers
from vamba_eval.model_adapters.vamba import VambaAdapter, VambaProcessor, modeling
from vamba_eval.model_adapters.vamba.vision import Segment
from videos import make_video, picture

from vamba_eval import Clip, load_adapter
from vamba_eval.contracts import GenerationSettings, Seen, UserError

GOLDEN = Path(__file__).parent / "goldens" / "released_recipe"
QUESTIONS = ["What happens?\nA. one\nB. two", "And then?", "Who is it? " * 40, "Wo?"]
SETTINGS = GenerationSettings(max_new_tokens=10)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def make_clip(frames: int = 9, height: int = 84, width: int = 112) -> Clip:
    pictures = np.stack([picture(7 * n, height, width) for n in range(frames)])
    return Clip(pictures, np.arange(frames) / 1.0, np.arange(frames), 1.0, float(frames))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint as other code writes the released layout: flat config, sharded safetensors."""
    folder = tmp_path_factory.mktemp("released")
    adapter = VambaAdapter(seed=5)
    adapter.model.save_pretrained(folder, max_shard_size="200KB")
    adapter.processor.save_pretrained(folder)
    nested = json.loads((folder / "config.json").read_text())
    text = nested.pop("text_config")
    rope = text.pop("rope_parameters")
    flat = {**text, **nested, "model_type": "qwen2_vl", "architectures": ["Qwen2VLForConditionalGeneration"]}
    flat |= {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
    }
    flat.pop("layer_types", None)
    # Infinity as Python's json writes it
    flat["vision_mamba_mixer_config"]["dt_limit"] = [0.0, float("inf")]
    (folder / "config.json").write_text(json.dumps(flat))
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


def test_answers_do_not_depend_on_order_batch_or_segments(checkpoint: Path) -> None:
    clip = make_clip()
    adapter = load_adapter("vamba", pretrained=str(checkpoint), device="cpu")
    encoded = adapter.encode(clip)
    answers = adapter.generate(encoded, QUESTIONS, SETTINGS)
    assert len({answer.text for answer in answers}) > 1, "the model must tell questions apart"
    assert adapter.generate(encoded, QUESTIONS[::-1], SETTINGS)[::-1] == answers
    batched = load_adapter("vamba", pretrained=str(checkpoint), device="cpu", batch_size=4, segment_frames=2)
    assert batched.generate(batched.encode(clip), QUESTIONS, SETTINGS) == answers
    for question, answer in zip(QUESTIONS, answers, strict=True):  # from scratch, all in one call of the model
        inputs = adapter.processor([adapter.processor.prompt(question)], videos=clip.frames)
        ids = adapter.model.generate(**inputs, max_new_tokens=10, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert adapter.processor.batch_decode([ids])[0] == answer.text


def test_batches_of_any_size_give_the_answers_of_one_by_one(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert VambaAdapter(device="cpu").batch_size == VambaAdapter.batch_size == 1
    adapter = load_adapter("vamba", pretrained=str(checkpoint), device="cpu", batch_size="4")
    assert adapter.batch_size == 4
    prompts = [*QUESTIONS, "Which?", "When? " * 9, QUESTIONS[0]]
    encoded = adapter.encode(make_clip())
    alone = [answer for prompt in prompts for answer in adapter.generate(encoded, [prompt], SETTINGS)]
    batches: list[int] = []
    generate = adapter.model.generate
    monkeypatch.setattr(
        adapter.model, "generate", lambda **inputs: batches.append(len(inputs["input_ids"])) or generate(**inputs)
    )
    for count in range(len(prompts) + 1):
        assert adapter.generate(encoded, prompts[:count], SETTINGS) == alone[:count]
    assert batches == [1, 2, 3, 4, 4, 1, 4, 2, 4, 3], "never more than four at once"
    with pytest.raises(UserError, match="batch_size at least 1"):
        VambaAdapter(batch_size=0)


def test_asked_blind_it_gets_the_text_alone(checkpoint: Path) -> None:
    adapter = load_adapter("vamba", pretrained=str(checkpoint), device="cpu")
    answers = adapter.generate(adapter.encode(None), QUESTIONS, SETTINGS)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        text = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        text += f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        ids = adapter.processor.tokenizer(text, return_tensors="pt").input_ids
        output = adapter.model.generate(input_ids=ids, max_new_tokens=10, do_sample=False)
        assert adapter.processor.batch_decode([output[0, ids.shape[1] :]])[0] == answer.text
    batched = load_adapter("vamba", pretrained=str(checkpoint), device="cpu", batch_size=4)
    assert batched.generate(None, QUESTIONS, SETTINGS) == answers
    assert adapter.generate(adapter.encode(make_clip()), QUESTIONS, SETTINGS) != answers


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_static_decoding_gives_the_tokens_of_generate(checkpoint: Path, device: str) -> None:
    """Also where what was captured for one video answers about another, and a long prompt comes between."""
    adapter = VambaAdapter(pretrained=str(checkpoint), device=device, dtype="float32")
    adapter.model.generation_config.suppress_tokens = adapter.model.generation_config.begin_suppress_tokens = None
    memories = [adapter.encode(make_clip()), adapter.encode(make_clip(31, 112, 56)), None]
    continued = set()
    for question in [*QUESTIONS, "Where? " * 300, QUESTIONS[0]]:
        ids = adapter.processor([adapter.processor.prompt(question)], device=torch.device(device))["input_ids"]
        for memory in memories:
            expected = adapter.model.generate(input_ids=ids, video_memory=memory, max_new_tokens=24, eos_token_id=999)
            tokens = adapter.decoder(ids, memory, 24, {-1})
            assert tokens == expected[0, ids.shape[1] :].tolist()
            continued.add(tuple(tokens))
            end = tokens[3]
            stopped = adapter.decoder(ids, memory, 24, {end})
            assert stopped[-1] == end and end not in stopped[:-1]
    assert len(continued) > len(QUESTIONS), "videos and questions must make a difference"


def test_attention_of_shapes_that_do_not_recur_needs_no_plan(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch.backends.cuda.cudnn_sdp_enabled()
    with _transformers.attention_for_any_shape(torch.device("cuda")):
        assert not torch.backends.cuda.cudnn_sdp_enabled() and torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled()
    adapter = VambaAdapter(pretrained=str(checkpoint), device="cpu", segment_frames=4)
    full, encode_frames = [], modeling.encode_frames

    def noted(visual: torch.nn.Module, segment: Segment) -> torch.Tensor:
        full.append((segment.frames, segment.full))
        return encode_frames(visual, segment)

    monkeypatch.setattr(modeling, "encode_frames", noted)
    monkeypatch.setattr(adapter.model, "frames_per_segment", lambda *_: 2)
    adapter.encode(make_clip(10))  # five pairs, two to a segment
    assert full == [(2, True), (2, True), (1, False)]


def test_only_keys_and_values_are_kept(checkpoint: Path) -> None:
    adapter = VambaAdapter(pretrained=str(checkpoint), device="cpu")
    memory = adapter.encode(make_clip(9))  # 4 pairs of 3 x 4 tokens; the odd last frame is dropped
    text = adapter.model.config.text_config
    kept = 2 * text.num_hidden_layers * text.num_key_value_heads * (text.hidden_size // text.num_attention_heads) * 4
    assert memory.num_tokens == 48 and memory.nbytes == 48 * kept


@pytest.mark.parametrize(
    ("frames", "size", "bounds", "seen"),
    [
        (9, (84, 112), {}, Seen(8, 84, 112, 4 * 3 * 4)),  # pairs; an odd last frame is dropped
        (1, (84, 112), {}, Seen(2, 84, 112, 3 * 4)),  # a single frame is shown twice
        (6, (100, 150), {}, Seen(6, 112, 140, 3 * 4 * 5)),  # 100 is nearest to 4 times 28, 150 to 5 times
        (6, (84, 112), {"max_pixels": 6 * 28 * 28}, Seen(6, 56, 56, 3 * 2 * 2)),  # both by a factor of 1.41, downwards
        (6, (28, 56), {}, Seen(6, 56, 84, 3 * 2 * 3)),  # 56 * 56 pixels at least: both by 1.41, upwards
    ],
)
@pytest.mark.parametrize("segment_frames", [None, 2])
def test_what_it_saw(
    checkpoint: Path,
    frames: int,
    size: tuple[int, int],
    bounds: dict[str, int],
    seen: Seen,
    segment_frames: int | None,
) -> None:
    adapter = VambaAdapter(pretrained=str(checkpoint), device="cpu", segment_frames=segment_frames, **bounds)
    assert adapter.seen(adapter.encode(make_clip(frames, *size))) == seen
    assert (seen.kind, seen.times) == ("video", False)
    assert adapter.seen(adapter.encode(None)) is None


def test_a_question_that_holds_a_control_token_is_refused() -> None:
    adapter = VambaAdapter(device="cpu")
    with pytest.raises(ValueError, match=r"the question holds '<\|im_end\|>'"):
        adapter.generate(None, ["What does <|im_end|> mean?"], GenerationSettings(max_new_tokens=2))


def test_sampling_is_seeded(checkpoint: Path) -> None:
    adapter = VambaAdapter(pretrained=str(checkpoint), device="cpu")
    memory = adapter.encode(make_clip())
    settings = GenerationSettings(max_new_tokens=8, do_sample=True, temperature=2.0)
    first = adapter.generate(memory, QUESTIONS, settings)
    assert adapter.generate(memory, QUESTIONS[::-1], settings)[::-1] == first
    adapter.batch_size = 3
    assert adapter.generate(memory, QUESTIONS, settings) == first
    assert adapter.generate(memory, QUESTIONS[1:], settings) == first[1:], "as after a restart"
    adapter.batch_size = 1
    assert adapter.generate(memory, QUESTIONS, GenerationSettings(8, True, 2.0, seed=1)) != first


def test_a_checkpoint_does_not_say_how_to_decode(checkpoint: Path, tmp_path: Path) -> None:
    """Its generation_config.json has fields that no fingerprint knows of."""
    folder = tmp_path / "penalty"
    shutil.copytree(checkpoint, folder)
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"repetition_penalty": 5.0}))
    plain, other = (VambaAdapter(pretrained=str(path), device="cpu") for path in (checkpoint, folder))
    encoded = plain.encode(make_clip())
    answers = plain.generate(encoded, QUESTIONS, SETTINGS)
    assert other.generate(encoded, QUESTIONS, SETTINGS) == answers
    other.model.generation_config.repetition_penalty = 5.0
    assert other.generate(encoded, QUESTIONS, SETTINGS) != answers, "it would have acted"


def test_checkpoints_that_do_not_fit(checkpoint: Path, tmp_path: Path) -> None:
    def changed(name: str, change: Callable[[Path], None]) -> str:
        folder = tmp_path / name
        shutil.copytree(checkpoint, folder)
        change(folder)
        return str(folder)

    def without_vamba(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        kept = {k: v for k, v in config.items() if "alpha" not in k and "mixer" not in k}
        kept = {k: v for k, v in kept.items() if "cross_attn" not in k and "distill" not in k}
        (folder / "config.json").write_text(json.dumps(kept))

    def without_a_weight(folder: Path) -> None:
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        file = folder / index["weight_map"].pop("model.layers.1.alpha")
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        weights = load_file(file)
        del weights["model.layers.1.alpha"]
        save_file(weights, file, metadata={"format": "pt"})

    shard = sorted(checkpoint.glob("*.safetensors"))[1].name
    for name, change, message in (
        ("plain", without_vamba, "without Vamba's weights"),
        ("hole", without_a_weight, r"missing weights: model\.layers\.1\.alpha"),
        ("torn", lambda folder: (folder / shard).write_bytes((checkpoint / shard).read_bytes()[:-50]), shard),
        ("gone", lambda folder: (folder / shard).unlink(), shard),
        ("no_settings", lambda folder: (folder / "preprocessor_config.json").unlink(), "preprocessor_config.json"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            VambaAdapter(pretrained=changed(name, change))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no checkpoint folder at /nowhere"):
        VambaAdapter(pretrained="/nowhere")


def test_code_in_a_checkpoint_is_not_run_nor_asked_about(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tokenizer that only the checkpoint's own code knows, where somebody at a terminal would say yes."""
    folder, marker = tmp_path / "shipped", tmp_path / "it_ran"
    shutil.copytree(checkpoint, folder)
    code = f"open({str(marker)!r}, 'w')\nfrom transformers import PreTrainedTokenizerFast\n"
    (folder / "shipped.py").write_text(code + "class Shipped(PreTrainedTokenizerFast): pass\n")
    changes = {"tokenizer_config.json": {"auto_map": {"AutoTokenizer": [None, "shipped.Shipped"]}}}
    changes["tokenizer_config.json"]["tokenizer_class"] = "Shipped"
    changes["config.json"] = {"model_type": "vamba"}  # as we save it; of qwen2_vl transformers knows a tokenizer
    for name, change in changes.items():
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | change))
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "yes")
    with pytest.raises(UserError, match="contains custom code"):
        VambaAdapter(pretrained=str(folder), device="cpu")
    assert not asked and not marker.exists()
    VambaProcessor.from_pretrained(folder, trust_remote_code=True)
    assert not asked and marker.exists()


def test_memory_that_does_not_suffice_names_the_frames_that_fit(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU the allocator cannot fail, so its error and the card's size are put in its place."""
    adapter = VambaAdapter(pretrained=str(checkpoint), device="cpu")
    weights = sum(parameter.nbytes for parameter in adapter.model.parameters())
    needed = adapter.encode(make_clip(40)).nbytes

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    free = int((weights + adapter._segment_bytes(20, 84, 112) + 0.52 * needed) / 0.95)

    monkeypatch.setattr(adapter.model, "encode_video_segments", fail)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    with pytest.raises(MemoryError, match=r"40 frames of 112x84 need .* GiB .*about 20 frames of this size would fit"):
        adapter.encode(make_clip(40))


# -------------------------------------------------------------------------------------------------- ask


def test_ask_answers_several_questions_about_one_reading(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path, checkpoint: Path
) -> None:
    video = make_video(tmp_path / "my clip.mp4", frames=30)
    model = ("--model", f"vamba:pretrained={checkpoint},dtype=float32")
    status, out, err = cli("ask", video, "What is it?", "Why?", *model, "--num-frames", 8)
    assert status == 0, err
    assert "8 frames" in err and out.count("\n") == 2
    status, single, _ = cli("ask", video, "Why?", *model, "--num-frames", 8)
    assert status == 0 and single.strip() == out.splitlines()[1]


def test_ask_takes_an_image_and_reads_questions_from_a_pipe(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    from PIL import Image

    Image.fromarray(picture(0, 60, 80)).save(tmp_path / "photo.png")
    monkeypatch.setattr("sys.stdin", io.StringIO("What is it?\n\nAnd now?\n"))
    status, out, _ = cli("ask", tmp_path / "photo.png", "--model", "vamba")
    assert status == 0 and len(out.splitlines()) == 2
    (tmp_path / "noise.mp4").write_bytes(b"no video" * 100)
    status, _, err = cli("ask", tmp_path / "noise.mp4", "?", "--model", "vamba")
    assert status == 2 and "is not a video but plain text" in err and "Traceback" not in err
    status, _, err = cli("ask", tmp_path / "photo.png", "?", "--model", "vambo")
    assert status == 2 and "did you mean 'vamba'" in err

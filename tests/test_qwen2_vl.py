"""The Qwen2-VL adapter on small checkpoints of the real classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_checkpoint import write_checkpoint
from transformers import AutoProcessor, Qwen2VLForConditionalGeneration
from vamba_eval.model_adapters.qwen2_vl import AFTER_QUESTION, BEGINNING, Qwen2VLAdapter
from videos import picture

from vamba_eval import Clip, load_adapter
from vamba_eval.contracts import GenerationSettings, Seen, UserError

QUESTIONS = ["What happens?\nA. one\nB. two", "And then?", "Who is it? " * 30, "Wo?"]
SETTINGS = GenerationSettings(max_new_tokens=12)


def make_clip(frames: int = 6, height: int = 84, width: int = 112) -> Clip:
    pictures = np.stack([picture(7 * n, height, width) for n in range(frames)])
    return Clip(pictures, np.arange(frames) / 1.0, np.arange(frames), 1.0, float(frames))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def from_scratch(folder: Path, clip: Clip | None, question: str) -> str:
    """What transformers alone answers, with its processor, from the whole prompt at once."""
    model = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    shown: list[dict[str, str]] = []
    media: dict[str, object] = {}
    if clip is not None and clip.captions:
        for place in range(len(clip.frames) + 1):
            shown += [{"type": "text", "text": text} for where, text in clip.captions if where == place]
            shown += [{"type": "image"}] * (place < len(clip.frames))
        media = {"images": [Image.fromarray(frame) for frame in clip.frames]}
    elif clip is not None:
        shown = [{"type": "video"}]
        media = {"videos": [torch.from_numpy(clip.frames).permute(0, 3, 1, 2)], "do_sample_frames": False}
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "You are a helpful assistant."}]},
        {"role": "user", "content": [*shown, {"type": "text", "text": question}]},
    ]
    text = processor.apply_chat_template(messages, tokenize=False)
    inputs = processor(text=[text], return_tensors="pt", **media)
    output = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    return processor.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("frames", [1, 5, 16])
def test_answers_from_the_prefix_are_those_from_scratch(checkpoint: Path, frames: int) -> None:
    adapter = load_adapter(
        "qwen2_vl", pretrained=str(checkpoint), dtype="float32", device="cpu", text_positions="transformers"
    )
    clip = make_clip(frames)
    encoded = adapter.encode(clip)
    answers = [answer.text for answer in adapter.generate(encoded, QUESTIONS, SETTINGS)]
    assert answers == [from_scratch(checkpoint, clip, question) for question in QUESTIONS]
    assert len(set(answers)) > 1, "the model must tell questions apart for this test to mean anything"
    backwards = adapter.generate(encoded, QUESTIONS[::-1], SETTINGS)
    assert [answer.text for answer in backwards][::-1] == answers


CAPTIONS = {
    "none at the ends": ((1, "so it begins\n"), (1, "two at once\n"), (4, "über 3 °C\n")),
    "everywhere": tuple((place, f"\nline {place}\n") for place in range(6)),
    "before": ((0, "first the text\n"),),
    "behind": ((5, "last the text\n"), (5, "\n  ")),
    "empty": ((5, ""),),
}


@pytest.mark.parametrize("positions", ["transformers", "original"])
@pytest.mark.parametrize("where", CAPTIONS)
def test_answers_after_text_between_frames_are_those_from_scratch(checkpoint: Path, where: str, positions: str) -> None:
    adapter = load_adapter(
        "qwen2_vl", pretrained=str(checkpoint), dtype="float32", device="cpu", text_positions=positions
    )
    clip = make_clip(5)
    as_video = [answer.text for answer in adapter.generate(adapter.encode(clip), QUESTIONS, SETTINGS)]
    clip.captions = CAPTIONS[where]
    encoded = adapter.encode(clip)
    answers = [answer.text for answer in adapter.generate(encoded, QUESTIONS, SETTINGS)]
    assert answers == [from_scratch(checkpoint, clip, question) for question in QUESTIONS]
    assert answers != as_video
    # Each picture of 3 x 4 tokens takes 4 positions, whatever stands around it.
    assert encoded.position[-1].item() == encoded.ids.shape[1] - 1 - 5 * (3 * 4 - 4)
    backwards = adapter.generate(encoded, QUESTIONS[::-1], SETTINGS)
    assert [answer.text for answer in backwards][::-1] == answers


def test_asked_blind_it_gets_the_text_alone(checkpoint: Path) -> None:
    adapter = load_adapter("qwen2_vl", pretrained=str(checkpoint), dtype="float32", device="cpu")
    seeing = adapter.generate(adapter.encode(make_clip()), QUESTIONS, SETTINGS)
    encoded = adapter.encode(None)
    answers = adapter.generate(encoded, QUESTIONS, SETTINGS)
    assert [answer.text for answer in answers] == [from_scratch(checkpoint, None, question) for question in QUESTIONS]
    assert adapter.generate(encoded, QUESTIONS[::-1], SETTINGS)[::-1] == answers
    assert answers != seeing


def test_the_processor_does_not_sample_again(checkpoint: Path) -> None:
    adapter = Qwen2VLAdapter(pretrained=str(checkpoint), device="cpu")
    for frames, steps in ((40, 20), (5, 3)):  # an odd last frame is repeated
        _, given = adapter._prefix(make_clip(frames))
        assert given["video_grid_thw"].tolist() == [[steps, 6, 8]]


def test_what_it_saw(checkpoint: Path) -> None:
    def seen(frames: int, height: int = 84, width: int = 112, captions: bool = False, **bounds: int) -> Seen | None:
        adapter = Qwen2VLAdapter(pretrained=str(checkpoint), device="cpu", **bounds)
        clip = make_clip(frames, height, width)
        clip.captions = ((0, "one\n"), (frames, "two\n")) if captions else ()
        return adapter.seen(adapter.encode(clip))

    assert seen(6) == Seen(6, 84, 112, 3 * 3 * 4, "video", False)
    assert seen(5) == Seen(6, 84, 112, 3 * 3 * 4), "an odd last frame is shown twice"
    assert seen(1) == Seen(2, 84, 112, 3 * 4)
    assert seen(6, 100, 150) == Seen(6, 112, 140, 3 * 4 * 5), "100 is nearest to 4 times 28, 150 to 5 times"
    assert seen(5, captions=True) == Seen(5, 84, 112, 5 * 3 * 4, "images", False)
    assert seen(5, 100, 150, captions=True) == Seen(5, 112, 140, 5 * 4 * 5, "images")
    # Both edges by a factor of 1.41 and then downwards to multiples of 28.
    assert seen(6, max_pixels=6 * 28 * 28) == Seen(6, 56, 56, 3 * 2 * 2)
    assert seen(5, captions=True, max_pixels=6 * 28 * 28) == Seen(5, 56, 56, 5 * 2 * 2, "images")
    # By a factor of 1.29 and then upwards.
    assert seen(6, min_pixels=20 * 28 * 28) == Seen(6, 112, 168, 3 * 4 * 6)
    assert seen(5, captions=True, min_pixels=20 * 28 * 28) == Seen(5, 112, 168, 5 * 4 * 6, "images")
    adapter = Qwen2VLAdapter(pretrained=str(checkpoint), device="cpu")
    assert adapter.seen(adapter.encode(None)) is None


def test_a_picture_is_shown_as_one_and_a_single_frame_as_a_video(checkpoint: Path) -> None:
    """Which makes no difference to the model: of a picture too, each patch is of two frames."""
    adapter = Qwen2VLAdapter(pretrained=str(checkpoint), device="cpu")
    frame, still = make_clip(1), make_clip(1)
    still.source_fps = still.duration_s = float("nan")
    one, other = adapter.encode(frame), adapter.encode(still)
    assert adapter.seen(one) == Seen(2, 84, 112, 12, "video", False)
    assert adapter.seen(other) == Seen(1, 84, 112, 12, "images", False)
    assert adapter.generate(one, QUESTIONS, SETTINGS) == adapter.generate(other, QUESTIONS, SETTINGS)


def test_wrong_bounds_of_pixels_are_named() -> None:
    with pytest.raises(UserError, match="min_pixels 3136 is above max_pixels 1000"):
        Qwen2VLAdapter(max_pixels=1000)
    for name in ("min_pixels", "max_pixels"):
        with pytest.raises(UserError, match=f"{name}=0: it is a whole number from 1"):
            Qwen2VLAdapter(**{name: 0})


def original_positions(before: int, grid: tuple[int, int, int], behind: int) -> torch.Tensor:
    """(3, 1, N) of so many tokens before a video of such a grid and behind it, which go on from its largest one."""
    inside = torch.cartesian_prod(*(torch.arange(each) for each in grid)).T + before
    after = torch.arange(behind) + int(inside.max()) + 1
    return torch.cat([torch.arange(before).expand(3, -1), inside, after.expand(3, -1)], dim=1)[:, None]


@pytest.mark.parametrize("name", ["qwen2_vl", "transformers"])
@torch.inference_mode()
def test_likelihoods_at_original_positions_are_those_of_one_pass_from_scratch(checkpoint: Path, name: str) -> None:
    """Of a video with more time steps than a frame has tokens across: the rules differ."""
    adapter = load_adapter(name, pretrained=str(checkpoint), dtype="float32", device="cpu")
    if name == "transformers":
        adapter.system = "You are a helpful assistant."
    clip, said = make_clip(40), "A, I think"
    (found,) = adapter.loglikelihood(adapter.encode(clip), QUESTIONS[:1], [said])
    beginning, behind = f"{BEGINNING}<|vision_start|>", f"<|vision_end|>{QUESTIONS[0]}{AFTER_QUESTION}"
    text = f"{beginning}{'<|video_pad|>' * 240}{behind}{said}"
    ids = adapter.tokenizer(text, return_tensors="pt").input_ids
    before, after = (len(adapter.tokenizer(some).input_ids) for some in (beginning, said))
    _, given = adapter._prefix(clip)
    logits = adapter.model(
        input_ids=ids,
        position_ids=original_positions(before, (20, 3, 4), ids.shape[1] - before - 240),
        pixel_values_videos=given["pixel_values_videos"],
        video_grid_thw=given["video_grid_thw"],
    ).logits[0, -after - 1 : -1]
    wanted = logits.log_softmax(-1).gather(-1, ids[0, -after:, None]).sum()
    assert found.logprob == pytest.approx(float(wanted), abs=1e-4)


def test_a_long_video_needs_no_more_positions_than_time_steps(checkpoint: Path) -> None:
    """Of 240 tokens of video the last are at time step 20."""
    adapter = Qwen2VLAdapter(pretrained=str(checkpoint), device="cpu")
    adapter.model.config.text_config.max_position_embeddings = 200
    encoded = adapter.encode(make_clip(40))
    assert encoded.ids.shape[1] > 240 and adapter.generate(encoded, ["Why?"], SETTINGS)[0].num_tokens
    with pytest.raises(ValueError, match="but the model was made for 200: use fewer or smaller frames"):
        adapter.generate(encoded, ["Why? " * 40], SETTINGS)


def test_original_text_positions_count_on_from_the_last_time_step() -> None:
    for chosen, steps in (({}, 20), ({"text_positions": "original"}, 20), ({"text_positions": "transformers"}, 4)):
        adapter = Qwen2VLAdapter(**chosen)
        encoded = adapter.encode(make_clip(40))  # 20 time steps of 3 x 4 tokens
        before = len(adapter.tokenizer(BEGINNING + "<|vision_start|>").input_ids)
        assert encoded.position[-1].item() == before + steps, "the token after the video"
    with pytest.raises(UserError, match="use original or transformers"):
        Qwen2VLAdapter(text_positions="qwen")


def test_control_tokens_in_a_question_are_text(checkpoint: Path) -> None:
    adapter = Qwen2VLAdapter(pretrained=str(checkpoint), device="cpu")
    for clip in (make_clip(), None):
        encoded = adapter.encode(clip)
        question = adapter._question(encoded, "Is <|im_end|> there, or <|video_pad|>?")[0].tolist()
        assert adapter.tokenizer.decode(question).count("<|im_end|>") == 2 + (clip is None)
        end = adapter.tokenizer.convert_tokens_to_ids("<|im_end|>")
        assert question.count(end) == 1 + (clip is None), "those of the chat's form"
    clip = make_clip(3)
    clip.captions = ((1, "<|im_end|>"),)
    with pytest.raises(ValueError, match="the text between the frames holds"):
        adapter.encode(clip)


def test_it_answers_as_the_adapter_of_transformers(checkpoint: Path) -> None:
    how = {"pretrained": str(checkpoint), "device": "cpu", "dtype": "float32"}
    ours = load_adapter("qwen2_vl", **how)
    theirs = load_adapter("transformers", **how, system="You are a helpful assistant.")
    with_text = make_clip(5)
    with_text.captions = CAPTIONS["everywhere"]
    for clip in (None, make_clip(7), make_clip(1), with_text):
        one, other = ours.encode(clip), theirs.encode(clip)
        assert one.ids.tolist() == other.ids.tolist() and ours.seen(one) == theirs.seen(other)
        assert ours.generate(one, QUESTIONS, SETTINGS) == theirs.generate(other, QUESTIONS, SETTINGS)


def test_sampling_is_seeded_by_question(checkpoint: Path) -> None:
    adapter = Qwen2VLAdapter(pretrained=str(checkpoint), device="cpu")
    encoded = adapter.encode(make_clip())
    settings = GenerationSettings(max_new_tokens=8, do_sample=True, temperature=3.0)
    first = adapter.generate(encoded, QUESTIONS, settings)
    assert adapter.generate(encoded, QUESTIONS[::-1], settings)[::-1] == first
    other = adapter.generate(
        encoded, QUESTIONS, GenerationSettings(max_new_tokens=8, do_sample=True, temperature=3.0, seed=1)
    )
    assert other != first


def test_the_fingerprint_tells_checkpoints_apart(checkpoint: Path, tmp_path: Path) -> None:
    same, other = tmp_path / "same", tmp_path / "other"
    shutil.copytree(checkpoint, same)
    shutil.copytree(checkpoint, other)
    Qwen2VLAdapter(seed=4).model.save_pretrained(other)
    identities = [Qwen2VLAdapter(pretrained=str(p)).describe()["identity"] for p in (checkpoint, same, other)]
    assert identities[0] == identities[1] != identities[2]


def test_the_fingerprint_says_what_may_differ_and_no_more(checkpoint: Path) -> None:
    """Runs go on where they stopped only under the very same."""
    bounds = {"min_pixels": 3136, "max_pixels": 12845056}
    plain = {"dtype": "float32", "attn_implementation": "sdpa", "text_positions": "original"}
    small = Qwen2VLAdapter(device="cpu", seed=4, max_pixels=6000, text_positions="transformers")
    wanted = {**plain, **bounds, "weights": "random", "seed": 4, "max_pixels": 6000, "text_positions": "transformers"}
    assert small.describe() == wanted
    described = Qwen2VLAdapter(pretrained=str(checkpoint), device="cpu").describe()
    assert described.pop("identity").startswith("weights ")
    assert described == {**plain, **bounds, "pretrained": str(checkpoint)}


def test_the_prompt_is_that_of_the_chat_format_whatever_the_checkpoints_template(checkpoint: Path) -> None:
    video, picture = (f"<|vision_start|><|{kind}_pad|><|vision_end|>" for kind in ("video", "image"))
    with_text = make_clip(2)
    with_text.captions = ((0, " one \n"), (2, "two"))
    for arguments in ({}, {"pretrained": str(checkpoint)}):
        adapter = Qwen2VLAdapter(device="cpu", **arguments)
        for clip, media in ((None, ""), (make_clip(), video), (with_text, f" one \n{picture}{picture}two")):
            assert adapter._render(clip) == f"{BEGINNING}{media}QUESTION{AFTER_QUESTION}"


def test_a_checkpoint_does_not_say_how_to_decode(checkpoint: Path, tmp_path: Path) -> None:
    """Its generation_config.json has fields that no fingerprint knows of."""
    folder = tmp_path / "penalty"
    shutil.copytree(checkpoint, folder)
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"repetition_penalty": 5.0}))
    plain, other = (Qwen2VLAdapter(pretrained=str(path), device="cpu") for path in (checkpoint, folder))
    encoded = plain.encode(make_clip())
    drawn = GenerationSettings(max_new_tokens=12, do_sample=True)
    for settings in (SETTINGS, drawn):
        answers = plain.generate(encoded, QUESTIONS, settings)
        assert other.generate(encoded, QUESTIONS, settings) == answers
    other.model.generation_config.repetition_penalty = 5.0
    assert other.generate(encoded, QUESTIONS, drawn) != answers, "it would have acted"


def test_checkpoints_that_do_not_fit_are_named(checkpoint: Path, tmp_path: Path) -> None:
    def changed(name: str, **fields: object) -> str:
        folder = tmp_path / name
        shutil.copytree(checkpoint, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **fields}))
        return str(folder)

    with pytest.raises(UserError, match="is a Vamba checkpoint: use --models vamba"):
        Qwen2VLAdapter(pretrained=changed("vamba", vision_mamba_mixer_config={"enable": True}))
    with pytest.raises(UserError, match="is a llama checkpoint, not a qwen2_vl one: use --models transformers"):
        Qwen2VLAdapter(pretrained=changed("llama", model_type="llama"))
    deeper = json.loads((checkpoint / "config.json").read_text())["text_config"] | {
        "num_hidden_layers": 3,
        "layer_types": None,
    }
    with pytest.raises(UserError, match=r"does not fit Qwen2VL\w+: missing keys: .*layers.2"):
        Qwen2VLAdapter(pretrained=changed("deeper", text_config=deeper))
    shallower = deeper | {"num_hidden_layers": 1}
    with pytest.raises(UserError, match=r"does not fit Qwen2VL\w+: unexpected keys: .*layers.1"):
        Qwen2VLAdapter(pretrained=changed("shallower", text_config=shallower))
    hollow = Path(changed("hollow"))
    (hollow / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match="cannot be loaded"):
        Qwen2VLAdapter(pretrained=str(hollow))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="cannot be loaded"):
        Qwen2VLAdapter(pretrained=str(tmp_path / "empty"))


def test_code_in_a_checkpoint_is_not_run(checkpoint: Path, tmp_path: Path) -> None:
    folder, marker = tmp_path / "shipped", tmp_path / "it_ran"
    shutil.copytree(checkpoint, folder)
    code = f"open({str(marker)!r}, 'w')\nfrom transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration\n"
    code += "class C(Qwen2VLConfig): pass\nclass M(Qwen2VLForConditionalGeneration): pass\n"
    (folder / "shipped.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "shipped.C", "AutoModelForImageTextToText": "shipped.M"}
    (folder / "config.json").write_text(json.dumps(config))
    Qwen2VLAdapter(pretrained=str(folder))
    assert not marker.exists()

"""The training recipe on a CPU, at sizes that take seconds: what is trained, on what, and what comes of it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from tiny_checkpoint import write_checkpoint
from transformers import Qwen2VLForConditionalGeneration
from vamba_eval.model_adapters import _transformers
from vamba_eval.model_adapters.vamba import VambaConfig, VambaForConditionalGeneration, starts, training_data
from vamba_eval.model_adapters.vamba.adapter import VambaAdapter
from vamba_eval.model_adapters.vamba.processing import VambaProcessor
from vamba_eval.model_adapters.vamba.teacher import Teacher
from vamba_eval.model_adapters.vamba.training import STAGES, VIDEO, freeze
from vamba_eval.model_adapters.vamba.training_batches import MARKERS, MicroBatches, collate, encode
from vamba_eval.model_adapters.vamba.training_data import Examples, PictureSizes, Sample, read_sources
from vamba_eval.model_adapters.vamba.training_model import Group, TopTokens, VambaForTraining, divergence
from videos import make_video, picture

from vamba_eval import Clip, FrameSampling
from vamba_eval.contracts import GenerationSettings, UserError

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    **{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "use_alpha_balancing": True},
    "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2},
    "vision_mamba_mixer_config": {"enable": True, "hidden_dim": 64, "d_state": 16, "headdim": 16},
}
# Four videos, told apart by their colour alone, half of them by the colour of one frame pair.
GENERATED = """
import time
from pathlib import Path

import numpy as np

COLORS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "grey": (128, 128, 128)}


def video(number, kinds=4):
    name = list(COLORS)[number % kinds]
    frames = np.full((6, 56, 56, 3), 20, np.uint8)
    frames[2:4] = COLORS[name]
    return frames, "Which colour flashes?", name


def broken(number):
    if Path("hold").exists() and number % 2**32 >= 28:  # to be killed there
        time.sleep(600)
    if number % 3 == 1:
        raise OSError("a bad sector")
    return video(number)


def never(number):
    raise OSError("no disk")
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "small.json").write_text(json.dumps(SMALL))
    (tmp_path / "flashes.py").write_text(GENERATED)
    (tmp_path / "data.yaml").write_text("data:\n  - {kind: generated, function: 'flashes.py:video', name: flashes}\n")
    return tmp_path


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("qwen"))


def command(work: Path, output: str, *more: object, start: str = "small.json", stage: int = 2) -> list[str]:
    place = [*("--stage", stage, "--from", work / start, "--data", work / "data.yaml", "--output", work / output)]
    return [str(word) for word in ("train", *place, "--device", "cpu", *more)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def log_of(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "training_log.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if "loss" in entry]


def images(folder: Path, count: int, size: tuple[int, int] = (56, 84)) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        Image.fromarray(picture(11 * n, *size)).save(folder / f"{n}.png")
    return [f"{n}.png" for n in range(count)]


def captions(work: Path, count: int = 6) -> None:
    """Images with captions, as LLaVA-like rows."""
    names = images(work / "images", count)
    rows = [{"id": n, "image": name, "caption": f"number {n}"} for n, name in enumerate(names)]
    (work / "captions.json").write_text(json.dumps(rows))
    (work / "data.yaml").write_text("data: [{kind: llava, path: captions.json, media: images, pack: 2}]\n")


def loss_of_all(model: VambaForTraining, group: Group) -> torch.Tensor:
    return model([group])[0]


# ------------------------------------------------------------------------------------------------------ where it begins


def test_from_qwen2_vl(qwen: Path) -> None:
    """Every weight of Qwen2-VL is kept, cross-attention copies self-attention, mixers are drawn as in the reference."""
    model, _, origin = starts.load(str(qwen), VambaForTraining, seed=1)
    theirs = Qwen2VLForConditionalGeneration.from_pretrained(qwen)
    assert origin == "qwen2_vl"
    expected = {f"visual.{name}": w for name, w in theirs.model.visual.state_dict().items()}
    expected |= {f"model.{name}": w for name, w in theirs.model.language_model.state_dict().items()}
    expected["lm_head.weight"] = theirs.lm_head.weight
    ours = model.state_dict()
    for name, weight in expected.items():
        assert torch.equal(ours[name], weight), name
        if ".self_attn." in name:
            assert torch.equal(ours[name.replace("self_attn", "cross_attn")], weight), name
    added = set(ours) - set(expected)
    assert all(any(part in name for part in STAGES[1].trainable) for name in added)
    mixer, layers = model.model.layers[0].vision_mixer.mixer, len(model.model.layers)
    bound = (1 / mixer.out_proj.weight.shape[1]) ** 0.5  # of kaiming_uniform with a = sqrt(5)
    largest = float(mixer.out_proj.weight.detach().abs().max())
    assert 0.95 * bound / layers**0.5 < largest <= bound / layers**0.5
    largest = float(mixer.conv1d.weight.detach().abs().max())
    assert 0.95 * 0.5 < largest <= 0.5 and mixer.conv1d.bias.detach().abs().max() > 0.4  # 1 / sqrt(4 taps)
    std = model.config.text_config.initializer_range
    assert mixer.in_proj.weight.std().item() == pytest.approx(std, rel=0.05)
    assert all(layer.alpha.item() == 0.5 for layer in model.model.layers)
    again = starts.load(str(qwen), VambaForTraining, seed=1)[0].state_dict()
    other = starts.load(str(qwen), VambaForTraining, seed=2)[0].state_dict()
    assert all(torch.equal(again[name], ours[name]) for name in ours)
    assert not torch.equal(other["model.layers.0.vision_mixer.mixer.in_proj.weight"], mixer.in_proj.weight)


def test_what_is_written_is_the_released_layout(qwen: Path, tmp_path: Path) -> None:
    """The keys of the released config.json, flat; it is read back as the same configuration."""
    model, processor, _ = starts.load(str(qwen), VambaForTraining, seed=1)
    starts.save(model, processor, tmp_path, None, torch.float32)
    written = json.loads((tmp_path / "config.json").read_text())
    golden = json.loads((ROOT / "tests/goldens/released_recipe/config.json").read_text())
    assert set(golden) - set(written) <= {"pad_token_id"}
    assert written["model_type"] == "qwen2_vl" and written["rope_scaling"] == golden["rope_scaling"]
    assert set(golden["vision_config"]) <= set(written["vision_config"])
    again = VambaConfig.from_pretrained(tmp_path)
    ours, theirs = again.to_dict(), model.config.to_dict()
    for part in ("text_config", "vision_config"):
        known = {name for name in theirs[part] if name not in ("dtype", "_name_or_path", "architectures")}
        ours[part]["rope_parameters"].pop("type", None)  # as the released file calls it
        assert {name: ours[part][name] for name in known} == {name: theirs[part][name] for name in known}
    assert again.mixer == model.config.mixer and again.use_alpha_balancing
    loaded = VambaForConditionalGeneration.from_pretrained(tmp_path)
    assert all(torch.equal(loaded.state_dict()[name], w) for name, w in model.state_dict().items())


# ----------------------------------------------------------------------------------------------------- what is computed


def groups_of(
    processor: VambaProcessor, *texts: str, frames: tuple[int, ...] = (6, 6, 1), size: tuple[int, int] = (56, 84)
) -> list[Group]:
    plain = _transformers.PlainText(processor.tokenizer)
    rows = []
    for n, (count, text) in enumerate(zip(frames, texts, strict=True)):
        video = np.stack([picture(13 * n + 3 * m, *size) for m in range(count)])
        turns = [("What is it?", text)]
        rows.append((Sample([video], [turns]), [encode(turns, 1, processor, plain)]))
    return collate(rows, processor.tokenizer.pad_token_id)


def test_side_by_side_is_one_after_the_other(qwen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of videos computed together, cut into segments, is that of each alone by the model's forward."""
    model, processor, _ = starts.load(str(qwen), VambaForTraining, seed=1)
    model.train()
    groups = groups_of(processor, "a dog", "two grey cats", "nothing")
    assert [tuple(group.pictures[0].shape[:2]) for group in groups] == [(2, 6), (1, 1)]
    plain = 0.0
    released = VambaForConditionalGeneration(model.config).eval()
    released.load_state_dict(model.state_dict())
    for group in groups:
        for row in range(len(group.ids)):
            pixels, grid = processor.preprocess_frames(group.pictures[0][row])
            kept = slice(0, int((group.labels[row] != -100).nonzero().max()) + 1)
            ids, labels = group.ids[row : row + 1, kept], group.labels[row : row + 1, kept]
            out = released(input_ids=ids, labels=labels, pixel_values_videos=pixels, video_grid_thw=grid)
            plain += float(out.loss) * int((labels != -100).sum())
    assert float(model(groups)[0]) == pytest.approx(plain, rel=1e-5)
    monkeypatch.setattr("vamba_eval.model_adapters.vamba.modeling.SEGMENT_TOKENS", 12)  # one temporal patch of two rows
    assert float(model(groups)[0]) == pytest.approx(plain, rel=1e-5)


def test_several_texts_about_a_video_share_its_memory(qwen: Path) -> None:
    model, processor, _ = starts.load(str(qwen), VambaForTraining, seed=1)
    plain = _transformers.PlainText(processor.tokenizer)
    video = np.stack([picture(5 * m, 56, 56) for m in range(4)])
    other = np.stack([picture(50 + 5 * m, 56, 56) for m in range(4)])
    said = [[("Who?", "Ann")], [("Where is she?", "at home")]]
    encoded = [encode(turns, 1, processor, plain) for turns in said]
    pad = processor.tokenizer.pad_token_id
    together = collate([(Sample([v], said), encoded) for v in (video, other)], pad)
    alone = [
        collate([(Sample([v], [turns]), [texts])], pad)[0]
        for v in (video, other)
        for turns, texts in zip(said, encoded, strict=True)
    ]
    assert len(together) == 1 and together[0].ids.shape[0] == 4
    wanted = sum(float(loss_of_all(model, group)) for group in alone)
    assert float(loss_of_all(model, together[0])) == pytest.approx(wanted, rel=1e-5)


def test_the_divergence_by_hand() -> None:
    """Two answer tokens, the teacher's two most likely of three: both distributions renormalised to these two."""
    student = torch.tensor([[1.0, 2.0, 5.0], [0.0, 3.0, 1.0]])
    teacher = TopTokens(torch.tensor([[2.0, 1.0], [1.0, 1.0]]), torch.tensor([[0, 1], [2, 1]]))
    first_p = 1 / (1 + np.exp(-1.0))  # of logits 2 and 1
    first_q = 1 / (1 + np.exp(1.0))  # of logits 1 and 2
    second_q = 1 / (1 + np.exp(2.0))  # of logits 1 and 3
    first = first_p * np.log(first_p / first_q) + (1 - first_p) * np.log((1 - first_p) / (1 - first_q))
    second = 0.5 * np.log(0.5 / second_q) + 0.5 * np.log(0.5 / (1 - second_q))
    assert float(divergence(student, teacher)) == pytest.approx(first + second, rel=1e-6)


@pytest.mark.parametrize("frames", [(6, 6, 6), (1, 1, 1)])
def test_the_teacher_is_qwen2_vl_as_it_is_asked(qwen: Path, frames: tuple[int, ...]) -> None:
    """Its logits at the answer's tokens are those of transformers' model on the whole sequence."""
    theirs = starts.load_qwen2_vl(str(qwen))
    processor = starts.read_processor(str(qwen))
    groups = groups_of(processor, "a dog", "two grey cats", "nothing", frames=frames)
    (group,) = groups
    top = Teacher(theirs, processor.settings).top_tokens(group)
    assert len(top.logits) == int((group.labels != -100).sum())
    kind = "video" if frames[0] > 1 else "image"
    token = theirs.config.video_token_id if kind == "video" else theirs.config.image_token_id
    wanted = []
    for row in range(3):
        pixels, grid = processor.preprocess_frames(group.pictures[0][row])
        kept = int((group.labels[row] != -100).nonzero().max()) + 1
        ids, labels = group.ids[row, :kept].tolist(), group.labels[row, :kept]
        place = ids.index(theirs.config.vision_start_token_id) + 1
        whole = torch.tensor([ids[:place] + [token] * (int(grid.prod()) // 4) + ids[place:]])
        types = (whole == token).int() * (2 if kind == "video" else 1)
        positions, _ = theirs.model.get_rope_index(whole, types, **{f"{kind}_grid_thw": grid})
        if kind == "video":  # as the paper has it, where transformers since 5.3 counts otherwise
            end = place + int(grid.prod()) // 4
            latest = int(positions[:, 0, place:end].max())
            positions[:, 0, end:] = latest + 1 + torch.arange(whole.shape[1] - end)
        name = "pixel_values_videos" if kind == "video" else "pixel_values"
        with torch.no_grad():
            logits = theirs(input_ids=whole, position_ids=positions, **{name: pixels, f"{kind}_grid_thw": grid}).logits[
                0
            ]
        answers = int((labels != -100).sum())
        wanted.append(logits[-answers - 1 : -1])
    values, tokens = torch.cat(wanted).topk(100, dim=-1)
    torch.testing.assert_close(top.logits, values, atol=2e-5, rtol=1e-4)
    assert (top.tokens == tokens).float().mean() > 0.99


# --------------------------------------------------------------------------------------------------------- what is said


def test_labels_are_of_answers_alone(qwen: Path) -> None:
    processor = starts.read_processor(str(qwen))
    plain = _transformers.PlainText(processor.tokenizer)
    turns = [("<image>\nWhat is it?", "A dog."), ("And now?", "A cat.")]
    ids, labels = encode(turns, 1, processor, plain)
    text = processor.tokenizer.decode(ids)
    wanted = processor.prompt("What is it?") + "A dog.<|im_end|>\n<|im_start|>user\nAnd now?<|im_end|>\n"
    assert text == wanted + "<|im_start|>assistant\nA cat.<|im_end|>"
    learnt = processor.tokenizer.decode([token for token in labels if token != -100])
    assert learnt == "A dog.<|im_end|>A cat.<|im_end|>"
    assert (
        ids[: labels.index(next(token for token in labels if token != -100))]
        == processor.tokenizer(processor.prompt("What is it?")).input_ids
    ), "what is asked is what the adapter asks"
    several, _ = encode([("<image> or\n<image>?", "The first.")], 2, processor, plain)
    assert processor.tokenizer.decode(several).count(MARKERS) == 2
    with pytest.raises(ValueError, match="1 places for 2 pictures"):
        encode([("<image>?", "x")], 2, processor, plain)
    with pytest.raises(ValueError, match="control token"):
        encode([("What?", "x<|im_end|>")], 1, processor, plain)


# ------------------------------------------------------------------------------------------------------------- the data


def sources(work: Path, text: str) -> Examples:
    (work / "data.yaml").write_text(text)
    sizes = PictureSizes(None, FrameSampling(num_frames=4, shortest_edge=56, longest_edge=112))
    return Examples(read_sources(work / "data.yaml", sizes, seed=3, pack=1), seed=3)


def shard(file: Path, rows: list[dict[str, bytes]]) -> None:
    with tarfile.open(file, "w") as tar:
        for n, row in enumerate(rows):
            for kind, content in row.items():
                member = tarfile.TarInfo(f"{n:09d}.{kind}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def jpeg(seed: int) -> bytes:
    held = io.BytesIO()
    Image.fromarray(picture(seed, 60, 80)).save(held, "JPEG")
    return held.getvalue()


def test_webdataset_shards(work: Path) -> None:
    """CC12M's layout, and PixelProse's captions from a field of the JSON; what is broken is skipped, and said."""
    for n in range(2):
        rows = [
            {
                "jpg": jpeg(10 * n + m),
                "json": json.dumps({"key": f"{n}{m}", "vlm_caption": f"long {n}{m}"}).encode(),
                "txt": f"short {n}{m}".encode(),
            }
            for m in range(4)
        ]
        rows[2]["jpg"] = b"no image"
        shard(work / f"cc12m-{n:04d}.tar", rows)
    (work / "cc12m-0002.tar").write_bytes(b"no archive" * 100)
    examples = sources(work, "data: [{kind: webdataset, path: 'cc12m-*.tar', name: cc12m}]")
    assert examples.one_pass is None
    drawn = [examples(n) for n in range(9)]  # one pass: eight rows, and the broken shard
    said = sorted(s.conversations[0][0][1] for samples, _ in drawn for s in samples)
    assert said == [f"short {n}{m}" for n in range(2) for m in (0, 1, 3)]
    assert {s.pictures[0].shape for samples, _ in drawn for s in samples} == {(1, 60, 80, 3)}
    broken = [reason for _, skipped in drawn for _, reason in skipped]
    assert len(broken) == 3 and sum("cc12m-0002.tar" in reason for reason in broken) == 1
    again = sources(work, "data: [{kind: webdataset, path: 'cc12m-*.tar', name: cc12m}]")
    later = [again(n) for n in (5, 7)]  # as another process would draw them
    for (samples, skipped), (others, broken_rows) in zip(later, (drawn[5], drawn[7]), strict=True):
        assert [s.conversations for s in samples] == [s.conversations for s in others] and skipped == broken_rows
    deep = sources(work, "data: [{kind: webdataset, path: 'cc12m-000[01].tar', caption: json.vlm_caption}]")
    assert {s.conversations[0][0][1][:4] for n in range(8) for s in deep(n)[0]} == {"long"}


def test_llava_files(work: Path) -> None:
    """LLaVA-OneVision's and LLaVA-Video's rows: several turns, several conversations, videos, Parquet with images."""
    names = images(work / "media", 2, (60, 80))
    make_video(work / "media" / "a.mp4", frames=12)
    human, gpt = (lambda text: {"from": "human", "value": text}), (lambda text: {"from": "gpt", "value": text})
    rows = [
        {
            "id": "1",
            "image": names[0],
            "conversations": [human("<image>\nWhat?"), gpt("One."), human("Then?"), gpt("Two.")],
        },
        {"id": "2", "image": names, "conversations": [human("<image><image> Which?"), gpt("The first.")]},
        {"id": "3", "video": "a.mp4", "conversations": [human("<image>\nWhat happens?"), gpt("A run.")]},
        {"id": "4", "video": "a.mp4", "all_conversations": [[human("Who?"), gpt("A.")], [human("Where?"), gpt("B.")]]},
        {"id": "5", "video": "gone.mp4", "conversations": [human("What?"), gpt("No.")]},
        {"id": "6", "image": names[0], "conversations": [gpt("I begin."), human("No.")]},
        {"id": "7", "conversations": [human("Hello"), gpt("Hello.")]},
    ]
    (work / "ov.json").write_text(json.dumps(rows))
    (work / "ov.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("ov.json", "ov.jsonl"):
        examples = sources(work, f"data: [{{kind: llava, path: {name}, media: media, pack: 1}}]")
        assert examples.one_pass == 7
        drawn = [examples(n) for n in range(7)]
        found = {s.conversations[0][0][1]: s for samples, _ in drawn for s in samples}
        assert set(found) == {"One.", "The first.", "A run.", "A."}
        assert found["One."].conversations == [[("<image>\nWhat?", "One."), ("Then?", "Two.")]]
        assert [p.shape for p in found["The first."].pictures] == [(1, 60, 80, 3)] * 2
        assert found["A run."].pictures[0].shape[0] == 4 and len(found["A."].conversations) == 2
        reasons = " ".join(reason for _, skipped in drawn for _, reason in skipped)
        assert all(part in reasons for part in ("gone.mp4", "gpt, human", "neither an image nor a video"))
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    kept = [{"image": str(work / "media" / names[0]), "conversations": rows[0]["conversations"]}]
    features = Features(
        {"image": ImageFeature(), "conversations": [{"from": Value("string"), "value": Value("string")}]}
    )
    Dataset.from_list(kept, features=features).to_parquet(work / "ov.parquet")
    (samples, skipped) = sources(work, "data: [{kind: llava, path: ov.parquet}]")(0)
    assert not skipped and samples[0].conversations == found["One."].conversations
    assert np.array_equal(samples[0].pictures[0], found["One."].pictures[0])


def test_data_sets_are_drawn_by_weight_or_the_root_of_their_length(work: Path) -> None:
    def shares(text: str) -> float:
        examples = sources(work, text)
        drawn = [examples(n)[0][0].conversations[0][0][0] for n in range(1200)]
        return sum(prompt == "few" for prompt in drawn) / len(drawn)

    (work / "two.py").write_text(
        "import numpy as np\ndef make(number, prompt): return np.zeros((1, 28, 28, 3), np.uint8), prompt, 'x'\n"
    )
    entry = "{{kind: generated, function: 'two.py:make', arguments: {{prompt: {}}}, {}}}"
    text = "data:\n  - " + entry.format("few", "rows: 100") + "\n  - " + entry.format("many", "rows: 900")
    assert shares(text) == pytest.approx(0.25, abs=0.04)
    text = text.replace("rows: 100", "weight: 3").replace("rows: 900", "weight: 1")
    assert shares(text) == pytest.approx(0.75, abs=0.04)


def test_the_data_sets_row_comes_in_its_turn_whoever_draws_it(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Example by number: the rows of a data set are counted over the blocks in which data sets are drawn."""
    (work / "two.py").write_text(
        "import numpy as np\n"
        "def make(number, prompt): return np.zeros((1, 28, 28, 3), np.uint8), prompt, str(number & 0xffff)\n"
    )
    entry = "{{kind: generated, function: 'two.py:make', arguments: {{prompt: {}}}, weight: {}}}"
    text = "data:\n  - " + entry.format("a", 1) + "\n  - " + entry.format("b", 2)
    monkeypatch.setattr(training_data, "_BLOCK", 16)
    first = sources(work, text)
    drawn = [first(n)[0][0].conversations[0][0] for n in range(100)]
    for name in "ab":
        numbers = [int(answer) for prompt, answer in drawn if prompt == name]
        assert numbers == list(range(len(numbers)))
    second = sources(work, text)
    assert [second(n)[0][0].conversations[0][0] for n in (99, 3, 50)] == [drawn[99], drawn[3], drawn[50]]


def test_processes_and_workers_share_the_examples(work: Path, qwen: Path) -> None:
    """Each example once, in the step that it belongs to."""
    processor = starts.read_processor(str(qwen))
    seen: list[int] = []

    def examples(number: int) -> tuple[list[Sample], list[tuple[str, str]]]:
        seen.append(number)
        return [Sample([np.zeros((1, 28, 28, 3), np.uint8)], [[("?", "x")]])], []

    for rank in range(2):
        batches = MicroBatches(examples, processor, rank=rank, world=2, size=3, first=4)
        for number in (4, 5):  # two micro-batches of a step
            batches.batch(number)
    assert sorted(seen) == list(range(24, 36))


def test_sizes_are_the_references() -> None:
    """120,000 patches of two frames each, by the rule of the reference's loader."""
    for height, width in ((360, 640), (720, 1280), (1080, 1920)):
        shown = VIDEO.size(height, width)
        budget = 120_000 // ((shown[0] // 14) * (shown[1] // 14) // 2)
        assert abs(len(VIDEO.indices(100_000, 30.0, height, width)) - budget) <= 1


# ----------------------------------------------------------------------------------------------------------- the stages


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_trains_what_it_says_and_nothing_else(
    cli: Callable[..., tuple[int, str, str]], work: Path, qwen: Path, stage: int
) -> None:
    captions(work)
    more = ("--steps", 2, "--batch-size", 1, "--learning-rate", 0.01)
    status, out, err = cli(*command(work, "out", *more, start=str(qwen), stage=stage))
    assert status == 0, err
    assert "Trained: " in out
    before = starts.load(str(qwen), VambaForTraining, seed=42)[0].state_dict()
    after = weights(work / "out")
    assert set(before) == set(after)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    chosen = {
        1: lambda name: any(part in name for part in ("cross_attn", "vision_mixer", "alpha")),
        2: lambda name: name.startswith(("model.", "visual.merger.")),
    }[stage]
    unused = ("model.layers.1.vision_mixer.",)
    # Attention does not see what is added to all keys.
    expected = {name for name in after if chosen(name) and not name.startswith(unused) and "k_proj.bias" not in name}
    assert expected <= changed <= expected | {name for name in after if chosen(name) and "k_proj.bias" in name}
    frozen = set(after) - {name for name in after if chosen(name)}
    assert frozen and any(name.startswith("visual.blocks") for name in frozen) and "lm_head.weight" in frozen


def test_the_distillation_term(cli: Callable[..., tuple[int, str, str]], work: Path, qwen: Path) -> None:
    """The first step's loss is the answers' plus the weighted divergence from the Qwen2-VL that it began with."""
    captions(work, 2)
    more = ("--steps", 1, "--batch-size", 1, "--distill", 0.5)
    status, _, err = cli(*command(work, "out", *more, start=str(qwen), stage=1))
    assert status == 0, err
    (entry,) = log_of(work / "out")
    assert entry["distill_loss"] > 0
    assert entry["loss"] == pytest.approx(entry["answer_loss"] + 0.5 * entry["distill_loss"], rel=1e-5)
    model, processor, _ = starts.load(str(qwen), VambaForTraining, seed=42)
    sizes = PictureSizes(None, VIDEO)
    examples = Examples(read_sources(work / "data.yaml", sizes, seed=42, pack=8), seed=42)
    batch = MicroBatches(examples, processor, rank=0, world=1, size=1, first=0).batch(0)
    teacher = Teacher(starts.load_qwen2_vl(str(qwen)), processor.settings)
    wanted, count = 0.0, 0
    for group in batch.groups:
        logits, answers = model.answer_logits(group)
        top = teacher.top_tokens(group)
        p, q = (x.softmax(-1) for x in (top.logits, logits.gather(1, top.tokens)))
        wanted += float((p * (p / q).log()).sum())
        count += len(answers)
    assert entry["distill_loss"] == pytest.approx(wanted / count, rel=1e-4)
    assert json.loads((work / "out/config.json").read_text())["distill_coeff"] == 0.5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_learns_and_the_adapter_answers(cli: Callable[..., tuple[int, str, str]], work: Path, dtype: str) -> None:
    """From nothing, four videos that one frame pair tells apart; the saved checkpoint answers each."""
    more = ("--steps", 100, "--batch-size", 4, "--micro-batch", 4, "--learning-rate", 4e-3, "--no-recompute")
    status, _, err = cli(*command(work, "out", *more, "--dtype", dtype))
    assert status == 0, err
    assert {str(weight.dtype) for weight in weights(work / "out").values()} == {f"torch.{dtype}"}
    losses = [entry["loss"] for entry in log_of(work / "out")]
    assert losses[-1] < 0.05 < losses[0]
    adapter = VambaAdapter(pretrained=str(work / "out"), device="cpu")
    module = training_data.registry.module_at(work / "flashes.py")
    for number in range(4):
        frames, prompt, answer = module.video(number)
        clip = Clip(frames, np.arange(6) / 1.0, np.arange(6), 1.0, 6.0)
        (given,) = adapter.generate(adapter.encode(clip), [prompt], GenerationSettings(max_new_tokens=12))
        assert (given.text, given.finish_reason) == (answer, "stop")


# -------------------------------------------------------------------------------------- going on, and several processes


def start(
    work: Path, *arguments: str, launcher: tuple[str, ...] = (), program: Path = ROOT / "run_eval.py"
) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, *launcher, str(program), *arguments]
    return subprocess.Popen(words, env=environment, cwd=work, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def same_weights(one: Path, other: Path, tolerance: float = 0.0) -> None:
    first, second = weights(one), weights(other)
    assert set(first) == set(second)
    for name in first:
        if tolerance and name.endswith("cross_attn.k_proj.bias"):
            continue  # moves all scores of a softmax alike: its gradient is rounding, AdamW's step any sign
        torch.testing.assert_close(first[name], second[name], atol=tolerance, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


def test_going_on_after_a_kill(cli: Callable[..., tuple[int, str, str]], work: Path) -> None:
    """Killed after its first checkpoint, it ends with the very weights of a training that was not."""
    (work / "data.yaml").write_text("data: [{kind: generated, function: 'flashes.py:broken', name: flashes}]")
    more = ("--steps", 11, "--batch-size", 4, "--micro-batch", 2, "--learning-rate", 1e-3, "--save-every", 5)
    assert cli(*command(work, "whole", *more))[0] == 0
    (work / "hold").touch()
    process = start(work, *command(work, "killed", *more))
    while process.poll() is None and not (work / "killed/checkpoint-5/trainer_state.json").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (work / "killed/model.safetensors").exists()
    status, _, err = cli(*command(work, "killed", *more))
    assert status == 2 and "resume goes on with it" in err
    status, _, err = cli(*command(work, "killed", *more, "--learning-rate", 1e-2, "--resume"))
    assert status == 2 and "was begun with learning_rate 0.001, not 0.01" in err
    listed = (work / "data.yaml").read_text()
    (work / "data.yaml").write_text(listed.replace("broken", "video"))
    status, _, err = cli(*command(work, "killed", *more, "--resume"))
    assert status == 2 and "was begun with data sets" in err
    (work / "data.yaml").write_text(listed)
    (work / "killed/checkpoint-9").mkdir()  # another kill, while a checkpoint is written
    (work / "killed/checkpoint-9/model.safetensors").write_bytes(b"half of it")
    assert cli(*command(work, "killed", *more, "--resume"))[0] == 0
    same_weights(work / "whole", work / "killed")
    (work / "killed/model.safetensors").unlink()  # and one before the model was written
    assert cli(*command(work, "killed", *more, "--resume"))[0] == 0
    same_weights(work / "whole", work / "killed")
    assert log_of(work / "killed")[-1]["skipped_rows"] == log_of(work / "whole")[-1]["skipped_rows"] == 15


SHARDED = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from vamba_eval.model_adapters import _transformers
from vamba_eval.model_adapters.vamba import modeling, starts, training
from vamba_eval.model_adapters.vamba.training_model import Group, VambaForTraining

modeling.SEGMENT_TOKENS = 12  # several segments
dist.init_process_group("gloo")
whole, sharded = (starts.load(sys.argv[1], VambaForTraining, 1)[0] for _ in range(2))
for model in (whole, sharded):
    training.freeze(model, training.STAGES[2].trainable)
    _transformers.checkpoint_activations(model.train())
mesh = init_device_mesh("cpu", (2,))
for module in sharded.modules():
    if type(module).__name__ in VambaForTraining._no_split_modules:
        fully_shard(module, mesh=mesh)
fully_shard(sharded, mesh=mesh)
training.gather_for_videos(sharded)
torch.manual_seed(0)
frames = torch.randint(0, 255, (2, 6, 56, 84, 3), dtype=torch.uint8)
ids = torch.randint(0, 250, (2, 9))
group = Group([frames], ids, torch.where(torch.arange(9) < 5, -100, ids))
for model in (whole, sharded):
    model([group])[0].backward()
compared = 0
for (name, one), other in zip(whole.named_parameters(), sharded.parameters(), strict=True):
    assert (one.grad is None) == (other.grad is None), name
    if one.grad is not None:
        torch.testing.assert_close(other.grad.full_tensor(), one.grad, atol=1e-5, rtol=1e-4)
        compared += 1
assert compared > 30
dist.destroy_process_group()
print("the same gradients")
"""


def test_gradients_of_sharded_weights(work: Path) -> None:
    """FSDP over two processes: each holds half of every weight."""
    (work / "sharded.py").write_text(SHARDED)
    launcher = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port()))
    process = start(work, str(work / "small.json"), launcher=launcher, program=work / "sharded.py")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.count("the same gradients") == 2


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_two_processes_are_one_with_accumulation(cli: Callable[..., tuple[int, str, str]], work: Path) -> None:
    """Also where a process has nothing that can be read, as one row in three; and with others that read for it."""
    (work / "data.yaml").write_text("data: [{kind: generated, function: 'flashes.py:broken', name: flashes}]")
    more = ("--steps", 4, "--batch-size", 4, "--learning-rate", 1e-3)
    status, _, err = cli(*command(work, "one", *more))
    assert status == 0, err
    assert "skipped a row of flashes: OSError: a bad sector" in err
    launcher = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port()))
    process = start(work, *command(work, "two", *more, "--workers", 2), launcher=launcher)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert [json.loads((work / name / "training.json").read_text())["processes"] for name in ("one", "two")] == [1, 2]
    same_weights(work / "one", work / "two", tolerance=2e-6)
    for ours, theirs in zip(log_of(work / "one"), log_of(work / "two"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert ours["skipped_rows"] == theirs["skipped_rows"]


# -------------------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("data: []", "needs a list `data:`"),
        ("data: [{kind: parquet}]", "there are llava, webdataset, generated"),
        ("data: [{kind: llava, pth: x}]", "unknown key 'pth'; a llava entry has"),
        ("data: [{kind: llava, path: x.json}]", "no file at"),
        ("data: [{kind: generated, function: flashes}]", "write module:function, or file.py:function"),
        ("data: [{kind: generated, function: 'flashes.py:nothing'}]", "has no function nothing"),
        ("data: [{kind: generated, function: 'flashes.py:never'}]", "none of the first 50 rows of .* can be read"),
        ("data: [{kind: generated, function: 'flashes.py:video'}, {kind: generated, function: 'x:y'}]", "imported"),
        (
            "data: [{kind: generated, function: 'flashes.py:video'}, {kind: generated, function: 'flashes.py:video'}]",
            "give it a weight, or the number of its rows",
        ),
    ],
)
def test_data_that_cannot_be_used(
    cli: Callable[..., tuple[int, str, str]], work: Path, yaml: str, message: str
) -> None:
    (work / "data.yaml").write_text(yaml)
    for workers in (0, 1) if "never" in yaml else (0,):
        status, _, err = cli(*command(work, "out", "--steps", 60, "--batch-size", 1, "--workers", workers))
        shutil.rmtree(work / "out", ignore_errors=True)
        assert status == 2 and err.count("error:") == 1
    assert re.search(message, err), err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "the data's length is not known: give steps"),
        (("--steps", "0"), "steps must be at least 1"),
        (("--steps", "1", "--batch-size", "3", "--micro-batch", "2"), "must be a multiple of 2"),
        (("--steps", "1", "--schedule", "steep"), "use one of linear, cosine"),
        (("--steps", "1", "--trainable", "nothing_such"), "no weight has 'nothing_such' in its name"),
        (("--steps", "1", "--distill", "1"), "distill needs a teacher"),
        (("--steps", "1", "--teacher", "x"), "a teacher without distill has no effect"),
        (("--steps", "1", "--resume"), "no checkpoint in .* to go on from"),
        (("--steps", "1", "--report-to", "mlflow"), "use none, tensorboard, wandb"),
    ],
)
def test_options_that_cannot_be_used(
    cli: Callable[..., tuple[int, str, str]], work: Path, more: tuple, message: str
) -> None:
    status, _, err = cli(*command(work, "out", *more))
    assert status == 2
    assert re.search(message, err), err


def test_what_it_cannot_begin_with(cli: Callable[..., tuple[int, str, str]], work: Path, qwen: Path) -> None:
    for start, message in (
        ("gone", "no checkpoint folder at"),
        ("gone.json", "no configuration that can be read"),
        ("data.json", "it has no vision_mamba_mixer_config"),
    ):
        (work / "data.json").write_text("{}")
        status, _, err = cli(*command(work, "out", "--steps", 1, start=start))
        assert status == 2 and message in err, err
    status, _, err = cli(*command(work, "out", "--steps", 1, "--stage", 3))
    assert status == 2 and "the stages 1, 2, not 3" in err
    with pytest.raises(UserError, match="cannot be trained: its adapter has no recipe"):
        from vamba_eval.model_adapters.random import RandomAdapter

        RandomAdapter.train(None)


@pytest.mark.parametrize("published", [True, False], ids=["as published", "as transformers writes it"])
def test_a_checkpoints_code_is_not_run(
    published: bool,
    cli: Callable[..., tuple[int, str, str]],
    work: Path,
    qwen: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither a checkpoint's nor that of a tokenizer beside a configuration, where somebody would say yes."""
    folder = Path(shutil.copytree(qwen, work / "shipped"))
    (folder / "small.json").write_text(json.dumps(SMALL))
    (folder / "config.json").write_text(json.dumps({"model_type": "vamba"}))  # of qwen2_vl a tokenizer is known
    (folder / "shipped.py").write_text(f"open({str(work / 'it_ran')!r}, 'w')\nclass Shipped: pass\n")
    theirs = json.loads((folder / "tokenizer_config.json").read_text())
    theirs |= {"auto_map": {"AutoTokenizer": [None, "shipped.Shipped"]}, "tokenizer_class": "Shipped"}
    (folder / "tokenizer_config.json").write_text(json.dumps(theirs))
    if published:
        written = json.loads((folder / "processor_config.json").read_text())["image_processor"]
        (folder / "processor_config.json").unlink()
        (folder / "preprocessor_config.json").write_text(json.dumps(written))
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "yes")
    for start in ("shipped", "shipped/small.json"):
        status, _, err = cli(*command(work, "out", "--steps", 1, start=start))
        assert status == 2 and "contains custom code" in err, err
    assert not asked and not (work / "it_ran").exists()


def test_a_loss_that_is_no_number_ends_it(cli: Callable[..., tuple[int, str, str]], work: Path) -> None:
    status, _, err = cli(*command(work, "out", "--steps", 30, "--batch-size", 1, "--learning-rate", 1e30))
    assert status == 2 and "begin again with a lower learning rate" in err
    assert not (work / "out/model.safetensors").exists()


def test_freezing_everything_but_a_part(qwen: Path) -> None:
    model = starts.load(str(qwen), VambaForTraining, seed=1)[0]
    freeze(model, ("all",))  # DDP would wait for a gradient of what has none
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    assert frozen and all(name.startswith("model.layers.1.vision_mixer.") for name in frozen)
    freeze(model, ("alpha",))
    assert {name for name, w in model.named_parameters() if w.requires_grad} == {
        f"model.layers.{n}.alpha" for n in (0, 1)
    }


# ------------------------------------------------------------------------------------------------- the page about it


def test_the_page_has_the_stages_numbers_and_known_keys() -> None:
    page = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")
    ]
    shown = {row[0]: row[1:3] for row in rows}
    for name, of in {
        "trained (`--trainable`)": lambda stage: f"`{','.join(stage.trainable)}`",
        "examples a step (`--batch-size`)": lambda stage: str(stage.batch_size),
        "learning rate (`--learning-rate`)": lambda stage: str(stage.learning_rate),
        "warmup (`--warmup`)": lambda stage: str(stage.warmup),
        "schedule (`--schedule`)": lambda stage: stage.schedule,
        "weight decay (`--weight-decay`)": lambda stage: str(stage.weight_decay),
        "checkpoint every (`--save-every`)": lambda stage: str(stage.save_every),
        "checkpoints kept (`--keep`)": lambda stage: str(stage.keep),
        "images of an example (`pack`)": lambda stage: str(stage.pack),
        "edges of images": lambda stage: "{} to {}".format(*stage.image_edges) if stage.image_edges else "as they are",
    }.items():
        assert shown[name] == [of(STAGES[1]), of(STAGES[2])], name
    assert shown["edges of videos"][1] == f"{VIDEO.shortest_edge} to {VIDEO.longest_edge}"
    example = page[page.index("    data:\n") :].partition("\n\n")[0]
    entries = yaml.safe_load(example)["data"]
    assert {entry["kind"] for entry in entries} == set(training_data.KINDS)
    for entry in entries:
        assert set(entry) <= training_data._COMMON | training_data._KEYS[entry["kind"]]


def test_stopped_it_says_how_to_go_on(
    cli: Callable[..., tuple[int, str, str]], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr("vamba_eval.model_adapters.vamba.training.train", stopped)
    status, _, err = cli(*command(work, "stopped"))
    assert status == 130 and "--resume goes on from there" in err

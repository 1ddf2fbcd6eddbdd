"""The whole model: the reference's numbers, and an independent slow forward pass for every switch.

The slow pass below is written from the model's equations alone, in float64 and with plain loops, and takes
weights by their released names. It shares no code with the package.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRMSNorm
from transformers.models.qwen2_vl.modeling_qwen2_vl import VisionAttention as Qwen2VLVisionAttention
from vamba_eval.model_adapters.vamba import VambaConfig, VambaForConditionalGeneration, VideoMemory, modeling, vision

pytestmark = pytest.mark.usefixtures("one_thread")

GOLDENS = Path(__file__).parent / "goldens"
GOLDEN_NAMES = ["released_recipe", "image_input"]


# ---------------------------------------------------------------------------------------------------------
# The slow forward pass


def rms(x, weight, eps):
    return x / torch.sqrt((x**2).mean(-1, keepdim=True) + eps) * weight


def layer_norm(x, weight, bias, eps):
    centered = x - x.mean(-1, keepdim=True)
    return centered / torch.sqrt((centered**2).mean(-1, keepdim=True) + eps) * weight + bias


def silu(x):
    return x * torch.sigmoid(x)


def turn(x, angles):
    """Rotate the pairs (i, i + half) of the last axis by angles (..., half)."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)


def softmax_attention(q, k, v, allowed=None):
    scores = q @ k.T / math.sqrt(q.shape[-1])
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    return torch.softmax(scores, -1) @ v


def slow_vision(w, config, pixels, grids):
    """(video tokens, hidden) and the (t, h, w) of each token."""
    vision = config["vision_config"]
    heads, merge = vision["num_heads"], vision["spatial_merge_size"]
    size = vision["embed_dim"] // heads
    tokens, positions, done = [], [], 0
    for t, h, wd in grids:
        places = []  # of a frame's patches, those of a merged token together
        for by in range(h // merge):
            for bx in range(wd // merge):
                places += [(by * merge + y, bx * merge + x) for y in range(merge) for x in range(merge)]
        frequencies = torch.tensor([10000 ** (-2 * i / (size // 2)) for i in range(size // 4)]).double()
        angles = torch.stack([torch.cat([y * frequencies, x * frequencies]) for y, x in places])
        for frame in range(t):
            x = pixels[done : done + h * wd] @ w["visual.patch_embed.proj.weight"].flatten(1).T
            done += h * wd
            for i in range(vision["depth"]):
                p = f"visual.blocks.{i}."
                n = layer_norm(x, w[p + "norm1.weight"], w[p + "norm1.bias"], 1e-6)
                q, k, v = (n @ w[p + "attn.qkv.weight"].T + w[p + "attn.qkv.bias"]).chunk(3, -1)
                out = []
                for head in range(heads):
                    cut = slice(head * size, (head + 1) * size)
                    out.append(softmax_attention(turn(q[:, cut], angles), turn(k[:, cut], angles), v[:, cut]))
                x = x + torch.cat(out, -1) @ w[p + "attn.proj.weight"].T + w[p + "attn.proj.bias"]
                n = layer_norm(x, w[p + "norm2.weight"], w[p + "norm2.bias"], 1e-6)
                n = n @ w[p + "mlp.fc1.weight"].T + w[p + "mlp.fc1.bias"]
                x = x + (n * torch.sigmoid(1.702 * n)) @ w[p + "mlp.fc2.weight"].T + w[p + "mlp.fc2.bias"]
            x = layer_norm(x, w["visual.merger.ln_q.weight"], w["visual.merger.ln_q.bias"], 1e-6)
            x = x.reshape(-1, merge**2 * x.shape[-1]) @ w["visual.merger.mlp.0.weight"].T
            x = torch.nn.functional.gelu(x + w["visual.merger.mlp.0.bias"])
            tokens.append(x @ w["visual.merger.mlp.2.weight"].T + w["visual.merger.mlp.2.bias"])
            positions += [(frame, y, x) for y in range(h // merge) for x in range(wd // merge)]
    return torch.cat(tokens), torch.tensor(positions).double()


def slow_mixer(w, p, mixer, v):
    """The mixer's output for v (tokens, hidden), one token at a time."""
    inner = mixer.get("expand", 2) * v.shape[1]
    width = mixer.get("d_ssm") or inner
    groups, d_state, headdim = mixer.get("ngroups", 1), mixer["d_state"], mixer["headdim"]
    heads, shared, d_conv = width // headdim, groups * d_state, mixer.get("d_conv", 4)
    bypass = inner - width
    low, high = mixer.get("dt_limit", (0.0, math.inf))
    d_skip = w[p + "D"].reshape(heads, -1).expand(heads, headdim)
    projected = v @ w[p + "in_proj.weight"].T + w.get(p + "in_proj.bias", 0)
    z0, x0, z, xbc, dt = projected.split([bypass, bypass, width, width + 2 * shared, heads], -1)
    decay = -torch.exp(w[p + "A_log"])
    state = torch.zeros(heads, headdim, d_state).double()
    rows = []
    for t in range(len(v)):
        conv = torch.zeros(width + 2 * shared).double() + w.get(p + "conv1d.bias", 0)
        for tap in range(d_conv):
            if t - (d_conv - 1) + tap >= 0:
                conv = conv + w[p + "conv1d.weight"][:, 0, tap] * xbc[t - (d_conv - 1) + tap]
        x, b, c = silu(conv).split([width, shared, shared])
        row = []
        for h in range(heads):
            g = h // (heads // groups)
            step = torch.log1p(torch.exp(dt[t, h] + w[p + "dt_bias"][h])).clamp(low, high)
            x_h, b_h = x[h * headdim : (h + 1) * headdim], b[g * d_state : (g + 1) * d_state]
            state[h] = torch.exp(step * decay[h]) * state[h] + step * x_h[:, None] * b_h[None]
            row.append(state[h] @ c[g * d_state : (g + 1) * d_state] + d_skip[h] * x_h)
        y, gate = torch.cat(row), silu(z[t])
        if not mixer.get("rmsnorm", True):
            y = y * gate
        else:
            before = mixer.get("norm_before_gate", False)
            y = y if before else y * gate
            parts = [part / torch.sqrt((part**2).mean() + 1e-5) for part in y.chunk(groups)]
            y = torch.cat(parts) * w[p + "norm.weight"]
            y = y * gate if before else y
        rows.append(torch.cat([silu(z0[t]) * x0[t], y]))
    return torch.stack(rows) @ w[p + "out_proj.weight"].T + w.get(p + "out_proj.bias", 0)


def slow_logits(weights, config, ids, pixels=None, grids=()):
    """Logits (text tokens, vocabulary) of one prompt."""
    w = {name: tensor.double() for name, tensor in weights.items()}
    mixer = config["vision_mamba_mixer_config"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    size, eps = config["hidden_size"] // heads, config["rms_norm_eps"]
    frequencies = torch.tensor([config["rope_theta"] ** (-2 * i / size) for i in range(size // 2)]).double()
    axis = [a for a, n in enumerate(config["rope_scaling"]["mrope_section"]) for _ in range(n)]
    text_angles = torch.arange(len(ids)).double()[:, None] * frequencies
    h = w["model.embed_tokens.weight"][ids]
    v = None
    if pixels is not None:
        v, places = slow_vision(w, config, pixels.double(), grids)
        video_angles = places[:, axis] * frequencies

    def attention(p, queries, keys, query_angles, key_angles, causal):
        q = queries @ w[p + "q_proj.weight"].T + w[p + "q_proj.bias"]
        k = keys @ w[p + "k_proj.weight"].T + w[p + "k_proj.bias"]
        values = keys @ w[p + "v_proj.weight"].T + w[p + "v_proj.bias"]
        allowed = torch.ones(len(queries), len(keys), dtype=torch.bool)
        out = []
        for head in range(heads):
            kv = slice(head // (heads // kv_heads) * size, (head // (heads // kv_heads) + 1) * size)
            q_h, k_h = q[:, head * size : (head + 1) * size], k[:, kv]
            if query_angles is not None:
                q_h, k_h = turn(q_h, query_angles), turn(k_h, key_angles)
            out.append(softmax_attention(q_h, k_h, values[:, kv], allowed.tril() if causal else allowed))
        return torch.cat(out, -1) @ w[p + "o_proj.weight"].T

    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        a = rms(h, w[p + "input_layernorm.weight"], eps)
        s = attention(p + "self_attn.", a, a, text_angles, text_angles, causal=True)
        c = torch.zeros_like(s)
        if v is not None:
            if config["cross_attn_use_layer_norm"]:
                v = rms(v, w[p + "input_layernorm.weight"], eps)
            rotated = config["cross_attn_use_position_embeddings"]
            angles = (text_angles, video_angles) if rotated else (None, None)
            c = attention(p + "cross_attn.", a, v, *angles, causal=False)
            if mixer.get("enable"):
                m = p + "vision_mixer."
                if mixer.get("norm_type") == "layernorm":
                    n = layer_norm(v, w[m + "norm.weight"], w[m + "norm.bias"], 1e-5)
                else:
                    n = rms(v, w[m + "norm.weight"], 1e-5)
                v = v + slow_mixer(w, m + "mixer.", mixer, n)
        if config["use_alpha_balancing"]:
            alpha = w[p + "alpha"].clamp(0, 1)
            s, c = alpha * s, (1 - alpha) * c
        h = h + s + c
        n = rms(h, w[p + "post_attention_layernorm.weight"], eps)
        gate, up = n @ w[p + "mlp.gate_proj.weight"].T, n @ w[p + "mlp.up_proj.weight"].T
        h = h + (silu(gate) * up) @ w[p + "mlp.down_proj.weight"].T
    return rms(h, w["model.norm.weight"], eps) @ w["lm_head.weight"].T


# ---------------------------------------------------------------------------------------------------------
# Models and inputs


def golden_config(**changes):
    config = json.loads((GOLDENS / "released_recipe" / "config.json").read_text())
    mixer = config["vision_mamba_mixer_config"] | changes.pop("mixer", {})
    return config | changes | {"vision_mamba_mixer_config": mixer}


def random_model(config, seed=0):
    """Every weight random, also those that start as ones or zeros; alphas on both sides of [0, 1]."""
    torch.manual_seed(seed)
    model = VambaForConditionalGeneration(VambaConfig.from_dict(dict(config))).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("A_log", "dt_bias")):
                continue
            if name.endswith("alpha"):
                weight.copy_(torch.empty_like(weight).uniform_(-0.2, 1.2))
            else:
                center = 1.0 if weight.ndim == 1 and "norm" in name else 0.0
                weight.copy_(torch.randn_like(weight) * 0.15 + center)
    return model


def random_pixels(*grids, seed=0):
    patches = sum(t * h * w for t, h, w in grids)
    return torch.randn(patches, 1176, generator=torch.Generator().manual_seed(seed)), torch.tensor(grids)


@pytest.fixture(scope="module")
def golden():
    folder = GOLDENS / "released_recipe"
    model = VambaForConditionalGeneration.from_pretrained(folder)
    return model, load_file(folder / "inputs.safetensors"), load_file(folder / "expected.safetensors")


@pytest.fixture(scope="module")
def memory(golden):
    model, inputs, _ = golden
    return model.encode_video(inputs["pixel_values_videos"], inputs["video_grid_thw"])


def greedy(model, prompts, new_tokens=8, **kwargs):
    """Continuations of prompts of unequal length in one left-padded batch."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[294] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    out = model.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=new_tokens, eos_token_id=299,
        pad_token_id=294, **kwargs,
    )  # fmt: skip
    return out[:, longest:].tolist()


# ---------------------------------------------------------------------------------------------------------
# The reference's numbers


@pytest.mark.parametrize("name", GOLDEN_NAMES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_goldens(name, attention):
    folder = GOLDENS / name
    model = VambaForConditionalGeneration.from_pretrained(folder, attn_implementation=attention)
    inputs, wanted = load_file(folder / "inputs.safetensors"), load_file(folder / "expected.safetensors")
    with torch.no_grad():
        out = model(**inputs)
    torch.testing.assert_close(out.logits, wanted["logits"], atol=1e-4, rtol=0)
    new = wanted["generated_ids"].shape[1] - inputs["input_ids"].shape[1]
    generated = model.generate(**inputs, do_sample=False, max_new_tokens=new, eos_token_id=299, pad_token_id=294)
    assert torch.equal(generated, wanted["generated_ids"])


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_vision_tower(name):
    """The batched vision path against the reference's numbers and against transformers' own forward."""
    folder = GOLDENS / name
    model = VambaForConditionalGeneration.from_pretrained(folder)
    inputs, wanted = load_file(folder / "inputs.safetensors"), load_file(folder / "expected.safetensors")
    pixels = inputs.get("pixel_values_videos", inputs.get("pixel_values"))
    grid = inputs.get("video_grid_thw", inputs.get("image_grid_thw"))
    segment = vision.Segment(pixels, *grid[0].tolist(), first=0)
    with torch.no_grad():
        ours = vision.encode_frames(model.visual, segment)[0]
        plain = model.visual(pixels, grid_thw=grid).pooler_output
    torch.testing.assert_close(ours, wanted["visual_embeds"], atol=1e-4, rtol=0)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=0)


# ---------------------------------------------------------------------------------------------------------
# Every switch, against the slow forward pass

VIDEO = [(4, 4, 6)]
SWITCHES = {
    "released": ({}, VIDEO),
    "no alpha": ({"use_alpha_balancing": False}, VIDEO),
    "positions": ({"cross_attn_use_position_embeddings": True}, VIDEO),
    "layer norm": ({"cross_attn_use_layer_norm": True}, VIDEO),
    "everything": (
        {
            "use_alpha_balancing": False,
            "cross_attn_use_position_embeddings": True,
            "cross_attn_use_layer_norm": True,
            "mixer": {"ngroups": 2, "norm_before_gate": True},
        },
        VIDEO,
    ),
    "mixer off": ({"mixer": {"enable": False}}, VIDEO),
    "mixer off, layer norm": ({"mixer": {"enable": False}, "cross_attn_use_layer_norm": True}, VIDEO),
    "two groups": ({"mixer": {"ngroups": 2}}, VIDEO),
    "one frame pair": ({}, [(1, 4, 6)]),
    "longer than a chunk": ({"mixer": {"chunk_size": 7}}, [(5, 4, 4)]),
    "two videos": ({"cross_attn_use_position_embeddings": True}, [(2, 4, 6), (3, 6, 4)]),
    "norm before gate": ({"mixer": {"norm_before_gate": True}}, VIDEO),
    "gate without norm": ({"mixer": {"rmsnorm": False}}, VIDEO),
    "biases": ({"mixer": {"bias": True, "conv_bias": False}}, VIDEO),
    "dt limits": ({"mixer": {"dt_limit": [0.01, 0.05]}}, VIDEO),
    "other sizes": ({"mixer": {"d_conv": 3, "expand": 3, "headdim": 32, "d_state": 8}}, VIDEO),
    "D by channel, layer norm": ({"mixer": {"D_has_hdim": True, "norm_type": "layernorm"}}, VIDEO),
    "scan on some channels": ({"mixer": {"d_ssm": 96}}, VIDEO),
}


@pytest.mark.parametrize("name", SWITCHES)
def test_switches(name):
    changes, grids = SWITCHES[name]
    config = golden_config(**changes)
    model = random_model(config)
    pixels, grid = random_pixels(*grids)
    ids = torch.randint(0, 290, (9,), generator=torch.Generator().manual_seed(1))
    weights = model.state_dict()
    wanted = slow_logits(weights, config, ids, pixels, grids)
    with torch.no_grad():
        out = model(input_ids=ids[None], pixel_values_videos=pixels, video_grid_thw=grid)
        in_pieces = model.encode_video(pixels, grid, segment_frames=1)
        again = model(input_ids=ids[None], video_memory=in_pieces)
    torch.testing.assert_close(out.logits[0].double(), wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(again.logits, out.logits, atol=1e-4, rtol=0)
    # and token by token, from the caches
    slow_ids = ids.tolist()
    for _ in range(3):
        slow_ids.append(int(slow_logits(weights, config, torch.tensor(slow_ids), pixels, grids)[-1].argmax()))
    assert greedy(model, [ids.tolist()], 3, video_memory=in_pieces) == [slow_ids[9:]]


def test_images_and_videos_follow_each_other():
    config = golden_config(cross_attn_use_position_embeddings=True)
    model = random_model(config)
    images, image_grid = random_pixels((1, 4, 4), (1, 2, 6))
    video, video_grid = random_pixels((3, 4, 4), seed=1)
    ids = torch.arange(7)
    wanted = slow_logits(model.state_dict(), config, ids, torch.cat([images, video]), [(1, 4, 4), (1, 2, 6), (3, 4, 4)])
    with torch.no_grad():
        out = model(
            input_ids=ids[None], pixel_values=images, image_grid_thw=image_grid, pixel_values_videos=video,
            video_grid_thw=video_grid,
        )  # fmt: skip
    torch.testing.assert_close(out.logits[0].double(), wanted, atol=1e-4, rtol=0)


def test_text_alone():
    config = golden_config()
    model = random_model(config)
    ids = torch.arange(7)
    with torch.no_grad():
        out = model(input_ids=ids[None])
    wanted = slow_logits(model.state_dict(), config, ids)
    torch.testing.assert_close(out.logits[0].double(), wanted, atol=1e-4, rtol=0)
    assert greedy(model, [ids.tolist()], 1) == [[int(wanted[-1].argmax())]]


# ---------------------------------------------------------------------------------------------------------
# A video in segments


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 3, 5, 100])
def test_segments_do_not_change_the_memory(frames, positions):
    model = random_model(golden_config(cross_attn_use_position_embeddings=positions))
    pixels, grid = random_pixels((5, 4, 6), (3, 2, 4))
    whole = model.encode_video(pixels, grid)
    pieces = model.encode_video(pixels, grid, segment_frames=frames)
    assert whole.num_tokens == 5 * 6 + 3 * 2
    assert whole.grids == pieces.grids == [(5, 4, 6), (3, 2, 4)]
    for ours, wanted in zip(pieces.keys + pieces.values, whole.keys + whole.values, strict=True):
        torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("limit", [1, 100])
def test_streamed_segments(monkeypatch, limit):
    """Also when the pieces that arrive are larger than what is encoded at once."""
    model = random_model(golden_config(cross_attn_use_position_embeddings=True))
    pixels, grid = random_pixels((6, 4, 4))
    whole = model.encode_video(pixels, grid)
    monkeypatch.setattr(modeling, "SEGMENT_TOKENS", limit)
    pulled = []

    def stream():
        for start, stop in ((0, 3), (3, 4), (4, 6)):
            pulled.append(start)
            yield pixels[start * 16 : stop * 16], torch.tensor([[stop - start, 4, 4]])

    memory = model.encode_video_segments(stream(), whole.num_tokens)
    assert pulled == [0, 3, 4] and memory.grids == [(6, 4, 4)]
    for ours, wanted in zip(memory.keys + memory.values, whole.keys + whole.values, strict=True):
        torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=0)
    for announced in (23, 25):
        with pytest.raises(ValueError, match="tokens"):
            model.encode_video_segments(stream(), announced)


def test_segment_sizes_keep_tensors_within_32_bit_indices():
    model = random_model(golden_config())
    assert model.frames_per_segment(4, 6) == modeling.SEGMENT_TOKENS // 6
    assert model.frames_per_segment(1000, 1000) == 1
    largest = model.frames_per_segment(4, 6, wanted=10**12)
    assert largest * 6 * 4 * 1176 < 2**31
    assert model.frames_per_segment(4, 6, wanted=3) == 3


def test_pixels_that_do_not_fit_their_grid():
    model = random_model(golden_config())
    pixels, grid = random_pixels((2, 4, 4))
    with pytest.raises(ValueError, match="31 patches"):
        model.encode_video(pixels[1:], grid)
    with pytest.raises(ValueError, match="31 patches"):
        model.encode_video_segments([(pixels[1:], grid)], 8)
    with pytest.raises(ValueError, match="video_memory"):
        model(input_ids=torch.zeros(2, 3, dtype=torch.long), pixel_values_videos=pixels, video_grid_thw=grid)


# ---------------------------------------------------------------------------------------------------------
# One video, many questions

PROMPTS = [[5, 17, 230, 4, 9, 101, 33, 7], [200, 3, 44], [8, 8, 120, 61, 250, 12], [77]]


def test_asking_a_memory_is_asking_the_video(golden, memory):
    model, inputs, wanted = golden
    video = {k: inputs[k] for k in ("pixel_values_videos", "video_grid_thw")}
    from_pixels = [greedy(model, [prompt], **video)[0] for prompt in PROMPTS]
    assert len({tuple(tokens) for tokens in from_pixels}) > 1
    for order in (range(4), reversed(range(4))):  # the memory is not changed by being asked
        for i in order:
            assert greedy(model, [PROMPTS[i]], video_memory=memory)[0] == from_pixels[i]
    assert greedy(model, PROMPTS, video_memory=memory) == from_pixels
    assert greedy(model, PROMPTS[::-1], video_memory=memory) == from_pixels[::-1]
    out = model.generate(
        input_ids=inputs["input_ids"], do_sample=False, max_new_tokens=12, eos_token_id=299, pad_token_id=294,
        video_memory=memory,
    )  # fmt: skip
    assert torch.equal(out, wanted["generated_ids"])


def test_padding_does_not_change_logits(golden, memory):
    model, _, _ = golden
    ids, mask = torch.tensor([[294, 294, *PROMPTS[1]]]), torch.tensor([[0, 0, 1, 1, 1]])
    with torch.no_grad():
        padded = model(input_ids=ids, attention_mask=mask, video_memory=memory).logits[:, 2:]
        alone = model(input_ids=ids[:, 2:], video_memory=memory).logits
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)


def test_generate_encodes_once(golden, monkeypatch):
    model, inputs, _ = golden
    calls = []
    encode = VambaForConditionalGeneration.encode_video
    monkeypatch.setattr(
        VambaForConditionalGeneration, "encode_video", lambda *a, **k: calls.append(1) or encode(*a, **k)
    )
    model.generate(**inputs, do_sample=False, max_new_tokens=4, pad_token_id=294)
    assert calls == [1]


def test_beams_and_samples_share_the_video(golden, memory):
    model, _, _ = golden
    ids = torch.tensor([PROMPTS[0]])
    options = {"max_new_tokens": 4, "pad_token_id": 294, "video_memory": memory, "num_return_sequences": 2}
    assert model.generate(input_ids=ids, num_beams=2, do_sample=False, **options).shape[0] == 2
    assert model.generate(input_ids=ids, do_sample=True, **options).shape[0] == 2


def test_kept_logits_loss_and_embeddings(golden, memory):
    model, _, _ = golden
    ids = torch.tensor([PROMPTS[0]])
    with torch.no_grad():
        whole = model(input_ids=ids, video_memory=memory, labels=ids)
        last = model(input_ids=ids, video_memory=memory, logits_to_keep=1)
        embedded = model(inputs_embeds=model.get_input_embeddings()(ids), video_memory=memory)
    assert last.logits.shape == (1, 1, 300)
    torch.testing.assert_close(last.logits[:, 0], whole.logits[:, -1])
    torch.testing.assert_close(embedded.logits, whole.logits)
    wanted = torch.nn.functional.cross_entropy(whole.logits[0, :-1], ids[0, 1:])
    torch.testing.assert_close(whole.loss, wanted)


def test_memory_is_keys_and_values_alone(memory):
    assert memory.num_tokens == 36
    assert [tuple(k.shape) for k in memory.keys] == [(1, 2, 36, 16)] * 3
    assert memory.nbytes == 2 * 3 * 2 * 36 * 16 * 4
    moved = memory.to("meta")
    assert isinstance(moved, VideoMemory) and moved.values[2].device.type == "meta"
    assert moved.grids == memory.grids


def test_last_mixer_is_not_run(golden):
    model, inputs, _ = golden
    ran = []
    hooks = [
        layer.vision_mixer.register_forward_hook(lambda *_, i=i: ran.append(i))
        for i, layer in enumerate(model.model.layers)
    ]
    model.encode_video(inputs["pixel_values_videos"], inputs["video_grid_thw"])
    for hook in hooks:
        hook.remove()
    assert ran == [0, 1]


def test_bfloat16_stays_close(golden):
    _, inputs, wanted = golden
    model = VambaForConditionalGeneration.from_pretrained(GOLDENS / "released_recipe", dtype=torch.bfloat16)
    with torch.no_grad():
        out = model(**inputs)
    assert out.logits.dtype == torch.bfloat16
    assert all(k.dtype == torch.bfloat16 for k in out.video_memory.keys)
    error = (out.logits.float() - wanted["logits"]).norm() / wanted["logits"].norm()
    assert error < 0.05


# ---------------------------------------------------------------------------------------------------------
# Files


def test_released_configuration_is_read_and_comes_back(tmp_path, caplog):
    config = golden_config(mixer={"dt_limit": [0.0, math.inf], "process_group": None}, distill_coeff=0.5)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "Infinity" in (tmp_path / "config.json").read_text()
    read = VambaConfig.from_pretrained(tmp_path)
    assert not caplog.records
    assert read.model_type == "vamba" and read.text_config.hidden_size == 64
    assert read.mixer.dt_limit == (0.0, math.inf) and read.mixer.chunk_size == 32 and read.mixer.d_conv == 4
    read.save_pretrained(tmp_path / "saved")
    again = VambaConfig.from_pretrained(tmp_path / "saved")
    assert again.mixer == read.mixer and again.use_alpha_balancing and again.distill_coeff == 0.5
    assert again.to_dict() == read.to_dict()


def test_mixer_defaults_are_the_formats():
    mixer = VambaConfig(use_alpha_balancing=True).mixer
    sizes = [mixer.d_conv, mixer.expand, mixer.headdim, mixer.d_state, mixer.ngroups, mixer.chunk_size]
    assert sizes == [4, 2, 64, 128, 1, 256]
    assert mixer.rmsnorm and mixer.conv_bias and not (mixer.bias or mixer.norm_before_gate or mixer.enable)


def test_plain_qwen2_vl_is_recognised(tmp_path):
    config = {k: v for k, v in golden_config().items() if not any(s in k for s in ("mixer", "cross", "alpha"))}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copy(GOLDENS / "released_recipe" / "model.safetensors", tmp_path)
    with pytest.raises(ValueError, match=r"Qwen2-VL checkpoint without Vamba's weights.*use the adapter qwen2_vl"):
        VambaForConditionalGeneration.from_pretrained(tmp_path)


@pytest.mark.parametrize("shards", [False, True])
def test_weights_are_saved_under_their_released_names(golden, tmp_path, shards):
    model, inputs, wanted = golden
    model.save_pretrained(tmp_path, **({"max_shard_size": "300KB"} if shards else {}))
    files = sorted(tmp_path.glob("*.safetensors"))
    assert (len(files) > 1) == shards
    saved = {name: tensor for file in files for name, tensor in load_file(file).items()}
    released = load_file(GOLDENS / "released_recipe" / "model.safetensors")
    assert set(saved) == set(released)
    assert all(torch.equal(saved[name], released[name]) for name in released)
    again = VambaForConditionalGeneration.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs).logits, wanted["logits"], atol=1e-4, rtol=0)


def damaged(tmp_path, change):
    shutil.copy(GOLDENS / "released_recipe" / "config.json", tmp_path)
    weights = load_file(GOLDENS / "released_recipe" / "model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("model.layers.1.alpha"), "missing weights: model.layers.1.alpha"),
        (lambda w: w.pop("visual.merger.mlp.0.bias"), "missing weights: visual.merger.mlp.0.bias"),
        (lambda w: w.update({"model.layers.1.beta": torch.ones(1)}), "unknown weights: model.layers.1.beta"),
        (lambda w: w.update({"lm_head.weight": torch.ones(3, 64)}), r"lm_head.weight \(\(3, 64\) in the ch"),
        (
            lambda w: [w.pop(name) for name in list(w) if "cross_attn" in name],
            r"model\.layers\.0\.cross_attn\.k_proj\.bias.* and \d+ more",
        ),
    ],
)
def test_wrong_weights_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as error:
        VambaForConditionalGeneration.from_pretrained(damaged(tmp_path, change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["truncated", "missing", "empty"])
@pytest.mark.parametrize("shards", [False, True])
def test_broken_files_are_named(golden, tmp_path, damage, shards):
    model, _, _ = golden
    model.save_pretrained(tmp_path, **({"max_shard_size": "300KB"} if shards else {}))
    file = sorted(tmp_path.glob("*.safetensors"))[-1]
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: 1000 if damage == "truncated" else 0])
    with pytest.raises(OSError, match=file.name) as error:
        VambaForConditionalGeneration.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_tied_embeddings(tmp_path):
    model = random_model(golden_config(tie_word_embeddings=True))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    model.save_pretrained(tmp_path)
    again = VambaForConditionalGeneration.from_pretrained(tmp_path)
    assert again.lm_head.weight is again.model.embed_tokens.weight


def test_device_map(golden):
    pytest.importorskip("accelerate")
    _, inputs, wanted = golden
    model = VambaForConditionalGeneration.from_pretrained(GOLDENS / "released_recipe", device_map={"": "cpu"})
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, wanted["logits"], atol=1e-4, rtol=0)


def test_random_initialisation_is_mamba2s():
    torch.manual_seed(0)
    model = VambaForConditionalGeneration(VambaConfig.from_dict(golden_config()))
    layer = model.model.layers[0]
    mixer = layer.vision_mixer.mixer
    assert layer.alpha.item() == 0.5
    assert ((mixer.A_log.exp() >= 1) & (mixer.A_log.exp() <= 16)).all() and mixer.A_log.unique().numel() > 1
    dt = torch.nn.functional.softplus(mixer.dt_bias)
    assert ((dt > 0.0009) & (dt < 0.11)).all()
    assert (mixer.D == 1).all() and (mixer.norm.weight == 1).all()
    assert isinstance(layer.vision_mixer.norm, Qwen2VLRMSNorm)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_flash_attention_4_is_attention(monkeypatch):
    """Of the released tower's shape, against float32: no farther from it than PyTorch's kernels are."""
    if vision.flash_attention_4() is None or torch.cuda.get_device_capability()[0] != 9:
        pytest.skip("needs FlashAttention-4 and a GPU of Hopper's generation")
    config = VambaConfig().vision_config
    config._attn_implementation = "sdpa"
    attn = Qwen2VLVisionAttention(config).to("cuda", torch.bfloat16)
    normed = torch.randn(3, 1196, config.embed_dim, device="cuda", dtype=torch.bfloat16)
    angles = torch.rand(1196, 40, device="cuda").repeat(1, 2) * 6
    rotary = angles.cos(), angles.sin()
    with torch.inference_mode():
        flash = vision.frame_attention(attn, normed, rotary, recurs=True)
        monkeypatch.setattr(vision, "flash_fits", lambda query: False)
        plain = vision.frame_attention(attn, normed, rotary, recurs=True)
        exact = vision.frame_attention(attn.float(), normed.float(), rotary, recurs=False)
    assert not torch.equal(flash, plain)
    assert (flash - exact).norm() < 1.05 * (plain - exact).norm()

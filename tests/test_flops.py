"""FLOPs against counts by hand: of the models' matrix products, of the scan, of attention in all its kernels."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_vamba_mixer import scan_inputs
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from vamba_eval.model_adapters.qwen2_vl import Qwen2VLAdapter
from vamba_eval.model_adapters.vamba import VambaAdapter, VambaConfig, VambaForConditionalGeneration
from vamba_eval.model_adapters.vamba.greedy import room_for
from vamba_eval.model_adapters.vamba.mixer import chunked_scan, scan_flops

from vamba_eval import Clip
from vamba_eval.contracts import GenerationSettings
from vamba_eval.cost.flops import add_flops, count_flops, counting_flops

PAIRS, HEIGHT, WIDTH = 4, 84, 112  # 4 temporal patches of 6 x 8 patches, 3 x 4 tokens
TOKENS = PAIRS * 12
NEW = 5


def make_clip() -> Clip:
    frames = np.zeros((2 * PAIRS, HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Clip(frames, np.arange(2.0 * PAIRS), np.arange(2 * PAIRS), 1.0, 2.0 * PAIRS)


# ---------------------------------------------------------------------------------- the models, by hand


def tower(vision, out: int) -> int:
    patches, width = 4 * TOKENS, vision.embed_dim
    each = 2 * patches * width * (3 * width + width + 2 * vision.mlp_ratio * width)  # qkv, proj, both of the MLP
    attention = 4 * PAIRS * 48 * 48 * width  # 48 patches of a frame see each other
    merger = 2 * TOKENS * 4 * width * (4 * width + out)
    return 2 * patches * 1176 * width + vision.depth * (each + attention) + merger


def text_layers(text, rows: int, keys: int) -> int:
    """Of a pass of so many tokens that attend to so many."""
    width, head = text.hidden_size, text.hidden_size // text.num_attention_heads
    products = 2 * rows * width * (2 * width + 2 * text.num_key_value_heads * head + 3 * text.intermediate_size)
    return text.num_hidden_layers * (products + 4 * rows * keys * width)


def mixers(config, chunk: int) -> int:
    mixer, count = config.mixer, config.text_config.num_hidden_layers - 1  # the last layer's is not run
    projections = 2 * TOKENS * mixer.hidden_dim * (mixer.projected_width + mixer.inner_width)
    chunks = [min(chunk, TOKENS - start) for start in range(0, TOKENS, chunk)]
    heads, state = mixer.num_heads * mixer.headdim, mixer.d_state
    scan = sum(2 * q * q * (mixer.ngroups * state + heads) + 4 * q * heads * state for q in chunks)
    return count * (projections + scan)


def exactly(flops: int) -> object:
    return pytest.approx(flops, rel=5e-4)  # rotary angles are products in some versions of transformers


@pytest.mark.parametrize("chunk", [7, 256])
def test_vamba_is_the_sum_of_its_products(chunk: int) -> None:
    adapter = VambaAdapter(device="cpu")
    for layer in adapter.model.model.layers:
        object.__setattr__(layer.vision_mixer.mixer.config, "chunk_size", chunk)
    config = adapter.model.config
    text = config.text_config
    width, kv = text.hidden_size, text.num_key_value_heads * (text.hidden_size // text.num_attention_heads)
    with count_flops() as count:
        memory = adapter.encode(make_clip())
    keys_and_values = text.num_hidden_layers * 2 * TOKENS * width * 2 * kv
    assert count.total == exactly(tower(config.vision_config, width) + keys_and_values + mixers(config, chunk))

    with count_flops() as count:
        (answer,) = adapter.generate(memory, ["What is it?"], GenerationSettings(max_new_tokens=NEW))
    assert answer.num_tokens == NEW
    rows = answer.prompt_tokens + NEW - 1  # the last token is not put back in
    cross = text.num_hidden_layers * rows * (2 * width * 2 * width + 4 * TOKENS * width)
    passes = [(answer.prompt_tokens,) * 2, *((1, answer.prompt_tokens + n) for n in range(1, NEW))]
    layers = sum(text_layers(text, *sizes) for sizes in passes)
    assert count.total == exactly(layers + cross + NEW * 2 * width * text.vocab_size)


def test_qwen2_vl_is_the_sum_of_its_products() -> None:
    adapter = Qwen2VLAdapter(device="cpu")
    text = adapter.model.config.text_config
    logits = 2 * text.hidden_size * text.vocab_size  # of one token, which encoding computes too
    with count_flops() as count:
        encoded = adapter.encode(make_clip())
    assert adapter.seen(encoded).video_tokens == TOKENS
    prefix = encoded.ids.shape[1]
    assert count.total == exactly(
        tower(adapter.model.config.vision_config, text.hidden_size) + text_layers(text, prefix, prefix) + logits
    )
    with count_flops() as count:
        (answer,) = adapter.generate(encoded, ["What is it?"], GenerationSettings(max_new_tokens=1))
    rows = answer.prompt_tokens + TOKENS - prefix
    assert count.total == exactly(text_layers(text, rows, prefix + rows) + logits)


def test_segments_take_together_what_the_whole_takes() -> None:
    adapter = VambaAdapter(device="cpu")
    sizes = adapter.model.config.to_dict()
    sizes["vision_mamba_mixer_config"] = {**sizes["vision_mamba_mixer_config"], "chunk_size": 12}
    model = VambaForConditionalGeneration(VambaConfig(**sizes)).eval()
    inputs = adapter.processor(videos=make_clip().frames)
    counts = []
    for segment_frames in (PAIRS, 2, 1):
        with count_flops() as count:
            model.encode_video(inputs["pixel_values_videos"], inputs["video_grid_thw"], segment_frames)
        counts.append(count.by_kind)
    assert counts[0] == counts[1] == counts[2], "chunks of 12 steps end where segments do"


def test_decoding_with_a_cache_of_fixed_size_counts_all_of_it() -> None:
    adapter = VambaAdapter(device="cpu")
    text = adapter.model.config.text_config
    memory = adapter.encode(make_clip())
    ids = adapter.processor([adapter.processor.prompt("What is it?")])["input_ids"]
    with count_flops() as count:
        tokens = adapter.decoder(ids, memory, NEW, {-1})
    assert len(tokens) == NEW
    rows, room = ids.shape[1] + NEW - 1, room_for(ids.shape[1] + NEW)
    cross = text.num_hidden_layers * rows * 4 * text.hidden_size * (text.hidden_size + TOKENS)
    passes = text_layers(text, rows, room) + cross + NEW * 2 * text.hidden_size * text.vocab_size
    assert count.total == exactly(passes)


# --------------------------------------------------------------------------------------------- the scan


@pytest.mark.parametrize("length", [7, 8, 16, 30])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_formula_of_the_scan_is_what_the_counter_sees_of_plain_pytorch(length: int, groups: int) -> None:
    inputs = scan_inputs(length, groups=groups)
    with count_flops() as count:
        chunked_scan(**inputs, dt_limit=(0.0, math.inf), chunk_size=8)
    formula = scan_flops(2, length, heads=4, headdim=6, groups=groups, d_state=5, chunk_size=8)
    assert count.total == count.by_kind["bmm"] == formula


def test_a_backward_pass_of_the_scan_takes_each_product_twice() -> None:
    inputs = scan_inputs(16)
    for name in ("x", "B", "C", "dt", "state"):
        inputs[name].requires_grad_()
    with count_flops() as count:
        y, state = chunked_scan(**inputs, dt_limit=(0.0, math.inf), chunk_size=8)
        (y.sum() + state.sum()).backward()
    assert count.total == 3 * scan_flops(2, 16, heads=4, headdim=6, groups=2, d_state=5, chunk_size=8)


# -------------------------------------------------------------------------------------------- attention


@pytest.mark.parametrize("backend", [None, SDPBackend.MATH])
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("mode", [nullcontext, torch.inference_mode])
def test_attention_counts_alike_in_every_kernel(backend, kv_heads, masked, mode) -> None:
    query, key = torch.randn(2, 4, 10, 16), torch.randn(2, kv_heads, 20, 16)
    mask = torch.ones(10, 20).tril().bool() if masked else None
    chosen = nullcontext() if backend is None else sdpa_kernel(backend)
    with mode(), chosen, count_flops() as count:
        F.scaled_dot_product_attention(query, key, key, attn_mask=mask, enable_gqa=kv_heads < 4)
    assert count.total == 4 * 2 * 4 * 10 * 20 * 16, "masked or not, with repeated keys or not"


def test_a_backward_pass_of_attention_takes_five_products() -> None:
    query, key, value = (torch.randn(2, 4, 10, 16, requires_grad=True) for _ in range(3))
    with count_flops() as count:
        F.scaled_dot_product_attention(query, key, value).sum().backward()
    assert count.total == (2 + 5) * 2 * 2 * 4 * 10 * 10 * 16, "two before, and the scores again"


@pytest.fixture
def flash_attn() -> Iterator[None]:
    """Operators as the package flash-attn registers them; it needs a GPU."""
    library = torch.library.Library("flash_attn", "DEF")
    library.define("_flash_attn_forward(Tensor q, Tensor k, Tensor v, float dropout_p) -> Tensor")
    packed = "Tensor cu_seqlens_q, Tensor cu_seqlens_k, int max_seqlen_q, int max_seqlen_k"
    library.define(f"_flash_attn_varlen_forward(Tensor q, Tensor k, Tensor v, {packed}) -> Tensor")
    library.impl("_flash_attn_forward", lambda q, *_: q.clone(), "CPU")
    library.impl("_flash_attn_varlen_forward", lambda q, *_: q.clone(), "CPU")
    yield
    library._destroy()


def test_flash_attn_is_counted(flash_attn: None) -> None:
    query, key = torch.randn(2, 10, 4, 16), torch.randn(2, 20, 2, 16)
    with count_flops() as count:
        torch.ops.flash_attn._flash_attn_forward(query, key, key, 0.0)
    assert count.by_kind == {"_flash_attn_forward": 4 * 2 * 4 * 10 * 20 * 16}
    query, key = torch.randn(13, 4, 16), torch.randn(25, 2, 16)
    starts_q, starts_k = torch.tensor([0, 10, 13], dtype=torch.int32), torch.tensor([0, 20, 25], dtype=torch.int32)
    with count_flops() as count:
        torch.ops.flash_attn._flash_attn_varlen_forward(query, key, key, starts_q, starts_k, 10, 20)
    assert count.total == 4 * 4 * 16 * (10 * 20 + 3 * 5)


# --------------------------------------------------------------------------------------- the counter itself


def test_what_torch_does_not_see_is_added() -> None:
    add_flops("scan", 5)  # nobody counts
    assert not counting_flops()
    with count_flops() as count:
        assert counting_flops()
        add_flops("scan", 7)
        add_flops("scan", 7)
        torch.randn(3, 4) @ torch.randn(4, 5)
        with pytest.raises(RuntimeError, match="being counted"), count_flops():
            pass
    assert count.by_kind == {"scan": 14, "mm": 2 * 3 * 4 * 5} and count.total == 134
    with pytest.raises(ValueError, match="broken"), count_flops() as count:
        torch.randn(3, 4) @ torch.randn(4, 5)
        raise ValueError("broken")
    assert count.total == 120 and not counting_flops()


def test_counting_keeps_no_activation_that_checkpointing_lets_go() -> None:
    """torch's own tracking of modules would."""
    kept: list[weakref.ref[torch.Tensor]] = []

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow = torch.nn.Linear(8, 32), torch.nn.Linear(32, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.wide(x)
            kept.append(weakref.ref(hidden))
            return self.narrow(hidden)

    block = Block()
    with count_flops() as flops:
        loss = checkpoint(block, torch.randn(4, 8, requires_grad=True), use_reentrant=False).sum()
        assert kept[0]() is None
        loss.backward()
    product = 2 * 4 * 8 * 32
    assert flops.total == (2 + 1 + 4) * product, "forward, again as far as the backward pass needs it, and backward"

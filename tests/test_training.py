"""One training step: gradients, with and without checkpointing, of Vamba and of Qwen2-VL."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from vamba_eval.model_adapters import _random_weights
from vamba_eval.model_adapters.qwen2_vl import Qwen2VLAdapter
from vamba_eval.model_adapters.vamba import VambaConfig, VambaForConditionalGeneration, modeling
from vamba_eval.model_adapters.vamba.adapter import VambaAdapter
from videos import picture

from vamba_eval import Clip
from vamba_eval.contracts import UserError
from vamba_eval.cost.flops import add_flops, count_flops

VIDEO = torch.tensor([[5, 4, 6]])
IDS = torch.tensor([[3, 14, 15, 92, 65, 35, 8, 97]])
LABELS = torch.where(torch.arange(8) < 5, -100, IDS)


def make_clip(frames: int = 6, height: int = 84, width: int = 112) -> Clip:
    pictures = np.stack([picture(7 * n, height, width) for n in range(frames)])
    return Clip(pictures, np.arange(frames) / 1.0, np.arange(frames), 1.0, float(frames))


@pytest.fixture
def model() -> VambaForConditionalGeneration:
    """Every weight random."""
    tokenizer = _random_weights.tiny_tokenizer()
    mixer = {"enable": True, "hidden_dim": 64, "d_state": 16, "headdim": 16, "chunk_size": 8}
    config = VambaConfig(
        **_random_weights.tiny_sizes(tokenizer),
        use_alpha_balancing=True,
        cross_attn_use_position_embeddings=True,
        vision_mamba_mixer_config=mixer,
    )
    torch.manual_seed(1)
    model = VambaForConditionalGeneration(config).double().train()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not name.endswith(("A_log", "dt_bias", "alpha")):
                weight.add_(torch.randn_like(weight) * 0.1)
    return model


def loss_of(model: VambaForConditionalGeneration, grid: torch.Tensor = VIDEO) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randn(int(grid.prod()), 1176, generator=generator, dtype=torch.float64)
    return model(input_ids=IDS, labels=LABELS, pixel_values_videos=pixels, video_grid_thw=grid, use_cache=False).loss


def gradients(model: VambaForConditionalGeneration) -> dict[str, torch.Tensor | None]:
    model.zero_grad(set_to_none=True)
    loss_of(model).backward()
    return {name: weight.grad for name, weight in model.named_parameters()}


def checkpoint_layers(model: VambaForConditionalGeneration, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Turn gradient checkpointing on; the names of what it is applied to are appended as it happens."""
    called: list[str] = []
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    for layer in [*model.visual.blocks, *model.model.layers]:
        function = layer._gradient_checkpointing_func

        def noting(run, *args, _function=function, **kwargs):
            called.append(getattr(run, "__name__", type(run).__name__))
            return _function(run, *args, **kwargs)

        monkeypatch.setattr(layer, "_gradient_checkpointing_func", noting)
    return called


@pytest.mark.parametrize("segment_tokens", [1 << 14, 12])
def test_gradients_are_those_of_finite_differences(model, monkeypatch, segment_tokens) -> None:
    """Along a random direction of all weights: the whole chain, segments and their carried states included."""
    monkeypatch.setattr(modeling, "SEGMENT_TOKENS", segment_tokens)
    found = gradients(model)
    generator = torch.Generator().manual_seed(3)
    direction = {n: torch.randn(w.shape, generator=generator, dtype=w.dtype) for n, w in model.named_parameters()}
    slope = sum(float((found[n] * direction[n]).sum()) for n in direction if found[n] is not None)
    step, losses = 2e-4, []  # norms and the scan are float32 within
    for sign in (1, -1):
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.add_(direction[name], alpha=sign * step)
            losses.append(float(loss_of(model)))
            for name, weight in model.named_parameters():
                weight.sub_(direction[name], alpha=sign * step)
    assert slope == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=2e-3)


def test_checkpointing_changes_no_gradient(model, monkeypatch) -> None:
    plain = gradients(model)
    monkeypatch.setattr(modeling, "SEGMENT_TOKENS", 12)  # two temporal patches of six tokens
    called = checkpoint_layers(model, monkeypatch)
    saved = gradients(model)
    assert called.count("encode_video") == 2 * 3, "each layer, each segment"
    assert called.count("frame_mlp") == called.count("frame_attention") == 2 * 3
    assert called.count("PatchMerger") == 3
    assert len(called) == 2 * 3 + 2 * 6 + 3 + 2, "and the text's two layers"
    unused = {name for name, gradient in saved.items() if gradient is None}
    assert unused and all(name.startswith("model.layers.1.vision_mixer.") for name in unused)
    for name, gradient in saved.items():
        if gradient is not None:
            assert torch.isfinite(gradient).all() and gradient.abs().max() > 0, name
            assert (gradient - plain[name]).norm() < 1e-5 * plain[name].norm(), name


def test_checkpointing_keeps_less(model, monkeypatch) -> None:
    """Bytes that autograd holds between forward and backward."""
    model.visual.patch_embed.requires_grad_(False)  # it would hold the pixels

    def held() -> int:
        storages = {}

        def pack(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss_of(model, torch.tensor([[40, 4, 6]]))
        weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        return sum(size for place, size in storages.items() if place not in weights)

    plain = held()
    checkpoint_layers(model, monkeypatch)
    assert held() < plain / 4


def test_evaluation_mode_keeps_no_gradients(model) -> None:
    loss = loss_of(model.eval())
    assert loss.requires_grad, "the text still has them"
    memory = model.encode_video(torch.zeros(120, 1176, dtype=torch.float64), VIDEO)
    assert not memory.keys[0].requires_grad
    model.train()
    memory = model.encode_video(torch.zeros(120, 1176, dtype=torch.float64), VIDEO)
    assert memory.keys[0].requires_grad


@pytest.mark.parametrize("adapter_class", [VambaAdapter, Qwen2VLAdapter])
def test_a_step_trains_what_is_not_frozen(adapter_class) -> None:
    adapter = adapter_class(device="cpu")
    clip = make_clip(7)
    losses = [adapter.train_step(clip, "What happens?", "A dog runs.") for _ in range(2)]
    assert losses[0] == losses[1], "nothing is left of the step before, and no weight has changed"
    frozen, trained = [], []
    for name, weight in adapter.model.named_parameters():
        (trained if weight.requires_grad else frozen).append(name)
        if not weight.requires_grad or ".layers.1.vision_mixer." in name:
            assert weight.grad is None, name
        else:
            assert weight.grad is not None and torch.isfinite(weight.grad).all(), name
    assert all("visual.blocks" in name or "visual.patch_embed" in name or "lm_head" in name for name in frozen)
    assert any("visual.merger" in name for name in trained) and any("embed_tokens" in name for name in trained)
    with torch.no_grad():
        for _, weight in adapter.model.named_parameters():
            if weight.grad is not None:
                weight -= 0.05 * weight.grad
    assert adapter.train_step(clip, "What happens?", "A dog runs.") < losses[0]


def test_qwen2_vl_trains_on_the_tokens_of_the_answer_alone() -> None:
    """The loss of few logits is that of all of them, in one plain forward pass."""
    adapter = Qwen2VLAdapter(device="cpu")
    clip = make_clip(6)
    prefix, given = adapter._prefix(clip)
    vision = {name: given[name] for name in ("pixel_values_videos", "video_grid_thw")}
    rest = adapter.tokenizer("Why?<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False).input_ids
    answer = adapter.tokenizer("So.<|im_end|>", add_special_tokens=False).input_ids
    ids = torch.cat([prefix.ids, torch.tensor([rest + answer])], dim=1)
    types = (ids == adapter.model.config.video_token_id).int() * 2
    positions, _ = adapter.model.model.get_rope_index(ids, types, video_grid_thw=vision["video_grid_thw"])
    with torch.no_grad():
        logits = adapter.model(input_ids=ids, position_ids=positions, **vision).logits
    wanted = torch.nn.functional.cross_entropy(logits[0, -len(answer) - 1 : -1], torch.tensor(answer))
    assert adapter.train_step(clip, "Why?", "So.") == pytest.approx(float(wanted), rel=1e-5)


def test_operations_of_a_backward_pass_count_in_whatever_thread() -> None:
    """On a GPU, autograd runs backward, and what checkpointing computes again, in threads of its own."""
    with count_flops() as flops:
        thread = threading.Thread(target=lambda: add_flops("scan", 7))
        thread.start()
        thread.join()
    assert flops.by_kind == {"scan": 7}


def test_random_weights_of_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The released recipe at a size that a test can hold: made in its type, with sane buffers, and never ending."""
    small = _random_weights.tiny_sizes(_random_weights.tiny_tokenizer())
    monkeypatch.setattr(
        _random_weights, "RELEASED_SIZES", {name: small[name] for name in ("text_config", "vision_config")}
    )
    released = {"vision_mamba_mixer_config": {"enable": True, "hidden_dim": 64, "d_state": 16, "headdim": 16}}
    monkeypatch.setattr("vamba_eval.model_adapters.vamba.configuration.RELEASED", released)
    for adapter_class in (VambaAdapter, Qwen2VLAdapter):
        made = adapter_class(device="cpu", random="released", dtype="bfloat16")
        plain = adapter_class(device="cpu")
        assert {weight.dtype for weight in made.model.parameters()} == {torch.bfloat16}
        assert torch.get_default_dtype() == torch.float32
        assert made.describe()["size"] == "released" and "size" not in plain.describe()
        buffers = dict(plain.model.named_buffers())
        for name, buffer in made.model.named_buffers():
            assert buffer.dtype == torch.float32 and torch.equal(buffer, buffers[name]), name
        for name, weight in made.model.named_parameters():
            assert torch.isfinite(weight).all(), name
            if name.endswith(("A_log", "mixer.D", "norm.weight")):
                assert weight.min() >= 0, name
        twin = adapter_class(device="cpu", random="released", dtype="bfloat16")
        for (name, one), other in zip(made.model.named_parameters(), twin.model.parameters(), strict=True):
            assert torch.equal(one, other), name
    with pytest.raises(UserError, match="random is 'huge': use small or released"):
        VambaAdapter(random="huge")
    with pytest.raises(UserError, match="leave it or pretrained="):
        Qwen2VLAdapter(random="small", pretrained="somewhere")

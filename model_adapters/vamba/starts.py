"""What a training begins with: Vamba's weights, or Qwen2-VL's with what Vamba adds to them, or random ones.

The facts are the reference's (TIGER-AI-Lab/Vamba, models/vamba_mamba2/ and train/train_vamba.py at 4464145);
docs/training.md has them in words. Knows nothing of data, losses or optimizers.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, Qwen2VLForConditionalGeneration
from transformers.utils import cached_file

from vamba_eval.contracts import UserError, first_line

from .. import _random_weights, _transformers
from .configuration import RELEASED, VAMBA_KEYS, VambaConfig, released_config
from .mixer import Mamba2Mixer
from .modeling import VambaForConditionalGeneration
from .processing import SETTINGS_FILE, PixelSettings, VambaProcessor


def load(start: str, model_class: type[VambaForConditionalGeneration], seed: int) -> tuple[Any, VambaProcessor, str]:
    """A model of ``model_class`` in float32 on the CPU, its processor, and what ``start`` is: vamba, qwen2_vl, random.

    ``start`` is a checkpoint's folder or Hub id, or the configuration (.json) of a model with random weights; a
    ``preprocessor_config.json`` and a tokenizer beside it are used. Random weights are drawn from ``seed``. Raises
    UserError.
    """
    if start.endswith(".json"):
        return *_random(Path(start), model_class, seed), "random"
    weights = _weights(start)
    with _transformers.reading_checkpoint(weights):
        values, _ = AutoConfig.for_model("qwen2_vl").get_config_dict(start)
        processor = read_processor(start)
    if values.get("model_type") not in ("vamba", "qwen2_vl"):
        raise UserError(f"{start} is a {values.get('model_type')} checkpoint: training begins with Qwen2-VL or Vamba")
    if values.get("quantization_config"):
        raise UserError(
            f"{start} is quantised (quantization_config in its config.json): train the weights it is made of"
        )
    if values["model_type"] == "vamba" or any(key in values for key in VAMBA_KEYS):
        return _transformers.load_checkpoint(model_class, weights)[0], processor, "vamba"
    qwen, _ = _transformers.load_checkpoint(Qwen2VLForConditionalGeneration, weights)
    return from_qwen2_vl(qwen, model_class, seed), processor, "qwen2_vl"


def load_qwen2_vl(start: str) -> Any:
    """A Qwen2-VL, as a teacher. Raises UserError where ``start`` is anything else."""
    weights = _weights(start)
    with _transformers.reading_checkpoint(weights):
        values, _ = AutoConfig.for_model("qwen2_vl").get_config_dict(start)
    if values.get("model_type") != "qwen2_vl" or any(key in values for key in VAMBA_KEYS):
        raise UserError(f"the teacher is a Qwen2-VL, which {start} is not: name one, such as Qwen/Qwen2-VL-7B-Instruct")
    return _transformers.load_checkpoint(Qwen2VLForConditionalGeneration, weights)[0].eval().requires_grad_(False)


def read_processor(start: str) -> VambaProcessor:
    """The tokenizer and pixel settings of a checkpoint, as published or as transformers since 5 writes them. Raises
    OSError where one is missing."""
    if cached_file(start, SETTINGS_FILE, _raise_exceptions_for_missing_entries=False) is not None:
        return VambaProcessor.from_pretrained(start)
    values = json.loads(Path(str(cached_file(start, "processor_config.json"))).read_text(encoding="utf-8"))
    return VambaProcessor(read_tokenizer(start), PixelSettings.from_dict(values["image_processor"]))


def read_tokenizer(start: str | Path) -> Any:
    """Of a checkpoint. Raises ValueError where it comes with code of its own, which is never run."""
    # Not told, transformers asks on the terminal, or takes its answer from whatever is piped in.
    return AutoTokenizer.from_pretrained(start, trust_remote_code=False)


def from_qwen2_vl(qwen: Any, model_class: type[VambaForConditionalGeneration], seed: int) -> Any:
    """A Vamba that has all of ``qwen``'s weights; cross-attention begins as a copy of self-attention, mixers as Mamba-2
    does, alpha at one half. The added sizes are those of the released model."""
    theirs = qwen.config.to_dict()
    kept = ("text_config", "vision_config", "image_token_id", "video_token_id", "vision_start_token_id")
    sizes = {name: theirs[name] for name in (*kept, "vision_end_token_id", "tie_word_embeddings") if name in theirs}
    mixer = {**RELEASED["vision_mamba_mixer_config"], "hidden_dim": qwen.config.text_config.hidden_size}
    config = VambaConfig(**sizes, **{**RELEASED, "vision_mamba_mixer_config": mixer})
    config._attn_implementation = qwen.config._attn_implementation
    model = _initialised(model_class, config, seed)
    model.visual.load_state_dict(qwen.model.visual.state_dict())
    missing, unexpected = model.model.load_state_dict(qwen.model.language_model.state_dict(), strict=False)
    strange = [name for name in missing if not any(part in name for part in ("cross_attn", "vision_mixer", "alpha"))]
    if strange or unexpected:
        raise UserError(f"this Qwen2-VL does not fit Vamba: {', '.join([*strange, *unexpected][:3])}")
    model.lm_head.load_state_dict(qwen.lm_head.state_dict())
    with torch.no_grad():
        for layer in model.model.layers:
            layer.cross_attn.load_state_dict(layer.self_attn.state_dict())
    model.generation_config = GenerationConfig(
        **{name: getattr(qwen.generation_config, name) for name in _transformers.TOKEN_IDS}
    )
    return model


def init_mixer(mixer: Mamba2Mixer, layers: int, std: float) -> None:
    """Random weights as the reference draws them: PyTorch's own for the convolution, ``out_proj`` scaled down by the
    root of the number of layers, ``in_proj`` normal with the text model's ``std``; A, dt and D as Mamba-2's."""
    mixer.init_weights()
    mixer.conv1d.reset_parameters()
    with torch.no_grad():
        nn.init.normal_(mixer.in_proj.weight, std=std)
        nn.init.kaiming_uniform_(mixer.out_proj.weight, a=math.sqrt(5))
        mixer.out_proj.weight.div_(math.sqrt(layers))


def save(model: Any, processor: VambaProcessor, folder: Path, state: dict[str, Any] | None, dtype: torch.dtype) -> None:
    """The checkpoint in the released layout, its weights in ``dtype``.

    state   of all weights by name, where the model itself does not hold them whole
    """
    weights = {name: tensor.to(dtype) for name, tensor in (state or model.state_dict()).items()}
    model.save_pretrained(folder, state_dict=weights)
    config = released_config(model.config, dtype)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    processor.save_pretrained(folder)


def _weights(start: str) -> _transformers.Weights:
    """Float32: a learning rate of 1e-5 changes no bfloat16 weight."""
    return _transformers.choose_weights(
        pretrained=start,
        revision=None,
        device="cpu",
        dtype="float32",
        device_map=None,
        attn_implementation="sdpa",
        random=None,
        seed=0,
    )


def _initialised(model_class: type[VambaForConditionalGeneration], config: VambaConfig, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config)
        text = config.text_config
        for module in model.modules():
            if isinstance(module, Mamba2Mixer):
                init_mixer(module, text.num_hidden_layers, text.initializer_range)
    return model


def _flat(values: dict[str, Any], vocabulary: int, ids: dict[str, Any]) -> dict[str, Any]:
    """A configuration with its text model's sizes at the top, as released, and what follows from others filled in."""
    flat = {"vocab_size": vocabulary, "rope_theta": 1e6, **ids, **values, **values.get("text_config", {})}
    flat.pop("text_config", None)
    if "rope_scaling" not in flat and "rope_parameters" not in flat:
        half = flat["hidden_size"] // flat["num_attention_heads"] // 2
        rest = half * 3 // 8  # the released split of the axes is 16, 24, 24 of 64
        flat["rope_scaling"] = {"type": "mrope", "mrope_section": [half - 2 * rest, rest, rest]}
    return flat


def _random(file: Path, model_class: type[VambaForConditionalGeneration], seed: int) -> tuple[Any, VambaProcessor]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is no configuration that can be read: {error}") from error
    if not isinstance(values, dict) or "vision_mamba_mixer_config" not in values:
        raise UserError(f"{file} is no configuration of Vamba: it has no vision_mamba_mixer_config")
    own = (file.parent / "tokenizer.json").exists()
    try:
        tokenizer: Any = read_tokenizer(file.parent) if own else _random_weights.tiny_tokenizer()
    except (OSError, ValueError) as error:
        raise UserError(f"the tokenizer beside {file} cannot be loaded: {first_line(error)}") from error
    settings = PixelSettings()
    if (beside := file.parent / SETTINGS_FILE).exists():
        settings = PixelSettings.from_dict(json.loads(beside.read_text(encoding="utf-8")))
    tokens = _random_weights.tiny_sizes(tokenizer)
    ids = {name: token for name, token in {**tokens, **tokens["text_config"]}.items() if name.endswith("_token_id")}
    try:
        config = VambaConfig.from_dict(_flat(values, len(tokenizer), ids))
        if config.text_config.vocab_size < len(tokenizer):
            raise ValueError(f"vocab_size {config.text_config.vocab_size} is below the tokenizer's {len(tokenizer)}")
        model = _initialised(model_class, config, seed)
    except (TypeError, ValueError, KeyError, RuntimeError, ArithmeticError) as error:
        raise UserError(f"no model can be made of {file}: {error}") from error
    vision: Any = config.vision_config
    settings = replace(
        settings,
        patch_size=vision.patch_size,
        temporal_patch_size=vision.temporal_patch_size,
        merge_size=vision.spatial_merge_size,
    )
    end, pad = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=pad)
    return model, VambaProcessor(tokenizer, settings)

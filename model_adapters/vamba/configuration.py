"""Configuration of Vamba: Qwen2-VL's, plus the few switches of the video stream.

The released `config.json` calls itself `qwen2_vl` and is flat, as transformers 4.44 wrote it. It is read as
it is and becomes a `vamba` configuration, so that nothing transformers registers for Qwen2-VL applies to
Vamba's weights.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any

from transformers import AutoConfig, Qwen2VLConfig

VAMBA_KEYS = (
    "vision_mamba_mixer_config",
    "use_alpha_balancing",
    "cross_attn_use_position_embeddings",
    "cross_attn_use_layer_norm",
    "distill_coeff",
)


@dataclass(frozen=True)
class MixerConfig:
    """Sizes and switches of the Mamba-2 mixers, all layers alike.

    Names and defaults are those of the released checkpoint format: a key that its `vision_mamba_mixer_config`
    leaves out has the value below. (The fields after `chunk_size` only matter for random initialisation.)

    Raises:
        ValueError: for sizes that do not divide as heads and groups need it, or an unknown `norm_type`.
    """

    enable: bool = False
    hidden_dim: int = 3584
    norm_type: str = "rmsnorm"
    d_state: int = 128
    d_conv: int = 4
    expand: int = 2
    headdim: int = 64
    d_ssm: int | None = None
    ngroups: int = 1
    D_has_hdim: bool = False
    rmsnorm: bool = True
    norm_before_gate: bool = False
    dt_limit: tuple[float, float] = (0.0, float("inf"))
    bias: bool = False
    conv_bias: bool = True
    chunk_size: int = 256
    A_init_range: tuple[float, float] = (1.0, 16.0)
    dt_min: float = 0.001
    dt_max: float = 0.1
    dt_init_floor: float = 1e-4

    def __post_init__(self) -> None:
        if self.norm_type not in ("rmsnorm", "layernorm"):
            raise ValueError(f"norm_type must be 'rmsnorm' or 'layernorm', not {self.norm_type!r}")
        if self.scan_width % self.headdim or self.scan_width % self.ngroups or self.num_heads % self.ngroups:
            raise ValueError(
                f"the mixer's scan width {self.scan_width} must divide into heads of {self.headdim}, "
                f"and those into {self.ngroups} groups"
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any], hidden_size: int) -> MixerConfig:
        """From a `vision_mamba_mixer_config`; keys that only training knows are passed over."""
        known = {field.name for field in fields(cls)}
        kept: dict[str, Any] = {"hidden_dim": hidden_size}
        kept |= {key: tuple(v) if isinstance(v, list) else v for key, v in values.items() if key in known}
        return cls(**kept)

    @property
    def inner_width(self) -> int:
        """Channels between `in_proj` and `out_proj`."""
        return self.expand * self.hidden_dim

    @property
    def scan_width(self) -> int:
        """Channels that go through the scan: all of them, unless `d_ssm` leaves some to a gated MLP."""
        return self.inner_width if self.d_ssm is None else self.d_ssm

    @property
    def num_heads(self) -> int:
        return self.scan_width // self.headdim

    @property
    def conv_width(self) -> int:
        """Channels of the convolution: x, B and C side by side."""
        return self.scan_width + 2 * self.ngroups * self.d_state

    @property
    def projected_width(self) -> int:
        """Channels that `in_proj` puts out."""
        return 2 * self.inner_width + 2 * self.ngroups * self.d_state + self.num_heads


# TIGER-Lab/Vamba-Qwen2-VL-7B's config.json, beside Qwen2-VL-7B's sizes.
RELEASED: dict[str, Any] = {
    "use_alpha_balancing": True,
    "cross_attn_use_position_embeddings": False,
    "cross_attn_use_layer_norm": False,
    "vision_mamba_mixer_config": {
        "enable": True,
        "hidden_dim": 3584,
        "d_state": 128,
        "d_conv": 4,
        "expand": 2,
        "headdim": 64,
        "ngroups": 1,
        "chunk_size": 256,
    },
}

# The same for a small model that has something of everything.
SMALL: dict[str, Any] = {
    "use_alpha_balancing": True,
    "vision_mamba_mixer_config": {"enable": True, "hidden_dim": 64, "d_state": 16, "headdim": 16},
}


class VambaConfig(Qwen2VLConfig):
    """Qwen2-VL's configuration and what Vamba adds to it.

    Args:
        use_alpha_balancing: weigh self-attention by a learned alpha and cross-attention by 1 - alpha.
        cross_attn_use_position_embeddings: rotate cross-attention's queries by text positions and its keys by
            the (t, h, w) of the merged patch grid.
        cross_attn_use_layer_norm: send the video stream through each layer's `input_layernorm`.
        distill_coeff: weight of a training loss; of no effect here, kept for the round trip.
        vision_mamba_mixer_config: the mixers, as in the released file; `mixer` is the typed view of it.

    Raises:
        ValueError: when read from the configuration of a plain Qwen2-VL, which has none of these keys.
    """

    model_type = "vamba"

    text_config: Any = None
    vision_config: Any = None
    use_alpha_balancing: bool = False
    cross_attn_use_position_embeddings: bool = False
    cross_attn_use_layer_norm: bool = False
    distill_coeff: float | int | None = 0.0
    vision_mamba_mixer_config: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        kwargs.pop("model_type", None)
        super().__post_init__(**kwargs)
        mixer = self.mixer
        if mixer.enable and mixer.hidden_dim != self.text_config.hidden_size:
            raise ValueError(
                f"the mixers' hidden_dim {mixer.hidden_dim} is not the text's hidden_size "
                f"{self.text_config.hidden_size}"
            )

    @property
    def mixer(self) -> MixerConfig:
        """`vision_mamba_mixer_config` with its defaults filled in."""
        return MixerConfig.from_dict(self.vision_mamba_mixer_config or {}, self.text_config.hidden_size)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        values, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        return _as_vamba(values), kwargs

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> VambaConfig:
        return super().from_dict(_as_vamba(config_dict), **kwargs)


# What transformers 4.44 wrote of the text model, at the top of a config.json.
_TEXT_KEYS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "hidden_act", "max_position_embeddings", "initializer_range", "rms_norm_eps", "use_cache"),
    *("use_sliding_window", "sliding_window", "max_window_layers", "attention_dropout", "bos_token_id", "eos_token_id"),
)
_VISION_KEYS = (
    *("depth", "embed_dim", "hidden_size", "hidden_act", "mlp_ratio", "num_heads", "in_channels", "patch_size"),
    *("spatial_merge_size", "temporal_patch_size"),
)


def released_config(config: VambaConfig, dtype: Any) -> dict[str, Any]:
    """The configuration as the released `config.json` writes it; `dtype` is the weights'."""
    text, vision, rope = config.text_config, config.vision_config, config.text_config.rope_parameters
    tokens = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        **{key: getattr(text, key) for key in _TEXT_KEYS},
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": list(rope["mrope_section"])},
        "tie_word_embeddings": config.tie_word_embeddings,
        **{key: getattr(config, key) for key in (*tokens, *VAMBA_KEYS)},
        "vision_config": {key: getattr(vision, key) for key in _VISION_KEYS},
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


# A saved checkpoint says "vamba": AutoTokenizer and its like ask what that is.
AutoConfig.register(VambaConfig.model_type, VambaConfig, exist_ok=True)


def _as_vamba(values: dict[str, Any]) -> dict[str, Any]:
    """The same configuration under Vamba's own model type."""
    if values.get("model_type") == "qwen2_vl" and not any(key in values for key in VAMBA_KEYS):
        raise ValueError(
            "this is a Qwen2-VL checkpoint without Vamba's weights (its configuration has none of "
            f"{', '.join(VAMBA_KEYS)}); use the adapter qwen2_vl"
        )
    return {**values, "model_type": "vamba"}

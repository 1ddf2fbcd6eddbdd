"""Tiny models of further architectures of transformers, in the form of `tiny_models`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import transformers as hf
from PIL import ImageFont
from tiny_models import (
    CLIP,
    CROPPED,
    EXPERTS,
    GEMMA3_NAMES,
    GEMMA4_NAMES,
    GEMMA_TURNS,
    GLM,
    GLM_CHAT,
    INTERN_NAMES,
    LINEAR,
    LLAVA_PROCESSOR,
    MROPE,
    PAD,
    QWEN,
    QWEN3_5_ROPE,
    QWEN3_TOWER,
    QWEN_CHAT,
    QWEN_TOWER,
    SIGHT,
    SIGLIP,
    SQUARE,
    Tiny,
    Tokens,
    chat,
    gemma_chat,
    llava_ids,
    qwen3,
    qwen_ids,
)

ALL_FRAMES = {"size": {"shortest_edge": 4096, "longest_edge": 25165824}}  # a budget of pixels of all frames together
# A budget that eight frames of 480x270 exceed, and four of 112x84 do not.
FEW_PIXELS = {"shortest_edge": 4096, "longest_edge": 100000}
MINI = ("<image>", "</image>", "<slice>", "</slice>", "<image_id>", "</image_id>", "<|image_pad|>", "<|video_pad|>")
MINI_NAMES = dict(
    zip(
        ("image_start", "image_end", "slice_start", "slice_end", "image_id_start", "image_id_end", "image", "video"),
        MINI,
        strict=True,
    )
)


def mini(kind: str) -> Tiny:
    """``kind`` is MiniCPMV4_6, MiniCPMV4_7 or MiniCPMOcr."""
    sizes = {"scale_resolution": 64, "patch_size": 14}
    family = {"MiniCPMV4_7": "MiniCPMV4_6"}.get(kind, kind)

    def processor(t: Any, c: str) -> Any:
        image = getattr(hf, f"{family}ImageProcessor")(**sizes)
        video = getattr(hf, f"{family}VideoProcessor")(**sizes)
        return getattr(hf, f"{kind}Processor")(image, video, t, chat_template=c)

    def config(t: Tokens) -> Any:
        return getattr(hf, f"{kind}Config")(
            text_config=t.text(model_type="qwen3_5_text", rope_parameters=QWEN3_5_ROPE, **LINEAR),
            vision_config={**SIGHT, "image_size": 980, "patch_size": 14, "insert_layer_id": 0},
            insert_layer_id=0,
            patch_size=14,
            image_token_id=t["<|image_pad|>"],
            video_token_id=t["<|video_pad|>"],
        )

    return Tiny(
        chat("<|image_pad|>\n", "<|video_pad|>\n"),
        processor,
        config,
        (),
        {f"{name}_token": token for name, token in MINI_NAMES.items()},
    )


ERNIE_SIZE = {"shortest_edge": 4 * 28 * 28, "longest_edge": 1196 * 28 * 28}


def font() -> str:
    """A file of the font that Pillow brings, for a processor that draws."""
    file = Path(tempfile.mkdtemp()) / "font.ttf"
    file.write_bytes(ImageFont.load_default(10).font_bytes)
    return str(file)


ERNIE_NAMES = {
    **{"image_token": "<|IMAGE_PLACEHOLDER|>", "image_start_token": "<|IMAGE_START|>"},
    **{"image_end_token": "<|IMAGE_END|>", "video_token": "<|VIDEO_PLACEHOLDER|>"},
    **{"video_start_token": "<|VIDEO_START|>", "video_end_token": "<|VIDEO_END|>"},
}
MUSE = (
    "<|patch|>",
    "<|image_start|>",
    "<|image_end|>",
    "<|video|>",
    "<|vid_frame_separator|>",
    "<|vid_start|>",
    "<|vid_end|>",
)
MINIMAX = ("]<]image[>[", "]<]video[>[", "]<]start of image[>[", "]<]end of image[>[")
COMPASS = ("<|IMAGE_PAD|>", "<|VIDEO_PAD|>", "<|VISION_START|>", "<|VISION_END|>")


def glm_ids(t: Tokens) -> dict[str, int]:
    names = ("image_token_id", "video_token_id", "image_start_token_id", "image_end_token_id")
    names = (*names, "video_start_token_id", "video_end_token_id")
    return {name: t[token] for name, token in zip(names, GLM, strict=True)}


OMNI_NAMES = {
    **{"image_token": "<|image_pad|>", "video_token": "<|video_pad|>", "audio_token": "<|audio_pad|>"},
    **{"vision_bos_token": "<|vision_start|>", "vision_eos_token": "<|vision_end|>"},
    **{"audio_bos_token": "<|audio_start|>", "audio_eos_token": "<|audio_end|>"},
}


def omni(kind: str) -> Tiny:
    """The thinker of ``kind``, Qwen2_5Omni or Qwen3OmniMoe: it sees, hears and writes, and does not speak."""
    third = kind == "Qwen3OmniMoe"
    size = {"shortest_edge": 4 * 28 * 28, "longest_edge": 768 * 28 * 28}
    patch = {"patch_size": 16} if third else {}
    tower = (
        {**QWEN3_TOWER, "deepstack_visual_indexes": [0, 1]} if third else {**QWEN_TOWER, "fullatt_block_indexes": [1]}
    )
    audio = {"d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, "output_dim": 64}
    suffix = "id" if third else "index"

    def config(t: Tokens) -> Any:
        more = {"head_dim": 16, **EXPERTS} if third else {}
        media = {f"{name}_token_{suffix}": t[f"<|{name}_pad|>"] for name in ("image", "video", "audio")}
        return getattr(hf, f"{kind}ThinkerConfig")(
            text_config=t.text(rope_parameters=MROPE, **more),
            vision_config=tower if third else {**tower, "window_size": 56},
            audio_config={**audio, "downsample_hidden_size": 8} if third else audio,
            vision_start_token_id=t["<|vision_start|>"],
            audio_start_token_id=t["<|audio_start|>"],
            **media,
        )

    return Tiny(
        QWEN_CHAT,
        lambda t, c: getattr(hf, f"{kind}Processor")(
            hf.Qwen2VLImageProcessor(**patch),
            hf.Qwen2VLVideoProcessor(size=size, **patch),
            hf.WhisperFeatureExtractor(feature_size=128),
            t,
            chat_template=c,
        ),
        config,
        QWEN,
        OMNI_NAMES,
    )


GLM_TOKENS = (*GLM, "[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>")

FURTHER: dict[str, Tiny] = {
    "qwen4_exp": qwen3(
        lambda t: hf.Qwen4ExpConfig(
            text_config=t.text(
                rope_parameters=QWEN3_5_ROPE,
                **LINEAR,
                **EXPERTS,
                shared_expert_intermediate_size=32,
                hc_count=2,
                hc_lowrank=16,
                indexer_n_heads=2,
                indexer_kv_heads=1,
                indexer_head_dim=16,
                indexer_budget=32,
                indexer_compress_ratio=4,
            ),
            vision_config=QWEN3_TOWER,
            **qwen_ids(t),
        )
    ),
    "ernie4_5_vl_moe": Tiny(
        chat(
            "Picture 1:<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
            "Video 1:<|VIDEO_START|><|VIDEO_PLACEHOLDER|><|VIDEO_END|>",
        ),
        lambda t, c: hf.Ernie4_5_VLMoeProcessor(
            hf.Ernie4_5_VLMoeImageProcessor(size=ERNIE_SIZE),
            t,
            hf.Ernie4_5_VLMoeVideoProcessor(size=ERNIE_SIZE, font=font()),
            chat_template=c,
        ),
        lambda t: hf.Ernie4_5_VLMoeConfig(
            text_config=t.text(
                head_dim=16,
                rope_parameters={"rope_type": "default", "rope_theta": 5e5, "mrope_section": [3, 3, 2]},
                moe_intermediate_size=[32, 16],
                moe_k=2,
                moe_num_experts=4,
                moe_num_shared_experts=1,
                mlp_layer_types=["dense", "sparse"],
            ),
            vision_config={"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2},
            **{f"{name}_id": t[token] for name, token in ERNIE_NAMES.items()},
        ),
        (),
        ERNIE_NAMES,
    ),
    "minicpmv4_6": mini("MiniCPMV4_6"),
    "minicpm_ocr": mini("MiniCPMOcr"),
    "glm5_next": Tiny(
        GLM_CHAT,
        lambda t, c: hf.Glm5NextProcessor(
            hf.Glm5NextImageProcessor(), t, hf.Glm5NextVideoProcessor(max_image_tokens=64), chat_template=c
        ),
        lambda t: hf.Glm5NextConfig(
            text_config=t.text(
                num_hidden_layers=4,
                num_key_value_heads=4,
                moe_intermediate_size=32,
                n_routed_experts=4,
                num_experts_per_tok=2,
                kv_lora_rank=16,
                q_lora_rank=16,
                qk_nope_head_dim=16,
                v_head_dim=16,
                index_topk=32,
                index_head_dim=16,
                index_n_heads=2,
                index_kpool=4,
                linear_head_dim=16,
                linear_num_heads=4,
                hc_mult=2,
                mlp_layer_types=["dense", "sparse", "sparse", "sparse"],
            ),
            vision_config={**QWEN_TOWER, "projection_intermediate_size": 64},
            **glm_ids(t),
        ),
        GLM_TOKENS,
    ),
    "glmga": Tiny(
        GLM_CHAT,
        lambda t, c: hf.Glm46VProcessor(hf.GlmgaImageProcessor(), t, hf.GlmgaVideoProcessor(), chat_template=c),
        lambda t: hf.GlmgaConfig(
            text_config=t.text(
                model_type="glm4v_text",
                rope_parameters={**MROPE, "mrope_section": [1, 1, 2], "partial_rotary_factor": 0.5},
            ),
            vision_config=QWEN_TOWER,
            **glm_ids(t),
        ),
        GLM_TOKENS,
    ),
    "muse_glimmer": Tiny(
        chat("<|patch|>", "<|video|>"),
        lambda t, c: hf.MuseGlimmerProcessor(
            hf.MuseGlimmerImageProcessor(), hf.MuseGlimmerVideoProcessor(), t, chat_template=c
        ),
        lambda t: hf.MuseGlimmerConfig(
            text_config=t.text(
                head_dim=16,
                num_hidden_layers=4,
                sliding_window=32,
                layer_types=["sliding_attention", "full_attention"] * 2,
                layer_rope_theta=[1e4, 0] * 2,
            ),
            vision_config={**SIGHT, "layer_types": ["window_attention", "full_attention"]},
            out_hidden_size=128,
            projector_hidden_size=64,
            image_token_id=t["<|patch|>"],
            video_token_id=t["<|video|>"],
        ),
        MUSE,
    ),
    "minimax_m3_vl": Tiny(
        chat("]<]image[>[", "]<]video[>["),
        lambda t, c: hf.MiniMaxM3VLProcessor(
            hf.MiniMaxM3VLImageProcessor(), t, hf.MiniMaxM3VLVideoProcessor(max_pixels=64 * 784), chat_template=c
        ),
        lambda t: hf.MiniMaxM3VLConfig(
            text_config=t.text(
                head_dim=16,
                num_hidden_layers=3,
                intermediate_size=32,
                num_experts_per_tok=2,
                num_local_experts=4,
                dense_intermediate_size=64,
                shared_intermediate_size=32,
                rotary_dim=8,
                mlp_layer_types=["dense", "sparse", "sparse"],
                layer_types=["full_attention", "minimax_m3_sparse", "minimax_m3_sparse"],
                index_n_heads=2,
                index_head_dim=16,
                index_block_size=16,
                index_topk_blocks=2,
            ),
            vision_config=SIGHT,
            projector_hidden_size=64,
            merged_hidden_size=256,
            image_token_index=t["]<]image[>["],
            video_token_index=t["]<]video[>["],
        ),
        MINIMAX,
    ),
    "cosmos3_edge": Tiny(
        QWEN_CHAT,
        lambda t, c: hf.Cosmos3EdgeProcessor(
            hf.Cosmos3EdgeImageProcessor(), t, hf.Cosmos3EdgeVideoProcessor(size=FEW_PIXELS), chat_template=c
        ),
        lambda t: hf.Cosmos3EdgeConfig(
            text_config=t.text(head_dim=16, rope_parameters=MROPE),
            vision_config={**SIGHT, "patch_size": 16, "num_patches": 64},
            projector_hidden_size=64,
            **qwen_ids(t),
        ),
        QWEN,
    ),
    "cosmos3_omni": qwen3(
        lambda t: hf.Cosmos3OmniConfig(
            text_config=t.text(model_type="qwen3_vl_text", rope_parameters=MROPE, head_dim=16),
            vision_config={**QWEN3_TOWER, "model_type": "qwen3_vl_vision", "deepstack_visual_indexes": [0, 1]},
            **qwen_ids(t),
        )
    ),
    "exaone4_5": Tiny(
        QWEN_CHAT,
        lambda t, c: hf.Exaone4_5_Processor(
            hf.Qwen2VLImageProcessor(),
            t,
            hf.Qwen2VLVideoProcessor(size={"shortest_edge": 4 * 28 * 28, "longest_edge": 768 * 28 * 28}),
            chat_template=c,
        ),
        lambda t: hf.Exaone4_5_Config(
            text_config=t.text(
                model_type="exaone4",
                num_hidden_layers=4,
                sliding_window=32,
                layer_types=["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
            ),
            vision_config={**QWEN_TOWER, "num_key_value_heads": 1, "fullatt_block_indexes": [1], "window_size": 56},
            image_token_id=t["<|image_pad|>"],
            video_token_id=t["<|video_pad|>"],
        ),
        QWEN,
    ),
    "cohere_compass": Tiny(
        chat("<|VISION_START|><|IMAGE_PAD|><|VISION_END|>", "<|VISION_START|><|VIDEO_PAD|><|VISION_END|>"),
        lambda t, c: hf.CohereCompassProcessor(
            hf.CohereCompassImageProcessor(patch_size=16), t, hf.CohereCompassVideoProcessor(), chat_template=c
        ),
        lambda t: hf.CohereCompassConfig(
            text_config=t.text(
                head_dim=16,
                num_hidden_layers=4,
                sliding_window=32,
                layer_types=["sliding_attention", "full_attention"] * 2,
                rope_parameters={
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
                    "full_attention": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
                },
            ),
            vision_config={**QWEN3_TOWER, "deepstack_visual_indexes": [0, 1]},
            image_token_id=t["<|IMAGE_PAD|>"],
            video_token_id=t["<|VIDEO_PAD|>"],
            vision_start_token_id=t["<|VISION_START|>"],
            vision_end_token_id=t["<|VISION_END|>"],
        ),
        COMPASS,
    ),
    "lfm3_vl": Tiny(
        QWEN_CHAT,
        lambda t, c: hf.Lfm3VlProcessor(
            hf.Qwen2VLImageProcessor(patch_size=16), t, hf.Qwen3VLVideoProcessor(**ALL_FRAMES), chat_template=c
        ),
        lambda t: hf.Lfm3VlConfig(
            text_config=t.text(
                model_type="lfm3",
                head_dim=16,
                num_hidden_layers=4,
                conv_L_cache=4,
                sliding_window=32,
                layer_types=["conv", "full_attention", "conv", "sliding_attention"],
            ),
            vision_config={**SIGHT, "num_key_value_heads": 1, "layer_types": ["conv", "full_attention"]},
            projector_hidden_size=64,
            **qwen_ids(t),
        ),
        QWEN,
    ),
    "gemma4_unified": Tiny(
        gemma_chat("<|image|>", "<|video|>"),
        lambda t, c: hf.Gemma4UnifiedProcessor(
            feature_extractor=hf.Gemma4UnifiedAudioFeatureExtractor(),
            image_processor=hf.Gemma4UnifiedImageProcessor(max_soft_tokens=70),
            tokenizer=t,
            video_processor=hf.Gemma4UnifiedVideoProcessor(),
            chat_template=c,
        ),
        lambda t: hf.Gemma4UnifiedConfig(
            text_config=t.text(
                head_dim=16,
                pad_token_id=t[PAD],
                sliding_window=32,
                num_hidden_layers=4,
                layer_types=["sliding_attention", "full_attention"] * 2,
            ),
            vision_config={},
            audio_config=None,
            boi_token_id=t["<|image>"],
            eoi_token_id=t["<image|>"],
            image_token_id=t["<|image|>"],
            video_token_id=t["<|video|>"],
            audio_token_id=t["<|audio|>"],
        ),
        GEMMA_TURNS,
        GEMMA4_NAMES,
        "<bos>",
    ),
    "minicpmv4_7": mini("MiniCPMV4_7"),
    "nemotron_h_omni": Tiny(
        chat("<image>", "<video>\n"),
        lambda t, c: hf.NemotronH_Omni_Reasoning_V3Processor(
            hf.NemotronH_Omni_Reasoning_V3ImageProcessor(norm_mean=[0.5] * 3, norm_std=[0.5] * 3, min_num_patches=16),
            hf.NemotronH_Omni_Reasoning_V3VideoProcessor(
                norm_mean=[0.5] * 3, norm_std=[0.5] * 3, video_target_num_patches=48
            ),
            t,
            hf.ParakeetFeatureExtractor(),
            chat_template=c,
        ),
        lambda t: hf.NemotronH_Omni_Reasoning_V3_Config(
            vision_config={
                **{"model_type": "radio", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
                **{"image_size": 64, "max_img_size": 256, "num_registers": 1, "num_cls_tokens": 1, "summary_idxs": [0]},
                "video_temporal_patch_size": 2,
            },
            text_config=t.text(
                model_type="nemotron_h",
                pad_token_id=t[PAD],
                num_hidden_layers=4,
                layers_block_type=["linear_attention", "moe", "full_attention", "mlp"],
                head_dim=16,
                ssm_state_size=16,
                mamba_num_heads=4,
                mamba_head_dim=16,
                n_groups=2,
                chunk_size=16,
                use_mamba_kernels=False,
                n_routed_experts=4,
                moe_intermediate_size=32,
                moe_shared_expert_intermediate_size=32,
            ),
            audio_config=None,
            vision_hidden_size=32,
            projector_hidden_size=64,
            image_token_id=t["<image>"],
            video_token_id=t["<video>"],
        ),
        ("<image>", "<video>", "<img>", "</img>", "<so_embedding>", "<so_start>", "<so_end>"),
    ),
    "hy_v4_vl": Tiny(
        chat("<|image_start|><|image_pad|><|image_end|>", "<|video_start|><|video_pad|><|video_end|>"),
        lambda t, c: hf.HYV4VLProcessor(
            hf.HYV4VLImageProcessor(size={"shortest_edge": 64 * 64, "longest_edge": 2048 * 2048}),
            t,
            hf.HYV4VLVideoProcessor(size=FEW_PIXELS, max_image_size={"longest_edge": 128 * 128}),
            chat_template=c,
        ),
        lambda t: hf.HYV4VLConfig(
            text_config=t.text(
                moe_intermediate_size=32,
                num_key_value_heads=4,
                head_dim=8,
                n_routed_experts=4,
                num_experts_per_tok=2,
                q_lora_rank=16,
                kv_lora_rank=16,
                qk_nope_head_dim=8,
                qk_rope_head_dim=8,
                v_head_dim=16,
                mlp_layer_types=["dense", "sparse"],
                index_topk=32,
                index_head_dim=16,
                index_n_heads=16,
                indexer_types=["full", "shared"],
                hc_mult=2,
                rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
            ),
            vision_config={**SIGHT, "num_key_value_heads": 2, "out_hidden_size": 64, "max_image_size": 256},
            image_token_id=t["<|image_pad|>"],
            video_token_id=t["<|video_pad|>"],
        ),
        (*QWEN, "<|image_start|>", "<|image_end|>", "<|video_start|>", "<|video_end|>"),
    ),
    "hyperclovax_vision_v2": Tiny(
        chat("<|image_start|><|image_pad|><|image_end|>", "<|video_start|><|video_pad|><|video_end|>"),
        lambda t, c: hf.HyperCLOVAXVisionV2Processor(
            hf.Qwen2VLImageProcessor(),
            t,
            hf.Qwen2VLVideoProcessor(size={"shortest_edge": 4 * 28 * 28, "longest_edge": 768 * 28 * 28}),
            chat_template=c,
        ),
        lambda t: hf.HyperCLOVAXVisionV2Config(
            text_config=t.text(model_type="hyperclovax", head_dim=16),
            vision_config={
                **QWEN_TOWER,
                **{"model_type": "qwen2_5_vl_vision", "fullatt_block_indexes": [1], "window_size": 56},
            },
            image_token_id=t["<|image_pad|>"],
            video_token_id=t["<|video_pad|>"],
        ),
        (*QWEN, "<|image_start|>", "<|image_end|>", "<|video_start|>", "<|video_end|>", "<|video_duration|>"),
    ),
    "qwen2_5_omni_thinker": omni("Qwen2_5Omni"),
    "qwen3_omni_moe_thinker": omni("Qwen3OmniMoe"),
    "muse_spark": Tiny(
        chat("<|patch|>", "<|video|>"),
        lambda t, c: hf.MuseSparkProcessor(
            hf.MuseGlimmerImageProcessor(),
            hf.MuseGlimmerVideoProcessor(),
            t,
            hf.MuseSparkFeatureExtractor(),
            chat_template=c,
        ),
        lambda t: hf.MuseSparkConfig(
            text_config=t.text(
                head_dim=16,
                num_hidden_layers=4,
                sliding_window=32,
                layer_types=["sliding_attention", "full_attention"] * 2,
                layer_rope_theta=[1e4, 0] * 2,
                moe_intermediate_size=32,
                moe_hidden_size=32,
                num_local_experts=4,
                num_experts_per_tok=2,
                mlp_layer_types=["dense", "sparse"] * 2,
            ),
            vision_config={**SIGHT, "layer_types": ["window_attention", "full_attention"]},
            audio_config={"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "out_hidden_size": 64},
            out_hidden_size=128,
            projector_hidden_size=64,
            image_token_id=t["<|patch|>"],
            video_token_id=t["<|video|>"],
            audio_token_id=t["<|audio|>"],
        ),
        (*MUSE, "<|audio|>", "<|soft_audio_start|>", "<|soft_audio_end|>"),
    ),
    "dots3_note": Tiny(
        chat("<|img|><|imgpad|><|endofimg|>", "<|vision_start|><|video_pad|><|vision_end|>"),
        lambda t, c: hf.Dots3NoteProcessor(
            hf.Qwen2VLImageProcessor(temporal_patch_size=1),
            t,
            hf.Qwen3VLVideoProcessor(patch_size=14, temporal_patch_size=1, **ALL_FRAMES),
            hf.Dots3NoteFeatureExtractor(),
            chat_template=c,
        ),
        lambda t: hf.Dots3NoteConfig(
            text_config=t.text(
                num_key_value_heads=4,
                num_hidden_layers=3,
                moe_intermediate_size=32,
                shared_experts_intermediate_size=32,
                n_routed_experts=4,
                num_experts_per_tok=2,
                kv_lora_rank=16,
                q_lora_rank=16,
                qk_rope_head_dim=8,
                qk_nope_head_dim=8,
                v_head_dim=16,
                head_dim=16,
                index_topk=32,
                index_head_dim=16,
                index_n_heads=16,
                sliding_window=32,
                swa_num_attention_heads=4,
                swa_num_key_value_heads=4,
                swa_q_lora_rank=16,
                swa_kv_lora_rank=16,
                swa_head_dim=16,
                swa_qk_nope_head_dim=8,
                swa_v_head_dim=16,
            ),
            vision_config={
                **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
                **{"moe_intermediate_size": 32, "mlp_layer_types": ["dense", "sparse"], "num_local_experts": 4},
                **{"adapter_in_dim": 32, "adapter_out_dim": 64},
            },
            audio_config={
                **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2},
                **{"downsample_hidden_size": 8, "adapter_input_size": 32, "adapter_out_dim": 64},
            },
            image_token_id=t["<|imgpad|>"],
            video_token_id=t["<|video_pad|>"],
            audio_token_id=t["<|audio_comp_pad|>"],
        ),
        (*QWEN, "<|img|>", "<|imgpad|>", "<|endofimg|>", "<|audio_comp_pad|>"),
    ),
    # Pictures alone.
    "cohere2_vision": Tiny(
        chat("<|IMG_PATCH|>"),
        lambda t, c: hf.Cohere2VisionProcessor(
            hf.Cohere2VisionImageProcessor(**SQUARE, patch_size=2, max_patches=2), t, chat_template=c
        ),
        lambda t: hf.Cohere2VisionConfig(
            text_config=t.text(model_type="cohere2", sliding_window=32, num_hidden_layers=4, head_dim=16),
            vision_config=SIGLIP,
            downsample_factor=2,
            alignment_intermediate_size=64,
            image_token_id=t["<|IMG_PATCH|>"],
        ),
        (),
        {
            **{"image_token": "<|IMG_PATCH|>", "boi_token": "<|START_OF_IMG|>", "eoi_token": "<|END_OF_IMG|>"},
            "img_line_break_token": "<|IMG_LINE_BREAK|>",
        },
    ),
    "deepseek_vl": Tiny(
        chat("<image_placeholder>"),
        lambda t, c: hf.DeepseekVLProcessor(
            hf.DeepseekVLImageProcessor(**SQUARE, min_size=14), t, num_image_tokens=16, chat_template=c
        ),
        lambda t: hf.DeepseekVLConfig(
            text_config=t.text(model_type="llama"), vision_config=SIGLIP, image_token_id=t["<image_placeholder>"]
        ),
        (),
        {"image_token": "<image_placeholder>"},
    ),
    "deepseek_vl_hybrid": Tiny(
        chat("<image_placeholder>"),
        lambda t, c: hf.DeepseekVLHybridProcessor(
            hf.DeepseekVLHybridImageProcessor(**SQUARE, high_res_size={"height": 128, "width": 128}, min_size=14),
            t,
            num_image_tokens=16,
            chat_template=c,
        ),
        lambda t: hf.DeepseekVLHybridConfig(
            text_config=t.text(model_type="llama"),
            vision_config=SIGLIP,
            high_res_vision_config={
                **{
                    "model_type": "sam_vision_model",
                    "hidden_size": 32,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 2,
                },
                **{"image_size": 128, "patch_size": 16, "window_size": 4, "global_attn_indexes": [1]},
                **{"mlp_dim": 64, "output_channels": 16, "num_pos_feats": 8},
            },
            image_token_id=t["<image_placeholder>"],
        ),
        (),
        {"image_token": "<image_placeholder>"},
    ),
    "janus": Tiny(
        chat("<image_placeholder>\n"),
        lambda t, c: hf.JanusProcessor(
            hf.JanusImageProcessor(**SQUARE, min_size=14), t, num_image_tokens=16, chat_template=c
        ),
        lambda t: hf.JanusConfig(
            text_config=t.text(model_type="llama"),
            vision_config={
                **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56},
                **{"patch_size": 14, "mlp_ratio": 2.0, "projection_dim": 64, "num_image_tokens": 16},
            },
            vq_config={
                **{"embed_dim": 4, "num_embeddings": 16, "latent_channels": 8, "base_channels": 32},
                **{"channel_multiplier": [1], "num_res_blocks": 1, "projection_dim": 64, "image_token_embed_dim": 64},
            },
            image_token_id=t["<image_placeholder>"],
        ),
        (),
        {"image_token": "<image_placeholder>", "boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"},
    ),
    "gemma3n": Tiny(
        gemma_chat("<image_soft_token>"),
        lambda t, c: hf.Gemma3nProcessor(
            hf.Gemma3nAudioFeatureExtractor(),
            hf.SiglipImageProcessor(size={"height": 64, "width": 64}),
            t,
            image_seq_length=4,
            chat_template=c,
        ),
        lambda t: hf.Gemma3nConfig(
            text_config=t.text(
                head_dim=16,
                pad_token_id=t[PAD],
                num_hidden_layers=5,
                intermediate_size=128,
                sliding_window=32,
                layer_types=["sliding_attention", "full_attention", "sliding_attention"] * 1
                + ["sliding_attention", "full_attention"],
                vocab_size_per_layer_input=len(t),
                hidden_size_per_layer_input=8,
                num_kv_shared_layers=2,
                laurel_rank=8,
                altup_num_inputs=2,
                activation_sparsity_pattern=[0.0] * 5,
            ),
            vision_config={
                **{
                    "architecture": "mobilenetv3_small_050",
                    "hidden_size": 288,
                    "vocab_offset": len(t),
                    "vocab_size": 8,
                },
            },
            audio_config={
                **{"hidden_size": 32, "conf_num_attention_heads": 2, "conf_num_hidden_layers": 1},
                **{"sscp_conv_channel_size": [8, 8], "vocab_offset": len(t) + 8, "vocab_size": 8},
            },
            vision_soft_tokens_per_image=4,
            boi_token_id=t["<start_of_image>"],
            eoi_token_id=t["<end_of_image>"],
            image_token_id=t["<image_soft_token>"],
            boa_token_id=t["<start_of_audio>"],
            eoa_token_id=t["<end_of_audio>"],
            audio_token_id=t["<audio_soft_token>"],
        ),
        GEMMA_TURNS,
        {
            **GEMMA3_NAMES,
            **{"audio_token": "<audio_soft_token>", "boa_token": "<start_of_audio>", "eoa_token": "<end_of_audio>"},
        },
        "<bos>",
    ),
    "llama4": Tiny(
        chat("<|image|>"),
        lambda t, c: hf.Llama4Processor(
            hf.Llama4ImageProcessor(**SQUARE, max_patches=1), t, patch_size=14, chat_template=c
        ),
        lambda t: hf.Llama4Config(
            text_config=t.text(
                head_dim=16,
                num_hidden_layers=4,
                intermediate_size_mlp=128,
                num_local_experts=4,
                moe_layers=[1],
                attention_chunk_size=64,
            ),
            vision_config={
                **SIGHT,
                **{"image_size": 56, "patch_size": 14, "vision_output_dim": 64},
                **{"intermediate_size": 128, "projector_input_dim": 64, "projector_output_dim": 64},
            },
            boi_token_index=t["<|image_start|>"],
            eoi_token_index=t["<|image_end|>"],
            image_token_index=t["<|patch|>"],
        ),
        (
            *("<|image|>", "<|patch|>", "<|image_start|>", "<|image_end|>", "<|tile_x_separator|>"),
            "<|tile_y_separator|>",
        ),
    ),
    "vipllava": Tiny(
        chat("<image>\n"),
        lambda t, c: hf.LlavaProcessor(hf.CLIPImageProcessor(**CROPPED), t, chat_template=c, **LLAVA_PROCESSOR),
        lambda t: hf.VipLlavaConfig(
            text_config=t.text(model_type="llama"),
            vision_config=CLIP,
            vision_feature_layers=[-2, -1],
            vision_feature_layer=[-2, -1],
            image_seq_length=16,
            **llava_ids(t, False),
        ),
        ("<image>",),
    ),
    "idefics2": Tiny(
        chat("<image>"),
        lambda t, c: hf.Idefics2Processor(
            hf.Idefics2ImageProcessor(size={"shortest_edge": 56, "longest_edge": 112}, do_image_splitting=False),
            t,
            image_seq_len=4,
            chat_template=c,
        ),
        lambda t: hf.Idefics2Config(
            text_config=t.text(model_type="mistral", head_dim=16, pad_token_id=t[PAD]),
            vision_config={**SIGHT, "image_size": 112, "patch_size": 14},
            perceiver_config={
                **{"hidden_size": 64, "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2},
                **{"resampler_head_dim": 16, "num_key_value_heads": 2},
            },
            image_token_id=t["<image>"],
        ),
        ("<image>", "<fake_token_around_image>", "<end_of_utterance>"),
    ),
    "aria": Tiny(
        chat("<fim_prefix><|img|><fim_suffix>"),
        lambda t, c: hf.AriaProcessor(
            hf.AriaImageProcessor(max_image_size=490, min_image_size=336),
            t,
            size_conversion={490: 8, 980: 16},
            chat_template=c,
        ),
        lambda t: hf.AriaConfig(
            text_config=t.text(model_type="aria_text", moe_num_experts=4, pad_token_id=t[PAD]),
            vision_config={**SIGHT, "model_type": "idefics3_vision", "image_size": 490, "patch_size": 70},
            projector_patch_to_query_dict={49: 8, 196: 16},
            image_token_index=t["<|img|>"],
        ),
        ("<fim_prefix>", "<fim_suffix>"),
        {"image_token": "<|img|>"},
    ),
    "phi4_multimodal": Tiny(
        chat("<|image|>"),
        lambda t, c: hf.Phi4MultimodalProcessor(
            hf.Phi4MultimodalImageProcessor(dynamic_hd=1),
            hf.Phi4MultimodalFeatureExtractor(),
            t,
            chat_template=c,
        ),
        lambda t: hf.Phi4MultimodalConfig(
            **t.text(pad_token_id=t[PAD]),
            vision_config={**SIGHT, "image_token_id": t["<|image|>"]},
            audio_config={
                **{"hidden_size": 32, "intermediate_size": 32, "num_blocks": 1, "num_attention_heads": 2},
                **{"ext_pw_out_channel": 32, "depthwise_separable_out_channel": 32, "nemo_conv_channels": 8},
                "audio_token_id": t["<|audio|>"],
            },
        ),
        (),
        {"image_token": "<|image|>", "audio_token": "<|audio|>"},
    ),
    "paddleocr_vl": Tiny(
        chat("<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>"),
        lambda t, c: hf.PaddleOCRVLProcessor(
            hf.PaddleOCRVLImageProcessor(size={"shortest_edge": 56 * 56, "longest_edge": 1280 * 28 * 28}),
            t,
            chat_template=c,
        ),
        lambda t: hf.PaddleOCRVLConfig(
            text_config=t.text(head_dim=16, pad_token_id=t[PAD], rope_parameters=MROPE),
            vision_config={**SIGHT, "image_size": 56, "patch_size": 14},
            image_token_id=t["<|IMAGE_PLACEHOLDER|>"],
            video_token_id=t["<|VIDEO_PLACEHOLDER|>"],
            vision_start_token_id=t["<|IMAGE_START|>"],
            vision_end_token_id=t["<|IMAGE_END|>"],
        ),
        ("<|IMAGE_START|>", "<|IMAGE_END|>", "<|VIDEO_PLACEHOLDER|>"),
        {"image_token": "<|IMAGE_PLACEHOLDER|>"},
    ),
    "lighton_ocr": Tiny(
        chat("<|image_pad|>"),
        lambda t, c: hf.LightOnOcrProcessor(
            hf.PixtralImageProcessor(size={"longest_edge": 1540}, patch_size=14),
            t,
            patch_size=14,
            spatial_merge_size=2,
            chat_template=c,
        ),
        lambda t: hf.LightOnOcrConfig(
            text_config=t.text(model_type="qwen3", head_dim=16),
            vision_config={**SIGHT, "model_type": "pixtral", "image_size": 1540, "patch_size": 14, "head_dim": 16},
            image_token_id=t["<|image_pad|>"],
        ),
        (),
        {"image_token": "<|image_pad|>", "image_break_token": "<|vision_pad|>", "image_end_token": "<|vision_end|>"},
    ),
    "mistral_large4": Tiny(
        chat("[IMG]"),
        lambda t, c: hf.PixtralProcessor(
            hf.PixtralImageProcessor(size={"longest_edge": 1540}, patch_size=14),
            t,
            patch_size=14,
            spatial_merge_size=2,
            chat_template=c,
        ),
        lambda t: hf.MistralLarge4Config(
            text_config=t.text(
                num_key_value_heads=4,
                moe_intermediate_size=32,
                n_routed_experts=4,
                num_experts_per_tok=2,
                kv_lora_rank=16,
                qk_rope_head_dim=8,
                qk_nope_head_dim=8,
                v_head_dim=16,
                head_dim=8,
                index_topk=32,
                index_head_dim=16,
                index_n_heads=16,
                rope_parameters={"rope_type": "default", "rope_theta": 1e4},
            ),
            vision_config={**SIGHT, "model_type": "pixtral", "image_size": 1540, "patch_size": 14, "head_dim": 16},
            image_token_index=t["[IMG]"],
            spatial_merge_size=2,
        ),
        ("[IMG]", "[IMG_BREAK]", "[IMG_END]"),
    ),
    "internvl_gpt_oss": Tiny(  # InternVL 3.5 with another text model: sliding windows with sinks
        chat("<IMG_CONTEXT>\n", "<video>\n"),
        lambda t, c: hf.InternVLProcessor(
            hf.GotOcr2ImageProcessor(**SQUARE),
            t,
            hf.InternVLVideoProcessor(**SQUARE),
            image_seq_length=4,
            chat_template=c,
        ),
        lambda t: hf.InternVLConfig(
            text_config=t.text(
                model_type="gpt_oss",
                head_dim=16,
                num_local_experts=4,
                num_experts_per_tok=2,
                sliding_window=32,
                num_hidden_layers=4,
            ),
            vision_config={**SIGHT, "image_size": [56, 56]},
            image_token_id=t["<IMG_CONTEXT>"],
            image_seq_length=4,
            tie_word_embeddings=False,
        ),
        ("<image>",),
        INTERN_NAMES,
    ),
    "granite4_vision": Tiny(
        chat("<image>\n"),
        lambda t, c: hf.Granite4VisionProcessor(
            hf.LlavaNextImageProcessor(**CROPPED, image_grid_pinpoints=[[56, 112], [112, 56], [112, 112]]),
            t,
            chat_template=c,
            downsample_rate="1/2",
            **LLAVA_PROCESSOR,
        ),
        lambda t: hf.Granite4VisionConfig(
            text_config=t.text(model_type="granite4_vision_text"),
            vision_config={**CLIP, "hidden_size": 64},
            qformer_config={
                **{"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
                "encoder_hidden_size": 64,
            },
            downsample_rate="1/2",
            deepstack_layer_map=[[-2, 0]],
            spatial_target_layers=[1, 1, 1, 1],
            image_grid_pinpoints=[[56, 112], [112, 56], [112, 112]],
            **llava_ids(t, False),
        ),
        ("<image>",),
    ),
    "glm_ocr": Tiny(
        GLM_CHAT,
        lambda t, c: hf.Glm46VProcessor(
            hf.Glm46VImageProcessor(),
            t,
            hf.Glm46VVideoProcessor(size={"shortest_edge": 112 * 112, "longest_edge": 47040000}),
            chat_template=c,
        ),
        lambda t: hf.GlmOcrConfig(
            text_config=t.text(
                head_dim=16,
                rope_parameters={**MROPE, "mrope_section": [2, 3, 3]},
            ),
            vision_config=QWEN_TOWER,
            **glm_ids(t),
        ),
        GLM_TOKENS,
    ),
    "hunyuan_vl": Tiny(
        chat("<|image_start|><|image_pad|><|image_end|>"),
        lambda t, c: hf.HunYuanVLProcessor(
            hf.HunYuanVLImageProcessor(size={"shortest_edge": 64 * 64, "longest_edge": 2048 * 2048}), t, chat_template=c
        ),
        lambda t: hf.HunYuanVLConfig(
            text_config=t.text(
                head_dim=16,
                rope_parameters={
                    "rope_type": "xdrope",
                    "rope_theta": 1e4,
                    "xdrope_section": [2, 2, 2, 2],
                    "alpha": 1000.0,
                    "factor": 1.0,
                },
            ),
            vision_config={
                **SIGHT,
                **{"num_key_value_heads": 2, "out_hidden_size": 64, "text_hidden_size": 64, "max_image_size": 256},
            },
            image_token_id=t["<|image_pad|>"],
            im_start_id=t["<|image_start|>"],
            im_end_id=t["<|image_end|>"],
            im_newline_id=t["<|image_newline|>"],
        ),
        ("<|image_newline|>",),
        {"image_token": "<|image_pad|>", "image_start_token": "<|image_start|>", "image_end_token": "<|image_end|>"},
    ),
    "step3p7": Tiny(
        chat("<im_patch>"),
        lambda t, c: hf.Step3p7Processor(
            hf.Step3p7ImageProcessor(size={"height": 112, "width": 112}, patch_size=56), t, chat_template=c
        ),
        lambda t: hf.Step3p7Config(
            text_config=t.text(
                model_type="step3p5",
                pad_token_id=t[PAD],
                head_dim=16,
                num_experts_per_tok=2,
                n_routed_experts=4,
                moe_intermediate_size=32,
                share_expert_dim=32,
                mlp_layer_types=["dense", "sparse"],
                num_sliding_attention_heads=4,
                num_hidden_layers=2,
                sliding_window=32,
                layer_types=["full_attention", "sliding_attention"],
                query_pre_attn_scalar=16,
            ),
            vision_config={
                **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
                **{"image_size": 112, "patch_size": 14, "mlp_ratio": 2.0, "max_position_embeddings": 64},
            },
            image_token_id=t["<im_patch>"],
        ),
        ("<im_patch>", "<patch_start>", "<patch_end>", "<patch_newline>", "<im_start>", "<im_end>"),
    ),
    "fast_vlm": Tiny(
        chat("<image>\n"),
        lambda t, c: hf.LlavaProcessor(
            hf.CLIPImageProcessor(size={"shortest_edge": 128}, crop_size={"height": 128, "width": 128}),
            t,
            patch_size=32,
            vision_feature_select_strategy="full",
            chat_template=c,
        ),
        lambda t: hf.FastVlmConfig(
            text_config=t.text(model_type="qwen2"),
            vision_config={
                "model_type": "timm_wrapper",
                "architecture": "fastvit_mci0",
                "do_pooling": True,
                "global_pool": "avg",
                "hidden_size": 1024,
                "model_args": {"inference_mode": True},
            },
            image_token_index=t["<image>"],
            image_seq_length=4,
        ),
        ("<image>",),
    ),
    "emu3": Tiny(
        chat("<image>"),
        lambda t, c: hf.Emu3Processor(
            hf.Emu3ImageProcessor(min_pixels=32 * 32, max_pixels=64 * 64), t, chat_template=c
        ),
        lambda t: hf.Emu3Config(
            text_config=t.text(pad_token_id=t[PAD], bos_token_id=t["<|begin|>"]),
            vq_config={
                **{"codebook_size": 16, "embed_dim": 4, "latent_channels": 4, "base_channels": 32},
                **{"channel_multiplier": [1, 1, 1, 1], "num_res_blocks": 1, "hidden_size": 32, "attn_resolutions": []},
            },
            vocabulary_map={
                **{f"<|visual token {n:06}|>": t[f"<|visual token {n:06}|>"] for n in range(16)},
                **{"<|extra_200|>": t["<|extra_200|>"], "<image>": t["<image>"]},
            },
            image_token_id=t["<image>"],
        ),
        (*(f"<|visual token {n:06}|>" for n in range(16)), "<|extra_200|>"),
        {
            **{"image_token": "<image>", "boi_token": "<|image start|>", "eoi_token": "<|image end|>"},
            **{"image_wrapper_token": "<|image token|>", "eof_token": "<|extra_201|>"},
        },
        "<|begin|>",
    ),
}

"""Tiny models of many architectures of transformers, with random weights, saved as checkpoints are published.

A `Tiny` says what is special about an architecture: its tokens, its chat template, its processor, its configuration.
Nothing is downloaded: each has a tokenizer of 256 bytes and its own tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoModelForMultimodalLM, PreTrainedTokenizerFast

END, PAD = "<|im_end|>", "<|endoftext|>"
TEXT = {
    **{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 8192, "bos_token_id": None},
    "pad_token_id": None,
}
SIGHT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}  # vision towers
SIGLIP = {**SIGHT, "model_type": "siglip_vision_model", "image_size": 56, "patch_size": 14, "vision_use_head": False}
CLIP = {**SIGHT, "model_type": "clip_vision_model", "num_hidden_layers": 3, "image_size": 56, "patch_size": 14}
SQUARE, CROPPED = (
    {"size": {"height": 56, "width": 56}},
    {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}},
)


def chat(image: str, video: str = "", begin: str = "<|im_start|>", end: str = END + "\n", first: str = "") -> str:
    """A chat template in which a picture and a video stand as given."""
    media = "".join(
        f"{{% elif part['type'] == '{kind}' %}}{text}" for kind, text in (("image", image), ("video", video)) if text
    )
    return (
        f"{first}{{% for message in messages %}}{begin}{{{{ message['role'] }}}}\n"
        "{% for part in message['content'] %}"
        f"{{% if part['type'] == 'text' %}}{{{{ part['text'] }}}}{media}{{% endif %}}{{% endfor %}}{end}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{begin}assistant\n{{% endif %}}"
    )


def thinking(template: str) -> str:
    """The template of a model that thinks unless told not to, as Qwen3-VL and Qwen3.5 have it."""
    ending = "{% if add_generation_prompt %}{{ '</think>' if enable_thinking is false else '<think>' }}\n{% endif %}"
    return template + ending


@dataclass(frozen=True)
class Tiny:
    """An architecture.

    tokens      that its tokenizer knows, beside the bytes
    named       those that it knows by a name, as ``tokenizer.image_token``
    template    of its chat
    processor   made of a tokenizer and the chat template
    config      made of a tokenizer
    begin       the token that a text begins with, if any
    """

    template: str
    processor: Callable[..., Any]
    config: Callable[[Tokens], Any]
    tokens: Sequence[str] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    begin: str | None = None


class Tokens:
    """The ids of a tokenizer's tokens: ``tokens["<image>"]``; their number as ``len(tokens)``.

    changes   in the configuration of the text model, whatever the architecture says
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, changes: Mapping[str, Any]) -> None:
        self.tokenizer, self.changes = tokenizer, changes

    def __getitem__(self, token: str) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(token))

    def __len__(self) -> int:
        return len(self.tokenizer)

    def text(self, **changes: Any) -> dict[str, Any]:
        """The configuration of a text model."""
        return {**TEXT, "vocab_size": len(self), "eos_token_id": self[END], **changes, **self.changes}


def build(tiny: Tiny, folder: Path, **text: Any) -> None:
    """Save a tiny model to ``folder``, with its processor; ``text`` changes its text model."""
    tokenizer = byte_tokenizer(tiny.tokens, tiny.named, tiny.begin)
    processor = tiny.processor(tokenizer, tiny.template)
    tokens = Tokens(processor.tokenizer, text)
    torch.manual_seed(0)
    model = AutoModelForMultimodalLM.from_config(tiny.config(tokens)).float()
    fill(model)
    model.generation_config = hf.GenerationConfig(eos_token_id=tokens[END], pad_token_id=tokens[PAD])
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def byte_tokenizer(
    tokens: Sequence[str], named: Mapping[str, str] | None = None, begin: str | None = None
) -> PreTrainedTokenizerFast:
    vocabulary = {char: place for place, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    every = dict.fromkeys([PAD, "<|im_start|>", END, *([begin] if begin else []), *tokens, *(named or {}).values()])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in every])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        bos_token=begin,
        extra_special_tokens=dict(named or {}),
    )


def fill(model: torch.nn.Module) -> None:
    """Weights with which what is said depends on what is seen: as large as keeps the size of what passes them."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embed_tokens" in name:  # small beside what layers add, so that more counts than the last token
                weight.normal_(0, 0.03)
            elif weight.ndim >= 2:
                values = weight.shape[-1] if weight.ndim == 3 else math.prod(weight.shape[1:])
                weight.normal_(0, 1.5 / math.sqrt(values))
            elif name.endswith("A_log"):
                weight.fill_(-4)  # linear attention that forgets slowly
            elif name.endswith("bias"):
                weight.normal_(0, 0.1)


QWEN = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
QWEN_CHAT = chat("<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>")
MROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
TOWER = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2}
QWEN_TOWER = {**TOWER, "out_hidden_size": 64}
LINEAR = {  # layers of Qwen3.5: three of linear attention, one of plain
    **{"num_hidden_layers": 4, "head_dim": 16, "linear_key_head_dim": 16, "linear_value_head_dim": 16},
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4},
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def qwen_ids(t: Tokens) -> dict[str, int]:
    return {
        **{"image_token_id": t["<|image_pad|>"], "video_token_id": t["<|video_pad|>"]},
        **{"vision_start_token_id": t["<|vision_start|>"], "vision_end_token_id": t["<|vision_end|>"]},
    }


def qwen2(kind: str, config: Callable[[Tokens], Any]) -> Tiny:
    """Pixels of each frame bounded, as published."""
    size = {"shortest_edge": 4 * 28 * 28, "longest_edge": 768 * 28 * 28}
    return Tiny(
        QWEN_CHAT,
        lambda t, c: getattr(hf, f"{kind}Processor")(
            hf.Qwen2VLImageProcessor(), t, hf.Qwen2VLVideoProcessor(size=size), chat_template=c
        ),
        config,
        QWEN,
    )


def qwen3(config: Callable[[Tokens], Any], template: str = QWEN_CHAT) -> Tiny:
    """Pixels of all frames together bounded, as published."""
    size = {"shortest_edge": 4096, "longest_edge": 25165824}
    return Tiny(
        template,
        lambda t, c: hf.Qwen3VLProcessor(
            hf.Qwen2VLImageProcessor(patch_size=16), t, hf.Qwen3VLVideoProcessor(size=size), chat_template=c
        ),
        config,
        (*QWEN, "<think>", "</think>"),
    )


QWEN3_TOWER = {**QWEN_TOWER, "num_position_embeddings": 2304}
QWEN3_5_ROPE = {**MROPE, "mrope_section": [1, 1, 0], "partial_rotary_factor": 0.25}

GLM = ("<|image|>", "<|video|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>")
GLM_CHAT = (
    chat(
        "<|begin_of_image|><|image|><|end_of_image|>",
        "<|begin_of_video|><|video|><|end_of_video|>",
        begin="<|",
        end="",
        first="[gMASK]<sop>",
    )
    .replace("{{ message['role'] }}\n", "{{ message['role'] }}|>\n")
    .replace("<|assistant\n", "<|assistant|>\n")
)


def glm(kind: str, **further: Any) -> Tiny:
    """``kind`` is Glm4v, Glm46V or Glm4vMoe, which has the processor of the first."""
    family = kind.removesuffix("Moe")
    names = ("image_token_id", "video_token_id", "image_start_token_id", "image_end_token_id")
    names = (*names, "video_start_token_id", "video_end_token_id")
    rope = {**MROPE, "mrope_section": [1, 1, 2], "partial_rotary_factor": 0.5}

    def config(t: Tokens) -> Any:
        return getattr(hf, f"{kind}Config")(
            text_config=t.text(rope_parameters=rope, **further),
            vision_config=QWEN_TOWER,
            **{name: t[token] for name, token in zip(names, GLM, strict=True)},
        )

    def processor(t: Any, c: str) -> Any:
        size = {"shortest_edge": 112 * 112, "longest_edge": 47040000}
        video = getattr(hf, f"{family}VideoProcessor")(size=size)
        return getattr(hf, f"{family}Processor")(hf.Glm4vImageProcessor(), t, video, chat_template=c)

    return Tiny(GLM_CHAT, processor, config, (*GLM, "[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>"))


VICUNA = (
    "{% for message in messages %}{% if message['role'] == 'user' %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% elif part['type'] == 'video' %}<video>\n{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %} {% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def gemma_chat(image: str, video: str = "") -> str:
    """It trims texts, as published."""
    form = chat(image, video, "<start_of_turn>", "<end_of_turn>\n", "{{ bos_token }}")
    return form.replace("{{ part['text'] }}", "{{ part['text'] | trim }}")


GEMMA_TURNS = ("<start_of_turn>", "<end_of_turn>")
SLIDING = {"head_dim": 16, "sliding_window": 32, "num_hidden_layers": 6}
GEMMA3_NAMES = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
GEMMA4_NAMES = {
    **{"boi_token": "<|image>", "eoi_token": "<image|>", "image_token": "<|image|>", "video_token": "<|video|>"},
    **{"audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>"},
}
INTERN_NAMES = {
    **{"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"},
    "video_token": "<video>",
}
LLAVA_PROCESSOR = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
MEDIA = ("<image>", "<video>")
SMOL = (
    *("<image>", "<video>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"),
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)
MOLMO = (
    *("<|image|>", "<|video|>", "<im_patch>", "<im_col>", "<im_start>", "<low_res_im_start>", "<frame_start>"),
    *("<im_end>", "<frame_end>", "<im_low>"),
)
KIMI = ("<|media_pad|>", "<|kimi_k25_video_placeholder|>", "<|media_begin|>", "<|media_content|>", "<|media_end|>")


def llava_ids(t: Tokens, video: bool = True) -> dict[str, int]:
    ids = {"image_token_index": t["<image>"]}
    return {**ids, "video_token_index": t["<video>"]} if video else ids


def idefics(kind: str) -> Tiny:
    """``kind`` is SmolVLM, or Idefics3, which takes no videos."""
    video = kind == "SmolVLM"

    def processor(t: Any, c: str) -> Any:
        sizes = {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 56}}
        image = getattr(hf, f"{kind}ImageProcessor")(**sizes, do_image_splitting=False)
        more = (hf.SmolVLMVideoProcessor(**sizes),) if video else ()
        return getattr(hf, f"{kind}Processor")(image, t, *more, image_seq_len=4, chat_template=c)

    def config(t: Tokens) -> Any:
        vision = {**SIGHT, "image_size": 56, "patch_size": 14}
        text = t.text(model_type="llama")
        return getattr(hf, f"{kind}Config")(
            text_config=text, vision_config=vision, image_token_id=t["<image>"], scale_factor=2
        )

    return Tiny(chat("<image>", "<video>" if video else ""), processor, config, SMOL)


def llava(kind: str) -> Tiny:
    """``kind`` is Llava or LlavaNext: pictures alone."""
    image = {"Llava": "CLIPImageProcessor", "LlavaNext": "LlavaNextImageProcessor"}[kind]
    grid = {} if kind == "Llava" else {"image_grid_pinpoints": [[56, 112], [112, 56], [112, 112]]}
    return Tiny(
        chat("<image>\n"),
        lambda t, c: getattr(hf, f"{kind}Processor")(
            getattr(hf, image)(**CROPPED, **grid), t, chat_template=c, **LLAVA_PROCESSOR
        ),
        lambda t: getattr(hf, f"{kind}Config")(
            text_config=t.text(model_type="llama"), vision_config=CLIP, **llava_ids(t, False), **grid
        ),
        ("<image>",),
    )


TINY: dict[str, Tiny] = {
    # Positions in three dimensions.
    "qwen2_vl": qwen2(
        "Qwen2VL",
        lambda t: hf.Qwen2VLConfig(
            text_config=t.text(rope_parameters=MROPE),
            vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2},
            **qwen_ids(t),
        ),
    ),
    "qwen2_5_vl": qwen2(
        "Qwen2_5_VL",
        lambda t: hf.Qwen2_5_VLConfig(
            text_config=t.text(rope_parameters=MROPE),
            vision_config={**QWEN_TOWER, "fullatt_block_indexes": [1], "window_size": 56, "tokens_per_second": 2},
            **qwen_ids(t),
        ),
    ),
    "qwen3_vl": qwen3(
        lambda t: hf.Qwen3VLConfig(
            text_config=t.text(rope_parameters=MROPE, head_dim=16),
            vision_config={**QWEN3_TOWER, "deepstack_visual_indexes": [0, 1]},
            **qwen_ids(t),
        )
    ),
    "qwen3_vl_moe": qwen3(
        lambda t: hf.Qwen3VLMoeConfig(
            text_config=t.text(rope_parameters=MROPE, head_dim=16, **EXPERTS),
            vision_config={**QWEN3_TOWER, "deepstack_visual_indexes": [0, 1]},
            **qwen_ids(t),
        )
    ),
    "qwen3_5": qwen3(  # linear attention
        lambda t: hf.Qwen3_5Config(
            text_config=t.text(rope_parameters=QWEN3_5_ROPE, **LINEAR), vision_config=QWEN3_TOWER, **qwen_ids(t)
        ),
        thinking(QWEN_CHAT),
    ),
    "qwen3_5_moe": qwen3(
        lambda t: hf.Qwen3_5MoeConfig(
            text_config=t.text(rope_parameters=QWEN3_5_ROPE, **LINEAR, **EXPERTS, shared_expert_intermediate_size=32),
            vision_config=QWEN3_TOWER,
            **qwen_ids(t),
        )
    ),
    "glm4v": glm("Glm4v"),
    "glm46v": glm("Glm46V", model_type="glm4v_text"),
    "glm4v_moe": glm(
        "Glm4vMoe", n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, n_shared_experts=1
    ),
    "video_llama_3": Tiny(
        chat("<|image_pad|>", "<|video_pad|>"),
        lambda t, c: hf.VideoLlama3Processor(
            hf.VideoLlama3ImageProcessor(),
            t,
            hf.VideoLlama3VideoProcessor(use_token_compression=False),
            chat_template=c,
        ),
        lambda t: hf.VideoLlama3Config(
            text_config=t.text(model_type="qwen2"),
            vision_config={**SIGHT, "patch_size": 14},
            image_token_id=t["<|image_pad|>"],
            video_token_id=t["<|video_pad|>"],
        ),
        QWEN,
    ),
    # A fixed number of tokens for each frame.
    "internvl": Tiny(
        chat("<IMG_CONTEXT>\n", "<video>\n"),
        lambda t, c: hf.InternVLProcessor(
            hf.GotOcr2ImageProcessor(**SQUARE),
            t,
            hf.InternVLVideoProcessor(**SQUARE),
            image_seq_length=4,
            chat_template=c,
        ),
        lambda t: hf.InternVLConfig(
            text_config=t.text(model_type="qwen2"),
            vision_config={**SIGHT, "image_size": [56, 56]},
            image_token_id=t["<IMG_CONTEXT>"],
            image_seq_length=4,
            tie_word_embeddings=False,
        ),
        ("<image>",),
        INTERN_NAMES,
    ),
    "llava_onevision": Tiny(
        chat("<image>\n", "<video>\n"),
        lambda t, c: hf.LlavaOnevisionProcessor(
            hf.LlavaOnevisionImageProcessor(**SQUARE, image_grid_pinpoints=[[56, 56], [56, 112]]),
            t,
            hf.LlavaOnevisionVideoProcessor(**SQUARE),
            num_image_tokens=16,
            vision_feature_select_strategy="full",
            chat_template=c,
        ),
        lambda t: hf.LlavaOnevisionConfig(
            text_config=t.text(model_type="qwen2"),
            vision_config=SIGLIP,
            image_grid_pinpoints=[[56, 56], [56, 112]],
            **llava_ids(t),
        ),
        MEDIA,
    ),
    "llava_next_video": Tiny(
        VICUNA,
        lambda t, c: hf.LlavaNextVideoProcessor(
            video_processor=hf.LlavaNextVideoVideoProcessor(**CROPPED),
            image_processor=hf.LlavaNextImageProcessor(**CROPPED),
            tokenizer=t,
            chat_template=c,
            **LLAVA_PROCESSOR,
        ),
        lambda t: hf.LlavaNextVideoConfig(
            text_config=t.text(model_type="llama"),
            vision_config=CLIP,
            image_seq_length=16,
            video_seq_length=4,
            **llava_ids(t),
        ),
        MEDIA,
        begin="<s>",
    ),
    "video_llava": Tiny(
        VICUNA,
        lambda t, c: hf.VideoLlavaProcessor(
            image_processor=hf.VideoLlavaImageProcessor(**CROPPED),
            video_processor=hf.VideoLlavaVideoProcessor(**CROPPED),
            tokenizer=t,
            chat_template=c,
            **LLAVA_PROCESSOR,
        ),
        lambda t: hf.VideoLlavaConfig(
            text_config=t.text(model_type="llama"), vision_config=CLIP, image_seq_length=16, **llava_ids(t)
        ),
        MEDIA,
        begin="<s>",
    ),
    "perception_lm": Tiny(
        chat("<|image|>", "<|video|>"),
        lambda t, c: hf.PerceptionLMProcessor(
            hf.PerceptionLMVideoProcessor(**SQUARE),
            hf.PerceptionLMImageProcessor(tile_size=56, vision_input_type="vanilla"),
            t,
            patch_size=14,
            pooling_ratio=2,
            chat_template=c,
        ),
        lambda t: hf.PerceptionLMConfig(
            text_config=t.text(model_type="llama"),
            vision_config={
                "model_type": "timm_wrapper",
                "architecture": "vit_pe_core_tiny_patch16_384",
                "model_args": {
                    **{"embed_dim": 64, "depth": 2, "num_heads": 2, "img_size": [56, 56], "patch_size": 14},
                    **{
                        "global_pool": "",
                        "use_post_transformer_norm": False,
                        "init_values": 0.1,
                        "ref_feat_shape": [4, 4],
                    },
                },
            },
            vision_use_cls_token=True,
            projector_pooling_ratio=2,
            image_token_id=t["<|image|>"],
            video_token_id=t["<|video|>"],
        ),
        (),
        {"image_token": "<|image|>", "video_token": "<|video|>"},
    ),
    "smolvlm": idefics("SmolVLM"),
    "molmo2": Tiny(
        chat("<|image|>", "<|video|>"),
        lambda t, c: hf.Molmo2Processor(
            hf.Molmo2ImageProcessor(size={"height": 84, "width": 84}, max_crops=2, overlap_margins=[1, 1]),
            hf.Molmo2VideoProcessor(size={"height": 84, "width": 84}),
            t,
            chat_template=c,
        ),
        lambda t: hf.Molmo2Config(
            text_config=t.text(head_dim=16, additional_vocab_size=0, attention_bias=False),
            vision_config={**SIGHT, "num_key_value_heads": 2, "head_dim": 16, "image_size": [84, 84]},
            adapter_config={
                **{"vision_feature_layer": [1, 0], "hidden_size": 32, "num_attention_heads": 2, "head_dim": 16},
                **{"num_key_value_heads": 2, "intermediate_size": 64, "text_hidden_size": 64},
            },
            image_start_token_id=t["<im_start>"],
            low_res_image_start_token_id=t["<low_res_im_start>"],
            image_end_token_id=t["<im_end>"],
            image_patch_id=t["<im_patch>"],
            frame_start_token_id=t["<frame_start>"],
            frame_end_token_id=t["<frame_end>"],
        ),
        MOLMO,
        begin="<|begin|>",
    ),
    # Caches that cannot be cut back: sliding windows, linear attention, convolutions, state spaces; shared keys; MLA.
    "gemma4": Tiny(
        gemma_chat("<|image|>", "<|video|>"),
        lambda t, c: hf.Gemma4Processor(
            feature_extractor=hf.Gemma4AudioFeatureExtractor(),
            image_processor=hf.Gemma4ImageProcessor(max_soft_tokens=70),
            tokenizer=t,
            video_processor=hf.Gemma4VideoProcessor(),
            chat_template=c,
        ),
        lambda t: hf.Gemma4Config(
            text_config=t.text(
                head_dim=16,
                pad_token_id=t[PAD],
                sliding_window=32,
                num_hidden_layers=4,
                layer_types=["sliding_attention", "full_attention"] * 2,
                vocab_size_per_layer_input=len(t),
                hidden_size_per_layer_input=8,
                global_head_dim=16,
                num_kv_shared_layers=2,
                use_bidirectional_attention="vision",
            ),
            vision_config={**SIGHT, "num_key_value_heads": 2, "head_dim": 16},
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
    "gemma3": Tiny(
        gemma_chat("<start_of_image>"),
        lambda t, c: hf.Gemma3Processor(hf.Gemma3ImageProcessor(**SQUARE), t, chat_template=c, image_seq_length=4),
        lambda t: hf.Gemma3Config(
            text_config=t.text(**SLIDING, query_pre_attn_scalar=16, tie_word_embeddings=False),
            vision_config=SIGLIP,
            mm_tokens_per_image=4,
            tie_word_embeddings=False,
            boi_token_index=t["<start_of_image>"],
            eoi_token_index=t["<end_of_image>"],
            image_token_index=t["<image_soft_token>"],
        ),
        GEMMA_TURNS,
        GEMMA3_NAMES,
        "<bos>",
    ),
    "lfm2_vl": Tiny(
        chat("<image>"),
        lambda t, c: hf.Lfm2VlProcessor(
            hf.Lfm2VlImageProcessor(
                encoder_patch_size=14, min_image_tokens=4, max_image_tokens=16, tile_size=56, do_image_splitting=False
            ),
            t,
            chat_template=c,
        ),
        lambda t: hf.Lfm2VlConfig(
            text_config=t.text(
                model_type="lfm2",
                num_hidden_layers=4,
                layer_types=["conv", "full_attention", "conv", "full_attention"],
                block_auto_adjust_ff_dim=False,
            ),
            vision_config={
                **SIGHT,
                **{"model_type": "siglip2_vision_model", "patch_size": 14, "num_patches": 64, "vision_use_head": False},
            },
            image_token_id=t["<image>"],
            projector_hidden_size=64,
        ),
        ("<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"),
    ),
    "kimi_k25": Tiny(
        chat("<|media_begin|>image<|media_content|><|media_pad|><|media_end|>", "<|kimi_k25_video_placeholder|>"),
        lambda t, c: hf.Kimi_K25Processor(hf.Kimi_K25ImageProcessor(), t, hf.Kimi_K25VideoProcessor(), chat_template=c),
        lambda t: hf.Kimi_K25Config(
            text_config=t.text(
                model_type="deepseek_v3",
                num_key_value_heads=4,
                n_routed_experts=4,
                n_group=1,
                topk_group=1,
                num_experts_per_tok=2,
                moe_intermediate_size=32,
                kv_lora_rank=16,
                q_lora_rank=16,
                qk_rope_head_dim=8,
                qk_nope_head_dim=8,
                v_head_dim=16,
                first_k_dense_replace=1,
            ),
            vision_config={**SIGHT, "pos_emb_height": 8, "pos_emb_width": 8},
            projection_hidden_size=32,
            image_token_id=t["<|media_pad|>"],
            video_token_id=t["<|kimi_k25_video_placeholder|>"],
            tie_word_embeddings=False,
        ),
        KIMI,
    ),
    # Pictures alone.
    "idefics3": idefics("Idefics3"),
    "llava": llava("Llava"),
    "llava_next": llava("LlavaNext"),
    "mistral3": Tiny(
        chat("[IMG]"),
        lambda t, c: hf.PixtralProcessor(
            hf.PixtralImageProcessor(size={"longest_edge": 1540}, patch_size=14),
            t,
            patch_size=14,
            spatial_merge_size=2,
            chat_template=c,
        ),
        lambda t: hf.Mistral3Config(
            text_config=t.text(model_type="mistral", head_dim=16),
            vision_config={**SIGHT, "model_type": "pixtral", "image_size": 1540, "patch_size": 14, "head_dim": 16},
            image_token_index=t["[IMG]"],
            spatial_merge_size=2,
        ),
        ("[IMG]", "[IMG_BREAK]", "[IMG_END]"),
    ),
    "aya_vision": Tiny(
        chat("<image>"),
        lambda t, c: hf.AyaVisionProcessor(
            hf.GotOcr2ImageProcessor(**SQUARE), t, patch_size=14, img_size=56, downsample_factor=2, chat_template=c
        ),
        lambda t: hf.AyaVisionConfig(
            text_config=t.text(model_type="cohere2", sliding_window=32, num_hidden_layers=4, head_dim=16),
            vision_config=SIGLIP,
            downsample_factor=2,
            alignment_intermediate_size=64,
            image_token_index=t["<|IMG_PATCH|>"],
        ),
        ("<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE_GLOBAL"),
    ),
    "ovis2": Tiny(
        chat("<image>\n"),
        lambda t, c: hf.Ovis2Processor(hf.Ovis2ImageProcessor(**SQUARE), t, image_seq_length=4, chat_template=c),
        lambda t: hf.Ovis2Config(
            text_config=t.text(model_type="qwen2"),
            vision_config={
                **SIGHT,
                "image_size": 56,
                "patch_size": 14,
                "num_visual_indicator_tokens": 5,
                "vocab_size": 32,
                "hidden_stride": 2,
            },
            image_token_id=t["<IMG_ATOM>"],
            visual_indicator_token_ids=[
                t[token] for token in ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
            ],
            vocab_size=len(t),
            hidden_size=64,
        ),
        ("<image>", "<IMG_ATOM>", "<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"),
    ),
}

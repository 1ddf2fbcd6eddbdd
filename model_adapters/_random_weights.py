"""Random weights, for trying things out and for measuring speed where there is no checkpoint.

Small ones answer multiple-choice questions by guessing; those of the released size never end a response.
Imports torch and transformers only inside functions, as `_transformers`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ._transformers import Weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)


def random_model(model_class: Any, tokenizer: PreTrainedTokenizerFast, weights: Weights, **further: Any) -> Any:
    """A model of the size ``weights.random``, with ``further`` arguments of its configuration beside Qwen2-VL's."""
    import torch

    released = weights.random == "released"
    sizes = released_sizes(tokenizer) if released else tiny_sizes(tokenizer)
    config = model_class.config_class(**sizes, **further)
    config._attn_implementation = weights.attn_implementation
    if released:
        return build_released(model_class, config, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights.seed)
        model = model_class(config)
    model = model.to(weights.device, weights.dtype)
    answer_only_letters(model, tokenizer)
    return model


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer made on the spot: 256 bytes and Qwen2-VL's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def word_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """As ``tiny_tokenizer``, with a token for each word of ``texts`` (and the space before it) and two digits.

    The same texts give the same tokenizer; any other text is still made of bytes.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(r" ?\p{L}+|\d{1,2}|[^\p{L}\d]"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=100_000,  # more than there are: merging ends when each word is one token
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def tiny_sizes(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Arguments of a Qwen2-VL configuration with two small layers."""
    token = tokenizer.convert_tokens_to_ids
    return {
        "text_config": {
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "initializer_range": 0.2,  # large enough that answers depend on the question
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
            "bos_token_id": None,
            "eos_token_id": token("<|im_end|>"),
        },
        "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2},
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
    }


# Qwen/Qwen2-VL-7B-Instruct's config.json. TIGER-Lab/Vamba-Qwen2-VL-7B has the same text model and vision tower.
RELEASED_SIZES: dict[str, dict[str, Any]] = {
    "text_config": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32768,
        "initializer_range": 0.02,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision_config": {"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16},
}


def released_sizes(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Arguments of the 7B model's configuration, for a tokenizer of ours."""
    small = tiny_sizes(tokenizer)
    return {**RELEASED_SIZES, **{name: small[name] for name in small if name not in RELEASED_SIZES}}


def build_released(model_class: Any, config: Any, weights: Weights) -> Any:
    """A model of random weights that never ends a response, made on its device and in its dtype from the start.

    What is measured of it (seconds, memory, FLOPs) does not depend on the weights. At 7B a CPU would take minutes
    to make them. Buffers and the parameters that are no matrices (norms, a mixer's A, dt and D) start as in training.
    """
    import torch

    default = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[weights.device] if weights.device.type == "cuda" else []):
        torch.manual_seed(weights.seed)
        torch.set_default_dtype(weights.dtype)
        try:
            with weights.device:
                model = model_class(config)
        finally:
            torch.set_default_dtype(default)
    model.generation_config.eos_token_id = config.text_config.vocab_size  # no token has this id
    model.generation_config.pad_token_id = 0
    return model


def answer_only_letters(model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """Let a model of random weights say nothing but A, B, C and D: its guesses then are guesses at options."""
    allowed = [tokenizer.convert_tokens_to_ids(token) for token in ("A", "B", "C", "D")]
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    vocabulary = model.get_output_embeddings().weight.shape[0]
    model.generation_config.suppress_tokens = [i for i in range(vocabulary) if i not in (*allowed, end)]
    model.generation_config.begin_suppress_tokens = [end]
    model.generation_config.eos_token_id = end
    model.generation_config.pad_token_id = tokenizer.convert_tokens_to_ids("<|endoftext|>")

"""What the adapters of transformers models share: devices, dtypes, checkpoints and their identity.

Imports torch and transformers only inside functions: naming a model must cost nothing.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vamba_eval.contracts import GenerationSettings, Likelihood, UserError
from vamba_eval.cost.meter import mark_first_token

if TYPE_CHECKING:
    import torch
    from torch.nn.attention import SDPBackend
    from transformers import GenerationConfig, PreTrainedTokenizerFast

SPECIAL_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
ATTENTION = ("sdpa", "eager", "flash_attention_2")
_HASHED_BLOCKS, _BLOCK_BYTES = 64, 1 << 16


def choose_device(device: str) -> torch.device:
    """``auto`` is the first GPU, else the CPU. Raises UserError for a device that is not there."""
    import torch
    import transformers

    # Its report of missing weights would come before our one line about them.
    transformers.logging.set_verbosity_error()
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"unknown device {device!r}: use auto, cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device!r} was asked for, but torch sees no GPU here: use device=cpu")
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 on a GPU and float32 on a CPU."""
    import torch

    names = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    names |= {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    names["auto"] = torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in names:
        raise UserError(f"unknown dtype {dtype!r}: use auto, bfloat16, float16 or float32")
    return names[dtype]


def check_attention(attn_implementation: str) -> str:
    """Raises UserError for an unknown implementation, or where flash-attn is asked for and not installed."""
    from transformers.utils import is_flash_attn_2_available

    if attn_implementation not in ATTENTION:
        raise UserError(f"unknown attn_implementation {attn_implementation!r}: use {', '.join(ATTENTION)}")

    if attn_implementation == "flash_attention_2" and not is_flash_attn_2_available():
        raise UserError(
            "attn_implementation=flash_attention_2 needs the package flash-attn and a GPU: "
            "pip install flash-attn --no-build-isolation, or use attn_implementation=sdpa"
        )
    return attn_implementation


def read_config(pretrained: str, revision: str | None, trust_remote_code: bool) -> Any:
    """The checkpoint's configuration. Raises UserError, saying why, where there is none."""
    from transformers import AutoConfig

    if (Path(pretrained).exists() or pretrained.startswith((".", "/", "~"))) and not Path(pretrained).is_dir():
        raise UserError(f"no checkpoint folder at {pretrained}")
    try:
        return AutoConfig.from_pretrained(pretrained, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the checkpoint {pretrained!r} cannot be loaded: {reason}") from error


def checkpoint_identity(pretrained: str, config: Any) -> str:
    """What tells this checkpoint from others: the Hub's commit, or a hash of a local folder's weights.

    The hash covers each weight file's name, size and 64 blocks of 64 KiB spread over it, so that it takes
    a moment for any size; two checkpoints that differ in training differ in all of these blocks.
    """
    folder = Path(pretrained)
    if not folder.is_dir():
        return f"commit {getattr(config, '_commit_hash', None) or 'unknown'}"
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin"), folder / "config.json"]):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with open(file, "rb") as stream:
            for block in range(_HASHED_BLOCKS):
                stream.seek(block * max(0, size - _BLOCK_BYTES) // (_HASHED_BLOCKS - 1))
                digest.update(stream.read(_BLOCK_BYTES))
    return f"weights {digest.hexdigest()[:16]}"


def generation_config(model: Any, settings: GenerationSettings) -> GenerationConfig:
    """transformers' form of ``settings``. Of the checkpoint's own only token ids are taken (some sample)."""
    from transformers import GenerationConfig

    own = model.generation_config
    sampling: dict[str, Any] = {}
    if settings.do_sample:
        sampling = {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": settings.top_k or 0}
    return GenerationConfig(
        max_new_tokens=settings.max_new_tokens,
        min_new_tokens=settings.min_new_tokens or None,
        do_sample=settings.do_sample,
        eos_token_id=end_ids(model),
        pad_token_id=own.pad_token_id,
        suppress_tokens=own.suppress_tokens,
        begin_suppress_tokens=own.begin_suppress_tokens,
        **sampling,
    )


@functools.cache
def cache_name() -> str:
    """What the installed transformers calls the cache of keys and values: ``past_key_values`` before 5.24."""
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLTextModel

    return "cache" if "cache" in inspect.signature(Qwen2VLTextModel.forward).parameters else "past_key_values"


@contextmanager
def attention_for_any_shape(device: torch.device) -> Iterator[None]:
    """PyTorch's attention, on a GPU without cuDNN's kernels.

    PyTorch 2.11 takes cuDNN first on Hopper, which plans for every new shape anew, and that takes tenths of a second
    (0.4 s in modelscope/FunASR, issue 3704). A question has a length that few others have, and so has each step of a
    growing cache.
    """
    if device.type != "cuda":
        yield
        return
    from torch.nn.attention import sdpa_kernel

    with sdpa_kernel(any_shape_kernels()):
        yield


def any_shape_kernels() -> list[SDPBackend]:
    """Kernels of PyTorch's attention that serve a new shape as fast as a known one, the fastest first."""
    from torch.nn.attention import SDPBackend

    return [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def first_token_marker() -> Any:
    """A stopping criterion for transformers' ``generate`` that never stops it.

    Criteria are called when a step's token has been chosen. What is queued on the GPU by then gives the first
    token, so the mark is exact and nothing waits for it (a streamer would copy each token to the host).
    """
    from transformers import StoppingCriteriaList

    def marker(*_: Any, **__: Any) -> bool:
        mark_first_token()
        return False

    return StoppingCriteriaList([marker])  # type: ignore[list-item] # it calls whatever is in it


def likelihood(logits: torch.Tensor, continuation: torch.Tensor) -> Likelihood:
    """Of the token ids (N,), from logits (N, vocabulary) that predict each of them."""
    logprobs = logits.float().log_softmax(-1)
    chosen = logprobs.gather(-1, continuation[:, None])
    greedy = bool((logits.argmax(-1) == continuation).all())
    return Likelihood(float(chosen.double().sum()), len(continuation), greedy)


def end_ids(model: Any) -> list[int]:
    """Tokens that end a response."""
    end = model.generation_config.eos_token_id
    return end if isinstance(end, list) else [end]


def seed_sampling(settings: GenerationSettings, prompt: str) -> None:
    """Seed by the question, so that what is drawn depends on neither the order of questions nor a restart."""
    import torch

    if settings.do_sample:
        digest = hashlib.sha256(f"{settings.seed} {prompt}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def boolean(value: bool | str) -> bool:
    """A flag from the command line."""
    if isinstance(value, bool):
        return value
    if value.lower() in ("true", "yes", "1"):
        return True
    if value.lower() in ("false", "no", "0"):
        return False
    raise UserError(f"{value!r} is neither true nor false")


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


def check_random(random: str | None, pretrained: str | None) -> str:
    """The size of random weights: ``small`` unless ``released`` is asked for. Raises UserError for others."""
    if random is not None and pretrained is not None:
        raise UserError("random= asks for random weights and pretrained= for a checkpoint: give one of the two")
    if random not in (None, "small", "released"):
        raise UserError(f"random is {random!r}: use small or released")
    return random or "small"


def released_sizes(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Arguments of the 7B model's configuration, for a tokenizer of ours."""
    small = tiny_sizes(tokenizer)
    return {**RELEASED_SIZES, **{name: small[name] for name in small if name not in RELEASED_SIZES}}


def build_released(model_class: Any, config: Any, device: torch.device, dtype: torch.dtype, seed: int) -> Any:
    """A model of random weights that never ends a response, made on ``device`` and in ``dtype`` from the start.

    What is measured of it (seconds, memory, FLOPs) does not depend on the weights. At 7B a CPU would take minutes
    to make them. Buffers and the parameters that are no matrices (norms, a mixer's A, dt and D) start as in training.
    """
    import torch

    default = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        try:
            with device:
                model = model_class(config)
        finally:
            torch.set_default_dtype(default)
    model.generation_config.eos_token_id = config.text_config.vocab_size  # no token has this id
    model.generation_config.pad_token_id = 0
    return model


# What the released training script tunes on videos (TIGER-AI-Lab/Vamba, scripts/sft_vamba.sh: "visual.merger,model"):
# the text model with all that Vamba adds to it, and the vision tower's merger. The tower and lm_head are frozen.
_FROZEN = ("visual.patch_embed.", "visual.blocks.", "lm_head.")


def begin_training(model: Any) -> None:
    """Training mode with gradient checkpointing, the weights frozen that the released training script freezes."""
    if model.training:
        return
    model.train()
    # transformers 5.18 gave it another name.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    model.disable_input_require_grads()  # else frozen parts would be trained through, for nothing
    for name, weight in model.named_parameters():
        weight.requires_grad_(not name.removeprefix("model.").startswith(_FROZEN))


def training_text(
    tokenizer: Any, before: str, answer: str, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Token ids (1, N) of ``before`` and the answer with its end of turn, labels of the answer alone, its length."""
    import torch

    head, tail = (tokenizer(text, add_special_tokens=False).input_ids for text in (before, f"{answer}<|im_end|>"))
    ids = torch.tensor([[*head, *tail]], device=device)
    labels = torch.tensor([[-100] * len(head) + tail], device=device)
    return ids, labels, len(tail)


def answer_only_letters(model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """Let a model of random weights say nothing but A, B, C and D: its guesses then are guesses at options."""
    allowed = [tokenizer.convert_tokens_to_ids(token) for token in ("A", "B", "C", "D")]
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    vocabulary = model.get_output_embeddings().weight.shape[0]
    model.generation_config.suppress_tokens = [i for i in range(vocabulary) if i not in (*allowed, end)]
    model.generation_config.begin_suppress_tokens = [end]
    model.generation_config.eos_token_id = end
    model.generation_config.pad_token_id = tokenizer.convert_tokens_to_ids("<|endoftext|>")

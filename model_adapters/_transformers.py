"""What loads and runs a model of transformers: devices, dtypes, checkpoints and their identity, decoding, training.

Imports torch and transformers only inside functions: naming a model must cost nothing.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import pickle
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vamba_eval.contracts import Answer, GenerationSettings, Likelihood, UserError, first_line
from vamba_eval.cost.meter import mark_first_token
from vamba_eval.reasoning import THINKING_MARKS

from ._checkpoints import check_checkpoint

if TYPE_CHECKING:
    import torch
    from torch.nn.attention import SDPBackend
    from transformers import GenerationConfig

ATTENTION = ("sdpa", "eager", "flash_attention_2")
_COUNTS = ("batch_size", "segment_frames", "min_pixels", "max_pixels", "total_pixels")  # arguments of adapters
_CHOICES = {"frames_as": ("auto", "video", "images"), "text_positions": ("original", "transformers")}
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
# What of a checkpoint's generation_config.json says which tokens there are, and not how to choose among them.
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "suppress_tokens", "begin_suppress_tokens")
_HASHED_BLOCKS, _BLOCK_BYTES = 64, 1 << 16


@dataclass(frozen=True)
class Weights:
    """Which weights a model has and how it holds them: the arguments that all adapters take, checked.

    pretrained            a folder or a Hub id, at ``revision``; None for random weights
    device_map            how transformers spreads a checkpoint over devices; None for ``device`` alone
    random                the size of random weights, small or released, made from ``seed``
    trust_remote_code     whether code that comes with a checkpoint may run; always told to transformers, which may
                          otherwise ask on the terminal
    """

    pretrained: str | None
    revision: str
    device: torch.device
    dtype: torch.dtype
    device_map: str | None
    attn_implementation: str
    random: str
    seed: int
    trust_remote_code: bool

    def describe(self) -> dict[str, Any]:
        """For a fingerprint. What identifies a checkpoint is known when it is loaded: see `checkpoint_identity`."""
        described: dict[str, Any] = {"dtype": str(self.dtype).removeprefix("torch.")}
        described["attn_implementation"] = self.attn_implementation
        if self.pretrained is not None:
            return described | {"pretrained": self.pretrained}
        size = {"size": self.random} if self.random == "released" else {}
        return described | {"weights": "random", "seed": self.seed, **size}


def check_arguments(
    pretrained: str | None = None,
    revision: str | None = None,
    dtype: str = "auto",
    attn_implementation: str = "sdpa",
    random: str | None = None,
    trust_remote_code: bool | str = False,
    **others: Any,
) -> None:
    """What `choose_weights` and loading would find after torch is imported, as far as it is known before. Raises
    UserError."""
    _dtype_name(dtype)
    _check_attention_name(attn_implementation)
    _check_random(random, pretrained)
    boolean("trust_remote_code", trust_remote_code)
    if others.get("thinking") is not None:
        boolean("thinking", others["thinking"])
    for name in _COUNTS:
        if others.get(name) is not None:
            count(name, others[name])
    for name in _CHOICES:
        if others.get(name) is not None:
            choice(name, others[name])
    if pretrained is not None:
        check_checkpoint(str(pretrained), revision)


def choose_weights(
    *,
    pretrained: str | None,
    revision: str | None,
    device: str,
    dtype: str,
    device_map: str | None,
    attn_implementation: str,
    random: str | None = None,
    seed: int = 0,
    trust_remote_code: bool | str = False,
) -> Weights:
    """From an adapter's arguments, as the command line gives them. Raises UserError where they do not go together."""
    place = choose_device(device)
    kind = choose_dtype(dtype, place)
    check_attention(attn_implementation)
    _check_random(random, pretrained)
    if pretrained is None and device_map is not None:
        raise UserError("device_map spreads a checkpoint over devices: give pretrained= too, or device=")
    return Weights(
        pretrained=pretrained,
        revision=revision or "main",
        device=place,
        dtype=kind,
        device_map=device_map,
        attn_implementation=attn_implementation,
        random=random or "small",
        seed=int(seed),
        trust_remote_code=boolean("trust_remote_code", trust_remote_code),
    )


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

    name = _dtype_name(dtype)
    if name == "auto":
        name = "bfloat16" if device.type == "cuda" else "float32"
    chosen: torch.dtype = getattr(torch, name)
    return chosen


def _dtype_name(dtype: str) -> str:
    """As torch calls it, or auto. Raises UserError for an unknown one."""
    name = _DTYPES.get(dtype, dtype)
    if name not in ("auto", *_DTYPES.values()):
        raise UserError(f"unknown dtype {dtype!r}: use auto, bfloat16, float16 or float32")
    return name


def check_attention(attn_implementation: str) -> None:
    """Raises UserError for an unknown implementation, or where flash-attn is asked for and not installed."""
    from transformers.utils import is_flash_attn_2_available

    _check_attention_name(attn_implementation)
    if attn_implementation == "flash_attention_2" and not is_flash_attn_2_available():
        raise UserError(
            "attn_implementation=flash_attention_2 needs the package flash-attn and a GPU: "
            "pip install flash-attn --no-build-isolation, or use attn_implementation=sdpa"
        )


def _check_random(random: str | None, pretrained: str | None) -> None:
    if random is not None and pretrained is not None:
        raise UserError("random= is a size of random weights: leave it or pretrained=")
    if random not in (None, "small", "released"):
        raise UserError(f"random is {random!r}: use small or released")


def _check_attention_name(attn_implementation: str) -> None:
    if attn_implementation not in ATTENTION:
        raise UserError(f"unknown attn_implementation {attn_implementation!r}: use {', '.join(ATTENTION)}")


def boolean(name: str, value: bool | str) -> bool:
    """The flag ``name``, as the command line gives it. Raises UserError."""
    if isinstance(value, bool):
        return value
    if value.lower() in ("true", "yes", "1"):
        return True
    if value.lower() in ("false", "no", "0"):
        return False
    raise UserError(f"{name} is {value!r}, which is neither true nor false")


def choice(name: str, value: str) -> str:
    """The argument ``name``, which is one of a few words. Raises UserError."""
    *others, last = _CHOICES[name]
    if value not in (*others, last):
        raise UserError(f"{name} is {value!r}: use {', '.join(others)} or {last}")
    return value


def count(name: str, value: int | str) -> int:
    """The number ``name``, as the command line gives it. Raises UserError."""
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise UserError(f"{name}={value}: it is a whole number from 1")
    return number


def load_checkpoint(model_class: Any, weights: Weights) -> tuple[Any, dict[str, Any]]:
    """The model, and what transformers says of weights that were missing or in excess. Raises UserError, saying why.

    Of the checkpoint's generation_config.json the model keeps token ids alone: ``generate`` takes what it is not given
    from there, so that a repetition penalty would act on every response.
    """
    from transformers import GenerationConfig

    check_files(weights)
    with reading_checkpoint(weights):
        model, info = model_class.from_pretrained(
            weights.pretrained,
            revision=weights.revision,
            dtype=weights.dtype,
            device_map=weights.device_map or {"": weights.device},
            attn_implementation=weights.attn_implementation,
            trust_remote_code=weights.trust_remote_code,
            output_loading_info=True,
        )
    own = model.generation_config
    model.generation_config = GenerationConfig(**{name: getattr(own, name) for name in TOKEN_IDS})
    return model, info


def has_lora(weights: Weights, name: str) -> bool:
    """Whether a LoRA lies in a checkpoint's folder of that name."""
    return _file_of(weights, f"{name}/adapter_config.json") is not None


def check_files(weights: Weights) -> None:
    """Raise UserError for a checkpoint whose files would have other code or other weights loaded than its own.

    transformers itself runs no code of a checkpoint that is not trusted; but what becomes of some names in its files
    depends on the version of transformers, and on which packages are installed.
    """
    name = str(weights.pretrained)
    if _file_of(weights, "adapter_config.json") is not None:
        raise UserError(
            f"{name} holds an adapter (adapter_config.json), which says itself what model it changes: merge it into "
            "that (merge_and_unload of the package peft), and give the folder of what comes of it"
        )
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        for file in _strings(_json_of(weights, index).get("weight_map")):
            if Path(file).is_absolute() or ".." in Path(file).parts:
                raise UserError(
                    f"{name}: its {index} names a file elsewhere ({file!r}): weights are read from its folder"
                )
    if weights.trust_remote_code:
        return
    if (kernel := _kernel_in(_json_of(weights, "config.json"))) is not None:
        raise UserError(
            f"{name}: its config.json names a kernel of the Hub ({kernel!r}), which is code, and only run with "
            "trust_remote_code=true"
        )


def _file_of(weights: Weights, file: str) -> str | None:
    """The path of a checkpoint's file; None if it has none of that name."""
    from transformers.utils import cached_file

    with reading_checkpoint(weights):
        found: str | None = cached_file(
            str(weights.pretrained), file, revision=weights.revision, _raise_exceptions_for_missing_entries=False
        )
    return found


def _json_of(weights: Weights, file: str) -> dict[str, Any]:
    """What is in a checkpoint's file; nothing if it has none of that name."""
    if (path := _file_of(weights, file)) is None:
        return {}
    with reading_checkpoint(weights):
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"{file} holds a {type(found).__name__}")
    return found


def _kernel_in(value: Any, named: bool = False) -> str | None:
    """The repository that a configuration names as an implementation (of attention, of experts), if there is one;
    ``named`` if ``value`` stands in such a place."""
    if isinstance(value, dict):
        inside = ((each, named or "_implementation" in name) for name, each in value.items())
        return next((found for each, within in inside if (found := _kernel_in(each, within)) is not None), None)
    return value if named and isinstance(value, str) and "/" in value else None


def _strings(value: Any) -> Iterator[str]:
    yield from (each for each in value.values() if isinstance(each, str)) if isinstance(value, dict) else ()


@contextmanager
def reading_checkpoint(weights: Weights) -> Iterator[None]:
    """Around what reads a checkpoint: what fails there becomes a UserError of one line."""
    from safetensors import SafetensorError

    name = str(weights.pretrained)
    fails = (OSError, ValueError, RuntimeError, ImportError, LookupError, TypeError, AttributeError)
    if (Path(name).exists() or name.startswith((".", "/", "~"))) and not Path(name).is_dir():
        raise UserError(f"no checkpoint folder at {name}")
    try:
        yield
    except (*fails, pickle.UnpicklingError, SafetensorError) as error:
        reason = first_line(error)
        if "trust_remote_code" in str(error):
            mapped = [f"auto_map in {file.name}" for file in sorted(Path(name).glob("*.json")) if _maps(file)]
            named = f" ({', '.join(mapped)})" if mapped else ""
            reason = f"it contains custom code{named}, which is only run with trust_remote_code=true, by train never"
        if isinstance(error, pickle.UnpicklingError):
            reason = "its weights are a pickle of more than tensors, which could run code: convert them to safetensors"
        if isinstance(error, LookupError):  # whose text is a name alone
            reason = f"its files lack {reason}"
        if isinstance(error, SafetensorError):
            reason = f"a file of its weights is not whole, or none ({reason}): fetch it again"
        if "Unrecognized configuration class" in reason:
            reason = f"it is no video or image-text model ({reason})"
        if "does not support an attention implementation" in reason:
            reason = f"it has no {weights.attn_implementation}: use attn_implementation=eager"
        raise UserError(f"the checkpoint {name} cannot be loaded: {reason}") from error


def _maps(file: Path) -> bool:
    """Whether a checkpoint's file names code of the checkpoint."""
    return b'"auto_map"' in file.read_bytes()


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
    """transformers' form of ``settings``, with the model's own token ids."""
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


def takes(model: Any, name: str) -> bool:
    """Whether a model's forward has a parameter of that name."""
    return name in inspect.signature(model.forward).parameters


def last_logits(model: Any, count: int) -> dict[str, int]:
    """What keeps a model from computing logits for more than the last tokens: of a whole video they would take more
    memory than the model."""
    return {"logits_to_keep": count} if takes(model, "logits_to_keep") else {}


def bounds_pixels(processor: Any) -> bool:
    """Whether a video processor sizes frames by a number of pixels, its ``size.longest_edge``, and not by an edge."""
    return hasattr(sys.modules[type(processor).__module__], "smart_resize") or hasattr(processor, "smart_resize")


def bounds_all_frames(processor: Any) -> bool:
    """Whether that number is of all frames together, as of Qwen3-VL and GLM, or of each, as of Qwen2-VL."""
    if type(processor).__name__ == "VideoLlama3VideoProcessor":  # which divides it by their number before it resizes
        return True
    return "num_frames" in inspect.signature(_resize(processor)).parameters


def bounds_each_frame_too(processor: Any) -> bool:
    """Whether a processor bounds all frames together and each of them besides."""
    return bounds_pixels(processor) and "max_image_size" in inspect.signature(_resize(processor)).parameters


def refuses_one_frame(processor: Any) -> bool:
    """Whether a video processor cannot take a single frame: it raises an error where others repeat the frame."""
    if not bounds_pixels(processor) or "temporal_factor" not in inspect.signature(_resize(processor)).parameters:
        return False
    try:
        _resize(processor)(num_frames=1, height=112, width=112, temporal_factor=int(processor.temporal_patch_size))
    except ValueError:
        return True
    return False


def _resize(processor: Any) -> Any:
    """What a processor that bounds pixels chooses a size with."""
    return getattr(processor, "smart_resize", None) or sys.modules[type(processor).__module__].smart_resize  # type: ignore[attr-defined]


def processor_defaults(processor: Any, kind: str) -> Mapping[str, Any]:
    """What a processor gives its video or image processor where nobody says otherwise, whatever that has by itself.

    ``kind`` is videos_kwargs or images_kwargs. Before 5.24 these stand in the types of its arguments.
    """
    older = getattr(getattr(processor, "valid_processor_kwargs", None), "_defaults", {}).get(kind)
    return getattr(processor, kind, None) or older or {}


def check_fit(info: dict[str, Any], pretrained: str, model: str, kinds: Sequence[str]) -> None:
    """Raise UserError, naming some of them, where weights are missing or in excess (``info`` is transformers')."""
    for kind in kinds:
        if info.get(kind):
            names = ", ".join(str(key) for key in sorted(info[kind], key=str)[:3])
            more = f" and {len(info[kind]) - 3} more" if len(info[kind]) > 3 else ""
            raise UserError(f"{pretrained} does not fit {model}: {kind.replace('_', ' ')}: {names}{more}")


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


def answer(model: Any, tokenizer: Any, tokens: list[int], prompt_tokens: int, behind: str = "") -> Answer:
    """What a model said in ``tokens``, the end token with them if there was one.

    ``behind`` is the prompt's text behind the question, which may open the model's thinking for it.
    """
    stopped = bool(tokens) and tokens[-1] in end_ids(model)
    thoughts, text = split_tokens(tokenizer, tokens, behind)
    return Answer(text, len(tokens), "stop" if stopped else "length", prompt_tokens, thoughts)


def split_tokens(tokenizer: Any, tokens: Sequence[int], behind: str = "") -> tuple[str, str]:
    """The thinking in ``tokens`` and the answer after it; no answer where the thinking does not end.

    Marks may be special tokens, which plain decoding drops: they are looked for in the whole text.
    """

    def decoded(some: Sequence[int], special: bool = False) -> str:
        text: str = tokenizer.decode(list(some), skip_special_tokens=not special, clean_up_tokenization_spaces=False)
        return text

    whole = decoded(tokens, special=True)
    for opening, closing in THINKING_MARKS:
        opened = behind.rfind(opening) > behind.rfind(closing) or whole.lstrip().startswith(opening)
        if closing not in whole and not opened:
            continue
        end = _end_of_thinking(tokens, closing, lambda some: decoded(some, special=True))
        thoughts, text = decoded(tokens[:end]), decoded(tokens[end:])
        thoughts, mark, rest = thoughts.rpartition(closing) if closing in thoughts else (thoughts, "", "")
        for mark in (opening, opening.rpartition(">")[2]):  # what is special in it is decoded to nothing
            thoughts = thoughts.strip().removeprefix(mark)
        return thoughts.strip(), (rest + text).lstrip()
    return "", decoded(tokens)


def _end_of_thinking(tokens: Sequence[int], closing: str, decoded: Callable[[Sequence[int]], str]) -> int:
    """How many tokens there are up to the end of the last ``closing``; all where there is none."""
    count = decoded(tokens).count(closing)
    low, high = 0, len(tokens)
    while count and low < high:  # the first place by which all of them have been said
        middle = (low + high) // 2
        low, high = (low, middle) if decoded(tokens[:middle]).count(closing) >= count else (middle + 1, high)
    return high


def seed_of(settings: GenerationSettings, prompt: str) -> int:
    """By the question, so that what is drawn depends on neither the order of questions nor a restart."""
    digest = hashlib.sha256(f"{settings.seed} {prompt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_sampling(settings: GenerationSettings, prompt: str) -> None:
    import torch

    if settings.do_sample:
        torch.manual_seed(seed_of(settings, prompt))


class PlainText:
    """Tokens of texts that people wrote, between texts of a chat's form.

    A question that holds ``<|im_end|>`` or ``<video>`` would end its turn, or ask for a video that is not there. Where
    the tokenizer can take such a text for letters it does; else the question is refused.

    control   further texts that mean something to the model, whatever the tokenizer says of them
    """

    def __init__(self, tokenizer: Any, control: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        added = {str(token) for token in (*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens)}
        special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        self._added = re.compile("|".join(map(re.escape, sorted(added, key=len, reverse=True))) or r"(?!)")
        # Not whitespace, which some tokenizers have tokens of.
        control_texts = {text for text in {*special, *tokenizer.all_special_tokens, *control} if text and text.strip()}
        self._control = re.compile("|".join(map(re.escape, sorted(control_texts, key=len, reverse=True))) or r"(?!)")

    def check(self, text: str, what: str) -> None:
        """Raise ValueError where ``text`` holds a control token."""
        if (found := self._control.search(text)) is not None:
            raise ValueError(f"{what} holds {found.group()!r}, which is a control token of this model and no text")

    def ids(self, before: str, text: str, behind: str, special: bool = False) -> list[int]:
        """Of the three texts in a row; ``special`` as the tokenizer's ``add_special_tokens``. Raises ValueError."""
        found = self._control.search(text)
        if found is None:
            return self._ids(before + text + behind, special)
        starts = [match.end() for match in self._added.finditer(before)]
        end = next((match.start() for match in self._added.finditer(behind)), len(behind))
        start = starts[-1] if starts else 0
        head, tail = self._ids(before[:start], special) if start else [], self._ids(behind[end:])
        middle = self._ids(before[start:] + text + behind[:end], split=True)
        # Tokenizers split at added tokens, so that the parts make the whole. Not all of them: some put a space first.
        plain = [*head, *self._ids(before[start:] + "text" + behind[:end], split=True), *tail]
        controls = {
            token
            for match in self._control.finditer(text)
            if (token := self._tokenizer.convert_tokens_to_ids(match.group())) is not None
        }
        if plain != self._ids(f"{before}text{behind}", special) or controls.intersection(middle):
            self.check(text, "the question")
        return [*head, *middle, *tail]

    def _ids(self, text: str, special: bool = False, split: bool = False) -> list[int]:
        more = {"split_special_tokens": True} if split else {}
        ids: list[int] = list(self._tokenizer(text, add_special_tokens=special, **more).input_ids)
        return ids


# What the released training script tunes on videos (TIGER-AI-Lab/Vamba, scripts/sft_vamba.sh: "visual.merger,model"):
# the text model with all that Vamba adds to it, and the vision tower's merger. The tower and lm_head are frozen.
_FROZEN = ("visual.patch_embed.", "visual.blocks.", "lm_head.")


def begin_training(model: Any) -> None:
    """Training mode with gradient checkpointing, the weights frozen that the released training script freezes."""
    if model.training:
        return
    model.train()
    checkpoint_activations(model)
    for name, weight in model.named_parameters():
        weight.requires_grad_(not name.removeprefix("model.").startswith(_FROZEN))


def checkpoint_activations(model: Any) -> None:
    """Have a model that is trained compute its activations again in backward, instead of keeping them."""
    # transformers 5.18 gave it another name.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    model.disable_input_require_grads()  # else frozen parts would be trained through, for nothing

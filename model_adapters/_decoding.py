"""Greedy continuation of prompts that share a prefix, whose keys and values are neither copied nor repeated.

Attention to the prefix, of which nothing is masked, and to a prompt's own tokens are computed apart and joined: any
number of prompts about one video go on together while its keys and values are read once. A step of decoding launches
hundreds of small kernels, and launching takes longer than running them, so on a GPU the second step is captured as a
CUDA graph, and this and all later ones are replayed, whatever the video. Gives the tokens of the model's ``generate``.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import GenerationConfig
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vamba_eval.contracts import first_line
from vamba_eval.cost.flops import counting_flops
from vamba_eval.cost.meter import mark_first_token

from . import _caches, _transformers
from ._cuda_graph import capture

ROOM_TOKENS = 256  # a question with options and its answer take one or two times as many
ROOMS_KEPT = 2
_ATTENTION = "shared_prefix"  # its name among transformers' implementations
log = logging.getLogger(__name__)


class UnlikeAttentionError(Exception):
    """A model's attention does something that is not known here."""


class Decoder:
    """Continues prompts about one video after another. Keeps the `_Room` of the sizes that were needed last."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._rooms: dict[tuple[int, int], _Room] = {}
        self._configs = _configs_of_attention(model)
        usual = {config._attn_implementation for config in self._configs} == {"sdpa"}
        self._usable = usual and _transformers.takes(model, "position_ids")

    def takes(self, cache: Any) -> bool:
        """Whether prompts can be continued so from a prefix's cache."""
        return (
            self._usable
            and _caches.is_plain(cache)
            and all(layer.keys.shape == layer.values.shape for layer in cache.layers)
        )

    @torch.inference_mode()
    def __call__(
        self,
        prefix: Any,
        position: Tensor,
        prompts: Sequence[Tensor],
        types: Sequence[str],
        config: GenerationConfig,
    ) -> list[list[int]] | None:
        """The tokens that continue each prompt, an end token the last; None where the model's attention cannot do it.

        prefix     the cache of what stands before the prompts, of one sequence
        position   of the prefix's last token, (rows, 1, 1) or (1, 1)
        prompts    token ids (1, M) each, on the model's device
        types      names of what the model takes for the kinds of tokens, which are 0 of text
        """
        size = room_for(max(prompt.shape[1] for prompt in prompts) + config.max_new_tokens)
        try:
            with self._as_attention():
                room = self._room(size, len(prompts), prefix)
                try:
                    return self._continue(room, prefix, position, prompts, types, config)
                finally:
                    room.end()
        except UnlikeAttentionError as error:
            log.info("%s decodes by transformers' generate: %s", type(self._model).__name__, error)
            self._usable = False
            return None

    def _continue(
        self,
        room: _Room,
        prefix: Any,
        position: Tensor,
        prompts: Sequence[Tensor],
        types: Sequence[str],
        config: GenerationConfig,
    ) -> list[list[int]]:
        end_ids = set(config.eos_token_id)
        said: list[list[int]] = [[] for _ in prompts]
        going = list(range(len(prompts)))
        for step in range(config.max_new_tokens):
            room.bar(_barred(config, step))
            tokens = room.go_on() if step else room.begin(prefix, position, prompts, types)
            for prompt in going:
                said[prompt].append(tokens[prompt])
            going = [prompt for prompt in going if tokens[prompt] not in end_ids]
            if not going:
                break
        return said

    def _room(self, size: int, prompts: int, prefix: Any) -> _Room:
        room = self._rooms.pop((size, prompts), None)
        while len(self._rooms) >= ROOMS_KEPT:
            del self._rooms[next(iter(self._rooms))]
        self._rooms[size, prompts] = room = room or _Room(self._model, size, prompts, prefix)
        return room

    @contextmanager
    def _as_attention(self) -> Iterator[None]:
        """With the attention below as the model's; without a mask function of its own, transformers makes no mask."""
        ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, _attend)
        for config in self._configs:
            config._attn_implementation = _ATTENTION
        try:
            yield
        finally:
            for config in self._configs:
                config._attn_implementation = "sdpa"


def room_for(tokens: int) -> int:
    """Tokens that a room has place for, rounded up so that questions share one."""
    return -(-tokens // ROOM_TOKENS) * ROOM_TOKENS


def _configs_of_attention(model: Any) -> list[Any]:
    """The configurations by which layers of the text model choose their attention."""
    own = [model.config.get_text_config(decoder=True)]
    own += [module.config for module in model.modules() if hasattr(module, "layer_idx") and hasattr(module, "config")]
    return list({id(config): config for config in own}.values())


def _barred(config: GenerationConfig, step: int) -> tuple[int, ...]:
    """Tokens that cannot be the next."""
    barred = {*(config.suppress_tokens or ())}
    barred.update((config.begin_suppress_tokens or ()) if not step else ())
    barred.update(config.eos_token_id if step < (config.min_new_tokens or 0) else ())
    return tuple(sorted(barred))


class _Room:
    """The state of continuations of one prefix, always in the same place, and the graph of a step that works on it.

    prefix        of each layer, keys and values (1, key/value heads, tokens, head_dim) of the prefix now continued
    addresses     of these keys and values on a GPU, (layers, 2): a graph finds them when it runs
    tokens        how many tokens these have, (1,)
    keys, values  of each layer, (prompts, key/value heads, size, head_dim): of the prompts and what continues them
    lengths       how many tokens of these each prompt has, (prompts,)
    """

    def __init__(self, model: Any, size: int, prompts: int, prefix: Any) -> None:
        self._model = model
        self.device = prefix.layers[0].keys.device
        self.one_device = all(layer.keys.device == self.device for layer in prefix.layers)
        self.keys, self.values = (
            [
                torch.zeros(prompts, x.shape[1], size, x.shape[3], dtype=x.dtype, device=x.device)
                for x in (getattr(layer, name) for layer in prefix.layers)
            ]
            for name in ("keys", "values")
        )
        self.prefix: list[tuple[Tensor, Tensor]] = []
        self.prefix_tokens = 0
        self.addresses = torch.zeros(len(self.keys), 2, dtype=torch.int64, device=self.device)
        self.tokens = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.lengths = torch.zeros(prompts, dtype=torch.int64, device=self.device)
        self.rows = torch.arange(prompts, device=self.device)
        self.cache = Cache(layers=[_Layer(self, number) for number in range(len(self.keys))])
        self.beginning = False  # while the prompts' own tokens are on their way
        self.reached: set[int] = set()  # layers whose attention was asked for since
        self._token = torch.zeros(prompts, 1, dtype=torch.int64, device=self.device)
        self._position: Tensor | None = None
        self._types: dict[str, Tensor] = {}
        self._barred: tuple[int, ...] = ()
        self._bars: Tensor | None = None  # what is added to logits, (vocabulary,)
        self._stepped = False  # kernels are loaded by a first step, which must not be captured
        self._graph: torch.cuda.CUDAGraph | None = None
        self._captures = True

    @property
    def replays(self) -> bool:
        """Whether steps can be a graph, by kernels that look for the prefix themselves."""
        kernels = self.one_device and self.device.type == "cuda" and _split_attention() is not None
        dim = self.keys[0].shape[-1]
        return kernels and dim >= 16 and dim & (dim - 1) == 0 and not counting_flops()

    def bar(self, tokens: tuple[int, ...]) -> None:
        """These tokens cannot be the next."""
        if self._bars is not None and tokens != self._barred:
            self._bars.zero_()
            self._bars[list(tokens)] = -torch.inf
        self._barred = tokens

    def end(self) -> None:
        """Let go of the prefix."""
        self.prefix = []

    def begin(self, prefix: Any, position: Tensor, prompts: Sequence[Tensor], types: Sequence[str]) -> list[int]:
        """The first token after each prompt."""
        for layer in prefix.layers:  # once: kernels count on it
            layer.keys, layer.values = layer.keys.contiguous(), layer.values.contiguous()
        self.prefix = [(layer.keys, layer.values) for layer in prefix.layers]
        if self.device.type == "cuda":
            pairs = [[keys.data_ptr(), values.data_ptr()] for keys, values in self.prefix]
            self.addresses.copy_(torch.tensor(pairs))
        self.prefix_tokens = self.prefix[0][0].shape[2]
        self.tokens.fill_(self.prefix_tokens)
        counts = [prompt.shape[1] for prompt in prompts]
        length, shortest = max(counts), min(counts)
        # What is padded follows the prompts' tokens, which never look at it.
        ids = torch.cat([pad(prompt, (0, length - prompt.shape[1]), value=int(prompt[0, -1])) for prompt in prompts])
        if self._position is None:
            self._position = position.expand(*position.shape[:-2], len(prompts), 1).clone()
            self._types = {name: torch.zeros_like(self._token) for name in types}
        self._position.copy_(position)
        places = self._position + 1 + torch.arange(length, device=self.device)
        self.lengths.copy_(torch.tensor(counts))
        self.beginning = True
        self.reached.clear()
        try:
            logits = self._logits(ids, places, length - shortest + 1)
        finally:
            self.beginning = False
        if self.reached != set(range(len(self.keys))):
            raise UnlikeAttentionError("its layers do not ask transformers for attention")
        last = torch.tensor(counts) - shortest
        self._choose(logits[self.rows.to(logits.device), last.to(logits.device)])
        mark_first_token()
        return self._taken()

    def go_on(self) -> list[int]:
        """The next token of each."""
        if self._stepped and self._graph is None and self._captures and self.replays:
            self._graph = self._captured()
        if self._graph is not None and self.replays:
            self._graph.replay()
        else:
            self._step()
            self._stepped = self._stepped or self.replays
        return self._taken()

    def _captured(self) -> torch.cuda.CUDAGraph | None:
        """A graph of a step; None where the model copies to or from the host, as some mixtures of experts do."""
        try:
            return capture(self._step, self.device)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.info("steps of %s cannot be captured: %s", type(self._model).__name__, first_line(error))
            self._captures = False
            return None

    def _taken(self) -> list[int]:
        tokens: list[int] = self._token[:, 0].tolist()
        return tokens

    def _step(self) -> None:
        assert self._position is not None
        self._choose(self._logits(self._token, self._position + 1 + self.lengths[:, None], 1)[:, -1])
        self.lengths.add_(1)

    def _choose(self, logits: Tensor) -> None:
        if self._bars is None:
            self._bars = torch.zeros(logits.shape[-1], device=logits.device)
            self._bars[list(self._barred)] = -torch.inf
        self._token.copy_((logits.float() + self._bars).argmax(-1, keepdim=True))

    def _logits(self, ids: Tensor, positions: Tensor, count: int) -> Tensor:
        """Of the last ``count`` of the tokens (prompts, M), at positions (rows, prompts, M) or (prompts, M)."""
        room = _room.set(self)
        try:
            logits: Tensor = self._model(
                input_ids=ids,
                position_ids=positions,
                use_cache=True,
                **{name: value.expand_as(ids) for name, value in self._types.items()},
                **_transformers.last_logits(self._model, count),
                **{_transformers.cache_name(): self.cache},
            ).logits
        finally:
            _room.reset(room)
        return logits[:, -count:]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Of queries (prompts, heads, M, head_dim) to the prefix and to what each prompt has of its own, as queries."""
        prompts, heads, length, dim = query.shape
        kv_heads = key.shape[1]
        grouped = query.view(prompts, kv_heads, heads // kv_heads, length, dim)
        # Each query sees all of the prefix, so that those of all prompts and heads go as one sequence.
        alike = grouped.transpose(0, 1).reshape(1, kv_heads, -1, dim)
        before, before_log = self._to_prefix(layer, alike, scale)
        before = before.view(kv_heads, prompts, heads // kv_heads, length, dim).transpose(0, 1)
        before_log = before_log.view(kv_heads, prompts, heads // kv_heads, length).transpose(0, 1)
        own, own_log = (self._to_own if self.beginning else self._to_room)(grouped, key, value, scale)
        share = torch.sigmoid(before_log - own_log)[..., None]
        joined = torch.lerp(own.float(), before.float(), share)
        return joined.to(query.dtype).view_as(query)

    def _to_prefix(self, layer: int, query: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        if not self.beginning and self.replays:
            return _split_attention().part_of_attention_at(query, self.addresses[layer], self.tokens, scale)
        keys, values = self.prefix[layer]
        return _part_of_attention(query, keys, values, False, scale)

    def _to_own(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Of prompts to their own tokens, which are the keys."""
        prompts, kv_heads, groups, length, dim = query.shape
        key, value = (
            x[:, :, None].expand_as(query).reshape(prompts, kv_heads * groups, length, dim) for x in (key, value)
        )
        out, logs = _part_of_attention(query.reshape_as(key), key, value, True, scale)
        return out.view_as(query), logs.view(query.shape[:-1])

    def _to_room(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Of one token of each prompt to the prompt's own up to it, in float32: there are few."""
        scores = (query[..., 0, :].float() @ key.float().transpose(-1, -2)) * scale
        later = torch.arange(key.shape[2], device=key.device) > self.lengths.to(key.device)[:, None, None, None]
        scores = scores.masked_fill(later, -torch.inf)
        logs = scores.logsumexp(-1, keepdim=True)
        return (torch.exp(scores - logs) @ value.float())[..., None, :], logs


class _Layer(CacheLayerMixin):
    """Where a layer's keys and values of a room's own tokens are written; transformers calls it."""

    def __init__(self, room: _Room, number: int) -> None:
        super().__init__()
        self._room, self._number = room, number
        self.is_initialized = True

    def lazy_initialization(self, *_: Any) -> None:
        """Nothing: a room is made whole."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """The keys and values to attend to, beside the prefix's."""
        room, length = self._room, key_states.shape[2]
        keys, values = room.keys[self._number], room.values[self._number]
        if room.beginning:
            keys[:, :, :length], values[:, :, :length] = key_states, value_states
            return key_states, value_states
        rows, lengths = room.rows.to(keys.device), room.lengths.to(keys.device)
        keys[rows, :, lengths], values[rows, :, lengths] = key_states[:, :, 0], value_states[:, :, 0]
        return keys, values

    def get_seq_length(self) -> int:
        """Of the prefix: positions are always given, and no mask is made of it."""
        return self._room.prefix_tokens

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1


_room: ContextVar[_Room | None] = ContextVar("room", default=None)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **given: Any,
) -> tuple[Tensor, None]:
    """As transformers calls attention: (prompts, heads, tokens, head_dim), to (prompts, tokens, heads, head_dim)."""
    room = _room.get()
    unknown = [name for name in ("softcap", "s_aux", "sliding_window", "position_bias") if given.get(name) is not None]
    if room is None or attention_mask is not None or unknown or given.get("is_causal") is False:
        raise UnlikeAttentionError(f"its attention has {', '.join(unknown) or 'a mask'}")
    room.reached.add(module.layer_idx)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return room.attend(module.layer_idx, query, key, value, scale).transpose(1, 2).contiguous(), None


def _part_of_attention(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """PyTorch's attention, as query, and the logarithms of the sums of its weights, (1, heads, M) float32.

    Its public function keeps those to itself.
    """
    aten = torch.ops.aten
    query, key, value = (x.contiguous() for x in (query, key, value))
    if query.device.type == "cpu":
        return aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, causal, scale=scale)[:2]
    if query.dtype != torch.float32 and query.shape[-1] <= 256 and query.shape[-1] % 8 == 0:
        return aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal, False, scale=scale)[:2]
    out, logs, *_ = aten._scaled_dot_product_efficient_attention(
        query, key, value, None, True, 0.0, causal, scale=scale
    )
    return out, logs[..., : query.shape[2]]


@functools.cache
def _split_attention() -> Any:
    """Our Triton kernels, if they can be imported."""
    try:
        from . import _split_attention as kernels
    except ImportError:
        return None
    return kernels

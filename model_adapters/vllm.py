"""vLLM: any video or image-text model that it knows, by its engine in this process; pretrained= says which.

Prompts are those of the adapter `transformers`, token by token: the same chat template and tokenizer, frames that are
neither sampled again nor shrunk, their true times. A video is processed once; its first question fills vLLM's prefix
cache, from which the others are answered.
"""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import hashlib
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np

from vamba_eval.contracts import Answer, Clip, GenerationSettings, Seen, ServedModel, UserError, first_line
from vamba_eval.machine import how_to_install

from . import _engine, _frames, _transformers
from ._chat import _MARK, Chat, pixels

# Engine arguments that change where and how fast it works, and of an answer at most the rounding.
_NO_ANSWER_DECIDED = frozenset(
    (
        *("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "distributed_executor_backend"),
        *("gpu_memory_utilization", "kv_cache_memory_bytes", "cpu_offload_gb", "max_num_batched_tokens"),
        *("max_num_seqs", "block_size", "mm_tensor_ipc", "mm_encoder_tp_mode", "download_dir", "load_format"),
        *("max_parallel_loading_workers", "disable_custom_all_reduce", "enable_expert_parallel"),
    )
)
# What this adapter tells the engine itself.
_OWN = frozenset(
    (
        *("model", "tokenizer", "generation_config", "override_generation_config", "limit_mm_per_prompt"),
        *("mm_processor_kwargs", "mm_processor_cache_gb", "enable_prefix_caching", "skip_tokenizer_init"),
        *("disable_log_stats", "media_io_kwargs", "seed"),
    )
)
_FRAME = -1  # a place in a prompt that frames take
log = logging.getLogger(__name__)


@dataclasses.dataclass
class _Shown:
    """What stands before a question.

    inputs   vLLM's, of the prefix: its tokens, and what its processor made of the frames
    before   text before the question, ``behind`` text behind it
    skip     how many of a whole prompt's tokens, unexpanded, the prefix has
    first    tokens before all of it, which the processor puts there and the tokenizer does not
    items    how many videos or pictures there are, by modality
    """

    inputs: dict[str, Any]
    before: str
    behind: str
    skip: int = 0
    first: tuple[int, ...] = ()
    items: Mapping[str, int] = dataclasses.field(default_factory=dict)
    seen: Seen | None = None


class VLLM(Chat, ServedModel):
    """Arguments: ``pretrained``, ``revision``, ``dtype``, ``trust_remote_code``, ``frames_as``, ``max_pixels``,
    ``total_pixels``, ``system`` and ``thinking`` as of the adapter `transformers`; ``concurrency``, videos that are in
    flight at once; ``max_model_len``, tokens of the longest prompt with its answer (by default as many as the videos
    need); and any other of vLLM's engine arguments, such as ``tensor_parallel_size``, ``gpu_memory_utilization``,
    ``quantization`` (docs/vllm.md).
    """

    name = "vllm"
    takes_captions = True

    def __init__(
        self,
        pretrained: str | None = None,
        revision: str | None = None,
        dtype: str = "auto",
        trust_remote_code: bool | str = False,
        frames_as: str = "auto",
        max_pixels: int | str | None = None,
        total_pixels: int | str | None = None,
        system: str | None = None,
        thinking: bool | str | None = None,
        concurrency: int | str = 8,
        max_model_len: int | str | None = None,
        **engine: Any,
    ) -> None:
        if pretrained is None:
            raise UserError("which model? give pretrained=, a folder or a Hub id")
        self.concurrency = _transformers.count("concurrency", concurrency)
        room = None if max_model_len is None else _transformers.count("max_model_len", max_model_len)
        self.system = system
        self.thinking = None if thinking is None else _transformers.boolean("thinking", thinking)
        self.max_pixels, self.total_pixels = pixels("max_pixels", max_pixels), pixels("total_pixels", total_pixels)
        if own := sorted(_OWN.intersection(engine)):
            raise UserError(f"{own[0]}= is not for you to give: this adapter says it to vLLM; leave it out")
        version = _installed()
        options = _options(engine)
        weights = _transformers.choose_weights(
            pretrained=pretrained,
            revision=revision,
            device="auto",
            dtype=dtype,
            device_map=None,
            attn_implementation="sdpa",
            random=None,
            seed=0,
            trust_remote_code=trust_remote_code,
        )
        self._description = {"engine": f"vllm {version}", "dtype": str(weights.dtype).removeprefix("torch.")}
        self._load(weights)
        self._check_template()
        self._choose_frames(frames_as)
        decides = {name: value for name, value in options.items() if name not in _NO_ANSWER_DECIDED}
        self._description |= {**self._choices(), **decides}
        given = {
            **{"model": pretrained, "revision": revision, "tokenizer_revision": revision},
            **{"trust_remote_code": weights.trust_remote_code, "dtype": self._description["dtype"]},
            # Of generation_config.json nothing acts but what `_load` takes from it. Frames are processed here, once.
            **{"generation_config": "vllm", "mm_processor_cache_gb": 0, "enable_prefix_caching": True},
            **options,
        }
        limit = self._start_renderer(given, room)
        self._engine = _engine.Engine(given, room, limit)
        self._note_prompt()

    @classmethod
    def check_arguments(cls, **arguments: Any) -> None:
        _transformers.check_arguments(**arguments)

    def describe(self) -> dict[str, Any]:
        return dict(self._description)

    def close(self) -> None:
        self._engine.close()
        self._renderer.shutdown()

    # ------------------------------------------------------------------------------------------------- answers

    async def answer(
        self, clip: Clip | None, prompts: Sequence[str], settings: GenerationSettings
    ) -> AsyncIterator[tuple[int, Answer | Exception]]:
        start, begun = time.monotonic(), asyncio.Event()
        shown = await asyncio.to_thread(self._show, clip)
        showing_s = time.monotonic() - start

        async def one(place: int, prompt: str) -> tuple[int, Answer | Exception]:
            if place:  # the first one's prefix is then in the cache
                await begun.wait()
            try:
                answer, seconds = await self._ask(shown, prompt, settings, begun)
            except UserError:
                raise
            except Exception as error:
                return place, error
            finally:
                begun.set()
            answer.latency_s = seconds if place else showing_s + seconds
            return place, answer

        asked = [asyncio.create_task(one(place, str(prompt))) for place, prompt in enumerate(prompts)]
        try:
            for done in asyncio.as_completed(asked):
                yield await done
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _ask(
        self, shown: _Shown, prompt: str, settings: GenerationSettings, begun: asyncio.Event
    ) -> tuple[Answer, float]:
        """The answer, and the seconds that the engine took for it."""
        asked = prompt.strip() if self._trims else prompt
        special = self._adds_special(shown.before)
        with self._tokenizing:
            question = self._plain.ids(shown.before, asked, shown.behind, special)[shown.skip :]
        ids = [*shown.first, *shown.inputs["prompt_token_ids"], *question]
        tokens = len(ids) + settings.max_new_tokens
        if tokens > self._engine.limit:
            raise ValueError(
                f"{tokens:,} tokens with the longest answer, but {self._limited}: use fewer or smaller frames "
                "(--num-frames, --longest-edge, max_pixels=)"
            )
        loop = asyncio.get_running_loop()
        self._in_flight += 1
        in_flight = self._in_flight
        try:
            output, seconds = await self._engine.generate(
                {**shown.inputs, "prompt_token_ids": ids},
                self._sampling(settings, prompt),
                tokens,
                shown.items,
                lambda: loop.call_soon_threadsafe(begun.set),
            )
        finally:
            self._in_flight -= 1
        (said,) = output.outputs
        if said.finish_reason not in ("stop", "length"):
            raise RuntimeError(f"vLLM gave no whole answer (finish_reason {said.finish_reason!r})")
        thoughts, text = _transformers.split_tokens(self.tokenizer, list(said.token_ids), shown.behind)
        answer = Answer(
            text,
            num_tokens=len(said.token_ids),
            finish_reason=said.finish_reason,
            prompt_tokens=len(ids),
            thinking=thoughts,
            cached_tokens=output.num_cached_tokens or 0,
            in_flight=in_flight,
            seen=shown.seen,
        )
        return answer, seconds

    def _sampling(self, settings: GenerationSettings, prompt: str) -> Any:
        """vLLM's form of ``settings``, seeded by the question where answers are sampled."""
        from vllm import SamplingParams

        sampling: dict[str, Any] = {"temperature": 0.0}
        if settings.do_sample:
            sampling = {"temperature": settings.temperature, "seed": _transformers.seed_of(settings, prompt)}
            sampling |= {"top_p": settings.top_p or 1.0, "top_k": settings.top_k or 0}
        return SamplingParams(
            max_tokens=settings.max_new_tokens,
            min_tokens=settings.min_new_tokens,
            stop_token_ids=self._ends,
            ignore_eos=True,  # vLLM would take the tokenizer's as well
            detokenize=False,
            **sampling,
        )

    # -------------------------------------------------------------------------------------------------- prompt

    def _show(self, clip: Clip | None) -> _Shown:
        """What stands before a question about ``clip``, as vLLM's processor has it."""
        text = self._render(clip)
        before, _, behind = text.partition(_MARK)
        if clip is None:
            inputs = self._rendered({"prompt_token_ids": [0]})  # the question's tokens take the place of this one
            with self._tokenizing:
                first = self._first_tokens(text)
            return _Shown({**inputs, "prompt_token_ids": []}, before, behind, first=first)
        # Tokenizers split at added tokens: what stands before the last one is tokenized alike, whatever follows.
        end = max((before.rfind(added) + len(added) for added in self._added if added in before), default=0)
        with self._tokenizing:
            prefix = self._tokens(before[:end], self._adds_special(text))
            whole = self._tokens(text, self._adds_special(text))
        if whole[: len(prefix)] != prefix:
            raise UserError(
                f"{self._name}: its tokenizer takes what stands before a question otherwise with a question"
            )
        inputs = self._rendered({"prompt_token_ids": prefix, **self._frames(clip)})
        items = {modality: len(found) for modality, found in inputs["mm_kwargs"].items()}
        shown = _Shown(inputs, before, behind, len(prefix), items=items)
        tokens = sum(place.get_num_embeds() for places in inputs["mm_placeholders"].values() for place in places)
        shown.seen = self._seen(clip, self._tensors(inputs), inputs["prompt_token_ids"], tokens)
        return shown

    def _frames(self, clip: Clip) -> dict[str, Any]:
        """The frames as a prompt of vLLM has them, with what its processor is told of them."""
        name = _digest(clip)
        if self._as_images(clip):
            from PIL import Image

            pictures = [Image.fromarray(frame) for frame in clip.frames]
            names = [f"{name}-{place}" for place in range(len(pictures))]
            told = self._bounds(self.processor.image_processor, clip)
            return _multimodal("image", pictures, names, told)
        clip = _frames.long_enough(clip, self.processor.video_processor)
        # Some of vLLM's processors look for it here, some there.
        about = {**_frames.metadata(clip, self.kind), "do_sample_frames": False}
        told = {"do_sample_frames": False, **self._bounds(self.processor.video_processor, clip)}
        return _multimodal("video", [(clip.frames, about)], [name], told)

    def _rendered(self, prompt: dict[str, Any]) -> dict[str, Any]:
        with self._rendering:
            (inputs,) = self._renderer.render_cmpl([prompt])
        return dict(inputs)

    @staticmethod
    def _tensors(inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What vLLM's processor made of frames, under the names of transformers, pixels under one of them."""
        import torch

        found: dict[str, list[torch.Tensor]] = {}
        for items in inputs["mm_kwargs"].values():
            for item in items:
                for name, element in item.items():
                    if isinstance(element.data, torch.Tensor):
                        data = element.data[None] if element.data.ndim < 2 else element.data
                        found.setdefault("pixel_values" if "pixel_values" in name else name, []).append(data)
        same = {name: parts for name, parts in found.items() if len({part.shape[1:] for part in parts}) == 1}
        return {name: torch.cat(parts) for name, parts in same.items()}

    def _tokens(self, text: str, special: bool) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=special).input_ids)

    # ------------------------------------------------------------------------------------------------- loading

    def _load(self, weights: _transformers.Weights) -> None:
        """The processor, and what of the checkpoint's generation_config.json says which tokens end an answer."""
        from transformers import AutoConfig, AutoProcessor, GenerationConfig

        source = {"revision": weights.revision, "trust_remote_code": weights.trust_remote_code}
        name = str(weights.pretrained)
        _transformers.check_files(weights)
        with _transformers.reading_checkpoint(weights):
            config = AutoConfig.from_pretrained(name, **source)
            self.processor = AutoProcessor.from_pretrained(name, **source)
        try:
            generation = GenerationConfig.from_pretrained(name, revision=weights.revision)
        except OSError:
            generation = GenerationConfig()
        self._name, self.kind = name, str(config.model_type)
        self._learn_tokens(config)
        for suppressed in ("suppress_tokens", "begin_suppress_tokens"):
            if getattr(generation, suppressed, None):
                raise UserError(f"{name}: its generation_config.json has {suppressed}, which vLLM does not take")
        ends = generation.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        self._ends = list(ends) if isinstance(ends, list) else [int(ends)]
        self._description |= {"pretrained": name, "eos_token_id": ends}
        self._description["identity"] = _transformers.checkpoint_identity(name, config)

    def _start_renderer(self, given: Mapping[str, Any], room: int | None) -> int:
        """vLLM's processor, which needs no engine. Returns how many tokens the model can take."""
        try:
            # As many pictures as a clip may have frames: an engine is told how many there are.
            limits = {"limit_mm_per_prompt": {"video": 1, "image": 1 << 20}}
            config = _engine.engine_config({**given, **limits, "max_model_len": room})
            from vllm.renderers import renderer_from_config

            self._renderer = renderer_from_config(config)
        except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
            raise UserError(f"vLLM cannot take {self._name}: {' '.join(str(error).split())[:500]}") from error
        limit = int(config.model_config.max_model_len)
        self._limited = f"max_model_len={room:,}" if room else f"the model was made for {limit:,}"
        # A tokenizer that takes a control token for text, in another thread, does so with all texts meanwhile.
        self._rendering, self._tokenizing, self._in_flight = threading.Lock(), threading.Lock(), 0
        return limit

    def _note_prompt(self) -> None:
        """Say where vLLM makes other tokens of a prompt than transformers' processor does, on a tiny video."""
        indices = np.arange(4) * 30
        clip = Clip(np.zeros((4, 112, 112, 3), np.uint8), indices / 30.0, indices, 30.0, 4.0)
        text = self._render(clip)
        whole = {"prompt_token_ids": self._tokens(text, self._adds_special(text)), **self._frames(clip)}
        try:
            ours: list[int] = self._process(clip, text)["input_ids"][0].tolist()
            inputs = self._rendered(whole)
        except Exception as error:
            other = "" if self.frames_as == "images" or not self._can["images"] else ", or frames_as=images"
            raise UserError(
                f"{self._name} cannot be shown frames as {self.frames_as} ({first_line(error)}): use --models "
                f"{self._name}, which is the adapter of transformers{other}"
            ) from error
        # What is made of frames takes the places of tokens, whichever these are.
        ours = [_FRAME if token in self._media_tokens else token for token in ours]
        theirs = list(inputs["prompt_token_ids"])
        for place in (each for places in inputs["mm_placeholders"].values() for each in places):
            for n in range(place.length):
                if place.is_embed is None or place.is_embed[n]:
                    theirs[place.offset + n] = _FRAME
        notes = []
        for tag, i, j, k, m in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
            if tag != "equal":
                left, added = self._in_words(ours[i:j]), self._in_words(theirs[k:m])
                notes.append(" ".join(text for text in (left and f"without {left}", added and f"with {added}") if text))
        if notes:
            self._description["prompt"] = f"unlike transformers': {', '.join(notes)}"
            log.warning("%s: vLLM's prompt is %s", self._name, self._description["prompt"])

    def _in_words(self, ids: Sequence[int]) -> str:
        frames = sum(token == _FRAME for token in ids)
        text: str = self.tokenizer.decode([token for token in ids if token != _FRAME])
        return " and ".join(part for part in (text, f"{frames} tokens of frames" if frames else "") if part)


def _installed() -> str:
    """vLLM's version. Raises UserError where it is not installed."""
    try:
        import vllm
    except ImportError as error:
        missing = error.name == "vllm"
        reason = "" if missing else f" (it cannot be imported: {first_line(error)})"
        raise UserError(f"this model needs vLLM{reason}: {how_to_install('vllm')}") from None
    return str(vllm.__version__)


def _options(engine: Mapping[str, Any]) -> dict[str, Any]:
    """vLLM's engine arguments, from the command line's text. Raises UserError for one that it does not have."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    if unknown := sorted(set(engine) - known):
        raise UserError(f"vllm has no argument {unknown[0]!r}: see docs/vllm.md, and vLLM's own engine arguments")
    return {name: _value(value) for name, value in engine.items()}


def _value(value: Any) -> Any:
    """A number or a flag where the text is one."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value.lower() if value.lower() in ("true", "false") else value)
    except ValueError:
        return value


def _multimodal(modality: str, items: list[Any], names: list[str], told: dict[str, Any]) -> dict[str, Any]:
    return {
        "multi_modal_data": {modality: items},
        "multi_modal_uuids": {modality: names},
        "mm_processor_kwargs": told,
    }


def _digest(clip: Clip) -> str:
    """Names what a model sees, for vLLM's caches: the frames and where in the source they stand."""
    digest = hashlib.blake2b(np.ascontiguousarray(clip.frames).data, digest_size=16)
    digest.update(clip.timestamps_s.tobytes() + clip.frame_indices.tobytes())
    digest.update(f"{clip.frames.shape} {clip.source_fps} {clip.duration_s}".encode())
    return digest.hexdigest()

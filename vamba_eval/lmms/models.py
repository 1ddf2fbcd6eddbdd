"""Our models as lmms-eval's: a video is read ahead and encoded or sent once, then every request about it is answered.

lmms-eval takes one class for chat messages and one for ``--force_simple``: ``vamba_chat`` and ``vamba_simple``, and
alike of every other adapter. All do the same; those of served models keep many videos in flight.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from loguru import logger

from vamba_eval import presets, registry
from vamba_eval.contracts import (
    BOUNDS,
    Answer,
    FrameSampling,
    GenerationSettings,
    Model,
    ModelAdapter,
    Prompt,
    ServedModel,
    UserError,
)
from vamba_eval.lmms import manifest, ranks
from vamba_eval.lmms.answering import Account, Answering, Here, InFlight, ResolvedRequest, Round, Shown
from vamba_eval.lmms.requests import LmmsRequest, Unsupported, generation_requests, likelihood_requests
from vamba_eval.lmms.showing import Plan, Showing
from vamba_eval.machine import available_cores
from vamba_eval.reading.reader import Reader, Reading
from vamba_eval.run.plan import as_model_arg, sampling_with
from vamba_eval.run.session import Request, Session

RANDOM = "random"  # as pretrained=: a small model with random weights, to try things out
_RELEASED = {"vamba": "TIGER-Lab/Vamba-Qwen2-VL-7B", "qwen2_vl": "Qwen/Qwen2-VL-7B-Instruct"}  # without pretrained=
_SYSTEM = "You are a helpful assistant."  # what these two have
# Those two again: a picture is shown for a whole of their time steps, which are two frames each.
_IN_PAIRS = frozenset(_RELEASED)
_SPREAD = ("auto", "balanced", "balanced_low_0", "sequential")  # accelerate's ways to spread a model over devices
_OWN = "adapter_"  # before the name of an adapter's argument that is ours otherwise


class OptionScore(tuple, GenerationResult):
    """The pair that ``loglikelihood`` returns, in a form that lmms-eval 0.7.3's loop takes for what it is.

    That loop turns every result but a GenerationResult into text, so that its multiple-choice tasks fail on pairs;
    and so does its response cache with the pairs it has stored: ``strip`` tells it to store none.
    """

    def __init__(self, *_: Any) -> None:
        """Nothing but the pair."""

    @property
    def text(self) -> OptionScore:  # type: ignore[override]
        return self

    def strip(self) -> str:
        return ""


class _Model(lmms):
    """Arguments (``--model_args``); an unknown one, and one that would have no effect, is an error.

    pretrained        folder or Hub id of the checkpoint; ``random`` for a small model with random weights
    max_num_frames, num_frames  frames a video (default 512, or what our own task of that benchmark takes)
    fps               frames a second, ``num_frames`` at most
    token_budget      as many frames as fit so many patches, in place of ``num_frames``
    strategy          another rule of choosing frames: uniform, middle, segments, starts, linspace, inner;
                      fps-linspace with ``fps``
    shortest_edge, longest_edge  resize frames to these bounds (default 256 and 480); keep_size=true does not
    min_pixels, max_pixels, total_pixels, edge_multiple  size frames by area instead: of each, and of all together. Of
                      adapters that have ``min_pixels`` themselves it and ``max_pixels`` are the adapter's
    adapter_max_pixels, adapter_total_pixels  the adapter's own argument of that name
    preset            frames and arguments of the model as its authors have them
    device, device_map, dtype, attn_implementation, use_flash_attention_2, revision, trust_remote_code
    batch_size        prompts about one video answered at once, where the adapter can
    system_prompt     the adapter's ``system``
    reasoning_prompt  text put behind each question
    workers, clip_cache, clip_cache_gb, read_timeout, read_limit, worker_memory_gb, video_backend, decode_on
                      as in run_eval.py
    option_score      what loglikelihood returns: loss (default; the mean over tokens, whose smallest lmms-eval's
                      multiple-choice tasks take) or logprob (the sum, as its interface says)

    Others go to our adapter.
    """

    adapter_name: ClassVar[str]
    adapter: Model

    def __init__(
        self,
        pretrained: str | None = None,
        device: str | None = None,
        device_map: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        max_num_frames: int | None = None,
        num_frames: int | None = None,
        fps: float | None = None,
        strategy: str | None = None,
        token_budget: int | None = None,
        shortest_edge: int | None = None,
        longest_edge: int | None = None,
        keep_size: bool = False,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        total_pixels: int | None = None,
        edge_multiple: int | None = None,
        preset: str | None = None,
        use_flash_attention_2: bool = False,
        attn_implementation: str | None = None,
        use_cache: bool = True,
        max_length: int | None = None,
        system_prompt: str | None = None,
        reasoning_prompt: str | None = None,
        interleave_visuals: bool = False,
        option_score: str | None = None,
        video_backend: str | None = None,
        workers: int | None = None,
        read_timeout: float | None = None,
        read_limit: float | None = None,
        worker_memory_gb: float | None = None,
        decode_on: str | None = None,
        clip_cache: str | None = None,
        clip_cache_gb: float | None = None,
        **adapter_args: Any,
    ) -> None:
        super().__init__()
        _refuse(
            (not use_cache, "use_cache=false: keys and values of a video are always kept for its questions"),
            (max_length is not None, "max_length: prompts are never cut; leave it out"),
            (bool(interleave_visuals), "interleave_visuals: the video or pictures come first"),
            (option_score not in (None, "loss", "logprob"), f"option_score={option_score}: use loss or logprob"),
            (None not in (num_frames, max_num_frames) and num_frames != max_num_frames, "two numbers of frames"),
            (max_batch_size is not None, "max_batch_size: batches are as large as batch_size says; leave it out"),
            (clip_cache_gb is not None and not clip_cache, "clip_cache_gb without a clip_cache, whose size it is"),
        )
        _refuse_both(
            (keep_size and shortest_edge is not None, "keep_size=true does not resize frames, shortest_edge does"),
            (keep_size and longest_edge is not None, "keep_size=true does not resize frames, longest_edge does"),
            (
                device_map in _SPREAD and device not in (None, "cuda"),
                f"device_map={device_map} spreads the model over all devices, device={device} puts it on one",
            ),
            (
                use_flash_attention_2 and attn_implementation not in (None, "flash_attention_2"),
                f"use_flash_attention_2=true is another attention than attn_implementation={attn_implementation}",
            ),
        )
        self.option_score = option_score
        self._batch_size = int(batch_size) if str(batch_size).isdigit() else 1
        self._takes = inspect.signature(registry.adapter_class(self.adapter_name)).parameters
        adapter_args = {name: _unquoted(value) for name, value in adapter_args.items()}
        self._preset = None if preset is None else presets.named(preset)
        frames = {
            "num_frames": num_frames if num_frames is not None else max_num_frames,
            "fps": fps,
            "strategy": strategy or None,
            "token_budget": token_budget,
            "shortest_edge": shortest_edge,
            "longest_edge": longest_edge,
        }
        bounds = dict(zip(BOUNDS, (min_pixels, max_pixels, total_pixels, edge_multiple), strict=True))
        self._frames: dict[str, Any] = {name: value for name, value in frames.items() if value is not None}
        self._bound({name: value for name, value in bounds.items() if value is not None}, adapter_args)
        if keep_size:
            _refuse_both(
                *((name in self._frames, f"keep_size=true does not resize frames, {name} does") for name in BOUNDS)
            )
            self._frames |= {"shortest_edge": None, "longest_edge": None}
        self._sampling_of_task: dict[str, FrameSampling] = {}
        self.sampling("")  # arguments that do not go together are an error now
        self._talk(_unquoted(system_prompt), adapter_args)
        self._place(device, device_map, adapter_args)
        if workers is None and self._world_size > 1:
            workers = max(1, min(16, available_cores() // (4 * self._world_size)))
        self.reader = _reader(
            backend=video_backend,
            workers=workers,
            stall_s=read_timeout,
            total_s=read_limit,
            memory_gb=worker_memory_gb,
            decode_on=decode_on,
            cache=clip_cache,
            cache_gb=clip_cache_gb,
        )
        if attn_implementation or use_flash_attention_2:
            adapter_args["attn_implementation"] = attn_implementation or "flash_attention_2"
        pretrained = pretrained or _RELEASED.get(self.adapter_name)
        if pretrained is not None and not (pretrained == RANDOM and "random" in self._takes):
            adapter_args["pretrained"] = pretrained
        if "batch_size" in self._takes:
            adapter_args["batch_size"] = self._batch_size
        self.adapter = registry.load_adapter(self.adapter_name, **adapter_args)
        unused = [*self._frames, *(["preset"] if preset else [])]
        if unused and self.adapter.describe().get("samples_itself"):
            raise Unsupported(f"{unused[0]} has no effect, as the service chooses frames by itself: leave it out")
        self._showing = Showing(
            self.reader,
            self.sampling,
            str(_unquoted(reasoning_prompt or "")).replace("\\n", "\n"),
            frames_each=2 if self.adapter_name in _IN_PAIRS else 1,
            as_images=self.adapter.takes_captions and self.adapter_name not in _IN_PAIRS,
        )
        logger.info(f"{self.adapter_name}: {self.adapter.describe()}; frames: {self.sampling('').describe()}")

    def _bound(self, bounds: Mapping[str, int], adapter_args: dict[str, Any]) -> None:
        """Decide where frames are sized by area: when they are read, or by an adapter that bounds each frame itself."""
        own = {"min_pixels", "max_pixels"} if "min_pixels" in self._takes else set()
        here = {name: value for name, value in bounds.items() if name not in own}
        there = {name: int(value) for name, value in bounds.items() if name in own}
        for name in BOUNDS:
            if (value := adapter_args.pop(_OWN + name, None)) is not None:
                _refuse_both((name in bounds, f"{name} and {_OWN}{name} both bound frames, one behind the other"))
                adapter_args[name] = int(value)
        sized = next(iter(here), None) or (self._preset and f"preset={self._preset.name}")
        _refuse_both(
            (bool(there and sized), f"{next(iter(there), '')} bounds frames in the model, {sized} when they are read")
        )
        adapter_args |= there
        self._frames |= here
        if there and not self._frames.keys() & {"shortest_edge", "longest_edge"}:
            self._frames |= {"shortest_edge": None, "longest_edge": None}

    def _talk(self, system_prompt: str | None, adapter_args: dict[str, Any]) -> None:
        """What the preset and the system prompt say to the adapter."""
        if system_prompt is not None:
            system_prompt = self._resolve_system_prompt(system_prompt)
        if system_prompt is not None and "system" in self._takes:
            _refuse_both(("system" in adapter_args, "system_prompt and system are the same"))
            adapter_args["system"] = system_prompt
        elif system_prompt is not None:
            own = _SYSTEM if self.adapter_name in _RELEASED else None
            _refuse((system_prompt != own, "another system_prompt than the model's own"))
        if self._preset is None:
            return
        for name, value in self._preset.model.items():
            case = f"preset={self._preset.name} with {self.adapter_name}, which has no {name}={value}"
            _refuse((name not in self._takes, case))
            adapter_args.setdefault(name, value)
        if self._preset.generation:
            said = ",".join(f"{name}={value}" for name, value in self._preset.generation.items())
            logger.warning(
                f"preset={self._preset.name} chooses frames; answers are decoded as the task and --gen_kwargs say. Its "
                f"authors decode with --gen_kwargs {said}"
            )

    @abstractmethod
    def _place(self, device: str | None, device_map: str | None, adapter_args: dict[str, Any]) -> None:
        """Decide where the model works. Raises Unsupported where it cannot."""

    def _join(self) -> None:
        """Become one of lmms-eval's processes."""
        self.accelerator = Accelerator()
        self._device = self.accelerator.device
        self._world_size = self.accelerator.num_processes
        if self._world_size > 1:
            self._rank = self.accelerator.process_index

    # ------------------------------------------------------------------- what lmms-eval looks at

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def batch_size(self) -> int:
        return self._batch_size

    @property
    def chat_template(self) -> str:
        raise Unsupported("--apply_chat_template: our models put questions into their own chat format; leave it out")

    def clean(self) -> None:
        """Free the model and end the reading processes: lmms-eval has all answers."""
        self.reader.close()
        self.adapter.close()
        super().clean()

    # ------------------------------------------------------------------------------- the requests

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Responses in the order of ``requests``, empty where there is none."""
        asked = generation_requests(requests, self.task_dict, chat=not self.is_simple)
        results = self._answer_all(asked, self._generate, GenerationResult(""), ranks.called_by_evaluator())
        for request, result in zip(requests, results, strict=True):
            given = next(each for each in request.args if isinstance(each, Mapping))
            self.cache_hook.add_partial("generate_until", (request.args[0], given), result.text)
        return results

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError("tasks of several rounds are not supported: our models answer one question at a time")

    @abstractmethod
    def _generate(self, to: Round, shown: Iterator[Shown]) -> None:
        """Responses to all that is asked about what is shown."""

    def _answer_all(
        self,
        asked: Sequence[LmmsRequest],
        work: Callable[[Round, Iterator[Shown]], None],
        nothing: Any,
        together: bool,
    ) -> list[Any]:
        """A result for each of ``asked``, in their order; ``nothing`` where there is none.

        ``together``: all processes are here, and share the videos.
        """
        start = time.perf_counter()
        shared = together and ranks.number_of_processes() > 1
        rank = ranks.own_rank() if shared else 0
        plan = Plan.of(asked, self._showing, rank)
        if shared:
            plan = plan.dealt(rank)
        answered = Round(nothing, len(plan), show_progress=self.rank == 0)
        stop = threading.Event()
        with answered.bar, closing(plan.shown(self._showing, rank, answered.account, stop)) as shown:
            try:
                work(answered, shown)
            finally:
                stop.set()
        own = (answered.results, answered.unanswered, answered.account.price)
        everybodys, unanswered, prices = zip(*(ranks.all_of(own) if shared else [own]), strict=True)
        mine = {place: result for each in everybodys for (asker, place), result in each.items() if asker == rank}
        of_all: dict[str, Any] = {"unanswered": sum(unanswered)}
        if paid := [price for price in prices if price is not None]:
            of_all["price"] = sum(paid)
        self._report(answered, time.perf_counter() - start, **of_all)
        return [mine.get(each.place, nothing) for each in asked]

    def sampling(self, task: str, functions: frozenset[str] = frozenset()) -> FrameSampling:
        """How frames are chosen for a task of lmms-eval: as the preset has it, or as for ours of the same benchmark,
        but for what was given."""
        if task not in self._sampling_of_task:
            if self._preset is not None:
                own = self._preset.sampling
            else:
                ours = registry.task_of_lmms(task, functions)
                own = ours[0].sampling_under("lmms-eval") if ours else FrameSampling()
            self._sampling_of_task[task] = sampling_with(own, self._frames, as_model_arg)
        return self._sampling_of_task[task]

    def _report(self, answered: Round, seconds: float, **further: Any) -> None:
        """What this process did, and in ``further`` what is said of all: results hold only what the first one says."""
        account = answered.account
        log_metrics(
            total_elapsed_time=account.answer_s,
            total_gen_tokens=account.tokens,
            avg_speed=account.tokens / account.answer_s if account.answer_s else 0.0,
            additional_metrics={
                "rank": self.rank,
                "questions": answered.total,
                "videos": account.videos,
                "seconds": seconds,
                "read_s": account.read_s,
                "wait_s": account.wait_s,
                "encode_s": account.encode_s,
                **further,
            },
        )
        if answered.unanswered:
            logger.error(
                f"{answered.unanswered:,} of {answered.total:,} questions have no response (reasons above). They count "
                "as wrong. With --use_cache, the same command asks only these again."
            )


class _Local(_Model):
    """Weights in this process: of several processes each has them, on its own device."""

    adapter: ModelAdapter

    def _place(self, device: str | None, device_map: str | None, adapter_args: dict[str, Any]) -> None:
        self._join()
        self.option_score = self.option_score or "loss"
        if self._world_size > 1:
            if device_map in _SPREAD:
                logger.warning(f"device_map={device_map} is ignored: each process has a device of its own")
            adapter_args["device"] = str(self._device)
        elif device_map in _SPREAD:
            adapter_args["device_map"] = device_map
        else:
            adapter_args["device"] = device_map or device or "auto"

    @property
    def device(self) -> torch.device:
        device: torch.device = getattr(self.adapter, "device", self._device)
        return device

    @property
    def model(self) -> Any:
        return self.adapter.model  # type: ignore[attr-defined]

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def tokenizer(self) -> Any:
        holder: Any = getattr(self.adapter, "processor", self.adapter)
        return holder.tokenizer

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    def loglikelihood(self, requests: list[Instance]) -> list[OptionScore]:  # type: ignore[override]
        """Of each continuation, by ``option_score``, and whether it is what greedy decoding says."""
        asked = likelihood_requests(requests, self.task_dict)
        nothing = OptionScore((float("inf") if self.option_score == "loss" else float("-inf"), False))
        return self._answer_all(asked, self._likely, nothing, ranks.called_by_evaluator())

    def _generate(self, to: Round, shown: Iterator[Shown]) -> None:
        self._here(_responses, to, shown)

    def _likely(self, to: Round, shown: Iterator[Shown]) -> None:
        self._here(self._scores, to, shown)

    def _here(self, answering: Answering, to: Round, shown: Iterator[Shown]) -> None:
        Here(self.adapter, self.batch_size, answering, to).all(shown)

    def _scores(self, session: Session, few: Sequence[ResolvedRequest], account: Account) -> Sequence[Any]:
        prompts, continuations = zip(*((Prompt(each.text), each.continuation) for each in few), strict=True)
        try:
            found = self.adapter.loglikelihood(session.encoded, prompts, continuations)
        except Exception as error:
            return [error] * len(few)
        if self.option_score == "logprob":
            return [OptionScore((each.logprob, each.greedy)) for each in found]
        return [OptionScore((-each.logprob / max(1, each.num_tokens), each.greedy)) for each in found]


class _Served(_Model):
    """Behind an endpoint or an engine, which is asked about many videos at once."""

    adapter: ServedModel

    def _place(self, device: str | None, device_map: str | None, adapter_args: dict[str, Any]) -> None:
        _refuse(
            (self.option_score is not None, "option_score: a served model does not say how likely an option is"),
            (
                self._batch_size > 1,
                "batch_size: a served model is asked about concurrency= videos at once; leave it out",
            ),
        )
        self._join()
        several = self._world_size > 1
        _refuse(
            (several and "pretrained" in self._takes, "several processes: the engine takes GPUs itself, so start one"),
            (several and "budget" in adapter_args, "budget= in several processes, each of which would spend as much"),
        )
        given = {"device": device, "device_map": device_map}
        adapter_args |= {name: value for name, value in given.items() if value is not None}

    def loglikelihood(self, requests: list[Instance]) -> list[OptionScore]:  # type: ignore[override]
        raise Unsupported(
            "options scored by their likelihood (output_type: multiple_choice): a served model does not say it. Use a "
            "task with generate_until, or a model in this process, such as vamba_transformers"
        )

    def _generate(self, to: Round, shown: Iterator[Shown]) -> None:
        asking = InFlight(self.adapter, _response, to)
        asyncio.run(asking.all(shown))
        if asking.ended is not None:
            logger.error(f"no further request was sent: {asking.ended}")

    def _report(self, answered: Round, seconds: float, **further: Any) -> None:
        account = answered.account
        tokens = {"prompt_tokens": account.prompt_tokens, "cached_tokens": account.cached_tokens}
        super()._report(answered, seconds, **tokens, **further)
        price = "" if account.price is None else f", ${account.price:,.4f}"
        logger.info(
            f"{self.adapter_name}: {account.answers:,} answers, {account.prompt_tokens:,} tokens in "
            f"({account.cached_tokens:,} cached), {account.tokens:,} out{price}"
        )


def _responses(session: Session, few: Sequence[ResolvedRequest], account: Account) -> Sequence[Any]:
    outcomes = session.answers(Request(Prompt(each.text), each.settings) for each in few)
    results: list[Any] = []
    for outcome in (each for several in outcomes for each in several):
        if isinstance(outcome.answer, Answer):
            account.add(outcome.answer)
            results.append(_response(outcome.answer, outcome.request.settings))
        else:
            results.append(outcome.answer)
    return results


def _response(answer: Answer, settings: GenerationSettings) -> GenerationResult:
    return GenerationResult(settings.cut(answer.text), TokenCounts(answer.prompt_tokens or None, answer.num_tokens))


def _reader(**how: Any) -> Reader:
    try:
        return Reader(Reading(**{name: value for name, value in how.items() if value is not None}))
    except ValueError as error:
        raise UserError(str(error)) from error


def _unquoted(value: Any) -> Any:
    """A text without the quotes that lmms-eval wants around one with commas, and leaves there."""
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


def _refuse(*cases: tuple[bool, str]) -> None:
    for is_so, what in cases:
        if is_so:
            raise Unsupported(f"not supported: {what}")


def _refuse_both(*cases: tuple[bool, str]) -> None:
    for is_so, what in cases:
        if is_so:
            raise Unsupported(f"{what}: give one of them")


@functools.cache
def model_class(adapter: str, is_simple: bool) -> type[_Model]:
    """lmms-eval's model of our adapter of that name, for chat messages or ``is_simple``. Raises UserError for unknown
    names."""
    served = issubclass(registry.adapter_class(adapter), ServedModel)
    about = {"adapter_name": adapter, "is_simple": is_simple, "__module__": __name__}
    return type(f"{adapter}_{'simple' if is_simple else 'chat'}", (_Served if served else _Local,), about)


def __getattr__(name: str) -> type[_Model]:
    """The classes by the names that the manifest gives them, such as ``vamba_chat``."""
    adapter, _, kind = name.rpartition("_")
    if kind not in ("simple", "chat") or adapter not in manifest.adapters().values():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return model_class(adapter, kind == "simple")

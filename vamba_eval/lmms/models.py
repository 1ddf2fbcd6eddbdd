"""Our models as lmms-eval's: a video is read ahead and encoded once, then every request about it is answered.

lmms-eval makes one of the classes at the end; all do the same, chat models and simple ones alike.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from loguru import logger
from PIL import Image
from tqdm import tqdm

from vamba_eval import registry
from vamba_eval.contracts import Clip, FrameSampling, GenerationSettings, Prompt, UserError, Video, VideoError
from vamba_eval.cost.meter import Meter
from vamba_eval.lmms import ranks
from vamba_eval.lmms.requests import (
    Content,
    LmmsRequest,
    Unsupported,
    VideoFile,
    generation_requests,
    likelihood_requests,
)
from vamba_eval.machine import available_cores, out_of_memory
from vamba_eval.reading.reader import Reader, Reading
from vamba_eval.run.plan import as_model_arg, sampling_with
from vamba_eval.run.session import Request, Session
from vamba_eval.video.pictures import open_image
from vamba_eval.video.pixels import resized

RANDOM = "random"  # as pretrained=: a small model with random weights, to try things out
_SPREAD = ("auto", "balanced", "balanced_low_0", "sequential")  # accelerate's ways to spread a model over devices


@dataclass
class ResolvedRequest:
    """A request whose content is known: its text, and who waits for the answer in which place."""

    rank: int
    place: int
    text: str
    settings: GenerationSettings
    continuation: str


@dataclass
class Account:
    """Where the time went, in seconds; ``read_s`` is that of the reading processes."""

    read_s: float = 0.0
    wait_s: float = 0.0
    encode_s: float = 0.0
    answer_s: float = 0.0
    videos: int = 0
    tokens: int = 0


# What answers questions about a clip, all with the same settings: a result for each, in their order, and the
# number of tokens generated.
Answering = Callable[[Session, Sequence[ResolvedRequest]], tuple[list[Any], int]]


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
    min_pixels, max_pixels  bounds of height * width per frame, in place of that resizing
    device, device_map, dtype, attn_implementation, use_flash_attention_2, revision, trust_remote_code
    batch_size        prompts about one video answered at once
    reasoning_prompt  text put behind each question
    workers, clip_cache, clip_cache_gb, read_timeout, worker_memory_gb, video_backend  as in run_eval.py
    option_score      what loglikelihood returns: loss (default; the mean over tokens, whose smallest lmms-eval's
                      multiple-choice tasks take) or logprob (the sum, as its interface says)

    Others go to our adapter (segment_frames, text_positions, seed).
    """

    adapter_name: ClassVar[str]
    released: ClassVar[str]

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
        use_flash_attention_2: bool = False,
        attn_implementation: str | None = None,
        use_cache: bool = True,
        max_length: int | None = None,
        system_prompt: str | None = None,
        reasoning_prompt: str | None = None,
        interleave_visuals: bool = False,
        option_score: str = "loss",
        video_backend: str | None = None,
        workers: int | None = None,
        read_timeout: float | None = None,
        worker_memory_gb: float | None = None,
        clip_cache: str | None = None,
        clip_cache_gb: float | None = None,
        **adapter_args: Any,
    ) -> None:
        super().__init__()
        _refuse(
            (not use_cache, "use_cache=false: keys and values of a video are always kept for its questions"),
            (max_length is not None, "max_length: prompts are never cut; leave it out"),
            (system_prompt not in (None, "You are a helpful assistant."), "another system_prompt than the model's own"),
            (bool(interleave_visuals), "interleave_visuals: the video or pictures come first"),
            (option_score not in ("loss", "logprob"), f"option_score={option_score}: use loss or logprob"),
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
        self.reasoning_prompt = (reasoning_prompt or "").replace("\\n", "\n")
        self._batch_size = int(batch_size) if str(batch_size).isdigit() else 1
        frames = {
            "num_frames": num_frames if num_frames is not None else max_num_frames,
            "fps": fps,
            "strategy": strategy or None,
            "token_budget": token_budget,
            "shortest_edge": shortest_edge,
            "longest_edge": longest_edge,
        }
        self._frames: dict[str, Any] = {name: value for name, value in frames.items() if value is not None}
        pixels = {"min_pixels": min_pixels, "max_pixels": max_pixels}
        adapter_args |= {name: int(value) for name, value in pixels.items() if value is not None}
        if keep_size or (pixels.keys() & adapter_args.keys() and shortest_edge is None and longest_edge is None):
            self._frames |= {"shortest_edge": None, "longest_edge": None}
        self._sampling_of_task: dict[str, FrameSampling] = {}
        self.sampling("")  # arguments that do not go together are an error now
        self._place(device, device_map, adapter_args)
        if workers is None and self._world_size > 1:
            workers = max(1, min(16, available_cores() // (4 * self._world_size)))
        self.reader = _reader(
            backend=video_backend,
            workers=workers,
            stall_s=read_timeout,
            memory_gb=worker_memory_gb,
            cache=clip_cache,
            cache_gb=clip_cache_gb,
        )
        if attn_implementation or use_flash_attention_2:
            adapter_args["attn_implementation"] = attn_implementation or "flash_attention_2"
        pretrained = pretrained or self.released
        if pretrained != RANDOM:
            adapter_args["pretrained"] = pretrained
        adapter_args["batch_size"] = self._batch_size
        self.adapter = registry.load_local(self.adapter_name, **adapter_args)
        self._device: torch.device = getattr(self.adapter, "device", self._device)
        logger.info(f"{pretrained}: {self.adapter.describe()}; frames: {self.sampling('').describe()}")

    def _place(self, device: str | None, device_map: str | None, adapter_args: dict[str, Any]) -> None:
        """Decide where the model goes: one process alone as asked for, one of several on its own device."""
        self.accelerator = Accelerator()
        self._device = self.accelerator.device
        self._world_size = self.accelerator.num_processes
        if self._world_size > 1:
            if device_map in _SPREAD:
                logger.warning(f"device_map={device_map} is ignored: each process has a device of its own")
            self._rank = self.accelerator.process_index
            adapter_args["device"] = str(self._device)
        elif device_map in _SPREAD:
            adapter_args["device_map"] = device_map
        else:
            adapter_args["device"] = device_map or device or "auto"

    # ------------------------------------------------------------------- what lmms-eval looks at

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def batch_size(self) -> int:
        return self._batch_size

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
        """Responses in the order of ``requests``."""
        asked = generation_requests(requests, self.task_dict, chat=not self.is_simple)
        results = self._answer_all(asked, self._generate, GenerationResult(""), ranks.called_by_evaluator())
        for request, result in zip(requests, results, strict=True):
            given = next(each for each in request.args if isinstance(each, Mapping))
            self.cache_hook.add_partial("generate_until", (request.args[0], given), result.text)
        return results

    def loglikelihood(self, requests: list[Instance]) -> list[OptionScore]:  # type: ignore[override]
        """Of each continuation, by ``option_score``, and whether it is what greedy decoding says."""
        asked = likelihood_requests(requests, self.task_dict)
        nothing = OptionScore((float("inf") if self.option_score == "loss" else float("-inf"), False))
        return self._answer_all(asked, self._score, nothing, ranks.called_by_evaluator())

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError("tasks of several rounds are not supported: our models answer one question at a time")

    def _generate(self, session: Session, questions: Sequence[ResolvedRequest]) -> tuple[list[GenerationResult], int]:
        settings = questions[0].settings
        outcomes = session.answers(Request(Prompt(question.text), settings) for question in questions)
        answers, results = [], []
        for outcome in (each for few in outcomes for each in few):
            if isinstance(outcome.answer, Exception):
                raise outcome.answer
            answers.append(answer := outcome.answer)
            counts = TokenCounts(getattr(answer, "prompt_tokens", 0) or None, answer.num_tokens)
            results.append(GenerationResult(settings.cut(answer.text), counts))
        return results, sum(answer.num_tokens for answer in answers)

    def _score(self, session: Session, questions: Sequence[ResolvedRequest]) -> tuple[list[OptionScore], int]:
        prompts, continuations = zip(*((Prompt(q.text), q.continuation) for q in questions), strict=True)
        found = self.adapter.loglikelihood(session.encoded, prompts, continuations)
        if self.option_score == "logprob":
            return [OptionScore((each.logprob, each.greedy)) for each in found], 0
        return [OptionScore((-each.logprob / max(1, each.num_tokens), each.greedy)) for each in found], 0

    def _answer_all(
        self, asked: Sequence[LmmsRequest], answering: Answering, nothing: Any, together: bool
    ) -> list[Any]:
        """A result for each of ``asked``, in their order; ``nothing`` where a video cannot be read.

        ``together``: all processes are here, and share the videos.
        """
        start = time.perf_counter()
        shared = together and ranks.number_of_processes() > 1
        rank = ranks.own_rank() if shared else 0
        by_file, others = self._plan(asked, rank)
        if shared:
            by_file = _dealt(by_file, rank)
        total = sum(map(len, by_file.values())) + sum(map(len, others))
        run = _Run(self, answering, nothing, rank, total)
        with run.bar:
            for sampling in dict.fromkeys(sampling for sampling, _ in by_file):
                run.files({file: questions for (s, file), questions in by_file.items() if s == sampling}, sampling)
            for document in others:
                run.document(document)
        everybodys = ranks.all_of(run.results) if shared else [run.results]
        mine = {place: result for each in everybodys for (asker, place), result in each.items() if asker == rank}
        self._report(run, time.perf_counter() - start)
        return [mine[each.place] for each in asked]

    def _plan(
        self, asked: Sequence[LmmsRequest], rank: int
    ) -> tuple[dict[tuple[FrameSampling, VideoFile], list[ResolvedRequest]], list[list[LmmsRequest]]]:
        """Questions by the video file that they show, and all others by document: pictures may be large, so that
        they are looked at again when it is their turn."""
        by_file: dict[tuple[FrameSampling, VideoFile], list[ResolvedRequest]] = defaultdict(list)
        others: dict[Any, list[LmmsRequest]] = defaultdict(list)
        shows_pictures: set[str] = set()
        for each in asked:
            if each.task not in shows_pictures:
                content = each.content()
                if content.videos:
                    question = self.question(each, content, rank)
                    by_file[self.sampling(each.task, each.functions), content.videos[0]].append(question)
                    continue
                if content.pictures:
                    shows_pictures.add(each.task)
            others[each.document].append(each)
        return by_file, list(others.values())

    def question(self, asked: LmmsRequest, content: Content, rank: int) -> ResolvedRequest:
        text = content.text.strip() + self.reasoning_prompt if self.reasoning_prompt else content.text
        return ResolvedRequest(rank, asked.place, text, asked.settings, asked.continuation)

    def sampling(self, task: str, functions: frozenset[str] = frozenset()) -> FrameSampling:
        """How frames are chosen for a task of lmms-eval: as for ours of the same benchmark, but for what was given."""
        if task not in self._sampling_of_task:
            ours = registry.task_of_lmms(task, functions)
            own = ours[0].sampling_under("lmms-eval") if ours else FrameSampling()
            self._sampling_of_task[task] = sampling_with(own, self._frames, as_model_arg)
        return self._sampling_of_task[task]

    def _report(self, run: _Run, seconds: float) -> None:
        account = run.account
        waiting = {"read_s": account.read_s, "wait_s": account.wait_s, "encode_s": account.encode_s}
        log_metrics(
            total_elapsed_time=account.answer_s,
            total_gen_tokens=account.tokens,
            avg_speed=account.tokens / account.answer_s if account.answer_s else 0.0,
            additional_metrics={
                "rank": self.rank,
                "questions": len(run.results),
                "videos": account.videos,
                "seconds": seconds,
                **waiting,
            },
        )
        if run.unanswered:
            logger.error(
                f"{run.unanswered:,} of {len(run.results):,} questions have no response, because what they show cannot "
                "be read or does not fit into memory (reasons above). They count as wrong. With --use_cache, the same "
                "command asks only these again."
            )


class _Run:
    """One round of answering: results by (rank, place), and what it cost."""

    def __init__(self, model: _Model, answering: Answering, nothing: Any, rank: int, total: int) -> None:
        self.model, self.answering, self.nothing, self.rank = model, answering, nothing, rank
        self.results: dict[tuple[int, int], Any] = {}
        self.account = Account()
        self.unanswered = 0
        self.bar = tqdm(total=total, disable=model.rank != 0, desc="Model Responding")

    def files(self, by_file: Mapping[VideoFile, list[ResolvedRequest]], sampling: FrameSampling) -> None:
        """Answer about video files, read ahead in processes of their own."""
        files = {str(n): file for n, file in enumerate(by_file)}
        videos = [Video(name, file.path, (), file.start_s, file.end_s) for name, file in files.items()]
        with closing(self.model.reader.clips(videos, sampling)) as loads:
            for loaded in self._waited_for(loads):
                questions = by_file[files[loaded.video.id]]
                self.account.videos += 1
                self.account.read_s += loaded.seconds
                if loaded.clip is None:
                    self._give_up(questions, str(loaded.problem))
                else:
                    self._answer(loaded.clip, questions)
                del loaded  # the next clip may have come meanwhile

    def document(self, asked: Sequence[LmmsRequest]) -> None:
        """Answer what is asked about one document that shows pictures, or nothing."""
        try:
            contents = [each.content() for each in asked]
        except Unsupported as error:  # the others of this task could be shown
            self._give_up([self.model.question(each, Content(), self.rank) for each in asked], str(error))
            return
        pairs = zip(asked, contents, strict=True)
        questions = [self.model.question(each, content, self.rank) for each, content in pairs]
        first, sampling = contents[0], self.model.sampling(asked[0].task, asked[0].functions)
        if first.videos:
            self.files({first.videos[0]: questions}, sampling)
            return
        try:
            clip = pictures_clip(first.pictures, sampling) if first.pictures else None
        except VideoError as error:
            self._give_up(questions, str(error))
        else:
            self._answer(clip, questions)

    def _waited_for(self, loads: Iterator[Any]) -> Iterator[Any]:
        while True:
            start = time.perf_counter()
            loaded = next(loads, None)
            self.account.wait_s += time.perf_counter() - start
            if loaded is None:
                return
            yield loaded

    def _answer(self, clip: Clip | None, questions: Sequence[ResolvedRequest]) -> None:
        start = time.perf_counter()
        try:
            session = Session(self.model.adapter, clip, Meter())
        except Exception as error:
            # One video may be too long; where the first is, all are.
            if not out_of_memory(error) or not self.results:
                raise
            self._give_up(questions, f"out of memory: {error}")
            return
        self.account.encode_s += time.perf_counter() - start
        for few in _batches(questions, self.model.batch_size):
            start = time.perf_counter()
            results, tokens = self.answering(session, [same[0] for same in few])
            self.account.answer_s += time.perf_counter() - start
            self.account.tokens += tokens
            for same, result in zip(few, results, strict=True):
                self._keep(same, [result] * len(same))

    def _give_up(self, questions: Sequence[ResolvedRequest], reason: str) -> None:
        logger.error(f"{len(questions)} question(s) without a response: {reason}")
        self.unanswered += len(questions)
        self._keep(questions, [self.nothing] * len(questions))

    def _keep(self, questions: Sequence[ResolvedRequest], results: Sequence[Any]) -> None:
        for question, result in zip(questions, results, strict=True):
            self.results[question.rank, question.place] = result
        self.bar.update(len(questions))


def _dealt(by_file: Mapping[Any, list[ResolvedRequest]], rank: int) -> dict[Any, list[ResolvedRequest]]:
    """The files that are this process's among those of all, with the questions of all about them."""
    everybodys = ranks.all_of(dict(by_file))
    owners = ranks.deal([list(each) for each in everybodys])
    return {
        key: [question for each in everybodys for question in each.get(key, [])]
        for key, owner in owners.items()
        if owner == rank
    }


def _batches(questions: Sequence[ResolvedRequest], size: int) -> Iterator[list[list[ResolvedRequest]]]:
    """Up to ``size`` distinct questions with the same settings; each with all who ask it (lmms-eval repeats some to
    give each process as many)."""
    same: dict[tuple[GenerationSettings, str, str], list[ResolvedRequest]] = defaultdict(list)
    for question in questions:
        same[question.settings, question.text, question.continuation].append(question)
    for settings in dict.fromkeys(settings for settings, _, _ in same):
        distinct = [askers for (s, _, _), askers in same.items() if s == settings]
        for first in range(0, len(distinct), size):
            yield distinct[first : first + size]


def pictures_clip(pictures: Sequence[Any], sampling: FrameSampling) -> Clip:
    """PIL images or image files as a clip that shows each for a whole time step (two frames), in the first's size.

    Raises VideoError for a file that is not an image.
    """
    frames: list[np.ndarray] = []
    for each in pictures:
        image = each.convert("RGB") if hasattr(each, "convert") else open_image(each)
        frame = resized(np.asarray(image), sampling, 2 * len(pictures))
        if frames and frame.shape != frames[0].shape:
            height, width = frames[0].shape[:2]
            frame = np.asarray(image.resize((width, height), resample=Image.Resampling.BICUBIC))
        frames += [frame, frame]
    count = len(frames)
    return Clip(np.stack(frames), np.full(count, np.nan), np.arange(count) // 2, float("nan"), float("nan"))


def _reader(**how: Any) -> Reader:
    try:
        return Reader(Reading(**{name: value for name, value in how.items() if value is not None}))
    except ValueError as error:
        raise UserError(str(error)) from error


def _refuse(*cases: tuple[bool, str]) -> None:
    for is_so, what in cases:
        if is_so:
            raise Unsupported(f"not supported: {what}")


def _refuse_both(*cases: tuple[bool, str]) -> None:
    for is_so, what in cases:
        if is_so:
            raise Unsupported(f"{what}: give one of them")


class _Vamba(_Model):
    adapter_name, released = "vamba", "TIGER-Lab/Vamba-Qwen2-VL-7B"


class _Qwen2VL(_Model):
    adapter_name, released = "qwen2_vl", "Qwen/Qwen2-VL-7B-Instruct"


class VambaChat(_Vamba):
    is_simple = False


class VambaSimple(_Vamba):
    is_simple = True


class Qwen2VLChat(_Qwen2VL):
    is_simple = False


class Qwen2VLSimple(_Qwen2VL):
    is_simple = True

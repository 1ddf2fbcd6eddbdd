"""The adapter of vLLM: with the engine itself, on tiny models, where vLLM is installed (CONTRIBUTING.md says how).

What it answers is what the adapter of transformers answers, token by token.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import importlib.util
import os
import runpy
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_models
from tiny_models import MROPE
from vamba_eval.model_adapters import _engine, _transformers
from vamba_eval.model_adapters.transformers import TransformersAdapter
from vamba_eval.model_adapters.vllm import VLLM
from videos import picture

from vamba_eval import Clip, registry
from vamba_eval.contracts import Answer, GenerationSettings, UserError

pytestmark = pytest.mark.usefixtures("one_thread")

needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: CONTRIBUTING.md says how to run these"
)
# Attention of vLLM on a CPU takes heads of 32 values and more.
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "rope_parameters": {**MROPE, "mrope_section": [4, 6, 6]}}
QUESTIONS = ["What happens?\nA. one\nB. two", "And then?", "Wo war es, 3 °C?  "]
CONTROL = ["What does <|im_end|> mean?", "Is <|video_pad|> here?", "<|im_start|>assistant\nNo.<|im_end|>"]
SETTINGS = GenerationSettings(max_new_tokens=6)
os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
_folder = tempfile.TemporaryDirectory(prefix="tiny-models-")


@functools.cache
def checkpoint(name: str) -> Path:
    folder = Path(_folder.name) / name
    tiny_models.build(tiny_models.TINY[name], folder, **HEADS, **({"head_dim": 32} if name.startswith("qwen3") else {}))
    return folder


@functools.cache
def vllm(name: str = "qwen2_vl", **arguments: Any) -> VLLM:
    """Its engine starts when it is first asked."""
    return VLLM(str(checkpoint(name)), dtype="float32", enforce_eager="true", **arguments)


@functools.cache
def local(name: str = "qwen2_vl", **arguments: Any) -> TransformersAdapter:
    return TransformersAdapter(str(checkpoint(name)), dtype="float32", device="cpu", **arguments)


@pytest.fixture(scope="module", autouse=True)
def engines() -> Iterator[None]:
    yield
    if vllm.cache_info().currsize:
        vllm().close()


def make_clip(frames: int = 12, height: int = 168, width: int = 224, first: int = 0) -> Clip:
    pictures = np.stack([picture(7 * n + first, height, width) for n in range(frames)])
    indices = np.arange(frames) * 45 + first
    return Clip(pictures, indices / 30.0, indices, 30.0, (frames * 45 + first) / 30.0)


def asked(
    model: VLLM, clip: Clip | None, questions: list[str], settings: GenerationSettings = SETTINGS
) -> list[Answer | Exception]:
    """In the questions' order, in an event loop of its own, as each benchmark is asked."""
    return asyncio.run(_asked(model, clip, questions, settings))


async def _asked(
    model: VLLM, clip: Clip | None, questions: list[str], settings: GenerationSettings = SETTINGS
) -> list[Answer | Exception]:
    answers: AsyncIterator[tuple[int, Answer | Exception]] = model.answer(clip, questions, settings)
    found = {place: answer async for place, answer in answers}
    return [found[place] for place in range(len(questions))]


def said(answers: list[Answer | Exception]) -> list[tuple[str, int, str]]:
    assert all(isinstance(answer, Answer) for answer in answers), answers
    return [(answer.text, answer.num_tokens, answer.finish_reason) for answer in answers]


def prompts_of(name: str, clip: Clip | None, question: str, **arguments: Any) -> tuple[list[int], list[int]]:
    """The token ids that vLLM's engine is given, and those of transformers."""
    model, other = vllm(name, **arguments), local(name, **arguments)
    given: list[int] = []

    async def listening(inputs: Any, *_: Any) -> Any:
        given.extend(inputs["prompt_token_ids"])
        raise RuntimeError("enough")

    real, model._engine.generate = model._engine.generate, listening
    try:
        asked(model, clip, [question])
    finally:
        model._engine.generate = real
    encoded = other.encode(clip)
    return given, [*encoded.ids[0].tolist(), *other._question(encoded, question)[0].tolist()]


# ------------------------------------------------------------------------------------------------- without the engine


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "which model"),
        ({"pretrained": "x", "concurrency": "0"}, "concurrency=0: it is a whole number from 1"),
        ({"pretrained": "x", "max_model_len": "long"}, "max_model_len=long: it is a whole number from 1"),
        ({"pretrained": "x", "max_pixels": "0"}, "max_pixels=0: it is a whole number from 1"),
        ({"pretrained": "x", "thinking": "perhaps"}, "neither true nor false"),
        ({"pretrained": "x", "limit_mm_per_prompt": "{}"}, "limit_mm_per_prompt= is not for you to give"),
        ({"pretrained": "x", "generation_config": "auto"}, "generation_config= is not for you to give"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        VLLM(**arguments)


def test_without_vllm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"needs vLLM: pip install 'vllm>="):
        registry.load_adapter("vllm", pretrained="x")


def test_processes_of_an_engine_may_import_the_command() -> None:
    """As spawned ones do with the file that began it all."""
    assert runpy.run_path(str(Path(__file__).parent.parent / "run_eval.py"), run_name="__mp_main__")["main"]


class Started:
    """In the place of vLLM's engine: each prompt is answered by itself, once ``held`` is set."""

    every: list[Started] = []
    begin: Callable[[], None] = staticmethod(lambda: None)
    held: asyncio.Event

    def __init__(self, room: int) -> None:
        self.room, self.running, self.errored, self.closed = room, 0, False, False
        self.held = asyncio.Event()

    @classmethod
    def from_vllm_config(cls, config: int, disable_log_stats: bool) -> Started:
        assert all(not one.running and one.closed for one in cls.every), "what is in flight ends first"
        cls.every.append(cls(config))
        cls.begin()
        return cls.every[-1]

    async def generate(self, inputs: Any, params: Any, number: str) -> AsyncIterator[Any]:
        self.running += 1
        try:
            if inputs == "die":
                self.errored = True
                raise RuntimeError("out of memory")
            if inputs == "wait":
                await self.held.wait()
            yield inputs
        finally:
            self.running -= 1

    def shutdown(self) -> None:
        self.closed = True


@pytest.fixture
def small_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[_engine.Engine]:
    monkeypatch.setitem(sys.modules, "vllm.v1.engine.async_llm", SimpleNamespace(AsyncLLM=Started))
    monkeypatch.setattr(Started, "every", [])
    monkeypatch.setattr(_engine.Engine, "_config", lambda self, room: room)
    engine = _engine.Engine({}, None, 50_000)
    yield engine
    engine.close()
    assert all(one.closed for one in Started.every)


def test_an_engine_is_as_large_as_what_it_is_asked(small_engine: _engine.Engine) -> None:
    def put(inputs: str, tokens: int, **items: int) -> Any:
        return small_engine.generate(inputs, None, tokens, items, lambda: None)

    async def ask() -> None:
        assert not Started.every, "nothing is started before it is asked"
        assert (await put("a", 100, video=1))[0] == "a"
        first = asyncio.create_task(put("wait", 3000, video=1))
        while not Started.every[0].running:
            await asyncio.sleep(0.01)
        larger = asyncio.create_task(put("b", 5000, video=1))
        await asyncio.sleep(0.1)
        assert [one.room for one in Started.every] == [4096] and not larger.done()
        small_engine._loop.call_soon_threadsafe(Started.every[0].held.set)
        assert [(await first)[0], (await larger)[0]] == ["wait", "b"]
        await put("c", 4000, video=1)
        await put("d", 40_000)
        assert [one.room for one in Started.every] == [4096, 8192, 50_000], "powers of two, and no more than the model"
        await put("e", 100, image=5)
        await put("f", 100, image=8)
        assert len(Started.every) == 4 and small_engine._items == {"video": 1, "image": 8}

    asyncio.run(ask())


def test_the_seconds_of_a_request_are_without_those_of_the_start(
    small_engine: _engine.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(_engine, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(Started, "begin", lambda: clock.append(clock.pop() + 100))
    (_, seconds) = asyncio.run(small_engine.generate("a", None, 10, {}, lambda: clock.append(clock.pop() + 2)))
    assert seconds == 2


def test_an_engine_that_cannot_start_or_dies_ends_the_run(
    small_engine: _engine.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"engine has died \(out of memory\).* the same command goes on"):
        asyncio.run(small_engine.generate("die", None, 10, {}, lambda: None))
    starts = []

    def fail(config: int, disable_log_stats: bool) -> None:
        starts.append(config)
        raise ValueError("no room for the KV cache")

    monkeypatch.setattr(Started, "from_vllm_config", fail)

    async def ask() -> list[Any]:
        several = [small_engine.generate("a", None, 9000, {}, lambda: None) for _ in range(3)]
        return await asyncio.gather(*several, return_exceptions=True)

    for error in asyncio.run(ask()):
        assert isinstance(error, UserError) and "no room for the KV cache" in str(error)
        assert "cannot be started for 16,384 tokens" in str(error) and "max_model_len=" in str(error)
    assert starts == [16384], "and is not tried again for what waits"


@needs_vllm
def test_engine_arguments_are_vllms() -> None:
    with pytest.raises(UserError, match="vllm has no argument 'devise'"):
        VLLM("x", devise="cpu")
    with pytest.raises(UserError, match="no checkpoint folder at /nowhere"):
        VLLM("/nowhere", tensor_parallel_size="1")


# ------------------------------------------------------------------------------------------------------------ prompts


@needs_vllm
@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl"])
def test_the_engine_is_given_the_tokens_of_transformers(name: str) -> None:
    for clip in (make_clip(4), make_clip(1), None):
        for question in (*QUESTIONS, *CONTROL):
            theirs, ours = prompts_of(name, clip, question)
            if name == "internvl":  # two tokens in whose place frames may stand, of which vLLM has the other one
                image, video = local(name).tokenizer.convert_tokens_to_ids(["<IMG_CONTEXT>", "<video>"])
                theirs = [image if token == video else token for token in theirs]
            assert theirs == ours
    assert "prompt" not in vllm(name).describe()


@needs_vllm
def test_where_vllm_makes_other_tokens_the_row_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As versions of vLLM do that drop the two tokens around a video of Qwen3-VL."""
    model = VLLM(str(checkpoint("qwen2_vl")), dtype="float32")
    outer = model.tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|vision_end|>"])
    real = model._rendered

    def without(prompt: dict[str, Any]) -> dict[str, Any]:
        inputs = real(prompt)
        (place,) = inputs["mm_placeholders"]["video"]
        inputs["prompt_token_ids"] = [token for token in inputs["prompt_token_ids"] if token not in outer]
        return {**inputs, "mm_placeholders": {"video": [dataclasses.replace(place, offset=place.offset - 1)]}}

    assert "prompt" not in model.describe()
    monkeypatch.setattr(model, "_rendered", without)
    model._note_prompt()
    assert model.describe()["prompt"] == "unlike transformers': without <|vision_start|>, without <|vision_end|>"


@needs_vllm
@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl"])
def test_what_it_saw_is_read_from_vllms_processor(name: str) -> None:
    clip = make_clip(4)
    assert vllm(name)._show(clip).seen == local(name).encode(clip).seen
    shown = vllm(name, frames_as="images")._show(clip)
    assert shown.seen == local(name, frames_as="images").encode(clip).seen and shown.items == {"image": 4}


@needs_vllm
def test_frames_are_shrunk_where_somebody_says_so_and_never_else() -> None:
    large = make_clip(8, 270, 480)
    assert (vllm()._show(large).seen.height, vllm()._show(large).seen.width) == (280, 476)
    for bound in ({"max_pixels": 64 * 28 * 28}, {"total_pixels": 8 * 64 * 28 * 28}):
        assert vllm(**bound)._show(large).seen == local(**bound).encode(large).seen
        assert vllm(**bound).describe().items() >= bound.items()


@needs_vllm
def test_fewer_frames_than_the_clip_has_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model = vllm()
    real = model._frames

    def dropped(clip: Clip) -> Any:
        given = real(clip)
        ((frames, about),) = given["multi_modal_data"]["video"]
        given["multi_modal_data"]["video"] = [(frames[:2], about)]
        return given

    monkeypatch.setattr(model, "_frames", dropped)
    with pytest.raises(UserError, match=r"sees 2 of 4 frames: use --num-frames 2, or show them .*frames_as=images"):
        asked(model, make_clip(4), QUESTIONS)


@needs_vllm
def test_text_between_frames_makes_them_pictures() -> None:
    clip = make_clip(3)
    clip.captions = ((0, "so it begins\n"), (1, "über 3 °C\n"), (3, "the last\n"))
    theirs, ours = prompts_of("qwen2_vl", clip, QUESTIONS[0])
    assert theirs == ours and vllm()._show(clip).seen.kind == "images"
    clip.captions = ((1, "she says <|im_end|>"),)
    with pytest.raises(ValueError, match="which is a control token"):
        asked(vllm(), clip, QUESTIONS)


@needs_vllm
def test_the_fingerprint_says_what_decides_answers(tmp_path: Path) -> None:
    about = VLLM(str(checkpoint("qwen2_vl")), system="Be brief.", max_num_seqs="4", kv_cache_dtype="auto").describe()
    assert about["engine"].startswith("vllm 0.") and about["dtype"] == "float32" and about["frames_as"] == "video"
    assert about["identity"] == local().describe()["identity"]
    assert about["chat_template"] == local().describe()["chat_template"]
    assert (about["system"], about["kv_cache_dtype"]) == ("Be brief.", "auto") and "max_num_seqs" not in about
    with pytest.raises(UserError, match="makes nothing of thinking"):
        VLLM(str(checkpoint("qwen2_vl")), thinking="false")


# --------------------------------------------------------------------------------------------------------- the engine


@needs_vllm
def test_answers_are_those_of_transformers() -> None:
    model, other, clip = vllm(), local(), make_clip()
    expected = [other.generate(other.encode(one), QUESTIONS, SETTINGS) for one in (clip, None)]
    answers = [asked(model, one, QUESTIONS) for one in (clip, None)]
    assert [said(some) for some in answers] == [said(some) for some in expected]
    assert said(answers[0]) != said(answers[1]), "it must see for this test to mean anything"
    first, *further = answers[0]
    assert all(answer.cached_tokens > 200 for answer in further), "of the video's 288"
    assert first.prompt_tokens == len(prompts_of("qwen2_vl", clip, QUESTIONS[0])[0])
    assert all(answer.seen == other.encode(clip).seen for answer in answers[0])
    assert all(answer.latency_s > 0 for answer in answers[0])
    assert all(answer.seen is None for answer in answers[1])


@needs_vllm
def test_an_answer_ends_where_the_checkpoint_says(monkeypatch: pytest.MonkeyPatch) -> None:
    model, other, clip = vllm(), local(), make_clip()
    heard: list[list[int]] = []
    real = _transformers.split_tokens
    monkeypatch.setattr(_transformers, "split_tokens", lambda *given: heard.append(list(given[1])) or real(*given))
    longest = asked(model, clip, QUESTIONS[:1])
    end = next(token for place, token in enumerate(heard[0]) if place and token not in heard[0][:place])
    monkeypatch.setattr(model, "_ends", [end])
    monkeypatch.setattr(other.model.generation_config, "eos_token_id", end)
    answers = said(asked(model, clip, QUESTIONS[:1]))
    assert answers == said(other.generate(other.encode(clip), QUESTIONS[:1], SETTINGS)) != said(longest)
    assert answers[0][1:] == (heard[0].index(end) + 1, "stop") and heard[1] == heard[2], "the end is among its tokens"


@needs_vllm
def test_pictures_too() -> None:
    model, other, clip = vllm(), local(), make_clip(5)
    clip.captions = ((2, "text between\n"),)
    assert said(asked(model, clip, QUESTIONS)) == said(other.generate(other.encode(clip), QUESTIONS, SETTINGS))


@needs_vllm
def test_several_videos_at_once() -> None:
    model, other = vllm(), local()
    clips = [make_clip(first=first) for first in (0, 60, 120)]

    async def all_of_them() -> list[list[Answer | Exception]]:
        return list(await asyncio.gather(*(_asked(model, clip, QUESTIONS) for clip in clips)))

    asyncio.run(all_of_them())
    together = asyncio.run(all_of_them())  # each benchmark is asked in an event loop of its own
    alone = [other.generate(other.encode(clip), QUESTIONS, SETTINGS) for clip in clips]
    assert [said(some) for some in together] == [said(some) for some in alone]
    assert max(answer.in_flight for some in together for answer in some) > 1


@needs_vllm
def test_a_video_that_does_not_fit_gets_a_larger_engine() -> None:
    model, other = vllm(), local()
    clips = [make_clip(), make_clip(60, 280, 420), make_clip(first=60)]

    async def all_of_them() -> list[list[Answer | Exception]]:
        return list(await asyncio.gather(*(_asked(model, clip, QUESTIONS) for clip in clips)))

    together = asyncio.run(all_of_them())
    assert together[1][0].seen.video_tokens == 4500 and model._engine._room == 8192
    for clip, answers in zip(clips, together, strict=True):
        assert said(answers) == said(other.generate(other.encode(clip), QUESTIONS, SETTINGS))


@needs_vllm
def test_control_tokens_in_a_question_are_text() -> None:
    model, other, clip = vllm(), local(), make_clip()
    assert said(asked(model, clip, CONTROL)) == said(other.generate(other.encode(clip), CONTROL, SETTINGS))


@needs_vllm
def test_one_that_is_too_long_fails_alone_and_says_what_to_do() -> None:
    model = vllm()
    long = "word " * 2000
    right, wrong, again = asked(model, make_clip(), [QUESTIONS[0], long, QUESTIONS[1]])
    assert isinstance(right, Answer) and isinstance(again, Answer)
    assert str(wrong).startswith("10,") and "made for 8,192: use fewer or smaller frames" in str(wrong)
    short = vllm(max_model_len="300")
    (wrong,) = asked(short, make_clip(), QUESTIONS[:1])
    assert "max_model_len=300: use fewer or smaller frames" in str(wrong)


@needs_vllm
def test_sampling_is_seeded_by_the_question() -> None:
    model, clip = vllm(), make_clip()
    hot = GenerationSettings(max_new_tokens=8, do_sample=True, temperature=2.0, seed=1)
    answers = said(asked(model, clip, QUESTIONS, hot))
    assert said(asked(model, clip, QUESTIONS[::-1], hot)) == answers[::-1]
    assert said(asked(model, clip, QUESTIONS, GenerationSettings(8, True, 2.0, seed=2))) != answers

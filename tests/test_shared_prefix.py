"""Answers that go on from one video's keys and values are those of transformers' own ``generate``, captured or not."""

from __future__ import annotations

import gc
import weakref
from typing import Any
from unittest import mock

import pytest
import torch
from test_transformers_adapter import QUESTIONS, checkpoint, make_clip
from vamba_eval.model_adapters._decoding import _Room
from vamba_eval.model_adapters.transformers import TransformersAdapter

from vamba_eval.contracts import GenerationSettings, UserError

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]
LONG = GenerationSettings(max_new_tokens=12, min_new_tokens=12)


def make_adapter(name: str, device: str = "cpu", **arguments: Any) -> TransformersAdapter:
    return TransformersAdapter(str(checkpoint(name)), dtype="float32", device=device, **arguments)


def by_generate(adapter: TransformersAdapter, encoded: Any, question: str, settings: GenerationSettings) -> list[int]:
    return adapter._generated(encoded, adapter._question(encoded, question), question, settings)


def continued(
    adapter: TransformersAdapter, encoded: Any, questions: list[str], settings: GenerationSettings
) -> list[list[int]] | None:
    return adapter._continued(encoded, [adapter._question(encoded, question) for question in questions], settings)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3_vl_moe", "llava_onevision"])
def test_one_video_after_the_other(name: str, device: str) -> None:
    adapter = make_adapter(name, device)
    for frames in (4, 2, 6):  # a step is captured at the first, and serves the others
        encoded = adapter.encode(make_clip(frames))
        expected = [by_generate(adapter, encoded, question, LONG) for question in QUESTIONS]
        assert len(expected[0]) == 12
        assert continued(adapter, encoded, QUESTIONS, LONG) == expected
        assert [continued(adapter, encoded, [question], LONG) for question in QUESTIONS] == [[e] for e in expected]
        assert by_generate(adapter, encoded, QUESTIONS[0], LONG) == expected[0], "the prefix is as it was"
    captured = {room._graph is not None for room in adapter._decoder._rooms.values()}
    # Experts' products copy to the host in float32 (torch 2.11), which no graph can hold.
    assert captured == {device == "cuda"} or name == "qwen3_vl_moe"


@pytest.mark.parametrize("device", DEVICES)
def test_tokens_that_cannot_be_said(device: str) -> None:
    adapter = make_adapter("qwen2_vl", device)
    encoded = adapter.encode(make_clip())
    free = by_generate(adapter, encoded, QUESTIONS[0], LONG)
    own = adapter.model.generation_config
    own.eos_token_id, own.suppress_tokens, own.begin_suppress_tokens = [free[2], free[4]], [free[3]], [free[0]]
    said = {}
    for least in (0, 2, 6):
        settings = GenerationSettings(max_new_tokens=8, min_new_tokens=least)
        said[least] = by_generate(adapter, encoded, QUESTIONS[0], settings)
        assert continued(adapter, encoded, QUESTIONS[:1], settings) == [said[least]]
    assert said[0][0] != free[0]
    assert len(said[6]) >= 6


def test_of_several_each_ends_by_itself() -> None:
    adapter = make_adapter("qwen2_vl")
    encoded = adapter.encode(make_clip())
    free = [by_generate(adapter, encoded, question, LONG) for question in QUESTIONS]
    adapter.model.generation_config.eos_token_id = [free[0][1], free[1][4]]
    settings = GenerationSettings(max_new_tokens=12)
    expected = [by_generate(adapter, encoded, question, settings) for question in QUESTIONS]
    assert len({len(tokens) for tokens in expected}) > 1
    assert continued(adapter, encoded, QUESTIONS, settings) == expected


def test_sampled_answers_are_the_models_own() -> None:
    adapter = make_adapter("qwen2_vl")
    encoded = adapter.encode(make_clip())
    assert continued(adapter, encoded, QUESTIONS, GenerationSettings(8, do_sample=True)) is None


def test_attention_that_is_not_known_is_left_to_generate() -> None:
    adapter = make_adapter("llava_onevision")
    encoded = adapter.encode(make_clip())
    attention = next(module for module in adapter.model.modules() if hasattr(module, "layer_idx"))
    real = attention.forward
    with mock.patch.object(attention, "forward", lambda *args, **more: real(*args, **{**more, "softcap": 30.0})):
        assert continued(adapter, encoded, QUESTIONS, LONG) is None
    assert len(adapter.generate(encoded, QUESTIONS, LONG)) == len(QUESTIONS), "nor is it tried again"
    assert not adapter._decoder.takes(encoded.cache)
    eager = make_adapter("llava_onevision", attn_implementation="eager")
    assert continued(eager, eager.encode(make_clip()), QUESTIONS, LONG) is None


def test_a_video_is_let_go_of_with_its_last_question() -> None:
    adapter = make_adapter("qwen2_vl")
    encoded = adapter.encode(make_clip())
    adapter.generate(encoded, QUESTIONS, LONG)
    with mock.patch.object(_Room, "go_on", side_effect=MemoryError), pytest.raises(MemoryError):
        adapter.generate(encoded, QUESTIONS, LONG)
    keys = weakref.ref(encoded.cache.layers[0].keys)
    del encoded
    gc.collect()
    assert keys() is None


def test_a_closed_model_is_let_go_of() -> None:
    adapter = make_adapter("qwen2_vl")
    adapter.generate(adapter.encode(make_clip()), QUESTIONS, LONG)
    weight = weakref.ref(next(adapter.model.parameters()))
    adapter.close()
    assert weight() is None


def test_questions_at_once_are_refused_where_a_model_cannot_have_them() -> None:
    adapter = make_adapter("gemma3", batch_size="2")
    with pytest.raises(UserError, match=r"batch_size has no effect on a gemma3, .* leave it out"):
        adapter.encode(make_clip())
    assert make_adapter("qwen2_vl", batch_size="2").batch_size == 2
    with pytest.raises(UserError, match="batch_size=0: it is a whole number from 1"):
        make_adapter("qwen2_vl", batch_size=0)

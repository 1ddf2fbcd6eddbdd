"""Models of transformers and served ones as lmms-eval's classes; the command itself is in test_lmms_eval.py."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from judge_server import Reply, judge_server
from lmms_eval.models.model_utils.gen_metrics import get_logged_metrics_history, reset_logged_metrics
from lmms_requests import answers, options, simple
from PIL import Image
from served_models import plugin
from vamba_eval.model_adapters.transformers import TransformersAdapter
from videos import make_video, picture

from vamba_eval import FrameSampling, presets, read_clip, registry
from vamba_eval.contracts import BudgetSpent, GenerationSettings, Model, UserError
from vamba_eval.lmms import manifest, models
from vamba_eval.lmms.requests import Unsupported
from vamba_eval.lmms.showing import pictures_clip

SETTINGS = GenerationSettings(max_new_tokens=8)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-4711")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    reset_logged_metrics()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [make_video(folder / f"{n}.mp4", frames=30 + 20 * n, size=(112, 140), rate=5) for n in range(3)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_models.build(tiny_models.TINY["qwen2_5_vl"], folder)
    return folder


def local(checkpoint: Path, **more: Any) -> Any:
    given = {"pretrained": str(checkpoint), "device": "cpu", "num_frames": 4, "workers": 1, **more}
    return models.model_class("transformers", True)(**given)


def served(url: str, **more: Any) -> Any:
    return models.model_class("openai", True)(**{"model": "m", "url": url, "retries": 0, "workers": 1, **more})


def engine(**more: Any) -> Any:
    return models.model_class(plugin("Engine"), True)(**{"num_frames": 4, "workers": 1, **more})


def about(paths: list[Path], *texts: str) -> list[dict[str, Any]]:
    """A document for each text about each video, videos in turn."""
    return [{"visual": [str(path)], "text": text} for text in texts for path in paths]


def told() -> dict[str, Any]:
    """What the last round says of itself in the results."""
    return get_logged_metrics_history()[-1]


# ------------------------------------------------------------------------------------------------- what there is


def test_every_adapter_that_looks_at_videos_is_there_by_one_rule() -> None:
    seeing = {name for name in registry.names(Model) if registry.adapter_class(name).reads_video}
    found = manifest.adapters()
    assert set(found.values()) == seeing and {"vamba", "vamba_qwen2_vl", "vamba_transformers", "vamba_openai"} <= set(
        found
    )
    for each in manifest.manifests():
        for path, is_simple in ((each.simple_class_path, True), (each.chat_class_path, False)):
            module, _, name = path.rpartition(".")
            cls = getattr(importlib.import_module(module), name)
            assert cls.is_simple == is_simple and cls.adapter_name == found[each.model_id]
            assert getattr(importlib.import_module(module), name) is cls
    for unknown in ("random_chat", "nobody_simple", "vamba_other", "vamba"):
        with pytest.raises(AttributeError, match=unknown):
            getattr(models, unknown)


# ---------------------------------------------------------------------------------------- models of transformers


@torch.inference_mode()
def test_a_model_of_transformers_answers_as_its_adapter_does(videos: list[Path], checkpoint: Path) -> None:
    docs = about(videos, "What is this?", "And how many are there of it?")
    model = local(checkpoint)
    found = answers(model, docs, simple(docs))
    adapter = TransformersAdapter(str(checkpoint), device="cpu")
    for place, path in enumerate(videos):
        encoded = adapter.encode(read_clip(path, FrameSampling(num_frames=4)))
        direct = adapter.generate(encoded, [docs[place]["text"], docs[place + 3]["text"]], SETTINGS)
        assert [found[place], found[place + 3]] == [answer.text for answer in direct]
    assert len(set(found)) > 3, "the model must tell questions apart"
    assert found == answers(local(checkpoint, batch_size=2), docs, simple(docs))
    assert told()["unanswered"] == 0 and told()["videos"] == 3
    model.task_dict["made_up"] = {"test": docs[:1]}
    scores = model.loglikelihood(options(docs[:1], ["A", "BB"]))
    encoded = adapter.encode(read_clip(videos[0], FrameSampling(num_frames=4)))
    direct_scores = adapter.loglikelihood(encoded, [docs[0]["text"]] * 2, ["A", "BB"])
    assert [loss for loss, _ in scores] == pytest.approx([-direct_scores[0].logprob, -direct_scores[1].logprob / 2])
    model.clean()


def test_pictures_are_pictures_and_text_alone_is_text(checkpoint: Path) -> None:
    pictures = [Image.fromarray(picture(n, 64, 96)) for n in (3, 60)]
    docs = [{"visual": pictures, "text": "Which?"}, {"visual": None, "text": "What is 1 + 1?"}]
    model = local(checkpoint, keep_size=True)
    seen = []
    note = model.adapter.seen
    model.adapter.seen = lambda encoded: seen.append(note(encoded)) or seen[-1]
    found = answers(model, docs, simple(docs))
    assert [(each.kind, each.frames) for each in seen] == [("images", 2)]
    clip = pictures_clip(pictures, FrameSampling(shortest_edge=None, longest_edge=None), 1, as_images=True)
    assert clip.frames.shape == (2, 64, 96, 3)
    for clip_or_none, text, response in ((clip, "Which?", found[0]), (None, "What is 1 + 1?", found[1])):
        (direct,) = model.adapter.generate(model.adapter.encode(clip_or_none), [text], SETTINGS)
        assert response == direct.text


def test_what_the_model_cannot_take_costs_that_video_alone(
    videos: list[Path], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = about(videos, "What?", "Why?")
    model = local(checkpoint)
    expected = answers(model, docs, simple(docs))
    encode, encoded = model.adapter.encode, []

    def failing(clip: Any) -> Any:
        encoded.append(clip)
        if len(encoded) == fails_at:
            raise ValueError("too many positions")
        return encode(clip)

    monkeypatch.setattr(model.adapter, "encode", failing)
    fails_at = 2
    found = answers(model, docs, simple(docs))
    assert sorted(found.count(text) for text in set(found) if not text) == [2] and told()["unanswered"] == 2
    assert all(text in ("", known) for text, known in zip(found, expected, strict=True))
    encoded.clear()
    fails_at = 1  # where the first is, all may be
    with pytest.raises(ValueError, match="too many positions"):
        answers(model, docs, simple(docs))


# ------------------------------------------------------------------------------------------------ served models


def reply_to(request: dict[str, Any]) -> Reply:
    """It depends on every pixel and letter that was sent."""
    return Reply(f"I say {hashlib.sha256(json.dumps(request['messages']).encode()).hexdigest()[:12]}.")


def question_of(request: dict[str, Any]) -> str:
    content = request["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def test_an_endpoint_is_asked_about_several_videos_at_once_and_answers_stand_in_order(videos: list[Path]) -> None:
    docs = about(videos, "What?", "Why?")
    both, begun = asyncio.Event(), []
    with judge_server(reply_to) as server:
        model = served(
            server.url, num_frames=4, concurrency=2, image="png", price="1/2", system_prompt='"Be brief, now."'
        )
        answer = model.adapter.answer

        async def once_there_are_two(clip: Any, prompts: Any, settings: Any) -> Any:
            begun.append(len(prompts))
            if len(begun) == 2:
                both.set()
            await asyncio.wait_for(both.wait(), 60)
            async for each in answer(clip, prompts, settings):
                yield each

        model.adapter.answer = once_there_are_two
        found = answers(model, docs, simple(docs))
    assert begun == [2, 2, 2], "each video once, with both questions"
    by_hand = {json.dumps(each["messages"]): reply_to(each).text for each in server.requests}
    assert len(by_hand) == 6 and len(set(found)) == 6 and set(found) == set(by_hand.values())
    for doc, response in zip(docs, found, strict=True):
        (request,) = [each for each in server.requests if reply_to(each).text == response]
        assert request["messages"][0] == {"role": "system", "content": "Be brief, now."}
        *frames, text = request["messages"][1]["content"]
        assert text["text"] == doc["text"] and request["max_tokens"] == 8 and request["temperature"] == 0
        shown = read_clip(doc["visual"][0], FrameSampling(num_frames=4)).frames
        for part, frame in zip(frames, shown, strict=True):
            data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), frame)
    assert told()["prompt_tokens"] == 600 and told()["price"] == pytest.approx((600 * 1 + 60 * 2) / 1e6)


def test_as_many_videos_are_in_flight_as_may_be_and_failures_are_no_responses(
    videos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    docs = about([*videos, tmp_path / "broken.mp4"], "one", "two") + about(videos[:1], "stumble", "forget")
    docs += [{"visual": None, "text": "vanish"}, {"visual": None, "text": "alone"}]
    model = engine(concurrency=2, seconds=0.05)
    found = answers(model, docs, simple(docs))
    assert model.adapter.most == 2 and model.adapter.in_flight == 0
    missing = {n for n, doc in enumerate(docs) if doc["text"] in ("stumble", "forget", "vanish")} | {3, 7}
    assert found == ["" if n in missing else "A" for n in range(len(docs))]
    assert told()["unanswered"] == len(missing) == 5 and told()["price"] == pytest.approx(0.002 * 7)
    assert told()["cached_tokens"] == 60 * 7
    model.clean()
    assert model.adapter.closed


def test_what_every_request_would_meet_ends_the_command_or_keeps_what_there_is() -> None:
    def asked(*texts: str) -> list[str]:
        docs = [{"visual": None, "text": text} for text in texts]
        return answers(engine(concurrency=2), docs, simple(docs))

    with pytest.raises(UserError, match="the key is wrong"):
        asked("quit", "stumble", "never asked")
    assert asked("quit", "in flight meanwhile", "never asked") == ["", "A", ""]
    assert told()["unanswered"] == 2


def test_a_spent_budget_keeps_what_was_paid_for(videos: list[Path]) -> None:
    docs = about(videos, "one", "two")
    with judge_server(reply_to) as server:
        # Of 100 tokens in and 10 out, 110 dollars a million: three questions are within it.
        model = served(server.url, num_frames=4, concurrency=1, price="1/1", budget=0.0003)
        found = answers(model, docs, simple(docs))
        assert len(server.requests) == 3 == sum(map(bool, found))
        assert told()["unanswered"] == 3 and told()["price"] == pytest.approx(0.00033)
        with pytest.raises(BudgetSpent, match="is spent"):
            answers(model, docs, simple(docs))
        assert len(server.requests) == 3


def test_an_endpoint_that_fails_gives_no_response(videos: list[Path]) -> None:
    docs = about(videos, "one", "fail", "think")
    replies = {"fail": Reply(status=500), "think": Reply("", finish="length", message={"reasoning": "Hm"})}
    with judge_server(lambda request: replies.get(question_of(request)) or reply_to(request)) as server:
        found = answers(served(server.url, num_frames=4, price="1/1"), docs, simple(docs))
        assert [bool(text) for text in found] == [True] * 3 + [False] * 6
        assert told()["price"] == pytest.approx(6 * 110 / 1e6), "thoughts cost money too"
    with judge_server(lambda _: Reply(status=401)) as server, pytest.raises(UserError, match="does not accept the key"):
        answers(served(server.url, num_frames=4), docs, simple(docs))


def test_pictures_are_sent_once(tmp_path: Path) -> None:
    pictures = [Image.fromarray(picture(n, 64, 96)) for n in (3, 60)]
    docs = [{"visual": pictures, "text": "Which?"}, {"visual": [], "text": "What is 1 + 1?"}]
    with judge_server(reply_to) as server:
        assert all(answers(served(server.url), docs, simple(docs)))
        sent = {question_of(each): each["messages"][0]["content"] for each in server.requests}
        assert [part["type"] for part in sent["Which?"]] == ["image_url", "image_url", "text"]
        assert sent["What is 1 + 1?"] == "What is 1 + 1?"
        with pytest.raises(UserError, match="only frames_as=images"):
            answers(served(server.url, frames_as="video"), docs[:1], simple(docs[:1]))


# ---------------------------------------------------------------------------------------------------- arguments


def test_frames_are_sized_by_area_when_they_are_read_or_by_the_adapter(checkpoint: Path) -> None:
    read = local(checkpoint, max_pixels=50_000, total_pixels=100_000, edge_multiple=32)
    sampling = read.sampling("x")
    assert (sampling.max_pixels, sampling.total_pixels, sampling.edge_multiple) == (50_000, 100_000, 32)
    assert sampling.longest_edge is None
    assert read.adapter.max_pixels is None and read.adapter.total_pixels is None
    own = local(checkpoint, adapter_max_pixels=50_000, adapter_total_pixels=100_000)
    assert own.sampling("x") == FrameSampling(num_frames=4)
    assert own.adapter.max_pixels == 50_000 and own.adapter.total_pixels == 100_000
    old = models.model_class("vamba", True)(pretrained="random", device="cpu", total_pixels=100_000)
    assert old.sampling("x").total_pixels == 100_000


def test_presets_choose_frames_and_arguments(checkpoint: Path) -> None:
    model = local(checkpoint, preset="llava-onevision", num_frames=8)
    assert model.sampling("lvbench") == FrameSampling("linspace", 8, shortest_edge=384, longest_edge=384)
    assert model.adapter.system == "You are a helpful assistant."
    assert local(checkpoint, preset="llava-onevision", system="Be kind.").adapter.system == "Be kind."
    sized = local(checkpoint, preset="qwen3-vl", num_frames=None, max_pixels=200_000).sampling("x")
    authors = presets.named("qwen3-vl").sampling
    assert sized.max_pixels == 200_000 and sized.total_pixels == authors.total_pixels and sized.fps == authors.fps
    assert local(checkpoint, preset="qwen3-vl", longest_edge=300, shortest_edge=1).sampling("x").total_pixels is None


@pytest.mark.parametrize(
    ("adapter", "arguments", "words"),
    [
        ("transformers", {"no_such": 1}, "model 'transformers' has no argument 'no_such'; it takes pretrained"),
        ("transformers", {"pretrained": None}, "give pretrained="),
        ("transformers", {"max_pixels": 9, "adapter_max_pixels": 9}, "max_pixels and adapter_max_pixels .* give one"),
        ("transformers", {"max_pixels": 9, "longest_edge": 9}, "longest_edge sizes frames by an edge, max_pixels by"),
        ("transformers", {"total_pixels": 9, "keep_size": True}, "keep_size=true .* total_pixels does: give one"),
        ("transformers", {"system": "a", "system_prompt": "b"}, "system_prompt and system are the same: give one"),
        ("transformers", {"preset": "qwen3vl"}, "did you mean 'qwen3-vl'"),
        ("transformers", {"adapter_min_pixels": 9}, "no argument 'min_pixels'"),
        (
            "vamba",
            {"max_pixels": 9, "total_pixels": 9},
            "max_pixels bounds frames in the model, total_pixels when they",
        ),
        ("qwen2_vl", {"max_pixels": 9, "preset": "qwen2-vl"}, "max_pixels bounds frames in the model, preset=qwen2-vl"),
        ("qwen2_vl", {"preset": "llava-onevision"}, "preset=llava-onevision with qwen2_vl, which has no system="),
        ("openai", {"model": ""}, "which model"),
        ("openai", {"pretrained": "a/b"}, "model 'openai' has no argument 'pretrained'; it takes model, url"),
        ("openai", {"device": "cpu"}, "no argument 'device'"),
        ("openai", {"use_flash_attention_2": True}, "no argument 'attn_implementation'"),
        ("openai", {"batch_size": 4}, "concurrency="),
        ("openai", {"option_score": "loss"}, "option_score"),
        ("openai", {"budget": 3}, "give price="),
        ("openai", {"frames_as": "file", "num_frames": 4}, "num_frames has no effect, as the service chooses frames"),
        ("openai", {"frames_as": "film"}, "frames_as=film"),
    ],
)
def test_arguments_that_cannot_act_are_refused(
    adapter: str, arguments: dict[str, Any], words: str, checkpoint: Path
) -> None:
    given: dict[str, Any] = {"pretrained": str(checkpoint) if adapter == "transformers" else "random", "device": "cpu"}
    given = {"model": "m", "url": "http://127.0.0.1:9/v1"} if adapter == "openai" else given
    with pytest.raises(UserError, match=words):
        models.model_class(adapter, True)(**{**given, **arguments})


def test_what_only_one_process_can_do_is_refused_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    several = SimpleNamespace(device=torch.device("cpu"), num_processes=2, process_index=1)
    monkeypatch.setattr(models, "Accelerator", lambda: several)
    with pytest.raises(Unsupported, match="budget= in several processes"):
        served("http://127.0.0.1:9/v1", price="1/1", budget=3)
    assert served("http://127.0.0.1:9/v1").rank == 1
    with pytest.raises(Unsupported, match="the engine takes GPUs itself"):
        models.model_class(plugin("Loading"), True)(pretrained="a/b")


def test_a_served_model_scores_no_options() -> None:
    with pytest.raises(Unsupported, match="vamba_transformers"):
        served("http://127.0.0.1:9/v1").loglikelihood([])

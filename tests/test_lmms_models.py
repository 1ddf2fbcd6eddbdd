"""Our models as lmms-eval's classes, in this process; the command itself is in test_lmms_eval.py."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmms_eval.api.instance import Instance
from PIL import Image
from vamba_eval.model_adapters.qwen2_vl import AFTER_QUESTION, BEGINNING, Qwen2VLAdapter
from vamba_eval.model_adapters.vamba.adapter import VambaAdapter
from videos import make_video, picture

from vamba_eval import Clip, FrameSampling, read_clip
from vamba_eval.contracts import GenerationSettings, UserError
from vamba_eval.lmms import ranks
from vamba_eval.lmms.models import Qwen2VLSimple, VambaChat, VambaSimple, _batches, pictures_clip
from vamba_eval.lmms.requests import Unsupported, generation_settings

FEW = {"pretrained": "random", "device": "cpu", "num_frames": 4, "workers": 1}
GREEDY = {"max_new_tokens": 8, "temperature": 0, "do_sample": False, "until": ["\n\n"]}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [make_video(folder / f"{n}.mp4", frames=30 + 20 * n, size=(112, 140), rate=5) for n in range(3)]


def simple(docs: list[dict[str, Any]], kwargs: dict[str, Any] = GREEDY, repeats: int = 1) -> list[Instance]:
    return [
        Instance(
            "generate_until",
            (doc["text"], copy.deepcopy(kwargs), lambda d: d["visual"], number, "made_up", "test"),
            0,
            {"task": "made_up", "doc_id": number, "repeats": repeats},
        )
        for number, doc in enumerate(docs)
    ]


def answers(model: Any, docs: list[dict[str, Any]], requests: list[Instance]) -> list[str]:
    model.task_dict["made_up"] = {"test": docs}
    return [result.text for result in model.generate_until(requests)]


def asked_directly(adapter: Any, path: Path, texts: list[str]) -> list[str]:
    clip = read_clip(path, FrameSampling(num_frames=4))
    return [a.text for a in adapter.generate(adapter.encode(clip), texts, GenerationSettings(max_new_tokens=8))]


def test_requests_in_any_order_are_answered_in_theirs_and_each_video_is_encoded_once(
    videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = [{"visual": [str(path)], "text": f"What is {n} here?"} for path in videos for n in range(3)]
    random.Random(0).shuffle(docs)
    model = VambaSimple(**FEW)
    encoded: list[Clip] = []
    encode = model.adapter.encode
    monkeypatch.setattr(model.adapter, "encode", lambda clip: encoded.append(clip) or encode(clip))
    requests = simple(docs)
    before = [copy.deepcopy(request.args[1]) for request in requests]
    found = answers(model, docs, requests)
    assert len(encoded) == 3
    for path in videos:
        own = [n for n, doc in enumerate(docs) if doc["visual"] == [str(path)]]
        assert [found[n] for n in own] == asked_directly(model.adapter, path, [docs[n]["text"] for n in own])
    assert len(set(found)) > 1, "the model must tell questions apart"
    assert [request.args[1] for request in requests] == before, "lmms-eval's cache finds answers by these"
    model.clean()


def test_chat_and_simple_and_batches_give_the_same(videos: list[Path]) -> None:
    docs = [{"visual": [str(videos[n % 2])], "text": f"Which {n}?"} for n in range(5)]

    def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
        content = [{"type": "video", "url": doc["visual"][0]}, {"type": "text", "text": doc["text"]}]
        return [{"role": "user", "content": content}]

    about = {"task": "made_up", "repeats": 1}
    chat = [
        Instance("generate_until", ("", messages, dict(GREEDY), n, "made_up", "test"), 0, {**about, "doc_id": n})
        for n in range(5)
    ]
    first = answers(VambaChat(**FEW), docs, chat)
    assert first == answers(VambaSimple(**FEW, batch_size=3), docs, simple(docs))
    assert first == answers(VambaSimple(**FEW, device_map="cpu", batch_size="auto"), docs, simple(docs))


def test_pictures_videos_that_cannot_be_read_and_until(videos: list[Path], tmp_path: Path) -> None:
    image = Image.fromarray(picture(3, 120, 150))
    image.save(tmp_path / "still.png")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    texts = ["Of what <image>is this?", "And this?", "Read it", "What?"]
    visuals: list[Any] = [[image], [str(tmp_path / "still.png")], [str(tmp_path / "broken.mp4")], [str(videos[0])]]
    docs = [{"visual": visual, "text": text} for visual, text in zip(visuals, texts, strict=True)]
    model = Qwen2VLSimple(**FEW)
    found = answers(model, docs, simple(docs))
    clip = pictures_clip([image], FrameSampling(num_frames=4))
    assert clip.frames.shape == (2, 256, 256, 3)
    encoded = model.adapter.encode(clip)
    settings = GenerationSettings(max_new_tokens=8)
    direct = [a.text for a in model.adapter.generate(encoded, ["Of what is this?", "And this?"], settings)]
    assert found[:2] == direct and found[2] == "" and found[3]
    whole = found[3]
    stop = whole[len(whole) // 2]
    (cut,) = answers(model, docs[3:], simple(docs[3:], {**GREEDY, "until": stop}))
    assert cut == whole[: whole.index(stop)]


def test_qwen2_vl_answers_in_batches_as_one_by_one(videos: list[Path]) -> None:
    docs = [{"visual": [str(videos[n % 2])], "text": f"Which {n}?"} for n in range(5)]
    one, several = Qwen2VLSimple(**FEW), Qwen2VLSimple(**FEW, batch_size=3)
    assert several.adapter.batch_size == 3
    found = answers(one, docs, simple(docs))
    assert answers(several, docs, simple(docs)) == found and len(set(found)) > 1


@pytest.mark.parametrize("kind", [VambaSimple, Qwen2VLSimple])
def test_questions_without_anything_to_see(kind: Any) -> None:
    docs = [{"visual": visual, "text": text} for visual, text in ((None, "What is 1 + 1?"), ([], "And 2 + 2?"))]
    model = kind(**FEW)
    direct = model.adapter.generate(model.adapter.encode(None), [doc["text"] for doc in docs], GenerationSettings(8))
    assert answers(model, docs, simple(docs)) == [answer.text for answer in direct]
    model.task_dict["made_up"] = {"test": docs}
    assert (
        len(model.loglikelihood([Instance("loglikelihood", ("", "A"), 0, {"task": "", "doc_id": 0, "repeats": 1})]))
        == 1
    )


def test_repetitions_draw_again_and_padding_does_not(videos: list[Path]) -> None:
    docs = [{"visual": [str(videos[0])], "text": "What?"}]
    model = VambaSimple(**FEW)
    (request,) = simple(docs, {"max_new_tokens": 12, "temperature": 5.0}, repeats=3)
    drawn = answers(model, docs, [request, request, request])
    assert len(set(drawn)) == 3
    assert answers(model, docs, [request]) == drawn[:1], "seeded"
    padding = copy.copy(request)
    padding.metadata = {**request.metadata, "__padding_only__": True}
    assert answers(model, docs, [request, padding])[0] == drawn[0]


def test_what_is_not_supported_is_said_before_anything_is_computed(videos: list[Path]) -> None:
    model = VambaSimple(**FEW)
    for visual, reason in (
        ([str(videos[0]), str(videos[1])], "2 videos in one question"),
        ([str(videos[0]), Image.new("RGB", (64, 64))], "a video and pictures"),
        ([{"type": "audio", "url": "x.wav"}], "audio"),
        (["https://example.org/x.mp4"], "not URLs"),
        ([np.zeros(3)], "ndarray"),
    ):
        docs = [{"visual": visual, "text": "What?"}]
        with pytest.raises(Unsupported, match=reason):
            answers(model, docs, simple(docs))
    for kwargs, reason in (({"num_beams": 4}, "num_beams=4"), ({"repetition_penalty": 1.2}, "repetition_penalty")):
        with pytest.raises(Unsupported, match=reason):
            answers(model, docs, simple(docs, kwargs))
    with pytest.raises(NotImplementedError, match="several rounds"):
        model.generate_until_multi_round([])
    for arguments, reason in (
        ({"max_num_frames": 3}, "two numbers of frames"),
        ({"max_length": 2048}, "max_length"),
        ({"system_prompt": "Be rude."}, "system_prompt"),
        ({"use_cache": False}, "use_cache"),
        ({"no_such_argument": 1}, "no argument 'no_such_argument'"),
        ({"strategy": "best"}, "unknown sampling strategy"),
        ({"memory": 1}, "no argument"),
    ):
        with pytest.raises(UserError, match=reason):
            VambaSimple(**{**FEW, **arguments})


@pytest.mark.parametrize(
    "arguments, words",
    [
        (
            {"keep_size": True, "longest_edge": 224},
            "keep_size=true does not resize frames, longest_edge does: give one",
        ),
        ({"keep_size": True, "shortest_edge": 224}, "keep_size=true does not resize frames, shortest_edge does"),
        ({"fps": 2, "strategy": "uniform"}, "fps is for the strategy 'fps', .* leave out fps, or use strategy=fps"),
        ({"token_budget": 99, "strategy": "middle"}, "leave out token_budget, or use strategy=auto"),
        ({"token_budget": 99}, "whatever num_frames says: leave out num_frames, or use another strategy"),
        ({"fps": 2, "token_budget": 99}, "leave out token_budget, or use strategy=auto"),
        ({"longest_edge": 200}, r"give shortest_edge and longest_edge, .* \(shortest_edge=1 raises nothing\)"),
        ({"max_batch_size": 8}, "max_batch_size"),
        ({"clip_cache_gb": 1}, "clip_cache_gb without a clip_cache"),
        ({"device": "cuda:1", "device_map": "auto"}, "over all devices, device=cuda:1 puts it on one"),
        ({"use_flash_attention_2": True, "attn_implementation": "sdpa"}, "than attn_implementation=sdpa"),
    ],
)
def test_arguments_without_effect_are_refused_in_words_of_model_args(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        VambaSimple(**{**FEW, **arguments})
    assert "--" not in str(raised.value)


def test_generation_arguments() -> None:
    greedy = generation_settings({"max_new_tokens": 16, "temperature": 0.0, "top_p": 1.0, "num_beams": 1})
    assert greedy == GenerationSettings(max_new_tokens=16)
    assert generation_settings({"until": "\n", "do_sample": False}) == GenerationSettings(128, until=("\n",))
    sampled = generation_settings({"max_gen_toks": 4, "temperature": 0.7, "top_p": 0.9, "do_sample": False}, 2)
    assert sampled == GenerationSettings(4, True, 0.7, 0.9, seed=2)
    assert generation_settings({"do_sample": True}) == GenerationSettings(128, True)
    for no_limit in (0, -1, None):
        assert generation_settings({"temperature": 1.0, "top_k": no_limit}) == GenerationSettings(128, True)
    assert generation_settings({"temperature": 1.0, "top_k": 3}).top_k == 3
    with pytest.raises(Unsupported, match="top_k must be at least 1, not -3"):
        generation_settings({"temperature": 1.0, "top_k": -3})
    assert GenerationSettings(until=("b", "cd")).cut("a cd b") == "a " and GenerationSettings().cut("a") == "a"


def test_frames_are_ours_unless_asked_otherwise() -> None:
    assert VambaSimple(**{**FEW, "num_frames": None}).sampling("x") == FrameSampling()
    assert VambaSimple(**{**FEW, "num_frames": None}).sampling("lvbench") == FrameSampling(
        num_frames=1024, longest_edge=560
    )
    by_function = VambaSimple(**FEW).sampling("mine", frozenset({"lvbench_doc_to_visual", "lvbench_doc_to_text"}))
    assert by_function == FrameSampling(num_frames=4, longest_edge=560)
    rate = VambaSimple(pretrained="random", device="cpu", fps=2, max_num_frames=100).sampling("x")
    assert (rate.strategy, rate.fps, rate.num_frames) == ("fps", 2, 100)
    budget = VambaSimple(pretrained="random", device="cpu", token_budget=9000).sampling("x")
    assert (budget.strategy, budget.token_budget) == ("auto", 9000), "as on our command line"
    bounded = VambaSimple(**FEW, max_pixels=28 * 28 * 9)
    assert bounded.sampling("x").longest_edge is None
    assert bounded.adapter.processor.settings.size(300, 300) == (84, 84)


# ---------------------------------------------------------------------------------------- likelihoods


def from_scratch(adapter: Any, clip: Clip, prompt: str, continuation: str) -> tuple[float, bool]:
    """One forward pass of the whole text with its video, no cache."""
    if isinstance(adapter, VambaAdapter):
        inputs = adapter.processor([adapter.processor.prompt(prompt) + continuation], videos=clip.frames)
        logits = adapter.model(**inputs).logits[0]
        after = adapter.processor([continuation])["input_ids"][0]
    else:
        shown = adapter.processor.video_processor(
            videos=[torch.from_numpy(clip.frames).permute(0, 3, 1, 2)], do_sample_frames=False, return_tensors="pt"
        )
        pixels, grid = shown["pixel_values_videos"], shown["video_grid_thw"]
        video = "<|video_pad|>" * (int(grid.prod()) // 4)
        text = f"{BEGINNING}<|vision_start|>{video}<|vision_end|>{prompt}{AFTER_QUESTION}{continuation}"
        ids = adapter.tokenizer(text, return_tensors="pt").input_ids
        types = (ids == adapter.tokenizer.convert_tokens_to_ids("<|video_pad|>")).int() * 2
        adapter.model.model.rope_deltas = None
        logits = adapter.model(
            input_ids=ids, pixel_values_videos=pixels, video_grid_thw=grid, mm_token_type_ids=types
        ).logits[0]
        after = adapter.tokenizer(continuation, return_tensors="pt").input_ids[0]
    logprobs = logits.double().log_softmax(-1)[-len(after) - 1 : -1]
    total = float(logprobs.gather(-1, after[:, None]).sum())
    return total, bool((logprobs.argmax(-1) == after).all())


@pytest.mark.parametrize("kind", [VambaAdapter, Qwen2VLAdapter])
@torch.inference_mode()
def test_likelihoods_are_those_of_one_pass_from_scratch(kind: Any) -> None:
    adapter = kind(seed=3, device="cpu")
    clip = Clip(np.stack([picture(n, 84, 112) for n in range(6)]), np.arange(6.0), np.arange(6), 1.0, 6.0)
    prompts = ["What?\nA. one\nB. two", "What?\nA. one\nB. two", "And then?", "Who?"]
    continuations = ["A", " B, I think", "because", "D"]
    encoded = adapter.encode(clip)
    found = adapter.loglikelihood(encoded, prompts, continuations)
    for prompt, continuation, each in zip(prompts, continuations, found, strict=True):
        logprob, greedy = from_scratch(adapter, clip, prompt, continuation)
        assert each.logprob == pytest.approx(logprob, abs=1e-4) and each.greedy == greedy
        assert each.num_tokens == len(continuation)  # a byte is a token here
    assert adapter.loglikelihood(encoded, prompts[:1], continuations[:1]) == found[:1], "the prefix is as it was"
    assert adapter.loglikelihood(encoded, prompts[:1], [""])[0].num_tokens == 0


def test_loglikelihood_scores_options_as_lmms_eval_takes_them(videos: list[Path]) -> None:
    docs = [{"visual": [str(videos[0])], "text": "Which?\nA. one\nB. two", "answer": "A"}]
    requests = [
        Instance(
            "loglikelihood",
            (docs[0]["text"], option, lambda d: d["visual"], 0, "made_up", "test"),
            n,
            {"task": "made_up", "doc_id": 0, "repeats": 1},
        )
        for n, option in enumerate(("A", "BB", lambda d: d["answer"]))
    ]
    losses, logprobs = [], []
    for score, found in (("loss", losses), ("logprob", logprobs)):
        model = Qwen2VLSimple(**FEW, option_score=score)
        model.task_dict["made_up"] = {"test": docs}
        found += model.loglikelihood(requests)
    encoded = model.adapter.encode(read_clip(videos[0], FrameSampling(num_frames=4)))
    direct = model.adapter.loglikelihood(encoded, [docs[0]["text"]] * 2, ["A", "BB"])
    assert [value for value, _ in logprobs[:2]] == [each.logprob for each in direct]
    assert [value for value, _ in losses[:2]] == [-direct[0].logprob, -direct[1].logprob / 2]
    assert losses[2] == losses[0], "a target that the task computes"


# -------------------------------------------------------------------------------------------- sharing


def test_each_process_gets_whole_videos_and_as_many() -> None:
    keys = [["a", "b", "c", "d", "e"], ["a", "b", "c", "d", "e"], ["f"]]
    owners = ranks.deal(keys)
    assert sorted(owners) == list("abcdef")
    assert sorted(list(owners.values()).count(rank) for rank in range(3)) == [2, 2, 2]
    assert ranks.deal([["a"], ["b"]]) == {"a": 0, "b": 1}, "who asks about it, if that is as good"
    assert ranks.deal([[], []]) == {}
    assert not ranks.called_by_evaluator(1)


def test_batches_hold_each_question_once() -> None:
    from vamba_eval.lmms.models import ResolvedRequest

    greedy, drawn = GenerationSettings(4), GenerationSettings(4, True)
    questions = [
        ResolvedRequest(0, n, text, s, "") for n, (text, s) in enumerate([("a", greedy), ("b", drawn), ("a", greedy)])
    ]
    batches = list(_batches([*questions, ResolvedRequest(1, 0, "c", greedy, "")], 2))
    assert [[[q.place for q in same] for same in few] for few in batches] == [[[0, 2], [0]], [[1]]]

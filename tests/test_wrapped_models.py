"""Models that somebody's function changes once they are loaded: what it keeps is what questions are answered from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pruning
import pytest
import tiny_models
import torch
from test_transformers_adapter import Alone, checkpoint, make_clip
from vamba_eval.model_adapters import _frames
from vamba_eval.model_adapters.transformers import Encoded, TransformersAdapter
from videos import make_video

from vamba_eval import FrameSampling, read_clip
from vamba_eval.contracts import Clip, GenerationSettings, UserError

pytestmark = pytest.mark.usefixtures("one_thread")

PRUNING = Path(pruning.__file__)
QUESTIONS = ["What happens?\nA. one\nB. two", "And then?", "Wo war es, 3 °C?"]
SETTINGS = GenerationSettings(max_new_tokens=5)
Cli = Callable[..., tuple[int, str, str]]


def adapter(name: str, wrap: str | None = None, **more: Any) -> TransformersAdapter:
    more |= {"text_positions": "transformers"} if name == "qwen2_vl" else {}
    function = None if wrap is None else f"{PRUNING}:{wrap}"
    return TransformersAdapter(str(checkpoint(name)), dtype="float32", device="cpu", wrap=function, **more)


def texts(one: TransformersAdapter, clip: Clip | None, questions: list[str] = QUESTIONS) -> list[str]:
    return [answer.text for answer in one.generate(one.encode(clip), questions, SETTINGS)]


def tokens(one: TransformersAdapter, encoded: Encoded, questions: list[str]) -> list[list[int]]:
    """Of its answers, whatever these mean."""
    said = []
    real = one.model.generate

    def listening(**given: Any) -> Any:
        output = real(**given)
        said.append(output[0, given["input_ids"].shape[1] :].tolist())
        return output

    one.model.generate = listening
    try:
        one.generate(encoded, questions, SETTINGS)
    finally:
        del one.model.generate
    return said


def from_scratch(name: str, clip: Clip, question: str) -> tuple[list[int], list[float]]:
    """The greedy answer of the plain model from the whole prompt at once, for each token anew, with a mask by which
    what follows the prefix does not see the dropped tokens, and the likelihood of each token: no cache is in it."""
    alone, prefix = Alone(name), adapter(name).encode(clip).ids.shape[1]
    inputs = alone.inputs(clip, question, images=False)
    inputs.pop("video_metadata", None)
    end, said, logprobs = alone.processor.tokenizer.eos_token_id, [], []
    for _ in range(SETTINGS.max_new_tokens):
        ids = inputs["input_ids"]
        count = ids.shape[1]
        seen = torch.ones(count, count, dtype=torch.bool).tril()
        dropped = torch.ones(prefix, dtype=torch.bool)
        dropped[pruning.kept(alone.model, ids[0, :prefix])] = False
        seen[prefix:, :prefix][:, dropped] = False
        positions = alone.model._prepare_position_ids_for_generation(ids, dict(inputs))
        given = {**inputs, "attention_mask": seen[None, None], "position_ids": positions}
        with torch.inference_mode():
            logits = alone.model(**given).logits[0, -1]
        token = int(logits.argmax())
        said.append(token)
        logprobs.append(float(logits.log_softmax(-1)[token]))
        if token == end:
            break
        for key in ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids"):
            if key in inputs:
                more = {"input_ids": token, "attention_mask": 1}.get(key, 0)
                inputs[key] = torch.cat([inputs[key], torch.tensor([[more]])], dim=1)
    return said, logprobs


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3_vl", "internvl", "llava_onevision"])
def test_a_compressed_cache_is_what_questions_are_answered_from(name: str) -> None:
    """With time and place as positions, and with plain ones."""
    one, plain, clip = adapter(name, "halve"), adapter(name), make_clip(6)
    encoded, whole = one.encode(clip), plain.encode(clip)
    seen, total = one.seen(encoded), whole.ids.shape[1]
    assert seen is not None and seen.video_tokens == plain.seen(whole).video_tokens, "what the processor put there"
    assert seen.kept_tokens == total - seen.video_tokens // 2 and plain.seen(whole).kept_tokens is None
    expected = [from_scratch(name, clip, question) for question in QUESTIONS]
    in_turn = [*QUESTIONS, *QUESTIONS[::-1]]
    said = tokens(one, encoded, in_turn)
    assert said == [each for each, _ in (*expected, *expected[::-1])]
    answers, unlike = (each.generate(of, QUESTIONS, SETTINGS) for each, of in ((one, encoded), (plain, whole)))
    seen_whole = [(answer.text, answer.thinking) for answer in unlike]
    assert [(answer.text, answer.thinking) for answer in answers] != seen_whole, "it must matter what is dropped"
    assert [answer.prompt_tokens for answer in answers] == [answer.prompt_tokens for answer in unlike]
    for question, (each, logprobs) in zip(QUESTIONS, expected, strict=True):
        (found,) = one.loglikelihood(encoded, [question], [one.tokenizer.decode(each[:1])])
        if found.num_tokens == 1 and found.greedy:  # not of a part of a letter
            assert found.logprob == pytest.approx(logprobs[0], abs=1e-4)
    assert texts(one, None) == texts(plain, None), "asked blind it has nothing to drop"


def test_a_model_may_do_anything_to_its_cache_while_it_answers() -> None:
    one, clip = adapter("qwen3_vl", "forgetful"), make_clip()
    encoded = one.encode(clip)
    first = [one.generate(encoded, [question], SETTINGS)[0].text for question in QUESTIONS]
    again = [one.generate(encoded, [question], SETTINGS)[0].text for question in QUESTIONS[::-1]]
    assert again == first[::-1] and first != texts(adapter("qwen3_vl"), clip)


def test_what_changes_nothing_answers_alike() -> None:
    clip = make_clip()
    assert texts(adapter("qwen3_vl", "nothing"), clip) == texts(adapter("qwen3_vl"), clip)


@pytest.mark.parametrize(
    ("name", "wrap", "message"),
    [
        (
            "qwen3_vl",
            "halve_one_layer",
            "of .* tokens before the question: the layers of its cache must keep equally many",
        ),
        ("qwen3_vl", "empty", "keeps 0 of .* it must keep some"),
        (
            "gemma3",
            "halve",
            "possible only where each layer of a cache keeps all tokens, as a gemma3's do not",
        ),
    ],
)
def test_caches_that_cannot_be_gone_on_from(name: str, wrap: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        adapter(name, wrap).encode(make_clip())


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        ("halve", "wrap is 'halve': write module:function, or the path of a .py file"),
        ("nowhere.to:halve", "no module 'nowhere.to': install it, or give the path"),
        ("nowhere.py:halve", "no such file: nowhere.py"),
        (f"{PRUNING}:third", "has no 'third'"),
        (f"{PRUNING}:NUMBER", "has no function, but another value, 'NUMBER'"),
        (f"{PRUNING}:raising", r"failed: RuntimeError: no such layer$"),
        (f"{PRUNING}:returning_text", "returned a str without config, generation_config, forward, generate"),
        (f"{PRUNING}:signatureless", r"no longer says that it takes \w+: put @functools.wraps"),
    ],
)
def test_functions_that_are_refused(wrap: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TransformersAdapter(str(checkpoint("qwen3_vl")), dtype="float32", device="cpu", wrap=wrap)


def test_questions_of_a_wrapped_model_are_answered_one_by_one() -> None:
    one = adapter("qwen3_vl", "nothing", batch_size=2)
    with pytest.raises(UserError, match="batch_size has no effect on a wrapped model"):
        one.encode(make_clip())


def test_a_precision_that_the_function_chooses_is_the_runs() -> None:
    one = adapter("qwen3_vl", "in_bfloat16")
    assert one.describe()["dtype"] == "bfloat16"
    (answer,) = one.generate(one.encode(make_clip()), ["What happens?"], SETTINGS)
    assert answer.num_tokens == SETTINGS.max_new_tokens


def test_modules_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lacks_something.py").write_text("import nothing_like_it\n")
    (tmp_path / "is_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    for wrap, message in (
        ("lacks_something:f", "cannot be imported: No module named 'nothing_like_it'"),
        ("is_broken:f", "cannot be imported: ZeroDivisionError"),
        (f"{tmp_path}/is_broken.py:f", "cannot be imported: ZeroDivisionError"),
    ):
        with pytest.raises(UserError, match=message):
            TransformersAdapter(str(checkpoint("qwen3_vl")), dtype="float32", device="cpu", wrap=wrap)


def test_the_fingerprint_has_the_name_and_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = adapter("qwen3_vl").describe()
    assert not any(key.startswith("wrap") for key in plain)
    described = []
    for number, more in enumerate(("", "", "\n# changed\n")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "my_prune.py").write_text(PRUNING.read_text() + more)
        function = f"{folder}/my_prune.py:nothing"
        one = TransformersAdapter(str(checkpoint("qwen3_vl")), dtype="float32", device="cpu", wrap=function)
        described.append(one.describe())
    assert described[0] == described[1] != described[2], "the source counts, and where it lies does not"
    assert described[0] == {**plain, "wrap": "my_prune.py:nothing", "wrap_source": described[0]["wrap_source"]}
    named = TransformersAdapter(str(checkpoint("qwen3_vl")), dtype="float32", device="cpu", wrap="pruning:nothing")
    assert named.describe() == {**described[0], "wrap": "pruning:nothing"}


def test_a_run_records_what_is_kept(cli: Cli, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    make_video(data / "one.mp4", frames=20, size=(84, 112))
    shutil.copytree(checkpoint("qwen3_vl"), tmp_path / "tiny")
    task = Path(__file__).parent / "plugins.py"
    command = ("--tasks", f"{task}:FolderTask", "--data-root", data, "--output", tmp_path / "out", "--num-frames", 4)
    command += ("--models", tmp_path / "tiny", "--keep-size", "--max-new-tokens", 2)
    status, _, err = cli(*command, "--model-args", f"tiny:dtype=float32,device=cpu,wrap={PRUNING}:halve")
    assert status == 0, err
    (path,) = (tmp_path / "out").rglob("folder.tiny.jsonl")
    whole = read_clip(data / "one.mp4", FrameSampling(num_frames=4, shortest_edge=None, longest_edge=None))
    total = adapter("qwen3_vl").encode(whole).ids.shape[1]
    for line in path.read_text().splitlines():
        seen = json.loads(line)["seen"]
        assert seen["video_tokens"] == 24 and seen["kept_tokens"] == total - 12
    status, _, err = cli(*command, "--model-args", "tiny:dtype=float32,device=cpu")
    assert status == 2 and "wrap" in err, "it is another model"


def test_a_pace_is_true_of_evenly_spread_frames_alone() -> None:
    """Qwen2.5-VL is told one time between frames, which those that a selector chose have not."""
    clip = make_clip(4)
    assert _frames.tells_times("qwen2_5_vl", "", clip)
    uneven = replace(clip, timestamps_s=np.array([0.0, 0.1, 0.2, 9.0]), frame_indices=np.array([0, 3, 6, 270]))
    assert not _frames.tells_times("qwen2_5_vl", "", uneven)
    assert "qwen2_5_vl" in tiny_models.TINY

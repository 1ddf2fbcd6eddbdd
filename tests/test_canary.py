"""A model that sees is asked through the whole chain: right when it is whole, wrong as soon as one link is broken.

`vamba_small` answers every question about the videos of canary.py. So whatever shows it other frames, in another order,
of other colors or sizes, or puts other words to it, shows as a fall in accuracy; what must not matter changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from stored import latest_records
from vamba_eval.model_adapters.vamba.adapter import VambaAdapter
from vamba_eval.model_adapters.vamba.modeling import VambaDecoderLayer
from vamba_eval.model_adapters.vamba.processing import PixelSettings, VambaProcessor
from vamba_eval.model_adapters.vamba_small import VambaSmallAdapter
from vamba_eval.tasks import synthetic

from vamba_eval import evaluate
from vamba_eval.contracts import Clip, FrameSampling
from vamba_eval.reading.reader import Reading
from vamba_eval.video import canvas
from vamba_eval.video.canvas import Source

pytestmark = pytest.mark.usefixtures("one_thread")
TASK = f"{Path(__file__).parent / 'canary.py'}:Canary"
KINDS = synthetic.KINDS
Patch = pytest.MonkeyPatch


def ask(data: Path, output: Path, reading: Reading | None = None, **options: Any) -> dict[str, dict[str, Any]]:
    """The records of a run on the canary's videos, read in this process if nothing else is said."""
    evaluate(
        [TASK],
        ["vamba_small"],
        data_root=data,
        output=output,
        reading=reading or Reading(workers=0),
        progress=False,
        thumbnails=False,
        **options,
    )
    return latest_records(output / "canary" / "canary.vamba_small.jsonl")


def right(records: dict[str, dict[str, Any]]) -> dict[str, bool]:
    return {question: record["response"] == record["answer"] for question, record in records.items()}


def kind(question: str) -> str:
    return KINDS[int(question.rpartition("-")[2]) % len(KINDS)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("canary")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> dict[str, dict[str, Any]]:
    """What the unbroken chain gives."""
    return ask(data, tmp_path_factory.mktemp("whole"))


def test_the_whole_chain_sees(whole: dict[str, dict[str, Any]]) -> None:
    answered = right(whole)
    assert len(answered) == 128 and sum(answered.values()) >= 126


# ------------------------------------------------------------------------------------------------ links, broken


def frames_changed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Patch], None]:
    """What the model is shown in the place of a clip's frames."""

    def patch(monkeypatch: Patch) -> None:
        encode = VambaAdapter.encode

        def changed(self: VambaAdapter, clip: Clip) -> Any:
            return encode(self, replace(clip, frames=np.ascontiguousarray(change(clip.frames))))

        monkeypatch.setattr(VambaAdapter, "encode", changed)

    return patch


def half_a_second_early(monkeypatch: Patch) -> None:
    """The videos have two frames a second."""
    indices = FrameSampling.indices

    def earlier(self: FrameSampling, *args: Any, **options: Any) -> list[int]:
        return [max(0, index - 1) for index in indices(self, *args, **options)]

    monkeypatch.setattr(FrameSampling, "indices", earlier)


def last_key_frame_lost(monkeypatch: Patch) -> None:
    """And with it all frames behind it."""
    choose = Source.choose

    def without(self: Source, times: np.ndarray, *args: Any, **options: Any) -> Any:
        return choose(self, times[:-32], *args, **options)

    monkeypatch.setattr(Source, "choose", without)


def colors_swapped(monkeypatch: Patch) -> None:
    rgb = canvas.rgb
    monkeypatch.setattr(canvas, "rgb", lambda *args: rgb(*args)[..., ::-1])


def a_patch_too_large(monkeypatch: Patch) -> None:
    """In each direction one merged patch more than there should be."""
    size = PixelSettings.size
    monkeypatch.setattr(PixelSettings, "size", lambda self, *edges: tuple(edge + 28 for edge in size(self, *edges)))


def patches_in_another_order(monkeypatch: Patch) -> None:
    """Column by column within those that are merged."""
    segments = VambaProcessor.segments

    def turned(self: VambaProcessor, *args: Any, **options: Any) -> Iterator[Any]:
        for pixels, grid in segments(self, *args, **options):
            yield pixels.view(-1, 2, 2, pixels.shape[-1]).transpose(1, 2).reshape(pixels.shape), grid

    monkeypatch.setattr(VambaProcessor, "segments", turned)


def tokens_of_another_table(monkeypatch: Patch) -> None:
    """Each word is another; control tokens stand."""
    call = VambaProcessor.__call__

    def other(self: VambaProcessor, *args: Any, **options: Any) -> Any:
        inputs = call(self, *args, **options)
        ids, size = inputs["input_ids"], len(self.tokenizer)
        first = max(self.tokenizer.all_special_ids) + 1
        inputs["input_ids"] = torch.where(ids < first, ids, (ids - first + 1) % (size - first) + first)
        return inputs

    monkeypatch.setattr(VambaProcessor, "__call__", other)


def state_not_carried_over(monkeypatch: Patch) -> None:
    encode = VambaDecoderLayer.encode_video
    monkeypatch.setattr(
        VambaDecoderLayer, "encode_video", lambda self, video, rotary, _: encode(self, video, rotary, None)
    )


def letters_shifted(monkeypatch: Patch) -> None:
    """The second option stands behind the first letter."""
    prompt = synthetic.letter_prompt
    monkeypatch.setattr(synthetic, "letter_prompt", lambda text, options: prompt(text, (*options[1:], options[0])))


def question_left_out(monkeypatch: Patch) -> None:
    """Options alone are shown."""
    prompt = synthetic.letter_prompt
    monkeypatch.setattr(synthetic, "letter_prompt", lambda text, options: prompt("", options))


def first_segment_lost(monkeypatch: Patch) -> None:
    """What is kept of it is the second's."""
    segments = VambaProcessor.segments

    def stale(self: VambaProcessor, *args: Any, **options: Any) -> Iterator[Any]:
        made = list(segments(self, *args, **options))
        yield from (made[1], *made[1:])

    monkeypatch.setattr(VambaProcessor, "segments", stale)


def another_video(monkeypatch: Patch) -> None:
    """Questions are put about the video before."""
    encode, kept = VambaAdapter.encode, []

    def stale(self: VambaAdapter, clip: Clip) -> Any:
        kept.append(encode(self, clip))
        return kept[max(0, len(kept) - 2)]

    monkeypatch.setattr(VambaAdapter, "encode", stale)


BROKEN: dict[str, tuple[Callable[[Patch], None], tuple[str, ...], dict[str, Any]]] = {
    "frames reversed": (frames_changed(lambda frames: frames[::-1]), ("order",), {}),
    "frames shuffled": (
        frames_changed(lambda frames: np.random.default_rng(0).permutation(frames)),
        ("order", "count"),
        {},
    ),
    "one frame in eight": (frames_changed(lambda frames: frames[::8]), ("count",), {}),
    "stuck at a frame": (frames_changed(lambda frames: frames[:1].repeat(len(frames), axis=0)), KINDS, {}),
    "the first half lost": (first_segment_lost, ("order", "count", "moment"), {"segment_frames": 64}),
    "half a second early": (half_a_second_early, KINDS, {}),
    "the last key frame lost": (last_key_frame_lost, KINDS, {}),
    "colors swapped": (colors_swapped, ("needle",), {}),
    "upside down": (frames_changed(lambda frames: frames[:, ::-1]), ("needle", "moment"), {}),
    "shifted by a patch": (frames_changed(lambda frames: np.roll(frames, 28, axis=2)), KINDS, {}),
    "a patch too large": (a_patch_too_large, KINDS, {}),
    "patches in another order": (patches_in_another_order, ("order", "count", "moment"), {}),
    "tokens of another table": (tokens_of_another_table, KINDS, {}),
    "state not carried over": (state_not_carried_over, ("count",), {"segment_frames": 8}),
    "letters shifted": (letters_shifted, KINDS, {}),
    "the question left out": (question_left_out, KINDS, {}),
    "another video": (another_video, KINDS, {}),
}


@pytest.mark.parametrize("link", BROKEN)
def test_a_broken_link_shows(
    link: str, whole: dict[str, dict[str, Any]], data: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    """Each kind of question that it is about is answered worse, so that luck is no explanation."""
    breaks, kinds, arguments = BROKEN[link]
    breaks(monkeypatch)
    broken, before = right(ask(data, tmp_path, model_args={"vamba_small": arguments})), right(whole)
    lost = Counter(kind(question) for question in before if before[question] and not broken[question])
    won = Counter(kind(question) for question in before if broken[question] and not before[question])
    for each in kinds:
        assert lost[each] > won[each] and binomtest(won[each], won[each] + lost[each]).pvalue < 0.001, (each, lost)


# --------------------------------------------------------------------------------------- what must not matter


@pytest.mark.parametrize(
    "arguments", [{"segment_frames": 2}, {"segment_frames": 10}, {"batch_size": 3}], ids=lambda each: str(each)
)
def test_neither_segments_nor_batches_change_an_answer(
    arguments: dict[str, Any], whole: dict[str, dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    assert right(ask(data, tmp_path, model_args={"vamba_small": arguments})) == right(whole)


def test_neither_readers_nor_a_cache_change_an_answer(
    whole: dict[str, dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    for output, reading in (
        ("readers", Reading(workers=2)),
        ("filled", Reading(workers=1, cache=tmp_path / "cache")),
        ("read", Reading(workers=0, cache=tmp_path / "cache")),
        ("plainly", Reading(workers=0, backend="pyav-plain")),
    ):
        records = ask(data, tmp_path / output, reading)
        assert {q: r["response"] for q, r in records.items()} == {q: r["response"] for q, r in whole.items()}, output


def test_bfloat16_answers_alike(whole: dict[str, dict[str, Any]], data: Path, tmp_path: Path) -> None:
    answered = right(ask(data, tmp_path, model_args={"vamba_small": {"dtype": "bfloat16"}}))
    assert sum(answered.values()) >= sum(right(whole).values()) - 3


# ------------------------------------------------------------------------------------------- finer than answers


def test_the_small_model_weighs_letters_as_it_did() -> None:
    """What changes no answer, such as another normalisation of pixels, still moves these. On noise, which no decoder
    or font has a part in."""
    frames = np.random.default_rng(18).integers(0, 256, (16, 112, 112, 3), dtype=np.uint8)
    clip = Clip(frames, np.arange(16.0), np.arange(16), 1.0, 16.0)
    adapter = VambaSmallAdapter(device="cpu")
    memory = adapter.encode(clip)
    prompts = [
        synthetic.prompt("Which shape comes right after the moon?", ("star", "ring", "box", "tree"), "vamba")
    ] * 4
    weighed = [each.logprob for each in adapter.loglikelihood(memory, prompts, list("ABCD"))]
    assert weighed == pytest.approx(STORED, abs=5e-3)


STORED = [-3.0045, -0.9952, -0.5495, -6.2546]

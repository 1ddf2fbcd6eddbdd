"""Asking otherwise: options in other orders, other wordings, frames in another order, and what tables make of it."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from benchmark_files import write_every_choice
from plugins import FolderTask
from videos import make_video

from vamba_eval import FrameSampling, Leaderboard, Question, Task, evaluate, load_task, read_clip
from vamba_eval.contracts import (
    LETTERS,
    Answer,
    Clip,
    GenerationSettings,
    Measure,
    ModelAdapter,
    Score,
    ScoredRecord,
    Trial,
    UserError,
    Video,
    mean,
)
from vamba_eval.exchange.export import export
from vamba_eval.report.page import write_report
from vamba_eval.run.plan import prepare_task
from vamba_eval.run.probes import WORDINGS, Probes, put, reworded
from vamba_eval.score.robustness import robustness_of
from vamba_eval.score.statistics import estimate, metric_of, without_parts
from vamba_eval.store.runs import read_info, read_records
from vamba_eval.tables.compare import compare

TASKS = (
    *("videomme", "mlvu", "longvideobench", "lvbench", "hourvideo", "mvbench", "nextqa"),
    *("houreval", "synthetic"),
)
ALL = Probes(rotate_options="all", prompt_variants=1 + len(WORDINGS))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_every_choice(root)
    return root


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    make_video(folder / "film0.mp4", frames=30)
    for number in range(1, 6):
        shutil.copy(folder / "film0.mp4", folder / f"film{number}.mp4")
    return folder


# ------------------------------------------------------------------------------------- prompts of the benchmarks


def asked(name: str, data: Path) -> list[tuple[Task, Video, Question]]:
    task = load_task(name)
    videos = task.load(data)
    found = [(task, video, question) for video in videos for question in video.questions if question.problem is None]
    assert len(found) > 5
    return found


@pytest.mark.parametrize("name", TASKS)
def test_options_turn_wherever_a_prompt_shows_them(name: str, data: Path) -> None:
    turned_prompts = 0
    for task, video, question in asked(name, data):
        for protocol in task.protocols:
            plain = task.prompt(video, question, protocol, None)
            for trial in Probes(rotate_options="all").trials(task, question, [0])[1:]:
                turned = put(task, question, trial)
                prompt = task.prompt(video, turned, protocol, None)
                assert Counter(prompt) == Counter(plain), "nothing but places changes"
                places = [prompt.rindex(option.strip()) for option in turned.options]
                assert places == sorted(places) and len(set(places)) == len(places)
                assert turned.options[0] == question.options[trial.rotation]
                if question.answer:
                    right = turned.options[LETTERS.index(turned.answer or "")]
                    assert right == question.options[LETTERS.index(question.answer)]
                    before = prompt[: prompt.rindex(right.strip())].rstrip()
                    assert before.rstrip(".): ").endswith(turned.answer or "-"), "its letter stands before it"
                turned_prompts += 1
    assert turned_prompts > 20


@pytest.mark.parametrize("name", TASKS)
def test_another_wording_takes_the_place_of_the_instruction_alone(name: str, data: Path) -> None:
    for task, video, question in asked(name, data):
        for protocol in task.protocols:
            job = replace(prepare_task(name, protocol, None, None, None, "pyav"), probes=ALL)
            plain, *others = [job.prompt(video, question, variant=n) for n in range(1 + len(WORDINGS))]
            assert plain == task.prompt(video, question, protocol, None)
            instructions = task.instructions(question, protocol)
            assert all(passage in plain for passage in instructions)
            for wording, prompt in zip(WORDINGS, others, strict=True):
                shown = wording.partition("{letters}")
                assert shown[0] in prompt and shown[2] in prompt
                assert not any(passage in prompt for passage in instructions)
                rest = plain
                for passage in instructions:
                    rest = rest.replace(passage, "")
                words = [line for line in rest.split("\n") if line.strip()]
                assert all(line in prompt.split("\n") for line in words), "all else is there"
                assert f"{LETTERS[len(question.options) - 1]}" in prompt


def test_wordings_name_as_many_letters_as_there_are_options() -> None:
    assert reworded("Q", (), 1, 5).startswith(WORDINGS[0].format(letters="A, B, C, D, or E"))
    assert reworded("Q", (), 1, 2).startswith(WORDINGS[0].format(letters="A or B"))
    assert reworded("Do this.\nQ\nA. x\nOnly that.\nBest:", ("Do this.", "Only that."), 4, 1) == (
        f"{WORDINGS[3].format(letters='A')}\nQ\nA. x\nBest:"
    )
    with pytest.raises(ValueError, match="does not hold"):
        reworded("Q", ("Say so.",), 1, 4)


@pytest.mark.parametrize(
    "option",
    [
        "None of the above.",
        "All of these options",
        "Both A and B",
        "neither (A) nor (C)",
        "Option B is right",
        "See below",
    ],
)
def test_options_that_speak_of_others_stay_in_their_order(option: str) -> None:
    task, question = FolderTask(), Question("q", "What?", ("a dog", "a cat", option), "A")
    assert Probes(rotate_options="all").trials(task, question, [0]) == [Trial()]
    other = Question("q", "What?", ("a dog", "a cat", "A man and a dog both run"), "A")
    assert len(Probes(rotate_options="all").trials(task, other, [0])) == 3
    assert len(Probes(rotate_options=2).trials(task, other, [3, 4])) == 4


# ----------------------------------------------------------------------------------------------------- whole runs


class Choosing(ModelAdapter):
    """Chooses "yes", wherever it stands; counts what it encodes and is asked."""

    name = "choosing"

    def __init__(self) -> None:
        self.encoded: list[bytes] = []
        self.prompts: list[str] = []

    def encode(self, clip: Clip | None) -> None:
        assert clip is not None
        self.encoded.append(clip.frames.tobytes())

    def generate(self, encoded: None, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        self.prompts += prompts
        return [Answer("A" if "A. yes" in prompt else "B", 1) for prompt in prompts]


class FirstLetter(Choosing):
    name = "first"

    def generate(self, encoded: None, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        return [Answer("A", 1) for _ in prompts]


class Lettered(FolderTask):
    """Six videos, two questions each, with the right option in turn."""

    name = "lettered"

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return f"{question.text} A. {question.options[0]} B. {question.options[1]}"


def test_a_rotated_run_encodes_each_video_once_and_goes_on(films: Path, tmp_path: Path) -> None:
    model, first = Choosing(), FirstLetter()
    probes = Probes(rotate_options="all", prompt_variants=2)
    run = {"data_root": films, "output": tmp_path, "probes": probes, "progress": False}
    board = evaluate([Lettered()], [model, first], **run)  # type: ignore[arg-type]
    assert len(model.encoded) == 6 and len(model.prompts) == 6 * 2 * 2 * 2
    assert len(set(model.prompts)) == len(model.prompts)
    path = tmp_path / "lettered" / "lettered.choosing.jsonl"
    trials = Counter(record.trial for record in read_records(path))
    assert trials == {Trial(0, order, wording): 12 for order in (0, 1) for wording in (0, 1)}
    evaluate([Lettered()], [model, first], **run)  # type: ignore[arg-type]
    assert len(model.encoded) == 6, "nothing is asked twice"

    chosen, guessed = board.results
    assert (chosen.questions, chosen.answered, chosen.asked_for) == (12, 48, 48) and chosen.complete
    assert chosen.asked == "all orders x 2 wordings"
    for result in board.results:
        assert result.summary.headline[1].value == 0.5 and result.robustness and result.robustness.wordings
    assert chosen.robustness and chosen.robustness.orders and guessed.robustness and guessed.robustness.orders
    assert chosen.robustness.orders.agreement.value == 1.0 and chosen.robustness.orders.every.value == 0.5
    assert guessed.robustness.orders.agreement.value == 0.0 and guessed.robustness.orders.every.value == 0.0
    assert chosen.robustness.letters["A"].excess == 0.0 and not chosen.robustness.letters["A"].sure
    assert guessed.robustness.preferred == "A" and guessed.robustness.letters["A"].excess == 0.5
    assert guessed.robustness.letters["A"].sure and not guessed.robustness.letters["B"].sure
    text = board.to_markdown()
    assert "Right in every order" in text and "A +50.0" in text and "PARTIAL" not in text

    fewer = {**run, "probes": Probes(rotate_options=2, prompt_variants=2)}
    with pytest.raises(UserError, match="rotate_options: all there, 2 now"):
        evaluate([Lettered()], [model], **fewer)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="prompt_variants: 2 there, absent now"):
        evaluate([Lettered()], [model], **{**run, "probes": Probes(rotate_options="all")})  # type: ignore[arg-type]


def test_the_command_line_asks_otherwise(cli: Callable[..., tuple[int, str, str]], films: Path, tmp_path: Path) -> None:
    plugin = f"{Path(__file__).parent / 'plugins.py'}"
    command = ("--tasks", f"{plugin}:FolderTask", "--models", f"careful={plugin}:Careful", "--data-root", films)
    status, out, _ = cli(*command, "--output", tmp_path, "--rotate-options", "--prompt-variants", 3)
    assert status == 0 and "all orders x 3 wordings" in out
    assert "Agreement over orders" in cli("leaderboard", tmp_path, "--long")[1]
    with (tmp_path / "folder" / "leaderboard.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["asked"] == "all orders x 3 wordings" and float(row["agreement_over_orders"]) == 0.0
    assert float(row["right_in_every_wording"]) == 0.5 and row["preferred_letter"] == "A"
    for wrong, words in (
        (("--rotate-options", 1), "2 orders or more"),
        (("--rotate-options", "some"), "a number of orders"),
        (("--prompt-variants", 9), "5 wordings"),
    ):
        status, out, err = cli(*command, "--output", tmp_path / "other", *wrong)
        assert status == 2 and words in out + err


class FreeText(FolderTask):
    name = "free"

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        videos = super().load(data_root, split)
        return [replace(v, questions=tuple(replace(q, options=(), answer="x") for q in v.questions)) for v in videos]


def test_what_would_have_no_effect_is_refused(films: Path, tmp_path: Path) -> None:
    for probes, option in ((Probes(rotate_options=2), "--rotate-options"), (Probes(prompt_variants=2), "--prompt-v")):
        with pytest.raises(UserError, match=option):
            evaluate([FreeText()], [Choosing()], data_root=films, output=tmp_path, probes=probes)


def test_a_run_without_probes_has_the_fingerprint_that_it_always_had(films: Path, tmp_path: Path) -> None:
    evaluate([Lettered()], [FirstLetter()], data_root=films, output=tmp_path, progress=False)
    about = read_info(tmp_path / "lettered")
    assert not about["tasks"]["lettered"].keys() & {"rotate_options", "prompt_variants", "shuffle_frames"}
    assert about["counts"]["lettered"] == {"videos": 6, "questions": 12}
    for line in (tmp_path / "lettered" / "lettered.first.jsonl").read_text().splitlines():
        assert not json.loads(line).keys() & {"rotation", "variant"}


def test_shuffled_frames_are_the_same_frames_and_recorded_as_seen(films: Path, tmp_path: Path) -> None:
    sampling = FrameSampling(num_frames=8)
    plain, shuffled, other = Choosing(), Choosing(), FirstLetter()
    run = {"data_root": films, "output": tmp_path, "sampling": sampling, "progress": False}
    evaluate([Lettered()], [plain], name="plain", **run)  # type: ignore[arg-type]
    board = evaluate([Lettered()], [shuffled, other], name="shuffled", probes=Probes(shuffle_frames=True), **run)  # type: ignore[arg-type]
    assert set(shuffled.encoded) == set(other.encoded), "all models see the same order"
    assert len(set(plain.encoded)) == 1 and len(set(shuffled.encoded)) == 6, "another order for each video"
    frames = read_clip(films / "film0.mp4", sampling).frames
    for seen in shuffled.encoded:
        own = np.frombuffer(seen, np.uint8).reshape(frames.shape)
        assert seen != plain.encoded[0]
        assert sorted(frame.tobytes() for frame in own) == sorted(frame.tobytes() for frame in frames)
    digests = {
        name: {record.frames_digest for record in read_records(tmp_path / name / "lettered.choosing.jsonl")}
        for name in ("plain", "shuffled")
    }
    assert len(digests["plain"]) == 1 and len(digests["shuffled"]) == 6 and not digests["plain"] & digests["shuffled"]
    notes = {record.clip_note for record in read_records(tmp_path / "shuffled" / "lettered.choosing.jsonl")}
    assert notes == {"its frames are shuffled"}
    assert board.results[0].asked == "frames shuffled" and "frames shuffled" in board.long_markdown()
    with pytest.raises(UserError, match="shuffle_frames"):
        evaluate([Lettered()], [plain], name="shuffled", **run)  # type: ignore[arg-type]


def test_what_is_compared_and_exported_was_asked_alike(films: Path, tmp_path: Path) -> None:
    run = {"data_root": films, "output": tmp_path, "progress": False}
    evaluate([Lettered()], [Choosing()], name="rotated", probes=Probes(rotate_options="all"), **run)  # type: ignore[arg-type]
    evaluate([Lettered()], [FirstLetter()], name="plain", **run)  # type: ignore[arg-type]
    (found,) = compare(str(tmp_path / "plain"), str(tmp_path / "rotated"))
    assert found.differences[0].num_questions == 12 and found.differences[0].difference == 0.0
    assert any("12 responses to orders of options" in note for note in found.notes)
    assert found.flips == [], "in the published order, both say A"

    # Where its first order failed, nothing is left to pair.
    path = tmp_path / "rotated" / "lettered.choosing.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [line for line in lines if line["question"] != "film0-0" or line.get("rotation")]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept))
    (fewer,) = compare(str(tmp_path / "plain"), str(tmp_path / "rotated"))
    assert fewer.differences[0].num_questions == 11
    assert any("1 questions were answered in no order" in note for note in fewer.notes)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    written, passed_over = export([tmp_path / "rotated"], tmp_path / "exported", "lmms-eval")
    (samples,) = [path for path in written if "samples" in path.name]
    assert len(samples.read_text().splitlines()) == 12
    assert passed_over == ["A folder of videos, choosing: 12 responses in other orders or wordings"]


def test_the_report_shows_responses_beside_the_published_options(films: Path, tmp_path: Path) -> None:
    evaluate(
        [Lettered()], [Choosing()], data_root=films, output=tmp_path, probes=Probes(rotate_options=2), progress=False
    )
    page = write_report([tmp_path / "lettered"], tmp_path / "report.html").path.read_text()
    data = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    assert len(data["questions"]) == 12
    for question in data["questions"]:
        assert [data["strings"][place] for place in question["options"]] == ["yes", "no"]
        assert [response[3] for response in question["responses"]] == ["A", "A"], "yes is A in the published order"
        assert "turned by 1: what it calls A is B here" in question["responses"][1][-1]["note"]


# ------------------------------------------------------------------------------------------------------- numbers


def response(
    question: str, options: int, right: int, chosen: int | None, trial: Trial, video: str = ""
) -> ScoredRecord:
    """A response that chooses the option ``chosen`` of the published order, where ``right`` is right."""
    letter = None if chosen is None else LETTERS[(chosen - trial.rotation) % options]
    published = Question(question, "?", tuple(f"option {n}" for n in range(options)), LETTERS[right])
    score = Score({"correct": float(chosen == right)}, letter, parsed=letter is not None)
    about = (question, video or question, {}, score, trial.seed, published.rotated(trial.rotation), letter or "")
    return ScoredRecord(*about, rotation=trial.rotation, variant=trial.variant)


def test_questions_count_alike_however_many_options_they_have() -> None:
    records = [response("four", 4, 0, 0, Trial(0, n)) for n in range(4)]  # always right
    records += [response("two", 2, 0, n, Trial(0, n)) for n in range(2)]  # right once
    found = estimate(mean("correct"), records)
    assert found is not None and found.value == 0.75 and found.num_questions == 2
    assert found.without == {"four": 0.5, "two": 1.0}
    metric = metric_of(mean("correct"), records)
    assert metric is not None and metric.value == 0.75


def test_the_fast_jackknife_of_rotated_questions_equals_the_plain_one() -> None:
    chance = np.random.default_rng(3)
    records = []
    for q in range(40):
        options = int(chance.integers(2, 6))
        for seed in (0, 1):
            for n in range(options):
                chosen = int(chance.integers(options))
                records.append(response(f"q{q}", options, 0, chosen, Trial(seed, n), video=f"v{q // 4}"))
    measure = mean("correct")
    found = estimate(measure, records)
    by_question = defaultdict(list)
    for each in records:
        by_question[each.question_id].append(each.values["correct"])
    assert found is not None and found.value == pytest.approx(fmean(map(fmean, by_question.values())))
    assert found.without == pytest.approx(without_parts(measure, records))


def test_a_measure_that_is_no_mean_sees_each_question_once() -> None:
    sizes = []

    def all_right(records: Sequence[ScoredRecord]) -> float:
        sizes.append(len(records))
        return float(all(each.values["correct"] for each in records))

    records = [response("a", 3, 0, 0, Trial(0, n)) for n in range(3)]
    records += [response("b", 2, 0, n, Trial(0, n)) for n in range(2)]  # right in the first order alone
    metric = metric_of(Measure(all_right), records)
    assert set(sizes) <= {1, 2}
    assert metric is not None and metric.value == pytest.approx(2 / 3), "b comes as 0, 1, 0"


def test_agreement_and_preference_by_hand() -> None:
    records = []
    for n in range(12):
        # In four orders: the same option three times, the other time one beside it; one question holds no answer once.
        for order in range(4):
            chosen = None if n == 0 and order == 3 else 1 if order == 3 else 2
            records.append(response(f"q{n}", 4, 2, chosen, Trial(0, order)))
    found = robustness_of(records, mean("correct"))
    assert found is not None and found.orders is not None and found.wordings is None
    assert found.orders.agreement.value == pytest.approx(3 / 6) and found.orders.ways == 4
    assert found.orders.every.value == 0.0
    # q0's three responses are at C, B and A, as often as its option would be anywhere. The others' are at C, B, A and
    # C, where each of their two options would be at each letter a quarter of the time.
    assert found.letters["C"].excess == pytest.approx(11 / 12 * (2 / 4 - 1 / 4))
    assert found.letters["D"].excess == pytest.approx(11 / 12 * (0 / 4 - 1 / 4))
    assert sum(each.excess for each in found.letters.values()) == pytest.approx(0.0)
    assert robustness_of([each for each in records if each.rotation == 0], mean("correct")) is None


def test_wordings_are_compared_within_one_order() -> None:
    records = []
    for n in range(4):
        for order in (0, 1):
            for wording in (0, 1, 2):
                chosen = 1 if wording == 2 else order  # the third wording disagrees in the first order
                records.append(response(f"q{n}", 2, 0, chosen, Trial(0, order, wording)))
    found = robustness_of(records, mean("correct"))
    assert found is not None and found.wordings is not None and found.orders is not None
    assert found.wordings.agreement.value == pytest.approx((1 / 3 + 1) / 2)
    assert found.wordings.every.value == 0.0
    assert [found.by_wording[n].value for n in range(3)] == [0.5, 0.5, 0.0]


def test_stored_probes_are_tabulated_again(films: Path, tmp_path: Path) -> None:
    board = evaluate(
        [Lettered()], [Choosing()], data_root=films, output=tmp_path, probes=Probes(rotate_options=2), progress=False
    )
    again = Leaderboard.from_runs([tmp_path / "lettered"])
    assert again.results[0].row() == board.results[0].row()

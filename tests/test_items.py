"""What runs say about questions, on runs whose answers are written down here, against numbers worked out by hand."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from invented_runs import invent_run, invented_videos

from vamba_eval.contracts import Measure, Question, UserError, Video, mean
from vamba_eval.score.scored import credit_of, is_right, scored_runs
from vamba_eval.score.statistics import count_chances, item_rest, majority_chance, metric_of
from vamba_eval.tables.items import Item, ItemAnalysis, analyses_of

Cli = Callable[..., tuple[int, str, str]]

# Who answers each of twelve questions (three a video), as 1s: right; 0: another option; -: no response.
LOOKING = {
    "alpha": "111 111 110 100",
    "beta":  "111 111 100 000",
    "gamma": "111 100 000 100",
    "delta": "110 000 001 100",
}  # fmt: skip
BLIND = {"alpha-blind": "110 100 000 000", "words": "101 100 010 000"}
IDENTITIES: dict[str, dict[str, Any]] = {
    **{name: {"pretrained": f"a/{name}"} for name in LOOKING},
    "alpha-blind": {"reads_video": False, "blind": True},  # adapters need not say which weights these are
    "words": {"reads_video": False, "pretrained": "a/words"},
    "dice": {"reads_video": False, "seed": 0},
    "tiny": {"weights": "random"},
    "tiny-blind": {"weights": "random", "reads_video": False, "blind": True},
}


def write(
    folder: Path,
    videos: Sequence[Video],
    answers: Mapping[str, str],
    change: Callable[[str, dict[str, Any]], None] = lambda *_: None,
    **more: Any,
) -> Path:
    """A run of models that answer as ``answers`` say; ``change`` may rewrite each record of a model."""  # fmt: skip
    order = [question.id for video in videos for question in video.questions]

    def respond(model: str, question: Question, chance: random.Random) -> tuple[str | None, str | None]:
        mark = answers[model].replace(" ", "")[order.index(question.id)]
        others = [letter for letter in "ABCD" if letter != question.answer]
        return (None, "too long") if mark == "-" else (question.answer if mark == "1" else others[0], None)

    invent_run(folder, "videomme", videos, list(answers), respond=respond, pictures=False, **more)
    info = json.loads((folder / "run.json").read_text())
    for model, identity in info["models"].items():
        identity.update(IDENTITIES[model])
    (folder / "run.json").write_text(json.dumps(info))
    for path in folder.glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            change(line["model"], line)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def videos(tmp_path: Path) -> list[Video]:
    return invented_videos(tmp_path / "data", 4)


def analysis(*folders: Path) -> ItemAnalysis:
    (found,) = analyses_of(scored_runs(folders)).analyses
    return found


def of(found: ItemAnalysis) -> dict[str, Item]:
    return {item.question: item for item in found.items}


def test_counts_scores_and_discrimination_by_hand(tmp_path: Path, videos: list[Video]) -> None:
    found = analysis(write(tmp_path / "run", videos, {**LOOKING, **BLIND}))
    assert found.looking == [f"{name} (512 frames)" for name in ("alpha", "beta", "gamma", "delta")]
    assert found.blind == ["words", "alpha-blind"], "the better one first"
    kinds = {
        kind: [item.question for item in found.of_kind(kind)] for kind in ("all", "none", "some", "blind", "no blind")
    }
    assert kinds["all"] == ["001-1", "001-2"] and kinds["none"] == ["004-2", "004-3"] and len(kinds["some"]) == 8
    assert kinds["blind"] == ["001-1", "002-1"]
    assert kinds["no blind"] == ["002-2", "002-3", "003-1", "003-3", "004-1", "004-2", "004-3"]

    # Of one letter in four: both right 1/16, one 6/16, none 9/16; of four models all 1/256, none 81/256.
    assert found.guessed["blind"] == pytest.approx([12 * 9 / 16, 12 * 6 / 16, 12 / 16])
    assert found.guessed["looking"][0] == pytest.approx(12 * 81 / 256)
    assert found.guessed["looking"][4] == pytest.approx(12 / 256)
    assert found.guesses == (0.25, 0.25)

    scores = {each.name.split()[0]: each for each in found.standings}
    on_all = {"alpha": 9, "beta": 7, "gamma": 5, "delta": 4, "words": 4, "alpha-blind": 3}
    right = {name: each.everywhere and each.everywhere.value for name, each in scores.items()}
    assert right == pytest.approx({name: number / 12 for name, number in on_all.items()})
    on_missed = {"alpha": 4, "beta": 3, "gamma": 1, "delta": 2}  # of seven
    for name, number in on_missed.items():
        metric = scores[name].missed_blind
        assert metric is not None and metric.value == pytest.approx(number / 7)
        assert (metric.num_questions, metric.num_videos) == (7, 3)
    assert scores["words"].missed_blind is None

    # The interval is that of the same records by the harness's own rule.
    (run,) = [run for run in scored_runs([tmp_path / "run"]) if run.model == "beta"]
    own = [record for record in run.scored if record.question_id in kinds["no blind"]]
    assert scores["beta"].missed_blind == metric_of(run.task.measures["accuracy"], own)

    # Question 001-3 (answered by all but delta) against the others: 8, 6, 4, 4.
    items = of(found)
    assert items["001-3"].discrimination == pytest.approx(np.corrcoef([1, 1, 1, 0], [8, 6, 4, 4])[0, 1])
    assert items["001-3"].discrimination == pytest.approx((3 / 11) ** 0.5)
    assert items["003-3"].discrimination == pytest.approx(np.corrcoef([0, 0, 0, 1], [9, 7, 5, 3])[0, 1])
    assert (items["003-3"].discrimination or 0) < 0, "answered by the weakest alone"
    assert items["001-1"].discrimination is None and items["004-2"].discrimination is None
    assert items["002-1"].looking == {f"{name} (512 frames)": name != "delta" for name in LOOKING}
    assert items["002-1"].blind == {"alpha-blind": True, "words": True} and items["002-1"].guessing == 0.25


def test_who_guesses_and_random_weights_say_nothing(tmp_path: Path, videos: list[Video]) -> None:
    whole = {"dice": "111 111 111 111", "tiny": "000 000 000 000", "tiny-blind": "111 111 111 111"}
    clean = analysis(write(tmp_path / "clean", videos, {**LOOKING, **BLIND}))
    mixed = analysis(write(tmp_path / "mixed", videos, {**LOOKING, **BLIND, **whole}))
    assert mixed.items == clean.items and mixed.standings == clean.standings and not clean.notes
    assert any(note.startswith("left out: dice, which guess") for note in mixed.notes)
    assert any(note.startswith("left out: tiny, tiny-blind, whose weights are random") for note in mixed.notes)

    alone = analysis(write(tmp_path / "alone", videos, whole))
    assert alone.looking == ["tiny (512 frames)"] and alone.blind == ["tiny-blind"]
    assert any("random weights, all there is here" in note for note in alone.notes)

    write(tmp_path / "guesses", videos, {"dice": whole["dice"]})
    nothing = analyses_of(scored_runs([tmp_path / "guesses"]))
    assert not nothing.analyses and "no model there says anything about questions" in nothing.left_out[0]


def test_only_the_same_questions_that_all_answered_count(tmp_path: Path, videos: list[Video]) -> None:
    write(tmp_path / "a", videos, {"alpha": "111 111 111 1-1"})

    def change(model: str, line: dict[str, Any]) -> None:
        if line["question"] == "001-1":
            line["options"] = line["options"][::-1]
        elif line["question"] == "001-2":
            line["text"] = "Another question?"
        elif line["question"] == "001-3":
            line["text"] = None  # of an early version, which kept none
        elif line["question"] == "002-1":
            line["answer"] = None

    write(tmp_path / "b", videos[:3], {"beta": "111 111 111 111"}, change)
    found = analysis(tmp_path / "a", tmp_path / "b")
    assert list(of(found)) == ["001-3", "002-2", "002-3", "003-1", "003-2", "003-3"]
    assert of(found)["001-3"].text == "What is item 2 of scene 0?"
    notes = " ".join(found.notes)
    # The withheld answer has no score in b; of video 4, alpha failed on one question, which is nowhere then.
    assert "3 of 11 questions were not answered by all" in notes and "beta (512 frames) answered fewest: 8" in notes
    assert "2 questions have other texts, options or answers in some runs" in notes
    assert "and 6 questions" not in found.to_markdown() and "6 questions about 3 videos" in found.to_markdown()

    write(tmp_path / "c", videos[3:], {"beta": "000"})
    none = analyses_of(scored_runs([tmp_path / "b", tmp_path / "c"]))
    assert not none.analyses and "no question that all models answered" in none.left_out[0]


def test_other_protocols_and_splits_stand_apart(tmp_path: Path, videos: list[Video]) -> None:
    for name, changed in (("b", {"protocol": "lmms-eval"}), ("c", {"split": "long"})):
        write(tmp_path / name, videos, {"beta": LOOKING["beta"]})
        info = json.loads((tmp_path / name / "run.json").read_text())
        info["tasks"]["videomme"].update(changed)
        (tmp_path / name / "run.json").write_text(json.dumps(info))
    write(tmp_path / "a", videos, {"alpha": LOOKING["alpha"]})
    folders = [tmp_path / name for name in "abc"]
    found = analyses_of(scored_runs(folders)).analyses
    assert len({(each.title, each.protocol) for each in found}) == 3 and all(len(each.looking) == 1 for each in found)
    together = analyses_of(scored_runs(folders[:2], "vamba")).analyses
    assert [each.looking for each in together] == [["alpha (512 frames)", "beta (512 frames)"]]
    assert any("differ in the protocol of their prompts: vamba, lmms-eval" in note for note in together[0].notes)


def test_a_ladder_is_several_systems_of_one_model(tmp_path: Path, videos: list[Video]) -> None:
    for frames in (8, 64, 512):
        answers = {"alpha": LOOKING["alpha"], "alpha-blind": BLIND["alpha-blind"]}
        write(tmp_path / str(frames), videos, answers, num_frames=frames)
    write(tmp_path / "again", videos, {"alpha": LOOKING["beta"]}, num_frames=512)
    found = analysis(tmp_path)
    names = ["alpha (8 frames)", "alpha (64 frames)", "alpha (512 frames), 512", "alpha (512 frames), again"]
    assert sorted(found.looking) == sorted(names) and found.blind == ["alpha-blind"]
    assert "asked blind in several runs, counted once: alpha-blind" in found.notes
    assert any(note.startswith("5 systems are 2 models") for note in found.notes)
    # Four systems, but of one model: no correlation over models.
    assert found.discriminations == []
    assert "discrimination needs at least 4 different models that look; there are 1" in found.meaning()


def test_several_seeds_count_by_their_mean(tmp_path: Path, videos: list[Video]) -> None:
    folder = write(tmp_path / "run", videos[:1], {"alpha": "111", "alpha-blind": "111"})
    path = folder / "videomme.alpha.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    wrong = {"001-1": 1, "001-2": 2, "001-3": 0}  # of three seeds
    more = [
        {**line, "seed": seed, "response": "none of them" if seed <= wrong[line["question"]] else line["answer"]}
        for line in lines
        for seed in (1, 2)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *more]))
    found = analysis(folder)
    assert [next(iter(item.looking.values())) for item in found.items] == [True, False, True]
    # Two or three of three: 9/64 + 1/64; once, 1/4.
    assert found.guessed["looking"] == pytest.approx([3 * 54 / 64, 3 * 10 / 64])
    assert found.guessed["blind"] == pytest.approx([3 * 3 / 4, 3 / 4])
    assert found.standings[0].everywhere is not None and found.standings[0].everywhere.value == pytest.approx(6 / 9)


def test_the_rule_for_an_answered_question() -> None:
    points: dict[str, Measure] = {"points": mean("total", best=10.0, worst=2.0)}
    assert [is_right(points, [{"total": total}]) for total in (6.0, 6.1, 10.0)] == [False, True, True]
    less: dict[str, Measure] = {"seconds": mean("off", best=0.0, worst=60.0)}
    assert [credit_of(less, {"off": off}) for off in (0.0, 15.0, 60.0, 90.0)] == [1.0, 0.75, 0.0, 0.0]
    unbounded: dict[str, Measure] = {"seconds": mean("off", best=0.0, worst=float("inf"))}
    assert [credit_of(unbounded, {"off": off}) for off in (0.0, 1.0)] == [1.0, 0.0]
    curve: dict[str, Measure] = {"F1": Measure(lambda _: 0.5), "recall": mean("recall")}
    assert credit_of(curve, {"recall": 0.9, "precision": 0.3}) == pytest.approx(0.6)
    assert credit_of({"recall": mean("recall")}, {"recall": 0.9, "precision": 0.3}) == 0.9
    assert credit_of(points, {}) is None and is_right(points, [{}, {}]) is None
    assert is_right(points, [{}, {"total": 9.0}]) is True, "what has no grade does not count"
    assert is_right(points, [{"total": 10.0}, {"total": 2.0}]) is False, "half is not enough"


def test_chances_of_counts() -> None:
    assert count_chances([]) == [1.0]
    assert count_chances([0.25, 0.5]) == pytest.approx([0.375, 0.5, 0.125])
    assert [majority_chance(0.25, n) for n in (1, 2, 3)] == pytest.approx([1 / 4, 1 / 16, 10 / 64])
    assert item_rest([[True, False], [True, False], [False, False]]) == [pytest.approx(1), pytest.approx(1), None]
    assert item_rest([[True, False], [False, True]]) == [pytest.approx(-1)] * 2
    assert item_rest([[True, False], [True, True]]) == [None, None], "all answer as many of the others"


def test_free_text_has_no_guesses_and_ungraded_responses_do_not_count(tmp_path: Path, videos: list[Video]) -> None:
    def without_options(model: str, line: dict[str, Any]) -> None:
        line["options"] = [] if line["question"] == "001-1" else line["options"]

    found = analysis(write(tmp_path / "run", videos, {**LOOKING, **BLIND}, without_options))
    assert found.guessed == {} and found.guesses[0] is None
    assert "by guessing" not in found.to_markdown() and "(guessing)" not in found.to_markdown()
    assert of(found)["001-1"].guessing is None and of(found)["001-2"].guessing == 0.25

    def withheld(model: str, line: dict[str, Any]) -> None:
        line["answer"] = None

    write(tmp_path / "withheld", videos, {"alpha": LOOKING["alpha"]}, withheld)
    nothing = analyses_of(scored_runs([tmp_path / "withheld"]))
    assert not nothing.analyses and "no response has a score" in nothing.left_out[0]


def test_the_command(cli: Cli, tmp_path: Path, videos: list[Video]) -> None:
    run = write(tmp_path / "run", videos, {**LOOKING, **BLIND})
    status, out, _ = cli("items", run, "--list", "none", "--output", tmp_path / "tables")
    assert status == 0 and all(len(line) <= 80 for line in out.splitlines() if str(tmp_path) not in line)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]
    assert ["all 4 looking models answer", "2", "16.7", "0.4"] in cells
    assert ["only some of them answer", "8", "66.7", "68.0"] in cells
    assert ["2 of 2 blind models answer", "2", "16.7", "6.2"] in cells
    assert ["none of 2 blind models answers", "7", "58.3", "56.2"] in cells
    assert ["Model", "All 12", "7 missed blind"] in cells and ["(guessing)", "25.0", "25.0"] in cells
    assert any(
        row[0] == "alpha (512 frames)" and row[1].startswith("75.0 [") and row[2].startswith("57.1 [") for row in cells
    )
    assert [row[:4] for row in cells[-2:]] == [
        [f"004-{n}", f"{'AB'[n - 2]}. thing 3 {n - 1} …", "0/4", "0/2"] for n in (2, 3)
    ]
    assert "best: alpha (512 frames) with 75.0" in out and "discrimination (item-rest correlation over 4" in out

    assert "Questions that no looking model answers: 2 of 12" in (tmp_path / "tables" / "items.md").read_text()
    with open(tmp_path / "tables" / "items.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    row = rows[2]
    assert (row["task"], row["question"], row["video"], row["answer"]) == ("videomme", "001-3", "vid_0", "C")
    assert row["text"] == "What is item 2 of scene 0?" and "duration=short" in row["groups"]
    assert (row["looking"], row["looking_right"], row["blind"], row["blind_right"]) == ("4", "3", "2", "1")
    assert row["looking_right_are"] == "alpha (512 frames); beta (512 frames); gamma (512 frames)"
    assert row["blind_right_are"] == "words" and float(row["discrimination"]) == pytest.approx((3 / 11) ** 0.5)

    status, out, _ = cli("items", run, "--format", "csv", "--list", "blind")
    assert status == 0 and [row["question"] for row in csv.DictReader(out.splitlines())] == ["001-1", "002-1"]
    status, out, _ = cli("items", run, "--format", "json")
    (found,) = json.loads(out)
    assert status == 0 and len(found["questions"]) == 12 and (found["all"], found["no_blind"]) == (2, 7)
    assert found["models"][0]["missed_blind"]["value"] == pytest.approx(4 / 7)


def test_long_lists_and_long_names_fit_the_terminal(cli: Cli, tmp_path: Path) -> None:
    videos = [
        replace(video, questions=tuple(replace(q, id=f"{'long-' * 8}{q.id}", text=q.text * 9) for q in video.questions))
        for video in invented_videos(tmp_path / "data", 9)
    ]
    run = write(tmp_path / ("folder" * 9), videos, {"alpha": "1" * 27, "alpha-blind": "1" * 27})
    write(tmp_path / ("folder" * 9 + "b"), videos, {"alpha": "1" * 27})
    status, out, _ = cli("items", run, tmp_path / ("folder" * 9 + "b"), "--list", "all", "--output", tmp_path)
    assert status == 0 and "... and 7 more" in out
    assert max(len(line) for line in out.splitlines() if line.startswith("|")) <= 80
    listed = (tmp_path / "items.md").read_text()
    assert all(question.id in listed for video in videos for question in video.questions)


def test_what_one_model_can_say_and_mistakes(cli: Cli, tmp_path: Path, videos: list[Video]) -> None:
    one = write(tmp_path / "one", videos, {"alpha": LOOKING["alpha"]})
    status, out, _ = cli("items", one, "--list", "blind")
    assert status == 0 and "| the looking model answers |        9 | 75.0 |" in out
    assert "one model alone looks" in out and "no blind model is here" in out and "there is no blind model" in out
    status, out, _ = cli("items", one, "--list", "none")
    assert "Questions that no looking model answers: 3 of 12" in out and "| Blind" not in out
    words = write(tmp_path / "words", videos, {"words": BLIND["words"]})
    status, out, _ = cli("items", words, "--list", "blind")
    assert status == 0 and "no model here looks" in out and "Questions that all blind models answer: 4 of 12" in out
    dice = write(tmp_path / "dice", videos, {"dice": LOOKING["alpha"]})
    for arguments, message in (
        ((), "name at least one folder of runs"),
        ((tmp_path / "data",), "no run at or below"),
        ((dice,), "no model there says anything about questions; left out: dice"),
        ((one, "--protocol", "all"), "items reads responses by one protocol's rules"),
        ((one, "--protocol", "nonsense"), "videomme has no protocol 'nonsense'"),
        ((one, "--list", "some"), "there is no 'some': there are none, all, blind"),
    ):
        status, _, err = cli("items", *arguments)
        assert status == 2 and message in err


def test_a_benchmark_whose_measure_fails_takes_no_other_with_it(
    tmp_path: Path, videos: list[Video], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = scored_runs([write(tmp_path / "run", videos, {"alpha": LOOKING["alpha"]})])
    (task,) = {id(run.task): run.task for run in runs}.values()

    def broken(_: Any) -> float:
        raise ZeroDivisionError("nothing to divide by")

    monkeypatch.setattr(task, "measures", {"odd": Measure(broken)}, raising=False)
    others = scored_runs([tmp_path / "run"], "lmms-eval")
    found = analyses_of([*runs, *others])
    assert [each.protocol for each in found.analyses] == ["lmms-eval"]
    assert "ZeroDivisionError: nothing to divide by" in found.left_out[0]
    with pytest.raises(UserError, match="no run at or below"):
        scored_runs([tmp_path / "nowhere"])

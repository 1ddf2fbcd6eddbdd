"""Benchmarks of somebody's own: what is checked when they are loaded, and what a mistake in one of them costs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import (
    dream1k_rows,
    hourvideo_annotations,
    longvideobench_rows,
    lvbench_rows,
    lvbench_videos,
    videomme_rows,
    write_dream1k,
    write_hourvideo,
    write_longvideobench,
    write_lvbench,
    write_mlvu,
    write_mvbench,
    write_videomme,
)
from vamba_eval.tasks._annotations import Collector

from vamba_eval import Leaderboard, evaluate, load_task
from vamba_eval.contracts import Catalogue, Clip, Measure, Question, Score, ScoredRecord, Task, UserError, Video
from vamba_eval.report.page import write_report
from vamba_eval.run.check_task import check_questions
from vamba_eval.score.letters import extract_vamba, score_choice
from vamba_eval.store.runs import latest_records, read_info, read_records

Cli = Callable[..., tuple[int, str, str]]


class Own(Task):
    """Its videos, prompts and scores are as a test sets them."""

    name = "own"
    version = "1"
    catalogue = Catalogue("Own")
    videos: list[Video] = []

    @staticmethod
    def prompt_of(question: Question) -> Any:
        return question.text

    @staticmethod
    def score_of(question: Question, response: str) -> Score:
        return score_choice(question, response, extract_vamba)

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        return self.videos

    def prompt(self, video: Video, question: Question, protocol: str, clip: Clip | None) -> str:
        return type(self).prompt_of(question)

    def score(self, question: Question, response: str, protocol: str) -> Score:
        return type(self).score_of(question, response)


class Other(Own):
    name = "other"
    catalogue = Catalogue("Other")


def question(id: str = "q", **fields: Any) -> Question:
    return replace(Question(id, f"What is {id}?", ("yes", "no"), "A"), **fields)


def video(id: str, *questions: Question) -> Video:
    return Video(id, Path(f"{id}.mp4"), questions or (question(f"{id}-0"), question(f"{id}-1", answer="B")))


@pytest.fixture(autouse=True)
def _as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in (Own, Other):
        for name in ("prompt_of", "score_of"):
            monkeypatch.setattr(cls, name, vars(Own)[name])
        monkeypatch.setattr(cls, "videos", [video("v0"), video("v1")])


def run(output: Path, *tasks: Task, models: Any = ("constant",), name: str = "run", **more: Any) -> Leaderboard:
    return evaluate(tasks or [Own()], models, output=output, name=name, progress=False, **more)


# ------------------------------------------------------------------------------------------------ questions


@pytest.mark.parametrize(
    "videos, words",
    [
        ([video("v0", question("q")), video("v1", question("q"))], ["'q'", "'v0'", "'v1'", "unique"]),
        ([video("v0", question("q"), question("q"))], ["'q'", "twice at the video 'v0'"]),
        ([video("v0"), video("v0", question("q"))], ["two videos", "'v0'"]),
        ([video("v0", question(answer="C"))], ["'q'", "'v0'", "'C'", "A to B"]),
        ([video("v0", question(answer="a"))], ["'a'", "A to B"]),
        ([video("v0", question(answer="B", options=("only",)))], ["'B'", "(A)"]),
        ([video("v0", question(answer=0))], ["answer", "int (0)"]),
        ([video("v0", question(options=("yes", 2)))], ["options", "int (2)"]),
        ([video("v0", question(options="yes"))], ["options", "tuple of str, not str"]),
        ([video("v0", question(text=None))], ["text", "NoneType"]),
        ([video("v0", question(groups={"length": 3}))], ["'length'", "int (3)"]),
        ([video("v0", question(groups={"kinds": ("a", 1)}))], ["'kinds'", "('a', 1)"]),
        ([video("v0", question(id=7))], ["'v0'", "id must be a str", "int (7)"]),
        ([video(7)], ["id must be a str", "int (7)"]),
        ([replace(video("v0"), path="v0.mp4")], ["'v0'", "path must be a Path", "str ('v0.mp4')"]),
        ([replace(video("v0"), subtitles="v0.srt")], ["'v0'", "subtitles must be a Path", "str ('v0.srt')"]),
    ],
)
def test_what_breaks_the_contract_is_named_before_anything_is_asked(
    videos: list[Video], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Own, "videos", [video("sound"), *videos])
    with pytest.raises(UserError) as raised:
        run(tmp_path)
    assert str(raised.value).startswith("own: ") and "\n" not in str(raised.value)
    assert all(word in str(raised.value) for word in words), raised.value
    assert not (tmp_path / "run").exists()


def test_what_the_contract_allows_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = [
        question("impossible", answer=""),
        question("withheld", answer=None),
        question("free", options=(), answer="X"),
        question("reference", answer="yes, it is"),
        question("groups", groups={"kind": "x", "tags": ("a", "b"), "none": ()}),
        question("broken", answer="Q", problem="its row has no options"),
    ]
    monkeypatch.setattr(Own, "videos", [video("v0", *allowed)])
    (result,) = run(tmp_path).results
    assert (result.answered, result.failed) == (5, 1)


def test_benchmarks_of_the_project_pass(tmp_path: Path) -> None:
    write_videomme(tmp_path, videomme_rows(6))
    write_mlvu(tmp_path, 4)
    write_longvideobench(tmp_path, longvideobench_rows(12))
    write_lvbench(tmp_path, lvbench_rows(lvbench_videos(4, 3), "video_path"))
    write_hourvideo(tmp_path, hourvideo_annotations(3, 8))
    write_mvbench(tmp_path, 3)
    write_dream1k(tmp_path, dream1k_rows(4))
    for name in ("videomme", "mlvu", "longvideobench", "lvbench", "hourvideo", "mvbench", "dream1k", "houreval"):
        task = load_task(name)
        videos = task.load(tmp_path)
        assert videos
        check_questions(task, videos)


# -------------------------------------------------------------------------------------------------- prompts


def test_a_mistake_in_the_prompt_is_an_error_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = video("v0", question("broken", problem="no row"), question("asked"))
    monkeypatch.setattr(Own, "videos", [first])
    monkeypatch.setattr(Own, "prompt_of", lambda question: question.extra["missing"])
    with pytest.raises(UserError, match=r"own: the prompt of question 'asked' at the video 'v0'.*KeyError: 'missing'"):
        run(tmp_path)
    monkeypatch.setattr(Own, "prompt_of", lambda question: None)
    with pytest.raises(UserError, match=r"TypeError: Own\.prompt returned NoneType, not str"):
        run(tmp_path)
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_later_prompt_that_is_no_text_costs_its_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Own, "prompt_of", lambda question: question.text if question.id != "v1-0" else 7)
    (result,) = run(tmp_path).results
    assert (result.answered, result.failed) == (3, 1)
    assert result.failures == ["making the prompt failed: TypeError: Own.prompt returned int, not str"]


def test_an_edited_prompt_does_not_mix_with_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path)
    before = read_info(tmp_path / "run")["tasks"]["own"]["prompts"]
    run(tmp_path, models=["constant", "random"])
    monkeypatch.setattr(Own, "prompt_of", lambda question: f"{question.text} Answer with a letter.")
    with pytest.raises(UserError, match=rf"another run of 'own':\n  prompts: {before} there, [0-9a-f]+ now\n"):
        run(tmp_path)
    assert read_info(tmp_path / "run")["tasks"]["own"]["prompts"] == before


def test_a_prompt_that_could_not_be_made_is_mended_in_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*ids: str, text: str = "{}") -> Callable[[Question], str]:
        return lambda question: text.format(question.text) if question.id not in ids else question.extra["missing"]

    def prompts() -> dict[str, str | None]:
        return {record.question: record.prompt for record in latest_records(tmp_path / "run" / "own.constant.jsonl")}

    monkeypatch.setattr(Own, "prompt_of", broken("v0-1", "v1-0"))
    (result,) = run(tmp_path).results
    assert (result.answered, result.failed) == (2, 2)
    begun = read_info(tmp_path / "run")["tasks"]["own"]
    assert begun["without_prompt"] == ["v0-1", "v1-0"]
    run(tmp_path)
    assert read_info(tmp_path / "run")["tasks"]["own"] == begun

    monkeypatch.setattr(Own, "prompt_of", broken("v1-0"))  # one of the two is mended
    (result,) = run(tmp_path).results
    assert (result.answered, result.failed) == (3, 1) and prompts()["v0-1"] == "What is v0-1?"
    assert read_info(tmp_path / "run")["tasks"]["own"]["without_prompt"] == ["v1-0"]
    for edited in (broken("v1-0", text="{} Quick!"), broken("v0-1", "v1-0"), broken("v0-1")):
        monkeypatch.setattr(Own, "prompt_of", edited)
        with pytest.raises(UserError, match=r"another run of 'own':\n  prompts: "):
            run(tmp_path)

    monkeypatch.setattr(Own, "prompt_of", broken())
    (result,) = run(tmp_path).results
    assert (result.answered, result.failed) == (4, 0)
    mended = read_info(tmp_path / "run")["tasks"]["own"]
    assert "without_prompt" not in mended
    lines = len(list(read_records(tmp_path / "run" / "own.constant.jsonl")))
    assert lines == 2 + 2 + 2 + 1 + 1 + 1, "answered once each, failed as often as it was asked"
    fresh = run(tmp_path, name="fresh")
    assert fresh.results and read_info(tmp_path / "fresh")["tasks"]["own"] == mended, "as if none had ever failed"
    monkeypatch.setattr(Own, "prompt_of", lambda q: q.text + "!" if q.id == "v1-0" else q.text)
    with pytest.raises(UserError, match="another run of 'own'"):
        run(tmp_path)


def test_a_run_begun_before_unmade_prompts_were_noted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Own, "prompt_of", lambda question: question.text if question.id != "v1-0" else 7)
    run(tmp_path)
    path = tmp_path / "run" / "run.json"
    info = json.loads(path.read_text())
    del info["tasks"]["own"]["without_prompt"]
    path.write_text(json.dumps(info))
    run(tmp_path)
    assert read_info(tmp_path / "run")["tasks"]["own"]["without_prompt"] == ["v1-0"]


def test_a_run_begun_without_a_digest_of_prompts_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, limit=1)
    path = tmp_path / "run" / "run.json"
    info = json.loads(path.read_text())
    digest = info["tasks"]["own"].pop("prompts")
    path.write_text(json.dumps(info))
    assert run(tmp_path).results[0].answered == 4
    assert read_info(tmp_path / "run")["tasks"]["own"]["prompts"] == digest
    assert len(list(read_records(tmp_path / "run" / "own.constant.jsonl"))) == 4, "nothing is asked twice"
    del info["tasks"]["own"]["annotations"]
    path.write_text(json.dumps(info))
    with pytest.raises(UserError, match="annotations: absent there"):
        run(tmp_path)


def test_prompts_that_need_the_clip_are_in_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vamba_eval.run.plan import prepare_task

    def never(question: Question) -> str:
        raise AssertionError("made without a clip")

    monkeypatch.setattr(Own, "prompts_need_clip", True)
    monkeypatch.setattr(Own, "prompt_of", never)
    job = prepare_task(Own(), "vamba", None, None, None, "pyav")
    assert "prompts" not in job.fingerprint(Own.videos)
    (result,) = run(tmp_path).results  # whose files are not there
    assert (result.answered, result.failed) == (0, 4)


# --------------------------------------------------------------------------------------------------- tables


def failing(question: Question, response: str) -> Score:
    if question.id == "v1-0":
        raise KeyError("span")
    return score_choice(question, response, extract_vamba)


def test_a_task_that_fails_to_score_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Own, "score_of", failing)
    board = run(tmp_path, Own(), Other(), models=["constant", "random"])
    assert {(r.task, r.model, r.answered) for r in board.results} == {
        ("other", "constant", 4),
        ("other", "random", 4),
    }
    assert len(board.left_out) == 2 and all("'v1-0'" in line and "KeyError: 'span'" in line for line in board.left_out)
    assert sum("responses are kept" in line for line in caplog.messages) == 2, "one line a model"
    for model in ("constant", "random"):
        assert len(list(read_records(tmp_path / "run" / f"own.{model}.jsonl"))) == 4
    monkeypatch.setattr(Own, "score_of", Other.score_of)
    mended = run(tmp_path, Own(), Other(), models=["constant", "random"])
    assert len(mended.results) == 4 and not mended.left_out
    assert len(list(read_records(tmp_path / "run" / "own.constant.jsonl"))) == 4, "nothing is asked again"


def test_where_nothing_can_be_scored_that_is_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path)
    caplog.clear()
    monkeypatch.setattr(Own, "score_of", failing)
    with pytest.raises(UserError, match=r"run, own, constant: question 'v1-0' cannot be scored .*KeyError: 'span'"):
        Leaderboard.from_runs([tmp_path])
    monkeypatch.setattr(Own, "score_of", lambda question, response: None)
    with pytest.raises(UserError, match=r"TypeError: Own gives NoneType for a response, not a Score"):
        Leaderboard.from_runs([tmp_path])
    assert not caplog.messages, "an error is not said twice"


def test_measures_that_fail_cost_their_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, Own(), Other())

    def divided(records: Sequence[ScoredRecord]) -> float:
        return len(records) / 0

    monkeypatch.setattr(Other, "measures", {"ratio": Measure(divided)})
    board = Leaderboard.from_runs([tmp_path])
    assert [result.task for result in board.results] == ["own"]
    reason = "its measures fail: ZeroDivisionError: division by zero"
    assert board.left_out == [f"{tmp_path / 'run'}, other, constant: {reason}"]
    assert board.select(sort="score").notes()[-1] == f"LEFT OUT: {board.left_out[0]}"
    page = write_report([tmp_path], tmp_path / "page.html").path
    assert "LEFT OUT: " in page.read_text() and "division by zero" in page.read_text()


def test_a_task_in_a_function_returns_its_table_and_later_ones_say_what_to_do(tmp_path: Path, cli: Cli) -> None:
    class Local(Own):
        name = "local"

        def __init__(self, right: str) -> None:
            super().__init__()
            self.right = right

        def score(self, question: Question, response: str, protocol: str) -> Score:
            return Score({"correct": float(response == self.right)})

    assert run(tmp_path, Local("A")).results[0].summary.headline[1].value == 1
    assert run(tmp_path, Local("B")).results[0].summary.headline[1].value == 0, "the instance at hand scores"
    assert len(list(read_records(tmp_path / "run" / "local.constant.jsonl"))) == 4, "nothing is asked again"
    board = run(tmp_path, Other())
    assert [result.task for result in board.results] == ["other"] and len(board.left_out) == 1
    status, out, err = cli("leaderboard", tmp_path)
    assert status == 1 and out.count("\nconstant") == 1, "the other task's row"
    assert "<locals>.Local, a class inside a function" in err and "move the class to the top level of a module" in err

    info = json.loads((tmp_path / "run" / "run.json").read_text())
    info["tasks"]["local"]["source"] = "test_custom_tasks:Outer.Local"  # as the message says
    (tmp_path / "run" / "run.json").write_text(json.dumps(info))
    status, out, _ = cli("leaderboard", tmp_path, "--format", "json")
    assert status == 0 and [row["task"] for row in json.loads(out)] == ["local", "other"]


class Outer:
    class Local(Own):
        name = "local"


def test_tables_of_several_runs_leave_out_what_moved(cli: Cli, tmp_path: Path) -> None:
    moved, sound = tmp_path / "moved", tmp_path / "sound"
    run(tmp_path, Own(), Other(), name="moved")
    run(tmp_path, Other(), name="sound")
    lost(moved, "own", "/gone/my_task.py")
    for command in (("leaderboard",), ("rescore", "--protocol", "vamba"), ("rescore", "--protocol", "all")):
        status, out, err = cli(*command, tmp_path)
        assert status == 1 and f"left out: {moved}, own: its task is code of somebody's own" in err
        assert "--task-code /gone/my_task.py" in err
        assert out.count("\nconstant") == 2 and f"- LEFT OUT: {moved}, own: its task is code" in " ".join(out.split())
    status, out, err = cli("leaderboard", tmp_path, "--format", "json", "--where", "task == 'other'")
    assert status == 1 and [row["task"] for row in json.loads(out)] == ["other", "other"] and "left out" in err
    status, out, err = cli("leaderboard", moved)
    assert status == 1 and out.count("\nconstant") == 1 and "/gone/my_task.py" in err
    lost(moved, "other", "no_such_module:Other")
    lost(sound, "other", "no_such_module:Other")
    status, out, err = cli("leaderboard", tmp_path)
    assert status == 2 and not out and "left out" not in err
    assert err.count("--task-code /gone/my_task.py") == 1 and err.count("--task-code no_such_module:Other") == 2


def lost(folder: Path, task: str, source: str) -> None:
    """The run says that ``task`` comes from a ``source`` that is not there."""
    info = read_info(folder)
    info["tasks"][task]["source"] = source
    (folder / "run.json").write_text(json.dumps(info))


# -------------------------------------------------------------------------------------- nothing has another's label


def test_labels_in_any_script(cli: Cli, tmp_path: Path) -> None:
    models = [f"{label}=constant" for label in ("模型一", "模型二", "модель", "प्रतिमान")]
    for label in models:  # one by one, too, they are not each other's
        run(tmp_path, Own(), models=[label])
    names = {path.name for path in tmp_path.rglob("*.jsonl")}
    assert names == {f"own.{label.partition('=')[0]}.jsonl" for label in models}
    assert all(len(list(read_records(path))) == 4 for path in tmp_path.rglob("*.jsonl"))
    status, out, _ = cli("leaderboard", tmp_path)
    assert status == 0 and "模型一" in out and "模型二" in out


def test_answers_are_not_relabelled_when_run_json_is_lost(tmp_path: Path) -> None:
    run(tmp_path, Own(), models=["constant"], sampling={"num_frames": 4})
    (about,) = tmp_path.rglob("run.json")
    (path,) = tmp_path.rglob("*.jsonl")
    before = path.read_bytes()
    about.unlink()
    for different in ({"sampling": {"num_frames": 64}}, {"generation": {"max_new_tokens": 7}}, {}):
        with pytest.raises(UserError, match=r"no run\.json says how they were given"):
            run(tmp_path, Own(), models=["constant"], **different)
    board = run(tmp_path, Own(), models=["constant"], sampling={"num_frames": 4})
    assert path.read_bytes() == before, "nothing is asked again"
    assert read_info(about.parent)["tasks"]["own"]["sampling"]["num_frames"] == 4 and len(board.results) == 1


def test_one_id_for_two_parts_of_a_video(caplog: pytest.LogCaptureFixture) -> None:
    """Rows are asked about the part that each names; one that cannot be asked names none."""
    task = Own()
    collector = Collector(task)
    path, other = Path("v.mp4"), Path("w.mp4")
    collector.broken("row 0", "no question", "v", path)
    collector.add("row 1", "v", path, question("q1"), start_s=0.0, end_s=10.0)
    collector.add("row 2", "v", path, question("q2"), start_s=10.0, end_s=20.0)
    collector.broken("row 3", "no question", "v", path)
    collector.add("row 4", "v", path, question("q4"), start_s=0.0, end_s=10.0)
    collector.add("row 5", "v", other, question("q5"), start_s=0.0, end_s=10.0)
    collector.add("row 6", "v", path, question("q6"), start_s=10.0, end_s=20.0, duration_s=30.1)
    shown = {
        each.id: (each.path, each.start_s, each.end_s, each.cluster, [q.id for q in each.questions])
        for each in collector.videos()
    }
    assert shown == {
        "v": (path, 0.0, 10.0, None, ["row 0", "q1", "row 3", "q4"]),
        "v#2": (path, 10.0, 20.0, "v", ["q2", "q6"]),
        "v#3": (other, 0.0, 10.0, "v", ["q5"]),
    }
    defects = [str(defect) for defect in task.defects if "occurs again" in str(defect)]
    assert [defect.partition(":")[0] for defect in defects] == ["row 2", "row 5"]

"""What survives on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vamba_eval.contracts import UserError
from vamba_eval.files import safe_name
from vamba_eval.store.records import Record
from vamba_eval.store.runs import RecordFile, Run, find_runs, latest_records, read_info

HERE = {"python": "3", "packages": {"torch": "2.11"}, "hardware": {"cpu": "x"}}
COUNTS = {"videos": 1, "questions": 2}


def record(question: str, error: str | None = None) -> Record:
    return Record(question, "v", [], None, {}, 0, error=error, response=None if error else "A")


def latest(path: Path) -> dict[str, Record]:
    return {record.question: record for record in latest_records(path)}


def test_a_torn_last_line_is_dropped_and_redone(tmp_path: Path) -> None:
    path = tmp_path / "t.m.jsonl"
    records = RecordFile(path)
    records.append(record("q1"))
    records.append(record("q2"))
    records.close()
    whole = path.read_bytes()
    for cut in range(len(whole.splitlines(keepends=True)[0]), len(whole)):
        path.write_bytes(whole[:cut])
        again = RecordFile(path)
        assert again.answered() == {"q1"}
        again.append(record("q2"))
        again.close()
        assert path.read_bytes() == whole


def test_foreign_lines_and_half_surrogates_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "t.m.jsonl"
    path.write_text('{"question": "zz"}\n[1]\nnot json\n')
    records = RecordFile(path)
    records.append(replace(record("q1"), response="half \ud83d of a pair"))
    records.close()
    assert latest(path)["q1"].response == "half \ud83d of a pair"
    assert records.answered() == {"q1"}


def test_a_failure_is_superseded_by_an_answer_and_never_the_other_way(tmp_path: Path) -> None:
    records = RecordFile(tmp_path / "t.m.jsonl")
    for entry in (record("q1", "boom"), record("q2"), record("q1"), record("q2", "boom")):
        records.append(entry)
    records.close()
    assert all(each.answered for each in latest(records.path).values())
    assert records.answered() == {"q1", "q2"}


def test_another_fingerprint_names_the_difference(tmp_path: Path) -> None:
    asked = {"sampling": {"num_frames": 512, "strategy": "uniform"}, "protocol": "vamba"}
    with Run(tmp_path / "run", HERE) as run:
        run.register_task("t", asked, COUNTS, [])
        run.register_model("m", {"adapter": "x", "seed": 1})
        records = run.records("t", "m")
        records.append(record("q1"))
        records.close()
    with Run(tmp_path / "run", HERE) as run:
        run.register_task("t", asked, COUNTS, [])
        with pytest.raises(UserError, match=r"sampling.num_frames: 512 there, 64 now(?s:.*)--name"):
            run.register_task("t", {**asked, "sampling": {"num_frames": 64, "strategy": "uniform"}}, COUNTS, [])
        with pytest.raises(UserError, match="seed: 1 there, absent now"):
            run.register_model("m", {"adapter": "x"})
    assert read_info(tmp_path / "run")["tasks"]["t"]["sampling"]["num_frames"] == 512


def test_a_command_that_ended_before_anything_was_asked_stands_in_nobodys_way(tmp_path: Path) -> None:
    with Run(tmp_path / "run", HERE) as run:
        run.register_task("t", {"protocol": "vamba"}, COUNTS, [])
        run.register_model("m", {"adapter": "x", "batch_size": 0})
        run.register_model("other", {"adapter": "y"})
        records = run.records("u", "other")  # of another task
        records.append(record("q1"))
        records.close()
    with Run(tmp_path / "run", HERE) as run:
        run.register_task("t", {"protocol": "official"}, COUNTS, [])
        run.register_model("m", {"adapter": "x"})
        with pytest.raises(UserError, match="holds another run of 'other'"):
            run.register_model("other", {"adapter": "z"})
    info = read_info(tmp_path / "run")
    assert info["tasks"]["t"] == {"protocol": "official"} and info["models"]["m"] == {"adapter": "x"}


def test_another_environment_is_an_error_that_can_be_accepted(tmp_path: Path) -> None:
    elsewhere = {**HERE, "packages": {"torch": "2.12"}}
    with Run(tmp_path / "run", HERE):
        pass
    message = r"packages.torch: 2.11 there, 2.12 now(?s:.*)--accept-environment"
    with pytest.raises(UserError, match=message), Run(tmp_path / "run", elsewhere):
        pass
    with Run(tmp_path / "run", elsewhere, accept_environment=True) as run:
        assert run.environment_number == 1
    with Run(tmp_path / "run", HERE) as run:  # both are known now
        assert run.environment_number == 0


def test_a_models_file_that_has_changed_is_told_from_the_one_that_answered(tmp_path: Path) -> None:
    before, after = ({"adapter": "x", "adapter_source": digest} for digest in ("1", "2"))

    def register(fingerprint: dict[str, str], **options: bool) -> None:
        with Run(tmp_path / "run", HERE, **options) as run:
            run.register_task("t", {"protocol": "vamba"}, COUNTS, [])
            run.register_model("m", fingerprint)

    def answer(entry: Record) -> None:
        with Run(tmp_path / "run", HERE) as run:
            records = run.records("t", "m")
            records.append(entry)
            records.close()

    register({"adapter": "x"})
    answer(record("q1", "a mistake in the file"))
    register(before)  # a run that was begun before this was noted
    register(after)  # mended: nothing was answered
    answer(record("q1"))
    register(after)
    with pytest.raises(UserError, match=r"the file of the model 'm' has changed(?s:.*)--accept-environment"):
        register(before)
    assert read_info(tmp_path / "run")["models"]["m"] == after
    register(before, accept_environment=True)
    assert read_info(tmp_path / "run")["models"]["m"] == before
    with pytest.raises(UserError, match="adapter: x there, y now"):
        register({**before, "adapter": "y"}, accept_environment=True)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        Run(tmp_path / "run", HERE),
        pytest.raises(UserError, match="another process is writing"),
        Run(tmp_path / "run", HERE),
    ):
        pass
    with Run(tmp_path / "run", HERE):
        pass


def test_broken_and_foreign_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file, not a folder"):
        Run(tmp_path / "file", HERE)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.json").write_text(json.dumps({"schema": 0}))
    for content in ({"schema": 0}, {"schema": 1}, [], {"schema": 1, "tasks": {}, "environments": "x"}):
        (tmp_path / "old" / "run.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match="was not written by this version"), Run(tmp_path / "old", HERE):
            pass
    (tmp_path / "old" / "run.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"), Run(tmp_path / "old", HERE):
        pass
    with pytest.raises(UserError, match="no run at or below"):
        find_runs([tmp_path / "nowhere"])


def test_names_become_one_path_component() -> None:
    assert safe_name("a/b c.py:X") == "a-b-c-py-X"
    assert safe_name("...") == "run"
    assert safe_name("模型一/7B") == "模型一-7B" and safe_name("कि") != safe_name("का")
    assert safe_name("cafe\u0301") == safe_name("café") == "café", "however it was typed"
    assert safe_name("half \ud83d of a pair\0") == "half-of-a-pair"


def begun(folder: Path, frames: int = 4, questions: tuple[str, ...] = ("q1",)) -> Path:
    """A run of one task and model with answers; its record file."""
    with Run(folder, HERE) as run:
        run.register_task("t", {"num_frames": frames}, COUNTS, [])
        run.note_preset("t", "p")
        run.register_model("m", {"adapter": "x"})
        records = run.records("t", "m")
        for question in questions:
            records.append(record(question))
        records.close()
    return records.path


@pytest.mark.parametrize("lost", ["deleted", "moved away, as it was cut off"])
def test_answers_whose_run_json_is_lost_keep_what_they_are(tmp_path: Path, lost: str) -> None:
    path = begun(tmp_path)
    about, before = tmp_path / "run.json", path.read_bytes()
    if lost == "deleted":
        about.unlink()
    else:
        about.write_text(about.read_text()[:100])
        with pytest.raises(UserError, match="move that file away, but nothing else, and give the run's own command"):
            begun(tmp_path)
        about.rename(tmp_path / "aside")
    for _ in range(2):
        with pytest.raises(UserError, match=r"holds answers, and no run\.json says how they were given"):
            begun(tmp_path, frames=64)
        assert path.read_bytes() == before and not read_info(tmp_path)["tasks"]
    begun(tmp_path, questions=("q2",))
    assert latest(path).keys() == {"q1", "q2"} and path.read_bytes().startswith(before)
    info = read_info(tmp_path)
    assert info["tasks"]["t"] == {"num_frames": 4}
    assert info["environments"] == [{"lost": 0, "packages": {}, "hardware": {}}, HERE]


def test_answers_of_earlier_versions_without_run_json_are_not_relabelled(tmp_path: Path) -> None:
    (tmp_path / "t.m.jsonl").write_text(json.dumps({**OLD, "task": "t", "model": "m"}) + "\n")
    with pytest.raises(UserError, match="or by an earlier version"):
        begun(tmp_path)


def test_a_record_whose_id_was_damaged_is_none(tmp_path: Path) -> None:
    path = begun(tmp_path, questions=("q1", "q2"))
    text = path.read_text()
    for damaged in (text.replace('"q2"', '"q3"'), text.replace('"video": "v"', '"video": "w"', 1)):
        assert damaged != text
        path.write_text(damaged)
        assert len(latest(path)) == 1
        begun(tmp_path, questions=("q1", "q2"))
        assert latest(path).keys() == {"q1", "q2"}
    assert "checksum" not in latest(path)["q1"].to_json(), "of a record that becomes another question's"


OLD = {
    "task": "mlvu", "model": "vamba", "environment": 0, "video": "v1", "load_s": 2.5, "frames": 8, "size": [36, 64],
    "question": "q1", "options": ["a", "b"], "answer": "B", "groups": {"kind": ["x", "y"]}, "prompt": "?",
    "response": "B", "error": None, "num_tokens": 1, "finish_reason": "stop", "encode_s": 0.5, "video_tokens": 4,
}  # fmt: skip


def test_lines_of_other_versions_are_read_and_nothing_of_them_is_lost() -> None:
    known = Record.from_json(OLD)
    assert known is not None and known.answered and (known.seed, known.load_s, known.video_tokens) == (0, 2.5, 4)
    assert known.asked().groups == {"kind": ("x", "y")} and known.asked().options == ("a", "b")
    later = {**OLD, "seed": 3, "verdict_of_2031": {"by": "somebody"}, "extra": {"hint": 1}}
    again = Record.from_json(json.loads(json.dumps(Record.from_json(later).to_json())))  # type: ignore[union-attr]
    assert again == Record.from_json(later)
    written = again.to_json()  # type: ignore[union-attr]
    assert {name: written[name] for name in later} == later
    assert Record.from_json({name: value for name, value in OLD.items() if name != "groups"}) is None


def test_a_record_writes_what_it_knows_and_no_more() -> None:
    line = record("q1").to_json()
    assert line.keys() == {
        *("question", "video", "options", "answer", "groups", "environment", "task", "model", "seed", "text"),
        *("prompt", "response", "error"),
    }
    assert replace(record("q1"), warmup=True, price=0.25).to_json().items() >= {("warmup", True), ("price", 0.25)}

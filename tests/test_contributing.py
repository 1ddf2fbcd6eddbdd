"""The worked examples of CONTRIBUTING.md, taken from the page and run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from stored import latest_records, latest_responses
from videos import make_video

from vamba_eval import Leaderboard
from vamba_eval.tables.compare import compare

PAGE = Path(__file__).resolve().parent.parent / "CONTRIBUTING.md"
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A folder with the examples, and data for them."""
    examples = dict(re.findall(r"```python (\S+)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))
    assert examples.keys() == {
        *("tasks/two_choices.py", "tasks/moments.py", "model_adapters/brightness.py", "model_adapters/courier.py"),
    }
    for name, code in examples.items():
        (tmp_path / Path(name).name).write_text(code)
    for task in ("two_choices", "moments"):
        (tmp_path / "data" / task).mkdir(parents=True)
        make_video(tmp_path / "data" / task / "one.mp4", frames=10)
    rows = "one.mp4,Cat or dog?,cat,dog\n" * 3
    (tmp_path / "data" / "two_choices" / "questions.csv").write_text("video,question,right,wrong\n" + rows)
    lines = [
        {"video": "one.mp4", "question": "a cat", "kind": "pet", "tags": ["x", "y"], "span": [0, 10]},
        {"video": "one.mp4", "question": "a car", "kind": "thing", "tags": ["y"], "span": [2, 4]},
    ]
    (tmp_path / "data" / "moments" / "val.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    del lines[0]["span"]
    (tmp_path / "data" / "moments" / "test.jsonl").write_text(json.dumps(lines[0]) + "\n")
    return tmp_path


def asked(page: Path, cli: Cli, task: str, model: str, *more: object) -> tuple[str, dict[str, dict]]:
    command = ("--tasks", page / f"{task}.py", "--models", f"{model}={page / f'{model}.py'}")
    status, out, err = cli(*command, "--data-root", page / "data", "--output", page / "out", *more)
    assert status == 0, err
    return out, latest_records(page / "out" / task / f"{task}.{model}.jsonl")


def test_a_benchmark_and_a_model(page: Path, cli: Cli) -> None:
    out, records = asked(page, cli, "two_choices", "brightness", "--model-args", "brightness:threshold=0")
    assert [record["response"] for record in records.values()] == ["A", "A", "A"]
    assert "33.3" in out, "one of three has its right option first"
    seen = records["q0"]["seen"]
    assert (seen["frames"], [seen["height"], seen["width"]]) == (10, records["q0"]["size"])


def test_letters_follow_the_number_of_options(page: Path, cli: Cli) -> None:
    """The page's own lines score five options: of these E is always the right one."""
    code = (page / "two_choices.py").read_text()
    scoring = re.search(r"    def score\(.*", code, flags=re.DOTALL)
    assert scoring and "extract_vamba" in scoring[0]
    five = re.sub(r"    def prompt\(.*?(?=\n    def score)", lambda _: PROMPT_OF_FIVE, code, flags=re.DOTALL)
    five = re.sub(r"options=.*\n", 'options=(*"stuv", row["right"]),\n', five)
    five = re.sub(r"answer=.*\n", 'answer="E",\n', five)
    assert scoring[0] in five and 'answer="E"' in five
    (page / "two_choices.py").write_text(five)
    for letter, score in (("E", 1.0), ("A", 0.0)):
        command = ("--tasks", page / "two_choices.py", "--models", "constant", "--model-args")
        more = (f"constant:letter={letter}", "--data-root", page / "data", "--output", page / letter)
        status, _, err = cli(*command, *more)
        assert status == 0, err
        (result,) = Leaderboard.from_runs([page / letter]).results
        assert result.summary.headline[1].value == score and result.unparsed == 0
        assert result.chance == pytest.approx(1 / 5)


PROMPT_OF_FIVE = r"""    def prompt(self, video, question, protocol, clip):
        lettered = [f"{letter}. {option}" for letter, option in zip("ABCDE", question.options)]
        return "\n".join([question.text, *lettered, "Answer with the letter."])
"""


def test_the_model_is_asked_blind_and_sampled(page: Path, cli: Cli) -> None:
    more = ("--blind", "--temperature", 5, "--seeds", 12)
    asked(page, cli, "two_choices", "brightness", *more)
    blind = latest_responses(page / "out" / "two_choices" / "two_choices.brightness-blind.jsonl")
    assert len(blind) == 36 and {record["response"] for record in blind.values()} == {"A", "B"}


def test_a_metric_of_its_own(page: Path, cli: Cli) -> None:
    out, records = asked(page, cli, "moments", "brightness")
    assert "from 0.0, " in records["val-0"]["prompt"] and records["val-0"]["extra"] == {"span": [0, 10]}
    file = page / "out" / "moments" / "moments.brightness.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line, response in zip(lines, ("0 5", "2.5 and 4"), strict=True):
        line["response"] = response
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (result,) = Leaderboard.from_runs([page / "out"]).results
    values = {name: metric.value for name, metric in result.summary.metrics.items()}
    assert values == pytest.approx({"mIoU": (0.5 + 0.75) / 2, "R@0.5": 1.0, "whole videos": 1.0, "error": 0.25})
    assert result.summary.breakdowns["tags"]["y"].value == pytest.approx(0.625)
    assert result.summary.breakdowns["kind (R@0.5)"]["pet"].value == 1
    (strict,) = Leaderboard.from_runs([page / "out"], protocol="strict").results
    assert strict.unparsed == 1 and strict.summary.metrics["mIoU"].value == 0.25
    twin = shutil.copytree(page / "out" / "moments", page / "twin")
    (found,) = compare(str(page / "out" / "moments"), str(twin))
    assert {each.value: each.difference for each in found.differences if each.group == "all"} == dict.fromkeys(
        values, 0
    )
    out, records = asked(page, cli, "moments", "brightness", "--split", "test", "--output", page / "test")
    assert "answers withheld" in out


def test_a_served_model(page: Path, cli: Cli) -> None:
    _, records = asked(page, cli, "two_choices", "courier", "--model-args", "courier:concurrency=2")
    assert [record["response"] for record in records.values()] == ["A", "A", "A"]
    assert all(record["price"] == 0.0003 and record["latency_s"] > 0 for record in records.values())

"""The worked examples of CONTRIBUTING.md, taken from the page and run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from stored import latest_records
from videos import make_video

PAGE = Path(__file__).resolve().parent.parent / "CONTRIBUTING.md"


def test_the_examples_work_together(cli: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    examples = dict(re.findall(r"```python (\S+)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))
    assert examples.keys() == {"tasks/two_choices.py", "model_adapters/brightness.py"}
    for name, code in examples.items():
        (tmp_path / Path(name).name).write_text(code)
    folder = tmp_path / "data" / "two_choices"
    folder.mkdir(parents=True)
    make_video(folder / "one.mp4", frames=10)
    (folder / "questions.csv").write_text("video,question,right,wrong\n" + "one.mp4,Cat or dog?,cat,dog\n" * 3)
    model = f"brightness={tmp_path / 'brightness.py'}"
    status, out, err = cli(
        *("--tasks", tmp_path / "two_choices.py", "--models", model, "--data-root", tmp_path / "data"),
        *("--model-args", "brightness:threshold=0", "--output", tmp_path / "out"),
    )
    assert status == 0, err
    records = latest_records(tmp_path / "out" / "two_choices" / "two_choices.brightness.jsonl")
    assert [record["response"] for record in records.values()] == ["A", "A", "A"]
    assert "33.3" in out, "one of three has its right option first"

"""The file of tracebacks in a run's folder."""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from videos import make_video

from vamba_eval import hub, registry
from vamba_eval.contracts import Answer, Clip, CodeError, GenerationSettings, ModelAdapter, UserError, raised_at
from vamba_eval.progress import Display
from vamba_eval.run import tracebacks
from vamba_eval.run.answer import failure
from vamba_eval.run.tracebacks import Failure, Tracebacks

TASK = f"{Path(__file__).parent / 'plugins.py'}:FolderTask"
Cli = Callable[..., tuple[int, str, str]]


class Stumbling(ModelAdapter):
    """Raises by one of two lines, with a message of its own for each question."""

    name = "stumbling"
    reads_video = False

    def encode(self, clip: Clip | None) -> None:
        return None

    def generate(self, encoded: Any, prompts: Sequence[str], settings: GenerationSettings) -> list[Answer]:
        if "0?" in prompts[0]:
            raise RuntimeError(f"the first, {prompts[0]}")
        raise RuntimeError(f"the second, {prompts[0]}")


def raised(message: str, deep: int = 0) -> Exception:
    try:
        if deep:
            raise raised(message, deep - 1)
        raise ValueError(message)
    except Exception as error:
        return error


def test_each_distinct_one_is_kept_once_over_all_calls(cli: Cli, tmp_path: Path) -> None:
    for number in range(3):
        make_video(tmp_path / f"{number}.mp4", frames=2)
    kept = tmp_path / "folder" / "tracebacks.log"
    command = (
        "--tasks",
        TASK,
        "--models",
        f"stumbling={__file__}:Stumbling",
        "--data-root",
        tmp_path,
        "--output",
        tmp_path,
    )
    for _ in range(2):
        status, _, errors = cli(*command, "--workers", 0)
        assert status == 1 and f"the tracebacks of what failed are in {kept}" in errors and "Traceback" not in errors
    text = kept.read_text()
    assert text.count("Traceback (most recent call last)") == 2 and text.count("==== ") == 2
    assert "RuntimeError: the first, 0 0?" in text and "RuntimeError: the second, 0 1?" in text
    assert " folder, stumbling, 0-0: answering failed: RuntimeError: the first" in text
    assert "generate\n" in text, "with the line of the adapter"


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracebacks, "_MOST_BYTES", 5000)
    monkeypatch.setattr(tracebacks, "_MOST_CHARACTERS", 1500)
    kept = Tracebacks(tmp_path)
    for deep in range(30):
        namespace: dict[str, Any] = {}
        exec(compile(f"{chr(10) * deep}def fail(): raise ValueError('x' * 9000)", "made.py", "exec"), namespace)
        try:
            namespace["fail"]()
        except ValueError as error:
            kept.keep(failure("answering", error), "a question")
    assert 2000 < kept.path.stat().st_size <= 5000
    assert "x" * 500 in kept.path.read_text()


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = Tracebacks(tmp_path / "file")
    assert not kept.keep(raised("no"), "it") and not kept.kept
    with pytest.raises(CodeError, match=r"^it fails$"), kept.keeping():
        raise CodeError("it fails") from raised("no")


def test_secrets_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "swordfish-9f3b2c7d")
    Tracebacks(tmp_path).keep(raised("refused swordfish-9f3b2c7d"), "swordfish-9f3b2c7d")
    assert "swordfish" not in (tmp_path / "tracebacks.log").read_text()


def test_a_failure_takes_its_traceback_to_other_processes() -> None:
    failed = failure("answering", raised("no"))
    there = pickle.loads(pickle.dumps(failed))
    assert there == failed and there.startswith("answering failed: ValueError: no")
    assert isinstance(there, Failure) and there.traceback == failed.traceback and "raise ValueError" in there.traceback


def test_what_has_no_traceback_is_not_kept(tmp_path: Path) -> None:
    kept = Tracebacks(tmp_path)
    assert not kept.keep("a reason", "it") and not kept.keep(None, "it") and not kept.keep(Failure("a reason"), "it")
    assert not kept.path.exists()


def test_where_it_was_raised() -> None:
    assert raised_at(raised("no"), __file__).startswith(f"{__file__}, line ")
    assert raised_at(ValueError("of nobody")) == ""
    with pytest.raises(SyntaxError) as caught:
        compile("a =", "mine.py", "exec")
    assert raised_at(caught.value) == "mine.py, line 1"


# ---------------------------------------------------------------------------------------------- what goes before


@pytest.mark.parametrize("quick", [True, False])
def test_who_waits_is_told_so(monkeypatch: pytest.MonkeyPatch, quick: bool) -> None:
    monkeypatch.setattr("vamba_eval.progress._FIRST_LINE_S", 0.1)
    monkeypatch.setattr("vamba_eval.progress._LINE_EVERY_S", 0.1)
    said = io.StringIO()
    with Display(stream=said) as display, display.waiting("loading it"):
        time.sleep(0 if quick else 0.5)
    lines = said.getvalue().splitlines()
    if quick:
        assert not lines
    else:
        assert len(lines) >= 3 and lines[0].startswith("loading it ... (") and lines[-1].startswith("loading it: ")


def test_a_hub_that_is_not_there_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"the Hub \(http://127.0.0.1:9\) cannot be reached: .*pretrained=FOLDER"):
        registry.check_arguments("qwen2_vl", {"pretrained": "owner/name"})
    with hub.quick_without_network():
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE and time.monotonic() - begun < 10


def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "WITHIN_S", 0.1)
    with pytest.raises(UserError, match=r"cannot be reached: no answer within 0\.2 s"):
        hub.ask_hub(lambda: time.sleep(5))
    assert hub.ask_hub(lambda: 7) == 7

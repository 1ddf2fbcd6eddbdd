"""The small trained Vamba: what it can and cannot do, on videos that neither training nor the benchmark has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from vamba_eval.model_adapters.vamba_small import FOLDER, VambaSmallAdapter
from vamba_eval.tasks._synthetic_videos import render
from vamba_eval.tasks.synthetic import DURATIONS_S, KINDS, VIDEOS_PER_DURATION, Synthetic, video

from vamba_eval import Leaderboard, evaluate
from vamba_eval.contracts import Video

pytestmark = pytest.mark.usefixtures("one_thread")
Cli = Callable[..., tuple[int, str, str]]


class Others(Synthetic):
    """Videos of the benchmark's kind, of other seeds."""

    name = "others"

    def load(self, data_root: str | Path | None, split: str | None = None) -> list[Video]:
        numbers = range(VIDEOS_PER_DURATION, VIDEOS_PER_DURATION + 10)
        made = [video(Path(str(data_root)), duration, number) for duration in DURATIONS_S for number in numbers]
        for each, script in made:
            if not each.path.exists():
                render(script, each.path)
        return [each for each, _ in made]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Leaderboard:
    """With few frames, with all, and blind."""
    folder = tmp_path_factory.mktemp("small")
    where = {"data_root": folder / "videos", "output": folder / "out"}
    (folder / "videos").mkdir()
    return evaluate([Others()], ["vamba_small"], ladder=(8, 512), blind=True, progress=False, **where)


def accuracy(board: Leaderboard, frames: int | None, kind: str | None = None) -> float:
    """In %, of all questions or of a kind."""
    table = board.breakdowns
    rows = table[(table.num_frames == frames) if frames else table.num_frames.isna()]
    group, value = ("question_type", kind) if kind else ("all", "accuracy")
    (share,) = rows[(rows.group == group) & (rows.value == value)].score
    return 100 * float(share)


def test_it_sees_what_it_has_never_seen(board: Leaderboard) -> None:
    assert accuracy(board, 512) >= 90
    for kind in KINDS:
        assert accuracy(board, 512, kind) >= 80, kind


def test_what_it_knows_is_from_the_frames(board: Leaderboard) -> None:
    """Blind it guesses; on 8 frames there is seldom a flag, and never every border."""
    (blind,) = [result for result in board.results if not result.reads_video]
    low, high = blind.summary.headline[1].low, blind.summary.headline[1].high
    assert low is not None and high is not None and low <= 0.25 <= high
    for kind in ("needle", "count"):
        assert accuracy(board, 8, kind) < 50, kind
    assert accuracy(board, 8) < 70


def test_tables_and_reports_call_it_a_toy(board: Leaderboard, cli: Cli, tmp_path: Path) -> None:
    said = "trained on generated videos only"
    assert f"vamba_small-blind on Synthetic long videos: {said}; says nothing of other models" in board.to_markdown()
    status, _, err = cli("report", board.folder, "-o", tmp_path / "page.html", "--no-images")
    assert status == 0, err
    assert f"vamba_small @512 ({said})" in (tmp_path / "page.html").read_text()


def test_it_says_so_when_it_is_asked(board: Leaderboard, cli: Cli) -> None:
    path = next((board.folder.parent.parent / "videos").glob("*.mp4"))
    status, out, err = cli("ask", path, "Which color is the flag that shows once?", "--model", "vamba_small")
    assert status == 0 and out and "vamba_small is trained on generated videos only" in err


def test_it_is_the_same_model_wherever_it_is_installed() -> None:
    identity = VambaSmallAdapter(device="cpu").describe()
    assert identity["pretrained"] == "vamba-eval" and str(FOLDER) not in json.dumps(identity)
    assert identity["identity"].startswith("weights ")


def test_its_card_is_true() -> None:
    """Size, parameters, and what it was trained on; the log has every run."""
    card = json.loads((FOLDER / "training.json").read_text())
    model = VambaSmallAdapter(device="cpu").model
    assert sum(weight.numel() for weight in model.parameters()) == card["parameters"]
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 12e6
    log = [json.loads(line) for line in (FOLDER / "training_log.jsonl").read_text().splitlines()]
    for number, run in enumerate(card["runs"], 1):
        assert (FOLDER / run["data"]).is_file()
        assert max(line["step"] for line in log if line["run"] == number) <= run.get("stopped_at", run["steps"])

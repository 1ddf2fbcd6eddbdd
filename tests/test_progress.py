"""Bars on a terminal, lines elsewhere, nothing at all when they are not wanted."""

from __future__ import annotations

import io
import random
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from vamba_eval import progress
from vamba_eval.contracts import Score, ScoredRecord, mean
from vamba_eval.progress import Display, bytes_text, duration_text
from vamba_eval.run import progress as run_progress
from vamba_eval.run.progress import ModelProgress, Pace


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def plain(drawn: str) -> str:
    """Without colors and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)


def wait_for(text: str, terminal: Terminal) -> None:
    """Bars are drawn four times a second."""
    deadline = time.monotonic() + 30
    while text not in re.sub(" +", " ", plain(terminal.getvalue())):
        assert time.monotonic() < deadline, terminal.getvalue()
        time.sleep(0.05)


class Clock:
    """In the place of ``time``, for a module that reads it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_lines_in_a_log_file(clock: Clock) -> None:
    log = io.StringIO()
    with Display(stream=log) as display, display.bar("fetching", 10**9, of_bytes=True) as bar:
        assert not display.live
        for _ in range(18):
            clock.now += 5
            bar.advance(5 * 10**7)
    lines = [f"fetching: {n}00 MB of 1 GB, 10 MB/s, {duration_text(100 - 10 * n)} left" for n in range(1, 10)]
    assert log.getvalue().splitlines() == [*lines, lines[-1]], "one every ten seconds, and the last"


def test_short_work_leaves_no_line(clock: Clock) -> None:
    log = io.StringIO()
    with Display(stream=log) as display, display.bar("opening", 3) as bar:
        for _ in range(3):
            clock.now += 3
            bar.advance()
    assert log.getvalue() == ""


def test_what_was_done_before_counts_in_the_state_and_not_in_the_rate(clock: Clock) -> None:
    log = io.StringIO()
    with Display(stream=log) as display, display.bar("judging", 1000, done=900) as bar:
        clock.now += 60
        bar.advance(10, note="2 failed")
    assert log.getvalue().splitlines()[0] == "judging: 910 of 1,000, 2 failed, 9 min left"


def test_an_unknown_total(clock: Clock) -> None:
    log = io.StringIO()
    with Display(stream=log) as display, display.bar("unpacking", of_bytes=True) as bar:
        clock.now += 30
        bar.advance(3000)
    assert log.getvalue().splitlines()[0] == "unpacking: 3 KB, 100 B/s"


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several at once, one of which ends before the other; names are no markup."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    with Display(stream=terminal) as display, display.bar("fetching [bold]all", 10) as whole:
        assert display.live
        with display.bar("unpacking a.zip", of_bytes=True) as part:
            part.advance(2500)
            wait_for("━ 2.5 KB", terminal)
        whole.advance(4)
        display.say("a line that stays")
        wait_for("━ 4 of 10", terminal)
    lines = [line.strip() for line in re.split(r"[\r\n]+", plain(terminal.getvalue()))]
    assert any(re.fullmatch(r"fetching \[bold\]all [━╸╺]+ 4 of 10\b.*", line) for line in lines), lines
    assert any(re.fullmatch(r"unpacking a.zip ━+ 2.5 KB, .*", re.sub(" +", " ", line)) for line in lines), lines
    left = [line for line in lines if line and "━" not in line]
    assert re.fullmatch(r"unpacking a.zip: 2.5 KB, [\d.e+]+ [KMGT]?B/s", left[0])
    assert left[1:] == ["a line that stays", "fetching [bold]all: 4 of 10"]


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_silence(clock: Clock, stream: type[io.StringIO]) -> None:
    nowhere = stream()
    with Display(enabled=False, stream=nowhere) as display, display.bar("judging", 3) as bar:
        clock.now += 100
        bar.advance()
        display.say("a line")
    assert nowhere.getvalue() == ""


def test_threads_share_a_bar(clock: Clock) -> None:
    log = io.StringIO()
    with Display(stream=log) as display, display.bar("fetching", 80_000) as bar:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: [bar.advance() for _ in range(10_000)], range(8)))
        clock.now += 40
        bar.advance(0)
    assert log.getvalue().splitlines()[0] == "fetching: 80,000 of 80,000"


def test_it_imports_nothing_of_the_harness_nor_rich() -> None:
    code = (
        "import sys; import vamba_eval.progress; "
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('vamba_eval', 'rich')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['vamba_eval', 'vamba_eval._version', 'vamba_eval.progress']"


def test_texts() -> None:
    assert [bytes_text(n) for n in (0, 999, 1000, 999_700, 1.5e12, 2e15)] == [
        *("0 B", "999 B", "1 KB", "1 MB", "1.5 TB", "2e+03 TB"),
    ]
    assert [duration_text(s) for s in (0.4, 89, 90, 5300, 7200)] == ["0 s", "89 s", "2 min", "88 min", "2.0 h"]


@pytest.mark.parametrize(
    ("width", "state"),
    [
        (200, "3 of 40, accuracy 66.7 [0.0, 100.0], 2 s/video, 1 failed"),
        (100, "3 of 40, accuracy 66.7, 2 s/video, 1 failed"),
        (80, "3 of 40, accuracy 66.7, 1 failed"),
        (60, "3 of 40, 1 failed"),
    ],
)
def test_a_narrow_terminal_keeps_the_count(monkeypatch: pytest.MonkeyPatch, width: int, state: str) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    clock = Clock()
    monkeypatch.setattr(run_progress, "time", clock)
    task = SimpleNamespace(measures={"accuracy": mean("correct")})
    scored = [ScoredRecord(f"q{n}", f"v{n}", {}, Score({"correct": float(n < 2)})) for n in range(3)]
    with Display(stream=Terminal()) as display:
        line = ModelProgress(display, task, "task · model", 40, [], 0)  # type: ignore[arg-type]
        for each in scored[:2]:
            line.add(each)
        line.add(None)
        clock.now += 6
        for _ in range(3):
            line.video()
        line._scored = scored
        assert line._figures() == state


@pytest.mark.parametrize("order", ["shuffled", "shortest first", "longest first", "unknown lengths"])
def test_the_time_left_is_right_after_a_tenth(monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    """Of videos of 10 s to an hour, each of which takes half a second, 3 ms a second of it, and what chance adds; the
    first one a minute more. Where the first tenth are all short, it can only be guessed what length costs."""
    clock = Clock()
    monkeypatch.setattr(run_progress, "time", clock)
    dice = random.Random(0)
    lengths = {f"v{n}": 10 * 360 ** dice.random() for n in range(300)}
    if order.endswith("first"):
        lengths = dict(sorted(lengths.items(), key=lambda item: item[1], reverse=order.startswith("longest")))
    costs = {name: (0.5 + 0.003 * length) * dice.uniform(0.8, 1.2) for name, length in lengths.items()}
    pace = Pace(dict.fromkeys(lengths) if order == "unknown lengths" else lengths)
    assert pace.left_s() is None
    for number, (name, cost) in enumerate(costs.items()):
        clock.now += cost + 60 * (number == 0)
        pace.done(name)
        if number + 1 in (30, 150):
            true = sum(list(costs.values())[number + 1 :])
            guessed = {"unknown lengths": 0.35, "shortest first": 1.0 if number < 100 else 0.2}
            assert pace.left_s() == pytest.approx(true, rel=guessed.get(order, 0.2))
    assert pace.left_s() == pytest.approx(0, abs=1e-6)

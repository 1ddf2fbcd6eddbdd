"""The pictures of README.md, of the demo's results: `python docs/pictures/make.py results` (needs Chromium)."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from vamba_eval.report.page import write_report
from vamba_eval.tables.leaderboard import Leaderboard
from vamba_eval.tables.screen import shown_board

HERE = Path(__file__).resolve().parent


def demo(results: Path) -> None:
    """The board as a terminal of 80 columns shows it, and the curve below it."""
    board = Leaderboard.from_runs([results])
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print("$ make demo\n")
    for part in shown_board(board.board(), console):
        console.print(part)
    console.print(f"\n{board.charts().rstrip()}")
    svg = console.export_svg(title="vamba-eval")
    (HERE / "demo.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))  # nothing is fetched


def report(results: Path) -> None:
    """The first screen of the page."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        write_report([results], page)
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--window-size=1280,1000", f"--screenshot={HERE / 'report.png'}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    demo(Path(sys.argv[1]))
    report(Path(sys.argv[1]))

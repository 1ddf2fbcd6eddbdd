"""The example server of docs/, as a process of its own, asked by a run."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plugins import FolderTask
from stored import latest_records
from vamba_eval.model_adapters.openai import OpenAIEndpoint
from videos import make_video

from vamba_eval import evaluate

SERVER = Path(__file__).resolve().parent.parent / "docs" / "legacy_server.py"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    started: list[subprocess.Popen[bytes]] = []

    def server(text: str) -> str:
        (tmp_path / "server.py").write_text(text)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, str(tmp_path / "server.py"), str(port)]
        started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return f"http://127.0.0.1:{port}/v1"
            time.sleep(0.1)
        pytest.fail("the server did not start")

    yield server
    for process in started:
        process.kill()
        process.wait()


def test_a_model_behind_it_is_evaluated(start: Callable[[str], str], tmp_path: Path) -> None:
    for n in range(2):
        make_video(tmp_path / f"{n}.mp4", frames=20, size=(64, 96))
    plain = SERVER.read_text()
    broken = plain.replace(
        "    width, height =", "    if question.startswith('1 1'):\n        1 / 0\n    width, height ="
    )
    assert broken != plain and len(plain.splitlines()) < 55
    model = OpenAIEndpoint(model="longva", url=start(broken), concurrency=1, retries=0)
    evaluate([FolderTask()], [model], data_root=tmp_path, output=tmp_path, name="run", progress=False,
             sampling={"num_frames": 5, "shortest_edge": None, "longest_edge": None}, blind=True)  # fmt: skip
    records = latest_records(tmp_path / "run" / "folder.openai.jsonl")
    answers = {question: record["response"] for question, record in records.items()}
    assert answers == {**{f"0-{n}": f"5 frames of 96x64, and: 0 {n}?" for n in range(2)},
                       **{"1-0": "5 frames of 96x64, and: 1 0?", "1-1": None}}  # fmt: skip
    assert "ZeroDivisionError: division by zero" in records["1-1"]["error"]
    assert records["0-0"]["served_by"] == "longva" and "price" not in records["0-0"]
    blind = latest_records(tmp_path / "run" / "folder.openai-blind.jsonl")
    assert blind["0-1"]["response"] == "0 frames of 0x0, and: 0 1?"

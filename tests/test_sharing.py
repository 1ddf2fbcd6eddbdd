"""A finished run sent elsewhere: by the real client libraries, to servers of the test's own."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from benchmark_files import longvideobench_rows, write_longvideobench
from wandb.sdk.internal.datastore import DataStore

Cli = Callable[..., tuple[int, str, str]]


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub's protocol as creating a repository and committing small files takes."""

    files: dict[str, bytes] = {}
    created: list[dict] = []

    def _reply(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._reply({"id": "lab/runs", "sha": "0" * 40, "siblings": [], "private": True})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != "Bearer hf_test":
            self._reply({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            self.created.append(json.loads(body))
            self._reply(
                {"url": f"http://{self.headers['Host']}/datasets/lab/runs", "name": "lab/runs", "id": "lab/runs"}
            )
        elif "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for file in json.loads(body)["files"]
            ]
            self._reply({"files": files})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            url = f"http://{self.headers['Host']}/datasets/lab/runs/commit/{'1' * 40}"
            self._reply({"commitUrl": url, "commitOid": "1" * 40, "success": True})
        else:
            self._reply({"error": "not known here"}, 404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.files, Hub.created = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def run_with_hub(command: tuple[object, ...], endpoint: str, token: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the library reads the endpoint when it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
    program = Path(__file__).resolve().parent.parent / "run_eval.py"
    arguments = [sys.executable, str(program), *map(str, command)]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True)


@pytest.fixture
def command(tmp_path: Path) -> tuple[object, ...]:
    write_longvideobench(tmp_path, longvideobench_rows(6))
    common = ("--tasks", "longvideobench", "--models", "constant", "--data-root", tmp_path)
    return (*common, "--output", tmp_path / "runs", "--name", "mine")


def test_a_run_is_uploaded_whole(command: tuple[object, ...], hub: str, tmp_path: Path) -> None:
    thumbnails = tmp_path / "runs" / "mine" / "thumbnails"
    thumbnails.mkdir(parents=True)
    (thumbnails / "clip.jpg").write_bytes(b"somebody else's video")
    done = run_with_hub((*command, "--push-to-hub", "lab/runs"), hub, "hf_test")
    assert done.returncode == 0, done.stderr
    assert f"Uploaded: {hub}/datasets/lab/runs" in done.stdout
    assert Hub.created[0].get("visibility") == "private" or Hub.created[0].get("private") is True
    folder = tmp_path / "runs" / "mine"
    own = {
        f"mine/{path.name}": path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != ".lock"
    }
    assert Hub.files == own and "mine/longvideobench.constant.jsonl" in own


def test_an_upload_that_fails_costs_nothing(command: tuple[object, ...], hub: str, tmp_path: Path) -> None:
    done = run_with_hub((*command, "--push-to-hub", "lab/runs"), hub, "hf_wrong")
    assert done.returncode == 2 and "constant" in done.stdout, "the table is shown before"
    assert "could not be uploaded to lab/runs" in done.stderr and str(tmp_path / "runs" / "mine") in done.stderr
    assert (tmp_path / "runs" / "mine" / "leaderboard.csv").exists()


def test_a_run_is_logged_to_wandb(
    cli: Cli, command: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    status, out, err = cli(*command, "--wandb", "lab/videos")
    assert status == 0, err
    assert "Logged: offline, in" in out
    (log,) = tmp_path.rglob("run-*.wandb")
    deadline = time.monotonic() + 60
    while log.stat().st_size < 100 and time.monotonic() < deadline:  # its own process writes it, a little later
        time.sleep(0.1)
    store = DataStore()  # the file is cut into blocks, so that a name can lie in two
    store.open_for_scan(str(log))
    content = b"".join(iter(store.scan_data, None))
    assert b"longvideobench/constant/score" in content and b"mine" in content

"""A real server, transformers' own, with a small checkpoint: over HTTP the model answers what it answers here."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from plugins import FolderTask
from stored import latest_records
from tiny_checkpoint import write_checkpoint
from vamba_eval.model_adapters.openai import OpenAIEndpoint
from vamba_eval.model_adapters.qwen2_vl import Qwen2VLAdapter
from videos import make_video

from vamba_eval import FrameSampling, evaluate, read_clip
from vamba_eval.contracts import GenerationSettings, UserError

missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"transformers serve needs {' and '.join(missing)}")
SYSTEM = "You are a helpful assistant."  # as the local adapter has it


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def url(checkpoint: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(checkpoint), "--device", "cpu"]
    log = checkpoint.parent / "serve.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=file, stderr=subprocess.STDOUT
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait()


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for n in range(3):
        make_video(folder / f"{n}.mp4", frames=20 + 10 * n, size=(84, 112))
    return folder


def test_a_run_has_the_answers_of_the_model_in_this_process(
    checkpoint: Path, url: str, folder: Path, tmp_path: Path
) -> None:
    sampling = FrameSampling(num_frames=4, shortest_edge=None, longest_edge=None)
    model = OpenAIEndpoint(model=str(checkpoint), url=url, image="png", system=SYSTEM, retries=0)
    board = evaluate([FolderTask()], [model], data_root=folder, output=tmp_path, name="run", sampling=sampling,
                     generation={"max_new_tokens": 12}, progress=False)  # fmt: skip
    assert board.results[0].complete
    records = latest_records(tmp_path / "run" / "folder.openai.jsonl")
    local = Qwen2VLAdapter(pretrained=str(checkpoint), device="cpu", dtype="float32")
    settings = GenerationSettings(max_new_tokens=12)
    for n in range(3):
        clip = read_clip(folder / f"{n}.mp4", sampling)
        clip.captions = ((4, ""),)  # so that its frames are pictures of their own here as well
        prompts = [f"{n} {number}?" for number in range(2)]
        for number, answer in enumerate(local.generate(local.encode(clip), prompts, settings)):
            record = records[f"{n}-{number}"]
            assert (record["response"], record["num_tokens"]) == (answer.text, answer.num_tokens)
            assert record["finish_reason"] == answer.finish_reason
            assert record["served_by"] == str(checkpoint) and record["prompt_tokens"] > 4 * 12
            assert record["seen"]["frames"] == 4 and record["latency_s"] > 0
    assert len({record["response"] for record in records.values()}) > 1, "or equal answers would mean nothing"


@pytest.mark.parametrize(
    ("arguments", "generation", "advice"),
    [
        ({"frames_as": "video"}, {}, "does not take media_io_kwargs"),
        ({}, {"do_sample": True, "top_k": 5}, "leave out --top-k"),
    ],
)
def test_what_this_server_cannot_take_is_said(
    checkpoint: Path, url: str, folder: Path, tmp_path: Path, arguments: Any, generation: Any, advice: str
) -> None:
    model = OpenAIEndpoint(model=str(checkpoint), url=url, **arguments)
    with pytest.raises(UserError, match=advice):
        evaluate([FolderTask()], [model], data_root=folder, output=tmp_path, generation=generation, progress=False,
                 sampling={"num_frames": 4})  # fmt: skip

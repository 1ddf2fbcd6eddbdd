"""Endpoints that misbehave, over real sockets: each costs a request a bounded time and size, with a reason."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from judge_server import Reply, judge_server
from test_judging import autodq, judged_lines, run  # noqa: F401 - a fixture
from vamba_eval.model_adapters.openai import OpenAIEndpoint

from vamba_eval.contracts import GenerationSettings, UserError
from vamba_eval.endpoint import Endpoint, EndpointError
from vamba_eval.score.judge import grade_runs, judge_endpoint

Send = Callable[[socket.socket], None]
_MIB = 2**20
_TIMEOUT_S = 0.6


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-of-odd-endpoints")


@contextmanager
def listening(send: Send) -> Iterator[tuple[str, list[int]]]:
    """A server that reads a request, has ``send`` say anything at all, and hangs up: its URL, and what it sent in bytes
    for each request."""
    sent: list[int] = []

    class Counted:
        def __init__(self, connection: socket.socket) -> None:
            self.connection, self.number = connection, len(sent)
            sent.append(0)

        def sendall(self, data: bytes) -> None:
            self.connection.sendall(data)
            sent[self.number] += len(data)

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536)
            head, _, body = request.partition(b"\r\n\r\n")
            (length,) = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            while len(body) < length:
                body += connection.recv(65536)
            send(Counted(connection))  # type: ignore[arg-type]

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", sent
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def says(body: bytes | str, status: str = "200 OK", length: int | None = None, **headers: str) -> Send:
    """A response with that body, as long as it is unless another length is said."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if "Transfer_Encoding" not in headers:
        lines.append(f"Content-Length: {len(data) if length is None else length}")
    return lambda connection: connection.sendall("\r\n".join([*lines, "", ""]).encode() + data)


def endless(head: bytes, piece: bytes, every_s: float = 0.0) -> Send:
    def send(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            time.sleep(every_s)

    return send


def completion(**fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "B"}, "finish_reason": "stop"}
    return {"choices": [choice], "model": "m", "usage": {"prompt_tokens": 5, "completion_tokens": 1}, **fields}


def odd(**fields: Any) -> Send:
    return says(json.dumps(completion(**fields)))


def choice(**fields: Any) -> Send:
    return odd(choices=[{**completion()["choices"][0], **fields}])


def used(tokens: str, name: str = "prompt_tokens") -> Send:
    """Tokens as the JSON has them, which is not always what json.dumps would write."""
    return says(json.dumps(completion(usage={name: 77777})).replace("77777", tokens))


_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_NO_LENGTH = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
_LATE = f"no whole response in {_TIMEOUT_S:g} s"
_NONE = "not a chat completion"

WAYS: dict[str, tuple[Send, str]] = {
    # What is no HTTP
    "hangs up": (lambda connection: None, "Connection error: "),
    "bytes": (lambda connection: connection.sendall(os.urandom(9000)), "Connection error: "),
    "another protocol": (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n"), "Connection error: "),
    "endless headers": (endless(b"HTTP/1.1 200 OK\r\n", b"X-Y: " + b"z" * 9000 + b"\r\n"), "Connection error: "),
    "endless interim responses": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), _LATE),
    # Without end
    "silent": (lambda connection: time.sleep(60), _LATE),
    "silent after its headers": (lambda connection: (connection.sendall(_CHUNKED), time.sleep(60)), _LATE),
    "dripping headers": (endless(b"HTTP/1.1 200 OK\r\nX-Y: ", b"z", 0.02), _LATE),
    "dripping body": (endless(_NO_LENGTH, b" ", 0.02), _LATE),
    "dripping chunks": (endless(_CHUNKED, b"1\r\n \r\n", 0.02), _LATE),
    "endless body": (endless(_NO_LENGTH, b" " * 65536), "longer than 8 MiB"),
    "endless chunks": (endless(_CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n"), "longer than 8 MiB"),
    "endless error": (endless(b"HTTP/1.1 500 Oh\r\nConnection: close\r\n\r\n", b"no " * 30000), "longer than 8 MiB"),
    # Lengths and packing
    "empty": (says(""), _NONE),
    "no content": (says("", "204 No Content"), _NONE),
    "shorter than said": (says('{"choices": []}', length=9000), "Connection error: "),
    "longer than said": (says(json.dumps(completion()), length=20), _NONE),
    "a negative length": (says("{}", length=-5), "Connection error: "),
    "a huge length": (says("{}", length=10**30), "Connection error: "),
    "two lengths": (says("{}", Content_length="7"), "Connection error: "),
    "no chunks": (says("not chunks at all\r\n", Transfer_Encoding="chunked"), "Connection error: "),
    "a packed bomb": (says(gzip.compress(bytes(200 * _MIB)), Content_Encoding="gzip"), "packed (gzip)"),
    "packed thrice": (says(b"x", Content_Encoding="gzip, br, zstd"), "packed (gzip, br, zstd)"),
    # What is no completion
    "HTML": (says("<html>login</html>", Content_Type="text/html"), "'<html>login</html>'"),
    "broken JSON": (says('{"choices": [{"message": {"content": "B'), _NONE),
    "no UTF-8": (says(b'{"choices": "\xff\xfe\x00"}'), _NONE),
    "another charset": (says("{}", Content_type="application/json; charset=rot13"), _NONE),
    "deep": (says("[" * 200_000), _NONE),
    "null": (says("null"), "as it holds no choice"),
    "a list": (says("[1]"), "as the response is a list"),
    "a text": (says('"B"'), "as the response is a str"),
    "choices no list": (odd(choices="B"), "as its choices is a str"),
    "choices a mapping": (odd(choices={"0": {}}), "as its choices is a dict"),
    "no choice": (odd(choices=[]), "as it holds no choice"),
    "a choice that is none": (odd(choices=[7]), "as its choice is a int"),
    "message no mapping": (choice(message=["B"]), "as its message is a list"),
    "content a number": (choice(message={"content": 7}), "as its content is a int"),
    "content a mapping": (choice(message={"content": {"text": "B"}}), "as its content is a dict"),
    "content of odd parts": (choice(message={"content": [{"text": 7}]}), "as its content is a list"),
    "an odd refusal": (choice(message={"content": "B", "refusal": [1]}), "as its refusal is a list"),
    "an odd reason to stop": (choice(finish_reason=7), "as its finish_reason is a int"),
    "an odd model": (odd(model=["m"]), "as its model is a list"),
    # Numbers
    "usage no mapping": (odd(usage=[5, 1]), "as its usage is a list"),
    "tokens NaN": (used("NaN"), _NONE),
    "tokens infinite": (used("-Infinity", "completion_tokens"), _NONE),
    "tokens beyond a float": (used("1e999"), "as its prompt_tokens is no count"),
    "tokens negative": (used("-5", "completion_tokens"), "as its completion_tokens is no count"),
    "tokens a fraction": (used("1.5"), "as its prompt_tokens is no count"),
    "tokens a text": (used('"5"'), "as its prompt_tokens is no count"),
    "tokens true": (used("true"), "as its prompt_tokens is no count"),
    "tokens huge": (used("9" * 400), "as its prompt_tokens is no count"),
    "tokens of a million digits": (used("9" * 1_000_000), _NONE),
    "more cached than there are": (
        odd(usage={"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 50}}),
        "50 of its 5 prompt tokens were cached",
    ),
    # Errors
    "an odd status": (says("{}", "999 Odd"), "999"),
    "a deep error": (says('{"error": ' + "[" * 50_000 + "]" * 50_000 + "}", "500 Oh"), ""),
    "a long error": (says(json.dumps({"error": {"message": "no " * _MIB}}), "500 Oh"), "no no no"),
    "an error of odd types": (says('{"error": {"message": [1], "code": {"a": 1}}}', "400 Bad"), "400"),
    "busy for ever": (says("{}", "429 Busy", Retry_After="1e300"), "429"),
    "busy for no time": (says("{}", "429 Busy", Retry_After="nan"), "429"),
}


def served(url: str) -> str:
    """Why a served model has no answer."""

    async def first() -> Any:
        model = OpenAIEndpoint(model="m", url=url, retries=0, timeout=_TIMEOUT_S, price="1/1")
        async for _, answer in model.answer(None, ["What?"], GenerationSettings()):
            return answer

    answer = asyncio.run(first())
    assert isinstance(answer, Exception) and not isinstance(answer, UserError), answer
    return str(answer)


def judged(url: str, cache: Path) -> str:
    with Endpoint("m", url, cache=cache, role="the judge", timeout_s=_TIMEOUT_S, max_retries=0) as endpoint:
        with pytest.raises(EndpointError) as caught:
            endpoint.reply("key", [{"role": "user", "content": "?"}], {})
        assert not list(endpoint._cache), "nothing of it is kept"
    return str(caught.value)


@pytest.mark.parametrize("way", WAYS)
def test_each_costs_a_bounded_time_and_size_and_has_its_reason(way: str, tmp_path: Path) -> None:
    send, reason = WAYS[way]
    for ask in (served, lambda url: judged(url, tmp_path)):
        with listening(send) as (url, sent):
            start = time.monotonic()
            said = ask(url)
            assert time.monotonic() - start < _TIMEOUT_S + 5
        assert reason in said and "\n" not in said and len(said) < 700, said
        assert len(sent) == 1 and sent[0] < 32 * _MIB


def test_what_is_right_is_an_answer(tmp_path: Path) -> None:
    """So that the table's rows fail for what is odd in them."""
    for body in (completion(), completion(usage=None), completion(usage={"prompt_tokens": 5.0})):
        with listening(says(json.dumps(body))) as (url, _):
            with pytest.raises(AssertionError, match=r"Answer\(text='B'"):
                served(url)
            with Endpoint("m", url, cache=tmp_path / str(len(str(body))), max_retries=0) as endpoint:
                assert endpoint.reply("key", [{"role": "user", "content": "?"}], {}).text == "B"


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"])
def test_redirects_take_nothing_elsewhere(status: str, tmp_path: Path) -> None:
    with judge_server(lambda _: Reply("B")) as elsewhere:
        location = elsewhere.url.replace("//", "//user:word@") + "/chat/completions?key=word"
        with listening(says("", status, Location=location)) as (url, _):
            with pytest.raises(UserError, match="sends requests on to http://127") as caught:
                served(url)
            assert "word" not in str(caught.value)
            endpoint = Endpoint("m", url, cache=tmp_path, option="--judge-{}")
            with endpoint, pytest.raises(UserError, match="--judge-url") as caught:
                endpoint.reply("key", [{"role": "user", "content": "?"}], {})
            assert "word" not in str(caught.value)
    assert elsewhere.requests == []


def test_one_redirect_among_answers_costs_one_question(tmp_path: Path) -> None:
    replies = iter([Reply("B"), Reply(status=307, headers={"Location": "http://127.0.0.1:9/x"}), Reply("B")])
    with judge_server(lambda _: next(replies)) as server, Endpoint("m", server.url, cache=tmp_path) as endpoint:
        asked = [{"role": "user", "content": "?"}]
        assert endpoint.reply("1", asked, {}).text == "B"
        with pytest.raises(EndpointError, match=r"sends requests on to http://127\.0\.0\.1:9/x"):
            endpoint.reply("2", asked, {})
        assert endpoint.reply("3", asked, {}).text == "B"


def test_a_run_of_judging_goes_on_beside_one_that_drips(run: Path) -> None:  # noqa: F811
    dripping = threading.Lock()

    def answer(request: dict[str, Any]) -> Reply:
        return Reply("x" * 1000, drip=20) if dripping.acquire(blocking=False) else autodq(request)

    with judge_server(answer) as server:
        endpoint = judge_endpoint("m", server.url, cache=run / "cache", timeout_s=4, max_retries=0)
        with endpoint:
            graded = grade_runs([run], endpoint, progress=False)
    assert (graded.judged, graded.failed) == (14, 1)
    assert graded.reasons == ["the judge gave no answer: no whole response in 4 s (--judge-timeout)"]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("drip", [0.0, 1.0])
def test_judging_ends_at_once_while_the_endpoint_says_nothing(run: Path, end: int, drip: float) -> None:  # noqa: F811
    """And what was judged before is kept."""

    def answer(request: dict[str, Any]) -> Reply:
        if len(server.requests) <= 12:
            return autodq(request)
        return Reply("x" * 1000, wait=0 if drip else 120, drip=drip)

    with judge_server(answer) as server:
        arguments = ["--judge-model", "m", "--judge-url", server.url, "--judge-requests", "4"]
        arguments += ["--judge-cache", str(run.parent / "cache")]
        process = subprocess.Popen(
            [sys.executable, Path(__file__).parent.parent / "run_eval.py", "judge", run, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 60
        while len(server.requests) < 16 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        done = len(judged_lines(run))
        start = time.monotonic()
        process.send_signal(end)
        _, said = process.communicate(timeout=60)
        assert time.monotonic() - start < 5, "it waits for nobody"
    assert process.returncode == 128 + end and "answers so far are kept" in said and "Traceback" not in said
    assert done >= 3 and len(judged_lines(run)) == done


def test_rows_that_somebody_else_wrote_into_the_cache_are_no_answers(tmp_path: Path) -> None:
    """They may be anything: pickles, which run code, names of files elsewhere, or half a row."""
    import pickle
    import sqlite3

    marker, other = tmp_path / "marker", tmp_path / "other"
    other.write_text(json.dumps({"text": "X", "problem": "", "prompt_tokens": 1, "completion_tokens": 1}))

    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(marker),)

    asked = [{"role": "user", "content": "?"}]
    with judge_server(lambda _: Reply("B")) as server:
        for mode, name, value in (
            (4, None, pickle.dumps(Bomb())),
            (3, "../other", None),
            (1, None, '{"text": "X", "problem": "", "prompt_tokens": "1", "completion_tokens": 1}'),
            (1, None, '{"text": "X"'),
            (1, None, "[" * 100_000),
            (1, None, 7),
        ):
            with Endpoint("m", server.url, cache=tmp_path / "cache") as endpoint:
                endpoint.reply("key", asked, {})
            with sqlite3.connect(tmp_path / "cache" / "cache.db") as rows:
                rows.execute("UPDATE Cache SET mode = ?, filename = ?, value = ?", (mode, name, value))
            before = len(server.requests)
            with Endpoint("m", server.url, cache=tmp_path / "cache") as endpoint:
                assert endpoint.reply("key", asked, {}).text == "B"
                endpoint.forget(["key"])
            assert len(server.requests) == before + 1
    assert not marker.exists() and other.exists()

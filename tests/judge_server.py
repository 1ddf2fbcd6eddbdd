"""An OpenAI-compatible endpoint on this machine, whose answers a test decides."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """``text`` as a chat completion, or with another ``status`` an error of that ``code``; ``raw`` is sent as it is.

    It comes after ``wait`` seconds, and with ``drip`` so many bytes a second; ``message`` and ``usage`` add to its own.
    """

    text: str = ""
    status: int = 200
    code: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    finish: str = "stop"
    refusal: str | None = None
    raw: bytes | None = None
    prompt_tokens: int = 100
    completion_tokens: int = 10
    error: str = ""
    message: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] | None = field(default_factory=dict)
    model: str = "judge"
    wait: float = 0.0
    drip: float = 0.0

    def body(self) -> bytes:
        if self.raw is not None:
            return self.raw
        if self.status != 200:
            return json.dumps({"error": {"message": self.error or f"error {self.status}", "code": self.code}}).encode()
        message = {"role": "assistant", "content": self.text, "refusal": self.refusal, **self.message}
        total = self.prompt_tokens + self.completion_tokens
        usage = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}
        return json.dumps(
            {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": self.model,
                "choices": [{"index": 0, "message": message, "finish_reason": self.finish}],
                "usage": None if self.usage is None else {**usage, "total_tokens": total, **self.usage},
            }
        ).encode()


@dataclass
class JudgeServer:
    """``requests`` are the bodies received, ``times`` when, ``keys`` with which key; ``most`` were open at once."""

    answer: Callable[[dict[str, Any]], Reply]
    url: str = ""
    seconds: float = 0.0  # each request's
    requests: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    most: int = 0
    _open: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def handle(self, request: dict[str, Any], key: str) -> Reply:
        with self._lock:
            self.requests.append(request)
            self.times.append(time.monotonic())
            self.keys.append(key)
            self._open += 1
            self.most = max(self.most, self._open)
            reply = self.answer(request)
        time.sleep(self.seconds + reply.wait)
        with self._lock:
            self._open -= 1
        return reply


@contextmanager
def judge_server(answer: Callable[[dict[str, Any]], Reply], seconds: float = 0.0) -> Iterator[JudgeServer]:
    server = JudgeServer(answer, seconds=seconds)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.partition("?")[0] != "/v1/chat/completions":
                reply = Reply(status=404)
            else:
                reply = server.handle(json.loads(content), self.headers.get("Authorization", ""))
            body = reply.body()
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(OSError):  # a client may have given up
                if not reply.drip:
                    self.wfile.write(body)
                for byte in body if reply.drip else b"":
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(1 / reply.drip)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:  # a client may close what it has open
            pass

    httpd = Server(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{httpd.server_port}/v1"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()

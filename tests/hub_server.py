"""A server that speaks as much of the Hub's protocol as fetching a dataset takes, with real files behind it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

COMMIT = "c" * 40


@dataclass
class Hub:
    """One dataset repository, ``repo``, with the files below ``folder``.

    gated       only this token gets files
    cut_after   a file's name to the bytes after which its connection is cut, once
    hold_after  a file's name to the bytes after which nothing more is sent, once, until ``go_on`` is set
    elsewhere   large files are not sent but redirected to another host, as the Hub does
    lies        a file's name to the size that is stated of it
    says        what the API says instead of the truth: bytes, or a function of the description
    endless     files whose bodies have no end; "" for what the API says
    sent        bytes that were sent, by file
    asked       requests: (method, path, Range)
    """

    repo: str
    folder: Path
    gated: str | None = None
    elsewhere: bool = False
    cut_after: dict[str, int] = field(default_factory=dict)
    hold_after: dict[str, int] = field(default_factory=dict)
    go_on: threading.Event = field(default_factory=threading.Event)
    holding: threading.Event = field(default_factory=threading.Event)
    lies: dict[str, int] = field(default_factory=dict)
    says: bytes | Callable[[dict[str, Any]], Any] | None = None
    endless: tuple[str, ...] = ()
    sent: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    endpoint: str = ""
    branches: tuple[str, ...] = ("main",)

    def description(self) -> dict[str, Any]:
        siblings = []
        for path in sorted(self.folder.rglob("*")):
            if not path.is_file():
                continue
            name, content = path.relative_to(self.folder).as_posix(), path.read_bytes()
            size = self.lies.get(name, len(content))
            blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            entry: dict[str, Any] = {"rfilename": name, "size": size, "blobId": blob}
            if path.suffix not in (".json", ".jsonl", ".md", ".csv", ".txt"):
                entry["lfs"] = {"size": size, "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 130}
            siblings.append(entry)
        return {"id": self.repo, "sha": COMMIT, "private": False, "tags": [], "downloads": 0, "siblings": siblings}

    def tree(self) -> list[dict[str, Any]]:
        """The files and folders, as the API lists them."""
        below = sorted(self.folder.rglob("*"))
        listed = {path.relative_to(self.folder).as_posix(): path for path in below}
        return [
            {"type": "directory" if path.is_dir() else "file", "path": name, "oid": "0" * 40}
            | ({} if path.is_dir() else {"size": path.stat().st_size})
            for name, path in listed.items()
        ]

    @contextmanager
    def running(self) -> Iterator[Hub]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        server.daemon_threads = True
        server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # who is killed hangs up
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        """What is at some paths, as ``datasets`` asks before it reads a table: JSON, {"paths": [...]}."""
        path = unquote(urlsplit(self.path).path)
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        paths = [asked["paths"]] if isinstance(asked["paths"], str) else asked["paths"]
        self.hub.asked.append(("POST", path, None))
        if path != f"/api/datasets/{self.hub.repo}/paths-info/{COMMIT}":
            return self._refuse(404, "RevisionNotFound")
        self._send_json([entry for entry in self.hub.tree() if entry["path"] in paths])

    def do_GET(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.asked.append((self.command, path, self.headers.get("Range")))
        if path.startswith(tree := f"/api/datasets/{hub.repo}/tree/{COMMIT}"):
            below = path.removeprefix(tree).strip("/")
            return self._send_json([entry for entry in hub.tree() if entry["path"].startswith(below)])
        if path.startswith("/api/datasets/"):
            repo, _, revision = path.removeprefix("/api/datasets/").partition("/revision/")
            if repo != hub.repo:
                return self._refuse(401, "RepoNotFound")
            if revision and revision not in (*hub.branches, COMMIT):
                return self._refuse(404, "RevisionNotFound")
            if "" in hub.endless:
                return self._send_for_ever("")
            said = hub.description() if not callable(hub.says) else hub.says(hub.description())
            content = hub.says if isinstance(hub.says, bytes) else json.dumps(said).encode()
            return self._send(content, {"Content-Type": "application/json"})
        if path.startswith("/elsewhere/"):
            return self._file(path.removeprefix("/elsewhere/"))
        prefix = f"/datasets/{hub.repo}/resolve/{COMMIT}/"
        name = path.removeprefix(prefix)
        if not path.startswith(prefix) or not (hub.folder / name).is_file():
            return self._refuse(404, "EntryNotFound")
        if hub.gated is not None and self.headers.get("Authorization") != f"Bearer {hub.gated}":
            return self._refuse(403 if "Authorization" in self.headers else 401, "GatedRepo")
        if name in hub.endless:
            return self._send_for_ever(name)
        if hub.elsewhere:
            port = hub.endpoint.rpartition(":")[2]
            return self._refuse(302, "", {"Location": f"http://localhost:{port}/elsewhere/{quote(name)}?signature=1"})
        self._file(name)

    def _send_json(self, value: object) -> None:
        self._send(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str) -> None:
        if "Authorization" in self.headers and self.hub.elsewhere:
            return self._refuse(400, "")  # a token has leaked to another host
        content = (self.hub.folder / name).read_bytes()
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if begin >= len(content) > 0:
            return self._refuse(416, "")
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self._send(content[begin:], headers, 206 if begin else 200, name)

    def _send(self, content: bytes, headers: dict[str, str], status: int = 200, name: str = "") -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        hold, cut = self.hub.hold_after.pop(name, None), self.hub.cut_after.pop(name, None)
        part = content if hold is None and cut is None else content[: hold or cut]
        if self.command == "HEAD":
            return
        self.wfile.write(part)
        self.wfile.flush()
        if name:
            self.hub.sent[name] = self.hub.sent.get(name, 0) + len(part)
        if hold is not None:
            self.hub.holding.set()
            self.hub.go_on.wait(30)
        self.close_connection = len(part) < len(content)

    def _send_for_ever(self, name: str) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        while not self.hub.go_on.is_set():  # until who asked hangs up, which raises
            self.wfile.write(bytes(2**16))
            self.hub.sent[name] = self.hub.sent.get(name, 0) + 2**16

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass

"""The Hub's REST API and one user's servers, as far as the ``jhssh`` command asks them with the user's own token."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "0123456789abcdef0123456789abcdef"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKMwN5GLUYHBuuccH/ktWGtqzGbKjwGznVr8VvbMBPHS"


class FakeHub:
    """State that a test may change at any time."""

    def __init__(self) -> None:
        self.url = ""
        self.version = "6.1.1"
        self.servers: dict[str, dict[str, Any]] = {"": {"ready": True, "pending": None}}
        self.status: tuple[int, Any] = (200, {"tunnel": {"enabled": True, "user": "jovyan", "host_keys": [HOST_KEY]}})
        self.keys: list[str] = []
        self.starts: list[Any] = []
        self.requests: list[tuple[str, str, str]] = []
        """method, path, Authorization"""

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/hub/api/":
            return 200, {"version": self.version}
        if path == "/hub/api/user":
            return 200, {"name": "alice", "servers": {}}
        if path == "/hub/api/users/alice?include_stopped_servers":
            return 200, {"name": "alice", "servers": self.servers}
        if path.startswith("/hub/api/users/alice/servers/"):
            return self._change(method, unquote(path.rpartition("/")[2]), body)
        if path.startswith("/user/alice/"):
            return self._server(method, path.rpartition("/")[2], body)
        return 404, {"message": "Not Found"}

    def _change(self, method: str, name: str, body: Any) -> tuple[int, Any]:
        server = self.servers.setdefault(name, {"ready": False, "pending": None})
        if method == "POST":
            self.starts.append(body)
            server["pending"] = "spawn"
            threading.Timer(0.2, server.update, kwargs={"pending": None, "ready": True}).start()
            return 202, None
        server.update(ready=False, pending=None)
        return 204, None

    def _server(self, method: str, what: str, body: Any) -> tuple[int, Any]:
        if what == "status":
            return self.status
        if what == "publickey" and method == "GET":
            return 200, {"keys": [self._key(line) for line in self.keys], "ignored": []}
        if what == "publickey":
            self.keys.append(body["public_key"])
            return 201, {"keys": [self._key(body["public_key"])]}
        self.keys.clear()
        return 204, None

    def _key(self, line: str) -> dict[str, Any]:
        return {"fingerprint": "SHA256:x", "type": "ssh-ed25519", "comment": "c", "public_key": line, "source": "file"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeHub

    def log_message(self, *_arguments: Any) -> None:
        pass

    def _serve(self) -> None:
        authorization = self.headers.get("Authorization", "")
        self.fake.requests.append((self.command, self.path, authorization))
        raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if authorization != f"token {TOKEN}" and self.path != "/hub/api/":
            status, body = 403, {"message": "Forbidden"}
        else:
            status, body = self.fake.answer(self.command, self.path, json.loads(raw) if raw else None)
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815  the base class's names


@contextmanager
def running() -> Iterator[FakeHub]:
    """At ``fake.url``, on loopback."""
    fake = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": fake}))
    server.daemon_threads = True
    fake.url = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

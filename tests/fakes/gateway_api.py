"""The gateway's JSON API for the ``jhssh`` command, strict: what it does not expect is answered 400, and noted."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jhssh_ext.errors import KeyRefused
from jhssh_ext.public_keys import parse_lines

PREFIX = "/services/ssh/"
HANDLE, CODE, NUMBER = "h" * 43, "BCDF-GHJK", "123456"
LOGIN_MESSAGE = "This token has expired. Run: jhssh login"


class FakeGateway:
    """State that a test may change at any time."""

    def __init__(self) -> None:
        self.url = ""
        self.user = "alice"
        self.link = ""
        """shown to the user; empty: the right one"""
        self.approval = "number"
        """what becomes of a login: ``number``, ``denied``, ``expired``, ``waiting``, or ``away`` once, then ``number``"""
        self.tokens: dict[str, str] = {}
        """token → ``good`` or ``TOKEN_EXPIRED``"""
        self.expires = int(time.time()) + 30 * 86400
        self.revoked: list[str] = []
        self.clients: list[str] = []
        self.keys: dict[str, dict[str, Any]] = {}
        self.connect: dict[str, Any] = {"host": "", "port": 22, "published": False, "host_keys": [], "tunnel": ""}
        self.servers: dict[str, dict[str, Any]] = {"": self.server("")}
        self.started: list[dict[str, Any]] = []
        self._after_a_look: list[Callable[[], None]] = []
        self.start_fails = ""
        """the message of starts that fail"""
        self.health: tuple[int, Any] = (200, {"status": "ok"})
        self.answers: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        """path below the prefix → what is answered in place of the truth"""
        self.complaints: list[str] = []
        self.paths: list[str] = []
        self.authorizations: list[str] = []

    def server(self, name: str, **changes: Any) -> dict[str, Any]:
        model = {
            "name": name,
            "login_name": f"{self.user}+{name}" if name else self.user,
            "ready": False,
            "pending": None,
            "ssh": None,
            "url": f"https://hub.example.org/user/{self.user}/{name}",
        }
        return {**model, **changes}

    def new_token(self) -> str:
        token = f"jhssh_{len(self.tokens):043d}"
        self.tokens[token] = "good"
        return token

    def me(self) -> dict[str, Any]:
        """What is pending has been seen so once; then it is over."""
        told = {
            "user": self.user,
            "expires": self.expires,
            "separator": "+",
            "connect": self.connect,
            "servers": [dict(self.servers[name]) for name in sorted(self.servers)],
        }
        acts, self._after_a_look = self._after_a_look, []
        for act in acts:
            act()
        return told

    # each answer is (status, body)

    def login(self, body: Any) -> tuple[int, Any]:
        self.clients.append(body["client"])
        link = self.link or f"{self.url}{PREFIX}login"
        return 201, {"request": HANDLE, "code": CODE, "link": link, "expires_in": 300, "interval": 0.2}

    def answer(self, body: Any) -> tuple[int, Any]:
        if body["request"] != HANDLE or not set(body) <= {"request", "number"}:
            return 403, {"message": "No such login.", "code": "APPROVAL_DENIED"}
        if self.approval == "away":
            self.approval = "number"
            return 502, None
        if self.approval == "number" and "number" not in body:
            return 202, {"status": "number"}
        if self.approval == "number" and body["number"] != NUMBER:
            return 202, {"status": "number", "message": "This is not the number that the browser shows."}
        if self.approval == "denied":
            return 403, {"message": "This login was denied in the browser.", "code": "APPROVAL_DENIED"}
        if self.approval == "expired":
            return 410, {"message": "Nobody approved this login in time.", "code": "APPROVAL_EXPIRED"}
        if self.approval == "waiting":
            return 202, {"status": "waiting"}
        return 200, {"token": self.new_token(), "user": self.user, "expires": self.expires}

    def add_keys(self, body: Any) -> tuple[int, Any]:
        try:
            keys = parse_lines(body["public_key"])
        except KeyRefused as error:
            return 422, {"message": error.sentence, "code": error.code}
        new = [key for key in keys if key.fingerprint not in self.keys]
        if not new:
            return 409, {"message": "This key is already registered.", "code": "KEY_DUPLICATE"}
        for key in new:
            self.keys[key.fingerprint] = {
                "fingerprint": key.fingerprint,
                "type": key.type,
                "comment": key.comment,
                "public_key": key.line,
                "source": "page",
                "server": None,
                "last_used": None,
            }
        return 201, {"keys": [self.keys[key.fingerprint] for key in new]}

    def remove_key(self, fingerprint: str) -> tuple[int, Any]:
        key = self.keys.get(fingerprint)
        if key is None:
            return 404, {"message": "There is no such key.", "code": "KEY_UNKNOWN"}
        if key["source"] != "page":
            return 409, {"message": "This key is registered on that server: remove it there.", "code": "KEY_ELSEWHERE"}
        del self.keys[fingerprint]
        return 204, None

    def start(self, body: Any) -> tuple[int, Any]:
        if not set(body) <= {"server", "options"} or body["server"] not in self.servers:
            return 404, {"message": "You have no server of that name.", "code": "NOT_FOUND"}
        self.started.append(body)
        server = self.servers[body["server"]]
        server |= {"pending": "spawn", "message": "Pulling the image"}
        self._after_a_look.append(lambda: self._started(server))
        return 202, {"status": "accepted"}

    def _started(self, server: dict[str, Any]) -> None:
        if self.start_fails:
            server.update(pending=None, message=self.start_fails)
        else:
            server.update(pending=None, ready=True, ssh=True, message="")

    def stop(self, body: Any) -> tuple[int, Any]:
        server = self.servers[body["server"]]
        server.update(ready=False, ssh=None, pending="stop")
        self._after_a_look.append(lambda: server.update(pending=None))
        return 202, {"status": "accepted"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeGateway

    def log_message(self, *_arguments: Any) -> None:
        pass

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _serve(self) -> None:
        fake = self.fake
        fake.paths.append(f"{self.command} {self.path}")
        fake.authorizations.append(self.headers.get("Authorization", ""))
        raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if not self.path.startswith(PREFIX):
            self._send(404, b"<html>no such page</html>")
            return
        path = self.path.removeprefix(PREFIX)
        if path in fake.answers:
            self._send(*fake.answers[path])
            return
        try:
            self._send(*self._answer(path, json.loads(raw) if raw else None))
        except (ValueError, KeyError, TypeError) as error:
            fake.complaints.append(f"{self.command} {path}: {error!r}")
            self._send(400, {"message": "That is no request.", "code": "BAD_REQUEST"})

    def _answer(self, path: str, body: Any) -> tuple[int, Any]:
        fake = self.fake
        open_ways = {("GET", "health"): lambda: fake.health, ("POST", "api/login"): lambda: fake.login(body)}
        open_ways[("POST", "api/login/answer")] = lambda: fake.answer(body)
        if (self.command, path) in open_ways:
            return open_ways[self.command, path]()
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        state = fake.tokens.get(token) if scheme == "Bearer" else None
        if state != "good":
            return 401, {"message": LOGIN_MESSAGE, "code": state or "TOKEN_INVALID"}
        if self.command == "DELETE" and path == "api/token":
            fake.revoked.append(token)
            del fake.tokens[token]
            return 204, None
        if self.command == "DELETE" and path.startswith("api/keys/") and "/" not in path.removeprefix("api/keys/"):
            return fake.remove_key(unquote(path.removeprefix("api/keys/")))
        ways = {
            ("GET", "api/me"): lambda: (200, fake.me()),
            ("GET", "api/keys"): lambda: (200, {"keys": list(fake.keys.values())}),
            ("POST", "api/keys"): lambda: fake.add_keys(body),
            ("POST", "api/servers/start"): lambda: fake.start(body),
            ("POST", "api/servers/stop"): lambda: fake.stop(body),
        }
        return ways[self.command, path]()

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815  the base class's names


@contextmanager
def running(certificate: Path | None = None) -> Iterator[FakeGateway]:
    """At ``fake.url``, on loopback; by TLS with a PEM file of key and certificate."""
    fake = FakeGateway()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": fake}))
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    fake.url = f"http{'s' if certificate else ''}://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

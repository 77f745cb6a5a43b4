from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from jhssh_ext import __version__
from jhssh_ext.errors import HubUnavailable
from jhssh_ext.gateway.authenticate.registered_keys import RegisteredKeys
from jhssh_ext.gateway.connect.hub_client import HubClient
from jhssh_ext.gateway.connect.hub_models import ServerModel, TokenModel, UserModel
from jhssh_ext.gateway.observe.metrics import Metrics
from jhssh_ext.gateway.web.api import MAX_CHECKS, APIHandler
from jhssh_ext.gateway.web.app import Health, make_app
from jhssh_ext.login_names import UserServer


class FakeHub(HubClient):
    """Knows tokens by name."""

    def __init__(self) -> None:
        self.tokens = {
            "alice-server": TokenModel("alice", "user", frozenset({"access:servers!server=alice/"})),
            "alice-gpu": TokenModel("alice", "user", frozenset({"access:servers!server=alice/gpu"})),
            "alice-all": TokenModel("alice", "user", frozenset({"access:servers!user=alice"})),
            "alice-identify": TokenModel("alice", "user", frozenset({"read:users:name!user=alice"})),
            "bob": TokenModel("bob", "user", frozenset({"access:servers!user=bob", "access:servers!server=alice/"})),
            "service": TokenModel("alice", "service", frozenset({"access:servers"})),
        }
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def identify(self, token: str) -> TokenModel | None:
        self.asked.append(token)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.tokens.get(token)

    async def user(self, name: str) -> UserModel | None:
        if self.error is not None:
            raise self.error
        servers = {server: ServerModel(server, ready=True, pending=None) for server in ("", "gpu")}
        return UserModel(name, servers) if name in ("alice", "bob") else None


class FakeKeys(RegisteredKeys):
    """Notes what is to be fetched."""

    def __init__(self, fetched: asyncio.Queue[UserServer]) -> None:
        super().__init__([])
        self._fetched = fetched
        self.expired: list[UserServer] = []

    async def expire(self, target: UserServer) -> None:
        self.expired.append(target)

    async def refresh(self, target: UserServer) -> None:
        self._fetched.put_nowait(target)


class Site:
    """The gateway's HTTP side on loopback, and what it did."""

    def __init__(self, prefix: str = "/services/ssh/", *, wired: bool = True, **keywords: Any) -> None:
        self.hub, self.health, self.metrics = FakeHub(), Health(), Metrics()
        self.fetched: asyncio.Queue[UserServer] = asyncio.Queue()

        self.keys = keys = FakeKeys(self.fetched)
        self.app = make_app(
            prefix,
            health=self.health,
            metrics=self.metrics,
            hub=self.hub if wired else None,
            keys=keys if wired else None,
            **keywords,
        )
        sockets = bind_sockets(0, "127.0.0.1")
        self.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        self.server = HTTPServer(self.app)
        self.server.add_sockets(sockets)
        self.client = AsyncHTTPClient(force_instance=True, max_clients=100)

    async def fetch(self, path: str, method: str = "GET", body: str | bytes | None = None, **headers: str) -> HTTPResponse:
        return await self.client.fetch(
            self.url + path, method=method, body=body, headers=headers, raise_error=False, follow_redirects=False
        )

    async def push(self, token: str | None, body: Any, **headers: str) -> HTTPResponse:
        if token is not None:
            headers["Authorization"] = f"token {token}"
        text = body if isinstance(body, (str, bytes)) else json.dumps(body)
        return await self.fetch("/services/ssh/api/keys-changed", "POST", text, **headers)

    async def close(self) -> None:
        self.client.close()
        self.server.stop()
        await self.server.close_all_connections()
        refresher = self.app.settings["refresher"]
        if refresher is not None:
            await refresher.close()


@asynccontextmanager
async def site(prefix: str = "/services/ssh/", **keywords: Any) -> AsyncIterator[Site]:
    made = Site(prefix, **keywords)
    try:
        yield made
    finally:
        await made.close()


DEFAULT, GPU = {"user": "alice", "server": ""}, {"user": "alice", "server": "gpu"}


@pytest.mark.asyncio
async def test_health_says_why_it_is_not_well() -> None:
    async with site() as web:
        answer = await web.fetch("/services/ssh/health")
        assert (answer.code, json.loads(answer.body)) == (200, {"status": "ok", "version": __version__})
        web.health.fail("SSH port 22: Permission denied\x1b[2J")
        answer = await web.fetch("/services/ssh/health")
        assert answer.code == 503
        assert json.loads(answer.body) == {
            "status": "unavailable",
            "cause": "SSH port 22: Permission denied [2J",
            "version": __version__,
        }
        web.health.recover()
        assert (await web.fetch("/services/ssh/health", "HEAD")).code == 200


@pytest.mark.asyncio
async def test_metrics_are_in_prometheus_format() -> None:
    async with site() as web:
        web.metrics.login("password", "OK")
        answer = await web.fetch("/services/ssh/metrics")
        assert answer.code == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        assert b'jhssh_logins_total{method="password",outcome="OK"} 1.0' in answer.body


@pytest.mark.parametrize("prefix", ["/services/ssh/", "/hub%20base/services/a.b/", "/"])
@pytest.mark.asyncio
async def test_everything_is_under_the_prefix_alone(prefix: str) -> None:
    async with site(prefix) as web:
        assert (await web.fetch(prefix.rstrip("/") + "/health")).code == 200
        answer = await web.fetch("/elsewhere/health")
        assert (answer.code, json.loads(answer.body)) == (404, {"message": "There is no such page.", "code": "NOT_FOUND"})


@pytest.mark.asyncio
async def test_the_page_tells_what_to_type() -> None:
    async with site(ssh_host="<b>ssh.example.org", ssh_port=2222) as web:
        answer = await web.fetch("/services/ssh/")
        text = answer.body.decode()
        assert answer.code == 200
        assert "ssh -p 2222 USER@&lt;b&gt;ssh.example.org" in text
        assert "<script" not in text
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        web.health.fail("secret cause")
        assert b"secret cause" not in (await web.fetch("/services/ssh/")).body
    async with site(ssh_host="ssh.example.org", ssh_port=22) as web:
        assert b"ssh USER@ssh.example.org" in (await web.fetch("/services/ssh")).body
    async with site() as web:
        assert b"ssh_host" in (await web.fetch("/services/ssh/")).body


@pytest.mark.parametrize(
    ("token", "body"), [("alice-server", DEFAULT), ("alice-gpu", GPU), ("alice-all", GPU), ("alice-all", DEFAULT)]
)
@pytest.mark.asyncio
async def test_a_push_makes_the_gateway_fetch_that_servers_keys(token: str, body: dict[str, str]) -> None:
    async with site() as web:
        answer = await web.push(token, body)
        assert answer.code == 202
        assert await asyncio.wait_for(web.fetched.get(), 30) == UserServer(body["user"], body["server"])


@pytest.mark.parametrize(
    ("token", "body"),
    [
        (None, DEFAULT),
        ("", DEFAULT),
        ("wrong", DEFAULT),
        ("a b", DEFAULT),
        ("alice-server", GPU),
        ("alice-gpu", DEFAULT),
        ("alice-identify", DEFAULT),
        ("bob", DEFAULT),
        ("service", DEFAULT),
        ("alice-server", {"user": "bob", "server": ""}),
    ],
)
@pytest.mark.asyncio
async def test_a_push_for_a_server_that_is_not_the_tokens_own_is_refused(token: str | None, body: dict[str, str]) -> None:
    async with site() as web:
        answer = await web.push(token, body)
        assert answer.code == 403
        assert json.loads(answer.body)["code"] == "TOKEN_INVALID"
        assert web.fetched.empty()


@pytest.mark.asyncio
async def test_cookies_and_urls_authorise_nothing() -> None:
    async with site() as web:
        answer = await web.push(None, DEFAULT, Cookie="jupyterhub-services=alice-all; _xsrf=1")
        assert answer.code == 403
        answer = await web.fetch("/services/ssh/api/keys-changed?token=alice-all", "POST", json.dumps(DEFAULT))
        assert answer.code == 403
        assert web.hub.asked == []


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        b"\xff\xfe",
        "[" * 4000,
        {"user": "alice"},
        {"server": ""},
        {"user": "", "server": ""},
        {"user": 1, "server": ""},
        {"user": "alice", "server": None},
        {"user": "alice", "server": "", "keys": []},
        {"user": "a" * 256, "server": ""},
        {"user": "alice", "server": "a" * 256},
        {"user": "alice", "server": "\ud800"},
        {"user": "alice", "server": "\0"},
        {"user": "alice", "server": "a\nb"},
        {"user": "alice", "server": "a/b"},
        {"user": "al\udcffice", "server": ""},
        {"user": "..", "server": ""},
    ],
)
@pytest.mark.asyncio
async def test_a_body_of_another_shape_is_refused_before_anyone_is_asked(body: Any) -> None:
    async with site() as web:
        answer = await web.push("alice-all", body)
        assert (answer.code, json.loads(answer.body)["code"]) == (400, "BODY_MALFORMED")
        assert web.hub.asked == []


@pytest.mark.asyncio
async def test_a_large_body_is_refused() -> None:
    async with site() as web:
        answer = await web.push("alice-all", json.dumps(DEFAULT) + " " * 4096)
        assert (answer.code, json.loads(answer.body)["code"]) == (413, "BODY_TOO_LARGE")


@pytest.mark.asyncio
async def test_other_methods_are_errors_in_json() -> None:
    async with site() as web:
        answer = await web.fetch("/services/ssh/api/keys-changed")
        assert (answer.code, json.loads(answer.body)) == (405, {"message": "Method Not Allowed", "code": "HTTP_ERROR"})


@pytest.mark.asyncio
async def test_a_hub_that_is_away_is_not_a_wrong_token() -> None:
    async with site() as web:
        web.hub.error = HubUnavailable()
        answer = await web.push("alice-all", DEFAULT)
        assert (answer.code, json.loads(answer.body)["code"]) == (503, "HUB_UNAVAILABLE")


@pytest.mark.asyncio
async def test_a_gateway_that_could_not_be_wired_says_so() -> None:
    async with site(wired=False) as web:
        answer = await web.push("alice-all", DEFAULT)
        assert (answer.code, json.loads(answer.body)["code"]) == (503, "UNAVAILABLE")


@pytest.mark.asyncio
async def test_a_flood_of_tokens_does_not_reach_the_hub() -> None:
    async with site() as web:
        web.hub.gate.clear()
        pushes = [asyncio.create_task(web.push(f"token{number}", DEFAULT)) for number in range(MAX_CHECKS + 10)]
        done, _ = await asyncio.wait(pushes, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 10:
            done, _ = await asyncio.wait(pushes, timeout=0.05)
        assert {push.result().code for push in done} == {429}
        assert len(web.hub.asked) == MAX_CHECKS
        web.hub.gate.set()
        answers = await asyncio.gather(*pushes)
        assert sorted({answer.code for answer in answers}) == [403, 429]
        assert APIHandler.checks == 0


@pytest.mark.asyncio
async def test_a_push_for_a_server_that_there_is_not_touches_nothing() -> None:
    async with site() as web:
        answer = await web.push("alice-all", {"user": "alice", "server": "none"})
        assert (answer.code, json.loads(answer.body)["code"]) == (403, "TOKEN_INVALID")
        assert web.keys.expired == []
        assert (await web.push("alice-all", GPU)).code == 202
        assert web.keys.expired == [UserServer("alice", "gpu")]


@pytest.mark.asyncio
async def test_what_cannot_be_done_now_is_sent_again_later() -> None:
    async with site() as web:
        await web.app.settings["refresher"].close()
        answer = await web.push("alice-all", DEFAULT)
        assert (answer.code, json.loads(answer.body)["code"], answer.headers["Retry-After"]) == (503, "SHUTTING_DOWN", "10")
        assert web.keys.expired == []


@pytest.mark.asyncio
async def test_an_error_of_ours_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with site() as web:
        web.hub.error = RuntimeError("secret")
        answer = await web.push("alice-all", DEFAULT)
        assert (answer.code, json.loads(answer.body)) == (500, {"message": "Internal Server Error", "code": "HTTP_ERROR"})
        assert "secret" in caplog.text

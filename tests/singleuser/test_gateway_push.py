from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from jhssh_ext.singleuser import gateway_push
from jhssh_ext.singleuser.gateway_push import GatewayPush

LOG = logging.getLogger("test_gateway_push")


@dataclass
class Gateway:
    """What came in; answers with the statuses given, then with 202."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    requests: asyncio.Queue[tuple[str, Any]] = field(default_factory=asyncio.Queue)

    async def asked(self) -> tuple[str, Any]:
        return await asyncio.wait_for(self.requests.get(), 30)


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[Gateway]:
    found = Gateway()

    class KeysChanged(RequestHandler):
        def post(self) -> None:
            found.requests.put_nowait((self.request.headers["Authorization"], json.loads(self.request.body)))
            self.set_status(found.statuses.pop(0) if found.statuses else 202)
            if self.get_status() == 302:
                self.set_header("Location", found.url + "elsewhere")

    class Elsewhere(RequestHandler):
        def get(self) -> None:
            found.requests.put_nowait(("followed a redirect", None))

    socket, port = bind_unused_port()
    server = HTTPServer(Application([("/services/ssh/api/keys-changed", KeysChanged), ("/services/ssh/elsewhere", Elsewhere)]))
    server.add_sockets([socket])
    found.url = f"http://127.0.0.1:{port}/services/ssh/"
    yield found
    server.stop()
    await server.close_all_connections()


@dataclass
class Clock:
    """Sleeps end when the test says so, or at once."""

    slept: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


def push_to(gateway: Gateway, state: list[int], **kwargs: Any) -> GatewayPush:
    return GatewayPush(
        gateway_url=gateway.url,
        api_token="secret-token",
        user="a b",
        server="gpu",
        state=lambda: state[0],
        interval=0.01,
        log=LOG,
        **kwargs,
    )


@pytest.mark.asyncio
async def test_tells_at_start_and_at_each_change(gateway: Gateway) -> None:
    state = [0]
    push = push_to(gateway, state)
    push.start()
    try:
        expected = ("token secret-token", {"user": "a b", "server": "gpu"})
        assert await gateway.asked() == expected
        state[0] += 1
        assert await gateway.asked() == expected
        await push.keys_changed()
        assert gateway.requests.get_nowait() == expected, "the gateway knows when a change is done"
    finally:
        await push.stop()
    assert gateway.requests.empty()


@pytest.mark.asyncio
async def test_a_change_does_not_wait_for_a_gateway_that_fails(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_push, "PATIENCE", 3600)
    gateway.statuses = [500] * 10000
    push = push_to(gateway, [0], sleep=Clock().sleep)
    push.start()
    try:
        await gateway.asked()
        await gateway.asked()
        await asyncio.wait_for(push.keys_changed(), 30)
    finally:
        await push.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [403, 500, 302])
async def test_tries_again_ever_more_slowly_until_it_is_taken(
    gateway: Gateway, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.statuses = [status] * 8
    clock = Clock()
    push = push_to(gateway, [0])
    push._sleep = clock.sleep
    push._watch = lambda: asyncio.sleep(0)  # type: ignore[method-assign, assignment]
    push.start()
    try:
        for _ in range(9):
            assert (await gateway.asked())[0] == "token secret-token"
    finally:
        await push.stop()
    assert clock.slept == [1, 2, 4, 8, 16, 32, 60, 60]
    assert "secret-token" not in caplog.text
    assert [record.name for record in caplog.records if record.levelno >= logging.WARNING].count(LOG.name) == 1


@pytest.mark.asyncio
async def test_outlasts_a_gateway_that_is_away(gateway: Gateway) -> None:
    tried: asyncio.Queue[float] = asyncio.Queue()
    url, gateway.url = gateway.url, "http://127.0.0.1:1/"

    async def sleep(seconds: float) -> None:
        tried.put_nowait(seconds)
        await asyncio.sleep(0.01)

    push = push_to(gateway, [0])
    push._sleep = sleep
    push._watch = lambda: asyncio.sleep(0)  # type: ignore[method-assign, assignment]
    push.start()
    try:
        assert await asyncio.wait_for(tried.get(), 30) == 1
        push._url = url + "api/keys-changed"
        assert await gateway.asked()
    finally:
        await push.stop()


@pytest.mark.asyncio
async def test_stop_without_start_does_nothing(gateway: Gateway) -> None:
    await push_to(gateway, [0]).stop()
    assert gateway.requests.empty()

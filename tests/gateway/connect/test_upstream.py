"""Which failure ends the search for a way, and which leads to the next one. Real connections are tests/routes' and others'."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import asyncssh
import pytest

from jhssh_ext.errors import HostKeyMismatch, ServerUnreachable
from jhssh_ext.gateway.connect.routes import AUTO, DIRECT, WEBSOCKET, Routes
from jhssh_ext.gateway.connect.upstream import Upstream

from .test_server_tunnel import TARGET, state

STATE = state(1)
CONNECTED: Any = object()
MISMATCH = asyncssh.HostKeyNotVerifiable("not the key")


class Tried(Upstream):
    """``outcomes``: what each way comes to, the last of them for ever."""

    def __init__(self, route: str = AUTO, *, timeout: float = 0.0, **outcomes: list[Any]) -> None:
        super().__init__(None, Routes(route, ping_interval=30), timeout=timeout)  # type: ignore[arg-type]
        self.outcomes, self.tried = outcomes, list[str]()

    async def _try(self, way: str, target: Any, state: Any) -> Any:
        self.tried.append(way)
        outcomes = self.outcomes[way]
        outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "failure", [ConnectionRefusedError(), asyncio.TimeoutError(), asyncssh.ConnectionLost("reset"), MISMATCH], ids=repr
)
async def test_the_next_way_is_taken_told_and_remembered(
    failure: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("jhssh"), "propagate", True)
    caplog.set_level(logging.INFO, "jhssh.upstream")
    upstream = Tried(direct=[failure], websocket=[CONNECTED])
    for _ in range(2):
        assert await upstream.connect(TARGET, STATE) is CONNECTED
    assert upstream.tried == [DIRECT, WEBSOCKET, WEBSOCKET]
    (message,) = [record.getMessage() for record in caplog.records]
    assert "alice/gpu is reached at http://127.0.0.1:1/user/alice/gpu/jhssh/tunnel, after 127.0.0.1:1: " in message


@pytest.mark.asyncio
async def test_a_way_that_no_longer_works_is_left() -> None:
    upstream = Tried(direct=[OSError(), CONNECTED], websocket=[CONNECTED, OSError()])
    for _ in range(3):
        assert await upstream.connect(TARGET, STATE) is CONNECTED
    assert upstream.tried == [DIRECT, WEBSOCKET, WEBSOCKET, DIRECT, DIRECT]


@pytest.mark.asyncio
async def test_a_server_that_listens_soon_is_waited_for() -> None:
    upstream = Tried(timeout=20, direct=[OSError(), OSError(), CONNECTED], websocket=[OSError()])
    assert await upstream.connect(TARGET, STATE) is CONNECTED
    assert upstream.tried == [DIRECT, WEBSOCKET, DIRECT, WEBSOCKET, DIRECT]


@pytest.mark.asyncio
async def test_the_admin_is_told_of_each_way() -> None:
    upstream = Tried(direct=[ConnectionRefusedError(111, "refused")], websocket=[OSError("HTTP 404 \x1b[31m")])
    with pytest.raises(ServerUnreachable) as caught:
        await upstream.connect(TARGET, STATE)
    explanation = caught.value.explanation
    assert "127.0.0.1:1: ConnectionRefusedError: [Errno 111] refused" in explanation
    assert "/user/alice/gpu/jhssh/tunnel: OSError: HTTP 404" in explanation
    assert "\x1b" not in explanation


@pytest.mark.asyncio
@pytest.mark.parametrize("other", [OSError("refused"), MISMATCH], ids=repr)
async def test_another_host_key_is_told_at_once_where_no_way_is_left(other: Exception) -> None:
    for outcomes in ({"direct": [MISMATCH], "websocket": [other]}, {"direct": [other], "websocket": [MISMATCH]}):
        with pytest.raises(HostKeyMismatch):
            await Tried(timeout=100, **outcomes).connect(TARGET, STATE)


@pytest.mark.asyncio
async def test_a_refused_certificate_is_told_at_once() -> None:
    with pytest.raises(ServerUnreachable, match="refused the gateway's certificate"):
        await Tried(timeout=100, direct=[asyncssh.PermissionDenied("no")], websocket=[CONNECTED]).connect(TARGET, STATE)

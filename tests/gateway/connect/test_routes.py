from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from jhssh_ext.gateway.connect import routes as module
from jhssh_ext.gateway.connect.routes import AUTO, DIRECT, WEBSOCKET, Routes

from .test_server_tunnel import TARGET, hostile, says, state

STATE = state(1)


def test_a_way_that_was_chosen_is_the_only_one() -> None:
    for way in (DIRECT, WEBSOCKET):
        routes = Routes(way, ping_interval=30)
        routes.worked(WEBSOCKET, STATE)
        assert routes.ways(STATE) == (way,)


def test_what_worked_comes_first_for_a_while_and_for_that_spawn_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    routes, other = Routes(AUTO, ping_interval=30), replace(STATE, spawn="2")
    assert routes.ways(STATE) == (DIRECT, WEBSOCKET)
    routes.worked(DIRECT, STATE)
    assert routes.ways(STATE) == (DIRECT, WEBSOCKET)
    routes.worked(WEBSOCKET, STATE)
    assert (routes.ways(STATE), routes.ways(other)) == ((WEBSOCKET, DIRECT), (DIRECT, WEBSOCKET))
    routes.worked(DIRECT, STATE)
    assert routes.ways(STATE) == (DIRECT, WEBSOCKET)
    routes.worked(WEBSOCKET, STATE)
    clock[0] += module.REMEMBERED_FOR + 1
    assert routes.ways(STATE) == (DIRECT, WEBSOCKET)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    routes = Routes(AUTO, ping_interval=30)
    for spawn in ("1", "2", "1", "3"):
        routes.worked(WEBSOCKET, replace(STATE, spawn=spawn))
    assert [routes.ways(replace(STATE, spawn=spawn))[0] for spawn in "123"] == [WEBSOCKET, DIRECT, WEBSOCKET]


@pytest.fixture
def silent() -> Iterator[int]:
    """A port behind which nothing answers, not even with a refusal: its backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        address = listening.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        yield address[1]
        for each in waiting:
            each.close()


@pytest.mark.asyncio
@pytest.mark.slow
async def test_where_there_is_another_way_the_direct_one_is_not_waited_for(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIRECT_TIMEOUT", 0.2)
    there = replace(STATE, port=silent)
    with pytest.raises(asyncio.TimeoutError):
        await Routes(AUTO, ping_interval=30).connect(DIRECT, asyncio.Protocol, TARGET, there)
    patient = Routes(DIRECT, ping_interval=30).connect(DIRECT, asyncio.Protocol, TARGET, there)
    _, waiting = await asyncio.wait([task := asyncio.create_task(patient)], timeout=1)
    assert waiting == {task}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.asyncio
async def test_a_websocket_that_is_refused_is_told() -> None:
    async with hostile(says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")) as there:
        with pytest.raises(OSError, match="HTTP 403"):
            await Routes(WEBSOCKET, ping_interval=30).connect(WEBSOCKET, asyncio.Protocol, TARGET, there)

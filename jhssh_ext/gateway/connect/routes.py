"""Which way leads to a user server, TCP to its sshd (direct) or a WebSocket to its extension; and which of them worked before."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from ...login_names import UserServer
from ...payloads import ServerState
from .server_tunnel import open_tunnel

DIRECT, WEBSOCKET, AUTO = "direct", "websocket", "auto"
ROUTES = (AUTO, DIRECT, WEBSOCKET)
DIRECT_TIMEOUT = 3.0
"""seconds that a TCP connection may take where there is another way"""
MAX_REMEMBERED = 10_000
REMEMBERED_FOR = 600.0
"""seconds until the direct way is tried again where it failed: what was in its way may be gone"""

P = TypeVar("P", bound=asyncio.Protocol)


class Routes:
    """``route``: one of ROUTES."""

    def __init__(self, route: str, *, ping_interval: float) -> None:
        self._route, self._ping_interval = route, ping_interval
        self._by_websocket: OrderedDict[str, float] = OrderedDict()
        """ids of spawns that only a WebSocket reached, oldest first → until when (monotonic) that counts"""

    def ways(self, state: ServerState) -> tuple[str, ...]:
        """To be tried in this order."""
        if self._route != AUTO:
            return (self._route,)
        if self._by_websocket.get(state.spawn, 0.0) > time.monotonic():
            return (WEBSOCKET, DIRECT)
        return (DIRECT, WEBSOCKET)

    async def connect(self, way: str, make: Callable[[], P], target: UserServer, state: ServerState) -> P:
        """A protocol whose transport leads to the server's sshd. Raises OSError or asyncio.TimeoutError."""
        loop = asyncio.get_running_loop()
        if way == WEBSOCKET:
            tunnel = await open_tunnel(state, target, ping_interval=self._ping_interval)
            return (await loop.create_connection(make, sock=tunnel))[1]
        timeout = DIRECT_TIMEOUT if self._route == AUTO else None
        return (await asyncio.wait_for(loop.create_connection(make, state.host, state.port), timeout))[1]

    def worked(self, way: str, state: ServerState) -> None:
        self._by_websocket.pop(state.spawn, None)
        if way == WEBSOCKET:
            self._by_websocket[state.spawn] = time.monotonic() + REMEMBERED_FOR
            if len(self._by_websocket) > MAX_REMEMBERED:
                self._by_websocket.popitem(last=False)

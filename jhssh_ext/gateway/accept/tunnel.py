"""SSH through the HTTP side, for networks that let nothing but HTTPS out: the same server, behind a WebSocket.

Nobody is authenticated by HTTP here. SSH inside does that, with the same limits, and the address that the trusted proxies tell.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import asyncssh

from ...tunnel import TunnelHandler
from ..addresses import TrustedProxies
from .services import Services
from .ssh_server import ClientConnection


class Tunnels:
    """The open ones, and how to make one more."""

    def __init__(
        self,
        options: asyncssh.SSHServerConnectionOptions,
        services: Services,
        *,
        proxies: TrustedProxies,
        ping_interval: float,
        ready: Callable[[], bool],
    ) -> None:
        """``ready``: can a login work right now?"""
        self.ready = ready
        self.proxies = proxies
        self._options, self._services, self._ping_interval = options, services, ping_interval
        self._open: set[asyncio.Task[None]] = set()

    async def join(self, websocket: TunnelHandler, address: str) -> None:
        """``address``: the client's; empty if it is not known, and then it counts as one for all such clients."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            await loop.connect_accepted_socket(
                lambda: ClientConnection(loop, self._options, self._services, address=address), theirs
            )
        except BaseException:
            ours.close()
            theirs.close()
            raise
        running = websocket.join(ours, ping_interval=self._ping_interval)
        self._open.add(running)
        running.add_done_callback(self._open.discard)

    async def ended(self, timeout: float) -> None:
        """Waits until what the SSH connections said last has left."""
        if self._open:
            await asyncio.wait(self._open, timeout=timeout)


class GatewayTunnel(TunnelHandler):
    """``/tunnel`` below the service's prefix. ``tunnels``: None where nothing could be wired."""

    def initialize(self, tunnels: Tunnels | None) -> None:
        self._tunnels = tunnels

    def set_default_headers(self) -> None:
        self.set_header("Server", "jhssh-gateway")
        self.set_header("Cache-Control", "no-store")

    def prepare(self) -> None:
        if self.browser_asks():
            self._refuse(403, "Not for browsers: ssh comes in here.")
        elif self._tunnels is None or not self._tunnels.ready():
            self._refuse(503, "SSH is not available right now.")

    async def open(self) -> None:
        assert self._tunnels is not None, "prepare() has seen it"
        headers = self.request.headers.get_list("X-Forwarded-For")
        await self._tunnels.join(self, self._tunnels.proxies.client(self.request.remote_ip or "", headers))

    def _refuse(self, status: int, sentence: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(sentence + "\n")

"""What a tunnel leads to: for the gateway the sshd that the Hub ordered, for the owner one of their own."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from ..errors import ServerUnreachable, SSHNotEnabled
from ..payloads import ServerEnvironment
from .environment import NO_HUB, sshd_address
from .own_sshd import OwnSSHD
from .sshd import Failed

CONNECT_TIMEOUT = 5.0
SWITCHED_OFF = "Tunnels are switched off on this server (c.JHSSHExtension.tunnel)."


class TunnelEnds:
    """``tunnel``: are there tunnels at all."""

    def __init__(self, given: ServerEnvironment, own: OwnSSHD, *, tunnel: bool, ping_interval: float) -> None:
        self._given, self._own = given, own
        self.ping_interval = ping_interval
        self._off = "" if tunnel else SWITCHED_OFF
        if tunnel and not given.enabled and given is not NO_HUB:
            self._off = given.disabled_because or SSHNotEnabled.default_sentence

    async def status(self) -> dict[str, Any]:
        """The "tunnel" of GET /jhssh/status."""
        if self._off:
            return {"enabled": False, "reason": self._off, "user": "", "host_keys": []}
        return await self._own.tunnel_status()

    async def for_gateway(self) -> socket.socket:
        """Raises SSHNotEnabled, ServerUnreachable."""
        if self._off or not self._given.enabled:
            raise SSHNotEnabled(self._off or self._given.disabled_because)
        host, port = sshd_address(self._given)
        try:
            return await asyncio.wait_for(_connect(host, port), CONNECT_TIMEOUT)
        except (OSError, asyncio.TimeoutError) as error:
            raise ServerUnreachable(explanation=f"the sshd of this server does not answer: {error}") from None

    async def for_owner(self) -> socket.socket:
        """Raises SSHNotEnabled, ServerUnreachable, StoreUnusable."""
        if self._off:
            raise SSHNotEnabled(self._off)
        try:
            return await self._own.connect()
        except Failed as failed:
            raise ServerUnreachable(str(failed)) from None

    async def keys_changed(self) -> None:
        await self._own.keys_changed()

    async def stop(self) -> None:
        await self._own.stop()


async def _connect(host: str, port: int) -> socket.socket:
    """As create_connection(3) of asyncio, for a plain socket. Raises OSError."""
    loop = asyncio.get_running_loop()
    failed: OSError = ConnectionRefusedError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connecting = socket.socket(family, kind, protocol)
        try:
            connecting.setblocking(False)
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(connecting, address)
        except OSError as error:
            connecting.close()
            failed = error
        except BaseException:
            connecting.close()
            raise
        else:
            return connecting
    raise failed

"""An SSH client whose authentication requests are made by hand: probes, wrong names and signatures, from any loopback address."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncssh
from asyncssh.connection import SSHClientConnection
from asyncssh.packet import Boolean, Byte, SSHPacket, String

SUCCESS, FAILURE, BANNER, KEY_OK, CLOSED = 52, 51, 53, 60, -1


class RawClient(SSHClientConnection):
    """``answers`` gets (type, payload) of each authentication message, and (CLOSED, reason) once in the end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.answers: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self.ready = asyncio.Event()
        super().__init__(*args, **kwargs)

    def try_next_auth(self, *, next_method: bool = False) -> None:
        self._auth = _Anything(self)
        self.ready.set()

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> Any:
        if FAILURE <= pkttype <= BANNER:
            self.answers.put_nowait((pkttype, packet.get_full_payload()))
            return True
        return super().process_packet(pkttype, pktid, packet)

    def _force_close(self, exc: Exception | None) -> None:
        self.answers.put_nowait((CLOSED, str(exc).encode()))
        super()._force_close(exc)

    def connection_lost(self, exc: Exception | None = None) -> None:
        self.answers.put_nowait((CLOSED, str(exc).encode()))
        super().connection_lost(exc)

    async def answer(self, timeout: float = 30) -> tuple[int, bytes]:
        """The next one that is no banner."""
        while True:
            found = await asyncio.wait_for(self.answers.get(), timeout)
            if found[0] != BANNER:
                return found

    async def ask(self, user: str | bytes, method: str, *fields: bytes) -> tuple[int, float]:
        """One request: the type of its answer, and the seconds that it took."""
        began = time.monotonic()
        self.send_packet(50, request(user, method, *fields))
        kind, _ = await self.answer()
        return kind, time.monotonic() - began

    async def probe(self, user: str | bytes, key: asyncssh.SSHKey) -> tuple[int, float]:
        """Is this key taken? No signature."""
        return await self.ask(user, "publickey", Boolean(False), String(key.algorithm), String(key.public_data))

    async def sign(self, user: str, key: asyncssh.SSHKey, signer: asyncssh.SSHKey | None = None) -> tuple[int, float]:
        """A whole proof, made with another private key if ``signer`` is given."""
        fields = (Boolean(True), String(key.algorithm), String(key.public_data))
        signed = String(self._session_id) + Byte(50) + request(user, "publickey", *fields)
        signature = (signer or key).sign(signed, key.algorithm)
        return await self.ask(user, "publickey", *fields, String(signature))

    async def password(self, user: str | bytes, password: str) -> tuple[int, float]:
        return await self.ask(user, "password", Boolean(False), String(password))


class _Anything:
    """In place of asyncssh's own authentication: takes every answer."""

    def __init__(self, client: RawClient) -> None:
        self._client = client

    def process_packet(self, pkttype: int, _pktid: int, packet: SSHPacket) -> bool:
        self._client.answers.put_nowait((pkttype, packet.get_full_payload()))
        return True

    def log_received_packet(self, *_args: object) -> None:
        """Nothing."""

    def cancel(self) -> None:
        """Nothing runs."""


def request(user: str | bytes, method: str, *fields: bytes) -> bytes:
    """RFC 4252, section 5, without its first byte."""
    return String(user) + String("ssh-connection") + String(method) + b"".join(fields)


async def connect(port: int, address: str = "127.0.0.1") -> RawClient:
    """A connection after its key exchange; ``address`` is where it comes from, as failures are counted by address."""
    loop = asyncio.get_running_loop()
    options = await asyncssh.SSHClientConnectionOptions.construct(
        username="-", known_hosts=None, client_keys=None, agent_path=None, config=None, host="127.0.0.1", port=port
    )
    options.waiter = loop.create_future()
    _, connection = await loop.create_connection(
        lambda: RawClient(loop, options, wait="auth"), "127.0.0.1", port, local_addr=(address, 0)
    )
    assert isinstance(connection, RawClient)
    await asyncio.wait_for(connection.ready.wait(), 30)
    options.waiter.cancel()
    return connection

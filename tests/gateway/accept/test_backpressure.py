"""What waits in the gateway while one end does not take it, or exchanges keys: bounded, and never stuck for honest ends."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import asyncssh
import pytest
from asyncssh.packet import Boolean, String

from jhssh_ext.gateway.accept.ssh_server import ClientConnection
from jhssh_ext.gateway.connect import endpoint
from jhssh_ext.gateway.connect.endpoint import MAX_BACKLOG_UNAUTHENTICATED, Endpoint

from .conftest import ALICE, Door

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]
SESSIONS, SIZE = 3, 8 << 20


async def logged_in(door: Door, **options: Any) -> tuple[asyncssh.SSHClientConnection, ClientConnection]:
    """A client's connection, and the gateway's end of it."""
    door.register(ALICE, door.key)
    connection = await door.connect("alice", client_keys=[door.key], **options)
    (end,) = door.services.connections
    return connection, end


async def test_both_hops_may_exchange_keys_at_once_under_load_both_ways(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[Endpoint] = []
    attach = Endpoint.attach

    def remember(self: Endpoint, *arguments: Any) -> None:
        ends.append(self)
        attach(self, *arguments)

    monkeypatch.setattr(Endpoint, "attach", remember)
    connection, _ = await logged_in(door)
    assert len(ends) == 2
    for end in ends:
        end._rekey_bytes = 1 << 19

    async def echo_back() -> int:
        process = await connection.create_process("x", encoding=None)

        async def send() -> None:
            for _ in range(SIZE >> 16):
                process.stdin.write(bytes(1 << 16))
                await process.stdin.drain()
            process.stdin.write_eof()

        async def receive() -> int:
            return len(await process.stdout.read())

        return (await asyncio.gather(send(), receive()))[1]

    counts = await asyncio.wait_for(asyncio.gather(*(echo_back() for _ in range(SESSIONS))), 120)
    assert counts == [SIZE + len("ran x\n")] * SESSIONS
    connection.close()
    await connection.wait_closed()


async def test_a_client_that_stalls_a_key_exchange_and_asks_on_is_cut(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "MAX_BACKLOG", 4 << 20)
    connection, end = await logged_in(door)
    connection.process_packet = lambda *_: True  # type: ignore[method-assign]  # it never answers the gateway's KEXINIT
    connection._send_kexinit()
    connection._kex_complete = True  # and sends on, against RFC 4253, section 7.1
    most = 0
    while not end.is_closed():
        for _ in range(500):
            connection.send_packet(80, String(b"no such request"), Boolean(True))
        await asyncio.sleep(0)
        most = max(most, end._deferred_bytes)
    assert 2 << 20 < most <= (4 << 20) + endpoint.MESSAGE_OVERHEAD
    connection.abort()


async def test_a_stranger_who_reads_nothing_is_cut(door: Door) -> None:
    """Each unknown message is answered with UNIMPLEMENTED (RFC 4253, section 11.4), which nobody takes."""
    connection = await _unauthenticated(door)
    (end,) = door.services.connections
    transport = connection._transport
    assert transport is not None
    transport.pause_reading()
    end._cancel_login_timer()
    most = 0
    while not end.is_closed():
        for _ in range(500):
            connection.send_packet(9, b"")  # RFC 4250, section 4.1.2: unassigned
        await asyncio.sleep(0)
        if end._transport is not None:
            most = max(most, end._transport.get_write_buffer_size() + len(end._outgoing))
    assert 0 < most <= MAX_BACKLOG_UNAUTHENTICATED
    connection.abort()


async def _unauthenticated(door: Door) -> asyncssh.SSHClientConnection:
    ready = asyncio.Event()

    class Idle(asyncssh.SSHClientConnection):
        def try_next_auth(self, *, next_method: bool = False) -> None:
            ready.set()

    options = await asyncssh.SSHClientConnectionOptions.construct(
        username="x", known_hosts=None, client_keys=None, agent_path=None, config=None, host="127.0.0.1", port=door.port
    )
    loop = asyncio.get_running_loop()
    options.waiter = loop.create_future()
    _, connection = await loop.create_connection(lambda: Idle(loop, options, wait="auth"), "127.0.0.1", door.port)
    await asyncio.wait_for(ready.wait(), 30)
    options.waiter.cancel()
    return connection


async def test_a_packet_that_inflates_without_measure_ends_its_own_connection_alone(door: Door) -> None:
    connection, end = await logged_in(door, compression_algs=["zlib@openssh.com"])
    other = await door.connect("alice", client_keys=[door.key])
    deflate = zlib.compressobj()

    class Bomb:
        def compress(self, _data: bytes) -> bytes:
            return deflate.compress(bytes(64 << 20)) + deflate.flush(zlib.Z_SYNC_FLUSH)

    connection._compressor = Bomb()  # type: ignore[assignment]
    connection.send_packet(80, b"")
    await asyncio.wait_for(end.wait_closed(), 30)
    assert (await other.run("x", stdin=asyncssh.DEVNULL)).stdout == "ran x\n"
    other.close()


async def test_small_packets_that_nobody_takes_are_few_pieces_for_the_transport(door: Door) -> None:
    """asyncio of Python 3.12 and later counts the pieces that wait at each write: many would hold up every connection."""
    connection, end = await logged_in(door)
    client = connection._transport
    assert client is not None
    client.pause_reading()
    pieces: list[int] = []
    transport = end._transport
    assert transport is not None
    write = transport.write

    def count(data: bytes) -> None:
        pieces.append(len(data))
        write(data)

    transport.write = count  # type: ignore[method-assign]
    packets = 0
    while len(end._outgoing) < 1 << 19:
        end.send_packet(2, String(b""))
        packets += 1
        if packets % 50 == 0:
            await asyncio.sleep(0)
    assert packets > 10 * len(pieces)
    assert not end._writable
    client.resume_reading()
    assert (await connection.run("x", stdin=asyncssh.DEVNULL)).stdout == "ran x\n"
    connection.close()
    await connection.wait_closed()

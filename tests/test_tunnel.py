"""The pump, between a real WebSocket and a socket that stands for an SSH server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import os
import random
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from tornado import websocket as tornado_websocket
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketProtocol13, websocket_connect

from jhssh_ext import tunnel
from jhssh_ext.tunnel import MAX_FRAME, BoundedProtocol, TunnelHandler, join_client

from .harness.raw_websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawWebSocket

pytestmark = pytest.mark.asyncio
PATIENCE = 10.0
BOUND = 8 << 20
"""bytes that may wait between two ends: four sockets' buffers in the kernel, and a frame"""


@dataclass
class Place:
    """A server of tunnels; ``inner`` are the far ends of what they lead to."""

    port: int
    listening: socket.socket
    ping_interval: float = 30.0
    inner: asyncio.Queue[socket.socket] = field(default_factory=asyncio.Queue)
    running: list[asyncio.Task[None]] = field(default_factory=list)
    clients: list[RawWebSocket] = field(default_factory=list)

    async def connect(self) -> tuple[RawWebSocket, socket.socket]:
        """A client by hand, and what it reached."""
        websocket = await RawWebSocket.connect(self.port)
        assert websocket.status == 101
        self.clients.append(websocket)
        return websocket, await asyncio.wait_for(self.inner.get(), PATIENCE)


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Place]:
    class Handler(TunnelHandler):
        async def open(self) -> None:
            near, far = socket.socketpair()
            far.setblocking(False)
            made.running.append(self.join(near, ping_interval=made.ping_interval))
            made.inner.put_nowait(far)

    sockets = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([("/tunnel", Handler)]))
    server.add_sockets(sockets)
    made = Place(sockets[0].getsockname()[1], sockets[0])
    before = asyncio.all_tasks()
    yield made
    server.stop()
    await asyncio.wait_for(asyncio.gather(*made.running), PATIENCE)
    for client in made.clients:
        client.writer.close()
    await server.close_all_connections()
    assert not [task for task in asyncio.all_tasks() - before if "tunnel" in repr(task.get_coro())]


async def read(inner: socket.socket, count: int = 1 << 20) -> bytes:
    """Up to that many bytes; fewer only at the end."""
    loop, found = asyncio.get_running_loop(), b""
    while len(found) < count:
        try:
            data = await asyncio.wait_for(loop.sock_recv(inner, count - len(found)), PATIENCE)
        except ConnectionResetError:
            break
        if not data:
            break
        found += data
    return found


async def write(inner: socket.socket, data: bytes) -> None:
    await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(inner, data), PATIENCE)


async def test_bytes_pass_unchanged_both_ways_at_once(place: Place) -> None:
    connection = await websocket_connect(f"ws://127.0.0.1:{place.port}/tunnel", max_message_size=MAX_FRAME)
    near, client = socket.socketpair()
    client.setblocking(False)
    running = asyncio.create_task(join_client(connection, near, ping_interval=0.05))
    server = await place.inner.get()
    blobs = [os.urandom(6_000_000), os.urandom(6_000_000)]

    async def send(end: socket.socket, data: bytes) -> None:
        sizes = random.Random(1)
        while data:
            size = sizes.choice((1, 100, 65536, 300_000))
            await write(end, data[:size])
            data = data[size:]

    _, _, there, back = await asyncio.gather(
        send(client, blobs[0]), send(server, blobs[1]), read(server, len(blobs[0])), read(client, len(blobs[1]))
    )
    assert [hashlib.sha256(got).digest() for got in (there, back)] == [hashlib.sha256(sent).digest() for sent in blobs]
    server.close()
    assert await read(client) == b""
    await asyncio.wait_for(running, PATIENCE)
    client.close()


async def test_what_a_server_said_before_it_ended_is_delivered(place: Place) -> None:
    websocket, server = await place.connect()
    await write(server, b"x" * 300_000 + b"bye")
    server.close()
    assert await websocket.received(300_003) == b"x" * 300_000 + b"bye"
    assert await websocket.receive() == (BINARY, b""), "no more will come"
    assert await websocket.close_code() == 1000


async def test_what_a_client_said_before_it_closed_is_delivered(place: Place) -> None:
    websocket, server = await place.connect()
    await websocket.send(BINARY, b"last words")
    await websocket.send(CLOSE, (1000).to_bytes(2, "big"))
    assert await websocket.close_code() == 1000
    assert await read(server) == b"last words"
    server.close()


async def test_a_server_that_takes_nobody_in_says_try_again_later(place: Place) -> None:
    websocket, server = await place.connect()
    server.close()
    assert await websocket.close_code() == 1013


async def test_a_message_in_pieces_is_one(place: Place) -> None:
    websocket, server = await place.connect()
    await websocket.send(BINARY, b"one ", final=False)
    await websocket.send(PING, b"between")
    await websocket.send(CONTINUATION, b"two ", final=False)
    await websocket.send(CONTINUATION, b"three")
    assert await read(server, 13) == b"one two three"
    server.close()


async def test_text_is_the_bytes_that_it_was(place: Place) -> None:
    """What PyPI's configurable-http-proxy makes of binary messages."""
    websocket, server = await place.connect()
    await websocket.send(TEXT, b"\xff\x00\xc3(")
    assert await read(server, 4) == b"\xff\x00\xc3("
    server.close()


@pytest.mark.parametrize("opcode", [BINARY, TEXT])
async def test_a_message_over_the_maximum_ends_the_tunnel(place: Place, opcode: int) -> None:
    websocket, server = await place.connect()
    await websocket.send(opcode, b"", length=MAX_FRAME + 1)
    assert await websocket.close_code() == 1009
    assert await read(server) == b""
    server.close()


async def test_the_largest_message_passes(place: Place) -> None:
    websocket, server = await place.connect()
    await websocket.send(BINARY, b"x" * MAX_FRAME)
    assert len(await read(server, MAX_FRAME)) == MAX_FRAME
    server.close()


async def test_a_message_that_grows_over_the_maximum_in_pieces_ends_the_tunnel(place: Place) -> None:
    websocket, server = await place.connect()
    await websocket.send(BINARY, b"x" * MAX_FRAME, final=False)
    await websocket.send(CONTINUATION, b"", length=1)
    assert await websocket.close_code() == 1009
    assert await read(server) == b""
    server.close()


async def test_the_client_speaks_first(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that speaks at once is not heard through PyPI's configurable-http-proxy, which is not ready for it."""
    monkeypatch.setattr(tunnel, "CLIENT_FIRST", 60)
    websocket, server = await place.connect()
    await write(server, b"SSH-2.0-server\r\n")
    answer = asyncio.create_task(websocket.receive())
    assert await asyncio.wait([answer], timeout=0.2) == (set(), {answer})
    await websocket.send(BINARY, b"SSH-2.0-client\r\n")
    assert await asyncio.wait_for(answer, PATIENCE) == (BINARY, b"SSH-2.0-server\r\n")
    server.close()


async def test_a_client_that_waits_for_its_server_hears_it_all_the_same(place: Place) -> None:
    websocket, server = await place.connect()
    await write(server, b"SSH-2.0-server\r\n")
    assert await asyncio.wait_for(websocket.receive(), PATIENCE) == (BINARY, b"SSH-2.0-server\r\n")
    server.close()


async def test_a_client_that_is_silent_for_long_is_ended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "MAX_SILENCE", 2.0)
    place.ping_interval = 0.05
    websocket, server = await place.connect()
    websocket.answer = None
    assert await websocket.close_code() == 1001
    assert websocket.pings >= 2
    assert await read(server) == b""
    server.close()


@pytest.mark.parametrize("answer", [PONG, PING, None], ids=["pongs", "pings of its own", "stopped for a while"])
async def test_a_client_that_is_idle_lives(place: Place, answer: int | None) -> None:
    place.ping_interval = 0.05
    websocket, server = await place.connect()
    websocket.answer = answer
    heard = asyncio.create_task(websocket.received(11))
    while websocket.pings < 8:
        assert not heard.done()
        await asyncio.sleep(0.01)
    await write(server, b"still there")
    assert await asyncio.wait_for(heard, PATIENCE) == b"still there"
    server.close()


async def fill(server: socket.socket) -> int:
    """Until no more is taken for as long as ten pings of 0.05 s take; how much was."""
    loop, sent = asyncio.get_running_loop(), 0
    piece = b"x" * 65536
    while True:
        try:
            await asyncio.wait_for(loop.sock_sendall(server, piece), 0.5)
        except asyncio.TimeoutError:
            return sent
        sent += len(piece)
        assert sent < BOUND


async def test_a_client_that_stops_reading_holds_its_server_up_and_lives(place: Place) -> None:
    place.ping_interval = 0.05
    websocket, server = await place.connect()
    websocket.stop_reading()
    sent = await fill(server)
    websocket.resume_reading()
    assert len(await asyncio.wait_for(websocket.received(sent), PATIENCE)) >= sent
    server.close()


class Deaf:
    """A WebSocket whose other end takes nothing."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def write_message(self, message: bytes, binary: bool = False) -> asyncio.Future[None]:
        self.messages.append(message)
        return asyncio.get_running_loop().create_future()

    def ping(self, data: bytes = b"") -> None:
        raise AssertionError("no ping gets past what waits")

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        raise AssertionError("nothing ended")


async def test_small_messages_that_nobody_takes_are_few() -> None:
    """Each costs more than its bytes."""
    inner, server = socket.socketpair()
    server.setblocking(False)
    websocket = Deaf()
    joined = tunnel.Tunnel(websocket, inner, ping_interval=0.05, is_server=False)
    running = asyncio.create_task(joined.run())
    for _ in range(1000):
        with contextlib.suppress(BlockingIOError):
            server.send(b"x")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    most = tunnel.MAX_UNSENT // tunnel.FRAME_COST + 1
    assert most / 2 < len(websocket.messages) <= most
    joined.websocket_gone()
    await running
    server.close()


@pytest.mark.slow
async def test_what_waits_when_its_server_ends_is_delivered_to_a_client_that_reads_late(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "MAX_UNSENT", 1 << 30)  # what the kernel does not take is with the tunnel
    websocket, server = await place.connect()
    websocket.stop_reading()
    said = bytes(BOUND)
    await write(server, said)
    server.close()
    await asyncio.sleep(6)  # after Close tornado would wait for 5
    websocket.resume_reading()
    assert len(await asyncio.wait_for(websocket.received(len(said)), PATIENCE)) == len(said)
    assert await websocket.close_code() == 1000


@pytest.mark.slow
async def test_a_client_that_stops_reading_does_not_keep_what_has_ended(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tunnel, "LAST_WORDS", 0.1)
    place.ping_interval = 0.05
    place.listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    websocket, server = await place.connect()
    websocket.stop_reading()
    await fill(server)
    assert not place.running[0].done()
    server.close()
    await asyncio.wait_for(asyncio.gather(*place.running), PATIENCE)
    websocket.drop()
    while any("WebSocket" in repr(task.get_coro()) for task in asyncio.all_tasks()):
        await asyncio.sleep(0.01)
    gc.collect()
    assert not caplog.records, "an exception that nobody took"


async def test_a_server_that_stops_reading_holds_its_client_up_and_lives(place: Place) -> None:
    place.ping_interval = 0.05
    websocket, server = await place.connect()
    sent = 0
    while True:
        try:
            await asyncio.wait_for(websocket.send(BINARY, b"x" * 65536), 0.5)
        except asyncio.TimeoutError:
            break
        sent += 65536
        assert sent < BOUND
    assert len(await read(server, sent)) == sent
    server.close()


async def test_a_dropped_websocket_ends_what_it_led_to(place: Place) -> None:
    websocket, server = await place.connect()
    await websocket.send(BINARY, b"x")
    assert await read(server, 1) == b"x"
    websocket.drop()
    assert await read(server) == b""
    server.close()


@pytest.mark.slow
async def test_a_dropped_websocket_is_noticed_while_its_server_takes_nothing(place: Place) -> None:
    place.ping_interval = 0.05
    websocket, server = await place.connect()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(_fill(websocket), 1)
    websocket.drop()
    await asyncio.wait_for(asyncio.gather(*place.running), PATIENCE)
    server.close()


async def _fill(websocket: RawWebSocket) -> None:
    while True:
        await websocket.send(BINARY, b"x" * 65536)


async def test_a_clients_end_ends_when_the_server_goes(place: Place) -> None:
    connection = await websocket_connect(f"ws://127.0.0.1:{place.port}/tunnel", max_message_size=MAX_FRAME)
    near, client = socket.socketpair()
    client.setblocking(False)
    running = asyncio.create_task(join_client(connection, near, ping_interval=30))
    server = await place.inner.get()
    client.close()
    await asyncio.wait_for(running, PATIENCE)
    assert await read(server) == b""
    server.close()


class Stream:
    """All that is read has arrived already; nothing that is written is taken."""

    def __init__(self, arrived: bytes) -> None:
        self.arrived, self.written = arrived, b""

    async def read_bytes(self, count: int) -> bytes:
        if not self.arrived:
            raise StreamClosedError
        found, self.arrived = self.arrived[:count], self.arrived[count:]
        return found

    def write(self, data: bytes) -> asyncio.Future[None]:
        self.written += data
        return asyncio.get_running_loop().create_future()

    def close(self) -> None: ...

    def closed(self) -> bool:
        return True


class Handler:
    def on_ping(self, data: bytes) -> None: ...

    def on_ws_connection_close(self, code: int | None, reason: str | None) -> None: ...


@pytest.fixture
def tornado_before_6_6(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it matters here."""

    def send_pong(protocol: WebSocketProtocol13, data: bytes) -> None:
        protocol._write_frame(True, PONG, data)

    monkeypatch.setattr(tornado_websocket, "_YIELD_THRESHOLD", 1 << 60, raising=False)
    monkeypatch.setattr(WebSocketProtocol13, "_send_pong", send_pong, raising=False)


def bounded(arrived: bytes) -> tuple[Any, Stream]:
    params: Any = tornado_websocket._WebSocketParams(max_message_size=MAX_FRAME)
    protocol: Any = BoundedProtocol(Handler(), False, params)  # type: ignore[arg-type]
    protocol.stream = stream = Stream(arrived)
    return protocol, stream


@pytest.mark.usefixtures("tornado_before_6_6")
@pytest.mark.slow
async def test_frames_without_end_leave_others_their_turn() -> None:
    protocol, _ = bounded(bytes([BINARY, 0]) + bytes([CONTINUATION, 0]) * 1600)
    reading, turns = asyncio.create_task(protocol._receive_frame_loop()), 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 100
    assert not protocol.stream.arrived


@pytest.mark.usefixtures("tornado_before_6_6")
@pytest.mark.slow
async def test_answers_to_pings_that_nobody_takes_are_not_kept() -> None:
    protocol, stream = bounded(bytes([0x80 | PING, 1, ord("x")]) * 1000)
    await protocol._receive_frame_loop()
    assert stream.written == bytes([0x80 | PONG, 1, ord("x")])

"""The gateway's end of a tunnel, against an honest extension and against user servers that are not."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import psutil
import pytest
from tornado.web import Application
from tornado.websocket import WebSocketClientConnection, WebSocketHandler, WebSocketProtocol13

from jhssh_ext import tunnel
from jhssh_ext.gateway.connect import server_tunnel
from jhssh_ext.gateway.connect.server_tunnel import open_tunnel
from jhssh_ext.identifiers import AUDIENCE, opaque_id
from jhssh_ext.login_names import UserServer
from jhssh_ext.payloads import ServerState
from jhssh_ext.signed_http import verify_request
from jhssh_ext.tunnel import MAX_FRAME, TunnelHandler

SECRET = "5" * 64
TARGET = UserServer("alice", "gpu")
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]


def state(port: int) -> ServerState:
    return ServerState(
        host="127.0.0.1",
        port=1,
        user="alice",
        host_key="ssh-ed25519 AAAA",
        url=f"http://127.0.0.1:{port}/user/alice/gpu/",
        secret=SECRET,
        spawn="1",
        hub_id="hub",
    )


class Honest(TunnelHandler):
    """Verifies what the extension does, and hands the test the inner end."""

    def initialize(self, inner: list[socket.socket], seen: list[dict[str, str]]) -> None:
        self.inner, self.seen = inner, seen

    def open(self) -> None:
        headers = {name.lower(): value for name, value in self.request.headers.items()}
        scheme, token = headers.pop("authorization").split()
        audience = opaque_id(AUDIENCE, "hub", "alice", "gpu")
        assert scheme == "JHSSH"
        verify_request(SECRET, audience, "GET", "/user/alice/gpu/jhssh/tunnel", token)
        self.seen.append(headers)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.inner.append(ours)
        self.join(theirs, ping_interval=30)


@asynccontextmanager
async def honest() -> AsyncIterator[tuple[socket.socket, socket.socket, dict[str, str]]]:
    """The gateway's socket, the one that stands for sshd, and the headers that were sent."""
    inner: list[socket.socket] = []
    seen: list[dict[str, str]] = []
    app = Application([("/user/alice/gpu/jhssh/tunnel", Honest, {"inner": inner, "seen": seen})])
    server = app.listen(0, "127.0.0.1")
    (listening,) = server._sockets.values()
    ours = await open_tunnel(state(listening.getsockname()[1]), TARGET, ping_interval=30)
    theirs = inner[0]
    try:
        yield ours, theirs, seen[0]
    finally:
        ours.close()
        await asyncio.wait_for(asyncio.get_running_loop().sock_recv(theirs, 1), 60)
        theirs.close()
        server.stop()
        await asyncio.gather(*server_tunnel._tunnels, return_exceptions=True)
        await server.close_all_connections()


@asynccontextmanager
async def hostile(answer: Answer) -> AsyncIterator[ServerState]:
    served: set[asyncio.Task[object]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            key = next(line.split(": ")[1] for line in head.split("\r\n") if line.startswith("Sec-Websocket-Key"))
            accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
            await answer(reader, writer, accept)
            await writer.drain()
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield state(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in served:
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)
        await asyncio.sleep(0)  # until what was aborted is closed


def switching(accept: str, *more: str) -> bytes:
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", *more]
    if accept:
        lines.append(f"Sec-WebSocket-Accept: {accept}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def received(ours: socket.socket) -> bytes:
    """All that comes until the end."""
    loop, heard = asyncio.get_running_loop(), b""
    with contextlib.suppress(ConnectionError):
        while data := await asyncio.wait_for(loop.sock_recv(ours, 1 << 16), 60):
            heard += data
    return heard


async def taken(sender: socket.socket) -> int:
    """How many bytes it can send until nothing is taken for a second."""
    sent, loop = 0, asyncio.get_running_loop()
    with contextlib.suppress(asyncio.TimeoutError):
        while sent < 64 << 20:
            await asyncio.wait_for(loop.sock_sendall(sender, bytes(1 << 16)), 1)
            sent += 1 << 16
    return sent


@pytest.mark.asyncio
async def test_bytes_go_both_ways_and_either_end_ends_it() -> None:
    loop = asyncio.get_running_loop()
    data = bytes(range(256)) * 40_000
    async with honest() as (ours, theirs, headers):
        for one, other in ((ours, theirs), (theirs, ours)):
            sending = asyncio.create_task(loop.sock_sendall(one, data))
            heard = b""
            while len(heard) < len(data):
                heard += await asyncio.wait_for(loop.sock_recv(other, 1 << 16), 60)
            assert heard == data
            await sending
        assert not headers.keys() & {"cookie", "origin"}
        await loop.sock_sendall(theirs, b"last words")
        theirs.shutdown(socket.SHUT_WR)
        assert await received(ours) == b"last words"
    assert not server_tunnel._tunnels


@pytest.mark.asyncio
@pytest.mark.slow
async def test_who_does_not_read_makes_the_other_side_wait() -> None:
    async with honest() as (ours, theirs, _headers):
        tracemalloc.start()
        try:
            for sender in (ours, theirs):
                assert await taken(sender) < 32 << 20, "what waits is in the kernel's buffers"
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()


def says(text: bytes) -> Answer:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _accept: str) -> None:
        writer.write(text)

    return answer


def without_end(head: bytes, chunk: bytes) -> Answer:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _accept: str) -> None:
        writer.write(head)
        while True:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0)

    return answer


async def with_an_extension(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: str) -> None:
    writer.write(switching(accept, "Sec-WebSocket-Extensions: permessage-deflate"))


async def with_a_subprotocol(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: str) -> None:
    writer.write(switching(accept, "Sec-WebSocket-Protocol: ssh"))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), id="200"),
        pytest.param(says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), id="redirect"),
        pytest.param(says(b"HTTP/1.1 403 \x1b[31mno\r\nContent-Length: 0\r\n\r\n"), id="403"),
        pytest.param(says(switching("")), id="no accept"),
        pytest.param(says(switching("AAAAAAAAAAAAAAAAAAAAAAAAAAA=")), id="wrong accept"),
        pytest.param(says(switching("x").replace(b"Upgrade: websocket", b"Upgrade: h2c")), id="another upgrade"),
        pytest.param(with_an_extension, id="an extension"),
        pytest.param(with_a_subprotocol, id="a subprotocol"),
        pytest.param(says(b"SSH-2.0-OpenSSH\r\n\r\n"), id="no http"),
        pytest.param(says(b""), id="nothing"),
        pytest.param(without_end(b"HTTP/1.1 101 X\r\n", b"X-Header: " + b"x" * 1000 + b"\r\n"), id="headers without end"),
        pytest.param(without_end(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n", b"x" * 65536), id="a large body"),
        pytest.param(without_end(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536), id="a body without end"),
        pytest.param(without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="continue without end"),
        pytest.param(without_end(b"", b"x"), id="a line without end"),
    ],
)
@pytest.mark.slow
async def test_what_is_no_tunnel_is_refused_at_once_and_quietly(
    answer: Answer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_tunnel, "HANDSHAKE_TIMEOUT", 3.0)
    tracemalloc.start()
    try:
        async with hostile(answer) as there:
            began = time.monotonic()
            with pytest.raises(OSError) as caught:
                await open_tunnel(there, TARGET, ping_interval=30)
            assert time.monotonic() - began < 20
        assert "\x1b" not in str(caught.value)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not server_tunnel._tunnels


@pytest.mark.asyncio
async def test_an_answer_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, _accept: str) -> None:
        await asyncio.sleep(3)

    monkeypatch.setattr(server_tunnel, "HANDSHAKE_TIMEOUT", 0.2)
    async with hostile(never) as there:
        with pytest.raises(OSError, match="Timeout"):
            await open_tunnel(there, TARGET, ping_interval=30)
    monkeypatch.setattr(server_tunnel, "HANDSHAKE_TIMEOUT", 30.0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await open_tunnel(state(closed.getsockname()[1]), TARGET, ping_interval=30)


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_tunnel_that_nobody_waits_for_any_more_is_closed() -> None:
    asked, proceed, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: str) -> None:
        asked.set()
        await proceed.wait()
        writer.write(switching(accept))
        await writer.drain()
        await reader.read()
        closed.set()

    async with hostile(late) as there:
        opening = asyncio.create_task(open_tunnel(there, TARGET, ping_interval=30))
        await asked.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        proceed.set()
        await asyncio.wait_for(closed.wait(), 60)


def frame(opcode: int, payload: bytes, length: int | None = None) -> bytes:
    """Of a server: not masked (RFC 6455, section 5.2)."""
    return bytes([0x80 | opcode, 127]) + (len(payload) if length is None else length).to_bytes(8, "big") + payload


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(frame(2, b"x" * (MAX_FRAME + 1)), id="over the maximum"),
        pytest.param(frame(2, b"x", 1 << 40), id="a length that nobody has"),
        pytest.param(frame(1, b"\xff"), id="text that is none"),
        pytest.param(frame(2, b""), id="empty"),
        pytest.param(frame(8, b""), id="close"),
        pytest.param(b"\xff" * 64, id="garbage"),
        pytest.param(b"", id="gone"),
    ],
)
async def test_frames_that_are_no_ssh_end_it(sent: bytes) -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: str) -> None:
        writer.write(switching(accept) + frame(2, b"SSH-2.0-x\r\n") + sent)

    async with hostile(answer) as there:
        ours = await open_tunnel(there, TARGET, ping_interval=30)
        assert await received(ours) == b"SSH-2.0-x\r\n"
        ours.close()
    await asyncio.gather(*server_tunnel._tunnels)


@pytest.mark.asyncio
async def test_who_answers_no_ping_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "MAX_SILENCE", 0.2)

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: str) -> None:
        writer.write(switching(accept))
        await reader.read()

    async with hostile(deaf) as there:
        ours = await open_tunnel(there, TARGET, ping_interval=0.1)
        assert await received(ours) == b""
        ours.close()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_who_reads_nothing_keeps_nothing_when_the_gateway_has_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "LAST_WORDS", 0.1)

    async def full(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: str) -> None:
        writer.write(switching(accept))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async with hostile(full) as there:
        before = psutil.Process().num_fds()
        ours = await open_tunnel(there, TARGET, ping_interval=30)
        assert await taken(ours) < 32 << 20
        ours.close()
        await asyncio.wait_for(asyncio.gather(*server_tunnel._tunnels), 60)
        assert not server_tunnel._tunnels
        assert psutil.Process().num_fds() == before + 1, "the server's own"


def test_internals_of_tornado_that_are_relied_upon_exist() -> None:
    for kind, names in (
        (WebSocketClientConnection, ("headers_received", "get_websocket_protocol", "_remove_timeout")),
        (WebSocketHandler, ("get_websocket_protocol", "ping_interval", "max_message_size")),
        (WebSocketProtocol13, ("_receive_frame", "_write_frame", "_handle_message", "_process_server_headers")),
    ):
        assert all(hasattr(kind, name) for name in names)

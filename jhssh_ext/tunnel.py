"""A tunnel: the bytes of one SSH connection as the messages of a WebSocket (RFC 6455), and nothing else.

The inner end is a connected socket. Neither side is read faster than the other takes, so that what waits is in the buffers of the
kernel and in a few frames each way. A WebSocket has no half-close: who has no more to send, sends all it has and then Close.

PyPI's configurable-http-proxy (0.4) is one of JupyterHub's proxies, and an odd one. It makes text of a client's binary messages,
loses what a server sends in the moment of the handshake, and does not tell a client that its server has closed. Hence text is
taken as the bytes that it was, a server lets its client speak first, and says with an empty message that no more will come.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import Awaitable
from typing import Any, Protocol

from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, WebSocketHandler, WebSocketProtocol13

READ_SIZE = 64 << 10
MAX_FRAME = READ_SIZE + 1024
"""bytes of payload that one message may have; a longer one ends the tunnel with 1009"""
MAX_UNSENT = 4 * READ_SIZE
"""bytes that wait for the other end, from which on the inner end is not read"""
FRAME_COST = 1024
"""bytes that each frame which waits takes beside what it holds (measured with tracemalloc: 1.2 KiB)"""
MAX_SILENCE = 240.0
"""seconds without a word, pings unanswered, after which the other end is taken for gone. Who is stopped (Ctrl-Z) can't answer
either: it is for the sshd behind all this to lose patience first (sshd_config.py, ClientAliveInterval)"""
CLIENT_FIRST = 0.05
"""seconds that a client, which speaks as soon as it is connected, has to do so before its server speaks"""
LAST_WORDS = 10.0
"""seconds that the other end has at least, and twice that at most, to take what an inner end said that is gone"""
FRAMES = 16
"""frames that may be read one after the other before the rest of the process has its turn"""
TEXT, BINARY, PONG = 0x1, 0x2, 0xA
"""opcodes (RFC 6455, section 11.8)"""
NORMAL, GOING_AWAY, TRY_AGAIN_LATER = 1000, 1001, 1013
"""close codes (RFC 6455, section 7.4.1, and IANA's registry)"""


class WebSocket(Protocol):
    """The sending half of tornado's WebSockets, of servers and clients."""

    def write_message(self, message: bytes, binary: bool = False) -> Awaitable[None]: ...

    def ping(self, data: bytes = b"") -> None: ...

    def close(self, code: int | None = None, reason: str | None = None) -> None: ...


class Tunnel:
    """Joins a WebSocket with a socket, which belongs to the tunnel from then on."""

    def __init__(self, websocket: WebSocket, inner: socket.socket, *, ping_interval: float, is_server: bool) -> None:
        """``ping_interval``: seconds; pings keep proxies from ending what is idle, and find out that the other end is gone."""
        inner.setblocking(False)
        self._websocket, self._inner, self._ping_interval, self._is_server = websocket, inner, ping_interval, is_server
        self._loop = asyncio.get_running_loop()
        self._over, self._spoken_to = asyncio.Event(), asyncio.Event()
        self._delivery: asyncio.Future[None] | None = None
        self._said_all, self._all_taken = asyncio.Event(), asyncio.Event()
        self._unsent = 0
        self._sent_any = False
        self._heard = True

    async def run(self) -> None:
        """Until either end is gone. What the inner end still had is sent, if it is taken in time; its socket is closed."""
        parts = (self._send, self._watch, self._outlive, self._over.wait)
        tasks: list[asyncio.Future[Any]] = [asyncio.create_task(part()) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._over.set()
            waiting = [*tasks, self._delivery] if self._delivery is not None else tasks
            for part in waiting:
                part.cancel()
            try:
                outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            finally:
                self._inner.close()
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, OSError):
                raise outcome

    def receive(self, message: bytes) -> Awaitable[None] | None:
        """A message that arrived. The next one must not be read before what is returned, if anything, is done."""
        self.heard()
        self._spoken_to.set()
        if self._over.is_set():
            return None
        try:
            sent = self._inner.send(message)
        except BlockingIOError:
            sent = 0
        except OSError:
            return None  # it takes no more, but may have something to say yet, after which the tunnel ends
        return self._deliver(message[sent:]) if sent < len(message) else None

    async def _deliver(self, data: bytes) -> None:
        self._delivery = asyncio.ensure_future(self._loop.sock_sendall(self._inner, data))
        try:
            await self._delivery
        except OSError:
            pass
        except asyncio.CancelledError:
            if not self._over.is_set():
                raise
        finally:
            self._delivery = None
            self.heard()

    def heard(self) -> None:
        """The other end lives: a message, a ping or a pong came."""
        self._heard = True

    def websocket_gone(self) -> None:
        """The WebSocket was closed, or broke."""
        self._over.set()

    async def _send(self) -> None:
        """What the inner end says, to its end."""
        if self._is_server:
            self._loop.call_later(CLIENT_FIRST, self._spoken_to.set)
            await self._spoken_to.wait()
        self._loop.add_reader(self._inner, self._read)
        try:
            await self._said_all.wait()
        finally:
            self._loop.remove_reader(self._inner)
        while self._unsent:
            self._all_taken.clear()
            await self._all_taken.wait()
        if self._sent_any:
            self._end(NORMAL, "")
        else:
            self._end(TRY_AGAIN_LATER, "refused: too many connections, or shutting down")

    def _read(self) -> None:
        """There is something to be read. A task that awaits each piece makes downloads a quarter slower (bench/tunnel.py)."""
        try:
            data = self._inner.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._inner)
            self._said_all.set()
            return
        try:
            written = self._write(data)
        except (WebSocketClosedError, StreamClosedError):
            self._over.set()
            return
        self._sent_any = True
        cost = len(data) + FRAME_COST
        self._unsent += cost
        if self._unsent >= MAX_UNSENT:
            self._loop.remove_reader(self._inner)
        written.add_done_callback(lambda _: self._taken(cost))  # which does not hold the data

    def _taken(self, cost: int) -> None:
        full = self._unsent >= MAX_UNSENT
        self._unsent -= cost
        if not self._unsent:
            self._all_taken.set()
        if full and self._unsent < MAX_UNSENT and not (self._over.is_set() or self._said_all.is_set()):
            self._loop.add_reader(self._inner, self._read)

    def _write(self, data: bytes) -> asyncio.Future[None]:
        """Whether it was written, which nobody needs to ask."""
        written = asyncio.ensure_future(self._websocket.write_message(data, binary=True))
        written.add_done_callback(lambda done: done.cancelled() or done.exception())
        return written

    async def _watch(self) -> None:
        """Pings; returns when nothing has been heard for long."""
        heard = self._loop.time()
        while True:
            await asyncio.sleep(self._ping_interval)
            # Who is not read from, or does not read, cannot answer: that is not silence, however long it takes.
            if self._heard or self._unsent or self._delivery is not None:
                heard = self._loop.time()
            elif self._loop.time() - heard >= MAX_SILENCE:
                self._end(GOING_AWAY, "pings were not answered")
                return
            self._heard = False
            if not self._unsent:
                try:
                    self._websocket.ping()
                except (WebSocketClosedError, StreamClosedError):
                    return

    async def _outlive(self) -> None:
        """Returns when the inner end has been gone for a while. ``_send`` cannot see that while the other end takes nothing."""
        gone = select.poll()
        gone.register(self._inner, getattr(select, "POLLRDHUP", 0))  # Linux; POLLHUP, which there is everywhere, comes unasked
        was_gone = False
        while not was_gone:
            was_gone = bool(gone.poll(0))
            await asyncio.sleep(LAST_WORDS)
        self._end(GOING_AWAY, "what was said last was not taken")

    def _end(self, code: int, reason: str) -> None:
        """Tornado closes the connection when the other end does, or after 5 s."""
        self._over.set()
        if self._is_server:
            with contextlib.suppress(WebSocketClosedError, StreamClosedError):
                self._write(b"")
        self._websocket.close(code, reason)


class BoundedProtocol(WebSocketProtocol13):
    """Bounds what tornado before 6.6 (for Python 3.10 there is no later one than 6.5) does for whoever sends frames without end:
    it keeps an answer to each ping, taken or not, and reads what has arrived without a pause."""

    _frames = 0
    _pong: asyncio.Future[None] | None = None

    async def _receive_frame(self) -> None:
        await super()._receive_frame()
        self._frames += 1
        if self._frames % FRAMES == 0:
            await asyncio.sleep(0)

    def write_message(self, message: str | bytes | dict[str, Any], binary: bool = False) -> asyncio.Future[None]:
        """Without tornado's task for each, which is there to raise another error."""
        assert isinstance(message, bytes)
        return self._write_frame(True, BINARY, message)

    def _write_frame(self, fin: bool, opcode: int, data: bytes, flags: int = 0) -> asyncio.Future[None]:
        if opcode != PONG:
            return super()._write_frame(fin, opcode, data, flags)
        if self._pong is None or self._pong.done():
            self._pong = super()._write_frame(fin, opcode, data, flags)
        return self._pong  # pings that come meanwhile need no answer (RFC 6455, section 5.5.3)


class _FromClients(BoundedProtocol):
    """Takes text for bytes."""

    def _handle_message(self, opcode: int, data: bytes) -> asyncio.Future[None] | None:
        return super()._handle_message(BINARY if opcode == TEXT else opcode, data)


class TunnelHandler(WebSocketHandler):
    """A server's end of tunnels: a subclass says in ``open`` what they lead to. No browser has business here."""

    _tunnel: Tunnel | None = None
    _running: asyncio.Task[None] | None = None

    @property
    def ping_interval(self) -> None:
        """Off: tornado's would end a tunnel whose other end merely does not take what it is sent."""
        return None

    @property
    def max_message_size(self) -> int:
        return MAX_FRAME

    def browser_asks(self) -> bool:
        """Every browser sends Origin with a WebSocket (RFC 6455, section 4.1), from whatever page."""
        return "Origin" in self.request.headers

    def join(self, inner: socket.socket, *, ping_interval: float) -> asyncio.Task[None]:
        """To be called in ``open``. The task ends when the tunnel has."""
        self.set_nodelay(True)
        self._tunnel = Tunnel(self, inner, ping_interval=ping_interval, is_server=True)
        self._running = asyncio.create_task(self._tunnel.run())
        return self._running

    def get_websocket_protocol(self) -> WebSocketProtocol13 | None:
        protocol = super().get_websocket_protocol()
        return _FromClients(self, False, protocol.params) if isinstance(protocol, WebSocketProtocol13) else None

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        return self._tunnel.receive(message) if self._tunnel is not None and isinstance(message, bytes) else None

    def on_ping(self, data: bytes) -> None:
        self._note_life()

    def on_pong(self, data: bytes) -> None:
        self._note_life()

    def on_close(self) -> None:
        if self._tunnel is not None:
            self._tunnel.websocket_gone()

    def _note_life(self) -> None:
        if self._tunnel is not None:
            self._tunnel.heard()


async def join_client(websocket: WebSocketClientConnection, inner: socket.socket, *, ping_interval: float) -> None:
    """A client's end of a tunnel, until it is over. ``websocket``: by ``websocket_connect(…, max_message_size=MAX_FRAME)``,
    without a callback (it then reads one message ahead) and without tornado's pings."""
    tunnel = Tunnel(websocket, inner, ping_interval=ping_interval, is_server=False)
    for hook in ("on_ping", "on_pong"):  # which tornado calls, and has no other way to
        setattr(websocket, hook, lambda _data: tunnel.heard())
    running = asyncio.create_task(tunnel.run())
    try:
        while message := await websocket.read_message():  # empty: the server has no more
            if (delivery := tunnel.receive(message.encode() if isinstance(message, str) else message)) is not None:
                await delivery
    finally:
        tunnel.websocket_gone()
        websocket.close()
        await running

"""The tunnel's end on the user's computer, as a process, against servers that a test makes up."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from . import certificates

pytestmark = pytest.mark.asyncio
PATIENCE = 60.0
PROGRAM = """
import sys
from jhssh_ext.client import websocket_stdio as program
{changes}
sys.exit(program.main(sys.argv[1:]))
"""


class Tunnel(WebSocketHandler):
    """Hands what comes to ``messages``; what else it does is ``place.behave``."""

    place: Place
    messages: asyncio.Queue[str | bytes | None]

    def check_origin(self, origin: str) -> bool:
        raise AssertionError(f"an Origin was sent: {origin}")

    async def open(self) -> None:
        self.messages = asyncio.Queue()
        self.place.requests.append(dict(self.request.headers))
        self.place.running.append(asyncio.create_task(self._behave()))

    async def _behave(self) -> None:
        try:
            await self.place.behave(self)
        except WebSocketClosedError:
            self.place.closed_early = True

    def on_message(self, message: str | bytes) -> None:
        self.messages.put_nowait(message)

    def on_close(self) -> None:
        self.messages.put_nowait(None)

    async def say(self, data: bytes) -> None:
        await self.write_message(data, binary=True)

    async def heard(self) -> bytes:
        """All until the client closed."""
        found = b""
        while (message := await asyncio.wait_for(self.messages.get(), PATIENCE)) is not None:
            assert isinstance(message, bytes)
            found += message
        return found


@dataclass
class Place:
    """A server, and what it does with a tunnel."""

    url: str
    behave: Callable[[Tunnel], Awaitable[None]]
    running: list[asyncio.Task[None]] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    closed_early: bool = False

    async def start(
        self, *arguments: str, path: str = "/tunnel", changes: str = "", **options: Any
    ) -> asyncio.subprocess.Process:
        """``changes``: statements about ``program``, the module."""
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE, **options}
        code = PROGRAM.format(changes=changes)
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, self.url + path, *arguments, stderr=asyncio.subprocess.PIPE, limit=1 << 26, **pipes
        )

    async def run(self, *arguments: str, input: bytes = b"", **options: Any) -> tuple[int | None, bytes, str]:
        """Exit status, stdout, stderr."""
        process = await self.start(*arguments, **options)
        out, err = await asyncio.wait_for(process.communicate(input), PATIENCE)
        return process.returncode, out, err.decode()


class Refusing(RequestHandler):
    """Answers /STATUS with that status."""

    def get(self, status: str) -> None:
        self.set_status(int(status))
        if int(status) == 302:
            self.set_header("Location", "/tunnel")
        if int(status) == 418:
            self.finish({"message": "A sentence of the\nserver's.", "code": "X"})


async def echo(tunnel: Tunnel) -> None:
    while (message := await tunnel.messages.get()) is not None:
        await tunnel.say(message)  # type: ignore[arg-type]


async def serve(context: ssl.SSLContext | None = None) -> tuple[Place, HTTPServer]:
    sockets = bind_sockets(0, "127.0.0.1")
    place = Place(f"{'wss' if context else 'ws'}://127.0.0.1:{sockets[0].getsockname()[1]}", echo)
    handler = type("TunnelHere", (Tunnel,), {"place": place})
    server = HTTPServer(Application([("/tunnel", handler), (r"/(\d+)", Refusing)]), ssl_options=context)
    server.add_sockets(sockets)
    return place, server


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Place]:
    made, server = await serve()
    yield made
    server.stop()
    await asyncio.wait_for(asyncio.gather(*made.running), PATIENCE)
    await server.close_all_connections()


async def test_bytes_pass_and_a_late_answer_still_comes(place: Place) -> None:
    heard: list[bytes] = []

    async def behave(tunnel: Tunnel) -> None:
        while sum(map(len, heard)) < len(sent):
            heard.append(await tunnel.messages.get())  # type: ignore[arg-type]
        await asyncio.sleep(0.3)  # standard input has long ended
        await tunnel.say(b"late answer")
        tunnel.close(1000)

    place.behave = behave
    sent = os.urandom(1_000_000)
    status, out, err = await place.run(input=sent)
    assert (status, out, err) == (0, b"late answer", "")
    assert b"".join(heard) == sent


async def test_it_sends_no_origin_and_what_it_was_told(place: Place) -> None:
    place.behave = lambda tunnel: _close(tunnel, 1000, "")
    changes = "run = program.run; program.run = lambda url, tls: run(url, headers={'Authorization': 'token x'}, tls=tls)"
    assert (await place.run(changes=changes))[0] == 0
    (headers,) = place.requests
    assert headers["Authorization"] == "token x"
    assert "Origin" not in headers


async def _close(tunnel: Tunnel, code: int, reason: str) -> None:
    tunnel.close(code, reason)


async def test_without_an_answer_it_ends_soon_after_its_input(place: Place) -> None:
    place.behave = lambda tunnel: _ignore(tunnel)
    status, out, err = await place.run(input=b"x", changes="program.LINGER = 0.3")
    assert (status, out, err) == (0, b"", "")


async def _ignore(tunnel: Tunnel) -> None:
    assert await tunnel.heard() == b"x"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes cannot be asked there")
async def test_it_ends_at_once_when_both_its_pipes_are_gone(place: Place) -> None:
    """As when ssh was killed."""
    ended = asyncio.Event()

    async def behave(tunnel: Tunnel) -> None:
        await tunnel.heard()
        ended.set()

    place.behave = behave
    reading, writing = os.pipe()
    process = await place.start(stdout=writing, changes="program.LINGER = 3600")
    os.close(writing)
    os.close(reading)
    assert process.stdin is not None
    process.stdin.write_eof()
    await asyncio.wait_for(ended.wait(), PATIENCE)
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    await process.communicate()


async def test_an_empty_message_says_that_no_more_will_come(place: Place) -> None:
    """Where a proxy keeps Close to itself, as PyPI's configurable-http-proxy does."""

    async def behave(tunnel: Tunnel) -> None:
        await tunnel.say(b"bye")
        await tunnel.say(b"")
        assert await tunnel.heard() == b""

    place.behave = behave
    process = await place.start()
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.read(), PATIENCE) == b"bye"
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    await process.communicate()


@pytest.mark.parametrize(
    ("code", "reason", "status", "sentence"),
    [
        (1013, "too many", 4, "The other end took no connection: too many. Try again later."),
        (1009, "message too big", 1, "The other end closed the tunnel (1009: message too big)."),
        (4000, "a\x1b[31mb", 1, "The other end closed the tunnel (4000: a [31mb)."),
        (1001, "", 0, ""),
    ],
)
async def test_a_close_is_explained(place: Place, code: int, reason: str, status: int, sentence: str) -> None:
    place.behave = lambda tunnel: _close(tunnel, code, reason)
    process = await place.start()
    _, err = await asyncio.wait_for(_outcome(process), PATIENCE)
    assert (process.returncode, err) == (status, f"jhssh: {sentence}\n" if sentence else "")


async def _outcome(process: asyncio.subprocess.Process) -> tuple[bytes, str]:
    """stdout and stderr, standard input being open all the while."""
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
    await process.wait()
    await process.communicate()
    return out, err.decode()


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/401", 3, "Run: jhssh login"),
        ("/403", 1, "HTTP 403"),
        ("/404", 1, "no tunnel at this address"),
        ("/503", 4, "Try again later"),
        ("/418", 1, "A sentence of the server's."),
        ("/302", 1, "sends one on to /tunnel. If the hub is there now, log in anew: jhssh login URL"),
        ("/200", 1, "HTTP 200"),
    ],
)
async def test_an_http_answer_is_explained(place: Place, path: str, status: int, sentence: str) -> None:
    """None leads anywhere else: the request may hold a token."""
    found, out, err = await place.run(path=path)
    assert (found, out) == (status, b"")
    assert sentence in err
    assert err.startswith("jhssh: ")
    assert not place.requests


async def test_no_connection_is_explained(place: Place) -> None:
    place.url = "ws://127.0.0.1:1"
    assert (await place.run())[0] == 4
    place.url = "ws://no-such-host.invalid"
    status, _, err = await place.run()
    assert (status, "no such host" in err) == (4, True)


@pytest.mark.parametrize("binary", [True, False])
async def test_what_is_no_tunnel_is_refused(place: Place, binary: bool) -> None:
    """Text, or a frame without measure."""

    async def behave(tunnel: Tunnel) -> None:
        await tunnel.write_message(b"x" * 2_000_000 if binary else "hello", binary=binary)
        await tunnel.heard()

    place.behave = behave
    process = await place.start()
    out, err = await asyncio.wait_for(_outcome(process), PATIENCE)
    assert (process.returncode, out) == (4 if binary else 1, b"")
    assert ("too long" if binary else "it sent text") in err


async def test_a_lost_connection_is_told(place: Place) -> None:
    async def behave(tunnel: Tunnel) -> None:
        await tunnel.say(b"x")
        await tunnel.messages.get()
        assert tunnel.ws_connection is not None
        tunnel.ws_connection._abort()

    place.behave = behave
    process = await place.start()
    assert process.stdin is not None
    process.stdin.write(b"y")
    out, err = await asyncio.wait_for(_outcome(process), PATIENCE)
    assert (process.returncode, out) == (4, b"x")
    assert "was lost" in err


def pinging(interval: float) -> str:
    """Statements that let the program ping so often, in seconds."""
    return f"run = program.run; program.run = lambda url, tls: run(url, tls=tls, ping_interval={interval})"


async def test_silence_is_a_lost_connection(place: Place) -> None:
    """A network that went away without a word."""
    silent = await asyncio.start_server(_handshake_alone, "127.0.0.1", 0)
    place.url = f"ws://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    process = await place.start(changes=pinging(0.1))
    _, err = await asyncio.wait_for(_outcome(process), PATIENCE)
    assert (process.returncode, "nothing comes any more" in err) == (4, True)
    silent.close()


@pytest.mark.parametrize(
    ("said", "ping_interval", "sentence"),
    [
        pytest.param(b"", 0.1, "nothing comes any more", id="silence"),
        pytest.param(b"\x88\x02\x03\xf5", 60, "took no connection", id="close"),
    ],
)
async def test_an_end_is_noticed_while_nothing_is_taken_of_what_is_sent(
    place: Place, said: bytes, ping_interval: float, sentence: str
) -> None:
    over = asyncio.Event()

    async def full(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _switch(reader, writer)
        await reader.readexactly(1)  # something is being sent
        writer.write(said)
        await over.wait()
        writer.transport.abort()

    server = await asyncio.start_server(full, "127.0.0.1", 0)
    place.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    changes = f"{pinging(ping_interval)}; program.CLOSE_TIMEOUT = 1"
    status, _, err = await place.run(input=bytes(32 << 20), changes=changes)
    over.set()
    server.close()
    assert (status, sentence in err) == (4, True), err


async def _handshake_alone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _switch(reader, writer)
    await reader.read()
    writer.close()


async def _switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    from tornado.websocket import WebSocketProtocol13

    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    key = next(line.split(": ")[1] for line in head.splitlines() if line.lower().startswith("sec-websocket-key"))
    accept = WebSocketProtocol13.compute_accept_value(key)
    writer.write(
        f"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )


async def test_it_answers_pings_and_sends_its_own_while_idle(place: Place) -> None:
    pongs: asyncio.Queue[bytes] = asyncio.Queue()
    pings: asyncio.Queue[bytes] = asyncio.Queue()

    async def behave(tunnel: Tunnel) -> None:
        tunnel.on_pong, tunnel.on_ping = pongs.put_nowait, pings.put_nowait  # type: ignore[method-assign]
        for number in (b"1", b"2", b"3"):
            tunnel.ping(number)
            assert await asyncio.wait_for(pongs.get(), PATIENCE) == number
        for _ in range(5):
            await asyncio.wait_for(pings.get(), PATIENCE)
        tunnel.close(1000)

    place.behave = behave
    process = await place.start(changes=f"{pinging(0.1)}; program.MISSED_PINGS = 600")
    assert await asyncio.wait_for(_outcome(process), PATIENCE) == (b"", "")
    assert process.returncode == 0


@pytest.mark.slow
async def test_a_reader_that_stops_holds_the_server_up_and_loses_nothing(place: Place) -> None:
    size, sent = 64 << 20, 0
    stalled = asyncio.Event()

    async def behave(tunnel: Tunnel) -> None:
        nonlocal sent
        while sent < size:
            writing = asyncio.ensure_future(tunnel.write_message(b"x" * 65536, binary=True))
            if not (await asyncio.wait([writing], timeout=1))[0]:
                stalled.set()
            await writing
            sent += 65536
        tunnel.close(1000)

    place.behave = behave
    reading, writing = os.pipe()
    process = await place.start(stdout=writing, changes=f"{pinging(0.1)}; program.MISSED_PINGS = 600")
    os.close(writing)
    await asyncio.wait_for(stalled.wait(), PATIENCE)
    assert sent < 16 << 20
    memory = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    assert memory < 64 << 20

    def read_all() -> int:
        count = 0
        while data := os.read(reading, 1 << 20):
            count += len(data)
        return count

    assert await asyncio.wait_for(asyncio.to_thread(read_all), PATIENCE) == size
    os.close(reading)
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    await process.communicate()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificates.make(tmp_path_factory.mktemp("a private CA"))


@pytest_asyncio.fixture
async def secure_place(ca: tuple[Path, Path]) -> AsyncIterator[Place]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(ca[1])
    made, server = await serve(context)
    yield made
    server.stop()
    await asyncio.wait_for(asyncio.gather(*made.running), PATIENCE)
    await server.close_all_connections()


async def test_much_passes_both_ways_at_once_under_tls(secure_place: Place, ca: tuple[Path, Path]) -> None:
    """One thread reads the TLS connection while another writes it."""
    size = 20_000_000
    blobs = [os.urandom(size), os.urandom(size)]
    heard = bytearray()

    async def behave(tunnel: Tunnel) -> None:
        async def listen() -> None:
            while len(heard) < size:
                heard.extend(await tunnel.messages.get())  # type: ignore[arg-type]

        listening = asyncio.create_task(listen())
        for start in range(0, size, 50_000):
            await tunnel.say(blobs[1][start : start + 50_000])
        await listening
        tunnel.close(1000)

    secure_place.behave = behave
    status, out, err = await secure_place.run(str(ca[0]), input=blobs[0])
    assert (status, err) == (0, "")
    assert out == blobs[1]
    assert bytes(heard) == blobs[0]


async def test_a_certificate_that_cannot_be_verified_is_refused(secure_place: Place) -> None:
    status, out, err = await secure_place.run()
    assert (status, out) == (4, b"")
    assert "can't be verified" in err
    assert "--ca-file" in err

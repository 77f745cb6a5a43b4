"""The gateway's SSH server behind a WebSocket: whose address counts, who is let in at all, and how it ends."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import asyncssh
import psutil
import pytest
import pytest_asyncio
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import websocket_connect

from jhssh_ext import tunnel
from jhssh_ext.errors import TooManySessions
from jhssh_ext.gateway.accept.ssh_server import make_options
from jhssh_ext.gateway.accept.tunnel import GatewayTunnel, Tunnels
from jhssh_ext.gateway.addresses import TrustedProxies
from jhssh_ext.tunnel import MAX_FRAME, join_client

from ...harness.raw_websocket import BINARY, RawWebSocket
from .conftest import ALICE, TOKEN, Door
from .test_browser_prompt import Browser, Terminal, browser

__all__ = ["browser"]

pytestmark = pytest.mark.asyncio
PATIENCE = 10.0


@dataclass
class TunnelDoor:
    """The door, and a tunnel to it."""

    door: Door
    tunnels: Tunnels
    port: int
    listening: socket.socket
    ready: bool = True
    pipes: list[asyncio.Task[None]] = field(default_factory=list)
    clients: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/tunnel"

    async def pipe(self, headers: Mapping[str, str] | None = None) -> socket.socket:
        """A socket that leads through the tunnel."""
        request = HTTPRequest(self.url.replace("http", "ws"), headers=dict(headers or {}))
        connection = await websocket_connect(request, max_message_size=MAX_FRAME)
        near, client = socket.socketpair()
        self.pipes.append(asyncio.create_task(join_client(connection, near, ping_interval=30)))
        self.clients.append(client)
        return client

    async def login(self, headers: Mapping[str, str] | None = None, **options: object) -> asyncssh.SSHClientConnection:
        sock = await self.pipe(headers)
        self.door.register(ALICE, self.door.key)
        values: dict[str, object] = {
            "known_hosts": None, "agent_path": None, "config": None, "gss_host": None, "client_keys": [self.door.key], **options
        }  # fmt: skip
        return await asyncssh.connect("tunnel", sock=sock, username="alice", **values)  # type: ignore[arg-type]

    async def knock(self, address: str = "") -> RawWebSocket:
        """A stranger, who sends no more than a client's first line."""
        made = await RawWebSocket.connect(self.port, headers={"X-Forwarded-For": address} if address else None)
        await made.send(BINARY, b"SSH-2.0-stranger\r\n")
        return made


@pytest_asyncio.fixture
async def tunnel_door(door: Door) -> AsyncIterator[TunnelDoor]:
    """Behind a proxy on 127.0.0.0/8, which is trusted."""
    proxies = TrustedProxies(["127.0.0.0/8", "10.0.0.0/8"])
    tunnels = Tunnels(door.options, door.services, proxies=proxies, ping_interval=30, ready=lambda: made.ready)
    sockets = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(
        Application([("/tunnel", GatewayTunnel, {"tunnels": tunnels}), ("/none", GatewayTunnel, {"tunnels": None})])
    )
    server.add_sockets(sockets)
    made = TunnelDoor(door, tunnels, sockets[0].getsockname()[1], sockets[0])
    yield made
    for pipe in made.pipes:
        pipe.cancel()
    await asyncio.gather(*made.pipes, return_exceptions=True)
    for client in made.clients:
        client.close()
    for connection in list(door.services.connections):
        connection.abort()
    await tunnels.ended(PATIENCE)
    server.stop()
    await server.close_all_connections()


async def test_a_login_and_a_command_through_the_tunnel(tunnel_door: TunnelDoor) -> None:
    async with await tunnel_door.login() as connection:
        done = await connection.run("echo", input="a" * 300_000)
    assert done.stdout == "ran echo\n" + "a" * 300_000
    assert done.exit_status == 3
    await asyncio.wait_for(tunnel_door.door.record.end.wait(), PATIENCE)


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        (",203.0.113.9", "203.0.113.9"),  # as PyPI's configurable-http-proxy says it
        ("6.6.6.6, 203.0.113.9, 10.1.2.3", "203.0.113.9"),  # what stands before the last one that is no proxy is the client's own
        ("2001:db8::7", "2001:db8::7"),
        ("6.6.6.6, nonsense", ""),
        ("10.1.2.3", ""),
        ("", ""),
    ],
)
async def test_the_address_is_the_last_one_that_is_no_trusted_proxy(
    tunnel_door: TunnelDoor, forwarded: str, address: str
) -> None:
    async with await tunnel_door.login({"X-Forwarded-For": forwarded, "X-Real-IP": "6.6.6.6", "Forwarded": "for=6.6.6.6"}):
        (login,) = tunnel_door.door.record.logins
    assert login.address == address


async def test_who_comes_past_the_proxies_claims_no_address(tunnel_door: TunnelDoor) -> None:
    tunnel_door.tunnels.proxies = TrustedProxies(["10.0.0.0/8"])
    async with await tunnel_door.login({"X-Forwarded-For": "203.0.113.9"}):
        (login,) = tunnel_door.door.record.logins
    assert login.address == ""


@pytest.mark.parametrize("through", [True, False])
async def test_an_approval_says_whether_its_address_is_a_proxys_word(
    tunnel_door: TunnelDoor, browser: Browser, through: bool
) -> None:
    terminal = Terminal()
    options = {"client_factory": lambda: terminal, "preferred_auth": ["keyboard-interactive"]}
    headers = {"X-Forwarded-For": "203.0.113.9"}
    connecting = asyncio.create_task(
        tunnel_door.login(headers, **options) if through else tunnel_door.door.connect("alice", **options)
    )
    await asyncio.wait_for(terminal.asked.wait(), PATIENCE)
    request = await browser.claim(terminal)
    assert (request.address, request.by_proxy) == (("203.0.113.9", True) if through else ("127.0.0.1", False))
    await browser.login.approvals.deny("alice", request.id)
    with pytest.raises(asyncssh.DisconnectError, match="APPROVAL_DENIED"):
        await connecting


async def test_tunnels_count_as_connections_of_their_address(tunnel_door: TunnelDoor) -> None:
    """``unauthenticated_per_address`` is 6 here, and ``unauthenticated`` 8."""
    held = [await tunnel_door.knock("203.0.113.9") for _ in range(6)]
    for each in held:
        assert (await each.received(8)).startswith(b"SSH-2.0-")
    refused = await tunnel_door.knock("203.0.113.9")
    assert await refused.close_code() == 1013
    assert tunnel_door.door.record.refusals[-1] == ("", TooManySessions.code)
    other = await tunnel_door.knock("203.0.113.10")
    assert (await other.received(8)).startswith(b"SSH-2.0-")
    held[0].drop()
    while tunnel_door.door.services.limits.unauthenticated > 6:
        await asyncio.sleep(0.01)
    again = await tunnel_door.knock("203.0.113.9")
    assert (await again.received(8)).startswith(b"SSH-2.0-")
    for each in [*held, refused, other, again]:
        each.writer.close()


async def test_those_whose_address_is_not_known_count_as_one(tunnel_door: TunnelDoor) -> None:
    held = [await tunnel_door.knock() for _ in range(6)]
    for each in held:
        assert (await each.received(8)).startswith(b"SSH-2.0-")
    refused = await tunnel_door.knock("nonsense")
    assert await refused.close_code() == 1013
    known = await tunnel_door.knock("203.0.113.9")
    assert (await known.received(8)).startswith(b"SSH-2.0-")
    for each in [*held, refused, known]:
        each.writer.close()


async def test_failures_of_those_whose_address_is_not_known_are_one_budget(tunnel_door: TunnelDoor) -> None:
    failures = tunnel_door.door.services.failures
    while failures.spend(""):
        pass
    with pytest.raises(asyncssh.DisconnectError, match="TOO_MANY_ATTEMPTS"):
        await tunnel_door.login(client_keys=None, password=TOKEN, preferred_auth=["password"])
    assert failures.spend("127.0.0.1"), "who comes by TCP is not affected"


@pytest.mark.slow
async def test_a_stranger_who_takes_nothing_is_gone_soon_after_the_login_timeout(
    tunnel_door: TunnelDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "LAST_WORDS", 0.1)
    tunnel_door.tunnels._options = await make_options(
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")], login_timeout=2
    )
    tunnel_door.listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    before = psutil.Process().num_fds()
    stranger = await tunnel_door.knock("203.0.113.9")
    stranger.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    assert (await stranger.received(8)).startswith(b"SSH-2.0-")
    stranger.stop_reading()
    unknown = struct.pack("!IB", 12, 10) + bytes([9]) + bytes(10)  # a packet whose number means nothing, which is answered
    for _ in range(8):  # more than fits into what lies between
        await stranger.send(BINARY, unknown * 4000)
    await tunnel_door.tunnels.ended(PATIENCE)
    assert not tunnel_door.tunnels._open
    assert not tunnel_door.door.services.connections
    until = time.monotonic() + 3 * PATIENCE  # tornado gives it 5 s to answer Close
    while psutil.Process().num_fds() > before + 1 and time.monotonic() < until:
        await asyncio.sleep(0.05)
    assert psutil.Process().num_fds() == before + 1, "the stranger's own"
    stranger.writer.close()


@pytest.mark.parametrize("origin", ["https://hub.example.org", "null", ""])
async def test_browsers_are_refused_whatever_page_they_come_from(tunnel_door: TunnelDoor, origin: str) -> None:
    own = f"http://127.0.0.1:{tunnel_door.port}"
    for value in (origin, own):
        websocket = await RawWebSocket.connect(tunnel_door.port, headers={"Origin": value, "Sec-Fetch-Site": "same-origin"})
        assert websocket.status == 403
        websocket.writer.close()
    assert not tunnel_door.door.services.connections


async def test_while_no_login_can_work_there_is_no_tunnel(tunnel_door: TunnelDoor) -> None:
    tunnel_door.ready = False
    for path in ("/tunnel", "/none"):
        websocket = await RawWebSocket.connect(tunnel_door.port, path)
        assert websocket.status == 503
        websocket.writer.close()


async def test_a_plain_request_is_told_what_is_missing(tunnel_door: TunnelDoor) -> None:
    answer = await AsyncHTTPClient().fetch(tunnel_door.url, raise_error=False)
    assert (answer.code, b"WebSocket" in answer.body) == (400, True)
    assert answer.headers["Server"] == "jhssh-gateway"


async def test_a_gateway_that_ends_tells_why(tunnel_door: TunnelDoor) -> None:
    ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    class Client(asyncssh.SSHClient):
        def connection_lost(self, exc: Exception | None) -> None:
            ended.set_result(exc)

    await tunnel_door.login(client_factory=Client)
    for each in list(tunnel_door.door.services.connections):
        each.shut_down()
    await asyncio.wait_for(tunnel_door.tunnels.ended(PATIENCE), PATIENCE)
    reason = await asyncio.wait_for(ended, PATIENCE)
    assert isinstance(reason, asyncssh.DisconnectError)
    assert "SHUTTING_DOWN" in reason.reason


async def test_a_dropped_tunnel_ends_the_session(tunnel_door: TunnelDoor) -> None:
    connection = await tunnel_door.login()
    await connection.create_process("x")
    tunnel_door.pipes[-1].cancel()
    await asyncio.wait_for(tunnel_door.door.record.end.wait(), PATIENCE)
    assert await asyncio.wait_for(tunnel_door.tunnels.ended(PATIENCE), PATIENCE) is None
    assert not tunnel_door.door.services.connections
    await connection.wait_closed()

"""Answers without end: from a hub, a tunnel, or a proxy in between. Which proxy it is."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from jhssh_ext.client import connection, websocket_handshake
from jhssh_ext.client.addresses import Address, address
from jhssh_ext.client.failures import Failure, Unreachable
from jhssh_ext.client.http_client import Client

from .conftest import Laptop
from .raw_server import dripping, endless, running

DRIPS = {
    "continue for ever": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a header for ever": dripping(b"HTTP/1.1 200 OK\r\nX: ", b"a"),
    "a body for ever": dripping(b"HTTP/1.1 200 OK\r\n\r\n", b"a"),
}
FLOODS = {
    "one line": endless(b"", b"a"),
    "one header": endless(b"HTTP/1.1 101 Go\r\nX: ", b"a"),
    "headers": endless(b"HTTP/1.1 101 Go\r\n", b"X: a\r\n"),
}


@pytest.mark.parametrize("speak", DRIPS.values(), ids=DRIPS)
def test_a_request_ends_in_time(laptop: Laptop, speak: Callable[[socket.socket], None]) -> None:
    with running(speak) as port, pytest.raises(Unreachable, match=r"does not answer\."):
        Client(f"http://localhost:{port}/").request("GET", "x", timeout=0.5)


@pytest.mark.parametrize(
    "speak",
    [*FLOODS.values(), endless(b"HTTP/1.1 200 OK\r\n\r\n", b"a"), endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n")],
    ids=[*FLOODS, "body", "continue"],
)
@pytest.mark.slow
def test_a_request_has_a_bounded_answer(laptop: Laptop, speak: Callable[[socket.socket], None]) -> None:
    with running(speak) as port, pytest.raises(Unreachable):
        Client(f"http://localhost:{port}/").request("GET", "x", timeout=1.0)


@pytest.mark.parametrize("speak", [DRIPS["a header for ever"], dripping(b"", b"a")], ids=["header", "line"])
def test_a_tunnels_handshake_ends_in_time(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch, speak: Callable[[socket.socket], None]
) -> None:
    monkeypatch.setattr(websocket_handshake, "TIMEOUT", 0.5)
    with running(speak) as port, pytest.raises(Unreachable, match=r"does not answer\."):
        websocket_handshake.connect(f"ws://localhost:{port}/t", {}, None)


@pytest.mark.parametrize("speak", FLOODS.values(), ids=FLOODS)
def test_a_tunnels_handshake_has_a_bounded_size(laptop: Laptop, speak: Callable[[socket.socket], None]) -> None:
    with running(speak) as port, pytest.raises(Unreachable, match="its answer is too long"):
        websocket_handshake.connect(f"ws://localhost:{port}/t", {}, None)


def test_a_tunnels_refusal_has_a_bounded_size(laptop: Laptop) -> None:
    """And its beginning is no sentence."""
    speak = endless(b"HTTP/1.1 500 No\r\nContent-Length: 999999999999\r\n\r\n", b"a")
    with running(speak) as port, pytest.raises(Failure, match="refused the tunnel"):
        websocket_handshake.connect(f"ws://localhost:{port}/t", {}, None)


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 101 Go\r\n\r\n",
        b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: eA==\r\n\r\n",
        b"",
    ],
)
def test_what_is_no_handshake_is_refused(laptop: Laptop, said: bytes) -> None:
    def speak(connected: socket.socket) -> None:
        connected.sendall(said)
        connected.shutdown(socket.SHUT_WR)

    with running(speak) as port, pytest.raises(Failure):
        websocket_handshake.connect(f"ws://localhost:{port}/t", {}, None)


def test_frames_that_come_with_the_handshake_are_not_lost(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_handshake.os, "urandom", bytes)
    accept = b"ICX+Yqv66kxgM0FcWaLWlFLwTAI="

    def speak(connected: socket.socket) -> None:
        head = b"HTTP/1.1 101 Go\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept
        connected.sendall(head + b"\r\n\r\n\x82\x02hi")
        connected.recv(1)

    with running(speak) as port:
        frames = websocket_handshake.connect(f"ws://localhost:{port}/t", {}, None)
        assert frames.receive().data == b"hi"
        frames.close()


class TestProxy:
    HUB = address("https://hub.example.org/")

    @pytest.mark.parametrize(
        ("environment", "wanted"),
        [
            ({}, None),
            ({"HTTPS_PROXY": "http://proxy:3128"}, ("proxy", 3128, "")),
            ({"HTTPS_PROXY": "proxy:3128"}, ("proxy", 3128, "")),
            ({"https_proxy": "http://proxy"}, ("proxy", 80, "")),
            ({"https_proxy": "", "HTTPS_PROXY": "http://proxy"}, None),
            ({"HTTP_PROXY": "http://proxy:3128"}, None),
            ({"HTTPS_PROXY": "http://us%40er:p%3Aw@proxy:3128/"}, ("proxy", 3128, "us@er:p:w")),
            ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "example.org"}, None),
            ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "hub.example.org:443"}, None),
            ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "example.com"}, ("proxy", 3128, "")),
        ],
    )
    def test_it_is_the_environments(
        self, laptop: Laptop, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], wanted: tuple[str, int, str] | None
    ) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert self.HUB is not None
        found = connection._proxy(self.HUB)
        assert (found and (found.host, found.port, found.credentials)) == wanted

    def test_others_than_http_are_told(self, laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
        for other in ("socks5://user:secret@proxy:1080", "garbage::", "http://[x"):
            monkeypatch.setenv("HTTPS_PROXY", other)
            for command in (["login", "https://hub.example.org"], ["proxy", "wss://hub.example.org/t"]):
                done = laptop.run(*command)
                assert (done.status, "HTTPS_PROXY" in done.err, "secret" in done.err) == (1, True, False)

    @pytest.mark.parametrize(
        ("said", "told"), [(b"HTTP/1.1 407 No\r\n\r\n", "USER:PASSWORD@"), (b"HTTP/1.1 403 No\r\n\r\n", "answers with 403")]
    )
    def test_one_that_refuses_is_told(self, laptop: Laptop, monkeypatch: pytest.MonkeyPatch, said: bytes, told: str) -> None:
        with running(lambda connected: connected.sendall(said)) as port:
            monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{port}")
            for command in (["login", "https://hub.example.org"], ["proxy", "wss://hub.example.org/t"]):
                done = laptop.run(*command)
                assert (done.status, told in done.err) == (4, True), done

    @pytest.mark.slow
    def test_one_that_never_ends_its_answer(self, laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
        hub = Address("https", "hub.example.org", 443, "/")
        for speak in (DRIPS["a header for ever"], FLOODS["headers"]):
            with running(speak) as port:
                monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{port}")
                with pytest.raises(Unreachable):
                    connection.opened(hub, None, 1.0)

    def test_it_learns_who_asks(self, laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
        sent: list[bytes] = []

        def head(*given: Any) -> bytes:
            sent.append(real(*given))
            return sent[-1]

        real = connection.head
        monkeypatch.setattr(connection, "head", head)
        with running(lambda connected: connected.sendall(b"HTTP/1.1 200 OK\r\n\r\n")) as port:
            monkeypatch.setenv("HTTP_PROXY", f"http://us%40er:p%3Aw@127.0.0.1:{port}")
            connection.opened(Address("http", "hub.example.org", 80, "/"), None, 20.0).close()
        assert sent == [
            b"CONNECT hub.example.org:80 HTTP/1.1\r\nHost: hub.example.org:80\r\nProxy-Authorization: Basic dXNAZXI6cDp3\r\n\r\n"
        ]

"""Networks whose only way out is an HTTP proxy."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..fakes import gateway_api
from ..fakes.gateway_api import FakeGateway
from ..harness.processes import free_port
from . import certificates
from .certificates import ELSEWHERE
from .conftest import Laptop


class ConnectProxy:
    """Knows CONNECT (RFC 9110, section 9.3.6) alone, and notes the first line of each request."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1) or b"\r\n\r\n"
        self.requests.append(head.split(b"\r\n")[0].decode())
        port = int(self.requests[-1].split()[1].rpartition(":")[2])
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            other = threading.Thread(target=_copy, args=(server, client), daemon=True)
            other.start()
            _copy(client, server)
            other.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    made = ConnectProxy()
    yield made
    made.stop()


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    return certificates.make(tmp_path)[0]


@pytest.fixture
def secure(ca_file: Path) -> Iterator[FakeGateway]:
    """A hub that only the proxy finds."""
    with gateway_api.running(ca_file.with_name("server.pem")) as gateway:
        gateway.url = gateway.url.replace("localhost", ELSEWHERE)
        yield gateway


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_all_goes_through_it_and_it_reads_nothing(
    laptop: Laptop, secure: FakeGateway, ca_file: Path, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("http://", scheme))
    laptop.log_in(secure, "--ca-file", str(ca_file))
    port = secure.url.rpartition(":")[2]
    assert {request.rpartition(" ")[0] for request in proxy.requests} == {f"CONNECT {ELSEWHERE}:{port}"}
    secure.connect["tunnel"] = secure.url.replace("https", "wss") + "/services/ssh/tunnel"
    secure.answers["tunnel"] = (404, b'{"message": "There is no tunnel here."}', {})
    laptop.good("servers", "list")
    before = len(proxy.requests)
    done = laptop.run("proxy", "alice.hub")
    assert (done.status, done.err) == (1, "jhssh: There is no tunnel here.\n")
    assert len(proxy.requests) == before + 1
    assert secure.paths[-1] == "GET /services/ssh/tunnel"


def test_a_proxy_that_is_down_is_told(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    for command in (["login", f"https://{ELSEWHERE}"], ["proxy", f"wss://{ELSEWHERE}/services/ssh/tunnel"]):
        done = laptop.run(*command)
        assert (done.status, "jhssh: The HTTP proxy 127.0.0.1:" in done.err) == (4, True)


def test_this_computer_needs_no_proxy(
    laptop: Laptop, fake: FakeGateway, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("http_proxy", proxy.url)
    laptop.log_in(fake)
    fake.connect["tunnel"] = fake.url.replace("http", "ws") + "/services/ssh/tunnel"
    fake.answers["tunnel"] = (404, b"", {})
    laptop.good("servers", "list")
    assert laptop.run("proxy", "alice.hub").status == 1
    assert fake.paths[-1] == "GET /services/ssh/tunnel"
    assert proxy.requests == []

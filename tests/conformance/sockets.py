"""The two ends that forwarding joins: a server that echoes, and calls that send much, half-close, and read to the end."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .patterns import blocks

Address = tuple[str, int] | Path


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)


class _TCP(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64


class _Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextmanager
def echo_server(path: Path | None = None) -> Iterator[int]:
    """Its TCP port, or 0 for one at a Unix socket's ``path``."""
    with _TCP(("127.0.0.1", 0), _Echo) if path is None else _Unix(str(path), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield 0 if path else int(server.socket.getsockname()[1])
        finally:
            server.shutdown()
            thread.join()


def connect(address: Address) -> socket.socket:
    if isinstance(address, Path):
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(30)
        try:
            made.connect(str(address))
        except OSError:
            made.close()
            raise
        return made
    return socket.create_connection(address, 30)


def reachable(address: Address) -> bool:
    try:
        connect(address).close()
    except OSError:
        return False
    return True


def echoes(connection: socket.socket, size: int = 2_000_003) -> bool:
    """Does all that is sent come back, and the end after it? Closes the connection."""

    def send() -> None:
        for block in blocks(size):
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)

    with connection:
        thread = threading.Thread(target=send)
        thread.start()
        found = bytearray()
        while data := connection.recv(1 << 16):
            found += data
        thread.join()
    return bytes(found) == b"".join(blocks(size))


def socks5(proxy: Address, host: str, port: int) -> socket.socket:
    """A connection through a SOCKS5 proxy to a host by name (RFC 1928)."""
    connection = connect(proxy)
    connection.sendall(b"\x05\x01\x00")
    assert receive(connection, 2) == b"\x05\x00"
    name = host.encode()
    connection.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
    answer = receive(connection, 4)
    assert answer[:2] == b"\x05\x00", "the proxy refused"
    receive(connection, {1: 4, 4: 16}[answer[3]] + 2)
    return connection


def receive(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        data = connection.recv(count - len(found))
        assert data, "the connection ended early"
        found += data
    return found

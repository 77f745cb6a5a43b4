"""A connection to a hub: by the HTTP proxy of this network where there is one, with TLS, and bounded in time.

On the path of every connection of ssh's: it imports next to nothing.
"""

from __future__ import annotations

import binascii
import io
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..identifiers import printable
from .addresses import Address, address
from .failures import Failure, Unreachable
from .tls import is_loopback

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_HEAD = 64 << 10
"""bytes of an answer before its body"""


class Connection:
    """All that is done with it ends by ``deadline``, however slowly the other end drips. All methods raise OSError."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.socket, self._deadline = sock, deadline

    def hurry(self) -> None:
        """The next call on the socket has what is left of the time."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.socket.settimeout(left)

    def send(self, data: bytes) -> None:
        self.hurry()
        self.socket.sendall(data)

    def receive(self, count: int) -> bytes:
        self.hurry()
        return self.socket.recv(count)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What http.client reads."""
        return io.BufferedReader(_Reading(self))

    def close(self) -> None:
        self.socket.close()


class _Reading(io.RawIOBase):
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._connection.hurry()
        return self._connection.socket.recv_into(buffer)


def opened(to: Address, tls: ssl.SSLContext | None, timeout: float) -> Connection:
    """``timeout``: for getting there, and once more for all that is done with it. Raises Failure."""
    proxy = _proxy(to)
    next_ = proxy or to
    try:
        sock = socket.create_connection((next_.host, next_.port), timeout)
    except (OSError, ValueError) as error:
        raise unreachable(f"{'The HTTP proxy ' if proxy else ''}{next_.authority}", error) from None
    made = Connection(sock, time.monotonic() + timeout)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if proxy is not None:
            _pass(made, proxy, to)
        if tls is not None:
            made.hurry()
            made.socket = tls.wrap_socket(sock, server_hostname=to.host)
    except (OSError, ValueError) as error:
        made.close()
        raise unreachable(to.authority, error) from None
    except BaseException:
        made.close()
        raise
    return made


def head(method: str, to: Address, headers: Mapping[str, str]) -> bytes:
    """Of a request. Raises ValueError."""
    fields = {"Host": to.authority, **headers}
    lines = [f"{method} {to.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if any(re.search(r"[^\t\x20-\x7e]", line) for line in lines) or " " in to.target:
        raise ValueError("its address is no address for HTTP")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def received_head(connection: Connection) -> tuple[int, dict[str, str], bytes]:
    """Of an answer: its status, its headers by name in small letters, and what came after them. Raises OSError."""
    received = b""
    while b"\r\n\r\n" not in received:
        if len(received) > MAX_HEAD:
            raise OSError("its answer is too long")
        more = connection.receive(4096)
        if not more:
            raise OSError("it ended the connection without an answer")
        received += more
    text, _, rest = received.partition(b"\r\n\r\n")
    first, *lines = text.decode("latin-1").split("\r\n")
    status = re.fullmatch(r"HTTP/1\.[01] ([0-9]{3})(?: .*)?", first)
    if status is None:
        raise OSError("what answers there does not speak HTTP")
    fields = (line.partition(":") for line in lines)
    return int(status[1]), {name.strip().lower(): value.strip() for name, _, value in fields}, rest


def unreachable(host: str, cause: Exception) -> Unreachable:
    """In a sentence."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = printable(cause.verify_message or str(cause))
        advice = "If your organisation has a CA of its own, name its certificate: --ca-file FILE (with jhssh login)"
        return Unreachable(f"The certificate of {host} can't be verified: {why}. {advice}", code="CERTIFICATE_INVALID")
    if isinstance(cause, ssl.SSLError):
        return Unreachable(f"{host} does not speak TLS as it should: {printable(str(cause.reason or cause))}.")
    if isinstance(cause, TimeoutError):
        return Unreachable(f"{host} does not answer.")
    if isinstance(cause, socket.gaierror):
        return Unreachable(f"There is no such host: {host} leads nowhere from this network.")
    said = cause.strerror if isinstance(cause, OSError) and cause.strerror else cause
    return Unreachable(f"{host} can't be reached: {printable(str(said))}.")


def _proxy(to: Address) -> Address | None:
    """As urllib reads the environment (and the settings of Windows and macOS): for all that this command does, by one rule."""
    if is_loopback(to.host):
        return None
    if sys.platform not in ("win32", "darwin") and not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass  # here: it is slow, and few networks need it

    given = getproxies().get("https" if to.secure else "http")
    if not given or proxy_bypass(f"{to.host}:{to.port}"):
        return None
    found = address(given if "://" in given else f"http://{given}")
    if found is None:
        raise Failure(
            "The proxy that this network's settings name (HTTPS_PROXY) is no HTTP proxy: only http://HOST:PORT will do."
        )
    return found


def _pass(connection: Connection, proxy: Address, to: Address) -> None:
    """CONNECT (RFC 9110, section 9.3.6). Raises Unreachable, OSError, ValueError."""
    name = f"{f'[{to.host}]' if ':' in to.host else to.host}:{to.port}"
    headers = {"Host": name}
    if proxy.credentials:
        encoded = binascii.b2a_base64(proxy.credentials.encode(), newline=False).decode("ascii")
        headers["Proxy-Authorization"] = f"Basic {encoded}"
    connection.send(head("CONNECT", replace(to, target=name), headers))
    status, _, rest = received_head(connection)
    if not 200 <= status < 300 or rest:
        why = "it wants http://USER:PASSWORD@HOST:PORT" if status == 407 else f"it answers with {status}"
        raise Unreachable(f"The HTTP proxy of this network ({proxy.authority}) did not let us through: {why}.")

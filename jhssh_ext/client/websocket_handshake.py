"""The opening handshake of a WebSocket (RFC 6455, section 4), bounded in size and time.

On the path of every connection of ssh's: it imports next to nothing.
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import json
import os
import ssl
from collections.abc import Mapping

from ..identifiers import printable
from .addresses import address
from .connection import Connection, head, opened, received_head, unreachable
from .failures import Failure, LoginNeeded, Unreachable, WrongUsage
from .websocket_frames import Frames

TIMEOUT = 20.0
MAX_BODY = 64 << 10
"""bytes of a refusal"""
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def connect(url: str, headers: Mapping[str, str], tls: ssl.SSLContext | None) -> Frames:
    """The WebSocket behind ``url``: ws, or wss with ``tls`` or the system's CAs. Raises Failure."""
    to = address(url)
    if to is None:
        raise WrongUsage(f"{printable(url)} is no address of a tunnel.")
    connection = opened(to, (tls or ssl.create_default_context()) if to.secure else None, TIMEOUT)
    try:
        key = _base64(os.urandom(16))
        ours = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key, "Sec-WebSocket-Version": "13"}
        connection.send(head("GET", to, {**ours, **headers}))
        status, answered, rest = received_head(connection)
        if status != 101:
            raise _refusal(status, answered, _body(connection, answered, rest))
        accept = _base64(hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest())
        if answered.get("upgrade", "").lower() != "websocket" or answered.get("sec-websocket-accept") != accept:
            raise Failure("What answered is no tunnel.", code="NO_TUNNEL")
    except (OSError, ValueError) as error:
        connection.close()
        raise unreachable(to.authority, error) from None
    except BaseException:
        connection.close()
        raise
    return Frames(connection.socket, rest)


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _body(connection: Connection, headers: Mapping[str, str], received: bytes) -> bytes:
    """As much of it as comes in time."""
    length = headers.get("content-length", "")
    wanted = min(int(length), MAX_BODY) if length.isdecimal() and len(length) < 20 else 0
    with contextlib.suppress(OSError):
        while len(received) < wanted and (more := connection.receive(wanted - len(received))):
            received += more
    return received


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What an HTTP status in place of the WebSocket means; with the server's own sentence if it sent one."""
    said = ""
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
        said = printable(str(json.loads(body)["message"]), 300)
    if status == 401:
        return LoginNeeded(said or "The hub does not know this token (any more). Run: jhssh login")
    if status == 404:
        return Failure(said or "There is no tunnel at this address: the hub has none, or no server runs.", code="NO_TUNNEL")
    if status in (502, 503, 504):
        return Unreachable(said or "SSH is not available at this hub right now. Try again later.")
    if 300 <= status < 400:
        where = printable(headers.get("location", "elsewhere"), 300)
        return Failure(
            f"The tunnel's address sends one on to {where}. If the hub is there now, log in anew: jhssh login URL. If that is "
            "a login page, of this network or in front of the hub: open it in a browser, or ask the hub's admin.",
            code="REDIRECTED",
        )
    return Failure(said or f"The hub refused the tunnel (HTTP {status}).", code="REFUSED")

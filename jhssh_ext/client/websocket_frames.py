"""Frames of a WebSocket (RFC 6455, section 5), once its handshake is done: for one thread that reads and others that write.

websocket-client has all this, but masks ten times slower, shares TLS between threads, and takes frames and answers of any length.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

try:
    from tornado.speedups import websocket_mask as masked  # where it happens to be installed, and has its C part
except ImportError:

    def masked(mask: bytes, data: bytes) -> bytes:
        count = len(data)
        key = int.from_bytes((mask * (count // 4 + 1))[:count], sys.byteorder)
        return (int.from_bytes(data, sys.byteorder) ^ key).to_bytes(count, sys.byteorder)


CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MAX_FRAME = 1 << 20
"""bytes of a frame that are taken from a server; ours sends 64 KiB"""
READ_SIZE = 64 << 10


class FrameError(OSError):
    """What came is no frame that a server may send; or the connection ended in the middle of one."""


@dataclass(frozen=True)
class Frame:
    opcode: int
    final: bool
    data: bytes


class Frames:
    """Of a connection whose handshake is done. All methods raise OSError or ValueError when it is gone."""

    def __init__(self, connection: socket.socket, received: bytes = b"") -> None:
        """``received``: what came after the handshake."""
        self._tls = isinstance(connection, ssl.SSLSocket)
        connection.settimeout(None)
        if self._tls:
            connection.setblocking(False)
        self._connection = connection
        self._received = bytearray(received)
        self._sending, self._in_tls = threading.Lock(), threading.Lock()

    def receive(self) -> Frame:
        """The next one."""
        first, second = self._take(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._take(8))
        if first & 0x70 or second & 0x80:
            raise FrameError("what came is no frame of a server")
        if length > MAX_FRAME:
            raise FrameError("a frame was too long")
        return Frame(first & 0xF, bool(first & 0x80), self._take(length))

    def send(self, opcode: int, data: bytes) -> None:
        """A message of one frame."""
        length, mask = len(data), os.urandom(4)
        if length < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
        elif length < 1 << 16:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, length)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, length)
        left = memoryview(head + mask + masked(mask, data))
        with self._sending:
            while left:
                left = left[self._when_possible(lambda left=left: self._connection.send(left)) :]  # type: ignore[misc]

    def break_off(self) -> None:
        """Ends the wait of the thread that reads."""
        # An SSLSocket's own shutdown would have what is still read go past TLS.
        socket.socket.shutdown(self._connection, socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.close()

    def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            data = self._when_possible(lambda: self._connection.recv(READ_SIZE))
            if not data:
                raise FrameError("the connection ended")
            self._received += data
        found = bytes(self._received[:count])
        del self._received[:count]
        return found

    def _when_possible(self, call: Callable[[], Any]) -> Any:
        """OpenSSL's connections are for one thread at a time, so none waits in there while another may have something to do."""
        if not self._tls:
            return call()
        while True:
            try:
                with self._in_tls:
                    return call()
            except ssl.SSLWantReadError:
                select.select([self._connection], [], [])
            except ssl.SSLWantWriteError:
                select.select([], [self._connection], [])

"""A WebSocket client by hand (RFC 6455), which also does what no library does."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Mapping

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
)


class RawWebSocket:
    """``answer``: with what it answers pings; None: with nothing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int) -> None:
        self.reader, self.writer, self.status = reader, writer, status
        self.answer: int | None = PONG
        self.pings = 0

    @classmethod
    async def connect(cls, port: int, path: str = "/tunnel", headers: Mapping[str, str] | None = None) -> RawWebSocket:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        writer.write(HANDSHAKE.format(path=path, port=port, more=more).encode())
        head = await reader.readuntil(b"\r\n\r\n")
        return cls(reader, writer, int(head.split()[1]))

    async def send(self, opcode: int, data: bytes = b"", *, final: bool = True, length: int | None = None) -> None:
        """One frame. ``length``: what it claims."""
        length = len(data) if length is None else length
        head = bytes([0x80 * final | opcode])
        if length < 126:
            head += bytes([0x80 | length])
        elif length < 1 << 16:
            head += struct.pack("!BH", 0x80 | 126, length)
        else:
            head += struct.pack("!BQ", 0x80 | 127, length)
        mask = os.urandom(4)
        key = int.from_bytes((mask * (len(data) // 4 + 1))[: len(data)], "big")
        self.writer.write(head + mask + (int.from_bytes(data, "big") ^ key).to_bytes(len(data), "big"))
        await self.writer.drain()

    async def receive(self) -> tuple[int, bytes]:
        """The next frame that is no ping and no pong; (CLOSE, b"") where the connection just ended."""
        try:
            while True:
                first, second = await self.reader.readexactly(2)
                length = second & 0x7F
                if length == 126:
                    (length,) = struct.unpack("!H", await self.reader.readexactly(2))
                elif length == 127:
                    (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
                data = await self.reader.readexactly(length)
                if first & 0xF == PING:
                    self.pings += 1
                    if self.answer is not None:
                        await self.send(self.answer, data)
                elif first & 0xF != PONG:
                    return first & 0xF, data
        except (asyncio.IncompleteReadError, ConnectionError):
            return CLOSE, b""

    async def received(self, count: int) -> bytes:
        """That many bytes of data, or what came of them before Close."""
        found = b""
        while len(found) < count:
            opcode, data = await self.receive()
            if opcode == CLOSE:
                break
            found += data
        return found

    async def close_code(self) -> int:
        """Of the Close that comes; 0 where none does."""
        while True:
            opcode, data = await self.receive()
            if opcode == CLOSE:
                return int.from_bytes(data[:2], "big")

    def stop_reading(self) -> None:
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def resume_reading(self) -> None:
        self.writer.transport.resume_reading()  # type: ignore[attr-defined]

    def drop(self) -> None:
        """As when a network goes away, and says so."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

from __future__ import annotations

import importlib.util
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator

import pytest

from jhssh_ext.client import websocket_frames
from jhssh_ext.client.websocket_frames import BINARY, MAX_FRAME, PING, Frame, FrameError, Frames

SIZES = [0, 1, 125, 126, 65535, 65536, 200_000]


@pytest.fixture
def ends() -> Iterator[tuple[Frames, socket.socket]]:
    """Ours, and the server's."""
    near, far = socket.socketpair()
    with near, far:
        yield Frames(near), far


def parsed(raw: bytes) -> tuple[int, bytes]:
    """A client's frame, unmasked by the book (RFC 6455, section 5.3)."""
    assert raw[0] & 0xF0 == 0x80
    assert raw[1] & 0x80
    length, at = raw[1] & 0x7F, 2
    if length == 126:
        (length,), at = struct.unpack("!H", raw[2:4]), 4
        assert length > 125
    elif length == 127:
        (length,), at = struct.unpack("!Q", raw[2:10]), 10
        assert length > 65535
    mask, data = raw[at : at + 4], raw[at + 4 :]
    assert len(data) == length
    return raw[0] & 0xF, bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


def everything(end: socket.socket) -> bytes:
    found = b""
    while data := end.recv(1 << 20):
        found += data
    return found


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_what_is_sent_is_masked(size: int, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tornado's C code, and where that could not be built."""
    module = websocket_frames
    if not compiled:
        monkeypatch.setitem(sys.modules, "tornado.speedups", None)
        spec = importlib.util.find_spec(websocket_frames.__name__)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        assert module.masked.__module__ == spec.name
    data = os.urandom(size)
    near, far = socket.socketpair()
    with near, far:
        frames = module.Frames(near)
        sending = threading.Thread(target=lambda: (frames.send(BINARY, data), near.shutdown(socket.SHUT_WR)))
        sending.start()
        raw = everything(far)
        sending.join()
    assert parsed(raw) == (BINARY, data)
    assert not (size > 100 and data[:50] in raw)


@pytest.mark.parametrize("size", SIZES)
def test_what_comes_in_pieces_is_put_together(ends: tuple[Frames, socket.socket], size: int) -> None:
    frames, server = ends
    data = os.urandom(size)
    if size < 126:
        head = bytes([0x80 | BINARY, size])
    elif size < 65536:
        head = bytes([0x80 | BINARY, 126]) + struct.pack("!H", size)
    else:
        head = bytes([0x80 | BINARY, 127]) + struct.pack("!Q", size)

    def send() -> None:
        raw = head + data + bytes([PING, 2]) + b"hi"
        for start in [0, 1, 2, 3, 5, 9, 11, 70_000]:
            end = {0: 1, 1: 2, 2: 3, 3: 5, 5: 9, 9: 11, 11: 70_000}.get(start, len(raw))
            server.sendall(raw[start:end])

    sending = threading.Thread(target=send)
    sending.start()
    assert frames.receive() == Frame(BINARY, True, data)
    assert frames.receive() == Frame(PING, False, b"hi")
    sending.join()


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (bytes([0x82, 127]) + struct.pack("!Q", MAX_FRAME + 1), "too long"),
        (bytes([0x82, 127]) + b"\xff" * 8, "too long"),
        (bytes([0x82, 0x81]) + b"maskx", "no frame of a server"),
        (bytes([0xC2, 1]) + b"x", "no frame of a server"),
    ],
)
def test_what_no_server_sends_is_refused(ends: tuple[Frames, socket.socket], raw: bytes, why: str) -> None:
    ends[1].sendall(raw)
    with pytest.raises(FrameError, match=why):
        ends[0].receive()


def test_an_end_in_the_middle_of_a_frame_is_one(ends: tuple[Frames, socket.socket]) -> None:
    ends[1].sendall(bytes([0x82, 5]) + b"abc")
    ends[1].close()
    with pytest.raises(FrameError, match="ended"):
        ends[0].receive()


def test_who_reads_can_be_told_to_stop(ends: tuple[Frames, socket.socket]) -> None:
    stopped: list[BaseException] = []

    def read() -> None:
        try:
            ends[0].receive()
        except OSError as error:
            stopped.append(error)

    reading = threading.Thread(target=read)
    reading.start()
    ends[0].break_off()
    reading.join(10)
    assert stopped

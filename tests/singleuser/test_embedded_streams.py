from __future__ import annotations

import asyncio
import os

import pytest

from jhssh_ext.singleuser.embedded_streams import CHUNK, Inlet, Outlet, make_pipe

SIZE = 4 * CHUNK


class FakeChannel:
    def __init__(self) -> None:
        self.paused = False
        self.written = bytearray()
        self.changed = asyncio.Event()
        self.closed = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        self.changed.set()

    def write(self, data: bytes, datatype: int | None = None) -> None:
        if self.closed:
            raise BrokenPipeError
        self.written += data
        self.changed.set()


@pytest.mark.asyncio
async def test_inlet_pauses_the_channel_while_nobody_reads() -> None:
    read, write = make_pipe()
    channel = FakeChannel()
    inlet = Inlet(write, channel, owned=True)
    data = os.urandom(SIZE)
    inlet.write(data)
    inlet.write_eof()
    assert channel.paused
    assert inlet.full
    found = await asyncio.to_thread(read_all, read)
    assert found == data
    await asyncio.wait_for(channel.changed.wait(), 30)
    assert not channel.paused


@pytest.mark.asyncio
async def test_inlet_drops_what_the_command_does_not_want() -> None:
    read, write = make_pipe()
    channel = FakeChannel()
    inlet = Inlet(write, channel, owned=True)
    inlet.write(bytes(SIZE))
    assert channel.paused
    os.close(read)
    await asyncio.wait_for(channel.changed.wait(), 30)
    inlet.write(b"more")
    inlet.write_eof()
    assert not channel.paused
    assert not inlet.full


@pytest.mark.asyncio
async def test_inlet_closed_while_full() -> None:
    read, write = make_pipe()
    inlet = Inlet(write, FakeChannel(), owned=True)
    inlet.write(bytes(SIZE))
    inlet.close()
    inlet.close()
    assert not inlet.full
    assert len(await asyncio.to_thread(read_all, read)) < SIZE


@pytest.mark.asyncio
async def test_terminal_stays_open_at_the_end_of_input() -> None:
    read, write = make_pipe()
    inlet = Inlet(write, FakeChannel(), owned=False)
    inlet.write(b"x")
    inlet.write_eof()
    inlet.close()
    os.write(write, b"y")  # still open: it is not the inlet's
    os.close(write)
    assert read_all(read) == b"xy"


@pytest.mark.asyncio
async def test_outlet_until_the_end() -> None:
    read, write = make_pipe()
    channel, ended = FakeChannel(), asyncio.Event()
    outlet = Outlet(read, channel, None, ended.set)
    os.write(write, b"one")
    await asyncio.wait_for(channel.changed.wait(), 30)
    outlet.pause()
    os.write(write, b"two")
    os.close(write)
    assert not ended.is_set()
    outlet.resume()
    await asyncio.wait_for(ended.wait(), 30)
    assert channel.written == b"onetwo"
    outlet.pause()
    outlet.resume()
    outlet.close()


@pytest.mark.asyncio
async def test_outlet_of_a_channel_that_is_closed_drops_what_comes() -> None:
    read, write = make_pipe()
    channel, ended = FakeChannel(), asyncio.Event()
    channel.closed = True
    Outlet(read, channel, None, ended.set)
    os.write(write, b"one")
    os.close(write)
    await asyncio.wait_for(ended.wait(), 30)
    assert channel.written == b""


def read_all(descriptor: int) -> bytes:
    found = b""
    while data := os.read(descriptor, 1 << 16):
        found += data
    os.close(descriptor)
    return found

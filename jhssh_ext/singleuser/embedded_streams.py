"""Bytes between an SSH channel and file descriptors: pipes or a terminal. Whichever side stops reading stops the other."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable
from typing import Protocol

CHUNK = 1 << 18
"""bytes read at once, and wished for as the size of a pipe"""
F_SETPIPE_SZ = 1031  # fcntl(2), Linux


class Writable(Protocol):
    """What of a channel an Outlet needs."""

    def write(self, data: bytes, datatype: int | None = None) -> None: ...


class Pausable(Protocol):
    """What of a channel an Inlet needs."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


def make_pipe() -> tuple[int, int]:
    """The end to read and the end to write."""
    read, write = os.pipe()
    with contextlib.suppress(OSError):  # a matter of speed alone
        fcntl.fcntl(write, F_SETPIPE_SZ, CHUNK)
    return read, write


class Outlet:
    """From a descriptor to the channel, until its end; owns the descriptor."""

    def __init__(self, descriptor: int, channel: Writable, datatype: int | None, ended: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor, self._channel, self._datatype, self._ended = descriptor, channel, datatype, ended
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)

    def pause(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)

    def resume(self) -> None:
        if self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._read)

    def close(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, CHUNK)
        except BlockingIOError:
            return
        except OSError:  # EIO: nobody has the other end of the terminal open any more (pty(7))
            data = b""
        if data:
            with contextlib.suppress(BrokenPipeError):  # the client has closed the channel; we are about to be told
                self._channel.write(data, self._datatype)
        else:
            self.close()
            self._ended()


class Inlet:
    """From the channel to a descriptor. What the descriptor does not take at once is kept, and the channel paused meanwhile."""

    def __init__(self, descriptor: int, channel: Pausable, *, owned: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor, self._channel, self._owned = descriptor, channel, owned
        self._waiting = bytearray()
        self._eof = False
        os.set_blocking(descriptor, False)

    def write(self, data: bytes) -> None:
        """Data for a descriptor that is closed already is dropped, as sshd does: the command does not want it."""
        if self._descriptor < 0:
            return
        if not self._waiting:
            written = self._try(data)
            if written == len(data) or self._descriptor < 0:
                return
            data = data[written:]
            self._channel.pause_reading()
            self._loop.add_writer(self._descriptor, self._flush)
        self._waiting += data

    @property
    def full(self) -> bool:
        return bool(self._waiting)

    def write_eof(self) -> None:
        """A terminal has no end of input but the one typed, so only a pipe is closed."""
        self._eof = True
        if not self._waiting and self._owned:
            self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            if self._waiting:
                self._loop.remove_writer(self._descriptor)
                self._waiting.clear()
            if self._owned:
                os.close(self._descriptor)
            self._descriptor = -1

    def _try(self, data: bytes | bytearray) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError:
            self.close()
            return len(data)

    def _flush(self) -> None:
        written = self._try(self._waiting)
        if self._descriptor >= 0:
            del self._waiting[:written]
            if self._waiting:
                return
            self._loop.remove_writer(self._descriptor)
            if self._eof and self._owned:
                self.close()
        self._channel.resume_reading()

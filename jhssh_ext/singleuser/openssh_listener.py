"""Accepts connections on a listening socket and gives each to an ``sshd -i`` of its own (sshd(8), inetd mode).

In place of a listening socket it takes one over which the Jupyter server hands connections (SCM_RIGHTS in unix(7)), a byte each.

A process beside the Jupyter server, so that a busy server does not hold up logins; standard library only:
``python -IS openssh_listener.py --fd N RUNTIME_DIR``. It ends, and all sshds with it, when its standard input closes:
the Jupyter server holds the other end. On standard output it says how many sessions are open, a line at each change.
"""
# Small and quick, so no pathlib:
# ruff: noqa: PTH118, PTH123, S606

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import NoReturn

PR_SET_PDEATHSIG = 1  # prctl(2)
# Not the SIGTERM of an orderly stop: it may come while the Jupyter server is still there to see, its threads ending one by one.
OWNER_DIED = signal.SIGHUP
MAX_UNAUTHENTICATED = 64
"""as sshd's own MaxStartups, which does not count in inetd mode"""
MAX_CONNECTIONS = 400
"""each costs a file descriptor here"""
MAX_LINE = 1024
GRACE = 3.0
"""seconds that the sshds get to end before they are killed"""
AUTHENTICATED = b"Accepted "
_FREED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass
class Connection:
    """One sshd; ``log`` is the pipe that its standard error goes to."""

    pid: int
    log: int
    authenticated: bool = False
    rest: bytes = field(default=b"", repr=False)


class Listener:
    """The loop: a new connection, a line of a log, a death, the end."""

    def __init__(self, listening: socket.socket, arguments: list[str]) -> None:
        self._listening, self._arguments = listening, arguments
        self._take = self._accepted if listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) else self._handed
        self._selector = selectors.DefaultSelector()
        self._connections: dict[int, Connection] = {}  # by pid
        self._woken, wakes = socket.socketpair()
        self._wakes = wakes
        for each in (listening, self._woken, wakes):
            each.setblocking(False)
        listening.set_inheritable(False)  # it was inherited; an sshd must not hold the port
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        self._stopping = False
        self._sessions = 0
        self.orphaned = False
        """did the Jupyter server die"""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(OWNER_DIED, self._orphan)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(listening, selectors.EVENT_READ, self._accept)
        self._selector.register(self._woken, selectors.EVENT_READ, self._reap)
        self._selector.register(0, selectors.EVENT_READ, self._lifeline)

    def run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select():
                key.data(key)
        self._end()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _orphan(self, *_: object) -> None:
        self._stopping = self.orphaned = True

    def _lifeline(self, _: selectors.SelectorKey) -> None:
        if not os.read(0, 4096):
            self._stopping = self.orphaned = True

    def _accepted(self) -> socket.socket | None:
        return self._listening.accept()[0]

    def _handed(self) -> socket.socket | None:
        byte, descriptors, _flags, _address = socket.recv_fds(self._listening, 1, 1)
        if not byte:  # nobody is left who could hand one over
            self._stopping = True
        return socket.socket(fileno=descriptors[0]) if descriptors else None

    def _accept(self, _: selectors.SelectorKey) -> None:
        try:
            taken = self._take()
        except OSError:  # the client is gone already, or no descriptor is free: the next one is looked at
            return
        if taken is None:
            return
        with taken as accepted:
            strangers = sum(not each.authenticated for each in self._connections.values())
            if strangers >= MAX_UNAUTHENTICATED or len(self._connections) >= MAX_CONNECTIONS:
                say(b"too many connections are open: one is dropped")
                return
            accepted.setblocking(True)
            try:
                read, write = os.pipe()
            except OSError:
                return
            try:
                pid = os.fork()
            except OSError as error:
                os.close(read)
                os.close(write)
                say(f"no sshd can be started: {error.strerror}".encode())
                return
            if pid == 0:
                self._become_sshd(accepted.fileno(), write)
            os.close(write)
        os.set_blocking(read, False)
        connection = self._connections[pid] = Connection(pid, read)
        self._selector.register(read, selectors.EVENT_READ, functools.partial(self._read_log, connection))

    def _become_sshd(self, connection: int, log: int) -> NoReturn:
        try:
            parent = os.getppid()
            signal.set_wakeup_fd(-1)
            for number in _FREED_BY_PYTHON:
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            die_with_parent(signal.SIGTERM)
            if os.getppid() == parent:
                os.dup2(connection, 0)
                os.dup2(connection, 1)
                os.dup2(log, 2)
                os.execv(self._arguments[0], self._arguments)
        except OSError as error:
            os.write(log, f"fatal: {self._arguments[0]}: {error.strerror}\n".encode())
        os._exit(255)

    def _read_log(self, connection: Connection, _: selectors.SelectorKey | None = None) -> None:
        if connection.log < 0:  # closed by an event before this one
            return
        try:
            data = os.read(connection.log, 65536)
        except BlockingIOError:
            return
        *lines, rest = (connection.rest + data).split(b"\n")
        connection.rest = rest[:MAX_LINE]
        for line in lines:
            connection.authenticated |= line.startswith(AUTHENTICATED)
            say(b"sshd[%d]: %s" % (connection.pid, line.strip()[:MAX_LINE]))
        if not data:
            self._close_log(connection)
        self._count()

    def _count(self) -> None:
        """A session is a connection that has logged in."""
        sessions = sum(each.authenticated for each in self._connections.values())
        if sessions != self._sessions:
            self._sessions = sessions
            with contextlib.suppress(OSError):
                os.write(1, b"%d\n" % sessions)

    def _close_log(self, connection: Connection) -> None:
        if connection.log >= 0:
            self._selector.unregister(connection.log)
            os.close(connection.log)
            connection.log = -1

    def _reap(self, _: selectors.SelectorKey) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        self._collect()

    def _collect(self) -> None:
        while self._connections:
            try:
                pid, _status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            ended = self._connections.pop(pid, None)
            if ended is not None:
                self._read_log(ended)
                self._close_log(ended)
                self._count()

    def _end(self) -> None:
        """No sshd outlives us: asked first, then killed, each with its helper processes (commands have sessions of their own)."""
        self._listening.close()
        for pid in self._connections:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while self._connections and time.monotonic() < deadline:
            with contextlib.suppress(InterruptedError):
                self._selector.select(0.1)
            self._collect()
        for pid in self._connections:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)


def say(line: bytes) -> None:
    """One line for the Jupyter server's log; lost rather than waited for."""
    with contextlib.suppress(OSError):
        os.write(2, line + b"\n")


def die_with_parent(number: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the socket, inherited")
    parser.add_argument("runtime_dir", help="folder with sshd.json; removed if the Jupyter server dies")
    options = parser.parse_args()
    with open(os.path.join(options.runtime_dir, "sshd.json"), encoding="utf-8") as file:
        arguments = json.load(file)["arguments"]
    for output in (1, 2):
        os.set_blocking(output, False)
    listener = Listener(socket.socket(fileno=options.fd), arguments)
    die_with_parent(OWNER_DIED)
    parent = os.getppid()
    say(b"ready")
    listener.run()
    if listener.orphaned or os.getppid() != parent:  # nobody else is left to do it
        shutil.rmtree(options.runtime_dir, ignore_errors=True)


if __name__ == "__main__":
    main()
    sys.exit(0)

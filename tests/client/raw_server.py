"""A TCP port of loopback whose every connection is what a test says, byte by byte."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def running(speak: Callable[[socket.socket], None]) -> Iterator[int]:
    """Its number. ``speak`` gets each connection once a request came, and may go on until that is gone."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[tuple[socket.socket, threading.Thread]] = []

    def one(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.recv(65536)
            speak(connection)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=one, args=(connection,))
            taken.append((connection, thread))
            thread.start()

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        serving.join()
        for connection, thread in taken:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()
            connection.close()


def dripping(first: bytes, then: bytes) -> Callable[[socket.socket], None]:
    """``first``, and ``then`` again and again, slowly enough for any time limit of one read."""

    def speak(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(then)
            time.sleep(0.05)

    return speak


def endless(first: bytes, then: bytes) -> Callable[[socket.socket], None]:
    """The same as fast as it is taken."""

    def speak(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(then * (65536 // len(then)))

    return speak

"""A load balancer in front of a port: it hands bytes on, and ends connections on which none went for a while."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator


def _relay(client: socket.socket, port: int, timeout: float) -> None:
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        other = {client: server, server: client}
        while readable := select.select(list(other), [], [], timeout)[0]:
            for end in readable:
                try:
                    data = end.recv(1 << 16)
                    other[end].sendall(data)
                except OSError:
                    return
                if not data:
                    return


@contextlib.contextmanager
def idle_proxy(port: int, timeout: float) -> Iterator[int]:
    """Its own port. ``timeout``: seconds without a byte in either direction."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=_relay, args=(client, port, timeout), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)

"""What the embedded server listens on for its clients: TCP ports, Unix sockets and X11 displays.

asyncssh's own listeners fail altogether where one of a name's addresses can't be had (``localhost`` without IPv6), and leave
Unix sockets behind. Everything else about forwarding is asyncssh's.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
from asyncssh.forward import SSHLocalPathForwarder, SSHLocalPortForwarder
from asyncssh.listener import SSHForwardListener
from asyncssh.x11 import X11_BASE_PORT, X11_DISPLAY_START, X11_MAX_DISPLAYS, SSHX11ServerListener, update_xauth

BACKLOG = 128


async def listen_tcp(connection: asyncssh.SSHServerConnection, host: str, port: int) -> asyncssh.SSHListener:
    """For ``-R``: of all the addresses of ``host`` those that can be had, and at least one. Raises OSError."""
    sockets = _bind(await _addresses(host, port), port)
    found = port or sockets[0].getsockname()[1]

    async def tunnel(factory: Callable[..., Any], *origin: Any) -> Any:
        return await connection.create_connection(factory, host, found, *origin)

    return await _serve(connection, sockets, lambda: SSHLocalPortForwarder(connection, tunnel), (host, found), found)


async def listen_unix(connection: asyncssh.SSHServerConnection, path: str) -> asyncssh.SSHListener:
    """For ``-R path:…``: a socket found there is replaced (StreamLocalBindUnlink), for its owner alone. Raises OSError."""
    bound = _bind_unix(path)

    async def tunnel(factory: Callable[..., Any]) -> Any:
        return await connection.create_unix_connection(factory, path)

    server = await asyncio.get_running_loop().create_unix_server(
        lambda: SSHLocalPathForwarder(connection, tunnel), sock=bound, backlog=BACKLOG
    )
    return _UnixListener(connection, server, path)


class _UnixListener(SSHForwardListener):
    """Takes its socket away with it, unless another has taken the place."""

    def __init__(self, connection: asyncssh.SSHServerConnection, server: asyncio.AbstractServer, path: str) -> None:
        super().__init__(connection, [server], path)
        self._path, self._file = path, os.lstat(path)

    def close(self) -> None:
        super().close()
        with contextlib.suppress(OSError):
            if os.path.samestat(os.lstat(self._path), self._file):
                Path(self._path).unlink()


async def listen_x11(
    connection: asyncssh.SSHServerConnection, authority: Path, protocol: bytes, cookie: bytes
) -> SSHX11ServerListener | None:
    """The first display that is free, with the client's cookie for it in the file ``authority``."""
    for display in range(X11_DISPLAY_START, X11_MAX_DISPLAYS):
        port = X11_BASE_PORT + display
        try:
            sockets = _bind(await _addresses("localhost", port), port, all_or_none=True)
        except OSError:
            continue
        listener = await _serve(
            connection,
            sockets,
            lambda: SSHLocalPortForwarder(connection, connection.create_x11_connection),
            ("localhost", port),
            port,
        )
        try:
            await update_xauth(str(authority), "localhost", str(display), protocol, cookie)
        except (OSError, ValueError):
            listener.close()
            return None
        return SSHX11ServerListener(listener, f"localhost:{display}")
    return None


def _bind_unix(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            Path(path).unlink()
    bound = socket.socket(socket.AF_UNIX)
    try:
        bound.setblocking(False)
        before = os.umask(0o177)  # StreamLocalBindMask's default
        try:
            bound.bind(path)
        finally:
            os.umask(before)
    except (OSError, ValueError) as error:
        bound.close()
        raise OSError(errno.EINVAL, str(error)) from None
    return bound


async def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    """Families and addresses to bind for a host as RFC 4254, section 7.1 has it: "" is all, "localhost" both loopbacks."""
    found = await asyncio.get_running_loop().getaddrinfo(
        None if host in ("", "*") else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bind(addresses: list[tuple[int, Any]], port: int, *, all_or_none: bool = False) -> list[socket.socket]:
    """``all_or_none``: an address that is taken spoils the others; one that this machine does not have never does."""
    bound: list[socket.socket] = []
    failure: OSError | None = None
    for family, address in addresses:
        try:
            made = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            failure = error
            continue
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind((address[0], port, *address[2:]))
        except (OSError, OverflowError) as error:
            made.close()
            failure = error if isinstance(error, OSError) else OSError(errno.EOVERFLOW, str(error))
            if all_or_none and failure.errno == errno.EADDRINUSE:
                for each in bound:
                    each.close()
                raise failure from None
            continue
        bound.append(made)
        port = port or made.getsockname()[1]
    if not bound:
        raise failure or OSError(errno.EADDRNOTAVAIL, "no such address")
    return bound


async def _serve(
    connection: asyncssh.SSHServerConnection,
    sockets: list[socket.socket],
    factory: Callable[[], asyncio.BaseProtocol],
    key: tuple[str, int],
    port: int,
) -> SSHForwardListener:
    loop = asyncio.get_running_loop()
    try:
        servers = [await loop.create_server(factory, sock=each, backlog=BACKLOG) for each in sockets]
    except OSError:  # two sockets may be bound to one port, but only one may listen
        for each in sockets:
            each.close()
        raise
    return SSHForwardListener(connection, servers, key, port)

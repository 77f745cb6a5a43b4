"""The sshd of user servers without OpenSSH's: ``python -m jhssh_ext.singleuser.embedded_server --fd N RUNTIME_DIR``.

A process of its own that accepts on the listening socket it is given, and ends, with all its sessions, when its parent does.
On standard output it says how many sessions are open, a line at each change.
In RUNTIME_DIR: ``host_key``, ``session.json``, and either ``user_ca_keys`` and ``principals`` or ``authorized_keys``.
In place of a listening socket it takes one over which its parent hands connections (SCM_RIGHTS in unix(7)), a byte each.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import logging
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import asyncssh
from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs
from asyncssh.public_key import get_public_key_algs

from .embedded_connection import CertificateAuthorities, Connection, RegisteredKeys, Server
from .embedded_session import hang_up_all, wait_for_all
from .runtime_dir import AUTHORIZED_KEYS

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1  # prctl(2)
# Not the SIGTERM of an orderly stop: it may come while the Jupyter server is still there to see, its threads ending one by one.
OWNER_DIED = signal.SIGHUP
MAX_UNAUTHENTICATED = 64
"""connections at once; further ones are dropped (as MaxStartups in sshd_config(5))"""
MAX_CONNECTIONS = 400
LOGIN_TIMEOUT = 30
KEEPALIVE_INTERVAL = 60
KEEPALIVE_COUNT = 3
GRACE = 3.0
"""seconds that sessions get to end"""

# Preferred first; what the installed cryptography lacks is left out.
KEX_ALGORITHMS = (
    "mlkem768x25519-sha256",
    "sntrup761x25519-sha512",
    "sntrup761x25519-sha512@openssh.com",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
)
CIPHERS = (
    "aes128-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes256-ctr",
    "aes128-ctr",
)
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
SIGNATURES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


def _present(wanted: Iterable[str], known: Iterable[bytes]) -> list[str]:
    names = {name.decode() for name in known}
    return [name for name in wanted if name in names]


def make_options(runtime: Path) -> asyncssh.SSHServerConnectionOptions:
    """From the files in ``runtime``. Raises OSError and ValueError where they are not as they should be."""
    host_key = asyncssh.import_private_key((runtime / "host_key").read_text())
    if host_key.algorithm != b"ssh-ed25519":  # an RSA key would bring SHA-1 with it
        raise ValueError("the host key is not of type ssh-ed25519")
    session = json.loads((runtime / "session.json").read_text(errors="surrogateescape"))
    sftp_server = bool(session["sftp_server"])
    return asyncssh.SSHServerConnectionOptions(
        server_factory=lambda: Server(runtime, sftp_server=sftp_server),
        server_host_keys=[host_key],
        authorized_client_keys=_who_gets_in(runtime),
        public_key_auth=True,
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        gss_host=None,
        x509_trusted_certs=None,
        kex_algs=_present(KEX_ALGORITHMS, get_kex_algs()),
        encryption_algs=_present(CIPHERS, get_encryption_algs()),
        mac_algs=_present(MACS, get_mac_algs()),
        signature_algs=_present(SIGNATURES, get_public_key_algs()),
        compression_algs=["none", "zlib@openssh.com"],
        login_timeout=LOGIN_TIMEOUT,
        keepalive_interval=KEEPALIVE_INTERVAL,
        keepalive_count_max=KEEPALIVE_COUNT,
        agent_forwarding=True,
        x11_forwarding=True,
        line_editor=False,
        encoding=None,
    )


def _who_gets_in(runtime: Path) -> CertificateAuthorities | RegisteredKeys:
    """Certificates of the gateway, or the user's own keys: never both."""
    own = runtime / AUTHORIZED_KEYS
    if own.exists():
        return RegisteredKeys(own)
    lines = (runtime / "user_ca_keys").read_text().splitlines()
    authorities = [asyncssh.import_public_key(line) for line in lines if line.strip()]
    return CertificateAuthorities(authorities, (runtime / "principals").read_text().removesuffix("\n"))


class EmbeddedServer:
    """Accepts, within bounds, until it is stopped."""

    def __init__(self, listening: socket.socket, runtime: Path, options: asyncssh.SSHServerConnectionOptions) -> None:
        self._listening, self._runtime, self._options = listening, runtime, options
        self._connections: dict[Connection, bool] = {}
        """is it authenticated"""
        listening.setblocking(False)

    async def run(self) -> None:
        """Until cancelled, or until nobody is left who could hand a connection over."""
        loop = asyncio.get_running_loop()
        take = _accepted if self._listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) else _handed
        while True:
            try:
                accepted = await take(self._listening)
            except EOFError:
                return
            except OSError as error:  # the client is gone already, or no descriptor is free
                log.warning("no connection can be accepted: %s", error.strerror)
                await asyncio.sleep(0.1)
                continue
            strangers = sum(not authenticated for authenticated in self._connections.values())
            if strangers >= MAX_UNAUTHENTICATED or len(self._connections) >= MAX_CONNECTIONS:
                log.warning("too many connections are open: one is dropped")
                accepted.close()
                continue
            connection = Connection(loop, self._options, self._runtime, self._told)
            self._connections[connection] = False
            try:
                await loop.connect_accepted_socket(lambda made=connection: made, accepted)  # type: ignore[misc]
            except OSError:
                del self._connections[connection]
                accepted.close()

    async def close(self) -> None:
        """Ends all sessions and connections."""
        hang_up_all()
        for connection in list(self._connections):
            connection.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(wait_for_all(), GRACE)

    def _told(self, connection: Connection, lives: bool) -> None:
        if lives:
            self._connections[connection] = True
        elif not self._connections.pop(connection, False):
            return
        with contextlib.suppress(OSError):
            os.write(1, b"%d\n" % sum(self._connections.values()))


async def _accepted(listening: socket.socket) -> socket.socket:
    return (await asyncio.get_running_loop().sock_accept(listening))[0]


async def _handed(control: socket.socket) -> socket.socket:
    """Raises EOFError when the other side is gone."""
    while True:
        await _readable(control)
        with contextlib.suppress(BlockingIOError):
            byte, descriptors, _flags, _address = socket.recv_fds(control, 1, 1)
            if descriptors:
                return socket.socket(fileno=descriptors[0])
            if not byte:
                raise EOFError


async def _readable(control: socket.socket) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(control, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(control)


def _watch_lifeline(loop: asyncio.AbstractEventLoop, lost: asyncio.Event) -> None:
    """Where standard input is a pipe, the parent holds its other end: it closes when the parent dies, however it dies."""
    mode = os.fstat(0).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return

    def read() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            lost.set()

    loop.add_reader(0, read)


async def serve(listening: socket.socket, runtime: Path) -> None:
    """Until SIGTERM, SIGINT or the death of the parent."""
    loop = asyncio.get_running_loop()
    stop, lost = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(OWNER_DIED, lost.set)
    _watch_lifeline(loop, lost)
    _watch_children_without_threads(loop)
    server = EmbeddedServer(listening, runtime, make_options(runtime))
    waiting: list[asyncio.Task[Any]] = [loop.create_task(each) for each in (server.run(), stop.wait(), lost.wait())]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await server.close()
    if lost.is_set():
        shutil.rmtree(runtime, ignore_errors=True)  # its owner can't
    for task in done:
        task.result()


def _end_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux; elsewhere there is the lifeline
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(OWNER_DIED), 0, 0, 0)


def _watch_children_without_threads(loop: asyncio.AbstractEventLoop) -> None:
    """As Python 3.12 does by itself: the function that runs between fork and exec must find no locks held by other threads."""
    if sys.version_info < (3, 12):
        try:
            os.close(os.pidfd_open(os.getpid()))
        except (OSError, AttributeError):
            return
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(loop)
        asyncio.set_child_watcher(watcher)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the socket, inherited")
    parser.add_argument("runtime_dir", type=Path, help="folder with the keys and session.json")
    given = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    os.set_blocking(1, False)
    _end_with_parent()
    runtime: Path = given.runtime_dir.resolve()
    tempfile.tempdir = str(runtime)  # so that agent sockets go when the folder goes
    cwd = json.loads((runtime / "session.json").read_text(errors="surrogateescape"))["cwd"]
    os.environ.setdefault("HOME", cwd)  # asyncssh fails without a home where the user has no entry in /etc/passwd
    with contextlib.suppress(OSError):  # where asyncssh's SFTP server begins
        os.chdir(cwd)
    listening = socket.socket(fileno=given.fd)
    asyncio.run(serve(listening, runtime))


if __name__ == "__main__":
    main()

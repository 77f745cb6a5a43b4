"""One connection to the embedded server: who gets in, and what asyncssh's own server does otherwise than sshd.

The classes here override internals of asyncssh; its minor version is pinned, and a test checks that they exist.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncssh
from asyncssh.constants import DISC_NO_MORE_AUTH_METHODS_AVAILABLE, MSG_CHANNEL_CLOSE
from asyncssh.packet import SSHPacket

from .embedded_forwarding import listen_tcp, listen_unix, listen_x11
from .embedded_session import Session, addresses, x11_authority

log = logging.getLogger(__name__)

MAX_AUTH_TRIES = 6
"""refused requests on one connection, as MaxAuthTries in sshd_config(5); asyncssh has no such bound"""
MAX_SESSIONS = 100
"""open at once on one connection, as in sshd_config.py"""


class CertificateAuthorities:
    """Stands where asyncssh keeps authorized keys, and admits certificates of these CAs for exactly one principal.

    asyncssh by itself would take principals for patterns, and let a certificate that names none in as anybody. Type of the
    certificate, times, addresses and critical options it checks itself after this (SSHOpenSSHCertificate.validate).
    """

    def __init__(self, authorities: Sequence[asyncssh.SSHKey], principal: str) -> None:
        if not authorities or not principal:
            raise ValueError("no user CA or no principal")
        self._authorities = [key.public_data for key in authorities]
        self._principal = principal

    def validate(
        self,
        key: asyncssh.SSHKey,
        client_host: str,
        client_addr: str,
        cert_principals: Sequence[str] | None = None,
        ca: bool = False,
    ) -> dict[str, Any] | None:
        """Options of the entry that admits a certificate signed by ``key``; None for plain keys and whatever else."""
        if not ca or key.public_data not in self._authorities or list(cert_principals or ()) != [self._principal]:
            return None
        return {"principals": [self._principal]}  # tells asyncssh that the name in the certificate is not the SSH user's

    def validate_x509(self, *_: object) -> tuple[None, None]:
        return None, None


class RegisteredKeys:
    """Stands there for the server of the user's own keys, and admits those in a file, read anew each time; no certificate."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def validate(
        self,
        key: asyncssh.SSHKey,
        client_host: str,
        client_addr: str,
        cert_principals: Sequence[str] | None = None,
        ca: bool = False,
    ) -> dict[str, Any] | None:
        if ca:
            return None
        wanted = base64.b64encode(key.public_data).decode("ascii")
        try:
            lines = self._path.read_text().splitlines()
        except OSError:
            return None
        return {} if any(line.split()[1:2] == [wanted] for line in lines) else None

    def validate_x509(self, *_: object) -> tuple[None, None]:
        return None, None


class Server(asyncssh.SSHServer):
    """Whoever is in is the user, in the user's own server: forwarding gives nothing that a shell does not."""

    def __init__(self, runtime: Path, *, sftp_server: bool) -> None:
        self._runtime, self._sftp_server = runtime, sftp_server

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        assert isinstance(conn, Connection)
        self._connection = conn

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.ended()

    def auth_completed(self) -> None:
        log.info("Accepted a key or certificate from %s", addresses(self._connection)[0])
        self._connection.authenticated()

    def begin_auth(self, username: str) -> bool:
        return True  # authentication is needed; any user name will do

    def session_requested(self) -> Any:
        if not self._connection.may_open_session():
            return False
        return Session(self._runtime, sftp_server=self._sftp_server)

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return True

    def unix_connection_requested(self, dest_path: str) -> bool:
        return True

    def server_requested(self, listen_host: str, listen_port: int) -> Awaitable[asyncssh.SSHListener]:
        return listen_tcp(self._connection, listen_host, listen_port)

    def unix_server_requested(self, listen_path: str) -> Awaitable[asyncssh.SSHListener]:
        return listen_unix(self._connection, listen_path)


class Connection(asyncssh.SSHServerConnection):
    """``tell`` is called with True once the client has proved who it is, and with False when the connection is gone."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: asyncssh.SSHServerConnectionOptions,
        runtime: Path,
        tell: Callable[[Connection, bool], None],
    ) -> None:
        super().__init__(loop, options)
        self._runtime, self._tell = runtime, tell
        self._refused = 0
        self._x11_lock = asyncio.Lock()

    def authenticated(self) -> None:
        self._tell(self, True)

    def ended(self) -> None:
        self._tell(self, False)

    def may_open_session(self) -> bool:
        return sum(isinstance(channel, Channel) for channel in self._channels.values()) < MAX_SESSIONS

    def send_userauth_failure(self, partial_success: bool) -> None:
        self._refused += 1
        if self._refused > MAX_AUTH_TRIES:
            log.info("Too many authentication failures from %s", addresses(self)[0])
            self.disconnect(DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "Too many authentication failures")
        else:
            super().send_userauth_failure(partial_success)

    def create_server_channel(
        self, encoding: str | None = "", errors: str = "", window: int = 0, max_pktsize: int = 0
    ) -> asyncssh.SSHServerChannel[bytes]:
        size = max_pktsize or self._max_pktsize
        self._update_recv_pktlen(size)
        return Channel(self, self._loop, True, False, False, 0, 0, None, "strict", window or self._window, size)

    async def attach_x11_listener(
        self, chan: asyncssh.SSHServerChannel[Any], auth_proto: bytes, auth_data: bytes, screen: int
    ) -> str | None:
        if not self.check_certificate_permission("X11-forwarding"):
            return None
        async with self._x11_lock:  # all sessions of a connection share one display
            if self._x11_listener is None:
                self._x11_listener = await listen_x11(self, x11_authority(self._runtime), auth_proto, auth_data)
        return None if self._x11_listener is None else self._x11_listener.attach(chan, screen)


class Channel(asyncssh.SSHServerChannel[bytes]):
    """A session's channel that takes commands in any encoding and closes when the client says so."""

    _succeeds_when_closed = False

    def hand_over(self, session: asyncssh.SSHServerSession[bytes]) -> None:
        """From now on ``session`` is what is called: asyncssh's SFTP server, which forgets the exit status that scp waits for."""
        session.connection_made(self)
        self._session = session
        self._succeeds_when_closed = True

    def close(self) -> None:
        if self._succeeds_when_closed:
            self._succeeds_when_closed = False
            self.exit(0)
        else:
            super().close()

    def _process_exec_request(self, packet: SSHPacket) -> bool:
        command = packet.get_string()
        packet.check_end()
        if b"\0" in command:
            return False
        return self._start_session(command=command.decode("utf-8", "surrogateescape"))

    def _process_close(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        if isinstance(self._session, Session) and self._session.only_exit_is_missing and self._recv_state != "close_pending":
            # A client closes once both directions have ended. asyncssh would close as well, and never tell the exit status.
            packet.check_end()
            self._recv_buf, self._recv_state = [], "close_pending"
        else:
            super()._process_close(pkttype, pktid, packet)
            # asyncssh would wait until the session has read all: never, where the command does not read.
            self._discard_recv()

    _packet_handlers = {**asyncssh.SSHServerChannel._packet_handlers, MSG_CHANNEL_CLOSE: _process_close}

"""The gateway's own SSH connection to a user server's sshd: hermetic, its host key pinned to what the Hub said."""

from __future__ import annotations

import asyncio
import logging

import asyncssh
from asyncssh.connection import SSHClientConnectionOptions

from ...errors import HostKeyMismatch, JHSSHError, ServerUnreachable
from ...identifiers import printable
from ...login_names import UserServer
from ...payloads import ServerState
from .endpoint import Endpoint
from .routes import DIRECT, Routes
from .server_tunnel import PATH
from .user_ca import UserCA

log = logging.getLogger("jhssh.upstream")
RETRY_PAUSE = 0.2
"""seconds between tries while a server that was just started does not listen yet"""
TRY_TIMEOUT = 10.0
"""seconds for one try: TCP or WebSocket, key exchange and authentication"""


class UpstreamConnection(Endpoint, asyncssh.SSHClientConnection):
    """The hop from the gateway to a user server."""

    socket_folders: tuple[str, ...] = ()
    """as ServerState.socket_folders"""


class Upstream:
    """Opens connections to user servers."""

    def __init__(self, user_ca: UserCA, routes: Routes, *, timeout: float) -> None:
        """``timeout``: seconds in all for a user server whose sshd does not listen yet."""
        self._user_ca, self._routes = user_ca, routes
        self._timeout = timeout

    async def connect(self, target: UserServer, state: ServerState) -> UpstreamConnection:
        """An authenticated connection, not relayed yet.

        Raises HostKeyMismatch or ServerUnreachable.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout
        while True:
            final: JHSSHError | None = None
            failures = []
            for way in self._routes.ways(state):
                try:
                    connection = await asyncio.wait_for(self._try(way, target, state), TRY_TIMEOUT)
                except asyncssh.HostKeyNotVerifiable:
                    # Another way is as safe: only who has the key gets further.
                    failures.append(f"{_place(way, state)}: another host key")
                    final = HostKeyMismatch(
                        explanation=f"{_place(way, state)} does not have the host key that the Hub gave to {target}: "
                        "another process holds the port, or c.SSHSpawnerMixin.ssh_secret changed since it was started"
                    )
                except asyncssh.PermissionDenied:
                    raise ServerUnreachable(
                        explanation=f"the sshd of {target} refused the gateway's certificate: is "
                        "c.SSHSpawnerMixin.ssh_user_ca_file the public half of c.Gateway.user_ca_file, and are the clocks right?"
                    ) from None
                except (OSError, asyncio.TimeoutError, asyncssh.Error) as error:
                    # a DISCONNECT says what the user server likes
                    failures.append(f"{_place(way, state)}: {type(error).__name__}: {printable(str(error))}")
                else:
                    if failures:
                        log.info("%s is reached at %s, after %s", target, _place(way, state), "; ".join(failures))
                    self._routes.worked(way, state)
                    return connection
            if final is not None:
                raise final
            if asyncio.get_running_loop().time() + RETRY_PAUSE > deadline:
                raise ServerUnreachable(explanation=f"no SSH connection to {target} at {'; '.join(failures)}")
            await asyncio.sleep(RETRY_PAUSE)

    async def _try(self, way: str, target: UserServer, state: ServerState) -> UpstreamConnection:
        credential = self._user_ca.credential(state.hub_id, target)
        loop = asyncio.get_running_loop()
        # Nothing from the gateway's own account comes in: no agent, no configuration file, no other key, no other method.
        options = await SSHClientConnectionOptions.construct(
            config=None,
            host=state.host,
            port=state.port,
            username=state.user,
            client_keys=[(credential.key, credential.certificate)],
            x509_trusted_certs=None,
            known_hosts=([asyncssh.import_public_key(state.host_key)], [], []),
            agent_path=None,
            agent_forwarding=False,
            gss_kex=False,
            gss_auth=False,
            host_based_auth=False,
            password_auth=False,
            kbdint_auth=False,
            preferred_auth=["publickey"],
            server_host_key_algs=["ssh-ed25519"],
            kex_algs=["curve25519-sha256", "curve25519-sha256@libssh.org"],
            encryption_algs=["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com"],
            compression_algs=None,
            keepalive_interval=0,
            login_timeout=TRY_TIMEOUT,
            client_version="jhssh-gateway",
        )
        waiter: asyncio.Future[None] = loop.create_future()
        options.waiter = waiter
        connection = await self._routes.connect(way, lambda: UpstreamConnection(loop, options, wait="auth"), target, state)
        try:
            await waiter
        except BaseException:
            connection.abort()
            raise
        connection.socket_folders = state.socket_folders
        return connection


def _place(way: str, state: ServerState) -> str:
    return f"{state.host}:{state.port}" if way == DIRECT else state.url + PATH

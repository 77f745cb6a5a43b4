"""The SSH server towards clients: what asyncssh calls, in the order of a connection's life, and the rules that asyncssh lacks.

A connection has one user name, a bounded number of tries, and one proof. After the proof the user server is reached, and only
then is success sent (RFC 4252): whoever merely knows a public key causes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, cast

import asyncssh
from asyncssh.packet import SSHPacket, String

from ...errors import ApprovalExpired, ConnectionEnded, DatabaseUnavailable, JHSSHError, ShuttingDown, TooManySessions
from ...identifiers import printable
from ...public_keys import PublicKey
from ..authenticate.login import Login
from ..connect.endpoint import Endpoint
from ..connect.upstream import UpstreamConnection
from ..relay.relay import Relay
from . import signatures
from .client_authentication import ClientAuthentication
from .disconnection import disconnect_error, for_client
from .services import Services

MSG_IGNORE, MSG_KEXINIT, MSG_USERAUTH_REQUEST = 2, 20, 50
APPROVAL_SLACK = 5.0
"""seconds after an approval's end in which the connection learns of it; then it is ended here"""


LONGEST_SILENCE = 5.0
"""seconds in which a client that waits for a person or for a server hears nothing"""


class _Methods(asyncssh.SSHServer):
    """Tells asyncssh which methods there are; the answers are ClientConnection's."""

    def public_key_auth_supported(self) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True


class ClientConnection(Endpoint, asyncssh.SSHServerConnection):
    """The hop from a client to the gateway."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: Any, services: Services, *, address: str | None = None) -> None:
        """``address``: the client's, where it is not the socket's peer; empty if it is not known."""
        self._services = services
        self._address = address or ""
        self._ask_peer = address is None
        self._admitted = False
        self._user_counted: str | None = None
        self._key_exchanges = 0
        self._authentication: ClientAuthentication
        """from connection_made() on"""
        self._approval_timer: asyncio.TimerHandle | None = None
        self._silence_timer: asyncio.TimerHandle | None = None
        super().__init__(loop, options)

    # its life

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._ask_peer:
            peer = transport.get_extra_info("peername")
            self._address = str(peer[0]) if peer else ""
        self._authentication = ClientAuthentication(self._services, self._address, self._show, by_proxy=not self._ask_peer)
        self._admitted = not self._services.closing and self._services.limits.enter(self._address)
        if not self._admitted:
            self._services.observer.refused(self._address, "", "", TooManySessions.code)
            self._cancel_login_timer()
            transport.abort()  # type: ignore[attr-defined]
            return
        self._services.observer.unauthenticated(self._services.limits.unauthenticated)
        self._services.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None = None) -> None:
        self._leave_unauthenticated()
        super().connection_lost(exc)

    def _cleanup(self, exc: Exception | None) -> None:
        self._leave_unauthenticated()
        self._end_authentication()
        if self._silence_timer is not None:
            self._silence_timer.cancel()
        if self._user_counted is not None:
            self._services.limits.leave_user(self._user_counted)
            self._user_counted = None
        self._services.connections.discard(self)
        super()._cleanup(exc)

    def _leave_unauthenticated(self) -> None:
        if self._admitted:
            self._admitted = False
            self._services.limits.leave(self._address)
            self._services.observer.unauthenticated(self._services.limits.unauthenticated)

    def shut_down(self) -> None:
        """Ends the connection because the gateway ends."""
        self.end(asyncssh.DISC_SERVICE_NOT_AVAILABLE, for_client(ShuttingDown()))

    # authentication (RFC 4252)

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> Any:
        if pkttype == MSG_USERAUTH_REQUEST:
            self._authentication.request(packet.get_full_payload())
        elif pkttype == MSG_KEXINIT:
            self._key_exchanges += 1
            if self._key_exchanges > 1 and self._authentication.login is None:
                raise asyncssh.ProtocolError("No second key exchange before authentication")
            wrong_guess = self._guessed_wrong(packet.get_full_payload())
            return self._exchange_keys(super().process_packet(pkttype, pktid, packet), wrong_guess)
        return super().process_packet(pkttype, pktid, packet)

    async def _exchange_keys(self, begin: Awaitable[None], wrong_guess: bool) -> None:
        await begin
        self._ignore_first_kex = wrong_guess

    def _guessed_wrong(self, kexinit: bytes) -> bool:
        """Did the client (Dropbear's does) send a first packet for algorithms that both sides do not put first?

        It is to be ignored then (RFC 4253, section 7); asyncssh compares with what is chosen instead, and such clients fail.
        """
        packet = SSHPacket(kexinit)
        packet.get_bytes(17)  # type, cookie
        lists = [packet.get_namelist() for _ in range(10)]
        ours = (self._kex_algs, self._server_host_key_algs or [b""])
        return packet.get_boolean() and any(theirs[:1] != list(own[:1]) for theirs, own in zip(lists, ours, strict=False))

    def send_userauth_failure(self, partial_success: bool) -> None:
        self._authentication.failed()
        super().send_userauth_failure(partial_success)

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        return await self._authentication.public_key(key_data, String(self._session_id) + msg if msg else b"", signature)

    async def validate_password(self, username: str, password: str) -> bool:
        return await self._authentication.password(password)

    async def change_password(self, username: str, old_password: str, new_password: str) -> bool:
        return await self._authentication.no_new_password()

    def kbdint_auth_supported(self) -> bool:
        return self._authentication.may_ask_browser

    async def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        challenge = await self._authentication.challenge()
        if challenge is None:
            return False
        self._cancel_login_timer()  # a person has more time than a program
        self._let_wait()
        self._approval_timer = self._loop.call_later(
            self._authentication.approval_timeout + APPROVAL_SLACK,
            self.end,
            asyncssh.DISC_BY_APPLICATION,
            for_client(ApprovalExpired()),
        )
        return challenge

    async def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> Any:
        return await self._authentication.answer(responses)

    def _end_authentication(self) -> None:
        self._authentication.end()
        if self._approval_timer is not None:
            self._approval_timer.cancel()
            self._approval_timer = None

    # after the proof

    async def send_userauth_success(self) -> None:
        """What asyncssh calls after a proof, in place of which the user server is reached first."""
        login, proven_key = self._authentication.login, self._authentication.proven_key
        if login is None:
            raise asyncssh.PermissionDenied("no proof")
        self._cancel_login_timer()  # from here the start of the server and the connection to it have bounds of their own
        self._let_wait()
        self._leave_unauthenticated()
        self._end_authentication()
        try:
            if not self._services.limits.enter_user(login.target.user):
                raise TooManySessions
            self._user_counted = login.target.user
            server = await self._services.entry.open(login, proven_key, self._show)
        except JHSSHError as error:
            self._services.log.warning("No entry to %s for %s: %s", login.target, printable(self._address), error)
            self._services.observer.refused(self._address, str(login.target), login.method, error.code)
            raise disconnect_error(error) from None
        try:
            relay = self._make_relay(login, server)
            await self._register(login, proven_key, relay)
            await self._note_use(login)
            await super().send_userauth_success()
            self._services.observer.opened(login)
            self.when_ended(lambda _reason: self._services.observer.closed(login, *relay.bytes))
            relay.start()
        except BaseException:
            server.abort()
            raise

    async def _register(self, login: Login, proven_key: PublicKey | None, relay: Relay) -> None:
        """From here on others see the connection, and end it. A key that was removed since its proof may have missed it."""

        def end(error: JHSSHError) -> None:
            self.end(asyncssh.DISC_BY_APPLICATION, for_client(error))

        async def still_opens() -> bool:
            return proven_key is None or await services.authentication.key_opens(login.target, proven_key)

        services = self._services
        id = await services.sessions.opened(login, end, lambda: (relay.bytes[0], relay.bytes[1]), still_opens)
        self.when_ended(lambda _reason: services.sessions.closed(id))
        try:
            if not await still_opens():
                raise ConnectionEnded
        except JHSSHError as error:
            raise disconnect_error(error) from None

    async def _note_use(self, login: Login) -> None:
        """When a key was last used; and keys that were not added on the page are announced: by their user, or was it?"""
        user_keys, user = self._services.user_keys, login.target.user
        if user_keys is None or not login.own:
            return
        try:
            announced = await user_keys.announce(user, login.fingerprint)
            if login.fingerprint:
                await user_keys.used(user, login.fingerprint, login.address)
        except DatabaseUnavailable as error:
            self._services.log.warning("The use of a key was not noted: %s", error)
            return
        for key in announced:
            how = "added by the jhssh command" if key.source == "client" else "remembered in the browser"
            self._show(f"The key {key.fingerprint} was {how}. Remove it on the SSH page of the hub if that was not you.")

    def _let_wait(self) -> None:
        """From here on the login may take long: OpenSSH's client counts its silence too (ssh_config(5), ServerAliveInterval)."""
        if self._silence_timer is not None:
            self._silence_timer.cancel()
        self._silence_timer = self._loop.call_later(LONGEST_SILENCE, self._break_silence)

    def _break_silence(self) -> None:
        """With a message that says nothing (RFC 4253, section 11.2)."""
        if self._transport is not None and not self._auth_complete:
            self.send_packet(MSG_IGNORE, String(b""))
            self._let_wait()

    def _make_relay(self, login: Login, server: UpstreamConnection) -> Relay:
        return Relay(
            self,
            server,
            name=str(login.target),
            socket_folders=server.socket_folders,
            on_data=lambda count: self._services.activity.saw_data(login.target, count),
        )

    def _show(self, line: str) -> None:
        """A line for the user while they wait, shown by OpenSSH's client at once (RFC 4252, section 5.4)."""
        if self._transport is not None and not self._auth_complete:
            self.send_auth_banner(printable(line) + "\r\n")


async def make_options(**options: Any) -> asyncssh.SSHServerConnectionOptions:
    """asyncssh's options with all that the gateway does not do switched off."""
    made = await asyncssh.SSHServerConnectionOptions.construct(
        config=None,
        server_factory=_Methods,
        signature_algs=signatures.supported(),
        host_based_auth=False,
        kbdint_auth=False,
        gss_host=None,
        gss_kex=False,
        gss_auth=False,
        allow_pty=False,
        agent_forwarding=False,
        x11_forwarding=False,
        send_server_host_keys=False,
        keepalive_interval=0,
        **options,
    )
    return cast(asyncssh.SSHServerConnectionOptions, made)

"""The SSH server towards clients: what asyncssh calls, in the order of a connection's life, and the rules that asyncssh lacks.

A connection has one user name, a bounded number of tries, and one proof. After the proof the user server is reached, and only
then is success sent (RFC 4252): whoever merely knows a public key causes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import asyncssh
from asyncssh.packet import PacketDecodeError, SSHPacket, String

from ...errors import (
    ApprovalExpired,
    ConnectionEnded,
    DatabaseUnavailable,
    JHSSHError,
    KeyRefused,
    KeyUnknown,
    ShuttingDown,
    TokenInvalid,
    TooManyAttempts,
    TooManySessions,
    Unavailable,
)
from ...identifiers import printable
from ...public_keys import PublicKey
from ..authenticate.authentication import Authentication
from ..authenticate.browser_login import BrowserLogin
from ..authenticate.login import Login
from ..authenticate.sessions import Sessions
from ..authenticate.user_keys import UserKeys
from ..connect.endpoint import Endpoint
from ..connect.upstream import UpstreamConnection
from ..relay.activity import ActivityReporter
from ..relay.relay import Relay
from . import signatures
from .browser_prompt import BrowserPrompt
from .entry import Entry
from .limits import ConnectionLimits, FailureBudget

MSG_KEXINIT, MSG_USERAUTH_REQUEST = 20, 50
APPROVAL_SLACK = 5.0
"""seconds after an approval's end in which the connection learns of it; then it is ended here"""
PLAIN = str.maketrans("“”‘’–…", "\"\"''-.")
FIRST_FLOORS = 2
"""floors that a connection's first refusal waits: its key may cause a fetch, of which later ones see the outcome"""
REQUESTS_PER_TRY = 3
"""USERAUTH requests that one try may take (a probe, its signature, one to spare): bounds those that are sent without waiting"""


@dataclass(frozen=True)
class Rules:
    """Bounds of one connection."""

    max_auth_tries: int
    failure_floor: float
    """seconds: a refusal is told after a whole number of these, whatever caused it"""
    known_key_wait: float
    """seconds that a key which is known may wait for its user server to confirm it"""


class Observer(Protocol):
    """Who is told what happens: audit log and metrics."""

    def unauthenticated(self, count: int) -> None: ...

    def refused(self, address: str, login_name: str, method: str, code: str) -> None: ...

    def opened(self, login: Login) -> None: ...

    def closed(self, login: Login, from_client: int, from_server: int) -> None: ...


@dataclass
class Services:
    """What all connections share."""

    rules: Rules
    limits: ConnectionLimits
    failures: FailureBudget
    authentication: Authentication
    entry: Entry
    activity: ActivityReporter
    sessions: Sessions
    observer: Observer
    log: logging.Logger
    browser_login: BrowserLogin | None = None
    user_keys: UserKeys | None = None
    connections: set[ClientConnection] = field(default_factory=set)
    closing: bool = False


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
        self._user_name: str | None = None
        self._key_exchanges = 0
        self._requests = 0
        self._refused = False
        self._tries_left = services.rules.max_auth_tries
        self._login: Login | None = None
        self._proven_key: PublicKey | None = None
        self._prompt = BrowserPrompt(services.browser_login) if services.browser_login is not None else None
        self._approval_timer: asyncio.TimerHandle | None = None
        super().__init__(loop, options)

    # its life

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._ask_peer:
            peer = transport.get_extra_info("peername")
            self._address = str(peer[0]) if peer else ""
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
        self._end_prompt()
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
        self.end(asyncssh.DISC_SERVICE_NOT_AVAILABLE, _for_client(ShuttingDown()))

    # authentication (RFC 4252)

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> Any:
        if pkttype == MSG_USERAUTH_REQUEST:
            self._check_request(packet.get_full_payload())
        elif pkttype == MSG_KEXINIT:
            self._key_exchanges += 1
            if self._key_exchanges > 1 and self._login is None:
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

    def _check_request(self, message: bytes) -> None:
        """Ends the connection on a second user name, on too many requests, and on any request after the proof."""
        packet = SSHPacket(message)
        packet.get_byte()
        try:
            # As it was sent: asyncssh hands on what saslprep (RFC 4013) makes of it, which may be another user's name.
            user_name, _service, method = packet.get_string().decode("utf-8"), packet.get_string(), packet.get_string()
        except (PacketDecodeError, UnicodeDecodeError):
            raise asyncssh.ProtocolError("Malformed authentication request") from None
        if self._user_name not in (None, user_name):
            raise asyncssh.ProtocolError("A connection has one user name")
        if self._requests == 0 and method == b"none":
            self._tries_left += 1  # how clients ask which methods there are
        self._user_name = user_name
        self._requests += 1
        if self._login is not None or self._requests > REQUESTS_PER_TRY * self._services.rules.max_auth_tries:
            raise asyncssh.DisconnectError(asyncssh.DISC_PROTOCOL_ERROR, _for_client(TooManyAttempts()))

    def send_userauth_failure(self, partial_success: bool) -> None:
        self._tries_left -= 1
        if self._tries_left <= 0:
            raise asyncssh.DisconnectError(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, _for_client(TooManyAttempts()))
        super().send_userauth_failure(partial_success)

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """``msg`` is empty for a probe, which proves nothing and records nothing (CVE-2024-45337)."""
        began = self._loop.time()
        if await self._judge_key(key_data, msg, signature):
            return True
        await self._refuse("publickey", began)
        return False

    async def _judge_key(self, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        try:
            key = signatures.public_key(key_data)
        except (KeyRefused, ValueError):
            return False
        try:
            registered = await self._is_registered(key)
            unavailable = None
        except Unavailable as error:  # of a key that was known: its holder learns why, after the proof
            registered, unavailable = True, error
        if not registered:
            if self._prompt is not None:
                self._prompt.offered(key)
            return False
        if not msg:
            return True
        if not signatures.verify(key_data, String(self._session_id) + msg, signature):
            return False
        try:
            if unavailable is not None:
                raise unavailable
            login = await self._services.authentication.key_login(self._name, key, self._address)
        except Unavailable as error:
            raise self._unavailable(error, "publickey") from None
        except JHSSHError:
            return False
        self._login, self._proven_key = login, key
        return True

    @property
    def _name(self) -> str:
        """The login name, as it was sent."""
        assert self._user_name is not None, "there is a request"
        return self._user_name

    async def _is_registered(self, key: PublicKey) -> bool:
        """Raises Unavailable where the key was known but cannot be confirmed; a stranger learns nothing."""
        services = self._services
        known = await services.authentication.knows_key(self._name, key)
        may_fetch = known or services.failures.spend(self._address)
        # Less than the floor: an answer that waited for a user server must not come a floor later than one for nobody.
        wait = services.rules.known_key_wait if known else 0.8 * self._floor
        try:
            found = await asyncio.wait_for(services.authentication.accepts_key(self._name, key, may_fetch=may_fetch), wait)
        except (JHSSHError, asyncio.TimeoutError) as error:
            if known and isinstance(error, Unavailable):
                raise
            return False
        if found and not known:
            services.failures.give_back(self._address)
        return found

    async def validate_password(self, username: str, password: str) -> bool:
        """The password is a Hub API token, or nothing."""
        began = self._loop.time()
        services = self._services
        try:
            if not services.failures.spend(self._address):
                raise self._disconnect_error(TooManyAttempts())
            login = await services.authentication.token_login(self._name, password, self._address)
        except Unavailable as error:
            await self._until_floor(began)
            raise self._unavailable(error, "password") from None
        except JHSSHError:
            await self._refuse("password", began)
            return False
        services.failures.give_back(self._address)
        self._login = login
        return True

    async def change_password(self, username: str, old_password: str, new_password: str) -> bool:
        await self._refuse("password", self._loop.time())
        return False

    # by approval in the browser

    def kbdint_auth_supported(self) -> bool:
        return self._prompt is not None and not self._prompt.asked

    async def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        """Link and code. Whether there is such a user is not asked: a stranger is shown the same."""
        prompt, began, services = self._prompt, self._loop.time(), self._services
        assert prompt is not None, "asyncssh asks whether the method is supported"
        try:
            if not services.failures.spend(self._address):
                raise TooManyAttempts
            challenge = await prompt.ask(self._name, self._address, by_proxy=not self._ask_peer)
        except JHSSHError as error:
            if isinstance(error, Unavailable):
                services.log.warning("No approval in the browser for %s: %s", printable(self._address), error)
            await self._refuse("keyboard-interactive", began, error.code)
            self._show(f"No login by browser: {error.sentence}")
            return False
        self._cancel_login_timer()  # a person has more time than a program
        self._approval_timer = self._loop.call_later(
            prompt.timeout + APPROVAL_SLACK, self.end, asyncssh.DISC_BY_APPLICATION, _for_client(ApprovalExpired())
        )
        return challenge

    async def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> Any:
        """Waits for the browser. A refusal ends the connection: it has one request."""
        assert self._prompt is not None, "there was a challenge"
        try:
            answer = await self._prompt.answer(responses, self._name, self._address)
        except Unavailable as error:
            raise self._unavailable(error, "keyboard-interactive") from None
        except JHSSHError as error:
            self._services.observer.refused(self._address, self._name, "keyboard-interactive", error.code)
            raise self._disconnect_error(error) from None
        if isinstance(answer, Login):
            self._services.failures.give_back(self._address)
            self._login = answer
            return True
        return answer

    def _end_prompt(self) -> None:
        if self._prompt is not None:
            self._prompt.end()
        if self._approval_timer is not None:
            self._approval_timer.cancel()
            self._approval_timer = None

    async def _refuse(self, method: str, began: float, code: str = "") -> None:
        code = code or (TokenInvalid.code if method == "password" else KeyUnknown.code)
        self._services.observer.refused(self._address, self._name, method, code)
        await self._until_floor(began)
        self._refused = True

    def _unavailable(self, error: Unavailable, method: str) -> asyncssh.DisconnectError:
        self._services.log.warning("No login from %s: %s", printable(self._address), error)
        self._services.observer.refused(self._address, self._name, method, error.code)
        return self._disconnect_error(error)

    @property
    def _floor(self) -> float:
        return self._services.rules.failure_floor * (1 if self._refused else FIRST_FLOORS)

    async def _until_floor(self, began: float) -> None:
        """Waits until a whole number of floors has passed, so that the time taken does not tell why."""
        passed = self._loop.time() - began
        await asyncio.sleep((int(passed / self._floor) + 1) * self._floor - passed)

    # after the proof

    async def send_userauth_success(self) -> None:
        """What asyncssh calls after a proof, in place of which the user server is reached first."""
        login = self._login
        if login is None:
            raise asyncssh.PermissionDenied("no proof")
        self._cancel_login_timer()  # from here the start of the server and the connection to it have bounds of their own
        self._leave_unauthenticated()
        self._end_prompt()
        try:
            if not self._services.limits.enter_user(login.target.user):
                raise TooManySessions
            self._user_counted = login.target.user
            server = await self._services.entry.open(login, self._proven_key, self._show)
        except JHSSHError as error:
            self._services.log.warning("No entry to %s for %s: %s", login.target, printable(self._address), error)
            self._services.observer.refused(self._address, str(login.target), login.method, error.code)
            raise self._disconnect_error(error) from None
        try:
            relay = self._make_relay(login, server)
            await self._register(login, relay)
            await self._note_use(login)
            await super().send_userauth_success()
            self._services.observer.opened(login)
            self.when_ended(lambda _reason: self._services.observer.closed(login, *relay.bytes))
            relay.start()
        except BaseException:
            server.abort()
            raise

    async def _register(self, login: Login, relay: Relay) -> None:
        """From here on others see the connection, and end it. A key that was removed since its proof may have missed it."""

        def end(error: JHSSHError) -> None:
            self.end(asyncssh.DISC_BY_APPLICATION, _for_client(error))

        services = self._services
        id = await services.sessions.opened(login, end, lambda: (relay.bytes[0], relay.bytes[1]))
        self.when_ended(lambda _reason: services.sessions.closed(id))
        try:
            if self._proven_key is not None and not await services.authentication.key_opens(login.target, self._proven_key):
                raise ConnectionEnded
        except JHSSHError as error:
            raise self._disconnect_error(error) from None

    async def _note_use(self, login: Login) -> None:
        """When a key was last used; and who never remembered it learns at its first login that somebody did."""
        if self._services.user_keys is None or not login.fingerprint:
            return
        try:
            first = await self._services.user_keys.used(login.target.user, login.fingerprint, login.address)
        except DatabaseUnavailable as error:
            self._services.log.warning("The use of a key was not noted: %s", error)
            return
        if first:
            self._show(f"The key {login.fingerprint} was remembered in the browser. Remove it there if that was not you.")

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

    def _disconnect_error(self, error: JHSSHError) -> asyncssh.DisconnectError:
        code = asyncssh.DISC_SERVICE_NOT_AVAILABLE if isinstance(error, Unavailable) else asyncssh.DISC_BY_APPLICATION
        return asyncssh.DisconnectError(code, _for_client(error))


def _for_client(error: JHSSHError) -> str:
    """For a DISCONNECT message, of which OpenSSH's client shows 400 bytes, all but ASCII as octal escapes."""
    return f"{printable(error.sentence, 360)} [{error.code}]".translate(PLAIN).encode("ascii", "replace").decode("ascii")


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

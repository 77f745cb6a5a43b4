"""One connection's way to its proof (RFC 4252): its one user name, its tries, and keys, token or approval that are judged here.

Refusals look alike and come after the same time, whatever caused them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import asyncssh
from asyncssh.packet import PacketDecodeError, SSHPacket

from ...errors import (
    JHSSHError,
    KeyRefused,
    KeyUnknown,
    TokenInvalid,
    TooManyAttempts,
    Unavailable,
)
from ...identifiers import printable
from ...public_keys import PublicKey
from ..authenticate.login import Login
from . import signatures
from .browser_prompt import BrowserPrompt, Challenge
from .disconnection import disconnect_error, for_client
from .services import Services

FIRST_FLOORS = 2
"""floors that a connection's first refusal waits: its key may cause a fetch, of which later ones see the outcome"""
REQUESTS_PER_TRY = 3
"""USERAUTH requests that one try may take (a probe, its signature, one to spare): bounds those that are sent without waiting"""


class ClientAuthentication:
    """``show(line)`` writes to the client's terminal; ``by_proxy``: the address is what a proxy says.

    Raises asyncssh.Error where the connection has to end.

    ``login`` is None until there is a proof.
    """

    def __init__(self, services: Services, address: str, show: Callable[[str], None], *, by_proxy: bool = False) -> None:
        self.login: Login | None = None
        self.proven_key: PublicKey | None = None
        self._services, self._address, self._by_proxy, self._show = services, address, by_proxy, show
        self._user_name: str | None = None
        self._requests = 0
        self._refused = False
        self._tries_left = services.rules.max_auth_tries
        self._prompt = BrowserPrompt(services.browser_login) if services.browser_login is not None else None

    # its requests

    def request(self, message: bytes) -> None:
        """A USERAUTH_REQUEST. Ends the connection on a second user name, on too many requests, and on any after the proof."""
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
        if self.login is not None or self._requests > REQUESTS_PER_TRY * self._services.rules.max_auth_tries:
            raise asyncssh.DisconnectError(asyncssh.DISC_PROTOCOL_ERROR, for_client(TooManyAttempts()))

    def failed(self) -> None:
        """A try was refused."""
        self._tries_left -= 1
        if self._tries_left <= 0:
            raise asyncssh.DisconnectError(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, for_client(TooManyAttempts()))

    @property
    def _name(self) -> str:
        """The login name, as it was sent."""
        assert self._user_name is not None, "there is a request"
        return self._user_name

    # by key

    async def public_key(self, key_data: bytes, signed: bytes, signature: bytes) -> bool:
        """``signed`` is empty for a probe, which proves nothing and records nothing (CVE-2024-45337)."""
        began = _now()
        if await self._judge_key(key_data, signed, signature):
            return True
        await self._refuse("publickey", began)
        return False

    async def _judge_key(self, key_data: bytes, signed: bytes, signature: bytes) -> bool:
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
        if not signed:
            return True
        if not signatures.verify(key_data, signed, signature):
            return False
        try:
            if unavailable is not None:
                raise unavailable
            login = await self._services.authentication.key_login(self._name, key, self._address)
        except Unavailable as error:
            raise self._unavailable(error, "publickey") from None
        except JHSSHError:
            return False
        self.login, self.proven_key = login, key
        return True

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

    # by token

    async def password(self, password: str) -> bool:
        """The password is a Hub API token, or nothing."""
        began = _now()
        services = self._services
        try:
            if not services.failures.spend(self._address):
                raise disconnect_error(TooManyAttempts())
            login = await services.authentication.token_login(self._name, password, self._address)
        except Unavailable as error:
            await self._until_floor(began)
            raise self._unavailable(error, "password") from None
        except JHSSHError:
            await self._refuse("password", began)
            return False
        services.failures.give_back(self._address)
        self.login = login
        return True

    async def no_new_password(self) -> bool:
        """Tokens are changed at the Hub."""
        await self._refuse("password", _now())
        return False

    # by approval in the browser

    @property
    def may_ask_browser(self) -> bool:
        return self._prompt is not None and not self._prompt.asked

    @property
    def approval_timeout(self) -> float:
        """Seconds."""
        assert self._prompt is not None, "asked after a challenge"
        return self._prompt.timeout

    async def challenge(self) -> Challenge | None:
        """Link and code; None is a refusal. Whether there is such a user is not asked: a stranger is shown the same."""
        prompt, began, services = self._prompt, _now(), self._services
        assert prompt is not None, "asyncssh asks whether the method is supported"
        try:
            if not services.failures.spend(self._address):
                raise TooManyAttempts
            return await prompt.ask(self._name, self._address, by_proxy=self._by_proxy)
        except JHSSHError as error:
            if isinstance(error, Unavailable):
                services.log.warning("No approval in the browser for %s: %s", printable(self._address), error)
            await self._refuse("keyboard-interactive", began, error.code)
            self._show(f"No login by browser: {error.sentence}")
            return None

    async def answer(self, responses: Sequence[str]) -> Challenge | bool:
        """Waits for the browser. A refusal ends the connection: it has one request."""
        assert self._prompt is not None, "there was a challenge"
        try:
            answer = await self._prompt.answer(responses, self._name, self._address)
        except Unavailable as error:
            raise self._unavailable(error, "keyboard-interactive") from None
        except JHSSHError as error:
            self._services.observer.refused(self._address, self._name, "keyboard-interactive", error.code)
            raise disconnect_error(error) from None
        if isinstance(answer, Login):
            self._services.failures.give_back(self._address)
            self.login = answer
            return True
        return answer

    def end(self) -> None:
        """There is a proof, or the connection is gone. Harmless when it is called again."""
        if self._prompt is not None:
            self._prompt.end()

    # how refusals look

    async def _refuse(self, method: str, began: float, code: str = "") -> None:
        code = code or (TokenInvalid.code if method == "password" else KeyUnknown.code)
        self._services.observer.refused(self._address, self._name, method, code)
        await self._until_floor(began)
        self._refused = True

    def _unavailable(self, error: Unavailable, method: str) -> asyncssh.DisconnectError:
        self._services.log.warning("No login from %s: %s", printable(self._address), error)
        self._services.observer.refused(self._address, self._name, method, error.code)
        return disconnect_error(error)

    @property
    def _floor(self) -> float:
        return self._services.rules.failure_floor * (1 if self._refused else FIRST_FLOORS)

    async def _until_floor(self, began: float) -> None:
        """Waits until a whole number of floors has passed, so that the time taken does not tell why."""
        passed = _now() - began
        await asyncio.sleep((int(passed / self._floor) + 1) * self._floor - passed)


def _now() -> float:
    return asyncio.get_running_loop().time()

"""One connection's login by approval in the browser, as keyboard-interactive (RFC 4256): what its terminal is shown and asked.

A request with no prompts shows link and code, and the client's empty answer is left waiting for the browser. From another
address a prompt for the page's number follows.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import ApprovalDenied, ApprovalExpired
from ...public_keys import PublicKey
from ..authenticate.approvals import MAX_OFFERED, NUMBER_TRIES, Request
from ..authenticate.browser_login import BrowserLogin
from ..authenticate.login import Login

Challenge = tuple[str, str, str, Sequence[tuple[str, bool]]]
"""name, instruction, language, prompts with whether their answers are echoed"""
NUMBER_PROMPT = "Number shown in the browser: "
NUMBER = "Approved. Your browser is not known to be at the address of this terminal: type the number that it shows.\r\n"
WRONG_NUMBER = "This is not the number that the browser shows.\r\n"


class BrowserPrompt:
    """Of one connection; at most one request is made for it."""

    def __init__(self, browser_login: BrowserLogin) -> None:
        self._browser_login = browser_login
        self._offered: dict[PublicKey, None] = {}
        self._id = ""
        self._request: Request | None = None
        self._tries_left = 0
        """at the number; 0: it is not asked for"""

    @property
    def asked(self) -> bool:
        return bool(self._id)

    @property
    def timeout(self) -> float:
        """Seconds from the request to its end."""
        return self._browser_login.timeout

    def offered(self, key: PublicKey) -> None:
        """A key was refused. Anybody can offer any key: it is shown as such, and no more."""
        if len(self._offered) < MAX_OFFERED:
            self._offered[key] = None

    async def ask(self, login_name: str, address: str, *, by_proxy: bool = False) -> Challenge:
        """What to show. ``by_proxy``: the address is what a proxy says.

        Raises KeyUnknown, TooManyAttempts or DatabaseUnavailable.
        """
        self._id, instruction = await self._browser_login.ask(login_name, address, self._offered, by_proxy=by_proxy)
        return ("", instruction, "en", ())

    async def answer(self, responses: Sequence[str], login_name: str, address: str) -> Login | Challenge:
        """What the client's answer leads to: a login, or another prompt.

        Raises ApprovalDenied, ApprovalExpired, HubUnavailable or DatabaseUnavailable.
        """
        if self._tries_left:
            return await self._try_number(responses, login_name, address)
        if responses or self._request is not None:
            raise ApprovalExpired("This answer is none to what was asked. Connect again.")
        self._request = request = await self._browser_login.decided(self._id)
        if request.state == "number":
            self._tries_left = NUMBER_TRIES
            return ("", NUMBER, "en", ((NUMBER_PROMPT, True),))
        return await self._browser_login.login(request, login_name, address)

    def end(self) -> None:
        if self._id:
            self._browser_login.end(self._id)

    async def _try_number(self, responses: Sequence[str], login_name: str, address: str) -> Login | Challenge:
        assert self._request is not None, "a number is asked for after the approval"
        typed = "".join(responses[0].split()) if len(responses) == 1 else ""
        if await self._browser_login.approvals.try_number(self._id, typed[:64]):
            self._tries_left = 0
            return await self._browser_login.login(self._request, login_name, address)
        self._tries_left -= 1
        if not self._tries_left:
            raise ApprovalDenied("The number was wrong. Connect again.")
        return ("", WRONG_NUMBER, "en", ((NUMBER_PROMPT, True),))

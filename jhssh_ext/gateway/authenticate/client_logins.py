"""``jhssh login``: a program on a laptop asks for a token, and its user approves that in the browser.

As a login by SSH (approvals.py), but no user is named: it is of whoever types the code. The code is not enough: a number that the
page shows after the approval has to be typed where the program runs, always.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from ...errors import ApprovalDenied, ApprovalExpired
from ...identifiers import printable
from ...login_names import UserServer
from .approvals import NUMBER_TRIES, Approvals, shown
from .client_tokens import ClientTokens, TokenInfo

HANDLE = re.compile(r"[A-Za-z0-9_-]{43}")
MAX_CLIENT = 100
"""characters of what a program says that it is"""
OVER = "Nobody approved this login in time. Run jhssh login again for a new code."


@dataclass(frozen=True)
class Asked:
    """``handle`` is the program's secret; ``code`` is for its user to type on the page."""

    handle: str
    code: str
    expires_in: float


@dataclass(frozen=True)
class Granted:
    """``token`` is told this once."""

    token: str
    info: TokenInfo


class ClientLogins:
    """``link`` is the page's address, which holds no code. Every method raises DatabaseUnavailable."""

    def __init__(self, approvals: Approvals, tokens: ClientTokens, *, link: str) -> None:
        self._approvals, self._tokens, self.link = approvals, tokens, link

    async def ask(self, client: str, address: str) -> Asked:
        """``address`` is empty where it is not known. Raises TooManyAttempts."""
        handle, said = secrets.token_urlsafe(32), printable(client, MAX_CLIENT).strip() or "a program without a name"
        _, code = await self._approvals.ask("", UserServer(""), address, (), by_proxy=True, client=said, handle=handle)
        return Asked(handle, shown(code), self._approvals.bounds.timeout)

    async def answer(self, handle: str, number: str | None) -> Granted | str:
        """The token, once; or what is to be waited for: "waiting" for the approval, "number" for the number.

        Raises ApprovalDenied, ApprovalExpired.
        """
        request = await self._approvals.by_handle(handle) if HANDLE.fullmatch(handle) else None
        if request is None:
            raise ApprovalExpired(OVER)
        if request.state == "denied":
            raise ApprovalDenied
        if request.state != "number":
            return "waiting"
        if number is None:
            return "number"
        try:
            right = await self._approvals.try_number(request.id, number)
        except ApprovalExpired:
            raise ApprovalExpired(f"The number was wrong {NUMBER_TRIES} times. Run jhssh login again.") from None
        if not right:
            return "number"
        if not await self._approvals.take(request.id):
            raise ApprovalExpired(OVER)
        return Granted(*await self._tokens.make(request.target.user, request.user_created, request.client, request.address))

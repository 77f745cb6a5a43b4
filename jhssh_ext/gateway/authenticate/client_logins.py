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
from .approvals import NUMBER_TRIES, Approvals, Request, shown
from .client_tokens import ClientTokens, TokenInfo

HANDLE = re.compile(r"[A-Za-z0-9_-]{43}")
MAX_CLIENT = 100
"""characters of what a program says that it is"""
OVER = "This login is over: nobody approved it in time, or its number was typed already. Run jhssh login again for a new code."
WRONG = f"The number was wrong {NUMBER_TRIES} times. Run jhssh login again for a new code."


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


@dataclass(frozen=True)
class Refused:
    """The last of the tries was wrong, which is told this once."""

    request: Request


class ClientLogins:
    """``link`` is the page's address, which holds no code. Every method raises DatabaseUnavailable."""

    def __init__(self, approvals: Approvals, tokens: ClientTokens, *, link: str) -> None:
        self._approvals, self._tokens, self.link = approvals, tokens, link

    async def ask(self, client: str, address: str) -> Asked:
        """``address`` is empty where it is not known. Raises TooManyAttempts."""
        handle, said = secrets.token_urlsafe(32), printable(client, MAX_CLIENT).strip() or "a program without a name"
        _, code = await self._approvals.ask("", UserServer(""), address, (), by_proxy=True, client=said, handle=handle)
        return Asked(handle, shown(code), self._approvals.bounds.timeout)

    async def answer(self, handle: str, number: str | None) -> Granted | Refused | str:
        """The token or its refusal, once; or what is to be waited for: "waiting" for the approval, "number" for the number.

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
            if not await self._approvals.try_number(request.id, number):
                return "number"
        except ApprovalDenied:
            return Refused(request)
        except ApprovalExpired:
            raise ApprovalExpired(OVER) from None
        making = self._tokens.making(request.target.user, request.user_created, request.client, request.address)
        made = await self._approvals.take(request.id, making)
        if made is None:
            raise ApprovalExpired(OVER)
        return Granted(*made)

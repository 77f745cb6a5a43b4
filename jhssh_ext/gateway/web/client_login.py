"""/api/login: the ``jhssh`` command asks for a token, and waits until its user approved that on /login (approval.py)."""

from __future__ import annotations

import re

from ...errors import ApprovalDenied, PolicyDenied
from ..authenticate.client_logins import WRONG, ClientLogins, Granted, Refused
from .client_handlers import ClientHandler, UserHandler

INTERVAL = 1.0
"""seconds between two looks of the command"""
NUMBER = re.compile(r"[0-9]{1,12}")


class LoginRequestHandler(ClientHandler):
    """What needs no token."""

    @property
    def logins(self) -> ClientLogins:
        found = self.site.client_logins
        if found is None:
            raise PolicyDenied("This hub has no login by browser. Use ssh itself.")
        return found


class AskHandler(LoginRequestHandler):
    """``POST {"client"}`` → 201 ``{"request", "code", "link", "expires_in", "interval"}``: the code is not in the link."""

    async def post(self) -> None:
        asked = await self.logins.ask(self.body({"client": str})["client"], self.address)
        self.set_status(201)
        self.finish(
            {
                "request": asked.handle,
                "code": asked.code,
                "link": self.logins.link,
                "expires_in": asked.expires_in,
                "interval": INTERVAL,
            }
        )


class AnswerHandler(LoginRequestHandler):
    """``POST {"request", "number"?}`` → 200 ``{"token", "user", "expires"}``, once; 202 ``{"status": "waiting" or "number"}``."""

    async def post(self) -> None:
        sent = self.body({"request": str}, {"number": str})
        number = "".join(sent["number"].split()) if "number" in sent else None
        # What can't be the number counts as no try.
        wrong = number is not None and not NUMBER.fullmatch(number)
        found = await self.logins.answer(sent["request"], None if wrong else number)
        if isinstance(found, Granted):
            info = found.info
            who = {"user": info.user, "client": info.client, "address": info.address, "token": info.id}
            self.site.note("client token made", who)
            self.finish({"token": found.token, "user": info.user, "expires": int(info.expires)})
            return
        if isinstance(found, Refused):
            asked = found.request
            who = {"user": asked.target.user, "client": asked.client, "address": asked.address}
            self.site.note("client login refused", who)
            raise ApprovalDenied(WRONG)
        self.set_status(202)
        answer = {"status": found}
        if number is not None and found == "number":
            answer["message"] = "This is not the number that the browser shows."
        self.finish(answer)


class TokenHandler(UserHandler):
    """``DELETE`` revokes the very token that is sent."""

    async def delete(self) -> None:
        if await self.tokens.revoke(self.token.user, self.token.id) is not None:
            self.note("client token revoked")
        self.set_status(204)
        self.finish()


HANDLERS = [(r"/api/login", AskHandler), (r"/api/login/answer", AnswerHandler), (r"/api/token", TokenHandler)]
"""by path below the service's prefix"""

"""What all of the API for the ``jhssh`` command shares: who may ask, how often at a time, what errors become.

Never a browser's business: user servers may share the Hub's origin, and their scripts would ask for a code in the browser of
whoever visits them, from that one's address.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tornado.web import HTTPError

from ...errors import (
    ApprovalExpired,
    BadRequest,
    Denied,
    HubUnavailable,
    JHSSHError,
    KeyDuplicate,
    KeyElsewhere,
    KeyRefused,
    KeyTooMany,
    TokenExpired,
    TokenInvalid,
    TooLarge,
    TooManyAttempts,
    Unavailable,
)
from ..addresses import network_of
from ..authenticate.client_tokens import LOGIN_AGAIN, ClientTokens, TokenInfo
from ..connect.hub_models import UserModel
from .handlers import Handler
from .pages import Site

MAX_BODY = 4096
MAX_DEPTH = 16
"""of objects and arrays in each other: the Hub, and who reads its answers, have to cope with options of any kind"""
STATUS: list[tuple[type[JHSSHError], int]] = [
    (TokenInvalid, 401),
    (TokenExpired, 401),
    (ApprovalExpired, 410),
    (TooManyAttempts, 429),
    (KeyDuplicate, 409),
    (KeyTooMany, 409),
    (KeyElsewhere, 409),
    (BadRequest, 400),
    (TooLarge, 413),
    (KeyRefused, 422),
    (Denied, 403),
    (Unavailable, 503),
]
"""the first that fits"""

log = logging.getLogger("jhssh.client_api")


class Turns:
    """How many requests are being answered at a time, for one asker and in all."""

    def __init__(self, *, each: int = 8, in_all: int = 64) -> None:
        self._each, self._in_all, self._now = each, in_all, Counter[str]()

    def enter(self, asker: str) -> None:
        """Counts until :meth:`leave`. Raises TooManyAttempts."""
        if (asker and self._now[asker] >= self._each) or self._now.total() >= self._in_all:
            raise TooManyAttempts("Too many requests at a time. Try again.")
        self._now[asker] += 1

    def leave(self, asker: str) -> None:
        self._now[asker] -= 1
        if not self._now[asker]:
            del self._now[asker]


class ClientHandler(Handler):
    """For anybody who is no browser. What it raises becomes ``{"message", "code"}``."""

    _turns: Turns | None = None
    _asker = ""

    @property
    def site(self) -> Site:
        found = self.settings["site"]
        assert isinstance(found, Site)
        return found

    @property
    def tokens(self) -> ClientTokens:
        found = self.site.client_tokens
        assert found is not None, "see prepare()"
        return found

    @property
    def address(self) -> str:
        """Of the program; empty where it is not known."""
        return self.site.proxies.client(self.request.remote_ip or "", self.request.headers.get_list("X-Forwarded-For"))

    async def prepare(self) -> None:
        """Raises JHSSHError."""
        # Scripts can't leave these headers away, nor can a service worker.
        if "Origin" in self.request.headers or any(name.startswith("Sec-") for name in self.request.headers):
            return self.fail(403, "POLICY_DENIED", "This is for the jhssh command, not for browsers.")
        if self.settings["site"] is None:
            return self.fail(503, "UNAVAILABLE", "The gateway is not ready. See /health.")
        if self.site.client_tokens is None:
            return self.fail(403, "POLICY_DENIED", "This hub does not let the jhssh command log in. Use ssh itself.")
        address = self.address
        self._take_turn(self.settings["client_strangers"], network_of(address) if address else "")
        return None

    def body(
        self, wanted: Mapping[str, type], optional: Mapping[str, type] | None = None, limit: int = MAX_BODY
    ) -> dict[str, Any]:
        """The JSON object that was sent, with exactly these members. Raises TooLarge or BadRequest."""
        known = {**wanted, **(optional or {})}
        if len(self.request.body) > limit:
            raise TooLarge(f"The body has more than {limit} bytes.")
        try:
            found = json.loads(self.request.body, parse_float=_finite, parse_constant=_finite)
        except (ValueError, RecursionError):
            found = None
        if (
            not isinstance(found, dict)
            or _deeper(found, MAX_DEPTH)
            or not set(wanted) <= set(found) <= set(known)
            or not all(type(value) is known[name] for name, value in found.items())
        ):
            raise BadRequest(f"Send a JSON object with {', '.join(known)}.")
        return found

    def on_finish(self) -> None:
        self._leave_turn()

    def _take_turn(self, turns: Turns, asker: str) -> None:
        self._leave_turn()
        turns.enter(asker)
        self._turns, self._asker = turns, asker

    def _leave_turn(self) -> None:
        if self._turns is not None:
            self._turns.leave(self._asker)
            self._turns = None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if not isinstance(error, JHSSHError):
            return super().write_error(status_code, **kwargs)
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        if status == 401:
            self.set_header("WWW-Authenticate", "Bearer")
        if status in (429, 503):
            self.set_header("Retry-After", "5")
        return self.fail(status, error.code, error.sentence)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, Unavailable):
            log.warning("The jhssh command was not answered: %s", value)
        elif not isinstance(value, (HTTPError, JHSSHError)):
            super().log_exception(typ, value, tb)


def _finite(text: str) -> float:
    """JSON knows no other numbers, and not all that read it do. Raises ValueError."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def _deeper(value: Any, most: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is not None and (most == 0 or any(_deeper(each, most - 1) for each in inner))


class UserHandler(ClientHandler):
    """For who has a token: ``self.token`` and ``self.user`` are set before get(), post() or delete()."""

    token: TokenInfo
    user: UserModel

    async def prepare(self) -> None:
        await super().prepare()
        if self._finished:
            return
        sent = re.fullmatch(r"(?i:bearer) ([!-~]{1,256})", self.request.headers.get("Authorization", ""))
        if sent is None:
            raise TokenInvalid(f"A token of this gateway is needed. {LOGIN_AGAIN}")
        self.token = await self.tokens.find(sent[1])
        self._take_turn(self.settings["client_users"], self.token.user)
        user = await self.site.hub.user(self.token.user)
        if user is not None and not user.created:
            raise HubUnavailable(explanation="the Hub does not say when users were made: give the gateway the scope read:users")
        if user is None or user.created != self.token.user_created:
            await self.tokens.forget(self.token.user, user.created if user else "")
            raise TokenInvalid(f"The user of this login is gone. {LOGIN_AGAIN}")
        self.user = user

    def note(self, event: str, **values: str) -> None:
        """For the audit log."""
        who = {"user": self.token.user, "client": self.token.client, "address": self.address, "token": self.token.id}
        self.site.note(event, {**who, **values})

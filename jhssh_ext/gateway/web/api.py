"""/api: JSON, authorised by a Hub token in the Authorization header, never by a cookie. Errors are ``{"message", "code"}``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ...errors import JHSSHError, TokenInvalid, TooManyAttempts
from ...login_names import MAX_LOGIN_NAME, UserServer
from ..connect.hub_client import HubClient
from ..connect.hub_models import may
from .handlers import Handler
from .key_refresher import KeyRefresher

MAX_BODY = 4096
PATIENCE = 2.0
"""seconds that a push waits for the fetch that it causes"""
MAX_CHECKS = 20
"""tokens that are being checked by the Hub at the same time"""


class KeysChangedHandler(Handler):
    """``POST {"user", "server"}``: this user server's keys have changed. Carries no keys; only makes the gateway fetch. 202, with
    ``{"status": "fetched"}``, or "accepted" where the fetch takes longer, or has to be tried again.

    The token must be that user's own and have access to exactly that server: a user server's own token has.
    """

    checks = 0

    async def post(self) -> None:
        hub: HubClient | None = self.settings["hub"]
        refresher: KeyRefresher | None = self.settings["refresher"]
        if len(self.request.body) > MAX_BODY:
            return self.fail(413, "BODY_TOO_LARGE", f"The body has more than {MAX_BODY} bytes.")
        target = _target(self.request.body)
        if target is None:
            return self.fail(400, "BODY_MALFORMED", 'The body must be {"user": …, "server": …}.')
        if hub is None or refresher is None:
            return self.fail(503, "UNAVAILABLE", "The gateway is not ready. See /health.")
        token = token_in(self.request.headers)
        if token is None:
            return self.fail(403, TokenInvalid.code, "A token of the Hub is needed: Authorization: token …")
        try:
            allowed = await self._allowed(hub, token, target)
            taken = allowed and await refresher.changed(target)
        except JHSSHError as error:
            status = 429 if isinstance(error, TooManyAttempts) else 503
            self.set_header("Retry-After", "10")
            return self.fail(status, error.code, error.sentence)
        if not allowed:
            return self.fail(403, TokenInvalid.code, "This token is not that server's.")
        if not taken:
            self.set_header("Retry-After", "10")
            return self.fail(429, TooManyAttempts.code, TooManyAttempts.default_sentence)
        # Who waits for this answer has just added a key, and wants to use it.
        fetched = await refresher.fetched(target, PATIENCE)
        self.set_status(202)
        await self.finish({"status": "fetched" if fetched else "accepted"})
        return None

    async def _allowed(self, hub: HubClient, token: str, target: UserServer) -> bool:
        cls = type(self)
        if cls.checks >= MAX_CHECKS:
            raise TooManyAttempts
        cls.checks += 1
        try:
            owner = await hub.identify(token)
        finally:
            cls.checks -= 1
        return owner is not None and owner.kind == "user" and owner.name == target.user and may(owner, "access:servers", target)


def token_in(headers: Mapping[str, str]) -> str | None:
    """Of the Authorization header, as the Hub's own API takes it."""
    found = re.fullmatch(r"(?i:token|bearer) ([!-~]+)", headers.get("Authorization", ""))
    return found[1] if found else None


def _target(body: bytes) -> UserServer | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or set(found) != {"user", "server"}:
        return None
    user, server = found["user"], found["server"]
    if not isinstance(user, str) or not isinstance(server, str) or not user or max(len(user), len(server)) > MAX_LOGIN_NAME:
        return None
    return UserServer(user, server)

"""/api: JSON, authorised by a Hub token in the Authorization header, never by a cookie. Errors are ``{"message", "code"}``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ...errors import JHSSHError, TokenInvalid, TooManyAttempts
from ...login_names import UserServer, candidates, login_name
from ..connect.hub_client import HubClient
from ..connect.hub_models import may
from .handlers import Handler
from .key_refresher import KeyRefresher

MAX_BODY = 4096
PATIENCE = 2.0
"""seconds that a push waits for the fetch that it causes"""
MAX_CHECKS = 20
"""tokens that are being checked by the Hub at the same time"""


class APIHandler(Handler):
    """What all of /api shares."""

    checks = 0
    """tokens that are being checked, anybody's, by all of /api"""

    @staticmethod
    @contextmanager
    def asking_hub() -> Iterator[None]:
        """While the Hub is asked what a token allows. Raises TooManyAttempts."""
        if APIHandler.checks >= MAX_CHECKS:
            raise TooManyAttempts
        APIHandler.checks += 1
        try:
            yield
        finally:
            APIHandler.checks -= 1

    def later(self, error: JHSSHError) -> None:
        """Ends the request: it may be sent again."""
        self.set_header("Retry-After", "10")
        self.fail(429 if isinstance(error, TooManyAttempts) else 503, error.code, error.sentence)


class KeysChangedHandler(APIHandler):
    """``POST {"user", "server"}``: this user server's keys have changed. Carries no keys; only makes the gateway fetch. 202, with
    ``{"status": "fetched"}``, or "accepted" where the fetch takes longer, or has to be tried again.

    The token must be that user's own and have access to exactly that server, and there must be such a server: a user server's
    own token has.
    """

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
            if not await self._allowed(hub, token, target):
                return self.fail(403, TokenInvalid.code, "This token is not that server's.")
            if not await refresher.changed(target):
                raise TooManyAttempts
        except JHSSHError as error:
            return self.later(error)
        # Who waits for this answer has just added a key, and wants to use it.
        fetched = await refresher.fetched(target, PATIENCE)
        self.set_status(202)
        await self.finish({"status": "fetched" if fetched else "accepted"})
        return None

    async def _allowed(self, hub: HubClient, token: str, target: UserServer) -> bool:
        with self.asking_hub():
            owner = await hub.identify(token)
            if owner is None or owner.kind != "user" or owner.name != target.user or not may(owner, "access:servers", target):
                return False
            user = await hub.user(target.user)  # a token for all of one's servers names any that there might be
            return user is not None and target.server in user.servers


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
    if not isinstance(user, str) or not isinstance(server, str) or not user:
        return None
    target = UserServer(user, server)
    # Nobody can log in with another name, and no database takes all of those that JSON can write.
    return target if candidates(login_name(target)) else None

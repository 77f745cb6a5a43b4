"""/api/refresh: an admin has keys fetched anew. By a token of the Hub in the Authorization header, as all of /api."""

from __future__ import annotations

import json
from typing import Any

from ...errors import JHSSHError, TokenInvalid
from ...login_names import MAX_LOGIN_NAME
from ..connect.hub_client import HubClient
from ..connect.hub_models import TokenModel
from .api import MAX_BODY, APIHandler, token_in
from .key_refresh import MAX_USERS, KeyRefresh

ADMIN_SCOPE = "admin:servers"
"""of the Hub: who has it may do as much as this, and more"""


class RefreshHandler(APIHandler):
    """``POST {"users": [], "full": false}``, both optional. With users: 200 and the report; for all: 202.

    ``GET``: ``{"running", "last"}`` of the refreshes of all.
    """

    async def prepare(self) -> None:
        if self.settings["refresh"] is None or self.settings["hub"] is None:
            return self.fail(503, "UNAVAILABLE", "The gateway is not ready. See /health.")
        hub: HubClient = self.settings["hub"]
        token = token_in(self.request.headers)
        try:
            with self.asking_hub():
                owner = await hub.identify(token) if token else None
        except JHSSHError as error:
            return self.later(error)
        if owner is None or not self._may(owner):
            return self.fail(403, TokenInvalid.code, f"A token of an admin is needed, with the scope {ADMIN_SCOPE}.")
        return None

    def _may(self, owner: TokenModel) -> bool:
        scopes = {ADMIN_SCOPE, self.settings["admin_scope"]} - {""}
        return not owner.scopes.isdisjoint(scopes)

    def get(self) -> None:
        refresh: KeyRefresh = self.settings["refresh"]
        self.finish({"running": refresh.running, "last": refresh.last})

    async def post(self) -> None:
        refresh: KeyRefresh = self.settings["refresh"]
        asked = _asked(self.request.body)
        if asked is None:
            return self.fail(400, "BODY_MALFORMED", f'The body must be {{"users": […at most {MAX_USERS}], "full": false}}.')
        users, full = asked
        try:
            if users:
                await self.finish(await refresh.users(users))
                return None
            refresh.everyone(full=full)
        except JHSSHError as error:
            return self.later(error)
        self.set_status(202)
        await self.finish({"status": "accepted"})
        return None


def _asked(body: bytes) -> tuple[list[str], bool] | None:
    try:
        found: Any = json.loads(body or b"{}") if len(body) <= MAX_BODY * 8 else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not set(found) <= {"users", "full"}:
        return None
    users, full = found.get("users", []), found.get("full", False)
    if not isinstance(users, list) or len(users) > MAX_USERS or type(full) is not bool:
        return None
    if not all(isinstance(user, str) and 0 < len(user) <= MAX_LOGIN_NAME for user in users):
        return None
    return users, full

"""What the Hub's REST API tells, parsed strictly into frozen shapes, and what a token's scopes allow. No I/O."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...identifiers import printable
from ...login_names import UserServer
from ...payloads import ServerState

PAGINATED = "application/jupyterhub-pagination+json"
"""media type of lists that come in pages (JupyterHub 2.0 and later)"""
MAX_TIME = 64


class WrongShape(ValueError):
    """The Hub's answer is none that its API documents."""


@dataclass(frozen=True)
class ServerModel:
    """One server of a user, running or stopped."""

    name: str
    ready: bool
    pending: str | None
    """"spawn", "stop", or None"""
    user_options: dict[str, Any] = field(default_factory=dict)
    """untrusted: whatever JSON the user sent at the last start"""
    state: ServerState | None = None
    """where it is ready and SSH is on"""
    state_known: bool = True
    """False: the Hub does not show us the state, or it has a shape of another version"""
    url: str = ""
    """as users see it, from the Hub's host on, or with a host of its own; empty: the Hub does not say"""


@dataclass(frozen=True)
class UserModel:
    name: str
    servers: dict[str, ServerModel]
    """by name; the default server ``""`` is always there"""
    created: str = ""
    """when the Hub made this user, as it writes it; a user of the same name made later is another. Empty: the Hub does not say"""


@dataclass(frozen=True)
class TokenModel:
    """Whose a token is and what it allows; ``kind`` is "user" or "service"."""

    name: str
    kind: str
    scopes: frozenset[str]
    admin: bool = False


@dataclass(frozen=True)
class StartAnswer:
    """What the Hub says to a start: "ready", "pending", "busy" (ask again), "already" (it runs), "refused", "failed"."""

    kind: str
    message: str = ""
    retry_after: float | None = None


@dataclass(frozen=True)
class Progress:
    """One event of a spawn; ``message`` is fit to show."""

    percent: int | None
    message: str
    ready: bool = False
    failed: bool = False


def may(token: TokenModel, scope: str, target: UserServer) -> bool:
    """Does the token have ``scope`` for this user server? As HubAuth.check_scopes: a group's filter allows nothing here."""
    if "/" in target.user or "/" in target.server:
        return False
    return not token.scopes.isdisjoint((scope, f"{scope}!user={target.user}", f"{scope}!server={target.user}/{target.server}"))


def may_start(token: TokenModel, target: UserServer) -> bool:
    """May the token start this user server? JupyterHub 6 wants start:servers, a part of ``servers``; 5 has ``servers`` alone."""
    return may(token, "servers", target) or may(token, "start:servers", target)


def parse_object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise WrongShape("not JSON") from None
    if not isinstance(found, dict):
        raise WrongShape("not a JSON object")
    return found


def user_model(found: Mapping[str, Any]) -> UserModel:
    """From ``GET /users/:name?include_stopped_servers``; ``created`` is shown to the scope read:users."""
    servers = found.get("servers")
    if not isinstance(servers, dict):
        raise WrongShape("no servers are shown")
    models = {}
    for name, server in servers.items():
        if not isinstance(server, dict):
            raise WrongShape("a server is not an object")
        models[name] = _server_model(name, server)
    models.setdefault("", ServerModel(name="", ready=False, pending=None))
    created = found.get("created")
    return UserModel(_text(found, "name"), models, created if isinstance(created, str) and len(created) <= MAX_TIME else "")


def users_page(found: Mapping[str, Any]) -> tuple[list[UserModel], int | None]:
    """From ``GET /users`` with PAGINATED: the users of one page, and the offset of the next, None after the last."""
    items, pagination = found.get("items"), found.get("_pagination")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items) or not isinstance(pagination, dict):
        raise WrongShape("no page of users")
    following = pagination.get("next")
    offset = following.get("offset") if isinstance(following, dict) else None
    if following is not None and type(offset) is not int:
        raise WrongShape("no offset of the next page")
    return [user_model(item) for item in items], offset


def _server_model(name: str, found: Mapping[str, Any]) -> ServerModel:
    ready = found.get("ready") is True
    pending = found.get("pending")
    options = found.get("user_options")
    state, state_known = None, True
    if ready:  # a stopped server keeps the state of its last run
        try:
            state, state_known = ServerState.from_state(found.get("state")), "state" in found
        except ValueError:
            state_known = False
    return ServerModel(
        name=name,
        ready=ready,
        pending=str(pending) if pending else None,
        user_options=options if isinstance(options, dict) else {},
        state=state,
        state_known=state_known,
        url=next((url for name in ("full_url", "url") if isinstance(url := found.get(name), str) and url), ""),
    )


def token_model(found: Mapping[str, Any]) -> TokenModel:
    """From ``GET /user``."""
    scopes = found.get("scopes")
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise WrongShape("no scopes are shown")
    return TokenModel(_text(found, "name"), _text(found, "kind"), frozenset(scopes), found.get("admin") is True)


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    if not isinstance(value, str) or not value:
        raise WrongShape(f"{key} is missing")
    return value


def start_answer(status: int, message: str, retry_after: str | None) -> StartAnswer:
    """From ``POST /users/:name/servers/:server``; the same words in JupyterHub 5 and 6 (apihandlers/users.py)."""
    if status == 201:
        return StartAnswer("ready")
    if status == 202:
        return StartAnswer("pending")
    if status == 429:
        seconds = float(retry_after) if retry_after and re.fullmatch(r"[0-9]{1,4}", retry_after) else None
        return StartAnswer("busy", message, seconds)
    if status == 400 and re.search(r" is already running$", message):
        return StartAnswer("already", message)
    if status == 400 and re.search(r" is pending [a-z]+$", message):
        return StartAnswer("busy", message)
    return StartAnswer("failed" if status >= 500 else "refused", message)


class EventLines:
    """The ``data:`` lines of a progress stream (text/event-stream), at most ``max_line`` bytes each and ``max_total`` in all."""

    def __init__(self, max_line: int = 65536, max_total: int = 1 << 20) -> None:
        self.max_line = max_line
        self.left = max_total
        self._rest = b""

    def feed(self, chunk: bytes) -> list[Progress]:
        """The events that are complete now; lines that are no events (keepalives) are skipped. Raises WrongShape over a bound."""
        self.left -= len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if self.left < 0 or len(self._rest) > self.max_line or any(len(line) > self.max_line for line in lines):
            raise WrongShape("a progress stream over its bounds")
        return [self._event(line[5:]) for line in lines if line.startswith(b"data:")]

    @staticmethod
    def _event(data: bytes) -> Progress:
        found = parse_object(data)
        percent, message = found.get("progress"), found.get("message")
        return Progress(
            percent=max(0, min(100, int(percent))) if isinstance(percent, (int, float)) and math.isfinite(percent) else None,
            message=printable(message) if isinstance(message, str) else "",
            ready=found.get("ready") is True,
            failed=found.get("failed") is True,
        )

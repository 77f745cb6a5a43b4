"""What all connections of clients share."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ..authenticate.authentication import Authentication
from ..authenticate.browser_login import BrowserLogin
from ..authenticate.login import Login
from ..authenticate.sessions import Sessions
from ..authenticate.user_keys import UserKeys
from ..relay.activity import ActivityReporter
from .entry import Entry
from .limits import ConnectionLimits, FailureBudget

if TYPE_CHECKING:
    from .ssh_server import ClientConnection


@dataclass(frozen=True)
class Rules:
    """Bounds of one connection."""

    max_auth_tries: int
    failure_floor: float
    """seconds: a refusal is told after a whole number of these, whatever caused it"""
    known_key_wait: float
    """seconds that a key which is known may wait for its user server to confirm it"""


class Observer(Protocol):
    """Who is told what happens: audit log and metrics."""

    def unauthenticated(self, count: int) -> None: ...

    def refused(self, address: str, login_name: str, method: str, code: str) -> None: ...

    def opened(self, login: Login) -> None: ...

    def closed(self, login: Login, from_client: int, from_server: int) -> None: ...


@dataclass
class Services:
    """The parts that a connection uses, in the order in which it does."""

    rules: Rules
    limits: ConnectionLimits
    failures: FailureBudget
    authentication: Authentication
    entry: Entry
    activity: ActivityReporter
    sessions: Sessions
    observer: Observer
    log: logging.Logger
    browser_login: BrowserLogin | None = None
    user_keys: UserKeys | None = None
    connections: set[ClientConnection] = field(default_factory=set)
    closing: bool = False

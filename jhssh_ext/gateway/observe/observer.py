"""Tells both the audit log and the metrics what happens at the door."""

from __future__ import annotations

from ..authenticate.login import Login
from .audit import Audit
from .metrics import Metrics


class Observer:
    """What accept's ``Observer`` protocol asks for."""

    def __init__(self, audit: Audit, metrics: Metrics) -> None:
        self._audit, self._metrics = audit, metrics

    def unauthenticated(self, count: int) -> None:
        self._metrics.unauthenticated.set(count)

    def refused(self, address: str, login_name: str, method: str, code: str) -> None:
        self._metrics.login(method, code)
        self._audit.refused(address, login_name, code)

    def opened(self, login: Login) -> None:
        self._metrics.login(login.method, "OK")
        self._metrics.sessions.inc()
        self._audit.opened(login)

    def closed(self, login: Login, from_client: int, from_server: int) -> None:
        self._metrics.sessions.dec()
        self._metrics.relayed(from_client, from_server)
        self._audit.closed(login, from_client, from_server)

"""Prometheus metrics of the gateway, in a registry of their own. No label holds what users chose."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

SPAWN_BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 180, 300, 600)


class Metrics:
    """Each is a metric object or a method; ``render`` is the page."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._logins = Counter(
            "jhssh_logins", "Logins, by method and by code of the outcome", ["method", "outcome"], registry=registry
        )
        self._bytes = Counter(
            "jhssh_relayed_bytes", "Bytes of SSH packets relayed, by who sent them", ["sender"], registry=registry
        )
        self._key_fetches = Counter(
            "jhssh_key_fetches", "Keys fetched from user servers, by outcome", ["outcome"], registry=registry
        )
        self.sessions = Gauge("jhssh_sessions", "Connections that are relayed now", registry=registry)
        self.unauthenticated = Gauge(
            "jhssh_unauthenticated_connections", "Connections that have not proved yet who they are", registry=registry
        )
        self._spawn_seconds = Histogram(
            "jhssh_spawn_seconds", "Time that logins waited for their server to start", buckets=SPAWN_BUCKETS, registry=registry
        )
        for sender in ("client", "server"):
            self._bytes.labels(sender)

    def login(self, method: str, outcome: str) -> None:
        """``outcome`` is "OK" or the code of an error."""
        self._logins.labels(method, outcome).inc()

    def relayed(self, from_client: int, from_server: int) -> None:
        self._bytes.labels("client").inc(from_client)
        self._bytes.labels("server").inc(from_server)

    def key_fetch(self, outcome: str) -> None:
        self._key_fetches.labels(outcome).inc()

    def spawned(self, seconds: float) -> None:
        self._spawn_seconds.observe(seconds)

    def render(self) -> bytes:
        return generate_latest(self._registry)

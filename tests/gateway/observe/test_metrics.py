from __future__ import annotations

from jhssh_ext.gateway.observe.metrics import Metrics


def test_what_happened_is_on_the_page() -> None:
    metrics = Metrics()
    metrics.login("publickey", "OK")
    metrics.login("publickey", "OK")
    metrics.login("password", "TOKEN_INVALID")
    metrics.sessions.inc()
    metrics.unauthenticated.set(3)
    metrics.relayed(10, 2000)
    metrics.key_fetch("OK")
    metrics.spawned(4.2)
    page = metrics.render().decode()
    for line in (
        'jhssh_logins_total{method="publickey",outcome="OK"} 2.0',
        'jhssh_logins_total{method="password",outcome="TOKEN_INVALID"} 1.0',
        "jhssh_sessions 1.0",
        "jhssh_unauthenticated_connections 3.0",
        'jhssh_relayed_bytes_total{sender="client"} 10.0',
        'jhssh_relayed_bytes_total{sender="server"} 2000.0',
        'jhssh_key_fetches_total{outcome="OK"} 1.0',
        'jhssh_spawn_seconds_bucket{le="5.0"} 1.0',
    ):
        assert line in page.splitlines()


def test_two_gateways_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.sessions.inc()
    assert "jhssh_sessions 0.0" in second.render().decode()

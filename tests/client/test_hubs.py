"""What is remembered of hubs: no hub's answer spoils what is known of another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jhssh_ext.client import hubs
from jhssh_ext.client.failures import Failure

from ..fakes import gateway_api
from ..fakes.gateway_api import FakeGateway
from .conftest import Laptop

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKMwN5GLUYHBuuccH/ktWGtqzGbKjwGznVr8VvbMBPHS"


@pytest.fixture
def evil(logged_in: Laptop) -> Iterator[FakeGateway]:
    """A second hub, to which the user is logged in too."""
    with gateway_api.running() as gateway:
        logged_in.log_in(gateway, "--name", "evil")
        yield gateway


@pytest.mark.parametrize(
    "answer",
    [
        {"login_name": "a" * (5 << 20)},
        {"login_name": "a" * (1 << 20)},
        {"login_name": "a" * 256},
        {"name": "a" * (1 << 20)},
        {"name": "s", "login_name": "alice+s", "url": "u" * (1 << 20), "message": "m" * (1 << 20)},
        {"user": "a" * (1 << 20)},
        {"connect": {"tunnel": "wss://hub.example.org/" + "a" * (1 << 20)}},
        {"connect": {"host": "a" * (1 << 20)}},
        {"connect": {"host_keys": [f"{KEY} {n}" for n in range(30_000)]}},
        {"servers": [("n" + "\U0001f600" * 200 + str(n)) for n in range(1001)]},
    ],
)
def test_what_one_hub_tells_does_not_crowd_out_another(
    logged_in: Laptop, fake: FakeGateway, evil: FakeGateway, answer: dict[str, Any]
) -> None:
    evil.user = answer.get("user", evil.user)
    evil.connect |= answer.get("connect", {})
    evil.servers |= {name: evil.server(name, login_name=name) for name in answer.get("servers", ())}
    evil.servers[""] |= {key: value for key, value in answer.items() if key not in ("user", "connect", "servers")}
    logged_in.run("servers", "list", "--hub", "evil")
    assert hubs.hubs_file().stat().st_size < hubs.MAX_HUB * 2
    assert "alice.hub" in logged_in.good("servers", "list", "--hub", "hub")
    assert set(hubs.load()) == {"hub", "evil"}
    logged_in.good("logout", "--hub", "evil")


def test_as_many_servers_as_there_may_be_are_remembered(logged_in: Laptop, fake: FakeGateway) -> None:
    fake.servers |= {f"server-{n}": fake.server(f"server-{n}") for n in range(999)}
    logged_in.good("servers", "list")
    assert len(hubs.choose().servers) == 1000


def test_more_hubs_than_a_file_holds_are_refused(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "MAX_FILE", 2000)
    hubs.save(hubs.Hub("one", "https://one.example.org/", hubs.GATEWAY, "alice"))
    with pytest.raises(Failure, match="Log out of one"):
        hubs.save(hubs.Hub("two", "https://two.example.org/", hubs.GATEWAY, "alice" * 500))
    assert set(hubs.load()) == {"one"}

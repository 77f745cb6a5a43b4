"""Servers listed, started and stopped."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jhssh_ext.client import hubs, servers
from jhssh_ext.client.failures import WrongUsage
from jhssh_ext.client.servers import parsed_options

from ..fakes.gateway_api import FakeGateway
from .conftest import Laptop


def test_list(logged_in: Laptop, fake: FakeGateway) -> None:
    fake.servers["gpu"] = fake.server("gpu", ready=True, ssh=True)
    fake.servers["old"] = fake.server("old", ready=True, ssh=False, pending="stop")
    lines = [line.split() for line in logged_in.good("servers", "list").splitlines()]
    assert lines[0] == ["SERVER", "HOST", "STATE", "SSH", "URL"]
    assert lines[1][:3] == ["(default)", "alice.hub", "stopped"]
    assert lines[2][:4] == ["gpu", "alice-gpu.hub", "running", "on"]
    assert lines[3][:4] == ["old", "alice-old.hub", "stopping", "off"]
    assert hubs.choose().server_of_host("alice-gpu.hub") is not None  # it is known from now on
    models = json.loads(logged_in.good("servers", "list", "--json"))["servers"]
    assert models[1] == {
        "name": "gpu",
        "host": "alice-gpu.hub",
        "login_name": "alice+gpu",
        "state": "running",
        "ssh": True,
        "url": "https://hub.example.org/user/alice/gpu",
        "message": "",
    }


def test_start_waits_and_shows_what_it_waits_for(logged_in: Laptop, fake: FakeGateway) -> None:
    fake.servers["gpu"] = fake.server("gpu")
    done = logged_in.run("servers", "start", "gpu", "-o", "profile=big", "-o", 'limits:={"cpu": 2}', "-o", "image=1.10")
    assert done == type(done)(0, "The server gpu runs: ssh alice-gpu.hub\n", "The server gpu is starting …\nPulling the image\n")
    assert fake.started == [{"server": "gpu", "options": {"profile": "big", "limits": {"cpu": 2}, "image": "1.10"}}]
    assert "runs already" in logged_in.good("servers", "start", "gpu")
    assert "stop it first" in logged_in.good("servers", "start", "gpu", "-o", "a=b")
    assert len(fake.started) == 1


def test_start_without_waiting(logged_in: Laptop, fake: FakeGateway) -> None:
    assert logged_in.good("servers", "start", "--no-wait") == "Your server is being started.\n"
    assert fake.started == [{"server": ""}]


def test_a_start_that_fails_says_why(logged_in: Laptop, fake: FakeGateway) -> None:
    fake.servers[""]["message"] = "an older failure"
    fake.start_fails = "no room\x1b[2J on any node"
    done = logged_in.run("servers", "start")
    assert done.status == 1
    assert "jhssh: no room [2J on any node\n" in done.err
    assert "an older failure" not in done.err


def test_a_start_that_ends_in_nothing(logged_in: Laptop, fake: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "NOT_BEGUN", 0.2)
    monkeypatch.setattr(fake, "start", lambda _body: (202, {"status": "accepted"}))
    done = logged_in.run("servers", "start")
    assert (done.status, "Start it in the browser to see why" in done.err) == (1, True)


def test_a_start_that_takes_too_long(logged_in: Laptop, fake: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(body: Any) -> tuple[int, Any]:
        fake.servers[body["server"]]["pending"] = "spawn"
        return 202, {"status": "accepted"}

    monkeypatch.setattr(fake, "start", start)
    done = logged_in.run("servers", "start", "--timeout", "0.2")
    assert (done.status, "not ready after 0 s" in done.err) == (4, True)


def test_stop_waits(logged_in: Laptop, fake: FakeGateway) -> None:
    assert logged_in.good("servers", "stop") == "Your server is stopped already.\n"
    logged_in.good("servers", "start")
    assert logged_in.good("servers", "stop") == "Your server is stopped.\n"
    assert fake.servers[""]["ready"] is False
    logged_in.good("servers", "start")
    assert logged_in.good("servers", "stop", "--no-wait") == "Your server is being stopped.\n"


def test_a_stop_that_takes_too_long(logged_in: Laptop, fake: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    logged_in.good("servers", "start")
    monkeypatch.setattr(fake, "stop", lambda _body: (202, {"status": "accepted"}))
    done = logged_in.run("servers", "stop", "--timeout", "0.2")
    assert (done.status, "not stopped after" in done.err) == (4, True)


def test_a_server_of_many_names(logged_in: Laptop, fake: FakeGateway) -> None:
    fake.servers["gpu"] = fake.server("gpu")
    for name in ("gpu", "alice+gpu", "alice-gpu.hub"):
        assert logged_in.good("servers", "stop", name) == "The server gpu is stopped already.\n"


def test_a_typo_starts_nothing(logged_in: Laptop, fake: FakeGateway) -> None:
    done = logged_in.run("servers", "start", "gqu")
    assert done.status == 1
    assert "You have no server called gqu on hub. There is: (default)." in done.err
    assert fake.started == []


@pytest.mark.parametrize("option", ["profile", "=x", ":=1", "a:={", "a:=NaN{"])
def test_options_that_are_none(option: str) -> None:
    with pytest.raises(WrongUsage):
        parsed_options([option])


def test_options_are_bounded() -> None:
    assert parsed_options(["a=", "b==", "enable_ssh:=false"]) == {"a": "", "b": "=", "enable_ssh": False}
    with pytest.raises(WrongUsage):
        parsed_options(["a=" + "x" * 5000])

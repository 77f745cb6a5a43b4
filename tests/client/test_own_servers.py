"""A hub without a gateway: the user's own token, the Hub's API, and the extension on each server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from jhssh_ext.client import hubs, own_tunnel, servers, ssh_client, websocket_handshake
from jhssh_ext.client.failures import Failure, Unreachable

from ..fakes import hub_without_gateway
from ..fakes.hub_without_gateway import HOST_KEY, TOKEN, FakeHub
from .conftest import Laptop


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with hub_without_gateway.running() as fake:
        yield fake


@pytest.fixture
def own(laptop: Laptop, hub: FakeHub) -> Laptop:
    laptop.good("login", hub.url, "--token", typed=f"{TOKEN}\n")
    return laptop


def test_login_by_a_token_from_stdin(own: Laptop, hub: FakeHub) -> None:
    known = hubs.choose()
    assert (known.kind, known.user) == (hubs.TOKEN, "alice")
    (server,) = known.servers
    assert server.tunnel == hub.url.replace("http", "ws") + "/user/alice/jhssh/tunnel"
    assert (server.login_name, server.host, server.host_keys) == ("jovyan", "alice.hub", (HOST_KEY,))
    assert TOKEN not in (own.settings / "hubs.json").read_text()


def test_a_token_that_the_hub_does_not_take(laptop: Laptop, hub: FakeHub) -> None:
    done = laptop.run("login", hub.url, "--token", typed="f" * 32 + "\n")
    assert (done.status, "does not take this token" in done.err) == (3, True)
    assert laptop.run("login", hub.url, "--token", typed="\n").status == 2
    assert hubs.load() == {}


def test_a_token_that_is_revoked_later(own: Laptop, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fakes.hub_without_gateway.TOKEN", "another")
    done = own.run("servers", "list")
    assert (done.status, f"jhssh login {hub.url}/ --name hub --token" in done.err) == (3, True)


def test_the_token_goes_nowhere_else(own: Laptop, hub: FakeHub) -> None:
    hub.servers["gpu"] = {"ready": True, "pending": None, "full_url": "ftp://evil.example.org/"}
    own.good("servers", "list")
    assert {path for _, path, authorization in hub.requests if authorization} <= {
        "/hub/api/",
        "/hub/api/user",
        "/hub/api/users/alice?include_stopped_servers",
        "/user/alice/jhssh/status",
        "/user/alice/gpu/jhssh/status",
    }


def test_logout_leaves_the_token_to_its_user(own: Laptop) -> None:
    assert "revoke it on the Hub's Token page" in own.run("logout").err
    assert hubs.load() == {}


def test_config_names_the_servers_own_host_key(own: Laptop, hub: FakeHub) -> None:
    hub.servers["new"] = {"ready": False, "pending": None}
    own.good("config", "--write")
    found = ssh_client.read(own.ssh / "config", "alice.hub")
    assert isinstance(found, dict)
    assert (found["user"], found["hostkeyalias"]) == (["jovyan"], ["alice.hub"])
    assert "proxycommand" in found
    assert (own.ssh / "jhssh_known_hosts").read_text().splitlines()[1:] == [f"alice.hub {HOST_KEY}"]
    assert "alice-new.hub" not in (own.ssh / "config").read_text()
    hub.servers[""]["ready"] = False  # what a stopped server has told stays known
    own.good("config", "--write")
    assert "Host alice.hub\n" in (own.ssh / "config").read_text()


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ((200, {"tunnel": {"enabled": False, "reason": "SSH is off.\x1b[1m"}}), "SSH is off. [1m"),
        ((200, {"enabled": True}), "no jhssh-ext with a tunnel"),
        ((404, {"message": "Not Found"}), "no jhssh-ext with a tunnel"),
        ((200, ["nonsense"]), "does not understand"),
        ((200, {"tunnel": {"enabled": True}}), "makes no sense"),
    ],
)
def test_servers_that_take_no_ssh(laptop: Laptop, hub: FakeHub, status: tuple[int, object], shown: str) -> None:
    hub.status = status
    laptop.good("login", hub.url, "--token", typed=f"{TOKEN}\n")
    assert shown in laptop.run("servers", "list").err
    assert "no server of yours takes SSH" in laptop.run("config", "--write").err


def test_keys_are_on_a_server(own: Laptop, hub: FakeHub) -> None:
    own.key()
    own.good("keys", "add")
    assert "file" in own.good("keys", "list")
    own.good("keys", "remove", "SHA256:x")
    assert [path for method, path, _ in hub.requests if method == "DELETE"] == ["/user/alice/publickey/SHA256%3Ax"]
    hub.servers[""]["ready"] = False
    done = own.run("keys", "list")
    assert (done.status, "Start it: jhssh servers start\n" in done.err) == (1, True)
    gone = own.run("keys", "list", "--server", "gpu")
    assert "jhssh servers start gpu\n" in gone.err


@pytest.mark.parametrize(("version", "body"), [("6.1.1", {"user_options": {"a": "b"}}), ("5.5.0", {"a": "b"})])
def test_start_and_stop(own: Laptop, hub: FakeHub, version: str, body: object) -> None:
    hub.version = version
    own.good("servers", "stop")
    own.good("servers", "start", "-o", "a=b")
    own.good("servers", "stop")
    own.good("servers", "start")
    assert hub.starts == [body, None]
    hub.status = (200, {"tunnel": {"enabled": False, "reason": "No."}})
    own.good("servers", "stop")
    assert own.good("servers", "start") == "Your server runs, and SSH is off for it. No.\n"


def test_doctor(own: Laptop, hub: FakeHub) -> None:
    (findings,) = json.loads(own.run("doctor", "--json").out).values()
    found = {each["check"]: each["status"] for each in findings}
    assert (found["hub"], found["token"], found["default server"]) == ("ok", "ok", "ok")
    assert [check for check in found if "tunnel" in check and found[check] == "failed"]
    hub.servers[""]["ready"] = False
    (findings,) = json.loads(own.run("doctor", "--json").out).values()
    assert {each["check"]: each["message"] for each in findings}["default server"] == "stopped; a login starts it"


class TestTunnel:
    @pytest.fixture
    def tries(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
        """What was connected to; only a server that runs takes it."""
        found: list[tuple[str, str]] = []

        def connect(url: str, headers: dict[str, str], _tls: object) -> str:
            found.append((url, headers["Authorization"]))
            if len(found) == 1:
                raise Unreachable("nothing there")
            return "connected"

        monkeypatch.setattr(websocket_handshake, "connect", connect)
        return found

    def test_a_stopped_server_is_started(
        self, own: Laptop, hub: FakeHub, tries: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        own.good("servers", "stop")
        assert own_tunnel.connected(hubs.choose(), "alice.hub") == "connected"
        assert hub.starts == [None]
        url = hub.url.replace("http", "ws") + "/user/alice/jhssh/tunnel"
        assert tries == [(url, f"token {TOKEN}")] * 2
        assert "Starting your server for alice.hub" in capsys.readouterr().err

    def test_a_server_that_is_new(self, own: Laptop, hub: FakeHub, tries: list[tuple[str, str]]) -> None:
        hub.servers["gpu"] = {"ready": True, "pending": None}
        tries.append(("", ""))
        assert own_tunnel.connected(hubs.choose(), "alice-gpu.hub") == "connected"
        assert tries[-1][0].endswith("/user/alice/gpu/jhssh/tunnel")
        assert hub.starts == []

    def test_a_running_server_that_refuses(self, own: Laptop, hub: FakeHub, tries: list[tuple[str, str]]) -> None:
        with pytest.raises(Unreachable, match="nothing there"):
            own_tunnel.connected(hubs.choose(), "alice.hub")
        assert hub.starts == []

    def test_a_server_without_ssh(self, own: Laptop, hub: FakeHub) -> None:
        hub.servers["gpu"] = {"ready": True, "pending": None}
        hub.status = (200, {"tunnel": {"enabled": False, "reason": "SSH is off."}})
        with pytest.raises(Failure, match=r"takes no SSH by its tunnel\. SSH is off\."):
            own_tunnel.connected(hubs.choose(), "alice-gpu.hub")

    def test_no_token(self, own: Laptop) -> None:
        (own.settings / "tokens.json").unlink()
        done = own.run("proxy", "alice.hub")
        assert (done.status, "There is no token for hub here" in done.err) == (3, True)

    def test_a_host_that_is_none(self, own: Laptop) -> None:
        assert "You have no server called alice-gqu.hub" in own.run("proxy", "alice-gqu.hub").err


def test_a_start_that_fails(own: Laptop, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    own.good("servers", "stop")
    monkeypatch.setattr(hub, "_change", lambda *_arguments: (202, None))
    monkeypatch.setattr(servers, "NOT_BEGUN", 0.1)
    done = own.run("servers", "start")
    assert (done.status, "could not be started" in done.err) == (1, True)

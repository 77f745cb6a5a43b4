"""`jhssh proxy`, as ssh runs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jhssh_ext.client import hubs, websocket_stdio

from ..fakes.gateway_api import FakeGateway
from .conftest import Laptop

SLOW = {"argparse", "asyncio", "cryptography", "email", "jupyter_server", "keyring", "subprocess", "tempfile", "tornado.ioloop"}
SLOW |= {"http.client", "urllib.request"}
CODE = """
import sys
before = set(sys.modules)
from jhssh_ext.client import cli
status = cli.main(["proxy", "alice.hub"])
print(status, *set(sys.modules) - before)
"""


def test_on_the_path_of_every_connection_nothing_slow_is_imported(logged_in: Laptop, fake: FakeGateway) -> None:
    fake.connect["tunnel"] = "ws://127.0.0.1:1/"
    logged_in.good("servers", "list")
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=False)
    status, *modules = done.stdout.split()
    assert status == "4", done
    assert "jhssh_ext.client.websocket_stdio" in modules
    assert not SLOW & set(modules)
    ours = {name for name in modules if name.startswith("jhssh_ext.")}
    assert "jhssh_ext.client.hub_api" not in ours


def test_the_hubs_tunnel_and_its_ca(logged_in: Laptop, fake: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.connect["tunnel"] = "wss://hub.example.org/services/ssh/tunnel"
    logged_in.good("servers", "list")
    run: list[tuple[str, bool]] = []
    monkeypatch.setattr(websocket_stdio, "run", lambda url, *, tls: run.append((url, tls is not None)))
    logged_in.good("proxy", "alice.hub")
    logged_in.good("proxy", "Alice-New.HUB")  # a server that is not known yet
    assert run == [("wss://hub.example.org/services/ssh/tunnel", True)] * 2


@pytest.mark.parametrize(
    ("given", "url", "tls"),
    [
        ("https://hub.example.org/services/ssh/tunnel", "wss://hub.example.org/services/ssh/tunnel", True),
        ("wss://hub.example.org:8443/x", "wss://hub.example.org:8443/x", True),
        ("ws://127.0.0.1:8000/x", "ws://127.0.0.1:8000/x", False),
        ("http://[::1]:8000/x", "ws://[::1]:8000/x", False),
    ],
)
def test_the_address_of_a_tunnel(laptop: Laptop, monkeypatch: pytest.MonkeyPatch, given: str, url: str, tls: bool) -> None:
    run: list[tuple[str, bool]] = []
    monkeypatch.setattr(websocket_stdio, "run", lambda url, *, tls: run.append((url, tls is not None)))
    laptop.good("proxy", given)
    assert run == [(url, tls)]


@pytest.mark.parametrize(
    "given",
    [
        *("ws://hub.example.org/x", "http://hub.example.org/x", "ftp://hub.example.org/x", "ws://localhost@evil/x"),
        *("wss://", "wss://[foo", "wss://h:99999/", "ws://\x1b[31m/"),
    ],
)
def test_addresses_that_are_no_tunnels(laptop: Laptop, given: str) -> None:
    done = laptop.run("proxy", given)
    assert (done.status, "is no address of a tunnel" in done.err, "\x1b" in done.err) == (2, True, False)


def test_unknown_hosts_and_hubs_without_a_tunnel(logged_in: Laptop) -> None:
    unknown = logged_in.run("proxy", "alice.other")
    assert (unknown.status, "--name other" in unknown.err) == (3, True)
    assert logged_in.run("proxy", "nonsense").status == 2
    without = logged_in.run("proxy", "alice.hub")
    assert (without.status, "has no tunnel" in without.err) == (1, True)


def test_a_damaged_file_is_told(logged_in: Laptop) -> None:
    hubs.hubs_file().write_text("{")
    assert "hubs.json is damaged" in logged_in.run("proxy", "alice.hub").err

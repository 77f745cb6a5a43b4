"""A gateway that the Hub manages: it never takes the Hub down, and leaves its ports with it, however that ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..conftest import HUB_VERSIONS
from ..harness.gateway import GatewayProcess, direct
from ..harness.hub import VENVS, Hub
from ..harness.processes import MARK, arguments, descendants, free_port, listening, stop_child, tail, wait_until
from ..harness.ssh import SSHClient

pytestmark = pytest.mark.slow


def health(gateway: GatewayProcess) -> dict[str, str]:
    """The body of /health, and its HTTP status under "http"."""
    try:
        with direct.open(gateway.url + gateway.prefix + "health", timeout=5) as answer:
            return {"http": "200", **json.load(answer)}
    except urllib.error.HTTPError as error:
        with error:
            return {"http": str(error.code), **json.load(error)}
    except OSError:
        return {"http": ""}


def unhealthy(gateway: GatewayProcess) -> dict[str, str]:
    return wait_until(lambda: (found := health(gateway))["http"] == "503" and found, 30, what="health 503") or {}


@pytest.mark.parametrize("version", HUB_VERSIONS)
def test_gateway_ends_with_a_hub_that_was_killed_and_the_next_gets_its_ports(
    version: str, new_hub: Callable[..., Hub], client: Callable[..., SSHClient]
) -> None:
    hub = new_hub(version, managed=True)
    hub.start()
    gateway = hub.gateway
    assert gateway is not None
    [service] = [p for p in descendants(hub.pid) if "jhssh_ext.gateway" in arguments(p)]
    child = client(hub, "alice", password=hub.token("alice")).popen("echo here; cat")
    assert child.stdout is not None
    assert child.stdout.readline() == b"here\n"
    hub.kill_hub()
    _, err = child.communicate(timeout=30)
    assert (child.returncode, b"[SHUTTING_DOWN]" in err) == (255, True), err
    wait_until(lambda: not service.is_running(), 30, what="the gateway to end")
    assert not listening(gateway.ssh_port)
    assert not listening(gateway.http_port)
    hub.start_hub()
    gateway.start()
    done = client(hub, "alice", password=hub.token("alice")).run("echo again")
    assert (done.returncode, done.stdout) == (0, b"again\n"), done
    assert hub.stop(patience=20) == ""


def test_busy_ssh_port_is_told_and_taken_when_it_is_free(new_hub: Callable[..., Hub]) -> None:
    hub = new_hub(managed=True)
    gateway = hub.gateway
    assert gateway is not None
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", gateway.ssh_port))
        taken.listen()
        gateway.prepare()
        hub.start_hub()
        assert str(gateway.ssh_port) in unhealthy(gateway)["cause"]
        assert hub.answers()
    gateway.start()
    assert health(gateway)["http"] == "200"
    assert hub.stop(patience=20) == ""


def test_hub_lives_with_a_gateway_that_cannot_work(new_hub: Callable[..., Hub]) -> None:
    hub = new_hub(managed=True, gateway_config="this is no Python(\n")
    gateway = hub.gateway
    assert gateway is not None
    gateway.prepare()
    hub.start_hub()
    assert "configuration" in unhealthy(gateway)["cause"]
    hub.start_server("alice")
    assert hub.answers()
    assert hub.stop(patience=20) == ""


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Callable[[str], GatewayProcess]]:
    """Starts a gateway as a Hub does, without one: its configuration is what is tried."""
    children: list[subprocess.Popen[bytes]] = []

    def start(config: str) -> GatewayProcess:
        gateway = GatewayProcess(
            tmp_path, VENVS["hub6"], hub_url=f"http://127.0.0.1:{free_port()}", mark="", token="x", managed=True, config=config
        )
        gateway.prepare()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTERHUB_")} | {
            MARK: "alone",
            "JUPYTERHUB_SERVICE_NAME": "ssh",
            "JUPYTERHUB_SERVICE_PREFIX": gateway.prefix,
            "JUPYTERHUB_SERVICE_URL": gateway.url,
            "JUPYTERHUB_API_URL": f"{gateway.hub_url}/hub/api",
            "JUPYTERHUB_API_TOKEN": gateway.token,
        }
        with gateway.log_file.open("ab") as log:
            gateway.process = subprocess.Popen(gateway.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        children.append(gateway.process)
        return gateway

    yield start
    for child in children:
        stop_child(child)


NEWER_DATABASE = """
import sqlite3
file = __file__ + ".sqlite"
with sqlite3.connect(file) as database:
    database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    database.execute("INSERT INTO alembic_version VALUES ('9999')")
c.Gateway.database_url = "sqlite:///" + file
"""


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("c.Gateway.database_url = 'mysql://host/db'\n", "database_url"),
        ("c.Gateway.database_url = 'sqlite:////nowhere/at/all.sqlite'\n", "nowhere"),
        (NEWER_DATABASE, "newer gateway"),
        ("c.Gateway.host_key_file = '/nonexistent/key'\n", "/nonexistent/key"),
        ("c.Gateway.user_ca_file = '/nonexistent/ca'\n", "/nonexistent/ca"),
        ("c.Gateway.user_ca_file = __file__\n", ""),
        ("c.Gateway.hub_api_token = ''\n", "hub_api_token"),
        ("c.Gateway.ssh_port = 'many'\n", "ssh_port"),
        ("c.Gateway.ssh_port = 70000\n", "ssh_port"),
        ("c.Gateway.ssh_address = 'no.such.host.invalid'\n", "ssh_"),
        ("c.Gateway.encryption_algs = ['rot13']\n", "rot13"),
        ("c.Gateway.kex_algs = []\n", ""),
        ("c.Gateway.drain_timeout = 3600\n", "drain_timeout"),
        ("1 / 0\n", "division"),
        ("import sys; sys.exit(3)\n", ""),
        ("c.Gateway.http_port = 'x'\n", "http_port"),
    ],
)
def test_no_mistake_in_its_configuration_ends_it(alone: Callable[[str], GatewayProcess], config: str, said: str) -> None:
    gateway = alone(config)
    process = gateway.process
    assert process is not None
    wait_until(lambda: process.poll() is not None or health(gateway)["http"], 30)
    assert process.poll() is None, tail(gateway.log_file)
    found = unhealthy(gateway)
    assert found["cause"], "the admin is told that something is wrong"
    if said and not said.startswith("ssh_"):  # the port that is taken is told
        assert said not in found["cause"], "health is public: what is in settings is for the log"
    assert said in gateway.log_file.read_text()
    assert gateway.stop(signal.SIGINT) == 0

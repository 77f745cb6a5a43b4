"""How long a tunnel lives: through idle time, and not past the end of anything that it goes through."""

from __future__ import annotations

import asyncio
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conformance.patterns import STALL
from ..conftest import register_key, running_hub
from ..harness.hub import Hub, request
from ..harness.idle_proxy import idle_proxy
from ..harness.processes import arguments, free_port, memory, sleeping, wait_until
from ..harness.raw_websocket import RawWebSocket
from ..harness.ssh import KeyPair, SSHClient
from .ways import tunnel_command, tunnels

pytestmark = pytest.mark.slow
USER = "tunnel-alice"
IDLE = 6.0
PINGS = 0.5
# A machine that is busy for a second or two is no lost connection.
WITH_PINGS = (
    "import sys; from jhssh_ext.client import websocket_stdio as program; program.MISSED_PINGS = 100; "
    f"program.run(sys.argv[1], ping_interval={PINGS})"
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, node_proxy: Path) -> Iterator[Hub]:
    """With npm's proxy, through which pings pass, and a gateway that pings often."""
    made = Hub(tmp_path_factory.mktemp("tunnel"))
    made.config = f"\nc.ConfigurableHTTPProxy.command = [{str(node_proxy)!r}]\n"
    assert made.gateway is not None
    made.gateway.config = f"c.Gateway.tunnel_ping_interval = {PINGS}\n"
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def plain_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """With PyPI's proxy, and without the tunnel's settings."""
    yield from running_hub("hub6", tmp_path_factory.mktemp("plain"))


def ssh(hub: Hub, folder: Path, key: KeyPair, command: str = "") -> SSHClient:
    """A client that has no way but the tunnel; its user's server runs and knows the key."""
    assert hub.gateway is not None
    hub.start_server(USER)
    register_key(hub, USER, key)
    options = [f"ProxyCommand {command or tunnel_command(hub)}"]
    return SSHClient(
        folder / "ssh", port=free_port(), host_key=hub.gateway.host_key, user=USER, key=key, mark=hub.mark, options=options
    )


def ends(hub: Hub) -> int:
    """Sessions whose end the audit log has."""
    assert hub.gateway is not None
    return hub.gateway.log_file.read_text().count("jhssh.audit] end ")


def session(hub: Hub, client: SSHClient, seconds: str) -> subprocess.Popen[bytes]:
    """That sleeps so many seconds; it runs."""
    running = client.popen(f"sleep {seconds}", stdin=subprocess.DEVNULL)
    wait_until(lambda: seconds in sleeping(hub.mark), what="the session")
    return running


def ended(hub: Hub, running: subprocess.Popen[bytes], seconds: str, before: int) -> bytes:
    """What ssh said, once nothing is left of its session: at the client, the gateway and the user server."""
    wait_until(lambda: seconds not in sleeping(hub.mark), what="the end of what ran there")
    wait_until(lambda: ends(hub) > before, what="the end at the gateway")
    _, said = running.communicate(timeout=60)
    wait_until(lambda: not tunnels(hub), what="the end of the tunnel's process")
    return said


@pytest.mark.parametrize("which", ["hub", "plain_hub"])
@pytest.mark.parametrize("victim", ["tunnel", "ssh"])
def test_a_client_that_is_killed_leaves_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, a_key: KeyPair, which: str, victim: str
) -> None:
    hub: Hub = request.getfixturevalue(which)
    before, seconds = ends(hub), f"88{free_port()}"
    running = session(hub, ssh(hub, tmp_path, a_key), seconds)
    if victim == "ssh":
        running.kill()
    else:
        (process,) = tunnels(hub)
        process.send_signal(signal.SIGKILL)
    ended(hub, running, seconds, before)


@pytest.mark.parametrize("which", ["hub", "plain_hub"])
def test_a_proxy_that_dies_leaves_nothing(request: pytest.FixtureRequest, tmp_path: Path, a_key: KeyPair, which: str) -> None:
    hub: Hub = request.getfixturevalue(which)
    before, seconds = ends(hub), f"88{free_port()}"
    running = session(hub, ssh(hub, tmp_path, a_key), seconds)
    (proxy,) = (each for each in hub.processes() if any("configurable-http-proxy" in word for word in arguments(each)[:2]))
    proxy.send_signal(signal.SIGKILL)
    assert b"was lost" in ended(hub, running, seconds, before)
    wait_until(hub.answers, 60, what="the Hub to start its proxy again")
    wait_until(lambda: request_status(hub, "tunnel") == 400, 60, what="the routes")


@pytest.mark.parametrize("which", ["hub", "plain_hub"])
def test_a_gateway_that_ends_says_so(request: pytest.FixtureRequest, tmp_path: Path, a_key: KeyPair, which: str) -> None:
    hub: Hub = request.getfixturevalue(which)
    before, seconds = ends(hub), f"88{free_port()}"
    running = session(hub, ssh(hub, tmp_path, a_key), seconds)
    assert hub.gateway is not None
    hub.gateway.stop()
    try:
        assert b"SHUTTING_DOWN" in ended(hub, running, seconds, before)
    finally:
        hub.gateway.start()


@pytest.mark.parametrize("which", ["hub", "plain_hub"])
def test_a_reader_that_stops_fills_nobodys_memory(
    request: pytest.FixtureRequest, tmp_path: Path, a_key: KeyPair, which: str
) -> None:
    """Nothing takes what its tunnel has for it, and nothing is lost."""
    hub: Hub = request.getfixturevalue(which)
    assert hub.gateway is not None
    client = ssh(hub, tmp_path, a_key)
    before = memory(hub.gateway.pid)
    running = client.popen("cat /dev/zero", stdin=subprocess.DEVNULL)
    try:
        assert running.stdout is not None
        running.stdout.read(1 << 20)
        (process,) = tunnels(hub)
        running.send_signal(signal.SIGSTOP)
        gateway = tunnel = 0
        end = time.monotonic() + STALL
        while time.monotonic() < end:
            gateway, tunnel = max(gateway, memory(hub.gateway.pid)), max(tunnel, memory(process.pid))
            time.sleep(0.2)
        running.send_signal(signal.SIGCONT)
        assert len(running.stdout.read(64 << 20)) == 64 << 20
    finally:
        running.kill()
        running.communicate()
    assert tunnel < 64 << 20
    assert gateway - before < 64 << 20
    wait_until(lambda: not tunnels(hub), what="the end of the tunnel's process")


def test_the_gateways_pings_keep_an_idle_tunnel(hub: Hub, tmp_path: Path, a_key: KeyPair) -> None:
    with idle_proxy(hub.port, IDLE) as port:
        assert ends_when_idle(port)
        command = tunnel_command(hub).replace(f":{hub.port}/", f":{port}/")
        done = ssh(hub, tmp_path, a_key, command).run(f"sleep {2 * IDLE}; echo alive")
    assert (done.stdout, done.returncode) == (b"alive\n", 0), done.stderr


def test_the_clients_pings_keep_an_idle_tunnel(plain_hub: Hub, tmp_path: Path, a_key: KeyPair) -> None:
    """PyPI's proxy answers pings itself, on either side."""
    with idle_proxy(plain_hub.port, IDLE) as port:
        command = shlex.join([sys.executable, "-c", WITH_PINGS, f"ws://127.0.0.1:{port}/services/ssh/tunnel"])
        done = ssh(plain_hub, tmp_path, a_key, command).run(f"sleep {2 * IDLE}; echo alive")
    assert (done.stdout, done.returncode) == (b"alive\n", 0), done.stderr


def ends_when_idle(port: int) -> bool:
    """Does what is in front of the proxy do what it is there for?"""
    with socket.create_connection(("127.0.0.1", port), timeout=10 * IDLE) as connection:
        return connection.recv(1) == b""


def request_status(hub: Hub, path: str) -> int:
    """Of a plain request below the gateway's prefix."""
    assert hub.gateway is not None
    return request("GET", hub.url + hub.gateway.prefix + path).status


def test_only_the_tunnel_is_one_and_no_browser_gets_in(hub: Hub) -> None:
    assert hub.gateway is not None
    prefix = hub.gateway.prefix

    async def status(path: str, origin: str = "") -> int:
        websocket = await RawWebSocket.connect(hub.port, prefix + path, {"Origin": origin} if origin else None)
        websocket.writer.close()
        return websocket.status

    found = [asyncio.run(status(path)) for path in ("tunnel", "tunnel/", "tunnel/x", "tunnelx", "TUNNEL")]
    assert found == [101, 404, 404, 404, 404]
    assert asyncio.run(status("tunnel", f"http://127.0.0.1:{hub.port}")) == 403
    assert request_status(hub, "tunnel") == 400


def test_where_it_is_switched_off_there_is_none(plain_hub: Hub) -> None:
    gateway = plain_hub.gateway
    assert gateway is not None
    gateway.stop()
    gateway.config = "c.Gateway.tunnel = False\n"
    gateway.start()
    try:
        assert request_status(plain_hub, "tunnel") == 404
    finally:
        gateway.stop()
        gateway.config = ""
        gateway.start()
    assert request_status(plain_hub, "tunnel") == 400

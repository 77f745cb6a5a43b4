"""One Hub of each version whose servers start as their users' names say (tests/fakes/spawner.py), and more gateways for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..conftest import HUB_VERSIONS, python_of, register_key
from ..harness.gateway import GatewayProcess
from ..harness.hub import ROOT, Hub
from ..harness.processes import describe, wait_until
from ..harness.ssh import KeyPair, SSHClient

CONFIG = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
c.JupyterHub.concurrent_spawn_limit = 1
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 2, "slow_stop_timeout": 1, "spawn_throttle_retry_range": (2, 3)}}
c.Spawner.poll_interval = 2
# The plain server: the same extension, and quicker to start than Lab.
c.Spawner.environment = c.Spawner.environment | {{
    "JUPYTERHUB_SINGLEUSER_APP": "jupyter_server.serverapp.ServerApp",
    "TMPDIR": str(Path("tmp").absolute()),
    "XDG_RUNTIME_DIR": "",
}}
"""


def moody_hub(version: str, folder: Path) -> Iterator[Hub]:
    hub = Hub(folder, python_of(version), config=CONFIG, spawner="tests.fakes.spawner.MoodySpawner")
    (folder / "tmp").mkdir()
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()
        left = hub.processes()
        assert not left, describe(left)


@pytest.fixture(scope="session")
def moody6(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    yield from moody_hub("hub6", tmp_path_factory.mktemp("moody6"))


@pytest.fixture(scope="session")
def moody5(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    yield from moody_hub("hub5", tmp_path_factory.mktemp("moody5"))


@pytest.fixture(scope="session", params=HUB_VERSIONS)
def moody(request: pytest.FixtureRequest) -> Hub:
    """Each supported Hub in turn."""
    hub = request.getfixturevalue("moody" + str(request.param).removeprefix("hub"))
    assert isinstance(hub, Hub)
    return hub


@pytest.fixture
def another_gateway(tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Makes and starts further gateways of a Hub, with the keys of its first: ``another_gateway(hub, config="…")``."""
    made: list[GatewayProcess] = []

    def make(hub: Hub, config: str = "") -> GatewayProcess:
        assert hub.gateway is not None
        folder = tmp_path / f"gateway-{len(made)}"
        folder.mkdir()
        gateway = GatewayProcess(
            folder, hub.python, hub_url=hub.url, mark=hub.mark, token=hub.gateway.token, managed=False, config=config
        )
        gateway.keys = hub.gateway.keys
        made.append(gateway)
        gateway.start()
        return gateway

    yield make
    for gateway in made:
        gateway.kill()


@pytest.fixture
def client_of(tmp_path: Path) -> Callable[..., SSHClient]:
    """Makes clients of any gateway: ``client_of(gateway, "alice", key=key)``."""
    made: list[SSHClient] = []

    def make(gateway: GatewayProcess, user: str, **keywords: object) -> SSHClient:
        folder = tmp_path / f"client-of-{len(made)}"
        made.append(
            SSHClient(
                folder,
                port=gateway.ssh_port,
                host_key=gateway.host_key,
                user=user,
                mark=gateway.mark,
                **keywords,  # type: ignore[arg-type]
            )
        )
        return made[-1]

    return make


@pytest.fixture
def with_server(client: Callable[..., SSHClient], a_key: KeyPair) -> Callable[[Hub, str], SSHClient]:
    """A client by key of a user whose server runs."""

    def make(hub: Hub, user: str, **keywords: object) -> SSHClient:
        if not hub.running(user):
            hub.start_server(user)
        register_key(hub, user, a_key)
        wait_until(lambda: sshd_state(hub, user) in ("running", "failed"), 60, what="sshd")  # later than the Hub's "ready"
        return client(hub, user, key=a_key, **keywords)

    return make


def sshd_state(hub: Hub, user: str) -> str:
    return str(hub.server_api("GET", user, "jhssh/status").json["sshd"]["state"])


def spawns(hub: Hub, user: str, server: str = "") -> int:
    """How often the Hub started this server."""
    return hub.log_file.read_text(errors="replace").count(f"SPAWN {user}/{server}\n")

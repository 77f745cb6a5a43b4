"""The short table with neither gateway nor mixin: a Hub as it comes, and the extension in the user's own environment."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conformance.short_table import *  # noqa: F403
from ..conformance.targets import Target, find_program
from ..conformance.through_gateway import CHOSEN_SSHD, EXTENSION
from ..harness.hub import Hub
from ..harness.ssh import make_key
from ..singleuser.tunnels import PROXY

pytestmark = pytest.mark.slow
USER = "alice"
HOST = "own"


@pytest.fixture(scope="module", params=["openssh", "asyncssh"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    if request.param == "openssh" and find_program("sshd") is None:
        pytest.skip("OpenSSH's sshd is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    settings = folder / "jupyter"
    settings.mkdir()
    (settings / "jupyter_server_config.py").write_text(EXTENSION.format(implementation=request.param))
    hub = Hub(
        folder / "hub",
        gateway=False,
        spawner="jupyterhub.spawner.SimpleLocalProcessSpawner",
        config=CHOSEN_SSHD.format(folder=str(settings)),
    )
    hub.start()
    try:
        hub.start_server(USER)
        home = hub.user_home(USER)
        yield Target(f"owners-{request.param}", configure(hub, folder), HOST, home=home, cwd=home)
    finally:
        left = hub.stop(patience=20)
    assert "--fd" not in left


def configure(hub: Hub, folder: Path) -> Path:
    """An ssh_config by which the owner comes in, with a key and a token of theirs."""
    key, token = make_key(folder / "id"), hub.token(USER)
    assert hub.server_api("POST", USER, "publickey", {"public_key": key.public}, token=token).status == 201
    status = hub.server_api("GET", USER, "jhssh/status", token=token).json
    assert (status["enabled"], status["sshd"]["state"]) == (False, "off")
    (folder / "known_hosts").write_text(f"{HOST} {status['tunnel']['host_keys'][0]}\n")
    url = hub.server_url(USER).replace("http", "ws", 1) + "jhssh/tunnel"
    proxy = folder / "proxy.py"
    proxy.write_text(PROXY)
    command = shlex.join([sys.executable, str(proxy), url, f"token {token}"])
    config = folder / "ssh_config"
    config.write_text(
        f"""
Host {HOST}
    ProxyCommand {command}
    User {status["tunnel"]["user"]}
    IdentityFile {key.private}
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
"""
    )
    return config

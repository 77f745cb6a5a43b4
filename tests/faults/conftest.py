"""Hostile user servers, and the logins of others that must work meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..conftest import register_key
from ..harness.hub import Hub
from ..harness.ssh import KeyPair, SSHClient, make_key
from .hostile import HostileServer


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Callable[..., HostileServer]]:
    """``hostile(hub, "alice")``: not started yet; all are stopped in the end."""
    made: list[HostileServer] = []

    def make(hub: Hub, user: str) -> HostileServer:
        made.append(HostileServer(hub, user, tmp_path / f"hostile-{len(made)}"))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def bobs_key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("bob") / "id_ed25519")


@pytest.fixture
def bob(any_hub: Hub, bobs_key: KeyPair, client: Callable[..., SSHClient]) -> SSHClient:
    """Another user with a real server and a key, who comes from an address of their own."""
    user = "faults-bob"
    any_hub.start_server(user)
    register_key(any_hub, user, bobs_key)
    return client(any_hub, user, key=bobs_key, options=["BindAddress 127.0.0.77"])


def works(client: SSHClient, user: str) -> bool:
    """Does a login work, and lead to that user's own server?"""
    done = client.run("echo $JUPYTERHUB_USER")
    assert (done.stdout, done.returncode) == (f"{user}\n".encode(), 0), done
    return True

"""The main job, on each supported Hub: a token starts the server, a key registered there opens it from then on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import HUB_VERSIONS, register_key
from .harness.hub import Hub
from .harness.ssh import KeyPair, SSHClient

pytestmark = pytest.mark.slow


def test_token_starts_the_server_and_a_key_opens_it_from_then_on(
    any_hub: Hub, client: Callable[..., SSHClient], a_key: KeyPair
) -> None:
    user = "first-login"
    assert not any_hub.running(user)
    by_token = client(any_hub, user, password=any_hub.token(user))
    first = by_token.run("echo $JUPYTERHUB_USER")
    assert (first.stdout, first.returncode) == (b"first-login\n", 0), first
    assert b"Starting your server" in first.stderr
    assert any_hub.running(user)

    by_key = client(any_hub, user, key=a_key)
    assert by_key.run("true").returncode == 255
    register_key(any_hub, user, a_key)
    second = by_key.run("cat >copy; wc -c <copy", input=b"\0\xff" * 1000)
    assert (second.stdout.strip(), second.stderr, second.returncode) == (b"2000", b"", 0)
    assert (any_hub.user_home(user) / "copy").read_bytes() == b"\0\xff" * 1000


@pytest.mark.parametrize("version", HUB_VERSIONS)
def test_hub_managed_gateway_serves_and_leaves_with_its_hub(
    version: str, new_hub: Callable[..., Hub], client: Callable[..., SSHClient]
) -> None:
    hub = new_hub(version, managed=True)
    hub.start()
    done = client(hub, "alice", password=hub.token("alice")).run("exit 7")
    assert done.returncode == 7, done
    assert hub.stop(patience=20) == ""

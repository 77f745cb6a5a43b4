"""A user server dies without a word, and a stranger on the same machine takes its ports before the Hub has noticed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from jhssh_ext.identifiers import AUDIENCE, opaque_id

from ..conftest import register_key
from ..harness.hub import Hub
from ..harness.processes import listening, stop_child, wait_until
from ..harness.ssh import KeyPair, SSHClient, make_key
from .conftest import works
from .hostile import SCRIPT

pytestmark = pytest.mark.slow


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_a_stranger_on_the_ports_of_a_dead_server_gets_and_gives_nothing(
    any_hub: Hub, client: Callable[..., SSHClient], tmp_path: Path, a_key: KeyPair
) -> None:
    user = "faults-dead"
    any_hub.start_server(user)
    register_key(any_hub, user, a_key)
    alice = client(any_hub, user, key=a_key)
    assert works(alice, user)
    state = any_hub.server_state(user)["jhssh"]
    http_port = urlsplit(state["url"]).port
    assert http_port

    os.kill(any_hub.server_pid(user), signal.SIGKILL)
    wait_until(lambda: _free(state["port"]) and _free(http_port), 60, what="the ports of the dead server")
    stranger = make_key(tmp_path / "stranger")
    folder = tmp_path / "impostor"
    folder.mkdir()
    (folder / "keys").write_text(stranger.public)
    # It knows all that can be known: the audience is no secret, nor is the state but for its secret.
    environment = {
        **os.environ,
        "JHSSH_HOST_KEY": make_key(tmp_path / "other_host_key").private.read_text(),
        "JHSSH_LISTEN_PORT": str(state["port"]),
        "JHSSH_AUDIENCE": opaque_id(AUDIENCE, state["hub_id"], user, ""),
        "JHSSH_SECRET": "0" * 64,
        "JUPYTERHUB_SERVICE_URL": state["url"],
    }
    impostor = subprocess.Popen([str(any_hub.python), str(SCRIPT), str(folder)], env=environment)
    try:
        wait_until(lambda: listening(http_port) and listening(state["port"]), 60, what="the stranger's ports")
        for mode in ("keys", "unsigned"):
            (folder / "http_mode").write_text(mode)
            assert client(any_hub, user, key=stranger).run("x").returncode == 255
        done = alice.run("x")
        assert done.returncode == 255
        assert done.stdout == b""
        assert any_hub.running(user), "the Hub was faster than the test: nothing was tried"
        # Where a push was on its way when the server died, the key store is asked before sshd is.
        assert any(code in done.stderr for code in (b"[HOST_KEY_MISMATCH]", b"[SERVER_UNREACHABLE]", b"Permission denied")), done
        by_token = client(any_hub, user, password=any_hub.token(user)).run("x")
        assert by_token.returncode == 255
        assert b"[HOST_KEY_MISMATCH]" in by_token.stderr, by_token
        events = (folder / "events").read_text()
        assert '"certificate"' not in events
        assert '"password"' not in events
    finally:
        stop_child(impostor)
        any_hub.stop_server(user)
    assert works(client(any_hub, user, password=any_hub.token(user)), user)

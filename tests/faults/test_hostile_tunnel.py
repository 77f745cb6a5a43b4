"""A user server that lies, stalls or floods where the gateway wants to reach its sshd by WebSocket."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest

from ..conftest import register_key
from ..harness.hub import Hub
from ..harness.processes import memory
from ..harness.ssh import KeyPair, SSHClient
from .conftest import works
from .hostile import HostileServer, found_in, secrets_of_hub

pytestmark = pytest.mark.slow
ALICE, BOB = "alice", "bob"
MODES = (
    "unsigned", "garbage", "no http", "redirect", "terminal", "1 GB", "1 GB in chunks", "headers without end",
    "continue without end", "slow", "never",
    "frames of garbage", "frames without end", "frames that never come",
)  # fmt: skip


def test_nothing_but_ssh_in_a_tunnel_gets_anywhere(
    new_hub: Callable[..., Hub], hostile: Callable[..., HostileServer], client: Callable[..., SSHClient], a_key: KeyPair
) -> None:
    hub = new_hub("hub6", gateway_config="c.Gateway.route = 'websocket'\nc.Gateway.connect_timeout = 0.5\n")
    hub.start()
    assert hub.gateway is not None
    hub.start_server(BOB)
    register_key(hub, BOB, a_key)
    bob = client(hub, BOB, key=a_key)
    assert works(bob, BOB)
    server = hostile(hub, ALICE)
    server.start()
    alice = client(hub, ALICE, password=hub.token(ALICE))
    before = memory(hub.gateway.pid)
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        for mode in MODES:
            server.tunnel(mode, location=f"http://127.0.0.1:{elsewhere.getsockname()[1]}/")
            asked, began = len(server.events("tunnel")), time.monotonic()
            done = alice.run("true")
            assert b"[SERVER_UNREACHABLE]" in done.stderr, (mode, done)
            assert time.monotonic() - began < 30, mode
            assert len(server.events("tunnel")) > asked, mode
        assert works(bob, BOB)
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):  # no redirect was followed
            elsewhere.accept()
    assert memory(hub.gateway.pid) - before < 32 << 20
    assert server.recorded
    assert found_in(server.recorded, secrets_of_hub(hub)) == []
    assert "Traceback" not in hub.gateway.log_file.read_text()

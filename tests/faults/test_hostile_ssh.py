"""A user server whose sshd turns against its client or the gateway: neither is harmed, nobody else notices."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..harness.hub import Hub
from ..harness.processes import memory, wait_until
from ..harness.ssh import KeyPair, SSHClient
from .conftest import works
from .hostile import HostileServer

pytestmark = pytest.mark.slow
USER, BOB = "faults-owner", "faults-bob"
GREETING = b"the hostile server greets\n"
REFUSED = {
    "auth-agent@openssh.com", "x11", "session", "forwarded-tcpip", "forwarded-streamlocal@openssh.com", "direct-tcpip",
    "tun@openssh.com", "\x1b[31m",
}  # fmt: skip


@pytest.fixture
def owner(any_hub: Hub, hostile: Callable[..., HostileServer], a_key: KeyPair) -> HostileServer:
    server = hostile(any_hub, USER)
    server.lists(a_key)
    server.start()
    server.push_until_fetched()
    return server


class WatchedAgent:
    """A real ssh-agent with a key in it, behind a socket that counts who comes."""

    def __init__(self, folder: Path, key: KeyPair) -> None:
        self.connections = 0
        self._real = folder / "real"
        self.socket = folder / "agent"
        self._process = subprocess.Popen(["ssh-agent", "-D", "-a", str(self._real)], stdout=subprocess.DEVNULL)
        wait_until(self._real.exists, what="ssh-agent")
        environment = {**os.environ, "SSH_AUTH_SOCK": str(self._real)}
        subprocess.run(["ssh-add", "-q", str(key.private)], env=environment, check=True, capture_output=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            client.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # close() alone does not wake who waits in accept()
        self._listener.close()
        self._thread.join(10)
        self._process.terminate()
        self._process.wait(60)


@pytest.fixture
def agent(tmp_path: Path, bobs_key: KeyPair) -> Iterator[WatchedAgent]:
    watched = WatchedAgent(tmp_path, bobs_key)
    yield watched
    watched.close()


@pytest.mark.parametrize("how", ["shell", "forwarding nothing, with the agent"])
def test_what_it_opens_uninvited_reaches_no_client(
    how: str, any_hub: Hub, owner: HostileServer, client: Callable[..., SSHClient], a_key: KeyPair, agent: WatchedAgent
) -> None:
    owner.ssh("uninvited")
    options = [f"ForwardAgent {agent.socket}" if how != "shell" else "ForwardAgent no", "UpdateHostKeys yes"]
    ssh = client(any_hub, USER, key=a_key, options=options)
    known = (ssh.folder / "known_hosts").read_text()
    if how == "shell":
        done = ssh.run("x")
        assert (done.stdout, done.returncode) == (GREETING, 0), done
    else:
        waiting = ssh.forward()
        try:
            wait_until(lambda: len(owner.events("answer")) >= len(REFUSED), what="its channels to be answered")
            assert waiting.poll() is None
        finally:
            waiting.terminate()
            waiting.communicate(timeout=60)
    answers = owner.events("answer")
    assert {each["what"] for each in answers} == REFUSED
    assert {(each["kind_of_answer"], each["text"]) for each in answers} == {(92, "refused by the gateway")}
    # Three requests without and three with a wish for an answer; all six stay at the gateway.
    assert [each["number"] for each in owner.events("reply")] == [82, 82, 82]
    assert agent.connections == 0
    assert (ssh.folder / "known_hosts").read_text() == known


@pytest.mark.parametrize(
    "mode",
    [
        "success for nothing", "failure for nothing", "global success for nothing", "data on no channel", "close of no channel",
        "confirmation of nothing", "unknown message", "malformed",
    ],
)  # fmt: skip
def test_what_no_server_sends_ends_the_connection_with_a_sentence(
    mode: str, hub6: Hub, hostile: Callable[..., HostileServer], client: Callable[..., SSHClient], a_key: KeyPair
) -> None:
    server = hostile(hub6, USER)
    server.lists(a_key)
    server.ssh(mode)
    if not hub6.running(USER):
        server.start()
    server.push_and_wait()
    done = client(hub6, USER, key=a_key).run("x")
    assert done.returncode == 255, done
    assert b"Your server sent something that no SSH server sends" in done.stderr


def test_floods_harm_their_owner_alone(
    any_hub: Hub, owner: HostileServer, client: Callable[..., SSHClient], a_key: KeyPair, bob: SSHClient
) -> None:
    """Data beyond any window to a client that reads nothing; requests without end; more than honest servers send at once."""
    assert any_hub.gateway is not None
    assert works(bob, BOB)
    before = memory(any_hub.gateway.pid)
    owner.ssh("flood")
    ssh = client(any_hub, USER, key=a_key)
    stalled = ssh.popen("x")
    try:
        wait_until(lambda: owner.events("channel request"))
        assert works(bob, BOB)
        assert memory(any_hub.gateway.pid) - before < 32 << 20
    finally:
        stalled.kill()
        stalled.communicate(timeout=60)
    for mode in ("flood of requests", "flood at once"):
        owner.ssh(mode)
        ssh.run("x")
        assert works(bob, BOB)
    assert memory(any_hub.gateway.pid) - before < 32 << 20


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [("disconnect", b"[SERVER_UNREACHABLE]"), ("refuse", b"[SERVER_UNREACHABLE]")],
)
def test_what_it_says_at_the_door_reaches_neither_log_nor_terminal(
    mode: str, sentence: bytes, any_hub: Hub, owner: HostileServer, client: Callable[..., SSHClient], a_key: KeyPair
) -> None:
    assert any_hub.gateway is not None
    owner.ssh(mode)
    done = client(any_hub, USER, key=a_key).run("x")
    assert done.returncode == 255
    assert sentence in done.stderr
    assert b"fake" not in done.stderr
    log = any_hub.gateway.log_file.read_bytes()
    assert not any(line.startswith(b"[E fake") for line in log.replace(b"\r", b"\n").split(b"\n"))
    assert b"\x1b" not in log

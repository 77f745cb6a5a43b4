"""The Hub or the gateway is restarted: sessions, what clients are told, and what is reported meanwhile."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ..harness.gateway import GatewayProcess
from ..harness.hub import Hub
from ..harness.processes import descendants, listening, wait_until
from ..harness.ssh import KeyPair, SSHClient

pytestmark = pytest.mark.slow

With = Callable[..., SSHClient]


@contextmanager
def cat(client: SSHClient) -> Iterator[subprocess.Popen[bytes]]:
    """A session that answers each line with itself."""
    child = client.popen("cat")
    try:
        yield child
    finally:
        child.kill()
        if child.returncode is None:
            child.communicate()


def say(child: subprocess.Popen[bytes], text: bytes) -> bytes:
    """What a session with ``cat`` answers."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(text + b"\n")
    child.stdin.flush()
    return child.stdout.readline().strip()


def test_sessions_outlive_a_restart_of_the_hub(moody: Hub, with_server: With) -> None:
    user = "restarted"
    one = with_server(moody, user)
    assert moody.gateway is not None
    server = moody.server_pid(user)
    before = {process.pid for process in descendants(server)}
    with cat(one) as child:
        assert say(child, b"before") == b"before"
        moody.stop_hub(servers=False)
        try:
            assert say(child, b"while it is away") == b"while it is away"
            refused = one.run("true")
            assert (refused.returncode, b"[HUB_UNAVAILABLE]" in refused.stderr) == (255, True), refused
        finally:
            moody.start_hub()
        assert say(child, b"after") == b"after"
        done = one.run("echo here")
        assert (done.returncode, done.stdout) == (0, b"here\n"), done
        out, _ = child.communicate(timeout=30)
        assert (child.returncode, out) == (0, b"")
    assert moody.server_pid(user) == server
    wait_until(lambda: {process.pid for process in descendants(server)} == before, what="what the sessions left to go")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_gateway_that_ends_tells_its_clients(
    moody6: Hub,
    with_server: With,
    client_of: Callable[..., SSHClient],
    another_gateway: Callable[..., GatewayProcess],
    a_key: KeyPair,
    number: signal.Signals,
) -> None:
    user = "drained"
    with_server(moody6, user)
    gateway = another_gateway(moody6)
    one = client_of(gateway, user, password=moody6.token(user))
    with cat(one) as child:
        assert say(child, b"before") == b"before"
        stopped = one.popen("yes", stdin=subprocess.DEVNULL)  # never read: it must not hold up the end
        try:
            assert stopped.stdout.peek(1)  # type: ignore[union-attr]
            began = time.monotonic()
            assert gateway.stop(number) == 0
            assert time.monotonic() - began < 30
        finally:
            stopped.kill()
            stopped.communicate()
        assert not listening(gateway.ssh_port)
        _, err = child.communicate(timeout=60)
        assert (child.returncode, b"[SHUTTING_DOWN]" in err) == (255, True), err


def test_activity_is_reported_at_most_once_a_minute_and_only_of_data(moody: Hub, with_server: With) -> None:
    def reports(user: str) -> int:
        """Those of the gateway's service in the Hub's log; the user server reports under its user's name."""
        log = moody.log_file.read_text(errors="replace")
        return len(re.findall(rf"200 POST /hub/api/users/{user}/activity \(ssh@", log))

    silent = with_server(moody, "silent", options=["ServerAliveInterval 1"])
    # Its end says so: nothing else of this session is data.
    done = silent.run("sleep 5")
    assert done.returncode == 0, done
    talking = with_server(moody, "talking")
    with cat(talking) as child:
        assert say(child, b"first") == b"first"
        wait_until(lambda: reports("talking") == 1, what="the first report")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            assert say(child, b"more") == b"more"
            time.sleep(0.2)
        child.communicate(timeout=60)
    assert (reports("silent"), reports("talking")) == (0, 1)

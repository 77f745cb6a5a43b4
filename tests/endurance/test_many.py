"""Many sessions at once, and many one after the other: all of them succeed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from ..harness.hub import Hub
from ..harness.processes import nothing_left
from ..harness.ssh import SSHClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LOGINS = int(os.environ.get("JHSSH_LOGINS", 200))
USERS = [f"many-{number}" for number in range(5)]


def test_fifty_parallel_sessions_of_five_users(moody6: Hub, with_server: Callable[..., SSHClient]) -> None:
    clients = {user: with_server(moody6, user) for user in USERS}
    with nothing_left(moody6.mark):
        running = [
            (user, clients[user].popen("cat; sleep 1; echo $JUPYTERHUB_USER"))
            for _ in range(10)
            for user in USERS
        ]  # fmt: skip
        # All of them are open at the same moment: none ends before its input does.
        for _user, child in running:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(b"in\n")
            child.stdin.flush()
        for _user, child in running:
            assert child.stdout is not None
            assert child.stdout.readline() == b"in\n", child.communicate(timeout=120)
        for user, child in running:
            out, err = child.communicate(timeout=120)
            assert (child.returncode, out.decode().strip()) == (0, user), err


def test_logins_each_right_after_a_logout(
    moody6: Hub, client: Callable[..., SSHClient], with_server: Callable[..., SSHClient]
) -> None:
    user = USERS[0]
    by_key = with_server(moody6, user)
    by_token = client(moody6, user, password=moody6.token(user))
    failed = []
    with nothing_left(moody6.mark):
        for number in range(LOGINS):
            one = by_token if number % 5 == 0 else by_key
            done = one.run(f"echo {number}")
            if (done.returncode, done.stdout) != (0, b"%d\n" % number):
                failed.append((number, done))
    assert failed == []


def test_logins_by_many_at_once_right_after_logouts(moody6: Hub, with_server: Callable[..., SSHClient]) -> None:
    """Chains of logins side by side: the slots that a connection holds are given back in time."""
    clients = [with_server(moody6, user) for user in USERS[:2]]
    rounds = max(1, LOGINS // 40)
    loop = "set -e; for i in $(seq %d); do ssh -F %s jhssh true </dev/null; done"
    chains = [
        subprocess.Popen(
            ["sh", "-c", loop % (rounds, one.config)],
            env=one.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for one in clients
        for _ in range(4)
    ]
    for chain in chains:
        out, _ = chain.communicate(timeout=300)
        assert (chain.returncode, out) == (0, b"")

"""The short table: what each further way in is tried with. A module imports all of this, beside a fixture ``target``."""

from __future__ import annotations

import subprocess

import pytest

from .client import Client, pipe
from .conftest import client
from .patterns import feed, hasher, read_sha256, sha256, writer
from .test_commands import test_exit_status_is_the_commands, test_stdout_and_stderr_stay_apart
from .test_forwarding import test_local_forwarding_of_many_connections_at_once
from .test_terminal import open_terminal, test_exit_status_of_the_shell, test_first_size_is_right
from .test_transfer import local, remote, test_sftp

SIZE = 64 << 20

__all__ = [
    "client",
    "local",
    "open_terminal",
    "remote",
    "test_64_mb_each_way",
    "test_exit_status_is_the_commands",
    "test_exit_status_of_the_shell",
    "test_first_size_is_right",
    "test_local_forwarding_of_many_connections_at_once",
    "test_sftp",
    "test_stdout_and_stderr_stay_apart",
]


@pytest.mark.slow
def test_64_mb_each_way(client: Client) -> None:
    down = client.start(writer(SIZE), stdin=subprocess.DEVNULL)
    assert read_sha256(pipe(down.stdout)) == sha256(SIZE)
    assert down.wait(60) == 0
    up = client.start(hasher())
    feed(pipe(up.stdin), SIZE)
    assert pipe(up.stdout).read().decode().strip() == sha256(SIZE)
    assert up.wait(60) == 0

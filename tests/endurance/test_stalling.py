"""Whoever stops reading gets every byte later, and nobody in between keeps it for them: memory does not grow.

JHSSH_STALL_SECONDS: how long they stop; 60 where nothing else is said.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import asyncssh
import psutil
import pytest
from asyncssh.constants import MSG_KEXINIT

from ..conformance.patterns import STALL, blocks, read_sha256, sha256, writer
from ..harness.hub import Hub
from ..harness.ssh import HOST, SSHClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(int(4 * STALL) + 300)]

SIZE = 100_000_000
GROWTH = 32 << 20
SHORT = min(STALL, 15)
"""seconds: what grows, grows at once"""

Clients = Callable[..., SSHClient]


def tree(pid: int) -> int:
    """Resident bytes of a process and of all below it."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total


@contextmanager
def nothing_grows(**before: tuple[int, int]) -> Iterator[None]:
    """Looks every half second; ``name=(pid, bytes)`` says what a process and all below it had before."""
    growth = dict.fromkeys(before, 0)
    over = threading.Event()

    def look() -> None:
        for name, (pid, bytes_before) in before.items():
            growth[name] = max(growth[name], tree(pid) - bytes_before)

    def keep_looking() -> None:
        while not over.wait(0.5):
            look()

    watch = threading.Thread(target=keep_looking, daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()
    look()
    print("grown by KiB:", {name: value >> 10 for name, value in growth.items()})
    assert max(growth.values()) < GROWTH, growth


def output(child: subprocess.Popen[bytes]) -> IO[bytes]:
    assert child.stdout is not None
    return child.stdout


@pytest.fixture(params=["stalling", "embedded-stalling"])
def user(request: pytest.FixtureRequest) -> str:
    """With each kind of sshd."""
    return str(request.param)


def server(hub: Hub, user: str) -> tuple[int, int]:
    """The user server as it is now, with the sshds and sessions below it."""
    pid = hub.server_pid(user)
    return pid, tree(pid)


@pytest.fixture
def gateway(moody6: Hub, user: str, with_server: Clients) -> tuple[int, int]:
    """As it is before the test's sessions, but after one: what the first costs once is no growth."""
    assert moody6.gateway is not None
    assert with_server(moody6, user).run("head -c 10000000 /dev/zero").returncode == 0
    return moody6.gateway.pid, tree(moody6.gateway.pid)


def test_readers_that_stop_get_every_byte(moody6: Hub, user: str, gateway: tuple[int, int], with_server: Clients) -> None:
    """One leaves its pipe full, one is stopped itself so that not even its TCP is read, one never reads its ``yes``."""
    one = with_server(moody6, user)
    unread, stopped = (one.popen(writer(SIZE), stdin=subprocess.DEVNULL, stderr=None) for _ in range(2))
    endless = one.popen("yes", stdin=subprocess.DEVNULL, stderr=None)
    try:
        for child in (unread, stopped, endless):
            assert output(child).peek(1)  # type: ignore[attr-defined]
        stopped.send_signal(signal.SIGSTOP)
        with nothing_grows(gateway=gateway, server=server(moody6, user)):
            time.sleep(STALL)  # time itself is what is tried here
        stopped.send_signal(signal.SIGCONT)
        for child in (unread, stopped):
            assert read_sha256(output(child)) == sha256(SIZE)
            assert child.wait(60) == 0
    finally:
        for child in (unread, stopped, endless):
            child.kill()
            child.communicate()


def test_upload_into_a_command_that_does_not_read_yet(
    moody6: Hub, user: str, gateway: tuple[int, int], with_server: Clients, tmp_path: Path
) -> None:
    one = with_server(moody6, user)
    data = tmp_path / "data"
    with data.open("wb") as file:
        file.writelines(blocks(SIZE))
    with data.open("rb") as file:
        child = one.popen(f"echo here; sleep {SHORT:g}; sha256sum", stdin=file)
        assert output(child).readline() == b"here\n"
        with nothing_grows(gateway=gateway, server=server(moody6, user)):
            time.sleep(SHORT)  # as above
        out, err = child.communicate(timeout=90)
    assert (child.returncode, out.split()[0].decode()) == (0, sha256(SIZE)), err


def test_channels_of_one_connection_that_stop_hold_up_no_other(
    moody6: Hub, user: str, gateway: tuple[int, int], with_server: Clients
) -> None:
    """Windows are per channel, end to end: while four do not read, a fifth works."""
    one = with_server(moody6, user, options=["ControlMaster auto", "ControlPath master", "ControlPersist yes"])
    one.config.write_text(one.config.read_text().replace("ControlMaster no\n", ""))
    assert one.run("true").returncode == 0
    children = [one.popen(writer(SIZE // 4), stdin=subprocess.DEVNULL, stderr=None) for _ in range(4)]
    try:
        for child in children:
            assert output(child).peek(1)  # type: ignore[attr-defined]
        with nothing_grows(gateway=gateway, server=server(moody6, user)):
            deadline = time.monotonic() + SHORT
            while time.monotonic() < deadline:
                assert one.run("echo works").stdout == b"works\n"
                time.sleep(SHORT / 10)
        for child in children:
            assert read_sha256(output(child)) == sha256(SIZE // 4)
            assert child.wait(60) == 0
    finally:
        one.call([*one.ssh_command, "-O", "exit", HOST])
        for child in children:
            child.kill()
            child.communicate()


@pytest.mark.asyncio
@pytest.mark.parametrize("user", ["stalling"])
async def test_client_that_stalls_in_a_key_exchange(moody6: Hub, user: str, gateway: tuple[int, int]) -> None:
    """It starts one and never goes on, with 192 MB of windows open: what it would be sent does not pile up in the gateway."""
    assert moody6.gateway is not None
    host_key = asyncssh.import_public_key(moody6.gateway.host_key)
    async with asyncssh.connect(
        "127.0.0.1",
        moody6.gateway.ssh_port,
        config=None,
        username=user,
        password=moody6.token(user),
        preferred_auth="password",
        client_keys=None,
        agent_path=None,
        known_hosts=([host_key], [], []),
    ) as connection:
        sessions = [await connection.create_process("sleep 1; exec yes", encoding=None, window=1 << 26) for _ in range(3)]
        begun = asyncio.Event()

        def swallow(_self: object, _type: int, _id: int, _packet: object) -> bool:
            begun.set()
            return True

        connection._packet_handlers = {**connection._packet_handlers, MSG_KEXINIT: swallow}  # type: ignore[method-assign]
        connection._send_kexinit()
        await asyncio.wait_for(begun.wait(), 30)
        # The user's own sshd reads ahead as far as the user's windows go, through a gateway or not.
        with nothing_grows(gateway=gateway):
            await asyncio.sleep(SHORT)
        assert not any(session.stdout.at_eof() for session in sessions)
        connection.abort()

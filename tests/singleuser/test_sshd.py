"""Both kinds under supervision, with the stock client. What sessions can do is the conformance suite's."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from jhssh_ext.payloads import ServerEnvironment
from jhssh_ext.singleuser import openssh, sshd
from jhssh_ext.singleuser.sshd import ASYNCSSH, AUTO, OPENSSH, SSHD, SessionSetup

from ..harness.processes import MARK, arguments, end_marked, free_port, new_mark, sleeping, wait_until
from .servers import PRINCIPAL_ID, Credentials, keygen, ssh, ssh_command

LOG = logging.getLogger("test_sshd")
KINDS = [OPENSSH, ASYNCSSH]


async def off_loop(function: Callable[..., Any], *arguments: Any, **kwargs: Any) -> Any:
    return await asyncio.to_thread(function, *arguments, **kwargs)


async def wait_for(supervised: SSHD, state: str) -> dict[str, Any]:
    async with supervised.changed:
        await asyncio.wait_for(supervised.changed.wait_for(lambda: supervised.status()["state"] == state), 30)
    return supervised.status()


def listeners() -> list[psutil.Process]:
    """The supervised processes of this one."""
    return [each for each in psutil.Process().children() if "--fd" in arguments(each)]


@asynccontextmanager
async def running(given: ServerEnvironment, folder: Path, *, mark: str = "", **kwargs: Any) -> AsyncIterator[SSHD]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), MARK: mark}
    setup = SessionSetup(env=environment, cwd=str(folder), shell=["/bin/bash", "-l"])
    runtime = folder / "runtime"
    runtime.mkdir(exist_ok=True)
    supervised = SSHD(given, setup, log=LOG, environ={"XDG_RUNTIME_DIR": str(runtime)}, first_delay=0.05, **kwargs)
    supervised.start()
    try:
        yield supervised
    finally:
        await supervised.stop()
        assert list(runtime.iterdir()) == []
        if mark:
            await off_loop(end_marked, mark)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == OPENSSH:
        try:
            openssh.find()
        except openssh.Unusable as unusable:
            pytest.skip(str(unusable))
    return str(request.param)


@pytest.mark.asyncio
@pytest.mark.slow
async def test_lets_in_whom_the_gateway_certified_for_this_server_alone(
    kind: str, credentials: Credentials, tmp_path: Path
) -> None:
    tried = Credentials(tmp_path / "keys")
    tried.folder.mkdir()
    for name in ("user_ca", "user_ca.pub", "host_key", "host_key.pub", "known_hosts"):
        shutil.copy(credentials.folder / name, tried.folder)
    keygen(tried.folder / "other_ca")
    certified = {
        "good": ("user_ca", "-n", PRINCIPAL_ID),
        "other-principal": ("user_ca", "-n", "0" * 64),
        "no-principal": ("user_ca",),
        "two-lines": ("user_ca", "-n", f"x\n{PRINCIPAL_ID}"),
        "pattern": ("user_ca", "-n", "*"),
        "other-ca": ("other_ca", "-n", PRINCIPAL_ID),
        "expired": ("user_ca", "-n", PRINCIPAL_ID, "-V", "-2h:-1h"),
        "host-certificate": ("user_ca", "-h", "-n", PRINCIPAL_ID),
    }
    for name, (ca, *options) in certified.items():
        keygen(tried.folder / name)
        tried.certify(name, ca, *options)
    keygen(tried.folder / "plain")
    (tried.folder / "plain.pub").write_text((tried.folder / "user_ca.pub").read_text())
    port = free_port()
    async with running(tried.environment(port), tmp_path, implementation=kind) as supervised:
        status = await wait_for(supervised, "running")
        assert status["implementation"] == kind
        for name in [*certified, "plain", "user_ca"]:
            answer = await off_loop(ssh, tried, port, "echo in", key=name)
            if name == "good":
                assert (answer.returncode, answer.stdout) == (0, b"in\n"), answer.stderr
            else:
                assert (answer.returncode, answer.stdout) == (255, b""), name
                assert b"Permission denied" in answer.stderr, (name, answer.stderr)


@pytest.mark.asyncio
@pytest.mark.slow
async def test_sftp_and_scp(kind: str, credentials: Credentials, tmp_path: Path) -> None:
    port = free_port()
    data = os.urandom(1 << 20)
    (tmp_path / "up").write_bytes(data)
    async with running(credentials.environment(port), tmp_path, implementation=kind) as supervised:
        await wait_for(supervised, "running")
        for name, flags in (("scp", []), ("scp-O", ["-O"])):
            answer = await off_loop(
                ssh, credentials, port, *flags, tmp_path / "up", f"127.0.0.1:{tmp_path}/{name}", program="scp"
            )
            assert answer.returncode == 0, answer.stderr
            assert (tmp_path / name).read_bytes() == data
        answer = await off_loop(
            ssh, credentials, port, program="sftp", input=f"get {tmp_path}/up {tmp_path}/down\npwd\n".encode()
        )
        assert answer.returncode == 0, answer.stderr
        assert (tmp_path / "down").read_bytes() == data
        assert f"{tmp_path}\n".encode() in answer.stdout


@pytest.mark.asyncio
async def test_sftp_can_be_switched_off(kind: str, credentials: Credentials, tmp_path: Path) -> None:
    port = free_port()
    async with running(credentials.environment(port), tmp_path, implementation=kind, sftp=False) as supervised:
        await wait_for(supervised, "running")
        answer = await off_loop(ssh, credentials, port, program="sftp", input=b"pwd\n")
        assert answer.returncode != 0
        assert (await off_loop(ssh, credentials, port, "echo still")).stdout == b"still\n"


@pytest.mark.slow
@pytest.mark.asyncio
async def test_twenty_sessions_at_once(kind: str, credentials: Credentials, tmp_path: Path) -> None:
    port = free_port()
    async with running(credentials.environment(port), tmp_path, implementation=kind) as supervised:
        await wait_for(supervised, "running")
        asked = [off_loop(ssh, credentials, port, f"cat; exit {number}", input=b"x" * 100_000) for number in range(20)]
        answers = await asyncio.gather(*asked)
        assert [answer.returncode for answer in answers] == list(range(20))
        assert all(answer.stdout == b"x" * 100_000 for answer in answers)


@pytest.mark.asyncio
async def test_the_status_counts_the_sessions_that_are_open(kind: str, credentials: Credentials, tmp_path: Path) -> None:
    port = free_port()
    async with running(credentials.environment(port), tmp_path, implementation=kind) as supervised:
        assert (await wait_for(supervised, "running"))["sessions"] == 0
        stranger = socket.create_connection(("127.0.0.1", port), timeout=20)
        assert (await off_loop(stranger.recv, 4)) == b"SSH-"
        clients = []
        for count in (1, 2):
            clients.append(await asyncio.create_subprocess_exec(*ssh_command(credentials, port, "cat"), stdin=subprocess.PIPE))
            await off_loop(wait_until, lambda count=count: supervised.status()["sessions"] == count)
        for count, client in ((1, clients[0]), (0, clients[1])):
            assert client.stdin is not None
            client.stdin.close()
            assert await client.wait() == 0
            await off_loop(wait_until, lambda count=count: supervised.status()["sessions"] == count)
        stranger.close()


def program_of(process: psutil.Process) -> str:
    """Empty if it has ended."""
    return "".join(arguments(process)[:1]) if process.is_running() else ""


@pytest.mark.asyncio
@pytest.mark.slow
async def test_on_stop_what_is_attached_ends_and_what_left_lives_on(kind: str, credentials: Credentials, tmp_path: Path) -> None:
    port, mark = free_port(), new_mark()

    def sleepers() -> set[str]:
        return sleeping(mark)

    client = None
    try:
        async with running(credentials.environment(port), tmp_path, implementation=kind) as supervised:
            await wait_for(supervised, "running")
            supervised._setup.env[MARK] = mark
            await supervised.stop()
            supervised.start()
            await wait_for(supervised, "running")
            command = ssh_command(credentials, port, "setsid sleep 951 & nohup sleep 952 >/dev/null 2>&1 & sleep 953")
            client = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            await off_loop(wait_until, lambda: sleepers() == {"951", "952", "953"})
            (child,) = listeners()
            helpers = [child, *child.children(recursive=True)]
            await supervised.stop()
            await off_loop(wait_until, lambda: sleepers() == {"951", "952"})
            await off_loop(wait_until, lambda: set(map(program_of, helpers)) <= {"", "sleep"})
            assert await off_loop(client.wait, 60) == 255
            assert supervised.status()["state"] == "stopped"
    finally:
        if client is not None:
            client.kill()
            client.wait()
        await off_loop(end_marked, mark)


@pytest.mark.asyncio
async def test_a_client_that_vanishes_leaves_nothing(kind: str, credentials: Credentials, tmp_path: Path) -> None:
    port, mark = free_port(), new_mark()
    async with running(credentials.environment(port), tmp_path, mark=mark, implementation=kind) as supervised:
        await wait_for(supervised, "running")
        client = subprocess.Popen(
            ssh_command(credentials, port, "sleep 941 & sleep 942"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        await off_loop(wait_until, lambda: len(sleeping(mark)) == 2)
        client.kill()
        client.wait()
        await off_loop(wait_until, lambda: not sleeping(mark))


@pytest.mark.asyncio
async def test_starts_anew_ever_more_slowly_and_keeps_the_port(
    kind: str, credentials: Credentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    slept: list[float] = []
    proceed: asyncio.Queue[None] = asyncio.Queue()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await proceed.get()

    async with running(credentials.environment(port), tmp_path, implementation=kind, sleep=sleep) as supervised:
        for round_ in range(3):
            await wait_for(supervised, "running")
            (child,) = listeners()
            child.kill()
            status = await wait_for(supervised, "failed")
            assert "ended with status -9" in status["reason"]
            with pytest.raises(OSError, match="in use"), socket.socket() as other:
                other.bind(("127.0.0.1", port))
            await off_loop(wait_until, lambda wanted=round_ + 1: len(slept) == wanted)
            proceed.put_nowait(None)
        await wait_for(supervised, "running")
        assert slept == [0.05, 0.1, 0.2]


@pytest.mark.asyncio
async def test_a_busy_port_is_told_and_had_once_it_is_free(credentials: Credentials, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        async with running(credentials.environment(other.getsockname()[1]), tmp_path) as supervised:
            status = await wait_for(supervised, "failed")
            assert f"Port {other.getsockname()[1]} on 127.0.0.1" in status["reason"]
            other.close()
            assert "reason" not in await wait_for(supervised, "running")


@pytest.mark.asyncio
@pytest.mark.parametrize("host_key", ["", "no key"])
async def test_a_host_key_that_is_none_is_told(credentials: Credentials, tmp_path: Path, host_key: str) -> None:
    async with running(credentials.environment(free_port(), host_key=host_key), tmp_path) as supervised:
        status = await wait_for(supervised, "failed")
        assert "no host key" in status["reason"]
        assert status["host_keys"] == []


def unusable(*_: object, **__: object) -> None:
    raise openssh.Unusable("OpenSSH's sshd was not found.")


@pytest.mark.asyncio
async def test_without_openssh_the_other_kind_serves_and_the_status_says_why(
    credentials: Credentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openssh, "find", unusable)
    port = free_port()
    async with running(credentials.environment(port), tmp_path, implementation=AUTO) as supervised:
        status = await wait_for(supervised, "running")
        assert (status["implementation"], status["reason"]) == (ASYNCSSH, "OpenSSH's sshd was not found.")
        assert (await off_loop(ssh, credentials, port, "exit 8")).returncode == 8


@pytest.mark.asyncio
async def test_where_neither_kind_can_run_the_status_says_what_is_missing(
    credentials: Credentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openssh, "find", unusable)
    async with running(credentials.environment(free_port()), tmp_path, implementation=OPENSSH) as supervised:
        assert (await wait_for(supervised, "failed"))["reason"] == "OpenSSH's sshd was not found."
    monkeypatch.setattr(sshd.importlib.util, "find_spec", lambda _: None)
    async with running(credentials.environment(free_port()), tmp_path) as supervised:
        assert "asyncssh" in (await wait_for(supervised, "failed"))["reason"]


@pytest.mark.asyncio
async def test_a_fault_of_ours_is_logged_with_its_traceback_told_and_tried_again(
    credentials: Credentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(*_: object, **__: object) -> None:
        raise RuntimeError("internals")

    monkeypatch.setattr(openssh, "find", faulty)
    async with running(credentials.environment(free_port()), tmp_path) as supervised:
        reason = (await wait_for(supervised, "failed"))["reason"]
        assert "RuntimeError" in reason
        assert "internals" not in reason
        monkeypatch.setattr(openssh, "find", unusable)
        await wait_for(supervised, "running")
    (record,) = [each for each in caplog.records if each.exc_info]
    assert record.levelno == logging.WARNING
    assert reason in record.getMessage()


@pytest.mark.asyncio
async def test_where_ssh_is_off_nothing_is_started(tmp_path: Path) -> None:
    off = ServerEnvironment(False, disabled_because="The box was not ticked.")
    async with running(off, tmp_path) as supervised:
        assert supervised.status() == {
            "implementation": "",
            "state": "off",
            "host_keys": [],
            "sessions": 0,
            "reason": "The box was not ticked.",
        }


@pytest.mark.asyncio
async def test_a_child_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sshd, "STOP_TIMEOUT", 0.2)
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(100)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    await sshd._end(process)
    assert process.returncode == -signal.SIGKILL

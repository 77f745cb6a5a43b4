"""Clients and user servers that vanish: no process and no file is left over, and what was detached lives on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from ..harness.hub import Hub
from ..harness.processes import arguments, describe, end, marked, nothing_left, sleeping, wait_until
from ..harness.ssh import SSHClient

pytestmark = pytest.mark.slow

With = Callable[..., SSHClient]
QUIET = ">/dev/null 2>&1 </dev/null"


def runtime_folders(hub: Hub) -> set[Path]:
    return set((hub.folder / "tmp").glob("jhssh-*"))


def files(hub: Hub) -> set[Path]:
    """Those that sessions could leave: in the servers' folder for temporary files, at any depth."""
    return set((hub.folder / "tmp").rglob("*"))


def lines(child: subprocess.Popen[bytes], count: int) -> list[str]:
    assert child.stdout is not None
    read = [child.stdout.readline() for _ in range(count)]
    assert all(read), child.communicate(timeout=90)
    return [line.decode().strip() for line in read]


@pytest.mark.parametrize("terminal", ["-T", "-tt"])
def test_client_that_vanishes_leaves_nothing(moody6: Hub, with_server: With, terminal: str) -> None:
    one = with_server(moody6, "vanishing")
    agent = subprocess.run(["ssh-agent", "-s"], capture_output=True, check=True, env=one.environment)
    settings = dict(item.split("=", 1) for item in agent.stdout.decode().replace("\n", ";").split(";") if "=" in item)
    one.environment |= settings
    one.config.write_text(one.config.read_text().replace("IdentityAgent none\n", ""))
    before = files(moody6)
    try:
        with nothing_left(moody6.mark):
            options = ["-A", terminal, "-R", "0:127.0.0.1:9"]
            child = one.popen("echo $SSH_AUTH_SOCK; (sleep 4001 & sleep 4002; true) | sleep 4003", options=options)
            [socket_path] = lines(child, 1)
            assert Path(socket_path).exists()
            wait_until(lambda: {"4001", "4002", "4003"} <= sleeping(moody6.mark), what="all that is started there")
            child.kill()
            child.communicate()
        wait_until(lambda: not Path(socket_path).exists(), what="the agent's socket to go")
        wait_until(lambda: not Path(socket_path).parent.exists(), what="its folder to go")
        wait_until(lambda: files(moody6) == before, what="the files of the session to go")
    finally:
        os.kill(int(settings["SSH_AGENT_PID"]), signal.SIGTERM)


def test_what_was_detached_outlives_client_and_session(moody6: Hub, with_server: With) -> None:
    one = with_server(moody6, "vanishing")
    before = {process.pid for process in marked(moody6.mark)}
    sleeps = ["4101", "4102", "4103"]
    command = (
        f"setsid sleep 4101 {QUIET} & nohup sleep 4102 {QUIET} & "
        "TERM=xterm tmux -L vanishing -f /dev/null new-session -d 'exec sleep 4103'; sleep 4104"
    )

    def running() -> dict[str, psutil.Process]:
        found = {p: arguments(p) for p in marked(moody6.mark) if p.pid not in before}
        return {given[1]: p for p, given in found.items() if given[:1] == ["sleep"]}

    child = one.popen(command, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: set(running()) == {*sleeps, "4104"}, what="all to run")
        child.kill()
        child.communicate()
        wait_until(lambda: set(running()) == set(sleeps), what="the attached one to end")
        assert one.run("TERM=xterm tmux -L vanishing list-sessions").returncode == 0
    finally:
        one.run("TERM=xterm tmux -L vanishing kill-server")
        end([p for p in marked(moody6.mark) if p.pid not in before])


def test_user_server_that_dies_leaves_nothing_and_comes_back(moody6: Hub, with_server: With) -> None:
    user = "dying"
    folders = runtime_folders(moody6)
    processes = {process.pid for process in marked(moody6.mark)}
    one = with_server(moody6, user)
    assert len(runtime_folders(moody6) - folders) == 1
    child = one.popen("(sleep 4201; true) & echo here; cat", stdin=subprocess.PIPE)
    assert lines(child, 1) == ["here"]
    os.kill(moody6.server_pid(user), signal.SIGKILL)
    assert child.wait(60) == 255
    child.communicate()

    def left() -> list[psutil.Process]:
        return [process for process in marked(moody6.mark) if process.pid not in processes]

    try:
        wait_until(lambda: not left())
    except AssertionError:
        raise AssertionError(describe(left())) from None
    wait_until(lambda: runtime_folders(moody6) == folders, what="its folder to go")
    wait_until(lambda: not moody6.running(user), 60, what="the Hub to see it")
    again = one.run("echo here")
    assert (again.returncode, again.stdout) == (0, b"here\n"), again


def test_port_of_sshd_that_is_taken_is_reported_and_does_not_stop_the_server(moody6: Hub, with_server: With) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        user = f"clash-{port}"
        one = with_server(moody6, user)
        found = wait_until(lambda: _sshd(moody6, user, "failed"), what="the failure in the status")
        assert f"Port {port}" in found["reason"], found
        refused = one.run("true", timeout=60)
        assert refused.returncode == 255
        assert b"Your server runs, but its sshd does not answer." in refused.stderr or b"in place of" in refused.stderr, refused
    wait_until(lambda: _sshd(moody6, user, "running"), 60, what="sshd to get its port")
    assert one.run("echo here").stdout == b"here\n"


def _sshd(hub: Hub, user: str, state: str) -> dict[str, str] | None:
    answer = hub.server_api("GET", user, "jhssh/status")
    assert answer.status == 200, answer
    found: dict[str, str] = answer.json["sshd"]
    return found if found["state"] == state else None

"""Clients that vanish or stall: nothing is left over, nothing is lost, nothing grows."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from .client import Client, needs, pipe
from .patterns import STALL, read_sha256, sha256, writer
from .waiting import end, processes, wait_for

GROWTH = 32 << 20


@pytest.mark.parametrize("terminal", ["-T", "-tt"])
def test_nothing_is_left_of_a_client_that_vanished(client: Client, terminal: str) -> None:
    child, grandchild = client.seconds(), client.seconds()
    running = client.start(f"sleep {grandchild} & sh -c 'sleep {child}; true'", terminal)
    wait_for(lambda: processes("sleep", child) and processes("sleep", grandchild), "both run")
    running.kill()
    wait_for(lambda: not processes("sleep", child) and not processes("sleep", grandchild), "both are gone", 30)


@pytest.mark.parametrize("terminal", ["-T", "-tt"])
def test_nothing_is_left_of_a_client_that_was_interrupted(client: Client, terminal: str) -> None:
    seconds = client.seconds()
    running = client.start(f"sleep {seconds}", terminal)
    wait_for(lambda: processes("sleep", seconds), "it runs")
    running.send_signal(signal.SIGTERM)
    running.wait(60)
    wait_for(lambda: not processes("sleep", seconds), "it is gone", 30)


def test_nothing_is_left_of_a_client_that_vanished_while_output_waited(client: Client) -> None:
    seconds = client.seconds()
    running = client.start(f"yes & sleep {seconds}")
    wait_for(lambda: processes("sleep", seconds), "it runs")
    assert pipe(running.stdout).read(1_000_000)
    running.kill()
    wait_for(lambda: not processes("sleep", seconds), "it is gone", 30)


def test_nothing_is_left_of_a_client_that_vanished_while_input_waited(client: Client) -> None:
    seconds = client.seconds()
    running = client.start(f"exec sleep {seconds}")
    wait_for(lambda: processes("sleep", seconds), "it runs")
    with pytest.raises(subprocess.TimeoutExpired):
        running.communicate(b"x" * 20_000_000, timeout=1)
    running.kill()
    wait_for(lambda: not processes("sleep", seconds), "it is gone", 30)


@needs("tmux", "setsid", "nohup")
@pytest.mark.parametrize("terminal", ["-T", "-tt"])
def test_what_was_detached_lives_on(client: Client, terminal: str) -> None:
    detached = {"setsid": client.seconds(), "nohup": client.seconds(), "tmux": client.seconds()}
    attached, tmux = client.seconds(), f"jh-{client.name()}"
    quiet = ">/dev/null 2>&1 </dev/null"
    command = (
        f"setsid sleep {detached['setsid']} {quiet} & nohup sleep {detached['nohup']} {quiet} & "
        f"TERM=xterm tmux -L {tmux} -f /dev/null new-session -d sleep {detached['tmux']}; sleep {attached}"
    )
    try:
        running = client.start(command, terminal)
        for seconds in (attached, *detached.values()):
            wait_for(lambda seconds=seconds: processes("sleep", seconds), "all run")  # type: ignore[misc]
        running.kill()
        wait_for(lambda: not processes("sleep", attached), "the attached one is gone", 30)
        assert [how for how, seconds in detached.items() if not processes("sleep", seconds)] == []
        if terminal == "-tt":
            assert client.run(f"tmux -L {tmux} list-sessions").returncode == 0
    finally:
        for seconds in detached.values():
            end("sleep", seconds)


@pytest.mark.slow
def test_reader_that_stops_gets_every_byte_and_nothing_grows(client: Client) -> None:
    """One stops reading its pipe, one is stopped itself (SIGSTOP) so that not even its TCP is read, one never reads `yes`."""
    size = 100_000_000
    unread = client.start(writer(size), stdin=subprocess.DEVNULL)
    stopped = client.start(writer(size), stdin=subprocess.DEVNULL)
    endless = client.start("yes", stdin=subprocess.DEVNULL)
    for running in (unread, stopped, endless):
        assert pipe(running.stdout).peek(1)  # type: ignore[attr-defined]
    stopped.send_signal(signal.SIGSTOP)
    memory = client.target.memory
    before = memory() if memory else 0
    time.sleep(STALL)  # time itself is what is tried here
    after = memory() if memory else 0
    stopped.send_signal(signal.SIGCONT)
    for running in (unread, stopped):
        assert read_sha256(pipe(running.stdout)) == sha256(size)
        assert running.wait(60) == 0
    assert after - before < GROWTH
    endless.kill()

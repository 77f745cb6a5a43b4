"""Many sessions on one connection."""

from __future__ import annotations

import subprocess

from .client import Client, pipe
from .patterns import feed, read_sha256, sha256, writer


def test_twenty_sessions_do_not_disturb_each_other(client: Client) -> None:
    master = client.master()
    sessions = [client.start(f"cat; exit {number}", "-S", master) for number in range(20)]

    def answers(number: int) -> bool:
        line = f"session {number}\n".encode()
        pipe(sessions[number].stdin).write(line)
        pipe(sessions[number].stdin).flush()
        return pipe(sessions[number].stdout).readline() == line

    assert all(answers(number) for number in range(20))
    for number in range(0, 20, 4):
        pipe(sessions[number].stdin).close()
        assert sessions[number].wait(60) == number
    for number in range(1, 20, 4):
        sessions[number].kill()
        sessions[number].wait()
    assert all(answers(number) for number in range(20) if number % 4 > 1)
    for number in range(2, 20, 4):
        pipe(sessions[number].stdin).close()
        assert sessions[number].wait(60) == number
    assert client.output("echo new", "-S", master) == "new\n"


def test_a_slow_session_does_not_stop_a_fast_one(client: Client) -> None:
    master = client.master()
    stalled = client.start(writer(50_000_000), "-S", master, stdin=subprocess.DEVNULL)
    assert pipe(stalled.stdout).read(1) != b""
    size = 20_000_000
    fast = client.start("cat", "-S", master)
    feed(pipe(fast.stdin), size)
    assert read_sha256(pipe(fast.stdout)) == sha256(size)
    assert len(pipe(stalled.stdout).read()) == 50_000_000 - 1


def test_connection_outlives_its_sessions(client: Client) -> None:
    master = client.master()
    for number in range(30):
        assert client.output(f"echo {number}", "-S", master) == f"{number}\n"
    assert client.run(None, "-S", master, "-O", "exit").returncode == 0

"""``ssh host command``: streams, exits, environment."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .client import Client, pipe
from .patterns import BIG, feed, hasher, read_sha256, sha256, writer
from .waiting import end, processes, wait_for


@pytest.mark.parametrize("status", [0, 1, 7, 127, 255])
def test_exit_status_is_the_commands(client: Client, status: int) -> None:
    assert client.run(f"exit {status}").returncode == status


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV"])
def test_death_by_signal_is_told(client: Client, name: str) -> None:
    result = client.run(f"kill -{name} $$", "-v")
    assert result.returncode == 255  # ssh(1): 255 if an error occurred; no exit status came
    assert b"rtype exit-signal" in result.stderr


def test_stdout_and_stderr_stay_apart(client: Client) -> None:
    result = client.run("echo out; echo err >&2; echo out2")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"out\nout2\n", b"err\n")


def test_large_stderr_and_stdout_together(client: Client) -> None:
    size = 3_000_001
    running = client.start(f"{writer(size)} & {writer(size)} >&2; wait", stdin=subprocess.DEVNULL)
    out, err = running.communicate(timeout=60)
    assert (len(out), len(err), out == err, running.returncode) == (size, size, True, 0)


def test_input_is_data_not_commands(client: Client) -> None:
    every_byte = bytes(range(256)) * 300 + b"\nexit 3\n~.\n"
    assert client.run("cat", input=every_byte).stdout == every_byte


def test_command_sees_end_of_input_while_its_output_goes_on(client: Client) -> None:
    result = client.run("wc -c; echo more", input=b"x" * 100_000)
    assert result.stdout.split() == [b"100000", b"more"]


def test_output_that_ends_before_the_command_does(client: Client) -> None:
    mark = client.target.home / client.name()
    result = client.run(f"exec >&- 2>&- <&-; sleep 0.3; touch '{mark}'; exit 5")
    assert result.returncode == 5
    assert mark.exists()


def test_input_that_nobody_reads_does_not_hang(client: Client) -> None:
    result = client.run("exit 4", input=b"x" * 5_000_000)
    assert result.returncode == 4


def test_command_line_arrives_as_typed(client: Client) -> None:
    assert client.output("printf '%s|' \"a  b\" 'c\"d' $((1+1)) ü '\\n' '*'") == 'a  b|c"d|2|ü|\\n|*|'


def test_several_lines_in_one_command(client: Client) -> None:
    assert client.output("x=1\nfor i in a b; do\n echo $i$x\ndone\n") == "a1\nb1\n"


def test_command_in_the_background_does_not_hold_the_client(client: Client) -> None:
    seconds = client.seconds()
    try:
        assert client.output(f"sleep {seconds} >/dev/null 2>&1 </dev/null & echo started", timeout=20) == "started\n"
        # The shell's child may still have to become it.
        assert wait_for(lambda: processes("sleep", seconds), "it runs on")
    finally:
        end("sleep", seconds)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_big_output_arrives_whole(client: Client) -> None:
    running = client.start(writer(BIG), stdin=subprocess.DEVNULL)
    assert read_sha256(pipe(running.stdout)) == sha256(BIG)
    assert running.wait(60) == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_big_input_arrives_whole(client: Client) -> None:
    running = client.start(hasher())
    feed(pipe(running.stdin), BIG)
    assert pipe(running.stdout).read().decode().strip() == sha256(BIG)
    assert running.wait(60) == 0


@pytest.mark.slow
@pytest.mark.parametrize("options", [["-o", "RekeyLimit=1M"], ["-o", "Compression=yes"]], ids=["rekey", "compression"])
def test_both_ways_at_once(client: Client, options: list[str]) -> None:
    size = 32 << 20
    running = client.start("cat", *options)
    feed(pipe(running.stdin), size)
    assert read_sha256(pipe(running.stdout)) == sha256(size)
    assert running.wait(60) == 0


@pytest.mark.slow
def test_keepalives_are_answered(client: Client) -> None:
    result = client.run("sleep 5; echo alive", "-vvv", "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=60")
    assert (result.returncode, result.stdout) == (0, b"alive\n")
    answers = (b"receive packet: type 81\r", b"receive packet: type 82\r")  # REQUEST_SUCCESS, REQUEST_FAILURE (RFC 4254)
    assert sum(map(result.stderr.count, answers)) >= 1


def test_language_of_the_client_is_sent(client: Client) -> None:
    environment = {"LANG": "de_DE.UTF-8", "LC_TIME": "C.UTF-8"}
    result = client.run("echo $LANG $LC_TIME", "-o", "SendEnv=LANG LC_*", env=environment)
    assert result.stdout == b"de_DE.UTF-8 C.UTF-8\n"


def test_environment_is_that_of_the_jupyter_server(client: Client) -> None:
    found = dict(item.split("=", 1) for item in client.output("env -0").rstrip("\0").split("\0"))
    assert {name: found.get(name) for name in client.target.environment} == client.target.environment
    assert not [name for name in found if name.startswith("JHSSH_")]
    assert found["SSH_CONNECTION"].split()[:2] == found["SSH_CLIENT"].split()[:2]
    assert "SSH_TTY" not in found


def test_directory_and_shell_are_those_of_the_jupyter_server(client: Client) -> None:
    directory, shell = client.output("pwd -P; readlink -f /proc/$$/exe; true").splitlines()
    assert directory == str(client.target.cwd.resolve())
    assert shell == str(Path(client.target.shell).resolve())


def test_no_descriptor_but_the_three_is_open(client: Client) -> None:
    assert client.output("exec ls /proc/self/fd").split() == ["0", "1", "2", "3"]  # 3 is the folder that ls reads


def test_twenty_connections_at_once_stay_apart(client: Client) -> None:
    running = [client.start(f"echo {number}; cat; exit {number}") for number in range(20)]
    for number, process in enumerate(running):
        out, _ = process.communicate(str(number).encode(), timeout=60)
        assert (out, process.returncode) == (f"{number}\n{number}".encode(), number)

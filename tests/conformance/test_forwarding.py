"""-L, -R, -D, -W, Unix sockets both ways, the agent and X11."""

from __future__ import annotations

import re
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ..harness.processes import free_port
from .client import Client, needs, pipe
from .patterns import feed, read_sha256, sha256
from .sockets import connect, echo_server, echoes, reachable, socks5
from .targets import keygen
from .waiting import wait_for


def start_forwarding(client: Client, *options: str) -> subprocess.Popen[bytes]:
    return client.start(None, "-N", "-o", "ExitOnForwardFailure=yes", *options, stdin=subprocess.DEVNULL)


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_local_forwarding_of_many_connections_at_once(client: Client) -> None:
    port = free_port()
    with echo_server() as echo:
        start_forwarding(client, "-L", f"127.0.0.1:{port}:127.0.0.1:{echo}")
        wait_for(lambda: reachable(("127.0.0.1", port)), "-L listens")
        with ThreadPoolExecutor(10) as pool:
            assert all(pool.map(lambda _: echoes(connect(("127.0.0.1", port))), range(20)))


def test_local_forwarding_to_a_name(client: Client) -> None:
    port = free_port()
    with echo_server() as echo:
        start_forwarding(client, "-L", f"127.0.0.1:{port}:localhost:{echo}")
        wait_for(lambda: reachable(("127.0.0.1", port)), "-L listens")
        assert echoes(connect(("127.0.0.1", port)))


def test_local_forwarding_to_a_closed_port_ends_that_connection_alone(client: Client) -> None:
    good, bad = free_port(), free_port()
    with echo_server() as echo:
        start_forwarding(client, "-L", f"127.0.0.1:{good}:127.0.0.1:{echo}", "-L", f"127.0.0.1:{bad}:127.0.0.1:{free_port()}")
        wait_for(lambda: reachable(("127.0.0.1", bad)), "-L listens")
        with connect(("127.0.0.1", bad)) as connection:
            assert ended(connection)
        assert echoes(connect(("127.0.0.1", good)))


def test_local_forwarding_hands_on_a_client_that_hangs_up(client: Client) -> None:
    """A connection that is closed here is closed there, while its ssh goes on."""
    port = free_port()
    with echo_server() as echo:
        start_forwarding(client, "-L", f"127.0.0.1:{port}:127.0.0.1:{echo}")
        wait_for(lambda: reachable(("127.0.0.1", port)), "-L listens")
        with connect(("127.0.0.1", port)) as first:
            first.sendall(b"x")
            assert first.recv(1) == b"x"
            assert echoes(connect(("127.0.0.1", port)), 10)
        assert echoes(connect(("127.0.0.1", port)), 10)


def test_remote_forwarding(client: Client) -> None:
    port = free_port()
    with echo_server() as echo:
        start_forwarding(client, "-R", f"127.0.0.1:{port}:127.0.0.1:{echo}")
        wait_for(lambda: reachable(("127.0.0.1", port)), "-R listens")
        with ThreadPoolExecutor(5) as pool:
            assert all(pool.map(lambda _: echoes(connect(("127.0.0.1", port))), range(10)))


def test_remote_forwarding_of_a_port_that_the_server_picks(client: Client) -> None:
    with echo_server() as echo:
        running = start_forwarding(client, "-o", "LogLevel=INFO", "-R", f"0:127.0.0.1:{echo}")
        found = next(filter(None, (re.search(rb"Allocated port (\d+)", line) for line in pipe(running.stderr))))
        assert echoes(connect(("127.0.0.1", int(found[1]))))


def test_remote_forwarding_listens_on_loopback_by_default(client: Client) -> None:
    master, port = client.master(), free_port()
    with echo_server() as echo:
        assert client.run(None, "-S", master, "-O", "forward", "-R", f"{port}:127.0.0.1:{echo}").returncode == 0
        listening = client.output(f"cat /proc/net/tcp /proc/net/tcp6 | grep ':{port:04X} ' | grep ' 0A '")
        addresses = {line.split()[1].partition(":")[0] for line in listening.splitlines()}
        assert addresses <= {"0100007F", "00000000000000000000000001000000"}
        assert echoes(connect(("127.0.0.1", port)))


def test_remote_forwarding_of_a_taken_port_is_refused(client: Client) -> None:
    with echo_server() as echo:
        result = client.run("true", "-o", "ExitOnForwardFailure=yes", "-R", f"127.0.0.1:{echo}:127.0.0.1:1")
        assert result.returncode == 255
        assert b"remote port forwarding failed" in result.stderr


def test_remote_forwarding_can_be_ended_and_begun_again(client: Client) -> None:
    master, port = client.master(), free_port()
    with echo_server() as echo:
        forward = ("-R", f"127.0.0.1:{port}:127.0.0.1:{echo}")
        for _ in range(3):
            assert client.run(None, "-S", master, "-O", "forward", *forward).returncode == 0
            assert echoes(connect(("127.0.0.1", port)), 1000)
            assert client.run(None, "-S", master, "-O", "cancel", *forward).returncode == 0
            wait_for(lambda: not reachable(("127.0.0.1", port)), "-R no longer listens")


def test_remote_port_is_free_again_after_the_client_left(client: Client) -> None:
    port = free_port()
    running = start_forwarding(client, "-R", f"127.0.0.1:{port}:127.0.0.1:1")
    wait_for(lambda: reachable(("127.0.0.1", port)), "-R listens")
    running.kill()
    wait_for(lambda: not reachable(("127.0.0.1", port)), "-R no longer listens")


def test_dynamic_forwarding(client: Client) -> None:
    port = free_port()
    with echo_server() as echo:
        start_forwarding(client, "-D", f"127.0.0.1:{port}")
        wait_for(lambda: reachable(("127.0.0.1", port)), "-D listens")
        for host in ("127.0.0.1", "localhost"):
            assert echoes(socks5(("127.0.0.1", port), host, echo))


def test_standard_streams_forwarded(client: Client) -> None:
    size = 5_000_001
    with echo_server() as echo:
        running = client.start(None, "-W", f"127.0.0.1:{echo}")
        feed(pipe(running.stdin), size)
        assert read_sha256(pipe(running.stdout)) == sha256(size)
        assert running.wait(60) == 0


def test_local_unix_socket_to_a_remote_one(client: Client) -> None:
    here, there = client.folder / "here", client.there / "there"
    with echo_server(there):
        start_forwarding(client, "-L", f"{here}:{there}")
        wait_for(lambda: reachable(here), "-L listens")
        with ThreadPoolExecutor(5) as pool:
            assert all(pool.map(lambda _: echoes(connect(here)), range(10)))


def test_remote_unix_socket_to_a_local_one(client: Client) -> None:
    here, there = client.folder / "here", client.there / "there"
    with echo_server(here):
        for _ in range(2):  # the second finds the socket that the first left, and replaces it
            running = start_forwarding(client, "-R", f"{there}:{here}")
            wait_for(lambda: reachable(there), "-R listens")
            assert echoes(connect(there))
            assert there.stat().st_mode & 0o077 == 0, "others could use it"
            running.kill()
            running.wait()
            wait_for(lambda: not reachable(there), "-R no longer listens")


def test_mixed_forwarding_of_ports_and_unix_sockets(client: Client) -> None:
    port, there = free_port(), client.there / "there"
    with echo_server(there):
        start_forwarding(client, "-L", f"127.0.0.1:{port}:{there}")
        wait_for(lambda: reachable(("127.0.0.1", port)), "-L listens")
        assert echoes(connect(("127.0.0.1", port)))


@needs("ssh-agent", "ssh-add")
@pytest.mark.parametrize("terminal", ["-T", "-tt"])
def test_agent_forwarding(client: Client, tmp_path: Path, terminal: str) -> None:
    path, key = str(client.folder / "agent"), tmp_path / "key"
    keygen("-t", "ed25519", "-N", "", "-f", key)
    client.spawn("ssh-agent", "-D", "-a", path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: reachable(Path(path)), "the agent is up")
    environment = {"SSH_AUTH_SOCK": path}
    assert client.call("ssh-add", "-q", str(key), env=environment).returncode == 0
    here = client.call("ssh-add", "-l", env=environment).stdout.split()
    there = client.run("ssh-add -l; ssh-add -l", "-A", terminal, env=environment).stdout.split()
    assert there == here * 2
    assert client.run("ssh-add -l", terminal, env=environment).returncode != 0, "the agent is there without -A"


@needs("Xvfb", "xauth", "xdpyinfo")
@pytest.mark.parametrize("trust", ["-X", "-Y"])
def test_x11_forwarding(client: Client, trust: str) -> None:
    authority = str(client.folder / "Xauthority")
    cookie = "0123456789abcdef" * 2
    assert client.call("xauth", "-q", "-f", authority, "add", ":0", ".", cookie).returncode == 0  # Xvfb wants one to begin with
    server = client.spawn(
        "Xvfb", "-displayfd", "1", "-noreset", "-nolisten", "tcp", "-auth", authority, stderr=subprocess.DEVNULL
    )
    display = f":{pipe(server.stdout).readline().decode().strip()}"
    environment = {"DISPLAY": display, "XAUTHORITY": authority}
    assert client.call("xauth", "-q", "add", display, ".", cookie, env=environment).returncode == 0
    result = client.run("xdpyinfo; xdpyinfo; echo $DISPLAY", trust, env=environment)
    assert result.stdout.count(b"number of screens:    1") == 2, result.stderr
    assert re.fullmatch(rb"localhost:\d+\.0", result.stdout.split()[-1])

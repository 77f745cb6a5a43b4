"""The embedded server as a process: who gets in, its bounds and its end. What sessions can do is in tests/conformance."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import asyncssh
import pytest

from jhssh_ext.singleuser import embedded_server
from jhssh_ext.singleuser.runtime_dir import RuntimeDir
from jhssh_ext.singleuser.session import SFTP_OFF

from ..conformance.client import Client, pipe
from ..conformance.targets import PRINCIPAL, Keys, Target, keygen, listening, prepare, write_ssh_config
from ..conformance.waiting import processes, wait_for

SERVER = [sys.executable, "-m", "jhssh_ext.singleuser.embedded_server"]


class Running:
    """An embedded server and a client that it lets in."""

    def __init__(
        self, folder: Path, keys: Keys, runtime: RuntimeDir, home: Path, process: subprocess.Popen[bytes], port: int
    ) -> None:
        self.folder, self.keys, self.runtime, self.process, self.port = folder, keys, runtime, process, port
        self.config = write_ssh_config(keys, port)
        self.client = Client(Target("embedded", self.config, "server", home, home))

    def log(self) -> str:
        return (self.folder / "log").read_text()


@contextmanager
def start(folder: Path, **session: object) -> Iterator[Running]:
    """``session`` replaces values of session.json."""
    keys, runtime, home, _ = prepare(folder)
    path = runtime.path / "session.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **session}))
    with listening(SERVER, runtime, folder / "log") as (process, port):
        running = Running(folder, keys, runtime, home, process, port)
        with closing(running.client):
            yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with start(tmp_path) as running:
        yield running


def certify(server: Running, *arguments: str, ca: str = "user_ca") -> None:
    """Replace the client's certificate."""
    keygen("-s", server.keys.folder / ca, "-I", "test", *arguments, server.keys.folder / "id.pub")


def is_let_in(server: Running) -> bool:
    result = server.client.run("true")
    assert result.returncode in (0, 255)
    assert result.returncode == 0 or b"Permission denied" in result.stderr
    return result.returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["-n", PRINCIPAL[:-1] + "?"],
        ["-n", "*"],
        ["-n", f"{PRINCIPAL},another"],
        ["-n", f"another,{PRINCIPAL}"],
        ["-n", f"{PRINCIPAL},{PRINCIPAL}"],
        ["-n", PRINCIPAL.upper()],
        ["-n", "root"],
        [],
        ["-n", PRINCIPAL, "-V", "-2h:-1h"],
        ["-n", PRINCIPAL, "-V", "+1h:+2h"],
        ["-n", PRINCIPAL, "-O", "source-address=192.0.2.0/24"],
        ["-n", PRINCIPAL, "-O", "critical:unheard-of@example.org=1"],
        ["-h", "-n", PRINCIPAL],
    ],
    ids=lambda arguments: " ".join(arguments).replace(PRINCIPAL, "P") or "no principals",
)
def test_certificates_that_do_not_open(server: Running, arguments: list[str]) -> None:
    certify(server, *arguments)
    assert not is_let_in(server)


def test_certificate_of_another_authority_does_not_open(server: Running) -> None:
    keygen("-t", "ed25519", "-N", "", "-f", server.keys.folder / "other_ca")
    certify(server, "-n", PRINCIPAL, ca="other_ca")
    assert not is_let_in(server)


@pytest.mark.parametrize("name", ["id", "user_ca", "host_key"])
def test_bare_key_does_not_open(server: Running, name: str) -> None:
    (server.keys.folder / "id-cert.pub").unlink()
    server.config.write_text(server.config.read_text().replace("/id\n", f"/{name}\n"))
    assert not is_let_in(server)


def test_any_user_name_will_do(server: Running) -> None:
    assert server.client.run("true", "-l", "quite another").returncode == 0


def test_certificate_without_permissions_gives_a_command_alone(server: Running) -> None:
    certify(server, "-n", PRINCIPAL, "-O", "clear")
    assert server.client.run("echo command").stdout == b"command\n"
    assert b"PTY allocation request failed" in server.client.run("true", "-tt").stderr
    assert server.client.run(None, "-W", f"127.0.0.1:{server.port}").returncode == 255


def test_only_ed25519_and_modern_algorithms_are_offered(server: Running) -> None:
    result = server.client.run("true", "-vv")
    assert result.returncode == 0
    offered = result.stderr.decode().split("peer server KEXINIT proposal")[1].split("algorithm: ")[0]
    assert "host key algorithms: ssh-ed25519\r\n" in offered
    assert not [weak for weak in ("sha1", "cbc", "group14", "nistp", "hmac-md5") if weak in offered]


def test_tries_on_one_connection_are_bounded(server: Running) -> None:
    (server.keys.folder / "id-cert.pub").unlink()
    for number in range(10):
        keygen("-t", "ed25519", "-N", "", "-f", server.keys.folder / f"wrong{number}")
    wrong = [f"-i{server.keys.folder}/wrong{number}" for number in range(10)]
    result = server.client.run("true", *wrong)
    assert result.returncode == 255
    assert b"Too many authentication failures" in result.stderr
    assert is_let_in(server) is False


def test_unauthenticated_connections_are_bounded(server: Running) -> None:
    def speaks(connection: socket.socket) -> bool:
        try:
            return connection.recv(4) == b"SSH-"
        except ConnectionResetError:
            return False

    with ExitStack() as stack:
        strangers = []
        for _ in range(embedded_server.MAX_UNAUTHENTICATED + 5):
            strangers.append(stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10)))
        greeted = [speaks(each) for each in strangers]
        assert greeted.count(True) == embedded_server.MAX_UNAUTHENTICATED
    wait_for(lambda: server.client.run("true").returncode == 0, "the places are free again")


def test_command_of_any_bytes(server: Running) -> None:
    command = os.fsdecode(b"printf '%s' '\xff\xfe' | od -An -tx1")
    assert server.client.run(command).stdout.split() == [b"ff", b"fe"]


def test_unwanted_environment_is_not_taken(server: Running) -> None:
    result = server.client.run(
        "env",
        "-o",
        "SetEnv=LD_PRELOAD=/x BASH_ENV=/y LC_ALL=C PYTHONPATH=/z",
    )
    found = dict(line.split("=", 1) for line in result.stdout.decode().splitlines() if "=" in line)
    assert found["LC_ALL"] == "C"
    assert not {"LD_PRELOAD", "BASH_ENV", "PYTHONPATH"} & found.keys()


def test_sftp_where_there_is_no_sftp_server(tmp_path: Path) -> None:
    with start(tmp_path, sftp_server="") as server:
        (tmp_path / "data").write_bytes(os.urandom(1_000_000))
        batch = f"put {tmp_path}/data there\nget there {tmp_path}/back\n"
        result = server.client.call("sftp", "-F", str(server.config), "-b", "-", "server", input=batch.encode())
        assert result.returncode == 0, result.stderr
        assert server.client.call("scp", "-F", str(server.config), f"{tmp_path}/data", "server:copied").returncode == 0
        there = server.client.target.cwd / "there"
        assert there.read_bytes() == (tmp_path / "back").read_bytes() == (tmp_path / "data").read_bytes()


def test_sftp_that_is_off(tmp_path: Path) -> None:
    with start(tmp_path, sftp_server=SFTP_OFF) as server:
        result = server.client.call("sftp", "-F", str(server.config), "-b", "-", "server", input=b"pwd\n")
        assert (result.returncode, b"SFTP is off" in result.stderr) == (255, True)


def start_sleeping(server: Running, *options: str) -> str:
    seconds = server.client.seconds()
    server.client.start(f"sleep {seconds}", *options)
    wait_for(lambda: processes("sleep", seconds), "the session runs")
    return seconds


@pytest.mark.parametrize("end", ["SIGTERM", "lifeline", "SIGKILL"])
def test_sessions_end_with_the_server(server: Running, end: str) -> None:
    sessions = [start_sleeping(server), start_sleeping(server, "-tt")]
    if end == "lifeline":
        pipe(server.process.stdin).close()
    else:
        server.process.send_signal(signal.Signals[end])
    server.process.wait(60)
    for seconds in sessions:
        wait_for(lambda seconds=seconds: not processes("sleep", seconds), "it is gone")  # type: ignore[misc]
    assert server.runtime.path.exists() == (end != "lifeline")


def test_no_file_is_left_of_sessions(server: Running) -> None:
    socket_path = server.client.folder / "there"
    running = server.client.start("echo ready; sleep 100", "-R", f"{socket_path}:/nowhere")
    assert pipe(running.stdout).readline() == b"ready\n"
    assert socket_path.exists()
    running.kill()
    wait_for(lambda: not socket_path.exists(), "the socket is gone")


@pytest.mark.parametrize(
    ("name", "text"),
    [("host_key", "nonsense"), ("user_ca_keys", ""), ("principals", ""), ("session.json", "{}")],
)
def test_broken_files_are_refused(tmp_path: Path, name: str, text: str) -> None:
    _, runtime, _, _ = prepare(tmp_path)
    try:
        runtime.write(name, text)
        with pytest.raises((ValueError, KeyError)):
            embedded_server.make_options(runtime.path)
    finally:
        runtime.remove()


def test_rsa_host_key_is_refused(tmp_path: Path) -> None:
    _, runtime, _, _ = prepare(tmp_path)
    try:
        runtime.write("host_key", asyncssh.generate_private_key("ssh-rsa", key_size=2048).export_private_key().decode())
        with pytest.raises(ValueError, match="ssh-ed25519"):
            embedded_server.make_options(runtime.path)
    finally:
        runtime.remove()


@pytest.mark.asyncio
async def test_serve_ends_on_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Meant for a process of its own: here it would outlive the loop that it belongs to, and other tests start processes too.
    monkeypatch.setattr(embedded_server, "_watch_children_without_threads", lambda loop: None)
    _, runtime, _, _ = prepare(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(embedded_server.serve(listener, runtime.path))
        reader, writer = await asyncio.open_connection(*listener.getsockname()[:2])
        assert (await reader.readline()).startswith(b"SSH-2.0-AsyncSSH")
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 30)
        writer.close()
    runtime.remove()

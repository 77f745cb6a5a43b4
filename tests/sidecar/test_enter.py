"""enter.py alone: the test is the sshd on one side, and an agent that lies on the other."""

from __future__ import annotations

import array
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jhssh_ext.sidecar import enter

Agent = Callable[[socket.socket], None]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="jh-") as made:  # short, for a Unix socket
        yield Path(made)


def message(kind: bytes, number: int = 0, text: bytes = b"") -> bytes:
    return struct.pack(">cI", kind, number) + text


def request(connection: socket.socket) -> dict[str, object]:
    """As an honest agent reads it."""
    head = connection.recv(5)
    (length,) = struct.unpack(">I", head[1:])
    text = b""
    while len(text) < length:
        text += connection.recv(length - len(text))
    found: dict[str, object] = json.loads(text)
    return found


def streams(connection: socket.socket) -> list[int]:
    """The three that an honest agent asks for."""
    connection.sendall(message(b"b"))
    head, ancillary, _, _ = connection.recvmsg(5, 64)
    assert head == message(b"g")
    descriptors = array.array("i")
    for _, _, content in ancillary:
        descriptors.frombytes(content)
    return list(descriptors)


def take_and_close(connection: socket.socket) -> None:
    for descriptor in streams(connection):
        os.close(descriptor)


def run(folder: Path, agent: Agent, *, terminal: bool = False, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """One session, whose agent is ``agent``."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "agent.sock"))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                agent(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return start(folder, terminal=terminal, **environ)
        finally:
            thread.join(20)
            (folder / "agent.sock").unlink()


def start(folder: Path, *, terminal: bool = False, **environ: str) -> subprocess.CompletedProcess[bytes]:
    (folder / "x11").mkdir(exist_ok=True)
    # As the entrypoint starts it; where coverage is measured, with the site module that does it.
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    python = [sys.executable] if measured else [sys.executable, "-IS"]
    command = [*python, enter.__file__, str(folder / "agent.sock"), "/run/jhssh/tmp", str(folder / "x11")]
    environment = {"PATH": "/usr/bin:/bin", **measured, **environ}
    if not terminal:
        return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    master, slave = pty.openpty()
    process = subprocess.Popen(command, env=environment, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    written = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:
            break
        written += data
        if not data:
            break
    os.close(master)
    written = written.replace(b"\r\r\n", b"\r\n")  # what a cooked terminal makes of it
    return subprocess.CompletedProcess(command, process.wait(60), written, written)


def answering(answer: bytes, *, begins: bool = True) -> Agent:
    def agent(connection: socket.socket) -> None:
        request(connection)
        if begins:
            take_and_close(connection)
        connection.sendall(answer)

    return agent


def test_exit_status_and_death_by_signal_are_the_sessions(folder: Path) -> None:
    assert run(folder, answering(message(b"x", 7))).returncode == 7
    assert run(folder, answering(message(b"s", signal.SIGTERM))).returncode == -signal.SIGTERM


def test_streams_are_handed_over(folder: Path) -> None:
    def agent(connection: socket.socket) -> None:
        request(connection)
        descriptors = streams(connection)
        os.write(descriptors[1], b"out")
        os.write(descriptors[2], b"err")
        for descriptor in descriptors:
            os.close(descriptor)
        connection.sendall(message(b"x"))

    result = run(folder, agent)
    assert (result.stdout, result.stderr) == (b"out", b"err")


def test_only_what_belongs_to_the_ssh_session_is_told_and_paths_are_those_of_the_notebook(folder: Path) -> None:
    seen: list[dict[str, object]] = []

    def agent(connection: socket.socket) -> None:
        seen.append(request(connection))
        take_and_close(connection)
        connection.sendall(message(b"x"))

    (folder / "x11").mkdir()
    (folder / "x11" / "10").write_text("MIT-MAGIC-COOKIE-1 00ff\n")
    given = {
        "SSH_ORIGINAL_COMMAND": "echo \udcff ü",
        "SSH_CLIENT": "a",
        "SSH_AUTH_SOCK": "/tmp/ssh-aB3/agent.7",
        "DISPLAY": "localhost:10.0",
        "LC_TIME": "de",
        "HOME": "/sshd",
        "USER": "sshd",
        "JHSSH_HOST_KEY": "secret",
        "LD_PRELOAD_X": "no",
    }
    run(folder, agent, **given)
    assert seen == [
        {
            "command": "echo \udcff ü",
            "terminal": False,
            "environment": {
                "SSH_CLIENT": "a",
                "SSH_AUTH_SOCK": "/run/jhssh/tmp/ssh-aB3/agent.7",
                "DISPLAY": "localhost:10.0",
                "LC_TIME": "de",
            },
            "x11": ["10", "MIT-MAGIC-COOKIE-1", "00ff"],
        }
    ]
    assert not (folder / "x11" / "10").exists()


@pytest.mark.parametrize("path", ["/tmp/../etc/ssh-a/agent.1", "/etc/passwd", "/tmp/ssh-a/agent.1\n", ""])
def test_an_agent_socket_of_another_shape_is_not_told(path: str) -> None:
    assert enter.session_environment({"SSH_AUTH_SOCK": path}, "/there") == {}


@pytest.mark.parametrize("content", ["", "MIT-MAGIC-COOKIE-1 0", "a b c\n", "MIT " + "00" * 300, "MIT 00\nMIT 00\n", "\xff"])
def test_a_cookie_of_another_shape_counts_as_none(folder: Path, content: str) -> None:
    (folder / "10").write_text(content, encoding="latin-1")
    assert enter.x11_cookie({"DISPLAY": "localhost:10.0"}, str(folder)) == []


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"x",
        b"HTTP/1.1 200 OK\r\n\r\n",
        message(b"m"),
        message(b"g"),
        message(b"\xff", 2**32 - 1),
        message(b"e", 2**32 - 1) + b"x" * 10_000,
        message(b"e", 1025, b"x" * 1025),
        message(b"e", 100, b"cut short"),
    ],
)
@pytest.mark.parametrize("when", ["at once", "later", "with a terminal"])
def test_an_agent_that_lies_ends_the_session_with_a_sentence(folder: Path, answer: bytes, when: str) -> None:
    result = run(folder, answering(answer, begins=when == "later"), terminal=when == "with a terminal")
    assert result.returncode == 255
    assert result.stderr.startswith(b"jhssh: The session")
    assert len(result.stderr) < 300


def test_an_agents_own_sentence_is_shown_without_control_characters(folder: Path) -> None:
    text = "No \x1b]0;title\x07\r\nserver ü\u202e".encode()
    result = run(folder, answering(message(b"e", len(text), text)))
    assert (result.returncode, result.stderr.decode()) == (255, "jhssh: No ]0;titleserver ü\r\n")


@pytest.mark.parametrize("number", [0, 65, 9999, 2**32 - 1, *sorted(enter.NO_DEATH)])
def test_a_signal_that_nobody_dies_of_ends_the_session_as_failed(folder: Path, number: int) -> None:
    assert run(folder, answering(message(b"s", number))).returncode == 255


def test_descriptors_that_nobody_asked_for_end_the_session(folder: Path) -> None:
    def agent(connection: socket.socket) -> None:
        request(connection)
        take_and_close(connection)
        with Path("/dev/null").open() as file:
            rights = array.array("i", [file.fileno()] * 5)
            connection.sendmsg([message(b"x")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    result = run(folder, agent)
    assert (result.returncode, result.stderr) == (255, f"jhssh: {enter.NONSENSE}\r\n".encode())


@pytest.mark.parametrize("what", ["/dev/null", "/dev/zero", "slave", "nothing", "two"])
def test_what_is_no_terminals_master_is_not_touched(folder: Path, what: str) -> None:
    def agent(connection: socket.socket) -> None:
        request(connection)
        master, slave = pty.openpty()
        other = os.open(what if what.startswith("/") else "/dev/null", os.O_RDWR)
        given = {"slave": [slave], "nothing": [], "two": [master, master]}.get(what, [other])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", given))] if given else []
        connection.sendmsg([message(b"m")], rights)
        for descriptor in (master, slave, other):
            os.close(descriptor)

    result = run(folder, agent, terminal=True)
    assert (result.returncode, result.stderr) == (255, f"jhssh: {enter.NONSENSE}\r\n".encode())


@pytest.mark.slow
def test_an_agent_that_keeps_the_terminal_open_does_not_keep_the_session(folder: Path) -> None:
    held: list[int] = []

    def agent(connection: socket.socket) -> None:
        request(connection)
        master, slave = pty.openpty()
        connection.sendmsg([message(b"m")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [master]))])
        os.close(master)
        held.append(slave)
        assert connection.recv(5) == message(b"g")
        os.write(slave, b"last words")
        connection.sendall(message(b"x", 3))

    result = run(folder, agent, terminal=True)
    os.close(held[0])
    assert (result.returncode, result.stdout) == (3, b"last words")


@pytest.mark.slow
def test_without_an_agent_the_user_is_told(folder: Path) -> None:
    result = start(folder)
    assert (result.returncode, result.stderr) == (255, f"jhssh: {enter.NOT_THERE}\r\n".encode())


@pytest.mark.slow
def test_a_socket_that_is_no_socket_counts_as_no_agent(folder: Path) -> None:
    os.mkfifo(folder / "agent.sock")
    assert start(folder).returncode == 255


def test_an_agent_of_another_user_is_refused(folder: Path) -> None:
    path = str(folder / "agent.sock")
    listening = f"import socket; s=socket.socket(1); s.bind({path!r}); s.listen(); print(flush=True); s.accept(); input()"
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    folder.chmod(0o777)
    process = subprocess.Popen(
        ["/usr/bin/python3", "-ISc", listening], user=12345, group=12345, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        result = start(folder)
        assert (result.returncode, b"Another user" in result.stderr) == (255, True)
    finally:
        process.communicate(b"\n", timeout=60)

"""openssh_listener.py alone, with a shell script in the place of sshd."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from jhssh_ext.singleuser import openssh_listener

from ..harness.processes import MARK, end_marked, marked, new_mark, wait_until

PROGRAM = ("-m", openssh_listener.__name__)  # not -IS, so that coverage sees it


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    port: int
    runtime: Path
    mark: str
    log: Path

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def said(self) -> str:
        return self.log.read_text()


@contextlib.contextmanager
def listener(folder: Path, script: str) -> Iterator[Running]:
    mark, runtime = new_mark(), folder / "runtime"
    runtime.mkdir()
    sshd = folder / "sshd"
    sshd.write_text(f"#!/bin/sh\n{script}\n")
    sshd.chmod(0o755)
    (runtime / "sshd.json").write_text(json.dumps({"arguments": [str(sshd), "-i"]}))
    log = folder / "log"
    with socket.socket() as listening, log.open("wb") as output:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        process = subprocess.Popen(
            [sys.executable, *PROGRAM, "--fd", str(listening.fileno()), str(runtime)],
            stdin=subprocess.PIPE,
            stderr=output,
            pass_fds=[listening.fileno()],
            env={**os.environ, MARK: mark},
        )
        port = listening.getsockname()[1]
    running = Running(process, port, runtime, mark, log)
    try:
        wait_until(lambda: "ready" in running.said())
        yield running
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.terminate()
        process.wait(60)
        end_marked(mark)


def test_each_connection_is_an_sshd_of_its_own(tmp_path: Path) -> None:
    with listener(tmp_path, 'echo "hello $1 $$"; read -r line; echo "$line"; echo "a line" >&2') as running:
        seen = []
        for _ in range(2):
            with running.connect() as connection, connection.makefile("rw") as stream:
                seen.append(stream.readline())
                stream.write("back\n")
                stream.flush()
                assert stream.readline() == "back\n"
                assert stream.readline() == ""
        assert [line.split()[:2] for line in seen] == [["hello", "-i"]] * 2
        assert seen[0] != seen[1]
        pid = seen[1].split()[2]
        wait_until(lambda: f"sshd[{pid}]: a line" in running.said())
        wait_until(lambda: not running.children(), what="the reaping of both")


def test_an_sshd_has_no_descriptors_but_its_connection_and_its_log(tmp_path: Path) -> None:
    with listener(tmp_path, "exec ls /proc/self/fd") as running, running.connect() as connection:
        with connection.makefile() as stream:
            shown = stream.read()
        assert shown.split() == ["0", "1", "2", "3"]  # 3 is ls's own


def test_those_that_have_not_logged_in_are_bounded_and_those_that_have_are_not(tmp_path: Path) -> None:
    script = 'echo hello; read -r line; [ "$line" = in ] && echo "Accepted publickey for x" >&2 && echo ok; read -r line'
    with listener(tmp_path, script) as running, contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(running.connect()) for _ in range(openssh_listener.MAX_UNAUTHENTICATED)]
        assert all(stranger.recv(6) == b"hello\n" for stranger in strangers)
        with running.connect() as dropped:
            assert dropped.recv(6) == b""
        wait_until(lambda: "too many connections" in running.said())
        strangers[0].sendall(b"in\n")
        assert strangers[0].recv(3) == b"ok\n"
        wait_until(lambda: "Accepted" in running.said())
        with running.connect() as taken:
            assert taken.recv(6) == b"hello\n"


def test_an_sshd_that_can_not_be_run_is_told(tmp_path: Path) -> None:
    with listener(tmp_path, "") as running:
        (tmp_path / "sshd").unlink()
        with running.connect() as connection:
            assert connection.recv(1) == b""
        wait_until(lambda: "fatal: " in running.said() and "No such file" in running.said())


def test_a_flood_of_log_lines_is_cut(tmp_path: Path) -> None:
    with listener(tmp_path, "head -c 200000 /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2") as running:
        with running.connect() as connection:
            assert connection.recv(1) == b""
        wait_until(lambda: "]: end" in running.said())
        assert max(len(line) for line in running.said().splitlines()) < 2 * openssh_listener.MAX_LINE


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "lifeline"])
@pytest.mark.slow
def test_all_end_with_it_even_those_that_do_not_listen(tmp_path: Path, how: str) -> None:
    with listener(tmp_path, "trap '' TERM HUP; sleep 931 & echo hello; wait; wait") as running, running.connect() as connection:
        assert connection.recv(6) == b"hello\n"
        if how == "lifeline":
            assert running.process.stdin is not None
            running.process.stdin.close()
        else:
            running.process.send_signal(signal.Signals[how])
        assert running.process.wait(60) == 0
        wait_until(lambda: not marked(running.mark))
        # where the Jupyter server lives, the folder is its own to remove
        assert running.runtime.exists() is (how != "lifeline")


def test_connections_are_handed_over_where_nothing_listens(tmp_path: Path) -> None:
    runtime, sshd = tmp_path / "runtime", tmp_path / "sshd"
    runtime.mkdir()
    sshd.write_text('#!/bin/sh\nread -r line; echo "$line" "$1"\n')
    sshd.chmod(0o755)
    (runtime / "sshd.json").write_text(json.dumps({"arguments": [str(sshd), "-i"]}))
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, *PROGRAM, "--fd", str(theirs.fileno()), str(runtime)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    with ours, process:
        for number in range(3):
            here, there = socket.socketpair()
            with here, here.makefile("rw") as stream:
                socket.send_fds(ours, [b"+"], [there.fileno()])
                there.close()
                stream.write(f"{number}\n")
                stream.flush()
                assert stream.readline() == f"{number} -i\n"
        ours.sendall(b"+")  # without one
        ours.close()
        assert process.wait(60) == 0


def test_when_the_jupyter_server_was_killed_the_folder_goes_too(tmp_path: Path) -> None:
    parent = (
        "import socket, subprocess, sys\n"
        "listening = socket.socket(); listening.bind(('127.0.0.1', 0)); listening.listen()\n"
        "fd = listening.fileno()\n"
        "child = subprocess.Popen([sys.executable, *sys.argv[1:-1], '--fd', str(fd), sys.argv[-1]], pass_fds=[fd],"
        " stdin=subprocess.PIPE, stderr=subprocess.PIPE)\n"
        "print(child.stderr.readline().decode().strip(), flush=True)\n"
        "child.wait()"
    )
    runtime, mark = tmp_path / "runtime", new_mark()
    runtime.mkdir()
    (runtime / "sshd.json").write_text(json.dumps({"arguments": ["/bin/true"]}))
    process = subprocess.Popen(
        [sys.executable, "-c", parent, *PROGRAM, str(runtime)], stdout=subprocess.PIPE, env={**os.environ, MARK: mark}
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert len(marked(mark)) == 2
        process.kill()
        process.communicate()
        wait_until(lambda: not marked(mark))
        assert not runtime.exists()
    finally:
        end_marked(mark)

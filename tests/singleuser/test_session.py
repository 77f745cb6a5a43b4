"""session.py alone: the test is the sshd."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from jhssh_ext import sshd_config
from jhssh_ext.singleuser import session

from ..harness import processes
from ..harness.processes import MARK, end_marked, marked, new_mark, sleeping, wait_until

PROGRAM = ("-m", session.__name__)  # not -IS, so that coverage sees it


@pytest.fixture
def mark() -> Iterator[str]:
    made = new_mark()
    yield made
    end_marked(made)


@pytest.fixture
def setup(tmp_path: Path, mark: str) -> Path:
    path = tmp_path / "session.json"
    folder = tmp_path / "földer"
    folder.mkdir()
    path.write_text(
        json.dumps(
            {
                "env": {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "ODD": "a 'b'\n\"c\"", "LANG": "C.UTF-8", MARK: mark},
                "cwd": str(folder),
                "shell": ["/bin/bash"],
                "sftp_server": "/bin/cat",
                "server": os.getppid(),  # we are the sshd
            }
        )
    )
    return path


def run(setup: Path, command: str | None, **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(**arguments(setup, command), timeout=30, check=False, capture_output=True, **kwargs)


def arguments(setup: Path, command: str | None, **environ: str) -> dict[str, Any]:
    """As sshd starts it: a session of its own, and an environment of sshd's making."""
    environment = {"PATH": "/of/sshd", "HOME": "/of/sshd", "SSH_CLIENT": "1.2.3.4 5 6", "USER": "of-sshd", **environ}
    environment.update({name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")})
    if command is not None:
        environment["SSH_ORIGINAL_COMMAND"] = command
    return {"args": [sys.executable, *PROGRAM, str(setup)], "env": environment, "start_new_session": True}


@contextlib.contextmanager
def started(setup: Path, command: str | None, **kwargs: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        **arguments(setup, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_word_for_sftp_is_that_of_the_configuration() -> None:
    assert session.SFTP_COMMAND == sshd_config.SFTP_COMMAND


def test_a_command_has_the_environment_and_folder_of_the_server(setup: Path, tmp_path: Path) -> None:
    answer = run(setup, 'printf \'%s\\n\' "$ODD" "$PWD" "$HOME" "$SSH_CLIENT" "${USER-none}" "${SSH_ORIGINAL_COMMAND-none}"')
    wanted = ["a 'b'", '"c"', str(tmp_path / "földer"), str(tmp_path), "1.2.3.4 5 6", "none", "none"]
    assert answer.stdout.decode().splitlines() == wanted
    assert (answer.returncode, answer.stderr) == (0, b"")


def test_streams_are_separate_and_the_status_is_the_commands(setup: Path) -> None:
    answer = run(setup, "cat; echo bad >&2; exit 37", input=bytes(range(256)) * 1000)
    assert answer.stdout == bytes(range(256)) * 1000
    assert answer.stderr == b"bad\n"
    assert answer.returncode == 37


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGSEGV, signal.SIGINT, signal.SIGPIPE])
def test_death_by_a_signal_is_repeated(setup: Path, number: signal.Signals) -> None:
    assert run(setup, f"kill -{number.name[3:]} $$").returncode == -number


def test_a_shell_without_a_terminal_reads_its_commands(setup: Path) -> None:
    answer = run(setup, None, input=b"echo hello\nexit 4\n")
    assert (answer.returncode, answer.stdout) == (4, b"hello\n")


def test_a_shell_that_is_missing_is_told(setup: Path) -> None:
    changed = json.loads(setup.read_text())
    changed["shell"] = ["/does/not/exist"]
    setup.write_text(json.dumps(changed))
    answer = run(setup, "true")
    assert answer.returncode == 127
    assert b"/does/not/exist: No such file" in answer.stderr


def test_a_folder_that_is_gone_gives_way_to_home(setup: Path, tmp_path: Path) -> None:
    (tmp_path / "földer").rmdir()
    assert run(setup, "pwd").stdout.decode().strip() == str(tmp_path)


def test_python_leaves_no_ignored_signals_behind(setup: Path) -> None:
    ignored = int(run(setup, "grep SigIgn /proc/self/status").stdout.split()[1], 16)
    # Others may come from whoever started the tests, as signal 32 from some shells.
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


def test_the_command_has_no_descriptors_but_its_own(setup: Path) -> None:
    assert run(setup, "ls /proc/self/fd").stdout.split() == [b"0", b"1", b"2", b"3"]  # 3 is ls's own


def test_streams_that_the_command_closes_are_seen_closed(setup: Path) -> None:
    with started(setup, "exec >&- 2>&-; read -r line") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read() == b""
        assert process.stderr.read() == b""
        assert process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_signals_to_the_group_reach_the_command_which_may_outlive_them(setup: Path, number: signal.Signals) -> None:
    with started(setup, f"trap 'echo caught; exit 9' {number.name[3:]}; echo ready; while :; do :; done") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        os.killpg(process.pid, number)
        assert process.stdout.readline() == b"caught\n"
        assert process.wait(60) == 9


@pytest.mark.slow
def test_background_children_outlive_a_command_that_ended_by_itself(setup: Path, mark: str) -> None:
    assert run(setup, "sleep 971 >/dev/null 2>&1 </dev/null & echo $!").returncode == 0
    wait_until(lambda: sleeping(mark) == {"971"})  # the shell does not wait until it runs


PARENT = """
import os, subprocess, sys, time
process = subprocess.Popen(sys.argv[1:], start_new_session=True)
print(process.pid, flush=True)
time.sleep(1000)
"""


@contextlib.contextmanager
def under_a_mortal_parent(setup: Path, command: str, **environ: str) -> Iterator[tuple[psutil.Process, psutil.Process]]:
    given = arguments(setup, command, **environ)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *given["args"]], env=given["env"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    try:
        yield psutil.Process(parent.pid), psutil.Process(int(parent.stdout.readline()))
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        parent.stdin.close()


@pytest.mark.slow
def test_when_sshd_dies_its_session_hangs_up_and_what_left_it_lives_on(setup: Path, mark: str) -> None:
    command = "setsid sleep 961 & nohup sleep 962 >/dev/null 2>&1 & timeout 963 sleep 964 & sleep 965"
    with under_a_mortal_parent(setup, command) as (parent, child):
        wait_until(lambda: sleeping(mark) == {"961", "962", "964", "965"})
        parent.kill()
        wait_until(lambda: sleeping(mark) == {"961", "962"})
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_stopped_commands_hang_up_too(setup: Path, mark: str) -> None:
    with under_a_mortal_parent(setup, "sleep 966") as (parent, _):
        (sleeper,) = wait_until(lambda: [process for process in marked(mark) if processes.arguments(process)[:1] == ["sleep"]])
        sleeper.suspend()
        parent.kill()
        wait_until(lambda: not sleeping(mark))


def test_the_sftp_server_ends_with_sshd(setup: Path) -> None:
    with under_a_mortal_parent(setup, session.SFTP_COMMAND) as (parent, child):
        wait_until(lambda: child.name() == "cat")
        parent.kill()
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


REAPER = """
import ctypes, json, os, pathlib, subprocess, sys
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
setup = pathlib.Path(sys.argv[-1])
setup.write_text(json.dumps({**json.loads(setup.read_text()), "server": os.getpid()}))
ready, go = os.pipe()
program = f'(read -r _ <&{ready}; exec "$@" {ready}<&-) &'
subprocess.run(["/bin/bash", "-c", program, "sshd", *sys.argv[1:]], pass_fds=[ready], check=True)
os.write(go, b"\\n")  # now that the sshd of this session is dead
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.parametrize("command", ["echo ran", session.SFTP_COMMAND, None])
def test_if_sshd_died_before_nothing_runs_whoever_adopts_orphans(setup: Path, command: str | None) -> None:
    given = arguments(setup, command)
    given["args"] = [sys.executable, "-c", REAPER, *given["args"]]
    answer = subprocess.run(**given, timeout=30, check=False, capture_output=True, input=b"echo ran\n")
    assert (answer.returncode, answer.stdout, answer.stderr) == (128 + signal.SIGHUP, b"", b"")


KILLED_WHILE_IT_BEGINS = """
import os, signal, sys
from jhssh_ext.singleuser import session
main, real = os.getpid(), signal.signal
def killed(*arguments):
    if os.getpid() == main:
        os.kill(main, signal.SIGKILL)
    return real(*arguments)
signal.signal = killed
session.attend(sys.argv[1:], dict(os.environ), os.getppid())
"""


def test_a_command_does_not_begin_when_who_should_attend_to_it_was_killed(tmp_path: Path, mark: str) -> None:
    program = [sys.executable, "-c", KILLED_WHILE_IT_BEGINS, "touch", str(tmp_path / "ran")]
    ended = subprocess.run(program, env={**os.environ, MARK: mark}, timeout=30, check=False, start_new_session=True)
    assert ended.returncode == -signal.SIGKILL
    wait_until(lambda: not marked(mark))
    assert not (tmp_path / "ran").exists()


def test_who_is_above_whom() -> None:
    assert session.descends(os.getpid(), os.getppid())
    assert not session.descends(os.getppid(), os.getpid())
    assert not session.descends(os.getpid(), os.getpid())
    with subprocess.Popen(["sleep", "0"]) as gone:
        pass
    assert session.descends(gone.pid, os.getpid()), "nobody can tell"


def test_where_there_is_no_sftp_server_it_says_so(setup: Path) -> None:
    changed = json.loads(setup.read_text())
    for none in ("", session.SFTP_OFF):
        changed["sftp_server"] = none
        setup.write_text(json.dumps(changed))
        answer = run(setup, session.SFTP_COMMAND)
        assert answer.returncode == 127
        assert b"SFTP is off" in answer.stderr


def test_without_a_session_of_its_own_it_makes_one(setup: Path) -> None:
    """So that hanging up can't reach the processes of whoever started it."""
    given = {**arguments(setup, "ps -o sid= -p $$; ps -o sid= -p $PPID"), "start_new_session": False}
    shown = subprocess.run(**given, timeout=30, check=True, capture_output=True).stdout.split()
    assert shown[0] == shown[1]
    assert int(shown[0]) != os.getsid(0)


def test_on_a_terminal_the_shell_takes_our_place(setup: Path) -> None:
    given = arguments(setup, None, TERM="xterm-odd", SSH_TTY="/dev/odd")
    child, terminal = pty.fork()
    if child == 0:
        os.execve(given["args"][0], given["args"], given["env"])
    os.write(terminal, b"echo $TERM-$SSH_TTY $$; exit 3\n")
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the terminal closed
        while data := os.read(terminal, 4096):
            shown += data
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert f"xterm-odd-/dev/odd {child}".encode() in shown
    assert os.waitstatus_to_exitcode(status) == 3


def test_what_of_sshds_environment_counts() -> None:
    given = {"HOME": "/home/alice", "PATH": "/conda/bin", "LANG": "C", "TERM": "dumb"}
    of_sshd = {
        "HOME": "/root",
        "PATH": "/bin",
        "LANG": "de_DE.UTF-8",
        "LC_ALL": "C",
        "TERM": "xterm",
        "COLORTERM": "truecolor",
        "SSH_AUTH_SOCK": "/tmp/agent",
        "SSH_ORIGINAL_COMMAND": "ls",
        "SHELL": "/bin/sh",
        "MAIL": "x",
        "JHSSH_SECRET": "x",
        "LD_PRELOAD": "x",
    }
    assert session.session_environment(given, of_sshd) == {
        "HOME": "/home/alice",
        "PATH": "/conda/bin",
        "LANG": "de_DE.UTF-8",
        "LC_ALL": "C",
        "TERM": "xterm",
        "COLORTERM": "truecolor",
        "SSH_AUTH_SOCK": "/tmp/agent",
    }


@pytest.mark.parametrize(
    ("ssh", "cookie"),
    [
        ({"DISPLAY": "localhost:10.0", "HOME": "/root"}, "/root/.Xauthority"),
        ({"DISPLAY": "localhost:10.0", "HOME": "/home/alice"}, None),
        ({"DISPLAY": "localhost:10.0", "HOME": "/root", "XAUTHORITY": "/tmp/cookie"}, "/tmp/cookie"),
        ({"HOME": "/root"}, None),
    ],
)
def test_x11_cookies_are_found_where_sshd_put_them(ssh: dict[str, str], cookie: str | None) -> None:
    assert session.session_environment({"HOME": "/home/alice"}, ssh).get("XAUTHORITY") == cookie


def test_it_starts_quickly_as_sshd_starts_it(setup: Path) -> None:
    given = {**arguments(setup, "exit 3"), "args": [sys.executable, "-IS", session.__file__, str(setup)]}
    taken = []
    for _ in range(5):
        began = time.monotonic()
        assert subprocess.run(**given, timeout=30, check=False).returncode == 3
        taken.append(time.monotonic() - began)
    assert min(taken) < 1

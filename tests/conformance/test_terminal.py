"""A shell with a terminal, as a person at the keyboard has it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from .client import Client, pipe
from .patterns import sha256, writer
from .waiting import end, processes, wait_for

IUTF8 = 0o40000  # termios(3), Linux; not in Python's termios module
PROMPT = "PROMPT> "


class Terminal:
    """ssh under a terminal of ours, at a prompt that can be told from the rest."""

    def __init__(self, client: Client, *options: str, rows: int = 40, columns: int = 100) -> None:
        argv = client.argv(None, *options)
        environment = {**client.environment, "TERM": "xterm-256color"}

        def with_utf8_erase() -> None:
            modes = termios.tcgetattr(0)
            modes[0] |= IUTF8
            modes[6][termios.VERASE] = b"\x08"
            termios.tcsetattr(0, termios.TCSANOW, modes)

        self.child = pexpect.spawn(
            argv[0], argv[1:], env=environment, dimensions=(rows, columns), timeout=60, echo=True, preexec_fn=with_utf8_erase
        )
        self.child.delaybeforesend = None
        self.child.sendline("PS1='PRO''MPT> '; PROMPT_COMMAND=; unset HISTFILE; bind 'set enable-bracketed-paste off'")
        self.child.expect_exact(PROMPT)

    def run(self, line: str) -> str:
        """What one line of input makes the shell write."""
        self.child.sendline(line)
        self.child.expect_exact(PROMPT)
        _, _, output = self.child.before.decode().partition("\n")
        return str(output).replace("\r\n", "\n")


@pytest.fixture
def open_terminal(client: Client) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(*options: str, **sizes: int) -> Terminal:
        opened.append(Terminal(client, *options, **sizes))
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.child.close(force=True)


def test_first_size_is_right(open_terminal: Callable[..., Terminal]) -> None:
    assert open_terminal(rows=33, columns=111).run("stty size") == "33 111\n"


def test_resize_reaches_what_runs_there(open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal()
    watcher = (
        "import os, signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH]); print('arm' + 'ed', flush=True);"
        "signal.sigwait([signal.SIGWINCH]); print(*os.get_terminal_size())"
    )
    terminal.child.sendline(f'{sys.executable} -c "{watcher}"')
    terminal.child.expect_exact("armed")
    terminal.child.setwinsize(50, 132)
    terminal.child.expect_exact("132 50")
    terminal.child.expect_exact(PROMPT)
    assert terminal.run("stty size") == "50 132\n"


def test_ctrl_c_interrupts_the_command_alone(client: Client, open_terminal: Callable[..., Terminal]) -> None:
    terminal, seconds = open_terminal(), client.seconds()
    terminal.child.sendline(f"sleep {seconds}")
    wait_for(lambda: processes("sleep", seconds), "the command runs")
    terminal.child.send("\x03")
    terminal.child.expect_exact(PROMPT)
    assert terminal.run("echo $?") == "130\n"
    assert not processes("sleep", seconds)


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"  # proc(5)


def test_ctrl_z_stops_and_fg_goes_on(client: Client, open_terminal: Callable[..., Terminal]) -> None:
    terminal, seconds = open_terminal(), client.seconds()
    terminal.child.sendline(f"sleep {seconds}")
    wait_for(lambda: processes("sleep", seconds), "the command runs")
    terminal.child.send("\x1a")
    terminal.child.expect_exact("Stopped")
    terminal.child.expect_exact(PROMPT)
    assert f"sleep {seconds}" in terminal.run("jobs")
    terminal.child.sendline("fg")
    terminal.child.expect_exact(f"sleep {seconds}")
    wait_for(lambda: not any(map(stopped, processes("sleep", seconds))), "it goes on")
    terminal.child.send("\x03")
    terminal.child.expect_exact(PROMPT)
    assert terminal.run("jobs") == ""


def test_utf8_both_ways(open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal()
    assert terminal.run("printf '%s' 'Grüße 日本 🦊' | od -An -tx1 | tr -d ' \\n'; echo") == "Grüße 日本 🦊".encode().hex() + "\n"
    assert terminal.run(r"printf '\360\237\246\212 \303\274\n'") == "🦊 ü\n"


def test_terminal_modes_are_the_users(open_terminal: Callable[..., Terminal]) -> None:
    modes = open_terminal().run("stty -a")
    assert re.search(r"(?<!-)\biutf8\b", modes)
    assert "erase = ^H" in modes


def test_controlling_terminal_and_its_variables(open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal()
    assert terminal.run("test $(tty) = $SSH_TTY && echo same") == "same\n"
    assert terminal.run("echo to the terminal > /dev/tty") == "to the terminal\n"
    assert terminal.run("echo $TERM") == "xterm-256color\n"
    assert terminal.run("ps -o sess= -p $$ | tr -d ' ' | grep -qx $$ && echo leader") == "leader\n"


def test_shell_is_that_of_the_jupyter_servers_terminals(client: Client, open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal()
    assert terminal.run("pwd -P") == f"{client.target.cwd.resolve()}\n"
    assert terminal.run("shopt -q login_shell && echo login") == "login\n"
    name, value = next((n, v) for n, v in client.target.environment.items() if n.startswith("JUPYTER"))
    assert terminal.run(f'echo "${name}"') == f"{value}\n"


def test_exit_status_of_the_shell(open_terminal: Callable[..., Terminal]) -> None:
    child = open_terminal().child
    child.sendline("exit 7")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 7


def test_end_of_input_at_the_keyboard_ends_the_shell(open_terminal: Callable[..., Terminal]) -> None:
    child = open_terminal().child
    child.send("\x04")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_background_job_does_not_hold_the_terminal(client: Client, open_terminal: Callable[..., Terminal]) -> None:
    child, seconds = open_terminal().child, client.seconds()
    child.sendline(f"nohup sleep {seconds} >/dev/null 2>&1 &")
    child.expect_exact(PROMPT)
    wait_for(lambda: processes("sleep", seconds), "the job runs")
    try:
        child.sendline("exit")
        child.expect(pexpect.EOF)
        assert processes("sleep", seconds)
    finally:
        end("sleep", seconds)


def test_command_with_a_terminal(client: Client) -> None:
    result = client.run("tty >/dev/null && echo terminal; exit 9", "-tt")
    assert (result.returncode, result.stdout) == (9, b"terminal\r\n")


def test_output_through_a_raw_terminal_is_whole(client: Client) -> None:
    size = 3_000_001
    running = client.start(f"stty raw -echo; {writer(size)}", "-tt", stdin=subprocess.DEVNULL)
    assert hashlib.sha256(pipe(running.stdout).read()).hexdigest() == sha256(size)
    assert running.wait(60) == 0


def test_pasted_text_larger_than_any_buffer_is_whole(client: Client) -> None:
    size = 500_000
    running = client.start(f"stty raw -echo; echo ready; head -c {size} | sha256sum", "-tt")
    assert pipe(running.stdout).readline() == b"ready\n"
    text = b"abcdefghi\n" * (size // 10)
    pipe(running.stdin).write(text)
    pipe(running.stdin).flush()
    assert pipe(running.stdout).readline().split()[0].decode() == hashlib.sha256(text).hexdigest()

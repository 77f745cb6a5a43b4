"""What every SSH session of a user server runs: a shell, a command or the sftp-server, in the Jupyter server's environment.

Started by sshd as its forced command, ``python -IS session.py session.json``: standard library only, and nothing of the package.
"""
# It runs once per session, and pathlib would cost it a third of its start:
# ruff: noqa: PTH118, PTH123, PTH208, S606

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import sys
from typing import Any, NoReturn

SFTP_COMMAND = "internal-sftp"
SFTP_OFF = "off"
"""in the place of the sftp-server's path"""
PR_SET_PDEATHSIG = 1  # prctl(2)
# Sent to us alone by the kernel when sshd's process for this session dies; a client can't send it (RFC 4254, section 6.10).
SSHD_DIED = signal.SIGRTMIN + 7
OF_THE_SSH_SESSION = re.compile(r"TERM|SSH_.*|DISPLAY|XAUTHORITY|LANG|LC_.*|COLORTERM|TERM_PROGRAM.*")
# Signals that a client may send: they go to the process group, so the command has them already, and we wait for what it does.
FROM_THE_CLIENT = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def session_environment(given: dict[str, str], ssh: dict[str, str]) -> dict[str, str]:
    """``given`` is the Jupyter server's; ``ssh`` is what sshd set for this session."""
    merged = {**given, **{name: value for name, value in ssh.items() if OF_THE_SSH_SESSION.fullmatch(name)}}
    merged.pop("SSH_ORIGINAL_COMMAND", None)
    forwards_x11 = "DISPLAY" in ssh and "XAUTHORITY" not in ssh
    if forwards_x11 and ssh.get("HOME") and ssh["HOME"] != merged.get("HOME"):
        # sshd has put the cookie into the home that the account has, which need not be the Jupyter server's.
        merged["XAUTHORITY"] = os.path.join(ssh["HOME"], ".Xauthority")
    return merged


def program(setup: dict[str, Any], command: str | None) -> list[str]:
    """The arguments of what is to run; empty if there is no such thing here."""
    shell: list[str] = setup["shell"]
    if command is None:
        return shell
    if command == SFTP_COMMAND:
        return [setup["sftp_server"]] if setup["sftp_server"] not in ("", SFTP_OFF) else []
    return [shell[0], "-c", command]


def change_folder(folder: str, environment: dict[str, str]) -> None:
    for candidate in (folder, environment.get("HOME", ""), "/"):
        try:
            os.chdir(candidate)
        except OSError:
            continue
        environment["PWD"] = candidate
        return


def execute(arguments: list[str], environment: dict[str, str]) -> NoReturn:
    for number in IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(arguments[0], arguments, environment)
    except OSError as error:
        os.write(2, f"{arguments[0]}: {error.strerror}\r\n".encode("utf-8", "surrogateescape"))
        os._exit(127)


def descends(process: int, ancestor: int) -> bool:
    """Is ``ancestor`` above ``process``? Where /proc does not tell (hidepid), perhaps: yes."""
    while process > 0:
        try:
            with open(f"/proc/{process}/stat", "rb") as file:
                process = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            return True
        if process == ancestor:
            return True
    return False


def signal_at_death_of_parent(number: int, parent: int) -> bool:
    """False if ``parent`` is dead already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    return os.getppid() == parent


def members() -> list[int]:
    """All processes that did not call setsid(2), since commands such as timeout(1) make process groups of their own.

    Where sshd gave us no session of our own, our process group is all that is surely ours.
    """
    own = os.getpid()
    belongs_to = os.getsid if os.getsid(0) == own else os.getpgid
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != own:
            try:
                if belongs_to(int(name)) == own:
                    found.append(int(name))
            except OSError:
                continue
    return found


def hang_up(*_: object) -> NoReturn:
    """As the kernel does to a terminal's session when its line drops: SIGHUP, and SIGCONT to those that are stopped."""
    for process in members():
        for number in (signal.SIGHUP, signal.SIGCONT):
            try:
                os.kill(process, number)
            except OSError:
                break
    os._exit(128 + signal.SIGHUP)


def attend(arguments: list[str], environment: dict[str, str], parent: int) -> NoReturn:
    """Runs a command that has no terminal, and ends as it does. Without us it would not notice that its client is gone."""
    if os.getsid(0) != os.getpid():
        with contextlib.suppress(OSError):  # refused to the leader of a process group: then the group is what we have
            os.setsid()
    ready, started = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(started)
        if not os.read(ready, 1):  # until the handlers stand; end of file: who should attend to us was killed before
            os._exit(128 + signal.SIGHUP)
        os.close(ready)
        execute(arguments, environment)
    for number in FROM_THE_CLIENT:
        signal.signal(number, lambda *_: None)
    signal.signal(SSHD_DIED, hang_up)
    alive = signal_at_death_of_parent(SSHD_DIED, parent)
    if not alive:
        os.kill(child, signal.SIGKILL)  # it has not begun
        os._exit(128 + signal.SIGHUP)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # else the command's closing them would not be seen by sshd
        os.dup2(nothing, descriptor)
    os.write(started, b"!")
    os.close(started)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        deadly = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if deadly != signal.SIGKILL:
            signal.signal(deadly, signal.SIG_DFL)
        os.kill(os.getpid(), deadly)
    os._exit(os.WEXITSTATUS(status))


def main(setup_path: str) -> NoReturn:
    parent = os.getppid()
    with open(setup_path, encoding="utf-8", errors="surrogateescape") as file:
        setup = json.load(file)
    command = os.environ.get("SSH_ORIGINAL_COMMAND")
    arguments = program(setup, command)
    if not arguments:
        os.write(2, b"SFTP is off on this server.\r\n")
        os._exit(127)
    environment = session_environment(setup["env"], dict(os.environ))
    change_folder(setup["cwd"], environment)
    if not descends(parent, setup["server"]):  # sshd is gone already: the parent is init or another reaper of orphans
        os._exit(128 + signal.SIGHUP)
    if command == SFTP_COMMAND:
        if not signal_at_death_of_parent(signal.SIGHUP, parent):
            os._exit(128 + signal.SIGHUP)
        execute(arguments, environment)
    if os.isatty(0):
        execute(arguments, environment)
    attend(arguments, environment, parent)


if __name__ == "__main__":
    main(sys.argv[1])

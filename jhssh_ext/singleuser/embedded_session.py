"""One SSH session of the embedded server: session.py as a process of its own, on pipes or on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import asyncssh
from asyncssh.channel import SSHChannel
from asyncssh.stream import SSHServerStreamSession

from . import session as session_program
from .embedded_streams import Inlet, Outlet, make_pipe
from .embedded_terminal import open_terminal, set_size, take_as_controlling_terminal

if TYPE_CHECKING:
    from .embedded_connection import Channel

log = logging.getLogger(__name__)

ACCEPTED_ENVIRONMENT = re.compile(r"LANG|LC_\w+|COLORTERM|TERM_PROGRAM\w*")
"""as AcceptEnv in sshd_config.py"""
MAX_VALUE = 1024
MAX_ENVIRONMENT = 64
KEPT_ENVIRONMENT = ("PATH", "HOME", "LD_LIBRARY_PATH")
"""of ours, for starting session.py: the rest of a session's environment is its business"""
SIGNALS = ("ABRT", "ALRM", "FPE", "HUP", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2")
"""RFC 4254, section 6.10: what a client may send, and what is told without a suffix"""

PROGRAM = str(Path(session_program.__file__).resolve())
SFTP_VERSION = 3
"""what OpenSSH's sftp-server speaks"""

_running: set[Session] = set()


def x11_authority(runtime: Path) -> Path:
    """Where forwarded displays have their cookies: a file of ours, so that none is left in the user's own."""
    return runtime / "Xauthority"


def hang_up_all() -> None:
    """Ends whatever runs: for when the server itself ends."""
    for each in list(_running):
        each.hang_up()


async def wait_for_all() -> None:
    """Until no session runs any more."""
    tasks = [each.task for each in _running if each.task is not None]
    if tasks:
        await asyncio.wait(tasks)


def _sftp(channel: SSHChannel[bytes]) -> asyncssh.SFTPServer:
    assert isinstance(channel, asyncssh.SSHServerChannel)
    return asyncssh.SFTPServer(channel)


class Session(asyncssh.SSHServerSession[bytes]):
    """Callbacks of asyncssh on one side, a process on the other."""

    def __init__(self, runtime: Path, *, sftp_server: bool) -> None:
        self._runtime, self._sftp_server = runtime, sftp_server
        self._command: str | None = None
        self._terminal: tuple[str, Mapping[int, int]] | None = None
        self._master = -1
        self._process: asyncio.subprocess.Process | None = None
        self._inlet: Inlet | None = None
        self._early = bytearray()
        self._eof = False
        self._outlets: list[Outlet] = []
        self._open_outlets = 0
        self._closed = False
        self.task: asyncio.Task[None] | None = None

    # What the client asks for, in the order in which it may.

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = cast("Channel", chan)

    def pty_requested(self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Mapping[int, int]) -> bool:
        self._terminal = (term_type, term_modes)
        return "\0" not in term_type

    def shell_requested(self) -> bool:
        return True

    def exec_requested(self, command: str) -> bool:
        self._command = command
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        if subsystem != "sftp":
            return False
        if self._sftp_server:
            self._command = session_program.SFTP_COMMAND
        else:
            self._channel.hand_over(SSHServerStreamSession(None, _sftp, SFTP_VERSION))
        return True

    def session_started(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self._run())

    # What comes while it runs.

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if self._inlet is None:
            self._early += data  # sent along with the request: at most a window full
        else:
            self._inlet.write(data)

    def eof_received(self) -> bool:
        self._eof = True
        if self._inlet is not None:
            self._inlet.write_eof()
        return True  # output goes on

    def pause_writing(self) -> None:
        for outlet in self._outlets:
            outlet.pause()

    def resume_writing(self) -> None:
        for outlet in self._outlets:
            outlet.resume()

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        if self._master >= 0:
            set_size(self._master, width, height, pixwidth, pixheight)

    def signal_received(self, signal: str) -> None:
        if signal in SIGNALS:
            self._kill_group(f"SIG{signal}")

    def break_received(self, msec: int) -> bool:
        if self._master < 0:
            return False
        with contextlib.suppress(termios.error):
            termios.tcsendbreak(self._master, 0)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self.hang_up()
        self._close_streams()

    def hang_up(self) -> None:
        """As when a line drops: what is attached is told, what called setsid(2) or ignores SIGHUP goes on."""
        if self._process is None or self._process.returncode is not None:
            return
        if self._master < 0:
            with contextlib.suppress(ProcessLookupError):
                # session.py hangs up those of its session that are in other process groups, too.
                os.kill(self._process.pid, session_program.SSHD_DIED)
        for name in ("SIGHUP", "SIGCONT"):
            self._kill_group(name)

    # The process.

    async def _run(self) -> None:
        if self._channel.is_closing():
            return
        self._channel.pause_reading()  # until there is somewhere to put it
        _running.add(self)
        try:
            await self._start()
            if self._closed:  # while it was being started
                self.hang_up()
                self._close_streams()
            else:
                self._begin_reading()
            assert self._process is not None
            await self._process.wait()
            self._finish()
        except OSError as error:
            log.warning("no session can be started: %s", error.strerror)
            with contextlib.suppress(BrokenPipeError):
                self._channel.write(f"No session can be started: {error.strerror}\r\n".encode(), asyncssh.EXTENDED_DATA_STDERR)
            self._channel.exit(255)
        finally:
            _running.discard(self)

    def _begin_reading(self) -> None:
        assert self._inlet is not None
        early, self._early = bytes(self._early), bytearray()
        self._inlet.write(early)
        if self._eof:
            self._inlet.write_eof()
        if not self._inlet.full:
            self._channel.resume_reading()

    async def _start(self) -> None:
        arguments = [sys.executable, "-IS", PROGRAM, str(self._runtime / "session.json")]
        environment = self._environment()
        options: dict[str, Any] = {"env": environment, "start_new_session": True, "cwd": "/"}
        if self._terminal is not None:
            term, modes = self._terminal
            # The size may have changed since it was asked for.
            self._master, slave, path = open_terminal(self._channel.get_terminal_size(), modes)
            environment |= {"SSH_TTY": path, "TERM": term}
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *arguments, stdin=slave, stdout=slave, stderr=slave, preexec_fn=take_as_controlling_terminal, **options
                )
            except BaseException:
                os.close(self._master)
                self._master = -1
                raise
            finally:
                os.close(slave)
            self._inlet = Inlet(self._master, self._channel, owned=False)
            self._outlets = [Outlet(os.dup(self._master), self._channel, None, self._outlet_ended)]
        else:
            pipes = [make_pipe() for _ in range(3)]
            theirs = (pipes[0][0], pipes[1][1], pipes[2][1])
            ours = (pipes[0][1], pipes[1][0], pipes[2][0])
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *arguments, stdin=theirs[0], stdout=theirs[1], stderr=theirs[2], **options
                )
            except BaseException:
                for descriptor in ours:
                    os.close(descriptor)
                raise
            finally:
                for descriptor in theirs:
                    os.close(descriptor)
            self._inlet = Inlet(ours[0], self._channel, owned=True)
            self._outlets = [
                Outlet(ours[1], self._channel, None, self._outlet_ended),
                Outlet(ours[2], self._channel, asyncssh.EXTENDED_DATA_STDERR, self._outlet_ended),
            ]
        self._open_outlets = len(self._outlets)

    def _environment(self) -> dict[str, str]:
        """As sshd sets it (sshd(8), "Login process", and ssh(1), "Environment")."""
        channel = self._channel
        found = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
        sent = {name: value for name, value in channel.get_environment().items() if ACCEPTED_ENVIRONMENT.fullmatch(name)}
        for name, value in list(sent.items())[:MAX_ENVIRONMENT]:
            if len(value) <= MAX_VALUE and "\0" not in value:
                found[name] = value
        client, client_port, server, server_port = addresses(channel)
        found["SSH_CLIENT"] = f"{client} {client_port} {server_port}"
        found["SSH_CONNECTION"] = f"{client} {client_port} {server} {server_port}"
        if self._command is not None:
            found["SSH_ORIGINAL_COMMAND"] = self._command
        if agent := channel.get_agent_path():
            found["SSH_AUTH_SOCK"] = agent
        if display := channel.get_x11_display():
            found |= {"DISPLAY": display, "XAUTHORITY": str(x11_authority(self._runtime))}
        return found

    # The end.

    @property
    def only_exit_is_missing(self) -> bool:
        """All output was sent, and the process is about to end, or takes its time."""
        return self._process is not None and not self._open_outlets and not self._closed

    def _outlet_ended(self) -> None:
        self._open_outlets -= 1
        if self._open_outlets == 0 and not self._closed:
            self._channel.write_eof()
        self._finish()

    def _finish(self) -> None:
        """Once the process has ended and all that it wrote is sent."""
        if self._process is None or self._process.returncode is None or self._open_outlets or self._closed:
            return
        self._closed = True
        code = self._process.returncode
        if code >= 0:
            self._channel.exit(code)
        else:
            self._channel.exit_with_signal(_signal_name(-code))
        self._close_streams()

    def _close_streams(self) -> None:
        if self._inlet is not None:
            self._inlet.close()
        for outlet in self._outlets:
            outlet.close()
        if self._master >= 0:  # now the kernel hangs up what is attached
            os.close(self._master)
            self._master = -1

    def _kill_group(self, name: str) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.Signals[name])


def addresses(of: Any) -> tuple[str, int, str, int]:
    """Client and server, address and port, of a connection or a channel; as OpenSSH says it where there are none: unix(7)."""
    client, server = (of.get_extra_info(name) or ("UNKNOWN", 65535) for name in ("peername", "sockname"))
    return client[0], client[1], server[0], server[1]


def _signal_name(number: int) -> str:
    """Names that RFC 4254 does not list have the suffix of whoever made them up, as in OpenSSH's session.c."""
    try:
        name = signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        name = str(number)
    return name if name in SIGNALS else f"{name}@openssh.com"

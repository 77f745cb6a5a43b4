"""The sshd of this server: holds its port, starts the kind that can run here, starts it anew when it dies, and says how it is."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import KeyRefused
from ..identifiers import printable
from ..payloads import ServerEnvironment
from . import openssh, openssh_listener
from .environment import public_host_key
from .runtime_dir import RuntimeDir
from .session import SFTP_OFF

AUTO, OPENSSH, ASYNCSSH = "auto", "openssh", "asyncssh"
IMPLEMENTATIONS = (AUTO, OPENSSH, ASYNCSSH)
BACKLOG = 128
STOP_TIMEOUT = 8.0
STEADY = 30.0
"""seconds after which a process counts as one that runs"""

_LISTENER = str(Path(openssh_listener.__file__).resolve())


@dataclass(frozen=True)
class SessionSetup:
    """What session.py reads."""

    env: dict[str, str]
    cwd: str
    shell: list[str]
    sftp_server: str = ""
    """its path; empty: asyncssh's own serves; SFTP_OFF: none"""
    server: int = 0
    """id of the process above every sshd"""


class Failed(Exception):
    """Why sshd does not run: a sentence for the status."""


class SSHD:
    """Supervises one child process that accepts on a socket which this process binds and keeps."""

    own_keys = False
    """do the user's own keys get in, in place of the gateway's certificates (own_sshd.py)"""

    def __init__(
        self,
        environment: ServerEnvironment,
        setup: SessionSetup,
        *,
        implementation: str = AUTO,
        sftp: bool = True,
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
        environ: Mapping[str, str] | None = None,
        first_delay: float = 1.0,
        longest_delay: float = 30.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._environment, self._setup, self._sftp, self._log = environment, setup, sftp, log
        self._wanted = implementation
        self._environ = os.environ if environ is None else environ
        self._delays = (first_delay, longest_delay)
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._implementation = ""
        self._state = "stopped" if environment.enabled else "off"
        self._reason = environment.disabled_because
        self._last_line = ""
        self._sessions = 0
        self.changed = asyncio.Condition()
        """notified when the state changes"""

    def status(self) -> dict[str, Any]:
        """The "sshd" of GET /jhssh/status."""
        found: dict[str, Any] = {
            "implementation": self._implementation,
            "state": self._state,
            "host_keys": [],
            "sessions": self._sessions,
        }
        if self._reason:
            found["reason"] = self._reason
        if self._environment.enabled:
            with contextlib.suppress(ValueError, KeyRefused):
                found["host_keys"] = [public_host_key(self._environment.host_key).line]
        return found

    def start(self) -> None:
        """Returns at once; never raises."""
        if self._environment.enabled and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="jhssh sshd")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            await self._set("stopped")

    async def _run(self) -> None:
        """Each failure, of whatever kind, is told in the status and tried again, ever more slowly."""
        delay, told = self._delays[0], ""
        with contextlib.ExitStack() as stack:
            listening: socket.socket | None = None
            while True:
                began = time.monotonic()
                unexpected: Exception | None = None
                try:
                    if listening is None:
                        await self._set("starting")
                        listening = stack.enter_context(self._listen())
                    await self._serve(listening)
                except Failed as failed:
                    await self._set("failed", str(failed))
                except OSError as error:
                    await self._set("failed", f"sshd can't be started: {error.strerror or error}.")
                except Exception as error:  # noqa: BLE001 - no fault of ours may leave a server without sshd
                    unexpected = error
                    await self._set("failed", f"sshd can't be started: {type(error).__name__}. The server's log says more.")
                level = logging.DEBUG if self._reason == told else logging.WARNING
                self._log.log(level, "jhssh: %s Tried again in %.0f s.", self._reason, delay, exc_info=unexpected)
                told = self._reason
                if time.monotonic() - began > STEADY:
                    delay = self._delays[0]
                await self._sleep(delay)
                delay = min(delay * 2, self._delays[1])

    def _listen(self) -> socket.socket:
        """Kept while sshd is started anew, so that nobody else on the machine can take the port in between."""
        address, port = self._environment.listen_address, self._environment.listen_port
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((address, port))
            bound.listen(BACKLOG)
        except OSError as error:
            bound.close()
            raise Failed(f"Port {port} on {address} can't be had for sshd: {error.strerror}.") from None
        return bound

    async def _serve(self, listening: socket.socket) -> None:
        """Until the process dies; always raises."""
        runtime = RuntimeDir(self._environ)
        try:
            arguments = await self._prepare(runtime, listening.fileno())
            self._process = process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.PIPE,  # closes when this process dies, however it dies
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=[listening.fileno()],
                cwd=runtime.path,  # python -m looks for modules there: not in the user's home
                start_new_session=True,  # a Ctrl-C in the terminal of the Jupyter server is not for it
            )
            try:
                await self._set("running", self._reason)
                await asyncio.gather(self._read_log(process), self._read_sessions(process))
                raise Failed(f"sshd ended with status {await process.wait()}: {self._last_line or 'it said nothing'}.")
            finally:
                await _end(process)
                self._process = None
                self._sessions = 0
        finally:
            self._leave(runtime)

    async def _admit(self, runtime: RuntimeDir) -> None:
        """Writes who gets in, and the host key."""
        try:
            public_host_key(self._environment.host_key)
        except (ValueError, KeyRefused) as error:
            raise Failed(f"The Hub gave this server no host key that sshd can use: {error}.") from None
        runtime.write("host_key", self._environment.host_key.strip() + "\n")
        runtime.write("user_ca_keys", self._environment.user_ca_keys.strip() + "\n")
        runtime.write("principals", self._environment.principal + "\n")

    def _leave(self, runtime: RuntimeDir) -> None:
        runtime.remove()

    async def _prepare(self, runtime: RuntimeDir, descriptor: int) -> list[str]:
        """Writes the files and picks the kind. The arguments of the process."""
        await self._admit(runtime)
        self._reason = ""
        if self._wanted in (AUTO, OPENSSH):
            try:
                found = await asyncio.to_thread(openssh.find)
                await asyncio.to_thread(openssh.prepare, found, runtime, sftp=self._sftp, own_keys=self.own_keys)
            except openssh.Unusable as unusable:
                if self._wanted == OPENSSH:
                    raise Failed(str(unusable)) from None
                self._reason = str(unusable)
            else:
                self._implementation = OPENSSH
                self._write_session(runtime, found.sftp_server)
                return [sys.executable, "-IS", _LISTENER, "--fd", str(descriptor), str(runtime.path)]
        if no_asyncssh():
            raise Failed(f"{self._reason} {no_asyncssh()}".strip())
        self._implementation = ASYNCSSH
        self._write_session(runtime, openssh.find_sftp_server())
        module = f"{__package__}.embedded_server"
        return [sys.executable, "-m", module, "--fd", str(descriptor), str(runtime.path)]

    def _write_session(self, runtime: RuntimeDir, sftp_server: str) -> None:
        setup = replace(self._setup, sftp_server=sftp_server if self._sftp else SFTP_OFF, server=os.getpid())
        runtime.write("session.json", json.dumps(asdict(setup)))

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        """Its standard error, line by line, until it closes; of interest only when a fault is looked for."""
        assert process.stderr is not None
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:  # longer than the buffer: dropped
                continue
            if not line:
                return
            self._last_line = printable(line.decode("utf-8", "replace").strip(), 500)
            self._log.debug("jhssh: %s", self._last_line)

    async def _read_sessions(self, process: asyncio.subprocess.Process) -> None:
        """How many sessions are open: a line at each change."""
        assert process.stdout is not None
        async for line in process.stdout:
            self._sessions = int(line)

    async def _set(self, state: str, reason: str = "") -> None:
        async with self.changed:
            self._state, self._reason = state, reason
            self.changed.notify_all()


def why_unusable(implementation: str) -> str:
    """Why no sshd of this kind can run here, as far as can be seen without starting one; empty if one can. Blocks."""
    reasons = []
    if implementation in (AUTO, OPENSSH):
        try:
            openssh.find()
        except openssh.Unusable as unusable:
            reasons.append(str(unusable))
        else:
            return ""
    if implementation in (AUTO, ASYNCSSH):
        if not no_asyncssh():
            return ""
        reasons.append(no_asyncssh())
    return " ".join(reasons)


def no_asyncssh() -> str:
    """Empty if there is one."""
    return "" if importlib.util.find_spec("asyncssh") else "asyncssh, which could serve in its place, is not installed."


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

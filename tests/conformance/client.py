"""The stock OpenSSH client, aimed at one target. Whatever a test starts here is ended when the test is."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import pytest

from .targets import Target
from .waiting import wait_for


class Client:
    """Makes command lines and processes for ``ssh`` and those that call it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name.startswith("SSH_ASKPASS")  # how a way in without keys gets its password
            or not name.startswith(("SSH_", "LC_", "LANG", "DISPLAY", "XAUTH"))
        }
        self.folder = Path(tempfile.mkdtemp(prefix="jh-"))
        """short, for Unix sockets: their paths have at most 107 bytes (unix(7))"""
        self.there = Path(tempfile.mkdtemp(prefix="jh-", dir=target.sockets)) if target.sockets else self.folder
        """the same on the user server, for those that are forwarded"""
        self._started: list[subprocess.Popen[bytes]] = []
        self._numbers = itertools.count(os.getpid() * 1000)

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    try:
                        pipe.close()
                    except BrokenPipeError:
                        continue
        for folder in {self.folder, self.there}:
            shutil.rmtree(folder, ignore_errors=True)

    def argv(self, command: str | None = None, *options: str) -> list[str]:
        """``ssh [options] host [command]``"""
        return ["ssh", "-F", str(self.target.ssh_config), *options, self.target.host, *([] if command is None else [command])]

    def run(self, command: str | None, *options: str, input: bytes = b"", timeout: float = 60, **more: Any) -> Result:
        """Run ssh to its end."""
        return self.call(*self.argv(command, *options), input=input, timeout=timeout, **more)

    def call(
        self, *argv: str, input: bytes = b"", timeout: float = 60, env: Mapping[str, str] | None = None, **more: Any
    ) -> Result:
        """Run any program to its end."""
        return subprocess.run(
            argv, input=input, capture_output=True, timeout=timeout, env={**self.environment, **(env or {})}, **more
        )

    def output(self, command: str, *options: str, input: bytes = b"", timeout: float = 60) -> str:
        """What a command that must succeed writes."""
        result = self.run(command, *options, input=input, timeout=timeout)
        assert result.returncode == 0, result.stderr.decode(errors="replace")
        return result.stdout.decode()

    def start(self, command: str | None, *options: str, env: Mapping[str, str] | None = None, **more: Any) -> Running:
        """Start ssh, all three streams being pipes."""
        return self.spawn(*self.argv(command, *options), env=env, **more)

    def spawn(self, *argv: str, env: Mapping[str, str] | None = None, **more: Any) -> Running:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        process = subprocess.Popen(argv, env={**self.environment, **(env or {})}, **pipes)
        self._started.append(process)
        return process

    def seconds(self) -> str:
        """An argument for ``sleep`` that no other process has."""
        return f"86{next(self._numbers)}"

    def name(self) -> str:
        return uuid.uuid4().hex[:12]

    def master(self) -> str:
        """The path of a ControlMaster's socket, with the master running behind it."""
        path = str(self.folder / "master")
        self.start(None, "-M", "-N", "-S", path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: self.run(None, "-S", path, "-O", "check").returncode == 0, "the ControlMaster is up")
        return path


Result = subprocess.CompletedProcess[bytes]
Running = subprocess.Popen[bytes]


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip, saying so, where a program that the test itself calls is not installed."""
    missing = [name for name in programs if not shutil.which(name)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")

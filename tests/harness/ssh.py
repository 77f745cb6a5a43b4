"""The stock OpenSSH client and its companions, each with an ssh_config of its own and nothing of the tests' user.

client = SSHClient(folder, port=hub.gateway.ssh_port, host_key=hub.gateway.host_key, user="alice", key=make_key(folder / "id"))
client.run("uname -a").stdout
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pexpect

from .processes import MARK

HOST = "jhssh"
"""alias in the ssh_config: what stands in scp, rsync and git addresses"""


@dataclass(frozen=True)
class KeyPair:
    private: Path

    @property
    def public(self) -> str:
        """The .pub line."""
        return self.private.with_name(self.private.name + ".pub").read_text().strip()


def make_key(path: Path, kind: str = "ed25519", *, bits: int | None = None) -> KeyPair:
    """A new key pair without passphrase, made by ssh-keygen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = ["-b", str(bits)] if bits else []
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", f"{path.name}@test", "-f", str(path)],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    return KeyPair(path)


def _quoted(value: str) -> str:
    """An argument of ssh_config(5)."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


class SSHClient:
    """One way to log in: as ``user``, with a key or with ``password``. ``options`` are lines of ssh_config(5).

    ``browser``: where the key, if any, does not open the server, by approval in the browser.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        host_key: str,
        user: str,
        key: KeyPair | None = None,
        password: str | None = None,
        browser: bool = False,
        options: Sequence[str] = (),
        mark: str = "",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.user = user
        self.port = port
        self.config = folder / "ssh_config"
        known_hosts = folder / "known_hosts"
        known_hosts.write_text(f"[127.0.0.1]:{port} {host_key}\n")
        lines = [
            f"Host {HOST}",
            *options,
            "HostName 127.0.0.1",
            f"Port {port}",
            f"User {_quoted(user)}",
            f"UserKnownHostsFile {_quoted(str(known_hosts))}",
            "GlobalKnownHostsFile /dev/null",
            "StrictHostKeyChecking yes",
            "UpdateHostKeys no",
            "IdentitiesOnly yes",
            "IdentityAgent none",
            "ControlMaster no",
            "ConnectTimeout 60",
            "LogLevel INFO",
        ]
        lines.append(f"IdentityFile {_quoted(str(key.private))}" if key else "IdentityFile none")
        self.environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("SSH_", "COVERAGE_", "JUPYTERHUB_", "DISPLAY"))
        }
        if mark:
            self.environment[MARK] = mark
        if browser:
            lines += ["PreferredAuthentications publickey,keyboard-interactive"]
        elif password is None:
            lines += ["BatchMode yes", "PreferredAuthentications publickey"]
        else:
            lines += ["PreferredAuthentications password", "NumberOfPasswordPrompts 1", "PubkeyAuthentication no"]
            secret = folder / "password"
            secret.write_text(password)
            askpass = folder / "askpass"
            askpass.write_text(f"#!/bin/sh\nexec cat {shlex.quote(str(secret))}\n")
            askpass.chmod(0o700)
            self.environment |= {"SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}
        self.config.write_text("\n".join(lines) + "\n")

    @property
    def ssh_command(self) -> list[str]:
        return ["ssh", "-F", str(self.config)]

    def call(
        self, command: Sequence[str], *, input: bytes | None = None, timeout: float = 90, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs any command with this client's environment, stdin closed unless ``input``; does not check the exit status."""
        stdin = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            list(command),
            capture_output=True,
            timeout=timeout,
            env=self.environment,
            cwd=cwd or self.folder,
            check=False,
            **stdin,
        )

    def run(
        self, command: str = "", *, input: bytes | None = None, options: Sequence[str] = (), timeout: float = 90
    ) -> subprocess.CompletedProcess[bytes]:
        """``ssh [options] jhssh [command]``."""
        return self.call([*self.ssh_command, *options, HOST, *([command] if command else [])], input=input, timeout=timeout)

    def popen(self, command: str = "", *, options: Sequence[str] = (), **keywords: object) -> subprocess.Popen[bytes]:
        """The same as a child process; the test ends it. stdin, stdout and stderr are pipes unless said otherwise."""
        pipes: dict[str, object] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **keywords}
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            [*self.ssh_command, *options, HOST, *([command] if command else [])], env=self.environment, cwd=self.folder, **pipes
        )

    def terminal(
        self, command: str = "", *, options: Sequence[str] = ("-tt",), rows: int = 24, columns: int = 80
    ) -> pexpect.spawn[str]:
        """``ssh -tt`` on a terminal of its own; close it with ``.close(force=True)``."""
        arguments = ["-F", str(self.config), *options, HOST, *([command] if command else [])]
        environment = {**self.environment, "TERM": "xterm"}
        return pexpect.spawn(
            "ssh", arguments, env=environment, dimensions=(rows, columns), encoding="utf-8", timeout=30, cwd=str(self.folder)
        )

    def scp(self, *arguments: str, timeout: float = 90) -> subprocess.CompletedProcess[bytes]:
        """``scp -F config arguments…``; the far side is ``jhssh:path``."""
        return self.call(["scp", "-F", str(self.config), *arguments], timeout=timeout)

    def sftp(self, batch: str, timeout: float = 90) -> subprocess.CompletedProcess[bytes]:
        """``sftp -b -`` with the given commands."""
        return self.call(["sftp", "-F", str(self.config), "-b", "-", HOST], input=batch.encode(), timeout=timeout)

    def rsync(self, *arguments: str, timeout: float = 90) -> subprocess.CompletedProcess[bytes]:
        return self.call(["rsync", "-e", shlex.join(self.ssh_command), *arguments], timeout=timeout)

    def git(self, *arguments: str, cwd: Path | None = None, timeout: float = 90) -> subprocess.CompletedProcess[bytes]:
        """``git`` whose remotes ``jhssh:path`` go through this client, without anyone's configuration."""
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "init.defaultBranch=main"]
        command = [
            "env", f"GIT_SSH_COMMAND={shlex.join(self.ssh_command)}", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
            "git", *identity, *arguments,
        ]  # fmt: skip
        return self.call(command, cwd=cwd, timeout=timeout)

    def forward(self, *options: str) -> subprocess.Popen[bytes]:
        """``ssh -N -o ExitOnForwardFailure=yes options…`` as a child process; wait for the far side yourself."""
        return self.popen(options=["-N", "-o", "ExitOnForwardFailure=yes", *options], stdin=subprocess.DEVNULL)

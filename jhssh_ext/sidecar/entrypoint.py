"""What the sidecar's container runs: writes sshd's files, then gives way to a small program that keeps sshd up.

An idle Python would be more than half of what the sidecar costs, and has the host key in its environment.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..sshd_config import SSHDConfig, UnsafeValue, sshd_config

SSHD = "/usr/sbin/sshd"
PYTHON = "/usr/bin/python3"
SHELL = "/bin/dash"
"""of the account: unlike bash it reads no file of the user's for a command (bash under SSH_CLIENT would)"""
RUN = Path("/run/jhssh/run")
"""where the notebook container has the agent's socket"""
TMP = "/run/jhssh/tmp"
"""what our /tmp is called in the notebook container"""


class Unusable(Exception):
    """Why sshd can't be set up: a sentence for the admin, who finds it in the container's log."""


@dataclass(frozen=True)
class Paths:
    """Of the image and the pod; others in tests."""

    state: Path = Path("/run/sidecar/sshd")
    """in a volume of this container alone; /etc/passwd is a link to ``passwd`` in it"""
    home: Path = Path("/opt/jhssh/home")
    """of the account: empty, and not the user's"""
    programs: Path = Path("/opt/jhssh/bin")
    python: str = PYTHON
    agent_socket: Path = RUN / "agent.sock"
    tmp: str = TMP


def prepare(environ: Mapping[str, str], paths: Paths) -> list[str]:
    """Writes all files; the command that keeps sshd up. Raises Unusable, OSError."""
    if os.getuid() == 0:
        raise Unusable("The sidecar must run as the user of the notebook container, who must not be root: set KubeSpawner.uid.")
    account = environ.get("JHSSH_ACCOUNT") or "jovyan"
    paths.state.mkdir(mode=0o700, exist_ok=True)
    paths.state.chmod(0o700)
    x11 = paths.state / "x11"
    x11.mkdir(mode=0o700, exist_ok=True)
    _write(paths, "passwd", f"{account}:x:{os.getuid()}:{os.getgid()}::{paths.home}:{SHELL}\n", 0o644)
    _write(paths, "host_key", _wanted(environ, "JHSSH_HOST_KEY") + "\n")
    _write(paths, "user_ca_keys", _wanted(environ, "JHSSH_USER_CA_KEYS") + "\n")
    principal = _wanted(environ, "JHSSH_PRINCIPAL")
    if not re.fullmatch("[0-9a-f]{64}", principal):
        raise Unusable("JHSSH_PRINCIPAL is no opaque id.")
    _write(paths, "principals", principal + "\n")
    xauth = paths.state / "xauth"
    xauth.unlink(missing_ok=True)
    xauth.symlink_to(paths.programs / "xauth")
    enter = Path(__file__).with_name("enter.py")
    compiled = enter.with_suffix(".pyc")
    command = [paths.python, "-IS", str(compiled if compiled.exists() else enter), str(paths.agent_socket), paths.tmp, str(x11)]
    try:
        text = sshd_config(
            SSHDConfig(
                host_key=str(paths.state / "host_key"),
                user_ca_keys=str(paths.state / "user_ca_keys"),
                principals=str(paths.state / "principals"),
                forced_command="exec " + shlex.join(command),
                account=account,
                version=_version(),
                xauth=str(xauth),
            )
        )
    except UnsafeValue as error:
        raise Unusable(f"{error}.") from None
    config = _write(paths, "sshd_config", text)
    # All connections come from the gateway, which has its own bounds for strangers. Of sessions the agent has fewer, and says so.
    listen = ["-p", str(_port(environ)), "-o", "MaxStartups=100", "-o", "MaxSessions=120"]
    if environ.get("JHSSH_LISTEN_ADDRESS"):
        listen += ["-o", f"ListenAddress={environ['JHSSH_LISTEN_ADDRESS']}"]
    checked = subprocess.run([SSHD, "-t", "-f", config, *listen], capture_output=True, check=False)
    if checked.returncode != 0:
        raise Unusable(f"sshd refuses its setup: {checked.stderr.decode('utf-8', 'replace').strip()}")
    # A client may have sshd remove sockets (StreamLocalBindUnlink), which must not reach these files.
    paths.state.chmod(0o500)
    return [SHELL, str(paths.programs / "supervise"), SSHD, "-D", "-e", "-f", str(config), *listen]


def _wanted(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "").strip()
    if not value:
        raise Unusable(f"{name} is not set.")
    return value


def _port(environ: Mapping[str, str]) -> int:
    text = environ.get("JHSSH_LISTEN_PORT") or "2222"
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise Unusable("JHSSH_LISTEN_PORT is no TCP port.")
    return int(text)


def _version() -> tuple[int, int]:
    shown = subprocess.run([SSHD, "-V"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    matched = re.search(rb"OpenSSH_(\d+)\.(\d+)", shown.stdout)
    if matched is None:
        raise Unusable(f"{SSHD} is not OpenSSH's sshd.")
    return int(matched[1]), int(matched[2])


def _write(paths: Paths, name: str, text: str, mode: int = 0o600) -> Path:
    path = paths.state / name
    path.unlink(missing_ok=True)  # the volume outlives the container
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def main(paths: Paths | None = None) -> None:
    os.umask(0o022)
    try:
        command = prepare(os.environ, paths or Paths())
    except (Unusable, OSError) as error:
        sys.stderr.write(f"jhssh sidecar: {error}\n")
        raise SystemExit(1) from None
    os.execve(command[0], command, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})  # noqa: S606 - and nothing of our environment

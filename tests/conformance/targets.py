"""What the table is run against: an ssh_config file and an alias in it. Nothing else of what is behind may be known to a test."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jhssh_ext

from .waiting import wait_for

PRINCIPAL = "0123456789abcdef" * 4


@dataclass(frozen=True)
class Target:
    """One way in."""

    name: str
    ssh_config: Path
    host: str
    """the alias in ``ssh_config``"""
    home: Path
    """the user's home, seen from here"""
    cwd: Path
    """where the Jupyter server runs"""
    environment: dict[str, str] = field(default_factory=dict)
    """what the Jupyter server's environment holds, and so every session's"""
    shell: str = "/bin/bash"
    """the shell of the Jupyter server's terminals"""
    memory: Callable[[], int] | None = None
    """bytes resident in the long-lived processes of this way in, if they can be told apart from the test's own"""


def resident(*pids: int) -> int:
    """Bytes resident in these processes and all their descendants that are ours (proc(5), statm)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    todo, total = list(pids), 0
    while todo:
        pid = todo.pop()
        todo += children.get(pid, [])
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        except OSError:
            continue
    return total


def keygen(*arguments: object) -> None:
    subprocess.run(["ssh-keygen", "-q", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL)


@dataclass(frozen=True)
class Keys:
    """A user CA, a host key and a user's key with a certificate for PRINCIPAL, all in one folder."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Keys:
        folder.mkdir(mode=0o700)
        for name in ("user_ca", "host_key", "id"):
            keygen("-t", "ed25519", "-N", "", "-C", name, "-f", folder / name)
        keygen("-s", folder / "user_ca", "-I", "conformance", "-n", PRINCIPAL, "-V", "-5m:+1d", folder / "id.pub")
        return cls(folder)

    def public(self, name: str) -> str:
        return (self.folder / f"{name}.pub").read_text().strip()


def write_ssh_config(keys: Keys, port: int) -> Path:
    known_hosts = keys.folder / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{port} {keys.public('host_key')}\n")
    config = keys.folder / "ssh_config"
    config.write_text(
        f"""
Host server
    HostName 127.0.0.1
    Port {port}
    User {getpass.getuser()}
    IdentityFile {keys.folder}/id
    IdentitiesOnly yes
    UserKnownHostsFile {known_hosts}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
"""
    )
    return config


def find_program(name: str) -> str | None:
    """As PATH has it, else where Debian and Red Hat put what users do not call themselves."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/lib/openssh:/usr/libexec/openssh:/usr/libexec")


def make_user(folder: Path) -> tuple[Path, dict[str, str]]:
    """A home with spaces and an umlaut, as users have them, and the environment of an imagined Jupyter server there."""
    home = folder / "hôme of alice"
    home.mkdir()
    environment = {
        "HOME": str(home),
        "USER": getpass.getuser(),
        "LOGNAME": getpass.getuser(),
        "SHELL": "/bin/bash",
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "JUPYTER_SERVER_ROOT": str(home),
        "CONDA_PREFIX": "/opt/conda",
        "ODD_ONE": "a 'b' \"c\" $HOME\n`second` line \\",
    }
    return home, environment


def write_session(runtime: Path, home: Path, environment: dict[str, str]) -> None:
    """session.json: what every session is given (jhssh_ext/singleuser/session.py)."""
    session = {
        "env": environment,
        "cwd": str(home),
        "shell": ["/bin/bash", "-l"],
        "sftp_server": find_program("sftp-server") or "",
    }
    (runtime / "session.json").write_text(json.dumps(session))


def session_program() -> Path:
    return Path(jhssh_ext.__file__).parent / "singleuser" / "session.py"


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives as long as the block."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.settimeout(5)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


@contextmanager
def openssh_direct(folder: Path) -> Iterator[Target]:
    """OpenSSH's sshd with the forced command, nothing between."""
    keys = Keys.make(folder / "keys")
    home, environment = make_user(folder)
    write_session(keys.folder, home, environment)
    (keys.folder / "principals").write_text(PRINCIPAL + "\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = keys.folder / "sshd_config"
    config.write_text(
        f"""
ListenAddress 127.0.0.1:{port}
HostKey {keys.folder}/host_key
PidFile none
TrustedUserCAKeys {keys.folder}/user_ca.pub
AuthorizedPrincipalsFile {keys.folder}/principals
AuthorizedKeysFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
X11Forwarding yes
AllowAgentForwarding yes
AllowStreamLocalForwarding yes
StreamLocalBindUnlink yes
AcceptEnv LANG LC_*
MaxSessions 100
MaxStartups 100
SetEnv XAUTHORITY={keys.folder}/Xauthority
Subsystem sftp {find_program("sftp-server")}
ForceCommand exec {sys.executable} -IS {session_program()} {keys.folder}/session.json
"""
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd(8): its privilege separation directory
    sshd = find_program("sshd")
    assert sshd is not None
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=log)
    with ended(process):
        wait_for(lambda: answers(port), "sshd answers")
        yield Target("openssh-direct", write_ssh_config(keys, port), "server", home, home, environment)


@contextmanager
def embedded_direct(folder: Path) -> Iterator[Target]:
    """Our asyncssh server, as sshd.py of the server extension runs it."""
    keys = Keys.make(folder / "keys")
    home, environment = make_user(folder)
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    write_session(runtime, home, environment)
    (runtime / "host_key").write_text((keys.folder / "host_key").read_text())
    (runtime / "host_key").chmod(0o600)
    (runtime / "user_ca_keys").write_text(keys.public("user_ca") + "\n")
    (runtime / "principals").write_text(PRINCIPAL + "\n")
    with socket.create_server(("127.0.0.1", 0)) as listener, (folder / "embedded.log").open("wb") as log:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "jhssh_ext.singleuser.embedded_server", "--fd", str(listener.fileno()), str(runtime)],
            stdin=subprocess.DEVNULL,
            stderr=log,
            pass_fds=[listener.fileno()],
        )
        with ended(process):
            wait_for(lambda: answers(port), "the embedded server answers")
            yield Target(
                "embedded-direct",
                write_ssh_config(keys, port),
                "server",
                home,
                home,
                environment,
                memory=lambda: resident_of(process.pid),
            )


def resident_of(pid: int) -> int:
    """Bytes resident in one process alone."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

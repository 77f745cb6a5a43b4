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

from jhssh_ext.singleuser import openssh, openssh_listener
from jhssh_ext.singleuser.runtime_dir import RuntimeDir

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
    sockets: Path | None = None
    """where Unix sockets can be forwarded to, if not everywhere"""
    memory: Callable[[], int] | None = None
    """bytes resident in the long-lived processes of this way in, if they can be told apart from the test's own"""


@contextmanager
def given(file: Path) -> Iterator[Target]:
    """A way in that somebody else set up: the fields of Target as JSON, paths as text."""
    found = json.loads(file.read_text())
    paths = {name: Path(found[name]) for name in ("ssh_config", "home", "cwd", "sockets") if found.get(name)}
    yield Target(**{**found, **paths})


def resident(*pids: int) -> int:
    """Bytes resident in these processes (proc(5), statm)."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * os.sysconf("SC_PAGESIZE")


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


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives as long as the block."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.settimeout(5)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


@contextmanager
def openssh_direct(folder: Path) -> Iterator[Target]:
    """OpenSSH's sshd, set up and listened for by the server extension's own code; nothing between."""
    keys, runtime, home, environment = prepare(folder)
    openssh.prepare(openssh.find(), runtime, sftp=True)
    listener = [sys.executable, "-IS", openssh_listener.__file__]
    with listening(listener, runtime, folder / "sshd.log") as (_, port):
        yield Target("openssh-direct", write_ssh_config(keys, port), "server", home, home, environment)


@contextmanager
def embedded_direct(folder: Path) -> Iterator[Target]:
    """Our asyncssh server, as sshd.py of the server extension runs it."""
    keys, runtime, home, environment = prepare(folder)
    server = [sys.executable, "-m", "jhssh_ext.singleuser.embedded_server"]
    with listening(server, runtime, folder / "embedded.log") as (process, port):
        config = write_ssh_config(keys, port)
        yield Target("embedded-direct", config, "server", home, home, environment, memory=lambda: resident(process.pid))


def prepare(folder: Path) -> tuple[Keys, RuntimeDir, Path, dict[str, str]]:
    """The files that both kinds of sshd find in their runtime folder."""
    keys = Keys.make(folder / "keys")
    home, environment = make_user(folder)
    runtime = RuntimeDir({"XDG_RUNTIME_DIR": str(keys.folder)})
    session = {
        "env": environment,
        "cwd": str(home),
        "shell": ["/bin/bash", "-l"],
        "sftp_server": find_program("sftp-server") or "",
        "server": os.getpid(),
    }
    runtime.write("session.json", json.dumps(session))
    runtime.write("host_key", (keys.folder / "host_key").read_text())
    runtime.write("user_ca_keys", keys.public("user_ca") + "\n")
    runtime.write("principals", PRINCIPAL + "\n")
    return keys, runtime, home, environment


@contextmanager
def listening(program: list[str], runtime: RuntimeDir, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server on a socket that it inherits; and the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, log.open("wb") as errors:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [*program, "--fd", str(listener.fileno()), str(runtime.path)],
            stdin=subprocess.PIPE,
            stderr=errors,
            pass_fds=[listener.fileno()],
        )
        try:
            with ended(process):
                wait_for(lambda: answers(port), "the server answers")
                yield process, port
        finally:
            runtime.remove()

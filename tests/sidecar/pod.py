"""A pod on this machine: two containers of namespaces that share folders and the network, as ``jhssh_ext.sidecar`` has it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..conformance.targets import PRINCIPAL, Keys, answers, find_program
from ..conformance.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "images" / "sidecar"
USER_ID = 4321
ACCOUNT = "jovyan"
SYSTEM_PYTHON = "/usr/bin/python3"
# No file of sshd's may be where the user can name it: so this is no mode of the entrypoint, but other paths.
ENTRYPOINT = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from jhssh_ext.sidecar.entrypoint import Paths, main
main(Paths(state=Path({state!r}), home=Path({home!r}), programs=Path({programs!r}), agent_socket=Path({agent!r}), tmp={tmp!r}))
"""
# Like JupyterLab: the first process of its container, which never reaps what is not its own.
SERVER = """
import http.server, os, sys
os.chdir(sys.argv[2])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def why_not() -> str:
    """Why these containers can't be here; empty if they can."""
    missing = [name for name in ("unshare", "nsenter", "mount", "dash", "sshd") if find_program(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if os.getuid() != 0:
        return "containers of namespaces need root"
    tried = subprocess.run(["unshare", "-m", "unshare", "--user", "--map-user=4321", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else f"no namespaces here: {tried.stderr.decode().strip()}"


@dataclass
class Container:
    """Its own processes, mounts and user ids."""

    process: subprocess.Popen[bytes]
    environment: dict[str, str]

    @property
    def first(self) -> int:
        """The id, here, of its first process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def command(self, *arguments: str) -> list[str]:
        enter = ["nsenter", "--target", str(self.first), "--mount", "--pid", "--user", "--preserve-credentials"]
        return [*enter, *arguments]

    def run(self, *arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )

    def processes(self) -> dict[int, list[str]]:
        """Its processes' ids here, with their arguments; the dead that nobody waits for, too."""
        space = Path(f"/proc/{self.first}/ns/pid").readlink()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if (entry / "ns" / "pid").readlink() == space:
                        found[int(entry.name)] = (entry / "cmdline").read_text().split("\0")[:-1]
        return found

    def find(self, *words: str) -> list[int]:
        """Processes whose arguments contain all these, oldest first."""
        return sorted(pid for pid, arguments in self.processes().items() if all(word in " ".join(arguments) for word in words))

    def end(self) -> None:
        if self.process.poll() is None:
            first = self.first
            self.process.send_signal(signal.SIGKILL)  # --kill-child ends the first process, and with it all
            wait_for(lambda: not first or not Path(f"/proc/{first}").exists(), "the container is gone")
        self.process.wait()


@dataclass
class Pod:
    folder: Path
    """short, not in /tmp, which the sidecar has its own of"""
    keys: Keys
    port: int
    server_port: int
    extra: Mapping[str, str] = field(default_factory=dict)
    has_account: bool = True
    """has the user id an entry in the notebook container's /etc/passwd"""
    notebook: Container = field(init=False)
    sidecar: Container = field(init=False)

    @property
    def volume(self) -> Path:
        return self.folder / "volume"

    @property
    def home(self) -> Path:
        return self.folder / "hôme of alice"

    @property
    def agent_socket(self) -> Path:
        return self.volume / "run" / "agent.sock"

    @property
    def state(self) -> Path:
        return self.folder / "private" / "sshd"

    def user_environment(self) -> dict[str, str]:
        """What sessions have of the Jupyter server's."""
        return {
            "HOME": str(self.home),
            "SHELL": "/bin/bash",
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(self.volume / "user"),
            "CONDA_PREFIX": "/opt/conda",
            "ODD_ONE": "a 'b' \"c\" $HOME\n`second` line \\",
            "JUPYTERHUB_API_TOKEN": "token of alice",
            "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{self.server_port}/user/alice/",
            **self.extra,
        }

    def make_image(self) -> None:
        image = self.folder / "image"
        for name in ("notebook", "home"):
            (image / name).mkdir(parents=True)
        shutil.copytree(IMAGE / "bin", image / "bin")
        package = ROOT / "jhssh_ext"
        shutil.copytree(package / "sidecar", image / "jhssh_ext" / "sidecar")
        for name in ("__init__.py", "sshd_config.py"):
            shutil.copy(package / name, image / "jhssh_ext")
        shutil.copy(IMAGE / "bin" / "start-agent", image / "notebook")
        shutil.copy(package / "sidecar" / "agent.py", image / "notebook")
        server = find_program("sftp-server")
        assert server is not None
        subprocess.run([IMAGE / "carry", server, image / "notebook"], check=True)
        wrapper = next(Path("/usr/lib").glob("*/libnss_wrapper.so"), None)
        if wrapper is not None:
            shutil.copy(wrapper, image / "notebook")
        etc = self.folder / "etc"
        etc.mkdir()
        for name in ("ld.so.cache", "hosts", "nsswitch.conf", "resolv.conf"):
            if Path("/etc", name).exists():
                shutil.copy(Path("/etc", name), etc)
        (etc / "passwd").symlink_to(self.state / "passwd")
        (etc / "group").write_text("")  # no tty: its id means nothing in a user namespace of one user

    def start_notebook(self, wrapper: Sequence[str] = ()) -> None:
        passwd = self.folder / "passwd"
        entry = f"alice:x:{USER_ID}:{USER_ID}::{self.home}:/bin/sh\n" if self.has_account else ""
        passwd.write_text(Path("/etc/passwd").read_text() + entry)
        environment = {**self.user_environment(), "JHSSH_SECRET": "of this spawn"}
        tmp, lib = self.volume / "tmp", self.volume / "lib"
        mounts = [f"mount --bind -o ro {folder} {folder} && mount -o remount,bind,ro {folder}" for folder in (tmp, lib)]
        mounts.append(f"mount --bind {passwd} /etc/passwd")
        (self.folder / "server.py").write_text(SERVER)
        server = [*wrapper, sys.executable, str(self.folder / "server.py"), str(self.server_port), str(self.home)]
        self.notebook = self._start("notebook", mounts, server, environment)
        wait_for(lambda: _listens(self.server_port), "the Jupyter server listens")
        self.start_agent()

    def start_agent(self, *hook: str) -> subprocess.CompletedProcess[bytes]:
        return self.notebook.run("/bin/sh", str(self.volume / "lib" / "start-agent"), *hook)

    def start_sidecar(self, **changed: str) -> None:
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "JHSSH_HOST_KEY": (self.keys.folder / "host_key").read_text(),
            "JHSSH_USER_CA_KEYS": self.keys.public("user_ca"),
            "JHSSH_PRINCIPAL": PRINCIPAL,
            "JHSSH_LISTEN_PORT": str(self.port),
            "JHSSH_LISTEN_ADDRESS": "127.0.0.1",
            "JHSSH_ACCOUNT": ACCOUNT,
            **changed,
        }
        run = self.volume / "run"
        mounts = [
            f"mount --bind {self.folder / 'etc'} /etc",
            f"mount --bind {self.volume / 'tmp'} /tmp",
            f"mount --bind {run} {run} && mount -o remount,bind,ro {run}",
        ]
        code = ENTRYPOINT.format(
            root=str(self.folder / "image"),
            state=str(self.state),
            home=str(self.folder / "image" / "home"),
            programs=str(self.folder / "image" / "bin"),
            agent=str(self.agent_socket),
            tmp=str(self.volume / "tmp"),
        )
        self.sidecar = self._start("sidecar", mounts, [SYSTEM_PYTHON, "-IS", "-c", code], environment)

    def wait_until_up(self) -> None:
        wait_for(lambda: self.sidecar.process.poll() is not None or answers(self.port), "sshd answers")
        assert self.sidecar.process.poll() is None, self.log("sidecar")

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _start(self, name: str, mounts: list[str], program: list[str], environment: Mapping[str, str]) -> Container:
        """The mounts are made before root is given up."""
        become = ["unshare", "--user", f"--map-user={USER_ID}", f"--map-group={USER_ID}", *program]
        script = " && ".join([*mounts, f"exec {shlex.join(become)}"])
        spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*spaces, "/bin/sh", "-c", script], env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return Container(process, dict(environment))

    def write_ssh_config(self) -> Path:
        known_hosts = self.keys.folder / "known_hosts"
        known_hosts.write_text(f"[127.0.0.1]:{self.port} {self.keys.public('host_key')}\n")
        config = self.keys.folder / "ssh_config"
        config.write_text(
            f"""
Host server
    HostName 127.0.0.1
    Port {self.port}
    User {ACCOUNT}
    IdentityFile {self.keys.folder}/id
    IdentitiesOnly yes
    UserKnownHostsFile {known_hosts}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
"""
        )
        return config


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextlib.contextmanager
def pod(*, has_account: bool = True, **extra: str) -> Iterator[Pod]:
    """Installed and running. ``extra``: more of the Jupyter server's environment."""
    folder = Path(tempfile.mkdtemp(prefix="jh-", dir="/var/tmp"))
    made = Pod(folder, Keys.make(folder / "keys"), _free_port(), _free_port(), extra, has_account)
    started = []
    try:
        made.make_image()
        for path in (made.volume, made.home, made.state.parent):
            path.mkdir()
        subprocess.run([folder / "image" / "bin" / "install", made.volume], check=True)
        made.start_notebook()
        started.append(made.notebook)
        made.start_sidecar()
        started.append(made.sidecar)
        made.wait_until_up()
        yield made
    finally:
        for container in {
            id(each): each for each in (*started, made.__dict__.get("notebook"), made.__dict__.get("sidecar"))
        }.values():
            if container is not None:
                container.end()
        shutil.rmtree(folder, ignore_errors=True)

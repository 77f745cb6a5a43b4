"""A real Jupyter server with our extension, and the stock ssh client against its sshd."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jhssh_ext.identifiers import AUDIENCE, PRINCIPAL, opaque_id
from jhssh_ext.payloads import ServerEnvironment

from ..harness.processes import MARK, end_marked, free_port, new_mark, stop_child, tail, wait_until

PRINCIPAL_ID = opaque_id(PRINCIPAL, "hub", "alice", "")
AUDIENCE_ID = opaque_id(AUDIENCE, "hub", "alice", "")
SECRET = "5" * 64
TOKEN = "test-token"
PAIR = Callable[..., Path]


def keygen(path: Path, *arguments: str) -> Path:
    """A new key pair at ``path``."""
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-C", path.name, *arguments, "-f", path], check=True)
    return path


@dataclass
class Credentials:
    """A user CA, a host key, and a client's key with a certificate for this server."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Credentials:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("user_ca", "host_key", "id"):
            keygen(folder / name)
        (folder / "known_hosts").write_text(f"server {(folder / 'host_key.pub').read_text()}")
        made = cls(folder)
        made.certify("id", "user_ca", "-n", PRINCIPAL_ID)
        return made

    def certify(self, key: str, ca: str, *arguments: str) -> None:
        command = [
            "ssh-keygen",
            "-q",
            "-s",
            self.folder / ca,
            "-I",
            "test",
            "-V",
            "-1m:+1h",
            *arguments,
            self.folder / f"{key}.pub",
        ]
        subprocess.run(command, check=True)

    def environment(self, port: int, **changes: Any) -> ServerEnvironment:
        given: dict[str, Any] = {
            "enabled": True,
            "listen_port": port,
            "host_key": (self.folder / "host_key").read_text(),
            "user_ca_keys": (self.folder / "user_ca.pub").read_text(),
            "principal": PRINCIPAL_ID,
            "audience": AUDIENCE_ID,
            "secret": SECRET,
            "connect_host": "hub.example.org",
            "connect_port": 2222,
            "login_name": "alice",
            "gateway_host_key": " ".join((self.folder / "user_ca.pub").read_text().split()[:2]),
        }
        return ServerEnvironment(**{**given, **changes})


def ssh_command(credentials: Credentials, port: int, *arguments: str | Path, key: str = "id", program: str = "ssh") -> list[str]:
    folder = credentials.folder
    known = folder / "known_hosts"
    options = {
        "Port": port,
        "IdentityFile": folder / key,
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "HostKeyAlias": "server",
        "UserKnownHostsFile": known,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
    }
    given = [f"-o{name}={value}" for name, value in options.items()]
    host = [] if program == "scp" else ["127.0.0.1"]
    before = [str(each) for each in arguments if str(each).startswith("-")] if program == "ssh" else []
    after = [str(each) for each in arguments if str(each) not in before]
    return [program, "-F", "none", *given, *before, *host, *after]


def ssh(credentials: Credentials, port: int, *arguments: str | Path, **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
    names = {name: kwargs.pop(name) for name in ("key", "program") if name in kwargs}
    command = ssh_command(credentials, port, *arguments, **names)
    if "input" not in kwargs:
        kwargs["stdin"] = subprocess.DEVNULL
    return subprocess.run(command, capture_output=True, timeout=60, check=False, **kwargs)


@dataclass
class JupyterServer:
    """A running ``jupyter server``; ``mark`` is in the environment of everything that it started."""

    process: subprocess.Popen[bytes]
    port: int
    ssh_port: int
    home: Path
    log: Path
    mark: str

    def request(
        self, method: str, path: str, body: bytes | None = None, *, headers: Mapping[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            given = {"Authorization": f"token {TOKEN}"} if headers is None else dict(headers)
            connection.request(method, f"/base/{path}", body, given)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, body: bytes | None = None, **kwargs: Any) -> tuple[int, Any]:
        status, _, answer = self.request(method, path, body, **kwargs)
        return status, json.loads(answer) if answer else None

    def post(self, text: str) -> tuple[int, Any]:
        return self.json("POST", "publickey", json.dumps({"public_key": text}).encode())

    def sshd(self) -> dict[str, Any]:
        status, found = self.json("GET", "jhssh/status")
        assert status == 200, found
        sshd: dict[str, Any] = found["sshd"]
        return sshd

    def wait_for_sshd(self, state: str = "running") -> dict[str, Any]:
        return wait_until(lambda: (lambda found: found if found["state"] == state else None)(self.sshd()), what=tail(self.log))


@contextmanager
def jupyter_server(
    folder: Path,
    given: ServerEnvironment | None,
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    python: str = sys.executable,
    module: str = "jupyter_server",
) -> Iterator[JupyterServer]:
    """As a spawner starts it: no terminal, an environment of its own. Everything that it started is ended with the block.

    ``module``: what ``python -m`` runs, jupyterlab for one.
    """
    home, port, mark = folder / "home", free_port(), new_mark()
    home.mkdir(exist_ok=True)
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "JHSSH", "XDG", "SSH"))}
    environment = {
        **inherited,
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "SHELL": "/bin/bash",
        "OF_THE_SERVER": "töpfe 'n' \"pans\"\nand a second line",
        MARK: mark,
        **(given.to_environ() if given else {}),
        **(environ or {}),
    }
    log = folder / "server.log"
    command = [
        python,
        "-m",
        module,
        "--no-browser",
        "--allow-root",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--ServerApp.base_url=/base/",
        f"--IdentityProvider.token={TOKEN}",
        *arguments,
    ]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=home, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    server = JupyterServer(process, port, given.listen_port if given else 0, home, log, mark)

    def answers() -> bool:
        assert process.poll() is None, tail(log)
        try:
            return server.request("GET", "api/status")[0] == 200
        except OSError:
            return False

    try:
        wait_until(answers, what=f"the Jupyter server\n{tail(log)}")
        yield server
    finally:
        stop_child(process, signal.SIGTERM)
        end_marked(mark)

"""Tunnels to a Jupyter server under test: as a raw WebSocket, and as the ProxyCommand of the stock ssh client."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

from .servers import TOKEN, JupyterServer

PATH = "/base/jhssh/tunnel"
OWNER = {"Authorization": f"token {TOKEN}"}
PROXY = """
import sys
from jhssh_ext.client.websocket_stdio import run
run(sys.argv[1], headers={"Authorization": sys.argv[2]})
"""


def url(server: JupyterServer, query: str = "") -> str:
    return f"ws://127.0.0.1:{server.port}{PATH}{query}"


@contextmanager
def opened(server: JupyterServer, headers: Mapping[str, str], *, query: str = "", origin: str | None = None) -> Iterator[Any]:
    """Raises WebSocketBadStatusException where it is refused."""
    made = websocket.create_connection(
        url(server, query), header=dict(headers), timeout=20, suppress_origin=origin is None, origin=origin
    )
    try:
        yield made
    finally:
        made.shutdown()


def refusal(server: JupyterServer, headers: Mapping[str, str], **kwargs: Any) -> tuple[int, bytes]:
    """Status and body of the answer; 101 where it is none."""
    try:
        with opened(server, headers, **kwargs):
            return 101, b""
    except websocket.WebSocketBadStatusException as error:
        return error.status_code, error.resp_body or b""


def ssh_command(server: JupyterServer, folder: Path, *command: str, program: str = "ssh") -> list[str]:
    """``folder``: with the key ``id``, and made to know the host key that the status tells."""
    told = server.json("GET", "jhssh/status")[1]["tunnel"]
    (folder / "known_hosts").write_text(f"server {told['host_keys'][0]}\n")
    proxy = shlex.join([sys.executable, "-c", PROXY, url(server), OWNER["Authorization"]])
    options = {
        "ProxyCommand": proxy.replace("%", "%%"),
        "User": told["user"],
        "IdentityFile": folder / "id",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "HostKeyAlias": "server",
        "UserKnownHostsFile": folder / "known_hosts",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
    }
    return [program, "-F", "none", *[f"-o{name}={value}" for name, value in options.items()], "tunnel", *command]


def ssh(server: JupyterServer, folder: Path, *command: str, **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
    line = ssh_command(server, folder, *command, **{name: kwargs.pop(name) for name in ("program",) if name in kwargs})
    return subprocess.run(line, capture_output=True, timeout=60, check=False, **{"input": b"", **kwargs})

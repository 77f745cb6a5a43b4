"""The gateway of one test Hub: its keys, its configuration, and its process where the Hub does not manage it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from .processes import MARK, free_port, listening, stop_child, tail, wait_until

# What the gateway's service token may do; the same in JupyterHub 5.5 and 6.1.
SCOPES = ["list:users", "read:users", "read:servers", "admin:server_state", "servers", "users:activity"]
PAGE_SCOPES = ["self", "access:services!service=ssh"]
"""of every user: who may open the gateway's page"""

CONFIG = """\
c = get_config()
c.Gateway.ssh_address = "127.0.0.1"
c.Gateway.ssh_port = {ssh_port}
c.Gateway.http_address = "127.0.0.1"
c.Gateway.http_port = {http_port}
c.Gateway.host_key_file = {host_key!r}
c.Gateway.user_ca_file = {user_ca!r}
c.Gateway.public_url = {public_url!r}
c.Gateway.ssh_host = "127.0.0.1"
c.Gateway.public_ssh_port = {ssh_port}
"""

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class GatewayProcess:
    """Made by :class:`tests.harness.hub.Hub`. ``config`` is appended to its configuration; change it before a start."""

    def __init__(
        self, folder: Path, python: Path, *, hub_url: str, mark: str, token: str, managed: bool, config: str = ""
    ) -> None:
        self.folder = folder
        self.python = python
        self.managed = managed
        self.config = config
        self.hub_url = hub_url
        self.mark = mark
        self.token = token
        self.ssh_port = free_port()
        self.http_port = free_port()
        self.prefix = "/services/ssh/"
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.keys = folder / "keys"
        self.config_file = folder / "gateway_config.py"
        self.log_file = folder / "gateway.log"
        self.process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Keys (once) and configuration; needed before a Hub that manages the gateway starts."""
        if not self.keys.exists():
            subprocess.run(
                [str(self.python), "-m", "jhssh_ext.gateway", "keys", "init", "--dir", str(self.keys)],
                check=True,
                capture_output=True,
                timeout=60,
            )
        text = CONFIG.format(
            ssh_port=self.ssh_port,
            http_port=self.http_port,
            host_key=str(self.keys / "host_key"),
            user_ca=str(self.keys / "user_ca"),
            public_url=f"{self.hub_url}/",
        )
        self.config_file.write_text(text + self.config)

    @property
    def command(self) -> list[str]:
        return [str(self.python), "-m", "jhssh_ext.gateway", "-f", str(self.config_file)]

    @property
    def user_ca_public_file(self) -> Path:
        return self.keys / "user_ca.pub"

    @property
    def host_key(self) -> str:
        """Its public host key, ``type base64``."""
        return " ".join((self.keys / "host_key.pub").read_text().split()[:2])

    def service(self) -> dict[str, object]:
        """The entry for ``c.JupyterHub.services``."""
        entry: dict[str, object] = {"name": "ssh", "url": self.url, "api_token": self.token, "oauth_no_confirm": True}
        if self.managed:
            passed = {k: v for k, v in os.environ.items() if k.startswith("COVERAGE_")}
            entry |= {"command": self.command, "environment": {**passed, MARK: self.mark}}
        return entry

    def start(self) -> None:
        """Starts it where it is a process of its own, and waits in either case until it is ready."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Starts it, if the Hub does not, without waiting. Before the Hub, which waits for its services when it starts."""
        if self.managed:
            return
        self.prepare()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTERHUB_")} | {
            MARK: self.mark,
            "JUPYTERHUB_SERVICE_NAME": "ssh",
            "JUPYTERHUB_SERVICE_PREFIX": self.prefix,
            "JUPYTERHUB_API_URL": f"{self.hub_url}/hub/api",
            "JUPYTERHUB_API_TOKEN": self.token,
            "JUPYTERHUB_BASE_URL": "/",
        }
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.folder
            )

    def wait_until_ready(self) -> None:
        try:
            wait_until(self._ready_or_dead, 60)
        except AssertionError:
            raise AssertionError(f"the gateway is not ready\n{tail(self.log_file)}") from None
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the gateway ended with {self.process.returncode}\n{tail(self.log_file)}")

    def _ready_or_dead(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            return True
        return self.health() == 200 and listening(self.ssh_port)

    def health(self) -> int:
        """HTTP status of /health; 0 when nothing answers."""
        try:
            with direct.open(self.url + self.prefix + "health", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    @property
    def pid(self) -> int:
        """Of a gateway that is a process of its own."""
        assert self.process is not None
        return self.process.pid

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> int | None:
        """Exit status; None where there is no process of ours."""
        if self.process is None:
            return None
        status = stop_child(self.process, sig, timeout=40)
        self.process = None
        return status

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.stop(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

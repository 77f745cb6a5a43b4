"""A real JupyterHub as a child process in a folder of its own, with a gateway and real user servers.

hub = Hub(folder, VENVS["hub6"]); hub.start(); hub.start_server("alice"); …; hub.stop()
"""

from __future__ import annotations

import contextlib
import json as json_module
import os
import secrets
import signal
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from .gateway import PAGE_SCOPES, SCOPES, GatewayProcess
from .processes import MARK, describe, end_marked, free_port, marked, new_mark, stop_child, tail, wait_until

ROOT = Path(__file__).resolve().parents[2]
VENVS = {"hub6": ROOT / ".venv/bin/python", "hub5": ROOT / ".venv-hub5/bin/python"}

CONFIG = """\
import json, os
from pathlib import Path

c = get_config()
c.JupyterHub.bind_url = {url!r} + "/"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub_port}"
c.JupyterHub.cookie_secret = bytes.fromhex({cookie_secret!r})
c.JupyterHub.db_url = "sqlite:///jupyterhub.sqlite"
c.JupyterHub.allow_named_servers = True
c.JupyterHub.cleanup_servers = False  # how it ends is told to /shutdown
c.JupyterHub.log_level = "DEBUG"
c.JupyterHub.services = json.loads({services!r})
c.JupyterHub.load_roles = json.loads({roles!r})
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.ConfigurableHTTPProxy.command = [{proxy!r}]
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy_port}"
c.ConfigurableHTTPProxy.auth_token = {proxy_token!r}
c.ConfigurableHTTPProxy.pid_file = "proxy.pid"
c.JupyterHub.spawner_class = {spawner!r}
c.SimpleLocalProcessSpawner.home_dir_template = {homes!r} + "/{{username}}"
c.Spawner.notebook_dir = "~"
c.Spawner.default_url = "/lab"
c.Spawner.environment = json.loads({environment!r})
c.Spawner.http_timeout = 90
c.Spawner.poll_interval = 600  # a server that a test ends is missed when the test says so
c.Spawner.start_timeout = 90
c.JupyterHub.concurrent_spawn_limit = 0


def command_of_the_test(spawner):
    commands = json.loads(Path({commands!r}).read_text())
    spawner.cmd = commands.get(spawner.user.name, [{python!r}, "-m", "jupyterhub.singleuser"])
    spawner.args = [] if spawner.user.name in commands or os.geteuid() else ["--allow-root"]


c.Spawner.pre_spawn_hook = command_of_the_test
"""

WITH_SSH = """
c.SSHSpawnerMixin.ssh_user_ca_file = {user_ca!r}
c.SSHSpawnerMixin.ssh_default = True
c.SSHSpawnerMixin.ssh_public_host = "127.0.0.1"
c.SSHSpawnerMixin.ssh_public_port = {ssh_port}
"""


direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Answer:
    """What an HTTP request came back with."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json_module.loads(self.body)


def request(
    method: str, url: str, *, json: Any = None, data: bytes | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """One HTTP request; an error status is an answer like any other."""
    if json is not None:
        data = json_module.dumps(json).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
    prepared = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    try:
        with direct.open(prepared, timeout=60) as answer:
            return Answer(answer.status, answer.read(), dict(answer.headers))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read(), dict(error.headers))


class Hub:
    """``config`` is appended to jupyterhub_config.py, ``gateway_config`` to the gateway's; both may be changed before a start.

    Any name is a user, with any password. Users' homes are ``folder/home/<name>``.
    """

    def __init__(
        self,
        folder: Path,
        python: Path = VENVS["hub6"],
        *,
        config: str = "",
        gateway: bool = True,
        managed: bool = False,
        gateway_config: str = "",
        spawner: str = "jhssh_ext.hub.local_spawners.SSHSimpleLocalProcessSpawner",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.python = python
        self.config = config
        self.spawner = spawner
        self.mark = new_mark()
        self.port = free_port()
        self.hub_port = free_port()
        self.proxy_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.admin_token = secrets.token_hex(16)
        self._cookie_secret = secrets.token_hex(32)
        self._proxy_token = secrets.token_hex(16)
        self.homes = folder / "home"
        self.log_file = folder / "hub.log"
        self._commands_file = folder / "commands.json"
        self._commands_file.write_text("{}")
        self.process: subprocess.Popen[bytes] | None = None
        self.gateway: GatewayProcess | None = None
        if gateway:
            self.gateway = GatewayProcess(
                folder,
                python,
                hub_url=self.url,
                mark=self.mark,
                token=secrets.token_hex(16),
                managed=managed,
                config=gateway_config,
            )
            if managed:
                self.gateway.log_file = self.log_file

    # life cycle

    def start(self) -> None:
        """Starts Hub and gateway and waits until both answer."""
        try:
            if self.gateway is not None:
                self.gateway.prepare()
                self.gateway.launch()
            self.start_hub()
            if self.gateway is not None:
                self.gateway.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def start_hub(self) -> None:
        """The Hub alone."""
        (self.folder / "jupyterhub_config.py").write_text(self._config_text())
        self.homes.mkdir(exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTERHUB_", "JHSSH_"))} | {MARK: self.mark}
        environment["PATH"] = f"{self.python.parent}:{environment['PATH']}"
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.python), "-m", "jupyterhub", "-f", "jupyterhub_config.py"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment,
                start_new_session=True,
            )
        try:
            wait_until(self._hub_ready_or_dead, 90)
        except AssertionError:
            raise AssertionError(f"the Hub is not ready\n{tail(self.log_file)}") from None
        if self.process.poll() is not None:
            raise AssertionError(f"the Hub ended with {self.process.returncode}\n{tail(self.log_file)}")

    def _hub_ready_or_dead(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None or self.answers()

    def answers(self) -> bool:
        """Does the Hub answer, through its proxy?"""
        try:
            return request("GET", f"{self.url}/hub/api/").status == 200
        except OSError:
            return False

    def stop(self, patience: float = 0) -> str:
        """Ends everything, user servers included. What survives the orderly way is killed, and described in the answer.

        ``patience``: seconds after the Hub's end in which the rest, which it does not wait for, may end.
        """
        try:
            if self.gateway is not None:
                self.gateway.stop()
            self.stop_hub(servers=True)
        finally:
            with contextlib.suppress(AssertionError):
                wait_until(lambda: not marked(self.mark), patience)
            survivors = describe(marked(self.mark))
            end_marked(self.mark)
        return survivors

    def stop_hub(self, *, servers: bool) -> int | None:
        """The Hub alone, in its own orderly way, its user servers with it or left running."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            if self._ask_to_shut_down(servers):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(40)
            stop_child(self.process)
        status = self.process.wait()
        self.process = None
        return status

    def _ask_to_shut_down(self, servers: bool) -> bool:
        """False if the question can't reach it. The answer may be lost with the proxy that brings it."""
        try:
            self.api("POST", "shutdown", {"servers": servers, "proxy": True})
        except urllib.error.URLError as error:
            return not isinstance(error.reason, ConnectionRefusedError)
        except OSError:
            return True
        return True

    def restart_hub(self) -> None:
        """As an admin does with ``cleanup_servers = False``: user servers (and a gateway of its own) go on."""
        self.stop_hub(servers=False)
        self.start_hub()
        if self.gateway is not None:
            self.gateway.wait_until_ready()

    def kill_hub(self) -> None:
        """SIGKILL to the Hub alone; its proxy and servers stay."""
        assert self.process is not None
        stop_child(self.process, signal.SIGKILL)
        self.process = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def processes(self) -> list[psutil.Process]:
        """All that runs because of this Hub, sessions and orphans included."""
        return marked(self.mark)

    def logs(self) -> str:
        """The ends of all logs, for a failing test."""
        files = {self.log_file} | ({self.gateway.log_file} if self.gateway else set())
        return "\n".join(tail(file, 150) for file in sorted(files))

    # configuration

    def use_command(self, user: str, command: list[str] | None) -> None:
        """What the user's servers run from their next start on; None: a real one. How a test double takes alice's place."""
        commands = json_module.loads(self._commands_file.read_text())
        commands.pop(user, None)
        if command is not None:
            commands[user] = command
        self._commands_file.write_text(json_module.dumps(commands))

    def _config_text(self) -> str:
        services: list[dict[str, object]] = [{"name": "test-admin", "api_token": self.admin_token, "admin": True}]
        roles: list[dict[str, object]] = []
        if self.gateway is not None:
            services.append(self.gateway.service())
            roles.append({"name": "jhssh-gateway", "services": ["ssh"], "scopes": SCOPES})
            roles.append({"name": "user", "scopes": PAGE_SCOPES})
        passed = {k: v for k, v in os.environ.items() if k.startswith("COVERAGE_")}
        text = CONFIG.format(
            url=self.url,
            hub_port=self.hub_port,
            cookie_secret=self._cookie_secret,
            services=json_module.dumps(services),
            roles=json_module.dumps(roles),
            proxy=str(self.python.parent / "configurable-http-proxy"),
            proxy_port=self.proxy_port,
            proxy_token=self._proxy_token,
            spawner=self.spawner,
            homes=str(self.homes),
            environment=json_module.dumps({**passed, MARK: self.mark}),
            commands=str(self._commands_file),
            python=str(self.python),
        )
        if self.gateway is not None:
            text += WITH_SSH.format(
                user_ca=str(self.gateway.user_ca_public_file),
                ssh_port=self.gateway.ssh_port,
            )
        return text + self.config

    # the Hub's REST API

    def api(self, method: str, path: str, json: Any = None, token: str | None = None) -> Answer:
        """``path`` is below /hub/api/ and already escaped; ``token`` is the admin's unless given."""
        headers = {"Authorization": f"token {token or self.admin_token}"}
        return request(method, f"{self.url}/hub/api/{path}", json=json, headers=headers)

    def create_user(self, user: str) -> None:
        answer = self.api("POST", "users", {"usernames": [user]})
        assert answer.status in (201, 409), answer

    def delete_user(self, user: str) -> None:
        answer = self.api("DELETE", f"users/{quote(user, safe='')}")
        assert answer.status in (204, 404), answer

    def token(self, user: str, scopes: list[str] | None = None) -> str:
        """A new API token of that user; with all that the user may do unless ``scopes`` are named."""
        self.create_user(user)
        body: dict[str, Any] = {"note": "test"}
        if scopes is not None:
            body["scopes"] = scopes
        answer = self.api("POST", f"users/{quote(user, safe='')}/tokens", body)
        assert answer.status == 201, answer
        return str(answer.json["token"])

    def server_model(self, user: str, server: str = "") -> dict[str, Any] | None:
        """As the Hub tells it, ``state`` included; None if it knows no such server."""
        answer = self.api("GET", f"users/{quote(user, safe='')}?include_stopped_servers")
        return answer.json["servers"].get(server) if answer.status == 200 else None

    def server_state(self, user: str, server: str = "") -> dict[str, Any]:
        """The spawner's state (``{"jhssh": …, "pid": …}``) of a running server."""
        model = self.server_model(user, server)
        assert model is not None, f"no server {server!r} of {user!r}"
        state = model["state"]
        assert isinstance(state, dict)
        return state

    def running(self, user: str, server: str = "") -> bool:
        model = self.server_model(user, server)
        return model is not None and bool(model["ready"])

    def server_url(self, user: str, server: str = "") -> str:
        """Of the user server through the Hub's proxy; ends with a slash."""
        parts = [quote(part, safe="") for part in (user, server) if part]
        return f"{self.url}/user/{'/'.join(parts)}/"

    def server_api(
        self, method: str, user: str, path: str, json: Any = None, *, server: str = "", token: str | None = None
    ) -> Answer:
        """A request to the user server through the Hub's proxy, with a token of its owner unless given."""
        headers = {"Authorization": f"token {token or self.token(user)}"}
        return request(method, self.server_url(user, server) + path, json=json, headers=headers)

    def user_home(self, user: str) -> Path:
        return self.homes / user

    def request_start(self, user: str, server: str = "", options: dict[str, Any] | None = None) -> Answer:
        """Asks the Hub to start a server and does not wait for it. No ``options``: those saved last."""
        self.create_user(user)
        body: Any = None
        if options is not None:
            body = {"user_options": options} if self.version >= (6,) else options
        return self.api("POST", f"users/{quote(user, safe='')}/servers/{quote(server, safe='')}", body)

    def start_server(self, user: str, server: str = "", options: dict[str, Any] | None = None) -> None:
        """Starts it and waits until it is ready."""
        answer = self.request_start(user, server, options)
        assert answer.status in (201, 202, 400), answer
        try:
            wait_until(lambda: self.running(user, server), 90, interval=0.2)
        except AssertionError:
            raise AssertionError(f"{user}/{server} did not start\n{self.logs()}") from None

    def stop_server(self, user: str, server: str = "") -> None:
        """Stops it and waits until it is gone."""
        path = f"users/{quote(user, safe='')}/servers/{quote(server, safe='')}"
        answer = self.api("DELETE", path)
        assert answer.status in (202, 204, 404), answer

        def stopped() -> bool:
            model = self.server_model(user, server)
            return model is None or (model["stopped"] and not model["pending"])

        wait_until(stopped, 60, interval=0.2, what=f"{user}/{server} to stop")

    def server_pid(self, user: str, server: str = "") -> int:
        """Of the Jupyter server process."""
        return int(self.server_state(user, server)["pid"])

    @property
    def version(self) -> tuple[int, ...]:
        """Of JupyterHub."""
        text = str(request("GET", f"{self.url}/hub/api/").json["version"])
        return tuple(int(part) for part in text.split(".")[:2])

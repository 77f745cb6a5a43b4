"""The whole way: stock client → gateway → a real Hub's user server, with either sshd on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..conftest import register_key
from ..harness.hub import Hub
from ..harness.processes import arguments, free_port, wait_until
from ..harness.ssh import HOST, SSHClient, make_key
from .targets import Target, resident

USER = "alice"
CHOSEN_SSHD = """
c.Spawner.environment = {{**c.Spawner.environment, "JUPYTER_CONFIG_PATH": {folder!r}, "SHELL": "/bin/bash", "LANG": "C.UTF-8"}}
"""
EXTENSION = """
c = get_config()
c.JHSSHExtension.implementation = {implementation!r}
"""


@contextmanager
def through_gateway(
    folder: Path,
    implementation: str,
    *,
    hub_config: str = "",
    gateway_config: str = "",
    prepare: Callable[[Hub], None] = lambda _hub: None,
    proxy_command: Callable[[Hub], str] | None = None,
) -> Iterator[Target]:
    """``implementation``: openssh or asyncssh, the sshd of the user server. ``prepare`` changes the Hub before it starts.

    With a ``proxy_command`` there is no other way: ssh is told a port where nobody listens.
    """
    settings = folder / "jupyter"
    settings.mkdir()
    (settings / "jupyter_server_config.py").write_text(EXTENSION.format(implementation=implementation))
    hub = Hub(folder / "hub", config=CHOSEN_SSHD.format(folder=str(settings)) + hub_config, gateway_config=gateway_config)
    prepare(hub)
    hub.start()
    try:
        hub.start_server(USER)
        key = make_key(folder / "id")
        register_key(hub, USER, key)
        wait_until(lambda: sshd_of(hub) == implementation, 60, what=implementation)
        gateway = hub.gateway
        assert gateway is not None
        client = SSHClient(
            folder / "client",
            port=free_port() if proxy_command else gateway.ssh_port,
            host_key=gateway.host_key,
            user=USER,
            key=key,
            options=[
                "LogLevel ERROR",
                "IdentityAgent SSH_AUTH_SOCK",
                *([f"ProxyCommand {proxy_command(hub)}"] if proxy_command else []),
            ],
        )
        home = hub.user_home(USER)
        yield Target(
            name=f"gateway-{implementation}",
            ssh_config=client.config,
            host=HOST,
            home=home,
            cwd=home,
            environment=_environment(hub),
            memory=lambda: resident(gateway.pid, _server_pid(hub), *_listener_pids(hub)),
        )
    finally:
        hub.stop()


def sshd_of(hub: Hub) -> str:
    """The one that the server has chosen; empty until it has."""
    return str(hub.server_api("GET", USER, "jhssh/status").json["sshd"]["implementation"])


def _server_pid(hub: Hub) -> int:
    """The user server, oldest of its processes."""
    servers = [process for process in hub.processes() if "jupyterhub.singleuser" in arguments(process)]
    return int(min(servers, key=lambda process: float(process.create_time())).pid)


def _listener_pids(hub: Hub) -> list[int]:
    """Of the processes that accept for sshd; the embedded server is one."""
    programs = ("jhssh_ext.singleuser.embedded_server", "openssh_listener.py")
    return [each.pid for each in hub.processes() if any(part.endswith(programs) for part in arguments(each))]


def _environment(hub: Hub) -> dict[str, str]:
    """The Jupyter server's own (proc(5)), less what sessions never get and what each shell sets anew."""
    lines = Path(f"/proc/{_server_pid(hub)}/environ").read_text().split("\0")
    found = dict(line.split("=", 1) for line in lines if line)
    return {
        name: value
        for name, value in found.items()
        if not name.startswith("JHSSH_") and name not in ("PWD", "OLDPWD", "SHLVL", "_")
    }

"""What a user types and writes to come in, made from where the gateway is reached. Pure."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from urllib.parse import unquote

from ...login_names import UserServer, login_name
from ...public_keys import PublicKey

PLAIN = re.compile(r"[A-Za-z0-9._+][A-Za-z0-9._+-]*")
"""login names that mean themselves before an @, in a shell and in ssh_config(5)"""
ALIAS = "hub"


def client_setup(page_url: str) -> str:
    """What sets the ``jhssh`` command up on a computer; empty where it would not find this gateway's page."""
    found = re.fullmatch(r"(https?://.+/)services/([^/]+)/", page_url)
    if found is None:
        return ""
    service = "" if found[2] == "ssh" else f" --service {shlex.quote(unquote(found[2]))}"
    return f"pip install jhssh\njhssh login {shlex.quote(found[1])}{service}\njhssh config --write"


@dataclass(frozen=True)
class Door:
    """Where users find the gateway: what they type after the @, and its host key. ``separator`` as in login_names.

    ``published``: can they reach the port? Else only the ``tunnel`` (a WebSocket's URL; empty: there is none) leads in, where
    host and port are but names for the host key.
    """

    host: str
    port: int
    host_key: PublicKey
    separator: str
    published: bool = True
    tunnel: str = ""

    @property
    def known_hosts(self) -> str:
        """The line for ~/.ssh/known_hosts (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
        host = self.host if self.port == 22 else f"[{self.host}]:{self.port}"
        return f"{host} {self.host_key.bare_line}"

    def way_to(self, target: UserServer) -> WayIn | None:
        """None where no login name means this server."""
        if target.server and not self.separator:
            return None
        name = login_name(target, self.separator)
        alias = f"{ALIAS}-{target.server}" if target.server else ALIAS
        plain = PLAIN.fullmatch(name) is not None
        tunnelled = self._command(f"ssh -o {shlex.quote(f'ProxyCommand={self._proxy}')}", name, plain)
        configurable = plain and PLAIN.fullmatch(alias) is not None
        return WayIn(
            target=target,
            ssh=self._command("ssh", name, plain),
            through_tunnel=tunnelled if self.tunnel else "",
            copy_id=self._command("ssh-copy-id", name, plain),
            alias=alias if configurable else "",
            config=self._config(alias, name) if configurable else "",
        )

    def _command(self, program: str, name: str, plain: bool) -> str:
        port = "" if self.port == 22 else f" -p {self.port}"
        if plain:
            return f"{program}{port} {name}@{self.host}"
        return f"{program}{port} -o User={shlex.quote(name)} {self.host}"

    @property
    def _proxy(self) -> str:
        """For ssh_config(5), where % begins a token. With asynchronous standard input websocat 1.13 stalls now and then."""
        return f"websocat --binary --no-async-stdio {self.tunnel}".replace("%", "%%")

    def _config(self, alias: str, name: str) -> str:
        port = "" if self.port == 22 else f"    Port {self.port}\n"
        proxy = "" if self.published else f"    ProxyCommand {self._proxy}\n"
        return f"Host {alias}\n    HostName {self.host}\n{port}    User {name}\n    ServerAliveInterval 30\n{proxy}"


@dataclass(frozen=True)
class WayIn:
    """For one user server. ``alias`` and ``config`` (a block of ssh_config) are empty for names that would need quoting there."""

    target: UserServer
    ssh: str
    through_tunnel: str
    """the same through the tunnel; empty where there is none"""
    copy_id: str
    alias: str
    config: str

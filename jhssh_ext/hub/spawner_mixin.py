"""What every spawner needs so that its user servers can be reached by SSH: the option, the environment, the state.

Knows no spawner in particular and not the gateway: it meets the one in hooks, the other in ``payloads``.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import isawaitable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..identifiers import AUDIENCE, HOST_KEY, PRINCIPAL, opaque_id, printable
from ..login_names import UserServer, candidates, login_name
from ..payloads import ServerEnvironment, ServerState
from . import host_keys, options_form, user_ca_keys
from .settings import SSHSettings

ADDRESS_TIMEOUT = 30.0
"""seconds that ``get_ssh_address`` may take"""
NOT_SET_UP_SENTENCE = "SSH is not set up on this hub yet. Ask its admin."


@dataclass(frozen=True)
class _Spawn:
    """What was decided for one start of a server; another start makes another."""

    environment: ServerEnvironment
    spawn_id: str = ""
    hub_id: str = ""
    host_key: str = ""
    """the public half"""


class SSHSpawnerMixin(SSHSettings):
    """Adds SSH to a spawner: ``class SSHDockerSpawner(SSHSpawnerMixin, DockerSpawner)``. It must stand before the spawner.

    The host class must be a :class:`jupyterhub.spawner.Spawner` whose ``start()``

    - calls ``get_env()`` at each start and gives the server what it returns (a container kept from before has the old one);
    - returns the address of the user server, ``(ip, port)`` or a URL.

    It provides ``user``, ``name``, ``server``, ``port``, ``internal_ssl``, ``user_options`` and ``log``, as every Spawner does.
    A subclass says where sshd is reached (:meth:`get_ssh_address`) and under which account (:meth:`get_ssh_user`) where the
    defaults do not fit. Neither may ask the user server: it must not steer where the gateway connects.
    """

    if TYPE_CHECKING:
        user: Any
        name: str
        server: Any
        port: int
        internal_ssl: bool
        user_options: Any
        log: logging.Logger

    # Of this object alone, and None in every new one: nothing here is shared by users or by spawns.
    _ssh_spawn: _Spawn | None = None
    _ssh_state: ServerState | None = None
    _ssh_server_url: str = ""

    # ---- hooks ----

    async def get_ssh_address(self) -> tuple[str, int]:
        """Where the gateway reaches sshd of this server: (host, port). Called once, after ``start()``; may be a plain function.

        Default: the address that sshd was told to listen on; where that is every address, the host that ``start()`` returned.
        """
        host = self.ssh_listen_address
        if _is_wildcard(host):
            host = urlsplit(self._ssh_server_url).hostname or ""
            if _is_wildcard(host):
                host = "127.0.0.1"
        return host, self.ssh_listen_port

    def get_ssh_user(self) -> str:
        """The account under which this server runs: the only one that an sshd without privileges lets in."""
        return self.ssh_user

    def check_ssh_settings(self) -> None:
        """Raises ValueError, with a message for the admin, where a setting that SSH needs is missing: it is then off."""

    def get_ssh_socket_folders(self) -> tuple[str, ...]:
        """Absolute folders that hold all Unix sockets which sshd of this server can open; empty: all that its user can."""
        return ()

    @property
    def ssh_listen_port(self) -> int:
        """The TCP port that sshd was told to listen on in this spawn; 0 where SSH is off."""
        return self._ssh_spawn.environment.listen_port if self._ssh_spawn else 0

    # ---- the option ----

    async def get_options_form(self) -> Any:
        """The checkbox before whatever form the admin has."""
        base = await _await(super().get_options_form())  # type: ignore[misc]
        if not self._ssh_asks(base):
            return base
        option = options_form.saved_option(self.user_options)
        return options_form.compose_form(base or "", self.ssh_default if option is None else option)

    def _ssh_asks(self, base_form: Any) -> bool:
        return self.ssh_policy == options_form.OPTIONAL and bool(base_form or self.ssh_ask_without_form)

    async def run_options_from_form(self, form_data: Mapping[str, Any]) -> dict[str, Any]:
        """The admin's own options, and ours beside them as a real boolean: an unticked box is not sent at all."""
        option, others = options_form.take_option(form_data)
        options = await self._ssh_admin_options(super().run_options_from_form(others))  # type: ignore[misc]
        # The box is asked for only now, as an admin's form may be costly to make.
        if option is None and self._ssh_asks(await _await(super().get_options_form())):  # type: ignore[misc]
            option = False
        return self._ssh_with_option(options, option)

    async def options_from_query(self, query_data: Mapping[str, Any]) -> dict[str, Any]:
        """As for the form; a link that does not name our option leaves it open. JupyterHub 6 takes its `opt-` off before."""
        option, others = options_form.take_option(query_data)
        return self._ssh_with_option(await self._ssh_admin_options(super().options_from_query(others)), option)  # type: ignore[misc]

    async def _ssh_admin_options(self, options: Any) -> dict[str, Any]:
        return dict(await _await(options) or {})

    def _ssh_with_option(self, options: dict[str, Any], option: bool | None) -> dict[str, Any]:
        if option is not None and self.ssh_policy == options_form.OPTIONAL:
            options[options_form.OPTION] = option
        return options

    async def _run_apply_user_options(self, user_options: Any) -> None:
        """The admin's ``apply_user_options`` never sees our key: it may refuse, or warn of, what it does not know."""
        others = {key: value for key, value in (user_options or {}).items() if key != options_form.OPTION}
        await super()._run_apply_user_options(others)  # type: ignore[misc]

    # ---- the spawn ----

    def get_env(self) -> dict[str, str]:
        """Decides: group overrides and profiles have been applied when a spawner makes the environment."""
        env: dict[str, str] = super().get_env()  # type: ignore[misc]
        if self._ssh_spawn is None:
            self._ssh_spawn = self._ssh_decide()
        env.update(self._ssh_spawn.environment.to_environ())
        return env

    async def start(self) -> Any:
        """Starts the server, then notes for the gateway where it is. Whatever is wrong with SSH, the server starts."""
        self._ssh_spawn = self._ssh_state = None
        started = await _await(super().start())  # type: ignore[misc]
        self._ssh_state = await self._ssh_describe(started)
        return started

    def _ssh_decide(self) -> _Spawn:
        option = options_form.saved_option(self.user_options)
        because = options_form.why_off(self.ssh_policy, option, self.ssh_default)
        if because:
            choice = self.ssh_policy == options_form.OPTIONAL
            return _Spawn(ServerEnvironment(enabled=False, disabled_because=because, can_be_enabled=choice))
        try:
            self.check_ssh_settings()
            ca_keys = self._ssh_read_user_ca_keys()
            secret = bytes(self.ssh_secret) or host_keys.derive_secret(self._ssh_cookie_secret())
        except ValueError as error:
            self._ssh_log_once(f"SSH is off for all servers: {error}.")
            return _Spawn(ServerEnvironment(enabled=False, disabled_because=NOT_SET_UP_SENTENCE))

        hub_id = self.ssh_hub_id or host_keys.derive_hub_id(secret)
        user, server = self.user.name, self.name
        typed = login_name(UserServer(user, server), self.ssh_login_separator)
        created = host_keys.created_text(self.user.created)
        seed = host_keys.host_key_seed(secret, opaque_id(HOST_KEY, hub_id, user, server), created, self.ssh_host_key_epoch)
        host_key = host_keys.host_key(seed)
        environment = ServerEnvironment(
            enabled=True,
            listen_address=self.ssh_listen_address,
            listen_port=self.ssh_port or _free_port(self.ssh_listen_address, self.port),
            host_key=host_key.private,
            user_ca_keys="\n".join(ca_keys),
            principal=opaque_id(PRINCIPAL, hub_id, user, server),
            audience=opaque_id(AUDIENCE, hub_id, user, server),
            secret=secrets.token_hex(32),
            gateway_url=self._ssh_find_gateway_url(),
            connect_host=self.ssh_public_host,
            connect_port=self.ssh_public_port,
            login_name=typed if candidates(typed, self.ssh_login_separator) else "",
            gateway_host_key=self._ssh_read_gateway_host_key(),
            tunnel_url=self.ssh_tunnel_url,
        )
        return _Spawn(environment, spawn_id=secrets.token_hex(16), hub_id=hub_id, host_key=host_key.public)

    def _ssh_turn_off(self, because: str) -> None:
        """For this spawn, after all; ``because`` is for the user."""
        self._ssh_spawn = _Spawn(ServerEnvironment(enabled=False, disabled_because=because))

    def _ssh_read_user_ca_keys(self) -> tuple[str, ...]:
        keys: list[str] = []
        if self.ssh_user_ca_file:
            text = user_ca_keys.read_file(Path(self.ssh_user_ca_file))
            keys += user_ca_keys.parse(text, f"the file that ssh_user_ca_file names ({self.ssh_user_ca_file})")
        keys += user_ca_keys.parse("\n".join(self.ssh_user_ca_keys), "ssh_user_ca_keys")
        if not keys:
            raise user_ca_keys.UserCAKeysRefused(
                "no user CA is configured. Set c.SSHSpawnerMixin.ssh_user_ca_file to the .pub file of `jhssh-gateway keys init`"
            )
        return user_ca_keys.unique(keys)

    def _ssh_read_gateway_host_key(self) -> str:
        """Only shown to users: without it they have SSH all the same."""
        path = Path(self.ssh_gateway_host_key_file or Path(self.ssh_user_ca_file).parent / "host_key.pub")
        if not self.ssh_gateway_host_key_file and not (self.ssh_user_ca_file and path.is_file()):
            return ""
        try:
            keys = user_ca_keys.parse(user_ca_keys.read_file(path), f"the file of the gateway's host key ({path})")
        except user_ca_keys.UserCAKeysRefused as error:
            self._ssh_log_once(f"The gateway's host key is not shown to users: {error}.")
            return ""
        return keys[0] if keys else ""

    def _ssh_cookie_secret(self) -> bytes:
        value = self.user.settings.get("cookie_secret") or b""
        return value.encode("utf-8") if isinstance(value, str) else value

    def _ssh_find_gateway_url(self) -> str:
        """The trait, else the internal URL of the Hub's service; empty where there is none."""
        url = self.ssh_gateway_url
        if not url:
            service = self.user.settings.get("services", {}).get(self.ssh_gateway_service)
            # Service.server is None for a service without a URL; its url ends with the service's prefix.
            url = service.server.url if service is not None and service.server is not None else ""
        return url if not url or url.endswith("/") else url + "/"

    async def _ssh_describe(self, started: Any) -> ServerState | None:
        """The state for the gateway, made once per spawn; None where SSH is off."""
        spawn = self._ssh_spawn
        if spawn is None:
            self.log.info(
                "No SSH for %s: its spawner made no new environment. Do not keep containers (DockerSpawner.remove = True).",
                self._ssh_log_name(),
            )
            return None
        if not spawn.environment.enabled:
            return None
        try:
            self._ssh_server_url = self._ssh_url(started)
            host, port = await asyncio.wait_for(_await(self.get_ssh_address()), ADDRESS_TIMEOUT)
            state = ServerState(
                host=str(host),
                port=int(port),
                user=self.get_ssh_user(),
                host_key=spawn.host_key,
                url=self._ssh_server_url,
                secret=spawn.environment.secret,
                spawn=spawn.spawn_id,
                hub_id=spawn.hub_id,
                socket_folders=self.get_ssh_socket_folders(),
            )
            return ServerState.from_state(state.to_state())
        except Exception:
            # The hooks are an admin's code and may raise anything; the server itself runs.
            self.log.exception("No SSH for %s: its address could not be found. Mend get_ssh_address.", self._ssh_log_name())
            return None

    def _ssh_url(self, started: Any) -> str:
        """The user server's own base URL, of what ``start()`` returned, as JupyterHub reads it (User.spawn)."""
        if isinstance(started, str):
            parts = urlsplit(started)
            scheme, host = parts.scheme, parts.hostname or ""
            port = parts.port or (443 if scheme == "https" else 80)
        else:
            host, port = started
            scheme = "https" if self.internal_ssl else "http"
        if _is_wildcard(host):
            host = "127.0.0.1"
        if scheme not in ("http", "https"):
            raise ValueError(f"start() returned an address of the scheme {printable(scheme)!r}")
        base_url = self.server.base_url if self.server else "/"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{int(port)}{base_url.rstrip('/')}/"

    # ---- the state ----

    def get_state(self) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state()  # type: ignore[misc]
        if self._ssh_state is not None:
            state.update(self._ssh_state.to_state())
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)  # type: ignore[misc]
        try:
            self._ssh_state = ServerState.from_state(state)
        except ValueError as error:
            # Another version of us wrote it: the server runs on, without SSH until its next start.
            self._ssh_state = None
            self.log.warning("No SSH for %s until it is restarted: %s.", self._ssh_log_name(), error)

    def clear_state(self) -> None:
        super().clear_state()  # type: ignore[misc]
        self._ssh_spawn = self._ssh_state = None
        self._ssh_server_url = ""

    def _ssh_log_name(self) -> str:
        return str(UserServer(self.user.name, self.name))

    def _ssh_log_once(self, message: str) -> None:
        """Once per Hub, however many servers start: its settings outlive the spawners."""
        told = self.user.settings.setdefault("jhssh_told", set())
        if message not in told:
            told.add(message)
            self.log.error("jhssh: %s", message)


async def _await(value: Any) -> Any:
    return await value if isawaitable(value) else value


def _is_wildcard(host: str) -> bool:
    """Does this stand for every address of a machine, so that it is none to connect to?"""
    try:
        return not host or ip_address(host).is_unspecified
    except ValueError:
        return False


def _free_port(address: str, taken: int) -> int:
    """A TCP port that is free on this machine right now and is not ``taken``. If it is gone by then, the user server says so."""
    while True:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            try:
                probe.bind((address, 0))
            except OSError:
                probe.bind(("", 0))  # an address of another machine: any port is as good
            port: int = probe.getsockname()[1]
        if port != taken:
            return port

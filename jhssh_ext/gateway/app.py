"""``jhssh-gateway``: its settings, its wiring and its life. The one place where the gateway's parts meet."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import asyncssh
from tornado.httpserver import HTTPServer
from traitlets import Unicode
from traitlets.config import Application
from traitlets.config.application import ApplicationError

from .. import __version__
from ..errors import DatabaseUnavailable
from ..login_names import UserServer
from . import key_files
from .accept.entry import Entry
from .accept.limits import ConnectionLimits, FailureBudget
from .accept.services import Rules, Services
from .accept.ssh_server import ClientConnection, make_options
from .accept.tunnel import GatewayTunnel, Tunnels
from .authenticate.approvals import Approvals, Bounds
from .authenticate.authentication import Authentication
from .authenticate.browser_login import BrowserLogin
from .authenticate.key_rebuild import KeyRebuild
from .authenticate.sessions import Sessions
from .connect.hub_client import HubClient
from .connect.routes import Routes
from .connect.server_starter import ServerStarter
from .connect.upstream import Upstream
from .connect.user_ca import UserCA
from .database import Database
from .key_wiring import make_keys
from .observe.audit import Audit
from .observe.metrics import Metrics
from .observe.observer import Observer
from .page_wiring import left_unset, make_site
from .parent import end_with_parent
from .relay.activity import ActivityReporter
from .settings import GatewaySettings
from .web.app import Health, make_app
from .web.client_servers import ClientServers
from .web.hub_login import secret_for
from .web.key_refresh import KeyRefresh

T = TypeVar("T")
TUNNEL_END = 2.0
"""seconds in which a tunnel passes on what its connection said last, when the gateway ends"""
BIND_RETRY = 2.0
"""seconds between tries to listen while another process holds the port"""


class Closable(Protocol):
    """A part with tasks of its own, which end with the gateway."""

    async def close(self) -> None: ...


class KeysApp(Application):
    """Make the gateway's host key and user CA where they do not exist yet: ``jhssh-gateway keys init [--dir DIR]``."""

    name = "jhssh-gateway keys"
    description = Unicode(__doc__)
    version = __version__
    dir = Unicode("jhssh-keys", help="Folder for the keys; c.Gateway.keys_dir of the gateway.").tag(config=True)
    aliases = {"dir": "KeysApp.dir"}

    def start(self) -> None:
        if self.extra_args != ["init"]:
            sys.exit("usage: jhssh-gateway keys init [--dir DIR]")
        folder = Path(self.dir)
        for path in key_files.make(folder):
            sys.stdout.write(f"made {path}\n")
        public = (folder / (key_files.USER_CA + ".pub")).absolute()
        sys.stdout.write(f"for jupyterhub_config.py: c.SSHSpawnerMixin.ssh_user_ca_file = {str(public)!r}\n")


class Gateway(GatewaySettings):
    """The SSH gateway of a JupyterHub: `ssh alice@hub` ends in alice's own Jupyter server."""

    name = "jhssh-gateway"
    description = Unicode(__doc__)
    version = __version__
    raise_config_file_errors = True
    subcommands = {
        "keys": (KeysApp, "make the host key and the user CA"),
        "refresh": ("jhssh_ext.gateway.refresh_command.RefreshApp", "fetch keys of user servers anew"),
    }
    aliases = {"f": "Gateway.config_file", "config": "Gateway.config_file", "log-level": "Gateway.log_level"}
    flags = {
        "generate-config": ({"Gateway": {"generate_config": True}}, "print a configuration file with every setting, and end")
    }

    # its life

    def initialize(self, argv: list[str] | None = None) -> None:
        self.health, self.metrics = Health(), Metrics()
        self._parts: list[Closable] = []
        self.tunnels: Tunnels | None = None
        self.parse_command_line(argv)
        if self.subapp is None and self.config_file:
            command_line = self.cli_config
            file = Path(self.config_file).absolute()
            if not file.is_file():
                raise ApplicationError(f"there is no file {file}")
            self.load_config_file(file.name, str(file.parent))
            self.update_config(command_line)
        # The audit log and the parts write where the Application does. Not all libraries: asyncssh logs names as they came.
        shared = logging.getLogger("jhssh")
        shared.handlers, shared.level, shared.propagate = self.log.handlers, self.log.getEffectiveLevel(), False

    def start(self) -> None:
        if self.subapp is not None:
            self.subapp.start()
        elif self.generate_config:
            sys.stdout.write(self.generate_config_file() + "\n")
        else:
            asyncio.run(self.run())

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT. The HTTP side comes up whatever fails: a managed service that exits ends the Hub."""
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        if managed():
            end_with_parent()
        parts: Services | None = None
        hub: HubClient | None = None
        if not self.health.cause:
            try:
                hub, parts = await self._wire()
            except (OSError, ValueError, asyncssh.Error) as error:
                # Health is public: what is in files and settings is for the log.
                self.health.fail("a setting or a key can't be used; the gateway's log says which")
                self.log.error("No SSH until this is mended: %s: %s", type(error).__name__, error)
        sides = [asyncio.create_task(self._serve_http(hub, parts))]
        if parts is not None:
            sides.append(asyncio.create_task(self._keep_serving_ssh(parts)))
        await asyncio.wait([asyncio.create_task(stopping.wait()), *sides], return_when=asyncio.FIRST_COMPLETED)
        if parts is not None:
            await self._drain(parts)
        for side in sides:
            side.cancel()
        outcomes = await asyncio.gather(*sides, return_exceptions=True)
        for part in self._parts:
            await part.close()
        if hub is not None:
            hub.close()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _wire(self) -> tuple[HubClient, Services]:
        """Makes every part and hands each what it needs. Raises OSError, ValueError or asyncssh.Error."""
        if not (self.hub_api_url and self.hub_api_token):
            raise ValueError("the Hub is unknown: set c.Gateway.hub_api_url and hub_api_token, or run as a Hub-managed service")
        host_key = asyncssh.read_private_key(self.host_key_file)
        self._options = await make_options(
            server_host_keys=[host_key],
            kex_algs=_available(self.kex_algs, asyncssh.kex.get_kex_algs()),
            encryption_algs=self.encryption_algs,
            mac_algs=self.mac_algs,
            login_timeout=self.login_timeout,
            server_version=f"jhssh_{__version__}",
        )
        self.database = Database(self.database_url)
        hub = HubClient(self.hub_api_url, self.hub_api_token)
        routes = Routes(self.route, ping_interval=self.tunnel_ping_interval)
        upstream = Upstream(UserCA.read(self.user_ca_file), routes, timeout=self.connect_timeout)
        starter = ServerStarter(hub, spawn_url=self._spawn_url, start_timeout=self.start_timeout, started=self.metrics.spawned)

        activity = ActivityReporter(hub)
        sessions = Sessions(self.database)

        self.keys, user_keys = make_keys(
            self, self.database, hub, starter, removed=sessions.end_by_key, fetched=self.metrics.key_fetch
        )
        self._parts = [self.keys, starter, activity, sessions, self.database]
        self.refresh = None
        if self.keys.server_cache is not None:
            command = [sys.executable, "-m", "jhssh_ext.gateway", "refresh", "--json", *self.argv]
            self.refresh = KeyRefresh(KeyRebuild(hub, self.keys, user_keys, self.keys.server_cache), command)
            self._parts.insert(0, self.refresh)
        authentication = Authentication(
            hub, self.keys, separator=self.login_separator, allow_shared_servers=self.allow_shared_servers
        )
        browser_login = self._browser_login(authentication)
        if browser_login is not None:
            self._parts.insert(0, browser_login)
        client_servers = ClientServers(hub, starter)
        self._parts.insert(0, client_servers)
        audit = Audit()
        self.site = make_site(
            self,
            self.database,
            hub,
            host_key=host_key,
            user_keys=user_keys,
            sessions=sessions,
            browser_login=browser_login,
            client_servers=client_servers,
            note=audit.page,
            refresh=self.refresh.page if self.refresh is not None else None,
        )
        for missing in left_unset(self, self.site):
            self.log.warning(missing)
        services = Services(
            rules=Rules(self.max_auth_tries, self.failure_floor, known_key_wait=max(5.0, self.failure_floor)),
            limits=ConnectionLimits(
                unauthenticated=self.max_unauthenticated,
                unauthenticated_per_address=self.max_unauthenticated_per_address,
                per_user=self.max_connections_per_user,
            ),
            failures=FailureBudget(burst=self.failures_burst, per_minute=self.failures_per_minute),
            authentication=authentication,
            entry=Entry(starter, upstream, self.keys),
            activity=activity,
            sessions=sessions,
            observer=Observer(audit, self.metrics),
            log=logging.getLogger("jhssh.gateway"),
            browser_login=browser_login,
            user_keys=user_keys,
        )
        self.tunnels = Tunnels(
            self._options,
            services,
            proxies=self.site.proxies,
            ping_interval=self.tunnel_ping_interval,
            ready=lambda: not self.health.cause,
        )
        return hub, services

    def _browser_login(self, authentication: Authentication) -> BrowserLogin | None:
        """None where it is off, or where no link could be shown."""
        if not self.browser_login:
            return None
        if not self.page_url:
            self.log.warning("No login by browser: c.Gateway.public_url is not set, so that there is no link to show")
            return None
        bounds = Bounds(self.approval_timeout, self.max_approvals, self.max_approvals_per_address, self.max_approvals_per_user)
        return BrowserLogin(
            Approvals(self.database, secret_for("codes of approvals", self.hub_api_token), bounds),
            authentication,
            link=self.page_url.rstrip("/") + "/login",
            separator=self.login_separator,
        )

    def _spawn_url(self, target: UserServer) -> str:
        """The page where a user starts a server, and turns SSH on."""
        path = "hub/spawn/" + quote(target.user, safe="") + (f"/{quote(target.server, safe='')}" if target.server else "")
        base = self.public_url or os.environ.get("JUPYTERHUB_BASE_URL", "/")
        return (base if base.endswith("/") else base + "/") + path

    async def _serve_http(self, hub: HubClient | None, parts: Services | None) -> None:
        app = make_app(
            self.service_prefix,
            health=self.health,
            metrics=self.metrics,
            hub=hub,
            keys=self.keys if parts else None,
            ssh_host=self.ssh_host,
            ssh_port=self.public_ssh_port or self.ssh_port,
            site=self.site if parts else None,
            refresh=self.refresh if parts else None,
            more=[(r"/tunnel", GatewayTunnel, {"tunnels": self.tunnels})] if self.tunnel else [],
        )
        if app.settings["refresher"] is not None:
            self._parts.insert(0, app.settings["refresher"])
        server = HTTPServer(app, max_body_size=64 * 1024, max_header_size=16 * 1024, idle_connection_timeout=60, body_timeout=10)

        async def listen() -> None:
            server.listen(self.http_port, self.http_address)

        await self._until_free(listen, "http_port", self.http_port)
        try:
            await asyncio.Event().wait()
        finally:
            server.stop()
            await server.close_all_connections()

    async def _keep_serving_ssh(self, parts: Services) -> None:
        """A gateway in a pod ends when it can't, and is started anew; of a managed one the HTTP side stays."""
        try:
            await self._serve_ssh(parts)
        except Exception as error:
            if not managed():
                raise
            self.health.fail("SSH can't be served; the gateway's log says why")
            self.log.exception("No SSH until this is mended: %s", type(error).__name__)
            await asyncio.Event().wait()

    async def _serve_ssh(self, parts: Services) -> None:
        loop = asyncio.get_running_loop()
        await self._until_migrated()

        async def listen() -> asyncio.Server:
            address = self.ssh_address or None
            return await loop.create_server(
                lambda: ClientConnection(loop, self._options, parts), address, self.ssh_port, backlog=256
            )

        server = await self._until_free(listen, "ssh_port", self.ssh_port)
        self.log.info("SSH on %s:%d, HTTP on %s:%d", self.ssh_address or "*", self.ssh_port, self.http_address, self.http_port)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()

    async def _until_migrated(self) -> None:
        """Brings the database's tables up to date, trying again as long as it does not answer."""
        cause = "the database does not answer (c.Gateway.database_url)"
        while True:
            try:
                await self.database.migrate()
            except DatabaseUnavailable as error:
                if self.health.cause != cause:
                    self.log.error("No SSH, trying again: %s", error)
                self.health.fail(cause)
                await asyncio.sleep(BIND_RETRY)
            else:
                if self.health.cause == cause:
                    self.health.recover()
                return

    async def _until_free(self, listen: Callable[[], Awaitable[T]], setting: str, port: int) -> T:
        """Listens, trying again as long as another process holds the port."""
        while True:
            try:
                listening = await listen()
            except OSError as error:
                cause = f"port {port} (c.Gateway.{setting}): {error.strerror or error}"
                if self.health.cause != cause:
                    self.log.error("Cannot listen, trying again: %s", cause)
                self.health.fail(cause)
                await asyncio.sleep(BIND_RETRY)
            else:
                if self.health.cause.startswith(f"port {port} "):
                    self.health.recover()
                return listening

    async def _drain(self, parts: Services) -> None:
        """Tells every client that the gateway ends, and waits until they are gone or drain_timeout has passed."""
        self.health.fail("shutting down")
        parts.closing = True
        for connection in list(parts.connections):
            connection.shut_down()
        if parts.connections:
            ends = [asyncio.create_task(connection.wait_closed()) for connection in parts.connections]
            await asyncio.wait(ends, timeout=self.drain_timeout)
        if self.tunnels is not None:
            await self.tunnels.ended(TUNNEL_END)


def managed() -> bool:
    """Was this process started by a Hub, as one of its services?"""
    return bool(os.environ.get("JUPYTERHUB_SERVICE_NAME") and os.environ.get("JUPYTERHUB_SERVICE_URL"))


def _available(wanted: list[str], known: list[bytes]) -> list[str]:
    return [name for name in wanted if name.encode("ascii") in known]


def main(argv: list[str] | None = None) -> None:
    """The console script."""
    app: Any = Gateway.instance()
    try:
        app.initialize(sys.argv[1:] if argv is None else argv)
    except (Exception, SystemExit) as error:
        if not managed():
            raise
        # traitlets makes an exit of a bad setting, after which the Hub would end too.
        cause = (error.__context__ or error) if isinstance(error, SystemExit) else error
        # What was read halfway does not count: /health is where the Hub said.
        Gateway.clear_instance()
        app = Gateway.instance()
        app.initialize([])
        app.health.fail("the configuration can't be used; the gateway's log says why")
        app.log.error("No SSH until the configuration is mended: %s: %s", type(cause).__name__, cause)
    app.start()

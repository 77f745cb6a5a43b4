"""The Jupyter server extension: what the Hub gave, the key store, sshd and the gateway's news are put together here."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jupyter_server.extension.application import ExtensionApp
from traitlets import Bool, Enum, Float, Int, Unicode

from .. import __version__
from ..errors import KeyRefused, StoreUnusable
from ..payloads import SIDECAR, ServerEnvironment
from ..public_keys import PublicKey, listed_key
from . import handlers, sshd
from .environment import session_environment, take
from .gateway_push import GatewayPush
from .key_import import KeyImporter
from .key_store import KeyStore
from .own_sshd import OwnSSHD
from .sidecar_sshd import SidecarSSHD
from .sshd import SSHD, SessionSetup
from .tunnel import TunnelHandler
from .tunnel_ends import TunnelEnds


class JHSSHExtension(ExtensionApp):
    """SSH into this Jupyter server: its keys, and its own sshd."""

    name = "jhssh_ext"
    description = "SSH into this Jupyter server."

    key_store = Unicode(
        "~/.ssh/jhssh_authorized_keys",
        help="The file with the public keys that open this server. Written by the REST API (/publickey).",
    ).tag(config=True)
    authorized_keys = Unicode(
        "~/.ssh/authorized_keys",
        help="A file of the user's own whose keys open this server too. Only read; lines with options do not count. Empty: none.",
    ).tag(config=True)
    max_keys = Int(100, min=1, max=500, help="How many public keys can be registered.").tag(config=True)
    implementation = Enum(
        sshd.IMPLEMENTATIONS,
        sshd.AUTO,
        help="The sshd of this server: OpenSSH's (openssh), one in Python (asyncssh), or the first that can run here (auto).",
    ).tag(config=True)
    sftp = Bool(True, help="Offer SFTP, which sftp, scp and editors use.").tag(config=True)
    watch_interval = Int(
        1, min=1, help="Seconds between looks at the key files, to tell the gateway when they were edited by hand."
    ).tag(config=True)

    tunnel = Bool(
        True,
        help="Let SSH in by WebSocket too (<base URL>/jhssh/tunnel): the gateway, and the owner with a token of theirs, who then "
        "needs no gateway. It ends in an sshd of this server; the owner's takes the keys that /publickey lists.",
    ).tag(config=True)
    tunnel_ping_interval = Float(
        30.0,
        min=0.1,
        help="Seconds between pings in tunnels, so that no proxy takes one for idle. Who answers none for four minutes is taken "
        "for gone.",
    ).tag(config=True)
    own_host_key = Unicode(
        "~/.ssh/jhssh_host_ed25519_key",
        help="The host key of the sshd that the owner's tunnels end in; made when it is first asked for.",
    ).tag(config=True)

    github_url = Unicode(
        "https://github.com",
        help="Where keys are imported from as GitHub's, `<url>/<user>.keys`: another for GitHub Enterprise. Empty: no import.",
    ).tag(config=True)
    gitlab_url = Unicode(
        "https://gitlab.com",
        help="Where keys are imported from as GitLab's, `<url>/<user>.keys`: another for your own GitLab. Empty: no import.",
    ).tag(config=True)

    server_environment: ServerEnvironment
    sshd: SSHD | SidecarSSHD
    tunnel_ends: TunnelEnds
    push: GatewayPush | None = None

    def __init__(self, **kwargs: Any) -> None:
        # First of all, before another extension could start a kernel or a terminal that would inherit it.
        self.server_environment = take(os.environ)
        super().__init__(**kwargs)

    def initialize_settings(self) -> None:
        assert self.serverapp is not None
        given = self.server_environment
        store = KeyStore(
            Path(self.key_store).expanduser(),
            Path(self.authorized_keys).expanduser() if self.authorized_keys else None,
            max_keys=self.max_keys,
        )
        setup = self._session_setup()
        self.sshd = self._make_sshd(setup)
        own = OwnSSHD(
            store,
            Path(self.own_host_key).expanduser(),
            setup,
            implementation=self.implementation,
            sftp=self.sftp,
            log=self.log,
        )
        self.tunnel_ends = TunnelEnds(given, own, tunnel=self.tunnel, ping_interval=self.tunnel_ping_interval)
        owner = os.environ.get("JUPYTERHUB_USER", "")
        api_token = os.environ.get("JUPYTERHUB_API_TOKEN", "")
        if given.enabled and given.gateway_url and owner and api_token:
            self.push = GatewayPush(
                gateway_url=given.gateway_url,
                api_token=api_token,
                user=owner,
                server=os.environ.get("JUPYTERHUB_SERVER_NAME", ""),
                state=store.state,
                interval=self.watch_interval,
                log=self.log,
            )
        self.settings["jhssh_services"] = handlers.Services(
            store=store,
            status=self.status,
            keys_changed=self._keys_changed,
            audience=given.audience,
            secret=given.secret,
            owner=owner,
            importer=KeyImporter({"github": self.github_url, "gitlab": self.gitlab_url}),
            tunnel_ends=self.tunnel_ends,
        )
        self.serverapp.io_loop.add_callback(self._start)

    def initialize_handlers(self) -> None:
        self.handlers.extend([*handlers.HANDLERS, (r"/jhssh/tunnel", TunnelHandler)])

    async def status(self) -> dict[str, Any]:
        """The body of GET /jhssh/status."""
        given = self.server_environment
        return {
            "enabled": given.enabled,
            "can_be_enabled": given.can_be_enabled,
            "sshd": await self.sshd.status() if isinstance(self.sshd, SidecarSSHD) else self.sshd.status(),
            "connect": {
                "host": given.connect_host,
                "port": given.connect_port,
                "login_name": given.login_name,
                "host_key": self._gateway_host_key.line if self._gateway_host_key else "",
                "host_key_fingerprint": self._gateway_host_key.fingerprint if self._gateway_host_key else "",
                "gateway_path": gateway_path(given.gateway_url),
                "tunnel_url": given.tunnel_url,
            },
            "tunnel": await self.tunnel_ends.status(),
            "version": __version__,
        }

    @property
    def _gateway_host_key(self) -> PublicKey | None:
        with contextlib.suppress(KeyRefused):
            return listed_key(self.server_environment.gateway_host_key)
        return None

    async def stop_extension(self) -> None:
        if self.push is not None:
            await self.push.stop()
        await self.sshd.stop()
        await self.tunnel_ends.stop()

    def _start(self) -> None:
        """Once the event loop runs. Nothing here can fail: the Jupyter server must start whatever becomes of sshd."""
        self.sshd.start()
        if self.push is not None:
            self.push.start()

    def _session_setup(self) -> SessionSetup:
        assert self.serverapp is not None
        return SessionSetup(
            env=session_environment(os.environ, self.serverapp.root_dir, self.serverapp.connection_url),
            cwd=self.serverapp.root_dir,
            shell=self._shell(),
        )

    def _make_sshd(self, setup: SessionSetup) -> SSHD | SidecarSSHD:
        given = self.server_environment
        if given.enabled and given.sshd == SIDECAR:
            return SidecarSSHD(given)
        return SSHD(given, setup, implementation=self.implementation, sftp=self.sftp, log=self.log)

    async def _keys_changed(self) -> None:
        with contextlib.suppress(StoreUnusable):  # the change is made; who opens the next tunnel is told
            await self.tunnel_ends.keys_changed()
        if self.push is not None:
            await self.push.keys_changed()

    def _shell(self) -> list[str]:
        """As a JupyterLab terminal's (jupyter_server_terminals, ``initialize_configurables``)."""
        assert self.serverapp is not None
        chosen = self.serverapp.terminado_settings.get("shell_command")
        if chosen:
            return shlex.split(chosen) if isinstance(chosen, str) else list(chosen)
        shell = os.environ.get("SHELL") or shutil.which("sh") or "/bin/sh"
        return [shell] if sys.stdout.isatty() else [shell, "-l"]


def gateway_path(url: str) -> str:
    """Where the gateway's page is at the Hub's own address (browsers may not reach ``url``); empty where it is not."""
    path = urlsplit(url).path
    return path if re.search(r"/services/[^/]+/$", path) else ""

"""Makes what the pages share, as the settings say."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import asyncssh

from ..public_keys import parse_line
from .addresses import TrustedProxies
from .authenticate.browser_login import BrowserLogin
from .authenticate.key_listing import KeyListing
from .authenticate.key_sources.hub_page import HubPageKeys
from .authenticate.nonces import Nonces
from .authenticate.sessions import Sessions
from .authenticate.user_keys import UserKeys
from .connect.hub_client import HubClient
from .database import Database
from .settings import GatewaySettings
from .web.forms import Forms
from .web.hub_login import HubLogin, secret_for
from .web.pages import Note, Refresh, Site
from .web.ways_in import Door


def make_site(
    settings: GatewaySettings,
    database: Database,
    hub: HubClient,
    *,
    host_key: asyncssh.SSHKey,
    user_keys: UserKeys,
    sessions: Sessions,
    browser_login: BrowserLogin | None,
    note: Note,
    refresh: Refresh | None = None,
) -> Site:
    """``host_key`` is the gateway's own."""
    hub_path = base_path(settings) + "hub/"
    port = settings.public_ssh_port or settings.ssh_port
    key = parse_line(host_key.export_public_key().decode("ascii"))
    return Site(
        hub=hub,
        login=HubLogin(
            api_url=settings.hub_api_url,
            api_token=settings.hub_api_token,
            client_id=settings.oauth_client_id,
            prefix=settings.service_prefix,
            hub_path=hub_path,
            hub_host=settings.hub_host,
            callback=f"{settings.page_url.rstrip('/')}/oauth_callback" if settings.hub_host else "",
        ),
        forms=Forms(Nonces(database), secret_for("forms of the pages", settings.hub_api_token)),
        user_keys=user_keys,
        key_listing=KeyListing(database),
        sessions=sessions,
        prefix=settings.service_prefix,
        hub_url=settings.hub_host + hub_path,
        door=Door(settings.ssh_host, port, key, settings.login_separator) if settings.ssh_host else None,
        note=note,
        refresh=refresh,
        keeps_keys=HubPageKeys.name in settings.key_sources,
        browser_login=browser_login,
        proxies=TrustedProxies(settings.trusted_proxies),
        service=settings.oauth_client_id.removeprefix("service-"),
        admin_scope=settings.admin_scope,
    )


def base_path(settings: GatewaySettings) -> str:
    """The Hub's base URL, less the host; ends with a slash."""
    path = urlsplit(settings.public_url).path if settings.public_url else os.environ.get("JUPYTERHUB_BASE_URL", "/")
    return f"/{path.strip('/')}/" if path.strip("/") else "/"

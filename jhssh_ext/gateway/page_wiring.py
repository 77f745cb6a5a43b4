"""Makes what the pages share, as the settings say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import asyncssh

from ..public_keys import PublicKey, parse_line
from .addresses import TrustedProxies
from .authenticate.browser_login import BrowserLogin
from .authenticate.client_logins import ClientLogins
from .authenticate.client_tokens import ClientTokens
from .authenticate.key_listing import KeyListing
from .authenticate.key_sources.hub_page import HubPageKeys
from .authenticate.nonces import Nonces
from .authenticate.sessions import Sessions
from .authenticate.user_keys import UserKeys
from .connect.hub_client import HubClient
from .database import Database
from .settings import GatewaySettings
from .web.client_servers import ClientServers
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
    client_servers: ClientServers,
    note: Note,
    refresh: Refresh | None = None,
) -> Site:
    """``host_key`` is the gateway's own."""
    hub_path = base_path(settings) + "hub/"
    tokens = ClientTokens(database, max_age=settings.client_token_days) if settings.client_token_days else None
    logins = None
    if tokens is not None and browser_login is not None:
        logins = ClientLogins(browser_login.approvals, tokens, link=browser_login.link)
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
        door=make_door(settings, parse_line(host_key.export_public_key().decode("ascii"))),
        note=note,
        refresh=refresh,
        keeps_keys=HubPageKeys.name in settings.key_sources,
        browser_login=browser_login,
        client_tokens=tokens,
        client_logins=logins,
        client_servers=client_servers,
        separator=settings.login_separator,
        public_url=settings.public_url,
        proxies=TrustedProxies(settings.trusted_proxies),
        service=settings.oauth_client_id.removeprefix("service-"),
        admin_scope=settings.admin_scope,
    )


def left_unset(settings: GatewaySettings, site: Site) -> Iterator[str]:
    """What users would have of settings that the admin has not made, for the log."""
    if not settings.public_url:
        yield "c.Gateway.public_url is not set: users are told paths of the Hub instead of links"
    if site.door is None:
        yield (
            "pages cannot say how SSH is reached: set c.Gateway.ssh_host, or where its port is closed (ssh_published) public_url "
            "for the way through the tunnel"
        )
    if settings.tunnel and not settings.trusted_proxies:
        yield (
            "c.Gateway.trusted_proxies is not set: all ssh clients that come through the tunnel count as one address, so that "
            "one stranger can take all places and attempts that they have (max_unauthenticated_per_address, failures_burst)"
        )
    if site.client_logins is not None and not settings.trusted_proxies:
        yield (
            "c.Gateway.trusted_proxies is not set: all programs that log in (jhssh login) count as one address, so that one "
            "stranger can take all places that they have (max_approvals_per_address)"
        )


def make_door(settings: GatewaySettings, key: PublicKey) -> Door | None:
    """None where users were not told where to go."""
    page = urlsplit(settings.page_url)
    tunnel = ""
    if settings.tunnel and page.scheme in ("http", "https"):
        tunnel = urlunsplit((page.scheme.replace("http", "ws"), page.netloc, f"{page.path.rstrip('/')}/tunnel", "", ""))
    if settings.ssh_published and settings.ssh_host:
        return Door(settings.ssh_host, settings.public_ssh_port or settings.ssh_port, key, settings.login_separator, True, tunnel)
    host = settings.ssh_host or page.hostname
    return Door(host, 22, key, settings.login_separator, False, tunnel) if tunnel and host else None


def base_path(settings: GatewaySettings) -> str:
    """The Hub's base URL, less the host; ends with a slash."""
    path = urlsplit(settings.public_url).path if settings.public_url else os.environ.get("JUPYTERHUB_BASE_URL", "/")
    return f"/{path.strip('/')}/" if path.strip("/") else "/"

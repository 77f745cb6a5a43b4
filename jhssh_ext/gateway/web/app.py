"""Puts the pages under the service's prefix. Each handler finds its parts in the application's settings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tornado.web import Application, RequestHandler

from ..authenticate.registered_keys import RegisteredKeys
from ..connect.hub_client import HubClient
from . import admin_page, approval, client_api, ssh_page
from .admin_api import RefreshHandler
from .api import KeysChangedHandler
from .client_handlers import Turns
from .handlers import HealthHandler, IndexHandler, MetricsHandler, MetricsPage, NotFoundHandler
from .health import Health
from .key_refresh import KeyRefresh
from .key_refresher import KeyRefresher
from .pages import LoginCallback, Site, StaticFiles

__all__ = ["Health", "make_app"]


def make_app(
    prefix: str,
    *,
    health: Health,
    metrics: MetricsPage,
    hub: HubClient | None,
    keys: RegisteredKeys | None,
    ssh_host: str = "",
    ssh_port: int = 22,
    site: Site | None = None,
    refresh: KeyRefresh | None = None,
    more: Iterable[tuple[str, type[RequestHandler], dict[str, Any]]] = (),
) -> Application:
    """``prefix`` is $JUPYTERHUB_SERVICE_PREFIX; ``more`` are handlers below it that are none of this room's.

    Without ``hub``, ``keys`` and ``site`` (nothing could be wired) the API answers 503, and of the pages there is one that says
    so.
    """
    base = re.escape("/" + prefix.strip("/")) if prefix.strip("/") else ""
    pages: list[Any] = [
        *((base + path, handler) for path, handler in (*ssh_page.HANDLERS, *admin_page.HANDLERS, *approval.HANDLERS)),
        (base + r"/oauth_callback", LoginCallback),
        (base + r"/static/(.*)", StaticFiles, {"path": str(Path(__file__).parent / "static")}),
    ]
    return Application(
        [
            *(pages if site is not None else []),
            (base + r"/?", IndexHandler),
            (base + r"/health", HealthHandler),
            (base + r"/metrics", MetricsHandler),
            (base + r"/api/keys-changed", KeysChangedHandler),
            (base + r"/api/refresh", RefreshHandler),
            *((base + path, handler) for path, handler in client_api.HANDLERS),
            *((base + path, handler, values) for path, handler, values in more),
        ],
        default_handler_class=NotFoundHandler,
        log_function=lambda handler: None,  # the audit log has what matters; paths may hold what others chose
        health=health,
        metrics=metrics,
        hub=hub,
        refresher=KeyRefresher(keys.refresh, keys.expire) if keys is not None else None,
        ssh_host=ssh_host,
        ssh_port=ssh_port,
        refresh=refresh,
        client_strangers=Turns(),
        client_users=Turns(),
        admin_scope=site.admin_scope if site is not None else "",
        site=site,
        cookie_secret=site.login.cookie_secret if site is not None else None,
    )

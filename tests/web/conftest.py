"""Windows in which users of a real Hub are logged in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from ..harness import chromium as chromium_harness
from ..harness.hub import Hub
from ..harness.ssh import KeyPair, make_key

ADMIN = "page-admin"
SUPPORT = "page-support"
SCOPE = "custom:jhssh:admin"
CONFIG = f"""
c.Authenticator.admin_users = {{{ADMIN!r}}}
c.JupyterHub.custom_scopes = {{{SCOPE!r}: {{"description": "See and end SSH connections"}}}}
c.JupyterHub.load_roles.append({{"name": "ssh-admin", "users": [{SUPPORT!r}], "scopes": [{SCOPE!r}]}})
c.JupyterHub.services[-1]["oauth_client_allowed_scopes"] = [{SCOPE!r}]
"""


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    with chromium_harness.running() as browser:
        yield browser


@pytest.fixture(scope="package")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """With an admin."""
    made = Hub(tmp_path_factory.mktemp("web"), config=CONFIG)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def window(chromium: Browser, hub: Hub) -> Iterator[Callable[..., Page]]:
    """``window("alice")``: a browser of alice's own, logged in to the Hub; other arguments as Browser.new_context takes them."""
    contexts: list[BrowserContext] = []

    def make(user: str, at: Hub = hub, **options: Any) -> Page:
        page = chromium_harness.log_in(chromium, at, user, **options)
        contexts.append(page.context)
        return page

    yield make
    for context in contexts:
        context.close()


@pytest.fixture(scope="package")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[KeyPair]:
    folder = tmp_path_factory.mktemp("keys")
    return [make_key(folder / f"id_{number}") for number in range(3)]


def ssh_page(hub: Hub) -> str:
    return f"{hub.url}/services/ssh/"

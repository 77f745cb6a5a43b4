"""What the log says at the start of settings that nobody made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncssh
import pytest

from jhssh_ext.gateway.authenticate.approvals import Approvals, Bounds
from jhssh_ext.gateway.authenticate.authentication import Authentication
from jhssh_ext.gateway.authenticate.browser_login import BrowserLogin
from jhssh_ext.gateway.authenticate.registered_keys import RegisteredKeys
from jhssh_ext.gateway.authenticate.sessions import Sessions
from jhssh_ext.gateway.authenticate.user_keys import UserKeys
from jhssh_ext.gateway.connect.hub_client import HubClient
from jhssh_ext.gateway.connect.server_starter import ServerStarter
from jhssh_ext.gateway.database import Database, sqlite_url
from jhssh_ext.gateway.page_wiring import left_unset, make_site
from jhssh_ext.gateway.settings import GatewaySettings
from jhssh_ext.gateway.web.client_servers import ClientServers

ALL = {"public_url": "https://h/", "ssh_host": "h", "trusted_proxies": ["127.0.0.1"]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"ssh_host": ""}, []),  # the tunnel is a way in
        ({"ssh_host": "", "tunnel": False}, ["how SSH is reached"]),
        ({"ssh_published": False, "tunnel": False}, ["how SSH is reached"]),
        ({"trusted_proxies": []}, ["come through the tunnel", "jhssh login"]),
        ({"trusted_proxies": [], "client_token_days": 0}, ["trusted_proxies is not set: all ssh clients"]),
        ({"trusted_proxies": [], "client_token_days": 0, "tunnel": False}, []),
        ({"public_url": ""}, ["public_url"]),
    ],
)
@pytest.mark.asyncio
async def test_what_is_missed_is_said(tmp_path: Path, changes: dict[str, Any], said: list[str]) -> None:
    settings = GatewaySettings(**{"hub_api_url": "http://127.0.0.1:1/hub/api", "hub_api_token": "t" * 32, **ALL, **changes})
    database, hub = Database(sqlite_url(str(tmp_path / "x.sqlite"))), HubClient("http://127.0.0.1:1/hub/api", "t" * 32)
    login = BrowserLogin(
        Approvals(database, b"s" * 32, Bounds()),
        Authentication(hub, RegisteredKeys([]), separator="+", allow_shared_servers=False),
        link="https://h/services/ssh/login",
        separator="+",
    )
    site = make_site(
        settings,
        database,
        hub,
        host_key=asyncssh.generate_private_key("ssh-ed25519"),
        user_keys=UserKeys(database),
        sessions=Sessions(database),
        browser_login=login,
        client_servers=ClientServers(hub, ServerStarter(hub, lambda target: "")),
        note=lambda event, values: None,
    )
    found = list(left_unset(settings, site))
    hub.close()
    await database.close()
    assert len(found) == len(said)
    assert all(part in line for part, line in zip(said, found, strict=True))

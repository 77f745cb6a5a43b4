"""Makes the key sources as the settings say: for the gateway, and for ``jhssh-gateway refresh``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..login_names import UserServer
from .authenticate.key_cache import KeyCache
from .authenticate.key_copies import Fetched, KeyCopies
from .authenticate.key_sources.hub_page import HubPageKeys
from .authenticate.key_sources.source import KeySource
from .authenticate.key_sources.url_template import URLTemplateKeys
from .authenticate.key_sources.user_server import UserServerKeys
from .authenticate.registered_keys import RegisteredKeys
from .authenticate.user_keys import Removed, UserKeys
from .connect.hub_client import HubClient
from .connect.server_client import fetch_keys
from .connect.server_starter import ServerStarter
from .database import Database
from .settings import GatewaySettings


def make_keys(
    settings: GatewaySettings,
    database: Database,
    hub: HubClient,
    starter: ServerStarter,
    *,
    removed: Removed,
    fetched: Callable[[str], None] = lambda outcome: None,
) -> tuple[RegisteredKeys, UserKeys]:
    """``removed`` and ``fetched`` as RegisteredKeys and KeyCache take them. Raises ValueError for a source that can't be used."""
    user_keys = UserKeys(database, max_age=settings.page_key_max_age, removed=removed)
    ages: dict[str, Any] = {
        "max_age": settings.key_max_age,
        "fresh_age": settings.key_fresh_age,
        "stopped_max_age": settings.stopped_key_max_age,
    }

    async def fetch(target: UserServer) -> Fetched:
        user = await hub.user(target.user)
        state = starter.state_of(target, user)
        return Fetched(await fetch_keys(state, target), state.spawn, user.created if user else "")

    def source(name: str) -> KeySource:
        if name == UserServerKeys.name:
            return UserServerKeys(KeyCache(KeyCopies(database, name), fetch, fetched=fetched, **ages))
        if name == HubPageKeys.name:
            return HubPageKeys(user_keys)
        return URLTemplateKeys(name, database, hub, **ages)

    return RegisteredKeys([source(name) for name in settings.key_sources], removed=removed), user_keys

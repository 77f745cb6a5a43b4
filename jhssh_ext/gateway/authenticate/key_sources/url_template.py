"""Keys that a site publishes by user name, as GitHub and GitLab do: ``https://github.com/{username}.keys``.

Whoever has that name there has the keys: it is for Hubs whose users are those of the site.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any
from urllib.parse import quote, urlsplit

from ....errors import KeySourceUnavailable, KeyUnknown
from ....login_names import UserServer
from ....public_keys import MAX_TEXT, PublicKey, read_authorized_keys
from ...connect.bounded_http import BoundedClient, NoAnswer
from ...connect.hub_client import HubClient
from ...database import Database
from ..key_cache import KeyCache
from ..key_copies import Fetched, KeyCopies
from .source import KeySource

KNOWN = {"github": "https://github.com/{username}.keys", "gitlab": "https://gitlab.com/{username}.keys"}
PLACE = "{username}"
HERE = ("127.0.0.1", "::1", "localhost")
"""where no one listens in without https"""


class URLTemplateKeys(KeySource):
    """``template`` is a name in KNOWN or an https URL with ``{username}``; ``ages`` are KeyCache's. Raises ValueError.

    An answer has at most 64 KiB, comes within 10 seconds and is not redirected; 404 means no keys.
    """

    of_user = True

    def __init__(self, template: str, database: Database, hub: HubClient, **ages: Any) -> None:
        self.template = KNOWN.get(template, template)
        url = urlsplit(self.template)
        if PLACE not in url.path + url.query or PLACE in url.netloc or not url.hostname:
            raise ValueError(f"c.Gateway.key_sources: {template!r} is no URL with {PLACE} in its path")
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in HERE):
            raise ValueError(f"c.Gateway.key_sources: {template!r} is no https URL, so that anybody on the way could add keys")
        self.name = template if template in KNOWN else f"url {hashlib.sha256(template.encode()).hexdigest()[:32]}"
        self._hub = hub
        self._client = BoundedClient(max_body=MAX_TEXT, max_clients=10, connect_timeout=5.0, request_timeout=10.0)
        self.cache = KeyCache(KeyCopies(database, self.name), self._fetch, **ages)

    async def knows(self, target: UserServer, key: PublicKey) -> bool:
        return await self.cache.knows(UserServer(target.user), key)

    async def holds(self, target: UserServer, key: PublicKey, *, may_fetch: bool, created: str = "") -> bool:
        return await self.cache.holds(UserServer(target.user), key, may_fetch=may_fetch, created=created)

    async def held(self, target: UserServer, keys: Collection[PublicKey]) -> set[PublicKey]:
        return await self.cache.held(UserServer(target.user), keys)

    async def forget_user(self, user: str, but: str = "") -> None:
        await self.cache.forget_user(user, but)

    async def close(self) -> None:
        await self.cache.close()
        self._client.close()

    async def _fetch(self, target: UserServer) -> Fetched:
        user = await self._hub.user(target.user)  # strangers do not have the site asked for names of nobody
        if user is None:
            raise KeyUnknown(explanation=f"the Hub has no user {target}")
        site = urlsplit(self.template).netloc
        try:
            answer = await self._client.fetch(self.template.replace(PLACE, quote(target.user, safe="")))
        except NoAnswer as error:
            raise KeySourceUnavailable(explanation=f"{site} gives no keys of {target}: {error}") from error
        if answer.code == 404:
            return Fetched(frozenset(), "", user.created)
        if answer.code != 200:
            raise KeySourceUnavailable(explanation=f"{site} gives no keys of {target}: HTTP {answer.code}")
        keys, _ignored = read_authorized_keys(answer.body.decode("utf-8", "replace"))
        return Fetched(frozenset(keys), "", user.created)

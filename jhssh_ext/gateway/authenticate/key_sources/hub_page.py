"""Keys that a user keeps on the gateway's page in the Hub."""

from __future__ import annotations

from collections.abc import Collection

from ....login_names import UserServer
from ....public_keys import PublicKey
from ..user_keys import UserKeys
from .source import KeySource


class HubPageKeys(KeySource):
    """They are the gateway's own rows: always live, no ages."""

    name = "page"
    of_user = True

    def __init__(self, keys: UserKeys) -> None:
        self.keys = keys

    async def knows(self, target: UserServer, key: PublicKey) -> bool:
        return await self.keys.has(target.user, key)

    async def holds(self, target: UserServer, key: PublicKey, *, may_fetch: bool, created: str = "") -> bool:
        found = await self.keys.holds(target.user, key, created or None)
        if not found and created and await self.keys.holds(target.user, key):
            await self.keys.forget_earlier(target.user, created)
        return found

    async def held(self, target: UserServer, keys: Collection[PublicKey]) -> set[PublicKey]:
        return await self.keys.held(target.user, keys)

    async def forget_user(self, user: str, but: str = "") -> None:
        if but:
            await self.keys.forget_earlier(user, but)
        else:
            await self.keys.forget(user)

    async def close(self) -> None:
        """Nothing is under way."""

"""Keys that a user registered on a user server: its key store opens it alone."""

from __future__ import annotations

from collections.abc import Collection

from ....login_names import UserServer
from ....public_keys import PublicKey
from ..key_cache import KeyCache
from .source import KeySource


class UserServerKeys(KeySource):
    """``cache`` fetches from user servers."""

    name = "server"
    of_user = False

    def __init__(self, cache: KeyCache) -> None:
        self.cache = cache

    async def knows(self, target: UserServer, key: PublicKey) -> bool:
        return await self.cache.knows(target, key)

    async def holds(self, target: UserServer, key: PublicKey, *, may_fetch: bool, created: str = "") -> bool:
        return await self.cache.holds(target, key, may_fetch=may_fetch, created=created)

    async def held(self, target: UserServer, keys: Collection[PublicKey]) -> set[PublicKey]:
        return await self.cache.held(target, keys)

    async def still_holds(self, target: UserServer, key: PublicKey, spawn: str) -> bool:
        """Now that the user server runs as ``spawn``: is the key in its live key store? Raises what a fetch raises.

        It is read anew where the copy is of another spawn: this login started the server, or it, even its user, was made anew.
        """
        if not await self.cache.is_of(target, spawn):
            await self.cache.refresh(target)
        return await self.cache.knows(target, key)

    async def forget_user(self, user: str, but: str = "") -> None:
        await self.cache.forget_user(user, but)

    async def close(self) -> None:
        await self.cache.close()

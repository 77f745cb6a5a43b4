"""All key sources together: which keys open a user server, and who is told when one no longer does."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from ...errors import Unavailable
from ...login_names import UserServer
from ...public_keys import PublicKey
from .key_cache import KeyCache
from .key_sources.hub_page import HubPageKeys
from .key_sources.source import KeySource
from .key_sources.url_template import URLTemplateKeys
from .key_sources.user_server import UserServerKeys
from .user_keys import Removed, nobody


class RegisteredKeys:
    """A key counts where any of the ``sources`` holds it. Knows neither ages nor rows.

    ``removed`` is told which keys no longer open what they did, so that the sessions which they opened end. Everything that is
    awaited raises DatabaseUnavailable.
    """

    def __init__(self, sources: Sequence[KeySource], *, removed: Removed = nobody) -> None:
        self._removed = removed
        self.sources = tuple(sources)
        self._servers = [source for source in sources if isinstance(source, UserServerKeys)]
        self._others = [source for source in sources if not isinstance(source, UserServerKeys)]
        for source in sources:
            if isinstance(source, UserServerKeys):
                source.cache.removed = self._left_server
            elif isinstance(source, URLTemplateKeys):
                source.cache.removed = self._left_site
            elif isinstance(source, HubPageKeys):
                source.keys.removed = removed

    @property
    def server_cache(self) -> KeyCache | None:
        """Of the key stores of user servers; None where they do not count."""
        return self._servers[0].cache if self._servers else None

    async def knows(self, target: UserServer, key: PublicKey) -> bool:
        """Was it seen, however long ago? Asks nobody."""
        for source in self.sources:
            if await source.knows(target, key):
                return True
        return False

    async def holds(self, target: UserServer, key: PublicKey, *, may_fetch: bool, created: str = "") -> bool:
        """As KeySource.holds. What is at hand decides first: a source that hangs holds up no key that another has."""
        for source in self.sources:
            if await source.holds(target, key, may_fetch=False, created=created):
                return True
        if not may_fetch:
            return False
        asking = [asyncio.create_task(source.holds(target, key, may_fetch=True, created=created)) for source in self.sources]
        failure: Unavailable | None = None
        try:
            for answer in asyncio.as_completed(asking):
                try:
                    if await answer:
                        return True
                except Unavailable as error:
                    failure = error
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        if failure is not None:
            raise failure
        return False

    async def still_holds(self, target: UserServer, key: PublicKey, spawn: str) -> bool:
        """Does the key count for the user server that now runs as ``spawn``? Raises what a fetch raises."""
        if await self._held_by_others(target, [key]):
            return True
        for server in self._servers:
            if await server.still_holds(target, key, spawn):
                return True
        return False

    async def expire(self, target: UserServer) -> None:
        """The user server says that its keys have changed."""
        for server in self._servers:
            await server.cache.expire(target)

    async def refresh(self, target: UserServer) -> None:
        """Fetch them now. Raises what a fetch raises."""
        for server in self._servers:
            await server.cache.refresh(target)

    async def forget_user(self, user: str, but: str = "") -> None:
        """The user is gone, or is another one by now: nothing is kept but what is of the user created ``but``."""
        for source in self.sources:
            await source.forget_user(user, but)

    async def close(self) -> None:
        for source in self.sources:
            await source.close()

    async def _left_server(self, target: UserServer, keys: Collection[PublicKey]) -> None:
        """What another source holds too still opens the server."""
        held = await self._held_by_others(target, keys)
        gone = [key.fingerprint for key in keys if key not in held]
        if gone:
            await self._removed(target.user, target.server, gone)

    async def _left_site(self, target: UserServer, keys: Collection[PublicKey]) -> None:
        """Who takes a key from where it opens everything means it to open nothing: no other source is asked."""
        await self._removed(target.user, None, [key.fingerprint for key in keys])

    async def _held_by_others(self, target: UserServer, keys: Collection[PublicKey]) -> set[PublicKey]:
        held: set[PublicKey] = set()
        for source in self._others:
            held |= await source.held(target, keys)
        return held

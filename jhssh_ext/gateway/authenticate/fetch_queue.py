"""Places for questions to key sources: so many at once, so many for one user, so many who wait. Knows neither keys nor ages."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class FetchQueue:
    """``places`` at once, ``per_user`` of them for one user: who has many servers that hang delays nobody else.

    At most ``room`` are inside, with a place or without, ``room_per_user`` of one user; None: as many as come.
    """

    def __init__(self, places: int, per_user: int, *, room: int | None = None, room_per_user: int | None = None) -> None:
        self._places = asyncio.Semaphore(places)
        self._per_user = per_user
        self._places_of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._room, self._room_per_user = room, room_per_user
        self._inside: Counter[str] = Counter()
        self._count = 0

    def has_room(self, user: str) -> bool:
        """May one more enter for this user?"""
        return (self._room is None or self._count < self._room) and (
            self._room_per_user is None or self._inside[user] < self._room_per_user
        )

    def enter(self, user: str) -> None:
        """One more is inside until :meth:`leave`."""
        self._count += 1
        self._inside[user] += 1

    def leave(self, user: str) -> None:
        self._count -= 1
        self._inside[user] -= 1
        if not self._inside[user]:
            del self._inside[user]

    @asynccontextmanager
    async def place(self, user: str) -> AsyncIterator[None]:
        """Wait for a place, first come, first served; kept until the block ends."""
        own = self._places_of.setdefault(user, asyncio.Semaphore(self._per_user))
        async with own, self._places:
            yield

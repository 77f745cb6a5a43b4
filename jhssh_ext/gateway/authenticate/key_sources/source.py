"""What all key sources can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection

from ....login_names import UserServer
from ....public_keys import PublicKey


class KeySource(ABC):
    """``name`` is short and plain: it stands in rows of the database and on pages.

    Everything that is awaited raises DatabaseUnavailable; what asks the source itself raises the Unavailable of that source where
    its holder may learn of it, and HubUnavailable.
    """

    name: str
    of_user: bool
    """are its keys the user's, for all their servers, or those of one user server?"""

    @abstractmethod
    async def knows(self, target: UserServer, key: PublicKey) -> bool:
        """Was the key seen here, however long ago? Asks nobody; one indexed read."""

    @abstractmethod
    async def holds(self, target: UserServer, key: PublicKey, *, may_fetch: bool, created: str = "") -> bool:
        """Does the key count for this user server now? Asks the source only with ``may_fetch``, and as seldom as ages allow.

        ``created``: UserModel.created of the user; keys of an earlier user of that name count for nothing and are forgotten.
        Empty: nobody has asked the Hub yet, so that the answer opens nothing.
        """

    async def held(self, target: UserServer, keys: Collection[PublicKey]) -> set[PublicKey]:
        """Which of the keys, that may be many, count for this user server now? Asks nobody."""
        return {key for key in keys if await self.holds(target, key, may_fetch=False)}

    @abstractmethod
    async def forget_user(self, user: str, but: str = "") -> None:
        """The user is gone, or is another one by now: nothing is kept but what is of the user created ``but``."""

    @abstractmethod
    async def close(self) -> None:
        """Ends what is under way."""

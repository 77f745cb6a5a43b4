"""What a form carries so that it works once, for one user and for one purpose: scripts that have the user's cookie lack it."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Any, cast

from sqlalchemy import CursorResult, delete, select
from sqlalchemy.orm import Session

from ..database import Database
from ..tables import Nonce

MAX_PURPOSE = 255


class Nonces:
    """Kept in the database, so that a form which one gateway sent is taken by another. Times are seconds of ``clock``.

    Each works once, within ``max_age``. A user has at most ``max_per_user``: the oldest go first, so that who opens page after
    page bothers nobody else.
    """

    def __init__(
        self,
        database: Database,
        *,
        max_age: float = 900.0,
        max_per_user: int = 200,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._max_age, self._max_per_user, self._clock = database, max_age, max_per_user, clock

    async def make(self, user: str, purpose: str) -> str:
        """A new one: 43 characters of [A-Za-z0-9_-]. Raises DatabaseUnavailable."""
        nonce = secrets.token_urlsafe(32)
        now = self._clock()

        def work(session: Session) -> None:
            session.execute(delete(Nonce).where(Nonce.expires <= now))
            # The new one is not there yet: of the others the newest stay.
            surplus = select(Nonce.digest).where(Nonce.user == user).order_by(Nonce.expires.desc()).offset(self._max_per_user - 1)
            session.execute(delete(Nonce).where(Nonce.digest.in_(list(session.scalars(surplus)))))
            session.add(Nonce(digest=digest_of(nonce), user=user, purpose=_checked(purpose), expires=now + self._max_age))

        await self._database.run(work)
        return nonce

    async def use(self, nonce: str, user: str, purpose: str) -> bool:
        """Was it made for this user and purpose, and not used yet? It is used now. Raises DatabaseUnavailable."""
        if len(nonce) > 100:
            return False
        now = self._clock()

        def work(session: Session) -> bool:
            found = session.execute(
                delete(Nonce).where(
                    Nonce.digest == digest_of(nonce),
                    Nonce.user == user,
                    Nonce.purpose == _checked(purpose),
                    Nonce.expires > now,
                )
            )
            return cast("CursorResult[Any]", found).rowcount == 1

        return await self._database.run(work)


def digest_of(secret: str) -> str:
    """What is stored of a random secret: 64 hexadecimal digits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _checked(purpose: str) -> str:
    assert len(purpose) <= MAX_PURPOSE, "purposes are ours"
    return purpose

"""Tokens of the ``jhssh`` command: good for the gateway's API alone, for one user, for a while. Kept as digests.

They belong to one user as the Hub made it, as keys on the page do (user_keys.py).
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from ...errors import HubUnavailable, TokenExpired, TokenInvalid
from ..database import Database
from ..tables import ClientToken
from .nonces import digest_of

PREFIX = "jhssh_"
SHAPE = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")
MAX_TOKENS = 20
"""of one user: the one that was not used for the longest time makes room"""
DAY = 86400.0
REMEMBERED = 30 * DAY
"""how long an expired one is known to be that"""
USED_EVERY = 60.0
"""seconds between two notes that a token is in use"""
LOGIN_AGAIN = "Run: jhssh login"


@dataclass(frozen=True)
class TokenInfo:
    """One token as its user sees it. Times are seconds since 1970."""

    id: str
    """what it is called by: worth nothing by itself"""
    user: str
    user_created: str
    client: str
    """what asked for it, as it says itself"""
    address: str
    created: float
    expires: float
    used: float


COLUMNS = tuple(getattr(ClientToken, name) for name in TokenInfo.__dataclass_fields__)


class ClientTokens:
    """``max_age`` is in days. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database, *, max_age: float, clock: Callable[[], float] = time.time) -> None:
        self.days = max_age
        self._database, self._clock = database, clock

    async def make(self, user: str, created: str, client: str, address: str) -> tuple[str, TokenInfo]:
        """A new token, which is told this once. Raises HubUnavailable where the Hub does not show ``created``."""
        return await self._database.run(self.making(user, created, client, address))

    def making(self, user: str, created: str, client: str, address: str) -> Callable[[Session], tuple[str, TokenInfo]]:
        """:meth:`make`, for a transaction that does more."""
        if not created:
            raise HubUnavailable(explanation="the Hub does not say when users were made: give the gateway the scope read:users")
        token, now = PREFIX + secrets.token_urlsafe(32), self._clock()
        row = ClientToken(
            id=secrets.token_urlsafe(16), digest=digest_of(token), user=user, user_created=created, client=client[:255],
            address=address[:64], created=now, expires=now + self.days * DAY, used=now,
        )  # fmt: skip

        def work(session: Session) -> tuple[str, TokenInfo]:
            session.execute(delete(ClientToken).where(ClientToken.expires <= now - REMEMBERED))
            session.execute(delete(ClientToken).where(ClientToken.user == user, ClientToken.user_created != created))
            # The new one is not there yet: of the others the last used stay, the expired go first.
            order = ((ClientToken.expires > now).desc(), ClientToken.used.desc())
            surplus = select(ClientToken.id).where(ClientToken.user == user).order_by(*order).offset(MAX_TOKENS - 1)
            session.execute(delete(ClientToken).where(ClientToken.id.in_(list(session.scalars(surplus)))))
            session.add(row)
            return token, _info(row)

        return work

    async def find(self, token: str) -> TokenInfo:
        """Whose it is. Whether that user is still there is for the caller to ask. Raises TokenInvalid or TokenExpired."""
        if not SHAPE.fullmatch(token):
            raise TokenInvalid(f"This is no token of this gateway. {LOGIN_AGAIN}")
        (rows,) = await self._database.select(select(*COLUMNS).where(ClientToken.digest == digest_of(token)))
        if not rows:
            raise TokenInvalid(f"This login was revoked, or is none of this gateway's. {LOGIN_AGAIN}")
        found, now = TokenInfo(*rows[0]), self._clock()
        if found.expires <= now:
            raise TokenExpired
        if not found.used <= now < found.used + USED_EVERY:
            await self._database.run(
                lambda session: session.execute(update(ClientToken).where(ClientToken.id == found.id).values(used=now))
            )
        return found

    async def list(self, user: str, created: str) -> list[TokenInfo]:
        """Those that have not expired, the newest first; none of an earlier user of that name."""
        wanted = (ClientToken.user == user, ClientToken.user_created == created, ClientToken.expires > self._clock())
        query = select(*COLUMNS).where(*wanted).order_by(ClientToken.created.desc(), ClientToken.id)
        (rows,) = await self._database.select(query)
        return [TokenInfo(*row) for row in rows]

    async def revoke(self, user: str, id: str) -> TokenInfo | None:
        """The token, which was this user's; None if there is none. Of two who revoke it at once, one does."""
        wanted = (ClientToken.user == user, ClientToken.id == id[:64])

        def work(session: Session) -> TokenInfo | None:
            row = session.scalars(select(ClientToken).where(*wanted).with_for_update()).first()
            if row is None:
                return None
            session.execute(delete(ClientToken).where(*wanted))
            return _info(row)

        return await self._database.run(work)

    async def forget(self, user: str, but: str = "") -> None:
        """The user is gone, or is another one by now: all go but those of the user created ``but``."""
        await self._database.run(
            lambda session: session.execute(delete(ClientToken).where(ClientToken.user == user, ClientToken.user_created != but))
        )


def _info(row: ClientToken) -> TokenInfo:
    return TokenInfo(
        id=row.id, user=row.user, user_created=row.user_created, client=row.client, address=row.address,
        created=row.created, expires=row.expires, used=row.used,
    )  # fmt: skip

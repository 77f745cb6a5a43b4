"""Keys that users keep on the gateway's page: rows and their rules. They count for all servers of their user, running or not.

They belong to one user as the Hub made it: ``created`` is what the Hub says of that (UserModel.created). A user of the same name
who was made later owns none of them, and the first look on their behalf removes the old ones.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from ...errors import HubUnavailable, KeyDuplicate, KeyTooMany
from ...public_keys import PublicKey, parse_lines
from ..database import Database, insert_missing, upsert
from ..tables import KeyUse, UserKey

DAY = 86400.0
MAX_KEYS = 100
"""of one user"""

Removed = Callable[[str, "str | None", Collection[str]], Awaitable[object]]
"""``removed(user, server, fingerprints)``: these keys no longer open that server (None: any of that user's)"""


async def nobody(user: str, server: str | None, fingerprints: Collection[str]) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class PageKey:
    """One key as its user sees it. Times are seconds since 1970."""

    fingerprint: str
    public_key: str
    """line "type base64" """
    comment: str
    source: str
    """page | approval | client (the ``jhssh`` command)"""
    added: float
    renewed: float
    expires: float | None
    """from when on it has to be renewed; None: never"""
    last_used: float | None
    last_address: str


class UserKeys:
    """``max_age`` is in days: older keys count for nothing until they are renewed; 0: for ever.

    Every method raises DatabaseUnavailable; those that want ``created`` raise HubUnavailable where the Hub does not show it.
    ``removed`` is told which keys went, after they are gone.
    """

    def __init__(
        self, database: Database, clock: Callable[[], float] = time.time, *, max_age: float = 0.0, removed: Removed = nobody
    ) -> None:
        self._database = database
        self._clock = clock
        self._max_age = max_age * DAY
        self.removed = removed

    async def list(self, user: str, created: str) -> list[PageKey]:
        """All of the user's keys, the oldest first; those too old to count among them."""

        def work(session: Session) -> tuple[list[PageKey], list[str]]:
            gone = _forget_earlier(session, user, created)
            uses = {use.fingerprint: use for use in session.scalars(select(KeyUse).where(KeyUse.user == user))}
            rows = session.scalars(select(UserKey).where(UserKey.user == user).order_by(UserKey.added, UserKey.fingerprint))
            return [self._shown(row, uses.get(row.fingerprint)) for row in rows], gone

        _check(created)
        keys, gone = await self._database.run(work)
        await self._tell(user, gone)
        return keys

    async def holds(self, user: str, key: PublicKey, created: str | None = None) -> bool:
        """Does this key count for the user now? Without ``created`` for anyone who bore the name. One indexed read."""

        wanted = (UserKey.user == user, UserKey.fingerprint == key.fingerprint, UserKey.public_key == key.bare_line)
        (rows,) = await self._database.select(select(UserKey.user_created, UserKey.renewed).where(*wanted))
        for user_created, renewed in rows:
            if created is None or user_created == created:
                return not self._max_age or self._clock() < renewed + self._max_age
        return False

    async def held(self, user: str, keys: Collection[PublicKey]) -> set[PublicKey]:
        """Which of the keys count for the user now, for anyone who bore the name? One indexed read."""
        (rows,) = await self._database.select(select(UserKey.public_key, UserKey.renewed).where(UserKey.user == user))
        there = {line for line, renewed in rows if not self._max_age or self._clock() < renewed + self._max_age}
        return {key for key in keys if key.bare_line in there}

    async def has(self, user: str, key: PublicKey) -> bool:
        """Is the key there for anyone who bears or bore the name, even if it has to be renewed? One indexed read."""
        wanted = (UserKey.user == user, UserKey.fingerprint == key.fingerprint, UserKey.public_key == key.bare_line)
        (rows,) = await self._database.select(select(UserKey.added).where(*wanted))
        return bool(rows)

    async def add(self, user: str, created: str, key: PublicKey, source: str) -> None:
        """``source``: as in PageKey. Raises KeyDuplicate or KeyTooMany."""
        if not await self.add_all(user, created, [key], source):
            raise KeyDuplicate

    async def add_all(self, user: str, created: str, keys: Iterable[PublicKey], source: str) -> Sequence[PublicKey]:
        """Those of the keys that were not there yet, which are now. Raises KeyTooMany, and has added none then."""
        wanted = {key.fingerprint: key for key in keys}

        def work(session: Session) -> tuple[list[str], set[str]]:
            gone = _forget_earlier(session, user, created)
            known = set(session.scalars(select(UserKey.fingerprint).where(UserKey.user == user)))
            new = wanted.keys() - known
            if len(known) + len(new) > MAX_KEYS:
                raise KeyTooMany
            if new:
                now = self._clock()
                insert_missing(session, UserKey, [_row(user, created, wanted[each], source, now) for each in sorted(new)])
            return gone, new

        _check(created)
        gone, new = await self._database.run(work)
        await self._tell(user, gone)
        return [key for fingerprint, key in wanted.items() if fingerprint in new]

    async def remove(self, user: str, fingerprint: str) -> bool:
        """Was there such a key? Sessions that it opened end."""

        def work(session: Session) -> bool:
            found = session.execute(delete(UserKey).where(UserKey.user == user, UserKey.fingerprint == fingerprint))
            return bool(found.rowcount)  # type: ignore[attr-defined]

        there = await self._database.run(work)
        if there:
            await self.removed(user, None, [fingerprint])
        return there

    async def renew(self, user: str, created: str, fingerprint: str) -> bool:
        """Counts the key's age from now. Was there such a key?"""

        def work(session: Session) -> bool:
            row = session.get(UserKey, (user, fingerprint))
            if row is None or row.user_created != created:
                return False
            row.renewed = self._clock()
            return True

        _check(created)
        return await self._database.run(work)

    async def forget(self, user: str) -> None:
        """The user is gone: keys, and when they were used."""

        def work(session: Session) -> list[str]:
            gone = list(session.scalars(select(UserKey.fingerprint).where(UserKey.user == user)))
            session.execute(delete(UserKey).where(UserKey.user == user))
            session.execute(delete(KeyUse).where(KeyUse.user == user))
            return gone

        await self._tell(user, await self._database.run(work))

    async def forget_earlier(self, user: str, created: str) -> None:
        """Keys of those who bore the name before. Writes only where there are some."""
        earlier = select(UserKey.fingerprint).where(UserKey.user == user, UserKey.user_created != created).limit(1)
        if created and (await self._database.select(earlier))[0]:
            await self._tell(user, await self._database.run(lambda session: _forget_earlier(session, user, created)))

    async def users(self) -> dict[str, set[str]]:
        """Who keeps keys here, with ``created`` of the user whose they are (there may have been more than one of a name)."""
        (rows,) = await self._database.select(select(UserKey.user, UserKey.user_created).distinct())
        found: dict[str, set[str]] = {}
        for user, created in rows:
            found.setdefault(user, set()).add(created)
        return found

    async def used(self, user: str, fingerprint: str, address: str) -> None:
        """The key (of any source) opens a server, from this address."""
        row = {"user_name": user, "fingerprint": fingerprint, "used": self._clock(), "address": address[:64]}
        await self._database.run(lambda session: upsert(session, KeyUse, [row]))

    async def announce(self, user: str, fingerprint: str) -> Sequence[PageKey]:
        """Keys that were not added on the page, and are news to who comes in by the key ``fingerprint``, or without one (empty).

        News since that key was used last: so :meth:`used` is to be told later. Who comes in without a key, or with one that was
        never used, is told what nobody who came in without a key was told before. So whoever has keys added that are not theirs
        may come in as often and as they like: the holder of another key is told all the same, as long as they are there. Nobody
        is told of their own key.
        """

        def work(session: Session) -> list[PageKey]:
            last = session.scalar(select(KeyUse.used).where(KeyUse.user == user, KeyUse.fingerprint == fingerprint))
            new = UserKey.announced.is_(False) if last is None else UserKey.added >= last
            others = (UserKey.user == user, UserKey.source != "page", UserKey.fingerprint != fingerprint)
            rows = session.scalars(select(UserKey).where(*others, new).order_by(UserKey.added, UserKey.fingerprint))
            return [self._shown(row, None) for row in rows]

        found = await self._database.read(work)
        if found and not fingerprint:
            told = (UserKey.user == user, UserKey.fingerprint.in_([key.fingerprint for key in found]))
            await self._database.run(lambda session: session.execute(update(UserKey).where(*told).values(announced=True)))
        return found

    async def _tell(self, user: str, gone: Collection[str]) -> None:
        if gone:
            await self.removed(user, None, gone)

    def _shown(self, row: UserKey, use: KeyUse | None) -> PageKey:
        return PageKey(
            fingerprint=row.fingerprint,
            public_key=row.public_key,
            comment=row.comment,
            source=row.source,
            added=row.added,
            renewed=row.renewed,
            expires=row.renewed + self._max_age if self._max_age else None,
            last_used=use.used if use else None,
            last_address=use.address if use else "",
        )


def keys_of(text: str) -> list[PublicKey]:
    """The keys of a text that a user offers, as public_keys.parse_lines; more than anyone may have are not looked at.

    Raises KeyRefused.
    """
    if sum(1 for line in text.splitlines() if line.strip()) > MAX_KEYS:  # to look at each takes processor time
        raise KeyTooMany
    return parse_lines(text)


def _row(user: str, created: str, key: PublicKey, source: str, now: float) -> dict[str, Any]:
    return {
        "user_name": user,
        "fingerprint": key.fingerprint,
        "user_created": created,
        "public_key": key.bare_line,
        "comment": key.comment[:255],
        "source": source,
        "added": now,
        "renewed": now,
        "announced": source == "page",
    }


def _forget_earlier(session: Session, user: str, created: str) -> list[str]:
    """Removes the keys of those who bore the name before; their fingerprints."""
    earlier = (UserKey.user == user, UserKey.user_created != created)
    gone = list(session.scalars(select(UserKey.fingerprint).where(*earlier)))
    if gone:
        session.execute(delete(UserKey).where(*earlier))
        session.execute(delete(KeyUse).where(KeyUse.user == user))
    return gone


def _check(created: str) -> None:
    """Keys of nobody in particular would be the next user's of that name."""
    if not created:
        raise HubUnavailable(explanation="the Hub does not say when users were made: give the gateway the scope read:users")

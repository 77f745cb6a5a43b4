"""The rows of the key cache: for each source and user server what it last said of its keys. Knows no ages.

Several gateways write the same rows. So that none stores an answer to a question from before a change, each change is counted in
the row (``changes``), and an answer is stored together with the count from before its question.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, delete, select
from sqlalchemy.orm import Session

from ...login_names import UserServer
from ...public_keys import PublicKey
from ..database import Database, insert_missing, upsert
from ..tables import KeyCopy
from ..together import Together

COLUMNS = (KeyCopy.keys, KeyCopy.spawn, KeyCopy.user_created, KeyCopy.checked, KeyCopy.confirmed, KeyCopy.changes)


class Fetched(NamedTuple):
    """What a source says of a user's keys."""

    keys: frozenset[PublicKey]
    spawn: str
    """in which of its lives (``ServerState.spawn``); empty where it has none"""
    created: str = ""
    """``UserModel.created`` of the user whom it was asked for"""


@dataclass(frozen=True)
class Copy:
    """One row."""

    lines: frozenset[str]
    """the keys, as PublicKey.bare_line"""
    spawn: str
    """the spawn that was asked last"""
    created: str
    checked: float
    """when it was known to be right; 0: it counts for nothing until it is fetched anew"""
    confirmed: float
    """when the source itself last gave the keys"""
    changes: int

    def has(self, key: PublicKey) -> bool:
        return key.bare_line in self.lines


MAX_QUESTION = 120.0
"""seconds that a question may take; a row that is further ahead is of a clock that was put back"""
BLANK = Copy(frozenset(), "", "", 0.0, 0.0, 0)


class Entry(NamedTuple):
    """A Copy without its keys."""

    created: str
    checked: float
    changes: int


class Stored(NamedTuple):
    """What became of an answer."""

    current: bool
    """False: the keys had changed meanwhile, so that it counts for nothing"""
    removed: frozenset[PublicKey]
    """what was there before and is not now"""


class KeyCopies:
    """The copies of one ``source``. Everything raises DatabaseUnavailable."""

    def __init__(self, database: Database, source: str) -> None:
        self._database, self.source = database, source
        self._changes = Together(self._change_all)

    async def read(self, target: UserServer) -> Copy | None:
        """One indexed read."""
        (rows,) = await self._database.select(self._select(target))
        return _copy(rows[0]) if rows else None

    async def all(self) -> dict[UserServer, Entry]:
        """All of them, without their keys."""
        (rows,) = await self._database.select(
            select(KeyCopy.user, KeyCopy.server, KeyCopy.user_created, KeyCopy.checked, KeyCopy.changes).where(
                KeyCopy.source == self.source
            )
        )
        return {UserServer(user, server): Entry(*rest) for user, server, *rest in rows}

    async def store(self, target: UserServer, fetched: Fetched | None, *, asked: float, changes: int) -> Stored:
        """The answer to the question of the time ``asked``, when so many ``changes`` were known.

        None: the source could not say, but nothing has changed either (its server is stopped): what there is stays. So it never
        takes the place of what the source itself said, however long that was on its way: a key may have gone.
        """

        def change(before: Copy) -> Copy:
            latest = before.checked if fetched is None else before.confirmed
            if 0 < latest - asked < MAX_QUESTION:
                return before  # another gateway asked later
            after = replace(before, checked=asked if before.changes == changes else 0.0)
            if fetched is None:
                return after
            lines = frozenset(key.bare_line for key in fetched.keys)
            return replace(after, lines=lines, spawn=fetched.spawn[:64], created=fetched.created, confirmed=asked)

        before, after = await self._change(target, change)
        return Stored(before.changes == changes, frozenset(map(_key, before.lines - after.lines)))

    async def expire(self, target: UserServer) -> None:
        """The keys have changed: the copy counts for nothing until an answer to a question from now on."""
        await self._change(target, lambda before: replace(before, checked=0.0, changes=before.changes + 1))

    async def _change(self, target: UserServer, change: Callable[[Copy], Copy]) -> tuple[Copy, Copy]:
        """Replaces a row by what ``change`` makes of it; the row before and after. Many at once share a transaction."""
        return await self._changes.put((target, change))

    async def _change_all(self, wanted: Sequence[tuple[UserServer, Callable[[Copy], Copy]]]) -> list[tuple[Copy, Copy]]:
        return await self._database.run(lambda session: self._work(session, wanted))

    def _work(self, session: Session, wanted: Sequence[tuple[UserServer, Callable[[Copy], Copy]]]) -> list[tuple[Copy, Copy]]:
        """Few statements for many rows: while it lasts nobody else writes (SQLite)."""
        targets = sorted({target for target, _ in wanted})  # in one order for all, so that no two wait for each other
        copies = self._locked(session, targets)
        missing = [target for target in targets if target not in copies]
        if missing:
            insert_missing(session, KeyCopy, [self._row(target, BLANK) for target in missing])
            copies |= self._locked(session, missing)
        outcomes = []
        for target, change in wanted:
            before = copies[target]
            copies[target] = change(before)
            outcomes.append((before, copies[target]))
        upsert(session, KeyCopy, [self._row(target, copies[target]) for target in targets])
        return outcomes

    async def forget(self, user: str, server: str | None = None, but: str = "") -> dict[UserServer, frozenset[PublicKey]]:
        """Removes the copies of a user (and server, unless None) but those of the user created ``but``; what keys they had.

        Writes only where there is something to remove.
        """
        wanted = [KeyCopy.source == self.source, KeyCopy.user == user]
        if server is not None:
            wanted.append(KeyCopy.server == server)
        if but:
            wanted.append(KeyCopy.user_created.not_in(["", but]))
        (rows,) = await self._database.select(select(KeyCopy.server, *COLUMNS).where(*wanted))
        if rows:
            await self._database.run(lambda session: session.execute(delete(KeyCopy).where(*wanted)))
        return {UserServer(user, name): frozenset(map(_key, _copy(row).lines)) for name, *row in rows}

    def _is(self, target: UserServer) -> tuple[ColumnElement[bool], ...]:
        return KeyCopy.source == self.source, KeyCopy.user == target.user, KeyCopy.server == target.server

    def _select(self, target: UserServer) -> Select:  # type: ignore[type-arg]
        return select(*COLUMNS).where(*self._is(target))

    def _locked(self, session: Session, targets: Sequence[UserServer]) -> dict[UserServer, Copy]:
        """Those rows that there are, kept from other gateways until the transaction ends."""
        rows = session.execute(
            select(KeyCopy.user, KeyCopy.server, *COLUMNS)
            .where(KeyCopy.source == self.source, KeyCopy.user.in_(sorted({target.user for target in targets})))
            .order_by(KeyCopy.user, KeyCopy.server)
            .with_for_update()
        )
        found = {UserServer(user, server): row for user, server, *row in rows}
        return {target: _copy(found[target]) for target in targets if target in found}

    def _row(self, target: UserServer, copy: Copy) -> dict[str, Any]:
        return {
            "source": self.source,
            "user_name": target.user,
            "server_name": target.server,
            "user_created": copy.created,
            "spawn": copy.spawn,
            "changes": copy.changes,
            "checked": copy.checked,
            "confirmed": copy.confirmed,
            "public_keys": "\n".join(sorted(copy.lines)),
        }


def _copy(row: Sequence[Any]) -> Copy:
    keys, *rest = row
    return Copy(frozenset(keys.split("\n")) if keys else frozenset(), *rest)


def _key(text: str) -> PublicKey:
    type_, _, blob = text.partition(" ")
    return PublicKey(type_, base64.b64decode(blob))

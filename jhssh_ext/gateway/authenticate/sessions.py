"""The open connections of all gateways, in the database: shown on the pages, ended from there, or when their key is removed.

Each gateway writes its own, and says every ``heartbeat`` seconds that they are open. The wish to end one of another gateway is a
mark on its row, for which that gateway looks every ``poll`` seconds. A mark may be missed, where the database did not answer one
of the two: so at each heartbeat it is asked anew whether the key of each connection still opens what it opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, delete, or_, select, update
from sqlalchemy.orm import Session

from ...errors import ConnectionEnded, DatabaseUnavailable, JHSSHError
from ..database import Database, upsert
from ..tables import OpenSession
from .login import Login

HEARTBEAT, POLL = 15.0, 1.0
LOST_AFTER = 4
"""heartbeats without a word of a gateway, after which its connections are shown no more"""
FORGOTTEN_AFTER = 86400.0
"""seconds without a word of it, after which its rows go; before, it may come back, and is to find who was asked to end"""
MAX_LISTED = 200

log = logging.getLogger("jhssh.sessions")


@dataclass(frozen=True)
class SessionInfo:
    """One open connection. Times are seconds since 1970; bytes are those of channel data."""

    id: str
    user: str
    server: str
    method: str
    fingerprint: str
    address: str
    since: float
    from_client: int
    from_server: int


@dataclass
class _Own:
    """A connection of this gateway."""

    login: Login
    since: float
    end: Callable[[JHSSHError], None]
    relayed: Callable[[], tuple[int, int]]
    still_opens: Callable[[], Awaitable[bool]]
    written: bool = False


async def _always() -> bool:
    return True


class Sessions:
    """Of one gateway. A database that does not answer ends and refuses no connection: what it missed is written later."""

    def __init__(
        self,
        database: Database,
        *,
        heartbeat: float = HEARTBEAT,
        poll: float = POLL,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._heartbeat, self._poll, self._clock = database, heartbeat, poll, clock
        self._gateway = secrets.token_hex(16)
        self._own: dict[str, _Own] = {}
        self._gone: set[str] = set()
        self._failing = False
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def opened(
        self,
        login: Login,
        end: Callable[[JHSSHError], None],
        relayed: Callable[[], tuple[int, int]],
        still_opens: Callable[[], Awaitable[bool]] = _always,
    ) -> str:
        """A connection is about to be open; its id, for :meth:`closed`.

        ``end`` is to end it and say why; ``relayed`` gives the bytes so far, from the client and from the server;
        ``still_opens`` says whether what opened it would do so now, and may raise DatabaseUnavailable. Once this returns, a
        removal of its key ends it: what is known of the key is to be asked after that, not before.
        """
        id = secrets.token_urlsafe(16)
        self._own[id] = _Own(login, self._clock(), end, relayed, still_opens)
        if self._task is None:
            self._task = asyncio.create_task(self._watch())
        try:
            await self._tell([id])
        except DatabaseUnavailable:
            pass  # _watch() says so, and tries again
        except BaseException:
            self.closed(id)
            raise
        return id

    def closed(self, id: str) -> None:
        """It has ended, for whatever reason. Harmless when it is called again."""
        if self._own.pop(id, None) is not None:
            self._gone.add(id)

    async def list(self, user: str | None = None, *, search: str = "", limit: int = MAX_LISTED) -> list[SessionInfo]:
        """Of one user, or of all (None), the newest first; with ``search`` in one of its texts. Raises DatabaseUnavailable."""
        texts = (OpenSession.user, OpenSession.server, OpenSession.address, OpenSession.fingerprint)
        query = select(OpenSession).where(OpenSession.seen > self._clock() - LOST_AFTER * self._heartbeat)
        if user is not None:
            query = query.where(OpenSession.user == user)
        if search:
            query = query.where(or_(*(text.icontains(search, autoescape=True) for text in texts)))
        query = query.order_by(OpenSession.since.desc(), OpenSession.id).limit(limit)
        rows = await self._database.read(lambda session: session.scalars(query).all())
        return [self._info(row) for row in rows if not row.ending and row.id not in self._gone]

    async def end(self, id: str, user: str | None = None) -> bool:
        """End this one, if it is open, and is ``user``'s where one is given. Raises DatabaseUnavailable."""
        own = self._own.get(id)
        if own is not None:
            if user is not None and own.login.target.user != user:
                return False
            own.end(ConnectionEnded())
            return True

        return await self._mark(OpenSession.id == id, *([OpenSession.user == user] if user is not None else [])) > 0

    async def end_by_key(self, user: str, server: str | None, fingerprints: Collection[str]) -> int:
        """End those of this user (and server, unless None) that one of these keys opened; how many. Raises DatabaseUnavailable.

        Those of this gateway end whether or not the database answers.
        """
        wanted = frozenset(fingerprints) - {""}
        found = [
            own
            for own in self._own.values()
            if own.login.target.user == user and server in (None, own.login.target.server) and own.login.fingerprint in wanted
        ]
        for own in found:
            own.end(ConnectionEnded())

        where = [OpenSession.user == user, OpenSession.gateway != self._gateway, OpenSession.fingerprint.in_(wanted)]
        return len(found) + await self._mark(*where, *([OpenSession.server == server] if server is not None else []))

    async def _mark(self, *where: ColumnElement[bool]) -> int:
        """Asks their gateways to end these; how many. One statement: rows come and go meanwhile. Raises DatabaseUnavailable."""
        query = update(OpenSession).where(*where).values(ending=True)
        return await self._database.run(lambda session: cast("CursorResult[Any]", session.execute(query)).rowcount)

    async def close(self) -> None:
        """Watch no more, and forget what this gateway wrote."""
        if self._task is None:
            return
        # Not cancelled: what a thread is about to write would come after what is forgotten here.
        self._closing.set()
        await asyncio.wait({self._task})
        with contextlib.suppress(DatabaseUnavailable):
            await self._database.run(
                lambda session: session.execute(delete(OpenSession).where(OpenSession.gateway == self._gateway))
            )

    async def _watch(self) -> None:
        heard = self._clock()
        while not self._closing.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._poll)
            if not self._own and not self._gone:
                continue
            now = self._clock()
            beat = not 0 <= now - heard < self._heartbeat  # or the clock was put back
            try:
                await self._tell([id for id, own in self._own.items() if beat or not own.written])
                await self._hear()
                if beat:
                    await self._ask_again()
            except DatabaseUnavailable as error:
                if not self._failing:
                    log.warning("Open connections are not shown, and are not ended from other gateways: %s", error)
                self._failing = True
                continue
            except Exception:  # it is one round of many: whatever it was, the next must come
                log.exception("Open connections were not looked after")
                continue
            self._failing = False
            heard = now if beat else heard

    async def _ask_again(self) -> None:
        """Ends those whose key no longer opens what it did. Raises DatabaseUnavailable."""
        for id, own in list(self._own.items()):
            if id in self._own and not await own.still_opens():
                own.end(ConnectionEnded())

    async def _tell(self, ids: Collection[str]) -> None:
        """Writes the rows of these, and forgets those that have ended and those of gateways long lost.

        Raises DatabaseUnavailable.
        """
        if not ids and not self._gone:
            return
        now, gone = self._clock(), frozenset(self._gone)
        rows = [self._row(id, own, now) for id, own in self._own.items() if id in ids]

        def work(session: Session) -> None:
            session.execute(delete(OpenSession).where(OpenSession.seen < now - FORGOTTEN_AFTER))
            session.execute(delete(OpenSession).where(OpenSession.id.in_(gone)))
            if rows:
                upsert(session, OpenSession, rows)

        await self._database.run(work)
        self._gone -= gone
        for row in rows:
            if (own := self._own.get(row["id"])) is not None:
                own.written = True

    async def _hear(self) -> None:
        """Ends those that were asked to end elsewhere. Raises DatabaseUnavailable."""
        query = select(OpenSession.id).where(OpenSession.gateway == self._gateway, OpenSession.ending)
        (rows,) = await self._database.select(query)
        for (id,) in rows:
            if (own := self._own.get(id)) is not None:
                own.end(ConnectionEnded())

    def _row(self, id: str, own: _Own, now: float) -> dict[str, Any]:
        """All columns but ``ending``, which is others' to write."""
        login, (from_client, from_server) = own.login, own.relayed()
        return {
            "id": id,
            "gateway": self._gateway,
            "user_name": login.target.user,
            "server_name": login.target.server,
            "method": login.method,
            "fingerprint": login.fingerprint,
            "address": login.address[:64],
            "since": own.since,
            "seen": now,
            "from_client": from_client,
            "from_server": from_server,
        }

    def _info(self, row: OpenSession) -> SessionInfo:
        own = self._own.get(row.id)
        from_client, from_server = own.relayed() if own else (row.from_client, row.from_server)
        return SessionInfo(
            row.id, row.user, row.server, row.method, row.fingerprint, row.address, row.since, from_client, from_server
        )

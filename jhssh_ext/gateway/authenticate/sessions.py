"""The open connections of all gateways, in the database: shown on the pages, ended from there, or when their key is removed.

Each gateway writes its own, says every ``heartbeat`` seconds that they are open, and forgets those of a gateway that has died.
The wish to end one of another gateway is a mark on its row, for which that gateway looks every ``poll`` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from ...errors import ConnectionEnded, DatabaseUnavailable, JHSSHError
from ..database import Database, upsert
from ..tables import OpenSession
from .login import Login

HEARTBEAT, POLL = 15.0, 1.0
LOST_AFTER = 4
"""heartbeats without a word of a gateway"""
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
    written: bool = False


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
        self._last_heartbeat = 0.0
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    async def opened(self, login: Login, end: Callable[[JHSSHError], None], relayed: Callable[[], tuple[int, int]]) -> str:
        """A connection is about to be open; its id, for :meth:`closed`.

        ``end`` is to end it and say why; ``relayed`` gives the bytes so far, from the client and from the server. Once this
        returns, a removal of its key ends it: what is known of the key is to be asked after that, not before.
        """
        id = secrets.token_urlsafe(16)
        self._own[id] = _Own(login, self._clock(), end, relayed)
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
        rows = await self._database.run(lambda session: session.scalars(query).all())
        return [self._info(row) for row in rows if not row.ending and row.id not in self._gone]

    async def end(self, id: str, user: str | None = None) -> bool:
        """End this one, if it is open, and is ``user``'s where one is given. Raises DatabaseUnavailable."""
        own = self._own.get(id)
        if own is not None:
            if user is not None and own.login.target.user != user:
                return False
            own.end(ConnectionEnded())
            return True

        def work(session: Session) -> bool:
            row = session.get(OpenSession, id)
            if row is None or (user is not None and row.user != user):
                return False
            row.ending = True
            return True

        return await self._database.run(work)

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

        def work(session: Session) -> int:
            query = select(OpenSession).where(OpenSession.user == user, OpenSession.gateway != self._gateway)
            if server is not None:
                query = query.where(OpenSession.server == server)
            rows = [row for row in session.scalars(query) if row.fingerprint in wanted]
            for row in rows:
                row.ending = True
            return len(rows)

        return len(found) + await self._database.run(work)

    async def close(self) -> None:
        """Watch no more, and forget what this gateway wrote."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        with contextlib.suppress(DatabaseUnavailable):
            await self._database.run(
                lambda session: session.execute(delete(OpenSession).where(OpenSession.gateway == self._gateway))
            )

    async def _watch(self) -> None:
        heard = self._clock()
        while True:
            await asyncio.sleep(self._poll)
            if not self._own and not self._gone:
                continue
            beat = self._clock() - heard >= self._heartbeat
            try:
                await self._tell([id for id, own in self._own.items() if beat or not own.written])
                await self._hear()
            except DatabaseUnavailable as error:
                if not self._failing:
                    log.warning("Open connections are not shown, and are not ended from other gateways: %s", error)
                self._failing = True
                continue
            self._failing = False
            heard = self._clock() if beat else heard

    async def _tell(self, ids: Collection[str]) -> None:
        """Writes the rows of these, and forgets those that have ended and those of lost gateways. Raises DatabaseUnavailable."""
        if not ids and not self._gone:
            return
        now, gone = self._clock(), frozenset(self._gone)
        rows = [self._row(id, own, now) for id, own in self._own.items() if id in ids]

        def work(session: Session) -> None:
            session.execute(delete(OpenSession).where(OpenSession.seen < now - LOST_AFTER * self._heartbeat))
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

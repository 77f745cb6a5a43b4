"""Logins that wait for their user in the browser: the rows, what may happen to them, and their bounds. docs/security.md says why.

    waiting ─ the code is typed → claimed ┬ approved ───────────────────────────→ the connection goes on; entered, if it
                                          ├ number ─ the number is typed there ─→     offered keys that may be remembered
                                          └ denied

The connection's gateway makes a row, reads it, and deletes it when the connection is gone; the page, which may be another
gateway's, does the rest. Codes and numbers are stored as HMACs with a key that is not in the database. A ``jhssh login`` has
such a row too (client_logins.py): it knows it by a secret handle, and goes on by number alone.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from sqlalchemy import CursorResult, delete, func, select, update
from sqlalchemy.orm import Session

from ...errors import ApprovalDenied, ApprovalExpired, TooManyAttempts
from ...login_names import UserServer
from ...public_keys import PublicKey, listed_key
from ..addresses import network_of
from ..database import Database
from ..tables import Approval

ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
"""of codes (RFC 8628, section 6.1): no vowels, so no words; nothing that looks like something else"""
CODE_LENGTH = 8
NUMBER_DIGITS = 6
NUMBER_TRIES = 3
MAX_OFFERED = 10
"""keys of a connection that are shown"""
LOST_AFTER = 20.0
"""seconds without a word of the connection's gateway after which a login is taken for gone"""
LAST_LOOK = 3.0
"""seconds in which the connection sees a decision of the last moment, of which the page has said that it goes on"""
CLAIMS, CLAIM_WINDOW = 10, 300.0
"""wrong codes that a user may type in so many seconds, at each gateway"""
MAX_CLAIMERS = 10000

T = TypeVar("T")
State = Literal["waiting", "claimed", "approved", "number", "denied", "entered"]


@dataclass(frozen=True)
class Request:
    """A login that waits. Times are seconds since 1970."""

    id: str
    login_name: str
    target: UserServer
    address: str
    """of the SSH client"""
    offered: tuple[PublicKey, ...]
    """which it need not have"""
    state: State
    created: float
    expires: float
    client: str = ""
    """what a ``jhssh login`` says that it is; empty for SSH connections"""
    user_created: str = ""
    """of the user who approved a ``jhssh login``"""
    by_proxy: bool = False
    """the address is what a proxy says, and any process on the proxy's machine can say the same: it spares no number"""


@dataclass(frozen=True)
class Bounds:
    """``timeout`` is seconds from the request to the login's end; the others count logins that wait, those of SSH connections
    and those of the ``jhssh`` command each for themselves.
    """

    timeout: float = 300.0
    in_all: int = 128
    per_address: int = 32
    per_user: int = 10


class Approvals:
    """Every method raises DatabaseUnavailable. ``secret`` is the same at all gateways of a Hub and stays out of the database."""

    def __init__(self, database: Database, secret: bytes, bounds: Bounds, *, clock: Callable[[], float] = time.time) -> None:
        self.bounds = bounds
        self._database, self._secret, self._clock = database, secret, clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    # for the waiting connection

    async def ask(
        self,
        login_name: str,
        target: UserServer,
        address: str,
        offered: Iterable[PublicKey],
        *,
        by_proxy: bool = False,
        client: str = "",
        handle: str = "",
    ) -> tuple[str, str]:
        """A new row: its id, and the code for the terminal. ``target`` is one that the name may mean. Raises TooManyAttempts.

        Asks nobody whether there is such a user, so that a stranger can't tell either. ``client`` and ``handle`` are those of a
        ``jhssh login``, which names no user.
        """
        now, code, network = self._clock(), "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH)), network_of(address)
        row = Approval(
            id=secrets.token_urlsafe(16),
            code_digest=self._digest("code", code),
            login_name=login_name,
            user=target.user,
            server=target.server,
            network=network[:64],
            address=address[:64],
            offered="\n".join(key.bare_line for key in list(offered)[:MAX_OFFERED]),
            state="waiting",
            number_digest="",
            tries=0,
            created=now,
            seen=now,
            expires=now + self.bounds.timeout,
            handle_digest=self._digest("handle", handle) if handle else "",
            client=client[:255],
            user_created="",
            by_proxy=by_proxy,
        )  # fmt: skip

        def work(session: Session) -> None:
            session.execute(delete(Approval).where(Approval.expires <= now))
            # What is left of a gateway that was killed takes nobody's place.
            waiting = select(func.count()).where(
                Approval.seen > now - LOST_AFTER,
                Approval.state != "entered",
                Approval.handle_digest != "" if handle else Approval.handle_digest == "",
            )
            for bound, found in (
                *(((self.bounds.per_user, waiting.where(Approval.user == target.user)),) if not handle else ()),
                (self.bounds.per_address, waiting.where(Approval.network == row.network)),
                (self.bounds.in_all, waiting),
            ):
                if (session.scalar(found) or 0) >= bound:
                    raise TooManyAttempts(explanation="too many logins wait for approval (c.Gateway.max_approvals...)")
            session.add(row)

        await self._database.run(work)
        return row.id, code

    async def look(self, ids: Collection[str]) -> dict[str, Request]:
        """Those of the rows that have not expired; for a moment longer those that were decided about just before."""
        now = self._clock()
        decided = Approval.state.in_(("approved", "number", "denied")) & (Approval.expires > now - LAST_LOOK)
        query = select(Approval).where(Approval.id.in_(ids), (Approval.expires > now) | decided)
        return {row.id: _request(row) for row in await self._database.read(lambda session: session.scalars(query).all())}

    async def still_wait(self, ids: Collection[str]) -> None:
        """These connections are there."""
        query = update(Approval).where(Approval.id.in_(ids)).values(seen=self._clock())
        await self._database.run(lambda session: session.execute(query))

    async def by_handle(self, handle: str) -> Request | None:
        """The ``jhssh login`` that holds this secret, which says by it that it still waits; None if it is too late."""
        digest, now = self._digest("handle", handle), self._clock()
        # Who guesses takes no lock.
        (known,) = await self._database.select(select(Approval.id).where(Approval.handle_digest == digest))
        if not known:
            return None
        # Once it is decided, somebody may be typing the number: nobody asks meanwhile.
        there = (Approval.seen > now - LOST_AFTER) | Approval.state.in_(("number", "denied"))

        def work(session: Session) -> Request | None:
            row = session.scalars(select(Approval).where(Approval.handle_digest == digest, Approval.expires > now, there)).first()
            if row is not None and row.seen < now - LOST_AFTER / 4:
                row.seen = now
            return _request(row) if row is not None else None

        return await self._database.run(work)

    async def try_number(self, id: str, number: str) -> bool:
        """Is it the number that the page shows? The last try that is wrong ends the login.

        Raises ApprovalDenied for that one, ApprovalExpired where it is too late.
        """
        digest, now = self._digest("number", id, number), self._clock()
        # Counted by the statement itself: of many who try at once, a few do.
        tried = (
            update(Approval)
            .where(Approval.id == id, Approval.state == "number", Approval.expires > now, Approval.tries < NUMBER_TRIES)
            .values(tries=Approval.tries + 1)
        )

        def work(session: Session) -> tuple[bool, int] | None:
            if _changed(session, tried) != 1:
                return None
            wanted, tries = session.execute(select(Approval.number_digest, Approval.tries).where(Approval.id == id)).one()
            right = hmac.compare_digest(wanted, digest)
            if not right and tries >= NUMBER_TRIES:
                session.execute(delete(Approval).where(Approval.id == id))
            return right, tries

        found = await self._database.run(work)
        if found is None:
            raise ApprovalExpired
        right, tries = found
        if not right and tries >= NUMBER_TRIES:
            raise ApprovalDenied("The number was wrong. Connect again.")
        return right

    async def take(self, id: str, then: Callable[[Session], T]) -> T | None:
        """The number was typed: what ``then`` makes of the approval, in one transaction with its end; None if it ended before."""
        query = delete(Approval).where(Approval.id == id, Approval.state == "number")
        return await self._database.run(lambda session: then(session) if _changed(session, query) == 1 else None)

    async def forget(self, ids: Collection[str]) -> None:
        """The connections of these have gone on or are gone."""

        def work(session: Session) -> None:
            ours = Approval.id.in_(ids)
            session.execute(
                update(Approval).where(ours, Approval.state == "approved", Approval.offered != "").values(state="entered")
            )
            session.execute(delete(Approval).where(ours, Approval.state != "entered"))

        await self._database.run(work)

    # for the page

    async def find(self, user: str, code: str) -> Request | None:
        """The login that waits with this code; None for a code that is none, expired or typed before. Raises TooManyAttempts.

        Whether the user is the one whom the login name means is for the caller to ask. Each call is counted, but for those after
        which :meth:`claim` worked.
        """
        now = self._clock()
        tried = self._wrong.setdefault(user, deque())
        self._wrong.move_to_end(user)
        while len(self._wrong) > MAX_CLAIMERS:
            self._wrong.popitem(last=False)
        while tried and tried[0] <= now - CLAIM_WINDOW:
            tried.popleft()
        if len(tried) >= CLAIMS:
            raise TooManyAttempts("Too many codes were wrong. Wait five minutes and try again.")
        tried.append(now)
        query = select(Approval).where(
            Approval.code_digest == self._digest("code", normal(code)), Approval.state == "waiting", *self._there()
        )
        row = await self._database.read(lambda session: session.scalars(query).first())
        return _request(row) if row is not None else None

    async def claim(self, id: str, target: UserServer) -> bool:
        """The code was typed by ``target.user``, whose user server the login name means. It works once."""
        query = (
            update(Approval)
            .where(Approval.id == id, Approval.state == "waiting", *self._there())
            .values(state="claimed", user=target.user, server=target.server)
        )
        claimed = await self._change(query)
        if claimed and (tried := self._wrong.get(target.user)):
            tried.pop()  # that one alone: whoever has a login of their own to claim has no more guesses at others' for it
        return claimed

    async def of(self, user: str, id: str) -> Request | None:
        """The login with this id, if this user typed its code and it is still there."""
        query = select(Approval).where(
            Approval.id == id[:64], Approval.user == user, Approval.state != "waiting", *self._there(or_entered=True)
        )
        row = await self._database.read(lambda session: session.scalars(query).first())
        return _request(row) if row is not None else None

    async def list_pending(self, user: str) -> list[Request]:
        """Logins that this user is to decide about: those whose code was typed, the oldest first."""
        query = (
            select(Approval).where(Approval.user == user, Approval.state == "claimed", *self._there()).order_by(Approval.created)
        )
        rows = await self._database.read(lambda session: session.scalars(query.limit(100)).all())
        return [_request(row) for row in rows]

    async def approve(self, user: str, id: str) -> bool:
        """The connection may go on; False if it is not there to be approved."""
        return await self._decide(user, id, state="approved")

    async def approve_by_number(self, user: str, id: str, *, created: str = "") -> str | None:
        """The connection may go on once this number was typed there; None if it is not there to be approved.

        ``created`` is the user's, for a ``jhssh login``.
        """
        number = str(secrets.randbelow(10**NUMBER_DIGITS)).zfill(NUMBER_DIGITS)
        digest = self._digest("number", id, number)
        decided = await self._decide(user, id, state="number", number_digest=digest, offered="", user_created=created)
        return number if decided else None

    async def deny(self, user: str, id: str) -> bool:
        return await self._decide(user, id, state="denied")

    async def take_key(self, user: str, id: str, fingerprint: str) -> PublicKey | None:
        """One of the keys that the approved connection offered, once; None if there is none to be had."""
        now = self._clock()

        def work(session: Session) -> PublicKey | None:
            row = session.get(Approval, id[:64], with_for_update=True)
            if row is None or row.user != user or row.state not in ("approved", "entered") or row.expires <= now:
                return None
            key = next((key for key in _keys(row.offered) if key.fingerprint == fingerprint), None)
            if key is not None:
                row.offered = ""
            return key

        return await self._database.run(work)

    async def _decide(self, user: str, id: str, **values: Any) -> bool:
        query = update(Approval).where(Approval.id == id[:64], Approval.user == user, Approval.state == "claimed", *self._there())
        return await self._change(query.values(**values))

    async def _change(self, query: Any) -> bool:
        """Of two who would do the same at once, one does."""
        return await self._database.run(lambda session: _changed(session, query)) == 1

    def _there(self, *, or_entered: bool = False) -> tuple[Any, ...]:
        now = self._clock()
        heard = Approval.seen > now - LOST_AFTER
        return (Approval.expires > now, heard | (Approval.state == "entered") if or_entered else heard)

    def _digest(self, *parts: str) -> str:
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()


def shown(code: str) -> str:
    """As a terminal shows it: BCDF-GHJK."""
    return f"{code[:4]}-{code[4:]}"


def normal(typed: str) -> str:
    """A code as a person typed it: any case, with or without spaces and hyphens. Bounded."""
    return "".join(c for c in typed[:64].upper() if c not in " \t\r\n-\u2010\u2011\u2013")


def _changed(session: Session, query: Any) -> int:
    """How many rows."""
    return cast("CursorResult[Any]", session.execute(query)).rowcount


def _keys(lines: str) -> tuple[PublicKey, ...]:
    return tuple(listed_key(line) for line in lines.splitlines())


def _request(row: Approval) -> Request:
    return Request(
        id=row.id,
        login_name=row.login_name,
        target=UserServer(row.user, row.server),
        address=row.address,
        offered=_keys(row.offered),
        state=cast(State, row.state),
        created=row.created,
        expires=row.expires,
        client=row.client,
        user_created=row.user_created,
        by_proxy=row.by_proxy,
    )

"""Login by approval in the browser, mostly seen from the waiting connection: it asks, waits, and says when it is gone.

One query for all connections of this gateway, ``POLL`` seconds after the last, finds what pages (of any gateway) decided.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from dataclasses import replace

from ...errors import ApprovalDenied, ApprovalExpired, DatabaseUnavailable, KeyUnknown
from ...login_names import UserServer, candidates
from ...public_keys import PublicKey
from .approvals import LOST_AFTER, Approvals, Request, shown
from .authentication import Authentication
from .login import Login

POLL = 0.5
HEARTBEAT = LOST_AFTER / 4

log = logging.getLogger("jhssh.browser_login")


class BrowserLogin:
    """``link`` is the page's address, which holds no code: who is sent the link by somebody else has nothing to approve."""

    def __init__(
        self, approvals: Approvals, authentication: Authentication, *, link: str, separator: str, poll: float = POLL
    ) -> None:
        self.approvals = approvals
        self.link = link
        self._authentication, self._separator, self._poll = authentication, separator, poll
        self._waiting: dict[str, asyncio.Future[Request | None]] = {}
        self._there: set[str] = set()
        self._gone: set[str] = set()
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def timeout(self) -> float:
        """Seconds from the request to its end."""
        return self.approvals.bounds.timeout

    async def ask(
        self, login_name: str, address: str, offered: Iterable[PublicKey], *, by_proxy: bool = False
    ) -> tuple[str, str]:
        """The id of a new request, and what to show in the terminal; the caller says :meth:`end` when the connection is gone.

        The same for every login name that a user can have. Raises KeyUnknown for others, TooManyAttempts, DatabaseUnavailable.
        """
        found = candidates(login_name, self._separator)
        if not found:
            raise KeyUnknown
        id, code = await self.approvals.ask(login_name, found[-1], address, offered, by_proxy=by_proxy)
        self._there.add(id)
        if self._task is None:
            self._task = asyncio.create_task(self._watch())
        return id, (
            f"Approve this login in your browser, within {max(1, round(self.timeout / 60))} min. Open\r\n\r\n"
            f"    {self.link}\r\n\r\n"
            f"and type this code there:  {shown(code)}\r\n\r\n"
            "Only a code from your own terminal: never one that somebody sent you.\r\n"
            "(With a token of the Hub in place of the browser: ssh -o PreferredAuthentications=password ...)\r\n"
        )

    async def decided(self, id: str) -> Request:
        """Waits until the login is approved (state "approved" or "number"). Raises ApprovalDenied or ApprovalExpired."""
        future: asyncio.Future[Request | None] = asyncio.get_running_loop().create_future()
        self._waiting[id] = future
        try:
            found = await future
        finally:
            if self._waiting.get(id) is future:  # not one that waits in its place
                del self._waiting[id]
        if found is None:
            raise ApprovalExpired
        if found.state == "denied":
            raise ApprovalDenied
        return found

    async def claim(self, user: str, code: str) -> Request | None:
        """The login that waits with this code, from now on this user's to decide; None if none of theirs does.

        Raises TooManyAttempts, DatabaseUnavailable or HubUnavailable.
        """
        request = await self.approvals.find(user, code)
        if request is None:
            return None
        target: UserServer | None = UserServer(user)
        if not request.client:  # else no user is named: it is of whoever types its code
            if user not in {target.user for target in candidates(request.login_name, self._separator)}:
                return None
            target = await self._authentication.resolve(request.login_name)
        if target is None or target.user != user or not await self.approvals.claim(request.id, target):
            return None
        return replace(request, state="claimed", target=target)

    async def login(self, request: Request, login_name: str, address: str) -> Login:
        """What an approved request opens. Raises ApprovalExpired or HubUnavailable."""
        # The row came by way of the database: the connection's own name has the last word, and the Hub on what it means.
        target = await self._authentication.resolve(login_name)
        if target is None or target != request.target or login_name != request.login_name:
            raise ApprovalExpired("This server is gone. Connect again.")
        return Login(target, "keyboard-interactive", "", address, may_start=True)

    def end(self, id: str) -> None:
        """The connection has gone on or is gone. Harmless when it is called again."""
        if id in self._there:
            self._there.discard(id)
            self._gone.add(id)

    async def close(self) -> None:
        """Waits no more, and takes back what this gateway asked."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        with contextlib.suppress(DatabaseUnavailable):
            await self.approvals.forget([*self._there, *self._gone])

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while True:
            await asyncio.sleep(self._poll)
            if not self._there and not self._gone:
                heard = loop.time()
                continue
            try:
                gone = frozenset(self._gone)
                if gone:
                    await self.approvals.forget(gone)
                    self._gone -= gone
                if self._there and loop.time() - heard >= HEARTBEAT:
                    await self.approvals.still_wait(self._there)
                    heard = loop.time()
                await self._look()
            except DatabaseUnavailable as error:
                if not self._failing:
                    log.warning("Logins that wait for the browser go on waiting: %s", error)
                self._failing = True
            else:
                self._failing = False

    async def _look(self) -> None:
        ids = list(self._waiting)
        found = await self.approvals.look(ids) if ids else {}
        for id in ids:
            request, future = found.get(id), self._waiting.get(id)
            if future is not None and not future.done() and (request is None or request.state not in ("waiting", "claimed")):
                future.set_result(request)

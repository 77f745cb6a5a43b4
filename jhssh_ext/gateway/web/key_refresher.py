"""Pushes from user servers: each makes the gateway fetch that server's keys, in the background, and again until it has worked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from ...errors import Denied, JHSSHError, KeyUnknown, ShuttingDown
from ...login_names import UserServer

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0)
"""seconds before another try; a server that pushes while it starts is not ready for the Hub yet"""

MAX_WAITING = 10
"""pushes of one server that wait for a fetch, or to be taken"""

log = logging.getLogger("jhssh.keys_changed")


class KeyRefresher:
    """At most one fetch per user server and ``interval`` seconds, however many pushes; at most ``max_servers`` at a time,
    ``max_servers_per_user`` of them of one user.
    """

    def __init__(
        self,
        refresh: Callable[[UserServer], Awaitable[None]],
        expire: Callable[[UserServer], Awaitable[None]],
        *,
        interval: float = 1.0,
        pauses: tuple[float, ...] = PAUSES,
        max_servers: int = 5000,
        max_servers_per_user: int = 20,
    ) -> None:
        self._refresh = refresh
        self._expire = expire
        self._interval = interval
        self._pauses = pauses
        self._max_servers, self._max_servers_per_user = max_servers, max_servers_per_user
        self._work_of: Counter[UserServer] = Counter()
        """its task, and pushes that are being taken"""
        self._servers_of: Counter[str] = Counter()
        self._tasks: dict[UserServer, asyncio.Task[None]] = {}
        self._again: set[UserServer] = set()
        self._pushed: dict[UserServer, asyncio.Event] = {}
        self._waiting: dict[UserServer, list[asyncio.Future[bool]]] = {}
        self._closed = False

    async def changed(self, target: UserServer) -> bool:
        """Fetch soon; False if there is too much to do: nothing has happened then. A push during a fetch is followed by another.

        The copy counts as too old from now on, so that a login that is faster than the fetch sees the new keys too. Raises
        DatabaseUnavailable and ShuttingDown.
        """
        if not self._has_room(target):
            return False
        self._take(target)
        try:
            if not self._closed:
                await self._expire(target)
            if self._closed:
                raise ShuttingDown
            self._again.add(target)
            if target in self._tasks:
                self._pushed[target].set()
            else:
                self._pushed[target] = asyncio.Event()
                self._tasks[target] = asyncio.get_running_loop().create_task(self._work(target))
                self._take(target)
        finally:
            self._leave(target)
        return True

    async def fetched(self, target: UserServer, seconds: float) -> bool:
        """After :meth:`changed`: waits for the first fetch that begins from now on. Has it worked, within ``seconds``?"""
        if target not in self._tasks or len(self._waiting.get(target, ())) >= MAX_WAITING:
            return False
        waiting = self._waiting.setdefault(target, [])
        done = asyncio.get_running_loop().create_future()
        waiting.append(done)
        await asyncio.wait([done], timeout=seconds)
        return done.done() and done.result()

    async def close(self) -> None:
        """Ends what is being fetched; pushes get ShuttingDown from now on."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for target in list(self._tasks):  # those that had not begun
            self._forget(target)

    def _has_room(self, target: UserServer) -> bool:
        if target in self._work_of:
            return self._work_of[target] <= MAX_WAITING
        return len(self._work_of) < self._max_servers and self._servers_of[target.user] < self._max_servers_per_user

    def _take(self, target: UserServer) -> None:
        if target not in self._work_of:
            self._servers_of[target.user] += 1
        self._work_of[target] += 1

    def _leave(self, target: UserServer) -> None:
        self._work_of[target] -= 1
        if not self._work_of[target]:
            del self._work_of[target]
            self._servers_of[target.user] -= 1
            if not self._servers_of[target.user]:
                del self._servers_of[target.user]

    def _forget(self, target: UserServer) -> None:
        del self._tasks[target], self._pushed[target]
        self._leave(target)
        self._answer(self._waiting.pop(target, []), False)

    @staticmethod
    def _answer(waiting: list[asyncio.Future[bool]], worked: bool) -> None:
        for each in waiting:
            if not each.done():
                each.set_result(worked)

    async def _work(self, target: UserServer) -> None:
        try:
            while target in self._again:
                self._again.discard(target)
                await self._until_done(target)
                await asyncio.sleep(self._interval)
        finally:  # not in a callback, which would come later: a push in between would be lost
            self._forget(target)

    async def _until_done(self, target: UserServer) -> None:
        for pause in (*self._pauses, None):
            self._again.discard(target)
            self._pushed[target].clear()
            waiting = self._waiting.pop(target, [])
            try:
                await self._refresh(target)
                return self._answer(waiting, True)
            except KeyUnknown:
                return self._answer(waiting, False)
            except JHSSHError as error:
                self._answer(waiting, False)
                if pause is None:
                    level = logging.INFO if isinstance(error, Denied) else logging.WARNING
                    log.log(level, "keys of %s were not fetched after a push, the cache's ages decide: %s", target, error)
                    return None
            with contextlib.suppress(asyncio.TimeoutError):  # a new push ends the pause: by now the server may be ready
                await asyncio.wait_for(self._pushed[target].wait(), pause)
        return None

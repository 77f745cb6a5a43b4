"""Pushes from user servers: each makes the gateway fetch that server's keys, in the background, and again until it has worked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from ...errors import Denied, JHSSHError, KeyUnknown
from ...login_names import UserServer

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0)
"""seconds before another try; a server that pushes while it starts is not ready for the Hub yet"""

MAX_WAITING = 10
"""pushes of one server that wait for a fetch"""

log = logging.getLogger("jhssh.keys_changed")


class KeyRefresher:
    """At most one fetch per user server and ``interval`` seconds, however many pushes; at most ``max_servers`` at a time."""

    def __init__(
        self,
        refresh: Callable[[UserServer], Awaitable[None]],
        expire: Callable[[UserServer], Awaitable[None]],
        *,
        interval: float = 1.0,
        pauses: tuple[float, ...] = PAUSES,
        max_servers: int = 5000,
    ) -> None:
        self._refresh = refresh
        self._expire = expire
        self._interval = interval
        self._pauses = pauses
        self._max_servers = max_servers
        self._tasks: dict[UserServer, asyncio.Task[None]] = {}
        self._again: set[UserServer] = set()
        self._pushed: dict[UserServer, asyncio.Event] = {}
        self._waiting: dict[UserServer, list[asyncio.Future[bool]]] = {}

    async def changed(self, target: UserServer) -> bool:
        """Fetch soon; False if there is too much to do. A push during a fetch is followed by another fetch.

        The copy counts as too old from now on, so that a login that is faster than the fetch sees the new keys too. Raises
        DatabaseUnavailable.
        """
        await self._expire(target)
        if target in self._tasks:
            self._again.add(target)
            self._pushed[target].set()
            return True
        if len(self._tasks) >= self._max_servers:
            return False
        self._again.add(target)
        self._pushed[target] = asyncio.Event()
        self._tasks[target] = asyncio.get_running_loop().create_task(self._work(target))
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
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for target in list(self._tasks):  # those that had not begun
            self._forget(target)

    def _forget(self, target: UserServer) -> None:
        del self._tasks[target], self._pushed[target]
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

"""Tells the Hub that a user server is in use over SSH: at most once a minute, and only where data flowed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timezone

from ...errors import JHSSHError
from ...login_names import UserServer
from ..connect.hub_client import HubClient

MAX_REPORTS = 10
"""that wait for the Hub at the same time"""

log = logging.getLogger("jhssh.activity")


def _now() -> datetime:
    return datetime.now(timezone.utc)


class ActivityReporter:
    """One report per user server and ``interval`` seconds. The first data is told at once, what follows at the interval's end.

    A Hub that does not answer is no error for a session: it is logged once, and again when it answers.
    """

    def __init__(self, hub: HubClient, *, interval: float = 60.0, now: Callable[[], datetime] = _now) -> None:
        self._hub = hub
        self._interval = interval
        self._now = now
        self._seen: dict[UserServer, datetime | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(MAX_REPORTS)
        self._failing = False

    def saw_data(self, target: UserServer, count: int) -> None:
        """``count`` bytes of channel data passed. Cheap: called for each packet."""
        if count <= 0:
            return
        first = target not in self._seen
        self._seen[target] = self._now()
        if first:
            task = asyncio.get_running_loop().create_task(self._report(target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Report no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _report(self, target: UserServer) -> None:
        """As long as there is something new to tell; then the server is forgotten, so that memory follows what is in use."""
        try:
            while (when := self._seen[target]) is not None:
                self._seen[target] = None
                await self._tell(target, when)
                await asyncio.sleep(self._interval)
        finally:
            del self._seen[target]

    async def _tell(self, target: UserServer, when: datetime) -> None:
        try:
            async with self._slots:
                await self._hub.report_activity(target, when)
        except JHSSHError as error:
            if not self._failing:
                log.warning("SSH activity is not reported, so servers in use may be culled: %s", error)
            self._failing = True
            return
        if self._failing:
            log.warning("SSH activity is reported again")
        self._failing = False

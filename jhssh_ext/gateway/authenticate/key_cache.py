"""The gateway's copy of the key stores, in memory; ages decide when it is fetched anew.

docs/architecture.md, "Keys and their cache":

    age of the copy        key in it   the user server is asked   answer
    over max_age           yes or no   yes                        from the new copy
    fresh_age to max_age   yes         no                         yes
    fresh_age to max_age   no          yes                        from the new copy
    under fresh_age        yes or no   no                         from the copy

A user server that is stopped, or runs without SSH, keeps its keys; a user or server that is gone loses them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakValueDictionary

from ...errors import Denied, JHSSHError, KeyUnknown, ServerUnreachable, ShuttingDown, Unavailable
from ...login_names import UserServer
from ...public_keys import PublicKey

NO_KEYS: frozenset[PublicKey] = frozenset()
STALE = float("-inf")

log = logging.getLogger("jhssh.key_cache")


class Fetched(NamedTuple):
    """What a user server says, and in which of its lives (``ServerState.spawn``)."""

    keys: frozenset[PublicKey]
    spawn: str


@dataclass
class _Copy:
    keys: frozenset[PublicKey]
    spawn: str
    """the spawn that was asked last"""
    checked: float
    """when it was known to be right"""
    failed: float = STALE
    """when a fetch last failed, and how"""
    failure: Unavailable | None = None


class KeyCache:
    """``fetch`` asks a user server for its keys; it raises ServerStopped, SSHNotEnabled, KeyUnknown (gone) or an Unavailable.

    Ages are seconds of ``clock``; after a failed fetch ``failure_age`` passes before the next. At most ``max_entries`` copies
    with keys and as many without are kept, so that strangers who try names push nobody out. ``max_fetches`` run at once, of them
    ``max_fetches_per_user`` to servers of one user: who has many that hang, or that list thousands of keys, delays nobody else.
    """

    def __init__(
        self,
        fetch: Callable[[UserServer], Awaitable[Fetched]],
        *,
        max_age: float = 900.0,
        fresh_age: float = 120.0,
        failure_age: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        max_entries: int = 10000,
        max_fetches: int = 50,
        max_fetches_per_user: int = 2,
        fetched: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self.max_age = max_age
        self.fresh_age = fresh_age
        self.failure_age = failure_age
        self.max_entries = max_entries
        self._fetch = fetch
        self._fetched = fetched
        self._clock = clock
        self._slots = asyncio.Semaphore(max_fetches)
        self._per_user = max_fetches_per_user
        self._slots_of_user: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._with_keys: OrderedDict[UserServer, _Copy] = OrderedDict()
        self._without: OrderedDict[UserServer, _Copy] = OrderedDict()
        self._running: dict[UserServer, asyncio.Task[None]] = {}
        self._next: dict[UserServer, asyncio.Task[None]] = {}
        self._outrun: set[UserServer] = set()
        """of those in _running, whose keys changed since"""

    def knows(self, target: UserServer, key: PublicKey) -> bool:
        """Is the key in the copy, whatever its age? No input or output."""
        copy = self._copy(target)
        return copy is not None and key in copy.keys

    def is_of(self, target: UserServer, spawn: str) -> bool:
        """Was the copy fetched from this spawn? If not, the server, or even its user, may have been made anew since."""
        copy = self._copy(target)
        return copy is not None and copy.spawn == spawn and copy.checked != STALE

    async def holds(self, target: UserServer, key: PublicKey, *, may_fetch: bool) -> bool:
        """The table above. Without ``may_fetch`` nobody is asked, and a copy over max_age holds nothing.

        Raises HubUnavailable, which tells nothing about the user; and ServerUnreachable only where the key was in the old copy,
        so that its holder learns why and a stranger learns nothing.
        """
        copy = self._copy(target)
        now = self._clock()
        if copy is not None:
            age, known = now - copy.checked, key in copy.keys
            if age < self.fresh_age or (known and age <= self.max_age):
                self._used(target)
                return known
        if not may_fetch:
            return False
        # A user server that failed is left alone for a while. The Hub is not: each login asks it anyway.
        if copy is not None and isinstance(copy.failure, ServerUnreachable) and now - copy.failed < self.failure_age:
            return self._undecided(target, key, copy.failure)
        try:
            await self._shared(self._anew(target))
        except Unavailable as failure:
            return self._undecided(target, key, failure)
        except Denied:
            pass  # stopped or gone: what is left in the copy counts
        return self.knows(target, key)

    def expire(self, target: UserServer) -> None:
        """The keys have changed: the copy counts for nothing until a fetch that begins from now on. No input or output."""
        copy = self._copy(target)
        if copy is not None:
            copy.checked, copy.failure = STALE, None
        if target in self._running:
            self._outrun.add(target)

    async def refresh(self, target: UserServer) -> None:
        """Expire and fetch now: a push, or a login that started the server. Raises what ``fetch`` raises; the copy stays old."""
        self.expire(target)
        try:
            await self._shared(self._anew(target))
        except JHSSHError:
            copy = self._copy(target)
            if copy is not None:
                copy.checked = STALE
            raise

    async def close(self) -> None:
        """End what is being fetched."""
        tasks = [*self._running.values(), *self._next.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _undecided(self, target: UserServer, key: PublicKey, failure: Unavailable) -> bool:
        if isinstance(failure, ServerUnreachable) and not self.knows(target, key):
            return False
        raise failure

    def _anew(self, target: UserServer) -> asyncio.Task[None]:
        """The fetch that runs, or another after it if that one may have read the keys before they changed."""
        running = self._running.get(target)
        if running is None:
            return self._begin(target)
        if target not in self._outrun:
            return running
        task = self._next.get(target)
        if task is None:
            task = self._next[target] = asyncio.create_task(self._after(target, running))
            task.add_done_callback(_retrieved)
        return task

    def _begin(self, target: UserServer) -> asyncio.Task[None]:
        task = self._running[target] = asyncio.create_task(self._fetch_into(target))
        task.add_done_callback(_retrieved)
        return task

    async def _after(self, target: UserServer, running: asyncio.Task[None]) -> None:
        await asyncio.wait({running})
        del self._next[target]
        await self._shared(self._anew(target))

    @staticmethod
    async def _shared(task: asyncio.Task[None]) -> None:
        """Wait for a task that others wait for too: who is cancelled leaves alone."""
        await asyncio.wait({task})
        if task.cancelled():
            raise ShuttingDown
        task.result()

    async def _fetch_into(self, target: UserServer) -> None:
        outcome = "ERROR"
        try:
            own = self._slots_of_user.setdefault(target.user, asyncio.Semaphore(self._per_user))
            async with own, self._slots:
                # The copy is as old as the question, not the answer.
                asked = self._clock()
                fetched = await self._fetch(target)
            self._store(target, _Copy(*fetched, asked))
            outcome = "OK"
        except KeyUnknown as gone:
            outcome = gone.code
            self._store(target, _Copy(NO_KEYS, "", asked))
            raise
        except Denied as stopped:
            outcome = stopped.code
            self._store(target, _Copy(*self._known(target), asked))
            raise
        except Unavailable as failure:
            outcome = failure.code
            copy = self._copy(target)
            self._store(target, _Copy(*self._known(target), copy.checked if copy else STALE, self._clock(), failure))
            log.info("keys of %s: %s", target, failure)
            raise
        finally:
            del self._running[target]
            self._outrun.discard(target)
            self._fetched(outcome)

    def _known(self, target: UserServer) -> Fetched:
        copy = self._copy(target)
        return Fetched(copy.keys, copy.spawn) if copy else Fetched(NO_KEYS, "")

    def _copy(self, target: UserServer) -> _Copy | None:
        return self._with_keys.get(target) or self._without.get(target)

    def _store(self, target: UserServer, copy: _Copy) -> None:
        if target in self._outrun:
            copy.checked, copy.failure = STALE, None
        self._with_keys.pop(target, None)
        self._without.pop(target, None)
        room = self._with_keys if copy.keys else self._without
        room[target] = copy
        while len(room) > self.max_entries:
            room.popitem(last=False)

    def _used(self, target: UserServer) -> None:
        room = self._with_keys if target in self._with_keys else self._without
        room.move_to_end(target)


def _retrieved(task: asyncio.Task[None]) -> None:
    """Who waits gets the error; where nobody is left, nobody does."""
    if not task.cancelled():
        task.exception()

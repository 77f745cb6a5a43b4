"""The gateway's copies of the keys that one source keeps; ages decide when they are fetched anew.

docs/architecture.md, "Keys and their cache":

    age of the copy        key in it   the source is asked   answer
    over max_age           yes or no   yes                   from the new copy
    fresh_age to max_age   yes         no                    yes
    fresh_age to max_age   no          yes                   from the new copy
    under fresh_age        yes or no   no                    from the copy

A user server that is stopped, or runs without SSH, keeps its keys; a user or server that is gone loses them. The copies are rows
that several gateways share, so each decision reads the row. What is under way (fetches, failures, names of nobody) is this
process's own.

Anybody can ask for any key of any name. Such questions have a queue of their own, with little room, so that those for keys that
are in the copies, pushes and refreshes never wait behind them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import TypeVar

from ...errors import (
    Denied,
    HubUnavailable,
    JHSSHError,
    KeySourceUnavailable,
    KeyUnknown,
    ServerUnreachable,
    ShuttingDown,
    Unavailable,
)
from ...login_names import UserServer
from ...public_keys import PublicKey
from .fetch_queue import FetchQueue
from .key_copies import Copy, Fetched, KeyCopies

T = TypeVar("T")
DAY = 86400.0
ROUNDS = 3
"""fetches that one question waits for while the keys change again and again"""
STRANGERS_PER_PLACE = 5
"""questions for keys that are in no copy which are asked or wait, for each that can be asked at once"""

Removed = Callable[[UserServer, Collection[PublicKey]], Awaitable[None]]
"""``removed(target, keys)``: the source has these no more"""

log = logging.getLogger("jhssh.key_cache")


async def _nobody(target: UserServer, keys: Collection[PublicKey]) -> None:
    """Nobody wants to know."""


@dataclass
class _Running:
    """A fetch."""

    queue: FetchQueue
    changes: int | None
    """how many changes were known when the source was asked; None: it is yet to be read"""
    task: asyncio.Task[None] = field(init=False)
    begun: bool = False
    """False: it waits for a place"""


class KeyCache:
    """``fetch`` asks a source for its keys; it raises ServerStopped, SSHNotEnabled, KeyUnknown (gone) or an Unavailable.

    Ages are seconds of ``clock``, the wall's; after a failed fetch ``failure_age`` passes before the next. ``stopped_max_age`` is
    in days: how long keys count that nobody has confirmed since (0: for ever), which is how long they start a stopped server. At
    most ``max_entries`` failures and names of nobody are remembered. ``max_fetches`` run at once,
    ``max_fetches_per_user`` of them for one user: who has many servers that hang, or that list thousands of keys, delays
    nobody else. ``max_strange_fetches``, of one user as many again, run beside them for keys that are in no copy; where too many
    of those wait, such a key is refused and nobody asked.

    Everything that is awaited here raises DatabaseUnavailable.
    """

    def __init__(
        self,
        copies: KeyCopies,
        fetch: Callable[[UserServer], Awaitable[Fetched]],
        *,
        max_age: float = 900.0,
        fresh_age: float = 120.0,
        failure_age: float = 5.0,
        stopped_max_age: float = 30.0,
        clock: Callable[[], float] = time.time,
        max_entries: int = 10000,
        max_fetches: int = 50,
        max_fetches_per_user: int = 2,
        max_strange_fetches: int = 20,
        fetched: Callable[[str], None] = lambda outcome: None,
        removed: Removed = _nobody,
    ) -> None:
        self.max_age = max_age
        self.fresh_age = fresh_age
        self.failure_age = failure_age
        self.stopped_max_age = stopped_max_age * DAY
        self.max_entries = max_entries
        self.copies = copies
        self.removed = removed
        self._fetch = fetch
        self._fetched = fetched
        self._clock = clock
        self._queue = FetchQueue(max_fetches, max_fetches_per_user)
        self._strangers = FetchQueue(
            max_strange_fetches,
            max_fetches_per_user,
            room=STRANGERS_PER_PLACE * max_strange_fetches,
            room_per_user=STRANGERS_PER_PLACE * max_fetches_per_user,
        )
        self._running: dict[UserServer, _Running] = {}
        self._next: dict[UserServer, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: OrderedDict[UserServer, tuple[float, Unavailable]] = OrderedDict()
        self._nobody: OrderedDict[UserServer, float] = OrderedDict()
        """when the Hub said that there is no such user server"""
        self._closed = False

    async def knows(self, target: UserServer, key: PublicKey) -> bool:
        """Is the key in the copy, whatever its age? One indexed read."""
        copy = await self.copies.read(target)
        return copy is not None and copy.has(key)

    async def is_of(self, target: UserServer, spawn: str) -> bool:
        """Was the copy fetched from this spawn? If not, the server, or even its user, may have been made anew since."""
        copy = await self.copies.read(target)
        return copy is not None and copy.spawn == spawn and copy.checked > 0

    async def holds(self, target: UserServer, key: PublicKey, *, may_fetch: bool, created: str = "") -> bool:
        """The table above. Without ``may_fetch`` nobody is asked, and a copy over max_age holds nothing.

        Where ``created`` (UserModel.created) is given, the copies of an earlier user of that name are forgotten. Raises
        HubUnavailable, which tells nothing about the user; and what else is unavailable only where the key was in the old copy,
        so that its holder learns why and a stranger learns nothing.
        """
        copy = await self.copies.read(target)
        if copy is not None and created and copy.created and copy.created != created:
            await self.forget_user(target.user, created)
            copy = None
        for _ in range(ROUNDS):
            now = self._clock()
            decided = self._decided(target, copy, key, now)
            if decided is not None or not may_fetch:
                return decided or False
            known = copy is not None and copy.has(key)
            failure = self._recent_failure(target, now, known=known)
            if failure is not None:
                return self._undecided(copy, key, failure)
            if not known and target not in self._running and not self._strangers.has_room(target.user):
                return False
            try:
                await self._shared(self._anew(target, copy.changes if copy else 0, strange=not known))
            except Unavailable as error:
                return self._undecided(await self.copies.read(target), key, error)
            except Denied:
                pass  # stopped or gone: what is left in the copy counts
            copy = await self.copies.read(target)
            if copy is None or copy.checked > 0:
                return copy is not None and self._counts(copy, key, now)
        return False

    async def held(self, target: UserServer, keys: Collection[PublicKey]) -> set[PublicKey]:
        """Which of the keys the copy alone says that it holds. One indexed read."""
        copy, now = await self.copies.read(target), self._clock()
        return {key for key in keys if self._decided(target, copy, key, now)}

    async def expire(self, target: UserServer) -> None:
        """The keys have changed: the copy counts for nothing until a fetch that begins from now on."""
        await self.copies.expire(target)
        self._failures.pop(target, None)
        self._nobody.pop(target, None)

    async def refresh(self, target: UserServer) -> None:
        """Expire and fetch now: a push, or a login that started the server. Raises what ``fetch`` raises; the copy stays old."""
        await self.expire(target)
        copy = await self.copies.read(target)
        try:
            await self._shared(self._anew(target, copy.changes if copy else 0))
        except JHSSHError:
            # That the server is stopped says nothing of what had changed: it is about to start, or has just ended.
            if await self.copies.read(target) is not None:
                await self.copies.expire(target)
            raise

    async def renew(self, target: UserServer, changes: int) -> None:
        """Fetch now; until there is an answer, the copy counts as before. Raises what ``fetch`` raises.

        ``changes`` as they were a while ago: a change since then makes the answer count for nothing, as any older one.
        """
        await self._shared(self._anew(target, changes, read=True))

    def is_fresh(self, checked: float) -> bool:
        """Is a copy that was known to be right at that time younger than fresh_age?"""
        return checked > self._clock() - self.fresh_age

    def beside(self, fetch: Callable[[UserServer], Awaitable[Fetched]], *, max_fetches: int) -> KeyCache:
        """Another cache over the same copies, which asks in another way."""
        return KeyCache(
            self.copies, fetch, clock=self._clock, max_fetches=max_fetches, fetched=self._fetched, removed=self.removed
        )

    async def forget(self, target: UserServer) -> None:
        """It is gone."""
        await self._left(await self.copies.forget(target.user, target.server))

    async def forget_user(self, user: str, but: str = "") -> None:
        """The user is gone, or is another one by now: no copy is kept but those of the user created ``but``."""
        await self._left(await self.copies.forget(user, but=but))

    async def _left(self, gone: dict[UserServer, frozenset[PublicKey]]) -> None:
        for target, keys in gone.items():
            if keys:
                await self.removed(target, keys)

    async def close(self) -> None:
        """End what is being fetched; who asks for a fetch from now on gets ShuttingDown."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _decided(self, target: UserServer, copy: Copy | None, key: PublicKey, now: float) -> bool | None:
        """What the copy alone says; None: its source has to be asked."""
        if copy is None:
            asked = self._nobody.get(target)
            return False if asked is not None and 0 <= now - asked < self.fresh_age else None
        age, known = now - copy.checked, self._counts(copy, key, now)
        if age < -self.fresh_age:  # the clock was put back
            return None
        if age < self.fresh_age or (known and age <= self.max_age):
            return known
        return None

    def _recent_failure(self, target: UserServer, now: float, *, known: bool) -> Unavailable | None:
        """Why nobody is asked now: who failed is left alone for a while.

        Not so the Hub, which each login asks anyway; nor a user server whose own user comes: it may be stopped by now.
        """
        failed, failure = self._failures.get(target, (0.0, None))
        if isinstance(failure, HubUnavailable) or (known and isinstance(failure, ServerUnreachable)):
            return None
        return failure if 0 <= now - failed < self.failure_age else None

    def _counts(self, copy: Copy, key: PublicKey, now: float) -> bool:
        return copy.has(key) and (not self.stopped_max_age or now - copy.confirmed <= self.stopped_max_age)

    @staticmethod
    def _undecided(copy: Copy | None, key: PublicKey, failure: Unavailable) -> bool:
        if isinstance(failure, (ServerUnreachable, KeySourceUnavailable)) and not (copy is not None and copy.has(key)):
            return False
        raise failure

    def _anew(self, target: UserServer, changes: int, *, read: bool = False, strange: bool = False) -> asyncio.Task[None]:
        """The fetch that runs, or another after it if that one may have read the keys before they changed.

        ``read``: it need not read how many changes there are; ``strange``: the key is in no copy. Raises ShuttingDown.
        """
        if self._closed:
            raise ShuttingDown
        running = self._running.get(target)
        if running is None or (running.queue is self._strangers and not running.begun and not strange):
            return self._begin(target, changes if read else None, self._strangers if strange else self._queue)
        if running.changes is None or running.changes >= changes:
            return running.task
        task = self._next.get(target)
        if task is None:
            task = self._next[target] = self._task(self._after(target, running.task, changes))
        return task

    def _begin(self, target: UserServer, changes: int | None, queue: FetchQueue) -> asyncio.Task[None]:
        """Overtakes a stranger's question that still waits."""
        running = self._running[target] = _Running(queue, changes)
        running.task = self._task(self._in_turn(target, running))
        queue.enter(target.user)
        running.task.add_done_callback(lambda _: queue.leave(target.user))
        return running.task

    def _task(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_retrieved)
        return task

    async def _after(self, target: UserServer, running: asyncio.Task[None], changes: int) -> None:
        await asyncio.wait({running})
        del self._next[target]
        await self._shared(self._anew(target, changes))

    async def _in_turn(self, target: UserServer, running: _Running) -> None:
        try:
            async with running.queue.place(target.user):
                if self._running.get(target) is running:
                    running.begun = True
                    return await self._fetch_into(target, running)
            other = self._running.get(target)
            if other is not None:  # it was overtaken
                await self._shared(other.task)
        finally:
            if self._running.get(target) is running:
                del self._running[target]

    @staticmethod
    async def _shared(task: asyncio.Task[None]) -> None:
        """Wait for a task that others wait for too: who is cancelled leaves alone."""
        await asyncio.wait({task})
        if task.cancelled():
            raise ShuttingDown
        task.result()

    async def _fetch_into(self, target: UserServer, running: _Running) -> None:
        outcome = "ERROR"
        try:
            changes = running.changes
            if changes is None:
                copy = await self.copies.read(target)
                changes = running.changes = copy.changes if copy else 0
            # The copy is as old as the question, not the answer.
            asked = self._clock()
            try:
                fetched = await self._fetch(target)
            except KeyUnknown:
                self._note(self._nobody, target, asked)
                await self.forget(target)
                raise
            except Denied:
                await self.copies.store(target, None, asked=asked, changes=changes)
                raise
            await self._store(target, fetched, asked, changes)
            outcome = "OK"
        except JHSSHError as error:
            outcome = error.code
            if isinstance(error, Unavailable):
                self._note(self._failures, target, (self._clock(), error))
                log.info("keys of %s: %s", target, error)
            raise
        finally:
            self._fetched(outcome)

    async def _store(self, target: UserServer, fetched: Fetched, asked: float, changes: int) -> None:
        stored = await self.copies.store(target, fetched, asked=asked, changes=changes)
        self._failures.pop(target, None)
        self._nobody.pop(target, None)
        if stored.removed:
            await self.removed(target, stored.removed)

    def _note(self, room: OrderedDict[UserServer, T], target: UserServer, what: T) -> None:
        room[target] = what
        room.move_to_end(target)
        while len(room) > self.max_entries:
            room.popitem(last=False)


def _retrieved(task: asyncio.Task[None]) -> None:
    """Who waits gets the error; where nobody is left, nobody does."""
    if not task.cancelled():
        task.exception()

"""Small pieces of work that come many at once are done a batch at a time: one transaction made durable for many rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
MAX_BATCH = 50
REST = 1.0
"""of the time that a batch took: for others to get their turn"""
PATIENCE = 2.0
"""seconds within which what failed together is tried one by one: where nothing works, it is said soon"""

_Waiting = tuple[Item, "asyncio.Future[Result]"]


class Together(Generic[Item, Result]):
    """``work`` takes a batch and returns a result for each item, or has done nothing when it raises.

    A batch that fails is done item by item, so that none fails by another's fault. After a batch of more than one some time
    passes before the next.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]) -> None:
        self._work = work
        self._waiting: list[_Waiting[Item, Result]] = []
        self._task: asyncio.Task[None] | None = None

    async def put(self, item: Item) -> Result:
        """The result of this item. Raises what ``work`` raises."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await done

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                began = time.monotonic()
                failure = await self._do(batch)
                if failure is not None:
                    await self._do_singly(batch, failure)
                if len(batch) > 1:
                    await asyncio.sleep(REST * (time.monotonic() - began))
        finally:
            self._task = None

    async def _do(self, batch: Sequence[_Waiting[Item, Result]]) -> BaseException | None:
        """Hands out the results, or returns the failure."""
        outcomes: tuple[Any] = await asyncio.gather(self._work([item for item, _ in batch]), return_exceptions=True)
        results = outcomes[0]
        if isinstance(results, BaseException):
            return results
        for (_, done), result in zip(batch, results, strict=True):
            if not done.done():  # else who waited is gone
                done.set_result(result)
        return None

    async def _do_singly(self, batch: Sequence[_Waiting[Item, Result]], failure: BaseException) -> None:
        began = time.monotonic()
        for one in batch:
            own: BaseException | None = failure
            if len(batch) > 1 and isinstance(failure, Exception) and time.monotonic() - began < PATIENCE:
                own = await self._do([one])
            if own is not None:
                _fail(one[1], own)


def _fail(done: asyncio.Future[Any], error: BaseException) -> None:
    if isinstance(error, asyncio.CancelledError):
        done.cancel()
    elif not done.done():
        done.set_exception(error)

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


class Together(Generic[Item, Result]):
    """``work`` takes a batch and returns a result for each item; its failure is the failure of all of them.

    After a batch of more than one some time passes before the next.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]) -> None:
        self._work = work
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
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
                await self._do(batch)
                if len(batch) > 1:
                    await asyncio.sleep(REST * (time.monotonic() - began))
        finally:
            self._task = None

    async def _do(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        outcomes: tuple[Any] = await asyncio.gather(self._work([item for item, _ in batch]), return_exceptions=True)
        results = outcomes[0]
        for number, (_, done) in enumerate(batch):
            if done.done():  # who waited is gone
                continue
            if isinstance(results, asyncio.CancelledError):
                done.cancel()
            elif isinstance(results, BaseException):
                done.set_exception(results)
            else:
                done.set_result(results[number])

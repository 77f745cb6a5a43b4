from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from jhssh_ext.gateway.together import MAX_BATCH, Together


@pytest.mark.asyncio
async def test_what_waits_is_done_together_in_order_and_in_bounds() -> None:
    batches: list[list[int]] = []

    async def work(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        await asyncio.sleep(0)
        return [2 * item for item in items]

    together = Together(work)
    count = 2 * MAX_BATCH + 1
    assert await asyncio.gather(*map(together.put, range(count))) == [2 * number for number in range(count)]
    assert [len(batch) for batch in batches] == [MAX_BATCH, MAX_BATCH, 1]
    assert await together.put(5) == 10


@pytest.mark.asyncio
async def test_a_failure_is_that_of_the_batch_alone() -> None:
    async def work(items: Sequence[int]) -> Sequence[int]:
        if 0 in items:
            raise LookupError
        return items

    together = Together(work)
    outcomes = await asyncio.gather(*map(together.put, [0, 1]), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LookupError, LookupError]
    assert await together.put(1) == 1


@pytest.mark.asyncio
async def test_who_leaves_holds_up_nobody() -> None:
    gate = asyncio.Event()

    async def work(items: Sequence[int]) -> Sequence[int]:
        await gate.wait()
        return items

    together = Together(work)
    waiting = [asyncio.create_task(together.put(number)) for number in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.sleep(0)
    gate.set()
    first, left, last = await asyncio.gather(*waiting, return_exceptions=True)
    assert (first, last) == (0, 2)
    assert isinstance(left, asyncio.CancelledError)

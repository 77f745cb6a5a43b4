from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from jhssh_ext.gateway import together as together_module
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
async def test_none_fails_by_the_fault_of_another() -> None:
    batches: list[list[int]] = []

    async def work(items: Sequence[int]) -> Sequence[int]:
        batches.append(list(items))
        if 0 in items:
            raise LookupError
        return items

    together = Together(work)
    outcomes = await asyncio.gather(*map(together.put, [1, 0, 2]), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [int, LookupError, int]
    assert batches == [[1, 0, 2], [1], [0], [2]]
    with pytest.raises(LookupError):
        await together.put(0)
    assert batches[4:] == [[0]], "what failed alone is not tried again"
    assert await together.put(1) == 1


@pytest.mark.asyncio
async def test_where_nothing_works_all_hear_of_it_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together_module, "PATIENCE", 0.02)
    tries = 0

    async def work(items: Sequence[int]) -> Sequence[int]:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0.03)
        raise LookupError

    outcomes = await asyncio.gather(*map(Together(work).put, range(MAX_BATCH)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {LookupError}
    assert tries == 2


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

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from jhssh_ext.errors import (
    DatabaseUnavailable,
    HubUnavailable,
    JHSSHError,
    KeyUnknown,
    ServerStopped,
    ServerUnreachable,
    ShuttingDown,
)
from jhssh_ext.gateway.web.key_refresher import MAX_WAITING, KeyRefresher
from jhssh_ext.login_names import UserServer

ALICE = UserServer("alice")


class Keys:
    """Stands for the key cache: its refresh fails as often as told, then works."""

    def __init__(self, *failures: JHSSHError) -> None:
        self.failures = list(failures)
        self.calls: list[UserServer] = []
        self.expired: list[UserServer] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def expire(self, target: UserServer) -> None:
        self.expired.append(target)

    async def refresh(self, target: UserServer) -> None:
        self.calls.append(target)
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)


async def until(condition: Callable[[], bool]) -> None:
    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.002)

    await asyncio.wait_for(poll(), 30)


@pytest.mark.asyncio
async def test_a_failed_fetch_is_tried_again_until_it_works() -> None:
    keys = Keys(ServerStopped(), HubUnavailable(), ServerUnreachable())
    refresher = KeyRefresher(keys.refresh, keys.expire, interval=0, pauses=(0.001,) * 5)
    assert await refresher.changed(ALICE)
    await until(lambda: not refresher._tasks)
    assert keys.calls == [ALICE] * 4


@pytest.mark.asyncio
async def test_a_new_push_ends_the_pause_before_the_next_try() -> None:
    keys = Keys(ServerStopped())
    refresher = KeyRefresher(keys.refresh, keys.expire, interval=0, pauses=(3600,))
    await refresher.changed(ALICE)
    await until(lambda: len(keys.calls) == 1)
    await refresher.changed(ALICE)
    await until(lambda: not refresher._tasks)
    assert len(keys.calls) == 2


@pytest.mark.asyncio
async def test_it_is_given_up_in_the_end_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    keys = Keys(*[ServerUnreachable(explanation="no answer")] * 10)
    refresher = KeyRefresher(keys.refresh, keys.expire, interval=0, pauses=(0.001,) * 3)
    await refresher.changed(ALICE)
    await until(lambda: not refresher._tasks)
    assert len(keys.calls) == 4
    assert "no answer" in caplog.text


@pytest.mark.asyncio
async def test_a_server_that_is_gone_is_not_tried_again() -> None:
    keys = Keys(KeyUnknown())
    refresher = KeyRefresher(keys.refresh, keys.expire, interval=0)
    await refresher.changed(ALICE)
    await until(lambda: not refresher._tasks)
    assert keys.calls == [ALICE]


@pytest.mark.asyncio
async def test_many_pushes_during_a_fetch_make_one_more() -> None:
    keys = Keys()
    keys.gate.clear()
    refresher = KeyRefresher(keys.refresh, keys.expire, interval=0)
    await refresher.changed(ALICE)
    await until(lambda: len(keys.calls) == 1)
    for _ in range(100):
        assert await refresher.changed(ALICE)
    keys.gate.set()
    await until(lambda: not refresher._tasks)
    assert len(keys.calls) == 2


@pytest.mark.asyncio
async def test_pushes_of_one_server_are_spaced_out() -> None:
    keys = Keys()
    refresher = KeyRefresher(keys.refresh, keys.expire, interval=3600)
    for _ in range(10):
        await refresher.changed(ALICE)
        await until(lambda: len(keys.calls) == 1)
    await refresher.changed(UserServer("bob"))
    await until(lambda: len(keys.calls) == 2)
    await refresher.close()
    assert keys.calls == [ALICE, UserServer("bob")]
    assert len(keys.expired) == 11, "what the cache has counts for nothing from the moment of a push"


@pytest.mark.asyncio
async def test_who_waits_hears_of_the_first_fetch_that_began_after_the_push() -> None:
    keys = Keys()
    keys.gate.clear()
    refresher = KeyRefresher(keys.refresh, keys.expire, interval=0)
    await refresher.changed(ALICE)
    await until(lambda: len(keys.calls) == 1)
    await refresher.changed(ALICE)
    waiting = asyncio.create_task(refresher.fetched(ALICE, 5))
    assert not await refresher.fetched(ALICE, 0.01), "it takes too long"
    assert not waiting.done()
    keys.gate.set()
    assert await waiting
    assert len(keys.calls) == 2
    await until(lambda: not refresher._tasks)
    assert not await refresher.fetched(ALICE, 5), "nothing is fetched"
    assert not refresher._waiting


@pytest.mark.parametrize("failure", [ServerUnreachable(), KeyUnknown()])
@pytest.mark.asyncio
async def test_who_waits_hears_of_a_failure_at_once(failure: JHSSHError) -> None:
    keys = Keys(failure)
    refresher = KeyRefresher(keys.refresh, keys.expire, interval=0, pauses=(3600,))

    async def push() -> bool:
        await refresher.changed(ALICE)
        return await refresher.fetched(ALICE, 3600)

    pushes = [asyncio.create_task(push()) for _ in range(MAX_WAITING + 5)]
    assert await asyncio.wait_for(asyncio.gather(*pushes), 30) == [False] * len(pushes)
    assert keys.calls == [ALICE]
    await refresher.close()


@pytest.mark.asyncio
async def test_the_number_of_servers_is_bounded() -> None:
    keys = Keys()
    keys.gate.clear()
    refresher = KeyRefresher(keys.refresh, keys.expire, max_servers=2)
    assert [await refresher.changed(UserServer(f"user{number}")) for number in range(3)] == [True, True, False]
    assert await refresher.changed(UserServer("user0"))
    assert UserServer("user2") not in keys.expired, "nothing has happened to what was not taken"
    await refresher.close()
    assert not refresher._tasks
    assert not refresher._work_of
    assert not refresher._servers_of


@pytest.mark.asyncio
async def test_servers_of_one_user_take_no_room_of_others() -> None:
    keys = Keys()
    keys.gate.clear()
    refresher = KeyRefresher(keys.refresh, keys.expire, interval=0, max_servers_per_user=3)
    pushes = [refresher.changed(UserServer("bob", f"n{number}")) for number in range(50)]
    assert (await asyncio.gather(*pushes)).count(True) == 3
    assert await refresher.changed(ALICE)
    assert len(keys.expired) == 4
    keys.gate.set()
    await until(lambda: not refresher._tasks)
    assert await refresher.changed(UserServer("bob", "n49")), "there is room again"
    await refresher.close()


@pytest.mark.asyncio
async def test_pushes_of_one_server_that_wait_to_be_taken_are_bounded() -> None:
    keys = Keys()
    gate = asyncio.Event()

    async def expire(target: UserServer) -> None:
        keys.expired.append(target)
        await gate.wait()

    refresher = KeyRefresher(keys.refresh, expire, interval=0)
    pushes = [asyncio.create_task(refresher.changed(ALICE)) for _ in range(100)]
    await until(lambda: sum(push.done() for push in pushes) >= 100 - len(keys.expired))
    assert len(keys.expired) == MAX_WAITING + 1
    gate.set()
    assert (await asyncio.gather(*pushes)).count(True) == MAX_WAITING + 1
    await until(lambda: not refresher._work_of)


@pytest.mark.asyncio
async def test_a_push_that_the_database_does_not_take_leaves_nothing_behind() -> None:
    async def expire(target: UserServer) -> None:
        raise DatabaseUnavailable

    refresher = KeyRefresher(Keys().refresh, expire)
    with pytest.raises(DatabaseUnavailable):
        await refresher.changed(ALICE)
    assert not refresher._work_of
    assert not refresher._tasks


@pytest.mark.asyncio
async def test_a_push_during_the_end_touches_nothing_any_more() -> None:
    keys = Keys()
    gate = asyncio.Event()

    async def expire(target: UserServer) -> None:
        await gate.wait()

    refresher = KeyRefresher(keys.refresh, expire)
    late = asyncio.create_task(refresher.changed(ALICE))
    await until(lambda: bool(refresher._work_of))
    await refresher.close()
    gate.set()
    for push in (late, refresher.changed(ALICE)):
        with pytest.raises(ShuttingDown):
            await push
    assert keys.calls == []
    assert not refresher._tasks

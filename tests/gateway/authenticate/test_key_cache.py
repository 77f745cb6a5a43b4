from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncssh
import pytest

from jhssh_ext.errors import HubUnavailable, JHSSHError, KeyUnknown, ServerStopped, ServerUnreachable, ShuttingDown, SSHNotEnabled
from jhssh_ext.gateway.authenticate.key_cache import Fetched, KeyCache
from jhssh_ext.login_names import UserServer
from jhssh_ext.public_keys import PublicKey, parse_line


def new_key() -> PublicKey:
    return parse_line(asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip())


KEY, OTHER = new_key(), new_key()
ALICE, BOB = UserServer("alice"), UserServer("bob")


class Stores:
    """The key stores of all user servers, a clock, and who was asked."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.spawn = "1"
        self.answer: frozenset[PublicKey] | JHSSHError = frozenset({KEY})
        self.asked: list[UserServer] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, target: UserServer) -> Fetched:
        self.asked.append(target)
        answer = self.answer
        await self.gate.wait()
        if isinstance(answer, JHSSHError):
            raise answer
        return Fetched(answer, self.spawn)

    def cache(self, **keywords: int) -> KeyCache:
        return KeyCache(self.fetch, clock=lambda: self.now, **keywords)


async def settle(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to that")


FRESH, MIDDLE, OLD = 119.0, 121.0, 901.0
UP = frozenset({KEY})
CHANGED = frozenset({OTHER})
STOPPED, NO_SSH, GONE = ServerStopped(), SSHNotEnabled(), KeyUnknown()


@pytest.mark.parametrize(
    ("age", "key", "server", "fetched", "holds"),
    [
        (FRESH, KEY, UP, False, True),
        (FRESH, KEY, CHANGED, False, True),
        (FRESH, OTHER, CHANGED, False, False),
        (MIDDLE, KEY, CHANGED, False, True),
        (MIDDLE, OTHER, CHANGED, True, True),
        (MIDDLE, OTHER, UP, True, False),
        (MIDDLE, KEY, STOPPED, False, True),
        (MIDDLE, OTHER, STOPPED, True, False),
        (MIDDLE, OTHER, GONE, True, False),
        (900.0, KEY, CHANGED, False, True),
        (OLD, KEY, UP, True, True),
        (OLD, KEY, CHANGED, True, False),
        (OLD, OTHER, CHANGED, True, True),
        (OLD, KEY, STOPPED, True, True),
        (OLD, OTHER, STOPPED, True, False),
        (OLD, KEY, NO_SSH, True, True),
        (OLD, KEY, GONE, True, False),
        (OLD, OTHER, GONE, True, False),
        (OLD, OTHER, ServerUnreachable(), True, False),
        (MIDDLE, KEY, ServerUnreachable(), False, True),
    ],
)
@pytest.mark.asyncio
async def test_ages_decide_who_is_asked_and_what_counts(
    age: float, key: PublicKey, server: frozenset[PublicKey] | JHSSHError, fetched: bool, holds: bool
) -> None:
    stores = Stores()
    cache = stores.cache()
    assert await cache.holds(ALICE, KEY, may_fetch=True)
    stores.now += age
    stores.answer = server
    assert await cache.holds(ALICE, key, may_fetch=True) is holds
    assert len(stores.asked) == 1 + fetched


@pytest.mark.parametrize(("age", "holds"), [(FRESH, True), (MIDDLE, True), (OLD, False)])
@pytest.mark.asyncio
async def test_without_leave_nobody_is_asked_and_an_old_copy_holds_nothing(age: float, holds: bool) -> None:
    stores = Stores()
    cache = stores.cache()
    await cache.refresh(ALICE)
    stores.now += age
    assert await cache.holds(ALICE, KEY, may_fetch=False) is holds
    assert await cache.holds(BOB, KEY, may_fetch=False) is False
    assert stores.asked == [ALICE]


@pytest.mark.parametrize("answer", [GONE, STOPPED, frozenset()])
@pytest.mark.asyncio
async def test_that_there_are_no_keys_is_remembered_too(answer: frozenset[PublicKey] | JHSSHError) -> None:
    stores = Stores()
    stores.answer = answer
    cache = stores.cache()
    for _ in range(5):
        assert not await cache.holds(BOB, KEY, may_fetch=True)
    assert len(stores.asked) == 1
    stores.now += MIDDLE
    stores.answer = UP
    assert await cache.holds(BOB, KEY, may_fetch=True)


@pytest.mark.asyncio
async def test_a_push_overrides_at_once_what_is_remembered() -> None:
    stores = Stores()
    stores.answer = GONE
    cache = stores.cache()
    assert not await cache.holds(ALICE, KEY, may_fetch=True)
    stores.answer = UP
    await cache.refresh(ALICE)
    assert await cache.holds(ALICE, KEY, may_fetch=False)
    stores.answer = CHANGED
    await cache.refresh(ALICE)
    assert not await cache.holds(ALICE, KEY, may_fetch=True)
    assert not cache.knows(ALICE, KEY)


@pytest.mark.asyncio
async def test_keys_are_those_of_one_user_server_alone() -> None:
    stores = Stores()
    cache = stores.cache()
    await cache.refresh(ALICE)
    stores.answer = frozenset()
    assert cache.knows(ALICE, KEY)
    assert not cache.knows(UserServer("alice", "gpu"), KEY)
    assert not await cache.holds(UserServer("alice", "gpu"), KEY, may_fetch=True)


@pytest.mark.asyncio
async def test_the_hub_being_away_is_told_and_not_taken_for_no() -> None:
    stores = Stores()
    stores.answer = HubUnavailable()
    cache = stores.cache()
    for _ in range(3):
        with pytest.raises(HubUnavailable):
            await cache.holds(ALICE, KEY, may_fetch=True)
    stores.answer = UP
    assert await cache.holds(ALICE, KEY, may_fetch=True), "a Hub that is back counts at once"


@pytest.mark.asyncio
async def test_an_old_copy_does_not_count_while_its_server_does_not_answer_and_only_its_holder_learns_why() -> None:
    stores = Stores()
    cache = stores.cache()
    await cache.refresh(ALICE)
    stores.now += OLD
    stores.answer = ServerUnreachable()
    with pytest.raises(ServerUnreachable):
        await cache.holds(ALICE, KEY, may_fetch=True)
    assert await cache.holds(ALICE, OTHER, may_fetch=True) is False
    with pytest.raises(ServerUnreachable):
        await cache.holds(ALICE, KEY, may_fetch=True)
    assert len(stores.asked) == 2, "a failure of its own is remembered for some seconds"
    stores.now += 6
    stores.answer = UP
    assert await cache.holds(ALICE, KEY, may_fetch=True)


@pytest.mark.parametrize("error", [ServerUnreachable(), HubUnavailable(), ServerStopped()])
@pytest.mark.asyncio
async def test_a_push_that_cannot_be_followed_makes_the_copy_too_old(error: JHSSHError) -> None:
    stores = Stores()
    cache = stores.cache()
    await cache.refresh(ALICE)
    stores.answer = error
    with pytest.raises(type(error)):
        await cache.refresh(ALICE)
    assert cache.knows(ALICE, KEY)
    assert not await cache.holds(ALICE, KEY, may_fetch=False)
    stores.now += 6
    stores.answer = CHANGED
    assert not await cache.holds(ALICE, KEY, may_fetch=True)


@pytest.mark.asyncio
async def test_many_who_ask_at_once_share_one_fetch() -> None:
    stores = Stores()
    stores.gate.clear()
    cache = stores.cache()
    asking = [asyncio.create_task(cache.holds(ALICE, KEY, may_fetch=True)) for _ in range(20)]
    await settle(lambda: stores.asked != [])
    asking[0].cancel()
    stores.gate.set()
    assert await asyncio.gather(*asking[1:]) == [True] * 19
    assert asking[0].cancelled()
    assert len(stores.asked) == 1


@pytest.mark.asyncio
async def test_a_fetch_that_nobody_waits_for_any_more_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    stores = Stores()
    stores.gate.clear()
    stores.answer = HubUnavailable()
    cache = stores.cache()
    task = asyncio.create_task(cache.holds(ALICE, KEY, may_fetch=True))
    await settle(lambda: stores.asked != [])
    task.cancel()
    stores.gate.set()
    await settle(lambda: not cache._running)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.asyncio
async def test_a_push_during_a_fetch_is_followed_by_another_which_pushes_share() -> None:
    stores = Stores()
    stores.gate.clear()
    cache = stores.cache()
    first = asyncio.create_task(cache.holds(ALICE, KEY, may_fetch=True))
    await settle(lambda: len(stores.asked) == 1)
    stores.answer = CHANGED
    pushes = [asyncio.create_task(cache.refresh(ALICE)) for _ in range(3)]
    await settle(lambda: ALICE in cache._next)
    stores.gate.set()
    await asyncio.gather(first, *pushes)
    assert len(stores.asked) == 2
    assert not await cache.holds(ALICE, KEY, may_fetch=False)
    assert await cache.holds(ALICE, OTHER, may_fetch=False)
    assert not cache._next
    assert not cache._running


@pytest.mark.asyncio
async def test_what_is_expired_counts_no_more_and_is_fetched_at_the_next_login() -> None:
    stores = Stores()
    cache = stores.cache()
    await cache.refresh(ALICE)
    stores.answer = CHANGED
    cache.expire(ALICE)
    assert not await cache.holds(ALICE, KEY, may_fetch=False)
    assert len(stores.asked) == 1
    assert not await cache.holds(ALICE, KEY, may_fetch=True)
    assert await cache.holds(ALICE, OTHER, may_fetch=True)
    assert len(stores.asked) == 2


@pytest.mark.asyncio
async def test_who_asks_after_a_change_does_not_get_the_answer_to_a_question_from_before_it() -> None:
    stores = Stores()
    stores.gate.clear()
    cache = stores.cache()
    before = asyncio.create_task(cache.holds(ALICE, KEY, may_fetch=True))
    await settle(lambda: len(stores.asked) == 1)
    stores.answer = CHANGED
    cache.expire(ALICE)
    after = asyncio.create_task(cache.holds(ALICE, KEY, may_fetch=True))
    await settle(lambda: ALICE in cache._next)
    stores.gate.set()
    assert await after is False
    await before
    assert len(stores.asked) == 2


@pytest.mark.asyncio
async def test_the_copy_is_as_old_as_the_question() -> None:
    stores = Stores()
    stores.gate.clear()
    cache = stores.cache()
    task = asyncio.create_task(cache.refresh(ALICE))
    await settle(lambda: stores.asked != [])
    stores.now += 130
    stores.gate.set()
    await task
    stores.answer = CHANGED
    assert await cache.holds(ALICE, OTHER, may_fetch=True)


@pytest.mark.asyncio
async def test_fetches_are_bounded_in_number() -> None:
    stores = Stores()
    stores.gate.clear()
    cache = stores.cache(max_fetches=3)
    asking = [asyncio.create_task(cache.holds(UserServer(f"user{n}"), KEY, may_fetch=True)) for n in range(10)]
    await settle(lambda: len(stores.asked) == 3)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(stores.asked) == 3
    stores.gate.set()
    assert await asyncio.gather(*asking) == [True] * 10


@pytest.mark.asyncio
async def test_copies_are_bounded_and_names_that_strangers_try_push_no_keys_out() -> None:
    stores = Stores()
    cache = stores.cache(max_entries=3)
    for user in ("a", "b", "c"):
        await cache.refresh(UserServer(user))
    stores.answer = GONE
    for number in range(10):
        assert not await cache.holds(UserServer(f"nobody{number}"), KEY, may_fetch=True)
    assert len(cache._without) == 3
    assert await cache.holds(UserServer("a"), KEY, may_fetch=False)
    stores.answer = UP
    await cache.refresh(UserServer("d"))
    assert [cache.knows(UserServer(user), KEY) for user in ("a", "b", "c", "d")] == [True, False, True, True]


@pytest.mark.asyncio
async def test_closing_ends_fetches_and_who_waits_for_them() -> None:
    stores = Stores()
    stores.gate.clear()
    cache = stores.cache()
    waiting: list[Awaitable[object]] = [asyncio.create_task(cache.refresh(ALICE)) for _ in range(2)]
    await settle(lambda: stores.asked != [])
    await cache.close()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in found] == [ShuttingDown] * 2


@pytest.mark.asyncio
async def test_outcomes_are_counted() -> None:
    stores = Stores()
    outcomes: list[str] = []
    cache = KeyCache(stores.fetch, clock=lambda: stores.now, fetched=outcomes.append)
    await cache.refresh(ALICE)
    stores.answer = STOPPED
    with pytest.raises(ServerStopped):
        await cache.refresh(ALICE)
    assert outcomes == ["OK", "SERVER_STOPPED"]


@pytest.mark.asyncio
async def test_a_copy_belongs_to_the_spawn_that_it_came_from() -> None:
    stores = Stores()
    cache = stores.cache()
    assert not cache.is_of(ALICE, "1")
    await cache.refresh(ALICE)
    assert cache.is_of(ALICE, "1")
    stores.spawn = "2"
    assert not cache.is_of(ALICE, "2")
    stores.answer = STOPPED
    with pytest.raises(ServerStopped):
        await cache.refresh(ALICE)
    assert not cache.is_of(ALICE, "2")
    stores.answer = UP
    await cache.refresh(ALICE)
    assert cache.is_of(ALICE, "2")
    cache.expire(ALICE)
    assert not cache.is_of(ALICE, "2")

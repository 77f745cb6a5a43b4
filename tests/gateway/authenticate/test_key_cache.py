from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import asyncssh
import pytest

from jhssh_ext.errors import HubUnavailable, JHSSHError, KeyUnknown, ServerStopped, ServerUnreachable, ShuttingDown, SSHNotEnabled
from jhssh_ext.gateway.authenticate.key_cache import DAY, KeyCache
from jhssh_ext.gateway.authenticate.key_copies import Fetched, KeyCopies
from jhssh_ext.gateway.database import Database
from jhssh_ext.login_names import UserServer
from jhssh_ext.public_keys import PublicKey, parse_line


def new_key() -> PublicKey:
    return parse_line(asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip())


FIRST, LATER = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
KEY, OTHER = new_key(), new_key()
ALICE, BOB = UserServer("alice"), UserServer("bob")


class Stores:
    """The key stores of all user servers, a clock, and who was asked."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = 1_700_000_000.0
        self.spawn = "1"
        self.created = FIRST
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
        return Fetched(answer, self.spawn, self.created)

    def cache(self, **keywords: Any) -> KeyCache:
        """As one more gateway has it."""
        return KeyCache(KeyCopies(self.database, "server"), self.fetch, clock=lambda: self.now, **keywords)


async def settle(condition: Callable[[], bool]) -> None:
    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.002)

    await asyncio.wait_for(poll(), 30)


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
    sqlite: Database, age: float, key: PublicKey, server: frozenset[PublicKey] | JHSSHError, fetched: bool, holds: bool
) -> None:
    stores = Stores(sqlite)
    cache = stores.cache()
    assert await cache.holds(ALICE, KEY, may_fetch=True)
    stores.now += age
    stores.answer = server
    assert await cache.holds(ALICE, key, may_fetch=True) is holds
    assert len(stores.asked) == 1 + fetched


@pytest.mark.parametrize(("age", "holds"), [(FRESH, True), (MIDDLE, True), (OLD, False)])
@pytest.mark.asyncio
async def test_without_leave_nobody_is_asked_and_an_old_copy_holds_nothing(sqlite: Database, age: float, holds: bool) -> None:
    stores = Stores(sqlite)
    cache = stores.cache()
    await cache.refresh(ALICE)
    stores.now += age
    assert await cache.holds(ALICE, KEY, may_fetch=False) is holds
    assert await cache.holds(BOB, KEY, may_fetch=False) is False
    assert stores.asked == [ALICE]


@pytest.mark.parametrize("answer", [GONE, STOPPED, frozenset()])
@pytest.mark.asyncio
async def test_that_there_are_no_keys_is_remembered_too(sqlite: Database, answer: frozenset[PublicKey] | JHSSHError) -> None:
    stores = Stores(sqlite)
    stores.answer = answer
    cache = stores.cache()
    for _ in range(5):
        assert not await cache.holds(BOB, KEY, may_fetch=True)
    assert len(stores.asked) == 1
    stores.now += MIDDLE
    stores.answer = UP
    assert await cache.holds(BOB, KEY, may_fetch=True)


@pytest.mark.asyncio
async def test_a_push_overrides_at_once_what_is_remembered(sqlite: Database) -> None:
    stores = Stores(sqlite)
    stores.answer = GONE
    cache = stores.cache()
    assert not await cache.holds(ALICE, KEY, may_fetch=True)
    stores.answer = UP
    await cache.refresh(ALICE)
    assert await cache.holds(ALICE, KEY, may_fetch=False)
    stores.answer = CHANGED
    await cache.refresh(ALICE)
    assert not await cache.holds(ALICE, KEY, may_fetch=True)
    assert not await cache.knows(ALICE, KEY)


@pytest.mark.asyncio
async def test_keys_are_those_of_one_user_server_alone(sqlite: Database) -> None:
    stores = Stores(sqlite)
    cache = stores.cache()
    await cache.refresh(ALICE)
    stores.answer = frozenset()
    assert await cache.knows(ALICE, KEY)
    assert not await cache.knows(UserServer("alice", "gpu"), KEY)
    assert not await cache.holds(UserServer("alice", "gpu"), KEY, may_fetch=True)


@pytest.mark.asyncio
async def test_the_hub_being_away_is_told_and_not_taken_for_no(sqlite: Database) -> None:
    stores = Stores(sqlite)
    stores.answer = HubUnavailable()
    cache = stores.cache()
    for _ in range(3):
        with pytest.raises(HubUnavailable):
            await cache.holds(ALICE, KEY, may_fetch=True)
    stores.answer = UP
    assert await cache.holds(ALICE, KEY, may_fetch=True), "a Hub that is back counts at once"


@pytest.mark.asyncio
async def test_an_old_copy_does_not_count_while_its_server_does_not_answer_and_only_its_holder_learns_why(
    sqlite: Database,
) -> None:
    stores = Stores(sqlite)
    cache = stores.cache()
    await cache.refresh(ALICE)
    stores.now += OLD
    stores.answer = ServerUnreachable()
    with pytest.raises(ServerUnreachable):
        await cache.holds(ALICE, KEY, may_fetch=True)
    assert await cache.holds(ALICE, OTHER, may_fetch=True) is False
    assert len(stores.asked) == 2, "a failure is remembered for some seconds"
    stores.answer = ServerStopped()
    assert await cache.holds(ALICE, KEY, may_fetch=True), "it was noticed meanwhile that the server is not there"
    assert len(stores.asked) == 3
    stores.now += OLD
    stores.answer = UP
    assert await cache.holds(ALICE, KEY, may_fetch=True)


@pytest.mark.parametrize("error", [ServerUnreachable(), HubUnavailable(), ServerStopped()])
@pytest.mark.asyncio
async def test_a_push_that_cannot_be_followed_makes_the_copy_too_old(sqlite: Database, error: JHSSHError) -> None:
    stores = Stores(sqlite)
    cache = stores.cache()
    await cache.refresh(ALICE)
    stores.answer = error
    with pytest.raises(type(error)):
        await cache.refresh(ALICE)
    assert await cache.knows(ALICE, KEY)
    assert not await cache.holds(ALICE, KEY, may_fetch=False)
    stores.now += 6
    stores.answer = CHANGED
    assert not await cache.holds(ALICE, KEY, may_fetch=True)


@pytest.mark.asyncio
async def test_many_who_ask_at_once_share_one_fetch(sqlite: Database) -> None:
    stores = Stores(sqlite)
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
async def test_a_fetch_that_nobody_waits_for_any_more_ends_quietly(sqlite: Database, caplog: pytest.LogCaptureFixture) -> None:
    stores = Stores(sqlite)
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
async def test_a_push_during_a_fetch_is_followed_by_another_which_pushes_share(sqlite: Database) -> None:
    stores = Stores(sqlite)
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
async def test_what_is_expired_counts_no_more_and_is_fetched_at_the_next_login(sqlite: Database) -> None:
    stores = Stores(sqlite)
    cache = stores.cache()
    await cache.refresh(ALICE)
    stores.answer = CHANGED
    await cache.expire(ALICE)
    assert not await cache.holds(ALICE, KEY, may_fetch=False)
    assert len(stores.asked) == 1
    assert not await cache.holds(ALICE, KEY, may_fetch=True)
    assert await cache.holds(ALICE, OTHER, may_fetch=True)
    assert len(stores.asked) == 2


@pytest.mark.asyncio
async def test_who_asks_after_a_change_does_not_get_the_answer_to_a_question_from_before_it(sqlite: Database) -> None:
    stores = Stores(sqlite)
    stores.gate.clear()
    cache = stores.cache()
    before = asyncio.create_task(cache.holds(ALICE, KEY, may_fetch=True))
    await settle(lambda: len(stores.asked) == 1)
    stores.answer = CHANGED
    await cache.expire(ALICE)
    after = asyncio.create_task(cache.holds(ALICE, KEY, may_fetch=True))
    await settle(lambda: ALICE in cache._next)
    stores.gate.set()
    assert await after is False
    await before
    assert len(stores.asked) == 2


@pytest.mark.asyncio
async def test_the_copy_is_as_old_as_the_question(sqlite: Database) -> None:
    stores = Stores(sqlite)
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
async def test_fetches_are_bounded_in_number(sqlite: Database) -> None:
    stores = Stores(sqlite)
    stores.gate.clear()
    cache = stores.cache(max_fetches=3)
    asking = [asyncio.create_task(cache.refresh(UserServer(f"user{n}"))) for n in range(10)]
    await settle(lambda: len(stores.asked) == 3)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(stores.asked) == 3
    stores.gate.set()
    await asyncio.gather(*asking)
    assert len(stores.asked) == 10


class Flood:
    """Strangers ask for a key of names that nobody has, and whoever is asked for those does not answer."""

    def __init__(self, stores: Stores, **keywords: Any) -> None:
        self.stores, self.hanging, self.asked = stores, asyncio.Event(), 0
        self.cache = stores.cache(**keywords)
        self.cache._fetch = self.fetch
        self.asking: list[asyncio.Task[bool]] = []

    async def fetch(self, target: UserServer) -> Fetched:
        if target == ALICE:
            return await self.stores.fetch(target)
        self.asked += 1
        await self.hanging.wait()
        raise KeyUnknown

    def ask(self, *targets: UserServer) -> None:
        self.asking += [asyncio.create_task(self.cache.holds(target, OTHER, may_fetch=True)) for target in targets]

    async def ended(self) -> list[bool]:
        self.hanging.set()
        return await asyncio.gather(*self.asking)


@pytest.mark.asyncio
async def test_known_keys_pushes_and_refreshes_do_not_wait_behind_strangers(sqlite: Database) -> None:
    flood = Flood(Stores(sqlite), max_strange_fetches=2)
    await flood.cache.refresh(ALICE)
    flood.ask(*(UserServer(f"nobody{number}") for number in range(50)))
    await settle(lambda: flood.asked == 2)
    await settle(lambda: sum(task.done() for task in flood.asking) == 40)
    assert await asyncio.wait_for(flood.cache.holds(ALICE, KEY, may_fetch=True), 30)
    flood.stores.now += OLD
    assert await asyncio.wait_for(flood.cache.holds(ALICE, KEY, may_fetch=True), 30), "asked, though strangers fill their places"
    await asyncio.wait_for(flood.cache.refresh(ALICE), 30)
    await asyncio.wait_for(flood.cache.renew(ALICE, 2), 30)
    assert len(flood.stores.asked) == 4
    assert flood.asked == 2
    assert not any(await flood.ended())
    assert flood.asked == 10, "who found no room was refused, and nobody asked"
    assert not flood.cache._running
    assert not flood.cache._tasks
    flood.ask(UserServer("somebody"))
    assert not any(await flood.ended())
    assert flood.asked == 11, "there is room again"


async def strangers_wait_for_alice(sqlite: Database) -> Flood:
    """One asks nobody's server and holds the only place of strangers; another waits to ask alice's, whose copy is old."""
    flood = Flood(Stores(sqlite), max_strange_fetches=1)
    await flood.cache.refresh(ALICE)
    flood.stores.now += OLD
    flood.ask(UserServer("nobody"))
    await settle(lambda: flood.asked == 1)
    flood.ask(ALICE)
    await settle(lambda: ALICE in flood.cache._running)
    return flood


@pytest.mark.asyncio
async def test_a_known_key_overtakes_a_stranger_who_waits_to_ask_the_same_server(sqlite: Database) -> None:
    flood = await strangers_wait_for_alice(sqlite)
    assert await asyncio.wait_for(flood.cache.holds(ALICE, KEY, may_fetch=True), 30)
    assert len(flood.stores.asked) == 2
    assert not flood.asking[1].done()
    assert not any(await flood.ended())
    assert len(flood.stores.asked) == 2, "the stranger has the same answer"
    assert not flood.cache._running


@pytest.mark.asyncio
async def test_names_of_one_user_do_not_take_all_the_places_of_strangers(sqlite: Database) -> None:
    flood = Flood(Stores(sqlite))
    flood.ask(*(UserServer("bob", f"server{number}") for number in range(200)))
    await settle(lambda: flood.asked == 2)
    await settle(lambda: sum(task.done() for task in flood.asking) == 190)
    assert await asyncio.wait_for(flood.cache.holds(ALICE, KEY, may_fetch=True), 30), "a new key of somebody else"
    assert not any(await flood.ended())


@pytest.mark.asyncio
async def test_closing_ends_strangers_who_wait(sqlite: Database) -> None:
    flood = await strangers_wait_for_alice(sqlite)
    await flood.cache.refresh(ALICE)
    await asyncio.wait_for(flood.cache.close(), 30)
    for task in flood.asking:
        with pytest.raises(ShuttingDown):
            await task
    assert not flood.cache._tasks


@pytest.mark.asyncio
async def test_names_that_strangers_try_are_remembered_in_bounds_and_make_no_rows(sqlite: Database) -> None:
    stores = Stores(sqlite)
    cache = stores.cache(max_entries=3)
    for user in ("a", "b", "c"):
        await cache.refresh(UserServer(user))
    stores.answer = GONE
    for number in range(10):
        assert not await cache.holds(UserServer(f"nobody{number}"), KEY, may_fetch=True)
    assert len(cache._nobody) == 3
    assert len(await cache.copies.all()) == 3, "names of nobody make no rows"
    stores.answer = HubUnavailable()
    for number in range(10):
        with pytest.raises(HubUnavailable):
            await cache.holds(UserServer(f"somebody{number}"), KEY, may_fetch=True)
    assert len(cache._failures) == 3


@pytest.mark.asyncio
async def test_closing_ends_fetches_and_who_waits_for_them(sqlite: Database) -> None:
    stores = Stores(sqlite)
    stores.gate.clear()
    cache = stores.cache()
    waiting: list[Awaitable[object]] = [asyncio.create_task(cache.refresh(ALICE)) for _ in range(2)]
    await settle(lambda: stores.asked != [])
    await cache.close()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in found] == [ShuttingDown] * 2
    with pytest.raises(ShuttingDown):
        await cache.refresh(ALICE)
    assert stores.asked == [ALICE], "nothing is begun any more"


@pytest.mark.asyncio
async def test_outcomes_are_counted(sqlite: Database) -> None:
    stores = Stores(sqlite)
    outcomes: list[str] = []
    cache = stores.cache(fetched=outcomes.append)
    await cache.refresh(ALICE)
    stores.answer = STOPPED
    with pytest.raises(ServerStopped):
        await cache.refresh(ALICE)
    assert outcomes == ["OK", "SERVER_STOPPED"]


@pytest.mark.asyncio
async def test_a_copy_belongs_to_the_spawn_that_it_came_from(sqlite: Database) -> None:
    stores = Stores(sqlite)
    cache = stores.cache()
    assert not await cache.is_of(ALICE, "1")
    await cache.refresh(ALICE)
    assert await cache.is_of(ALICE, "1")
    stores.spawn = "2"
    assert not await cache.is_of(ALICE, "2")
    stores.answer = STOPPED
    with pytest.raises(ServerStopped):
        await cache.refresh(ALICE)
    assert not await cache.is_of(ALICE, "2")
    stores.answer = UP
    await cache.refresh(ALICE)
    assert await cache.is_of(ALICE, "2")
    await cache.expire(ALICE)
    assert not await cache.is_of(ALICE, "2")


@pytest.mark.asyncio
async def test_copies_outlive_the_gateway_and_are_shared_with_others(sqlite: Database) -> None:
    stores = Stores(sqlite)
    await stores.cache().refresh(ALICE)
    other = stores.cache()
    assert await other.holds(ALICE, KEY, may_fetch=True)
    assert stores.asked == [ALICE]
    stores.answer = CHANGED
    await stores.cache().expire(ALICE)
    assert not await other.holds(ALICE, KEY, may_fetch=True)
    assert len(stores.asked) == 2


@pytest.mark.asyncio
async def test_an_answer_to_a_question_from_before_a_push_to_another_gateway_counts_for_nothing(sqlite: Database) -> None:
    stores = Stores(sqlite)
    stores.gate.clear()
    slow, other = stores.cache(), stores.cache()
    before = asyncio.create_task(slow.holds(ALICE, KEY, may_fetch=True))
    await settle(lambda: len(stores.asked) == 1)
    stores.answer = CHANGED
    await other.expire(ALICE)
    stores.gate.set()
    assert not await before
    assert len(stores.asked) == 2
    assert await other.holds(ALICE, OTHER, may_fetch=False)


@pytest.mark.asyncio
async def test_a_later_answer_of_another_gateway_stays(sqlite: Database) -> None:
    stores = Stores(sqlite)
    stores.gate.clear()
    slow, other = stores.cache(), stores.cache()
    before = asyncio.create_task(slow.holds(ALICE, KEY, may_fetch=True))
    await settle(lambda: len(stores.asked) == 1)
    stores.now += 1
    stores.answer = CHANGED
    after = asyncio.create_task(other.holds(ALICE, OTHER, may_fetch=True))
    await settle(lambda: len(stores.asked) == 2)
    stores.gate.set()
    assert await after
    await before
    assert not await slow.knows(ALICE, KEY)


@pytest.mark.parametrize(
    ("days", "answer", "holds"),
    [(29.9, STOPPED, True), (30.1, STOPPED, False), (30.1, UP, True), (29.9, NO_SSH, True), (30.1, NO_SSH, False)],
)
@pytest.mark.asyncio
async def test_a_key_starts_a_stopped_server_for_so_many_days(
    sqlite: Database, days: float, answer: frozenset[PublicKey] | JHSSHError, holds: bool
) -> None:
    stores = Stores(sqlite)
    cache = stores.cache(stopped_max_age=30.0)
    await cache.refresh(ALICE)
    stores.answer = STOPPED
    for _ in range(3):  # that it is looked at while stopped confirms nothing
        stores.now += days * DAY / 3
        await cache.holds(ALICE, KEY, may_fetch=True)
    stores.answer = answer
    stores.now += OLD
    assert await cache.holds(ALICE, KEY, may_fetch=True) is holds


@pytest.mark.parametrize("answer", [STOPPED, UP, GONE])
@pytest.mark.asyncio
async def test_a_user_made_anew_has_no_keys_of_the_one_before(
    sqlite: Database, answer: frozenset[PublicKey] | JHSSHError
) -> None:
    stores = Stores(sqlite)
    removed: list[tuple[UserServer, set[PublicKey]]] = []

    async def note(target: UserServer, keys: Collection[PublicKey]) -> None:
        removed.append((target, set(keys)))

    cache = stores.cache(removed=note)
    await cache.refresh(ALICE)
    assert await cache.holds(ALICE, KEY, may_fetch=True, created=FIRST)
    stores.answer, stores.created = answer, LATER
    # A running server of the new user may well hold the same key.
    assert await cache.holds(ALICE, KEY, may_fetch=True, created=LATER) is (answer is UP)
    assert len(stores.asked) == 2
    assert removed == [(ALICE, {KEY})]


@pytest.mark.asyncio
async def test_removals_are_told_once_and_to_the_one_who_saw_them(sqlite: Database) -> None:
    stores = Stores(sqlite)
    stores.answer = frozenset({KEY, OTHER})
    removed: list[tuple[UserServer, set[PublicKey]]] = []

    async def note(target: UserServer, keys: Collection[PublicKey]) -> None:
        removed.append((target, set(keys)))

    cache = stores.cache(removed=note)
    await cache.refresh(ALICE)
    stores.answer = STOPPED
    with pytest.raises(ServerStopped):
        await cache.refresh(ALICE)
    assert removed == []
    stores.answer = UP
    await cache.refresh(ALICE)
    await cache.refresh(ALICE)
    assert removed == [(ALICE, {OTHER})]
    stores.answer = GONE
    with pytest.raises(KeyUnknown):
        await cache.refresh(ALICE)
    assert removed == [(ALICE, {OTHER}), (ALICE, {KEY})]
    assert await cache.copies.read(ALICE) is None


@pytest.mark.asyncio
async def test_a_clock_that_is_put_back_makes_a_copy_too_old(sqlite: Database) -> None:
    stores = Stores(sqlite)
    cache = stores.cache()
    await cache.refresh(ALICE)
    stores.now -= 3600
    stores.answer = CHANGED
    assert not await cache.holds(ALICE, KEY, may_fetch=True)
    assert await cache.holds(ALICE, OTHER, may_fetch=True)
    assert len(stores.asked) == 2


@pytest.mark.asyncio
async def test_a_server_whose_keys_change_all_the_time_is_asked_so_often_and_no_more(sqlite: Database) -> None:
    stores = Stores(sqlite)
    cache = stores.cache()

    async def fetch(target: UserServer) -> Fetched:
        await cache.expire(target)
        return await stores.fetch(target)

    cache._fetch = fetch
    assert not await cache.holds(ALICE, KEY, may_fetch=True)
    assert len(stores.asked) == 3

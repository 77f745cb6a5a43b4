"""The rows of the key cache, on both databases, written by two gateways at once."""

from __future__ import annotations

import asyncio

import pytest

from jhssh_ext.gateway.authenticate.key_copies import Fetched, KeyCopies
from jhssh_ext.gateway.database import Database
from jhssh_ext.login_names import UserServer

from .test_key_cache import ALICE, BOB, FIRST, KEY, LATER, OTHER

HERS = Fetched(frozenset({KEY, OTHER}), "1", FIRST)


@pytest.mark.asyncio
async def test_what_is_stored_is_read(database: Database) -> None:
    copies = KeyCopies(database, "server")
    stored = await copies.store(ALICE, HERS, asked=5.0, changes=0)
    assert (stored.current, stored.removed) == (True, frozenset())
    copy = await copies.read(ALICE)
    assert copy is not None
    assert copy.has(KEY)
    assert copy.has(OTHER)
    assert (copy.spawn, copy.created, copy.checked, copy.confirmed, copy.changes) == ("1", FIRST, 5.0, 5.0, 0)
    assert await KeyCopies(database, "github").read(ALICE) is None
    assert list(await copies.all()) == [ALICE]

    stored = await copies.store(ALICE, None, asked=7.0, changes=0)
    copy = await copies.read(ALICE)
    assert copy is not None
    assert (copy.has(KEY), copy.checked, copy.confirmed) == (True, 7.0, 5.0)
    stored = await copies.store(ALICE, Fetched(frozenset({KEY}), "2", FIRST), asked=8.0, changes=0)
    assert stored.removed == {OTHER}


@pytest.mark.asyncio
async def test_an_answer_from_before_a_change_counts_for_nothing(database: Database) -> None:
    here, there = KeyCopies(database, "server"), KeyCopies(database, "server")
    await here.store(ALICE, HERS, asked=5.0, changes=0)
    await there.expire(ALICE)
    copy = await here.read(ALICE)
    assert copy is not None
    assert (copy.checked, copy.changes) == (0.0, 1)
    assert not (await here.store(ALICE, HERS, asked=6.0, changes=0)).current
    copy = await here.read(ALICE)
    assert copy is not None
    assert copy.checked == 0.0
    assert (await here.store(ALICE, HERS, asked=7.0, changes=1)).current


@pytest.mark.asyncio
async def test_many_writes_of_two_gateways_lose_no_change(database: Database) -> None:
    gateways = KeyCopies(database, "server"), KeyCopies(database, "server")
    targets = [UserServer(f"user{number}") for number in range(40)]
    await asyncio.gather(
        *(gateway.expire(target) for target in targets for gateway in gateways for _ in range(3)),
        *(gateway.store(target, HERS, asked=5.0, changes=0) for target in reversed(targets) for gateway in gateways),
    )
    for target in targets:
        copy = await gateways[0].read(target)
        assert copy is not None
        assert copy.changes == 6
        assert copy.checked == 0.0


@pytest.mark.asyncio
async def test_who_is_gone_leaves_nothing(database: Database) -> None:
    copies = KeyCopies(database, "server")
    gpu = UserServer("alice", "gpu")
    for target, created in ((ALICE, FIRST), (gpu, LATER), (BOB, FIRST)):
        await copies.store(target, HERS._replace(created=created), asked=5.0, changes=0)
    assert await copies.forget("alice", but=LATER) == {ALICE: {KEY, OTHER}}
    assert set(await copies.all()) == {gpu, BOB}
    assert await copies.forget("alice", "other") == {}
    assert await copies.forget("alice") == {gpu: {KEY, OTHER}}
    assert await copies.forget("alice") == {}
    assert list(await copies.all()) == [BOB]


@pytest.mark.asyncio
async def test_that_a_server_stopped_meanwhile_does_not_bring_back_a_key_that_was_removed(database: Database) -> None:
    here, there = KeyCopies(database, "server"), KeyCopies(database, "server")
    await here.store(ALICE, HERS, asked=5.0, changes=0)
    # Asked at 7 and at 8; the later answer came first, and says only that the server is stopped.
    await there.store(ALICE, None, asked=8.0, changes=0)
    stored = await here.store(ALICE, Fetched(frozenset({KEY}), "1", FIRST), asked=7.0, changes=0)
    assert stored.removed == {OTHER}
    copy = await here.read(ALICE)
    assert copy is not None
    assert (copy.has(OTHER), copy.checked, copy.confirmed) == (False, 7.0, 7.0)
    # The other way round nothing is older than what is there.
    await there.store(ALICE, None, asked=6.0, changes=0)
    assert await here.read(ALICE) == copy


@pytest.mark.asyncio
async def test_an_answer_from_before_a_change_does_not_undo_one_from_after_it(database: Database) -> None:
    copies = KeyCopies(database, "server")
    await copies.expire(ALICE)
    await copies.store(ALICE, HERS, asked=7.0, changes=1)
    for late in (Fetched(frozenset({KEY}), "1", FIRST), None):
        stored = await copies.store(ALICE, late, asked=6.0, changes=0)
        assert (stored.current, stored.removed) == (False, frozenset()), "no session ends for it"
    copy = await copies.read(ALICE)
    assert copy is not None
    assert (copy.has(OTHER), copy.checked) == (True, 7.0)


@pytest.mark.parametrize("name", ["\0", "\ud800"])
@pytest.mark.asyncio
async def test_a_name_that_the_database_refuses_fails_alone(database: Database, name: str) -> None:
    copies = KeyCopies(database, "server")
    bad = UserServer("bob", name)
    _, _, _, stored = await asyncio.gather(
        copies.expire(bad),
        copies.expire(ALICE),
        copies.expire(bad),
        copies.store(BOB, HERS, asked=5.0, changes=0),
        return_exceptions=True,
    )
    assert not isinstance(stored, BaseException)
    copy = await copies.read(ALICE)
    assert copy is not None
    assert copy.changes == 1
    copy = await copies.read(BOB)
    assert copy is not None
    assert copy.has(KEY)

"""A nonce works once, for its user and purpose, for its time, on any gateway."""

from __future__ import annotations

import asyncio

import pytest

from jhssh_ext.gateway.authenticate.nonces import Nonces
from jhssh_ext.gateway.database import Database

from .conftest import Clock

pytestmark = pytest.mark.asyncio


async def test_a_nonce_works_once(database: Database, clock: Clock) -> None:
    nonces = Nonces(database, clock=clock)
    nonce = await nonces.make("alice", "add key")
    assert await nonces.use(nonce, "alice", "add key")
    assert not await nonces.use(nonce, "alice", "add key")


async def test_of_many_uses_at_once_one_counts(database: Database, database_url: str, clock: Clock) -> None:
    other = Database(database_url)
    nonce = await Nonces(database, clock=clock).make("alice", "p")
    uses = [Nonces(where, clock=clock).use(nonce, "alice", "p") for where in (database, other) * 5]
    assert sorted(await asyncio.gather(*uses)) == [False] * 9 + [True]
    await other.close()


async def test_it_is_bound_to_its_user_and_purpose(database: Database, clock: Clock) -> None:
    nonces = Nonces(database, clock=clock)
    nonce = await nonces.make("alice", "add key")
    for user, purpose in (("bob", "add key"), ("Alice", "add key"), ("alice", "remove key"), ("alice", "")):
        assert not await nonces.use(nonce, user, purpose)
    for wrong in ("", nonce[:-1], nonce + "A", nonce.lower(), "x" * 100_000, "\0", "\ud800"):
        assert not await nonces.use(wrong, "alice", "add key")
    assert await nonces.use(nonce, "alice", "add key")


async def test_it_expires(database: Database, clock: Clock) -> None:
    nonces = Nonces(database, max_age=60, clock=clock)
    old = await nonces.make("alice", "p")
    clock.now += 59
    young = await nonces.make("alice", "p")
    clock.now += 1
    assert not await nonces.use(old, "alice", "p")
    assert await nonces.use(young, "alice", "p")


async def test_a_user_has_so_many_and_takes_nobody_elses(database: Database, clock: Clock) -> None:
    nonces = Nonces(database, max_per_user=3, clock=clock)
    bobs = await nonces.make("bob", "p")
    made = []
    for _ in range(5):
        clock.now += 1
        made.append(await nonces.make("alice", "p"))
    assert [await nonces.use(nonce, "alice", "p") for nonce in made] == [False, False, True, True, True]
    assert await nonces.use(bobs, "bob", "p")

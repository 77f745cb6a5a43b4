"""Rows of the jhssh command's tokens: bounded, expiring, of one user as the Hub made it; on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from jhssh_ext.errors import HubUnavailable, TokenExpired, TokenInvalid
from jhssh_ext.gateway.authenticate.client_tokens import DAY, MAX_TOKENS, REMEMBERED, SHAPE, ClientTokens
from jhssh_ext.gateway.database import Database

from .conftest import Clock

pytestmark = pytest.mark.asyncio


@pytest.fixture
def tokens(database: Database, clock: Clock) -> ClientTokens:
    return ClientTokens(database, max_age=30, clock=clock)


async def made(tokens: ClientTokens, user: str = "alice", created: str = "2026") -> str:
    token, _ = await tokens.make(user, created, "jhssh on laptop", "192.0.2.7")
    return token


async def test_a_token_is_its_users(tokens: ClientTokens, clock: Clock) -> None:
    token, info = await tokens.make("alice", "2026", "jhssh on laptop", "192.0.2.7")
    assert SHAPE.fullmatch(token)
    assert await tokens.find(token) == info
    assert (info.user, info.user_created, info.client, info.address) == ("alice", "2026", "jhssh on laptop", "192.0.2.7")
    assert info.expires == clock.now + 30 * DAY
    assert await tokens.list("alice", "2026") == [info]
    assert await tokens.list("bob", "2026") == []


async def test_what_is_stored_opens_nothing(tokens: ClientTokens, database: Database) -> None:
    token = await made(tokens)
    rows = await database.run(lambda session: str(session.execute(text("SELECT * FROM client_tokens")).all()))
    assert token.removeprefix("jhssh_") not in rows
    (info,) = await tokens.list("alice", "2026")
    for other in (info.id, f"jhssh_{info.id}", rows):
        with pytest.raises(TokenInvalid):
            await tokens.find(other)


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1], lambda t: t + "A", lambda t: t.upper(), lambda t: t[6:], lambda t: "", lambda t: t + "\n"]
)
async def test_what_is_nearly_a_token_is_none(tokens: ClientTokens, change: object) -> None:
    assert callable(change)
    token = await made(tokens)
    with pytest.raises(TokenInvalid):
        await tokens.find(change(token))


async def test_it_expires_and_is_known_to_have_expired(tokens: ClientTokens, clock: Clock) -> None:
    token = await made(tokens)
    clock.now += 30 * DAY - 1
    await tokens.find(token)
    clock.now += 1
    with pytest.raises(TokenExpired):
        await tokens.find(token)
    assert await tokens.list("alice", "2026") == []
    clock.now += REMEMBERED
    await made(tokens, "bob")
    with pytest.raises(TokenInvalid):
        await tokens.find(token)


async def test_its_last_use_is_noted_once_a_minute(tokens: ClientTokens, clock: Clock) -> None:
    token, begin = await made(tokens), clock.now
    used = []
    for seconds in (59, 1, 59):
        clock.now += seconds
        await tokens.find(token)
        used.append((await tokens.list("alice", "2026"))[0].used - begin)
    assert used == [0, 60, 60]


async def test_who_has_many_loses_the_one_that_was_longest_unused(tokens: ClientTokens, clock: Clock) -> None:
    others = await made(tokens, "bob")
    first, second = await made(tokens), await made(tokens)
    for _ in range(MAX_TOKENS - 2):
        clock.now += 60
        await made(tokens)
    await tokens.find(first)  # in use
    clock.now += 60
    last = await made(tokens)
    assert len(await tokens.list("alice", "2026")) == MAX_TOKENS
    with pytest.raises(TokenInvalid):
        await tokens.find(second)
    for token in (first, last, others):
        await tokens.find(token)


async def test_expired_ones_take_no_place(tokens: ClientTokens, clock: Clock) -> None:
    for _ in range(MAX_TOKENS - 1):
        await made(tokens)
    clock.now += 29 * DAY
    kept = await made(tokens)
    clock.now += DAY
    await made(tokens)
    await tokens.find(kept)


async def test_revoked_by_its_user_alone(tokens: ClientTokens) -> None:
    token, other = await made(tokens), await made(tokens)
    info = await tokens.find(token)
    assert not await tokens.revoke("bob", info.id)
    assert not await tokens.revoke("alice", token)
    await tokens.find(token)
    both = await asyncio.gather(tokens.revoke("alice", info.id), tokens.revoke("alice", info.id))
    assert sorted(both, key=bool) == [None, info], "one of two who do so at once"
    assert await tokens.revoke("alice", info.id) is None
    with pytest.raises(TokenInvalid):
        await tokens.find(token)
    await tokens.find(other)


async def test_a_user_who_is_made_anew_has_none(tokens: ClientTokens) -> None:
    old, bobs = await made(tokens), await made(tokens, "bob")
    assert await tokens.list("alice", "2027") == []
    new = await made(tokens, created="2027")
    with pytest.raises(TokenInvalid):
        await tokens.find(old)
    await tokens.forget("alice", "2027")
    await tokens.find(new)
    await tokens.forget("alice")
    with pytest.raises(TokenInvalid):
        await tokens.find(new)
    await tokens.find(bobs)


async def test_a_token_of_nobody_in_particular_is_not_made(tokens: ClientTokens) -> None:
    with pytest.raises(HubUnavailable):
        await made(tokens, created="")

"""The rows of logins that wait: single use, bound to user and connection, expiring, bounded; on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import re

import asyncssh
import pytest
from sqlalchemy import text

from jhssh_ext.errors import ApprovalDenied, ApprovalExpired, TooManyAttempts
from jhssh_ext.gateway.authenticate.approvals import (
    ALPHABET,
    CLAIMS,
    LAST_LOOK,
    LOST_AFTER,
    NUMBER_TRIES,
    Approvals,
    Bounds,
    normal,
    shown,
)
from jhssh_ext.gateway.database import Database
from jhssh_ext.login_names import UserServer
from jhssh_ext.public_keys import PublicKey, parse_line

from .conftest import Clock

pytestmark = pytest.mark.asyncio

ALICE = UserServer("alice")
KEY, OTHER_KEY = (parse_line(asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode("ascii")) for _ in range(2))


@pytest.fixture
def approvals(database: Database, clock: Clock) -> Approvals:
    return Approvals(database, b"secret", Bounds(timeout=300, in_all=6, per_address=4, per_user=3), clock=clock)


async def asked(
    approvals: Approvals, user: str = "alice", address: str = "192.0.2.7", offered: tuple[PublicKey, ...] = ()
) -> tuple[str, str]:
    return await approvals.ask(user, UserServer(user), address, offered)


async def claimed(approvals: Approvals, offered: tuple[PublicKey, ...] = ()) -> str:
    id, code = await asked(approvals, offered=offered)
    found = await approvals.find("alice", code)
    assert found is not None
    assert await approvals.claim(found.id, ALICE)
    return id


async def test_a_code_is_readable_and_typed_in_any_way() -> None:
    assert shown("BCDFGHJK") == "BCDF-GHJK"
    for typed in ("BCDFGHJK", "bcdf-ghjk", " Bcdf Ghjk \n", "BCDF\u2013GHJK"):
        assert normal(typed) == "BCDFGHJK"
    assert len(normal("B" * 1_000_000)) <= 64


async def test_a_code_is_typed_once(approvals: Approvals) -> None:
    id, code = await asked(approvals)
    assert re.fullmatch(f"[{ALPHABET}]{{8}}", code)
    found = await approvals.find("alice", code.lower())
    assert found is not None
    assert (found.id, found.state, found.target, found.address) == (id, "waiting", ALICE, "192.0.2.7")
    results = await asyncio.gather(*(approvals.claim(id, ALICE) for _ in range(5)))
    assert sorted(results) == [False] * 4 + [True]
    assert await approvals.find("alice", code) is None
    assert (await approvals.look([id]))[id].state == "claimed"


async def test_nothing_that_is_stored_can_be_typed(approvals: Approvals, database: Database) -> None:
    _, code = await asked(approvals)
    id = await claimed(approvals)
    number = await approvals.approve_by_number("alice", id)
    rows = await database.run(lambda session: str(session.execute(text("SELECT * FROM approvals")).all()))
    assert number is not None
    assert number not in rows
    assert code not in rows


async def test_before_its_code_is_typed_nobody_sees_a_request(approvals: Approvals) -> None:
    id, _ = await asked(approvals)
    assert await approvals.list_pending("alice") == []
    assert await approvals.of("alice", id) is None
    assert not await approvals.approve("alice", id)
    assert await approvals.approve_by_number("alice", id) is None
    assert not await approvals.deny("alice", id)


async def test_only_who_typed_the_code_decides(approvals: Approvals) -> None:
    id = await claimed(approvals)
    assert [request.id for request in await approvals.list_pending("alice")] == [id]
    for other in ("bob", "Alice", "", "alice "):
        assert await approvals.list_pending(other) == []
        assert await approvals.of(other, id) is None
        assert not await approvals.approve(other, id)
        assert await approvals.approve_by_number(other, id) is None
        assert not await approvals.deny(other, id)
    assert await approvals.approve("alice", id)


async def test_whose_address_a_proxy_says_is_marked(approvals: Approvals) -> None:
    id, _ = await asked(approvals)
    through, _ = await approvals.ask("alice", ALICE, "192.0.2.7", (), by_proxy=True)
    found = await approvals.look([id, through])
    assert (found[id].by_proxy, found[through].by_proxy) == (False, True)


async def test_there_is_one_decision(approvals: Approvals) -> None:
    id = await claimed(approvals)
    assert await approvals.deny("alice", id)
    assert not await approvals.approve("alice", id)
    assert await approvals.approve_by_number("alice", id) is None
    assert (await approvals.look([id]))[id].state == "denied"


async def test_a_request_expires_at_every_step(approvals: Approvals, clock: Clock) -> None:
    _, code = await asked(approvals)
    decided, numbered = await claimed(approvals), await claimed(approvals)
    number = await approvals.approve_by_number("alice", numbered)
    assert number is not None
    for _ in range(30):
        clock.now += 10
        await approvals.still_wait([decided, numbered])
    assert await approvals.find("alice", code) is None
    assert not await approvals.approve("alice", decided)
    assert set(await approvals.look([decided, numbered])) == {numbered}, "what was decided just before is still seen"
    clock.now += LAST_LOOK
    assert await approvals.look([decided, numbered]) == {}
    with pytest.raises(ApprovalExpired):
        await approvals.try_number(numbered, number)


async def test_a_request_whose_gateway_died_cannot_be_approved(approvals: Approvals, clock: Clock) -> None:
    id = await claimed(approvals)
    clock.now += LOST_AFTER - 1
    await approvals.still_wait([id])
    clock.now += LOST_AFTER - 1
    assert await approvals.of("alice", id) is not None
    clock.now += 1
    assert await approvals.of("alice", id) is None
    assert await approvals.list_pending("alice") == []
    assert not await approvals.approve("alice", id)


async def test_a_number_has_few_tries(approvals: Approvals) -> None:
    id = await claimed(approvals)
    number = await approvals.approve_by_number("alice", id)
    assert number is not None
    assert re.fullmatch("[0-9]{6}", number)
    wrong = "000000" if number != "000000" else "000001"
    for _ in range(NUMBER_TRIES - 1):
        assert not await approvals.try_number(id, wrong)
    with pytest.raises(ApprovalDenied):
        await approvals.try_number(id, wrong)
    with pytest.raises(ApprovalExpired):
        await approvals.try_number(id, number)
    assert await approvals.of("alice", id) is None


async def test_a_number_belongs_to_one_request(approvals: Approvals) -> None:
    first, second = await claimed(approvals), await claimed(approvals)
    numbers = [await approvals.approve_by_number("alice", id) for id in (first, second)]
    assert numbers[0] is not None
    assert numbers[1] is not None
    if numbers[0] != numbers[1]:
        assert not await approvals.try_number(first, numbers[1])
    assert await approvals.try_number(first, numbers[0])


async def test_bounds(approvals: Approvals) -> None:
    for _ in range(3):
        await asked(approvals)
    with pytest.raises(TooManyAttempts):
        await asked(approvals, address="198.51.100.1")  # per user
    await asked(approvals, "bob")
    with pytest.raises(TooManyAttempts):
        await asked(approvals, "carol")  # per address
    await asked(approvals, "carol", address="2001:db8::1")
    await asked(approvals, "dave", address="2001:db8::2")
    with pytest.raises(TooManyAttempts):
        await asked(approvals, "erin", address="203.0.113.1")  # in all


async def test_what_a_dead_gateway_left_takes_nobodys_place(approvals: Approvals, clock: Clock) -> None:
    for _ in range(3):
        await asked(approvals)
    clock.now += LOST_AFTER
    await asked(approvals)


async def test_who_is_gone_takes_nobodys_place(approvals: Approvals) -> None:
    ids = [(await asked(approvals))[0] for _ in range(3)]
    await approvals.forget(ids)
    await asked(approvals)


async def test_guessing_codes_is_slow(approvals: Approvals, clock: Clock) -> None:
    _, code = await asked(approvals)
    for _ in range(CLAIMS):
        assert await approvals.find("mallory", "BBBBBBBB") is None
    with pytest.raises(TooManyAttempts):
        await approvals.find("mallory", code)
    assert await approvals.find("alice", code) is not None
    clock.now += 300
    assert await approvals.find("mallory", "BBBBBBBB") is None


async def test_a_login_of_ones_own_buys_no_further_guesses(approvals: Approvals) -> None:
    for _ in range(CLAIMS - 1):
        assert await approvals.find("mallory", "BBBBBBBB") is None
    for _ in range(3):  # what is right is not counted
        id, code = await asked(approvals, "mallory")
        assert await approvals.find("mallory", code) is not None
        assert await approvals.claim(id, UserServer("mallory"))
        await approvals.forget([id])
    assert await approvals.find("mallory", "BBBBBBBB") is None
    with pytest.raises(TooManyAttempts):
        await approvals.find("mallory", "BBBBBBBB")


async def test_a_key_is_remembered_once_and_only_one_that_was_offered(approvals: Approvals, clock: Clock) -> None:
    id = await claimed(approvals, (KEY, OTHER_KEY))
    assert await approvals.take_key("alice", id, KEY.fingerprint) is None  # nothing is approved yet
    assert await approvals.approve("alice", id)
    await approvals.forget([id])  # the connection has gone on
    clock.now += LOST_AFTER
    found = await approvals.of("alice", id)
    assert found is not None
    assert found.state == "entered"
    assert found.offered == (KEY, OTHER_KEY)
    assert await approvals.take_key("bob", id, KEY.fingerprint) is None
    assert await approvals.take_key("alice", id, "SHA256:another") is None
    assert await approvals.take_key("alice", id, KEY.fingerprint) == KEY
    assert await approvals.take_key("alice", id, KEY.fingerprint) is None
    assert await approvals.take_key("alice", id, OTHER_KEY.fingerprint) is None


async def test_a_key_can_be_remembered_before_the_connection_has_gone_on(approvals: Approvals) -> None:
    id = await claimed(approvals, (KEY,))
    assert await approvals.approve("alice", id)
    assert await approvals.take_key("alice", id, KEY.fingerprint) == KEY
    assert (await approvals.look([id]))[id].state == "approved"
    await approvals.forget([id])
    assert await approvals.of("alice", id) is None


async def test_by_number_no_key_is_remembered(approvals: Approvals) -> None:
    id = await claimed(approvals, (KEY,))
    assert await approvals.approve_by_number("alice", id)
    assert await approvals.take_key("alice", id, KEY.fingerprint) is None
    await approvals.forget([id])
    assert await approvals.of("alice", id) is None


async def test_keys_are_remembered_for_as_long_as_the_request_would_have_waited(approvals: Approvals, clock: Clock) -> None:
    id = await claimed(approvals, (KEY,))
    assert await approvals.approve("alice", id)
    clock.now += 300
    assert await approvals.take_key("alice", id, KEY.fingerprint) is None


async def test_what_is_kept_of_the_offered_keys_is_bounded(approvals: Approvals) -> None:
    id = await claimed(approvals, tuple(PublicKey("ssh-ed25519", bytes([n])) for n in range(100)))
    found = await approvals.of("alice", id)
    assert found is not None
    assert len(found.offered) == 10

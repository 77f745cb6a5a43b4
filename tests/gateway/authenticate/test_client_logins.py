"""``jhssh login`` at the gateway: code and number, each once and bounded, however many requests come at once."""

from __future__ import annotations

import asyncio
import re

import pytest
from sqlalchemy import text

from jhssh_ext.errors import ApprovalDenied, ApprovalExpired, DatabaseUnavailable, TokenInvalid, TooManyAttempts
from jhssh_ext.gateway.authenticate.approvals import LOST_AFTER, NUMBER_TRIES, Approvals, Bounds
from jhssh_ext.gateway.authenticate.client_logins import Asked, ClientLogins, Granted, Refused
from jhssh_ext.gateway.authenticate.client_tokens import ClientTokens
from jhssh_ext.gateway.database import Database
from jhssh_ext.login_names import UserServer

from .conftest import Clock

pytestmark = pytest.mark.asyncio

LINK = "https://hub.example.org/services/ssh/login"


class Login:
    """The two sides of it: the program, and the page."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.approvals = Approvals(database, b"secret", Bounds(timeout=300, in_all=6, per_address=4, per_user=3), clock=clock)
        self.tokens = ClientTokens(database, max_age=30, clock=clock)
        self.logins = ClientLogins(self.approvals, self.tokens, link=LINK)

    async def ask(self, client: str = "jhssh on laptop", address: str = "192.0.2.7") -> Asked:
        return await self.logins.ask(client, address)

    async def claim(self, asked: Asked, user: str = "alice") -> str:
        """Types the code; the id of the request."""
        found = await self.approvals.find(user, asked.code)
        assert found is not None
        assert await self.approvals.claim(found.id, UserServer(user))
        return found.id

    async def number(self, asked: Asked, user: str = "alice") -> str:
        """Types the code and approves it; what the page shows."""
        number = await self.approvals.approve_by_number(user, await self.claim(asked, user), created="2026")
        assert number is not None
        return number


@pytest.fixture
def login(database: Database, clock: Clock) -> Login:
    return Login(database, clock)


def wrong(number: str, by: int = 1) -> str:
    return str((int(number) + by) % 1_000_000).zfill(6)


async def test_it_leads_to_a_token_once(login: Login) -> None:
    asked = await login.ask()
    assert re.fullmatch(r"[\w-]{43}", asked.handle)
    assert re.fullmatch("[B-Z]{4}-[B-Z]{4}", asked.code)
    assert asked.code not in LINK
    assert asked.expires_in == 300
    assert await login.logins.answer(asked.handle, None) == "waiting"
    number = await login.number(asked)
    assert await login.logins.answer(asked.handle, None) == "number"
    assert await login.logins.answer(asked.handle, wrong(number)) == "number"
    granted = await login.logins.answer(asked.handle, number)
    assert isinstance(granted, Granted)
    info = await login.tokens.find(granted.token)
    assert (info.user, info.user_created, info.client, info.address) == ("alice", "2026", "jhssh on laptop", "192.0.2.7")
    with pytest.raises(ApprovalExpired):
        await login.logins.answer(asked.handle, number)


async def test_a_code_that_was_typed_lets_nothing_in_by_itself(login: Login) -> None:
    """Nor does an approval as SSH connections have one."""
    asked = await login.ask()
    id = await login.claim(asked)
    for number in (None, "", "000000"):
        assert await login.logins.answer(asked.handle, number) == "waiting"
    assert await login.approvals.approve("alice", id)
    assert await login.logins.answer(asked.handle, None) == "waiting"
    assert await login.tokens.list("alice", "2026") == []


async def test_denied(login: Login) -> None:
    asked = await login.ask()
    assert await login.approvals.deny("alice", await login.claim(asked))
    for _ in range(2):
        with pytest.raises(ApprovalDenied):
            await login.logins.answer(asked.handle, None)


async def test_the_right_number_at_once_many_times_makes_one_token(login: Login) -> None:
    asked = await login.ask()
    number = await login.number(asked)
    answers = await asyncio.gather(*(login.logins.answer(asked.handle, number) for _ in range(10)), return_exceptions=True)
    assert [type(answer) for answer in answers].count(Granted) == 1
    assert all(isinstance(answer, (Granted, ApprovalExpired)) for answer in answers), answers
    assert len(await login.tokens.list("alice", "2026")) == 1


async def test_numbers_that_are_tried_at_once_are_counted(login: Login) -> None:
    asked = await login.ask()
    number = await login.number(asked)
    guesses = [wrong(number, by) for by in range(1, 30)]
    answers = await asyncio.gather(*(login.logins.answer(asked.handle, guess) for guess in guesses), return_exceptions=True)
    assert answers.count("number") == NUMBER_TRIES - 1
    assert [type(answer) for answer in answers].count(Refused) == 1
    assert sum(isinstance(answer, ApprovalExpired) for answer in answers) == len(guesses) - NUMBER_TRIES
    with pytest.raises(ApprovalExpired):
        await login.logins.answer(asked.handle, number)


async def test_a_token_that_cannot_be_stored_leaves_the_approval(login: Login, database: Database) -> None:
    asked = await login.ask()
    number = await login.number(asked)
    await database.run(lambda session: session.execute(text("ALTER TABLE client_tokens RENAME TO away")))
    with pytest.raises(DatabaseUnavailable):
        await login.logins.answer(asked.handle, number)
    await database.run(lambda session: session.execute(text("ALTER TABLE away RENAME TO client_tokens")))
    assert isinstance(await login.logins.answer(asked.handle, number), Granted)


async def test_a_number_of_another_request_is_worth_nothing(login: Login) -> None:
    alices, mallorys = await login.ask(), await login.ask()
    number, other = await login.number(alices), await login.number(mallorys, "mallory")
    if number != other:
        assert await login.logins.answer(mallorys.handle, number) == "number"
    granted = await login.logins.answer(mallorys.handle, other)
    assert isinstance(granted, Granted)
    assert granted.info.user == "mallory"


async def test_only_the_handle_asks(login: Login) -> None:
    asked = await login.ask()
    id = await login.claim(asked)
    for other in (id, asked.code, "", "A" * 43, asked.handle[:-1], asked.handle + "A", "A" * 100_000):
        with pytest.raises(ApprovalExpired):
            await login.logins.answer(other, None)
    # Nor is that of an SSH connection one, which has none.
    await login.approvals.ask("alice", UserServer("alice"), "192.0.2.7", ())
    assert await login.approvals.by_handle("") is None


async def test_a_program_that_is_gone_cannot_be_approved(login: Login, clock: Clock) -> None:
    asked = await login.ask()
    id = await login.claim(asked)
    for _ in range(3):
        clock.now += LOST_AFTER - 1
        assert await login.logins.answer(asked.handle, None) == "waiting"
    clock.now += LOST_AFTER
    assert await login.approvals.of("alice", id) is None
    assert await login.approvals.approve_by_number("alice", id, created="2026") is None
    with pytest.raises(ApprovalExpired):
        await login.logins.answer(asked.handle, None)


async def test_who_types_the_number_slowly_is_not_gone(login: Login, clock: Clock) -> None:
    asked = await login.ask()
    number = await login.number(asked)
    clock.now += 299
    assert isinstance(await login.logins.answer(asked.handle, number), Granted)


async def test_it_expires_at_every_step(login: Login, clock: Clock) -> None:
    waiting, approved = await login.ask(), await login.ask()
    number = await login.number(approved)
    clock.now += 300
    for handle, typed in ((waiting.handle, None), (approved.handle, number)):
        with pytest.raises(ApprovalExpired):
            await login.logins.answer(handle, typed)


async def test_bounds_are_its_own(login: Login, clock: Clock) -> None:
    for _ in range(4):
        await login.ask()
    with pytest.raises(TooManyAttempts):
        await login.ask()
    await login.ask(address="")
    await login.ask(address="")
    with pytest.raises(TooManyAttempts):
        await login.ask(address="198.51.100.1")  # in all
    # SSH connections have places of their own, and a user whose code was typed has no fewer.
    for _ in range(3):
        await login.approvals.ask("alice", UserServer("alice"), "192.0.2.7", ())
    clock.now += LOST_AFTER
    await login.ask()


async def test_what_a_program_says_of_itself_is_fit_to_show(login: Login) -> None:
    for said, shown in (
        ("jhssh\x1b[2J\r\non\u202e laptop", "jhssh [2J  on  laptop"),
        ("", "a program without a name"),
        ("\n", "a program without a name"),
    ):
        asked = await login.ask(said, address=said)
        found = await login.approvals.by_handle(asked.handle)
        assert found is not None
        assert found.client == shown
    asked = await login.ask("x" * 10_000, address="198.51.100.1")
    found = await login.approvals.by_handle(asked.handle)
    assert found is not None
    assert len(found.client) <= 100


async def test_an_earlier_users_approval_makes_no_token_of_the_next(login: Login) -> None:
    asked = await login.ask()
    granted = await login.logins.answer(asked.handle, await login.number(asked))
    assert isinstance(granted, Granted)
    assert await login.tokens.list("alice", "2027") == []
    await login.tokens.make("alice", "2027", "jhssh", "")
    with pytest.raises(TokenInvalid):
        await login.tokens.find(granted.token)

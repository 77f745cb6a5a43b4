"""Approval in the browser at the door: what strangers are shown, what clients may do while they wait, and what is left behind."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import pytest_asyncio
from asyncssh.packet import Boolean, String, UInt32
from sqlalchemy import text

from jhssh_ext.gateway.authenticate.approvals import Approvals, Bounds, Request
from jhssh_ext.gateway.authenticate.browser_login import BrowserLogin
from jhssh_ext.gateway.connect.hub_models import TokenModel
from jhssh_ext.gateway.database import Database, sqlite_url

from .conftest import ALICE, FLOOR, TOKEN, Door
from .test_ssh_server import _raw, _request

pytestmark = pytest.mark.asyncio

INFO_REQUEST, INFO_RESPONSE, FAILURE, SUCCESS = 60, 61, 51, 52
LINK = "https://hub.example.org/services/ssh/login"


@dataclass
class Terminal(asyncssh.SSHClient):
    """Answers prompts with ``answers``; ``shown`` is what it was shown."""

    answers: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def kbdint_auth_requested(self) -> str:
        return ""

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str] | None:
        self.shown.append(instructions)
        self.asked.set()
        return [self.answers.pop(0) for _ in prompts]

    def auth_banner_received(self, msg: str, lang: str) -> None:
        self.shown.append(msg)

    @property
    def code(self) -> str:
        found = re.search(r"type this code there:  ([A-Z]{4}-[A-Z]{4})", self.shown[0])
        assert found, self.shown
        return found[1]


@dataclass
class Browser:
    """The door with approvals, and what its page would do."""

    door: Door
    login: BrowserLogin
    database: Database

    async def connect(self, user: str, terminal: Terminal, **keywords: object) -> asyncio.Task[asyncssh.SSHClientConnection]:
        """Connects, and returns when the terminal shows the code."""
        options = {"client_factory": lambda: terminal, "preferred_auth": ["publickey", "keyboard-interactive"], **keywords}
        connecting = asyncio.create_task(self.door.connect(user, **options))
        shown = asyncio.create_task(terminal.asked.wait())
        await asyncio.wait([connecting, shown], return_when=asyncio.FIRST_COMPLETED)
        return connecting

    async def claim(self, terminal: Terminal, user: str = "alice") -> Request:
        found = await self.login.claim(user, terminal.code)
        assert found is not None
        return found

    async def rows(self) -> int:
        return int(await self.database.run(lambda session: session.execute(text("SELECT count(*) FROM approvals")).scalar_one()))


@pytest_asyncio.fixture
async def browser(door: Door, tmp_path: Path) -> AsyncIterator[Browser]:
    database = Database(sqlite_url(str(tmp_path / "approvals.sqlite")))
    await database.migrate()
    approvals = Approvals(database, b"secret", Bounds(timeout=20, in_all=20, per_address=4, per_user=3))
    login = BrowserLogin(approvals, door.services.authentication, link=LINK, separator="+", poll=0.02)
    door.services.browser_login = login
    yield Browser(door, login, database)
    await login.close()
    await database.close()


async def _by_hand(door: Door) -> tuple[Any, asyncio.Queue[int]]:
    """As _raw, with keyboard-interactive's own messages among the answers."""
    connection, answers = await _raw(door, "alice")

    class Auth:
        def process_packet(self, pkttype: int, _pktid: int, _packet: object) -> bool:
            answers.put_nowait(pkttype)
            return True

        def log_received_packet(self, *_args: object) -> None: ...

        log_sent_packet = log_received_packet

        def cancel(self) -> None: ...

    connection._auth = Auth()  # type: ignore[assignment]
    return connection, answers


async def until_gone(browser: Browser) -> None:
    for _ in range(250):
        if not await browser.rows():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("a row is left")


async def test_an_approved_login_enters_and_leaves_no_row(browser: Browser) -> None:
    terminal = Terminal()
    connecting = await browser.connect("alice", terminal)
    request = await browser.claim(terminal)
    assert (request.target, request.address, request.offered) == (ALICE, "127.0.0.1", ())
    assert LINK in terminal.shown[0]
    assert terminal.code not in LINK
    assert await browser.login.approvals.approve("alice", request.id)
    async with await connecting as connection:
        assert (await connection.run("x", stdin=asyncssh.DEVNULL)).stdout == "ran x\n"
    (login,) = browser.door.record.logins
    assert (login.target, login.method, login.fingerprint, login.may_start) == (ALICE, "keyboard-interactive", "", True)
    await until_gone(browser)


async def test_nothing_is_asked_of_the_hub_or_a_server_before_the_code_is_typed(browser: Browser) -> None:
    terminals = [Terminal(), Terminal()]
    tasks = [await browser.connect(name, terminal) for name, terminal in zip(("alice", "nobody"), terminals, strict=True)]
    assert terminals[0].shown[0].replace(terminals[0].code, "") == terminals[1].shown[0].replace(terminals[1].code, "")
    assert (browser.door.hub.asked, browser.door.starter.asked, browser.door.fetches) == ([], [], [])
    for task in tasks:
        task.cancel()


async def test_denied(browser: Browser) -> None:
    terminal = Terminal()
    connecting = await browser.connect("alice", terminal)
    request = await browser.claim(terminal)
    assert await browser.login.approvals.deny("alice", request.id)
    with pytest.raises(asyncssh.DisconnectError, match="APPROVAL_DENIED"):
        await connecting
    assert browser.door.record.refusals == [("alice", "APPROVAL_DENIED")]
    assert browser.door.starter.asked == []
    await until_gone(browser)


@pytest.mark.usefixtures("hasty")
async def test_the_keys_that_a_client_offers_are_shown(browser: Browser) -> None:
    terminal = Terminal()
    connecting = await browser.connect("alice", terminal, client_keys=[browser.door.key])
    request = await browser.claim(terminal)
    assert [key.fingerprint for key in request.offered] == [browser.door.key.get_fingerprint()]
    connecting.cancel()


async def test_only_the_user_whom_the_name_means_can_claim(browser: Browser) -> None:
    terminal = Terminal()
    connecting = await browser.connect("alice", terminal)
    assert await browser.login.claim("bob", terminal.code) is None
    assert await browser.login.claim("nobody", terminal.code) is None
    await browser.claim(terminal)
    connecting.cancel()


async def test_a_name_that_may_mean_two_servers_cannot_be_claimed(browser: Browser) -> None:
    terminal = Terminal()
    connecting = await browser.connect("carol+gpu", terminal)
    for user in ("carol", "carol+gpu"):
        assert await browser.login.claim(user, terminal.code) is None
    connecting.cancel()


async def test_a_user_who_went_while_the_login_waited_lets_nobody_in(browser: Browser) -> None:
    terminal = Terminal()
    connecting = await browser.connect("alice", terminal)
    request = await browser.claim(terminal)
    del browser.door.hub.users["alice"]
    assert await browser.login.approvals.approve("alice", request.id)
    with pytest.raises(asyncssh.DisconnectError, match="APPROVAL_EXPIRED"):
        await connecting
    assert browser.door.starter.asked == []


async def test_the_number_has_three_tries(browser: Browser) -> None:
    terminal = Terminal(["no number", "", "12"])
    connecting = await browser.connect("alice", terminal)
    request = await browser.claim(terminal)
    assert await browser.login.approvals.approve_by_number("alice", request.id)
    with pytest.raises(asyncssh.DisconnectError, match="APPROVAL_DENIED"):
        await connecting
    assert terminal.answers == []


async def test_a_client_that_hangs_up_leaves_no_row(browser: Browser) -> None:
    terminal = Terminal()
    connecting = await browser.connect("alice", terminal)
    await browser.claim(terminal)
    connecting.cancel()
    await until_gone(browser)


async def test_a_client_may_turn_to_its_token_instead(browser: Browser) -> None:
    browser.door.hub.tokens[TOKEN] = TokenModel("alice", "user", frozenset({"access:servers!server=alice/"}))
    connection, answers = await _by_hand(browser.door)
    connection.send_packet(50, _request("alice", b"keyboard-interactive", String(""), String("")))
    assert await answers.get() == INFO_REQUEST
    connection.send_packet(INFO_RESPONSE, UInt32(0))
    connection.send_packet(50, _request("alice", b"password", Boolean(False), String(TOKEN)))
    assert await answers.get() == SUCCESS
    connection.abort()
    await until_gone(browser)


async def test_a_connection_has_one_request(browser: Browser) -> None:
    connection, answers = await _by_hand(browser.door)
    connection.send_packet(50, _request("alice", b"keyboard-interactive", String(""), String("")))
    assert await answers.get() == INFO_REQUEST
    connection.send_packet(50, _request("alice", b"keyboard-interactive", String(""), String("")))
    assert await answers.get() == FAILURE
    assert await browser.rows() <= 1
    connection.abort()


@pytest.mark.parametrize("responses", [UInt32(1) + String("yes"), UInt32(2) + String("") * 2])
async def test_an_answer_to_nothing_ends_the_connection(browser: Browser, responses: bytes) -> None:
    connection, answers = await _by_hand(browser.door)
    connection.send_packet(50, _request("alice", b"keyboard-interactive", String(""), String("")))
    assert await answers.get() == INFO_REQUEST
    connection.send_packet(INFO_RESPONSE, responses)
    await asyncio.wait_for(connection.wait_closed(), 30)
    await until_gone(browser)
    assert browser.door.record.logins == []


async def test_answers_sent_again_and_again_while_it_waits_change_nothing(browser: Browser) -> None:
    connection, answers = await _by_hand(browser.door)
    connection.send_packet(50, _request("alice", b"keyboard-interactive", String(""), String("")))
    assert await answers.get() == INFO_REQUEST
    for _ in range(500):
        connection.send_packet(INFO_RESPONSE, UInt32(0))
    await asyncio.sleep(0.2)
    assert answers.empty()
    assert await browser.rows() == 1
    assert browser.door.record.logins == []
    connection.abort()
    await until_gone(browser)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
async def test_too_many_requests_are_refused_after_the_floor_and_the_client_is_told(browser: Browser) -> None:
    tasks = [await browser.connect("alice", Terminal()) for _ in range(3)]
    began = asyncio.get_running_loop().time()
    terminal = Terminal()
    refused = await browser.connect("alice", terminal)
    with pytest.raises(asyncssh.PermissionDenied):
        await refused
    assert asyncio.get_running_loop().time() - began >= FLOOR
    assert "Too many attempts" in terminal.shown[0]
    for task in tasks:
        task.cancel()
    await until_gone(browser)


async def test_without_browser_login_the_method_is_not_offered(door: Door) -> None:
    connection, answers = await _by_hand(door)
    connection.send_packet(50, _request("alice", b"keyboard-interactive", String(""), String("")))
    assert await answers.get() == FAILURE
    connection.abort()

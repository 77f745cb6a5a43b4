"""/login: what is shown and noted of a login that waits, by ssh or of the jhssh command.

tests/browser_login has it with real terminals and a real browser.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from tornado.httpclient import HTTPResponse

from jhssh_ext.errors import ApprovalDenied
from jhssh_ext.gateway.addresses import TrustedProxies
from jhssh_ext.gateway.authenticate.approvals import Approvals, Bounds
from jhssh_ext.gateway.authenticate.authentication import Authentication
from jhssh_ext.gateway.authenticate.browser_login import BrowserLogin
from jhssh_ext.gateway.authenticate.client_logins import Asked, ClientLogins, Granted
from jhssh_ext.gateway.authenticate.client_tokens import ClientTokens
from jhssh_ext.gateway.authenticate.registered_keys import RegisteredKeys
from jhssh_ext.gateway.connect.hub_models import ServerModel, UserModel
from jhssh_ext.login_names import UserServer
from jhssh_ext.public_keys import parse_line

from .test_pages import KEY, NO_WINDOW, TOP_LEVEL, Pages, holds_a_form, pages, text

__all__ = ["pages"]

ALICE = UserServer("alice")


@pytest_asyncio.fixture
async def waiting(pages: Pages) -> AsyncIterator[tuple[Pages, str, str]]:
    """The pages, and the id and code of a login of alice's, from 127.0.0.1, that offered a key."""
    login = BrowserLogin(
        Approvals(pages.database, b"s" * 32, Bounds()),
        Authentication(pages.hub, RegisteredKeys([]), separator="+", allow_shared_servers=False),
        link="",
        separator="+",
    )
    object.__setattr__(pages.site, "browser_login", login)
    object.__setattr__(pages.site, "proxies", TrustedProxies(["127.0.0.9"]))
    id, code = await login.approvals.ask("alice", ALICE, "127.0.0.1", [parse_line(KEY)])
    yield pages, id, code
    await login.close()


@pytest.mark.asyncio
async def test_a_code_leads_to_its_login_and_that_it_was_typed_is_noted(waiting: tuple[Pages, str, str]) -> None:
    pages, id, code = waiting
    assert (await pages.view(f"login/{id}")).code == 404
    answer = await pages.ask("login", form={"code": code, "nonce": await pages.key("login", "approval code")})
    assert (answer.code, answer.headers["Location"]) == (303, f"/services/ssh/login/{id}")
    assert [event for event, _ in pages.notes] == ["login claimed"]
    assert "Let this terminal in?" in text(await pages.view(f"login/{id}"))
    assert "Let this terminal in?" not in text(await pages.ask(f"login/{id}"))


@pytest.mark.asyncio
@pytest.mark.parametrize("keeps_keys", [True, False])
async def test_a_key_is_remembered_where_that_opens_anything(waiting: tuple[Pages, str, str], keeps_keys: bool) -> None:
    pages, id, _ = waiting
    object.__setattr__(pages.site, "keeps_keys", keeps_keys)
    assert pages.site.browser_login
    approvals = pages.site.browser_login.approvals
    assert await approvals.claim(id, ALICE)
    assert await approvals.approve("alice", id)
    shown = text(await pages.view(f"login/{id}"))
    assert "Approved" in shown
    assert ("Remember this key" in shown) is keeps_keys
    form = {"decision": "remember", "key": parse_line(KEY).fingerprint, "nonce": await pages.key("login", f"approval {id}")}
    answer = await pages.ask(f"login/{id}", form=form)
    assert answer.code == (200 if keeps_keys else 404)
    assert len(await pages.site.user_keys.list("alice", "2026")) == keeps_keys


PROGRAM = "jhssh 0.1.0 on <laptop>"
ADDRESS = "192.0.2.7"
AT_HOME = {**TOP_LEVEL, "X-Forwarded-For": ADDRESS}
"""a browser at the address from which the program asks"""
ASKS = "Let this program in?"


@dataclass
class Program:
    """A ``jhssh login`` whose code was not typed yet."""

    pages: Pages
    logins: ClientLogins
    asked: Asked
    id: str

    @property
    def page(self) -> str:
        return f"login/{self.id}"

    async def form(self, kind: str = "login", **fields: str) -> dict[str, str]:
        return {"nonce": await self.pages.key(kind, f"approval {self.id}"), **fields}

    async def claim(self, user: str = "alice") -> HTTPResponse:
        nonce = await self.pages.key("login", "approval code", user)
        return await self.pages.ask("login", form={"code": self.asked.code, "nonce": nonce}, user=user, headers=AT_HOME)

    async def state(self) -> str:
        found = await self.logins.answer(self.asked.handle, None)
        assert isinstance(found, str)
        return found


@pytest_asyncio.fixture
async def program(waiting: tuple[Pages, str, str]) -> Program:
    pages, _, _ = waiting
    login = pages.site.browser_login
    assert login is not None
    tokens = ClientTokens(pages.database, max_age=30)
    logins = ClientLogins(login.approvals, tokens, link="https://h/services/ssh/login")
    object.__setattr__(pages.site, "client_tokens", tokens)
    object.__setattr__(pages.site, "client_logins", logins)
    object.__setattr__(pages.site, "proxies", TrustedProxies(["127.0.0.1"]))
    asked = await logins.ask(PROGRAM, ADDRESS)
    found = await login.approvals.by_handle(asked.handle)
    assert found is not None
    return Program(pages, logins, asked, found.id)


@pytest.mark.asyncio
async def test_a_program_is_shown_after_its_code_was_typed_to_who_typed_it(program: Program) -> None:
    pages = program.pages
    assert (await pages.view(program.page)).code == 404
    answer = await program.claim()
    assert (answer.code, answer.headers["Location"]) == (303, f"/services/ssh/login/{program.id}")
    shown = text(await pages.view(program.page))
    assert ASKS in shown
    assert "jhssh 0.1.0 on &lt;laptop&gt;" in shown
    assert "add and remove your SSH keys" in shown
    assert "30 days" in shown
    got = await pages.ask(program.page)
    assert not holds_a_form(got)
    assert not any(each in text(got) for each in (ASKS, "laptop", ADDRESS))
    assert (await pages.view(program.page, user="bob")).code == 404
    assert "on &lt;laptop&gt;" in text(await pages.view()), "the SSH page has it too"
    assert "on &lt;laptop&gt;" not in text(await pages.view(user="bob"))
    values = {"user": "alice", "client": PROGRAM, "address": ADDRESS, "browser": ADDRESS}
    assert pages.notes == [("login claimed", values)]


@pytest.mark.asyncio
async def test_the_page_says_for_which_hub_a_program_was_started_and_from_where(program: Program) -> None:
    """Another hub may have passed the program's login on to this one."""
    pages = program.pages
    await program.claim()
    shown = text(await pages.view(program.page, headers={**TOP_LEVEL, "X-Forwarded-For": "198.51.100.77"}))
    assert re.search(
        r"typed <code>jhssh login</code> with the address of this hub, <code[^>]*>https://h/services/ssh/</code>", shown
    )
    assert f"<code>{ADDRESS}</code>" in shown
    assert "this browser is at <code>198.51.100.77</code>" in shown
    object.__setattr__(pages.site, "public_url", "https://hub.example.org/")
    assert ">https://hub.example.org/</code>" in text(await pages.view(program.page))


@pytest.mark.asyncio
@pytest.mark.parametrize("keeps_keys", [True, False])
async def test_the_page_says_what_stays_of_a_program(program: Program, keeps_keys: bool) -> None:
    object.__setattr__(program.pages.site, "keeps_keys", keeps_keys)
    await program.claim()
    shown = " ".join(text(await program.pages.view(program.page)).split())
    assert ("Keys that it added stay after that" in shown) is keeps_keys
    assert "turn SSH on" in shown


@pytest.mark.asyncio
async def test_without_a_token_that_will_be_made_no_number_is_shown(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub does not show when its users were made."""

    async def user(name: str) -> UserModel:
        return UserModel(name, {"": ServerModel("", False, None)}, created="")

    await program.claim()
    with monkeypatch.context() as changed:
        changed.setattr(program.pages.hub, "user", user)
        assert (await program.pages.ask(program.page, form=await program.form(decision="approve"))).code == 503
    assert await program.state() == "waiting"
    assert "Type this number" in text(await program.pages.ask(program.page, form=await program.form(decision="approve")))


@pytest.mark.asyncio
async def test_where_programs_can_no_longer_log_in_none_is_let_in_or_spoken_of(program: Program) -> None:
    pages = program.pages
    await program.claim()
    assert "<code>jhssh login</code>" in text(await pages.view("login"))
    for part in ("client_tokens", "client_logins"):
        object.__setattr__(pages.site, part, None)
    assert "jhssh login" not in text(await pages.view("login"))
    assert (await pages.view(program.page)).code == 404
    assert (await pages.ask(program.page, form=await program.form(decision="approve"))).code == 404


@pytest.mark.asyncio
async def test_where_keys_of_the_page_open_nothing_a_program_is_not_said_to_add_them(program: Program) -> None:
    object.__setattr__(program.pages.site, "keeps_keys", False)
    await program.claim()
    assert "add and remove" not in text(await program.pages.view(program.page))


@pytest.mark.asyncio
async def test_a_program_goes_on_by_the_number_alone_though_the_addresses_are_the_same(program: Program) -> None:
    await program.claim()
    assert await program.state() == "waiting"
    form = await program.form(decision="approve")
    shown = text(await program.pages.ask(program.page, form=form, headers=AT_HOME))
    found = re.search(r'id="number">(\d{6})<', shown)
    assert found
    assert await program.state() == "number"
    assert (await program.pages.ask(program.page, form=form)).code == 403, "the form was used"
    assert found[1] not in text(await program.pages.view(program.page)), "it is shown once"
    granted = await program.logins.answer(program.asked.handle, found[1])
    assert isinstance(granted, Granted)
    assert (granted.info.user, granted.info.user_created, granted.info.client) == ("alice", "2026", PROGRAM)
    assert [event for event, _ in program.pages.notes] == ["login claimed", "login approved by number"]
    assert (await program.pages.view(program.page)).code == 404


@pytest.mark.asyncio
async def test_a_program_is_denied(program: Program) -> None:
    await program.claim()
    answer = await program.pages.ask(program.page, form=await program.form(decision="deny"))
    assert "Denied" in text(answer)
    with pytest.raises(ApprovalDenied):
        await program.state()
    answer = await program.pages.ask(program.page, form=await program.form(decision="approve"))
    assert answer.code == 410


@pytest.mark.asyncio
@NO_WINDOW
async def test_only_a_window_lets_a_program_in(program: Program, headers: dict[str, str]) -> None:
    await program.claim()
    form = await program.form(decision="approve")
    for answer in (
        await program.pages.ask(program.page, form=form, headers=headers),
        await program.pages.view(program.page, headers=headers),
    ):
        assert answer.code == 403
        assert ASKS not in text(answer)
    assert await program.state() == "waiting"


@pytest.mark.asyncio
async def test_no_other_form_lets_a_program_in(program: Program, waiting: tuple[Pages, str, str]) -> None:
    pages, other, _ = waiting
    await program.claim()
    assert pages.site.browser_login
    await pages.site.browser_login.approvals.claim(other, ALICE)
    for nonce in (
        "",
        await pages.key("login", f"approval {other}"),
        await pages.key("login", "approval code"),
        await pages.key("programs/revoke", f"approval {program.id}"),
        await pages.key("login", f"approval {program.id}", user="bob"),
    ):
        answer = await pages.ask(program.page, form={"decision": "approve", "nonce": nonce})
        assert answer.code == 403, nonce
    form = await program.form(decision="approve")
    assert (await pages.ask(program.page, form=form, user="bob")).code == 403
    for decision in ("", "remember", "Approve"):
        assert (await pages.ask(program.page, form=await program.form(decision=decision, key="x"))).code == 400
    assert await program.state() == "waiting"
    assert [event for event, _ in pages.notes] == ["login claimed"]

"""/services/ssh/: the programs that ``jhssh login`` let in, and the way through HTTPS. test_pages.py has what all pages share."""

from __future__ import annotations

from dataclasses import replace

import pytest
import pytest_asyncio

from jhssh_ext.gateway.authenticate.approvals import Approvals, Bounds
from jhssh_ext.gateway.authenticate.client_logins import ClientLogins
from jhssh_ext.gateway.authenticate.client_tokens import ClientTokens, TokenInfo
from jhssh_ext.gateway.web.ways_in import Door

from .test_pages import HOST_KEY, NO_WINDOW, PREFIX, Pages, holds_a_form, pages, text

__all__ = ["pages"]

pytestmark = pytest.mark.asyncio

REVOKE = "programs/revoke"
TUNNEL = "wss://hub.example.org/services/ssh/tunnel"


@pytest_asyncio.fixture
async def tokens(pages: Pages) -> ClientTokens:
    made = ClientTokens(pages.database, max_age=30)
    object.__setattr__(pages.site, "client_tokens", made)
    return made


async def token(tokens: ClientTokens, user: str = "alice", client: str = "jhssh on laptop", created: str = "2026") -> TokenInfo:
    _, info = await tokens.make(user, created, client, "192.0.2.7")
    return info


async def test_programs_are_shown_to_their_user_and_never_in_answer_to_a_get(pages: Pages, tokens: ClientTokens) -> None:
    assert "Programs" not in text(await pages.view())
    info = await token(tokens)
    for path in ("", "?done=revoked", REVOKE):
        shown = text(await pages.view(path))
        assert "jhssh on laptop" in shown
        assert "from 192.0.2.7" in shown
        assert f'value="{info.id}"' in shown
        assert ("The program is logged out" in shown) is (path == "?done=revoked")
        got = await pages.ask(path)
        assert got.code == 200
        assert not holds_a_form(got)
        assert not any(each in text(got) for each in ("jhssh on laptop", "192.0.2.7", info.id, "Programs"))
        assert "jhssh on laptop" not in text(await pages.view(path, user="bob"))
    assert "jhssh_" not in text(await pages.view()), "the token itself"


@NO_WINDOW
async def test_only_a_window_revokes(pages: Pages, tokens: ClientTokens, headers: dict[str, str]) -> None:
    info = await token(tokens)
    form = {"token": info.id, "nonce": await pages.key(REVOKE)}
    assert (await pages.ask(REVOKE, form=form, headers=headers)).code == 403
    assert await tokens.list("alice", "2026") == [info]


async def test_a_program_is_revoked_once_and_that_is_noted(pages: Pages, tokens: ClientTokens) -> None:
    info, other = await token(tokens), await token(tokens, client="jhssh on desktop")
    form = {"token": info.id, "nonce": await pages.key(REVOKE)}
    answer = await pages.ask(REVOKE, form=form)
    assert (answer.code, answer.headers["Location"]) == (303, PREFIX + "?done=revoked#programs")
    assert await tokens.list("alice", "2026") == [other]
    assert (await pages.ask(REVOKE, form=form)).code == 403, "the form was used"
    answer = await pages.ask(REVOKE, form={**form, "nonce": await pages.key(REVOKE)})
    assert answer.code == 404
    assert "logged out already" in text(answer)
    assert pages.notes == [("client token revoked", {"user": "alice", "client": "jhssh on laptop", "token": info.id})]


async def test_no_other_form_revokes(pages: Pages, tokens: ClientTokens) -> None:
    info = await token(tokens)
    for nonce in (
        "",
        f"{'A' * 43}.{'a' * 64}",
        await pages.key("keys/remove"),
        await pages.key(REVOKE, "admin page"),
        await pages.key(REVOKE, user="bob"),
        (await pages.key(REVOKE)).partition(".")[0],
    ):
        assert (await pages.ask(REVOKE, form={"token": info.id, "nonce": nonce})).code == 403, nonce
    assert (await pages.view(REVOKE)).code == 200, "which shows, and does nothing"
    assert await tokens.list("alice", "2026") == [info]
    assert pages.notes == []


async def test_tokens_of_others_are_out_of_reach(pages: Pages, tokens: ClientTokens) -> None:
    info = await token(tokens, "bob", "bobs own")
    assert "bobs own" not in text(await pages.view())
    answer = await pages.ask(REVOKE, form={"token": info.id, "nonce": await pages.key(REVOKE)})
    assert answer.code == 404
    assert await tokens.list("bob", "2026") == [info]


async def test_programs_of_an_earlier_user_of_that_name_are_not_shown(pages: Pages, tokens: ClientTokens) -> None:
    await token(tokens, created="2025")
    assert "Programs" not in text(await pages.view())


@pytest.mark.parametrize("id", ["", "x", "\x00", "ü" * 40, "x" * 30_000])
async def test_what_is_no_token_is_not_found(pages: Pages, tokens: ClientTokens, id: str) -> None:
    await token(tokens)
    assert (await pages.ask(REVOKE, form={"token": id, "nonce": await pages.key(REVOKE)})).code == 404


async def test_where_the_command_cannot_log_in_there_is_nothing_to_revoke(pages: Pages) -> None:
    assert "Programs" not in text(await pages.view())
    assert (await pages.ask(REVOKE, form={"token": "x", "nonce": await pages.key(REVOKE)})).code == 404


async def test_what_a_program_may_do_is_what_it_can(pages: Pages, tokens: ClientTokens) -> None:
    await token(tokens)
    assert "change your keys here" in text(await pages.view())
    object.__setattr__(pages.site, "keeps_keys", False)
    shown = text(await pages.view())
    assert "list, start and stop" in " ".join(shown.split())
    assert "change your keys here" not in shown


async def test_what_a_program_says_it_is_is_text(pages: Pages, tokens: ClientTokens) -> None:
    await token(tokens, client='<b>x</b>" autofocus')
    shown = text(await pages.view())
    assert "<b>" not in shown
    assert '" autofocus' not in shown


@pytest.mark.parametrize("published", [True, False])
async def test_the_way_through_https_is_shown_and_where_the_port_is_closed_alone(
    pages: Pages, tokens: ClientTokens, published: bool
) -> None:
    door = Door("hub.example.org", 22, HOST_KEY, "+", published, TUNNEL)
    object.__setattr__(pages.site, "door", door)
    shown, got = text(await pages.view()), text(await pages.ask())
    way = f"websocat --binary --no-async-stdio {TUNNEL}"
    assert way in shown
    assert ("ssh alice@hub.example.org" in shown) is published
    assert ("ssh-copy-id" in shown) is published
    assert way not in got
    assert "Or type" not in shown
    assert "Or where" not in shown, "there is nothing before it"
    logins = ClientLogins(Approvals(pages.database, b"s", Bounds()), tokens, link="https://hub.example.org/services/ssh/login")
    object.__setattr__(pages.site, "client_logins", logins)
    shown = text(await pages.view())
    assert ("Or where" if published else "Or type this") in shown
    object.__setattr__(pages.site, "door", replace(door, published=True, tunnel=""))
    assert "websocat" not in text(await pages.view())
    object.__setattr__(pages.site, "door", None)
    assert "No way to reach SSH" in text(await pages.view())

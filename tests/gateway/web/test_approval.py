"""/login: what is shown and noted of a login that waits. tests/browser_login has it with real terminals and a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from jhssh_ext.gateway.addresses import TrustedProxies
from jhssh_ext.gateway.authenticate.approvals import Approvals, Bounds
from jhssh_ext.gateway.authenticate.authentication import Authentication
from jhssh_ext.gateway.authenticate.browser_login import BrowserLogin
from jhssh_ext.gateway.authenticate.registered_keys import RegisteredKeys
from jhssh_ext.login_names import UserServer
from jhssh_ext.public_keys import parse_line

from .test_pages import KEY, Pages, pages, text

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

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from jhssh_ext.errors import TooManyAttempts
from jhssh_ext.gateway.authenticate.key_rebuild import KeyRebuild, Report
from jhssh_ext.gateway.connect.hub_models import TokenModel
from jhssh_ext.gateway.web.api import MAX_CHECKS, APIHandler
from jhssh_ext.gateway.web.key_refresh import KeyRefresh

from .test_app import site

PATH = "/services/ssh/api/refresh"


class Rebuild(KeyRebuild):
    """Notes whom it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], bool]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def run(self, users: Collection[str] = (), *, full: bool = False) -> Report:
        self.asked.append((list(users), full))
        await self.gate.wait()
        return Report(users=len(users), servers=2, fetched=2)


def printing(text: str, status: int = 0, *, after: Path | None = None) -> list[str]:
    """A command that takes the place of ``jhssh-gateway refresh``, and ends once the file ``after`` is there."""
    wait = f"while not os.path.exists({str(after)!r}): time.sleep(0.05)\n" if after else ""
    return [sys.executable, "-c", f"import os, sys, time\n{wait}sys.stdout.write({text!r}); sys.exit({status})"]


async def until_done(refresh: KeyRefresh) -> None:
    while refresh.running:
        await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_admins_refresh_users_and_all(tmp_path: Path) -> None:
    rebuild, proceed = Rebuild(), tmp_path / "proceed"
    refresh = KeyRefresh(rebuild, printing('{"users": 5}', after=proceed))
    async with site(refresh=refresh) as web:
        web.hub.tokens["admin"] = TokenModel("admin", "user", frozenset({"admin:servers"}))

        async def post(body: Any, token: str = "admin") -> tuple[int, Any]:
            answer = await web.fetch(PATH, "POST", json.dumps(body), Authorization=f"token {token}")
            return answer.code, json.loads(answer.body)

        status, report = await post({"users": ["alice", "bob"]})
        assert (status, report["fetched"]) == (200, 2)
        assert rebuild.asked == [(["alice", "bob"], True)]
        assert await post({"full": True}) == (202, {"status": "accepted"})
        assert (await post({}))[0] == 429
        proceed.touch()
        await until_done(refresh)
        answer = await web.fetch(PATH, Authorization="token admin")
        assert json.loads(answer.body) == {"running": False, "last": {"users": 5}}

        for token in ("alice-all", "service", "nobody"):
            assert (await post({}, token))[0] == 403
        assert (await web.fetch(PATH, "POST", "{}")).code == 403
        assert (await web.fetch(PATH)).code == 403
        for body in ([], {"users": "alice"}, {"users": [""]}, {"users": [1]}, {"users": ["x"] * 101}, {"full": 1}, {"more": 1}):
            assert (await post(body))[0] == 400
        assert len(rebuild.asked) == 1


@pytest.mark.asyncio
async def test_tokens_of_strangers_are_checked_within_the_bound_of_all_of_the_api() -> None:
    async with site(refresh=KeyRefresh(Rebuild(), printing("{}"))) as web:
        web.hub.gate.clear()
        half = MAX_CHECKS // 2
        asking = [asyncio.create_task(web.push(f"token{number}", {"user": "alice", "server": ""})) for number in range(half)]
        asking += [asyncio.create_task(web.fetch(PATH, Authorization=f"token x{number}")) for number in range(MAX_CHECKS)]
        done: set[asyncio.Task[Any]] = set()
        while len(done) < half:
            done, _ = await asyncio.wait(asking, timeout=0.05)
        assert {task.result().code for task in done} == {429}
        assert {task.result().headers["Retry-After"] for task in done} == {"10"}
        assert len(web.hub.asked) == MAX_CHECKS
        web.hub.gate.set()
        assert sorted({answer.code for answer in await asyncio.gather(*asking)}) == [403, 429]
        assert APIHandler.checks == 0


@pytest.mark.asyncio
async def test_without_a_key_cache_there_is_nothing_to_refresh() -> None:
    async with site() as web:
        assert (await web.fetch(PATH, "POST", "{}", Authorization="token x")).code == 503


@pytest.mark.parametrize("command", [printing("broken"), printing("{}", 1), printing("[]"), ["/nonexistent"]])
@pytest.mark.asyncio
async def test_a_refresh_that_fails_says_so(command: list[str], caplog: pytest.LogCaptureFixture) -> None:
    refresh = KeyRefresh(Rebuild(), command)
    refresh.everyone(full=False)
    await until_done(refresh)
    assert refresh.last is not None
    assert "error" in refresh.last
    assert "The refresh of all keys failed" in caplog.text


@pytest.mark.asyncio
async def test_a_refresh_of_all_ends_with_the_gateway() -> None:
    refresh = KeyRefresh(Rebuild(), ["sleep", "600"])
    refresh.everyone(full=False)
    with pytest.raises(TooManyAttempts):
        refresh.everyone(full=False)
    await asyncio.sleep(0.1)
    await asyncio.wait_for(refresh.close(), 30)
    assert not refresh.running


@pytest.mark.asyncio
async def test_sentences_for_the_page() -> None:
    rebuild = Rebuild()
    refresh = KeyRefresh(rebuild, printing("{}"))
    assert "2 servers" in await refresh.page(["alice"])
    assert "all servers" in await refresh.page([])
    await until_done(refresh)
    rebuild.gate.clear()
    first = asyncio.create_task(refresh.users(["alice"]))
    await asyncio.sleep(0)
    with pytest.raises(TooManyAttempts):
        await refresh.users(["bob"])
    rebuild.gate.set()
    await first

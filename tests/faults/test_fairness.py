"""What one user's servers do to the gateway must not delay another user."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncssh
import pytest

from jhssh_ext.gateway.authenticate.key_cache import KeyCache
from jhssh_ext.gateway.authenticate.key_copies import Fetched, KeyCopies
from jhssh_ext.gateway.database import Database, sqlite_url
from jhssh_ext.login_names import UserServer
from jhssh_ext.public_keys import parse_line


@pytest.mark.asyncio
async def test_many_hanging_servers_of_one_user_hold_up_nobody_else(tmp_path: Path) -> None:
    key = parse_line(asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode())
    hanging = asyncio.Event()
    asked: list[UserServer] = []

    async def fetch(target: UserServer) -> Fetched:
        asked.append(target)
        if target.user == "mallory":
            await hanging.wait()
        return Fetched(frozenset({key}), "1")

    database = Database(sqlite_url(str(tmp_path / "keys.sqlite")))
    await database.migrate()
    cache = KeyCache(KeyCopies(database, "server"), fetch, max_fetches=10, max_fetches_per_user=2)
    try:
        held = [asyncio.create_task(cache.refresh(UserServer("mallory", f"s{number}"))) for number in range(50)]
        await asyncio.wait_for(cache.refresh(UserServer("bob")), 30)  # they would hang for ever
        assert await cache.knows(UserServer("bob"), key)
        assert len([target for target in asked if target.user == "mallory"]) <= 2
        hanging.set()
        await asyncio.gather(*held)
        assert len(asked) == 51
    finally:
        await cache.close()
        await database.close()
